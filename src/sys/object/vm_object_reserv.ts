/*
 * vm_object_reserv: which page of memory becomes a page of an object.
 *
 *      object without a color     any free page
 *      with one                   the page in its place of a run that is set aside for the window
 *
 * An object gets its *color* when a mapping that asks for superpages first shows it: it says where
 * among the 1024 pages of a superpage page 0 of the object is seen.  From then on its pages fall
 * into windows of 1024, and the first page of a window that comes has a run set aside for all of
 * them (page/vm_reserv.ts).  There is none for a window that the object ends in, or of which pages
 * are in memory elsewhere, nor where memory is short: then any page will do.
 *
 * Locks: the object's.  An object that ends gives back what is set aside for it.
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { TABLE_ENTRIES } from '../h/pmap.ts';
import { PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { OBJ_COLORED, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { super_enabled } from '../pmap/pmap_super.ts';
import { radix_lookup, radix_next } from '../pmap/vm_radix.ts';
import { vm_page_alloc_busy, vm_page_hand_busy } from '../page/vm_page_busy.ts';
import { vm_reserv_make, vm_reserv_take } from '../page/vm_reserv.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { object_index } from './vm_object.ts';

const object = vm_object;
const page = vm_page;
const MASK = TABLE_ENTRIES - 1;

const v_reserv = counter_u64('vm.reserv.made', 'Reservations: runs that were set aside');

/** Page 0 of the locked object is seen at page number `at`: its color, unless it has one. */
export function object_color(o: vm_object_t, at: number): void {
  if (object.flags[o] & OBJ_COLORED || !super_enabled()) return;
  undo_begin(object.lock, o);
  save(object.color, o);
  save(object.flags, o);
  object.color[o] = at & MASK;
  object.flags[o] |= OBJ_COLORED;
  undo_end();
}
/**
 * A page of memory for page `i` of the object, which is not in memory: busy by this CPU, and not
 * yet found by the object.  As vm_page_alloc_busy.
 */
export function object_frame(o: vm_object_t, i: number, req: number): number {
  const reserved = (object.flags[o] & OBJ_COLORED) !== 0 && reserve(o, i, req);
  return reserved ? vm_page_hand_busy(PK_OBJECT, o, i) : vm_page_alloc_busy(PK_OBJECT, o, i, req);
}
/** Whether the page that is set aside for page `i` is in this CPU's hand. */
function reserve(o: vm_object_t, i: number, req: number): boolean {
  const base = i - ((i + object.color[o]) & MASK);
  if (base < 0 || base + TABLE_ENTRIES > object.size[o]) return false;
  if (vm_reserv_take(o, i, base, req) !== 0) return true;
  if (!window_empty(o, base) || !vm_reserv_make(o, base)) return false;
  counter_add(v_reserv, 1);
  return vm_reserv_take(o, i, base, req) !== 0;
}
/** Whether no page of the window that begins at page `base` is in memory. */
function window_empty(o: vm_object_t, base: number): boolean {
  const t = object_index(o);
  for (let i = radix_next(t, base); i >= 0 && i <= base + MASK; i = radix_next(t, i + 1)) {
    const m = radix_lookup(t, i);
    if (m > 0 && page.owner[m] === o && page.index[m] === i) return false;
  }
  return true;
}
