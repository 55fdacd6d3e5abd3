/*
 * page_owner: the smallest owner of pages that finds them by an index.
 *
 * A table of page numbers behind a lock of recovery class `undo`, in a page of its own:
 * what a memory object is to vm_page_busy.ts, without the object.  Its line for the
 * reaper is that of a real owner: a page belongs to nobody unless the table leads to it.
 */
import '../boot/whole.ts'; // the tables of life are filled
import { life } from '../machine/life.ts';
import { M, machine, ROOT_TEST } from '../machine/header.ts';
import { hw, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { elem, i32, lock_words, type Ptr, struct, words } from '../machine/struct.ts';
import { PK_MASK, PK_OBJECT, VM_ALLOC_SYSTEM, VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_REGISTRY } from '../sync/lock_order.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { vm_page_alloc, vm_page_wire } from './vm_page.ts';
import {
  vm_page_alloc_busy,
  vm_page_busy,
  vm_page_free_busy,
  vm_page_unbusy,
} from './vm_page_busy.ts';

export type owner_t = Ptr<'test_owner'>;
/** Pages that an owner has room for. */
export const OWNED_MAX = 64;
/* Locks: (s) the lock */
export const owner = struct<owner_t>('test_owner')({
  lock: lock_words(MTX_WORDS, 'registry', 'the table'),
  count: i32('s', 'pages in the table'),
  pages: words('s', 'page numbers by index, 0: none', OWNED_MAX),
});

// How the reaper sees that a page has no owner, in every thread that imports this: pages of
// memory objects are theirs, as ever.
const lines = life.page_unowned as Map<number, (m: number) => boolean>;
const of_objects = lines.get(PK_OBJECT);
lines.set(PK_OBJECT, (m) => {
  const o = vm_page.owner[m] as owner_t;
  if (o !== the_owner()) return of_objects?.(m) ?? true;
  return owner.pages[elem(o, vm_page.index[m])] !== m;
});
/** Makes the owner, where every thread finds it. */
export function owner_make(): owner_t {
  const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
  vm_page_wire(m, 1);
  hw.fill(page_word(m), 0, PAGE_WORDS);
  machine.roots[elem(M, ROOT_TEST)] = page_word(m);
  mtx_init(owner.lock, the_owner(), LC_REGISTRY);
  return the_owner();
}
export function the_owner(): owner_t {
  return machine.roots[elem(M, ROOT_TEST)] as owner_t;
}

/** A new page for place `i`, busy and not entered yet; 0: there is none. */
export function page_for(i: number, zero: boolean): number {
  return vm_page_alloc_busy(PK_OBJECT, the_owner(), i, zero ? VM_ALLOC_ZERO : 0);
}
/** Enters a busy page. False: the place is taken. */
export function page_enter(m: number): boolean {
  const o = the_owner();
  const at = elem(o, vm_page.index[m]);
  mtx_lock(owner.lock, o);
  const free = owner.pages[at] === 0;
  if (free) {
    undo_begin(owner.lock, o);
    save(owner.pages, at);
    owner.pages[at] = m;
    save(owner.count, o);
    owner.count[o]++;
    vm_page_unbusy(m);
    undo_end();
  }
  mtx_unlock(owner.lock, o);
  return free;
}
/** Takes the page of place `i` out of the table: busy from then on. 0: none, or somebody has it. */
export function page_leave(i: number): number {
  const o = the_owner();
  const at = elem(o, i);
  mtx_lock(owner.lock, o);
  const m = owner.pages[at];
  const mine = m !== 0 && vm_page.busy[m] === 0;
  if (mine) {
    undo_begin(owner.lock, o);
    save(owner.pages, at);
    owner.pages[at] = 0;
    save(owner.count, o);
    owner.count[o]--;
    vm_page_busy(m);
    undo_end();
  }
  mtx_unlock(owner.lock, o);
  return mine ? m : 0;
}
/** Has the page of place `i` busy without taking it out, and does something to it. */
export function page_work(i: number, work: (m: number) => void): void {
  const o = the_owner();
  const at = elem(o, i);
  const change = (to: 'busy' | 'not'): number => {
    mtx_lock(owner.lock, o);
    const m = owner.pages[at];
    const ok = m !== 0 && (to === 'not' || vm_page.busy[m] === 0);
    if (ok) {
      undo_begin(owner.lock, o);
      if (to === 'busy') vm_page_busy(m);
      else vm_page_unbusy(m);
      undo_end();
    }
    mtx_unlock(owner.lock, o);
    return ok ? m : 0;
  };
  const m = change('busy');
  if (m === 0) return;
  work(m);
  change('not');
}
/** Gives back what page_for or page_leave gave. */
export function page_drop(m: number, zero = false): void {
  vm_page_free_busy(m, zero);
}

/** What is wrong with the owner while nobody uses it; '' if nothing. */
export function owner_wrong(): string {
  const o = the_owner();
  let n = 0;
  for (let i = 0; i < OWNED_MAX; i++) {
    const m = owner.pages[elem(o, i)];
    if (m === 0) continue;
    n++;
    if ((vm_page.info[m] & PK_MASK) !== PK_OBJECT) return `page ${m} of place ${i} is no object's`;
    if (vm_page.owner[m] !== o || vm_page.index[m] !== i) return `page ${m}: not of place ${i}`;
    if (vm_page.busy[m] !== 0) return `page ${m} of place ${i} is busy by ${vm_page.busy[m]}`;
  }
  return n === owner.count[o] ? '' : `${n} pages, ${owner.count[o]} counted`;
}
