/*
 * Shown: what the readers say about each recorded heap of the full set equals the truth.
 * By what means: as in readers.test.ts; skipped with a message where the set is not there.
 */
import { join } from 'node:path';
import { test } from 'node:test';
import { BUNDLED, equal_to_truth, heap_truth, SHARED } from './traces.test.common.ts';

const bundled = heap_truth(BUNDLED) ?? {};
const shared = heap_truth(SHARED);
if (shared === null) {
  const skip = 'the full set of traces is not beside the repository; set KMEM_TRACES to its folder';
  test('the full set of traces equals the truth', { skip });
}
for (const [name, truth] of Object.entries(shared ?? {})) {
  if (name in bundled) continue;
  test(`${name} equals the truth`, () => equal_to_truth(join(SHARED, name), truth));
}
