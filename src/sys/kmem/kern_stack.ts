/*
 * kern_stack: the stack depot, which keeps each distinct stack once.
 *
 *      stack_depot_save()      the caller's stack: its number, 0 if it could not be kept
 *      stack_depot_text(id)    its frames, a line each: in this machine or in a dump of one
 *
 * A detector notes who had a block, often for as long as the block lives.  Programs
 * allocate at few places, so the stacks of a hundred thousand blocks are some hundred: each is a
 * record of frames, a frame a record of two strings and a place, and all are shared by whoever
 * refers to them (h/stack.ts).  Nothing is ever taken out, so a number needs no count of its users.
 * Full, by vm.stack.max or for want of memory, the depot says 0, not known, and counts that.
 *
 * Making the text of a stack is what costs.  A thread remembers the numbers of the texts that it
 * had last, so that a stack that it has again is not taken apart again.
 *
 * Locks.  The lock 'stacks' stands above the zones' in the order: a record is allocated under it.
 *
 * Deaths.  `fresh` leads to a record from the moment on at which it leaves its slab, until it is
 * on its list, which is one section: whoever comes next finds it either there or there, and takes
 * it for the next one.
 */
import { backtrace_frames, backtrace_text, type Frame, frame_text } from '../machine/backtrace.ts';
import { counter_add } from '../machine/counter.ts';
import { M, machine } from '../machine/header.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { elem, field_word, get_string, NULL, set64, set_string } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { M_NORECLAIM, M_NOWAIT } from '../h/malloc_flags.ts';
import {
  audit,
  SR_FRAME,
  SR_STACK,
  SR_STRING,
  STACK_DEPTH,
  STACK_LISTS,
  STACK_MAGIC,
  STACK_STRING_WORDS,
  stack,
  stack_frame,
  type stack_frame_t,
  sample_table,
  STACK_LISTED,
  stack_head,
  type stack_head_t,
  stack_root,
  stack_sample,
  type stack_root_t,
  stack_string,
  type stack_string_t,
  type stack_t,
} from '../h/stack.ts';
import type { zone_t } from '../h/uma.ts';
import { mtx_assert, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { zone_alloc_at } from '../uma/uma_core.ts';
import { uma, uma_root } from '../uma/uma_int.ts';
import { uma_zcreate_nowait } from '../uma/uma_zone.ts';
import { stack_anchor, stack_max, v_stack_full } from './kern_stack_vars.ts';

const root = stack_root;
const head = stack_head;

const HEAD = head.sizeof;
/** By sort of record: its zone, and its words. */
const sort_of = (name: string, help: string, words: number): { name: string; words: number } => ({
  name: zone_declared(name, help),
  words,
});
const SORTS = [
  sort_of('stack', 'Stacks that are kept, each once', HEAD + stack.sizeof),
  sort_of('stack frame', 'Frames of stacks, each once', HEAD + stack_frame.sizeof),
  sort_of('stack string', 'Names of functions and files, each once', HEAD + stack_string.sizeof),
  sort_of('stack sample', 'Blocks and items that are noted with their stack', stack_sample.sizeof),
  sort_of('stack table', 'Lists of those, by page', sample_table.sizeof),
  sort_of('stack audit', 'Last operations of blocks and items', audit.sizeof),
];

/** The number of the calling thread's stack; 0: it is not known. Inside the kernel. */
export function stack_depot_save(): number {
  const text = backtrace_text(STACK_DEPTH);
  const known = remembered(text);
  if (known !== undefined) return known;
  const id = stack_depot_keep(backtrace_frames(text, STACK_DEPTH));
  if (id !== 0) remember(text, id);
  return id;
}
/** The number of these frames, the first STACK_DEPTH of them. */
export function stack_depot_keep(frames: readonly Frame[]): number {
  const r = stack_anchor();
  mtx_lock(root.lock, r);
  const id = keep(r, frames.slice(0, STACK_DEPTH));
  mtx_unlock(root.lock, r);
  if (id === NULL) counter_add(v_stack_full, 1);
  return id;
}

// --- what this thread remembers -----------------------------------------------------------------

const REMEMBERED = 512;
const texts = new Map<string, number>();
/** The machine whose numbers these are. */
let of_memory: unknown;
let of_boot = 0;

function remembered(text: string): number | undefined {
  if (of_memory !== mem.I32 || of_boot !== machine.generation[M] || opt.SIM) {
    texts.clear();
    of_memory = mem.I32;
    of_boot = machine.generation[M];
  }
  return texts.get(text);
}
function remember(text: string, id: number): void {
  if (texts.size >= REMEMBERED) texts.clear();
  texts.set(text, id);
}

// --- records -------------------------------------------------------------------------------------

const mix = (h: number, x: number): number => {
  const y = Math.imul(h ^ x, 0x9e3779b1);
  return y ^ (y >>> 15);
};
function hash_text(text: string): number {
  let h = text.length;
  for (let i = 0; i < text.length; i++) h = mix(h, text.charCodeAt(i));
  return h;
}

/** A stack of these frames, made if there is none. NULL: there is no room for it. */
function keep(r: stack_root_t, frames: readonly Frame[]): stack_t {
  const places: number[] = [];
  for (const f of frames) {
    const p = frame_record(r, f);
    if (p === NULL) return NULL as stack_t;
    places.push(p);
  }
  const n = places.length;
  const same = (s: stack_t): boolean =>
    stack.depth[s] === n && places.every((p, i) => stack.frames[elem(s, i)] === p);
  const hash = places.reduce(mix, n);
  const found = find(r, SR_STACK, hash, same);
  if (found !== NULL) return found;
  if (root.stacks[r] >= sysctl_get(stack_max)) return NULL as stack_t;
  return make(r, SR_STACK, hash, (s: stack_t) => {
    stack.magic[s] = STACK_MAGIC;
    stack.depth[s] = n;
    for (let i = 0; i < STACK_DEPTH; i++) stack.frames[elem(s, i)] = places[i] ?? NULL;
    set64(stack.total_bytes, s, 0);
    set64(stack.total_objects, s, 0);
  });
}
function frame_record(r: stack_root_t, f: Frame): stack_frame_t {
  const fn = string_record(r, cut_end(f.fn));
  const file = string_record(r, cut_start(f.file));
  if (fn === NULL || file === NULL) return NULL as stack_frame_t;
  const hash = [file, f.line, f.column].reduce(mix, fn as number);
  const same = (p: stack_frame_t): boolean =>
    stack_frame.fn[p] === fn &&
    stack_frame.file[p] === file &&
    stack_frame.line[p] === f.line &&
    stack_frame.column[p] === f.column;
  const found = find(r, SR_FRAME, hash, same);
  if (found !== NULL) return found;
  return make(r, SR_FRAME, hash, (p: stack_frame_t) => {
    stack_frame.fn[p] = fn;
    stack_frame.file[p] = file;
    stack_frame.line[p] = f.line;
    stack_frame.column[p] = f.column;
  });
}
function string_record(r: stack_root_t, text: string): stack_string_t {
  const hash = hash_text(text);
  const same = (p: stack_string_t): boolean =>
    get_string(stack_string.text, p, STACK_STRING_WORDS) === text;
  const found = find(r, SR_STRING, hash, same);
  if (found !== NULL) return found;
  return make(r, SR_STRING, hash, (p: stack_string_t) => {
    set_string(stack_string.text, p, STACK_STRING_WORDS, text);
  });
}
/** Bytes of a text that are kept: of a function its beginning, of a path its end. */
const TEXT_MAX = STACK_STRING_WORDS * 4 - 1;
const encoder = new TextEncoder();
function fits(text: string): boolean {
  return text.length <= TEXT_MAX / 3 || encoder.encode(text).length <= TEXT_MAX;
}
/** A text that reads as it was written: without zeros, and without half characters. */
function plain(text: string): string {
  return text.replaceAll('\0', '?').toWellFormed();
}
function cut_end(text: string): string {
  let cut = text.slice(0, TEXT_MAX);
  while (!fits(cut)) cut = cut.slice(0, -1);
  return plain(cut);
}
function cut_start(text: string): string {
  if (fits(text)) return plain(text);
  let cut = text.slice(-TEXT_MAX);
  while (!fits(`…${cut}`)) cut = cut.slice(1);
  return plain(`…${cut}`);
}

function list_word(r: stack_root_t, sort: number, hash: number): stack_root_t {
  return elem(r, sort * STACK_LISTS + ((hash >>> 0) % STACK_LISTS));
}
/** The record of a sort with that hash of which `same` is true. */
function find<T extends number>(
  r: stack_root_t,
  sort: number,
  hash: number,
  same: (p: T) => boolean,
): T {
  mtx_assert(root.lock, r);
  let h = root.lists[list_word(r, sort, hash)] as stack_head_t;
  for (; h !== NULL; h = head.next[h]) {
    if (head.hash[h] === hash && same(body<T>(h))) return body<T>(h);
  }
  return NULL as T;
}
/** The record behind a head. */
function body<T extends number>(h: stack_head_t): T {
  return (h + HEAD) as number as T;
}
/** A record of a sort, filled by `fill` and then on its list. NULL: no memory. */
function make<T extends number>(
  r: stack_root_t,
  sort: number,
  hash: number,
  fill: (p: T) => void,
): T {
  const f = elem(r, sort);
  const h = stack_fresh(r, sort) as stack_head_t;
  if (h === NULL) return NULL as T;
  const list = list_word(r, sort, hash);
  head.hash[h] = hash;
  head.next[h] = root.lists[list] as stack_head_t;
  fill(body<T>(h));
  checked_publish(h);
  undo_begin(root.lock, r);
  save(root.lists, list);
  save(root.fresh, f);
  save(root.stacks, r);
  root.lists[list] = h;
  root.fresh[f] = NULL;
  if (sort === SR_STACK) root.stacks[r]++;
  undo_end();
  return body<T>(h);
}
/** A record to be filled, anchored by `fresh` until it has its place. NULL: no memory. */
export function stack_fresh(r: stack_root_t, sort: number): number {
  const at = elem(r, sort);
  if (root.fresh[at] === NULL) {
    const z = stack_zone(r, sort);
    if (z === NULL) return NULL;
    zone_alloc_at(z, M_NOWAIT | M_NORECLAIM, field_word(root.fresh, at));
  }
  const p = root.fresh[at];
  if (p !== NULL) checked_fresh(p, SORTS[sort].words);
  return p;
}
/** The zone of a sort, made if there is none. NULL: no memory for it. */
export function stack_zone(r: stack_root_t, sort: number): zone_t {
  const at = elem(r, sort);
  if ((root.made[r] & (1 << sort)) !== 0) return root.zones[at] as zone_t;
  // The word is written under the UMA lock: if that one died there, it is put back now.
  mtx_lock(uma_root.lock, uma());
  let z = root.zones[at] as zone_t;
  mtx_unlock(uma_root.lock, uma());
  const { name, words } = SORTS[sort];
  const anchor = field_word(root.zones, at);
  if (z === NULL) z = uma_zcreate_nowait(name, words * 4, { anchor });
  if (z !== NULL) root.made[r] |= 1 << sort;
  return z;
}

// --- reading -------------------------------------------------------------------------------------

/**
 * The frames of a stack, innermost first; none: 0, or no number of a stack.  Takes no lock and
 * believes nothing, so that it reads a dump, too, and what a program has overwritten.
 */
export function stack_depot_frames(id: number): Frame[] {
  const s = id as stack_t;
  if (!there(s, stack.sizeof) || stack.magic[s] !== STACK_MAGIC) return [];
  const frames: Frame[] = [];
  for (let i = 0; i < Math.min(stack.depth[s], STACK_DEPTH); i++) {
    const p = stack.frames[elem(s, i)] as stack_frame_t;
    if (!there(p, stack_frame.sizeof)) break;
    const [line, column] = [stack_frame.line[p], stack_frame.column[p]];
    frames.push({
      fn: text_of(stack_frame.fn[p]),
      file: text_of(stack_frame.file[p]),
      line,
      column,
    });
  }
  return frames;
}
/** The same as lines: `function at file:line:column`. */
export function stack_depot_text(id: number): string[] {
  return stack_depot_frames(id).map(frame_text);
}
/** Whether a record of so many words can lie at p. */
function there(p: number, words: number): boolean {
  return Number.isInteger(p) && p > 0 && p + words <= mem.I32.length;
}
function text_of(p: stack_string_t): string {
  if (!there(p, stack_string.sizeof)) return '?';
  return get_string(stack_string.text, p, STACK_STRING_WORDS);
}

/** The numbers of all stacks. Takes the lock. */
export function stack_depot_list(): number[] {
  const r = stack_anchor();
  const all: number[] = [];
  mtx_lock(root.lock, r);
  for (let i = 0; i < STACK_LISTS; i++) {
    let h = root.lists[elem(r, i)] as stack_head_t;
    for (; h !== NULL; h = head.next[h]) all.push(body(h));
  }
  mtx_unlock(root.lock, r);
  return all;
}
/** Proves that the lists are sound, and that a stack is there once. Takes the lock. */
export function stack_depot_check(): void {
  const r = stack_anchor();
  mtx_lock(root.lock, r);
  const seen = new Set<string>();
  let stacks = 0;
  let fault = '';
  for (let i = 0; i < STACK_LISTED * STACK_LISTS; i++) {
    let h = root.lists[elem(r, i)] as stack_head_t;
    for (; h !== NULL; h = head.next[h]) {
      if ((head.hash[h] >>> 0) % STACK_LISTS !== i % STACK_LISTS) fault = `${h * 4}: wrong list`;
      if (i >= STACK_LISTS) continue; // not a stack
      const text = stack_depot_text(body(h)).join('\n');
      if (seen.has(text)) fault = `a stack is there twice: ${text}`;
      seen.add(text);
      stacks++;
    }
  }
  if (stacks !== root.stacks[r]) fault = `${stacks} stacks, counted ${root.stacks[r]}`;
  mtx_unlock(root.lock, r);
  if (fault !== '') panic(`stack depot: ${fault}`);
}
