/*
 * A thousand threads killed between the page floor and an owner of pages, INVARIANTS on
 * and off; KMEM_KILLS sets another number.  Prints what was recovered; a lost page ends it.
 */
import { SEED } from '../machine/seed.test.lib.ts';
import { page_kills } from './page_busy.test.lib.ts';

const KILLS = Number(process.env.KMEM_KILLS ?? 1000);
let [pages, operations] = [0, 0];
for (const INVARIANTS of [true, false]) {
  const k = await page_kills(Math.ceil(KILLS / 2), SEED, INVARIANTS);
  pages += k.pages;
  operations += k.operations;
}
console.log(`${KILLS} kills in ${operations} operations: ${pages} pages recovered, none lost`);
