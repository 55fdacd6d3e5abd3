/*
 * subr_sleepqueue: msleep and wakeup.
 *
 * A thread that waits for something sleeps on a wait channel: any word index,
 * usually the record it waits for.  Channels hash to chains; a chain has a
 * mutex and a list of sleepers, oldest first.
 *
 *      chain[hash(wchan)]   lock · count · head -> sleeper -> sleeper
 *
 * Each CPU has one sleep record; a table of further ones serves callers that
 * wait in their event loop (waitAsync).  One of these stands for all the tasks of a
 * thread that wait for the same: it takes as many wake-ups as there are tasks, and
 * goes to the end of the chain after each, so that threads take turns.
 * A sleeper waits on a word of its own record only.
 *
 * Life of a sleep: under the chain lock the record goes to the tail and its
 * word becomes 1; then the interlock is given up; then the thread waits while
 * the word is 1.  A waker takes the record off, stores 0 and notifies.  A
 * sleeper whose time is over asks, under the chain lock, whether a waker has
 * chosen it: if so, that result stands.  It loops on its word, because a late
 * notification may end a later sleep.
 *
 * wakeup with nobody on the chain costs one atomic load.  That is sound if the
 * condition was changed under the interlock.
 *
 * A chain lock is innermost.  A death inside it is repaired by making the list
 * anew from the records, which say where they belong and in which order.
 * Modelled in models/sleepq.pml, with sleepers that are one task each.
 */
import {
  atomic_add,
  atomic_cas,
  atomic_load,
  atomic_notify,
  atomic_store,
  atomic_wait,
  atomic_xchg,
  cpu_spinwait,
} from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import {
  cpu_slots,
  park,
  pcpu,
  pcpu_of,
  type pcpu_t,
  thr,
  tid_cpu,
  UNDO_LEVELS,
  unpark,
} from '../machine/cpu.ts';
import { reap_all, tid_alive, tid_left_here } from '../machine/death.ts';
import { EINTR, EWOULDBLOCK } from '../machine/errno.ts';
import { boot_alloc, M, machine, ROOT_SLEEPQ } from '../machine/header.ts';
import { life, life_run } from '../machine/life.ts';
import { memory_state } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import {
  elem,
  field_word,
  get_string,
  i32,
  type LockField,
  lock_words,
  NULL,
  type Ptr,
  ptr,
  set_string,
  struct,
  words,
} from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import {
  lock_slice,
  MTX_WORDS,
  mtx_init,
  mtx_lock,
  mtx_lock_word,
  mtx_unlock,
} from './kern_mutex.ts';
import { LC_SLEEPQ, lock_order } from './lock_order.ts';
import { lock_take_over, lock_taken_from } from './lock_takeover.ts';
import { LOCK_CLASS, word_owner } from './lock_word.ts';
import { rw_reap, rw_reap_taken, rw_reap_write } from './rw_death.ts';
import { UNDO_PRIVATE, undo_log } from './undo.ts';
import { mem } from '../machine/memory.ts';
import { witness_sleep } from '../machine/parts.ts';

const CHAINS = 256;
const CHAINS_SMALL = 64;
const SMALL_MEMORY = 8 * 2 ** 20;
const SLICE_MAX_MS = 1000;
export const WMESG_WORDS = 6;

export type sleeper_t = Ptr<'sleeper'>;
type chain_t = Ptr<'sleepq_chain'>;
type sleepq_t = Ptr<'sleepq'>;

/*
 * Locks: (s) the chain's own lock  (a) atomic  (c) constant once booted
 *        (q) the lock of the chain that the record is on; off the chains, its CPU's own
 *        (h) beside it: a sample for the tools, or looked at again under the lock
 */
const sleeper = struct<sleeper_t>(
  'sleeper',
  16,
)({
  on: i32('qh', 'on a chain'),
  wchan: i32('qh', 'what it waits for'),
  next: ptr<sleeper_t>('q', 'next on the chain'),
  result: i32('q', 'errno the sleep ends with'),
  word: i32('a', '1 while asleep: the word it waits on'),
  ticket: i32('q', 'order of arrival'),
  cpu: i32('qh', 'slot of the thread; of a table entry while it waits'),
  used: i32('a', 'table entries: 1 + slot of the CPU that has it; 0: nobody'),
  owed: i32('q', 'asleep, or woken but not back yet: its wake-up is not used'),
  tasks: i32('qh', 'table entries: tasks that it stands for'),
  told: i32('q', 'table entries: wake-ups that were given and not taken yet'),
  wmesg: words('qh', 'why, for the tools', WMESG_WORDS),
});
export const sleepq_sleeper = sleeper;
const chain = struct<chain_t>(
  'sleepq_chain',
  16,
)({
  lock: lock_words(MTX_WORDS, 'sleep queue', 'the chain'),
  head: ptr<sleeper_t>('s', 'oldest sleeper'),
  tail: ptr<sleeper_t>('s', 'newest sleeper'),
  count: i32('a', 'sleepers on the chain'),
  tickets: i32('s', 'tickets given out'),
});
const sleepq = struct<sleepq_t>('sleepq')({
  chains: i32('c', 'number of chains, a power of two'),
  first_chain: ptr<chain_t>('c', 'chain 0'),
  first_sleeper: ptr<sleeper_t>('c', 'record of CPU 0; the table of others follows the CPUs'),
  sleepers: i32('c', 'records in all'),
});

function root(): sleepq_t {
  return machine.roots[elem(M, ROOT_SLEEPQ)] as sleepq_t;
}
function chain_of(wchan: number): chain_t {
  const q = root();
  const hash = Math.imul(wchan ^ (wchan >>> 9), 0x9e3779b1) >>> 16;
  return chain_at(hash & (sleepq.chains[q] - 1));
}
/** The lock of the chain that a channel hashes to, for the checks. */
export function sleepq_chain_lock(wchan: number): number {
  return chain_of(wchan) + chain.lock;
}
function chain_at(i: number): chain_t {
  return (sleepq.first_chain[root()] + i * chain.sizeof) as chain_t;
}
function sleeper_at(i: number): sleeper_t {
  return (sleepq.first_sleeper[root()] + i * sleeper.sizeof) as sleeper_t;
}

/** The sleep record of a CPU. */
export function sleepq_sleeper_of(cpu: number): sleeper_t {
  return sleeper_at(cpu);
}

/** Lays out the chains and the sleep records. */
export function sleepq_boot(): void {
  const small = machine.npages[M] * 4096 < SMALL_MEMORY;
  const chains = small ? CHAINS_SMALL : CHAINS;
  const sleepers = cpu_slots() + chains;
  const q = boot_alloc(sleepq.sizeof, 'sleep queues') as sleepq_t;
  machine.roots[elem(M, ROOT_SLEEPQ)] = q;
  sleepq.chains[q] = chains;
  sleepq.sleepers[q] = sleepers;
  sleepq.first_chain[q] = boot_alloc(chains * chain.sizeof, 'sleep queues', 16) as chain_t;
  sleepq.first_sleeper[q] = boot_alloc(sleepers * sleeper.sizeof, 'sleepers', 16) as sleeper_t;
  for (let i = 0; i < chains; i++) mtx_init(chain.lock, chain_at(i), LC_SLEEPQ);
  for (let i = 0; i < sleepers; i++) sleeper.cpu[sleeper_at(i)] = i;
}

// --- the chain's list, under its lock ----------------------------------------

function chain_link(c: chain_t, s: sleeper_t, wchan: number, wmesg: string): void {
  sleeper.wchan[s] = wchan;
  sleeper.result[s] = 0;
  set_string(sleeper.wmesg, s, WMESG_WORDS, wmesg);
  chain_append(c, s);
}
/** The record says what it waits for. */
function chain_append(c: chain_t, s: sleeper_t): void {
  sleeper.next[s] = NULL as sleeper_t;
  sleeper.ticket[s] = chain.tickets[c]++;
  atomic_store(field_word(sleeper.on, s), 1); // after wchan: abort looks from outside the lock
  const tail = chain.tail[c];
  if (tail === NULL) chain.head[c] = s;
  else sleeper.next[tail] = s;
  chain.tail[c] = s;
  atomic_add(field_word(chain.count, c), 1);
}
function chain_unlink(c: chain_t, s: sleeper_t): void {
  let before = NULL as sleeper_t;
  for (let at = chain.head[c]; at !== s; at = sleeper.next[at]) {
    if (at === NULL) panic('sleepq: a sleeper is on no chain', s * 4);
    before = at;
  }
  if (before === NULL) chain.head[c] = sleeper.next[s];
  else sleeper.next[before] = sleeper.next[s];
  if (chain.tail[c] === s) chain.tail[c] = before;
  sleeper.on[s] = 0;
  atomic_add(field_word(chain.count, c), -1);
}
/** Others come first now.  The record is on the chain all the time, for a rebuild. */
function chain_to_tail(c: chain_t, s: sleeper_t): void {
  if (chain.tail[c] === s) return;
  let before = NULL as sleeper_t;
  for (let at = chain.head[c]; at !== s; at = sleeper.next[at]) before = at;
  if (before === NULL) chain.head[c] = sleeper.next[s];
  else sleeper.next[before] = sleeper.next[s];
  sleeper.next[s] = NULL as sleeper_t;
  sleeper.ticket[s] = chain.tickets[c]++;
  sleeper.next[chain.tail[c]] = s;
  chain.tail[c] = s;
}

// --- sleeping ----------------------------------------------------------------

/**
 * Sleeps on `wchan` until a wakeup, giving up the mutex `f` of `p` meanwhile
 * and taking it again before returning.  `wmesg` is shown by the tools.
 * Returns 0, EWOULDBLOCK after `ms`, or the errno of an abort; EOWNERDEAD, and then
 * without the mutex, if that was abandoned meanwhile.
 */
export function msleep<P extends number>(
  wchan: number,
  f: LockField<P>,
  p: P,
  wmesg: string,
  ms: number,
): number {
  if (opt.WITNESS) witness_sleep(wmesg, p + f);
  const s = sleeper_at(thr.cpu);
  const error = sleepq_add(s, wchan, wmesg);
  if (error !== 0) return error;
  mtx_unlock(f, p);
  const result = sleepq_wait(s, ms);
  const refused = mtx_lock_word(p + f, Number.POSITIVE_INFINITY);
  sleeper.owed[s] = 0;
  if (refused === 0) return result;
  if (result === 0) wakeup_one(wchan); // the wake-up goes to one who can use it
  return refused;
}
/** msleep without an interlock: the caller looks at its condition in `still` once queued. */
export function tsleep(wchan: number, wmesg: string, ms: number, still: () => boolean): number {
  if (opt.WITNESS) witness_sleep(wmesg, 0);
  const s = sleeper_at(thr.cpu);
  const error = sleepq_add(s, wchan, wmesg);
  if (error !== 0) return error;
  if (!still()) {
    sleepq_cancel(s);
    return 0;
  }
  const result = sleepq_wait(s, ms);
  sleeper.owed[s] = 0;
  return result;
}

function sleepq_add(s: sleeper_t, wchan: number, wmesg: string): number {
  const c = chain_of(wchan);
  mtx_lock(chain.lock, c);
  const signal = atomic_load(field_word(pcpu.signal, thr.pc));
  if (signal !== 0) {
    atomic_store(field_word(pcpu.signal, thr.pc), 0);
    mtx_unlock(chain.lock, c);
    return signal;
  }
  if (opt.INVARIANTS && sleeper.on[s]) panic('msleep: already on a sleep queue', wmesg);
  chain_link(c, s, wchan, wmesg);
  atomic_store(field_word(sleeper.word, s), 1);
  sleeper.owed[s] = 1;
  mtx_unlock(chain.lock, c);
  return 0;
}
function sleepq_cancel(s: sleeper_t): void {
  const c = chain_of(sleeper.wchan[s]);
  mtx_lock(chain.lock, c);
  if (sleeper.on[s]) chain_unlink(c, s);
  sleeper.owed[s] = 0;
  atomic_store(field_word(sleeper.word, s), 0);
  mtx_unlock(chain.lock, c);
}
/** Shorter sleeps leave no time for work that can wait, ms. */
const IDLE_MS = 1;
function sleepq_wait(s: sleeper_t, ms: number): number {
  const w = field_word(sleeper.word, s);
  const deadline = now_ms() + ms;
  let slice = sysctl_get(lock_slice);
  // An abort that came before the record was queued found nobody to wake.
  if (atomic_load(field_word(pcpu.signal, thr.pc)) !== 0) sleepq_signalled(s);
  if (atomic_load(w) === 1 && ms >= IDLE_MS) life_run(life.idle);
  park();
  atomic_store(field_word(pcpu.waiting, thr.pc), w);
  while (atomic_load(w) === 1) {
    const left = deadline - now_ms();
    if (left <= 0) {
      sleepq_timeout(s);
      break;
    }
    if (atomic_wait(w, 1, Math.min(slice, left)) === 'timed-out') {
      if (!memory_state.shared && !opt.SIM) {
        sleepq_timeout(s); // nobody else could wake this thread
        break;
      }
      slice = Math.min(slice * 2, SLICE_MAX_MS);
      unpark(); // the waker may be dead: whoever is gets settled here
      reap_all();
      park();
      atomic_store(field_word(pcpu.waiting, thr.pc), w); // a lock taken meanwhile cleared it
    }
  }
  atomic_store(field_word(pcpu.waiting, thr.pc), 0);
  unpark();
  return sleeper.result[s];
}
function sleepq_signalled(s: sleeper_t): void {
  const c = chain_of(sleeper.wchan[s]);
  mtx_lock(chain.lock, c);
  const signal = field_word(pcpu.signal, thr.pc);
  const error = sleeper.on[s] ? atomic_xchg(signal, 0) : 0;
  if (error !== 0) {
    chain_unlink(c, s);
    sleeper.result[s] = error;
    atomic_store(field_word(sleeper.word, s), 0);
  }
  mtx_unlock(chain.lock, c);
}
function sleepq_timeout(s: sleeper_t): void {
  const c = chain_of(sleeper.wchan[s]);
  mtx_lock(chain.lock, c);
  if (sleeper.on[s]) {
    chain_unlink(c, s);
    sleeper.result[s] = EWOULDBLOCK;
    atomic_store(field_word(sleeper.word, s), 0);
  }
  mtx_unlock(chain.lock, c);
}

/** Wakes up to `n` sleepers or tasks on `wchan`, oldest first. Returns how many. */
export function wakeup_n(wchan: number, n: number): number {
  const c = chain_of(wchan);
  if (atomic_load(field_word(chain.count, c)) === 0) return 0;
  let woken = 0;
  let word = 0;
  let more: number[] | null = null;
  mtx_lock(chain.lock, c);
  for (let s = chain.head[c]; s !== NULL && woken < n; ) {
    const next = sleeper.next[s];
    if (sleeper.wchan[s] === wchan) {
      const w = field_word(sleeper.word, s);
      woken += sleeper_tell(c, s, n - woken);
      if (word === 0) word = w;
      else if (more === null) more = [w];
      else more.push(w);
    }
    s = next;
  }
  mtx_unlock(chain.lock, c);
  if (word !== 0) atomic_notify(word, 1);
  if (more !== null) for (const w of more) atomic_notify(w, 1);
  return woken;
}
/**
 * Takes a sleeper off its chain; returns the word to notify.  That comes after
 * the lock: the woken thread would run into it.  Should this thread die between
 * the two, the sleeper finds its word changed when its slice is over.
 */
function sleeper_choose(c: chain_t, s: sleeper_t, result: number): number {
  chain_unlink(c, s);
  sleeper.result[s] = result;
  const w = field_word(sleeper.word, s);
  atomic_store(w, 0);
  return w;
}
/**
 * Gives a sleeper a wake-up, or one that stands for tasks up to `n`; returns how many.
 * It stays on the chain as long as it stands for more.
 */
function sleeper_tell(c: chain_t, s: sleeper_t, n: number): number {
  const lacking = sleeper.tasks[s] - sleeper.told[s];
  if (sleeper.tasks[s] === 0) {
    sleeper_choose(c, s, 0);
    return 1;
  }
  const told = Math.min(n, lacking);
  sleeper.told[s] += told;
  if (told < lacking) {
    chain_to_tail(c, s);
    atomic_store(field_word(sleeper.word, s), 0);
  } else sleeper_choose(c, s, 0);
  return told;
}
/** Wakes everybody who sleeps on `wchan`. */
export function wakeup(wchan: number): number {
  return wakeup_n(wchan, Number.POSITIVE_INFINITY);
}
/** Wakes the oldest sleeper on `wchan`. */
export function wakeup_one(wchan: number): number {
  return wakeup_n(wchan, 1);
}
/** Ends another CPU's sleep with an errno, or its next one if it is awake. */
export function sleepq_abort(cpu: number, error = EINTR): void {
  const signal = field_word(pcpu.signal, pcpu_of(cpu));
  atomic_store(signal, error);
  const s = sleeper_at(cpu);
  // Its word is 0: it is awake, or will look at the signal once it is queued.
  while (atomic_load(field_word(sleeper.word, s)) === 1 && atomic_load(signal) !== 0) {
    const c = chain_of(sleeper.wchan[s]);
    mtx_lock(chain.lock, c);
    // `on` is read first: what it was queued with is then visible, and stays under this lock.
    const here = atomic_load(field_word(sleeper.on, s)) === 1 && chain_of(sleeper.wchan[s]) === c;
    const word = here && atomic_xchg(signal, 0) !== 0 ? sleeper_choose(c, s, error) : 0;
    mtx_unlock(chain.lock, c);
    if (word !== 0) atomic_notify(word, 1);
  }
}

// --- sleepers in an event loop -----------------------------------------------

/**
 * Takes a record of the table and queues it on `wchan`, for so many tasks; the caller
 * then waits with waitAsync while the word returned is 1.  0: the table is full.
 */
export function sleepq_async_add(wchan: number, wmesg: string, tasks = 1): number {
  const q = root();
  for (let i = cpu_slots(); i < sleepq.sleepers[q]; i++) {
    const s = sleeper_at(i);
    // One step says whose it is: the reaper finds it wherever its owner dies.
    if (atomic_cas(field_word(sleeper.used, s), 0, thr.cpu + 1) === 0) {
      const c = chain_of(wchan);
      mtx_lock(chain.lock, c);
      sleeper.cpu[s] = thr.cpu;
      sleeper.tasks[s] = tasks;
      sleeper.told[s] = 0;
      chain_link(c, s, wchan, wmesg);
      atomic_store(field_word(sleeper.word, s), 1);
      mtx_unlock(chain.lock, c);
      return field_word(sleeper.word, s);
    }
  }
  return 0;
}
function async_sleeper(word: number): sleeper_t {
  return (word - field_word(sleeper.word, 0 as sleeper_t)) as sleeper_t;
}
/**
 * Takes the wake-ups that an async sleeper was given, and queues it again for so many
 * tasks; returns how many.  If it had no more tasks than that, further wake-ups may have
 * found nobody.
 */
export function sleepq_async_take(word: number, tasks: number): number {
  const s = async_sleeper(word);
  const c = chain_of(sleeper.wchan[s]);
  mtx_lock(chain.lock, c);
  const told = sleeper.told[s];
  sleeper.told[s] = 0;
  sleeper.tasks[s] = tasks;
  if (sleeper.on[s] === 0) chain_append(c, s);
  atomic_store(word, 1);
  mtx_unlock(chain.lock, c);
  return told;
}
/**
 * One more task waits with an async sleeper.  True: it had been told so often as it had
 * tasks, so that further wake-ups may have found nobody.
 */
export function sleepq_async_more(word: number): boolean {
  const s = async_sleeper(word);
  const c = chain_of(sleeper.wchan[s]);
  mtx_lock(chain.lock, c);
  const off = sleeper.on[s] === 0;
  sleeper.tasks[s]++;
  if (off) chain_append(c, s);
  mtx_unlock(chain.lock, c);
  return off;
}
/**
 * So many tasks of an async sleeper have ended; at least one is left.  Returns the
 * wake-ups that are too many now: they are for others.
 */
export function sleepq_async_less(word: number, tasks: number): number {
  const s = async_sleeper(word);
  const c = chain_of(sleeper.wchan[s]);
  mtx_lock(chain.lock, c);
  const left = sleeper.tasks[s] - tasks;
  const over = Math.max(0, sleeper.told[s] - left);
  sleeper.tasks[s] = left;
  sleeper.told[s] -= over;
  if (sleeper.told[s] === left && sleeper.on[s] !== 0) chain_unlink(c, s);
  mtx_unlock(chain.lock, c);
  return over;
}
/** Gives an async sleeper back. Returns the wake-ups that it was given and did not take. */
export function sleepq_async_end(word: number): number {
  const s = async_sleeper(word);
  const c = chain_of(sleeper.wchan[s]);
  mtx_lock(chain.lock, c);
  if (sleeper.on[s] !== 0) chain_unlink(c, s);
  const told = sleeper.told[s];
  sleeper.told[s] = 0;
  sleeper.tasks[s] = 0;
  atomic_store(word, 0);
  mtx_unlock(chain.lock, c);
  atomic_store(field_word(sleeper.used, s), 0);
  return told;
}

/** Calls `fn` with the lock of each chain. */
export function sleepq_each_lock(fn: (l: number) => void): void {
  const n = Math.min(sleepq.chains[root()], CHAINS); // of a dump that is damaged not more
  for (let i = 0; i < n; i++) fn(chain_at(i) + chain.lock);
}
/** One who sleeps; `tasks`: so many of an event loop. */
export interface Asleep {
  readonly cpu: number;
  readonly wchan: number;
  readonly wmesg: string;
  readonly tasks: number;
}
/** Who sleeps where, for the tools: a sample. */
export function sleepq_list(): Asleep[] {
  const q = root();
  const list: Asleep[] = [];
  const n = Math.min(sleepq.sleepers[q], cpu_slots() + CHAINS); // the same
  for (let i = 0; i < n; i++) {
    const s = sleeper_at(i);
    if (sleeper.on[s]) {
      const wmesg = get_string(sleeper.wmesg, s, WMESG_WORDS);
      const tasks = Math.max(1, sleeper.tasks[s]);
      list.push({ cpu: sleeper.cpu[s], wchan: sleeper.wchan[s], wmesg, tasks });
    }
  }
  return list;
}

// --- deaths --------------------------------------------------------------------

/** Makes a chain's list anew from the records that say they are on it. */
export function chain_rebuild(lock: number): void {
  const c = (lock - chain.lock) as chain_t;
  const q = root();
  const on: sleeper_t[] = [];
  for (let i = 0; i < sleepq.sleepers[q]; i++) {
    const s = sleeper_at(i);
    if (sleeper.on[s] && chain_of(sleeper.wchan[s]) === c) on.push(s);
  }
  on.sort((a, b) => sleeper.ticket[a] - sleeper.ticket[b]);
  chain.head[c] = on[0] ?? (NULL as sleeper_t);
  chain.tail[c] = on[on.length - 1] ?? (NULL as sleeper_t);
  for (const [i, s] of on.entries()) sleeper.next[s] = on[i + 1] ?? (NULL as sleeper_t);
  atomic_store(field_word(chain.count, c), on.length);
}

/**
 * Takes over the locks that a dead CPU's logs name, and gives them back.  An heir does so
 * with its own record, of those who had it before.
 */
export function locks_reap(cpu: number): void {
  const pc = pcpu_of(cpu);
  if (cpu === thr.cpu) take_over_again(pc);
  for (let level = UNDO_LEVELS - 1; level >= 0; level--) {
    const l = mem.I32[undo_log(pc, level)];
    if (l !== 0 && l !== UNDO_PRIVATE) reap_lock(l, cpu);
  }
  for (let level = 0; level < UNDO_LEVELS; level++) await_play(pc, level);
  const recovering = pcpu.recover_lock[pc];
  if (recovering !== 0) {
    reap_lock(recovering, cpu);
    await_recovery(recovering, pc);
  }
  rw_reap(cpu);
}
function reap_lock(l: number, cpu: number): void {
  if (lock_order[mem.I32[l + LOCK_CLASS]].kind !== 'mtx') return rw_reap_write(l, cpu);
  const v = atomic_load(l);
  const owner = word_owner(v);
  if (cpu < 0 || cpu >= cpu_slots()) return; // nobody has it now
  if (tid_cpu(owner) !== cpu || !tid_left_here(owner)) return; // taken over by a waiter already
  mtx_reap(l, v, owner);
}
/** Takes a mutex over that the dead thread `owner` had, and gives it back. */
function mtx_reap(l: number, v: number, owner: number): void {
  if (!lock_take_over(l, v, owner, thr.tid | 1)) return;
  atomic_store(l, 0);
  atomic_notify(l, 1);
}
/**
 * An heir goes on with the takeover in which an owner of its record `pc` before it died.
 * That comes before it takes over any other lock: a record has room to note one.
 */
function take_over_again(pc: pcpu_t): void {
  const l = pcpu.recover_lock[pc];
  if (l === 0) return;
  const v = atomic_load(l);
  // Otherwise it never got the lock: whose that is says the word.
  if (lock_taken_from(l, word_owner(v), pc)) {
    const from = pcpu.recover_from[pc];
    const mtx = lock_order[mem.I32[l + LOCK_CLASS]].kind === 'mtx';
    if (mtx) mtx_reap(l, v, from);
    else rw_reap_taken(l, v, from);
  }
  pcpu.recover_lock[pc] = 0;
}
/**
 * A waiter that took the lock of a section over plays it back a few instructions
 * later.  Its end is waited for, because the lines that follow read words of the
 * dead CPU that the section may have changed.  If the waiter is dead too, its
 * recovery is followed from here.
 */
function await_play(pc: pcpu_t, level: number): void {
  const w = undo_log(pc, level);
  for (let round = 0; ; round++) {
    const l = atomic_load(w);
    if (l === 0 || l === UNDO_PRIVATE) return;
    if (lock_order[mem.I32[l + LOCK_CLASS]].kind !== 'mtx') return;
    const owner = word_owner(atomic_load(l));
    if (!tid_alive(owner)) reap_lock(l, tid_cpu(owner));
    if (round < PLAY_SPINS) cpu_spinwait();
    else atomic_wait(w, l, PLAY_SLICE_MS);
  }
}
/**
 * The dead CPU had been taking lock `l` over when it died, and another took it over from that
 * CPU: its end is waited for, and it is followed if it is dead too.  The way to the log of the
 * first who died with the lock leads through this record, which gets a new owner soon.
 */
function await_recovery(l: number, pc: pcpu_t): void {
  const w = field_word(pcpu.recover_lock, pc);
  for (let round = 0; atomic_load(w) === l; round++) {
    const owner = word_owner(atomic_load(l));
    if (!lock_taken_from(l, owner, pc)) return; // it never got the lock
    if (!tid_alive(owner)) reap_lock(l, tid_cpu(owner));
    if (round < PLAY_SPINS) cpu_spinwait();
    else atomic_wait(w, l, PLAY_SLICE_MS);
  }
}
const PLAY_SPINS = 1000;
const PLAY_SLICE_MS = 20;
/** Gives back the records on which a dead CPU's event loop waited. */
function reap_async_sleepers(cpu: number): void {
  const q = root();
  for (let i = cpu_slots(); i < sleepq.sleepers[q]; i++) {
    const s = sleeper_at(i);
    if (atomic_load(field_word(sleeper.used, s)) !== cpu + 1) continue;
    const wchan = sleeper.wchan[s];
    // Wake-ups that it never took go to the next.
    const told = sleepq_async_end(field_word(sleeper.word, s));
    if (told > 0) wakeup_n(wchan, told);
  }
}
/** Takes a dead CPU off its chain; a wake-up it was sent goes to the next. */
export function sleepq_reap(cpu: number): void {
  reap_async_sleepers(cpu);
  const s = sleeper_at(cpu);
  const wchan = sleeper.wchan[s];
  if (wchan === 0) return;
  const c = chain_of(wchan);
  mtx_lock(chain.lock, c);
  // Chosen, and dead before it was back with its mutex: nobody has used the wake-up.
  const chosen = sleeper.on[s] === 0 && sleeper.owed[s] !== 0 && sleeper.result[s] === 0;
  if (sleeper.on[s]) chain_unlink(c, s);
  sleeper.owed[s] = 0;
  sleeper.wchan[s] = 0;
  atomic_store(field_word(sleeper.word, s), 0);
  mtx_unlock(chain.lock, c);
  if (chosen) wakeup_one(wchan);
}
/** Proves the chains: every record that is on, is on its chain once, and counts add up. */
export function sleepq_check(): void {
  const q = root();
  for (let i = 0; i < sleepq.chains[q]; i++) {
    const c = chain_at(i);
    mtx_lock(chain.lock, c);
    let n = 0;
    for (let s = chain.head[c]; s !== NULL; s = sleeper.next[s]) {
      if (!sleeper.on[s]) panic('sleepq_check: off, but on a chain', s * 4);
      if (chain_of(sleeper.wchan[s]) !== c) panic('sleepq_check: on a wrong chain', s * 4);
      if (sleeper.told[s] > sleeper.tasks[s]) panic('sleepq_check: told too often', s * 4);
      if (sleeper.next[s] === NULL && chain.tail[c] !== s) panic('sleepq_check: tail', i);
      if (++n > sleepq.sleepers[q]) panic('sleepq_check: the chain is a ring', i);
    }
    if (n !== chain.count[c]) panic('sleepq_check: count', i, n, chain.count[c]);
    mtx_unlock(chain.lock, c);
  }
}
