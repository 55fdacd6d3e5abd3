/*
 * Shows that zones hold on real threads: workers allocate, free and free each
 * other's items while one reclaims and one reads statistics, with ample memory
 * and with far too little; that memory comes back from an idle thread, a
 * sleeping one and a dead one, and none is taken from one that runs; and that
 * a request at the limit sleeps until another CPU frees.  INVARIANTS and
 * WITNESS are on; afterwards every walker runs and every page is accounted for.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { atomic_load, atomic_notify, atomic_store } from '../machine/atomic.ts';
import { host_sees_threads } from '../machine/host.ts';
import { reap_all } from '../machine/death.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { uma_keg, uma_zone, type zone_t } from '../h/uma.ts';
import { page_failpoint, vm_page_free_count } from '../page/vm_page.ts';
import { sleepq_list } from '../sync/subr_sleepqueue.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { elem } from '../machine/struct.ts';
import { until, within } from '../machine/workers.test.lib.ts';
import { uma_check } from './uma_check.ts';
import { BUCKET_SIZES, uma, uma_root } from './uma_int.ts';
import { uma_zalloc, uma_zfree } from './uma_core.ts';
import { uma_drain_pending, uma_reclaim } from './uma_drain.ts';
import { uma_zcreate, uma_zone_set_max } from './uma_zone.ts';
import { zone_present } from './uma_stats.ts';
import { count_of, down, start, step_word, stop_jobs, up } from './uma.test.lib.ts';
import { play_smp } from './uma_smp.test.lib.ts';

afterEach(down);
const KMEM = { 'vm.kmem_size': 800 * 1024 };
const WITNESSED = { INVARIANTS: true, WITNESS: true };

describe('hammering', () => {
  for (const game of [
    { workers: 2, memory: '16M', ms: 700, seed: SEED },
    { workers: 2, memory: '1M', ms: 700, seed: SEED + 1, most: 400 },
    { workers: 2, memory: '8M', ms: 700, seed: SEED + 4, most: 400, set: KMEM },
    { workers: 3, memory: '1M', ms: 700, seed: SEED + 2, most: 300 },
    { workers: 2, memory: '2M', ms: 600, seed: SEED + 3, options: { INVARIANTS: false } },
  ]) {
    const checks = game.options ? 'off' : 'on';
    test(`${game.workers} workers, ${game.memory}, checks ${checks}`, async () => {
      await play_smp(game);
    });
  }
});

/** Pages of the zone's keg. */
const pages = (z: zone_t): number => uma_keg.pages[uma_zone.keg[z]];
function go(step: number): void {
  atomic_store(step_word(step), 1);
  atomic_notify(step_word(step), 99);
}

describe('memory comes back', () => {
  test('from a thread that sleeps', async () => {
    const handle = up({ options: WITNESSED });
    const z = uma_zcreate('cached', 512);
    const job = start(handle, 'asleep', { zones: [z], n: 100 });
    await within(job.up, 'start');
    await until(() => atomic_load(step_word(1)) === 1, 'it filled its cache');
    assert.ok(pages(z) > 0);
    uma_reclaim();
    assert.equal(pages(z), 0);
    assert.equal(count_of('vm.drain_late'), 0);
    go(2);
    assert.equal((await within(job.done, 'the job')).ok, 1);
    uma_check();
  });
  test('from an idle main thread, by its doorbell', async () => {
    // However slow the machine: whether it is rung is the question, not how soon it hears.
    const handle = up({ options: WITNESSED, set: { 'vm.drain_deadline': 10_000 } });
    const z = uma_zcreate('cached', 512);
    const held = Array.from({ length: 100 }, () => uma_zalloc(z, M_NOWAIT));
    for (const item of held) uma_zfree(z, item);
    assert.ok(pages(z) > 0);
    const job = start(handle, 'reclaim_once');
    await within(job.done, 'the job');
    assert.equal(count_of('vm.drain_late'), 0);
    assert.ok(!uma_drain_pending());
    assert.equal(pages(z), 0);
    uma_check();
  });
  test('from an idle thread for which nobody has the time to wait', async () => {
    // As where the asking thread loses its processor before it has rung.
    const handle = up({ options: WITNESSED, set: { 'vm.drain_deadline': 0 } });
    const z = uma_zcreate('cached', 512);
    const held = Array.from({ length: 100 }, () => uma_zalloc(z, M_NOWAIT));
    for (const item of held) uma_zfree(z, item);
    const job = start(handle, 'reclaim_once');
    await within(job.done, 'the job');
    await until(() => !uma_drain_pending(), 'it has heard the ring');
    uma_reclaim();
    assert.equal(pages(z), 0);
    uma_check();
  });
  test('from a thread that was terminated', { skip: !host_sees_threads() }, async () => {
    const handle = up({ options: WITNESSED });
    const z = uma_zcreate('cached', 512);
    uma_reclaim();
    const free = vm_page_free_count();
    const job = start(handle, 'doomed', { zones: [z], n: 100 });
    await within(job.up, 'start');
    await until(() => atomic_load(step_word(1)) === 1, 'it filled its cache');
    await job.worker.terminate();
    await until(() => {
      reap_all();
      return count_of('vm.reap.cpus') === 1;
    }, 'it is settled');
    uma_reclaim();
    assert.equal(pages(z), 0);
    assert.equal(vm_page_free_count(), free);
    assert.equal(zone_present(z).used, 0);
    uma_check();
  });
  test('and nothing is taken from one that runs', async () => {
    const handle = up({ options: WITNESSED });
    const z = uma_zcreate('cached', 512);
    const job = start(handle, 'computing', { zones: [z], n: 100 });
    const cpu = await within(job.up, 'start');
    await until(() => atomic_load(step_word(1)) === 1, 'it filled its cache');
    const before = zone_present(z).free;
    assert.ok(before > 0);
    uma_reclaim();
    assert.ok(pages(z) > 0, 'its cache holds them');
    assert.equal(count_of('vm.drain_late'), 1, `cpu${cpu} did not answer`);
    assert.ok(uma_drain_pending(), 'the request stays');
    uma_check();
    go(2);
    assert.equal((await within(job.done, 'the job')).ok, 1);
    uma_reclaim();
    assert.equal(pages(z), 0);
    uma_check();
  });
  test('to a request that would fail without it', async () => {
    const handle = up({ memory: '1M', options: WITNESSED });
    const z = uma_zcreate('cached', 512);
    const small = uma_zone_set_max(z, 64);
    // All that the limit allows lies in the cache of a sleeping CPU.
    const job = start(handle, 'asleep', { zones: [z], n: small });
    await within(job.up, 'start');
    await until(() => atomic_load(step_word(1)) === 1, 'it filled its cache');
    const held = Array.from({ length: small }, () => uma_zalloc(z, M_NOWAIT));
    assert.ok(held.every((item) => item !== 0));
    assert.equal(uma_zalloc(z, M_NOWAIT), 0);
    go(2);
    await within(job.done, 'the job');
    for (const item of held) uma_zfree(z, item);
    uma_check();
  });
});

test('numbers are whole while an owner stands in the middle of an exchange', async () => {
  const handle = up({ options: WITNESSED });
  const z = uma_zcreate('midway', 512);
  const held = Array.from({ length: 30 }, () => uma_zalloc(z, M_NOWAIT));
  const job = start(handle, 'midway', { zones: [z], n: 50 });
  await until(() => atomic_load(step_word(1)) === 1, 'it has begun');
  // Its cache says for now that 50 items went back which nobody had taken.
  assert.equal(zone_present(z).used, 30);
  assert.equal(count_of('debug.stats_clamped'), 0);
  await within(job.done, 'the job');
  for (const item of held) uma_zfree(z, item);
  uma_check();
});

test('the walker finds all in order while another thread reclaims', async () => {
  const handle = up({ options: WITNESSED });
  const z = uma_zcreate('walked', 512);
  const job = start(handle, 'reclaimer', { every_ms: 0.1 });
  await within(job.up, 'start');
  for (let round = 0; round < 60; round++) {
    const held = Array.from({ length: 200 }, () => uma_zalloc(z, M_NOWAIT));
    for (const item of held) uma_zfree(z, item);
    uma_check();
  }
  stop_jobs();
  assert.ok((await within(job.done, 'the reclaimer')).rounds > 0);
});

test('items that a sleeping CPU has cached serve where no page comes free', async () => {
  const handle = up({ options: { ...WITNESSED, FAILPOINTS: true } });
  const z = uma_zcreate('split', 512);
  uma_reclaim();
  // One bucket of each size stays taken, so that reclaiming frees no page of theirs either.
  const pins = BUCKET_SIZES.map((_, i) => uma_root.bucket_zone[elem(uma(), i)] as zone_t);
  const pinned = pins.map((of) => uma_zalloc(of, M_NOWAIT));
  const held = Array.from({ length: 64 }, () => uma_zalloc(z, M_NOWAIT)).sort((a, b) => a - b);
  // Every other item of each slab goes to the other CPU: no slab becomes free.
  const free = held.filter((_, i) => i % 2 === 0);
  const job = start(handle, 'asleep', { zones: [z], free });
  await within(job.up, 'start');
  await until(() => atomic_load(step_word(1)) === 1, 'it freed them');
  page_failpoint.refuse = () => true;
  while (zone_present(z).free > 0) assert.notEqual(uma_zalloc(z, M_NOWAIT), 0);
  assert.equal(uma_zalloc(z, M_NOWAIT), 0);
  page_failpoint.refuse = null;
  for (const [i, of] of pins.entries()) uma_zfree(of, pinned[i]);
  go(2);
  await within(job.done, 'the job');
  uma_check();
});

test('at the limit WAITOK sleeps on "keglimit" until another CPU frees', async () => {
  const handle = up({ options: WITNESSED });
  const z = uma_zcreate('limited', 512);
  const max = uma_zone_set_max(z, 16);
  const held = Array.from({ length: max }, () => uma_zalloc(z, M_NOWAIT));
  const sleeper = start(handle, 'limited', { zones: [z] });
  const freer = start(handle, 'freer', { zones: [z], free: held.slice(0, 1) });
  await within(Promise.all([sleeper.up, freer.up]), 'start');
  await until(() => sleepq_list().some((s) => s.wmesg === 'keglimit'), 'it sleeps');
  assert.ok(zone_present(z).sleeps >= 1);
  go(3);
  assert.notEqual((await within(sleeper.done, 'the sleeper')).item, 0);
  await within(freer.done, 'the freer');
  assert.equal(zone_present(z).used, max - 1);
  for (const item of held.slice(1)) uma_zfree(z, item);
  uma_reclaim();
  uma_check();
});
