/*
 * packet_events: what a capture looks like in the ring between reader and players.
 *
 *   INTERFACE  word 0: op, number << 8   word 1: link type   word 2: snaplen
 *              word 3: digits behind the second of its time stamps
 *   PACKET     word 0: op, interface << 8   1: captured bytes   2: bytes on the wire
 *              next unit   0: seconds   1: nanoseconds
 *              then the captured bytes, in one piece
 *   PASS       the capture was read to its end once (--loop reads it again)
 *   PAD        word 1: units to the end of the ring, which hold nothing
 *
 * They share the ring of events.ts and its unit of 16 bytes; END is OP_END there.
 * A packet never wraps around the end of the ring, so that the receiver copies it
 * from there into clusters, once.
 */
import { EVENT_BYTES } from './events.ts';

export const OP_PACKET = 16;
export const OP_INTERFACE = 17;
export const OP_PASS = 18;
export const OP_PAD = 19;
export const INTERFACE_SHIFT = 8;

/** Units of a packet's header. */
export const PACKET_UNITS = 2;
/** Captured bytes that a packet may have: what tools take as the largest snaplen. */
export const PACKET_MAX_BYTES = 262144;

/** Units that a packet takes, its header included. */
export function packet_units(captured_bytes: number): number {
  return PACKET_UNITS + Math.ceil(captured_bytes / EVENT_BYTES);
}
