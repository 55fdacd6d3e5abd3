/*
 * space_ops: address spaces are read, written, unmapped, forked and dropped by two CPUs.
 *
 * Space 0 is common to both, the others are one CPU's own.  A page holds nothing, what it held at
 * first, or what a CPU wrote: whatever else is seen there is a fault, and so is a page whose first
 * and last word differ while nobody writes.
 *
 * Afterwards the walkers prove maps, objects and page tables, and when all spaces are dropped there
 * is no object, no page, no table, no item.
 */
import { counter_get } from '../src/sys/machine/counter.ts';
import { v_reaps } from '../src/sys/machine/death.ts';
import { EFAULT, ENOMEM } from '../src/sys/machine/errno.ts';
import { map_at, map_drop, maps_make } from '../src/sys/map/vm_map.test.lib.ts';
import { page_out, swap_up } from '../src/sys/map/vm_swap.test.lib.ts';
import {
  FIRST,
  SPACES,
  space_first,
  space_fork,
  space_make,
  space_map,
  space_unmap,
  space_write,
  queued_check,
  spaces_check,
  spaces_end,
} from '../src/sys/map/vm_space.test.lib.ts';
import { pageq_check } from '../src/sys/page/vm_pageq.ts';
import { check_account } from './account.ts';
import type { SimScript } from './script.ts';

/** What page i of the common space holds at first. */
const OLD = [11, 12, 0];
/** What a CPU writes to page i. */
export const own = (cpu: number, i: number): number => 100 * (cpu + 1) + i;
/** Of the common space; each CPU's own follow. */
export const COMMON = 0;
export const mine = (cpu: number, n = 0): number => 1 + cpu * 2 + n;

export const write =
  (s: number, i: number, cpu: number): (() => void) =>
  () => {
    if (map_at(s) === 0) return; // a fork was refused, for a CPU that does not answer
    const error = space_write(s, i, own(cpu, i));
    if (error !== 0 && error !== ENOMEM && error !== EFAULT) throw new Error(`errno ${error}`);
  };
export const look =
  (s: number, i: number): (() => void) =>
  () => {
    const wrong = seen(s, i);
    if (wrong !== undefined) throw new Error(wrong);
  };
/** Of a script that unmaps nothing: a page that held something never holds nothing. */
const kept = { pages: false };
/** What is wrong with page i of a space. */
function seen(s: number, i: number): string | undefined {
  if (map_at(s) === 0) return undefined;
  const got = space_first(s, i);
  const nothing = kept.pages && OLD[i] !== 0 ? [] : [-1, 0];
  const right = [...nothing, OLD[i], own(0, i), own(1, i)].includes(got);
  return right ? undefined : `space ${s}, page ${i} holds ${got}`;
}
export const fork =
  (from: number, to: number): (() => void) =>
  () => {
    if (map_at(from) !== 0) space_fork(from, to);
  };
export const drop =
  (s: number): (() => void) =>
  () => {
    if (map_at(s) !== 0) map_drop(s);
  };
/** Page i goes out to the swap area, and its memory is somebody else's. */
export const out =
  (s: number, i: number): (() => void) =>
  () => {
    if (map_at(s) !== 0) page_out(map_at(s), FIRST + i, { written: 0, failed: 0, freed: 0 });
  };
export const map =
  (s: number, i: number): (() => void) =>
  () =>
    void space_map(s, i, 1);
export const unmap =
  (s: number, i: number, n: number): (() => void) =>
  () =>
    void space_unmap(s, i, n);

/** A script whose CPUs do `turn`, with a swap area. */
export const swap_script = (help: string, turn: (cpu: number) => (() => void)[]): SimScript => {
  const script = space_script(help, turn);
  return {
    ...script,
    setup() {
      script.setup();
      swap_up(64);
      kept.pages = true;
    },
  };
};
/** CPU 0 alone writes in a written_script, to these pages of COMMON. */
export const WRITER = 0;
const WRITTEN = [0, 1];
/** The same, in which pages come and go: what was written is there at the end, if all lived. */
export const written_script = (help: string, turn: (cpu: number) => (() => void)[]): SimScript => {
  const script = swap_script(help, turn);
  return {
    ...script,
    check() {
      pageq_check();
      for (const i of WRITTEN) {
        const got = space_first(COMMON, i);
        if (counter_get(v_reaps) === 0 && got !== own(WRITER, i)) return `page ${i} holds ${got}`;
      }
      return script.check();
    },
  };
};
/** A script whose CPUs do `turn`. */
export const space_script = (help: string, turn: (cpu: number) => (() => void)[]): SimScript => ({
  help,
  cpus: 2,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    kept.pages = false;
    maps_make();
    if (!space_make(COMMON) || space_map(COMMON, 0, OLD.length) !== 0) throw new Error('no memory');
    for (const [i, value] of OLD.entries()) if (value !== 0) space_write(COMMON, i, value);
  },
  ops: turn,
  check() {
    spaces_check();
    queued_check();
    for (let s = 0; s < SPACES; s++) {
      for (let i = 0; i < OLD.length; i++) {
        const wrong = seen(s, i);
        if (wrong !== undefined) return wrong;
      }
    }
    spaces_end();
    return check_account();
  },
});
