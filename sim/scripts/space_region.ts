/*
 * space_region: two CPUs ask for a space and for parts of it by name, keep it, destroy it and
 * leave; one is killed at every point, and no space, part or page is lost.
 */
import { elem, NULL, type Ptr, struct, words } from '../../src/sys/machine/struct.ts';
import { vm_map, type vm_map_t, VM_MAP_MAX } from '../../src/sys/h/vm_map.ts';
import { reg_space } from '../../src/sys/h/registry.ts';
import { part_space } from '../../src/sys/client/kern_registry_parts.ts';
import {
  registry_add,
  registry_check,
  registry_end,
  registry_find,
  registry_key,
  registry_lock,
  registry_ready,
  registry_unlock,
} from '../../src/sys/client/kern_registry.ts';
import { PAGE_SIZE } from '../../src/sys/machine/memory.ts';
import { suword } from '../../src/sys/map/vm_copy.ts';
import { vm_map_reference } from '../../src/sys/map/vm_map.ts';
import { maps_all, vm_maps_check } from '../../src/sys/map/vm_map_check.ts';
import { vmspace_alloc } from '../../src/sys/map/vm_map_fork.ts';
import {
  vm_map_destroy,
  vm_map_keep,
  vm_map_keep_leave,
  vm_map_unkeep,
} from '../../src/sys/map/vm_map_keep.ts';
import { vm_region_find, vm_region_map, vm_region_unmap } from '../../src/sys/map/vm_region.ts';
import { ANON } from '../../src/sys/map/vm_map.test.lib.ts';
import { spaces_check } from '../../src/sys/map/vm_space.test.lib.ts';
import { check_account } from '../account.ts';
import { type SimScript, scratch } from '../script.ts';

const KEY = (): ReturnType<typeof registry_key> => registry_key('space', 'common');
type rec_t = Ptr<'sim_region'>;
/* Locks: (c) a word for each CPU */
const rec = struct<rec_t>('sim_region')({
  got: words('c', 'what each CPU got last', 2),
});
const mine = (cpu: number): vm_map_t => rec.got[elem(scratch<rec_t>(), cpu)] as vm_map_t;
const got = (cpu: number, mp: vm_map_t): void => {
  rec.got[elem(scratch<rec_t>(), cpu)] = mp;
};

/** The space by its name, made if there is none or if it is gone; this CPU keeps it. */
function obtain(cpu: number): void {
  registry_lock();
  let e = registry_find(KEY());
  if (e !== NULL && vm_map.gone[reg_space.map[e]] !== 0) {
    registry_end(e);
    e = registry_find(KEY());
  }
  if (e === NULL) {
    e = registry_add(KEY(), '');
    const mp = e === NULL ? (NULL as vm_map_t) : vmspace_alloc(1, VM_MAP_MAX);
    if (mp !== NULL) {
      part_space(e, mp);
      registry_ready(e);
    } else if (e !== NULL) registry_end(e);
  }
  const found = registry_find(KEY());
  const mp = found === NULL ? (NULL as vm_map_t) : reg_space.map[found];
  if (mp !== NULL) {
    vm_map_reference(mp);
    vm_map_keep(mp);
  }
  got(cpu, mp);
  registry_unlock();
}
/** The space that has the name. */
function named(): vm_map_t {
  registry_lock();
  const e = registry_find(KEY());
  const mp = e === NULL ? (NULL as vm_map_t) : reg_space.map[e];
  registry_unlock();
  return mp;
}
const part =
  (cpu: number, name: number, pages: number): (() => void) =>
  () => {
    const mp = mine(cpu);
    if (mp === NULL || vm_map.gone[mp] !== 0) return;
    const want = { name: Uint8Array.of(name), pages, vpn: -1, what: ANON };
    const made = vm_region_map(mp, want);
    if (typeof made !== 'number') suword(mp, made.start * PAGE_SIZE, 7);
  };
const unmap =
  (cpu: number): (() => void) =>
  () => {
    const there = mine(cpu) === NULL ? null : vm_region_find(mine(cpu), 1);
    if (there !== null) vm_region_unmap(mine(cpu), 1, there.id);
  };
/** Takes the name away, and what is mapped. */
const destroy =
  (cpu: number): (() => void) =>
  () => {
    const mp = mine(cpu);
    if (mp === NULL) return;
    vm_map_destroy(mp);
    registry_lock();
    const e = registry_find(KEY());
    if (e !== NULL && reg_space.map[e] === mp) registry_end(e);
    registry_unlock();
    vm_map_unkeep(mp);
    got(cpu, NULL as vm_map_t);
  };

export const script: SimScript = {
  help: 'spaces by name, their named parts, and who keeps them',
  cpus: 2,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    obtain(0);
    part(0, 65, 2)();
  },
  ops: (cpu) =>
    cpu === 0
      ? [
          () => obtain(0),
          destroy(0),
          () => obtain(0),
          part(0, 66, 2),
          unmap(0),
          part(0, 65, 1),
          () => vm_map_keep_leave(),
        ]
      : [
          () => obtain(1),
          part(1, 66, 1),
          part(1, 67, 2),
          unmap(1),
          destroy(1),
          () => obtain(1),
          part(1, 65, 1),
          () => vm_map_keep_leave(),
        ],
  check() {
    registry_check();
    vm_maps_check((mp) => (named() === mp ? 1 : 0));
    registry_lock();
    const e = registry_find(KEY());
    if (e !== NULL) registry_end(e);
    registry_unlock();
    spaces_check();
    if (maps_all().length > 0) return 'spaces are left that nobody leads to';
    return check_account();
  },
};
