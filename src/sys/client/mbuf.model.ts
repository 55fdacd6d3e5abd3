/*
 * mbuf (model): a packet is its bytes, and nothing else.
 *
 * A ModelChain holds what a program knows of a chain: its bytes in one array,
 * whether it has a packet header, and the notes on it.  `compare` walks the
 * real chain word by word, without the functions under test, and says where
 * the two differ.  `counts` proves the sharing of storage over all chains: the
 * count of each cluster is the number of mbufs that refer to it, and no mbuf
 * is in two chains.
 */
import { mem } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import { M_EXT, M_PKTHDR, m_end, m_start, m_tag, mbuf, type mbuf_t, mtod } from '../h/mbuf.ts';
import { m_tag_data } from './uipc_mbuf_tag.ts';

/** A note on a packet. */
export interface ModelTag {
  readonly cookie: number;
  readonly id: number;
  readonly byte: number;
  readonly len: number;
}
export interface ModelChain {
  m: mbuf_t;
  bytes: Uint8Array;
  /** With a packet header: where it came from, and its tags, first to last. */
  header: { rcvif: number; tags: ModelTag[] } | null;
}
/** Longer than any chain here: a ring, not a chain. */
const MBUFS_MAX = 20_000;

export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    all.set(p, at);
    at += p.length;
  }
  return all;
}
/** `bytes` with `put` written over it at `at`; what lies between its end and `at` is zero. */
export function overwritten(bytes: Uint8Array, at: number, put: Uint8Array): Uint8Array {
  const all = new Uint8Array(Math.max(bytes.length, at + put.length));
  all.set(bytes);
  all.set(put, at);
  return all;
}
/** The mbufs of a chain, first to last. Throws if it is a ring. */
export function mbufs_of(m: mbuf_t): mbuf_t[] {
  const list: mbuf_t[] = [];
  for (let at = m; at !== NULL; at = mbuf.next[at]) {
    list.push(at);
    if (list.length > MBUFS_MAX) throw new Error(`the chain of mbuf ${m * 4} has no end`);
  }
  return list;
}
/** The bytes of a chain. */
export function bytes_of(m: mbuf_t): Uint8Array {
  return concat(...mbufs_of(m).map((at) => mem.U8.slice(mtod(at), mtod(at) + mbuf.len[at])));
}

/** Throws where a chain is not what the model says. */
export function compare(c: ModelChain): void {
  let done = 0;
  let first = true;
  for (const at of mbufs_of(c.m)) {
    const len = mbuf.len[at];
    const off = mbuf.off[at];
    if (len < 0 || off < m_start(at) || off + len > m_end(at)) {
      throw new Error(`mbuf ${at * 4}: bytes ${off} to ${off + len} are outside its storage`);
    }
    const has_header = (mbuf.flags[at] & M_PKTHDR) !== 0;
    if (has_header !== (first && c.header !== null)) {
      throw new Error(`mbuf ${at * 4}: packet header: ${has_header}, the model says otherwise`);
    }
    const got = mem.U8.subarray(mtod(at), mtod(at) + len);
    if (Buffer.compare(got, c.bytes.subarray(done, done + len)) !== 0) {
      const i = got.findIndex((b, k) => b !== c.bytes[done + k]);
      throw new Error(`byte ${done + i}: ${got[i]}, the model says ${c.bytes[done + i]}`);
    }
    done += len;
    first = false;
  }
  if (done !== c.bytes.length) throw new Error(`${done} bytes, the model says ${c.bytes.length}`);
  if (c.header !== null) compare_header(c.m, c.bytes.length, c.header);
}
function compare_header(m: mbuf_t, len: number, h: { rcvif: number; tags: ModelTag[] }): void {
  if (mbuf.plen[m] !== len) throw new Error(`packet length ${mbuf.plen[m]}, it has ${len} bytes`);
  if (mbuf.rcvif[m] !== h.rcvif) throw new Error(`rcvif ${mbuf.rcvif[m]}, not ${h.rcvif}`);
  let t = mbuf.tags[m];
  for (const [i, tag] of h.tags.entries()) {
    if (t === NULL) throw new Error(`${i} tags, the model says ${h.tags.length}`);
    const got = [m_tag.cookie[t], m_tag.id[t], m_tag.len[t]];
    const same = got[0] === tag.cookie && got[1] === tag.id && got[2] === tag.len;
    if (!same)
      throw new Error(`tag ${i}: ${got}, the model says ${tag.cookie},${tag.id},${tag.len}`);
    const data = mem.U8.subarray(m_tag_data(t), m_tag_data(t) + tag.len);
    if (data.some((b) => b !== tag.byte)) throw new Error(`tag ${i}: its data changed`);
    t = m_tag.link[t];
  }
  if (t !== NULL) throw new Error(`more tags than the ${h.tags.length} of the model`);
}

/**
 * Proves the counts of shared storage over all chains there are.  Returns the
 * number of mbufs.
 */
export function counts(chains: readonly ModelChain[]): number {
  const seen = new Set<mbuf_t>();
  const refs = new Map<number, number>();
  for (const c of chains) {
    for (const at of mbufs_of(c.m)) {
      if (seen.has(at)) throw new Error(`mbuf ${at * 4} is in the chains twice`);
      seen.add(at);
      if ((mbuf.flags[at] & M_EXT) === 0) continue;
      const w = mbuf.ext_ref[at];
      refs.set(w, (refs.get(w) ?? 0) + 1);
    }
  }
  for (const [w, n] of refs) {
    if (mem.I32[w] !== n) throw new Error(`count ${mem.I32[w]} of storage that ${n} mbufs share`);
  }
  return seen.size;
}
