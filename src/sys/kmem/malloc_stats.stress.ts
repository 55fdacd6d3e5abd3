/*
 * A million samples each of private pairs and of hand-over between two workers, of
 * the type and of the zone of its size class: none is negative or above what is
 * held, and none that is not marked is off by more than SAMPLE_APART.
 * KMEM_STRESS_SAMPLES sets another number.
 */
import { play_stats } from './malloc_stats.test.lib.ts';
import { RING_SIZE } from './malloc_stats.test.worker.ts';

const samples = Number(process.env.KMEM_STRESS_SAMPLES ?? 1_000_000);
let marked = 0;
let error = 0;
for (const what of ['type', 'zone'] as const) {
  const pairs: [string, object] = ['pairs', { hold: 51 }];
  const games = [
    { jobs: [pairs, pairs], size: 64, least: 100, most: 102 },
    {
      jobs: [['give', {}] as [string, object], ['take', {}] as [string, object]],
      size: 256,
      least: 0,
      most: RING_SIZE + 2,
    },
  ];
  for (const game of games) {
    const seen = await play_stats({ ...game, samples, what });
    marked += seen.approximate;
    error = Math.max(error, seen.error);
  }
}
console.log(`4 x ${samples} samples, ${marked} marked, the others off by ${error} at most`);
