/*
 * vm_launder: writes pages of objects to where their pager keeps them.
 *
 *      1   a page and dirty ones around it, up to 16, are made busy      object locked
 *      2   no mapping may write to them, and every CPU has said so
 *      3   what they were written to is noted as dirty, and not as modified any more
 *      4   the pager makes room
 *      5   it writes                                                     nothing locked, parked
 *      6   each is clean and busy no more, some in a section               object locked
 *
 * A thread that reads them meanwhile by a translation goes on; one that faults waits.  After an
 * error they are as dirty as before; after a death, too.  While a CPU is silent they are left for
 * another time: it may be in the middle of a store, also by a mapping that is over.
 */
import { sim_point } from '../machine/atomic.ts';
import { EAGAIN, EIO, ENOSPC, EOPNOTSUPP } from '../machine/errno.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import {
  OBJ_DEAD,
  OBJT_DEAD,
  OBJT_DEFAULT,
  OBJT_SWAP,
  vm_object,
  type vm_object_t,
} from '../h/vm_object.ts';
import { PAGE_DIRTY, PG_FICTITIOUS, PG_UNMANAGED, vm_page } from '../h/vm_page.ts';
import { vm_page_unbusy } from '../page/vm_page_busy.ts';
import { PQ_ACTIVE, page_queue, vm_page_activate, vm_page_wirings } from '../page/vm_pageq.ts';
import { pmap_remove_write_all } from '../pmap/pmap.ts';
import { tlb_wait_all } from '../pmap/pmap_tlb.ts';
import { mtx_assert, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { swap_wanted } from './swap_area.ts';
import { swap_prepare } from './swap_on.ts';
import { object_pip_add, object_pip_done } from './vm_object.ts';
import {
  object_page,
  object_page_busy,
  object_page_wakeup,
  page_flash,
  page_valid,
} from './vm_object_page.ts';
import { type Backing, CLUSTER, pagers } from './vm_pager.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const opt = opt_;
const object = vm_object;
const page = vm_page;

/** How long a CPU may be silent before pages are left for another time, ms. */
const ANSWER_MS = 20;

/** Whether page m of the locked object is newer than what its pager has. */
export function page_dirty(m: number): boolean {
  return (page.state[m] & PAGE_DIRTY) !== 0 || page.mod[m] !== 0;
}
/** Whether it may be written now: dirty, with contents, and nobody uses it for more than access. */
function may_go(m: number, all: boolean): boolean {
  if (m === 0 || page.busy[m] !== 0 || !page_valid(m) || !page_dirty(m)) return false;
  if ((page.flags[m] & (PG_UNMANAGED | PG_FICTITIOUS)) !== 0) return false;
  return all || vm_page_wirings(m) === 0;
}
/** Whether it may go along: it was not used of late either, unless all are to go. */
function goes_along(m: number, all: boolean): boolean {
  return may_go(m, all) && (all || page_queue(m) !== PQ_ACTIVE);
}
function store_of(o: vm_object_t): Backing | undefined {
  const type = object.type[o];
  return pagers.get(type === OBJT_DEFAULT ? OBJT_SWAP : type)?.store;
}

/**
 * Writes page m of the object, which is dirty, idle and not wired, and with it dirty pages around
 * it that were not used of late; with `all`, for a store that is to have everything, wired ones and
 * those in use, too.  0: it is clean, unless somebody wrote to it since; EAGAIN: a CPU is silent;
 * EOPNOTSUPP: its contents have no place to go to; another errno of its store.  The object is
 * locked; it was let go of meanwhile, so that everything is to be looked up again.
 */
export function object_page_launder(m: number, o: vm_object_t, all = false): number {
  if (opt.INVARIANTS) mtx_assert(object.lock, o);
  const i = page.index[m];
  return object_pages_launder(o, cluster_first(o, i, all), cluster_end(o, i, all), m, all);
}
/** Where the cluster begins: at a multiple of its length at most. */
function cluster_first(o: vm_object_t, i: number, all: boolean): number {
  let first = i;
  while (first % CLUSTER !== 0 && goes_along(object_page(o, first - 1), all)) first--;
  return first;
}
function cluster_end(o: vm_object_t, i: number, all: boolean): number {
  let end = i + 1;
  while (end % CLUSTER !== 0 && goes_along(object_page(o, end), all)) end++;
  return end;
}
/**
 * Writes pages `first` to before `end` of the object, at most 16, all of which may be written;
 * page m among them decides the answer.
 */
function object_pages_launder(
  o: vm_object_t,
  first: number,
  end: number,
  m: number,
  all: boolean,
): number {
  const store = store_of(o);
  if (store === undefined) return EOPNOTSUPP;
  const ms: number[] = [];
  for (let i = first; i < end; i++) {
    const at = object_page(o, i);
    if (!may_go(at, all)) panic('vm_launder: a page that may not be written', at, i);
    object_page_busy(at, o);
    ms.push(at);
  }
  if (!protect(ms)) {
    unbusy_all(ms, o);
    return EAGAIN;
  }
  const n = store.room(o, ms);
  const at = ms.indexOf(m);
  if (n <= 0) {
    unbusy_all(ms, o);
    return n === -ENOSPC && swap_wanted() ? prepared(o) : n === 0 ? EIO : -n;
  }
  for (const left of ms.splice(n)) object_page_wakeup(left, o);
  const error = write_out(store, o, ms);
  return at < n || error !== 0 ? error : EAGAIN;
}
/** Nobody may write to busy pages any more: dirty, not modified. False: a CPU is silent. */
function protect(ms: readonly number[]): boolean {
  if (pmap_remove_write_all(ms, ANSWER_MS) >= 0 || tlb_wait_all(ANSWER_MS) >= 0) return false;
  for (const m of ms) {
    page.state[m] |= PAGE_DIRTY; // not taken back by a death: until it is written it may be so
    if (opt.SIM) sim_point(m);
    page.mod[m] = 0;
  }
  return true;
}
function unbusy_all(ms: number[], o: vm_object_t): void {
  for (const m of ms) object_page_wakeup(m, o);
  ms.length = 0;
}
/** Makes the kernel's own swap area: EAGAIN, then; or ENOSPC. The object is let go of meanwhile. */
function prepared(o: vm_object_t): number {
  object_pip_add(o);
  mtx_unlock(object.lock, o);
  const there = swap_prepare();
  mtx_lock(object.lock, o);
  object_pip_done(o);
  return there ? EAGAIN : ENOSPC;
}
function write_out(store: Backing, o: vm_object_t, ms: readonly number[]): number {
  object_pip_add(o);
  mtx_unlock(object.lock, o);
  const error = store.send(o, ms);
  mtx_lock(object.lock, o);
  object_pip_done(o);
  const gone = (object.flags[o] & OBJ_DEAD) !== 0 || object.type[o] === OBJT_DEAD;
  if (error !== 0 || gone) {
    for (const m of ms) {
      object_page_wakeup(m, o);
      if (page_queue(m) !== PQ_ACTIVE) vm_page_activate(m);
    }
  } else for (let k = 0; k < ms.length; ) k = clean_some(store, o, ms, k);
  store.settle(o, true);
  return error;
}
/** Pages in a section. */
const STEP = 4;
/** Pages from number `first` on are clean, and busy no more: some, in one section. The next one. */
function clean_some(store: Backing, o: vm_object_t, ms: readonly number[], first: number): number {
  const end = Math.min(first + STEP, ms.length);
  let k = first;
  undo_begin(object.lock, o);
  do {
    const m = ms[k++];
    save(page.state, m);
    page.state[m] &= ~PAGE_DIRTY;
    store.written(o, m);
    vm_page_unbusy(m);
  } while (k < end && store.joins(ms[k]));
  undo_end();
  for (let i = first; i < k; i++) page_flash(ms[i]);
  if (k < ms.length && !store.joins(ms[k])) store.settle(o, false);
  return k;
}
