/*
 * Shows: memory objects hold what was written to them, through copies of copies; chains stay
 * short; whatever ends gives back its pages, nodes and references, also when memory runs
 * out at any place, and when threads are killed anywhere.
 * By what means: seeded forks, writes, reads and drops of spaces and of a model, one thread
 * in machines of all sorts, then two at once whose chains have objects in common, some of them
 * killed and replaced; the walker after all of it.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, type Booted, boot, shutdown } from '../boot/main.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get } from '../machine/counter.ts';
import { reap_all, v_reaps } from '../machine/death.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { Crew, type Job, sleep, until, within } from '../machine/workers.test.lib.ts';
import { PK_OBJECT } from '../h/vm_page.ts';
import { page_failpoint, vm_page_census, vm_page_check } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import {
  done_word,
  SPACE_PAGES,
  SPACES,
  type SpacesModel,
  space_depth,
  space_drop,
  space_fork,
  space_make,
  space_object,
  space_read,
  space_write,
  spaces_check,
  spaces_make,
  spaces_step,
  stop_word,
} from './object_spaces.test.lib.ts';
import { objects_all } from './vm_object_check.ts';

afterEach(() => {
  page_failpoint.refuse = null;
  try {
    shutdown();
  } catch {
    abandon();
  }
});
function up(options: Parameters<typeof boot>[0]): Booted {
  const booted = boot({ cpus: 1, fresh: true, memory: '16M', ...options });
  spaces_make();
  return booted;
}
/** Every space is dropped: nothing is left. */
function end(): void {
  for (let s = 0; s < SPACES; s++) if (space_object(s) !== 0) space_drop(s);
  assert.deepEqual(objects_all(), []);
  assert.equal(vm_page_census()[PK_OBJECT], 0);
  spaces_check();
  uma_check();
  vm_page_check();
}
function play(steps: number, seed: number, check_each: number): void {
  const draw = dice(seed);
  const model: SpacesModel = new Map();
  for (let i = 0; i < steps; i++) {
    spaces_step(draw, model, 0, SPACES);
    if (i % check_each === 0) spaces_check();
  }
  for (const [s, pages] of model) {
    for (const [i, value] of pages.entries()) assert.equal(space_read(s, i), value, `${s}, ${i}`);
  }
  spaces_check();
}

test('spaces and a model: every page of every space is what was written', () => {
  up({ options: { INVARIANTS: true, WITNESS: true } });
  play(40_000, SEED, 1000);
  end();
});
test('the same in a checked machine', () => {
  up({ checked: true });
  play(300, SEED + 1, 50);
  end();
});
test('a machine that is full refuses, and goes on', () => {
  up({ memory: '2M', options: { INVARIANTS: true } });
  play(20_000, SEED + 2, 1000);
  end();
});
test('ten thousand generations: the chain does not grow', () => {
  up({ options: { INVARIANTS: true } });
  assert.ok(space_make(0));
  const model: number[] = new Array(SPACE_PAGES).fill(0);
  let deepest = 0;
  for (let g = 0; g < 10_000; g++) {
    const [from, to] = [g & 1, (g + 1) & 1];
    assert.ok(space_fork(from, to));
    const i = g % SPACE_PAGES;
    assert.ok(space_write(to, i, g + 1));
    model[i] = g + 1;
    space_drop(from);
    deepest = Math.max(deepest, space_depth(to));
  }
  assert.ok(deepest <= 3, `${deepest} objects, one behind the other`);
  for (const [i, value] of model.entries()) assert.equal(space_read(0, i), value);
  end();
});
test('out of pages at every place: refused, and every page is what it was', () => {
  up({ options: { FAILPOINTS: true, INVARIANTS: true } });
  const draw = dice(SEED + 3);
  const model: SpacesModel = new Map();
  for (let i = 0; i < 3000; i++) {
    let left = draw(6);
    page_failpoint.refuse = () => left-- <= 0;
    spaces_step(draw, model, 0, SPACES);
    page_failpoint.refuse = null;
    if (i % 100 === 0) spaces_check();
  }
  for (const [s, pages] of model) {
    for (const [i, value] of pages.entries()) assert.equal(space_read(s, i), value);
  }
  end();
});

type Churn = Job<{ n: number }>;
const WORKERS = 2;
/** Two workers on chains with common ancestors; `kills` of them die. */
async function together(kills: number, seed: number, INVARIANTS: boolean): Promise<void> {
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = up({ cpus: WORKERS + 1, options });
  const crew = new Crew<{ n: number }>(new URL('./vm_object.test.worker.ts', import.meta.url));
  const count = SPACES / WORKERS;
  space_make(0);
  for (let i = 0; i < SPACE_PAGES; i += 3) space_write(0, i, i + 1);
  for (let s = 1; s < SPACES; s += 5) space_fork(0, s);
  const start = (i: number, n: number): Churn =>
    crew.start(handle, 'churn', { seed: seed + n, first: i * count, count });
  const jobs = Array.from({ length: WORKERS }, (_, i) => start(i, i));
  const draw = dice(seed);
  try {
    await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
    for (let n = 0; n < kills; n++) {
      const done = atomic_load(done_word());
      await until(() => atomic_load(done_word()) !== done, 'some work');
      await sleep(draw(5));
      const i = draw(WORKERS);
      await jobs[i].worker.terminate();
      await until(() => {
        reap_all();
        return counter_get(v_reaps) > n;
      }, 'it is settled');
      jobs[i] = start(i, WORKERS + n);
      await within(jobs[i].up, 'a new worker');
    }
    const done = atomic_load(done_word());
    await until(() => atomic_load(done_word()) - done > 3000, 'work');
    atomic_store(stop_word(), 1);
    await within(Promise.all(jobs.map((j) => j.done)), 'the workers');
  } finally {
    await crew.end();
  }
  spaces_check();
  end();
}
test('two threads on the same chains', () => together(0, SEED, true));
for (const INVARIANTS of [true, false]) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`threads killed in the middle of it, ${how}`, () => together(10, SEED, INVARIANTS));
}
