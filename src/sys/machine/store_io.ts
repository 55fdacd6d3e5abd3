/*
 * store_io: the bytes of a store are read and written.
 *
 * One call moves an array of views, in their order, from or to bytes of the store that lie
 * side by side: a page-in of a cluster is one call of the host, wherever the pages are.
 *
 *      store        | . . . 8192 ────────────────────> 20480 . . . |
 *      views              [ page 7 ][ page 3 ][ page 9 ]
 *
 * All is moved, or an errno says why not.  A host that does less than asked is asked again
 * for the rest, in the middle of a view if it stopped there; reading ends at the store's end.
 * After an error of a write, some of its bytes may be there.
 */
import { EBADF, EINVAL, EIO, ENOSPC, EOPNOTSUPP, EROFS } from './errno.ts';
import { host_fs } from './host.ts';
import { type Store, store_find } from './store.ts';
import { answered, fault_of, host_call, type StoreFault } from './store_fault.ts';

/** Views that one call may have: what hosts take at a time. */
export const STORE_VIEWS_MAX = 1024;
/**
 * A store of this thread by its number, or bytes of memory, which are a store without being
 * opened: what lies in a machine's own memory is read and written by any of its threads.
 */
export type StoreRef = number | Uint8Array;
function find(ref: StoreRef): Store | null {
  if (typeof ref === 'number') return store_find(ref);
  return { kind: 'memory', number: 0, writable: true, fd: -1, bytes: ref, made: null };
}

/** Bytes in a store, or the errno, negated. */
export function store_size(ref: StoreRef): number {
  const st = find(ref);
  if (st === null) return -EBADF;
  const fault = fault_of('size', st.kind, st.number);
  if (fault?.what === 'fail') return -fault.errno;
  if (st.bytes) return st.bytes.length;
  const fs = host_fs;
  return fs ? host_call(() => fs.fstatSync(st.fd).size) : -EOPNOTSUPP;
}
/** Reads from byte `at` on. Returns the bytes read, fewer at the end, or the errno, negated. */
export function store_read(ref: StoreRef, at: number, into: Uint8Array): number {
  return store_readv(ref, at, [into]);
}
/** The same into several views, one after the other: at most STORE_VIEWS_MAX. */
export function store_readv(ref: StoreRef, at: number, into: readonly Uint8Array[]): number {
  const st = find(ref);
  if (st === null) return -EBADF;
  if (!place_valid(at) || into.length > STORE_VIEWS_MAX) return -EINVAL;
  return read_views(st, at, into);
}
function read_views(st: Store, at: number, into: readonly Uint8Array[]): number {
  const fault = fault_of('read', st.kind, st.number);
  if (fault?.what === 'fail') return -fault.errno;
  const all = bytes_in(into);
  const most = at_a_time(fault, all);
  let done = 0;
  while (done < all) {
    const n = read_some(st, at + done, part(into, done, Math.min(most, all - done), all));
    if (n < 0) return n;
    if (n === 0) break;
    done += n;
  }
  return done;
}
function read_some(st: Store, at: number, into: readonly Uint8Array[]): number {
  if (st.bytes) return copy_out(st.bytes, at, into);
  const fs = host_fs;
  if (!fs) return -EOPNOTSUPP;
  const [one] = into;
  return into.length === 1
    ? host_call(() => fs.readSync(st.fd, one, 0, one.length, at))
    : host_call(() => fs.readvSync(st.fd, into, at));
}
function copy_out(bytes: Uint8Array, at: number, into: readonly Uint8Array[]): number {
  let done = 0;
  for (const view of into) {
    const n = Math.max(0, Math.min(view.length, bytes.length - at - done));
    view.set(bytes.subarray(at + done, at + done + n));
    done += n;
  }
  return done;
}

/** Writes all of `bytes` from byte `at` on. 0, or an errno. */
export function store_write(ref: StoreRef, at: number, bytes: Uint8Array): number {
  return store_writev(ref, at, [bytes]);
}
/** The same out of several views, one after the other: at most STORE_VIEWS_MAX. */
export function store_writev(ref: StoreRef, at: number, from: readonly Uint8Array[]): number {
  const st = find(ref);
  if (st === null) return EBADF;
  if (!place_valid(at) || from.length > STORE_VIEWS_MAX) return EINVAL;
  if (!st.writable) return EROFS;
  return write_views(st, at, from);
}
function write_views(st: Store, at: number, from: readonly Uint8Array[]): number {
  const fault = fault_of('write', st.kind, st.number);
  if (fault?.what === 'fail') return fault.errno;
  const all = bytes_in(from);
  const most = at_a_time(fault, all);
  const end = fault?.what === 'full' ? all >> 1 : all;
  for (let done = 0; done < end; ) {
    const n = write_some(st, at + done, part(from, done, Math.min(most, end - done), all));
    if (n < 0) return -n;
    if (n === 0) return EIO; // the host neither writes nor says why
    done += n;
  }
  return end < all ? ENOSPC : 0;
}
function write_some(st: Store, at: number, from: readonly Uint8Array[]): number {
  if (st.bytes) return copy_in(st.bytes, at, from);
  const fs = host_fs;
  if (!fs) return -EOPNOTSUPP;
  const [one] = from;
  return from.length === 1
    ? host_call(() => fs.writeSync(st.fd, one, 0, one.length, at))
    : host_call(() => fs.writevSync(st.fd, from, at));
}
function copy_in(bytes: Uint8Array, at: number, from: readonly Uint8Array[]): number {
  let done = 0;
  for (const view of from) {
    const n = Math.max(0, Math.min(view.length, bytes.length - at - done));
    bytes.set(view.subarray(0, n), at + done);
    done += n;
  }
  return done === 0 ? -ENOSPC : done;
}

/** Bytes in all views together. */
function bytes_in(views: readonly Uint8Array[]): number {
  let n = 0;
  for (const view of views) n += view.length;
  return n;
}
function at_a_time(fault: StoreFault | null, all: number): number {
  return fault?.what === 'short' ? Math.max(1, fault.bytes) : all;
}
/** Of `all` bytes in some views, `n` from byte `first` on: as views, none of them empty. */
function part(
  views: readonly Uint8Array[],
  first: number,
  n: number,
  all: number,
): readonly Uint8Array[] {
  if (n === all) return views; // nearly always
  const some: Uint8Array[] = [];
  let at = 0;
  for (const view of views) {
    const from = Math.max(0, first - at);
    const to = Math.min(view.length, first + n - at);
    if (from < to) some.push(view.subarray(from, to));
    at += view.length;
  }
  return some;
}

/**
 * Makes a file so many bytes long: what is new reads as zeros, and takes no room where
 * the host can leave holes.  A memory store is as long as it is: ENOSPC, EOPNOTSUPP.
 */
export function store_truncate(ref: StoreRef, size: number): number {
  const st = find(ref);
  if (st === null) return EBADF;
  if (!place_valid(size)) return EINVAL;
  if (!st.writable) return EROFS;
  const fault = fault_of('truncate', st.kind, st.number);
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
export function store_sync(ref: StoreRef): number {
  const st = find(ref);
  if (st === null) return EBADF;
  const fault = fault_of('sync', st.kind, st.number);
  if (fault?.what === 'fail') return fault.errno;
  const fs = host_fs;
  if (st.bytes || !fs) return 0;
  return 0 - host_call(() => answered(() => fs.fsyncSync(st.fd)));
}
function place_valid(at: number): boolean {
  return Number.isSafeInteger(at) && at >= 0;
}
