/*
 * vm_object (fuzz): the same seeded forks, writes, reads, drops and working pages on spaces over
 * chains of objects, and on arrays that say what every page of every space holds.
 *
 * Every byte of a page is written and compared.  Now and then the walkers prove objects, indexes,
 * queues and references; how deep the deepest chain was is for the caller.
 */
import { boot } from '../boot/whole.ts';
import { dice } from '../machine/seed.test.lib.ts';
import {
  contents,
  SPACES,
  type SpacesModel,
  space_depth,
  space_read,
  spaces_check,
  spaces_end,
  spaces_make,
  spaces_step,
} from './object_spaces.test.lib.ts';

/** Between two proofs by the walkers. */
const WALK = 2000;
/** Between two looks at the depth of all chains. */
const DEPTH = 100;

/** Plays on the machine that is up, where the spaces are made. Returns the deepest chain. */
export function play(seed: number, steps: number, walk = WALK): number {
  const draw = dice(seed);
  const model: SpacesModel = new Map();
  let deepest = 0;
  for (let step = 0; step < steps; step++) {
    try {
      spaces_step(draw, model, 0, SPACES);
      if (step % walk === 0) spaces_check();
    } catch (e) {
      throw new Error(`seed ${seed}, step ${step}`, { cause: e });
    }
    if (step % DEPTH !== 0) continue;
    for (const s of model.keys()) deepest = Math.max(deepest, space_depth(s));
  }
  for (const [s, pages] of model) {
    for (const [i, value] of pages.entries()) {
      const got = space_read(s, i);
      if (got !== value)
        throw new Error(`seed ${seed}: space ${s} page ${i}: ${got}, not ${value}`);
    }
  }
  spaces_check();
  return deepest;
}
/** Plays `steps` operations; throws where a page, a count or a link is not what it should be. */
export function run(seed: number, steps: number): void {
  const machine = boot({
    memory: '16M',
    cpus: 1,
    fresh: true,
    options: { INVARIANTS: true },
    seed,
  });
  try {
    contents.whole = true;
    spaces_make();
    play(seed, steps);
    spaces_end();
  } finally {
    contents.whole = false;
    machine.shutdown();
  }
}
