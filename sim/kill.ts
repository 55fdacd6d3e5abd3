/*
 * kill: a thread vanishes at every scheduler point of a script, one per run.
 *
 * For n = 1, 2, ... the script's victim dies at its n-th point, until it ends
 * without having been killed.  It dies as a terminated worker does: at once,
 * without `finally`, its locks held, its records half-written.  The others go
 * on; then its slot is reaped and the script's check runs.  Each run ends in
 * one of
 *
 *      clean       everybody went on, the check found nothing
 *      panic       the machine stopped and named the lock it could not trust
 *      hang        somebody waits for ever, or the steps ran out
 *      wrong       anything else: a bad check, a panic that names no lock
 *
 * Only the first two are right.  Items lost between a cache and its caller are
 * counted beside them.
 */
import { type BatonSession, baton_session } from './baton.ts';
import { nested_session } from './nested.ts';
import { type SimResult, script_load } from './script.ts';

export interface KillTally {
  /** Points at which the victim was killed, over all seeds. */
  killed: number;
  clean: number;
  panic: number;
  hang: number;
  wrong: number;
  /** Most items lost in one run, and in all. */
  items_lost_most: number;
  items_lost: number;
  /** The first run that ended in hang or wrong. */
  first_bad: { seed: number; at: number; failure: string } | null;
}
export interface KillOptions {
  readonly script: URL;
  /** Interleavings on each of which every point is tried. Default 1 to 3. */
  readonly seeds?: readonly number[];
  /** Which scheduler. Default 'baton'. */
  readonly by?: 'baton' | 'nested';
  /** A baton session that knows the script; without it one is made. */
  readonly session?: BatonSession;
}
const POINTS_MAX = 20_000;
const STEPS_MAX = 30_000;

/** What became of one run. */
export function kill_outcome(r: SimResult): 'clean' | 'panic' | 'hang' | 'wrong' {
  if (r.failure === null) return 'clean';
  if (/^panic: .*\block '/.test(r.failure) || /^panic: .*\block: '/.test(r.failure)) return 'panic';
  return /^(hang|deadlock)/.test(r.failure) || /for ever/.test(r.failure) ? 'hang' : 'wrong';
}

/** Kills the script's victim at every point. */
export async function kill_everywhere(o: KillOptions): Promise<KillTally> {
  const script = await script_load(o.script);
  const cpu = script.victim;
  if (cpu === undefined) throw new Error(`sim: ${o.script.pathname} names no victim to kill`);
  const seeds = o.seeds ?? [1, 2, 3];
  if (o.by === 'nested') {
    const session = nested_session(script, true);
    try {
      return await all_points(seeds, async (seed) => {
        const ends: SimResult[] = [];
        do ends.push(session.run(seed, { cpu, at: ends.length + 1 }));
        while (ends[ends.length - 1].killed && ends.length < POINTS_MAX);
        return ends;
      });
    } finally {
      session.close();
    }
  }
  const session = o.session ?? (await baton_session({ script: o.script, steps_max: STEPS_MAX }));
  try {
    return await all_points(seeds, (seed) => session.run_deaths(seed, cpu, o.script));
  } finally {
    if (!o.session) await session.close();
  }
}

/** Counts what became of all runs. `runs`: those of a seed, the last without a death. */
async function all_points(
  seeds: readonly number[],
  runs: (seed: number) => Promise<readonly SimResult[]>,
): Promise<KillTally> {
  const tally: KillTally = {
    killed: 0,
    clean: 0,
    panic: 0,
    hang: 0,
    wrong: 0,
    items_lost_most: 0,
    items_lost: 0,
    first_bad: null,
  };
  for (const seed of seeds) {
    for (const [i, r] of (await runs(seed)).entries()) {
      if (!r.killed && r.failure === null) break;
      const outcome = kill_outcome(r);
      tally.killed++;
      tally[outcome]++;
      tally.items_lost += r.items_lost;
      tally.items_lost_most = Math.max(tally.items_lost_most, r.items_lost);
      if (outcome === 'hang' || outcome === 'wrong') {
        tally.first_bad ??= { seed, at: i + 1, failure: r.failure ?? '' };
      }
    }
  }
  return tally;
}

/** The tally in one line. */
export function kill_line(name: string, t: KillTally): string {
  return (
    `${name.padEnd(22)} killed ${t.killed}: clean ${t.clean}, panic naming a lock ${t.panic}, ` +
    `hang ${t.hang}, wrong ${t.wrong}; ` +
    `items lost ${t.items_lost}, at most ${t.items_lost_most} a run`
  );
}
