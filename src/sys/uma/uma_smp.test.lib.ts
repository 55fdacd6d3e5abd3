/*
 * The game that workers play on shared zones, for the quick tests and for the
 * long ones (uma.stress.ts): hammer, reclaim and read for a while, then prove
 * that everything adds up.
 */
import assert from 'node:assert/strict';
import { PAGE_SIZE } from '../machine/memory.ts';
import { atomic_xchg } from '../machine/atomic.ts';
import type { Options } from '../machine/opt.ts';
import { sleep, until, within } from '../machine/workers.test.lib.ts';
import { PK_FREE, PK_HAND, PK_LARGE, PK_MALLOC, PK_REST, PK_SLAB, PK_WIRED } from '../h/vm_page.ts';
import { UMA_ZONE_REFCNT, uma_keg, uma_zone, type zone_t } from '../h/uma.ts';
import {
  vm_page_census,
  vm_page_check,
  vm_page_count,
  vm_page_free_count,
} from '../page/vm_page.ts';
import { sleepq_check } from '../sync/subr_sleepqueue.ts';
import { witness_reports } from '../sync/witness.ts';
import { kmem_held } from './uma_budget.ts';
import { uma_check } from './uma_check.ts';
import { uma_zfree } from './uma_core.ts';
import { uma_reclaim } from './uma_drain.ts';
import { zone_present } from './uma_stats.ts';
import { uma_zcreate, uma_zone_set_max, uma_zsecond_create } from './uma_zone.ts';
import {
  check_stamp,
  common,
  count_of,
  down,
  mark_fini,
  mark_init,
  RING,
  RING_SIZE,
  start,
  stop_jobs,
  up,
  witness_texts,
} from './uma.test.lib.ts';

export interface Game {
  workers: number;
  memory: string;
  ms: number;
  seed: number;
  /** Items of each zone that a worker holds at most: what makes memory scarce. Default 60. */
  most?: number;
  options?: Partial<Options>;
  set?: Record<string, number>;
}

function make_zones(): { zones: zone_t[]; limited: zone_t; max: number } {
  const plain = uma_zcreate('plain', 48);
  const master = uma_zcreate('master', 256, { init: mark_init, fini: mark_fini });
  const second = uma_zsecond_create('second', 0, 0, 0, 0, master);
  const off_page = uma_zcreate('off page', 1024);
  const counted = uma_zcreate('counted', 2048, { flags: UMA_ZONE_REFCNT });
  const limited = uma_zcreate('limited', 120);
  const max = uma_zone_set_max(limited, 80);
  return { zones: [plain, master, second, off_page, counted, limited], limited, max };
}

/** Plays for a while, then checks. Returns what was counted. */
export async function play_smp(game: Game): Promise<Record<string, number>> {
  const handle = up({
    memory: game.memory,
    cpus: game.workers + 3,
    seed: game.seed,
    options: { INVARIANTS: true, WITNESS: true, ...game.options },
    set: game.set ?? {},
  });
  try {
    const { zones, limited, max } = make_zones();
    const hammers = Array.from({ length: game.workers }, (_, i) =>
      start(handle, 'hammer', { seed: game.seed * 100 + i, zones, most: game.most ?? 60 }),
    );
    const reclaimer = start(handle, 'reclaimer');
    const reader = start(handle, 'reader', { zones });
    const jobs = [...hammers, reclaimer, reader];
    await within(Promise.all(jobs.map((j) => j.up)), `start, seed ${game.seed}`);
    await sleep(game.ms);
    const limit = game.set?.['vm.kmem_size'] ?? 0;
    if (limit > 0) await until(() => count_of('vm.kmem_refused') > 0, 'the limit is met');
    stop_jobs();
    const done = Promise.all(jobs.map((j) => j.done));
    const counts = await within(done, `the jobs, seed ${game.seed}`);
    if (limit > 0) assert.ok(kmem_held() * PAGE_SIZE <= limit, `${kmem_held()} pages`);
    const sum = (name: string): number => counts.reduce((total, c) => total + (c[name] ?? 0), 0);
    const live = check_live(zones, sum('allocs') - sum('frees'));
    assert.ok(uma_keg.pages[uma_zone.keg[limited]] * uma_keg.ipers[uma_zone.keg[limited]] <= max);
    for (const [z, item] of live) uma_zfree(z, item);
    check_empty(zones);
    assert.equal(sum('negative'), 0, `seed ${game.seed}`);
    assert.ok(sum('lowest') >= 0);
    assert.equal(count_of('debug.stats_clamped'), 0);
    assert.deepEqual(witness_texts, []);
    if (game.options?.WITNESS ?? true) assert.equal(witness_reports(), 0);
    const totals = Object.fromEntries(
      ['allocs', 'frees', 'fails', 'swaps', 'rounds', 'reads'].map((name) => [name, sum(name)]),
    );
    assert.ok(totals.allocs > 1000 && totals.swaps > 0 && totals.reads > 0 && totals.rounds > 0);
    console.log(
      `${game.workers} workers, ${game.memory}, seed ${game.seed}: ${JSON.stringify(totals)}`,
    );
    return totals;
  } finally {
    await down();
  }
}
/** What lies in the ring is all that is live. */
function check_live(zones: readonly zone_t[], expected: number): [zone_t, number][] {
  const live: [zone_t, number][] = [];
  for (let slot = 0; slot < RING_SIZE; slot++) {
    const item = atomic_xchg(common() + RING + slot, 0);
    const z = zones[slot % zones.length];
    if (item !== 0) check_stamp(item, (uma_zone.size[z] >> 2) - 1);
    if (item !== 0) live.push([z, item]);
  }
  assert.equal(live.length, expected, 'allocations - frees = live');
  uma_check();
  for (const z of zones) {
    const n = zone_present(z);
    assert.equal(n.used, live.filter(([of]) => of === z).length);
    assert.equal(n.allocs - n.frees, n.used);
  }
  return live;
}
/** Everything is home: slab pages + others + free = all pages. */
function check_empty(zones: readonly zone_t[]): void {
  uma_reclaim();
  uma_check();
  vm_page_check();
  sleepq_check();
  for (const z of zones) {
    assert.equal(zone_present(z).used, 0);
    assert.equal(uma_keg.pages[uma_zone.keg[z]], 0);
  }
  const census = vm_page_census();
  const kinds = [PK_SLAB, PK_MALLOC, PK_LARGE, PK_REST, PK_WIRED, PK_FREE];
  const known = kinds.reduce((n, kind) => n + census[kind], 0);
  assert.equal(known, vm_page_count());
  assert.equal(census[PK_FREE], vm_page_free_count());
  assert.equal(census[PK_HAND], 0);
}
