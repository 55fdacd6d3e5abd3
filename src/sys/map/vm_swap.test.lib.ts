/*
 * Test driver: pages of memory objects go out to the swap area, by lot, as a page daemon would
 * send them.
 *
 * A page that is picked is written if it is dirty, loses its mappings, and is as good as free
 * then; some of those that are lose their memory.  What it held it holds when it comes back.
 */
import { NULL } from '../machine/struct.ts';
import { vm_map, type vm_map_t } from '../h/vm_map.ts';
import { SWAP_LABEL } from '../h/swap.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PG_FICTITIOUS, PG_UNMANAGED, PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { memory_area } from '../object/swap_book.test.lib.ts';
import { object_page_launder, page_dirty } from '../object/vm_launder.ts';
import { object_page_cache, page_select_cache } from '../object/vm_object_cache.ts';
import { object_page, page_valid } from '../object/vm_object_page.ts';
import { vm_page_deactivate, vm_page_wirings } from '../page/vm_pageq.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { pmap_extract, pmap_remove_all } from '../pmap/pmap.ts';
import { mtx_trylock, mtx_unlock } from '../sync/kern_mutex.ts';

const object = vm_object;
const page = vm_page;

/** A swap area in memory of the machine, with room for so many pages. */
export function swap_up(slots: number): void {
  const i = memory_area(slots + SWAP_LABEL);
  if (i < 0) throw new Error(`no swap area: errno ${-i}`);
}
/** What became of the pages that were sent out. */
export interface Sent {
  written: number;
  failed: number;
  freed: number;
}
/** Looks at some pages of memory and sends about one in three of them out. */
export function pages_away(draw: (n: number) => number, sent: Sent, span = 200): void {
  const ph = phys_root();
  const start = vm_phys.low[ph] + draw(vm_phys.high[ph] - vm_phys.low[ph]);
  const end = Math.min(start + span, vm_phys.high[ph]);
  for (let m = start; m < end; m++) {
    if ((page.info[m] & PK_MASK) !== PK_OBJECT || draw(3) !== 0) continue;
    const o = page.owner[m] as vm_object_t;
    if (!mtx_trylock(object.lock, o)) continue;
    if (object_page(o, page.index[m]) === m && idle(m)) page_away(draw, sent, m, o);
    mtx_unlock(object.lock, o);
  }
  while (draw(4) !== 0 && page_select_cache()) sent.freed++;
}
/**
 * Sends out the page that a space has a translation to as page number `vpn`, and all that are as
 * good as free lose their memory.
 */
export function page_out(mp: vm_map_t, vpn: number, sent: Sent): void {
  const m = pmap_extract(vm_map.pmap[mp], vpn);
  const o = (m === 0 ? NULL : page.owner[m]) as vm_object_t;
  if (o === NULL || !mtx_trylock(object.lock, o)) return;
  if (object_page(o, page.index[m]) === m && idle(m)) page_away(() => 1, sent, m, o);
  mtx_unlock(object.lock, o);
  while (page_select_cache()) sent.freed++;
}
function idle(m: number): boolean {
  const managed = (page.flags[m] & (PG_UNMANAGED | PG_FICTITIOUS)) === 0;
  return managed && page.busy[m] === 0 && page_valid(m) && vm_page_wirings(m) === 0;
}
function page_away(draw: (n: number) => number, sent: Sent, m: number, o: vm_object_t): void {
  const i = page.index[m];
  if (draw(2) === 0) vm_page_deactivate(m);
  if (page_dirty(m)) {
    if (object_page_launder(m, o) === 0) sent.written++;
    else sent.failed++;
  }
  if (draw(2) === 0 || object_page(o, i) !== m || !idle(m)) return;
  pmap_remove_all(m);
  object_page_cache(m, o);
}
