/*
 * swap_pager: anonymous memory that lies in the swap area while it is not in use.
 *
 * What is written goes to slots that are free, never over what a slot holds: so an error, or a
 * death in the middle, leaves the page as it was, dirty, with the slot that it had.  The new slots
 * are in the hand of the CPU until each is its page's; the old ones are free then.  Where the
 * area is full a page that has a slot is written to that one.
 */
import { thr as thr_, pcpu as pcpu_ } from '../machine/cpu.ts';
import { ENOMEM, ENOSPC } from '../machine/errno.ts';
import { OBJT_SWAP, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import { radix_lookup, radix_next } from '../pmap/vm_radix.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save } from '../sync/undo.ts';
import {
  swap_alloc,
  swap_free_notes,
  swap_free_old,
  swap_note_old,
  swap_note_take,
  swap_old_joins,
  swap_run,
} from './swap_area.ts';
import { swap_read, swap_write } from './swap_io.ts';
import { object_index } from './vm_object.ts';
import { object_page_filled, object_page_seen, vm_page_sleep_if_busy } from './vm_object_page.ts';
import { object_slot, object_slot_drop, object_swaps } from './vm_object_slot.ts';
import {
  type Backing,
  page_views,
  pager_error,
  pagers,
  store_get,
  VM_PAGER_NOMEM,
  VM_PAGER_OK,
  vm_pager_page_in,
} from './vm_pager.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const object = vm_object;
const page = vm_page;

/** Pages beside page `i` that lie beside it in the area, in no memory. */
function side(o: vm_object_t, i: number, n: number, step: 1 | -1): number {
  const slot = object_slot(o, i);
  const { first, end } = swap_run(slot);
  const t = object_index(o);
  let k = 1;
  for (; k < n; k++) {
    const at = slot + k * step;
    const beside = i + k * step;
    if (at < first || at >= end || beside < 0 || radix_lookup(t, beside) !== -at) break;
  }
  return k;
}
function swap_in(_o: vm_object_t, ms: readonly number[]): number {
  return swap_read(page.slot[ms[0]], page_views(ms));
}
/** Takes slots side by side for the first pages of `ms`: for fewer, the fuller the area is. */
function room(o: vm_object_t, ms: readonly number[]): number {
  object_swaps(o);
  for (let n = ms.length; n >= 1; n >>= 1) if (swap_alloc(n) !== 0) return n;
  return page.slot[ms[0]] !== 0 ? 1 : -ENOSPC;
}
function swap_out(_o: vm_object_t, ms: readonly number[]): number {
  const { pc } = thr;
  const first = pcpu.swap_n[pc] > 0 ? pcpu.swap_first[pc] : page.slot[ms[0]];
  return swap_write(first, page_views(ms));
}
function written(_o: vm_object_t, m: number): void {
  if (pcpu.swap_n[thr.pc] === 0) return; // over what it had
  const old = page.slot[m];
  save(page.slot, m);
  page.slot[m] = swap_note_take();
  swap_note_old(old);
}
/** Whether the slot that page m has is noted beside those that are to be freed. */
function joins(m: number): boolean {
  return pcpu.swap_n[thr.pc] === 0 || swap_old_joins(page.slot[m]);
}
/**
 * Sees to it that nothing of an object lies in slots `first` to before `end`: what does comes into
 * memory and is dirty.  0; ENOMEM: no memory for a page; another errno of the store.  What was done
 * stays done.  The caller refers to the object, which is not locked.
 */
export function object_swap_in(o: vm_object_t, first: number, end: number): number {
  mtx_lock(object.lock, o);
  for (let i = slot_within(o, 0, first, end); i >= 0; ) {
    const m = object_page_seen(o, i);
    const slept = m !== 0 && vm_page_sleep_if_busy(m, o);
    if (m === 0) {
      const got = vm_pager_page_in(o, i, 1);
      if (got !== VM_PAGER_OK) {
        mtx_unlock(object.lock, o);
        return got === VM_PAGER_NOMEM ? ENOMEM : pager_error.errno;
      }
    } else if (!slept) {
      object_page_filled(m, o); // dirty, before its slot goes
      object_slot_drop(m, o);
    }
    i = slot_within(o, i, first, end);
  }
  mtx_unlock(object.lock, o);
  return 0;
}
/** The first page from number `i` on that has a slot from `first` to before `end`; -1: none. */
function slot_within(o: vm_object_t, i: number, first: number, end: number): number {
  if (object.type[o] !== OBJT_SWAP) return -1;
  const t = object_index(o);
  for (let at = radix_next(t, i); at >= 0; at = radix_next(t, at + 1)) {
    const slot = object_slot(o, at);
    if (slot >= first && slot < end) return at;
  }
  return -1;
}

function settle(_o: vm_object_t, last: boolean): void {
  if (last) swap_free_notes();
  else swap_free_old();
}

const store: Backing = { side, bring: swap_in, room, send: swap_out, written, joins, settle };
pagers.set(OBJT_SWAP, {
  has: (o, i) => object_slot(o, i) !== 0,
  get: (o, _i, m) => store_get(store, o, m),
  store,
});
