/*
 * Shows that a count in two words reads right in every state of a carry: each state
 * written by hand, with and without its reaper; then on real threads, where a worker
 * carries again and again while this one reads.  A sum that is wrong by
 * 2^32 for one read goes back with the next, and so is seen.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/main.ts';
import { atomic_store } from './atomic.ts';
import { count_carry, count_read, count_settle } from './count.ts';
import { boot_page, COUNT_JUMP, COUNT_PER_CARRY } from './count.test.worker.ts';
import { mem } from './memory.ts';
import { Crew, WAIT_MS, within } from './workers.test.lib.ts';

const crew = new Crew<{ carries: number }>(new URL('./count.test.worker.ts', import.meta.url));
afterEach(async () => {
  await crew.end();
  try {
    shutdown();
  } catch {
    abandon();
  }
});

const FULL = 2 ** 32;
const LEAST_SEEN = 200;
const STATES: [low: number, high: number, count: number, settled: number][] = [
  [0, 0, 0, 0],
  [0xffffffff, 0, FULL - 1, 0],
  [0xffffffff, 1, FULL - 1, 0],
  [0, 1, FULL, 2],
  [0, 2, FULL, 2],
  [1000, 1, FULL + 1000, 2],
  [0x7fffffff, 7, 4 * FULL + 0x7fffffff, 8],
  [0x80000000, 7, 3 * FULL + 0x80000000, 6],
  [17, 2 ** 20, 2 ** 19 * FULL + 17, 2 ** 20],
];
test('every state of the two words means one count; settling changes none', () => {
  boot({ memory: '2M', cpus: 2, fresh: true });
  const at = boot_page();
  for (const [low, high, count, settled] of STATES) {
    mem.I32[at] = low;
    mem.I32[at + 1] = high;
    assert.equal(count_read(at, at + 1), count, `${low} ${high}`);
    for (let n = 0; n < 2; n++) count_settle(at, at + 1);
    assert.equal(mem.I32[at + 1], settled, `${low} ${high}`);
    assert.equal(count_read(at, at + 1), count, `${low} ${high}, settled`);
  }
});
test('a carry after one that a death left half done, and was settled', () => {
  boot({ memory: '2M', cpus: 2, fresh: true });
  const at = boot_page();
  for (const [low, high] of [
    [-1, 1],
    [0, 1],
  ]) {
    mem.I32[at] = low;
    mem.I32[at + 1] = high;
    count_settle(at, at + 1);
    const before = count_read(at, at + 1);
    mem.I32[at] = -1;
    count_carry(at, at + 1);
    assert.equal(mem.I32[at], 0);
    assert.equal(count_read(at, at + 1), low === 0 ? 2 * FULL : before + 1);
  }
});

test('a reader never sees a count go back while another thread carries', async () => {
  const { handle } = boot({ memory: '2M', cpus: 3, fresh: true });
  const at = boot_page();
  const job = crew.start(handle, 'carry');
  await within(job.up, 'the worker');
  let [last, reads, seen] = [0, 0, 0];
  // The two must have run at the same time: most carries were seen one by one.
  for (const end = performance.now() + WAIT_MS; seen < LEAST_SEEN; reads++) {
    assert.ok(reads % 1000 !== 0 || performance.now() < end, `${seen} carries seen`);
    const v = count_read(at, at + 1);
    assert.ok(v >= last, `${last}, then ${v}`);
    if (Math.floor(v / FULL) !== Math.floor(last / FULL)) seen++;
    last = v;
  }
  atomic_store(at + 2, 1);
  const { carries } = await within(job.done, 'the worker');
  const low = (COUNT_JUMP + COUNT_PER_CARRY) % FULL;
  assert.equal(count_read(at, at + 1), carries * FULL + low);
  console.log(`${reads} reads over ${carries} carries, ${seen} of them told apart`);
});
