/*
 * Shows: the page after the boot structures and those around a guarded block are nobody's to touch:
 * what is stored there harms nothing, is reported with whose guard it is, once, and made good; by
 * whoever looks first: an idle CPU, the free of the block, a check, a dump, the shutdown; and the
 * block's pages and its guards come back.
 * By what means: words stored behind ends; what the kernel prints; counts and the walkers.
 */
import assert from 'node:assert/strict';
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { M, machine } from '../machine/header.ts';
import { kconsole } from '../machine/kconsole.ts';
import { mem, page_word, word_page } from '../machine/memory.ts';
import { PK_GUARD, vm_page } from '../h/vm_page.ts';
import { kern_dump } from '../observe/kern_dump.ts';
import {
  guard_look,
  guards_check,
  guards_idle,
  guards_proof,
  page_guards,
} from '../page/vm_guard.ts';
import { vm_page_census, vm_page_check, vm_page_free_count } from '../page/vm_page.ts';
import { vm_page_cache_empty } from '../page/vm_page_cache.ts';
import { budget_check } from '../uma/uma_budget.ts';
import { uma_check } from '../uma/uma_check.ts';
import { contigmalloc } from './kern_contig.ts';
import { free, M_WAITOK, type malloc_type_t, malloc_type_attach } from './kern_malloc.ts';

const { print } = kconsole;
let said: string[] = [];
let up = false;
beforeEach(() => {
  boot({ memory: '4M', cpus: 2, fresh: true, options: { INVARIANTS: true, WITNESS: true } });
  up = true;
  said = [];
  kconsole.print = (text) => void said.push(text);
});
afterEach(() => {
  kconsole.print = print;
  if (!up) return;
  try {
    uma_check();
    vm_page_check();
    budget_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
});
const found = (): number => {
  const c = counters.find((each) => each.name === 'debug.guard.found');
  assert.ok(c);
  return counter_get(c);
};
const after_boot = (): number => machine.first_page[M] - 1;
const guarded = (bytes: number, t: malloc_type_t): number =>
  contigmalloc(bytes, t, M_WAITOK, 0, 2 ** 33, 1, 0, true);
const free_pages = (): number => {
  vm_page_cache_empty();
  return vm_page_free_count();
};

test('the page after the boot structures is a guard, and a store into it is reported', () => {
  const g = after_boot();
  assert.ok(page_guards(g));
  assert.ok(page_word(g) >= machine.boot_end[M]);
  assert.equal(guards_check(), 0);
  mem.I32[page_word(g) + 5] = 0x1234;
  assert.equal(guards_check(), 1);
  const text = `the page after the boot structures was written to: 0x1234 at ${g * 4096 + 20}`;
  assert.ok(said.length === 1 && said[0].includes(text), said.join());
  assert.equal(guards_check(), 0, 'it is made good, and told once');
  assert.equal(found(), 1);
});

test('a guarded block: what runs off either end is found when it is freed', () => {
  const t = malloc_type_attach('frames');
  free(contigmalloc(4096, t, M_WAITOK, 0, 2 ** 33, 1, 0), t);
  const before = free_pages();
  const p = guarded(10_000, t);
  const m = word_page(p);
  assert.ok(page_guards(m - 1) && page_guards(m + 3));
  assert.equal(free_pages(), before - 5);
  assert.equal(vm_page_census()[PK_GUARD], 2);
  mem.I32.fill(7, p, p + (3 * 4096) / 4); // all that is its own
  assert.equal(guards_check(), 0);
  guards_proof();
  mem.I32[p - 1] = 1;
  mem.I32[p + (3 * 4096) / 4] = 2;
  free(p, t);
  const block = `a block of 12288 bytes of type 'frames' at ${p * 4}`;
  assert.equal(said.length, 2);
  assert.ok(said[0].includes(`the page before ${block} was written to: 0x1`), said[0]);
  assert.ok(said[1].includes(`the page behind ${block} was written to: 0x2`), said[1]);
  assert.equal(free_pages(), before);
  assert.equal(vm_page_census()[PK_GUARD], 0);
  assert.ok([m - 1, m, m + 3].every((at) => vm_page.index[at] === 0));
});

test('an idle CPU, a dump and the shutdown look, too', () => {
  const t = malloc_type_attach('frames');
  const p = guarded(4096, t);
  const store = (): void => void (mem.I32[p + 1024] = 3);
  store();
  for (let k = 0; k < 4 && found() === 0; k++) guards_idle();
  assert.equal(found(), 1, 'idle');
  store();
  const path = join(tmpdir(), `kmem-guard-${process.pid}.core`);
  kern_dump(path);
  rmSync(path);
  assert.equal(found(), 2, 'dumped');
  store();
  shutdown();
  up = false;
  assert.equal(said.length, 3, 'shut down');
  assert.match(said[2], /guard: the page behind a block of 4096 bytes of type 'frames'/);
});

test('what is no guard is not looked at', () => {
  const t = malloc_type_attach('frames');
  const p = guarded(4096, t);
  assert.equal(guard_look(word_page(p)), false);
  free(p, t);
  assert.equal(guards_check(), 0);
  assert.deepEqual(said, []);
});
