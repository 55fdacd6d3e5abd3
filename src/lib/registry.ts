/*
 * registry: names that every thread finds.
 *
 *      machine.roots[ROOT_LIB] -> lock | buckets[64] -> entry -> entry
 *
 *      entry   0 next   1 kind   2 hash   3 bytes of the name   4 of the shape
 *              5, 6 users: a bit for each CPU whose thread has the object
 *              8..15 values of its kind       16..23 a lock, on a line of its own
 *              24..31 counts of its kind      32.. name, then shape, UTF-8
 *
 * The shape is a text: two threads that ask for one name with different shapes
 * get EEXIST with both.  Whoever asks first makes the object, under the
 * registry's lock, so that two threads never make two.  The root record is made
 * at first use and put in place by one compare-and-swap.
 *
 * An object ends when its last user lets go of it.  Users are bits of CPU slots;
 * bits of threads that died count for nothing, and a thread that attaches clears
 * the bits that an earlier owner of its slot left.
 *
 * Locks.  The lock's class is `registry`, recovery `undo`: links and counts
 * change inside undo sections.  Making an object takes malloc and zone locks
 * inside it, and never waits for memory.
 *
 * The root record also knows which CPUs are threads of the program: the page
 * daemon is a CPU too, but never frees what a program holds.
 *
 * Entries are plain words and not struct(): threads without the façade (the page
 * daemon) attach to the same machine, and structures are part of what they must
 * agree on.
 */
import { atomic_cas, atomic_load } from '../sys/machine/atomic.ts';
import { thr } from '../sys/machine/cpu.ts';
import { cpu_alive } from '../sys/machine/death.ts';
import { EEXIST, ENOENT, ENOMEM } from '../sys/machine/errno.ts';
import { M, machine, ROOT_LIB } from '../sys/machine/header.ts';
import { mem } from '../sys/machine/memory.ts';
import { panic } from '../sys/machine/panic.ts';
import { elem, field_word, type LockField } from '../sys/machine/struct.ts';
import { M_NOWAIT, M_ZERO } from '../sys/h/malloc_flags.ts';
import type { malloc_type_t } from '../sys/h/malloc.ts';
import { free, malloc } from '../sys/kmem/kern_malloc.ts';
import { malloc_type_find_or_make } from '../sys/kmem/kern_malloc_type.ts';
import { mtx_init, mtx_lock_word, mtx_unlock_word } from '../sys/sync/kern_mutex.ts';
import { LC_REGISTRY } from '../sys/sync/lock_order.ts';
import { save_word, undo_begin, undo_end } from '../sys/sync/undo.ts';
import { bracket } from './context.ts';
import { kmemError } from './errors.ts';

export type Kind = 'zone' | 'records' | 'mutex' | 'rwlock' | 'condition' | 'queue' | 'root';
const KINDS: readonly Kind[] = ['zone', 'records', 'mutex', 'rwlock', 'condition', 'queue', 'root'];

/* Words of the root record. */
const R_TYPE = 4;
const R_COUNT = 5;
const R_THREADS = 6; // a bit for each CPU whose thread came through the façade
const R_DAEMON = 8; // 1: the page daemon has a CPU too
const R_HEADS = 12;
const BUCKETS = 64;
const ROOT_BYTES = (R_HEADS + BUCKETS) * 4;

/* Words of an entry. */
const E_NEXT = 0;
const E_KIND = 1;
const E_HASH = 2;
const E_NAME_BYTES = 3;
const E_SHAPE_BYTES = 4;
const E_USERS = 5;
/** First of eight words for what the kind needs; even, so that pairs may be a double. */
export const E_VALUE = 8;
/** First word of the entry's lock. */
export const E_LOCK = 16;
/** First of eight words for counts and wait channels of the kind. */
export const E_STATE = 24;
const E_TEXT = 32;

/** No lock is embedded in a structure here: the word itself is given. */
export const WORD = 0 as LockField<number>;
/** The malloc type that the façade's own records are counted under. */
export const LIB_TYPE = 'registry';

function rootWord(): number {
  return field_word(machine.roots, elem(M, ROOT_LIB));
}
function registry(op: string): number {
  const r = atomic_load(rootWord());
  return r !== 0 ? r : registryMake(op);
}
function registryMake(op: string): number {
  const t = malloc_type_find_or_make(LIB_TYPE);
  const r = t === 0 ? 0 : malloc(ROOT_BYTES, t, M_NOWAIT | M_ZERO);
  if (r === 0) throw kmemError(ENOMEM, op, 'no memory for the registry of names');
  mtx_init(WORD, r, LC_REGISTRY);
  mem.I32[r + R_TYPE] = t;
  const other = atomic_cas(rootWord(), 0, r);
  if (other === 0) return r;
  free(r, t);
  return other;
}

function locked<T>(r: number, run: () => T): T {
  mtx_lock_word(r, Number.POSITIVE_INFINITY);
  return bracket(run, () => mtx_unlock_word(r));
}

// --- names --------------------------------------------------------------------------------

interface Key {
  readonly kind: number;
  readonly hash: number;
  readonly bytes: Uint8Array;
}
const encoder = new TextEncoder();
const keys = new Map<string, Key>();
/** Keys of names that were asked for lately are kept. */
const KEYS_KEPT = 1024;
function keyOf(kind: Kind, name: string): Key {
  const text = `${kind}:${name}`;
  const known = keys.get(text);
  if (known) return known;
  const bytes = encoder.encode(name);
  const number = KINDS.indexOf(kind) + 1;
  let h = 0x811c9dc5 ^ number;
  for (const b of bytes) h = Math.imul(h ^ b, 0x01000193);
  const key = { kind: number, hash: h, bytes };
  if (keys.size >= KEYS_KEPT) keys.clear();
  keys.set(text, key);
  return key;
}
function headOf(r: number, hash: number): number {
  return r + R_HEADS + ((hash ^ (hash >>> 15)) & (BUCKETS - 1));
}
function find(r: number, key: Key): number {
  const words = mem.I32;
  for (let e = words[headOf(r, key.hash)]; e !== 0; e = words[e + E_NEXT]) {
    if (words[e + E_HASH] === key.hash && words[e + E_KIND] === key.kind && sameName(e, key)) {
      return e;
    }
  }
  return 0;
}
function sameName(e: number, key: Key): boolean {
  const n = key.bytes.length;
  if (mem.I32[e + E_NAME_BYTES] !== n) return false;
  const at = (e + E_TEXT) * 4;
  for (let i = 0; i < n; i++) if (mem.U8[at + i] !== key.bytes[i]) return false;
  return true;
}
function text(at: number, n: number): string {
  return new TextDecoder().decode(mem.U8.slice(at, at + n));
}
/** The name of an entry. */
export function entryName(e: number): string {
  return text((e + E_TEXT) * 4, mem.I32[e + E_NAME_BYTES]);
}
/** The shape of an entry. */
export function entryShape(e: number): string {
  return text((e + E_TEXT) * 4 + mem.I32[e + E_NAME_BYTES], mem.I32[e + E_SHAPE_BYTES]);
}

// --- entries, under the lock ---------------------------------------------------------------

function entryMake(r: number, key: Key, shape: string, op: string): number {
  const shape_bytes = encoder.encode(shape);
  const size = E_TEXT * 4 + key.bytes.length + shape_bytes.length;
  const e = malloc(size, mem.I32[r + R_TYPE] as malloc_type_t, M_NOWAIT | M_ZERO);
  if (e === 0) throw kmemError(ENOMEM, op, 'no memory for an entry of the registry', { size });
  const words = mem.I32;
  words[e + E_KIND] = key.kind;
  words[e + E_HASH] = key.hash;
  words[e + E_NAME_BYTES] = key.bytes.length;
  words[e + E_SHAPE_BYTES] = shape_bytes.length;
  mem.U8.set(key.bytes, (e + E_TEXT) * 4);
  mem.U8.set(shape_bytes, (e + E_TEXT) * 4 + key.bytes.length);
  return e;
}
function entryFree(r: number, e: number): void {
  free(e, mem.I32[r + R_TYPE] as malloc_type_t);
}
function link(r: number, e: number): void {
  const head = headOf(r, mem.I32[e + E_HASH]);
  undo_begin(WORD, r);
  save_word(head);
  save_word(r + R_COUNT);
  mem.I32[e + E_NEXT] = mem.I32[head];
  mem.I32[head] = e;
  mem.I32[r + R_COUNT]++;
  undo_end();
}
function unlink(r: number, e: number): void {
  let at = headOf(r, mem.I32[e + E_HASH]);
  while (mem.I32[at] !== e) {
    if (mem.I32[at] === 0) panic('registry: an entry is not in its bucket', e * 4);
    at = mem.I32[at] + E_NEXT;
  }
  undo_begin(WORD, r);
  save_word(at);
  save_word(r + R_COUNT);
  mem.I32[at] = mem.I32[e + E_NEXT];
  mem.I32[r + R_COUNT]--;
  undo_end();
}
function userWord(e: number, cpu: number): number {
  return e + E_USERS + (cpu >> 5);
}
function userSet(e: number, cpu: number, on: boolean): void {
  const bit = 1 << (cpu & 31);
  const w = userWord(e, cpu);
  mem.I32[w] = on ? mem.I32[w] | bit : mem.I32[w] & ~bit;
}
/** Whether a living thread other than this one has the object. */
function usedByOthers(e: number): boolean {
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    const used = (mem.I32[userWord(e, cpu)] & (1 << (cpu & 31))) !== 0;
    if (used && cpu !== thr.cpu && cpu_alive(cpu)) return true;
  }
  return false;
}

// --- what the façade's objects call ------------------------------------------------------------

/**
 * The entry of a name, made by `build` if there is none; this thread becomes a
 * user.  `shape` null asks for whatever shape there is.  Throws EEXIST if it
 * exists with another shape, ENOENT if it is asked for without one and does not
 * exist, ENOMEM, and what `build` throws.  Does not wait.
 */
export function obtain(
  kind: Kind,
  name: string,
  shape: string | null,
  build: (e: number) => void,
): number {
  const r = registry(kind);
  const key = keyOf(kind, name);
  return locked(r, () => {
    let e = find(r, key);
    if (e === 0) {
      if (shape === null) {
        throw kmemError(ENOENT, kind, `there is no ${kind} '${name}': give its shape to make it`);
      }
      e = entryMake(r, key, shape, kind);
      const made = e;
      try {
        build(made);
      } catch (error) {
        entryFree(r, made);
        throw error;
      }
      link(r, made);
    } else if (shape !== null && entryShape(e) !== shape) {
      const there = entryShape(e);
      throw kmemError(EEXIST, kind, `'${name}' exists as ${there}; asked for ${shape}`);
    }
    userSet(e, thr.cpu, true);
    return e;
  });
}
/**
 * This thread lets go of an object.  If no living thread has it any more and
 * it is not `busy`, its name is free again and `destroy` ends it.
 */
export function release(kind: Kind, e: number, busy: () => boolean, destroy: () => void): void {
  const r = registry(kind);
  locked(r, () => {
    if (usedByOthers(e) || busy()) return userSet(e, thr.cpu, false);
    unlink(r, e); // first: a thread that dies here leaves no name that leads to nothing
    destroy();
    entryFree(r, e);
  });
}
/** Runs `fn` on the entry of a name (0: there is none) under the registry's lock. */
export function withEntry<T>(kind: Kind, name: string, fn: (e: number) => T): T {
  const r = registry(kind);
  const key = keyOf(kind, name);
  return locked(r, () => fn(find(r, key)));
}
/** Makes the entry of a name that has none. The registry's lock is held (withEntry). */
export function addEntry(kind: Kind, name: string, fill: (e: number) => void): void {
  const r = registry(kind);
  const e = entryMake(r, keyOf(kind, name), '', kind);
  fill(e);
  link(r, e);
}
/** Takes an entry out and frees it. The registry's lock is held (withEntry). */
export function dropEntry(kind: Kind, e: number): void {
  const r = registry(kind);
  unlink(r, e);
  entryFree(r, e);
}
/** Calls `fn` for every entry, under the registry's lock. */
export function eachEntry(fn: (e: number, kind: Kind) => void): void {
  const r = atomic_load(rootWord());
  if (r === 0) return;
  locked(r, () => walk(r, fn));
}
function walk(r: number, fn: (e: number, kind: Kind) => void): void {
  for (let b = 0; b < BUCKETS; b++) {
    for (let e = mem.I32[r + R_HEADS + b]; e !== 0; ) {
      const next = mem.I32[e + E_NEXT];
      fn(e, KINDS[mem.I32[e + E_KIND] - 1]);
      e = next;
    }
  }
}
/** This thread joins: it has no objects yet, whatever an earlier owner of its CPU had. */
export function joinRegistry(pagedaemon: boolean): void {
  if (pagedaemon) mem.I32[registry('boot') + R_DAEMON] = 1;
  forgetUser(true);
}
/** This thread leaves: it has no objects any more. */
export function leaveRegistry(): void {
  forgetUser(false);
}
function forgetUser(here: boolean): void {
  const r = atomic_load(rootWord());
  if (r === 0) return;
  const bit = 1 << (thr.cpu & 31);
  const w = r + R_THREADS + (thr.cpu >> 5);
  locked(r, () => {
    mem.I32[w] = here ? mem.I32[w] | bit : mem.I32[w] & ~bit;
    walk(r, (e) => userSet(e, thr.cpu, false));
  });
}
/** Whether another living thread of the program is attached. */
export function othersAttached(): boolean {
  const r = atomic_load(rootWord());
  // The daemon did not come through the façade: one such CPU is discounted if there is one.
  let unknown = r !== 0 && mem.I32[r + R_DAEMON] !== 0 ? -1 : 0;
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    if (cpu === thr.cpu || !cpu_alive(cpu)) continue;
    const known = r !== 0 && (mem.I32[r + R_THREADS + (cpu >> 5)] & (1 << (cpu & 31))) !== 0;
    if (known || ++unknown > 0) return true;
  }
  return false;
}
/** Proves the registry: counts, hashes, kinds. Panics if it is wrong. The machine is quiet. */
export function registryCheck(): void {
  const r = atomic_load(rootWord());
  if (r === 0) return;
  locked(r, () => {
    let n = 0;
    walk(r, (e, kind) => {
      n++;
      const key = keyOf(kind, entryName(e));
      if (key.hash !== mem.I32[e + E_HASH] || find(r, key) !== e) {
        panic('registry_check: an entry is not found by its name', entryName(e));
      }
    });
    if (n !== mem.I32[r + R_COUNT]) panic('registry_check: count', n, mem.I32[r + R_COUNT]);
  });
}
