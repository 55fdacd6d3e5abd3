/*
 * vm_lowmem: who is told that memory is short, and how a request gets some back.
 *
 *      the page daemon, or whoever reclaims ──> lowmem_tell ──> a ring at every CPU
 *                                                                  │
 *                    subscribers of that thread, holding no lock <─'   in its event loop
 *
 * A subscriber is the program's: it lets go of what it keeps in order to be fast.
 *
 * A request that finds no pages calls vm_reclaim, by way of life.reclaim.  What allocators and
 * debugging keep comes back first; then, if the caller may wait, pages of memory objects are
 * written and freed.  That code is not there in a thread that has loaded only the core
 * (machine/parts.ts): the page daemon does it then.
 */
import { atomic_add } from '../machine/atomic.ts';
import { cpu_ring, thr } from '../machine/cpu.ts';
import { M, machine } from '../machine/header.ts';
import { life, life_run } from '../machine/life.ts';
import { kernel_parts } from '../machine/parts.ts';
import { field_word } from '../machine/struct.ts';
import { CTLFLAG_RWTUN, sysctl_get, sysctl_int } from '../machine/sysctl_decl.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';

const lowmem_period = sysctl_int('vm.lowmem_period', {
  value: 10,
  min: 0,
  max: 3600,
  unit: 's',
  flags: CTLFLAG_RWTUN,
  help: 'Shortest time between two calls of the low-memory subscribers',
});

/** What this thread has heard of so far. */
let lowmem_seen = 0;
/** What the program of this thread wants to do when memory is short. */
const subscribers = new Set<() => void>();
/** Adds a subscriber of this thread; it is called from its event loop, holding no lock. */
export function lowmem_subscribe(run: () => void): () => void {
  subscribers.add(run);
  return () => void subscribers.delete(run);
}
/** Calls this thread's subscribers. A line of the low-memory table. */
export function lowmem_call(): void {
  for (const run of subscribers) queueMicrotask(run); // what one throws is the program's own
}
/** Shortest time between two calls of them, ms. */
export function lowmem_period_ms(): number {
  return sysctl_get(lowmem_period) * 1000;
}
/** Memory is short: every thread's subscribers are called, those of others by their event loops. */
export function lowmem_tell(): void {
  lowmem_seen = atomic_add(field_word(machine.lowmem, M), 1) + 1;
  life_run(life.lowmem);
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) if (cpu !== thr.cpu) cpu_ring(cpu);
}
/** In the event loop: calls this thread's subscribers if memory ran short since. */
export function lowmem_heard(): void {
  const now = machine.lowmem[M];
  if (now === lowmem_seen) return;
  lowmem_seen = now;
  if (now !== 0) life_run(life.lowmem);
}

/** Gets pages back for a request that found none. Returns how many, or about that. */
export function vm_reclaim(wait: boolean): number {
  const n = uma_reclaim(wait);
  if (n > 0 || !wait) return n;
  return kernel_parts.pageout_free?.(1) ?? 0;
}
