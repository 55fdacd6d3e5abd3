/*
 * pager_work: what a fault does with an object of the test pager, and what a page daemon would.
 *
 * Pages come in from the pager, are looked at in every word, go to the cache queue, come back
 * from there or lose their memory to somebody else.  A page that holds anything but what the
 * pager gives is an error, whoever died on the way.
 */
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { vm_page_activate } from '../page/vm_pageq.ts';
import { object_page_cache, page_select_cache } from './vm_object_cache.ts';
import {
  object_page,
  object_page_alloc,
  object_page_busy,
  object_page_free,
  object_page_seen,
  object_page_wakeup,
  vm_page_sleep_if_busy,
} from './vm_object_page.ts';
import { test_pager_has, test_pager_holds } from './test_pager.test.lib.ts';
import { VM_PAGER_OK, vm_pager_get_pages } from './vm_pager.ts';

const object = vm_object;

/**
 * Page `i` of the object with contents, as long as `use` runs, under its lock.  False: there is
 * no memory, the pager has nothing, or its store failed.
 */
export function pager_use(o: vm_object_t, i: number, use: (m: number) => void): boolean {
  mtx_lock(object.lock, o);
  for (;;) {
    let m = object_page_seen(o, i);
    if (m !== 0 && vm_page_sleep_if_busy(m, o)) continue;
    if (m === 0) {
      m = object_page_alloc(o, i, 0);
      if (m === 0) break;
      const code = vm_pager_get_pages(o, i, m);
      object_page_wakeup(m, o);
      if (code !== VM_PAGER_OK) {
        object_page_free(m, o);
        break;
      }
    }
    vm_page_activate(m);
    use(m);
    mtx_unlock(object.lock, o);
    return true;
  }
  mtx_unlock(object.lock, o);
  return false;
}
/** Looks at page `i` in every word. False as pager_use. */
export function pager_look(o: vm_object_t, i: number): boolean {
  return pager_use(o, i, (m) => {
    const right = test_pager_has(i) && test_pager_holds(m, object.handle[o], i);
    if (!right) throw new Error(`page ${i} of object ${object.handle[o]} holds something else`);
  });
}
/** Page `i`, if it is there, is as good as free from here on. Whether it is. */
export function pager_cache(o: vm_object_t, i: number): boolean {
  mtx_lock(object.lock, o);
  const m = object_page(o, i);
  const done = m !== 0 && object_page_cache(m, o);
  mtx_unlock(object.lock, o);
  return done;
}
/** Takes page `i` out of the object and frees it, if it is there and idle. */
export function pager_remove(o: vm_object_t, i: number): void {
  mtx_lock(object.lock, o);
  const m = object_page(o, i);
  if (m !== 0 && vm_page.busy[m] === 0) object_page_free(m, o);
  mtx_unlock(object.lock, o);
}
/** One random step of all that on some objects; whatever cannot be done is left. */
export function pager_step(draw: (n: number) => number, objects: readonly vm_object_t[]): void {
  const o = objects[draw(objects.length)];
  const i = draw(object.size[o]);
  const what = draw(100);
  if (what < 45) pager_look(o, i);
  else if (what < 70) pager_cache(o, i);
  else if (what < 85) pager_work(o, i);
  else if (what < 95) pager_remove(o, i);
  else page_select_cache();
}
/** Has page `i`, if it is there, busy for a moment with the object's lock let go. */
export function pager_work(o: vm_object_t, i: number): void {
  mtx_lock(object.lock, o);
  const m = object_page_seen(o, i);
  if (m !== 0 && vm_page.busy[m] === 0) {
    object_page_busy(m, o);
    mtx_unlock(object.lock, o);
    if (!test_pager_holds(m, object.handle[o], i)) throw new Error(`page ${i}: busy and changed`);
    mtx_lock(object.lock, o);
    object_page_wakeup(m, o);
  }
  mtx_unlock(object.lock, o);
}
