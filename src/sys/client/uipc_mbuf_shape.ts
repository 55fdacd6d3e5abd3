/*
 * uipc_mbuf_shape: chains change their shape, not their bytes.
 *
 *      M_PREPEND m_adj                bytes in front, bytes off the ends
 *      m_pullup m_copyup m_pulldown   bytes that must lie in one piece
 *      m_split m_cat                  one packet from or into two
 *      m_defrag m_collapse m_unshare  fewer mbufs; mbufs that may be written
 *
 * A call that runs out of memory in the middle says what becomes of the chain:
 * freed (prepend, pullup, copyup, pulldown, unshare) or kept (split, defrag,
 * collapse).  Freed is right where the caller could do nothing with what is
 * left of it.
 */
import { counter_add } from '../machine/counter.ts';
import { bcopy } from '../machine/bytes.ts';
import { mem } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { NULL } from '../machine/struct.ts';
import { CTLFLAG_RWTUN, sysctl_get, sysctl_int } from '../machine/sysctl_decl.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import {
  EXT_CLUSTER,
  M_COPYFLAGS,
  M_EXT,
  M_PKTHDR,
  M_RDONLY,
  m_end,
  mbuf,
  type mbuf_t,
  MCLBYTES,
  MHLEN,
  MLEN,
  MSIZE,
  MT_DATA,
  mtod,
} from '../h/mbuf.ts';
import { m_get, m_getcl, m_gethdr } from './kern_mbuf.ts';
import {
  M_LEADINGSPACE,
  M_TRAILINGSPACE,
  M_WRITABLE,
  m_align,
  m_copydata,
  m_dup_pkthdr,
  m_fixhdr,
  m_free,
  m_freem,
  m_move_pkthdr,
  m_mpfail,
  mb_dupcl,
} from './uipc_mbuf.ts';

const NONE = NULL as mbuf_t;

sysctl_int('kern.ipc.max_linkhdr', {
  value: 16,
  min: 0,
  max: MHLEN,
  unit: 'bytes',
  flags: CTLFLAG_RWTUN,
  help: 'Longest link-layer header: kept free in front of what m_copyup copies',
});
const max_protohdr = sysctl_int('kern.ipc.max_protohdr', {
  value: 60,
  min: 0,
  max: MHLEN,
  unit: 'bytes',
  flags: CTLFLAG_RWTUN,
  help: 'Longest protocol header: m_pullup takes so many bytes where there is room',
});

// --- at the ends ---------------------------------------------------------------------------------

/** Puts a new mbuf of `len` bytes in front. NULL: no memory, the chain is freed. */
export function m_prepend(m: mbuf_t, len: number, how: number): mbuf_t {
  const header = (mbuf.flags[m] & M_PKTHDR) !== 0;
  if (len > (header ? MHLEN : MLEN)) panic('m_prepend: no mbuf holds so much', len);
  const n = header ? m_gethdr(how, mbuf.type[m]) : m_get(how, mbuf.type[m]);
  if (n === NONE) {
    m_freem(m);
    return NONE;
  }
  if (header) m_move_pkthdr(n, m);
  mbuf.next[n] = m;
  if (len < (header ? MHLEN : MLEN)) m_align(n, len);
  mbuf.len[n] = len;
  return n;
}
/** Makes room for `len` bytes in front of a packet. NULL: no memory, the chain is freed. */
export function M_PREPEND(m: mbuf_t, len: number, how: number): mbuf_t {
  let top = m;
  if (M_WRITABLE(m) && M_LEADINGSPACE(m) >= len) {
    mbuf.off[m] -= len;
    mbuf.len[m] += len;
  } else top = m_prepend(m, len, how);
  if (top !== NONE && mbuf.flags[top] & M_PKTHDR) mbuf.plen[top] += len;
  return top;
}
/** Trims n bytes off the head, or -n off the tail; of a shorter chain all. */
export function m_adj(m: mbuf_t, n: number): void {
  if (m === NONE) return;
  if (n >= 0) return adj_head(m, n);
  adj_tail(m, -n);
}
function adj_head(m: mbuf_t, n: number): void {
  let left = n;
  for (let at = m; at !== NONE && left > 0; at = mbuf.next[at]) {
    const count = Math.min(left, mbuf.len[at]);
    mbuf.off[at] += count;
    mbuf.len[at] -= count;
    left -= count;
  }
  if (mbuf.flags[m] & M_PKTHDR) mbuf.plen[m] -= n - left;
}
function adj_tail(m: mbuf_t, n: number): void {
  let total = 0;
  for (let at = m; at !== NONE; at = mbuf.next[at]) total += mbuf.len[at];
  const keep = Math.max(0, total - n);
  if (mbuf.flags[m] & M_PKTHDR) mbuf.plen[m] = keep;
  let left = keep;
  let at = m;
  while (mbuf.len[at] < left) {
    left -= mbuf.len[at];
    at = mbuf.next[at];
  }
  mbuf.len[at] = left;
  m_freem(mbuf.next[at]);
  mbuf.next[at] = NONE;
}
/** Hangs chain n behind chain m; what fits is copied. m's packet length is left to the caller. */
export function m_cat(m: mbuf_t, n: mbuf_t): void {
  let last = m;
  while (mbuf.next[last] !== NONE) last = mbuf.next[last];
  let from = n;
  while (from !== NONE) {
    if (!M_WRITABLE(last) || M_TRAILINGSPACE(last) < mbuf.len[from]) {
      mbuf.next[last] = from;
      return;
    }
    bcopy(mtod(from), mtod(last) + mbuf.len[last], mbuf.len[from]);
    mbuf.len[last] += mbuf.len[from];
    from = m_free(from);
  }
}

// --- bytes in one piece --------------------------------------------------------------------------

function pullup_failed(m: mbuf_t): mbuf_t {
  m_freem(m);
  counter_add(m_mpfail, 1);
  return NONE;
}
/** Moves bytes of chain n behind the data of m until it has `len` more. Returns what is left. */
function gather(m: mbuf_t, n: mbuf_t, len: number): { rest: mbuf_t; missing: number } {
  let from = n;
  let missing = len;
  let space = MSIZE - mbuf.off[m] - mbuf.len[m];
  do {
    const count = Math.min(Math.max(missing, sysctl_get(max_protohdr)), space, mbuf.len[from]);
    bcopy(mtod(from), mtod(m) + mbuf.len[m], count);
    missing -= count;
    space -= count;
    mbuf.len[m] += count;
    mbuf.len[from] -= count;
    if (mbuf.len[from] > 0) mbuf.off[from] += count;
    else from = m_free(from);
  } while (missing > 0 && from !== NONE);
  return { rest: from, missing };
}
/**
 * Brings the first `len` bytes into the first mbuf.  NULL when they are more
 * than an mbuf holds (MHLEN), the chain is shorter, or there is no memory; the
 * chain is freed then.
 */
export function m_pullup(m: mbuf_t, len: number): mbuf_t {
  let top = m;
  let rest = m;
  let want = len;
  if ((mbuf.flags[m] & M_EXT) === 0 && mbuf.off[m] + len <= MSIZE && mbuf.next[m] !== NONE) {
    if (mbuf.len[m] >= len) return m;
    rest = mbuf.next[m];
    want -= mbuf.len[m];
  } else {
    if (len > MHLEN) return pullup_failed(m);
    top = m_get(M_NOWAIT, mbuf.type[m]);
    if (top === NONE) return pullup_failed(m);
    if (mbuf.flags[m] & M_PKTHDR) m_move_pkthdr(top, m);
  }
  const got = gather(top, rest, want);
  mbuf.next[top] = got.rest;
  return got.missing > 0 ? pullup_failed(top) : top;
}
/** m_pullup into a new first mbuf with `dstoff` bytes free in front. NULL: failed and freed. */
export function m_copyup(m: mbuf_t, len: number, dstoff: number): mbuf_t {
  if (dstoff < 0 || len > MHLEN - dstoff) return pullup_failed(m);
  const top = m_get(M_NOWAIT, mbuf.type[m]);
  if (top === NONE) return pullup_failed(m);
  if (mbuf.flags[m] & M_PKTHDR) m_move_pkthdr(top, m);
  mbuf.off[top] += dstoff;
  const got = gather(top, m, len);
  mbuf.next[top] = got.rest;
  return got.missing > 0 ? pullup_failed(top) : top;
}

/** Whether m_pulldown may move bytes of m: of storage outside only a cluster of its own. */
function pulldown_writable(m: mbuf_t): boolean {
  if ((mbuf.flags[m] & M_EXT) === 0) return M_WRITABLE(m);
  return mbuf.ext_type[m] === EXT_CLUSTER && M_WRITABLE(m);
}
/** The mbuf with the byte at `off`, and its place there; empty ones are passed over. */
function seek(m: mbuf_t, off: number): { n: mbuf_t; at: number } {
  let n = m;
  let at = off;
  while (n !== NONE && at > 0 && mbuf.len[n] <= at) {
    at -= mbuf.len[n];
    n = mbuf.next[n];
  }
  while (n !== NONE && at === 0 && mbuf.len[n] === 0) n = mbuf.next[n];
  return { n, at };
}
/**
 * Brings bytes off to off + len into one piece somewhere in the chain; bytes
 * before stay where they are.  The piece begins at the mbuf returned, `place.off`
 * bytes in; without `place` at its first byte.  NULL when it is longer than a
 * cluster, the chain is shorter, or there is no memory; the chain is freed.
 */
export function m_pulldown(
  m: mbuf_t,
  off: number,
  len: number,
  place: { off: number } | null,
): mbuf_t {
  const { n, at } = seek(m, off);
  if (len > MCLBYTES || n === NONE || len < 0) {
    m_freem(m);
    return NONE;
  }
  const here = at === 0 || place !== null;
  const mine = pulldown_writable(n);
  let found = { n, at };
  const head = mbuf.len[n] - at;
  if (!(here && mine && len <= head)) {
    if (len <= head) found = pulldown_copy(m, n, at);
    else found = pulldown_gather(m, n, at, len, here && mine);
    if (found.n === NONE) {
      m_freem(m);
      return NONE;
    }
  }
  if (place !== null) place.off = found.at;
  return found.n;
}
/** The bytes are in one piece that may not be written, or not be pointed into: a copy. */
function pulldown_copy(m: mbuf_t, n: mbuf_t, at: number): { n: mbuf_t; at: number } {
  const count = mbuf.len[n] - at;
  const o = count > MLEN ? m_getcl(M_NOWAIT, mbuf.type[m], 0) : m_get(M_NOWAIT, mbuf.type[m]);
  if (o === NONE) return { n: o, at: 0 };
  if (count > m_end(o)) {
    // More than a cluster holds (a jumbo one): as much as fits; the rest stays behind it.
    m_free(o);
    return pulldown_split(n, at);
  }
  bcopy(mtod(n) + at, mtod(o), count);
  mbuf.len[o] = count;
  mbuf.len[n] = at;
  mbuf.next[o] = mbuf.next[n];
  mbuf.next[n] = o;
  return { n: o, at: 0 };
}
/** Cuts a large piece in two at `at`, then at a cluster's length, and copies the first. */
function pulldown_split(n: mbuf_t, at: number): { n: mbuf_t; at: number } {
  const rest = m_get(M_NOWAIT, mbuf.type[n]);
  const o = rest === NONE ? NONE : m_getcl(M_NOWAIT, mbuf.type[n], 0);
  if (o === NONE) {
    m_freem(rest);
    return { n: NONE, at: 0 };
  }
  mb_dupcl(rest, n);
  mbuf.off[rest] = mbuf.off[n] + at + MCLBYTES;
  mbuf.len[rest] = mbuf.len[n] - at - MCLBYTES;
  bcopy(mtod(n) + at, mtod(o), MCLBYTES);
  mbuf.len[o] = MCLBYTES;
  mbuf.len[n] = at;
  mbuf.next[rest] = mbuf.next[n];
  mbuf.next[o] = rest;
  mbuf.next[n] = o;
  return { n: o, at: 0 };
}
/** The bytes lie in several mbufs: into the room of the first or second, or into a new one. */
function pulldown_gather(
  m: mbuf_t,
  n: mbuf_t,
  at: number,
  len: number,
  in_place: boolean,
): { n: mbuf_t; at: number } {
  const head = mbuf.len[n] - at;
  const tail = len - head;
  let behind = 0;
  for (let o = mbuf.next[n]; o !== NONE; o = mbuf.next[o]) behind += mbuf.len[o];
  if (behind < tail) return { n: NONE, at: 0 };
  const next = mbuf.next[n];
  if (in_place && M_TRAILINGSPACE(n) >= tail) {
    m_copydata(next, 0, tail, mem.U8, mtod(n) + mbuf.len[n]);
    mbuf.len[n] += tail;
    m_adj(next, tail);
    return { n, at };
  }
  if (
    in_place &&
    (mbuf.flags[next] & M_EXT) === 0 &&
    M_LEADINGSPACE(next) >= head &&
    mbuf.len[next] >= tail
  ) {
    mbuf.off[next] -= head;
    mbuf.len[next] += head;
    bcopy(mtod(n) + at, mtod(next), head);
    mbuf.len[n] -= head;
    return { n: next, at: 0 };
  }
  const o = len > MLEN ? m_getcl(M_NOWAIT, mbuf.type[m], 0) : m_get(M_NOWAIT, mbuf.type[m]);
  if (o === NONE) return { n: o, at: 0 };
  bcopy(mtod(n) + at, mtod(o), head);
  mbuf.len[n] -= head;
  m_copydata(next, 0, tail, mem.U8, mtod(o) + head);
  mbuf.len[o] = len;
  m_adj(next, tail);
  mbuf.next[o] = next;
  mbuf.next[n] = o;
  return { n: o, at: 0 };
}

// --- two packets ---------------------------------------------------------------------------------

/**
 * Cuts a packet after `len` bytes; returns the tail.  At the cut a cluster is
 * shared.  NULL: the chain is shorter, `len` is negative, or no memory; then it is
 * as before.
 */
export function m_split(m0: mbuf_t, len: number, how: number): mbuf_t {
  if (len < 0) return NONE;
  let m = m0;
  let left = len;
  while (m !== NONE && left > mbuf.len[m]) {
    left -= mbuf.len[m];
    m = mbuf.next[m];
  }
  if (m === NONE) return NONE;
  const remain = mbuf.len[m] - left;
  const header = (mbuf.flags[m0] & M_PKTHDR) !== 0;
  if (!header && remain === 0) {
    const rest = mbuf.next[m];
    mbuf.next[m] = NONE;
    return rest;
  }
  const n = header ? m_gethdr(how, mbuf.type[m0]) : m_get(how, mbuf.type[m]);
  if (n === NONE) return NONE;
  let last = n;
  if (remain > 0 && (mbuf.flags[m] & M_EXT) === 0 && header && remain > MHLEN) {
    // More than fits behind a header: an empty mbuf with the header, the rest behind it.
    last = m_get(how, mbuf.type[m]);
    if (last === NONE) {
      m_free(n);
      return NONE;
    }
    m_align(n, 0);
    mbuf.next[n] = last;
  }
  if (remain > 0 && (mbuf.flags[m] & M_EXT) !== 0) {
    mb_dupcl(last, m);
    mbuf.off[last] = mbuf.off[m] + left;
  } else if (remain > 0) {
    m_align(last, remain);
    bcopy(mtod(m) + left, mtod(last), remain);
  }
  mbuf.len[last] = remain;
  mbuf.len[m] = left;
  mbuf.next[last] = mbuf.next[m];
  mbuf.next[m] = NONE;
  if (header) {
    mbuf.rcvif[n] = mbuf.rcvif[m0];
    mbuf.plen[n] = mbuf.plen[m0] - len;
    mbuf.plen[m0] = len;
  }
  return n;
}

// --- fewer mbufs, and writable ones --------------------------------------------------------------

/**
 * A packet in as few clusters as it takes.  The old one is freed.  NULL: no
 * memory, and the old one is kept.  A chain without packet header is returned
 * as it is.
 */
export function m_defrag(m0: mbuf_t, how: number): mbuf_t {
  if ((mbuf.flags[m0] & M_PKTHDR) === 0) return m0;
  const total = m_fixhdr(m0);
  const top = total > MHLEN ? m_getcl(how, MT_DATA, M_PKTHDR) : m_gethdr(how, MT_DATA);
  if (top === NONE) return NONE;
  if (m_dup_pkthdr(top, m0, how) === 0) {
    m_freem(top);
    return NONE;
  }
  mbuf.flags[top] &= ~M_RDONLY; // what the header said of the other storage
  let n = top;
  for (let done = 0; done < total; ) {
    const count = Math.min(total - done, MCLBYTES);
    if (done > 0) {
      const more = count > MLEN ? m_getcl(how, MT_DATA, 0) : m_get(how, MT_DATA);
      if (more === NONE) {
        m_freem(top);
        return NONE;
      }
      mbuf.next[n] = more;
      n = more;
    }
    m_copydata(m0, done, count, mem.U8, mtod(n));
    mbuf.len[n] = count;
    done += count;
  }
  m_freem(m0);
  return top;
}
/**
 * Makes a chain at most `most` mbufs long: neighbours into free room first, then
 * pairs into clusters.  NULL when that cannot be; the chain is intact then, but
 * may look otherwise.
 */
export function m_collapse(m0: mbuf_t, how: number, most: number): mbuf_t {
  let count = 0;
  for (let m = m0; m !== NONE; m = mbuf.next[m]) count++;
  if (count <= most) return m0;
  for (;;) {
    count -= merge_neighbours(m0, count - most);
    if (count <= most) return m0;
    if (!merge_pair(m0, how)) return NONE;
    count--;
    if (count <= most) return m0;
  }
}
/** Copies mbufs into the room behind the one before, at most `wanted` of them. */
function merge_neighbours(m0: mbuf_t, wanted: number): number {
  let merged = 0;
  for (let m = m0; merged < wanted && mbuf.next[m] !== NONE; ) {
    const n = mbuf.next[m];
    if (!M_WRITABLE(m) || mbuf.len[n] >= M_TRAILINGSPACE(m)) {
      m = n;
      continue;
    }
    bcopy(mtod(n), mtod(m) + mbuf.len[m], mbuf.len[n]);
    mbuf.len[m] += mbuf.len[n];
    mbuf.next[m] = m_free(n);
    merged++;
  }
  return merged;
}
/** Puts the first pair behind the first mbuf that fits into one cluster there. */
function merge_pair(m0: mbuf_t, how: number): boolean {
  for (let prev = m0; ; prev = mbuf.next[prev]) {
    const n = mbuf.next[prev];
    if (n === NONE || mbuf.next[n] === NONE) return false;
    const n2 = mbuf.next[n];
    if (mbuf.len[n] + mbuf.len[n2] >= MCLBYTES) continue;
    const m = m_getcl(how, MT_DATA, 0);
    if (m === NONE) return false;
    bcopy(mtod(n), mtod(m), mbuf.len[n]);
    bcopy(mtod(n2), mtod(m) + mbuf.len[n], mbuf.len[n2]);
    mbuf.len[m] = mbuf.len[n] + mbuf.len[n2];
    mbuf.next[m] = mbuf.next[n2];
    mbuf.next[prev] = m;
    m_free(n);
    m_free(n2);
    return true;
  }
}
/**
 * A chain that may be written everywhere: what is shared is copied, small mbufs
 * go into the cluster before them.  NULL: no memory, the chain is freed.
 */
export function m_unshare(m0: mbuf_t, how: number): mbuf_t {
  let top = m0;
  let prev = NONE;
  for (let m = m0; m !== NONE; m = mbuf.next[prev]) {
    const own = (mbuf.flags[m] & M_EXT) === 0;
    if (own) mbuf.flags[m] &= ~M_RDONLY; // it came with a header: nobody shares its own bytes
    if (!own && M_WRITABLE(m)) {
      prev = m;
      continue;
    }
    if (prev !== NONE && joins(prev, m)) {
      bcopy(mtod(m), mtod(prev) + mbuf.len[prev], mbuf.len[m]);
      mbuf.len[prev] += mbuf.len[m];
      mbuf.next[prev] = m_free(m);
      continue;
    }
    if (own) {
      prev = m;
      continue;
    }
    const copy = unshare_one(m, how);
    if (copy.first === NONE) {
      m_freem(top);
      return NONE;
    }
    mbuf.next[copy.last] = mbuf.next[m];
    if (prev === NONE) top = copy.first;
    else mbuf.next[prev] = copy.first;
    m_free(m);
    prev = copy.last;
  }
  return top;
}
/** Whether m's bytes have room behind those of the cluster before. */
function joins(prev: mbuf_t, m: mbuf_t): boolean {
  return (
    (mbuf.flags[prev] & M_EXT) !== 0 && M_WRITABLE(prev) && mbuf.len[m] <= M_TRAILINGSPACE(prev)
  );
}
/** The bytes of m in clusters of their own; the packet header moves there. */
function unshare_one(m: mbuf_t, how: number): { first: mbuf_t; last: mbuf_t } {
  const flags = mbuf.flags[m] & M_COPYFLAGS & ~M_RDONLY;
  let first = NONE;
  let last = NONE;
  const len = mbuf.len[m];
  for (let done = 0; first === NONE || done < len; ) {
    const n = m_getcl(how, mbuf.type[m], first === NONE ? flags & ~M_PKTHDR : 0);
    if (n === NONE) {
      if (first !== NONE && mbuf.flags[first] & M_PKTHDR) m_move_pkthdr(m, first);
      m_freem(first);
      return { first: NONE, last: NONE };
    }
    if (first === NONE) {
      first = n;
      if (mbuf.flags[m] & M_PKTHDR) header_move(n, m);
    } else mbuf.next[last] = n;
    last = n;
    const count = Math.min(MCLBYTES, len - done);
    bcopy(mtod(m) + done, mtod(n), count);
    mbuf.len[n] = count;
    done += count;
  }
  return { first, last };
}
/** Moves the packet header to a writable mbuf. */
function header_move(to: mbuf_t, from: mbuf_t): void {
  m_move_pkthdr(to, from);
  mbuf.flags[to] &= ~M_RDONLY;
}

/**
 * Cuts a packet into mbufs of `length` bytes; -1: all of one random size from 1
 * to 256, -2: each of its own.  For tests: protocols must bear any shape.
 * Returns the chain; where memory runs out, the rest stays in one piece.
 */
export function m_fragment(m0: mbuf_t, how: number, length: number, random: () => number): mbuf_t {
  if (length === 0 || length < -2) panic('m_fragment: there is no such length', length);
  const draw = (): number => 1 + (random() % 256);
  const same = length === -1 ? draw() : length;
  for (let m = m0; m !== NONE; m = mbuf.next[m]) {
    const want = length === -2 ? draw() : same;
    if (mbuf.len[m] > want && m_split_one(m, want, how) === NONE) return m0;
  }
  return m0;
}
/** Cuts one mbuf in two; both stay in the chain. */
function m_split_one(m: mbuf_t, len: number, how: number): mbuf_t {
  const n = m_get(how, mbuf.type[m]);
  if (n === NONE) return n;
  const count = mbuf.len[m] - len;
  if (mbuf.flags[m] & M_EXT) {
    mb_dupcl(n, m);
    mbuf.off[n] = mbuf.off[m] + len;
  } else bcopy(mtod(m) + len, mtod(n), count);
  mbuf.len[n] = count;
  mbuf.len[m] = len;
  mbuf.next[n] = mbuf.next[m];
  mbuf.next[m] = n;
  return n;
}
