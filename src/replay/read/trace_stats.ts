/*
 * trace_stats: what a heap trace says about the program, as one document.
 *
 * Counted while the events go by, in a few plain additions an event; what can
 * be derived is derived at the end.  The names and their meaning are those of
 * traces/truth.json:
 *
 *   event_lines        lines that are operations; `<` and `>` count one each
 *   acquisitions       lines that obtain a block, refused ones included: `+` and
 *                      `>` of mtrace; m, c, a and r of a threads trace, except an
 *                      r that only releases or that fails to move a block
 *   requested_bytes_total, size_histogram, top_sizes, zero_size, call_sites,
 *   top_call_sites_by_requests     only acquisitions that gave a block
 *   failed             refused acquisitions and refused reallocs
 *   peak_live_bytes    requested bytes alive after an event line; _at_event is
 *                      the first line where it is reached, counted from 1
 *   realloc_same_address, realloc_moved   every realloc that gave a block,
 *                      also one of an address never obtained
 *   size_histogram     a bucket holds sizes up to its name and above the one
 *                      before; all from 1 to 16 are in "16"
 *   released_by_*      threads: whether the releasing thread (free, or realloc
 *                      of a known block) is the one that last obtained it
 *   temporary          blocks released, or moved by a realloc, before any other
 *                      was obtained, released or moved; heaptrack.ts has its own rule
 *   sites              all figures of the call sites that matter most, and what the
 *                      others sum up to; blocks and bytes at the peak are those that
 *                      were live behind the event of peak_live_bytes_at_event
 *
 * How the peak is known by site: nothing is copied when a new peak is reached, which
 * happens at every other event while a heap grows.  What each site obtained and
 * released *since* the newest peak is counted instead, with the peak's number beside
 * it, by which older counts are known to be out of date.  At the end, live blocks less
 * that are those of the peak.
 *
 * Lists are sorted by their leading figure, largest first; ties by name or by
 * size, smallest first.
 *
 * Sizes of 2^53 and above cannot be added exactly as doubles.  They are summed
 * apart, so that one absurd line does not spoil the exact sum of all others.
 *
 * Locks: none; the reader's thread owns all of it.
 */

import { LineStats } from './line_stats.ts';
import { FOLDED_NAME, type Sites } from './sites.ts';
import { widened } from './widened.ts';

export type CountsByName = Record<string, number>;
export type SiteRow = [name: string, blocks: number, bytes: number];

/** All that is counted of a call site. */
export interface SiteFigures {
  name: string;
  requests: number;
  requested_bytes: number;
  temporary: number;
  peak_blocks: number;
  peak_bytes: number;
  never_freed_blocks: number;
  never_freed_bytes: number;
}

export interface ThreadRow {
  events: number;
  acquisitions: number;
  releases: number;
  bytes: number;
}

/** The `trace` part of the replay's document.  Fields that a format lacks are absent. */
export interface TraceDocument {
  format: string;
  event_lines: number;
  start_line?: boolean;
  end_line?: boolean;
  unparsed_lines?: number;
  lines_by_op: CountsByName;
  /** heaptrack: what wrote the file and how, and what it says besides the heap's events. */
  recorder?: string;
  file_version?: number;
  raw?: boolean;
  pairing?: 'address' | 'last in, first out';
  command?: string;
  attached?: boolean;
  leak_suppressions?: number;
  page_bytes?: number;
  machine_bytes?: number;
  peak_rss_bytes?: number;
  recorded_ms?: number;
  /** Time of the peak since the start, as of the last time that the file told before it. */
  peak_live_ms?: number;
  interned?: CountsByName;
  threads?: number;
  released_by_acquiring_thread?: number;
  released_by_other_thread?: number;
  threads_with_1000_events_or_more?: Record<string, ThreadRow>;
  acquisitions: number;
  requested_bytes_total: number;
  peak_live_bytes: number;
  peak_live_bytes_at_event: number;
  live_blocks_at_peak_bytes: number;
  peak_live_blocks: number;
  never_freed_blocks: number;
  never_freed_bytes: number;
  zero_size: number;
  temporary: number;
  failed: number;
  free_of_unknown: number;
  realloc_of_unknown: number;
  acquired_while_live: number;
  realloc_same_address: number;
  realloc_moved: number;
  size_histogram: CountsByName;
  top_sizes: [size: number, count: number][];
  call_sites?: number;
  top_call_sites_by_requests?: SiteRow[];
  top_call_sites_at_peak?: SiteRow[];
  top_never_freed_sites?: SiteRow[];
  sites?: SiteFigures[];
  uncompressed_bytes: number;
  compressed_bytes: number;
  sha256: string | null;
  malformed_lines: number;
  malformed: string[];
  /** Byte of the unpacked trace behind which nothing could be read, and why; absent: none. */
  damaged_at?: number;
  damage?: string;
}

const TOP_SIZES = 16;
const TOP_SITES = 10;
/** Call sites with a row of their own in `sites`. */
export const SITES_KEPT = 300;
const BUSY_THREAD_EVENTS = 1000;

/** Sizes below this are counted in an array, the rare larger ones in a Map. */
const SMALL_SIZES = 65536;
/** Different large sizes kept; beyond them only the histogram stays exact. */
const MAX_LARGE_SIZES = 262144;
const SMALLEST_BUCKET_SHIFT = 4;
const EXACT_LIMIT = 2 ** 53;

export class TraceStats extends LineStats {
  /** Milliseconds since the start, where the trace tells. */
  clock_ms = 0;
  start_line = false;
  end_line = false;
  failed = 0;
  acquisitions = 0;
  free_of_unknown = 0;
  realloc_of_unknown = 0;
  acquired_while_live = 0;
  realloc_same_address = 0;
  realloc_moved = 0;
  released_by_acquiring_thread = 0;
  released_by_other_thread = 0;
  readonly threads: ThreadRow[] = [];
  /** Trace thread index to the number the trace gives it. */
  readonly thread_numbers: number[] = [];
  readonly #small = new Float64Array(SMALL_SIZES);
  readonly #large = new Map<number, number>();
  readonly #large_by_shift = new Float64Array(65);
  #requested = 0;
  #requested_huge = 0;
  #live_bytes = 0;
  #live_huge_bytes = 0;
  #live_huge_blocks = 0;
  #live_blocks = 0;
  #peak_bytes = 0;
  #peak_event = 0;
  #peak_ms = 0;
  #peak_bytes_blocks = 0;
  #peak_blocks = 0;
  #block_size = new Float64Array(65536);
  #block_site = new Int32Array(65536);
  #site_requests = new Float64Array(1024);
  #site_bytes = new Float64Array(1024);
  #site_temporary = new Float64Array(1024);
  #temporary = 0;
  /* What a site obtained, less what it released, since the peak of this number. */
  #peaks = 1;
  #since_peak = new Float64Array(1024);
  #since_blocks = new Float64Array(1024);
  #since_bytes = new Float64Array(1024);

  /** Block `id` is born, or lives on, with this size; a realloc retires the old size first. */
  born(id: number, size: number, site: number): void {
    if (id >= this.#block_size.length) this.#widen_blocks();
    this.#block_size[id] = size;
    this.#block_site[id] = site;
    if (site >= this.#site_requests.length) this.#widen_sites();
    this.#site_requests[site]++;
    this.#site_bytes[site] += size;
    this.#live_blocks++;
    if (size < SMALL_SIZES) {
      this.#small[size]++;
      this.#requested += size;
      this.#live_bytes += size;
    } else {
      this.#born_large(size);
    }
    const live = this.#live_bytes + this.#live_huge_bytes;
    if (live > this.#peak_bytes) {
      this.#peak_bytes = live;
      this.#peak_event = this.event_lines;
      this.#peak_ms = this.clock_ms;
      this.#peak_bytes_blocks = this.#live_blocks;
      this.#peaks++;
    } else this.#count_since(site, 1, size);
    if (this.#live_blocks > this.#peak_blocks) this.#peak_blocks = this.#live_blocks;
  }

  died(id: number): void {
    const size = this.#block_size[id];
    this.#live_blocks--;
    this.#count_since(this.#block_site[id], -1, -size);
    if (size < EXACT_LIMIT) {
      this.#live_bytes -= size;
    } else {
      this.#live_huge_blocks--;
      this.#live_huge_bytes = this.#live_huge_blocks === 0 ? 0 : this.#live_huge_bytes - size;
    }
  }

  /** A block of this site lived for a moment only. */
  temporary_at(site: number): void {
    this.#temporary++;
    this.#site_temporary[site]++;
  }
  site_of(id: number): number {
    return this.#block_site[id];
  }
  get peak_ms(): number {
    return this.#peak_ms;
  }

  #count_since(site: number, blocks: number, bytes: number): void {
    if (this.#since_peak[site] !== this.#peaks) {
      this.#since_peak[site] = this.#peaks;
      this.#since_blocks[site] = blocks;
      this.#since_bytes[site] = bytes;
    } else {
      this.#since_blocks[site] += blocks;
      this.#since_bytes[site] += bytes;
    }
  }

  /** What formats have in common; each adds its own. */
  common(live_ids: (fn: (id: number) => void) => void) {
    let never_freed_bytes = 0;
    live_ids((id) => {
      never_freed_bytes += this.#block_size[id];
    });
    return {
      acquisitions: this.acquisitions,
      requested_bytes_total: this.#requested + this.#requested_huge,
      peak_live_bytes: this.#peak_bytes,
      peak_live_bytes_at_event: this.#peak_event,
      live_blocks_at_peak_bytes: this.#peak_bytes_blocks,
      peak_live_blocks: this.#peak_blocks,
      never_freed_blocks: this.#live_blocks,
      never_freed_bytes,
      zero_size: this.#small[0],
      temporary: this.#temporary,
      failed: this.failed,
      free_of_unknown: this.free_of_unknown,
      realloc_of_unknown: this.realloc_of_unknown,
      acquired_while_live: this.acquired_while_live,
      realloc_same_address: this.realloc_same_address,
      realloc_moved: this.realloc_moved,
      size_histogram: this.#histogram(),
      top_sizes: this.#top_sizes(),
      malformed_lines: this.malformed_lines,
      malformed: this.malformed,
    };
  }

  sites(sites: Sites, live_ids: (fn: (id: number) => void) => void) {
    const all = this.#site_figures(sites, live_ids);
    const top = (key: keyof SiteFigures, row: (s: SiteFigures) => SiteRow): SiteRow[] =>
      by_figure(all, key).slice(0, TOP_SITES).map(row);
    return {
      call_sites: all.length,
      top_call_sites_by_requests: top('requests', (s) => [s.name, s.requests, s.requested_bytes]),
      top_call_sites_at_peak: top('peak_bytes', (s) => [s.name, s.peak_blocks, s.peak_bytes]),
      top_never_freed_sites: top('never_freed_bytes', (s) => [
        s.name,
        s.never_freed_blocks,
        s.never_freed_bytes,
      ]),
      sites: kept_sites(all),
    };
  }
  /* Every site that obtained a block. */
  #site_figures(sites: Sites, live_ids: (fn: (id: number) => void) => void): SiteFigures[] {
    const seen = Math.min(sites.names.length, this.#site_requests.length);
    const blocks = new Float64Array(seen);
    const bytes = new Float64Array(seen);
    live_ids((id) => {
      blocks[this.#block_site[id]]++;
      bytes[this.#block_site[id]] += this.#block_size[id];
    });
    const all: SiteFigures[] = [];
    for (let site = 0; site < seen; site++) {
      if (this.#site_requests[site] === 0) continue;
      const moved = this.#since_peak[site] === this.#peaks;
      all.push({
        name: sites.names[site],
        requests: this.#site_requests[site],
        requested_bytes: this.#site_bytes[site],
        temporary: this.#site_temporary[site],
        peak_blocks: blocks[site] - (moved ? this.#since_blocks[site] : 0),
        peak_bytes: bytes[site] - (moved ? this.#since_bytes[site] : 0),
        never_freed_blocks: blocks[site],
        never_freed_bytes: bytes[site],
      });
    }
    return all;
  }

  busy_threads(): Record<string, ThreadRow> {
    const busy: Record<string, ThreadRow> = {};
    for (const [index, row] of this.threads.entries()) {
      if (row.events >= BUSY_THREAD_EVENTS) busy[this.thread_numbers[index]] = { ...row };
    }
    return busy;
  }

  #born_large(size: number): void {
    if (size < EXACT_LIMIT) {
      this.#requested += size;
      this.#live_bytes += size;
    } else {
      this.#requested_huge += size;
      this.#live_huge_bytes += size;
      this.#live_huge_blocks++;
    }
    this.#large_by_shift[bucket_shift(size)]++;
    const count = this.#large.get(size);
    if (count !== undefined) this.#large.set(size, count + 1);
    else if (this.#large.size < MAX_LARGE_SIZES) this.#large.set(size, 1);
  }

  #histogram(): CountsByName {
    const by_shift = this.#large_by_shift.slice();
    for (let size = 1; size < SMALL_SIZES; size++)
      by_shift[bucket_shift(size)] += this.#small[size];
    const histogram: CountsByName = {};
    if (this.#small[0] > 0) histogram['0'] = this.#small[0];
    for (const [shift, count] of by_shift.entries()) {
      if (count > 0) histogram[String(2n ** BigInt(shift))] = count;
    }
    return histogram;
  }

  #top_sizes(): [number, number][] {
    const rows: [number, number][] = [...this.#large];
    for (let size = 0; size < SMALL_SIZES; size++) {
      if (this.#small[size] > 0) rows.push([size, this.#small[size]]);
    }
    return rows.sort((a, b) => b[1] - a[1] || a[0] - b[0]).slice(0, TOP_SIZES);
  }

  #widen_blocks(): void {
    const size = new Float64Array(this.#block_size.length * 2);
    const site = new Int32Array(this.#block_site.length * 2);
    size.set(this.#block_size);
    site.set(this.#block_site);
    this.#block_size = size;
    this.#block_site = site;
  }

  #widen_sites(): void {
    this.#site_requests = widened(this.#site_requests);
    this.#site_bytes = widened(this.#site_bytes);
    this.#site_temporary = widened(this.#site_temporary);
    this.#since_peak = widened(this.#since_peak);
    this.#since_blocks = widened(this.#since_blocks);
    this.#since_bytes = widened(this.#since_bytes);
  }
}

/** Log2 of the histogram bucket that holds this size (1 or more). */
function bucket_shift(size: number): number {
  if (size <= 2 ** SMALLEST_BUCKET_SHIFT) return SMALLEST_BUCKET_SHIFT;
  if (size <= 2 ** 31) return 32 - Math.clz32(size - 1);
  /* The logarithm of a double may round across a power of two; the powers are exact. */
  let shift = Math.round(Math.log2(size));
  if (2 ** shift < size) shift++;
  else if (2 ** (shift - 1) >= size) shift--;
  return Math.min(64, shift);
}

/** The sites with any of this figure, largest first, then by name. */
function by_figure(all: readonly SiteFigures[], key: keyof SiteFigures): SiteFigures[] {
  const by_name = (a: SiteFigures, b: SiteFigures) => (a.name < b.name ? -1 : 1);
  const blocks = key === 'never_freed_bytes' ? 'never_freed_blocks' : key;
  return all
    .filter((s) => Number(s[blocks]) > 0)
    .sort((a, b) => Number(b[key]) - Number(a[key]) || by_name(a, b));
}
/** Those that lead in any figure, most never freed first, and one for all others. */
function kept_sites(all: readonly SiteFigures[]): SiteFigures[] {
  const leaking = by_figure(all, 'never_freed_bytes');
  const peaking = by_figure(all, 'peak_bytes');
  const asking = by_figure(all, 'requests');
  if (all.length <= SITES_KEPT) return [...new Set([...leaking, ...peaking, ...asking])];
  const share = SITES_KEPT / 3;
  const leaders = [leaking, peaking, asking].flatMap((list) => list.slice(0, share));
  const kept = new Set(leaders);
  const others: SiteFigures = {
    name: FOLDED_NAME,
    requests: 0,
    requested_bytes: 0,
    temporary: 0,
    peak_blocks: 0,
    peak_bytes: 0,
    never_freed_blocks: 0,
    never_freed_bytes: 0,
  };
  for (const site of all) {
    // Beyond the most that a trace may name, sites share one of this name already.
    if (kept.has(site) && site.name !== FOLDED_NAME) continue;
    kept.delete(site);
    for (const key of Object.keys(others) as (keyof SiteFigures)[]) {
      if (key !== 'name') others[key] += site[key];
    }
  }
  return [...kept, others];
}
