/*
 * swap_area: where pages lie whose memory is needed for something else.
 *
 *      swap_alloc(16)            slots 40 .. 55 are noted in this CPU's record
 *      swap_write(40, views)     their contents go to the store; no lock is held
 *      swap_note_take()          in the section that gives a page slot 40, the note loses it
 *      swap_note_old(7)          in the same one: what the page had before is noted to be freed
 *      swap_free_old()           slot 7 is free
 *      swap_free_notes()         what is left of both notes is free
 *
 * Up to 16 areas.  Slots are taken from the one with the lowest priority number that has a run
 * as long as is wanted, from those of equal number by turns, so that their stores share the
 * work.  An area that is closing gives none and takes back its own.
 *
 * Each slot that is in use has one place that says so: the index of an object, the page array,
 * or the note of a CPU.  It goes from one to the other in a section of undo under the lock of
 * whoever gives or gets it, the notes together with that, so that a thread that dies leaves it
 * in one of them; of the notes the reaper frees what is there.
 *
 *      maps  --swap_alloc-->  note  --swap_note_take-->  page or index
 *      maps  <--swap_free_---  note  <--swap_note_old---
 *
 * Room.  While fewer than 128 slots are free swap is almost full, until there are more than 512;
 * when no slot is to be had it is full, until there are 128.  Small areas have smaller marks.
 * Whoever pages out looks at that first (swap_full).
 *
 * Bad slots.  Slots on which a write has failed are not given again.  Where the store had no
 * room left, all slots behind that are free are not given any more either, because they were
 * never written; those that are in use have their room, and serve again.
 *
 * Always true, and proved by swap_check(): a slot is free, or bad, or kept, or in use in just
 * one place; what an area counts as used is what objects and notes have of it.
 *
 * Read next: swap_blist.ts (which slots are free), swap_io.ts (reading and writing).
 */
import {
  cpu_slots,
  pcpu as pcpu_,
  pcpu_of,
  type pcpu_t,
  thr as thr_,
  tid_cpu,
} from '../machine/cpu.ts';
import { EBUSY, EDQUOT, EFBIG, EIO, EMFILE, ENOMEM, ENOSPC, ENXIO } from '../machine/errno.ts';
import { boot_alloc, M, machine as machine_, ROOT_SWAP } from '../machine/header.ts';
import { kconsole } from '../machine/kconsole.ts';
import { PAGE_WORDS, page_word } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import {
  type blist_t,
  SWAP_ALMOST_FULL,
  SWAP_AREA_MAX,
  SWAP_AREAS,
  SWAP_CLOSING,
  SWAP_CLUSTER,
  SWAP_FREE,
  SWAP_FULL,
  SWAP_LABEL,
  SWAP_MADE,
  SWAP_ROOMY,
  SWAP_SLOTS_MAX,
  SWAP_TOLD,
  SWAP_UP,
  swap_area,
  type swap_area_t,
  swap_root,
  type swap_root_t,
} from '../h/swap.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import {
  vm_page_alloc_run,
  vm_page_free_run,
  vm_page_in_hand,
  vm_page_settle,
  vm_page_wired,
} from '../page/vm_page.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_SWAP_AREA } from '../sync/lock_order.ts';
import { save, undo_begin, undo_commit, undo_end } from '../sync/undo.ts';
import { vm_store_anchor, vm_store_same, vm_store_unanchor } from './vm_store.ts';
import {
  blist_alloc,
  blist_avail,
  blist_check,
  blist_fill,
  blist_free,
  blist_init,
  blist_is_free,
  blist_joins,
  blist_next,
  blist_words,
} from './swap_blist.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const area = swap_area;
const root = swap_root;
const pcpu = pcpu_;
const thr = thr_;
const machine = machine_;

/** Fewer slots free: almost full. More than the second: roomy again. */
const ALMOST_SLOTS = 128;
const ROOMY_SLOTS = 512;
/** Of a small swap the marks are at most these shares of it: 1 / so much. */
const ALMOST_SHARE = 8;
const ROOMY_SHARE = 2;

/** Lays the areas out, while boot_alloc still works. */
export function swap_boot(): void {
  const r = boot_alloc(root.sizeof, 'the swap areas', 32) as swap_root_t;
  machine.roots[elem(M, ROOT_SWAP)] = r;
  mtx_init(root.lock, r, LC_SWAP_AREA);
  root.areas[r] = boot_alloc(area.sizeof * SWAP_AREAS, 'the swap areas', 32);
  root.full[r] = SWAP_FULL;
}
/** The record that anchors all areas. */
export function the_swap_root(): swap_root_t {
  return machine.roots[elem(M, ROOT_SWAP)] as swap_root_t;
}
/** The record of an area, 0 to SWAP_AREAS - 1; it may stand for none. */
export function swap_area_of(i: number): swap_area_t {
  return (root.areas[the_swap_root()] + i * area.sizeof) as swap_area_t;
}
function map_of(a: swap_area_t): blist_t {
  return field_word(area.map, a) as blist_t;
}
/** Slots of an area that can be in use. */
function capacity(a: swap_area_t): number {
  return area.end[a] - area.first[a] - SWAP_LABEL - area.bad[a] - area.lost[a];
}
/** The area that has a slot; NULL: none. Of a slot that is in use, also without the lock. */
export function swap_area_at(s: number): swap_area_t {
  for (let i = 0; i < SWAP_AREAS; i++) {
    const a = swap_area_of(i);
    if (area.state[a] !== SWAP_FREE && s >= area.first[a] && s < area.end[a]) return a;
  }
  return NULL as swap_area_t;
}
function must_have(s: number): swap_area_t {
  if (s === 0) panic("swap: slot zero is nobody's");
  const a = swap_area_at(s);
  if (a === NULL) panic('swap: no area has the slot', s);
  return a;
}
/** The slots that lie side by side with slot `s` in its area, from `first` up to `end`. */
export function swap_run(s: number): { first: number; end: number } {
  const a = must_have(s);
  return { first: area.first[a], end: area.end[a] };
}

// --- room -----------------------------------------------------------------------------------

/** Slots free in the areas that give any; and how many they have. Samples without the lock. */
export function swap_avail(): number {
  let n = 0;
  for (let i = 0; i < SWAP_AREAS; i++) {
    const a = swap_area_of(i);
    if (area.state[a] === SWAP_UP) n += blist_avail(map_of(a));
  }
  return n;
}
/** Slots free in an area. A sample. */
export function swap_area_free(a: swap_area_t): number {
  return blist_avail(map_of(a));
}
function swap_capacity(): number {
  let n = 0;
  for (let i = 0; i < SWAP_AREAS; i++) {
    const a = swap_area_of(i);
    if (area.state[a] === SWAP_UP) n += capacity(a);
  }
  return n;
}
/** How much room there is: SWAP_ROOMY 0, SWAP_ALMOST_FULL 1, SWAP_FULL 2. A sample. */
export function swap_full(): number {
  return root.full[the_swap_root()];
}
/** Notes how much room there is now. Inside a section. */
function note_room(r: swap_root_t): void {
  const free = swap_avail();
  const all = swap_capacity();
  const almost = Math.min(ALMOST_SLOTS, Math.floor(all / ALMOST_SHARE));
  const roomy = Math.min(ROOMY_SLOTS, Math.floor(all / ROOMY_SHARE));
  const was = root.full[r];
  let full = was;
  if (free === 0) full = SWAP_FULL;
  else if (free > roomy) full = SWAP_ROOMY;
  else if (was === SWAP_FULL && free >= almost) full = SWAP_ALMOST_FULL;
  else if (was === SWAP_ROOMY && free < almost) full = SWAP_ALMOST_FULL;
  if (full === was) return;
  save(root.full, r);
  root.full[r] = full;
}

// --- taking slots ---------------------------------------------------------------------------

/**
 * Takes `n` slots that lie side by side, 1 to SWAP_CLUSTER.  They are noted in this CPU's record,
 * which has no others noted.  Returns the first; 0: no area has so many in a row.
 */
export function swap_alloc(n: number): number {
  const r = the_swap_root();
  if (n < 1 || n > SWAP_CLUSTER) panic('swap_alloc: slots', n);
  if (pcpu.swap_n[thr.pc] !== 0) panic('swap_alloc: slots are noted already', pcpu.swap_n[thr.pc]);
  if (root.count[r] === 0) return 0; // a hint: an area that comes now is for the next
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  const s = take(r, n);
  note_room(r);
  const full = root.full[r];
  const news = full > root.told[r];
  if (news) {
    save(root.told, r);
    root.told[r] = full;
  }
  undo_end();
  mtx_unlock(root.lock, r);
  if (news) kconsole.print(TOLD[full]);
  return s;
}
const TOLD = ['', 'swap_pager: out of swap space', 'swap_pager: no swap space is left'];
/* The areas of the lowest priority number first, of equal ones the one behind the last. */
function take(r: swap_root_t, n: number): number {
  for (let at = lowest_above(Number.NEGATIVE_INFINITY); at !== null; at = lowest_above(at)) {
    for (let k = 1; k <= SWAP_AREAS; k++) {
      const i = (root.last[r] + k) % SWAP_AREAS;
      const a = swap_area_of(i);
      if (area.state[a] !== SWAP_UP || area.priority[a] !== at) continue;
      const s = blist_alloc(map_of(a), n);
      if (s < 0) continue;
      save(area.used, a);
      save(root.last, r);
      save(pcpu.swap_first, thr.pc);
      save(pcpu.swap_n, thr.pc);
      area.used[a] += n;
      root.last[r] = i;
      pcpu.swap_first[thr.pc] = area.first[a] + s;
      pcpu.swap_n[thr.pc] = n;
      return area.first[a] + s;
    }
  }
  return 0;
}
/** The lowest priority above `p` of an area that gives slots. */
function lowest_above(p: number): number | null {
  let best: number | null = null;
  for (let i = 0; i < SWAP_AREAS; i++) {
    const a = swap_area_of(i);
    if (area.state[a] !== SWAP_UP || area.priority[a] <= p) continue;
    if (best === null || area.priority[a] < best) best = area.priority[a];
  }
  return best;
}
/**
 * The first slot of the note leaves it: a page has it from now on.  In the section in which that
 * page gets it, under the lock of its object.
 */
export function swap_note_take(): number {
  const { pc } = thr;
  if (pcpu.swap_n[pc] <= 0) panic('swap_note_take: no slot is noted');
  save(pcpu.swap_first, pc);
  save(pcpu.swap_n, pc);
  pcpu.swap_n[pc]--;
  return pcpu.swap_first[pc]++;
}
/**
 * No page has slot `s` any more: it is noted, to be freed.  In the same section.  0: nothing.
 * Slots that are noted already it follows (swap_old_joins).
 */
export function swap_note_old(s: number): void {
  const { pc } = thr;
  if (s === 0) return;
  if (!swap_old_joins(s)) panic('swap_note_old: one is noted already', pcpu.swap_old[pc], s);
  if (pcpu.swap_olds[pc] === 0) {
    save(pcpu.swap_old, pc);
    pcpu.swap_old[pc] = s;
  }
  save(pcpu.swap_olds, pc);
  pcpu.swap_olds[pc]++;
}
/** Whether slot `s` may be noted beside those that are: it follows them, in one word of bits. */
export function swap_old_joins(s: number): boolean {
  const n = pcpu.swap_olds[thr.pc];
  if (n === 0 || s === 0) return true;
  return s === pcpu.swap_old[thr.pc] + n && blist_joins(s - area.first[must_have(s)]);
}

// --- giving them back -----------------------------------------------------------------------

/** Frees the slots that no page has any more, if any are noted. */
export function swap_free_old(): void {
  if (pcpu.swap_olds[thr.pc] !== 0) free_noted(thr.pc, true);
}
/** Frees all that is noted: those, and slots that were taken and not given to pages. */
export function swap_free_notes(): void {
  notes_free(thr.pc);
}
/** What a dead CPU had noted becomes free. A line of the death table. */
export function swap_reap(cpu: number): void {
  const r = the_swap_root();
  if (r === NULL) return;
  notes_free(pcpu_of(cpu));
  mtx_lock(root.lock, r);
  for (const token of [root.maker, root.leaving, root.coming]) {
    if (token[r] > 0 && tid_cpu(token[r]) === cpu && token[r] !== thr.tid) token[r] = 0;
  }
  mtx_unlock(root.lock, r);
}
function notes_free(pc: pcpu_t): void {
  if (pcpu.swap_olds[pc] !== 0) free_noted(pc, true);
  if (pcpu.swap_n[pc] !== 0) free_noted(pc, false);
}
/* The old slots, or those taken: either lie in one word of bits, so that is one section. */
function free_noted(pc: pcpu_t, old: boolean): void {
  const r = the_swap_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  const s = old ? pcpu.swap_old[pc] : pcpu.swap_first[pc];
  const n = old ? pcpu.swap_olds[pc] : pcpu.swap_n[pc];
  const a = must_have(s);
  if (s - area.first[a] < SWAP_LABEL) panic('swap: freeing a slot that is never given', s);
  if (blist_free(map_of(a), s - area.first[a], n) !== n) panic('swap: noted slots', s, n);
  save(area.used, a);
  area.used[a] -= n;
  forget(pc, old);
  note_room(r);
  undo_end();
  mtx_unlock(root.lock, r);
}
function forget(pc: pcpu_t, old: boolean): void {
  if (old) {
    save(pcpu.swap_old, pc);
    save(pcpu.swap_olds, pc);
    pcpu.swap_old[pc] = 0;
    pcpu.swap_olds[pc] = 0;
    return;
  }
  save(pcpu.swap_first, pc);
  save(pcpu.swap_n, pc);
  pcpu.swap_first[pc] = 0;
  pcpu.swap_n[pc] = 0;
}
/**
 * A write to the noted slots has failed: they are noted no more.  With EIO they are at fault, and
 * never given again.  Where the store has no more room, neither are those behind them that are
 * free.  With any other errno they are free.
 */
export function swap_note_failed(errno: number): void {
  const r = the_swap_root();
  const { pc } = thr;
  const s = pcpu.swap_first[pc];
  const no_room = NO_ROOM.includes(errno);
  if (pcpu.swap_n[pc] === 0) return;
  if (errno !== EIO && !no_room) return free_noted(pc, false);
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  const a = must_have(s);
  const count = no_room ? area.lost : area.bad;
  save(count, a);
  save(area.used, a);
  count[a] += pcpu.swap_n[pc];
  area.used[a] -= pcpu.swap_n[pc];
  forget(pc, false);
  note_room(r);
  const news = no_room && (area.flags[a] & SWAP_TOLD) === 0;
  if (news) {
    save(area.flags, a);
    area.flags[a] |= SWAP_TOLD;
  }
  undo_commit();
  if (no_room) lose(r, a, s - area.first[a]);
  undo_end();
  mtx_unlock(root.lock, r);
  if (news) kconsole.print('swap_pager: no room for the swap area: it is full');
}
const NO_ROOM: readonly number[] = [ENOSPC, EDQUOT, EFBIG];
/* The free slots from `s` on are not given any more: a section for each word of bits. */
function lose(r: swap_root_t, a: swap_area_t, s: number): void {
  const slots = area.end[a] - area.first[a];
  for (; s < slots; s = blist_next(s)) {
    const n = blist_fill(map_of(a), s, slots - s);
    if (n === 0) continue;
    save(area.lost, a);
    area.lost[a] += n;
    note_room(r);
    undo_commit();
  }
}

// --- areas ----------------------------------------------------------------------------------

/** An area that is to be used. */
export interface SwapArea {
  /** The store that its pages are in; a reference to it is in this CPU's hand. */
  readonly store: vm_store_t;
  /** How many it has room for. */
  readonly slots: number;
  readonly priority: number;
  /** SWAP_FILE, SWAP_DEFAULT. */
  readonly flags: number;
}
/**
 * Puts an area in use, which has the reference to its store from then on.  Returns the number of
 * the area; or, negated, EBUSY (its file is one already), ENXIO (no room for a page), EMFILE (there
 * are 16), ENOMEM (for the maps): then the reference is still in hand.
 */
export function swap_area_add(want: SwapArea): number {
  const r = the_swap_root();
  const slots = Math.min(want.slots, SWAP_AREA_MAX);
  if (slots <= SWAP_LABEL) return -ENXIO;
  const pages = Math.ceil(blist_words(slots) / PAGE_WORDS);
  const m = vm_page_alloc_run(pages, VM_ALLOC_SYSTEM);
  if (m === 0) return -ENOMEM;
  vm_page_wired(m, pages);
  mtx_lock(root.lock, r);
  const i = area_enter({ ...want, slots }, m);
  mtx_unlock(root.lock, r);
  if (i < 0) vm_page_free_run(m, pages);
  return i;
}
function area_enter(want: SwapArea, m: number): number {
  const r = the_swap_root();
  let place = -1;
  for (let i = 0; i < SWAP_AREAS; i++) {
    const a = swap_area_of(i);
    if (area.state[a] === SWAP_FREE) place = place < 0 ? i : place;
    else if (vm_store_same(area.store[a], want.store)) return -EBUSY;
  }
  const first = free_numbers(want.slots);
  if (place < 0 || first === 0) return -EMFILE;
  // Nobody looks at what a free record says, so its words need not be saved.
  const a = swap_area_of(place);
  area.first[a] = first;
  area.end[a] = first + want.slots;
  area.used[a] = area.bad[a] = area.lost[a] = 0;
  area.priority[a] = want.priority;
  area.flags[a] = want.flags;
  area.store[a] = want.store;
  area.map_page[a] = m;
  area.map_pages[a] = Math.ceil(blist_words(want.slots) / PAGE_WORDS);
  blist_init(map_of(a), page_word(m), want.slots, SWAP_LABEL);
  undo_begin(root.lock, r);
  save(area.state, a);
  save(root.count, r);
  save(pcpu.in_hand_n, thr.pc);
  area.state[a] = SWAP_UP;
  root.count[r]++;
  vm_page_settle();
  vm_store_anchor(want.store);
  room_anew(r);
  undo_end();
  return place;
}
/** The lowest number from which on so many slots, and one before and behind, are no area's. */
function free_numbers(slots: number): number {
  let first = 1;
  for (let i = 0; i < SWAP_AREAS; i++) {
    const a = swap_area_of(i);
    const apart = area.end[a] < first || area.first[a] > first + slots;
    if (area.state[a] === SWAP_FREE || apart) continue;
    first = area.end[a] + 1;
    i = -1; // those before may be in the way now
  }
  return first + slots <= SWAP_SLOTS_MAX ? first : 0;
}
/** Notes how much room there is, whatever was noted before. Inside a section. */
function room_anew(r: swap_root_t): void {
  save(root.full, r);
  root.full[r] = SWAP_ALMOST_FULL;
  note_room(r);
}
/** No more slots are taken from an area; or, with SWAP_UP, they are again. */
export function swap_area_close(a: swap_area_t, state = SWAP_CLOSING): void {
  const r = the_swap_root();
  mtx_lock(root.lock, r);
  undo_begin(root.lock, r);
  save(area.state, a);
  area.state[a] = state;
  room_anew(r);
  undo_end();
  mtx_unlock(root.lock, r);
}
/**
 * Ends an area that is closing.  The reference to its store is in this CPU's hand then.  False:
 * some of its slots are in use.
 */
export function swap_area_end(a: swap_area_t): boolean {
  const r = the_swap_root();
  mtx_lock(root.lock, r);
  if (area.state[a] !== SWAP_CLOSING) panic('swap_area_end: the area is not closing', a * 4);
  if (area.used[a] !== 0) {
    mtx_unlock(root.lock, r);
    return false;
  }
  const m = area.map_page[a];
  const pages = area.map_pages[a];
  undo_begin(root.lock, r);
  save(area.state, a);
  save(root.count, r);
  save(pcpu.in_hand_n, thr.pc);
  area.state[a] = SWAP_FREE;
  root.count[r]--;
  vm_page_in_hand(m, pages);
  vm_store_unanchor(area.store[a]);
  room_anew(r);
  undo_end();
  mtx_unlock(root.lock, r);
  vm_page_free_run(m, pages);
  return true;
}

/** This CPU is to make a file an area, if none does so now. The tid of the one that does. */
export function swap_coming(): number {
  const r = the_swap_root();
  mtx_lock(root.lock, r);
  if (root.coming[r] === 0) root.coming[r] = thr.tid;
  const tid = root.coming[r];
  mtx_unlock(root.lock, r);
  return tid;
}
/** It has done so, or not. */
export function swap_came(): void {
  const r = the_swap_root();
  mtx_lock(root.lock, r);
  root.coming[r] = 0;
  mtx_unlock(root.lock, r);
}
/**
 * The tid of the thread that makes the kernel's own area: this one's if it is to.  SWAP_MADE: that
 * was done, or cannot be.  `possible`: it can be made.
 */
export function swap_claim(possible: boolean): number {
  const r = the_swap_root();
  mtx_lock(root.lock, r);
  if (root.maker[r] === 0) root.maker[r] = possible && root.count[r] === 0 ? thr.tid : SWAP_MADE;
  const maker = root.maker[r];
  if (root.count[r] === 0 && maker === SWAP_MADE) root.full[r] = SWAP_FULL;
  mtx_unlock(root.lock, r);
  return maker;
}
/** This CPU has made it, or could not. */
export function swap_made(): void {
  const r = the_swap_root();
  mtx_lock(root.lock, r);
  root.maker[r] = SWAP_MADE;
  if (root.count[r] === 0) root.full[r] = SWAP_FULL;
  mtx_unlock(root.lock, r);
}
/** There is no area yet, and room all the same: one will be made. At boot. */
export function swap_unmade(): void {
  root.full[the_swap_root()] = SWAP_ROOMY;
}
/** Whether there is no area, and it was not tried yet to make one. */
export function swap_wanted(): boolean {
  const r = the_swap_root();
  return root.count[r] === 0 && root.maker[r] !== SWAP_MADE;
}
/** This CPU takes an area out of use from here on; false: another one does. */
export function swap_leave(): boolean {
  const r = the_swap_root();
  mtx_lock(root.lock, r);
  // What this CPU has left there is of a call that an exception ended.
  const free = root.leaving[r] === 0 || root.leaving[r] === thr.tid;
  if (free) root.leaving[r] = thr.tid;
  mtx_unlock(root.lock, r);
  return free;
}
/** And does so no more. */
export function swap_left(): void {
  const r = the_swap_root();
  mtx_lock(root.lock, r);
  root.leaving[r] = 0;
  mtx_unlock(root.lock, r);
}
/** The stores of all areas. */
export function swap_stores(): vm_store_t[] {
  return swap_areas().map((a) => area.store[a]);
}
/** The areas that there are. */
export function swap_areas(): swap_area_t[] {
  const all = Array.from({ length: SWAP_AREAS }, (_, i) => swap_area_of(i));
  return all.filter((a) => area.state[a] !== SWAP_FREE);
}

// --- proof ----------------------------------------------------------------------------------

/**
 * Proves all areas of a quiet machine.  `held` are the slots that objects have: of pages in
 * memory, and of those that are not.
 */
export function swap_check(held: Iterable<number>): void {
  const r = the_swap_root();
  mtx_lock(root.lock, r);
  const seen = new Set<number>();
  const add = (s: number): void => {
    if (seen.has(s)) panic('swap_check: two have the slot', s);
    if (swap_area_at(s) === NULL) panic('swap_check: no area has the slot', s);
    seen.add(s);
  };
  for (const s of held) add(s);
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const pc = pcpu_of(cpu);
    for (let i = 0; i < pcpu.swap_olds[pc]; i++) add(pcpu.swap_old[pc] + i);
    for (let i = 0; i < pcpu.swap_n[pc]; i++) add(pcpu.swap_first[pc] + i);
  }
  let areas = 0;
  for (let i = 0; i < SWAP_AREAS; i++) {
    if (area.state[swap_area_of(i)] === SWAP_FREE) continue;
    area_check(i, seen);
    areas++;
  }
  if (areas !== root.count[r]) panic('swap_check: areas', root.count[r], areas);
  if (areas === 0 && root.maker[r] !== 0 && root.full[r] !== SWAP_FULL) {
    panic('swap_check: room without an area', root.full[r]);
  }
  mtx_unlock(root.lock, r);
}
function area_check(i: number, seen: ReadonlySet<number>): void {
  const a = swap_area_of(i);
  const b = map_of(a);
  const first = area.first[a];
  const end = area.end[a];
  blist_check(b);
  let used = 0;
  for (const s of seen) {
    if (s < first || s >= end) continue;
    if (s < first + SWAP_LABEL || blist_is_free(b, s - first)) panic('swap_check: a free slot', s);
    used++;
  }
  if (used !== area.used[a]) panic('swap_check: slots in use', area.used[a], used);
  const rest = end - first - SWAP_LABEL - used - area.bad[a] - area.lost[a];
  if (blist_avail(b) !== rest) panic('swap_check: slots free', blist_avail(b), rest);
  for (let k = 0; k < i; k++) {
    const other = swap_area_of(k);
    if (area.state[other] === SWAP_FREE) continue;
    if (first <= area.end[other] && area.first[other] <= end) panic('swap_check: areas meet', i, k);
  }
}
