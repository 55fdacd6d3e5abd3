/*
 * mbuf_keep: two CPUs do everything to chains that share clusters, and memory is short.
 *
 * The bytes of each chain count up, so that its first byte and its length are all that
 * the model has to know.  A CPU makes a chain, shares its middle into a place where the
 * other one finds it, puts bytes at both ends, takes some off, pulls up, and at last makes
 * all bytes its own and spoils them: where a cluster was written that others refer to,
 * their bytes count up no more.  There are few clusters, so that each call sometimes finds
 * none; the chain then is as it was, byte for byte and in its length.
 *
 * Afterwards every mbuf and cluster is back.  A CPU that was killed may have had its
 * chain, what it shared, and what it was making; a cluster that is freed too early or
 * twice ends the run under INVARIANTS.
 */
import { atomic_xchg } from '../../src/sys/machine/atomic.ts';
import { counter_get } from '../../src/sys/machine/counter.ts';
import { curcpu } from '../../src/sys/machine/cpu.ts';
import { v_reaps } from '../../src/sys/machine/death.ts';
import { mem } from '../../src/sys/machine/memory.ts';
import { elem, field_word, NULL, type Ptr, struct, words } from '../../src/sys/machine/struct.ts';
import { mb } from '../../src/sys/client/kern_mbuf.ts';
import { m_copydata, m_freem, m_sanity } from '../../src/sys/client/uipc_mbuf.ts';
import {
  m_adj_head,
  m_append_keep,
  m_fill,
  m_getroom,
  m_last,
  m_makewritable,
  m_prepend_keep,
  m_pullup_keep,
  m_share,
  m_writable,
} from '../../src/sys/client/uipc_mbuf_keep.ts';
import { M_NOWAIT } from '../../src/sys/h/malloc_flags.ts';
import { MINCLSIZE, mb_root, mbuf, type mbuf_t, mtod } from '../../src/sys/h/mbuf.ts';
import type { zone_t } from '../../src/sys/h/uma.ts';
import { uma_check } from '../../src/sys/uma/uma_check.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { mbufs_in_use } from '../account.ts';
import { uma_zone_set_max } from '../../src/sys/uma/uma_zone.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_mbuf_keep'>;
const PLACES = 2;
/* Locks: (a) atomic */
const rec = struct<rec_t>('sim_mbuf_keep')({
  place: words('a', 'chains that wait for another CPU', PLACES),
});
const NONE = NULL as mbuf_t;
const LEN = 400;
/** Bytes that are put at an end: where they do not fit, they ask for a cluster. */
const MORE = MINCLSIZE + 10;
const CLUSTERS = 4;
const SPOILT = 0xee;
const clust = (): zone_t => mb_root.clust[mb()] as zone_t;

/** Bytes that count up, over and over: as many as a chain has, from any first one. */
const COUNT = Uint8Array.from({ length: 8192 }, (_, i) => i);
/** Bytes that count up from `first`. */
const counting = (first: number, n: number): Uint8Array =>
  COUNT.subarray(first & 255, (first & 255) + n);

/** What the model has of a chain. */
interface Model {
  readonly m: mbuf_t;
  readonly first: number;
  readonly len: number;
}
/** Looks at every byte of a chain. */
function look({ m, first, len }: Model, after: string): void {
  const wrong = (what: string): never => {
    throw new Error(`after ${after}: ${what}`);
  };
  if (m_sanity(m) !== '') wrong(m_sanity(m));
  if (mbuf.plen[m] !== len) wrong(`${mbuf.plen[m]} bytes of ${len}`);
  const bytes = new Uint8Array(len);
  m_copydata(m, 0, len, bytes, 0);
  const right = counting(first, len);
  if (right.length < len) wrong(`${len} bytes are more than a chain can have`);
  if (Buffer.compare(bytes, right) === 0) return;
  const i = bytes.findIndex((byte, at) => byte !== right[at]);
  wrong(`byte ${i} of ${len} is ${bytes[i]}`);
}
/** A step: what it made of the chain, or the chain as it was where there was no memory. */
function step(was: Model, now: mbuf_t, first: number, len: number, op: string): Model {
  const is = now === NONE ? was : { m: now, first, len };
  look(is, now === NONE ? `${op} without memory` : op);
  return is;
}
function exchange(place: number, m: mbuf_t): mbuf_t {
  return atomic_xchg(field_word(rec.place, elem(scratch<rec_t>(), place)), m) as mbuf_t;
}
function make(): Model | null {
  const first = 16 * curcpu();
  const m = m_getroom(M_NOWAIT, LEN, true);
  if (m === NONE) return null;
  m_fill(m, counting(first, LEN), 0, LEN);
  mbuf.plen[m] = LEN;
  return { m, first, len: LEN };
}
/** Lays the middle of a chain into a place; what lay there is worked on. */
function share({ m, first, len }: Model, place: number): void {
  const copy = m_share(m, 10, len - 20, M_NOWAIT);
  if (copy === NONE) return;
  look({ m: copy, first: first + 10, len: len - 20 }, 'm_share');
  receive(exchange(place, copy));
}
function receive(m: mbuf_t): void {
  if (m === NONE) return;
  const byte = new Uint8Array(1);
  m_copydata(m, 0, 1, byte, 0);
  spoil(work({ m, first: byte[0], len: mbuf.plen[m] }));
}
/** Bytes at both ends, some off the head, some in one piece. */
function work(was: Model): Model {
  let c = was;
  look(c, 'it was found');
  const front = counting(c.first - MORE, MORE);
  c = step(c, m_prepend_keep(c.m, front, M_NOWAIT), c.first - MORE, c.len + MORE, 'm_prepend_keep');
  const last = m_append_keep(m_last(c.m), counting(c.first + c.len, MORE), M_NOWAIT);
  if (last !== NONE) {
    mbuf.plen[c.m] += MORE;
    if (m_last(c.m) !== last) throw new Error('m_append_keep answers another mbuf than the last');
  }
  c = step(c, last === NONE ? NONE : c.m, c.first, c.len + MORE, 'm_append_keep');
  c = step(c, m_adj_head(c.m, 40), c.first + 40, c.len - 40, 'm_adj_head');
  const n = Math.min(c.len, LEN);
  c = step(c, m_pullup_keep(c.m, n, M_NOWAIT), c.first, c.len, 'm_pullup_keep');
  return c;
}
/** Makes all bytes the chain's own, writes over them, and lets go. */
function spoil(was: Model): void {
  const own = m_makewritable(was.m, 0, was.len, M_NOWAIT);
  const { m, len } = step(was, own, was.first, was.len, 'm_makewritable');
  if (own !== NONE) {
    if (!m_writable(m, 0, len)) throw new Error('m_makewritable left a shared cluster');
    for (let at = m; at !== NONE; at = mbuf.next[at]) {
      mem.U8.fill(SPOILT, mtod(at), mtod(at) + mbuf.len[at]);
    }
  }
  m_freem(m);
}
const turn = (place: number) => (): void => {
  const c = make();
  if (c === null) return;
  share(c, place);
  spoil(work(c));
};
const fetch = (place: number) => (): void => receive(exchange(place, NONE));

export const script: SimScript = {
  help: 'mbuf: chains share clusters and change while memory is short; each keeps its bytes',
  victim: 1,
  kill_seeds: 1,
  setup() {
    turn(0)();
    fetch(0)();
    uma_zone_set_max(clust(), CLUSTERS);
  },
  ops: (cpu) => (cpu === 0 ? [turn(0), fetch(1), turn(1)] : [turn(1), fetch(0), turn(0), fetch(1)]),
  check() {
    for (let i = 0; i < PLACES; i++) fetch(i)();
    uma_reclaim();
    uma_check();
    const { mbufs, clusters } = mbufs_in_use();
    const [most_mbufs, most_clusters] = counter_get(v_reaps) > 0 ? [12, CLUSTERS] : [0, 0];
    const right = mbufs >= 0 && mbufs <= most_mbufs && clusters >= 0 && clusters <= most_clusters;
    return right ? undefined : `${mbufs} mbufs and ${clusters} clusters are in use`;
  },
};
