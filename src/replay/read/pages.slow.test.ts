/*
 * Shown: what the readers say of each recording of references of the full set equals the truth.
 * By what means: as in pages.test.ts; skipped with a message where the set is not there.
 */
import { join } from 'node:path';
import { test } from 'node:test';
import { equal_to_pages_truth, pages_truth } from './pages.test.lib.ts';
import { SHARED } from './traces.test.common.ts';

const shared = pages_truth(SHARED);
if (shared === null) {
  const skip = 'the full set of traces is not beside the repository; set KMEM_TRACES to its folder';
  test('the full set of traces equals the truth', { skip });
}
for (const [name, truth] of Object.entries(shared ?? {})) {
  test(`${name} equals the truth`, () => equal_to_pages_truth(join(SHARED, name), truth));
}
