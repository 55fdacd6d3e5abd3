/*
 * vmstat_rates: the line that vmstat prints by itself: who runs, how much memory there is, and what
 * the address spaces of a machine do in a second.
 *
 *      procs      memory      page                        faults
 *      r b w     avm    fre   flt  re  pi  po    fr  sr   sy
 *
 * Everything behind the memory is a rate: since the line before, of the first line since boot.
 * It is made of vm.vmtotal and of counters below vm.stats; a machine counts no interrupts and no
 * switches, and has no disks of its own, so those columns of BSD's are not there.
 */
import { type Column, columns_text } from './columns.ts';
import type { memstat_fetch } from './memstat_sysctl.ts';

/** What is looked at, at a moment. */
export interface VmSample {
  /** ms since the epoch. */
  readonly at: number;
  readonly running: number;
  readonly blocked: number;
  readonly swapped: number;
  /** Kilobytes. */
  readonly active: number;
  readonly free: number;
  /** Counters, by the title of their column. */
  readonly counts: Readonly<Record<string, number>>;
}
/** A row: a sample, and rates since the one before. */
export interface VmRates {
  readonly sample: VmSample;
  readonly rates: Readonly<Record<string, number>>;
}
/** Which counters below vm.stats make a column. */
const COUNTS: readonly (readonly [title: string, ...names: string[]])[] = [
  ['flt', 'vm.v_vm_faults'],
  ['re', 'vm.v_reactivated'],
  ['pi', 'vm.v_swapin', 'vm.v_vnodein'],
  ['po', 'vm.v_swapout', 'vm.v_vnodeout'],
  ['fr', 'vm.v_tfree'],
  ['sr', 'vm.v_pdpages'],
  ['sy', 'sys.v_syscall'],
];
const KILOBYTES_PER_PAGE = 4;
const VMTOTAL_BYTES = 48;

function number_of(bytes: Uint8Array | number): number {
  if (typeof bytes === 'number') return 0; // a machine without that has none of it
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return bytes.length === 4 ? v.getUint32(0, true) : Number(v.getBigUint64(0, true));
}
/** Looks once; an errno if the machine does not say. */
export function vmstat_sample(fetch: memstat_fetch, at: number): VmSample | number {
  const total = fetch('vm.vmtotal', VMTOTAL_BYTES);
  if (typeof total === 'number') return total;
  const v = new DataView(total.buffer, total.byteOffset, total.length);
  const counts: Record<string, number> = {};
  for (const [title, ...names] of COUNTS) {
    counts[title] = names.reduce((n, name) => n + number_of(fetch(`vm.stats.${name}`, 8)), 0);
  }
  const pages = (i: number): number => v.getInt32(12 + i * 4, true) * KILOBYTES_PER_PAGE;
  const [rq, dw, pw, , sw] = [0, 1, 2, 3, 4].map((i) => v.getInt16(i * 2, true));
  return {
    at,
    running: rq,
    blocked: dw + pw,
    swapped: sw,
    active: pages(1),
    free: pages(8),
    counts,
  };
}
/** When the machine booted, ms since the epoch; an errno. */
export function vmstat_boot_time(fetch: memstat_fetch): number | { errno: number } {
  const bytes = fetch('kern.boottime', 16);
  if (typeof bytes === 'number') return { errno: bytes };
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Number(v.getBigInt64(0, true)) * 1000 + Number(v.getBigInt64(8, true)) / 1000;
}
/** A row: rates since `before`, or since the machine booted, at `since`. Counters wrap at 2^32. */
export function vmstat_rates(sample: VmSample, before: VmSample | null, since: number): VmRates {
  const seconds = Math.max((sample.at - (before?.at ?? since)) / 1000, 0.001);
  const rates: Record<string, number> = {};
  for (const [title] of COUNTS) {
    const more = sample.counts[title] - (before?.counts[title] ?? 0);
    rates[title] = Math.round((more < 0 ? more + 2 ** 32 : more) / seconds);
  }
  return { sample, rates };
}

const rate = (title: string, width: number, help: string): Column<VmRates> => ({
  title,
  width,
  gap: ' ',
  help: `${help} Per second since the line before; in the first line, since boot.`,
  text: ({ rates }) => String(rates[title]),
});
const size = (title: string, width: number, of: (s: VmSample) => number, help: string) => ({
  title,
  width,
  gap: ' ',
  help,
  text: ({ sample }: VmRates) => String(of(sample)),
});
/** The columns of vmstat without an option. */
export const VMSTAT_COLUMNS: readonly Column<VmRates>[] = [
  size('r', 2, (s) => s.running, 'Threads that run.'),
  size('b', 1, (s) => s.blocked, 'Threads that wait for pages or for another thread, in a call.'),
  size('w', 1, (s) => s.swapped, 'Threads that are swapped out: none ever is.'),
  size(
    'avm',
    7,
    (s) => s.active,
    'Kilobytes of what is mapped in address spaces, whether in memory or not.',
  ),
  size('fre', 6, (s) => s.free, 'Kilobytes that are free, or as good as free.'),
  rate('flt', 5, 'Faults: accesses for which there was no translation, or none for that.'),
  rate('re', 3, 'Pages that were as good as free, and were used again.'),
  rate('pi', 3, 'Reads of pages from swap areas and files.'),
  rate('po', 3, 'Writes of pages to swap areas and files.'),
  rate('fr', 5, 'Pages that became free.'),
  rate('sr', 3, 'Pages that were looked at because pages were few.'),
  rate('sy', 4, 'System calls that were played on spaces.'),
];
/** The two lines of titles. */
export function vmstat_titles(): string {
  const titles = columns_text(VMSTAT_COLUMNS, []).titles;
  return ` procs      memory      page${' '.repeat(29)}faults\n${titles}\n`;
}
/** A line. */
export function vmstat_line(row: VmRates): string {
  return `${columns_text(VMSTAT_COLUMNS, [row]).lines[0]}\n`;
}
/** The same for JSON, under the names of BSD's machine-readable output. */
export function vmstat_rates_row({ sample, rates }: VmRates): Record<string, unknown> {
  return {
    processes: {
      runnable: sample.running,
      waiting: sample.blocked,
      'swapped-out': sample.swapped,
    },
    memory: { 'available-memory': sample.active, 'free-memory': sample.free },
    'paging-rates': {
      'page-faults': rates.flt,
      'pages-reactivated': rates.re,
      'pages-paged-in': rates.pi,
      'pages-paged-out': rates.po,
      'pages-freed': rates.fr,
      'pages-scanned': rates.sr,
    },
    'fault-rates': { 'system-calls': rates.sy },
  };
}
