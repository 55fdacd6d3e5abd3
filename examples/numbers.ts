/*
 * numbers: an array of a hundred million numbers, filled and summed by two threads.
 *
 * The array is a region of an address space.  Loops run over windows of it: flat views, held in
 * place while they are open, one after another.  What nobody has used takes no memory.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, type Worker, workerData } from 'node:worker_threads';
import { attach, boot } from '../src/lib/index.ts';

const NUMBERS = Number(process.argv[2] ?? workerData?.numbers ?? 100_000_000);
/** Whole pages: a window of one thread is never in the other's way. */
const HALF = Math.floor(NUMBERS / 1024) * 512;
const machine = isMainThread ? boot({ memory: '1200M', cpus: 3 }) : attach(workerData);
const space = machine.space('numbers');
const m = space.mmap({ name: 'array', length: NUMBERS * 8 });

/** Fills numbers with their last digits, and sums them. */
function work(first: number, n: number): number {
  const part = { offset: first * 8, length: n * 8, size: '1M' };
  for (const w of m.windows({ ...part, write: true })) {
    const { f64 } = w;
    let i = w.offset / 8;
    for (let k = 0; k < f64.length; k++, i++) f64[k] = i % 10;
  }
  let sum = 0;
  for (const w of m.windows(part)) {
    const { f64 } = w;
    for (let k = 0; k < f64.length; k++) sum += f64[k];
  }
  return sum;
}

if (isMainThread) {
  console.log(`${NUMBERS} numbers, ${space.resident} bytes of them in memory`);
  const numbers = { workerData: { numbers: NUMBERS } };
  const worker = machine.worker<Worker>(import.meta.filename, numbers);
  const theirs = once(worker, 'message');
  const mine = work(0, HALF);
  const [sum] = await theirs;
  console.log(`sum ${mine + sum}`);
  console.log(`one of them: ${m.array('f64').get(NUMBERS - 7)}`);
  space.destroy();
  console.log(`spaces left: ${machine.sysctl('vm.maps')}`);
  machine.shutdown();
} else {
  parentPort?.postMessage(work(HALF, NUMBERS - HALF));
  machine.detach();
}
