/*
 * redzone: a pattern before and behind a block, looked at when it is freed.
 *
 * A program that writes past the end of its block, or before its beginning, writes into memory
 * that is not its own, and whoever has that suffers, later and elsewhere.  While vm.redzone.enable
 * is set a block of the types in vm.redzone.types is asked for with more bytes, and the program
 * gets the middle:
 *
 *      block           header                        user                    user + size
 *      | ............. | stacks 152 | size 8 | 42 16 | size bytes            | 42 16 | ...
 *      |<---------- redzone_roundup(size) ---------->|
 *
 * What lies before the user's bytes is as long as a power of two that is not below the size, up
 * to a page, so they are aligned as without it.  free and realloc look at both patterns.  What was
 * written there is told with both stacks, and the free goes on.
 *
 * Whose it is.  A block begins where no block of malloc does without redzones: in the middle of
 * an item, or on the second page of a run, and its header has a number there that is made of its
 * address, its size and the boot.  So redzones are turned on and off at any time: the free of a
 * block finds out by the block alone.  The pages of its beginning and of the user's are marked
 * (kern_detect.ts), so that a free asks, with either address.
 *
 * A freed block keeps a header that says so, until somebody else writes there: who frees it
 * once more is told.
 *
 * Always true, and proved by redzone_check(): vm.redzone.extra_mem is the sum over the blocks
 * that have a live header.  Both change in one private section, so a thread that dies in here
 * loses what it had in its hands, and nothing else.
 *
 * Unlike BSD: it is switched at run time; the header has numbers of stacks in place of frames,
 * and the size twice; blocks of 4 GiB have no redzones.
 *
 * Read next: redzone_vars.ts, what it is set by.
 */
import { backtrace_frames, backtrace_text, frame_text } from '../machine/backtrace.ts';
import { counter_add, counter_get, counter_words } from '../machine/counter.ts';
import { M, machine } from '../machine/header.ts';
import { kconsole } from '../machine/kconsole.ts';
import { mem, PAGE_SIZE, PAGE_WORDS, page_word, word_page } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { NO_BLOCK } from '../machine/parts.ts';
import { elem, type Field, field_word, NULL } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { MD_REDZONE, type malloc_type_t, RT_STACKS, RT_WANTED } from '../h/malloc.ts';
import { PK_LARGE, PK_MALLOC_END, PK_MARKED, PK_MASK, PK_REST, vm_page } from '../h/vm_page.ts';
import { zone_name } from '../uma/uma_int.ts';
import { save, save_word, undo_begin_private, undo_end } from '../sync/undo.ts';
import type { Detector } from './kern_detect_chain.ts';
import { page_mark } from './kern_detect.ts';
import { free_undetected, malloc_undetected } from './kern_malloc.ts';
import { multizone_damage } from './kern_multizone.ts';
import { malloc_block_zone, malloc_type_name_of } from './kern_malloc_type.ts';
import { stack_depot_save, stack_depot_text } from './kern_stack.ts';
import { sample_removed } from './kern_stack_sample.ts';
import {
  REDZONE_BYTE,
  REDZONE_CFSIZE,
  REDZONE_CHSIZE,
  REDZONE_HSIZE,
  REDZONE_WORD,
  redzone,
  redzone_panic,
  redzone_type,
  type redzone_t,
  v_extra,
  v_found,
} from './redzone_vars.ts';

/** Frames of the stack of a free that are shown. */
const DEPTH = 18;
const HEAD_WORDS = REDZONE_HSIZE / 4;
/** Larger blocks have none: their size does not fit into a word. */
const SIZE_MAX = 2 ** 32 - 1;
const LIVE = 0x52ed2011;
const FREED = 0x0f4eed03;

/** Bytes from the beginning of a block of malloc to the user's `size` bytes in it. */
export function redzone_roundup(size: number): number {
  if (size <= 256) return 256; // the header does not fit into 128
  if (size <= 512) return 512;
  if (size <= 1024) return 1024;
  return size <= 2048 ? 2048 : PAGE_SIZE;
}
/** Bytes that a block of `size` takes. */
export function redzone_size(size: number): number {
  return size + redzone_roundup(size) + REDZONE_CFSIZE;
}

// --- the header ---------------------------------------------------------------------------------

function head_of(p: number): redzone_t {
  return (p - HEAD_WORDS) as redzone_t;
}
/**
 * What the magic of a header is for a block of `size` bytes at p: of this boot, because memory of a
 * former machine may hold headers of its blocks.
 */
function magic_of(kind: number, p: number, size: number): number {
  return ((kind ^ p ^ machine.id_low[M]) + Math.imul(size, 0x9e3779b1)) | 0;
}
/**
 * A word of a header that may be anybody's: looked at around the guards of a checked boot, which
 * know that the memory may be free.
 */
function peek(f: Field<redzone_t>, h: redzone_t): number {
  return mem.U32[field_word(f, h)];
}
/** Bytes of the run or item at which word p lies before p; -1: no page of malloc blocks. */
function bytes_into(p: number, info: number): number {
  if (info < PK_MALLOC_END) return (p & ((4 << info) - 1)) * 4;
  if ((info & PK_MASK) === PK_LARGE) return (p & (PAGE_WORDS - 1)) * 4;
  const second = (info & PK_MASK) === PK_REST && (p & (PAGE_WORDS - 1)) === 0;
  if (!second || (vm_page.info[word_page(p) - 1] & PK_MASK) !== PK_LARGE) return -1;
  return PAGE_SIZE;
}
/**
 * The header of a block that begins at p for its user, NULL: there is none.  `kind` says whether
 * the block is in use.  Any number may be given.
 */
function header(p: number, kind: number): redzone_t {
  const info = vm_page.info[word_page(p)];
  if ((info & PK_MARKED) === 0) return NULL as redzone_t; // nor is there where no page is
  const into = bytes_into(p, info & ~PK_MARKED);
  if (into < REDZONE_HSIZE) return NULL as redzone_t;
  const h = head_of(p);
  const size = peek(redzone.size, h);
  const magic = magic_of(kind, p, size) >>> 0;
  const sound = peek(redzone.magic, h) === magic && redzone_roundup(size) === into;
  return sound ? h : (NULL as redzone_t);
}
/** Where users' bytes may begin in a block: those of the headers that there are. */
const STARTS = [256, 512, 1024, 2048, PAGE_SIZE];
/** The user's address in the block of malloc at word b, if it has redzones and is in use; 0. */
function user_of(b: number): number {
  const info = vm_page.info[word_page(b)] & ~PK_MARKED;
  const end = info < PK_MALLOC_END ? 16 << info : 2 * PAGE_SIZE; // what is behind it is another's
  for (const bytes of STARTS) {
    if (bytes < end && header(b + bytes / 4, LIVE) !== NULL) return b + bytes / 4;
  }
  return 0;
}
/** The beginning of the block of malloc that word p lies in; -1: it lies in none. */
function block_of(p: number): number {
  let m = word_page(p);
  const info = vm_page.info[m] & ~PK_MARKED;
  if (info < PK_MALLOC_END) return p & ~((4 << info) - 1);
  while (m > 0 && (vm_page.info[m] & PK_MASK) === PK_REST) m--;
  return (vm_page.info[m] & PK_MASK) === PK_LARGE ? page_word(m) : -1;
}

// --- the pattern --------------------------------------------------------------------------------

/** Writes the pattern from byte `size` of the words at p on. */
function pattern_set(p: number, size: number): void {
  const words = mem.I32;
  const shift = (size & 3) << 3;
  let w = p + Math.floor(size / 4);
  if (shift !== 0) {
    const mask = -1 << shift;
    words[w] = (words[w] & ~mask) | (REDZONE_WORD & mask);
    words[w + 4] = (words[w + 4] & mask) | (REDZONE_WORD & ~mask);
    w++;
  } else words[w + 3] = REDZONE_WORD;
  words[w] = REDZONE_WORD;
  words[w + 1] = REDZONE_WORD;
  words[w + 2] = REDZONE_WORD;
}
/** Whether it is there. */
function pattern_whole(p: number, size: number): boolean {
  const words = mem.I32;
  const shift = (size & 3) << 3;
  let w = p + Math.floor(size / 4);
  let wrong = 0;
  if (shift !== 0) {
    const mask = -1 << shift;
    wrong = ((words[w] ^ REDZONE_WORD) & mask) | ((words[w + 4] ^ REDZONE_WORD) & ~mask);
    w++;
  } else wrong = words[w + 3] ^ REDZONE_WORD;
  for (let i = w; i < w + 3; i++) wrong |= words[i] ^ REDZONE_WORD;
  return wrong === 0;
}
/** Bytes of a pattern, from byte address `at` on, that are others. */
function bytes_wrong(at: number): number {
  let n = 0;
  for (let i = at; i < at + REDZONE_CHSIZE; i++) if (mem.U8[i] !== REDZONE_BYTE) n++;
  return n;
}

// --- requests -----------------------------------------------------------------------------------

/** Counts a block's further bytes, and says in its header what it is: in one step. */
function header_turn(h: redzone_t, magic: number, bytes: number): void {
  undo_begin_private();
  const [w] = counter_words(v_extra);
  save_word(w);
  save_word(w + 1);
  save(redzone.magic, h);
  redzone.magic[h] = magic;
  counter_add(v_extra, bytes);
  undo_end();
}
function redzone_alloc(given: number, t: number, flags: number): number {
  const of = redzone_type(t as malloc_type_t);
  if ((of & RT_WANTED) === 0 || given > SIZE_MAX) return 0;
  const size = Math.ceil(given);
  const stack = (of & RT_STACKS) !== 0 ? stack_depot_save() : 0;
  const real = redzone_size(size);
  const b = malloc_undetected(real, t as malloc_type_t, flags);
  if (b === 0) return NO_BLOCK;
  const p = b + redzone_roundup(size) / 4;
  const h = head_of(p);
  redzone.magic[h] = 0; // what was here before must not count if this thread dies
  page_mark(word_page(b));
  page_mark(word_page(p));
  redzone.size[h] = size;
  redzone.type[h] = t;
  redzone.stack[h] = stack;
  redzone.nsize[h] = size | 0;
  redzone.nsize[elem(h, 1)] = 0;
  for (let i = 0; i < REDZONE_CHSIZE / 4; i++) redzone.pattern[elem(h, i)] = REDZONE_WORD;
  pattern_set(p, size);
  header_turn(h, magic_of(LIVE, p, size), real - size);
  return p;
}
function redzone_free(p: number, t: number): boolean {
  const h = header(p, LIVE);
  if (h === NULL) return refuse(p);
  const size = redzone.size[h];
  if (!pattern_whole(head_of(p), REDZONE_HSIZE - REDZONE_CHSIZE) || !pattern_whole(p, size)) {
    report(p, h);
  }
  const of = redzone_type(t as malloc_type_t);
  redzone.stack[elem(h, 1)] = (of & RT_STACKS) !== 0 ? stack_depot_save() : 0;
  header_turn(h, magic_of(FREED, p, size), size - redzone_size(size));
  free_undetected(p - redzone_roundup(size) / 4, t as malloc_type_t);
  return true;
}
/** A free of what is no block that is in use and has redzones: false, unless it never was right. */
function refuse(p: number): false {
  const h = header(p, FREED);
  if (h !== NULL) {
    tell(stack_lines('Allocation', peek(redzone.stack, h)));
    tell(stack_lines('First free', peek(redzone.stack, elem(h, 1))));
    panic(`Duplicate free of item ${p * 4}: it is ${what_is(p)}`);
  }
  const user = user_of(p);
  if (user === 0) return false;
  panic(`free: address ${p * 4} has not been allocated: it is ${what_is(p)}`);
}
function redzone_bytes(p: number): number {
  const h = header(p, LIVE);
  if (h !== NULL) return redzone.size[h];
  return (vm_page.info[word_page(p)] & PK_MARKED) !== 0 && user_of(p) !== 0 ? -2 : -1;
}

// --- what is told -------------------------------------------------------------------------------

function tell(lines: readonly string[]): void {
  kconsole.print(lines.join('\n'));
}
function frames_text(frames: readonly string[]): string[] {
  return frames.map((frame, i) => `#${i} ${frame}`);
}
/** The lines of a stack that was kept. */
function stack_lines(what: string, id: number): string[] {
  const frames = stack_depot_text(id);
  const none = ['(not known: vm.redzone.stacks keeps those of every request)'];
  return [`${what} backtrace:`, ...(frames.length > 0 ? frames_text(frames) : none)];
}
/** Tells what was written around the block at p. Stops the machine if vm.redzone.panic says so. */
function report(p: number, h: redzone_t): void {
  const size = redzone.size[h];
  const sides = [
    ['underflow', bytes_wrong(p * 4 - REDZONE_CHSIZE), 'before', p * 4],
    ['overflow', bytes_wrong(p * 4 + size), 'after', p * 4 + size],
  ] as const;
  const here = backtrace_frames(backtrace_text(DEPTH), DEPTH).map(frame_text);
  for (const [what, n, side, at] of sides) {
    if (n === 0) continue;
    counter_add(v_found, 1);
    const corrupted = `${n} byte${n === 1 ? '' : 's'} corrupted`;
    const where = `${side} 0x${at.toString(16)} (${size} bytes allocated)`;
    tell([
      `REDZONE: Buffer ${what} detected. ${corrupted} ${where}.`,
      ...stack_lines('Allocation', redzone.stack[h] || sample_removed.stack),
      'Free backtrace:',
      ...frames_text(here),
    ]);
  }
  const info = vm_page.info[word_page(p)] & ~PK_MARKED;
  if (info < PK_MALLOC_END) {
    multizone_damage(zone_name(malloc_block_zone(p, info)));
  }
  if (sysctl_get(redzone_panic) !== 0) panic('Stopping here.');
}
/** What lies at p if it is a block with redzones, in a phrase; '': it is none. */
function what_is(p: number): string {
  const freed = header(p, FREED);
  if (freed !== NULL) return `${named(freed)} that was freed already`;
  const b = block_of(p);
  const user = b < 0 ? 0 : user_of(b);
  if (user === 0) return '';
  const h = head_of(user);
  if (p === user) return named(h);
  if (p < user) return `${(user - p) * 4} bytes before ${named(h)}`;
  const into = (p - user) * 4;
  const size = redzone.size[h];
  return into < size ? `${into} bytes into ${named(h)}` : `${into - size} bytes behind ${named(h)}`;
}
function named(h: redzone_t): string {
  const type = malloc_type_name_of(peek(redzone.type, h));
  return `a block of ${peek(redzone.size, h)} bytes of type '${type}' (redzone)`;
}

// --- the walk -----------------------------------------------------------------------------------

/**
 * Proves that the bytes counted are those of the blocks that have redzones, on a quiet machine.
 * Returns the users' addresses of these.
 */
export function redzone_check(): number[] {
  const users: number[] = [];
  for (let m = 1; m < machine.npages[M]; m++) {
    const info = vm_page.info[m] & ~PK_MARKED;
    if (info === vm_page.info[m]) continue; // not marked
    const words = info < PK_MALLOC_END ? 4 << info : PAGE_WORDS;
    if (info >= PK_MALLOC_END && (info & PK_MASK) !== PK_LARGE) continue; // seen with its first
    for (let at = 0; at + words <= PAGE_WORDS; at += words) {
      const user = user_of(page_word(m) + at);
      if (user !== 0) users.push(user);
    }
  }
  const size = (p: number): number => redzone.size[head_of(p)];
  const extra = users.reduce((sum, p) => sum + redzone_size(size(p)) - size(p), 0);
  const counted = counter_get(v_extra);
  if (extra !== counted) panic('redzone_check: bytes of redzones', extra, `counted ${counted}`);
  return users;
}

/** Redzones among the detectors. */
export const redzone_detector: Detector = {
  which: MD_REDZONE,
  alloc: redzone_alloc,
  free: redzone_free,
  size: redzone_bytes,
  what: what_is,
};
