/*
 * Shows that a thread that vanishes at any scheduler point wedges nobody.
 *
 * Each script with a victim is run once per point, with the victim killed at
 * that point, under both schedulers and several interleavings.  Every run must
 * end clean or in a panic that names the lock; none may hang.  The numbers are
 * printed.  That the tally can tell is shown by a
 * script whose survivors wait for what only the dead one would have done, and by one
 * that does not recover the lock that the dead one leaves.
 *
 * A script has hundreds of points, and up to five interleavings: together some 60 000 deaths,
 * which take minutes.  Here each script dies at KILLS of them under each scheduler, drawn anew
 * each time (KMEM_SEED) and spread over all; sim.stress.ts takes every point, of these
 * interleavings and others: what is drawn here has been tried there.  KMEM_KILLS=all takes
 * every point here, too.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type BatonSession, baton_session, machine_wanted } from './baton.ts';
import { type KillTally, kill_everywhere, kill_line, kill_outcome, points_drawn } from './kill.ts';
import { script_urls } from './main.ts';
import { nested_session } from './nested.ts';
import { SEED, dice } from '../src/sys/machine/seed.test.lib.ts';
import { script_load } from './script.ts';

const SEEDS_BATON = 1;
const SEEDS_NESTED = 5;
/** Deaths of a script under one scheduler, over all its interleavings. */
const KILLS = process.env.KMEM_KILLS === 'all' ? Number.POSITIVE_INFINITY : 30;
const draw = dice(SEED);
const upto = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);
const undo = new URL('./scripts/undo.ts', import.meta.url);
const sleepq = new URL('./scripts/sleepq.ts', import.meta.url);

function judge(tally: KillTally, seeds: number): void {
  const bad = tally.first_bad;
  const where = `seed ${bad?.seed}, point ${bad?.at}: ${bad?.failure}`;
  assert.equal(tally.hang, 0, where);
  assert.equal(tally.wrong, 0, where);
  assert.ok(tally.points >= 10 * seeds, `the victim has only ${tally.points} points`);
  assert.ok(tally.killed >= Math.min(KILLS, tally.points) / 2, `killed at only ${tally.killed}`);
  assert.ok(tally.clean > 0, 'every death ended in a panic');
  assert.ok(tally.items_lost_most <= 1, `${tally.items_lost_most} items lost in one run`);
}

interface Victim {
  readonly name: string;
  readonly script: URL;
  readonly seeds: readonly number[];
}
/** Scripts with a victim, by the machine that they want. */
const machines = new Map<string, Victim[]>();
for (const script of script_urls()) {
  const loaded = await script_load(script);
  if (loaded.victim === undefined) continue;
  const name = script.pathname.split('/').pop() ?? '';
  const wanted = machine_wanted(loaded);
  const seeds = upto(Math.min(SEEDS_NESTED, loaded.kill_seeds ?? SEEDS_NESTED));
  machines.set(wanted, [...(machines.get(wanted) ?? []), { name, script, seeds }]);
}
/** How many points of each of these interleavings. */
const some = (seeds: readonly number[]) => ({ most: Math.ceil(KILLS / seeds.length), draw });

for (const [machine, victims] of machines) {
  describe(`killed, nested, on ${machine}`, () => {
    for (const { name, script, seeds } of victims) {
      test(name, async (t) => {
        const tally = await kill_everywhere({ script, seeds, some: some(seeds), by: 'nested' });
        t.diagnostic(kill_line(name, tally));
        judge(tally, seeds.length);
      });
    }
  });
  describe(`killed, by the baton, on ${machine}`, () => {
    let session: BatonSession;
    before(async () => {
      session = await baton_session({ script: victims.map(({ script }) => script) });
    });
    after(async () => {
      await session?.close();
    });
    for (const { name, script, seeds: all } of victims) {
      const seeds = all.slice(0, SEEDS_BATON);
      test(name, async (t) => {
        const tally = await kill_everywhere({ script, seeds, some: some(seeds), session });
        t.diagnostic(kill_line(name, tally));
        judge(tally, seeds.length);
      });
    }
  });
}

describe('kills', () => {
  let session: BatonSession;
  before(async () => {
    session = await baton_session({ script: [undo, sleepq] });
  });
  after(async () => {
    await session?.close();
  });
  test('CPU 0, whose thread leads the runs, can be the one that dies', async () => {
    let killed = 0;
    for (let at = 1; at <= 40; at++) {
      const { result } = await session.run(1, 1, { cpu: 0, at }, undo);
      if (result.killed) killed++;
      assert.equal(result.failure, null, `point ${at}`);
    }
    assert.ok(killed >= 30, `killed ${killed} of 40`);
  });
  test('the same kill gives the same end, on a new machine without spinning too', async () => {
    const kill = { cpu: 1, at: 25 };
    const first = (await session.run(3, 1, kill, undo)).result;
    assert.equal(first.killed, true);
    const anew = await baton_session({ script: undo, spin: 0 });
    const again = (await anew.run(3, 1, kill)).result;
    await anew.close();
    assert.deepEqual(again, first);
  });
  test('after any death the same seed runs as it did before', async () => {
    const alive = { cpu: 1, at: 1e6 };
    const first = (await session.run(3, 1, alive, undo)).result;
    assert.equal(first.killed, false);
    for (const at of [1, first.points >> 1, first.points]) {
      assert.equal((await session.run(3, 1, { cpu: 1, at }, undo)).result.killed, true);
      assert.deepEqual((await session.run(3, 1, alive, undo)).result, first, `point ${at}`);
    }
  });
  test('survivors that wait for the dead are seen as a hang', async () => {
    // CPU 0 puts the tokens that the others sleep for; here it is the one to die.
    const { result } = await session.run(1, 1, { cpu: 0, at: 1 }, sleepq);
    assert.equal(result.killed, true);
    assert.equal(kill_outcome(result), 'hang', result.failure ?? 'clean');
  });
});

test('nested, after any death the same seed runs as it did before', async () => {
  const script = await script_load(new URL('./scripts/malloc_low.ts', import.meta.url));
  const session = nested_session(script, true);
  const alive = { cpu: 1, at: 1e6 };
  const first = session.run(3, alive);
  for (let at = 1; at <= first.points; at += 1 + draw(200)) {
    session.run(3, { cpu: 1, at });
    assert.deepEqual(session.run(3, alive), first, `point ${at}`);
  }
  session.close();
});

test('points are drawn from all of them, as many as asked for, none twice', () => {
  for (const [points, most] of [
    [0, 5],
    [3, 5],
    [100, 7],
    [8, 8],
  ]) {
    const drawn = points_drawn(points, most, draw);
    assert.equal(drawn.length, Math.min(points, most));
    assert.ok(
      drawn.every((at, i) => at > (drawn[i - 1] ?? 0) && at <= points),
      `${drawn}`,
    );
  }
  const fixed = dice(1);
  const seen = new Set(Array.from({ length: 400 }, () => points_drawn(20, 4, fixed)).flat());
  assert.equal(seen.size, 20, 'each can be drawn');
});

test('a lock that nobody recovers: each is told, and the check says so', async () => {
  // This script does not recover its mutex: the others end with EOWNERDEAD.
  const script = await script_load(new URL('./scripts/mutex.ts', import.meta.url));
  const session = nested_session(script, true);
  const outcomes = new Set<string>();
  let told = 0;
  for (let at = 1; at <= 60; at++) {
    const r = session.run(1 + (at % 12), { cpu: 1, at });
    if (/EOWNERDEAD: mtx_lock: .*: .*CPU 1/.test(r.failure ?? '')) told++;
    outcomes.add(kill_outcome(r));
  }
  session.close();
  assert.ok(told > 0, 'nobody was told');
  assert.deepEqual(
    [...outcomes].filter((o) => o !== 'clean'),
    ['wrong'],
    'nobody hangs',
  );
});
