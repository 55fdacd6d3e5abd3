/*
 * Shows what detectors find when they look at malloc: while one is on every small request comes
 * by the slow path, on other CPUs, too; when none is, the fast path has its buckets again.  A
 * marked page has its frees asked for, one without a mark has not.  The detector here is the test's
 * own, put into the table; the real ones have tests of their own.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { mcache, mcache_of, thr } from '../machine/cpu.ts';
import { word_page } from '../machine/memory.ts';
import { kernel_parts, type MallocDetect } from '../machine/parts.ts';
import { elem } from '../machine/struct.ts';
import { KMEM_CLASSES, MD_STACK, type malloc_type_t } from '../h/malloc.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma, uma_root } from '../uma/uma_int.ts';
import { down, up } from '../uma/uma.test.lib.ts';
import { detect_on, detect_set, page_mark } from './kern_detect.ts';
import { free, M_WAITOK, malloc, malloc_freed_last, malloc_usable_size } from './kern_malloc.ts';
import { malloc_type_attach } from './kern_malloc_type.ts';

let t: malloc_type_t;
let before: MallocDetect | undefined;
const table = kernel_parts as { detect?: MallocDetect };
beforeEach(() => {
  up({ memory: '2M' });
  t = malloc_type_attach('detected');
  before = table.detect;
});
afterEach(async () => {
  table.detect = before;
  await down();
});
const hidden = (cpu: number, b: number): boolean =>
  mcache.bucket[elem(mcache_of(cpu), b)] === uma_root.null_bucket[uma()];

test('a detector sees every small request, and the fast path comes back after it', () => {
  const blocks = Array.from({ length: 40 }, () => malloc(100, t, M_WAITOK));
  for (const p of blocks) free(p, t);
  assert.ok(!hidden(thr.cpu, 3), 'the fast path has a bucket');
  const seen: number[] = [];
  table.detect = { alloc: (size) => seen.push(size) * 0, free: () => false, size: () => -1 };
  detect_set(MD_STACK, true);
  assert.ok(detect_on(MD_STACK));
  for (let b = 0; b < KMEM_CLASSES; b++) {
    assert.ok(hidden(thr.cpu, b) && hidden(thr.cpu + 1, b), `class ${b}, also on another CPU`);
  }
  for (let i = 1; i <= 10; i++) {
    const p = malloc(i * 10, t, M_WAITOK);
    free(p, t);
    assert.ok(malloc_freed_last(p, i * 10 <= 16 ? 0 : 28 - Math.clz32(i * 10 - 1)), `${i * 10}`);
  }
  assert.deepEqual(seen, [10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
  detect_set(MD_STACK, false);
  free(malloc(100, t, M_WAITOK), t);
  assert.ok(!hidden(thr.cpu, 3), 'shown again by the first slow request');
  free(malloc(100, t, M_WAITOK), t);
  assert.equal(seen.length, 10);
  uma_check();
});
test('the free of a block on a marked page asks, also when no detector is on', () => {
  const asked: number[] = [];
  table.detect = {
    alloc: () => 0,
    free: (p) => asked.push(p) < 0,
    size: (p) => (p === marked ? 77 : -1),
  };
  const marked = malloc(2000, t, M_WAITOK);
  page_mark(word_page(marked));
  assert.equal(malloc_usable_size(marked), 77);
  const other = malloc(64, t, M_WAITOK);
  assert.equal(malloc_usable_size(other), 64);
  free(other, t);
  free(marked, t);
  assert.deepEqual(asked, [marked]);
  uma_check();
});
