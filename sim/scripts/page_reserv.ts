/*
 * page_reserv: a run is set aside, used, broken and ended by two CPUs, one of which dies.
 *
 * Afterwards every page is free, set aside, or in the one book of pages that were taken.
 */
import { mem } from '../../src/sys/machine/memory.ts';
import { vm_page_free, vm_page_wire } from '../../src/sys/page/vm_page.ts';
import {
  vm_reserv_break,
  vm_reserv_check,
  vm_reserv_end,
  vm_reserv_make,
  vm_reserv_take,
} from '../../src/sys/page/vm_reserv.ts';
import { check_account } from '../account.ts';
import { type SimScript, scratch } from '../script.ts';

/** A word that stands for an object. */
const O = 4096;
const EACH = 8;
const book = (cpu: number, i: number): number => scratch<number>() + cpu * EACH + i;

const make = (): void => void vm_reserv_make(O, 0);
const take = (cpu: number, i: number) => (): void => {
  const m = vm_reserv_take(O, i, 0, 0);
  if (m === 0) return;
  mem.I32[book(cpu, i)] = m;
  vm_page_wire(m, 1);
};
const give = (cpu: number, i: number) => (): void => {
  const m = mem.I32[book(cpu, i)];
  mem.I32[book(cpu, i)] = 0;
  if (m !== 0) vm_page_free(m);
};

export const script: SimScript = {
  help: 'reservations: made, used, broken and ended by two CPUs; no page is lost or twice there',
  cpus: 2,
  memory: '6M',
  set: { 'vm.v_free_target': 10 },
  victim: 1,
  kill_seeds: 1,
  setup() {},
  ops: (cpu) =>
    cpu === 0
      ? [take(0, 0), take(0, 1), give(0, 0), take(0, 2), () => void vm_reserv_break(), make]
      : [make, take(1, 0), take(1, 1), give(1, 0), () => vm_reserv_end(O)],
  check() {
    for (const cpu of [0, 1]) for (let i = 0; i < 3; i++) give(cpu, i)();
    vm_reserv_check();
    vm_reserv_end(O);
    vm_reserv_check();
    return check_account();
  },
};
