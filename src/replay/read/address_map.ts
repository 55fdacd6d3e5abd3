/*
 * address_map: from the addresses of a trace to small block numbers.
 *
 * Players index plain arrays by block id, so somebody has to know which id
 * lives at which address.  That is an open-addressing hash with linear probing,
 * 16 bytes an entry so that a probe touches one cache line:
 *
 *      ┌────────────┬─────────────┬────────┬───────┐
 *      │ address lo │ address hi  │ id + 1 │   -   │   id + 1 = 0: empty
 *      └────────────┴─────────────┴────────┴───────┘
 *
 * Addresses come as two 32-bit halves, so all 64 bits are exact and neither
 * BigInt nor a boxed number is made.
 *
 * Where an address goes: eight neighbouring 16-byte places of the traced heap
 * stay neighbours in the table, because a program frees what lies near to what
 * it just obtained.  Each such group lands at a random place: arenas that begin
 * at equal offsets would otherwise pile up on each other.
 *
 * Deletion moves later entries of the same cluster back over the hole, so there
 * are no tombstones: a trace of a billion events with few live blocks keeps a
 * small, clean table.
 *
 * Ids are taken from a first-in first-out queue, and a fresh one is made while
 * fewer than REUSE_DISTANCE wait in it.  An id is thus used again only after
 * many others, and players on several CPUs rarely meet over one.
 *
 * Always true: at most half of the entries are used; no empty entry lies
 * between an entry's home and its place; an id is either in the table or in the
 * queue, never in both.
 */

const ENTRY_WORDS = 4;
const LO = 0;
const HI = 1;
const ID = 2;

const GROUP_BITS = 3;
const GROUP_MASK = (1 << GROUP_BITS) - 1;
/** Blocks of glibc's heap lie at multiples of 16 bytes. */
const ADDRESS_SHIFT = 4;

const INITIAL_ENTRIES = 4096;
/** An Int32Array of 2^30 words is what an engine still makes; that is 128 Mi live blocks. */
const MAX_ENTRIES = 1 << 28;

/** Other ids that pass between two uses of the same one. */
export const REUSE_DISTANCE = 32768;

/** Answer of get, put and remove when the address is not in the map. */
export const NO_BLOCK = -1;

export class AddressMap {
  count = 0;
  #table = new Int32Array(INITIAL_ENTRIES * ENTRY_WORDS);
  #mask = INITIAL_ENTRIES - 1;

  /** Entries of the table; it never shrinks. */
  get entries(): number {
    return this.#mask + 1;
  }

  /** The block at this address, or NO_BLOCK. */
  get(lo: number, hi: number): number {
    const at = this.#find(lo | 0, hi | 0);
    return this.#table[at + ID] - 1;
  }

  /** Puts a block there and returns the one that was there before, or NO_BLOCK. */
  put(lo: number, hi: number, id: number): number {
    if (this.count * 2 > this.#mask) this.#grow();
    const at = this.#find(lo | 0, hi | 0);
    const table = this.#table;
    const old = table[at + ID];
    if (old === 0) {
      this.count++;
      table[at + LO] = lo;
      table[at + HI] = hi;
    }
    table[at + ID] = id + 1;
    return old - 1;
  }

  /** Takes the block at this address out and returns it, or NO_BLOCK. */
  remove(lo: number, hi: number): number {
    const at = this.#find(lo | 0, hi | 0);
    const id = this.#table[at + ID];
    if (id === 0) return NO_BLOCK;
    this.count--;
    this.#close_hole(at / ENTRY_WORDS);
    return id - 1;
  }

  /** Calls fn with each block id in the map, in no particular order. */
  for_each(fn: (id: number) => void): void {
    const table = this.#table;
    for (let at = 0; at < table.length; at += ENTRY_WORDS) {
      if (table[at + ID] !== 0) fn(table[at + ID] - 1);
    }
  }

  /** Proves what the opening comment says is always true; throws with the place otherwise. */
  check(): void {
    const table = this.#table;
    let used = 0;
    for (let e = 0; e <= this.#mask; e++) {
      if (table[e * ENTRY_WORDS + ID] === 0) continue;
      used++;
      let at = this.#home(table[e * ENTRY_WORDS + LO], table[e * ENTRY_WORDS + HI]);
      for (; at !== e; at = (at + 1) & this.#mask) {
        if (table[at * ENTRY_WORDS + ID] === 0) throw new Error(`address_map: hole before ${e}`);
      }
    }
    if (used !== this.count) throw new Error(`address_map: ${used} used, count ${this.count}`);
    if (used * 2 > this.#mask + 2) throw new Error(`address_map: ${used} of ${this.#mask + 1}`);
  }

  #home(lo: number, hi: number): number {
    let h = Math.imul(lo >>> (ADDRESS_SHIFT + GROUP_BITS), 0x9e3779b1);
    h = Math.imul(h ^ hi ^ (h >>> 15), 0x85ebca6b);
    h ^= h >>> 13;
    return ((h << GROUP_BITS) | ((lo >>> ADDRESS_SHIFT) & GROUP_MASK)) & this.#mask;
  }

  /* Word of the entry that holds the address, or of the empty one where it would go. */
  #find(lo: number, hi: number): number {
    const table = this.#table;
    const mask = this.#mask;
    let at = this.#home(lo, hi) * ENTRY_WORDS;
    while (table[at + ID] !== 0 && (table[at + LO] !== lo || table[at + HI] !== hi)) {
      at = (at + ENTRY_WORDS) & (mask * ENTRY_WORDS);
    }
    return at;
  }

  #close_hole(entry: number): void {
    const table = this.#table;
    const mask = this.#mask;
    let hole = entry;
    for (let e = (hole + 1) & mask; ; e = (e + 1) & mask) {
      const at = e * ENTRY_WORDS;
      if (table[at + ID] === 0) break;
      const home = this.#home(table[at + LO], table[at + HI]);
      /* An entry may move back unless its home lies between the hole and itself. */
      if (((e - home) & mask) < ((e - hole) & mask)) continue;
      table[hole * ENTRY_WORDS + LO] = table[at + LO];
      table[hole * ENTRY_WORDS + HI] = table[at + HI];
      table[hole * ENTRY_WORDS + ID] = table[at + ID];
      hole = e;
    }
    table[hole * ENTRY_WORDS + ID] = 0;
  }

  #grow(): void {
    const old = this.#table;
    const entries = (this.#mask + 1) * 2;
    if (entries > MAX_ENTRIES) {
      throw new RangeError(`more than ${MAX_ENTRIES / 2} blocks are live at once: cannot go on`);
    }
    this.#table = new Int32Array(entries * ENTRY_WORDS);
    this.#mask = entries - 1;
    for (let from = 0; from < old.length; from += ENTRY_WORDS) {
      if (old[from + ID] === 0) continue;
      const at = this.#find(old[from + LO], old[from + HI]);
      this.#table[at + LO] = old[from + LO];
      this.#table[at + HI] = old[from + HI];
      this.#table[at + ID] = old[from + ID];
    }
  }
}

/** Hands out block ids: dense, and each used again only after REUSE_DISTANCE others. */
export class BlockIds {
  /** Ids handed out so far are 0 … made - 1. */
  made = 0;
  #queue = new Int32Array(REUSE_DISTANCE * 2);
  #first = 0;
  #waiting = 0;

  take(): number {
    if (this.#waiting <= REUSE_DISTANCE) return this.made++;
    const queue = this.#queue;
    const id = queue[this.#first];
    this.#first = (this.#first + 1) & (queue.length - 1);
    this.#waiting--;
    return id;
  }

  give(id: number): void {
    if (this.#waiting === this.#queue.length) this.#widen();
    const queue = this.#queue;
    queue[(this.#first + this.#waiting) & (queue.length - 1)] = id;
    this.#waiting++;
  }

  #widen(): void {
    const old = this.#queue;
    const wide = new Int32Array(old.length * 2);
    const tail = old.length - this.#first;
    wide.set(old.subarray(this.#first));
    wide.set(old.subarray(0, this.#first), tail);
    this.#queue = wide;
    this.#first = 0;
  }
}
