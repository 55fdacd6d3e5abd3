/*
 * pipeline: a producer and a consumer hand blocks over through a queue.
 *
 * The producer fills a block and pushes its address; the consumer works on the
 * same bytes and frees them.  The queue holds half a megabyte: a producer that
 * is too fast waits, so memory stays bounded whatever the speeds are.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { attach, boot, type Machine } from '../src/lib/index.ts';

const BLOCKS = Number(process.argv[2] ?? 200);
const BLOCK = Number(process.argv[3] ?? 64) * 1024;
const CAPACITY = (512 * 1024) / BLOCK;

function parts(machine: Machine) {
  const type = machine.type('frames');
  return { type, queue: machine.queue('frames', { of: type, capacity: CAPACITY }) };
}

if (isMainThread) {
  const machine = boot({ memory: '16M' });
  const { type, queue } = parts(machine);
  const argv = process.argv.slice(2);
  const consumer = machine.adopt(
    new Worker(import.meta.filename, { argv, workerData: machine.handle }),
  );
  const done = once(consumer, 'message');
  const picture = new Uint8Array(2 * BLOCK).map((_, i) => i * 7);
  let most = 0;
  for (let n = 0; n < BLOCKS; n++) {
    const frame = type.alloc(BLOCK);
    const from = (n * 64) % BLOCK;
    machine.bytes(frame, BLOCK).set(picture.subarray(from, from + BLOCK));
    queue.push(frame); // waits while the queue is full; pushAsync does so in the event loop
    most = Math.max(most, type.stats.inUse);
  }
  queue.close();
  const [digest] = await done;
  console.log(`${BLOCKS} blocks of ${BLOCK / 1024}K handed over, sha256 ${digest.slice(0, 16)}`);
  // Those in the queue, and one in each hand.
  console.log(`memory stayed bounded: ${most <= CAPACITY + 2}; ${type.stats.inUse} blocks left`);
  machine.shutdown();
} else {
  const machine = attach(workerData);
  const { type, queue } = parts(machine);
  const hash = createHash('sha256');
  for (let frame = queue.pop(); frame !== undefined; frame = queue.pop()) {
    hash.update(machine.bytes(frame, BLOCK)); // no copy: a view of shared memory
    type.free(frame);
  }
  machine.detach();
  parentPort?.postMessage(hash.digest('hex'));
}
