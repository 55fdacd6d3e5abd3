/*
 * Shows: several threads that ask for kernel addresses and give them back have what they wrote,
 * those who wait for room are served, and a thread that dies at any moment leaves what was its
 * program's, and nothing else.
 * By what means: worker threads, some of them killed and replaced, the walkers.  Every point of a
 * death: sim/scripts/kern_*.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { type Booted, boot } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get } from '../machine/counter.ts';
import { kill_in_turn } from '../machine/kills.test.lib.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { Crew, until, within } from '../machine/workers.test.lib.ts';
import { VM_MAP_PAGED, VM_MAP_SYSTEM, vm_map } from '../h/vm_map.ts';
import { PK_OBJECT } from '../h/vm_page.ts';
import { vm_page_census } from '../page/vm_page.ts';
import { kern_free_all, kern_maps_make, kern_sub } from './vm_kern.test.lib.ts';
import { kern_down } from './vm_kern_up.test.lib.ts';
import { v_kmem_waits, v_kmem_wakeups } from './vm_kern_vars.ts';
import { kmem_alloc_wait, kmem_free_wakeup } from './vm_kern_wait.ts';
import { vm_maps_check } from './vm_map_check.ts';
import { done_word, maps_make, stop_word } from './vm_map.test.lib.ts';

afterEach(kern_down);
function up(options: Parameters<typeof boot>[0] = {}): Booted {
  const all = { INVARIANTS: true, WITNESS: true };
  return boot({ cpus: 1, fresh: true, memory: '4M', options: all, ...options });
}

describe('threads', () => {
  const file = new URL('./vm_kern.test.worker.ts', import.meta.url);
  for (const kind of [VM_MAP_SYSTEM, VM_MAP_PAGED]) {
    const name = kind === VM_MAP_SYSTEM ? 'system' : 'pageable';
    test(`${name}: who waits for room is woken once there is some`, async () => {
      const { handle } = up({ cpus: 2 });
      maps_make();
      kern_maps_make(kind, 8);
      const held = [kmem_alloc_wait(kern_sub(), 5), kmem_alloc_wait(kern_sub(), 3)];
      const crew = new Crew<{ at: number }>(file);
      try {
        const job = crew.start(handle, 'wait', { n: 4 });
        await within(job.up, 'the worker');
        await until(() => counter_get(v_kmem_waits) > 0, 'it waits');
        kmem_free_wakeup(kern_sub(), held[1], 3);
        kmem_free_wakeup(kern_sub(), held[0], 5);
        await within(job.done, 'it is served');
      } finally {
        await crew.end();
      }
      assert.ok(counter_get(v_kmem_wakeups) >= 1);
      assert.ok(counter_get(v_kmem_wakeups) <= counter_get(v_kmem_waits));
      assert.equal(vm_map.size[kern_sub()], 0);
    });
    test(`${name}: two fill a map, wait for each other, and find what they wrote`, async () => {
      const { handle } = up({ cpus: 3 });
      maps_make();
      kern_maps_make(kind, 12);
      const crew = new Crew<{ n: number }>(file);
      try {
        const jobs = [0, 1].map((i) => crew.start(handle, 'share', { seed: SEED + i, turns: 100 }));
        await within(Promise.all(jobs.map((j) => j.done)), 'the workers');
      } finally {
        await crew.end();
      }
      assert.equal(vm_map.size[kern_sub()], 0);
      assert.ok(counter_get(v_kmem_wakeups) <= counter_get(v_kmem_waits));
    });
  }
  test('killed at any moment: what was being filled or emptied is free', async () => {
    const { handle } = up({ cpus: 3, memory: '8M' });
    maps_make();
    kern_maps_make(VM_MAP_SYSTEM, 4000);
    const draw = dice(SEED + 9);
    const crew = new Crew<{ n: number }>(file);
    const start = (n: number) => crew.start(handle, 'churn', { seed: SEED + 20 + n });
    const jobs = [start(0), start(1)];
    try {
      await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
      const next = (_i: number, n: number) => start(2 + n);
      await kill_in_turn({ jobs, kills: 4, draw, done: done_word(), start: next });
      const done = atomic_load(done_word());
      await until(() => atomic_load(done_word()) - done > 100, 'work');
      atomic_store(stop_word(), 1);
      await within(Promise.all(jobs.map((j) => j.done)), 'the workers');
    } finally {
      await crew.end();
    }
    vm_maps_check();
    kern_free_all();
    assert.equal(vm_page_census()[PK_OBJECT], 0);
  });
});
