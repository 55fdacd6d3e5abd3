/*
 * mbuf_limit: two CPUs sleep for the last cluster there is.
 *
 * All clusters but one are taken.  Each CPU waits for that one, as a packet and
 * as a cluster by itself, and frees it again.  Freed as a packet it must not
 * stay in that CPU's cache while the other sleeps for a cluster.
 */
import { m_clget, m_cljget, m_get, m_getcl, mb } from '../../src/sys/client/kern_mbuf.ts';
import { m_freem } from '../../src/sys/client/uipc_mbuf.ts';
import { M_NOWAIT, M_WAITOK } from '../../src/sys/h/malloc_flags.ts';
import {
  M_EXT,
  M_PKTHDR,
  mb_root,
  mbuf,
  type mbuf_t,
  MCLBYTES,
  MT_DATA,
} from '../../src/sys/h/mbuf.ts';
import type { zone_t } from '../../src/sys/h/uma.ts';
import { NULL } from '../../src/sys/machine/struct.ts';
import { uma_check } from '../../src/sys/uma/uma_check.ts';
import { uma_zfree_arg } from '../../src/sys/uma/uma_core.ts';
import { uma_hand_over, uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { zone_present } from '../../src/sys/uma/uma_stats.ts';
import { uma_zone_get_max, uma_zone_set_max } from '../../src/sys/uma/uma_zone.ts';
import type { SimScript } from '../script.ts';

const clust = (): zone_t => mb_root.clust[mb()] as zone_t;

function packet(): void {
  const m = m_getcl(M_WAITOK, MT_DATA, M_PKTHDR);
  if (m === NULL) throw new Error('m_getcl gave up waiting');
  m_freem(m);
}
/** As a thread does that is asked for its caches in its event loop, and this one always is. */
function idle(): void {
  uma_hand_over();
}
function cluster(): void {
  const m = m_get(M_WAITOK, MT_DATA);
  m_clget(m, M_WAITOK);
  if ((mbuf.flags[m] & M_EXT) === 0) throw new Error('m_clget gave up waiting');
  m_freem(m);
}

export const script: SimScript = {
  help: 'mbuf: two CPUs sleep for one cluster; whoever frees it wakes the other',
  setup() {
    uma_zone_set_max(clust(), 1);
    // All of the one slab, and one back past the caches.
    let last = 0;
    for (let c = 1; c !== 0; ) {
      c = m_cljget(NULL as mbuf_t, M_NOWAIT, MCLBYTES);
      if (c !== 0) last = c;
    }
    uma_zfree_arg(clust(), last, 0);
  },
  ops: (cpu) =>
    (cpu === 0 ? [packet, cluster, packet] : [packet, packet, cluster]).flatMap((op) => [op, idle]),
  check() {
    uma_reclaim();
    uma_check();
    const n = zone_present(clust());
    const cached = zone_present(mb_root.pack[mb()] as zone_t).free;
    const held = uma_zone_get_max(clust()) - 1;
    const more = n.allocs - n.frees - cached - held;
    return more === 0 ? undefined : `${more} clusters too many are in use`;
  },
};
