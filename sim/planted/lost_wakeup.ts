/*
 * lost_wakeup: a consumer that unlocks before it queues.
 *
 * The planted one looks at the queue under the mutex, gives the mutex up, and
 * only then goes to sleep; an item put in between wakes nobody.  Its sound
 * twin sleeps by msleep, which queues before it unlocks.
 */
import { i32, lock_words, type Ptr, struct } from '../../src/sys/machine/struct.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../../src/sys/sync/kern_mutex.ts';
import { LC_USER_MTX } from '../../src/sys/sync/lock_order.ts';
import { msleep, tsleep, wakeup } from '../../src/sys/sync/subr_sleepqueue.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_lost_wakeup'>;
/* Locks: (s) the mutex */
const rec = struct<rec_t>('sim_lost_wakeup')({
  lock: lock_words(MTX_WORDS, 'user mtx', 'the queue'),
  items: i32('s', 'items on the queue'),
});
const ITEMS = 2;

function produce(): void {
  const r = scratch<rec_t>();
  mtx_lock(rec.lock, r);
  rec.items[r]++;
  mtx_unlock(rec.lock, r);
  wakeup(r);
}
function consume(sound: boolean): void {
  const r = scratch<rec_t>();
  mtx_lock(rec.lock, r);
  while (rec.items[r] === 0) {
    if (sound) msleep(r, rec.lock, r, 'an item', Number.POSITIVE_INFINITY);
    else {
      mtx_unlock(rec.lock, r);
      tsleep(r, 'an item', Number.POSITIVE_INFINITY, () => true); // asks nobody again
      mtx_lock(rec.lock, r);
    }
  }
  rec.items[r]--;
  mtx_unlock(rec.lock, r);
}
function make(sound: boolean): SimScript {
  return {
    help: `lost wake-up, ${sound ? 'sound twin' : 'planted: unlocks before it queues'}`,
    planted: !sound,
    pages: false,
    setup() {
      mtx_init(rec.lock, scratch<rec_t>(), LC_USER_MTX);
    },
    ops: (cpu) => new Array<() => void>(ITEMS).fill(cpu === 0 ? produce : () => consume(sound)),
    check: () => (rec.items[scratch<rec_t>()] === 0 ? undefined : 'items are left'),
  };
}
export const script = make(false);
export const sound = make(true);
