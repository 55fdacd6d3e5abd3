/*
 * uma_stats: right numbers while the owners run, and the stream vm.zone_stats.
 *
 * A cache counts allocations, and the items that came in and went out with
 * buckets.  What the program holds of a CPU's items is then
 *
 *      out = installed - returned - present         frees = allocs - out
 *
 * `seq` is odd while buckets change hands; a reader that saw it move reads
 * again.  Otherwise only the count of `cur` changes, so `out` is what it was at
 * the moment that this count was read.  An owner that lost its processor in the
 * middle of an exchange is waited for, because its numbers would not belong
 * together: some items may stand twice.  A CPU that frees more than it allocates
 * has a negative `out`: only sums over CPUs mean something.  How a sum becomes a
 * sample, and what makes it approximate, says machine/sample.ts.
 *
 * Malloc size classes are counted by type (kern_malloc.ts); their zones borrow
 * those counts, and items known to be lost are not in use.  The stream is the
 * published 64-bit little-endian layout: a header of 16 bytes, per zone 120 bytes
 * and 64 for each CPU.  It has no room to say that a sample is approximate: each
 * zone counts such samples, and vm.zone_approximate shows the counts: a reader that
 * fetches it before and after the stream knows which of its rows were.
 *
 * A reader of a dump, whose memory nobody changes, walks the zones without a lock
 * (observe/kvm.ts); a request takes the list's, and that of each zone.
 */
import { cpu_slots, MAXCPU } from '../machine/cpu.ts';
import { SPARES } from '../machine/slot_word.ts';
import { life } from '../machine/life.ts';
import { atomic_load } from '../machine/atomic.ts';
import { count_pair } from '../machine/count.ts';
import { cpu_alive } from '../machine/death.ts';
import { M, machine } from '../machine/header.ts';
import { host_sleep } from '../machine/host.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { elem, field_word, field_word64, get64, type LockField, NULL } from '../machine/struct.ts';
import { type Reading, type Sample, sample, sample_approximate } from '../machine/sample.ts';
import { sbuf_bcat, sbuf_report } from '../machine/sbuf.ts';
import { type SysctlRequest, sysctl_proc, sysctl_value } from '../machine/sysctl_decl.ts';
import {
  type bucket_t,
  KEGS_PER_ZONE,
  type keg_t,
  UMA_NAME_WORDS,
  UMA_ZFLAG_GOING,
  UMA_ZONE_SECONDARY,
  uma_bucket,
  uma_cache,
  uma_keg,
  uma_zone,
  ZH_NOCACHE,
  type zone_t,
} from '../h/uma.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import {
  cache_of,
  uma,
  uma_each_zone,
  uma_root,
  zone_lock,
  zone_name,
  zone_unlock,
} from './uma_int.ts';

const zone = uma_zone;
const keg = uma_keg;
const cache = uma_cache;

/** Tries before the owner is taken to have lost its processor; then it is waited for. */
const SEQ_TRIES = 1000;
const SEQ_WAIT_MS = 1;
/** Waits before the numbers are taken as they are: nobody is off a processor for so long. */
const SEQ_WAITS = 1000;
export const UMA_STREAM_VERSION = 1;

export interface CacheCounts {
  allocs: number;
  frees: number;
  /** Items in the CPU's buckets. */
  present: number;
  /** Items that came in and did not go out again: negative for a CPU that frees for others. */
  out: number;
}

/** One CPU's numbers of a zone: a consistent sample. */
export function cache_counts(z: zone_t, cpu: number): CacheCounts {
  const c = cache_of(z, cpu);
  const seq = field_word(cache.seq, c);
  let out = 0;
  let allocs = 0;
  let present = 0;
  for (let i = 0; i < SEQ_TRIES || cache_wait(cpu, i - SEQ_TRIES); i++) {
    const s = atomic_load(seq);
    allocs = count_pair(cache.allocs, cache.allocs_high, c);
    const cur = cache.cur[c];
    const spare = cache.spare[c];
    present = bucket_count(cur) + (spare !== cur ? bucket_count(spare) : 0);
    out = get64(cache.installed, c) - get64(cache.returned, c) - present;
    // cur and spare read as one: they are changing places, and the other one was not counted.
    const rotating = cur === spare && cur !== uma_root.null_bucket[uma()];
    if ((s & 1) !== 0 || rotating || atomic_load(seq) !== s) continue;
    if (cache.cur[c] === cur && cache.spare[c] === spare) break;
  }
  if (zone.mclass[z] !== 0) {
    return { ...life.class_counts(z, cpu), present, out };
  }
  return { allocs, frees: allocs - out, present, out };
}
/** Lets the owner of a cache finish its exchange. False: it is dead, or has had its time. */
function cache_wait(cpu: number, waits: number): boolean {
  if (opt.SIM || waits >= SEQ_WAITS || !cpu_alive(cpu)) return false;
  host_sleep(SEQ_WAIT_MS);
  return true;
}
function bucket_count(b: bucket_t): number {
  return b === NULL ? 0 : uma_bucket.cnt[b];
}

export interface ZoneCounts {
  allocs: number;
  frees: number;
  used: number;
  /** Items in caches, buckets and slabs. */
  free: number;
  fails: number;
  sleeps: number;
  /** The sample may be off by more than a little. */
  approximate: boolean;
}
/** A zone as it is sampled: `limit` 0 is none. */
export interface ZoneRow {
  readonly name: string;
  readonly size: number;
  readonly limit: number;
  readonly counts: ZoneCounts;
}
/** Kegs of a zone; in a dump that is damaged not more than there can be. */
function kegs_of(z: zone_t): number {
  return Math.min(zone.nkegs[z], KEGS_PER_ZONE);
}
/** Most items of a keg; 0: no limit. */
function keg_limit(k: keg_t): number {
  return Math.floor(keg.maxpages[k] / keg.ppera[k]) * keg.ipers[k];
}
/** Items of the zone's kegs that are in use or in caches: not more can be in use. */
export function zone_held(z: zone_t): number {
  let items = -zone.full_items[z];
  for (let i = 0; i < kegs_of(z); i++) {
    const k = zone.kegs[elem(z, i)] as keg_t;
    const all = (keg.pages[k] / keg.ppera[k]) * keg.ipers[k];
    items += all - keg.free[k] - keg.withheld[k];
  }
  return Math.max(0, items);
}
/** What a CPU's row counts: in use is what is out, less what is known to be lost. */
function row_read(z: zone_t, cpu: number, into: Reading): void {
  const c = cache_of(z, cpu);
  into.apart = 0;
  if ((zone.hooks[z] & ZH_NOCACHE) !== 0) {
    into.frees = get64(cache.returned, c);
    into.allocs = get64(cache.installed, c);
    into.apart = get64(cache.returned, c) - into.frees;
    return;
  }
  const n = cache_counts(z, cpu);
  into.allocs = n.allocs;
  into.frees = n.allocs - n.out + get64(cache.lost, c);
  in_buckets[cpu] = n.present;
}
/** Items in each CPU's buckets, as last read. */
const in_buckets = new Float64Array(MAXCPU + SPARES);
interface ZoneSample {
  readonly s: Sample;
  readonly cached: number;
}
/** Samples a zone, and counts it if it is approximate. The result is good until the next. */
function zone_sample(z: zone_t): ZoneSample {
  const cpus = cpu_slots();
  in_buckets.fill(0);
  const s = sample({ count: cpus, read: (cpu, into) => row_read(z, cpu, into) }, () =>
    zone_held(z),
  );
  if (s.approximate) sample_approximate(field_word(zone.approximate, z));
  let cached = 0;
  for (let cpu = 0; cpu < cpus; cpu++) cached += in_buckets[cpu];
  return { s, cached };
}
/** A zone's numbers over all CPUs. `used` is neither negative nor more than there is. */
export function zone_present(z: zone_t): ZoneCounts {
  return zone_sum(z, zone_sample(z));
}
/** What a sample of a zone adds up to. */
function zone_sum(z: zone_t, { s, cached }: ZoneSample): ZoneCounts {
  let allocs = 0;
  for (let cpu = 0; cpu < cpu_slots(); cpu++) allocs += s.rows[cpu].allocs;
  return {
    allocs,
    frees: allocs - s.used,
    used: s.used,
    free: cached + zone.full_items[z] + (zone_secondary(z) ? 0 : keg.free[zone.keg[z]]),
    fails: get64(zone.fails, z),
    sleeps: get64(zone.sleeps, z),
    approximate: s.approximate,
  };
}
/** Whether the free items of the zone's keg count for another zone. */
function zone_secondary(z: zone_t): boolean {
  return (zone.flags[z] & UMA_ZONE_SECONDARY) !== 0 && keg.zones[zone.keg[z]] !== z;
}
/** Samples every zone that is not being destroyed, in list order. Takes the list's lock. */
export function zones_present(): ZoneRow[] {
  const all: ZoneRow[] = [];
  const r = uma();
  mtx_lock(uma_root.lock, r);
  uma_each_zone((z) => {
    if (zone.flags[z] & UMA_ZFLAG_GOING) return;
    const limit = keg_limit(zone.kegs[elem(z, kegs_of(z) - 1)] as keg_t); // as the stream has it
    all.push({ name: zone_name(z), size: zone.size[z], limit, counts: zone_present(z) });
  });
  mtx_unlock(uma_root.lock, r);
  return all;
}
/** How often a sample of the zone was approximate. */
export function zone_approximate(z: zone_t): number {
  return atomic_load(field_word(zone.approximate, z)) >>> 0;
}

/**
 * Says where the counts of all zones lie: first word, and how many; items in the buckets of
 * a cache among them.  The lock of the list is held, or the memory is a dump's.
 */
export function zone_count_walk(say: (word: number, n: number) => void): void {
  uma_each_zone((z) => {
    say(field_word(zone.full_items, z), 1);
    for (const f of [zone.fails, zone.sleeps]) say(field_word64(f, z), 2);
    for (let cpu = 0; cpu < cpu_slots(); cpu++) {
      const c = cache_of(z, cpu);
      say(c, cache.sizeof);
      for (const b of [cache.cur[c], cache.spare[c]]) {
        if (b !== NULL) say(field_word(uma_bucket.cnt, b), 1);
      }
    }
  });
}
/** The same; takes that lock. */
export function zone_count_words(say: (word: number, n: number) => void): void {
  const r = uma();
  mtx_lock(uma_root.lock, r);
  zone_count_walk(say);
  mtx_unlock(uma_root.lock, r);
}

// --- the stream --------------------------------------------------------------------------

const HEADER = 16;
const TYPE_HEADER = 120;
const PERCPU = 64;

/** A writer of little-endian records. */
export function stream_record(bytes: number): {
  bytes: Uint8Array;
  u32(at: number, v: number): void;
  u64(at: number, v: number): void;
} {
  const buffer = new Uint8Array(bytes);
  const view = new DataView(buffer.buffer);
  return {
    bytes: buffer,
    u32: (at, v) => view.setUint32(at, v, true),
    u64: (at, v) => view.setBigUint64(at, BigInt.asUintN(64, BigInt(Math.trunc(v))), true),
  };
}

const NAME = 32;
/** A row of the streams that say how many samples were approximate: a name and a count. */
export function stream_mark(name: Uint8Array, count: number): Uint8Array {
  const r = stream_record(NAME + 8);
  r.bytes.set(name);
  r.u64(NAME, count);
  return r.bytes;
}
/** What a stream is given to. Not 0, an errno or -1 if one is latched: the walk ends. */
export type StreamOut = (bytes: Uint8Array) => number;
const NO_ROW = new Uint8Array(0);
/** A zone that has no row: who reads a dump sees that the walk goes on, and can end it. */
function passed(out: StreamOut): void {
  out(NO_ROW); // errno: nothing was put out
}
/** Name and count of approximate samples of each zone. The list's lock, or a dump. */
export function zone_marks_walk(out: StreamOut): number {
  let error = 0;
  uma_each_zone((z) => {
    if (error !== 0) return;
    if (zone.flags[z] & UMA_ZFLAG_GOING) return passed(out);
    const at = field_word(zone.name, z) * 4;
    error = out(stream_mark(mem.U8.subarray(at, at + NAME - 1), zone_approximate(z)));
  });
  return error;
}
/** The stream of all zones. The list's lock is held; or it is a dump, and `record` takes none. */
export function zone_stats_walk(out: StreamOut, record = zone_record): number {
  const r = uma();
  const n = machine.maxcpus[M];
  const head = stream_record(HEADER);
  head.u32(0, UMA_STREAM_VERSION);
  head.u32(4, n);
  head.u32(8, uma_root.nzones[r] - uma_root.going[r]);
  let error = out(head.bytes);
  uma_each_zone((z) => {
    // A zone of the same name may live already.
    if (zone.flags[z] & UMA_ZFLAG_GOING) return passed(out);
    if (error === 0) error = out(record(z, n));
  });
  return error;
}
/**
 * A walk under the lock `f` of the record `p` as a report: page by page, into a buffer that
 * is wired before the lock is taken.
 */
export function stream_report<P extends number>(
  f: LockField<P>,
  p: () => P,
  walk: (out: StreamOut) => number,
): (req: SysctlRequest) => number {
  return (req) =>
    sbuf_report(req, (s) => {
      const r = p();
      mtx_lock(f, r);
      walk((bytes) => sbuf_bcat(s, bytes)); // the error is latched
      mtx_unlock(f, r);
    });
}
function zone_record(z: zone_t, cpus: number): Uint8Array {
  zone_lock(z);
  const bytes = zone_record_unlocked(z, cpus);
  zone_unlock(z);
  return bytes;
}
/** A zone's part of the stream. Its lock is held, or it is a dump's. */
export function zone_record_unlocked(z: zone_t, cpus: number): Uint8Array {
  const r = stream_record(TYPE_HEADER + cpus * PERCPU);
  const at = field_word(zone.name, z) * 4;
  r.bytes.set(mem.U8.subarray(at, at + UMA_NAME_WORDS * 4 - 1));
  zone_kegs(z, r.u32);
  const nocache = (zone.hooks[z] & ZH_NOCACHE) !== 0;
  const sampled = zone_sample(z);
  const sum = zone_sum(z, sampled);
  let { allocs, frees } = sum;
  for (let cpu = 0; cpu < cpus; cpu++) {
    const { allocs: a, frees: f } = sampled.s.rows[cpu];
    const base = TYPE_HEADER + cpu * PERCPU;
    if (!nocache) r.u64(base + 16, in_buckets[cpu]);
    // A CPU's frees are derived and may be below zero; a stream's number may not.
    if (nocache || f < 0) continue;
    r.u64(base, a);
    r.u64(base + 8, f);
    allocs -= a;
    frees -= f;
  }
  // The zone's own are the rest: such CPUs, and the spare slots, which nobody sees.
  r.u32(60, zone.full_items[z]);
  r.u32(64, zone.count[z]);
  r.u64(72, allocs);
  r.u64(80, frees);
  r.u64(88, sum.fails);
  r.u64(96, sum.sleeps);
  return r.bytes;
}
/** The part of a zone's record that comes from its kegs. */
function zone_kegs(z: zone_t, u32: (at: number, v: number) => void): void {
  const first = zone.keg[z];
  let maxpages = 0;
  let pages = 0;
  let free = 0;
  let limit = 0;
  for (let i = 0; i < kegs_of(z); i++) {
    const k = zone.kegs[elem(z, i)] as keg_t;
    maxpages += keg.maxpages[k];
    pages += keg.pages[k];
    free += keg.free[k];
    limit = keg_limit(k);
  }
  u32(32, keg.align[first]);
  u32(36, keg.size[first]);
  u32(40, keg.rsize[first]);
  u32(44, maxpages);
  u32(48, limit);
  u32(52, pages);
  u32(56, free);
  u32(68, zone_secondary(z) ? 1 : 0);
}

sysctl_proc(
  'vm.zone_stats',
  {
    type: 'opaque',
    fmt: 's,struct uma_type_header',
    help: 'Statistics of all zones, as a stream; zones that are being destroyed are left out',
  },
  stream_report(uma_root.lock, uma, (out) => zone_stats_walk(out)),
);
sysctl_proc(
  'vm.zone_approximate',
  {
    type: 'opaque',
    fmt: 'S,uma_zone_marks',
    help: 'Samples of each zone that were not exact: its name, 32 bytes, and a 64-bit count',
  },
  stream_report(uma_root.lock, uma, zone_marks_walk),
);
sysctl_value(
  'vm.zone_count',
  { type: 'int', help: 'Number of zones, those that are being destroyed among them' },
  () => uma_root.nzones[uma()],
);
sysctl_value(
  'vm.uma.domain_local',
  { type: 'uint', help: 'Slabs that came from the domain of the CPU that asked' },
  () => uma_root.domain_local[uma()],
);
sysctl_value(
  'vm.uma.domain_remote',
  { type: 'uint', help: 'Slabs that came from another domain than that of the CPU that asked' },
  () => uma_root.domain_remote[uma()],
);
