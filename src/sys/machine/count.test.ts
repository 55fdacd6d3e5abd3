/*
 * Shows that a count in two words reads right in every state of a carry: each state
 * written by hand, with and without its reaper; with a reader that is held up between
 * its looks for any stretch of the count; then on real threads, where a worker
 * carries again and again while this one reads.  A sum that is wrong by
 * 2^32 for one read goes back with the next, and so is seen.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { atomic_store } from './atomic.ts';
import { count_add, count_read, count_settle, count_up } from './count.ts';
import { boot_page, COUNT_AFTER } from './count.test.worker.ts';
import { mem } from './memory.ts';
import { P_LOAD, sim } from './sim.ts';
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
const QUARTER = 2 ** 30;
const LEAST_SEEN = 200;
const STATES: [low: number, high: number, count: number, settled: number][] = [
  [0, 0, 0, 0],
  [QUARTER - 1, 0, QUARTER - 1, 0],
  [3 * QUARTER - 1, 0, 3 * QUARTER - 1, 0],
  [3 * QUARTER, 0, 3 * QUARTER, 1],
  [3 * QUARTER, 1, 3 * QUARTER, 1],
  [FULL - 1, 0, FULL - 1, 1],
  [FULL - 1, 1, FULL - 1, 1],
  [0, 1, FULL, 1],
  [QUARTER - 1, 1, FULL + QUARTER - 1, 1],
  [QUARTER, 1, FULL + QUARTER, 2],
  [QUARTER, 2, FULL + QUARTER, 2],
  [2 * QUARTER - 1, 7, 4 * FULL + 2 * QUARTER - 1, 8],
  [2 * QUARTER, 8, 4 * FULL + 2 * QUARTER, 8],
  [QUARTER + 17, 2 ** 20, 2 ** 19 * FULL + QUARTER + 17, 2 ** 20],
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
test('a count goes over each turn as if it were one number, and after a death at each', () => {
  boot({ memory: '2M', cpus: 2, fresh: true });
  const at = boot_page();
  for (const dies of [false, true]) {
    mem.I32.fill(0, at, at + 2);
    for (let turn = 1; turn <= 12; turn++) {
      // Ahead to just before the next quarter, from which on two counts go over it.
      const lap = Math.floor(((turn - 1) * QUARTER) / FULL);
      mem.I32[at] = turn * QUARTER - 2 - lap * FULL;
      for (let n = -1; n <= 1; n++) {
        if (dies && n === 0) {
          mem.I32[at]++; // it dies before it can change the high word
          assert.equal(count_read(at, at + 1), turn * QUARTER, `turn ${turn}, dead`);
          count_settle(at, at + 1);
        } else count_up(at, at + 1);
        assert.equal(count_read(at, at + 1), turn * QUARTER + n, `turn ${turn}, ${n}`);
      }
    }
  }
});
test('a reader that is held up between its looks reads what was true meanwhile', (t) => {
  const { point } = sim;
  t.after(() => {
    sim.point = point;
  });
  boot({ memory: '2M', cpus: 2, fresh: true, options: { SIM: true } });
  const at = boot_page();
  let count = 0;
  const go_to = (n: number): void => {
    count = n;
    const carries = Math.floor(n / FULL);
    const low = n % FULL;
    const mark = low >= 3 * QUARTER ? 1 : low < QUARTER && carries > 0 ? -1 : 0;
    mem.I32[at] = low;
    mem.I32[at + 1] = 2 * carries + mark;
  };
  // By so much the count goes on before the second look, and before the third.
  const ways = [0, 1, 2, 3, 4, 5, 8].flatMap((q) => [q * QUARTER, q * QUARTER + 3]);
  for (let quarter = 0; quarter <= 8; quarter++) {
    for (const from of [quarter * QUARTER, quarter * QUARTER + 5, (quarter + 1) * QUARTER - 1]) {
      for (const second of ways) {
        for (const third of ways) {
          go_to(from);
          let look = 0;
          sim.point = (kind, w) => {
            if (kind !== P_LOAD || (w !== at && w !== at + 1)) return;
            look++;
            if (look === 2) go_to(from + second);
            if (look === 3) go_to(from + second + third);
          };
          const v = count_read(at, at + 1);
          sim.point = point;
          assert.ok(v >= from && v <= count, `${from}, +${second}, +${third}: ${v}`);
        }
      }
    }
  }
});
test('what is added in one go is added whole', () => {
  boot({ memory: '2M', cpus: 2, fresh: true });
  const at = boot_page();
  mem.I32.fill(0, at, at + 2);
  let sum = 0;
  for (const n of [1, QUARTER - 1, 3 * QUARTER, FULL - 1, 1, 7 * FULL + 5, 2 * QUARTER + 1]) {
    count_add(at, at + 1, n);
    sum += n;
    assert.equal(count_read(at, at + 1), sum);
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
  assert.equal(count_read(at, at + 1), carries * FULL + COUNT_AFTER);
  console.log(`${reads} reads over ${carries} carries, ${seen} of them told apart`);
});
