/*
 * Shows that undo sections hold what they promise: longer than an eighth of the
 * log, nested to the last level, or private.  Workers are terminated at random
 * moments inside them, and afterwards all cells are equal and each CPU's own words
 * in balance.  A section that is too long panics where it is, and names its lock;
 * without INVARIANTS nothing happens until somebody dies in it.  Narrow columns,
 * whose word holds other rows too, do not compile.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { pcpu, thr, UNDO_LEVELS, UNDO_PAIRS } from '../machine/cpu.ts';
import { host_sees_threads } from '../machine/host.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { col8, col16, columns, elem, field_word } from '../machine/struct.ts';
import { type Counts, type Job, sleep, until, within } from '../machine/workers.test.lib.ts';
import { mtx_lock, mtx_unlock } from './kern_mutex.ts';
import {
  area,
  type area_t,
  bring_up,
  CELLS,
  leave,
  progress_of,
  reaped,
  start,
  stop_jobs,
  the_area,
} from './sync.test.lib.ts';
import {
  save,
  save_run,
  save_word,
  undo_begin,
  undo_begin_private,
  undo_commit,
  undo_end,
  undo_log,
  undo_most,
  undo_play,
  undo_private_reap,
} from './undo.ts';

const skip = host_sees_threads() ? false : 'needs /proc to see that a thread is gone';
afterEach(leave);

/** Saves `n` words of the spoil, over and over, and changes the first one. */
function save_many(t: area_t, n: number): void {
  for (let i = 0; i < n; i++) save(area.spoil, elem(t, i & 15));
}
const undone = (t: area_t): boolean => {
  for (let i = 1; i < CELLS; i++) if (area.cells[elem(t, i)] !== area.cells[t]) return false;
  return true;
};

test('a section as long as the whole log is played back to its first word', () => {
  bring_up();
  const t = the_area();
  mtx_lock(area.undo, t);
  undo_begin(area.undo, t);
  for (let i = 0; i < UNDO_PAIRS; i++) {
    save(area.cells, elem(t, i % CELLS));
    area.cells[elem(t, i % CELLS)]++;
  }
  assert.ok(area.cells[t] > 0);
  assert.equal(undo_play(thr.pc, t + area.undo), 'done');
  for (let i = 0; i < CELLS; i++) assert.equal(area.cells[elem(t, i)], 0);
  undo_end();
  mtx_unlock(area.undo, t);
});

test('nested sections share the log; each is played back by itself', () => {
  bring_up();
  const t = the_area();
  const locks = [area.undo, area.zone];
  for (const lock of locks) mtx_lock(lock, t);
  for (let level = 0; level < UNDO_LEVELS; level++) {
    undo_begin(locks[level & 1], t);
    save(area.cells, elem(t, level));
    area.cells[elem(t, level)] = 5;
    save(area.cells, elem(t, 50));
    area.cells[elem(t, 50)]++;
  }
  for (let level = UNDO_LEVELS - 1; level >= 4; level--) undo_end();
  // What comes after an inner section does not touch what the outer ones saved.
  save_many(t, 40);
  const seen: number[] = [];
  for (let level = 3; level >= 0; level--) {
    assert.equal(undo_play(thr.pc, t + locks[level & 1]), 'done');
    seen.push(area.cells[elem(t, level)], area.cells[elem(t, 50)]);
  }
  assert.deepEqual(seen, [0, 3, 0, 2, 0, 1, 0, 0]);
  for (let level = 0; level < 4; level++) undo_end();
  for (const lock of locks) mtx_unlock(lock, t);
});

test('words whose values rise by steps are saved in two pairs, and come back', () => {
  bring_up();
  const t = the_area();
  const w = field_word(area.cells, t);
  mtx_lock(area.undo, t);
  for (const [from, step] of [
    [7, 0],
    [-5, -1],
    [100, 1],
    [2 ** 31 - 3, 3], // beyond the largest: they go on at the smallest
  ]) {
    const had = Array.from({ length: CELLS }, (_, k) => (from + k * step) | 0);
    for (const [k, value] of had.entries()) area.cells[elem(t, k)] = value;
    undo_begin(area.undo, t);
    assert.ok(save_run(w, CELLS));
    save(area.cells, elem(t, 2)); // behind the run, and inside it
    for (let k = 0; k < CELLS; k++) area.cells[elem(t, k)] = 1000 + k;
    assert.ok(undo_most() < UNDO_PAIRS);
    assert.equal(undo_play(thr.pc, t + area.undo), 'done');
    undo_end();
    assert.deepEqual(
      had.map((_, k) => area.cells[elem(t, k)]),
      had,
    );
  }
  area.cells[elem(t, 3)]++;
  undo_begin(area.undo, t);
  assert.equal(save_run(w, CELLS), false, 'a word among them is another');
  area.cells[t] = 5;
  assert.equal(undo_play(thr.pc, t + area.undo), 'done');
  assert.equal(area.cells[t], 5, 'nothing was saved');
  undo_end();
  mtx_unlock(area.undo, t);
});

test('a private section is played back by the reaper, and by nobody else', () => {
  bring_up();
  const t = the_area();
  undo_begin_private();
  save(area.mine, t);
  area.mine[t] = 3;
  undo_begin_private();
  save(area.mine, t);
  area.mine[t] = 4;
  assert.equal(undo_play(thr.pc, t + area.undo), 'none');
  assert.equal(area.mine[t], 4);
  undo_private_reap(thr.cpu);
  assert.equal(area.mine[t], 0);
  assert.equal(mem_of(0) | mem_of(1), 0, 'closed');
  assert.equal(pcpu.undo_depth[thr.pc], 0, 'an heir begins with none');
});
const mem_of = (level: number): number => {
  const words = area.spoil as unknown as Int32Array;
  return words[undo_log(thr.pc, level) - (words.byteOffset >> 2)];
};

test('after a commit only what follows is undone', () => {
  bring_up();
  const t = the_area();
  undo_begin_private();
  save(area.mine, t);
  area.mine[t] = 3;
  undo_commit();
  save(area.mine, t);
  area.mine[t] = 9;
  undo_private_reap(thr.cpu);
  assert.equal(area.mine[t], 3);
});

describe('a section that is too long', () => {
  const fill = (t: area_t): void => {
    mtx_lock(area.undo, t);
    undo_begin(area.undo, t);
    save_many(t, UNDO_PAIRS - 4);
    mtx_lock(area.zone, t);
    undo_begin(area.zone, t); // the inner one has what the outer left
    save_many(t, 4);
  };
  test('panics at the word that finds no room, and names the lock', () => {
    bring_up();
    const t = the_area();
    fill(t);
    assert.throws(
      () => save_word(field_word(area.left, t)),
      new RegExp(`undo: no room .* section under lock 'UMA zone' at ${(t + area.zone) * 4}`),
    );
  });
  test('without INVARIANTS is marked, and says so when it is played', () => {
    bring_up({ options: { INVARIANTS: false } });
    const t = the_area();
    fill(t);
    save_word(field_word(area.left, t));
    save_word(field_word(area.left, t));
    assert.equal(undo_play(thr.pc, t + area.zone), 'overflow');
    undo_end();
    mtx_unlock(area.zone, t);
    assert.equal(undo_play(thr.pc, t + area.undo), 'done');
    undo_end();
    mtx_unlock(area.undo, t);
  });
  test('one section more than there are levels panics', () => {
    bring_up();
    const t = the_area();
    mtx_lock(area.undo, t);
    for (let level = 0; level < UNDO_LEVELS; level++) undo_begin(area.undo, t);
    assert.throws(() => undo_begin(area.undo, t), /more than 8 nested sections, at lock 'malloc'/);
  });
});

test('a private section inside one with a lock is refused', () => {
  bring_up();
  const t = the_area();
  mtx_lock(area.undo, t);
  undo_begin(area.undo, t);
  assert.throws(() => undo_begin_private(), /inside the section under lock 'malloc' at \d+/);
});

test('narrow columns are no words: they do not compile', () => {
  const narrow = columns<number>('test_narrow')({
    byte: col8('-', 'eight bits'),
    half: col16('-', 'sixteen bits'),
  });
  // Never run: what counts is that the types refuse it.
  const refused = (): void => {
    // @ts-expect-error: the word of a byte holds four rows
    save(narrow.byte, 1);
    // @ts-expect-error: the word of a half holds two
    save(narrow.half, 1);
    // @ts-expect-error: so there is no word to name
    save_word(field_word(narrow.half, 1));
  };
  assert.equal(typeof refused, 'function');
});

test('killed in long and private sections: all is whole, the others go on', { skip }, async (c) => {
  const handle = bring_up({ cpus: 6 });
  const t = the_area();
  const draw = dice(SEED);
  const begin = (): Job<Counts> => start(handle, 'long', { seed: draw(1e6) });
  const jobs = [begin(), begin(), begin()];
  const cpus = await within(Promise.all(jobs.map((j) => j.up)), 'start');
  const failed: string[] = [];
  const killed = new Set<Job<Counts>>();
  const watch = (j: Job<Counts>): void =>
    void j.done.catch((e) => killed.has(j) || failed.push((e as Error).message));
  jobs.forEach(watch);
  const used = new Set(cpus);
  for (let n = 0; n < 12; n++) {
    await sleep(2 + draw(8));
    const i = draw(2);
    killed.add(jobs[i]);
    await jobs[i].worker.terminate();
    const survivor = progress_of(t, cpus[2]);
    await until(() => progress_of(t, cpus[2]) > survivor, `the survivor goes on, seed ${SEED}`);
    await reaped(n + 1);
    const at = elem(t, cpus[i] * 16);
    const sum = area.mine[at] + area.mine[elem(at, 1)];
    assert.ok(sum === CELLS || sum === 0, `cpu${cpus[i]}: ${sum}, seed ${SEED}`);
    jobs[i] = begin();
    watch(jobs[i]);
    cpus[i] = await within(jobs[i].up, `worker ${n} starts`);
    used.add(cpus[i]);
  }
  stop_jobs(t);
  await within(Promise.all(jobs.map((j) => j.done)), `the survivors end, seed ${SEED}`);
  assert.deepEqual(failed, [], `seed ${SEED}`);
  assert.ok(undone(t), `cells differ, seed ${SEED}`);
  assert.equal(undo_most(), CELLS);
  c.diagnostic(`12 kills on ${used.size} slots; ${area.cells[t]} rounds, sections of ${CELLS}`);
});
