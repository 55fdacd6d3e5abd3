/*
 * Shows: page tables map what they were told, in place of what was there; rights, wirings,
 * references and modifications are what a model says; tables come and go with their
 * entries; where memory is short nothing has changed; a silent CPU is named and nothing changed.
 * By what means: seeded operations on two pmaps and a model (a Map from page number to page), the
 * walker after them.  Several threads: pmap_smp.slow.test.ts; deaths: sim/scripts/pmap_views.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { thr } from '../machine/cpu.ts';
import { mem } from '../machine/memory.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { tlb_owed } from '../machine/tlb_ack.ts';
import { within } from '../machine/workers.test.lib.ts';
import { pmap, type pmap_t, TLB_ENTRIES, TLB_STORES } from '../h/pmap.ts';
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../h/vm_object.ts';
import { PK_TABLE, vm_page } from '../h/vm_page.ts';
import { VM_PROT_NONE, VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { vm_object_allocate, vm_object_deallocate } from '../object/vm_object.ts';
import { vm_object_check } from '../object/vm_object_check.ts';
import {
  object_page_alloc,
  object_page_filled,
  object_page_free,
  object_page_wakeup,
} from '../object/vm_object_page.ts';
import { page_failpoint, vm_page_census } from '../page/vm_page.ts';
import { vm_page_limbo_count, vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { zone_present } from '../uma/uma_stats.ts';
import type { zone_t } from '../h/uma.ts';
import { pmap_root } from '../h/pmap.ts';
import {
  pmap_change_wiring,
  pmap_clear_modify,
  pmap_enter,
  pmap_extract,
  pmap_is_modified,
  pmap_is_prefaultable,
  pmap_pinit,
  pmap_protect,
  pmap_pte,
  pmap_release,
  pmap_remove,
  pmap_remove_all,
  pmap_remove_write,
  pmap_translate,
  pmap_ts_referenced,
} from './pmap.ts';
import { pmap_check } from './pmap_check.ts';
import { pmap_root_of, pv_all } from './pmap_pv.ts';
import { tlb_base, tlb_on_move } from './pmap_tlb.ts';

const RW = VM_PROT_READ | VM_PROT_WRITE;
const WAIT_MS = 20_000;

afterEach(() => {
  page_failpoint.refuse = null;
  try {
    shutdown();
  } catch {
    abandon();
  }
});
/** Pages of an object of their own, busy by nobody. */
function pages(n: number): { o: vm_object_t; all: number[] } {
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
function up(options: Parameters<typeof boot>[0] = {}): void {
  boot({
    cpus: 2,
    fresh: true,
    memory: '4M',
    options: { INVARIANTS: true, WITNESS: true },
    ...options,
  });
}
/** Ends pmaps that are in this CPU's hand, the last made first, and proves that nothing is left. */
function down(made: readonly pmap_t[], o: vm_object_t): void {
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
function mapped(pm: pmap_t, at: number): Mapped | undefined {
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
function play(steps: number, seed: number, check_each: number): void {
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
    }
    if (i % check_each === 0) check();
  }
  check();
  down(made, o);
}

test('two pmaps and a model', () => {
  up();
  play(15_000, SEED, 500);
});
test('the same in a checked machine', () => {
  up({ checked: true });
  play(250, SEED + 1, 50);
});
test('uses and writes are noted by the miss, and again after that was cleared', () => {
  up();
  const { o, all } = pages(1);
  const [m] = all;
  const pm = pmap_pinit();
  pmap_enter(pm, 7, m, RW);
  assert.equal(pmap_ts_referenced(m), false);
  const frame = pmap_translate(pm, 7, false);
  assert.ok(frame > 0);
  assert.equal(pmap_ts_referenced(m), true);
  const tag = tlb_base(pm) + 14;
  assert.equal(mem.I32[tag], -1, 'the next access misses');
  assert.equal(pmap_ts_referenced(m), false);
  assert.equal(pmap_is_modified(m), false);
  pmap_translate(pm, 7, true);
  assert.equal(pmap_is_modified(m), true);
  pmap_clear_modify(m);
  assert.equal(pmap_is_modified(m), false);
  assert.deepEqual([mem.I32[tag], mem.I32[tag + TLB_STORES]], [7, -1], 'loads go on, stores miss');
  assert.equal(pmap_is_prefaultable(pm, 8), true);
  assert.equal(pmap_is_prefaultable(pm, 7), false);
  assert.equal(pmap_is_prefaultable(pm, 5000), false, 'no table there');
  down([pm], o);
});
test('a CPU translates few address spaces at a time: the oldest set is given up', () => {
  up();
  const { o, all } = pages(1);
  const made = Array.from({ length: 6 }, () => pmap_pinit());
  const bases = new Map<number, number>();
  tlb_on_move((pm, base) => void bases.set(pm, base));
  for (const pm of made) {
    assert.ok(pmap_enter(pm, 3, all[0], VM_PROT_READ));
    assert.ok(pmap_translate(pm, 3, false) > 0);
    assert.equal(bases.get(pm), tlb_base(pm));
  }
  assert.deepEqual(
    made.map((pm) => tlb_base(pm) !== 0),
    [false, false, true, true, true, true],
  );
  assert.deepEqual(
    made.map((pm) => bases.get(pm) !== 0),
    made.map((pm) => tlb_base(pm) !== 0),
  );
  for (const pm of made) pmap_check(pm);
  down(made, o);
});
test('no memory at any place: nothing has changed', () => {
  up({ memory: '2M', options: { INVARIANTS: true, FAILPOINTS: true } });
  const { o, all } = pages(2);
  const made = [pmap_pinit(), pmap_pinit()];
  const [pm, other] = made;
  let refused = 0;
  for (const [p, at, m] of [
    [pm, 5, all[0]],
    [pm, 2 ** 30, all[0]],
    [other, 5, all[0]],
    [other, 6, all[1]],
  ] as const) {
    for (let nth = 0; ; nth++) {
      let left = nth;
      page_failpoint.refuse = () => left-- <= 0;
      const before = [pmap.resident[p], pmap.tables[p]];
      const done = pmap_enter(p, at, m, RW);
      page_failpoint.refuse = null;
      for (const q of made) pmap_check(q);
      if (done) break;
      refused++;
      assert.deepEqual([pmap.resident[p], pmap.tables[p]], before);
      assert.equal(pmap_extract(p, at), 0);
    }
  }
  assert.ok(refused >= 3, `${refused} refused`);
  down(made, o);
});
test('a CPU that computes is silent: rights stay, and freed pages wait', async () => {
  up();
  const { o, all } = pages(2);
  const pm = pmap_pinit();
  for (const [i, m] of all.entries()) pmap_enter(pm, i, m, RW);
  const gate = new SharedArrayBuffer(8);
  const worker = new Worker(
    `const { workerData, parentPort } = require('node:worker_threads');
     Promise.all([import(workerData.boot), import(workerData.pmap)]).then(([b, p]) => {
       b.attach(workerData.handle);
       p.pmap_translate(workerData.pm, 0, true);
       const gate = new Int32Array(workerData.gate);
       Atomics.store(gate, 0, 1);
       while (Atomics.load(gate, 1) === 0); // it computes
       p.pmap_translate(workerData.pm, 1, true); // the next miss answers
       Atomics.store(gate, 0, 2);
       while (Atomics.load(gate, 1) === 1);
       b.detach();
       parentPort.postMessage('done');
     });`,
    {
      eval: true,
      workerData: {
        boot: new URL('../boot/whole.ts', import.meta.url).href,
        pmap: new URL('./pmap.ts', import.meta.url).href,
        handle: (await import('../boot/whole.ts')).current(),
        pm,
        gate,
      },
    },
  );
  const done = new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  const at = new Int32Array(gate);
  const reaches = (n: number): Promise<unknown> =>
    within(
      (async () => {
        while (Atomics.load(at, 0) !== n) await new Promise((r) => setTimeout(r, 1));
      })(),
      `the worker at ${n}`,
    );
  await reaches(1);
  assert.notEqual(pmap_protect(pm, 0, 2, VM_PROT_READ, 20), -1, 'it names the CPU');
  assert.notEqual(thr.cpu, pmap_protect(pm, 0, 2, VM_PROT_READ, 20));
  assert.equal(mapped(pm, 0)?.write, true, 'nothing has changed');
  mtx_lock(vm_object.lock, o);
  object_page_free(all[0], o);
  mtx_unlock(vm_object.lock, o);
  assert.equal(tlb_owed(), true);
  assert.deepEqual([vm_page_limbo_count(), vm_page_limbo_free()], [1, 0]);
  Atomics.store(at, 1, 1);
  await reaches(2);
  assert.equal(tlb_owed(), false);
  assert.deepEqual([vm_page_limbo_free(), vm_page_limbo_count()], [1, 0]);
  Atomics.store(at, 1, 2);
  await within(done, 'the worker');
  await worker.terminate();
  down([pm], o);
});
