/*
 * Shows: memory objects hold what was written to them, through copies of copies; chains stay
 * short; whatever ends gives back its pages, nodes and references, also when memory runs
 * out at any place.
 * By what means: seeded forks, writes, reads and drops of spaces and of a model, in machines of
 * all sorts; the walker after all of it.  Several threads: vm_object_smp.slow.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, type Booted, boot, shutdown } from '../boot/whole.ts';
import { ALL_WAYS, dice, SEED } from '../machine/seed.test.lib.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { play, run } from './vm_object.fuzz.ts';
import {
  SPACE_PAGES,
  SPACES,
  type SpacesModel,
  space_depth,
  space_drop,
  space_fork,
  space_make,
  space_read,
  space_write,
  spaces_check,
  spaces_end,
  spaces_make,
  spaces_step,
} from './object_spaces.test.lib.ts';

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

test('spaces and a model: every page of every space is what was written', () => {
  up({ options: { INVARIANTS: true, WITNESS: true } });
  play(SEED, 15_000, 1000);
  spaces_end();
});
test('the same in a checked machine', () => {
  up({ checked: true });
  play(SEED + 1, 300, 50);
  spaces_end();
});
test('a machine that is full refuses, and goes on', () => {
  up({ memory: '2M', options: { INVARIANTS: true } });
  play(SEED + 2, 20_000, 1000);
  spaces_end();
});
test('the same, every byte of every page', () => run(SEED + 4, 6000));
/** A chain that grew would be long by then. */
const GENERATIONS = ALL_WAYS ? 10_000 : 3000;
test(`${GENERATIONS} generations: the chain does not grow`, () => {
  up({ options: { INVARIANTS: true } });
  assert.ok(space_make(0));
  const model: number[] = new Array(SPACE_PAGES).fill(0);
  let deepest = 0;
  for (let g = 0; g < GENERATIONS; g++) {
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
  spaces_end();
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
  spaces_end();
});
