/*
 * Shows that what a type has in use is right while its CPUs allocate and free, or is
 * marked.  Two workers make private pairs, or hand blocks from one to the other,
 * while this thread samples; never is a sample negative, above what the slabs hold,
 * or off by more than SAMPLE_APART and not marked.  That frees are read before
 * allocations is shown by a thread that allocates and frees in the middle of each
 * reading.  Then a thread that dies in a carry, and frees under a wrong type.
 */
import { kconsole } from '../machine/kconsole.ts';
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { reap_all } from '../machine/death.ts';
import { sample_between } from '../machine/sample.ts';
import { elem } from '../machine/struct.ts';
import { until, within } from '../machine/workers.test.lib.ts';
import { malloc_type, mtstats, type mtstats_t } from '../h/malloc.ts';
import { ALLOCATOR_MALLOC } from '../observe/memstat.ts';
import {
  memstat_fetch_live,
  memstat_read,
  memstat_sysctl_malloc,
} from '../observe/memstat_sysctl.ts';
import { uma_check } from '../uma/uma_check.ts';
import { free, M_NOWAIT, malloc, malloc_class, realloc } from './kern_malloc.ts';
import { malloc_type_sample } from './kern_malloc_sums.ts';
import { malloc_type_attach } from './kern_malloc_type.ts';
import {
  common,
  count_of,
  down,
  order_matters,
  play_stats,
  start,
  up,
} from './malloc_stats.test.lib.ts';
import { CARRY_BLOCKS, RING_SIZE, TYPE } from './malloc_stats.test.worker.ts';

const said: string[] = [];
const print = kconsole.print;
kconsole.print = (text) => void said.push(text);
afterEach(async () => {
  sample_between.run = null;
  said.length = 0;
  await down().catch(() => {});
});
process.on('exit', () => {
  kconsole.print = print;
});

const PAIRS = [
  ['pairs', { hold: 51 }],
  ['pairs', { hold: 51 }],
] as const;
const HAND_OVER = [
  ['give', {}],
  ['take', {}],
] as const;
const SAMPLES = 5000;

describe('samples while two workers run', () => {
  for (const what of ['type', 'zone'] as const) {
    test(`private pairs, of the ${what}`, async () => {
      const game = { jobs: [...PAIRS] as [string, object][], size: 64, least: 100, most: 102 };
      await play_stats({ ...game, samples: SAMPLES, what });
      assert.deepEqual(said, []);
    });
    test(`hand-over, of the ${what}`, async () => {
      const game = { jobs: [...HAND_OVER] as [string, object][], size: 256, least: 0 };
      await play_stats({ ...game, most: RING_SIZE + 2, samples: SAMPLES, what });
      assert.deepEqual(said, []);
    });
  }
  test('large blocks, in pairs and handed over', async () => {
    for (const [jobs, least, most] of [
      [PAIRS, 100, 102],
      [HAND_OVER, 0, RING_SIZE + 2],
    ] as const) {
      const { handle, t } = up();
      const args = { size: 5000 };
      const crew = jobs.map(([job, more]) => start(handle, job, { ...args, ...more }));
      await within(Promise.all(crew.map((j) => j.up)), 'the workers');
      let unmarked = 0;
      while (malloc_type_sample(t).requests < most);
      for (let n = 0; n < SAMPLES; n++) {
        const { inuse, bytes, approximate } = malloc_type_sample(t);
        assert.ok(inuse >= 0 && bytes >= inuse * 4096 && bytes <= 16 * 2 ** 20);
        if (approximate) continue;
        unmarked++;
        assert.ok(inuse >= least - 64 && inuse <= most + 64, `${inuse} in use, and not marked`);
      }
      assert.ok(unmarked > 0);
      atomic_store(common(), 1);
      await within(Promise.all(crew.map((j) => j.done)), 'the jobs');
      await down();
    }
  });
  test('through the stream and the library, row by row', async () => {
    const { handle, t } = up();
    const args = { size: 64, hold: 51 };
    const jobs = [start(handle, 'pairs', args), start(handle, 'pairs', args)];
    await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
    while (malloc_type_sample(t).requests < 1000);
    let marked = 0;
    for (let n = 0; n < 300; n++) {
      const rows = memstat_read(memstat_sysctl_malloc, memstat_fetch_live());
      assert.ok(typeof rows !== 'string');
      const row = rows.find((r) => r.allocator === ALLOCATOR_MALLOC && r.name === TYPE);
      assert.ok(row && row.count < 2 ** 32 && row.bytes === row.count * 64);
      if (row.approximate) marked++;
      else assert.ok(row.count >= 100 - 64 && row.count <= 102 + 64, `${row.count}`);
    }
    console.log(`${marked} of 300 streams marked the type`);
    atomic_store(common(), 1);
    await within(Promise.all(jobs.map((j) => j.done)), 'the jobs');
  });
});

describe('the order of reading', () => {
  test('frees first: pairs made in the middle of every reading make no negative sum', () => {
    const { t } = up({ FAILPOINTS: true });
    const held = Array.from({ length: 3 }, () => malloc(64, t, M_NOWAIT));
    for (const live of [3, 2, 1, 0]) {
      let pairs = 0;
      sample_between.run = () => {
        for (let n = 0; n < 5; n++, pairs++) free(malloc(64, t, M_NOWAIT), t);
      };
      const { inuse } = malloc_type_sample(t);
      sample_between.run = null;
      assert.ok(pairs > 0);
      assert.ok(inuse >= live && inuse <= live + 5, `${inuse} in use, not ${live} to ${live + 5}`);
      assert.equal(malloc_type_sample(t).inuse, live);
      if (live > 0) free(held[live - 1], t);
    }
    assert.equal(count_of('debug.stats_clamped'), 0);
  });
  test('what moves more than 64 is marked', () => {
    const { t } = up({ FAILPOINTS: true });
    free(malloc(64, t, M_NOWAIT), t); // of a class that was never used nothing is sampled
    sample_between.run = () => {
      for (let n = 0; n < 65; n++) free(malloc(64, t, M_NOWAIT), t);
    };
    assert.ok(malloc_type_sample(t).approximate);
    sample_between.run = null;
    assert.equal(count_of('debug.stats_approximate'), 1);
    assert.equal(malloc_type_sample(t).approximate, false);
  });
  test('a worker that makes pairs shows it: allocations first go below zero', async () => {
    const { handle, t } = up();
    const job = start(handle, 'pairs', { size: 64, hold: 1 });
    await within(job.up, 'the worker');
    while (malloc_type_sample(t).requests === 0);
    const { right, wrong } = order_matters(t, malloc_class(64));
    atomic_store(common(), 1);
    await within(job.done, 'the job');
    console.log(`below zero: ${right} read frees first, ${wrong} read allocations first`);
    assert.equal(right, 0);
    assert.ok(wrong > 0);
  });
});

describe('a thread that dies at a turn of its count', () => {
  for (const anew of [false, true]) {
    test(anew ? 'its mark is still there' : 'its mark is not there yet', async () => {
      const { handle, t } = up();
      const job = start(handle, 'carrying', { size: 64, anew });
      const cpu = await within(job.up, 'the worker');
      await until(() => atomic_load(common() + 1) === 1, 'it is at the turn');
      assert.equal(malloc_type_sample(t).inuse, CARRY_BLOCKS);
      await job.worker.terminate();
      await until(() => {
        reap_all();
        const s = malloc_type.stats[elem(t, cpu)] as mtstats_t;
        return mtstats.frees_high[elem(s, malloc_class(64))] === (anew ? 2 : 1);
      }, 'its reaper');
      assert.equal(malloc_type_sample(t).inuse, CARRY_BLOCKS);
      uma_check();
    });
  }
});

describe('frees under a wrong type', () => {
  test('a small block: the type shows 0, and the log names it once', () => {
    const { t } = up();
    const other = malloc_type_attach('other');
    for (let n = 0; n < 2; n++) free(malloc(100, t, M_NOWAIT), other);
    for (let n = 0; n < 3; n++) {
      const s = malloc_type_sample(other);
      assert.deepEqual([s.inuse, s.bytes, s.approximate], [0, 0, true]);
    }
    const rows = memstat_read(memstat_sysctl_malloc, memstat_fetch_live());
    assert.ok(typeof rows !== 'string');
    const row = rows.find((r) => r.name === 'other');
    assert.deepEqual([row?.count, row?.bytes, row?.approximate], [0, 0, true]);
    assert.deepEqual(said, [
      'Warning: memory type other: 2 more blocks of 128 bytes freed than allocated; ' +
        'blocks of another type are freed under it',
    ]);
    // What it has of another size shows beside it.
    const p = malloc(16, other, M_NOWAIT);
    assert.equal(malloc_type_sample(other).inuse, 1);
    free(p, other);
    assert.equal(malloc_type_sample(t).inuse, 2);
  });
  test('a large block counts under its own type, and the log names both once', () => {
    const { t } = up();
    const other = malloc_type_attach('other');
    const blocks = Array.from({ length: 3 }, () => malloc(9000, t, M_NOWAIT));
    free(blocks[0], other);
    free(realloc(blocks[1], 30_000, other, M_NOWAIT), other);
    free(blocks[2], t);
    for (const type of [t, other]) {
      const s = malloc_type_sample(type);
      assert.deepEqual([s.inuse, s.bytes, s.approximate], [0, 0, false]);
    }
    assert.deepEqual(said, [
      `Warning: memory type busy: block ${blocks[0] * 4} is freed as other; ` +
        'it is counted under the type it was allocated with',
    ]);
    uma_check();
  });
  for (const size of [16, 100, 512, 1000, 4096, 9000]) {
    test(`${size} bytes, with INVARIANTS: panics and names both`, () => {
      const { t } = up({ INVARIANTS: true });
      const other = malloc_type_attach('other');
      const all = Array.from({ length: 300 }, () => malloc(size, t, M_NOWAIT));
      for (const p of all.slice(1)) free(p, t);
      assert.throws(
        () => free(all[0], other),
        new RegExp(`free: block ${all[0] * 4} of type busy is freed as other`),
      );
    });
  }
});
