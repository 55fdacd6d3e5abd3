/*
 * sleepq: msleep, wakeup, wakeup_one and time-outs.
 *
 * CPU 0 puts tokens out and wakes one sleeper for each; CPU 1 takes them all,
 * asleep while there is none.  CPU 2 sleeps with a time limit, goes away
 * without a token when that is over, and puts a token it got back.  So CPU 1
 * must always end: a wake-up that got lost, or was spent on a sleeper that
 * says its time was over, leaves it asleep beside a token, which the scheduler
 * sees as a deadlock.
 */
import { EWOULDBLOCK } from '../../src/sys/machine/errno.ts';
import { i32, lock_words, type Ptr, struct, unchecked } from '../../src/sys/machine/struct.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../../src/sys/sync/kern_mutex.ts';
import { LC_USER_MTX } from '../../src/sys/sync/lock_order.ts';
import {
  msleep,
  sleepq_check,
  sleepq_list,
  wakeup_one,
} from '../../src/sys/sync/subr_sleepqueue.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_sleepq'>;
/* Locks: (s) the mutex */
const rec = struct<rec_t>('sim_sleepq')({
  lock: lock_words(MTX_WORDS, 'user mtx', 'the fields below'),
  tokens: i32('s', 'tokens that lie there'),
  taken: i32(unchecked('only CPU 1 touches it'), 'tokens that CPU 1 took and kept'),
});
const TOKENS = 2;
const PATIENT = Number.POSITIVE_INFINITY;
const HASTY_MS = 0.1;

function put(): void {
  const r = scratch<rec_t>();
  mtx_lock(rec.lock, r);
  rec.tokens[r]++;
  mtx_unlock(rec.lock, r);
  wakeup_one(r);
}
/** Takes a token, waiting at most `ms`. */
function take(ms: number): boolean {
  const r = scratch<rec_t>();
  mtx_lock(rec.lock, r);
  let error = 0;
  while (rec.tokens[r] === 0 && error === 0) error = msleep(r, rec.lock, r, 'token', ms);
  if (error === 0) rec.tokens[r]--;
  mtx_unlock(rec.lock, r);
  if (error !== 0 && (error !== EWOULDBLOCK || ms === PATIENT)) {
    throw new Error(`msleep gave ${error}`);
  }
  return error === 0;
}
function patient(): void {
  if (take(PATIENT)) rec.taken[scratch<rec_t>()]++;
}
function hasty(): void {
  if (take(HASTY_MS)) put();
}

export const script: SimScript = {
  help: 'sleep queue: tokens, wakeup_one, time-outs; nobody sleeps beside a token',
  pages: false,
  cpus: 3,
  setup() {
    mtx_init(rec.lock, scratch<rec_t>(), LC_USER_MTX);
  },
  ops: (cpu) => new Array<() => void>(TOKENS).fill([put, patient, hasty][cpu]),
  check() {
    const r = scratch<rec_t>();
    sleepq_check();
    if (sleepq_list().length > 0) return 'somebody is still on a sleep queue';
    const right = rec.taken[r] === TOKENS && rec.tokens[r] === 0;
    return right ? undefined : `${TOKENS} put, ${rec.taken[r]} taken, ${rec.tokens[r]} left`;
  },
};
