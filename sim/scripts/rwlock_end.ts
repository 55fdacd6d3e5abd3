/*
 * rwlock_end: an rw lock is ended while others come for it; one CPU dies anywhere.
 *
 * CPU 0 ends the lock as soon as nobody has it.  From then on its memory might be
 * used for something else, so whoever is inside is a fault.  Late comers, which
 * the registry of names does not let come, are told EOWNERDEAD.
 */
import { sim_point } from '../../src/sys/machine/atomic.ts';
import { curcpu } from '../../src/sys/machine/cpu.ts';
import { reap_all } from '../../src/sys/machine/death.ts';
import { KmemError } from '../../src/sys/machine/errno.ts';
import { i32, lock_words, type Ptr, struct } from '../../src/sys/machine/struct.ts';
import {
  RW_WORDS,
  rw_init,
  rw_rlock,
  rw_runlock,
  rw_timedwlock,
  rw_try_upgrade,
  rw_wlock,
  rw_wunlock,
} from '../../src/sys/sync/kern_rwlock.ts';
import { LC_USER_RW } from '../../src/sys/sync/lock_order.ts';
import { rw_end, rw_recover, rw_settle } from '../../src/sys/sync/rw_death.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_rwlock_end'>;
/* Locks: (s) its own rw lock  (a) atomic */
const rec = struct<rec_t>('sim_rwlock_end')({
  lock: lock_words(RW_WORDS, 'user rw', 'ended'),
  ended: i32('s', 'the lock is no lock any more'),
  told: i32('a', 'calls that were refused'),
});
const at = scratch<rec_t>;

function inside(): void {
  if (rec.ended[at()] !== 0) throw new Error(`cpu${curcpu()} is in a lock that was ended`);
  sim_point(at());
  if (rec.ended[at()] !== 0) throw new Error(`the lock was ended with cpu${curcpu()} in it`);
}
/** Runs a call that takes the lock; nothing more if it was ended, or abandoned by the dead. */
const unless_ended = (run: () => void) => (): void => {
  try {
    run();
  } catch (e) {
    if (!(e instanceof KmemError) || e.code !== 'EOWNERDEAD') throw e;
    rec.told[at()]++;
  }
};
const reading = unless_ended(() => {
  rw_rlock(rec.lock, at());
  inside();
  rw_runlock(rec.lock, at());
});
const writing = unless_ended(() => {
  rw_wlock(rec.lock, at());
  inside();
  rw_wunlock(rec.lock, at());
});
const upgrading = unless_ended(() => {
  rw_rlock(rec.lock, at());
  inside();
  if (!rw_try_upgrade(rec.lock, at())) return rw_runlock(rec.lock, at());
  inside();
  rw_wunlock(rec.lock, at());
});
const hasty = unless_ended(() => {
  if (!rw_timedwlock(rec.lock, at(), 0.05)) return;
  inside();
  rw_wunlock(rec.lock, at());
});
const ending = (): void => {
  if (rec.ended[at()] !== 0) return;
  reap_all();
  if (rw_end(at() + rec.lock) >= 0) return;
  rec.ended[at()] = 1;
};
const PLAN = [
  [ending, ending, ending, ending],
  [reading, upgrading, hasty, writing],
  [writing, reading, hasty, upgrading],
];

export const script: SimScript = {
  help: 'rw lock: ended only when nobody has it or is about to',
  pages: false,
  cpus: PLAN.length,
  victim: 1,
  setup() {
    rw_init(rec.lock, at(), LC_USER_RW);
  },
  ops: (cpu) => PLAN[cpu],
  check() {
    const r = at();
    reap_all();
    const l = r + rec.lock;
    rw_settle(l); // a dead writer's lock is abandoned
    if (rec.ended[r] === 0 && rw_end(l) >= 0) return 'it cannot be ended when all are gone';
    return rw_recover(l) ? undefined : 'an ended lock is abandoned, and can be recovered';
  },
};
