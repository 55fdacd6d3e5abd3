/*
 * lock_takeover: taking a lock over from a thread that died holding it.
 *
 *      record who I take it from, in my own CPU record      plain, before the cas
 *      cas(lock: the dead owner's word -> mine | WAITERS)
 *      the dead owner was itself taking it over?  then go on to whom it names
 *      play the undo logs back, clear the records, count
 *      then by the lock's class: go on, rebuild, walk, or panic
 *
 * The record makes recovery itself survive a death: the next one to come
 * follows the chain of records to the first owner.  A slot that has a new owner
 * by now has nothing to say about the lock: the reaper plays all logs back
 * before it frees a slot.
 *
 * A lock of class `abandon` is never taken over: what it guards is the
 * program's, and only the program can say whether it is whole (lock_word.ts).
 */
import { atomic_cas } from '../machine/atomic.ts';
import { counter_add } from '../machine/counter.ts';
import { pcpu, pcpu_of, thr, tid_cpu } from '../machine/cpu.ts';
import { reap_want, slot_tid, v_reap_locks } from '../machine/death.ts';
import { life } from '../machine/life.ts';
import { mem } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { lock_order } from './lock_order.ts';
import { LOCK_CLASS } from './lock_word.ts';
import { undo_play } from './undo.ts';

/**
 * Takes the lock word `l`, seen as `seen` with dead owner `owner` (a tid), for
 * this CPU: the word becomes `mine`.  False if somebody was faster.  Panics,
 * naming the lock, where the structure behind it cannot be proved sound.
 */
export function lock_take_over(l: number, seen: number, owner: number, mine: number): boolean {
  pcpu.recover_from[thr.pc] = owner;
  pcpu.recover_lock[thr.pc] = l;
  if (atomic_cas(l, seen, mine) !== seen) {
    pcpu.recover_lock[thr.pc] = 0;
    return false;
  }
  const cls = mem.I32[l + LOCK_CLASS];
  let played = false;
  let overflow = false;
  let dead = pcpu_of(tid_cpu(owner));
  for (let hops = slot_tid(tid_cpu(owner)) === owner ? 0 : HOPS_MAX; hops < HOPS_MAX; hops++) {
    const result = undo_play(dead, l);
    if (result !== 'none') played = true;
    if (result === 'overflow') overflow = true;
    if (pcpu.recover_lock[dead] !== l) break;
    const next = pcpu_of(tid_cpu(pcpu.recover_from[dead]));
    pcpu.recover_lock[dead] = 0;
    dead = next;
    played = true; // a recovery may have stopped half-way: its work is done again
  }
  counter_add(v_reap_locks, 1);
  reap_want();
  settle_class(l, cls, played, overflow);
  pcpu.recover_lock[thr.pc] = 0;
  return true;
}

/** Longest chain of takers that died one after the other: as many as there are slots. */
const HOPS_MAX = 64;

function settle_class(l: number, cls: number, played: boolean, overflow: boolean): void {
  const c = lock_order[cls];
  const recovery = overflow && c.recovery === 'undo' ? 'walk' : c.recovery;
  if (recovery === 'undo') return;
  const line = life.recover[c.name];
  if (recovery === 'panic' || line === undefined) {
    panic(`lock '${c.name}' at ${l * 4} was held by a thread that died`);
  }
  if (recovery === 'rebuild' || played || recovery === 'walk') line[0](l);
}
