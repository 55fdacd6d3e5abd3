/*
 * Shows that the seeded scheduler finds faults, repeats itself, and that the
 * floors that stand are clean under it.
 *
 * Planted faults must be found within a bounded number of seeds, and the seed
 * that found one must give the same steps and trace hash again: on the same
 * machine, and on a new one that does not spin.  Their sound twins and the
 * scripts of the real floors run without a failure.  Every
 * failure names its seed: `npm run sim NAME SEED` plays it again.
 *
 * Of the real floors each script plays the first few seeds, and a stretch of others that
 * begins elsewhere each time (KMEM_SEED).  The stretch lies among the seeds that sim.stress.ts
 * plays one and all.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type BatonSession, baton_session, machine_wanted } from './baton.ts';
import { dice, SEED } from '../src/sys/machine/seed.test.lib.ts';
import { NESTED_FACTOR, script_urls, SEEDS as SEEDS_STRESS } from './main.ts';
import { nested_session } from './nested.ts';
import { script_load } from './script.ts';

/** Seeds of the twins. */
const SEEDS = 100;
/** Seeds of the floors: the first, of which the traces are compared, and a stretch. */
const FIRST = 20;
const STRETCH = 10;
const STRETCH_NESTED = 20;
const draw = dice(SEED);
/** Seeds within which each planted fault is found; README says how many it takes. */
const PLANTED_SEEDS = 2000;

const planted = (name: string): URL => new URL(`./planted/${name}.ts`, import.meta.url);
const faults: [string, RegExp][] = [
  ['lost_wakeup', /^deadlock: cpu0 has ended; cpu1 asleep on 'an item'[\s\S]*lost_wakeup\.ts:\d+/],
  ['double_free', /^item 5 is on the free list twice$/],
  ['stale_wait', /^deadlock: .*waits on word \d+[\s\S]*stale_wait\.ts:\d+/],
];
const sound = (name: string): URL => new URL('#sound', planted(name));

describe('planted faults, by the baton', () => {
  const script = faults.flatMap(([name]) => [planted(name), sound(name)]);
  let spinning: BatonSession;
  let other: BatonSession;
  before(async () => {
    spinning = await baton_session({ script, spin: 300 });
    other = await baton_session({ script, spin: 0 });
  });
  after(async () => {
    await spinning?.close();
    await other?.close();
  });
  for (const [name, expected] of faults) {
    test(`${name}: found, replayed, and the sound twin is clean`, async () => {
      const url = planted(name);
      const { seed, result } = await spinning.run(1, PLANTED_SEEDS, null, url);
      assert.equal(result.ok, false, `not found in ${PLANTED_SEEDS} seeds`);
      assert.match(result.failure ?? '', expected, `seed ${seed}`);
      const again = await spinning.run(seed, 1, null, url);
      assert.deepEqual(again.result, result, `seed ${seed} on the same machine`);
      const anew = await other.run(seed, 1, null, url);
      assert.deepEqual(anew.result, result, `seed ${seed} on a new machine, without spinning`);

      const twin = await spinning.run(1, Math.max(SEEDS, seed), null, sound(name));
      assert.equal(twin.result.failure, null, `sound twin, seed ${twin.seed}`);
    });
  }
});

test('double_free, nested: found, replayed, and the sound twin is clean', async () => {
  const session = nested_session(await script_load(planted('double_free')));
  let seed = 0;
  let first = session.run(++seed);
  while (first.ok && seed < PLANTED_SEEDS) first = session.run(++seed);
  session.run(seed + 1);
  const again = session.run(seed);
  session.close();
  assert.match(first.failure ?? '', /^item 5 is on the free list twice$/, `seed ${seed}`);
  assert.deepEqual(again, first, `seed ${seed}`);

  const twin = nested_session(await script_load(sound('double_free')));
  for (let s = 1; s <= SEEDS; s++) {
    assert.equal(twin.run(s).failure, null, `sound twin, seed ${s}`);
  }
  twin.close();
});

describe('the floors', async () => {
  const urls = script_urls().filter((u) => u.pathname.includes('/scripts/'));
  const machines = new Map<string, URL[]>();
  for (const url of urls) {
    const wanted = machine_wanted(await script_load(url));
    machines.set(wanted, [...(machines.get(wanted) ?? []), url]);
  }
  for (const [wanted, script] of machines) {
    test(`by the baton, on ${wanted}`, async (t) => {
      const session = await baton_session({ script });
      for (const url of script) {
        const name = url.pathname.split('/').pop() ?? '';
        await t.test(`${name} is clean, each seed in its own way`, async () => {
          const traces = new Set<number>();
          for (let one = 1; one <= FIRST; one++) {
            const { result } = await session.run(one, 1, null, url);
            assert.equal(result.failure, null, `seed ${one}`);
            traces.add(result.hash);
          }
          assert.ok(traces.size >= 12, `${traces.size} different traces of ${FIRST}`);
          const first = 1 + draw(SEEDS_STRESS - STRETCH + 1);
          const { seed, result } = await session.run(first, STRETCH, null, url);
          assert.equal(result.failure, null, `seed ${seed}`);
        });
      }
      await session.close();
    });
  }
  for (const url of urls) {
    test(`${url.pathname.split('/').pop()} is clean nested`, async () => {
      const session = nested_session(await script_load(url));
      const unclear = (from: number, count: number): number => {
        let n = 0;
        for (let seed = from; seed < from + count; seed++) {
          const r = session.run(seed);
          assert.equal(r.failure, null, `seed ${seed}`);
          if (r.inconclusive) n++;
        }
        return n;
      };
      const of_first = unclear(1, FIRST);
      assert.ok(of_first < FIRST / 2, `${of_first} of the first ${FIRST} runs inconclusive`);
      unclear(1 + draw(NESTED_FACTOR * SEEDS_STRESS - STRETCH_NESTED + 1), STRETCH_NESTED);
      session.close();
    });
  }
});
