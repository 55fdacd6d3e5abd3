/*
 * Shown: what stands in front of a network header is taken apart for every link type
 * that is followed, down to IP and behind it; what is not followed is counted under
 * a name; wherever a frame is cut, its bytes come out as they were.
 * By what means: frames written by hand, in one pcapng of as many interfaces, through
 * a real machine of two threads; every frame again at every length.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { plays_packets } from '../packet/packets.test.lib.ts';
import { Ng, packet } from './pcap.test.lib.ts';
import { random_from, SEED, temporary_file } from './traces.test.common.ts';

const random = random_from(SEED);
const bytes = (n: number): Buffer => Buffer.from(Uint8Array.from({ length: n }, () => random(256)));
const hex = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

/** IPv4 and UDP, with a right checksum; IPv6 and TCP with options. */
const UDP4 = hex('4500 001c 0000 0000 4011 66cf 0a000001 0a000002 0001 0002 0008 0000');
const TCP6 = Buffer.concat([
  hex('6000 0000 0018 0640'),
  Buffer.alloc(32, 1),
  hex('0001 0002 00000000 00000000 6010 0000 0000 0000 02040500'),
]);
const ARP = hex('0001 0800 06 04 0001 020202020202 0a000001 020202020202 0a000002');
const MAC = hex('020202020202 040404040404');
const IP4 = { ipv4: 1, udp: 1 };
const IP6 = { ipv6: 1, tcp: 1 };

/** An 802.11 frame: its first two bytes, what follows the three addresses, and the rest. */
function wlan(control: string, more = '', ...rest: Buffer[]): Buffer {
  return Buffer.concat([
    hex(control),
    hex('0000'),
    Buffer.alloc(18, 2),
    hex(`0000${more}`),
    ...rest,
  ]);
}
const SNAP4 = hex('aaaa03 000000 0800');
const SNAP6 = hex('aaaa03 000000 86dd');

type Frame = [link: number, counts: Record<string, number>, ...parts: Buffer[]];
const ETHERNET: Frame[] = [
  [1, { vlan: 1, ...IP6 }, MAC, hex('8100 0005 86dd'), TCP6],
  [1, { vlan: 1, ...IP4 }, MAC, hex('88a8 0005 8100 0006 0800'), UDP4],
  [1, { arp: 1, vlan: 1 }, MAC, hex('8100 0005 0806'), ARP],
  [1, IP4, MAC, hex('0024'), SNAP4, UDP4],
  [1, { llc: 1 }, MAC, hex('0026 4242 03'), Buffer.alloc(35)],
  [1, { llc: 1 }, MAC, hex('0026 aaaa03 00000c 2000'), Buffer.alloc(30)],
  [1, { pppoe: 1, ...IP4 }, MAC, hex('8864 1100 0001 001e 0021'), UDP4],
  [1, { pppoe: 1, pppoe_discovery: 1 }, MAC, hex('8863 1109 0000 0004 01010000')],
  [1, { other_ether: 1 }, MAC, hex('88cc'), Buffer.alloc(40)],
];
const COOKED: Frame[] = [
  [113, IP4, Buffer.alloc(14), hex('0800'), UDP4],
  [113, { arp: 1 }, Buffer.alloc(14), hex('0806'), ARP],
  [113, { llc: 1 }, Buffer.alloc(14), hex('0004 424203'), Buffer.alloc(30)],
  [113, { other_ether: 1 }, Buffer.alloc(14), hex('000c'), Buffer.alloc(16)],
  [276, IP6, hex('86dd'), Buffer.alloc(18), TCP6],
  [276, { vlan: 1, ...IP6 }, hex('8100'), Buffer.alloc(18), hex('0005 86dd'), TCP6],
  [276, { other_ether: 1 }, hex('0001'), Buffer.alloc(18), Buffer.alloc(20)],
];
const POINT_TO_POINT: Frame[] = [
  [9, IP4, hex('ff03 0021'), UDP4],
  [9, IP4, hex('0021'), UDP4],
  [9, IP6, hex('57'), TCP6],
  [9, { ppp_control: 1 }, hex('ff03 c021 0101 0004')],
  [9, { other_ppp: 1 }, hex('ff03 00fd'), Buffer.alloc(20)],
  [50, IP6, hex('ff03 0057'), TCP6],
  [50, IP4, hex('0f00 0800'), UDP4],
  [50, { other_ether: 1 }, hex('8f00 8035'), Buffer.alloc(14)],
  [51, { pppoe: 1, ...IP6 }, hex('1100 0001 0042 0057'), TCP6],
  [51, { pppoe: 1, pppoe_discovery: 1 }, hex('1109 0000 0000')],
  [104, IP4, hex('0f00 0800'), UDP4],
  [166, IP4, hex('0003 0021'), UDP4],
  [166, IP4, hex('0103 21'), UDP4],
];
const RAW: Frame[] = [
  [0, IP4, hex('02000000'), UDP4],
  [0, IP6, hex('0000001c'), TCP6],
  [108, IP6, hex('00000018'), TCP6],
  [0, { other_family: 1 }, hex('00000007'), UDP4],
  [12, IP4, UDP4],
  [14, IP6, TCP6],
  [101, IP4, UDP4],
  [228, IP4, UDP4],
  [229, IP6, TCP6],
  [101, { ip_bad_version: 1 }, hex('99'), Buffer.alloc(30)],
];
/** Radiotap with nothing; with a clock and flags; with two words of what is present. */
const TAP = hex('0000 0800 00000000');
const TAP_PADDED = hex('0000 1900 03000000 0000000000000000 20 0000000000000000');
const TAP_WORDS = hex('0000 1500 02000080 00000080 00000000 20 00000000');
const DATA = { wlan_data: 1 };
const WIRELESS: Frame[] = [
  [105, { ...DATA, ...IP4 }, wlan('0801', '', SNAP4, UDP4)],
  [105, { ...DATA, ...IP4 }, wlan('0803', '030303030303', SNAP4, UDP4)],
  [105, { ...DATA, ...IP6 }, wlan('8802', '0000', SNAP6, TCP6)],
  [105, { ...DATA, ...IP6 }, wlan('8882', '000000000000', SNAP6, TCP6)],
  [105, { ...DATA, wlan_protected: 1 }, wlan('8841', '0000', bytes(40))],
  [105, { ...DATA, wlan_aggregate: 1 }, wlan('8801', '8000', bytes(40))],
  [105, { ...DATA, wlan_no_data: 1 }, wlan('4801')],
  [105, { ...DATA, wlan_no_data: 1 }, wlan('c801', '0000')],
  [105, { wlan_management: 1 }, hex('8000'), bytes(60)],
  [105, { wlan_control: 1 }, hex('d400'), bytes(8)],
  [105, { wlan_extension: 1 }, hex('0c00'), bytes(20)],
  [105, { wlan_other_version: 1 }, hex('0900'), bytes(40)],
  [105, { ...DATA, llc: 1 }, wlan('0801', '', hex('424203'), bytes(30))],
  [127, { ...DATA, ...IP4 }, TAP, wlan('0801', '', SNAP4, UDP4)],
  [127, { ...DATA, ...IP6 }, TAP_PADDED, wlan('8801', '0000 ffff', SNAP6, TCP6)],
  [127, { ...DATA, ...IP6 }, TAP_WORDS, wlan('8801', '0000 ffff', SNAP6, TCP6)],
  [127, { wlan_management: 1 }, TAP, hex('8000'), bytes(60)],
  [127, { radiotap_bad: 1 }, hex('0100 0800 00000000'), bytes(60)],
  [127, { radiotap_bad: 1 }, hex('0000 0800 00000080'), bytes(60)],
  [127, { headers_too_deep: 1 }, hex('0000 ff00 00000000'), bytes(300)],
];
const UNKNOWN: Frame[] = [
  [189, { 'unparsed USB': 1 }, bytes(64)],
  [195, { 'unparsed 802.15.4': 1 }, bytes(64)],
  [999, { 'unparsed link type 999': 1 }, bytes(64)],
];

const GROUPS = { ETHERNET, COOKED, POINT_TO_POINT, RAW, WIRELESS, UNKNOWN };

for (const [name, frames] of Object.entries(GROUPS)) {
  test(`${name}: each frame counts as what it is, alone and with much behind it`, async (t) => {
    const wanted: Record<string, number> = {};
    const ng = new Ng();
    for (const [link] of frames) ng.iface(link);
    for (const [iface, [, counts, ...parts]] of frames.entries()) {
      // Headers in a cluster, or in the first of several; every frame another number of times.
      const b = Buffer.concat(parts);
      const times = iface + 1;
      for (let i = 0; i < times; i++) {
        for (const more of [200, 9000]) {
          ng.enhanced({ ...packet(Buffer.concat([b, bytes(more)])), iface });
        }
      }
      for (const [what, n] of Object.entries(counts)) {
        wanted[what] = (wanted[what] ?? 0) + 2 * times * n;
      }
    }
    const file = temporary_file(t, 'links', ng.bytes());
    const { trace } = await plays_packets(file, 1, {});
    assert.deepEqual(trace.protocols, wanted);
  });
}
test('all of them, at every length, on two CPUs', async (t) => {
  const all = Object.values(GROUPS).flat();
  const ng = new Ng();
  for (const [link] of all) ng.iface(link);
  for (const [iface, [, , ...parts]] of all.entries()) {
    const b = Buffer.concat(parts);
    for (let n = 0; n <= b.length; n++) ng.enhanced({ ...packet(b.subarray(0, n)), iface });
  }
  const file = temporary_file(t, 'cut', ng.bytes());
  await plays_packets(file, 2, {}, { options: { INVARIANTS: true } });
});

test('a TCP header shorter than one can be', async (t) => {
  const bad = Buffer.from(TCP6);
  bad[40 + 12] = 0x40;
  const file = temporary_file(t, 'bad', new Ng().iface(101).enhanced(packet(bad)).bytes());
  const { trace } = await plays_packets(file, 1, {});
  assert.deepEqual(trace.protocols, { ipv6: 1, tcp: 1, tcp_bad_header: 1 });
});
