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
/** The page: a scale, a row for each kind in use, most first, and all mbufs. */
export function systat_mbufs_text(f: MbufFigures): string {
  const rows: [string, number][] = [
    ['mbufs', f.mbufs.current - f.packets.current], // below 0 perhaps, while they come and go
    ['packets', f.packets.current],
    ['clusters', f.clusters.current],
    ['jumbo 4k', f.jumbo_page.current],
    ['jumbo 9k', f.jumbo_9k.current],
    ['jumbo 16k', f.jumbo_16k.current],
    ['tags', f.tags.current],
  ];
  const used = rows.filter(([, n]) => n > 0).sort(([, a], [, b]) => b - a);
  let scale = '';
  for (let at = 0; at <= BAR; at += TICK) scale += `/${at}`.padEnd(TICK);
  const lines = [...used, ['Mbufs', f.mbufs.current] as const].map(([name, count]) =>
    `${kprintf(NAME, name)}${bar(count)}`.trimEnd(),
  );
  return `${' '.repeat(10)}${scale.trimEnd()}\n${lines.join('\n')}\n`;
}
