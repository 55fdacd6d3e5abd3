/*
 * vm_pageq (fuzz): the same seeded operations on the queues of pages and on arrays.
 *
 * The pages of one object are activated, deactivated, cached, requeued, taken off, wired and
 * unwired, some of them off their queues for it, alone and several at a time, grow older, and are
 * met at the heads of queues, where some cannot be had.  Now and then, and at the end, every queue
 * has its pages in the order that its array has, every page its wirings and its activity, and the
 * walker proves links and counts.
 */
import { boot } from '../boot/whole.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { mem, page_word } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { vm_object } from '../h/vm_object.ts';
import { vm_page } from '../h/vm_page.ts';
import {
  ACT_INIT,
  PQ_ACTIVE,
  PQ_CACHE,
  PQ_INACTIVE,
  PQ_NONE,
  page_act,
  page_lapped,
  page_queue,
  pageq_check,
  pageq_count,
  pageq_first,
  vm_page_activate,
  vm_page_age,
  vm_page_deactivate,
  vm_page_deactivate_all,
  vm_page_owner_unwire,
  vm_page_owner_wire,
  vm_page_requeue,
  vm_page_unqueue,
  vm_page_unqueue_wired,
  vm_page_unwire_run,
  vm_page_wire_run,
  vm_page_wirings,
} from '../page/vm_pageq.ts';
import { vm_page_counted, vm_page_unwire_list, vm_page_wire_list } from '../page/vm_page_wire.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { pager_use } from './pager_work.test.lib.ts';
import { test_pager_object } from './test_pager.test.lib.ts';
import { vm_object_deallocate } from './vm_object.ts';
import { object_page_cache } from './vm_object_cache.ts';

const PAGES = 200;
/** Between two comparisons of everything. */
const WALK = 1000;

function same(what: string, got: number, expected: number): void {
  if (got !== expected) throw new Error(`${what}: ${got}, the model says ${expected}`);
}
/** What the queues should be, as arrays of page numbers. */
class Model {
  readonly queues = new Map<number, number[]>([
    [PQ_INACTIVE, []],
    [PQ_ACTIVE, []],
    [PQ_CACHE, []],
  ]);
  readonly on = new Map<number, number>();
  readonly wired = new Map<number, number>();
  readonly act = new Map<number, number>();
  readonly lapped = new Set<number>();
  /** Those that count as used. */
  readonly used = new Set<number>();
  reactivated = 0;

  queue(q: number): number[] {
    return this.queues.get(q) as number[];
  }
  off(m: number): number {
    const q = this.on.get(m) ?? PQ_NONE;
    if (q === PQ_NONE) return q;
    const list = this.queue(q);
    list.splice(list.indexOf(m), 1);
    this.on.set(m, PQ_NONE);
    this.lapped.delete(m);
    return q;
  }
  put(m: number, q: number, first = false): void {
    this.lapped.delete(m);
    this.queue(q).splice(first ? 0 : this.queue(q).length, 0, m);
    this.on.set(m, q);
  }
  /** It moves to another queue because it is used. */
  use(m: number, q: number, first = false): void {
    if (this.on.get(m) === q) return;
    if (this.off(m) === PQ_CACHE) this.reactivated++;
    if (this.wirings(m) === 0) this.put(m, q, first);
  }
  wirings(m: number): number {
    return this.wired.get(m) ?? 0;
  }
  /** It stays where it is, unless it was as good as free. */
  wire(m: number): void {
    const n = this.wirings(m);
    if (n === 0 && this.on.get(m) === PQ_CACHE) {
      this.act.set(m, Math.max(this.act.get(m) ?? 0, ACT_INIT));
      this.use(m, PQ_ACTIVE);
    }
    this.wired.set(m, n + 1);
  }
  unwire(m: number, active: boolean): void {
    const n = this.wirings(m) - 1;
    this.wired.set(m, n);
    if (n > 0) return;
    if ((this.on.get(m) ?? PQ_NONE) === PQ_NONE) this.put(m, active ? PQ_ACTIVE : PQ_INACTIVE);
    else if (active) this.used.add(m);
    else this.use(m, PQ_INACTIVE);
  }
  /** To the end of its queue; that it went round stays. */
  again(m: number, lap: boolean): void {
    const lapped = lap || this.lapped.has(m);
    const q = this.off(m);
    if (q === PQ_NONE) return;
    this.put(m, q);
    if (lapped) this.lapped.add(m);
  }
}

/** What a scan does: it meets the first page of queue q, and has it if the coin says so. */
function first(model: Model, q: number, coin: boolean): void {
  const m = model.queue(q)[0] ?? 0;
  const asked: number[] = [];
  const got = pageq_first(q, (at) => asked.push(at) > 0 && coin);
  same('the first page', got, coin ? m : -m | 0);
  same('pages that were asked for', asked.length, m === 0 ? 0 : 1);
  if (m !== 0 && !coin) model.again(m, false);
}
/** Page m goes from one queue to another, if it is there. */
function age(model: Model, m: number, from: number, coin: boolean): void {
  const to = coin ? PQ_ACTIVE : PQ_INACTIVE;
  const act = m % 65;
  const there = model.on.get(m) === from;
  same('there', Number(vm_page_age(m, from, to, act)), Number(there));
  if (!there) return;
  model.off(m);
  model.put(m, to);
  model.act.set(m, act);
}

/** One operation on page m of the locked object, by its number. */
function operate(model: Model, m: number, what: number, coin: boolean, cache: () => void): void {
  const wired = model.wirings(m);
  if (what < 3) {
    vm_page_activate(m);
    model.lapped.delete(m);
    const there = model.on.get(m) === PQ_ACTIVE;
    if (wired === 0 || there) model.act.set(m, Math.max(model.act.get(m) ?? 0, ACT_INIT));
    model.use(m, PQ_ACTIVE);
  } else if (what < 6) {
    vm_page_deactivate(m, coin);
    if (wired === 0) model.use(m, PQ_INACTIVE, coin);
  } else if (what < 8) {
    vm_page_requeue(m, coin);
    model.again(m, coin);
  } else if (what < 9) {
    vm_page_unqueue(m);
    model.off(m);
    model.act.set(m, 0);
  } else if (what < 11) {
    vm_page_owner_wire(m);
    model.wire(m);
  } else if (what < 14) {
    if (wired === 0) return;
    vm_page_owner_unwire(m, coin);
    model.unwire(m, coin);
  } else if (what === 21) {
    same('off, because it is wired', Number(vm_page_unqueue_wired(m)), Number(wired > 0));
    if (wired > 0) model.off(m);
  } else if (what < 17) first(model, [PQ_INACTIVE, PQ_ACTIVE, PQ_CACHE][what - 14], coin);
  else if (what < 19) age(model, m, what === 17 ? PQ_ACTIVE : PQ_INACTIVE, coin);
  else cache();
}
/** The same of pages in any order. */
function listed(model: Model, ms: readonly number[]): void {
  const list = Int32Array.from(ms);
  const count = page_word(ms[0]);
  mem.I32[count] = 0;
  vm_page_wire_list(list, 0, list.length, count);
  same('wired and counted', vm_page_counted(count), list.length);
  for (const m of list) model.wire(m);
  for (const m of list) same(`wirings of ${m}`, vm_page_wirings(m), model.wirings(m));
  pageq_check();
  vm_page_unwire_list(list, 0, list.length, count);
  same('wired and counted', vm_page_counted(count), 0);
  for (const m of list.toReversed()) model.unwire(m, true);
}
/** Some of the pages, from place `k` on: to the inactive queue, or wired and not wired any more. */
function several(
  model: Model,
  pages: readonly number[],
  k: number,
  n: number,
  coin: boolean,
): void {
  const ms = pages.slice(k, k + n);
  if (coin) {
    vm_page_deactivate_all(ms);
    for (const m of ms) if (model.wirings(m) === 0) model.use(m, PQ_INACTIVE);
    return;
  }
  if (n % 2 === 0) return listed(model, k % 2 === 0 ? ms : ms.toReversed());
  const end = ms.findIndex((m, i) => m !== ms[0] + i);
  const run = end < 0 ? ms : ms.slice(0, end);
  const last = ms[0] + run.length - 1;
  const count = page_word(ms[0]);
  mem.I32[count] = 0;
  vm_page_wire_run(ms[0], run.length, count);
  same('wired and counted', mem.I32[count], run.length);
  for (const m of run.toReversed()) model.wire(m);
  for (const m of run) same(`queue of ${m}, wired`, page_queue(m), model.on.get(m) ?? PQ_NONE);
  pageq_check();
  vm_page_unwire_run(last, count);
  same('wired and counted', mem.I32[count], 0);
  for (const m of run) model.unwire(m, true);
}
function agree(model: Model, pages: readonly number[], reactivated: number): void {
  for (const [q, list] of model.queues) {
    same(`pages on queue ${q}`, pageq_count(q), list.length);
    for (const [i, m] of list.entries()) same(`behind ${m}`, vm_page.next[m], list[i + 1] ?? 0);
  }
  for (const m of pages) {
    same(`queue of ${m}`, page_queue(m), model.on.get(m) ?? PQ_NONE);
    same(`wirings of ${m}`, vm_page_wirings(m), model.wirings(m));
    same(`activity of ${m}`, page_act(m), model.act.get(m) ?? 0);
    same(`${m} was used`, vm_page.ref[m], Number(model.used.has(m)));
    same(`${m} went round`, Number(page_lapped(m)), Number(model.lapped.has(m)));
  }
  same('reactivated', reactivated, model.reactivated);
  pageq_check();
}

/** Plays on the machine that is up. */
export function play(seed: number, steps: number): void {
  const draw = dice(seed);
  const model = new Model();
  const o = test_pager_object(PAGES * 2, 1);
  const pages: number[] = [];
  for (let i = 1; pages.length < PAGES; i++) pager_use(o, i, (m) => void pages.push(m));
  for (const m of pages) {
    model.put(m, PQ_ACTIVE);
    model.act.set(m, ACT_INIT);
  }
  const c = counters.find(({ name }) => name === 'vm.stats.vm.v_reactivated');
  if (c === undefined) throw new Error('no counter of reactivations');
  const before = counter_get(c);
  mtx_lock(vm_object.lock, o);
  for (let step = 0; step < steps; step++) {
    const m = pages[draw(PAGES)];
    try {
      const what = draw(24);
      if (what >= 22) {
        several(model, pages, draw(PAGES), 1 + draw(10), what === 22);
        continue;
      }
      operate(model, m, what, draw(2) === 0, () => {
        const wired = model.wirings(m) > 0;
        same('cached', Number(object_page_cache(m, o)), Number(!wired));
        if (wired || model.on.get(m) === PQ_CACHE) return;
        model.off(m);
        model.put(m, PQ_CACHE);
      });
      if (step % WALK < 2) agree(model, pages, counter_get(c) - before);
    } catch (e) {
      throw new Error(`seed ${seed}, step ${step}`, { cause: e });
    }
  }
  agree(model, pages, counter_get(c) - before);
  for (const m of pages) {
    for (let n = model.wirings(m); n > 0; n--) vm_page_owner_unwire(m, false);
  }
  mtx_unlock(vm_object.lock, o);
  vm_object_deallocate(o);
}
/** Plays `steps` operations; throws where the queues and their model differ. */
export function run(seed: number, steps: number): void {
  const machine = boot({
    memory: '16M',
    cpus: 1,
    fresh: true,
    options: { INVARIANTS: true },
    seed,
  });
  try {
    play(seed, steps);
  } finally {
    machine.shutdown();
  }
}
