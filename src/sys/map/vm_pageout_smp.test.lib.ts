/*
 * vm_pageout_smp: two workers use four times as many pages as there is memory for, in one space,
 * while a page daemon, or nobody but they, gets pages back.
 *
 *      page    word 0: its number and how often it was written     ...     last word: the same
 *
 * Each page is one worker's, which knows what it wrote last.  Most accesses go to a few pages that
 * change slowly, as a program's do.  A worker that is killed leaves its pages to the test: each
 * holds one of its writes, whole or half done.
 */
import assert from 'node:assert/strict';
import { unlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { boot } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { STORE_NEW } from '../machine/store.ts';
import { NULL } from '../machine/struct.ts';
import { Crew, type Job, until, within } from '../machine/workers.test.lib.ts';
import { KERN_SUCCESS } from '../h/vm_map.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import { swap_area_add } from '../object/swap_area.ts';
import { vm_store_make, vm_store_truncate } from '../object/vm_store.ts';
import { vm_page_free_count } from '../page/vm_page.ts';
import { pageq_check } from '../page/vm_pageq.ts';
import { fuword } from './vm_copy.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import { done_word, map_at, maps_make, stop_word } from './vm_map.test.lib.ts';
import { space_make, spaces_check, spaces_end } from './vm_space.test.lib.ts';

export const WORKERS = 2;
/** The first of the pages. */
export const BASE = 4096;
/** Operations by the dozen between two kills. */
const PROGRESS = 40;
/** Working set over memory. */
const TIMES = 4;

/** What a page holds that was written so often. */
export function stamp(i: number, times: number): number {
  return (i << 12) | (times & 0xfff);
}
export interface Work extends Record<string, unknown> {
  operations: number;
  /** Accesses that were refused for lack of memory. */
  refused: number;
}
export const counted = (name: string): number => {
  const c = counters.find((each) => each.name === name);
  assert.ok(c, name);
  return counter_get(c);
};
const WORKER = new URL('./vm_pageout_smp.test.worker.ts', import.meta.url);

/** A machine, and how it gets pages back. */
export interface How {
  readonly seed: number;
  readonly operations: number;
  readonly daemon: boolean;
  readonly pagers?: number;
  readonly INVARIANTS: boolean;
  /** Workers that are killed one after the other; each has a successor. */
  readonly kills?: number;
  readonly set?: Record<string, number>;
}
export interface Result extends Work {
  pages: number;
  memory: number;
  pageins: number;
  pageouts: number;
  direct: number;
  wakeups: number;
  kills: number;
}
let files = 0;
/** A swap area in a file of its own, which has no name any more. */
function swap_file(slots: number): void {
  const path = join(tmpdir(), `kmem-test-${process.pid}-${files++}.swap`);
  const store = vm_store_make(path, STORE_NEW);
  assert.ok(store > 0, `errno ${-store}`);
  assert.equal(vm_store_truncate(store as vm_store_t, slots * PAGE_SIZE), 0);
  assert.ok(swap_area_add({ store: store as vm_store_t, slots, priority: 0, flags: 0 }) >= 0);
  process.once('exit', () => unlinkSync(path));
}
/** Plays it; throws where a page holds something else than was written to it. */
export async function pressure(how: How): Promise<Result> {
  const { daemon, pagers = 0, INVARIANTS, set = {} } = how;
  const { handle } = boot({
    memory: '3M',
    cpus: WORKERS + 2 + pagers,
    options: { INVARIANTS, WITNESS: INVARIANTS },
    fresh: true,
    seed: how.seed,
    set,
  });
  maps_make();
  assert.ok(space_make(0));
  const memory = vm_page_free_count();
  const pages = memory * TIMES;
  swap_file(pages * 2);
  const rw = VM_PROT_READ | VM_PROT_WRITE;
  const anon = { object: NULL as vm_object_t, offset: 0, cow: 0 };
  const as = { ...anon, protection: rw, max_protection: rw };
  assert.equal(vm_map_fixed(map_at(0), BASE, BASE + pages, as), KERN_SUCCESS);
  const crew = new Crew<Work>(WORKER);
  const done: Work = { operations: 0, refused: 0 };
  const { kills = 0 } = how;
  let killed = 0;
  try {
    let ended = 0;
    const start = (part: number, fresh: number): Job<Work> => {
      const args = { ...how, seed: how.seed + part + fresh * 7, part, pages, fresh };
      const job = crew.start(handle, 'work', args);
      job.done.then(
        () => ended++,
        () => undefined, // it was killed
      );
      return job;
    };
    for (let n = daemon ? 1 + pagers : 0; n > 0; n--) {
      await within(crew.start(handle, 'daemon').up, 'the page daemon');
    }
    const jobs = Array.from({ length: WORKERS }, (_, part) => start(part, 0));
    for (; killed < kills; killed++) {
      const part = killed % WORKERS;
      await within(jobs[part].up, 'the worker');
      const enough = atomic_load(done_word()) + PROGRESS;
      // One that has done all its work makes no progress any more.
      await until(() => atomic_load(done_word()) >= enough || ended > 0, 'work goes on');
      await jobs[part].worker.terminate();
      jobs[part] = start(part, killed + 1);
    }
    for (const { done: end } of jobs) {
      const one = await within(end, 'the workers');
      done.operations += one.operations;
      done.refused += one.refused;
    }
  } finally {
    atomic_store(stop_word(), 1);
    await crew.end();
  }
  for (let i = 0; i < pages; i++) {
    const word = fuword(map_at(0), (BASE + i) * PAGE_SIZE);
    assert.ok(word === 0 || word >>> 12 === i, `page ${i} holds ${word}`);
  }
  spaces_check();
  pageq_check();
  const result = {
    ...{ ...done, pages, memory, kills: killed },
    pageins: counted('vm.stats.vm.v_swappgsin'),
    pageouts: counted('vm.stats.vm.v_swappgsout'),
    direct: counted('vm.pageout_direct'),
    wakeups: counted('vm.stats.vm.v_pdwakeups'),
  };
  spaces_end();
  return result;
}
