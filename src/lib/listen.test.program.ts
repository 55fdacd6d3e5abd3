/*
 * A program of its own for the tests of the control socket: a machine with two
 * workers that allocate and pass chains to one another.  It says where it listens,
 * then obeys lines on its standard input, and answers each with one line of JSON.
 *
 *      pause, run      workers stand still, or work again
 *      figures         what its own machine.stats() says
 *      get NAME        a variable, as the program sees it
 *      second PATH     one more socket, for the same machine
 *      try PATH        the same: whether that went well
 *      close           closes what try opened
 *      thread          a thread with a machine of its own, that listens too
 *      space           makes an address space, and says what procstat and vmstat -o show
 *      end             ends the workers, proves the structures, and exits
 */
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { assertNoLeaks, boot, type Listener, type Machine } from './index.ts';
import { SEED } from '../sys/machine/seed.test.lib.ts';

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function still(machine: Machine): Promise<void> {
  machine.roots.set('pause', 1);
  while (machine.roots.get('still 0') !== 1 || machine.roots.get('still 1') !== 1) await pause(2);
}
function figures(machine: Machine): unknown {
  const { memory, types, zones } = machine.stats();
  return { memory, load: types.find((t) => t.name === 'load'), zones };
}
function map(machine: Machine): unknown {
  const m = machine.space('store').mmap({ name: 'index', length: 4 * 4096 });
  for (const i of [0, 2]) m.setU8(i * 4096, 1);
  return { procstat: machine.procstat(), objects: machine.vmstat('o') };
}
async function end(machine: Machine): Promise<string> {
  machine.roots.set('pause', 2);
  while (machine.memory().cpus > 1) await pause(2);
  for (const n of [0, 1]) {
    const left = machine.queue(`to ${n}`, { capacity: 16 });
    for (let c = left.tryPop(); c !== undefined; c = left.tryPop()) machine.adoptChain(c).free();
  }
  if (machine.procstat().includes(' store/index')) machine.space('store').destroy();
  machine.check();
  assertNoLeaks(machine);
  return 'ended';
}

async function main(): Promise<void> {
  const machine = boot({ memory: '32M', cpus: 4, options: { INVARIANTS: true } });
  const file = new URL('./listen.test.worker.ts', import.meta.url);
  machine.roots.set('pause', 0);
  for (const n of [0, 1]) machine.worker(file, { workerData: { n, seed: SEED } });
  for (const n of [0, 1]) while (machine.roots.get(`still ${n}`) === undefined) await pause(2);
  const { path } = await machine.listen();
  let tried: Listener | undefined;
  const obey: Record<string, (argument: string) => unknown> = {
    pause: () => still(machine),
    run: () => machine.roots.set('pause', 0),
    figures: () => figures(machine),
    get: (name) => machine.sysctl(name),
    second: async (at) => (await machine.listen({ path: at })).path,
    try: (at) =>
      machine.listen({ path: at }).then(
        (listener) => {
          tried = listener;
          return 'listens';
        },
        (e) => e.code,
      ),
    close: () => tried?.close().then(() => 'closed'),
    thread: () =>
      new Promise((resolve) => {
        new Worker(fileURLToPath(import.meta.url)).once('message', resolve);
      }),
    space: () => map(machine),
    end: () => end(machine),
  };
  process.stdout.write(`${JSON.stringify({ path, pid: process.pid })}\n`);
  for await (const line of createInterface(process.stdin)) {
    const [word, argument = ''] = line.split(' ');
    const answer = await obey[word](argument);
    process.stdout.write(`${JSON.stringify(answer ?? null)}\n`);
    if (word === 'end') break;
  }
  machine.shutdown();
  process.exit(0);
}

if (isMainThread) await main();
else {
  const machine = boot({ memory: '8M', cpus: 1 });
  const { path } = await machine.listen();
  parentPort?.postMessage(path);
  parentPort?.ref();
  setInterval(() => {}, 1000); // the socket alone would not keep the thread
}
