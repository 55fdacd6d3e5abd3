/*
 * map_ops: an address space that two CPUs change at once, each in a part of its own.
 *
 * What one does to its part is a turn of a script.  Both take the same lock, merge with the same
 * neighbours, and let go of objects; either may die in the middle.
 *
 * Afterwards the walkers prove ring, tree, holes and objects.  The part of a CPU that lived is
 * as its turn says; that of the one that died is as before or after some step.  When the map
 * ends there is no entry, no object, no page of one.
 */
import {
  KERN_SUCCESS,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../src/sys/h/vm_map.ts';
import { PK_OBJECT } from '../src/sys/h/vm_page.ts';
import { maps_all, vm_maps_check } from '../src/sys/map/vm_map_check.ts';
import { vmspace_alloc } from '../src/sys/map/vm_map_fork.ts';
import { vm_map_find } from '../src/sys/map/vm_map_insert.ts';
import {
  ANON,
  MAPS,
  map_anchors,
  map_at,
  map_drop,
  map_make,
  map_put,
  maps_make,
  memory_write,
} from '../src/sys/map/vm_map.test.lib.ts';
import { vm_map_lookup } from '../src/sys/map/vm_map_tree.ts';
import { objects_all } from '../src/sys/object/vm_object_check.ts';
import { vm_page_census } from '../src/sys/page/vm_page.ts';
import { uma_reclaim } from '../src/sys/uma/uma_drain.ts';
import { check_account } from './account.ts';
import type { SimScript } from './script.ts';

/** First page of a CPU's part, and pages of it. */
export const PART = 100;
export const at = (cpu: number, page = 0): number => (cpu + 1) * PART + page;
export const space = (): vm_map_t => map_at(0);

/**
 * A script whose CPUs do `turn` on a map; `first` is done for both before.  In a map that is not
 * `paged` nobody waits for answers, which may not come in time where the scheduler says so.
 */
export const map_script = (
  help: string,
  first: (cpu: number) => void,
  turn: (cpu: number) => (() => void)[],
  paged = true,
): SimScript => ({
  help,
  cpus: 2,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    maps_make();
    map_put(0, paged ? vmspace_alloc(0, 1000) : map_make(0, 1000));
    first(0);
    first(1);
  },
  ops: turn,
  check,
});
/** Maps n pages of zeros there. */
export function put(cpu: number, page: number, n: number, protection = 7): void {
  const where = { mode: 0, at: at(cpu, page) };
  expect('find', vm_map_find(space(), n, { ...ANON, protection }, where), at(cpu, page));
}
export function expect(what: string, got: number, wanted = KERN_SUCCESS): void {
  if (got !== wanted) throw new Error(`${what}: ${got}, not ${wanted}`);
}
/** Writes to a page of the part. */
export function touch(cpu: number, page: number): void {
  if (memory_write(space(), at(cpu, page), 1000 * cpu + page) !== 'yes') {
    throw new Error(`no memory at ${at(cpu, page)}`);
  }
}
/** The entry there, as `start-end protection`; '' for a hole. For one's own part. */
export function shown(cpu: number, page: number): string {
  const e: vm_map_entry_t = vm_map_lookup(space(), at(cpu, page));
  if (e === 0) return '';
  const f = vm_map_entry;
  return `${f.start[e] - at(cpu)}-${f.end[e] - at(cpu)} ${f.protection[e]}`;
}
function check(): string | undefined {
  vm_maps_check(map_anchors);
  for (let i = 0; i < MAPS; i++) if (map_at(i) !== 0) map_drop(i);
  if (maps_all().length > 0) return `${maps_all().length} maps are left`;
  if (objects_all().length > 0) return `${objects_all().length} objects are left`;
  vm_maps_check();
  uma_reclaim();
  const pages = vm_page_census()[PK_OBJECT];
  return pages === 0 ? check_account() : `${pages} pages of objects are left`;
}
