/*
 * web_locks: how a browser notices that a worker is gone.
 *
 * A browser has no list of its threads, and a worker that is terminated says
 * nothing.  But what it holds of the origin's Web Locks is given back for it.  So
 * each thread takes one when it attaches, exclusively, named by machine, slot and
 * incarnation, and keeps it until it detaches.  The event loop of CPU 0 asks for
 * each of them in turn, shared and without waiting:
 *
 *      refused                      somebody holds it: the thread lives
 *      granted, and seen before     nobody does any more: the slot is settled
 *      granted, never seen          no proof: the request may be on its way
 *
 * Seen is what was once refused, or what the holder itself noted in `lock_seen`
 * when the lock was granted to it.
 *
 * The request of a worker leaves it only when its event loop runs.  One that
 * attaches, blocks at once and is terminated without ever having returned to its
 * event loop keeps its slot.
 *
 * Node is not asked: Linux shows its threads under /proc, and elsewhere the
 * machine hears the exit of the workers that it adopted.
 */
import { atomic_load, atomic_store } from './atomic.ts';
import { CPU_DEAD, CPU_FREE, cpu_is_spare, pcpu, pcpu_of, thr } from './cpu.ts';
import { cpu_gone, cpu_incarnation } from './death.ts';
import { M, machine } from './header.ts';
import { host_locks } from './host.ts';
import { memory_state } from './memory.ts';
import { field_word } from './struct.ts';

/** How often CPU 0 looks, ms. */
const LOOK_MS = 500;

/** Ends this thread's hold of its lock. */
let release: (() => void) | null = null;
let timer: ReturnType<typeof setInterval> | undefined;
/** Names of locks that were seen held. */
const seen = new Set<string>();

function lock_name(cpu: number, incarnation: number): string {
  return `kmem.${machine.id_low[M]}.${machine.generation[M]}.${cpu}.${incarnation}`;
}

/** Takes this thread's lock. A line of the attach table. */
export function web_locks_attach(): void {
  const locks = memory_state.shared ? host_locks() : null;
  if (!locks || cpu_is_spare(thr.cpu)) return;
  web_locks_leave(); // of the machine before, if somebody else ended it
  const { cpu, pc } = thr;
  const incarnation = cpu_incarnation(cpu);
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const keep = (): Promise<void> => {
    if (thr.cpu === cpu && cpu_incarnation(cpu) === incarnation) {
      atomic_store(field_word(pcpu.lock_seen, pc), 1);
    }
    return held;
  };
  locks.request(lock_name(cpu, incarnation), { mode: 'exclusive' }, keep).catch(() => {});
  if (cpu === 0) timer = setInterval(() => void web_locks_look(), LOOK_MS);
}
/** Lets go of it, however this thread leaves. */
export function web_locks_leave(): void {
  clearInterval(timer);
  seen.clear();
  release?.();
  release = null;
}

/** Whether threads are noticed by their locks here. */
export function web_locks_used(): boolean {
  return release !== null && thr.cpu >= 0;
}
/** Looks at every slot that is taken and settles those whose thread is gone. */
export async function web_locks_look(): Promise<void> {
  for (let cpu = 0; web_locks_used() && cpu < machine.maxcpus[M]; cpu++) await look(cpu);
}
async function look(cpu: number): Promise<void> {
  const state = atomic_load(field_word(pcpu.state, pcpu_of(cpu)));
  if (cpu === thr.cpu || (state & (CPU_FREE | CPU_DEAD)) !== 0) return;
  const incarnation = cpu_incarnation(cpu);
  const name = lock_name(cpu, incarnation);
  if (atomic_load(field_word(pcpu.lock_seen, pcpu_of(cpu))) !== 0) seen.add(name);
  const mine = thr.tid;
  const is_free = (lock: object | null): boolean => lock !== null;
  const options = { mode: 'shared', ifAvailable: true } as const;
  const free = await host_locks()?.request(name, options, is_free);
  if (thr.tid !== mine) return; // this thread left the machine meanwhile
  if (!free) seen.add(name);
  else if (seen.delete(name)) cpu_gone(cpu, incarnation);
}
