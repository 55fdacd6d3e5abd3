/*
 * Shows: of two threads that use one space in every way at once each finds in its pages every byte
 * that it wrote and no other; what one has unmapped, protected or replaced the other never
 * reaches by an old translation; copies are whole; and whoever lists spaces and objects
 * meanwhile reads nothing that could not be.
 * By what means: two workers beside models of their pages (vm_space_smp.test.lib.ts), under
 * INVARIANTS and WITNESS; the walkers afterwards.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { together } from './vm_space_smp.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
test('two threads in one space', async () => {
  const done = await together(SEED, 4000);
  assert.equal(done.operations, 8000);
  assert.ok(done.bytes > 0 && done.shootdowns > 0, JSON.stringify(done));
});
