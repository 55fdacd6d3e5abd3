/*
 * vm_player: the part of one thread in the replay of operations on address spaces.
 *
 * It follows the ring and looks at every operation.  Kernel and player are not connected
 * yet: no operation is run, and each counts as not played, under the name of the call that
 * it was.
 */
import { away } from '../../sys/boot/whole.ts';
import { RingReader, type RingHandle } from '../ring/ring.ts';
import { V_CALL, VM_CALLS, VM_COLUMNS, vm_batches } from '../ring/vm_events.ts';

export interface VmTask {
  readonly ring: RingHandle;
  readonly index: number;
  /** What makes it a task for this player. */
  readonly spaces: true;
}
export interface VmTotals {
  operations: number;
  /** Calls that became operations and were not run, by name. */
  not_played: Record<string, number>;
  play_seconds: number;
}

/** Plays this thread's part to the end of the recording. */
export function play_spaces(task: VmTask): VmTotals {
  const calls = new Float64Array(VM_CALLS.length);
  const totals: VmTotals = { operations: 0, not_played: {}, play_seconds: 0 };
  for (const { rows, count } of vm_batches(new RingReader(task.ring, task.index), away)) {
    const began = performance.now();
    for (let i = 0; i < count; i++) calls[rows[i * VM_COLUMNS + V_CALL]]++;
    totals.operations += count;
    totals.play_seconds += (performance.now() - began) / 1000;
  }
  for (const [call, name] of VM_CALLS.entries()) {
    if (name !== '' && calls[call] > 0) totals.not_played[name] = calls[call];
  }
  return totals;
}
