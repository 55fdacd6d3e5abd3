/*
 * metrics: what one answer to Prometheus costs.
 *
 *      npm run bench -- metrics
 *
 * A machine with 100 malloc types that have blocks of many sizes, and the zones that
 * every machine has.  The time is the shortest of some rounds: of a scrape as text, of
 * the same figures as data, and of a scrape with every variable.
 */
import { boot, type Machine } from '../src/lib/index.ts';
import type { Result } from './alloc.ts';
import type { Plan } from './harness.ts';

const TYPES = 100;
const BLOCKS = 20;
/** Scrapes in a round: the shortest of them counts. */
const SCRAPES = 50;
/** What a scrape may cost at most, ms. */
const BOUND_MS = 2;

function fill(machine: Machine): void {
  for (let i = 0; i < TYPES; i++) {
    const type = machine.type(`type ${i}`);
    for (let j = 1; j <= BLOCKS; j++) type.alloc(j * 100);
  }
}
function shortest(rounds: number, call: () => unknown): number {
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < rounds * SCRAPES; i++) {
    const from = performance.now();
    call();
    best = Math.min(best, performance.now() - from);
  }
  return best;
}
/** Prints the times; there is nobody to compare with. */
export async function bench_metrics(plan: Plan, say: (line: string) => void): Promise<Result> {
  const machine = boot({ memory: '64M' });
  fill(machine);
  const families = machine.metrics().length;
  const line = (what: string, call: () => unknown, bound?: number): void => {
    const ms = shortest(plan.rounds, call);
    const most = bound === undefined ? '' : `   at most ${bound}${ms > bound ? '  MORE' : ''}`;
    say(`${what.padEnd(34)}${ms.toFixed(2).padStart(7)} ms${most}`);
  };
  say(`\n${TYPES} types of the program; ${families} families; shortest of ${plan.rounds} rounds`);
  line('collect()', () => machine.collect(), BOUND_MS);
  line('metrics()', () => machine.metrics());
  line('collect({ sysctls: true })', () => machine.collect({ sysctls: true }));
  machine.shutdown();
  return { rows: [], versions: [] };
}
