/*
 * account: what must be right after a script that allocates, whoever died.
 *
 * The walkers prove kegs, slabs, buckets and pages by themselves; the account
 * proves that together they make up all memory.  A CPU that dies may leave one
 * item per zone that nobody answers for, and malloc must have counted as many
 * as there are; pages never leak.
 */
import { counter_get } from '../src/sys/machine/counter.ts';
import { v_reap_items, v_reaps } from '../src/sys/machine/death.ts';
import { account, account_text } from '../src/sys/kmem/kmem.test.lib.ts';
import { mb } from '../src/sys/client/kern_mbuf.ts';
import { mb_root } from '../src/sys/h/mbuf.ts';
import type { zone_t } from '../src/sys/h/uma.ts';
import { zone_present } from '../src/sys/uma/uma_stats.ts';
import { sleepq_check } from '../src/sys/sync/subr_sleepqueue.ts';
import { uma_check } from '../src/sys/uma/uma_check.ts';

/** Mbufs and clusters that somebody has; cached packets hold a cluster each, and are nobody's. */
export function mbufs_in_use(): { mbufs: number; clusters: number } {
  const of = (z: number): { used: number; free: number } => {
    const n = zone_present(z as zone_t);
    return { used: n.allocs - n.frees, free: n.free };
  };
  const r = mb();
  const pack = of(mb_root.pack[r]);
  const mbufs = of(mb_root.mbuf[r]).used + pack.used;
  return { mbufs, clusters: of(mb_root.clust[r]).used - pack.free };
}
/** What is wrong with the machine; nothing if all is well. */
export function check_account(): string | undefined {
  uma_check();
  sleepq_check();
  const a = account();
  const deaths = counter_get(v_reaps);
  let malloc_lost = 0;
  for (const [name, n] of a.leaked) {
    if (Math.abs(n) > deaths) return `items nobody answers for: ${account_text(a)}`;
    if (/^\d+(?:-\d+)?$/.test(name)) malloc_lost += Math.abs(n);
  }
  if (a.pages_leaked !== 0) return `pages nobody answers for: ${account_text(a)}`;
  const counted = counter_get(v_reap_items);
  if (malloc_lost !== counted) {
    return `${malloc_lost} items lost, ${counted} counted: ${account_text(a)}`;
  }
  return undefined;
}
