/*
 * context: what a thread's façade objects have in common.
 *
 * An object of the façade (a type, a zone, a lock) holds a pointer into the
 * machine.  When this thread leaves the machine, every such object is buried:
 * its pointer becomes 0, and each call looks at that first.  So a handle kept
 * by mistake throws ESHUTDOWN, even if the thread has booted another machine
 * over the same memory meanwhile.  After a panic they are buried too, and throw
 * KernelPanic.
 *
 * Objects are kept by kind and name, so that asking twice gives the same one.
 *
 *      call -> its arguments and options are read -> enter(): stack? not parked?
 *           -> the kernel -> what others are to hear of is published
 *
 * Options come first because reading them may run code of the program (a getter, a
 * Proxy), which may throw or call the machine.  What it hears (diagnostics channels,
 * the console) comes last, when no lock is held any more: tell().  So no code of the
 * program runs under a lock of the kernel.
 *
 * Another thread may end the machine at any moment.  A call in progress says so: ESHUTDOWN,
 * or KernelPanic.  Leaving, letting go of an object, the end of a `using` and what the event
 * loop runs for the library say nothing: there is nothing left to do, and nobody to tell it to
 * (letGo, giveBack).
 */
import {
  CPU_DEAD,
  CPU_PARKED,
  CPU_STOP,
  pcpu as pcpu_,
  poll,
  thr as thr_,
} from '../sys/machine/cpu.ts';
import { atomic_load } from '../sys/machine/atomic.ts';
import {
  EBUSY,
  EINVAL,
  ENAMETOOLONG,
  EOPNOTSUPP,
  ESHUTDOWN,
  has_control,
} from '../sys/machine/errno.ts';
import { M, machine as header, PHASE_DOWN } from '../sys/machine/header.ts';
import { host_can_block } from '../sys/machine/host.ts';
import { cpu_stopped, stopped_elsewhere } from '../sys/machine/panic.ts';
import { field_word } from '../sys/machine/struct.ts';
import {
  kernel_enter,
  kernel_enter_proved,
  kernel_leave,
  kernel_probe,
  kernel_threw,
} from '../sys/sync/subr_trap.ts';
import { shown } from './args.ts';
import { KernelPanic, kmemError } from './errors.ts';

/** Longest name the tools can show, bytes of UTF-8. */
export const NAME_BYTES_MAX = 31;

/** Something that must not be used once the thread has left the machine, or let go of it. */
export interface Mortal {
  /**
   * Makes every later call throw ESHUTDOWN.
   * @internal
   */
  bury(): void;
}

/** A wait in the event loop for an object. */
export interface Wait extends Mortal {
  /** What it is for. */
  readonly of?: readonly Mortal[];
}

export class Context {
  /** Still in the machine. */
  up = true;
  /** Each allocation and free of this thread's types is published. */
  traced = false;
  readonly named = new Map<string, Mortal>();
  /** Waits in the event loop: each is told when the thread leaves. */
  readonly waits = new Set<Wait>();
  /** While the thread is parked: resolves when it is back. */
  parked: Promise<void> | null = null;

  /** The object of that kind and name, made if this thread has none. */
  once<T extends Mortal>(kind: string, name: string, make: () => T): T {
    this.enter(kind);
    const key = `${kind}:${name}`;
    const known = this.named.get(key);
    if (known) return known as T;
    const made = make();
    this.named.set(key, made);
    return made;
  }
  /** Forgets an object that was disposed of: `of` itself, if given, not one that came after it. */
  forget(kind: string, name: string, of?: Mortal): void {
    const key = `${kind}:${name}`;
    if (of === undefined || this.named.get(key) === of) this.named.delete(key);
  }
  /**
   * This thread lets go of an object: its waits for it end, and what they had been told
   * is passed on.  True: there were some.
   */
  endWaits(of: Mortal): boolean {
    const all = [...this.waits].filter((w) => w.of?.includes(of));
    for (const w of all) w.bury();
    return all.length > 0;
  }
  /** Begins a call: throws unless the thread is in the machine and may enter it. */
  enter(op: string): void {
    if (!this.up) gone(op, this);
    enter(op);
  }
  /**
   * The thread leaves the machine, or the machine has stopped.  Waits first: what they had
   * been told is passed on while their objects are there.  One that fails keeps no other from
   * its end.
   */
  bury(): void {
    this.up = false;
    const wrong: unknown[] = [];
    for (const mortal of [...this.waits, ...this.named.values()]) {
      try {
        letGo(() => mortal.bury());
      } catch (e) {
        wrong.push(e);
      }
    }
    this.named.clear();
    if (wrong.length > 0) throw wrong[0];
  }
}

/** The context of a machine. Throws EINVAL for what is none, or of another copy of kmem. */
export function contextOf(op: string, machine: { readonly context: Context }): Context {
  const context: unknown = machine?.context;
  if (context instanceof Context) return context;
  throw kmemError(EINVAL, op, `${shown(machine)} is no machine of this copy of kmem`);
}

/** The context of the machine that this thread is in. */
let here: Context | null = null;
/** Makes `ctx` the one that is buried when the machine stops. */
export function contextIs(ctx: Context | null): void {
  here = ctx;
}

// --- before a call -------------------------------------------------------------------------

// Local names: V8 takes them for constants, imported ones it does not.
const pcpu = pcpu_;
const thr = thr_;
const REFUSED = CPU_PARKED | CPU_STOP | CPU_DEAD;
/**
 * Begins a call that may take a lock or move memory, before anything is changed.
 * Throws RangeError if the stack may not suffice, EBUSY while the thread is parked,
 * KernelPanic after a panic, ESHUTDOWN after another thread's shutdown.
 */
export function enter(op: string): void {
  kernel_probe();
  if ((pcpu.state[thr.pc] & REFUSED) !== 0) refuse(op);
}
function refuse(op: string): void {
  if (thr.cpu < 0) return gone(op);
  if (machinePanicked()) panicked();
  if (thr.away) {
    const text = 'this thread is parked: end away() or park() before calling the machine';
    throw kmemError(EBUSY, op, text);
  }
  poll();
}
/** Whether the machine was shut down or has panicked: nothing in it is worth giving back. */
export function machineStopped(): boolean {
  return (
    atomic_load(field_word(header.panic_cpu, M)) !== 0 ||
    atomic_load(field_word(header.phase, M)) === PHASE_DOWN
  );
}
/** Whether it has panicked. */
export function machinePanicked(): boolean {
  return atomic_load(field_word(header.panic_cpu, M)) !== 0;
}

/**
 * Throws: the object, which is of `ctx`, was disposed of, or its machine was left by this
 * thread, or has panicked.
 */
export function gone(op: string, ctx?: Context): never {
  if (thr.cpu >= 0 && machinePanicked()) cpu_stopped(0);
  const left = 'this thread has left the machine';
  const text = ctx?.up
    ? 'it was disposed of: ask for it by name again'
    : here?.up
      ? `${left} that it is of: ask the one that it is in`
      : `${left}: boot or attach again`;
  throw kmemError(ESHUTDOWN, op, text);
}

// --- in the kernel, and after it -------------------------------------------------------------

/** How many brackets that hold a lock of the kernel this thread is in. */
let locks = 0;
let later: (() => void)[] = [];
/** Runs what makes the program hear of something: now, or when no kernel lock is held any more. */
export function tell(say: () => void): void {
  if (locks > 0) later.push(say);
  else say();
}
/**
 * Runs `run` between `lock` and `unlock`, which are the kernel's own.  An exception
 * of `run` unlocks too, save a panic: then nothing is given back.
 */
export function underLock<T>(op: string, lock: () => void, run: () => T, unlock: () => void): T {
  const outer = kernel_enter();
  const before = locks;
  let result: T;
  try {
    lock();
    locks = before + 1;
    result = bracket(run, unlock);
  } catch (e) {
    locks = before;
    failed(e, outer, op);
  }
  locks = before;
  kernel_leave(outer);
  told();
  return result;
}
/** An exception leaves a call that has entered the kernel: subr_trap.ts judges it. */
export function failed(e: unknown, outer: number, op: string): never {
  kernel_leave(outer);
  if (e instanceof KernelPanic) {
    later = [];
    panicked();
  } else told();
  kernel_threw(e, outer, op);
}
function told(): void {
  if (locks > 0 || later.length === 0) return;
  const all = later;
  later = [];
  for (const say of all) say();
}
/** Runs a call of the kernel: what it may leave behind by an exception is a panic. */
export function inKernel<T>(op: string, run: () => T): T {
  const outer = kernel_enter();
  let result: T;
  try {
    result = run();
  } catch (e) {
    failed(e, outer, op);
  }
  kernel_leave(outer);
  return result;
}
/**
 * Gives something back on the way out of a call that has entered: it must not be
 * refused for want of stack.  Does nothing once the machine has stopped, and no more if
 * another thread ends it meanwhile.
 */
export function giveBack(op: string, run: () => void): void {
  if ((pcpu.state[thr.pc] & (CPU_STOP | CPU_DEAD)) !== 0) return;
  letGo(() => {
    const outer = kernel_enter_proved();
    try {
      run();
    } catch (e) {
      failed(e, outer, op);
    }
    kernel_leave(outer);
  });
}
/**
 * Runs a step of leaving, or of letting go of something, which another thread makes needless by
 * ending the machine: then the result is undefined.  `cpu`: this thread's slot, if it may
 * have given that up by then.
 */
export function letGo<T>(step: () => T, cpu = thr.cpu): T | undefined {
  try {
    return step();
  } catch (e) {
    if (!stopped_elsewhere(e, cpu)) throw e;
    return undefined;
  }
}
/**
 * Runs `run` now, or when this thread is back, if it is parked; not at all if it leaves before.
 * For what the event loop brings, which cannot be refused.
 */
export function whenBack(ctx: Context, run: () => void): void {
  const { parked } = ctx;
  if (parked === null) return run();
  void parked.then(() => {
    if (ctx.up) whenBack(ctx, run);
  });
}
/** A panic was thrown in this thread: its objects refuse from now on. */
function panicked(): void {
  const ctx = here;
  here = null;
  ctx?.bury();
}

const encoder = new TextEncoder();
/**
 * Checks a name: 1 to 31 bytes of UTF-8 without control characters, which would forge
 * rows in the tables that show it.  Throws EINVAL, ENAMETOOLONG.
 */
export function checkName(op: string, name: string): void {
  if (typeof name !== 'string' || name === '' || has_control(name)) {
    const text = `name ${shown(name)}: give a text of 1 to 31 bytes, without control characters`;
    throw kmemError(EINVAL, op, text);
  }
  if (name.length * 3 > NAME_BYTES_MAX && encoder.encode(name).length > NAME_BYTES_MAX) {
    throw kmemError(ENAMETOOLONG, op, `name '${name}' has more than ${NAME_BYTES_MAX} bytes`);
  }
}

const CAN_BLOCK = host_can_block();
/** Throws EOPNOTSUPP where the thread may not block. `instead` is the call to use. */
export function checkMayBlock(op: string, instead: string): void {
  if (CAN_BLOCK) return;
  throw kmemError(EOPNOTSUPP, op, `a browser's main thread may not wait: use ${instead}`);
}
/** Whether this thread may block at all. */
export function mayBlock(): boolean {
  return CAN_BLOCK;
}

/** Calls `leave` after `run`, save after a panic: then nothing is given back. */
export function bracket<T>(run: () => T, leave: () => void): T {
  let result: T;
  try {
    result = run();
  } catch (e) {
    if (e instanceof KernelPanic) throw e;
    try {
      leave();
    } catch {
      // What `run` threw is told: it may be the very reason, a lock that was lost with its owner.
    }
    throw e;
  }
  leave();
  return result;
}
