/*
 * systat_mbufs: the page of systat -mbufs, from the statistics of the zones.
 *
 *                /0   /5   /10  /15  /20  /25  /30  /35  /40  /45  /50  /55  /60
 *      clusters  XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX 412
 *      packets   XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX
 *      Mbufs     XXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXXX
 *
 * One X is one item in use.  BSD's page has a row for each type of mbuf, and has
 * been empty since mbufs come from zones, which know nothing of types; here a row
 * is what a zone counts: mbufs without a cluster of the packet zone, packets,
 * clusters of each size, tags.  What is not in use has no row.
 */
import type { MbufFigures } from './netstat_text.ts';
import { kprintf } from '../machine/subr_prf.ts';

/** Longest bar; a larger count is cut there, and the number follows. */
const BAR = 60;
const TICK = 5;
const NAME = '%-10.10s';

function bar(count: number): string {
  return count > BAR ? `${'X'.repeat(BAR)} ${count}` : 'X'.repeat(count);
}
/** The rows: what is counted, and what it is. */
export const SYSTAT_ROWS: readonly {
  readonly name: string;
  readonly help: string;
  count(f: MbufFigures): number;
}[] = [
  {
    name: 'mbufs',
    help: 'Mbufs in use that did not come with a cluster.',
    count: (f) => f.mbufs.current - f.packets.current, // below 0 perhaps, while they come and go
  },
  {
    name: 'packets',
    help: 'Mbufs in use that came with a cluster.',
    count: (f) => f.packets.current,
  },
  { name: 'clusters', help: 'Clusters of 2 KiB in use.', count: (f) => f.clusters.current },
  { name: 'jumbo 4k', help: 'Clusters of 4 KiB in use.', count: (f) => f.jumbo_page.current },
  { name: 'jumbo 9k', help: 'Clusters of 9 KiB in use.', count: (f) => f.jumbo_9k.current },
  { name: 'jumbo 16k', help: 'Clusters of 16 KiB in use.', count: (f) => f.jumbo_16k.current },
  { name: 'tags', help: 'Notes on packets in use.', count: (f) => f.tags.current },
];
/** The last row. */
export const SYSTAT_ALL = { name: 'Mbufs', help: 'All mbufs in use, with and without a cluster.' };

/** The page: a scale, a row for each kind in use, most first, and all mbufs. */
export function systat_mbufs_text(f: MbufFigures): string {
  const rows = SYSTAT_ROWS.map((r): [string, number] => [r.name, r.count(f)]);
  const used = rows.filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a);
  let scale = '';
  for (let at = 0; at <= BAR; at += TICK) scale += `/${at}`.padEnd(TICK);
  const lines = [...used, [SYSTAT_ALL.name, f.mbufs.current] as const].map(([name, count]) =>
    `${kprintf(NAME, name)}${bar(count)}`.trimEnd(),
  );
  return `${' '.repeat(10)}${scale.trimEnd()}\n${lines.join('\n')}\n`;
}
