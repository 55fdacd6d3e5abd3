/*
 * Shown: captures of every kind are read to the byte: both byte orders, micro- and
 * nanoseconds, the modified format, old versions; pcapng with several sections,
 * interfaces, units and block types; packed, in pieces, from several files.  Damaged
 * and cut ones play what is whole and say where; one line and the offset, where
 * nothing is.
 * By what means: captures written by hand, read by the reader's real thread; the
 * packets it put into the ring are those that were written.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import {
  MAGIC_MODIFIED,
  MAGIC_NS,
  MAGIC_US,
  Ng,
  type Packet,
  packet,
  pcap,
  type PcapShape,
  type Read,
  read_capture,
  sha256,
} from './pcap.test.lib.ts';
import { PcapParser } from './pcap.ts';
import { CaptureStats } from './pcap_stats.ts';
import { RecordCutter } from './pcap_stream.ts';
import { BUNDLED, drawn, random_from, SEED, temporary_file, WHOLE } from './traces.test.common.ts';

const random = random_from(SEED);
function bytes(n: number): Uint8Array {
  return Uint8Array.from({ length: n }, () => random(256));
}
/** Packets of chosen and of random sizes, some cut by the recorder. */
function some_packets(step_ns = 1000): Packet[] {
  const sizes = [0, 1, 60, 64, 65, 1514, 9000, 65549, random(3000), random(3000)];
  return sizes.map((n, i) => packet(bytes(n), 1000 + i, (i * 7919 + 1) * step_ns, n + (i % 2)));
}
async function reads(t: TestContext, file: Uint8Array, packets: Packet[]): Promise<Read> {
  const read = await read_capture([temporary_file(t, 'capture', file)]);
  assert.equal(read.error, undefined, `${read.error?.message} (seed ${SEED})`);
  assert.equal(read.packets.length, packets.length);
  for (const [i, p] of packets.entries()) {
    const got = read.packets[i];
    assert.deepEqual([got.sec, got.nsec, got.wire], [p.sec, p.nsec, p.wire], `packet ${i}`);
    assert.ok(Buffer.from(got.bytes).equals(p.bytes), `bytes of packet ${i}, seed ${SEED}`);
    assert.equal(got.iface, p.iface ?? 0);
  }
  const captured = packets.reduce((sum, p) => sum + p.bytes.length, 0);
  assert.equal(read.trace?.packets, packets.length);
  assert.equal(read.trace?.captured_bytes, captured);
  assert.equal(read.trace?.sha256_of_captured_bytes, sha256(packets));
  const cut = packets.filter((p) => p.wire > p.bytes.length).length;
  assert.equal(read.trace?.truncated_packets, cut);
  return read;
}

test('pcap: byte orders, units, the modified format, old versions', async (t) => {
  const shapes: PcapShape[] = [];
  for (const big of [false, true]) {
    for (const magic of [MAGIC_US, MAGIC_NS, MAGIC_MODIFIED]) shapes.push({ big, magic });
    shapes.push({ big, minor: 2 }, { big, minor: 3 }, { big, link: 276, snaplen: 96 });
  }
  for (const shape of shapes) {
    const packets = some_packets(shape.magic === MAGIC_NS ? 1 : 1000);
    const { trace } = await reads(t, pcap(packets, shape), packets);
    assert.equal(trace?.format, 'pcap');
    assert.equal(trace?.byte_order, shape.big ? 'big' : 'little');
    assert.equal(trace?.timestamp_unit, shape.magic === MAGIC_NS ? 'ns' : 'us');
    assert.equal(trace?.variant, shape.magic === MAGIC_MODIFIED ? 'modified' : undefined);
    assert.equal(trace?.link_type, shape.link ?? 1);
    assert.equal(trace?.snaplen, shape.snaplen ?? 262144);
    assert.equal(trace?.trailing_bytes, 0);
  }
});

test('pcapng: sections of both orders, interfaces, units, every kind of packet', async (t) => {
  const [a, b, c, d, e, f] = some_packets();
  const little = new Ng()
    .iface(1, 262144)
    .iface(101, 0, 9)
    .iface(276, 0, 0x80 | 10);
  little.block(4, [Buffer.alloc(64)]).enhanced({ ...a });
  little.block(0x0bad, [Buffer.alloc(300_000)]);
  little.enhanced({ ...b, iface: 1 }, 1_000_000_000n, [little.u16(1, 3), Buffer.from('hey\0')]);
  little.enhanced({ ...c, nsec: 0, iface: 2 }, 1024n).old({ ...d, iface: 1 }, 1_000_000_000n);
  const big = new Ng(true)
    .iface(113, 100)
    .iface(1, 0, 3)
    .enhanced({ ...e, wire: 65, iface: 0 });
  const cut = packet(bytes(100), 0, -1, 150);
  big.simple(cut).enhanced({ ...f, nsec: 5_000_000, iface: 1 }, 1000n);
  const wanted = [
    a,
    { ...b, iface: 1 },
    { ...c, nsec: 0, iface: 2 },
    { ...d, iface: 1 },
    { ...e, wire: 65, iface: 3 },
    { ...cut, iface: 3 },
    { ...f, nsec: 5_000_000, iface: 4 },
  ];
  const { trace } = await reads(t, Buffer.concat([little.bytes(), big.bytes()]), wanted);
  assert.equal(trace?.format, 'pcapng');
  assert.deepEqual([trace?.sections, trace?.blocks_skipped], [2, 2]);
  const rows = trace?.interfaces?.map((i) => [i.link_type, i.timestamp_unit, i.packets]);
  assert.deepEqual(rows, [
    [1, 'us', 1],
    [101, 'ns', 2],
    [276, '2^-10 s', 1],
    [113, 'us', 2],
    [1, 'ms', 1],
  ]);
});

test('packed by gzip and zstd; several files are parts of one; read again', async (t) => {
  const packets = some_packets();
  const whole = pcap(packets);
  await reads(t, gzipSync(whole), packets);
  await reads(t, zstdCompressSync(whole), packets);
  const second = new Ng().iface(1).enhanced(packets[3]).bytes();
  const files = [temporary_file(t, 'a', whole), temporary_file(t, 'b', pcap(packets.slice(3)))];
  const both = await read_capture(files, { loop: 3 });
  assert.equal(both.trace?.packets, packets.length * 2 - 3, 'counted once');
  assert.equal(both.packets.length, 3 * (packets.length * 2 - 3));
  assert.equal(both.passes, 3);
  const mixed = await read_capture([files[0], temporary_file(t, 'c', second)]);
  assert.match(mixed.error?.message ?? '', /c: byte 0: is pcapng, the file before it pcap; /);
});

test('a ring much smaller than the capture, and the largest packet', async (t) => {
  const packets = Array.from({ length: 40 }, () => packet(bytes(100 + random(12_000))));
  packets.push(packet(bytes(262144)));
  const file = temporary_file(t, 'capture', pcap(packets));
  const read = await read_capture([file], { ring_events: 32768 });
  assert.equal(read.packets.length, packets.length);
  for (const [i, p] of packets.entries()) {
    assert.ok(Buffer.from(read.packets[i].bytes).equals(p.bytes), `packet ${i}, seed ${SEED}`);
  }
});

test('how large a packet may be depends on its link', async (t) => {
  const [good, large] = [packet(bytes(50)), packet(bytes(262145))];
  for (const link of [...drawn([1, 147]), ...drawn([189, 220, 231, 249, 266, 279], 2)]) {
    const most = link === 1 || link === 147 ? 262144 : 2 ** 27;
    const ng = new Ng().iface(link).enhanced(good).enhanced(large);
    for (const whole of [pcap([good, large], { link }), ng.bytes()]) {
      const read = await read_capture([temporary_file(t, 'large', whole)], { ring_events: 32768 });
      const wanted = most > 262144 ? [good, large] : [good];
      assert.equal(read.trace?.packets, wanted.length, `link ${link}`);
      assert.equal(sha256(read.packets), sha256(wanted));
      assert.equal(read.trace?.damaged_at === undefined, most > 262144);
    }
    const absurd = pcap([good, large], { link });
    absurd.writeUInt32LE(most + 1, 24 + 66 + 8);
    const { trace } = await read_capture([temporary_file(t, 'absurd', absurd)]);
    assert.match(trace?.damage ?? '', new RegExp(`byte 90: packet 2 .* at most ${most} can be`));
  }
});

test('what cannot be read: one line, the file and the offset', async (t) => {
  const good = packet(bytes(100));
  const absurd = pcap([good, good]);
  absurd.writeUInt32LE(0x7fffffff, 24 + 116 + 8);
  const at_once = Buffer.from(absurd.subarray(0, 140));
  at_once.writeUInt32LE(0x7fffffff, 24 + 8);
  const ng = new Ng().iface(1).enhanced(good);
  const at = ng.bytes().length;
  const raw = (...words: number[]): Buffer => Buffer.concat([ng.bytes(), ng.u32(...words)]);
  const wrong_end = Buffer.from(new Ng().iface(1).enhanced(good).bytes());
  wrong_end.writeUInt32LE(7, wrong_end.length - 4);
  const order = Buffer.from(new Ng().bytes());
  order.writeUInt32LE(0x12345678, 8);
  const no_iface = new Ng().enhanced(good).bytes();
  const claim = Buffer.from(new Ng().iface(1).enhanced(good).bytes());
  claim.writeUInt32LE(200, 28 + 20 + 8 + 12);
  const version = pcap([good]);
  version.writeUInt16LE(9, 6);
  const cases: [RegExp, Uint8Array][] = [
    [/byte 24: packet 1 claims 2147483647 captured bytes, at most 262144 can be; /, at_once],
    [/byte 140: packet 2 claims 2147483647 captured bytes, at most 262144 can be; /, absurd],
    [/byte 10: the capture ends inside its file header of 24 bytes; /, pcap([]).subarray(0, 10)],
    [/byte 4: pcap version 2\.9; /, version],
    [/byte 0: not a trace format kmem knows; /, Buffer.from('a1b2c3d5'.repeat(10), 'hex')],
    [/byte 0: the trace is empty; /, Buffer.alloc(0)],
    [/byte 8: the capture ends inside its section header; /, new Ng().bytes().subarray(0, 8)],
    [/byte 0: the section header has no byte order magic; /, order],
    [new RegExp(`byte ${at}: block 4 claims a length of 3 bytes; `), raw(6, 3, 0)],
    [new RegExp(`byte ${at}: block 4 claims a length of 1073741824 bytes, at`), raw(6, 2 ** 30, 0)],
    [/byte 48: block 3 is 132 bytes long and ends with 7; /, wrong_end],
    [/byte 28: block 2 names interface 0, of 0 so far; /, no_iface],
    [/byte 48: block 3 claims 200 captured bytes in 100; /, claim],
  ];
  for (const [line, bytes] of cases) {
    const file = temporary_file(t, 'capture', bytes);
    const { error, trace, packets } = await read_capture([file]);
    if (trace === undefined) {
      assert.match(error?.message ?? 'no error', line);
      assert.ok(!error?.message.includes('\n'), 'one line');
      continue;
    }
    // Something good was in front of it.
    assert.match(`${trace.damage}; `, line);
    assert.deepEqual([trace.packets, trace.sha256_of_captured_bytes], [1, sha256(packets)]);
    assert.match(trace.damage ?? '', new RegExp(`: byte ${trace.damaged_at}: `));
    assert.equal(trace.trailing_bytes, bytes.length - (trace.damaged_at ?? 0));
    const strict = await read_capture([file], { strict: true });
    assert.equal(strict.error?.fault, 'strict');
    assert.match(strict.error?.message ?? '', line);
    const again = await read_capture([file], { loop: 3 });
    assert.deepEqual([again.passes, again.packets.length, again.trace?.packets], [3, 3, 1]);
  }
});

test('cut at every byte: whole packets count, the rest is trailing; strict stops', async (t) => {
  const packets = [packet(bytes(20)), packet(bytes(0)), packet(bytes(33))];
  const ng = new Ng().iface(1);
  const blocks = packets.map((p) => ng.enhanced(p) && ng.bytes().length);
  const ends = [24 + 36, 24 + 52, 24 + 101];
  for (const [file, limits, first] of [
    [pcap(packets), ends, 24],
    [ng.bytes(), blocks, 48],
  ] as const) {
    for (let n = first; n < file.length; n += 1 + random(WHOLE ? 40 : 100)) {
      const whole = limits.filter((end) => end <= n).length;
      const cut = temporary_file(t, 'cut', file.subarray(0, n));
      const read = await read_capture([cut]);
      const begin = whole === 0 ? first : limits[whole - 1];
      assert.equal(read.error, undefined, `cut at ${n}, seed ${SEED}`);
      assert.equal(read.packets.length, whole);
      assert.equal(read.trace?.trailing_bytes, n - begin, `cut at ${n}, seed ${SEED}`);
      if (n === begin) continue;
      const { error } = await read_capture([cut], { strict: true });
      assert.match(error?.message ?? '', new RegExp(`byte ${begin}: record \\d: cut after `));
    }
  }
});

test('where chunks are cut changes nothing', () => {
  const file = gunzipSync(readFileSync(join(BUNDLED, 'http2.pcap.gz')));
  const read_in_chunks = (cut: () => number): unknown => {
    const stats = new CaptureStats();
    const cutter = new RecordCutter();
    const parser = new PcapParser('capture', stats, () => cutter.offset);
    for (let at = 0; at < file.length; ) {
      const n = Math.max(1, cut());
      cutter.feed(file.subarray(at, at + n), parser);
      at += n;
    }
    assert.equal(cutter.trailing(), 0);
    return stats.document(parser.document());
  };
  const whole = read_in_chunks(() => file.length);
  for (const n of [1, 7, 16, 1000])
    assert.deepEqual(
      read_in_chunks(() => n),
      whole,
    );
  for (let i = 0; i < 10; i++) {
    assert.deepEqual(
      read_in_chunks(() => random(4000)),
      whole,
      `seed ${SEED}`,
    );
  }
});

test('garbage behind a good beginning never hangs, never throws anything else', async (t) => {
  const beginnings = [pcap([packet(bytes(40))]), new Ng().iface(1).bytes()];
  for (let i = 0; i < 12; i++) {
    const file = Buffer.concat([beginnings[i % 2], bytes(random(3000))]);
    const { error, trace } = await read_capture([temporary_file(t, 'garbage', file)]);
    assert.ok(trace !== undefined || error?.name === 'SourceError', `seed ${SEED}`);
    assert.ok(!error?.message.includes('\n'), `seed ${SEED}`);
  }
});
