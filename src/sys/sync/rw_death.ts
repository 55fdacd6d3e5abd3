/*
 * rw_death: what a thread that died or left has of rw and sx locks, and how it is settled.
 *
 * A death at any instruction leaves words from which the rest follows:
 *
 *      it left                                then
 *      a word that names L                    cleared; a writer is told if nobody reads L now
 *      WRITE, taking = L, not taking over     it has changed nothing: released
 *      WRITE, taking = L, taking over         the chain of takers is followed (lock_takeover.ts)
 *      WRITE, taking something else           by the class of L; a program's is abandoned
 *      taking = L, L not its own              it may have owed a wake-up: all who wait look again
 *
 * `taking` is set before the first compare-and-swap and cleared after the last
 * look at the rows.  Each step is one compare-and-swap, and may be done twice.
 *
 * Two may do it: the reaper, for all that a CPU left (rw_reap); and a waiter
 * whose slice ended in vain, for the lock that it wants (after_slice).  Both
 * have claimed the death, so that the slot does not get a new owner meanwhile.
 * A word whose owner's slot has moved on was not in `taking`: the reaper has
 * settled that before.
 *
 * A slot is free only when its row and `taking` are 0.
 */
import { atomic_cas, atomic_load, atomic_xchg } from '../machine/atomic.ts';
import { cpu_slots, pcpu, pcpu_of, row_of, thr, tid_cpu } from '../machine/cpu.ts';
import { cpu_alive, dead_each, reap_want, settled_here, slot_tid } from '../machine/death.ts';
import { tid_alive, tid_left_here } from '../machine/death.ts';
import { ROW_KERNEL_WORDS, ROW_PROGRAM_WORDS } from '../machine/hw.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { prof_acquired, prof_released, witness_lock, witness_unlock } from '../machine/parts.ts';
import { lock_order } from './lock_order.ts';
import { lock_take_over } from './lock_takeover.ts';
import {
  abandoned,
  abandoned_word,
  LOCK_CLASS,
  RW_FLAGS,
  RW_READERS,
  RW_WRITE,
  RW_WRITERS,
  word_owner,
  unrecovered_word,
} from './lock_word.ts';
import { row_word } from './rw_row.ts';
import { give_up, look, rw_release, tell_writer, wake_after, wake_all } from './rw_wake.ts';

const ROW_HOLDS = ROW_KERNEL_WORDS + ROW_PROGRAM_WORDS;

/** A waiter's slice ended in vain: settles of the lock `l` what the dead left. */
export function after_slice(l: number, writer: boolean): void {
  const v = atomic_load(l);
  if (v & RW_WRITE) {
    if (!abandoned(v)) writer_dead(l, v);
    return;
  }
  dead_each((cpu) => {
    reap_want();
    settle_reads(cpu, l);
  });
  const barred = (atomic_load(l) & (RW_WRITERS | RW_WRITE)) === RW_WRITERS;
  if (!writer && barred && !wanted(l)) give_up(l);
}
/**
 * Whether a living CPU is trying to write the lock, so that WW is not what a dead
 * one left.  It named the lock before it set WW; if it has given up since, the next
 * slice finds that out.
 */
function wanted(l: number): boolean {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (pcpu.rw_taking[pcpu_of(cpu)] === l && cpu_alive(cpu)) return true;
  }
  return false;
}
function writer_dead(l: number, v: number): void {
  const tid = word_owner(v);
  if (tid_alive(tid)) return;
  reap_want();
  const cpu = tid_cpu(tid);
  // An heir has settled `taking` of its own record before it wants any lock; whoever settles
  // the owner, and needs the lock for that, has settled the owner's.
  const settled = cpu === thr.cpu || !tid_left_here(tid) || settled_here(cpu);
  if (settled) return settle_writer(l, tid, false);
  dead_each((dead) => {
    if (dead === cpu && tid_left_here(tid)) settle_writer(l, tid, only_took(dead, l));
  });
}
/** Whether a dead CPU was still looking for readers of the lock that its word names. */
function only_took(cpu: number, l: number): boolean {
  const pc = pcpu_of(cpu);
  return pcpu.rw_taking[pc] === l && pcpu.recover_lock[pc] !== l;
}
/** Ends the exclusive hold of a dead thread. */
function settle_writer(l: number, tid: number, only_took: boolean): void {
  if (only_took) return untake(l, tid);
  if (lock_order[mem.I32[l + LOCK_CLASS]].recovery === 'abandon') {
    rw_abandon(l, tid);
    return;
  }
  const v = atomic_load(l);
  if ((v & ~RW_FLAGS) !== (RW_WRITE | tid)) return;
  rw_reap_taken(l, v, tid);
}
/** Takes a lock over that a dead thread wrote, or had from `from`, and gives it back. */
export function rw_reap_taken(l: number, v: number, from: number): void {
  if (lock_take_over(l, v, from, RW_WRITE | thr.tid | (v & RW_FLAGS))) rw_release(l);
}
/** Frees a lock whose writer died before it changed anything. */
function untake(l: number, tid: number): void {
  for (;;) {
    const v = atomic_load(l);
    if ((v & ~RW_FLAGS) !== (RW_WRITE | tid)) return;
    if (atomic_cas(l, v, v & RW_READERS) === v) return wake_after(l, v);
  }
}
/**
 * Abandons the lock if the thread `tid` holds it exclusively: whoever waits is
 * woken and told.  That thread is this one, or it is gone and what it only took
 * has been released (rw_reap).  True if this call did it.
 */
export function rw_abandon(l: number, tid: number): boolean {
  return abandon(l, tid, abandoned_word(tid));
}
function abandon(l: number, tid: number, word: number): boolean {
  for (;;) {
    const v = atomic_load(l);
    if ((v & ~RW_FLAGS) !== (RW_WRITE | tid)) return false;
    if (atomic_cas(l, v, RW_WRITE | word) === v) break;
  }
  wake_all(l);
  return true;
}
/** Takes an abandoned lock exclusively. Nobody reads it, so there is no look. False: it is good. */
export function rw_recover(l: number): boolean {
  if (!rw_settle(l)) return false;
  const v = atomic_load(l);
  if (!abandoned(v) || atomic_cas(l, v, RW_WRITE | thr.tid) !== v) return false;
  if (opt.WITNESS) witness_lock(l, true);
  if (opt.MUTEX_PROFILING) prof_acquired(l, false, 0);
  return true;
}
/** Gives a lock back that could not be recovered: it is abandoned still. */
export function rw_unrecover(l: number): void {
  if (opt.WITNESS) witness_unlock(l, true);
  if (opt.MUTEX_PROFILING) prof_released(l);
  abandon(l, thr.tid, unrecovered_word(thr.tid));
}
/** Settles of the lock what the dead left. True if it is abandoned by now. */
export function rw_settle(l: number): boolean {
  after_slice(l, true);
  return abandoned(atomic_load(l));
}

/** Gives the exclusive hold of a dead CPU, whose log names the lock, back. */
export function rw_reap_write(l: number, cpu: number): void {
  settle_writer(l, writer_on(l, cpu), only_took(cpu, l));
}
/** Who of the owners of slot `cpu` holds the lock alone: of an heir's slot, one before it. */
function writer_on(l: number, cpu: number): number {
  const tid = word_owner(atomic_load(l));
  return tid_cpu(tid) === cpu && tid_left_here(tid) ? tid : slot_tid(cpu);
}
/**
 * Settles all that a dead CPU has of rw and sx locks, but the exclusive holds
 * that no log names: those go by rw_abandon, after this, or when somebody wants
 * the lock.
 */
export function rw_reap(cpu: number): void {
  const pc = pcpu_of(cpu);
  const l = pcpu.rw_taking[pc];
  if (l !== 0) {
    if (only_took(cpu, l)) untake(l, writer_on(l, cpu));
    give_up(l);
  }
  settle_reads(cpu, 0);
  atomic_xchg(row_of(cpu), 0);
  pcpu.rw_taking[pc] = 0;
}
/** Clears the words of a CPU that name the lock `l`, or all of them with 0. */
function settle_reads(cpu: number, l: number): void {
  for (let i = 0; i < ROW_HOLDS; i++) {
    const at = row_word(row_of(cpu), i);
    const held = atomic_load(at);
    if (held === 0 || (l !== 0 && held !== l)) continue;
    atomic_cas(at, held, 0);
    // Told in any case: who cleared it before may have died before it told.
    if ((atomic_load(held) & (RW_WRITERS | RW_WRITE)) === RW_WRITERS) tell_writer(held);
  }
}
/** This CPU leaves: gives back all that it reads. It waits for no lock. */
export function rw_leave(): void {
  settle_reads(thr.cpu, 0);
  atomic_xchg(thr.row, 0);
  pcpu.rw_taking[thr.pc] = 0;
  pcpu.rw_used[thr.pc] = 0;
}
/** A CPU that has the lock in any way, or is about to; -1: nobody has. A sample. */
export function rw_user(l: number): number {
  const v = atomic_load(l);
  if (v & RW_WRITE && !abandoned(v)) return tid_cpu(word_owner(v));
  return rw_other(l);
}
/** A CPU other than this one whose row or `taking` names the lock; -1: none. */
function rw_other(l: number): number {
  const reader = look(l, -1);
  if (reader !== 0) return reader - 1;
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (cpu !== thr.cpu && pcpu.rw_taking[pcpu_of(cpu)] === l) return cpu;
  }
  return -1;
}
/**
 * Ends the lock: from here on it is abandoned, and whoever comes late is told.
 * Looking alone would not do: a reader may announce itself behind the look, so the
 * lock is taken first.  Returns -1, or the CPU that has it; the dead should be
 * settled before.
 */
export function rw_end(l: number): number {
  const pc = thr.pc;
  for (;;) {
    const v = atomic_load(l);
    const good = (v & RW_WRITE) === 0;
    if (!good && !abandoned(v)) return tid_cpu(word_owner(v));
    // Of an abandoned lock `taking` would say that a death in here makes it good.
    if (good) pcpu.rw_taking[pc] = l;
    const took = atomic_cas(l, v, (good ? v : 0) | RW_WRITE | thr.tid) === v;
    const by = took ? rw_other(l) : -1;
    if (took && by >= 0 && good) rw_release(l);
    pcpu.rw_taking[pc] = 0;
    if (!took) continue;
    // The word of a lock that was abandoned before says whom it lost: it stays.
    if (by < 0 || !good) abandon(l, thr.tid, good ? abandoned_word(thr.tid) : v);
    return by;
  }
}
