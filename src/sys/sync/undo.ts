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
 * Whoever takes a lock over from a dead owner plays that CPU's log for this lock
 * back, if there is one, and empties it.  A CPU has UNDO_LEVELS logs, for that many
 * sections one inside the other; one more is a panic.  A section too long for a log
 * sets OVERFLOW, and recovery falls back on the structure's check.
 *
 * Log: [0] lock word, 0 = empty; [1] pairs; then pairs of word and old value.
 */
import { pcpu, thr, UNDO_LEVELS, UNDO_WORDS } from '../machine/cpu.ts';
import { sim_point } from '../machine/atomic.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import {
  type Field,
  type Field64,
  field_word,
  field_word64,
  type LockField,
} from '../machine/struct.ts';

export const UNDO_OVERFLOW = 1 << 16;
const PAIRS = (UNDO_WORDS - 2) >> 1;

/** The word at which log `level` of the record `pc` starts. */
export function undo_log(pc: number, level: number): number {
  return field_word(pcpu.undo, pc as typeof thr.pc) + level * UNDO_WORDS;
}

/** Opens a log for the section under the lock `f` of the record `p`. */
export function undo_begin<P extends number>(f: LockField<P>, p: P): void {
  const depth = pcpu.undo_depth[thr.pc];
  if (depth >= UNDO_LEVELS) panic('undo_begin: more nested sections than logs', depth);
  const log = undo_log(thr.pc, depth);
  mem.I32[log + 1] = 0;
  mem.I32[log] = p + f;
  pcpu.undo_depth[thr.pc] = depth + 1;
}
/** Logs word `w` before it changes. */
export function save_word(w: number): void {
  const log = undo_log(thr.pc, pcpu.undo_depth[thr.pc] - 1);
  const n = mem.I32[log + 1];
  if (n >= PAIRS) {
    mem.I32[log + 1] = n | UNDO_OVERFLOW;
    return;
  }
  mem.I32[log + 2 + n * 2] = w;
  mem.I32[log + 3 + n * 2] = mem.I32[w];
  mem.I32[log + 1] = n + 1; // the pair counts only when it is whole
  if (opt.SIM) sim_point(w);
}
/** Logs a field before it changes. */
export function save<P extends number>(f: Field<P, number>, p: P): void {
  save_word(field_word(f, p));
}
/** Logs a 64-bit field before it changes. */
export function save64<P extends number>(f: Field64<P>, p: P): void {
  const w = field_word64(f, p);
  save_word(w);
  save_word(w + 1);
}
/** Declares the structure consistent here: what follows is a section of its own. */
export function undo_commit(): void {
  mem.I32[undo_log(thr.pc, pcpu.undo_depth[thr.pc] - 1) + 1] = 0;
}
/** Closes the log: the structure is consistent. Stands before the unlock. */
export function undo_end(): void {
  const depth = pcpu.undo_depth[thr.pc] - 1;
  if (opt.INVARIANTS && depth < 0) panic('undo_end: no section is open');
  mem.I32[undo_log(thr.pc, depth)] = 0;
  pcpu.undo_depth[thr.pc] = depth;
}

/**
 * Plays the dead CPU's log for lock word `l` back and empties it.  Returns
 * 'none' if it had no log for it, 'overflow' if the log was too short.
 */
export function undo_play(dead: typeof thr.pc, l: number): 'none' | 'done' | 'overflow' {
  for (let level = UNDO_LEVELS - 1; level >= 0; level--) {
    const log = undo_log(dead, level);
    if (mem.I32[log] !== l) continue;
    const n = mem.I32[log + 1];
    for (let i = (n & (UNDO_OVERFLOW - 1)) - 1; i >= 0; i--) {
      mem.I32[mem.I32[log + 2 + i * 2]] = mem.I32[log + 3 + i * 2];
    }
    mem.I32[log] = 0;
    return n & UNDO_OVERFLOW ? 'overflow' : 'done';
  }
  return 'none';
}
