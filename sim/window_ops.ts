/*
 * window_ops: windows of two CPUs on address spaces that both use (space_ops.ts).
 *
 * A CPU has one window at a time.  What is seen through it is what a page of the space may hold;
 * what only one CPU stores in a page, through a window or not, is there until that CPU stores
 * again.
 */
import { thr } from '../src/sys/machine/cpu.ts';
import { EBUSY, EFAULT, ENOMEM, ETIMEDOUT } from '../src/sys/machine/errno.ts';
import { mem, PAGE_WORDS, page_word } from '../src/sys/machine/memory.ts';
import { NULL } from '../src/sys/machine/struct.ts';
import { vm_window, vm_window_root, type vm_window_t } from '../src/sys/h/vm_window.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../src/sys/h/vm_prot.ts';
import { map_at } from '../src/sys/map/vm_map.test.lib.ts';
import { FIRST, space_first } from '../src/sys/map/vm_space.test.lib.ts';
import { vm_window_close, vm_window_open, window_root } from '../src/sys/map/vm_window.ts';
import { COMMON, own } from './space_ops.ts';

/** The window of this CPU; NULL: it has none. */
export function here(): vm_window_t {
  let w = vm_window_root.first[window_root()];
  while (w !== NULL && vm_window.tid[w] !== thr.tid) w = vm_window.next[w];
  return w;
}
const REFUSED = [-EFAULT, -EBUSY, -ENOMEM, -ETIMEDOUT];
/** Opens a window onto n pages from the i-th on, to write, or to read alone. */
export const open =
  (s: number, i: number, n: number, write = true): (() => void) =>
  () => {
    if (map_at(s) === 0) return;
    const prot = write ? VM_PROT_READ | VM_PROT_WRITE : VM_PROT_READ;
    const w = vm_window_open(map_at(s), FIRST + i, FIRST + i + n, prot);
    if (w < 0 && !REFUSED.includes(w)) throw new Error(`open says ${w}`);
  };
export const close = (): void => {
  const w = here();
  if (w !== NULL) vm_window_close(w);
};
/** Stores what this CPU stores in page i of the common space, through its window. */
export const put =
  (i: number, cpu: number): (() => void) =>
  () => {
    const w = here();
    if (w === NULL) return;
    const k = FIRST + i - vm_window.start[w];
    if (k < 0 || k >= vm_window.pages[w]) throw new Error(`page ${i} is not in the window`);
    const at = page_word(vm_window.frame[w] + k);
    mem.I32[at] = own(cpu, i);
    mem.I32[at + PAGE_WORDS - 1] = own(cpu, i);
    const seen = space_first(COMMON, i);
    if (seen !== own(cpu, i)) throw new Error(`page ${i} holds ${seen}, not what was stored`);
  };
/** Page i, which this CPU alone has stored to, holds that. */
export const keeps =
  (i: number, cpu: number): (() => void) =>
  () => {
    const seen = space_first(COMMON, i);
    if (seen !== own(cpu, i) && seen !== -1) throw new Error(`page ${i} holds ${seen}`);
  };
/** The same in this CPU's window. */
export const shows =
  (i: number, cpu: number): (() => void) =>
  () => {
    const w = here();
    if (w === NULL) return;
    const seen = mem.I32[page_word(vm_window.frame[w] + FIRST + i - vm_window.start[w])];
    if (seen !== own(cpu, i)) throw new Error(`page ${i} of a window holds ${seen}`);
  };
