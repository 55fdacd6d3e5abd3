/* map_fork: two copy an address space, write to their copies, and drop them. */
import { KERN_FAILURE, type vm_map_t } from '../../src/sys/h/vm_map.ts';
import { vmspace_fork } from '../../src/sys/map/vm_map_fork.ts';
import { vm_map_inherit } from '../../src/sys/map/vm_map_range.ts';
import {
  map_at,
  map_drop,
  map_put,
  memory_read,
  memory_write,
} from '../../src/sys/map/vm_map.test.lib.ts';
import { at, expect, map_script, put, space, touch } from '../map_ops.ts';

const fork = (cpu: number): void => {
  const got = vmspace_fork(space());
  // The other CPU did not answer in time: the scheduler may say so.
  if (got < 0) return expect('fork', -got, KERN_FAILURE);
  map_put(1 + cpu, got as vm_map_t);
};
/** Does something to a CPU's copy, if it has one. */
const copy = (cpu: number, run: (child: vm_map_t) => void): void => {
  const child = map_at(1 + cpu);
  if (child !== 0) run(child);
};
const look = (cpu: number, where: vm_map_t, page: number, wanted: number): void => {
  const got = memory_read(where, at(cpu, page));
  if (got !== wanted) throw new Error(`cpu${cpu} sees ${got} at ${page}, not ${wanted}`);
};
export const script = map_script(
  'copies of an address space are made, written to and dropped while the other one works',
  (cpu) => {
    put(cpu, 0, 2);
    put(cpu, 2, 2, 3);
    touch(cpu, 1);
    expect('inherit', vm_map_inherit(space(), at(cpu, 2), at(cpu, 4), 0));
  },
  (cpu) => [
    () => fork(cpu),
    () => copy(cpu, (child) => void memory_write(child, at(cpu, 1), 5)),
    () => look(cpu, space(), 1, 1000 * cpu + 1),
    () =>
      copy(cpu, (child) => {
        memory_write(child, at(cpu, 2), 7);
        look(cpu, space(), 2, 7);
      }),
    () => copy(cpu, () => map_drop(1 + cpu)),
    () => touch(cpu, 0),
    () => look(cpu, space(), 0, 1000 * cpu),
  ],
);
