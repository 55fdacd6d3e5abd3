/*
 * The worker of count.test.ts: it counts as the fast paths do, in two words of a
 * page that both threads find, and jumps ahead to the next carry after each.
 */
import { attach, detach } from '../boot/main.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { vm_page_alloc, vm_page_wire } from '../page/vm_page.ts';
import { atomic_load, atomic_store } from './atomic.ts';
import { count_carry } from './count.ts';
import { M, machine, ROOT_TEST } from './header.ts';
import { hw, mem, PAGE_WORDS, page_word } from './memory.ts';
import { elem } from './struct.ts';
import { run_job } from './workers.test.lib.ts';

/** Where the low word jumps to before each carry, and how far it counts from there. */
export const COUNT_JUMP = 0xfffffff0;
export const COUNT_PER_CARRY = 32;

/** Lays out the page: low word, high word, whether the reader has seen enough. */
export function boot_page(): number {
  const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
  vm_page_wire(m, 1);
  hw.fill(page_word(m), 0, PAGE_WORDS);
  machine.roots[elem(M, ROOT_TEST)] = page_word(m);
  return page_word(m);
}
run_job<object>(
  () => {
    const low = machine.roots[elem(M, ROOT_TEST)];
    let carries = 0;
    for (; carries === 0 || atomic_load(low + 2) === 0; carries++) {
      atomic_store(low, COUNT_JUMP | 0);
      for (let i = 0; i < COUNT_PER_CARRY; i++) {
        const v = (mem.I32[low] + 1) | 0;
        if (v === 0) count_carry(low, low + 1);
        mem.I32[low] = v;
      }
    }
    return { carries };
  },
  { join: attach, leave: () => void detach() },
);
