/*
 * Shown: what the readers say about recorded heaps of the full set equals the truth.
 * By what means: as in readers.test.ts, of two that are drawn (all by recordings.stress.ts);
 * skipped with a message where the set is not there.
 */
import { join } from 'node:path';
import { test } from 'node:test';
import { beside, drawn, equal_to_truth, heap_truth, SHARED } from './traces.test.common.ts';

for (const [name, truth] of drawn(beside(heap_truth), 2)) {
  test(`${name} equals the truth`, () => equal_to_truth(join(SHARED, name), truth));
}
