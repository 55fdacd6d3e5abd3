/*
 * sites: the call sites of a trace, each text kept once and known by a number.
 *
 * A trace names its caller on every line, but there are only dozens or hundreds
 * of different ones.  The text stays bytes: it is hashed and compared in place,
 * word by word, and a JavaScript string is made only when a new one appears.
 *
 *      table (hash) ──► site number ──► from[], length[] ──► arena of bytes
 *                                  └──► type_of[]: what the player is told
 *
 * `--type-by` decides how finely the player sees sites: 'caller' the whole text,
 * 'module' the object's name, 'none' one for all.  The statistics always count
 * whole callers.
 *
 * A broken or hostile trace may show a new caller on every line.  After
 * MAX_SITES of them, or MAX_ARENA_BYTES of text, the rest share one site.
 */

import { widened } from './widened.ts';

export type TypeBy = 'caller' | 'module' | 'none';

export const MAX_SITES = 131072;
const MAX_ARENA_BYTES = 1 << 25;
export const FOLDED_NAME = '(other call sites)';

const INITIAL_TABLE = 1024;
const INITIAL_ARENA = 65536;
const SLACK_BYTES = 8;

export class Sites {
  readonly names: string[] = [];
  /** Names of what the player is told, indexed by type. */
  readonly types: string[] = [];
  /** Site to type. */
  type_of = new Int32Array(INITIAL_TABLE);
  readonly #type_by: TypeBy;
  readonly #new_type: (type: number, name: string) => void;
  readonly #type_numbers = new Map<string, number>();
  #arena = new Uint8Array(INITIAL_ARENA);
  #arena_view = new DataView(this.#arena.buffer);
  #arena_used = 0;
  #table = new Int32Array(INITIAL_TABLE);
  #hash = new Int32Array(INITIAL_TABLE);
  #from = new Int32Array(INITIAL_TABLE);
  #length = new Int32Array(INITIAL_TABLE);
  #folded = -1;
  /* Of the site that is being interned; null: to be found in its text. */
  #module: string | null = null;

  constructor(type_by: TypeBy, new_type: (type: number, name: string) => void) {
    this.#type_by = type_by;
    this.#new_type = new_type;
  }

  /** The number of the site whose text is bytes [from, to). */
  intern(bytes: Uint8Array, view: DataView, from: number, to: number): number {
    const length = to - from;
    const hash = hash_of(view, from, to);
    const table = this.#table;
    const mask = table.length - 1;
    for (let slot = (hash ^ (hash >>> 15)) & mask; ; slot = (slot + 1) & mask) {
      const site = table[slot] - 1;
      if (site < 0) return this.#add_slow(bytes, from, to, hash, slot);
      if (this.#hash[site] === hash && this.#length[site] === length) {
        if (this.#equal(this.#from[site], view, from, to)) return site;
      }
    }
  }

  /** The number of a site given as a string, for formats that carry no text. */
  intern_name(name: string): number {
    const bytes = new TextEncoder().encode(name);
    const padded = new Uint8Array(bytes.length + SLACK_BYTES);
    padded.set(bytes);
    return this.intern(padded, new DataView(padded.buffer), 0, bytes.length);
  }

  /** The same for a format that tells apart which module the site is in. */
  intern_in(module: string, name: string): number {
    this.#module = module;
    const site = this.intern_name(name);
    this.#module = null;
    return site;
  }

  #equal(kept: number, view: DataView, from: number, to: number): boolean {
    const arena = this.#arena_view;
    let a = kept;
    let b = from;
    for (; b + 4 <= to; a += 4, b += 4) {
      if (arena.getInt32(a, true) !== view.getInt32(b, true)) return false;
    }
    return ((arena.getInt32(a, true) ^ view.getInt32(b, true)) & tail_mask(to - b)) === 0;
  }

  #add_slow(bytes: Uint8Array, from: number, to: number, hash: number, slot: number): number {
    const length = to - from;
    if (this.names.length >= MAX_SITES || this.#arena_used + length > MAX_ARENA_BYTES) {
      this.#module = null;
      if (this.#folded < 0) this.#folded = this.#new_site(FOLDED_NAME);
      return this.#folded;
    }
    const site = this.#new_site(text_of(bytes, from, to));
    this.#keep(bytes, from, to);
    this.#hash[site] = hash;
    this.#from[site] = this.#arena_used;
    this.#length[site] = length;
    this.#arena_used += length;
    this.#table[slot] = site + 1;
    if (this.names.length * 2 > this.#table.length) this.#rehash();
    return site;
  }

  #new_site(name: string): number {
    const site = this.names.push(name) - 1;
    if (site >= this.type_of.length) {
      this.type_of = widened(this.type_of);
      this.#hash = widened(this.#hash);
      this.#from = widened(this.#from);
      this.#length = widened(this.#length);
    }
    /* A site that has no bytes of its own (the folded one) never equals a text. */
    this.#length[site] = -1;
    const told = this.#type_by === 'module' ? this.#module : null;
    this.type_of[site] = this.#type(told ?? type_name(name, this.#type_by));
    return site;
  }

  #type(name: string): number {
    let type = this.#type_numbers.get(name);
    if (type === undefined) {
      type = this.types.push(name) - 1;
      this.#type_numbers.set(name, type);
      this.#new_type(type, name);
    }
    return type;
  }

  #keep(bytes: Uint8Array, from: number, to: number): void {
    const need = this.#arena_used + (to - from) + SLACK_BYTES;
    if (need > this.#arena.length) {
      const wide = new Uint8Array(Math.max(need, this.#arena.length * 2));
      wide.set(this.#arena.subarray(0, this.#arena_used));
      this.#arena = wide;
      this.#arena_view = new DataView(wide.buffer);
    }
    this.#arena.set(bytes.subarray(from, to), this.#arena_used);
  }

  #rehash(): void {
    const table = new Int32Array(this.#table.length * 2);
    const mask = table.length - 1;
    for (let site = 0; site < this.names.length; site++) {
      if (this.#length[site] < 0) continue;
      const hash = this.#hash[site];
      let slot = (hash ^ (hash >>> 15)) & mask;
      while (table[slot] !== 0) slot = (slot + 1) & mask;
      table[slot] = site + 1;
    }
    this.#table = table;
  }
}

/** What a player calls the type of a caller `object:(symbol+hex)[0xaddr]`. */
export function type_name(caller: string, type_by: TypeBy): string {
  if (type_by === 'none') return 'all';
  if (type_by === 'caller') return caller;
  /* From the right-hand end: the object's name may itself contain colons and blanks. */
  const bracket = caller.lastIndexOf('[');
  if (bracket <= 0) return caller;
  const mark = caller[bracket - 1] === ')' ? caller.lastIndexOf(':(', bracket) : bracket - 1;
  return mark > 0 && caller[mark] === ':' ? caller.slice(0, mark) : caller;
}

function hash_of(view: DataView, from: number, to: number): number {
  let hash = to - from;
  let at = from;
  for (; at + 4 <= to; at += 4) {
    hash = Math.imul((hash << 5) ^ (hash >>> 27) ^ view.getInt32(at, true), 0x9e3779b1);
  }
  return Math.imul(
    hash ^ (hash >>> 16) ^ (view.getInt32(at, true) & tail_mask(to - at)),
    0x85ebca6b,
  );
}

/** Keeps the first n (0 to 3) bytes of a little-endian word. */
function tail_mask(n: number): number {
  return (1 << (n << 3)) - 1;
}

function text_of(bytes: Uint8Array, from: number, to: number): string {
  return new TextDecoder().decode(bytes.subarray(from, to));
}
