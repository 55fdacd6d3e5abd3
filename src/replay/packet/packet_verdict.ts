/*
 * packet_verdict: the outcome of a packet replay, for people.
 */
import type { PacketOutcome } from './packet_replay.ts';
import { count, counted, damage_row, mega, short_name, SPEED_MIN_EVENTS } from '../heap/verdict.ts';
import { row } from '../rows.ts';

const PROTOCOLS_A_LINE = 5;

/** The verdict: what the capture was, what became of its bytes, what is left behind. */
export function packet_verdict(file: string, out: PacketOutcome): string {
  const { trace, memory } = out;
  const who = out.cpus === 1 ? 'sent on the CPU that received them' : senders(out);
  let text = `${short_name(file)}: ${trace.format}, ${counted(trace.packets, 'packet')}, ${who}\n`;
  text += row('time', speed(out));
  const times = out.packets.passes > 1 ? `, played ${count(out.packets.passes)} times` : '';
  text += row(
    'capture',
    `${links(out)}, ${mega(trace.captured_bytes)} of ${mega(trace.wire_bytes)} on the wire, ` +
      `${trace.duration_seconds} s${times}`,
  );
  text += protocols(trace.protocols);
  text += row(
    'memory',
    `${mega(memory.kernel_peak_bytes)} of ${mega(memory.size_bytes)} taken at the peak`,
  );
  return text + contents(out) + odd(out) + left(out);
}
function senders(out: PacketOutcome): string {
  const { senders: n } = out.packets;
  if (n === 1) return 'received on CPU 1 and sent on CPU 2';
  return `received on CPU 1 and sent by each of ${n} others`;
}
function links({ trace }: PacketOutcome): string {
  const all = [...new Set(trace.interfaces?.map((i) => i.link) ?? [trace.link])];
  return all.length === 0 ? trace.link : all.join(', ');
}
function speed({ packets, time }: PacketOutcome): string {
  const seconds = `${time.seconds.toFixed(2)} s`;
  if (packets.received < SPEED_MIN_EVENTS) return `${seconds}, too short to speak of speed`;
  const bytes = `${mega(time.bytes_per_second)}/s`;
  return `${seconds}, ${count(time.packets_per_second)} packets/s, ${bytes}`;
}
function protocols(counts: Record<string, number>): string {
  const all = Object.entries(counts).sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  let text = '';
  for (let i = 0; i < all.length; i += PROTOCOLS_A_LINE) {
    const some = all.slice(i, i + PROTOCOLS_A_LINE).map(([name, n]) => `${count(n)} ${name}`);
    text += row(i === 0 ? 'protocols' : '', some.join(', ').replaceAll('_', ' '));
  }
  return text;
}
function contents(out: PacketOutcome): string {
  const { packets, verdict } = out;
  if (packets.verify_errors > 0) {
    const damaged = counted(packets.verify_errors, 'PACKET WAS', 'PACKETS WERE');
    return row('contents', `${damaged} DAMAGED`) + out.complaints.map((c) => row('', c)).join('');
  }
  if (verdict.bytes_equal === null) return row('contents', 'not whole: packets were dropped');
  const same = 'every byte came out as it was recorded (SHA-256)';
  return row('contents', verdict.bytes_equal ? same : 'BYTES CAME OUT THAT WERE NOT RECORDED');
}
function odd({ trace, packets }: PacketOutcome): string {
  const damage = damage_row(trace);
  const lines: [n: number, one: string, many: string][] = [
    [trace.truncated_packets, 'packet cut by the recorder', 'packets cut by the recorder'],
    [trace.timestamps_backwards, 'step back in time', 'steps back in time'],
    [
      damage === '' ? trace.trailing_bytes : 0,
      'byte of a record that was cut',
      'bytes of a record that was cut',
    ],
    [packets.dropped_no_memory, 'packet dropped: no mbufs', 'packets dropped: no mbufs'],
    [packets.dropped_queue_full, 'packet dropped: queue full', 'packets dropped: queue full'],
    [packets.uncopied, 'packet sent without a copy', 'packets sent without a copy'],
  ];
  const some = lines.filter(([n]) => n > 0).map((l) => counted(...l));
  return (
    damage + some.map((what, i) => row(i + damage.length === 0 ? 'recording' : '', what)).join('')
  );
}
function left({ verdict }: PacketOutcome): string {
  const { mbufs_left, clusters_left, tags_left } = verdict;
  if (mbufs_left + clusters_left + tags_left === 0) {
    return row('mbufs', 'all given back: mbufs, clusters and tags');
  }
  const what = [counted(mbufs_left, 'mbuf'), counted(clusters_left, 'cluster')];
  return row('mbufs', `${[...what, counted(tags_left, 'tag')].join(', ')} NOT GIVEN BACK`);
}
