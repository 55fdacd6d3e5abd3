/*
 * snapshot: the machine's memory as it was.
 *
 * Runs begin with the same memory, and a nested operation that would have to
 * wait is taken back; both put a copy back, so as little as possible is
 * copied:
 *
 *      boot structures, columns     always, up to the first managed page
 *      pages in use                 if the script works with pages
 *      free pages                   never: nobody may rely on what they hold,
 *                                   save that a page noted as zero is zero
 *
 * A page that was free and zero and has been used since is cleared.
 */
import { PG_ZERO, PK_FREE, PK_MASK, vm_page } from '../src/sys/h/vm_page.ts';
import { M, machine } from '../src/sys/machine/header.ts';
import { hw, mem, PAGE_WORDS, page_word } from '../src/sys/machine/memory.ts';

const page = vm_page;

/** Words of the part that is always copied. */
function boot_words(): number {
  const first = machine.first_page[M];
  if (first > 0) return page_word(first);
  return Math.min(machine.boot_next[M] + 64, machine.boot_end[M]);
}

/** A copy of the memory in use that can be put back any number of times. */
export class Snapshot {
  private readonly boot: Int32Array;
  private readonly live: Int32Array;
  private readonly pages: boolean;
  /** Pages in use when the copy was taken, and what they held. */
  private used: Int32Array;
  private count = 0;
  private held: Int32Array;
  /** Per page: it was free and zero. */
  private readonly zero: Uint8Array;

  /** Takes a copy. `pages`: also of the pages in use. */
  constructor(pages: boolean) {
    const n = boot_words();
    this.live = new Int32Array(mem.I32.buffer, 0, n);
    this.boot = new Int32Array(n);
    this.pages = pages && machine.first_page[M] > 0;
    const npages = this.pages ? machine.npages[M] : 0;
    this.used = new Int32Array(npages);
    this.zero = new Uint8Array(npages);
    this.held = new Int32Array(0);
    this.take();
  }
  /** Words copied the last time. */
  get words(): number {
    return this.boot.length + this.count * PAGE_WORDS;
  }
  take(): void {
    this.boot.set(this.live);
    if (this.pages) this.take_pages();
  }
  restore(): void {
    if (this.pages) this.restore_pages();
    this.live.set(this.boot);
  }

  private take_pages(): void {
    const { info, flags } = page;
    const { used, zero } = this;
    const end = machine.npages[M];
    let count = 0;
    for (let m = machine.first_page[M]; m < end; m++) {
      const free = (info[m] & PK_MASK) === PK_FREE;
      if (!free) used[count++] = m;
      zero[m] = free && (flags[m] & PG_ZERO) !== 0 ? 1 : 0;
    }
    this.count = count;
    if (this.held.length < this.count * PAGE_WORDS) {
      this.held = new Int32Array((this.count + 8) * PAGE_WORDS);
    }
    for (let i = 0; i < this.count; ) {
      const w = page_word(this.used[i]);
      const run = this.run(i);
      this.held.set(mem.I32.subarray(w, w + run * PAGE_WORDS), i * PAGE_WORDS);
      i += run;
    }
  }
  /** How many pages in use, from the i-th on, lie side by side: they are copied in one go. */
  private run(i: number): number {
    let n = 1;
    while (i + n < this.count && this.used[i + n] === this.used[i] + n) n++;
    return n;
  }
  /** Before the page array itself is put back: it says what became of the pages. */
  private restore_pages(): void {
    const { info, flags } = page;
    const { zero } = this;
    const end = machine.npages[M];
    for (let m = machine.first_page[M]; m < end; m++) {
      if (zero[m] === 0) continue;
      const free = (info[m] & PK_MASK) === PK_FREE;
      if (!free || (flags[m] & PG_ZERO) === 0) hw.fill(page_word(m), 0, PAGE_WORDS);
    }
    for (let i = 0; i < this.count; ) {
      const at = i * PAGE_WORDS;
      const run = this.run(i);
      mem.I32.set(this.held.subarray(at, at + run * PAGE_WORDS), page_word(this.used[i]));
      i += run;
    }
  }
}
