/*
 * What the tests of the two lowest floors share: a machine of these floors
 * alone, one record of shared words and locks, and workers that run a named
 * job on it (sync.test.worker.ts).
 *
 * The machine is brought up here and not by boot/main.ts, so that these tests
 * prove machine/ and sync/ by themselves: no higher floor is even imported.
 */
import { Worker } from 'node:worker_threads';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { slot_leave, slot_start, slot_take, thr_forget } from '../machine/cpu_slots.ts';
import { boot_alloc, M, machine, PHASE_UP, ROOT_TEST } from '../machine/header.ts';
import {
  type Handle,
  machine_bind,
  machine_boot,
  machine_freeze,
  machine_handle,
} from '../machine/machdep.ts';
import { type AtomicsKind, memory_size } from '../machine/memory.ts';
import { type Options, opt, opt_word } from '../machine/opt.ts';
import { elem, field_word, i32, lock_words, type Ptr, struct, words } from '../machine/struct.ts';
import { checked_boot } from './checked.ts';
import { MTX_WORDS, mtx_init } from './kern_mutex.ts';
import { RW_WORDS, rw_init } from './kern_rwlock.ts';
import { prof_boot } from './lock_prof.ts';
import {
  LC_MALLOC,
  LC_SYSCTL_MEM,
  LC_USER_MTX,
  LC_USER_RW,
  LC_USER_SX,
  LC_ZONE,
} from './lock_order.ts';
import { sleepq_boot } from './subr_sleepqueue.ts';
import { witness_boot } from './witness.ts';

export type area_t = Ptr<'test_area'>;
/** Letters: (s) under `mtx`  (w) under `rw`  (u) under `undo`  (x) under `undo_sx`  (a) atomic */
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
  a: i32('s', 'goes up first'),
  b: i32('s', 'goes up second'),
  x: i32('w', 'goes up first'),
  y: i32('w', 'goes up second'),
  left: i32('u', 'items on the left'),
  right: i32('u', 'items on the right'),
  sx_left: i32('x', 'items on the left'),
  sx_right: i32('x', 'items on the right'),
  tokens: i32('s', 'tokens in the pool'),
  stop: i32('a', 'jobs end when it is set'),
  gate: i32('a', 'steps of a scripted test'),
  refs: i32('a', 'reference count'),
  spoil: words('-', 'work inside a section', 16),
  progress: words('a', 'rounds of each CPU, a line apart', 16 * 16),
});

export interface Up {
  options?: Partial<Options>;
  memory?: string;
  cpus?: number;
  atomics?: AtomicsKind;
}

/** Boots a new machine of the floors machine/ and sync/, with the record in it. */
export function bring_up(o: Up = {}): Handle {
  machine_freeze();
  machine_boot({
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
  slot_take();
  atomic_store(field_word(machine.phase, M), PHASE_UP);
  slot_start();
  if (opt.CHECKED) checked_boot();
  return machine_handle();
}
/** Makes this thread a CPU of the machine. */
export function join(handle: Handle): void {
  machine_freeze();
  machine_bind(handle, []);
  slot_take();
  slot_start();
  if (opt.CHECKED) checked_boot();
}
const workers: Worker[] = [];
/** Ends the machine of a test: its workers too, so that a failed test does not hang. */
export function leave(): void {
  for (const worker of workers.splice(0)) void worker.terminate();
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

export interface Job {
  readonly worker: Worker;
  /** Resolves once the worker is a CPU. */
  readonly up: Promise<number>;
  /** What the job returned; rejects with what it threw. */
  readonly done: Promise<Record<string, unknown>>;
}
/** Starts a worker that joins and runs a job of sync.test.worker.ts. */
export function start(handle: Handle, job: string, args: Record<string, unknown> = {}): Job {
  const worker = new Worker(new URL('./sync.test.worker.ts', import.meta.url), {
    workerData: { handle, job, args },
  });
  workers.push(worker);
  const { promise: up, resolve: is_up, reject: not_up } = Promise.withResolvers<number>();
  const { promise: done, resolve, reject } = Promise.withResolvers<Record<string, unknown>>();
  worker.on('message', (m: { up?: number; result?: Record<string, unknown>; error?: string }) => {
    if (m.up !== undefined) is_up(m.up);
    else if (m.error !== undefined) {
      not_up(new Error(m.error));
      reject(new Error(m.error));
    } else resolve(m.result ?? {});
  });
  worker.on('error', reject);
  up.catch(() => {});
  done.catch(() => {}); // a test that kills the worker does not wait for it
  return { worker, up, done };
}
export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
/** Waits, with the event loop running, until `holds`; fails after `ms`. */
export async function until(holds: () => boolean, what: string, ms = 10_000): Promise<void> {
  const end = performance.now() + ms;
  while (!holds()) {
    if (performance.now() > end) throw new Error(`gave up waiting: ${what}`);
    await sleep(2);
  }
}
/** Waits for a promise, but not for ever: a lost wake-up is a failed test. */
export async function within<T>(promise: Promise<T>, what: string, ms = 20_000): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no end: ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
export function stop_jobs(t: area_t): void {
  atomic_store(field_word(area.stop, t), 1);
}
export function progress_of(t: area_t, cpu: number): number {
  return atomic_load(field_word(area.progress, t) + cpu * 16);
}
/** A small generator: the same seed gives the same numbers everywhere. */
export function random(seed: number): (n: number) => number {
  let s = (seed * 2654435761) >>> 0 || 1;
  return (n) => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return (s >>> 8) % n;
  };
}
