/*
 * Shows: programs that use four times as many pages as there is memory for find in each what they
 * wrote, whether a page daemon gets pages back, some pager threads beside it, or nobody but they
 * themselves; also when threads are killed in the middle of it.
 * By what means: two workers beside models of their pages, a swap area in a file
 * (vm_pageout_smp.test.lib.ts); the walkers afterwards.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { SEED, ways } from '../machine/seed.test.lib.ts';
import { type How, pressure } from './vm_pageout_smp.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
const CASES: [what: string, how: Omit<How, 'seed' | 'operations'>][] = [
  ['a page daemon', { daemon: true, INVARIANTS: true }],
  ['a page daemon, as programs run', { daemon: true, INVARIANTS: false }],
  ['no page daemon', { daemon: false, INVARIANTS: true }],
  [
    'a limit of the machine',
    { daemon: false, INVARIANTS: false, set: { 'vm.v_resident_max': 200 } },
  ],
  ['threads killed', { daemon: true, INVARIANTS: true, kills: 4 }],
  ['threads killed, no page daemon', { daemon: false, INVARIANTS: false, kills: 4 }],
];
for (const [k, [what, how]] of ways([...CASES.entries()], 3)) {
  test(`four times the memory: ${what}`, async () => {
    const done = await pressure({ ...how, seed: SEED + k * 100, operations: 2500 });
    console.log(`${what}: ${JSON.stringify(done)}`);
    assert.ok(done.pageouts > done.memory && done.pageins > done.memory, JSON.stringify(done));
  });
}
