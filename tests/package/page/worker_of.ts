/*
 * worker_of: how the page starts its worker and asks something of it.
 *
 * The worker is written out as `new Worker(new URL(...))`: that is what a bundler
 * looks for.  It gets the machine's handle in its first message.
 */
import type { Handle, Machine } from 'kmem';

/** What a worker is asked to do. */
export interface Job {
  readonly kmem: Handle;
  readonly job: string;
  readonly n: number;
}
/** One side's count of what it received, and of what was not as it was sent. */
export interface Answer {
  readonly cpu: number;
  readonly received: number;
  readonly wrong: number;
}

/** A worker whose end the machine hears of, as far as the host tells. */
export function startWorker(machine: Machine): Worker {
  return machine.adopt(new Worker(new URL('./worker.ts', import.meta.url), { type: 'module' }));
}
/** Sends a job and waits for what it returns. Rejects with what the worker throws. */
export function ask<T>(worker: Worker, machine: Machine, job: string, n = 0): Promise<T> {
  return new Promise((resolve, reject) => {
    worker.onmessage = (e: MessageEvent<{ result: T } | { error: string }>) => {
      if ('error' in e.data) reject(new Error(`worker: ${e.data.error}`));
      else resolve(e.data.result);
    };
    worker.onerror = (e) => reject(new Error(`worker: ${e.message}`));
    worker.postMessage({ kmem: machine.handle, job, n } satisfies Job);
  });
}
