/*
 * parcels: what the page and its worker both have, under the same names.
 */
import type { Machine } from 'kmem/core';

export const PARCELS = 2000;
/** What the worker saw. */
export interface Answer {
  readonly received: number;
  readonly wrong: number;
}
export function parcels(machine: Machine) {
  const type = machine.type('parcel');
  return {
    type,
    queue: machine.queue('parcels', { of: type, capacity: 64 }),
    zone: machine.zone('seen', { size: 32, limit: 64 }),
    numbers: machine.records('numbers', { value: 'u32' }, { capacity: 64 }),
    mutex: machine.mutex('numbers'),
  };
}
