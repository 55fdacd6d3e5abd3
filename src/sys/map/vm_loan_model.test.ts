/*
 * Shows: what is lent stays as it was for the borrower, whatever its owner does; spaces hold what
 * was written to them, whatever is lent; no lent page may be written to, each is lent as often as
 * loans have it, none is free or owned twice.  By what means: seeded operations beside a model
 * (vm_loan.fuzz.ts), the walkers.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { abandon, boot } from '../boot/whole.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { KERN_SUCCESS } from '../h/vm_map.ts';
import type { vm_loan_t } from '../h/vm_loan.ts';
import { PK_LOAN, PK_MASK, vm_page as page } from '../h/vm_page.ts';
import { ONE_LOAN, vm_page_loans } from '../page/vm_pageq.ts';
import { loan_frames, vm_loan, vm_unloan } from './vm_loan.ts';
import { run } from './vm_loan.fuzz.ts';
import { map_at, maps_make } from './vm_map.test.lib.ts';
import { FIRST, space_make, space_map, space_unmap, space_write } from './vm_space.test.lib.ts';

test('spaces and loans of their pages', () => run(SEED, 1500));
test('as programs run', () => run(SEED + 1, 1500, { INVARIANTS: false }));
test('in a machine that is too small', () => run(SEED + 2, 1000, { memory: '2M' }));
test('pages go to a swap area and come back', () => run(SEED + 4, 1500, { swap: 600 }));
test('in a machine that checks the rules of locks', () => run(SEED + 3, 100, { checked: true }));
test('a page that has left its object stays as long as any of very many loans', () => {
  boot({ cpus: 1, fresh: true, memory: '4M', options: { INVARIANTS: true } });
  maps_make();
  assert.ok(space_make(0));
  assert.equal(space_map(0, 0, 1), KERN_SUCCESS);
  assert.equal(space_write(0, 0, 7), 0);
  const made: vm_loan_t[] = [];
  assert.equal(vm_loan(map_at(0), FIRST, FIRST + 1, made), 0);
  const [m] = loan_frames(made[0]);
  page.wired[m] += 0x8000 * ONE_LOAN; // of others
  assert.equal(space_unmap(0, 0, 1), KERN_SUCCESS);
  assert.equal(page.info[m] & PK_MASK, PK_LOAN);
  vm_unloan(made[0]);
  assert.equal(page.info[m] & PK_MASK, PK_LOAN);
  assert.equal(vm_page_loans(m), 0x8000);
  abandon();
});
