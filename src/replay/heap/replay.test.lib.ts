/*
 * replay.test.lib: what must hold after any replay with enough memory, for tests.
 *
 * The trace is as its truth says; the kernel's counters are those of a program
 * that made the recorded requests; the kernel's own accounts add up.
 */
import assert from 'node:assert/strict';
import { counter_get } from '../../sys/machine/counter.ts';
import { v_found } from '../../sys/kmem/redzone_vars.ts';
import { live_types } from './heap_figures.ts';
import { type ReplayOptions, type ReplayOutcome, replay } from './replay.ts';
import type { SiteFigures, TraceDocument } from '../read/trace_stats.ts';

export const PLAIN: Omit<ReplayOptions, 'files' | 'cpus'> = {
  type_by: 'caller',
  verify: true,
  strict: false,
  set: {},
};

/** Plays a file, as so many programs if it has no threads, and compares everything. */
export async function plays_as_recorded(
  file: string,
  cpus: number,
  truth: Partial<TraceDocument>,
  more: Partial<ReplayOptions> = {},
): Promise<ReplayOutcome> {
  let zones_add_up = false;
  const inspect = (): void => {
    accounts_add_up();
    assert.equal(counter_get(v_found), 0, 'written beside a block');
    zones_add_up = true;
  };
  const several = cpus > 1 && !file.includes('threads') ? { programs: cpus } : {};
  const out = await replay({ ...PLAIN, ...several, ...more, files: [file], cpus, inspect });
  assert.ok(zones_add_up);
  for (const [name, value] of Object.entries(truth)) {
    assert.deepEqual(out.trace[name as keyof TraceDocument], value, name);
  }
  const { heap, trace } = out;
  assert.equal(trace.malformed_lines, 0);
  assert.deepEqual(out.complaints, []);
  assert.equal(heap.verify_errors, 0);
  assert.equal(heap.failed, 0);
  assert.equal(heap.skipped_events, 0);
  const programs = trace.threads === undefined ? cpus : 1;
  assert.equal(heap.inuse, programs * trace.never_freed_blocks, 'blocks in use at the end');
  requests_as_recorded(out, programs);
  types_add_up(out);
  assert.ok(heap.memuse >= programs * trace.never_freed_bytes, 'memory in use at the end');
  if (cpus === 1) {
    // Alone, the player knows the peak exactly, so the share is that of the recorded peak.
    const share = 1 - trace.peak_live_bytes / out.memory.kernel_peak_bytes;
    assert.equal(out.memory.fragmentation, Math.max(0, share));
  }
  assert.ok(out.memory.kernel_peak_bytes <= out.memory.size_bytes);
  assert.ok(out.time.seconds > 0 && out.time.events_per_second > 0);
  assert.deepEqual([out.cpus, out.programs], [cpus, programs]);
  sites_add_up(trace);
  return out;
}

/*
 * A request of the recording is a request of malloc(9), but for two: a refused one
 * is never made, and a realloc that finds room in its block is none.  A realloc of
 * an unknown block is a first request.
 */
function requests_as_recorded({ heap, trace }: ReplayOutcome, programs: number): void {
  const served = Object.values(trace.size_histogram).reduce((sum, n) => sum + n, 0);
  const reallocs = trace.realloc_same_address + trace.realloc_moved - trace.realloc_of_unknown;
  const first = served - reallocs;
  const name = 'requests: every first one, and no realloc twice';
  assert.ok(heap.requests >= programs * first, `${name}: ${heap.requests} < ${first}`);
  assert.ok(heap.requests <= programs * served, `${name}: ${heap.requests} > ${served}`);
}
/* What is told of the call sites, added up, is what is told of the program. */
function sites_add_up(trace: TraceDocument): void {
  const sites = trace.sites ?? [];
  const served = Object.values(trace.size_histogram).reduce((sum, n) => sum + n, 0);
  const sums: [keyof SiteFigures, number][] = [
    ['requests', served],
    ['requested_bytes', trace.requested_bytes_total],
    ['temporary', trace.temporary],
    ['peak_blocks', trace.live_blocks_at_peak_bytes],
    ['peak_bytes', trace.peak_live_bytes],
    ['never_freed_blocks', trace.never_freed_blocks],
    ['never_freed_bytes', trace.never_freed_bytes],
  ];
  for (const [key, whole] of sums) {
    const sum = sites.reduce((n, site) => n + Number(site[key]), 0);
    assert.equal(sum, whole, `sum of ${key} over the call sites`);
  }
}
function types_add_up({ heap }: ReplayOutcome): void {
  for (const key of ['requests', 'inuse', 'memuse'] as const) {
    const sum = heap.types.reduce((n, t) => n + t[key], 0);
    assert.equal(sum, heap[key], `sum of ${key} over the types`);
    const kernel = heap.kernel.types.reduce((n, t) => n + t[key], 0);
    assert.equal(kernel, heap.kernel[key], `sum of ${key} over the kernel's own types`);
  }
  const names = heap.types.map((t) => t.name);
  assert.equal(new Set(names).size, names.length, 'each type once');
  for (const t of heap.types) assert.ok(t.requests >= t.inuse && t.memuse >= t.inuse * 16, t.name);
}

/*
 * The blocks up to a page that the types say are in use are the items that the
 * malloc zones say are in use: two counts that no code shares.
 */
function accounts_add_up(): void {
  const { types, zones } = live_types();
  const of_malloc = zones.filter((z) => z.name === String(z.size));
  assert.ok(of_malloc.length >= 9, 'the zones of malloc are found by their names');
  const items = of_malloc.reduce((n, z) => n + z.count, 0);
  const item_bytes = of_malloc.reduce((n, z) => n + z.count * z.size, 0);
  const blocks = types.reduce((n, t) => n + t.count, 0);
  const bytes = types.reduce((n, t) => n + t.bytes, 0);
  const large = blocks - items;
  assert.ok(large >= 0, `${blocks} blocks, ${items} items`);
  const page = 4096;
  assert.equal((bytes - item_bytes) % page, 0, 'what is not in zones is whole pages');
  assert.ok(bytes - item_bytes >= large * page, `${large} large blocks`);
  assert.equal(large === 0, bytes === item_bytes);
}
