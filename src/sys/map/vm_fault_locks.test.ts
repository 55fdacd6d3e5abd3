/*
 * Shows: no lock covers a fault.  Two threads that fault in one space hold the map beside each
 * other all the while, and nobody has it for himself; the object that they write to is locked
 * inside, and is let go of while a page is copied into it; other locks are taken for a moment
 * each.  And a fork asks each CPU that translates by the space once at most.
 * By what means: the lock profile (debug.mutex.prof) of a known number of faults: how often each
 * class of locks was taken, which neither chance nor time decides; and the timestamp of the map.
 * The times that were measured are told, and not judged.
 */
import assert from 'node:assert/strict';
import { afterEach, test, type TestContext } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import type { Handle } from '../machine/machdep.ts';
import { sysctl_decls, sysctl_set } from '../machine/sysctl_decl.ts';
import { Crew, until, within } from '../machine/workers.test.lib.ts';
import { KERN_FAILURE, KERN_SUCCESS, vm_map } from '../h/vm_map.ts';
import { sysctl, sysctlnametomib } from '../observe/kern_sysctl.ts';
import { suword } from './vm_copy.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import { ANON, map_at, map_drop, maps_make } from './vm_map.test.lib.ts';
import { counted, page_of_words, WORKER, WORKERS } from './vm_space_smp.test.lib.ts';
import { space_fork, space_make, spaces_check, spaces_end } from './vm_space.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
const FIRST = 512;
const PAGES = 200;
const ALL = PAGES * WORKERS;
const FORKS = 20;

/** A row of the profile. */
interface Row {
  readonly lock: string;
  readonly place: string;
  readonly count: number;
  readonly total_us: number;
  readonly max_us: number;
  readonly waits: number;
}
function profile(): Row[] {
  const { mib } = sysctlnametomib('debug.mutex.prof.stats');
  const old = new Uint8Array(2 ** 18);
  const { error, oldlen } = sysctl(mib, old, null);
  assert.equal(error, 0);
  const lines = new TextDecoder()
    .decode(old.subarray(0, oldlen - 1))
    .trim()
    .split('\n')
    .slice(1);
  return lines.map((line) => {
    const [, max, total, count, , , waits, place, lock] =
      /^ *(\d+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) (\S+) \((.*)\)$/.exec(line) ?? [];
    return {
      ...{ lock, place, count: Number(count), total_us: Number(total), max_us: Number(max) },
      waits: Number(waits),
    };
  });
}
function profiling(on: boolean): void {
  const d = sysctl_decls.find((k) => k.name === 'debug.mutex.prof.enable');
  assert.ok(d);
  sysctl_set(d, on ? 1 : 0);
}
function profile_reset(): void {
  const { mib } = sysctlnametomib('debug.mutex.prof.reset');
  assert.equal(sysctl(mib, null, new Uint8Array(Int32Array.of(1).buffer)).error, 0);
}
function tell(t: TestContext, rows: readonly Row[]): void {
  const classes = new Map<string, { count: number; total: number; max: number; waits: number }>();
  for (const r of rows) {
    const sum = classes.get(r.lock) ?? { count: 0, total: 0, max: 0, waits: 0 };
    sum.count += r.count;
    sum.total += r.total_us;
    sum.max = Math.max(sum.max, r.max_us);
    sum.waits += r.waits;
    classes.set(r.lock, sum);
  }
  for (const [name, { count, total, max, waits }] of classes) {
    const each = (total / ALL).toFixed(1);
    const often = (count / ALL).toFixed(2);
    t.diagnostic(`${name}: ${often} times a fault, ${each} us; most ${max} us, ${waits} waits`);
  }
}

/** Two workers write once to each page of their own parts. What locks were taken meanwhile. */
async function faults(t: TestContext, handle: Handle, what: string): Promise<Map<string, number>> {
  const words = page_of_words();
  const mp = map_at(0);
  const crew = new Crew(WORKER);
  let rows: Row[] = [];
  try {
    const jobs = Array.from({ length: WORKERS }, (_, i) =>
      crew.start(handle, 'zeros', { first: FIRST + i * PAGES, pages: PAGES, words }),
    );
    await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
    await until(() => atomic_load(words + 1) === WORKERS, 'the workers are ready');
    const before = counted('vm.stats.vm.v_vm_faults');
    const stamp = vm_map.timestamp[mp];
    profile_reset();
    profiling(true);
    atomic_store(words, 1);
    await until(() => atomic_load(words + 2) === WORKERS, 'the faults');
    profiling(false);
    rows = profile();
    assert.equal(counted('vm.stats.vm.v_vm_faults') - before, ALL);
    // It notes each time that somebody has it for himself.
    assert.equal(vm_map.timestamp[mp], stamp, 'the map was only shared');
    atomic_store(words + 3, 1);
    await within(Promise.all(jobs.map((j) => j.done)), 'the workers');
  } finally {
    await crew.end();
  }
  t.diagnostic(what);
  tell(t, rows);
  const times = new Map<string, number>();
  for (const r of rows) times.set(r.lock, (times.get(r.lock) ?? 0) + r.count);
  return times;
}

test('two threads fault in one space: no lock covers a fault', async (t) => {
  const options = { MUTEX_PROFILING: true };
  const { handle } = boot({ memory: '32M', cpus: WORKERS + 1, options, fresh: true });
  maps_make();
  assert.ok(space_make(0));
  const mp = map_at(0);
  const extra = (FIRST + ALL) * 4096;
  assert.equal(vm_map_fixed(mp, FIRST, FIRST + ALL + 1, ANON), KERN_SUCCESS);
  assert.equal(suword(mp, extra, 1), 0, 'it has its object, and its page table');
  const zero = await faults(t, handle, 'zeros, which come ready:');
  for (const lock of ['VM object', 'pmap', 'page queue']) {
    assert.ok((zero.get(lock) ?? 0) >= ALL, `${lock}: ${zero.get(lock)}`);
  }
  assert.equal(zero.get('VM map'), ALL);
  let result: number;
  do result = space_fork(0, 1);
  while (result === KERN_FAILURE);
  assert.equal(result, KERN_SUCCESS);
  assert.equal(suword(mp, extra, 2), 0, 'it writes to an object of its own');
  const copies = counted('vm.stats.vm.v_cow_faults');
  const copy = await faults(t, handle, 'copies:');
  assert.equal(counted('vm.stats.vm.v_cow_faults') - copies, ALL);
  assert.equal(copy.get('VM map'), ALL);
  // The upper object, the lower one; and while the page is copied the upper one is let go of.
  assert.ok((copy.get('VM object') ?? 0) >= 3 * ALL, `${copy.get('VM object')}`);
  spaces_check();
  spaces_end();
});
test('a fork asks each CPU that translates by the space once at most', async (t) => {
  const { handle } = boot({ memory: '32M', cpus: WORKERS + 1, fresh: true });
  maps_make();
  const words = page_of_words();
  assert.ok(space_make(0));
  const mp = map_at(0);
  assert.equal(vm_map_fixed(mp, FIRST, FIRST + PAGES, ANON), KERN_SUCCESS);
  for (let i = FIRST; i < FIRST + PAGES; i++) assert.equal(suword(mp, i * 4096, i), 0);
  const crew = new Crew(WORKER);
  try {
    const jobs = Array.from({ length: WORKERS }, () =>
      crew.start(handle, 'loads', { first: FIRST, pages: PAGES, words }),
    );
    await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
    await until(() => atomic_load(words + 1) === WORKERS, 'the workers are ready');
    let [asked, made, tried] = [0, 0, 0];
    for (; made < FORKS || asked === 0; tried++) {
      const before = counted('vm.stats.tlb.shootdowns');
      const result = space_fork(0, 1);
      const more = counted('vm.stats.tlb.shootdowns') - before;
      // One that has not answered the question before is not asked again.
      assert.ok(more <= WORKERS, `${more} shoot-downs in a fork`);
      asked += more;
      if (result === KERN_FAILURE) continue; // on a loaded host a CPU may be silent for too long
      assert.equal(result, KERN_SUCCESS);
      map_drop(1);
      made++;
      // So that there is something to take the right to write to from.
      for (let i = FIRST; i < FIRST + PAGES; i += 50) assert.equal(suword(mp, i * 4096, i), 0);
    }
    t.diagnostic(`${(asked / tried).toFixed(2)} shoot-downs a fork, of ${WORKERS} CPUs`);
    atomic_store(words + 3, 1);
    await within(Promise.all(jobs.map((j) => j.done)), 'the workers');
  } finally {
    await crew.end();
  }
  spaces_check();
  spaces_end();
});
