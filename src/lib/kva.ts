/*
 * kva: blocks beyond the memory, as a program uses them.
 *
 *      const at = type.alloc(2 ** 20, { contiguous: false });
 *      machine.store32(at + 4096, 7);                      translated, page by page
 *      machine.copyIn(at, bytes);
 *      machine.bytes(at, 16);                              EFAULT: there is no view of it
 *      using w = machine.window(at, 65536);  w.u32[9];     flat, held in place until it is closed
 *
 * Where no run of free pages is long enough, such a block has addresses beyond the memory, and its
 * pages lie anywhere.  Loads, stores, copies and fills take them as any others; what needs one flat
 * piece of memory (bytes, index, the whole-memory views) cannot, but for a window, which moves the
 * pages side by side.  Under a window a block is not freed.
 *
 * Guarded blocks (vm.memguard.*) have such addresses, too.  Each call looks whether all that it
 * touches is in one block in use: what is not is a stray access, which panics or, with
 * vm.memguard.trap 'report', fails with EFAULT.  Their pages are a run, so bytes, index and
 * windows know where they are; what is done by a view afterwards nobody sees.
 *
 * A number that comes from a program may be anything: what no block has is refused.
 */
import { EBUSY, EFAULT, EINVAL, ENOMEM, ETIMEDOUT } from '../sys/machine/errno.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import { NULL } from '../sys/machine/struct.ts';
import type { malloc_type_t } from '../sys/h/malloc.ts';
import type { zone_t } from '../sys/h/uma.ts';
import { KVA_END } from '../sys/h/vm_kern.ts';
import { MAP_ENTRY_ITEM } from '../sys/h/vm_map.ts';
import {
  free_virtual,
  malloc_virtual,
  virtual_access,
  virtual_pages,
  virtual_window,
} from '../sys/kmem/kern_malloc_virtual.ts';
import {
  GUARD_GONE,
  GUARD_OTHER,
  memguard_access,
  memguard_block,
  memguard_flat,
  memguard_free,
  memguard_has,
  memguard_in_use,
  memguard_realloc,
} from '../sys/kmem/memguard.ts';
import {
  guard_place_text,
  memguard_no_block,
  memguard_trap,
  type Trapped,
} from '../sys/kmem/memguard_trap.ts';
import type { vm_window_t } from '../sys/h/vm_window.ts';
import { shown, wholeIn } from './args.ts';
import { type Context, inKernel } from './context.ts';
import { kmemError } from './errors.ts';
import { silentThread } from './region.ts';
import { callSite } from './site.ts';
import { windowShapeOf } from './space_args.ts';
import { checkRange, kvaFor } from './memory.ts';
import { BlockWindow, windowShort } from './window.ts';

/** What the rest of the façade asks of it. */
export interface Kva {
  /** A block of zeros for a type: its address, 0: no memory, or it is too small for that. */
  alloc(size: number, t: malloc_type_t, flags: number): number;
  /**
   * Gives it back. False: no block of a type begins there. Throws EFAULT where one was freed,
   * EBUSY under a window.
   */
  free(at: number, t: malloc_type_t): boolean;
  /** The same of an item of this zone. */
  freeItem(at: number, z: zone_t): boolean;
  /** Opens a window onto `n` bytes of one block. Throws EFAULT, EBUSY, ENOMEM, ETIMEDOUT. */
  window(ctx: Context, at: number, n: number, write: boolean): BlockWindow;
  /** Bytes that the block at an address has; 0: none begins there. */
  size(at: number): number;
  /** A guarded block of another size: its address; 0: none, the old one is there; -1: no block. */
  realloc(at: number, size: number, t: malloc_type_t, flags: number): number;
  /** What is at an address, for a message. */
  what(at: number): string;
  /** Guarded blocks of a type, or items of a zone, that are in use: they count nowhere else. */
  guarded(owner: malloc_type_t | zone_t, item: boolean): { count: number; bytes: number };
  /** Where in the memory `n` bytes of a guarded block lie; -1: it is none. Throws EFAULT. */
  flat(op: string, at: number, n: number): number;
  /** Where in the memory `n` bytes within a page are now, until the next call. Throws EFAULT. */
  place(op: string, at: number, n: number, write: boolean): number;
  /**
   * Calls `move` for each piece of a range that lies in one: where in the memory it is, its length,
   * and how many bytes came before.  Throws EFAULT before anything is moved.
   */
  each(op: string, at: number, n: number, write: boolean, move: Move): void;
}
export type Move = (at: number, n: number, done: number) => void;

function each(op: string, at: number, n: number, write: boolean, move: Move): void {
  if (memguard_has(at)) return eachGuarded(op, at, n, write, move);
  if (inKernel(op, () => virtual_access(at, n, write, move))) return;
  const text = `no ${n} bytes were allocated at ${at}, beyond the memory`;
  throw kmemError(EFAULT, op, text, { address: at, size: n });
}
function eachGuarded(op: string, at: number, n: number, write: boolean, move: Move): void {
  const error = inKernel(op, () => memguard_access(at, n, write, move));
  if (error === 0) return;
  if (error < 0) stray(op, at, n);
  const text = `no memory to translate ${n} bytes at ${at}`;
  throw kmemError(error === ENOMEM ? ENOMEM : EFAULT, op, text, { address: at, size: n });
}
function stray(op: string, at: number, n: number): never {
  const site = callSite();
  trapped(
    op,
    at,
    n,
    inKernel(op, () => memguard_trap(op, at, n, site)),
  );
}
function trapped(op: string, at: number, n: number, { text, allocated, freed }: Trapped): never {
  const stacks = { allocatedAt: allocated, freedAt: freed };
  throw kmemError(EFAULT, op, text, { address: at, size: n, ...stacks });
}
/** Whether a guarded block went; false: it is another one's, or begins elsewhere. */
function freeGuarded(at: number, owner: number, kind: number): boolean {
  const how = inKernel('free', () => memguard_free(at, owner, kind));
  if (how !== GUARD_GONE) return how !== GUARD_OTHER;
  const site = callSite();
  trapped(
    'free',
    at,
    0,
    inKernel('free', () => memguard_no_block(at, site)),
  );
}
const pageOf = (at: number): number => (at % PAGE_SIZE === 0 ? at / PAGE_SIZE : -1);
function size(at: number): number {
  if (memguard_has(at)) {
    const b = inKernel('block', () => memguard_block(at));
    return b?.at === at ? b.size : 0;
  }
  const page = pageOf(at);
  if (page < 0 || page >= KVA_END) return 0;
  return inKernel('block', () => virtual_pages(page)) * PAGE_SIZE;
}
/** Throws why there is no window. */
function noWindow(at: number, n: number, errno: number): never {
  const details = { address: at, size: n };
  if (errno === EFAULT) {
    throw kmemError(EFAULT, 'window', `no ${n} bytes of one block are at ${at}`, details);
  }
  if (errno === EBUSY) {
    const why = `another window is open on a part of the ${n} bytes at ${at}`;
    throw kmemError(EBUSY, 'window', why, details);
  }
  if (errno === ETIMEDOUT) silentThread('window', `the block at ${at}`, details);
  const short = windowShort(n);
  const { why, details: more } = short ?? { why: 'no memory is free', details: { reason: 'full' } };
  throw kmemError(ENOMEM, 'window', why, { ...details, ...more });
}
export const kva: Kva = {
  alloc: (bytes, t, flags) => malloc_virtual(bytes, t, flags) * PAGE_SIZE,
  free(at, t) {
    if (memguard_has(at)) return freeGuarded(at, t, 0);
    if (size(at) === 0) return false;
    if (inKernel('free', () => free_virtual(pageOf(at), t))) return true;
    throw kmemError(EBUSY, 'free', `a window is open on the block at ${at}`, { address: at });
  },
  freeItem: (at, z) => memguard_has(at) && freeGuarded(at, z, MAP_ENTRY_ITEM),
  size,
  realloc(at, bytes, t, flags) {
    if (!memguard_has(at)) return -1;
    const q = inKernel('realloc', () => memguard_realloc(at, bytes, t, flags));
    if (q === -1 && inKernel('realloc', () => memguard_block(at)) === null) stray('realloc', at, 0);
    return q;
  },
  what: (at) => (memguard_has(at) ? `: it is ${inKernel('free', () => guard_place_text(at))}` : ''),
  guarded: (owner, item) => memguard_in_use(owner, item ? MAP_ENTRY_ITEM : 0),
  flat(op, at, n) {
    if (!memguard_has(at)) return -1;
    return inKernel(op, () => memguard_flat(at, n)) || stray(op, at, n);
  },
  window(ctx, at, n, write) {
    const flat = kva.flat('window', at, n);
    if (flat >= 0) {
      const shown = { offset: at, length: n, write, at: flat };
      return new BlockWindow(ctx, NULL as vm_window_t, shown);
    }
    const got = inKernel('window', () => virtual_window(at, n, write));
    if (got > 0) {
      return new BlockWindow(ctx, got as vm_window_t, { offset: at, length: n, write });
    }
    noWindow(at, n, -got);
  },
  place(op, at, n, write) {
    let found = 0;
    each(op, at, n, write, (where) => {
      found = where;
    });
    return found;
  },
  each,
};
/** What machine.window() does. */
export function blockWindow(
  ctx: Context,
  at: number,
  n: number,
  options?: { readonly write?: boolean },
): BlockWindow {
  ctx.enter('window');
  const { write } = windowShapeOf('window', options, ['write']);
  if (!wholeIn(n, 1, Number.MAX_SAFE_INTEGER)) {
    throw kmemError(EINVAL, 'window', `${shown(n)} is no length of a window in bytes`);
  }
  if (!wholeIn(at, 0, Number.MAX_SAFE_INTEGER - n)) {
    throw kmemError(EFAULT, 'window', `${shown(at)} is no address`, { size: n });
  }
  if (kvaFor(at) !== undefined) return kva.window(ctx, at, n, write);
  checkRange('window', at, n);
  return new BlockWindow(ctx, NULL as vm_window_t, { offset: at, length: n, write });
}
