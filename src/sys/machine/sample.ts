/*
 * sample: sums over CPUs that go on counting meanwhile.
 *
 * Each CPU counts what it allocates and what it frees in words of its own.  In
 * use is the sum of all allocations less that of all frees, but the words cannot
 * be read all at once.  Frees first and allocations last is not enough: all that
 * is allocated between the two reads counts as in use, and a reader that loses its
 * processor there is wrong by a million.
 *
 *      one CPU      frees, allocations, frees again: if no free was counted
 *                   between, allocations - frees is what was in use at the moment
 *                   of the second read.  If one was, the CPU is read again, and
 *                   the closest of CPU_TRIES counts
 *      all CPUs     each is read once before: if all say the same the second time,
 *                   so it was.  Else each is read once after; what moved tells how
 *                   many blocks can have been made on one CPU and freed on another
 *                   within the sample.  The closest of SAMPLE_TRIES samples counts
 *
 * `apart` bounds the error: frees counted while single CPUs were read, and blocks
 * that can have gone from CPU to CPU.  0 means that the sample is exact; after some
 * tries a few are close enough.  It is *approximate* if `apart` is above SAMPLE_APART,
 * or if the sum had to be brought back into what is possible: not below zero, not above
 * what the slabs hold.
 *
 * A free is counted after its allocation, so the frees that are read first never
 * exceed the allocations that are read after them, as long as blocks stay on their
 * CPU.  On ARM two plain stores may become visible in the other order: there a sum
 * may be below zero by what is in the CPU's store buffer, and is shown as 0.
 */
import { atomic_add } from './atomic.ts';
import { type Counter, counter_add, counter_u64 } from './counter.ts';
import { MAXCPU, thr } from './cpu.ts';
import { opt } from './opt.ts';
import { SPARES } from './slot_word.ts';

/** Reads of one CPU of which the closest counts. */
const CPU_TRIES = 4;
/** Samples of which the closest counts. */
const SAMPLE_TRIES = 12;
/** Samples after which one that can be wrong by NEAR at most is close enough. */
const NEAR_TRIES = 3;
const NEAR = 4;
/** Exact samples that say what cannot be, before it is believed. */
const IMPOSSIBLE_TRIES = 3;
/** A sample whose error can be larger says so. */
export const SAMPLE_APART = 64;

const v_clamped = counter_u64(
  'debug.stats_clamped',
  'Sums that came out below zero or above what is held, and were brought back',
);
const v_approximate = counter_u64(
  'debug.stats_approximate',
  'Samples of a type or zone that moved too much to be exact, or were brought back',
);

/** The counts of one CPU, for a sampler to read. `n` is what is counted, `bytes` goes with it. */
export interface Reading {
  allocs: number;
  frees: number;
  alloced_bytes: number;
  freed_bytes: number;
  /** Frees counted while it was read. */
  apart: number;
}
/** What a test does in the middle of a reading, in the place of another CPU; null: nothing. */
export const sample_between: { run: (() => void) | null } = { run: null };

/** CPUs, the spare slots, and one for counts that no CPU has. */
const ROWS = MAXCPU + SPARES + 1;
const fresh_row = (): Reading => ({
  allocs: 0,
  frees: 0,
  alloced_bytes: 0,
  freed_bytes: 0,
  apart: 0,
});
const rows = (): Reading[] => Array.from({ length: ROWS }, fresh_row);
function copy_row(from: Reading, to: Reading): void {
  to.allocs = from.allocs;
  to.frees = from.frees;
  to.alloced_bytes = from.alloced_bytes;
  to.freed_bytes = from.freed_bytes;
  to.apart = from.apart;
}
const [before, now, after, best, trial] = [rows(), rows(), rows(), rows(), rows()];

/** What a sampler reads. */
export interface Source {
  /** Rows; one that its CPU has not used yet counts nothing. */
  readonly count: number;
  /** Reads row i. */
  readonly read: (i: number, into: Reading) => void;
}
type Part = (i: number, into: Reading) => void;
/** Reads row i of a source whose frees and allocations are words of their own. */
export function read_pair(i: number, into: Reading, frees: Part, allocs: Part): void {
  frees(i, into);
  const first = into.frees;
  const first_bytes = into.freed_bytes;
  if (opt.FAILPOINTS) sample_between.run?.();
  allocs(i, into);
  frees(i, into);
  into.apart = into.frees - first;
  into.frees = first;
  into.freed_bytes = first_bytes;
}
/** The closest reading of a row. */
function read_row(from: Source, i: number, into: Reading): void {
  from.read(i, into);
  for (let n = 1; n < CPU_TRIES && into.apart !== 0; n++) {
    from.read(i, trial[0]);
    if (trial[0].apart < into.apart) copy_row(trial[0], into);
  }
}
/** Blocks that were made on one row and freed on another within the sample: at most so many. */
function crossed(count: number): number {
  let freed = 0;
  for (let i = 0; i < count; i++) freed += after[i].frees - before[i].frees;
  let n = 0;
  for (let i = 0; i < count; i++) {
    const others = freed - (after[i].frees - before[i].frees);
    n += Math.max(0, Math.min(after[i].allocs - before[i].allocs, others));
  }
  return n;
}
/** One sample, into `now`. Returns by how much it can be wrong. */
function sample_once(from: Source): number {
  for (let i = 0; i < from.count; i++) from.read(i, before[i]);
  let apart = 0;
  let moved = false;
  for (let i = 0; i < from.count; i++) {
    read_row(from, i, now[i]);
    apart += now[i].apart;
    if (now[i].allocs !== before[i].allocs || now[i].frees !== before[i].frees) moved = true;
  }
  if (!moved) return apart; // read twice and the same: so it was, all at once
  for (let i = 0; i < from.count; i++) from.read(i, after[i]);
  return apart + crossed(from.count);
}

export interface Sample {
  /** In use, brought back into what is possible. */
  used: number;
  /** The sum as it was read. */
  raw: number;
  /** The most by which `raw` can be wrong. */
  apart: number;
  approximate: boolean;
  /** The reading of each row that `raw` is the sum of; good until the next sample. */
  readonly rows: readonly Reading[];
}
const result: Sample = { used: 0, raw: 0, apart: 0, approximate: false, rows: best };

/** The closest sample; `held` says how many can be in use. Good until the next call. */
export function sample(from: Source, held: () => number): Sample {
  let least = Number.POSITIVE_INFINITY;
  let most = 0;
  for (let n = 0; n < SAMPLE_TRIES; n++) {
    const apart = sample_once(from);
    const possible = held();
    let used = 0;
    for (let i = 0; i < from.count; i++) used += now[i].allocs - now[i].frees;
    // A sum that cannot be is looked at again: `held` is read while others change it.
    const outside = Math.max(0, -used, used - possible);
    if (apart + outside < least) {
      least = apart + outside;
      result.raw = used;
      result.apart = apart;
      most = possible;
      for (let i = 0; i < from.count; i++) copy_row(now[i], best[i]);
    }
    if (least === 0 || (least <= NEAR && n + 1 >= NEAR_TRIES)) break;
    if (apart === 0 && n >= IMPOSSIBLE_TRIES) break;
  }
  result.used = Math.max(0, Math.min(result.raw, most));
  result.approximate = result.used !== result.raw || result.apart > SAMPLE_APART;
  if (result.used !== result.raw) count(v_clamped);
  return result;
}
/** A thread that is no CPU, reading a dump, has no counters. */
function count(c: Counter): void {
  if (thr.cpu >= 0) counter_add(c, 1);
}
/** Counts a sample that is approximate, in a word of the type or zone as well. */
export function sample_approximate(word: number): void {
  count(v_approximate);
  atomic_add(word, 1);
}
