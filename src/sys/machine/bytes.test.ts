/*
 * Shows that bytes go in, out and about as plain arrays would have them: every
 * alignment of both sides, lengths around each threshold, overlaps, views of the
 * memory as the other side; by WebAssembly and by Atomics.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { boot, shutdown } from '../boot/whole.ts';
import { bcopy, bytes_fill, bytes_in, bytes_out } from './bytes.ts';
import { mem } from './memory.ts';
import { free, malloc, malloc_type_attach } from '../kmem/kern_malloc.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { dice, SEED } from './seed.test.lib.ts';

afterEach(shutdown);

const AREA = 4096;
const LENGTHS = [0, 1, 7, 10, 11, 23, 24, 25, 63, 64, 65, 255, 256, 257, 263, 548, 1500];

for (const atomics of ['wasm', 'atomics'] as const) {
  test(`as plain arrays do, by ${atomics}`, () => {
    boot({ memory: '1M', cpus: 2, fresh: true, atomics });
    const type = malloc_type_attach('bytes');
    const area = malloc(AREA, type, M_NOWAIT) * 4;
    const below = dice(SEED);
    const plain = new Uint8Array(AREA);
    const outside = Uint8Array.from({ length: AREA }, () => below(256));
    bytes_fill(area, 0, AREA);
    const same = (what: string): void => {
      assert.deepEqual(mem.U8.slice(area, area + AREA), plain, `${what}, seed ${SEED}`);
    };
    const play = (to: number, from: number, n: number): void => {
      const place = `${to} ${from} ${n}`;
      const off = below(16);
      bytes_in(area + to, outside.subarray(off), from, n);
      plain.set(outside.subarray(off + from, off + from + n), to);
      same(`in ${place}`);
      bcopy(area + from, area + to, n);
      plain.copyWithin(to, from, from + n);
      same(`move ${place}`);
      bytes_in(area + to, mem.U8.subarray(area, area + AREA), from, n);
      plain.copyWithin(to, from, from + n);
      same(`in from a view ${place}`);
      bytes_out(mem.U8.subarray(area, area + AREA), from, area + to, n);
      plain.copyWithin(from, to, to + n);
      same(`out to a view ${place}`);
      const got = new Uint8Array(AREA + 16);
      const want = new Uint8Array(AREA + 16);
      bytes_out(got.subarray(off), from, area + to, n);
      want.set(plain.subarray(to, to + n), off + from);
      assert.deepEqual(got, want, `out ${place}, seed ${SEED}`);
      bytes_fill(area + to, n & 255, n);
      plain.fill(n & 255, to, to + n);
      same(`fill ${place}`);
    };
    for (const n of LENGTHS) {
      for (let shift = -9; shift <= 9; shift++) play(100 + shift, 100 + below(8), n);
      for (let i = 0; i < 20; i++) play(below(AREA - n - 16), below(AREA - n - 16), n);
    }
    free(area / 4, type);
  });
}
