/*
 * queue: three CPUs put and take, wait for room and for values, and one closes.
 *
 *      cpu 0   puts, waiting for room, and closes at the end
 *      cpu 1   puts and takes, waiting or not; it is the one that is killed
 *      cpu 2   takes, waiting for values, until the queue is closed and empty
 *
 * The model is a word for each value, which says whether it was given to the queue and
 * how often it came out.  No value comes out twice, or without having gone in, and each
 * CPU gets the values of another in the order in which they went in.  What is in the ring
 * at the end is taken, and then every value has come out; if a CPU was killed, one may be
 * missing that it had in its hands.  A lost wake-up is a deadlock, which the
 * scheduler reports: in runs without a death no slice ends a sleep.
 */
import { atomic_add, atomic_store } from '../../src/sys/machine/atomic.ts';
import { counter_get } from '../../src/sys/machine/counter.ts';
import { curcpu } from '../../src/sys/machine/cpu.ts';
import { v_reaps } from '../../src/sys/machine/death.ts';
import { EAGAIN } from '../../src/sys/machine/errno.ts';
import { mem } from '../../src/sys/machine/memory.ts';
import { elem, field_word, type Ptr, ptr, struct, words } from '../../src/sys/machine/struct.ts';
import type { reg_entry_t } from '../../src/sys/h/registry.ts';
import {
  queue_check,
  queue_close,
  queue_ended,
  queue_init,
  queue_put,
  queue_sleep_items,
  queue_sleep_space,
  queue_take,
} from '../../src/sys/client/kern_queue.ts';
import {
  registry_add,
  registry_check,
  registry_key,
  registry_lock,
  registry_ready,
  registry_unlock,
} from '../../src/sys/client/kern_registry.ts';
import { SLICE_MS, type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_queue'>;
const CPUS = 3;
/** Values that a CPU has at most. */
const VALUES = 8;
const CAPACITY = 2;
/** A wait ends after some slices, which end only in runs with a death. */
const WAIT_MS = 3 * SLICE_MS;
/* What became of a value. */
const OFFERED = 1;
const IN = 2;
const REFUSED = 3;
/* Locks: (c) constant  (a) atomic */
const rec = struct<rec_t>('sim_queue')({
  queue: ptr<reg_entry_t>('c', 'the entry'),
  state: words('a', 'of each value: OFFERED, IN or REFUSED', CPUS * VALUES),
  taken: words('a', 'how often each value came out', CPUS * VALUES),
  last: words('a', 'by taker and giver: the value that came last', (CPUS + 1) * CPUS),
});
const queue = (): reg_entry_t => rec.queue[scratch<rec_t>()];
const word = (f: typeof rec.state, i: number): number => field_word(f, elem(scratch<rec_t>(), i));

/** Puts value i of this CPU, waiting for room or not. */
const put =
  (i: number, wait: boolean): (() => void) =>
  () => {
    const v = curcpu() * VALUES + i;
    atomic_store(word(rec.state, v), OFFERED);
    let error = queue_put(queue(), v);
    while (wait && error === EAGAIN) {
      queue_sleep_space(queue(), WAIT_MS);
      error = queue_put(queue(), v);
    }
    atomic_store(word(rec.state, v), error === 0 ? IN : REFUSED);
  };
/** Takes a value for `taker`, waiting for one or not. */
function take(taker: number, wait: boolean): boolean {
  let v = queue_take(queue());
  while (v === undefined && wait && !queue_ended(queue())) {
    queue_sleep_items(queue(), WAIT_MS);
    v = queue_take(queue());
  }
  if (v === undefined) return false;
  const before = word(rec.last, taker * CPUS + Math.floor(v / VALUES));
  // One more than the value: 0 is none.
  if (mem.I32[before] > v) throw new Error(`value ${v} came after ${mem.I32[before] - 1}`);
  atomic_store(before, v + 1);
  if (atomic_add(word(rec.taken, v), 1) !== 0) throw new Error(`value ${v} came out twice`);
  return true;
}
const taking = (wait: boolean) => (): void => void take(curcpu(), wait);

export const script: SimScript = {
  help: 'queue: values are put and taken by three CPUs, waiting; none is lost or comes twice',
  cpus: CPUS,
  pages: false,
  victim: 1,
  kill_seeds: 6,
  setup() {
    registry_lock();
    const e = registry_add(registry_key('queue', 'sim'), '');
    if (queue_init(e, CAPACITY) !== 0) throw new Error('no memory for the ring');
    registry_ready(e);
    registry_unlock();
    rec.queue[scratch<rec_t>()] = e;
  },
  ops(cpu) {
    if (cpu === 0) {
      return [put(0, true), put(1, true), put(2, true), put(3, true), () => queue_close(queue())];
    }
    if (cpu === 1) {
      return [put(0, false), taking(false), put(1, true), taking(true), put(2, true)];
    }
    return Array.from({ length: 7 }, () => taking(true));
  },
  check() {
    queue_check(queue());
    while (take(CPUS, false)) queue_check(queue());
    let missing = 0;
    for (let v = 0; v < CPUS * VALUES; v++) {
      const state = mem.I32[word(rec.state, v)];
      const taken = mem.I32[word(rec.taken, v)];
      if (taken > 0 && state !== IN && state !== OFFERED) return `value ${v} was never put`;
      if (taken === 0 && state === IN) missing++;
    }
    if (!queue_ended(queue())) return 'the queue is not closed and empty';
    registry_check();
    return missing <= counter_get(v_reaps) ? undefined : `${missing} values are missing`;
  },
};
