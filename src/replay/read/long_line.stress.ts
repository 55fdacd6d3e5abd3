/*
 * Shown: a trace with a single line of 1 GiB is read to its end in bounded memory, and the lines
 * before and behind it count.
 * By what means: a packed file made on the spot; resident memory sampled while it is read.
 */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { long_line_growth, long_line_gzip } from './traces.test.common.ts';

const LINE_BYTES = 2 ** 30;
const MOST_GROWTH = 192 * 2 ** 20;

const folder = mkdtempSync(join(tmpdir(), 'kmem-replay-'));
try {
  const file = join(folder, 'long.gz');
  writeFileSync(file, long_line_gzip(LINE_BYTES));
  const growth = await long_line_growth(file);
  console.log(`a line of 1 GiB: memory grew by ${(growth / 2 ** 20).toFixed(1)} MiB`);
  assert.ok(growth < MOST_GROWTH);
} finally {
  rmSync(folder, { recursive: true });
}
