/*
 * vm_swap (fuzz): the same seeded writes, reads, forks and drops on address spaces and on arrays
 * that say what every page holds, while pages go out to a swap area by lot and come back.
 *
 * The area is so small that it is full at times.  The walkers prove, now and then, that the slots
 * in use are just those that objects have.
 */
import { dice } from '../machine/seed.test.lib.ts';
import { swap_up, pages_away, type Sent } from './vm_swap.test.lib.ts';
import {
  type Model,
  play_steps,
  SPACES,
  spaces_check,
  spaces_compare,
  spaces_end,
  spaces_step,
} from './vm_space.test.lib.ts';

/** Steps between two times that pages are sent out. */
const AWAY_EACH = 7;

/** Plays `steps` operations; throws, with the seed, where the two differ. */
export function run(seed: number, steps: number): Sent {
  const sent: Sent = { written: 0, failed: 0, freed: 0 };
  const options = { INVARIANTS: true, WITNESS: seed % 2 === 0 };
  play_steps(seed, steps, { memory: '6M', options }, () => {
    const draw = dice(seed);
    const model: Model = new Map();
    swap_up(seed % 3 === 0 ? 60 : 600);
    let n = 0;
    return {
      step(): void {
        spaces_step(draw, model, 0, SPACES);
        if (n++ % AWAY_EACH === 0) pages_away(draw, sent);
      },
      check: spaces_check,
      end(): void {
        spaces_compare(model);
        spaces_check();
        spaces_end();
      },
    };
  });
  return sent;
}
