/*
 * Shows that no damage of a dump keeps a reader from an end: two hundred dumps that were cut, whose
 * bits were flipped, whose lists go in circles.  Each is read to where it is wrong, with one line
 * that says where; in bounded time, and in bounded memory.  dump_damage.stress.ts reads 10,000.
 */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { SEED } from '../sys/machine/seed.test.lib.ts';
import { good_dump, READER_MB, read_damaged } from './dump_damage.test.lib.ts';
import { folderEnd, fresh, vmstat } from './dump.test.lib.ts';

after(folderEnd);

test('two hundred damaged dumps: each has an end, and a line', async () => {
  const good = fresh();
  good_dump(good);
  const [whole] = await vmstat([good, '-mzs']);
  assert.deepEqual([whole.code, whole.err], [0, '']);
  const { read, wrong, mb } = await read_damaged(good, SEED, 0, 204);
  assert.deepEqual(wrong, []);
  assert.deepEqual([...read.values()], [34, 34, 34, 34, 34, 34]);
  assert.ok(mb <= READER_MB, `${mb} MB`);
});
