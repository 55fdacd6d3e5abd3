/*
 * pmap_tlb_super: a CPU's tags of superpages.
 *
 *      page number >> 10 ──> tag ──> frame of the first of 1024 pages
 *
 * They stand beside the tags of single pages and are asked second: an access whose page has no tag
 * of its own looks here before it walks a table.  So a range of 4 MiB needs one tag, and 32 of them
 * reach over 128 MiB where the 256 tags of single pages reach over one.
 *
 * A CPU gets their page when it first translates by a pmap that has a superpage; where there is no
 * memory for it, it walks the tables as ever.  All that pmap_tlb.ts says of tags holds for these:
 * they are filled under the lock of the pmap, and emptied under it by anybody.
 */
import { pcpu as pcpu_, type pcpu_t, thr as thr_ } from '../machine/cpu.ts';
import { hw as hw_, mem as mem_, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { SUPER_STORES, SUPER_TAGS, SUPER_WORDS, TABLE_SHIFT, TLB_NONE } from '../h/pmap.ts';
import { save, undo_begin_private, undo_end } from '../sync/undo.ts';
import { vm_page_settle, vm_page_wired } from '../page/vm_page.ts';
import { vm_page_get } from '../page/vm_page_cache.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const pcpu = pcpu_;
const thr = thr_;
const hw = hw_;

const MASK = SUPER_TAGS - 1;

/** First word of set `i` of a CPU; 0: it has none. */
export function supers_base(pc: pcpu_t, i: number): number {
  const base = pcpu.tlb_supers[pc];
  return base === 0 ? 0 : base + i * SUPER_WORDS;
}
/** Sees to it that this CPU has the page for them. The caller holds no lock. False: no memory. */
export function supers_make(): boolean {
  if (pcpu.tlb_supers[thr.pc] !== 0) return true;
  const m = vm_page_get(0);
  if (m === 0) return false;
  hw.fill(page_word(m), TLB_NONE, PAGE_WORDS);
  vm_page_wired(m, 1);
  undo_begin_private();
  save(pcpu.tlb_supers, thr.pc);
  save(pcpu.in_hand_n, thr.pc);
  pcpu.tlb_supers[thr.pc] = page_word(m);
  vm_page_settle();
  undo_end();
  return true;
}
/** Set `i` of this CPU is another address space's. */
export function supers_clear(i: number): void {
  const base = supers_base(thr.pc, i);
  if (base !== 0) hw.fill(base, TLB_NONE, SUPER_WORDS);
}
/** This CPU translates superpage `key` to the pages from a frame on. The pmap is locked. */
export function supers_fill(i: number, key: number, frame: number, write: boolean): void {
  const base = supers_base(thr.pc, i);
  if (base === 0) return;
  const tag = base + ((key & MASK) << 1) + (write ? SUPER_STORES : 0);
  mem.I32[tag + 1] = frame;
  mem.I32[tag] = key;
}
/** A CPU's set has no tag of superpage `key` any more; with `stores`: none for stores. */
export function supers_drop(base: number, key: number, stores: boolean): void {
  const tag = base + ((key & MASK) << 1);
  if (!stores && mem.I32[tag] === key) mem.I32[tag] = TLB_NONE;
  if (mem.I32[tag + SUPER_STORES] === key) mem.I32[tag + SUPER_STORES] = TLB_NONE;
}
/** Nor of any, nor of those in `count` page numbers from `first` on. */
export function supers_drop_all(base: number, stores: boolean): void {
  const from = stores ? base + SUPER_STORES : base;
  for (let tag = from; tag < base + SUPER_WORDS; tag += 2) mem.I32[tag] = TLB_NONE;
}
export function supers_drop_range(
  base: number,
  first: number,
  count: number,
  stores: boolean,
): void {
  const last = (first + count - 1) >>> TABLE_SHIFT;
  for (let key = first >>> TABLE_SHIFT; key <= last; key++) supers_drop(base, key, stores);
}
/** Calls `each` with every tag of a set. The machine is quiet. */
export function supers_each(
  base: number,
  each: (key: number, frame: number, store: boolean) => void,
): void {
  for (let n = 0; n < SUPER_TAGS * 2; n++) {
    const tag = base + n * 2;
    if (mem.I32[tag] !== TLB_NONE) each(mem.I32[tag], mem.I32[tag + 1], n >= SUPER_TAGS);
  }
}
