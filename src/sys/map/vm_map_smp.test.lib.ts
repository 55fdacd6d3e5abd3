/*
 * vm_map_smp: two workers on one map, some of them killed and replaced, for a test and for a
 * stress program.
 */
import assert from 'node:assert/strict';
import { boot } from '../boot/whole.ts';
import { atomic_load } from '../machine/atomic.ts';
import { churn } from '../machine/kills.test.lib.ts';
import { Crew, type Job } from '../machine/workers.test.lib.ts';
import { PK_OBJECT } from '../h/vm_page.ts';
import { objects_all } from '../object/vm_object_check.ts';
import { vm_page_census, vm_page_check } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import { maps_all, vm_maps_check } from './vm_map_check.ts';
import { vmspace_alloc } from './vm_map_fork.ts';
import {
  COMMON,
  done_word,
  map_anchors,
  map_drop,
  map_put,
  maps_make,
  PART,
  stop_word,
} from './vm_map.test.lib.ts';

const WORKERS = 2;
type Counts = { n: number };
/** Runs until so much is done after the last kill. Returns the operations done. */
export async function together(o: {
  kills: number;
  seed: number;
  INVARIANTS: boolean;
  work: number;
}): Promise<number> {
  const { kills, seed, INVARIANTS, work } = o;
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = boot({ memory: '32M', cpus: WORKERS + 1, options, fresh: true });
  maps_make();
  map_put(0, vmspace_alloc(0, COMMON + WORKERS * PART));
  const crew = new Crew<Counts>(new URL('./vm_map.test.worker.ts', import.meta.url));
  const start = (part: number, n: number): Job<Counts> =>
    crew.start(handle, 'churn', { seed: seed + 10 * n, part });
  const words = { done: done_word(), stop: stop_word() };
  await churn({ crew, workers: WORKERS, start, kills, seed, ...words, work });
  const all = atomic_load(done_word());
  vm_maps_check(map_anchors);
  map_drop(0);
  assert.deepEqual(maps_all(), []);
  assert.deepEqual(objects_all(), []);
  assert.equal(vm_page_census()[PK_OBJECT], 0);
  vm_maps_check();
  uma_check();
  vm_page_check();
  return all;
}
