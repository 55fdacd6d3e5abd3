/*
 * Shows malloc, free, realloc and types by calling them: sizes at every edge,
 * zeroed memory that had been dirty, the rules of realloc, what panics and with
 * which words, and the counts against a ledger that the test keeps for itself.
 * The stream and kern.mprof are read from their bytes alone.
 */
import { kconsole } from '../machine/kconsole.ts';
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, type BootOptions, shutdown } from '../boot/whole.ts';
import { thr } from '../machine/cpu.ts';
import { M, machine } from '../machine/header.ts';
import { mem } from '../machine/memory.ts';
import { sysctl_decls, sysctl_set } from '../machine/sysctl_decl.ts';
import { KMEM_ZMAX, malloc_type } from '../h/malloc.ts';
import { sysctl_read } from '../observe/kern_sysctl.ts';
import { VM_ALLOC_INTERRUPT } from '../h/vm_page.ts';
import { vm_page_alloc, vm_page_wire, vm_page_free_count } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { account, account_text } from './kmem.test.lib.ts';
import {
  free,
  M_NOWAIT,
  M_WAITOK,
  M_ZERO,
  malloc,
  malloc_last_fail,
  malloc_type_attach,
  type malloc_type_t,
  malloc_usable_size,
  realloc,
  reallocf,
} from './kern_malloc.ts';
import {
  malloc_desc2type,
  malloc_init,
  malloc_type_create,
  malloc_type_name,
  malloc_type_sums,
  malloc_uninit,
} from './kern_malloc_type.ts';

const PAGE = 4096;
let t: malloc_type_t;
function up(o: BootOptions = {}): malloc_type_t {
  boot({ memory: '8M', cpus: 3, fresh: true, ...o });
  t = malloc_type_attach('test');
  return t;
}
afterEach(() => {
  if (thr.cpu < 0) return;
  try {
    if (machine.panic_cpu[M] === 0) {
      uma_check();
      assert.equal(account_text(account()), '');
    }
    shutdown();
  } finally {
    if (thr.cpu >= 0) abandon();
  }
});
function block_of(size: number): number {
  if (size > KMEM_ZMAX) return Math.ceil(size / PAGE) * PAGE;
  let b = 16;
  while (b < size) b *= 2;
  return b;
}
const bytes = (p: number, n: number): Uint8Array => mem.U8.subarray(p * 4, p * 4 + n);
const ZEROS = new Uint8Array(20 * PAGE + 1);
const kinds: [string, BootOptions][] = [
  ['plain', {}],
  ['INVARIANTS', { options: { INVARIANTS: true, DIAGNOSTIC: true } }],
];

for (const [kind, o] of kinds) {
  test(`every size to 5000 and around whole pages, ${kind}`, () => {
    up(o);
    // What INVARIANTS adds follows from the block: some sizes of each have it all.
    const step = kind === 'plain' ? 1 : 7;
    const sizes = Array.from({ length: Math.ceil(5001 / step) }, (_, n) => n * step);
    for (let n = 2; n <= 20; n++) for (const d of [-1, 0, 1]) sizes.push(n * PAGE + d);
    const before = malloc_type_sums(t);
    let [used, live] = [0, 0];
    for (const size of sizes) {
      const p = malloc(size, t, M_NOWAIT);
      const q = malloc(size, t, M_WAITOK | M_ZERO);
      assert.ok(p > 0 && q > 0 && p !== q, `size ${size}`);
      assert.equal(malloc_usable_size(p), block_of(size), `size ${size}`);
      bytes(p, block_of(size)).fill(0xa5);
      assert.ok(
        Buffer.compare(bytes(q, size), ZEROS.subarray(0, size)) === 0,
        `zero, size ${size}`,
      );
      used += 2 * block_of(size);
      live += 2;
      const now = malloc_type_sums(t);
      assert.equal(now.bytes - before.bytes, used, `size ${size}`);
      assert.equal(now.inuse - before.inuse, live);
      free(p, t);
      used -= block_of(size);
      live--;
      if (size % 3 === 0 || size > PAGE) {
        free(q, t);
        used -= block_of(size);
        live--;
      }
      if (live > 100 && size % 500 === 0) uma_check();
      if (used > 4e6) break;
    }
    assert.ok(live > 100);
  });
  test(`M_ZERO is zero on memory that was dirty, ${kind}`, () => {
    up(o);
    for (const size of [1, 16, 100, 4096, 4097, 5 * PAGE + 7]) {
      const dirty = Array.from({ length: 40 }, () => malloc(size, t, M_NOWAIT));
      for (const p of dirty) bytes(p, block_of(size)).fill(0xff);
      for (const p of dirty) free(p, t);
      const clean = Array.from({ length: 40 }, () => malloc(size, t, M_NOWAIT | M_ZERO));
      assert.ok(
        clean.some((p) => dirty.includes(p)),
        'none came back: the test shows nothing',
      );
      for (const p of clean) {
        const n = size <= KMEM_ZMAX && !machine.options[M] ? block_of(size) : size;
        assert.ok(bytes(p, n).every((v) => v === 0));
        free(p, t);
      }
    }
  });
}

test('size 0 is a block of 16 bytes, counted', () => {
  up();
  const p = malloc(0, t, M_NOWAIT);
  assert.equal(malloc_usable_size(p), 16);
  assert.deepEqual(malloc_type_sums(t), { inuse: 1, bytes: 16, requests: 1, failed: 0 });
  free(p, t);
  assert.deepEqual(malloc_type_sums(t), { inuse: 0, bytes: 0, requests: 1, failed: 0 });
});
test('sizes that are none: too large fails, no number panics', () => {
  up();
  for (const size of [2 ** 32, 2 ** 32 + 100, 2 ** 40, 2 ** 53]) {
    assert.equal(malloc(size, t, M_NOWAIT), 0, `${size}`);
  }
  assert.equal(malloc_type_sums(t).failed, 4);
  for (const size of [-1, Number.NaN, Number.POSITIVE_INFINITY, -(2 ** 32)]) {
    assert.throws(() => malloc(size, t, M_NOWAIT), /malloc: impossible size/, `${size}`);
    abandon();
    up();
  }
});
test('free of 0 does nothing; of anything that is no block panics with the address', () => {
  up();
  free(0, t);
  assert.equal(malloc_type_sums(t).requests, 0);
  const large = malloc(3 * PAGE, t, M_NOWAIT);
  const wrong = [64, large + 4, large + PAGE / 4, (7 << 20) >> 2, 2 ** 30, -5];
  for (const p of wrong) {
    assert.throws(() => free(p, t), new RegExp(`free: address ${p * 4}.* has not been allocated`));
    abandon();
    up();
    malloc(3 * PAGE, t, M_NOWAIT);
  }
});
test('a block freed twice, or in its middle, is found under INVARIANTS', () => {
  const twice = (p: number): void => {
    free(p, t);
    free(p, t);
  };
  const bad: [RegExp, (p: number) => void][] = [
    [/Duplicate free of item/, twice],
    [/is no item of its slab/, (p) => free(p + 1, t)],
  ];
  for (const [text, run] of bad) {
    up({ options: { INVARIANTS: true } });
    const p = malloc(100, t, M_NOWAIT);
    assert.throws(() => run(p), text);
    abandon();
  }
});

test('realloc keeps the place iff the size fits and is above half, or the block is 16', () => {
  up();
  const sizes = [0, 1, 8, 9, 15, 16, 17, 32, 33, 64, 100, 1000, 2048, 2049, 4096, 4097, 8192, 8193];
  for (const from of sizes) {
    for (const to of sizes) {
      const p = malloc(from, t, M_NOWAIT);
      const old = block_of(from);
      for (let i = 0; i < old; i++) mem.U8[p * 4 + i] = (i * 7 + from) & 255;
      const before = malloc_type_sums(t);
      const q = realloc(p, to, t, M_NOWAIT);
      const kept = to <= old && (to > old / 2 || old === 16);
      assert.equal(q === p, kept, `${from} to ${to}`);
      for (let i = 0; i < Math.min(to, old); i++) {
        assert.equal(mem.U8[q * 4 + i], (i * 7 + from) & 255, `${from} to ${to}, byte ${i}`);
      }
      assert.equal(malloc_type_sums(t).requests - before.requests, kept ? 0 : 1);
      assert.equal(malloc_type_sums(t).inuse, before.inuse);
      free(q, t);
    }
  }
  assert.equal(malloc_usable_size(realloc(0, 77, t, M_NOWAIT)), 128);
});
test('the old size comes from the page, also where a slab stood before', () => {
  // A large block on pages that a slab has left: a stale keg must not shorten it.
  up({ memory: '1M' });
  const small = Array.from({ length: 400 }, () => malloc(1000, t, M_NOWAIT)).filter((p) => p !== 0);
  for (const p of small) free(p, t);
  uma_reclaim();
  let n = 250;
  let p = 0;
  while (p === 0) p = malloc(--n * PAGE, t, M_NOWAIT);
  assert.ok(small.some((s) => s > p && s < p + (n * PAGE) / 4));
  bytes(p, n * PAGE).fill(0x5a);
  assert.equal(malloc_usable_size(p), n * PAGE);
  const q = realloc(p, 5 * PAGE, t, M_NOWAIT);
  assert.equal(q, 0, 'there is no room to move to');
  assert.ok(bytes(p, n * PAGE).every((v) => v === 0x5a));
  free(p, t);
});
test('a realloc that fails keeps the old block; reallocf frees it', () => {
  up({ memory: '1M' });
  const p = malloc(5000, t, M_NOWAIT);
  bytes(p, 5000).fill(0x42);
  assert.equal(realloc(p, 2 ** 30, t, M_NOWAIT), 0);
  assert.ok(bytes(p, 5000).every((v) => v === 0x42));
  assert.equal(malloc_type_sums(t).inuse, 1);
  assert.equal(reallocf(p, 2 ** 30, t, M_NOWAIT), 0);
  assert.equal(malloc_type_sums(t).inuse, 0);
});

test('a garbage type panics, always, in every call', () => {
  const calls: [string, (bad: malloc_type_t) => void][] = [
    ['malloc', (bad) => void malloc(16, bad, M_NOWAIT)],
    ['large malloc', (bad) => void malloc(9000, bad, M_NOWAIT)],
    ['free', (bad) => free(malloc(16, t, M_NOWAIT), bad)],
    ['realloc', (bad) => void realloc(malloc(16, t, M_NOWAIT), 100, bad, M_NOWAIT)],
    ['malloc_init', (bad) => malloc_init(bad)],
    ['malloc_uninit', (bad) => malloc_uninit(bad)],
  ];
  const garbage: [string, (real: number) => number][] = [
    ['0', () => 0],
    ['outside', () => 2 ** 28],
    ['negative', () => -8],
    ['NaN', () => Number.NaN],
    ['a word on', (real) => real + 1],
    ['a word back', (real) => real - 1],
    ['a block', () => malloc(64, t, M_NOWAIT)],
  ];
  for (const [name, run] of calls) {
    for (const [what, make] of garbage) {
      up();
      for (let i = 0; i < 20; i++) free(malloc(16, t, M_NOWAIT), t); // the fast paths are warm
      assert.throws(
        () => run(make(t) as malloc_type_t),
        new RegExp(`${name.replace('large ', '')}: bad malloc type`),
        `${name} with ${what}`,
      );
      abandon();
    }
  }
  up();
  malloc_type.version[t] = 1;
  assert.throws(() => malloc_init(t), /malloc_init: malloc type with unsupported version/);
  abandon();
});
test('types: found by name, made once, undone with a report', () => {
  up();
  const said: string[] = [];
  const print = kconsole.print;
  kconsole.print = (text) => said.push(text);
  try {
    assert.equal(malloc_type_attach('test'), t);
    assert.equal(malloc_desc2type('test'), t);
    assert.equal(malloc_desc2type('no such'), 0);
    const u = malloc_type_create('of its own');
    assert.equal(malloc_desc2type('of its own'), 0);
    malloc_init(u);
    assert.equal(malloc_desc2type('of its own'), u);
    malloc_uninit(u);
    assert.deepEqual(said, []);
    const v = malloc_type_attach('leaky');
    free(malloc(10, v, M_NOWAIT), v);
    malloc(100, v, M_NOWAIT);
    malloc(5000, v, M_NOWAIT);
    malloc_uninit(v);
    assert.deepEqual(said, [
      'Warning: memory type leaky leaked memory on destroy (2 allocations, 8320 bytes leaked).',
    ]);
    assert.equal(malloc_desc2type('leaky'), 0);
    assert.throws(() => malloc(1, v, M_NOWAIT), /malloc: bad malloc type/);
  } finally {
    kconsole.print = print;
  }
  abandon();
});
test('malloc_uninit of a type that is not on the list panics', () => {
  up();
  const u = malloc_type_create('aside');
  assert.throws(() => malloc_uninit(u), /malloc_uninit: type 'aside' not found/);
  abandon();
});
test('names: 31 bytes are kept, no character is cut in two, one name is one type', () => {
  up();
  const names = ['x'.repeat(31), `${'x'.repeat(31)}y`, `${'a'.repeat(30)}é`, '€'.repeat(20), ''];
  for (const name of names) {
    const u = malloc_type_attach(name);
    assert.equal(malloc_type_attach(name), u, name);
    const kept = malloc_type_name(u);
    assert.ok(new TextEncoder().encode(kept).length <= 31);
    assert.ok(name.startsWith(kept), `${name} became ${kept}`);
  }
});

/** The stream, read from the layout alone. */
function read_stream(): Map<string, { cpus: bigint[][] }> {
  const raw = sysctl_read('kern.malloc_stats') as Uint8Array;
  const v = new DataView(raw.buffer, raw.byteOffset, raw.byteLength);
  assert.equal(v.getUint32(0, true), 1);
  const [cpus, count] = [v.getUint32(4, true), v.getUint32(8, true)];
  assert.equal(raw.length, 16 + count * (32 + 64 * cpus));
  const all = new Map<string, { cpus: bigint[][] }>();
  for (let i = 0; i < count; i++) {
    const at = 16 + i * (32 + 64 * cpus);
    const name = new TextDecoder().decode(raw.subarray(at, at + 32)).replace(/\0.*$/s, '');
    const rows = Array.from({ length: cpus }, (_, c) =>
      Array.from({ length: 8 }, (_, f) => v.getBigUint64(at + 32 + c * 64 + f * 8, true)),
    );
    all.set(name, { cpus: rows });
  }
  return all;
}
test('the stream: newest first, exact bytes, classes used and classes tried', () => {
  up();
  const p = [malloc(10, t, M_NOWAIT), malloc(200, t, M_NOWAIT), malloc(9000, t, M_NOWAIT)];
  free(p[1], t);
  malloc_type_attach('newest');
  const all = read_stream();
  assert.equal([...all.keys()][0], 'newest');
  const row = all.get('test')?.cpus ?? [];
  assert.deepEqual(row[0], [16n + 256n + 12288n, 256n, 3n, 1n, 17n, 0n, 0n, 0n]);
  assert.deepEqual(row[1], [0n, 0n, 0n, 0n, 0n, 0n, 0n, 0n]);
  const count = sysctl_read('kern.malloc_count') as Uint8Array;
  assert.equal(new DataView(count.buffer, count.byteOffset).getUint32(0, true), all.size);
});
test('a failed request counts nothing but its class, and vm.malloc_failed', () => {
  up({ options: { FAILPOINTS: true } });
  const rate = sysctl_decls.find((d) => d.name === 'debug.malloc.failure_rate');
  assert.ok(rate);
  sysctl_set(rate, 2);
  const got = Array.from({ length: 10 }, () => malloc(500, t, M_NOWAIT));
  assert.equal(got.filter((p) => p === 0).length, 5);
  assert.ok(malloc(500, t, M_WAITOK) !== 0, 'WAITOK requests are left alone');
  sysctl_set(rate, 1);
  assert.equal(malloc(2000, t, M_NOWAIT), 0);
  const began = performance.now();
  assert.equal(malloc(9000, t, M_NOWAIT), 0);
  const ago = malloc_last_fail();
  assert.ok(ago >= 0 && ago <= (performance.now() - began) / 1000, `${ago} s`);
  assert.deepEqual(malloc_type_sums(t), { inuse: 6, bytes: 6 * 512, requests: 6, failed: 7 });
  assert.deepEqual(read_stream().get('test')?.cpus[0].slice(2, 5), [6n, 0n, 32n + 128n]);
  const hits = sysctl_read('debug.malloc.failure_count') as Uint8Array;
  assert.equal(new DataView(hits.buffer, hits.byteOffset).getBigUint64(0, true), 7n);
});
test('kern.mprof: requests per step of 16 bytes, used and wasted', () => {
  up({ options: { MALLOC_PROFILE: true } });
  const text = (): string[] =>
    new TextDecoder()
      .decode(sysctl_read('kern.mprof') as Uint8Array)
      .replace(/\0$/, '')
      .split('\n');
  const step = (lines: string[], size: number): number =>
    Number(lines.find((l) => Number(l.slice(0, 6)) === size)?.slice(6, 34));
  const before = text();
  for (const n of [1, 16, 17, 32, 33, 4096]) malloc(n, t, M_NOWAIT);
  const after = text();
  assert.equal(after[1], '  Size                    Requests  Real Size');
  for (const [size, n] of [
    [16, 2],
    [32, 2],
    [48, 1],
    [4096, 1],
  ]) {
    assert.equal(step(after, size) - step(before, size), n, `step ${size}`);
  }
  const tail = (lines: string[], what: string): number =>
    Number(
      lines
        .find((l) => l.startsWith(what))
        ?.split(/\s+/)
        .at(-1),
    );
  const [used, wasted] = ['Total memory used', 'Total Memory wasted'];
  assert.equal(tail(after, used) - tail(before, used), 32 + 64 + 64 + 4096);
  assert.equal(tail(after, wasted) - tail(before, wasted), 16);
});
test('DIAGNOSTIC fills the requested size with 0x70, unless M_ZERO is given', () => {
  up({ options: { DIAGNOSTIC: true } });
  for (const size of [10, 4096, 5000]) {
    assert.ok(bytes(malloc(size, t, M_NOWAIT), size).every((v) => v === 0x70));
    assert.ok(bytes(malloc(size, t, M_NOWAIT | M_ZERO), size).every((v) => v === 0));
  }
});
test('vm.kmem_size bounds what malloc may hold; the rest stays free', () => {
  const number = (name: string): number => {
    const raw = sysctl_read(name) as Uint8Array;
    return Number(new DataView(raw.buffer, raw.byteOffset).getBigUint64(0, true));
  };
  up({ memory: '8M', set: { 'vm.kmem_size': 2 * 2 ** 20 } });
  assert.equal(number('vm.kmem_size'), 2 * 2 ** 20);
  while (malloc(PAGE, t, M_NOWAIT) !== 0);
  assert.ok(number('vm.kmem_map_size') <= 2 * 2 ** 20);
  assert.ok(vm_page_free_count() > 5 * 256);
  assert.ok(number('vm.kmem_map_free') < PAGE, 'what is free beyond the limit is not to be had');
  assert.equal(malloc(PAGE * 3, t, M_NOWAIT), 0, 'nor as a large block');
  const free_pages = vm_page_free_count();
  for (let n = 0; n < free_pages; n++) vm_page_wire(vm_page_alloc(-1, VM_ALLOC_INTERRUPT), 1);
  assert.equal(vm_page_free_count(), 0, 'others get all the rest');
  assert.ok(number('vm.kmem_map_size') <= 2 * 2 ** 20, 'and it is not counted');
  uma_check();
  shutdown();
  up({ memory: '8M', set: { 'vm.kmem_size': 2 * 2 ** 20 } });
  free(malloc(PAGE * 5, t, M_NOWAIT), t); // its counters are there from now on
  const before = number('vm.kmem_map_size');
  const blocks = [];
  for (let p = 1; p !== 0; ) if ((p = malloc(PAGE * 5, t, M_NOWAIT)) !== 0) blocks.push(p);
  assert.equal(number('vm.kmem_map_size') - before, blocks.length * PAGE * 5);
  assert.ok(number('vm.kmem_map_size') > 2 * 2 ** 20 - PAGE * 6);
  for (const p of blocks) free(p, t);
  assert.equal(number('vm.kmem_map_size'), before);
  shutdown();
  up({ memory: '32M', set: { 'vm.kmem_size_scale': 2, 'vm.kmem_size_max': 13 * 2 ** 20 } });
  assert.equal(number('vm.kmem_size'), 13 * 2 ** 20);
  shutdown();
  up({ memory: '8M', set: { 'vm.kmem_size_min': 14 * 2 ** 20 } });
  assert.equal(number('vm.kmem_size'), 14 * 2 ** 20);
});
