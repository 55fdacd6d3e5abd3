/*
 * redzone against a model: threads that take, poke, resize, hand over and free blocks, and know
 * of each what its free must say.
 *
 * A block in use has a record in shared memory, which whoever has the block has too:
 *
 *      | p | size | under | over | zoned | type |     under, over: a bit for each byte poked
 *
 * Poking stores something else than the pattern into one of the sixteen bytes on a side.  The
 * free, or the realloc, of the block must say exactly what the record says: which sides, how many
 * bytes, which address; and nothing at all where the record is clean.  User's bytes are stamped
 * and looked at, so what the detector itself writes is seen as well.
 *
 * Records go from thread to thread through places, one word each, by an exchange.
 */
import assert from 'node:assert/strict';
import { atomic_add, atomic_load, atomic_xchg } from '../machine/atomic.ts';
import { kconsole } from '../machine/kconsole.ts';
import { mem } from '../machine/memory.ts';
import { elem, i32, type Ptr, struct, u32 } from '../machine/struct.ts';
import type { malloc_type_t } from '../h/malloc.ts';
import { detect_size } from './kern_detect_chain.ts';
import { free, M_NOWAIT, M_ZERO, malloc, realloc } from './kern_malloc.ts';
import { malloc_type_attach } from './kern_malloc_type.ts';
import { MULTIZONE_DAMAGE } from './kern_multizone.ts';
import { REDZONE_BYTE, REDZONE_CHSIZE } from './redzone_vars.ts';

type rec_t = Ptr<'redzone_model'>;
/* Locks: (-) whoever has the record */
const rec = struct<rec_t>('redzone_model')({
  p: i32('-', 'the block, 0: none'),
  size: u32('-', 'bytes asked for'),
  under: i32('-', 'bytes before it that were poked, the nearest first'),
  over: i32('-', 'bytes behind it'),
  zoned: i32('-', 'it has redzones'),
  type: i32('-', 'its type'),
});
export const TYPES = ['red', 'green', 'blue'];
/** Words in which records wait for another thread. */
export const PLACES = 16;
/** Records that a thread has at first. */
export const RECORDS = 60;
export const REC_WORDS = rec.sizeof;
/** Largest block of most, and of few. */
const SMALL = 700;
const LARGE = 9000;
/** Bytes at each end of a block that are stamped. */
const STAMP = 40;
/** Steps between two additions to the common count. */
const ROUND = 64;

/** What a thread did. */
export interface Tally {
  [name: string]: number;
  blocks: number;
  zoned: number;
  pokes: number;
  reports: number;
  failed: number;
}
/** Where the game lies: places, count of steps, and the thread's first record. */
export interface Board {
  readonly places: number;
  readonly steps: number;
  readonly records: number;
}

const stamp = (p: number, i: number): number => (Math.imul(p + i, 0x9e3779b1) >>> 24) & 0xff;

export class RedzoneModel {
  readonly tally: Tally = { blocks: 0, zoned: 0, pokes: 0, reports: 0, failed: 0 };
  readonly #board: Board;
  readonly #draw: (n: number) => number;
  readonly #types: malloc_type_t[];
  readonly #idle: rec_t[];
  readonly #held: rec_t[] = [];
  readonly #said: string[] = [];

  constructor(board: Board, draw: (n: number) => number) {
    this.#board = board;
    this.#draw = draw;
    this.#types = TYPES.map((name) => malloc_type_attach(name));
    const at = (i: number): rec_t => elem(board.records as rec_t, i * REC_WORDS);
    this.#idle = Array.from({ length: RECORDS }, (_, i) => at(i));
    kconsole.print = (text) => {
      if (!text.startsWith(MULTIZONE_DAMAGE)) this.#said.push(text);
    };
  }
  /** So many steps; then everything that this thread has is freed. */
  run(steps: number): void {
    for (let i = 1; i <= steps; i++) {
      this.#step();
      if (i % ROUND === 0) atomic_add(this.#board.steps, ROUND);
    }
    while (this.#held.length > 0) this.#free(this.#take());
  }
  /** Frees what lies in the places. */
  end(): void {
    for (let i = 0; i < PLACES; i++) {
      const r = atomic_xchg(this.#board.places + i, 0) as rec_t;
      if (r !== 0) this.#free(r);
    }
    assert.deepEqual(this.#said, [], 'nothing is left that nobody expected');
  }

  #step(): void {
    const what = this.#draw(100);
    if (this.#held.length === 0 || (what < 35 && this.#idle.length > 0)) this.#malloc();
    else if (what < 55) this.#poke();
    else if (what < 75) this.#free(this.#take());
    else if (what < 85) this.#realloc();
    else this.#exchange();
  }
  #size(): number {
    const { length } = EDGES;
    const of = this.#draw(10);
    if (of < 4) return EDGES[this.#draw(length)];
    return this.#draw(of < 9 ? SMALL : LARGE);
  }
  /** One of those that this thread has, which it has no more. */
  #take(): rec_t {
    const at = this.#draw(this.#held.length);
    const r = this.#held[at];
    this.#held[at] = this.#held[this.#held.length - 1];
    this.#held.pop();
    return r;
  }
  #malloc(): void {
    const r = this.#idle.pop();
    if (r === undefined) return;
    const [size, type] = [this.#size(), this.#draw(TYPES.length)];
    const zero = this.#draw(4) === 0;
    const p = malloc(size, this.#types[type], zero ? M_NOWAIT | M_ZERO : M_NOWAIT);
    if (p === 0) {
      this.tally.failed++;
      this.#idle.push(r);
      return;
    }
    for (let i = 0; zero && i < size; i++) assert.equal(mem.U8[p * 4 + i], 0);
    rec.type[r] = type;
    this.#note(r, p, size);
    this.#held.push(r);
  }
  #note(r: rec_t, p: number, size: number): void {
    rec.p[r] = p;
    rec.size[r] = size;
    rec.under[r] = 0;
    rec.over[r] = 0;
    rec.zoned[r] = detect_size(p) >= 0 ? 1 : 0;
    this.tally.blocks++;
    this.tally.zoned += rec.zoned[r];
    this.#each(r, (at, i) => {
      mem.U8[at] = stamp(p, i);
    });
  }
  /** The stamped bytes of a block: at its ends. */
  #each(r: rec_t, fn: (at: number, i: number) => void): void {
    const [at, size] = [rec.p[r] * 4, rec.size[r]];
    for (let i = 0; i < Math.min(size, STAMP); i++) fn(at + i, i);
    for (let i = Math.max(STAMP, size - STAMP); i < size; i++) fn(at + i, i);
  }
  #look(r: rec_t): void {
    this.#each(r, (at, i) => {
      if (mem.U8[at] !== stamp(rec.p[r], i)) {
        assert.fail(`block ${rec.p[r]} of ${rec.size[r]} bytes: byte ${i} is ${mem.U8[at]}`);
      }
    });
  }
  #poke(): void {
    const r = this.#held[this.#draw(this.#held.length)];
    if (rec.zoned[r] === 0) return;
    const i = this.#draw(REDZONE_CHSIZE);
    const before = this.#draw(2) === 0;
    const at = before ? rec.p[r] * 4 - 1 - i : rec.p[r] * 4 + rec.size[r] + i;
    const byte = this.#draw(256);
    mem.U8[at] = byte === REDZONE_BYTE ? 0 : byte;
    if (before) rec.under[r] |= 1 << i;
    else rec.over[r] |= 1 << i;
    this.tally.pokes++;
  }
  /** What the free of a block must say. */
  #expected(r: rec_t): string[] {
    const [p, size] = [rec.p[r] * 4, rec.size[r]];
    const line = (what: string, bits: number, side: string, at: number): string[] => {
      let n = 0;
      for (let i = 0; i < REDZONE_CHSIZE; i++) n += (bits >> i) & 1;
      const bytes = n === 1 ? '1 byte' : `${n} bytes`;
      const where = `${side} 0x${at.toString(16)} (${size} bytes allocated)`;
      return n === 0 ? [] : [`REDZONE: Buffer ${what} detected. ${bytes} corrupted ${where}.`];
    };
    return [
      ...line('underflow', rec.under[r], 'before', p),
      ...line('overflow', rec.over[r], 'after', p + size),
    ];
  }
  #heard(expected: readonly string[]): void {
    const said = this.#said.splice(0);
    assert.deepEqual(
      said.map((text) => text.slice(0, text.indexOf('\n'))),
      expected,
    );
    for (const text of said) assert.match(text, /^Allocation backtrace:$[\s\S]*^Free backtrace:$/m);
    this.tally.reports += said.length;
  }
  #free(r: rec_t): void {
    this.#look(r);
    const expected = this.#expected(r);
    free(rec.p[r], this.#types[rec.type[r]]);
    this.#heard(expected);
    rec.p[r] = 0;
    this.#idle.push(r);
  }
  #realloc(): void {
    const r = this.#held[this.#draw(this.#held.length)];
    const [p, old, size] = [rec.p[r], rec.size[r], this.#size()];
    const expected = this.#expected(r);
    this.#look(r);
    const q = realloc(p, size, this.#types[rec.type[r]], M_NOWAIT);
    if (q === 0) {
      this.tally.failed++;
      return this.#heard([]);
    }
    this.#heard(q === p ? [] : expected);
    const keep = Math.min(old, size, STAMP);
    for (let i = 0; i < keep; i++) assert.equal(mem.U8[q * 4 + i], stamp(p, i));
    this.#note(r, q, size);
  }
  /** A block for another thread; what lay there is this one's. */
  #exchange(): void {
    const r = this.#take();
    const other = atomic_xchg(this.#board.places + this.#draw(PLACES), r) as rec_t;
    if (other !== 0) this.#held.push(other);
  }
}
/** Sizes at which the layout of a block changes. */
const EDGES = [0, 1, 16, 176, 240, 241, 256, 257, 496, 512, 513, 1008, 1024, 2032, 2033, 2048];
EDGES.push(2049, 4080, 4096, 4097, 8176);

/** Steps that all threads have made. */
export function steps_made(board: Board): number {
  return atomic_load(board.steps);
}
