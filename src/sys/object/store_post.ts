/*
 * store_post: a browser's files are read and written by one thread for all.
 *
 *      any thread                            the thread that has the files (opfs_serve)
 *
 *      fills the record of its CPU
 *      ASKED, rings  ──────────────────────> TAKEN
 *      parked, sleeps on the state           opens, reads, writes: into the pages themselves
 *      goes on  <─────────────────────────── DONE, wakes it
 *
 * The thread that has the files is a CPU like any other, idle in its event loop between posts:
 * files are opened by promises.  While it reads or writes it is parked, too.
 *
 * Deaths.  A post of a dead thread that nobody has taken is taken back.  One that is being done
 * is waited for, since its pages may be given to others afterwards: that is the first line of
 * the death table.  When the thread that has the files dies, its posts end with ENXIO; the browser
 * closes its files, and another thread may take its place (vm_store.opfs_owner).  It opens them
 * anew, by name, when they are used.
 *
 * A thread that may not sleep, a page's own, is told EWOULDBLOCK: others do its input and output.
 */
import {
  atomic_add,
  atomic_cas,
  atomic_load,
  atomic_notify,
  atomic_store,
} from '../machine/atomic.ts';
import { atomic_wait, atomic_wait_async } from '../machine/atomic.ts';
import { cpu_slots, park, pcpu, poll, thr, unpark } from '../machine/cpu.ts';
import { tid_alive } from '../machine/death.ts';
import { EBUSY, EDEADLK, EINVAL, ENOMEM, ENOSPC, ENXIO, EWOULDBLOCK } from '../machine/errno.ts';
import { host_can_block } from '../machine/host.ts';
import { mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { witness_sleep } from '../machine/parts.ts';
import { STORE_WRITE } from '../machine/store.ts';
import { fault_of, type StoreOp } from '../machine/store_fault.ts';
import { STORE_VIEWS_MAX } from '../machine/store_io.ts';
import { OpfsFiles, type OpfsFolder } from '../machine/store_opfs.ts';
import { elem, field_word, get64, get_string, set64 } from '../machine/struct.ts';
import {
  POST_ASKED,
  POST_DONE,
  POST_IDLE,
  POST_OPEN,
  POST_READ,
  POST_REMOVE,
  POST_SIZE,
  POST_SYNC,
  POST_TAKEN,
  POST_TRUNCATE,
  POST_VIEW_WORDS,
  POST_VIEWS,
  POST_WRITE,
  store_post,
  type store_post_t,
} from '../h/store_post.ts';
import {
  STORE_PATH_WORDS,
  store_root,
  VM_STORE_OPFS,
  vm_store,
  vm_store_root,
  type vm_store_t,
} from '../h/vm_store.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import {
  vm_page_alloc_run,
  vm_page_free_run,
  vm_page_settle,
  vm_page_wired,
} from '../page/vm_page.ts';

const post = store_post;
const root = vm_store_root;
const store = vm_store;
const PAGE = PAGE_WORDS * 4;
/** How long a wait lasts before it looks whether the other thread lives, ms. */
const SLICE_MS = 100;
/** How long the thread that has the files sleeps before it looks whether it is stopped, ms. */
const IDLE_MS = 500;

/** The record of a CPU; 0: nobody has ever had the files. */
function post_of(cpu: number): store_post_t {
  const first = root.opfs_posts[store_root()];
  return (first === 0 ? 0 : first + cpu * post.sizeof) as store_post_t;
}
/** The page of a CPU, for bytes that do not lie in the memory. */
function bounce_of(cpu: number): Uint8Array {
  const first = root.opfs_posts[store_root()] / PAGE_WORDS + posts_pages() + cpu;
  return mem.U8.subarray(first * PAGE, (first + 1) * PAGE);
}
function posts_pages(): number {
  return Math.ceil((cpu_slots() * post.sizeof) / PAGE_WORDS);
}
const state_word = (p: store_post_t): number => field_word(post.state, p);
function owner_word(): number {
  return field_word(root.opfs_owner, store_root());
}
function bell_word(): number {
  return field_word(root.opfs_bell, store_root());
}
/** Whether a thread has the files of a browser. */
export function opfs_there(): boolean {
  const tid = atomic_load(owner_word());
  return tid !== 0 && tid_alive(tid);
}
/** The thread that has the files looks around: something ended, or is asked. */
export function opfs_ring(): void {
  atomic_add(bell_word(), 1);
  atomic_notify(bell_word(), 1);
}

// --- asking ------------------------------------------------------------------------------------

/** Why this thread cannot ask, an errno; 0: it can. */
function no_asking(): number {
  if (post_of(thr.cpu) === 0 || !opfs_there()) return ENXIO;
  if (atomic_load(owner_word()) === thr.tid) return EDEADLK;
  return host_can_block() ? 0 : EWOULDBLOCK;
}
/** Asks for an operation, with `count` views in the record, and sleeps until it is done. */
function ask(s: vm_store_t, op: number, at: number, count: number, how = STORE_WRITE): number {
  const error = no_asking();
  if (error !== 0) return -error;
  const p = post_of(thr.cpu);
  post.op[p] = op;
  post.store[p] = s;
  post.id[p] = store.id[s];
  post.how[p] = how;
  post.count[p] = count;
  set64(post.at, p, at);
  if (opt.WITNESS) witness_sleep('store_post: a file of the browser', 0);
  park();
  const w = state_word(p);
  atomic_store(w, POST_ASKED);
  opfs_ring();
  const result = await_done(w) ? get64(post.result, p) : -ENXIO;
  atomic_store(w, POST_IDLE);
  unpark();
  return result;
}
/** Sleeps until the post is done. False: the thread that has the files is gone. */
function await_done(w: number): boolean {
  for (;;) {
    const v = atomic_load(w);
    if (v === POST_DONE) return true;
    if (atomic_wait(w, v, SLICE_MS) === 'timed-out' && !opfs_there()) {
      return atomic_load(w) === POST_DONE;
    }
  }
}
/** Played faults; a thread's own, as of any store. The errno of one that fails, 0, or -1: full. */
function played(op: StoreOp): number {
  const fault = fault_of(op, 'opfs', 0);
  if (fault?.what === 'fail') return fault.errno;
  return fault?.what === 'full' ? -1 : 0;
}
/** Opens the store's file (STORE_*). 0, or an errno. */
export function opfs_open(s: vm_store_t, how: number): number {
  return Math.max(0, played('open')) || 0 - ask(s, POST_OPEN, 0, 0, how);
}
/** Bytes of the file, or the errno, negated. */
export function opfs_size(s: vm_store_t): number {
  const error = played('size');
  return error > 0 ? -error : ask(s, POST_SIZE, 0, 0);
}
/** Makes the file so long. 0, or an errno. */
export function opfs_truncate(s: vm_store_t, size: number): number {
  if (!Number.isSafeInteger(size) || size < 0) return EINVAL;
  const error = played('truncate');
  return error < 0 ? ENOSPC : error || 0 - ask(s, POST_TRUNCATE, size, 0);
}
/** All that was written stays. 0, or an errno. */
export function opfs_sync(s: vm_store_t): number {
  return Math.max(0, played('sync')) || 0 - ask(s, POST_SYNC, 0, 0);
}
/** Removes the file. 0, or an errno. */
export function opfs_remove(s: vm_store_t): number {
  return Math.max(0, played('discard')) || 0 - ask(s, POST_REMOVE, 0, 0);
}
/** Reads into views: the bytes read, fewer at the end, or the errno, negated. */
export function opfs_readv(s: vm_store_t, at: number, into: readonly Uint8Array[]): number {
  if (!valid(at, into)) return -EINVAL;
  const error = played('read');
  if (error > 0) return -error;
  let done = 0;
  for (const some of handfuls(into)) {
    const near = load(some);
    const n = ask(s, POST_READ, at + done, near.length);
    if (n < 0) return n;
    if (near[0] !== some[0]) some[0].set(near[0].subarray(0, Math.min(n, some[0].length)));
    done += n;
    if (n < bytes_in(some)) break;
  }
  return done;
}
/** Writes all views. 0, or an errno. */
export function opfs_writev(s: vm_store_t, at: number, from: readonly Uint8Array[]): number {
  if (!valid(at, from)) return EINVAL;
  const error = played('write');
  if (error > 0) return error;
  const all = [...handfuls(from)];
  const end = error < 0 ? all.length >> 1 : all.length;
  let done = 0;
  for (const some of all.slice(0, end)) {
    const near = load(some);
    if (near[0] !== some[0]) near[0].set(some[0]);
    const failed = ask(s, POST_WRITE, at + done, near.length);
    if (failed < 0) return -failed;
    done += bytes_in(some);
  }
  return end < all.length ? ENOSPC : 0;
}
function valid(at: number, views: readonly Uint8Array[]): boolean {
  return Number.isSafeInteger(at) && at >= 0 && views.length <= STORE_VIEWS_MAX;
}
function bytes_in(views: readonly Uint8Array[]): number {
  return views.reduce((n, view) => n + view.length, 0);
}
/**
 * Views as they go with one post each: so many that lie in the memory, or one that does not, no
 * longer than a page.
 */
function* handfuls(views: readonly Uint8Array[]): Generator<Uint8Array[]> {
  let near: Uint8Array[] = [];
  for (const view of views) {
    if (view.length === 0) continue;
    if (view.buffer === mem.U8.buffer) near.push(view);
    if (near.length > 0 && (view.buffer !== mem.U8.buffer || near.length === POST_VIEWS)) {
      yield near;
      near = [];
    }
    for (let i = 0; view.buffer !== mem.U8.buffer && i < view.length; i += PAGE) {
      yield [view.subarray(i, i + PAGE)];
    }
  }
  if (near.length > 0) yield near;
}
/** Puts views into this CPU's record. Returns them, or a part of its page instead of a far one. */
function load(views: readonly Uint8Array[]): readonly Uint8Array[] {
  const p = post_of(thr.cpu);
  if (p === 0) return views; // the asking says so
  const far = views[0].buffer !== mem.U8.buffer;
  const near = far ? [bounce_of(thr.cpu).subarray(0, views[0].length)] : views;
  for (const [i, view] of near.entries()) {
    const at = elem(p, i * POST_VIEW_WORDS);
    post.views[at] = Math.floor(view.byteOffset / PAGE);
    post.views[elem(at, 1)] = view.byteOffset % PAGE;
    post.views[elem(at, 2)] = view.length;
  }
  return near;
}
/** The post of a dead CPU is taken back, or was done. The first line of the death table. */
export function store_post_reap(cpu: number): void {
  const p = store_root() === 0 ? 0 : post_of(cpu);
  if (p === 0) return;
  const w = state_word(p as store_post_t);
  for (;;) {
    const v = atomic_load(w);
    if (v === POST_IDLE) return;
    const in_use = v === POST_TAKEN && moves(post.op[p as store_post_t]) && opfs_there();
    if (in_use) atomic_wait(w, v, SLICE_MS);
    else atomic_cas(w, v, POST_IDLE);
  }
}
function moves(op: number): boolean {
  return op === POST_READ || op === POST_WRITE;
}

// --- doing ---------------------------------------------------------------------------------------

/**
 * This thread, a CPU, has the browser's files open from here on, and does what is asked, until
 * its machine is stopped: then it throws as every call does.  Returns an errno: EBUSY, another
 * thread has them; ENOMEM.
 */
export async function opfs_serve(folder: OpfsFolder): Promise<number> {
  const before = atomic_load(owner_word());
  if (before !== 0 && tid_alive(before)) return EBUSY;
  if (root.opfs_posts[store_root()] === 0 && !posts_make()) return ENOMEM;
  if (atomic_cas(owner_word(), before, thr.tid) !== before) return EBUSY;
  const files = new OpfsFiles(folder);
  try {
    for (;;) await round(files);
  } finally {
    for (const id of files.ids()) files.close(id); // handles of this thread alone, no kernel state
  }
}
/** Takes what is asked, closes what has ended, then sleeps until it is rung. */
async function round(files: OpfsFiles): Promise<void> {
  const rung = atomic_load(bell_word());
  poll();
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const p = post_of(cpu);
    if (atomic_cas(state_word(p), POST_ASKED, POST_TAKEN) !== POST_ASKED) continue;
    const result = await serve(files, p);
    set64(post.result, p, result);
    // A dead thread's post may have been taken back meanwhile: then there is nobody to be told.
    if (atomic_cas(state_word(p), POST_TAKEN, POST_DONE) === POST_TAKEN) {
      atomic_notify(state_word(p), 1);
    }
  }
  sweep(files);
  await atomic_wait_async(bell_word(), rung, IDLE_MS);
}
async function serve(files: OpfsFiles, p: store_post_t): Promise<number> {
  const [op, s, id, at] = [post.op[p], post.store[p], post.id[p], get64(post.at, p)];
  const name = get_string(store.path, s, STORE_PATH_WORDS);
  if (op === POST_OPEN) return 0 - (await files.open(id, name, post.how[p]));
  if (op === POST_REMOVE) return 0 - (await files.remove(id, name));
  if (!files.has(id)) {
    // Another thread had it open, and is gone.
    const error = await files.open(id, name, STORE_WRITE);
    if (error !== 0) return -error;
  }
  park();
  const result = serve_now(files, p, op, id, at);
  unpark();
  return result;
}
function serve_now(files: OpfsFiles, p: store_post_t, op: number, id: number, at: number): number {
  switch (op) {
    case POST_SIZE:
      return files.size(id);
    case POST_READ:
      return files.read(id, at, views_of(p));
    case POST_WRITE:
      return files.write_at(id, at, views_of(p));
    case POST_TRUNCATE:
      return files.truncate(id, at);
    case POST_SYNC:
      return files.sync(id);
    default:
      return -EINVAL;
  }
}
function views_of(p: store_post_t): Uint8Array[] {
  return Array.from({ length: post.count[p] }, (_, i) => {
    const at = elem(p, i * POST_VIEW_WORDS);
    const first = post.views[at] * PAGE + post.views[elem(at, 1)];
    return mem.U8.subarray(first, first + post.views[elem(at, 2)]);
  });
}
/** Closes files of stores that have ended. */
function sweep(files: OpfsFiles): void {
  const r = store_root();
  const there = new Set<number>();
  mtx_lock(root.lock, r);
  for (let s = root.first[r]; s !== 0; s = store.next[s]) {
    if (store.kind[s] === VM_STORE_OPFS) there.add(store.id[s]);
  }
  mtx_unlock(root.lock, r);
  for (const id of files.ids()) if (!there.has(id)) files.close(id);
}
/** Makes the records, and their pages, for good. */
function posts_make(): boolean {
  const r = store_root();
  const pages = posts_pages() + cpu_slots();
  const m = vm_page_alloc_run(pages, 0);
  if (m === 0) return false;
  mem.I32.fill(0, page_word(m), page_word(m + pages));
  vm_page_wired(m, pages);
  mtx_lock(root.lock, r);
  const first = root.opfs_posts[r] === 0;
  if (first) {
    undo_begin(root.lock, r);
    save(root.opfs_posts, r);
    save(pcpu.in_hand_n, thr.pc);
    root.opfs_posts[r] = page_word(m);
    vm_page_settle();
    undo_end();
  }
  mtx_unlock(root.lock, r);
  if (!first) vm_page_free_run(m, pages);
  return true;
}
