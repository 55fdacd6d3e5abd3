/*
 * What the tests of malloc share: an account of every item and page, made from
 * the structures alone, and an independent reader of the stream.
 *
 *      items of a keg = free in slabs + in buckets + out
 *      out            = what somebody answers for + what is lost
 *
 * Who answers: for a size class the types (allocations less frees), for the
 * bucket zones every bucket that is anchored somewhere, for slab headers every
 * slab off the page, for zones and kegs the lists, for types and counter blocks
 * the types.  What nobody answers for has leaked.  The machine must be quiet.
 */
import { cpu_slots } from '../machine/cpu.ts';
import { elem, get64, NULL } from '../machine/struct.ts';
import { KMEM_CLASSES, malloc_root, malloc_type, mtstats } from '../h/malloc.ts';
import {
  type bucket_t,
  type keg_t,
  type slab_t,
  UMA_ZONE_OFFPAGE,
  uma_bucket,
  uma_keg,
  uma_slab,
  uma_zone,
  type zone_t,
} from '../h/uma.ts';
import { PK_HAND, PK_LARGE, PK_REST } from '../h/vm_page.ts';
import { vm_page_census } from '../page/vm_page.ts';
import { checked_quiet } from '../sync/checked.ts';
import { virtual_pages } from '../uma/uma_budget.ts';
import { cache_buckets } from '../uma/uma_cache.ts';
import { cache_of, uma, uma_each_keg, uma_each_zone, uma_root, zone_name } from '../uma/uma_int.ts';
import { malloc_anchor, malloc_stats_gone, malloc_zone } from './kern_malloc_type.ts';
import { multizones } from './kern_multizone.ts';

export interface Account {
  /** Per keg, by the name of its first zone: items that are in no slab and no bucket. */
  readonly out: Map<string, number>;
  /** Per keg that somebody answers for: out, less what is answered for. */
  readonly leaked: Map<string, number>;
  /** Pages that are no slab's and no block's. */
  readonly pages_leaked: number;
}

function slabs_of(k: keg_t, fn: (s: slab_t) => void): void {
  for (const head of [uma_keg.part, uma_keg.free_slabs, uma_keg.full]) {
    for (let s = head[k]; s !== NULL; s = uma_slab.next[s]) fn(s);
  }
}
/** Every bucket of a zone, wherever it is. */
function buckets_of(z: zone_t, fn: (b: bucket_t) => void): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    for (const b of cache_buckets(cache_of(z, cpu), true)) fn(b);
  }
  for (const head of [uma_zone.full_buckets, uma_zone.empty_buckets]) {
    for (let b = head[z]; b !== NULL; b = uma_bucket.link[b]) fn(b);
  }
}

/** What the types and their counters say is in use: of each zone of malloc, and of pages. */
export function types_in_use(): {
  classes: number[];
  pages: number;
  types: number;
  blocks: number;
} {
  const classes = new Array<number>(KMEM_CLASSES * multizones()).fill(0);
  let [bytes, types, blocks] = [0, 0, 0];
  const r = malloc_anchor();
  const add = (s: ReturnType<typeof malloc_stats_gone>, subzone: number): void => {
    for (let b = 0; b < KMEM_CLASSES; b++) {
      classes[subzone * KMEM_CLASSES + b] += mtstats.allocs[elem(s, b)] - mtstats.frees[elem(s, b)];
    }
  };
  for (let t = malloc_root.types[r]; t !== NULL; t = malloc_type.next[t]) {
    types++;
    bytes -= malloc_type.late[elem(t, KMEM_CLASSES + 1)] * 4096;
    for (let cpu = 0; cpu < cpu_slots(); cpu++) {
      const s = malloc_type.stats[elem(t, cpu)] as ReturnType<typeof malloc_stats_gone>;
      if (s === NULL) continue;
      blocks++;
      bytes += get64(mtstats.large_alloced, s) - get64(mtstats.large_freed, s);
      add(s, malloc_type.subzone[t]);
    }
  }
  for (let i = 0; i < multizones(); i++) {
    for (let cpu = 0; cpu < cpu_slots(); cpu++) add(malloc_stats_gone(cpu, i), i);
  }
  return { classes, pages: bytes / 4096, types, blocks };
}

/** Makes the account. */
export function account(): Account {
  checked_quiet(true);
  const made = account_quiet();
  checked_quiet(false);
  return made;
}
function account_quiet(): Account {
  const out = new Map<string, number>();
  const answered = new Map<zone_t, number>();
  const answer = (z: zone_t, n: number): void => void answered.set(z, (answered.get(z) ?? 0) + n);
  const bucketed = new Map<keg_t, number>();
  const r = uma();
  for (let i = 0; i < 6; i++) answer(uma_root.bucket_zone[elem(r, i)] as zone_t, 0);
  let [zones, kegs] = [0, 0];
  uma_each_zone((z) => {
    zones++;
    buckets_of(z, (b) => {
      answer(uma_bucket.zone[b], 1);
      const k = uma_zone.keg[z];
      bucketed.set(k, (bucketed.get(k) ?? 0) + uma_bucket.cnt[b]);
    });
  });
  answer(uma_root.slab_zone[r], 0);
  uma_each_keg((k) => {
    kegs++;
    if (uma_keg.flags[k] & UMA_ZONE_OFFPAGE) slabs_of(k, () => answer(uma_keg.slabzone[k], 1));
  });
  answer(uma_root.zone_zone[r], zones - 2); // the first two of each lie in boot memory
  answer(uma_root.zone_keg[r], kegs - 2);
  const used = types_in_use();
  for (const [i, n] of used.classes.entries()) answer(malloc_zone(i), n);
  answer(malloc_root.type_zone[malloc_anchor()], used.types);
  answer(malloc_root.stats_zone[malloc_anchor()], used.blocks);
  const leaked = new Map<string, number>();
  uma_each_keg((k) => {
    let items = 0;
    slabs_of(k, (s) => {
      items += uma_keg.ipers[k] - uma_slab.freecount[s];
    });
    const z = uma_keg.zones[k];
    const n = items - (bucketed.get(k) ?? 0);
    out.set(zone_name(z), n);
    const by = answered.get(z);
    if (by !== undefined && n !== by) leaked.set(zone_name(z), n - by);
  });
  const census = vm_page_census();
  const large = census[PK_LARGE] + census[PK_REST] + virtual_pages();
  const pages_leaked = large + census[PK_HAND] - used.pages;
  return { out, leaked, pages_leaked };
}
/** The account in one line, for a failed check. */
export function account_text(a: Account): string {
  const all = [...a.leaked].map(([name, n]) => `${name}: ${n}`);
  if (a.pages_leaked !== 0) all.push(`pages: ${a.pages_leaked}`);
  return all.join(', ');
}
