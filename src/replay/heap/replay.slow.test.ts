/*
 * Shown: every heap recording of the full set plays as it was recorded, on one
 * CPU and on two, and what that takes in time.
 * By what means: real machines; ../shared/traces or $KMEM_TRACES, skipped with a
 * message when they are not there.  The speeds are printed and not judged.
 */
import { join } from 'node:path';
import { test } from 'node:test';
import { plays_as_recorded } from './replay.test.lib.ts';
import { BUNDLED, heap_truth, SHARED } from '../read/traces.test.common.ts';

const shared = heap_truth(SHARED);
if (shared === null) {
  const skip = 'the full set of traces is not beside the repository; set KMEM_TRACES to its folder';
  test('the full set of traces plays as recorded', { skip });
}
const bundled = heap_truth(BUNDLED) ?? {};
for (const [name, truth] of Object.entries(shared ?? {})) {
  if (name in bundled) continue;
  for (const cpus of [1, 2]) {
    test(`${name} on ${cpus} CPUs`, async (t) => {
      const { time, heap } = await plays_as_recorded(join(SHARED, name), cpus, truth);
      const speed = `${(time.events_per_second / 1e6).toFixed(2)} M events/s`;
      const each = `${time.playing_ns_per_event.toFixed(0)} ns each once decoded`;
      t.diagnostic(`${name}: ${cpus} CPUs, ${speed}, ${each}, ${heap.types.length} types`);
    });
  }
}
