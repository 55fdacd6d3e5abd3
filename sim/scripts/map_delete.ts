/* map_delete: parts of an address space go, with edges in the middle of entries. */
import { vm_map_remove } from '../../src/sys/map/vm_map_range.ts';
import { at, expect, map_script, put, shown, space, touch } from '../map_ops.ts';

const remove =
  (cpu: number, from: number, to: number): (() => void) =>
  () =>
    expect('remove', vm_map_remove(space(), at(cpu, from), at(cpu, to)));
export const script = map_script(
  'two take parts out of what is mapped, and map them again',
  (cpu) => {
    put(cpu, 0, 12);
    touch(cpu, 2);
    touch(cpu, 6);
    touch(cpu, 11);
  },
  (cpu) => [
    remove(cpu, 5, 8),
    () => {
      const got = `${shown(cpu, 4)}, ${shown(cpu, 6)}, ${shown(cpu, 8)}`;
      if (got !== '0-5 7, , 8-12 7') throw new Error(`cpu${cpu} sees ${got}`);
    },
    remove(cpu, 3, 10),
    () => put(cpu, 3, 3),
    remove(cpu, 0, 99),
  ],
);
