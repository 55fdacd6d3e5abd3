/* map_wait: one works on an entry with the map let go, the other one takes it out. */
import { MAP_ENTRY_IN_TRANSITION, vm_map_entry } from '../../src/sys/h/vm_map.ts';
import {
  vm_map_lock,
  vm_map_transition_begin,
  vm_map_transition_end,
  vm_map_unlock,
  vm_map_wakeup,
} from '../../src/sys/map/vm_map.ts';
import { vm_map_remove } from '../../src/sys/map/vm_map_range.ts';
import { vm_map_lookup } from '../../src/sys/map/vm_map_tree.ts';
import { at, expect, map_script, put, space, touch } from '../map_ops.ts';

/** Begins to work on the entry of CPU 1's part, if it is there. */
function begin(): void {
  vm_map_lock(space());
  const e = vm_map_lookup(space(), at(1));
  if (e !== 0) vm_map_transition_begin(space(), e);
  vm_map_unlock(space());
}
function end(): void {
  vm_map_lock(space());
  const e = vm_map_lookup(space(), at(1));
  const mine = e !== 0 && vm_map_entry.eflags[e] & MAP_ENTRY_IN_TRANSITION;
  const wanted = mine && vm_map_transition_end(space(), e);
  vm_map_unlock(space());
  if (wanted) vm_map_wakeup(space());
}
const whole = (): void => {
  begin();
  end();
};
export const script = map_script(
  'an entry in transition is waited for; whoever dies with one leaves nobody asleep',
  (cpu) => {
    put(cpu, 0, 4);
    touch(cpu, 1);
  },
  (cpu) =>
    cpu === 1
      ? [whole, whole]
      : [
          () => expect('remove', vm_map_remove(space(), at(1, 1), at(1, 2))),
          () => expect('remove', vm_map_remove(space(), at(1), at(1, 9))),
        ],
);
