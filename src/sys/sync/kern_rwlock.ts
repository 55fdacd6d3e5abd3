/*
 * kern_rwlock: rw and sx, shared/exclusive locks; one implementation, two classes.
 *
 * An rw lock must not be held while sleeping, an sx lock may be; WITNESS knows
 * by the class.  Six words: w, class, spare, rseq, wseq, spare.
 *
 *      w   0 RW readers wait · 1 WW writers wait · 2 WRITE · 3..30 readers, or the writer's tid
 *
 * Waiters sleep on two event counts, so that a waker can choose a kind.  The
 * count is read before the flag is set and goes up after the flag is cleared:
 * no wake-up falls between.  WW keeps new readers out (writers go first), save
 * for a CPU that already holds some read lock and would wait for itself.
 *
 * Read holds are always noted in the CPU's held[] list: when a thread dies its
 * read holds are taken off the lock's count.  `pending` brackets the moment in
 * which count and list disagree; a death inside it is a panic.
 *
 * Modelled in models/rw.pml.
 */
import {
  atomic_add,
  atomic_and,
  atomic_cas,
  atomic_load,
  atomic_notify,
  atomic_store,
  atomic_wait,
} from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import { HELD_MAX, park, pcpu, pcpu_of, poll, thr, tid_cpu, unpark } from '../machine/cpu.ts';
import { dead_each, reap_want, tid_alive } from '../machine/death.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word, type LockField } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { lock_name, lock_slice } from './kern_mutex.ts';
import { prof_acquired, prof_contended, prof_released } from './lock_prof.ts';
import { LOCK_CLASS, lock_take_over } from './robust.ts';
import { witness_checkorder, witness_init, witness_lock, witness_unlock } from './witness.ts';

export const RW_WORDS = 6;
const RW = 1;
const WW = 2;
const WRITE = 4;
const ONE = 8;
const FLAGS = 3;
const RSEQ = 3;
const WSEQ = 4;
const ALL = 1 << 20;
export const HELD_READ = 1;

const readers = (v: number): number => (v & WRITE ? 0 : v >> 3);
const writer = (v: number): number => (v & WRITE ? v & ~7 : 0);

/** Makes an rw or sx lock of class `cls`. */
export function rw_init<P extends number>(f: LockField<P>, p: P, cls: number): void {
  const l = p + f;
  mem.I32.fill(0, l, l + RW_WORDS);
  mem.I32[l + LOCK_CLASS] = cls;
  if (opt.WITNESS) witness_init(l);
}
/** Takes the lock shared. */
export function rw_rlock<P extends number>(f: LockField<P>, p: P): void {
  rlock(p + f, Number.POSITIVE_INFINITY);
}
/** Takes the lock shared, waiting at most `ms`. */
export function rw_timedrlock<P extends number>(f: LockField<P>, p: P, ms: number): boolean {
  return rlock(p + f, ms);
}
/** Takes the lock exclusively. */
export function rw_wlock<P extends number>(f: LockField<P>, p: P): void {
  wlock(p + f, Number.POSITIVE_INFINITY);
}
/** Takes the lock exclusively, waiting at most `ms`. False: not taken. */
export function rw_timedwlock<P extends number>(f: LockField<P>, p: P, ms: number): boolean {
  return wlock(p + f, ms);
}
/** Gives a shared hold back. */
export function rw_runlock<P extends number>(f: LockField<P>, p: P): void {
  runlock(p + f);
}
/** Gives the exclusive hold back. */
export function rw_wunlock<P extends number>(f: LockField<P>, p: P): void {
  const l = p + f;
  if (opt.WITNESS) witness_unlock(l, true);
  if (opt.MUTEX_PROFILING) prof_released(l);
  if (writer(atomic_load(l)) !== thr.tid) panic('rw_wunlock: not owned', lock_name(l));
  release_write(l);
}
/** Whether this CPU holds the lock exclusively. */
export function rw_wowned<P extends number>(f: LockField<P>, p: P): boolean {
  return writer(mem.I32[p + f]) === thr.tid;
}
/** Panics, under INVARIANTS, unless the lock is held in some way. */
export function rw_assert<P extends number>(f: LockField<P>, p: P, exclusive: boolean): void {
  if (!opt.INVARIANTS) return;
  const ok = rw_wowned(f, p) || (!exclusive && held_find(p + f) >= 0);
  if (!ok) panic('rw_assert: not held', lock_name(p + f), exclusive ? 'exclusive' : 'shared');
}

// --- read holds --------------------------------------------------------------

function held_push(l: number): void {
  const n = pcpu.held_n[thr.pc];
  if (n >= HELD_MAX) panic('rw_rlock: more locks held than can be noted', n);
  pcpu.held[elem(thr.pc, n * 2)] = l;
  pcpu.held[elem(thr.pc, n * 2 + 1)] = HELD_READ;
  pcpu.held_n[thr.pc] = n + 1;
}
function held_find(l: number): number {
  for (let i = pcpu.held_n[thr.pc] - 1; i >= 0; i--) {
    if (pcpu.held[elem(thr.pc, i * 2)] === l && pcpu.held[elem(thr.pc, i * 2 + 1)] === HELD_READ)
      return i;
  }
  return -1;
}
function held_pop(l: number): void {
  const at = held_find(l);
  if (at < 0) panic('rw_runlock: not held shared', lock_name(l));
  const last = pcpu.held_n[thr.pc] - 1;
  for (let i = at * 2; i < last * 2; i++) {
    pcpu.held[elem(thr.pc, i)] = pcpu.held[elem(thr.pc, i + 2)];
  }
  pcpu.held_n[thr.pc] = last;
}
function holds_reads(): boolean {
  for (let i = 0; i < pcpu.held_n[thr.pc]; i++) {
    if (pcpu.held[elem(thr.pc, i * 2 + 1)] === HELD_READ) return true;
  }
  return false;
}

// --- taking and giving back --------------------------------------------------

function rlock(l: number, ms: number): boolean {
  if (opt.WITNESS) witness_checkorder(l, false);
  const t0 = now_ms();
  const block = holds_reads() ? WRITE : WRITE | WW;
  let slice = sysctl_get(lock_slice);
  let waited = false;
  for (;;) {
    let v = atomic_load(l);
    if ((v & block) === 0) {
      if (readable(l, v)) break;
      continue;
    }
    const s = atomic_load(l + RSEQ);
    v = atomic_load(l);
    if ((v & block) === 0) continue;
    if (now_ms() - t0 >= ms) return false; // flags left behind cost one needless wake-up
    if (atomic_cas(l, v, v | RW) !== v) continue;
    if (opt.MUTEX_PROFILING && !waited) prof_contended(l);
    waited = true;
    if (event_wait(l + RSEQ, s, Math.min(slice, ms - (now_ms() - t0))) === 'timed-out') {
      slice = Math.min(slice * 2, 1000);
      writer_dead(l, false);
    }
  }
  if (opt.MUTEX_PROFILING) prof_acquired(l, waited, now_ms() - t0);
  if (opt.WITNESS) witness_lock(l, false);
  return true;
}
function readable(l: number, v: number): boolean {
  pcpu.pending[thr.pc] = l;
  const ok = atomic_cas(l, v, v + ONE) === v;
  if (ok) held_push(l);
  pcpu.pending[thr.pc] = 0;
  return ok;
}
function runlock(l: number): void {
  if (opt.WITNESS) witness_unlock(l, false);
  if (opt.MUTEX_PROFILING) prof_released(l);
  pcpu.pending[thr.pc] = l;
  held_pop(l);
  drop_reader(l);
}
/** Takes one reader off the count; the last one wakes whoever waits. */
function drop_reader(l: number): void {
  for (;;) {
    const v = atomic_load(l);
    if (readers(v) > 1 || (v & FLAGS) === 0) {
      if (atomic_cas(l, v, v - ONE) !== v) continue;
      pcpu.pending[thr.pc] = 0;
      return;
    }
    if (atomic_cas(l, v, (v - ONE) & ~WW) === v) {
      pcpu.pending[thr.pc] = 0;
      return wake_after(l, v & FLAGS);
    }
  }
}
function wlock(l: number, ms: number): boolean {
  if (opt.WITNESS) witness_checkorder(l, true);
  const t0 = now_ms();
  let slept = false;
  let slice = sysctl_get(lock_slice);
  for (;;) {
    let v = atomic_load(l);
    if ((v & ~FLAGS) === 0) {
      if (atomic_cas(l, v, WRITE | thr.tid | v | (slept ? WW : 0)) === v) break;
      continue;
    }
    if (writer(v) === thr.tid) panic('rw_wlock: already owned', lock_name(l));
    const s = atomic_load(l + WSEQ);
    v = atomic_load(l);
    if ((v & ~FLAGS) === 0) continue;
    if (atomic_cas(l, v, v | WW) !== v) continue;
    const left = ms - (now_ms() - t0);
    if (left <= 0) return give_up(l);
    if (opt.MUTEX_PROFILING && !slept) prof_contended(l);
    if (event_wait(l + WSEQ, s, Math.min(slice, left)) === 'timed-out') {
      slice = Math.min(slice * 2, 1000);
      if (writer_dead(l, true)) break;
    }
    slept = true;
  }
  if (opt.MUTEX_PROFILING) prof_acquired(l, slept, now_ms() - t0);
  if (opt.WITNESS) witness_lock(l, true);
  return true;
}
/** A writer that stops waiting wakes everybody: its flag kept readers out. */
function give_up(l: number): boolean {
  atomic_and(l, ~FLAGS);
  atomic_add(l + RSEQ, 1);
  atomic_notify(l + RSEQ, ALL);
  atomic_add(l + WSEQ, 1);
  atomic_notify(l + WSEQ, ALL);
  return false;
}
function release_write(l: number): void {
  for (;;) {
    const v = atomic_load(l);
    if (atomic_cas(l, v, v & RW) === v) return wake_after(l, v & FLAGS);
  }
}
function wake_after(l: number, flags: number): void {
  let n = 0;
  if (flags & WW) {
    atomic_add(l + WSEQ, 1);
    n = atomic_notify(l + WSEQ, 1);
  }
  if (n === 0 && flags & RW) {
    atomic_and(l, ~RW);
    atomic_add(l + RSEQ, 1);
    atomic_notify(l + RSEQ, ALL);
  }
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
/** After a slice in vain: takes the lock over from a dead writer, and keeps it if `keep`. */
function writer_dead(l: number, keep: boolean): boolean {
  const v = atomic_load(l);
  const owner = writer(v);
  if (owner === 0 || tid_alive(owner)) {
    if (readers(v) > 0) {
      // The holds of dead readers go at once: everybody else may be waiting here too.
      dead_each((cpu) => {
        reap_want();
        settle_reads(cpu, l);
      });
    }
    return false;
  }
  reap_want();
  if (!lock_take_over(l, v, owner, WRITE | thr.tid | (v & FLAGS))) return false;
  if (!keep) release_write(l);
  return keep;
}

/** Turns the only shared hold into the exclusive one. False: still shared. */
export function rw_try_upgrade<P extends number>(f: LockField<P>, p: P): boolean {
  const l = p + f;
  const v = atomic_load(l);
  if (readers(v) !== 1) return false;
  pcpu.pending[thr.pc] = l;
  const ok = atomic_cas(l, v, WRITE | thr.tid | (v & FLAGS)) === v;
  if (ok) held_pop(l);
  pcpu.pending[thr.pc] = 0;
  if (ok && opt.WITNESS) {
    witness_unlock(l, false);
    witness_lock(l, true);
  }
  return ok;
}
/** Turns the exclusive hold into a shared one. */
export function rw_downgrade<P extends number>(f: LockField<P>, p: P): void {
  const l = p + f;
  if (writer(atomic_load(l)) !== thr.tid) panic('rw_downgrade: not owned', lock_name(l));
  if (opt.WITNESS) witness_unlock(l, true);
  for (;;) {
    const v = atomic_load(l);
    const next = ONE | (v & WW ? v & FLAGS : 0);
    pcpu.pending[thr.pc] = l;
    const ok = atomic_cas(l, v, next) === v;
    if (ok) held_push(l);
    pcpu.pending[thr.pc] = 0;
    if (!ok) continue;
    if ((v & FLAGS) === RW) {
      atomic_add(l + RSEQ, 1);
      atomic_notify(l + RSEQ, ALL);
    }
    break;
  }
  if (opt.WITNESS) witness_lock(l, false);
}

/** Takes the exclusive hold of a dead CPU over, and gives the lock back. */
export function rw_reap_write(l: number, cpu: number): void {
  const v = atomic_load(l);
  const owner = writer(v);
  if (owner === 0 || tid_cpu(owner) !== cpu) return;
  if (lock_take_over(l, v, owner, WRITE | thr.tid | (v & FLAGS))) release_write(l);
}
/** Takes the read holds of a dead CPU off their locks. */
export function rw_reap(cpu: number): void {
  settle_reads(cpu, 0);
  pcpu.held_n[pcpu_of(cpu)] = 0;
}
/**
 * Takes what a dead CPU holds shared off lock `l`, or off all locks with 0.  A
 * waiter and the reaper may both be at it: each noted hold is claimed by one
 * compare-and-swap, so that no two settle it.  Takes no lock.
 */
function settle_reads(cpu: number, l: number): void {
  const pc = pcpu_of(cpu);
  const unknown = pcpu.pending[pc];
  if (unknown !== 0 && (l === 0 || l === unknown)) {
    panic(`cpu${cpu} died while its hold was unknown of lock`, lock_name(unknown));
  }
  for (let i = pcpu.held_n[pc] - 1; i >= 0; i--) {
    const held = pcpu.held[elem(pc, i * 2)];
    if (held === 0 || pcpu.held[elem(pc, i * 2 + 1)] !== HELD_READ) continue;
    if (l !== 0 && held !== l) continue;
    pcpu.pending[thr.pc] = held;
    if (atomic_cas(field_word(pcpu.held, elem(pc, i * 2)), held, 0) === held) drop_reader(held);
    pcpu.pending[thr.pc] = 0;
  }
}
