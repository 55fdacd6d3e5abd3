/*
 * death: a thread that vanishes must not wedge the machine.
 *
 * A worker that is terminated, calls process.exit() or runs out of memory ends
 * at any instruction, without `finally`.  Its death is noticed by whoever
 * needs something of it: a waiter whose slice ends looks whether the owner of
 * its lock is alive, a drainer looks after its deadline, attach looks when no
 * slot is free, the thread that made the worker hears its exit.  Settling it is
 *
 *      word: HELD by the dead -> SETTLE by me     one settler at a time (slot_word.ts)
 *      state |= DEAD|PARKED                       nobody claims it any more;
 *                                                 a claim that stands is waited for
 *      the death tables, floor by floor           its locks, its sleep record, the pages and
 *                                                 the bucket in its hand, its caches
 *      state -> FREE, word -> FREE                the slot can be taken again
 *
 * Every step may be done twice, so a settler that dies, or is stopped, is followed by
 * another.
 *
 * Proof.  Only the host's clear word that there is no such thread counts (host_gone),
 * or the exit of the worker, heard from the host.  All else means that it lives.
 *
 * What the program had allocated stays allocated: it may be shared.  At most one item
 * per zone is lost, between a cache and its caller; it is counted in
 * vm.reap.items_lost.
 *
 * Settling takes locks, so it runs only where this CPU holds none; until then the
 * thread notes that there is something to do.  What takes no lock may be done at once
 * (dead_each).
 */
import { atomic_and, atomic_cas, atomic_load, atomic_notify, atomic_or } from './atomic.ts';
import { atomic_store, atomic_wait } from './atomic.ts';
import { counter_add, counter_u64 } from './counter.ts';
import {
  CPU_CLAIM,
  CPU_CLAIMER,
  CPU_DEAD,
  CPU_FREE,
  CPU_PARKED,
  CPU_STOP,
  claimer_of,
  cpu_is_spare,
  cpu_slots,
  cpu_state_word,
  cpu_tid,
  MAXCPU,
  pcpu,
  pcpu_of,
  poll,
  thr,
  tid_cpu,
} from './cpu.ts';
import { KmemError } from './errno.ts';
import { M, machine, PHASE_DOWN } from './header.ts';
import { host_gone, host_who_of_js } from './host.ts';
import { life, life_run_for } from './life.ts';
import { opt } from './opt.ts';
import { KernelPanic, panic } from './panic.ts';
import {
  LIFE_SPARE,
  SLOT_CLOSED,
  SLOT_FREE,
  SLOT_HELD,
  SLOT_SETTLE,
  slot_incarnation,
  slot_load,
  slot_rest,
  slot_state,
  slot_swap,
  slot_word,
  type slot_word_t,
} from './slot_word.ts';
import { field_word } from './struct.ts';

export const v_reaps = counter_u64('vm.reap.cpus', 'Threads that vanished and were settled');
export const v_reap_items = counter_u64(
  'vm.reap.items_lost',
  'Items lost between a cache and its caller when a thread vanished',
);
export const v_reap_pages = counter_u64(
  'vm.reap.pages',
  'Pages recovered from the hands of vanished threads',
);
export const v_reap_locks = counter_u64('vm.reap.locks', 'Locks taken over from vanished threads');

/** For tests and the seeded scheduler: says which slots' owners are dead. */
export const death_oracle: { dead: ((cpu: number) => boolean) | null } = { dead: null };

/** Where the word of slot `cpu` lies. */
export function life_index(cpu: number): number {
  return cpu_is_spare(cpu) ? LIFE_SPARE + cpu - machine.maxcpus[M] : cpu;
}
/** The CPU slot whose word lies there. */
export function life_cpu(index: number): number {
  return index >= LIFE_SPARE ? machine.maxcpus[M] + index - LIFE_SPARE : index;
}

// --- who lives -----------------------------------------------------------------------

/** JavaScript threads whose exit this thread heard. An id is never given twice. */
const exits = new Set<number>();

/** Whether the owner that the HELD word `v` of slot `cpu` names is proved to be gone. */
function gone(cpu: number, v: slot_word_t): boolean {
  if (death_oracle.dead) return death_oracle.dead(cpu);
  const who = slot_rest(v);
  // Read after v: an id that is there belongs to the owner in v (0 when it became FREE).
  const js = atomic_load(field_word(pcpu.js_tid, pcpu_of(cpu)));
  if (js !== 0 && exits.has(js)) return true;
  return who_gone(who);
}
/** Whether the owner that a HELD word names is proved to be gone, for a caller that is no CPU. */
export function word_gone(index: number, v: slot_word_t): boolean {
  if (death_oracle.dead) return death_oracle.dead(life_cpu(index));
  return who_gone(slot_rest(v));
}
/** Whether the thread is proved to be gone, for a caller that is no CPU. Asks the host. */
export function who_gone(who: number): boolean {
  return host_gone(who) || exits_by_who.has(who);
}
/** The same for hosts that show no threads: there `who` is made of the JavaScript id. */
const exits_by_who = new Set<number>();

/** Whether the thread in a slot lives. A free slot, or one being settled, has none. */
export function cpu_alive(cpu: number): boolean {
  if (cpu === thr.cpu) return true;
  const v = slot_load(life_index(cpu));
  return slot_state(v) === SLOT_HELD && !gone(cpu, v);
}
/** Whether the CPU that a lock word or claim names still lives in that incarnation. */
export function tid_alive(tid: number): boolean {
  const cpu = tid_cpu(tid);
  if (cpu < 0 || cpu >= cpu_slots()) return false;
  if ((tid & ~7) === thr.tid) return true;
  const v = slot_load(life_index(cpu));
  if (slot_state(v) !== SLOT_HELD) return false;
  if (cpu_tid(cpu, slot_incarnation(v)) !== (tid & ~7)) return false;
  return !gone(cpu, v);
}
/**
 * Whether what the thread `tid` had of locks may stand in its slot's record: the slot
 * has had no owner since, or this thread is its heir (inherit).  Others need not ask
 * that of an heir: before it is through with the locks nobody else is a CPU.
 */
export function tid_left_here(tid: number): boolean {
  const cpu = tid_cpu(tid);
  return slot_tid(cpu) === tid || (cpu === thr.cpu && cpu_is_spare(cpu));
}
/** The incarnation that a slot is in: of its owner, or of the next one. */
export function cpu_incarnation(cpu: number): number {
  return slot_incarnation(slot_load(life_index(cpu)));
}
/** The tid of whom a slot belongs to, or of its next owner while it is free. */
export function slot_tid(cpu: number): number {
  return cpu_tid(cpu, cpu_incarnation(cpu));
}
/** Threads that hold a slot, counted now; dead ones count until they are settled. */
export function cpus_attached(): number {
  let n = 0;
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    const state = slot_state(slot_load(cpu));
    if (state === SLOT_HELD || state === SLOT_SETTLE) n++;
  }
  return n;
}
/** Notes the number of threads for tools that look at the memory. */
export function attached_note(): void {
  atomic_store(field_word(machine.attached, M), cpus_attached());
}

// --- when to look ------------------------------------------------------------------------

let wanted = false;
/** Notes that a CPU was seen dead; it is reaped at the next safe place. */
export function reap_want(): void {
  wanted = true;
}
/** Forgets it: the scheduler of sim begins a run as if nothing had been seen. */
export function reap_unwant(): void {
  wanted = false;
}
/** Reaps whatever is known to be dead. The caller holds no lock. */
export function reap_pending(): void {
  if (wanted) reap_all();
}
/** Looks at every slot and reaps the dead. Returns how many. */
export function reap_all(): number {
  wanted = false;
  let n = 0;
  for (let cpu = 0; cpu < cpu_slots(); cpu++) if (cpu_reap(cpu)) n++;
  return n;
}

/**
 * The exit of a worker, as the thread that made it hears it; `js_tid` is what the
 * worker's threadId was while it ran.
 */
export function cpu_exited(js_tid: number): void {
  if (js_tid <= 0) return;
  exits.add(js_tid);
  exits_by_who.add(host_who_of_js(js_tid));
  if (thr.cpu >= 0) reap_all(); // else at the next look: settling takes locks, and those need a CPU
}
/**
 * Settles slot `cpu` if it is still in that incarnation, of whose owner the caller
 * knows for sure that it is gone.
 */
export function cpu_gone(cpu: number, incarnation: number): void {
  if (thr.cpu < 0 || cpu === thr.cpu) return;
  const v = slot_load(life_index(cpu));
  if (slot_state(v) === SLOT_HELD && slot_incarnation(v) === incarnation) settle(cpu, v);
}
/**
 * Settles slot `cpu` if its owner is gone. True if this call did it.  Throws ESHUTDOWN
 * if the machine is down: then nothing is worth settling, but the owner may have died
 * in the middle of ending it.
 */
export function cpu_reap(cpu: number): boolean {
  if (cpu === thr.cpu || thr.cpu < 0) return false;
  const v = slot_load(life_index(cpu));
  if (!is_left(cpu, v)) return false;
  if (!is_down()) return settle(cpu, v);
  slots_close();
  poll();
  return false;
}

/** Settles slot `cpu`, whose owner in the word `v` was proved to be gone. True: this call did. */
export function slot_settle(cpu: number, v: slot_word_t): boolean {
  return cpu !== thr.cpu && !is_down() && settle(cpu, v);
}
/** Whether the machine was shut down. */
export function is_down(): boolean {
  return atomic_load(field_word(machine.phase, M)) === PHASE_DOWN;
}
/**
 * Ends the machine: no slot can be taken any more, and those who hold one are told to
 * stop.  Begun by who shuts it down; who finds that one dead in the middle begins again
 * and stops with the others.
 */
export function slots_close(): void {
  const begun = is_down();
  atomic_store(field_word(machine.phase, M), PHASE_DOWN);
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if ((cpu === thr.cpu && !begun) || slot_close(cpu)) continue;
    const w = cpu_state_word(cpu);
    atomic_or(w, CPU_STOP);
    atomic_notify(w, MAXCPU);
  }
}
/** Closes the slot of a machine that is going down, if it is free. */
function slot_close(cpu: number): boolean {
  const i = life_index(cpu);
  for (;;) {
    const v = slot_load(i);
    if (slot_state(v) === SLOT_HELD || slot_state(v) === SLOT_SETTLE) return false;
    if (slot_swap(i, v, slot_word(SLOT_CLOSED, slot_incarnation(v), 0))) return true;
  }
}

// --- settling --------------------------------------------------------------------------------

/** Whether the slot's owner is gone and nobody alive is settling it. */
function is_left(cpu: number, v: slot_word_t): boolean {
  const state = slot_state(v);
  if (state === SLOT_HELD) return gone(cpu, v);
  if (state !== SLOT_SETTLE) return false;
  const by = slot_rest(v) * 8;
  return by === 0 || !tid_alive(by);
}
function settled_by_me(v: slot_word_t): slot_word_t {
  return slot_word(SLOT_SETTLE, slot_incarnation(v), thr.tid >>> 3);
}

/** Whether this CPU is settling slot `cpu`, whose locks come first in that. */
export function settled_here(cpu: number): boolean {
  const v = slot_load(life_index(cpu));
  return slot_state(v) === SLOT_SETTLE && v === settled_by_me(v);
}

function settle(cpu: number, seen: slot_word_t): boolean {
  const i = life_index(cpu);
  const mine = settled_by_me(seen);
  if (!slot_swap(i, seen, mine)) return false;
  const w = cpu_state_word(cpu);
  atomic_or(w, CPU_DEAD | CPU_PARKED);
  claim_wait(w);
  settle_by(life.death_lockless, cpu);
  settle_by(life.death, cpu);
  counter_add(v_reaps, 1);
  slot_empty(cpu);
  if (!slot_swap(i, mine, slot_next(mine)))
    panic(`cpu${cpu}: its word changed while being settled`);
  attached_note();
  return true;
}
function settle_by(table: typeof life.death, cpu: number): void {
  try {
    life_run_for(table, cpu);
  } catch (e) {
    // Stopped in the middle: SETTLE stays, by one that is not alive once it has left.
    if (e instanceof KernelPanic || (e instanceof KmemError && e.code === 'ESHUTDOWN')) throw e;
    if (opt.SIM) throw e; // the scheduler ends this CPU
    panic(`settling cpu${cpu}`, (e as Error).stack ?? String(e));
  }
}
/**
 * This thread is the heir of its spare slot: it settles what those who died on the slot
 * left in the record, which is its own now.  The locks come first: nobody else is a CPU, and
 * each step of that can be done from this very record.  Then nothing is half changed, the
 * record is as if all were its own, and the rest is done as for anybody else.  That may make
 * a slot FREE: the flag FREE of this one keeps claims away.  A death in here leaves a record
 * to which the next heir does the same.
 */
export function inherit(): void {
  const cpu = thr.cpu;
  const w = cpu_state_word(cpu);
  for (;;) {
    const v = atomic_load(w);
    const kept = v & (CPU_STOP | CPU_CLAIM | CPU_CLAIMER);
    if (atomic_cas(w, v, kept | CPU_FREE) === v) break;
  }
  settle_by(life.death_lockless, cpu);
  claim_wait(w);
  settle_by(life.death, cpu);
  counter_add(v_reaps, 1);
}
/** The word of the slot when its owner is no more: FREE for the next one, by this generation. */
export function slot_next(v: slot_word_t): slot_word_t {
  return slot_word(SLOT_FREE, slot_incarnation(v) + 1, machine.generation[M]);
}
/** Nothing of the owner is left in the record, and nobody may claim it. STOP stays. */
export function slot_empty(cpu: number): void {
  const pc = pcpu_of(cpu);
  atomic_store(field_word(pcpu.js_tid, pc), 0);
  atomic_store(field_word(pcpu.os_tid, pc), 0);
  atomic_store(field_word(pcpu.waiting, pc), 0);
  const w = cpu_state_word(cpu);
  for (;;) {
    const v = atomic_load(w);
    if (atomic_cas(w, v, (v & CPU_STOP) | CPU_PARKED | CPU_FREE) === v) return;
  }
}
/**
 * Waits until nobody claims the CPU with state word `w`, which is parked for good.  A
 * claim is straight-line work; one whose owner died is undone here.
 */
export function claim_wait(w: number): void {
  for (;;) {
    const v = atomic_load(w);
    if ((v & CPU_CLAIM) === 0) return;
    if (atomic_wait(w, v, CLAIM_SLICE_MS) === 'timed-out') claim_stuck(v);
  }
}
const CLAIM_SLICE_MS = 20;

/**
 * Holds each CPU that is dead for a moment and lets `run` give back something
 * small of it; the rest is left to the reaper.  `run` takes no lock, so this is
 * allowed where the caller holds some.
 */
export function dead_each(run: (cpu: number) => void): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) dead_hold(cpu, run);
}
function dead_hold(cpu: number, run: (cpu: number) => void): void {
  if (cpu === thr.cpu) return;
  const i = life_index(cpu);
  const v = slot_load(i);
  if (!is_left(cpu, v)) return;
  const mine = settled_by_me(v);
  if (!slot_swap(i, v, mine)) return;
  const w = cpu_state_word(cpu);
  const state = atomic_or(w, CPU_DEAD | CPU_PARKED);
  const by = claimer_of(state);
  // While somebody claims it, its private things are not ours.
  if ((state & CPU_CLAIM) === 0 || by < 0 || !cpu_alive(by)) run(cpu);
  slot_swap(i, mine, slot_word(SLOT_SETTLE, slot_incarnation(v), 0));
  wanted = true;
}

/** Frees whom a dead CPU held by a claim; what it did under its locks has been undone. */
export function claims_reap(dead: number): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const w = cpu_state_word(cpu);
    const v = atomic_load(w);
    if ((v & CPU_CLAIM) === 0 || claimer_of(v) !== dead) continue;
    atomic_and(w, ~(CPU_CLAIM | CPU_CLAIMER));
    atomic_notify(w, 1);
  }
}
/** A CPU cannot come back because of a claim: it settles the claimer itself if that is dead. */
export function claim_stuck(state: number): void {
  const by = claimer_of(state);
  if (by >= 0 && by !== thr.cpu) dead_hold(by, (cpu) => life_run_for(life.death_lockless, cpu));
}
