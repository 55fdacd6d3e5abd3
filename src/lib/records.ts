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
 * Numbers, how they are taken and given, and what a death costs are the kernel's
 * (sys/client/kern_records.ts).  They have a zone's per-CPU caches, so alloc and free cost
 * what they cost there.  A number that is freed twice is found.  How the parts come
 * and go: sys/client/kern_registry_parts.ts.
 *
 * Checked handles.  With `generations` alloc gives a handle instead of a number, which
 * index() turns into a number as long as its item is in use:
 *
 *      const h = P.alloc();      P.x[P.index(h)] = 1.5;      P.free(h);
 *      P.index(h)                ESTALE
 *
 * A handle is no number to TypeScript, and none that means anything at run time: below
 * -2^32.  A number that has had all of its 2^21 - 1 generations is retired: it is given out
 * no more, and the capacity is one less.
 */
import { EINVAL, ESTALE } from '../sys/machine/errno.ts';
import { mem } from '../sys/machine/memory.ts';
import { NULL } from '../sys/machine/struct.ts';
import { M_DRAIN, M_NOWAIT } from '../sys/h/malloc_flags.ts';
import { type reg_entry_t, reg_records } from '../sys/h/registry.ts';
import type { zone_t } from '../sys/h/uma.ts';
import {
  records_alloc as records_alloc_,
  records_alloc_handle as records_alloc_handle_,
  records_free as records_free_,
  records_free_handle as records_free_handle_,
  records_handle,
  records_handle_number,
  records_index,
  records_live,
  records_most,
  records_used,
} from '../sys/client/kern_records.ts';
import { registry_shape } from '../sys/client/kern_registry.ts';
import {
  part_columns,
  part_numbers,
  part_numbers_bytes,
} from '../sys/client/kern_registry_parts.ts';
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
import { type Context, enter, gone, letGo, type Mortal } from './context.ts';
import { kmemError } from './errors.ts';
import type { ChannelLine } from './line.ts';
import type { Item } from './memory.ts';
import { obtain } from './registry.ts';
import { type AllocOptions, memoryFailure, zeroFlags } from './type.ts';
import type { AsyncOptions } from './wait.ts';
import { zoneAlloc, zoneAllocAsync, zoneFailure, zoneLine, zoneRelease } from './zone.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const records_alloc = records_alloc_;
const records_alloc_handle = records_alloc_handle_;
const records_free = records_free_;
const records_free_handle = records_free_handle_;
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
  readonly #fields: readonly (keyof F & string)[];
  readonly #line: ChannelLine;
  readonly #mine = (): zone_t => reg_records.zone[this.#live('allocAsync')];
  /** NULL once it was disposed of. */
  #e: reg_entry_t;

  /** Use machine.records(name, fields, options). */
  constructor(ctx: Context, name: N, shape: RecordsShape) {
    const { kinds, capacity } = shape;
    this.#e = obtain('records', name, recordsShapeText(shape), (e) => {
      make(e, name, kinds, capacity);
    });
    this.name = name;
    this.capacity = capacity;
    this.generations = shape.generations;
    this.#ctx = ctx;
    this.#fields = shape.names;
    this.#line = zoneLine(this, ctx, this.#mine);
    const table = reg_records.columns[this.#e];
    for (const [i, field] of this.#fields.entries()) {
      const at = mem.I32[table + i] * 4 + i * SKEW_BYTES;
      const view = new VIEWS[kinds[i]](mem.U8.buffer as ArrayBuffer, at, capacity + 1);
      Object.defineProperty(this, field, { value: view, enumerable: true });
    }
  }

  /** What the records are, as EEXIST shows it. */
  get shape(): string {
    return registry_shape(this.#live('shape'));
  }
  /**
   * Takes an item: a number from 1 on, or a handle with `generations`.  Fields
   * hold what the last user left, unless `zero`.  Does not wait unless `wait` is
   * given.  Throws ENOMEM with reason 'limit' when all `capacity` are in use.
   */
  alloc(options?: AllocOptions): H {
    const e = this.#e;
    if (e === NULL || options !== undefined) return this.#allocWith(options);
    const item = this.generations ? records_alloc_handle(e, NOWAIT) : records_alloc(e, NOWAIT);
    return (item === 0 ? this.#fail() : item) as H;
  }
  /** An item if there is one, undefined if not. Never waits. */
  tryAlloc(options?: { zero?: boolean }): H | undefined {
    const flags = zeroFlags('tryAlloc', options, ZERO);
    const item = this.#ask('tryAlloc', M_NOWAIT);
    return item === 0 ? undefined : this.#made(item, flags !== NOWAIT);
  }
  /** alloc that waits in the event loop. Rejects with the signal's reason, ETIMEDOUT. */
  async allocAsync(options?: AsyncOptions & { zero?: boolean }): Promise<H> {
    const flags = zeroFlags('allocAsync', options, ALLOC_ASYNC);
    const wanted = asyncOptionsOf('allocAsync', options, ALLOC_ASYNC);
    const ask = (): number => this.#ask('allocAsync', NOWAIT);
    const item = await zoneAllocAsync(this.#line, this.name, ask, wanted);
    return this.#made(item, flags !== NOWAIT);
  }
  /**
   * Gives an item back: any thread may.  Throws EINVAL for a number that is not in use
   * (freed twice), ESTALE for a handle whose item was freed.  Of threads that free one
   * item exactly one succeeds.  Never waits.
   */
  free(item: H): void {
    const e = this.#e;
    if (e === NULL || typeof item !== 'number') return this.#bad('free', item);
    if (this.generations) {
      if (records_free_handle(e, item) !== 0) this.#bad('free', item);
    } else if ((item | 0) !== item || records_free(e, item) !== 0) this.#bad('free', item);
  }
  /** Whether a number is in use; with generations, whether the handle is not stale. */
  has(item: H): boolean {
    const e = this.#live('has');
    if (this.generations) return records_index(e, item as number) !== 0;
    return wholeIn(item, 1, this.capacity) && records_live(e, item);
  }
  /**
   * The index of an item in its columns.  With generations the handle is checked: ESTALE
   * if its item was freed since.  Without, it is the number itself.
   */
  index(item: H): number {
    if (!this.generations) return item as number;
    const n = records_index(this.#live('index'), item as number);
    if (n === 0) this.#bad('index', item);
    return n;
  }
  /** Items in use over all threads: a sample while they run. */
  get count(): number {
    return records_used(this.#live('count'));
  }
  /** Calls `fn` with the column index of every item in use, in order of number. */
  forEach(fn: (index: number) => void): void {
    const e = this.#live('forEach');
    checkFunction('forEach', fn);
    for (let n = 1; n <= this.capacity; n++) {
      if (!records_live(e, n)) continue;
      fn(n);
      // fn may have left the machine, or disposed of the records.
      if (this.#e === NULL) gone('forEach', this.#ctx);
    }
  }
  /** The items in use (handles, with generations), in order of number: a sample. */
  *[Symbol.iterator](): Generator<H, void, undefined> {
    for (let n = 1; n <= this.capacity; n++) {
      const e = this.#live('iteration');
      const item = this.generations ? records_handle(e, n) : records_live(e, n) ? n : 0;
      if (item !== 0) yield item as H;
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
    const e = this.#e;
    if (e === NULL) return 0;
    return letGo(() => this.#dispose(e)) ?? 0;
  }
  #dispose(e: reg_entry_t): number {
    enter('dispose');
    const z = reg_records.zone[e];
    const inUse = (): number => records_used(e);
    this.#ctx.forget('records', this.name);
    this.bury();
    return zoneRelease('records', e, z, this.name, inUse, () => this.#ctx.endWaits(this));
  }
  /** dispose() at the end of a `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
  /** @internal */
  bury(): void {
    this.#e = NULL as reg_entry_t;
  }

  #live(op: string): reg_entry_t {
    if (this.#e === NULL) gone(op, this.#ctx);
    enter(op);
    return this.#e;
  }
  #ask(op: string, flags: number): number {
    const e = this.#live(op);
    return this.generations ? records_alloc_handle(e, flags) : records_alloc(e, flags);
  }
  /** `index`, for calls that are not for loops: what is no index is refused too. */
  #index(op: string, item: H): number {
    const e = this.#live(op);
    const n = this.generations ? records_index(e, item as number) : item;
    if (!wholeIn(n, 1, this.capacity)) return this.#bad(op, item);
    return n;
  }
  #column(field: string): FieldViews[FieldKind] {
    return (this as unknown as Record<string, FieldViews[FieldKind]>)[field];
  }
  #made(item: number, zero: boolean): H {
    if (zero) {
      const n = this.generations ? records_handle_number(this.#e, item) : item;
      for (const field of this.#fields) this.#column(field)[n] = 0;
    }
    return item as H;
  }
  #allocWith(options: AllocOptions | undefined): H {
    const flags = zeroFlags('alloc', options, ALLOC);
    const wait = waitOf('alloc', options, ALLOC);
    const e = this.#live('alloc');
    const attempt = (): number => this.#ask('alloc', NOWAIT);
    const ask = { zone: reg_records.zone[e], name: this.name, limit: records_most(e), attempt };
    return this.#made(zoneAlloc(ask, wait), flags !== NOWAIT);
  }
  #fail(): never {
    const e = this.#e;
    throw zoneFailure('alloc', reg_records.zone[e], this.name, records_most(e));
  }
  #bad(op: string, item: unknown): never {
    const e = this.#live(op);
    const what = { zone: this.name };
    const text = shown(item);
    if (!this.generations) {
      const why = `${text} is not the number of an item in use (freed twice?)`;
      throw kmemError(EINVAL, op, why, what);
    }
    if (records_handle_number(e, item as number) === 0)
      throw kmemError(EINVAL, op, `${text} is no handle`, what);
    throw kmemError(ESTALE, op, `${text} is the handle of an item that was freed`, what);
  }
}
