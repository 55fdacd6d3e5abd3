/*
 * kern_malloc_type: the types that memory is counted under.
 *
 * A type is a record with a magic number, a version and a name; it is made and
 * registered once and found by its name in every thread.  Registered types
 * stand on a list, newest first, under the malloc lock.
 *
 * A garbage pointer given as a type panics, always: it would scatter counts
 * over foreign memory.  Unregistering a type reports what it still holds.
 */
import { zone_declared } from '../machine/zone_decl.ts';
import { kconsole } from '../machine/kconsole.ts';
import { atomic_add, atomic_or } from '../machine/atomic.ts';
import { v_reap_items } from '../machine/death.ts';
import { count_add, count_pair, count_settle } from '../machine/count.ts';
import { counter_add, counter_words } from '../machine/counter.ts';
import { cpu_nobody, cpu_slots, pcpu, thr } from '../machine/cpu.ts';
import { boot_alloc, M, machine, ROOT_MALLOC } from '../machine/header.ts';
import { hw, mem, memory_state } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import {
  add64,
  elem,
  type Field,
  field_word,
  get_string,
  NULL,
  set_string,
} from '../machine/struct.ts';
import {
  KMEM_CLASSES,
  M_MAGIC,
  M_VERSION,
  MALLOC_NAME_WORDS,
  MALLOC_TYPE_HEAD,
  MT_TOLD_FREED,
  malloc_root,
  type malloc_root_t,
  malloc_type,
  type malloc_type_t,
  mtstats,
  type mtstats_t,
} from '../h/malloc.ts';
import { M_NORECLAIM, M_NOWAIT } from '../h/malloc_flags.ts';
import { UMA_ZONE_MALLOC, uma_cache, uma_keg, uma_slab, uma_zone, type zone_t } from '../h/uma.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_MALLOC } from '../sync/lock_order.ts';
import { save, save64, save_word, undo_begin, undo_end } from '../sync/undo.ts';
import { uma_zfree, zone_alloc_hand, zone_free_at, zone_place } from '../uma/uma_core.ts';
import { item_settle, vtoslab } from '../uma/uma_keg.ts';
import { mcache_show } from '../uma/uma_cache.ts';
import { uma_cache_lost } from '../uma/uma_check.ts';
import { cache_of, zone_lock, zone_unlock } from '../uma/uma_int.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { malloc_type_sums } from './kern_malloc_sums.ts';
import { multizone_boot, multizone_name, multizone_of, multizones } from './kern_multizone.ts';

export { malloc_type_sums } from './kern_malloc_sums.ts';

const mt = malloc_type;

/** The record that anchors types and size classes. */
export function malloc_anchor(): malloc_root_t {
  return machine.roots[elem(M, ROOT_MALLOC)] as malloc_root_t;
}
/** The zone of size class b; where there are several the one with that number. */
export function malloc_zone(b: number, subzone = 0): zone_t {
  return malloc_root.zones[elem(malloc_anchor(), subzone * KMEM_CLASSES + b)] as zone_t;
}
/** The zone that block p of class b came from: where there are several, its slab knows. */
export function malloc_block_zone(p: number, b: number): zone_t {
  return multizones() === 1 ? malloc_zone(b) : uma_keg.zones[uma_slab.keg[vtoslab(p)]];
}
/** Which of the zones of its size z is. */
export function malloc_subzone(z: zone_t): number {
  let i = 0;
  while (i + 1 < multizones() && malloc_zone(uma_zone.mclass[z] - 1, i) !== z) i++;
  return i;
}

// --- boot ------------------------------------------------------------------------------------

/** The type of the block at NULL: no number that is given as a type finds itself there. */
const NO_TYPE = 0x7fffffff;
/** Lays out the root, while boot_alloc still works. */
export function malloc_boot(): void {
  const r = boot_alloc(malloc_root.sizeof, 'malloc', 16) as malloc_root_t;
  machine.roots[elem(M, ROOT_MALLOC)] = r;
  multizone_boot(r);
  const blocks = cpu_slots() * multizones();
  malloc_root.gone[r] = boot_alloc(mtstats.sizeof * blocks, 'malloc') as mtstats_t;
  mtx_init(malloc_root.lock, r, LC_MALLOC);
  mem.I32[field_word(mtstats.type, NULL as mtstats_t)] = NO_TYPE;
}
const Z_TYPES = zone_declared('mt_zone', 'Records of malloc types: rows of vmstat -m');
const Z_STATS = zone_declared(
  'mt_stats_zone',
  'Counts of a malloc type on one CPU, for the types that have been used there',
);
const Z_CLASSES = Array.from({ length: KMEM_CLASSES }, (_, b) => {
  const smaller = b === 0 ? 0 : 8 << b;
  const help = `Blocks of malloc that were asked for with ${smaller + 1} to ${16 << b} bytes`;
  return zone_declared(String(16 << b), help);
});
/** Makes the size classes, and the types that code declares. */
export function malloc_startup(): void {
  const r = malloc_anchor();
  const type_bytes = (MALLOC_TYPE_HEAD + cpu_nobody() + 1) * 4;
  malloc_root.type_zone[r] = uma_zcreate(Z_TYPES, type_bytes);
  malloc_root.stats_zone[r] = uma_zcreate(Z_STATS, mtstats.sizeof * 4, { align: 63 });
  for (let b = 0; b < KMEM_CLASSES; b++) {
    for (let i = 0; i < multizones(); i++) {
      const name = multizones() === 1 ? Z_CLASSES[b] : multizone_name(16 << b, i);
      const z = uma_zcreate(name, 16 << b, { flags: UMA_ZONE_MALLOC, mclass: b + 1 });
      malloc_root.zones[elem(r, i * KMEM_CLASSES + b)] = z;
    }
  }
  mcache_attach();
  for (const d of declared) d.t = malloc_type_attach(d.name);
}
/** Points this CPU's fast path at its caches. Runs at boot and at every attach. */
export function mcache_attach(): void {
  for (let b = 0; b < KMEM_CLASSES; b++) {
    mcache_show(b, uma_cache.cur[cache_of(malloc_zone(b), thr.cpu)]);
  }
  for (const d of declared) d.t = malloc_desc2type(d.name);
}

/** A type that code declares for itself; `t` is its record once the machine is up. */
export interface DeclaredType {
  readonly name: string;
  readonly help: string;
  t: malloc_type_t;
}
const declared: DeclaredType[] = [];
/** Declares a type: a row in vmstat -m from boot on. `help` says what it is for. */
export function MALLOC_DEFINE(name: string, help: string): DeclaredType {
  const d: DeclaredType = { name, help, t: NULL as malloc_type_t };
  declared.push(d);
  return d;
}
export const M_DEVBUF = MALLOC_DEFINE('devbuf', 'Memory of device drivers');
export const M_TEMP = MALLOC_DEFINE('temp', 'Short-lived memory of the kernel');
export const M_SYSCTLOID = MALLOC_DEFINE('sysctloid', 'Dynamic sysctl nodes');

// --- types -----------------------------------------------------------------------------------

/** Panics unless t is a type: always, because a wrong one would damage other memory. */
export function malloc_type_check(t: malloc_type_t, what: string): void {
  if (!(t > 0) || t * 4 >= memory_state.size) panic(`${what}: bad malloc type`, String(t));
  if (mt.magic[t] !== M_MAGIC) panic(`${what}: bad malloc type magic`, t * 4);
  if (mt.version[t] !== M_VERSION) panic(`${what}: malloc type with unsupported version`, t * 4);
}
/** The name of a type. */
export function malloc_type_name(t: malloc_type_t): string {
  return get_string(mt.name, t, MALLOC_NAME_WORDS);
}
/** A new, unregistered type record; NULL if there is no memory for it. */
export function malloc_type_create(name: string): malloc_type_t {
  const t = type_in_hand(name);
  if (t !== NULL) item_settle();
  return t;
}
/** The same, in this CPU's hand. */
function type_in_hand(name: string, flags = M_NOWAIT): malloc_type_t {
  const r = malloc_anchor();
  const t = zone_alloc_hand(malloc_root.type_zone[r], flags) as malloc_type_t;
  if (t === NULL) return t;
  hw.fill(t, 0, MALLOC_TYPE_HEAD + cpu_nobody() + 1);
  checked_fresh(t, mt.sizeof);
  mt.magic[t] = M_MAGIC;
  mt.version[t] = M_VERSION;
  set_string(mt.name, t, MALLOC_NAME_WORDS, name);
  mt.subzone[t] = multizone_of(malloc_type_name(t));
  checked_publish(t);
  return t;
}
/** Registers a type. Panics on a record that is none, always. */
export function malloc_init(t: malloc_type_t): void {
  malloc_type_check(t, 'malloc_init');
  const r = malloc_anchor();
  mtx_lock(malloc_root.lock, r);
  malloc_link(r, t, 0);
  mtx_unlock(malloc_root.lock, r);
}
/** Links a type; `in_hand`: it leaves this CPU's hand in the same step. */
function malloc_link(r: malloc_root_t, t: malloc_type_t, in_hand: number): void {
  if (mt.registered[t] !== 0) panic('malloc_init: type is registered', malloc_type_name(t));
  undo_begin(malloc_root.lock, r);
  save(malloc_root.types, r);
  save(malloc_root.count, r);
  save(mt.next, t);
  save(mt.registered, t);
  save(pcpu.in_hand_items, thr.pc);
  item_settle(in_hand);
  mt.next[t] = malloc_root.types[r];
  mt.registered[t] = 1;
  malloc_root.types[r] = t;
  malloc_root.count[r]++;
  undo_end();
}
/** The type with a name; NULL if there is none. The malloc lock is held. */
function malloc_find(r: malloc_root_t, name: string): malloc_type_t {
  const bytes = new Uint8Array(MALLOC_NAME_WORDS * 4);
  bytes.set(new TextEncoder().encode(name).subarray(0, bytes.length - 1));
  const wanted = new Int32Array(bytes.buffer);
  for (let t = malloc_root.types[r]; t !== NULL; t = mt.next[t]) {
    let i = 0;
    while (i < MALLOC_NAME_WORDS && mt.name[elem(t, i)] === wanted[i]) i++;
    if (i === MALLOC_NAME_WORDS) return t;
  }
  return NULL as malloc_type_t;
}
/** The type with this short description; NULL if there is none. */
export function malloc_desc2type(name: string): malloc_type_t {
  const r = malloc_anchor();
  mtx_lock(malloc_root.lock, r);
  const t = malloc_find(r, name);
  mtx_unlock(malloc_root.lock, r);
  return t;
}
/** The type with this name, made if need be; the same for all threads. Panics without memory. */
export function malloc_type_attach(name: string): malloc_type_t {
  const t = malloc_type_find_or_make(name);
  if (t === NULL) panic('malloc_type_attach: no memory for the type', name);
  return t;
}
/** malloc_type_attach for callers that can do without: NULL when there is no memory. */
export function malloc_type_find_or_make(given: string, flags = M_NOWAIT): malloc_type_t {
  const name = new TextDecoder('utf-8', { ignoreBOM: true }).decode(
    new TextEncoder().encode(given).subarray(0, 31),
  );
  const known = malloc_desc2type(name);
  if (known !== NULL) return known;
  const fresh = type_in_hand(name, flags);
  if (fresh === NULL) return fresh;
  const r = malloc_anchor();
  mtx_lock(malloc_root.lock, r);
  const other = malloc_find(r, malloc_type_name(fresh));
  if (other === NULL) malloc_link(r, fresh, 1);
  mtx_unlock(malloc_root.lock, r);
  if (other === NULL) return fresh;
  zone_free_at(malloc_root.type_zone[r], fresh, 0);
  return other;
}
/**
 * Unregisters a type and frees its record; reports what it still holds.  The
 * record must be on the list; nobody may use the type any more.
 */
export function malloc_uninit(t: malloc_type_t): void {
  malloc_type_check(t, 'malloc_uninit');
  const name = malloc_type_name(t);
  const r = malloc_anchor();
  mtx_lock(malloc_root.lock, r);
  if (mt.registered[t] === 0) panic(`malloc_uninit: type '${name}' not found`);
  undo_begin(malloc_root.lock, r);
  save(malloc_root.count, r);
  if (malloc_root.types[r] === t) {
    save(malloc_root.types, r);
    malloc_root.types[r] = mt.next[t];
  } else {
    let at = malloc_root.types[r];
    while (mt.next[at] !== t) at = mt.next[at];
    save(mt.next, at);
    mt.next[at] = mt.next[t];
  }
  malloc_root.count[r]--;
  undo_end();
  mtx_unlock(malloc_root.lock, r);
  const left = malloc_type_sums(t);
  if (left.inuse > 0 || left.bytes > 0) {
    kconsole.print(
      `Warning: memory type ${name} leaked memory on destroy ` +
        `(${left.inuse} allocations, ${left.bytes} bytes leaked).`,
    );
  }
  mtx_lock(malloc_root.lock, r);
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const s = mt.stats[elem(t, cpu)] as mtstats_t;
    if (s !== NULL) malloc_fold(s, malloc_stats_gone(cpu, mt.subzone[t]));
  }
  mtx_unlock(malloc_root.lock, r);
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const s = mt.stats[elem(t, cpu)];
    if (s === 0) continue;
    checked_fresh(s, mtstats.sizeof); // nobody's any more
    mtstats.type[s as mtstats_t] = NULL as malloc_type_t;
    checked_publish(s);
    uma_zfree(malloc_root.stats_zone[r], s);
  }
  mem.I32[field_word(mt.magic, t)] = 0; // a stale pointer to it is garbage from here on
  uma_zfree(malloc_root.type_zone[r], t);
}

/** This CPU's counters of type t, made at first use; NULL if there is no memory for them. */
export function malloc_stats_block(t: malloc_type_t, flags = M_NOWAIT): mtstats_t {
  const at = elem(t, thr.cpu);
  if (mt.stats[at] === 0) {
    const zone = malloc_root.stats_zone[malloc_anchor()];
    const s = zone_alloc_hand(zone, M_NOWAIT | (flags & M_NORECLAIM)) as mtstats_t;
    if (s === NULL) return s;
    hw.fill(s, 0, mtstats.sizeof);
    checked_fresh(s, mtstats.sizeof);
    mtstats.type[s] = t;
    checked_publish(s);
    zone_place(zone, field_word(mt.stats, at));
  }
  return mt.stats[at] as mtstats_t;
}

/** What types that are no more had counted on a CPU: the counts of a zone only grow. */
export function malloc_stats_gone(cpu: number, subzone = 0): mtstats_t {
  const block = subzone * cpu_slots() + cpu;
  return (malloc_root.gone[malloc_anchor()] + block * mtstats.sizeof) as mtstats_t;
}
function malloc_fold(from: mtstats_t, to: mtstats_t): void {
  for (let b = 0; b < KMEM_CLASSES; b++) {
    const [f, t] = [elem(from, b), elem(to, b)];
    const { allocs, allocs_high, frees, frees_high } = mtstats;
    const add = (low: Field<mtstats_t>, high: Field<mtstats_t>): void =>
      count_add(field_word(low, t), field_word(high, t), count_pair(low, high, f));
    add(allocs, allocs_high);
    add(frees, frees_high);
  }
}
/**
 * Counts a free of class b where this CPU has no block for the type and cannot
 * get one: a free may not fail, and its count may not be lost.
 */
export function malloc_late_free(t: malloc_type_t, b: number): void {
  atomic_add(field_word(mt.late, elem(t, b)), 1);
  malloc_gone_free(mt.subzone[t], b);
}
/** Counts a free of class b for types that are no more. */
export function malloc_gone_free(subzone: number, b: number): void {
  const at = elem(malloc_stats_gone(thr.cpu, subzone), b);
  count_add(field_word(mtstats.frees, at), field_word(mtstats.frees_high, at), 1);
}
/** The same for a large block of n pages. */
export function malloc_late_free_large(t: malloc_type_t, n: number): void {
  atomic_add(field_word(mt.late, elem(t, KMEM_CLASSES)), 1);
  atomic_add(field_word(mt.late, elem(t, KMEM_CLASSES + 1)), n);
}

/** Says once of a type that a large block of it was freed under another. */
export function malloc_tell_freed(p: number, t: malloc_type_t, given: malloc_type_t): void {
  if (atomic_or(field_word(mt.told, t), MT_TOLD_FREED) & MT_TOLD_FREED) return;
  kconsole.print(
    `Warning: memory type ${malloc_type_name(t)}: block ${p * 4} is freed as ` +
      `${malloc_type_name(given)}; it is counted under the type it was allocated with`,
  );
}
/** Calls `fn` for every registered type, newest first, on a snapshot of the list. */
export function malloc_type_list(fn: (t: malloc_type_t) => void): void {
  const r = malloc_anchor();
  const all: malloc_type_t[] = [];
  mtx_lock(malloc_root.lock, r);
  for (let t = malloc_root.types[r]; t !== NULL; t = mt.next[t]) all.push(t);
  mtx_unlock(malloc_root.lock, r);
  for (const t of all) fn(t);
}

/** Types beyond those that were counted: a dump of a running machine may have some. */
const TYPES_MORE = 64;
/**
 * Allocations and frees of a zone on a CPU, over all types that take from it.  In a dump nobody
 * mends the list: what it leads to until it ends, is wrong or goes in a circle.
 */
export function malloc_class_counts(z: number, cpu: number): { allocs: number; frees: number } {
  const r = malloc_anchor();
  const b = uma_zone.mclass[z as zone_t] - 1;
  const subzone = malloc_subzone(z as zone_t);
  const dump = thr.cpu < 0;
  let left = dump ? malloc_root.count[r] + TYPES_MORE : Number.POSITIVE_INFINITY;
  const gone = elem(malloc_stats_gone(cpu, subzone), b);
  let frees = count_pair(mtstats.frees, mtstats.frees_high, gone);
  let allocs = count_pair(mtstats.allocs, mtstats.allocs_high, gone);
  for (let t = malloc_root.types[r]; t !== NULL && left-- > 0; t = mt.next[t]) {
    // No lock: a type that went under this walk leads nowhere, so it begins again.
    if (mt.magic[t] !== M_MAGIC) {
      if (dump) break;
      return malloc_class_counts(z, cpu);
    }
    if (mt.subzone[t] !== subzone) continue;
    const s = mt.stats[elem(t, cpu)] as mtstats_t;
    if (s === NULL) continue;
    frees += count_pair(mtstats.frees, mtstats.frees_high, elem(s, b));
    allocs += count_pair(mtstats.allocs, mtstats.allocs_high, elem(s, b));
  }
  return { allocs, frees };
}

/** After a death in a section that was too long for its undo log: walks the list of types. */
export function malloc_types_recover(l: number): void {
  const r = malloc_anchor();
  const torn = (what: string): never =>
    panic(`lock of malloc types at ${l * 4} was held by a thread that died: ${what}`);
  let n = 0;
  for (let t = malloc_root.types[r]; t !== NULL; t = mt.next[t]) {
    if (mt.magic[t] !== M_MAGIC || mt.registered[t] === 0) torn(`no type at ${t * 4}`);
    if (++n > malloc_root.count[r]) torn('more types than are counted');
  }
  if (n !== malloc_root.count[r]) torn(`${n} types, ${malloc_root.count[r]} counted`);
}

/** Sets the marks of a counter block as its dead CPU should have left them. */
function carries_settle(s: mtstats_t): void {
  const { allocs, allocs_high, frees, frees_high } = mtstats;
  for (let b = 0; b < KMEM_CLASSES; b++) {
    const at = elem(s, b);
    count_settle(field_word(allocs, at), field_word(allocs_high, at));
    count_settle(field_word(frees, at), field_word(frees_high, at));
  }
}
/**
 * Counts of a dead CPU: their marks are made right, and what it had taken from a bucket
 * and not yet counted is counted as lost.
 */
export function malloc_lost_reap(cpu: number): void {
  const r = malloc_anchor();
  if (r === NULL) return;
  mtx_lock(malloc_root.lock, r);
  for (let t = malloc_root.types[r]; t !== NULL; t = mt.next[t]) {
    const s = mt.stats[elem(t, cpu)] as mtstats_t;
    if (s !== NULL) carries_settle(s);
  }
  // It may have died while it added up what a type had counted: on any CPU's account.
  for (let any = 0; any < cpu_slots() * multizones(); any++) carries_settle(malloc_stats_gone(any));
  mtx_unlock(malloc_root.lock, r);
  for (let i = 0; i < KMEM_CLASSES * multizones(); i++) {
    const z = malloc_zone(i);
    if (z === NULL) continue;
    zone_lock(z); // reapers of two dead CPUs may be here, or one that died here
    const lost = uma_cache_lost(z, cpu);
    if (lost !== 0) count_lost(z, cpu, lost);
    zone_unlock(z);
  }
}
/** Counts items as lost, all in one section: of a reaper that dies in it nothing counts. */
function count_lost(z: zone_t, cpu: number, lost: number): void {
  const c = cache_of(z, cpu);
  undo_begin(uma_keg.lock, uma_zone.keg[z]);
  save64(uma_cache.lost, c);
  save64(uma_zone.lost, z);
  for (const w of counter_words(v_reap_items)) save_word(w);
  add64(uma_cache.lost, c, lost);
  add64(uma_zone.lost, z, Math.abs(lost));
  counter_add(v_reap_items, Math.abs(lost));
  undo_end();
}
/** The name of the type whose record is at word `t`; for one that is no more, what it is. */
export function malloc_type_name_of(t: number): string {
  const r = malloc_anchor();
  for (let at = malloc_root.types[r]; at !== NULL; at = mt.next[at]) {
    if (at === t) return malloc_type_name(at);
  }
  return 'a type that is no more';
}

/** The types that the kernel declares for itself. */
export function declared_types(): readonly DeclaredType[] {
  return declared;
}
/** Their names. */
export function declared_type_names(): string[] {
  return declared.map((d) => d.name);
}
