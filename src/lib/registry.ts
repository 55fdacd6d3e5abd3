/*
 * registry: how the façade's named objects are found, made and let go of.
 *
 * The names stand in the kernel (sys/client/kern_registry.ts), which also says
 * what becomes of an object whose thread dies while it makes or ends it.  Here is
 * what the façade adds: errors with words, and callbacks.
 *
 * The shape is a text: two threads that ask for one name with different shapes
 * get EEXIST with both.  Whoever asks first makes the object, under the
 * registry's lock, so that two threads never make two.  An object ends when its
 * last user lets go of it.
 *
 * `build` and the other callbacks run under the registry's lock: they are the
 * façade's own code, never the program's.  If one throws, what was half made is
 * taken back before the lock is given up.
 */
import { EEXIST, ENOENT, ENOMEM } from '../sys/machine/errno.ts';
import type { reg_entry_t, RegKind } from '../sys/h/registry.ts';
import {
  registry_add,
  registry_each,
  registry_end,
  registry_find,
  registry_key,
  registry_lock,
  registry_ready,
  registry_settle,
  registry_shape,
  registry_unlock,
  registry_use,
  registry_used_by_others,
} from '../sys/client/kern_registry.ts';
import { uma_reclaim } from '../sys/uma/uma_drain.ts';
import { inKernel, underLock } from './context.ts';
import { kmemError } from './errors.ts';

export type Kind = RegKind;

function locked<T>(op: string, run: () => T): T {
  return underLock(op, registry_lock, run, registry_unlock);
}
/**
 * The same for what makes an object: nothing is reclaimed under the lock, so when memory
 * is short, what is idle is reclaimed outside, and all is tried once more.
 */
function making<T>(op: string, run: () => T): T {
  try {
    return locked(op, run);
  } catch (e) {
    if ((e as { errno?: number }).errno !== ENOMEM) throw e;
    inKernel(op, uma_reclaim);
    return locked(op, run);
  }
}
function add(
  kind: Kind,
  name: string,
  shape: string,
  build: (e: reg_entry_t) => void,
): reg_entry_t {
  const e = registry_add(registry_key(kind, name), shape);
  if (e === 0) throw kmemError(ENOMEM, kind, `no memory for an entry of the registry: '${name}'`);
  build(e);
  registry_ready(e);
  return e;
}

/**
 * The entry of a name, made by `build` if there is none; this thread becomes a
 * user.  `shape` null asks for whatever shape there is.  Throws EEXIST if it
 * exists with another shape, ENOENT if it is asked for without one and does not
 * exist, ENOMEM, and what `build` throws.  Does not wait.
 */
export function obtain(
  kind: Kind,
  name: string,
  shape: string | null,
  build: (e: reg_entry_t) => void,
): reg_entry_t {
  const key = registry_key(kind, name);
  return making(kind, () => {
    let e = registry_find(key);
    if (e === 0) {
      if (shape === null) {
        throw kmemError(ENOENT, kind, `there is no ${kind} '${name}': give its shape to make it`);
      }
      e = add(kind, name, shape, build);
    } else if (shape !== null && registry_shape(e) !== shape) {
      const there = registry_shape(e);
      throw kmemError(EEXIST, kind, `'${name}' exists as ${there}; asked for ${shape}`);
    }
    registry_use(e, true);
    return e;
  });
}
/**
 * This thread lets go of an object.  If no living thread has it any more and
 * it is not `busy`, it ends and its name is free again.  `leave` ends this thread's waits
 * for it, while the object is there for sure.
 */
export function release(e: reg_entry_t, busy: () => boolean, leave: () => void): void {
  const ended = locked('dispose', () => {
    const stays = registry_used_by_others(e) || busy();
    leave();
    if (stays) registry_use(e, false);
    else registry_end(e);
    return !stays;
  });
  if (ended) inKernel('dispose', registry_settle);
}
/** Runs `fn` on the entry of a name (0: there is none) under the registry's lock. */
export function withEntry<T>(kind: Kind, name: string, fn: (e: reg_entry_t) => T): T {
  const key = registry_key(kind, name);
  return making(kind, () => fn(registry_find(key)));
}
/** Makes the entry of a name that has none. The registry's lock is held (withEntry). */
export function addEntry(kind: Kind, name: string, fill: (e: reg_entry_t) => void): void {
  add(kind, name, '', fill);
}
/** Calls `fn` for every entry, under the registry's lock. */
export function eachEntry(fn: (e: reg_entry_t, kind: Kind) => void): void {
  locked('registry', () => registry_each(fn));
}
