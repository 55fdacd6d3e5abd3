/*
 * Shows what the page floor promises to those who take pages: the reserve
 * levels to the page, failure as 0 with nothing left locked, truth of PG_ZERO
 * and no page zeroed twice, colours, domains, exact runs, and the limit of
 * vm.kmem_size.  The queues are compared with a naive model after every step
 * of random sequences (page_runs.model.ts, page_runs.fuzz.ts).
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import fc from 'fast-check';
import { abandon, type BootOptions, boot, shutdown } from '../boot/whole.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { KernelPanic } from '../machine/panic.ts';
import { mem, PAGE_WORDS, page_word } from '../machine/memory.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { elem } from '../machine/struct.ts';
import { sysctl_decls, sysctl_get } from '../machine/sysctl_decl.ts';
import {
  PG_ZERO,
  PK_FREE,
  PK_MASK,
  VM_ALLOC_INTERRUPT,
  VM_ALLOC_NORMAL,
  VM_ALLOC_SYSTEM,
  VM_ALLOC_ZERO,
  vm_page,
} from '../h/vm_page.ts';
import { sysctl_read } from '../observe/kern_sysctl.ts';
import { mtx_lock, mtx_owned, mtx_unlock } from '../sync/kern_mutex.ts';
import { dice, model_of_queues, queues_agree, run as play_runs } from './page_runs.fuzz.ts';
import {
  page_failpoint,
  vm_page_alloc,
  vm_page_alloc_run,
  vm_page_check,
  vm_page_domain,
  vm_page_domain_limits,
  vm_page_free,
  vm_page_free_count,
  vm_page_free_run,
  vm_page_wire,
  pmap_copy_page,
  pmap_zero_page,
  vm_page_zero_fill,
  vm_page_zero_idle,
} from './vm_page.ts';
import { phys_longest, phys_rebuild, phys_root, type RunLimits, vm_phys } from './vm_phys.ts';

function up(o: BootOptions = {}): void {
  boot({ memory: '1M', cpus: 2, ...o, options: { INVARIANTS: true, ...o.options } });
}
afterEach(() => {
  page_failpoint.refuse = null;
  try {
    shutdown();
  } catch {
    abandon(); // a machine that panicked lets nobody leave in order
  }
});
function variable(name: string): (typeof sysctl_decls)[number] {
  const d = sysctl_decls.find((x) => x.name === name);
  assert.ok(d, name);
  return d;
}
function count_of(name: string): number {
  const c = counters.find((x) => x.name === name);
  assert.ok(c, name);
  return counter_get(c);
}
/** Takes a page for good; 0 if there is none. */
function take(req: number, color = -1, domain = -1): number {
  const m = vm_page_alloc(color, req, domain);
  if (m !== 0) vm_page_wire(m, 1);
  return m;
}
function take_all(req: number): number[] {
  const pages: number[] = [];
  for (let m = take(req); m !== 0; m = take(req)) pages.push(m);
  return pages;
}
function is_zero(m: number): boolean {
  return !mem.I32.subarray(page_word(m), page_word(m) + PAGE_WORDS).some((v) => v !== 0);
}
function dirty(m: number): void {
  mem.I32.fill(m, page_word(m), page_word(m) + PAGE_WORDS);
}
function panics(fn: () => unknown, text: RegExp): void {
  assert.throws(fn, (e) => e instanceof KernelPanic && text.test(e.message));
}

test('1 MiB with two CPUs boots with most of its pages free', () => {
  boot({ memory: '1M', cpus: 2, fresh: true });
  const share = vm_page_free_count() / 256;
  console.log(`1 MiB, 2 CPUs: ${vm_page_free_count()} of 256 pages free after boot`);
  assert.ok(share >= 0.6, `${vm_page_free_count()} of 256`);
});

describe('reserves', () => {
  test('each class stops at its level, to the page', () => {
    up();
    const reserved = sysctl_get(variable('vm.v_free_reserved'));
    assert.ok(reserved > 2);
    const before = vm_page_free_count();
    const normal = take_all(VM_ALLOC_NORMAL);
    assert.equal(vm_page_free_count(), reserved);
    assert.equal(normal.length, before - reserved);
    const system = take_all(VM_ALLOC_SYSTEM);
    assert.equal(vm_page_free_count(), 2);
    assert.equal(take(VM_ALLOC_NORMAL), 0);
    const last = take_all(VM_ALLOC_INTERRUPT);
    assert.equal(vm_page_free_count(), 0);
    assert.equal(last.length, 2);
    for (const cls of [VM_ALLOC_NORMAL, VM_ALLOC_SYSTEM, VM_ALLOC_INTERRUPT]) {
      assert.equal(vm_page_alloc(-1, cls), 0);
      assert.equal(vm_page_alloc(7, cls | VM_ALLOC_ZERO), 0);
      assert.equal(vm_page_alloc_run(1, cls), 0);
    }
    assert.ok(!mtx_owned(vm_phys.lock, phys_root()));
    for (const m of [...normal, ...system, ...last]) vm_page_free(m);
    assert.equal(vm_page_free_count(), before);
    vm_page_check();
  });
  test('a run leaves the reserve too', () => {
    up();
    const longest = phys_longest();
    take_all(VM_ALLOC_NORMAL);
    const reserved = vm_page_free_count();
    assert.equal(vm_page_alloc_run(1, VM_ALLOC_NORMAL), 0);
    const m = vm_page_alloc_run(1, VM_ALLOC_SYSTEM);
    assert.ok(m > 0 && longest > 0);
    assert.equal(vm_page_free_count(), reserved - 1);
    assert.equal(vm_page_alloc_run(reserved - 2, VM_ALLOC_SYSTEM), 0);
    vm_page_check();
  });
  test('vm.kmem_size keeps no page from those who are not malloc or a zone', () => {
    up({ memory: '4M', set: { 'vm.kmem_size': '2m' } });
    take_all(VM_ALLOC_INTERRUPT);
    assert.equal(vm_page_free_count(), 0);
  });
  test('a refused page leaves everything as it was', () => {
    up({ options: { FAILPOINTS: true } });
    const model = model_of_queues();
    page_failpoint.refuse = () => true;
    assert.equal(vm_page_alloc(3, VM_ALLOC_INTERRUPT), 0);
    assert.equal(vm_page_alloc_run(4, VM_ALLOC_INTERRUPT), 0);
    queues_agree(model);
  });
});

describe('zeroed pages', () => {
  test('a page flagged zero is zero, and no zeroed page is zeroed again', () => {
    up({ fresh: true });
    const all = take_all(VM_ALLOC_INTERRUPT);
    for (const m of all) {
      assert.ok(vm_page.flags[m] & PG_ZERO, 'fresh memory is zero');
      assert.ok(is_zero(m));
    }
    vm_page_zero_fill(all[0], 1);
    assert.equal(count_of('vm.stats.misc.zeroed'), 0);
    for (const m of all) dirty(m);
    for (const m of all) vm_page_free(m);
    assert.equal(vm_phys.zeroed[phys_root()], 0);
    // Ahead, until half of the free pages are zero; then never more.
    let ahead = 0;
    for (let n = vm_page_zero_idle(16); n > 0; n = vm_page_zero_idle(16)) ahead += n;
    assert.equal(ahead, Math.ceil(all.length / 2));
    assert.equal(count_of('vm.stats.misc.cnt_prezero'), ahead);
    assert.equal(vm_page_zero_idle(16), 0);
    // Those who want zeros get these first; only then is there work to do.
    for (const [i] of all.entries()) {
      const m = vm_page_alloc(-1, VM_ALLOC_INTERRUPT | VM_ALLOC_ZERO);
      assert.equal((vm_page.flags[m] & PG_ZERO) !== 0, i < ahead);
      vm_page_zero_fill(m, 1);
      assert.ok(is_zero(m));
      vm_page_wire(m, 1);
      assert.equal(count_of('vm.stats.misc.zeroed'), Math.max(0, i + 1 - ahead));
    }
  });
  test('who does not ask for zeros gets a dirty page while there is one', () => {
    up({ fresh: true });
    const m = take(VM_ALLOC_NORMAL);
    dirty(m);
    vm_page_free(m);
    assert.equal(take(VM_ALLOC_NORMAL), m);
    vm_page_free(m);
    assert.notEqual(take(VM_ALLOC_NORMAL | VM_ALLOC_ZERO), m);
  });
  test('in a run each page has its own truth', () => {
    up({ fresh: true });
    const m = vm_page_alloc_run(6, VM_ALLOC_NORMAL);
    vm_page_wire(m, 6);
    dirty(m + 2);
    vm_page_free_run(m, 2, true);
    vm_page_free_run(m + 2, 1);
    vm_page_free_run(m + 3, 3, true);
    assert.equal(vm_page_alloc_run(6, VM_ALLOC_NORMAL), m);
    vm_page_zero_fill(m, 6);
    for (let i = m; i < m + 6; i++) assert.ok(is_zero(i));
    assert.equal(count_of('vm.stats.misc.zeroed'), 1);
  });
  test('pages of a memory used before are not taken for zero', () => {
    up({ fresh: true });
    for (const m of take_all(VM_ALLOC_INTERRUPT)) dirty(m);
    shutdown();
    up();
    const ph = phys_root();
    for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) {
      if ((vm_page.info[m] & PK_MASK) !== PK_FREE || (vm_page.flags[m] & PG_ZERO) === 0) continue;
      assert.ok(is_zero(m), `page ${m}`);
    }
  });
});

describe('colours and domains', () => {
  test('consecutive colours spread evenly, and a colour is kept while there is one', () => {
    up({ memory: '4M' });
    const histogram = new Array<number>(32).fill(0);
    for (let i = 0; i < 32 * 16; i++) {
      const m = take(VM_ALLOC_NORMAL, i);
      assert.equal(m % 32, i % 32);
      histogram[m % 32]++;
    }
    assert.deepEqual(histogram, new Array(32).fill(16));
    let right = 0;
    let wrong = 0;
    for (let m = take(VM_ALLOC_INTERRUPT, 5); m !== 0; m = take(VM_ALLOC_INTERRUPT, 5)) {
      if (m % 32 === 5) {
        right++;
        assert.equal(wrong, 0, 'a page of the colour came after one of another');
      } else wrong++;
    }
    assert.ok(right > 0 && wrong > 0);
    assert.equal(vm_page_free_count(), 0);
  });
  test('a zeroed page of another colour gives way to a dirty one of the right', () => {
    up({ fresh: true });
    const all = take_all(VM_ALLOC_INTERRUPT);
    const one = all.find((m) => m % 32 === 9) ?? 0;
    dirty(one);
    vm_page_free(one);
    for (const m of all) if (m % 32 !== 9) vm_page_free(m, true);
    assert.equal(vm_page_alloc(9, VM_ALLOC_NORMAL | VM_ALLOC_ZERO), one);
  });
  test('a domain is preferred, then left; its counts follow runs across its edge', () => {
    up({ memory: '2M', domains: 4 });
    const ph = phys_root();
    for (let d = 0; d < 4; d++) assert.equal(vm_page_domain(take(VM_ALLOC_NORMAL, -1, d)), d);
    const { low, high } = vm_page_domain_limits(2);
    const edge = { low: low - 3, high: low + 5, align: 1, boundary: 0 };
    const across = vm_page_alloc_run(8, VM_ALLOC_NORMAL, edge);
    if (across !== 0) vm_page_wire(across, 8);
    vm_page_check();
    for (let i = 0; across !== 0 && i < 8; i++) vm_page_free(across + i);
    vm_page_check();
    while (vm_phys.nfree[elem(ph, 2)] > 0) {
      const m = take(VM_ALLOC_INTERRUPT, -1, 2);
      assert.ok(m >= low && m < high);
    }
    const other = take(VM_ALLOC_INTERRUPT, -1, 2);
    assert.ok(other !== 0 && vm_page_domain(other) !== 2);
    vm_page_check();
  });
});

describe('runs', () => {
  const limits: fc.Arbitrary<RunLimits> = fc.record({
    low: fc.oneof(fc.constant(0), fc.nat(256)),
    high: fc.oneof(fc.constant(1 << 20), fc.nat(300)),
    align: fc.nat(8).map((n) => 1 << n),
    boundary: fc.oneof(
      fc.constant(0),
      fc.nat(8).map((n) => 1 << n),
    ),
  });
  type Step = { give: number } | { n: number; limits: RunLimits | undefined };
  const step: fc.Arbitrary<Step> = fc.oneof(
    fc.record({ give: fc.nat(1000) }),
    fc.record({
      n: fc.integer({ min: 1, max: 90 }),
      limits: fc.option(limits, { nil: undefined }),
    }),
  );
  test('any sequence of runs gives what page-by-page search gives', () => {
    const all: RunLimits = { low: 0, high: 1 << 20, align: 1, boundary: 0 };
    up();
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const model = model_of_queues();
        const held: [number, number][] = [];
        for (const s of steps) {
          if ('give' in s) {
            if (held.length === 0) continue;
            const [[m, n]] = held.splice(s.give % held.length, 1);
            vm_page_free_run(m, n);
            model.give(m, n, false);
          } else {
            const m = vm_page_alloc_run(s.n, VM_ALLOC_INTERRUPT, s.limits);
            assert.equal(m, model.run(s.n, s.limits ?? all));
            if (m !== 0) {
              vm_page_wire(m, s.n);
              model.take(m, s.n);
              held.push([m, s.n]);
            }
          }
          queues_agree(model);
        }
        for (const [m, n] of held) vm_page_free_run(m, n);
      }),
      { numRuns: 60, seed: SEED },
    );
  });
  test('seeded sequences of every operation agree with the model', () => {
    for (const seed of [1, 2, 3]) play_runs(seed, 800);
  });
  test('a failed run leaves the free count alone', () => {
    up();
    const free = vm_page_free_count();
    const none = { low: 0, high: 1 << 20, align: 1024, boundary: 0 };
    assert.equal(vm_page_alloc_run(1, VM_ALLOC_INTERRUPT, none), 0);
    assert.equal(vm_page_alloc_run(free + 1, VM_ALLOC_INTERRUPT), 0);
    const crossing = { low: 0, high: 1 << 20, align: 1, boundary: 4 };
    assert.equal(vm_page_alloc_run(5, VM_ALLOC_INTERRUPT, crossing), 0);
    assert.equal(vm_page_free_count(), free);
  });
  for (const [what, bad] of [
    ['alignment 0', { align: 0, boundary: 0 }],
    ['alignment 3', { align: 3, boundary: 0 }],
    ['boundary 6', { align: 1, boundary: 6 }],
  ] as const) {
    test(`${what} is refused`, () => {
      up();
      panics(
        () => vm_page_alloc_run(2, VM_ALLOC_NORMAL, { low: 0, high: 256, ...bad }),
        /vm_page_alloc_run: (alignment|boundary)/,
      );
    });
  }
});

describe('damage', () => {
  test('a page freed twice panics', () => {
    up();
    const m = take(VM_ALLOC_NORMAL);
    vm_page_free(m);
    panics(() => vm_page_free(m), /freeing free page: \d+/);
  });
  test('a free run inside a freed run panics', () => {
    up();
    const m = vm_page_alloc_run(4, VM_ALLOC_NORMAL);
    vm_page_wire(m, 4);
    vm_page_free(m + 3);
    panics(() => vm_page_free_run(m, 4), /freeing free page/);
  });
  test('a page that boot keeps cannot be freed', () => {
    up();
    panics(() => vm_page_free(0), /not a page/);
  });
  test('the check sees a page that the bitmaps do not know', () => {
    up();
    const m = take(VM_ALLOC_NORMAL);
    vm_page.info[m] = PK_FREE;
    panics(vm_page_check, /bitmap and page array differ/);
  });
  test('what is made anew from the page array is what was there', () => {
    up({ memory: '2M', domains: 3 });
    const draw = dice(7);
    const held: [number, number][] = [];
    for (let i = 0; i < 60; i++) {
      const n = 1 + draw(7);
      const m = vm_page_alloc_run(n, VM_ALLOC_INTERRUPT);
      if (m !== 0) vm_page_wire(m, n);
      if (m !== 0) held.push([m, n]);
    }
    for (const [i, [m, n]] of held.entries()) if (i % 3 !== 0) vm_page_free_run(m, n, i % 2 === 0);
    const ph = phys_root();
    const shot = (): number[] => Array.from(mem.I32.subarray(ph, ph + vm_phys.sizeof));
    const before = shot();
    const model = model_of_queues();
    queues_agree(model);
    mtx_lock(vm_phys.lock, ph);
    phys_rebuild(ph);
    mtx_unlock(vm_phys.lock, ph);
    assert.deepEqual(shot(), before);
    queues_agree(model);
  });
});

test('a page is copied, and zeroed, whole', () => {
  up();
  const [from, to] = [0, 1].map(() => vm_page_alloc(-1, VM_ALLOC_SYSTEM));
  dirty(from);
  dirty(to);
  pmap_copy_page(from, to);
  const words = (m: number) => mem.I32.slice(page_word(m), page_word(m) + PAGE_WORDS);
  assert.deepEqual(words(to), words(from));
  pmap_zero_page(from);
  assert.ok(is_zero(from) && !is_zero(to));
  for (const m of [from, to]) vm_page_free(m);
  vm_page_check();
});

test('a page costs few bytes of the page array', () => {
  up({ memory: '64M' });
  const read = sysctl_read('vm.stats.misc.page_array_bytes');
  assert.ok(read instanceof Uint8Array);
  const bytes = new DataView(read.buffer, read.byteOffset).getUint32(0, true);
  assert.ok(bytes > 8 && bytes <= 64, `${bytes}`);
});
