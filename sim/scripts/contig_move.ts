/*
 * contig_move: a CPU makes runs of pages out of pages that the other one writes, reads and forks:
 * they move away, or go out to the swap area and come back.
 *
 * Whatever a page held it holds when it is used again, and every page is somebody's, whoever dies
 * where.
 */
import { poll } from '../../src/sys/machine/cpu.ts';
import { v_reaps } from '../../src/sys/machine/death.ts';
import { cpu_spinwait } from '../../src/sys/machine/atomic.ts';
import { counter_get } from '../../src/sys/machine/counter.ts';
import { VM_ALLOC_NORMAL } from '../../src/sys/h/vm_page.ts';
import { vm_page_alloc_contig, vm_page_release_contig } from '../../src/sys/map/vm_contig_alloc.ts';
import { contig_gather } from '../../src/sys/map/vm_contig_gather.ts';
import { vm_contig_old } from '../../src/sys/map/vm_contig_old.ts';
import { vm_map } from '../../src/sys/h/vm_map.ts';
import { map_at } from '../../src/sys/map/vm_map.test.lib.ts';
import { FIRST, space_first } from '../../src/sys/map/vm_space.test.lib.ts';
import { pageq_check } from '../../src/sys/page/vm_pageq.ts';
import { pmap_extract } from '../../src/sys/pmap/pmap.ts';
import { phys_root, vm_phys } from '../../src/sys/page/vm_phys.ts';
import type { SimScript } from '../script.ts';
import { COMMON, look, own, swap_script, write } from '../space_ops.ts';

/** A run of `n` pages where page `i` of the common space lies, and it is given back. */
const gather =
  (i: number, n: number, move: boolean): (() => void) =>
  () => {
    const m = pmap_extract(vm_map.pmap[map_at(COMMON)], FIRST + i);
    if (m === 0 || m + n > vm_phys.high[phys_root()]) return;
    const ways = { move, wait: true, req: VM_ALLOC_NORMAL };
    if (contig_gather(m, n, ways)) vm_page_release_contig(m, n);
  };
/** A run near page `i` of the common space: what lies there now has to go. */
const near =
  (i: number, n: number, alloc: typeof vm_page_alloc_contig): (() => void) =>
  () => {
    const at = pmap_extract(vm_map.pmap[map_at(COMMON)], FIRST + i);
    if (at === 0) return;
    const limits = { low: at - n, high: at + n, align: 1, boundary: 0 };
    const m = alloc(n, VM_ALLOC_NORMAL, limits, true);
    if (m !== 0) vm_page_release_contig(m, n);
  };
/** Answers what the other one asks, as an event loop would. */
const idle = (): void => {
  for (let k = 0; k < IDLE_POLLS; k++) {
    poll();
    cpu_spinwait();
  }
};
const IDLE_POLLS = 400;
/** The CPU that makes runs; the other one alone writes, to these pages. */
const MAKER = 1;
const WRITER = 0;
const WRITTEN = [0, 1];

const base = swap_script('pages move out of the way of a run, while they are used', (cpu) =>
  cpu === MAKER
    ? [
        gather(0, 2, true),
        gather(1, 1, false),
        near(1, 2, vm_page_alloc_contig),
        near(0, 1, vm_contig_old),
      ]
    : [write(COMMON, 0, WRITER), look(COMMON, 1), write(COMMON, 1, WRITER), look(COMMON, 0), idle],
);
export const script: SimScript = {
  ...base,
  check() {
    pageq_check();
    for (const i of WRITTEN) {
      const got = space_first(COMMON, i);
      if (counter_get(v_reaps) === 0 && got !== own(WRITER, i)) return `page ${i} holds ${got}`;
    }
    return base.check();
  },
};
