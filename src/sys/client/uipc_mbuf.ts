/*
 * uipc_mbuf: mbufs are given back, shared and copied.
 *
 * Sharing.  Several mbufs may refer to one cluster; a count tells how many.  An
 * owner that reads 1 is the only one, and nobody else can make it more; so the
 * count goes from 1 to 2 by a plain store and otherwise atomically.  Storage
 * that several share, or that is marked M_RDONLY, is not to be written
 * (M_WRITABLE).  A chain itself has one owner at a time; handing it to another
 * thread is handing over its first mbuf.
 *
 * The release that drops the count to zero frees the storage: a cluster of the packet zone
 * goes back there with the mbuf that dropped it, other clusters to their zone,
 * storage from elsewhere to its free routine (a numbered vector).
 *
 * Bytes are copied from and to a Uint8Array and a position in it; for kernel
 * memory that is mem.U8 and a byte address.
 *
 * Read next: uipc_mbuf_shape.ts (pullup, split, adj …), uipc_mbuf_tag.ts.
 */
import {
  atomic_add as atomic_add_,
  atomic_store as atomic_store_,
  sim_point,
} from '../machine/atomic.ts';
import { bcopy, bytes_fill, bytes_in, bytes_out } from '../machine/bytes.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { mem as mem_ } from '../machine/memory.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { NULL as NULL_ } from '../machine/struct.ts';
import { vector_call } from '../machine/vectors.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import {
  EXT_CLUSTER,
  EXT_EXTREF,
  EXT_JUMBO16,
  EXT_JUMBO9,
  EXT_JUMBOP,
  EXT_PACKET as EXT_PACKET_,
  M_COPYALL,
  M_COPYFLAGS as M_COPYFLAGS_,
  M_EOR,
  M_EXT as M_EXT_,
  M_NOFREE as M_NOFREE_,
  M_PKTDAT as M_PKTDAT_,
  M_PKTHDR as M_PKTHDR_,
  M_RDONLY as M_RDONLY_,
  m_end,
  m_start,
  type m_tag_t,
  mb_root as mb_root_,
  mbuf as mbuf_,
  type mbuf_t,
  MCLBYTES,
  MHLEN,
  MINCLSIZE,
  MJUMPAGESIZE,
  MLEN,
  MT_DATA,
  mtod,
} from '../h/mbuf.ts';
import type { zone_t } from '../h/uma.ts';
import { uma_zalloc, uma_zfree, uma_zfree_arg } from '../uma/uma_core.ts';
import {
  m_get,
  m_getcl,
  m_gethdr,
  m_getjcl,
  m_getzone,
  mb,
  mbuf_put as mbuf_put_,
  mbuf_take as mbuf_take_,
  packet_put as packet_put_,
} from './kern_mbuf.ts';
import { m_tag_copy_chain, m_tag_delete_chain } from './uipc_mbuf_tag.ts';

// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
const mb_root = mb_root_;
const mbuf = mbuf_;
const opt = opt_;
const M_EXT = M_EXT_;
const M_PKTHDR = M_PKTHDR_;
const M_NOFREE = M_NOFREE_;
const M_RDONLY = M_RDONLY_;
const EXT_PACKET = EXT_PACKET_;
const M_COPYFLAGS = M_COPYFLAGS_;
const M_PKTDAT = M_PKTDAT_;
const NULL = NULL_;
const mbuf_put = mbuf_put_;
const mbuf_take = mbuf_take_;
const packet_put = packet_put_;
const mem = mem_;
const atomic_add = atomic_add_;
const atomic_store = atomic_store_;

const NONE = NULL as mbuf_t;

export const m_mcfail = counter_u64('kern.ipc.m_mcfail', 'Copies of chains that found no memory');
export const m_mpfail = counter_u64('kern.ipc.m_mpfail', 'm_pullup calls that failed');

// --- what may be written, and where there is room ------------------------------------------------

/**
 * How many mbufs refer to the storage with this count, by a plain load: 1 is
 * always true, because then the caller's is the only one and nobody else can add
 * another; more may be out of date.
 */
function mbuf_refs(count: number): number {
  if (opt.SIM) sim_point(count);
  return mem.I32[count];
}
/** Whether the data of m may be written: nobody else refers to its storage. */
export function M_WRITABLE(m: mbuf_t): boolean {
  const flags = mbuf.flags[m];
  if ((flags & M_RDONLY) !== 0) return false;
  return (flags & M_EXT) === 0 || mbuf_refs(mbuf.ext_ref[m]) === 1;
}
/** Bytes free in front of the data of m. */
export function M_LEADINGSPACE(m: mbuf_t): number {
  if ((mbuf.flags[m] & M_EXT) !== 0 && !M_WRITABLE(m)) return 0;
  return mbuf.off[m] - m_start(m);
}
/** Bytes free behind it. */
export function M_TRAILINGSPACE(m: mbuf_t): number {
  if ((mbuf.flags[m] & M_EXT) !== 0 && !M_WRITABLE(m)) return 0;
  return m_end(m) - mbuf.off[m] - mbuf.len[m];
}
/** Places `len` bytes of data yet to come at the end of m's storage, on an 8-byte boundary. */
export function m_align(m: mbuf_t, len: number): void {
  mbuf.off[m] = m_start(m) + ((m_end(m) - m_start(m) - len) & ~7);
}

// --- giving back ---------------------------------------------------------------------------------

/** Gives one mbuf back. Returns the next of its chain. */
export function m_free(m: mbuf_t): mbuf_t {
  const next = mbuf.next[m];
  const flags = mbuf.flags[m];
  if ((flags & M_NOFREE) !== 0) m_empty(m, flags);
  else if ((flags & M_EXT) === 0) mbuf_put(m);
  else {
    const count = mbuf.ext_ref[m];
    if (mbuf_refs(count) !== 1 && atomic_add(count, -1) !== 1) {
      mbuf.flags[m] = flags & ~M_EXT;
      mbuf_put(m);
    } else ext_last(m, flags, count);
  }
  return next;
}
/** Gives a whole chain back. NULL is none. */
export function m_freem(m: mbuf_t): void {
  let at = m;
  while (at !== NONE) at = m_free(at);
}
/** Gives m back with its storage, which nobody else refers to any more. */
function ext_last(m: mbuf_t, flags: number, count: number): void {
  if (mbuf.ext_type[m] === EXT_PACKET) {
    mem.I32[count] = 1;
    packet_put(m);
    return;
  }
  storage_free(m, count);
  mbuf.flags[m] = flags & ~M_EXT;
  mbuf_put(m);
}
/** Takes from an mbuf that somebody keeps (M_NOFREE) its tags and its part of the storage. */
function m_empty(m: mbuf_t, flags: number): void {
  if ((flags & M_PKTHDR) !== 0) m_tag_delete_chain(m);
  if ((flags & M_EXT) === 0) return;
  const count = mbuf.ext_ref[m];
  if (mbuf_refs(count) === 1 || atomic_add(count, -1) === 1) storage_free(m, count);
  mbuf.flags[m] = flags & ~M_EXT;
  mbuf.ext_free[m] = 0;
  mbuf.ext_ref[m] = 0;
  mbuf.ext_size[m] = 0;
  mbuf.ext_type[m] = 0;
  mbuf.buf[m] = m;
}
function storage_free(m: mbuf_t, count: number): void {
  const type = mbuf.ext_type[m];
  switch (type) {
    case EXT_CLUSTER:
    case EXT_PACKET:
    case EXT_JUMBOP:
    case EXT_JUMBO9:
    case EXT_JUMBO16:
      return uma_zfree_arg(m_getzone(mbuf.ext_size[m]), mbuf.buf[m], NULL);
    case EXT_EXTREF:
      break;
    default:
      uma_zfree(mb_root.ext_refcnt[mb()] as zone_t, count);
  }
  const free = mbuf.ext_free[m];
  if (free !== 0) {
    vector_call<(a: number, b: number) => void>(free)(mbuf.ext_arg1[m], mbuf.ext_arg2[m]);
  }
}

// --- storage from elsewhere, and shared storage -------------------------------------------------

/**
 * Makes `size` bytes from word `buf` on the storage of m.  When the last mbuf
 * lets go of it, the vector `freef` is called with the two arguments.  `type`
 * is no cluster's.  EXT_EXTREF: the count is the caller's (m_extaddref).
 * Where there is no memory for the count, M_EXT stays clear.
 */
export function m_extadd(
  m: mbuf_t,
  buf: number,
  size: number,
  freef: number,
  arg1: number,
  arg2: number,
  flags: number,
  type: number,
): void {
  if (type === EXT_CLUSTER) panic('m_extadd: clusters come from m_clget');
  const count =
    type === EXT_EXTREF
      ? mbuf.ext_ref[m]
      : uma_zalloc(mb_root.ext_refcnt[mb()] as zone_t, M_NOWAIT);
  if (count === NULL) return;
  atomic_store(count, 1);
  ext_set(m, buf, size, count, flags);
  mbuf.ext_free[m] = freef;
  mbuf.ext_arg1[m] = arg1;
  mbuf.ext_arg2[m] = arg2;
  mbuf.ext_type[m] = type;
}
/** Refers to storage whose count (a word) somebody else keeps; the count goes up. */
export function m_extaddref(
  m: mbuf_t,
  buf: number,
  size: number,
  count: number,
  freef: number,
  arg1: number,
  arg2: number,
): void {
  atomic_add(count, 1);
  ext_set(m, buf, size, count, 0);
  mbuf.ext_free[m] = freef;
  mbuf.ext_arg1[m] = arg1;
  mbuf.ext_arg2[m] = arg2;
  mbuf.ext_type[m] = EXT_EXTREF;
}
function ext_set(m: mbuf_t, buf: number, size: number, count: number, flags: number): void {
  mbuf.flags[m] |= M_EXT | flags;
  mbuf.buf[m] = buf;
  mbuf.off[m] = 0;
  mbuf.ext_size[m] = size;
  mbuf.ext_ref[m] = count;
}
/** Lets n refer to the storage of m as well. n keeps its place in the data to itself. */
export function mb_dupcl(n: mbuf_t, m: mbuf_t): void {
  ext_refer(n, m);
  mbuf.flags[n] |= M_EXT | (mbuf.flags[m] & M_RDONLY);
}
function ext_refer(n: mbuf_t, m: mbuf_t): void {
  const count = mbuf.ext_ref[m];
  if (mbuf_refs(count) === 1) mem.I32[count] = 2;
  else atomic_add(count, 1);
  mbuf.buf[n] = mbuf.buf[m];
  const free = mbuf.ext_free[m];
  mbuf.ext_free[n] = free;
  if (free !== 0) {
    mbuf.ext_arg1[n] = mbuf.ext_arg1[m];
    mbuf.ext_arg2[n] = mbuf.ext_arg2[m];
  }
  mbuf.ext_size[n] = mbuf.ext_size[m];
  mbuf.ext_ref[n] = count;
  mbuf.ext_type[n] = mbuf.ext_type[m];
}

// --- packet headers ------------------------------------------------------------------------------

function pkthdr_copy(to: mbuf_t, from: mbuf_t): void {
  mbuf.flags[to] = (mbuf.flags[from] & M_COPYFLAGS) | (mbuf.flags[to] & M_EXT);
  if ((mbuf.flags[to] & M_EXT) === 0) {
    mbuf.buf[to] = to;
    mbuf.off[to] = M_PKTDAT;
  }
  pkthdr_fields(to, from);
}
/** All of a packet header but its flags and tags. */
function pkthdr_fields(to: mbuf_t, from: mbuf_t): void {
  mbuf.rcvif[to] = mbuf.rcvif[from];
  mbuf.header[to] = mbuf.header[from];
  mbuf.plen[to] = mbuf.plen[from];
  mbuf.flowid[to] = mbuf.flowid[from];
  mbuf.csum_flags[to] = mbuf.csum_flags[from];
  mbuf.csum_data[to] = mbuf.csum_data[from];
  mbuf.tso_vtag[to] = mbuf.tso_vtag[from];
}
/** Moves the packet header, tags included, to an mbuf that has none and no data yet. */
export function m_move_pkthdr(to: mbuf_t, from: mbuf_t): void {
  if (mbuf.flags[to] & M_PKTHDR) m_tag_delete_chain(to);
  const tags = mbuf.tags[from];
  pkthdr_copy(to, from);
  mbuf.tags[to] = tags;
  mbuf.tags[from] = NULL as m_tag_t;
  mbuf.flags[from] &= ~M_PKTHDR;
}
/** Gives `to` a copy of the packet header, tags included. 0: no memory for the tags. */
export function m_dup_pkthdr(to: mbuf_t, from: mbuf_t, how: number): number {
  if (mbuf.flags[to] & M_PKTHDR) m_tag_delete_chain(to);
  pkthdr_copy(to, from);
  mbuf.tags[to] = NULL as m_tag_t;
  return mbuf.tags[from] === NULL ? 1 : m_tag_copy_chain(to, from, how);
}
/** Takes packet headers off: of all mbufs, or of those behind the first. */
export function m_demote(m: mbuf_t, all: boolean): void {
  for (let at = all ? m : mbuf.next[m]; at !== NONE; at = mbuf.next[at]) {
    if ((mbuf.flags[at] & M_PKTHDR) === 0) continue;
    m_tag_delete_chain(at);
    mbuf.flags[at] &= ~M_PKTHDR;
  }
}

// --- chains of a wanted length -------------------------------------------------------------------

/**
 * A chain with room for `len` bytes, or the chain m made longer by it.  Of the
 * flags only M_PKTHDR (not with m) and M_EOR (for the last mbuf) count.  All
 * or nothing: NULL when memory runs out, and m is as before.
 */
export function m_getm2(m: mbuf_t, len: number, how: number, type: number, given: number): mbuf_t {
  let flags = given & (M_PKTHDR | M_EOR);
  if (m !== NONE) flags &= ~M_PKTHDR;
  let first = NONE;
  let last = NONE;
  for (let left = len; left > 0; ) {
    const header = flags & M_PKTHDR;
    const n =
      left > MCLBYTES
        ? m_getjcl(how, type, header, MJUMPAGESIZE)
        : left >= MINCLSIZE
          ? m_getcl(how, type, header)
          : header !== 0
            ? m_gethdr(how, type)
            : m_get(how, type);
    if (n === NONE) {
      m_freem(first);
      return NONE;
    }
    if (first === NONE) first = n;
    else mbuf.next[last] = n;
    last = n;
    flags &= ~M_PKTHDR;
    left -= m_end(n) - m_start(n);
  }
  if (last !== NONE && flags & M_EOR) mbuf.flags[last] |= M_EOR;
  if (m === NONE) return first;
  let tail = m;
  while (mbuf.next[tail] !== NONE) tail = mbuf.next[tail];
  mbuf.next[tail] = first;
  if (first !== NONE) mbuf.flags[tail] &= ~M_EOR;
  return m;
}
/** m_getm2 for a packet. */
export function m_getm(m: mbuf_t, len: number, how: number, type: number): mbuf_t {
  return m_getm2(m, len, how, type, M_PKTHDR);
}

// --- copies --------------------------------------------------------------------------------------

function no_space(top: mbuf_t): mbuf_t {
  m_freem(top);
  counter_add(m_mcfail, 1);
  return NONE;
}
/** Whether a chain has at least `end` bytes. */
function reaches(m: mbuf_t, end: number): boolean {
  let left = end;
  for (let at = m; at !== NONE && left > 0; at = mbuf.next[at]) left -= mbuf.len[at];
  return left <= 0;
}
/**
 * A copy of `len` bytes from `off` on, M_COPYALL: all from there.  Clusters are
 * shared, the copy of them is not to be written.  The packet header is copied
 * when off is 0.  NULL: no memory.  Panics when the chain is shorter.
 */
export function m_copym(m: mbuf_t, off: number, len: number, how: number): mbuf_t {
  if (off < 0 || len < 0) panic('m_copym: negative offset or length', off, len);
  if (opt.INVARIANTS && len !== M_COPYALL && !reaches(m, off + len)) {
    panic('m_copym: the chain ends before', off + len);
  }
  let skip = off;
  let at = m;
  while (skip > 0) {
    if (at === NONE) panic('m_copym: offset behind the end', off);
    if (skip < mbuf.len[at]) break;
    skip -= mbuf.len[at];
    at = mbuf.next[at];
  }
  let header = off === 0 && m !== NONE && (mbuf.flags[m] & M_PKTHDR) !== 0;
  let top = NONE;
  let last = NONE;
  for (let left = len; left > 0; at = mbuf.next[at]) {
    if (at === NONE) {
      if (len !== M_COPYALL) panic('m_copym: length behind the end', off, len);
      break;
    }
    const n = header ? m_gethdr(how, mbuf.type[at]) : m_get(how, mbuf.type[at]);
    if (n === NONE) return no_space(top);
    if (last === NONE) top = n;
    else mbuf.next[last] = n;
    last = n;
    if (header) {
      if (m_dup_pkthdr(n, m, how) === 0) return no_space(top);
      if (len !== M_COPYALL) mbuf.plen[n] = len;
      header = false;
    }
    const count = Math.min(left, mbuf.len[at] - skip);
    mbuf_share_or_copy(n, at, skip, count);
    if (left !== M_COPYALL) left -= count;
    skip = 0;
  }
  return top;
}
/** n gets `count` bytes of m from `skip` on: by reference to a cluster, else by copying. */
function mbuf_share_or_copy(n: mbuf_t, m: mbuf_t, skip: number, count: number): void {
  mbuf.len[n] = count;
  if ((mbuf.flags[m] & M_EXT) !== 0) {
    mb_dupcl(n, m);
    mbuf.off[n] = mbuf.off[m] + skip;
  } else {
    // What an mbuf without a header holds may be too long for one that has to have one.
    bcopy(mtod(m) + skip, mtod(n), count);
  }
}
/** A copy of a whole packet; every mbuf keeps the place of its data. NULL: no memory. */
export function m_copypacket(m: mbuf_t, how: number): mbuf_t {
  let top = NONE;
  let last = NONE;
  for (let at = m; at !== NONE; at = mbuf.next[at]) {
    const n = mbuf_take(how);
    if (n === NONE) return no_space(top);
    mbuf_copy(n, at, last === NONE ? M_COPYFLAGS : M_RDONLY);
    if (last !== NONE) mbuf.next[last] = n;
    else {
      top = n;
      if ((mbuf.flags[n] & M_PKTHDR) !== 0 && !pkthdr_new(n, m, how)) return no_space(top);
    }
    last = n;
  }
  return top;
}
/**
 * Makes n, just taken, a copy of m: data outside by reference.  Every field is
 * written once, which is what a copy costs.  Of the flags it takes `keep` along.
 */
function mbuf_copy(n: mbuf_t, m: mbuf_t, keep: number): void {
  const flags = mbuf.flags[m];
  mbuf.next[n] = NONE;
  mbuf.nextpkt[n] = NONE;
  mbuf.off[n] = mbuf.off[m];
  mbuf.len[n] = mbuf.len[m];
  mbuf.flags[n] = flags & (keep | M_EXT);
  mbuf.type[n] = mbuf.type[m];
  mbuf.site[n] = 0;
  if ((flags & M_EXT) !== 0) ext_refer(n, m);
  else data_copy(n, m);
}
function data_copy(n: mbuf_t, m: mbuf_t): void {
  mbuf.buf[n] = n;
  bcopy(m * 4 + mbuf.off[m], n * 4 + mbuf.off[m], mbuf.len[m]);
}
function pkthdr_new(to: mbuf_t, from: mbuf_t, how: number): boolean {
  pkthdr_fields(to, from);
  mbuf.tags[to] = NULL as m_tag_t;
  return mbuf.tags[from] === NULL || m_tag_copy_chain(to, from, how) !== 0;
}
/** A copy of a packet that shares nothing and may be written. NULL: no memory. */
export function m_dup(m: mbuf_t, how: number): mbuf_t {
  if (m === NONE) return NONE;
  let top = NONE;
  let last = NONE;
  let at = m;
  let skip = 0;
  const header = (mbuf.flags[m] & M_PKTHDR) !== 0;
  let left = header ? mbuf.plen[m] : m_length(m).len;
  do {
    const n = left >= MINCLSIZE ? m_getcl(how, mbuf.type[m], 0) : m_get(how, mbuf.type[m]);
    if (n === NONE) return no_space(top);
    if (top === NONE) {
      top = n;
      if (header && m_dup_pkthdr(n, m, how) === 0) return no_space(top);
      mbuf.flags[n] &= ~M_RDONLY; // what the header said of the other storage
    } else mbuf.next[last] = n;
    last = n;
    const room = m_end(n) - mbuf.off[n];
    while (mbuf.len[n] < room && at !== NONE) {
      const count = Math.min(room - mbuf.len[n], mbuf.len[at] - skip);
      bcopy(mtod(at) + skip, mtod(n) + mbuf.len[n], count);
      mbuf.len[n] += count;
      skip += count;
      left -= count;
      if (skip < mbuf.len[at]) continue;
      at = mbuf.next[at];
      skip = 0;
    }
  } while (left > 0 && at !== NONE);
  return top;
}

// --- bytes in and out ----------------------------------------------------------------------------

/** Copies `len` bytes from `off` on into `to` at `at`. Panics when the chain is shorter. */
export function m_copydata(m: mbuf_t, off: number, len: number, to: Uint8Array, at: number): void {
  if (off < 0 || len < 0) panic('m_copydata: negative offset or length', off, len);
  let n = m;
  let skip = off;
  while (skip > 0) {
    if (n === NONE) panic('m_copydata: offset behind the end', off);
    if (skip < mbuf.len[n]) break;
    skip -= mbuf.len[n];
    n = mbuf.next[n];
  }
  for (let left = len, put = at; left > 0; n = mbuf.next[n]) {
    if (n === NONE) panic('m_copydata: length behind the end', off, len);
    const count = Math.min(mbuf.len[n] - skip, left);
    const from = mtod(n) + skip;
    bytes_out(to, put, from, count);
    left -= count;
    put += count;
    skip = 0;
  }
}
/**
 * Writes `len` bytes of `src` from `at` on into the chain at `off`.  A chain
 * that is too short grows, first into the room of its last mbuf; a hole is
 * zero.  The packet length follows.  Where memory runs out, the rest is
 * dropped without a word; 0 then, else 1.
 */
export function m_copyback(
  m: mbuf_t,
  off: number,
  len: number,
  src: Uint8Array,
  at: number,
): number {
  if (off < 0 || len < 0) panic('m_copyback: negative offset or length', off, len);
  let n = m;
  let skip = off;
  let total = 0;
  let whole = 1;
  while (skip > mbuf.len[n] || (skip === mbuf.len[n] && mbuf.next[n] !== NONE)) {
    // Behind the last mbuf: grow into its room, then by zeroed mbufs.
    if (mbuf.next[n] === NONE) {
      hole_grow(n, skip + len);
      if (skip <= mbuf.len[n]) break;
      const more = copyback_more(n, skip - mbuf.len[n] + len);
      if (more === NONE) {
        whole = 0;
        break;
      }
    }
    skip -= mbuf.len[n];
    total += mbuf.len[n];
    n = mbuf.next[n];
  }
  for (let left = len, get = at; whole !== 0 && left > 0; ) {
    if (mbuf.next[n] === NONE && skip + left > mbuf.len[n]) hole_grow(n, skip + left);
    const count = Math.min(mbuf.len[n] - skip, left);
    bytes_in(mtod(n) + skip, src, get, count);
    get += count;
    left -= count;
    skip += count;
    if (left === 0) break;
    total += mbuf.len[n];
    skip = 0;
    if (mbuf.next[n] === NONE && copyback_more(n, left) === NONE) {
      whole = 0;
      n = NONE;
      break;
    }
    n = mbuf.next[n];
  }
  if (n !== NONE) total += mbuf.len[n];
  if (mbuf.flags[m] & M_PKTHDR && mbuf.plen[m] < total) mbuf.plen[m] = total;
  return whole;
}
/** Makes the data of n up to `end` bytes long, as far as there is room; what is new is zero. */
function hole_grow(n: mbuf_t, end: number): void {
  const grow = Math.min(end - mbuf.len[n], M_TRAILINGSPACE(n));
  if (grow <= 0 || !M_WRITABLE(n)) return;
  const from = mtod(n) + mbuf.len[n];
  bytes_fill(from, 0, grow);
  mbuf.len[n] += grow;
}
/** Another zeroed mbuf behind n, for up to `want` bytes. */
function copyback_more(n: mbuf_t, want: number): mbuf_t {
  const more = m_get(M_NOWAIT, mbuf.type[n]);
  if (more === NONE) return more;
  hole_grow(more, Math.min(MLEN, want));
  mbuf.next[n] = more;
  return more;
}
/**
 * Appends `len` bytes of `src` from `at` on: into the room of the last mbuf,
 * then into new mbufs.  1 if all were stored, else 0; the packet length goes up
 * by what was.  Nothing is appended, and 0, if `len` is negative.
 */
export function m_append(m: mbuf_t, len: number, src: Uint8Array, at: number): number {
  let n = m;
  while (mbuf.next[n] !== NONE) n = mbuf.next[n];
  let left = len;
  let get = at;
  for (;;) {
    const count = M_WRITABLE(n) ? Math.min(left, M_TRAILINGSPACE(n)) : 0;
    if (count > 0) {
      bytes_in(mtod(n) + mbuf.len[n], src, get, count);
      mbuf.len[n] += count;
      get += count;
      left -= count;
    }
    if (left <= 0) break;
    const more = m_get(M_NOWAIT, mbuf.type[n]);
    if (more === NONE) break;
    mbuf.next[n] = more;
    n = more;
  }
  if (mbuf.flags[m] & M_PKTHDR) mbuf.plen[m] += len - left;
  return left === 0 ? 1 : 0;
}
/** A packet with the bytes `at` to `at + len` of src behind `off` free bytes. NULL: no memory. */
export function m_devget(
  src: Uint8Array,
  at: number,
  len: number,
  off: number,
  rcvif: number,
): mbuf_t {
  if (len < 0 || off < 0 || off > MHLEN) return NONE;
  let top = NONE;
  let last = NONE;
  let left = len;
  let get = at;
  do {
    const header = top === NONE;
    const want = header ? left + off : left;
    const n =
      want >= MINCLSIZE
        ? m_getcl(M_NOWAIT, MT_DATA, header ? M_PKTHDR : 0)
        : header
          ? m_gethdr(M_NOWAIT, MT_DATA)
          : m_get(M_NOWAIT, MT_DATA);
    if (n === NONE) {
      m_freem(top);
      return NONE;
    }
    if (header) {
      top = n;
      mbuf.rcvif[n] = rcvif;
      mbuf.plen[n] = len;
      mbuf.off[n] += off;
    } else mbuf.next[last] = n;
    last = n;
    const count = Math.min(left, m_end(n) - mbuf.off[n]);
    bytes_in(mtod(n), src, get, count);
    mbuf.len[n] = count;
    get += count;
    left -= count;
  } while (left > 0);
  return top;
}
// --- walking -------------------------------------------------------------------------------------

/** Length of a chain, and its last mbuf. */
export function m_length(m: mbuf_t): { len: number; last: mbuf_t } {
  let len = 0;
  let last = NONE;
  for (let at = m; at !== NONE; at = mbuf.next[at]) {
    len += mbuf.len[at];
    last = at;
  }
  return { len, last };
}
/** Stores the length of a packet in its header, and returns it. */
export function m_fixhdr(m: mbuf_t): number {
  let len = 0;
  for (let at = m; at !== NONE; at = mbuf.next[at]) len += mbuf.len[at];
  mbuf.plen[m] = len;
  return len;
}
/**
 * Calls `visit` with the byte address and length of each piece of `len` bytes
 * from `off` on, until it returns something but 0; that is returned.
 */
export function m_apply(
  m: mbuf_t,
  off: number,
  len: number,
  visit: (at: number, len: number) => number,
): number {
  if (off < 0 || len < 0) panic('m_apply: negative offset or length', off, len);
  let n = m;
  let skip = off;
  while (skip > 0) {
    if (n === NONE) panic('m_apply: offset behind the end', off);
    if (skip < mbuf.len[n]) break;
    skip -= mbuf.len[n];
    n = mbuf.next[n];
  }
  for (let left = len; left > 0; n = mbuf.next[n]) {
    if (n === NONE) panic('m_apply: length behind the end', off, len);
    const count = Math.min(mbuf.len[n] - skip, left);
    const stop = visit(mtod(n) + skip, count);
    if (stop !== 0) return stop;
    left -= count;
    skip = 0;
  }
  return 0;
}
/**
 * The mbuf that holds byte `loc`, and the byte's place in it.  Exactly at the
 * end of the chain: the last mbuf and its length.  NULL: behind the end.
 */
export function m_getptr(m: mbuf_t, loc: number): { m: mbuf_t; off: number } {
  let left = loc;
  for (let at = m; left >= 0 && at !== NONE; at = mbuf.next[at]) {
    if (mbuf.len[at] > left) return { m: at, off: left };
    left -= mbuf.len[at];
    if (mbuf.next[at] === NONE && left === 0) return { m: at, off: mbuf.len[at] };
  }
  return { m: NONE, off: 0 };
}

/**
 * What is wrong with a packet, '' if nothing: data inside its storage, one
 * packet header at most, first, with the right length.
 */
export function m_sanity(m: mbuf_t): string {
  let total = 0;
  for (let at = m; at !== NONE; at = mbuf.next[at]) {
    const flags = mbuf.flags[at];
    const name = `mbuf ${at * 4}`;
    if (mbuf.off[at] < m_start(at)) return `${name}: data begins before its storage`;
    if (mbuf.len[at] < 0) return `${name}: length ${mbuf.len[at]}`;
    if (mbuf.off[at] + mbuf.len[at] > m_end(at)) return `${name}: data ends behind its storage`;
    if ((flags & M_EXT) === 0 && mbuf.buf[at] !== at) return `${name}: storage is not its own`;
    if (flags & M_EXT && mbuf_refs(mbuf.ext_ref[at]) < 1) return `${name}: count below 1`;
    if (at !== m && flags & M_PKTHDR) return `${name}: a packet header inside the packet`;
    if (at !== m && mbuf.nextpkt[at] !== NONE) return `${name}: nextpkt inside the packet`;
    total += mbuf.len[at];
  }
  if (mbuf.flags[m] & M_PKTHDR && mbuf.plen[m] !== total) {
    return `mbuf ${m * 4}: packet length ${mbuf.plen[m]}, data ${total}`;
  }
  return '';
}
