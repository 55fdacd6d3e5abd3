/*
 * sysctl_tree: the tree of everything that can be seen and set from outside.
 *
 *      root --child--> kern(1) --next--> vm(2) --next--> ... vendor
 *                        |child
 *                      ostype(1) --next--> osrelease(2) ...
 *
 * The tree lies in the shared memory, so every thread and every tool sees the
 * same one.  A node is a record; the children of a node are a list sorted by
 * number, and names are unique in it.  Numbers up to 0xff are given by
 * history; others come from one rising counter and are not used twice.
 *
 * A node says where its value is:
 *      WHAT_GROUP    an inner node; described in sysctl_names.ts
 *      WHAT_DECL     declared by a floor: `index` finds the declaration in the
 *                    list that all threads have in the same order
 *      WHAT_COUNTER  an event counter, `index` likewise: below vm.stats an
 *                    unsigned int, as their readers know them, elsewhere 64 bits
 *      WHAT_DYN      made at run time: a handler's number and two arguments
 *
 * Locks.  One sx lock covers links, names and numbers; it is not held while a
 * handler runs.  A thread that enters a handler writes the node into a slot of
 * its own under the shared lock; the thread that removes the node unlinks it, and
 * frees it when no slot names it any more.  So the number of running handlers is
 * counted where it happens, and a thread that dies in a handler leaves nothing
 * behind but its slots, which the reaper clears.
 *
 * Linking and unlinking are one store each, into a node that is complete: a
 * death under the lock leaves a sound tree, proved by sysctl_check().
 *
 * Read next: kern_sysctl.ts, where requests come in.
 * Unlike FreeBSD: if the number is in use, the node gets an automatic one, so
 * that every node can be reached by number.
 */
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_type, counters } from '../machine/counter.ts';
import { cpu_slots, thr } from '../machine/cpu.ts';
import { M, machine, ROOT_SYSCTL } from '../machine/header.ts';
import { mem } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { elem, i32, lock_words, NULL, type Ptr, ptr, struct, u32, u64 } from '../machine/struct.ts';
import {
  CTLFLAG_MPSAFE,
  CTLFLAG_RD,
  CTLFLAG_RW,
  CTLFLAG_SKIP,
  type SysctlDecl,
  type SysctlType,
  help_of,
  sysctl_decls,
} from '../machine/sysctl_decl.ts';
import {
  RW_WORDS,
  rw_assert,
  rw_init,
  rw_rlock,
  rw_runlock,
  rw_wlock,
  rw_wunlock,
} from '../sync/kern_rwlock.ts';
import { LC_SYSCTL, LC_SYSCTL_MEM } from '../sync/lock_order.ts';
import { wakeup } from '../sync/subr_sleepqueue.ts';
import { fixed_number, group_help } from './sysctl_names.ts';

export const CTLTYPE = 0xf;
export const CTLTYPE_NODE = 1;
export const CTLTYPE_INT = 2;
export const CTLTYPE_STRING = 3;
export const CTLTYPE_S64 = 4;
export const CTLTYPE_OPAQUE = 5;
export const CTLTYPE_UINT = 6;
export const CTLTYPE_LONG = 7;
export const CTLTYPE_ULONG = 8;
export const CTLTYPE_U64 = 9;

export const CTLFLAG_DORMANT = 0x20000000;
export const CTLFLAG_ANYBODY = 0x10000000;
export const CTLFLAG_SECURE = 0x08000000;
export const CTLFLAG_DYN = 0x02000000;
export const CTLMASK_SECURE = 0x00f00000;
export const CTLSHIFT_SECURE = 20;
export const CTLFLAG_SECURE1 = CTLFLAG_SECURE;
export const CTLFLAG_DYING = 0x00010000;
export const CTLFLAG_CAPRD = 0x00008000;
export const CTLFLAG_CAPWR = 0x00004000;

export const OID_AUTO = -1;
export const CTL_AUTO_START = 0x100;
export const CTL_MAXNAME = 24;
const OID_LIMIT = 0x7fffffff;
const OID_MAGIC = 0x6f696421;

export const WHAT_GROUP = 0;
export const WHAT_DECL = 1;
export const WHAT_COUNTER = 2;
export const WHAT_DYN = 3;

/** Handlers that one thread may be inside at once: a handler that asks the tree again. */
const SLOTS_PER_CPU = 4;
export const HOSTNAME_BYTES = 256;

export type oid_t = Ptr<'sysctl_oid'>;
type root_t = Ptr<'sysctl_root'>;

/*
 * Locks: (t) the tree lock; a CPU that runs a node's handler may read the node
 *            without it, because the node waits for its handlers before it goes
 *        (c) constant once linked
 */
const oid = struct<oid_t>('sysctl_oid')({
  magic: i32('-', 'OID_MAGIC while the node exists'),
  number: i32('t', 'number among its siblings'),
  kind: u32('t', 'type and flags, as the tools read them'),
  name: i32('t', 'string: its name'),
  parent: ptr<oid_t>('t', 'node above; the root has none'),
  child: ptr<oid_t>('t', 'child with the lowest number'),
  next: ptr<oid_t>('t', 'sibling with the next higher number'),
  refcnt: i32('t', 'users of a dynamic node'),
  what: i32('c', 'WHAT_*: where description and value are found'),
  index: i32('c', 'declaration or counter'),
  handler: i32('c', 'vector number of a dynamic node, 0: none'),
  arg1: i32('c', 'first argument of the handler: usually the word of the value'),
  arg2: i32('c', 'second argument: usually its size in bytes'),
  fmt: i32('c', 'string: format of a dynamic node'),
  descr: i32('t', 'string: description of a dynamic node, 0: none'),
  version: u32('t', 'tree version of the last change here or below'),
  nbflags: u32('t', "flags of NetBSD's face that have no other place"),
  data: i32('c', 'memory that goes with the node, 0: none'),
  value: u64('-', 'a value that lies in the node itself'),
});
export const sysctl_oid = oid;

const root = struct<root_t>(
  'sysctl_root',
  16,
)({
  lock: lock_words(RW_WORDS, 'sysctl tree', 'the tree'),
  mem_lock: lock_words(RW_WORDS, 'sysctl mem', 'one large report at a time'),
  top: ptr<oid_t>('c', 'the root node'),
  auto: i32('t', 'next automatic number'),
  created: i32('t', "last number given out by NetBSD's create"),
  slots: i32('c', 'nodes whose handlers run: SLOTS_PER_CPU words for each CPU'),
  hostname: i32('c', 'string: kern.hostname'),
});
export const sysctl_root = root;

/** The tree's own record; 0 before the tree is built. */
export function tree(): root_t {
  return machine.roots[elem(M, ROOT_SYSCTL)] as root_t;
}
/** The root node. */
export function oid_root(): oid_t {
  return root.top[tree()];
}

export function tree_rlock(): void {
  rw_rlock(root.lock, tree());
}
export function tree_runlock(): void {
  rw_runlock(root.lock, tree());
}
export function tree_wlock(): void {
  rw_wlock(root.lock, tree());
}
export function tree_wunlock(): void {
  rw_wunlock(root.lock, tree());
}
function assert_wlocked(): void {
  rw_assert(root.lock, tree(), true);
}

// --- strings in the shared memory ---------------------------------------------

const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });

/** A string as it stands in memory: whole words, with a NUL at least. */
function str_bytes(text: string): Uint8Array {
  const utf8 = encoder.encode(text);
  const bytes = new Uint8Array((utf8.length + 4) & ~3);
  bytes.set(utf8);
  return bytes;
}
/** Words that a string takes with its NUL. */
export function str_words(text: string): number {
  return str_bytes(text).length >> 2;
}
/** Writes a string at word `w`. */
export function str_write(w: number, text: string): void {
  mem.U8.set(str_bytes(text), w * 4);
}
/** The string at word `w`; '' for word 0. `limit`: most bytes to look at. */
export function str_read(w: number, limit = 4096): string {
  if (w === 0) return '';
  let end = w * 4;
  const stop = end + limit;
  while (end < stop && mem.U8[end] !== 0) end++;
  return decoder.decode(mem.U8.slice(w * 4, end));
}

// --- looking ----------------------------------------------------------------

export function oid_name(o: oid_t): string {
  return str_read(oid.name[o]);
}
export function oid_type(o: oid_t): number {
  return oid.kind[o] & CTLTYPE;
}
/** Whether the pointer is a node of this tree. */
export function oid_valid(o: oid_t): boolean {
  return Number.isInteger(o) && o > 0 && oid.magic[o] === OID_MAGIC;
}
/** The child with a number; 0: none. */
export function oid_child(parent: oid_t, number: number): oid_t {
  let o = oid.child[parent];
  while (o !== NULL && oid.number[o] < number) o = oid.next[o];
  return o !== NULL && oid.number[o] === number ? o : (NULL as oid_t);
}
/** The child with a name; 0: none. */
export function oid_named(parent: oid_t, name: string): oid_t {
  for (let o = oid.child[parent]; o !== NULL; o = oid.next[o]) if (oid_name(o) === name) return o;
  return NULL as oid_t;
}
/** The declaration behind a node, null: it has none. */
export function oid_decl(o: oid_t): SysctlDecl | null {
  return oid.what[o] === WHAT_DECL ? (sysctl_decls[oid.index[o]] ?? null) : null;
}
/** Whether requests below this node go to a handler of its own. */
export function oid_has_handler(o: oid_t): boolean {
  const what = oid.what[o];
  if (what === WHAT_DYN) return oid.handler[o] !== 0;
  return what !== WHAT_GROUP;
}
/** The numbers from the root to a node. */
export function oid_mib(o: oid_t): number[] {
  const mib: number[] = [];
  for (let at = o; oid.parent[at] !== NULL; at = oid.parent[at]) mib.unshift(oid.number[at]);
  return mib;
}
/** The dotted name of a node. */
export function oid_path(o: oid_t): string {
  const names: string[] = [];
  for (let at = o; oid.parent[at] !== NULL; at = oid.parent[at]) names.unshift(oid_name(at));
  return names.join('.');
}
/** What a node is for; '' only for a dynamic node that was given none. */
export function oid_descr(o: oid_t): string {
  switch (oid.what[o]) {
    case WHAT_DECL: {
      const d = oid_decl(o) as SysctlDecl;
      const help = help_of(d);
      return d.unit && help !== '' ? `${help} (${d.unit})` : help;
    }
    case WHAT_COUNTER:
      return help_of(counters[oid.index[o]]);
    case WHAT_GROUP:
      return group_help(oid_path(o));
    default:
      return str_read(oid.descr[o]);
  }
}
/** The format string of a node's value; '' where there is none. */
export function oid_fmt(o: oid_t): string {
  switch (oid.what[o]) {
    case WHAT_DECL:
      return (oid_decl(o) as SysctlDecl).fmt;
    case WHAT_COUNTER:
      return oid_type(o) === CTLTYPE_UINT ? 'IU' : 'QU';
    case WHAT_GROUP:
      return 'N';
    default:
      return str_read(oid.fmt[o]);
  }
}

// --- linking, under the exclusive lock ---------------------------------------------

/** Marks a change for readers that cache the tree: here and in everything above. */
export function oid_changed(o: oid_t): void {
  assert_wlocked();
  const version = (oid.version[oid_root()] + 1) >>> 0;
  stamp(o, version);
}
/** From the root down, so that no node is ever newer than its parent. */
function stamp(o: oid_t, version: number): void {
  if (oid.parent[o] !== NULL) stamp(oid.parent[o], version);
  oid.version[o] = version;
}
/** Puts a complete node into its parent's list. Its number is set and free there. */
export function oid_link(parent: oid_t, o: oid_t): void {
  assert_wlocked();
  list_insert(parent, o);
  oid_changed(o);
}
function list_insert(parent: oid_t, o: oid_t): void {
  checked_publish(o);
  oid.parent[o] = parent;
  let before = NULL as oid_t;
  let after = oid.child[parent];
  while (after !== NULL && oid.number[after] <= oid.number[o]) {
    before = after;
    after = oid.next[after];
  }
  oid.next[o] = after;
  if (before === NULL) oid.child[parent] = o;
  else oid.next[before] = o;
}
/** Takes a node out of its parent's list. False: it was not there. */
export function oid_unlink(o: oid_t): boolean {
  assert_wlocked();
  const parent = oid.parent[o];
  if (parent === NULL) return false;
  let before = NULL as oid_t;
  let at = oid.child[parent];
  while (at !== NULL && at !== o) {
    before = at;
    at = oid.next[at];
  }
  if (at === NULL) return false;
  oid_changed(parent);
  if (before === NULL) oid.child[parent] = oid.next[o];
  else oid.next[before] = oid.next[o];
  return true;
}
/** A number nobody among the children of `parent` has. */
export function oid_auto(parent: oid_t): number {
  assert_wlocked();
  for (;;) {
    const n = root.auto[tree()];
    if (n >= OID_LIMIT) panic('sysctl: out of oids');
    root.auto[tree()] = n + 1;
    if (oid_child(parent, n) === NULL) return n;
  }
}
/** Fills a fresh record; it belongs to nobody yet. */
export function oid_init(o: oid_t, name: number, kind: number, what: number): void {
  mem.I32.fill(0, o, o + oid.sizeof);
  checked_fresh(o, oid.sizeof);
  oid.magic[o] = OID_MAGIC;
  oid.name[o] = name;
  oid.kind[o] = kind;
  oid.what[o] = what;
  oid.index[o] = -1;
  oid.refcnt[o] = 1;
}
/** Ends a record's life as a node. */
export function oid_dead(o: oid_t): void {
  checked_publish(o);
  oid.magic[o] = 0;
}

// --- running handlers ----------------------------------------------------------

function slot(cpu: number, i: number): number {
  return root.slots[tree()] + cpu * SLOTS_PER_CPU + i;
}
/** Notes that this CPU runs the handler of `o`. The tree lock is held, shared or not. */
export function handler_enter(o: oid_t): void {
  for (let i = 0; i < SLOTS_PER_CPU; i++) {
    const w = slot(thr.cpu, i);
    if (mem.I32[w] !== 0) continue;
    atomic_store(w, o);
    return;
  }
  panic('sysctl: handlers call the tree too deeply', SLOTS_PER_CPU);
}
/** This CPU left the handler of `o`; from here on the node may vanish. */
export function handler_leave(o: oid_t): void {
  for (let i = SLOTS_PER_CPU - 1; i >= 0; i--) {
    const w = slot(thr.cpu, i);
    if (mem.I32[w] !== o) continue;
    atomic_store(w, 0);
    break;
  }
  wakeup(o);
}
/** Whether this CPU runs a handler of `o`. */
export function oid_running_here(o: number): boolean {
  for (let i = 0; i < SLOTS_PER_CPU; i++) if (mem.I32[slot(thr.cpu, i)] === o) return true;
  return false;
}
/** How many handlers of `o` run. */
export function oid_running(o: oid_t): number {
  let n = 0;
  const end = cpu_slots() * SLOTS_PER_CPU;
  for (let i = 0; i < end; i++) if (atomic_load(root.slots[tree()] + i) === o) n++;
  return n;
}
/** Handlers that a dead CPU ran are waited for no more. */
export function sysctl_reap(cpu: number): void {
  if (tree() === NULL) return;
  for (let i = 0; i < SLOTS_PER_CPU; i++) {
    const o = atomic_load(slot(cpu, i));
    atomic_store(slot(cpu, i), 0);
    if (o !== 0) wakeup(o);
  }
}

// --- building the tree at boot ---------------------------------------------------

/*
 * What is declared follows from the sources that the thread has loaded, so the plan of a tree is
 * made once, and again if something was declared since: a thread may boot many machines.
 */
interface Plan {
  /** The name, as str_bytes. */
  name: Uint8Array;
  path: string;
  number: number | null;
  kind: number;
  what: number;
  index: number;
  children: Map<string, Plan>;
}
const planned: { top: Plan | null; declared: number } = { top: null, declared: 0 };
const NO_CHILDREN: Plan['children'] = new Map();

const TYPE: Readonly<Record<SysctlType, number>> = {
  node: CTLTYPE_NODE,
  int: CTLTYPE_INT,
  string: CTLTYPE_STRING,
  opaque: CTLTYPE_OPAQUE,
  uint: CTLTYPE_UINT,
  long: CTLTYPE_LONG,
  ulong: CTLTYPE_ULONG,
  u64: CTLTYPE_U64,
};

function plan_group(name: string, path: string): Plan {
  // Programs may add nodes of their own below the root and below vendor only.
  const kind = CTLTYPE_NODE | (path === 'vendor' || path === '' ? CTLFLAG_RW : CTLFLAG_RD);
  const number = fixed_number(path);
  const children = new Map<string, Plan>();
  return { name: str_bytes(name), path, number, kind, what: WHAT_GROUP, index: -1, children };
}
type Leaf = Pick<Plan, 'number' | 'kind' | 'what' | 'index'>;
function plan_leaf(top: Plan, path: string, leaf: Leaf): void {
  const names = path.split('.');
  const last = names.pop() as string;
  let at = top;
  for (const [i, name] of names.entries()) {
    let next = at.children.get(name);
    if (!next) {
      next = plan_group(name, names.slice(0, i + 1).join('.'));
      at.children.set(name, next);
    }
    if (next.what !== WHAT_GROUP) throw new Error(`sysctl ${path}: ${next.path} is no group`);
    at = next;
  }
  if (at.children.has(last)) throw new Error(`sysctl ${path} is declared twice, or is a group too`);
  const { number, kind, what, index } = leaf;
  const name = str_bytes(last);
  at.children.set(last, { name, path, number, kind, what, index, children: NO_CHILDREN });
}
function plan_tree(): Plan {
  const declared = sysctl_decls.length + counters.length; // none goes
  if (planned.top && planned.declared === declared) return planned.top;
  planned.top = plan_made();
  planned.declared = declared;
  return planned.top;
}
function plan_made(): Plan {
  const top = plan_group('', '');
  top.children.set('vendor', plan_group('vendor', 'vendor'));
  for (const [index, d] of sysctl_decls.entries()) {
    const kind = (d.flags | TYPE[d.type]) >>> 0;
    const number = d.number ?? fixed_number(d.name);
    plan_leaf(top, d.name, { kind, number, what: WHAT_DECL, index });
  }
  for (const [index, c] of counters.entries()) {
    const kind = (TYPE[counter_type(c)] | CTLFLAG_RD | CTLFLAG_MPSAFE) >>> 0;
    const number = fixed_number(c.name);
    plan_leaf(top, c.name, { kind, number, what: WHAT_COUNTER, index });
  }
  return top;
}
function plan_words(p: Plan): number {
  let n = oid.sizeof + (p.name.length >> 2);
  for (const c of p.children.values()) n += plan_words(c);
  return n;
}

/**
 * Builds the tree from what the floors declared.  Runs on the booting CPU;
 * `alloc` gives zeroed words that are never given back.
 */
export function tree_build(alloc: (words: number, what: string, align: number) => number): void {
  const plan = plan_tree();
  const slots = cpu_slots() * SLOTS_PER_CPU;
  const all = root.sizeof + slots + HOSTNAME_BYTES / 4 + plan_words(plan);
  const r = alloc(all + (all & 1), 'the sysctl tree', 16) as root_t;
  machine.roots[elem(M, ROOT_SYSCTL)] = r;
  rw_init(root.lock, r, LC_SYSCTL);
  rw_init(root.mem_lock, r, LC_SYSCTL_MEM);
  root.auto[r] = CTL_AUTO_START;
  root.created[r] = 1024;
  root.slots[r] = r + root.sizeof;
  root.hostname[r] = root.slots[r] + slots;
  const place = { node: root.hostname[r] + HOSTNAME_BYTES / 4, text: 0 };
  place.text = place.node + plan_count(plan) * oid.sizeof;
  root.top[r] = plan_place(plan, place, NULL as oid_t);
}
function plan_count(p: Plan): number {
  let n = 1;
  for (const c of p.children.values()) n += plan_count(c);
  return n;
}
function plan_place(p: Plan, place: { node: number; text: number }, parent: oid_t): oid_t {
  const o = place.node as oid_t;
  place.node += oid.sizeof;
  oid_init(o, place.text, p.kind, p.what);
  mem.U8.set(p.name, place.text * 4);
  place.text += p.name.length >> 2;
  oid.index[o] = p.index;
  oid.version[o] = 1;
  if (parent !== NULL) {
    oid.number[o] = p.number ?? root.auto[tree()]++;
    if (oid_child(parent, oid.number[o]) !== NULL) {
      throw new Error(`sysctl ${p.path}: number ${oid.number[o]} is taken by a sibling`);
    }
    list_insert(parent, o);
  }
  checked_publish(o);
  for (const c of p.children.values()) plan_place(c, place, o);
  return o;
}
// --- walking ---------------------------------------------------------------------

/** Calls `visit` for every node below `o`, in depth-first order. The tree lock is held. */
export function oid_walk(o: oid_t, visit: (o: oid_t) => void): void {
  for (let c = oid.child[o]; c !== NULL; c = oid.next[c]) {
    visit(c);
    oid_walk(c, visit);
  }
}
/** Whether "next" passes over a node. */
export function oid_skipped(o: oid_t): boolean {
  return (oid.kind[o] & (CTLFLAG_SKIP | CTLFLAG_DORMANT)) !== 0;
}

const NODES_MAX = 1 << 20;

/** Proves the tree. The tree lock is held; `sysctl_check` takes it. */
export function tree_check(): void {
  const seen = { n: 0 };
  const top = oid_root();
  if (!oid_valid(top) || oid.parent[top] !== NULL) panic('sysctl_check: the root is no root');
  check_level(top, seen);
}
function check_level(parent: oid_t, seen: { n: number }): void {
  let last = -1;
  const names = new Set<string>();
  for (let o = oid.child[parent]; o !== NULL; o = oid.next[o]) {
    if (++seen.n > NODES_MAX) panic('sysctl_check: the tree has a ring');
    if (!oid_valid(o)) panic('sysctl_check: not a node', o * 4);
    const path = oid_path(o);
    if (oid.parent[o] !== parent) panic('sysctl_check: parent of', path);
    if (oid.number[o] <= last) panic('sysctl_check: numbers out of order at', path, oid.number[o]);
    last = oid.number[o];
    const name = oid_name(o);
    if (name === '' || names.has(name)) panic('sysctl_check: name', path);
    names.add(name);
    if (oid.refcnt[o] < 1) panic('sysctl_check: references of', path, oid.refcnt[o]);
    if (oid.kind[o] & CTLFLAG_DYING) panic('sysctl_check: a dying node is linked', path);
    if (oid.version[o] > oid.version[parent]) panic('sysctl_check: version of', path);
    if (oid.child[o] === NULL) continue;
    if (oid_type(o) !== CTLTYPE_NODE || oid_has_handler(o)) {
      panic('sysctl_check: a leaf has children', path);
    }
    check_level(o, seen);
  }
}
/** Proves the tree: links, order of numbers, names, references, versions. Panics if it is wrong. */
export function sysctl_check(): void {
  tree_rlock();
  tree_check();
  tree_runlock();
}
/** The walk after a death under the tree's lock. */
export function tree_recover(): void {
  tree_check();
}
