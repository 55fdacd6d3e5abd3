/*
 * The jobs that workers run for the tests of the zone allocator.
 *
 * `hammer` allocates, frees, and swaps items with other threads through the
 * ring; it stamps every item and looks at the stamp when it frees it, whoever
 * allocated it.  The others reclaim, read statistics, or play one part of a
 * scripted test.  Each ends with what it counted.
 */
import { attach, away, detach } from '../boot/whole.ts';
import {
  atomic_load,
  atomic_notify,
  atomic_store,
  atomic_wait,
  atomic_xchg,
} from '../machine/atomic.ts';
import { host_sleep } from '../machine/host.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { add64 } from '../machine/struct.ts';
import { type Counts, run_job } from '../machine/workers.test.lib.ts';
import { M_NOWAIT, M_WAITOK, M_ZERO } from '../h/malloc_flags.ts';
import { uma_cache, uma_keg, uma_zone, type zone_t } from '../h/uma.ts';
import { cache_begin, cache_end } from './uma_cache.ts';
import { uma_zalloc, uma_zfree } from './uma_core.ts';
import { uma_reclaim } from './uma_drain.ts';
import { my_cache } from './uma_int.ts';
import { zone_present } from './uma_stats.ts';
import {
  check_stamp,
  common,
  count_of,
  RING,
  RING_SIZE,
  stamp,
  step_word,
  stopped,
  witness_texts,
} from './uma.test.lib.ts';
import { witness_console } from '../sync/witness.ts';

interface Args {
  seed?: number;
  zones?: zone_t[];
  most?: number;
  n?: number;
  free?: number[];
  every_ms?: number;
}

/** What a hammer, a reclaimer or a reader does at the least, however soon it is stopped. */
const LEAST = 10;
const MIDWAY_MS = 100;

function words_of(z: zone_t): number {
  return (uma_zone.size[z] >> 2) - 1; // the last word may belong to the keg's init
}
function step(n: number): void {
  atomic_store(step_word(n), 1);
  atomic_notify(step_word(n), 99);
}
function wait_step(n: number): void {
  while (atomic_load(step_word(n)) === 0) atomic_wait(step_word(n), 0, 50);
}

function hammer({ seed = 1, zones = [], most = 60 }: Args): Counts {
  const draw = dice(seed);
  const held = zones.map((): number[] => []);
  const c = { allocs: 0, frees: 0, fails: 0, swaps: 0 };
  const give = (z: zone_t, item: number): void => {
    check_stamp(item, words_of(z));
    uma_zfree(z, item);
    c.frees++;
  };
  // Zones 1 and 2 keep a mark in their items: zeroing on request would wipe it out.
  const take = (i: number): void => {
    const item = uma_zalloc(
      zones[i],
      i !== 1 && i !== 2 && draw(4) === 0 ? M_NOWAIT | M_ZERO : M_NOWAIT,
    );
    if (item === 0) {
      c.fails++;
      for (const item of held[i].splice(0)) give(zones[i], item);
      return;
    }
    stamp(item, words_of(zones[i]));
    held[i].push(item);
    c.allocs++;
  };
  while (!stopped() || c.swaps < LEAST || c.allocs < 100 * LEAST) {
    const i = draw(zones.length);
    const what = draw(10);
    if (what < 5 && held[i].length < most) for (let n = draw(12); n >= 0; n--) take(i);
    else if (what < 8) {
      for (let n = draw(14); n >= 0 && held[i].length > 0; n--) {
        const [item] = held[i].splice(draw(held[i].length), 1);
        give(zones[i], item);
      }
    } else if (held[i].length > 0) {
      // Slots of the ring belong to one zone each.
      const slot = draw(Math.floor(RING_SIZE / zones.length)) * zones.length + i;
      const other = atomic_xchg(common() + RING + slot, held[i].pop() ?? 0);
      c.swaps++;
      if (other !== 0) give(zones[i], other);
    }
  }
  for (const [i, z] of zones.entries()) for (const item of held[i]) give(z, item);
  return c;
}
function reclaimer({ every_ms = 2 }: Args): Counts {
  let [rounds, pages] = [0, 0];
  while (!stopped() || rounds < LEAST) {
    pages += uma_reclaim();
    rounds++;
    host_sleep(every_ms);
  }
  return { rounds, pages };
}
function reader({ zones = [] }: Args): Counts {
  const c = { reads: 0, negative: 0, lowest: Number.POSITIVE_INFINITY };
  while (!stopped() || c.reads < LEAST) {
    for (const z of zones) {
      const n = zone_present(z);
      c.lowest = Math.min(c.lowest, n.used, n.allocs - n.frees);
      if (n.used < 0 || n.allocs - n.frees < 0 || n.free < 0) c.negative++;
      const k = uma_zone.keg[z];
      const most = uma_keg.maxpages[k];
      if (most > 0 && uma_keg.pages[k] > most)
        throw new Error(`${uma_keg.pages[k]} > ${most} pages`);
      c.reads++;
    }
  }
  return c;
}
/** Fills this CPU's cache with idle items of a zone, then does something for long. */
function fill(z: zone_t, n: number): void {
  const held: number[] = [];
  for (let i = 0; i < n; i++) held.push(uma_zalloc(z, M_NOWAIT));
  for (const item of held) if (item !== 0) uma_zfree(z, item);
}
/** Idle in a sleep of the kernel's making: others may claim its caches. */
function asleep({ zones = [], n = 0, free = [] }: Args): Counts {
  fill(zones[0], n);
  for (const item of free) uma_zfree(zones[0], item);
  away(() => {
    step(1);
    wait_step(2);
  });
  return { ok: 1 };
}
/** Computes without calling the kernel until told to stop. */
function computing({ zones = [], n = 0 }: Args): Counts {
  fill(zones[0], n);
  step(1);
  while (atomic_load(step_word(2)) === 0);
  const [z] = zones;
  const item = uma_zalloc(z, M_NOWAIT); // its cache is as it left it, or handed over here
  uma_zfree(z, item);
  return { ok: item === 0 ? 0 : 1 };
}
/** Computes until somebody sleeps for what it caches, or until told to stop. */
function computing_until_waited_for({ zones = [], n = 0 }: Args): Counts {
  fill(zones[0], n);
  const before = count_of('vm.drain_sleeps');
  step(1);
  while (count_of('vm.drain_sleeps') === before && atomic_load(step_word(2)) === 0);
  uma_reclaim(false); // whatever is asked of it is served on the way
  return {};
}
/** Fills its cache and stays: meant to be terminated. */
function doomed({ zones = [], n = 0 }: Args): Counts {
  fill(zones[0], n);
  step(1);
  for (;;) host_sleep(1000);
}
/** Allocates until the limit makes it sleep; the time of its wake-up is what counts. */
function limited({ zones = [] }: Args): Counts {
  step(1);
  const item = uma_zalloc(zones[0], M_WAITOK);
  if (item !== 0) uma_zfree(zones[0], item);
  return { item };
}
/** Waits for step 1, then frees what it was given. */
function freer({ zones = [], free = [] }: Args): Counts {
  wait_step(3);
  for (const item of free) uma_zfree(zones[0], item);
  return { n: free.length };
}
/** Stands in the middle of an exchange of buckets, as one does that lost its processor there. */
function midway({ zones = [], n = 0 }: Args): Counts {
  const c = my_cache(zones[0]);
  cache_begin(c);
  add64(uma_cache.returned, c, n);
  step(1);
  host_sleep(MIDWAY_MS);
  add64(uma_cache.returned, c, -n);
  cache_end(c);
  return {};
}
function reclaim_once(): Counts {
  return { pages: uma_reclaim() };
}

const jobs: Record<string, (args: Args) => Counts> = {
  hammer,
  reclaimer,
  reader,
  asleep,
  computing,
  computing_until_waited_for,
  doomed,
  limited,
  freer,
  midway,
  reclaim_once,
};

run_job<Args>((job, args) => jobs[job](args), {
  join(handle) {
    const cpu = attach(handle);
    witness_console((text) => witness_texts.push(text));
    return cpu;
  },
  leave() {
    if (witness_texts.length > 0) throw new Error(witness_texts.join('\n'));
    detach();
  },
});
