/*
 * page_busy: pages with an owner to be, made, entered, worked on, taken out, with a death.
 *
 * Each CPU makes pages for places of one table, two at a time as a fault has them that
 * needs a page for its page table as well, enters them or drops them, keeps pages busy
 * where they are, takes out what others entered, and reclaims in between.  Afterwards
 * every page of kind OBJECT is in the table and none is busy.
 */
import { PK_HAND, PK_OBJECT } from '../../src/sys/h/vm_page.ts';
import {
  owner,
  owner_make,
  owner_wrong,
  page_drop,
  page_enter,
  page_for,
  page_leave,
  page_work,
  the_owner,
} from '../../src/sys/page/page_owner.test.lib.ts';
import { pmap_zero_page, vm_page_census } from '../../src/sys/page/vm_page.ts';
import { vm_page_busy_count } from '../../src/sys/page/vm_page_busy.ts';
import { phys_root, vm_phys } from '../../src/sys/page/vm_phys.ts';
import { tsleep } from '../../src/sys/sync/subr_sleepqueue.ts';
import { uma_check } from '../../src/sys/uma/uma_check.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { type SimScript, scratch } from '../script.ts';

const enter = (i: number): void => {
  const a = page_for(i, false);
  const b = page_for(i + 1, true);
  if (b !== 0 && !page_enter(b)) page_drop(b);
  if (a !== 0 && !page_enter(a)) page_drop(a);
};
const leave = (i: number): void => {
  const [a, b] = [page_leave(i), page_leave(i + 3)];
  if (a !== 0) page_drop(a);
  if (b === 0) return;
  pmap_zero_page(b);
  page_drop(b, true);
};
const making = (from: number) => (): void => {
  for (let i = from; i < from + 8; i += 2) enter(i);
};
const working = (from: number) => (): void => {
  for (let i = from; i < from + 6; i++) page_work(i, pmap_zero_page);
};
const ending = (from: number) => (): void => {
  for (let i = from; i < from + 3; i++) leave(i);
};
const nap = (): void => void tsleep(scratch(), 'a nap', 0.5, () => true);
const reclaim = (): void => void uma_reclaim();
const PLAN = [
  [making(0), working(2), ending(1), reclaim, making(1)],
  [making(4), ending(0), working(3), making(2), ending(5)],
  [nap, making(6), ending(2), reclaim, working(0)],
];

export const script: SimScript = {
  help: 'busy pages: a CPU dies anywhere between the queues and a table that leads to the page',
  cpus: PLAN.length,
  memory: '12M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    if (vm_phys.cache_max[phys_root()] === 0) throw new Error('this machine has no page caches');
    owner_make();
  },
  ops: (cpu) => PLAN[cpu],
  check() {
    uma_check();
    const wrong = owner_wrong();
    if (wrong !== '') return wrong;
    const census = vm_page_census();
    const entered = owner.count[the_owner()];
    if (census[PK_OBJECT] !== entered) return `${census[PK_OBJECT]} pages, ${entered} entered`;
    if (census[PK_HAND] !== 0) return `${census[PK_HAND]} pages in nobody's hand`;
    const busy = vm_page_busy_count();
    return busy === 0 ? undefined : `${busy} pages are busy`;
  },
};
