/*
 * packets.test.lib: what must hold after any packet replay, for tests.
 *
 * All bytes came out as they were recorded, nothing is left behind, and the
 * kernel's own accounts add up; the walker of the zones finds nothing wrong.
 */
import assert from 'node:assert/strict';
import { uma_check } from '../../sys/uma/uma_check.ts';
import { is_packet_outcome, live_mbufs, type PacketOutcome } from './packet_replay.ts';
import type { CaptureDocument } from '../read/pcap_stats.ts';
import { truth_in } from '../read/traces.test.common.ts';
import { PLAIN } from '../heap/replay.test.lib.ts';
import { play_trace, type ReplayOptions } from '../heap/replay.ts';

/** What is true of the captures of a folder; null: there is none. */
export const captures_truth = (folder: string): Record<string, Partial<CaptureDocument>> | null =>
  truth_in(folder, /\.pcap\.gz$/);
/** Counts that are zero when nothing is left. */
export function left_behind(): number[] {
  const f = live_mbufs();
  const kinds = [f.mbufs, f.clusters, f.packets, f.jumbo_page, f.jumbo_9k, f.jumbo_16k, f.tags];
  return kinds.map((k) => k.current);
}
export const NOTHING = [0, 0, 0, 0, 0, 0, 0];

/** Plays a capture and looks at everything; gives the outcome. */
export async function plays_packets(
  file: string,
  cpus: number,
  truth: Partial<CaptureDocument>,
  more: Partial<ReplayOptions> = {},
): Promise<PacketOutcome> {
  let looked = false;
  const inspect = (): void => {
    uma_check();
    assert.deepEqual(left_behind(), NOTHING);
    looked = true;
  };
  const out = await play_trace({ ...PLAIN, ...more, files: [file], cpus, inspect });
  assert.ok(looked && is_packet_outcome(out));
  for (const [name, value] of Object.entries(truth)) {
    assert.deepEqual(out.trace[name as keyof CaptureDocument], value, name);
  }
  const { packets, trace, verdict } = out;
  const passes = more.packets?.loop ?? 1;
  const dropped = packets.dropped_no_memory + packets.dropped_queue_full;
  assert.equal(packets.senders, Math.max(1, cpus - 1));
  assert.equal(packets.passes, passes);
  assert.equal(packets.received, passes * trace.packets);
  assert.equal(packets.sent, packets.senders * (packets.received - dropped));
  assert.equal(verdict.bytes_equal, dropped > 0 ? null : true);
  assert.ok(verdict.good);
  assert.deepEqual([out.complaints, packets.verify_errors], [[], 0]);
  if (dropped === 0) {
    assert.equal(packets.bytes, passes * trace.captured_bytes);
    assert.equal(packets.sha256_of_sent_bytes, trace.sha256_of_captured_bytes);
  }
  return out;
}
