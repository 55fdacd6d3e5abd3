/*
 * Shows that a count that reaches zero says so once, and that using a free
 * record is a panic under INVARIANTS.  Counting by several CPUs at once is in
 * subr_sleepqueue.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { atomic_store } from '../machine/atomic.ts';
import { field_word } from '../machine/struct.ts';
import { refcount_acquire, refcount_release } from './refcount.ts';
import { area, bring_up, leave, the_area } from './sync.test.lib.ts';

afterEach(leave);

test('the last release, and only it, says that it was the last', () => {
  bring_up();
  const t = the_area();
  atomic_store(field_word(area.refs, t), 1);
  refcount_acquire(area.refs, t);
  assert.equal(refcount_release(area.refs, t), false);
  assert.equal(refcount_release(area.refs, t), true);
  assert.throws(() => refcount_release(area.refs, t), /no reference was left/);
});
test('a reference to a free record is a panic', () => {
  bring_up();
  assert.throws(() => refcount_acquire(area.refs, the_area()), /the record was free/);
});
