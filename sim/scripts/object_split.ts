/*
 * object_split: parts of one object are taken apart by two CPUs, each its own part, while a third
 * has the pages between them in work and makes the object longer.
 *
 * Each part has the pages that the object had there.  Whoever is killed in the middle loses its
 * part at most: the others' pages stay where they are seen.
 */
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../../src/sys/h/vm_object.ts';
import { PK_OBJECT, VM_ALLOC_ZERO } from '../../src/sys/h/vm_page.ts';
import { mem, page_word } from '../../src/sys/machine/memory.ts';
import { NULL, type Ptr, ptr, struct } from '../../src/sys/machine/struct.ts';
import {
  vm_object_allocate,
  vm_object_deallocate,
  vm_object_reference,
} from '../../src/sys/object/vm_object.ts';
import {
  vm_object_coalesce,
  vm_object_split,
  vm_object_split_end,
} from '../../src/sys/object/vm_object_chain.ts';
import { objects_all, vm_object_check } from '../../src/sys/object/vm_object_check.ts';
import {
  object_page,
  object_page_filled,
  object_page_grab,
  object_page_wakeup,
} from '../../src/sys/object/vm_object_page.ts';
import { vm_page_census } from '../../src/sys/page/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../../src/sys/sync/kern_mutex.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { check_account } from '../account.ts';
import { scratch, type SimScript } from '../script.ts';

type rec_t = Ptr<'sim_object_split'>;
const rec = struct<rec_t>('sim_object_split')({ object: ptr<vm_object_t>('-', 'the object') });
const the_object = (): vm_object_t => rec.object[scratch<rec_t>()];
const PAGES = 6;

/** What page `i` of an object holds; -1: it has none. */
function holds(o: vm_object_t, i: number): number {
  mtx_lock(vm_object.lock, o);
  const m = object_page(o, i);
  const value = m === 0 ? -1 : mem.I32[page_word(m)];
  mtx_unlock(vm_object.lock, o);
  return value;
}
/** Takes `n` pages from `first` on apart, looks at them, and ends them. */
const part = (first: number, n: number) => (): void => {
  const o = the_object();
  vm_object_reference(o);
  const half = vm_object_split(o, first, n);
  if (half === NULL) return vm_object_deallocate(o);
  vm_object_split_end(half);
  const whole = vm_object.backing[half] === NULL;
  for (let i = 0; whole && i < n; i++) {
    const got = holds(half, i);
    if (got !== 100 + first + i) throw new Error(`page ${i} of ${first} holds ${got}`);
    if (holds(o, first + i) !== -1) throw new Error(`page ${first + i} is in both`);
  }
  vm_object_deallocate(half);
};
/** Has page `i` busy for a moment, with nothing locked. */
const work = (i: number) => (): void => {
  const o = the_object();
  mtx_lock(vm_object.lock, o);
  const m = object_page_grab(o, i, VM_ALLOC_ZERO);
  mtx_unlock(vm_object.lock, o);
  if (m === 0) return;
  if (mem.I32[page_word(m)] !== 100 + i) throw new Error(`page ${i} is another one`);
  mtx_lock(vm_object.lock, o);
  object_page_wakeup(m, o);
  mtx_unlock(vm_object.lock, o);
};

export const script: SimScript = {
  help: 'an object is taken apart from both ends',
  cpus: 3,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    const o = vm_object_allocate(OBJT_DEFAULT, PAGES);
    rec.object[scratch<rec_t>()] = o;
    mtx_lock(vm_object.lock, o);
    for (let i = 0; i < PAGES; i++) {
      const m = object_page_grab(o, i, VM_ALLOC_ZERO, false);
      mem.I32[page_word(m)] = 100 + i;
      object_page_filled(m, o);
    }
    mtx_unlock(vm_object.lock, o);
  },
  ops: (cpu) =>
    [
      [work(2), work(3), (): void => void vm_object_coalesce(the_object(), PAGES, 2), work(2)],
      [part(0, 2)],
      [part(4, 2), work(3)],
    ][cpu],
  check() {
    vm_object_check(() => 0);
    const o = the_object();
    for (const i of [2, 3]) if (holds(o, i) !== 100 + i) return `page ${i} holds ${holds(o, i)}`;
    vm_object_deallocate(o);
    if (objects_all().length > 0) return `${objects_all().length} objects are left`;
    uma_reclaim();
    const pages = vm_page_census()[PK_OBJECT];
    return pages === 0 ? check_account() : `${pages} pages of objects are left`;
  },
};
