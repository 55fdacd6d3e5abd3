/*
 * window: pages of a region as flat memory, at the speed of a typed array.
 *
 *      using w = m.window(off, 65536, { write: true });
 *      w.u8[0] = 1;  w.f64[3];                         views: no translation, no check
 *
 *      for (const w of m.windows({ size: '64K' })) sum(w.u32);
 *
 * Opening a window gets its pages, moves them side by side where they are not, and holds them in
 * place; closing lets them go.  While it is open, the views are the memory itself: other threads
 * see what is stored through them, in windows of their own and by the calls of the region.  After
 * it is closed they may be anybody's memory: keep the window, and not its views.  A debug machine
 * (boot({ debug: true })) moves the pages away then and fills what they leave with 0xdeadc0de.
 *
 * A window is this thread's: it closes when the thread leaves or dies.  A view that is posted to
 * another thread is not counted.
 */
import { EINVAL, ESHUTDOWN } from '../sys/machine/errno.ts';
import { mem, PAGE_SIZE } from '../sys/machine/memory.ts';
import { NULL } from '../sys/machine/struct.ts';
import { vm_window, type vm_window_t } from '../sys/h/vm_window.ts';
import {
  vm_window_close,
  vm_window_why,
  WINDOW_FRAGMENTED,
  WINDOW_LIMIT,
  WINDOW_WIRED,
} from '../sys/map/vm_window.ts';
import { type Context, enter, gone, inKernel, letGo } from './context.ts';
import { kmemError } from './errors.ts';
import { showsItself } from './inspect.ts';
import type { Region } from './region.ts';

type Made<T> = new (buffer: ArrayBufferLike, at: number, n: number) => T;

/** What a window shows; `at`: where in the memory, if nothing has to be held for that. */
interface Shown {
  readonly offset: number;
  readonly length: number;
  readonly write: boolean;
  readonly at?: number | undefined;
}
/** Flat views of pages that are held in place. */
abstract class Held implements Disposable {
  /** Where in what it shows it begins, bytes. */
  readonly offset: number;
  /** Bytes. */
  readonly length: number;
  /** Whether it was opened for writing. */
  readonly write: boolean;
  readonly #ctx: Context;
  /** Called when it is closed. */
  readonly #forget: () => void;
  /** NULL: it is closed, or nothing is held, because nothing can move. */
  #w: vm_window_t;
  /** Its first byte in the memory; -1: it is closed. */
  #at: number;
  readonly #views = new Map<unknown, unknown>();

  /** @internal */
  constructor(
    ctx: Context,
    w: vm_window_t,
    { offset, length, write, at = offset }: Shown,
    forget: () => void,
  ) {
    this.#ctx = ctx;
    this.#forget = forget;
    this.offset = offset;
    this.length = length;
    this.write = write;
    this.#w = w;
    this.#at = w === NULL ? at : vm_window.frame[w] * PAGE_SIZE + (offset % PAGE_SIZE);
  }
  /** The bytes. Views throw ESHUTDOWN once the window is closed, EINVAL if it is not aligned. */
  get u8(): Uint8Array {
    return this.#view<Uint8Array>(Uint8Array, 1);
  }
  /** Signed bytes. */
  get i8(): Int8Array {
    return this.#view<Int8Array>(Int8Array, 1);
  }
  /** Unsigned 16 bits each; what is no whole one at the end is left out. */
  get u16(): Uint16Array {
    return this.#view<Uint16Array>(Uint16Array, 2);
  }
  /** Signed 16 bits. */
  get i16(): Int16Array {
    return this.#view<Int16Array>(Int16Array, 2);
  }
  /** Unsigned 32 bits. */
  get u32(): Uint32Array {
    return this.#view<Uint32Array>(Uint32Array, 4);
  }
  /** Signed 32 bits. */
  get i32(): Int32Array {
    return this.#view<Int32Array>(Int32Array, 4);
  }
  /** 32-bit floats. */
  get f32(): Float32Array {
    return this.#view<Float32Array>(Float32Array, 4);
  }
  /** 64-bit floats. */
  get f64(): Float64Array {
    return this.#view<Float64Array>(Float64Array, 8);
  }
  #view<T>(kind: Made<T>, width: number): T {
    const known = this.#views.get(kind);
    if (known !== undefined) return known as T;
    if (this.closed) this.#closed();
    const at = this.#at;
    if (at % width !== 0) {
      const why = `offset ${this.offset} is no multiple of ${width}: no such view begins there`;
      throw kmemError(EINVAL, 'window', why);
    }
    const view = new kind(mem.U8.buffer, at, Math.floor(this.length / width));
    this.#views.set(kind, view);
    return view;
  }
  #closed(): never {
    if (!this.#ctx.up) gone('window', this.#ctx);
    throw kmemError(ESHUTDOWN, 'window', 'it is closed: open another one, and keep no views');
  }
  /** Whether it is closed. */
  get closed(): boolean {
    return this.#at < 0 || !this.#ctx.up;
  }
  /** Closes it: its pages may go and move again. The second time does nothing. */
  close(): void {
    const w = this.#w;
    if (this.closed) return;
    letGo(() => {
      enter('close');
      this.bury();
      this.#forget();
      if (w !== NULL) inKernel('close', () => vm_window_close(w));
    });
  }
  /** close() at the end of a `using`. */
  [Symbol.dispose](): void {
    this.close();
  }
  /** @internal */
  bury(): void {
    this.#w = NULL as vm_window_t;
    this.#at = -1;
    this.#views.clear();
  }
}
/** Flat views of a part of a region, held in place. Made by region.window(). */
export class Window extends Held {
  /** The region that it shows. */
  readonly region: Region;
  static {
    showsItself(Window.prototype, 'Window', ({ offset, length, write }) => {
      return { offset, length, write };
    });
  }

  /** Use region.window(). */
  constructor(region: Region, w: vm_window_t, offset: number, length: number, write: boolean) {
    const { context, windows } = region.space;
    super(context, w, { offset, length, write }, () => void windows.delete(this));
    this.region = region;
  }
}
/**
 * Flat views of a part of a block, which may lie beyond the memory (kva.ts).  Made by
 * machine.window().
 */
export class BlockWindow extends Held {
  /** Its first byte. */
  readonly address: number;
  static {
    showsItself(BlockWindow.prototype, 'BlockWindow', ({ address, length, write }) => {
      return { address, length, write };
    });
  }

  /** Use machine.window(). */
  constructor(ctx: Context, w: vm_window_t, { offset, length, write, at }: Shown) {
    super(ctx, w, { offset, length, write, at }, () => {});
    this.address = offset;
  }
}

/** Why the last window of `n` bytes in this thread was ENOMEM; null: there is no memory. */
export function windowShort(n: number): { why: string; details: object } | null {
  const { reason, pages } = vm_window_why;
  const bytes = pages * PAGE_SIZE;
  if (reason === WINDOW_LIMIT) {
    const why = `a window of ${n} bytes: vm.window_max and vm.max_wired leave ${bytes}`;
    return { why, details: { reason: 'limit' } };
  }
  if (reason === WINDOW_WIRED) {
    const why = `of the ${n} bytes a page is held in place as often as it can be`;
    return { why, details: { reason: 'limit' } };
  }
  if (reason !== WINDOW_FRAGMENTED) return null;
  const why = `no free pages side by side for ${n} bytes: the longest run has ${bytes}`;
  return { why, details: { reason: 'fragmented', longestRun: bytes } };
}
