/*
 * rwlock: readers and writers, upgrade, downgrade, writers that give up.
 *
 * Two words are always equal outside an exclusive hold.  Writers change them
 * one after the other with a point between; readers that see them differ were
 * let in beside a writer.  Each CPU writes its own count of writes, so that
 * the sum at the end shows that no exclusive hold was shared.
 *
 * One CPU dies anywhere.  If it wrote, the lock is abandoned: whoever is told
 * first recovers it, that is, it ends the half write.  It may only be told if
 * the dead one was inside: a writer that has not changed anything is undone.
 */
import { sim_point } from '../../src/sys/machine/atomic.ts';
import { curcpu } from '../../src/sys/machine/cpu.ts';
import { KmemError } from '../../src/sys/machine/errno.ts';
import {
  elem,
  i32,
  lock_words,
  type Ptr,
  struct,
  words,
  unchecked,
} from '../../src/sys/machine/struct.ts';
import {
  RW_WORDS,
  rw_downgrade,
  rw_init,
  rw_rlock,
  rw_runlock,
  rw_timedrlock,
  rw_timedwlock,
  rw_try_upgrade,
  rw_wlock,
  rw_wunlock,
} from '../../src/sys/sync/kern_rwlock.ts';
import { LC_USER_RW } from '../../src/sys/sync/lock_order.ts';
import { rw_recover, rw_user } from '../../src/sys/sync/rw_death.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_rwlock'>;
/* Locks: (s) the rw lock */
const rec = struct<rec_t>('sim_rwlock')({
  lock: lock_words(RW_WORDS, 'user rw', 'left and right'),
  left: i32('s', 'writes begun'),
  right: i32('s', 'writes ended'),
  writes: words(unchecked('each CPU has its own element'), 'writes of each CPU', 8),
});

function write(): void {
  const r = scratch<rec_t>();
  const seen = rec.left[r];
  rec.left[r] = seen + 1;
  sim_point(r);
  rec.right[r] = seen + 1;
  rec.writes[elem(r, curcpu())]++;
}
function look(): void {
  const r = scratch<rec_t>();
  const seen = rec.left[r];
  sim_point(r);
  if (seen !== rec.right[r]) throw new Error('a reader is inside beside a writer');
}

/** Takes the lock; an abandoned one is recovered first. */
function got(take: () => boolean): boolean {
  for (;;) {
    try {
      return take();
    } catch (e) {
      if (!(e instanceof KmemError) || e.code !== 'EOWNERDEAD') throw e;
    }
    const r = scratch<rec_t>();
    const l = r + rec.lock;
    if (!rw_recover(l)) continue; // another was faster
    sim_point(r);
    rec.right[r] = rec.left[r];
    rw_wunlock(rec.lock, r);
  }
}
const at = scratch<rec_t>;
const read = (): boolean => {
  rw_rlock(rec.lock, at());
  return true;
};
const wrote = (): boolean => {
  rw_wlock(rec.lock, at());
  return true;
};
const reading = (): void => {
  if (!got(read)) return;
  look();
  rw_rlock(rec.lock, at()); // a count: never waits
  look();
  rw_runlock(rec.lock, at());
  rw_runlock(rec.lock, at());
};
const writing = (): void => {
  if (!got(wrote)) return;
  write();
  rw_wunlock(rec.lock, at());
};
const upgrading = (): void => {
  if (!got(read)) return;
  look();
  if (!rw_try_upgrade(rec.lock, at())) return rw_runlock(rec.lock, at());
  write();
  rw_downgrade(rec.lock, at());
  look();
  rw_runlock(rec.lock, at());
};
const hasty_write = (): void => {
  if (!got(() => rw_timedwlock(rec.lock, at(), 0.05))) return;
  write();
  rw_wunlock(rec.lock, at());
};
const tried_write = (): void => {
  if (!got(() => rw_timedwlock(rec.lock, at(), 0))) return;
  write();
  rw_wunlock(rec.lock, at());
};
const hasty_read = (): void => {
  if (!got(() => rw_timedrlock(rec.lock, at(), 0.05))) return;
  look();
  rw_runlock(rec.lock, at());
};

const PLAN = [
  [reading, writing, upgrading, reading],
  [writing, hasty_read, upgrading, tried_write],
  [upgrading, reading, hasty_write, writing],
];

export const script: SimScript = {
  help: 'rw lock: exclusion, upgrade, downgrade, giving up',
  pages: false,
  cpus: PLAN.length,
  victim: 1,
  setup() {
    rw_init(rec.lock, scratch<rec_t>(), LC_USER_RW);
  },
  ops: (cpu) => PLAN[cpu],
  check() {
    const r = scratch<rec_t>();
    if (!got(() => rw_timedwlock(rec.lock, r, 999))) return 'the lock is not free at the end';
    if (rw_user(r + rec.lock) !== curcpu()) return 'somebody still names the lock';
    rw_wunlock(rec.lock, r);
    let sum = 0;
    for (let cpu = 0; cpu < PLAN.length; cpu++) sum += rec.writes[elem(r, cpu)];
    if (rec.left[r] !== rec.right[r]) return 'a write was left half-done';
    return Math.abs(sum - rec.left[r]) <= 1 ? undefined : `${sum} writes, ${rec.left[r]} counted`;
  },
};
