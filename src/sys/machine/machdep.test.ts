/*
 * Shows how a machine is booted, joined, left, shut down and booted again:
 * handles and generations, slots that run out and come back, parameters that
 * are wrong, and that nothing of an old machine shows in a new one.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { abandon, attach, boot, current, detach, shutdown } from '../boot/whole.ts';
import { now_ms } from './clock.ts';
import { counter_add, counter_get, counter_u64 } from './counter.ts';
import { critical_enter, critical_exit, curcpu, park, pcpu, thr, unpark } from './cpu.ts';
import { cpu_incarnation, cpus_attached } from './death.ts';
import { EBUSY, errno_name, KmemError } from './errno.ts';
import { M, machine } from './header.ts';
import { kenv_number, kenv_tunables } from './kenv.ts';
import { type Handle, machine_random } from './machdep.ts';
import { mem } from './memory.ts';
import { sysctl, sysctlnametomib } from '../observe/kern_sysctl.ts';
import { guard } from './struct.ts';
import {
  CTLFLAG_RDTUN,
  CTLFLAG_RWTUN,
  sysctl_get,
  sysctl_get_string,
  sysctl_int,
  sysctl_set,
  sysctl_string,
} from './sysctl_decl.ts';
import { vector, vector_call, vector_name, vector_number } from './vectors.ts';

const events = counter_u64('debug.test.events', 'Events that this test makes');
const tunable = sysctl_int('debug.test.tunable', {
  value: 3,
  min: 1,
  max: 10,
  flags: CTLFLAG_RDTUN,
  help: 'A tunable of this test',
});
let heard = 0;
const text = sysctl_string('debug.test.text', {
  value: 'first',
  bytes: 16,
  flags: CTLFLAG_RWTUN,
  check: (said) => (said.includes('%') ? 'no % please' : 0),
  changed: () => heard++,
  help: 'A text of this test',
});
afterEach(() => shutdown());
const refused = (run: () => unknown, code: string, text: RegExp): void => {
  assert.throws(run, (e) => {
    assert.ok(e instanceof KmemError, String(e));
    assert.equal(e.code, code);
    assert.match(e.message, text);
    assert.ok(!e.message.includes('\n'));
    return true;
  });
};
/** Runs a worker that attaches by boot/main.ts, does something and ends. */
async function visitor(handle: Handle, what: string, meeting?: Int32Array): Promise<unknown> {
  const w = new Worker(new URL('./machdep.test.worker.ts', import.meta.url), {
    workerData: { handle, what, meeting },
  });
  return new Promise((resolve, reject) => {
    w.on('message', resolve);
    w.on('error', reject);
  });
}

test('a second boot names file and line of the first', () => {
  const first = boot({ memory: '4M', cpus: 2 });
  assert.equal(first.cpu, 0);
  assert.equal(curcpu(), 0);
  refused(() => boot(), 'EBUSY', /booted at machdep\.test\.ts:\d+$/);
  refused(() => attach(first.handle), 'EBUSY', /is CPU 0/);
});

test('boot parameters that are wrong say which and why', () => {
  refused(() => boot({ cpus: 0 }), 'EINVAL', /cpus: 0 .*1 to 64/);
  refused(() => boot({ cpus: 65 }), 'EINVAL', /cpus: 65/);
  refused(() => boot({ cpus: 1.5 }), 'EINVAL', /cpus: 1.5/);
  refused(() => boot({ domains: 0 }), 'EINVAL', /domains: 0/);
  refused(() => boot({ set: { 'no.such': 1 } }), 'EINVAL', /set no.such=1: no such tunable/);
  refused(() => boot({ set: { 'debug.test.tunable': 11 } }), 'EINVAL', /outside 1 to 10/);
  refused(() => boot({ set: { 'debug.test.tunable': 'x' } }), 'EINVAL', /not a number/);
  refused(() => boot({ set: { 'debug.lock.slice': 5 } }), 'EINVAL', /not a tunable/);
  assert.equal(thr.cpu, -1, 'nothing was made');
  assert.equal(current(), null);
});

test('names that nobody knows are refused, with those that are known', () => {
  const wrong = (o: object) => () => boot(o);
  refused(wrong({ memmory: '4M' }), 'EINVAL', /option 'memmory': .* known: memory, cpus, /);
  refused(wrong({ options: { FOO: true } }), 'EINVAL', /'FOO': .* INVARIANTS, WITNESS/);
  refused(wrong({ atomics: 'x' }), 'EINVAL', /'x': .* auto, wasm, atomics/);
  refused(wrong({ seed: Number.NaN }), 'EINVAL', /seed: NaN is not a whole number/);
});
test('a boot that fails leaves the thread free to boot again', () => {
  const sets: Record<string, number>[] = [{ 'vm.kmem_size': 1000 }, { 'vm.kmem_size_max': 1 }];
  for (const set of sets) {
    const small = /boot: vm.kmem_size of \d+ bytes is too small for the kernel itself: give more/;
    refused(() => boot({ memory: '8M', set }), 'ENOMEM', small);
    boot({ memory: '8M' });
    shutdown();
  }
});
test('tunables as the kernel environment takes them', () => {
  assert.deepEqual(
    ['10', '0x1f', '010', '4k', '2M', '-3', '1g', 'x', '', '1.5', '08', '1kb'].map(kenv_number),
    [10, 31, 8, 4096, 2 ** 21, -3, 2 ** 30, null, null, null, null, null],
  );
  boot({ memory: '4M', set: { 'debug.test.tunable': '0x7' } });
  assert.equal(sysctl_get(tunable), 7);
  assert.equal(kenv_tunables({ 'debug.test.tunable': 4 }).get('debug.test.tunable'), 4);
});
test('a text: first value, tunable, set while the machine runs, too long', () => {
  boot({ memory: '4M' });
  assert.equal(sysctl_get_string(text), 'first');
  shutdown();
  const long = /set debug.test.text=.*: 17 bytes, more than 15$/;
  refused(() => boot({ set: { 'debug.test.text': 'x'.repeat(17) } }), 'EINVAL', long);
  const bad = /set debug.test.text=5%: no % please$/;
  refused(() => boot({ set: { 'debug.test.text': '5%' } }), 'EINVAL', bad);
  boot({ memory: '4M', set: { 'debug.test.text': 'grün', 'debug.test.tunable': 4 } });
  assert.equal(sysctl_get_string(text), 'grün');
  assert.equal(sysctl_get(tunable), 4, 'its neighbour has a place of its own');
  const { mib } = sysctlnametomib('debug.test.text');
  const set = (s: string) => sysctl(mib, null, new TextEncoder().encode(s));
  assert.equal(heard, 0);
  assert.equal(set('15 bytes of text').error, 22);
  assert.equal(set('15 bytes of text').reason, '16 bytes, more than 15');
  assert.deepEqual([set('5%').error, set('5%').reason], [22, 'no % please']);
  assert.equal(heard, 0, 'what is refused changes nothing');
  assert.equal(set('other').error, 0);
  assert.equal(heard, 1);
  assert.equal(sysctl_get_string(text), 'other');
  const old = new Uint8Array(16);
  assert.equal(sysctl(mib, old, null).oldlen, 6);
  assert.equal(new TextDecoder().decode(old.subarray(0, 6)), 'other\0');
  assert.equal(sysctl_get(tunable), 4);
});

test('booting again: a new generation, everything at its first value', () => {
  const first = boot({ memory: '4M', cpus: 2, set: { 'debug.test.tunable': 9 } });
  counter_add(events, 41);
  sysctl_set(tunable, 5);
  mem.I32[machine.boot_next[M] + 5000] = 99;
  shutdown();
  const second = boot({ memory: '2M', cpus: 2 });
  assert.equal(second.handle.memory, first.handle.memory, 'the memory is taken over');
  assert.equal(second.handle.generation, first.handle.generation + 1);
  assert.equal(counter_get(events), 0, 'counters start at zero');
  assert.equal(sysctl_get(tunable), 3);
  assert.equal(machine.npages[M], 512);
  shutdown();
  const third = boot({ memory: '4M', fresh: true });
  assert.notEqual(third.handle.memory, first.handle.memory);
  shutdown();
  const larger = boot({ memory: '8M' });
  assert.notEqual(larger.handle.memory, third.handle.memory, 'the old one is too small');
});

test('guards come and go with the checked option, on the same memory', () => {
  const seen: string[] = [];
  boot({ memory: '4M', cpus: 2 });
  guard.access = (l, f) => seen.push(`${l.name}.${f.name}`);
  assert.ok(machine.maxcpus[M] === 2 && seen.length === 0, 'an ordinary boot has no guards');
  guard.access = null;
  shutdown();
  boot({ memory: '4M', cpus: 2, checked: true });
  guard.access = (l, f) => seen.push(`${l.name}.${f.name}`);
  assert.equal(machine.maxcpus[M], 2);
  guard.access = null;
  assert.deepEqual(seen, ['machine.maxcpus']);
  shutdown();
  boot({ memory: '4M', cpus: 2 });
  guard.access = (l, f) => seen.push(`${l.name}.${f.name}`);
  assert.equal(machine.maxcpus[M], 2);
  guard.access = null;
  assert.equal(seen.length, 1, 'and none again');
});

test('workers join by the handle, each its own CPU, and give the slot back', async () => {
  const { handle } = boot({ memory: '4M', cpus: 3 });
  const meeting = new Int32Array(new SharedArrayBuffer(4));
  const first = cpu_incarnation(1);
  const seen = await Promise.all([1, 2].map(() => visitor(handle, 'meet', meeting)));
  assert.deepEqual([...seen].sort(), [1, 2]);
  assert.equal(cpus_attached(), 1, 'both are gone again');
  assert.equal(cpu_incarnation(1), first + 1);
  assert.equal(await visitor(handle, 'visit'), 1, 'the slot serves again');
  assert.equal(cpu_incarnation(1), first + 2);
});

test('a thread can leave and come back', () => {
  const { handle } = boot({ memory: '4M', cpus: 2 });
  detach();
  assert.equal(thr.cpu, -1);
  detach();
  shutdown(); // neither does anything in a thread that is no CPU
  assert.equal(attach(handle), 0);
  assert.equal(thr.cpu, 0);
});

test('no slot left: EAGAIN says what to do', async () => {
  const { handle } = boot({ memory: '4M', cpus: 1 });
  assert.match(String(await visitor(handle, 'visit')), /EAGAIN: attach: all 1 CPU slots are taken/);
});

test('handles that are none, old, or of another layout are refused', () => {
  const { handle } = boot({ memory: '4M', cpus: 2 });
  detach();
  refused(() => attach(null as unknown as Handle), 'EINVAL', /not a machine handle/);
  refused(() => attach({} as unknown as Handle), 'EINVAL', /not a machine handle/);
  refused(() => attach({ ...handle, layout: 1 }), 'EINVAL', /another version/);
  refused(
    () => attach({ ...handle, memory: new SharedArrayBuffer(65536) }),
    'EINVAL',
    /holds no machine/,
  );
  refused(
    () => attach({ ...handle, generation: handle.generation + 7 }),
    'EINVAL',
    /of generation \d+; the memory is at \d+/,
  );
  attach(handle);
});

test('a handle of before a re-boot is refused, also in another thread', async () => {
  const { handle } = boot({ memory: '4M', cpus: 2 });
  shutdown();
  boot({ memory: '4M', cpus: 2 });
  assert.match(
    String(await visitor(handle, 'visit')),
    /EINVAL: attach: the handle is of generation/,
  );
});

test('after shutdown others find out: ESHUTDOWN at the next slow path and at attach', async () => {
  const { handle } = boot({ memory: '4M', cpus: 2 });
  const other = visitor(handle, 'until stopped');
  while (cpus_attached() < 2) {
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
  shutdown();
  assert.match(String(await other), /ESHUTDOWN/);
  refused(() => attach(handle), 'ESHUTDOWN', /shut down/);
  abandon();
});

test('critical sections are counted, and must match', () => {
  boot({ memory: '4M', options: { INVARIANTS: true } });
  critical_enter();
  critical_enter();
  assert.equal(pcpu.critnest[thr.pc], 2);
  assert.throws(() => park(), /park: inside a critical section/);
  abandon();
  boot({ memory: '4M', options: { INVARIANTS: true }, fresh: true });
  park();
  unpark();
  assert.throws(() => critical_exit(), /critical_exit: not inside/);
  abandon();
});

test('counters of several CPUs add up; the clock does not go back; random differs', async () => {
  const { handle } = boot({ memory: '4M', cpus: 3, seed: 5 });
  counter_add(events, 2);
  counter_add(events, 2 ** 40);
  assert.equal(counter_get(events), 2 ** 40 + 2);
  await visitor(handle, 'count');
  assert.equal(counter_get(events), 2 ** 40 + 5, "a thread's counts stay when it has left");
  const earlier = Date.now();
  const before = now_ms();
  const minute = 60_000; // the host's clock may be set meanwhile, but not far
  assert.ok(before > earlier - minute && before < Date.now() + minute, 'since the epoch');
  assert.ok(now_ms() >= before);
  const drawn = new Set(Array.from({ length: 1000 }, () => machine_random()));
  assert.ok(drawn.size > 990);
  shutdown();
  boot({ memory: '4M', seed: 5 });
  assert.ok(drawn.has(machine_random()), 'the same seed, the same numbers');
});

test('functions that memory can name', () => {
  boot({ memory: '4M' });
  const n = vector('test_vector', (x: number) => x + 1);
  assert.equal(n, vector_number('test_vector'));
  assert.equal(vector_call<(x: number) => number>(n)(4), 5);
  assert.equal(vector_name(n), 'test_vector');
  assert.equal(vector_name(0), '-');
  assert.throws(() => vector_call(12345), /this thread has not registered the function: 12345/);
  abandon();
});

test('errors carry name, number and operation', () => {
  const e = new KmemError(EBUSY, 'boot', 'why');
  assert.deepEqual([e.code, e.errno, e.op, e.message], ['EBUSY', 16, 'boot', 'EBUSY: boot: why']);
  assert.equal(errno_name(12), 'ENOMEM');
  assert.equal(errno_name(999), 'E999');
});
