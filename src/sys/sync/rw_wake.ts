/*
 * rw_wake: who reads an rw or sx lock, and who is told when that changes.
 *
 *      leaving a read hold    WW set: look; nobody reads any more: one writer
 *      freeing from WRITE     WW: one writer; there was none, or no WW: all readers
 *      giving up, abandoning  everybody
 *
 * Readers sleep on rseq, writers on wseq.  To wake is to raise the count and
 * then to notify; a sleeper that has read the count before does not fall asleep.
 */
import {
  atomic_add,
  atomic_and,
  atomic_cas,
  atomic_load,
  atomic_look,
  atomic_notify,
} from '../machine/atomic.ts';
import { thr } from '../machine/cpu.ts';
import { M, machine as machine_ } from '../machine/header.ts';
import { mem as mem_ } from '../machine/memory.ts';
import { field_word } from '../machine/struct.ts';
import { user_class } from './lock_order.ts';
import {
  LOCK_CLASS as LOCK_CLASS_,
  RW_FLAGS,
  RW_READERS,
  RW_RSEQ,
  RW_WRITERS,
  RW_WSEQ,
} from './lock_word.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const machine = machine_;
const mem = mem_;
const LOCK_CLASS = LOCK_CLASS_;
const RW = RW_READERS;
const WW = RW_WRITERS;
const ALL = 1 << 20;

/** The first CPU, + 1, that reads the lock, or is about to; `skip` is not looked at. */
export function look(l: number, skip: number): number {
  const kernel = user_class(mem.I32[l + LOCK_CLASS]) ? 0 : 1;
  return atomic_look(machine.rw_rows[M], field_word(machine.rw_cpus, M), l, skip, kernel);
}

/** Somebody left who read the lock, while a writer waits: nobody else reads it, so wake one. */
export function tell_writer(l: number): void {
  if (look(l, thr.cpu) !== 0) return;
  wake_writer(l);
}
/** A writer that waits looks again. Returns how many were woken. */
export function wake_writer(l: number): number {
  atomic_add(l + RW_WSEQ, 1);
  return atomic_notify(l + RW_WSEQ, 1);
}
/** Frees a lock whose word names this CPU as the writer. True, for use in a condition. */
export function rw_release(l: number): boolean {
  for (;;) {
    const v = atomic_load(l);
    if (atomic_cas(l, v, v & RW) !== v) continue;
    wake_after(l, v);
    return true;
  }
}
/** The lock came free; its word was `v` before: one writer is woken, or the readers. */
export function wake_after(l: number, v: number): void {
  const n = v & WW ? wake_writer(l) : 0;
  if (n === 0 && v & RW) {
    atomic_and(l, ~RW);
    wake_readers(l);
  }
}
/** All readers that wait look again. */
export function wake_readers(l: number): void {
  atomic_add(l + RW_RSEQ, 1);
  atomic_notify(l + RW_RSEQ, ALL);
}
/** Everybody who waits looks again. */
export function wake_all(l: number): void {
  wake_readers(l);
  atomic_add(l + RW_WSEQ, 1);
  atomic_notify(l + RW_WSEQ, ALL);
}
/** Whoever waits on the lock looks again, and says so again if it still waits. */
export function give_up(l: number): void {
  atomic_and(l, ~RW_FLAGS);
  wake_all(l);
}
