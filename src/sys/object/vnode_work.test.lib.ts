/*
 * vnode_work: what threads do with a file, for scripts and tests: the file lies in pages of the
 * machine's memory, so that a run which begins with the memory put back finds the file as it was.
 *
 * Each page of it has a word for each CPU, which only that CPU counts up; `done` notes, at another
 * place, how far it has come for sure.  Whatever fails, and whoever dies: a word in the file is
 * never behind `done` once all have let go of the file, and never ahead by more than one.
 */
import { mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { elem, type Ptr, struct, words } from '../machine/struct.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import { vnode, type vnode_t } from '../h/vm_vnode.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { vm_object_deallocate } from './vm_object.ts';
import { object_page_filled, object_page_seen, vm_page_sleep_if_busy } from './vm_object_page.ts';
import { VM_PAGER_OK, vm_pager_has_page, vm_pager_page_in } from './vm_pager.ts';
import { vm_store_memory } from './vm_store.ts';
import { vnode_of_store } from './vm_vnode.ts';

const object = vm_object;

/** Pages of the file, and CPUs that have a word in each. */
export const FILE_PAGES = 5;
export const FILE_CPUS = 4;
export type file_rec_t = Ptr<'vnode_work'>;
/* Locks: (-) of each CPU its own part */
export const file_rec = struct<file_rec_t>('vnode_work')({
  first: words('-', 'first page of the memory that is the file', 1),
  done: words('-', 'of each CPU and page: what its word has come to', FILE_CPUS * FILE_PAGES),
});
/** A word of page `i` at the beginning, beside those of the CPUs. */
const mark = (i: number): number => 0x51000 + i;
const MARK = 1000;

/** Makes the file in FILE_PAGES pages of memory from `first` on, which are the caller's. */
export function file_make(r: file_rec_t, first: number): void {
  file_rec.first[r] = first;
  mem.I32.fill(0, page_word(first), page_word(first + FILE_PAGES));
  for (let i = 0; i < FILE_PAGES; i++) mem.I32[page_word(first + i) + MARK] = mark(i);
  for (let i = 0; i < FILE_CPUS * FILE_PAGES; i++) file_rec.done[elem(r, i)] = 0;
}
/** The object of the file, opened for writing or not, with a reference in hand; 0: no memory. */
export function file_open(r: file_rec_t, write: boolean): vm_object_t {
  const s = vm_store_memory(file_rec.first[r], FILE_PAGES);
  if (s < 0) return 0 as vm_object_t;
  const v = vnode_of_store(s as vm_store_t, write);
  return (v < 0 ? 0 : vnode.object[v as vnode_t]) as vm_object_t;
}
/** Runs `use` with page `i` of the object, which is locked. False: the page is not had. */
export function file_page(o: vm_object_t, i: number, use: (m: number) => void): boolean {
  mtx_lock(object.lock, o);
  for (;;) {
    const m = object_page_seen(o, i);
    if (m !== 0 && vm_page_sleep_if_busy(m, o)) continue;
    if (m !== 0) {
      use(m);
      break;
    }
    if (i < object.size[o] && vm_pager_has_page(o, i)) {
      if (vm_pager_page_in(o, i, 3) === VM_PAGER_OK) continue;
    }
    mtx_unlock(object.lock, o);
    return false;
  }
  mtx_unlock(object.lock, o);
  return true;
}
/** Counts the word of a CPU in page `i` up. False: the page is not had. */
export function file_count(r: file_rec_t, o: vm_object_t, i: number, cpu: number): boolean {
  const at = elem(r, cpu * FILE_PAGES + i);
  return file_page(o, i, (m) => {
    const w = page_word(m) + cpu;
    const behind = mem.I32[w] < file_rec.done[at] || mem.I32[w] > file_rec.done[at] + 1;
    if (behind) throw new Error(`page ${i}: ${mem.I32[w]} after ${file_rec.done[at]}`);
    if (mem.I32[page_word(m) + MARK] !== mark(i)) throw new Error(`page ${i} is not what it was`);
    mem.I32[w] = file_rec.done[at] + 1;
    object_page_filled(m, o, true);
    file_rec.done[at]++;
  });
}
/** Opens the file, does `run` with it, and lets go of it. */
export function file_with(r: file_rec_t, write: boolean, run: (o: vm_object_t) => void): void {
  const o = file_open(r, write);
  if (o === 0) return;
  run(o);
  vm_object_deallocate(o);
}
/** What is wrong with the file itself; '' if nothing. Nobody has it open. */
export function file_wrong(r: file_rec_t): string {
  const first = file_rec.first[r];
  for (let i = 0; i < FILE_PAGES; i++) {
    const at = page_word(first + i);
    if (mem.I32[at + MARK] !== mark(i)) return `page ${i} of the file is not what it was`;
    for (let cpu = 0; cpu < FILE_CPUS; cpu++) {
      const [is, done] = [mem.I32[at + cpu], file_rec.done[elem(r, cpu * FILE_PAGES + i)]];
      if (is < done || is > done + 1)
        return `page ${i}, CPU ${cpu}: ${is} in the file, ${done} done`;
    }
    const rest = mem.I32.subarray(at + FILE_CPUS, at + PAGE_WORDS);
    if (rest.some((v, k) => v !== (k + FILE_CPUS === MARK ? mark(i) : 0))) return `page ${i}: junk`;
  }
  return '';
}
