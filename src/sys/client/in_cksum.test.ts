/*
 * Shows that the checksum is that of RFC 1071: known headers, and against a sum
 * byte by byte over random bytes, at every alignment, length and cut into mbufs.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { boot, shutdown } from '../boot/whole.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { MT_DATA, type mbuf_t } from '../h/mbuf.ts';
import { bytes_fill, bytes_in } from '../machine/bytes.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { free, malloc, malloc_type_attach } from '../kmem/kern_malloc.ts';
import { in_cksum, in_cksum_bytes, in_cksum_skip } from './in_cksum.ts';
import { m_get, m_gethdr } from './kern_mbuf.ts';
import { m_append, m_freem } from './uipc_mbuf.ts';
import { m_cat } from './uipc_mbuf_shape.ts';

before(() => void boot({ memory: '16M', cpus: 2, options: { INVARIANTS: true } }));
after(shutdown);

function plain(bytes: Uint8Array): number {
  let sum = 0;
  for (const [i, byte] of bytes.entries()) sum += i & 1 ? byte : byte * 256;
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return 0xffff - sum;
}

test('a known IPv4 header, with and without its checksum', () => {
  const hex = '45000073000040004011b861c0a80001c0a800c7';
  const header = Uint8Array.from(hex.match(/../g) ?? [], (x) => Number.parseInt(x, 16));
  const m = m_gethdr(M_NOWAIT, MT_DATA);
  m_append(m, header.length, header, 0);
  assert.equal(in_cksum(m, 20), 0, 'good');
  m_freem(m);
  header.fill(0, 10, 12);
  const bare = m_gethdr(M_NOWAIT, MT_DATA);
  m_append(bare, header.length, header, 0);
  assert.equal(in_cksum(bare, 20), 0xb861);
  m_freem(bare);
});

test('every place and length, against a sum byte by byte', () => {
  const type = malloc_type_attach('cksum');
  const BYTES = 300_000;
  const area = malloc(BYTES, type, M_NOWAIT) * 4;
  const below = dice(SEED);
  const random = Uint8Array.from({ length: BYTES }, () => below(256));
  bytes_in(area, random, 0, BYTES);
  for (let from = 0; from < 9; from++) {
    for (let n = 0; n < 40; n++) {
      const what = `${n} bytes from ${from}, seed ${SEED}`;
      assert.equal(in_cksum_bytes(area + from, n), plain(random.subarray(from, from + n)), what);
    }
  }
  for (const n of [32767, 32768, 65535, 131_072, 262_144, 262_145]) {
    const from = below(8);
    assert.equal(in_cksum_bytes(area + from, n), plain(random.subarray(from, from + n)), `${n}`);
  }
  bytes_fill(area, 255, BYTES);
  assert.equal(in_cksum_bytes(area + 1, 262_145), plain(new Uint8Array(262_145).fill(255)), 'ones');
  free(area / 4, type);
});

test('over chains of pieces of every length', () => {
  const below = dice(SEED);
  for (let round = 0; round < 300; round++) {
    const bytes: number[] = [];
    const m = m_gethdr(M_NOWAIT, MT_DATA);
    for (let pieces = 1 + below(6); pieces > 0; pieces--) {
      const part = Uint8Array.from({ length: below(90) }, () => below(256));
      bytes.push(...part);
      const n: mbuf_t = m_get(M_NOWAIT, MT_DATA);
      m_append(n, part.length, part, 0);
      m_cat(m, n);
    }
    const skip = below(bytes.length + 1);
    const len = below(bytes.length - skip + 1);
    const want = plain(Uint8Array.from(bytes.slice(skip, skip + len)));
    assert.equal(in_cksum_skip(m, skip, len), want, `${skip} ${len}, seed ${SEED}`);
    m_freem(m);
  }
});

test('a chain that is too short is a panic that says so', () => {
  const m = m_gethdr(M_NOWAIT, MT_DATA);
  m_append(m, 5, new Uint8Array(5), 0);
  assert.throws(() => in_cksum(m, 6), /in_cksum: the chain ends before/);
});
