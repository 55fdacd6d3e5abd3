/*
 * vm_shared: what the players of a recording of system calls know of each other's work.
 *
 *      slot          0         1         2        …
 *      turns      [ 17 ]    [ 3 ]     [ 0 ]             operations that are over (turns.ts)
 *      map        [ 0x… ]   [ 0x… ]   [ 0 ]             the kernel's record of the space
 *      resident   [ 412 ]   [ 96 ]    [ 0 ]             pages that it maps, when last looked at
 *      place      [ 0x… ]   [ 0x… ]   [ 0 ]             where it stores next (vm_touch.ts)
 *
 * Whoever has the turn of a slot may read and write its columns, and nobody else: the turn
 * orders them.  The pages of all spaces, and the most there were at a time, are summed up
 * on the side (peak_sum.ts).
 */
import { NULL } from '../../sys/machine/struct.ts';
import { pmap } from '../../sys/h/pmap.ts';
import { vm_map, type vm_map_t } from '../../sys/h/vm_map.ts';
import { PEAK_SUM_BYTES, PeakSum } from '../ring/peak_sum.ts';
import { TURN_IDS, Turns, turns_buffer, turns_table } from '../ring/turns.ts';

/** Plain cloneable data: what a player's worker makes its VmShared of. */
export interface VmSharedHandle {
  readonly turns: SharedArrayBuffer;
  readonly places: SharedArrayBuffer;
}
/** Memory for it; pages of it are taken when they are touched. */
export function vm_shared_buffers(): VmSharedHandle {
  return {
    turns: turns_buffer(),
    places: new SharedArrayBuffer(TURN_IDS * 8 + PEAK_SUM_BYTES),
  };
}

export class VmShared {
  readonly turns: Turns;
  /** Where a space stores next, in bytes of its map; 0: nowhere yet. */
  readonly place: Float64Array;
  readonly #maps: Int32Array;
  readonly #resident: Int32Array;
  readonly #sum: PeakSum;

  constructor({ turns, places }: VmSharedHandle) {
    this.turns = new Turns(turns);
    this.#maps = new Int32Array(turns, turns_table(1), TURN_IDS);
    this.#resident = new Int32Array(turns, turns_table(2), TURN_IDS);
    this.place = new Float64Array(places, 0, TURN_IDS);
    this.#sum = new PeakSum(places, TURN_IDS * 8);
  }

  /** The space of a slot; NULL: there was no memory for it. */
  map(slot: number): vm_map_t {
    return this.#maps[slot] as vm_map_t;
  }
  set_map(slot: number, mp: vm_map_t): void {
    this.#maps[slot] = mp;
    this.place[slot] = 0;
  }
  /** Pages that the space of a slot maps now; sums them up with those of all others. */
  look(slot: number): number {
    const mp = this.map(slot);
    const pages = mp === NULL ? 0 : pmap.resident[vm_map.pmap[mp]];
    const more = pages - this.#resident[slot];
    if (more === 0) return pages;
    this.#resident[slot] = pages;
    this.#sum.add(more);
    return pages;
  }
  /** The most pages that all spaces together mapped at a time. */
  most_pages(): number {
    return this.#sum.most();
  }
}
