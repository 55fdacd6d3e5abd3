/*
 * Threads that use files in every way, and are killed at any moment of it: a thousand times, or as
 * often as the argument says.  Afterwards the files have what was stored.
 */
import { files_killed } from './region_file.test.lib.ts';

const KILLS = Number(process.argv[2] ?? 1000);
let said = 0;
const kills = await files_killed('16M', 3, (n) => {
  if (n >= said + 100) console.log(`${(said = n)} threads killed`);
  return n >= KILLS;
});
console.log(`${kills} threads killed; nothing is lost`);
