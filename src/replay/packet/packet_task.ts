/*
 * packet_task: what the threads of a packet replay are told, and what they tell.
 */
import type { RingHandle } from '../ring/ring.ts';

/** What the user asks of a packet replay. */
export interface PacketOptions {
  /** Packets a second; 0: as fast as they come. */
  rate: number;
  /** Times the capture is played. */
  loop: number;
  /** A packet that finds no memory, or a full queue, is dropped instead of waiting. */
  drop: boolean;
  /** File that gets the packets as they are sent, those of every pass; '': none. */
  write: string;
}
export const PLAIN_PACKETS: PacketOptions = { rate: 0, loop: 1, drop: false, write: '' };

/** Most items of each kind, 0: no limit; bytes of the machine, and those that zones may hold. */
export interface PacketLimits {
  mbufs: number;
  clusters: number;
  jumbo_page: number;
  memory_bytes: number;
  kmem_bytes: number;
}
export interface PacketTask {
  readonly ring: RingHandle;
  readonly index: number;
  /** Threads that send; 0: the receiver sends as well. */
  readonly senders: number;
  /** Word addresses of the queues, one for each sender, and one if there is none. */
  readonly queues: number[];
  readonly verify: boolean;
  readonly limits: PacketLimits;
  readonly packets: PacketOptions;
  /** Draws the order in which senders let packets go. */
  readonly seed: number;
}

export interface PacketTotals {
  received: number;
  bytes: number;
  dropped_no_memory: number;
  dropped_queue_full: number;
  passes: number;
  protocols: Record<string, number>;
  sent: number;
  sent_bytes: number;
  /** Packets that were sent without a copy, because there was no memory for one. */
  uncopied: number;
  /** Most packets that waited with the sender at once. */
  most_held: number;
  /** SHA-256 of the bytes sent, for each pass and sender. */
  digests: string[];
  verify_errors: number;
  complaints: string[];
  play_seconds: number;
}
export const NO_PACKETS: Omit<PacketTotals, 'protocols' | 'digests' | 'complaints'> = {
  received: 0,
  bytes: 0,
  dropped_no_memory: 0,
  dropped_queue_full: 0,
  passes: 0,
  sent: 0,
  sent_bytes: 0,
  uncopied: 0,
  most_held: 0,
  verify_errors: 0,
  play_seconds: 0,
};

/*
 * The tag that a received packet carries: seconds, nanoseconds, bytes on the
 * wire; of its interface the link type, the snaplen and the digits behind the
 * second of its time stamps; bytes of link header, then that header.
 */
export const CAPTURE_COOKIE = 0x70636170; // 'pcap'
export const CAPTURE_ID = 1;
export const CAPTURE_WORDS = 7;
export const TAG_SEC = 0;
export const TAG_NSEC = 1;
export const TAG_WIRE = 2;
export const TAG_LINK = 3;
export const TAG_SNAPLEN = 4;
export const TAG_DIGITS = 5;
export const TAG_HEADER = 6;
