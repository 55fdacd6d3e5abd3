/*
 * Shows malloc, free, realloc and reallocf to agree with a ledger (malloc.model.ts)
 * over random sequences, in ample and in little memory, with INVARIANTS and
 * without; fast-check prints the seed and the shortest sequence that fails.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { boot, shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { uma_check } from '../uma/uma_check.ts';
import { account, account_text } from './kmem.test.lib.ts';
import { type Command, MallocModel } from './malloc.model.ts';

const size = fc.oneof(
  { weight: 6, arbitrary: fc.nat(300) },
  { weight: 3, arbitrary: fc.nat(4200) },
  { weight: 1, arbitrary: fc.nat(60000) },
);
const which = fc.nat(1000);
const type = fc.nat(2);
const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('malloc' as const), size, type, zero: fc.boolean() }),
  },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('free' as const), which }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('realloc' as const), which, size, drop: fc.boolean() }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('reclaim' as const) }) },
);
for (const memory of ['4M', '1M']) {
  for (const INVARIANTS of [false, true]) {
    test(`${memory}, INVARIANTS ${INVARIANTS ? 'on' : 'off'}`, () => {
      boot({ memory, cpus: 2, options: { INVARIANTS }, fresh: true });
      fc.assert(
        fc.property(fc.array(command, { minLength: 20, maxLength: 300, size: 'max' }), (all) => {
          const model = new MallocModel(3);
          for (const c of all) model.run(c);
          model.end();
          uma_check();
          assert.equal(account_text(account()), '');
        }),
        { numRuns: 25, seed: SEED },
      );
      shutdown();
    });
  }
}
