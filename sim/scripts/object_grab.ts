/*
 * object_grab: three CPUs grab the same two pages of an object, keep them busy with nothing
 * locked, and wake or free them.
 *
 * Whoever has a page busy has it alone: it writes its number to it, and finds it there before it
 * lets go.  A CPU that slept for a page must make it busy itself when it is idle, and must not
 * take the page that it saw before it slept for the one that is there now.  A third page is wired
 * and unwired: what a dead CPU wired stays so until the object ends.
 */
import { OBJT_DEFAULT, vm_object, type vm_object_t } from '../../src/sys/h/vm_object.ts';
import { PK_OBJECT, VM_ALLOC_WIRED, VM_ALLOC_ZERO, vm_page } from '../../src/sys/h/vm_page.ts';
import { atomic_load } from '../../src/sys/machine/atomic.ts';
import { thr } from '../../src/sys/machine/cpu.ts';
import { mem, page_word } from '../../src/sys/machine/memory.ts';
import { type Ptr, ptr, struct } from '../../src/sys/machine/struct.ts';
import { vm_object_allocate, vm_object_deallocate } from '../../src/sys/object/vm_object.ts';
import { objects_all, vm_object_check } from '../../src/sys/object/vm_object_check.ts';
import {
  object_page,
  object_page_free,
  object_page_grab,
  object_page_wakeup,
} from '../../src/sys/object/vm_object_page.ts';
import { vm_page_census } from '../../src/sys/page/vm_page.ts';
import { vm_page_busy_count } from '../../src/sys/page/vm_page_busy.ts';
import { vm_page_owner_unwire } from '../../src/sys/page/vm_pageq.ts';
import { mtx_lock, mtx_unlock } from '../../src/sys/sync/kern_mutex.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { check_account } from '../account.ts';
import { scratch, type SimScript } from '../script.ts';

type rec_t = Ptr<'sim_object_grab'>;
const rec = struct<rec_t>('sim_object_grab')({ object: ptr<vm_object_t>('-', 'the object') });
const the_object = (): vm_object_t => rec.object[scratch<rec_t>()];

/** Grabs page `i`, has it for itself a while, and wakes or frees it. */
const turn = (i: number, frees: boolean) => (): void => {
  const o = the_object();
  mtx_lock(vm_object.lock, o);
  const m = object_page_grab(o, i, VM_ALLOC_ZERO);
  if (m === 0) return mtx_unlock(vm_object.lock, o);
  if (vm_page.busy[m] !== thr.tid) throw new Error(`page ${m} is grabbed and not busy`);
  if (object_page(o, i) !== m) throw new Error(`page ${m} is grabbed and not page ${i}`);
  mtx_unlock(vm_object.lock, o);
  const w = page_word(m) + 7;
  mem.I32[w] = thr.tid;
  for (let n = 0; n < 3; n++) {
    if (atomic_load(w) !== thr.tid) throw new Error(`page ${m} is another CPU's too`);
  }
  mtx_lock(vm_object.lock, o);
  object_page_wakeup(m, o);
  if (frees) object_page_free(m, o);
  mtx_unlock(vm_object.lock, o);
};

/** Wires page 2 for a while. */
function wire(): void {
  const o = the_object();
  mtx_lock(vm_object.lock, o);
  const m = object_page_grab(o, 2, VM_ALLOC_ZERO | VM_ALLOC_WIRED, false);
  mtx_unlock(vm_object.lock, o);
  if (m === 0) return;
  mtx_lock(vm_object.lock, o);
  vm_page_owner_unwire(m, true);
  mtx_unlock(vm_object.lock, o);
}

export const script: SimScript = {
  help: 'pages of an object are grabbed by three at once',
  cpus: 3,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    rec.object[scratch<rec_t>()] = vm_object_allocate(OBJT_DEFAULT, 4);
  },
  ops: (cpu) =>
    [
      [turn(0, false), turn(1, true), turn(0, true)],
      [turn(0, true), wire, turn(1, false), turn(0, false)],
      [turn(1, false), turn(0, true), wire, turn(1, false)],
    ][cpu],
  check() {
    vm_object_check(() => 0);
    if (vm_page_busy_count() > 0) return 'a page is busy for ever';
    vm_object_deallocate(the_object());
    if (objects_all().length > 0) return `${objects_all().length} objects are left`;
    uma_reclaim();
    const pages = vm_page_census()[PK_OBJECT];
    return pages === 0 ? check_account() : `${pages} pages of objects are left`;
  },
};
