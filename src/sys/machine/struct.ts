/*
 * struct: kernel structures, declared once as data.
 *
 * A declaration lists the fields: width, lock letter, a phrase.  From it come
 * the views that the code indexes, the table that tools/letters.ts prints, the guards of
 * a checked boot, and the layout hash by which an attaching thread proves that
 * it runs the same kernel.
 *
 *      const entry = struct<entry_t>('vm_map_entry')({
 *        next:  ptr<entry_t>('m', 'neighbour above'),
 *        start: u32('m', 'first page'),
 *      });
 *      entry.start[e]                    is  e->start
 *      entry.next[e] = above;            is  e->next = above
 *
 * A pointer is a word index.  Each field is a typed array over the whole
 * memory, shifted by the field's offset, so that indexing with the pointer
 * reads the field: one machine load.  A pointer type is a branded number:
 * indexing a field with another structure's pointer does not compile.
 *
 * 64-bit fields are doubles (exact to 2^53) at even word offsets; they are
 * reached only through get64, set64 and add64.  Records that hold one start at
 * an even word.
 *
 * Arrays whose length is known at boot (the page array) are columns: one view
 * per field, each of its own width, indexed by number.
 *
 * Lock letters say which lock or which owner a field needs.  Those that mean the
 * same everywhere, and the rule that a checked boot runs for each, stand in
 * sync/checked.ts; the others are explained where the structure is declared and
 * have their rules in boot/checked_letters.ts.  A field for which no rule is
 * possible says so instead of a letter: unchecked('why').
 */
import { mem, memory_follow } from './memory.ts';
import { once, opt } from './opt.ts';

/** A typed pointer: a word index that only fields of its own structure accept. */
export type Ptr<Name extends string> = number & { readonly __ptr: Name };
export type Field<P extends number, V = number> = { [K in P]: V };
/** A field whose elements are words, so that one word of memory is one element. */
export type WordField<P extends number, V = number> = Field<P, V> & { readonly __narrow?: never };
/** A column of bytes or 16-bit numbers: several elements share a word. */
export type NarrowField<P extends number, V = number> = Field<P, V> & { readonly __narrow: true };
export type Field64<P extends number> = { readonly __field64: P };
/** An embedded lock: the word offset of its first word. */
export type LockField<P extends number> = number & { readonly __lock: P };
export const NULL = 0;

export type Kind = 'u32' | 'i32' | 'u64' | 'words' | 'lock';
/** Stands where a lock letter would, and says why there is no rule for the field. */
export interface Unchecked {
  readonly unchecked: string;
}
/** No rule is possible for this field; `reason` says why, and what makes it right. */
export function unchecked(reason: string): Unchecked {
  return { unchecked: reason };
}
/** Lock letters, or the reason why there are none. */
export type Lock = string | Unchecked;

export interface Def<V> {
  readonly kind: Kind;
  readonly words: number;
  readonly lock: Lock;
  readonly help: string;
  readonly of?: string;
  readonly __value?: V;
}
export interface Def64 extends Def<never> {
  readonly __wide: true;
}
export interface DefLock extends Def<never> {
  readonly __lockdef: true;
}
export type Defs = Record<string, Def<unknown>>;
export type Bound<P extends number, D extends Defs> = {
  readonly [K in keyof D]: D[K] extends Def64
    ? Field64<P>
    : D[K] extends DefLock
      ? LockField<P>
      : D[K] extends Def<infer V>
        ? V extends number
          ? Field<P, V>
          : never
        : never;
} & { readonly sizeof: number };

/** An unsigned 32-bit field. */
export function u32(lock: Lock, help: string): Def<number> {
  return { kind: 'u32', words: 1, lock, help };
}
/** A signed 32-bit field: the width V8 likes best. */
export function i32(lock: Lock, help: string): Def<number> {
  return { kind: 'i32', words: 1, lock, help };
}
/** A pointer field. */
export function ptr<T extends number>(lock: Lock, help: string): Def<T> {
  return { kind: 'i32', words: 1, lock, help };
}
/** A 64-bit count, exact to 2^53. */
export function u64(lock: Lock, help: string): Def64 {
  return { kind: 'u64', words: 2, lock, help } as Def64;
}
/** `count` 32-bit words inside the record; element i is field[elem(p, i)]. */
export function words(lock: Lock, help: string, count: number): Def<number> {
  return { kind: 'words', words: count, lock, help };
}
/** An embedded lock of `size` words and of the class `of` (sync/lock_order.ts). */
export function lock_words(size: number, of: string, help: string): DefLock {
  return { kind: 'lock', words: size, lock: 'c', help, of } as DefLock;
}

export interface FieldLayout {
  name: string;
  kind: Kind | ColumnKind;
  offset: number;
  words: number;
  /** Lock letters; '' where `unchecked` says why there are none. */
  lock: string;
  unchecked: string;
  help: string;
}
export interface StructLayout {
  name: string;
  /** Words of a record; 0: columns, whose rows are numbers. */
  words: number;
  fields: FieldLayout[];
}

/** Every structure declared in this thread, in order of declaration. */
export const struct_layouts: StructLayout[] = [];
/** Every set of columns declared in this thread. */
export const column_layouts: StructLayout[] = [];
const layout_notes: string[] = [];

/**
 * What a checked boot calls at each access of a field through its view.  `p` is
 * the word of the element, of a column the row.
 */
export const guard = {
  access: null as
    | null
    | ((layout: StructLayout, field: FieldLayout, p: number, write: boolean, old: number) => void),
};

/** Letters and reason of a field, one of which is empty. */
function lock_of(lock: Lock): { lock: string; unchecked: string } {
  return typeof lock === 'string' ? { lock, unchecked: '' } : { lock: '', ...lock };
}
function lay_out(name: string, defs: Defs, line: number): StructLayout {
  const fields: FieldLayout[] = [];
  let at = 0;
  for (const [field, d] of Object.entries(defs)) {
    if (d.kind === 'u64' && (at & 1) !== 0) at++;
    fields.push({
      name: field,
      kind: d.kind,
      offset: at,
      words: d.words,
      ...lock_of(d.lock),
      help: d.help,
    });
    at += d.words;
  }
  return { name, words: Math.ceil(at / line) * line, fields };
}

/**
 * Declares a structure.  `line` rounds its size up to that many words: 2 by
 * default, 32 for records that different CPUs write.
 */
export function struct<P extends number>(name: string, line = 2) {
  return <D extends Defs>(defs: D): Bound<P, D> => {
    const layout = lay_out(name, defs, line);
    struct_layouts.push(layout);
    layout_notes.push(`${name}:${layout.fields.map((f) => `${f.name}@${f.offset}`).join()}`);
    const bound = {};
    once(bound, 'sizeof', layout.words);
    for (const f of layout.fields) if (f.kind === 'lock') once(bound, f.name, f.offset);
    memory_follow((buffer) => {
      for (const f of layout.fields) {
        if (f.kind !== 'lock') once(bound, f.name, field_view(buffer, layout, f));
      }
    });
    return bound as Bound<P, D>;
  };
}

type View = Int32Array | Uint32Array | Uint16Array | Uint8Array | Float64Array;

function field_view(buffer: ArrayBufferLike, layout: StructLayout, f: FieldLayout): object {
  const start = f.offset * 4;
  const view =
    f.kind === 'u32'
      ? new Uint32Array(buffer, start)
      : f.kind === 'u64'
        ? new Float64Array(buffer, start)
        : new Int32Array(buffer, start);
  return opt.CHECKED ? guarded(view, layout, f) : view;
}

/** Under this key a guard has the function that checks an access without doing it. */
const TOUCH = Symbol('touch');
type Touch = (p: number, write: boolean) => void;

function guarded(view: View, layout: StructLayout, f: FieldLayout): object {
  const scale = f.kind === 'u64' ? 2 : 1;
  const touch: Touch = (p, write) => guard.access?.(layout, f, p, write, view[p / scale]);
  const check = (key: string | symbol, write: boolean): number => {
    const i = typeof key === 'string' ? Number(key) : Number.NaN;
    if (Number.isInteger(i)) touch(i * scale, write);
    return i;
  };
  return new Proxy(view, {
    get(target, key) {
      if (key === TOUCH) return touch;
      const i = check(key, false);
      return Number.isInteger(i) ? target[i] : Reflect.get(target, key, target);
    },
    set(target, key, value) {
      target[check(key, true)] = value;
      return true;
    },
  });
}

/** Strings are read and written as bytes, around the views: their guards are told here. */
function string_access<P extends number>(f: Field<P>, p: P, write: boolean): void {
  if (opt.CHECKED) (f as { [TOUCH]?: Touch })[TOUCH]?.(p, write);
}

/** The pointer `i` words further on, for the elements of a `words` field. */
export function elem<P extends number>(p: P, i: number): P {
  return ((p + i) | 0) as P; // word indices are below 2^31: no overflow check
}
/** The byte address of a pointer, as tools print it. */
export function addr(p: number): number {
  return p * 4;
}
/** The word index of field `f` in the record at `p`. Narrow columns have none. */
export function field_word<P extends number>(f: WordField<P, number>, p: NoInfer<P>): number {
  return ((f as unknown as Int32Array).byteOffset >> 2) + p;
}
/** The word index of the 64-bit field `f` in the record at `p`. */
export function field_word64<P extends number>(f: Field64<P>, p: P): number {
  return ((f as unknown as Float64Array).byteOffset >> 2) + p;
}

/** Reads a 64-bit field. */
export function get64<P extends number>(f: Field64<P>, p: P): number {
  return (f as unknown as Float64Array)[p >> 1];
}
/** Writes a 64-bit field. */
export function set64<P extends number>(f: Field64<P>, p: P, value: number): void {
  (f as unknown as Float64Array)[p >> 1] = value;
}
/** Adds to a 64-bit field. */
export function add64<P extends number>(f: Field64<P>, p: P, n: number): void {
  (f as unknown as Float64Array)[p >> 1] += n;
}

/** Reads the NUL-terminated string in a `words` field of `count` words. */
export function get_string<P extends number>(f: Field<P>, p: P, count: number): string {
  string_access(f, p, false);
  return get_chars(field_word(f, p), count * 4);
}
/** The UTF-8 text at word `w`: up to a NUL, at most so many bytes. */
export function get_chars(w: number, bytes: number): string {
  const at = w * 4;
  let text = '';
  for (let i = 0; i < bytes; i++) {
    const c = mem.U8[at + i];
    if (c === 0) break;
    text += String.fromCharCode(c);
  }
  return decode_utf8(text);
}
function decode_utf8(bytes: string): string {
  // Almost every name is ASCII; only the others pay for decoding.
  for (let i = 0; i < bytes.length; i++) {
    if (bytes.charCodeAt(i) > 127) {
      return new TextDecoder('utf-8', { ignoreBOM: true }).decode(
        Uint8Array.from(bytes, (c) => c.charCodeAt(0)),
      );
    }
  }
  return bytes;
}
/** Writes a string into a `words` field, cut to fit with its NUL, zero padded. */
export function set_string<P extends number>(f: Field<P>, p: P, count: number, text: string): void {
  string_access(f, p, true);
  set_chars(field_word(f, p), count * 4, text);
}
/** Writes a text into `room` bytes at word `w`, cut to fit with its NUL, zero padded. */
export function set_chars(w: number, room: number, text: string): void {
  const at = w * 4;
  const bytes = new TextEncoder().encode(text);
  let n = Math.min(bytes.length, room - 1);
  while (n < bytes.length && n > 0 && (bytes[n] & 0xc0) === 0x80) n--;
  mem.U8.fill(0, at, at + room);
  mem.U8.set(bytes.subarray(0, n), at);
}

// --- columns ---------------------------------------------------------------

export type ColumnKind = 'u8' | 'u16' | 'u32' | 'i32';
export interface ColumnDef<V> {
  readonly kind: ColumnKind;
  readonly lock: Lock;
  readonly help: string;
  readonly __value?: V;
}
export interface NarrowDef<V> extends ColumnDef<V> {
  readonly __narrow: true;
}
export type ColumnDefs = Record<string, ColumnDef<number>>;
export type BoundColumns<I extends number, D extends ColumnDefs> = {
  readonly [K in keyof D]: D[K] extends NarrowDef<infer V>
    ? V extends number
      ? NarrowField<I, V>
      : never
    : D[K] extends ColumnDef<infer V>
      ? V extends number
        ? Field<I, V>
        : never
      : never;
};

/** A column of bytes. */
export function col8(lock: Lock, help: string): NarrowDef<number> {
  return { kind: 'u8', lock, help } as NarrowDef<number>;
}
/** A column of 16-bit numbers. */
export function col16(lock: Lock, help: string): NarrowDef<number> {
  return { kind: 'u16', lock, help } as NarrowDef<number>;
}
/** A column of signed words. */
export function col32<V extends number = number>(lock: Lock, help: string): ColumnDef<V> {
  return { kind: 'i32', lock, help };
}

const WIDTH = { u8: 1, u16: 2, u32: 4, i32: 4 } as const;
const LINE_BYTES = 64;

interface ColumnSet {
  name: string;
  fields: [string, ColumnDef<number>][];
  layout: StructLayout;
  bound: object;
  /** The views are guards. */
  guarded: boolean;
}
const column_sets: ColumnSet[] = [];

/** Declares a set of columns; `columns_bind` gives it memory at boot. */
export function columns<I extends number>(name: string) {
  return <D extends ColumnDefs>(defs: D): BoundColumns<I, D> => {
    const fields = Object.entries(defs);
    const layout: StructLayout = {
      name,
      words: 0,
      fields: fields.map(([field, d]) => {
        const at = { offset: 0, words: 1 }; // where the column lies is known at boot
        return { name: field, kind: d.kind, ...at, ...lock_of(d.lock), help: d.help };
      }),
    };
    const set: ColumnSet = { name, fields, layout, bound: {}, guarded: false };
    column_sets.push(set);
    column_layouts.push(layout);
    layout_notes.push(`${name}[]:${set.fields.map(([f, d]) => `${f}:${d.kind}`).join()}`);
    return set.bound as BoundColumns<I, D>;
  };
}

/** Words that the columns `name` take for `count` rows. */
export function columns_words(name: string, count: number): number {
  let bytes = 0;
  for (const [, d] of column_set(name).fields) bytes += column_bytes(d, count);
  return bytes / 4; // whole lines; a count out of a damaged dump may be anything
}
function column_set(name: string): ColumnSet {
  const set = column_sets.find((s) => s.name === name);
  if (!set) throw new Error(`columns ${name} are not declared`);
  return set;
}
function column_bytes(d: ColumnDef<number>, count: number): number {
  // An odd number of lines: columns a power of two apart would slow one another.
  return (Math.ceil((count * WIDTH[d.kind]) / LINE_BYTES) | 1) * LINE_BYTES;
}

/** Binds the columns `name` of `count` rows at word `start`; in a checked boot as guards. */
export function columns_bind(name: string, start: number, count: number): void {
  const set = column_set(name);
  const other_kind = set.guarded !== opt.CHECKED;
  set.guarded = opt.CHECKED;
  let at = start * 4;
  for (const [i, [field, d]] of set.fields.entries()) {
    const buffer = mem.I32.buffer;
    set.layout.fields[i].offset = at / 4;
    const view: View =
      d.kind === 'u8'
        ? new Uint8Array(buffer, at, count)
        : d.kind === 'u16'
          ? new Uint16Array(buffer, at, count)
          : new Int32Array(buffer, at, count);
    const old = (set.bound as Record<string, ArrayBufferView | undefined>)[field];
    if (
      other_kind ||
      !old ||
      old.buffer !== buffer ||
      old.byteOffset !== at ||
      old.byteLength !== view.byteLength
    )
      once(set.bound, field, opt.CHECKED ? guarded(view, set.layout, set.layout.fields[i]) : view);
    at += column_bytes(d, count);
  }
}

/** A number that two threads share only if their structures are the same. */
export function layout_hash(more: readonly string[]): number {
  let h = 0x811c9dc5;
  for (const note of [...layout_notes, ...more].sort()) {
    for (let i = 0; i < note.length; i++) h = Math.imul(h ^ note.charCodeAt(i), 0x01000193);
    h = Math.imul(h ^ 10, 0x01000193);
  }
  return h | 0;
}
