/*
 * subr_trap: the way into the kernel, and what must be true on the way out.
 *
 *      const outer = kernel_enter();          the stack suffices, or RangeError
 *      try {
 *        ...
 *      } catch (e) {
 *        kernel_threw(e, outer, 'malloc');    nothing may be left held: userret
 *      }
 *      kernel_leave(outer);
 *
 * It stands in the slow paths that a fast path falls into, and around what the façade
 * does under a lock of the kernel.  The fast paths have none of it: they call nothing
 * once something is changed.
 *
 * Into.  The outermost entry probes the stack (stack_probe.ts) and looks whether this
 * thread may enter at all: not while it is away, nor once it was stopped.  Those inside it do
 * not, because there a RangeError would come too late.  `inside` counts them for this
 * thread; the outermost one sets it back to 0, whatever happened in between.  No code of
 * the program runs inside.
 *
 * Out of.  An error of the kernel's own (KmemError, KernelPanic) has been thought
 * about where it is thrown.  Any other exception is a fault of the kernel, or of
 * program code that ran where none should.  If it leaves behind an open undo section,
 * a lock, pages that belong to nobody or a parked CPU, the machine is wrong for all
 * threads, and nobody would know before they hang: that is a panic, which names the
 * call and what was left.  Otherwise it simply goes on to the caller.  Which locks are
 * held is found out by looking at each of them, and only then: counting them would
 * cost every lock and unlock.
 *
 * In BSD userret() makes the same test with each return to the program.  Under the
 * seeded scheduler one thread plays many CPUs and dies by exceptions: none of this.
 */
import {
  CPU_DEAD,
  CPU_PARKED,
  CPU_STOP,
  pcpu as pcpu_,
  poll,
  thr as thr_,
} from '../machine/cpu.ts';
import { KmemError } from '../machine/errno.ts';
import { M, machine, PHASE_UP } from '../machine/header.ts';
import { life } from '../machine/life.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { KernelPanic, panic } from '../machine/panic.ts';
import { stack_probe } from '../machine/stack_probe.ts';
import { lock_name } from './lock_label.ts';
import { UNDO_PRIVATE, undo_log } from './undo.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const pcpu = pcpu_;
const thr = thr_;
const REFUSED = CPU_PARKED | CPU_STOP | CPU_DEAD;

/** How deep this thread is in calls of the kernel. */
let inside = 0;

/** Throws RangeError, before anything is done, unless the stack suffices for a call. */
export function kernel_probe(): void {
  if (inside === 0 && !opt.SIM) stack_probe();
}
/**
 * Enters the kernel.  Throws RangeError for want of stack, EBUSY, ESHUTDOWN or
 * KernelPanic in a thread that is away or was stopped, and then nothing was done.
 * Returns what leaving takes.
 */
export function kernel_enter(): number {
  if (opt.SIM) return 0;
  const outer = inside;
  if (outer === 0) {
    stack_probe();
    if ((pcpu.state[thr.pc] & REFUSED) !== 0) poll();
  }
  inside = outer + 1;
  return outer;
}
/** The same on the way out of a call that has probed: what it gives back must not be refused. */
export function kernel_enter_proved(): number {
  const outer = inside;
  inside = outer + 1;
  return outer;
}
/** Leaves the kernel by returning. */
export function kernel_leave(outer: number): void {
  inside = outer;
}
/** Leaves the kernel by an exception: passes it on, or panics if it left something behind. */
export function kernel_threw(e: unknown, outer: number, op: string): never {
  inside = outer;
  if (opt.SIM || outer > 0 || e instanceof KmemError || e instanceof KernelPanic) throw e;
  userret(e, op);
  throw e;
}

/** Panics if this CPU leaves the kernel with something in its hands. */
function userret(e: unknown, op: string): void {
  if (thr.cpu < 0 || machine.phase[M] !== PHASE_UP || machine.panic_cpu[M] !== 0) return;
  const left: string[] = [];
  for (let level = pcpu.undo_depth[thr.pc] - 1; level >= 0; level--) {
    const l = mem.I32[undo_log(thr.pc, level)];
    const under = l === 0 || l === UNDO_PRIVATE ? 'no lock' : lock_name(l);
    left.push(`an open section under ${under}`);
  }
  for (const name of life.locks_held()) left.push(`lock ${name}`);
  if (pcpu.in_hand_n[thr.pc] !== 0) left.push('pages in its hand');
  if (pcpu.in_hand_items[thr.pc] !== 0) left.push('items in its hand');
  if ((pcpu.state[thr.pc] & CPU_PARKED) !== 0 && !thr.away) left.push('its CPU parked');
  if (left.length > 0) panic(`${op}: left the kernel with ${left.join(', ')}`, error_text(e));
}
/** The exception in one line. What a program throws may be anything. */
function error_text(e: unknown): string {
  return e instanceof Error ? `${e.name}: ${e.message}` : `it threw a ${typeof e}`;
}
