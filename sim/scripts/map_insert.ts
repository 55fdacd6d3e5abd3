/* map_insert: memory is asked for piece by piece, and found from both ends of a map. */
import { VMFS_ANY_SPACE, VMFS_TOPDOWN_SPACE } from '../../src/sys/h/vm_map.ts';
import { ANON } from '../../src/sys/map/vm_map.test.lib.ts';
import { vm_map_find, vm_map_fixed } from '../../src/sys/map/vm_map_insert.ts';
import { at, expect, map_script, put, shown, space, touch } from '../map_ops.ts';

export const script = map_script(
  'two map memory that continues what is there, in holes, and in place of what is there',
  (cpu) => put(cpu, 0, 4),
  (cpu) => [
    () => put(cpu, 4, 4),
    () => put(cpu, 8, 2, 1),
    () => touch(cpu, 5),
    () => expect('fixed', vm_map_fixed(space(), at(cpu, 6), at(cpu, 9), ANON)),
    () => {
      const mode = cpu === 0 ? VMFS_ANY_SPACE : VMFS_TOPDOWN_SPACE;
      const got = vm_map_find(space(), 3, ANON, { mode, at: cpu === 0 ? 400 : 900 });
      if (got < 0) throw new Error(`no place: ${got}`);
    },
    () => {
      const got = shown(cpu, 9);
      if (got !== '9-10 1') throw new Error(`cpu${cpu} sees ${got}`);
    },
  ],
);
