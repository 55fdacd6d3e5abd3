/*
 * lock_prof: how long locks are held and waited for, by the place that takes them;
 * of a program's own lock, by its name.
 *
 * With debug.mutex.prof.enable = 1 each acquisition is charged to a record,
 * keyed by file:line (or `mutex 'index'`) and the class of the lock.  debug.mutex.prof.stats prints
 * the table, times in microseconds:
 *
 *         max        total       count   avg     cnt_hold     cnt_lock name
 *          41         1033         500     2            3            1 uma_core.ts:310 (UMA zone)
 *
 * cnt_lock counts the times that this place found its lock held; cnt_hold, how
 * often others came while this place held it.  For the latter the holder
 * leaves its record's number in the spare word of the lock, where the next to come
 * finds it: a hint, never needed for safety.
 *
 *      slots   hash(key) -> record number + 1, probed onwards on a collision
 *      keys    file:line and class of each record, written once
 *      times   for each CPU and record: max, total, count, cnt_hold, cnt_lock,
 *              plain additions by that CPU alone; a reader sums over the CPUs
 *
 * A record is filled in before its number is put into a slot with one
 * compare-and-swap, so a thread that dies between loses one record at most.
 * The profiler takes no lock.  A recursion is not counted.  Resetting while
 * CPUs run may miss what is being added at that moment.
 *
 * Everything is behind `if (opt.MUTEX_PROFILING)` at its callers, which call by way of
 * machine/parts.ts, and while enable is 0 an acquisition costs one load.  What it keeps in the
 * memory is declared in lock_prof_vars.ts.
 */
import { atomic_add, atomic_cas, atomic_load, atomic_store } from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import { cpu_slots, thr } from '../machine/cpu.ts';
import { boot_alloc, M, machine, ROOT_PROF } from '../machine/header.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { elem, field_word, get_string, NULL, set_string } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { type sbuf, sbuf_cat, sbuf_printf } from '../machine/sbuf.ts';
import { lock_label } from './lock_label.ts';
import { lock_order } from './lock_order.ts';
import { LOCK_CLASS } from './lock_word.ts';
import {
  prof,
  prof_enable,
  prof_key,
  type prof_key_t,
  prof_root,
  type prof_t,
  WHERE_WORDS,
} from './lock_prof_vars.ts';
import { stack_save, stack_where } from './subr_stack.ts';

const RECORDS_MAX = 1000;
const HASH_SIZE = 1009;
/** Spare words that carry the holder's record: of a mutex, and of an rw or sx lock. */
const MTX_SPARE = 3;
const RW_SPARE = 5;
/* Doubles of one CPU in one record. */
const T_MAX = 0;
const T_TOTAL = 1;
const T_COUNT = 2;
const T_HOLD = 3;
const T_LOCK = 4;
const T_DOUBLES = 5;
const NS_PER_MS = 1e6;

function key_at(i: number): prof_key_t {
  return (prof.keys[prof_root()] + i * prof_key.sizeof) as prof_key_t;
}
/** Index into mem.F64 of the figures of `cpu` in record `i`. */
function times_at(cpu: number, i: number): number {
  const r = prof_root();
  return ((prof.times[r] + cpu * prof.cpu_words[r]) >> 1) + i * T_DOUBLES;
}

/** Lays the table out, if the option is on: smaller in a small memory. */
export function prof_boot(): void {
  if (!opt.MUTEX_PROFILING) return;
  const records = Math.max(16, Math.min(RECORDS_MAX, machine.npages[M] >> 4));
  const r = boot_alloc(prof.sizeof, 'lock profile') as prof_t;
  prof.records_max[r] = records;
  prof.hash_size[r] = records === RECORDS_MAX ? HASH_SIZE : records + 9;
  prof.slots[r] = boot_alloc(prof.hash_size[r], 'lock profile');
  prof.keys[r] = boot_alloc(records * prof_key.sizeof, 'lock profile keys') as prof_key_t;
  prof.cpu_words[r] = Math.ceil((records * T_DOUBLES * 2) / 32) * 32;
  prof.times[r] = boot_alloc(prof.cpu_words[r] * cpu_slots(), 'lock profile times', 32);
  machine.roots[elem(M, ROOT_PROF)] = r;
}

// --- records ---------------------------------------------------------------------

interface Hold {
  readonly lock: number;
  readonly record: number;
  readonly since: number;
  /** Times it was taken again meanwhile. */
  depth: number;
}
/** What this thread knows, by CPU: its holds, the records it met, one it could not publish. */
interface Mine {
  readonly tid: number;
  readonly id: number;
  readonly epoch: number;
  readonly holds: Hold[];
  readonly known: Map<string, number>;
  unused: number;
}
const mine_by_cpu: Mine[] = [];
function mine(): Mine {
  const epoch = atomic_load(field_word(prof.epoch, prof_root()));
  const m = mine_by_cpu[thr.cpu];
  const id = machine.id_low[M];
  if (m && m.tid === thr.tid && m.epoch === epoch && m.id === id) return m;
  const made: Mine = { tid: thr.tid, id, epoch, holds: [], known: new Map(), unused: -1 };
  mine_by_cpu[thr.cpu] = made;
  return made;
}
function running(): boolean {
  return thr.cpu >= 0 && prof_root() !== NULL && sysctl_get(prof_enable) !== 0;
}

/** The record of a place and class, made if need be; -1: there is no room. */
function record_of(m: Mine, where: string, cls: number): number {
  const text = `${where} ${cls}`;
  const known = m.known.get(text);
  if (known !== undefined) return known;
  const r = prof_root();
  let h = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
  const size = prof.hash_size[r];
  for (let i = 0; i < size; i++) {
    const slot = prof.slots[r] + (((h >>> 0) + i) % size);
    let v = atomic_load(slot);
    if (v === 0) {
      const fresh = record_make(m, where, cls, h);
      if (fresh < 0) return -1;
      v = atomic_cas(slot, 0, fresh + 1);
      if (v === 0) {
        m.unused = -1;
        v = fresh + 1;
      }
    }
    if (record_is(v - 1, where, cls, h)) {
      m.known.set(text, v - 1);
      return v - 1;
    }
    atomic_add(field_word(prof.collisions, r), 1);
  }
  return -1;
}
function record_is(i: number, where: string, cls: number, hash: number): boolean {
  const k = key_at(i);
  const cut = where.slice(0, WHERE_WORDS * 4 - 1);
  return (
    prof_key.line[k] === hash &&
    prof_key.cls[k] === cls &&
    get_string(prof_key.where, k, WHERE_WORDS) === cut
  );
}
/** A filled record that no slot names yet. */
function record_make(m: Mine, where: string, cls: number, hash: number): number {
  const r = prof_root();
  if (m.unused < 0) {
    const n = atomic_add(field_word(prof.records, r), 1);
    if (n >= prof.records_max[r]) {
      atomic_add(field_word(prof.records, r), -1);
      return -1;
    }
    m.unused = n;
  }
  const k = key_at(m.unused);
  prof_key.cls[k] = cls;
  prof_key.line[k] = hash;
  set_string(prof_key.where, k, WHERE_WORDS, where);
  return m.unused;
}

// --- what the locks report ----------------------------------------------------------

/** The word of a lock that names the record of its holder. */
function spare(l: number): number {
  const kind = lock_order[mem.I32[l + LOCK_CLASS]].kind;
  return l + (kind === 'mtx' ? MTX_SPARE : RW_SPARE);
}
/** A CPU found the lock held and is about to wait: its holder is charged. */
export function prof_contended(l: number): void {
  if (!running() || mine().holds.some((h) => h.lock === l)) return;
  const record = atomic_load(spare(l)) - 1;
  if (record < 0 || record >= prof.records_max[prof_root()]) return;
  mem.F64[times_at(thr.cpu, record) + T_HOLD]++;
}
/** A lock was taken, after `waited_ms` if it was held by another. */
export function prof_acquired(l: number, contended: boolean, _waited_ms: number): void {
  if (!running()) return;
  const m = mine();
  const held = m.holds.find((h) => h.lock === l);
  if (held) {
    held.depth++; // a recursion is not counted
    return;
  }
  const where = lock_label(l) || stack_where(stack_save());
  const record = record_of(m, where, mem.I32[l + LOCK_CLASS]);
  if (record < 0) {
    atomic_add(field_word(prof.rejected, prof_root()), 1);
    return;
  }
  if (contended) mem.F64[times_at(thr.cpu, record) + T_LOCK]++;
  m.holds.push({ lock: l, record, since: now_ms(), depth: 0 });
  atomic_store(spare(l), record + 1);
}
/** A lock is given back. */
export function prof_released(l: number): void {
  if (thr.cpu < 0 || prof_root() === NULL) return;
  const m = mine();
  const at = m.holds.findLastIndex((h) => h.lock === l);
  if (at < 0 || m.holds[at].depth-- > 0) return;
  const [h] = m.holds.splice(at, 1);
  atomic_store(spare(l), 0);
  const ns = Math.max(0, (now_ms() - h.since) * NS_PER_MS);
  const t = times_at(thr.cpu, h.record);
  if (ns > mem.F64[t + T_MAX]) mem.F64[t + T_MAX] = ns;
  mem.F64[t + T_TOTAL] += ns;
  mem.F64[t + T_COUNT]++;
}

// --- what the tools see ---------------------------------------------------------------

interface Sum {
  max: number;
  total: number;
  count: number;
  hold: number;
  lock: number;
}
function sum_of(record: number): Sum {
  const sum = { max: 0, total: 0, count: 0, hold: 0, lock: 0 };
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const t = times_at(cpu, record);
    sum.max = Math.max(sum.max, mem.F64[t + T_MAX]);
    sum.total += mem.F64[t + T_TOTAL];
    sum.count += mem.F64[t + T_COUNT];
    sum.hold += mem.F64[t + T_HOLD];
    sum.lock += mem.F64[t + T_LOCK];
  }
  return sum;
}
/** Records that a slot names, in the order in which they were taken. */
function published(): number[] {
  if (prof_root() === NULL) return [];
  const r = prof_root();
  const list: number[] = [];
  for (let i = 0; i < prof.hash_size[r]; i++) {
    const v = atomic_load(prof.slots[r] + i);
    if (v !== 0) list.push(v - 1);
  }
  return list.sort((a, b) => a - b);
}

/** Whether a slot names the record with this key: from then on it stays as it is. */
export function prof_published(at: number): boolean {
  return published().includes(Math.floor((at - prof.keys[prof_root()]) / prof_key.sizeof));
}
/** Writes debug.mutex.prof.stats. */
export function prof_stats(s: sbuf): void {
  const whole = Math.floor;
  let rows = 0;
  for (const record of published()) {
    const t = sum_of(record);
    if (t.count === 0 && t.hold === 0 && t.lock === 0) continue;
    const head = ['max', 'total', 'count', 'avg', 'cnt_hold', 'cnt_lock'];
    if (rows++ === 0) sbuf_printf(s, '\n%6s %12s %11s %5s %12s %12s name\n', ...head);
    const k = key_at(record);
    const avg = t.count === 0 ? 0 : t.total / (t.count * 1000);
    const times = [t.max / 1000, t.total / 1000, t.count, avg, t.hold, t.lock].map(whole);
    sbuf_printf(s, '%6d %12d %11d %5d %12d %12d ', ...times);
    const where = get_string(prof_key.where, k, WHERE_WORDS);
    sbuf_cat(s, `${where} (${lock_order[prof_key.cls[k]].name})\n`);
  }
  if (rows === 0) sbuf_cat(s, 'No locking recorded');
}
/** The acquisitions in all records. */
export function prof_acquisitions(): number {
  return published().reduce((n, record) => n + sum_of(record).count, 0);
}
/** Forgets every record. What CPUs add meanwhile may be missed. */
export function prof_reset(): void {
  const r = prof_root();
  if (r === NULL) return;
  atomic_add(field_word(prof.epoch, r), 1); // threads forget the numbers they know
  for (let i = 0; i < prof.hash_size[r]; i++) atomic_store(prof.slots[r] + i, 0);
  const first = prof.times[r];
  mem.I32.fill(0, first, first + prof.cpu_words[r] * cpu_slots());
  atomic_store(field_word(prof.records, r), 0);
  atomic_store(field_word(prof.rejected, r), 0);
  atomic_store(field_word(prof.collisions, r), 0);
}
