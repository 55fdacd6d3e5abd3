/*
 * Shown: what the readers say of recordings of references of the full set equals the truth.
 * By what means: as in pages.test.ts, of one of each format that is drawn (all by
 * recordings.stress.ts); skipped with a message where the set is not there.
 */
import { join } from 'node:path';
import { test } from 'node:test';
import { equal_to_pages_truth, pages_truth } from './pages.test.lib.ts';
import { beside, drawn, SHARED } from './traces.test.common.ts';

const all = beside(pages_truth);
for (const format of ['.lackey.', '.pages.']) {
  for (const [name, truth] of drawn(all.filter(([one]) => one.includes(format)))) {
    test(`${name} equals the truth`, () => equal_to_pages_truth(join(SHARED, name), truth));
  }
}
