/*
 * kern_rwlock: rw and sx, shared/exclusive locks; one implementation, two classes.
 *
 * An rw lock must not be held while sleeping, an sx lock may be; WITNESS knows
 * by the class.  Six words: w, class, spare, rseq, wseq, spare.
 *
 *      w, without RW     who may come in
 *      0                 everybody: free, or read by any number
 *      WW                a reader that reads another lock already; others sleep
 *      WRITE|tid (|WW)   nobody.  The owner's `taking` names the lock: it only looks
 *                        whether somebody reads.  It does not: it writes
 *      abandoned         nobody, until recover or dispose (lock_word.ts)
 *
 * There is no count of readers.  A read hold is a word of the holder's row
 * (rw_row.ts), and that is why a death at any instruction can be settled
 * (rw_death.ts).
 *
 *      reader  announce in the row (exchange), then look at w (load)
 *      writer  take w (compare-and-swap), then look at every row (loads)
 *
 * One of the two sees the other.  The writer that sees a reader goes back to
 * WW before it waits: asleep with WRITE set it would close a ring of two locks
 * and two nested readers.  The reader that sees a writer withdraws its word,
 * and tells the writer as one that leaves, because the writer may have seen it.
 *
 * Waiters sleep on two event counts, so that a waker can choose a kind.  A count
 * is read before the flag is set and goes up after the flag is cleared: no
 * wake-up falls between.  WW keeps new readers out, so that a stream of short
 * readers cannot starve a writer; a CPU that reads some lock already passes,
 * for it might wait for itself.  Reading again never waits: it is a count.
 *
 * The clock is read only when waiting.  Modelled in models/rw.pml.
 */
import {
  atomic_cas,
  atomic_load,
  atomic_store,
  atomic_wait,
  atomic_xchg,
  atomic_xchg_load,
  cpu_spinwait,
} from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import { park, pcpu as pcpu_, poll, thr as thr_, unpark } from '../machine/cpu.ts';
import { ENOLCK, EOWNERDEAD, EWOULDBLOCK, KmemError } from '../machine/errno.ts';
import { mem as mem_ } from '../machine/memory.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import {
  prof_acquired,
  prof_contended,
  prof_released,
  witness_checkorder,
  witness_init,
  witness_lock,
  witness_unlock,
} from '../machine/parts.ts';
import { elem, field_word, type LockField } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { lock_slice, spins_allowed } from './kern_mutex.ts';
import { lock_name } from './lock_label.ts';
import { user_class } from './lock_order.ts';
import {
  abandoned,
  abandoned_why,
  LOCK_CLASS as LOCK_CLASS_,
  RW_FLAGS as RW_FLAGS_,
  RW_READERS,
  RW_RSEQ,
  RW_WRITE,
  RW_WRITERS,
  RW_WSEQ,
} from './lock_word.ts';
import { after_slice } from './rw_death.ts';
import { give_up, look, rw_release, tell_writer, wake_readers, wake_writer } from './rw_wake.ts';
import {
  KERNEL_BITS as KERNEL_BITS_,
  PROGRAM_BITS as PROGRAM_BITS_,
  PROGRAM_FIRST as PROGRAM_FIRST_,
  ROW_PROGRAM_MAX,
  row_covers,
  row_find,
  row_grow,
  row_word,
  rw_read_holds,
} from './rw_row.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const pcpu = pcpu_;
const thr = thr_;
const mem = mem_;
const opt = opt_;
const LOCK_CLASS = LOCK_CLASS_;
const RW_FLAGS = RW_FLAGS_;
const RW = RW_READERS;
const WW = RW_WRITERS;
const WRITE = RW_WRITE;
const KERNEL_BITS = KERNEL_BITS_;
const PROGRAM_BITS = PROGRAM_BITS_;
const PROGRAM_FIRST = PROGRAM_FIRST_;

export const RW_WORDS = 6;
const NO_CPU = -1;
const FOREVER = Number.POSITIVE_INFINITY;
const SLICE_MAX_MS = 1000;

/** Makes an rw or sx lock of class `cls`. */
export function rw_init<P extends number>(f: LockField<P>, p: P, cls: number): void {
  const l = p + f;
  mem.I32.fill(0, l, l + RW_WORDS);
  mem.I32[l + LOCK_CLASS] = cls;
  if (opt.WITNESS) witness_init(l);
}
/** Takes the lock shared. Throws, of a program's lock, EOWNERDEAD and ENOLCK. */
export function rw_rlock<P extends number>(f: LockField<P>, p: P): void {
  const error = rw_rlock_word(p + f, FOREVER);
  if (error !== 0) rw_refused(p + f, error);
}
/** Takes the lock shared, waiting at most `ms`. False: not taken. Throws as rw_rlock. */
export function rw_timedrlock<P extends number>(f: LockField<P>, p: P, ms: number): boolean {
  return taken(p + f, rw_rlock_word(p + f, ms));
}
/** Takes the lock exclusively. Throws, of a program's lock, EOWNERDEAD. */
export function rw_wlock<P extends number>(f: LockField<P>, p: P): void {
  const error = rw_wlock_word(p + f, FOREVER);
  if (error !== 0) rw_refused(p + f, error);
}
/** Takes the lock exclusively, waiting at most `ms`. False: not taken. Throws as rw_wlock. */
export function rw_timedwlock<P extends number>(f: LockField<P>, p: P, ms: number): boolean {
  return taken(p + f, rw_wlock_word(p + f, ms));
}
/** Gives a shared hold back. */
export function rw_runlock<P extends number>(f: LockField<P>, p: P): void {
  rw_runlock_word(p + f);
}
/** Gives the exclusive hold back. */
export function rw_wunlock<P extends number>(f: LockField<P>, p: P): void {
  rw_wunlock_word(p + f);
}
/** Whether this CPU holds the lock exclusively. */
export function rw_wowned<P extends number>(f: LockField<P>, p: P): boolean {
  return rw_wowned_word(p + f);
}
/** Panics, under INVARIANTS, unless the lock is held in some way. */
export function rw_assert<P extends number>(f: LockField<P>, p: P, exclusive: boolean): void {
  if (!opt.INVARIANTS) return;
  const ok = rw_wowned_word(p + f) || (!exclusive && rw_rowned_word(p + f));
  if (!ok) panic('rw_assert: not held', lock_name(p + f), exclusive ? 'exclusive' : 'shared');
}
/** Whether this CPU holds the lock at word `l` exclusively. */
export function rw_wowned_word(l: number): boolean {
  return (mem.I32[l] & ~RW_FLAGS) === (WRITE | thr.tid);
}
/** Whether this CPU holds the lock at word `l` shared. */
export function rw_rowned_word(l: number): boolean {
  return row_find(l) >= 0;
}
function taken(l: number, error: number): boolean {
  if (error !== 0 && error !== EWOULDBLOCK) rw_refused(l, error);
  return error === 0;
}
/** Throws what a call returned that could not take the lock. */
export function rw_refused(l: number, error: number): never {
  if (error === ENOLCK && !user_class(mem.I32[l + LOCK_CLASS])) {
    panic('rw_rlock: the kernel reads more locks at once than it has words for', lock_name(l));
  }
  throw new KmemError(error, 'rw_lock', `${lock_name(l)}: ${rw_why(l, error)}`);
}
/** What to say about an errno of taking the lock at `l`. */
export function rw_why(l: number, error: number): string {
  if (error === EOWNERDEAD) {
    return `${abandoned_why(atomic_load(l), 'wrote')}: recover it, or dispose of it`;
  }
  if (error !== ENOLCK) return 'it could not be had in time';
  const held = rw_read_holds(thr.cpu).filter((w) => user_class(mem.I32[w + LOCK_CLASS]));
  return `this thread reads ${ROW_PROGRAM_MAX} locks already: ${held.map(lock_name).join(', ')}`;
}

// --- readers -------------------------------------------------------------------

/** Takes the lock at word `l` shared. Returns 0, EWOULDBLOCK, EOWNERDEAD or ENOLCK. */
export function rw_rlock_word(l: number, ms: number): number {
  if (opt.WITNESS) witness_checkorder(l, false);
  const pc = thr.pc;
  const used = pcpu.rw_used[pc];
  const user = user_class(mem.I32[l + LOCK_CLASS]);
  let i = user ? PROGRAM_FIRST : 0;
  let block = WRITE | WW;
  if (used !== 0) {
    i = row_find(l);
    if (i >= 0) return read_again(l, i);
    const free = ~used & (user ? PROGRAM_BITS : KERNEL_BITS);
    if (free === 0) return ENOLCK;
    i = 31 - Math.clz32(free & -free);
    block = WRITE; // somebody may wait for what I read: I must not wait for a writer that waits
  }
  const row = thr.row;
  if (!row_covers(row, i)) row_grow(i);
  let waited = false;
  if ((atomic_xchg_load(row_word(row, i), l, l) & block) !== 0) {
    const error = rlock_slow(l, row_word(row, i), block, ms);
    if (error !== 0) return error;
    waited = true;
  }
  pcpu.rw_counts[elem(pc, i)] = 1;
  pcpu.rw_used[pc] = used | (1 << i);
  if (opt.MUTEX_PROFILING) prof_acquired(l, waited, 0);
  if (opt.WITNESS) witness_lock(l, false);
  return 0;
}
function read_again(l: number, i: number): number {
  pcpu.rw_counts[elem(thr.pc, i)]++;
  if (opt.MUTEX_PROFILING) prof_acquired(l, false, 0);
  if (opt.WITNESS) witness_lock(l, false);
  return 0;
}
/** The word `at` of mine names the lock, and a writer has it or wants it. */
function rlock_slow(l: number, at: number, block: number, ms: number): number {
  let slice = sysctl_get(lock_slice);
  let end = 0;
  for (;;) {
    withdraw(l, at);
    for (;;) {
      const s = atomic_load(l + RW_RSEQ);
      const v = atomic_load(l);
      if (abandoned(v)) return EOWNERDEAD;
      if ((v & block) === 0) break;
      if ((v & ~RW_FLAGS) === (WRITE | thr.tid)) panic('rw_rlock: already written', lock_name(l));
      if (ms <= 0) return EWOULDBLOCK;
      if (end === 0) end = now_ms() + ms;
      const left = end - now_ms();
      if (left <= 0) return EWOULDBLOCK; // a flag left behind costs one needless wake-up
      if (atomic_cas(l, v, v | RW) !== v) continue;
      if (opt.MUTEX_PROFILING) prof_contended(l);
      if (event_wait(l + RW_RSEQ, s, Math.min(slice, left)) === 'timed-out') {
        slice = Math.min(slice * 2, SLICE_MAX_MS);
        after_slice(l, false);
      }
    }
    if ((atomic_xchg_load(at, l, l) & block) === 0) return 0;
  }
}
/** Gives a shared hold of the lock at word `l` back. */
export function rw_runlock_word(l: number): void {
  if (opt.WITNESS) witness_unlock(l, false);
  if (opt.MUTEX_PROFILING) prof_released(l);
  const i = row_find(l);
  if (i < 0) panic('rw_runlock: not held shared', lock_name(l));
  const pc = thr.pc;
  const n = pcpu.rw_counts[elem(pc, i)] - 1;
  pcpu.rw_counts[elem(pc, i)] = n;
  if (n !== 0) return;
  pcpu.rw_used[pc] &= ~(1 << i);
  withdraw(l, row_word(thr.row, i));
}
/** Clears my word. The last one out wakes a writer that waits. */
function withdraw(l: number, at: number): void {
  if ((atomic_xchg_load(at, 0, l) & (WW | WRITE)) === WW) tell_writer(l);
}
// --- writers -------------------------------------------------------------------

/** Takes the lock at word `l` exclusively. Returns 0, EWOULDBLOCK or EOWNERDEAD. */
export function rw_wlock_word(l: number, ms: number): number {
  if (opt.WITNESS) witness_checkorder(l, true);
  const pc = thr.pc;
  pcpu.rw_taking[pc] = l;
  let waited = false;
  if (
    atomic_cas(l, 0, WRITE | thr.tid) !== 0 ||
    (look(l, NO_CPU) !== 0 && (ms > 0 ? back_off(l, WW) : rw_release(l)))
  ) {
    const error = ms <= 0 ? wlock_try(l) : wlock_slow(l, ms);
    if (error !== 0) {
      pcpu.rw_taking[pc] = 0;
      return error;
    }
    waited = true;
  }
  pcpu.rw_taking[pc] = 0;
  if (opt.MUTEX_PROFILING) prof_acquired(l, waited, 0);
  if (opt.WITNESS) witness_lock(l, true);
  return 0;
}
/** I have WRITE and somebody reads: back to waiting, with the flag `ww` beside those set. */
function back_off(l: number, ww: number): boolean {
  for (;;) {
    const v = atomic_load(l);
    if (atomic_cas(l, v, (v & WW) | ww) !== v) continue;
    if (v & RW) wake_readers(l);
    return true;
  }
}
function wlock_slow(l: number, ms: number): number {
  poll();
  if (row_find(l) >= 0) panic('rw_wlock: this CPU reads it', lock_name(l));
  let slept = 0;
  let slice = sysctl_get(lock_slice);
  let spins = spins_allowed();
  let end = 0;
  for (;;) {
    let v = atomic_load(l);
    if (abandoned(v)) return EOWNERDEAD;
    if ((v & WRITE) === 0 && look(l, NO_CPU) === 0) {
      if (atomic_cas(l, v, v | WRITE | thr.tid | slept) !== v) continue;
      if (look(l, NO_CPU) === 0) return 0;
      back_off(l, WW);
      continue;
    }
    if ((v & ~RW_FLAGS) === (WRITE | thr.tid)) panic('rw_wlock: already owned', lock_name(l));
    const s = atomic_load(l + RW_WSEQ);
    v = atomic_load(l);
    if (abandoned(v)) return EOWNERDEAD;
    // While it is only read, readers that read another lock may pass: those asleep look again.
    const next = v & WRITE ? v | WW : (v | WW) & ~RW;
    if (next !== v) {
      if (atomic_cas(l, v, next) !== v) continue;
      if ((v & WRITE) === 0 && v & RW) wake_readers(l);
    }
    if ((v & WRITE) === 0 && look(l, NO_CPU) === 0) continue;
    if (spins-- > 0) {
      cpu_spinwait();
      poll();
      continue;
    }
    if (end === 0) end = now_ms() + ms;
    const left = end - now_ms();
    if (left <= 0) {
      give_up(l);
      return EWOULDBLOCK;
    }
    if (opt.MUTEX_PROFILING && slept === 0) prof_contended(l);
    if (event_wait(l + RW_WSEQ, s, Math.min(slice, left)) === 'timed-out') {
      slice = Math.min(slice * 2, SLICE_MAX_MS);
      after_slice(l, true);
      pcpu.rw_taking[thr.pc] = l; // whatever was settled there
    }
    slept = WW;
  }
}
/** Takes the lock if that can be had now: no flag of waiting is set. */
function wlock_try(l: number): number {
  const v = atomic_load(l);
  if (abandoned(v)) return EOWNERDEAD;
  if (v & WRITE || look(l, NO_CPU) !== 0) return EWOULDBLOCK;
  if (atomic_cas(l, v, v | WRITE | thr.tid) !== v) return EWOULDBLOCK;
  if (look(l, NO_CPU) === 0) return 0;
  rw_release(l); // not back_off: I do not wait, so nobody would wake a writer that does
  return EWOULDBLOCK;
}
/** Gives the exclusive hold of the lock at word `l` back. */
export function rw_wunlock_word(l: number): void {
  if (opt.WITNESS) witness_unlock(l, true);
  if (opt.MUTEX_PROFILING) prof_released(l);
  const mine = WRITE | thr.tid;
  if (atomic_cas(l, mine, 0) === mine) return;
  if ((atomic_load(l) & ~RW_FLAGS) !== mine) panic('rw_wunlock: not owned', lock_name(l));
  rw_release(l);
}
function event_wait(w: number, s: number, ms: number): 'ok' | 'not-equal' | 'timed-out' {
  poll();
  park();
  atomic_store(field_word(pcpu.waiting, thr.pc), w);
  const r = atomic_wait(w, s, ms);
  atomic_store(field_word(pcpu.waiting, thr.pc), 0);
  unpark();
  return r;
}

// --- from one to the other -------------------------------------------------------

/** Turns the only shared hold into the exclusive one. False: still shared. */
export function rw_try_upgrade<P extends number>(f: LockField<P>, p: P): boolean {
  const l = p + f;
  const pc = thr.pc;
  const i = row_find(l);
  if (i < 0) panic('rw_try_upgrade: not held shared', lock_name(l));
  if (pcpu.rw_counts[elem(pc, i)] !== 1) return false;
  const v = atomic_load(l);
  if (v & WRITE) return false;
  pcpu.rw_taking[pc] = l;
  let ok = atomic_cas(l, v, v | WRITE | thr.tid) === v;
  if (ok && look(l, thr.cpu) !== 0) {
    back_off(l, 0);
    ok = false;
  }
  if (ok) {
    atomic_xchg(row_word(thr.row, i), 0);
    pcpu.rw_counts[elem(pc, i)] = 0;
    pcpu.rw_used[pc] &= ~(1 << i);
  }
  pcpu.rw_taking[pc] = 0;
  if (ok && opt.WITNESS) {
    witness_unlock(l, false);
    witness_lock(l, true);
  }
  return ok;
}
/** Turns the exclusive hold into a shared one. False: no word is free, it is still exclusive. */
export function rw_downgrade<P extends number>(f: LockField<P>, p: P): boolean {
  const l = p + f;
  if (!rw_wowned_word(l)) panic('rw_downgrade: not owned', lock_name(l));
  const pc = thr.pc;
  const used = pcpu.rw_used[pc];
  const free = ~used & (user_class(mem.I32[l + LOCK_CLASS]) ? PROGRAM_BITS : KERNEL_BITS);
  if (free === 0) return false;
  const i = 31 - Math.clz32(free & -free);
  if (!row_covers(thr.row, i)) row_grow(i);
  atomic_xchg(row_word(thr.row, i), l);
  pcpu.rw_counts[elem(pc, i)] = 1;
  pcpu.rw_used[pc] = used | (1 << i);
  for (;;) {
    const v = atomic_load(l);
    if (atomic_cas(l, v, 0) !== v) continue;
    // WW may have been this CPU's own: both flags go, and a writer that waits says so again.
    if (v & RW) wake_readers(l);
    if (v & WW) wake_writer(l);
    break;
  }
  if (opt.WITNESS) {
    witness_unlock(l, true);
    witness_lock(l, false);
  }
  return true;
}
