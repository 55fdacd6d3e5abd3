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
 * so alloc and free have a zone's per-CPU caches.  The first word of such an item
 * counts allocations and frees: odd means live.  It finds double frees, makes handles
 * that go stale (generations), and is what iteration looks at.  The numbers of the
 * last page above the capacity are never given out, and the zone's pages never go back
 * before the records end.  How the parts come and go: sys/client/kern_registry_parts.ts.
 *
 * Free changes the count by compare-and-swap, so that of two threads that free one
 * number in the same instant exactly one succeeds.  Alloc stores it plainly: an item
 * that is not live is nobody else's.
 *
 * Checked handles.  With `generations` alloc gives a handle instead of a number, which
 * index() turns into a number as long as its item is in use:
 *
 *      handle = -(generation * 2^32 + number)      generation = (count + 1) / 2, 1 to 2^21 - 1
 *
 * It is no number to TypeScript, and none that means anything at run time: below
 * -2^32, it is no index of a column, no address, no length, and no usual mistake (-1).
 * A number that has had all of its generations is retired: it stays allocated, by
 * nobody, so that no handle is ever valid again; the capacity is one less.
 */
import { EINVAL, ESTALE } from '../sys/machine/errno.ts';
import { atomic_add, atomic_cas as atomic_cas_ } from '../sys/machine/atomic.ts';
import { mem as mem_ } from '../sys/machine/memory.ts';
import { M_DRAIN, M_NOWAIT } from '../sys/h/malloc_flags.ts';
import {
  NUMBER_RETIRED,
  type reg_entry_t,
  V_COLUMNS,
  V_RETIRED,
  V_START,
} from '../sys/h/registry.ts';
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
  booleanOf,
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
import type { ChannelLine } from './line.ts';
import type { Item } from './memory.ts';
import { E_VALUE, entryShape, obtain } from './registry.ts';
import { type AllocOptions, memoryFailure, zeroFlags } from './type.ts';
import type { AsyncOptions } from './wait.ts';
import {
  entryZone,
  zoneAlloc,
  zoneAllocAsync,
  zoneFailure,
  zoneLine,
  zoneRelease,
} from './zone.ts';

const mem = mem_;
const atomic_cas = atomic_cas_;
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
export type FieldKind = 'i8' | 'u8' | 'i16' | 'u16' | 'i32' | 'u32' | 'f32' | 'f64';
/** Fields by name. */
export type Fields = Readonly<Record<string, FieldKind>>;
/** What the records have beside their fields: no field can be called so. */
type Taken = keyof RecordSet<string, Fields> | keyof typeof Object.prototype | 'then' | '__proto__';
/** No field has this type: TypeScript names it where a field is called like a member of records. */
export interface NameIsTaken<K> {
  readonly taken: K;
}
/** Fields whose names are free: one whose name is taken is no field to TypeScript either. */
export type FreeFields<F extends Fields> = {
  readonly [K in keyof F]: K extends Taken ? NameIsTaken<K> : F[K];
};
declare const handle: unique symbol;
/** An item of records with `generations`: records.index() gives its number, or ESTALE. */
export interface ItemHandle<N extends string = string> {
  readonly [handle]: N;
}
/** What alloc gives: a number, or a handle with `generations`. */
export type ItemOf<N extends string, O extends RecordsOptions> = O extends {
  readonly generations: true;
}
  ? ItemHandle<N>
  : O extends { readonly capacity: number; readonly generations?: false }
    ? Item<N>
    : Item<N> | ItemHandle<N>;
/** A view for each field, indexed by the number of the item. */
export type Columns<F extends Fields> = { readonly [K in keyof F]: FieldViews[F[K]] };

/** The shape of records beside their fields; every thread gives the same. */
export interface RecordsOptions {
  /** Most items at a time, 1 to 2^27; the memory for all of them is taken at once. */
  readonly capacity: number;
  /**
   * alloc gives handles that go stale when their item is freed; `index` checks them.  Default
   * false: it gives the numbers themselves.
   */
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
/** A handle is negative: the item's number, and its generation times this. */
const HANDLE_SHIFT = 2 ** 32;
/** Words of an item are 4 apart: a shift turns numbers into words. */
const NUMBER_SHIFT = 2;

/** Items of records in use, by their entry: retired numbers are nobody's. */
export function recordsInUse(e: number): number {
  return zone_present(entryZone(e)).used - retired(e);
}
function retired(e: number): number {
  return mem.I32[e + E_VALUE + V_RETIRED];
}

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
    if (RESERVED.has(field) || field in RecordSet.prototype) {
      bad(`field ${field}: records have a member of that name themselves; choose another`);
    }
    if (!/^[A-Za-z_$][\w$]*$/.test(field)) {
      bad(`field ${shown(field)}: a name is letters, digits, _ and $, and no digit first`);
    }
    return kind as FieldKind;
  });
  return {
    names,
    kinds,
    capacity,
    generations: booleanOf('records', `'${name}': generations`, generations),
  };
}
/** What the records are, as EEXIST shows it. */
export function recordsShapeText(o: RecordsShape): string {
  const list = o.names.map((field, i) => `${field}:${o.kinds[i]}`);
  return `${list.join(' ')}, capacity ${o.capacity}${o.generations ? ', generations' : ''}`;
}

// --- the object ------------------------------------------------------------

/** Records with a column for each field. */
export type Records<N extends string, F extends Fields, H = Item<N>> = RecordSet<N, F, H> &
  Columns<F>;
/** Values of some fields of one item. */
export type Values<F extends Fields> = { [K in keyof F]?: number };

/** Typed records in columns, found by name in every thread. Made by machine.records(). */
export class RecordSet<N extends string, F extends Fields, H = Item<N>>
  implements Mortal, Disposable
{
  /** Their name, the same in every thread. */
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
  readonly #line: ChannelLine;
  readonly #mine = (): zone_t => this.#zone('allocAsync');
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
    this.#line = zoneLine(this, ctx, this.#mine);
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
  alloc(options?: AllocOptions): H {
    const z = this.#z;
    if (z === 0 || options !== undefined) return this.#allocWith(options);
    const w = zalloc(z, NOWAIT);
    if (w === 0) this.#fail();
    const count = (mem.I32[w] + 1) | 0; // odd: live
    mem.I32[w] = count;
    const item = (w - this.#base) >> 2;
    // Written out: a call may fail for want of stack, and the item would be nobody's.
    return (this.generations ? -((count + 1) >>> 1) * HANDLE_SHIFT - item : item) as H;
  }
  /** An item if there is one, undefined if not. Never waits. */
  tryAlloc(options?: { zero?: boolean }): H | undefined {
    const flags = zeroFlags('tryAlloc', options, ZERO);
    const w = zalloc(this.#zone('tryAlloc'), M_NOWAIT);
    return w === 0 ? undefined : this.#made(w, flags !== NOWAIT);
  }
  /** alloc that waits in the event loop. Rejects with the signal's reason, ETIMEDOUT. */
  async allocAsync(options?: AsyncOptions & { zero?: boolean }): Promise<H> {
    const flags = zeroFlags('allocAsync', options, ALLOC_ASYNC);
    const wanted = asyncOptionsOf('allocAsync', options, ALLOC_ASYNC);
    const w = await zoneAllocAsync(this.#line, this.name, this.#mine, NOWAIT, wanted);
    return this.#made(w, flags !== NOWAIT);
  }
  /**
   * Gives an item back: any thread may.  Throws EINVAL for a number that is not in use
   * (freed twice), ESTALE for a handle whose item was freed.  Of threads that free one
   * item exactly one succeeds.  Never waits.
   */
  free(item: H): void {
    if (this.generations) return this.#freeHandle(item);
    const z = this.#z;
    const n = item as number;
    if (z === 0 || typeof n !== 'number' || (n | 0) !== n || n < 1 || n > this.capacity)
      return this.#bad('free', item);
    const w = this.#base + (n << NUMBER_SHIFT);
    const count = mem.I32[w];
    if ((count & 1) === 0 || atomic_cas(w, count, (count + 1) | 0) !== count)
      return this.#bad('free', item);
    try {
      zfree(z, w);
    } catch (e) {
      mem.I32[w] = count; // there was no stack for it: the item is in use as before
      throw e;
    }
  }
  #freeHandle(item: H): void {
    const z = this.#z;
    const n = this.#number(item);
    if (z === 0 || n === 0) return this.#bad('free', item);
    const w = this.#base + (n << NUMBER_SHIFT);
    const count = generationOf(item as number) * 2 - 1;
    if (atomic_cas(w, count, count + 1) !== count) return this.#bad('free', item);
    try {
      if (count + 1 === NUMBER_RETIRED) atomic_add(this.#e + E_VALUE + V_RETIRED, 1);
      else zfree(z, w);
    } catch (e) {
      mem.I32[w] = count;
      throw e;
    }
  }
  /** Whether a number is in use; with generations, whether the handle is not stale. */
  has(item: H): boolean {
    this.#zone('has');
    if (this.generations) return this.#valid(item) !== 0;
    return wholeIn(item, 1, this.capacity) && this.#live(item);
  }
  /**
   * The index of an item in its columns.  With generations the handle is checked: ESTALE
   * if its item was freed since.  Without, it is the number itself.
   */
  index(item: H): number {
    if (!this.generations) return item as number;
    this.#zone('index');
    const n = this.#valid(item);
    if (n === 0) this.#bad('index', item);
    return n;
  }
  /** Items in use over all threads: a sample while they run. */
  get count(): number {
    this.#zone('count');
    return recordsInUse(this.#e);
  }
  /** Calls `fn` with the column index of every item in use, in order of number. */
  forEach(fn: (index: number) => void): void {
    this.#zone('forEach');
    checkFunction('forEach', fn);
    for (let n = 1, w = this.#base + 4; n <= this.capacity; n++, w += 4) {
      if ((mem.I32[w] & 1) === 0) continue;
      fn(n);
      // fn may have left the machine, or disposed of the records.
      if (this.#z === 0) gone('forEach', this.#ctx);
    }
  }
  /** The items in use (handles, with generations), in order of number: a sample. */
  *[Symbol.iterator](): Generator<H, void, undefined> {
    for (let n = 1; n <= this.capacity; n++) {
      this.#zone('iteration');
      const count = mem.I32[this.#base + (n << NUMBER_SHIFT)];
      if ((count & 1) !== 0) yield this.#item(n, count);
    }
  }
  /** All fields of an item as an object: for looking, not for loops. Throws as index does. */
  get(item: H): { [K in keyof F]: number } {
    const n = this.#index('get', item);
    const values = {} as { [K in keyof F]: number };
    for (const field of this.#fields) values[field] = this.#column(field)[n];
    return values;
  }
  /** Sets some fields of an item: not for loops. Throws as index does. */
  set(item: H, values: Values<F>): void {
    if (typeof values !== 'object' || values === null) {
      throw kmemError(EINVAL, 'set', `${shown(values)} is no object`, { zone: this.name });
    }
    checkOptions('set', values, this.#fields, 'field');
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
    const inUse = (): number => recordsInUse(this.#e);
    this.#ctx.forget('records', this.name);
    this.bury();
    return zoneRelease('records', this.#e, this.name, inUse, () => this.#ctx.endWaits(this));
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
    if (this.#z === 0) gone(op, this.#ctx);
    enter(op);
    return this.#z;
  }
  /** `index`, for calls that are not for loops: what is no index is refused too. */
  #index(op: string, item: H): number {
    this.#zone(op);
    const n = this.generations ? this.#valid(item) : item;
    if (!wholeIn(n, 1, this.capacity)) return this.#bad(op, item);
    return n;
  }
  #column(field: string): FieldViews[FieldKind] {
    return (this as unknown as Record<string, FieldViews[FieldKind]>)[field];
  }
  #live(n: number): boolean {
    return (mem.I32[this.#base + (n << NUMBER_SHIFT)] & 1) !== 0;
  }
  /** The number in a handle, be it stale or not; 0 if it is none. */
  #number(item: unknown): number {
    if (typeof item !== 'number' || !Number.isSafeInteger(item)) return 0;
    const n = -item - generationOf(item) * HANDLE_SHIFT;
    return item < -HANDLE_SHIFT && n >= 1 && n <= this.capacity ? n : 0;
  }
  /** The number in a handle of an item in use; 0 if it is stale or none. */
  #valid(item: unknown): number {
    const n = this.#number(item);
    if (n === 0) return 0;
    const count = generationOf(item as number) * 2 - 1;
    return mem.I32[this.#base + (n << NUMBER_SHIFT)] === count ? n : 0;
  }
  #item(n: number, count: number): H {
    return (this.generations ? -((count + 1) >>> 1) * HANDLE_SHIFT - n : n) as H;
  }
  #made(w: number, zero = false): H {
    const count = (mem.I32[w] + 1) | 0;
    mem.I32[w] = count;
    const n = (w - this.#base) >> NUMBER_SHIFT;
    if (zero) for (const field of this.#fields) this.#column(field)[n] = 0;
    return this.#item(n, count);
  }
  #allocWith(options: AllocOptions | undefined): H {
    const flags = zeroFlags('alloc', options, ALLOC);
    const wait = waitOf('alloc', options, ALLOC);
    const w = zoneAlloc(this.#zone('alloc'), this.name, this.#most(), NOWAIT, wait);
    return this.#made(w, flags !== NOWAIT);
  }
  /** Numbers that can be in use at a time. */
  #most(): number {
    return this.capacity - retired(this.#e);
  }
  #fail(): never {
    throw zoneFailure('alloc', this.#z, this.name, this.#most());
  }
  #bad(op: string, item: unknown): never {
    this.#zone(op);
    const what = { zone: this.name };
    const text = shown(item);
    if (!this.generations) {
      const why = `${text} is not the number of an item in use (freed twice?)`;
      throw kmemError(EINVAL, op, why, what);
    }
    if (this.#number(item) === 0) throw kmemError(EINVAL, op, `${text} is no handle`, what);
    throw kmemError(ESTALE, op, `${text} is the handle of an item that was freed`, what);
  }
}
function generationOf(handle: number): number {
  return Math.floor(-handle / HANDLE_SHIFT);
}
