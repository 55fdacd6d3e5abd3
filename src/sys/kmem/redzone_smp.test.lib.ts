/*
 * The game of redzones on several threads, for the test and for the long run: workers play the
 * model (redzone.model.ts) while this thread switches redzones, their types and their stacks all
 * the while; some workers are killed in the middle.  Then the walkers prove what is left.
 */
import assert from 'node:assert/strict';
import { counter_get } from '../machine/counter.ts';
import { reap_all } from '../machine/death.ts';
import { kconsole } from '../machine/kconsole.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { Crew, type Job, until, within } from '../machine/workers.test.lib.ts';
import { sysctl_set_number, sysctl_set_text } from '../observe/sysctl.test.lib.ts';
import { uma_check } from '../uma/uma_check.ts';
import { common, down, up } from '../uma/uma.test.lib.ts';
import { account, account_text } from './kmem.test.lib.ts';
import { free, M_WAITOK, malloc } from './kern_malloc.ts';
import { malloc_type_attach, malloc_type_sums } from './kern_malloc_type.ts';
import { redzone_check } from './redzone.ts';
import {
  type Board,
  REC_WORDS,
  RECORDS,
  RedzoneModel,
  steps_made,
  type Tally,
  TYPES,
} from './redzone.model.ts';
import { v_found } from './redzone_vars.ts';

const crew = new Crew<Tally>(new URL('./redzone_smp.test.worker.ts', import.meta.url));

export interface Game {
  readonly seed: number;
  readonly INVARIANTS: boolean;
  /** Zones of each size class. Default 1. */
  readonly zones?: number;
  /** Threads that play to the end, two at least. */
  readonly workers: number;
  /** Threads that are killed. */
  readonly killed: number;
  /** Steps of all that play to the end. */
  readonly steps: number;
  /** Times that something is switched. */
  readonly switches: number;
}

/** Plays a game. Throws at the first thing that is wrong. */
export async function play_redzones(game: Game): Promise<Tally> {
  const handle = up({
    memory: '16M',
    cpus: 8,
    options: { INVARIANTS: game.INVARIANTS, MALLOC_DEBUG_MAXZONES: game.zones ?? 1 },
    set: { 'vm.redzone.enable': 1, 'vm.redzone.stacks': 0 },
  });
  const { print } = kconsole;
  try {
    const t = malloc_type_attach('board');
    const n = game.workers + game.killed + 1;
    sysctl_set_number('vm.redzone.enable', 0);
    const records = malloc(n * RECORDS * REC_WORDS * 4, t, M_WAITOK);
    sysctl_set_number('vm.redzone.enable', 1);
    const board = (i: number): Board => ({
      places: common() + 64,
      steps: common() + 1,
      records: records + i * RECORDS * REC_WORDS,
    });
    const each = Math.ceil(game.steps / game.workers);
    const start = (i: number, steps: number): Job<Tally> =>
      crew.start(handle, 'model', { board: board(i), seed: game.seed + i, steps });
    const jobs = Array.from({ length: game.workers }, (_, i) => start(i, each));
    const victims = Array.from({ length: game.killed }, (_, i) => start(game.workers + i, 2 ** 40));
    const draw = dice(game.seed + n);
    await within(Promise.all([...jobs, ...victims].map((job) => job.up)), 'the workers');
    await switched(game, board(0), draw, victims);
    const tallies = await within(Promise.all(jobs.map((job) => job.done)), 'the jobs');
    const last = new RedzoneModel(board(n - 1), draw);
    last.end();
    reap_all();
    if (game.killed === 0) {
      assert.deepEqual(redzone_check(), []);
      for (const name of TYPES) assert.equal(malloc_type_sums(malloc_type_attach(name)).inuse, 0);
    } else redzone_check();
    free(records, t);
    quiet_check(game.killed);
    const all = [...tallies, last.tally].reduce(sum);
    if (game.killed === 0) assert.equal(counter_get(v_found), all.reports);
    return all;
  } finally {
    kconsole.print = print;
    await down();
  }
}
/** Switches something as often as the game says, over all its steps; kills the victims. */
async function switched(
  game: Game,
  board: Board,
  draw: (n: number) => number,
  victims: readonly Job<Tally>[],
): Promise<void> {
  const all = game.steps * 0.9;
  for (let i = 1; i <= game.switches; i++) {
    await until(() => steps_made(board) >= (all * i) / game.switches, 'steps');
    const what = draw(20);
    if (what === 0) sysctl_set_text('vm.redzone.types', ['*', 'red', 'green, blue'][draw(3)]);
    else if (what === 1) sysctl_set_number('vm.redzone.stacks', draw(3) - 1);
    else sysctl_set_number('vm.redzone.enable', i & 1);
    const due = (i * victims.length) / game.switches;
    if (Math.floor(due) > Math.floor(due - victims.length / game.switches)) {
      await victims[Math.floor(due) - 1].worker.terminate();
    }
  }
}
/** The zones' account, of which each of the dead may have lost an item. */
function quiet_check(killed: number): void {
  uma_check();
  const a = account();
  for (const [, items] of a.leaked) assert.ok(Math.abs(items) <= killed, account_text(a));
  assert.equal(a.pages_leaked, 0, account_text(a));
}
function sum(a: Tally, b: Tally): Tally {
  for (const [name, n] of Object.entries(b)) a[name] += n;
  return a;
}
