/*
 * kern_queue: values that go from any CPU to any CPU, in order, bounded.
 *
 *             head          (head + count) % capacity
 *               |               |
 *      ring  |  | v | v | v | v |  |  |  |        doubles: addresses, items, numbers
 *
 *      queue_put                         queue_take
 *      ---------                         ----------
 *      lock                              lock
 *      value into its place              value out of its place
 *      save count                        save head, count
 *      count + 1                         head + 1, count - 1
 *      unlock                            unlock
 *      wake one that waits for values    wake one that waits for space
 *
 * A value belongs to the queue from the store of `count` on that takes it in, and no
 * longer from the store of `count` on that gives it out.  Before and after it is in the
 * hands of one CPU: the place that a put fills is nobody's until the count says so.
 *
 * Deaths.  Head and count change in an undo section of the queue's lock, so whoever takes
 * the lock over finds the ring as it was before the dead CPU's put or take.  At most the
 * value in the dead CPU's hands is lost.  A CPU may also die after its unlock and before
 * it wakes anybody, or after it was woken itself and before it took anything: sleeps are
 * cut into slices by whoever calls, so the next one looks for itself.
 *
 * Sleeping.  queue_put and queue_take never wait for a value or for room.  queue_sleep_*
 * look under the lock and sleep if there is still nothing; the caller then tries again,
 * because another may have been quicker.
 *
 * The end.  A closed queue takes nothing in and gives out what it has; `closed` never
 * goes back to 0.  queue_ended is final for that reason.  The ring comes with the entry
 * and goes with it (kern_registry_parts.ts).
 *
 * Locks.  The queue's own, of class `registry`, recovery `undo`.  It is never held with
 * the registry's, which is of the same class.  The locks of sleep queues nest inside; no
 * memory is asked for.
 *
 * Always true, and proved by queue_check():
 *   - 0 <= head < capacity and 0 <= count <= capacity
 *
 * Unlike FreeBSD's buf_ring, which spins and needs a power of two: threads here sleep,
 * and one of them may vanish at any step.
 */
import { EAGAIN, ENOMEM, ESHUTDOWN } from '../machine/errno.ts';
import { mem as mem_ } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { field_word } from '../machine/struct.ts';
import { W_QPOP, W_QPUSH } from '../machine/wmesg.ts';
import { type reg_entry_t, reg_queue } from '../h/registry.ts';
import { free_at, malloc_at } from '../kmem/kern_malloc.ts';
import { MALLOC_DEFINE } from '../kmem/kern_malloc_type.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_REGISTRY } from '../sync/lock_order.ts';
import { msleep, wakeup, wakeup_one } from '../sync/subr_sleepqueue.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';

// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const queue = reg_queue;

const M_QUEUE = MALLOC_DEFINE('queue', 'Rings of the queues of programs');

// --- coming and going --------------------------------------------------------------------------

/** Makes the parts of a queue. The registry's lock is held. 0, or ENOMEM. */
export function queue_init(e: reg_entry_t, capacity: number): number {
  mtx_init(queue.lock, e, LC_REGISTRY);
  if (malloc_at(capacity * 8, M_QUEUE.t, field_word(queue.ring, e)) === 0) return ENOMEM;
  queue.capacity[e] = capacity;
  return 0;
}
/** Gives the ring back, if there is one. The registry's lock is held; nobody uses the queue. */
export function queue_end(e: reg_entry_t): void {
  free_at(field_word(queue.ring, e), M_QUEUE.t);
}

// --- values in and out -------------------------------------------------------------------------

/** Index of a place of the ring, as a double. */
function place(e: reg_entry_t, i: number): number {
  return (queue.ring[e] >> 1) + i;
}
/** Puts a value at the end. 0, EAGAIN if the queue is full, ESHUTDOWN if it is closed. */
export function queue_put(e: reg_entry_t, value: number): number {
  mtx_lock(queue.lock, e);
  const n = queue.count[e];
  const capacity = queue.capacity[e];
  let error = 0;
  if (queue.closed[e] !== 0) error = ESHUTDOWN;
  else if (n >= capacity) error = EAGAIN;
  else {
    mem.F64[place(e, (queue.head[e] + n) % capacity)] = value;
    undo_begin(queue.lock, e);
    save(queue.count, e);
    queue.count[e] = n + 1;
    undo_end();
  }
  mtx_unlock(queue.lock, e);
  if (error === 0) wakeup_one(field_word(queue.items, e));
  return error;
}
/** Takes the first value; undefined if there is none. */
export function queue_take(e: reg_entry_t): number | undefined {
  let value: number | undefined;
  mtx_lock(queue.lock, e);
  const n = queue.count[e];
  if (n > 0) {
    const head = queue.head[e];
    value = mem.F64[place(e, head)];
    undo_begin(queue.lock, e);
    save(queue.head, e);
    save(queue.count, e);
    queue.head[e] = head + 1 === queue.capacity[e] ? 0 : head + 1;
    queue.count[e] = n - 1;
    undo_end();
  }
  mtx_unlock(queue.lock, e);
  if (value !== undefined) wakeup_one(field_word(queue.space, e));
  return value;
}

// --- waiting -----------------------------------------------------------------------------------

/** Sleeps at most `ms` while the queue is empty and open. The caller takes again then. */
export function queue_sleep_items(e: reg_entry_t, ms: number): void {
  mtx_lock(queue.lock, e);
  if (queue.count[e] === 0 && queue.closed[e] === 0)
    msleep(field_word(queue.items, e), queue.lock, e, W_QPOP, ms); // errno: the caller looks again
  mtx_unlock(queue.lock, e);
}
/** Sleeps at most `ms` while the queue is full and open. The caller puts again then. */
export function queue_sleep_space(e: reg_entry_t, ms: number): void {
  mtx_lock(queue.lock, e);
  if (queue.count[e] >= queue.capacity[e] && queue.closed[e] === 0)
    msleep(field_word(queue.space, e), queue.lock, e, W_QPUSH, ms); // errno: the caller looks again
  mtx_unlock(queue.lock, e);
}

// --- the end -----------------------------------------------------------------------------------

/** Closes the queue for good, and wakes all that wait. */
export function queue_close(e: reg_entry_t): void {
  mtx_lock(queue.lock, e);
  queue.closed[e] = 1;
  mtx_unlock(queue.lock, e);
  wakeup(field_word(queue.items, e));
  wakeup(field_word(queue.space, e));
}
/** Whether nothing will ever come out any more. */
export function queue_ended(e: reg_entry_t): boolean {
  return queue.closed[e] !== 0 && queue.count[e] === 0; // in this order: a closed one only shrinks
}
/** Proves a queue. Panics if it is wrong. The machine is quiet; the registry's lock is free. */
export function queue_check(e: reg_entry_t): void {
  mtx_lock(queue.lock, e); // what a dead CPU left half done is taken back
  const [head, count, capacity] = [queue.head[e], queue.count[e], queue.capacity[e]];
  mtx_unlock(queue.lock, e);
  if (head < 0 || head >= capacity) panic('queue_check: head', e * 4, head, capacity);
  if (count < 0 || count > capacity) panic('queue_check: count', e * 4, count, capacity);
}
