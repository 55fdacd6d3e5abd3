/*
 * uma_budget: how many pages malloc and the zones hold, and may hold.
 *
 * vm.kmem_size limits the pages of all kegs and of malloc's large blocks, wherever
 * they lie.  Pages that belong to others are not counted, and what the limit leaves
 * over is there for them.
 *
 *      held  =  pages of every keg          changed in the undo section that links a slab
 *            +  pages of large blocks       two counts of each slot, in the section that
 *                                           counts the block, beyond the memory, too
 *            +  pages on the way            one word of each CPU, while it grows or shrinks
 *
 * So a death leaves the sum as it was or as it would have been, and the page array
 * proves it (budget_check).  The sum is made anew each time, and only on a machine
 * whose limit is below its memory.  A CPU says how much it is about to take before
 * it looks at the sum: two that grow at once never get beyond the limit together; at its
 * very edge both may be refused.
 */
import { atomic_add, atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { cpu_slots, pcpu as pcpu_, pcpu_of, thr as thr_ } from '../machine/cpu.ts';
import { panic } from '../machine/panic.ts';
import { M, machine, ROOT_KERN } from '../machine/header.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import { uma_keg } from '../h/uma.ts';
import { vm_kern_root, type vm_kern_root_t } from '../h/vm_kern.ts';
import { vm_object } from '../h/vm_object.ts';
import { PK_LARGE, PK_MALLOC, PK_REST, PK_SLAB } from '../h/vm_page.ts';
import { vm_page_census } from '../page/vm_page.ts';
import { save } from '../sync/undo.ts';
import { uma, uma_each_keg, uma_root } from './uma_int.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const pcpu = pcpu_;
const thr = thr_;

const v_refused = counter_u64('vm.kmem_refused', 'Times vm.kmem_size kept malloc or a zone small');
/** Sets the limit. At boot; 0: as many pages as there are. */
export function budget_limit(pages: number): void {
  uma_root.limit_pages[uma()] = pages;
}
/** The limit in pages, 0: none. */
export function budget_limit_pages(): number {
  return uma_root.limit_pages[uma()];
}
/** Pages of large blocks. What was freed is read first: the difference is never too small. */
function large_pages(): number {
  let freed = 0;
  let taken = 0;
  for (let cpu = 0; cpu < cpu_slots(); cpu++) freed += pcpu.large_given[pcpu_of(cpu)];
  for (let cpu = 0; cpu < cpu_slots(); cpu++) taken += pcpu.large_taken[pcpu_of(cpu)];
  return (taken - freed) | 0;
}
/** Pages that kegs and large blocks hold: a sample while CPUs run. */
export function kmem_held(): number {
  let pages = uma_root.lost_pages[uma()] + large_pages();
  uma_each_keg((k) => {
    pages += uma_keg.pages[k];
  });
  return pages;
}
/** Whether this CPU may take n pages for malloc or a zone; if so, budget_leave follows. */
export function budget_enter(n: number): boolean {
  const limit = uma_root.limit_pages[uma()];
  if (limit === 0) return true;
  atomic_add(field_word(pcpu.growing, thr.pc), n);
  // These first: what another CPU takes off its word meanwhile is found in its keg then.
  let all = 0;
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    all += atomic_load(field_word(pcpu.growing, pcpu_of(cpu)));
  }
  if (all + kmem_held() <= limit) return true;
  atomic_add(field_word(pcpu.growing, thr.pc), -n);
  counter_add(v_refused, 1);
  return false;
}
/**
 * Says the same of n pages that this CPU is about to give back: should it die in the
 * section that does so, they are held again.  budget_leave follows that section.
 */
export function budget_hold(n: number): void {
  if (uma_root.limit_pages[uma()] !== 0) atomic_add(field_word(pcpu.growing, thr.pc), n);
}
/** The n pages are held now, or were given back. */
export function budget_leave(n: number): void {
  if (uma_root.limit_pages[uma()] !== 0) atomic_add(field_word(pcpu.growing, thr.pc), -n);
}
/** A dead CPU takes nothing any more. A line of the death table. */
export function budget_reap(cpu: number): void {
  atomic_store(field_word(pcpu.growing, pcpu_of(cpu)), 0);
}
/** Counts n pages of a large block, taken or freed. Inside a private undo section. */
export function budget_large(n: number, freed: boolean): void {
  const count = freed ? pcpu.large_given : pcpu.large_taken;
  save(count, thr.pc);
  count[thr.pc] = (count[thr.pc] + n) | 0;
}
/** Pages of malloc's blocks beyond the memory: all that kmem_object has (map/vm_kern.ts). */
export function virtual_pages(): number {
  const o = vm_kern_root.kmem[machine.roots[elem(M, ROOT_KERN)] as vm_kern_root_t];
  return o === NULL ? 0 : vm_object.resident[o];
}
/** Proves the sum against the page array. The machine is quiet. */
export function budget_check(): void {
  const kinds = vm_page_census();
  const large = large_pages();
  const found = kinds[PK_LARGE] + kinds[PK_REST] + virtual_pages();
  if (large !== found) panic('budget: pages of large blocks', large, found);
  const all = found + kinds[PK_SLAB] + kinds[PK_MALLOC];
  if (kmem_held() !== all) panic('budget: pages held', kmem_held(), all);
}
