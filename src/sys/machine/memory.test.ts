/*
 * Shows which sizes of memory are accepted and how others are refused; that
 * the assembled helper and its stand-in by Atomics do the same thing on random
 * operands; and that large machines reach their last word.
 */
import assert from 'node:assert/strict';
import { freemem } from 'node:os';
import { afterEach, test } from 'node:test';
import { boot, shutdown } from '../boot/whole.ts';
import { KmemError } from './errno.ts';
import { boot_alloc, M, machine } from './header.ts';
import {
  type Hw,
  hw_atomics,
  hw_wasm,
  ROW_KERNEL_WORDS,
  ROW_PROGRAM_WORDS,
  ROW_WORDS,
} from './hw.ts';
import {
  atop,
  howmany,
  hw,
  mem,
  memory_size,
  memory_state,
  PAGE_SIZE,
  page_word,
  ptoa,
  roundup,
  word_page,
} from './memory.ts';
import { dice, SEED } from './seed.test.lib.ts';

afterEach(shutdown);

test('sizes as people write them', () => {
  for (const [given, bytes] of [
    ['1M', 2 ** 20],
    ['64m', 64 * 2 ** 20],
    ['1.5G', 1.5 * 2 ** 30],
    [' 8 GiB ', 2 ** 33],
    ['1048577', 2 ** 20 + 65536],
    [2 ** 20, 2 ** 20],
    ['2048kb', 2 ** 21],
  ] as const) {
    assert.equal(memory_size(given), bytes, `${given}`);
  }
});

test('other sizes are refused in one line that says what to do', () => {
  for (const bad of ['', 'much', '1T', '-1M', '1M2', '0', 0, Number.NaN, -5, '1048575', '8.1G']) {
    assert.throws(
      () => memory_size(bad),
      (e) =>
        e instanceof KmemError &&
        e.code === 'EINVAL' &&
        e.message.includes(`${bad}`) &&
        /use 1M to 8G|fast path/.test(e.message) &&
        !e.message.includes('\n'),
      `${bad}`,
    );
  }
  assert.throws(() => memory_size(Number.POSITIVE_INFINITY), /not a size/);
  assert.throws(() => boot({ memory: '9G' }), /above 8G/);
  assert.throws(() => boot({ memory: Number.NaN }), /NaN.*not a size/);
});

test('pages and bytes', () => {
  assert.equal(ptoa(3), 3 * PAGE_SIZE);
  assert.equal(atop(3 * PAGE_SIZE - 1), 2);
  assert.equal(howmany(9, 4), 3);
  assert.equal(roundup(9, 4), 12);
  assert.equal(word_page(page_word(2 ** 20)), 2 ** 20);
});

test('helper and stand-in: the same results and the same memory, on random operands', () => {
  let s = SEED;
  const draw = (): number => (s = (Math.imul(s, 1664525) + 1013904223) | 0);
  const memory = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const a = new Int32Array(memory.buffer);
  const b = new Int32Array(new SharedArrayBuffer(65536));
  const pair: [Hw, Hw] = [hw_wasm(memory, 1, false), hw_atomics(b)];
  const ops = [
    'cas',
    'xchg',
    'add',
    'and',
    'or',
    'load',
    'xchg_load',
    'store',
    'fence',
    'fill',
    'copy',
    'move',
  ] as const;
  for (let i = 0; i < 20_000; i++) {
    const op = ops[(draw() >>> 8) % ops.length];
    const w = (draw() >>> 8) % 16000;
    const v = draw();
    const args = {
      cas: [w, (v & 1) !== 0 ? a[w] : v, draw()],
      fill: [w, v & 1 ? 0 : v & 0xff, (draw() >>> 8) % 300],
      copy: [w, (draw() >>> 8) % 16000, (draw() >>> 8) % 300],
      move: [w, (draw() >>> 8) % 60000, (draw() >>> 8) % 3000],
      load: [w],
      xchg_load: [w, v, (draw() >>> 8) % 16000],
      fence: [],
    }[op as string] ?? [w, v];
    const [x, y] = pair.map((h) => (h[op] as (...n: number[]) => number | undefined)(...args));
    assert.equal(x, y, `${op} ${args}, seed ${SEED}`);
  }
  assert.deepEqual(a, b, `seed ${SEED}`);
});

/** A memory with 64-bit addresses, where the host has them. */
function wide_memory(): WebAssembly.Memory | null {
  const limits = { initial: 1n, maximum: 1n, shared: true, address: 'i64' };
  try {
    return new WebAssembly.Memory(limits as unknown as WebAssembly.MemoryDescriptor);
  } catch {
    return null;
  }
}
test('helper and stand-in find the same reader in rows of random holds', () => {
  const draw = dice(SEED);
  const CPUS = 20;
  const narrow = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
  const wide = wide_memory();
  const words = new Int32Array(new SharedArrayBuffer(65536));
  const all: [Hw, Int32Array][] = [
    [hw_atomics(words), words],
    [hw_wasm(narrow, 1, false), new Int32Array(narrow.buffer)],
  ];
  if (wide) all.push([hw_wasm(wide, 1, true), new Int32Array(wide.buffer)]);
  const [ROWS, N] = [64, 8];
  let found = 0;
  for (let round = 0; round < 2000; round++) {
    words.fill(0);
    words[N] = draw(CPUS);
    const locks = 1 + draw(40);
    for (let cpu = 0; cpu < CPUS; cpu++) {
      const row = ROWS + cpu * ROW_WORDS;
      words[row] = draw(ROW_PROGRAM_WORDS + 1) | (draw(ROW_KERNEL_WORDS + 1) << 8);
      for (let i = 1; i < ROW_WORDS; i++) if (draw(3) === 0) words[row + i] = 1 + draw(locks);
    }
    const [lock, skip, kernel] = [1 + draw(locks), draw(CPUS + 1) - 1, draw(2)];
    const naive = (): number => {
      for (let cpu = 0; cpu < words[N]; cpu++) {
        const row = ROWS + cpu * ROW_WORDS;
        const first = kernel ? row + 1 : row + 1 + ROW_KERNEL_WORDS;
        const used = kernel ? words[row] >> 8 : words[row] & 255;
        if (cpu !== skip && words.subarray(first, first + used).includes(lock)) return cpu + 1;
      }
      return 0;
    };
    const want = naive();
    if (want !== 0) found++;
    for (const [h, memory] of all) {
      memory.set(words);
      assert.equal(h.look(ROWS, N, lock, skip, kernel), want, `round ${round}, seed ${SEED}`);
    }
  }
  assert.ok(found > 200 && found < 1900, `${found} of 2000 found`);
});

for (const kind of ['wasm', 'atomics'] as const) {
  test(`a machine of 1 MiB with two CPUs boots by ${kind}`, (t) => {
    boot({ memory: '1M', cpus: 2, fresh: true, atomics: kind });
    assert.equal(memory_state.wasm, kind === 'wasm');
    assert.equal(mem.U8.length, 2 ** 20);
    const used = machine.boot_next[M] * 4;
    const share = machine.first_page[M]
      ? 1 - ptoa(machine.first_page[M]) / 2 ** 20
      : 1 - used / 2 ** 20;
    t.diagnostic(
      `boot structures ${used} bytes; ${(share * 100).toFixed(1)} % of the pages are left`,
    );
    assert.ok(share >= 0.6);
    shutdown();
  });
}

test('a boot structure that does not fit: ENOMEM names it', () => {
  boot({ memory: '1M', cpus: 2, fresh: true });
  assert.throws(
    () => boot_alloc(2 ** 20, 'a test'),
    (e) =>
      e instanceof KmemError &&
      e.code === 'ENOMEM' &&
      /1M of memory are too small for a test \(2 CPU slots\): give more/.test(e.message),
  );
  shutdown();
});

for (const [size, kind] of [
  ['4G', 'wasm'],
  ['8G', 'wasm'],
  ['8G', 'atomics'],
] as const) {
  const bytes = memory_size(size);
  const skip = freemem() < bytes / 2 ? `needs ${size} of address space and memory` : false;
  test(`a machine of ${size} by ${kind} reaches its last word`, { skip }, (t) => {
    try {
      boot({ memory: size, cpus: 2, fresh: true, atomics: kind });
    } catch (e) {
      if (!/this host refuses/.test((e as Error).message)) throw e;
      t.skip((e as Error).message);
      return;
    }
    const last = bytes / 4 - 1;
    assert.equal(mem.I32.length, bytes / 4);
    assert.equal(hw.add(last, 5), 0);
    assert.equal(hw.cas(last, 5, -9), 5);
    assert.equal(mem.I32[last], -9);
    hw.fill(last - 1023, 0, 1024);
    assert.equal(hw.load(last), 0);
    mem.I32[last - 2000] = 77;
    hw.copy(last, last - 2000, 1);
    assert.equal(mem.I32[last], 77);
    hw.move(last * 4 + 1, (last - 2000) * 4, 2);
    assert.equal(mem.I32[last], 77 * 257);
    hw.store(last, 0);
    shutdown();
  });
}
