/*
 * mutex: exclusion, hand-over and time-outs of the sleep mutex.
 *
 * Three CPUs count under one mutex, each addition in two halves with a point
 * between, so that two inside at once lose a count.  Some ask with a short
 * time limit and may come away empty-handed; they note that.  The wait of the
 * others passes a millisecond under most paces of the clock: hand-over.
 */
import { sim_point } from '../../src/sys/machine/atomic.ts';
import { i32, lock_words, type Ptr, struct } from '../../src/sys/machine/struct.ts';
import {
  MTX_WORDS,
  mtx_init,
  mtx_lock,
  mtx_owned,
  mtx_timedlock,
  mtx_trylock,
  mtx_unlock,
} from '../../src/sys/sync/kern_mutex.ts';
import { LC_USER_MTX } from '../../src/sys/sync/lock_order.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_mutex'>;
/* Locks: (s) the mutex */
const rec = struct<rec_t>('sim_mutex')({
  lock: lock_words(MTX_WORDS, 'user mtx', 'the fields below'),
  count: i32('s', 'additions done'),
  refused: i32('a', 'times the mutex was not to be had'),
  inside: i32('s', 'CPUs that hold the mutex'),
});
const CPUS = 3;
const ROUNDS = 2;

function add(): void {
  const r = scratch<rec_t>();
  if (++rec.inside[r] !== 1) throw new Error('two CPUs hold the mutex');
  const seen = rec.count[r];
  sim_point(r);
  rec.count[r] = seen + 1;
  rec.inside[r]--;
  mtx_unlock(rec.lock, r);
}
function locked(): void {
  mtx_lock(rec.lock, scratch<rec_t>());
  add();
}
function timed(ms: number): () => void {
  return () => {
    const r = scratch<rec_t>();
    if (mtx_timedlock(rec.lock, r, ms)) add();
    else rec.refused[r]++;
  };
}
function tried(): void {
  const r = scratch<rec_t>();
  if (mtx_trylock(rec.lock, r)) add();
  else rec.refused[r]++;
}

export const script: SimScript = {
  help: 'mutex: exclusion, hand-over, time-outs; none forgotten',
  pages: false,
  cpus: CPUS,
  setup() {
    mtx_init(rec.lock, scratch<rec_t>(), LC_USER_MTX);
  },
  ops(cpu) {
    const round = [locked, timed([0.03, 0.4, 3][cpu] ?? 1), locked, cpu === 0 ? tried : locked];
    return Array.from({ length: ROUNDS }, () => round).flat();
  },
  check() {
    const r = scratch<rec_t>();
    if (mtx_owned(rec.lock, r)) return 'the mutex is still held';
    if (!mtx_trylock(rec.lock, r)) return 'the mutex is not free at the end';
    mtx_unlock(rec.lock, r);
    const sum = rec.count[r] + rec.refused[r];
    const asked = CPUS * ROUNDS * 4;
    return sum === asked
      ? undefined
      : `${asked} asked, ${rec.count[r]} added, ${rec.refused[r]} refused`;
  },
};
