/*
 * cpu_slots: how a thread becomes a CPU of a machine and stops being one.
 *
 *      take     word: FREE -> HELD by me      its memory stays as it is from here on
 *               bind                          columns, options, views
 *               fill the record, start        state: no PARKED, no FREE
 *               attach table
 *      leave    leave table                   caches to the zones, names, locks
 *               state: PARKED|FREE            once nobody claims it
 *               word: HELD by me -> FREE      last of all (CLOSED if the machine is down)
 *
 * Leaving is one way out for detach, exit, and the end of the script; a death is
 * settled by others (death.ts).  A shutdown either closes a FREE word or finds it HELD
 * and sets STOP, and STOP survives taking and leaving: no late attacher misses it.
 *
 * When every slot is held, some may be held by the dead.  Settling takes locks, and
 * locks need a CPU: the attacher finds out who is gone, takes a spare slot, settles
 * them, and gives it back.  There are two, so that a death on one is settled from the
 * other, also beside threads that live and are too busy to do it.
 *
 * When both spare slots, too, are held by the dead and nobody is alive, the attacher is
 * the *heir* of the first one: it takes that slot over, in the next incarnation, with the
 * record as the dead one left it.  First it settles what is in that record (inherit), and
 * if it dies the next attacher is its heir.
 *
 *      read every word: none FREE, every HELD one by a thread that is gone
 *      read every word again: all are as they were
 *      spare word: HELD by the dead, or SETTLE -> HELD by me, incarnation + 1
 *
 * The second look proves that at one moment nobody was a CPU: a HELD word is never twice
 * the same.  Nobody can become one afterwards, save by the swap, and only one swap finds
 * the word as it was.  So the heir is alone until it makes the first slot FREE, and by
 * then no lock leads to the dead one's record any more.
 *
 * The event loop of an attached thread that is idle keeps a doorbell: an
 * Atomics.waitAsync on its state word, armed on a value in which it has just
 * seen no request.  Another CPU sets a request bit and notifies; 10 to 15 us
 * later the idle thread serves it.  A pending waitAsync keeps no thread alive.
 */
import { atomic_cas, atomic_load, atomic_notify, atomic_or, atomic_store } from './atomic.ts';
import {
  CPU_DEAD,
  CPU_PARKED,
  CPU_REQ_DRAIN,
  CPU_HOLD,
  CPU_REQ_TLB,
  CPU_STOP,
  cpu_is_spare,
  cpu_state_word,
  cpu_tid,
  MAXCPU,
  mcache,
  mcache_of,
  pcpu,
  pcpu_of,
  type pcpu_t,
  poll,
  thr,
  thr_clear,
  thr_set,
} from './cpu.ts';
import { cpu_stop_clear } from './cpu_stop.ts';
import {
  attached_note,
  claim_wait,
  is_down,
  reap_all,
  slot_settle,
  inherit,
  word_gone,
  life_cpu,
  life_index,
  reap_pending,
  slot_empty,
  slot_next,
} from './death.ts';
import { EAGAIN, KmemError } from './errno.ts';
import { M, machine } from './header.ts';
import { host_js_tid, host_who, host_who_tid } from './host.ts';
import { life, life_run } from './life.ts';
import { mem, memory_state } from './memory.ts';
import { opt } from './opt.ts';
import { KernelPanic, panic, stopped_elsewhere } from './panic.ts';
import {
  LIFE_SPARE,
  SLOT_CLOSED,
  SLOT_FREE,
  SLOT_HELD,
  SLOT_SETTLE,
  SPARES,
  SLOTS_MAX,
  slot_incarnation,
  slot_load,
  slot_rest,
  slot_state,
  slot_swap,
  slot_word,
  type slot_word_t,
} from './slot_word.ts';
import { own_forget } from './store_own.ts';
import { field_word } from './struct.ts';
import { web_locks_leave } from './web_locks.ts';

/** What a thread has taken: a slot by its number, in an incarnation. */
export interface Taken {
  /** Index of its word: the slot, or from LIFE_SPARE on. */
  readonly cpu: number;
  readonly incarnation: number;
  readonly generation: number;
  /** The record is that of one who died on this spare slot. */
  readonly heir?: boolean;
}

/**
 * Takes a free slot of the machine of that generation.  Nothing else of the machine's
 * memory is touched: until this succeeds it may be another machine's.  null: none is
 * free.
 */
export function slot_take(generation: number): Taken | null {
  return take_among(0, SLOTS_MAX, generation);
}
function take_among(first: number, end: number, generation: number): Taken | null {
  for (let i = first; i < end; i++) {
    const incarnation = word_take(i, generation);
    if (incarnation >= 0) return { cpu: i, incarnation, generation };
  }
  return null;
}
/** Takes life index `i` for this thread: its incarnation, or -1. */
function word_take(i: number, generation: number): number {
  const v = slot_load(i);
  if (slot_state(v) !== SLOT_FREE || slot_rest(v) !== generation) return -1;
  const incarnation = slot_incarnation(v);
  return slot_swap(i, v, slot_word(SLOT_HELD, incarnation, host_who())) ? incarnation : -1;
}
/**
 * Gives back a slot that was taken but never started: the memory could not be bound.  What
 * an heir took over is left to be settled, by nobody at present.
 */
export function slot_untake(taken: Taken): void {
  const { cpu, incarnation, generation } = taken;
  const v = slot_load(cpu);
  if (slot_state(v) !== SLOT_HELD || slot_incarnation(v) !== incarnation) return;
  const left = taken.heir === true;
  const next = left
    ? slot_word(SLOT_SETTLE, incarnation, 0)
    : slot_word(SLOT_FREE, incarnation + 1, generation);
  slot_swap(cpu, v, next);
}
function slot_given_back(v: slot_word_t, down: boolean): slot_word_t {
  return down ? slot_word(SLOT_CLOSED, slot_incarnation(v) + 1, 0) : slot_next(v);
}

/** Says that no slot is to be had. This thread may not be bound to the machine. */
export function slots_full(): never {
  let n = 0;
  for (let i = 0; i < SLOTS_MAX; i++) if (slot_state(slot_load(i)) !== SLOT_CLOSED) n++;
  throw new KmemError(
    EAGAIN,
    'attach',
    `all ${n} CPU slots are taken: boot with more cpus, or detach a thread`,
  );
}
/**
 * Takes a spare slot of the machine of that generation, to settle the dead from there
 * when they hold all the others; the first one as an heir if `seen` is what the words of
 * all slots say while nobody lives.  The generation of a machine that an heir gets into is
 * looked at when it is in.  null: others have both at present.
 */
export function slot_take_spare(
  generation: number,
  seen: readonly slot_word_t[] | null = null,
): Taken | null {
  const free = take_among(LIFE_SPARE, LIFE_SPARE + SPARES, generation);
  if (free !== null || seen === null) return free;
  if (!seen.every((word, i) => slot_load(i) === word)) return null;
  const v = seen[LIFE_SPARE];
  const mine = slot_word(SLOT_HELD, slot_incarnation(v) + 1, host_who());
  if (!slot_swap(LIFE_SPARE, v, mine)) return null;
  return { cpu: LIFE_SPARE, incarnation: slot_incarnation(mine), generation, heir: true };
}

/** A slot's word, and the proof that its owner is gone: of that very word. */
export interface Left {
  readonly index: number;
  readonly word: slot_word_t;
}
/**
 * The slots that the dead left, spare ones too.  The host is asked here, by a thread that
 * is no CPU yet, so that nobody is interrupted by it on a spare slot; `half` says
 * that somebody has begun to settle one.  `seen` are the words of all slots if none is
 * free and nobody lives: who settles holds a slot, so no word of SETTLE is asked about.
 */
export function slots_left(): { left: Left[]; half: boolean; seen: slot_word_t[] | null } {
  const left: Left[] = [];
  const words: slot_word_t[] = [];
  let half = false;
  let lives = false;
  for (let index = 0; index < LIFE_SPARE + SPARES; index++) {
    const word = slot_load(index);
    const state = slot_state(word);
    words.push(word);
    if (state === SLOT_SETTLE) half = true;
    else if (state === SLOT_HELD && word_gone(index, word)) left.push({ index, word });
    else if (state !== SLOT_CLOSED || index >= LIFE_SPARE) lives = true; // or it can be taken
  }
  return { left, half, seen: lives ? null : words };
}
/** Settles them, from the spare slot that this thread has taken. Returns how many. */
export function slots_settle(left: readonly Left[], half: boolean): number {
  let n = 0;
  for (const { index, word } of left) {
    if (slot_settle(life_cpu(index), word)) n++;
  }
  return half ? n + reap_all() : n;
}

/**
 * Makes this thread the CPU that it took, with an empty record; its views are those of
 * the machine by now.  Throws if the machine was shut down or panicked meanwhile; the
 * thread has left it then.
 */
export function slot_start(taken: Taken): void {
  const cpu = life_cpu(taken.cpu);
  const pc = pcpu_of(cpu);
  if (!taken.heir) {
    mem.I32.fill(0, field_word(pcpu.cpuid, pc), pc + pcpu.sizeof);
    mem.I32.fill(0, mcache_of(cpu), mcache_of(cpu) + mcache.sizeof);
  }
  cpu_stop_clear(cpu);
  pcpu.cpuid[pc] = cpu;
  pcpu.critnest[pc] = 0;
  pcpu.counters[pc] = machine.counters[M] + cpu * machine.counter_words[M];
  atomic_store(field_word(pcpu.stopped, pc), 0);
  atomic_store(field_word(pcpu.waiting, pc), 0);
  atomic_store(field_word(pcpu.lock_seen, pc), 0);
  atomic_store(field_word(pcpu.os_tid, pc), opt.SIM ? 0 : host_who_tid(host_who()));
  // On a spare slot an heir would be taken for one who was there before, until it is stored.
  atomic_store(field_word(pcpu.js_tid, pc), cpu_is_spare(cpu) ? 0 : host_js_tid());
  thr_set(cpu, pc, cpu_tid(cpu, taken.incarnation));
  if (taken.heir) slot_inherit(pc);
  const w = cpu_state_word(cpu);
  for (;;) {
    const v = atomic_load(w);
    if (atomic_cas(w, v, v & CPU_STOP) === v) break;
  }
  attached_note();
  try {
    poll();
  } catch (e) {
    slot_leave(true);
    throw e;
  }
}
/** The words of an heir's record that no death table settles begin anew; the rest is settled. */
function slot_inherit(pc: pcpu_t): void {
  mem.I32.fill(0, field_word(pcpu.rw_used, pc), field_word(pcpu.undo_depth, pc));
  atomic_store(field_word(pcpu.signal, pc), 0);
  try {
    inherit();
  } catch (e) {
    slot_leave(true);
    throw e;
  }
}
/** The thread has joined: the floors hear of it, and its event loop hears other CPUs. */
export function slot_joined(): void {
  try {
    life_run(life.attach);
  } catch (e) {
    slot_leave(true);
    throw e;
  }
  if (!opt.SIM) doorbell_start();
}

/**
 * Gives this thread's slot back: the one way out.  The floors hand over what is
 * private, unless the machine is down or panicked, or `stopped` says that nothing is to
 * be touched.  A panic met on the way is thrown on when the slot is given back.
 */
export function slot_leave(stopped = false): void {
  const cpu = thr.cpu;
  if (cpu < 0) return;
  let panicked: unknown = null;
  try {
    if (!stopped) life_run(life.leave);
  } catch (e) {
    if (!(e instanceof KernelPanic || (e instanceof KmemError && e.code === 'ESHUTDOWN'))) throw e;
    if (!is_down()) panicked = e;
  }
  const w = cpu_state_word(cpu);
  atomic_or(w, CPU_PARKED);
  atomic_notify(w, MAXCPU); // the doorbell's waitAsync must not hear what is for the next owner
  const down = is_down();
  if (!down) {
    claim_wait(w);
    slot_empty(cpu);
  }
  const i = life_index(cpu);
  const v = slot_load(i);
  const own = slot_state(v) === SLOT_HELD && cpu_tid(cpu, slot_incarnation(v)) === thr.tid;
  if (!own || !slot_swap(i, v, slot_given_back(v, down))) {
    panic(`cpu${cpu} leaves a slot that is not its own`, `state ${slot_state(v)}`);
  }
  if (!down) attached_note();
  thr_forget(down);
  if (panicked !== null) throw panicked;
}
/** Forgets which CPU this thread was, without touching the machine. */
export function thr_forget(over = false): void {
  web_locks_leave();
  own_forget();
  thr_clear(over);
  bell_round++;
}

// --- the doorbell ------------------------------------------------------------

let bell_round = 0;

type WaitAsync = (
  view: Int32Array,
  index: number,
  value: number,
  ms?: number,
) => { async: boolean; value: Promise<string> | string };

function doorbell_start(): void {
  const wait_async = (Atomics as unknown as { waitAsync?: WaitAsync }).waitAsync;
  if (!memory_state.shared || !wait_async) return;
  doorbell_arm(wait_async, ++bell_round);
}
function doorbell_arm(wait_async: WaitAsync, round: number): void {
  const again = (): void => {
    if (round !== bell_round || thr.cpu < 0) return; // detached, or another machine by now
    try {
      doorbell_serve();
    } catch (e) {
      if (!stopped_elsewhere(e)) throw e;
      return; // nobody called: the next call says so
    }
    doorbell_arm(wait_async, round);
  };
  const v = atomic_load(field_word(pcpu.state, thr.pc));
  if (v & (CPU_STOP | CPU_DEAD)) return; // nothing more to serve: the next call says so
  const hold = (v & (CPU_HOLD | CPU_PARKED)) === CPU_HOLD; // a parked one waits later
  if ((v & (CPU_REQ_DRAIN | CPU_REQ_TLB) || hold) && !thr.away) return queueMicrotask(again);
  // Armed on a value without a request: a later one changes the word and rings.
  const r = wait_async(mem.I32, field_word(pcpu.state, thr.pc), v);
  if (r.async) (r.value as Promise<string>).then(again, again);
  else queueMicrotask(again);
}
function doorbell_serve(): void {
  const v = atomic_load(field_word(pcpu.state, thr.pc));
  if (v & (CPU_STOP | CPU_DEAD) || thr.away) return; // parked: others may claim what it has
  poll();
  reap_pending();
  life_run(life.bell);
}
