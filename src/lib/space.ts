/*
 * space: an address space by name, the same in every thread.
 *
 *      const space = machine.space('store', { limit: '1G' });
 *      const m = space.mmap({ name: 'index', length: '200M' });    by name, or made
 *      const snap = space.fork('monday', { protect: 'r' });        a copy of this moment
 *      snap.save('monday.kmem');  machine.space('again').load('monday.kmem');
 *      space.regions(); space.resident; space.destroy();
 *
 * What is mapped in a space takes memory page by page, when it is first used.  A fork
 * has the same regions and copies a page when either side writes to it; it is of one moment,
 * while other threads go on writing.
 *
 * A space lives until destroy(), whoever made it, and whoever has left meanwhile.  A thread that
 * asked for it keeps it: it finds it destroyed (ESTALE at every call), and never another one in its
 * place.  dispose() lets go of it in this thread alone: ESHUTDOWN from then on.
 */
import {
  EAGAIN,
  EBUSY,
  EEXIST,
  EFAULT,
  EINVAL,
  ENOENT,
  ENOMEM,
  EPERM,
  ESTALE,
} from '../sys/machine/errno.ts';
import { cpu_state_word, thr, tid_cpu } from '../sys/machine/cpu.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import { NULL } from '../sys/machine/struct.ts';
import { pagedaemon_default } from '../sys/boot/pagedaemon.ts';
import {
  KERN_BUSY,
  KERN_FAILURE,
  KERN_INVALID_ADDRESS,
  KERN_NO_SPACE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  VM_MAP_MAX,
  VM_SUPER_PAGES,
  vm_map,
  type vm_map_t,
} from '../sys/h/vm_map.ts';
import { pmap, type pmap_t } from '../sys/h/pmap.ts';
import { reg_space } from '../sys/h/registry.ts';
import { VM_PROT_ALL } from '../sys/h/vm_prot.ts';
import { registry_end } from '../sys/client/kern_registry.ts';
import {
  type SpaceRegion,
  space_address,
  space_destroy,
  space_drop,
  space_end,
  space_fork,
  space_gone,
  space_keep,
  space_let_go,
  space_lend_why,
  space_limit,
  space_limit_resident,
  space_lock_all,
  space_lock_room,
  space_unlock_all,
  space_make,
  space_map,
  space_name,
  space_region,
  space_regions,
  space_seen,
  space_unwritten,
  space_wait,
} from '../sys/client/kern_space.ts';
import { type SwapKind, swap_kind } from '../sys/observe/swap_info.ts';
import { vm_oom_text } from '../sys/map/vm_oom.ts';
import { vm_window_find } from '../sys/map/vm_window.ts';
import { tlb_base, tlb_on_move, tlb_supers } from '../sys/pmap/pmap_tlb.ts';
import { shown } from './args.ts';
import {
  checkMayBlock,
  checkName,
  type Context,
  enter,
  gone,
  inKernel,
  letGo,
  type Mortal,
} from './context.ts';
import { kmemError } from './errors.ts';
import { showsItself } from './inspect.ts';
import { textBytes, textOf } from './memory.ts';
import { SHOWN } from './loan.ts';
import { Region, silentThread } from './region.ts';
import { fileMapped, notWritten, openFile } from './region_file.ts';
import { obtain, withEntry } from './registry.ts';
import {
  type ForkOptions,
  type ForkShape,
  forkShapeOf,
  type Inherit,
  inheritName,
  type LimitOptions,
  type LoadAsyncOptions,
  type Protection,
  protectionName,
  type RegionOptions,
  type RegionShape,
  regionShapeOf,
  limitsShapeOf,
  lockAllOf,
  type LockAllOptions,
  type SaveAsyncOptions,
  type SaveOptions,
  type SaveShape,
  type SpaceLimits,
  type SpaceOptions,
  type SpaceShape,
  spaceShapeOf,
  waitMs,
  type WaitOptions,
} from './space_args.ts';
import type { SavedSpace } from './space_file.ts';
import { loadSpace, loadSpaceAsync } from './space_load.ts';
import { saveSpace, saveSpaceAsync } from './space_save.ts';
import { memoryFailure, moreHolders } from './type.ts';
import { slices } from './wait.ts';
import type { Window } from './window.ts';

const map = vm_map;
/** How long forkAsync, after a thread was silent, lets others go on before the next try, ms. */
const FORK_PAUSE_MS = 2;

/** A region as regions() lists it. */
export interface RegionInfo {
  /** '' if it has none. */
  readonly name: string;
  /** Of its first byte, in the space. */
  readonly address: number;
  /** Bytes. */
  readonly length: number;
  /** What may be done with it; of its first page, if it is different inside. */
  readonly protect: Protection;
  /** What forks make of it, by the same rule. */
  readonly inherit: Inherit;
  /** Bytes of it that are locked. */
  readonly locked: number;
  /** Bytes of it that are lent. */
  readonly lent: number;
  /** Bytes of it that are superpages now: some multiple of 4 MiB. */
  readonly super: number;
}

// --- this thread's spaces, by page tables ------------------------------------------------------

const byPmap = new Map<pmap_t, Space>();
tlb_on_move((pm, base, supers) => byPmap.get(pm)?.tagsAre(base, supers));
/*
 * What a request that finds no memory names: the spaces that this thread uses, with the pages that
 * they translate and their tables.  A page that two of them show counts in both.
 */
moreHolders.spaces = vm_oom_text;
moreHolders.find = () =>
  [...byPmap]
    .filter(([, { gone }]) => !gone)
    .map(([pm, { name }]) => {
      return { kind: 'space', name, bytes: (pmap.resident[pm] + pmap.tables[pm]) * PAGE_SIZE };
    });

// --- names -------------------------------------------------------------------------------------

const NO_MAP = NULL as vm_map_t;
function noMemory(op: string, name: string): never {
  throw memoryFailure(op, PAGE_SIZE, { space: name });
}
/** Ends the entry of a space that was destroyed, by a thread that died at it. */
function endGone(name: string): void {
  const gone = withEntry('space', name, (e) => {
    return e !== NULL && space_gone(e) ? space_end(e) : NO_MAP;
  });
  if (gone !== NO_MAP) inKernel('space', () => space_drop(gone));
}
/** Takes the name of a space away, if it is this one that has it. */
function unname(name: string, mp: vm_map_t): void {
  withEntry('space', name, (e) => {
    if (e !== NULL && reg_space.map[e] === mp) registry_end(e);
  });
}

/** The shape of a space without a limit. */
const NO_LIMIT = 'no limit';
/** The shape of a space that may have so many bytes mapped, as far as whole pages tell it. */
function limitShape(bytes: number): string {
  const pages = Math.min(Math.floor(bytes / PAGE_SIZE), VM_MAP_MAX);
  return pages === VM_MAP_MAX ? NO_LIMIT : `limit ${pages * PAGE_SIZE}`;
}
/**
 * The shape to ask for; null: whatever there is.  A call that names no limit takes the space as it
 * is, but makes one without.
 */
function wanted(name: string, { limit, create }: SpaceShape): string | null {
  if (!create) return null;
  if (limit !== undefined) return limitShape(limit);
  return withEntry('space', name, (e) => (e === NULL ? NO_LIMIT : null));
}

/**
 * Sees to it that there is a space of that name.  Another thread may have made one, or destroyed
 * it, since the shape was chosen: then it is chosen anew.
 */
function provide(name: string, shape: SpaceShape): void {
  const limit = shape.limit ?? Number.POSITIVE_INFINITY;
  for (;;) {
    try {
      endGone(name);
      obtain('space', name, wanted(name, shape), (e) => {
        if (!space_make(e, limit)) noMemory('space', name);
      });
      return;
    } catch (e) {
      const { errno } = e as { errno?: number };
      const came = errno === EEXIST && shape.limit === undefined;
      const went = errno === ENOENT && shape.create;
      if (!came && !went) throw e;
    }
  }
}

/** An address space that all threads share. Made by machine.space(). */
export class Space implements Mortal, Disposable {
  /** Its name, the same in every thread. */
  readonly name: string;
  readonly #ctx: Context;
  readonly #regions = new Map<number, Region>();
  #map: vm_map_t;
  /** This thread has seen that it was destroyed: so it stays. */
  #ended = false;
  static {
    showsItself(Space.prototype, 'Space', ({ name }) => ({ name }));
  }

  /** Use machine.space() or space.fork(). */
  constructor(ctx: Context, name: string, mp: vm_map_t) {
    this.#ctx = ctx;
    this.name = name;
    this.#map = mp;
    byPmap.set(map.pmap[mp], this);
  }
  /** The space of that name, made if there is none. Throws ENOENT, EEXIST, ENOMEM, EINVAL. */
  static obtain(ctx: Context, name: string, options?: SpaceOptions): Space {
    const shape = spaceShapeOf(options);
    ctx.enter('space');
    const known = ctx.named.get(`space:${name}`) as Space | undefined;
    if (known !== undefined && !known.gone && shape.limit === undefined) return known;
    let mp = NULL as vm_map_t;
    // Another thread may destroy it before this one keeps it: then there is none, as if it had
    // come later.
    while (mp === NULL) {
      provide(name, shape);
      mp = withEntry('space', name, (e) => (e === NULL || space_gone(e) ? NO_MAP : space_keep(e)));
    }
    if (known !== undefined && known.#map === mp) return known;
    known?.dispose(); // it was destroyed: this is another one
    const space = new Space(ctx, name, mp);
    ctx.named.set(`space:${name}`, space);
    inKernel('space', pagedaemon_default);
    return space;
  }

  // --- what is in it -----------------------------------------------------------------------------

  /**
   * Maps memory, zeros at first, a file, or what was lent (a copy of it, as far as anybody sees):
   * the region of that name, made if there is none.  One
   * that is there keeps its protection and what forks make of it.  Throws EEXIST if it has another
   * length, address or file, or the place is taken; ENOMEM for the limit of the space, no room, or
   * no memory for its records; EINVAL, ENAMETOOLONG, ESTALE.  Of a file: EINVAL if it is none of
   * bytes, is empty, or ends before `length` and may not be written; and what the host says when it
   * is opened, or made longer, such as ENOENT, EACCES, EISDIR, ENOSPC.
   */
  mmap(options: RegionOptions): Region {
    const shape = regionShapeOf(options);
    const mp = this.enter('mmap');
    const name = shape.name === '' ? new Uint8Array() : textBytes(shape.name);
    const { address, prot, inherit: inheritance, superpages } = shape;
    const file = shape.file && openFile(this.name, shape.file, shape.length);
    const length = file?.length ?? shape.length;
    const pages = Math.ceil(length / PAGE_SIZE);
    const loans = shape.loan?.[SHOWN]('mmap');
    const want = { name, pages, address, prot, inheritance, superpages, file: file?.of, loans };
    const found = inKernel('mmap', () => space_map(mp, want));
    if (typeof found === 'number') this.#noRoom(found, { ...shape, length }, pages);
    if (loans !== undefined && found.made !== true) {
      const why = `space '${this.name}' has a region '${shape.name}'`;
      throw kmemError(EEXIST, 'mmap', why, { space: this.name, region: shape.name });
    }
    const region = this.#region(found, length, address);
    if (file !== undefined) fileMapped(region, file, found.made === true);
    return region;
  }
  /** The region of a name, or around an address. Throws ENOENT, EINVAL, ESTALE. */
  region(by: string | number): Region {
    const mp = this.enter('region');
    const key = this.#key(by);
    const found = inKernel('region', () => space_region(mp, key));
    if (found === null) {
      this.enter('region'); // it may have been destroyed meanwhile
      const what = typeof by === 'number' ? `around address ${by}` : `'${by}'`;
      const why = `space '${this.name}' has no region ${what}`;
      throw kmemError(ENOENT, 'region', why, { space: this.name });
    }
    return this.#region(found);
  }
  #key(by: string | number): Uint8Array | number {
    if (typeof by === 'string') {
      if (by !== '') return textBytes(by);
    } else if (Number.isSafeInteger(by) && by >= 0) return by;
    throw kmemError(EINVAL, 'region', `${shown(by)} is no name and no address`);
  }
  /** Every region, by address. A sample while threads run. Throws ESTALE. */
  regions(): RegionInfo[] {
    const mp = this.enter('regions');
    return inKernel('regions', () => space_regions(mp)).map((r) => ({
      name: nameOf(r),
      address: r.address,
      length: (r.end - r.start) * PAGE_SIZE,
      protect: protectionName(r.prot),
      inherit: inheritName(r.inheritance),
      locked: r.locked * PAGE_SIZE,
      lent: r.lent * PAGE_SIZE,
      super: r.supers * VM_SUPER_PAGES * PAGE_SIZE,
    }));
  }
  /**
   * Bytes of its pages that are in memory and that it translates: a sample.  Pages that windows
   * alone have used are not among them.  Throws ESTALE.
   */
  get resident(): number {
    const pm = map.pmap[this.enter('resident')];
    return pmap.resident[pm] * PAGE_SIZE;
  }
  /** Bytes that are mapped in it: a sample. Throws ESTALE. */
  get mapped(): number {
    return map.size[this.enter('mapped')] * PAGE_SIZE;
  }
  /** Bytes that are locked in it: a sample. Throws ESTALE. */
  get locked(): number {
    return map.wired[this.enter('locked')] * PAGE_SIZE;
  }
  /**
   * Its limits; with options they are changed first, for all threads.  Beyond `resident` an access
   * to a page that is not in use takes others of the space out of use: the first ones to leave the
   * memory when that is short, in which they stay until then.  What windows hold, or is locked,
   * counts, and stays.  To lock more than `memlock`, or to map more than `size`, is ENOMEM; what
   * is locked or mapped already stays.  A fork has the limits of its original.  Throws EINVAL,
   * ESTALE.
   */
  limits(options?: LimitOptions): SpaceLimits {
    const { resident, memlock, size } = limitsShapeOf(options);
    const mp = this.enter('limits');
    if (memlock !== undefined || size !== undefined) {
      inKernel('limits', () => space_limit(mp, size, memlock));
    }
    if (resident !== undefined) inKernel('limits', () => space_limit_resident(mp, resident));
    const bytes = (pages: number, none: number): number =>
      pages === none ? Number.POSITIVE_INFINITY : pages * PAGE_SIZE;
    return {
      mapped: bytes(map.limit[mp], VM_MAP_MAX),
      resident: bytes(map.rss_limit[mp], 0),
      memlock: bytes(map.wire_limit[mp], VM_MAP_MAX),
    };
  }
  /**
   * Locks all that is mapped: it comes into memory and stays there, until unlockAll() or unlock().
   * With `future` what will be mapped is locked at once, else no more; what nobody may use is
   * passed over.  Throws ENOMEM for the limit of the space, EAGAIN for vm.max_wired, and if a page
   * cannot be had: then nothing is locked that was not; EPERM, EINVAL, ESTALE.
   */
  lockAll(options?: LockAllOptions): void {
    const how = lockAllOf(options);
    const mp = this.enter('lockAll');
    this.notLocked(
      'lockAll',
      inKernel('lockAll', () => space_lock_all(mp, [how]).error),
    );
  }
  /** Unlocks all, and what will be mapped is not locked. Throws EPERM, ESTALE. */
  unlockAll(): void {
    const mp = this.enter('unlockAll');
    this.notLocked(
      'unlockAll',
      inKernel('unlockAll', () => space_unlock_all(mp).error),
    );
  }
  /** Throws what keeps it from locking: an errno of limits, or 0. @internal */
  notLocked(op: string, errno: number, details: object = {}): void {
    if (errno === 0) return;
    const { space, all } = space_lock_room(this.enter(op));
    const why: Record<number, string> = {
      [EPERM]: 'nobody may lock memory: security.bsd.unprivileged_mlock is 0',
      [ENOMEM]: `its limit leaves ${space} bytes to lock, and vm.max_wired ${all}`,
      [EAGAIN]: `vm.max_wired leaves ${all} bytes, or a page is locked in too many places`,
    };
    const text = `space '${this.name}': ${why[errno] ?? 'it cannot be done'}`;
    const reason = errno === EPERM ? undefined : 'limit';
    throw kmemError(errno, op, text, { space: this.name, reason, ...details });
  }
  /**
   * How its memory, as that of every space, can be more than the machine has: by files, by files of
   * the browser ('opfs'), or not, with the reason.  A sample.  Throws ESTALE.
   */
  get swap(): SwapKind {
    this.enter('swap');
    return inKernel('swap', swap_kind);
  }
  /** Whether it was destroyed, or this thread let go of it, or left the machine. */
  get gone(): boolean {
    return this.#map === NULL || map.gone[this.#map] !== 0;
  }

  // --- by address --------------------------------------------------------------------------------

  /** The unsigned byte at an address. Throws as the calls of Region do. */
  load8(address: number): number {
    const m = this.#at('load8', address);
    return m.getU8(address - m.address);
  }
  /** The unsigned 16 bits at an even address. */
  load16(address: number): number {
    const m = this.#at('load16', address);
    return m.getU16(address - m.address);
  }
  /** The unsigned 32 bits at a multiple of 4. */
  load32(address: number): number {
    const m = this.#at('load32', address);
    return m.getU32(address - m.address);
  }
  /** The 64-bit float at a multiple of 8. */
  load64f(address: number): number {
    const m = this.#at('load64f', address);
    return m.getF64(address - m.address);
  }
  /** Stores the low 8 bits of `value`. */
  store8(address: number, value: number): void {
    const m = this.#at('store8', address);
    m.setU8(address - m.address, value);
  }
  /** Stores the low 16 bits at an even address. */
  store16(address: number, value: number): void {
    const m = this.#at('store16', address);
    m.setU16(address - m.address, value);
  }
  /** Stores the low 32 bits at a multiple of 4. */
  store32(address: number, value: number): void {
    const m = this.#at('store32', address);
    m.setU32(address - m.address, value);
  }
  /** Stores a 64-bit float at a multiple of 8. */
  store64f(address: number, value: number): void {
    const m = this.#at('store64f', address);
    m.setF64(address - m.address, value);
  }
  /** The region that an address was in last. */
  #last: Region | null = null;
  #at(op: string, address: number): Region {
    const last = this.#last;
    if (last?.current === true && typeof address === 'number') {
      if (address >= last.address && address < last.address + last.length) return last;
    }
    const mp = this.enter(op);
    if (typeof address !== 'number' || !Number.isSafeInteger(address) || address < 0) {
      throw kmemError(EINVAL, op, `${shown(address)} is no address`);
    }
    const found = inKernel(op, () => space_region(mp, address));
    if (found === null) {
      this.enter(op);
      const why = `nothing is mapped at ${address} in space '${this.name}'`;
      const details = { address, space: this.name, reason: 'unmapped' as const };
      throw kmemError(EFAULT, op, why, details);
    }
    this.#last = this.#region(found);
    return this.#last;
  }

  // --- forks, and the end ------------------------------------------------------------------------

  /**
   * A space with the same regions and the same contents, as they are at one moment; pages are
   * copied when either side writes to them.  Throws EEXIST if there is a space of that name,
   * ETIMEDOUT if a thread does not answer, ENOMEM, EINVAL, ESTALE; EBUSY for `windows: 'refuse'`.
   */
  fork(name: string, options?: ForkOptions): Space {
    const how = forkShapeOf('fork', options);
    checkName('fork', name);
    const until = performance.now() + how.ms;
    for (;;) {
      const made = this.#tryFork('fork', name, how, performance.now() >= until);
      if (made !== null) return made;
    }
  }
  /** fork that lets the event loop run between tries. */
  async forkAsync(name: string, options?: ForkOptions): Promise<Space> {
    const how = forkShapeOf('forkAsync', options);
    checkName('forkAsync', name);
    const until = performance.now() + how.ms;
    for (;;) {
      const made = this.#tryFork('forkAsync', name, how, performance.now() >= until);
      if (made !== null) return made;
      await new Promise((resolve) => setTimeout(resolve, FORK_PAUSE_MS));
    }
  }
  /** null: once more; a thread did not answer in time, and this was not the last try. */
  #tryFork(op: string, name: string, how: ForkShape, last: boolean): Space | null {
    this.enter(op);
    endGone(name);
    withEntry('space', name, (e) => {
      if (e === NULL) return;
      const why = `there is a space '${name}' already: destroy it first`;
      throw kmemError(EEXIST, op, why, { space: name });
    });
    const made = this.#cut(op, how, last);
    if (made === null) return null;
    try {
      this.#name(op, name, made);
    } catch (e) {
      letGo(() => inKernel(op, () => space_let_go(made)));
      throw e;
    }
    const key = `space:${name}`;
    (this.#ctx.named.get(key) as Space | undefined)?.dispose(); // it was destroyed
    const space = new Space(this.#ctx, name, made);
    this.#ctx.named.set(key, space);
    return space;
  }
  /** A copy that this thread keeps, and that has no name; null: as #tryFork. */
  #cut(
    op: string,
    { prot, refuse }: Pick<ForkShape, 'prot' | 'refuse'>,
    last: boolean,
  ): vm_map_t | null {
    const mp = this.enter(op);
    const child = inKernel(op, () => space_fork(mp, prot, refuse));
    if (child >= 0) return child as vm_map_t;
    if (child === -KERN_FAILURE) {
      if (!last) return null;
      silentThread(op, `space '${this.name}'`, { space: this.name });
    }
    if (child === -KERN_BUSY) {
      this.blocked(op, mp, 0, VM_MAP_MAX, 0);
      return null;
    }
    this.enter(op); // it may have been destroyed meanwhile
    noMemory(op, this.name);
  }
  /** Gives a fork its name, unless another thread has made a space of that name. */
  #name(op: string, name: string, made: vm_map_t): void {
    let mine = false;
    obtain('space', name, limitShape(map.limit[made] * PAGE_SIZE), (e) => {
      space_name(e, made);
      mine = true;
    });
    if (mine) return;
    const why = `another thread made a space '${name}' meanwhile`;
    throw kmemError(EEXIST, op, why, { space: name });
  }
  // --- in files ----------------------------------------------------------------------------------

  /**
   * Writes the space, as it is at one moment, to a file, in place of the one that may be there;
   * other threads go on.  The file has what a fork would have: space_save.ts.  It is its owner's
   * alone.  Whole or not at all: if anything fails, what was there is there still, and no file is
   * left.  Throws ETIMEDOUT if a thread does not answer, EISDIR, ELOOP for a link, ENOENT, ENOTDIR,
   * EACCES, ENAMETOOLONG, ENOSPC, EIO and what else a file system may say, EOPNOTSUPP where there
   * are no files, ENOMEM, EINVAL, ESTALE; EBUSY for `windows: 'refuse'`.
   */
  save(path: string, options?: SaveOptions): SavedSpace {
    return saveSpace(this, path, options, this.#copyFor('save'));
  }
  /**
   * save in turns of the event loop; the moment is that at which it begins.  The event loop waits
   * while the host brings it to the disk.  Rejects as save throws, with the signal's reason, and
   * with what onProgress throws; ESHUTDOWN if the thread leaves the machine.  Then no file is left.
   */
  saveAsync(path: string, options?: SaveAsyncOptions): Promise<SavedSpace> {
    return saveSpaceAsync(this, path, options, this.#copyFor('saveAsync'));
  }
  #copyFor(op: string): (how: SaveShape, last: boolean) => vm_map_t | null {
    return ({ refuse }, last) => this.#cut(op, { prot: VM_PROT_ALL, refuse }, last);
  }
  /**
   * Maps the regions of a file that save made, with their contents, names, addresses and rights:
   * for all threads at once, when the whole file was read and checked.  protect() may give them
   * any rights.  Throws EEXIST if something is mapped in the space; EINVAL for a file that is none
   * of these, or of another version; EIO if it is cut off or damaged; ENOMEM for the limit of
   * the space, and for memory; ENOENT, EACCES, EISDIR and what else a file system may say,
   * EOPNOTSUPP, ESTALE.
   */
  load(path: string): SavedSpace {
    return loadSpace(this, path);
  }
  /**
   * load in turns of the event loop.  Rejects as load throws, with the signal's reason, and with
   * what onProgress throws; ESHUTDOWN if the thread leaves the machine.  Then nothing is mapped.
   */
  loadAsync(path: string, options?: LoadAsyncOptions): Promise<SavedSpace> {
    return loadSpaceAsync(this, path, options);
  }
  /**
   * Ends the space for all threads: nothing is mapped any more, and its name is free.  EBUSY while
   * a window is open; with `wait` it waits for windows of others.  Files that nobody maps any more
   * are written; if that fails, it throws what the host says, and the space is destroyed.
   */
  destroy(options?: WaitOptions): void {
    const until = performance.now() + waitMs('destroy', options);
    let mp = this.enter('destroy');
    space_unwritten.errno = 0;
    while (inKernel('destroy', () => space_destroy(mp)) !== KERN_SUCCESS) {
      this.blocked('destroy', mp, 0, VM_MAP_MAX, until);
      mp = this.enter('destroy');
    }
    unname(this.name, mp);
    this.#ended = true;
    this.dispose();
    notWritten('destroy', `space '${this.name}'`);
  }
  /** Lets go of the space in this thread: for the others, and by its name, it stays. */
  dispose(): void {
    const mp = this.#map;
    if (mp === NULL) return;
    letGo(() => {
      enter('dispose');
      for (const w of this.windows) w.close();
      this.#ctx.forget('space', this.name, this);
      this.bury();
      inKernel('dispose', () => space_let_go(mp));
    });
  }
  /** dispose() at the end of a `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }

  // --- for its regions ---------------------------------------------------------------------------

  /** Begins a call. Throws ESTALE if the space was destroyed, ESHUTDOWN. @internal */
  enter(op: string): vm_map_t {
    const mp = this.#map;
    if (mp === NULL && !(this.#ended && this.#ctx.up)) gone(op, this.#ctx);
    enter(op);
    if (mp !== NULL && map.gone[mp] === 0) return mp;
    this.#ended = true;
    this.dispose();
    throw kmemError(ESTALE, op, `space '${this.name}' was destroyed`, { space: this.name });
  }
  /** Windows of this thread that are open. @internal */
  readonly windows = new Set<Window>();
  /**
   * A window is in the way of a call that wants pages from `start` up to `end`: sleeps for a while
   * if it is another thread's and `until` is not over, else throws EBUSY, which names it.
   * @internal
   */
  blocked(op: string, mp: vm_map_t, start: number, end: number, until: number, held = false): void {
    const seen = space_seen(mp);
    const w = inKernel(op, () => vm_window_find(mp, start, end));
    if (w === null && !held) return; // it was closed meanwhile
    const left = until - performance.now();
    if (w === null && left <= 0) {
      const why = 'some pages cannot move: another space has locked them, or a window on them';
      throw kmemError(EBUSY, op, `space '${this.name}': ${why}`, { space: this.name });
    }
    const mine = w?.tid === thr.tid;
    if (w !== null && (mine || left <= 0)) {
      const bytes = w.pages * PAGE_SIZE;
      const address = inKernel(op, () => space_address(mp, w.start));
      const who = mine ? 'this thread' : `the thread of CPU ${tid_cpu(w.tid)}`;
      const text = `space '${this.name}': ${who} has a window on ${bytes} bytes at ${address}`;
      throw kmemError(EBUSY, op, text, { address, size: bytes, space: this.name });
    }
    checkMayBlock(op, 'a call without wait, later');
    inKernel(op, () => space_wait(mp, seen, Math.min(left, slices.sleepMs)));
  }
  /** @internal */
  get context(): Context {
    return this.#ctx;
  }
  /** This CPU's tags begin there, and those of superpages; 0: it has none. @internal */
  tagsAre(base: number, supers: number): void {
    for (const m of this.#regions.values()) m.tagsAre(base, supers);
  }
  /** @internal */
  forgetRegion(m: Region): void {
    if (this.#regions.get(m.first) === m) this.#regions.delete(m.first);
    if (this.#last === m) this.#last = null;
  }
  /** How many regions of the space have ended: those of before may be no more. @internal */
  get ends(): number {
    return map.region_ends[this.#map];
  }
  /** @internal */
  bury(): void {
    if (this.#map === NULL) return;
    byPmap.delete(map.pmap[this.#map]);
    this.tagsAre(0, 0);
    this.#regions.clear();
    for (const w of this.windows) w.bury();
    this.windows.clear();
    this.#last = null;
    this.#map = NULL as vm_map_t;
  }
  /** This thread's object for a region; `length`, `at`: bytes and place that were asked for. */
  #region(found: SpaceRegion, length?: number, at?: number): Region {
    const { start, end, address } = found;
    const bytes = (end - start) * PAGE_SIZE;
    const name = nameOf(found);
    const other = length !== undefined && Math.ceil(length / PAGE_SIZE) !== end - start;
    const elsewhere = at !== undefined && at >= 0 && at !== address;
    if (other || elsewhere) {
      const [is, asked] = elsewhere ? [` at ${address}`, `${length} at ${at}`] : ['', length];
      const there = `a region '${name}' of ${bytes} bytes${is}`;
      const why = `space '${this.name}' has ${there}; asked for ${asked}`;
      throw kmemError(EEXIST, 'mmap', why, { space: this.name, region: name });
    }
    const known = this.#regions.get(start);
    if (known?.id === found.id) return known;
    const { id, ends } = found;
    // What this thread knows of these pages may be of a region that another thread unmapped.
    for (const m of ends === 0 ? [] : this.#regions.values()) {
      if (address < m.address + m.length && m.address < address + bytes) m.lose();
    }
    const place = { name, address, first: start, length: bytes, id, ends };
    const made = new Region(this, cpu_state_word(thr.cpu), place);
    this.#regions.set(start, made);
    const pm = map.pmap[this.#map];
    made.tagsAre(tlb_base(pm), tlb_supers(pm));
    return made;
  }
  #noRoom(kern: number, shape: RegionShape, pages: number): never {
    const mp = this.enter('mmap'); // it may have been destroyed meanwhile
    if (kern === KERN_RESOURCE_SHORTAGE) noMemory('mmap', this.name);
    if (kern < 0) {
      const why = `vm.loan_max and vm.max_wired leave ${space_lend_why.room * PAGE_SIZE} bytes`;
      const details = { space: this.name, size: shape.length, reason: 'limit' } as const;
      throw kmemError(ENOMEM, 'mmap', `space '${this.name}': ${why} to be lent`, details);
    }
    if (kern === KERN_FAILURE) this.notLocked('mmap', ENOMEM, { size: shape.length });
    const space = `space '${this.name}'`;
    const over = map.limit[mp] < VM_MAP_MAX && map.size[mp] + pages > map.limit[mp];
    const details = { space: this.name, size: shape.length };
    if (over) {
      const [size, limit] = [map.size[mp] * PAGE_SIZE, map.limit[mp] * PAGE_SIZE];
      const why = `${space}: ${shape.length} bytes beside ${size} are beyond its limit of ${limit}`;
      throw kmemError(ENOMEM, 'mmap', why, { ...details, reason: 'limit' });
    }
    if (shape.address >= 0 && kern === KERN_NO_SPACE) {
      const why = `${space}: of the ${shape.length} bytes from ${shape.address} on some are mapped`;
      throw kmemError(EEXIST, 'mmap', why, { ...details, address: shape.address });
    }
    const { address } = shape;
    if (address >= 0 && kern === KERN_INVALID_ADDRESS) {
      const why = `${space}: the first page, and the last of all, are nobody's`;
      throw kmemError(EINVAL, 'mmap', `${why}: ${shape.length} bytes from ${address} on`, details);
    }
    const place = address < 0 ? '' : ` from ${address} on: it has eight parts of 2^40 bytes`;
    const why = `${space} has no room for ${shape.length} bytes${place}`;
    throw kmemError(ENOMEM, 'mmap', why, { ...details, reason: 'too large' });
  }
}
function nameOf({ name }: SpaceRegion): string {
  return textOf(Uint8Array.from(name));
}
