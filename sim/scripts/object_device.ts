/*
 * object_device: two CPUs ask for a device that nobody has asked for yet, look at it, copy it.
 *
 * Afterwards there is one object of it, with one page of zeros, and no other object: whoever
 * was killed on the way gave back what it had taken.
 */
import { DEVICE_ZERO, vm_object, type vm_object_t } from '../../src/sys/h/vm_object.ts';
import { PK_OBJECT, PK_WIRED } from '../../src/sys/h/vm_page.ts';
import { mem, page_word } from '../../src/sys/machine/memory.ts';
import { elem, type Ptr, struct, words } from '../../src/sys/machine/struct.ts';
import { vm_device_object } from '../../src/sys/object/vm_device.ts';
import { vm_object_deallocate } from '../../src/sys/object/vm_object.ts';
import { vm_object_split } from '../../src/sys/object/vm_object_chain.ts';
import { objects_all, vm_object_check } from '../../src/sys/object/vm_object_check.ts';
import { object_page } from '../../src/sys/object/vm_object_page.ts';
import { vm_page_census } from '../../src/sys/page/vm_page.ts';
import { mtx_lock, mtx_unlock } from '../../src/sys/sync/kern_mutex.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { check_account } from '../account.ts';
import { scratch, type SimScript } from '../script.ts';

type rec_t = Ptr<'sim_device'>;
const rec = struct<rec_t>('sim_device')({ wired: words('-', 'kernel pages before', 1) });
const at = (): rec_t => scratch<rec_t>();

function turn(): void {
  const o = vm_device_object(DEVICE_ZERO);
  if (o === 0) return;
  mtx_lock(vm_object.lock, o);
  const m = object_page(o, 3);
  if (m === 0 || mem.I32[page_word(m) + 5] !== 0) throw new Error(`page ${m} is not of zeros`);
  mtx_unlock(vm_object.lock, o);
  const copy = vm_object_split(o, 0, 8); // the reference goes with it
  vm_object_deallocate(copy === 0 ? o : copy);
}
export const script: SimScript = {
  help: 'a device is asked for by two at once, and copied',
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    rec.wired[elem(at(), 0)] = vm_page_census()[PK_WIRED];
  },
  ops: () => [turn, turn],
  check() {
    vm_object_check(() => 0);
    const all: vm_object_t[] = objects_all();
    if (all.length !== 1) return `${all.length} objects`;
    const census = vm_page_census();
    const wired = census[PK_WIRED] - rec.wired[elem(at(), 0)];
    if (wired !== 1 || census[PK_OBJECT] !== 0) return `${wired} pages of zeros`;
    uma_reclaim();
    return check_account();
  },
};
