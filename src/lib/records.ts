/*
 * records: typed records as columns, numbered from 1, the same in every thread.
 *
 *      const P = machine.records('particle', { x: 'f64', hp: 'i32' }, { capacity: 1e6 });
 *      const p = P.alloc();      P.x[p] = 1.5;      P.free(p);
 *
 * Each field is one typed array over one contiguous block, indexed by the item's
 * number: access runs at the speed of a typed array, and a loop over one field
 * touches nothing else.  All memory is taken when the records are made, so the
 * capacity holds and alloc never asks for pages.
 *
 * Numbers come from a zone of 16-byte items whose pages are one reserved run:
 *
 *      run    | item 1 | item 2 | item 3 | ...       number = 1 + (word - start) / 4
 *
 * so alloc and free run at the speed of a zone, with its per-CPU caches.  The
 * first word of such an item counts allocations and frees: odd means live.  It
 * finds double frees, makes handles that go stale (generations), and is what
 * iteration looks at.  The numbers of the last page above the capacity are never
 * given out, and the zone's pages never go back before the records end.  How the
 * parts come and go: sys/client/kern_registry_parts.ts.
 *
 * The count of an item is read, tested and written by free without an atomic
 * operation, which would cost more than all the rest.  So a number that two
 * threads free in the same instant is freed twice, unless INVARIANTS is on: then
 * exactly one of them succeeds.
 */
import { EINVAL } from '../sys/machine/errno.ts';
import { atomic_cas } from '../sys/machine/atomic.ts';
import { mem as mem_ } from '../sys/machine/memory.ts';
import { opt as opt_ } from '../sys/machine/opt.ts';
import { M_DRAIN, M_NOWAIT } from '../sys/h/malloc_flags.ts';
import { type reg_entry_t, V_COLUMNS, V_START } from '../sys/h/registry.ts';
import type { zone_t } from '../sys/h/uma.ts';
import {
  part_columns,
  part_numbers,
  part_numbers_bytes,
} from '../sys/client/kern_registry_parts.ts';
import { uma_zalloc as uma_zalloc_, uma_zfree as uma_zfree_ } from '../sys/uma/uma_core.ts';
import { zone_present } from '../sys/uma/uma_stats.ts';
import {
  ALLOC,
  ALLOC_ASYNC,
  asyncOptionsOf,
  checkFunction,
  checkOptions,
  type Known,
  shown,
  waitOf,
  wholeIn,
  ZERO,
} from './args.ts';
import { type Context, enter, gone, type Mortal } from './context.ts';
import { kmemError } from './errors.ts';
import type { Item } from './memory.ts';
import { E_VALUE, entryShape, obtain } from './registry.ts';
import { type AllocOptions, memoryFailure, zeroFlags } from './type.ts';
import type { AsyncOptions } from './wait.ts';
import { entryZone, zoneAlloc, zoneAllocAsync, zoneFailure, zoneRelease } from './zone.ts';

const mem = mem_;
const opt = opt_;
const zalloc = uma_zalloc_;
const zfree = uma_zfree_;
const NOWAIT = M_NOWAIT | M_DRAIN;

/** The kinds of field: one column each. */
export interface FieldViews {
  i8: Int8Array;
  u8: Uint8Array;
  i16: Int16Array;
  u16: Uint16Array;
  i32: Int32Array;
  u32: Uint32Array;
  f32: Float32Array;
  f64: Float64Array;
}
/** What a field can be: 'i8' to 'u32' for integers, 'f32' and 'f64' for floats. */
export type FieldKind = keyof FieldViews;
/** Fields by name. */
export type Fields = Readonly<Record<string, FieldKind>>;
/** What the records have beside their fields: no field can be called so. */
type Taken = keyof RecordSet<string, Fields> | keyof typeof Object.prototype | 'then' | '__proto__';
/** Fields whose names are free: one whose name is taken is no field to TypeScript either. */
export type FreeFields<F extends Fields> = {
  readonly [K in keyof F]: K extends Taken ? never : F[K];
};
/** A view for each field, indexed by the number of the item. */
export type Columns<F extends Fields> = { readonly [K in keyof F]: FieldViews[F[K]] };

/** The shape of records beside their fields; every thread gives the same. */
export interface RecordsOptions {
  /** Most items at a time; the memory for all of them is taken at once. */
  readonly capacity: number;
  /** alloc gives handles that go stale when their item is freed; `at` checks them. */
  readonly generations?: boolean;
}

const VIEWS = {
  i8: Int8Array,
  u8: Uint8Array,
  i16: Int16Array,
  u16: Uint16Array,
  i32: Int32Array,
  u32: Uint32Array,
  f32: Float32Array,
  f64: Float64Array,
} as const;
const OPTIONS: Known = ['capacity', 'generations'];
const CAPACITY_MAX = 2 ** 27;
const FIELDS_MAX = 64;
/** Columns start at different cache lines of their pages: alike, they slow one another. */
const SKEW_BYTES = 192;
/** A handle is the item's number and 21 bits of its count. */
const HANDLE_SHIFT = 2 ** 32;
const GENERATIONS = 2 ** 21 - 1;

// --- making ------------------------------------------------------------

function columnBytes(kind: FieldKind, capacity: number, i: number): number {
  return (capacity + 1) * VIEWS[kind].BYTES_PER_ELEMENT + i * SKEW_BYTES;
}
/** Makes numbers and columns of an entry. Throws ENOMEM; the registry takes back what there is. */
function make(e: reg_entry_t, name: string, kinds: readonly FieldKind[], capacity: number): void {
  const no = (bytes: number): never => {
    throw memoryFailure('records', bytes, { zone: name });
  };
  if (part_numbers(e, name, capacity) !== 0) no(part_numbers_bytes(capacity));
  const missing = part_columns(
    e,
    name,
    kinds.map((kind, i) => columnBytes(kind, capacity, i)),
  );
  if (missing !== 0) no(missing);
}

// --- shapes ------------------------------------------------------------

const RESERVED = new Set([
  'name',
  'capacity',
  'generations',
  'constructor',
  '__proto__',
  'toString',
  'valueOf',
  'then',
]);
/** The fields and options of records, read once. */
export interface RecordsShape {
  readonly names: readonly string[];
  readonly kinds: readonly FieldKind[];
  readonly capacity: number;
  readonly generations: boolean;
}
/** Reads and checks what a program gave. Throws EINVAL. */
export function recordsShapeOf(name: string, fields: Fields, o: RecordsOptions): RecordsShape {
  const bad = (why: string): never => {
    throw kmemError(EINVAL, 'records', `'${name}': ${why}`, { zone: name });
  };
  if (typeof fields !== 'object' || fields === null) bad(`fields: ${shown(fields)} is no object`);
  if (o === undefined) bad('options: give the capacity');
  checkOptions('records', o, OPTIONS);
  const { capacity, generations = false } = o;
  if (!wholeIn(capacity, 1, CAPACITY_MAX)) {
    bad(`capacity ${shown(capacity)} is not a whole number from 1 to ${CAPACITY_MAX}`);
  }
  const names = Object.keys(fields);
  if (names.length === 0 || names.length > FIELDS_MAX) bad(`give 1 to ${FIELDS_MAX} fields`);
  const kinds = names.map((field) => {
    const kind: unknown = fields[field];
    if (typeof kind !== 'string' || !Object.hasOwn(VIEWS, kind)) {
      bad(`field ${field}: ${shown(kind)} is none of ${Object.keys(VIEWS).join(' ')}`);
    }
    if (RESERVED.has(field) || field in RecordSet.prototype || !/^[A-Za-z_$][\w$]*$/.test(field)) {
      bad(`field ${field}: this name is taken or no identifier; choose another`);
    }
    return kind as FieldKind;
  });
  return { names, kinds, capacity, generations: Boolean(generations) };
}
/** What the records are, as EEXIST shows it. */
export function recordsShapeText(o: RecordsShape): string {
  const list = o.names.map((field, i) => `${field}:${o.kinds[i]}`);
  return `${list.join(' ')}, capacity ${o.capacity}${o.generations ? ', generations' : ''}`;
}

// --- the object ------------------------------------------------------------

/** Records with a column for each field. */
export type Records<N extends string, F extends Fields> = RecordSet<N, F> & Columns<F>;
/** Values of some fields of one item. */
export type Values<F extends Fields> = { [K in keyof F]?: number };

/** Typed records in columns, found by name in every thread. Made by machine.records(). */
export class RecordSet<N extends string, F extends Fields> implements Mortal, Disposable {
  readonly name: N;
  /** Most items at a time. Numbers are 1 to this. */
  readonly capacity: number;
  /** Whether alloc gives handles. */
  readonly generations: boolean;
  readonly #ctx: Context;
  readonly #e: number;
  readonly #fields: readonly (keyof F & string)[];
  /** Word of item 0, which does not exist. */
  readonly #base: number;
  #z: zone_t;

  /** Use machine.records(name, fields, options). */
  constructor(ctx: Context, name: N, shape: RecordsShape) {
    const { kinds, capacity } = shape;
    this.#e = obtain('records', name, recordsShapeText(shape), (e) => {
      make(e as reg_entry_t, name, kinds, capacity);
    });
    this.name = name;
    this.capacity = capacity;
    this.generations = shape.generations;
    this.#ctx = ctx;
    this.#fields = shape.names;
    this.#base = mem.I32[this.#e + E_VALUE + V_START] - 4;
    this.#z = entryZone(this.#e);
    const table = mem.I32[this.#e + E_VALUE + V_COLUMNS];
    for (const [i, field] of this.#fields.entries()) {
      const at = mem.I32[table + i] * 4 + i * SKEW_BYTES;
      const view = new VIEWS[kinds[i]](mem.U8.buffer as ArrayBuffer, at, capacity + 1);
      Object.defineProperty(this, field, { value: view, enumerable: true });
    }
  }

  /** What the records are, as EEXIST shows it. */
  get shape(): string {
    this.#zone('shape');
    return entryShape(this.#e);
  }
  /**
   * Takes an item: a number from 1 on, or a handle with `generations`.  Fields
   * hold what the last user left, unless `zero`.  Does not wait unless `wait` is
   * given.  Throws ENOMEM with reason 'limit' when all `capacity` are in use.
   */
  alloc(options?: AllocOptions): Item<N> {
    const z = this.#z;
    if (z === 0 || options !== undefined) return this.#allocWith(options);
    const w = zalloc(z, NOWAIT);
    if (w === 0) this.#fail();
    const count = (mem.I32[w] + 1) | 0; // odd: live
    mem.I32[w] = count;
    const item = (w - this.#base) >> 2;
    // Written out: a call may fail for want of stack, and the item would be nobody's.
    if (!this.generations) return item as Item<N>;
    return (((count >>> 1) & GENERATIONS) * HANDLE_SHIFT + item) as Item<N>;
  }
  /** An item if there is one, undefined if not. Never waits. */
  tryAlloc(options?: { zero?: boolean }): Item<N> | undefined {
    const flags = zeroFlags('tryAlloc', options, ZERO);
    const w = zalloc(this.#zone('tryAlloc'), M_NOWAIT);
    return w === 0 ? undefined : this.#made(w, flags !== NOWAIT);
  }
  /** alloc that waits in the event loop. Rejects with the signal's reason, ETIMEDOUT. */
  async allocAsync(options?: AsyncOptions & { zero?: boolean }): Promise<Item<N>> {
    const flags = zeroFlags('allocAsync', options, ALLOC_ASYNC);
    const wanted = asyncOptionsOf('allocAsync', options, ALLOC_ASYNC);
    const zone = (): zone_t => this.#zone('allocAsync');
    const w = await zoneAllocAsync(this.#ctx, zone, this.name, NOWAIT, wanted);
    return this.#made(w, flags !== NOWAIT);
  }
  /**
   * Gives an item back: any thread may.  Throws EINVAL for a number or handle
   * that is not in use (freed twice, or stale).  Two threads that free one item
   * in the same instant are told apart under INVARIANTS only.  Never waits.
   */
  free(item: Item<N>): void {
    const z = this.#z;
    const n = this.generations ? this.#number(item) : item;
    if (z === 0 || typeof n !== 'number' || (n | 0) !== n || n < 1 || n > this.capacity)
      return this.#bad('free', item);
    const w = this.#base + (n << 2);
    const count = mem.I32[w];
    if ((count & 1) === 0) return this.#bad('free', item);
    if (opt.INVARIANTS) return this.#freeOnce(z, w, count, item);
    mem.I32[w] = (count + 1) | 0;
    try {
      zfree(z, w);
    } catch (e) {
      mem.I32[w] = count; // there was no stack for it: the item is in use as before
      throw e;
    }
  }
  /** The same where exactly one of two threads is to succeed. */
  #freeOnce(z: zone_t, w: number, count: number, item: Item<N>): void {
    if (atomic_cas(w, count, (count + 1) | 0) !== count) return this.#bad('free', item);
    try {
      zfree(z, w);
    } catch (e) {
      mem.I32[w] = count;
      throw e;
    }
  }
  /** Whether a number is in use; with generations, whether the handle is not stale. */
  has(item: number): boolean {
    this.#zone('has');
    const n = this.generations ? this.#number(item) : item;
    return Number.isInteger(n) && n >= 1 && n <= this.capacity && this.#live(n);
  }
  /**
   * The index of an item in its columns.  With generations the handle is
   * checked: EINVAL if its item was freed since.  Without, it is the number itself.
   */
  at(item: Item<N>): number {
    if (!this.generations) return item;
    this.#zone('at');
    const n = this.#number(item);
    if (n === 0) this.#bad('at', item);
    return n;
  }
  /** Items in use over all threads: a sample while they run. */
  get count(): number {
    return zone_present(this.#zone('count')).used;
  }
  /** Calls `fn` with the column index of every item in use, in order of number. */
  forEach(fn: (index: number) => void): void {
    this.#zone('forEach');
    checkFunction('forEach', fn);
    for (let n = 1, w = this.#base + 4; n <= this.capacity; n++, w += 4) {
      if ((mem.I32[w] & 1) === 0) continue;
      fn(n);
      if (this.#z === 0) gone('forEach'); // fn left the machine, or disposed of the records
    }
  }
  /** The items in use (handles, with generations), in order of number: a sample. */
  *[Symbol.iterator](): Generator<Item<N>, void, undefined> {
    for (let n = 1; n <= this.capacity; n++) {
      this.#zone('iteration');
      if (this.#live(n)) yield (this.generations ? this.#handle(n) : n) as Item<N>;
    }
  }
  /** All fields of an item as a plain object: for looking, not for loops. Throws as at does. */
  get(item: Item<N>): { [K in keyof F]: number } {
    const n = this.#index('get', item);
    const values = {} as { [K in keyof F]: number };
    for (const field of this.#fields) values[field] = this.#column(field)[n];
    return values;
  }
  /** Sets some fields of an item: not for loops. Throws as at does. */
  set(item: Item<N>, values: Values<F>): void {
    if (typeof values !== 'object' || values === null) {
      throw kmemError(EINVAL, 'set', `${shown(values)} is no object`, { zone: this.name });
    }
    checkOptions('set', values, this.#fields);
    const given = this.#fields.map((field) => this.#value(field, values[field]));
    const n = this.#index('set', item);
    for (const [i, field] of this.#fields.entries()) {
      const value = given[i];
      if (value !== undefined) this.#column(field)[n] = value;
    }
  }
  #value(field: string, value: unknown): number | undefined {
    if (value === undefined || typeof value === 'number') return value;
    const text = `field ${field}: ${shown(value)} is no number`;
    throw kmemError(EINVAL, 'set', text, { zone: this.name });
  }
  /**
   * Lets go of the records; with their last user they end, if no item is in use.
   * Returns the items in use if they stay for that reason.
   */
  dispose(): number {
    const z = this.#z;
    if (z === 0) return 0;
    enter('dispose');
    const inUse = (): number => zone_present(z).used;
    this.#ctx.forget('records', this.name);
    this.bury();
    return zoneRelease('records', this.#e, this.name, inUse);
  }
  /** dispose() at the end of a `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
  /** @internal */
  bury(): void {
    this.#z = 0 as zone_t;
  }

  #zone(op: string): zone_t {
    if (this.#z === 0) gone(op);
    enter(op);
    return this.#z;
  }
  /** `at`, for calls that are not for loops: what is no index is refused too. */
  #index(op: string, item: Item<N>): number {
    this.#zone(op);
    const n = this.generations ? this.#number(item) : item;
    if (!wholeIn(n, 1, this.capacity)) this.#bad(op, item);
    return n;
  }
  #column(field: string): FieldViews[FieldKind] {
    return (this as unknown as Record<string, FieldViews[FieldKind]>)[field];
  }
  #live(n: number): boolean {
    return (mem.I32[this.#base + (n << 2)] & 1) !== 0;
  }
  /** Number and count of an item in use. */
  #handle(n: number): number {
    const count = mem.I32[this.#base + (n << 2)];
    return ((count >>> 1) & GENERATIONS) * HANDLE_SHIFT + n;
  }
  /** The number in a handle; 0 if the handle is stale or none. */
  #number(handle: number): number {
    if (typeof handle !== 'number') return 0;
    const n = handle % HANDLE_SHIFT;
    if (!Number.isInteger(n) || n < 1 || n > this.capacity || !this.#live(n)) return 0;
    return this.#handle(n) === handle ? n : 0;
  }
  #made(w: number, zero = false): Item<N> {
    mem.I32[w] = (mem.I32[w] + 1) | 0;
    const n = (w - this.#base) >> 2;
    if (zero) for (const field of this.#fields) this.#column(field)[n] = 0;
    return (this.generations ? this.#handle(n) : n) as Item<N>;
  }
  #allocWith(options: AllocOptions | undefined): Item<N> {
    const flags = zeroFlags('alloc', options, ALLOC);
    const wait = waitOf('alloc', options, ALLOC);
    const w = zoneAlloc(this.#zone('alloc'), this.name, this.capacity, NOWAIT, wait);
    return this.#made(w, flags !== NOWAIT);
  }
  #fail(): never {
    throw zoneFailure('alloc', this.#z, this.name, this.capacity);
  }
  #bad(op: string, item: number): void {
    this.#zone(op);
    const what = this.generations ? 'a handle of an item in use' : 'the number of an item in use';
    throw kmemError(EINVAL, op, `${shown(item)} is not ${what} (freed twice?)`, {
      zone: this.name,
    });
  }
}
