/*
 * object_revoke: an object loses all that it holds while pages come from its pager.
 *
 * A page that is on its way is waited for; whoever looks finds what the pager gave, or nothing.
 */
import { OBJT_DEAD, vm_object, type vm_object_t } from '../../src/sys/h/vm_object.ts';
import { PK_OBJECT } from '../../src/sys/h/vm_page.ts';
import { type Ptr, ptr, struct } from '../../src/sys/machine/struct.ts';
import {
  vm_object_deallocate,
  vm_object_reference,
  vm_object_revoke,
} from '../../src/sys/object/vm_object.ts';
import { objects_all, vm_object_check } from '../../src/sys/object/vm_object_check.ts';
import { pager_cache, pager_look } from '../../src/sys/object/pager_work.test.lib.ts';
import { test_pager_object } from '../../src/sys/object/test_pager.test.lib.ts';
import { vm_page_census } from '../../src/sys/page/vm_page.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { check_account } from '../account.ts';
import { scratch, type SimScript } from '../script.ts';

type rec_t = Ptr<'sim_object_revoke'>;
const rec = struct<rec_t>('sim_object_revoke')({ object: ptr<vm_object_t>('-', 'the object') });
const the_object = (): vm_object_t => rec.object[scratch<rec_t>()];
const looks = (...numbers: number[]): (() => void)[] =>
  numbers.map((i) => () => void pager_look(the_object(), i));
function revoke(): void {
  const o = the_object();
  vm_object_reference(o);
  vm_object_revoke(o);
  if (pager_look(o, 1)) throw new Error('it has a page still');
  vm_object_deallocate(o);
}
const cached = (): void => void pager_cache(the_object(), 2);

export const script: SimScript = {
  help: 'what an object holds is gone while it is read',
  cpus: 3,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    const o = test_pager_object(8, 5);
    rec.object[scratch<rec_t>()] = o;
    for (const i of [1, 2]) if (!pager_look(o, i)) throw new Error('no memory');
  },
  ops: (cpu) => [looks(1, 3), [...looks(2), revoke], [...looks(3), cached, ...looks(2)]][cpu],
  check() {
    vm_object_check(() => 0);
    const o = the_object();
    const dead = vm_object.type[o] === OBJT_DEAD;
    if (!dead && !pager_look(o, 1)) return 'it is alive, and has no page';
    vm_object_deallocate(o);
    if (objects_all().length > 0) return `${objects_all().length} objects are left`;
    uma_reclaim();
    const pages = vm_page_census()[PK_OBJECT];
    return pages === 0 ? check_account() : `${pages} pages of objects are left`;
  },
};
