/*
 * lock_word: what the word of a lock says, for mutexes and for rw and sx locks.
 *
 *      mutex   0 WAITERS · 1 RECURSED · 2 HANDOFF · 3..10 slot + 1 · 11..30 incarnation
 *      rw, sx  0 RW readers sleep · 1 WW a writer waits · 2 WRITE · the same owner
 *
 * The owner is a tid (cpu.ts): slot and incarnation.  Two slots that no machine
 * has stand for nobody:
 *
 *      GRANT    127   a mutex was handed to a waiter that has not taken it yet
 *      NOBODY   126   the owner died or left with the lock held: it is abandoned
 *
 * Only a program's own lock is ever abandoned.  Nothing but `recover` and
 * `dispose` takes such a word further, so the fast paths need no test for it:
 * their compare-and-swap expects another word.  In place of an incarnation an
 * abandoned word carries whom it lost: 11..17 slot + 1, 18..30 JavaScript id of
 * the thread, 0 if that is not known; or that a recover() of it failed, all ones.
 *
 * An abandoned word has no flag set: all who waited were woken and told.
 */
import { atomic_load } from '../machine/atomic.ts';
import { pcpu, pcpu_of, tid_cpu } from '../machine/cpu.ts';
import { slot_tid } from '../machine/death.ts';

/** Second word of every lock: its class. */
export const LOCK_CLASS = 1;

export const LK_WAITERS = 1;
export const LK_RECURSED = 2;
export const LK_HANDOFF = 4;
export const MTX_FLAGS = 7;
export const GRANT = 127 << 3;

/** Readers sleep on rseq. */
export const RW_READERS = 1;
/** A writer waits: new readers stay out. */
export const RW_WRITERS = 2;
export const RW_FLAGS = 3;
export const RW_WRITE = 4;
/** The event counts of an rw or sx lock, behind its word. */
export const RW_RSEQ = 3;
export const RW_WSEQ = 4;

const SLOT_BITS = 0xff << 3;
const NOBODY = 126 << 3;
const LOST_SLOT_SHIFT = 11;
const LOST_SLOT_MASK = 0x7f;
const LOST_JS_SHIFT = 18;
const LOST_JS_MAX = 0x1ffe;
/** In place of an id: the thread lives, but could not recover the lock. */
const NOT_RECOVERED = 0x1fff;

/** The tid in the word of a lock that somebody holds alone; of a lock that is read, 0. */
export function word_owner(v: number): number {
  return v & ~MTX_FLAGS;
}
/** The tid of the thread that holds the lock at word `l` alone; 0: none does. */
export function lock_owner_tid(l: number): number {
  const v = atomic_load(l);
  const owner = word_owner(v);
  return owner === GRANT || abandoned(v) ? 0 : owner;
}
/** Whether the word says that the lock was abandoned. */
export function abandoned(v: number): boolean {
  return (v & SLOT_BITS) === NOBODY;
}
/** The word of a lock that the thread `tid` left behind. An rw lock adds RW_WRITE. */
export function abandoned_word(tid: number): number {
  const cpu = tid_cpu(tid);
  const js = slot_tid(cpu) === tid ? pcpu.js_tid[pcpu_of(cpu)] : 0;
  const known = js <= LOST_JS_MAX ? js : 0;
  return NOBODY | ((cpu + 1) << LOST_SLOT_SHIFT) | (known << LOST_JS_SHIFT);
}
/** The word of a lock that the thread `tid` took to recover it, in vain. */
export function unrecovered_word(tid: number): number {
  return NOBODY | ((tid_cpu(tid) + 1) << LOST_SLOT_SHIFT) | (NOT_RECOVERED << LOST_JS_SHIFT);
}
/** Why a lock is abandoned, as far as its word knows; `did`: what its owner did with it. */
export function abandoned_why(v: number, did: string): string {
  if (!abandoned(v)) return `a thread died or left while it ${did}`; // recovered meanwhile
  const cpu = ((v >> LOST_SLOT_SHIFT) & LOST_SLOT_MASK) - 1;
  const js = (v >> LOST_JS_SHIFT) & NOT_RECOVERED;
  if (js === NOT_RECOVERED) return `CPU ${cpu} could not recover it`;
  const by = js === 0 ? `the thread of CPU ${cpu}` : `thread ${js}, CPU ${cpu},`;
  return `${by} died or left while it ${did}`;
}
