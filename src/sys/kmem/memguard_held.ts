/*
 * memguard_held: guarded blocks that were freed: what is known of the last ones, and those whose
 * pages wait.
 *
 *      free ──> in transition, no translation ──┬─> record ──> pages and addresses go back
 *                                               └─> poison, record: held ──> ... the oldest:
 *                                                   looked at ──> pages and addresses go back
 *
 * A held block is an entry that nobody may access: its addresses are nobody else's meanwhile, and a
 * touch of them is trapped.  Its pages are full of POISON_BYTE.  What a flat view stores there,
 * unseen, is found when the block leaves: because others wait, memory is short, or
 * vm.memguard.quarantine became smaller.
 *
 * The ring has a record of each freed block, from the oldest on.  If the one that is written over
 * is of a held block, that leaves first.
 *
 * Deaths.  Record, sums and entry change in one section of the map's lock.  A block whose thread
 * dies before it is held goes back as it is (map/vm_kern.ts); nobody knows of it then.
 */
import { now_ms } from '../machine/clock.ts';
import { hw, mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { get64, set64 } from '../machine/struct.ts';
import {
  guard_root,
  memguard_freed,
  type memguard_freed_t,
  memguard_root,
  type memguard_root_t,
} from '../h/memguard.ts';
import {
  MAP_ENTRY_GUARDED,
  MAP_ENTRY_IN_TRANSITION,
  MAP_ENTRY_ITEM,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import { kmem_discard, kmem_hold } from '../map/vm_kern.ts';
import { vm_map_lock, vm_map_unlock } from '../map/vm_map.ts';
import { vm_map_lookup } from '../map/vm_map_tree.ts';
import { save, save_word, undo_begin, undo_end } from '../sync/undo.ts';
import { POISON_BYTE } from './kern_quarantine.ts';
import { guard_quarantine_pages } from './memguard_vars.ts';

const root = memguard_root;
const freed = memguard_freed;
const map = vm_map;
const entry = vm_map_entry;

const POISON = (POISON_BYTE * 0x01010101) | 0;

/** A guarded block, in use or freed: a copy of what is known of it. */
export interface Guarded {
  readonly start: number;
  readonly end: number;
  /** Its first byte. */
  readonly at: number;
  /** Bytes that were asked for. */
  readonly size: number;
  /** Its malloc type; of an item, its zone. */
  readonly owner: number;
  /** MAP_ENTRY_GUARDED, MAP_ENTRY_ITEM. */
  readonly flags: number;
  /** Stacks of its allocation and of its free, 0: not known. */
  readonly stack: number;
  readonly freed: number;
  /** When it was freed, ms; 0: it is in use, or about to be freed. */
  readonly time: number;
  /** A thread is about to free it. */
  readonly going: boolean;
  /** Of a freed one: the page of memory that it began at. */
  readonly page: number;
}
const PAGE_BYTES = PAGE_WORDS * 4;
/** What an entry of the map of guarded blocks says. The map is locked. */
export function guarded_of(e: vm_map_entry_t): Guarded {
  const start = entry.start[e];
  return {
    start,
    end: entry.end[e],
    at: start * PAGE_BYTES + entry.wired[e],
    size: entry.avail_ssize[e] >>> 0,
    owner: entry.grow_prot[e],
    flags: entry.eflags[e] & (MAP_ENTRY_GUARDED | MAP_ENTRY_ITEM),
    stack: entry.stack[e],
    freed: 0,
    time: 0,
    going: entry.transition[e] !== 0,
    page: 0,
  };
}
function freed_of(f: memguard_freed_t): Guarded {
  return {
    start: freed.start[f],
    end: freed.end[f],
    at: freed.start[f] * PAGE_BYTES + freed.offset[f],
    size: freed.size[f],
    owner: freed.owner[f],
    flags: freed.flags[f],
    stack: freed.stack[f],
    freed: freed.freed[f],
    time: get64(freed.time, f),
    going: false,
    page: freed.page[f],
  };
}
function record(r: memguard_root_t, i: number): memguard_freed_t {
  return (root.ring[r] + (i % root.ring_n[r]) * freed.sizeof) as memguard_freed_t;
}
/** The newest freed block of which `is` says so; null: none is known. The map is locked. */
export function guard_freed_find(is: (b: Guarded) => boolean): Guarded | null {
  const r = guard_root();
  const n = root.ring_n[r];
  for (let i = 1; i <= n; i++) {
    const f = record(r, root.next[r] + n - i);
    if (freed.start[f] === 0) return null;
    const b = freed_of(f);
    if (is(b)) return b;
  }
  return null;
}

/** Notes a freed block, whose entry is e. Inside a section. */
function note(r: memguard_root_t, e: vm_map_entry_t, stack: number, m: number, held: number): void {
  const f = record(r, root.next[r]);
  for (let i = 0; i < freed.sizeof; i++) save_word(f + i);
  save(root.next, r);
  const b = guarded_of(e);
  freed.start[f] = b.start;
  freed.end[f] = b.end;
  freed.offset[f] = entry.wired[e];
  freed.size[f] = b.size;
  freed.owner[f] = b.owner;
  freed.flags[f] = b.flags;
  freed.stack[f] = b.stack;
  freed.freed[f] = stack;
  set64(freed.time, f, now_ms());
  freed.page[f] = m;
  freed.held[f] = held;
  root.next[r] = (root.next[r] + 1) % root.ring_n[r];
}
/**
 * The block at page number `at`, freed and in transition by this thread, of n pages from page m of
 * memory on, goes back, at once or later.  `late`: what is to be done with one that was stored to.
 */
export function guard_retire(
  mp: vm_map_t,
  at: number,
  n: number,
  m: number,
  stack: number,
  late: (b: Guarded, bad: number) => void,
): void {
  const r = guard_root();
  let waits = n <= guard_quarantine_pages();
  if (waits) hw.fill(page_word(m), POISON_BYTE, n * PAGE_WORDS);
  vm_map_lock(mp);
  while (!room(r, waits ? n : 0)) {
    vm_map_unlock(mp);
    if (guard_held_leave(mp, late) === 0) waits = false; // less may wait by now
    vm_map_lock(mp);
  }
  const e = vm_map_lookup(mp, at);
  const written = root.next[r];
  undo_begin(map.lock, mp);
  note(r, e, stack, m, waits ? 1 : 0);
  if (waits) {
    for (const f of [root.held_n, root.held_pages, root.tail]) save(f, r);
    if (root.held_n[r] === 0) root.tail[r] = written;
    for (const f of [entry.eflags, entry.transition, entry.protection]) save(f, e);
    save(entry.wired_count, e);
    root.held_n[r]++;
    root.held_pages[r] += n;
    entry.eflags[e] &= ~MAP_ENTRY_IN_TRANSITION;
    entry.transition[e] = 0;
    entry.protection[e] = 0; // so a touch does not show its pages again
    entry.wired_count[e] = 0;
  }
  undo_end();
  vm_map_unlock(mp);
  if (!waits) kmem_discard(mp, at);
}
/** Whether there is room for a record, and for n pages more. The map is locked. */
function room(r: memguard_root_t, n: number): boolean {
  const full = freed.held[record(r, root.next[r])] !== 0;
  return !full && (n === 0 || root.held_pages[r] + n <= guard_quarantine_pages());
}

/** The oldest block that waits leaves. The pages that it had; 0: none waits. */
export function guard_held_leave(mp: vm_map_t, late: (b: Guarded, bad: number) => void): number {
  const r = guard_root();
  vm_map_lock(mp);
  if (root.held_n[r] === 0) {
    vm_map_unlock(mp);
    return 0;
  }
  let i = root.tail[r];
  while (freed.held[record(r, i)] === 0) i++;
  const f = record(r, i);
  const b = freed_of(f);
  const n = b.end - b.start;
  const e = vm_map_lookup(mp, b.start);
  if (entry.start[e] !== b.start || entry.protection[e] !== 0) panic('memguard: held', b.start);
  kmem_hold(mp, e, () => {
    for (const w of [root.held_n, root.held_pages, root.tail]) save(w, r);
    save(freed.held, f);
    freed.held[f] = 0;
    root.held_n[r]--;
    root.held_pages[r] -= n;
    root.tail[r] = (i + 1) % root.ring_n[r];
  });
  vm_map_unlock(mp);
  const bad = poison_bad(b);
  kmem_discard(mp, b.start);
  if (bad >= 0) late(b, bad);
  return n;
}
/** The first word of memory in the pages of a held block that is no poison; -1: all is whole. */
function poison_bad(b: Guarded): number {
  const first = page_word(b.page);
  const end = first + (b.end - b.start) * PAGE_WORDS;
  for (let w = first; w < end; w++) if (mem.I32[w] !== POISON) return w;
  return -1;
}
/** Lets blocks go until no more than so many pages wait. Returns the pages that went. */
export function guard_held_trim(
  mp: vm_map_t,
  most: number,
  late: (b: Guarded, bad: number) => void,
): number {
  let pages = 0;
  const r = guard_root();
  while (root.held_pages[r] > most) {
    const n = guard_held_leave(mp, late);
    if (n === 0) break;
    pages += n;
  }
  return pages;
}
/** Every block that waits, looked at where it is. Returns their pages. */
export function guard_held_check(mp: vm_map_t, late: (b: Guarded, bad: number) => void): number {
  const r = guard_root();
  const all: Guarded[] = [];
  vm_map_lock(mp);
  for (let i = 0; i < root.ring_n[r]; i++) {
    const f = record(r, i);
    if (freed.held[f] !== 0) all.push(freed_of(f));
  }
  if (all.length !== root.held_n[r]) panic('memguard: blocks that wait', all.length);
  vm_map_unlock(mp);
  for (const b of all) {
    const bad = poison_bad(b);
    if (bad < 0) continue;
    hw.fill(page_word(b.page), POISON_BYTE, (b.end - b.start) * PAGE_WORDS); // told once
    late(b, bad);
  }
  return all.reduce((pages, b) => pages + b.end - b.start, 0);
}
