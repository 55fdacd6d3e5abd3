/*
 * Shows: a block of contigmalloc is a large block of its type, where the caller wants it; it
 * counts, is zero if that is asked for, and goes back by free as well as by contigfree; a refusal,
 * by the budget or for want of memory, changes no count and loses no page; both algorithms are had
 * by vm.old_contigmalloc; and whoever asks the wrong way is told.
 * By what means: counts of type and machine before and after; a limit below the memory; walkers.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { mem } from '../machine/memory.ts';
import { sysctl_decls, sysctl_set } from '../machine/sysctl_decl.ts';
import { KernelPanic } from '../machine/panic.ts';
import { vm_page_check, vm_page_free_count } from '../page/vm_page.ts';
import { vm_page_cache_empty } from '../page/vm_page_cache.ts';
import { budget_check } from '../uma/uma_budget.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { contigfree, contigmalloc } from './kern_contig.ts';
import { free, M_NOWAIT, M_WAITOK, M_ZERO, malloc, malloc_type_attach } from './kern_malloc.ts';
import { malloc_type_bytes } from './kern_malloc_sums.ts';

const HIGH = 2 ** 33;
const up = (set: Record<string, number | string> = {}): void => {
  boot({ memory: '8M', cpus: 1, fresh: true, options: { INVARIANTS: true, WITNESS: true }, set });
};
afterEach(() => {
  try {
    uma_check();
    vm_page_check();
    budget_check();
    shutdown();
  } catch {
    abandon();
  }
});
const free_pages = (): number => {
  uma_reclaim(true);
  vm_page_cache_empty();
  return vm_page_free_count();
};

test('a block lies where it is to, counts under its type, and both ways of freeing it do', () => {
  up();
  const t = malloc_type_attach('contig');
  free(malloc(16, t, M_NOWAIT), t);
  const before = free_pages();
  for (const old of [0, 1]) {
    const decl = sysctl_decls.find((d) => d.name === 'vm.old_contigmalloc');
    assert.ok(decl);
    sysctl_set(decl, old);
    for (const [size, align, boundary] of [
      [100_000, 65_536, 0],
      [8192, 4096, 8192],
      [1, 1, 0],
      [300_000, 16, 1 << 20],
    ]) {
      const limits = [2 ** 20, 6 * 2 ** 20, align, boundary] as const;
      const p = contigmalloc(size, t, M_WAITOK | M_ZERO, ...limits);
      assert.ok(p !== 0, `${size}`);
      const at = p * 4;
      assert.ok(at >= limits[0] && at + size <= limits[1] && at % align === 0);
      if (boundary !== 0) {
        assert.equal(Math.floor(at / boundary), Math.floor((at + size - 1) / boundary));
      }
      const rounded = Math.ceil(size / 4096) * 4096;
      assert.equal(malloc_type_bytes(t), rounded);
      assert.ok(mem.I32.subarray(p, p + rounded / 4).every((v) => v === 0));
      mem.I32.fill(-1, p, p + rounded / 4);
      if (old) free(p, t);
      else contigfree(p, size, t);
      assert.equal(malloc_type_bytes(t), 0);
    }
  }
  assert.equal(free_pages(), before);
});

test('address space missing: what the budget refuses leaks no pages', () => {
  up({ 'vm.kmem_size': '2M' });
  const t = malloc_type_attach('contig');
  free(malloc(16, t, M_NOWAIT), t);
  const before = free_pages();
  assert.ok(before > 1024, 'pages there are enough');
  for (const flags of [M_NOWAIT, M_WAITOK]) {
    assert.equal(contigmalloc(3 * 2 ** 20, t, flags, 0, HIGH, 1, 0), 0);
    assert.equal(malloc_type_bytes(t), 0);
    assert.equal(free_pages(), before);
    budget_check();
  }
  const p = contigmalloc(2 ** 20, t, M_WAITOK, 0, HIGH, 1, 0);
  assert.ok(p !== 0, 'the refused ones hold nothing of it');
  free(p, t);
});

test('more than there is, or nowhere: no memory, and nothing has changed', () => {
  up();
  const t = malloc_type_attach('contig');
  const before = free_pages();
  assert.equal(contigmalloc(2 ** 24, t, M_WAITOK, 0, HIGH, 1, 0), 0);
  assert.equal(contigmalloc(8192, t, M_WAITOK, 2 ** 22, 2 ** 22 + 4096, 1, 0), 0);
  assert.equal(contigmalloc(8192, t, M_WAITOK, 0, HIGH, 1, 4096), 0, 'across a boundary');
  assert.equal(contigmalloc(4096, t, M_WAITOK, 0, HIGH, 1, 2048), 0);
  assert.ok(free_pages() >= before - 1);
});

const WRONG: readonly (readonly [string, number, number, number])[] = [
  ['size 0', 0, 1, 0],
  ['an alignment of 0', 4096, 0, 0],
  ['an alignment that is no power of two', 4096, 3, 0],
  ['a boundary that is none', 4096, 1, 12_288],
];
for (const [what, size, align, boundary] of WRONG) {
  test(`${what} panics`, () => {
    up();
    const t = malloc_type_attach('contig');
    assert.throws(() => contigmalloc(size, t, M_WAITOK, 0, HIGH, align, boundary), KernelPanic);
  });
}
test('freeing another size panics', () => {
  up();
  const t = malloc_type_attach('contig');
  const p = contigmalloc(8192, t, M_WAITOK, 0, HIGH, 1, 0);
  assert.throws(() => contigfree(p, 4096, t), KernelPanic);
});
