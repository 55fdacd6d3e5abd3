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
 *      store_write(st, 4096, bytes);                       0, or an errno    (store_io.ts)
 *      store_read(st, 0, bytes);                           bytes read, or the errno, negated
 *      store_close(st);
 *
 * A file that is made with STORE_NEW is this user's alone, and was not there before, not
 * even as a link.  store_discard takes it away again, and so does a close that fails:
 * what could not be written to its end leaves nothing behind.  store_name gives it its
 * name at the end, and store_replace one that another file may have: then whoever finds
 * the name finds all of a file.
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
 * What other threads are told of a file is its path and its identity: device, number, and
 * when it was made.  store_reopen opens a file by both, and is ESTALE where another file
 * is found.
 *
 * Read next: store_io.ts (reading and writing), store_fault.ts (what goes wrong on purpose),
 * object/vm_store.ts (stores that all threads know).
 */
import {
  EBADF,
  EEXIST,
  EINTR,
  EINVAL,
  EISDIR,
  ELOOP,
  EMFILE,
  ENOENT,
  EOPNOTSUPP,
  EPERM,
  ESTALE,
} from './errno.ts';
import { type FileIdLike, host_births, host_fs, host_nonblock } from './host.ts';
import {
  answered,
  fault_of,
  host_call,
  host_try,
  type StoreKind,
  STORES_MAX,
} from './store_fault.ts';

/* How a store is opened. */
/** To be read; the file must be there, and be a regular one: a pipe could make its reader wait. */
export const STORE_READ = 1;
/** To be read and written; the file must be there. */
export const STORE_WRITE = 2;
/** To be read and written; the file is made, or emptied. */
export const STORE_CREATE = 3;
/** To be read and written; the file must not be there: it is made, for its owner alone. */
export const STORE_NEW = 4;

/** A number is the place in the table and, above it, how often that place was used. */
const PLACE_BITS = 10;
const USES = 0x1fffff;

export interface Store {
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
/** What tells a file from every other. */
export interface StoreIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
  /** When it was made, ns: a number may be given again. 0: this host does not say. */
  readonly birth: bigint;
}
/** A file by its path, and what tells it from another that is put there. */
interface Made {
  readonly path: string;
  readonly is: StoreIdentity;
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
    const error = host_try(() => answered(() => (made = { path, is: identity_of(file_stat(fd)) })));
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
  const st = store_find(number);
  if (st === null) return EBADF;
  const fault = fault_of('close', st.kind, number);
  const closed = let_go(st);
  const error = fault?.what === 'fail' ? fault.errno : closed;
  if (error !== 0 && st.made) remove_file(st.made); // errno: the one of the close is told
  return error;
}
/** The file that a store has made stays from here on, however the store is closed. */
export function store_keep(number: number): void {
  const st = store_find(number);
  if (st !== null) st.made = null;
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
  const st = store_find(number);
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
 * Closes a store whose file was made by it (STORE_NEW), and puts the file in the place of the one
 * at `to`, if there is one, in one step.  0, or an errno: then its file is removed, and what was
 * at `to` is there still.  EINVAL for any other store, which stays open.
 */
export function store_replace(number: number, to: string): number {
  const st = store_find(number);
  if (st === null) return EBADF;
  const { made } = st;
  const fs = host_fs;
  if (made === null || !fs) return EINVAL;
  const closed = store_close(number);
  if (closed !== 0) return closed;
  const fault = fault_of('name', st.kind, number);
  const named = fault?.what === 'fail' ? -fault.errno : rename_over(made, to);
  if (named < 0) remove_file(made); // errno: that of the name is told
  return 0 - named;
}
function rename_over(made: Made, to: string): number {
  const there = store_replaceable(to);
  return there !== 0 ? -there : host_call(() => answered(() => host_fs?.renameSync(made.path, to)));
}
/**
 * Whether store_replace may put a file at a path, as far as the path tells: nothing is there, or a
 * file.  0; EISDIR; ELOOP for a link, which is not followed; EEXIST for anything else; or why
 * not.
 */
export function store_replaceable(path: string): number {
  const fs = host_fs;
  if (!fs) return EOPNOTSUPP;
  let found = 0;
  const error = host_call(() => {
    const there = fs.lstatSync(path);
    const other = there.isSymbolicLink() ? ELOOP : EEXIST;
    found = there.isFile() ? 0 : there.isDirectory() ? EISDIR : other;
    return 0;
  });
  return error === -ENOENT ? 0 : error === 0 ? found : 0 - error;
}
/**
 * Closes a store whose file was made by it (STORE_NEW), and removes the file.  0, or the
 * errno for which it could not be removed: it is left, empty if that can be.  EINVAL for
 * any other store, which stays open.  A file that somebody has put in its place is left
 * alone.
 */
export function store_discard(number: number): number {
  const st = store_find(number);
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
    const there = fs.lstatSync(made.path, { bigint: true });
    if (store_same(identity_of(there), made.is)) fs.unlinkSync(made.path);
    return 0;
  });
}
/**
 * Closes a store as the host does when its thread dies: no point for the scheduler, no
 * fault, no answer.  For what plays such a death.
 */
export function store_abandon(number: number): void {
  const st = store_find(number);
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
/** The store of this thread with that number; null: there is none. */
export function store_find(number: number): Store | null {
  const st = Number.isInteger(number) ? stores[number & (STORES_MAX - 1)] : null;
  return st?.number === number ? st : null;
}

// --- which file it is ---------------------------------------------------------------------

function identity_of(stat: FileIdLike): StoreIdentity {
  const { dev, ino } = stat;
  return { dev, ino, birth: host_births() ? stat.birthtimeNs : 0n };
}
function file_stat(fd: number): FileIdLike {
  const fs = host_fs;
  if (!fs) throw new Error('this host has no files');
  return fs.fstatSync(fd, { bigint: true });
}
/** Whether both tell the same file. */
export function store_same(a: StoreIdentity, b: StoreIdentity): boolean {
  const same_birth = a.birth === 0n || b.birth === 0n || a.birth === b.birth;
  return a.dev === b.dev && a.ino === b.ino && same_birth;
}
/**
 * Which file a store is, or the errno, negated: EISDIR if it is a folder, EINVAL if it is no
 * file of bytes, or lies in memory.
 */
export function store_identity(number: number): StoreIdentity | number {
  const st = store_find(number);
  if (st === null) return -EBADF;
  const fault = fault_of('identity', st.kind, number);
  if (fault?.what === 'fail') return -fault.errno;
  if (st.bytes) return -EINVAL;
  let is: StoreIdentity | number = -EINVAL;
  const error = host_call(() => {
    const stat = file_stat(st.fd);
    if (stat.isFile()) is = identity_of(stat);
    else if (stat.isDirectory()) is = -EISDIR;
    return 0;
  });
  return error < 0 ? error : is;
}
/** The host's descriptor of a store, -1: it has none. */
export function store_fd(number: number): number {
  return store_find(number)?.fd ?? -1;
}
/**
 * Opens the file `is` at a path that led to it once, to be read or to be read and written.
 * Returns its number, or the errno, negated: ESTALE, nothing or another file is there.
 */
export function store_reopen(path: string, how: number, is: StoreIdentity): number {
  const fault = fault_of('open', 'file', 0);
  if (fault?.what === 'fail') return -fault.errno;
  const fs = host_fs;
  if (!fs) return -EOPNOTSUPP;
  const place = free_place();
  if (place < 0) return -EMFILE;
  // Looked at first: opening a device may do something, opening a pipe may wait.
  let there = false;
  const looked = host_call(() => {
    const stat = fs.statSync(path, { bigint: true });
    there = stat.isFile() && store_same(identity_of(stat), is);
    return 0;
  });
  if (looked < 0 && looked !== -ENOENT) return looked;
  if (!there) return -ESTALE;
  const writable = how !== STORE_READ;
  const flags = host_nonblock(writable) ?? FLAGS[writable ? STORE_WRITE : STORE_READ];
  const fd = host_call(() => fs.openSync(path, flags));
  if (fd < 0) return fd === -ENOENT ? -ESTALE : fd;
  const number = enter(place, { kind: 'file', writable, fd, bytes: null, made: null });
  const now = store_identity(number);
  if (typeof now !== 'number' && store_same(now, is)) return number;
  store_abandon(number);
  return typeof now === 'number' ? now : -ESTALE;
}
/** Removes the file at a path if it is that one. 0, or an errno: ESTALE, it is another. */
export function store_remove(path: string, is: StoreIdentity): number {
  const fault = fault_of('discard', 'file', 0);
  if (fault?.what === 'fail') return fault.errno;
  const fs = host_fs;
  if (!fs) return EOPNOTSUPP;
  return (
    0 -
    host_call(() => {
      if (!store_same(identity_of(fs.lstatSync(path, { bigint: true })), is)) return -ESTALE;
      fs.unlinkSync(path);
      return 0;
    })
  );
}
