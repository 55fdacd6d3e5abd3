/*
 * vm_map_prefault: translations to pages that are there, before anybody asks for them.
 *
 *      entry ──> object:  | page |      | page | busy |      |
 *      pmap               | read |      | read |
 *
 * A mapping of an object that has pages already, or advice that a range will be used soon,
 * spares the faults that only look a page up.  No page is made, copied, or waited for: what is
 * busy, has no contents, or lies in an object further down is left to a fault.  The
 * translations do not allow writing, so that writes are noticed as ever.
 *
 * Where a whole superpage of pages is there, side by side, it is mapped as one.
 *
 * It is a favour: where memory is short, or the space at its limit (vm_rss.ts), it ends early, and
 * nobody is told.
 */
import { NULL } from '../machine/struct.ts';
import {
  VM_SUPER_PAGES,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJ_DEAD, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PG_FICTITIOUS, vm_page } from '../h/vm_page.ts';
import { VM_PROT_READ } from '../h/vm_prot.ts';
import { object_page, object_page_next, page_valid } from '../object/vm_object_page.ts';
import { vm_page_count_min } from '../page/vm_page.ts';
import { pmap_enter, pmap_enter_super, pmap_extract } from '../pmap/pmap.ts';
import { super_enabled } from '../pmap/pmap_super.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { entry_object } from './vm_map_entry.ts';
import { rss_over } from './vm_rss.ts';

const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;
const page = vm_page;

/** Enters what the object of an entry has of n pages from `first` on. The map is locked. */
export function vm_map_pmap_enter(mp: vm_map_t, e: vm_map_entry_t, first: number, n: number): void {
  const pm = map.pmap[mp];
  const o = entry_object(e);
  if (pm === NULL || o === NULL) return;
  if ((entry.protection[e] & VM_PROT_READ) === 0) return; // no translation is for running alone
  const from_vpn = entry.start[e] - entry.offset[e];
  const last = first + n - from_vpn;
  mtx_lock(object.lock, o);
  for (let i = first - from_vpn; (object.flags[o] & OBJ_DEAD) === 0; i++) {
    const m = object_page_next(o, i);
    if (m === 0) break;
    i = page.index[m];
    if (i >= last || vm_page_count_min() || rss_over(mp, 1) > 0) break;
    if (!page_valid(m) || page.busy[m] !== 0) continue;
    const at = from_vpn + i;
    const whole = at % VM_SUPER_PAGES === 0 && i + VM_SUPER_PAGES <= last && super_enabled();
    if (whole && is_row(o, i, m) && rss_over(mp, VM_SUPER_PAGES) <= 0) {
      if (pmap_enter_super(pm, at, m)) {
        i += VM_SUPER_PAGES - 1;
        continue;
      }
    }
    // With the object locked nobody else enters one of its pages.
    if (pmap_extract(pm, from_vpn + i) !== 0) continue;
    if (!pmap_enter(pm, from_vpn + i, m, VM_PROT_READ)) break;
  }
  mtx_unlock(object.lock, o);
}
/** Whether page m and those behind it are the pages of a superpage, from number `i` on. */
function is_row(o: vm_object_t, i: number, m: number): boolean {
  for (let k = 0; k < VM_SUPER_PAGES; k++) {
    const there = object_page(o, i + k) === m + k && page_valid(m + k);
    if (!there || page.busy[m + k] !== 0 || page.flags[m + k] & PG_FICTITIOUS) return false;
  }
  return true;
}
