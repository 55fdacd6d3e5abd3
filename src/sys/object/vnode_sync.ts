/*
 * vnode_sync: the pages of a file and the file become one again.
 *
 *      vnode_flush        pages ──> file       what was written since
 *      vnode_sync         the same, and what could not be written so far is told
 *      vnode_truncate     both get a length
 *      vnode_look         file ──> pages       somebody else changed its length
 *      vnode_revalidate   file ──> pages       and perhaps its contents
 *
 * A page that cannot be written stays as it is, to be written later.  What lies beyond the end
 * of the file is never written.
 *
 * Longer.  Bytes behind the old end, in the page in which it was, were nobody's: they are what the
 * file has there, zeros unless somebody else has made it longer.
 *
 * Shorter.  First the length is noted, so that nobody faults in the part that goes, then
 * each of its pages is made busy, then the file is cut with nothing locked, then the pages go.
 * Where the file cannot be cut all is as it was, and no page was lost.  A thread that dies in
 * between leaves its tid in `truncating`: the reaper asks the file how long it is, and takes the
 * pages to be that.
 *
 * A page that is lent goes like any other, and is its borrowers' then; one of which a part stays is
 * copied before it is cut.  Pages under a window stay in place, so a truncation over one is EBUSY:
 * the caller says which pages are.  If the file became shorter otherwise, they stay, and with them
 * the length of the object.  So do pages that are locked, until whoever cut the file has unlocked
 * them (map/vm_file_cut.ts); then they go, too (vnode_trim).
 */
import { tid_cpu, thr as thr_ } from '../machine/cpu.ts';
import { now_ms } from '../machine/clock.ts';
import { reap_all, tid_alive } from '../machine/death.ts';
import { EACCES, EAGAIN, EBUSY, ENOMEM } from '../machine/errno.ts';
import { mem, PAGE_SIZE, page_word } from '../machine/memory.ts';
import { field_word, get64 } from '../machine/struct.ts';
import { tlb_owed } from '../machine/tlb_ack.ts';
import { W_VNTRUNC } from '../machine/wmesg.ts';
import { vm_object, type vm_object_t } from '../h/vm_object.ts';
import { VM_ALLOC_INTERRUPT, VM_ALLOC_NORMAL, vm_page } from '../h/vm_page.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import { vnode, type vnode_t } from '../h/vm_vnode.ts';
import { vm_page_held, vm_page_loans } from '../page/vm_pageq.ts';
import { pmap_remove_all } from '../pmap/pmap.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { msleep, wakeup } from '../sync/subr_sleepqueue.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { object_page_launder, page_dirty } from './vm_launder.ts';
import { object_page_break } from './vm_object_loan.ts';
import {
  object_page,
  object_page_busy,
  object_page_free,
  object_page_next,
  object_page_wakeup,
  page_valid,
  vm_page_sleep_if_busy,
} from './vm_object_page.ts';
import { vm_store_readv, vm_store_size, vm_store_sync, vm_store_truncate } from './vm_store.ts';
import {
  object_vnode,
  vnode_pages,
  vnode_size_is,
  vnode_store,
  vnodes_each,
  vnodes_root,
} from './vm_vnode.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const object = vm_object;
const page = vm_page;
const SLICE_MS = 250;
/** How long a CPU may be silent that maps a page which is to be written, ms. */
const PATIENCE_MS = 10_000;

/** What is to be written, and how. */
export interface Flush {
  /** Pages of the object. */
  readonly first: number;
  readonly end: number;
  /** Pages that somebody has in work are waited for; else they are passed over. */
  readonly wait: boolean;
  /** Pages go when the file has what they hold. */
  readonly invalidate: boolean;
}
/**
 * Writes those pages of the object of a file that have what the file has not, each once.  0, or
 * the errno of the first that could not be written; the others were, all the same.  The caller
 * refers to the object and holds no lock.
 */
export function vnode_flush(o: vm_object_t, { first, end, wait, invalidate }: Flush): number {
  let error = 0;
  const until = now_ms() + PATIENCE_MS;
  mtx_lock(object.lock, o);
  for (let m = object_page_next(o, first); m !== 0; ) {
    const i = page.index[m];
    if (i >= end) break;
    const busy = page.busy[m] !== 0;
    if (busy && wait) {
      vm_page_sleep_if_busy(m, o);
      m = object_page_next(o, i);
      continue;
    }
    if (!busy && page_valid(m)) {
      const failed = page_dirty(m) ? object_page_launder(m, o, true) : 0;
      // The length is being changed, or a CPU may write to the page that has not answered yet.
      if (failed === EAGAIN && wait && (others_wait(o) || now_ms() < until)) {
        m = object_page_next(o, i);
        continue;
      }
      if (error === 0) error = failed;
      if (invalidate && failed === 0) drop_clean(o, i);
    }
    m = object_page_next(o, i + 1);
  }
  mtx_unlock(object.lock, o);
  return error;
}
/** Frees page `i`, if the file has what it holds and nobody has it in place. Locked. */
function drop_clean(o: vm_object_t, i: number): void {
  const m = object_page(o, i);
  if (m === 0 || page.busy[m] !== 0 || page_dirty(m) || vm_page_held(m) !== 0) return;
  pmap_remove_all(m);
  // A store may have come until then; one may be under way still while a CPU owes an answer.
  if (!page_dirty(m) && !tlb_owed()) object_page_free(m, o);
}

/**
 * Writes what the file lacks of a part of its object, and with `wait` waits until it is kept.  0,
 * or an errno: of a page that could not be written, now or since this was last asked.
 */
export function vnode_sync(o: vm_object_t, how: Flush): number {
  const v = object_vnode(o);
  const looked = vnode_look(o);
  let error = vnode_flush(o, how);
  if (error === 0) error = looked;
  if (error === 0 && how.wait && vnode.writer[v] !== 0) {
    error = vm_store_sync(vnode.writer[v] as vm_store_t);
  }
  mtx_lock(object.lock, o);
  if (error === 0) error = vnode.error[v];
  undo_begin(object.lock, o);
  save(vnode.error, v);
  save(vnode.failed, v);
  vnode.error[v] = 0;
  vnode.failed[v] = 0;
  undo_end();
  mtx_unlock(object.lock, o);
  return error;
}

// --- length -------------------------------------------------------------------------------------

/** Notes how long a file is. Its object is locked. */
function length_is(o: vm_object_t, bytes: number, pages: number, truncating: number): void {
  const v = object_vnode(o);
  undo_begin(object.lock, o);
  vnode_size_is(v, bytes);
  save(object.size, o);
  save(vnode.truncating, v);
  object.size[o] = pages;
  vnode.truncating[v] = truncating;
  undo_end();
}
/** No thread changes the length of the file any more. Its object is locked. */
function truncated(o: vm_object_t): void {
  wakeup(field_word(vnode.truncating, object_vnode(o)));
}
/**
 * Bytes behind the end of the file, in the page in which it ends, are zero, but for `tail`: what
 * the file has there by now.  Somebody may be writing the page to the file meanwhile: not so far.
 * Locked.
 */
function tail_zero(o: vm_object_t, bytes: number, tail = NO_TAIL): void {
  const inside = bytes % PAGE_SIZE;
  const m = inside === 0 ? 0 : page_unlent(o, Math.floor(bytes / PAGE_SIZE));
  if (m === 0 || !page_valid(m)) return;
  const at = page_word(m) * 4;
  mem.U8.set(tail, at + inside);
  mem.U8.fill(0, at + inside + tail.length, at + PAGE_SIZE);
}
const NO_TAIL: Uint8Array = new Uint8Array(0);
/**
 * Page `i` of the object, 0: it has none; if it is lent, it is broken off before.  Where there is
 * no page at all for that one that is clean goes, and is read again; else borrowers see the change:
 * zeros behind the end of the file.  Locked; it may be let go of and locked again.
 */
function page_unlent(o: vm_object_t, i: number): number {
  for (;;) {
    const m = object_page(o, i);
    if (m === 0 || vm_page_loans(m) === 0) return m;
    if (vm_page_sleep_if_busy(m, o)) continue;
    const to = object_page_break(m, o, VM_ALLOC_INTERRUPT);
    if (to !== 0) return to;
    if (page_dirty(m)) return m;
    object_page_free(m, o);
  }
}
/** What a file that has grown has in the page in which it ended, or an errno. */
function tail_read(s: vm_store_t, old: number, bytes: number): Uint8Array | number {
  const page_end = Math.ceil(old / PAGE_SIZE) * PAGE_SIZE;
  const tail = new Uint8Array(Math.max(0, Math.min(bytes, page_end) - old));
  if (tail.length === 0) return NO_TAIL;
  const n = vm_store_readv(s, old, [tail]);
  return n < 0 ? -n : tail.subarray(0, n);
}
/**
 * The file has so many bytes by now, whoever did that.  Pages beyond go, but those that are wired.
 * Of one that has grown the page in which it ended gets `tail`: what was stored there behind its
 * end went nowhere.  The object is locked, and may be let go of and locked again.
 */
function adopt(o: vm_object_t, bytes: number, tail = NO_TAIL): void {
  const pages = vnode_pages(bytes);
  const old = get64(vnode.size, object_vnode(o));
  // First, so that nobody brings in what goes, and nobody else changes the length meanwhile.  Of a
  // file that has grown the tail comes first: a write that begins now may go that far.
  length_is(o, Math.min(bytes, old), Math.max(pages, object.size[o]), thr.tid);
  const kept = beyond_free(o, pages);
  if (bytes < old) tail_zero(o, bytes);
  else if (bytes > old) tail_zero(o, old, tail);
  length_is(o, bytes, kept, 0);
  truncated(o);
}
/**
 * Frees pages from number `pages` on, but those that are wired.  How many there are then, with
 * those before.  Locked; it may be let go of and locked again.
 */
function beyond_free(o: vm_object_t, pages: number): number {
  let kept = pages;
  for (let m = object_page_next(o, pages); m !== 0; ) {
    const i = page.index[m];
    const wired = vm_page_held(m) !== 0;
    const slept = !wired && page.busy[m] !== thr.tid && vm_page_sleep_if_busy(m, o);
    if (wired) kept = i + 1;
    else if (!slept) object_page_free(m, o);
    m = object_page_next(o, slept ? i : i + 1);
  }
  return kept;
}
/** The first page behind the end of a file, if its object has pages there; -1: it has none. */
export function vnode_beyond(o: vm_object_t): number {
  mtx_lock(object.lock, o);
  const pages = vnode_pages(get64(vnode.size, object_vnode(o)));
  const some = object.size[o] > pages;
  mtx_unlock(object.lock, o);
  return some ? pages : -1;
}
/** Pages behind the end of a file that were kept, and are wired no more, go. */
export function vnode_trim(o: vm_object_t): void {
  const v = object_vnode(o);
  mtx_lock(object.lock, o);
  others_wait(o);
  const bytes = get64(vnode.size, v);
  length_is(o, bytes, object.size[o], thr.tid); // nobody else changes it meanwhile
  length_is(o, bytes, beyond_free(o, vnode_pages(bytes)), 0);
  truncated(o);
  mtx_unlock(object.lock, o);
}
/** Looks how long the file is by now. 0, or an errno. The caller refers to the object. */
export function vnode_look(o: vm_object_t): number {
  const v = object_vnode(o);
  const s = vnode_store(v);
  for (;;) {
    mtx_lock(object.lock, o);
    const [old, seen] = [get64(vnode.size, v), vnode.changes[v]];
    mtx_unlock(object.lock, o);
    const bytes = vm_store_size(s);
    if (bytes < 0) return -bytes;
    const tail = tail_read(s, old, bytes);
    if (typeof tail === 'number') return tail;
    mtx_lock(object.lock, o);
    // Else a thread of this machine changed the length since: the answer is an old one.
    const good = !others_wait(o) && vnode.changes[v] === seen;
    const other = bytes !== old || object.size[o] !== vnode_pages(bytes);
    if (good && other) adopt(o, bytes, tail);
    mtx_unlock(object.lock, o);
    if (good) return 0;
  }
}
/**
 * Pages that hold what the file had go, so that the next use reads what it has now.  Those that
 * have something newer stay, and those under a window.  0, or an errno.
 */
export function vnode_revalidate(o: vm_object_t, first: number, end: number): number {
  const error = vnode_look(o);
  mtx_lock(object.lock, o);
  for (let m = object_page_next(o, first); m !== 0; ) {
    const i = page.index[m];
    if (i >= end) break;
    if (page_valid(m)) drop_clean(o, i);
    m = object_page_next(o, i + 1);
  }
  mtx_unlock(object.lock, o);
  return error;
}

/**
 * Makes a file, and what is seen of it in memory, so many bytes long.  0, or an errno: EACCES
 * nobody opened it for writing, EBUSY `stays` says of it, locked, that something from that page on
 * cannot go, ENOMEM, or as the store says.  Then nothing has changed.  What is wired otherwise is
 * kept behind the end.  The caller refers to the object and holds no lock.
 */
export function vnode_truncate(o: vm_object_t, bytes: number, stays = held): number {
  const v = object_vnode(o);
  if (vnode.writer[v] === 0) return EACCES;
  const s = vnode.writer[v] as vm_store_t;
  mtx_lock(object.lock, o);
  others_wait(o);
  const [old, pages] = [get64(vnode.size, v), object.size[o]];
  const from = Math.floor(bytes / PAGE_SIZE);
  const shorter = bytes < old;
  if (shorter && stays(o, from)) {
    mtx_unlock(object.lock, o);
    return EBUSY;
  }
  if (shorter) length_is(o, bytes, vnode_pages(bytes), thr.tid);
  else length_is(o, old, pages, thr.tid);
  let error = shorter ? all_busy(o, from, bytes % PAGE_SIZE !== 0) : 0;
  // Something may have come while that slept; from here on nothing can.
  if (error === 0 && shorter && stays(o, from)) error = EBUSY;
  mtx_unlock(object.lock, o);
  if (error === 0) error = vm_store_truncate(s, bytes);
  mtx_lock(object.lock, o);
  let kept = pages;
  if (error === 0 && shorter) {
    tail_zero(o, bytes);
    kept = beyond_free(o, vnode_pages(bytes));
  } else if (error === 0) {
    tail_zero(o, old);
    kept = Math.max(pages, vnode_pages(bytes));
  }
  mine_wake(o, from);
  length_is(o, error === 0 ? bytes : old, kept, 0);
  truncated(o);
  mtx_unlock(object.lock, o);
  return error;
}
/** Sleeps until no thread changes the length. True: it slept. Locked, and locked again. */
function others_wait(o: vm_object_t): boolean {
  const v = object_vnode(o);
  if (vnode.truncating[v] === 0) return false;
  while (vnode.truncating[v] !== 0) {
    if (tid_alive(vnode.truncating[v])) {
      // errno: whatever ended the sleep, it looks again
      msleep(field_word(vnode.truncating, v), object.lock, o, W_VNTRUNC, SLICE_MS);
      continue;
    }
    mtx_unlock(object.lock, o);
    reap_all();
    mtx_lock(object.lock, o);
  }
  return true;
}
/** Whether a page from number `from` on is held in place. Locked. */
function held(o: vm_object_t, from: number): boolean {
  for (let m = object_page_next(o, from); m !== 0; m = object_page_next(o, page.index[m] + 1)) {
    if (vm_page_held(m) !== 0) return true;
  }
  return false;
}
/**
 * Makes all pages from number `from` on busy by this CPU, and takes them away from whoever maps
 * them.  It may sleep with some of them busy: nobody else waits for a page with one busy.  If it is
 * lent, the first one is broken off if `cut` says so, because it is about to change.  0, or
 * ENOMEM.  Locked.
 */
function all_busy(o: vm_object_t, from: number, cut: boolean): number {
  for (let m = object_page_next(o, from); m !== 0; ) {
    const i = page.index[m];
    const slept = vm_page_sleep_if_busy(m, o);
    if (!slept) {
      const own = cut && i === from && vm_page_loans(m) > 0;
      const at = own ? object_page_break(m, o, VM_ALLOC_NORMAL) : m;
      if (at === 0) return ENOMEM;
      object_page_busy(at, o);
      pmap_remove_all(at);
    }
    m = object_page_next(o, slept ? i : i + 1);
  }
  return 0;
}
/** Pages from number `from` on that this CPU has busy are so no more. Locked. */
function mine_wake(o: vm_object_t, from: number): void {
  for (let m = object_page_next(o, from); m !== 0; m = object_page_next(o, page.index[m] + 1)) {
    if (page.busy[m] === thr.tid) object_page_wakeup(m, o);
  }
}

// --- deaths -------------------------------------------------------------------------------------

/** What a dead CPU was changing the length of is as long as its file. A line of the death table. */
export function vnode_reap(cpu: number): void {
  if (vnodes_root() === 0) return;
  vnodes_each((v, o) => {
    const tid = vnode.truncating[v];
    // An heir looks for what those before it on its slot had.
    if (tid === 0 || tid_cpu(tid) !== cpu || tid === thr.tid) return;
    const bytes = vm_store_size(vnode_store(v));
    mtx_lock(object.lock, o);
    if (vnode.truncating[v] === tid) adopt(o, bytes < 0 ? beyond_all(o, v) : bytes);
    mtx_unlock(object.lock, o);
  });
}
/** So many bytes that every page of the object is inside: nobody can say how long the file is. */
function beyond_all(o: vm_object_t, v: vnode_t): number {
  let bytes = get64(vnode.size, v);
  for (let m = object_page_next(o, 0); m !== 0; m = object_page_next(o, page.index[m] + 1)) {
    bytes = Math.max(bytes, (page.index[m] + 1) * PAGE_SIZE);
  }
  return bytes;
}
/** Writes what all files lack, before the machine ends. 0, or the errno of the first failure. */
export function vnode_sync_all(): number {
  let error = 0;
  if (vnodes_root() === 0) return 0;
  const all = { first: 0, end: 2 ** 31, wait: true, invalidate: false };
  vnodes_each((_v, o) => {
    const failed = vnode_sync(o, all);
    if (error === 0) error = failed;
  });
  return error;
}
