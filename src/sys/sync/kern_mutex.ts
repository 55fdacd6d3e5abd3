/*
 * kern_mutex: the sleep mutex.
 *
 *      free             0
 *      locked           tid
 *      locked, waiters  tid|WAITERS (|HANDOFF)
 *      granted          GRANT|WAITERS: owned by nobody, for a waiter that was told
 *      abandoned        its owner died or left: nobody gets it (lock_word.ts)
 *
 * A mutex is four words: the lock word, its class (lock_order.ts), the depth of
 * recursion, one spare.  Fast path: one compare-and-swap to take it, one to
 * give it back; any flag makes the second fail and leads to the slow path.
 *
 * Barging is the rule, for throughput; after a millisecond of waiting a waiter
 * asks for the lock to be handed over.  A waiter that has slept takes the lock
 * with WAITERS set, because others may sleep and the flag went with the
 * unlock.  A waiter that gives up passes a wake-up it was sent on to the next.
 *
 * Every wait is sliced, as a net for deaths only: on each return the waiter
 * looks whether the owner still lives.  If not, it takes the lock over
 * (lock_takeover.ts), or declares it abandoned if it is the program's: then
 * every call that would take it returns EOWNERDEAD until it is recovered.
 *
 * The protocol is modelled in models/mutex.pml.
 */
import {
  atomic_and,
  atomic_cas,
  atomic_load,
  atomic_notify,
  atomic_or,
  atomic_store,
  atomic_wait,
  cpu_spinwait,
} from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import {
  CPU_DEAD,
  CPU_PARKED,
  cpu_slots,
  park,
  pcpu,
  pcpu_of,
  poll,
  thr,
  tid_cpu,
  unpark,
} from '../machine/cpu.ts';
import { reap_want, tid_alive } from '../machine/death.ts';
import { EOWNERDEAD, EWOULDBLOCK, KmemError } from '../machine/errno.ts';
import { M, machine } from '../machine/header.ts';
import { host_sees_threads } from '../machine/host.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
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
import { field_word, type LockField } from '../machine/struct.ts';
import { sysctl_get, sysctl_int } from '../machine/sysctl_decl.ts';
import { lock_order } from './lock_order.ts';
import { lock_name } from './lock_label.ts';
import { lock_take_over } from './lock_takeover.ts';
import {
  abandoned,
  abandoned_why,
  abandoned_word,
  GRANT,
  LK_HANDOFF,
  LK_RECURSED,
  LK_WAITERS,
  LOCK_CLASS,
  MTX_FLAGS as FLAGS,
  word_owner,
  unrecovered_word,
} from './lock_word.ts';

export const MTX_WORDS = 4;
const RECURSE = 2;
const HANDOFF_AFTER_MS = 1;

const spin_rounds = sysctl_int('debug.lock.spin_rounds', {
  value: 200,
  min: 0,
  max: 100000,
  help: 'Rounds to spin on a lock whose owner runs, before sleeping',
});
export const lock_slice = sysctl_int('debug.lock.slice', {
  value: 20,
  min: 1,
  max: 1000,
  unit: 'ms',
  help: 'First slice of a wait; on its end the waiter looks whether the owner lives',
});
export const deadlkres = sysctl_int('debug.deadlkres.blktime', {
  value: 30,
  min: 1,
  max: 86400,
  unit: 's',
  help: 'Longest wait for a lock whose owner cannot be proved alive, before a panic names it',
});
const SLICE_MAX_MS = 1000;
const ALL = 1 << 20;

/** Makes a mutex of class `cls`. The memory need not be zero. */
export function mtx_init<P extends number>(f: LockField<P>, p: P, cls: number): void {
  const l = p + f;
  mem.I32.fill(0, l, l + MTX_WORDS);
  mem.I32[l + LOCK_CLASS] = cls;
  if (opt.WITNESS) witness_init(l);
}
/** Takes the mutex, sleeping if need be. Throws EOWNERDEAD of a program's, as all of these. */
export function mtx_lock<P extends number>(f: LockField<P>, p: P): void {
  if (mtx_lock_word(p + f, Number.POSITIVE_INFINITY) !== 0) mtx_refused(p + f);
}
/** Takes the mutex, waiting at most `ms`. False: not taken. */
export function mtx_timedlock<P extends number>(f: LockField<P>, p: P, ms: number): boolean {
  const error = mtx_lock_word(p + f, ms);
  if (error === EOWNERDEAD) mtx_refused(p + f);
  return error === 0;
}
/** Takes the mutex if it is free now. */
export function mtx_trylock<P extends number>(f: LockField<P>, p: P): boolean {
  const error = mtx_trylock_word(p + f);
  if (error === EOWNERDEAD) mtx_refused(p + f);
  return error === 0;
}
/** The same for the mutex at word `l`. Returns 0, EWOULDBLOCK or EOWNERDEAD. */
export function mtx_trylock_word(l: number): number {
  if (atomic_cas(l, 0, thr.tid) !== 0) {
    const error = mtx_try_slow(l);
    if (error !== 0) return error;
  }
  if (opt.WITNESS) witness_lock(l, true);
  if (opt.MUTEX_PROFILING) prof_acquired(l, false, 0);
  return 0;
}
/** The same for a waiter that was told: the mutex may have been handed over to it. */
export function mtx_trylock_told(l: number): number {
  const v = atomic_load(l);
  if (word_owner(v) !== GRANT || atomic_cas(l, v, thr.tid | LK_WAITERS) !== v) {
    return mtx_trylock_word(l);
  }
  if (opt.WITNESS) witness_lock(l, true);
  if (opt.MUTEX_PROFILING) prof_acquired(l, true, 0);
  return 0;
}
function mtx_refused(l: number): never {
  throw new KmemError(EOWNERDEAD, 'mtx_lock', `${lock_name(l)}: ${mtx_why(l)}`);
}
/** What to say about EOWNERDEAD of the mutex at `l`. */
export function mtx_why(l: number): string {
  return `${abandoned_why(atomic_load(l), 'held it')}: recover it, or dispose of it`;
}
/** Gives the mutex back. */
export function mtx_unlock<P extends number>(f: LockField<P>, p: P): void {
  mtx_unlock_word(p + f);
}
/** Whether this CPU holds the mutex. */
export function mtx_owned<P extends number>(f: LockField<P>, p: P): boolean {
  return mtx_owned_word(p + f);
}
export function mtx_owned_word(l: number): boolean {
  return (mem.I32[l] & ~FLAGS) === thr.tid;
}
/** Panics, under INVARIANTS, unless this CPU holds the mutex. */
export function mtx_assert<P extends number>(f: LockField<P>, p: P): void {
  if (opt.INVARIANTS && !mtx_owned(f, p)) panic('mtx_assert: not owned', lock_name(p + f));
}

/** Takes the mutex at word `l`. Returns 0, EWOULDBLOCK after `ms`, or EOWNERDEAD. */
export function mtx_lock_word(l: number, ms: number): number {
  if (opt.WITNESS) witness_checkorder(l, true);
  if (atomic_cas(l, 0, thr.tid) !== 0) {
    const t0 = opt.MUTEX_PROFILING ? now_ms() : 0;
    if (opt.MUTEX_PROFILING) prof_contended(l);
    const error = mtx_lock_slow(l, ms);
    if (error !== 0) return error;
    if (opt.MUTEX_PROFILING) prof_acquired(l, true, now_ms() - t0);
  } else if (opt.MUTEX_PROFILING) prof_acquired(l, false, 0);
  if (opt.WITNESS) witness_lock(l, true);
  return 0;
}
export function mtx_unlock_word(l: number): void {
  if (opt.WITNESS) witness_unlock(l, true);
  if (opt.MUTEX_PROFILING) prof_released(l);
  if (atomic_cas(l, thr.tid, 0) !== thr.tid) mtx_unlock_slow(l);
}

function mtx_try_slow(l: number): number {
  const v = atomic_load(l);
  if ((v & ~FLAGS) === thr.tid) return recurse(l);
  return abandoned(v) ? EOWNERDEAD : EWOULDBLOCK;
}
function recurse(l: number): number {
  if (!lock_order[mem.I32[l + LOCK_CLASS]].recurse) {
    panic('mtx_lock: recursion on a lock that forbids it', lock_name(l));
  }
  mem.I32[l + RECURSE]++;
  atomic_or(l, LK_RECURSED);
  return 0;
}

/** The state of one wait for a lock. */
interface Wait {
  slept: boolean;
  told: boolean;
  spins: number;
  slice: number;
  readonly start: number;
  readonly deadline: number;
}

function mtx_lock_slow(l: number, ms: number): number {
  poll();
  const start = now_ms();
  const w: Wait = {
    slept: false,
    told: false,
    spins: spins_allowed(),
    slice: sysctl_get(lock_slice),
    start,
    deadline: start + ms,
  };
  for (;;) {
    let v = atomic_load(l);
    const owner = v & ~FLAGS;
    if (owner === thr.tid) return recurse(l);
    if (owner === 0) {
      if (atomic_cas(l, v, thr.tid | v | (w.slept ? LK_WAITERS : 0)) === v) return 0;
      continue;
    }
    if (owner === GRANT && w.told) {
      if (atomic_cas(l, v, thr.tid | LK_WAITERS) === v) return 0;
      continue;
    }
    if (abandoned(v)) return EOWNERDEAD; // whoever waited was told: no wake-up to pass on
    if (owner !== GRANT && (v & LK_WAITERS) === 0 && w.spins > 0 && tid_runs(owner)) {
      w.spins--;
      cpu_spinwait();
      poll();
      continue;
    }
    if ((v & LK_WAITERS) === 0) {
      if (atomic_cas(l, v, v | LK_WAITERS) !== v) continue;
      v |= LK_WAITERS;
    }
    const now = now_ms();
    if (w.slept && (v & LK_HANDOFF) === 0 && owner !== GRANT && now - start > HANDOFF_AFTER_MS) {
      if (atomic_cas(l, v, v | LK_HANDOFF) !== v) continue;
      v |= LK_HANDOFF;
    }
    if (now >= w.deadline) {
      mtx_leave(l, w.told);
      return EWOULDBLOCK;
    }
    if (!mtx_wait(l, v, w, now)) continue;
    if (owner !== GRANT && !w.told && mtx_owner_dead(l, v, w)) return 0;
  }
}

/** One slice of waiting. False: the word had changed before it began. */
function mtx_wait(l: number, v: number, w: Wait, now: number): boolean {
  park();
  atomic_store(field_word(pcpu.waiting, thr.pc), l);
  const r = atomic_wait(l, v, Math.min(w.slice, w.deadline - now));
  atomic_store(field_word(pcpu.waiting, thr.pc), 0);
  unpark();
  if (r === 'not-equal') return false;
  w.slept = true;
  w.told = r === 'ok';
  w.spins = w.told ? spins_allowed() : 0;
  if (!w.told) {
    w.slice = Math.min(w.slice * 2, SLICE_MAX_MS);
    // A grant that stood through a whole slice was meant for a waiter that is gone.
    if ((v & ~FLAGS) === GRANT && atomic_cas(l, v, 0) === v) atomic_notify(l, 1);
  }
  return true;
}

/** After a slice in vain: is the owner dead, or silent for too long? */
function mtx_owner_dead(l: number, v: number, w: Wait): boolean {
  const seen = atomic_load(l);
  const owner = seen & ~FLAGS;
  if (owner !== (v & ~FLAGS) || owner === 0) return false;
  if (tid_alive(owner)) {
    const silent = now_ms() - w.start > sysctl_get(deadlkres) * 1000;
    if (silent && !host_sees_threads() && !opt.SIM) {
      panic(`cpu${thr.cpu} waited ${sysctl_get(deadlkres)} s for lock`, lock_name(l));
    }
    return false;
  }
  reap_want();
  if (mtx_abandon(l, owner)) return false;
  if (!lock_take_over(l, seen, owner, thr.tid | LK_WAITERS)) return false;
  mem.I32[l + RECURSE] = 0;
  return true;
}

/** How long to spin: not at all when CPUs outnumber cores. */
export function spins_allowed(): number {
  return machine.attached[M] > machine.host_cpus[M] // a hint is enough
    ? 0
    : sysctl_get(spin_rounds);
}
/** A hint: the owner is neither asleep in the kernel nor gone. */
export function tid_runs(tid: number): boolean {
  const cpu = tid_cpu(tid);
  if (cpu < 0 || cpu >= cpu_slots()) return false;
  return (atomic_load(field_word(pcpu.state, pcpu_of(cpu))) & (CPU_PARKED | CPU_DEAD)) === 0;
}

/** A waiter gives up: a wake-up that it was `told` goes to the next. */
export function mtx_leave(l: number, told: boolean): void {
  while (told) {
    const v = atomic_load(l);
    const owner = v & ~FLAGS;
    if (owner === GRANT) {
      if (atomic_cas(l, v, 0) !== v) continue;
      atomic_notify(l, 1);
      break;
    }
    if (owner === 0) {
      atomic_notify(l, 1);
      break;
    }
    if (abandoned(v)) break; // all were woken
    if (atomic_cas(l, v, v | LK_WAITERS) === v) break;
  }
}

function mtx_unlock_slow(l: number): void {
  const v = atomic_load(l);
  if ((v & ~FLAGS) !== thr.tid) panic('mtx_unlock: not owned', lock_name(l), `word ${v}`);
  if (v & LK_RECURSED) {
    if (--mem.I32[l + RECURSE] === 0) atomic_and(l, ~LK_RECURSED);
    return;
  }
  if (v & LK_HANDOFF) {
    atomic_store(l, GRANT | LK_WAITERS);
    if (atomic_notify(l, 1) === 0 && atomic_cas(l, GRANT | LK_WAITERS, 0) === (GRANT | LK_WAITERS))
      atomic_notify(l, 1);
  } else {
    atomic_store(l, 0);
    atomic_notify(l, 1);
  }
}

// --- a program's mutex outlives its owner ----------------------------------------

/**
 * Abandons the mutex if the thread `tid` holds it and it is the program's:
 * whoever waits is woken and told.  That thread is this one, or it is gone.
 * True if the mutex is abandoned by now.
 */
export function mtx_abandon(l: number, tid: number): boolean {
  return abandon(l, tid, abandoned_word(tid));
}
function abandon(l: number, tid: number, word: number): boolean {
  if (lock_order[mem.I32[l + LOCK_CLASS]].recovery !== 'abandon') return false;
  for (;;) {
    const v = atomic_load(l);
    if (word_owner(v) !== tid) return abandoned(v);
    if (atomic_cas(l, v, word) === v) break;
  }
  atomic_notify(l, ALL);
  return true;
}
/** Whoever meets a mutex whose owner is gone abandons it. True if it is abandoned by now. */
export function mtx_settle(l: number): boolean {
  const v = atomic_load(l);
  if (abandoned(v)) return true;
  const owner = word_owner(v);
  if (owner === 0 || owner === GRANT || tid_alive(owner)) return false;
  reap_want();
  return mtx_abandon(l, owner);
}
/** Takes a mutex that was abandoned. False: it was not, and is not taken. */
export function mtx_recover(l: number): boolean {
  if (!mtx_settle(l)) return false;
  const v = atomic_load(l);
  if (!abandoned(v) || atomic_cas(l, v, thr.tid) !== v) return false;
  if (opt.WITNESS) witness_lock(l, true);
  if (opt.MUTEX_PROFILING) prof_acquired(l, false, 0);
  return true;
}
/** Gives a mutex back that could not be recovered: it is abandoned still. */
export function mtx_unrecover(l: number): void {
  if (opt.WITNESS) witness_unlock(l, true);
  if (opt.MUTEX_PROFILING) prof_released(l);
  abandon(l, thr.tid, unrecovered_word(thr.tid));
}
/** Ends a mutex that nobody has: from here on it is abandoned. False: somebody has it. */
export function mtx_end(l: number): boolean {
  for (;;) {
    const v = atomic_load(l);
    if (abandoned(v)) return true; // its word says whom it lost
    if (v !== 0) return false;
    if (atomic_cas(l, 0, abandoned_word(thr.tid)) === 0) return true;
  }
}
