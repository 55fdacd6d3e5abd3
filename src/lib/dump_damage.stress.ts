/*
 * Ten thousand damaged dumps, or as many as the argument says: what was cut, flipped or goes in a
 * circle is read to its end, in bounded time and memory (dump_damage.test.lib.ts).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { SEED } from '../sys/machine/seed.test.lib.ts';
import { good_dump, READER_MB, read_damaged } from './dump_damage.test.lib.ts';

const DUMPS = Number(process.argv[2] ?? 10_000);
/** Dumps that a process reads. */
const EACH = 1000;
const folder = mkdtempSync(join(tmpdir(), 'kmem-damage-'));
const good = join(folder, 'good');
good_dump(good);
let [worst, most, bad] = [0, 0, 0];
for (let first = 0; first < DUMPS; first += EACH) {
  const one = await read_damaged(good, SEED, first, Math.min(EACH, DUMPS - first));
  worst = Math.max(worst, one.worst);
  most = Math.max(most, one.mb);
  bad += one.wrong.length;
  for (const line of one.wrong) console.log(line);
}
rmSync(folder, { recursive: true, force: true });
console.log(`${DUMPS} damaged dumps, ${bad} wrong; ${worst} ms at most, ${most} MB`);
process.exitCode = bad > 0 || most > READER_MB ? 1 : 0;
