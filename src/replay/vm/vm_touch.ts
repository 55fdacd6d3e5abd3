/*
 * vm_touch: which memory a recorded program uses, by a rule.
 *
 * A recording of system calls has what a program mapped, and not what it loaded and stored.
 * But pages come to be by their use, and a fork costs what is written after it.  So programs
 * are taken to use their memory as follows; the machine then does what it has to, and its
 * counts are of that.
 *
 *   new memory    Of what a call maps, or makes usable, the first FIRST_PAGES pages are used:
 *                 stored to where that is allowed, else loaded.  With MAP_POPULATE, all.
 *   bytes read    What read and its like bring in is stored to private memory that may be
 *                 written: first to what was obtained last, from its beginning on, and then
 *                 upwards, round and round.  Where the recording has the address, there.
 *   bytes written What write and its like take out is loaded: what was stored last, or at the
 *                 address.
 *   each call     stores once to the page that was stored to last, as to a stack.
 *   a fork        Both go on with what the parent was at: they store to WORK_PAGES pages, half
 *                 of them up to the one that was stored to last, half of them behind it.
 *
 *      place ──────────┐
 *      [ private  ██████·········· ]   [ shared ]   [ private ······ ]
 *                 └ write loads    └ read stores, on and on ───────┘
 *
 * Bytes count by their pages: one load or store a page.  What a call moves beyond MOST_PAGES
 * pages is left out.  What is not mapped, or not so, is not used: the stack and the image of a
 * program are not in a recording.
 *
 * Contents.  A store to private memory leaves the space's number and the turn in which it was
 * stored, at both ends of the page; one to shared memory leaves zeros, to a shared file what its
 * page held (vm_files.ts).  Before each use of a private page its ends are looked at: zeros, what
 * the file has there, or what this space wrote, or one that it descends from, before they
 * parted; a shared page of a file holds what the file has.  So a copy-on-write that was
 * forgotten, or a page that is another one's, is found.
 */
import { mem, PAGE_SIZE, PAGE_WORDS } from '../../sys/machine/memory.ts';
import { KERN_RESOURCE_SHORTAGE, vm_map_entry, type vm_map_t } from '../../sys/h/vm_map.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../../sys/h/vm_prot.ts';
import { page_address, to_page } from '../../sys/map/vm_bank.ts';
import { vm_frame } from '../../sys/map/vm_copy.ts';
import { map_header } from '../../sys/map/vm_map_tree.ts';
import { type Descent, may_hold } from './vm_deal.ts';
import type { VmFiles } from './vm_files.ts';
import type { VmShared } from './vm_shared.ts';
import { each_stretch, type Stretch } from './vm_stretch.ts';

const entry = vm_map_entry;

/** Pages of new memory that are used at once. */
export const FIRST_PAGES = 16;
/** Pages that a process works with, and stores to when it was forked. */
export const WORK_PAGES = 8;
/** Pages that one call's bytes use at most. */
export const MOST_PAGES = 1024;
const COMPLAINTS_KEPT = 5;
/** Words at the end of a page that hold what its beginning holds. */
const END = PAGE_WORDS - 2;

/** The space that is used, by whoever has its turn. */
export interface Use {
  readonly mp: vm_map_t;
  readonly slot: number;
  readonly turn: number;
  readonly descent: Descent;
}
export interface TouchTotals {
  loads: number;
  stores: number;
  /** Loads and stores for which there was no memory. */
  failed: number;
  /** Others that failed; none should. */
  refused: number;
  verify_errors: number;
  complaints: string[];
}

const is_private = (s: Stretch): boolean => (s.prot & VM_PROT_WRITE) !== 0 && !s.shared;

export class Toucher {
  readonly totals: TouchTotals = {
    loads: 0,
    stores: 0,
    failed: 0,
    refused: 0,
    verify_errors: 0,
    complaints: [],
  };
  readonly #shared: VmShared;
  readonly #files: VmFiles;
  readonly #verify: boolean;

  constructor(shared: VmShared, files: VmFiles, verify: boolean) {
    this.#shared = shared;
    this.#files = files;
    this.#verify = verify;
  }

  /** A call is made. */
  call(use: Use): void {
    this.#last(use, 1, 0, true);
  }
  /** The space was forked, or is what came of it. */
  forked(use: Use): void {
    this.#last(use, WORK_PAGES / 2, WORK_PAGES / 2, true);
  }
  /** `length` bytes from an address on are there to be used; `all` of them, or the first. */
  begun(use: Use, address: number, length: number, all: boolean): void {
    const first = to_page(use.mp, address);
    if (first < 0) return;
    const pages = Math.min(Math.ceil(length / PAGE_SIZE), all ? MOST_PAGES : FIRST_PAGES);
    each_stretch(use.mp, first, first + pages, (s) => {
      if (is_private(s)) this.#shared.place[use.slot] = s.start * PAGE_SIZE + 1;
      this.#use(use, s, s.start, s.end, (s.prot & VM_PROT_WRITE) !== 0);
      return false;
    });
  }
  /** So many bytes came into memory; address 0: it is not known where. */
  read(use: Use, address: number, bytes: number): void {
    if (address !== 0) this.#at(use, address, bytes, true);
    else this.#round(use, Math.min(bytes, MOST_PAGES * PAGE_SIZE));
  }
  /** So many bytes went out of it. */
  written(use: Use, address: number, bytes: number): void {
    if (address !== 0) return this.#at(use, address, bytes, false);
    this.#last(use, Math.min(Math.ceil(bytes / PAGE_SIZE), MOST_PAGES), 0, false);
  }

  /**
   * Uses the private memory among pages up to the one that was stored to last, and in those
   * behind it.
   */
  #last(use: Use, up_to: number, behind: number, store: boolean): void {
    const place = this.#shared.place[use.slot];
    if (place === 0) return;
    const last = Math.ceil(place / PAGE_SIZE);
    each_stretch(use.mp, Math.max(0, last - up_to), last + behind, (s) => {
      if (is_private(s)) this.#use(use, s, s.start, s.end, store);
      return false;
    });
  }
  #at({ mp, slot, turn, descent }: Use, address: number, bytes: number, store: boolean): void {
    const first = to_page(mp, address);
    if (first < 0) return;
    const n = Math.ceil((bytes + (address % PAGE_SIZE)) / PAGE_SIZE);
    each_stretch(mp, first, first + Math.min(n, MOST_PAGES), (s) => {
      this.#use({ mp, slot, turn, descent }, s, s.start, s.end, store);
      return false;
    });
  }
  /** Stores so many bytes to private memory, from the place on, at most once round. */
  #round(use: Use, bytes: number): void {
    const { place } = this.#shared;
    const [min, max] = bounds(use.mp);
    let left = bytes;
    let at = Math.max(place[use.slot], min * PAGE_SIZE);
    const from = at;
    for (const last of [max * PAGE_SIZE, from]) {
      const end = last;
      each_stretch(use.mp, Math.floor(at / PAGE_SIZE), Math.ceil(end / PAGE_SIZE), (s) => {
        if (!is_private(s)) return false;
        const begin = Math.max(at, s.start * PAGE_SIZE);
        const n = Math.min(left, s.end * PAGE_SIZE - begin);
        if (n <= 0) return false;
        const pages = Math.ceil((begin + n) / PAGE_SIZE);
        this.#use(use, s, Math.floor(begin / PAGE_SIZE), pages, true);
        place[use.slot] = begin + n;
        left -= n;
        return left === 0;
      });
      if (left === 0) return;
      at = min * PAGE_SIZE;
    }
  }

  /** Loads or stores pages of a stretch. */
  #use(use: Use, s: Stretch, first: number, last: number, store: boolean): void {
    if (!store && (s.prot & VM_PROT_READ) === 0) return;
    const file = this.#verify ? this.#files.shown(use.mp, s) : null;
    for (let page = first; page < last; page++) {
      const frame = vm_frame(use.mp, page, store);
      if (frame < 0) {
        // Where there is no memory for one page there is none for the next.
        const none = -frame === KERN_RESOURCE_SHORTAGE;
        if (none) this.totals.failed += last - page;
        else this.totals.refused++;
        if (none) return;
        continue;
      }
      if (store) this.totals.stores++;
      else this.totals.loads++;
      if (!this.#verify) continue;
      const of_file = file !== null && this.#files.holds(frame, file, file.first + page - s.start);
      const good = of_file || (s.shared ? file === null : holds(frame, use.descent));
      if (!good) this.#wrong(use, page, frame);
      if (!store) continue;
      if (s.shared) fill(frame, of_file ? mem.I32[frame] : 0, of_file ? mem.I32[frame + 1] : 0);
      else fill(frame, use.descent.space, use.turn);
    }
  }
  #wrong({ mp, descent }: Use, page: number, frame: number): void {
    const { totals } = this;
    totals.verify_errors++;
    if (totals.complaints.length === COMPLAINTS_KEPT) return;
    const at = `page 0x${page_address(mp, page).toString(16)} of space ${descent.space}`;
    const words = [0, 1, END, END + 1].map((i) => mem.I32[frame + i]);
    const [who, when] = words;
    if (who < 0) {
      totals.complaints.push(`${at}: page ${when} of file ${-1 - who}`);
      return;
    }
    const ends = words[2] === who && words[3] === when ? '' : `, and ${words[2]}, ${words[3]}`;
    totals.complaints.push(`${at}: written by space ${who} in its turn ${when}${ends}`);
  }
}
function bounds(mp: vm_map_t): [min: number, max: number] {
  const header = map_header(mp);
  return [entry.end[header], entry.start[header]];
}
function fill(frame: number, space: number, turn: number): void {
  const words = mem.I32;
  words[frame] = space;
  words[frame + 1] = turn;
  words[frame + END] = space;
  words[frame + END + 1] = turn;
}
function holds(frame: number, descent: Descent): boolean {
  const words = mem.I32;
  const space = words[frame];
  const turn = words[frame + 1];
  if (words[frame + END] !== space || words[frame + END + 1] !== turn) return false;
  return space === 0 ? turn === 0 : may_hold(descent, space, turn);
}
