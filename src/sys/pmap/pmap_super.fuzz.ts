/*
 * pmap_super (fuzz): superpages come and go under seeded operations, beside a model.
 *
 * Two pmaps map the same run of 1024 pages, each at its own page number.  Again and again the run
 * is completed, until it must be a superpage; then a few operations follow, of a part, of the
 * whole, by page or by page number, and after each the model says whether it must be one still,
 * what each page number leads to, and how many demotions were counted.
 */
import assert from 'node:assert/strict';
import { boot, shutdown } from '../boot/whole.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { mem } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import {
  pmap,
  type pmap_t,
  SUPER_STORES,
  SUPER_TAGS,
  TABLE_ENTRIES,
  TABLE_SHIFT,
} from '../h/pmap.ts';
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import { VM_PROT_NONE, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { vm_object_allocate, vm_object_deallocate } from '../object/vm_object.ts';
import { object_cluster_alloc } from '../object/vm_object_cluster.ts';
import { object_page_filled, object_page_wakeup } from '../object/vm_object_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import {
  pmap_change_wiring,
  pmap_clear_modify,
  pmap_enter,
  pmap_pinit,
  pmap_protect,
  pmap_remove,
  pmap_remove_all,
  pmap_remove_page,
  pmap_remove_write,
  pmap_remove_write_all,
  pmap_translate,
  pmap_ts_referenced,
} from './pmap.ts';
import { down, mapped, pages } from './pmap.fuzz.ts';
import { pmap_check } from './pmap_check.ts';
import { super_is } from './pmap_super.ts';
import { tlb_supers } from './pmap_tlb.ts';

const RW = VM_PROT_READ | VM_PROT_WRITE;
const WAIT_MS = 20_000;
const N = TABLE_ENTRIES;
/** Page numbers at which the pmaps map the run: not the same, and with tables beside it. */
const AT = [5 * N, 9 * N];

/** An object with 1024 pages that lie side by side, busy by nobody. Its first page. */
export function run_of_pages(): { o: vm_object_t; first: number } {
  const o = vm_object_allocate(OBJT_DEFAULT, N);
  mtx_lock(vm_object.lock, o);
  const ms = object_cluster_alloc(o, 0, 0, N - 1);
  assert.equal(ms.length, N, 'memory for a run');
  for (const m of ms) {
    object_page_filled(m, o);
    object_page_wakeup(m, o);
  }
  mtx_unlock(vm_object.lock, o);
  assert.equal(ms[N - 1] - ms[0], N - 1, 'side by side');
  return { o, first: ms[0] };
}
/** What a counter of superpages says. */
export function pde(name: 'promotions' | 'demotions' | 'mappings' | 'p_failures'): number {
  const c = counters.find((k) => k.name === `vm.pmap.pde.${name}`);
  assert.ok(c);
  return counter_get(c);
}
/** Whether page number `at` lies in a superpage. */
export function is_super(pm: pmap_t, at: number): boolean {
  mtx_lock(pmap.lock, pm);
  const is = super_is(pm, at);
  mtx_unlock(pmap.lock, pm);
  return is;
}

interface Mapped {
  m: number;
  write: boolean;
  wired: boolean;
}
/** One pmap, and what it should be. */
class Twin {
  readonly pm: pmap_t;
  readonly at: number;
  readonly first: number;
  readonly there: (Mapped | undefined)[] = new Array<Mapped | undefined>(N).fill(undefined);
  is = false;

  constructor(pm: pmap_t, at: number, first: number) {
    this.pm = pm;
    this.at = at;
    this.first = first;
  }
  /** Completes the run: afterwards it is a superpage. How many operations that took. */
  complete(): number {
    let n = 1;
    for (let k = 0; k < N; k++) {
      const m = this.first + k;
      const had = this.there[k];
      const same = had?.m === m && had.write && !had.wired;
      if (same && vm_page.ref[m] !== 0 && vm_page.mod[m] !== 0) continue;
      if (had !== undefined && !same) this.parts();
      assert.ok(pmap_enter(this.pm, this.at + k, m, RW, false, VM_PROT_WRITE));
      this.there[k] = { m, write: true, wired: false };
      n++;
    }
    if (!this.is) assert.ok(pmap_enter(this.pm, this.at, this.first, RW));
    this.is = true;
    this.proves();
    return n;
  }
  /** A part of it changes: it is no superpage any more. */
  parts(): void {
    if (this.is) demotions++;
    this.is = false;
  }
  /** It may be one now, if what it has is a row that was used alike. */
  retries(): void {
    const head = this.there[0];
    if (this.is || head === undefined) return;
    const { write, wired, m } = head;
    const mod = vm_page.mod[m];
    for (let k = 0; k < N; k++) {
      const t = this.there[k];
      if (t?.m !== m + k || t.write !== write || t.wired !== wired) return;
      if (vm_page.ref[m + k] === 0 || (write && vm_page.mod[m + k] !== mod)) return;
    }
    if (write && mod === 0 && wired) return;
    if (write && mod === 0) for (const t of this.there) if (t) t.write = false;
    this.is = true;
  }
  proves(): void {
    assert.equal(is_super(this.pm, this.at), this.is, 'a superpage');
  }
  /** Compares one page number. */
  looks(k: number): void {
    assert.deepEqual(mapped(this.pm, this.at + k), this.there[k]);
  }
}
let demotions = 0;
type Draw = (n: number) => number;

/** An operation by page number on one of the pmaps. */
function by_number(draw: Draw, t: Twin, others: readonly number[]): void {
  const { pm, at } = t;
  const k = draw(N);
  const n = draw(4) === 0 ? N : 1 + draw(N - k);
  const from = n === N ? 0 : k;
  const part = (): void => (n === N ? undefined : t.parts());
  const what = draw(100);
  if (what < 20) {
    const write = draw(2) === 0;
    const may = t.there[k] !== undefined && (t.there[k].write || !write);
    const m = t.there[k]?.m ?? 0;
    const first = vm_page.ref[m] === 0 || (write && vm_page.mod[m] === 0);
    assert.equal(pmap_translate(pm, at + k, write), may ? m << 10 : 0);
    if (may) tag_is(t, k, write);
    if (may && first) t.retries();
  } else if (what < 40) {
    const m = draw(3) === 0 ? others[draw(others.length)] : t.first + k;
    const next = { m, write: draw(2) === 0, wired: draw(6) === 0 };
    const access = [0, VM_PROT_READ, VM_PROT_WRITE][draw(3)];
    const had = t.there[k];
    const same = had?.m === m && had.write === next.write && had.wired === next.wired;
    if (had !== undefined && !same) t.parts();
    t.there[k] = next;
    assert.ok(pmap_enter(pm, at + k, m, next.write ? RW : VM_PROT_READ, next.wired, access));
    t.retries();
  } else if (what < 50) {
    const wired = draw(2) === 0;
    const had = t.there[k];
    pmap_change_wiring(pm, at + k, wired);
    if (had === undefined || had.wired === wired) return;
    t.parts();
    had.wired = wired;
    t.retries();
  } else if (what < 65) {
    pmap_remove(pm, at + from, at + from + n);
    part();
    t.is = false;
    t.there.fill(undefined, from, from + n);
  } else if (what < 85) {
    const prot = [VM_PROT_NONE, VM_PROT_READ, VM_PROT_READ, RW][draw(4)];
    assert.equal(pmap_protect(pm, at + from, at + from + n, prot, WAIT_MS), -1);
    if (prot === RW) return;
    part();
    if (prot === VM_PROT_NONE) t.is = false;
    for (let i = from; i < from + n; i++) {
      const had = t.there[i];
      if (prot === VM_PROT_NONE) t.there[i] = undefined;
      else if (had) had.write = false;
    }
  } else if (what < 90) {
    const had = t.there[k];
    const m = t.first + k;
    const goes = had?.m === m && !had.wired;
    assert.equal(pmap_remove_page(pm, at + k, m), goes);
    if (!goes) return;
    t.parts();
    t.there[k] = undefined;
  } else for (let i = 0; i < 20; i++) t.looks(draw(N));
}
/** After a translation in a superpage this CPU has a tag for all of it. */
function tag_is(t: Twin, k: number, write: boolean): void {
  const supers = tlb_supers(t.pm);
  if (!t.is || supers === 0) return;
  const key = (t.at + k) >>> TABLE_SHIFT;
  const tag = supers + (key & (SUPER_TAGS - 1)) * 2 + (write ? SUPER_STORES : 0);
  const head = t.there[0] as Mapped;
  assert.deepEqual([mem.I32[tag], mem.I32[tag + 1]], [key, head.m << 10]);
}
/** An operation by page, on all that map it. */
function by_page(draw: Draw, twins: readonly Twin[], first: number): void {
  const k = draw(N);
  const m = first + k;
  const mine = twins.filter((t) => t.there[k]?.m === m);
  const what = draw(5);
  if (what === 0) {
    pmap_remove_all(m);
    for (const t of mine) {
      t.parts();
      t.there[k] = undefined;
    }
  } else if (what <= 2) {
    if (what === 1) assert.equal(pmap_remove_write(m, WAIT_MS), -1);
    else assert.equal(pmap_remove_write_all([m], WAIT_MS), -1);
    for (const t of mine) {
      const had = t.there[k] as Mapped;
      if (had.write) t.parts();
      had.write = false;
    }
  } else if (what === 3) {
    pmap_clear_modify(m);
    for (const t of mine) if (t.there[k]?.write) t.parts();
  } else {
    const noted = vm_page.ref[m] !== 0;
    assert.ok(pmap_ts_referenced(m) || !noted);
    assert.equal(vm_page.ref[m], 0);
  }
}
/** About so many operations, in a machine that is up; the walker proves it all now and then. */
export function play_super(steps: number, seed: number, check_each: number): void {
  const { o, first } = run_of_pages();
  const { o: other, all } = pages(4);
  const twins = AT.map((at) => new Twin(pmap_pinit(), at, first));
  const draw = dice(seed);
  const [before, promoted] = [pde('demotions'), pde('promotions')];
  demotions = 0;
  const check = (): void => {
    for (const t of twins) {
      for (let k = 0; k < N; k++) t.looks(k);
      pmap_check(t.pm);
      t.proves();
    }
    assert.equal(pde('demotions') - before, demotions);
  };
  let next = check_each;
  for (let i = 0; i < steps; ) {
    i += twins[draw(2)].complete();
    for (let n = draw(6); n >= 0; n--, i++) {
      if (draw(4) > 0) by_number(draw, twins[draw(2)], all);
      else by_page(draw, twins, first);
      for (const each of twins) each.proves();
    }
    if (i < next) continue;
    check();
    next = i + check_each;
  }
  check();
  assert.ok(pde('promotions') > promoted);
  for (const t of twins) pmap_remove(t.pm, 0, 2 ** 31 - 1);
  vm_object_deallocate(other);
  down(
    twins.map((t) => t.pm),
    o,
  );
}
/** For `npm run fuzz`: a machine of its own. */
export function run(seed: number, steps: number): void {
  const options = { INVARIANTS: true };
  boot({ cpus: 2, fresh: true, memory: '8M', options, set: { 'vm.pmap.pg_ps_enabled': 1 } });
  play_super(steps, seed, Math.max(1000, steps / 100));
  shutdown();
}
