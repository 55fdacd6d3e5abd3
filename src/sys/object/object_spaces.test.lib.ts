/*
 * object_spaces: the smallest user of memory objects, and a model of what it sees.
 *
 * A table of spaces, each one object seen from its page 0 on, behind a lock of recovery class
 * `undo`: what a map with one entry is.  Writing and reading go through the chain as a fault
 * does, without page tables: a page that is missing is copied from below or filled with
 * zeros.  fork() makes another space that sees the same.
 *
 * The model is an array for each space: what every page holds, a number from which each of its
 * words follows.  Threads that may be killed write the first and the last word alone, one right
 * after the other; `contents.whole` is for those who live.
 */
import assert from 'node:assert/strict';
import '../boot/whole.ts';
import { M, machine, ROOT_TEST } from '../machine/header.ts';
import { host_sleep } from '../machine/host.ts';
import { hw, mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { elem, lock_words, NULL, type Ptr, struct, words } from '../machine/struct.ts';
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PG_ZERO, PK_OBJECT, VM_ALLOC_SYSTEM, VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import {
  pmap_copy_page,
  pmap_zero_page,
  vm_page_alloc,
  vm_page_census,
  vm_page_check,
  vm_page_wire,
} from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import { pmap_remove_all } from '../pmap/pmap.ts';
import { vm_page_activate } from '../page/vm_pageq.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_REGISTRY } from '../sync/lock_order.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import {
  object_pip_add,
  object_pip_done,
  vm_object_allocate,
  vm_object_anchor,
  vm_object_deallocate,
  vm_object_reference,
  vm_object_unanchor,
} from './vm_object.ts';
import { vm_object_collapse, vm_object_shadow } from './vm_object_chain.ts';
import { objects_all, vm_object_check } from './vm_object_check.ts';
import {
  object_page,
  object_page_alloc,
  object_page_filled,
  object_page_grab,
  object_page_seen,
  object_page_wakeup,
  vm_page_sleep_if_busy,
} from './vm_object_page.ts';

const object = vm_object;
export const SPACES = 48;
/** Pages of a space. */
export const SPACE_PAGES = 100;

/** Whether all words of a page are written and looked at, or the first and the last. */
export const contents = { whole: false };
/** Word `j` of a page that holds `value`: of the two that others write, the value itself. */
function word_of(value: number, j: number): number {
  return contents.whole ? Math.imul(value, 2 * j + 1) : value;
}
/** Writes a value to page m. */
export function contents_write(m: number, value: number): void {
  const at = page_word(m);
  const end = at + PAGE_WORDS - 1;
  const last = word_of(value, PAGE_WORDS - 1);
  for (let j = 0; contents.whole && j < PAGE_WORDS; j++) mem.I32[at + j] = word_of(value, j);
  const words = mem.I32;
  words[at] = value; // side by side: a thread is killed at a call or in a loop
  words[end] = last;
}
/** What page m holds; -1: its words are of two minds. */
export function contents_read(m: number): number {
  const at = page_word(m);
  const value = mem.I32[at];
  const step = contents.whole ? 1 : PAGE_WORDS - 1;
  for (let j = 0; j < PAGE_WORDS; j += step) if (mem.I32[at + j] !== word_of(value, j)) return -1;
  return value;
}

type spaces_t = Ptr<'test_spaces'>;
/* Locks: (s) the lock */
const spaces = struct<spaces_t>('test_spaces')({
  lock: lock_words(MTX_WORDS, 'registry', 'the table'),
  object: words('s', 'object of each space, 0: none', SPACES),
  stop: words('-', 'whether to stop, and operations done by all', 2),
});
function table(): spaces_t {
  return machine.roots[elem(M, ROOT_TEST)] as spaces_t;
}
export const stop_word = (): number => table() + (spaces.sizeof - 2);
export const done_word = (): number => stop_word() + 1;
/** Makes the table, where every thread finds it. */
export function spaces_make(): void {
  const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
  vm_page_wire(m, 1);
  hw.fill(page_word(m), 0, PAGE_WORDS);
  machine.roots[elem(M, ROOT_TEST)] = page_word(m);
  mtx_init(spaces.lock, table(), LC_REGISTRY);
}
/** What a dead thread had begun to change in the table is undone. */
export function spaces_settle(): void {
  mtx_lock(spaces.lock, table());
  mtx_unlock(spaces.lock, table());
}
/** The object of a space. Its own thread's, so that nobody changes it meanwhile. */
export function space_object(s: number): vm_object_t {
  return mem.I32[table() + MTX_WORDS + s] as vm_object_t;
}
function set(s: number, o: vm_object_t, was: vm_object_t): void {
  const t = table();
  mtx_lock(spaces.lock, t);
  undo_begin(spaces.lock, t);
  save(spaces.object, elem(t, s));
  spaces.object[elem(t, s)] = o;
  if (o !== NULL) vm_object_anchor(o);
  if (was !== NULL) vm_object_unanchor(was);
  undo_end();
  mtx_unlock(spaces.lock, t);
}
/** A new space. False: no memory. */
export function space_make(s: number): boolean {
  const o = vm_object_allocate(OBJT_DEFAULT, SPACE_PAGES);
  if (o === NULL) return false;
  set(s, o, NULL as vm_object_t);
  return true;
}
/** An object to which a reference is in hand becomes a space's. */
export function space_adopt(s: number, o: vm_object_t): void {
  set(s, o, NULL as vm_object_t);
}
export function space_drop(s: number): void {
  const o = space_object(s);
  set(s, NULL as vm_object_t, o);
  vm_object_deallocate(o);
}
/** Space `to` sees what `from` sees. False: no memory, and nothing has changed. */
export function space_fork(from: number, to: number): boolean {
  const o = space_object(from);
  vm_object_reference(o);
  set(to, o, NULL as vm_object_t);
  return true;
}
/** What a fault does before a write: if others see the object, the space gets a shadow. */
function own(s: number): boolean {
  const o = space_object(s);
  vm_object_reference(o);
  // The space's own reference is the one in hand and the table's at once, for a moment.
  mtx_lock(object.lock, o);
  const shared = object.refs[o] > 2;
  mtx_unlock(object.lock, o);
  if (!shared) {
    vm_object_deallocate(o);
    return true;
  }
  const shadow = vm_object_shadow(o, 0, SPACE_PAGES);
  if (shadow === NULL) {
    vm_object_deallocate(o);
    return false;
  }
  set(s, shadow, o);
  vm_object_deallocate(o);
  return true;
}
/** The page that is seen at `i` below the locked object o, with its object locked; or 0. */
function below(o: vm_object_t, i: number): { m: number; of: vm_object_t } {
  let at = i;
  let of = o;
  for (;;) {
    const next = object.backing[of];
    if (next !== NULL) {
      at += object.backing_offset[of];
      mtx_lock(object.lock, next);
    }
    if (of !== o) mtx_unlock(object.lock, of);
    if (next === NULL) return { m: 0, of: next };
    of = next;
    const m = object_page_seen(of, at);
    if (m !== 0) return { m, of };
  }
}
/** Writes a value to page `i` of a space. False: no memory, and nothing has changed. */
export function space_write(s: number, i: number, value: number): boolean {
  if (!own(s)) return false;
  const done = object_write(space_object(s), i, value);
  if ((value & 7) === 0) collapse(s);
  return done;
}
/**
 * Writes a value to page `i` of an object that is the writer's own; before that `first` is called
 * with the page, the object locked.  False: no memory, or `first` said so, and nothing is written.
 */
export function object_write(
  o: vm_object_t,
  i: number,
  value: number,
  first: (m: number) => boolean = () => true,
): boolean {
  mtx_lock(object.lock, o);
  for (;;) {
    const there = object_page_seen(o, i);
    if (there !== 0 && vm_page_sleep_if_busy(there, o)) continue;
    const m = there !== 0 ? there : fault(o, i);
    if (m === -1) continue;
    const done = m !== 0 && first(m);
    if (done) {
      contents_write(m, value);
      vm_page_activate(m);
    }
    mtx_unlock(object.lock, o);
    return done;
  }
}
function collapse(s: number): void {
  const o = space_object(s);
  vm_object_reference(o);
  vm_object_collapse(o);
  vm_object_deallocate(o);
}
/** A page for the locked object: a copy from below, or zeros. 0: no memory; -1: look again. */
function fault(o: vm_object_t, i: number): number {
  const from = below(o, i);
  if (from.m !== 0 && vm_page.busy[from.m] !== 0) {
    mtx_unlock(object.lock, o);
    vm_page_sleep_if_busy(from.m, from.of);
    mtx_unlock(object.lock, from.of);
    mtx_lock(object.lock, o);
    return -1;
  }
  const m = object_page_alloc(o, i, 0);
  if (m !== 0 && from.m !== 0) {
    pmap_copy_page(from.m, m);
    // Others who see this object through another map still read the page below.
    if (object.refs[o] > 1) pmap_remove_all(from.m);
  }
  if (from.m !== 0) mtx_unlock(object.lock, from.of);
  if (m === 0) return 0;
  // Busy and paging while nothing is locked, as a page that comes from a store is.
  object_pip_add(o);
  mtx_unlock(object.lock, o);
  if (from.m === 0 && (vm_page.flags[m] & PG_ZERO) === 0) pmap_zero_page(m);
  mtx_lock(object.lock, o);
  object_pip_done(o);
  object_page_filled(m, o);
  object_page_wakeup(m, o);
  return m;
}
/** What page `i` of a space holds; -1: its words are of two minds. */
export function space_read(s: number, i: number): number {
  return object_read(space_object(s), i);
}
/**
 * What is seen as page `i` of an object; -1: its words are of two minds.  `then` is called with
 * the page, if there is one, its object locked.
 */
export function object_read(o: vm_object_t, i: number, then?: (m: number) => void): number {
  mtx_lock(object.lock, o);
  for (;;) {
    let m = object_page_seen(o, i);
    let of = o;
    if (m === 0) ({ m, of } = below(o, i));
    if (m !== 0 && vm_page.busy[m] !== 0) {
      if (of !== o) mtx_unlock(object.lock, o);
      vm_page_sleep_if_busy(m, of);
      if (of !== o) {
        mtx_unlock(object.lock, of);
        mtx_lock(object.lock, o);
      }
      continue;
    }
    const value = m === 0 ? 0 : contents_read(m);
    if (m !== 0) then?.(m);
    if (m !== 0 && of !== o) mtx_unlock(object.lock, of);
    mtx_unlock(object.lock, o);
    return value;
  }
}
/** Objects below that of a space, itself included. */
export function space_depth(s: number): number {
  let n = 0;
  for (let o = space_object(s); o !== NULL; o = object.backing[o]) n++;
  return n;
}
/** Proves all objects; the table is the only record that leads to some. */
export function spaces_check(): void {
  const refs = new Map<number, number>();
  for (let s = 0; s < SPACES; s++) {
    const o = space_object(s);
    if (o !== NULL) refs.set(o, (refs.get(o) ?? 0) + 1);
  }
  vm_object_check((o) => refs.get(o) ?? 0);
}
/** The model: what each page of each space holds. */
export type SpacesModel = Map<number, number[]>;
/** One random operation on the spaces of a range, and on their model. Throws if they differ. */
export function spaces_step(
  draw: (n: number) => number,
  model: SpacesModel,
  first: number,
  count: number,
): void {
  const s = first + draw(count);
  const has = model.get(s);
  const what = draw(100);
  if (has === undefined) {
    const from = first + draw(count);
    const seen = model.get(from);
    if (seen !== undefined && space_fork(from, s)) model.set(s, [...seen]);
    else if (seen === undefined && space_make(s)) model.set(s, new Array(SPACE_PAGES).fill(0));
    return;
  }
  const i = draw(SPACE_PAGES);
  if (what < 50) {
    const value = 1 + draw(2 ** 30);
    if (space_write(s, i, value)) has[i] = value;
  } else if (what < 85) {
    const got = space_read(s, i);
    if (got !== has[i]) throw new Error(`space ${s} page ${i} holds ${got}, not ${has[i]}`);
  } else if (what < 92) {
    space_drop(s);
    model.delete(s);
  } else if (what < 98) space_work(s, i);
}
/** Has a page of the space's object busy for a while, if there is one, with nothing locked. */
function space_work(s: number, i: number): void {
  const o = space_object(s);
  mtx_lock(object.lock, o);
  if (object_page(o, i) !== 0) {
    const m = object_page_grab(o, i, VM_ALLOC_ZERO);
    if (m !== 0) {
      object_pip_add(o);
      mtx_unlock(object.lock, o);
      host_sleep(0.1);
      mtx_lock(object.lock, o);
      object_pip_done(o);
      object_page_wakeup(m, o);
    }
  }
  mtx_unlock(object.lock, o);
}
/** Every space is dropped: nothing is left. */
export function spaces_end(): void {
  for (let s = 0; s < SPACES; s++) if (space_object(s) !== 0) space_drop(s);
  assert.deepEqual(objects_all(), []);
  assert.equal(vm_page_census()[PK_OBJECT], 0);
  spaces_check();
  uma_check();
  vm_page_check();
}
