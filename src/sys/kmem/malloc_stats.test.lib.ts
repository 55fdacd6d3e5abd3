/*
 * Two workers that allocate and free as fast as they can, and a reader that samples
 * what is in use: for the quick tests and for the long ones (malloc_stats.stress.ts).
 *
 * The game knows what is in use at any moment, within a block or a ring of them.
 * Each sample must not be negative nor above what the slabs hold; one that is not
 * marked must be right, give or take SAMPLE_APART.
 */
import assert from 'node:assert/strict';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { count_pair } from '../machine/count.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { cpu_slots } from '../machine/cpu.ts';
import { M, machine, ROOT_TEST } from '../machine/header.ts';
import type { Handle } from '../machine/machdep.ts';
import { hw, PAGE_WORDS, page_word } from '../machine/memory.ts';
import type { Options } from '../machine/opt.ts';
import { SAMPLE_APART } from '../machine/sample.ts';
import { elem } from '../machine/struct.ts';
import { Crew, type Job, WAIT_MS, within } from '../machine/workers.test.lib.ts';
import { malloc_type, mtstats, type mtstats_t } from '../h/malloc.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { uma_keg, uma_zone } from '../h/uma.ts';
import { vm_page_alloc, vm_page_wire } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { account, account_text } from './kmem.test.lib.ts';
import { free, malloc_class, type malloc_type_t } from './kern_malloc.ts';
import { malloc_type_sample } from './kern_malloc_sums.ts';
import { malloc_type_attach, malloc_zone } from './kern_malloc_type.ts';
import { RING, RING_SIZE, TYPE } from './malloc_stats.test.worker.ts';

export type StatsJob = Job<{ n: number }>;
const crew = new Crew<{ n: number }>(new URL('./malloc_stats.test.worker.ts', import.meta.url));

/** Boots, and lays out the common page. The type of the game is TYPE. */
export function up(options: Partial<Options> = {}): { handle: Handle; t: malloc_type_t } {
  const { handle } = boot({ memory: '16M', cpus: 4, fresh: true, options });
  const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
  vm_page_wire(m, 1);
  hw.fill(page_word(m), 0, PAGE_WORDS);
  machine.roots[elem(M, ROOT_TEST)] = page_word(m);
  return { handle, t: malloc_type_attach(TYPE) };
}
export async function down(): Promise<void> {
  await crew.end();
  try {
    shutdown();
  } catch {
    abandon();
  }
}
export const common = (): number => machine.roots[elem(M, ROOT_TEST)];
export function start(handle: Handle, job: string, args: object): StatsJob {
  return crew.start(handle, job, { ...args });
}
export function count_of(name: string): number {
  const c = counters.find((x) => x.name === name);
  assert.ok(c, name);
  return counter_get(c);
}

export interface Game {
  readonly jobs: readonly [job: string, args: object][];
  readonly size: number;
  /** In use at any moment while the jobs run. */
  readonly least: number;
  readonly most: number;
  readonly samples: number;
  /** What is sampled: the type, or the zone of its size class. */
  readonly what?: 'type' | 'zone';
}
/** The workers must have had a processor for as many samples. */
const LEAST_MOVED = 100;
interface Seen {
  samples: number;
  /** Samples since the last of which something moved: the others show nothing. */
  moved: number;
  approximate: number;
  /** Largest error of a sample that is not marked. */
  error: number;
  lowest: number;
  highest: number;
}
/** Plays a game; returns what the reader saw. */
export async function play_stats(game: Game): Promise<Seen> {
  const { handle, t } = up();
  try {
    const jobs = game.jobs.map(([job, args]) => start(handle, job, { size: game.size, ...args }));
    await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
    const z = malloc_zone(malloc_class(game.size));
    const k = uma_zone.keg[z];
    const look = (): { inuse: number; requests: number; approximate: boolean } => {
      if (game.what !== 'zone') return malloc_type_sample(t);
      const n = zone_present(z);
      return { inuse: n.used - others, requests: n.allocs, approximate: n.approximate };
    };
    // Blocks of the class that the kernel itself has in use: they stay.
    const others = game.what === 'zone' ? others_of(t, malloc_class(game.size)) : 0;
    while (busy_cpus(t) < game.jobs.length); // each has its counters
    const first = moved(t);
    while (moved(t) === first);
    const seen: Seen = {
      samples: 0,
      moved: 0,
      approximate: 0,
      error: 0,
      lowest: Number.POSITIVE_INFINITY,
      highest: 0,
    };
    for (let last = 0; seen.samples < game.samples || seen.moved < LEAST_MOVED; seen.samples++) {
      const { inuse, requests, approximate } = look();
      if (requests !== last) seen.moved++;
      last = requests;
      const held = (uma_keg.pages[k] / uma_keg.ppera[k]) * uma_keg.ipers[k];
      assert.ok(inuse + others >= 0 && inuse <= held, `${inuse} in use of ${held}`);
      seen.lowest = Math.min(seen.lowest, inuse);
      seen.highest = Math.max(seen.highest, inuse);
      if (approximate) seen.approximate++;
      else seen.error = Math.max(seen.error, inuse - game.most, game.least - inuse);
    }
    atomic_store(common(), 1);
    const done = await within(Promise.all(jobs.map((j) => j.done)), 'the jobs');
    assert.ok(done.every((c) => c.n > 0));
    assert.ok(seen.error <= SAMPLE_APART, `${seen.error} off, and not marked`);
    assert.equal(seen.approximate > 0, count_of('debug.stats_approximate') > 0);
    for (let i = 0; i < RING_SIZE; i++) free(atomic_load(common() + RING + i), t);
    const last = malloc_type_sample(t);
    assert.deepEqual([last.inuse, last.bytes, last.approximate], [0, 0, false]);
    uma_check();
    assert.equal(account_text(account()), '');
    console.log(`${game.jobs.map(([job]) => job).join(', ')}: ${JSON.stringify(seen)}`);
    return seen;
  } finally {
    await down();
  }
}
function blocks_of(t: malloc_type_t): mtstats_t[] {
  const all: mtstats_t[] = [];
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const s = malloc_type.stats[elem(t, cpu)] as mtstats_t;
    if (s !== 0) all.push(s);
  }
  return all;
}
function busy_cpus(t: malloc_type_t): number {
  return blocks_of(t).length;
}
function moved(t: malloc_type_t): number {
  return blocks_of(t).reduce((n, s) => {
    for (let b = 0; b < 9; b++) n += count_pair(mtstats.frees, mtstats.frees_high, elem(s, b));
    return n;
  }, 0);
}
function others_of(t: malloc_type_t, b: number): number {
  let n = 0;
  for (let at = malloc_type.next[t]; at !== 0; at = malloc_type.next[at]) {
    for (const s of blocks_of(at)) {
      n += mtstats.allocs[elem(s, b)] - mtstats.frees[elem(s, b)];
    }
  }
  return n;
}
/**
 * How often one CPU's counts say that less than nothing is in use, read in either
 * order: until the wrong one has been seen to, while its thread had a processor.
 */
export function order_matters(
  t: malloc_type_t,
  b: number,
): { reads: number; right: number; wrong: number } {
  const at = blocks_of(t).map((s) => elem(s, b));
  const allocs = (s: mtstats_t) => count_pair(mtstats.allocs, mtstats.allocs_high, s);
  const frees = (s: mtstats_t) => count_pair(mtstats.frees, mtstats.frees_high, s);
  let [reads, right, wrong] = [0, 0, 0];
  const end = performance.now() + WAIT_MS;
  while ((wrong === 0 || reads < 100_000) && performance.now() < end) {
    for (const s of at) {
      const f = frees(s);
      if (allocs(s) - f < 0) right++;
      const a = allocs(s);
      if (a - frees(s) < 0) wrong++;
      reads++;
    }
  }
  return { reads, right, wrong };
}
