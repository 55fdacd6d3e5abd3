/*
 * What the tests of the zone allocator share: a booted machine, callbacks that
 * write down when they are called and fail when told to, and workers that run
 * a named job on the machine (uma.test.worker.ts).
 *
 * Workers meet in one page that every thread finds by ROOT_TEST:
 *
 *      word 0 stop · 1.. steps of scripted tests · 64.. the ring
 *
 * The ring is an array of words in which threads exchange items: a thread
 * swaps the item it gives for the one that lies there, and frees that.
 */
import assert from 'node:assert/strict';
import { abandon, type Booted, type BootOptions, boot, shutdown } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { M, machine, ROOT_TEST } from '../machine/header.ts';
import type { Handle } from '../machine/machdep.ts';
import { hw, mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { KernelPanic } from '../machine/panic.ts';
import { elem } from '../machine/struct.ts';
import { vector } from '../machine/vectors.ts';
import { Crew, type Job } from '../machine/workers.test.lib.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { vm_page_alloc, vm_page_wire } from '../page/vm_page.ts';
import { witness_console } from '../sync/witness.ts';

// --- the machine -------------------------------------------------------------------

/** Boots with INVARIANTS unless told otherwise, and lays out the common page. */
export function up(o: BootOptions = {}): Handle {
  const booted: Booted = boot({
    memory: '4M',
    cpus: 6,
    fresh: true,
    ...o,
    options: { INVARIANTS: true, ...o.options },
  });
  witness_console((text) => witness_texts.push(text));
  const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
  vm_page_wire(m, 1);
  hw.fill(page_word(m), 0, PAGE_WORDS);
  machine.roots[elem(M, ROOT_TEST)] = page_word(m);
  return booted.handle;
}
/** What WITNESS said in this thread. */
export const witness_texts: string[] = [];
const crew = new Crew<Record<string, number>>(new URL('./uma.test.worker.ts', import.meta.url));
/** Ends the machine of a test and its workers, whatever state it is in. */
export async function down(): Promise<void> {
  await crew.end();
  try {
    shutdown();
  } catch {
    abandon(); // a machine that panicked lets nobody leave in order
  }
  witness_console(null);
  witness_texts.length = 0;
  reset_calls();
}
export function panics(fn: () => unknown, text: RegExp): void {
  assert.throws(fn, (e) => {
    assert.ok(e instanceof KernelPanic, String(e));
    assert.match(e.message, text);
    return true;
  });
}
export function count_of(name: string): number {
  const c = counters.find((x) => x.name === name);
  assert.ok(c, name);
  return counter_get(c);
}

// --- callbacks ---------------------------------------------------------------------

/** Calls so far, such as 'ctor 48/7/1': what, bytes, argument, flags. */
export const calls: string[] = [];
/** Items passed to each callback, in order. */
export const items = new Map<string, number[]>();
/** Says which calls fail: the n-th call of a callback since reset, from 1. */
export const refuse: Record<'ctor' | 'init' | 'zinit', ((n: number) => boolean) | null> = {
  ctor: null,
  init: null,
  zinit: null,
};
export function reset_calls(): void {
  calls.length = 0;
  items.clear();
  for (const what of ['ctor', 'init', 'zinit'] as const) refuse[what] = null;
}
export function calls_of(what: string): number {
  return items.get(what)?.length ?? 0;
}
function note(what: string, item: number, ...values: number[]): number {
  calls.push(`${what} ${values.join('/')}`);
  const seen = items.get(what) ?? [];
  seen.push(item);
  items.set(what, seen);
  return seen.length;
}
const failing = (what: 'ctor' | 'init' | 'zinit') =>
  vector(`test_${what}`, (item: number, ...values: number[]) => {
    const nth = note(what, item, ...values);
    return refuse[what]?.(nth) ? 12 : 0;
  });
const noting = (what: string) =>
  vector(`test_${what}`, (item: number, ...values: number[]) => void note(what, item, ...values));
export const ctor = failing('ctor');
export const init = failing('init');
export const zinit = failing('zinit');
export const dtor = noting('dtor');
export const fini = noting('fini');
export const zfini = noting('zfini');
/** init and fini that only mark: a live keg item carries its own address in its last word. */
export const mark_init = vector('test_mark_init', (item: number, size: number) => {
  mem.I32[item + (size >> 2) - 1] = item;
  return 0;
});
export const mark_fini = vector('test_mark_fini', (item: number, size: number) => {
  if (mem.I32[item + (size >> 2) - 1] !== item) throw new Error(`fini: ${item} was never init`);
  mem.I32[item + (size >> 2) - 1] = 0;
});

// --- patterns ----------------------------------------------------------------------

/** Fills an item with a pattern of its own. */
export function stamp(item: number, words: number): void {
  for (let i = 0; i < words; i++) mem.I32[item + i] = Math.imul(item + i, 0x9e3779b1);
}
/** Throws if somebody wrote into a stamped item. */
export function check_stamp(item: number, words: number): void {
  for (let i = 0; i < words; i++) {
    if (mem.I32[item + i] !== Math.imul(item + i, 0x9e3779b1)) {
      throw new Error(`item ${item * 4}: word ${i} is ${mem.I32[item + i]}`);
    }
  }
}

// --- workers -----------------------------------------------------------------------

export const RING = 64;
export const RING_SIZE = 128;
/** The word at which the common page starts. */
export function common(): number {
  return machine.roots[elem(M, ROOT_TEST)];
}
export function stop_jobs(): void {
  atomic_store(common(), 1);
}
export function stopped(): boolean {
  return atomic_load(common()) !== 0;
}
/** Step n of a scripted test: words 1.. of the common page. */
export function step_word(n: number): number {
  return common() + n;
}
/** Starts a worker that attaches and runs a job of uma.test.worker.ts. */
export function start(
  handle: Handle,
  job: string,
  args: Record<string, unknown> = {},
): Job<Record<string, number>> {
  return crew.start(handle, job, args);
}
