/*
 * pages_player: the part of one CPU in the replay of references to pages.
 *
 *      ring ─► page: its place ─► the space's page ─► load, or load and store
 *                                     └ a fault, a page-in, an eviction of others …
 *
 * All pages of the recording are pages of one private mapping of one address space, at their
 * places (ring/page_events.ts).  A reference loads from its page, and a write also stores
 * there.  What the kernel has to do for that, and where it puts pages that do not fit into
 * memory, is its own; the counts are read from it at the end.
 *
 * Several players share the space, and the memory.  A page is one player's, so that its
 * references stay in the order of the recording: page by page in turn, each follows the whole
 * ring and plays what is its own.  The first one makes the space, and ends it when all are done.
 *
 * Contents.  Each write leaves the page's number and how often it was written, at its beginning,
 * in its middle and at its end; each visit looks whether it still stands there, or zeros, where
 * nothing was written.  So a page that was lost on its way out or in, is another page, is
 * older than its last write, or came back in part, is found at the next visit.
 *
 * Where there is no memory for GIVE_UP references in a row, there is nowhere to put pages, and the
 * rest is left out.
 */
import { away } from '../../sys/boot/whole.ts';
import { ENOMEM, errno_name, KmemError } from '../../sys/machine/errno.ts';
import { mem, PAGE_SIZE, PAGE_WORDS } from '../../sys/machine/memory.ts';
import { NULL } from '../../sys/machine/struct.ts';
import { MAP_ANON, MAP_EXCL, MAP_FIXED, MAP_PRIVATE } from '../../sys/h/mman.ts';
import { KERN_RESOURCE_SHORTAGE, VM_MAP_MAX, type vm_map_t } from '../../sys/h/vm_map.ts';
import { to_page } from '../../sys/map/vm_bank.ts';
import { fault_errno, vm_frame } from '../../sys/map/vm_copy.ts';
import { vmspace_alloc } from '../../sys/map/vm_map_fork.ts';
import { vm_map_keep, vm_map_unkeep } from '../../sys/map/vm_map_keep.ts';
import { user_min } from '../../sys/map/vm_mmap.ts';
import { vm_syscall } from '../../sys/map/vm_syscalls.ts';
import { widened } from '../read/widened.ts';
import { hear_pages, type PageHearer, PLACES_MAX } from '../ring/page_events.ts';
import { type RingHandle, RingReader } from '../ring/ring.ts';
import { VM_ADVICE_NORMAL, VM_ADVICE_RANDOM, VM_READ, VM_WRITE } from '../ring/vm_events.ts';
import { without_limits } from './vm_calls.ts';
import { VmShared, type VmSharedHandle } from './vm_shared.ts';

/** The part of one player. */
export interface PagesPart {
  readonly index: number;
  readonly players: number;
  readonly verify: boolean;
}
export interface PagesTask extends PagesPart {
  readonly ring: RingHandle;
  /** What makes it a task for this player. */
  readonly pages: VmSharedHandle;
  /** Neighbours of a page that is brought in come with it. */
  readonly readahead: boolean;
}
export interface PagesTotals {
  references: number;
  /** Those for which there was no memory, and that failed otherwise. */
  no_memory: number;
  failed: number;
  /** Those that were left out, because none of many before them found memory. */
  left_out: number;
  verify_errors: number;
  complaints: string[];
  play_seconds: number;
}

/** Where in the space the first place is: an address. */
const FIRST_ADDRESS = 2 ** 24;
const COMPLAINTS_KEPT = 5;
/** References that find no memory, one after the other, before a player plays no more. */
const GIVE_UP = 64;
/** Words of a page that hold how often it was written; its first and its last hold its number. */
const MIDDLE = PAGE_WORDS / 2;
const END = PAGE_WORDS - 1;
/** Turns of the players: the space is made; they are done. */
const MADE = 0;
const DONE = 1;

/** Plays this CPU's part to the end of the recording. */
export function play_pages(task: PagesTask): PagesTotals {
  const shared = new VmShared(task.pages);
  const { turns } = shared;
  const first = task.index === 0;
  if (first) {
    try {
      shared.set_map(MADE, space_of_places(task.readahead));
    } finally {
      turns.end(MADE);
    }
  } else turns.wait(MADE, 1);
  const mp = shared.map(MADE);
  if (mp === NULL) throw new KmemError(ENOMEM, 'replay', 'no memory for an address space');
  const player = new PagesPlayer(task, mp);
  let slept = 0;
  const began = performance.now();
  hear_pages(new RingReader(task.ring, task.index), player, (next) => {
    const from = performance.now();
    const n = away(next);
    slept += performance.now() - from;
    return n;
  });
  player.totals.play_seconds = (performance.now() - began - slept) / 1000;
  if (!first) turns.end(DONE);
  else {
    turns.wait(DONE, task.players - 1);
    vm_map_unkeep(mp);
  }
  return player.totals;
}
/** An address space with memory at all places, which this thread keeps. */
export function space_of_places(readahead: boolean): vm_map_t {
  const mp = vmspace_alloc(user_min(), VM_MAP_MAX);
  if (mp === NULL) return mp;
  vm_map_keep(mp);
  without_limits(mp);
  const length = PLACES_MAX * PAGE_SIZE;
  const how = MAP_PRIVATE | MAP_ANON | MAP_FIXED | MAP_EXCL;
  const call = (name: string, args: number[]): void => {
    const { error } = vm_syscall(mp, name, [FIRST_ADDRESS, length, ...args]);
    if (error !== 0) throw new KmemError(error, 'replay', `${name}: ${errno_name(error)}`);
  };
  call('mmap', [VM_READ | VM_WRITE, how, -1, 0]);
  call('madvise', [readahead ? VM_ADVICE_NORMAL : VM_ADVICE_RANDOM]);
  return mp;
}

/** Plays what it is told in a space. */
export class PagesPlayer implements PageHearer {
  readonly totals: PagesTotals = {
    references: 0,
    no_memory: 0,
    failed: 0,
    left_out: 0,
    verify_errors: 0,
    complaints: [],
    play_seconds: 0,
  };
  /** References in a row that found no memory. */
  #without = 0;
  readonly #mp: vm_map_t;
  readonly #index: number;
  readonly #players: number;
  readonly #verify: boolean;
  /** The page of the map at the first place. */
  readonly #first: number;
  /** By index: pages of the map, how often each was written, and its number in the recording. */
  #vpns = new Int32Array(1024);
  #writes = new Int32Array(1024);
  #recorded = new Float64Array(1024);
  #pages = 0;

  constructor({ index, players, verify }: PagesPart, mp: vm_map_t) {
    this.#mp = mp;
    this.#index = index;
    this.#players = players;
    this.#verify = verify;
    this.#first = to_page(mp, FIRST_ADDRESS);
  }

  /** The page of the map that the page with an index is. */
  vpn(index: number): number {
    return this.#vpns[index];
  }
  page(recorded: number, place: number): void {
    const index = this.#pages++;
    if (index === this.#vpns.length) {
      this.#vpns = widened(this.#vpns);
      this.#writes = widened(this.#writes);
      this.#recorded = widened(this.#recorded);
    }
    this.#vpns[index] = this.#first + place;
    this.#recorded[index] = recorded;
  }
  reference(index: number, write: boolean): void {
    if (this.#players > 1 && index % this.#players !== this.#index) return;
    if (this.#without === GIVE_UP) {
      this.totals.left_out++;
      return;
    }
    this.totals.references++;
    const frame = vm_frame(this.#mp, this.#vpns[index], write);
    if (frame < 0) return this.#refused(index, -frame);
    this.#without = 0;
    if (this.#verify) {
      const { I32 } = mem;
      const writes = this.#writes[index];
      const name = writes === 0 ? 0 : index + 1;
      const good =
        I32[frame] === name &&
        I32[frame + 1] === writes &&
        I32[frame + MIDDLE] === writes &&
        I32[frame + END - 1] === writes &&
        I32[frame + END] === name;
      if (!good) this.#wrong(index, frame);
    }
    if (write) this.#store(index, frame);
  }
  #store(index: number, frame: number): void {
    const { I32 } = mem;
    const writes = (this.#writes[index] + 1) | 0;
    this.#writes[index] = writes;
    I32[frame] = index + 1;
    I32[frame + 1] = writes;
    I32[frame + MIDDLE] = writes;
    I32[frame + END - 1] = writes;
    I32[frame + END] = index + 1;
  }
  #refused(index: number, kern: number): void {
    const none = kern === KERN_RESOURCE_SHORTAGE;
    if (none) {
      this.totals.no_memory++;
      this.#without++;
    } else {
      this.totals.failed++;
      this.#complain(index, `cannot be used: ${errno_name(fault_errno(kern))}`);
    }
  }
  #wrong(index: number, frame: number): void {
    this.totals.verify_errors++;
    const { I32 } = mem;
    const words = [0, 1, MIDDLE, END - 1, END].map((i) => I32[frame + i]);
    const wanted = `page ${index + 1}, write ${this.#writes[index]}`;
    this.#complain(index, `holds ${words.join(' ')} in place of ${wanted}`);
  }
  #complain(index: number, what: string): void {
    const { complaints } = this.totals;
    if (complaints.length === COMPLAINTS_KEPT) return;
    complaints.push(`page 0x${this.#recorded[index].toString(16)} ${what}`);
  }
}
