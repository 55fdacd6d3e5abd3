/*
 * sleepq_death: a sleeper dies; the wake-up meant for it reaches another.
 *
 * CPU 0 puts tokens out, one wake-up each, and never says that it has ended.
 * CPUs 1 and 2 take a fixed number each; CPU 1 dies anywhere.  CPU 2 must get
 * all it wants: were the wake-up spent on the dead one, it would sleep beside
 * a token for ever.  Put and take log their words, so tokens add up exactly.
 */
import { i32, lock_words, type Ptr, struct } from '../../src/sys/machine/struct.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from '../../src/sys/sync/kern_mutex.ts';
import { LC_REGISTRY } from '../../src/sys/sync/lock_order.ts';
import {
  msleep,
  sleepq_check,
  sleepq_list,
  wakeup_one,
} from '../../src/sys/sync/subr_sleepqueue.ts';
import { save, undo_begin, undo_end } from '../../src/sys/sync/undo.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_sleepq_death'>;
/* Locks: (s) the mutex */
const rec = struct<rec_t>('sim_sleepq_death')({
  lock: lock_words(MTX_WORDS, 'registry', 'the fields below'),
  put: i32('s', 'tokens put so far'),
  tokens: i32('s', 'tokens that lie there'),
  taken: i32('s', 'tokens taken so far'),
});
const EACH = 2;

function put(): void {
  const r = scratch<rec_t>();
  mtx_lock(rec.lock, r);
  undo_begin(rec.lock, r);
  save(rec.put, r);
  rec.put[r]++;
  save(rec.tokens, r);
  rec.tokens[r]++;
  undo_end();
  mtx_unlock(rec.lock, r);
  wakeup_one(r);
}
function take(): void {
  const r = scratch<rec_t>();
  mtx_lock(rec.lock, r);
  while (rec.tokens[r] === 0) msleep(r, rec.lock, r, 'token', Number.POSITIVE_INFINITY);
  undo_begin(rec.lock, r);
  save(rec.tokens, r);
  rec.tokens[r]--;
  save(rec.taken, r);
  rec.taken[r]++;
  undo_end();
  mtx_unlock(rec.lock, r);
}

export const script: SimScript = {
  help: 'sleep queue: a sleeper dies, its wake-up reaches another',
  pages: false,
  cpus: 3,
  victim: 1,
  setup() {
    mtx_init(rec.lock, scratch<rec_t>(), LC_REGISTRY);
  },
  ops: (cpu) => new Array<() => void>(cpu === 0 ? EACH * 2 : EACH).fill(cpu === 0 ? put : take),
  check() {
    const r = scratch<rec_t>();
    sleepq_check();
    if (sleepq_list().length > 0) return 'somebody is still on a sleep queue';
    if (rec.taken[r] < EACH) return 'the living taker did not get its tokens';
    const whole = rec.put[r] === EACH * 2 && rec.tokens[r] + rec.taken[r] === rec.put[r];
    return whole ? undefined : `put ${rec.put[r]}, taken ${rec.taken[r]}, left ${rec.tokens[r]}`;
  },
};
