/*
 * object_cache: pages of two objects come from their pager, go to the cache queue, are found
 * again or lose their memory, while a third CPU has them busy.
 *
 * Every look finds what the pager gives, whoever died.  Afterwards the walkers prove the queues:
 * what is on the cache queue is clean and idle.  When the objects are revoked and dropped, no
 * page is left.
 */
import type { vm_object_t } from '../../src/sys/h/vm_object.ts';
import { PK_OBJECT } from '../../src/sys/h/vm_page.ts';
import { elem, type Ptr, struct, words } from '../../src/sys/machine/struct.ts';
import {
  vm_object_deallocate,
  vm_object_reference,
  vm_object_revoke,
} from '../../src/sys/object/vm_object.ts';
import { page_select_cache } from '../../src/sys/object/vm_object_cache.ts';
import { objects_all, vm_object_check } from '../../src/sys/object/vm_object_check.ts';
import { pager_cache, pager_look, pager_work } from '../../src/sys/object/pager_work.test.lib.ts';
import { test_pager_object } from '../../src/sys/object/test_pager.test.lib.ts';
import { vm_page_census } from '../../src/sys/page/vm_page.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { check_account } from '../account.ts';
import { scratch, type SimScript } from '../script.ts';

type rec_t = Ptr<'sim_object_cache'>;
const rec = struct<rec_t>('sim_object_cache')({ object: words('-', 'the two objects', 2) });
const object = (i: number): vm_object_t =>
  rec.object[elem(scratch<rec_t>(), i)] as number as vm_object_t;
const each = (run: (o: vm_object_t) => void) => (): void => {
  run(object(0));
  run(object(1));
};
const take = (): void => void page_select_cache();

export const script: SimScript = {
  help: 'pages as good as free are used again, or lose their memory',
  cpus: 3,
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    for (let i = 0; i < 2; i++) {
      const o = test_pager_object(8, i + 1);
      rec.object[elem(scratch<rec_t>(), i)] = o;
      for (const n of [1, 2, 3]) if (!pager_look(o, n)) throw new Error('no memory');
      pager_cache(o, 1);
    }
  },
  ops(cpu) {
    if (cpu === 0) {
      return [
        each((o) => void pager_cache(o, 2)),
        each((o) => void pager_look(o, 1)),
        take,
        each((o) => void pager_cache(o, 1)),
      ];
    }
    if (cpu === 1) {
      return [take, each((o) => void pager_look(o, 2)), each((o) => void pager_cache(o, 3)), take];
    }
    return [each((o) => pager_work(o, 1)), take, each((o) => pager_work(o, 2))];
  },
  check() {
    vm_object_check(() => 0); // both are in the hand of CPU 0
    for (let i = 0; i < 2; i++) {
      const o = object(i);
      for (const n of [1, 2, 3]) if (!pager_look(o, n)) return 'no memory';
      if (i === 1) {
        vm_object_reference(o);
        vm_object_revoke(o);
        vm_object_deallocate(o);
      }
      vm_object_deallocate(o);
    }
    if (objects_all().length > 0) return `${objects_all().length} objects are left`;
    vm_object_check(() => 0);
    uma_reclaim();
    const pages = vm_page_census()[PK_OBJECT];
    return pages === 0 ? check_account() : `${pages} pages of objects are left`;
  },
};
