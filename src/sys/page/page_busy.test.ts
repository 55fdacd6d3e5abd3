/*
 * Shows that pages keep their owners: the page floor and a model agree on who has each
 * page over random operations of every kind; busy pages are refused where they are not
 * expected; and no page is lost when threads are killed with pages busy, in hand, in
 * their caches, or half entered into an owner's table.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { PK_FREE, PK_MASK, PK_OBJECT, vm_page } from '../h/vm_page.ts';
import { KernelPanic } from '../machine/panic.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { page_kills } from './page_busy.test.lib.ts';
import { run as play_kinds } from './page_kinds.fuzz.ts';
import {
  owner_make,
  owner_wrong,
  page_drop,
  page_enter,
  page_for,
  page_leave,
} from './page_owner.test.lib.ts';
import { vm_page_free, vm_page_wire } from './vm_page.ts';
import { vm_page_busy_count, vm_page_free_busy } from './vm_page_busy.ts';
import { vm_page_get } from './vm_page_cache.ts';

const STEPS = 60_000;
const KILLS = 8;

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
function up(): void {
  boot({ memory: '4M', cpus: 2, options: { INVARIANTS: true }, fresh: true });
  owner_make();
}
const panics = (fn: () => unknown, text: RegExp): void =>
  assert.throws(fn, (e) => e instanceof KernelPanic && text.test(e.message));

test('who has each page: caches, queues and owners agree with a model', () => {
  play_kinds(SEED, STEPS);
});

describe('a busy page', () => {
  test('says kind, owner and index before its owner leads to it, and goes back', () => {
    up();
    const m = page_for(3, false);
    assert.equal(vm_page.info[m] & PK_MASK, PK_OBJECT);
    assert.equal(vm_page.index[m], 3);
    assert.equal(vm_page_busy_count(), 1);
    assert.ok(page_enter(m));
    assert.equal(vm_page_busy_count(), 0);
    assert.equal(owner_wrong(), '');
    assert.equal(page_leave(3), m);
    assert.equal(page_leave(3), 0, 'nobody else gets it');
    page_drop(m);
    assert.equal(vm_page_busy_count(), 0);
    assert.notEqual(vm_page.info[m] & PK_MASK, PK_OBJECT);
  });
  test('is not freed as if it were in hand', () => {
    up();
    const m = page_for(0, false);
    panics(() => vm_page_free(m), /page \d+: it is busy/);
  });
  test('is not freed by who does not have it', () => {
    up();
    const m = vm_page_get(0);
    vm_page_wire(m, 1);
    panics(() => vm_page_free_busy(m), /not busy by this CPU/);
  });
  for (const [column, text] of [
    ['state', /valid or dirty/],
    ['queue', /on a queue/],
    ['wired', /wired or lent/],
    ['map_pmap', /mapped/],
    ['mod', /used or written/],
  ] as const) {
    test(`is not freed with its owner's ${column} left at it`, () => {
      up();
      const m = page_for(0, false);
      vm_page[column][m] = 1;
      panics(() => page_drop(m), text);
      assert.notEqual(vm_page.info[m] & PK_MASK, PK_FREE);
    });
  }
});

describe('threads killed with pages on their way', () => {
  for (const INVARIANTS of [true, false]) {
    test(INVARIANTS ? 'with INVARIANTS' : 'as programs run', async () => {
      const k = await page_kills(KILLS, SEED, INVARIANTS);
      console.log(`${k.kills} kills, ${k.operations} operations, ${k.pages} pages recovered`);
      assert.ok(k.pages > 0);
    });
  }
});
