/*
 * memguard: blocks on pages of their own, at addresses that nobody else gets for long.
 *
 *      kernel_map ── the map of guarded blocks
 *
 *          | hole | block | hole | block | hole |      | hole |  free addresses ...
 *            guard ^       guard          guard   gone          ^ cursor
 *                  at the end of its page, so that what runs off it is on a guard at once
 *
 * A program names a malloc type or a zone, at any time and before there is one, or has blocks
 * guarded by their size or by chance (memguard_vars.ts).  From then on each such block gets kernel
 * addresses beyond the memory, and pages that lie side by side.  Everything that translates an
 * address (load, store, copyIn, bytes and the like) is looked at here first: what is not wholly
 * within a block in use is a stray access, which is told with the block that it ran off, or that
 * was freed there, and with the stacks of its allocation and its free (memguard_trap.ts).
 *
 * Life of a block.  Its entry is in transition while its pages are made, then the program's, with
 * what was asked for in it; at its free it is in transition again, its translation goes, then it
 * is retired (memguard_held.ts).  The addresses are found from the cursor on: the first place that
 * is free, at the end anew from the start.  So what was freed is nobody's for a whole round.
 *
 * Who gets such an address must take it as one: the façade asks with M_GUARDABLE, and takes an
 * address beyond the memory everywhere (lib/kva.ts).  The kernel's own requests are never guarded,
 * because it uses words of memory as they are.
 *
 * A block that is guarded counts nowhere else: not under its type, its zone, or vm.kmem_size; it
 * has a limit of its own (vm.memguard.phys_limit).  No memory for it is no failure: the request is
 * served as any other.
 *
 * Locks.  The map's, for an entry and for what is said of all of them; the record's own for the
 * making of the map.
 *
 * Unlike FreeBSD: bytes before and behind the block on its own pages are guarded, too; two blocks
 * with and without guards (option 1) never share one.
 */
import { atomic_add, atomic_and, atomic_load, atomic_or, atomic_store } from '../machine/atomic.ts';
import { bcopy, bytes_fill } from '../machine/bytes.ts';
import { counter_add } from '../machine/counter.ts';
import { poll } from '../machine/cpu.ts';
import { kconsole } from '../machine/kconsole.ts';
import { machine_random } from '../machine/machdep.ts';
import { howmany, mem, PAGE_SIZE, PAGE_WORDS, page_word, ptoa } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { add64, field_word, NULL } from '../machine/struct.ts';
import { MALLOC_NAME_WORDS, MD_MEMGUARD, malloc_type, type malloc_type_t } from '../h/malloc.ts';
import { M_GUARDABLE, M_NORECLAIM, M_NOWAIT, M_ZERO } from '../h/malloc_flags.ts';
import {
  GUARD_NEVER,
  GUARD_READY,
  GUARD_TOO_SMALL,
  guard_root,
  memguard_freed,
  type memguard_freed_t,
  memguard_root,
  type memguard_root_t,
} from '../h/memguard.ts';
import {
  UMA_NAME_WORDS,
  UMA_ZFLAG_PROGRAM,
  UMA_ZONE_NOFREE,
  uma_keg,
  uma_zone,
  ZH_GOING,
  ZH_GUARD,
  type zone_t,
} from '../h/uma.ts';
import {
  MAP_ENTRY_GUARDED,
  MAP_ENTRY_ITEM,
  VM_MAP_SYSTEM,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { vm_access } from '../map/vm_copy.ts';
import {
  kernel_map,
  kernel_pmap,
  kmem_alloc_placed,
  kmem_alloc_run,
  kmem_hold,
  kmem_run,
  kmem_suballoc,
} from '../map/vm_kern.ts';
import { vm_map_lock, vm_map_unlock } from '../map/vm_map.ts';
import {
  map_header,
  vm_map_findspace,
  vm_map_lookup,
  vm_map_lookup_entry,
} from '../map/vm_map_tree.ts';
import { vm_page_count } from '../page/vm_page_targets.ts';
import { pmap_extract, pmap_remove } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, save64, undo_begin, undo_end } from '../sync/undo.ts';
import { uma, uma_each_zone, uma_root } from '../uma/uma_int.ts';
import { detect_on, detect_set } from './kern_detect.ts';
import type { Detector } from './kern_detect_chain.ts';
import { large_type, malloc_undetected } from './kern_malloc.ts';
import { malloc_type_check } from './kern_malloc_type.ts';
import { stack_depot_save } from './kern_stack.ts';
import { sample_remove } from './kern_stack_sample.ts';
import {
  guard_held_leave,
  guard_held_trim,
  guard_retire,
  type Guarded,
  guarded_of,
} from './memguard_held.ts';
import { guard_late, guard_slack } from './memguard_trap.ts';
import {
  guard_by_chance,
  guard_chance,
  guard_map_there,
  guard_minsize,
  guard_named,
  guard_option,
  guard_quarantine_pages,
  guard_sizes,
  guard_wanted,
  MG_GUARD_ALLLARGE,
  MG_GUARD_AROUND,
  MG_GUARD_NOFREE,
  v_fail_kva,
  v_fail_pgs,
  v_frequency_hits,
  v_minsize_reject,
} from './memguard_vars.ts';

const root = memguard_root;
const map = vm_map;
const entry = vm_map_entry;

/** Blocks begin at multiples of this many bytes, unless a zone wants more. */
const ALIGN = 16;
/** Freed blocks of which something is known: one for so many pages that may be guarded. */
const PAGES_PER_RECORD = 4;
const DIAG_FILL = 0x70;

// --- the map, when something is to be guarded ---------------------------------------------------

/** The map of guarded blocks, made when it is wanted first. NULL: this machine has none. */
function guard_map(): vm_map_t {
  const r = guard_root();
  if (atomic_load(field_word(root.ready, r)) === GUARD_NEVER) guard_map_make(r);
  return guard_map_there();
}
/** Each step is there from the section on that anchors it: after a death the next one goes on. */
function guard_map_make(r: memguard_root_t): void {
  const { pages, addresses } = guard_sizes();
  const top = addresses === 0 ? (NULL as vm_map_t) : kernel_map();
  mtx_lock(root.lock, r);
  const first = atomic_load(field_word(root.ready, r)) === GUARD_NEVER;
  const made = top !== NULL && map_make(r, top, addresses) && ring_make(r, top, pages);
  if (first) atomic_store(field_word(root.ready, r), made ? GUARD_READY : GUARD_TOO_SMALL);
  mtx_unlock(root.lock, r);
  if (first) guard_say(made);
}
function map_make(r: memguard_root_t, top: vm_map_t, addresses: number): boolean {
  if (root.map[r] !== NULL) return true;
  const mp = kmem_suballoc(top, addresses, VM_MAP_SYSTEM);
  if (mp === NULL) return false;
  vm_map_lock(mp);
  const header = map_header(mp);
  const [first, end] = [entry.end[header], entry.start[header]];
  root.cursor[r] = first;
  vm_map_unlock(mp);
  undo_begin(root.lock, r);
  for (const f of [root.map, root.first, root.end]) save(f, r);
  root.map[r] = mp;
  root.first[r] = first;
  root.end[r] = end;
  undo_end();
  return true;
}
/** The records of freed blocks: as many pages as there is a run for. */
function ring_make(r: memguard_root_t, top: vm_map_t, pages: number): boolean {
  if (root.ring[r] !== NULL) return true;
  const size = memguard_freed.sizeof;
  let n = howmany((pages / PAGES_PER_RECORD) * size, PAGE_WORDS);
  for (; n > 0; n >>= 1) {
    const at = kmem_alloc_run(top, n, M_NOWAIT | M_NORECLAIM);
    const m = at === 0 ? 0 : kmem_run(at, n);
    if (m === 0) continue;
    undo_begin(root.lock, r);
    save(root.ring, r);
    save(root.ring_n, r);
    root.ring[r] = page_word(m) as memguard_freed_t;
    root.ring_n[r] = Math.floor((n * PAGE_WORDS) / size);
    undo_end();
    return true;
  }
  return false;
}
function guard_say(made: boolean): void {
  if (!made) {
    kconsole.print(`MEMGUARD: ${ptoa(vm_page_count())} bytes of memory are too few: it is off`);
    return;
  }
  const r = guard_root();
  const [base, limit] = [ptoa(root.first[r]), ptoa(root.end[r])];
  kconsole.print('MEMGUARD DEBUGGING ALLOCATOR INITIALIZED:');
  kconsole.print(`\tMEMGUARD map base: 0x${base.toString(16)}`);
  kconsole.print(`\tMEMGUARD map limit: 0x${limit.toString(16)}`);
  kconsole.print(`\tMEMGUARD map size: ${(limit - base) / 1024} KBytes`);
}

// --- what is guarded ---------------------------------------------------------------------------

/**
 * Has malloc and zones ask, or not, as the variables say now.  Whoever changed one calls it; if
 * another thread changed one meanwhile it looks again.
 */
export function memguard_update(): void {
  const version = field_word(root.version, guard_root());
  atomic_add(version, 1);
  for (let seen = -1; seen !== atomic_load(version); ) {
    seen = atomic_load(version);
    const on = guard_wanted() && guard_map() !== NULL;
    detect_set(MD_MEMGUARD, on);
    mtx_lock(uma_root.lock, uma());
    uma_each_zone((z) => zone_update(z, on));
    mtx_unlock(uma_root.lock, uma());
  }
  const mp = guard_map_there();
  if (mp !== NULL) guard_held_trim(mp, guard_quarantine_pages(), guard_late);
}
/** Whether a zone asks for each item. */
function zone_update(z: zone_t, on: boolean): void {
  const asks = on && (uma_zone.flags[z] & UMA_ZFLAG_PROGRAM) !== 0 && (guard_chance() || named(z));
  const hooks = field_word(uma_zone.hooks, z);
  if (asks) atomic_or(hooks, ZH_GUARD);
  else if ((uma_zone.hooks[z] & ZH_GUARD) !== 0) atomic_and(hooks, ~ZH_GUARD);
}
/** A zone was made: it asks, if it is one of those that do. */
export function memguard_zone_made(z: zone_t): void {
  zone_update(z, detect_on(MD_MEMGUARD));
}
function named(z: zone_t): boolean {
  return guard_named(field_word(uma_zone.name, z), UMA_NAME_WORDS * 4);
}
/** Whether a request is guarded whatever it is for; undefined: its name decides. */
function decided(size: number): boolean | undefined {
  if (size < guard_minsize()) {
    counter_add(v_minsize_reject, 1);
    return false;
  }
  if (size >= PAGE_SIZE && guard_option(MG_GUARD_ALLLARGE)) return true;
  if (!guard_by_chance(machine_random)) return undefined;
  counter_add(v_frequency_hits, 1);
  return true;
}
/** Whether a block of a type is guarded: in this order. */
export function memguard_cmp_mtp(size: number, t: malloc_type_t): boolean {
  const name = field_word(malloc_type.name, t);
  return decided(size) ?? guard_named(name, MALLOC_NAME_WORDS * 4);
}
/** Whether an item of a zone is guarded: in the same order. */
export function memguard_cmp_zone(z: zone_t): boolean {
  const never = (uma_zone.flags[z] & UMA_ZONE_NOFREE) !== 0 && !guard_option(MG_GUARD_NOFREE);
  return !never && (decided(uma_zone.size[z]) ?? named(z));
}

/** malloc asks first here (kern_detect_chain.ts). Its blocks are no words of memory: no free. */
export const memguard_detector: Detector = {
  which: MD_MEMGUARD,
  alloc: (size, t, flags) => {
    if ((flags & M_GUARDABLE) === 0 || !memguard_cmp_mtp(size, t as malloc_type_t)) return 0;
    return memguard_alloc(size, ALIGN, t, 0, flags) / 4;
  },
  free: () => false,
  size: () => -1,
};
/** An item of a zone that asks: a word address; 0: it is taken from the zone. */
export function memguard_zalloc(z: zone_t, flags: number): number {
  const asks = (flags & M_GUARDABLE) !== 0 && (uma_zone.hooks[z] & ZH_GOING) === 0;
  if (!asks || !memguard_cmp_zone(z)) return 0;
  const align = Math.max(ALIGN, uma_keg.align[uma_zone.keg[z]] + 1);
  return memguard_alloc(uma_zone.size[z], align, z, MAP_ENTRY_ITEM, flags) / 4;
}

// --- a block comes and goes ----------------------------------------------------------------------

/**
 * A guarded block of zeros, of a type or a zone (`kind` MAP_ENTRY_ITEM): its first byte.  0: size
 * 0, or it cannot be had.
 */
export function memguard_alloc(
  size: number,
  align: number,
  owner: number,
  kind: number,
  flags: number,
): number {
  const n = howmany(size, PAGE_SIZE);
  const mp = n === 0 ? (NULL as vm_map_t) : guard_map();
  if (mp === NULL) return 0;
  if (size < PAGE_SIZE && !below_limit(mp)) {
    counter_add(v_fail_pgs, 1);
    return 0;
  }
  const around = guard_option(MG_GUARD_AROUND);
  const small = size < PAGE_SIZE;
  const offset = small && around ? Math.floor((PAGE_SIZE - size) / align) * align : 0;
  const stack = stack_depot_save();
  let placed = true;
  const place = (of: vm_map_t): number => {
    const at = place_find(of, n, around);
    placed = at >= 0;
    return at;
  };
  const at = kmem_alloc_placed(mp, n, flags, place, (e) => {
    count_alloc(small ? PAGE_SIZE - size : 0);
    for (const f of [entry.wired, entry.avail_ssize, entry.grow_prot, entry.stack]) save(f, e);
    entry.eflags[e] |= kind | (around ? MAP_ENTRY_GUARDED : 0);
    entry.wired[e] = offset;
    entry.avail_ssize[e] = size | 0;
    entry.grow_prot[e] = owner;
    entry.stack[e] = stack;
  });
  if (at === 0) {
    counter_add(placed ? v_fail_pgs : v_fail_kva, 1);
    return 0;
  }
  if (opt.DIAGNOSTIC && kind === 0 && (flags & M_ZERO) === 0) {
    bytes_fill(ptoa(pmap_extract(kernel_pmap(), at)) + offset, DIAG_FILL, size);
  }
  return ptoa(at) + offset;
}
/** Whether small blocks may have a page more; those that wait go before one is refused. */
function below_limit(mp: vm_map_t): boolean {
  const { pages } = guard_sizes();
  while (map.size[mp] >= pages) if (guard_held_leave(mp, guard_late) === 0) return false;
  return true;
}
/** Counts a block, which is the caller's from here on. Inside a section. */
function count_alloc(waste: number): void {
  const r = guard_root();
  save64(root.numalloc, r);
  save64(root.wasted, r);
  add64(root.numalloc, r, 1);
  add64(root.wasted, r, waste);
}
/**
 * The first place from the cursor on, or from the start once it is at the end; -1: none.  The
 * cursor moves at once: it never goes back because another thread had its pages sooner.
 */
function place_find(mp: vm_map_t, n: number, around: boolean): number {
  const r = guard_root();
  let at = first_fit(mp, root.cursor[r], n, around);
  if (at < 0 && root.cursor[r] !== root.first[r]) {
    add64(root.wrapcnt, r, 1);
    root.cursor[r] = root.first[r];
    at = first_fit(mp, root.first[r], n, around);
  }
  if (at >= 0) root.cursor[r] = at + n;
  return at;
}
function first_fit(mp: vm_map_t, from: number, n: number, around: boolean): number {
  if (!around) {
    const at = vm_map_findspace(mp, from, n);
    if (at < 0) return at;
    // No guard of another block is taken.
    const below = vm_map_lookup_entry(mp, at);
    const above = entry.next[below];
    const touches =
      (guarded(mp, below) && entry.end[below] === at) ||
      (guarded(mp, above) && entry.start[above] === at + n);
    if (!touches) return at;
  }
  const at = vm_map_findspace(mp, from, n + 2);
  return at < 0 ? at : at + 1;
}
function guarded(mp: vm_map_t, e: vm_map_entry_t): boolean {
  return e !== map_header(mp) && (entry.eflags[e] & MAP_ENTRY_GUARDED) !== 0;
}

/** How a free ended. */
export const GUARD_FREED = 0;
/** A block is there, but it begins elsewhere, or is another one's. */
export const GUARD_OTHER = 1;
/** No block is there. */
export const GUARD_GONE = 2;

/** Whether the entry e is of a block that a program has. The map is locked. */
function in_use(e: vm_map_entry_t): boolean {
  return e !== NULL && entry.transition[e] === 0 && entry.protection[e] !== 0;
}
/** The block in use on whose pages byte `at` lies; null: none. */
export function memguard_block(at: number): Guarded | null {
  const mp = guard_map_there();
  vm_map_lock(mp);
  const e = vm_map_lookup(mp, Math.floor(at / PAGE_SIZE));
  const b = in_use(e) ? guarded_of(e) : null;
  vm_map_unlock(mp);
  return b;
}
/** Frees the block that begins at byte `at`, of a type, or of exactly this zone. GUARD_*. */
export function memguard_free(at: number, given: number, kind: number): number {
  poll();
  if (kind === 0) malloc_type_check(given as malloc_type_t, 'free');
  const b = memguard_block(at);
  if (b === null) return GUARD_GONE;
  const other = (b.flags & MAP_ENTRY_ITEM) !== kind || (kind !== 0 && b.owner !== given);
  if (b.at !== at || other) return GUARD_OTHER;
  if (kind === 0) large_type(at / 4, given as malloc_type_t, b.owner as malloc_type_t);
  const mp = guard_map_there();
  const stack = stack_depot_save();
  sample_remove(at / 4);
  vm_map_lock(mp);
  const e = vm_map_lookup(mp, b.start);
  const mine = in_use(e) && entry.start[e] === b.start; // else another thread was faster
  if (mine) kmem_hold(mp, e, () => count_free(b));
  vm_map_unlock(mp);
  if (!mine) return GUARD_GONE;
  const m = pmap_extract(kernel_pmap(), b.start);
  pmap_remove(kernel_pmap(), b.start, b.end);
  const bad = slack_bad(b, m);
  guard_retire(mp, b.start, b.end - b.start, m, stack, guard_late);
  if (bad !== 0) guard_slack(b, bad, stack);
  return GUARD_FREED;
}
/**
 * The block that begins at byte `at`, of a type, gets another size: a new guarded one with the old
 * contents, also where the old one was guarded by chance.  0: there is none, and the old one is
 * still there.  -1: no block of a type begins there.
 */
export function memguard_realloc(
  at: number,
  size: number,
  t: malloc_type_t,
  flags: number,
): number {
  const b = memguard_block(at);
  if (b === null || b.at !== at || (b.flags & MAP_ENTRY_ITEM) !== 0) return -1;
  const q =
    size > 0 ? memguard_alloc(size, ALIGN, t, 0, flags) : malloc_undetected(0, t, flags) * 4;
  if (q === 0) return 0;
  if (size > 0) bcopy(memguard_flat(at, 0), memguard_flat(q, 0), Math.min(size, b.size));
  memguard_free(at, t, 0);
  return q;
}
/** Copies n bytes of the memory, from word p on, to the guarded block at word q. */
export function memguard_copy(q: number, p: number, n: number): void {
  bcopy(p * 4, memguard_flat(q * 4, n), n);
}
function count_free(b: Guarded): void {
  const r = guard_root();
  save64(root.numfree, r);
  save64(root.wasted, r);
  add64(root.numfree, r, 1);
  if (b.size < PAGE_SIZE) add64(root.wasted, r, b.size - PAGE_SIZE);
}
/** Where a byte on the pages of a block, outside it, is not zero any more; 0: nowhere. */
function slack_bad(b: Guarded, m: number): number {
  const base = ptoa(m) - ptoa(b.start);
  for (let at = ptoa(b.start); at < b.at; at++) if (mem.U8[base + at] !== 0) return at;
  for (let at = b.at + b.size; at < ptoa(b.end); at++) if (mem.U8[base + at] !== 0) return at;
  return 0;
}

// --- access --------------------------------------------------------------------------------------

/** Whether byte `at` is an address that guarded blocks may have. */
export function memguard_has(at: number): boolean {
  const r = guard_root();
  if (guard_map_there() === NULL) return false;
  return at >= ptoa(root.first[r]) && at < ptoa(root.end[r]);
}
/** Whether n bytes from `at` on lie in a block in use, whole. */
function within(at: number, n: number): boolean {
  const b = memguard_block(at);
  return b !== null && at >= b.at && at + n <= b.at + b.size;
}
/**
 * Calls `move` for each piece of a range that lies within a page: as vm_access.  An errno; -1: it
 * is a stray access, and, unless another thread freed the block meanwhile, nothing was moved.
 */
export function memguard_access(
  at: number,
  n: number,
  write: boolean,
  move: (at: number, n: number, done: number) => void,
): number {
  if (n === 0) return 0;
  if (!within(at, n)) return -1;
  const { error } = vm_access(guard_map_there(), at, n, write, move);
  return error !== 0 && !within(at, n) ? -1 : error;
}
/** Where in the memory n bytes from `at` on lie in one piece; 0: they are in no block in use. */
export function memguard_flat(at: number, n: number): number {
  const mp = guard_map_there();
  vm_map_lock(mp);
  const e = vm_map_lookup(mp, Math.floor(at / PAGE_SIZE));
  const b = in_use(e) ? guarded_of(e) : null;
  const inside = b !== null && at >= b.at && at + n <= b.at + b.size;
  const m = inside ? pmap_extract(kernel_pmap(), b.start) : 0;
  vm_map_unlock(mp);
  return m === 0 || b === null ? 0 : ptoa(m) + at - ptoa(b.start);
}
/** Guarded blocks of a type, or items of a zone (`kind` MAP_ENTRY_ITEM), that are in use. */
export function memguard_in_use(owner: number, kind: number): { count: number; bytes: number } {
  const mp = guard_map_there();
  const sums = { count: 0, bytes: 0 };
  if (mp === NULL) return sums;
  const header = map_header(mp);
  vm_map_lock(mp);
  for (let e = entry.next[header]; e !== header; e = entry.next[e]) {
    if (!in_use(e) || entry.grow_prot[e] !== owner) continue;
    if ((entry.eflags[e] & MAP_ENTRY_ITEM) !== kind) continue;
    sums.count++;
    sums.bytes += entry.avail_ssize[e] >>> 0;
  }
  vm_map_unlock(mp);
  return sums;
}
/** Memory is short: blocks that wait go. Returns their pages. */
export function memguard_empty(): number {
  const mp = guard_map_there();
  return mp === NULL ? 0 : guard_held_trim(mp, 0, guard_late);
}
