/*
 * object_ops: spaces that share chains of memory objects are forked, written to and dropped.
 *
 * Two CPUs or three have spaces of their own over common ancestors: a write makes a shadow
 * and copies a page, a drop ends an object or makes two of a chain one.  Each has values that
 * only its own writes explain, and looks.
 *
 * Afterwards the walkers prove objects, indexes and queues, every space of a CPU that lived
 * has what it wrote, and when all are dropped there is no object, no page of one, no node.
 */
import {
  SPACES,
  space_drop,
  space_fork,
  space_make,
  space_object,
  space_read,
  space_write,
  spaces_check,
  spaces_make,
} from '../src/sys/object/object_spaces.test.lib.ts';
import { objects_all } from '../src/sys/object/vm_object_check.ts';
import { PK_OBJECT } from '../src/sys/h/vm_page.ts';
import { vm_page_census } from '../src/sys/page/vm_page.ts';
import { uma_reclaim } from '../src/sys/uma/uma_drain.ts';
import { check_account } from './account.ts';
import type { SimScript } from './script.ts';

/** What page i holds before anybody forks. */
const OLD = [11, 0, 13];
const own = (cpu: number, i: number): number => 100 * (cpu + 1) + i;

/** A script whose CPUs do `turn` on two spaces of their own, of which the first is there. */
export const object_script = (
  help: string,
  turn: (cpu: number, first: number, second: number) => (() => void)[],
  cpus = 2,
): SimScript => ({
  help,
  cpus,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    spaces_make();
    if (!space_make(0)) throw new Error('no memory for the first space');
    for (const [i, value] of OLD.entries()) if (value !== 0) space_write(0, i, value);
    for (let cpu = 0; cpu < cpus; cpu++) space_fork(0, 1 + 2 * cpu);
    space_drop(0);
  },
  ops: (cpu) => turn(cpu, 1 + 2 * cpu, 2 + 2 * cpu),
  check,
});
export const write =
  (s: number, i: number, cpu: number): (() => void) =>
  () =>
    void space_write(s, i, own(cpu, i));
export const look =
  (s: number, i: number, cpu: number, mine: boolean): (() => void) =>
  () => {
    const got = space_read(s, i);
    const want = mine ? own(cpu, i) : OLD[i];
    if (got !== want) throw new Error(`space ${s} page ${i} holds ${got}, not ${want}`);
  };
function check(): string | undefined {
  spaces_check();
  for (let s = 0; s < SPACES; s++) {
    if (space_object(s) === 0) continue;
    for (const [i, old] of OLD.entries()) {
      const got = space_read(s, i);
      const writer = Math.floor((s - 1) / 2);
      if (got !== old && got !== own(writer, i)) return `space ${s} page ${i} holds ${got}`;
    }
    space_drop(s);
  }
  if (objects_all().length > 0) return `${objects_all().length} objects are left`;
  spaces_check();
  uma_reclaim();
  const pages = vm_page_census()[PK_OBJECT];
  return pages === 0 ? check_account() : `${pages} pages of objects are left`;
}
