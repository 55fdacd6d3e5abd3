/*
 * Shows that no sequence of zone operations gives an item out twice, loses one,
 * touches its contents or breaks a limit, with slabs, buckets and pages refused
 * on the way: fast-check draws and shrinks sequences, and seeded ones are
 * longer.  The model is a Map of the live items (uma_zone.model.ts).
 */
import { uma_free_or_records } from './uma_check.ts';
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { abandon } from '../boot/whole.ts';
import { mem } from '../machine/memory.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { uma_reclaim } from './uma_drain.ts';
import { type Op, run, WHATS, World, world_boot } from './uma_zone.fuzz.ts';
import { ZoneModel } from './uma_zone.model.ts';

const op: fc.Arbitrary<Op> = fc.record({
  what: fc.constantFrom(...WHATS),
  a: fc.nat(1000),
  b: fc.nat(1000),
});

for (const memory of ['1M', '4M']) {
  test(`any sequence of operations agrees with the model, ${memory}`, () => {
    let booted = 0;
    fc.assert(
      fc.property(fc.array(op, { minLength: 5, maxLength: 60 }), (ops) => {
        const machine = world_boot(memory, ++booted);
        let sound = false;
        try {
          const world = new World();
          uma_reclaim();
          const free = uma_free_or_records();
          for (const each of [{ what: 'create', a: 3, b: 0 } as Op, ...ops]) {
            world.apply(each);
            world.check();
          }
          world.end();
          assert.equal(uma_free_or_records(), free);
          sound = true;
        } finally {
          if (sound) machine.shutdown();
          else abandon(); // the next, shrunk sequence needs a thread without a machine
        }
      }),
      { numRuns: 25, seed: SEED },
    );
  });
}
test('longer seeded sequences agree too', () => {
  for (const seed of [3, 4, 8]) run(seed, 250);
});
test('the model sees an item given out twice and a foreign write', () => {
  const machine = world_boot('1M', 1);
  const model = new ZoneModel();
  const at = 200 * 1024; // a free page
  model.take(1, at, 48);
  assert.throws(() => model.take(1, at + 8, 48), /is in use/);
  mem.I32[at + 3]++;
  assert.throws(() => model.give(at), /was overwritten/);
  machine.shutdown();
});
