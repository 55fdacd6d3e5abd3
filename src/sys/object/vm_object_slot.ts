/*
 * vm_object_slot: pages of an object that are in the swap area.
 *
 *      index of an object     page m ──────> page.slot      in memory, and perhaps in a slot too
 *                             -slot                         in a slot alone
 *
 * A slot lies beside its page: while the page is in memory in the page array, else in the
 * place of the page in the index.  So writing a page out, and taking its memory, needs no
 * memory; and a slot goes where its page goes.  A page with a slot that is not dirty has the
 * contents of the slot.
 *
 * A slot that moves to the object above is, for a moment, in both indexes: first it is entered
 * above, marked SLOT_TWICE, then it leaves the one below, then the mark goes.  A CPU that dies in
 * between leaves the mark.  Whoever meets it asks the object below: has that nothing there any
 * more, the move was done; else it was not, and the entry above goes.  So no mark is left when
 * the object below becomes another one (pass_over).
 *
 * Locks: all calls want the object locked.
 */
import { pcpu as pcpu_, thr as thr_ } from '../machine/cpu.ts';
import { NULL } from '../machine/struct.ts';
import {
  OBJT_DEFAULT,
  OBJT_SWAP,
  vm_object,
  vm_object_root,
  type vm_object_t,
} from '../h/vm_object.ts';
import { SLOT_TWICE, vm_page } from '../h/vm_page.ts';
import type { zone_t } from '../h/uma.ts';
import { mtx_lock, mtx_owned, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import {
  radix_clear,
  radix_lookup,
  radix_next,
  radix_peek,
  radix_replace,
  radix_reserve,
  radix_store,
  radix_trim,
} from '../pmap/vm_radix.ts';
import { swap_free_old, swap_note_old } from './swap_area.ts';
import { object_index, object_root } from './vm_object.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const object = vm_object;
const page = vm_page;
const nodes = (): zone_t => vm_object_root.nodes[object_root()] as zone_t;

/** The slot that has page `i` of the object, in memory or not; 0: none has. */
export function object_slot(o: vm_object_t, i: number): number {
  if (object.type[o] !== OBJT_SWAP) return 0;
  const there = radix_lookup(object_index(o), i);
  if (there >= 0) return there === 0 ? 0 : page.slot[there];
  return -there & SLOT_TWICE ? settle(o, i, -there & ~SLOT_TWICE) : -there;
}
/** The object may have slots from here on. */
export function object_swaps(o: vm_object_t): void {
  if (object.type[o] !== OBJT_DEFAULT) return;
  undo_begin(object.lock, o);
  save(object.type, o);
  object.type[o] = OBJT_SWAP;
  undo_end();
}
/** The first page from number `i` on that is in a slot alone; -1: none. */
export function object_slot_next(o: vm_object_t, i: number): number {
  if (object.type[o] !== OBJT_SWAP) return -1;
  const t = object_index(o);
  for (let at = radix_next(t, i); at >= 0; at = radix_next(t, at + 1)) {
    if (radix_peek(t, at) < 0 && object_slot(o, at) !== 0) return at;
  }
  return -1;
}

// --- going -------------------------------------------------------------------------------------

/** Page m of the object has no slot any more: what is there is not worth keeping. */
export function object_slot_drop(m: number, o: vm_object_t): void {
  const slot = page.slot[m];
  if (slot === 0) return;
  undo_begin(object.lock, o);
  save(page.slot, m);
  page.slot[m] = 0;
  swap_note_old(slot);
  undo_end();
  swap_free_old();
}
/** Frees the slots of pages from number `first` to before `end` that are in a slot alone. */
export function object_slots_free(o: vm_object_t, first: number, end: number): void {
  for (let i = slot_next(o, first, end); i >= 0; i = slot_next(o, i + 1, end)) slot_free(o, i);
}
/** As object_slot_next, of an object of any type. */
function slot_next(o: vm_object_t, i: number, end: number): number {
  const t = object_index(o);
  let at = i < end ? radix_next(t, i) : -1;
  while (at >= 0 && at < end && radix_peek(t, at) > 0) at = radix_next(t, at + 1);
  return at < end ? at : -1;
}
function slot_free(o: vm_object_t, i: number): void {
  const t = object_index(o);
  const there = -radix_lookup(t, i);
  const slot = there & SLOT_TWICE ? settle(o, i, there & ~SLOT_TWICE) : there;
  if (slot === 0) return;
  undo_begin(object.lock, o);
  radix_clear(t, i);
  swap_note_old(slot);
  undo_end();
  swap_free_old();
  radix_trim(t, i, nodes());
}

// --- moving ------------------------------------------------------------------------------------

/**
 * The slot that is page `was` of b, in no memory, becomes page `i` of o, which b backs and which
 * has nothing there.  Both are locked.  False: no memory for the index.
 */
export function object_slot_move(b: vm_object_t, was: number, o: vm_object_t, i: number): boolean {
  const slot = object_slot(b, was);
  if (slot === 0) return true;
  const [to, from] = [object_index(o), object_index(b)];
  if (!radix_reserve(to, i, nodes())) return false;
  object_swaps(o);
  pcpu.moving[thr.pc] = o;
  undo_begin(object.lock, o);
  radix_store(to, i, -(slot | SLOT_TWICE));
  undo_end();
  undo_begin(object.lock, b);
  radix_clear(from, was);
  undo_end();
  undo_begin(object.lock, o);
  radix_replace(to, i, -slot);
  undo_end();
  pcpu.moving[thr.pc] = 0;
  radix_trim(from, was, nodes());
  return true;
}
/** Ends a move of which a dead CPU left the mark. Returns the slot, 0: it is not the object's. */
function settle(o: vm_object_t, i: number, slot: number): number {
  const t = object_index(o);
  const below = object.backing[o];
  let moved = true;
  if (below !== NULL) {
    const mine = mtx_owned(object.lock, below);
    if (!mine) mtx_lock(object.lock, below);
    moved = radix_peek(object_index(below), i + object.backing_offset[o]) === 0;
    if (!mine) mtx_unlock(object.lock, below);
  }
  undo_begin(object.lock, o);
  if (moved) radix_replace(t, i, -slot);
  else radix_clear(t, i);
  undo_end();
  if (!moved) radix_trim(t, i, nodes());
  return moved ? slot : 0;
}
