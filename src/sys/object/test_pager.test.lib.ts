/*
 * test_pager: a pager with contents of its own, that can fail.
 *
 * An object of its type has contents at every page that is no multiple of seven: each word of
 * page `i` is `i` and the handle, mixed.  Reading one takes a while, with the object's lock let
 * go, as from a store; the Nth from now on may end with an error of the store.
 */
import { host_sleep } from '../machine/host.ts';
import { hw, mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { object_pip_add, object_pip_done, vm_object_allocate } from './vm_object.ts';
import { pagers, VM_PAGER_ERROR, VM_PAGER_FAIL, VM_PAGER_OK } from './vm_pager.ts';

const object = vm_object;

/** Its type of objects: beyond all that there are. */
export const OBJT_TEST = 15;
/** Of this thread: the read that fails, counted from 1; 0: none. How long a read takes, ms. */
export const test_pager = { fail_at: 0, ms: 0 };

/** Each word of page `i` of an object with that handle. */
export function test_pager_word(handle: number, i: number): number {
  return Math.imul(handle, 0x1000193) ^ i;
}
/** Whether the object has contents there. */
export function test_pager_has(i: number): boolean {
  return i % 7 !== 0;
}
/** An object that it fills, with one reference, in hand. */
export function test_pager_object(size: number, handle: number): vm_object_t {
  return vm_object_allocate(OBJT_TEST, size, handle);
}
/** Whether page m holds what page `i` of the object came with, in every word. */
export function test_pager_holds(m: number, handle: number, i: number): boolean {
  const word = test_pager_word(handle, i);
  const at = page_word(m);
  return mem.I32.subarray(at, at + PAGE_WORDS).every((v) => v === word);
}
function fill(o: vm_object_t, i: number, m: number): number {
  if (!test_pager_has(i)) return VM_PAGER_FAIL;
  const failed = test_pager.fail_at > 0 && --test_pager.fail_at === 0;
  object_pip_add(o);
  mtx_unlock(object.lock, o);
  if (test_pager.ms > 0) host_sleep(test_pager.ms);
  const at = page_word(m);
  if (failed)
    hw.fill(at, -1, PAGE_WORDS); // half of something, as a device leaves it
  else mem.I32.fill(test_pager_word(object.handle[o], i), at, at + PAGE_WORDS);
  mtx_lock(object.lock, o);
  object_pip_done(o);
  return failed ? VM_PAGER_ERROR : VM_PAGER_OK;
}
pagers.set(OBJT_TEST, { has: (_o, i) => test_pager_has(i), get: fill });
