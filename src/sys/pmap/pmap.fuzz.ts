/*
 * pmap (fuzz): the same seeded operations on two pmaps and on models of them.
 *
 * A dozen pages are mapped and taken away in tables far apart, whose tags collide, and at both
 * ends; rights and wirings change, and translations are asked for.  The model is a Map from page
 * number to page; from time to time the walker proves the tables, and every list of mappings
 * is compared.
 */
import assert from 'node:assert/strict';
import '../boot/whole.ts';
import { mem } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { pmap, pmap_root, type pmap_t, TLB_ENTRIES, TLB_STORES } from '../h/pmap.ts';
import type { zone_t } from '../h/uma.ts';
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PK_TABLE, vm_page } from '../h/vm_page.ts';
import { VM_PROT_NONE, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { vm_object_allocate, vm_object_deallocate } from '../object/vm_object.ts';
import { vm_object_check } from '../object/vm_object_check.ts';
import {
  object_page_alloc,
  object_page_filled,
  object_page_wakeup,
} from '../object/vm_object_page.ts';
import { vm_page_census } from '../page/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { zone_present } from '../uma/uma_stats.ts';
import {
  pmap_change_wiring,
  pmap_enter,
  pmap_extract,
  pmap_is_modified,
  pmap_pinit,
  pmap_protect,
  pmap_release,
  pmap_remove,
  pmap_remove_all,
  pmap_remove_write,
  pmap_remove_write_all,
  pmap_translate,
} from './pmap.ts';
import { pmap_check } from './pmap_check.ts';
import { pmap_root_of, pv_all } from './pmap_pv.ts';
import { pmap_pte } from './pmap_table.ts';
import { tlb_base } from './pmap_tlb.ts';

const RW = VM_PROT_READ | VM_PROT_WRITE;
const WAIT_MS = 20_000;

/** Pages of an object of their own, busy by nobody. */
export function pages(n: number): { o: vm_object_t; all: number[] } {
  const o = vm_object_allocate(OBJT_DEFAULT, n);
  mtx_lock(vm_object.lock, o);
  const all = Array.from({ length: n }, (_, i) => {
    const m = object_page_alloc(o, i, 0);
    object_page_filled(m, o);
    object_page_wakeup(m, o);
    return m;
  });
  mtx_unlock(vm_object.lock, o);
  return { o, all };
}
/** Ends pmaps that are in this CPU's hand, the last made first, and proves that nothing is left. */
export function down(made: readonly pmap_t[], o: vm_object_t): void {
  for (const pm of made.toReversed()) {
    pmap_remove(pm, 0, 2 ** 31 - 1);
    pmap_check(pm);
    assert.deepEqual([pmap.resident[pm], pmap.tables[pm], pmap.wired[pm]], [0, 0, 0]);
    pmap_release(pm);
  }
  vm_object_deallocate(o);
  vm_object_check(() => 0);
  assert.equal(vm_page_census()[PK_TABLE], 0);
  const r = pmap_root_of();
  for (const z of [pmap_root.nodes[r], pmap_root.entries[r], pmap_root.zone[r]]) {
    assert.equal(zone_present(z as zone_t).used, 0);
  }
}
interface Mapped {
  m: number;
  write: boolean;
  wired: boolean;
}
type Model = Map<number, Mapped>;
/** Page numbers in tables far apart, whose tags collide, and at both ends. */
const FIRST = [0, 1000, 1024 * 64 - 8, 2 ** 28, 2 ** 31 - 40];
function step(draw: (n: number) => number, pm: pmap_t, model: Model, all: readonly number[]): void {
  const at = FIRST[draw(FIRST.length)] + draw(32);
  const to = at + 1 + draw(8);
  const mine = [...model].filter(([k]) => k >= at && k < to);
  const what = draw(100);
  if (what < 45) {
    const m = all[draw(all.length)];
    const [write, wired] = [draw(2) === 0, draw(8) === 0];
    if (!pmap_enter(pm, at, m, write ? RW : VM_PROT_READ, wired)) return;
    model.set(at, { m, write, wired });
  } else if (what < 60) {
    pmap_remove(pm, at, to);
    for (const [k] of mine) model.delete(k);
  } else if (what < 70) {
    const prot = [VM_PROT_NONE, VM_PROT_READ, RW][draw(3)];
    assert.equal(pmap_protect(pm, at, to, prot, WAIT_MS), -1);
    for (const [k, v] of mine) {
      if (prot === VM_PROT_NONE) model.delete(k);
      else if (prot === VM_PROT_READ) v.write = false;
    }
  } else if (what < 75) {
    pmap_change_wiring(pm, at, draw(2) === 0);
    const there = model.get(at);
    if (there) there.wired = (mapped(pm, at) ?? there).wired;
  } else look(draw, pm, model.get(at), at);
}
/** What the table says of a page number. */
export function mapped(pm: pmap_t, at: number): Mapped | undefined {
  mtx_lock(pmap.lock, pm);
  const pte = pmap_pte(pm, at);
  mtx_unlock(pmap.lock, pm);
  return pte === 0 ? undefined : { m: pte >>> 10, write: (pte & 2) !== 0, wired: (pte & 4) !== 0 };
}
function look(draw: (n: number) => number, pm: pmap_t, want: Mapped | undefined, at: number): void {
  assert.deepEqual(mapped(pm, at), want);
  assert.equal(pmap_extract(pm, at), want?.m ?? 0);
  const write = draw(2) === 0;
  const frame = pmap_translate(pm, at, write);
  const may = want !== undefined && (want.write || !write);
  assert.equal(frame, may ? want.m << 10 : 0, `page number ${at}`);
  if (!may) return;
  assert.equal(vm_page.ref[want.m], 1);
  if (write) assert.ok(pmap_is_modified(want.m));
  const tag = tlb_base(pm) + (at & (TLB_ENTRIES - 1)) * 2 + (write ? TLB_STORES : 0);
  assert.deepEqual([mem.I32[tag], mem.I32[tag + 1]], [at, frame]);
}
/** So many operations on two pmaps and on their models, in a machine that is up. */
export function play(steps: number, seed: number, check_each: number): void {
  const { o, all } = pages(12);
  const made = [pmap_pinit(), pmap_pinit()];
  const models: Model[] = [new Map(), new Map()];
  const draw = dice(seed);
  const check = (): void => {
    for (const [i, pm] of made.entries()) {
      let n = 0;
      pmap_check(pm, (at, m, write) => {
        n++;
        assert.deepEqual([m, write], [models[i].get(at)?.m, models[i].get(at)?.write]);
      });
      assert.equal(n, models[i].size);
    }
    for (const m of all) {
      const want = models.flatMap((model) => [...model.values()].filter((v) => v.m === m));
      assert.equal(pv_all(m).length, want.length);
    }
  };
  for (let i = 0; i < steps; i++) {
    const p = draw(2);
    step(draw, made[p], models[p], all);
    const m = all[draw(all.length)];
    const by_page = draw(40);
    if (by_page === 0) {
      pmap_remove_all(m);
      for (const model of models) for (const [k, v] of model) if (v.m === m) model.delete(k);
    } else if (by_page === 1) {
      assert.equal(pmap_remove_write(m, WAIT_MS), -1);
      for (const model of models) for (const v of model.values()) if (v.m === m) v.write = false;
    } else if (by_page === 2) {
      const some = new Set(all.slice(draw(all.length)).filter(() => draw(3) > 0));
      assert.equal(pmap_remove_write_all([...some], WAIT_MS), -1);
      for (const model of models) {
        for (const v of model.values()) if (some.has(v.m)) v.write = false;
      }
    }
    if (i % check_each === 0) check();
  }
  check();
  down(made, o);
}
