/*
 * Shows: a page is wired in as many places as its word has room for; the call that would go beyond
 * is refused, whatever it is, and nothing has changed; when one place lets go there is room again.
 * By what means: 65 280 mappings of one page of memory, in one space, and the walkers.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { abandon } from '../boot/whole.ts';
import { EAGAIN, ENOMEM } from '../machine/errno.ts';
import {
  KERN_NO_SPACE,
  KERN_SUCCESS,
  VM_MAP_WIRE_NOHOLES,
  VM_MAP_WIRE_SYSTEM,
  VM_MAP_WIRE_USER,
  vm_map,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import {
  vm_object_allocate,
  vm_object_deallocate,
  vm_object_reference,
} from '../object/vm_object.ts';
import { object_seen, vm_object_seen } from '../object/vm_object_chain.ts';
import { vm_page_held, vm_page_wire_count, WIRINGS_MOST } from '../page/vm_pageq.ts';
import { mtx_unlock } from '../sync/kern_mutex.ts';
import { vm_hold_wire } from './vm_hold.ts';
import { vm_map_insert } from './vm_map_insert.ts';
import { vm_map_remove } from './vm_map_range.ts';
import { vm_map_unwire, vm_map_wire } from './vm_map_wire.ts';
import { vm_lock } from './vm_mlock.ts';
import { vm_map_lock, vm_map_unlock } from './vm_map.ts';
import { end, RW, set, up } from './vm_syscalls.test.lib.ts';
import { FIRST, space_write } from './vm_space.test.lib.ts';
import { vm_window_open, vm_window_why, WINDOW_WIRED } from './vm_window.ts';

const USER = VM_MAP_WIRE_USER | VM_MAP_WIRE_NOHOLES;
const SYSTEM = VM_MAP_WIRE_SYSTEM | VM_MAP_WIRE_NOHOLES;
/** Where the mappings end that can all be wired, and one beyond. */
const LAST = FIRST + WIRINGS_MOST;

let mp: vm_map_t;
let o: vm_object_t;
beforeEach(() => {
  mp = up({ memory: '64M' });
  set('vm.max_wired', 2 ** 20);
  o = vm_object_allocate(OBJT_DEFAULT, 1);
  const what = { object: o, offset: 0, protection: RW, max_protection: RW, cow: 0 };
  vm_map_lock(mp);
  for (let vpn = FIRST; vpn <= LAST; vpn++) {
    vm_object_reference(o);
    assert.equal(vm_map_insert(mp, vpn, vpn + 1, what), KERN_SUCCESS);
  }
  vm_map_unlock(mp);
});
afterEach(() => abandon());
/** How often the page is held in place. */
function held(): number {
  const m = vm_object_seen(o, 0);
  const n = vm_page_held(m);
  mtx_unlock(vm_object.lock, object_seen.o);
  return n;
}

test('a page is locked in many places, and in no more than it has room for', () => {
  assert.equal(space_write(0, 0, 7), 0);
  assert.equal(vm_map_wire(mp, FIRST, LAST + 1, USER), KERN_NO_SPACE);
  assert.deepEqual([held(), vm_map.wired[mp], vm_page_wire_count()], [0, 0, 0], 'nothing is');

  assert.equal(vm_map_wire(mp, FIRST, LAST, USER), KERN_SUCCESS);
  assert.deepEqual(
    [held(), vm_map.wired[mp], vm_page_wire_count()],
    [WIRINGS_MOST, WIRINGS_MOST, 1],
  );
  const refused: [string, () => number, number][] = [
    ['a lock', () => vm_lock(mp, LAST, LAST + 1), EAGAIN],
    ['the kernel', () => vm_map_wire(mp, LAST, LAST + 1, SYSTEM), KERN_NO_SPACE],
    ['a thread of it', () => vm_hold_wire(mp, LAST, LAST + 1), KERN_NO_SPACE],
    ['a window', () => vm_window_open(mp, LAST, LAST + 1, RW), -ENOMEM],
  ];
  for (const [what, call, answer] of refused) {
    assert.equal(call(), answer, what);
    assert.equal(held(), WIRINGS_MOST, what);
  }
  assert.equal(vm_window_why.reason, WINDOW_WIRED);

  assert.equal(vm_map_unwire(mp, FIRST + 5, FIRST + 6, USER), KERN_SUCCESS);
  assert.equal(vm_map_wire(mp, LAST, LAST + 1, USER), KERN_SUCCESS, 'there is room again');
  assert.equal(vm_map_wire(mp, FIRST, FIRST + 2, SYSTEM), KERN_SUCCESS, 'an entry that is wired');
  assert.equal(vm_map_unwire(mp, FIRST, FIRST + 2, SYSTEM), KERN_SUCCESS);
  assert.equal(vm_map_remove(mp, FIRST, LAST + 1), KERN_SUCCESS);
  assert.deepEqual([vm_map.wired[mp], vm_page_wire_count()], [0, 0]);
  vm_object_deallocate(o);
  end();
});
