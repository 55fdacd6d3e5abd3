/*
 * Shows: which blocks are guarded, in BSD's order; where they lie; what of memory and addresses
 * they may have; what becomes of them; what a stray access and a free of what is no block are told
 * as; what is stored late is found while pages wait; that counts of types know nothing of it all.
 * By what means: tables of requests, the places that come out, what the kernel prints, the walkers.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { EINVAL } from '../machine/errno.ts';
import { mem, PAGE_SIZE, page_word, word_page } from '../machine/memory.ts';
import { KernelPanic } from '../machine/panic.ts';
import { MAP_ENTRY_IN_TRANSITION, MAP_ENTRY_ITEM, vm_map_entry } from '../h/vm_map.ts';
import { PK_OBJECT } from '../h/vm_page.ts';
import { M_NOWAIT, M_ZERO } from '../h/malloc_flags.ts';
import { UMA_ZFLAG_PROGRAM, UMA_ZONE_NOFREE, type zone_t } from '../h/uma.ts';
import { kmem_hold } from '../map/vm_kern.ts';
import { vm_map_lock, vm_map_unlock } from '../map/vm_map.ts';
import { vm_map_lookup } from '../map/vm_map_tree.ts';
import { page_failpoint, vm_page_census } from '../page/vm_page.ts';
import { vm_page_cache_empty } from '../page/vm_page_cache.ts';
import { uma_zalloc, uma_zfree } from '../uma/uma_core.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { abandon } from '../boot/whole.ts';
import { kernel_parts } from '../machine/parts.ts';
import { life } from '../machine/life.ts';
import { free, malloc, realloc } from './kern_malloc.ts';
import { malloc_type_attach, malloc_type_sums } from './kern_malloc_type.ts';
import {
  GUARD_FREED,
  GUARD_GONE,
  GUARD_OTHER,
  memguard_access,
  memguard_block,
  memguard_cmp_mtp,
  memguard_flat,
  memguard_free,
  memguard_in_use,
  memguard_realloc,
} from './memguard.ts';
import { memguard_no_block, memguard_trap } from './memguard_trap.ts';
import { guard_map_there } from './memguard_vars.ts';
import { get, guard_down, guard_up, is_guarded, said, set, take } from './memguard.test.lib.ts';
import { M_GUARDABLE } from '../h/malloc_flags.ts';

afterEach(() => guard_down());
const page_of = (at: number): number => Math.floor(at / PAGE_SIZE);
const readable = (at: number, n = 1): boolean => memguard_access(at, n, false, () => {}) === 0;

describe('which blocks', () => {
  test('in this order: minsize, large ones, chance, the name', () => {
    guard_up({ desc: 'mine' });
    const mine = malloc_type_attach('mine');
    const other = malloc_type_attach('other');
    const cases: [string, Record<string, number>, number, typeof mine, boolean][] = [
      ['its name', {}, 100, mine, true],
      ['another name', {}, 100, other, false],
      ['below minsize, in spite of its name', { minsize: 101 }, 100, mine, false],
      ['at minsize', { minsize: 100 }, 100, mine, true],
      [
        'below minsize, in spite of chance',
        { minsize: 101, frequency: 100_000 },
        100,
        other,
        false,
      ],
      ['below minsize, in spite of its size', { minsize: 9000, options: 3 }, 8192, other, false],
      ['a page, with option 2', { options: 2 }, 4096, other, true],
      ['less than a page, with option 2', { options: 2 }, 4095, other, false],
      ['a page, without it', { options: 1 }, 4096, other, false],
      ['by chance, always', { frequency: 100_000 }, 1, other, true],
      ['by chance, never', { frequency: 0 }, 1, other, false],
    ];
    for (const [what, values, size, t, expected] of cases) {
      for (const [name, at] of Object.entries({ minsize: 0, options: 1, frequency: 0 })) {
        assert.equal(set(name, values[name] ?? at).error, 0, name);
      }
      assert.equal(memguard_cmp_mtp(size, t), expected, what);
      const p = take(size, t);
      assert.equal(is_guarded(p), expected, what);
      if (!expected) free(p / 4, t);
      else assert.equal(memguard_free(p, t, 0), GUARD_FREED);
    }
  });
  test('what was rejected and what came by chance is counted, once each', () => {
    guard_up({ desc: 'mine', frequency: 100_000 });
    const t = malloc_type_attach('other');
    set('minsize', 50);
    const rejects = get('minsize_reject');
    free(take(49, t) / 4, t);
    assert.equal(get('minsize_reject'), rejects + 1);
    const hits = get('frequency_hits');
    memguard_free(take(50, t), t, 0);
    assert.equal(get('frequency_hits'), hits + 1);
  });
  test('some of many by chance', () => {
    guard_up({ frequency: 50_000 });
    const t = malloc_type_attach('any');
    const all = Array.from({ length: 400 }, () => take(20, t));
    const n = all.filter(is_guarded).length;
    assert.ok(n > 50 && n < 350, `${n} of 400`); // ten standard deviations and more
    for (const p of all) {
      if (is_guarded(p)) memguard_free(p, t, 0);
      else free(p / 4, t);
    }
  });
  test('a name before there is a type, as it is written, whole', () => {
    guard_up();
    for (const name of ['later', '%s%n%d', 'später', 'x'.repeat(31)]) {
      assert.equal(set('desc', name).error, 0);
      const t = malloc_type_attach(name);
      const p = take(10, t);
      assert.ok(is_guarded(p), name);
      assert.equal(memguard_free(p, t, 0), GUARD_FREED);
      assert.match(memguard_text(p), new RegExp(`type '${name}'`));
    }
    for (const [name, type] of [
      ['late', 'later'],
      ['laterr', 'later'],
      ['x'.repeat(32), 'x'],
    ]) {
      set('desc', name);
      assert.ok(!memguard_cmp_mtp(10, malloc_type_attach(type)), name);
    }
  });
  test('setting another name changes what comes, not what is there', () => {
    guard_up({ desc: 'one' });
    const [one, two] = [malloc_type_attach('one'), malloc_type_attach('two')];
    const first = take(10, one);
    set('desc', 'two');
    const plain = take(10, one);
    const second = take(10, two);
    set('desc', '');
    assert.deepEqual([first, plain, second].map(is_guarded), [true, false, true]);
    assert.ok(readable(first, 10) && readable(second, 10));
    free(plain / 4, one);
    assert.equal(memguard_free(first, one, 0), GUARD_FREED);
    assert.equal(memguard_free(second, two, 0), GUARD_FREED);
  });
  test('the kernel itself never has one', () => {
    guard_up({ desc: 'kernels', frequency: 100_000 });
    const t = malloc_type_attach('kernels');
    const p = malloc(100, t, M_NOWAIT);
    assert.ok(p * 4 < mem.U8.length);
    free(p, t);
  });
  test('what a variable does not take, and why', () => {
    guard_up();
    const refused: [string, number | string, RegExp][] = [
      ['frequency', 100_001, /^$/],
      ['options', 8, /^$/],
      ['options', -1, /^$/],
      ['trap', 'core', /give 'panic' or 'report'/],
      ['trap', '', /give 'panic' or 'report'/],
      ['desc', 'a\nb', /no control characters/],
      ['desc', 'x'.repeat(128), /128 bytes, more than 127/],
      ['quarantine', -1, /^$/],
    ];
    for (const [name, value, why] of refused) {
      const { error, reason } = set(name, value);
      assert.equal(error, EINVAL, `${name} ${value}`);
      assert.match(reason, why, name);
    }
    assert.equal(set('desc', 'x'.repeat(127)).error, 0);
  });
});

function memguard_text(at: number): string {
  set('trap', 'report');
  const { text } = memguard_trap('load8', at, 1, 'here');
  return text;
}

describe('where they lie', () => {
  test('a small block ends where its page does, and both neighbours are holes', () => {
    guard_up({ desc: 'mine' });
    const t = malloc_type_attach('mine');
    for (const size of [1, 15, 16, 17, 100, 2048, 4080, 4081, 4095]) {
      const p = take(size, t);
      assert.equal(p % 16, 0);
      assert.equal(p % PAGE_SIZE, PAGE_SIZE - Math.ceil(size / 16) * 16, `${size}`);
      assert.ok(readable(p, size));
      assert.ok(!readable(p - 1) && !readable(p + size), `${size}: next to it`);
      assert.ok(!readable(p - PAGE_SIZE) && !readable(p + PAGE_SIZE), `${size}: the guards`);
      assert.ok(!readable(p, size + 1) && !readable(p - 1, size));
      const flat = memguard_flat(p, size);
      mem.U8.fill(size, flat, flat + size);
      let seen = 0;
      memguard_access(p, size, false, (at, n) => {
        for (let i = 0; i < n; i++) seen += mem.U8[at + i] === (size & 255) ? 1 : 0;
      });
      assert.equal(seen, size);
      memguard_free(p, t, 0);
    }
  });
  test('a block of pages begins with one, and they are a run', () => {
    guard_up({ desc: 'mine' });
    const t = malloc_type_attach('mine');
    for (const size of [4096, 4097, 3 * 4096, 40 * 4096 - 5]) {
      const p = take(size, t);
      assert.equal(p % PAGE_SIZE, 0);
      const flat = memguard_flat(p, size);
      let bad = 0;
      memguard_access(p, size, true, (at, _n, done) => {
        if (at !== flat + done) bad++;
      });
      assert.equal(bad, 0, 'side by side');
      assert.ok(!readable(p + size) && !readable(p - 1));
      memguard_free(p, t, 0);
    }
  });
  test('they are zeros', () => {
    guard_up({ desc: 'mine' });
    const t = malloc_type_attach('mine');
    for (let i = 0; i < 40; i++) {
      const p = take(3000, t, i % 2 === 0 ? M_ZERO : 0);
      const flat = memguard_flat(p, 3000);
      assert.ok(mem.U8.subarray(flat, flat + 3000).every((b) => b === 0));
      mem.U8.fill(9, flat, flat + 3000);
      memguard_free(p, t, 0);
    }
  });
  test('one after the other, then anew from the start', () => {
    guard_up({ desc: 'mine', divisor: 20 }, { memory: '2M' });
    const t = malloc_type_attach('mine');
    const start = get('mapstart');
    const pages = get('mapsize') / PAGE_SIZE;
    assert.equal(get('cursor'), start);
    let last = 0;
    for (let i = 1; i * 2 + 1 <= pages; i++) {
      const p = take(100, t);
      assert.equal(page_of(p), start / PAGE_SIZE + i * 2 - 1, 'every second page');
      assert.equal(get('cursor'), (page_of(p) + 1) * PAGE_SIZE);
      memguard_free(p, t, 0);
      last = p;
    }
    assert.equal(get('wrapcnt'), 0);
    const p = take(100, t);
    assert.equal(get('wrapcnt'), 1);
    assert.equal(page_of(p), start / PAGE_SIZE + 1);
    assert.ok(last > p);
    memguard_free(p, t, 0);
  });
  test('without option 1: no holes, and no place in the guards of others', () => {
    guard_up({ desc: 'mine' });
    const t = malloc_type_attach('mine');
    const with_guards = take(100, t);
    set('options', 0);
    const first = take(100, t);
    const second = take(100, t);
    assert.equal(first % PAGE_SIZE, 0, 'at the start of its page');
    assert.equal(page_of(first), page_of(with_guards) + 2);
    assert.equal(page_of(second), page_of(first) + 1);
    assert.ok(!readable(first + 100), 'the rest of its page is not its own');
    set('options', 1);
    const third = take(100, t);
    assert.equal(page_of(third), page_of(second) + 2);
    for (const p of [with_guards, first, second, third]) memguard_free(p, t, 0);
  });
  test('items: at the end of a page as far as their zone aligns them', () => {
    guard_up({ desc: 'mine' });
    const z = uma_zcreate('mine', 40, { align: 63, flags: UMA_ZFLAG_PROGRAM });
    kernel_parts.memguard?.zone_made(z);
    const p = uma_zalloc(z, M_NOWAIT | M_GUARDABLE) * 4;
    assert.ok(is_guarded(p));
    assert.equal(p % PAGE_SIZE, PAGE_SIZE - 64);
    assert.equal(memguard_in_use(z, MAP_ENTRY_ITEM).count, 1);
    assert.equal(memguard_free(p, z + 2, MAP_ENTRY_ITEM), GUARD_OTHER, 'of another zone');
    assert.equal(memguard_free(p, malloc_type_attach('mine'), 0), GUARD_OTHER, 'of a type');
    const q = uma_zalloc(z, M_NOWAIT);
    assert.ok(q * 4 < mem.U8.length, 'the kernel itself');
    uma_zfree(z, q);
    assert.equal(memguard_free(p, z, MAP_ENTRY_ITEM), GUARD_FREED);
    assert.equal(memguard_in_use(z, MAP_ENTRY_ITEM).count, 0);
    set('desc', '');
    const r = uma_zalloc(z, M_NOWAIT | M_GUARDABLE);
    assert.ok(r * 4 < mem.U8.length);
    uma_zfree(z, r);
  });
  test('items of a zone that keeps its pages: with option 4', () => {
    guard_up({ desc: 'kept' });
    const flags = UMA_ZFLAG_PROGRAM | UMA_ZONE_NOFREE;
    const z: zone_t = uma_zcreate('kept', 40, { flags });
    kernel_parts.memguard?.zone_made(z);
    const plain = uma_zalloc(z, M_NOWAIT | M_GUARDABLE);
    assert.ok(plain * 4 < mem.U8.length);
    uma_zfree(z, plain);
    set('options', 5);
    const p = uma_zalloc(z, M_NOWAIT | M_GUARDABLE) * 4;
    assert.ok(is_guarded(p));
    memguard_free(p, z, MAP_ENTRY_ITEM);
  });
});

describe('what they may have', () => {
  test('a part of memory and of addresses; divisors that are none are 10', () => {
    const sizes: number[][] = [];
    for (const divisor of [10, 0, 2 ** 31, 5, 1]) {
      guard_up({ divisor });
      sizes.push([get('phys_limit'), get('mapsize')]);
      guard_down();
    }
    guard_up();
    const [ten, zero, huge, five, one] = sizes;
    assert.deepEqual(zero, ten);
    assert.deepEqual(huge, ten);
    assert.ok(Math.abs(five[0] - 2 * ten[0]) <= 2 * PAGE_SIZE);
    assert.equal(one[1], 2 * one[0], 'at most twice the memory');
    assert.equal(ten[1], 2 * one[0]);
  });
  test('a line each says where, once something is to be guarded', () => {
    guard_up();
    assert.deepEqual(said, []);
    assert.equal(get('mapstart'), 0);
    set('desc', 'mine');
    const base = get('mapstart').toString(16);
    const limit = get('maplimit').toString(16);
    assert.deepEqual(said, [
      'MEMGUARD DEBUGGING ALLOCATOR INITIALIZED:',
      `\tMEMGUARD map base: 0x${base}`,
      `\tMEMGUARD map limit: 0x${limit}`,
      `\tMEMGUARD map size: ${get('mapsize') / 1024} KBytes`,
    ]);
    assert.equal(get('maplimit') - get('mapstart'), get('mapsize'));
    set('desc', 'other');
    assert.equal(said.length, 4);
    guard_down();
    guard_up({ desc: 'mine' });
    assert.equal(said.length, 4, 'at boot, when that asks for it');
  });
  test('a machine too small says so, and guards nothing', () => {
    guard_up({ desc: 'mine', divisor: 150 }, { memory: '1M' });
    assert.equal(get('mapsize'), 0);
    assert.match(said.join(), /MEMGUARD: \d+ bytes of memory are too few: it is off/);
    const t = malloc_type_attach('mine');
    const p = take(100, t);
    assert.ok(!is_guarded(p));
    free(p / 4, t);
  });
  test('small ones up to phys_limit; then as any others, and a page or more is not', () => {
    guard_up({ desc: 'mine' }, { memory: '4M' });
    const t = malloc_type_attach('mine');
    const limit = get('phys_limit') / PAGE_SIZE;
    const all: number[] = [];
    for (let i = 0; i < limit; i++) all.push(take(100, t));
    assert.ok(all.every(is_guarded));
    assert.equal(get('mapused'), limit * PAGE_SIZE);
    assert.equal(get('wasted'), limit * (PAGE_SIZE - 100));
    const plain = take(100, t);
    assert.ok(!is_guarded(plain));
    assert.equal(get('fail_pgs'), 1);
    const page = take(4096, t);
    assert.ok(is_guarded(page));
    memguard_free(all.pop() as number, t, 0);
    memguard_free(page, t, 0);
    const again = take(100, t);
    assert.ok(is_guarded(again));
    for (const p of [...all, again]) memguard_free(p, t, 0);
    free(plain / 4, t);
    assert.equal(get('wasted'), 0);
    assert.equal(get('mapused'), 0);
    assert.equal(get('numalloc'), get('numfree'));
  });
  test('no pages, no run, no addresses: as any other', () => {
    guard_up({ desc: 'mine', divisor: 20 }, { memory: '4M' });
    const t = malloc_type_attach('mine');
    page_failpoint.refuse = () => true;
    const none = take(100, t);
    page_failpoint.refuse = null;
    assert.ok(!is_guarded(none));
    assert.equal(get('fail_pgs'), 1);
    if (none !== 0) free(none / 4, t);
    const size = get('mapsize');
    const vast = take(size, t);
    assert.equal(vast, 0, 'more than the memory');
    assert.equal(take(0, t) % 16, 0);
    assert.equal(get('fail_kva'), 0);
    guard_down();
    guard_up({ desc: 'mine', divisor: 2 ** 20 - 1 }); // too big: 10
    const u = malloc_type_attach('mine');
    // Addresses are twice the memory: blocks without pages of their own take them all.
    const held: number[] = [];
    for (let p = take(PAGE_SIZE * 200, u); is_guarded(p); p = take(PAGE_SIZE * 200, u)) {
      held.push(p);
      if (held.length > 100) break;
    }
    assert.ok(held.length >= 1);
    for (const p of held) memguard_free(p, u, 0);
  });
  test('counts of the type, and pages of the budget, know nothing of them', () => {
    guard_up({ desc: 'mine' });
    const t = malloc_type_attach('mine');
    const before = malloc_type_sums(t);
    const all = [take(10, t), take(5000, t), take(100, t)];
    assert.deepEqual(malloc_type_sums(t), before);
    for (const p of all) memguard_free(p, t, 0);
    assert.deepEqual(malloc_type_sums(t), before);
  });
});

describe('what becomes of them', () => {
  test('pages go back at once', () => {
    guard_up({ desc: 'mine' });
    const t = malloc_type_attach('mine');
    memguard_free(take(100, t), t, 0);
    const pages = vm_page_census()[PK_OBJECT];
    const p = take(9000, t);
    assert.equal(vm_page_census()[PK_OBJECT], pages + 3);
    memguard_free(p, t, 0);
    assert.equal(vm_page_census()[PK_OBJECT], pages);
    assert.ok(!readable(p));
  });
  test('another size: a new block with what the old one held', () => {
    guard_up({ desc: 'mine' });
    const t = malloc_type_attach('mine');
    let p = take(10, t);
    mem.U8.set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], memguard_flat(p, 10));
    for (const size of [10, 5000, 3, 200]) {
      const q = memguard_realloc(p, size, t, M_NOWAIT);
      assert.notEqual(q, p);
      assert.ok(is_guarded(q) && !readable(p));
      const flat = memguard_flat(q, size);
      assert.deepEqual([...mem.U8.subarray(flat, flat + 3)], [1, 2, 3]);
      assert.equal(memguard_block(q)?.size, size);
      p = q;
    }
    set('desc', '');
    const q = memguard_realloc(p, 20, t, M_NOWAIT);
    assert.ok(is_guarded(q), 'also when nothing is to be guarded any more');
    vm_page_cache_empty();
    page_failpoint.refuse = () => true;
    assert.equal(memguard_realloc(q, 30, t, M_NOWAIT), 0);
    page_failpoint.refuse = null;
    assert.ok(readable(q, 20), 'it is still there');
    assert.equal(memguard_realloc(q + 16, 30, t, M_NOWAIT), -1);
    const plain = memguard_realloc(q, 0, t, M_NOWAIT);
    assert.ok(plain > 0 && !is_guarded(plain));
    free(plain / 4, t);
  });
  test('a block of the memory that moves is guarded then', () => {
    guard_up();
    const t = malloc_type_attach('mine');
    const p = malloc(10, t, M_NOWAIT);
    mem.U8.set([1, 2, 3, 4, 5, 6, 7, 8, 9, 10], p * 4);
    set('desc', 'mine');
    const q = realloc(p, 1000, t, M_NOWAIT | M_GUARDABLE) * 4;
    assert.ok(is_guarded(q));
    const flat = memguard_flat(q, 1000);
    assert.deepEqual([...mem.U8.subarray(flat, flat + 10)], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    assert.equal(mem.U8[flat + 16], 0, 'beyond what the old one had');
    assert.equal(malloc_type_sums(t).inuse, 0);
    memguard_free(q, t, 0);
  });
});

describe('what is told', () => {
  test('where a stray access is, seen from the block', () => {
    guard_up({ desc: 'mine', trap: 'report' });
    const t = malloc_type_attach('mine');
    const p = take(100, t);
    const block = `a block of 100 bytes of type 'mine' at 0x${p.toString(16)}`;
    const text = (at: number, n: number): string => memguard_trap('op', at, n, 'x').text;
    assert.ok(text(p + 100, 4).endsWith(`is 0 bytes behind the end of ${block}`));
    assert.ok(text(p + 101, 4).endsWith(`is 1 byte behind the end of ${block}`));
    assert.ok(text(p - 1, 1).endsWith(`is 1 byte before ${block}`));
    assert.ok(text(p - PAGE_SIZE, 1).endsWith(`is 4096 bytes before ${block}`));
    assert.ok(text(p + 98, 4).endsWith(`is 98 bytes into, and runs 2 bytes beyond, ${block}`));
    memguard_free(p, t, 0);
    assert.match(
      text(p + 7, 1),
      /is 7 bytes into a block of 100 bytes .* that was freed \d.* ms before$/,
    );
    assert.match(text(p + 200, 1), /behind the end of a block .* that was freed/);
    assert.match(text(get('maplimit') - 1, 1), /is in no guarded block that is known$/);
    assert.equal(get('traps'), 8);
  });
  test('of two neighbours the nearer one; of two that were freed the newer one', () => {
    guard_up({ desc: 'mine', trap: 'report' });
    const t = malloc_type_attach('mine');
    const [p, q] = [take(100, t), take(200, t)];
    assert.equal(page_of(q), page_of(p) + 2, 'they share a guard');
    const text = (at: number): string => memguard_trap('op', at, 1, 'x').text;
    assert.match(text(p + 120), /behind the end of a block of 100 bytes/);
    assert.match(text(q - 1), /1 byte before a block of 200 bytes/);
    memguard_free(p, t, 0);
    memguard_free(q, t, 0);
    assert.match(text(q), /0 bytes into a block of 200 bytes/);
    assert.match(text(p), /0 bytes into a block of 100 bytes/);
  });
  test('a block that another thread is about to free', () => {
    guard_up({ desc: 'mine', trap: 'report' });
    const t = malloc_type_attach('mine');
    const p = take(100, t);
    const mp = guard_map_there();
    vm_map_lock(mp);
    kmem_hold(mp, vm_map_lookup(mp, page_of(p)));
    vm_map_unlock(mp);
    assert.ok(!readable(p));
    assert.match(
      memguard_trap('op', p, 1, 'x').text,
      /0 bytes into a block .* that is being freed$/,
    );
    assert.equal(memguard_free(p, t, 0), GUARD_GONE);
    vm_map_lock(mp);
    const e = vm_map_lookup(mp, page_of(p));
    vm_map_entry.eflags[e] &= ~MAP_ENTRY_IN_TRANSITION;
    vm_map_entry.transition[e] = 0;
    vm_map_unlock(mp);
    assert.equal(memguard_free(p, t, 0), GUARD_FREED);
  });
  test('each place in a program once', () => {
    guard_up({ desc: 'mine', trap: 'report' });
    const t = malloc_type_attach('mine');
    const p = take(100, t);
    said.length = 0;
    for (let i = 0; i < 3; i++) memguard_trap('op', p + 100, 4, 'a.js:1');
    assert.equal(said.length, 1);
    memguard_trap('op', p + 100, 4, 'a.js:2');
    assert.equal(said.length, 2);
    for (let i = 0; i < 300; i++) memguard_trap('op', p + 100, 4, `b.js:${i}`);
    assert.ok(said.length <= 128, 'no more than it can remember');
    assert.equal(get('traps'), 304);
    memguard_free(p, t, 0);
  });
  test('a second free, and one of what never was a block', () => {
    guard_up({ desc: 'mine', trap: 'report' });
    const t = malloc_type_attach('mine');
    const p = take(100, t);
    assert.equal(memguard_free(p + 16, t, 0), GUARD_OTHER);
    assert.equal(memguard_free(p, t, 0), GUARD_FREED);
    assert.equal(memguard_free(p, t, 0), GUARD_GONE);
    const { text } = memguard_no_block(p, 'x');
    assert.match(
      text,
      new RegExp(`^MemGuard detected double-free of 0x${p.toString(16)}: it is 0 `),
    );
    assert.equal(memguard_free(p + PAGE_SIZE, t, 0), GUARD_GONE);
  });
  test('a panic, unless it is said otherwise', () => {
    guard_up({ desc: 'mine' });
    const t = malloc_type_attach('mine');
    const p = take(100, t);
    said.length = 0;
    assert.throws(
      () => memguard_trap('store32', p + 100, 4, 'x'),
      (e) => e instanceof KernelPanic && /store32 of 4 bytes at 0x/.test(e.message),
    );
    assert.ok(said.some((line) => line.startsWith('memguard: store32')));
    abandon();
    guard_up();
  });
  test('a second free is the panic of BSD', () => {
    guard_up({ desc: 'mine' });
    const t = malloc_type_attach('mine');
    const p = take(100, t);
    memguard_free(p, t, 0);
    const hex = `0x${p.toString(16)}`;
    assert.throws(
      () => memguard_no_block(p, 'x'),
      (e) =>
        e instanceof KernelPanic && e.message.includes(`MemGuard detected double-free of ${hex}`),
    );
    abandon();
    guard_up();
  });
  test('what a view stored beside the block, at its free', () => {
    guard_up({ desc: 'mine', trap: 'report' });
    const t = malloc_type_attach('mine');
    for (const [off, where] of [
      [-1, /is 1 byte before a block of 90 bytes/],
      [-3000, /is 3000 bytes before/],
      [90, /is 0 bytes behind the end of/],
      [95, /is 5 bytes behind the end of/],
    ] as const) {
      const p = take(90, t);
      mem.U8[memguard_flat(p, 90) + off] = 1;
      said.length = 0;
      assert.equal(memguard_free(p, t, 0), GUARD_FREED);
      assert.equal(said.length, 1);
      assert.match(said[0], /^memguard: modified by a view/);
      assert.match(said[0], where);
    }
    assert.equal(get('traps'), 4);
  });
});

describe('pages that wait', () => {
  test('so many bytes, the oldest leaves first, and a late store is told', () => {
    guard_up({ desc: 'mine', trap: 'report', quarantine: 4 * PAGE_SIZE });
    const t = malloc_type_attach('mine');
    const blocks = Array.from({ length: 6 }, () => take(100, t));
    const flats = blocks.map((p) => memguard_flat(p, 100));
    said.length = 0;
    for (const p of blocks.slice(0, 4)) memguard_free(p, t, 0);
    assert.equal(get('held'), 4 * PAGE_SIZE);
    assert.ok(blocks.slice(0, 4).every((p) => !readable(p)));
    mem.U8[flats[1] + 40] = 7;
    memguard_free(blocks[4], t, 0);
    assert.deepEqual(said, [], 'the first one was whole');
    memguard_free(blocks[5], t, 0);
    assert.equal(said.length, 1);
    const at = `0x${(blocks[1] + 40).toString(16)}`;
    assert.match(
      said[0],
      new RegExp(`modified after free: 0xdedede07 at ${at}, 40 bytes into a block`),
    );
    assert.match(said[0], /that was freed \d+\.\d\d\d ms before/);
    assert.equal(get('late'), 1);
    assert.equal(get('held'), 4 * PAGE_SIZE);
    mem.U8[flats[3] + 40] = 7;
    set('quarantine', PAGE_SIZE);
    assert.equal(get('held'), PAGE_SIZE);
    assert.equal(get('late'), 2);
    set('quarantine', 0);
    assert.equal(get('held'), 0);
    assert.equal(vm_page_census()[PK_OBJECT] > 0, true, 'the ring');
  });
  test("their addresses are nobody else's, and a touch of them is one of a freed block", () => {
    guard_up({ desc: 'mine', trap: 'report', quarantine: 8 * PAGE_SIZE }, { memory: '4M' });
    const t = malloc_type_attach('mine');
    const p = take(100, t);
    memguard_free(p, t, 0);
    const seen = new Set<number>();
    for (let i = 0; get('wrapcnt') < 2; i++) {
      const q = take(100 * PAGE_SIZE, t); // too many to wait
      seen.add(page_of(q));
      memguard_free(q, t, 0);
      assert.ok(i < 1000);
    }
    assert.ok(!seen.has(page_of(p)));
    assert.match(memguard_text(p + 3), /3 bytes into a block of 100 bytes .* that was freed/);
  });
  test('they go when others want the memory, when blocks want the limit, and are checked', () => {
    guard_up({ desc: 'mine', trap: 'report', quarantine: 2 ** 30 }, { memory: '4M' });
    const t = malloc_type_attach('mine');
    const limit = get('phys_limit') / PAGE_SIZE;
    for (let i = 0; i < limit * 3; i++) {
      const p = take(100, t);
      assert.ok(is_guarded(p), `${i}`);
      memguard_free(p, t, 0);
    }
    assert.ok(get('held') / PAGE_SIZE >= Math.min(limit, 60));
    const p = take(100, t);
    const flat = memguard_flat(p, 100);
    memguard_free(p, t, 0);
    mem.U8[flat] = 1;
    kernel_parts.memguard?.check();
    assert.equal(get('late'), 1);
    kernel_parts.memguard?.check();
    assert.equal(get('late'), 1, 'told once');
    assert.ok(life.unhold(false) > 0);
    assert.equal(get('held'), 0);
  });
  test('a block larger than all that may wait does not', () => {
    guard_up({ desc: 'mine', quarantine: 2 * PAGE_SIZE });
    const t = malloc_type_attach('mine');
    memguard_free(take(3 * PAGE_SIZE, t), t, 0);
    assert.equal(get('held'), 0);
  });
  test('pages that go back are not poison any more to those who find zeros', () => {
    guard_up({ desc: 'mine', quarantine: 8 * PAGE_SIZE });
    const t = malloc_type_attach('mine');
    for (let i = 0; i < 60; i++) {
      const p = take(4000, t);
      const w = memguard_flat(p, 4000) / 4;
      assert.ok(mem.I32.subarray(page_word(word_page(w)), w + 1000).every((x) => x === 0));
      memguard_free(p, t, 0);
    }
  });
});
