/*
 * kill: a thread vanishes at every scheduler point of a script, one per run.
 *
 * A first run in which nobody dies counts the points of the script's victim; then, for
 * each n, it dies at its n-th.  It dies as a terminated worker does: at once,
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
 *
 * The points of a seed are the same in each run of it, so some of them are as good as any:
 * with `most`, the points are cut into so many stretches of one length, and one is drawn from
 * each.  What a draw finds is among what the full count finds; two draws overlap little.
 */
import { type BatonSession, baton_session } from './baton.ts';
import { nested_session } from './nested.ts';
import { type SimResult, script_load } from './script.ts';

export interface KillTally {
  /** Points that the victim has, over all seeds. */
  points: number;
  /** Those at which it was killed. */
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
  /** At how many points of each seed it dies, and what they are drawn with. Default: at all. */
  readonly some?: { readonly most: number; readonly draw: (n: number) => number };
}
/** No script has more points than that. */
const POINTS_MAX = 20_000;
const STEPS_MAX = 30_000;

/** What became of one run. */
export function kill_outcome(r: SimResult): 'clean' | 'panic' | 'hang' | 'wrong' {
  if (r.failure === null) return 'clean';
  if (/^panic: .*\block '/.test(r.failure) || /^panic: .*\block: '/.test(r.failure)) return 'panic';
  return /^(hang|deadlock)/.test(r.failure) || /for ever/.test(r.failure) ? 'hang' : 'wrong';
}

/** Up to `most` of the points 1 to `points`, spread evenly, in order. */
export function points_drawn(points: number, most: number, draw: (n: number) => number): number[] {
  const n = Math.min(points, most);
  const first = (i: number): number => Math.floor((points * i) / n);
  return Array.from({ length: n }, (_, i) => 1 + first(i) + draw(first(i + 1) - first(i)));
}

/** Kills the script's victim at every point, or at some. */
export async function kill_everywhere(o: KillOptions): Promise<KillTally> {
  const script = await script_load(o.script);
  const cpu = script.victim;
  if (cpu === undefined) throw new Error(`sim: ${o.script.pathname} names no victim to kill`);
  if (o.by === 'nested') {
    const session = nested_session(script, true);
    try {
      return await all_points(o, async (seed, ats) =>
        ats.map((at) => session.run(seed, { cpu, at })),
      );
    } finally {
      session.close();
    }
  }
  const session = o.session ?? (await baton_session({ script: o.script, steps_max: STEPS_MAX }));
  try {
    return await all_points(o, (seed, ats) => session.run_deaths(seed, cpu, ats, o.script));
  } finally {
    if (!o.session) await session.close();
  }
}

/** Counts what became of all runs. `runs`: those of a seed with a death at each of `ats`. */
async function all_points(
  { seeds = [1, 2, 3], some }: KillOptions,
  runs: (seed: number, ats: readonly number[]) => Promise<readonly SimResult[]>,
): Promise<KillTally> {
  const tally: KillTally = {
    points: 0,
    killed: 0,
    clean: 0,
    panic: 0,
    hang: 0,
    wrong: 0,
    items_lost_most: 0,
    items_lost: 0,
    first_bad: null,
  };
  const count = (seed: number, at: number, r: SimResult): void => {
    const outcome = kill_outcome(r);
    tally[outcome]++;
    tally.items_lost += r.items_lost;
    tally.items_lost_most = Math.max(tally.items_lost_most, r.items_lost);
    if (outcome === 'hang' || outcome === 'wrong') {
      tally.first_bad ??= { seed, at, failure: r.failure ?? '' };
    }
  };
  for (const seed of seeds) {
    // It would die after its last point.  Everything else is as in the runs with a death.
    const [whole] = await runs(seed, [POINTS_MAX]);
    if (whole.failure !== null) count(seed, POINTS_MAX, whole);
    const points = whole.points;
    tally.points += points;
    const ats = some
      ? points_drawn(points, some.most, some.draw)
      : Array.from({ length: points }, (_, i) => i + 1);
    for (const [i, r] of (await runs(seed, ats)).entries()) {
      // It lives: its death was taken back, and at the second try it has less to do.
      if (!r.killed && r.failure === null) continue;
      tally.killed++;
      count(seed, ats[i], r);
    }
  }
  return tally;
}

/** The tally in one line. */
export function kill_line(name: string, t: KillTally): string {
  return (
    `${name.padEnd(22)} killed at ${t.killed} of ${t.points} points: clean ${t.clean}, ` +
    `panic naming a lock ${t.panic}, hang ${t.hang}, wrong ${t.wrong}; ` +
    `items lost ${t.items_lost}, at most ${t.items_lost_most} a run`
  );
}
