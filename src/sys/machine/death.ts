/*
 * death: a thread that vanishes must not wedge the machine.
 *
 * A worker that is terminated, calls process.exit() or runs out of memory ends
 * at any instruction, without `finally`.  Its death is noticed by whoever
 * needs something of it: a waiter whose slice ends looks whether the owner of
 * its lock is alive, a drainer looks after its deadline, attach looks when no
 * slot is free.  `cpu_reap` then settles what it left:
 *
 *      state -> DEAD|CLAIM        one reaper per incarnation
 *      hooks, floor by floor      its locks, its sleep record, the page and
 *                                 the bucket in its hand, its caches
 *      state -> FREE              the slot can be taken again
 *
 * What the program had allocated stays allocated: it may be shared.
 * At most one item per zone is lost, between a cache and its caller; it is
 * counted in vm.reap.items_lost.
 *
 * Reaping takes locks, so it runs only where this CPU holds none:
 * `reap_wanted` marks that there is something to do.
 */
import { atomic_and, atomic_cas, atomic_load, atomic_notify, atomic_store } from './atomic.ts';
import { counter_add, counter_u64 } from './counter.ts';
import {
  CPU_CLAIM,
  CPU_CLAIMER,
  CPU_DEAD,
  CPU_FREE,
  CPU_PARKED,
  claim_hooks,
  claimer_of,
  cpu_tid,
  INCARNATION_MASK,
  pcpu,
  pcpu_of,
  thr,
  tid_cpu,
} from './cpu.ts';
import { M, machine } from './header.ts';
import { host_sees_threads, host_thread_start } from './host.ts';
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

/** What each floor does for a CPU that is gone, lowest floor first. */
export const reap_hooks: { name: string; order: number; run: (cpu: number) => void }[] = [];
/** Adds a floor's part to the reaping of a CPU; lower `order` runs first. */
export function reap_register(name: string, order: number, run: (cpu: number) => void): void {
  reap_hooks.push({ name, order, run });
  reap_hooks.sort((a, b) => a.order - b.order);
}

/** For tests and the seeded scheduler: says which incarnations are dead. */
export const death_oracle: { dead: ((cpu: number) => boolean) | null } = { dead: null };

/** Whether the CPU that a lock word or claim names still lives in that incarnation. */
export function tid_alive(tid: number): boolean {
  const cpu = tid_cpu(tid);
  if (cpu < 0 || cpu >= machine.maxcpus[M]) return false;
  const incarnation = atomic_load(field_word(pcpu.incarnation, pcpu_of(cpu)));
  if ((cpu_tid(cpu, incarnation) & ~7) !== (tid & ~7)) return false;
  return cpu_alive(cpu);
}

/** Whether the thread in a slot lives. A free slot counts as not alive. */
export function cpu_alive(cpu: number): boolean {
  if (cpu === thr.cpu) return true;
  const pc = pcpu_of(cpu);
  const state = atomic_load(field_word(pcpu.state, pc));
  if (state & (CPU_DEAD | CPU_FREE)) return false;
  if (death_oracle.dead) return !death_oracle.dead(cpu);
  const tid = atomic_load(field_word(pcpu.os_tid, pc));
  if (tid === 0 || !host_sees_threads()) return true; // told by cpu_exited, if at all
  const start = host_thread_start(tid);
  return start !== null && start === atomic_load(field_word(pcpu.os_start, pc));
}

let wanted = false;
/** Notes that a CPU was seen dead; it is reaped at the next safe place. */
export function reap_want(): void {
  wanted = true;
}
/** Reaps whatever is known to be dead. The caller holds no lock. */
export function reap_pending(): void {
  if (wanted || machine.reap_wanted[M] !== 0) reap_all();
}
/** Looks at every slot and reaps the dead. Returns how many. */
export function reap_all(): number {
  wanted = false;
  if (machine.reap_wanted[M] !== 0) atomic_store(field_word(machine.reap_wanted, M), 0);
  let n = 0;
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) if (cpu_reap(cpu)) n++;
  return n;
}

/** The exit of a worker, as the thread that made it hears it. */
export function cpu_exited(js_tid: number): void {
  if (thr.cpu < 0) return; // settling takes locks, and those need a CPU
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    const pc = pcpu_of(cpu);
    const state = atomic_load(field_word(pcpu.state, pc));
    if ((state & (CPU_FREE | CPU_DEAD)) === 0 && pcpu.js_tid[pc] === js_tid && cpu !== thr.cpu) {
      settle(cpu, state);
    }
  }
}

/** Settles slot `cpu` if it still is in that incarnation, whose thread was seen to be gone. */
export function cpu_gone(cpu: number, incarnation: number): void {
  if (thr.cpu < 0 || cpu === thr.cpu) return;
  const pc = pcpu_of(cpu);
  const state = atomic_load(field_word(pcpu.state, pc));
  if (atomic_load(field_word(pcpu.incarnation, pc)) !== incarnation) return;
  if ((state & (CPU_FREE | CPU_DEAD)) === 0) settle(cpu, state);
}

/** Settles slot `cpu` if its thread is gone. True if this call did it. */
export function cpu_reap(cpu: number): boolean {
  const pc = pcpu_of(cpu);
  const state = atomic_load(field_word(pcpu.state, pc));
  if (state & CPU_FREE || cpu === thr.cpu) return false;
  if (state & CPU_DEAD) {
    // Somebody is reaping it, unless that somebody died too.
    const by = claimer_of(state);
    if (by === thr.cpu || (by >= 0 && cpu_alive(by))) return false;
    return settle(cpu, state);
  }
  if (cpu_alive(cpu)) return false;
  return settle(cpu, state);
}

/**
 * Holds each CPU that is dead for a moment and lets `run` give back something
 * small of it; the rest is left to the reaper.  `run` takes no lock, so this is
 * allowed where the caller holds some.
 */
export function dead_each(run: (cpu: number) => void): void {
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    if (cpu_alive(cpu)) continue;
    const w = field_word(pcpu.state, pcpu_of(cpu));
    const v = atomic_load(w);
    const by = claimer_of(v);
    if (v & CPU_FREE) continue;
    if (v & CPU_DEAD && by >= 0 && cpu_alive(by)) continue; // it is being settled
    const mine = CPU_DEAD | CPU_CLAIM | CPU_PARKED | ((thr.cpu + 1) << 8);
    if (atomic_cas(w, v, mine) !== v) continue;
    run(cpu);
    atomic_store(w, CPU_DEAD | CPU_PARKED); // nobody claims it: whoever reaps goes on
  }
}

/** Hooks up to this order take no lock: the claims of a dead CPU end there. */
const CLAIMS_ORDER = 15;
/** Frees whom a dead CPU held by a claim; what it did under its locks has been undone. */
reap_register('claims', CLAIMS_ORDER, (dead) => {
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    const w = field_word(pcpu.state, pcpu_of(cpu));
    const v = atomic_load(w);
    if ((v & (CPU_CLAIM | CPU_DEAD)) !== CPU_CLAIM || claimer_of(v) !== dead) continue;
    atomic_and(w, ~(CPU_CLAIM | CPU_CLAIMER));
    atomic_notify(w, 1);
  }
});
/** A CPU cannot come back because of a claim: it settles the claimer itself if that is dead. */
claim_hooks.stuck = (_cpu, state) => {
  const by = claimer_of(state);
  if (by < 0 || cpu_alive(by)) return;
  wanted = true;
  dead_each((cpu) => {
    if (cpu !== by) return;
    for (const hook of reap_hooks) if (hook.order <= CLAIMS_ORDER) hook.run(cpu);
  });
};

function settle(cpu: number, state: number): boolean {
  const w = field_word(pcpu.state, pcpu_of(cpu));
  const mine = CPU_DEAD | CPU_CLAIM | CPU_PARKED | ((thr.cpu + 1) << 8);
  if (atomic_cas(w, state, mine) !== state) return false;
  for (const hook of reap_hooks) hook.run(cpu);
  counter_add(v_reaps, 1);
  slot_release(cpu);
  return true;
}

/** Makes a slot free: nothing private is left in it. */
export function slot_release(cpu: number): void {
  const pc = pcpu_of(cpu);
  // The incarnation moves on first: lock words that name the old one are dead from here.
  const next = (pcpu.incarnation[pc] + 1) & INCARNATION_MASK;
  atomic_store(field_word(pcpu.incarnation, pc), next);
  atomic_store(field_word(pcpu.os_tid, pc), 0);
  const attached = field_word(machine.attached, M);
  for (;;) {
    const n = atomic_load(attached);
    if (atomic_cas(attached, n, n - 1) === n) break;
  }
  atomic_store(field_word(pcpu.state, pc), CPU_FREE);
}
