/*
 * Shows: whatever opening a window, closing it or copying a space under one needs and does not get,
 * a page, a run of pages, an item, the first or the Nth, it says so, nothing has changed, and
 * nothing is lost; and it says what there is not enough of. By what means: each is done with one
 * request of the kernel refused, the first, the second and so on, until none is left to refuse;
 * contents and the walkers after each.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { ENOMEM } from '../machine/errno.ts';
import { mem, page_word } from '../machine/memory.ts';
import { KERN_RESOURCE_SHORTAGE, KERN_SUCCESS } from '../h/vm_map.ts';
import { vm_window, vm_window_root, type vm_window_t } from '../h/vm_window.ts';
import { uma_zone, type zone_t } from '../h/uma.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { vm_page_cache_empty } from '../page/vm_page_cache.ts';
import { phys_longest } from '../page/vm_phys.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { slab_failpoint } from '../uma/uma_keg.ts';
import { map_at, map_drop, maps_make } from './vm_map.test.lib.ts';
import { map_failpoint } from './vm_map_entry.ts';
import {
  FIRST,
  space_fork,
  space_make,
  space_map,
  space_read,
  space_write,
  spaces_check,
  spaces_end,
} from './vm_space.test.lib.ts';
import {
  vm_window_close,
  vm_window_open,
  vm_window_why,
  WINDOW_FRAGMENTED,
  WINDOW_SHORT,
  window_root,
} from './vm_window.ts';

const RW = 3;
const PAGES = 12;

beforeEach(() => {
  const options = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  boot({ memory: '8M', cpus: 2, options, fresh: true });
  maps_make();
});
const none = (): void => {
  page_failpoint.refuse = null;
  slab_failpoint.refuse = null;
  map_failpoint.refuse = null;
};
afterEach(() => {
  none();
  try {
    spaces_end();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
/** Space s with pages that are not side by side, some of them untouched. */
function scattered(s: number): void {
  assert.ok(space_make(s));
  assert.equal(space_map(s, 0, PAGES), KERN_SUCCESS);
  for (const i of [7, 2, 9, 4]) assert.equal(space_write(s, i, 100 + i), 0);
}
const value = (i: number): number => ([2, 4, 7, 9].includes(i) ? 100 + i : 0);
const open = (s: number): number => vm_window_open(map_at(s), FIRST, FIRST + PAGES, RW);
function look(s: number): void {
  for (let i = 0; i < PAGES; i++) assert.equal(space_read(s, i), value(i));
  spaces_check();
}

for (const from of ['one request', 'all from one on'] as const) {
  test(`pages: ${from}`, () => {
    let refused = 0;
    for (let nth = 0; ; nth++) {
      scattered(0);
      let left = nth;
      vm_page_cache_empty();
      page_failpoint.refuse = () => (from === 'one request' ? left-- === 0 : left-- <= 0);
      const w = open(0);
      none();
      if (w < 0) {
        assert.equal(w, -ENOMEM);
        refused++;
      } else {
        const at = vm_window.frame[w as vm_window_t];
        for (let i = 0; i < PAGES; i++) assert.equal(mem.I32[page_word(at + i)], value(i));
        spaces_check();
        vm_window_close(w as vm_window_t);
      }
      look(0);
      map_drop(0);
      if (left >= 0) break;
    }
    assert.ok(from === 'one request' || refused >= 3, `refused ${refused} times`);
  });
}
test('items: of windows and runs, and of what faults make', () => {
  const k = uma_zone.keg[vm_window_root.zone[window_root()] as zone_t];
  scattered(0);
  uma_reclaim();
  let n = 0;
  slab_failpoint.refuse = (keg) => keg === k && ++n > 0;
  assert.equal(open(0), -ENOMEM);
  assert.equal(vm_window_why.reason, WINDOW_SHORT);
  assert.ok(n > 0);
  none();
  look(0);
  map_failpoint.refuse = () => true;
  assert.ok(space_make(1));
  assert.equal(space_map(1, 0, PAGES), KERN_RESOURCE_SHORTAGE);
  none();
  assert.equal(space_map(1, 0, PAGES), KERN_SUCCESS);
  map_failpoint.refuse = () => true;
  assert.equal(open(1), -ENOMEM, 'no object for what is not there yet');
  none();
  spaces_check();
});
test('closing with no page to move to leaves the pages where they are', () => {
  scattered(0);
  const w = open(0) as vm_window_t;
  mem.I32[page_word(vm_window.frame[w])] = 1;
  const at = page_word(vm_window.frame[w]);
  vm_page_cache_empty();
  page_failpoint.refuse = () => true;
  vm_window_close(w);
  none();
  assert.equal(mem.I32[at], 1);
  mem.I32[at] = 0;
  look(0);
});
test('a copy of a space under a window, with every request refused once', () => {
  scattered(0);
  const w = vm_window_open(map_at(0), FIRST + 3, FIRST + 8, RW);
  assert.ok(w > 0);
  for (const point of [page_failpoint, map_failpoint] as { refuse: (() => boolean) | null }[]) {
    let refused = 0;
    for (let nth = 0; ; nth++) {
      let left = nth;
      point.refuse = () => left-- === 0;
      const result = space_fork(0, 1);
      none();
      if (result === KERN_SUCCESS) {
        look(1);
        map_drop(1);
      } else {
        assert.equal(result, KERN_RESOURCE_SHORTAGE);
        refused++;
      }
      look(0);
      if (left >= 0) break;
    }
    assert.ok(refused > 0);
  }
  vm_window_close(w as vm_window_t);
});
test('no run is long enough: the longest one is named', () => {
  scattered(0);
  const longest = phys_longest();
  page_failpoint.refuse = (n) => n > 1;
  assert.equal(open(0), -ENOMEM);
  none();
  assert.deepEqual({ ...vm_window_why }, { reason: WINDOW_FRAGMENTED, pages: phys_longest() });
  assert.ok(longest > 0);
  look(0);
});
