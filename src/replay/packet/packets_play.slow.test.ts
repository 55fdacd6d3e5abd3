/*
 * Shown: packets go through mbufs byte for byte, whatever they are: every link type
 * and header, no memory to spare, played again and again, at a rate, dropped where
 * that is asked for, written to a file; threads that die leave nobody waiting.
 * By what means: real machines and real threads; the bundled capture, and captures
 * written by hand; after each replay the walker of the zones, and all counts zero.  On how
 * many CPUs is drawn; recordings.stress.ts plays all.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { gunzipSync } from 'node:zlib';
import { boot, shutdown } from '../../sys/boot/whole.ts';
import { uma_check } from '../../sys/uma/uma_check.ts';
import { play_capture } from './packet_replay.ts';
import { PLAIN_PACKETS } from './packet_task.ts';
import { left_behind, NOTHING, plays_packets } from './packets.test.lib.ts';
import { MAGIC_NS, Ng, packet, pcap, sha256 } from '../read/pcap.test.lib.ts';
import { PlayerThread } from '../heap/player_thread.ts';
import { open_reader, type Reader } from '../read/reader.ts';
import { PLAIN } from '../heap/replay.test.lib.ts';
import { play_trace, replay } from '../heap/replay.ts';
import {
  BUNDLED,
  drawn,
  random_from,
  SEED,
  temporary_file,
  temporary_folder,
} from '../read/traces.test.common.ts';

const HTTP2 = join(BUNDLED, 'http2.pcap.gz');
const truth = JSON.parse(readFileSync(join(BUNDLED, 'truth.json'), 'utf8'))['http2.pcap.gz'];
const random = random_from(SEED);
function bytes(n: number): Buffer {
  const words = Uint32Array.from({ length: Math.ceil(n / 4) }, () => random(2 ** 32));
  return Buffer.from(words.buffer, 0, n);
}

for (const cpus of [1, 2, 3]) {
  test(`the bundled capture on ${cpus} CPUs`, async () => {
    const out = await plays_packets(HTTP2, cpus, truth);
    const counts = { arp: 2, ipv4: 1337, udp: 12, ip_fragment: 52, tcp: 1281 };
    assert.deepEqual(out.trace.protocols, counts);
  });
}
test('INVARIANTS and WITNESS watch', async () => {
  const options = { INVARIANTS: true, WITNESS: true };
  await plays_packets(HTTP2, 2, truth, { options });
});

// --- headers -----------------------------------------------------------------------------------

const ETHER = Buffer.alloc(12, 2);
const type = (n: number): Buffer => Buffer.from([n >> 8, n & 255]);
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');
/** An IPv4 header with a right checksum, `options` words of options. */
function ipv4(proto: number, fragment = 0, options = 0): Buffer {
  const b = Buffer.alloc(20 + options * 4, 1);
  b[0] = 0x45 + options;
  b[9] = proto;
  b.writeUInt16BE(fragment, 6);
  b.writeUInt16BE(0, 10);
  let sum = 0;
  for (let i = 0; i < b.length; i += 2) sum += b.readUInt16BE(i);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  b.writeUInt16BE(~sum & 0xffff, 10);
  return b;
}
function ipv6(next: number): Buffer {
  const b = Buffer.alloc(40, 3);
  b[0] = 0x60;
  b[6] = next;
  return b;
}
const TCP = Buffer.concat([Buffer.alloc(12, 4), hex('5010 0000 0000 0000')]);
const UDP = Buffer.alloc(8, 5);
const big = (): Buffer => bytes(2500);

test('headers of every kind, by link type', async (t) => {
  const ip = (...parts: Buffer[]): Buffer => Buffer.concat([ETHER, type(0x800), ...parts]);
  const bad = ipv4(17);
  bad[10] ^= 1;
  const ether = [
    ip(ipv4(6), TCP, big()),
    ip(ipv4(17, 0, 10), UDP, big()),
    ip(ipv4(1, 0x2000), bytes(2000)),
    ip(ipv4(17, 0x2100), bytes(1480)),
    ip(ipv4(89), bytes(60)),
    ip(bad, UDP, bytes(300)),
    Buffer.concat([ETHER, hex('8100 0005 88a8 0006'), type(0x86dd), ipv6(58), bytes(64)]),
    Buffer.concat([
      ETHER,
      type(0x86dd),
      ipv6(0),
      hex('2c 00'),
      bytes(6),
      hex('1100 0000'),
      bytes(4),
      UDP,
      big(),
    ]),
    Buffer.concat([ETHER, type(0x86dd), ipv6(44), hex('1100 0100'), bytes(1400)]),
    Buffer.concat([ETHER, type(0x806), hex('0001 0800 06 04 0001'), bytes(20)]),
    Buffer.concat([ETHER, type(38), bytes(38)]),
    Buffer.concat([ETHER, type(0x88cc), bytes(3000)]),
    ip(ipv4(6), TCP).subarray(0, 40),
    ETHER,
    Buffer.alloc(0),
    ip(hex('99')),
    Buffer.concat([ETHER, type(0x86dd), ipv6(0), hex('00ff'), bytes(3000)]),
  ];
  const file = temporary_file(t, 'ether', pcap(ether.map((b) => packet(b))));
  const { trace } = await plays_packets(file, 2, { packets: ether.length });
  assert.deepEqual(trace.protocols, {
    ipv4: 7,
    tcp: 2,
    udp: 3,
    icmp: 1,
    ip_fragment: 4,
    other_transport: 1,
    ip_bad_checksum: 1,
    vlan: 1,
    ipv6: 4,
    icmp6: 1,
    arp: 1,
    llc: 1,
    other_ether: 1,
    headers_cut: 3,
    ip_bad_version: 1,
    headers_too_deep: 1,
  });
});

test('other link types', async (t) => {
  const inner = Buffer.concat([ipv4(17), UDP, big()]);
  const inner6 = Buffer.concat([ipv6(6), TCP, big()]);
  const cooked = Buffer.concat([bytes(14), type(0x800), inner]);
  const cooked2 = Buffer.concat([type(0x86dd), bytes(18), inner6]);
  const links: [number, Buffer, Record<string, number>][] = [
    [0, Buffer.concat([hex('02000000'), inner]), { ipv4: 1, udp: 1 }],
    [0, Buffer.concat([hex('0000001e'), inner6]), { ipv6: 1, tcp: 1 }],
    [0, Buffer.concat([hex('00000007'), inner6]), { other_family: 1 }],
    [108, Buffer.concat([hex('00000002'), inner]), { ipv4: 1, udp: 1 }],
    [12, inner, { ipv4: 1, udp: 1 }],
    [101, inner6, { ipv6: 1, tcp: 1 }],
    [229, inner6, { ipv6: 1, tcp: 1 }],
    [113, cooked, { ipv4: 1, udp: 1 }],
    [276, cooked2, { ipv6: 1, tcp: 1 }],
    [189, big(), { 'unparsed USB': 1 }],
  ];
  const ng = new Ng();
  for (const [link] of links) ng.iface(link);
  for (const [iface, [, b]] of links.entries()) ng.enhanced({ ...packet(b), iface });
  const wanted: Record<string, number> = {};
  for (const [, , counts] of links) {
    for (const [name, n] of Object.entries(counts)) wanted[name] = (wanted[name] ?? 0) + n;
  }
  const file = temporary_file(t, 'links', ng.bytes());
  for (const cpus of [1, 3]) {
    const { trace } = await plays_packets(file, cpus, { packets: links.length });
    assert.deepEqual(trace.protocols, wanted);
  }
});

test('random bytes as packets', async (t) => {
  const packets = Array.from({ length: 300 }, () => packet(bytes(random(random(2) ? 200 : 9000))));
  const links = [0, 1, 101, 113, 276];
  const file = temporary_file(t, 'random', pcap(packets, { link: links[random(links.length)] }));
  await plays_packets(file, 1 + random(3), {}, { options: { INVARIANTS: random(2) === 0 } });
});

// --- memory ------------------------------------------------------------------------------------

/** Limits below what is in flight otherwise. */
const TIGHT = { 'kern.ipc.nmbclusters': '24', 'kern.ipc.nmbjumbop': '20' };

test('no cluster to spare: the receiver waits, and nothing is lost', async (t) => {
  const sizes = [70, 400, 1500, 1500, 2048, 9000, 65549];
  const packets = Array.from({ length: 400 }, () => packet(bytes(sizes[random(sizes.length)])));
  const file = temporary_file(t, 'tight', pcap(packets));
  for (const cpus of drawn([1, 2, 3])) {
    const out = await plays_packets(file, cpus, {}, { set: TIGHT });
    assert.ok(out.mbufs.clusters.max <= 24 && out.mbufs.jumbo_page.max <= 20);
    const { mbufs, clusters, jumbo_page, packets: both } = out.mbufs;
    const waits = [mbufs, clusters, both, jumbo_page].map((k) => k.denied + k.delayed);
    assert.ok(waits.reduce((a, b) => a + b) > 0, 'the limits were felt');
  }
});

test('the smallest machine', async () => {
  await plays_packets(HTTP2, 2, truth, { memory: '2M' });
  await plays_packets(HTTP2, 1, truth, { memory: '1M' });
});

// --- ways of playing -----------------------------------------------------------------------------

test('--loop: again and again, and every pass is whole', async () => {
  for (const cpus of drawn([1, 2])) {
    await plays_packets(HTTP2, cpus, truth, { packets: { ...PLAIN_PACKETS, loop: 5 } });
  }
});

test('--rate: no faster than that', async (t) => {
  const file = temporary_file(t, 'rate', pcap(Array.from({ length: 60 }, () => packet(bytes(60)))));
  for (const [cpus, rate] of [
    [1, 200],
    [2, 400],
  ]) {
    const out = await plays_packets(file, cpus, {}, { packets: { ...PLAIN_PACKETS, rate } });
    assert.ok(out.time.packets_per_second <= rate * 1.1, `${out.time.packets_per_second}`);
  }
});

test('--write: the file holds what was read, to the byte', async (t) => {
  const to = join(temporary_folder(t), 'out.pcap');
  const nanoseconds = pcap(
    [packet(bytes(70), 5, 123456789), packet(bytes(3000), 2 ** 32 - 1, 999999999, 4000)],
    { magic: MAGIC_NS, link: 101, snaplen: 3000 },
  );
  const inputs = [gunzipSync(readFileSync(HTTP2)), nanoseconds];
  for (const [i, input] of inputs.entries()) {
    const file = temporary_file(t, 'in.pcap', input);
    const packets = { ...PLAIN_PACKETS, write: to, loop: 1 + i };
    await plays_packets(file, 1 + i, {}, { packets });
    const passes = Array.from({ length: packets.loop }, () => input.subarray(24));
    assert.ok(readFileSync(to).equals(Buffer.concat([input.subarray(0, 24), ...passes])));
  }
  const two = new Ng().iface(1).iface(101);
  two.enhanced(packet(bytes(70))).enhanced({ ...packet(bytes(70)), iface: 1 });
  const file = temporary_file(t, 'two', two.bytes());
  const packets = { ...PLAIN_PACKETS, write: to };
  await assert.rejects(
    play_trace({ ...PLAIN, files: [file], cpus: 2, packets }),
    /out\.pcap: the capture has packets of link types 1 and 101; /,
  );
});

test('packets of USB, larger than frames: played, written, or their need is told', async (t) => {
  const sizes = [100, 262144, 262145, 300_000, 2_500_000, 60];
  const some = sizes.map((n, i) => packet(bytes(n), 5 + i, 0, n + i));
  const input = pcap(some, { link: 249, snaplen: 2 ** 27 });
  const file = temporary_file(t, 'usb', input);
  const ng = new Ng().iface(1).iface(220);
  for (const p of some) ng.enhanced({ ...p, iface: 1 });
  const to = join(temporary_folder(t), 'out.pcap');
  for (const cpus of drawn([1, 3])) {
    const packets = { ...PLAIN_PACKETS, write: to, loop: 2 };
    const { trace } = await plays_packets(file, cpus, { largest: 2_500_000 }, { packets });
    assert.equal(trace.sha256_of_captured_bytes, sha256(some));
    assert.deepEqual(trace.size_histogram, { 64: 1, 128: 1, 1048576: 3, 16777216: 1 });
    assert.ok(readFileSync(to).equals(Buffer.concat([input, input.subarray(24)])));
    const { trace: next } = await plays_packets(temporary_file(t, 'ng', ng.bytes()), cpus, {});
    assert.equal(next.sha256_of_captured_bytes, sha256(some));
  }
  const set = { 'kern.ipc.nmbjumbop': '100' };
  await assert.rejects(
    play_trace({ ...PLAIN, files: [file], cpus: 2, set }),
    /a packet of 2500000 bytes needs \d+ page clusters, and kern\.ipc\.nmbjumbop allows \d+: /,
  );
  const drop = { ...PLAIN_PACKETS, drop: true };
  const { packets: p } = await plays_packets(file, 3, {}, { packets: drop, set });
  assert.ok(p.dropped_no_memory > 0);
});

test('a capture is no heap, and a heap no capture', async () => {
  await assert.rejects(
    replay({ ...PLAIN, files: [HTTP2], cpus: 1 }),
    /http2\.pcap\.gz: is pcap, no recording of a heap; /,
  );
  const file = join(BUNDLED, 'make.mtrace.gz');
  const packets = { ...PLAIN_PACKETS, loop: 2 };
  await assert.rejects(
    play_trace({ ...PLAIN, files: [file], cpus: 1, packets }),
    /make\.mtrace\.gz: is mtrace, no capture; --rate, --loop/,
  );
});

// --- deaths --------------------------------------------------------------------------------------

/** A replay of the bundled capture that lasts until something ends it. */
async function endless(
  t: TestContext,
  cpus: number,
): Promise<{ players: PlayerThread[]; reader: Reader; end: Promise<unknown> }> {
  const { handle } = boot({ memory: '64M', cpus: cpus + 1 });
  t.after(shutdown);
  const players = Array.from({ length: cpus }, (_, i) => new PlayerThread(handle, i));
  await Promise.all(players.map((p) => p.up));
  const packets = { ...PLAIN_PACKETS, loop: 1e6 };
  const reader = open_reader({ files: [HTTP2], cpus, loop: packets.loop });
  await reader.format;
  const end = play_capture({ cpus, verify: true, packets }, players, reader);
  end.catch(() => {});
  while (reader.progress().events < 10_000) await new Promise((go) => setTimeout(go, 5));
  return { players, reader, end };
}

test('the reader is ended in the middle: packets under way go out, none is left', async (t) => {
  for (const cpus of drawn([1, 2])) {
    await t.test(`${cpus} CPUs`, async (t) => {
      const { reader, end } = await endless(t, cpus);
      await reader.abort();
      await assert.rejects(end, /called off/);
      uma_check();
      assert.deepEqual(left_behind(), NOTHING);
    });
  }
});

test('a sender or the receiver dies: the replay ends with the reason', async (t) => {
  for (const victim of drawn([0, 1])) {
    await t.test(`CPU ${victim + 1}`, async (t) => {
      const { players, reader, end } = await endless(t, 3);
      await players[victim].worker.terminate();
      await assert.rejects(end, new RegExp(`PlayerError: the player on CPU ${victim + 1} died`));
      await reader.abort();
      await Promise.all(players.map((p) => p.worker.terminate()));
    });
  }
});

test('a capture damaged in the middle: what is before it is played, or nothing', async (t) => {
  const file = gunzipSync(readFileSync(HTTP2));
  const cut = file.subarray(0, 500_000);
  const damaged = Buffer.concat([cut, Buffer.alloc(70_000, 0xff), file.subarray(570_000)]);
  const name = temporary_file(t, 'damaged', damaged);
  const line = /damaged: byte \d+: packet \d+ claims \d+ captured bytes, at most 262144/;
  for (const cpus of drawn([1, 2, 3])) {
    const { trace } = await plays_packets(name, cpus, {});
    assert.match(trace.damage ?? '', line);
    const at = trace.damaged_at ?? 0;
    assert.ok(at > 400_000 && at < 570_000, `${at}`);
    assert.equal(trace.captured_bytes, at - 24 - 16 * trace.packets);
    const strict = play_trace({ ...PLAIN, strict: true, files: [name], cpus });
    await assert.rejects(strict, (e: Error) => e.name === 'SourceError' && line.test(e.message));
  }
});
