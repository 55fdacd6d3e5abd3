/*
 * Shows sbuf(9): what fits, what is refused, how errors are latched, how a
 * drain sees every byte once and in order whatever it takes at a time; and
 * that printf writes what C's printf writes, by a table of known results.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { EDEADLK, EFAULT, EIO, ENOMEM } from './errno.ts';
import { SEED } from './seed.test.lib.ts';
import {
  SBUF_AUTOEXTEND,
  SBUF_FIXEDLEN,
  SBUF_INCLUDENUL,
  type sbuf,
  sbuf_bcat,
  sbuf_bcopyin,
  sbuf_bcpy,
  sbuf_cat,
  sbuf_clear,
  sbuf_cpy,
  sbuf_data,
  sbuf_delete,
  sbuf_done,
  sbuf_end_section,
  sbuf_error,
  sbuf_finish,
  sbuf_len,
  sbuf_new,
  sbuf_new_auto,
  sbuf_printf,
  sbuf_putc,
  sbuf_set_drain,
  sbuf_setpos,
  sbuf_start_section,
  sbuf_text,
  sbuf_trim,
  sbuf_uionew,
} from './sbuf.ts';
import { kprintf } from './subr_prf.ts';

function fixed(n: number): sbuf {
  const s = sbuf_new(null, n, SBUF_FIXEDLEN);
  assert.ok(s);
  return s;
}

test('a fixed buffer of N holds N - 1 bytes and latches ENOMEM', () => {
  for (const n of [2, 3, 16, 100]) {
    const s = fixed(n);
    assert.equal(sbuf_cat(s, 'x'.repeat(n - 1)), 0);
    assert.equal(sbuf_len(s), n - 1);
    assert.equal(sbuf_putc(s, 33), -1);
    assert.equal(sbuf_error(s), ENOMEM);
    assert.equal(sbuf_cat(s, ''), -1, 'later appends fail too');
    assert.equal(sbuf_len(s), -1);
    assert.equal(sbuf_finish(s), ENOMEM);
    assert.equal(sbuf_text(s), 'x'.repeat(n - 1));
  }
  assert.equal(sbuf_new(null, 1, SBUF_FIXEDLEN), null);
  assert.equal(sbuf_new(null, 0, SBUF_AUTOEXTEND), null);
  assert.throws(() => sbuf_new(null, 16, 1 << 20), /unknown flags/);
});

test('the caller can give the buffer', () => {
  const mine = new Uint8Array(8).fill(0xff);
  const s = sbuf_new(mine, 8, SBUF_FIXEDLEN) as sbuf;
  sbuf_cat(s, 'abc');
  sbuf_finish(s);
  assert.deepEqual([...mine.subarray(0, 5)], [97, 98, 99, 0, 0xff]);
});

test('growth: powers of two from 16, then whole pages', () => {
  const s = sbuf_new_auto();
  assert.equal(s.buf.length, 16);
  const sizes = new Set<number>();
  for (let i = 0; i < 20000; i++) {
    assert.equal(sbuf_putc(s, i & 0x7f), 0);
    sizes.add(s.buf.length);
  }
  assert.deepEqual(
    [...sizes],
    [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 12288, 16384, 20480],
  );
  assert.equal(sbuf_finish(s), 0);
  assert.deepEqual([...sbuf_data(s)].slice(0, 3), [0, 1, 2]);
  assert.equal(sbuf_data(s).length, 20000);
});

test('cutting, clearing, trimming, replacing', () => {
  const s = sbuf_new_auto();
  sbuf_cat(s, 'hello  \t\n ');
  assert.equal(sbuf_trim(s), 0);
  assert.equal(sbuf_len(s), 5);
  assert.equal(sbuf_setpos(s, 6), -1);
  assert.equal(sbuf_setpos(s, 4), 0);
  sbuf_printf(s, '%03d%%', 7);
  assert.equal(sbuf_cpy(s, 'new'), 0);
  assert.equal(sbuf_bcpy(s, Uint8Array.of(1, 0, 2)), 0);
  assert.equal(sbuf_len(s), 3, 'bytes may be NUL');
  assert.equal(sbuf_done(s), false);
  assert.equal(sbuf_finish(s), 0);
  assert.equal(sbuf_done(s), true);
  assert.throws(() => sbuf_cat(s, 'x'), /finished/);
  assert.throws(() => sbuf_finish(s), /finished/);
  sbuf_clear(s);
  assert.equal(sbuf_len(s), 0);
  sbuf_printf(s, 'a%cb', 0);
  sbuf_finish(s);
  assert.equal(sbuf_text(s), 'ab', 'printf never stores a NUL');
  sbuf_delete(s);
});

test('sections count bytes, nest, and pad', () => {
  const s = sbuf_new_auto();
  sbuf_cat(s, 'head');
  const outer = sbuf_start_section(s);
  sbuf_cat(s, 'abc');
  const inner = sbuf_start_section(s);
  sbuf_cat(s, 'de');
  assert.throws(() => sbuf_setpos(s, 0), /section/);
  assert.equal(sbuf_end_section(s, inner, 4, 46), 4);
  assert.throws(() => sbuf_finish(s), /section/);
  assert.equal(sbuf_end_section(s, outer, 8, 33), 8);
  sbuf_finish(s);
  assert.equal(sbuf_text(s), 'headabcde..!');
});

test('a drain gets every byte once and in order, whatever it takes (seeded)', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 40 }),
      fc.array(fc.uint8Array({ maxLength: 100 }), { maxLength: 30 }),
      fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 10 }),
      (size, pieces, takes) => {
        const got: number[] = [];
        let calls = 0;
        const s = fixed(size);
        sbuf_set_drain(s, (data, len) => {
          assert.equal(data.length, len);
          assert.ok(len < size);
          const n = Math.min(len, takes[calls++ % takes.length]);
          got.push(...data.subarray(0, n));
          return n;
        });
        for (const p of pieces) assert.equal(sbuf_bcat(s, p), 0);
        assert.equal(sbuf_finish(s), 0);
        assert.deepEqual(
          got,
          pieces.flatMap((p) => [...p]),
        );
      },
    ),
    { numRuns: 200, seed: SEED },
  );
});

test("a drain's errors are latched; misuse of a drained sbuf panics", () => {
  for (const [answer, error] of [
    [-EIO, EIO],
    [0, EDEADLK],
  ] as const) {
    let calls = 0;
    const s = fixed(4);
    sbuf_set_drain(s, () => {
      calls++;
      return answer;
    });
    assert.equal(sbuf_cat(s, 'abcdef'), -1);
    assert.equal(sbuf_cat(s, 'gh'), -1);
    assert.equal(sbuf_finish(s), error);
    assert.equal(calls, 1, 'no call after the error');
  }
  const s = fixed(8);
  const drain = (): number => 1;
  sbuf_set_drain(s, drain);
  sbuf_cat(s, 'a');
  sbuf_set_drain(s, drain);
  assert.throws(() => sbuf_set_drain(s, () => 1), /not empty/);
  assert.throws(() => sbuf_trim(s), /drain/);
  assert.throws(() => sbuf_len(s), /drain/);
  assert.throws(() => sbuf_bcopyin(s, 4, 4), /drain/);
});

test('a drained sbuf with INCLUDENUL ends its text with a NUL', () => {
  const got: number[] = [];
  const s = sbuf_new(null, 2, SBUF_INCLUDENUL) as sbuf;
  sbuf_set_drain(s, (data, len) => got.push(...data) && len);
  sbuf_cat(s, 'ok');
  assert.equal(sbuf_finish(s), 0);
  assert.deepEqual(got, [111, 107, 0]);
});

test('pieces into one, and copying from addresses outside the memory', () => {
  const s = sbuf_uionew([Uint8Array.of(1, 2), Uint8Array.of(3)], 4) as sbuf;
  assert.deepEqual([...sbuf_data(s)], [1, 2, 3]);
  assert.equal(sbuf_uionew([new Uint8Array(4)], 4), null);
  const bad = sbuf_new_auto();
  assert.equal(sbuf_bcopyin(bad, 2 ** 50, 4), -1);
  assert.equal(sbuf_error(bad), EFAULT);
});

test('printf writes what C writes', () => {
  const table: [string, string, ...(string | number | bigint)[]][] = [
    ['    42|', '%6d|', 42],
    ['42    |', '%-6d|', 42],
    ['-00042', '%06d', -42],
    ['+7  7', '%+d % d', 7, 7],
    ['18446744073709551615', '%lu', -1],
    ['ff FF 0xff 0X1F', '%x %X %#x %#X', 255, 255, 255, 31],
    ['0x000000ff', '%#0*x', 10, 255],
    ['0000000000', '%#0*x', 10, 0],
    ['017 17', '%#o %o', 15, 15],
    ['3.14 3 2.500000', '%.2f %.0f %f', 3.1449, 3, 2.5],
    ['abc  |  abc|ab', '%-5s|%5s|%.2s', 'abc', 'abc', 'abc'],
    ['   ab', '%*.*s', 5, 2, 'abc'],
    ['left |', '%*s|', -5, 'left'],
    ['A%z', '%c%%%c', 65, 'z'],
    ['9223372036854775807', '%jd', 2n ** 63n - 1n],
    ['00007', '%.5d', 7],
  ];
  for (const [wanted, format, ...args] of table) {
    assert.equal(kprintf(format, ...args), wanted, format);
  }
  assert.throws(() => kprintf('%d'), /more arguments/);
  assert.throws(() => kprintf('x', 1), /left over/);
});
