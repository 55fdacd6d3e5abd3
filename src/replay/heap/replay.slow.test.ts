/*
 * Shown: heap recordings of the full set play as they were recorded, on one CPU and on
 * two, and what that takes in time.
 * By what means: real machines; two that are drawn from ../shared/traces or $KMEM_TRACES (all
 * by recordings.stress.ts), skipped with a message when they are not there.  The speeds are
 * printed and not judged.
 */
import { join } from 'node:path';
import { test } from 'node:test';
import { plays_as_recorded } from './replay.test.lib.ts';
import { beside, drawn, heap_truth, SHARED } from '../read/traces.test.common.ts';

for (const [name, truth] of drawn(beside(heap_truth), 2)) {
  for (const cpus of [1, 2]) {
    test(`${name} on ${cpus} CPUs`, async (t) => {
      const { time, heap } = await plays_as_recorded(join(SHARED, name), cpus, truth);
      const speed = `${(time.events_per_second / 1e6).toFixed(2)} M events/s`;
      const each = `${time.playing_ns_per_event.toFixed(0)} ns each once decoded`;
      t.diagnostic(`${name}: ${cpus} CPUs, ${speed}, ${each}, ${heap.types.length} types`);
    });
  }
}
