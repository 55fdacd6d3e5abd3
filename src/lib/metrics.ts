/*
 * metrics: the machine's figures for Prometheus and OpenTelemetry.
 *
 *      response.end(machine.collect());                     text format 0.0.4
 *      machine.observe(api)                                 an OpenTelemetry meter
 *
 * The figures lie in shared memory, so any one thread answers for all of them:
 * there is nothing to merge.  Names are stable: `kmem_` and the sysctl name with
 * `_` for `.`; types and zones carry their name as a label, and the second zone of
 * a name `nth="2"`.  An event counter is a counter, everything else a gauge.
 */
import { counters } from '../sys/machine/counter.ts';
import { stats } from './stats.ts';
import { type SysctlInfo, sysctls, sysctlValue } from './sysctl.ts';

/** One figure with all its values. */
export interface Metric {
  /** `kmem_` and what it counts; of a variable its name, with `_` for `.`. */
  readonly name: string;
  /** A counter only grows; a gauge goes up and down. */
  readonly kind: 'counter' | 'gauge';
  /** What it means, with its unit in brackets. */
  readonly help: string;
  /** One value, or one for each type or zone, which the label names. */
  readonly values: readonly {
    readonly labels: Readonly<Record<string, string>>;
    readonly value: number;
  }[];
}

const PREFIX = 'kmem_';
const NUMERIC = new Set(['int', 'uint', 'long', 'ulong', 's64', 'u64']);

type Row = Readonly<Record<string, unknown>> & { readonly name: string };
const TYPE_METRICS = [
  ['malloc_inuse', 'inUse', 'gauge', 'Blocks in use, by malloc type'],
  ['malloc_bytes', 'bytes', 'gauge', 'Bytes in use, by malloc type'],
  ['malloc_requests', 'requests', 'counter', 'Requests served, by malloc type'],
  ['malloc_approximate', 'approximate', 'gauge', '1 if the sample is not exact, by malloc type'],
] as const;
const ZONE_METRICS = [
  ['zone_size', 'size', 'gauge', 'Bytes of an item, by zone'],
  ['zone_limit', 'limit', 'gauge', 'Most items at a time, by zone; 0: no limit'],
  ['zone_used', 'used', 'gauge', 'Items in use, by zone'],
  ['zone_free', 'free', 'gauge', 'Items in caches and slabs, by zone'],
  ['zone_requests', 'requests', 'counter', 'Requests served, by zone'],
  ['zone_fails', 'fails', 'counter', 'Requests that failed, by zone'],
  ['zone_sleeps', 'sleeps', 'counter', 'Requests that slept for the limit, by zone'],
  ['zone_approximate', 'approximate', 'gauge', '1 if the sample is not exact, by zone'],
] as const;

function labelled(
  table: typeof TYPE_METRICS | typeof ZONE_METRICS,
  label: string,
  rows: readonly Row[],
): Metric[] {
  return table.map(([name, key, kind, help]) => ({
    name: PREFIX + name,
    kind,
    help,
    values: rows.map((row, i) => ({
      labels: { [label]: row.name, ...namesake(rows, i) },
      value: Number(row[key] ?? 0),
    })),
  }));
}
/** Of several rows of one name, all but the first carry their number: labels are one row's own. */
function namesake(rows: readonly Row[], i: number): { nth?: string } {
  let n = 1;
  for (let before = 0; before < i; before++) if (rows[before].name === rows[i].name) n++;
  return n === 1 ? {} : { nth: String(n) };
}
/** The numeric variables, as they were at the first call: later ones are left out. */
let listed: { machine: object; infos: SysctlInfo[] } | null = null;
function numericSysctls(machine: object): SysctlInfo[] {
  if (listed?.machine !== machine) {
    const infos = sysctls().filter((s) => NUMERIC.has(s.type));
    listed = { machine, infos };
  }
  return listed.infos;
}
/** All figures now. `machine` tells one boot from another. */
export function metrics(machine: object): Metric[] {
  const events = new Set(counters.map((c) => c.name));
  const all: Metric[] = [];
  for (const s of numericSysctls(machine)) {
    const value = sysctlValue(s.name);
    if (typeof value !== 'number' && typeof value !== 'bigint') continue;
    all.push({
      name: PREFIX + s.name.replaceAll(/[^A-Za-z0-9_]/g, '_'),
      kind: events.has(s.name) ? 'counter' : 'gauge',
      help: s.description,
      values: [{ labels: {}, value: Number(value) }],
    });
  }
  const now = stats();
  all.push(...labelled(TYPE_METRICS, 'type', now.types as unknown as Row[]));
  all.push(...labelled(ZONE_METRICS, 'zone', now.zones as unknown as Row[]));
  return all;
}

function labelsText(labels: Readonly<Record<string, string>>): string {
  const all = Object.entries(labels).map(
    ([k, v]) =>
      `${k}="${v.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`,
  );
  return all.length === 0 ? '' : `{${all.join(',')}}`;
}
/** All figures in the text format of Prometheus, version 0.0.4. */
export function prometheusText(machine: object): string {
  let text = '';
  for (const m of metrics(machine)) {
    const help = m.help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
    text += `# HELP ${m.name} ${help}\n# TYPE ${m.name} ${m.kind}\n`;
    for (const { labels, value } of m.values) text += `${m.name}${labelsText(labels)} ${value}\n`;
  }
  return text;
}

// --- OpenTelemetry ------------------------------------------------------------------------------

interface OtelObservable {
  readonly __observable?: never;
}
interface OtelResult {
  observe(observable: object, value: number, attributes?: Record<string, string>): void;
}
interface OtelMeter {
  createObservableGauge(name: string, options?: { description?: string }): object;
  createObservableCounter(name: string, options?: { description?: string }): object;
  addBatchObservableCallback(callback: (r: OtelResult) => void, observables: object[]): void;
  removeBatchObservableCallback(callback: (r: OtelResult) => void, observables: object[]): void;
}
/** As much of @opentelemetry/api as is used here. */
export interface OtelApi {
  readonly metrics: { getMeter(name: string, version?: string): OtelMeter & OtelObservable };
}
/**
 * Registers every figure as an observable with the API's meter 'kmem'; they are
 * read when the reader collects.  The result ends that when it is disposed of.
 */
export function observeWith(api: OtelApi, machine: object): Disposable {
  const meter = api.metrics.getMeter('kmem');
  const by_name = new Map<string, object>();
  for (const m of metrics(machine)) {
    const options = { description: m.help };
    const made =
      m.kind === 'counter'
        ? meter.createObservableCounter(m.name, options)
        : meter.createObservableGauge(m.name, options);
    by_name.set(m.name, made);
  }
  const observables = [...by_name.values()];
  const read = (result: OtelResult): void => {
    for (const m of metrics(machine)) {
      const observable = by_name.get(m.name);
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
