/*
 * Shows what a request may do when memory is short, by its flags.  Another thread
 * holds all free items, or all free pages, in its cache.  If it computes without calling
 * the kernel, M_NOWAIT asks it and fails at once: nothing was waited for, by the
 * counters.  M_DRAIN waits for it, also after an M_NOWAIT that asked in vain, but only
 * once.  M_NORECLAIM takes new pages but no cached ones, and settles no dead
 * thread, so that it may be given under a lock; M_WAITOK does all of it.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { atomic_load, atomic_notify, atomic_store } from '../machine/atomic.ts';
import { reap_want } from '../machine/death.ts';
import { host_sees_threads } from '../machine/host.ts';
import type { Handle } from '../machine/machdep.ts';
import { sysctl_set } from '../machine/sysctl_decl.ts';
import { until, within } from '../machine/workers.test.lib.ts';
import { M_DRAIN, M_NORECLAIM, M_NOWAIT, M_WAITOK } from '../h/malloc_flags.ts';
import { page_failpoint, vm_page_count } from '../page/vm_page.ts';
import type { malloc_type_t } from '../h/malloc.ts';
import type { zone_t } from '../h/uma.ts';
import { uma_zalloc, uma_zfree } from '../uma/uma_core.ts';
import { uma_check } from '../uma/uma_check.ts';
import { drain_deadline, uma_drain_pending } from '../uma/uma_drain.ts';
import { count_of, down, start, step_word, up } from '../uma/uma.test.lib.ts';
import { uma_zcreate, uma_zone_set_max } from '../uma/uma_zone.ts';
import { free, malloc } from './kern_malloc.ts';
import { malloc_type_attach } from './kern_malloc_type.ts';

const LIMIT = 64;
const LARGE = 30_000;
let handle: Handle;
let z: zone_t;
let t: malloc_type_t;
let limit: number;
beforeEach(() => {
  handle = up({ memory: '2M', options: { INVARIANTS: true, FAILPOINTS: true, WITNESS: true } });
  z = uma_zcreate('cached', 512);
  limit = uma_zone_set_max(z, LIMIT);
  t = malloc_type_attach('nowait');
  free(malloc(16, t, M_WAITOK), t); // its counters are there from now on
});
afterEach(async () => {
  page_failpoint.refuse = null;
  await down();
});
function go(step: number): void {
  atomic_store(step_word(step), 1);
  atomic_notify(step_word(step), 99);
}
/** Takes what is not in the other thread's cache: from here on the zone has nothing else. */
function take_rest(): number[] {
  const held: number[] = [];
  for (;;) {
    const item = uma_zalloc(z, M_NOWAIT | M_NORECLAIM);
    if (item === 0) break;
    held.push(item);
  }
  assert.ok(held.length < limit, 'the other caches some');
  return held;
}
/** A thread that fills its cache with items of the zone, and then does as `job` says. */
async function cached_by(job: string): Promise<{ cpu: number; end: () => Promise<void> }> {
  const worker = start(handle, job, { zones: [z], n: limit });
  const cpu = await within(worker.up, 'start');
  await until(() => atomic_load(step_word(1)) === 1, 'it filled its cache');
  const end = async (): Promise<void> => {
    go(2);
    await within(worker.done, 'the job');
    uma_check();
  };
  return { cpu, end };
}
/** What a request waits for is counted; a request that waits for nobody changes none of it. */
const waits = (): number[] => [count_of('vm.drain_late'), count_of('vm.drain_sleeps')];

describe('another CPU computes and does not answer', () => {
  test('M_NOWAIT asks it and fails at once; M_NORECLAIM does not even ask', async () => {
    const other = await cached_by('computing');
    const before = waits();
    const rest = take_rest();
    assert.equal(count_of('vm.reclaims'), 0);
    assert.equal(uma_drain_pending(), false);
    assert.equal(uma_zalloc(z, M_NOWAIT), 0);
    assert.equal(count_of('vm.reclaims'), 1);
    assert.equal(uma_drain_pending(), true, 'it was asked');
    assert.equal(uma_zalloc(z, M_NOWAIT), 0);
    assert.deepEqual(waits(), before);
    await other.end();
    while (rest.length < limit) rest.push(uma_zalloc(z, M_NOWAIT));
    assert.ok(!rest.includes(0), 'now it has answered');
    for (const item of rest) uma_zfree(z, item);
  });
  test('so do blocks, small and large', async () => {
    const other = await cached_by('computing');
    const before = waits();
    page_failpoint.refuse = () => true;
    for (const size of [4096, LARGE]) {
      while (malloc(size, t, M_NOWAIT) !== 0);
      assert.equal(malloc(size, t, M_NOWAIT), 0);
    }
    assert.deepEqual(waits(), before);
    assert.ok(count_of('vm.reclaims') > 0);
    page_failpoint.refuse = null;
    await other.end();
  });
  test('M_WAITOK waits for it until the deadline, and says that it was late', async () => {
    const other = await cached_by('computing');
    const before = waits();
    const refused = vm_page_count() + 1; // more than there is: waiting ends in vain at once
    assert.equal(malloc(refused * 4096, t, M_WAITOK), 0);
    page_failpoint.refuse = (n) => n > 1 && (page_failpoint.refuse = null) === null;
    const p = malloc(LARGE, t, M_WAITOK);
    assert.notEqual(p, 0);
    assert.ok(waits()[0] > before[0] && waits()[1] > before[1], String(waits()));
    free(p, t);
    await other.end();
  });
  test('M_DRAIN waits for what M_NOWAIT has asked for in vain', async () => {
    sysctl_set(drain_deadline, 10_000);
    const other = await cached_by('computing_until_waited_for');
    const late = count_of('vm.drain_late');
    const rest = take_rest();
    assert.equal(uma_zalloc(z, M_NOWAIT), 0);
    assert.equal(uma_drain_pending(), true, 'it was asked');
    const item = uma_zalloc(z, M_NOWAIT | M_DRAIN);
    assert.notEqual(item, 0);
    assert.equal(count_of('vm.drain_late'), late);
    for (const each of [item, ...rest]) uma_zfree(z, each);
    await other.end();
  });
  test('nobody waits a second time for a CPU that was late', async () => {
    const other = await cached_by('computing');
    const rest = take_rest();
    const late = count_of('vm.drain_late');
    assert.equal(uma_zalloc(z, M_NOWAIT | M_DRAIN), 0);
    assert.equal(count_of('vm.drain_late'), late + 1);
    const before = waits();
    assert.equal(uma_zalloc(z, M_NOWAIT | M_DRAIN), 0);
    assert.deepEqual(waits(), before);
    await other.end();
    while (rest.length < limit) rest.push(uma_zalloc(z, M_NOWAIT));
    assert.ok(!rest.includes(0), 'now it has answered');
    for (const item of rest) uma_zfree(z, item);
  });
});

test('what a sleeping CPU caches is taken by M_NOWAIT, and left by M_NORECLAIM', async () => {
  const other = await cached_by('asleep');
  const before = waits();
  const rest = take_rest();
  assert.equal(count_of('vm.reclaims'), 0);
  const item = uma_zalloc(z, M_NOWAIT);
  assert.notEqual(item, 0);
  assert.deepEqual(waits(), before);
  for (const each of [item, ...rest]) uma_zfree(z, each);
  await other.end();
});

test('M_NORECLAIM takes new pages', () => {
  const p = malloc(LARGE, t, M_NOWAIT | M_NORECLAIM);
  const q = uma_zalloc(z, M_NOWAIT | M_NORECLAIM);
  assert.ok(p !== 0 && q !== 0);
  assert.equal(count_of('vm.reclaims'), 0);
  free(p, t);
  uma_zfree(z, q);
  uma_check();
});

test('M_NORECLAIM settles nobody', { skip: !host_sees_threads() }, async () => {
  const job = start(handle, 'doomed', { zones: [z], n: limit });
  await within(job.up, 'start');
  await until(() => atomic_load(step_word(1)) === 1, 'it filled its cache');
  await job.worker.terminate();
  const left = count_of('vm.reap.cpus');
  reap_want(); // as who met its lock, or its exit, would have said
  if (left === 0) {
    free(malloc(LARGE, t, M_NOWAIT | M_NORECLAIM), t);
    take_rest();
    assert.equal(malloc(vm_page_count() * 4096, t, M_NOWAIT | M_NORECLAIM), 0);
    assert.equal(count_of('vm.reap.cpus'), 0);
  }
  assert.notEqual(uma_zalloc(z, M_NOWAIT), 0, 'and M_NOWAIT does');
  assert.equal(count_of('vm.reap.cpus'), 1);
  uma_check();
});
