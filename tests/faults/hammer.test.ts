/*
 * Shows that two workers may allocate, resize, free and free each other's
 * blocks under INVARIANTS and WITNESS, in ample memory and with 30 pages free, while the
 * streams are read: never negative, and exact at the end.
 */
import { afterEach, test } from 'node:test';
import { SEED } from '../../src/sys/machine/seed.test.lib.ts';
import { hammer } from './hammer.lib.ts';
import { end_workers } from './kill.lib.ts';

afterEach(end_workers);
const options = { INVARIANTS: true, WITNESS: true };
for (const o of [options, {}]) {
  for (const pages_left of [undefined, 30]) {
    const checks = 'INVARIANTS' in o ? 'INVARIANTS and WITNESS' : 'as programs run';
    const memory = pages_left === undefined ? '16M' : '1M';
    test(`${memory}, ${checks}`, async (t) => {
      const machine = { memory, options: o, ...(pages_left ? { pages_left } : {}) };
      t.diagnostic(`seed ${SEED}: ${await hammer(900, SEED, machine)}`);
    });
  }
}
