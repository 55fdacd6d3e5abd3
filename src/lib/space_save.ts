/*
 * space_save: an address space is written to a file.
 *
 *      copy of one moment ──> .kmem-….part ──> disk ──> PATH, in place of what was there
 *
 * The space is forked first, so that what is written is of one moment, while other threads go on;
 * nobody finds that fork, and it goes at the end.  The file has what a fork has: regions that
 * forks do not get are left out, those that they get as zeros are zeros, and what spaces share is
 * read when its turn comes.  A region that shows a file is written as what is in it: no path is
 * kept, and it is memory when it is loaded.
 *
 * Pages are read in runs, each is copied before it is written, and nothing else is held: fifteen
 * pages, and one that lists the runs of which it is the last.  Pages without contents
 * are passed over by the indexes of the objects.  While the host writes, this thread is away:
 * nobody waits for it.
 *
 * Whole or not at all.  The file is made anew beside PATH, its owner's alone, under another name.
 * It gets its own when all of it is on the disk, in one step, in which a file of that name goes.
 * When anything fails, or the thread leaves the machine, it is removed; if the process or the
 * thread is killed it stays until something else is saved in that folder (machine/host_parts.ts),
 * and nothing is at PATH but what was.
 */
import { EEXIST, ENOMEM, errno_name } from '../sys/machine/errno.ts';
import { M, machine } from '../sys/machine/header.ts';
import { host_part, host_parts_clear } from '../sys/machine/host_parts.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import {
  STORE_NEW,
  STORE_READ,
  store_close,
  store_discard,
  store_open,
  store_replace,
  store_replaceable,
} from '../sys/machine/store.ts';
import { store_sync, store_write } from '../sys/machine/store_io.ts';
import type { vm_map_t } from '../sys/h/vm_map.ts';
import { space_let_go } from '../sys/client/kern_space.ts';
import {
  SNAP_NONE,
  type SnapPlace,
  snap_io,
  snap_next,
  snap_read,
  snap_regions,
} from '../sys/client/kern_snap.ts';
import {
  SNAP_REGIONS,
  SNAP_RUN_PAGES,
  SNAP_RUNS,
  type SnapHeader,
  snap_header_put,
  snap_index_put,
  snap_region_tables,
  snap_regions_put,
  snap_run_put,
  snap_sum,
} from '../sys/client/snap_file.ts';
import { crc32 } from '../sys/machine/crc32.ts';
import { gone, inKernel, letGo, type Wait } from './context.ts';
import { textBytes } from './memory.ts';
import type { Space } from './space.ts';
import {
  type SaveAsyncOptions,
  type SaveOptions,
  type SaveShape,
  saveShapeOf,
} from './space_args.ts';
import {
  fileError,
  filePath,
  fileTurn,
  type SavedSpace,
  savedSpace,
  TURN_MS,
} from './space_file.ts';
import { memoryFailure } from './type.ts';
import { checkAbort } from './wait.ts';

/** How long it lets others go on after a thread was silent, ms. */
const FORK_PAUSE_MS = 2;
/** Names that are tried for the new file. */
const NAMES = 100;

/** The fork of a space that nobody finds; null: once more, a thread did not answer in time. */
export type ForkOnce = (how: SaveShape, last: boolean) => vm_map_t | null;

/** A file that is being written. */
class Save implements Wait {
  readonly #space: Space;
  readonly #op: string;
  readonly #path: string;
  readonly #folder: string;
  readonly #copy: vm_map_t;
  #part = '';
  readonly #st: number;
  readonly #regions: readonly SnapPlace[];
  readonly #stamp: number;
  readonly #time = Date.now();
  readonly #bytes = new Uint8Array(SNAP_RUN_PAGES * PAGE_SIZE);
  readonly #index = new Uint8Array(PAGE_SIZE);
  /** Rows of the index, pages that they list, and the index's place in the file. */
  #rows = 0;
  #listed = 0;
  #indexAt = 0;
  /** Where the next page is written. */
  #end = 0;
  #tables = 0;
  #sum = 0;
  #groups = 0;
  #pages = 0;
  /** The region and the page of it that come next; pages that lie before. */
  #region = 0;
  #page = 0;
  #passed = 0;
  /** Nothing is to be done any more, and nothing is left. */
  #over = false;

  constructor(space: Space, op: string, to: ReturnType<typeof filePath>, copy: vm_map_t) {
    this.#space = space;
    this.#op = op;
    this.#path = to.path;
    this.#folder = to.folder;
    this.#copy = copy;
    this.#stamp = crc32(new TextEncoder().encode(`${host_part('')}`));
    this.#regions = inKernel(op, () => snap_regions(copy));
    this.#st = this.#open();
    space.context.waits.add(this);
  }
  #open(): number {
    const begin = `${this.#folder}/.kmem-`;
    host_parts_clear(begin);
    for (let n = 0; n < NAMES; n++) {
      this.#part = host_part(begin);
      const st = store_open(this.#part, STORE_NEW);
      if (st >= 0) return st;
      if (st !== -EEXIST) fileError(this.#op, this.#path, -st);
    }
    return fileError(this.#op, this.#path, EEXIST);
  }
  get total(): number {
    return this.#regions.reduce((sum, r) => sum + r.pages, 0) * PAGE_SIZE;
  }
  get progress(): { done: number; total: number; written: number } {
    const done = (this.#passed + this.#page) * PAGE_SIZE;
    return { done, total: this.total, written: this.#pages * PAGE_SIZE };
  }
  /** Throws if this thread has left the machine, or another one has ended it. */
  check(): void {
    if (this.#over) gone(this.#op, this.#space.context);
    this.#space.context.enter(this.#op);
  }
  #write(at: number, bytes: Uint8Array, what: string): void {
    const error = snap_io(() => store_write(this.#st, at, bytes));
    if (error !== 0) fileError(this.#op, this.#path, error, what);
  }
  #after(): string {
    return `after ${this.#pages * PAGE_SIZE} bytes`;
  }
  /** Writes the tables of the regions. */
  begin(): void {
    this.#end = (1 + snap_region_tables(this.#regions.length)) * PAGE_SIZE;
    for (let i = 0; i < this.#regions.length; i += SNAP_REGIONS) {
      const rows = this.#regions.slice(i, i + SNAP_REGIONS);
      const number = this.#tables++;
      const sum = snap_regions_put(this.#index, rows, this.#stamp, number);
      this.#sum = snap_sum(this.#sum, sum);
      this.#write((1 + number) * PAGE_SIZE, this.#index, 'its regions');
    }
    this.#index.fill(0);
  }
  /** Writes the next run of pages. False: there is none left. */
  step(): boolean {
    return inKernel(this.#op, () => this.#step());
  }
  #step(): boolean {
    while (this.#region < this.#regions.length) {
      const r = this.#regions[this.#region];
      const end = r.start + r.pages;
      const at = snap_next(this.#copy, r.start + this.#page, end);
      const n = this.#read(at, end);
      this.#page = at + n - r.start;
      if (n > 0) {
        this.#run(r.vpn + at - r.start, n);
        return true;
      }
      if (at < end) this.#page++; // it has no contents after all
      if (this.#page >= r.pages) {
        this.#region++;
        this.#passed += r.pages;
        this.#page = 0;
      }
    }
    if (this.#rows > 0) this.#group();
    return false;
  }
  /** Pages with contents from `at` on that were read. */
  #read(at: number, end: number): number {
    const most = Math.min(SNAP_RUN_PAGES, end - at);
    for (let n = 0; n < most; n++) {
      const error = snap_read(this.#copy, at + n, this.#bytes, n * PAGE_SIZE);
      if (error === SNAP_NONE) return n;
      if (error !== 0) this.#unread(error);
    }
    return most;
  }
  #unread(errno: number): never {
    const { name } = this.#space;
    if (errno === ENOMEM) throw memoryFailure(this.#op, PAGE_SIZE, { space: name });
    return fileError(this.#op, this.#path, errno, `reading space '${name}', ${this.#after()}`);
  }
  #run(vpn: number, pages: number): void {
    if (this.#rows === SNAP_RUNS) this.#group();
    if (this.#rows === 0) {
      this.#indexAt = this.#end;
      this.#end += PAGE_SIZE;
    }
    const bytes = this.#bytes.subarray(0, pages * PAGE_SIZE);
    snap_run_put(this.#index, this.#rows++, { vpn, pages, sum: crc32(bytes) });
    this.#write(this.#end, bytes, this.#after());
    this.#end += bytes.length;
    this.#listed += pages;
    this.#pages += pages;
  }
  /** Writes the index of the runs before it. */
  #group(): void {
    const place = { stamp: this.#stamp, number: this.#tables++, pages: this.#listed };
    const sum = snap_index_put(this.#index, this.#rows, place);
    this.#sum = snap_sum(this.#sum, sum);
    this.#write(this.#indexAt, this.#index, this.#after());
    this.#index.fill(0);
    this.#rows = 0;
    this.#listed = 0;
    this.#groups++;
  }
  /** All of it is on the disk, and has its name. */
  finish(): SavedSpace {
    const head = this.#header();
    inKernel(this.#op, () => {
      const steps: [() => number, string][] = [
        [() => store_sync(this.#st), 'bringing it to the disk'],
        [() => store_write(this.#st, 0, snap_header_put(head)), 'writing its header'],
        [() => store_sync(this.#st), 'bringing its header to the disk'],
      ];
      for (const [step, what] of steps) {
        const error = snap_io(step);
        if (error !== 0) fileError(this.#op, this.#path, error, what);
      }
      this.#over = true; // it is closed, or removed, by what follows
      const error = snap_io(() => store_replace(this.#st, this.#path));
      if (error !== 0) fileError(this.#op, this.#path, error, 'giving it its name');
      snap_io(() => this.#syncFolder());
    });
    this.#left();
    return savedSpace(head);
  }
  #header(): SnapHeader {
    return {
      stamp: this.#stamp,
      machine: machine.id_low[M] >>> 0,
      generation: machine.generation[M] >>> 0,
      time: this.#time,
      regions: this.#regions.length,
      groups: this.#groups,
      pages: this.#pages,
      mapped: this.total / PAGE_SIZE,
      sum: this.#sum,
      name: textBytes(this.#space.name),
    };
  }
  /**
   * The new name is on the disk.  Not every host and folder lets that be asked for; without it
   * an old file may be there again after a loss of power, and is as whole as the new one.
   */
  #syncFolder(): number {
    const st = store_open(this.#folder, STORE_READ);
    if (st < 0) return st;
    store_sync(st); // errno: it was a favour
    return store_close(st);
  }
  /** Gives up because of `e`, which says so if the host does not let the file be removed. */
  discard(e: unknown): void {
    const error = this.#over ? 0 : store_discard(this.#st);
    if (error !== 0 && e instanceof Error) {
      e.message += `; ${this.#part} is left, empty: ${errno_name(error)}`;
    }
    this.#left();
  }
  #left(): void {
    this.#over = true;
    const { context } = this.#space;
    context.waits.delete(this);
    if (context.up) letGo(() => inKernel(this.#op, () => space_let_go(this.#copy)));
  }
  /** This thread leaves the machine, which lets go of the copy. @internal */
  bury(): void {
    if (!this.#over) store_discard(this.#st); // errno: nobody is left to hear it
    this.#over = true;
  }
}

/** What can be told of a path before anything is done. */
function target(op: string, path: string): ReturnType<typeof filePath> {
  const to = filePath(op, path);
  const error = store_replaceable(to.path);
  if (error !== 0) fileError(op, to.path, error);
  return to;
}
/** A file for the fork, which goes if there can be none. */
function saving(space: Space, op: string, to: ReturnType<typeof filePath>, copy: vm_map_t): Save {
  try {
    return new Save(space, op, to, copy);
  } catch (e) {
    if (space.context.up) letGo(() => inKernel(op, () => space_let_go(copy)));
    throw e;
  }
}

/** Space.save. */
export function saveSpace(
  space: Space,
  path: string,
  options: SaveOptions | undefined,
  fork: ForkOnce,
): SavedSpace {
  const op = 'save';
  const how = saveShapeOf(op, options, false);
  space.enter(op);
  const to = target(op, path);
  const until = performance.now() + how.ms;
  let copy: vm_map_t | null = null;
  while (copy === null) copy = fork(how, performance.now() >= until);
  const save = saving(space, op, to, copy);
  try {
    inKernel(op, () => save.begin());
    while (save.step());
    return save.finish();
  } catch (e) {
    save.discard(e);
    throw e;
  }
}
/** Space.saveAsync. */
export async function saveSpaceAsync(
  space: Space,
  path: string,
  options: SaveAsyncOptions | undefined,
  fork: ForkOnce,
): Promise<SavedSpace> {
  const op = 'saveAsync';
  const how = saveShapeOf(op, options, true);
  const { signal, onProgress } = how;
  checkAbort(signal);
  space.enter(op);
  const to = target(op, path);
  const until = performance.now() + how.ms;
  let copy: vm_map_t | null = null;
  for (;;) {
    copy = fork(how, performance.now() >= until);
    if (copy !== null) break;
    await new Promise((resolve) => setTimeout(resolve, FORK_PAUSE_MS));
    checkAbort(signal);
  }
  const save = saving(space, op, to, copy);
  try {
    inKernel(op, () => save.begin());
    for (let more = true; more; ) {
      await fileTurn(space);
      checkAbort(signal);
      save.check();
      const over = performance.now() + TURN_MS;
      while (more && performance.now() < over) more = save.step();
      onProgress?.(save.progress);
    }
    checkAbort(signal);
    save.check();
    return save.finish();
  } catch (e) {
    save.discard(e);
    throw e;
  }
}
