/*
 * Every script under both schedulers and, where it names a victim, with that CPU killed
 * at every point: as many seeds as `npm run sim` plays, several times those of the
 * tests.
 */
import { main, script_urls } from './main.ts';

const code = await main([]);
console.log(`${script_urls().length} scripts, and what they did is as it should be`);
process.exit(code);
