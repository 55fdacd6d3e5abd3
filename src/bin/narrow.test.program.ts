/*
 * A faulty program, for the test of kmem narrow: a server of sorts with a dozen types of blocks of
 * about one size.  One of them is written past its end, by a thread of its own if that is asked
 * for; the memory behind is found damaged when somebody gets it later.
 *
 *      node narrow.test.program.ts fault | sound | thread | talk
 */
import { Worker, isMainThread, workerData } from 'node:worker_threads';
import { attach, boot, type Machine } from '../lib/index.ts';

const TYPES = [
  'session',
  'cookie',
  'socket',
  'header',
  'query',
  'result',
  'row',
  'column',
  'cursor',
];
TYPES.push('lock', 'log line', 'timer', 'say "hi", twice');
const CULPRIT = 'cursor';
const SIZE = 60;

/** Every other block goes back, and each that stays is written a little too far. */
function overrun(machine: Machine): void {
  const type = machine.type(CULPRIT);
  const blocks = Array.from({ length: 40 }, () => type.alloc(SIZE));
  for (let i = 0; i < blocks.length; i += 2) type.free(blocks[i]);
  for (let i = 1; i < blocks.length; i += 2) machine.bytes(blocks[i], SIZE + 10).fill(0);
}
/** So many blocks of each type at a time. */
function work(machine: Machine, length: number): void {
  for (let round = 0; round < 3; round++) {
    for (const name of TYPES) {
      const type = machine.type(name);
      const blocks = Array.from({ length }, (_, i) => type.alloc(i % 2 === 0 ? SIZE : 100));
      for (const at of blocks) type.free(at);
    }
  }
}
const what = process.argv[2];
if (!isMainThread) {
  const machine = attach(workerData);
  overrun(machine);
  machine[Symbol.dispose]();
} else {
  const machine = boot({ memory: '8M', cpus: 3 });
  for (const name of TYPES) machine.type(name);
  work(machine, 50);
  if (what === 'talk') {
    for (let i = 0; i < 5000; i++) console.error('Damage in zone of this line there is none', i);
  }
  if (what === 'thread') {
    const worker = new Worker(new URL(import.meta.url), { workerData: { kmem: machine.handle } });
    await new Promise((resolve) => worker.on('exit', resolve));
  } else if (what !== 'sound') overrun(machine);
  work(machine, 600); // more than this thread caches: what the other one left is among it
  machine.shutdown();
}
