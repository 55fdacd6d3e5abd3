/*
 * vnode_pager: pages of files come in, and go out.
 *
 *      file    |  page 0  |  page 1  |  page 2 .. |           ends inside page 2
 *      memory  |  page 0  |     -    |  page 2  00|           zeros behind its end
 *
 * Page `i` of the object is what the file has from byte i * 4096 on; pages side by side in the
 * object are so in the file, so a cluster is one read or one write.  Holes read as zeros.
 *
 * Reading.  A read that comes short is how a machine sees that somebody else made the file
 * shorter: what is left is taken, bytes behind the end are zero, and pages that lie wholly behind
 * it are no pages: an access is KERN_OUT_OF_BOUNDS.
 *
 * Writing.  Up to the end of the file and no further, whatever is stored behind it in the last
 * page.  While a thread makes the file shorter, pages behind the new end are not written, because
 * it may fail and they are needed still.  The first error is noted in the vnode and told by sync;
 * the pages stay dirty.
 */
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { EAGAIN, EROFS } from '../machine/errno.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import { get64 } from '../machine/struct.ts';
import { OBJT_VNODE, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import { vnode } from '../h/vm_vnode.ts';
import { vm_page_held } from '../page/vm_pageq.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { object_page, object_page_free, object_page_next } from './vm_object_page.ts';
import { type Backing, page_views, pagers, store_get } from './vm_pager.ts';
import { vm_store_readv, vm_store_size, vm_store_writev } from './vm_store.ts';
import { object_vnode, vnode_pages, vnode_size_is, vnode_store } from './vm_vnode.ts';

const object = vm_object;
const page = vm_page;

const v_vnodein = counter_u64('vm.stats.vm.v_vnodein', 'Reads of mapped files');
const v_vnodepgsin = counter_u64('vm.stats.vm.v_vnodepgsin', 'Pages read from mapped files');
const v_vnodeout = counter_u64('vm.stats.vm.v_vnodeout', 'Writes of mapped files');
const v_vnodepgsout = counter_u64('vm.stats.vm.v_vnodepgsout', 'Pages written to mapped files');

/** Whether page `i` lies behind the end of the file. The object is locked. */
function beyond(o: vm_object_t, i: number): boolean {
  return i >= vnode_pages(get64(vnode.size, object_vnode(o)));
}
/** Pages that are in memory end the run: they may be newer. */
function side(o: vm_object_t, i: number, n: number, step: 1 | -1): number {
  const pages = vnode_pages(get64(vnode.size, object_vnode(o)));
  let k = 1;
  for (let at = i + step; k < n && at >= 0 && at < pages; at += step) {
    if (object_page(o, at) !== 0) break;
    k++;
  }
  return k;
}

// --- reading ------------------------------------------------------------------------------------

function vnode_read(o: vm_object_t, ms: readonly number[]): number {
  const v = object_vnode(o);
  const s = vnode_store(v);
  const seen = vnode.changes[v];
  const at = page.index[ms[0]] * PAGE_SIZE;
  const length = ms.length * PAGE_SIZE;
  counter_add(v_vnodein, 1);
  counter_add(v_vnodepgsin, ms.length);
  const n = vm_store_readv(s, at, page_views(ms));
  if (n < 0) return -n;
  if (n === length) return 0;
  const bytes = vm_store_size(s);
  if (bytes < 0) return -bytes;
  if (bytes > at + n) return EAGAIN; // it has grown since
  const last = at + length - PAGE_SIZE;
  const inside = last < bytes;
  if (bytes !== get64(vnode.size, v)) length_seen(o, bytes, seen);
  if (!inside) return EAGAIN; // the fault looks again, and finds the end
  const end = (ms[ms.length - 1] + 1) * PAGE_SIZE;
  mem.U8.fill(0, end - (at + length - Math.min(at + n, bytes)), end);
  return 0;
}
/**
 * The file is found to have so many bytes.  What lies behind its end goes, as far as nobody has
 * it in work; the object keeps the length that it needs for what stays.
 */
function length_seen(o: vm_object_t, bytes: number, seen: number): void {
  const v = object_vnode(o);
  mtx_lock(object.lock, o);
  // Else a thread of this machine changed the length since: the answer is an old one.
  if (vnode.truncating[v] === 0 && vnode.changes[v] === seen) {
    let pages = vnode_pages(bytes);
    for (let m = object_page_next(o, pages); m !== 0; ) {
      const i = page.index[m];
      if (page.busy[m] !== 0 || vm_page_held(m) !== 0) pages = i + 1;
      else object_page_free(m, o);
      m = object_page_next(o, i + 1);
    }
    undo_begin(object.lock, o);
    vnode_size_is(v, bytes);
    save(object.size, o);
    object.size[o] = pages;
    undo_end();
  }
  mtx_unlock(object.lock, o);
}

// --- writing ------------------------------------------------------------------------------------

function room(o: vm_object_t, ms: readonly number[]): number {
  const v = object_vnode(o);
  if (vnode.writer[v] === 0) return -EROFS;
  const cut = vnode.truncating[v] !== 0 && beyond(o, page.index[ms[ms.length - 1]]);
  return cut ? -EAGAIN : ms.length;
}
/** Of this thread: the errno of the write that settle is to note, and how many pages it had. */
const failure = { errno: 0, pages: 0 };
function vnode_write(o: vm_object_t, ms: readonly number[]): number {
  const v = object_vnode(o);
  const at = page.index[ms[0]] * PAGE_SIZE;
  // Who makes the file shorter waits for these pages: so long it is at least.
  let left = get64(vnode.size, v) - at;
  const views: Uint8Array[] = [];
  for (const view of page_views(ms)) {
    if (left > 0) views.push(left < view.length ? view.subarray(0, left) : view);
    left -= view.length;
  }
  if (views.length === 0) return 0;
  counter_add(v_vnodeout, 1);
  counter_add(v_vnodepgsout, ms.length);
  const errno = vm_store_writev(vnode.writer[v] as vm_store_t, at, views);
  failure.errno = errno;
  failure.pages = ms.length;
  return errno;
}
/** Notes the write that has failed just now. */
function settle(o: vm_object_t): void {
  const { errno, pages } = failure;
  if (errno === 0) return;
  const v = object_vnode(o);
  failure.errno = 0;
  undo_begin(object.lock, o);
  save(vnode.error, v);
  save(vnode.failed, v);
  if (vnode.error[v] === 0) vnode.error[v] = errno;
  vnode.failed[v] += pages;
  undo_end();
}

const store: Backing = {
  side,
  bring: vnode_read,
  room,
  send: vnode_write,
  written: () => {},
  joins: () => true,
  settle,
};
pagers.set(OBJT_VNODE, {
  has: (o, i) => !beyond(o, i),
  beyond: (o, i) => i >= object.size[o] || beyond(o, i),
  get: (o, _i, m) => store_get(store, o, m),
  store,
});
