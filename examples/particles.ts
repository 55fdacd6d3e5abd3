/*
 * particles: typed records in columns, moved by two workers at once.
 *
 * Each worker moves its half of the particles; a condition keeps the steps in
 * time.  Fields are plain typed arrays over shared memory, so the loops run at
 * the speed of typed arrays, and nothing is copied between threads.
 */
import { once } from 'node:events';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { type Address, attach, boot, type Machine } from '../src/lib/index.ts';

const COUNT = 100_000;
const STEPS = Number(process.argv[2] ?? 50);
const WORKERS = 2;
const FIELDS = { x: 'f64', y: 'f64', vx: 'f32', vy: 'f32', bounces: 'i32' } as const;

const particlesOf = (machine: Machine) => machine.records('particle', FIELDS, { capacity: COUNT });

/** Waits until all workers have done step `step`; `arrived` is the index of their count. */
function barrier(machine: Machine, arrived: number, step: number): void {
  const mutex = machine.mutex('step');
  const everybody = machine.condition('step');
  const all = (step + 1) * WORKERS;
  const last = mutex.run(() => {
    if (++machine.i32[arrived] === all) return true;
    everybody.waitUntil(mutex, () => machine.i32[arrived] >= all);
    return false;
  });
  if (last) everybody.broadcast();
}
function move(machine: Machine, from: number, to: number): void {
  const { x, y, vx, vy, bounces } = particlesOf(machine);
  const arrived = machine.index(machine.roots.get<Address>('arrived') ?? 0, 4);
  for (let step = 0; step < STEPS; step++) {
    for (let p = from; p <= to; p++) {
      x[p] += vx[p];
      y[p] += vy[p];
      if (x[p] < 0 || x[p] > 1000) {
        vx[p] = -vx[p];
        bounces[p]++;
      }
    }
    barrier(machine, arrived, step);
  }
}

if (isMainThread) {
  const machine = boot({ memory: '64M' });
  const P = particlesOf(machine);
  for (let n = 0; n < COUNT; n++) {
    const p = P.alloc();
    P.set(p, { x: p % 1000, y: 0, vx: (p % 7) - 3, vy: 0.5, bounces: 0 });
  }
  machine.roots.set('arrived', machine.type('barrier').alloc(4, { zero: true }));
  const argv = process.argv.slice(2);
  const workers = Array.from({ length: WORKERS }, (_, n) => {
    const workerData = { kmem: machine.handle, n };
    return machine.adopt(new Worker(import.meta.filename, { argv, workerData }));
  });
  await Promise.all(workers.map((worker) => once(worker, 'exit')));
  let bounces = 0;
  let height = 0;
  P.forEach((p) => {
    bounces += P.bounces[p];
    height += P.y[p];
  });
  console.log(`${P.count} particles, ${STEPS} steps by ${WORKERS} workers`);
  console.log(`bounces ${bounces}, mean height ${height / P.count}`);
  machine.shutdown();
} else {
  const machine = attach(workerData);
  const half = COUNT / WORKERS;
  move(machine, workerData.n * half + 1, (workerData.n + 1) * half);
  machine.detach();
}
