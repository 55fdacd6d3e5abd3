/*
 * window_kern: windows of two CPUs onto one block of malloc beyond the memory, whose pages move
 * side by side; one asks for the block to be freed meanwhile.  Each CPU has a word of its own in
 * each page, which holds what it stored there, wherever the page is.
 */
import { EBUSY, EFAULT, ENOMEM, ETIMEDOUT } from '../../src/sys/machine/errno.ts';
import { mem, PAGE_SIZE, page_word } from '../../src/sys/machine/memory.ts';
import { M_NOWAIT } from '../../src/sys/h/malloc_flags.ts';
import type { malloc_type_t } from '../../src/sys/h/malloc.ts';
import { vm_map_entry } from '../../src/sys/h/vm_map.ts';
import { vm_window, type vm_window_t } from '../../src/sys/h/vm_window.ts';
import { malloc_type_attach } from '../../src/sys/kmem/kern_malloc.ts';
import {
  free_virtual,
  malloc_virtual,
  virtual_access,
  virtual_pages,
  virtual_window,
} from '../../src/sys/kmem/kern_malloc_virtual.ts';
import { kernel_map } from '../../src/sys/map/vm_kern.ts';
import { map_entries } from '../../src/sys/map/vm_map_check.ts';
import { kern_script } from '../kern_ops.ts';
import { close, here } from '../window_ops.ts';

const PAGES = 3;
const type = (): malloc_type_t => malloc_type_attach('far');
/** The one block that there is, 0: it was freed. */
function block(): number {
  const [e] = map_entries(kernel_map()).filter((at) => virtual_pages(vm_map_entry.start[at]) > 0);
  return e === undefined ? 0 : vm_map_entry.start[e];
}
const REFUSED = [-EFAULT, -EBUSY, -ENOMEM, -ETIMEDOUT];
/** Opens a window onto n pages of it. */
const open = (i: number, n: number) => (): void => {
  const at = block();
  const w = at === 0 ? -EFAULT : virtual_window((at + i) * PAGE_SIZE, n * PAGE_SIZE, true);
  if (w < 0 && !REFUSED.includes(w)) throw new Error(`window: ${w}`);
};
/** Stores in this CPU's word of each page of its window, and sees it by its address. */
const put = (cpu: number, value: number) => (): void => {
  const w = here();
  if (w === 0) return;
  for (let k = 0; k < vm_window.pages[w]; k++) {
    mem.I32[page_word(vm_window.frame[w] + k) + cpu] = value;
    if (seen(vm_window.start[w] + k, cpu) !== value) throw new Error(`page ${k}: another value`);
  }
};
function seen(page: number, cpu: number): number {
  let value = -1;
  const at = page * PAGE_SIZE + cpu * 4;
  virtual_access(at, 4, false, (from) => void (value = mem.I32[from / 4]));
  return value;
}
/** Its word of page i holds one of these. */
const holds = (cpu: number, i: number, values: readonly number[]) => (): void => {
  const at = block();
  if (at === 0) return;
  const value = seen(at + i, cpu);
  if (value !== -1 && !values.includes(value)) throw new Error(`page ${i} holds ${value}`);
};
const base = kern_script(
  'windows onto a block beyond the memory, and its end',
  () => void malloc_virtual(PAGES * PAGE_SIZE, type(), M_NOWAIT),
  (cpu) =>
    cpu === 0
      ? [open(0, 2), put(0, 5), close, holds(0, 1, [0, 5]), open(1, 1), put(0, 6), close, free]
      : [open(0, 3), put(1, 7), holds(1, 2, [0, 7]), close, open(1, 2), put(1, 8), close],
);
function free(): void {
  const at = block();
  if (at !== 0) free_virtual(at, type()); // unless a window is open there
}
export const script = {
  ...base,
  check() {
    for (let w: vm_window_t = here(); w !== 0; w = here()) close();
    free();
    return base.check();
  },
};
