/*
 * sysctl_netbsd: the same tree, asked the NetBSD way.
 *
 * There is no reserved number 0 here: a node is asked about itself by a
 * negative last number.
 *
 *      {mib..., QUERY}     its children, as records of 96 bytes
 *      {mib..., CREATE}    makes a child from a record
 *      {mib..., DESTROY}   removes a child named by a record
 *      {mib..., DESCRIBE}  descriptions of the children; sets one
 *      {mib..., MMAP}      refused: no node of ours can be mapped
 *
 * Names are learned by asking level by level, and cached by version: every
 * change gives the node, and all above it up to the root, a version one higher
 * than the root's.
 *
 * A record carries addresses as 64-bit bytes.  An address in a record that a
 * program passes is a byte address in the machine's memory: with OWNDATA the
 * data there is copied, without it the node refers to the program's memory.
 *
 * Nodes that programs make lie under the root or a group that may be written
 * (vendor), carry no function, and can be destroyed again; nodes of the kernel
 * are PERMANENT.
 *
 * Unlike the FreeBSD face a write happens even if the old value did not fit, and
 * an error after the old value was produced still reports the length it needs.
 * An error before that leaves the caller's length as it was given.
 */
import {
  EEXIST,
  EFAULT,
  EINVAL,
  ENAMETOOLONG,
  ENOENT,
  ENOMEM,
  ENOTDIR,
  ENOTEMPTY,
  EOPNOTSUPP,
  EPERM,
  ERANGE,
} from '../machine/errno.ts';
import { mem, memory_state, PAGE_SIZE } from '../machine/memory.ts';
import { addr, NULL } from '../machine/struct.ts';
import { CTLFLAG_RD, CTLFLAG_SKIP, CTLFLAG_WR } from '../machine/sysctl_decl.ts';
import {
  CTLFLAG_NB_PRIVATE,
  oid_private,
  oid_run_unlocked,
  secure_denies,
  securelevel_hook,
  type SysctlOptions,
  type SysctlResult,
  sysctl_handler,
  sysctl_req,
} from './kern_sysctl.ts';
import {
  data_alloc,
  oid_alloc,
  oid_drain_free,
  oid_free,
  oid_value_word,
  str_dup,
  str_free,
} from './sysctl_freebsd.ts';
import {
  CTLFLAG_ANYBODY,
  CTLFLAG_DYING,
  CTLFLAG_DYN,
  CTLTYPE_INT,
  CTLTYPE_NODE,
  CTLTYPE_OPAQUE,
  CTLTYPE_S64,
  CTLTYPE_STRING,
  CTLTYPE_UINT,
  oid_changed,
  oid_child,
  oid_descr,
  oid_has_handler,
  oid_link,
  oid_name,
  oid_named,
  oid_mib,
  oid_root,
  oid_type,
  oid_unlink,
  type oid_t,
  sysctl_oid,
  sysctl_root,
  tree,
  tree_rlock,
  tree_runlock,
  tree_wlock,
  tree_wunlock,
  WHAT_DYN,
} from './sysctl_tree.ts';

const oid = sysctl_oid;

export const CTL_EOL = -1;
export const CTL_QUERY = -2;
export const CTL_CREATE = -3;
export const CTL_CREATESYM = -4;
export const CTL_DESTROY = -5;
export const CTL_MMAP = -6;
export const CTL_DESCRIBE = -7;
export const NB_MAXNAME = 12;
export const NB_NAMELEN = 32;
export const NB_RECORD_BYTES = 96;
const CREATE_BASE = 1024;
const CHILDREN_DEFAULT = 8;
const ALIAS_HOPS = 4;
const DESCR_MAX = 1024;
const STRING_PAGES_MAX = 32;

export const NB_NODE = 1;
export const NB_INT = 2;
export const NB_STRING = 3;
export const NB_QUAD = 4;
export const NB_STRUCT = 5;
export const NB_READONLY1 = 0x10;
export const NB_READONLY2 = 0x20;
export const NB_READWRITE = 0x70;
export const NB_ANYWRITE = 0x80;
export const NB_PRIVATE = CTLFLAG_NB_PRIVATE;
export const NB_PERMANENT = 0x200;
export const NB_OWNDATA = 0x400;
export const NB_IMMEDIATE = 0x800;
export const NB_HEX = 0x1000;
export const NB_ROOT = 0x2000;
export const NB_ANYNUMBER = 0x4000;
export const NB_HIDDEN = 0x8000;
export const NB_ALIAS = 0x10000;
export const NB_MMAP = 0x20000;
export const NB_OWNDESC = 0x40000;
export const NB_VERS_1 = 0x01000000;
const NB_TYPEMASK = 0xf;
const NB_FLAGMASK = 0x00fffff0;
const NB_VERSMASK = 0xff000000;
const NB_USERFLAGS =
  NB_READWRITE | NB_ANYWRITE | NB_PRIVATE | NB_OWNDATA | NB_IMMEDIATE | NB_HEX | NB_HIDDEN;
/** Ours, beside the published bits: the node came through this face. */
const NB_MADE = 0x80000000;

/** A node as records carry it. */
export interface nb_node {
  flags: number;
  num: number;
  name: string;
  ver: number;
  /** Children: room and number (NODE). */
  csize: number;
  clen: number;
  /** First word of the union as a whole: address, int or quad. */
  value: bigint;
  size: number;
  func: number;
  parent: number;
  desc: number;
}
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** A record's 96 bytes. Flags get the structure version if they have none. */
export function nb_encode(n: Partial<nb_node>): Uint8Array {
  const bytes = new Uint8Array(NB_RECORD_BYTES);
  const v = new DataView(bytes.buffer);
  const flags = n.flags ?? 0;
  v.setUint32(0, ((flags & NB_VERSMASK) === 0 ? flags | NB_VERS_1 : flags) >>> 0, true);
  v.setInt32(4, n.num ?? CTL_CREATE, true);
  bytes.set(encoder.encode(n.name ?? '').subarray(0, NB_NAMELEN), 8);
  v.setUint32(40, n.ver ?? 0, true);
  if ((flags & NB_TYPEMASK) === NB_NODE && n.value === undefined) {
    v.setUint32(48, n.csize ?? 0, true);
    v.setUint32(52, n.clen ?? 0, true);
  } else v.setBigInt64(48, n.value ?? 0n, true);
  v.setBigUint64(64, BigInt(n.size ?? 0), true);
  v.setBigUint64(72, BigInt(n.func ?? 0), true);
  v.setBigUint64(80, BigInt(n.parent ?? 0), true);
  v.setBigUint64(88, BigInt(n.desc ?? 0), true);
  return bytes;
}
/** Reads the record at `at`. */
export function nb_decode(bytes: Uint8Array, at = 0): nb_node {
  const v = new DataView(bytes.buffer, bytes.byteOffset + at, NB_RECORD_BYTES);
  const name = bytes.subarray(at + 8, at + 8 + NB_NAMELEN);
  const nul = name.indexOf(0);
  return {
    flags: v.getUint32(0, true),
    num: v.getInt32(4, true),
    name: decoder.decode(name.slice(0, nul < 0 ? NB_NAMELEN : nul)),
    ver: v.getUint32(40, true),
    csize: v.getUint32(48, true),
    clen: v.getUint32(52, true),
    value: v.getBigInt64(48, true),
    size: Number(v.getBigUint64(64, true)),
    func: Number(v.getBigUint64(72, true)),
    parent: Number(v.getBigUint64(80, true)),
    desc: Number(v.getBigUint64(88, true)),
  };
}

/** A node's type as this face names it. */
function nb_type(o: oid_t): number {
  switch (oid_type(o)) {
    case CTLTYPE_NODE:
      return NB_NODE;
    case CTLTYPE_INT:
    case CTLTYPE_UINT:
      return NB_INT;
    case CTLTYPE_STRING:
      return NB_STRING;
    case CTLTYPE_OPAQUE:
      return NB_STRUCT;
    default:
      return NB_QUAD;
  }
}
function nb_made(o: oid_t): boolean {
  return (oid.nbflags[o] & NB_MADE) !== 0;
}
/** A node's flags with type and structure version. */
export function nb_flags(o: oid_t): number {
  const kind = oid.kind[o];
  let f = (oid.nbflags[o] & NB_FLAGMASK) | nb_type(o) | NB_VERS_1;
  if (kind & CTLFLAG_WR) f |= NB_READWRITE;
  if (kind & CTLFLAG_ANYBODY) f |= NB_ANYWRITE;
  if (kind & CTLFLAG_SKIP) f |= NB_HIDDEN;
  if (!nb_made(o)) f |= NB_PERMANENT;
  if (oid.parent[o] === NULL) f |= NB_ROOT;
  return f >>> 0;
}
function nb_size(o: oid_t): number {
  const type = nb_type(o);
  if (type === NB_INT) return 4;
  if (type === NB_QUAD) return 8;
  return type !== NB_NODE && oid.what[o] === WHAT_DYN ? oid.arg2[o] : 0;
}
/** The record of a node. Addresses are shown to the privileged only. */
function nb_record(o: oid_t, user: boolean): Uint8Array {
  const show = (address: number): number => (user ? 0 : address);
  const n: Partial<nb_node> = {
    flags: nb_flags(o),
    num: oid.number[o],
    name: oid_name(o),
    ver: oid.version[o],
    size: nb_size(o),
    func: show(oid.what[o] === WHAT_DYN ? oid.handler[o] : 0),
    parent: show(addr(oid.parent[o])),
    desc: show(addr(oid.descr[o])),
  };
  if (nb_type(o) === NB_NODE) {
    let clen = 0;
    for (let c = oid.child[o]; c !== NULL; c = oid.next[c]) clen++;
    let csize = CHILDREN_DEFAULT;
    while (csize < clen) csize *= 2;
    return nb_encode({ ...n, csize, clen });
  }
  return nb_encode({ ...n, value: nb_value(o, user) });
}
function nb_value(o: oid_t, user: boolean): bigint {
  if (oid.nbflags[o] & NB_ALIAS) return BigInt(oid.arg2[o]);
  const w = oid.arg1[o];
  if (oid.nbflags[o] & NB_IMMEDIATE) {
    const v = new DataView(mem.U8.buffer, w * 4, 8);
    return nb_type(o) === NB_INT ? BigInt.asUintN(32, BigInt(mem.I32[w])) : v.getBigInt64(0, true);
  }
  return user || oid.what[o] !== WHAT_DYN ? 0n : BigInt(addr(w));
}

// --- finding -------------------------------------------------------------------------------

interface Place {
  o: oid_t;
  rest: readonly number[];
  error: number;
}
/** The deepest node that the numbers lead to, and what is left of them. */
function nb_locate(mib: readonly number[], user: boolean): Place {
  let o = oid_root();
  for (const [i, n] of mib.entries()) {
    const rest = mib.slice(i);
    if (oid_type(o) !== CTLTYPE_NODE) return { o, rest, error: ENOTDIR };
    if (oid_has_handler(o)) return { o, rest, error: 0 };
    const only = oid.child[o];
    if (n >= 0 && only !== NULL && oid.nbflags[only] & NB_ANYNUMBER) {
      if (user && oid_private(only)) return { o, rest, error: EPERM };
      return { o: only, rest, error: 0 };
    }
    let child = oid_child(o, n);
    for (let hops = 0; child !== NULL && oid.nbflags[child] & NB_ALIAS; hops++) {
      if (hops === ALIAS_HOPS) return { o, rest, error: EINVAL };
      child = oid_child(o, oid.arg2[child]);
    }
    if (child === NULL) return { o, rest, error: ENOENT };
    if (user && oid_private(child)) return { o, rest, error: EPERM };
    o = child;
  }
  return { o, rest: [], error: 0 };
}

// --- values --------------------------------------------------------------------------------

/** Raw data of a node made through this face: arg2 bytes at word arg1. */
function nb_data(req: sysctl_req, arg1: number, arg2: number, o: oid_t): number {
  const start = arg1 * 4;
  const text = nb_type(o) === NB_STRING;
  let length = arg2;
  if (text) {
    length = 0;
    while (length < arg2 - 1 && mem.U8[start + length] !== 0) length++;
    length++;
  }
  const error = req.out(mem.U8.slice(start, start + length));
  if (error !== 0 || !req.new_bytes) return error;
  const given = req.new_bytes;
  if (!text) {
    if (given.length !== arg2) return EINVAL;
    mem.U8.set(given, start);
    return 0;
  }
  const nul = given.indexOf(0);
  const used = nul < 0 ? given.length : nul;
  if (used >= arg2) return EINVAL;
  mem.U8.fill(0, start, start + arg2);
  mem.U8.set(given.subarray(0, used), start);
  return 0;
}
const NB_DATA = sysctl_handler('sysctl_lookup', nb_data);

/** A request that goes on although the old buffer is full: the caller is told at the end. */
class nb_req extends sysctl_req {
  /** Whether there was an old value, be it of no bytes. */
  produced = false;

  override out(bytes: Uint8Array): number {
    this.produced = true;
    super.out(bytes);
    return 0;
  }
}

function may_write(o: oid_t, user: boolean): boolean {
  if (user && (oid.kind[o] & CTLFLAG_ANYBODY) === 0) return false;
  if (secure_denies(o)) return false;
  if (oid.kind[o] & CTLFLAG_WR) return true;
  const level = securelevel_hook.get();
  if (oid.nbflags[o] & NB_READONLY1) return level < 1;
  return (oid.nbflags[o] & NB_READONLY2) !== 0 && level < 2;
}
/** Reads and writes a value. The lock is held shared; it is given up. */
function nb_lookup(place: Place, req: nb_req): number {
  const { o, rest } = place;
  const user = req.options.user ?? false;
  let error = 0;
  if (oid_type(o) === CTLTYPE_NODE && !oid_has_handler(o)) error = EINVAL;
  else if (user && oid_private(o)) error = EPERM;
  else if (req.new_bytes && !may_write(o, user)) error = EPERM;
  if (error !== 0) {
    tree_runlock();
    return error;
  }
  req.rest = rest;
  const type = nb_type(o);
  const before = req.new_bytes;
  // Exact sizes are this face's rule; the other takes the beginning of a longer value.
  if (before && (type === NB_INT || type === NB_QUAD) && before.length !== nb_size(o)) {
    const read = new nb_req(req.oldp, null, req.options);
    error = oid_run_unlocked(read, o);
    req.oldidx = read.oldidx;
    req.produced = read.produced;
    return error !== 0 ? error : EINVAL;
  }
  return oid_run_unlocked(req, o);
}

// --- the call --------------------------------------------------------------------------------

const NO_SYMBOLS = 'there are no kernel symbols: give an address with CTL_CREATE instead';

/** The call. `mib` has 1 to 12 numbers; a negative last one asks about a node. */
export function sysctl_nb(
  mib: readonly number[],
  oldp: Uint8Array | null,
  newp: Uint8Array | null,
  options: SysctlOptions = {},
): SysctlResult {
  const given = oldp ? oldp.length : 0;
  if (mib.length < 1 || mib.length > NB_MAXNAME) return { error: EINVAL, oldlen: given };
  for (const n of mib) if (n !== (n | 0)) return { error: EFAULT, oldlen: given };
  // A new value of no bytes is no new value.
  const req = new nb_req(oldp, newp && newp.length > 0 ? newp : null, options);
  const meta = mib[mib.length - 1] < 0 ? mib[mib.length - 1] : 0;
  const error = meta !== 0 ? nb_meta(mib.slice(0, -1), meta, req) : nb_value_call(mib, req);
  const full = oldp !== null && req.oldidx > oldp.length;
  const reason = error === EOPNOTSUPP && meta === CTL_CREATESYM ? { reason: NO_SYMBOLS } : {};
  // Nothing was produced: the caller's length stays as it is.
  if (error !== 0 && !req.produced) return { error, oldlen: given, ...reason };
  return { error: error === 0 && full ? ENOMEM : error, oldlen: req.oldidx, ...reason };
}
function nb_value_call(mib: readonly number[], req: nb_req): number {
  tree_rlock();
  const place = nb_locate(mib, req.options.user ?? false);
  if (place.error === 0) return nb_lookup(place, req);
  tree_runlock();
  return place.error;
}
function nb_meta(mib: readonly number[], meta: number, req: nb_req): number {
  const changes = req.new_bytes !== null;
  const gone: oid_t[] = [];
  if (changes) tree_wlock();
  else tree_rlock();
  let error: number;
  try {
    error = nb_meta_locked(mib, meta, req, gone);
  } finally {
    if (changes) tree_wunlock();
    else tree_runlock();
  }
  for (const o of gone) oid_drain_free(o);
  return error;
}
function nb_meta_locked(mib: readonly number[], meta: number, req: nb_req, gone: oid_t[]): number {
  const place = nb_locate(mib, req.options.user ?? false);
  if (place.error !== 0) return place.error;
  const o = place.o;
  if (oid_type(o) !== CTLTYPE_NODE) return ENOTDIR;
  if (place.rest.length > 0 || oid_has_handler(o)) return EOPNOTSUPP;
  const record = record_of(req);
  if (typeof record === 'number') return record;
  switch (meta) {
    case CTL_QUERY:
      return nb_query(o, record, req);
    case CTL_CREATE:
      return record ? nb_create_user(o, record, req) : EINVAL;
    case CTL_DESTROY:
      return record ? nb_destroy(o, record, req, gone) : EINVAL;
    case CTL_DESCRIBE:
      return nb_describe(o, record, req);
    case CTL_MMAP:
      return nb_mmap(o, record);
    default:
      return EOPNOTSUPP; // CREATESYM and numbers without a meaning
  }
}
function record_of(req: nb_req): nb_node | null | number {
  if (!req.new_bytes) return null;
  if (req.new_bytes.length !== NB_RECORD_BYTES) return EINVAL;
  const r = nb_decode(req.new_bytes);
  return (r.flags & NB_VERSMASK) >>> 0 === NB_VERS_1 ? r : EINVAL;
}
/** Whether a version that a caller remembers is still current for `o`. */
function current(o: oid_t, ver: number): boolean {
  return ver === 0 || ver === oid.version[o] || ver === oid.version[oid_root()];
}

function nb_query(o: oid_t, record: nb_node | null, req: nb_req): number {
  if (record && !current(o, record.ver)) return EINVAL;
  const user = req.options.user ?? false;
  for (let c = oid.child[o]; c !== NULL; c = oid.next[c]) req.out(nb_record(c, user));
  return 0;
}

// --- creating ----------------------------------------------------------------------------------

export function nb_good_name(name: string): boolean {
  return name.length < NB_NAMELEN && /^[A-Za-z_-][A-Za-z0-9_-]*$/.test(name);
}
function nb_create_user(parent: oid_t, r: nb_node, req: nb_req): number {
  const kernel = req.options.kernel ?? false;
  if (!kernel) {
    if (req.options.user || securelevel_hook.get() > 0) return EPERM;
    if ((oid.kind[parent] & CTLFLAG_WR) === 0) return EPERM;
  }
  const made = nb_create(parent, r, kernel, '');
  if (made.o !== NULL) req.out(nb_record(made.o, req.options.user ?? false));
  return made.error;
}
interface Made {
  error: number;
  /** The new node, or with EEXIST the one in the way. */
  o: oid_t;
}
const none = (error: number): Made => ({ error, o: NULL as oid_t });

function nb_create(parent: oid_t, r: nb_node, kernel: boolean, descr: string): Made {
  if (r.parent !== 0) return none(EINVAL);
  if (r.num < 0 && r.num !== CTL_CREATE) return none(EINVAL);
  if (!nb_good_name(r.name)) return none(EINVAL);
  const same = r.num >= 0 ? oid_child(parent, r.num) : (NULL as oid_t);
  const old = same !== NULL ? same : oid_named(parent, r.name);
  if (old !== NULL) return { error: EEXIST, o: old };
  const first = oid.child[parent];
  if (first !== NULL && (oid.nbflags[first] | r.flags) & NB_ANYNUMBER) return none(EINVAL);
  if (!current(parent, r.ver)) return none(EINVAL);
  if (!kernel && r.func !== 0) return none(EPERM);
  if (!kernel && (r.flags & NB_FLAGMASK & ~NB_USERFLAGS) !== 0) return none(EPERM);
  const bytes = data_size(r, kernel);
  if (bytes.error !== 0) return none(bytes.error);
  const o = oid_alloc({
    name: r.name,
    kind: kind_of(r),
    fmt: FMT[r.flags & NB_TYPEMASK],
    descr: descr !== '' ? descr : r.desc !== 0 ? text_at(r.desc) : '',
  });
  if (o === NULL) return none(ENOMEM);
  oid.nbflags[o] = ((r.flags & NB_FLAGMASK & ~NB_READWRITE) | NB_MADE | read_only(r)) >>> 0;
  const error = give_data(o, r, bytes.size);
  if (error !== 0) {
    oid_free(o);
    return none(error);
  }
  oid.number[o] = r.num >= 0 ? r.num : fresh_number(parent);
  oid_link(parent, o);
  return { error: 0, o };
}
const FMT = ['', 'N', 'I', 'A', 'Q', 'S,struct'];
const TYPES = [0, CTLTYPE_NODE, CTLTYPE_INT, CTLTYPE_STRING, CTLTYPE_S64, CTLTYPE_OPAQUE];
function kind_of(r: nb_node): number {
  let kind = TYPES[r.flags & NB_TYPEMASK] | CTLFLAG_RD | CTLFLAG_DYN;
  if ((r.flags & NB_READWRITE) === NB_READWRITE) kind |= CTLFLAG_WR;
  if (r.flags & NB_ANYWRITE) kind |= CTLFLAG_ANYBODY;
  if (r.flags & (NB_HIDDEN | NB_ALIAS)) kind |= CTLFLAG_SKIP;
  return kind >>> 0;
}
function read_only(r: nb_node): number {
  return (r.flags & NB_READWRITE) === NB_READWRITE ? 0 : r.flags & (NB_READONLY1 | NB_READONLY2);
}
/** The next number of the one counter for the tree, past those that are taken. */
function fresh_number(parent: oid_t): number {
  for (;;) {
    const n = Math.max(sysctl_root.created[tree()], CREATE_BASE) + 1;
    sysctl_root.created[tree()] = n;
    if (oid_child(parent, n) === NULL) return n;
  }
}
/** Whether type, flags and size go together, and the size of the data. */
function data_size(r: nb_node, kernel: boolean): { error: number; size: number } {
  const bad = (error: number) => ({ error, size: 0 });
  const type = r.flags & NB_TYPEMASK;
  const own = (r.flags & NB_OWNDATA) !== 0;
  const immediate = (r.flags & NB_IMMEDIATE) !== 0;
  if (type < NB_NODE || type > NB_STRUCT) return bad(EINVAL);
  if (r.flags & NB_ALIAS) return { error: 0, size: 0 };
  if (own && immediate) return bad(EINVAL);
  if (immediate && type !== NB_INT && type !== NB_QUAD) return bad(EINVAL);
  if (type === NB_NODE) {
    const plain = r.size === 0 && !own && r.value === 0n;
    return plain ? { error: 0, size: 0 } : bad(EINVAL);
  }
  const pointer = !immediate && r.value !== 0n;
  const data = immediate || own || pointer || r.func !== 0;
  if (!data) return bad(EINVAL);
  if (type === NB_INT || type === NB_QUAD) {
    const size = type === NB_INT ? 4 : 8;
    return r.size === 0 || r.size === size ? { error: 0, size } : bad(EINVAL);
  }
  let size = r.size;
  if (size === 0 && type === NB_STRING && pointer) {
    if (!in_memory(Number(r.value), 1)) return bad(EFAULT);
    size = text_length(Number(r.value), STRING_PAGES_MAX * PAGE_SIZE) + 1;
  }
  if (size > STRING_PAGES_MAX * PAGE_SIZE) return bad(ERANGE);
  if (size === 0 && !(kernel && r.func !== 0)) return bad(EINVAL);
  return { error: 0, size };
}
function in_memory(at: number, bytes: number): boolean {
  return Number.isSafeInteger(at) && at >= 4 && at + bytes <= memory_state.size;
}
function text_length(at: number, limit: number): number {
  let n = 0;
  while (n < limit && at + n < memory_state.size && mem.U8[at + n] !== 0) n++;
  return n;
}
function text_at(at: number): string {
  if (!in_memory(at, 1)) return '';
  return decoder.decode(mem.U8.slice(at, at + text_length(at, DESCR_MAX - 1)));
}
/** Gives a new node its value: in itself, in memory of its own, or where the caller has it. */
function give_data(o: oid_t, r: nb_node, size: number): number {
  const type = r.flags & NB_TYPEMASK;
  oid.arg2[o] = size;
  if (r.flags & NB_ALIAS) {
    oid.arg2[o] = Number(BigInt.asIntN(32, r.value));
    return 0;
  }
  oid.handler[o] = r.func !== 0 ? r.func : type === NB_NODE ? 0 : NB_DATA;
  if (r.flags & NB_IMMEDIATE) {
    const w = oid_value_word(o);
    oid.arg1[o] = w;
    if (type === NB_INT) mem.I32[w] = Number(BigInt.asIntN(32, r.value));
    else new DataView(mem.U8.buffer, w * 4, 8).setBigInt64(0, r.value, true);
    return 0;
  }
  const from = Number(r.value);
  if (from !== 0 && !in_memory(from, type === NB_STRING ? 1 : size)) return EFAULT;
  if (r.flags & NB_OWNDATA) {
    const w = data_alloc(size);
    if (w === 0) return ENOMEM;
    oid.data[o] = w;
    oid.arg1[o] = w;
    mem.U8.fill(0, w * 4, w * 4 + size);
    if (from === 0) return 0;
    const n = type === NB_STRING ? Math.min(text_length(from, size - 1), size - 1) : size;
    mem.U8.copyWithin(w * 4, from, from + n);
    return 0;
  }
  if (from % 4 !== 0 || !in_memory(from || 4, size)) return EINVAL; // data begin at a word
  oid.arg1[o] = from / 4;
  return 0;
}

// --- destroying, describing ---------------------------------------------------------------------

function nb_destroy(parent: oid_t, r: nb_node, req: nb_req, gone: oid_t[]): number {
  const kernel = req.options.kernel ?? false;
  if (!kernel && (req.options.user || securelevel_hook.get() > 0)) return EPERM;
  if (!kernel && (oid.kind[parent] & CTLFLAG_WR) === 0) return EPERM;
  const o = oid_child(parent, r.num);
  if (o === NULL) return ENOENT;
  // The record describes another node than the one there is, perhaps one that is gone.
  if (r.name !== '' && r.name !== oid_name(o)) return ENOENT;
  if (r.ver !== 0 && r.ver !== oid.version[o]) return ENOENT;
  if (nb_flags(o) & NB_PERMANENT) return EPERM;
  if (oid.child[o] !== NULL) return ENOTEMPTY;
  const record = nb_record(o, req.options.user ?? false);
  if (!oid_unlink(o)) return ENOENT;
  oid.kind[o] = (oid.kind[o] | CTLFLAG_DYING) >>> 0;
  gone.push(o);
  req.out(record);
  return 0;
}

/** A record names the child to map; none can be, whatever its flags say. */
function nb_mmap(parent: oid_t, r: nb_node | null): number {
  if (!r) return EINVAL;
  return oid_child(parent, r.num) === NULL ? ENOENT : EINVAL;
}

/** One description: number, version, length with NUL, text, padded to a word. */
function desc_record(o: oid_t): Uint8Array {
  const text = encoder.encode(`${oid_descr(o)}\0`);
  const bytes = new Uint8Array(12 + ((text.length + 3) & ~3));
  const v = new DataView(bytes.buffer);
  v.setInt32(0, oid.number[o], true);
  v.setUint32(4, oid.version[o], true);
  v.setUint32(8, text.length, true);
  bytes.set(text, 12);
  return bytes;
}
function nb_describe(parent: oid_t, r: nb_node | null, req: nb_req): number {
  if (!r) {
    for (let c = oid.child[parent]; c !== NULL; c = oid.next[c]) req.out(desc_record(c));
    return 0;
  }
  const o = oid_child(parent, r.num);
  if (o === NULL) return ENOENT;
  if (r.ver !== 0 && r.ver !== oid.version[o]) return EINVAL;
  if (r.desc !== 0) {
    if (req.options.user || securelevel_hook.get() > 0) return EPERM;
    if (nb_flags(o) & NB_PERMANENT) return EPERM;
    if (oid.descr[o] !== 0) return EPERM; // a text is given once
    const text = text_at(r.desc);
    if (text === '') return EFAULT;
    const error = nb_set_descr(o, text);
    if (error !== 0) return error;
  }
  req.out(desc_record(o));
  return 0;
}
function nb_set_descr(o: oid_t, text: string): number {
  const w = str_dup(text);
  if (w === 0) return ENOMEM;
  str_free(oid.descr[o]);
  oid.descr[o] = w;
  oid.nbflags[o] = (oid.nbflags[o] | NB_OWNDESC) >>> 0;
  oid_changed(o);
  return 0;
}

// --- for the kernel -----------------------------------------------------------------------------

/** What sysctl_createv made, so that sysctl_teardown can take it back. */
export interface sysctllog {
  entries: { mib: number[]; version: number }[];
}
export interface CreateV {
  log?: sysctllog | null;
  /** Where the path starts; default the root. */
  root?: oid_t;
  flags: number;
  type: number;
  name: string;
  descr?: string;
  /** Number of the handler that makes the value (sysctl_handler), 0: none. */
  handler?: number;
  /** The value, with IMMEDIATE; the sibling's number, with ALIAS. */
  qv?: bigint;
  /** Word of the data, without IMMEDIATE. */
  data?: number;
  size?: number;
}

/**
 * Makes a node at a path of numbers, the last of which may be CTL_CREATE.
 * Making again what is there already (same name, handler, type and number) is
 * success and returns the node.
 */
export function sysctl_createv(c: CreateV, ...path: number[]): { error: number; node: oid_t } {
  const fail = (error: number) => ({ error, node: NULL as oid_t });
  const end = path.indexOf(CTL_EOL);
  const names = end < 0 ? path : path.slice(0, end);
  const last = names[names.length - 1];
  if (names.length === 0 || names.length > NB_MAXNAME || last === CTL_CREATESYM)
    return fail(EINVAL);
  if (c.name.length >= NB_NAMELEN) return fail(ENAMETOOLONG);
  tree_wlock();
  try {
    let parent = c.root ?? oid_root();
    for (const n of names.slice(0, -1)) {
      parent = oid_child(parent, n);
      if (parent === NULL) return fail(ENOENT);
    }
    if (oid_type(parent) !== CTLTYPE_NODE || oid_has_handler(parent)) return fail(ENOTDIR);
    if (oid.nbflags[parent] & NB_ALIAS) return fail(EINVAL);
    return createv_locked(c, parent, last);
  } finally {
    tree_wunlock();
  }
}
function createv_locked(c: CreateV, parent: oid_t, num: number): { error: number; node: oid_t } {
  const flags = (c.log ? c.flags & ~NB_PERMANENT : c.flags) & NB_FLAGMASK;
  const record = nb_decode(
    nb_encode({
      flags: flags | c.type,
      num,
      name: c.name,
      value: c.qv ?? BigInt(addr(c.data ?? 0)),
      size: c.size ?? 0,
      func: c.handler ?? 0,
    }),
  );
  const made = nb_create(parent, record, true, c.descr ?? '');
  if (made.error === 0) {
    c.log?.entries.push({ mib: oid_mib(made.o), version: oid.version[made.o] });
    return { error: 0, node: made.o };
  }
  const o = made.o;
  if (made.error !== EEXIST || o === NULL) return { error: made.error, node: NULL as oid_t };
  const handler = oid.handler[o] === NB_DATA ? 0 : oid.handler[o];
  const same =
    oid_name(o) === c.name &&
    handler === (c.handler ?? 0) &&
    nb_type(o) === c.type &&
    (num === CTL_CREATE || oid.number[o] === num);
  if (!same) return { error: EEXIST, node: NULL as oid_t };
  if (c.descr && oid.what[o] === WHAT_DYN && oid.descr[o] === 0) {
    const error = nb_set_descr(o, c.descr);
    if (error !== 0) return { error, node: NULL as oid_t };
  }
  return { error: 0, node: o };
}

function destroy_locked(mib: readonly number[], version: number, gone: oid_t[]): number {
  // The very node that the numbers name: neither an alias's target nor a match of any number.
  let o = oid_root();
  for (const n of mib) {
    o = oid_child(o, n);
    if (o === NULL) return 0;
  }
  if (version !== 0 && oid_type(o) !== CTLTYPE_NODE && version !== oid.version[o]) return EINVAL;
  if ((oid.kind[o] & CTLFLAG_DYN) === 0 || !nb_made(o)) return EPERM;
  if (oid.child[o] !== NULL) return 0; // others live below it
  if (!oid_unlink(o)) return 0;
  oid.kind[o] = (oid.kind[o] | CTLFLAG_DYING) >>> 0;
  gone.push(o);
  return 0;
}
/** Removes the node at a path. A node that is absent, or that has children, is success. */
export function sysctl_destroyv(root: oid_t | null, ...path: number[]): number {
  const end = path.indexOf(CTL_EOL);
  const names = end < 0 ? path : path.slice(0, end);
  const gone: oid_t[] = [];
  tree_wlock();
  const error = destroy_locked([...(root ? oid_mib(root) : []), ...names], 0, gone);
  tree_wunlock();
  for (const o of gone) oid_drain_free(o);
  return error;
}
/** Takes back, newest first, what the log remembers; changed leaves are left alone. */
export function sysctl_teardown(log: sysctllog): void {
  const gone: oid_t[] = [];
  tree_wlock();
  for (const e of [...log.entries].reverse()) {
    destroy_locked(e.mib, e.version, gone); // errno: a leaf that was changed or is in use stays
  }
  tree_wunlock();
  log.entries = [];
  for (const o of gone) oid_drain_free(o);
}
