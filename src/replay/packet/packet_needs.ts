/*
 * packet_needs: what a packet takes of mbufs and clusters, and what to do when a
 * machine has less.
 *
 *      bytes left          taken for them
 *      above 2048          a page cluster and an mbuf
 *      from 169 on         a cluster and an mbuf
 *      fewer               an mbuf
 *
 * as m_getm2 does, then an mbuf for the headers.  While the last copy of it is
 * made for another sender, there is an mbuf more for each piece.
 */
import { ENOMEM, KmemError } from '../../sys/machine/errno.ts';
import { MCLBYTES, MINCLSIZE, MJUMPAGESIZE, MSIZE } from '../../sys/h/mbuf.ts';
import type { PacketLimits } from './packet_task.ts';

/** Items that a packet takes while it is received. */
export interface PacketNeeds {
  mbufs: number;
  clusters: number;
  jumbo_page: number;
}
export function packet_needs(bytes: number, ways: number): PacketNeeds {
  const needs = { mbufs: 1, clusters: 0, jumbo_page: 0 };
  for (let left = bytes; left > 0; needs.mbufs++) {
    if (left > MCLBYTES) needs.jumbo_page++;
    else if (left >= MINCLSIZE) needs.clusters++;
    left -= left > MCLBYTES ? MJUMPAGESIZE : MCLBYTES;
  }
  if (ways > 1) needs.mbufs *= 2;
  return needs;
}

const LIMITS: [kind: keyof PacketNeeds, name: string, items: string][] = [
  ['jumbo_page', 'kern.ipc.nmbjumbop', 'page clusters'],
  ['clusters', 'kern.ipc.nmbclusters', 'clusters'],
  ['mbufs', 'kern.ipc.nmbufs', 'mbufs'],
];
const OTHERWISE = 'or --drop what does not fit';

/** The error that ends a replay: what the packet needs, what there is, what to raise. */
export function never_fits(bytes: number, ways: number, limits: PacketLimits): KmemError {
  const needs = packet_needs(bytes, ways);
  const packet = `a packet of ${bytes} bytes`;
  const told = (text: string): KmemError => new KmemError(ENOMEM, 'receive', `${packet} ${text}`);
  for (const [kind, name, items] of LIMITS) {
    const [n, most] = [needs[kind], limits[kind]];
    if (most === 0 || n <= most) continue;
    const needed = `needs ${n} ${items}, and ${name} allows ${most}`;
    return told(`${needed}: --set ${name}=${n} or more, ${OTHERWISE}`);
  }
  const { mbufs, clusters, jumbo_page } = needs;
  const taken = kilo(mbufs * MSIZE + clusters * MCLBYTES + jumbo_page * MJUMPAGESIZE);
  const { memory_bytes, kmem_bytes } = limits;
  const narrow = kmem_bytes < memory_bytes;
  const there = narrow ? `vm.kmem_size of ${kilo(kmem_bytes)}` : `memory of ${kilo(memory_bytes)}`;
  const advice = narrow ? '--set a larger vm.kmem_size' : 'give more --memory';
  return told(`takes ${taken}, and a ${there} has not so much to spare: ${advice}, ${OTHERWISE}`);
}
function kilo(bytes: number): string {
  return `${Math.ceil(bytes / 1024)}K`;
}
