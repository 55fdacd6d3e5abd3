/*
 * kern_quarantine: freed large blocks that wait before their pages serve again.
 *
 * A block of pages that is freed goes back to the page floor at once, and the next
 * owner of the pages suffers from whoever still writes into it.  Under the option
 * QUARANTINE the block waits, filled with poison, in a ring of the last
 * QUARANTINE_BLOCKS; when it leaves, the poison must be whole.  A write after free is
 * so found as one, with the block's type, its size and the place in it.
 *
 * A block leaves when the ring is full, when all together hold more than 1 /
 * QUARANTINE_SHARE of the memory, and when memory is short: then all do.
 *
 * Deaths.  A block is in the hand of a CPU or in the ring, and goes from one to the
 * other in one undo section of the malloc lock.
 */
import { pcpu, thr } from '../machine/cpu.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { hw, mem, PAGE_SIZE, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { elem } from '../machine/struct.ts';
import { sysctl_value } from '../machine/sysctl_decl.ts';
import { malloc_root, type malloc_root_t, QUARANTINE_BLOCKS } from '../h/malloc.ts';
import { PK_QUARANTINE, vm_page } from '../h/vm_page.ts';
import {
  vm_page_count,
  vm_page_free_run,
  vm_page_in_hand,
  vm_page_settle,
} from '../page/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { malloc_anchor, malloc_type_name_of } from './kern_malloc_type.ts';

const root = malloc_root;
const QUARANTINE_SHARE = 16;
/** What a freed large block is filled with, a byte and a word of it. */
export const POISON_BYTE = 0xde;
const POISON = POISON_BYTE * 0x01010101;

const v_found = counter_u64('debug.quarantine.found', 'Freed large blocks that were written to');
sysctl_value(
  'debug.quarantine.pages',
  { type: 'uint', unit: 'pages', help: 'Pages of freed large blocks that wait (QUARANTINE)' },
  () => root.held_pages[malloc_anchor()],
);

/** Place `i` of the ring, from the oldest on. */
function place(r: malloc_root_t, i: number): malloc_root_t {
  return elem(r, (root.held_next[r] + i) % QUARANTINE_BLOCKS);
}

/** Frees a block of n pages that is on top of this CPU's hand: poisoned now, for use later. */
export function quarantine_free(m: number, n: number): void {
  hw.fill(page_word(m), POISON_BYTE, n * PAGE_WORDS);
  const most = Math.floor(vm_page_count() / QUARANTINE_SHARE);
  if (n > most) return vm_page_free_run(m, n);
  const r = malloc_anchor();
  while (root.held_n[r] >= QUARANTINE_BLOCKS || root.held_pages[r] + n > most) {
    if (!release_oldest()) break;
  }
  mtx_lock(root.lock, r);
  const room = root.held_n[r] < QUARANTINE_BLOCKS;
  if (room) {
    for (let i = m; i < m + n; i++) vm_page.info[i] = PK_QUARANTINE;
    undo_begin(root.lock, r);
    const at = place(r, root.held_n[r]);
    save(root.held, at);
    save(root.held_n, r);
    save(root.held_pages, r);
    save(pcpu.in_hand_n, thr.pc);
    root.held[at] = m;
    root.held_n[r]++;
    root.held_pages[r] += n;
    vm_page_settle();
    undo_end();
  }
  mtx_unlock(root.lock, r);
  if (!room) vm_page_free_run(m, n); // others were faster
}
/** The oldest block leaves. False: there is none. */
function release_oldest(): boolean {
  const r = malloc_anchor();
  mtx_lock(root.lock, r);
  const some = root.held_n[r] > 0;
  let m = 0;
  if (some) {
    m = root.held[place(r, 0)];
    undo_begin(root.lock, r);
    save(root.held_n, r);
    save(root.held_pages, r);
    save(root.held_next, r);
    save(pcpu.in_hand_n, thr.pc);
    root.held_n[r]--;
    root.held_pages[r] -= vm_page.index[m];
    root.held_next[r] = (root.held_next[r] + 1) % QUARANTINE_BLOCKS;
    vm_page_in_hand(m, vm_page.index[m]);
    undo_end();
  }
  mtx_unlock(root.lock, r);
  if (!some) return false;
  poison_proof(m);
  vm_page_free_run(m, vm_page.index[m]);
  return true;
}
/** Lets all blocks go: memory is short, or a test wants its pages. Returns their pages. */
export function quarantine_empty(): number {
  if (!opt.QUARANTINE) return 0;
  const pages = root.held_pages[malloc_anchor()];
  while (release_oldest());
  return pages;
}
/** Proves that nobody wrote into a block that waits. */
export function quarantine_check(): void {
  if (!opt.QUARANTINE) return;
  const r = malloc_anchor();
  mtx_lock(root.lock, r);
  const blocks: number[] = [];
  for (let i = 0; i < root.held_n[r]; i++) blocks.push(root.held[place(r, i)]);
  mtx_unlock(root.lock, r);
  for (const m of blocks) poison_proof(m);
}
function poison_proof(m: number): void {
  const bytes = vm_page.index[m] * PAGE_SIZE;
  const first = page_word(m);
  for (let w = first; w < first + bytes / 4; w++) {
    if (mem.I32[w] === (POISON | 0)) continue;
    counter_add(v_found, 1);
    panic(
      `Memory modified after free: ${(w - first) * 4} bytes into the block of ${bytes} bytes at ` +
        `${first * 4} of type '${malloc_type_name_of(vm_page.owner[m])}'`,
      `value 0x${(mem.I32[w] >>> 0).toString(16)}`,
    );
  }
}
