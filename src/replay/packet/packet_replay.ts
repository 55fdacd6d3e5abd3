/*
 * packet_replay: a capture of packets, played through mbufs on a real machine.
 *
 *      file ─► reader's thread ─► ring ─► receiver on CPU 1 ─┬─► sender on CPU 2
 *                                                            └─► sender on CPU 3 …
 *
 * The part of replay.ts that is about captures.  At the end every figure is read
 * back from the kernel, and the replay is judged: all bytes came out as they were
 * recorded, no packet was damaged while it waited, and nothing is left behind, no
 * mbuf, no cluster, no tag.
 */
import { M_NOWAIT, M_ZERO } from '../../sys/h/malloc_flags.ts';
import { ENOMEM, KmemError } from '../../sys/machine/errno.ts';
import { free, malloc } from '../../sys/kmem/kern_malloc.ts';
import { M_TEMP } from '../../sys/kmem/kern_malloc_type.ts';
import { memstat_fetch_live } from '../../sys/observe/memstat_sysctl.ts';
import { type MbufFigures, mbuf_figures } from '../../sys/observe/netstat_text.ts';
import { live_number } from '../heap/heap_figures.ts';
import { QUEUE_BYTES } from './packet_queue.ts';
import {
  NO_PACKETS,
  type PacketLimits,
  type PacketOptions,
  type PacketTotals,
  PLAIN_PACKETS,
} from './packet_task.ts';
import type { CaptureDocument } from '../read/pcap_stats.ts';
import type { PlayerThread } from '../heap/player_thread.ts';
import type { TraceResult } from '../read/read_trace.ts';
import type { Reader } from '../read/reader.ts';

/** What a packet replay takes of the options of a replay. */
export interface PacketReplayOptions {
  readonly cpus: number;
  readonly verify: boolean;
  readonly packets?: PacketOptions;
}
export interface PacketOutcome {
  trace: CaptureDocument & { protocols: Record<string, number> };
  /** What went through the mbufs, over all passes; `sent` over all senders. */
  packets: {
    received: number;
    sent: number;
    senders: number;
    passes: number;
    bytes: number;
    dropped_no_memory: number;
    dropped_queue_full: number;
    uncopied: number;
    most_held: number;
    verify_errors: number;
    sha256_of_sent_bytes: string | null;
  };
  mbufs: MbufFigures;
  verdict: {
    /** Every pass of every sender sent the captured bytes; null: packets were dropped. */
    bytes_equal: boolean | null;
    /** What is not given back at the end. */
    mbufs_left: number;
    clusters_left: number;
    tags_left: number;
    good: boolean;
  };
  memory: { size_bytes: number; kernel_peak_bytes: number };
  time: {
    seconds: number;
    packets_per_second: number;
    bytes_per_second: number;
    reading_seconds: number;
    receiving_seconds: number;
    sending_seconds: number;
  };
  cpus: number;
  verified: boolean;
  complaints: string[];
}

/** Whether an outcome is that of a capture. */
export function is_packet_outcome(out: object): out is PacketOutcome {
  return 'packets' in out;
}

/** The figures of this thread's machine. */
export function live_mbufs(): MbufFigures {
  const figures = mbuf_figures(memstat_fetch_live());
  if (typeof figures === 'string') throw new Error(figures);
  return figures;
}

export interface PacketsPlayed {
  read: TraceResult<CaptureDocument>;
  totals: PacketTotals[];
}
/** Gives the players their parts, and waits for all of them and the reader. */
export async function play_capture(
  o: PacketReplayOptions,
  players: PlayerThread[],
  reader: Reader,
): Promise<PacketsPlayed> {
  const senders = o.cpus - 1;
  const queues = packet_queues(Math.max(1, senders));
  const limits = live_limits();
  const packets = o.packets ?? PLAIN_PACKETS;
  const common = { ring: reader.ring_handle, senders, queues, verify: o.verify, limits, packets };
  for (const p of players) {
    if (p.index > 0) reader.player_gone(p.index); // only the receiver reads
    p.start(reader, { ...common, index: p.index, seed: 1 + p.index });
  }
  const totals = (await Promise.all(players.map((p) => p.end))) as PacketTotals[];
  for (const q of queues) free(q, M_TEMP.t);
  const read = (await reader.done) as unknown as TraceResult<CaptureDocument>;
  return { read, totals };
}

/** A queue for each sender. */
function packet_queues(n: number): number[] {
  const queues = Array.from({ length: n }, () => malloc(QUEUE_BYTES, M_TEMP.t, M_NOWAIT | M_ZERO));
  if (!queues.includes(0)) return queues;
  const text = `no memory for the queues of ${n} senders: give more --memory, or fewer --cpus`;
  throw new KmemError(ENOMEM, 'replay', text);
}
/** What this thread's machine allows. */
export function live_limits(): PacketLimits {
  const { mbufs, clusters, jumbo_page } = live_mbufs();
  return {
    mbufs: mbufs.max,
    clusters: clusters.max,
    jumbo_page: jumbo_page.max,
    memory_bytes: live_number('hw.physmem'),
    kmem_bytes: live_number('vm.kmem_size'),
  };
}

function summed(totals: PacketTotals[]): PacketTotals {
  const sum: PacketTotals = { ...NO_PACKETS, protocols: {}, digests: [], complaints: [] };
  for (const t of totals) {
    for (const key of Object.keys(NO_PACKETS) as (keyof typeof NO_PACKETS)[]) sum[key] += t[key];
    sum.digests.push(...t.digests);
    sum.complaints.push(...t.complaints);
  }
  return sum;
}

/** What came out of it; the machine is still up. */
export function packet_outcome(
  o: PacketReplayOptions,
  { read, totals }: PacketsPlayed,
  seconds: number,
  memory: PacketOutcome['memory'],
): PacketOutcome {
  const receiver = totals[0];
  const senders = Math.max(1, o.cpus - 1);
  const sum = summed(totals);
  const { trace } = read;
  const dropped = receiver.dropped_no_memory + receiver.dropped_queue_full;
  const wanted = senders * receiver.passes;
  const equal = sum.digests.filter((d) => d === trace.sha256_of_captured_bytes).length;
  const bytes_equal = dropped > 0 ? null : equal === wanted && sum.digests.length === wanted;
  const mbufs = live_mbufs();
  const left = {
    mbufs_left: mbufs.mbufs.current,
    clusters_left:
      mbufs.clusters.current +
      mbufs.jumbo_page.current +
      mbufs.jumbo_9k.current +
      mbufs.jumbo_16k.current,
    tags_left: mbufs.tags.current,
  };
  const nothing_left = left.mbufs_left + left.clusters_left + left.tags_left === 0;
  const sending = totals.slice(1).map((t) => t.play_seconds);
  return {
    trace: { ...trace, protocols: receiver.protocols },
    packets: {
      received: receiver.received,
      sent: sum.sent,
      senders,
      passes: receiver.passes,
      bytes: receiver.bytes,
      dropped_no_memory: receiver.dropped_no_memory,
      dropped_queue_full: receiver.dropped_queue_full,
      uncopied: sum.uncopied,
      most_held: Math.max(...totals.map((t) => t.most_held)),
      verify_errors: sum.verify_errors,
      sha256_of_sent_bytes: sum.digests[0] ?? null,
    },
    mbufs,
    verdict: {
      bytes_equal,
      ...left,
      good: bytes_equal !== false && nothing_left && sum.verify_errors === 0,
    },
    memory,
    time: {
      seconds,
      packets_per_second: receiver.received / seconds,
      bytes_per_second: receiver.bytes / seconds,
      reading_seconds: read.read_seconds - read.waited_seconds,
      receiving_seconds: receiver.play_seconds,
      sending_seconds: Math.max(0, ...sending),
    },
    cpus: o.cpus,
    verified: o.verify,
    complaints: sum.complaints,
  };
}
