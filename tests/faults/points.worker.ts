/*
 * The thread that points.slow.test.ts kills: it does one job, counting the points that
 * it passes, and stands still at the one where it is to die.
 */
import { workerData } from 'node:worker_threads';
import { abandon, attach, boot, detach, shutdown } from '../../src/sys/boot/whole.ts';
import type { Handle } from '../../src/sys/machine/machdep.ts';
import { M_WAITOK } from '../../src/sys/h/malloc_flags.ts';
import { free, malloc } from '../../src/sys/kmem/kern_malloc.ts';
import { malloc_type_attach } from '../../src/sys/kmem/kern_malloc_type.ts';
import { hooks_of_the_host, type PointJob } from './points.lib.ts';

const { job, at, gate, handle } = workerData as PointJob;
let counting = false;
hooks_of_the_host(() => {
  if (!counting) return;
  if (Atomics.add(gate, 2, 1) + 1 !== at) return;
  Atomics.store(gate, 0, 1);
  Atomics.wait(gate, 1, 0); // killed here
});
let step = 0;
function next_step(): void {
  Atomics.wait(gate, 3, step++);
}
function work(): void {
  const t = malloc_type_attach('victim');
  const held = [16, 100, 3000, 20000].map((n) => malloc(n, t, M_WAITOK));
  for (const p of held) free(p, t);
}

const jobs: Record<string, () => void> = {
  /** Joins, uses the machine a little (the points of that are not counted), leaves. */
  rejoin() {
    counting = true;
    attach(handle as Handle);
    counting = false;
    work();
    counting = true;
    detach();
  },
  /** Ends the machine of others. */
  shutdown() {
    attach(handle as Handle);
    work();
    counting = true;
    shutdown();
  },
  /** Boots the memory in which it was a CPU before; the main thread has shut that machine down. */
  boot() {
    attach(handle as Handle);
    work();
    Atomics.store(gate, 4, 1);
    next_step();
    abandon();
    counting = true;
    boot({ memory: '4M', cpus: 3, options: { SIM: true, INVARIANTS: true } });
    counting = false;
    shutdown();
  },
};
jobs[job]();
counting = false;
Atomics.store(gate, 0, 2);
