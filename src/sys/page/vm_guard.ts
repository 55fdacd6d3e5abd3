/*
 * vm_guard: pages that nobody may touch, behind and before what may run off its end.
 *
 *      | boot structures |guard|  pages of the page floor ...  |guard| block |guard| ...
 *
 * JavaScript has no page fault for a store into an array.  So there are two ways to notice one that
 * goes too far.  The calls that take an address and check it (load32, copyIn, bytes) look whether
 * the page is a guard, and are refused: nothing was touched.  What is stored through a view that
 * nobody checks lands in the guard, where it harms nothing; each word of the page holds GUARD_WORD,
 * and who looks finds another one.  That is reported with whose guard it is, and made good.
 *
 * They are looked at when a CPU has nothing to do, some at a time; when the block is freed; and all
 * of them when the memory is dumped or checked and when the machine is shut down.
 *
 * A guard says whose it is: the first page of the block that it guards, and the type of that.  The
 * one after the boot structures guards page 0.
 *
 * Locks.  None: who has the block, and the pages in hand, makes and frees its guards; looking is a
 * sample, and a guard that is freed meanwhile is no guard any more.
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { thr } from '../machine/cpu.ts';
import { kconsole } from '../machine/kconsole.ts';
import { life } from '../machine/life.ts';
import { M, machine } from '../machine/header.ts';
import { hw, mem, PAGE_SIZE, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { sysctl_value } from '../machine/sysctl_decl.ts';
import { PK_GUARD, PK_LARGE, PK_MASK, vm_page } from '../h/vm_page.ts';

const page = vm_page;

/** What each byte of a guard holds, and each word. */
const GUARD_BYTE = 0xa7;
const GUARD_WORD = (GUARD_BYTE * 0x01010101) | 0;
/** Pages that an idle CPU goes past at a time. */
const IDLE_PAGES = 512;

const v_found = counter_u64('debug.guard.found', 'Guard pages that were found written to');
sysctl_value(
  'debug.guard.pages',
  { type: 'uint', unit: 'pages', help: 'Guard pages, which nobody may touch' },
  () => guards_each(0, machine.npages[M], () => false).seen,
);

/** Whether page m is a guard. */
export function page_guards(m: number): boolean {
  return (page.info[m] & PK_MASK) === PK_GUARD;
}
/** Whether the block that begins at page m has guards. */
export function block_guarded(m: number): boolean {
  return page_guards(m - 1) && page.index[m - 1] === m;
}
/** Page m, in hand or at boot, is a guard of the block at page `of`, whose type is `owner`. */
export function guard_make(m: number, of: number, owner: number): void {
  hw.fill(page_word(m), GUARD_BYTE, PAGE_WORDS);
  page.owner[m] = owner;
  page.index[m] = of;
  page.info[m] = PK_GUARD;
}
/** Looks at a guard: what was stored there is reported and made good. Whether there was such. */
export function guard_look(m: number): boolean {
  const first = page_word(m);
  let w = first;
  while (w < first + PAGE_WORDS && mem.I32[w] === GUARD_WORD) w++;
  if (w === first + PAGE_WORDS || !page_guards(m)) return false;
  const value = `0x${(mem.I32[w] >>> 0).toString(16)}`;
  const text = `guard: ${guard_text(m)} was written to: ${value} at ${w * 4}, nothing is harmed`;
  hw.fill(first, GUARD_BYTE, PAGE_WORDS);
  counter_add(v_found, 1);
  kconsole.print(text);
  return true;
}
/** Whose guard page m is, for messages. */
export function guard_text(m: number): string {
  const of = page.index[m];
  if (of === 0) return 'the page after the boot structures';
  const bytes = page.index[of] * PAGE_SIZE;
  const type = life.type_name(page.owner[m]);
  const block = `a block of ${bytes} bytes of type '${type}' at ${of * PAGE_SIZE}`;
  return `the page ${m < of ? 'before' : 'behind'} ${block}`;
}
/** Calls `each` for the guards among pages `from` to before `end`. */
function guards_each(
  from: number,
  end: number,
  each: (m: number) => boolean,
): { seen: number; bad: number } {
  const n = { seen: 0, bad: 0 };
  for (let m = from; m < end; m++) {
    if (!page_guards(m)) continue;
    n.seen++;
    if (each(m)) n.bad++;
  }
  return n;
}
/** Looks at all guards. Returns how many had been written to. */
export function guards_check(): number {
  return guards_each(0, machine.npages[M], guard_look).bad;
}
/** Proves that each guard is one of a block that there is. The machine is quiet. */
export function guards_proof(): void {
  guards_each(0, machine.npages[M], (m) => {
    const of = page.index[m];
    const large = (page.info[of] & PK_MASK) === PK_LARGE;
    const beside = m === of - 1 || (large && m === of + page.index[of]);
    if (of !== 0 && !(large && beside)) panic('guards_proof: a guard of no block', m, of);
    return false;
  });
}
/* Where this thread goes on. */
let cursor = 0;
/** Looks at some of them. A line of the idle table. */
export function guards_idle(): void {
  if (thr.cpu < 0) return;
  const end = machine.npages[M];
  if (cursor >= end) cursor = machine.first_page[M] - 1; // the one after the boot structures
  const to = Math.min(cursor + IDLE_PAGES, end);
  guards_each(cursor, to, guard_look);
  cursor = to;
}
