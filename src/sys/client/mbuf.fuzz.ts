/*
 * mbuf (fuzz): the same seeded operations on chains of mbufs and on byte arrays.
 *
 * Up to eight chains live at a time, of mbufs, clusters of all sizes and
 * storage from elsewhere, with packet headers and tags or without, many of them
 * copies that share storage.  Limits are low and slabs are refused now and then,
 * so that every operation runs out of memory too.  After each one every chain
 * is compared with its bytes, and every count with the mbufs that share.  At
 * the end all is freed: nothing is in use in any zone, each free routine was
 * called once, and as many pages are free as before.
 *
 * What a caller must not do is not done: bytes that others share are not
 * written, only made writable by m_unshare first.
 */
import { abandon, boot } from '../boot/whole.ts';
import { mem } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { get64, NULL } from '../machine/struct.ts';
import { vector } from '../machine/vectors.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import {
  EXT_CLUSTER,
  EXT_DISPOSABLE,
  EXT_JUMBO16,
  EXT_JUMBO9,
  EXT_JUMBOP,
  EXT_NET_DRV,
  M_COPYALL,
  M_EOR,
  M_EXT,
  M_PKTHDR,
  M_RDONLY,
  mb_root,
  mbuf,
  type mbuf_t,
  MCLBYTES,
  MHLEN,
  MJUM16BYTES,
  MJUM9BYTES,
  MJUMPAGESIZE,
  MLEN,
  MT_DATA,
  mtod,
} from '../h/mbuf.ts';
import { uma_zone, type zone_t } from '../h/uma.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { MALLOC_DEFINE, malloc_type_sums } from '../kmem/kern_malloc_type.ts';
import { account, account_text } from '../kmem/kmem.test.lib.ts';
import { vm_page_free_count } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { slab_failpoint } from '../uma/uma_keg.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { m_cljget, m_cljset, m_clget, m_get, m_getcl, m_getclr, m_gethdr } from './kern_mbuf.ts';
import { m_getjcl, mb } from './kern_mbuf.ts';
import { compare, concat, counts, mbufs_of, type ModelChain, overwritten } from './mbuf.model.ts';
import {
  M_WRITABLE,
  m_append,
  m_apply,
  m_copyback,
  m_copydata,
  m_copym,
  m_copypacket,
  m_demote,
  m_devget,
  m_dup,
  m_extadd,
  m_extaddref,
  m_fixhdr,
  m_freem,
  m_getm2,
  m_getptr,
  m_length,
  m_move_pkthdr,
  m_sanity,
} from './uipc_mbuf.ts';
import {
  M_PREPEND,
  m_adj,
  m_cat,
  m_collapse,
  m_copyup,
  m_defrag,
  m_fragment,
  m_pulldown,
  m_pullup,
  m_split,
  m_unshare,
} from './uipc_mbuf_shape.ts';
import {
  m_tag_alloc,
  m_tag_data,
  m_tag_delete,
  m_tag_free,
  m_tag_prepend,
} from './uipc_mbuf_tag.ts';

/** One operation; the numbers choose among what there is. */
export interface Op {
  readonly what: What;
  readonly a: number;
  readonly b: number;
  readonly c: number;
}
const CHAINS_MAX = 8;
const BYTES_MAX = 12_000;
const MBUFS_MAX = 120;
/** Lengths at whose edges something changes. */
const EDGES = [
  0,
  1,
  2,
  40,
  60,
  100,
  MHLEN,
  MLEN,
  256,
  1000,
  1460,
  MCLBYTES,
  2500,
  MJUMPAGESIZE,
  6000,
] as const;
const JUMBO = [MJUMPAGESIZE, MJUM9BYTES, MJUM16BYTES] as const;
const EXT_OF = new Map([
  [MCLBYTES, EXT_CLUSTER],
  [MJUMPAGESIZE, EXT_JUMBOP],
  [MJUM9BYTES, EXT_JUMBO9],
  [MJUM16BYTES, EXT_JUMBO16],
]);

// --- storage from elsewhere ----------------------------------------------------------------------

const M_FUZZ = MALLOC_DEFINE('mbuf_fuzz', 'Storage that the mbuf tests lend to chains');
/** Word addresses of the storage lent, and how often each was given back. */
const lent = new Map<number, number>();
const lent_free = vector('mbuf_fuzz_free', (block: number, cookie: number) => {
  if (cookie !== (block ^ 0x5a5a)) throw new Error(`free routine: arguments ${block} ${cookie}`);
  const n = lent.get(block);
  if (n === undefined) throw new Error(`free routine: ${block} was never lent, or freed before`);
  lent.delete(block);
  given_back++;
  free(block, M_FUZZ.t);
});
let given_back = 0;
let lent_ever = 0;

/** Bytes that a seed stands for. */
function pattern(seed: number, len: number): Uint8Array {
  const bytes = new Uint8Array(len);
  let x = (seed * 2654435761) >>> 0 || 1;
  for (let i = 0; i < len; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
}
function length_of(b: number, c: number): number {
  return Math.max(0, EDGES[b % EDGES.length] + (c % 5) - 2);
}
function same(what: string, got: unknown, expected: unknown): void {
  if (got !== expected) throw new Error(`${what}: ${got}, the model says ${expected}`);
}

/** A machine with chains, and the model beside it. */
export class World {
  readonly chains: ModelChain[] = [];
  /** Operations that ran out of memory: for the totals. */
  refused = 0;
  /** What is to be wrong with the model, to show that it is noticed. */
  wrong: 'byte' | 'leak' | null = null;

  // --- choosing and noting

  private pick(n: number): ModelChain | undefined {
    return this.chains[n % Math.max(1, this.chains.length)];
  }
  private add(m: mbuf_t, bytes: Uint8Array, header: ModelChain['header']): void {
    if (this.wrong === 'byte' && bytes.length > 100) bytes[100] ^= 1;
    this.chains.push({ m, bytes, header });
  }
  private drop(c: ModelChain): void {
    this.chains.splice(this.chains.indexOf(c), 1);
  }
  /** A request was refused: right only where memory ran out. */
  private nomem(before: number, tags: number): void {
    if (fails() === before && tags === 0) throw new Error('no memory, but no zone refused any');
    this.refused++;
  }
  private put(c: ModelChain, m: mbuf_t): void {
    if (m === NULL) throw new Error('the chain is gone');
    c.m = m;
  }

  apply(op: Op): void {
    const crowded = this.chains.length >= CHAINS_MAX;
    if (op.what in MAKES) {
      if (crowded) return this.free(op.a);
      const before = fails();
      if (!MAKES[op.what as keyof typeof MAKES](this, op)) this.nomem(before, 0);
      return;
    }
    const c = this.pick(op.a);
    if (!c) return;
    if (c.bytes.length > BYTES_MAX || mbufs_of(c.m).length > MBUFS_MAX) return this.free(op.a);
    const before = fails();
    const tags = c.header?.tags.length ?? 0;
    const out = CHANGES[op.what as keyof typeof CHANGES](this, c, op);
    if (out === 'nomem') this.nomem(before, tags);
    else if (out === 'freed') {
      this.nomem(before, tags);
      this.drop(c);
    } else if (out === 'gone') this.drop(c);
  }
  /** A chain that was just made. False: there was no memory for it. */
  made(m: mbuf_t, bytes: Uint8Array, header: ModelChain['header']): boolean {
    if (m !== NULL) this.add(m, bytes, header);
    return m !== NULL;
  }
  full(): boolean {
    return this.chains.length >= CHAINS_MAX;
  }
  other(c: ModelChain, n: number): ModelChain | undefined {
    const rest = this.chains.filter((x) => x !== c);
    return rest[n % Math.max(1, rest.length)];
  }
  forget(c: ModelChain): void {
    this.drop(c);
  }
  renew(c: ModelChain, m: mbuf_t, bytes: Uint8Array): void {
    this.put(c, m);
    c.bytes = bytes;
  }
  free(n: number): void {
    const c = this.pick(n);
    if (!c) return;
    m_freem(c.m);
    this.drop(c);
  }

  // --- what must hold

  /** Between operations: bytes, headers, tags, counts, and what m_sanity says. */
  check(): void {
    for (const c of this.chains) {
      compare(c);
      same('m_sanity', m_sanity(c.m), '');
    }
    counts(this.chains);
  }
  /** Rarely: as many mbufs are in use as the chains have. */
  check_zones(): void {
    const used = (z: number): number => {
      const n = zone_present(z as zone_t);
      return n.allocs - n.frees;
    };
    const r = mb();
    same('mbufs', used(mb_root.mbuf[r]) + used(mb_root.pack[r]), counts(this.chains));
    uma_check();
  }
  /** Frees everything; nothing may be left. */
  end(): void {
    slab_failpoint.refuse = null;
    if (this.wrong === 'leak') this.chains.pop();
    while (this.chains.length > 0) this.free(0);
    uma_reclaim();
    for (const z of zones()) {
      const n = zone_present(z);
      same(`zone ${z}: items in use`, n.allocs - n.frees, 0);
    }
    same('storage not given back', lent.size, 0);
    same('free routines called', given_back, lent_ever);
    same('blocks lent', malloc_type_sums(M_FUZZ.t).inuse, 0);
    uma_check();
  }
}
function zones(): zone_t[] {
  const r = mb();
  const all = mb_root;
  const list = [all.mbuf, all.pack, all.clust, all.jumbop, all.jumbo9, all.jumbo16, all.ext_refcnt];
  return list.map((z) => z[r] as zone_t);
}
/** Requests that the zones of mbufs refused so far. */
function fails(): number {
  let n = 0;
  for (const z of zones()) n += get64(uma_zone.fails, z);
  return n;
}

// --- chains are made ---------------------------------------------------------------------------

type Make = (w: World, op: Op) => boolean;
const header_of = (op: Op): { rcvif: number; tags: [] } => ({ rcvif: op.c, tags: [] });

/** Puts bytes into fresh mbufs by hand: as many as fit. */
function fill(m: mbuf_t, bytes: Uint8Array): Uint8Array {
  const end = mbuf.flags[m] & M_EXT ? mbuf.ext_size[m] : 256;
  const n = Math.min(bytes.length, end - mbuf.off[m]);
  mem.U8.set(bytes.subarray(0, n), mtod(m));
  mbuf.len[m] = n;
  if (mbuf.flags[m] & M_PKTHDR) mbuf.plen[m] = n;
  return bytes.slice(0, n);
}
/** A chain of one mbuf that was just taken. */
function single(w: World, m: mbuf_t, op: Op, header: boolean): boolean {
  if (m === NULL) return false;
  const bytes = fill(m, pattern(op.a, length_of(op.b, op.c)));
  if (header) mbuf.rcvif[m] = op.c;
  return w.made(m, bytes, header ? header_of(op) : null);
}
const MAKES = {
  devget(w, op) {
    const bytes = pattern(op.a, length_of(op.b, op.c));
    const m = m_devget(bytes, 0, bytes.length, op.a % (MHLEN + 1), op.c);
    return w.made(m, bytes, header_of(op));
  },
  get: (w, op) => single(w, m_get(M_NOWAIT, MT_DATA), op, false),
  gethdr: (w, op) => single(w, m_gethdr(M_NOWAIT, MT_DATA), op, true),
  getclr(w, op) {
    const m = m_getclr(M_NOWAIT, MT_DATA);
    if (m === NULL) return false;
    mbuf.len[m] = op.b % (MLEN + 1);
    return w.made(m, new Uint8Array(mbuf.len[m]), null);
  },
  getcl(w, op) {
    const header = op.a % 2 === 0;
    return single(w, m_getcl(M_NOWAIT, MT_DATA, header ? M_PKTHDR : 0), op, header);
  },
  getjcl(w, op) {
    const header = op.a % 2 === 0;
    const size = JUMBO[op.b % JUMBO.length];
    return single(w, m_getjcl(M_NOWAIT, MT_DATA, header ? M_PKTHDR : 0, size), op, header);
  },
  clget(w, op) {
    const header = op.a % 2 === 0;
    const m = header ? m_gethdr(M_NOWAIT, MT_DATA) : m_get(M_NOWAIT, MT_DATA);
    if (m === NULL) return false;
    m_clget(m, M_NOWAIT);
    if ((mbuf.flags[m] & M_EXT) === 0) {
      m_freem(m);
      return false;
    }
    return single(w, m, op, header);
  },
  cljget(w, op) {
    const size = [MCLBYTES, ...JUMBO][op.b % 4];
    const m = m_get(M_NOWAIT, MT_DATA);
    if (m === NULL) return false;
    const cluster = m_cljget(op.a % 2 === 0 ? m : (NULL as mbuf_t), M_NOWAIT, size);
    if (cluster === 0) {
      m_freem(m);
      return false;
    }
    if (op.a % 2 !== 0) m_cljset(m, cluster, EXT_OF.get(size) as number);
    same('the cluster', mbuf.buf[m], cluster);
    return single(w, m, op, false);
  },
  getm2(w, op) {
    const len = length_of(op.b, op.c);
    const m = m_getm2(NULL as mbuf_t, len, M_NOWAIT, MT_DATA, M_PKTHDR | M_EOR);
    if (m === NULL) return len === 0;
    mbuf.rcvif[m] = op.c;
    const list = mbufs_of(m);
    same('M_EOR', mbuf.flags[list[list.length - 1]] & M_EOR, M_EOR);
    w.made(m, new Uint8Array(0), header_of(op));
    const bytes = pattern(op.a, len);
    let done = 0;
    for (const at of list) done += fill(at, bytes.subarray(done)).length;
    same('room for the length', done, len);
    m_fixhdr(m);
    w.chains[w.chains.length - 1].bytes = bytes;
    return true;
  },
  extadd(w, op) {
    const len = 1 + length_of(op.b, op.c);
    const m = op.a % 2 === 0 ? m_gethdr(M_NOWAIT, MT_DATA) : m_get(M_NOWAIT, MT_DATA);
    const block = m === NULL ? 0 : malloc(len, M_FUZZ.t, M_NOWAIT);
    if (block === 0) {
      m_freem(m);
      w.refused++;
      return true; // malloc is out of memory: no zone of ours refused anything
    }
    mem.U8.set(pattern(op.a, len), block * 4);
    const flags = op.c % 3 === 0 ? M_RDONLY : 0;
    const type = op.c % 2 === 0 ? EXT_NET_DRV : EXT_DISPOSABLE;
    m_extadd(m, block, len, lent_free, block, block ^ 0x5a5a, flags, type);
    if ((mbuf.flags[m] & M_EXT) === 0) {
      free(block, M_FUZZ.t);
      m_freem(m);
      return false;
    }
    lent.set(block, 1);
    lent_ever++;
    return single(w, m, op, op.a % 2 === 0);
  },
} satisfies Record<string, Make>;

// --- chains are changed -----------------------------------------------------------------------

/** 'freed': no memory, and the chain is gone; 'gone': the chain is gone as it should. */
type Outcome = 'ok' | 'nomem' | 'freed' | 'gone';
type Change = (w: World, c: ModelChain, op: Op) => Outcome;

/** Whether bytes from `off` to `end` may be written. */
function writable(m: mbuf_t, off: number, end: number): boolean {
  let at = 0;
  for (const n of mbufs_of(m)) {
    if (at < end && at + mbuf.len[n] > off && !M_WRITABLE(n)) return false;
    at += mbuf.len[n];
  }
  return true;
}
/** A request with a length that no chain of c's could meet: it frees the chain. */
function refused_or_freed(impossible: boolean): Outcome {
  return impossible ? 'gone' : 'freed';
}
const copied = (h: ModelChain['header']): ModelChain['header'] =>
  h === null ? null : { rcvif: h.rcvif, tags: [...h.tags] };

/** Operations that read, or copy. */
const READS = {
  copym(w, c, op) {
    if (w.full()) return 'ok';
    const off = op.b % (c.bytes.length + 1);
    const all = op.c % 3 === 0;
    const len = all ? c.bytes.length - off : op.c % (c.bytes.length - off + 1);
    const m = m_copym(c.m, off, all ? M_COPYALL : len, M_NOWAIT);
    if (m === NULL) return len === 0 ? 'ok' : 'nomem';
    w.made(m, c.bytes.slice(off, off + len), off === 0 ? copied(c.header) : null);
    return 'ok';
  },
  copypacket(w, c) {
    if (w.full() || c.header === null) return 'ok';
    return w.made(m_copypacket(c.m, M_NOWAIT), c.bytes.slice(), copied(c.header)) ? 'ok' : 'nomem';
  },
  dup(w, c) {
    if (w.full()) return 'ok';
    const m = m_dup(c.m, M_NOWAIT);
    if (!w.made(m, c.bytes.slice(), copied(c.header))) return 'nomem';
    same('the copy may be written', mbufs_of(m).every(M_WRITABLE), true);
    return 'ok';
  },
  extaddref(w, c, op) {
    const from = mbufs_of(c.m).find((at) => mbuf.flags[at] & M_EXT && mbuf.ext_free[at] !== 0);
    if (from === undefined || w.full()) return 'ok';
    const m = m_get(M_NOWAIT, MT_DATA);
    if (m === NULL) return 'nomem';
    // A further reference to storage that a driver lent: as the driver itself makes it.
    m_extaddref(
      m,
      mbuf.buf[from],
      mbuf.ext_size[from],
      mbuf.ext_ref[from],
      mbuf.ext_free[from],
      mbuf.ext_arg1[from],
      mbuf.ext_arg2[from],
    );
    mbuf.ext_type[m] = mbuf.ext_type[from];
    mbuf.flags[m] |= mbuf.flags[from] & M_RDONLY;
    mbuf.off[m] = mbuf.off[from];
    mbuf.len[m] = op.b % (mbuf.len[from] + 1);
    w.made(m, mem.U8.slice(mtod(m), mtod(m) + mbuf.len[m]), null);
    return 'ok';
  },
  copydata(_, c, op) {
    const off = op.b % (c.bytes.length + 1);
    const len = op.c % (c.bytes.length - off + 1);
    const to = new Uint8Array(len + 2);
    m_copydata(c.m, off, len, to, 1);
    same(
      'm_copydata',
      Buffer.compare(to.subarray(1, len + 1), c.bytes.subarray(off, off + len)),
      0,
    );
    same('bytes around', to[0] + to[len + 1], 0);
    return 'ok';
  },
  apply(_, c, op) {
    const off = op.b % (c.bytes.length + 1);
    const len = op.c % (c.bytes.length - off + 1);
    const parts: Uint8Array[] = [];
    const end = m_apply(c.m, off, len, (at, n) => {
      parts.push(mem.U8.slice(at, at + n));
      return 0;
    });
    same('m_apply', end, 0);
    same('its bytes', Buffer.compare(concat(...parts), c.bytes.subarray(off, off + len)), 0);
    return 'ok';
  },
  getptr(_, c, op) {
    const loc = op.b % (c.bytes.length + 2);
    const at = m_getptr(c.m, loc);
    if (loc > c.bytes.length) same('behind the end', at.m, NULL);
    else if (loc < c.bytes.length) same('byte', mem.U8[mtod(at.m) + at.off], c.bytes[loc]);
    else same('the end', `${mbuf.next[at.m]} ${at.off}`, `0 ${mbuf.len[at.m]}`);
    return 'ok';
  },
  length(_, c) {
    const list = mbufs_of(c.m);
    const { len, last } = m_length(c.m);
    same('m_length', `${len} ${last}`, `${c.bytes.length} ${list[list.length - 1]}`);
    if (c.header !== null) same('m_fixhdr', m_fixhdr(c.m), len);
    return 'ok';
  },
} satisfies Record<string, Change>;

/** Operations that change the bytes. */
const WRITES = {
  append(_, c, op) {
    const more = pattern(op.b, length_of(op.b, op.c));
    const all = m_append(c.m, more.length, more, 0);
    const stored = m_length(c.m).len - c.bytes.length;
    c.bytes = concat(c.bytes, more.subarray(0, stored));
    if (all === 1) same('stored', stored, more.length);
    else if (stored >= more.length) throw new Error('all was stored, and 0 was said');
    return all === 1 ? 'ok' : 'nomem';
  },
  copyback(w, c, op) {
    const hole = op.b % 4 === 0 ? op.c % 600 : 0;
    const off = hole > 0 ? c.bytes.length + hole : op.b % (c.bytes.length + 1);
    const put = pattern(op.c, length_of(op.c, op.b));
    if (!writable(c.m, off, off + put.length)) return SHAPES.unshare(w, c);
    const whole = m_copyback(c.m, off, put.length, put, 0);
    const wanted = overwritten(c.bytes, off, put);
    const len = m_length(c.m).len;
    if (whole === 1) same('length', len, wanted.length);
    else if (len < c.bytes.length || len >= wanted.length) throw new Error(`grew to ${len}`);
    c.bytes = wanted.slice(0, len);
    return whole === 1 ? 'ok' : 'nomem';
  },
  prepend(w, c, op) {
    const most = c.header !== null ? MHLEN : MLEN;
    const len = op.b % 3 === 0 ? most - (op.c % 9) : op.c % 60;
    const m = M_PREPEND(c.m, len, M_NOWAIT);
    if (m === NULL) return 'freed';
    const put = pattern(op.b, len);
    mem.U8.set(put, mtod(m));
    w.renew(c, m, concat(put, c.bytes));
    return 'ok';
  },
  adj(_, c, op) {
    const n = op.b % 3 === 0 ? length_of(op.b, op.c) : op.c % 100;
    const len = c.bytes.length;
    if (op.b % 2 === 0) {
      m_adj(c.m, n);
      c.bytes = c.bytes.slice(Math.min(n, len));
    } else {
      m_adj(c.m, -n);
      c.bytes = c.bytes.slice(0, Math.max(0, len - n));
    }
    return 'ok';
  },
  cat(w, c, op) {
    const n = w.other(c, op.b);
    if (n === undefined) return 'ok';
    w.forget(n);
    m_demote(n.m, true);
    const plen = mbuf.plen[c.m];
    m_cat(c.m, n.m);
    c.bytes = concat(c.bytes, n.bytes);
    if (c.header === null) return 'ok';
    same('m_cat leaves the packet length', mbuf.plen[c.m], plen);
    m_fixhdr(c.m);
    return 'ok';
  },
  getm2_more(_, c, op) {
    const list = mbufs_of(c.m);
    const m = m_getm2(c.m, length_of(op.b, op.c), M_NOWAIT, MT_DATA, M_PKTHDR);
    if (m === NULL) {
      same('nothing was added', mbufs_of(c.m).length, list.length);
      return 'nomem';
    }
    same('the chain', m, c.m);
    return 'ok';
  },
} satisfies Record<string, Change>;

/** Operations that change the shape. */
const SHAPES = {
  pullup(w, c, op) {
    const len = Math.max(0, [op.c % 60, MHLEN, MLEN, 100, 20][op.b % 5] + (op.c % 5) - 2);
    const m = m_pullup(c.m, len);
    if (m === NULL) return refused_or_freed(len > MHLEN || len > c.bytes.length);
    same('in one piece', mbuf.len[m] >= len, true);
    w.renew(c, m, c.bytes);
    return 'ok';
  },
  copyup(w, c, op) {
    const dstoff = op.b % 40;
    const len = op.c % (MHLEN + 5 - dstoff);
    const m = m_copyup(c.m, len, dstoff);
    const impossible = len > MHLEN - dstoff || len > c.bytes.length;
    if (m === NULL) return refused_or_freed(impossible);
    same('met a request for too much', impossible, false);
    same('free in front', mbuf.off[m] - (c.header !== null ? 88 : 40), dstoff);
    same('in one piece', mbuf.len[m] >= len, true);
    w.renew(c, m, c.bytes);
    return 'ok';
  },
  pulldown(_, c, op) {
    const off = op.b % (c.bytes.length + 2);
    const len = op.c % 3 === 0 ? length_of(op.c, op.b) : op.c % 80;
    const place = op.a % 2 === 0 ? { off: 0 } : null;
    const n = m_pulldown(c.m, off, len, place);
    const impossible = len > MCLBYTES || off + len > c.bytes.length || off >= c.bytes.length;
    if (n === NULL) return refused_or_freed(impossible);
    same('met a request for too much', impossible, false);
    const at = mtod(n) + (place?.off ?? 0);
    same('in one piece', (place?.off ?? 0) + len <= mbuf.len[n], true);
    const got = mem.U8.subarray(at, at + len);
    same('its bytes', Buffer.compare(got, c.bytes.subarray(off, off + len)), 0);
    return 'ok';
  },
  split(w, c, op) {
    if (w.full()) return 'ok';
    const len = op.b % 3 === 0 ? length_of(op.b, op.c) : op.b % (c.bytes.length + 1);
    const m = m_split(c.m, len, M_NOWAIT);
    const nothing = len > c.bytes.length || (c.header === null && len === c.bytes.length);
    if (m === NULL) return nothing ? 'ok' : 'nomem';
    same('a tail', len <= c.bytes.length, true);
    const header = c.header === null ? null : { rcvif: c.header.rcvif, tags: [] };
    w.made(m, c.bytes.slice(len), header);
    c.bytes = c.bytes.slice(0, len);
    return 'ok';
  },
  defrag(w, c) {
    const m = m_defrag(c.m, M_NOWAIT);
    if (m === NULL) return 'nomem';
    if (c.header === null) same('without a header', m, c.m);
    else {
      same('may be written', mbufs_of(m).every(M_WRITABLE), true);
      same('few', mbufs_of(m).length, Math.max(1, Math.ceil(c.bytes.length / MCLBYTES)));
    }
    w.renew(c, m, c.bytes);
    return 'ok';
  },
  collapse(w, c, op) {
    const most = 1 + (op.b % 12);
    const before = mbufs_of(c.m).length;
    const m = m_collapse(c.m, M_NOWAIT, most);
    if (m === NULL) return before > most ? 'ok' : 'nomem';
    same('short enough', mbufs_of(m).length <= most, true);
    w.renew(c, m, c.bytes);
    return 'ok';
  },
  unshare(w, c) {
    const m = m_unshare(c.m, M_NOWAIT);
    if (m === NULL) return 'freed';
    same('may be written', mbufs_of(m).every(M_WRITABLE), true);
    w.renew(c, m, c.bytes);
    return 'ok';
  },
  fragment(w, c, op) {
    if (c.bytes.length > 3000) return 'ok';
    const length = [-1, -2, 20 + (op.b % 300)][op.b % 3];
    const draw = dice(op.c);
    w.renew(
      c,
      m_fragment(c.m, M_NOWAIT, length, () => draw(100_000)),
      c.bytes,
    );
    return 'ok';
  },
  /** The packet header goes to a new mbuf in front. */
  move_pkthdr(w, c) {
    if (c.header === null) return 'ok';
    const n = m_get(M_NOWAIT, MT_DATA);
    if (n === NULL) return 'nomem';
    m_move_pkthdr(n, c.m);
    mbuf.next[n] = c.m;
    w.renew(c, n, c.bytes);
    return 'ok';
  },
  demote(_, c) {
    m_demote(c.m, true);
    c.header = null;
    return 'ok';
  },
  tag(w, c, op) {
    if (c.header === null || c.header.tags.length >= 4) return 'ok';
    const t = m_tag_alloc(op.a, op.b, op.c % 50, M_NOWAIT);
    if (t === NULL) {
      w.refused++;
      return 'ok';
    }
    mem.U8.fill(op.b & 255, m_tag_data(t), m_tag_data(t) + (op.c % 50));
    m_tag_prepend(c.m, t);
    c.header.tags.unshift({ cookie: op.a, id: op.b, byte: op.b & 255, len: op.c % 50 });
    return 'ok';
  },
  untag(_, c) {
    if (c.header === null || c.header.tags.length === 0) return 'ok';
    m_tag_delete(c.m, mbuf.tags[c.m]);
    c.header.tags.shift();
    return 'ok';
  },
  /** Not a chain's: refuses slabs for a while, or no longer, or gives memory back. */
  memory(_, __, op) {
    let asked = 0;
    slab_failpoint.refuse = op.b % 3 === 0 ? () => ++asked % (1 + (op.c % 3)) === 0 : null;
    if (op.b % 7 === 0) uma_reclaim();
    return 'ok';
  },
  free(_, c) {
    m_freem(c.m);
    return 'gone';
  },
} satisfies Record<string, Change>;

const CHANGES = { ...READS, ...WRITES, ...SHAPES };
export type What = keyof typeof MAKES | keyof typeof CHANGES;
export const WHATS = [...Object.keys(MAKES), ...Object.keys(CHANGES)] as readonly What[];

// --- runs ------------------------------------------------------------------------------------

/** Limits at which every operation runs out of memory now and then. */
const FEW = {
  'kern.ipc.nmbclusters': 12,
  'kern.ipc.nmbjumbop': 4,
  'kern.ipc.nmbjumbo9': 2,
  'kern.ipc.nmbjumbo16': 2,
  'kern.ipc.nmbufs': 64,
};
/** Boots a machine for a world of chains, with few mbufs or many. */
export function world_boot(seed: number): { shutdown(): void } {
  given_back = lent_ever = 0;
  lent.clear();
  const few = seed % 2 === 0;
  return boot({
    memory: few ? '1M' : '4M',
    cpus: 2,
    options: { INVARIANTS: seed % 3 !== 0, FAILPOINTS: true },
    seed,
    fresh: true,
    set: few ? FEW : {},
  });
}
/** Free pages when nobody uses any; the records of the types there are have been made. */
export function pages_at_rest(): number {
  free(malloc(8, M_FUZZ.t, M_NOWAIT), M_FUZZ.t);
  m_tag_free(m_tag_alloc(0, 0, 0, M_NOWAIT));
  uma_reclaim();
  same('the account', account_text(account()), '');
  return vm_page_free_count();
}
const STEPS_PER_MACHINE = 5000;
const ZONES_EVERY = 500;

/** Plays `steps` operations; throws where chains and model differ. Returns those refused. */
export function run(seed: number, steps: number, wrong: World['wrong'] = null): number {
  const draw = dice(seed);
  let refused = 0;
  for (let done = 0; done < steps; done += STEPS_PER_MACHINE) {
    const machine = world_boot(seed + done / STEPS_PER_MACHINE);
    const world = new World();
    world.wrong = wrong;
    try {
      const pages = pages_at_rest();
      for (let i = 0; i < Math.min(STEPS_PER_MACHINE, steps - done); i++) {
        const op = { what: WHATS[draw(WHATS.length)], a: draw(1000), b: draw(1000), c: draw(1000) };
        try {
          world.apply(op);
          world.check();
          if (i % ZONES_EVERY === 0) world.check_zones();
        } catch (e) {
          const at = `seed ${seed}, step ${done + i}: ${JSON.stringify(op)}`;
          throw new Error(`${at}: ${e instanceof Error ? e.message : e}`, { cause: e });
        }
      }
      world.end();
      same('free pages at the end', pages_at_rest(), pages);
      refused += world.refused;
    } catch (e) {
      slab_failpoint.refuse = null;
      abandon(); // a machine that is in disorder lets nobody leave in order
      throw e;
    }
    machine.shutdown();
  }
  return refused;
}
