/*
 * kern_mutex: the sleep mutex.
 *
 *      word   0 WAITERS · 1 RECURSED · 2 HANDOFF · 3..10 slot + 1 · 11..30 incarnation
 *
 *      free             0
 *      locked           tid
 *      locked, waiters  tid|WAITERS (|HANDOFF)
 *      granted          GRANT|WAITERS: owned by nobody, for a waiter that was told
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
 * looks whether the owner still lives, and takes the lock over if not
 * (robust.ts).  The protocol is modelled in models/mutex.pml.
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
import { M, machine } from '../machine/header.ts';
import { host_sees_threads } from '../machine/host.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { field_word, type LockField } from '../machine/struct.ts';
import { sysctl_get, sysctl_int } from '../machine/sysctl_decl.ts';
import { lock_order } from './lock_order.ts';
import { prof_acquired, prof_contended, prof_released } from './lock_prof.ts';
import { LOCK_CLASS, lock_take_over } from './robust.ts';
import { witness_checkorder, witness_init, witness_lock, witness_unlock } from './witness.ts';

export const MTX_WORDS = 4;
export const LK_WAITERS = 1;
export const LK_RECURSED = 2;
export const LK_HANDOFF = 4;
const FLAGS = 7;
const GRANT = 127 << 3;
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

/** What a lock is called in messages: its class and address. */
export function lock_name(l: number): string {
  return `'${lock_order[mem.I32[l + LOCK_CLASS]]?.name ?? '?'}' at ${l * 4}`;
}

/** Makes a mutex of class `cls`. The memory need not be zero. */
export function mtx_init<P extends number>(f: LockField<P>, p: P, cls: number): void {
  const l = p + f;
  mem.I32.fill(0, l, l + MTX_WORDS);
  mem.I32[l + LOCK_CLASS] = cls;
  if (opt.WITNESS) witness_init(l);
}
/** Takes the mutex, sleeping if need be. */
export function mtx_lock<P extends number>(f: LockField<P>, p: P): void {
  mtx_lock_word(p + f, Number.POSITIVE_INFINITY);
}
/** Takes the mutex, waiting at most `ms`. False: not taken. */
export function mtx_timedlock<P extends number>(f: LockField<P>, p: P, ms: number): boolean {
  return mtx_lock_word(p + f, ms);
}
/** Takes the mutex if it is free now. */
export function mtx_trylock<P extends number>(f: LockField<P>, p: P): boolean {
  const l = p + f;
  if (atomic_cas(l, 0, thr.tid) !== 0 && !mtx_try_slow(l)) return false;
  if (opt.WITNESS) witness_lock(l, true);
  if (opt.MUTEX_PROFILING) prof_acquired(l, false, 0);
  return true;
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

/** The mutex at word `l`, for code that has only the address. */
export function mtx_lock_word(l: number, ms: number): boolean {
  if (opt.WITNESS) witness_checkorder(l, true);
  if (atomic_cas(l, 0, thr.tid) !== 0) {
    const t0 = opt.MUTEX_PROFILING ? now_ms() : 0;
    if (opt.MUTEX_PROFILING) prof_contended(l);
    if (!mtx_lock_slow(l, ms)) return false;
    if (opt.MUTEX_PROFILING) prof_acquired(l, true, now_ms() - t0);
  } else if (opt.MUTEX_PROFILING) prof_acquired(l, false, 0);
  if (opt.WITNESS) witness_lock(l, true);
  return true;
}
export function mtx_unlock_word(l: number): void {
  if (opt.WITNESS) witness_unlock(l, true);
  if (opt.MUTEX_PROFILING) prof_released(l);
  if (atomic_cas(l, thr.tid, 0) !== thr.tid) mtx_unlock_slow(l);
}

function mtx_try_slow(l: number): boolean {
  const v = atomic_load(l);
  return (v & ~FLAGS) === thr.tid && recurse(l);
}
function recurse(l: number): boolean {
  if (!lock_order[mem.I32[l + LOCK_CLASS]].recurse) {
    panic('mtx_lock: recursion on a lock that forbids it', lock_name(l));
  }
  mem.I32[l + RECURSE]++;
  atomic_or(l, LK_RECURSED);
  return true;
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

function mtx_lock_slow(l: number, ms: number): boolean {
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
      if (atomic_cas(l, v, thr.tid | v | (w.slept ? LK_WAITERS : 0)) === v) return true;
      continue;
    }
    if (owner === GRANT && w.told) {
      if (atomic_cas(l, v, thr.tid | LK_WAITERS) === v) return true;
      continue;
    }
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
    if (now >= w.deadline) return mtx_leave(l, w.told);
    if (!mtx_wait(l, v, w, now)) continue;
    if (owner !== GRANT && !w.told && mtx_owner_dead(l, v, w)) return true;
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
  if (!lock_take_over(l, seen, owner, thr.tid | LK_WAITERS)) return false;
  mem.I32[l + RECURSE] = 0;
  return true;
}

/** How long to spin: not at all when CPUs outnumber cores. */
function spins_allowed(): number {
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

/** A waiter gives up: a wake-up that was spent on it goes to the next. */
function mtx_leave(l: number, told: boolean): boolean {
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
    if (atomic_cas(l, v, v | LK_WAITERS) === v) break;
  }
  return false;
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
