/*
 * pipeline: a producer and a consumer hand blocks over through a queue.
 *
 * The producer fills a block and pushes its address; the consumer works on the
 * same bytes and frees them.  The queue holds eight blocks: a producer that is
 * too fast waits, so memory stays bounded whatever the speeds are.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { attach, boot, type Machine } from '../src/lib/index.ts';

const BLOCK = 64 * 1024;
const BLOCKS = 200;

function parts(machine: Machine) {
  const type = machine.type('frames');
  return { type, queue: machine.queue('frames', { of: type, capacity: 8 }) };
}

if (isMainThread) {
  const machine = boot({ memory: '16M' });
  const { type, queue } = parts(machine);
  const consumer = machine.adopt(new Worker(import.meta.filename, { workerData: machine.handle }));
  const done = once(consumer, 'message');
  let most = 0;
  for (let n = 0; n < BLOCKS; n++) {
    const frame = type.alloc(BLOCK);
    machine.bytes(frame, BLOCK).fill(n);
    await queue.pushAsync(frame); // waits while eight are on their way
    most = Math.max(most, type.stats.inUse);
  }
  queue.close();
  const [digest] = await done;
  console.log(`${BLOCKS} blocks of ${BLOCK / 1024}K handed over, sha256 ${digest.slice(0, 16)}`);
  // Eight in the queue, one in each hand; the consumer's last one may not be freed yet.
  console.log(`memory stayed bounded: ${most <= 10}; ${type.stats.inUse} blocks left`);
  machine.shutdown();
} else {
  const { parentPort } = await import('node:worker_threads');
  const machine = attach(workerData);
  const { type, queue } = parts(machine);
  const hash = createHash('sha256');
  for (let frame = queue.pop(); frame !== undefined; frame = queue.pop()) {
    hash.update(machine.bytes(frame, BLOCK)); // no copy: a view of shared memory
    type.free(frame);
  }
  parentPort?.postMessage(hash.digest('hex'));
  machine.detach();
}
