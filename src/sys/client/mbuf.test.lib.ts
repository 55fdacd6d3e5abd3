/*
 * What the tests of mbufs share: a booted machine, chains built to a plan, and
 * the proof that nothing is left.
 *
 *      chain([hdr(100), cl(1500), m(200)])      a packet of three mbufs
 *
 * Byte i of a chain is a number made from i, so that a byte in a wrong place
 * is seen.  `whole` compares a chain with what it should hold; `settled` proves
 * after a test that every zone has in use what the test says, and walks all.
 */
import assert from 'node:assert/strict';
import { abandon, type BootOptions, boot, shutdown } from '../boot/whole.ts';
import type { Handle } from '../machine/machdep.ts';
import { mem } from '../machine/memory.ts';
import { KernelPanic } from '../machine/panic.ts';
import { lock_words, NULL, type Ptr, struct } from '../machine/struct.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { M_EXT, M_PKTHDR, mb_root, mbuf, type mbuf_t, MCLBYTES, MT_DATA, mtod } from '../h/mbuf.ts';
import type { zone_t } from '../h/uma.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { MTX_WORDS } from '../sync/kern_mutex.ts';
import { witness_console } from '../sync/witness.ts';
import { m_get, m_getcl, m_gethdr, m_getjcl, mb } from './kern_mbuf.ts';
import { bytes_of, mbufs_of } from './mbuf.model.ts';
import { m_fixhdr, m_sanity } from './uipc_mbuf.ts';

export const NONE = NULL as mbuf_t;

export type rec_t = Ptr<'mbuf_test'>;
/* Locks: (s) its own */
export const rec = struct<rec_t>('mbuf_test')({
  lock: lock_words(MTX_WORDS, 'user mtx', 'held while an mbuf is asked for'),
});

/** What WITNESS said in this thread. */
export const witness_texts: string[] = [];
/** Boots with INVARIANTS unless told otherwise. */
export function up(o: BootOptions = {}): Handle {
  const { handle } = boot({
    memory: '8M',
    cpus: 6,
    fresh: true,
    ...o,
    options: { INVARIANTS: true, FAILPOINTS: true, ...o.options },
  });
  witness_console((text) => witness_texts.push(text));
  return handle;
}
/** Ends the machine of a test, whatever state it is in. */
export function down(): void {
  try {
    shutdown();
  } catch {
    abandon(); // a machine that panicked lets nobody leave in order
  }
  witness_console(null);
  witness_texts.length = 0;
}
export function panics(fn: () => unknown, text: RegExp): void {
  assert.throws(fn, (e) => {
    assert.ok(e instanceof KernelPanic, String(e));
    assert.match(e.message, text);
    return true;
  });
}

// --- chains to a plan ----------------------------------------------------------------------------

/** One mbuf of a plan: its storage, bytes of data, bytes free in front, with a packet header. */
export interface Piece {
  readonly size: number;
  readonly len: number;
  readonly lead: number;
  readonly header: boolean;
}
/** An mbuf. */
export const m = (len: number, lead = 0): Piece => ({ size: 0, len, lead, header: false });
/** An mbuf with a packet header. */
export const hdr = (len: number, lead = 0): Piece => ({ ...m(len, lead), header: true });
/** An mbuf with a cluster from the packet zone. */
export const cl = (len: number, lead = 0): Piece => ({ ...m(len, lead), size: MCLBYTES });
/** The same with a packet header. */
export const clhdr = (len: number, lead = 0): Piece => ({ ...cl(len, lead), header: true });
/** An mbuf with a jumbo cluster. */
export const jumbo = (size: number, len: number): Piece => ({ ...m(len), size });

/** Byte i of every chain here. */
export function byte(i: number): number {
  return (i * 7 + (i >> 8) * 13 + 5) & 255;
}
export function bytes(from: number, to: number): Uint8Array {
  return Uint8Array.from({ length: to - from }, (_, i) => byte(from + i));
}
/** Builds a chain; there must be memory. `at`: which bytes it starts with. */
export function chain(plan: readonly Piece[], at = 0): mbuf_t {
  let top = NONE;
  let last = NONE;
  let done = at;
  for (const { size, len, lead, header } of plan) {
    const n =
      size === MCLBYTES
        ? m_getcl(M_NOWAIT, MT_DATA, header ? M_PKTHDR : 0)
        : size > 0
          ? m_getjcl(M_NOWAIT, MT_DATA, 0, size)
          : header
            ? m_gethdr(M_NOWAIT, MT_DATA)
            : m_get(M_NOWAIT, MT_DATA);
    assert.notEqual(n, NONE);
    mbuf.off[n] += lead;
    mbuf.len[n] = len;
    mem.U8.set(bytes(done, done + len), mtod(n));
    done += len;
    if (top === NONE) top = n;
    else mbuf.next[last] = n;
    last = n;
  }
  if (mbuf.flags[top] & M_PKTHDR) m_fixhdr(top);
  return top;
}
/** The lengths of a chain's mbufs, 'e' where storage is outside: '100 1500e 200'. */
export function shape(top: mbuf_t): string {
  const one = (at: mbuf_t): string => `${mbuf.len[at]}${mbuf.flags[at] & M_EXT ? 'e' : ''}`;
  return mbufs_of(top).map(one).join(' ');
}
/** A chain holds bytes `from` up to `to`, and is sound. */
export function whole(top: mbuf_t, from: number, to: number): void {
  assert.notEqual(top, NONE, 'there is a chain');
  assert.equal(m_sanity(top), '');
  assert.deepEqual(bytes_of(top), bytes(from, to));
}

// --- what is in use -----------------------------------------------------------------------------

export interface InUse {
  mbufs: number;
  clusters: number;
  jumbos: number;
  counts: number;
}
/** Items that programs hold, after what lies in caches went home. */
export function in_use(): InUse {
  uma_reclaim();
  const of = (z: number): number => {
    const n = zone_present(z as zone_t);
    return n.allocs - n.frees;
  };
  const r = mb();
  const all = mb_root;
  return {
    mbufs: of(all.mbuf[r]) + of(all.pack[r]),
    clusters: of(all.clust[r]),
    jumbos: of(all.jumbop[r]) + of(all.jumbo9[r]) + of(all.jumbo16[r]),
    counts: of(all.ext_refcnt[r]),
  };
}
/** Nothing is in use, and the walkers find nothing wrong. */
export function nothing_left(what = ''): void {
  assert.deepEqual(in_use(), { mbufs: 0, clusters: 0, jumbos: 0, counts: 0 }, what);
  uma_check();
}
