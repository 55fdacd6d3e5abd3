/*
 * counter: event counts that cost one plain addition.
 *
 * Each CPU has a block with one double per declared counter, on lines of its
 * own; the owner adds, a reader sums over all slots.  A sum is a sample: while
 * CPUs run it may miss their latest events, and it never goes back.
 *
 * A counter is declared where it is counted.  Its name is a sysctl name, and
 * the sysctl tree shows it read-only with its description.
 *
 *      | slot 0: a double for each counter, in the order of names | slot 1 ... |
 *
 * The blocks fill pages of their own, so that a memory object can show them to a reader.
 */
import { boot_alloc, M, machine } from './header.ts';
import { mem as mem_, PAGE_WORDS } from './memory.ts';
import { cpu_slots, pcpu as pcpu_, thr as thr_ } from './cpu.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const pcpu = pcpu_;
const thr = thr_;

export interface Counter {
  readonly name: string;
  /** What is counted: read by help_of (sysctl_decl.ts). */
  readonly help?: string | undefined;
  index: number;
}
export const counters: Counter[] = [];

/** The type that readers know a counter by: an unsigned int below vm.stats, as in BSD. */
export function counter_type(c: Counter): 'uint' | 'u64' {
  return c.name.startsWith('vm.stats.') ? 'uint' : 'u64';
}
/** Declares a 64-bit event counter under a sysctl name. */
export function counter_u64(name: string, help: string): Counter {
  const c: Counter = { name, help, index: -1 };
  counters.push(c);
  return c;
}

/** Numbers the counters; the same in every thread, whatever the order of import. */
export function counters_freeze(): void {
  counters.sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  for (const [i, c] of counters.entries()) c.index = i;
}
/** Gives every CPU its block. */
export function counters_boot(): void {
  const each = Math.ceil((counters.length * 2) / 32) * 32;
  machine.counter_words[M] = each;
  const words = counter_pages() * PAGE_WORDS;
  machine.counters[M] = boot_alloc(words, 'event counters', PAGE_WORDS);
}
/** Pages that the blocks of all CPUs fill. */
export function counter_pages(): number {
  return Math.ceil((machine.counter_words[M] * cpu_slots()) / PAGE_WORDS);
}

/** Adds to a counter: plain, on this CPU's own line. */
export function counter_add(c: Counter, n: number): void {
  mem.F64[(pcpu.counters[thr.pc] >> 1) + c.index] += n;
}
/** The two words of a counter on this CPU: to log them before they change. */
export function counter_words(c: Counter): readonly [number, number] {
  const w = pcpu.counters[thr.pc] + c.index * 2;
  return [w, w + 1];
}
/** What this CPU alone has counted. */
export function counter_here(c: Counter): number {
  return mem.F64[(pcpu.counters[thr.pc] >> 1) + c.index];
}
/** The sum over all CPUs: a sample while they run. */
export function counter_get(c: Counter): number {
  let sum = 0;
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    sum += mem.F64[((machine.counters[M] + cpu * machine.counter_words[M]) >> 1) + c.index];
  }
  return sum;
}
