/*
 * ddb_lock: who holds what, and who waits for it.
 *
 *      show lock ADDR       a lock: class, name, state, owner
 *      show alllocks        what every CPU holds (show all locks)
 *      show lockchain CPU   the lock that a CPU waits for, its owner, what that one waits for …
 *      show sleepchain CPU  the same, or what it sleeps on
 *      show allchains       of every CPU that waits
 *      show sleepq ADDR     who sleeps on a wait channel; without one, on all
 *      show witness         the order of locks: which was taken under which
 *
 * The word of a lock names its owner, and a CPU's row the locks that it reads; so all locks that
 * the memory leads to are looked at: those of the kernel's own records, which the tables of
 * structures know, and those of kegs, maps, objects and names.  Where a lock was taken only
 * the thread itself knows, and a dump does not.
 */
import {
  CPU_DEAD,
  CPU_FREE,
  CPU_PARKED,
  cpu_slots,
  MAXCPU,
  pcpu,
  pcpu_of,
  tid_cpu,
} from '../../machine/cpu.ts';
import * as hd from '../../machine/header.ts';
import { mem, memory_state } from '../../machine/memory.ts';
import { elem, type FieldLayout, struct_layouts } from '../../machine/struct.ts';
import {
  REG_BUCKETS,
  reg_entry,
  type reg_entry_t,
  reg_root,
  type reg_root_t,
} from '../../h/registry.ts';
import { uma_keg } from '../../h/uma.ts';
import { vm_map } from '../../h/vm_map.ts';
import { vm_object } from '../../h/vm_object.ts';
import { whatis } from '../../kmem/kern_whatis.ts';
import { lock_label } from '../../sync/lock_label.ts';
import { lock_order } from '../../sync/lock_order.ts';
import {
  abandoned,
  abandoned_why,
  LK_HANDOFF,
  LK_RECURSED,
  LK_WAITERS,
  LOCK_CLASS,
  lock_owner_tid,
  RW_READERS,
  RW_RSEQ,
  RW_WRITERS,
  RW_WSEQ,
} from '../../sync/lock_word.ts';
import { rw_read_holds } from '../../sync/rw_row.ts';
import {
  sleepq_each_lock,
  sleepq_list,
  sleepq_sleeper,
  sleepq_sleeper_of,
  type Asleep,
} from '../../sync/subr_sleepqueue.ts';
import { witness, witness_root } from '../../sync/witness_vars.ts';
import { db_pointer, db_record, db_there, db_walk } from './ddb_access.ts';
import { DB_SHOW_ALL_COMMAND, DB_SHOW_COMMAND, type DdbArgs } from './ddb_command.ts';
import { db_flags, type FlagNames } from './ddb_flags.ts';
import { db_maps, db_objects } from './ddb_map.ts';
import { type Ddb, DdbError, db_check, db_hex, db_printf, db_puts } from './ddb_session.ts';
import { db_kegs, db_root } from './ddb_uma.ts';

// --- which locks there are -------------------------------------------------------------------

/** Records of the kernel that an anchor leads to, by the name of their structure. */
const ROOTS: readonly (readonly [number, string])[] = [
  [hd.ROOT_UMA, 'uma_root'],
  [hd.ROOT_MALLOC, 'malloc_root'],
  [hd.ROOT_PHYS, 'vm_phys'],
  [hd.ROOT_SYSCTL, 'sysctl_root'],
  [hd.ROOT_LIB, 'reg_root'],
  [hd.ROOT_PAGEQ, 'vm_pageq'],
  [hd.ROOT_OBJECT, 'vm_object_root'],
  [hd.ROOT_LIMBO, 'vm_limbo'],
  [hd.ROOT_MAP, 'vm_map_root'],
  [hd.ROOT_WINDOW, 'vm_window_root'],
  [hd.ROOT_LOAN, 'vm_loan_root'],
  [hd.ROOT_SWAP, 'swap_root'],
  [hd.ROOT_STORE, 'vm_store_root'],
  [hd.ROOT_VNODE, 'vnode_root'],
  [hd.ROOT_KERN, 'vm_kern_root'],
];
function lock_fields(name: string): FieldLayout[] {
  return struct_layouts.find((s) => s.name === name)?.fields.filter((f) => f.kind === 'lock') ?? [];
}
/** Words of the locks that a structure of that name has, by the pointer to one. */
function* locks_in(name: string, p: number): Generator<number> {
  for (const f of lock_fields(name)) yield p + f.offset;
}
/** The word of every lock that the memory leads to. */
function* all_locks(db: Ddb): Generator<number> {
  for (const [which, name] of ROOTS) {
    const p = hd.machine.roots[elem(hd.M, which)];
    if (p > 0 && db_pointer(p, 2)) yield* locks_in(name, p);
  }
  for (const k of db_kegs(db)) yield k + uma_keg.lock;
  for (const mp of db_maps(db)) yield mp + vm_map.lock;
  for (const o of db_objects(db)) yield o + vm_object.lock;
  yield* named_locks(db);
  const chains: number[] = [];
  sleepq_each_lock((l) => chains.push(l));
  yield* chains;
}
/** Locks of the program, and of its queues. */
function* named_locks(db: Ddb): Generator<number> {
  if (hd.machine.roots[elem(hd.M, hd.ROOT_LIB)] === 0) return;
  const r = db_root(hd.ROOT_LIB, reg_root.sizeof, 'names') as reg_root_t;
  for (let i = 0; i < REG_BUCKETS; i++) {
    const first = reg_root.heads[elem(r, i)] as reg_entry_t;
    const words = reg_entry.sizeof;
    for (const e of db_walk(db, {
      what: 'names',
      first,
      words,
      next: (at) => reg_entry.next[at],
    })) {
      const l = e + reg_entry.lock;
      if (lock_order[mem.I32[l + LOCK_CLASS]] && mem.I32[l + LOCK_CLASS] !== 0) yield l;
    }
  }
}
// --- one lock --------------------------------------------------------------------------------

function class_of(l: number): (typeof lock_order)[number] | undefined {
  const cls = mem.I32[l + LOCK_CLASS];
  return cls > 0 ? lock_order[cls] : undefined;
}
function lock_text(l: number): string {
  return lock_label(l) || (class_of(l)?.name ?? '?');
}
/** The CPU that a tid names, and whether it is that one still. */
function owner_text(tid: number): string {
  const cpu = tid_cpu(tid);
  if (cpu < 0 || cpu >= cpu_slots()) return `tid ${db_hex(tid)}, which no CPU has`;
  return db_cpu_text(cpu);
}
/** A CPU and its thread. */
export function db_cpu_text(cpu: number): string {
  const pc = pcpu_of(cpu);
  const [js, os] = [pcpu.js_tid[pc], pcpu.os_tid[pc]];
  return `CPU ${cpu} (thread ${js}${os ? `, tid ${os}` : ''})`;
}
const MTX_FLAGS: FlagNames = {
  WAITERS: LK_WAITERS,
  RECURSED: LK_RECURSED,
  HANDOFF: LK_HANDOFF,
};
const RW_FLAGS: FlagNames = {
  READERS_WAIT: RW_READERS,
  WRITERS_WAIT: RW_WRITERS,
};
function readers_of(l: number): number[] {
  const all: number[] = [];
  for (let cpu = 0; cpu < cpu_slots(); cpu++) if (rw_read_holds(cpu).includes(l)) all.push(cpu);
  return all;
}
function state_text(l: number, kind: string): string {
  const v = mem.I32[l];
  const names = kind === 'mtx' ? MTX_FLAGS : RW_FLAGS;
  const flags = db_flags(v & (kind === 'mtx' ? 7 : 3), names);
  if (abandoned(v)) return `abandoned: ${abandoned_why(v, 'held it')}`;
  const readers = kind === 'mtx' ? [] : readers_of(l);
  const state =
    lock_owner_tid(l) !== 0
      ? kind === 'mtx'
        ? 'OWNED'
        : 'WRITING'
      : readers.length > 0
        ? 'READ'
        : 'UNOWNED';
  return `${state}${flags}`;
}
DB_SHOW_COMMAND('lock', 'A lock: class, name, state, owner', ({ db, addr, have_addr }) => {
  if (!have_addr) throw new DdbError('Which lock? Give its address');
  const l = db_record(addr, 'a lock', 4);
  const c = class_of(l);
  if (!c) throw new DdbError(`${db_hex(addr)}: no lock is there`);
  db_printf(db, ' class: %s (%s)\n name: %s\n', c.name, c.kind, lock_text(l));
  db_printf(db, ' flags: {%s}\n', c.recurse ? 'RECURSE' : c.dupok ? 'DUPOK' : '');
  db_printf(db, ' state: %s\n', state_text(l, c.kind));
  const tid = lock_owner_tid(l);
  if (tid !== 0) db_printf(db, ' owner: %s\n', owner_text(tid));
  if (c.kind === 'mtx') return;
  for (const cpu of readers_of(l)) db_printf(db, ' reader: %s\n', db_cpu_text(cpu));
});

// --- all that are held -----------------------------------------------------------------------

/** Locks that each CPU holds: a line of each. */
function held_by_cpu(db: Ddb): Map<number, string[]> {
  const held = new Map<number, string[]>();
  const add = (cpu: number, l: number, how: string): void => {
    const c = class_of(l);
    const depth = c?.kind === 'mtx' ? mem.I32[l + 2] : 0;
    const line = `${how} ${c?.kind ?? '?'} ${lock_text(l)} r = ${depth} (${db_hex(l * 4)})`;
    held.set(cpu, [...(held.get(cpu) ?? []), line]);
  };
  const seen = new Set<number>();
  let n = 0;
  for (const l of all_locks(db)) {
    if (++n % 1024 === 0) db_check(db);
    const tid = lock_owner_tid(l);
    if (tid === 0 || seen.has(l) || !class_of(l)) continue;
    seen.add(l);
    const cpu = tid_cpu(tid);
    if (cpu >= 0 && cpu < cpu_slots()) add(cpu, l, 'exclusive');
  }
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    for (const l of rw_read_holds(cpu)) if (db_there(l * 4, 16)) add(cpu, l, 'shared');
  }
  return held;
}
/** What every CPU holds. */
export function db_all_locks(db: Ddb): void {
  for (const [cpu, lines] of [...held_by_cpu(db)].sort(([a], [b]) => a - b)) {
    db_printf(db, '%s\n', db_cpu_text(cpu));
    for (const line of lines) db_printf(db, '%s\n', line);
  }
}
/** What one CPU holds, a line each. */
export function db_held_lines(db: Ddb, cpu: number): readonly string[] {
  return held_by_cpu(db).get(cpu) ?? [];
}
DB_SHOW_COMMAND('alllocks', 'Locks that each CPU holds', ({ db }) => db_all_locks(db));
DB_SHOW_ALL_COMMAND('locks', 'Locks that each CPU holds', ({ db }) => db_all_locks(db));

// --- chains --------------------------------------------------------------------------------

/** The lock that a CPU waits for; 0: it waits for none. */
export function db_waits_for(cpu: number): number {
  const w = pcpu.waiting[pcpu_of(cpu)];
  if (!(w > 8 && db_there(w * 4, 16))) return 0;
  const own = sleepq_sleeper_of(cpu);
  if (w >= own && w < own + sleepq_sleeper.sizeof) return 0; // it sleeps on a wait channel
  if (class_of(w)?.kind === 'mtx' && lock_owner_tid(w) !== 0) return w;
  for (const l of [w - RW_RSEQ, w - RW_WSEQ]) {
    const kind = class_of(l)?.kind;
    if (kind === 'rw' || kind === 'sx') return l;
  }
  return class_of(w)?.kind === 'mtx' ? w : 0;
}
/** What a CPU sleeps on; null: nothing. */
export function db_asleep(cpu: number): Asleep | null {
  return sleepq_list().find((s) => s.cpu === cpu && s.wchan !== 0) ?? null;
}
/** The CPU that holds a lock, or one that reads it; -1: nobody does. */
function holder(l: number): number {
  const tid = lock_owner_tid(l);
  return tid !== 0 ? tid_cpu(tid) : (readers_of(l)[0] ?? -1);
}
/** A CPU, what it waits for, who has that, and so on. */
function chain_print(db: Ddb, first: number, sleeps: boolean): void {
  const seen: number[] = [];
  for (let cpu = first, pad = ''; ; pad += ' ') {
    db_puts(db, `${pad}${db_cpu_text(cpu)} `);
    if (seen.includes(cpu)) return db_puts(db, 'is waited for above: a deadlock\n');
    seen.push(cpu);
    const l = db_waits_for(cpu);
    if (l === 0) return end_of_chain(db, cpu, sleeps);
    const kind = class_of(l)?.kind ?? '?';
    db_printf(db, 'blocked on lock %p (%s) "%s"\n', l * 4, kind, lock_text(l));
    cpu = holder(l);
    if (cpu < 0 || cpu >= cpu_slots()) return db_puts(db, `${pad} which nobody holds\n`);
  }
}
function end_of_chain(db: Ddb, cpu: number, sleeps: boolean): void {
  const s = db_asleep(cpu);
  if (!s) return db_puts(db, `${db_cpu_state(cpu)}\n`);
  const what = sleeps ? `, ${whatis(s.wchan)}` : '';
  db_printf(db, 'sleeping on %p "%s"%s\n', s.wchan * 4, s.wmesg, what);
}
/** What a CPU that waits for nothing does. */
export function db_cpu_state(cpu: number): string {
  const pc = pcpu_of(cpu);
  const v = pcpu.state[pc];
  const is = (bit: number): boolean => (v & bit) !== 0;
  if (is(CPU_FREE)) return 'has no thread';
  if (is(CPU_DEAD)) return 'is dead';
  if (pcpu.stopped[pc] !== 0) return 'has stopped';
  if (pcpu.held[pc] !== 0) return 'is held by the debugger';
  return is(CPU_PARKED) ? 'is parked: asleep, or outside the kernel' : 'runs';
}
function cpu_of({ addr, have_addr }: DdbArgs, what: string): number {
  if (!have_addr) throw new DdbError(`Which CPU? show ${what} NUMBER`);
  return db_cpu(addr);
}
/** A CPU's number; an error if there is no such slot. */
export function db_cpu(n: number): number {
  const slots = Math.min(cpu_slots(), MAXCPU + 2);
  if (n >= 0 && n < slots) return n;
  throw new DdbError(`There is no CPU ${n}: there are ${slots} slots, from 0 on`);
}
DB_SHOW_COMMAND('lockchain', 'The lock that a CPU waits for, its owner, and so on', (a) =>
  chain_print(a.db, cpu_of(a, 'lockchain'), false),
);
DB_SHOW_COMMAND('sleepchain', 'The same, and what the last one sleeps on', (a) =>
  chain_print(a.db, cpu_of(a, 'sleepchain'), true),
);
function all_chains(db: Ddb): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (db_waits_for(cpu) !== 0 || db_asleep(cpu)) chain_print(db, cpu, true);
  }
}
DB_SHOW_COMMAND('allchains', 'Chains of all CPUs that wait', ({ db }) => all_chains(db));
DB_SHOW_ALL_COMMAND('chains', 'Chains of all CPUs that wait', ({ db }) => all_chains(db));

function sleepq_print({ db, addr, have_addr }: DdbArgs): void {
  const all = sleepq_list().filter((s) => s.wchan !== 0);
  const channels = [...new Set(all.map((s) => s.wchan))];
  const wanted = have_addr ? [db_record(addr, 'a wait channel', 1)] : channels;
  for (const wchan of wanted) {
    const on = all.filter((s) => s.wchan === wchan);
    if (on.length === 0) throw new DdbError(`Unable to locate a sleep queue at ${db_hex(addr)}`);
    db_printf(db, 'Wait channel: %p (%s)\n', wchan * 4, whatis(wchan));
    for (const s of on) {
      const tasks = s.tasks > 1 ? `, ${s.tasks} tasks of its event loop` : '';
      db_printf(db, '  %s "%s"%s\n', db_cpu_text(s.cpu), s.wmesg, tasks);
    }
  }
}
DB_SHOW_COMMAND('sleepq', 'Who sleeps on a wait channel, or on all', sleepq_print);
DB_SHOW_COMMAND('sleepqueue', 'The same', sleepq_print);

// --- the order of locks ----------------------------------------------------------------------

const KNOWN = 1;
const REVERSAL = 2;
/** The order as WITNESS has seen it. */
class Order {
  readonly db: Ddb;
  readonly ids: number;
  readonly #matrix: number;
  readonly #classes: number;
  readonly #users: number;
  readonly refs = new Map<number, number>();
  readonly shown = new Set<number>();

  constructor(db: Ddb) {
    const r = witness_root();
    if (!db_pointer(r, witness.sizeof)) throw new DdbError('Witness not running');
    this.db = db;
    this.ids = witness.ids[r];
    this.#matrix = witness.relations[r];
    this.#classes = witness.classes[r];
    this.#users = witness.users[r];
    const most = memory_state.size / 4;
    const whole = this.ids * this.ids + this.#matrix <= most && this.#classes <= this.ids;
    if (!(whole && this.ids <= 4096)) throw new DdbError('The tables of WITNESS are wrong');
    for (const l of all_locks(db)) {
      const cls = mem.I32[l + LOCK_CLASS];
      this.refs.set(cls, (this.refs.get(cls) ?? 0) + 1);
    }
  }
  name(id: number): string {
    if (id < this.#classes) return lock_order[id]?.name ?? '?';
    const l = mem.I32[this.#users + id - this.#classes];
    return db_pointer(l, 4) ? lock_text(l) : '?';
  }
  kind(id: number): string {
    if (id < this.#classes) return lock_order[id]?.kind ?? '?';
    const l = mem.I32[this.#users + id - this.#classes];
    return (db_pointer(l, 4) && class_of(l)?.kind) || '?';
  }
  below(id: number): number[] {
    const all: number[] = [];
    for (let to = 0; to < this.ids; to++) {
      const v = mem.I32[this.#matrix + id * this.ids + to];
      if (to !== id && (v & (KNOWN | REVERSAL)) === KNOWN) all.push(to);
    }
    return all;
  }
  line(id: number, depth: number, state: string): void {
    const refs = id < this.#classes ? (this.refs.get(id) ?? 0) : 1;
    const args = [' '.repeat(depth), this.name(id), this.kind(id), depth, refs, state];
    db_printf(this.db, '%s%s (type: %s, depth: %d, active refs: %d)%s\n', ...args);
  }
  tree(id: number, depth: number): void {
    if (this.shown.has(id)) return this.line(id, depth, ' -- (already displayed)');
    this.shown.add(id);
    this.line(id, depth, ' -- acquired');
    for (const to of this.below(id)) this.tree(to, depth + 1);
  }
}
DB_SHOW_COMMAND('witness', 'The order of locks, as WITNESS has seen it', ({ db }) => {
  const order = new Order(db);
  const has_above = new Set<number>();
  const acquired = new Set<number>();
  for (let id = 1; id < order.ids; id++) {
    for (const to of order.below(id)) {
      has_above.add(to);
      acquired.add(id).add(to);
    }
  }
  db_puts(db, 'Sleep locks:\n');
  for (const id of acquired) if (!has_above.has(id)) order.tree(id, 0);
  for (const id of acquired) if (!order.shown.has(id)) order.tree(id, 0);
  db_puts(db, '\nSpin locks:\n\nLocks which were never acquired with another:\n');
  for (let id = 1; id < lock_order.length; id++) if (!acquired.has(id)) order.line(id, 0, '');
});
