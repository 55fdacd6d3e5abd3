/*
 * vm_space_smp: two workers in one space, which fault, write, read, map, unmap, protect and fork
 * there at once, for a test and for a stress program.
 *
 *      pages   | part 0 | part 1 | part 0 | part 1 | ...            | turns
 *                4 pages each: of one worker alone, who knows           of both: one changes it,
 *                every byte                                             the other looks at once
 *
 * No translation may outlive what it came from.  A page of the second kind has a word in memory
 * that says what it is: the worker whose turn it is says so after the change is done, and
 * before it begins the next one that it is changing.  Whoever finds the same word before and after
 * an access must have met what the word says.
 *
 *      word   CHANGING, or a number that goes up; its rest by 4 says what the page is:
 *             0 mapped, holds the number    1 unmapped    2 read-only, holds it    3 no access
 *
 * Meanwhile this thread reads the lists of spaces and objects, as tools do.
 */
import assert from 'node:assert/strict';
import { boot } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { hw, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { Crew, type Job, sleep, within } from '../machine/workers.test.lib.ts';
import { VM_ALLOC_SYSTEM } from '../h/vm_page.ts';
import { procstat_vm, vm_objects } from '../observe/procstat_vm.ts';
import { vmtotal } from '../observe/vm_meter.ts';
import { vm_page_alloc, vm_page_wire } from '../page/vm_page.ts';
import { maps_make, stop_word } from './vm_map.test.lib.ts';
import './vm_syscalls.ts'; // as the workers have it
import { space_make, spaces_check, spaces_end } from './vm_space.test.lib.ts';

export const WORKERS = 2;
/** Pages that are side by side and of one worker. */
export const BLOCK = 4;
export const BLOCKS = 16;
export const TURNS = 6;
/** First page of each worker's part, and of those that they change in turns. */
export const OWN = 500;
export const TURN = OWN + BLOCK * BLOCKS + 2;
/** Of a page that they change in turns: somebody does it now. */
export const CHANGING = -1;

/** What a worker did. */
export interface Done {
  operations: number;
  /** Bytes that were compared. */
  bytes: number;
  forks: number;
  /** Forks that were refused because a CPU was silent. */
  refused: number;
  /** Accesses that met what the word said, in the middle of which nobody changed it. */
  met: number;
}
export const NONE: Done = { operations: 0, bytes: 0, forks: 0, refused: 0, met: 0 };
export function add(to: Done, more: Done): Done {
  for (const key of Object.keys(NONE) as (keyof Done)[]) to[key] += more[key];
  return to;
}
export const counted = (name: string): number => {
  const c = counters.find((k) => k.name === name);
  assert.ok(c, name);
  return counter_get(c);
};
export const WORKER = new URL('./vm_space_smp.test.worker.ts', import.meta.url);
/** A page of the kernel's that all threads find, zeros. Its first word. */
export function page_of_words(): number {
  const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
  assert.ok(m > 0, 'no memory');
  vm_page_wire(m, 1);
  hw.fill(page_word(m), 0, PAGE_WORDS);
  return page_word(m);
}
/** What no list may say, whatever goes on. */
function look(): void {
  const pages = (bytes: number): number => bytes / 4096;
  for (const e of procstat_vm()) {
    assert.ok(e.start < e.end && e.resident <= pages(e.end - e.start), JSON.stringify(e));
    assert.ok(e.private_resident <= e.resident, JSON.stringify(e));
    assert.ok(e.refs > 0 || e.type === 0, JSON.stringify(e));
  }
  const objects = vm_objects();
  for (const o of objects) {
    assert.ok(o.refs > 0 && o.active + o.inactive <= o.resident, JSON.stringify(o));
  }
  assert.equal(new Set(objects.map((o) => o.me)).size, objects.length, 'no object twice');
  const t = vmtotal();
  assert.ok(t.avm <= t.vm && t.arm <= t.rm && t.rmshr <= t.rm, JSON.stringify(t));
}
/**
 * Both workers, until each has done so many operations, and `meanwhile` again and again. What they
 * did, and what was counted.
 */
export async function together(
  seed: number,
  operations: number,
  meanwhile = look,
): Promise<Done & { looks: number; shootdowns: number; faults: number }> {
  const options = { INVARIANTS: true, WITNESS: true };
  const { handle } = boot({ memory: '32M', cpus: WORKERS + 1, options, fresh: true });
  maps_make();
  const words = page_of_words();
  assert.ok(space_make(0));
  const crew = new Crew<Done & Record<string, number>>(WORKER);
  const start = (part: number): Job<Done & Record<string, number>> =>
    crew.start(handle, 'share', { seed: seed + part, part, operations, words });
  const done = { ...NONE };
  let looks = 0;
  try {
    const jobs = Array.from({ length: WORKERS }, (_, part) => start(part));
    let over = false;
    const all = Promise.all(jobs.map((j) => j.done)).finally(() => (over = true));
    all.catch(() => undefined);
    for (; !over; looks++) {
      meanwhile();
      await sleep(5);
    }
    for (const one of await within(all, 'the workers')) add(done, one);
  } finally {
    atomic_store(stop_word(), 1);
    await crew.end();
  }
  assert.equal(atomic_load(stop_word()), 1);
  spaces_check();
  const shootdowns = counted('vm.stats.tlb.shootdowns');
  const faults = counted('vm.stats.vm.v_vm_faults');
  assert.equal(counted('vm.stats.vm.v_forks'), done.forks);
  spaces_end();
  return { ...done, looks, shootdowns, faults };
}
