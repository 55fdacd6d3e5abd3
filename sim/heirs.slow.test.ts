/*
 * Shows that threads may die on the spare slots, one after the other and more of them than
 * there are slots, while nobody else is alive: the next one gets in all the same, no item
 * and no page is lost but those that the dead were handing over, and the walkers pass.
 * One thread plays them all; where they die is drawn from the seed, and once it is the
 * points that an heir passes.
 *
 * A third of the chains and a quarter of the points are played here, other ones each time
 * (KMEM_SEED); heirs.stress.ts plays all of them (KMEM_KILLS=all).
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { dice, SEED } from '../src/sys/machine/seed.test.lib.ts';
import { type ChainResult, heirs_session } from './heirs.ts';
import { points_drawn } from './kill.ts';

const LENGTH = 24;
const ALL = process.env.KMEM_KILLS === 'all';
const draw = dice(SEED);
const upto = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);
/** Of so many points one is played. */
const STEP = 4;

describe('deaths in a row on the spare slots, and nobody else alive', () => {
  for (const [memory, seeds] of [
    ['1M', 120],
    ['8M', 40],
  ] as const) {
    test(`chains of ${LENGTH}, ${memory}`, (t) => {
      const session = heirs_session(memory);
      let deaths = 0;
      let heirs = 0;
      for (const seed of ALL ? upto(seeds) : points_drawn(seeds, Math.ceil(seeds / 3), draw)) {
        const r = session.run(seed, LENGTH);
        assert.equal(
          r.failure,
          null,
          `seed ${seed}, after ${r.deaths} deaths, ${r.heirs} of heirs`,
        );
        deaths += r.deaths;
        heirs += r.heirs;
      }
      session.close();
      t.diagnostic(`seeds to ${seeds}, ${deaths} deaths, ${heirs} of them of heirs`);
      assert.ok(heirs > deaths / 4, `${heirs} heirs among ${deaths}`);
    });
  }

  test('chains in which something was lost, once', () => {
    const session = heirs_session();
    for (const seed of SEEDS_FOUND) {
      const r = session.run(seed, LENGTH);
      assert.equal(r.failure, null, `seed ${seed}, after ${r.deaths} deaths`);
      assert.ok(r.deaths > 0);
    }
    session.close();
  });

  test('an heir dies at any point before a slot is free', (t) => {
    const session = heirs_session();
    // Where the first two die is drawn from the seed: the third is to be the first heir.
    let seed = 1;
    while (seed < SEEDS_MOST && session.run(seed, LENGTH_EVERY, POINT_MIDDLE).heirs === 0) seed++;
    let runs = 0;
    let heirs = 0;
    let r: ChainResult = { failure: null, deaths: 0, heirs: 0, points: 1 };
    for (let at = 1; at <= r.points; at += ALL ? 1 : 1 + draw(2 * STEP - 1), runs++) {
      r = session.run(seed, LENGTH_EVERY, at);
      assert.equal(r.failure, null, `seed ${seed}, point ${at} of ${r.points}`);
      heirs += r.heirs;
    }
    session.close();
    t.diagnostic(`${runs} of ${r.points} points`);
    assert.ok(r.points > 500, `only ${r.points} points`);
    assert.ok(heirs > runs / 4, `${heirs} heirs in ${runs} runs`);
  });
});
/** A page was in the hand of an heir, and busy by the one before it. */
const SEEDS_FOUND = [630, 1268, 2907];
const LENGTH_EVERY = 3;
const SEEDS_MOST = 200;
const POINT_MIDDLE = 300;
