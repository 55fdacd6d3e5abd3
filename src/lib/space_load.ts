/*
 * space_load: a file that a space was saved to becomes the contents of an empty one.
 *
 *      PATH ──> a map that nobody else knows ──> all regions at once, in the space
 *
 * Nothing in the file is believed before it was checked (sys/client/snap_file.ts).  It is read in
 * runs of fifteen pages; they go to a map of this thread's own, which ends, with all that is in it,
 * if anything fails, or if the thread dies.  When the last page was read, and all sums are
 * right, the space shows what that map has: other threads see all of it, or nothing.
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
import { inKernel, letGo } from './context.ts';
import { kmemError } from './errors.ts';
import { textOf } from './memory.ts';
import type { Space } from './space.ts';
import { fileError, filePath, type SavedSpace, savedSpace } from './space_file.ts';
import { memoryFailure } from './type.ts';

const OP = 'load';

/** A reader of a file that is open; this thread is away while the host reads. */
function readerOf(path: string, st: number): SnapReader {
  const size = snap_io(() => store_size(st));
  if (size < 0) fileError(OP, path, -size);
  return new SnapReader(size, (at, into) => {
    const n = snap_io(() => store_read(st, at, into));
    return n < 0 ? fileError(OP, path, -n, `after ${at} bytes`) : n;
  });
}

/** Space.load. */
export function loadSpace(space: Space, given: string): SavedSpace {
  const mp = space.enter(OP);
  const { path } = filePath(OP, given);
  empty(space, mp);
  const st = store_open(path, STORE_READ);
  if (st < 0) fileError(OP, path, -st);
  const loaded = { map: NULL as vm_map_t };
  let saved: SavedSpace;
  try {
    saved = inKernel(OP, () => loadInto(space, mp, path, st, loaded));
  } catch (e) {
    left(space, st, loaded.map);
    if (e instanceof SnapForeign) throw kmemError(EINVAL, OP, `${path}: ${e.message}`);
    if (e instanceof SnapDamage) throw kmemError(EIO, OP, `${path}: damaged: ${e.message}`);
    throw e;
  }
  left(space, st, loaded.map);
  return saved;
}
/** The file is closed, and the map that it was read to goes. */
function left({ context }: Space, st: number, loaded: vm_map_t): void {
  store_close(st); // errno: it was only read
  if (loaded !== NULL && context.up) letGo(() => inKernel(OP, () => snap_map_drop(loaded)));
}
function loadInto(
  space: Space,
  mp: vm_map_t,
  path: string,
  st: number,
  loaded: { map: vm_map_t },
): SavedSpace {
  const load = readerOf(path, st);
  const header = load.header();
  const tables = load.regions(header);
  fits(space, mp, header);
  const to = snap_map(mp);
  if (to === NULL) throw memoryFailure(OP, PAGE_SIZE, { space: space.name });
  loaded.map = to;
  const places = tables.regions.map((r): SnapPlace => {
    const start = snap_region_map(to, r);
    if (start < 0) refused(space, -start, path, textOf(Uint8Array.from(r.name)));
    return { ...r, start };
  });
  load.contents(header, tables, ({ pages }, region, page, bytes) => {
    const first = places[region].start + page;
    for (let p = 0; p < pages; p++) {
      const error = snap_write(to, first + p, bytes, p * PAGE_SIZE);
      if (error !== 0) noRoom(space, error, path);
    }
  });
  const kern = snap_show(mp, to, places);
  if (kern !== KERN_SUCCESS) refused(space, kern, path, '');
  return savedSpace(header);
}
/** Throws EEXIST unless nothing is mapped in a space. */
function empty(space: Space, mp: vm_map_t): void {
  const regions = inKernel(OP, () => space_regions(mp));
  if (regions.length > 0) occupied(space);
}
function occupied(space: Space): never {
  const why = `space '${space.name}' has regions already: load into an empty one`;
  throw kmemError(EEXIST, OP, why, { space: space.name });
}
/** Throws ENOMEM if a space may not have so much mapped. */
function fits(space: Space, mp: vm_map_t, h: SnapHeader): void {
  const limit = vm_map.limit[mp];
  if (h.mapped <= limit) return;
  const [size, most] = [h.mapped * PAGE_SIZE, limit * PAGE_SIZE];
  const why = `space '${space.name}': ${size} bytes are beyond its limit of ${most}`;
  throw kmemError(ENOMEM, OP, why, { space: space.name, size, reason: 'limit' });
}
function noRoom(space: Space, errno: number, path: string): never {
  if (errno === ENOMEM) throw memoryFailure(OP, PAGE_SIZE, { space: space.name });
  return fileError(OP, path, errno, `storing to space '${space.name}'`);
}
/** Throws what keeps a region from being mapped. */
function refused(space: Space, kern: number, path: string, name: string): never {
  const mp = space.enter(OP); // it may have been destroyed meanwhile
  const details = { space: space.name, region: name };
  switch (kern) {
    case KERN_RESOURCE_SHORTAGE:
      throw memoryFailure(OP, PAGE_SIZE, { space: space.name });
    case KERN_FAILURE:
      return occupied(space);
    case KERN_NO_SPACE: {
      const most = vm_map.limit[mp] * PAGE_SIZE;
      const why = `${path}: its regions are beyond the ${most} bytes of space '${space.name}'`;
      throw kmemError(ENOMEM, OP, why, { ...details, reason: 'limit' });
    }
    case KERN_INVALID_ADDRESS: {
      const why = `${path}: a region '${name}' lies where nobody may map anything`;
      throw kmemError(EINVAL, OP, why, details);
    }
    case KERN_OUT_OF_BOUNDS: {
      const why = `${path}: space '${space.name}' has eight parts of 2^40 bytes: no room for it`;
      throw kmemError(ENOMEM, OP, why, { ...details, reason: 'too large' });
    }
    default:
      throw kmemError(EINVAL, OP, `${path}: region '${name}' cannot be mapped`, details);
  }
}
