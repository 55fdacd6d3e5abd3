/*
 * The worker of vm_object_smp.slow.test.ts: it forks, writes, reads and drops spaces of its own
 * range, whose chains it shares with the other workers, and compares them with its model, until it
 * is told to stop or is killed.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import {
  done_word,
  SPACE_PAGES,
  type SpacesModel,
  space_drop,
  space_object,
  space_read,
  spaces_step,
  stop_word,
} from './object_spaces.test.lib.ts';

const BATCH = 16;

function churn(seed: number, first: number, count: number): number {
  const draw = dice(seed);
  const model: SpacesModel = new Map();
  // What is there was made by main, or by one who died: it is seen as it is.
  for (let s = first; s < first + count; s++) {
    if (space_object(s) === 0) continue;
    const seen = Array.from({ length: SPACE_PAGES }, (_, i) => space_read(s, i));
    if (seen.includes(-1)) throw new Error(`space ${s}: a page that is half written`);
    model.set(s, seen);
  }
  let n = 0;
  for (; atomic_load(stop_word()) === 0; n++) {
    spaces_step(draw, model, first, count);
    if (n % BATCH === 0) atomic_add(done_word(), BATCH);
  }
  for (const s of model.keys()) space_drop(s);
  return n;
}
run_job<{ seed: number; first: number; count: number }>(
  (_job, { seed, first, count }) => ({ n: churn(seed, first, count) }),
  { join: attach, leave: () => void detach() },
);
