/*
 * context: what a thread's façade objects have in common.
 *
 * An object of the façade (a type, a zone, a lock) holds a pointer into the
 * machine.  When this thread leaves the machine, every such object is buried:
 * its pointer becomes 0, and each call looks at that first.  So a handle kept
 * by mistake throws ESHUTDOWN, even if the thread has booted another machine
 * over the same memory meanwhile.
 *
 * Objects are kept by kind and name, so that asking twice gives the same one.
 */
import { EINVAL, ENAMETOOLONG, EOPNOTSUPP, ESHUTDOWN } from '../sys/machine/errno.ts';
import { host_can_block } from '../sys/machine/host.ts';
import { KernelPanic, kmemError } from './errors.ts';

/** Longest name the tools can show, bytes of UTF-8. */
export const NAME_BYTES_MAX = 31;

/** Something that must not be used once the thread has left the machine. */
export interface Mortal {
  /**
   * Makes every later call throw ESHUTDOWN.
   * @internal
   */
  bury(): void;
}

export class Context {
  /** Still in the machine. */
  up = true;
  /** Each allocation and free of this thread's types is published. */
  traced = false;
  readonly named = new Map<string, Mortal>();
  /** Waits in the event loop: each is told when the thread leaves. */
  readonly waits = new Set<Mortal>();

  /** The object of that kind and name, made if this thread has none. */
  once<T extends Mortal>(kind: string, name: string, make: () => T): T {
    if (!this.up) gone(kind);
    const key = `${kind}:${name}`;
    const known = this.named.get(key);
    if (known) return known as T;
    const made = make();
    this.named.set(key, made);
    return made;
  }
  /** Forgets an object that was disposed of. */
  forget(kind: string, name: string): void {
    this.named.delete(`${kind}:${name}`);
  }
  /** The thread leaves the machine. */
  bury(): void {
    this.up = false;
    for (const m of this.named.values()) m.bury();
    for (const w of [...this.waits]) w.bury();
    this.named.clear();
  }
}

/** Throws ESHUTDOWN: the handle belongs to a machine that this thread has left. */
export function gone(op: string): never {
  throw kmemError(ESHUTDOWN, op, 'this thread has left the machine: boot or attach again');
}

const encoder = new TextEncoder();
/** Checks a name: 1 to 31 bytes of UTF-8 without NUL. Throws EINVAL, ENAMETOOLONG. */
export function checkName(op: string, name: string): void {
  if (typeof name !== 'string' || name === '' || name.includes('\0')) {
    throw kmemError(EINVAL, op, `name ${JSON.stringify(name)}: give a text of 1 to 31 bytes`);
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
    if (!(e instanceof KernelPanic)) leave();
    throw e;
  }
  leave();
  return result;
}
