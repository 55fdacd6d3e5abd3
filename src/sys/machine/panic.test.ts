/*
 * Shows that a panic stops the machine everywhere: one worker is asleep, one
 * spins in locks; both end with the same text, nothing is undone, and the
 * panicking CPU does not wait for those it cannot reach.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { atomic_load } from './atomic.ts';
import { CPU_STOP, pcpu, pcpu_of, poll, thr } from './cpu.ts';
import { cpu_stop_text } from './cpu_stop.ts';
import { thr_forget } from './cpu_slots.ts';
import { M, machine } from './header.ts';
import { KernelPanic, panic } from './panic.ts';
import { field_word, get_string } from './struct.ts';
import { until, within } from './workers.test.lib.ts';
import { mtx_lock } from '../sync/kern_mutex.ts';
import { sleepq_list } from '../sync/subr_sleepqueue.ts';
import { area, bring_up, start, the_area } from '../sync/sync.test.lib.ts';

afterEach(() => {
  thr_forget();
});

test('a panic stops a CPU that sleeps and one that spins in locks, and both say why', async () => {
  const handle = bring_up({ cpus: 4 });
  const t = the_area();
  const sleeper = start(handle, 'sleep', { wchan: field_word(area.spoil, t) });
  await until(() => sleepq_list().length === 1, 'one sleeps');
  const spinner = start(handle, 'spin');
  const spinning = await within(spinner.up, 'the other');
  await until(() => area.a[t] > 100, 'the other spins');
  assert.throws(
    () => panic('a test believed', 1, 'two'),
    (e) =>
      e instanceof KernelPanic &&
      e.message === 'panic: a test believed: 1 two' &&
      e.cpu === thr.cpu,
  );
  assert.match(get_string(machine.panic_text, M, 64), /^panic: a test believed: 1 two$/);
  assert.equal(machine.panic_cpu[M], thr.cpu + 1);
  // panic waits for that up to a second; on a slow machine it takes longer.
  const stopped = field_word(pcpu.stopped, pcpu_of(spinning));
  await until(() => atomic_load(stopped) === 2, 'it has stopped');
  for (const job of [sleeper, spinner]) {
    await assert.rejects(
      within(job.done, 'it stops'),
      /KernelPanic: cpu\d+ stopped: panic: a test believed: 1 two/,
    );
  }
  // Each has noted where it was: a dump has that of threads that are gone by then.
  assert.match(cpu_stop_text(thr.cpu), /panic\.test\.ts:\d+/);
  assert.match(cpu_stop_text(await sleeper.up), /sleepq_\w+ at \S+:\d+\n/);
  assert.match(cpu_stop_text(spinning), /^Object\.job_spin at \S+:\d+\n/);
  assert.equal(cpu_stop_text(3), '', 'no thread was there');
  const a = area.a[t];
  await new Promise((resolve) => setTimeout(resolve, 30));
  assert.equal(area.a[t], a, 'nobody goes on');
});

test('the CPU that panicked is stopped by its own panic, and so are the others', () => {
  bring_up({ cpus: 3 });
  assert.throws(() => panic('first'), /panic: first$/);
  assert.throws(() => panic('second'), /cpu0 stopped: panic: first/);
  assert.throws(() => poll(), /cpu0 stopped: panic: first/);
  assert.match(get_string(machine.panic_text, M, 64), /first/);
  assert.notEqual(atomic_load(field_word(pcpu.state, pcpu_of(1))) & CPU_STOP, 0);
});

test('without a machine a panic is only thrown', () => {
  assert.throws(
    () => panic('nothing is up'),
    (e) => e instanceof KernelPanic && e.cpu === -1 && e.message === 'panic: nothing is up',
  );
});

test('a CPU that waits for a lock of the panicking one is stopped too', async () => {
  const handle = bring_up({ cpus: 3 });
  const t = the_area();
  mtx_lock(area.mtx, t);
  const waiter = start(handle, 'take');
  await within(waiter.up, 'the waiter');
  await until(() => (atomic_load(t + area.mtx) & 1) !== 0, 'it waits');
  assert.throws(() => panic('held'), /panic: held/);
  await assert.rejects(within(waiter.done, 'it stops'), /stopped: panic: held/);
});
