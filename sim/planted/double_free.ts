/*
 * double_free: the test whether an item is in use stands apart from the change.
 *
 * Two CPUs free the same item.  Exactly one must succeed.  The planted one
 * reads the item's state and then writes it; both may read "in use".  Its
 * sound twin does both in one compare-and-swap.
 */
import { atomic_cas, atomic_load, atomic_store } from '../../src/sys/machine/atomic.ts';
import {
  elem,
  field_word,
  i32,
  lock_words,
  type Ptr,
  struct,
  words,
} from '../../src/sys/machine/struct.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../../src/sys/sync/kern_mutex.ts';
import { LC_USER_MTX } from '../../src/sys/sync/lock_order.ts';
import { type SimScript, scratch } from '../script.ts';

const ITEMS = 6;
const SHARED = 5;
type rec_t = Ptr<'sim_double_free'>;
/* Locks: (s) the mutex  (a) atomic */
const rec = struct<rec_t>('sim_double_free')({
  lock: lock_words(MTX_WORDS, 'user mtx', 'the free list'),
  free_n: i32('s', 'items on the free list'),
  free: words('s', 'the free list', 16),
  used: words('a', 'per item: 1 in use', ITEMS),
});

function alloc(): number {
  const r = scratch<rec_t>();
  mtx_lock(rec.lock, r);
  const n = rec.free_n[r] - 1;
  const item = n < 0 ? -1 : rec.free[elem(r, n)];
  if (n >= 0) rec.free_n[r] = n;
  mtx_unlock(rec.lock, r);
  if (item >= 0) atomic_store(field_word(rec.used, elem(r, item)), 1);
  return item;
}
function free(item: number, sound: boolean): void {
  const r = scratch<rec_t>();
  const w = field_word(rec.used, elem(r, item));
  if (sound) {
    if (atomic_cas(w, 1, 0) !== 1) return;
  } else {
    if (atomic_load(w) !== 1) return;
    atomic_store(w, 0); // another may have read 1 before this
  }
  mtx_lock(rec.lock, r);
  rec.free[elem(r, rec.free_n[r]++)] = item;
  mtx_unlock(rec.lock, r);
}
function make(sound: boolean): SimScript {
  const turn = (): void => {
    const item = alloc();
    if (item >= 0) free(item, sound);
  };
  return {
    help: `double free, ${sound ? 'sound twin' : 'planted: test apart from change'}`,
    planted: !sound,
    pages: false,
    setup() {
      const r = scratch<rec_t>();
      mtx_init(rec.lock, r, LC_USER_MTX);
      for (let i = 0; i < SHARED; i++) rec.free[elem(r, i)] = i;
      rec.free_n[r] = SHARED;
      rec.used[elem(r, SHARED)] = 1;
    },
    ops: () => [turn, () => free(SHARED, sound), turn],
    check() {
      const r = scratch<rec_t>();
      const seen = new Set<number>();
      for (let i = 0; i < rec.free_n[r]; i++) {
        const item = rec.free[elem(r, i)];
        if (seen.has(item)) return `item ${item} is on the free list twice`;
        seen.add(item);
      }
      return seen.size === ITEMS ? undefined : `${ITEMS - seen.size} items are gone`;
    },
  };
}
export const script = make(false);
export const sound = make(true);
