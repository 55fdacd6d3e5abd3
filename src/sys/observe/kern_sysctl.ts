/*
 * kern_sysctl: requests to the tree, as bytes.
 *
 *      sysctl([1, 1], old, null)          reads kern.ostype into `old`
 *      sysctl(mib, null, null)            how many bytes would it be?
 *      sysctl(mib, null, Uint8Array)      sets
 *
 * One call carries a name of numbers, the caller's old buffer and the new
 * value.  The node's handler produces the old value piece by piece through
 * req.out, which copies what fits and goes on counting, so that a caller with
 * a short buffer gets its beginning, the length so far, and ENOMEM.
 *
 * Errors come in a fixed order: ENOENT unknown number, ENOTDIR below a leaf,
 * EISDIR a node without a handler, EPERM not writable, EPERM capability mode,
 * EPERM securelevel, EPERM privilege, EINVAL no handler, then the handler's.
 * EAGAIN from a handler starts the request afresh.
 *
 * The tree lock is held while the node is looked up, not while its handler
 * runs.  A request with an old buffer above a page holds the "sysctl mem" lock,
 * so that one large report is under way at a time.
 *
 * A handler that holds a lock wires the old buffer first: here the buffer is
 * the caller's own bytes and cannot fault, so wiring only fixes how many of
 * them may be touched (validlen).  The reports of the floors do so, and come in
 * pieces of a page (machine/sbuf.ts).
 *
 * Read next: sysctl_freebsd.ts, questions about the tree and nodes made at run
 * time.
 */
import { counter_get, counter_type, counters } from '../machine/counter.ts';
import { poll } from '../machine/cpu.ts';
import {
  EAGAIN,
  EFAULT,
  EINVAL,
  EISDIR,
  ENOENT,
  ENOMEM,
  ENOTDIR,
  EOPNOTSUPP,
  EPERM,
} from '../machine/errno.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { KernelPanic } from '../machine/panic.ts';
import { NULL } from '../machine/struct.ts';
import {
  CTLFLAG_WR,
  type SysctlDecl,
  type SysctlRequest,
  sysctl_get,
  sysctl_number,
  sysctl_set,
  sysctl_word,
} from '../machine/sysctl_decl.ts';
import { vector_number } from '../machine/vectors.ts';
import { rw_wlock, rw_wowned, rw_wunlock } from '../sync/kern_rwlock.ts';
import {
  CTL_MAXNAME,
  CTLFLAG_ANYBODY,
  CTLFLAG_CAPRD,
  CTLFLAG_CAPWR,
  CTLFLAG_DORMANT,
  CTLFLAG_SECURE,
  CTLMASK_SECURE,
  CTLSHIFT_SECURE,
  CTLTYPE_NODE,
  handler_enter,
  handler_leave,
  oid_child,
  oid_decl,
  oid_has_handler,
  oid_root,
  oid_type,
  type oid_t,
  sysctl_oid,
  sysctl_root,
  tree,
  tree_rlock,
  tree_runlock,
  WHAT_COUNTER,
  WHAT_DECL,
  WHAT_DYN,
} from './sysctl_tree.ts';

const oid = sysctl_oid;

export interface SysctlOptions {
  /** The caller has no privilege: writes need a node that anybody may write. */
  readonly user?: boolean;
  /** The caller is confined: only nodes marked for capability mode. */
  readonly capability?: boolean;
  /** The request comes from the kernel itself. */
  readonly kernel?: boolean;
}
export interface SysctlResult {
  /** 0 or an errno. */
  readonly error: number;
  /** Bytes of the old value; with ENOMEM those that were delivered. */
  readonly oldlen: number;
  /** Why, where the number alone does not say it. */
  readonly reason?: string;
}

/** One request on its way through the tree. */
export class sysctl_req implements SysctlRequest {
  /** Why it was refused, where the errno alone does not say it. */
  reason = '';
  readonly oldp: Uint8Array | null;
  readonly new_bytes: Uint8Array | null;
  readonly options: SysctlOptions;
  rest: readonly number[] = [];
  oldidx = 0;
  newidx = 0;
  /** Bytes of the old buffer that may be touched. */
  validlen: number;
  wired = false;

  constructor(oldp: Uint8Array | null, newp: Uint8Array | null, options: SysctlOptions) {
    this.oldp = oldp;
    this.new_bytes = newp;
    this.options = options;
    this.validlen = oldp ? oldp.length : 0;
  }
  /** Copies bytes to the old buffer; counts them all, delivers what fits. */
  out(bytes: Uint8Array): number {
    const at = this.oldidx;
    this.oldidx += bytes.length;
    if (!this.oldp) return 0;
    const n = Math.max(0, Math.min(bytes.length, this.validlen - at));
    if (n > 0) this.oldp.set(n === bytes.length ? bytes : bytes.subarray(0, n), at);
    return n === bytes.length ? 0 : ENOMEM;
  }
  /** Takes the next `n` bytes of the new value. Null: there are fewer. */
  in(n: number): Uint8Array | null {
    if (!this.new_bytes || this.new_bytes.length - this.newidx < n) return null;
    this.newidx += n;
    return this.new_bytes.subarray(this.newidx - n, this.newidx);
  }
  /** See sysctl_wire_old_buffer. */
  wire(len: number): number {
    if (this.wired || !this.oldp || this.options.kernel) return 0;
    this.validlen = len === 0 ? this.validlen : Math.min(len, this.validlen);
    this.wired = true;
    return 0;
  }
}

// --- handlers of dynamic nodes ------------------------------------------------------

/** What a dynamic node's handler gets: the request and the node's two arguments. */
export type oid_handler = (req: sysctl_req, arg1: number, arg2: number, o: oid_t) => number;
const handlers = new Map<number, oid_handler>();

/**
 * Makes a function known under a name, as a handler of dynamic nodes.  Every
 * thread that is to read such a node registers it; in another one the node
 * answers EOPNOTSUPP.
 */
export function sysctl_handler(name: string, run: oid_handler): number {
  const n = vector_number(name);
  handlers.set(n, run);
  return n;
}

/** Decodes a little-endian integer of 4 or 8 bytes. */
export function sysctl_decode(bytes: Uint8Array, signed: boolean): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length === 4) return signed ? view.getInt32(0, true) : view.getUint32(0, true);
  return Number(signed ? view.getBigInt64(0, true) : view.getBigUint64(0, true));
}

/**
 * An int: arg1 is its word; or arg1 is 0 and arg2 the constant.  Copies the old
 * value out first, then takes the new one.
 */
export function sysctl_handle_int(req: sysctl_req, arg1: number, arg2: number): number {
  const error = req.out(sysctl_number('int', arg1 !== 0 ? mem.I32[arg1] : arg2));
  if (error !== 0 || !req.new_bytes) return error;
  if (arg1 === 0) return EPERM;
  const bytes = req.in(4);
  if (!bytes) return EINVAL;
  mem.I32[arg1] = sysctl_decode(bytes, true);
  return 0;
}
/** A 64-bit number: arg1 is the even word of the double that holds it. */
export function sysctl_handle_64(req: sysctl_req, arg1: number, _arg2: number, o?: oid_t): number {
  if (arg1 === 0) return EINVAL;
  const error = req.out(sysctl_number('long', mem.F64[arg1 >> 1]));
  if (error !== 0 || !req.new_bytes) return error;
  const bytes = req.in(8);
  if (!bytes) return EINVAL;
  // Signed are CTLTYPE_S64 (4) and CTLTYPE_LONG (7).
  const type = o ? oid_type(o) : 4;
  const value = sysctl_decode(bytes, type === 4 || type === 7);
  if (Math.abs(value) > 2 ** 53) return EINVAL; // the double would not hold it exactly
  mem.F64[arg1 >> 1] = value;
  return 0;
}
/** A string in arg2 bytes at word arg1; arg2 0: constant, and as long as it is. */
export function sysctl_handle_string(req: sysctl_req, arg1: number, arg2: number): number {
  const start = arg1 * 4;
  const limit = arg2 > 0 ? start + arg2 - 1 : start + 4096;
  let end = start;
  while (end < limit && mem.U8[end] !== 0) end++;
  const text = new Uint8Array(end - start + 1); // a snapshot, with its NUL
  text.set(mem.U8.subarray(start, end));
  const error = req.out(text);
  if (error !== 0 || !req.new_bytes) return error;
  if (arg2 === 0) return EPERM;
  const length = req.new_bytes.length - req.newidx;
  if (length >= arg2) return EINVAL;
  mem.U8.set(req.in(length) as Uint8Array, start);
  mem.U8[start + length] = 0;
  return 0;
}
const OPAQUE_TRIES = 3;
/** arg2 bytes at word arg1. Copied again, up to three times, while others change them. */
export function sysctl_handle_opaque(req: sysctl_req, arg1: number, arg2: number): number {
  const start = arg1 * 4;
  let copy = mem.U8.slice(start, start + arg2);
  for (let tries = 1; tries < OPAQUE_TRIES && changed(copy, start); tries++) {
    copy = mem.U8.slice(start, start + arg2);
  }
  const error = req.out(copy);
  if (error !== 0 || !req.new_bytes) return error;
  const bytes = req.in(arg2);
  if (!bytes) return EINVAL;
  mem.U8.set(bytes, start);
  return 0;
}
function changed(copy: Uint8Array, start: number): boolean {
  for (let i = 0; i < copy.length; i++) if (copy[i] !== mem.U8[start + i]) return true;
  return false;
}
export const SYSCTL_HANDLE_INT = sysctl_handler('sysctl_handle_int', sysctl_handle_int);
export const SYSCTL_HANDLE_64 = sysctl_handler('sysctl_handle_64', sysctl_handle_64);
export const SYSCTL_HANDLE_STRING = sysctl_handler('sysctl_handle_string', sysctl_handle_string);
export const SYSCTL_HANDLE_OPAQUE = sysctl_handler('sysctl_handle_opaque', sysctl_handle_opaque);

/** A declared text: its length, then the declaration's own check, then the store. */
function handle_text(req: sysctl_req, d: SysctlDecl): number {
  const given = req.new_bytes?.subarray(req.newidx);
  if (given !== undefined && given.length >= d.bytes) {
    req.reason = `${given.length} bytes, more than ${d.bytes - 1}`;
    return EINVAL;
  }
  const text = given && d.check_text ? new TextDecoder().decode(given.slice()) : '';
  const error = given && d.check_text ? refused_by(req, d.check_text(text)) : 0;
  return error !== 0 ? error : sysctl_handle_string(req, sysctl_word(d), d.bytes);
}
/** The errno of what a check says, whose reason the request keeps. */
function refused_by(req: sysctl_req, said: number | string): number {
  if (typeof said === 'number') return said;
  req.reason = said;
  return EINVAL;
}
/** A declared variable; whoever wants to know hears that it was set. */
function handle_variable(req: sysctl_req, d: SysctlDecl): number {
  const error = d.bytes > 0 ? handle_text(req, d) : handle_number(req, d);
  if (error === 0 && req.new_bytes) d.changed?.();
  return error;
}
/** A declared number: range, then the declaration's own check, then the store. */
function handle_number(req: sysctl_req, d: SysctlDecl): number {
  const error = req.out(sysctl_number(d.type, sysctl_get(d)));
  if (error !== 0 || !req.new_bytes) return error;
  const bytes = req.in(d.type === 'int' || d.type === 'uint' ? 4 : 8);
  if (!bytes) return EINVAL;
  const value = sysctl_decode(bytes, d.type === 'int' || d.type === 'long');
  if (value < d.min || value > d.max) return EINVAL;
  if (d.needs !== null && value !== d.value && !opt[d.needs]) return EOPNOTSUPP;
  const refused = d.check ? refused_by(req, d.check(value)) : 0;
  if (refused !== 0) return refused;
  sysctl_set(d, value);
  return 0;
}

/** Runs the handler of a node, whichever kind it has. */
export function oid_run(req: sysctl_req, o: oid_t): number {
  switch (oid.what[o]) {
    case WHAT_DECL: {
      const d = oid_decl(o);
      if (!d) return EINVAL;
      return d.handler ? d.handler(req) : handle_variable(req, d);
    }
    case WHAT_COUNTER: {
      const c = counters[oid.index[o]];
      return req.out(sysctl_number(counter_type(c), counter_get(c)));
    }
    case WHAT_DYN: {
      if (oid.handler[o] === 0) return EINVAL;
      const run = handlers.get(oid.handler[o]);
      return run ? run(req, oid.arg1[o], oid.arg2[o], o) : EOPNOTSUPP;
    }
    default:
      return EINVAL;
  }
}
/** Runs a node's handler with the tree lock dropped. The lock is held shared at entry. */
export function oid_run_unlocked(req: sysctl_req, o: oid_t): number {
  handler_enter(o);
  tree_runlock();
  let error: number;
  try {
    error = oid_run(req, o);
  } catch (e) {
    if (!(e instanceof KernelPanic)) handler_leave(o);
    throw e;
  }
  handler_leave(o);
  return error;
}

// --- dispatch -------------------------------------------------------------------------

/** The securelevel in force: filled by the declaration of kern.securelevel. */
export const securelevel_hook: { get: () => number } = { get: () => -1 };

interface Found {
  o: oid_t;
  rest: readonly number[];
}
/** Walks the numbers. An errno where they lead nowhere. The tree lock is held. */
export function oid_find(mib: readonly number[]): Found | number {
  let o = oid_root();
  for (const [i, number] of mib.entries()) {
    o = oid_child(o, number);
    if (o === NULL || oid.kind[o] & CTLFLAG_DORMANT) return ENOENT;
    const rest = mib.slice(i + 1);
    if (oid_type(o) !== CTLTYPE_NODE) return rest.length > 0 ? ENOTDIR : { o, rest };
    if (oid_has_handler(o)) return { o, rest };
  }
  return { o, rest: [] };
}
/** EPERM if the securelevel is too high for writing this node. */
export function secure_denies(o: oid_t): boolean {
  const kind = oid.kind[o];
  if ((kind & CTLFLAG_SECURE) === 0) return false;
  return securelevel_hook.get() > (kind & CTLMASK_SECURE) >>> CTLSHIFT_SECURE;
}
function may(req: sysctl_req, o: oid_t): number {
  const kind = oid.kind[o];
  const writes = req.new_bytes !== null;
  if (writes && (kind & CTLFLAG_WR) === 0) return EPERM;
  if (req.options.capability) {
    if ((kind & CTLFLAG_CAPRD) === 0 || (writes && (kind & CTLFLAG_CAPWR) === 0)) return EPERM;
  }
  if (writes && secure_denies(o)) return EPERM;
  if (req.options.user) {
    if (writes && (kind & CTLFLAG_ANYBODY) === 0) return EPERM;
    if (oid_private(o)) return EPERM;
  }
  return 0;
}
/** NetBSD's PRIVATE: reading below such a node needs privilege. */
export const CTLFLAG_NB_PRIVATE = 0x100;
/** Whether the node, or one above it, is private. */
export function oid_private(o: oid_t): boolean {
  for (let at = o; at !== NULL; at = oid.parent[at]) {
    if (oid.nbflags[at] & CTLFLAG_NB_PRIVATE) return true;
  }
  return false;
}

function dispatch(mib: readonly number[], req: sysctl_req): number {
  tree_rlock();
  const found = oid_find(mib);
  let error = 0;
  if (typeof found === 'number') error = found;
  else if (oid_type(found.o) === CTLTYPE_NODE && !oid_has_handler(found.o)) error = EISDIR;
  else error = may(req, found.o);
  if (error !== 0 || typeof found === 'number') {
    tree_runlock();
    return error;
  }
  req.rest = found.rest;
  return oid_run_unlocked(req, found.o);
}

/**
 * The call.  `oldp` null asks for the length; `newp` null does not set.  The
 * result's oldlen is the length delivered, or needed where `oldp` is null.
 */
export function sysctl(
  mib: readonly number[],
  oldp: Uint8Array | null,
  newp: Uint8Array | null,
  options: SysctlOptions = {},
): SysctlResult {
  const given = oldp ? oldp.length : 0;
  if (mib.length < 2 || mib.length > CTL_MAXNAME) return { error: EINVAL, oldlen: given };
  for (const n of mib) if (n !== (n | 0)) return { error: EFAULT, oldlen: given };
  const large = given > PAGE_SIZE && !options.kernel && !rw_wowned(sysctl_root.mem_lock, tree());
  if (!large) return requested(mib, oldp, newp, options);
  rw_wlock(sysctl_root.mem_lock, tree());
  let result: SysctlResult;
  try {
    result = requested(mib, oldp, newp, options);
  } catch (e) {
    if (!(e instanceof KernelPanic)) rw_wunlock(sysctl_root.mem_lock, tree());
    throw e;
  }
  rw_wunlock(sysctl_root.mem_lock, tree());
  return result;
}
function requested(
  mib: readonly number[],
  oldp: Uint8Array | null,
  newp: Uint8Array | null,
  options: SysctlOptions,
): SysctlResult {
  for (;;) {
    const req = new sysctl_req(oldp, newp, options);
    const error = dispatch(mib, req);
    if (error === EAGAIN) {
      poll();
      continue;
    }
    if (error !== 0 && error !== ENOMEM) {
      const oldlen = oldp ? oldp.length : 0;
      return req.reason === '' ? { error, oldlen } : { error, oldlen, reason: req.reason };
    }
    const cut = oldp !== null && req.oldidx > req.validlen;
    return { error, oldlen: cut ? req.validlen : req.oldidx };
  }
}

const encoder = new TextEncoder();

/** The numbers of a name. */
export function sysctlnametomib(
  name: string,
  options: SysctlOptions = {},
): { error: number; mib: number[] } {
  const old = new Uint8Array(CTL_MAXNAME * 4);
  const r = sysctl([0, 3], old, encoder.encode(name), options);
  if (r.error !== 0) return { error: r.error, mib: [] };
  const view = new DataView(old.buffer);
  const mib: number[] = [];
  for (let i = 0; i < r.oldlen; i += 4) mib.push(view.getInt32(i, true));
  return { error: 0, mib };
}
/** The call, by name. */
export function sysctlbyname(
  name: string,
  oldp: Uint8Array | null,
  newp: Uint8Array | null,
  options: SysctlOptions = {},
): SysctlResult {
  const { error, mib } = sysctlnametomib(name, options);
  if (error !== 0) return { error, oldlen: oldp ? oldp.length : 0 };
  return sysctl(mib, oldp, newp, options);
}
export function kernel_sysctlbyname(
  name: string,
  oldp: Uint8Array | null,
  newp: Uint8Array | null,
): SysctlResult {
  return sysctlbyname(name, oldp, newp, { kernel: true });
}

/** Whole value of a name, in a buffer that fits; an errno if it cannot be had. */
export function sysctl_read(name: string, options: SysctlOptions = {}): Uint8Array | number {
  const { error, mib } = sysctlnametomib(name, options);
  if (error !== 0) return error;
  for (;;) {
    const probe = sysctl(mib, null, null, options);
    if (probe.error !== 0) return probe.error;
    const old = new Uint8Array(probe.oldlen + (probe.oldlen >> 1) + 16);
    const r = sysctl(mib, old, null, options);
    if (r.error === ENOMEM) continue; // it grew in between: ask again
    return r.error !== 0 ? r.error : old.subarray(0, r.oldlen);
  }
}
