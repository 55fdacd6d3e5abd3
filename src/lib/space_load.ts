/*
 * space_load: a file that a space was saved to becomes the contents of an empty one.
 *
 *      PATH ──> a map that nobody else knows ──> all regions at once, in the space
 *
 * Nothing in the file is believed before it was checked (sys/client/snap_file.ts).  It is read in
 * runs of fifteen pages; they go to a map of this thread's own, which ends, with all that is in it,
 * if anything fails, or if the thread dies.  When the last page was read, and all sums are
 * right, the space shows what that map has: other threads see all of it, or nothing.
 *
 * loadAsync does the same in turns of the event loop, run after run; the space may be given
 * regions, or be destroyed, meanwhile, and then it is that which is told at the end.
 */
import { EEXIST, EINVAL, EIO, ENOMEM } from '../sys/machine/errno.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import { NULL } from '../sys/machine/struct.ts';
import { STORE_READ, store_close, store_open } from '../sys/machine/store.ts';
import { store_read, store_size } from '../sys/machine/store_io.ts';
import {
  KERN_FAILURE,
  KERN_INVALID_ADDRESS,
  KERN_NO_SPACE,
  KERN_OUT_OF_BOUNDS,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  vm_map,
  type vm_map_t,
} from '../sys/h/vm_map.ts';
import { space_regions } from '../sys/client/kern_space.ts';
import {
  type SnapPlace,
  snap_io,
  snap_map,
  snap_map_drop,
  snap_region_map,
  snap_show,
  snap_write,
} from '../sys/client/kern_snap.ts';
import { SnapDamage, SnapForeign, type SnapHeader } from '../sys/client/snap_file.ts';
import { SnapReader } from '../sys/client/snap_reader.ts';
import { gone, inKernel, letGo, type Wait } from './context.ts';
import { kmemError } from './errors.ts';
import { textOf } from './memory.ts';
import type { Space } from './space.ts';
import { type LoadAsyncOptions, type LoadProgress, loadShapeOf } from './space_args.ts';
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

/** A file that is being read into a space. */
class Load implements Wait {
  readonly #space: Space;
  readonly #op: string;
  readonly #path: string;
  readonly #st: number;
  /** The map that it is read to; NULL: there is none yet. */
  #to = NULL as vm_map_t;
  /** Nothing is to be done any more, and nothing is left. */
  #over = false;
  #done = 0;
  #total = 0;

  constructor(space: Space, op: string, given: string) {
    const mp = space.enter(op);
    const { path } = filePath(op, given);
    this.#space = space;
    this.#op = op;
    this.#path = path;
    if (inKernel(op, () => space_regions(mp)).length > 0) this.#occupied();
    const st = store_open(path, STORE_READ);
    if (st < 0) fileError(op, path, -st);
    this.#st = st;
    space.context.waits.add(this);
  }
  get progress(): LoadProgress {
    return { done: this.#done * PAGE_SIZE, total: this.#total * PAGE_SIZE };
  }
  /** Throws if this thread has left the machine, or the space is there no more. */
  check(): void {
    if (this.#over) gone(this.#op, this.#space.context);
    this.#space.enter(this.#op);
  }
  /** Works run after run, in the kernel. True: all is read, and nothing yet to be seen. */
  *steps(): Generator<boolean, SavedSpace, undefined> {
    const load = this.#reader();
    const header = load.header();
    this.#total = header.pages;
    const tables = load.regions(header);
    this.#fits(header);
    this.#to = snap_map(this.#mp);
    if (this.#to === NULL) this.#noRoom(ENOMEM);
    const places = tables.regions.map((r): SnapPlace => {
      const start = snap_region_map(this.#to, r);
      if (start < 0) this.#refused(-start, textOf(Uint8Array.from(r.name)));
      return { ...r, start };
    });
    for (const { region, page, pages, bytes } of load.contents(header, tables)) {
      const first = places[region].start + page;
      for (let p = 0; p < pages; p++) {
        const error = snap_write(this.#to, first + p, bytes, p * PAGE_SIZE);
        if (error !== 0) this.#noRoom(error);
      }
      this.#done += pages;
      yield false;
    }
    yield true;
    const kern = snap_show(this.#mp, this.#to, places);
    if (kern !== KERN_SUCCESS) this.#refused(kern, '');
    return savedSpace(header);
  }
  get #mp(): vm_map_t {
    return this.#space.enter(this.#op); // it may have been destroyed meanwhile
  }
  /** A reader of the file; this thread is away while the host reads. */
  #reader(): SnapReader {
    const size = snap_io(() => store_size(this.#st));
    if (size < 0) fileError(this.#op, this.#path, -size);
    return new SnapReader(size, (at, into) => {
      const n = snap_io(() => store_read(this.#st, at, into));
      return n < 0 ? fileError(this.#op, this.#path, -n, `after ${at} bytes`) : n;
    });
  }
  /** It ends, because of `e` or well: the file is closed, the map that it was read to goes. */
  end(e?: unknown): unknown {
    const { context } = this.#space;
    context.waits.delete(this);
    if (!this.#over) store_close(this.#st); // errno: it was only read
    this.#over = true;
    const to = this.#to;
    if (to !== NULL && context.up) letGo(() => inKernel(this.#op, () => snap_map_drop(to)));
    if (e instanceof SnapForeign) return kmemError(EINVAL, this.#op, `${this.#path}: ${e.message}`);
    if (!(e instanceof SnapDamage)) return e;
    return kmemError(EIO, this.#op, `${this.#path}: damaged: ${e.message}`);
  }
  /** This thread leaves the machine, which lets go of the map. @internal */
  bury(): void {
    if (!this.#over) store_close(this.#st); // errno: as above
    this.#over = true;
  }

  // --- what goes wrong ---------------------------------------------------------------------------

  #occupied(): never {
    const { name } = this.#space;
    const why = `space '${name}' has regions already: load into an empty one`;
    throw kmemError(EEXIST, this.#op, why, { space: name });
  }
  /** Throws ENOMEM if the space may not have so much mapped. */
  #fits(h: SnapHeader): void {
    const limit = vm_map.limit[this.#mp];
    if (h.mapped <= limit) return;
    const { name } = this.#space;
    const [size, most] = [h.mapped * PAGE_SIZE, limit * PAGE_SIZE];
    const why = `space '${name}': ${size} bytes are beyond its limit of ${most}`;
    throw kmemError(ENOMEM, this.#op, why, { space: name, size, reason: 'limit' });
  }
  #noRoom(errno: number): never {
    const { name } = this.#space;
    if (errno === ENOMEM) throw memoryFailure(this.#op, PAGE_SIZE, { space: name });
    return fileError(this.#op, this.#path, errno, `storing to space '${name}'`);
  }
  /** Throws what keeps a region from being mapped. */
  #refused(kern: number, region: string): never {
    const mp = this.#mp;
    const { name } = this.#space;
    const details = { space: name, region };
    switch (kern) {
      case KERN_RESOURCE_SHORTAGE:
        return this.#noRoom(ENOMEM);
      case KERN_FAILURE:
        return this.#occupied();
      case KERN_NO_SPACE: {
        const most = vm_map.limit[mp] * PAGE_SIZE;
        const why = `its regions are beyond the ${most} bytes of space '${name}'`;
        return this.#says(ENOMEM, why, { ...details, reason: 'limit' });
      }
      case KERN_INVALID_ADDRESS: {
        const why = `a region '${region}' lies where nobody may map anything`;
        return this.#says(EINVAL, why, details);
      }
      case KERN_OUT_OF_BOUNDS: {
        const why = `space '${name}' has eight parts of 2^40 bytes: no room for it`;
        return this.#says(ENOMEM, why, { ...details, reason: 'too large' });
      }
      default:
        return this.#says(EINVAL, `region '${region}' cannot be mapped`, details);
    }
  }
  #says(errno: number, why: string, details: object): never {
    throw kmemError(errno, this.#op, `${this.#path}: ${why}`, details);
  }
}

/** Space.load. */
export function loadSpace(space: Space, path: string): SavedSpace {
  const op = 'load';
  const load = new Load(space, op, path);
  try {
    const saved = inKernel(op, () => {
      const steps = load.steps();
      let step = steps.next();
      while (step.done !== true) step = steps.next();
      return step.value;
    });
    load.end();
    return saved;
  } catch (e) {
    throw load.end(e);
  }
}
/** Space.loadAsync. */
export async function loadSpaceAsync(
  space: Space,
  path: string,
  options: LoadAsyncOptions | undefined,
): Promise<SavedSpace> {
  const op = 'loadAsync';
  const { signal, onProgress } = loadShapeOf(op, options);
  checkAbort(signal);
  const load = new Load(space, op, path);
  try {
    const steps = load.steps();
    const next = (): IteratorResult<boolean, SavedSpace> => inKernel(op, () => steps.next());
    for (;;) {
      await fileTurn(space);
      checkAbort(signal);
      load.check();
      const over = performance.now() + TURN_MS;
      let step = next();
      while (step.value === false && performance.now() < over) step = next();
      if (step.done === true) {
        load.end();
        return step.value;
      }
      onProgress?.(load.progress);
    }
  } catch (e) {
    throw load.end(e);
  }
}
