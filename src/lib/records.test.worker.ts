/*
 * The second thread of records.test.ts: in each round it frees the item that the first
 * thread frees in the same instant, and tells whether it succeeded.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, KmemError } from './index.ts';
import { type Race, turn } from './records.test.lib.ts';

const { kmem, options, race } = workerData as { kmem: never; options: never; race: Race };
const machine = attach(kmem);
const R = machine.records('race', { x: 'i32' }, options);
parentPort?.postMessage('here');
for (let round = 1; turn(race.round, round) > 0; round++) {
  Atomics.store(race.ready, 0, round);
  Atomics.notify(race.ready, 0);
  let won = 1;
  try {
    R.free(race.item[0] as never);
  } catch (e) {
    if (!(e instanceof KmemError)) throw e;
    won = 0;
  }
  race.won[0] = won;
  Atomics.store(race.done, 0, round);
  Atomics.notify(race.done, 0);
}
machine.detach();
