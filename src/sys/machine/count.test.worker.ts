/*
 * The worker of count.test.ts: it counts as the fast paths do, in two words of a
 * page that both threads find, and jumps ahead from one turn of the count to the next.
 */
import { attach, detach } from '../boot/whole.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { vm_page_alloc, vm_page_wire } from '../page/vm_page.ts';
import { atomic_load, atomic_store } from './atomic.ts';
import { COUNT_TURN } from './count.ts';
import { M, machine, ROOT_TEST } from './header.ts';
import { hw, mem, PAGE_WORDS, page_word } from './memory.ts';
import { elem } from './struct.ts';
import { run_job } from './workers.test.lib.ts';

/** Where the low word jumps to: before the mark comes, the carry, the end of the mark. */
const JUMPS = [0xbffffff0, 0xfffffff0, 0x3ffffff0];
/** How far it counts from each. */
const PER_JUMP = 32;
/** Where it is after a carry and all that belongs to it. */
export const COUNT_AFTER = (JUMPS[2] + PER_JUMP) % 2 ** 32;

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
      for (const jump of JUMPS) {
        atomic_store(low, jump | 0);
        for (let i = 0; i < PER_JUMP; i++) {
          const v = (mem.I32[low] + 1) | 0;
          mem.I32[low] = v;
          if (v << 1 === COUNT_TURN) {
            mem.I32[low + 1] = v < 0 ? mem.I32[low + 1] | 1 : (mem.I32[low + 1] + 1) & ~1;
          }
        }
      }
    }
    return { carries };
  },
  { join: attach, leave: () => void detach() },
);
