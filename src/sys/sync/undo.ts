/*
 * undo: what lets a structure survive the death of the CPU that changes it.
 *
 * Under a lock of recovery class `undo` the old value of each word goes into
 * the CPU's undo log before the word changes.  If the thread dies, whoever
 * takes the lock over stores the old values back, last to first, and the
 * structure is as it was before the section.  Values are absolute: undoing
 * twice is harmless.
 *
 *      mtx_lock(keg.lock, k);
 *      undo_begin(keg.lock, k);
 *      save(keg.free, k);  keg.free[k]--;
 *      undo_end();                          before the unlock
 *      mtx_unlock(keg.lock, k);
 *
 * A *private* section has no lock.  It logs only words that no other CPU writes
 * (counts of this CPU, its hand), and the reaper plays it back.  It stands
 * outside every section with a lock: whoever took that lock over would not know
 * that newer values of the same word wait in a private one.
 *
 * Up to eight sections nest.  They share one array of pairs, each section
 * behind the one around it, so a section may be as long as the others leave
 * room for:
 *
 *      sections   | lock A, 0, 3 | lock B, 3, 2 |          first pair, pairs
 *      pairs      | A A A B B . . . . . . .     |          word and old value
 *
 * Words side by side whose values rise by the same step, 0 included, take two pairs, however many
 * they are (save_run): a run of pages is one section.
 *
 *      pairs      | first word, its value | -words, step |
 *
 * Nothing in the kernel needs more than a small part of it: the longest section
 * that the test suite meets has 25 pairs (debug.undo_most counts them under
 * INVARIANTS), of UNDO_PAIRS = 256.  A section that is too long is an error
 * of the kernel: INVARIANTS panics at the word that finds no room and names the
 * lock.  Otherwise the section is marked, and only a death in it matters: the
 * structure is then walked, as the line of its lock class in boot/main.ts says.
 *
 * The first word of a section is its lock, or UNDO_PRIVATE.  It is 0 when the section
 * is closed, and is the last to be written when it is opened.
 */
import {
  pcpu as pcpu_,
  pcpu_of,
  type pcpu_t,
  thr as thr_,
  UNDO_LEVELS,
  UNDO_LOG_WORDS,
  UNDO_PAIRS,
} from '../machine/cpu.ts';
import { sim_point } from '../machine/atomic.ts';
import { mem as mem_ } from '../machine/memory.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import {
  elem,
  type Field64,
  field_word,
  field_word64,
  type LockField,
  type WordField,
} from '../machine/struct.ts';
import { CTLFLAG_RD, sysctl_get, sysctl_set, sysctl_uint } from '../machine/sysctl_decl.ts';
import { lock_order } from './lock_order.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const opt = opt_;
const pcpu = pcpu_;
const thr = thr_;
const LEVELS = UNDO_LEVELS;
const LOG_WORDS = UNDO_LOG_WORDS;
const PAIRS = UNDO_PAIRS;

/** With the number of pairs: a word found no room. */
const OVERFLOW = 1 << 16;
/** Stands where a section has no lock. No lock lies at this word. */
export const UNDO_PRIVATE = -1;
/* The words of a section. */
const LOCK = 0;
const FIRST = 1;
const COUNT = 2;
/** Second word of every lock: its class. lock_word.ts is above this file. */
const LOCK_CLASS = 1;

const most = sysctl_uint('debug.undo_most', {
  value: 0,
  flags: CTLFLAG_RD,
  unit: 'pairs',
  help:
    'Most pairs of words that one section saved for a death, two for a row of words; counted ' +
    'under INVARIANTS',
});
/** The longest section so far, in pairs: counted under INVARIANTS, a sample. */
export function undo_most(): number {
  return sysctl_get(most);
}

/** The word at which section `level` of the record `pc` is described; its first one is the lock. */
export function undo_log(pc: pcpu_t, level: number): number {
  return field_word(pcpu.undo_logs, pc) + level * LOG_WORDS;
}
function pair_word(pc: pcpu_t, i: number): number {
  return field_word(pcpu.undo_pairs, pc) + i * 2;
}

/** Opens a section under the lock `f` of the record `p`. */
export function undo_begin<P extends number>(f: LockField<P>, p: P): void {
  section_begin(p + f);
}
/** The same under the lock at word `l`: for a structure that lies in records of several kinds. */
export function undo_begin_word(l: number): void {
  section_begin(l);
}
/**
 * Opens a section without a lock, for words that only this CPU writes.  Not
 * inside a section with a lock; sections with locks may stand inside it.
 */
export function undo_begin_private(): void {
  if (opt.INVARIANTS) {
    for (let level = 0; level < pcpu.undo_depth[thr.pc]; level++) {
      const l = mem.I32[undo_log(thr.pc, level) + LOCK];
      if (l !== UNDO_PRIVATE) panic(`undo_begin_private: inside the section under ${named(l)}`);
    }
  }
  section_begin(UNDO_PRIVATE);
}
function section_begin(l: number): void {
  const depth = pcpu.undo_depth[thr.pc];
  if (depth >= LEVELS) panic(`undo_begin: more than ${LEVELS} nested sections, at ${named(l)}`);
  const log = undo_log(thr.pc, depth);
  const outer = log - LOG_WORDS;
  mem.I32[log + FIRST] =
    depth === 0 ? 0 : mem.I32[outer + FIRST] + (mem.I32[outer + COUNT] & (OVERFLOW - 1));
  mem.I32[log + COUNT] = 0;
  mem.I32[log + LOCK] = l;
  pcpu.undo_depth[thr.pc] = depth + 1;
}
/** Logs word `w` before it changes. */
export function save_word(w: number): void {
  const { pc } = thr;
  const log = ((pc + (pcpu.undo_depth[pc] - 1) * LOG_WORDS) | 0) as pcpu_t;
  const logs = pcpu.undo_logs;
  const n = logs[elem(log, COUNT)];
  const i = logs[elem(log, FIRST)] + n;
  if (i >= PAIRS) return save_overflow();
  const pair = elem(pc, i * 2);
  pcpu.undo_pairs[pair] = w;
  pcpu.undo_pairs[elem(pair, 1)] = mem.I32[w];
  logs[elem(log, COUNT)] = n + 1; // the pair counts only when it is whole
  if (opt.SIM) sim_point(w);
}
/** Logs `count` words from `w` on: all or, if it dies here, none. */
function save_words(w: number, count: number): void {
  const { pc } = thr;
  const log = ((pc + (pcpu.undo_depth[pc] - 1) * LOG_WORDS) | 0) as pcpu_t;
  const logs = pcpu.undo_logs;
  const n = logs[elem(log, COUNT)];
  const i = logs[elem(log, FIRST)] + n;
  if (i + count > PAIRS) return save_overflow();
  const pair = elem(pc, i * 2);
  const pairs = pcpu.undo_pairs;
  for (let k = 0; k < count; k++) {
    pairs[elem(pair, k * 2)] = w + k;
    pairs[elem(pair, k * 2 + 1)] = mem.I32[w + k];
  }
  logs[elem(log, COUNT)] = n + count;
  if (opt.SIM) sim_point(w);
}
/**
 * Logs n words from `w` on, if each is as much more than the one before: 0, 1, minus 1.  False:
 * they are not so, and nothing is logged.
 */
export function save_run(w: number, n: number): boolean {
  const words = mem.I32;
  const value = words[w];
  const step = n > 1 ? (words[w + 1] - value) | 0 : 0;
  for (let k = 2; k < n; k++) if (((words[w + k] - words[w + k - 1]) | 0) !== step) return false;
  const { pc } = thr;
  const log = ((pc + (pcpu.undo_depth[pc] - 1) * LOG_WORDS) | 0) as pcpu_t;
  const logs = pcpu.undo_logs;
  const had = logs[elem(log, COUNT)];
  const i = logs[elem(log, FIRST)] + had;
  if (i + 2 > PAIRS) {
    save_overflow();
    return true;
  }
  const pair = elem(pc, i * 2);
  const pairs = pcpu.undo_pairs;
  pairs[pair] = w;
  pairs[elem(pair, 1)] = value;
  pairs[elem(pair, 2)] = -n;
  pairs[elem(pair, 3)] = step;
  logs[elem(log, COUNT)] = had + 2;
  if (opt.SIM) sim_point(w);
  return true;
}
function save_overflow(): void {
  const log = undo_log(thr.pc, pcpu.undo_depth[thr.pc] - 1);
  const l = mem.I32[log + LOCK];
  if (opt.INVARIANTS) panic(`undo: no room for a further word in the section under ${named(l)}`);
  mem.I32[log + COUNT] |= OVERFLOW;
}
/** What a section stands under, in messages. */
function named(l: number): string {
  if (l === UNDO_PRIVATE) return 'no lock';
  return `lock '${lock_order[mem.I32[l + LOCK_CLASS]]?.name ?? '?'}' at ${l * 4}`;
}
/** Logs a field before it changes. Narrow columns do not compile: their word holds others too. */
export function save<P extends number>(f: WordField<P, number>, p: NoInfer<P>): void {
  save_word(field_word(f, p));
}
/** Logs a 64-bit field before it changes. */
export function save64<P extends number>(f: Field64<P>, p: P): void {
  save_words(field_word64(f, p), 2);
}
/** Logs two 64-bit fields that lie side by side, `f` first. */
export function save64_two<P extends number>(f: Field64<P>, next: Field64<P>, p: P): void {
  const w = field_word64(f, p);
  if (opt.INVARIANTS && field_word64(next, p) !== w + 2) panic('save64_two: not side by side');
  save_words(w, 4);
}
/** Declares the structure consistent here: what follows is a section of its own. */
export function undo_commit(): void {
  const log = undo_log(thr.pc, pcpu.undo_depth[thr.pc] - 1);
  if (opt.INVARIANTS) note_length(mem.I32[log + COUNT]);
  mem.I32[log + COUNT] = 0;
}
/** Closes the section: the structure is consistent. Stands before the unlock. */
export function undo_end(): void {
  const depth = pcpu.undo_depth[thr.pc] - 1;
  if (opt.INVARIANTS && depth < 0) panic('undo_end: no section is open');
  const log = undo_log(thr.pc, depth);
  if (opt.INVARIANTS) note_length(mem.I32[log + COUNT]);
  mem.I32[log + LOCK] = 0;
  pcpu.undo_depth[thr.pc] = depth;
  if (opt.SIM) sim_point(log);
}
function note_length(n: number): void {
  if (n > sysctl_get(most)) sysctl_set(most, n);
}

/**
 * Plays the dead CPU's section under lock word `l` back and closes it.  Returns
 * 'none' if it had none, 'overflow' if the section was too long for its log.
 */
export function undo_play(dead: pcpu_t, l: number): 'none' | 'done' | 'overflow' {
  for (let level = LEVELS - 1; level >= 0; level--) {
    const log = undo_log(dead, level);
    if (mem.I32[log + LOCK] !== l) continue;
    return play_back(dead, log) ? 'done' : 'overflow';
  }
  return 'none';
}
function play_back(dead: pcpu_t, log: number): boolean {
  const n = mem.I32[log + COUNT];
  const first = mem.I32[log + FIRST];
  for (let i = first + (n & (OVERFLOW - 1)) - 1; i >= first; i--) {
    const at = pair_word(dead, i);
    if (mem.I32[at] >= 0) mem.I32[mem.I32[at]] = mem.I32[at + 1];
    else run_back(pair_word(dead, --i), 0 - mem.I32[at], mem.I32[at + 1]);
    if (opt.SIM) sim_point(at);
  }
  mem.I32[log + LOCK] = 0;
  return (n & OVERFLOW) === 0;
}
/** Stores the n words back that the pair at word `at` begins. */
function run_back(at: number, n: number, step: number): void {
  const w = mem.I32[at];
  const value = mem.I32[at + 1];
  for (let k = 0; k < n; k++) mem.I32[w + k] = value + k * step;
}
/**
 * Plays the private sections of a dead CPU back, the innermost first.  Its
 * sections with locks are played back already.  A line of the death table.  In an heir's
 * own record no section is open afterwards.
 */
export function undo_private_reap(cpu: number): void {
  const pc = pcpu_of(cpu);
  for (let level = LEVELS - 1; level >= 0; level--) {
    const log = undo_log(pc, level);
    if (mem.I32[log + LOCK] !== UNDO_PRIVATE) continue;
    if (!play_back(pc, log)) panic('undo: a private section was too long for its log');
  }
  if (cpu === thr.cpu) pcpu.undo_depth[pc] = 0;
}
