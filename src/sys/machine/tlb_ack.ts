/*
 * tlb_ack: who still uses translations that were taken back.
 *
 * A CPU translates by tags of its own, without a lock.  Whoever takes a translation back
 * empties that CPU's tags, so that its next access misses; but the one that is under way may
 * have passed its tag.  So each CPU that may have is asked, by a bit in its state word, and
 * answers at its next poll, where no access is under way.  Until then no page that was
 * mapped may be used for something else, nor be believed clean.
 *
 *      tlb_ask(cpu)    after the page tables changed and the tags were emptied
 *      tlb_asked()     when all were asked, before anybody may free such a page
 *      tlb_owed()      whether any CPU owes an answer
 *
 * A parked CPU has no access under way, and one that is dead or gone never will.
 *
 * Almost always nobody owes anything, and that costs two loads: `tlb_asked` counts up after
 * the bits were set, `tlb_quiet` is what it was before a look at all CPUs that found none.
 */
import { atomic_add, atomic_load, atomic_or, atomic_store } from './atomic.ts';
import { CPU_DEAD, CPU_FREE, CPU_PARKED, CPU_REQ_TLB, cpu_slots, cpu_state_word } from './cpu.ts';
import { M, machine as machine_ } from './header.ts';
import { field_word } from './struct.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const machine = machine_;

const AWAY = CPU_PARKED | CPU_DEAD | CPU_FREE;

/** Asks a CPU, whose tags are empty by now. False: it has no access under way. */
export function tlb_ask(cpu: number): boolean {
  return (atomic_or(cpu_state_word(cpu), CPU_REQ_TLB) & AWAY) === 0;
}
/** All CPUs that a change concerns have been asked. */
export function tlb_asked(): void {
  atomic_add(field_word(machine.tlb_asked, M), 1);
}
/** Whether this CPU has not answered yet. */
export function tlb_owes(cpu: number): boolean {
  const v = atomic_load(cpu_state_word(cpu));
  return (v & CPU_REQ_TLB) !== 0 && (v & AWAY) === 0;
}
/** Whether any CPU owes an answer. */
export function tlb_owed(): boolean {
  const asked = atomic_load(field_word(machine.tlb_asked, M));
  if (asked === atomic_load(field_word(machine.tlb_quiet, M))) return false;
  for (let cpu = 0; cpu < cpu_slots(); cpu++) if (tlb_owes(cpu)) return true;
  atomic_store(field_word(machine.tlb_quiet, M), asked);
  return false;
}
