/*
 * metrics: the machine's figures for Prometheus and OpenTelemetry.
 *
 *      response.end(machine.collect());                     text format 0.0.4
 *      machine.collect({ sysctls: true })                   with every variable
 *      machine.observe(api)                                 an OpenTelemetry meter
 *
 * The figures lie in shared memory, so any one thread answers for all of them:
 * there is nothing to merge.  The families are chosen, and their names stay:
 *
 *      kmem_memory_*      the memory as a whole, in bytes
 *      kmem_malloc_*      {type="..."}: blocks, bytes, requests, failures
 *      kmem_zone_*        {zone="..."}: items, their size and limit, requests
 *      kmem_swap_*        areas, in bytes; what went there and came back
 *      others             threads, reclaiming, faults, files, the dead, samples, mbufs
 *
 * Names follow the conventions of Prometheus: units in full, bytes and seconds,
 * `_total` at the end of what only grows.  The second zone of a name is `nth="2"`.
 * Variables come on request, because there are many of them and each is a request
 * to the tree: `kmem_sysctl_` and the name with `_` for `.`, in the unit it has.
 *
 * A figure is read from where the kernel keeps it, so that a scrape costs about what
 * the samples of types and zones cost (machine/sample.ts).
 */
import { help_of } from '../sys/machine/sysctl_decl.ts';
import { type Counter, counter_get, counters } from '../sys/machine/counter.ts';
import { KmemError } from '../sys/machine/errno.ts';
import { M, machine } from '../sys/machine/header.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import { get64 } from '../sys/machine/struct.ts';
import { malloc_root } from '../sys/h/malloc.ts';
import { malloc_samples } from '../sys/kmem/kern_malloc_sums.ts';
import { malloc_anchor } from '../sys/kmem/kern_malloc_type.ts';
import { swap_infos } from '../sys/observe/swap_info.ts';
import { KMEM_RELEASE } from '../sys/observe/sysctl_std.ts';
import { vm_page_cached } from '../sys/page/vm_page.ts';
import { phys_root, vm_phys } from '../sys/page/vm_phys.ts';
import { budget_limit_pages } from '../sys/uma/uma_budget.ts';
import { type ZoneRow, zones_present } from '../sys/uma/uma_stats.ts';
import { booleanOf, checkOptions, type Known } from './args.ts';
import { type Context, inKernel, letGo } from './context.ts';
import { memoryStats } from './memory_stats.ts';
import { sysctls, sysctlValue } from './sysctl.ts';

type Labels = Readonly<Record<string, string>>;

/** One figure with all its values. */
export interface Metric {
  /** `kmem_`, what it counts, and its unit. */
  readonly name: string;
  /** A counter only grows; a gauge goes up and down. */
  readonly kind: 'counter' | 'gauge';
  /** What it means. */
  readonly help: string;
  /** One value, or one for each type or zone, which the label names. */
  readonly values: readonly { readonly labels: Labels; readonly value: number }[];
}
/** Which figures are wanted. */
export interface MetricsOptions {
  /** Every numeric variable of machine.sysctls() as well; default false. */
  readonly sysctls?: boolean;
}
const OPTIONS: Known = ['sysctls'];
/** Whether every variable is wanted. Throws EINVAL for options that say something else. */
export function wantsSysctls(op: string, options: MetricsOptions | undefined): boolean {
  if (options === undefined) return false;
  checkOptions(op, options, OPTIONS);
  return booleanOf(op, 'sysctls', options.sysctls);
}

// --- the families ------------------------------------------------------------------------------

const PREFIX = 'kmem_';
const NONE: Labels = {};

type Family = readonly [name: string, kind: Metric['kind'], help: string];
/** An event counter: its name as a variable, what to multiply it by, and a help of its own. */
const EVENTS: readonly (readonly [string, string, number, string?])[] = [
  ['memory_taken_bytes_total', 'vm.stats.vm.v_talloc', PAGE_SIZE, 'Memory taken in pages'],
  ['memory_freed_bytes_total', 'vm.stats.vm.v_tfree', PAGE_SIZE, 'Memory given back in pages'],
  [
    'memory_zeroed_ahead_bytes_total',
    'vm.stats.misc.cnt_prezero',
    PAGE_SIZE,
    'Free memory that idle threads zeroed',
  ],
  [
    'memory_zeroed_bytes_total',
    'vm.stats.misc.zeroed',
    PAGE_SIZE,
    'Memory zeroed because a request wanted it',
  ],
  ['memory_refusals_total', 'vm.kmem_refused', 1],
  ['page_faults_total', 'vm.stats.vm.v_vm_faults', 1, 'Accesses to spaces that met no translation'],
  ['swap_read_bytes_total', 'vm.stats.vm.v_swappgsin', PAGE_SIZE, 'Memory read from swap areas'],
  ['swap_written_bytes_total', 'vm.stats.vm.v_swappgsout', PAGE_SIZE, 'Memory written there'],
  ['file_read_bytes_total', 'vm.stats.vm.v_vnodepgsin', PAGE_SIZE, 'Bytes read of mapped files'],
  ['file_written_bytes_total', 'vm.stats.vm.v_vnodepgsout', PAGE_SIZE, 'Bytes written to them'],
  ['page_daemon_wakeups_total', 'vm.stats.vm.v_pdwakeups', 1, 'Times the page daemon was woken'],
  ['reclaims_total', 'vm.reclaims', 1],
  ['drains_total', 'vm.drains', 1, 'Caches of threads handed over on request'],
  ['drains_late_total', 'vm.drain_late', 1, 'Threads that did not hand over in time'],
  ['drain_naps_total', 'vm.drain_sleeps', 1, 'Naps while waiting for caches to be handed over'],
  ['dead_threads_total', 'vm.reap.cpus', 1],
  ['dead_items_lost_total', 'vm.reap.items_lost', 1, 'Items lost when threads vanished'],
  [
    'dead_recovered_bytes_total',
    'vm.reap.pages',
    PAGE_SIZE,
    'Memory recovered from the hands of vanished threads',
  ],
  ['dead_locks_total', 'vm.reap.locks', 1],
  ['late_writes_total', 'debug.quarantine.found', 1],
  ['samples_approximate_total', 'debug.stats_approximate', 1, 'Samples that were not exact'],
  ['samples_clamped_total', 'debug.stats_clamped', 1, 'Sums brought back into what is possible'],
  ['mbuf_copy_failures_total', 'kern.ipc.m_mcfail', 1],
  ['mbuf_pullup_failures_total', 'kern.ipc.m_mpfail', 1],
  ['mbuf_drains_total', 'kern.ipc.mb_drains', 1],
];
const LEVELS: readonly (readonly [string, string, () => number])[] = [
  ['memory_zero_bytes', 'Free memory known to be zero', () => pages(vm_phys.zeroed[phys_root()])],
  ['memory_cached_bytes', 'Free memory in the caches of threads', () => pages(vm_page_cached())],
  [
    'memory_free_lowest_bytes',
    'Least memory that was ever free, caches of threads left out',
    () => pages(vm_phys.lowest[phys_root()]),
  ],
  [
    'memory_limit_bytes',
    'What malloc and zones may hold, 0: no limit',
    () => pages(budget_limit_pages()),
  ],
  [
    'quarantine_bytes',
    'Freed large blocks that wait to be looked at again',
    () => pages(malloc_root.held_pages[malloc_anchor()]),
  ],
  ['swap_size_bytes', 'Swap areas, as far as they can be used', () => swapBytes('size')],
  ['swap_used_bytes', 'Swap areas that pages are in', () => swapBytes('used')],
  ['swap_bad_bytes', 'Swap areas that failed, or had no room', () => swapBytes('bad')],
  ['threads_max', 'Threads that may be attached at a time', () => machine.maxcpus[M]],
  ['boot_time_seconds', 'When the machine booted', () => get64(machine.boot_time, M) / 1000],
];
const MEMORY: readonly (readonly [string, keyof ReturnType<typeof memoryStats>, string])[] = [
  ['memory_size_bytes', 'size', 'The whole memory'],
  ['memory_managed_bytes', 'managed', 'Memory managed as pages'],
  ['memory_free_bytes', 'free', 'Memory in free pages'],
  ['memory_held_bytes', 'held', 'Memory that types, zones and their caches hold'],
  ['memory_longest_run_bytes', 'longestRun', 'The largest block to be had'],
  ['threads', 'cpus', 'Threads that are attached'],
];
type TypeRow = ReturnType<typeof malloc_samples>[number];
const TYPES: readonly (readonly [...Family, (t: TypeRow) => number])[] = [
  ['malloc_blocks', 'gauge', 'Blocks in use', (t) => t.sample.inuse],
  ['malloc_bytes', 'gauge', 'Bytes in use, as size classes round them', (t) => t.sample.bytes],
  ['malloc_requests_total', 'counter', 'Requests served', (t) => t.sample.requests],
  ['malloc_failures_total', 'counter', 'Requests that got no memory', (t) => t.sample.failed],
  ['malloc_approximate', 'gauge', '1 if the sample is not exact', (t) => +t.sample.approximate],
];
const ZONES: readonly (readonly [...Family, (z: ZoneRow) => number])[] = [
  ['zone_item_bytes', 'gauge', 'Size of an item', (z) => z.size],
  ['zone_limit_items', 'gauge', 'Most items at a time, 0: no limit', (z) => z.limit],
  ['zone_used_items', 'gauge', 'Items in use', (z) => z.counts.used],
  ['zone_used_bytes', 'gauge', 'Size of the items in use', (z) => z.counts.used * z.size],
  ['zone_free_items', 'gauge', 'Items in caches and slabs', (z) => z.counts.free],
  ['zone_requests_total', 'counter', 'Requests served', (z) => z.counts.allocs],
  ['zone_failures_total', 'counter', 'Requests that failed', (z) => z.counts.fails],
  ['zone_sleeps_total', 'counter', 'Requests that slept for the limit', (z) => z.counts.sleeps],
  ['zone_approximate', 'gauge', '1 if the sample is not exact', (z) => +z.counts.approximate],
];

const pages = (n: number): number => n * PAGE_SIZE;
const swapBytes = (of: 'size' | 'used' | 'bad'): number =>
  swap_infos().reduce((sum, area) => sum + area[of], 0);
let by_name: ReadonlyMap<string, Counter> | null = null;
function event(name: string): Counter {
  by_name ??= new Map(counters.map((c) => [c.name, c]));
  return by_name.get(name) as Counter;
}
/** The sum of an event counter, all 64 bits of it; below vm.stats the variable shows 32. */
function events(name: string): number {
  return counter_get(event(name));
}
function single(name: string, kind: Metric['kind'], help: string, value: number): Metric {
  return { name: PREFIX + name, kind, help, values: [{ labels: NONE, value }] };
}
function labelled<R extends { readonly name: string }>(
  table: readonly (readonly [...Family, (row: R) => number])[],
  label: string,
  rows: readonly R[],
): Metric[] {
  // One object for all families: whoever writes labels does it once for each row.
  const seen = new Map<string, number>();
  const labels = rows.map(({ name }): Labels => {
    const n = (seen.get(name) ?? 0) + 1;
    seen.set(name, n);
    return n === 1 ? { [label]: name } : { [label]: name, nth: String(n) };
  });
  return table.map(([name, kind, help, read]) => ({
    name: PREFIX + name,
    kind,
    help,
    values: rows.map((row, i) => ({ labels: labels[i], value: read(row) })),
  }));
}

// --- variables on request ------------------------------------------------------------------------

const NUMERIC = new Set(['int', 'uint', 'long', 'ulong', 's64', 'u64']);
/** The value of a numeric variable; null: it went away meanwhile, or is more than one number. */
function numberOf(name: string): number | null {
  try {
    const value = sysctlValue(name);
    return typeof value === 'number' || typeof value === 'bigint' ? Number(value) : null;
  } catch (e) {
    if (e instanceof KmemError && (e.code === 'ENOENT' || e.code === 'EOPNOTSUPP')) return null;
    throw e;
  }
}
function variables(): Metric[] {
  const all: Metric[] = [];
  const names = new Set<string>();
  const counts = new Set(counters.map((c) => c.name));
  for (const s of sysctls()) {
    const kind = counts.has(s.name) ? 'counter' : 'gauge';
    const last = kind === 'counter' ? '_total' : '';
    const name = `sysctl_${s.name.replaceAll(/[^A-Za-z0-9_]/g, '_')}${last}`;
    const value = NUMERIC.has(s.type) && !names.has(name) ? numberOf(s.name) : null;
    if (value === null) continue;
    names.add(name);
    all.push(single(name, kind, s.description, kind === 'counter' ? events(s.name) : value));
  }
  return all;
}

// --- their names -------------------------------------------------------------------------------

/** Every family that is always there: for `kmem explain`. */
export function families(): Family[] {
  return [
    ...MEMORY.map(([name, , help]): Family => [PREFIX + name, 'gauge', help]),
    ...LEVELS.map(([name, help]): Family => [PREFIX + name, 'gauge', help]),
    ...EVENTS.map(
      ([name, of, , help = help_of(event(of))]): Family => [PREFIX + name, 'counter', help],
    ),
    ...[...TYPES, ...ZONES].map(([name, kind, help]): Family => [PREFIX + name, kind, help]),
  ];
}

// --- all of them ---------------------------------------------------------------------------------

/** The figures now; with `all` every numeric variable as well. */
export function metrics(all: boolean): Metric[] {
  const memory = memoryStats();
  const release = [{ labels: { version: KMEM_RELEASE }, value: 1 }];
  return [
    { name: `${PREFIX}build_info`, kind: 'gauge', help: 'Version of kmem', values: release },
    ...MEMORY.map(([name, key, help]) => single(name, 'gauge', help, memory[key])),
    ...LEVELS.map(([name, help, read]) => single(name, 'gauge', help, read())),
    ...EVENTS.map(([name, of, by, help = help_of(event(of))]) =>
      single(name, 'counter', help, events(of) * by),
    ),
    // Oldest first, so that a new zone of a name in use does not change the other's labels.
    ...labelled(TYPES, 'type', malloc_samples().reverse()),
    ...labelled(ZONES, 'zone', zones_present().reverse()),
    ...(all ? variables() : []),
  ];
}

function labelsText(labels: Labels): string {
  const all = Object.entries(labels).map(
    ([k, v]) =>
      `${k}="${v.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
  );
  return all.length === 0 ? '' : `{${all.join(',')}}`;
}
/** The figures in the text format of Prometheus, version 0.0.4. */
export function prometheusText(all: boolean): string {
  let text = '';
  const written = new Map<Labels, string>();
  for (const m of metrics(all)) {
    const help = m.help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
    text += `# HELP ${m.name} ${help}\n# TYPE ${m.name} ${m.kind}\n`;
    for (const { labels, value } of m.values) {
      const of = written.get(labels) ?? labelsText(labels);
      written.set(labels, of);
      text += `${m.name}${of} ${value}\n`;
    }
  }
  return text;
}

// --- OpenTelemetry ------------------------------------------------------------------------------

interface OtelObservable {
  readonly __observable?: never;
}
interface OtelOptions {
  readonly description?: string;
  readonly unit?: string;
}
interface OtelResult {
  observe(observable: object, value: number, attributes?: Record<string, string>): void;
}
interface OtelMeter {
  createObservableGauge(name: string, options?: OtelOptions): object;
  createObservableCounter(name: string, options?: OtelOptions): object;
  addBatchObservableCallback(callback: (r: OtelResult) => void, observables: object[]): void;
  removeBatchObservableCallback(callback: (r: OtelResult) => void, observables: object[]): void;
}
/** As much of @opentelemetry/api as is used here. */
export interface OtelApi {
  readonly metrics: { getMeter(name: string, version?: string): OtelMeter & OtelObservable };
}
/** The unit of a figure as OpenTelemetry writes it. */
function unitOf(name: string): { unit?: string } {
  if (/_bytes(_total)?$/.test(name)) return { unit: 'By' };
  return name.endsWith('_seconds') ? { unit: 's' } : {};
}
/**
 * Registers every figure as an observable with the API's meter 'kmem'; they are
 * read when the reader collects.  The result ends that when it is disposed of.  A reader
 * gets nothing from a thread that is parked, or whose machine has ended.
 */
export function observeWith(ctx: Context, api: OtelApi, all: boolean): Disposable {
  const meter = api.metrics.getMeter('kmem');
  const made = new Map<string, object>();
  for (const m of inKernel('observe', () => metrics(all))) {
    const options = { description: m.help, ...unitOf(m.name) };
    const observable =
      m.kind === 'counter'
        ? meter.createObservableCounter(m.name, options)
        : meter.createObservableGauge(m.name, options);
    made.set(m.name, observable);
  }
  const observables = [...made.values()];
  const now = (): Metric[] =>
    ctx.up && !ctx.parked ? inKernel('observe', () => metrics(all)) : [];
  const read = (result: OtelResult): void => {
    for (const m of letGo(now) ?? []) {
      const observable = made.get(m.name);
      if (!observable) continue;
      for (const { labels, value } of m.values) result.observe(observable, value, { ...labels });
    }
  };
  meter.addBatchObservableCallback(read, observables);
  let on = true;
  return {
    [Symbol.dispose]: () => {
      if (on) meter.removeBatchObservableCallback(read, observables);
      on = false;
    },
  };
}
