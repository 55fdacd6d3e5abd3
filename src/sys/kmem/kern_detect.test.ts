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
import { kernel_parts, type MallocDetect, NO_BLOCK } from '../machine/parts.ts';
import { elem } from '../machine/struct.ts';
import {
  KMEM_CLASSES,
  MD_MEMGUARD,
  MD_REDZONE,
  MD_STACK,
  type malloc_type_t,
} from '../h/malloc.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma, uma_root } from '../uma/uma_int.ts';
import { down, up } from '../uma/uma.test.lib.ts';
import { detect_on, detect_set, page_mark } from './kern_detect.ts';
import {
  type Detector,
  detect_alloc,
  detect_free,
  detect_size,
  detectors,
} from './kern_detect_chain.ts';
import {
  free,
  free_undetected,
  M_NOWAIT,
  M_WAITOK,
  malloc,
  malloc_freed_last,
  malloc_undetected,
  malloc_usable_size,
} from './kern_malloc.ts';
import { malloc_type_attach, malloc_type_sums } from './kern_malloc_type.ts';

let t: malloc_type_t;
let before: MallocDetect | undefined;
const of_the_kernel = [...detectors];
const table = kernel_parts as { detect?: MallocDetect };
beforeEach(() => {
  up({ memory: '2M', options: { INVARIANTS: false } });
  t = malloc_type_attach('detected');
  before = table.detect;
});
afterEach(async () => {
  table.detect = before;
  detectors.splice(0, detectors.length, ...of_the_kernel);
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

/** A detector of the test's own: it has blocks of one size, and says what it is asked. */
function detector(which: number, has: number, asked: string[]): Detector {
  const blocks = new Map<number, number>();
  return {
    which,
    alloc: (size, of, flags) => {
      asked.push(`alloc ${which}`);
      if (size !== has) return 0;
      const p = malloc_undetected(size, of as malloc_type_t, flags);
      if (p === 0) return NO_BLOCK;
      page_mark(word_page(p));
      blocks.set(p, size);
      return p;
    },
    free: (p, of) => {
      asked.push(`free ${which}`);
      if (!blocks.delete(p)) return false;
      free_undetected(p, of as malloc_type_t);
      return true;
    },
    size: (p) => blocks.get(p) ?? -1,
  };
}
test('detectors are asked in their order, for what is freed also when they are off', () => {
  const asked: string[] = [];
  detectors.splice(0, detectors.length, detector(MD_MEMGUARD, 100, asked));
  detectors.push(detector(MD_REDZONE, 200, asked));
  table.detect = { alloc: detect_alloc, free: detect_free, size: detect_size };
  detect_set(MD_REDZONE, true);
  const theirs = malloc(200, t, M_WAITOK);
  const plain = malloc(100, t, M_WAITOK); // of one that is off
  assert.deepEqual(asked.splice(0), ['alloc 2', 'alloc 2']);
  detect_set(MD_MEMGUARD, true);
  const first = malloc(100, t, M_WAITOK);
  assert.deepEqual(asked.splice(0), ['alloc 1']);
  assert.deepEqual([theirs, plain, first].map(malloc_usable_size), [200, 128, 100]);
  detect_set(MD_MEMGUARD, false);
  detect_set(MD_REDZONE, false);
  for (const p of [theirs, first]) free(p, t);
  assert.deepEqual(asked, ['free 1', 'free 2', 'free 1'], 'also when they are off');
  free(plain, t);
  uma_check();
});
test('a request that fails in a detector has failed once', () => {
  detectors.splice(0, detectors.length, detector(MD_MEMGUARD, 2 ** 22, []));
  table.detect = { alloc: detect_alloc, free: detect_free, size: detect_size };
  detect_set(MD_MEMGUARD, true);
  assert.equal(malloc(2 ** 22, t, M_NOWAIT), 0);
  assert.equal(malloc_type_sums(t).failed, 1);
  detect_set(MD_MEMGUARD, false);
});
