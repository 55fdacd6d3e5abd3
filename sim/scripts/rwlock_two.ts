/*
 * rwlock_two: two rw locks, nested readers, writers; one CPU dies anywhere.
 *
 * Readers hold one lock while they ask for the other, in both orders, and
 * writers want each of the two: a writer that waited with the lock taken, or a
 * nested reader that stopped for a writer which only waits, would close a ring.
 * One CPU reads the first lock while it writes the second.  The locks are of a
 * class `undo`: the words behind the second are logged, so that whoever takes
 * it over from the dead finds them equal.
 */
import { sim_point } from '../../src/sys/machine/atomic.ts';
import { curcpu } from '../../src/sys/machine/cpu.ts';
import { i32, lock_words, type Ptr, struct } from '../../src/sys/machine/struct.ts';
import {
  RW_WORDS,
  rw_init,
  rw_rlock,
  rw_runlock,
  rw_timedwlock,
  rw_wlock,
  rw_wunlock,
} from '../../src/sys/sync/kern_rwlock.ts';
import { LC_SYSCTL_MEM } from '../../src/sys/sync/lock_order.ts';
import { rw_user } from '../../src/sys/sync/rw_death.ts';
import { save, undo_begin, undo_end } from '../../src/sys/sync/undo.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_rwlock_two'>;
/* Locks: (b) the second lock */
const rec = struct<rec_t>('sim_rwlock_two')({
  a: lock_words(RW_WORDS, 'sysctl mem', 'nothing: it is only held'),
  b: lock_words(RW_WORDS, 'sysctl mem', 'left and right'),
  left: i32('b', 'goes up first'),
  right: i32('b', 'goes up second'),
});
const at = scratch<rec_t>;

function look(): void {
  const seen = rec.left[at()];
  sim_point(at());
  if (seen !== rec.right[at()]) throw new Error(`cpu${curcpu()} reads beside a writer`);
}
function change(): void {
  const r = at();
  if (rec.left[r] !== rec.right[r]) throw new Error(`cpu${curcpu()} finds half a write`);
  undo_begin(rec.b, r);
  save(rec.left, r);
  rec.left[r]++;
  sim_point(r);
  save(rec.right, r);
  rec.right[r]++;
  undo_end();
}
const a_then_b = (): void => {
  rw_rlock(rec.a, at());
  rw_rlock(rec.b, at());
  look();
  rw_runlock(rec.a, at());
  rw_runlock(rec.b, at());
};
const b_then_a = (): void => {
  rw_rlock(rec.b, at());
  look();
  rw_rlock(rec.a, at());
  rw_runlock(rec.b, at());
  rw_runlock(rec.a, at());
};
const write_a = (): void => {
  rw_wlock(rec.a, at());
  rw_wunlock(rec.a, at());
};
const write_b = (): void => {
  rw_wlock(rec.b, at());
  change();
  rw_wunlock(rec.b, at());
};
const read_a_write_b = (): void => {
  rw_rlock(rec.a, at());
  rw_wlock(rec.b, at());
  change();
  rw_wunlock(rec.b, at());
  rw_runlock(rec.a, at());
};
const PLAN = [
  [a_then_b, write_b, a_then_b],
  [write_a, read_a_write_b, b_then_a, write_b],
  [b_then_a, write_a, b_then_a],
];

export const script: SimScript = {
  help: 'two rw locks: nested readers both ways round, writers of each',
  pages: false,
  cpus: PLAN.length,
  victim: 1,
  setup() {
    rw_init(rec.a, at(), LC_SYSCTL_MEM);
    rw_init(rec.b, at(), LC_SYSCTL_MEM);
  },
  ops: (cpu) => PLAN[cpu],
  check() {
    const r = at();
    for (const lock of [rec.a, rec.b]) {
      if (!rw_timedwlock(lock, r, 999)) return 'a lock is not free at the end';
      if (rw_user(r + lock) !== curcpu()) return 'somebody still names a lock';
      rw_wunlock(lock, r);
    }
    return rec.left[r] === rec.right[r] ? undefined : 'a write was left half-done';
  },
};
