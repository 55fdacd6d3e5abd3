/*
 * undo: a structure whose lock's holder dies is as it was before the section.
 *
 * Tokens move between two piles under a mutex of recovery class `undo`, one
 * word at a time, old values logged.  A third word, the seal, is always a
 * function of both.  One CPU dies anywhere: the others must get the lock, and
 * find all tokens and the right seal.  A sleeper among them shows that the
 * chains of the sleep queue survive too.
 */
import { sim_point } from '../../src/sys/machine/atomic.ts';
import { i32, lock_words, type Ptr, struct } from '../../src/sys/machine/struct.ts';
import {
  MTX_WORDS,
  mtx_init,
  mtx_lock,
  mtx_timedlock,
  mtx_unlock,
} from '../../src/sys/sync/kern_mutex.ts';
import { LC_REGISTRY } from '../../src/sys/sync/lock_order.ts';
import { msleep, sleepq_check, sleepq_list, wakeup } from '../../src/sys/sync/subr_sleepqueue.ts';
import { save, undo_begin, undo_end } from '../../src/sys/sync/undo.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_undo'>;
/* Locks: (s) the mutex */
const rec = struct<rec_t>('sim_undo')({
  lock: lock_words(MTX_WORDS, 'registry', 'the piles'),
  left: i32('s', 'tokens on the left pile'),
  right: i32('s', 'tokens on the right pile'),
  seal: i32('s', 'left + 100 * right'),
});
const TOKENS = 20;
const seal = (r: rec_t): number => rec.left[r] + 100 * rec.right[r];

/** Moves `n` tokens to the right, under the lock. */
function move(r: rec_t, n: number): void {
  if (rec.left[r] + rec.right[r] !== TOKENS) throw new Error('tokens were lost with the dead');
  if (rec.seal[r] !== seal(r)) throw new Error('the seal is broken');
  undo_begin(rec.lock, r);
  save(rec.left, r);
  rec.left[r] -= n;
  sim_point(r);
  save(rec.right, r);
  rec.right[r] += n;
  sim_point(r);
  save(rec.seal, r);
  rec.seal[r] = seal(r);
  undo_end();
}
const moving = (n: number) => (): void => {
  const r = scratch<rec_t>();
  mtx_lock(rec.lock, r);
  move(r, n);
  mtx_unlock(rec.lock, r);
  wakeup(r);
};
const sleeping = (): void => {
  const r = scratch<rec_t>();
  mtx_lock(rec.lock, r);
  msleep(r, rec.lock, r, 'a move', 0.3);
  move(r, 1);
  mtx_unlock(rec.lock, r);
};
const PLAN = [
  [moving(1), moving(-2), moving(1), sleeping],
  [moving(2), sleeping, moving(-1), moving(1)],
  [sleeping, moving(-1), moving(3), moving(-2)],
];

export const script: SimScript = {
  help: 'undo: a mutex holder dies at any point, the piles stay whole',
  pages: false,
  cpus: PLAN.length,
  victim: 1,
  setup() {
    const r = scratch<rec_t>();
    mtx_init(rec.lock, r, LC_REGISTRY);
    rec.left[r] = TOKENS;
    rec.seal[r] = seal(r);
  },
  ops: (cpu) => PLAN[cpu],
  check() {
    const r = scratch<rec_t>();
    if (!mtx_timedlock(rec.lock, r, 60_000)) return 'the mutex cannot be had at the end';
    const whole = rec.left[r] + rec.right[r] === TOKENS && rec.seal[r] === seal(r);
    mtx_unlock(rec.lock, r);
    sleepq_check();
    if (sleepq_list().length > 0) return 'somebody is still on a sleep queue';
    return whole ? undefined : `left ${rec.left[r]} right ${rec.right[r]} seal ${rec.seal[r]}`;
  },
};
