/*
 * Shown: a machine too small for a packet never waits for ever: either the capture is
 * carried whole, or one line says what the packet needs, what there is, and what to
 * raise; with --drop all senders get a packet or none does.  Whoever is told first, the
 * reason told is that of the thread that had it.
 * By what means: real machines of a megabyte with low limits, and captures of packets
 * from 9000 bytes to the largest; after a replay that ends well, the walkers and counts.  On
 * how many CPUs is drawn; recordings.stress.ts plays all.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { packet_needs } from './packet_needs.ts';
import { PLAIN_PACKETS } from './packet_task.ts';
import { is_packet_outcome } from './packet_replay.ts';
import { left_behind, NOTHING, plays_packets } from './packets.test.lib.ts';
import { damaged_capture } from '../read/pcap.fuzz.ts';
import { uma_check } from '../../sys/uma/uma_check.ts';
import { packet, pcap } from '../read/pcap.test.lib.ts';
import { PLAIN } from '../heap/replay.test.lib.ts';
import { play_trace } from '../heap/replay.ts';
import { drawn, random_from, SEED, temporary_file, WHOLE } from '../read/traces.test.common.ts';

const random = random_from(SEED);
/** A capture of n packets of so many bytes. */
function capture(n: number, size: number): Uint8Array {
  const bytes = Uint8Array.from({ length: size }, () => random(256));
  return pcap(Array.from({ length: n }, () => packet(bytes)));
}

test('what a packet needs', () => {
  const cases: [bytes: number, ways: number, mbufs: number, clusters: number, pages: number][] = [
    [0, 1, 1, 0, 0],
    [168, 1, 2, 0, 0],
    [169, 1, 2, 1, 0],
    [2048, 1, 2, 1, 0],
    [2049, 1, 2, 0, 1],
    [4096 + 100, 1, 3, 0, 1],
    [9000, 1, 4, 1, 2],
    [65535, 1, 17, 0, 16],
    [65535, 3, 34, 0, 16],
    [262144, 1, 65, 0, 64],
  ];
  for (const [bytes, ways, mbufs, clusters, jumbo_page] of cases) {
    assert.deepEqual(packet_needs(bytes, ways), { mbufs, clusters, jumbo_page }, `${bytes}`);
  }
});

for (const size of [9000, 262_144]) {
  test(`packets of ${size} bytes in a megabyte: carried, or one line`, async (t) => {
    const file = temporary_file(t, 'jumbo', capture(30, size));
    for (const cpus of drawn([1, 3])) await plays_packets(file, cpus, {}, { memory: '1M' });
    for (const [limit, cpus] of drawn([
      [1, 1],
      [8, 3],
    ])) {
      // Half as many page clusters follow from it, in whole slabs.
      const needed = Math.ceil((size - 2048) / 4096);
      const set = { 'kern.ipc.nmbclusters': `${limit}` };
      const pages = Math.max(1, limit / 2);
      if (needed <= pages) {
        await plays_packets(file, cpus, {}, { memory: '1M', set });
        continue;
      }
      const line = `a packet of ${size} bytes needs ${needed} page clusters, and \\S+nmbjumbop`;
      const raise = `--set kern\\.ipc\\.nmbjumbop=${needed} or more, or --drop`;
      await assert.rejects(
        play_trace({ ...PLAIN, files: [file], cpus, memory: '1M', set }),
        new RegExp(`^KmemError: ENOMEM: receive: ${line} allows ${pages}: ${raise}`),
      );
    }
  });
}

test('fewer mbufs than pieces', async (t) => {
  const file = temporary_file(t, 'mbufs', capture(3, 262_144));
  const set = { 'kern.ipc.nmbufs': '32' };
  for (const [cpus, needed] of drawn([
    [1, 65],
    [3, 130],
  ])) {
    await assert.rejects(
      play_trace({ ...PLAIN, files: [file], cpus, memory: '2M', set }),
      new RegExp(
        `needs ${needed} mbufs, and kern\\.ipc\\.nmbufs allows \\d+: --set .*=${needed} or`,
      ),
    );
  }
});

test('no limit, but not so many pages', async (t) => {
  const file = temporary_file(t, 'pages', capture(3, 262_144));
  for (const cpus of drawn([1, 2, 3])) {
    const set = { 'vm.kmem_size': '131072' };
    await assert.rejects(
      play_trace({ ...PLAIN, files: [file], cpus, memory: '1M', set }),
      /a packet of 262144 bytes takes 2\d\dK, and a vm\.kmem_size of 128K has not .* larger vm/,
    );
    // The same packets where they just fit, the largest one at a time.
    await plays_packets(file, cpus, {}, { memory: '1M', set: { 'vm.kmem_size': '700000' } });
  }
});

test('whichever thread ends first, the reason is told', async (t) => {
  const file = temporary_file(t, 'often', capture(1, 65_535));
  const set = { 'kern.ipc.nmbclusters': '8' };
  for (let i = 0; i < 2; i++) {
    const playing = play_trace({ ...PLAIN, files: [file], cpus: 1 + (i % 2), memory: '1M', set });
    await assert.rejects(playing, /^KmemError: ENOMEM: receive: a packet of 65535 bytes needs 16/);
  }
});

test('damaged captures, where memory is scarce: nothing waits, nothing is left', async (t) => {
  for (let i = 0; i < (WHOLE ? 5 : 2); i++) {
    const file = temporary_file(t, 'damaged', damaged_capture(random));
    const packets = { ...PLAIN_PACKETS, drop: random(2) === 0, loop: 1 + random(3) };
    // Any packet of these files fits into 64 KiB of page clusters.
    const set = { 'kern.ipc.nmbclusters': '32' };
    const how = { ...PLAIN, files: [file], cpus: 1 + random(3), memory: '1M', set, packets };
    const inspect = (): void => {
      uma_check();
      assert.deepEqual(left_behind(), NOTHING);
    };
    await play_trace({ ...how, inspect }).then(
      (out) => assert.ok(is_packet_outcome(out) && out.verdict.good, `seed ${SEED}`),
      (e: Error) => {
        assert.equal(e.name, 'SourceError', `seed ${SEED}: ${e.stack}`);
        assert.ok(!e.message.includes('\n'), `seed ${SEED}`);
      },
    );
  }
});

test('--drop: what finds no memory is dropped and counted, the rest arrives', async (t) => {
  const file = temporary_file(t, 'drop', capture(300, 20_000));
  const packets = { ...PLAIN_PACKETS, drop: true };
  const set = { 'kern.ipc.nmbclusters': '16', 'kern.ipc.nmbjumbop': '12' };
  for (const cpus of drawn([1, 2, 3])) {
    const { packets: p } = await plays_packets(file, cpus, {}, { packets, set });
    assert.ok(p.dropped_no_memory > 0, `${cpus} CPUs`);
    assert.ok(p.sent > 0);
  }
  // Not even one of these fits: all are dropped, and nothing waits.
  const large = temporary_file(t, 'large', capture(5, 65_535));
  for (const cpus of drawn([1, 3])) {
    const { packets: p } = await plays_packets(large, cpus, {}, { packets, set });
    assert.deepEqual([p.dropped_no_memory, p.sent, p.most_held], [5, 0, 0]);
  }
});

test('--drop: room for a packet and not for its copies', async (t) => {
  const file = temporary_file(t, 'copies', capture(200, 65_535));
  const packets = { ...PLAIN_PACKETS, drop: true };
  const set = { 'kern.ipc.nmbufs': '40' };
  for (const cpus of drawn([3, 5])) {
    const { packets: p } = await plays_packets(file, cpus, {}, { packets, set, memory: '2M' });
    assert.equal(p.sent, p.senders * (200 - p.dropped_no_memory));
    assert.ok(p.dropped_no_memory > 0, `${cpus} CPUs`);
  }
});
