/*
 * kern_mbuf_supply: whether memory for a chain seems to be there, and what to sleep on.
 *
 *      supply of a zone = items of the slabs that it has, or could have with so many free
 *                         pages and within its limit, less those in use
 *
 * A chain asks for several buffers of several sizes, all or nothing.  A request that is
 * refused gives back what it had got so far, and that looks like a free to everybody who
 * waits.  So a waiter looks here before it asks again: a count may promise too much (items
 * in the cache of a CPU that does not answer, pages that do not lie together), never too
 * little.
 *
 * Whatever is given back takes an mbuf along, so that waiters sleep on the keg of the mbufs
 * (mb_channel), after mb_want has marked all zones of buffers as full: frees then go past the
 * caches and wake.  The mark is gone with the first free, therefore it is set before each sleep.
 *
 * Locks.  Marks are set under the keg's lock.  Counts are samples, without a lock.
 *
 * Unlike FreeBSD, where each zone has its own sleepers: who waits for a chain waits for
 * several zones at once.
 */
import { mb_root, MCLBYTES, MHLEN, MINCLSIZE, MJUM9BYTES, MJUMPAGESIZE } from '../h/mbuf.ts';
import { type keg_t, uma_keg, uma_zone, type zone_t } from '../h/uma.ts';
import { ptoa } from '../machine/memory.ts';
import { vm_page_count, vm_page_free_count } from '../page/vm_page.ts';
import { uma_zone_want } from '../uma/uma_fetch.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { uma_zone_get_max } from '../uma/uma_zone.ts';
import { mb } from './kern_mbuf.ts';

/** The zones that have a keg of their own; that of the mbufs serves the packets too. */
export const MB_ZONES = ['clust', 'mbuf', 'jumbop', 'jumbo9', 'jumbo16', 'ext_refcnt'] as const;
export type MbZone = (typeof MB_ZONES)[number];

/** A zone of buffers. */
export function mb_zone(which: MbZone | 'pack'): zone_t {
  return mb_root[which][mb()] as zone_t;
}
/** The keg of its items. */
export function mb_keg(which: MbZone): keg_t {
  return uma_zone.keg[mb_zone(which)];
}
/** Items in use: what packets that nobody uses hold is not. */
function used(which: MbZone): number {
  const n = zone_present(mb_zone(which));
  if (which === 'clust') return n.used - zone_present(mb_zone('pack')).free;
  if (which !== 'mbuf') return n.used;
  // Over both zones of the keg: an mbuf may leave by the one and come back by the other.
  const packets = zone_present(mb_zone('pack'));
  return n.allocs + packets.allocs - n.frees - packets.frees;
}
/** Items that could be had while so many pages are free: a sample, rather too many than too few. */
export function mb_supply(which: MbZone, free_pages: number): number {
  const k = mb_keg(which);
  const slab = uma_keg.ppera[k];
  const most = uma_keg.maxpages[k];
  const pages = uma_keg.pages[k];
  const more = most === 0 ? free_pages : Math.min(free_pages, Math.max(0, most - pages));
  const slabs = Math.ceil(pages / slab) + Math.floor(more / slab);
  return slabs * uma_keg.ipers[k] - used(which);
}

/** Pages that are free, or would be if idle buffers of all sizes were reclaimed. */
function reachable(): number {
  let pages = vm_page_free_count();
  for (const which of MB_ZONES) {
    const k = mb_keg(which);
    pages += Math.floor(Math.max(0, mb_supply(which, 0)) / uma_keg.ipers[k]) * uma_keg.ppera[k];
  }
  return pages;
}

/**
 * Whether there seems to be enough for n bytes in new mbufs, as m_getroom takes them.
 * `free_pages`: with so many free pages; as many as could be had, if it is not given.
 */
export function mb_can_room(n: number, free_pages = reachable()): boolean {
  const jumbo = n <= MCLBYTES ? 0 : Math.ceil((n - MCLBYTES) / MJUMPAGESIZE);
  const jumbos = jumbo === 0 ? 0 : Math.min(jumbo, Math.max(0, mb_supply('jumbop', free_pages)));
  const left = Math.max(0, n - jumbos * MJUMPAGESIZE);
  const over = left % MCLBYTES;
  const clusters = Math.floor(left / MCLBYTES) + (over >= MINCLSIZE ? 1 : 0);
  if (clusters > 0 && mb_supply('clust', free_pages) < clusters) return false;
  return mb_can_mbufs(Math.max(1, jumbos + clusters), free_pages);
}
/** For so many mbufs without storage outside. */
export function mb_can_mbufs(n: number, free_pages = reachable()): boolean {
  return mb_supply('mbuf', free_pages) >= n;
}
/** For n bytes in one piece. */
export function mb_can_piece(n: number, free_pages = reachable()): boolean {
  if (!mb_can_mbufs(1, free_pages)) return false;
  if (n <= MHLEN) return true;
  if (n <= MCLBYTES) return mb_supply('clust', free_pages) >= 1;
  if (n <= MJUMPAGESIZE) return mb_supply('jumbop', free_pages) >= 1;
  return mb_supply(n <= MJUM9BYTES ? 'jumbo9' : 'jumbo16', free_pages) >= 1;
}

/** Whether the zone may have no more slabs. */
export function mb_at_limit(which: MbZone): boolean {
  const k = mb_keg(which);
  return uma_keg.maxpages[k] > 0 && uma_keg.pages[k] + uma_keg.ppera[k] > uma_keg.maxpages[k];
}
/** The zones whose limit may be in the way of `size` bytes, emptiest first. */
export function mb_full_zones(size: number): MbZone[] {
  const first: MbZone = size < MINCLSIZE ? 'mbuf' : 'clust';
  const free = (which: MbZone): number => mb_supply(which, 0);
  const full = MB_ZONES.filter(mb_at_limit).sort((a, b) => +(b === first) - +(a === first));
  return full.sort((a, b) => free(a) - free(b));
}
/** Most bytes that a chain can ever have under the limits of now, in this memory. */
export function mb_bytes_possible(): number {
  const r = mb();
  const bytes = (field: { [at: number]: number }, size: number): number => {
    const n = uma_zone_get_max(field[r] as zone_t);
    return n === 0 ? Number.POSITIVE_INFINITY : n * size;
  };
  const limited = bytes(mb_root.clust, MCLBYTES) + bytes(mb_root.jumbop, MJUMPAGESIZE);
  return Math.min(limited, ptoa(vm_page_count()));
}

// --- asking to be told ---------------------------------------------------------------------------

/** What waiters sleep on. */
export function mb_channel(): number {
  return mb_keg('mbuf');
}
/** Makes the next free of each zone go past the caches, and wake. */
export function mb_want(): void {
  for (const which of MB_ZONES) uma_zone_want(mb_zone(which), 0);
}
/** Counts a request that sleeps for a limit. */
export function mb_count_sleep(): void {
  const [full] = mb_full_zones(MCLBYTES);
  if (full !== undefined) uma_zone_want(mb_zone(full), 1);
}
