/*
 * region: a named part of an address space, and what is done with its bytes.
 *
 *      const m = space.mmap({ name: 'index', length: '200M' });
 *      m.getU32(off); m.setF64(off, v);               one value: region_access.ts
 *      m.read(off, into); m.write(off, bytes);        many
 *      m.fill(off, n); m.indexOf('needle');
 *      const a = m.array('f64', 0, 1e6);  a.get(i)    numbered values: paged_array.ts
 *      using w = m.window(off, 65536);  w.f64[0]      flat memory: window.ts
 *      using l = m.lend(off, 65536);  l.views()       as it is now, for a borrower: loan.ts
 *      m.lock(off, n); m.unlock(off, n)               in memory, and stays there
 *      m.sync(); m.truncate(n); m.revalidate()        of a file: region_file.ts
 *
 * Offsets are bytes from the start of the region.  A page gets memory when it is first used, with
 * zeros in it.  Calls over several pages go page by page: an error says in `done` how
 * many bytes it came, and these are done.
 *
 * A region that another thread unmapped, or whose space was destroyed, is found out at the next
 * access: EFAULT with reason 'unmapped', ESTALE.  That is so, too, if another one is mapped in its
 * place meanwhile: a count of the regions that have ended says when to look, and a number that no
 * other region gets which it is.
 */
import { bytes_fill, bytes_in, bytes_out } from '../sys/machine/bytes.ts';
import {
  EAGAIN,
  EBUSY,
  EFAULT,
  EINVAL,
  EIO,
  ENOMEM,
  ESTALE,
  ETIMEDOUT,
} from '../sys/machine/errno.ts';
import { mem, PAGE_SIZE, PAGE_WORDS } from '../sys/machine/memory.ts';
import {
  SUPER_STORES,
  SUPER_TAGS,
  TABLE_ENTRIES,
  TABLE_SHIFT,
  TLB_ENTRIES,
  TLB_STORES,
} from '../sys/h/pmap.ts';
import {
  KERN_ABORTED,
  KERN_BUSY,
  KERN_FAILURE,
  KERN_INVALID_ADDRESS,
  KERN_OUT_OF_BOUNDS,
  KERN_PROTECTION_FAILURE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  type vm_map_t,
} from '../sys/h/vm_map.ts';
import { VM_PROT_READ, VM_PROT_WRITE } from '../sys/h/vm_prot.ts';
import type { vm_loan_t } from '../sys/h/vm_loan.ts';
import type { vm_window_t } from '../sys/h/vm_window.ts';
import {
  PAGEIN_PENDING,
  type RegionKey,
  space_advise,
  space_ask,
  space_asked,
  space_behind,
  space_file_size,
  space_frame,
  space_inherit,
  space_lend,
  space_lend_why,
  space_lock,
  space_protect,
  space_region,
  space_resident,
  space_revalidate,
  space_sync,
  space_there,
  space_truncate,
  space_unlock,
  space_unmap,
  space_unwritten,
  space_willneed,
} from '../sys/client/kern_space.ts';
import { vm_window_open, vm_window_why, WINDOW_HELD } from '../sys/map/vm_window.ts';
import { pagedaemon_wanted } from '../sys/boot/pagedaemon.ts';
import { tlb_silent } from '../sys/pmap/pmap_tlb.ts';
import { bytesOf, shown, type Source, whole, wholeIn } from './args.ts';
import { inKernel, letGo, mayBlock } from './context.ts';
import { type AccessReason, kmemError } from './errors.ts';
import { showsItself } from './inspect.ts';
import { textBytes, wholeViews } from './memory.ts';
import { type ArrayKind, PagedArray } from './paged_array.ts';
import { Loan } from './loan.ts';
import { fileTrouble, notWritten } from './region_file.ts';
import { RegionAccess } from './region_access.ts';
import type { Space } from './space.ts';
import {
  type Advice,
  adviceOf,
  type Inherit,
  inheritOf,
  type Protection,
  protectionOf,
  type SyncOptions,
  syncShapeOf,
  waitMs,
  type WaitOptions,
  type WindowOptions,
  type WindowsOptions,
  windowShapeOf,
  windowsShapeOf,
} from './space_args.ts';
import { memoryFailure } from './type.ts';
import { Window, windowShort } from './window.ts';

const MASK = TLB_ENTRIES - 1;
/** The last offset that a small integer can say. */
const NEAR_MAX = 2 ** 31 - 1;
/** How long waiting for pages in the event loop keeps it from other things, ms. */
const TURN_MS = 2;
/** How often the pages of a window are brought in that leave again meanwhile. */
const TRIES = 100;
/** Turns of the event loop after which a page that another thread was asked for is looked at. */
const LOOK_TURNS = 50;

/*
 * Page numbers that this thread used by the tag of a superpage last, for loads and for stores.  One
 * that it uses again is worth a tag of its own, at the price of a walk; one of many is not.
 */
const RECENT = 64;
const recent = new Int32Array(RECENT * 2).fill(-1);

/** Throws ETIMEDOUT: a thread owes an answer. */
export function silentThread(op: string, where: string, details: object): never {
  const who = `the thread of CPU ${tlb_silent.cpu} did not answer in time`;
  const why = `${who}: is it in a long computation? machine.away()`;
  throw kmemError(ETIMEDOUT, op, `${where}: ${why}`, details);
}

/** Where a region lies: page numbers of its map, and the address of the first. */
export interface RegionPlace {
  readonly name: string;
  readonly address: number;
  readonly first: number;
  readonly length: number;
  /** Which region of the space it is; and how many of them had ended when it was seen there. */
  readonly id: number;
  readonly ends: number;
}

/** Mapped memory, translated and checked at each access. Made by space.mmap(). */
export class Region extends RegionAccess implements Disposable {
  /** By which threads find it; '' if it has no name. */
  readonly name: string;
  /** Address of its first byte in the space, the same in every thread. */
  readonly address: number;
  /** Bytes. */
  readonly length: number;
  /** The space that it is of. */
  readonly space: Space;
  /** Which it is of all that the space ever had. @internal */
  readonly id: number;
  /** How many regions of the space had ended when this one was seen to be there. */
  #ends: number;
  /** It was unmapped: its pages are nobody's, or another region's. */
  #lost = false;
  /** First word of this CPU's tags of superpages of the space; 0: it has none. */
  #supers = 0;
  static {
    showsItself(Region.prototype, 'Region', ({ name, address, length }) => {
      return { name, address, length };
    });
  }

  /** Use space.mmap() or space.region(). */
  constructor(space: Space, state: number, place: RegionPlace) {
    super(wholeViews(), state, place.first);
    this.space = space;
    this.name = place.name;
    this.address = place.address;
    this.length = place.length;
    this.id = place.id;
    this.#ends = place.ends;
  }
  /** No region of its space has ended since it was seen to be there. @internal */
  get current(): boolean {
    return !this.#lost && this.#ends === this.space.ends;
  }
  /** It was unmapped: this thread knows it no more. @internal */
  lose(): void {
    this.#lost = true;
    this.tagsAre(0, 0);
    this.space.forgetRegion(this);
  }
  /** This CPU's tags for the space begin there from now on; 0: it has none. @internal */
  tagsAre(base: number, supers: number): void {
    this.tlb = base;
    this.#supers = supers;
    this.near = base === 0 ? -1 : Math.min(this.length - 1, NEAR_MAX);
  }

  // --- many bytes ------------------------------------------------------------------------------

  /**
   * Copies bytes from an offset on into `into`, as many as that has; returns it.  Throws EFAULT
   * beyond the end, EINVAL, ENOMEM, EIO, ESTALE; `done` says how many came before.
   */
  read<T extends ArrayBufferView>(offset: number, into: T): T {
    const to = bytesOf('read', into);
    this.#each('read', offset, to.length, false, (at, n, done) => bytes_out(to, done, at, n));
    return into;
  }
  /** Copies bytes, or a text as UTF-8, to an offset and on; returns how many. Throws as read. */
  write(offset: number, from: Source | string): number {
    const src = typeof from === 'string' ? textBytes(from, 'write') : bytesOf('write', from);
    this.#each('write', offset, src.length, true, (at, n, done) => bytes_in(at, src, done, n));
    return src.length;
  }
  /** Sets `n` bytes from an offset on, to 0 unless given. Throws as write does. */
  fill(offset: number, n: number, byte = 0): void {
    if (!wholeIn(byte, 0, 255)) throw kmemError(EINVAL, 'fill', `${shown(byte)} is no byte`);
    this.#each('fill', offset, n, true, (at, k) => bytes_fill(at, byte, k));
  }
  /**
   * Where bytes or a text are found first, from an offset on; -1: nowhere.  Throws EINVAL, EIO,
   * EFAULT, ESTALE.
   */
  indexOf(what: Source | string | number, from = 0): number {
    const op = 'indexOf';
    const find = this.#pattern(what);
    if (!whole(from)) throw kmemError(EINVAL, op, `from ${shown(from)} is no offset`);
    const last = this.length - find.length;
    if (find.length === 0) return Math.min(from, this.length);
    for (let at = from; at <= last; ) {
      const end = Math.min(at - (at % PAGE_SIZE) + PAGE_SIZE, last + 1);
      const byte = this.#byte(op, at, false, at - from);
      const hit = mem.U8.subarray(byte, byte + end - at).indexOf(find[0]);
      if (hit < 0) at = end;
      else if (this.#matches(at + hit, find)) return at + hit;
      else at += hit + 1;
    }
    return -1;
  }
  #pattern(what: Source | string | number): Uint8Array {
    if (typeof what === 'string') return textBytes(what, 'indexOf');
    if (typeof what !== 'number') return bytesOf('indexOf', what);
    if (!wholeIn(what, 0, 255)) throw kmemError(EINVAL, 'indexOf', `${shown(what)} is no byte`);
    return Uint8Array.of(what);
  }
  #matches(at: number, find: Uint8Array): boolean {
    for (let done = 0; done < find.length; ) {
      const n = Math.min(find.length - done, PAGE_SIZE - ((at + done) % PAGE_SIZE));
      const byte = this.#byte('indexOf', at + done, false, done);
      for (let i = 0; i < n; i++) if (mem.U8[byte + i] !== find[done + i]) return false;
      done += n;
    }
    return true;
  }
  /**
   * Values of one kind by number, from an offset on that is a multiple of their size.  Throws
   * EINVAL; EFAULT beyond the end.
   */
  array(kind: ArrayKind, offset = 0, length?: number): PagedArray {
    return new PagedArray(this, kind, offset, length);
  }
  /**
   * Gets `n` bytes from an offset on into memory, for writing if `write` is true, in turns of the
   * event loop: what a browser's main thread does first, so that its accesses need not wait.  What
   * this thread would have to wait for another thread brings in.  Rejects as read does.
   */
  async ready(offset = 0, n = this.#from(offset), write = false): Promise<void> {
    this.#range('ready', offset, n);
    const end = offset + n;
    for (let at = offset; at < end; ) {
      const until = performance.now() + TURN_MS;
      while (at < end && performance.now() < until) {
        if (!this.#filled(at, write, at - offset)) break;
        at += PAGE_SIZE - (at % PAGE_SIZE);
      }
      if (at < end) await this.#brought(at, write, at - offset);
    }
  }
  /** Another thread is asked for the page at an offset; after some turns it is time to look. */
  async #brought(at: number, write: boolean, done: number): Promise<void> {
    const mp = this.space.enter('ready');
    this.#there('ready', mp, at, done);
    const vpn = this.first + Math.floor(at / PAGE_SIZE);
    inKernel('ready', () => {
      pagedaemon_wanted();
      space_ask(mp, vpn, write ? VM_PROT_WRITE : VM_PROT_READ);
    });
    for (let turn = 0; turn < LOOK_TURNS; turn++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      this.space.enter('ready');
      const kern = space_asked();
      if (kern === KERN_SUCCESS) return;
      if (kern !== PAGEIN_PENDING) this.#fail('ready', at, done, kern, write);
    }
  }

  /** Gets the page at an offset into memory; false: where this thread may not wait, not yet. */
  #filled(at: number, write: boolean, done: number): boolean {
    try {
      this.#page('ready', at, write, done);
      return true;
    } catch (e) {
      const { errno } = e as { errno?: number };
      if (errno === EAGAIN || (errno === ENOMEM && !mayBlock())) return false;
      throw e;
    }
  }

  // --- windows -----------------------------------------------------------------------------------

  /**
   * `n` bytes from an offset on as flat memory: window.ts.  Throws EBUSY if another window overlaps
   * it in part, or if pages that have to move are locked, or under a window, in another space (with
   * `wait`: waits for others'); ENOMEM for vm.window_max or vm.max_wired, or
   * if there is no run of free pages so long; EFAULT, EINVAL, EIO, ETIMEDOUT, ESTALE.
   */
  window(offset = 0, n = this.#from(offset), options?: WindowOptions): Window {
    const { write, ms } = windowShapeOf('window', options);
    return this.#open('window', offset, n, write, performance.now() + ms);
  }
  /** The same for a thread that may not block: waits, and gets the pages, in the event loop. */
  async windowAsync(offset = 0, n = this.#from(offset), options?: WindowOptions): Promise<Window> {
    const { write, ms } = windowShapeOf('windowAsync', options);
    const until = performance.now() + ms;
    await this.ready(offset, n, write);
    for (let tries = 0; ; ) {
      try {
        return this.#open('windowAsync', offset, n, write, 0);
      } catch (e) {
        const { errno } = e as { errno?: number };
        if (errno === EAGAIN && tries++ < TRIES) {
          await this.ready(offset, n, write); // a page has left again
          continue;
        }
        if (errno !== EBUSY || performance.now() >= until) throw e;
        await new Promise((resolve) => setTimeout(resolve, TURN_MS));
      }
    }
  }
  /**
   * Windows on all of it, or on `length` bytes from `offset` on, of `size` bytes each, one after
   * another: each is closed when the next one is asked for, and of a file its pages are among the
   * first to go.  Throws as window does.
   */
  windows(options?: WindowsOptions): Generator<Window, void, undefined> {
    const shape = windowsShapeOf(options, this.length);
    this.#range('windows', shape.offset, shape.length);
    return this.#windows(shape);
  }
  *#windows(shape: ReturnType<typeof windowsShapeOf>): Generator<Window, void, undefined> {
    const { size, offset, length, write, ms } = shape;
    const file = this.fileSize >= 0;
    for (let at = offset; at < offset + length; at += size) {
      const n = Math.min(size, offset + length - at);
      const w = this.#open('windows', at, n, write, performance.now() + ms);
      try {
        yield w;
      } finally {
        w.close();
      }
      if (file) this.#behind(at, n);
    }
  }
  /** Pages of a file that were passed by are the first to go when memory is short. */
  #behind(offset: number, n: number): void {
    const mp = this.space.enter('windows');
    const start = this.first + Math.floor(offset / PAGE_SIZE);
    const end = this.first + Math.floor((offset + n) / PAGE_SIZE); // the last one may go on
    if (end > start) inKernel('windows', () => space_behind(mp, this.#key(), start, end));
  }
  #open(op: string, offset: number, n: number, write: boolean, until: number): Window {
    this.#range(op, offset, n);
    if (n === 0) throw this.#error(EINVAL, op, 'a window has 1 byte at least');
    const start = this.first + Math.floor(offset / PAGE_SIZE);
    const end = this.first + Math.ceil((offset + n) / PAGE_SIZE);
    const prot = write ? VM_PROT_READ | VM_PROT_WRITE : VM_PROT_READ;
    for (;;) {
      const mp = this.space.enter(op);
      this.#there(op, mp, offset, 0);
      const got = inKernel(op, () => vm_window_open(mp, start, end, prot));
      if (got > 0) {
        const made = new Window(this, got as vm_window_t, offset, n, write);
        this.space.windows.add(made);
        if (this.current) return made;
        return this.#onItself(op, mp, made);
      }
      if (got !== -EBUSY) this.#noWindow(op, offset, n, write, -got);
      this.space.blocked(op, mp, start, end, until, vm_window_why.reason === WINDOW_HELD);
    }
  }
  /** A window that was opened while regions were unmapped: on this one, or it throws. */
  #onItself(op: string, mp: vm_map_t, w: Window): Window {
    try {
      this.#there(op, mp, w.offset, 0);
    } catch (e) {
      w.close();
      throw e;
    }
    return w;
  }
  /**
   * `n` bytes from an offset on as they are now, to be read where they lie while others write to
   * the region: loan.ts.  Throws EBUSY for what is under a window, or held in place otherwise;
   * ENOMEM for vm.loan_max or vm.max_wired; EFAULT, EINVAL, EIO, ESTALE.
   */
  lend(offset = 0, n = this.#from(offset)): Loan {
    const op = 'lend';
    this.#range(op, offset, n);
    if (n === 0) throw this.#error(EINVAL, op, 'a loan has 1 byte at least');
    const start = this.first + Math.floor(offset / PAGE_SIZE);
    const end = this.first + Math.ceil((offset + n) / PAGE_SIZE);
    const mp = this.space.enter(op);
    this.#there(op, mp, offset, 0);
    const loans: vm_loan_t[] = [];
    const errno = inKernel(op, () => space_lend(mp, start, end, loans));
    if (errno !== 0) this.#noLoan(op, offset, n, errno);
    const made = new Loan(this.space.context, loans, offset, n);
    if (this.current) return made;
    try {
      this.#there(op, mp, offset, 0); // else regions were unmapped meanwhile
      return made;
    } catch (e) {
      made.dispose();
      throw e;
    }
  }
  #noLoan(op: string, offset: number, n: number, errno: number): never {
    const { room } = space_lend_why;
    const details = { address: this.address + offset, size: n };
    if (errno === EBUSY) {
      const why = `of the ${n} bytes from ${details.address} on some are under a window, or locked`;
      throw this.#error(EBUSY, op, why, details);
    }
    if (errno === ENOMEM && room >= 0) {
      const why = `a loan of ${n} bytes: vm.loan_max and vm.max_wired leave ${room * PAGE_SIZE}`;
      throw this.#error(ENOMEM, op, why, { ...details, reason: 'limit' });
    }
    vm_window_why.reason = 0;
    this.#noWindow(op, offset, n, false, errno);
  }
  #noWindow(op: string, offset: number, n: number, write: boolean, errno: number): never {
    if (errno === ETIMEDOUT) this.#silent(op);
    if (errno === EIO) this.#fail(op, offset, 0, KERN_FAILURE, write);
    if (errno === EAGAIN) this.#fail(op, offset, 0, KERN_ABORTED, write);
    if (errno === EFAULT) {
      const address = this.address + offset;
      const mp = this.space.enter(op);
      if (inKernel(op, () => space_region(mp, address)) === null) {
        this.#fail(op, offset, 0, KERN_INVALID_ADDRESS, write);
      }
      const may = write ? 'read and written to' : 'read';
      const why = `of the ${n} bytes from ${address} on some may not be ${may}`;
      throw this.#error(EFAULT, op, why, { address, reason: 'protection' });
    }
    const details = { address: this.address + offset, size: n };
    const short = windowShort(n);
    if (short !== null) throw this.#error(ENOMEM, op, short.why, { ...details, ...short.details });
    throw Object.assign(memoryFailure(op, n, { space: this.space.name }), {
      address: details.address,
      region: this.name,
    });
  }

  // --- in memory ---------------------------------------------------------------------------------

  /**
   * Locks `n` bytes from an offset on: their pages come into memory, and stay there until unlock(),
   * or until the region is unmapped.  Locks do not nest, are every thread's, and a fork has none.
   * Of a private mapping of a file copies are locked.  Throws ENOMEM for the limit of the space,
   * EAGAIN for vm.max_wired, EPERM, and what an access to the pages would: EFAULT, ENOMEM, EIO.
   * Then nothing is locked that was not.  Throws EINVAL, ESTALE.
   */
  lock(offset = 0, n = this.#from(offset)): void {
    this.#locks('lock', offset, n, space_lock);
  }
  /** Unlocks them; what is not locked is passed over. Throws as lock does. */
  unlock(offset = 0, n = this.#from(offset)): void {
    this.#locks('unlock', offset, n, space_unlock);
  }
  #locks(op: string, offset: number, n: number, run: typeof space_lock): void {
    this.#range(op, offset, n);
    const mp = this.space.enter(op);
    this.#there(op, mp, offset, 0);
    if (n === 0) return;
    const start = this.first + Math.floor(offset / PAGE_SIZE);
    const end = this.first + Math.ceil((offset + n) / PAGE_SIZE);
    const got = inKernel(op, () => run(mp, start, end));
    this.#there(op, mp, offset, 0); // regions may have been unmapped meanwhile
    if (got > 0) this.space.notLocked(op, got, { address: this.address + offset, size: n });
    if (got === -KERN_INVALID_ADDRESS) this.#fail(op, offset, 0, KERN_PROTECTION_FAILURE, false);
    if (got !== 0) this.#fail(op, offset, 0, -got, false);
  }

  // --- the whole ---------------------------------------------------------------------------------

  /**
   * What may be done with it from now on, by all threads.  Taking the right to write away waits
   * for other threads: ETIMEDOUT if one does not answer, and nothing has changed.  Throws EBUSY
   * against a window, EFAULT for rights that it may never have (a file that was mapped without
   * `write`, a fork with less), EINVAL, ENOMEM, ESTALE.
   */
  protect(to: Protection, options?: WaitOptions): void {
    const prot = protectionOf('protect', to);
    this.#change('protect', waitMs('protect', options), (mp, of) => space_protect(mp, of, prot));
  }
  /**
   * How it will be used.  'dontneed': its pages are the first to go when memory is short; 'free':
   * and their contents need not be kept.  These two throw EBUSY while a window is open.  Of a file
   * both make pages that the file has too as good as free, and others the first to be written;
   * 'willneed' brings its pages in, 'sequential' and 'random' say whether those behind one that is
   * used are to come with it.  Throws EINVAL, ESTALE.
   */
  advise(how: Advice): void {
    const advice = adviceOf('advise', how);
    this.#change('advise', 0, (mp, of) => space_advise(mp, of, advice));
    if (how !== 'willneed') return;
    const mp = this.space.enter('advise');
    inKernel('advise', () => space_willneed(mp, this.#key()));
  }
  /**
   * Which of its pages are in memory, a byte each: 1 it is, and with it 2 it was used, 4 it was
   * written to, of late.  A sample.  Throws EFAULT, ESTALE.
   */
  resident(): Uint8Array {
    const mp = this.space.enter('resident');
    this.#there('resident', mp, 0, 0);
    const bits = inKernel('resident', () => space_resident(mp, this.#key()));
    if (bits === null) this.#fail('resident', 0, 0, KERN_INVALID_ADDRESS, false);
    return bits.map((b) => (b & 1) | ((b | (b >> 2)) & 6));
  }

  // --- files -------------------------------------------------------------------------------------

  /** Bytes of the file that it shows, as far as this machine has seen; -1: it shows none. */
  get fileSize(): number {
    const mp = this.space.enter('fileSize');
    return inKernel('fileSize', () => space_file_size(mp, this.first));
  }
  /**
   * Writes what was stored in it, by whomever, to its file; what lies under a window that may
   * write, too.  Memory and private copies have none: nothing happens.  Throws what the host says
   * of the first page that it did not take, such as EIO or ENOSPC, now or since the last call: that
   * page stays as it is, and is written at the next; all others were.  Throws EAGAIN if a thread
   * that uses it does not answer; EINVAL, EFAULT, ESTALE.
   */
  sync(options?: SyncOptions): void {
    const how = syncShapeOf(options);
    this.#onFile('sync', (mp, of) => space_sync(mp, of, how));
  }
  /**
   * What others, outside this machine, have written to the file is seen from here on: pages that
   * hold nothing newer leave the memory, save those locked or under windows.  Throws as sync does.
   */
  revalidate(): void {
    this.#onFile('revalidate', space_revalidate);
  }
  /**
   * Makes its file `n` bytes long.  What lies behind that is gone, for all who map it, and locked
   * no more; the region is as long as before.  Throws EBUSY while a window is open there,
   * EOPNOTSUPP if it shows no file, EACCES if nobody mapped the file for writing, and what the host
   * says, such as ENOSPC: then nothing has changed.  Throws EINVAL, EFAULT, ESTALE.
   */
  truncate(n: number): void {
    if (!whole(n)) throw this.#error(EINVAL, 'truncate', `${shown(n)} is no length in bytes`);
    this.#onFile('truncate', (mp, of) => space_truncate(mp, of, n));
  }
  #onFile(op: string, run: (mp: vm_map_t, of: RegionKey) => number): void {
    const mp = this.space.enter(op);
    this.#there(op, mp, 0, 0);
    const error = inKernel(op, () => run(mp, this.#key()));
    if (error === 0) return;
    if (error < 0) this.#fail(op, 0, 0, -error, false);
    throw this.#error(error, op, fileTrouble(op, error));
  }
  /** What forks make of it. Throws EBUSY against a window, EINVAL, ENOMEM, ESTALE. */
  inherit(how: Inherit): void {
    const to = inheritOf('inherit', how);
    this.#change('inherit', 0, (mp, of) => space_inherit(mp, of, to));
  }
  /**
   * Takes it out of the space, for all threads, and gives its memory back.  EBUSY while a window
   * is open; with `wait` it waits for windows of others.  Throws EFAULT if it is unmapped already.
   * With the last region that shows a file the file is written; if that fails, it throws what the
   * host says, and is unmapped.
   */
  unmap(options?: WaitOptions): void {
    const ms = waitMs('unmap', options);
    space_unwritten.errno = 0;
    this.#change('unmap', ms, space_unmap);
    this.lose();
    notWritten('unmap', this.#where());
  }
  /** unmap() at the end of a `using`; what is unmapped or destroyed already is no error. */
  [Symbol.dispose](): void {
    if (this.space.gone || this.#lost) return;
    letGo(() => {
      try {
        this.unmap();
      } catch (e) {
        const { errno } = e as { errno?: number };
        if (errno !== EFAULT && errno !== ESTALE) throw e;
      }
    });
  }

  // --- inside ----------------------------------------------------------------------------------

  /** Bytes from an offset on, which may be none. */
  #from(offset: unknown): number {
    return typeof offset === 'number' ? this.length - offset : 0;
  }
  #key(): RegionKey {
    const [start, end] = this.#pages();
    return { start, end, id: this.id };
  }
  #pages(): [start: number, end: number] {
    return [this.first, this.first + Math.ceil(this.length / PAGE_SIZE)];
  }
  /** Changes the map by `run`, which answers with a KERN_* code; waits for windows of others. */
  #change(op: string, ms: number, run: (mp: vm_map_t, of: RegionKey) => number): void {
    const until = performance.now() + ms;
    const of = this.#key();
    for (;;) {
      const mp = this.space.enter(op);
      const kern = inKernel(op, () => run(mp, of));
      if (kern === KERN_SUCCESS) return;
      if (kern === KERN_FAILURE) this.#silent(op);
      if (kern === KERN_PROTECTION_FAILURE && op === 'protect') this.#never();
      if (kern !== KERN_BUSY) this.#fail(op, 0, 0, kern, op === 'protect');
      this.space.blocked(op, mp, ...this.#pages(), until);
    }
  }
  /** Throws: a right that it may never have. */
  #never(): never {
    const why =
      this.fileSize >= 0
        ? 'its file was mapped without the right to write: mmap({ file, write: true })'
        : 'it may never have that right: fork({ protect }) says what a copy may be used for';
    throw this.#error(EFAULT, 'protect', why, { address: this.address, reason: 'protection' });
  }
  #silent(op: string): never {
    silentThread(op, this.#where(), { region: this.name, space: this.space.name });
  }
  #where(): string {
    const which = this.name === '' ? `region at ${this.address}` : `region '${this.name}'`;
    return `${which} of space '${this.space.name}'`;
  }
  #error(errno: number, op: string, why: string, details: object = {}): Error {
    return kmemError(errno, op, `${this.#where()}: ${why}`, {
      region: this.name,
      space: this.space.name,
      ...details,
    });
  }
  /** Throws: an offset of a value is beyond the end. @internal */
  outside(op: string, offset: number, why: string): never {
    throw this.#error(EFAULT, op, why, { address: this.address + offset, reason: 'outside' });
  }
  /** Throws unless `n` bytes at an offset are in the region. */
  #range(op: string, offset: number, n: number): void {
    if (!whole(offset)) throw this.#error(EINVAL, op, `${shown(offset)} is no offset`);
    if (!whole(n) && offset <= this.length) {
      throw this.#error(EINVAL, op, `${shown(n)} is no length in bytes`);
    }
    if (offset + n <= this.length && offset <= this.length) return;
    const bytes = whole(n) ? ` with ${n} bytes` : '';
    this.outside(op, offset, `offset ${offset}${bytes} is beyond its ${this.length} bytes`);
  }
  /** Throws what a fault ended with. */
  #fail(op: string, offset: number, done: number, kern: number, write: boolean): never {
    this.space.enter(op); // it may have been destroyed meanwhile
    const address = this.address + offset;
    const details = (reason: AccessReason): object => ({ address, reason, done });
    switch (kern) {
      case KERN_OUT_OF_BOUNDS: {
        const why = `${address} lies behind the end of its file of ${this.fileSize} bytes`;
        throw this.#error(EFAULT, op, why, details('beyond-end-of-file'));
      }
      case KERN_INVALID_ADDRESS:
        throw this.#error(EFAULT, op, `nothing is mapped at ${address}`, details('unmapped'));
      case KERN_PROTECTION_FAILURE: {
        const why = `${address} may not be ${write ? 'written to' : 'read'}`;
        throw this.#error(EFAULT, op, why, details('protection'));
      }
      case KERN_RESOURCE_SHORTAGE:
        throw Object.assign(memoryFailure(op, PAGE_SIZE, { space: this.space.name }), {
          address,
          region: this.name,
          done,
        });
      case KERN_ABORTED: {
        const how = 'await ready(offset, n), or windowAsync(offset, n), first';
        const why = `this thread would have to wait for the page at ${address}: ${how}`;
        throw this.#error(EAGAIN, op, why, { address, done });
      }
      default:
        throw this.#error(EIO, op, `the page at ${address} could not be read`, details('io'));
    }
  }
  /** First word of the page at an offset: it is there. Throws what keeps it from that. */
  #page(op: string, offset: number, write: boolean, done: number): number {
    const kept = this.#kept(offset, write);
    if (kept >= 0) return kept;
    const mp = this.space.enter(op);
    const at = this.first + Math.floor(offset / PAGE_SIZE);
    for (;;) {
      this.#there(op, mp, offset, done);
      const frame = inKernel(op, () => space_frame(mp, at, write));
      if (frame < 0) this.#fail(op, offset, done, -frame, write);
      if (this.current) return frame; // else it may be that of another region
    }
  }
  /** Throws unless the region is there. */
  #there(op: string, mp: vm_map_t, offset: number, done: number): void {
    if (this.current) return;
    const ends = this.#lost ? null : inKernel(op, () => space_there(mp, this.first, this.id));
    if (ends === null) {
      this.lose();
      this.#fail(op, offset, done, KERN_INVALID_ADDRESS, false);
    }
    this.#ends = ends;
  }
  /** Byte of the memory at an offset, by the same. */
  #byte(op: string, offset: number, write: boolean, done: number): number {
    return this.#page(op, offset, write, done) * 4 + (offset % PAGE_SIZE);
  }
  /** That word by this CPU's tag; -1: it has none, or somebody asks something of it. */
  #kept(offset: number, write: boolean): number {
    if (this.near < 0 || this.i32[this.state] !== 0) return -1;
    const at = this.first + Math.floor(offset / PAGE_SIZE);
    const tag = this.tlb + ((at & MASK) << 1) + (write ? TLB_STORES : 0);
    if (this.i32[tag] === at) return this.i32[tag + 1];
    return this.#supers === 0 ? -1 : this.#keptSuper(at, write);
  }
  /** The same by the tag of the superpage around page number `at`, before any table is walked. */
  #keptSuper(at: number, write: boolean): number {
    const key = at >>> TABLE_SHIFT;
    const tag = this.#supers + ((key & (SUPER_TAGS - 1)) << 1) + (write ? SUPER_STORES : 0);
    if (this.i32[tag] !== key) return -1;
    const slot = (at & (RECENT - 1)) + (write ? RECENT : 0);
    if (recent[slot] === at) return -1; // the long way gives it a tag of its own
    recent[slot] = at;
    return this.i32[tag + 1] + (at & (TABLE_ENTRIES - 1)) * PAGE_WORDS;
  }
  /** Calls `move` for each piece of a range that lies in a page: its byte in the memory. */
  #each(
    op: string,
    offset: number,
    length: number,
    write: boolean,
    move: (at: number, n: number, done: number) => void,
  ): void {
    this.#range(op, offset, length);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const n = Math.min(PAGE_SIZE - (at % PAGE_SIZE), length - done);
      move(this.#byte(op, at, write, done), n, done);
      done += n;
    }
  }
  protected frame(op: string, offset: number, width: number, write: boolean): number {
    if (typeof offset === 'number' && offset % width !== 0 && Number.isInteger(offset)) {
      throw this.#error(EINVAL, op, `offset ${offset} is no multiple of ${width}`);
    }
    this.#range(op, offset, width);
    return this.#page(op, offset, write, 0);
  }
  protected noNumber(op: string, value: unknown): never {
    throw kmemError(EINVAL, op, `${shown(value)} is not a number`);
  }
}
