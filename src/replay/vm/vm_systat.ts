/*
 * vm_systat: a page of figures while system calls are played, drawn again and again.
 *
 *      Spaces      Free     Taken      Most    Faults      Zero       COW      Shot
 *           5   259,470     2,674     2,911    32,067    31,980        87         3
 *
 * Spaces that are there; pages of the machine that are free, are taken, and were at the peak;
 * faults, pages filled with zeros, pages that writing to shared memory made, and shoot-downs
 * since the machine was booted.  All of it is read by sysctl from the machine that plays.
 */
import { count } from '../heap/verdict.ts';
import { live_number } from '../heap/heap_figures.ts';
import { live_counts } from './vm_replay.ts';

/** Whether there is an address space to tell of. */
export function has_spaces(): boolean {
  return live_number('vm.maps') > 0;
}
/** The page. */
export function vm_systat_text(): string {
  const pages = live_number('vm.stats.vm.v_page_count');
  const free = live_number('vm.stats.vm.v_free_count');
  const counts = live_counts();
  const columns: readonly [title: string, n: number][] = [
    ['Spaces', live_number('vm.maps')],
    ['Free', free],
    ['Taken', pages - free],
    ['Most', pages - live_number('vm.stats.vm.v_free_lowest')],
    ['Faults', counts.faults],
    ['Zero', counts.zero_fills],
    ['COW', counts.cow],
    ['Shot', counts.shootdowns],
  ];
  const wide = (cells: readonly string[]): string => cells.map((c) => c.padStart(WIDTH)).join('');
  const titles = wide(columns.map(([title]) => title));
  return `${titles}\n${wide(columns.map(([, n]) => count(n)))}\n`;
}
const WIDTH = 10;
