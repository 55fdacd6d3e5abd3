/*
 * vm_loan_where: which pages of a range of a map are lent, for those who ask.
 *
 * A loan knows pages of memory, a page its object and its number there, and a map which objects it
 * shows: so the question goes from the loans to the map, and costs nothing where nothing is lent.
 * A page that was broken off is no range's any more.
 */
import { elem, NULL } from '../machine/struct.ts';
import { vm_loan, vm_loan_root } from '../h/vm_loan.ts';
import { vm_map_entry, type vm_map_entry_t, type vm_map_t } from '../h/vm_map.ts';
import { vm_object } from '../h/vm_object.ts';
import { PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { object_seen, vm_object_seen } from '../object/vm_object_chain.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { loan_root } from './vm_loan.ts';
import { vm_map_lock_read, vm_map_unlock_read } from './vm_map.ts';
import { vm_map_lookup_entry } from './vm_map_tree.ts';

const entry = vm_map_entry;
const object = vm_object;
const page = vm_page;
const loan = vm_loan;
const root = vm_loan_root;

/** Pages that are lent, each once. */
function lent(): Set<number> {
  const r = loan_root();
  const all = new Set<number>();
  if (root.count[r] === 0) return all; // a sample
  mtx_lock(root.lock, r);
  for (let l = root.first[r]; l !== NULL; l = loan.next[l]) {
    for (let k = 0; k < loan.wired[l]; k++) all.add(loan.frames[elem(l, k)]);
  }
  mtx_unlock(root.lock, r);
  return all;
}
/** How many pages of a map from `start` up to `end` are lent. The map is not locked. */
export function loan_pages_in(
  mp: vm_map_t,
  { start, end }: { readonly start: number; readonly end: number },
): number {
  const all = lent();
  if (all.size === 0) return 0;
  let n = 0;
  vm_map_lock_read(mp);
  const first = vm_map_lookup_entry(mp, start);
  for (let e = first, at = start; at < end && entry.start[e] < end; e = entry.next[e]) {
    for (const m of all) {
      const i = page_in_entry(e, m);
      const vpn = i - entry.offset[e] + entry.start[e];
      if (i < 0 || vpn < at || vpn >= Math.min(end, entry.end[e])) continue;
      const there = vm_object_seen(entry.object[e], i);
      if (there !== 0) mtx_unlock(object.lock, object_seen.o);
      if (there === m) n++;
    }
    at = entry.end[e];
  }
  vm_map_unlock_read(mp);
  return n;
}
/** Which page of an entry's object page m would be, if it can be seen through it; below 0: none. */
function page_in_entry(e: vm_map_entry_t, m: number): number {
  if ((page.info[m] & PK_MASK) !== PK_OBJECT) return -1;
  let i = page.index[m];
  for (let o = entry.object[e]; o !== NULL; o = object.backing[o]) {
    if (page.owner[m] === o) return i;
    i -= object.backing_offset[o];
  }
  return -1;
}
