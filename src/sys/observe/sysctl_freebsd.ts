/*
 * sysctl_freebsd: questions about the tree, and nodes made at run time.
 *
 * The node with number 0 answers questions about the others:
 *
 *      {0,1,mib...}  the dotted name            {0,4,mib...}  kind and format
 *      {0,2,mib...}  the next visible leaf      {0,5,mib...}  description
 *      {0,3} <- name the numbers of a name      {0,6,mib...}  label
 *      {0,7,mib...}  the next leaf, hidden or not
 *
 * "Next" is the first leaf whose numbers come after the given ones in
 * lexicographic order: the given name need not exist, so a walk survives nodes
 * that come and go under it.  The questions {0,4} to {0,6} look up their node as
 * a request does, with its errors: ENOENT, and ENOTDIR beyond a leaf; a node with
 * a handler takes the numbers behind it.
 *
 * Dynamic nodes.  sysctl_add_oid makes one; a node that exists is shared and
 * counted, a leaf that exists is refused.  A context remembers what a driver
 * added, so that all of it can be removed at once; the removal is first tried
 * on paper, so that it happens whole or not at all.  Removal waits for
 * handlers that run: the caller holds no lock that a handler takes.
 */
import { kconsole } from '../machine/kconsole.ts';
import {
  EBUSY,
  EEXIST,
  EINVAL,
  ENAMETOOLONG,
  ENOENT,
  ENOMEM,
  ENOTEMPTY,
  EPERM,
} from '../machine/errno.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { field_word64, NULL } from '../machine/struct.ts';
import { CTLFLAG_RD, CTLFLAG_RW, type SysctlRequest, sysctl_proc } from '../machine/sysctl_decl.ts';
import { M_WAITOK } from '../h/malloc_flags.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { M_SYSCTLOID } from '../kmem/kern_malloc_type.ts';
import { tsleep } from '../sync/subr_sleepqueue.ts';
import { W_OIDRM } from '../machine/wmesg.ts';
import {
  oid_find,
  type oid_handler,
  SYSCTL_HANDLE_64,
  SYSCTL_HANDLE_INT,
  SYSCTL_HANDLE_OPAQUE,
  SYSCTL_HANDLE_STRING,
  sysctl_handler,
  sysctl_req,
} from './kern_sysctl.ts';
import {
  CTLFLAG_ANYBODY,
  CTLFLAG_CAPRD,
  CTLFLAG_DORMANT,
  CTLFLAG_DYING,
  CTLFLAG_DYN,
  CTLTYPE_INT,
  CTLTYPE_LONG,
  CTLTYPE_NODE,
  CTLTYPE_OPAQUE,
  CTLTYPE_S64,
  CTLTYPE_STRING,
  CTLTYPE_ULONG,
  oid_auto,
  oid_changed,
  oid_child,
  oid_dead,
  oid_descr,
  oid_fmt,
  oid_has_handler,
  oid_init,
  oid_link,
  oid_name,
  oid_named,
  OID_AUTO,
  oid_path,
  oid_root,
  oid_running,
  oid_skipped,
  oid_type,
  oid_unlink,
  oid_valid,
  type oid_t,
  str_words,
  str_write,
  sysctl_oid,
  tree_rlock,
  tree_runlock,
  tree_wlock,
  tree_wunlock,
  CTL_AUTO_START,
  WHAT_DYN,
} from './sysctl_tree.ts';

const oid = sysctl_oid;
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
const MAXPATHLEN = 1024;

// --- questions about the tree ---------------------------------------------------------

/** Runs a query with the tree held still. */
function locked(query: (req: SysctlRequest) => number): (req: SysctlRequest) => number {
  return (req) => {
    tree_rlock();
    try {
      return query(req);
    } finally {
      tree_runlock();
    }
  };
}
function out_string(req: SysctlRequest, text: string): number {
  return req.out(encoder.encode(`${text}\0`));
}
function out_mib(req: SysctlRequest, mib: readonly number[]): number {
  return req.out(new Uint8Array(Int32Array.from(mib).buffer));
}

/**
 * Asks about the node that the numbers lead to.  A node with a handler takes all
 * numbers behind it; without numbers, or where they lead nowhere, ENOENT; beyond a
 * leaf ENOTDIR.
 */
function about(req: SysctlRequest, answer: (o: oid_t) => number): number {
  if (req.rest.length === 0) return ENOENT;
  const found = oid_find(req.rest);
  return typeof found === 'number' ? found : answer(found.o);
}

function query_debug(req: SysctlRequest): number {
  if (req instanceof sysctl_req && req.options.user) return EPERM;
  const print = (parent: oid_t, depth: number): void => {
    for (let o = oid.child[parent]; o !== NULL; o = oid.next[o]) {
      const what = oid_type(o) === CTLTYPE_NODE ? 'Node' : oid_fmt(o) || '-';
      const handler = oid_has_handler(o) ? ' handler' : '';
      kconsole.print(`${' '.repeat(depth)}${oid.number[o]} ${oid_name(o)} ${what}${handler}`);
      print(o, depth + 2);
    }
  };
  print(oid_root(), 0);
  return ENOENT; // always: nothing is delivered
}
/** A name from the top: numbers that lead nowhere are printed in decimal. */
function query_name(req: SysctlRequest): number {
  const names: string[] = [];
  let parent = oid_root();
  for (const n of req.rest) {
    const o = parent === NULL ? parent : oid_child(parent, n);
    names.push(o === NULL ? `${n}` : oid_name(o));
    const inner = o !== NULL && oid_type(o) === CTLTYPE_NODE && !oid_has_handler(o);
    parent = inner ? o : (NULL as oid_t);
  }
  return out_string(req, names.join('.'));
}
/** The first leaf below `parent` whose numbers come after `from`; null: none. */
function next_leaf(
  parent: oid_t,
  from: readonly number[],
  depth: number,
  skip: boolean,
): number[] | null {
  const bound = depth < from.length ? from[depth] : null;
  for (let o = oid.child[parent]; o !== NULL; o = oid.next[o]) {
    const n = oid.number[o];
    if (bound !== null && n < bound) continue;
    if (skip ? oid_skipped(o) : oid.kind[o] & CTLFLAG_DORMANT) continue;
    const inside = bound !== null && n === bound;
    if (oid_type(o) === CTLTYPE_NODE && !oid_has_handler(o)) {
      const below = next_leaf(o, inside ? from : [], depth + 1, skip);
      if (below) return [n, ...below];
    } else if (!inside) return [n];
  }
  return null;
}
function query_next(skip: boolean): (req: SysctlRequest) => number {
  return (req) => {
    const mib = next_leaf(oid_root(), req.rest, 0, skip);
    return mib ? out_mib(req, mib) : ENOENT;
  };
}
function query_name2oid(req: SysctlRequest): number {
  const given = req.new_bytes;
  if (!given || given.length === 0) return ENOENT;
  if (given.length >= MAXPATHLEN) return ENAMETOOLONG;
  const nul = given.indexOf(0);
  let name = decoder.decode(given.slice(0, nul < 0 ? given.length : nul));
  if (name.endsWith('.')) name = name.slice(0, -1);
  if (name === '') return ENOENT;
  const mib: number[] = [];
  let o = oid_root();
  for (const part of name.split('.')) {
    if (oid_type(o) !== CTLTYPE_NODE || oid_has_handler(o)) return ENOENT;
    o = oid_named(o, part);
    if (o === NULL || oid.kind[o] & CTLFLAG_DORMANT) return ENOENT;
    mib.push(oid.number[o]);
  }
  return out_mib(req, mib);
}
function query_oidfmt(req: SysctlRequest): number {
  return about(req, (o) => {
    const fmt = oid_fmt(o);
    if (fmt === '') return ENOENT;
    const error = req.out(new Uint8Array(Uint32Array.of(oid.kind[o]).buffer));
    return error !== 0 ? error : out_string(req, fmt);
  });
}
function query_oiddescr(req: SysctlRequest): number {
  return about(req, (o) => {
    const descr = oid_descr(o);
    return descr === '' ? ENOENT : out_string(req, descr);
  });
}
/** No node of ours carries a label: ENOENT for those that exist. */
function query_oidlabel(req: SysctlRequest): number {
  return about(req, () => ENOENT);
}

const NODE = { type: 'node', fmt: 'N', flags: CTLFLAG_RD | CTLFLAG_CAPRD } as const;
sysctl_proc(
  'sysctl.debug',
  { ...NODE, number: 0, help: 'Prints the tree on the console' },
  locked(query_debug),
);
sysctl_proc(
  'sysctl.name',
  { ...NODE, number: 1, help: 'The name that belongs to numbers' },
  locked(query_name),
);
sysctl_proc(
  'sysctl.next',
  { ...NODE, number: 2, help: 'The next variable after the given numbers' },
  locked(query_next(true)),
);
sysctl_proc(
  'sysctl.name2oid',
  {
    type: 'int',
    fmt: 'I',
    number: 3,
    flags: CTLFLAG_RW | CTLFLAG_ANYBODY | CTLFLAG_CAPRD | 0x4000,
    help: 'The numbers that belong to a name',
  },
  locked(query_name2oid),
);
sysctl_proc(
  'sysctl.oidfmt',
  { ...NODE, number: 4, help: 'Type, flags and format of a variable' },
  locked(query_oidfmt),
);
sysctl_proc(
  'sysctl.oiddescr',
  { ...NODE, number: 5, help: 'What a variable is for' },
  locked(query_oiddescr),
);
sysctl_proc(
  'sysctl.oidlabel',
  { ...NODE, number: 6, help: 'The label of a variable among its like' },
  locked(query_oidlabel),
);
sysctl_proc(
  'sysctl.nextnoskip',
  { ...NODE, number: 7, help: 'As next, with the hidden variables' },
  locked(query_next(false)),
);

// --- memory of dynamic nodes -------------------------------------------------------------

/** A string of its own in kernel memory; 0: no memory. */
export function str_dup(text: string): number {
  const w = malloc(str_words(text) * 4, M_SYSCTLOID.t, M_WAITOK);
  if (w !== 0) str_write(w, text);
  return w;
}
export function str_free(w: number): void {
  if (w !== 0) free(w, M_SYSCTLOID.t);
}
/** Memory for the value of a dynamic node, zeroed by the caller; 0: none. */
export function data_alloc(bytes: number): number {
  return malloc(Math.max(bytes, 8), M_SYSCTLOID.t, M_WAITOK);
}

export interface NewOid {
  name: string;
  kind: number;
  fmt: string;
  descr: string;
}
/** A dynamic node outside the tree; 0: no memory. */
export function oid_alloc(n: NewOid): oid_t {
  const o = malloc(oid.sizeof * 4, M_SYSCTLOID.t, M_WAITOK) as oid_t;
  if (o === NULL) return o;
  const name = str_dup(n.name);
  const fmt = n.fmt === '' ? 0 : str_dup(n.fmt);
  const descr = n.descr === '' ? 0 : str_dup(n.descr);
  oid_init(o, name, (n.kind | CTLFLAG_DYN) >>> 0, WHAT_DYN);
  oid.fmt[o] = fmt;
  oid.descr[o] = descr;
  const ok = name !== 0 && (n.fmt === '' || fmt !== 0) && (n.descr === '' || descr !== 0);
  if (ok) return o;
  oid_free(o);
  return NULL as oid_t;
}
/** Frees a node that is in no list and that no handler runs for. */
export function oid_free(o: oid_t): void {
  oid_dead(o);
  checked_fresh(o, oid.sizeof); // nobody's any more
  str_free(oid.name[o]);
  str_free(oid.fmt[o]);
  str_free(oid.descr[o]);
  str_free(oid.data[o]);
  checked_publish(o);
  free(o, M_SYSCTLOID.t);
}
/** Waits until no handler of an unlinked node runs, then frees it. No lock is held. */
export function oid_drain_free(o: oid_t): void {
  while (oid_running(o) > 0) {
    tsleep(o, W_OIDRM, Number.POSITIVE_INFINITY, () => oid_running(o) > 0);
  }
  oid_free(o);
}

// --- contexts ----------------------------------------------------------------------------

/** What a driver added, newest first. It belongs to the thread that made it. */
export interface sysctl_ctx {
  entries: oid_t[];
}
export function sysctl_ctx_init(): sysctl_ctx {
  return { entries: [] };
}
/** Remembers a node in a context. Returns it. */
export function sysctl_ctx_entry_add(ctx: sysctl_ctx | null, o: oid_t): oid_t {
  if (ctx && o !== NULL) ctx.entries.unshift(o);
  return o;
}
export function sysctl_ctx_entry_find(ctx: sysctl_ctx | null, o: oid_t): oid_t {
  return ctx?.entries.includes(o) ? o : (NULL as oid_t);
}
/** Forgets a node; the node itself stays. */
export function sysctl_ctx_entry_del(ctx: sysctl_ctx | null, o: oid_t): number {
  if (!ctx || o === NULL) return EINVAL;
  const at = ctx.entries.indexOf(o);
  if (at < 0) return ENOENT;
  ctx.entries.splice(at, 1);
  return 0;
}
/**
 * Removes everything in the context, newest first.  EBUSY, and nothing is
 * lost, if some node cannot go: others were added below it.
 */
export function sysctl_ctx_free(ctx: sysctl_ctx): number {
  tree_wlock();
  if (!removable(ctx.entries)) {
    tree_wunlock();
    return EBUSY;
  }
  const gone: oid_t[] = [];
  for (const o of ctx.entries) {
    if (oid.refcnt[o] > 1) oid.refcnt[o]--;
    else if (detach_oid(o)) gone.push(o);
  }
  tree_wunlock();
  ctx.entries = [];
  for (const o of gone) oid_drain_free(o);
  return 0;
}
/** Tries on paper what sysctl_ctx_free does. */
function removable(entries: readonly oid_t[]): boolean {
  const left = new Map<oid_t, number>();
  const gone = new Set<oid_t>();
  for (const o of entries) {
    if (!oid_valid(o) || gone.has(o) || (oid.kind[o] & CTLFLAG_DYN) === 0) return false;
    const refs = (left.get(o) ?? oid.refcnt[o]) - 1;
    left.set(o, refs);
    if (refs > 0) continue;
    for (let c = oid.child[o]; c !== NULL; c = oid.next[c]) if (!gone.has(c)) return false;
    gone.add(o);
  }
  return true;
}
function detach_oid(o: oid_t): boolean {
  if (!oid_unlink(o)) {
    kconsole.print(`sysctl_unregister_oid: failed to unregister sysctl`);
    return false;
  }
  oid.kind[o] = (oid.kind[o] | CTLFLAG_DYING) >>> 0;
  return true;
}

// --- adding ------------------------------------------------------------------------------

/**
 * Adds a node.  A node of that name that exists is shared: its reference count
 * goes up.  A leaf of that name is in the way: 0.  `nbr` is OID_AUTO or below
 * 0x100; if it is in use, the node gets an automatic one.  0 also without
 * a parent or memory.
 */
export function sysctl_add_oid(
  ctx: sysctl_ctx | null,
  parent: oid_t,
  nbr: number,
  name: string,
  kind: number,
  arg1: number,
  arg2: number,
  handler: number,
  fmt: string,
  descr: string,
): oid_t {
  if (parent === NULL || !good_name(name)) return NULL as oid_t;
  const o = oid_alloc({ name, kind, fmt, descr });
  if (o === NULL) return o;
  oid.arg1[o] = arg1;
  oid.arg2[o] = arg2;
  oid.handler[o] = handler;
  tree_wlock();
  const found = add_locked(parent, nbr, o);
  tree_wunlock();
  if (found !== o) oid_free(o);
  return found === NULL ? found : sysctl_ctx_entry_add(ctx, found);
}
/** The node as it is in the tree afterwards: `o`, one that was there, or none. */
function add_locked(parent: oid_t, nbr: number, o: oid_t): oid_t {
  const name = oid_name(o);
  if (!oid_valid(parent) || oid_type(parent) !== CTLTYPE_NODE || oid_has_handler(parent)) {
    return NULL as oid_t;
  }
  if (oid.kind[parent] & CTLFLAG_DYING) return NULL as oid_t;
  const old = oid_named(parent, name);
  if (old !== NULL) {
    if (oid_type(old) === CTLTYPE_NODE) {
      oid.refcnt[old]++;
      return old;
    }
    kconsole.print(`can't re-use a leaf (${name})!`);
    return NULL as oid_t;
  }
  const usable = nbr >= 0 && nbr < CTL_AUTO_START && oid_child(parent, nbr) === NULL;
  if (nbr !== OID_AUTO && !usable) {
    kconsole.print(`sysctl: number ${nbr} is no good for '${name}': it gets another`);
  }
  oid.number[o] = usable ? nbr : oid_auto(parent);
  oid_link(parent, o);
  return o;
}
function good_name(name: string): boolean {
  return name.length > 0 && name.length < MAXPATHLEN && !name.includes('.') && !name.includes('\0');
}

/** Adds an inner node. */
export function sysctl_add_node(
  ctx: sysctl_ctx | null,
  parent: oid_t,
  nbr: number,
  name: string,
  flags: number,
  descr: string,
): oid_t {
  return sysctl_add_oid(ctx, parent, nbr, name, CTLTYPE_NODE | flags, 0, 0, 0, 'N', descr);
}
/** Adds an int at word `w`, or the constant `value` if `w` is 0. */
export function sysctl_add_int(
  ctx: sysctl_ctx | null,
  parent: oid_t,
  nbr: number,
  name: string,
  flags: number,
  w: number,
  value: number,
  descr: string,
): oid_t {
  const kind = CTLTYPE_INT | flags;
  return sysctl_add_oid(ctx, parent, nbr, name, kind, w, value, SYSCTL_HANDLE_INT, 'I', descr);
}
const WIDE = {
  long: [CTLTYPE_LONG, 'L'],
  ulong: [CTLTYPE_ULONG, 'LU'],
  quad: [CTLTYPE_S64, 'Q'],
} as const;
/** Adds a 64-bit number: the double at the even word `w`. */
export function sysctl_add_wide(
  ctx: sysctl_ctx | null,
  parent: oid_t,
  nbr: number,
  name: string,
  type: keyof typeof WIDE,
  flags: number,
  w: number,
  descr: string,
): oid_t {
  const [kind, fmt] = WIDE[type];
  return sysctl_add_oid(ctx, parent, nbr, name, kind | flags, w, 0, SYSCTL_HANDLE_64, fmt, descr);
}
/** Adds a string in `bytes` bytes at word `w`; bytes 0: a constant one. */
export function sysctl_add_string(
  ctx: sysctl_ctx | null,
  parent: oid_t,
  nbr: number,
  name: string,
  flags: number,
  w: number,
  bytes: number,
  descr: string,
): oid_t {
  const kind = CTLTYPE_STRING | flags;
  return sysctl_add_oid(ctx, parent, nbr, name, kind, w, bytes, SYSCTL_HANDLE_STRING, 'A', descr);
}
/** Adds `bytes` bytes at word `w`, shown as `fmt` says. */
export function sysctl_add_opaque(
  ctx: sysctl_ctx | null,
  parent: oid_t,
  nbr: number,
  name: string,
  flags: number,
  w: number,
  bytes: number,
  fmt: string,
  descr: string,
): oid_t {
  const kind = CTLTYPE_OPAQUE | flags;
  return sysctl_add_oid(ctx, parent, nbr, name, kind, w, bytes, SYSCTL_HANDLE_OPAQUE, fmt, descr);
}
/** Adds a node whose value a function makes; threads know the function by its name. */
export function sysctl_add_proc(
  ctx: sysctl_ctx | null,
  parent: oid_t,
  nbr: number,
  name: string,
  kind: number,
  arg1: number,
  arg2: number,
  handler: { name: string; run: oid_handler },
  fmt: string,
  descr: string,
): oid_t {
  const n = sysctl_handler(handler.name, handler.run);
  return sysctl_add_oid(ctx, parent, nbr, name, kind, arg1, arg2, n, fmt, descr);
}

// --- removing, renaming, moving --------------------------------------------------------------

/**
 * Removes a dynamic node.  With more than one user only the count goes down.
 * `del`: the node's memory goes too, after its running handlers; otherwise it
 * is only unregistered.  `recurse`: nodes below go with it.
 */
export function sysctl_remove_oid(o: oid_t, del: boolean, recurse: boolean): number {
  const gone: oid_t[] = [];
  tree_wlock();
  const error = remove_locked(o, recurse, gone);
  tree_wunlock();
  if (del) for (const g of gone) oid_drain_free(g);
  return error;
}
function remove_locked(o: oid_t, recurse: boolean, gone: oid_t[]): number {
  if (!oid_valid(o)) return EINVAL;
  if ((oid.kind[o] & CTLFLAG_DYN) === 0) {
    kconsole.print(`can't remove non-dynamic nodes!`);
    return EINVAL;
  }
  if (oid.refcnt[o] > 1) {
    oid.refcnt[o]--;
    return 0;
  }
  if (oid.child[o] !== NULL) {
    if (!recurse) {
      kconsole.print(`Warning: ${oid_path(o)} is not empty: its children stay`);
      return ENOTEMPTY;
    }
    for (let c = oid.child[o]; c !== NULL; ) {
      const next = oid.next[c];
      const error = remove_locked(c, true, gone);
      if (error !== 0) return error;
      c = next;
    }
    if (oid.child[o] !== NULL) return ENOTEMPTY; // somebody else still uses one of them
  }
  if (detach_oid(o)) gone.push(o);
  return 0;
}
/** Removes a child by name. */
export function sysctl_remove_name(
  parent: oid_t,
  name: string,
  del: boolean,
  recurse: boolean,
): number {
  const gone: oid_t[] = [];
  tree_wlock();
  const o = oid_valid(parent) ? oid_named(parent, name) : (NULL as oid_t);
  const error = o === NULL ? ENOENT : remove_locked(o, recurse, gone);
  tree_wunlock();
  if (del) for (const g of gone) oid_drain_free(g);
  return error;
}
/**
 * Gives a dynamic node another name. EEXIST: a sibling has it.  Declared nodes
 * keep the name that their declaration is known by: EINVAL.
 */
export function sysctl_rename_oid(o: oid_t, name: string): number {
  if (!good_name(name)) return EINVAL;
  const copy = str_dup(name);
  if (copy === 0) return ENOMEM;
  tree_wlock();
  const error = rename_locked(o, name);
  let old = copy;
  if (error === 0) {
    old = oid.name[o];
    oid.name[o] = copy;
    oid_changed(o);
  }
  tree_wunlock();
  str_free(old);
  return error;
}
function rename_locked(o: oid_t, name: string): number {
  if (!oid_valid(o) || (oid.kind[o] & CTLFLAG_DYN) === 0) return EINVAL;
  const other = oid_named(oid.parent[o], name);
  return other !== NULL && other !== o ? EEXIST : 0;
}
/** Moves a dynamic node below another parent, where it gets a fresh automatic number. */
export function sysctl_move_oid(o: oid_t, parent: oid_t): number {
  tree_wlock();
  const error = move_locked(o, parent);
  tree_wunlock();
  return error;
}
function move_locked(o: oid_t, parent: oid_t): number {
  if (!oid_valid(o) || !oid_valid(parent) || (oid.kind[o] & CTLFLAG_DYN) === 0) return EINVAL;
  if (oid.parent[o] === parent) return 0;
  if (oid_type(parent) !== CTLTYPE_NODE || oid_has_handler(parent)) return EINVAL;
  for (let at = parent; at !== NULL; at = oid.parent[at]) if (at === o) return EINVAL;
  if (oid_named(parent, oid_name(o)) !== NULL) return EEXIST;
  if (!oid_unlink(o)) {
    kconsole.print('sysctl_move_oid: failed to unregister sysctl');
    return EINVAL;
  }
  oid.number[o] = oid_auto(parent);
  oid_link(parent, o);
  return 0;
}
/** The word of the value that lies in the node itself. */
export function oid_value_word(o: oid_t): number {
  return field_word64(oid.value, o);
}
