/*
 * vm_object_range: what is done to all pages of a part of an object.
 *
 *      vm_object_page_remove   they go: whoever mapped them is through with them
 *      vm_object_madvise       how soon they will be used again
 *
 * Of a file, advice that pages are not needed makes those that are clean as good as free; what was
 * stored there stays, whichever advice it is.
 *
 * Busy pages that are to go are waited for, those that get advice are passed over.  Wired
 * pages stay as they are; lent ones go too, and are their borrowers' alone then.
 */
import { MADV_BEHIND, MADV_DONTNEED, MADV_FREE, MADV_WILLNEED } from '../h/vm_map.ts';
import { PAGE_DIRTY, vm_page } from '../h/vm_page.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { NULL } from '../machine/struct.ts';
import { OBJ_ONEMAPPING, OBJT_VNODE, vm_object, type vm_object_t } from '../h/vm_object.ts';
import {
  PQ_INACTIVE,
  page_queue,
  vm_page_activate,
  vm_page_deactivate,
  vm_page_deactivate_all,
  vm_page_held,
  vm_page_wirings,
} from '../page/vm_pageq.ts';
import { pmap_clear_modify, pmap_remove_all, pmap_ts_referenced } from '../pmap/pmap.ts';
import { tlb_wait_all } from '../pmap/pmap_tlb.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { page_dirty } from './vm_launder.ts';
import { object_anonymous } from './vm_object.ts';
import { object_page_cache } from './vm_object_cache.ts';
import { object_slot_drop, object_slots_free } from './vm_object_slot.ts';
import {
  object_page,
  object_page_drop,
  object_page_next,
  page_valid,
  vm_page_sleep_if_busy,
} from './vm_object_page.ts';

const object = vm_object;
const page = vm_page;

export const v_given_up = counter_u64(
  'vm.stats.vm.v_given_up',
  'Pages whose contents need not be kept, by advice (MADV_FREE)',
);

/**
 * Frees the pages from number `first` up to `end`, which nobody maps.  If they are the last ones
 * of an anonymous object it becomes shorter: of others the size says what there is.  The caller
 * refers to the object and has no object locked.
 */
export function vm_object_page_remove(o: vm_object_t, first: number, end: number): void {
  mtx_lock(object.lock, o);
  for (let m = object_page_next(o, first); m !== 0; ) {
    const i = page.index[m];
    if (i >= end) break;
    const wired = vm_page_held(m) !== 0;
    const slept = !wired && vm_page_sleep_if_busy(m, o);
    if (!wired && !slept) object_page_drop(m, o);
    m = object_page_next(o, slept ? i : i + 1);
  }
  object_slots_free(o, first, end);
  const last = first < object.size[o] && object.size[o] <= end;
  if (last && object_anonymous(o) && object_page_next(o, first) === 0) {
    undo_begin(object.lock, o);
    save(object.size, o);
    object.size[o] = first;
    undo_end();
  }
  mtx_unlock(object.lock, o);
}
/**
 * Says of `n` pages from number `first` on how soon they will be used.  MADV_WILLNEED and
 * MADV_DONTNEED reach what is seen through the object below it too.  After MADV_FREE their
 * contents need not be kept until they are written to again: a page that is taken back is zero
 * when it is used again.  It reaches anonymous pages that are shown once, because nobody
 * else may lose them.
 */
export function vm_object_madvise(o: vm_object_t, first: number, n: number, advice: number): void {
  let at = o;
  let from = first;
  mtx_lock(object.lock, at);
  for (;;) {
    const may = advice !== MADV_FREE || shown_once(at) || object.type[at] === OBJT_VNODE;
    if (may) advise(at, from, n, advice);
    const below = object.backing[at];
    if (below === NULL || !may) break;
    from += object.backing_offset[at];
    mtx_lock(object.lock, below);
    mtx_unlock(object.lock, at);
    at = below;
  }
  mtx_unlock(object.lock, at);
}
function shown_once(o: vm_object_t): boolean {
  return object_anonymous(o) && (object.flags[o] & OBJ_ONEMAPPING) !== 0;
}
function advise(o: vm_object_t, first: number, n: number, advice: number): void {
  if (advice === MADV_FREE) object_slots_free(o, first, first + n);
  const idle: number[] = [];
  const clean: number[] = [];
  const file = object.type[o] === OBJT_VNODE;
  for (let m = page_from(o, first); m !== 0; m = page_from(o, page.index[m] + 1)) {
    if (page.index[m] >= first + n) break;
    if (page.busy[m] !== 0 || vm_page_wirings(m) !== 0 || !page_valid(m)) continue;
    if (advice === MADV_FREE && !file) {
      undo_begin(object.lock, o);
      save(page.state, m);
      page.state[m] &= ~PAGE_DIRTY;
      undo_end();
      pmap_clear_modify(m);
      object_slot_drop(m, o);
      vm_page_deactivate(m, true);
      counter_add(v_given_up, 1);
    } else if (advice === MADV_WILLNEED) vm_page_activate(m);
    else if (UNUSED.includes(advice)) {
      if (file && advice !== MADV_BEHIND && !page_dirty(m)) {
        pmap_remove_all(m);
        clean.push(m);
      }
      if (page.map_pmap[m] === NULL) page.ref[m] = 0;
      else pmap_ts_referenced(m); // that it was used is forgotten
      if (page_queue(m) !== PQ_INACTIVE) idle.push(m);
    }
  }
  vm_page_deactivate_all(idle);
  if (clean.length === 0 || tlb_wait_all(ANSWER_MS) >= 0) return;
  for (const m of clean) object_page_cache(m, o); // unless it was written to at the last moment
}
const UNUSED: readonly number[] = [MADV_DONTNEED, MADV_BEHIND, MADV_FREE];
/** How long a CPU may be silent before the pages stay as they are, ms. */
const ANSWER_MS = 20;
/** As object_page_next, of an object that most likely has page `i`. */
function page_from(o: vm_object_t, i: number): number {
  return object_page(o, i) || object_page_next(o, i);
}
