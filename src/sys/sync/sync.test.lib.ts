/*
 * What the tests of the two lowest floors share: a machine of these floors
 * alone, one record of shared words and locks, and workers that run a named
 * job on it (sync.test.worker.ts).
 *
 * The machine is brought up here and not by boot/main.ts, so that these tests
 * prove machine/ and sync/ by themselves: no higher floor is even imported.
 */
import assert from 'node:assert/strict';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get } from '../machine/counter.ts';
import { thr } from '../machine/cpu.ts';
import {
  slot_joined,
  slot_leave,
  slot_start,
  slot_take,
  slots_full,
  thr_forget,
} from '../machine/cpu_slots.ts';
import { claim_stuck, claims_reap, reap_all, v_reaps } from '../machine/death.ts';
import { life_begin } from '../machine/life.ts';
import { boot_alloc, M, machine, PHASE_UP, ROOT_TEST } from '../machine/header.ts';
import {
  type Handle,
  machine_bind,
  machine_boot,
  machine_find,
  machine_freeze,
  machine_handle,
  machine_open,
} from '../machine/machdep.ts';
import { type AtomicsKind, memory_size } from '../machine/memory.ts';
import { type Options, opt_word } from '../machine/opt.ts';
import { checked_boot, parts_begin, prof_boot, witness_boot } from '../machine/parts.ts';
import {
  elem,
  field_word,
  i32,
  lock_words,
  type Ptr,
  struct,
  unchecked,
  words,
} from '../machine/struct.ts';
import { type Counts, Crew, type Job, until } from '../machine/workers.test.lib.ts';
import { checked_letter } from './checked.ts';
import { MTX_WORDS, mtx_init } from './kern_mutex.ts';
import { RW_WORDS, rw_init } from './kern_rwlock.ts';
import { lock_parts } from './lock_parts.ts';
import {
  LC_MALLOC,
  LC_SYSCTL_MEM,
  LC_USER_MTX,
  LC_USER_RW,
  LC_USER_SX,
  LC_ZONE,
} from './lock_order.ts';
import { chain_rebuild, locks_reap, sleepq_boot, sleepq_reap } from './subr_sleepqueue.ts';
import { undo_private_reap } from './undo.ts';

export type area_t = Ptr<'test_area'>;
/** Words that a long undo section changes: more than an eighth of the log. */
export const CELLS = 100;
/**
 * Letters: (s) under `mtx`  (w) under `rw`  (u) under `undo`  (x) under `undo_sx`  (a) atomic
 *          (h) beside another: the tests look when the jobs are over
 */
export const area = struct<area_t>(
  'test_area',
  32,
)({
  mtx: lock_words(MTX_WORDS, 'user mtx', 'guards a and b; class panic'),
  mtx2: lock_words(MTX_WORDS, 'user mtx', 'a second one'),
  mtx3: lock_words(MTX_WORDS, 'user mtx', 'a third one'),
  rw: lock_words(RW_WORDS, 'user rw', 'guards x and y'),
  sx: lock_words(RW_WORDS, 'user sx', 'may be held asleep'),
  undo: lock_words(MTX_WORDS, 'malloc', 'guards left and right; class undo'),
  zone: lock_words(MTX_WORDS, 'UMA zone', 'class undo, later in the order'),
  undo_sx: lock_words(RW_WORDS, 'sysctl mem', 'class undo, shared/exclusive'),
  a: i32('sh', 'goes up first'),
  b: i32('sh', 'goes up second'),
  x: i32('wh', 'goes up first'),
  y: i32('wh', 'goes up second'),
  left: i32('uh', 'items on the left'),
  right: i32('uh', 'items on the right'),
  sx_left: i32('xh', 'items on the left'),
  sx_right: i32('xh', 'items on the right'),
  tokens: i32('sh', 'tokens in the pool'),
  got: i32('a', 'tokens taken out of it so far'),
  stop: i32('a', 'jobs end when it is set'),
  gate: i32('a', 'steps of a scripted test'),
  refs: i32('a', 'reference count'),
  spoil: words('-', 'work inside a section', 16),
  cells: words('u', 'all the same', CELLS),
  mine: words(
    unchecked('each CPU has its own line'),
    'two words of each CPU: their sum is CELLS, a line apart',
    16 * 16,
  ),
  progress: words('a', 'rounds of each CPU, a line apart', 16 * 16),
});

const none = (): never => {
  throw new Error('there is no such floor in this test');
};
const nothing = (): void => {};
parts_begin({ ...lock_parts, checked_letters: nothing, panic_dump: nothing });
life_begin({
  attach: [],
  leave: [],
  death_lockless: [
    [locks_reap, 'its locks'],
    [claims_reap, 'its claims'],
  ],
  death: [
    [sleepq_reap, 'its sleeps'],
    [undo_private_reap, 'its private sections'],
  ],
  bell: [],
  idle: [],
  panic: [],
  lowmem: [],
  recover: { 'sleep queue': [chain_rebuild, 'made anew'] },
  page_unowned: new Map(),
  object_loan_end: none,
  claim_stuck,
  locks_held: () => [],
  reclaim: none,
  lock_label: () => '',
  unhold: () => 0,
  class_counts: none,
  type_name: none,
  hold_wait: () => {},
});

export interface Up {
  options?: Partial<Options>;
  memory?: string;
  cpus?: number;
  atomics?: AtomicsKind;
}

/** Explains the letters of the record to a checked machine. */
function area_letters(): void {
  checked_letter('test_area', 'w', (t) => t + area.rw);
  checked_letter('test_area', 'u', (t) => t + area.undo);
  checked_letter('test_area', 'x', (t) => t + area.undo_sx);
}
area_letters();

/** Boots a new machine of the floors machine/ and sync/, with the record in it. */
export function bring_up(o: Up = {}): Handle {
  machine_freeze();
  const taken = machine_boot({
    size: memory_size(o.memory ?? '4M'),
    cpus: o.cpus ?? 6,
    options: opt_word({ INVARIANTS: true, ...o.options }),
    atomics: o.atomics ?? 'auto',
    fresh: true,
    domains: 1,
    site: 'test',
    seed: 1,
    tunables: new Map(),
    columns: [],
  });
  sleepq_boot();
  witness_boot();
  prof_boot();
  const t = boot_alloc(area.sizeof, 'test area', 32) as area_t;
  machine.roots[elem(M, ROOT_TEST)] = t;
  mtx_init(area.mtx, t, LC_USER_MTX);
  mtx_init(area.mtx2, t, LC_USER_MTX);
  mtx_init(area.mtx3, t, LC_USER_MTX);
  rw_init(area.rw, t, LC_USER_RW);
  rw_init(area.sx, t, LC_USER_SX);
  mtx_init(area.undo, t, LC_MALLOC);
  mtx_init(area.zone, t, LC_ZONE);
  rw_init(area.undo_sx, t, LC_SYSCTL_MEM);
  slot_start(taken);
  atomic_store(field_word(machine.phase, M), PHASE_UP);
  machine_open(taken.generation);
  slot_joined();
  checked_boot();
  return machine_handle();
}
/** Makes this thread a CPU of the machine; gives its slot. */
export function join(handle: Handle): number {
  machine_freeze();
  machine_find(handle);
  const taken = slot_take(handle.generation) ?? slots_full();
  machine_bind(handle, []);
  slot_start(taken);
  slot_joined();
  checked_boot();
  return thr.cpu;
}
const crew = new Crew<Counts>(new URL('./sync.test.worker.ts', import.meta.url));
/** Starts a worker that joins and runs a job of sync.test.worker.ts. */
export function start(handle: Handle, job: string, args: Counts = {}): Job<Counts> {
  return crew.start(handle, job, args);
}
/** Ends the machine of a test: its workers too, so that a failed test does not hang. */
export function leave(): void {
  void crew.end();
  try {
    slot_leave();
  } catch {
    thr_forget(); // a machine that panicked lets nobody leave in order
  }
}
/** The shared record. */
export function the_area(): area_t {
  return machine.roots[elem(M, ROOT_TEST)] as area_t;
}

export function stop_jobs(t: area_t): void {
  atomic_store(field_word(area.stop, t), 1);
}
export function progress_of(t: area_t, cpu: number): number {
  return atomic_load(field_word(area.progress, t) + cpu * 16);
}
/** A step of a scripted test: jobs that wait for it go on. */
export function go(t: area_t, step: number): void {
  atomic_store(field_word(area.gate, t), step);
}
/** Waits until each of these CPUs has done so many more rounds of its job. */
export async function all_move(t: area_t, cpus: number[], rounds: number): Promise<void> {
  const from = cpus.map((cpu) => progress_of(t, cpu));
  for (const [i, cpu] of cpus.entries()) {
    await until(() => progress_of(t, cpu) >= from[i] + rounds, `cpu${cpu} goes on`);
  }
}
/** Reaps, or waits while others do, until so many threads have been settled since boot. */
export async function reaped(cpus: number): Promise<void> {
  await until(() => {
    reap_all();
    return counter_get(v_reaps) >= cpus;
  }, `${cpus} dead threads are settled`);
  assert.equal(counter_get(v_reaps), cpus);
}
