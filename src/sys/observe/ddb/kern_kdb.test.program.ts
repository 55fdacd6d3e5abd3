/*
 * A program on a terminal, for kern_kdb.test.ts: a machine with two workers that work.
 *
 *      panic FOLDER     sets debug.debugger_on_panic, makes a script, panics, says what it caught
 *      enter            sets debug.kdb.enter, and says how it went on
 *      worker           a worker does so
 *      witness          sets debug.witness.kdb, and takes two mutexes in both orders
 *      trace            sets debug.trace_on_panic alone, and panics
 *      none             sets both variables where there is no terminal
 */
import { isMainThread, parentPort, type Worker, workerData } from 'node:worker_threads';
import { attach, boot, type Machine } from '../../../lib/index.ts';
import { panic } from '../../machine/panic.ts';

const [, , mode, folder] = process.argv;
const say = (text: string): void => void process.stdout.write(`${text}\n`);
function caught(run: () => unknown): string {
  try {
    run();
    return 'went on';
  } catch (e) {
    return `${(e as Error).name}: ${(e as Error).message}`;
  }
}
/** Where a panic is seen to come from. */
function the_culprit(): void {
  panic('a test believed', 7);
}
async function main(): Promise<void> {
  const options = { WITNESS: mode === 'witness' };
  const dump = folder ?? false;
  const machine = boot({ memory: '8M', cpus: 4, options, dump });
  machine.type('sessions').alloc(1000);
  machine.roots.set('n0', 0);
  const here = new URL(import.meta.url);
  const workers = [0, 1].map((id) => machine.worker<Worker>(here, { workerData: { id, mode } }));
  const heard = new Promise((resolve) => {
    workers[0].on('message', (text) => text !== 'up' && resolve(text));
  });
  await Promise.all(workers.map((w) => new Promise((resolve) => w.once('message', resolve))));
  if (mode === 'panic') {
    machine.sysctl('debug.debugger_on_panic', 1);
    say(caught(the_culprit));
  } else if (mode === 'witness') {
    machine.sysctl('debug.witness.kdb', 1);
    const [a, b] = [machine.mutex('a'), machine.mutex('b')];
    a.run(() => b.run(() => {}));
    b.run(() => a.run(() => {}));
  } else if (mode === 'trace') {
    machine.sysctl('debug.trace_on_panic', 1);
    say(caught(the_culprit));
  } else if (mode === 'none') {
    machine.sysctl('debug.debugger_on_panic', 1);
    say(caught(() => machine.sysctl('debug.kdb.enter', 1)));
    say(caught(the_culprit));
  } else if (mode === 'worker') {
    workers[0].postMessage('enter');
    say(String(await heard));
    say(caught(() => machine.stats()));
  } else say(caught(() => machine.sysctl('debug.kdb.enter', 1)));
  say('the end');
  process.exit();
}
function work(machine: Machine): void {
  const type = machine.type('work');
  if (workerData.id === 0 && workerData.mode === 'worker') {
    parentPort?.once('message', () =>
      parentPort?.postMessage(caught(() => machine.sysctl('debug.kdb.enter', 1))),
    );
    parentPort?.postMessage('up');
    return;
  }
  parentPort?.postMessage('up');
  const turn = (): void => {
    try {
      const all = Array.from({ length: 400 }, () => type.alloc(64));
      for (const b of all) type.free(b);
      setImmediate(turn);
    } catch {
      parentPort?.on('message', () => {}); // the machine has panicked: it stays until the end
    }
  };
  turn();
}
if (isMainThread) await main();
else work(attach(workerData));
