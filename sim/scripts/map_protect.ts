/* map_protect: entries are cut, protected, and merged again. */
import { vm_map_inherit, vm_map_protect } from '../../src/sys/map/vm_map_range.ts';
import { at, expect, map_script, put, shown, space, touch } from '../map_ops.ts';

const protect =
  (cpu: number, from: number, to: number, prot: number): (() => void) =>
  () =>
    expect('protect', vm_map_protect(space(), at(cpu, from), at(cpu, to), prot));
export const script = map_script(
  'two protect parts of what is mapped, so that entries are cut, and merged again',
  (cpu) => {
    put(cpu, 0, 12);
    touch(cpu, 6);
  },
  (cpu) => [
    protect(cpu, 4, 8, 1),
    () => expect('inherit', vm_map_inherit(space(), at(cpu, 6), at(cpu, 10), 2)),
    protect(cpu, 2, 6, 3),
    protect(cpu, 0, 12, 7),
    () => expect('inherit', vm_map_inherit(space(), at(cpu, 0), at(cpu, 12), 1)),
    () => {
      const got = shown(cpu, 5);
      if (got !== '0-12 7') throw new Error(`cpu${cpu} sees ${got}`);
    },
  ],
  false,
);
