/*
 * type: malloc(9) types, as a program uses them.
 *
 *      const sessions = machine.type('sessions');       a row in vmstat -m
 *      const at = sessions.alloc(200, { zero: true });  an Address
 *      machine.bytes(at, 200).set(payload);
 *      sessions.free(at);                               any thread may
 *
 * Blocks of one type are counted together; a block of any size is contiguous,
 * so that it is one flat view.  alloc does not wait for memory unless it is told
 * to: it calls in what other threads cache, which takes vm.drain_deadline (50 ms) at
 * most, and with nothing to be had it throws ENOMEM and says why.  tryAlloc does not
 * even wait for their answers.
 *
 * A free of what is no block is refused: the page array and the size class tell where
 * blocks begin.  So is a second free of a large block, and of the small one that this
 * thread freed last; with INVARIANTS any other stops the machine (KernelPanic).  realloc
 * and usableSize look as free does.
 *
 * The fast path is the kernel's malloc and free with a few comparisons around them.
 */
import { EFAULT, EINVAL, ENOMEM } from '../sys/machine/errno.ts';
import { kernel_parts } from '../sys/machine/parts.ts';
import {
  memory_state,
  PAGE_SIZE,
  PAGE_WORD_SHIFT as PAGE_WORD_SHIFT_,
} from '../sys/machine/memory.ts';
import { M_DRAIN, M_GUARDABLE, M_NOWAIT, M_ZERO } from '../sys/h/malloc_flags.ts';
import { KMEM_CLASSES, type malloc_type_t } from '../sys/h/malloc.ts';
import { PK_MARKED, vm_page } from '../sys/h/vm_page.ts';
import {
  free as free_,
  malloc as malloc_,
  malloc_freed_last as malloc_freed_last_,
  malloc_usable_size,
  realloc,
} from '../sys/kmem/kern_malloc.ts';
import { type Holder, largest_holders } from '../sys/kmem/kern_holders.ts';
import { kmem_left, kmem_limit } from '../sys/kmem/kmem_size.ts';
import { block_begins, block_starts, whatis } from '../sys/kmem/kern_whatis.ts';
import { malloc_type_find_or_make, malloc_type_sums } from '../sys/kmem/kern_malloc_type.ts';
import { kernel_enter_proved, kernel_leave } from '../sys/sync/subr_trap.ts';
import {
  vm_page_count,
  vm_page_free_count,
  vm_wait,
  vm_wait_arm,
  vm_wait_channel,
} from '../sys/page/vm_page.ts';
import { W_VMWAIT } from '../sys/machine/wmesg.ts';
import { phys_longest } from '../sys/page/vm_phys.ts';
import {
  ALLOC,
  ALLOC_ASYNC,
  ALLOC_BLOCK,
  asyncOptionsOf,
  booleanOf,
  checkOptions,
  checkWait,
  type Known,
  shown,
  waitOf,
  ZERO,
} from './args.ts';
import { channels } from './channels.ts';
import {
  type Context,
  enter,
  failed,
  gone,
  inKernel,
  letGo,
  type Mortal,
  tell,
} from './context.ts';
import { kmemError, type MemoryReason } from './errors.ts';
import type { Kva } from './kva.ts';
import { showsItself } from './inspect.ts';
import { ChannelLine } from './line.ts';
import { type Address, bytesAt, copyIn, kvaFor, textBytes } from './memory.ts';
import { part } from './parts.ts';
import { type AsyncOptions, type Wait, waitFor } from './wait.ts';

// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
const malloc = malloc_;
const free = free_;
const freed_last = malloc_freed_last_;
const page = vm_page;
const PAGE_WORD_SHIFT = PAGE_WORD_SHIFT_;
const NOWAIT = M_NOWAIT | M_DRAIN | M_GUARDABLE;

/** How alloc makes a block or an item. */
export interface AllocOptions {
  /** The memory is zero. Otherwise it holds what its last user left. */
  readonly zero?: boolean;
  /** Waits for memory: true as long as it takes, or so many milliseconds. Default: never. */
  readonly wait?: Wait;
}
/** How alloc of a type makes a block. */
export interface BlockOptions extends AllocOptions {
  /**
   * False: where no run of pages is free the block may lie beyond the memory, as zeros.  Loads,
   * stores, copies and fills take its address; there is no view of it.  Default true.
   */
  readonly contiguous?: boolean;
}
/** How allocAsync makes a block, and how long it waits. */
export interface AllocAsyncOptions extends AsyncOptions {
  /** The memory is zero. Otherwise it holds what its last user left. */
  readonly zero?: boolean;
}

/** Numbers of a malloc type over all threads. */
export interface TypeStats {
  /** Its name. */
  readonly name: string;
  /** Blocks in use. */
  readonly inUse: number;
  /** Bytes in use, as the size classes round them. */
  readonly bytes: number;
  /** Requests that were served. */
  readonly requests: number;
  /** Requests that failed. */
  readonly failed: number;
}

/** A block that frees itself at the end of a `using`. */
export interface Block extends Disposable {
  /** Where it is; 0 once it is freed. */
  readonly address: Address;
  /** The block as one view; of length 0 once it is freed. Throws ESHUTDOWN. */
  readonly bytes: Uint8Array;
  /** Frees the block; the second time does nothing. */
  free(): void;
}

/** What is told about a block that nobody freed. */
interface Lost {
  readonly ctx: Context;
  readonly type: string;
  readonly size: number;
  readonly address: number;
}
/** Blocks that the garbage collector found before anybody freed them: only reported. */
const lost = new FinalizationRegistry<Lost>((b) => {
  if (!b.ctx.up) return; // the machine went first
  channels.leak.publish({ kind: 'type', name: b.type, count: 1, bytes: b.size });
  console.error(
    `kmem: a block of ${b.size} bytes of type '${b.type}' at ${b.address} was lost without free()`,
  );
});

/** Why there is no memory for `size` bytes now, with what is free; `placed`: not anywhere. */
export function memoryFailure(
  op: string,
  size: number,
  what: { type: string } | { zone: string } | { space: string },
  placed = false,
): Error {
  const freeBytes = kmem_left();
  const longestRun = Math.min(phys_longest() * PAGE_SIZE, freeBytes);
  const pages = Math.ceil(size / PAGE_SIZE);
  const bytes = pages * PAGE_SIZE;
  const limit = kmem_limit();
  const reason: MemoryReason =
    pages > vm_page_count() || bytes > limit
      ? 'too large'
      : bytes <= freeBytes
        ? longestRun < bytes || placed
          ? 'fragmented'
          : 'full' // but for the reserve
        : bytes <= vm_page_free_count() * PAGE_SIZE
          ? 'limit'
          : 'full';
  const [[kind, name]] = Object.entries(what);
  const held = reason === 'limit' ? `vm.kmem_size is ${limit}, ` : '';
  const kept = reason === 'full' && freeBytes > 0 ? ", the kernel's reserve" : '';
  const holders = reason === 'too large' ? [] : inKernel(op, holdersNow);
  const pagesOf = kind === 'space' ? `; ${inKernel(op, moreHolders.spaces)}` : '';
  const text =
    `${reason}: no ${size} bytes for ${kind} '${name}' (${held}${freeBytes} bytes free${kept}, ` +
    `longest run ${longestRun})${holdersText(holders)}${pagesOf}`;
  const details = { reason, size, freeBytes, longestRun, holders, ...what };
  if (channels.enomem.hasSubscribers) tell(() => channels.enomem.publish({ op, ...details }));
  const dump = reason === 'too large' ? undefined : kernel_parts.nomem_dump;
  if (dump) tell(() => inKernel('dump', dump));
  return kmemError(ENOMEM, op, text, details);
}
/** So many of those that hold memory are named. */
const HOLDERS = 3;
/** What this thread knows besides types and zones that holds memory, and in words about spaces. */
export const moreHolders: { find: () => Holder[]; spaces: () => string } = {
  find: () => [],
  spaces: () => '',
};
function holdersNow(): Holder[] {
  const all = [...largest_holders(HOLDERS), ...moreHolders.find()];
  return all.sort((a, b) => b.bytes - a.bytes).slice(0, HOLDERS);
}
function holdersText(holders: readonly Holder[]): string {
  if (holders.length === 0) return '';
  const each = holders.map(({ kind, name, bytes }) => `${kind} '${name}' (${bytes} bytes)`);
  return `; most is held by ${each.join(', ')}`;
}
/** Sleeps until pages come back, at most `ms`. */
export function sleepForPages(ms: number): void {
  vm_wait(ms); // errno: the caller asks again, and looks itself whether waiting helps
}

/** The flags of a request with these options, read once: it waits for hand-overs at most. */
export function zeroFlags(
  op: string,
  options: { readonly zero?: boolean } | undefined,
  known: Known,
): number {
  if (options === undefined) return NOWAIT;
  checkOptions(op, options, known);
  return NOWAIT | (booleanOf(op, 'zero', options.zero) ? M_ZERO : 0);
}

/** Where blocks begin in each kind of page: the same for all types of a machine. */
const starts = new WeakMap<Context, Int32Array>();
function startsOf(ctx: Context): Int32Array {
  const known = starts.get(ctx) ?? block_starts();
  starts.set(ctx, known);
  return known;
}

/** Blocks of any size under one name, counted over all threads. Made by machine.type(). */
export class MallocType implements Mortal, Disposable {
  /** Its name, the same in every thread. */
  readonly name: string;
  /*
   * What the two fast paths look at: the type, and the end of memory in words;
   * both 0 where a call must go the slow way (buried, or traced).  Plain fields,
   * a slow path outside the class, no comparison with 0: only so do alloc and
   * free stay small enough to be inlined into a program's loop together with the
   * kernel's malloc and free (4 ns more otherwise).
   */
  private t = 0 as malloc_type_t;
  private end = 0;
  /** Where blocks begin, by kind of page: a bit for each word. */
  private readonly starts: Int32Array;
  readonly #ctx: Context;
  readonly #line: ChannelLine;
  #t: malloc_type_t;
  readonly #end: number;
  static {
    showsItself(MallocType.prototype, 'MallocType', ({ name }) => ({ name }));
  }

  /** Use machine.type(name). */
  constructor(ctx: Context, name: string) {
    const t = malloc_type_find_or_make(name);
    if (t === 0) throw kmemError(ENOMEM, 'type', `no memory for the type '${name}'`);
    this.name = name;
    this.#ctx = ctx;
    this.#t = t;
    this.#end = memory_state.size / 4;
    this.starts = startsOf(ctx);
    this.#line = new ChannelLine({
      ctx,
      of: this,
      op: 'allocAsync',
      wmesg: W_VMWAIT,
      wakes: 'look',
      channel: vm_wait_channel,
      arm: vm_wait_arm,
    });
    this.trace(ctx.traced);
  }
  /**
   * Whether each call is published: used by machine.trace().
   * @internal
   */
  trace(on: boolean): void {
    const fast = !on && this.#t !== 0;
    this.t = fast ? this.#t : (0 as malloc_type_t);
    this.end = fast ? this.#end : 0;
  }

  /**
   * A block of `size` bytes (0 gives the smallest), 16-byte aligned, from 4096
   * bytes on page-aligned.  Does not wait unless `wait` is given.  Throws ENOMEM
   * with `reason`, `freeBytes` and `longestRun`; EINVAL for a size that is none;
   * with `wait` also EDEADLK, ETIMEDOUT, EOPNOTSUPP.  With { contiguous: false } it may lie beyond
   * the memory (kva.ts), where it has no view.
   */
  alloc(size: number, options?: BlockOptions): Address {
    const { t } = this;
    if (!t || typeof size !== 'number' || size >>> 0 !== size || options) {
      return allocWith(this, size, options);
    }
    const p = malloc(size, t, NOWAIT);
    return (p ? p * 4 : allocFailed(this, size)) as Address;
  }
  /** alloc that never waits and returns undefined when there is no memory. Throws EINVAL. */
  tryAlloc(size: number, options?: { zero?: boolean }): Address | undefined {
    this.#checkSize('tryAlloc', size);
    const flags = zeroFlags('tryAlloc', options, ZERO) & ~M_DRAIN;
    const p = malloc(size, this.#type('tryAlloc'), flags);
    if (p === 0) return undefined;
    this.#tell(size, p);
    return (p * 4) as Address;
  }
  /**
   * Gives a block back: any thread may.  0 is no block.  Throws EFAULT for what is no block, and
   * for the one that this thread gave back last.  A block of another type is taken, and a warning
   * names the types: for a small one when the figures are looked at; with INVARIANTS it is a
   * KernelPanic.
   */
  free(address: Address): void {
    let p = 0;
    try {
      p = address >>> 2;
    } catch {
      return freeWith(this, address); // a bigint or a symbol; to look at its type would cost
    }
    // Beyond 4 GiB, or no address at all: the slow way tells which.
    if ((p << 2) >>> 0 !== address || p >= this.end) return freeWith(this, address);
    const b = page.info[p >>> PAGE_WORD_SHIFT];
    if (((this.starts[(b << 5) + ((p >>> 5) & 31)] >>> p) & 1) === 0 || freed_last(p, b)) {
      return freeWith(this, address); // a large block, or none
    }
    free(p, this.t);
  }
  /**
   * Makes a block of this type fit `size` bytes, keeping its contents; returns where it is
   * now.  Of a block of another type it does as free does.  Throws ENOMEM (the old block is
   * still there), EINVAL, EFAULT.
   */
  realloc(address: Address, size: number, options?: { zero?: boolean }): Address {
    this.#checkSize('realloc', size);
    const flags = zeroFlags('realloc', options, ZERO);
    const t = this.#type('realloc');
    const at = kvaFor(address)?.realloc(address, size, t, flags) ?? -1;
    if (at >= 0) return (at === 0 ? this.#fail('realloc', size) : at) as Address;
    const p = address === 0 ? 0 : this.#block('realloc', address);
    const q = realloc(p, size, t, flags);
    return (q === 0 ? this.#fail('realloc', size) : q * 4) as Address;
  }
  /** Bytes that the block at `address` really has: at least what was asked for. Throws EFAULT. */
  usableSize(address: Address): number {
    this.#type('usableSize');
    const beyond = kvaFor(address)?.size(address) ?? 0;
    if (beyond > 0) return beyond;
    return malloc_usable_size(this.#block('usableSize', address));
  }
  /**
   * A block as an object that can be disposed of: `using b = type.block(64)`.
   * Its bytes are zero.  Throws as alloc does.  Costs an object and a view; one
   * that is lost without being freed is reported, not freed.
   */
  block(size: number, options?: AllocOptions): Block {
    const wait = waitOf('block', options, ALLOC);
    const address = this.alloc(size, { zero: true, wait });
    return new OwnedBlock(this.#ctx, this, address, size);
  }
  /**
   * alloc that waits in the event loop until memory comes free.  Rejects with
   * the signal's reason, ETIMEDOUT after `timeout` ms, ENOMEM for what can never
   * be had.
   */
  async allocAsync(size: number, options?: AllocAsyncOptions): Promise<Address> {
    this.#checkSize('allocAsync', size);
    const flags = zeroFlags('allocAsync', options, ALLOC_ASYNC);
    const wanted = asyncOptionsOf('allocAsync', options, ALLOC_ASYNC);
    this.#type('allocAsync');
    this.#checkPossible('allocAsync', size);
    const attempt = (): number | undefined =>
      malloc(size, this.#type('allocAsync'), flags) || undefined;
    const want = { op: 'allocAsync', name: `type '${this.name}'`, key: size, attempt };
    const p = await this.#line.wait(want, wanted);
    this.#tell(size, p);
    return (p * 4) as Address;
  }
  /**
   * A block with the UTF-8 of a text.  `byteLength` goes with it: there is no NUL.
   * Does not wait.  Throws as alloc does.
   */
  allocText(text: string): { address: Address; byteLength: number } {
    const bytes = textBytes(text, 'allocText');
    const address = this.alloc(bytes.length);
    copyIn(address, bytes, undefined, 'allocText');
    return { address, byteLength: bytes.length };
  }
  /** Numbers of the type over all threads: a sample while they run. */
  get stats(): TypeStats {
    const sums = malloc_type_sums(this.#type('stats'));
    return { name: this.name, inUse: sums.inuse, bytes: sums.bytes, ...pick(sums) };
  }
  /** Lets go of the handle. The type and its blocks stay; machine.type(name) finds them again. */
  [Symbol.dispose](): void {
    if (this.#t === 0) return;
    this.#ctx.forget('type', this.name);
    this.bury();
    this.#ctx.endWaits(this);
  }
  /** @internal */
  bury(): void {
    this.#t = 0 as malloc_type_t;
    this.trace(false);
  }

  #type(op: string): malloc_type_t {
    if (this.#t === 0) gone(op, this.#ctx);
    enter(op);
    return this.#t;
  }
  #checkSize(op: string, size: number): void {
    if (typeof size === 'number' && size >>> 0 === size) return;
    const text = `${shown(size)} is no size: give whole bytes from 0 to ${2 ** 32 - 1}`;
    throw kmemError(EINVAL, op, text, { type: this.name });
  }
  #checkPossible(op: string, size: number): void {
    const bytes = Math.ceil(size / PAGE_SIZE) * PAGE_SIZE;
    if (bytes > Math.min(vm_page_count() * PAGE_SIZE, kmem_limit())) this.#fail(op, size);
  }
  #word(op: string, address: number): number {
    const p = typeof address === 'number' ? address / 4 : -1;
    if ((p | 0) === p && p > 0 && p < this.#end) return p;
    return this.#noBlock(op, address, kvaFor(address)?.what(address));
  }
  /** The same, if a block begins there that this thread did not free last. */
  #block(op: string, address: number): number {
    const p = this.#word(op, address);
    if (!block_begins(p)) this.#noBlock(op, address, `: it is ${whatis(p)}`, p);
    const b = page.info[p >>> PAGE_WORD_SHIFT] & ~PK_MARKED;
    if (b < KMEM_CLASSES && freed_last(p, b)) {
      const text = `${address} is free already${op === 'free' ? ': it was freed twice' : ''}`;
      throw kmemError(EFAULT, op, text, { address, type: this.name, ...stacksOf(p) });
    }
    return p;
  }
  #noBlock(op: string, address: number, what = '', p = 0): never {
    const text = `${shown(address)} is no address of a block of type '${this.name}'${what}`;
    throw kmemError(EFAULT, op, text, { address, type: this.name, ...stacksOf(p) });
  }
  /**
   * alloc in full.
   * @internal
   */
  allocWith(size: number, options: BlockOptions | undefined): Address {
    this.#checkSize('alloc', size);
    let flags = NOWAIT;
    let wait: Wait = false;
    let anywhere = false;
    if (options !== undefined) {
      checkOptions('alloc', options, ALLOC_BLOCK);
      const { contiguous = true } = options;
      anywhere = !booleanOf('alloc', 'contiguous', contiguous);
      if (booleanOf('alloc', 'zero', options.zero)) flags |= M_ZERO;
      wait = checkWait('alloc', options.wait);
    }
    const t = this.#type('alloc');
    const kva = anywhere ? part('kva')() : undefined;
    let p = this.#malloc(size, t, flags);
    if (p === 0 && kva !== undefined) {
      const at = inKernel('alloc', () => kva.alloc(size, t, flags));
      if (at !== 0) return this.#tell(size, at / 4);
    }
    if (p === 0 && wait) {
      this.#checkPossible('alloc', size);
      p = waitFor({
        op: 'alloc',
        name: `type '${this.name}'`,
        instead: 'allocAsync',
        wait,
        attempt: () => malloc(size, t, flags),
        sleep: sleepForPages,
      });
    }
    if (p === 0) this.#fail('alloc', size);
    return this.#tell(size, p);
  }
  /** malloc by a call that has entered. */
  #malloc(size: number, t: malloc_type_t, flags: number): number {
    const outer = kernel_enter_proved();
    let p = 0;
    try {
      p = malloc(size, t, flags);
    } catch (e) {
      failed(e, outer, 'alloc');
    }
    kernel_leave(outer);
    return p;
  }
  #tell(size: number, p: number): Address {
    if (channels.malloc.hasSubscribers) {
      channels.malloc.publish({ type: this.name, size, address: p * 4 });
    }
    return (p * 4) as Address;
  }
  /**
   * free in full.
   * @internal
   */
  freeWith(address: Address): void {
    const t = this.#type('free');
    if (address === 0) return;
    const kva = kvaFor(address);
    if (kva !== undefined) return this.#freeBeyond(kva, address, t);
    const p = this.#block('free', address);
    if (channels.free.hasSubscribers) channels.free.publish({ type: this.name, address });
    free(p, t);
  }
  #freeBeyond(kva: Kva, address: Address, t: malloc_type_t): void {
    if (channels.free.hasSubscribers && kva.size(address) > 0) {
      channels.free.publish({ type: this.name, address });
    }
    if (!kva.free(address, t)) this.#noBlock('free', address, kva.what(address));
  }
  #fail(op: string, size: number): never {
    throw memoryFailure(op, size, { type: this.name });
  }
}
/** What was noted of the block or item at word p, for the details of an error: lines, if any. */
function stacksOf(p: number): { stacks?: string[] } {
  const stacks = p === 0 ? [] : inKernel('free', () => kernel_parts.item_history?.(p) ?? []);
  return stacks.length === 0 ? {} : { stacks };
}
/* Out of line for the two fast paths. */
function allocWith(type: MallocType, size: number, options: BlockOptions | undefined): Address {
  return type.allocWith(size, options);
}
function freeWith(type: MallocType, address: Address): void {
  type.freeWith(address);
}
function allocFailed(type: MallocType, size: number): never {
  throw memoryFailure('alloc', size, { type: type.name });
}
function pick(sums: { requests: number; failed: number }): { requests: number; failed: number } {
  return { requests: sums.requests, failed: sums.failed };
}

/** A block of the type as an object that can be disposed of. */
export function ownedBlock(ctx: Context, type: MallocType, address: Address, size: number): Block {
  return new OwnedBlock(ctx, type, address, size);
}
class OwnedBlock implements Block {
  readonly #ctx: Context;
  #type: MallocType | null;
  #address: Address;
  #bytes: Uint8Array;

  constructor(ctx: Context, type: MallocType, address: Address, size: number) {
    this.#ctx = ctx;
    this.#type = type;
    this.#address = address;
    this.#bytes = bytesAt(address, size);
    lost.register(this, { ctx, type: type.name, size, address }, this);
  }
  get address(): Address {
    return this.#address;
  }
  get bytes(): Uint8Array {
    if (this.#type !== null && !this.#ctx.up) gone('bytes', this.#ctx);
    return this.#bytes;
  }
  free(): void {
    if (!this.#type) return;
    lost.unregister(this);
    this.#type.free(this.#address);
    this.#type = null;
    this.#address = 0 as Address;
    this.#bytes = new Uint8Array(0);
  }
  [Symbol.dispose](): void {
    lost.unregister(this); // it ends here, or with its machine
    if (this.#ctx.up) letGo(() => this.free());
  }
}
