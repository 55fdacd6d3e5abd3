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
 * iteration looks at.  The last slab's numbers above the capacity are taken out
 * once and for all.
 *
 * The zone's pages never go back before the records end, so that only the
 * thread that makes or ends them calls the page supplier.
 */
import { EINVAL } from '../sys/machine/errno.ts';
import { mem as mem_, PAGE_SIZE, page_word } from '../sys/machine/memory.ts';
import { add64 } from '../sys/machine/struct.ts';
import { vector } from '../sys/machine/vectors.ts';
import { M_NOWAIT, M_ZERO } from '../sys/h/malloc_flags.ts';
import type { malloc_type_t } from '../sys/h/malloc.ts';
import {
  UMA_ZONE_NOFREE,
  UMA_ZONE_OFFPAGE,
  UMA_ZONE_ZINIT,
  uma_zone,
  type zone_t,
} from '../sys/h/uma.ts';
import { VM_ALLOC_SYSTEM } from '../sys/h/vm_page.ts';
import { free, malloc } from '../sys/kmem/kern_malloc.ts';
import { malloc_type_find_or_make } from '../sys/kmem/kern_malloc_type.ts';
import { vm_page_alloc_run, vm_page_free_run, vm_page_wire } from '../sys/page/vm_page.ts';
import {
  uma_zalloc as uma_zalloc_,
  uma_zfree as uma_zfree_,
  zone_alloc_item,
  zone_free_item,
} from '../sys/uma/uma_core.ts';
import { uma_reclaim } from '../sys/uma/uma_drain.ts';
import { zone_lock, zone_unlock } from '../sys/uma/uma_int.ts';
import { zone_present } from '../sys/uma/uma_stats.ts';
import {
  uma_prealloc,
  uma_zcreate_nowait,
  uma_zdestroy,
  uma_zone_set_allocf,
  uma_zone_set_max,
} from '../sys/uma/uma_zone.ts';
import { type Context, gone, type Mortal } from './context.ts';
import { kmemError } from './errors.ts';
import type { Item } from './memory.ts';
import { E_VALUE, entryShape, obtain } from './registry.ts';
import { type AllocOptions, memoryFailure } from './type.ts';
import type { AsyncOptions } from './wait.ts';
import { entryZone, zoneAlloc, zoneAllocAsync, zoneFailure, zoneRelease } from './zone.ts';

const mem = mem_;
const zalloc = uma_zalloc_;
const zfree = uma_zfree_;
const NOWAIT = M_NOWAIT;

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
const PER_PAGE = PAGE_SIZE / 16;
const CAPACITY_MAX = 2 ** 27;
const FIELDS_MAX = 64;
/** Columns start at different cache lines of their pages: alike, they slow one another. */
const SKEW_BYTES = 192;
/** A handle is the item's number and 21 bits of its count. */
const HANDLE_SHIFT = 2 ** 32;
const GENERATIONS = 2 ** 21 - 1;

const V_ZONE = E_VALUE;
const V_START = E_VALUE + 1;
const V_COLUMNS = E_VALUE + 2;
const V_TYPE = E_VALUE + 3;

// --- the pages behind the numbers ------------------------------------------------------------

/** The run that this thread is handing to a zone now, from its end down. */
const supply = { first: 0, next: 0 };
const ALLOCF = vector('kmem records: pages', () => {
  if (supply.next <= supply.first) return 0;
  supply.next--;
  return supply.next;
});
const FREEF = vector('kmem records: pages back', (m: number, n: number) => vm_page_free_run(m, n));

function reserveRun(pages: number): number {
  let m = vm_page_alloc_run(pages, VM_ALLOC_SYSTEM);
  if (m === 0 && uma_reclaim() > 0) m = vm_page_alloc_run(pages, VM_ALLOC_SYSTEM);
  if (m !== 0) vm_page_wire(m, pages);
  return m;
}
/** Makes the zone of the numbers 1 to `capacity`. Throws ENOMEM, and then keeps nothing. */
function makeNumbers(name: string, capacity: number): { z: zone_t; start: number } {
  const pages = Math.ceil(capacity / PER_PAGE);
  const m = reserveRun(pages);
  if (m === 0) throw memoryFailure('records', pages * PAGE_SIZE, { zone: name });
  const flags = UMA_ZONE_OFFPAGE | UMA_ZONE_NOFREE | UMA_ZONE_ZINIT;
  const z = uma_zcreate_nowait(name, 16, 0, 0, 0, 0, 7, flags);
  supply.first = m;
  supply.next = m + pages;
  const fail = (): never => {
    if (z !== 0) uma_zdestroy(z);
    if (supply.next > m) vm_page_free_run(m, supply.next - m);
    supply.next = m;
    throw memoryFailure('records', PAGE_SIZE, { zone: name });
  };
  if (z === 0) fail();
  uma_zone_set_allocf(z, ALLOCF, FREEF);
  if (uma_prealloc(z, 1) !== 0) fail(); // the last page of the run, alone
  withhold(z, page_word(m), capacity);
  if (pages > 1 && uma_prealloc(z, (pages - 1) * PER_PAGE) !== 0) {
    unwithhold(z, page_word(m), capacity);
    fail();
  }
  uma_zone_set_max(z, pages * PER_PAGE);
  return { z, start: page_word(m) };
}
/** Takes the numbers above the capacity out of the last page: they count as free, not as used. */
function withhold(z: zone_t, start: number, capacity: number): void {
  const all: number[] = [];
  for (let i = 0; i < PER_PAGE; i++) all.push(zone_alloc_item(z, NOWAIT));
  for (const w of all) if (w < start + capacity * 4) zone_free_item(z, w);
  countFrees(z, surplusOf(capacity));
}
function unwithhold(z: zone_t, start: number, capacity: number): void {
  const surplus = surplusOf(capacity);
  for (let i = 0; i < surplus; i++) zone_free_item(z, start + (capacity + i) * 4);
  countFrees(z, -surplus);
}
function surplusOf(capacity: number): number {
  return Math.ceil(capacity / PER_PAGE) * PER_PAGE - capacity;
}
function countFrees(z: zone_t, n: number): void {
  zone_lock(z);
  add64(uma_zone.frees, z, n);
  zone_unlock(z);
}

// --- the columns ------------------------------------------------------------

function columnBytes(kind: FieldKind, capacity: number, i: number): number {
  return (capacity + 1) * VIEWS[kind].BYTES_PER_ELEMENT + i * SKEW_BYTES;
}
/** A block for each column, and a block of their words. Throws ENOMEM, and then keeps nothing. */
function makeColumns(
  name: string,
  kinds: readonly FieldKind[],
  capacity: number,
): { table: number; t: malloc_type_t } {
  const t = malloc_type_find_or_make(name);
  const blocks: number[] = [];
  const fail = (size: number): never => {
    for (const p of blocks) free(p, t);
    throw memoryFailure('records', size, { zone: name });
  };
  if (t === 0) fail(0);
  const take = (size: number): number => {
    const p = malloc(size, t, NOWAIT | M_ZERO);
    if (p === 0) fail(size);
    blocks.push(p);
    return p;
  };
  const table = take((kinds.length + 1) * 4);
  for (const [i, kind] of kinds.entries()) {
    mem.I32[table + i] = take(columnBytes(kind, capacity, i));
  }
  return { table, t };
}
function freeColumns(e: number): void {
  const t = mem.I32[e + V_TYPE] as malloc_type_t;
  const table = mem.I32[e + V_COLUMNS];
  for (let i = 0; mem.I32[table + i] !== 0; i++) free(mem.I32[table + i], t);
  free(table, t);
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
function checkShape(name: string, fields: Fields, o: RecordsOptions): void {
  const bad = (why: string): never => {
    throw kmemError(EINVAL, 'records', `'${name}': ${why}`, { zone: name });
  };
  if (!Number.isInteger(o.capacity) || o.capacity < 1 || o.capacity > CAPACITY_MAX) {
    bad(`capacity ${o.capacity} is not a whole number from 1 to ${CAPACITY_MAX}`);
  }
  const names = Object.keys(fields);
  if (names.length === 0 || names.length > FIELDS_MAX) bad(`give 1 to ${FIELDS_MAX} fields`);
  for (const field of names) {
    if (!Object.hasOwn(VIEWS, fields[field])) {
      bad(`field ${field}: '${fields[field]}' is none of ${Object.keys(VIEWS).join(' ')}`);
    }
    if (RESERVED.has(field) || field in RecordSet.prototype || !/^[A-Za-z_$][\w$]*$/.test(field)) {
      bad(`field ${field}: this name is taken or no identifier; choose another`);
    }
  }
}
function shapeOf(fields: Fields, o: RecordsOptions): string {
  const list = Object.entries(fields).map(([field, kind]) => `${field}:${kind}`);
  const generations = o.generations ? ', generations' : '';
  return `${list.join(' ')}, capacity ${o.capacity}${generations}`;
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
  constructor(ctx: Context, name: N, fields: F, options: RecordsOptions) {
    checkShape(name, fields, options);
    const kinds = Object.values(fields) as FieldKind[];
    const { capacity } = options;
    this.#e = obtain('records', name, shapeOf(fields, options), (e) => {
      const { z, start } = makeNumbers(name, capacity);
      mem.I32[e + V_ZONE] = z;
      mem.I32[e + V_START] = start;
      try {
        const { table, t } = makeColumns(name, kinds, capacity);
        mem.I32[e + V_COLUMNS] = table;
        mem.I32[e + V_TYPE] = t;
      } catch (error) {
        unwithhold(z, start, capacity);
        uma_zdestroy(z);
        throw error;
      }
    });
    this.name = name;
    this.capacity = capacity;
    this.generations = options.generations ?? false;
    this.#ctx = ctx;
    this.#fields = Object.keys(fields);
    this.#base = mem.I32[this.#e + V_START] - 4;
    this.#z = entryZone(this.#e);
    const table = mem.I32[this.#e + V_COLUMNS];
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
    mem.I32[w] = (mem.I32[w] + 1) | 0; // odd: live
    const item = (w - this.#base) >> 2;
    return (this.generations ? this.#handle(item) : item) as Item<N>;
  }
  /** An item if there is one, undefined if not. Never waits. */
  tryAlloc(options: { zero?: boolean } = {}): Item<N> | undefined {
    const w = zalloc(this.#zone('tryAlloc'), NOWAIT);
    return w === 0 ? undefined : this.#made(w, options.zero);
  }
  /** alloc that waits in the event loop. Rejects with the signal's reason, ETIMEDOUT. */
  async allocAsync(options: AsyncOptions & { zero?: boolean } = {}): Promise<Item<N>> {
    const zone = (): zone_t => this.#zone('allocAsync');
    const w = await zoneAllocAsync(this.#ctx, zone, this.name, NOWAIT, options);
    return this.#made(w, options.zero);
  }
  /**
   * Gives an item back: any thread may.  Throws EINVAL for a number or handle
   * that is not in use (freed twice, or stale).  Never waits.
   */
  free(item: Item<N>): void {
    const z = this.#z;
    const n = this.generations ? this.#number(item) : item;
    if (z === 0 || (n | 0) !== n || n < 1 || n > this.capacity) return this.#bad('free', item);
    const w = this.#base + (n << 2);
    const count = mem.I32[w];
    if ((count & 1) === 0) return this.#bad('free', item);
    mem.I32[w] = (count + 1) | 0;
    zfree(z, w);
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
    for (let n = 1, w = this.#base + 4; n <= this.capacity; n++, w += 4) {
      if (mem.I32[w] & 1) fn(n);
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
    const n = this.at(item);
    const values = {} as { [K in keyof F]: number };
    for (const field of this.#fields) values[field] = this.#column(field)[n];
    return values;
  }
  /** Sets some fields of an item: not for loops. Throws as at does. */
  set(item: Item<N>, values: Values<F>): void {
    const n = this.at(item);
    for (const field of this.#fields) {
      const value = values[field];
      if (value !== undefined) this.#column(field)[n] = value;
    }
  }
  /**
   * Lets go of the records; with their last user they end, if no item is in use.
   * Returns the items in use if they stay for that reason.
   */
  dispose(): number {
    const z = this.#z;
    if (z === 0) return 0;
    const inUse = (): number => zone_present(z).used;
    this.#ctx.forget('records', this.name);
    this.bury();
    return zoneRelease('records', this.#e, this.name, inUse, () => {
      unwithhold(z, this.#base + 4, this.capacity);
      uma_zdestroy(z);
      freeColumns(this.#e);
    });
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
    return this.#z !== 0 ? this.#z : gone(op);
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
  #allocWith(options: AllocOptions = {}): Item<N> {
    const w = zoneAlloc(this.#zone('alloc'), this.name, this.capacity, NOWAIT, options.wait);
    return this.#made(w, options.zero);
  }
  #fail(): never {
    throw zoneFailure('alloc', this.#z, this.name, this.capacity);
  }
  #bad(op: string, item: number): void {
    this.#zone(op);
    const what = this.generations ? 'a handle of an item in use' : 'the number of an item in use';
    throw kmemError(EINVAL, op, `${item} is not ${what} (freed twice?)`, { zone: this.name });
  }
}
