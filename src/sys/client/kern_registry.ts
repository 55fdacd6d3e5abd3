/*
 * kern_registry: names that every thread finds, and objects that end.
 *
 *      MAKING --> READY --> GOING --> (no entry)
 *        |                    |
 *        +-- take back -------+   by its thread, or by whoever settles its death
 *
 * An object is an entry with a kind, a name, a shape, and parts: a zone, pages,
 * a block.  It is linked first, in state MAKING, and its parts are made one by
 * one; the entry leads to each from the moment on at which there is one
 * (kern_registry_parts.ts).  It ends the other way round: GOING, the parts, and
 * last the link.  So there is no moment at which a part belongs to nobody.
 *
 * All this is under the registry's lock, which is held from MAKING to READY.
 * `worker` and `work` in the root say who is at it and with which entry.  A
 * thread that takes the lock and finds a dead one's work does not touch it,
 * because what that thread had in its hands is not settled yet: it lets go of
 * the lock and settles the death.  The reaper of the worker comes here after all
 * lower floors, and takes the work back.  What is left half done by an exception
 * is taken back by the thread itself.
 *
 * An object is used by threads, noted as tids: slot and incarnation.  It ends
 * when the last living user lets go.  The reaper, and a thread that leaves, clear
 * their notes, so the next owner of a slot inherits nothing.
 *
 * The lock's class is `registry`, recovery `undo`: links, counts and anchors
 * change inside undo sections.  malloc, zone and sleep queue locks nest inside.
 *
 * Always true, and proved by registry_check():
 *   - every entry is found by its name, and the count is theirs
 *   - nobody is at work, no block is between, every entry is READY
 *   - users are tids of their own slot
 *   - queues and numbers of records are as kern_queue.ts and kern_records.ts say
 *
 * Unlike FreeBSD, where each kind of named object (shm, sem) has a dictionary of
 * its own: one serves all kinds here.
 */
import { atomic_load, atomic_store, sim_point } from '../machine/atomic.ts';
import { cpu_slots, pcpu, pcpu_of, poll, thr, tid_cpu } from '../machine/cpu.ts';
import { cpu_alive, reap_all, tid_alive } from '../machine/death.ts';
import { boot_alloc, M, machine, ROOT_LIB } from '../machine/header.ts';
import { host_sleep } from '../machine/host.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import {
  REG_BUCKETS,
  REG_GOING,
  REG_KINDS,
  REG_MAKING,
  REG_READY,
  REG_STATES,
  reg_entry,
  type reg_entry_t,
  type RegKind,
  reg_kind,
  reg_root,
  type reg_root_t,
} from '../h/registry.ts';
import { free_at, malloc_at } from '../kmem/kern_malloc.ts';
import { MALLOC_DEFINE } from '../kmem/kern_malloc_type.ts';
import { mtx_abandon, mtx_init, mtx_lock, mtx_owned, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_REGISTRY } from '../sync/lock_order.ts';
import { lock_owner_tid } from '../sync/lock_word.ts';
import { rw_abandon } from '../sync/rw_death.ts';
import { rw_read_holds } from '../sync/rw_row.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { wakeup } from '../sync/subr_sleepqueue.ts';
import { uma_going_end } from '../uma/uma_going.ts';
import { queue_check } from './kern_queue.ts';
import { records_check } from './kern_records.ts';
import { registry_end_parts } from './kern_registry_parts.ts';

const root = reg_root;
const entry = reg_entry;

const M_REGISTRY = MALLOC_DEFINE('registry', 'Entries of the registry of named objects');
/** How long a thread that met a dead one's work waits before it looks again, ms. */
const SETTLE_SLICE_MS = 1;

/** Lays the root record out, while boot_alloc still works. */
export function registry_boot(): void {
  const r = boot_alloc(root.sizeof, 'the registry of names', 16) as reg_root_t;
  machine.roots[elem(M, ROOT_LIB)] = r;
  mtx_init(root.lock, r, LC_REGISTRY);
}
export function registry_root(): reg_root_t {
  return machine.roots[elem(M, ROOT_LIB)] as reg_root_t;
}

// --- the lock --------------------------------------------------------------------------------

/** Takes the registry's lock; what a dead thread left half done has been taken back then. */
export function registry_lock(): void {
  const r = registry_root();
  for (;;) {
    mtx_lock(root.lock, r);
    if (root.worker[r] === 0) return;
    if (root.worker[r] === thr.tid) return registry_mend(r); // an exception left it
    mtx_unlock(root.lock, r);
    poll();
    if (reap_all() === 0 && !opt.SIM) host_sleep(SETTLE_SLICE_MS); // another thread settles it
  }
}
/** Gives the lock back. Zones that were marked going meanwhile end, as far as they can now. */
export function registry_unlock(): void {
  const r = registry_root();
  if (root.worker[r] !== 0) registry_mend(r);
  mtx_unlock(root.lock, r);
}
/** Takes back what is half made and ends what is half ended. The lock is held. */
function registry_mend(r: reg_root_t): void {
  root.worker[r] = thr.tid;
  if (root.work[r] !== NULL) registry_end_work(r);
  free_at(field_word(root.fresh, r), M_REGISTRY.t);
  root.worker[r] = 0;
}

// --- names -----------------------------------------------------------------------------------

/** A name, made ready for looking it up. */
export interface RegKey {
  readonly kind: number;
  readonly hash: number;
  readonly bytes: Uint8Array;
}
const encoder = new TextEncoder();
const keys = new Map<string, RegKey>();
/** Keys of names that were asked for lately are kept. */
const KEYS_KEPT = 1024;
export function registry_key(kind: RegKind, name: string): RegKey {
  const text = `${kind}:${name}`;
  const known = keys.get(text);
  if (known) return known;
  const bytes = encoder.encode(name);
  const number = reg_kind(kind);
  let h = 0x811c9dc5 ^ number;
  for (const b of bytes) h = Math.imul(h ^ b, 0x01000193);
  const key = { kind: number, hash: h, bytes };
  if (keys.size >= KEYS_KEPT) keys.clear();
  keys.set(text, key);
  return key;
}
function head_of(r: reg_root_t, hash: number): reg_root_t {
  return elem(r, (hash ^ (hash >>> 15)) & (REG_BUCKETS - 1));
}
/** The entry of a name, NULL if there is none. The lock is held. */
export function registry_find(key: RegKey): reg_entry_t {
  const r = registry_root();
  let e = root.heads[head_of(r, key.hash)] as reg_entry_t;
  while (e !== NULL && !(entry.hash[e] === key.hash && same_name(e, key))) e = entry.next[e];
  return e;
}
function same_name(e: reg_entry_t, key: RegKey): boolean {
  const n = key.bytes.length;
  if (entry.kind[e] !== key.kind || entry.name_bytes[e] !== n) return false;
  const at = text_at(e) * 4;
  for (let i = 0; i < n; i++) if (mem.U8[at + i] !== key.bytes[i]) return false;
  return true;
}
/** Word of the user on a CPU. */
function user_word(e: reg_entry_t, cpu: number): number {
  return e + entry.sizeof + cpu;
}
function text_at(e: reg_entry_t): number {
  return user_word(e, cpu_slots());
}
function text(at: number, n: number): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(mem.U8.slice(at, at + n));
}
/** The name of an entry. */
export function registry_name(e: reg_entry_t): string {
  return text(text_at(e) * 4, entry.name_bytes[e]);
}
/** The shape of an entry. */
export function registry_shape(e: reg_entry_t): string {
  return text(text_at(e) * 4 + entry.name_bytes[e], entry.shape_bytes[e]);
}
/** The kind of an entry. */
export function registry_kind(e: reg_entry_t): RegKind {
  return REG_KINDS[entry.kind[e] - 1];
}

// --- entries, under the lock -----------------------------------------------------------------

/**
 * Links an entry in state MAKING.  NULL: no memory.  The caller makes its parts
 * and then calls registry_ready, or registry_end to take it back.
 */
export function registry_add(key: RegKey, shape: string): reg_entry_t {
  const r = registry_root();
  const shape_bytes = encoder.encode(shape);
  const head = (entry.sizeof + cpu_slots()) * 4;
  root.worker[r] = thr.tid;
  const size = head + key.bytes.length + shape_bytes.length;
  const e = malloc_at(size, M_REGISTRY.t, field_word(root.fresh, r)) as reg_entry_t;
  if (e === NULL) {
    root.worker[r] = 0;
    return e;
  }
  entry.kind[e] = key.kind;
  entry.hash[e] = key.hash;
  entry.name_bytes[e] = key.bytes.length;
  entry.shape_bytes[e] = shape_bytes.length;
  entry.state[e] = REG_MAKING;
  mem.U8.set(key.bytes, text_at(e) * 4);
  mem.U8.set(shape_bytes, text_at(e) * 4 + key.bytes.length);
  const at = head_of(r, key.hash);
  undo_begin(root.lock, r);
  save(root.heads, at);
  save(root.count, r);
  save(root.work, r);
  save(root.fresh, r);
  entry.next[e] = root.heads[at] as reg_entry_t;
  root.heads[at] = e;
  root.count[r]++;
  root.work[r] = e;
  root.fresh[r] = NULL as reg_entry_t;
  undo_end();
  return e;
}
/** All parts are there: the entry is an object. */
export function registry_ready(e: reg_entry_t): void {
  const r = registry_root();
  undo_begin(root.lock, r);
  save(entry.state, e);
  save(root.work, r);
  save(root.worker, r);
  entry.state[e] = REG_READY;
  root.work[r] = NULL as reg_entry_t;
  root.worker[r] = 0;
  undo_end();
}
/** Ends an entry: its parts, its waiters, its name. */
export function registry_end(e: reg_entry_t): void {
  const r = registry_root();
  if (opt.INVARIANTS && !mtx_owned(root.lock, r)) panic('registry_end: the lock is not held');
  undo_begin(root.lock, r);
  save(entry.state, e);
  save(root.work, r);
  save(root.worker, r);
  entry.state[e] = REG_GOING;
  root.work[r] = e;
  root.worker[r] = thr.tid;
  undo_end();
  if (opt.SIM) sim_point(e);
  registry_mend(r);
}
function registry_end_work(r: reg_root_t): void {
  const e = root.work[r];
  entry.state[e] = REG_GOING;
  registry_end_parts(e);
  // Whoever still waits here waits for an object that is no more, and another may lie here soon.
  for (let i = 0; i < REG_STATES; i++) wakeup(field_word(entry.count, elem(e, i)));
  registry_unlink(r, e);
}
/** Takes the entry of the work off its bucket; its block is `fresh` then. */
function registry_unlink(r: reg_root_t, e: reg_entry_t): void {
  const at = head_of(r, entry.hash[e]);
  undo_begin(root.lock, r);
  if (root.heads[at] === e) {
    save(root.heads, at);
    root.heads[at] = entry.next[e];
  } else {
    let before = root.heads[at] as reg_entry_t;
    while (entry.next[before] !== e) {
      if (before === NULL) panic('registry: an entry is not in its bucket', e * 4);
      before = entry.next[before];
    }
    save(entry.next, before);
    entry.next[before] = entry.next[e];
  }
  save(root.count, r);
  save(root.work, r);
  save(root.fresh, r);
  root.count[r]--;
  root.work[r] = NULL as reg_entry_t;
  root.fresh[r] = e;
  undo_end();
}
/** Ends the zones that ended objects had. No lock is held; may wait a moment for other CPUs. */
export function registry_settle(): void {
  uma_going_end();
}
/** Calls `fn` for every entry that is an object. The lock is held. */
export function registry_each(fn: (e: reg_entry_t, kind: RegKind) => void): void {
  const r = registry_root();
  for (let b = 0; b < REG_BUCKETS; b++) {
    for (let e = root.heads[elem(r, b)] as reg_entry_t; e !== NULL; ) {
      const next = entry.next[e];
      fn(e, registry_kind(e));
      e = next;
    }
  }
}

/** After a death in a section that was too long for its undo log: walks the names. */
export function registry_recover(l: number): void {
  const r = registry_root();
  const torn = (what: string): never =>
    panic(`lock of the registry at ${l * 4} was held by a thread that died: ${what}`);
  let n = 0;
  for (let b = 0; b < REG_BUCKETS; b++) {
    for (let e = root.heads[elem(r, b)] as reg_entry_t; e !== NULL; e = entry.next[e]) {
      if (head_of(r, entry.hash[e]) !== elem(r, b)) torn(`entry ${e * 4} in a wrong bucket`);
      if (++n > root.count[r]) torn('more entries than are counted');
    }
  }
  if (n !== root.count[r]) torn(`${n} entries, ${root.count[r]} counted`);
}

// --- users -----------------------------------------------------------------------------------

/** Notes whether this thread has the object. The lock is held. */
export function registry_use(e: reg_entry_t, on: boolean): void {
  mem.I32[user_word(e, thr.cpu)] = on ? thr.tid : 0;
}
/** Whether a living thread other than this one has the object. The lock is held. */
export function registry_used_by_others(e: reg_entry_t): boolean {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const tid = mem.I32[user_word(e, cpu)];
    if (tid !== 0 && cpu !== thr.cpu && tid_alive(tid)) return true;
  }
  return false;
}
/** This thread is one of the program, not of the kernel. */
export function registry_join(): void {
  atomic_store(field_word(pcpu.program, thr.pc), 1);
}
/** Whether another living thread of the program is attached. */
export function registry_others(): boolean {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (cpu === thr.cpu || atomic_load(field_word(pcpu.program, pcpu_of(cpu))) === 0) continue;
    if (cpu_alive(cpu)) return true;
  }
  return false;
}
function forget(cpu: number): void {
  registry_each((e) => {
    mem.I32[user_word(e, cpu)] = 0;
  });
}

// --- locks of the program ----------------------------------------------------------------------

/** The lock word of a mutex or rwlock, 0 for another kind. */
function lock_of(e: reg_entry_t, kind: RegKind): number {
  return kind === 'mutex' || kind === 'rwlock' ? e + entry.lock : 0;
}
/** What the lock at `l` is called: "mutex 'index'"; '' if no entry is there. Takes no lock. */
export function registry_lock_label(l: number): string {
  const e = (l - entry.lock) as reg_entry_t;
  const kind = REG_KINDS[reg_entry.kind[e] - 1];
  const n = reg_entry.name_bytes[e];
  const sound = (kind === 'mutex' || kind === 'rwlock') && n > 0 && n <= NAME_BYTES_MAX;
  return sound ? `${kind} '${registry_name(e)}'` : '';
}
/** Longest name of an object, bytes. */
const NAME_BYTES_MAX = 31;
/** The locks of the program that this thread has, in any way, by name. */
export function registry_locks_held(): string[] {
  const reads = new Set(rw_read_holds(thr.cpu));
  const held: string[] = [];
  if (registry_root() === NULL) return held;
  registry_lock();
  registry_each((e, kind) => {
    const l = lock_of(e, kind);
    if (l === 0 || !(reads.has(l) || lock_owner_tid(l) === thr.tid)) return;
    held.push(`${kind} '${registry_name(e)}'`);
  });
  registry_unlock();
  return held;
}
/**
 * What becomes of the program's own locks that a thread held alone when it left or
 * died: the one place where they are abandoned.  The registry's lock is held.
 */
function abandon_locks(tid: number): void {
  registry_each((e, kind) => {
    if (kind === 'mutex') mtx_abandon(e + entry.lock, tid);
    else if (kind === 'rwlock') rw_abandon(e + entry.lock, tid);
  });
}

// --- leaving and dying -------------------------------------------------------------------------

/** This thread leaves the machine: it has no objects any more. */
export function registry_leave(): void {
  if (registry_root() === NULL) return;
  registry_lock();
  abandon_locks(thr.tid);
  forget(thr.cpu);
  registry_unlock();
  atomic_store(field_word(pcpu.program, thr.pc), 0);
}
/**
 * The same for a CPU that died, and its half-done work is taken back.  After all
 * lower floors: what it had in its hands has been settled.  A thread that makes
 * or ends an object may reap on its way, when it wants memory: then it has the
 * lock, and the dead CPU was not at work.
 */
export function registry_reap(cpu: number): void {
  const r = registry_root();
  if (r === NULL) return;
  const mine = mtx_owned(root.lock, r);
  if (!mine) mtx_lock(root.lock, r);
  if (tid_cpu(root.worker[r]) === cpu) registry_mend(r);
  let tid = 0; // whoever holds a lock of an entry is among its users
  registry_each((e) => {
    tid ||= mem.I32[user_word(e, cpu)];
  });
  if (tid !== 0) abandon_locks(tid);
  forget(cpu);
  if (!mine) mtx_unlock(root.lock, r);
  atomic_store(field_word(pcpu.program, pcpu_of(cpu)), 0);
  if (!mine) registry_settle();
}

/** Proves the registry. Panics if it is wrong. The machine is quiet. */
export function registry_check(): void {
  const r = registry_root();
  const queues: reg_entry_t[] = [];
  registry_lock();
  let n = 0;
  registry_each((e, kind) => {
    n++;
    const name = registry_name(e);
    const key = registry_key(kind, name);
    if (key.hash !== entry.hash[e] || registry_find(key) !== e) {
      panic('registry_check: an entry is not found by its name', name);
    }
    if (entry.state[e] !== REG_READY) panic('registry_check: state', name, entry.state[e]);
    if (kind === 'queue') queues.push(e);
    else if (kind === 'records') records_check(e);
    for (let cpu = 0; cpu < cpu_slots(); cpu++) {
      const tid = mem.I32[user_word(e, cpu)];
      if (tid !== 0 && tid_cpu(tid) !== cpu) panic('registry_check: a user', name, cpu, tid);
    }
  });
  if (n !== root.count[r]) panic('registry_check: count', n, root.count[r]);
  if (root.work[r] !== NULL || root.fresh[r] !== NULL) panic('registry_check: work is left');
  registry_unlock();
  for (const e of queues) queue_check(e); // their locks are of the same class
}
