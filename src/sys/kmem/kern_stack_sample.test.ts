/*
 * Shows that requests are noted with who made them: with an interval of 1 each of them, so that
 * the samples add up to the byte to what is in use, of types, of large blocks and of a program's
 * zones, on two threads at a time; with a larger one by chance, as often as it says; that a free in
 * any thread, and turning it off, forgets.  That a death leaves no sample half made:
 * sim/scripts/stack_sample.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { pcpu, thr } from '../machine/cpu.ts';
import { M, machine } from '../machine/header.ts';
import type { Handle } from '../machine/machdep.ts';
import { PAGE_SIZE, word_page } from '../machine/memory.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { get64 } from '../machine/struct.ts';
import { sysctl_number } from '../machine/sysctl_decl.ts';
import { Crew, within } from '../machine/workers.test.lib.ts';
import { M_NOWAIT, M_WAITOK, M_ZERO } from '../h/malloc_flags.ts';
import type { malloc_type_t } from '../h/malloc.ts';
import { SK_TYPE, SK_ZONE, stack, type stack_t } from '../h/stack.ts';
import { UMA_ZFLAG_PROGRAM } from '../h/uma.ts';
import { PK_MARKED, vm_page } from '../h/vm_page.ts';
import { kernel_sysctlbyname } from '../observe/kern_sysctl.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_zalloc, uma_zfree } from '../uma/uma_core.ts';
import { down, up } from '../uma/uma.test.lib.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { uma_zcreate, uma_zdestroy } from '../uma/uma_zone.ts';
import { free, malloc, realloc } from './kern_malloc.ts';
import { malloc_type_attach } from './kern_malloc_type.ts';
import { stack_depot_check, stack_depot_text } from './kern_stack.ts';
import { sample_due, sample_stands_for, samples_check, samples_list } from './kern_stack_sample.ts';

let handle: Handle;
let t: malloc_type_t;
const crew = new Crew<{ bytes: number; blocks: number }>(
  new URL('./kern_stack_sample.test.worker.ts', import.meta.url),
);
function begin(interval: number, options = {}): void {
  handle = up({ memory: '8M', options });
  t = malloc_type_attach('noted');
  set('vm.stack.interval', interval);
  set('vm.stack.enable', 1);
}
function set(name: string, value: number): void {
  assert.equal(kernel_sysctlbyname(name, null, sysctl_number('uint', value)).error, 0, name);
}
afterEach(async () => {
  try {
    samples_check();
    stack_depot_check();
    uma_check();
  } finally {
    await crew.end();
    await down();
  }
});

for (const INVARIANTS of [false, true]) {
  test(`each request is noted where the interval is 1, INVARIANTS ${INVARIANTS}`, () => {
    begin(1, { INVARIANTS });
    const draw = dice(SEED);
    const live = new Map<number, number>();
    const account = (): void => {
      const all = samples_list();
      assert.deepEqual(new Map(all.map((s) => [s.item, s.size])), live, `seed ${SEED}`);
      assert.ok(all.every((s) => s.objects === 1 && s.owner === t && s.kind === SK_TYPE));
    };
    for (let i = 0; i < 600; i++) {
      const [p] = [...live.keys()].slice(draw(live.size));
      const size = draw(4) === 0 ? draw(4 * PAGE_SIZE) : draw(300);
      const what = live.size < 20 ? 0 : draw(3);
      if (what === 0) live.set(malloc(size, t, M_WAITOK), size);
      else if (what === 1) {
        free(p, t);
        live.delete(p);
      } else {
        const q = realloc(p, size, t, M_WAITOK);
        if (q !== p) {
          live.delete(p);
          live.set(q, size);
        }
      }
      if (i % 50 === 0) account();
    }
    account();
    for (const p of live.keys()) free(p, t);
    live.clear();
    account();
    for (let m = 1; m < machine.npages[M]; m++) {
      assert.equal(vm_page.info[m] & PK_MARKED, 0, `page ${m} has a mark`);
    }
  });
}
test('a sample says who asked, when and how much, and its stack counts what ended, too', () => {
  begin(1);
  const before = Date.now();
  function connect(): number {
    return malloc(100, t, M_WAITOK);
  }
  const blocks = [1, 2, 3].map(() => connect());
  const [one, ...others] = samples_list();
  assert.match(stack_depot_text(one.stack)[0], /^connect at .*stack_sample\.test\.ts:\d+:\d+$/);
  assert.ok(others.every((s) => s.stack === one.stack));
  assert.ok(one.time >= before && one.time <= Date.now() + 1);
  for (const p of blocks) free(p, t);
  assert.equal(get64(stack.total_objects, one.stack as stack_t), 3);
  assert.equal(get64(stack.total_bytes, one.stack as stack_t), 300);
});
test('items of zones of a program are noted, those of the kernel are not', () => {
  begin(1);
  const z = uma_zcreate('conn', 200, { flags: UMA_ZFLAG_PROGRAM });
  const own = uma_zcreate('kernel', 200);
  const items = Array.from({ length: 300 }, () => uma_zalloc(z, M_NOWAIT));
  const other = uma_zalloc(own, M_NOWAIT);
  const all = samples_list();
  assert.deepEqual(new Set(all.map((s) => s.item)), new Set(items));
  assert.ok(all.every((s) => s.kind === SK_ZONE && s.owner === z && s.size === 200));
  for (const item of items.splice(100)) uma_zfree(z, item);
  assert.equal(samples_list().length, 100);
  set('vm.stack.enable', 0);
  assert.equal(samples_list().length, 0);
  for (const item of items) uma_zfree(z, item);
  uma_zfree(own, other);
  uma_zdestroy(z);
  uma_zdestroy(own);
});
test('items that are only counted are taken and given as ever, and some are noted', () => {
  begin(4000, { INVARIANTS: false });
  const z = uma_zcreate('conn', 200, { flags: UMA_ZFLAG_PROGRAM });
  const draw = dice(SEED);
  const held = new Set<number>();
  let noted = 0;
  for (let i = 0; i < 20_000; i++) {
    if (held.size < 300 && draw(2) === 0) {
      const item = uma_zalloc(z, draw(2) === 0 ? M_NOWAIT : M_NOWAIT | M_ZERO);
      assert.ok(item !== 0 && !held.has(item), `seed ${SEED}`);
      held.add(item);
    } else if (held.size > 0) {
      const [item] = held;
      held.delete(item);
      uma_zfree(z, item);
    }
    if (i % 1000 === 0) {
      const all = samples_list();
      assert.ok(
        all.every((s) => held.has(s.item)),
        `seed ${SEED}`,
      );
      noted += all.length;
    }
  }
  // Of 20 times some 80 items the 21st part: none at all is once in 10^30 seeds.
  assert.ok(noted > 0);
  for (const item of held) uma_zfree(z, item);
  assert.equal(samples_list().length, 0);
  const { allocs, frees, used } = zone_present(z);
  assert.ok(allocs === frees && used === 0 && allocs > 5000);
  uma_zdestroy(z);
});
test('turned off, all is forgotten; on again, it begins anew; frees go their ways', () => {
  begin(1, { INVARIANTS: false });
  for (let round = 0; round < 50; round++) {
    const noted = Array.from({ length: 40 }, (_, i) => malloc(50 * i, t, M_WAITOK));
    assert.equal(samples_list().length, 40);
    set('vm.stack.enable', 0);
    const plain = malloc(100, t, M_WAITOK);
    assert.equal(samples_list().length, 0);
    set('vm.stack.enable', 1);
    for (const p of [...noted, plain]) free(p, t);
    samples_check();
  }
  assert.equal(samples_list().length, 0);
});
test('with a larger interval a byte is noted as often as it says', () => {
  begin(1000);
  // The marks of 2^24 bytes asked for in pieces of 10: 16777 on average, by Poisson's law with a
  // deviation of 130.  Ten of them are passed by chance once in 10^22 seeds.
  let marks = 0;
  for (let i = 0; i < 2 ** 24 / 10; i++) if (sample_due(10)) marks++;
  const wanted = 2 ** 24 / 10 / sample_stands_for(10, 1000);
  assert.ok(Math.abs(marks - wanted) < 10 * Math.sqrt(wanted), `${marks}, not ${wanted}`);
  set('vm.stack.interval', 1);
  assert.ok(sample_due(1) && sample_due(0), 'a new interval holds at once');
  set('vm.stack.interval', 2 ** 30);
  assert.ok(pcpu.sample_left[thr.pc] === 0);
  assert.ok(!sample_due(1), 'and one that is longer');
});
test('two threads: what they have is noted, whoever frees it, and adds up', async () => {
  begin(1, { INVARIANTS: false });
  const jobs = [1, 2].map((n) => crew.start(handle, 'churn', { seed: SEED + n, turns: 3000 }));
  const all = await within(Promise.all(jobs.map((j) => j.done)), 'both churn');
  const samples = samples_list();
  const sum = (f: (c: { bytes: number; blocks: number }) => number): number =>
    all.reduce((n, c) => n + f(c), 0);
  assert.equal(
    samples.length,
    sum((c) => c.blocks),
    `seed ${SEED}`,
  );
  assert.equal(
    samples.reduce((n, s) => n + s.size, 0),
    sum((c) => c.bytes),
  );
  const pages = new Set(samples.map((s) => word_page(s.item)));
  assert.ok(pages.size > 1);
});
test('two threads work while it is turned on and off', async () => {
  begin(1, { INVARIANTS: false });
  const jobs = [1, 2].map((n) =>
    crew.start(handle, 'churn', { seed: SEED + n, turns: 20_000, all: true }),
  );
  let done = false;
  const ends = Promise.all(jobs.map((j) => j.done)).finally(() => (done = true));
  for (let i = 0; !done; i++) {
    set('vm.stack.enable', i % 2);
    set('vm.stack.interval', i % 3 === 0 ? 1 : 5000);
    await new Promise(setImmediate);
  }
  await within(ends, 'both churn');
  set('vm.stack.enable', 0);
  assert.equal(samples_list().length, 0);
});
