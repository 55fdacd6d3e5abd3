/*
 * lock_takeover: taking a lock over from a thread that died holding it.
 *
 *      record who I take it from, in my own CPU record      plain, before the cas
 *      cas(lock: the dead owner's word -> mine | WAITERS)
 *      the dead owner was itself taking it over?  then go on to whom it names
 *      play the undo logs back, then clear the records, count
 *      then by the lock's class: go on, rebuild, walk, or panic
 *
 * The record makes recovery itself survive a death: the next one to come
 * follows the chain of records to the first owner.  So no record on the way is
 * cleared before the logs at its end are played back.  A slot that has a new owner
 * by now has nothing to say about the lock: the reaper plays all logs back
 * before it frees a slot.  On a spare slot an heir may have come in between, and
 * the log is still there (cpu_slots.ts).
 *
 * A lock of class `abandon` is never taken over: what it guards is the
 * program's, and only the program can say whether it is whole (lock_word.ts).
 */
import { atomic_cas } from '../machine/atomic.ts';
import { counter_add } from '../machine/counter.ts';
import { cpu_slots, pcpu, pcpu_of, type pcpu_t, thr, tid_cpu } from '../machine/cpu.ts';
import { reap_want, tid_left_here, v_reap_locks } from '../machine/death.ts';
import { life } from '../machine/life.ts';
import { mem } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { field_word } from '../machine/struct.ts';
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
  const way = taken_from(l, owner);
  let played = way.length > 1; // a recovery may have stopped half-way: its work is done again
  let overflow = false;
  for (const dead of way) {
    const result = undo_play(dead, l);
    if (result !== 'none') played = true;
    if (result === 'overflow') overflow = true;
  }
  for (const dead of way) {
    if (dead !== thr.pc) atomic_cas(field_word(pcpu.recover_lock, dead), l, 0);
  }
  counter_add(v_reap_locks, 1);
  reap_want();
  settle_class(l, mem.I32[l + LOCK_CLASS], played, overflow);
  pcpu.recover_lock[thr.pc] = 0;
  return true;
}

/**
 * The records of those who had the lock `l` one after the other and died, from its last
 * owner to the first, whose log it is.
 */
function taken_from(l: number, owner: number): pcpu_t[] {
  const way: pcpu_t[] = [];
  for (let tid = owner; tid_left_here(tid); ) {
    const dead = pcpu_of(tid_cpu(tid));
    if (way.includes(dead)) break;
    way.push(dead);
    if (pcpu.recover_lock[dead] !== l) break;
    tid = pcpu.recover_from[dead];
  }
  return way;
}
/** Whether the thread `owner` has the lock `l` from one whose record is `pc`, or is that one. */
export function lock_taken_from(l: number, owner: number, pc: pcpu_t): boolean {
  const cpu = tid_cpu(owner);
  return cpu >= 0 && cpu < cpu_slots() && taken_from(l, owner).includes(pc);
}

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
