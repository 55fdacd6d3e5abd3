/*
 * stale_wait: sleeping on a value read anew.
 *
 * A lock of one word.  Who fails to take it sleeps while the word has a
 * value.  The planted one reads that value afresh for the wait: if the lock
 * was given back in between it sleeps on "free", for a wake-up that has been.
 * Its sound twin sleeps on the value that made it fail.
 */
import {
  atomic_cas,
  atomic_load,
  atomic_notify,
  atomic_store,
  atomic_wait,
} from '../../src/sys/machine/atomic.ts';
import { curcpu } from '../../src/sys/machine/cpu.ts';
import { field_word, i32, type Ptr, struct, unchecked } from '../../src/sys/machine/struct.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_stale_wait'>;
/* Locks: (a) atomic */
const rec = struct<rec_t>('sim_stale_wait')({
  lock: i32('a', '0 free, else slot + 1 of the owner'),
  count: i32(unchecked('the lock is made by hand, and wrong'), 'turns taken'),
});
const TURNS = 3;

function turn(sound: boolean): void {
  const r = scratch<rec_t>();
  const l = field_word(rec.lock, r);
  for (;;) {
    const v = atomic_cas(l, 0, curcpu() + 1);
    if (v === 0) break;
    atomic_wait(l, sound ? v : atomic_load(l), Number.POSITIVE_INFINITY);
  }
  rec.count[r]++;
  atomic_store(l, 0);
  atomic_notify(l, 1);
}
function make(sound: boolean): SimScript {
  return {
    help: `stale wait, ${sound ? 'sound twin' : 'planted: sleeps on a value read anew'}`,
    planted: !sound,
    pages: false,
    setup() {},
    ops: () => new Array<() => void>(TURNS).fill(() => turn(sound)),
    check() {
      const n = rec.count[scratch<rec_t>()];
      return n === TURNS * 2 ? undefined : `${n} turns instead of ${TURNS * 2}`;
    },
  };
}
export const script = make(false);
export const sound = make(true);
