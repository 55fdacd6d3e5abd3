/*
 * strace_blocks: what a recording of system calls says of blocks of files.
 *
 * A pread64 or pwrite64 that moved bytes of a file whose name is known (-y) touches the
 * blocks from its offset on; every block touched is one reference, in the order in which
 * calls ended.  From these: how many different blocks, how many of them written, and for
 * caches of some sizes the references that an exact LRU would not have found.
 *
 *      pread64(3</data/io.db>, ""..., 4096, 839680) = 4096       block 205 of that file
 *
 * Programs also read what they are made of (libraries, the table of users).  So where a
 * recording has files below FOLDER, its own data, only these count.  Where it has none,
 * all files do.
 *
 * A file is known by its name.  One that was unlinked and made again under the same name
 * is the same file here.
 */
import { descriptor_of, number_of, split_args } from './strace_args.ts';
import type { StraceCall } from './strace_calls.ts';

export const BLOCK_BYTES = 4096;
const FOLDER = '/data/';
/** Sizes of the caches, in blocks. */
const CACHES = [16, 64, 256, 1024];
/** Different blocks that are told apart; beyond them nothing more is counted. */
const BLOCKS_MAX = 1 << 22;
const FILES_MAX = 1 << 16;
/** A block is its file's number and its own; both fit into a double. */
const FILE_STRIDE = 2 ** 36;

const RULE =
  'pread64 and pwrite64 with a result above 0 on files below /data (on all files, where none ' +
  'is there), in order of completion; every block of block_bytes touched is one reference';

export interface BlockFigures {
  block_bytes: number;
  rule: string;
  files: number;
  pread_bytes: number;
  pwrite_bytes: number;
  calls_not_block_aligned: number;
  written_blocks: number;
  references: number;
  lru_misses: Record<string, number>;
  blocks: number;
  /** There were more blocks or files than can be told apart; what is counted ends there. */
  blocks_incomplete?: true;
}

/** A cache that forgets what was not used for longest; it keeps no bytes. */
class Lru {
  misses = 0;
  readonly blocks: number;
  readonly #held = new Set<number>();

  constructor(blocks: number) {
    this.blocks = blocks;
  }
  touch(block: number): void {
    const held = this.#held;
    if (!held.delete(block)) {
      this.misses++;
      if (held.size === this.blocks) {
        for (const oldest of held) {
          held.delete(oldest);
          break;
        }
      }
    }
    held.add(block);
  }
}

class Figures {
  references = 0;
  readonly #files = new Map<string, number>();
  readonly #blocks = new Set<number>();
  readonly #written = new Set<number>();
  readonly #caches = CACHES.map((blocks) => new Lru(blocks));
  #read = 0;
  #wrote = 0;
  #unaligned = 0;
  #full = false;

  add(file: string, write: boolean, offset: number, bytes: number): void {
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = Math.floor((offset + bytes - 1) / BLOCK_BYTES);
    if (this.#full || this.#blocks.size + last - first >= BLOCKS_MAX || last >= FILE_STRIDE) {
      this.#full = true;
      return;
    }
    let number = this.#files.get(file);
    if (number === undefined) {
      number = this.#files.size;
      if (number === FILES_MAX) {
        this.#full = true;
        return;
      }
      this.#files.set(file, number);
    }
    if (write) this.#wrote += bytes;
    else this.#read += bytes;
    if (offset % BLOCK_BYTES !== 0 || bytes % BLOCK_BYTES !== 0) this.#unaligned++;
    for (let n = first; n <= last; n++) {
      const block = number * FILE_STRIDE + n;
      this.references++;
      this.#blocks.add(block);
      if (write) this.#written.add(block);
      for (const cache of this.#caches) cache.touch(block);
    }
  }
  document(): BlockFigures {
    return {
      block_bytes: BLOCK_BYTES,
      rule: RULE,
      files: this.#files.size,
      pread_bytes: this.#read,
      pwrite_bytes: this.#wrote,
      calls_not_block_aligned: this.#unaligned,
      written_blocks: this.#written.size,
      references: this.references,
      lru_misses: Object.fromEntries(this.#caches.map((c) => [String(c.blocks), c.misses])),
      blocks: this.#blocks.size,
      ...(this.#full ? { blocks_incomplete: true } : {}),
    };
  }
}

export class StraceBlocks {
  readonly #own = new Figures();
  /** All files, until one below FOLDER is seen. */
  #all: Figures | null = new Figures();

  /** A call that ended; others than those on blocks are left out. */
  call(call: StraceCall): void {
    const write = call.name === 'pwrite64';
    if ((!write && call.name !== 'pread64') || !(call.result > 0)) return;
    const args = split_args(call.args);
    const file = descriptor_of(args[0] ?? '')?.file ?? '';
    const offset = number_of(args[3]);
    if (!file.startsWith('/') || !(offset >= 0)) return;
    if (!file.startsWith(FOLDER)) {
      this.#all?.add(file, write, offset, call.result);
      return;
    }
    this.#all = null;
    this.#own.add(file, write, offset, call.result);
  }
  /** Files below FOLDER were read or written. */
  get own(): boolean {
    return this.#own.references > 0;
  }
  /** null: there were no such calls. */
  document(): BlockFigures | null {
    const figures = this.#all ?? this.#own;
    return figures.references === 0 ? null : figures.document();
  }
}
