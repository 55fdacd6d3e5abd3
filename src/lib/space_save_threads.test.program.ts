/*
 * A program of its own for space_save_threads.test.ts: in a fresh process it loads the files that
 * it is given, and says of each what it found: the words of each thread on all pages, as JSON.
 */
import { boot } from './index.ts';
import { PAGES } from './space.test.lib.ts';

const [, , threads, ...files] = process.argv;
const machine = boot({ memory: '16M' });
for (const [i, file] of files.entries()) {
  const space = machine.space(`file ${i}`);
  const { time } = space.load(file);
  const m = space.region('m');
  const words = Array.from({ length: Number(threads) }, (_, id) =>
    Array.from({ length: PAGES }, (_, p) => m.getU32(p * 4096 + id * 4)),
  );
  console.log(JSON.stringify({ time, words }));
  space.destroy();
}
machine.check();
machine.shutdown();
