/*
 * wire_ops: pages of address spaces that two CPUs use are wired and unwired (space_ops.ts).
 *
 * A CPU locks pages as a program does, which stays, or wires them for itself for a while.  What the
 * other one does with them meanwhile must not lose a wiring, nor a page that is wired: the walkers
 * prove that each page is wired once for each entry that says so.
 */
import { thr } from '../src/sys/machine/cpu.ts';
import { NULL } from '../src/sys/machine/struct.ts';
import { vm_hold } from '../src/sys/h/vm_hold.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  VM_MAP_WIRE_HOLESOK,
  VM_MAP_WIRE_NOHOLES,
  VM_MAP_WIRE_USER,
  vm_map,
} from '../src/sys/h/vm_map.ts';
import { vm_hold_unwire, vm_hold_wire } from '../src/sys/map/vm_hold.ts';
import { map_at } from '../src/sys/map/vm_map.test.lib.ts';
import { vm_map_unwire, vm_map_wire } from '../src/sys/map/vm_map_wire.ts';
import { FIRST } from '../src/sys/map/vm_space.test.lib.ts';
import { COMMON } from './space_ops.ts';

const ANSWERS = [KERN_SUCCESS, KERN_INVALID_ADDRESS, KERN_RESOURCE_SHORTAGE];
function answered(what: string, got: number): void {
  if (!ANSWERS.includes(got)) throw new Error(`${what} says ${got}`);
}
/** A program locks n pages from the i-th on; with `holes` those that are mapped. */
export const lock =
  (s: number, i: number, n: number, holes = false): (() => void) =>
  () => {
    if (map_at(s) === 0) return;
    const how = VM_MAP_WIRE_USER | (holes ? VM_MAP_WIRE_HOLESOK : VM_MAP_WIRE_NOHOLES);
    answered('lock', vm_map_wire(map_at(s), FIRST + i, FIRST + i + n, how));
  };
export const unlock =
  (s: number, i: number, n: number): (() => void) =>
  () => {
    if (map_at(s) === 0) return;
    const how = VM_MAP_WIRE_USER | VM_MAP_WIRE_HOLESOK;
    answered('unlock', vm_map_unwire(map_at(s), FIRST + i, FIRST + i + n, how));
  };
/** This CPU wires n pages of the common space for itself. */
export const hold =
  (i: number, n: number): (() => void) =>
  () =>
    answered('hold', vm_hold_wire(map_at(COMMON), FIRST + i, FIRST + i + n));
/** And ends that, where it has any. */
export const release = (): void => {
  const mp = map_at(COMMON);
  let h = vm_map.holds[mp];
  while (h !== NULL && vm_hold.tid[h] !== thr.tid) h = vm_hold.next[h];
  if (h !== NULL) answered('release', vm_hold_unwire(mp, vm_hold.start[h], vm_hold.end[h]));
};
