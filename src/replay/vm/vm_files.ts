/*
 * vm_files: the files that a recorded program had mapped, with contents of our own.
 *
 *      mmap(NULL, 37851, PROT_READ, MAP_PRIVATE, 3</lib/libc.so.6>, 0x2000)
 *
 *        FOLDER/7, file number 7 of the recording, written as far as page 11
 *        [-8, 0 … -8, 0] [-8, 1 … -8, 1] [-8, 2 … -8, 2] ──> pages 2 to 11 are mapped
 *
 * What was in the files is not in a recording, so each has a pattern: both ends of a page hold
 * whose it is and which.  They are files of the host, in a folder that the replay has for the
 * time, and become as long as something of them is mapped.  Players write them, each before
 * it maps something; all write the same, so none waits for another.  A file whose name the
 * recording does not have is one with all others of the kind.
 *
 * A page of a mapping holds what its file has there, or, if the mapping is private, what its
 * space wrote since.  Nobody but the kernel knows which page of a file a mapping shows by now,
 * after forks, cuts and moves, so it is asked (space_file); what is in the page must agree with it.
 *
 * Files beyond FILE_MOST, and /dev/zero, are memory of zeros.
 */
import { closeSync, constants, fstatSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { mem, PAGE_SIZE, PAGE_WORDS } from '../../sys/machine/memory.ts';
import { NULL } from '../../sys/machine/struct.ts';
import type { vm_object_t } from '../../sys/h/vm_object.ts';
import type { vm_map_t } from '../../sys/h/vm_map.ts';
import {
  space_close,
  space_file,
  space_file_bytes,
  space_open,
} from '../../sys/client/kern_space.ts';
import { vm_object_reference } from '../../sys/object/vm_object.ts';
import type { Stretch } from './vm_stretch.ts';

/** Bytes of a file that are written at most. */
const FILE_MOST = 64 * 2 ** 20;
/** Pages that are written at a time. */
const PIECE = 256;
/** Words at the end of a page that hold what its beginning holds. */
const END = PAGE_WORDS - 2;

/** The pages of a file that a stretch shows. */
export interface Shown {
  readonly object: vm_object_t;
  /** Which page of it is the first of the stretch. */
  readonly first: number;
}

export class VmFiles {
  readonly #folder: string;
  readonly #open = new Map<number, vm_object_t>();
  readonly #pages = new Map<number, number>();

  /** The files of a player. Folder '': all of them are memory. */
  constructor(folder: string) {
    this.#folder = folder;
  }
  /**
   * The object of a file, of which the first `end` bytes are there, and a reference to it in hand.
   * NULL: it is to be memory.
   */
  object(file: number, name: string, end: number): vm_object_t {
    const none = NULL as vm_object_t;
    if (this.#folder === '' || file === 0 || name === '/dev/zero' || end > FILE_MOST) return none;
    const pages = Math.ceil(end / PAGE_SIZE);
    const written = this.#pages.get(file) ?? 0;
    if (pages > written) {
      if (!write_pages(this.#path(file), file, pages)) return none;
      this.#pages.set(file, pages);
    }
    const o = this.#opened(file);
    if (o === NULL) return none;
    if (pages > written && space_file_bytes(o) < 0) return none; // it looks how long it is by now
    vm_object_reference(o);
    return o;
  }
  /** What a stretch shows of a file; null: nothing. */
  shown(mp: vm_map_t, s: Stretch): Shown | null {
    if (s.object === NULL || this.#folder === '') return null;
    const at = space_file(mp, s.start);
    return at === null ? null : { object: at.o, first: at.first };
  }
  /** Whether a page in memory is page `i` of the file that the object is of. */
  holds(frame: number, { object }: Shown, i: number): boolean {
    const words = mem.I32;
    const who = words[frame];
    if (who >= 0 || words[frame + 1] !== i) return false;
    if (words[frame + END] !== who || words[frame + END + 1] !== i) return false;
    return this.#opened(-1 - who) === object;
  }
  /** Lets go of all of them. */
  close(): void {
    for (const o of this.#open.values()) space_close(o);
    this.#open.clear();
  }

  #path(file: number): string {
    return join(this.#folder, String(file));
  }
  /** The object of a file that is there; NULL: it is not, or cannot be opened. */
  #opened(file: number): vm_object_t {
    const known = this.#open.get(file);
    if (known !== undefined) return known;
    const o = space_open(this.#path(file), true);
    if (o < 0) return NULL as vm_object_t;
    this.#open.set(file, o as vm_object_t);
    return o as vm_object_t;
  }
}
/** The file is `pages` pages long at least. False: the host does not take it. */
function write_pages(path: string, file: number, pages: number): boolean {
  let fd = -1;
  try {
    fd = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    for (let at = Math.floor(fstatSync(fd).size / PAGE_SIZE); at < pages; at += PIECE) {
      const n = Math.min(PIECE, pages - at);
      const words = new Int32Array(n * PAGE_WORDS);
      for (let i = 0; i < n; i++) {
        const page = i * PAGE_WORDS;
        words[page] = words[page + END] = -1 - file;
        words[page + 1] = words[page + END + 1] = at + i;
      }
      const bytes = new Uint8Array(words.buffer);
      for (let done = 0; done < bytes.length; ) {
        done += writeSync(fd, bytes, done, bytes.length - done, at * PAGE_SIZE + done);
      }
    }
    return true;
  } catch {
    return false;
  } finally {
    if (fd >= 0) closeSync(fd);
  }
}
