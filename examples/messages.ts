/*
 * messages: a server of length-prefixed messages (| length | text |), on two workers.
 *
 * The main thread cuts messages off what it reads and hands them over as numbers;
 * a worker reads the bytes where they lie, and answers with a chain of its own.
 */
import { once } from 'node:events';
import { type AddressInfo, createServer } from 'node:net';
import { isMainThread, type Worker, workerData } from 'node:worker_threads';
import { attach, boot, type Chain, leaks, type Machine } from '../src/lib/index.ts';
import { type ChainSocket, connectChains, wrapSocket } from '../src/lib/streams.ts';

const MESSAGES = Number(process.argv[2] ?? 500);
const questions = (m: Machine) => m.queue('questions', { capacity: 64 });
const answers = (m: Machine) => m.queue('answers', { capacity: 64 });
const word = (n: number) => Uint8Array.of(n >>> 24, n >>> 16, n >>> 8, n);

/** The messages that a socket brings, wherever its pieces end. */
async function* messages(machine: Machine, socket: ChainSocket): AsyncGenerator<Chain> {
  const came = machine.chain();
  for await (const chain of socket) {
    came.concat(chain);
    while (came.length >= 4 && came.length >= 4 + came.getUint32(0)) {
      const end = 4 + came.getUint32(0);
      yield came.slice(4, end); // by reference: the bytes are not copied
      came.discard(end);
    }
  }
  came.free();
}

if (!isMainThread) {
  const machine = attach(workerData);
  for (let n = questions(machine).pop(); n !== undefined; n = questions(machine).pop()) {
    const question = machine.adoptChain(n); // | client | text |
    const text = question.text(4);
    const answer = machine.chain(`${text.length} letters, ${text.split(' ').length} words`);
    answers(machine).push(answer.prepend(question.toUint8Array(0, 4)).release());
    question.free();
  }
  machine.detach();
} else {
  const machine = boot({ memory: '16M' });
  const workers = [1, 2].map(() => machine.worker<Worker>(import.meta.filename));
  const clients: ChainSocket[] = [];
  const server = createServer(async (socket) => {
    const id = clients.push(wrapSocket(machine, socket)) - 1;
    for await (const message of messages(machine, clients[id])) {
      await questions(machine).pushAsync(message.prepend(word(id)).release());
    }
  }).listen(0, 'localhost');
  const delivered = (async () => {
    for await (const n of answers(machine)) {
      const answer = machine.adoptChain(n); // | client | text |
      clients[answer.getUint32(0)].write(answer.setUint32(0, answer.length - 4));
    }
  })();
  await once(server, 'listening');
  const client = connectChains(machine, { port: (server.address() as AddressInfo).port });
  let [sent, came, counted] = [0, 0, 0];
  for (let i = 0; i < MESSAGES; i++) {
    const text = 'the quick brown fox '.repeat(i % 200);
    client.write(machine.chain(text).prepend(word(text.length)));
    sent += text.length;
  }
  for await (const answer of messages(machine, client)) {
    counted += Number.parseInt(answer.text(), 10);
    answer.free();
    if (++came === MESSAGES) client.end();
  }
  console.log(`${came} messages answered by 2 workers; letters: ${sent} sent, ${counted} counted`);
  questions(machine).close();
  await Promise.all(workers.map((worker) => once(worker, 'exit')));
  answers(machine).close();
  await Promise.all([delivered, ...clients.map((c) => c.closed || once(c, 'close'))]);
  server.close();
  console.log(`left in use: ${leaks(machine).length}`);
  machine.shutdown();
}
