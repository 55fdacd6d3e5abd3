/*
 * The workers of vm_store_smp.test.ts.
 *
 *      serve     does what it is asked, one call at a time, and answers; idle in its event loop
 *                in between, where it hears of stores that ended
 *      hammer    makes, reads, writes and drops stores of its own beside one that all share,
 *                until it is told to stop or is killed
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { STORE_NEW, STORE_READ, STORE_WRITE } from '../machine/store.ts';
import { type StoreFault, type StoreOp, store_fault_at } from '../machine/store_fault.ts';
import { own_count } from '../machine/store_own.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import { undo_begin_private, undo_end } from '../sync/undo.ts';
import {
  vm_store_anchor,
  vm_store_drop,
  vm_store_make,
  vm_store_open,
  vm_store_readv,
  vm_store_remove,
  vm_store_reference,
  vm_store_size,
  vm_store_unanchor,
  vm_store_writev,
} from './vm_store.ts';

/** What a worker that serves is asked for, and what it answers. */
export const SERVES = {
  /** A store over a file, to which a record of the test leads from here on. */
  make(path: string, how: number): number {
    const s = vm_store_make(path, how);
    if (s < 0) return s;
    undo_begin_private();
    vm_store_anchor(s as vm_store_t);
    undo_end();
    return s;
  },
  end(s: vm_store_t): number {
    undo_begin_private();
    vm_store_unanchor(s);
    undo_end();
    vm_store_drop(s);
    return 0;
  },
  open: (s: vm_store_t): number => vm_store_open(s),
  size: (s: vm_store_t): number => vm_store_size(s),
  /** The bytes there, which are all the same; the errno, negated, or -1000 if they differ. */
  read(s: vm_store_t, at: number, n: number): number {
    const into = [new Uint8Array(n >> 1), new Uint8Array(n - (n >> 1))];
    const got = vm_store_readv(s, at, into);
    if (got < 0) return got;
    const [first] = into[0];
    return got === n && into.every((view) => view.every((v) => v === first)) ? first : -1000;
  },
  write: (s: vm_store_t, at: number, n: number, value: number): number =>
    vm_store_writev(s, at, [
      new Uint8Array(n >> 1).fill(value),
      new Uint8Array(n - (n >> 1)).fill(value),
    ]),
  fault(op: StoreOp, n: number, fault: StoreFault): number {
    store_fault_at(op, n, fault);
    return 0;
  },
  own: (): number => own_count(),
  leave(): number {
    detach();
    return own_count();
  },
};

const PART = 4096;
/** Stores of its own, and its part of one that all share. Returns the turns. */
function hammer(a: HammerArgs): number {
  const draw = dice(a.seed);
  let mine: { s: vm_store_t; value: number } | null = null;
  let files = 0;
  let n = 0;
  for (; atomic_load(a.stop) === 0; n++) {
    if (n % 16 === 0) atomic_add(a.done, 16);
    const value = draw(255) + 1;
    const what = draw(10);
    if (what === 0) {
      if (mine !== null) {
        expect(vm_store_remove(mine.s));
        vm_store_drop(mine.s);
      }
      const s = vm_store_make(`${a.folder}/${a.seed}-${files++}`, STORE_NEW);
      if (s < 0) throw new Error(`made: errno ${-s}`);
      mine = { s: s as vm_store_t, value: 0 };
      expect(SERVES.write(mine.s, 0, PART, 0));
    } else if (what === 1) {
      vm_store_reference(a.shared);
      vm_store_drop(a.shared);
    } else if (what === 2) {
      const s = vm_store_make(a.path, draw(2) === 0 ? STORE_READ : STORE_WRITE);
      if (s < 0) throw new Error(`the shared file: errno ${-s}`);
      vm_store_drop(s as vm_store_t);
    } else if (what < 6 && mine !== null) {
      if (SERVES.read(mine.s, 0, PART) !== mine.value) throw new Error('its own file');
      mine.value = value;
      expect(SERVES.write(mine.s, 0, PART, value));
    } else {
      expect(SERVES.write(a.shared, a.me * PART, PART, value));
      if (SERVES.read(a.shared, a.me * PART, PART) !== value) throw new Error('its part');
    }
  }
  if (mine !== null) vm_store_drop(mine.s);
  return n;
}
function expect(error: number): void {
  if (error !== 0) throw new Error(`errno ${error}`);
}
interface HammerArgs {
  readonly seed: number;
  readonly me: number;
  readonly folder: string;
  readonly path: string;
  readonly shared: vm_store_t;
  readonly stop: number;
  readonly done: number;
}

export interface Asked {
  readonly call: keyof typeof SERVES;
  readonly args: readonly unknown[];
}
if (workerData?.serve !== undefined) {
  const cpu = attach(workerData.serve);
  const port = parentPort;
  port?.on('message', ({ call, args }: Asked) => {
    const run = SERVES[call] as (...args: readonly unknown[]) => number;
    try {
      port.postMessage(run(...args));
    } catch (e) {
      port.postMessage((e as Error).stack);
    }
  });
  port?.postMessage(cpu);
} else {
  run_job<HammerArgs>((_job, a) => ({ n: hammer(a) }), {
    join: attach,
    leave: () => void detach(),
  });
}
