/*
 * cpu_slots: how a thread becomes a CPU of a machine and stops being one.
 *
 *      slot  FREE -> PARKED (taken, being filled in) -> 0 (running)
 *      detach: hand everything over -> PARKED -> FREE
 *
 * The event loop of an attached thread that is idle keeps a doorbell: an
 * Atomics.waitAsync on its state word, armed on a value in which it has just
 * seen no request.  Another CPU sets a request bit and notifies; 10 to 15 us
 * later the idle thread serves it.  A pending waitAsync keeps no thread alive.
 */
import { atomic_add, atomic_cas, atomic_load, atomic_or, atomic_store } from './atomic.ts';
import {
  CPU_DEAD,
  CPU_FREE,
  CPU_PARKED,
  CPU_REQ_DRAIN,
  CPU_REQ_TLB,
  CPU_STOP,
  cpu_ring,
  cpu_tid,
  mcache,
  mcache_of,
  pcpu,
  pcpu_of,
  poll,
  thr,
  thr_clear,
  thr_set,
  unpark,
} from './cpu.ts';
import { reap_pending, slot_release } from './death.ts';
import { EAGAIN, EBUSY, KmemError } from './errno.ts';
import { M, machine } from './header.ts';
import { host_js_tid, host_sleep, host_thread_start, host_tid } from './host.ts';
import { mem, memory_state } from './memory.ts';
import { opt } from './opt.ts';
import { field_word } from './struct.ts';

/** What the floors do when this thread joins or leaves, in order of registration. */
export const attach_hooks: (() => void)[] = [];
export const detach_hooks: (() => void)[] = [];

/**
 * Takes a free slot for this thread. Throws EBUSY if the thread has one
 * already, EAGAIN if none is free.
 */
export function slot_take(): number {
  if (thr.cpu >= 0) {
    throw new KmemError(EBUSY, 'attach', `this thread is CPU ${thr.cpu} of a machine already`);
  }
  const until = performance.now() + REAP_WAIT_MS;
  for (let asked = false; ; ) {
    const cpu = slot_find();
    if (cpu >= 0) {
      slot_fill(cpu);
      return cpu;
    }
    if (opt.SIM || performance.now() > until) break;
    if (!asked) ask_to_reap();
    asked = true;
    host_sleep(1);
  }
  thr_clear(false); // bound to the memory, but no CPU: the fast paths must not find a slot
  throw new KmemError(
    EAGAIN,
    'attach',
    `all ${machine.maxcpus[M]} CPU slots are taken: boot with more cpus, or detach a thread`,
  );
}
function slot_find(): number {
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    const w = field_word(pcpu.state, pcpu_of(cpu));
    const v = atomic_load(w);
    if (v & CPU_FREE && atomic_cas(w, v, (v & CPU_STOP) | CPU_PARKED) === v) return cpu;
  }
  return -1;
}
/** Settling the dead takes locks, and those need a CPU: the others are asked to do it. */
function ask_to_reap(): void {
  atomic_store(field_word(machine.reap_wanted, M), 1);
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    atomic_or(field_word(pcpu.state, pcpu_of(cpu)), CPU_REQ_DRAIN);
    cpu_ring(cpu);
  }
}
const REAP_WAIT_MS = 60;

function slot_fill(cpu: number): void {
  const pc = pcpu_of(cpu);
  const first = field_word(pcpu.cpuid, pc);
  mem.I32.fill(0, first, pc + pcpu.sizeof);
  mem.I32.fill(0, mcache_of(cpu), mcache_of(cpu) + mcache.sizeof);
  pcpu.cpuid[pc] = cpu;
  pcpu.counters[pc] = machine.counters[M] + cpu * machine.counter_words[M];
  const tid = opt.SIM ? 0 : host_tid();
  atomic_store(field_word(pcpu.os_start, pc), tid ? (host_thread_start(tid) ?? 0) : 0);
  atomic_store(field_word(pcpu.os_tid, pc), tid);
  atomic_store(field_word(pcpu.js_tid, pc), host_js_tid());
  atomic_store(field_word(pcpu.stopped, pc), 0);
  atomic_store(field_word(pcpu.waiting, pc), 0);
  thr_set(cpu, pc, cpu_tid(cpu, pcpu.incarnation[pc]));
  atomic_add(field_word(machine.attached, M), 1);
}

/** Brings the slot that `slot_take` took to life. */
export function slot_start(): void {
  unpark();
  for (const hook of attach_hooks) hook();
  if (!opt.SIM) doorbell_start();
}

/**
 * Gives this thread's slot back.  The floors hand over what is private first.
 * `over`: the machine is shut down.
 */
export function slot_leave(over = false): void {
  const cpu = thr.cpu;
  if (cpu < 0) return;
  for (const hook of detach_hooks) hook();
  atomic_or(field_word(pcpu.state, thr.pc), CPU_PARKED);
  slot_release(cpu);
  thr_forget(over);
}
/** Forgets which CPU this thread was, without touching the machine. */
export function thr_forget(over = false): void {
  thr_clear(over);
  bell_round++;
}

// --- the doorbell ------------------------------------------------------------

/** What an idle thread does when it is rung: filled by UMA (hand caches over). */
export const doorbell_hooks: (() => void)[] = [];
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
    doorbell_serve();
    doorbell_arm(wait_async, round);
  };
  const v = atomic_load(field_word(pcpu.state, thr.pc));
  if (v & (CPU_STOP | CPU_DEAD)) return; // nothing more to serve: the next call says so
  if (v & (CPU_REQ_DRAIN | CPU_REQ_TLB)) return queueMicrotask(again);
  // Armed on a value without a request: a later one changes the word and rings.
  const r = wait_async(mem.I32, field_word(pcpu.state, thr.pc), v);
  if (r.async) (r.value as Promise<string>).then(again, again);
  else queueMicrotask(again);
}
function doorbell_serve(): void {
  const v = atomic_load(field_word(pcpu.state, thr.pc));
  if (v & (CPU_STOP | CPU_DEAD)) return;
  poll();
  reap_pending();
  for (const hook of doorbell_hooks) hook();
}
