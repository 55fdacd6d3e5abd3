/*
 * mbuf: two CPUs share clusters, hand copies over, and free them.
 *
 * Each CPU makes a packet in a cluster, marks its bytes, and lays a copy by
 * reference into a place where the other one finds it; what lay there it looks
 * at, copies once more and frees, so that either may be the one who drops a
 * count to zero, and the packet goes into the cache of that CPU.  A cluster
 * freed too early, or twice, shows by its mark; a count that is wrong shows in
 * the zones at the end.
 */
import { atomic_xchg } from '../../src/sys/machine/atomic.ts';
import { counter_get } from '../../src/sys/machine/counter.ts';
import { curcpu } from '../../src/sys/machine/cpu.ts';
import { v_reaps } from '../../src/sys/machine/death.ts';
import { mem } from '../../src/sys/machine/memory.ts';
import { elem, field_word, NULL, type Ptr, struct, words } from '../../src/sys/machine/struct.ts';
import { m_getcl } from '../../src/sys/client/kern_mbuf.ts';
import { m_copypacket, m_freem } from '../../src/sys/client/uipc_mbuf.ts';
import { M_NOWAIT } from '../../src/sys/h/malloc_flags.ts';
import { M_PKTHDR, mbuf, type mbuf_t, MT_DATA, mtod } from '../../src/sys/h/mbuf.ts';
import { uma_check } from '../../src/sys/uma/uma_check.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { mbufs_in_use } from '../account.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_mbuf'>;
const PLACES = 2;
/* Locks: (a) atomic */
const rec = struct<rec_t>('sim_mbuf')({
  place: words('a', 'packets that wait for another CPU', PLACES),
});
const MARK = 0x5eed0000;
const LEN = 64;

/** Makes a packet and lays copies of it into the first `n` places. */
function send(n: number): void {
  const m = m_getcl(M_NOWAIT, MT_DATA, M_PKTHDR);
  if (m === NULL) return;
  mbuf.len[m] = LEN;
  mbuf.plen[m] = LEN;
  mem.I32[mtod(m) >> 2] = MARK + curcpu();
  mem.I32[(mtod(m) >> 2) + 1] = mbuf.buf[m];
  for (let i = 0; i < n; i++) {
    const copy = m_copypacket(m, M_NOWAIT);
    if (copy !== NULL) receive(exchange(i, copy));
  }
  look(m);
  m_freem(m);
}
function exchange(place: number, m: number): mbuf_t {
  return atomic_xchg(field_word(rec.place, elem(scratch<rec_t>(), place)), m) as mbuf_t;
}
/** Looks at a packet, shares it once more, and lets go of both. */
function receive(m: mbuf_t): void {
  if (m === NULL) return;
  look(m);
  const copy = m_copypacket(m, M_NOWAIT);
  m_freem(m);
  if (copy === NULL) return;
  look(copy);
  m_freem(copy);
}
function look(m: mbuf_t): void {
  const w = mtod(m) >> 2;
  if ((mem.I32[w] & ~7) !== MARK || mem.I32[w + 1] !== mbuf.buf[m]) {
    throw new Error(`packet ${m * 4}: its cluster ${mbuf.buf[m] * 4} was given out again`);
  }
}

export const script: SimScript = {
  help: 'mbuf: clusters are shared, handed over and freed; no count wrong, none freed early',
  victim: 1,
  kill_seeds: 1,
  setup: () => send(0),
  ops: (cpu) =>
    cpu === 0
      ? [() => send(2), () => receive(exchange(1, 0)), () => uma_reclaim(), () => send(1)]
      : [
          () => send(1),
          () => receive(exchange(0, 0)),
          () => send(2),
          () => receive(exchange(1, 0)),
        ],
  check() {
    for (let i = 0; i < PLACES; i++) receive(exchange(i, 0));
    send(1); // what the dead one left in the caches must serve
    receive(exchange(0, 0));
    uma_reclaim();
    uma_check();
    const { mbufs, clusters } = mbufs_in_use();
    // The dead one may have held what it made, its copy, what it received, and one on the way.
    const [most_mbufs, most_clusters] = counter_get(v_reaps) > 0 ? [5, 3] : [0, 0];
    const right = mbufs >= 0 && mbufs <= most_mbufs && clusters >= 0 && clusters <= most_clusters;
    return right ? undefined : `${mbufs} mbufs and ${clusters} clusters are in use`;
  },
};
