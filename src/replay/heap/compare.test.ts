/*
 * Shown: a comparison tells of each value what a replay under it tells; what is kept is the faster
 * round, a damaged one first; a best figure is marked only where the runs did the same work and
 * the rounds agree; a value without a machine is a column of its own.
 * By what means: real machines under real settings, with a bundled trace; marks on figures made up
 * for the purpose, one reason at a time.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  best_run,
  COMPARE_ROUNDS,
  type Comparison,
  compare,
  compare_text,
  type Figures,
  type Setting,
} from './compare.ts';
import { type ReplayOptions, replay } from './replay.ts';
import { PLAIN } from './replay.test.lib.ts';
import { BUNDLED, heap_truth } from '../read/traces.test.common.ts';

const MAKE = join(BUNDLED, 'make.mtrace.gz');
const truth = heap_truth(BUNDLED)?.['make.mtrace.gz'] ?? {};
const options: ReplayOptions = { ...PLAIN, files: [MAKE], cpus: 1 };

test('each value is played in turns, and told as a replay under it is', async () => {
  const setting: Setting = {
    name: 'memory',
    values: ['4M', '64M', '8M'].map((memory) => ({
      text: memory,
      options: (o) => ({ ...o, memory }),
    })),
  };
  const order: string[] = [];
  let machines = 0;
  const play = (o: ReplayOptions) => replay({ ...o, progress: undefined });
  const looking = { ...options, inspect: () => void machines++ };
  const { trace, compare: c } = await compare(looking, setting, play, (text) => order.push(text));
  assert.deepEqual(
    order.map((text) => /=(\S+), round (\d)/.exec(text)?.slice(1).join(' ')),
    ['4M 1', '64M 1', '8M 1', '8M 2', '64M 2', '4M 2'],
  );
  assert.equal(machines, 6);
  assert.ok('never_freed_blocks' in trace);
  assert.equal(trace.never_freed_blocks, truth.never_freed_blocks);
  assert.deepEqual(
    c.runs.map((r) => [r.value, r.memory?.size_bytes, r.rounds?.length]),
    [
      ['4M', 2 ** 22, COMPARE_ROUNDS],
      ['64M', 2 ** 26, COMPARE_ROUNDS],
      ['8M', 2 ** 23, COMPARE_ROUNDS],
    ],
  );
  for (const r of c.runs) {
    assert.equal(r.verdict?.seconds, Math.min(...(r.rounds ?? []).map((f) => f.seconds ?? 0)));
    const alone = await replay({ ...options, memory: r.value });
    assert.equal(r.heap?.requests, alone.heap.requests);
    assert.equal(r.verdict?.never_freed_bytes, alone.heap.memuse);
    assert.equal(r.verdict?.peak_pages, (r.memory?.kernel_peak_bytes ?? 0) / 4096);
    assert.equal(r.verdict?.failed, 0);
    assert.equal(r.verdict?.types, alone.heap.types.length);
    assert.ok((r.verdict?.buckets ?? 0) > 0 && (r.verdict?.end_pages ?? 0) > 0);
  }
});

test('a value under which no machine comes up is a column without figures', async () => {
  const cpus = (n: number) => ({
    text: String(n),
    options: (o: ReplayOptions) => ({ ...o, cpus: n, programs: n }),
  });
  const setting = { name: 'programs', values: [cpus(1), cpus(1000)] };
  const out = await compare(options, setting, replay, () => {});
  const [good, bad] = out.compare.runs;
  assert.equal(good.heap?.inuse, truth.never_freed_blocks);
  assert.match(bad.error ?? '', /cpus/);
  assert.deepEqual([bad.heap, bad.verdict, bad.rounds], [undefined, undefined, undefined]);
  const text = compare_text(MAKE, out);
  assert.match(text, /^ {2}requests served +3,623 +-$/m);
  assert.match(text, /^ {2}1000: .*cpus/m);
  const none = { name: 'programs', values: [cpus(1000), cpus(2000)] };
  await assert.rejects(
    compare(options, none, replay, () => {}),
    { name: 'KmemError' },
  );
  const one = { name: 'cpus', values: [cpus(1), cpus(2)] };
  const alone = compare(options, one, replay, () => {});
  await assert.rejects(alone, /one thread, which plays on one CPU; compare programs=1,2/);
});

/** A comparison of one figure: a column for each value, with the figure of each round. */
function figures(name: string, key: string, columns: string, failing = -1): Comparison {
  const runs = columns.split(', ').map((column, i) => {
    const failed = i === failing ? 3 : 0;
    const rounds = column.split(' ').map((n): Figures => ({ [key]: Number(n), failed }));
    return { value: String(i), rounds };
  });
  return { name, rounds: COMPARE_ROUNDS, runs };
}

test('the best is marked only where it means something', async () => {
  const { trace } = await replay(options);
  const long = { ...trace, event_lines: 1e6 };
  const least = { key: 'peak_pages', best: 'least', of_work: ['programs'] } as const;
  const most = { key: 'events_per_second', best: 'most' } as const;
  const neither = { key: 'reclaims', best: null } as const;
  const pages = (columns: string, failing?: number) =>
    best_run(least, long, figures('x.y', 'peak_pages', columns, failing));
  const speed = (columns: string, of = long) =>
    best_run(most, of, figures('x.y', 'events_per_second', columns));
  assert.equal(pages('9 9, 5 6, 7 8'), 1);
  assert.equal(pages('9 9, 5 8, 7 8'), -1, 'the rounds disagree');
  assert.equal(pages('100 100, 99 99'), -1, 'within 2 %');
  assert.equal(pages('5 5, 5 5, 9 9'), -1, 'two of them');
  assert.equal(pages('0 0, 5 5'), 0);
  assert.equal(pages('9 9, 5 5, 7 7', 1), 2, 'one failed');
  assert.equal(pages('9 9, 5 5', 1), -1, 'only one did the work');
  const by = (name: string) => figures(name, 'peak_pages', '5 5, 9 9');
  assert.equal(best_run(least, long, by('programs')), -1, 'more programs are more work');
  assert.equal(
    best_run(least, { ...long, threads: 4 }, by('cpus')),
    0,
    'threads are the same work',
  );
  assert.equal(speed('10 11, 20 19'), 1);
  assert.equal(speed('10 20, 21 19'), -1);
  assert.equal(speed('10 11, 20 19', trace), -1, 'too short to speak of speed');
  assert.equal(best_run(neither, long, figures('x.y', 'reclaims', '1 1, 9 9')), -1);
});
