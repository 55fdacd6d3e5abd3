/*
 * kern_malloc_sums: what a type has in use, while the CPUs go on.
 *
 * A type's counts lie in a block for each CPU, an allocation and a free count for
 * each size class.  A block of memory stays in its class, so each class is a sample
 * of its own (machine/sample.ts): a few words a CPU, read in some ten nanoseconds.
 * Blocks in use of a class are not below zero and not above what its slabs hold;
 * large blocks not above the pages that are neither free nor the slabs'.
 *
 * A sum that says otherwise is brought back into what is possible, by way of the
 * frees: requests stay what was counted.  If nothing moved and the sum is below
 * zero still, blocks of another type were freed under this one; the log names the
 * type, once.
 */
import { kconsole } from '../machine/kconsole.ts';
import { atomic_load, atomic_or } from '../machine/atomic.ts';
import { count_pair } from '../machine/count.ts';
import { cpu_slots, thr } from '../machine/cpu.ts';
import { M, machine, ROOT_MALLOC } from '../machine/header.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import {
  type Reading,
  read_pair,
  type Sample,
  SAMPLE_APART,
  sample,
  sample_approximate,
} from '../machine/sample.ts';
import { elem, field_word, get64, get_string, NULL } from '../machine/struct.ts';
import {
  KMEM_CLASSES,
  MALLOC_NAME_WORDS,
  MT_TOLD_BELOW,
  malloc_root,
  type malloc_root_t,
  malloc_type,
  type malloc_type_t,
  mtstats,
  type mtstats_t,
} from '../h/malloc.ts';
import { uma_keg, uma_zone, type zone_t } from '../h/uma.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { multizones } from './kern_multizone.ts';
import { vm_page_count, vm_page_free_count } from '../page/vm_page.ts';
import { zone_held } from '../uma/uma_stats.ts';

const mt = malloc_type;

export interface CpuSums {
  memalloced: number;
  memfreed: number;
  numallocs: number;
  numfrees: number;
  sizes: number;
  failed: number;
}
export interface TypeSample {
  /** What each CPU slot counted; in use are the allocations of all less the frees of all. */
  readonly cpus: CpuSums[];
  readonly inuse: number;
  readonly bytes: number;
  readonly requests: number;
  readonly failed: number;
  /** The numbers were brought back into what is possible, or may be off by more than a little. */
  readonly approximate: boolean;
}

/** The zone of size class b, or the one of several with that number. */
function class_zone(b: number, subzone = 0): zone_t {
  const r = machine.roots[elem(M, ROOT_MALLOC)] as malloc_root_t;
  return malloc_root.zones[elem(r, subzone * KMEM_CLASSES + b)] as zone_t;
}

// --- reading -------------------------------------------------------------------------------------

/** The counter block of row i, NULL: none. The row after the slots is that of late frees. */
function block_of(t: malloc_type_t, i: number): mtstats_t {
  return i < cpu_slots() ? (mt.stats[elem(t, i)] as mtstats_t) : (NULL as mtstats_t);
}
function late(t: malloc_type_t, what: number): number {
  return atomic_load(field_word(mt.late, elem(t, what))) >>> 0;
}
/**
 * Whether the type ever had or freed a block of class b: most types use a few classes, and
 * a program may look at its own type with every block.
 */
function class_used(t: malloc_type_t, b: number): boolean {
  for (let i = 0; i < cpu_slots(); i++) {
    const s = block_of(t, i);
    if (s === NULL) continue;
    const at = elem(s, b);
    const low = mtstats.allocs[at] | mtstats.frees[at];
    if ((low | mtstats.allocs_high[at] | mtstats.frees_high[at]) !== 0) return true;
  }
  return late(t, b) !== 0;
}
/** The same for large blocks. */
function large_used(t: malloc_type_t): boolean {
  for (let i = 0; i < cpu_slots(); i++) {
    const s = block_of(t, i);
    if (s === NULL) continue;
    if (get64(mtstats.large_allocs, s) !== 0 || get64(mtstats.large_frees, s) !== 0) return true;
  }
  return late(t, KMEM_CLASSES) !== 0;
}
/** Samples the blocks of size class b. */
function class_sample(t: malloc_type_t, b: number): Sample {
  const frees = (i: number, into: Reading): void => {
    const s = block_of(t, i);
    if (s !== NULL) into.frees = count_pair(mtstats.frees, mtstats.frees_high, elem(s, b));
    else into.frees = i === cpu_slots() ? late(t, b) : 0;
    into.freed_bytes = into.frees * (16 << b);
  };
  const allocs = (i: number, into: Reading): void => {
    const s = block_of(t, i);
    if (s === NULL) into.allocs = 0;
    else into.allocs = count_pair(mtstats.allocs, mtstats.allocs_high, elem(s, b));
    into.alloced_bytes = into.allocs * (16 << b);
  };
  const z = class_zone(b, mt.subzone[t]);
  return sample(
    { count: cpu_slots() + 1, read: (i, into) => read_pair(i, into, frees, allocs) },
    () => zone_held(z),
  );
}
/** Pages that can belong to large blocks. */
function large_pages(): number {
  let n = vm_page_count() - vm_page_free_count();
  for (let i = 0; i < KMEM_CLASSES * multizones(); i++) {
    const z = class_zone(i);
    n -= uma_keg.pages[uma_zone.keg[z]];
  }
  return Math.max(0, n);
}
/** Samples the large blocks. */
function large_sample(t: malloc_type_t): Sample {
  const frees = (i: number, into: Reading): void => {
    const s = block_of(t, i);
    if (s !== NULL) {
      into.frees = get64(mtstats.large_frees, s);
      into.freed_bytes = get64(mtstats.large_freed, s);
    } else {
      const none = i !== cpu_slots();
      into.frees = none ? 0 : late(t, KMEM_CLASSES);
      into.freed_bytes = none ? 0 : late(t, KMEM_CLASSES + 1) * PAGE_SIZE;
    }
  };
  const allocs = (i: number, into: Reading): void => {
    const s = block_of(t, i);
    into.allocs = s === NULL ? 0 : get64(mtstats.large_allocs, s);
    into.alloced_bytes = s === NULL ? 0 : get64(mtstats.large_alloced, s);
  };
  return sample(
    { count: cpu_slots() + 1, read: (i, into) => read_pair(i, into, frees, allocs) },
    large_pages,
  );
}

// --- adding up -----------------------------------------------------------------------------------

/** Takes `n` from the frees of the CPUs, or gives CPU 0 more of them if n is negative. */
function frees_less(all: CpuSums[], n: number, field: 'numfrees' | 'memfreed'): void {
  let left = n;
  for (const sums of all) {
    const part = Math.min(left, sums[field]);
    sums[field] -= part;
    left -= part;
  }
  if (left > 0) all[0][field] -= left;
}
/** Adds a class's sample to the sums; bytes are brought back as blocks were. */
function add_sample(all: CpuSums[], s: Sample, least: number, most: number): void {
  let bytes = 0;
  for (const [i, sums] of all.entries()) {
    const row = s.rows[i];
    sums.numallocs += row.allocs;
    sums.numfrees += row.frees;
    sums.memalloced += row.alloced_bytes;
    sums.memfreed += row.freed_bytes;
    bytes += row.alloced_bytes - row.freed_bytes;
  }
  const possible = Math.max(s.used * least, Math.min(bytes, most));
  if (s.used !== s.raw) frees_less(all, s.used - s.raw, 'numfrees');
  if (possible !== bytes) frees_less(all, possible - bytes, 'memfreed');
}
/** Says once that more blocks were freed under a type than it had. */
function tell_below(t: malloc_type_t, blocks: number, size: string): void {
  if (atomic_or(field_word(mt.told, t), MT_TOLD_BELOW) & MT_TOLD_BELOW) return;
  kconsole.print(
    `Warning: memory type ${get_string(mt.name, t, MALLOC_NAME_WORDS)}: ${blocks} more ${size} ` +
      'freed than allocated; blocks of another type are freed under it',
  );
}
function fresh_sums(): CpuSums {
  return { memalloced: 0, memfreed: 0, numallocs: 0, numfrees: 0, sizes: 0, failed: 0 };
}
const SUMS = ['memalloced', 'memfreed', 'numallocs', 'numfrees', 'failed'] as const;

/** Samples a type, and counts the sample if it is approximate. */
export function malloc_type_sample(t: malloc_type_t): TypeSample {
  const all = Array.from({ length: cpu_slots() + 1 }, fresh_sums);
  let apart = 0;
  let approximate = false;
  const add = (s: Sample, least: number, most: number, size: string): void => {
    add_sample(all, s, least, most);
    apart += s.apart;
    approximate ||= s.approximate;
    // A dump of a running machine may show what never was: it accuses nobody.
    if (s.raw < 0 && s.apart === 0 && thr.cpu >= 0) tell_below(t, -s.raw, size);
  };
  for (let b = 0; b < KMEM_CLASSES; b++) {
    if (!class_used(t, b)) continue;
    const s = class_sample(t, b);
    add(s, 16 << b, s.used * (16 << b), `blocks of ${16 << b} bytes`);
    for (let i = 0; i < cpu_slots(); i++) if (s.rows[i].allocs > 0) all[i].sizes |= 1 << b;
  }
  if (large_used(t)) {
    const s = large_sample(t);
    add(s, PAGE_SIZE, s.used === 0 ? 0 : large_pages() * PAGE_SIZE, 'large blocks');
  }
  if (apart > SAMPLE_APART) approximate = true;
  if (approximate) sample_approximate(field_word(mt.approximate, t));
  for (let i = 0; i < cpu_slots(); i++) {
    const block = block_of(t, i);
    if (block === NULL) continue;
    all[i].sizes |= mtstats.tried[block];
    all[i].failed = get64(mtstats.failed, block);
  }
  return { ...totals(all), cpus: shown(all), approximate };
}
function totals(all: readonly CpuSums[]): Omit<TypeSample, 'cpus' | 'approximate'> {
  let [inuse, bytes, requests, failed] = [0, 0, 0, 0];
  for (const s of all) {
    inuse += s.numallocs - s.numfrees;
    bytes += s.memalloced - s.memfreed;
    requests += s.numallocs;
    failed += s.failed;
  }
  return { inuse, bytes, requests, failed };
}
/** Late frees and the spare slots belong to no CPU that anybody sees: they show with CPU 0. */
function shown(all: CpuSums[]): CpuSums[] {
  for (const hidden of all.splice(machine.maxcpus[M])) {
    for (const name of SUMS) all[0][name] += hidden[name];
    all[0].sizes |= hidden.sizes;
  }
  return all;
}
/** Samples every type, newest first. Takes the malloc lock. */
export function malloc_samples(): { name: string; sample: TypeSample }[] {
  const all: { name: string; sample: TypeSample }[] = [];
  const r = machine.roots[elem(M, ROOT_MALLOC)] as malloc_root_t;
  mtx_lock(malloc_root.lock, r);
  for (let t = malloc_root.types[r]; t !== NULL; t = mt.next[t]) {
    all.push({ name: get_string(mt.name, t, MALLOC_NAME_WORDS), sample: malloc_type_sample(t) });
  }
  mtx_unlock(malloc_root.lock, r);
  return all;
}
/** What each CPU slot counted for a type: a sample. */
export function malloc_cpu_sums(t: malloc_type_t): CpuSums[] {
  return malloc_type_sample(t).cpus;
}
/** A type's numbers over all CPUs. */
export function malloc_type_sums(t: malloc_type_t): {
  inuse: number;
  bytes: number;
  requests: number;
  failed: number;
} {
  const { inuse, bytes, requests, failed } = malloc_type_sample(t);
  return { inuse, bytes, requests, failed };
}
/** Bytes that a type has in use, added up in one pass: near enough to compare types by. */
export function malloc_type_bytes(t: malloc_type_t): number {
  let bytes = -late(t, KMEM_CLASSES + 1) * PAGE_SIZE;
  for (let b = 0; b < KMEM_CLASSES; b++) bytes -= late(t, b) * (16 << b);
  for (let i = 0; i < cpu_slots(); i++) {
    const s = block_of(t, i);
    if (s === NULL) continue;
    for (let b = 0; b < KMEM_CLASSES; b++) {
      const at = elem(s, b);
      const allocs = count_pair(mtstats.allocs, mtstats.allocs_high, at);
      bytes += (allocs - count_pair(mtstats.frees, mtstats.frees_high, at)) * (16 << b);
    }
    bytes += get64(mtstats.large_alloced, s) - get64(mtstats.large_freed, s);
  }
  return Math.max(0, bytes);
}
/**
 * Says where the counts of all types lie: first word, and how many.  The malloc lock is held, or
 * the memory is a dump's.
 */
export function malloc_count_walk(say: (word: number, n: number) => void): void {
  const r = machine.roots[elem(M, ROOT_MALLOC)] as malloc_root_t;
  for (let t = malloc_root.types[r]; t !== NULL; t = mt.next[t]) {
    say(field_word(mt.late, t), KMEM_CLASSES + 2);
    for (let i = 0; i < cpu_slots(); i++) {
      const block = block_of(t, i);
      if (block !== NULL) say(block, mtstats.sizeof);
    }
  }
}
/** The same; takes that lock. */
export function malloc_count_words(say: (word: number, n: number) => void): void {
  const r = machine.roots[elem(M, ROOT_MALLOC)] as malloc_root_t;
  mtx_lock(malloc_root.lock, r);
  malloc_count_walk(say);
  mtx_unlock(malloc_root.lock, r);
}
/** How often a sample of the type was approximate. */
export function malloc_type_approximate(t: malloc_type_t): number {
  return mem.U32[field_word(mt.approximate, t)];
}
