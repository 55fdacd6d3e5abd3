/*
 * memguard_trap: what is said of a stray access, and what it does.
 *
 *      memguard: store32 of 4 bytes at 0x200001ff8 is 4 bytes behind a block of 100 bytes of type
 *      'sessions' at 0x200001f90
 *      Allocation backtrace:
 *      #0 session_open at server.ts:12:9
 *      Access backtrace:
 *      ...
 *
 * Which block it is.  The page of the access is tried first: a block in use there, before or behind
 * which the bytes lie; then a block in use that has the page as its guard, the nearer one of two;
 * then the newest one that was freed there; then one next to it.  A place of which nothing is known
 * any more is told as such.
 *
 * vm.memguard.trap says what happens then: `panic` stops the machine, as a page fault of the kernel
 * does.  `report` lets the call fail, and tells each place in the program once: its hash is
 * noted for all threads.  A place that finds no room among these is counted, and not told.
 *
 * Besides: a free of what is no block (double free); bytes around a block that a view stored
 * to, found at its free; and freed blocks that were stored to, found when they leave.
 */
import { atomic_cas, atomic_load } from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import { counter_add } from '../machine/counter.ts';
import { kconsole } from '../machine/kconsole.ts';
import { mem, page_word, PAGE_SIZE, ptoa } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word } from '../machine/struct.ts';
import { GUARD_SITES, guard_root, memguard_root } from '../h/memguard.ts';
import type { zone_t } from '../h/uma.ts';
import { MAP_ENTRY_GUARDED, MAP_ENTRY_ITEM, vm_map_entry, type vm_map_t } from '../h/vm_map.ts';
import { vm_map_lock, vm_map_unlock } from '../map/vm_map.ts';
import { map_header, vm_map_lookup_entry } from '../map/vm_map_tree.ts';
import { uma_each_zone, zone_name } from '../uma/uma_int.ts';
import { malloc_type_name_of } from './kern_malloc_type.ts';
import { stack_depot_save, stack_depot_text } from './kern_stack.ts';
import { guard_freed_find, type Guarded, guarded_of } from './memguard_held.ts';
import { guard_map_there, guard_panics, v_late, v_traps } from './memguard_vars.ts';

const root = memguard_root;
const entry = vm_map_entry;

const hex = (at: number): string => `0x${at.toString(16)}`;
const bytes = (n: number): string => `${n} ${n === 1 ? 'byte' : 'bytes'}`;

/** What lies at byte `at`, seen from the block that it is about. */
export function guard_place_text(at: number): string {
  const b = block_about(guard_map_there(), at);
  return b === null ? 'no block that is known' : place_text(at, 1, b);
}
/** What a block is called. */
function block_text(b: Guarded): string {
  const item = (b.flags & MAP_ENTRY_ITEM) !== 0;
  const of = item ? `zone '${zone_of(b.owner)}'` : `type '${malloc_type_name_of(b.owner)}'`;
  return `${item ? 'an item' : 'a block'} of ${bytes(b.size)} of ${of} at ${hex(b.at)}`;
}
function zone_of(z: number): string {
  let name = 'a zone that is no more';
  uma_each_zone((one: zone_t) => {
    if (one === z) name = zone_name(one);
  });
  return name;
}
/** Where n bytes from `at` on are, seen from a block, and what that was. */
function place_text(at: number, n: number, b: Guarded): string {
  const live = b.going ? ' that is being freed' : '';
  const was = b.time === 0 ? live : ` that was freed ${elapsed(b)} before`;
  const end = b.at + b.size;
  let where = `${bytes(at - b.at)} into`;
  if (at < b.at) where = `${bytes(b.at - at)} before`;
  else if (at >= end) where = `${bytes(at - end)} behind the end of`;
  else if (at + n > end) where = `${where}, and runs ${bytes(at + n - end)} beyond,`;
  return `${where} ${block_text(b)}${was}`;
}
function elapsed(b: Guarded): string {
  return `${Math.max(0, now_ms() - b.time).toFixed(3)} ms`;
}

/** The block that an access of byte `at` is about; null: nothing is known. */
function block_about(mp: vm_map_t, at: number): Guarded | null {
  const page = Math.floor(at / PAGE_SIZE);
  vm_map_lock(mp);
  const header = map_header(mp);
  const below = vm_map_lookup_entry(mp, page);
  const on = (b: Guarded): boolean => b.start <= page && page < b.end;
  const beside = (b: Guarded): boolean => b.start - 1 <= page && page <= b.end;
  const near = [below, entry.next[below]]
    .filter((e) => e !== header && entry.protection[e] !== 0 && entry.avail_ssize[e] !== 0)
    .map((e) => guarded_of(e))
    .filter(beside);
  const apart = (b: Guarded): number => (at < b.at ? b.at - at : at - b.at - b.size);
  near.sort((a, b) => apart(a) - apart(b));
  const found =
    near.find(on) ??
    near.find((b) => (b.flags & MAP_ENTRY_GUARDED) !== 0) ??
    guard_freed_find(on) ??
    near[0] ??
    guard_freed_find(beside);
  vm_map_unlock(mp);
  return found;
}

/** What a stray access is told as, where the machine goes on. */
export interface Trapped {
  readonly text: string;
  /** Frames of the allocation and of the free of the block that it is about; [] not known. */
  readonly allocated: readonly string[];
  readonly freed: readonly string[];
}
/**
 * The bytes that `op` wanted are in no block in use: told, and a panic unless vm.memguard.trap says
 * otherwise.  `site`: the place in the program.
 */
export function memguard_trap(op: string, at: number, n: number, site: string): Trapped {
  const b = block_about(guard_map_there(), at);
  const where = b === null ? 'is in no guarded block that is known' : `is ${place_text(at, n, b)}`;
  return trap(`memguard: ${op} of ${bytes(n)} at ${hex(at)} ${where}`, b, 'Access', site);
}
/** A free of what is no block in use: the same. It is a second one only where a block was. */
export function memguard_no_block(at: number, site: string): Trapped {
  const b = block_about(guard_map_there(), at);
  const where = b === null ? '' : `: it is ${place_text(at, 1, b)}`;
  if (b !== null && b.at === at && (b.time !== 0 || b.going)) {
    return trap(`MemGuard detected double-free of ${hex(at)}${where}`, b, 'Second free', site);
  }
  const text = `MemGuard detected free of ${hex(at)}, where no block begins${where}`;
  return trap(text, b, 'Wild free', site);
}
function trap(text: string, b: Guarded | null, what: string, site: string): Trapped {
  counter_add(v_traps, 1);
  const stack = stack_depot_save();
  const allocated = stack_depot_text(b?.stack ?? 0);
  const freed = stack_depot_text(b?.freed ?? 0);
  if (guard_panics() || site_is_new(`${site} ${what}`)) {
    tell(text, [
      ['Allocation', allocated],
      ['Free', freed],
      [what, stack_depot_text(stack)],
    ]);
  }
  if (guard_panics()) panic(text);
  return { text, allocated, freed };
}
function tell(text: string, stacks: readonly (readonly [string, readonly string[]])[]): void {
  const parts = stacks.filter(([, frames]) => frames.length > 0);
  const numbered = (frames: readonly string[]): string[] => frames.map((f, i) => `#${i} ${f}`);
  const lines = parts.flatMap(([what, frames]) => [`${what} backtrace:`, ...numbered(frames)]);
  kconsole.print([text, ...lines].join('\n'));
}
/** Notes a place. False: it is there already, or there is no room. */
function site_is_new(site: string): boolean {
  let hash = 0x811c9dc5;
  for (let i = 0; i < site.length; i++) hash = Math.imul(hash ^ site.charCodeAt(i), 0x01000193);
  hash = hash || 1;
  for (let i = 0; i < GUARD_SITES; i++) {
    const w = field_word(root.sites, elem(guard_root(), ((hash >>> 0) + i) % GUARD_SITES));
    const was = atomic_load(w) || atomic_cas(w, 0, hash | 0);
    if (was === (hash | 0)) return false;
    if (was === 0) return true;
  }
  return false;
}

/** A freed block was stored to while it waited: the first such word of memory is `w`. */
export function guard_late(b: Guarded, w: number): void {
  counter_add(v_late, 1);
  const at = ptoa(b.start) + (w - page_word(b.page)) * 4;
  const value = `0x${(mem.I32[w] >>> 0).toString(16)}`;
  const text = `memguard: modified after free: ${value} at ${hex(at)}, ${place_text(at, 4, b)}`;
  found_late(text, b, b.freed);
}
/** Bytes on the pages of a block that are not its own were stored to, which its free finds. */
export function guard_slack(b: Guarded, at: number, stack: number): void {
  counter_add(v_traps, 1);
  found_late(`memguard: modified by a view: ${hex(at)} is ${place_text(at, 1, b)}`, b, stack);
}
function found_late(text: string, b: Guarded, freed: number): void {
  tell(text, [
    ['Allocation', stack_depot_text(b.stack)],
    ['Free', stack_depot_text(freed)],
  ]);
  if (guard_panics()) panic(text);
}
