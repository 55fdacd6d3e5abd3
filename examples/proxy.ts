/*
 * proxy: a TCP proxy that copies nothing but what it must.
 *
 * What the server sends is read straight into clusters of the shared memory and
 * written to the client from there.  The pool of clusters is the limit: a client that
 * is too slow uses them up, and the server is not read until it takes some.
 */
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { boot, leaks } from '../src/lib/index.ts';
import { connectChains, wrapSocket } from '../src/lib/streams.ts';

const MEGABYTES = Number(process.argv[2] ?? 4);
const machine = boot({ memory: '16M', set: { 'kern.ipc.nmbclusters': 256 } });

async function listen(server: Server): Promise<number> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

// A server to stand behind the proxy: it answers a number with so many bytes.
const picture = Buffer.from(new Uint8Array(2 ** 20).map((_, i) => (i * i) >> 8));
const origin = createServer((socket) => {
  socket.once('data', (question) => {
    for (let n = Number(question); n > 0; n--) socket.write(picture);
    socket.end();
  });
});
const port = await listen(origin);

/* The proxy itself. */
const proxy = createServer({ allowHalfOpen: true }, (socket) => {
  const client = wrapSocket(machine, socket, { allowHalfOpen: true });
  const server = connectChains(machine, { port, host: '127.0.0.1' }, { allowHalfOpen: true });
  const both = [pipeline(client, server), pipeline(server, client)];
  Promise.all(both).catch((error) => console.log(`cut off: ${error.code}`));
});
const front = await listen(proxy);

/* A client that looks at what comes, and may be slow. */
async function ask(pause: number): Promise<string> {
  const socket = connect(front, '127.0.0.1');
  socket.write(`${MEGABYTES}`);
  const hash = createHash('sha256');
  for await (const bytes of socket) {
    hash.update(bytes);
    if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause));
  }
  return hash.digest('hex');
}
const expected = createHash('sha256');
for (let n = 0; n < MEGABYTES; n++) expected.update(picture);
const sum = expected.digest('hex');
const answers = await Promise.all([ask(0), ask(1), ask(0)]);
const right = answers.filter((answer) => answer === sum).length;
console.log(`${right} of 3 clients got ${MEGABYTES} MB through the proxy`);

const clusters = machine.stats().zones.find((zone) => zone.name === 'mbuf_cluster');
console.log(`at most ${clusters?.limit} clusters for all of them`);
proxy.close();
origin.close();
await Promise.all([once(proxy, 'close'), once(origin, 'close')]);
while (leaks(machine).length > 0) await new Promise((resolve) => setTimeout(resolve, 1));
console.log('nothing is left in use');
machine.shutdown();
