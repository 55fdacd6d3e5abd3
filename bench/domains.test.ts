/*
 * Shows that the slabs of a zone with a keg in each memory domain come from the domain
 * of the CPU that asks, with a thread on each, until that domain is used up.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { local_percent, locality } from './domains.ts';

test('slabs are local while the domain has pages, and come from others after', async () => {
  const [few, many] = await locality(2, [25, 120]);
  assert.ok(few.local > 0);
  assert.equal(local_percent(few), 100);
  assert.ok(many.remote > 0, 'the other domain serves what the own one has not');
  assert.ok(many.local > few.local);
});
