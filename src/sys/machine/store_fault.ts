/*
 * store_fault: calls of the host for stores, and what they are made to do.
 *
 * A store (store.ts) calls the host here, so that an error is an errno number and an
 * interrupted call is made again.  Before each operation it asks `store_faults.next`,
 * which may say that this one fails, does less than asked at a time, is slow, or that
 * the store is full half-way.  Each is a point for the seeded scheduler, too.
 *
 *      fail      nothing is done; the errno is the answer
 *      short     the host moves no more than so many bytes at a time: it is asked again
 *      slow      others run meanwhile, then it is done as ever
 *      full      a write puts half of its bytes, then there is no room
 *
 * A slow operation sleeps in the thread that makes it.  One that is parked, as around
 * all I/O of pagers, holds nobody up meanwhile.
 */
import { sim_point } from './atomic.ts';
import { EINTR, EIO, errno_of_code } from './errno.ts';
import { host_sleep } from './host.ts';
import { opt } from './opt.ts';

/** Stores that a thread may have open. */
export const STORES_MAX = 1024;

export type StoreOp =
  | 'open'
  | 'identity'
  | 'size'
  | 'read'
  | 'write'
  | 'truncate'
  | 'sync'
  | 'name'
  | 'discard'
  | 'close';
export type StoreKind = 'file' | 'memory' | 'opfs';
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

// --- calls of the host ------------------------------------------------------------------

/** A call of the host that answers nothing: 0. */
export function answered(call: () => void): number {
  call();
  return 0;
}
/** A call of the host; its answer, or the errno, negated. */
export function host_try(call: () => number): number {
  try {
    return call();
  } catch (e) {
    return -(errno_of_code((e as { code?: string }).code ?? '') || EIO);
  }
}
/** The same, made again while it is interrupted. */
export function host_call(call: () => number): number {
  for (;;) {
    const result = host_try(call);
    if (result !== -EINTR) return result;
  }
}
/**
 * A point for the scheduler, and what this operation is made to do.  The point goes by the
 * place: the number says how often the place was used, which no seed knows.
 */
export function fault_of(op: StoreOp, kind: StoreKind, number: number): StoreFault | null {
  const place = number & (STORES_MAX - 1);
  if (opt.SIM) sim_point(place);
  const fault = store_faults.next?.(op, kind, number) ?? null;
  if (fault?.what !== 'slow') return fault;
  if (!opt.SIM) host_sleep(fault.ms);
  for (let i = 0; opt.SIM && i < fault.ms; i++) sim_point(place);
  return null;
}
