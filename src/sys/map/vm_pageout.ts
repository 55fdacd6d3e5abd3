/*
 * vm_pageout: the page daemon, as far as the heap needs it.
 *
 * A thread of its own, one CPU of the machine.  It sleeps until few pages are
 * free, then gets memory back from caches and slabs and calls the low-memory
 * subscribers, until v_free_target is reached or nothing more comes.  Between
 * that it zeroes free pages ahead, some at a time, so that requests for zeroed
 * memory find them ready.
 *
 * It stands on the floor of the maps, above all that gives memory back.  Today that
 * is the zones; paging out to a store comes with objects and maps.
 */
import { atomic_add, atomic_load, atomic_store } from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { cpu_ring, poll, thr } from '../machine/cpu.ts';
import { reap_all } from '../machine/death.ts';
import { M, machine } from '../machine/header.ts';
import { life, life_run } from '../machine/life.ts';
import { field_word } from '../machine/struct.ts';
import { CTLFLAG_RWTUN, sysctl_get, sysctl_int } from '../machine/sysctl_decl.ts';
import { vm_page_count_min, vm_page_free_count, vm_page_idle } from '../page/vm_page.ts';
import { v_free_target } from '../page/vm_page_targets.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { tsleep } from '../sync/subr_sleepqueue.ts';
import { W_PSLEEP } from '../machine/wmesg.ts';
import { poll_uma, uma_reclaim } from '../uma/uma_drain.ts';
import { uma_going_finish } from '../uma/uma_going.ts';

const v_wakeups = counter_u64('vm.stats.vm.v_pdwakeups', 'Times the page daemon was woken up');
const lowmem_period = sysctl_int('vm.lowmem_period', {
  value: 10,
  min: 0,
  max: 3600,
  unit: 's',
  flags: CTLFLAG_RWTUN,
  help: 'Shortest time between two calls of the low-memory subscribers',
});
const SLEEP_MS = 100;

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
/** Memory is short: every thread's subscribers are called, those of others by their event loops. */
function lowmem_tell(): void {
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
/** One round: reclaims if pages are few, else zeroes ahead. */
export function vm_pageout_round(state: { last_lowmem: number; fruitless: boolean }): void {
  poll();
  poll_uma();
  uma_going_finish(); // zones that wait for the caches of some CPU
  state.fruitless = false;
  if (!vm_page_count_min()) return vm_page_idle();
  counter_add(v_wakeups, 1);
  reap_all();
  const now = now_ms();
  if (now - state.last_lowmem >= sysctl_get(lowmem_period) * 1000) {
    state.last_lowmem = now;
    lowmem_tell();
  }
  while (vm_page_free_count() < sysctl_get(v_free_target)) {
    if (uma_reclaim() > 0) continue;
    state.fruitless = true; // nothing more to be had: sleep before the next try
    break;
  }
}
/** The daemon's life: ends by the ESHUTDOWN or KernelPanic that a stopped CPU throws. */
export function vm_pageout(): never {
  const state = { last_lowmem: Number.NEGATIVE_INFINITY, fruitless: false };
  const ph = phys_root();
  for (;;) {
    vm_pageout_round(state);
    const needed = field_word(vm_phys.needed, ph);
    tsleep(needed, W_PSLEEP, SLEEP_MS, () => atomic_load(needed) === 0 || state.fruitless);
    atomic_store(needed, 0);
  }
}
