/*
 * things: one of each kind that a thread can wait for, under the same names on
 * both sides.
 */
import type { Machine } from 'kmem';

export function things(machine: Machine) {
  return {
    mutex: machine.mutex('taken'),
    mine: machine.mutex('mine'),
    rwlock: machine.rwlock('taken'),
    condition: machine.condition('given'),
    empty: machine.queue('empty', { capacity: 1 }),
    full: machine.queue('full', { capacity: 1 }),
    zone: machine.zone('few', { size: 256, limit: 16 }),
    records: machine.records('few', { value: 'i32' }, { capacity: 64 }),
    type: machine.type('large'),
    /** A block of this size is to be had only when nobody else has memory. */
    large: 2 ** 20,
  };
}
const LOOK_MS = 5;
/** Waits in the event loop until something holds. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
}
