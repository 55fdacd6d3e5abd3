/*
 * Shows: a run is set aside for an object, each page comes from its place, once; what is left comes
 * back at the object's end, when a request finds no page, oldest first, and when a run is wanted;
 * zeroed pages stay zeroed; none is made where pages are few; two threads, one of which dies at any
 * time, lose no page.
 * By what means: one thread on a small machine, the walkers after each; two worker threads, killed
 * and replaced.  Deaths at every step: sim/scripts/page_reserv.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { churn } from '../machine/kills.test.lib.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { Crew } from '../machine/workers.test.lib.ts';
import { PG_ZERO, PK_RESERV, vm_page } from '../h/vm_page.ts';
import { vm_page_alloc_contig } from '../map/vm_contig_alloc.ts';
import { sysctl_read } from '../observe/kern_sysctl.ts';
import {
  pmap_zero_page,
  vm_page_census,
  vm_page_check,
  vm_page_free,
  vm_page_free_count,
  vm_page_free_run,
  vm_page_wire,
} from './vm_page.ts';
import { vm_page_cache_empty, vm_page_get } from './vm_page_cache.ts';
import { RESERV_PAGES } from './vm_phys.ts';
import {
  vm_reserv_break,
  vm_reserv_check,
  vm_reserv_end,
  vm_reserv_left,
  vm_reserv_make,
  vm_reserv_take,
} from './vm_reserv.ts';
import { done_word, reserv_words, stop_word } from './vm_reserv.test.lib.ts';

const N = RESERV_PAGES;
/** Words that stand for objects. */
const [A, B, C] = [4096, 8192, 12288];

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
function up(memory = '24M', set: Record<string, number> = {}, checked = false): void {
  const options = { INVARIANTS: true, WITNESS: true };
  boot({ memory, cpus: 2, fresh: true, set, checked, options });
}
function proven(left: number): void {
  vm_page_check();
  vm_reserv_check();
  assert.equal(vm_reserv_left(), left);
  assert.equal(vm_page_census()[PK_RESERV], left);
}
const count = (name: string): number => {
  const c = counters.find((k) => k.name === `vm.reserv.${name}`);
  assert.ok(c, name);
  return counter_get(c);
};
/** A page of a reservation, which is the test's own then. */
function taken(o: number, i: number, base = 0): number {
  const m = vm_reserv_take(o, i, base, 0);
  if (m !== 0) vm_page_wire(m, 1);
  return m;
}

test('each page comes from its place, once; the rest ends with the object', () => {
  up();
  const before = vm_page_free_count();
  assert.equal(taken(A, 5), 0, 'nothing is set aside');
  assert.ok(vm_reserv_make(A, 0));
  assert.equal(vm_reserv_make(A, 0), false, 'once');
  proven(N);
  const first = taken(A, 0);
  for (const k of [1, 700, N - 1, 2]) assert.equal(taken(A, k), first + k);
  assert.equal(taken(A, 700), 0, 'it is somebody else’s');
  assert.equal(taken(B, 3), 0, 'another object');
  assert.equal(taken(A, N + 3, N), 0, 'another window');
  proven(N - 5);
  for (const k of [0, 1, 2, 700, N - 1]) vm_page_free(first + k);
  vm_page_cache_empty();
  assert.equal(taken(A, 700), first + 700, 'a page that is free is taken from its place again');
  vm_page_free(first + 700);
  vm_reserv_end(A);
  proven(0);
  assert.deepEqual([count('freed'), count('broken')], [1, 0]);
  assert.equal(vm_page_free_count(), before);
});
test('a request that finds no page breaks the one that was used longest ago', () => {
  up();
  for (const o of [A, B, C]) assert.ok(vm_reserv_make(o, 0));
  const a = taken(A, 0);
  const own: number[] = [];
  let m = 0;
  while (count('reclaimed') === 0) {
    m = vm_page_get(0);
    assert.notEqual(m, 0);
    vm_page_wire(m, 1);
    own.push(m);
  }
  assert.equal(taken(B, 1), 0, 'B was made first of those that are left');
  assert.notEqual(taken(A, 1), 0);
  assert.notEqual(taken(C, 1), 0);
  assert.equal(count('broken'), 1);
  for (const page of own) vm_page_free(page);
  vm_page_free_run(a, 2);
  assert.match(text('vm.reserv.partpopq'), /: 8180K, 2$/);
});
function text(name: string): string {
  const bytes = sysctl_read(name);
  assert.ok(typeof bytes !== 'number');
  return new TextDecoder().decode(bytes).replaceAll('\0', '').trim();
}
test('a run that is wanted comes out of what is set aside', () => {
  up('16M');
  assert.ok(vm_reserv_make(A, 0));
  const most = vm_page_free_count();
  const m = vm_page_alloc_contig(most, 0, { low: 0, high: 2 ** 20, align: 1, boundary: 0 }, false);
  assert.notEqual(m, 0, 'more than is free without it');
  vm_page_free_run(m, most);
  assert.equal(count('broken'), 1);
  proven(0);
});
test('pages that are zero are so still, in the hand and when they are given back', () => {
  up();
  assert.ok(vm_reserv_make(A, 0));
  const m = taken(A, 9);
  pmap_zero_page(m);
  vm_page_free(m, true);
  vm_page_cache_empty();
  const again = vm_reserv_take(A, 9, 0, 0);
  assert.equal(again, m);
  assert.notEqual(vm_page.flags[m] & PG_ZERO, 0);
  vm_page_wire(m, 1);
  assert.ok(vm_reserv_break() === N - 1);
  assert.equal(vm_reserv_break(), 0);
  vm_page_free(m);
  proven(0);
});
test('in a checked machine every word is touched under its lock', () => {
  up('12M', {}, true);
  assert.ok(vm_reserv_make(A, 0));
  const first = taken(A, 0);
  vm_page_free(first);
  assert.match(text('vm.reserv.partpopq'), /, 1$/);
  assert.equal(vm_reserv_break(), N - 1);
  assert.ok(vm_reserv_make(B, 0));
  vm_reserv_end(B);
});
test('where pages are few nothing is set aside', () => {
  up('8M', { 'vm.v_free_target': 1000 });
  assert.equal(vm_reserv_make(A, 0), false);
  proven(0);
});
test('rows of which nothing is left serve again', () => {
  up('16M');
  const own: number[] = [];
  for (let w = 0; w < 20; w++) {
    assert.ok(vm_reserv_make(A, w * N), `window ${w}`);
    for (let k = 0; k < N; k++) own.push(taken(A, w * N + k, w * N));
    for (const m of own.splice(0)) vm_page_free(m);
    vm_page_cache_empty();
  }
  vm_reserv_end(A);
  proven(0);
});
test('threads that are killed meanwhile lose no page', async () => {
  const { handle } = boot({ memory: '32M', cpus: 4, fresh: true, options: { INVARIANTS: true } });
  reserv_words();
  const crew = new Crew<{ n: number }>(new URL('./vm_reserv.test.worker.ts', import.meta.url));
  const start = (i: number, n: number) => crew.start(handle, 'use', { id: i, seed: SEED + n });
  const words = { done: done_word(), stop: stop_word() };
  await churn({ crew, workers: 2, start, kills: 6, seed: SEED, ...words, work: 300 });
  for (const o of [1, 2]) vm_reserv_end(o * 4096);
  proven(0);
});
