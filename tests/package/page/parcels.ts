/*
 * parcels: what the page and its worker both do with the one heap.
 *
 * A parcel is a block with the name of its sender and a running number in it.
 * Each side sends so many, through a queue, to the other, which looks at what is
 * in them and frees them: every block is freed by another thread than the one
 * that allocated it.
 */
import type { Address, Machine, MallocType, Queue } from 'kmem';

const BYTES = 48;
const IN_FLIGHT = 256;
export const PAGE = 1;
export const WORKER = 2;

export interface Parcels {
  readonly type: MallocType;
  readonly toWorker: Queue<Address>;
  readonly toPage: Queue<Address>;
}
/** The same names on both sides: whoever asks first makes them. */
export function parcels(machine: Machine): Parcels {
  const type = machine.type('parcel');
  return {
    type,
    toWorker: machine.queue('to worker', { of: type, capacity: IN_FLIGHT }),
    toPage: machine.queue('to page', { of: type, capacity: IN_FLIGHT }),
  };
}
/** Allocates and fills a parcel. */
export function pack(machine: Machine, type: MallocType, sender: number, i: number): Address {
  const at = type.alloc(BYTES);
  machine.store32(at, sender);
  machine.store32(at + 4, i);
  machine.bytes(at + 8, BYTES - 8).fill((sender * 31 + i) & 0xff);
  return at;
}
/** Frees a parcel; whether what was in it is what `sender` put into its `i`th. */
export function unpack(
  machine: Machine,
  type: MallocType,
  at: Address,
  sender: number,
  i: number,
): boolean {
  const fill = (sender * 31 + i) & 0xff;
  const right =
    machine.load32(at) === sender &&
    machine.load32(at + 4) === i &&
    machine.bytes(at + 8, BYTES - 8).every((byte) => byte === fill);
  type.free(at);
  return right;
}
