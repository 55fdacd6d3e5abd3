/*
 * connect_worker: the thread of a tool that speaks to the control socket, while
 * the main thread sleeps until there is an answer (connect.ts).  Whatever comes is
 * posted, then counted in a shared word that wakes the main thread.
 */
import { connect } from 'node:net';
import { workerData } from 'node:worker_threads';
import { Frames, helloOf, REPLY_BYTES_MAX, replyOf, requestFrame } from '../lib/wire.ts';
import type { FromWorker, ToWorker, WorkerStart } from './connect.ts';

const { path, port, posted } = workerData as WorkerStart;
const frames = new Frames(REPLY_BYTES_MAX);
const socket = connect(path);
let greeted = false;

function say(message: FromWorker): void {
  port.postMessage(message);
  Atomics.add(posted, 0, 1);
  Atomics.notify(posted, 0);
}
function take(body: Uint8Array): void {
  say(greeted ? { reply: replyOf(body) } : { hello: helloOf(body) });
  greeted = true;
}

socket.on('data', (chunk: Uint8Array) => {
  try {
    frames.push(chunk);
    for (let body = frames.take(); body; body = frames.take()) take(body);
  } catch (e) {
    say({ gone: (e as Error).message });
    socket.destroy();
  }
});
socket.on('error', (e: NodeJS.ErrnoException) => {
  if (e.code !== 'ECONNRESET' && e.code !== 'EPIPE') say({ gone: e.message });
});
socket.on('close', () => say({ gone: 'it closed the connection: it ended, or its machine did' }));
port.on('message', ({ mib, room, value, ddb }: ToWorker) => {
  const request = { tag: 0, mib, room, value };
  socket.write(requestFrame(ddb ? { ...request, ddb } : request));
});
