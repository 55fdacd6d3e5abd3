/*
 * kern_ops: kernel addresses that two CPUs ask for and give back at once; either may die.
 *
 * Afterwards no entry is in transition: what a dead CPU was filling or emptying is free, what it
 * had been given stays, as its program's.  The walkers prove maps, objects and pages; when all
 * that is left has gone back, there is no page of the kernel's objects.
 */
import { vm_map } from '../src/sys/h/vm_map.ts';
import { PK_OBJECT } from '../src/sys/h/vm_page.ts';
import { kernel_map } from '../src/sys/map/vm_kern.ts';
import { kern_free_all } from '../src/sys/map/vm_kern.test.lib.ts';
import { vm_maps_check } from '../src/sys/map/vm_map_check.ts';
import { vm_page_census } from '../src/sys/page/vm_page.ts';
import { uma_reclaim } from '../src/sys/uma/uma_drain.ts';
import { check_account } from './account.ts';
import type { SimScript } from './script.ts';

/** Where a CPU's block of each turn is: its own variable, as in a program. */
export const held: number[] = [0, 0];

/**
 * A script whose CPUs do `turn`, with a kernel_map that `first` has made ready.  So many addresses
 * may be left, of submaps.
 */
export const kern_script = (
  help: string,
  first: () => void,
  turn: (cpu: number) => (() => void)[],
  stay = 16,
): SimScript => ({
  help,
  cpus: 2,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    if (kernel_map() === 0) throw new Error('no memory for kernel_map');
    first();
  },
  ops: turn,
  check: () => check(stay),
});
function check(stay: number): string | undefined {
  vm_maps_check();
  kern_free_all();
  if (vm_map.size[kernel_map()] > stay) return `${vm_map.size[kernel_map()]} addresses are left`;
  vm_maps_check();
  uma_reclaim();
  const pages = vm_page_census()[PK_OBJECT];
  return pages === 0 ? check_account() : `${pages} pages of objects are left`;
}
