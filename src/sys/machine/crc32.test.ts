/*
 * Shows that crc32 is zlib's: of bytes of every length up to some hundred, from every place of a
 * word on, and of bytes that are given in two parts.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crc32 as theirs } from 'node:zlib';
import { crc32 } from './crc32.ts';

const bytes = Uint8Array.from({ length: 400 }, (_, i) => (i * i * 31 + i * 7) >>> 3);

test('is the checksum that zlib makes', () => {
  assert.equal(crc32(new TextEncoder().encode('123456789')), 0xcbf43926);
  for (let at = 0; at < 8; at++) {
    for (let n = 0; n < 300; n++) {
      const part = bytes.subarray(at, at + n);
      assert.equal(crc32(part), theirs(part), `${n} bytes from ${at}`);
    }
  }
});
test('of two parts it is that of the whole', () => {
  for (let cut = 0; cut <= bytes.length; cut++) {
    const sum = crc32(bytes.subarray(cut), crc32(bytes.subarray(0, cut)));
    assert.equal(sum, theirs(bytes), `cut at ${cut}`);
  }
});
test('every change of a bit shows', () => {
  const part = bytes.slice(0, 64);
  const sum = crc32(part);
  for (let bit = 0; bit < 512; bit++) {
    part[bit >> 3] ^= 1 << (bit & 7);
    assert.notEqual(crc32(part), sum, `bit ${bit}`);
    part[bit >> 3] ^= 1 << (bit & 7);
  }
});
