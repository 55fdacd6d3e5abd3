/*
 * pipeline, by messages: ArrayBuffers are transferred to the consumer and back.
 *
 * A transfer copies nothing, but it moves the whole buffer: the sender has none
 * afterwards.  So the consumer sends each buffer back, which also tells the
 * producer that it may go on: there are only as many as half a megabyte holds.
 */
import { createHash } from 'node:crypto';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';

const BLOCKS = Number(process.argv[2] ?? 200);
const BLOCK = Number(process.argv[3] ?? 64) * 1024;
const BUFFERS = (512 * 1024) / BLOCK + 2; // on their way, and one in each hand

if (isMainThread) {
  const consumer = new Worker(import.meta.filename, { argv: process.argv.slice(2) });
  const free = Array.from({ length: BUFFERS }, () => new ArrayBuffer(BLOCK));
  const done = Promise.withResolvers<string>();
  let returned = (): void => {};
  consumer.on('message', (message: ArrayBuffer | string) => {
    if (typeof message === 'string') return done.resolve(message);
    free.push(message);
    returned();
  });
  const picture = new Uint8Array(2 * BLOCK).map((_, i) => i * 7);
  for (let n = 0; n < BLOCKS; n++) {
    while (free.length === 0) {
      await new Promise<void>((resolve) => {
        returned = resolve;
      });
    }
    const frame = free.pop() as ArrayBuffer;
    const from = (n * 64) % BLOCK;
    new Uint8Array(frame).set(picture.subarray(from, from + BLOCK));
    consumer.postMessage(frame, [frame]);
  }
  consumer.postMessage(null);
  const digest = await done.promise;
  console.log(`${BLOCKS} blocks of ${BLOCK / 1024}K handed over, sha256 ${digest.slice(0, 16)}`);
  console.log(`${free.length} of ${BUFFERS} buffers are back`);
} else {
  const hash = createHash('sha256');
  parentPort?.on('message', (frame: ArrayBuffer | null) => {
    if (frame === null) {
      parentPort?.postMessage(hash.digest('hex'));
      parentPort?.close();
    } else {
      hash.update(new Uint8Array(frame));
      parentPort?.postMessage(frame, [frame]);
    }
  });
}
