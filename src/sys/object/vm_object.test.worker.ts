/*
 * The worker of vm_object_smp.slow.test.ts, vm_object_busy.test.ts and vnode_sync.test.ts.
 *
 *      churn   forks, writes, reads and drops spaces of its own range, whose chains it shares with
 *              the other workers, and compares them with its model
 *      pages   the same with pages of objects that a pager fills: looks, caches, works, removes
 *      hold    has a page busy until somebody sleeps for that, and then wakes or frees it
 *      cut     makes a file shorter; the host may refuse it
 *      reads   reads by a translation, and computes before it reads again
 *
 * The first two go on until they are told to stop or are killed.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { host_sleep } from '../machine/host.ts';
import { mem } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { store_fault_at } from '../machine/store_fault.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import type { pmap_t } from '../h/pmap.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PG_WANTED, VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import { pmap_translate } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import {
  done_word,
  SPACE_PAGES,
  type SpacesModel,
  space_drop,
  space_object,
  space_read,
  spaces_step,
  stop_word,
} from './object_spaces.test.lib.ts';
import { pager_step } from './pager_work.test.lib.ts';
import { object_page_free, object_page_grab, object_page_wakeup } from './vm_object_page.ts';
import { vnode_truncate } from './vnode_sync.ts';

const BATCH = 16;

function churn(seed: number, first: number, count: number): number {
  const draw = dice(seed);
  const model: SpacesModel = new Map();
  // What is there was made by main, or by one who died: it is seen as it is.
  for (let s = first; s < first + count; s++) {
    if (space_object(s) === 0) continue;
    const seen = Array.from({ length: SPACE_PAGES }, (_, i) => space_read(s, i));
    if (seen.includes(-1)) throw new Error(`space ${s}: a page that is half written`);
    model.set(s, seen);
  }
  let n = 0;
  for (; atomic_load(stop_word()) === 0; n++) {
    spaces_step(draw, model, first, count);
    if (n % BATCH === 0) atomic_add(done_word(), BATCH);
  }
  for (const s of model.keys()) space_drop(s);
  return n;
}
/** Pages of objects that all share come from their pager, are cached, worked on, removed. */
function churn_pages(seed: number, objects: readonly vm_object_t[]): number {
  const draw = dice(seed);
  let n = 0;
  for (; atomic_load(stop_word()) === 0; n++) {
    pager_step(draw, objects);
    if (n % BATCH === 0) atomic_add(done_word(), BATCH);
  }
  return n;
}
/** Has page `i` of the object busy until it is wanted, and lets go of it so. Returns the page. */
function hold(o: vm_object_t, i: number, frees: boolean): number {
  mtx_lock(vm_object.lock, o);
  const m = object_page_grab(o, i, VM_ALLOC_ZERO);
  mtx_unlock(vm_object.lock, o);
  while ((vm_page.flags[m] & PG_WANTED) === 0) host_sleep(1);
  mtx_lock(vm_object.lock, o);
  object_page_wakeup(m, o);
  if (frees) object_page_free(m, o);
  mtx_unlock(vm_object.lock, o);
  return m;
}
/** Makes a file so long; with an errno in `refused` the host does not. Returns what came of it. */
function cut(o: vm_object_t, bytes: number, refused: number): number {
  if (refused !== 0) store_fault_at('truncate', 1, { what: 'fail', errno: refused });
  return vnode_truncate(o, bytes);
}
/** Translates, says so, computes until it is told to stop, and reads there. What it has read. */
function reads(pm: pmap_t, at: number): number {
  const frame = pmap_translate(pm, at, false);
  atomic_add(done_word(), 1);
  while (atomic_load(stop_word()) === 0);
  return mem.I32[frame];
}
interface Args {
  readonly seed: number;
  readonly first: number;
  readonly count: number;
  readonly objects: readonly vm_object_t[];
  readonly object: vm_object_t;
  readonly page: number;
  readonly frees: boolean;
  readonly bytes: number;
  readonly refused: number;
  readonly pmap: pmap_t;
}
const JOBS: Record<string, (a: Args) => number> = {
  churn: (a) => churn(a.seed, a.first, a.count),
  pages: (a) => churn_pages(a.seed, a.objects),
  hold: (a) => hold(a.object, a.page, a.frees),
  cut: (a) => cut(a.object, a.bytes, a.refused),
  reads: (a) => reads(a.pmap, a.page),
};
run_job<Args>((job, a) => ({ n: JOBS[job](a) }), { join: attach, leave: () => void detach() });
