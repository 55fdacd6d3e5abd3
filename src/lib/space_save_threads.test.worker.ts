/*
 * A worker of space_save_threads.test.ts: saves the space that others write to, and loads files
 * into a space that another thread loads to as well.
 */
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { attach, KmemError } from './index.ts';
import { between_stores } from './space.test.lib.ts';

interface Start {
  readonly job: 'saves' | 'for ever';
  readonly id: number;
  readonly folder: string;
  readonly rounds: number;
}
const { job, id, folder, rounds } = workerData as Start;
const machine = attach(workerData);
const space = machine.space('s');
const how = { wait: 60_000 };
/** Loads into the space of all: 'loaded', or 'occupied', because another thread has. */
function loads(path: string): 'loaded' | 'occupied' {
  for (;;) {
    try {
      machine.space('target').load(path);
      return 'loaded';
    } catch (e) {
      const code = e instanceof KmemError ? e.code : '';
      if (code === 'EEXIST') return 'occupied';
      if (code !== 'ESTALE') throw e; // another thread destroyed it
    }
  }
}
const common = join(folder, 'common');
const own = join(folder, `own ${id}`);

if (job === 'saves') {
  const said = { loaded: 0, occupied: 0 };
  for (let i = 0; i < rounds; i++) {
    space.save(common, how);
    await space.saveAsync(own, how);
    const mine = machine.space(`mine ${id}`);
    mine.load(i % 2 === 0 ? common : own);
    for (const thread of [0, 1, 2]) between_stores(mine.region('m'), thread);
    mine.destroy();
    said[loads(common)]++;
    if (i % 3 === 2) {
      try {
        machine.space('target').destroy();
      } catch (e) {
        if (!(e instanceof KmemError && e.code === 'ESTALE')) throw e;
      }
    }
  }
  parentPort?.postMessage(said);
} else {
  parentPort?.postMessage('up');
  for (;;) {
    space.save(common, how);
    loads(common);
    machine.space('target').destroy();
  }
}
