/*
 * mutex_recover: a program's mutex whose owner dies is abandoned, and made good.
 *
 * Two words go up one after the other under a mutex of the class of programs.
 * One CPU dies anywhere: asleep for a token, woken and not back yet, inside, or
 * while it recovers.  The others are told EOWNERDEAD, and whoever is first ends
 * the half change in recover.  A sleeper whose token was put by the dead one
 * wakes at its deadline; one that was woken with the mutex abandoned passes the
 * wake-up on.
 */
import { sim_point } from '../../src/sys/machine/atomic.ts';
import { EOWNERDEAD, KmemError } from '../../src/sys/machine/errno.ts';
import { i32, lock_words, type Ptr, struct } from '../../src/sys/machine/struct.ts';
import {
  MTX_WORDS,
  mtx_init,
  mtx_lock,
  mtx_recover,
  mtx_timedlock,
  mtx_trylock,
  mtx_unlock,
} from '../../src/sys/sync/kern_mutex.ts';
import { LC_USER_MTX } from '../../src/sys/sync/lock_order.ts';
import { lock_owner_tid } from '../../src/sys/sync/lock_word.ts';
import {
  msleep,
  sleepq_check,
  sleepq_list,
  wakeup_one,
} from '../../src/sys/sync/subr_sleepqueue.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_mutex_recover'>;
/* Locks: (s) its own mutex */
const rec = struct<rec_t>('sim_mutex_recover')({
  lock: lock_words(MTX_WORDS, 'user mtx', 'the fields below'),
  left: i32('s', 'goes up first'),
  right: i32('s', 'goes up second'),
});
const at = scratch<rec_t>;

function change(): void {
  const r = at();
  if (rec.left[r] !== rec.right[r]) throw new Error('half a change, and nobody was told');
  rec.left[r]++;
  sim_point(r);
  rec.right[r]++;
}
function mend(): void {
  const r = at();
  if (!mtx_recover(r + rec.lock)) return; // another was faster
  sim_point(r);
  rec.right[r] = rec.left[r];
  mtx_unlock(rec.lock, r);
}
/** Takes the mutex; an abandoned one is recovered first. */
function got(take: () => boolean): boolean {
  for (;;) {
    try {
      return take();
    } catch (e) {
      if (!(e instanceof KmemError) || e.code !== 'EOWNERDEAD') throw e;
    }
    mend();
  }
}
const lock = (): boolean => {
  mtx_lock(rec.lock, at());
  return true;
};
const changing = (): void => {
  got(lock);
  change();
  mtx_unlock(rec.lock, at());
  wakeup_one(at());
};
const trying = (): void => {
  if (!got(() => mtx_trylock(rec.lock, at()))) return;
  change();
  mtx_unlock(rec.lock, at());
};
const sleeping = (): void => {
  got(lock);
  const error = msleep(at(), rec.lock, at(), 'a change', 0.3);
  if (error === EOWNERDEAD) return mend(); // without the mutex
  change();
  mtx_unlock(rec.lock, at());
};
const PLAN = [
  [changing, sleeping, trying, changing],
  [changing, sleeping, changing, trying],
  [sleeping, changing, trying, sleeping],
];

export const script: SimScript = {
  help: 'a mutex is abandoned with its dead owner, and recovered',
  pages: false,
  cpus: PLAN.length,
  victim: 1,
  setup() {
    mtx_init(rec.lock, at(), LC_USER_MTX);
  },
  ops: (cpu) => PLAN[cpu],
  check() {
    const r = at();
    if (!got(() => mtx_timedlock(rec.lock, r, 60_000))) return 'the mutex cannot be had at the end';
    mtx_unlock(rec.lock, r);
    if (lock_owner_tid(r + rec.lock) !== 0) return 'somebody has the mutex at the end';
    sleepq_check();
    if (sleepq_list().length > 0) return 'somebody is still on a sleep queue';
    return rec.left[r] === rec.right[r] ? undefined : 'a change was left half-done';
  },
};
