/*
 * The thread of the test of redzones on several: it plays the model's steps.
 */
import { attach, detach } from '../boot/whole.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { type Board, RedzoneModel } from './redzone.model.ts';

interface Args {
  readonly board: Board;
  readonly seed: number;
  readonly steps: number;
}
run_job<Args>(
  (_, { board, seed, steps }) => {
    const model = new RedzoneModel(board, dice(seed));
    model.run(steps);
    return model.tally;
  },
  { join: attach, leave: () => void detach() },
);
