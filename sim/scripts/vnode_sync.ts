/*
 * vnode_sync: two CPUs open a file, write to it, sync it, try to cut it, and let go of it.
 *
 * Each counts words of its own up in the pages of the file.  Who lets go of it as the last writes
 * what is left; if that one is killed, whoever settles it does.  The file cannot be made shorter,
 * because it lies in memory: so a truncation goes half-way and comes back, wherever it is killed.
 * Afterwards the file has every word, and nobody has it open.
 */
import { EOPNOTSUPP } from '../../src/sys/machine/errno.ts';
import { PAGE_SIZE } from '../../src/sys/machine/memory.ts';
import { PK_OBJECT } from '../../src/sys/h/vm_page.ts';
import { test_pages } from '../../src/sys/object/swap_book.test.lib.ts';
import { objects_all, vm_object_check } from '../../src/sys/object/vm_object_check.ts';
import {
  FILE_PAGES,
  file_count,
  file_make,
  file_page,
  type file_rec_t,
  file_with,
  file_wrong,
} from '../../src/sys/object/vnode_work.test.lib.ts';
import { vnode_stores } from '../../src/sys/object/vm_vnode.ts';
import { vnode_revalidate, vnode_sync, vnode_truncate } from '../../src/sys/object/vnode_sync.ts';
import { vm_store_check } from '../../src/sys/object/vm_store_check.ts';
import { vm_page_census } from '../../src/sys/page/vm_page.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { check_account } from '../account.ts';
import { scratch, type SimScript } from '../script.ts';

const rec = (): file_rec_t => scratch<file_rec_t>();
const ALL = { first: 0, end: FILE_PAGES, wait: true, invalidate: false };

/** Counts words of some pages up, and lets go: perhaps as the last. */
const count =
  (cpu: number, ...pages: number[]): (() => void) =>
  () =>
    file_with(rec(), true, (o) => {
      for (const i of pages) file_count(rec(), o, i, cpu);
    });
const sync =
  (cpu: number, i: number, invalidate: boolean): (() => void) =>
  () =>
    file_with(rec(), true, (o) => {
      file_count(rec(), o, i, cpu);
      const error = vnode_sync(o, { ...ALL, invalidate });
      if (error !== 0) throw new Error(`sync: errno ${error}`);
    });
const cut =
  (bytes: number): (() => void) =>
  () =>
    file_with(rec(), true, (o) => {
      file_page(o, FILE_PAGES - 1, () => {});
      const error = vnode_truncate(o, bytes);
      if (error !== EOPNOTSUPP) throw new Error(`truncate: errno ${error}`);
    });
const look = (): void =>
  file_with(rec(), false, (o) => {
    for (const i of [0, 3]) file_page(o, i, () => {});
    vnode_revalidate(o, 0, FILE_PAGES);
  });

export const script: SimScript = {
  help: 'a file is written to, synced, cut, and let go of by two at once',
  memory: '1M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    file_make(rec(), test_pages(FILE_PAGES));
  },
  ops: (cpu) =>
    cpu === 0
      ? [count(0, 0, 2), sync(0, 1, false), look, cut(PAGE_SIZE + 100), count(0, 4)]
      : [look, count(1, 2, 4), cut(2 * PAGE_SIZE), sync(1, 3, true), count(1, 0, 1)],
  check() {
    vm_object_check(() => 0);
    vm_store_check(vnode_stores());
    if (objects_all().length > 0) return `${objects_all().length} objects are left`;
    const wrong = file_wrong(rec());
    if (wrong !== '') return wrong;
    uma_reclaim();
    const pages = vm_page_census()[PK_OBJECT];
    return pages === 0 ? check_account() : `${pages} pages of objects are left`;
  },
};
