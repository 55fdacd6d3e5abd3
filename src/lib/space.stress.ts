/*
 * Threads that use spaces in every way, and are killed at any moment of it: a thousand times, or as
 * often as the argument says.  Afterwards no page has an owner, and the walkers find nothing.
 */
import { withMachine } from './index.ts';
import { kill_users, spaces_gone } from './space.test.lib.ts';

const KILLS = Number(process.argv[2] ?? 1000);
const FILE = new URL('./space_threads.test.worker.ts', import.meta.url);
const started = performance.now();
let said = 0;
await withMachine(
  { memory: '32M', cpus: 8, options: { INVARIANTS: true, WITNESS: true } },
  async (machine) => {
    const kills = await kill_users(machine, FILE, 4, (n) => {
      if (n >= said + 100) {
        said = n;
        console.log(`${n} threads killed, ${Math.round((performance.now() - started) / 1000)} s`);
      }
      return n >= KILLS;
    });
    spaces_gone(machine);
    console.log(`${kills} threads killed; nothing is left`);
  },
);
