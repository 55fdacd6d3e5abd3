/*
 * vm_mincore: which pages of a range are in memory.
 *
 *      vector    | byte | byte | ...      one for each page: MINCORE_*
 *
 * A page that the space has a translation to is asked about first; else the objects are
 * searched from the topmost down, as a fault would search them.
 *
 * The notes of use and of writing are the page's, whoever used it.  So the bits that speak of
 * anybody are always told, those that speak of this space where it is the only one that maps
 * the page.
 *
 * The answer is a sample.  It is written with nothing locked, because writing it may fault: some
 * pages are looked at with the map locked, then their bytes are written, then the next ones.
 *
 * Unlike other calls it leaves the last page out where an address that is not a page's first
 * makes a length spill into one page more.
 */
import { EFAULT, ENOMEM } from '../machine/errno.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import {
  MINCORE_INCORE,
  MINCORE_MODIFIED,
  MINCORE_MODIFIED_OTHER,
  MINCORE_REFERENCED,
  MINCORE_REFERENCED_OTHER,
  MINCORE_SUPER,
} from '../h/mman.ts';
import {
  MAP_ENTRY_IS_SUB_MAP,
  VM_SUPER_PAGES,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { vm_object } from '../h/vm_object.ts';
import { PAGE_DIRTY, vm_page } from '../h/vm_page.ts';
import { object_page, page_valid } from '../object/vm_object_page.ts';
import { pmap_extract, pmap_is_modified } from '../pmap/pmap.ts';
import { pmap_supers } from '../pmap/pmap_super.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { user_access, VPN_MAX, vpn_page } from './vm_bank.ts';
import { vm_map_lock_read, vm_map_unlock_read } from './vm_map.ts';
import { fails, type Sysret, succeeds, unsigned } from './vm_mmap.ts';
import { vm_map_lookup } from './vm_map_tree.ts';

const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;
const page = vm_page;
/** Pages that are looked at before their bytes are written. */
const CHUNK = 1024;

export function sys_mincore(mp: vm_map_t, [address, length, vec]: readonly number[]): Sysret {
  const first = Math.floor(unsigned(address) / PAGE_SIZE);
  const last = first + Math.ceil(unsigned(length) / PAGE_SIZE);
  if (last > VPN_MAX) return fails(ENOMEM);
  let at = first;
  do {
    const from = at;
    const bytes = look(mp, Math.min(last - at, CHUNK), (i) => vpn_page(mp, from + i));
    if (bytes === null) return fails(ENOMEM);
    const { error } = user_access(mp, vec + at - first, bytes.length, true, (w, n, done) => {
      mem.U8.set(bytes.subarray(done, done + n), w);
    });
    if (error !== 0) return fails(error === ENOMEM ? ENOMEM : EFAULT);
    at += CHUNK;
  } while (at < last);
  return succeeds();
}
/** The bytes of n pages from a page of the map on; null: not all of them are mapped. */
export function vm_resident(mp: vm_map_t, start: number, n: number): Uint8Array | null {
  return look(mp, n, (i) => start + i);
}
/**
 * The bytes of n pages, whose numbers in the map `page_at` says; null: not all of them, nor the
 * first, are mapped.
 */
function look(mp: vm_map_t, n: number, page_at: (i: number) => number): Uint8Array | null {
  const bytes = new Uint8Array(n);
  vm_map_lock_read(mp);
  let there = true;
  for (let i = 0; there && i < Math.max(n, 1); i++) {
    const at = page_at(i);
    const e = at < 0 ? (NULL as vm_map_entry_t) : vm_map_lookup(mp, at);
    if (e === NULL) there = false;
    else if (i < n) bytes[i] = page_bits(mp, e, at);
  }
  vm_map_unlock_read(mp);
  return there ? bytes : null;
}
function page_bits(mp: vm_map_t, e: vm_map_entry_t, vpn: number): number {
  if (entry.eflags[e] & MAP_ENTRY_IS_SUB_MAP) return 0;
  const pm = map.pmap[mp];
  const m = pm === NULL ? 0 : pmap_extract(pm, vpn);
  if (m === 0) return chain_bits(e, vpn);
  const used = page.ref[m] !== 0;
  const written = pmap_is_modified(m);
  const own = page.map_more[m] === NULL;
  let bits = MINCORE_INCORE;
  if (used) bits |= MINCORE_REFERENCED_OTHER | (own ? MINCORE_REFERENCED : 0);
  if (written) bits |= MINCORE_MODIFIED_OTHER | (own ? MINCORE_MODIFIED : 0);
  const first = vpn - (vpn % VM_SUPER_PAGES);
  if (pmap_supers(pm, first, first + VM_SUPER_PAGES) > 0) bits |= MINCORE_SUPER;
  return bits;
}
/** What is known of a page that the space has no translation to. */
function chain_bits(e: vm_map_entry_t, vpn: number): number {
  let o = entry.object[e];
  if (o === NULL) return 0;
  let i = vpn - entry.start[e] + entry.offset[e];
  mtx_lock(object.lock, o);
  for (;;) {
    const m = i < object.size[o] ? object_page(o, i) : 0;
    if (m !== 0 && page_valid(m)) {
      let bits = MINCORE_INCORE;
      if (page.ref[m] !== 0) bits |= MINCORE_REFERENCED_OTHER;
      const dirty = pmap_is_modified(m) || (page.state[m] & PAGE_DIRTY) !== 0;
      if (dirty) bits |= MINCORE_MODIFIED_OTHER;
      mtx_unlock(object.lock, o);
      return bits;
    }
    const below = object.backing[o];
    if (below === NULL) break;
    i += object.backing_offset[o];
    mtx_lock(object.lock, below);
    mtx_unlock(object.lock, o);
    o = below;
  }
  mtx_unlock(object.lock, o);
  return 0;
}
