/*
 * uipc_mbuf_keep: what a chain may have done to it without being lost.
 *
 *      m_append_keep m_prepend_keep    bytes at the ends
 *      m_adj_head                      bytes off the head
 *      m_pullup_keep                   bytes that must lie in one piece
 *      m_share m_makewritable          clusters that two chains refer to, and that one must own
 *
 * The calls of BSD free a packet when memory runs out in the middle of a pullup or a
 * prepend (uipc_mbuf_shape.ts): right for a driver, which can do nothing with the rest.
 * A program's data must not vanish.  So each call here first takes the memory it needs,
 * all or nothing, and only then moves bytes; NULL says that there was none, and that the
 * chain is as it was.
 *
 *      first                                                     last
 *      [ header | data ] -> [ data in a cluster ] -> ... -> [ data | room ]
 *
 * The first mbuf of a chain has the packet header, which knows the length.  A
 * header can move only to an mbuf whose data lies outside of it, or that has none
 * yet, because it lies where the data would be.
 *
 * Locks.  None: a chain belongs to one CPU at a time.  Whether storage is shared is read
 * from its count (M_WRITABLE); a count of one cannot rise behind the owner's back.
 *
 * Deaths.  A chain is in its owner's hands alone, so it goes with a CPU that dies: its
 * mbufs and its share of clusters stay counted as used.  What other chains refer to is
 * untouched.  Nobody frees the chain of a dead CPU.
 *
 * Unlike NetBSD, whose m_ensure_contig and m_makewritable promise the same: here all calls
 * do, and `how` says for all of a call's requests whether others' caches are called in.
 */
import { bcopy, bytes_in } from '../machine/bytes.ts';
import { mem as mem_, memory_state, word_page } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import {
  M_EXT,
  M_PKTHDR,
  M_RDONLY,
  m_end,
  m_start,
  mb_root as mb_root_,
  mbuf as mbuf_,
  type mbuf_t,
  MCLBYTES,
  MHLEN,
  MINCLSIZE,
  MJUM16BYTES,
  MJUM9BYTES,
  MJUMPAGESIZE,
  MSIZE,
  MT_DATA,
  mtod,
} from '../h/mbuf.ts';
import {
  type slab_t,
  uma_slab as uma_slab_,
  uma_zone as uma_zone_,
  type zone_t,
} from '../h/uma.ts';
import { PK_MASK, PK_SLAB, vm_page as vm_page_ } from '../h/vm_page.ts';
import {
  m_clget,
  m_get,
  m_getcl as m_getcl_,
  m_gethdr,
  m_getjcl,
  mb,
  mbuf_put,
} from './kern_mbuf.ts';
import {
  M_TRAILINGSPACE,
  M_WRITABLE,
  m_align,
  m_copydata,
  m_free,
  m_freem,
  m_move_pkthdr,
  mb_dupcl,
} from './uipc_mbuf.ts';

// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const mb_root = mb_root_;
const vm_page = vm_page_;
const uma_slab = uma_slab_;
const uma_zone = uma_zone_;
const mbuf = mbuf_;
const m_getcl = m_getcl_;

const NONE = NULL as mbuf_t;

// --- memory ----------------------------------------------------------------------------------

/** An mbuf with a 2 KiB cluster; with none ready, one that packets nobody uses hold. */
export function m_getcl_any(how: number, header: boolean): mbuf_t {
  const m = m_getcl(how, MT_DATA, header ? M_PKTHDR : 0);
  if (m !== NONE) return m;
  const bare = header ? m_gethdr(how, MT_DATA) : m_get(how, MT_DATA);
  if (bare === NONE) return bare;
  m_clget(bare, how);
  if ((mbuf.flags[bare] & M_EXT) !== 0) return bare;
  mbuf_put(bare);
  return NONE;
}
/** An mbuf for up to n bytes; fewer fit if n is more than a page. */
function m_getone(how: number, n: number, header: boolean): mbuf_t {
  if (n > MCLBYTES) {
    const m = m_getjcl(how, MT_DATA, header ? M_PKTHDR : 0, MJUMPAGESIZE);
    if (m !== NONE) return m;
  }
  if (n >= MINCLSIZE) return m_getcl_any(how, header);
  return header ? m_gethdr(how, MT_DATA) : m_get(how, MT_DATA);
}
/** Empty mbufs with room for n bytes: all or nothing. n may be 0: one mbuf. */
export function m_getroom(how: number, n: number, header: boolean): mbuf_t {
  const first = m_getone(how, n, header);
  if (first === NONE) return NONE;
  let left = n - (m_end(first) - m_start(first));
  for (let last = first; left > 0; ) {
    const next = m_getone(how, left, false);
    if (next === NONE) {
      m_freem(first);
      return NONE;
    }
    mbuf.next[last] = next;
    last = next;
    left -= m_end(next) - m_start(next);
  }
  return first;
}
/** One empty mbuf with a packet header that holds n bytes, at most MJUM16BYTES. */
function m_getpiece(how: number, n: number): mbuf_t {
  if (n <= MHLEN) return m_gethdr(how, MT_DATA);
  if (n <= MCLBYTES) return m_getcl_any(how, true);
  const size = n <= MJUMPAGESIZE ? MJUMPAGESIZE : n <= MJUM9BYTES ? MJUM9BYTES : MJUM16BYTES;
  return m_getjcl(how, MT_DATA, M_PKTHDR, size);
}

// --- bytes in --------------------------------------------------------------------------------

/** Fills empty mbufs from `first` on with src from `at` on. Returns the last. */
export function m_fill(first: mbuf_t, src: Uint8Array, at: number, end: number): mbuf_t {
  let get = at;
  for (let m = first; ; m = mbuf.next[m]) {
    const n = Math.min(end - get, m_end(m) - mbuf.off[m]);
    bytes_in(mtod(m), src, get, n);
    mbuf.len[m] = n;
    get += n;
    if (mbuf.next[m] === NONE) return m;
  }
}
/** How many of n bytes have no room behind `last`, the end of a chain or NONE. */
export function m_lacking(last: mbuf_t, n: number): number {
  const here = last !== NONE && M_WRITABLE(last) ? M_TRAILINGSPACE(last) : 0;
  return Math.max(0, n - here);
}
/**
 * Appends src behind `last`: into its room, then into new mbufs.  Returns the
 * last mbuf then; NONE: no memory.  The packet length is left to the caller.
 */
export function m_append_keep(last: mbuf_t, src: Uint8Array, how: number): mbuf_t {
  const n = src.length;
  const here = Math.min(n, M_WRITABLE(last) ? M_TRAILINGSPACE(last) : 0);
  const more = here < n ? m_getroom(how, n - here, false) : NONE;
  if (here < n && more === NONE) return NONE;
  bytes_in(mtod(last) + mbuf.len[last], src, 0, here);
  mbuf.len[last] += here;
  if (more === NONE) return last;
  const end = m_fill(more, src, here, n);
  mbuf.next[last] = more;
  return end;
}
/** Puts src in front. Returns the first mbuf then; NONE: no memory. Counts the length. */
export function m_prepend_keep(first: mbuf_t, src: Uint8Array, how: number): mbuf_t {
  const n = src.length;
  const total = mbuf.plen[first] + n;
  if (M_WRITABLE(first) && mbuf.off[first] - m_start(first) >= n) {
    mbuf.off[first] -= n;
    mbuf.len[first] += n;
    bytes_in(mtod(first), src, 0, n);
    mbuf.plen[first] = total;
    return first;
  }
  const top = m_getroom(how, n, true);
  if (top === NONE) return NONE;
  m_move_header(top, first);
  // In one piece it goes to the end of its storage: there is room for more in front.
  if (mbuf.next[top] === NONE) m_align(top, n);
  const last = m_fill(top, src, 0, n);
  mbuf.next[last] = first;
  mbuf.plen[top] = total;
  return top;
}
/** Moves the packet header to an mbuf that has no data inside; what it may be used for stays. */
export function m_move_header(to: mbuf_t, from: mbuf_t): void {
  const rdonly = mbuf.flags[to] & M_RDONLY;
  m_move_pkthdr(to, from);
  mbuf.flags[to] = (mbuf.flags[to] & ~M_RDONLY) | rdonly;
}

// --- bytes off -------------------------------------------------------------------------------

/** Takes n bytes off mbufs without a header, and frees what gets empty. Returns the rest. */
function m_adj_plain(first: mbuf_t, n: number): mbuf_t {
  let m = first;
  let left = n;
  while (m !== NONE && left >= mbuf.len[m]) {
    left -= mbuf.len[m];
    m = m_free(m);
  }
  if (left > 0) {
    mbuf.off[m] += left;
    mbuf.len[m] -= left;
  }
  return m;
}
/** Takes n bytes off the head of a chain that has more, and frees what gets empty. */
export function m_adj_head(first: mbuf_t, n: number): mbuf_t {
  const total = mbuf.plen[first] - n;
  let top = first;
  let left = n;
  while (left > 0) {
    const count = Math.min(left, mbuf.len[top]);
    mbuf.off[top] += count;
    mbuf.len[top] -= count;
    left -= count;
    const next = mbuf.next[top];
    if (mbuf.len[top] > 0 || next === NONE) break;
    if ((mbuf.flags[next] & M_EXT) !== 0) {
      m_move_header(next, top);
      m_free(top);
      top = next;
    } else {
      // The header cannot move to data that lies in its mbuf: it stays, in an empty one.
      mbuf.next[top] = m_adj_plain(next, left);
      left = 0;
    }
  }
  mbuf.plen[top] = total;
  return top;
}

// --- one piece -------------------------------------------------------------------------------

/** Longest piece that pullup makes, bytes. */
export const M_PIECE_MAX = MJUM16BYTES;
/** Brings the first n bytes into the first mbuf. Returns that; NONE: no memory. */
export function m_pullup_keep(first: mbuf_t, n: number, how: number): mbuf_t {
  const have = mbuf.len[first];
  if (have >= n) return first;
  if (M_WRITABLE(first) && M_TRAILINGSPACE(first) >= n - have) {
    const next = mbuf.next[first];
    m_copydata(next, 0, n - have, mem.U8, mtod(first) + have);
    mbuf.len[first] = n;
    mbuf.next[first] = m_adj_plain(next, n - have);
    return first;
  }
  const top = m_getpiece(how, n);
  if (top === NONE) return NONE;
  m_move_header(top, first);
  m_copydata(first, 0, n, mem.U8, mtod(top));
  mbuf.len[top] = n;
  mbuf.next[top] = m_adj_plain(first, n);
  return top;
}

// --- references ------------------------------------------------------------------------------

/**
 * A chain of `n` bytes from `from` on: clusters are shared, what lies in an mbuf
 * is copied.  NONE: no memory.
 */
export function m_share(chain: mbuf_t, from: number, n: number, how: number): mbuf_t {
  const top = m_gethdr(how, MT_DATA);
  if (top === NONE) return NONE;
  mbuf.plen[top] = n;
  let at = chain;
  let skip = from;
  let to = top;
  for (let left = n; left > 0; ) {
    while (skip >= mbuf.len[at]) {
      skip -= mbuf.len[at];
      at = mbuf.next[at];
    }
    const outside = (mbuf.flags[at] & M_EXT) !== 0;
    let count = Math.min(left, mbuf.len[at] - skip);
    // Behind the header less fits than in an mbuf without one: the rest goes into the next.
    if (!outside) count = Math.min(count, m_end(to) - mbuf.off[to]);
    if (outside) {
      mb_dupcl(to, at);
      mbuf.off[to] = mbuf.off[at] + skip;
    } else bcopy(mtod(at) + skip, mtod(to), count);
    mbuf.len[to] = count;
    left -= count;
    skip += count;
    if (left === 0) break;
    const next = m_get(how, MT_DATA);
    if (next === NONE) {
      m_freem(top);
      return NONE;
    }
    mbuf.next[to] = next;
    to = next;
  }
  return top;
}
/** Whether all bytes from `from` to `to` may be written. */
export function m_writable(chain: mbuf_t, from: number, to: number): boolean {
  let at = 0;
  for (let m = chain; m !== NONE && at < to; m = mbuf.next[m]) {
    const end = at + mbuf.len[m];
    if (end > from && at < to && !M_WRITABLE(m)) return false;
    at = end;
  }
  return true;
}
/** Bytes of the mbufs that `m_makewritable` would replace. */
export function m_shared_bytes(chain: mbuf_t, from: number, to: number): number {
  let at = 0;
  let n = 0;
  for (let m = chain; m !== NONE && at < to; m = mbuf.next[m]) {
    const end = at + mbuf.len[m];
    if (end > from && end > at && !M_WRITABLE(m)) n += mbuf.len[m];
    at = end;
  }
  return n;
}
/**
 * Makes the bytes from `from` to `to` the chain's own: mbufs whose storage others
 * refer to are replaced by copies.  Returns the first mbuf; NONE: no memory, and
 * nothing was replaced.
 */
export function m_makewritable(chain: mbuf_t, from: number, to: number, how: number): mbuf_t {
  const shared: { m: mbuf_t; prev: mbuf_t; copy: mbuf_t }[] = [];
  let at = 0;
  let prev = NONE;
  for (let m = chain; m !== NONE && at < to; m = mbuf.next[m]) {
    const end = at + mbuf.len[m];
    if (end > from && end > at && !M_WRITABLE(m)) {
      const copy = m_getroom(how, mbuf.len[m], (mbuf.flags[m] & M_PKTHDR) !== 0);
      if (copy === NONE) {
        for (const s of shared) m_freem(s.copy);
        return NONE;
      }
      shared.push({ m, prev, copy });
    }
    at = end;
    prev = m;
  }
  let top = chain;
  // From behind: an mbuf before a replaced one is still the one that was seen.
  for (const s of shared.reverse()) {
    if ((mbuf.flags[s.m] & M_PKTHDR) !== 0) m_move_header(s.copy, s.m);
    const data = mtod(s.m);
    const last = m_fill(s.copy, mem.U8, data, data + mbuf.len[s.m]);
    mbuf.next[last] = m_free(s.m);
    if (s.prev === NONE) top = s.copy;
    else mbuf.next[s.prev] = s.copy;
  }
  return top;
}
/** The last mbuf. */
export function m_last(m: mbuf_t): mbuf_t {
  let last = m;
  while (mbuf.next[last] !== NONE) last = mbuf.next[last];
  return last;
}
/** Pieces that have bytes from `from` to `to`. */
export function m_pieces(chain: mbuf_t, from: number, to: number): number {
  let n = 0;
  let at = 0;
  for (let m = chain; m !== NONE && at < to; m = mbuf.next[m]) {
    at += mbuf.len[m];
    if (at > from) n++;
  }
  return n;
}
/** Whether the bytes stand in the chain from byte `off` of m on; there are as many. */
function m_stands(m: mbuf_t, off: number, bytes: Uint8Array): boolean {
  const U8 = mem.U8;
  let at = m;
  let i = off;
  for (const byte of bytes) {
    while (i >= mbuf.len[at]) {
      i -= mbuf.len[at];
      at = mbuf.next[at];
    }
    if (U8[mtod(at) + i] !== byte) return false;
    i++;
  }
  return true;
}
/** Where `bytes`, one at least, first stand from `from` up to `end`; -1: nowhere. */
export function m_find(chain: mbuf_t, from: number, end: number, bytes: Uint8Array): number {
  let start = 0;
  for (let m = chain; m !== NONE; m = mbuf.next[m]) {
    const n = mbuf.len[m];
    const piece = mem.U8.subarray(mtod(m), mtod(m) + (start + n > from ? n : 0));
    for (let at = Math.max(0, from - start); piece.length > 0; at++) {
      at = piece.indexOf(bytes[0], at);
      if (at < 0 || start + at + bytes.length > end) break;
      if (m_stands(m, at, bytes)) return start + at;
    }
    start += n;
  }
  return -1;
}
/** Whether a number is the byte address of an item of the zone of mbufs. */
export function m_valid(at: number): boolean {
  if (!Number.isSafeInteger(at) || at <= 0 || at % MSIZE !== 0 || at + MSIZE > memory_state.size)
    return false;
  const page = word_page(at / 4);
  if ((vm_page.info[page] & PK_MASK) !== PK_SLAB) return false;
  const s = vm_page.owner[page] as slab_t;
  return uma_slab.keg[s] === uma_zone.keg[mb_root.mbuf[mb()] as zone_t];
}
