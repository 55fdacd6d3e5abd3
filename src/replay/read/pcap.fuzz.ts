/*
 * pcap (fuzz): captures with seeded damage, read by the readers and by the model.
 *
 * A capture is put together: pcap of any byte order, magic number and version, or
 * pcapng of several sections, interfaces and block types.  Then it is damaged: bytes
 * and lengths changed, pieces cut out, doubled, put in, the end cut off; or it is
 * left alone.  The readers get it whole, and again in pieces of random lengths.
 *
 * Held against the model: the packets up to the first thing wrong, its place, and
 * what is left at the end.  Whatever is read, an error is a SourceError of one line
 * with a place inside the file, and no packet is longer than packets can be.
 */
import assert from 'node:assert/strict';
import { dice } from '../../sys/machine/seed.test.lib.ts';
import { LARGE_PACKET_MAX_BYTES } from './packet_links.ts';
import { type ModelReading, pcap_model, pcapng_model } from './pcap.model.ts';
import {
  MAGIC_MODIFIED,
  MAGIC_NS,
  MAGIC_US,
  Ng,
  type Packet,
  packet,
  pcap,
} from './pcap.test.lib.ts';
import { PcapParser } from './pcap.ts';
import { type CaptureSink, RecordCutter } from './pcap_stream.ts';
import { PcapngParser } from './pcapng.ts';
import { detect_format } from './detect_format.ts';
import { SourceError } from './source.ts';

type Dice = (n: number) => number;

export function run(seed: number, steps: number): void {
  const random = dice(seed);
  for (let step = 0; step < steps; step++) {
    const file = damaged_capture(random);
    const longest = 1 + random(random(2) ? 40 : 4000);
    reads_as_model(file, () => 1 + random(longest), `seed ${seed}, step ${step}`);
  }
}
/** A capture, damaged or not. */
export function damaged_capture(random: Dice): Buffer {
  return damaged(random, random(2) ? some_pcap(random) : some_pcapng(random));
}
/** Reads a capture whole and in pieces, and compares both with the model; others are left out. */
export function reads_as_model(file: Uint8Array, piece: () => number, place: string): void {
  const kind = detect_format(file);
  if (kind !== 'pcap' && kind !== 'pcapng') return;
  const model = kind === 'pcap' ? pcap_model(file) : pcapng_model(file);
  const whole = read(kind, file, () => file.length);
  compare(whole, model, file, place);
  compare(read(kind, file, piece), model, file, `${place}, in pieces`);
}

// --- captures ----------------------------------------------------------------------------------

function some_packets(random: Dice): Packet[] {
  return Array.from({ length: random(6) }, () => {
    const bytes = Uint8Array.from({ length: random(random(4) ? 90 : 3000) }, () => random(256));
    return packet(bytes, random(2 ** 31), random(1e9), bytes.length + random(3));
  });
}
function some_pcap(random: Dice): Buffer {
  const magic = [MAGIC_US, MAGIC_NS, MAGIC_MODIFIED][random(3)];
  return pcap(some_packets(random), { big: random(2) === 0, magic, minor: 2 + random(3) });
}
function some_pcapng(random: Dice): Buffer {
  const sections = Array.from({ length: 1 + random(3) }, () => {
    // The length need not be true: what is passed over may end anywhere.
    const foreign = random(6) === 0;
    const bytes = random(2) ? -1 : random(60) * 4;
    const ng = foreign ? new Ng(random(2) === 0, 2, bytes) : new Ng(random(2) === 0);
    const n = 1 + random(3);
    for (let i = 0; i < n; i++) {
      ng.iface(random(300), random(2) ? 0 : random(100), random(2) ? null : random(256));
    }
    for (const p of some_packets(random)) {
      const of = { ...p, iface: random(n) };
      [
        () => ng.enhanced(of, 1000n),
        () => ng.enhanced(of, 1_000_000n, [ng.u16(1, 3), Buffer.from('hey\0')]),
        () => ng.old(of),
        () => ng.simple({ ...p, wire: p.bytes.length }),
        () => ng.block(4 + random(9) * 3, [Buffer.from(p.bytes)]),
      ][random(5)]();
    }
    return ng.bytes();
  });
  return Buffer.concat(sections);
}

const LENGTHS = [
  0,
  1,
  3,
  12,
  28,
  0xffff,
  262144,
  262145,
  2 ** 20,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 32 - 4,
];

function damaged(random: Dice, file: Buffer): Buffer {
  let bytes = file;
  for (let n = random(4); n > 0; n--) bytes = damage(random, bytes);
  return bytes;
}
function damage(random: Dice, file: Buffer): Buffer {
  const at = random(file.length + 1);
  const some = random(60);
  const bytes = Buffer.from(file);
  const word = Math.min(at & ~3, file.length - 4);
  switch (random(7)) {
    case 0:
      return file.subarray(0, at);
    case 1:
      return Buffer.concat([file.subarray(0, at), file.subarray(at + some)]);
    case 2:
      return Buffer.concat([file.subarray(0, at + some), file.subarray(at)]);
    case 3:
      return Buffer.concat([
        file.subarray(0, at),
        Buffer.alloc(some, random(256)),
        file.subarray(at),
      ]);
    case 4:
      if (word >= 0) bytes.writeUInt32LE(LENGTHS[random(LENGTHS.length)], word);
      return bytes;
    case 5:
      if (word >= 0) bytes.writeUInt32BE(LENGTHS[random(LENGTHS.length)], word);
      return bytes;
    default:
      if (at < file.length) bytes[at] = random(256);
      return bytes;
  }
}

// --- reading -----------------------------------------------------------------------------------

interface Reading extends ModelReading {
  error: unknown;
}
function read(kind: 'pcap' | 'pcapng', file: Uint8Array, piece: () => number): Reading {
  const reading: Reading = { packets: [], wrong_at: null, trailing: 0, error: null };
  let interfaces = 0;
  const sink: CaptureSink = {
    interface: () => interfaces++,
    packet: (iface, _sec, _nsec, bytes, wire) => {
      assert.ok(iface < interfaces);
      reading.packets.push({ bytes: bytes.slice(), wire });
    },
  };
  const cutter = new RecordCutter();
  const Parser = kind === 'pcap' ? PcapParser : PcapngParser;
  const parser = new Parser('capture', sink, () => cutter.offset);
  try {
    for (let at = 0; at < file.length; ) {
      const n = Math.min(piece(), file.length - at);
      cutter.feed(file.subarray(at, at + n), parser);
      at += n;
    }
    reading.trailing = cutter.trailing();
    // A capture without a whole header has no trailing bytes: it is none.
    if (parser.unfinished() !== null) reading.wrong_at = file.length;
  } catch (error) {
    reading.error = error;
    if (error instanceof SourceError) reading.wrong_at = error.offset;
  }
  return reading;
}
function compare(got: Reading, model: ModelReading, file: Uint8Array, place: string): void {
  if (got.error !== null) {
    assert.ok(got.error instanceof SourceError, `${place}: ${got.error}`);
    assert.match(got.error.message, /^capture: byte \d+: [^\n]+; [^\n]+$/, place);
  }
  assert.equal(got.wrong_at, model.wrong_at, `${place}: ${got.error}`);
  assert.ok((got.wrong_at ?? 0) <= file.length, place);
  assert.equal(got.packets.length, model.packets.length, place);
  for (const [i, p] of got.packets.entries()) {
    const wanted = model.packets[i];
    assert.equal(p.wire, wanted.wire, `${place}: packet ${i}`);
    assert.ok(p.bytes.length <= LARGE_PACKET_MAX_BYTES);
    assert.ok(Buffer.from(p.bytes).equals(wanted.bytes), `${place}: bytes of packet ${i}`);
  }
  if (got.wrong_at === null) assert.equal(got.trailing, model.trailing, place);
}
