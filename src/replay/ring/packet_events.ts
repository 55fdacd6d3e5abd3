/*
 * packet_events: what a capture looks like in the ring between reader and players.
 *
 *   INTERFACE  word 0: op, number << 8   word 1: link type   word 2: snaplen
 *              word 3: digits behind the second of its time stamps
 *   PACKET     word 0: op, interface << 8   1: captured bytes   2: bytes on the wire
 *              word 3: 1 when its bytes came in PIECEs before it, and none follow
 *              next unit   0: seconds   1: nanoseconds
 *              then the captured bytes, in one piece
 *   PIECE      word 1: bytes   next unit: so many bytes of the next packet
 *   PASS       the capture was read to its end once (--loop reads it again)
 *   PAD        word 1: units to the end of the ring, which hold nothing
 *
 * They share the ring of events.ts and its unit of 16 bytes; END is OP_END there.
 * A packet never wraps around the end of the ring, so that the receiver copies it
 * from there into clusters, once.  One larger than PIECE_BYTES does not fit into
 * the ring: it comes in pieces, which the receiver puts together first.
 */
import { EVENT_BYTES } from './events.ts';

export const OP_PACKET = 16;
export const OP_INTERFACE = 17;
export const OP_PASS = 18;
export const OP_PAD = 19;
export const OP_PIECE = 20;
export const INTERFACE_SHIFT = 8;

/** Units of a packet's header. */
export const PACKET_UNITS = 2;
/** Bytes of a packet that stand in the ring in one piece. */
export const PIECE_BYTES = 262144;

/** Units that a packet takes, its header included. */
export function packet_units(captured_bytes: number): number {
  return PACKET_UNITS + Math.ceil(captured_bytes / EVENT_BYTES);
}
/** Units that a piece takes, its header included. */
export function piece_units(bytes: number): number {
  return 1 + Math.ceil(bytes / EVENT_BYTES);
}
