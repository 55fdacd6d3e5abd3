/* vm_reserv.test.lib: the words by which the threads of vm_reserv.test.ts are counted and told. */
import { M, machine, ROOT_TEST } from '../machine/header.ts';
import { hw, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { elem } from '../machine/struct.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { vm_page_alloc, vm_page_wire } from './vm_page.ts';

/** Makes them. */
export function reserv_words(): void {
  const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
  vm_page_wire(m, 1);
  hw.fill(page_word(m), 0, PAGE_WORDS);
  machine.roots[elem(M, ROOT_TEST)] = page_word(m);
}
export const stop_word = (): number => machine.roots[elem(M, ROOT_TEST)];
export const done_word = (): number => stop_word() + 1;
