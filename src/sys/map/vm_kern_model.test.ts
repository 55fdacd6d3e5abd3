/*
 * Shows: a map of kernel addresses says of every page what an array of pages says, in a checked
 * machine, and where memory for pages and entries runs out at any place.
 * By what means: seeded operations beside the model (vm_kern.fuzz.ts), the walkers.  Several
 * threads: vm_kern_smp.slow.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { abandon, type Booted, boot, shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { page_failpoint, vm_page_check } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import { play } from './vm_kern.fuzz.ts';
import { vm_maps_check } from './vm_map_check.ts';
import { map_failpoint } from './vm_map_entry.ts';

afterEach(() => {
  page_failpoint.refuse = null;
  map_failpoint.refuse = null;
  try {
    vm_maps_check();
    uma_check();
    vm_page_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
function up(options: Parameters<typeof boot>[0] = {}): Booted {
  const all = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  return boot({ cpus: 1, fresh: true, memory: '4M', options: all, ...options });
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
