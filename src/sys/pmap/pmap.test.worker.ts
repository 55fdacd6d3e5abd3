/*
 * The worker of pmap_smp.slow.test.ts: it maps, uses, unmaps and frees pages that others map,
 * use, unmap and free, until it is told to stop or is killed.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { done_word, stop_word, views_step, views_super_step } from './pmap_views.test.lib.ts';

const BATCH = 16;

run_job<{ seed: number }>(
  (job, { seed }) => {
    const step = job === 'super' ? views_super_step : views_step;
    const draw = dice(seed);
    let n = 0;
    for (; atomic_load(stop_word()) === 0; n++) {
      step(draw);
      if (n % BATCH === 0) atomic_add(done_word(), BATCH);
    }
    return { n };
  },
  { join: attach, leave: () => void detach() },
);
