/*
 * space_load: two CPUs load regions into one space, all at once, and read copies of it as if to
 * save them.  Nobody sees some of the regions, also if the CPU that loads them is killed at any
 * point; a copy has all of them, with the contents that one CPU gave them; and no space, region or
 * page is lost.
 */
import { elem, NULL, type Ptr, struct, words } from '../../src/sys/machine/struct.ts';
import { PAGE_SIZE } from '../../src/sys/machine/memory.ts';
import { VM_MAP_MAX, type vm_map_t } from '../../src/sys/h/vm_map.ts';
import { VM_PROT_ALL } from '../../src/sys/h/vm_prot.ts';
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
import { part_space } from '../../src/sys/client/kern_registry_parts.ts';
import { space_fork } from '../../src/sys/client/kern_space.ts';
import {
  type SnapPlace,
  snap_map,
  snap_map_drop,
  snap_next,
  snap_read,
  snap_region_map,
  snap_regions,
  snap_show,
  snap_write,
} from '../../src/sys/client/kern_snap.ts';
import { maps_all, vm_maps_check } from '../../src/sys/map/vm_map_check.ts';
import { vmspace_alloc, vmspace_exec } from '../../src/sys/map/vm_map_fork.ts';
import { vm_regions } from '../../src/sys/map/vm_region.ts';
import { spaces_check } from '../../src/sys/map/vm_space.test.lib.ts';
import { check_account } from '../account.ts';
import { type SimScript, scratch } from '../script.ts';

const KEY = (): ReturnType<typeof registry_key> => registry_key('space', 'common');
type rec_t = Ptr<'sim_load'>;
/* Locks: (c) constant */
const rec = struct<rec_t>('sim_load')({
  common: words('c', 'the space', 1),
});
const common = (): vm_map_t => rec.common[scratch<rec_t>()] as vm_map_t;
/** Where the regions lie, of which each CPU gives all a page of its own number. */
const PLACES = [3, 6, 9];

const load =
  (cpu: number): (() => void) =>
  () => {
    const to = snap_map(common());
    if (to === NULL) return;
    const places: SnapPlace[] = [];
    for (const vpn of PLACES) {
      const name = Uint8Array.of(65 + vpn);
      const region = { name, vpn, pages: 2, prot: 3, inheritance: 1, advice: vpn === 6 ? 1 : 0 };
      const start = snap_region_map(to, region);
      const page = new Uint8Array(PAGE_SIZE).fill(cpu + 1);
      if (start >= 0 && snap_write(to, start, page, 0) === 0) places.push({ ...region, start });
    }
    if (places.length === PLACES.length) snap_show(common(), to, places);
    snap_map_drop(to);
  };
/** All regions, or none. */
const look = (): void => {
  const n = vm_regions(common()).length;
  if (n !== 0 && n !== PLACES.length) throw new Error(`${n} regions are seen`);
};
/** Reads a copy, as if it were to be saved. */
const read = (): void => {
  const made = space_fork(common(), VM_PROT_ALL, false);
  if (made < 0) return;
  const wrong = contents(made as vm_map_t);
  snap_map_drop(made as vm_map_t);
  if (wrong !== undefined) throw new Error(wrong);
};
/** What is wrong with a copy. */
function contents(copy: vm_map_t): string | undefined {
  const regions = snap_regions(copy);
  if (regions.length !== 0 && regions.length !== PLACES.length) return `${regions.length} regions`;
  const seen = new Set<number>();
  for (const { start, pages } of regions) {
    const at = snap_next(copy, start, start + pages);
    const page = new Uint8Array(PAGE_SIZE);
    if (at !== start) return `page ${start} has no contents`;
    if (snap_read(copy, at, page, 0) !== 0) return 'a page cannot be read';
    if (page.some((b) => b !== page[0])) return 'half a page';
    if (snap_next(copy, at + 1, start + pages) !== start + pages) return 'a page more';
    seen.add(page[0]);
  }
  return seen.size > 1 ? 'regions of two CPUs' : undefined;
}
const clear = (): void => {
  vmspace_exec(common());
};

export const script: SimScript = {
  help: 'regions that are loaded all at once, and copies that are read to be saved',
  cpus: 2,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    registry_lock();
    const e = registry_add(KEY(), '');
    const mp = vmspace_alloc(1, VM_MAP_MAX);
    part_space(e, mp);
    registry_ready(e);
    registry_unlock();
    rec.common[elem(scratch<rec_t>(), 0)] = mp;
  },
  ops: (cpu) =>
    cpu === 0
      ? [look, load(0), read, look, clear, look, load(0), read]
      : [load(1), look, read, load(1), look],
  check() {
    registry_check();
    vm_maps_check((mp) => (common() === mp ? 1 : 0));
    look();
    const wrong = contents(common());
    if (wrong !== undefined) return wrong;
    registry_lock();
    registry_end(registry_find(KEY()));
    registry_unlock();
    spaces_check();
    if (maps_all().length > 0) return 'spaces are left that nobody leads to';
    return check_account();
  },
};
