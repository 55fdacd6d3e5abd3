/*
 * store: where the kernel's bytes lie when they are not in its memory.
 *
 * A store is an array of bytes with a number.  Pagers, dumps and whatever else keeps
 * bytes outside read and write them here and nowhere else: so every input and output
 * of the kernel can be made to fail, and is a point at which the seeded scheduler may
 * switch.
 *
 *      file      a file of the host: synchronous calls by position, whole or not at all
 *      memory    bytes that the caller gives, shared between threads if its buffer is
 *
 *      const st = store_open('dump', STORE_CREATE);        < 0: the errno, negated
 *      store_write(st, 4096, bytes);                       0, or an errno
 *      store_read(st, 0, bytes);                           bytes read, or the errno, negated
 *      store_close(st);
 *
 * A file that is made with STORE_NEW is this user's alone, and was not there before, not
 * even as a link.  store_discard takes it away again, and so does a close that fails:
 * what could not be written to its end leaves nothing behind.  store_name gives it its
 * name at the end: then whoever finds the name finds all of the file.
 *
 * Reading beyond the end gives fewer bytes.  Writing is all or an error; after an error
 * the bytes of that write may be there in part.  Calls of the host that are interrupted
 * are made again, those that do less than was asked are continued.
 *
 * Numbers belong to the thread that opened the store, as its views do: no other thread
 * may use them, and the host closes the files of a thread that dies.  Two threads open
 * a file twice.  A number is not given again soon, so that an old one is an error
 * (EBADF) and not somebody else's file.
 *
 * Faults.  `store_faults.next` is asked before each operation and may say that it
 * fails, does less than asked at a time, is slow, or that the store is full half-way.
 */
import { sim_point } from './atomic.ts';
import {
  EBADF,
  EEXIST,
  EINTR,
  EINVAL,
  EIO,
  EMFILE,
  ENOENT,
  ENOSPC,
  EOPNOTSUPP,
  EPERM,
  EROFS,
  errno_of_code,
} from './errno.ts';
import { host_fs, host_sleep } from './host.ts';
import { opt } from './opt.ts';

/* How a store is opened. */
/** To be read; the file must be there, and be a regular one: a pipe could make its reader wait. */
export const STORE_READ = 1;
/** To be read and written; the file must be there. */
export const STORE_WRITE = 2;
/** To be read and written; the file is made, or emptied. */
export const STORE_CREATE = 3;
/** To be read and written; the file must not be there: it is made, for its owner alone. */
export const STORE_NEW = 4;

/** Stores that a thread may have open. */
export const STORES_MAX = 64;
/** A number is the place in the table and, above it, how often that place was used. */
const PLACE_BITS = 6;
const USES = 0x1ffffff;

export type StoreOp =
  | 'open'
  | 'size'
  | 'read'
  | 'write'
  | 'truncate'
  | 'sync'
  | 'name'
  | 'discard'
  | 'close';
export type StoreKind = 'file' | 'memory';
/** What an operation is made to do. */
export type StoreFault =
  /** It does nothing and answers with this errno. */
  | { readonly what: 'fail'; readonly errno: number }
  /** The host moves no more than so many bytes at a time. */
  | { readonly what: 'short'; readonly bytes: number }
  /** Others have so many milliseconds meanwhile; in the scheduler, so many points. */
  | { readonly what: 'slow'; readonly ms: number }
  /** A write puts half of its bytes and finds no more room. */
  | { readonly what: 'full' };
export const store_faults: {
  next: ((op: StoreOp, kind: StoreKind, store: number) => StoreFault | null) | null;
} = { next: null };
/** Makes operation number `n` (from 1) of a sort do as `fault` says, once. */
export function store_fault_at(op: StoreOp, n: number, fault: StoreFault): void {
  let seen = 0;
  store_faults.next = (asked) => (asked === op && ++seen === n ? fault : null);
}

interface Store {
  readonly kind: StoreKind;
  readonly number: number;
  readonly writable: boolean;
  /** Of a file: the host's descriptor. */
  readonly fd: number;
  /** Of a memory store: its bytes. */
  readonly bytes: Uint8Array | null;
  /** The file that this store has made; null of all others. */
  made: Made | null;
}
/** A file by its path, and what tells it from another that is put there. */
interface Made {
  readonly path: string;
  readonly dev: number;
  readonly ino: number;
}
/** The stores of this thread. No state of the kernel: numbers mean nothing to others. */
const stores: (Store | null)[] = [];
const uses: number[] = [];

// --- opening and closing ---------------------------------------------------------------

/** Whether this host has files at all. */
export function store_files(): boolean {
  return host_fs !== null;
}
/** Opens the file `path`. Returns its number, or the errno, negated. */
export function store_open(path: string, how: number): number {
  if (how < STORE_READ || how > STORE_NEW || path === '') return -EINVAL;
  const fault = fault_of('open', 'file', 0);
  if (fault?.what === 'fail') return -fault.errno;
  if (!host_fs) return -EOPNOTSUPP;
  const place = free_place();
  if (place < 0) return -EMFILE;
  const fs = host_fs;
  if (how === STORE_READ && is_special(path)) return -EINVAL;
  const fd = host_call(() => fs.openSync(path, FLAGS[how], how === STORE_NEW ? OWNER_ONLY : MODE));
  if (fd < 0) return fd;
  let made: Made | null = null;
  if (how === STORE_NEW) {
    const error = host_try(() => answered(() => (made = { path, ...identity(fs.fstatSync(fd)) })));
    if (error < 0) return unmade(path, fd, error);
  }
  return enter(place, { kind: 'file', writable: how !== STORE_READ, fd, bytes: null, made });
}
/** Whether what is there is neither a file nor a folder, of which reading tells by itself. */
function is_special(path: string): boolean {
  const special = host_try(() => {
    const stat = host_fs?.statSync(path, { throwIfNoEntry: false });
    return stat !== undefined && !stat.isFile() && !stat.isDirectory() ? 1 : 0;
  });
  return special === 1; // errno: the opening tells it
}
function identity({ dev, ino }: { dev: number; ino: number }): { dev: number; ino: number } {
  return { dev, ino };
}
/** The host does not say which file it has just made: it goes again. */
function unmade(path: string, fd: number, error: number): number {
  host_try(() => answered(() => host_fs?.unlinkSync(path))); // errno: `error` came first
  host_try(() => answered(() => host_fs?.closeSync(fd))); // errno: the same
  return error;
}
/** O_EXCL, the x, follows no link in the last place: it finds the link there, and fails. */
const FLAGS = ['', 'r', 'r+', 'w+', 'wx+'];
const MODE = 0o666;
const OWNER_ONLY = 0o600;
/** Opens a store in memory: just these bytes. Returns its number, or the errno, negated. */
export function store_open_memory(bytes: Uint8Array, how = STORE_WRITE): number {
  if (how < STORE_READ || how > STORE_CREATE) return -EINVAL;
  const fault = fault_of('open', 'memory', 0);
  if (fault?.what === 'fail') return -fault.errno;
  const place = free_place();
  if (place < 0) return -EMFILE;
  if (how === STORE_CREATE) bytes.fill(0);
  const writable = how !== STORE_READ;
  return enter(place, { kind: 'memory', writable, fd: -1, bytes, made: null });
}
/**
 * Closes a store: its number is no more, whatever the answer.  0, or an errno: then a file
 * that the store has made is removed.
 */
export function store_close(number: number): number {
  const st = find(number);
  if (st === null) return EBADF;
  const fault = fault_of('close', st.kind, number);
  const closed = let_go(st);
  const error = fault?.what === 'fail' ? fault.errno : closed;
  if (error !== 0 && st.made) remove_file(st.made); // errno: the one of the close is told
  return error;
}
/** Whether nothing is at a path, not even a link that leads nowhere: 0, EEXIST, or why not. */
export function store_free_name(path: string): number {
  const fs = host_fs;
  if (!fs) return EOPNOTSUPP;
  const error = host_call(() => answered(() => fs.lstatSync(path)));
  return error === 0 ? EEXIST : error === -ENOENT ? 0 : -error;
}
/**
 * Gives the file that a store has made (STORE_NEW) another name, at which nothing may be, in one
 * step.  0, or an errno: EINVAL if the store has made none.
 */
export function store_name(number: number, to: string): number {
  const st = find(number);
  const fs = host_fs;
  if (st === null) return EBADF;
  const { made } = st;
  if (made === null || !fs) return EINVAL;
  const fault = fault_of('name', st.kind, number);
  if (fault?.what === 'fail') return fault.errno;
  const linked = host_call(() => answered(() => fs.linkSync(made.path, to)));
  // Not every file system has links.
  if (linked === -EPERM || linked === -EOPNOTSUPP) return 0 - renamed(st, made, to);
  if (linked !== 0) return 0 - linked;
  st.made = { ...made, path: to };
  return 0 - host_call(() => answered(() => fs.unlinkSync(made.path)));
}
/* Where a file has one name only: the new one is taken first, by an empty file. */
function renamed(st: Store, made: Made, to: string): number {
  const fs = host_fs;
  if (!fs) return -EOPNOTSUPP;
  const fd = host_call(() => fs.openSync(to, FLAGS[STORE_NEW], OWNER_ONLY));
  if (fd < 0) return fd;
  host_try(() => answered(() => fs.closeSync(fd))); // errno: nothing was written
  const error = host_call(() => answered(() => fs.renameSync(made.path, to)));
  if (error === 0) st.made = { ...made, path: to };
  else host_try(() => answered(() => fs.unlinkSync(to))); // errno: `error` came first
  return error;
}
/**
 * Closes a store whose file was made by it (STORE_NEW), and removes the file.  0, or the
 * errno for which it could not be removed: it is left, empty if that can be.  EINVAL for
 * any other store, which stays open.  A file that somebody has put in its place is left
 * alone.
 */
export function store_discard(number: number): number {
  const st = find(number);
  if (st === null) return EBADF;
  if (st.made === null) return EINVAL;
  const fault = fault_of('discard', st.kind, number);
  const removed = fault?.what === 'fail' ? -fault.errno : remove_file(st.made);
  const fs = host_fs;
  // errno: what cannot be removed is told, not what cannot be emptied
  if (removed < 0 && fs) host_try(() => answered(() => fs.ftruncateSync(st.fd, 0)));
  let_go(st); // errno: of a file that nobody wants
  return 0 - removed;
}
function remove_file(made: Made): number {
  const fs = host_fs;
  if (!fs) return -EOPNOTSUPP;
  return host_call(() => {
    const { dev, ino } = fs.lstatSync(made.path);
    if (dev === made.dev && ino === made.ino) fs.unlinkSync(made.path);
    return 0;
  });
}
/**
 * Closes a store as the host does when its thread dies: no point for the scheduler, no
 * fault, no answer.  For what plays such a death.
 */
export function store_abandon(number: number): void {
  const st = find(number);
  if (st !== null) let_go(st); // errno: nobody is left to hear it
}
function let_go(st: Store): number {
  stores[st.number & (STORES_MAX - 1)] = null;
  const fs = host_fs;
  if (st.kind !== 'file' || !fs) return 0;
  // Not made again when interrupted: the descriptor is gone by then.
  const result = host_try(() => answered(() => fs.closeSync(st.fd)));
  return result === -EINTR ? 0 : 0 - result;
}
function free_place(): number {
  for (let i = 0; i < STORES_MAX; i++) if (!stores[i]) return i;
  return -1;
}
function enter(place: number, st: Omit<Store, 'number'>): number {
  uses[place] = ((uses[place] ?? 0) % USES) + 1;
  const number = (uses[place] << PLACE_BITS) | place;
  stores[place] = { ...st, number };
  return number;
}
function find(number: number): Store | null {
  const st = Number.isInteger(number) ? stores[number & (STORES_MAX - 1)] : null;
  return st?.number === number ? st : null;
}

// --- reading and writing ----------------------------------------------------------------

/** Bytes in a store, or the errno, negated. */
export function store_size(number: number): number {
  const st = find(number);
  if (st === null) return -EBADF;
  const fault = fault_of('size', st.kind, number);
  if (fault?.what === 'fail') return -fault.errno;
  if (st.bytes) return st.bytes.length;
  const fs = host_fs;
  return fs ? host_call(() => fs.fstatSync(st.fd).size) : -EOPNOTSUPP;
}
/** Reads from byte `at` on. Returns the bytes read, fewer at the end, or the errno, negated. */
export function store_read(number: number, at: number, into: Uint8Array): number {
  const st = find(number);
  if (st === null) return -EBADF;
  if (!place_valid(at)) return -EINVAL;
  const fault = fault_of('read', st.kind, number);
  if (fault?.what === 'fail') return -fault.errno;
  const most = fault?.what === 'short' ? Math.max(1, fault.bytes) : into.length;
  let done = 0;
  while (done < into.length) {
    const n = read_some(st, at + done, into, done, Math.min(most, into.length - done));
    if (n < 0) return n;
    if (n === 0) break;
    done += n;
  }
  return done;
}
function read_some(st: Store, at: number, into: Uint8Array, from: number, n: number): number {
  if (st.bytes) {
    const there = Math.max(0, Math.min(n, st.bytes.length - at));
    into.set(st.bytes.subarray(at, at + there), from);
    return there;
  }
  const fs = host_fs;
  return fs ? host_call(() => fs.readSync(st.fd, into, from, n, at)) : -EOPNOTSUPP;
}
/** Writes all of `bytes` from byte `at` on. 0, or an errno. */
export function store_write(number: number, at: number, bytes: Uint8Array): number {
  const st = find(number);
  if (st === null) return EBADF;
  if (!place_valid(at)) return EINVAL;
  if (!st.writable) return EROFS;
  const fault = fault_of('write', st.kind, number);
  if (fault?.what === 'fail') return fault.errno;
  const most = fault?.what === 'short' ? Math.max(1, fault.bytes) : bytes.length;
  const end = fault?.what === 'full' ? bytes.length >> 1 : bytes.length;
  for (let done = 0; done < end; ) {
    const n = write_some(st, at + done, bytes, done, Math.min(most, end - done));
    if (n < 0) return -n;
    if (n === 0) return EIO; // the host neither writes nor says why
    done += n;
  }
  return end < bytes.length ? ENOSPC : 0;
}
function write_some(st: Store, at: number, bytes: Uint8Array, from: number, n: number): number {
  if (st.bytes) {
    const room = Math.min(n, st.bytes.length - at);
    if (room <= 0) return -ENOSPC;
    st.bytes.set(bytes.subarray(from, from + room), at);
    return room;
  }
  const fs = host_fs;
  return fs ? host_call(() => fs.writeSync(st.fd, bytes, from, n, at)) : -EOPNOTSUPP;
}
/**
 * Makes a file so many bytes long: what is new reads as zeros, and takes no room where
 * the host can leave holes.  A memory store is as long as it is: ENOSPC, EOPNOTSUPP.
 */
export function store_truncate(number: number, size: number): number {
  const st = find(number);
  if (st === null) return EBADF;
  if (!place_valid(size)) return EINVAL;
  if (!st.writable) return EROFS;
  const fault = fault_of('truncate', st.kind, number);
  if (fault?.what === 'fail') return fault.errno;
  if (fault?.what === 'full') return ENOSPC;
  const fs = host_fs;
  if (st.bytes) return memory_truncate(st.bytes.length, size);
  return fs ? 0 - host_call(() => answered(() => fs.ftruncateSync(st.fd, size))) : EOPNOTSUPP;
}
function memory_truncate(length: number, size: number): number {
  if (size === length) return 0;
  return size > length ? ENOSPC : EOPNOTSUPP;
}
/** All that was written is where it stays. 0, or an errno. */
export function store_sync(number: number): number {
  const st = find(number);
  if (st === null) return EBADF;
  const fault = fault_of('sync', st.kind, number);
  if (fault?.what === 'fail') return fault.errno;
  const fs = host_fs;
  if (st.bytes || !fs) return 0;
  return 0 - host_call(() => answered(() => fs.fsyncSync(st.fd)));
}
function place_valid(at: number): boolean {
  return Number.isSafeInteger(at) && at >= 0;
}

// --- the host, and faults ------------------------------------------------------------------

/** A call of the host that answers nothing: 0. */
function answered(call: () => void): number {
  call();
  return 0;
}
/** A call of the host; its answer, or the errno, negated. */
function host_try(call: () => number): number {
  try {
    return call();
  } catch (e) {
    return -(errno_of_code((e as { code?: string }).code ?? '') || EIO);
  }
}
/** The same, made again while it is interrupted. */
function host_call(call: () => number): number {
  for (;;) {
    const result = host_try(call);
    if (result !== -EINTR) return result;
  }
}
/**
 * A point for the scheduler, and what this operation is made to do.  The point goes by the
 * place: the number says how often the place was used, which no seed knows.
 */
function fault_of(op: StoreOp, kind: StoreKind, number: number): StoreFault | null {
  const place = number & (STORES_MAX - 1);
  if (opt.SIM) sim_point(place);
  const fault = store_faults.next?.(op, kind, number) ?? null;
  if (fault?.what !== 'slow') return fault;
  if (!opt.SIM) host_sleep(fault.ms);
  for (let i = 0; opt.SIM && i < fault.ms; i++) sim_point(place);
  return null;
}
