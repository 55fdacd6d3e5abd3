/*
 * Shown: whatever is done to a capture, its readers find what the model finds: the
 * same packets, the same place of the first thing wrong, the same bytes left behind.
 * By what means: seeded damage (pcap.fuzz.ts), a cut at every byte of small captures,
 * and damage chosen for what it would do to a careless reader.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { reads_as_model, run } from './pcap.fuzz.ts';
import { pcapng_model } from './pcap.model.ts';
import { MAGIC_MODIFIED, MAGIC_NS, Ng, packet, pcap, read_capture } from './pcap.test.lib.ts';
import { open_reader } from './reader.ts';
import { random_from, SEED, temporary_file } from './traces.test.common.ts';

const random = random_from(SEED);
const bytes = (n: number): Uint8Array => Uint8Array.from({ length: n }, () => random(256));
const some = [packet(bytes(20)), packet(bytes(0)), packet(bytes(33), 7, 1000, 50)];

test('seeded damage', () => {
  for (let i = 0; i < 4; i++) run(SEED + i, 1500);
});

test('small captures, cut at every byte', () => {
  const section = (big: boolean): Buffer => {
    const ng = new Ng(big).iface(1).iface(101, 40, 9);
    ng.enhanced(some[0]).simple({ ...some[2], wire: 33 });
    ng.block(0x0bad, [Buffer.alloc(17)]).old({ ...some[2], iface: 1 });
    return ng.bytes();
  };
  const captures = [false, true].flatMap((big) => [
    pcap(some, { big }),
    pcap(some, { big, magic: MAGIC_NS }),
    pcap(some, { big, magic: MAGIC_MODIFIED }),
    Buffer.concat([section(big), section(!big)]),
  ]);
  for (const file of captures) {
    for (let n = 4; n <= file.length; n++) {
      reads_as_model(file.subarray(0, n), () => 1 + random(20), `cut at ${n}, seed ${SEED}`);
    }
  }
  assert.equal(pcapng_model(captures[3]).packets.length, 6, 'the model reads what was written');
});

test('the last word of a block that nobody reads counts as well', async (t) => {
  const ng = new Ng().iface(1).block(0x99, [Buffer.from('abcd')]);
  const file = ng.bytes();
  file.writeUInt32LE(12, file.length - 4);
  const { error } = await read_capture([temporary_file(t, 'tail', file)]);
  assert.match(error?.message ?? '', /tail: byte 48: block 3 is 16 bytes long and ends with 12; /);
});

test('a capture of interfaces alone is ended, not kept', async (t) => {
  const section = new Ng().bytes();
  const one = new Ng().iface(1).bytes().subarray(section.length);
  const many = Buffer.concat([section, ...Array.from({ length: 70_000 }, () => one)]);
  const { error } = await read_capture([temporary_file(t, 'many.gz', gzipSync(many))]);
  const at = section.length + 65536 * one.length;
  const line = `byte ${at}: block 65538 is interface 65537, at most 65536 can be; `;
  assert.ok(error?.message.includes(line), error?.message ?? 'no error');
});

test('sections of another major version are passed over', async (t) => {
  const own = (big: boolean): Buffer => new Ng(big).iface(1).enhanced(some[0]).bytes();
  const foreign = (big: boolean, length: (bytes: number) => number): Buffer => {
    const rest = new Ng(big)
      .iface(7)
      .enhanced(some[2])
      .block(3, [Buffer.alloc(2)])
      .bytes();
    const blocks = rest.subarray(28);
    return Buffer.concat([new Ng(big, 2, length(blocks.length)).bytes(), blocks]);
  };
  const odd: ((bytes: number) => number)[] = [(n) => n, () => -1, () => 0, () => 2 ** 53, () => 6];
  for (const length of odd) {
    for (const big of [false, true]) {
      const files = [
        [own(big), foreign(!big, length), own(!big), foreign(big, length)],
        [foreign(big, length), own(big), own(!big)],
      ];
      for (const parts of files) {
        const file = temporary_file(t, 'sections', Buffer.concat(parts));
        const { trace, packets } = await read_capture([file]);
        assert.deepEqual([trace?.packets, trace?.sections, trace?.damaged_at], [2, 2, undefined]);
        assert.deepEqual(
          packets.map((p) => p.bytes.length),
          [20, 20],
        );
      }
      const { error } = await read_capture([temporary_file(t, 'all', foreign(big, length))]);
      assert.match(error?.message ?? '', /all: byte 0: pcapng version 2\.0; 1\.x can be read; /);
    }
  }
});

test('the duration is from the earliest packet to the latest', async (t) => {
  const at = (sec: number): Buffer => Buffer.from(pcap([packet(bytes(4), sec)]).subarray(24));
  const head = pcap([]);
  for (const times of [
    [9, 5, 6],
    [5, 9, 6],
    [6, 5, 9],
    [9, 9, 5],
  ]) {
    const file = temporary_file(t, 'order', Buffer.concat([head, ...times.map(at)]));
    const { trace } = await read_capture([file]);
    const back = times.filter((sec, i) => i > 0 && sec < times[i - 1]).length;
    assert.deepEqual([trace?.duration_seconds, trace?.timestamps_backwards], [4, back]);
  }
});

test('a section without interfaces has no link', async (t) => {
  const { trace } = await read_capture([temporary_file(t, 'none', new Ng().bytes())]);
  assert.deepEqual([trace?.link_type, trace?.link], [null, 'no interface']);
  assert.deepEqual([trace?.packets, trace?.interfaces], [0, []]);
});

test('a reading that nobody wants to the end says what was read', async (t) => {
  const packets = Array.from({ length: 3000 }, () => packet(bytes(1000)));
  const file = temporary_file(t, 'long', pcap(packets));
  const reader = open_reader({ files: [file], cpus: 1 });
  await reader.format;
  reader.player_gone(0);
  const { trace, aborted } = await reader.done;
  assert.equal(aborted, true);
  const document: { format: string; packets?: number } = trace;
  assert.equal(document.format, 'pcap');
  assert.ok((document.packets ?? 0) <= packets.length);
});
