/*
 * Shows: a map of kernel addresses says of every page what an array of pages says, in a checked
 * machine, and where memory for pages and entries runs out at any place.
 * By what means: seeded operations beside the model (vm_kern.fuzz.ts), the walkers.  Several
 * threads: vm_kern_smp.slow.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { SEED } from '../machine/seed.test.lib.ts';
import { kern_down, kern_up } from './vm_kern_up.test.lib.ts';
import { play } from './vm_kern.fuzz.ts';

afterEach(kern_down);
function up(options: Parameters<typeof kern_up>[0] = {}): ReturnType<typeof kern_up> {
  return kern_up({ memory: '4M', ...options });
}

describe('beside the model', () => {
  test('seeded operations: every page is what was done to it', () => {
    up();
    const p = play(SEED, 1500, 250);
    assert.equal(p.short, 0);
    assert.ok(p.served > 100);
  });
  test('pages and entries refused at any place', () => {
    up();
    const p = play(SEED + 2, 1000, 250, 6);
    assert.ok(p.short > 0 && p.served > 0);
  });
  test('the same in a checked machine', () => {
    up({ checked: true });
    play(SEED + 4, 100, 50);
  });
});
