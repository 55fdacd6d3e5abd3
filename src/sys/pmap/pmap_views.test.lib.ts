/*
 * Test driver: pages of one object, mapped by two pmaps, that say which page they are.
 *
 * Page i of the object is mapped as page number first + i * stride, and nowhere else; it holds i in
 * its first words.  Whoever reads another number through a translation has used one whose page
 * was freed and is another page by now.  Between the look at the tag and the access the driver
 * dawdles, as a slow CPU would.
 *
 * A third word is counted up through stores only: while the right to write is taken away
 * everywhere it must stand still.
 *
 * As a superpage there are 1024 pages side by side in one table: accesses go by the
 * tag of all of them, too, and from time to time the run is made anew and mapped whole.
 */
import assert from 'node:assert/strict';
import '../boot/whole.ts';
import { atomic_and, sim_point } from '../machine/atomic.ts';
import { CPU_REQ_TLB, cpu_slots, cpu_state_word, pcpu, thr } from '../machine/cpu.ts';
import { M, machine, ROOT_TEST } from '../machine/header.ts';
import { hw, mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { elem, lock_words, NULL, type Ptr, struct, words } from '../machine/struct.ts';
import {
  type pmap_t,
  pmap,
  SUPER_STORES,
  SUPER_TAGS,
  TABLE_ENTRIES,
  TABLE_SHIFT,
  TLB_ENTRIES,
  TLB_STORES,
} from '../h/pmap.ts';
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PK_LIMBO, PK_OBJECT, PK_TABLE, VM_ALLOC_SYSTEM, vm_page } from '../h/vm_page.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import {
  object_page,
  object_page_alloc,
  object_page_filled,
  object_page_free,
  object_page_seen,
  object_page_wakeup,
} from '../object/vm_object_page.ts';
import { object_cluster_alloc } from '../object/vm_object_cluster.ts';
import { vm_object_allocate, vm_object_anchor } from '../object/vm_object.ts';
import { vm_object_deallocate, vm_object_unanchor } from '../object/vm_object.ts';
import { vm_object_check } from '../object/vm_object_check.ts';
import { vm_page_alloc, vm_page_census, vm_page_check, vm_page_wire } from '../page/vm_page.ts';
import { vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_REGISTRY } from '../sync/lock_order.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { uma_check } from '../uma/uma_check.ts';
import { item_in_hand, item_settle } from '../uma/uma_keg.ts';
import {
  pmap_enter,
  pmap_pinit,
  pmap_protect,
  pmap_release,
  pmap_remove,
  pmap_translate,
  pmap_ts_referenced,
} from './pmap.ts';
import { pmap_check } from './pmap_check.ts';
import { tlb_base, tlb_supers } from './pmap_tlb.ts';

/** Pages, page number of the first, and from one to the next: two tables, and tags that collide. */
const SINGLE = { pages: 24, first: 0, stride: 128 };
const SUPER = { pages: TABLE_ENTRIES, first: 3 * TABLE_ENTRIES, stride: 1 };
const shape = (): typeof SINGLE => (mem.I32[super_word()] === 0 ? SINGLE : SUPER);
const at_of = (i: number): number => shape().first + i * shape().stride;
const end_of = (): number => at_of(shape().pages);
const PMAPS = 2;
const SILENT_MS = 20_000;

type views_t = Ptr<'test_views'>;
/* Locks: (s) the lock */
const views = struct<views_t>('test_views')({
  lock: lock_words(MTX_WORDS, 'registry', 'the table'),
  pmap: words('s', 'the pmaps', PMAPS),
  object: words('s', 'the object', 1),
  superpage: words('-', 'whether its pages are a superpage now and then', 1),
  stop: words('-', 'whether to stop, and operations done by all', 2),
});
function table(): views_t {
  return machine.roots[elem(M, ROOT_TEST)] as views_t;
}
export const stop_word = (): number => table() + (views.sizeof - 2);
export const done_word = (): number => stop_word() + 1;
const pmap_of = (i: number): pmap_t => mem.I32[table() + MTX_WORDS + i] as pmap_t;
const object_of = (): vm_object_t => mem.I32[table() + MTX_WORDS + PMAPS] as vm_object_t;

const super_word = (): number => stop_word() - 1;

/** Makes table, pmaps and object. False: no memory for all of it. */
export function views_make(superpage = false): boolean {
  const m = vm_page_alloc(-1, VM_ALLOC_SYSTEM);
  vm_page_wire(m, 1);
  hw.fill(page_word(m), 0, PAGE_WORDS);
  machine.roots[elem(M, ROOT_TEST)] = page_word(m);
  mtx_init(views.lock, table(), LC_REGISTRY);
  mem.I32[super_word()] = Number(superpage);
  for (let i = 0; i < PMAPS; i++) {
    const pm = pmap_pinit();
    if (pm === NULL) return false;
    set(() => {
      save(views.pmap, elem(table(), i));
      save(pcpu.in_hand_items, thr.pc);
      views.pmap[elem(table(), i)] = pm;
      item_settle();
    });
  }
  const o = vm_object_allocate(OBJT_DEFAULT, shape().pages);
  if (o === NULL) return false;
  set(() => {
    save(views.object, table());
    views.object[table()] = o;
    vm_object_anchor(o);
  });
  return true;
}
function set(change: () => void): void {
  mtx_lock(views.lock, table());
  undo_begin(views.lock, table());
  change();
  undo_end();
  mtx_unlock(views.lock, table());
}

/** Maps page i by a pmap; the page is made if there is none. False: no memory. */
export function view_map(p: number, i: number, write: boolean): boolean {
  const o = object_of();
  mtx_lock(vm_object.lock, o);
  let m = object_page_seen(o, i);
  let done = m === 0 || vm_page.busy[m] === 0;
  if (m === 0) {
    m = object_page_alloc(o, i, 0);
    done = m !== 0;
    if (done) {
      mem.I32.fill(i, page_word(m), page_word(m) + 2);
      mem.I32[page_word(m) + 2] = 0;
      object_page_filled(m, o);
      object_page_wakeup(m, o);
    }
  }
  const prot = write ? VM_PROT_READ | VM_PROT_WRITE : VM_PROT_READ;
  if (done) done = pmap_enter(pmap_of(p), at_of(i), m, prot);
  mtx_unlock(vm_object.lock, o);
  return done;
}
export function view_unmap(p: number, i: number, n: number): void {
  pmap_remove(pmap_of(p), at_of(i), at_of(i + n - 1) + 1);
}
/** Frees page i, whoever maps it. */
export function view_free(i: number): void {
  const o = object_of();
  mtx_lock(vm_object.lock, o);
  const m = object_page(o, i);
  if (m !== 0 && vm_page.busy[m] === 0) object_page_free(m, o);
  mtx_unlock(vm_object.lock, o);
}
/** Asks whether page i was used. */
export function view_sample(i: number): void {
  const o = object_of();
  mtx_lock(vm_object.lock, o);
  const m = object_page(o, i);
  if (m !== 0) pmap_ts_referenced(m);
  mtx_unlock(vm_object.lock, o);
}
/** Takes the right to write away from all, and watches the pages. Nobody maps meanwhile. */
export function view_freeze(dawdle: number): void {
  const o = object_of();
  mtx_lock(vm_object.lock, o);
  let silent = -1;
  for (let p = 0; p < PMAPS; p++) {
    const cpu = pmap_protect(pmap_of(p), shape().first, end_of(), VM_PROT_READ, SILENT_MS);
    if (cpu >= 0) silent = cpu;
  }
  const before = silent < 0 ? stores(o) : 0;
  wait(dawdle);
  const after = silent < 0 ? stores(o) : 0;
  mtx_unlock(vm_object.lock, o);
  if (silent >= 0 && !opt.SIM) throw new Error(`cpu${silent} is silent`);
  if (before !== after) throw new Error(`${after - before} stores after the cut`);
}
/** Stores to all pages of the object. */
function stores(o: vm_object_t): number {
  let n = 0;
  for (let i = 0; i < shape().pages; i++) {
    const m = object_page_seen(o, i);
    if (m !== 0) n = (n + mem.I32[page_word(m) + 2]) | 0;
  }
  return n;
}
let sink = 0;
function wait(rounds: number): void {
  for (let i = 0; i < rounds; i++) sink = (sink + i) | 0;
}
/** An access as a program's: by the tag, or by a miss. False: nothing is mapped there. */
export function view_use(p: number, i: number, write: boolean, dawdle: number): boolean {
  const pm = pmap_of(p);
  const at = at_of(i);
  const base = tlb_base(pm);
  const tag = base + ((at & (TLB_ENTRIES - 1)) << 1) + (write ? TLB_STORES : 0);
  const hit = base !== 0 && mem.I32[tag] === at;
  const kept = hit ? mem.I32[tag + 1] : super_frame(pm, at, write);
  const frame = kept !== 0 ? kept : pmap_translate(pm, at, write);
  if (frame <= 0) return false;
  if (opt.SIM) sim_point(frame);
  wait(dawdle);
  if (write) mem.I32[frame + 2]++;
  const [a, b] = [mem.I32[frame], mem.I32[frame + 1]];
  if (a !== i || b !== i) throw new Error(`page ${i} says ${a} and ${b}: ${hit ? 'hit' : 'miss'}`);
  return true;
}
/** The frame by this CPU's tag of a superpage, 0: it has none. */
function super_frame(pm: pmap_t, at: number, write: boolean): number {
  const supers = tlb_supers(pm);
  const key = at >>> TABLE_SHIFT;
  const tag = supers + ((key & (SUPER_TAGS - 1)) << 1) + (write ? SUPER_STORES : 0);
  if (supers === 0 || mem.I32[tag] !== key) return 0;
  return mem.I32[tag + 1] + ((at & (TABLE_ENTRIES - 1)) << TABLE_SHIFT);
}
/** All pages of the object are new, and lie side by side, if there is memory for that. */
export function view_renew(): void {
  const o = object_of();
  mtx_lock(vm_object.lock, o);
  let busy = 0;
  for (let i = 0; i < shape().pages; i++) {
    const m = object_page(o, i);
    if (m === 0) continue;
    if (vm_page.busy[m] === 0) object_page_free(m, o);
    else busy++;
  }
  const ms = busy === 0 ? object_cluster_alloc(o, 0, 0, shape().pages - 1) : [];
  for (const m of ms) {
    mem.I32.fill(vm_page.index[m], page_word(m), page_word(m) + 2);
    mem.I32[page_word(m) + 2] = 0;
    object_page_filled(m, o);
    object_page_wakeup(m, o);
  }
  mtx_unlock(vm_object.lock, o);
}
/** Maps all pages by a pmap, and uses them. */
export function view_whole(p: number): void {
  for (let i = 0; i < shape().pages; i++) {
    if (!view_use(p, i, true, 0)) view_map(p, i, true);
    view_use(p, i, true, 0);
  }
}
/** One random operation on pages that are a superpage now and then. */
export function views_super_step(draw: (n: number) => number): void {
  const what = draw(100);
  const [p, i] = [draw(PMAPS), draw(shape().pages)];
  if (what < 87) views_use(draw);
  else if (what < 90) view_map(p, i, draw(2) === 0);
  else if (what < 92) view_unmap(p, i, 1 + draw(Math.min(4, shape().pages - i)));
  else if (what < 93) view_unmap(p, 0, shape().pages);
  else if (what < 94) view_free(i);
  else if (what < 95) for (let k = 0; k < shape().pages; k += 1 + draw(100)) view_sample(k);
  else if (what < 97) view_freeze(draw(100_000));
  else {
    if (draw(3) === 0) view_renew();
    view_whole(p);
  }
}
function views_use(draw: (n: number) => number): void {
  for (let n = 0; n < 20; n++) {
    const p = draw(PMAPS);
    view_use(p, draw(shape().pages), draw(2) === 0, draw(64) === 0 ? draw(200_000) : 0);
  }
}
/** One random operation of those that threads do at once. */
export function views_step(draw: (n: number) => number): void {
  const what = draw(100);
  const [p, i] = [draw(PMAPS), draw(shape().pages)];
  if (what < 70) views_use(draw);
  else if (what < 84) view_map(p, i, draw(2) === 0);
  else if (what < 90) view_unmap(p, i, 1 + draw(shape().pages - i));
  else if (what < 98) view_free(i);
  else view_freeze(draw(200_000));
}
/** Proves pmaps, object and pages. The machine is quiet. */
export function views_check(): void {
  for (let p = 0; p < PMAPS; p++) {
    pmap_check(pmap_of(p), (at, m) => {
      assert.equal(at_of(vm_page.index[m]), at);
      assert.equal(mem.I32[page_word(m)], vm_page.index[m]);
    });
  }
  vm_object_check((o) => (o === object_of() ? 1 : 0));
}
/** Other CPUs answer, as their event loops would. */
function doorbells(): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) atomic_and(cpu_state_word(cpu), ~CPU_REQ_TLB);
}
/** Ends it all: no page, no table, no item is left. */
export function views_end(): void {
  for (let p = 0; p < PMAPS; p++) {
    const pm = pmap_of(p);
    pmap_remove(pm, shape().first, end_of());
    assert.equal(pmap.resident[pm], 0);
    set(() => {
      save(views.pmap, elem(table(), p));
      save(pcpu.in_hand_items, thr.pc);
      views.pmap[elem(table(), p)] = 0;
      item_in_hand(pm);
    });
    pmap_release(pm);
  }
  const o = object_of();
  set(() => {
    save(views.object, table());
    views.object[table()] = 0;
    vm_object_unanchor(o);
  });
  vm_object_deallocate(o);
  if (opt.SIM) doorbells();
  vm_page_limbo_free();
  const census = vm_page_census();
  assert.deepEqual([census[PK_OBJECT], census[PK_TABLE], census[PK_LIMBO]], [0, 0, 0]);
  vm_object_check(() => 0);
  uma_check();
  vm_page_check();
}
