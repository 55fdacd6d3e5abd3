/*
 * Shows that the zone allocator and the page floor keep the rules that their
 * lock letters declare: zones of every kind are used, limited, shared,
 * reclaimed and destroyed on a checked machine, on one CPU and on two, where
 * each access of a field is tested against its letter.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { checked_letters } from '../boot/checked_letters.ts';
import { KernelPanic } from '../machine/panic.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { guard } from '../machine/struct.ts';
import { sleep, within } from '../machine/workers.test.lib.ts';
import { M_NOWAIT, M_ZERO } from '../h/malloc_flags.ts';
import { UMA_ZONE_REFCNT, UMA_ZONE_VTOSLAB, uma_keg, uma_zone } from '../h/uma.ts';
import { vm_page_zero_idle } from '../page/vm_page.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { uma_check } from './uma_check.ts';
import { uma_zalloc, uma_zfree } from './uma_core.ts';
import { uma_reclaim } from './uma_drain.ts';
import { uma_find_refcnt } from './uma_keg.ts';
import { zone_present } from './uma_stats.ts';
import {
  uma_prealloc,
  uma_zcreate,
  uma_zdestroy,
  uma_zone_reserve,
  uma_zone_set_max,
  uma_zsecond_add,
  uma_zsecond_create,
} from './uma_zone.ts';
import { down, start, stop_jobs, up } from './uma.test.lib.ts';

afterEach(async () => {
  await down();
  guard.access = null;
});

for (const INVARIANTS of [false, true]) {
  test(`one CPU, ${INVARIANTS ? 'with' : 'without'} INVARIANTS`, () => {
    up({ memory: '2M', checked: true, options: { INVARIANTS } });
    checked_letters();
    for (const [size, flags] of [
      [100, UMA_ZONE_VTOSLAB],
      [1024, UMA_ZONE_REFCNT],
      [5000, 0],
    ]) {
      const a = uma_zcreate('a', size, { flags });
      const b = uma_zcreate('b', size, { flags });
      const second = uma_zsecond_create('second', 0, 0, 0, 0, a);
      assert.equal(uma_zsecond_add(second, b), 0);
      uma_zone_set_max(b, 20);
      uma_zone_reserve(a, 2);
      for (const z of [a, b, second]) {
        const held: number[] = [];
        for (let i = 0; i < 50; i++) held.push(uma_zalloc(z, i % 3 ? M_NOWAIT : M_NOWAIT | M_ZERO));
        if (flags === UMA_ZONE_REFCNT) assert.equal(uma_find_refcnt(held[0]), 0);
        for (const item of held) uma_zfree(z, item);
        zone_present(z);
      }
      assert.equal(uma_prealloc(a, 5), 0);
      vm_page_zero_idle(5);
      uma_reclaim();
      uma_check();
      for (const z of [second, a, b]) assert.equal(uma_zdestroy(z), 0);
    }
    assert.notEqual(guard.access, null);
  });
}

test('two CPUs and a reclaimer', async () => {
  const handle = up({ memory: '2M', checked: true });
  checked_letters();
  const zones = [uma_zcreate('plain', 48), uma_zcreate('large', 1024)];
  const jobs = [
    start(handle, 'hammer', { seed: SEED, zones }),
    start(handle, 'hammer', { seed: SEED + 1, zones }),
    start(handle, 'reclaimer'),
  ];
  await within(Promise.all(jobs.map((j) => j.up)), 'start');
  await sleep(500);
  stop_jobs();
  const done = Promise.all(jobs.map((j) => j.done));
  const counts = await within(done, `the jobs, seed ${SEED}`);
  assert.ok(counts.every((c) => (c.allocs ?? c.rounds) > 0));
  uma_check();
});

for (const [what, wrong] of [
  [
    'of a keg without its lock',
    () => {
      const k = uma_zone.keg[uma_zcreate('z', 48)];
      uma_keg.free[k]++;
    },
  ],
  [
    'of the free pages without the free lock',
    () => {
      vm_phys.free[phys_root()]++;
    },
  ],
] as const) {
  test(`a change ${what} is seen`, () => {
    up({ memory: '2M', checked: true });
    checked_letters();
    assert.throws(wrong, (e) => e instanceof KernelPanic && /is not held/.test(e.message));
  });
}
