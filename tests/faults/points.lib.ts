/*
 * points: a real thread killed at one chosen point of what it does.
 *
 * The kernel marks each place where CPUs can meet (machine/sim.ts).  Here these
 * places count, on free threads: `block` and `wake` are the host's own.  The
 * worker stands still at its n-th point and is terminated there, so that for every n
 * the memory is what a death at exactly that place leaves, and the death is one that
 * the host proves.
 *
 *      gate[0]  0 it runs · 1 it stands at its point · 2 it is through
 *      gate[1]  nobody changes it: the worker waits here to be killed
 *      gate[2]  points passed
 *      gate[4]  1: it has joined and worked
 *      gate[3]  goes up when the worker may go on to the next step of its job
 */
import { Worker } from 'node:worker_threads';
import { mem } from '../../src/sys/machine/memory.ts';
import { sim } from '../../src/sys/machine/sim.ts';
import { until } from '../../src/sys/machine/workers.test.lib.ts';

/** Waits and wakes by the host, under a kernel that was built to be scheduled. */
export function hooks_of_the_host(point: () => void): void {
  Object.assign(sim, {
    point,
    block: (w: number, value: number, ms: number) =>
      Atomics.wait(mem.I32, w, value, Number.isFinite(ms) ? Math.max(0, ms) : undefined),
    wake: (w: number, count: number) => Atomics.notify(mem.I32, w, count),
    now: () => performance.timeOrigin + performance.now(),
  });
}

export interface PointJob {
  readonly job: string;
  /** Which point it dies at; 0: it lives. */
  readonly at: number;
  readonly gate: Int32Array;
  readonly handle: unknown;
}
export interface PointRun {
  readonly worker: Worker;
  readonly gate: Int32Array;
  /** Lets the job go on to its next step. */
  go(): void;
  /** Waits until it stands at its point (true) or is through (false), and ends it. */
  over(): Promise<boolean>;
}

/** Starts the worker of points.worker.ts. */
export function start_point(job: string, at: number, handle: unknown): PointRun {
  const gate = new Int32Array(new SharedArrayBuffer(32));
  const workerData: PointJob = { job, at, gate, handle };
  const worker = new Worker(new URL('./points.worker.ts', import.meta.url), { workerData });
  let failed: Error | null = null;
  worker.on('error', (e: Error) => {
    failed = e;
  });
  return {
    worker,
    gate,
    go() {
      Atomics.add(gate, 3, 1);
      Atomics.notify(gate, 3);
    },
    async over() {
      await until(() => failed !== null || Atomics.load(gate, 0) !== 0, `${job}, point ${at}`);
      if (failed) throw failed;
      const stands = Atomics.load(gate, 0) === 1;
      await worker.terminate();
      return stands;
    },
  };
}
