/*
 * Test driver: address spaces that are read and written by addresses, and a model of what they
 * hold.
 *
 * A space has a window of pages, across two page tables.  Memory is mapped there, taken out,
 * protected, read, written and forked by the calls that programs make.  What a page holds is
 * its first and its last word.  The model is an array for each space.
 */
import assert from 'node:assert/strict';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { atomic_and } from '../machine/atomic.ts';
import { CPU_REQ_TLB, cpu_slots, cpu_state_word, poll } from '../machine/cpu.ts';
import { EFAULT, ENOMEM } from '../machine/errno.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import { checked_quiet } from '../machine/parts.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { opt } from '../machine/opt.ts';
import { NULL } from '../machine/struct.ts';
import {
  KERN_FAILURE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  VM_MAP_MAX,
  vm_map,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJT_DEVICE, vm_object, type vm_object_t } from '../h/vm_object.ts';
import {
  PG_FICTITIOUS,
  PG_UNMANAGED,
  PK_LIMBO,
  PK_MASK,
  PK_OBJECT,
  PK_TABLE,
  vm_page,
} from '../h/vm_page.ts';
import { VM_PROT_NONE, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { objects_all } from '../object/vm_object_check.ts';
import { vm_page_census, vm_page_check } from '../page/vm_page.ts';
import { vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import { PQ_NONE, page_queue, vm_page_wirings } from '../page/vm_pageq.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { pmap_check } from '../pmap/pmap_check.ts';
import { uma_check } from '../uma/uma_check.ts';
import { fuword, vm_access } from './vm_copy.ts';
import { maps_all, vm_maps_check } from './vm_map_check.ts';
import { vmspace_alloc, vmspace_fork } from './vm_map_fork.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import { vm_map_protect, vm_map_remove } from './vm_map_range.ts';
import { vm_rss_limit } from './vm_rss.ts';
import {
  ANON,
  MAPS,
  map_anchors,
  map_at,
  map_drop,
  map_put,
  maps_make,
} from './vm_map.test.lib.ts';

const page = vm_page;

export const SPACES = MAPS;
/** First page of the window, and how many. */
export const FIRST = 980;
export const WINDOW = 90;
const RW = VM_PROT_READ | VM_PROT_WRITE;

/** What a page of a space is: what it holds, and what may be done with it; null: not mapped. */
export type Cell = { value: number; prot: number } | null;
export type Model = Map<number, Cell[]>;

/** A new space at a place of the table. False: no memory. */
export function space_make(s: number): boolean {
  const mp = vmspace_alloc(16, VM_MAP_MAX);
  if (mp === NULL) return false;
  map_put(s, mp);
  return true;
}
/** Maps zeros to n pages from the i-th on, in place of what is there. A KERN_* code. */
export function space_map(s: number, i: number, n: number): number {
  const how = { ...ANON, protection: RW };
  return vm_map_fixed(map_at(s), FIRST + i, FIRST + i + n, how);
}
export function space_unmap(s: number, i: number, n: number): number {
  return vm_map_remove(map_at(s), FIRST + i, FIRST + i + n);
}
export function space_protect(s: number, i: number, n: number, prot: number): number {
  return vm_map_protect(map_at(s), FIRST + i, FIRST + i + n, prot, false);
}
/** Another space sees what this one sees. A KERN_* code. */
export function space_fork(from: number, to: number): number {
  const made = vmspace_fork(map_at(from));
  if (made < 0) return -made;
  map_put(to, made as vm_map_t);
  return KERN_SUCCESS;
}
/** Writes to the first and the last word of page i. An errno, or 0. */
export function space_write(s: number, i: number, value: number): number {
  const at = (FIRST + i) * PAGE_SIZE;
  const store = (w: number): void => void (mem.I32[w / 4] = value);
  const { error } = vm_access(map_at(s), at, 4, true, store);
  return error === 0 ? vm_access(map_at(s), at + PAGE_SIZE - 4, 4, true, store).error : error;
}
/** The first word of page i, which is the one written first. */
export function space_first(s: number, i: number): number {
  return fuword(map_at(s), (FIRST + i) * PAGE_SIZE);
}
/** What page i holds; -errno; undefined: its two words differ. */
export function space_read(s: number, i: number): number | undefined {
  const at = (FIRST + i) * PAGE_SIZE;
  const seen: number[] = [];
  for (const where of [at, at + PAGE_SIZE - 4]) {
    const { error } = vm_access(map_at(s), where, 4, false, (w) => void seen.push(mem.I32[w / 4]));
    if (error !== 0) return -error;
  }
  return seen[0] === seen[1] ? seen[0] : undefined;
}

/** One random operation on the spaces of a range, and on their model. Throws if they differ. */
export function spaces_step(
  draw: (n: number) => number,
  model: Model,
  first: number,
  count: number,
): void {
  const s = first + draw(count);
  const has = model.get(s);
  if (has === undefined) return begin(draw, model, s, first + draw(count));
  const what = draw(100);
  const i = draw(WINDOW);
  const n = 1 + draw(Math.min(WINDOW - i, 20));
  if (what < 36) write(has, s, i, 1 + draw(2 ** 30));
  else if (what < 72) look(has, s, i);
  else if (what < 84) range(has, i, n, space_map(s, i, n), () => ({ value: 0, prot: RW }));
  else if (what < 89) range(has, i, n, space_unmap(s, i, n), () => null);
  else if (what < 96) {
    const prot = [VM_PROT_NONE, VM_PROT_READ, RW][draw(3)];
    const after = (cell: Cell): Cell => (cell === null ? null : { ...cell, prot });
    range(has, i, n, space_protect(s, i, n, prot), after);
  } else if (what < 98) {
    vm_rss_limit(map_at(s), draw(12)); // what a space holds does not depend on it
  } else {
    map_drop(s);
    model.delete(s);
  }
}
function begin(draw: (n: number) => number, model: Model, s: number, from: number): void {
  const seen = model.get(from);
  if (seen !== undefined) {
    const result = space_fork(from, s);
    if (result === KERN_SUCCESS) model.set(s, [...seen]);
    else if (result !== KERN_RESOURCE_SHORTAGE && result !== KERN_FAILURE) {
      throw new Error(`fork: ${result}`);
    }
  } else if (space_make(s)) model.set(s, new Array<Cell>(WINDOW).fill(null));
}
/** A change of a range that was answered with `result`: all of it, or for lack of memory none. */
function range(has: Cell[], i: number, n: number, result: number, after: (c: Cell) => Cell): void {
  if (result === KERN_RESOURCE_SHORTAGE || result === KERN_FAILURE) return;
  if (result !== KERN_SUCCESS) throw new Error(`pages ${i} to ${i + n}: ${result}`);
  for (let k = i; k < i + n; k++) has[k] = after(has[k]);
}
function write(has: Cell[], s: number, i: number, value: number): void {
  const cell = has[i];
  const error = space_write(s, i, value);
  const want = cell !== null && cell.prot & VM_PROT_WRITE ? 0 : EFAULT;
  if (error === ENOMEM && want === 0) return;
  if (error !== want) throw new Error(`space ${s}, page ${i}: write says ${error}, not ${want}`);
  if (cell !== null && want === 0) has[i] = { ...cell, value };
}
function look(has: Cell[], s: number, i: number): void {
  const cell = has[i];
  const got = space_read(s, i);
  const want = cell !== null && cell.prot & VM_PROT_READ ? cell.value : -EFAULT;
  if (got !== want && got !== -ENOMEM) {
    throw new Error(`space ${s}, page ${i} holds ${got}, not ${want}`);
  }
}
/** Every page of every space is what the model says. */
export function spaces_compare(model: Model): void {
  for (const [s, has] of model) for (let i = 0; i < WINDOW; i++) look(has, s, i);
}
/** Proves all maps, objects and page tables. The machine is quiet. */
export function spaces_check(): void {
  vm_maps_check(map_anchors);
  checked_quiet(true);
  for (const mp of maps_all()) if (vm_map.pmap[mp] !== NULL) pmap_check(vm_map.pmap[mp]);
  checked_quiet(false);
}
/** Every page that reclaiming may have is where reclaiming looks for it: on a queue. */
export function queued_check(): void {
  const ph = phys_root();
  for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) {
    const kept = page.flags[m] & (PG_UNMANAGED | PG_FICTITIOUS) || vm_page_wirings(m) !== 0;
    if ((page.info[m] & PK_MASK) !== PK_OBJECT || kept || page.busy[m] !== 0) continue;
    if (page_queue(m) === PQ_NONE) throw new Error(`page ${m}, of an object, is on no queue`);
  }
}
/** Every space is dropped: nothing is left. */
export function spaces_end(): void {
  for (let s = 0; s < SPACES; s++) if (map_at(s) !== NULL) map_drop(s);
  if (opt.SIM) {
    // The others answer, as their event loops would.
    for (let cpu = 0; cpu < cpu_slots(); cpu++) atomic_and(cpu_state_word(cpu), ~CPU_REQ_TLB);
  }
  poll(); // others may have asked this CPU, and freed pages wait for its answer
  vm_page_limbo_free();
  assert.deepEqual(maps_all(), []);
  const devices = (o: vm_object_t): boolean => vm_object.type[o] === OBJT_DEVICE;
  assert.ok(objects_all().every(devices), 'the objects of devices stay');
  const census = vm_page_census();
  assert.deepEqual([census[PK_OBJECT], census[PK_TABLE], census[PK_LIMBO]], [0, 0, 0]);
  spaces_check();
  uma_check();
  vm_page_check();
}
/** So many operations on spaces and on their models, in a machine that is up. */
export function spaces_play(steps: number, seed: number, check_each: number): void {
  const draw = dice(seed);
  const model: Model = new Map();
  for (let i = 0; i < steps; i++) {
    spaces_step(draw, model, 0, SPACES);
    if (i % check_each === 0) spaces_check();
  }
  spaces_compare(model);
  spaces_check();
}

/** What plays operations on spaces beside a model, step by step. */
export interface Playing {
  step(): void;
  check(): void;
  end(): void;
}
/** Plays `steps` operations in such a machine; throws, with the seed, where the two differ. */
export function play_steps(
  seed: number,
  steps: number,
  options: Parameters<typeof boot>[0],
  make: () => Playing,
): void {
  boot({ cpus: 1, fresh: true, seed, ...options });
  let clean = false;
  try {
    maps_make();
    const play = make();
    for (let n = 0; n < steps; n++) {
      try {
        play.step();
        if (n % 512 === 511) play.check();
      } catch (e) {
        throw new Error(`seed ${seed}, step ${n}`, { cause: e });
      }
    }
    play.end();
    clean = true;
  } finally {
    if (clean) shutdown();
    else abandon();
  }
}
