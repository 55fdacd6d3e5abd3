/*
 * Shows: page tables map what they were told, in place of what was there; rights, wirings,
 * references and modifications are what a model says; tables come and go with their
 * entries; where memory is short nothing has changed; a silent CPU is named and nothing changed.
 * By what means: seeded operations on two pmaps and on models (pmap.fuzz.ts), the walker after
 * them.  Several threads: pmap_smp.slow.test.ts; deaths: sim/scripts/pmap_views.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { thr } from '../machine/cpu.ts';
import { mem } from '../machine/memory.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { tlb_owed } from '../machine/tlb_ack.ts';
import { within } from '../machine/workers.test.lib.ts';
import { pmap, TLB_STORES } from '../h/pmap.ts';
import { vm_object } from '../h/vm_object.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../h/vm_prot.ts';
import { object_page_free } from '../object/vm_object_page.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { vm_page_limbo_count, vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import {
  pmap_clear_modify,
  pmap_enter,
  pmap_extract,
  pmap_is_modified,
  pmap_is_prefaultable,
  pmap_pinit,
  pmap_protect,
  pmap_remove,
  pmap_remove_all,
  pmap_translate,
  pmap_ts_referenced,
} from './pmap.ts';
import { down, mapped, pages, play } from './pmap.fuzz.ts';
import { pmap_check } from './pmap_check.ts';
import { tlb_base, tlb_on_move } from './pmap_tlb.ts';

const RW = VM_PROT_READ | VM_PROT_WRITE;
const _WAIT_MS = 20_000;

afterEach(() => {
  page_failpoint.refuse = null;
  try {
    shutdown();
  } catch {
    abandon();
  }
});
function up(options: Parameters<typeof boot>[0] = {}): void {
  boot({
    cpus: 2,
    fresh: true,
    memory: '4M',
    options: { INVARIANTS: true, WITNESS: true },
    ...options,
  });
}
test('two pmaps and a model', () => {
  up();
  play(8000, SEED, 500);
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
test('a CPU that has passed its tag finds the frame beside it, whatever is taken back', () => {
  up();
  const { o, all } = pages(1);
  const pm = pmap_pinit();
  pmap_enter(pm, 7, all[0], RW);
  const takes = [
    () => pmap_protect(pm, 0, 100, VM_PROT_READ, 0),
    () => pmap_remove(pm, 0, 100),
    () => pmap_clear_modify(all[0]),
    () => pmap_remove_all(all[0]),
  ];
  for (const take of takes) {
    pmap_enter(pm, 7, all[0], RW);
    const frame = pmap_translate(pm, 7, true);
    const tag = tlb_base(pm) + 14;
    take();
    assert.equal(mem.I32[tag + TLB_STORES], -1);
    assert.deepEqual([mem.I32[tag + 1], mem.I32[tag + TLB_STORES + 1]], [frame, frame]);
  }
  pmap_remove(pm, 0, 100);
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
