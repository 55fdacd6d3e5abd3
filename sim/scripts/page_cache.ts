/*
 * page_cache: pages on their way from queue to cache to owner and back, with a death.
 *
 * Each CPU takes pages, notes them in a book, gives some back, zeroed or not, and
 * reclaims, so that caches are filled, emptied, handed over on request and claimed.  A
 * page that a CPU holds two of at a time is in its hand with another.  Afterwards every
 * page is free, cached, of a slab, or in the book.
 */
import { M, machine } from '../../src/sys/machine/header.ts';
import { mem } from '../../src/sys/machine/memory.ts';
import { PK_HAND, PK_MASK, PK_WIRED, VM_ALLOC_ZERO, vm_page } from '../../src/sys/h/vm_page.ts';
import {
  vm_page_alloc_run,
  vm_page_census,
  vm_page_free_run,
  vm_page_settle,
  vm_page_wire,
  vm_page_wired,
} from '../../src/sys/page/vm_page.ts';
import {
  vm_page_get,
  vm_page_get_run,
  vm_page_put,
  vm_page_put_run,
} from '../../src/sys/page/vm_page_cache.ts';
import { phys_root, vm_phys } from '../../src/sys/page/vm_phys.ts';
import { tsleep } from '../../src/sys/sync/subr_sleepqueue.ts';
import { uma_check } from '../../src/sys/uma/uma_check.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { type SimScript, scratch } from '../script.ts';

/** Pages that a CPU may note: 16 words of the book each. */
const EACH = 16;
const book = (cpu: number, i: number): number => scratch() + cpu * EACH + i;

function take(cpu: number, i: number, zero: boolean): void {
  const m = vm_page_get(zero ? VM_ALLOC_ZERO : 0);
  if (m === 0) return;
  mem.I32[book(cpu, i)] = m;
  vm_page_wire(m, 1);
}
/** Two pages in hand at once, as a fault has that needs a page for its page table. */
function take_two(cpu: number, i: number): void {
  const a = vm_page_get(0);
  if (a === 0) return;
  const b = vm_page_get(VM_ALLOC_ZERO);
  mem.I32[book(cpu, i)] = a;
  if (b !== 0) {
    mem.I32[book(cpu, i + 1)] = b;
    vm_page_wired(b, 1);
    vm_page_settle();
  }
  vm_page_wire(a, 1);
}
function give(cpu: number, i: number, zero: boolean): void {
  const m = mem.I32[book(cpu, i)];
  if (m === 0) return;
  vm_page_put(m, zero && (vm_page.flags[m] & 0x40) !== 0);
  mem.I32[book(cpu, i)] = 0;
}
const pages =
  (cpu: number): (() => void) =>
  () => {
    for (let i = 0; i < 6; i++) take(cpu, i, i % 3 === 0);
    take_two(cpu, 6);
    for (let i = 0; i < 8; i += 2) give(cpu, i, i % 4 === 0);
  };
const rest =
  (cpu: number): (() => void) =>
  () => {
    for (let i = 1; i < 8; i += 2) give(cpu, i, false);
  };
const run = (): void => {
  const m = vm_page_alloc_run(5, 0);
  if (m === 0) return;
  vm_page_wire(m, 5);
  vm_page_free_run(m, 5);
};
/** Short runs, kept and taken again; a longer one in between meets one that does not fit. */
const runs = (): void => {
  for (const n of [2, 2, 3, 2]) {
    const m = vm_page_get_run(n, 0);
    if (m !== 0) vm_page_put_run(m, n);
  }
};
const reclaim = (): void => void uma_reclaim();
const nap = (): void => void tsleep(scratch(), 'a nap', 0.5, () => true);

function check(): string | undefined {
  uma_check();
  let noted = 0;
  for (let w = 0; w < 3 * EACH; w++) {
    const m = mem.I32[scratch<number>() + w];
    if (m !== 0 && (vm_page.info[m] & PK_MASK) === PK_WIRED) noted++;
  }
  const census = vm_page_census();
  if (census[PK_HAND] !== 0) return `${census[PK_HAND]} pages in nobody's hand`;
  // A run that its CPU died with is in no book; it is five pages, or none.
  const lost = census[PK_WIRED] - noted;
  return lost === 0 || lost === 5 ? undefined : `${census[PK_WIRED]} pages wired, ${noted} noted`;
}

export const script: SimScript = {
  help: 'page caches: a CPU dies anywhere between queue, cache and owner',
  cpus: 3,
  memory: '12M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    if (vm_phys.cache_max[phys_root()] === 0) throw new Error('this machine has no page caches');
    for (let w = 0; w < 3 * EACH; w++) mem.I32[scratch<number>() + w] = 0;
    machine.lowmem[M] = 0;
  },
  ops: (cpu) =>
    cpu === 2
      ? [pages(cpu), runs, nap, reclaim, rest(cpu), nap]
      : [runs, pages(cpu), run, rest(cpu), runs, reclaim, pages(cpu), rest(cpu)],
  check,
};
