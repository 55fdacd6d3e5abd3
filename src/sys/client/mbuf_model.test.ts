/*
 * Shows that no sequence of operations on chains loses, invents or changes a
 * byte, miscounts who shares a cluster, or leaves anything behind, where memory
 * is ample and where it runs out: fast-check draws and shrinks sequences, and
 * seeded ones are longer.  The model is arrays of bytes (mbuf.model.ts).
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { abandon } from '../boot/whole.ts';
import { mem } from '../machine/memory.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { mbuf, mtod } from '../h/mbuf.ts';
import { type Op, pages_at_rest, run, WHATS, World, world_boot } from './mbuf.fuzz.ts';

const op: fc.Arbitrary<Op> = fc.record({
  what: fc.constantFrom(...WHATS),
  a: fc.nat(1000),
  b: fc.nat(1000),
  c: fc.nat(1000),
});

for (const [memory, parity] of [
  ['few mbufs', 0],
  ['many mbufs', 1],
] as const) {
  test(`any sequence of operations agrees with the model, ${memory}`, () => {
    let booted = 0;
    fc.assert(
      fc.property(fc.array(op, { minLength: 5, maxLength: 80 }), (ops) => {
        const machine = world_boot(2 * ++booted + parity);
        let sound = false;
        try {
          const world = new World();
          const pages = pages_at_rest();
          for (const each of ops) {
            world.apply(each);
            world.check();
          }
          world.check_zones();
          world.end();
          assert.equal(pages_at_rest(), pages);
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
test('longer seeded sequences agree too, and many of their requests are refused', (t) => {
  let refused = 0;
  for (let i = 0; i < 4; i++) refused += run(SEED + i, 3000);
  t.diagnostic(`seed ${SEED}: 12000 operations, ${refused} refused`);
  assert.ok(refused > 0);
});

test('a byte of the model that is wrong is noticed, and the seed is named', () => {
  assert.throws(() => run(1, 2000, 'byte'), /^Error: seed 1, step \d+: .*the model says/);
});
test('a chain that is never freed is noticed', () => {
  assert.throws(() => run(1, 2000, 'leak'), /items in use: \d+, the model says 0/);
});
test('a foreign write into a shared cluster, and a wrong count, are noticed', () => {
  world_boot(1);
  const world = new World();
  world.apply({ what: 'getcl', a: 2, b: 9, c: 3 });
  world.apply({ what: 'copypacket', a: 0, b: 0, c: 0 });
  world.check();
  const [{ m }] = world.chains;
  mem.U8[mtod(m)] ^= 1;
  assert.throws(() => world.check(), /^Error: byte 0: \d+, the model says \d+$/);
  mem.U8[mtod(m)] ^= 1;
  world.check();
  mem.I32[mbuf.ext_ref[m]] = 3;
  assert.throws(() => world.check(), /^Error: count 3 of storage that 2 mbufs share$/);
  abandon();
});
