/*
 * witness: proves the order in which locks are taken, while the program runs.
 *
 * A deadlock needs two CPUs at the wrong moment; the order that makes it
 * possible shows on one CPU, any time.  So each lock that is taken while
 * another is held is compared with what is known:
 *
 *      the order table   lock_order.ts: classes, outermost first; for all classes
 *      what was seen     locks of one "user" class are told apart by address, and
 *                        the order between two of them is learnt from the first
 *                        time both are held, and from chains of such pairs
 *
 * Reported, each pair once, with both stacks: an order against the table or
 * against one seen before; a second lock of a class that does not allow two; a
 * lock that may be held asleep (sx) after one that may not (mtx, rw); sleeping
 * with such a lock held, or inside a critical section.  A lock that is given
 * back but not held, or taken shared and exclusive by one CPU, is a panic: the
 * thread would wait for itself.  A try is recorded but not checked, for it
 * cannot wait.
 *
 *      relation[from][to]   0 KNOWN · 1 REVERSAL reported · 8.. stack number + 1
 *      stack                text of the stack where the relation was first seen
 *      user lock            word address -> identity behind those of the classes
 *
 * All of it lies in shared memory, is sized with it, and changes by single
 * atomic operations: WITNESS takes no lock, so it can watch every lock, and a
 * thread that dies inside leaves nothing half done (at most one stack is lost).
 * When a table is full, new relations go without a stack and new user locks
 * without a check; debug.witness.free_cnt shows it.
 *
 * Held locks are listed in order of acquisition.  The list is the thread's own,
 * and nobody else needs it: whom a lock belongs to stands in its word, or in the
 * rows of its readers.  The place of each acquisition is kept as an unread Error.  That takes
 * 2 us, a fifth of the time of a machine with WITNESS, so of the kernel's own locks it is kept
 * for the first PLACES acquisitions of a class by a thread; orders that are new by then are rare,
 * and the report has the stack of the second lock, on which the first was taken as a rule.
 *
 * Everything is behind `if (opt.WITNESS)` at its callers, which call by way of machine/parts.ts:
 * off, it costs nothing, and a small program does without this file.  What it keeps in the
 * memory is declared in witness_vars.ts.
 */
import { atomic_add, atomic_cas, atomic_load, atomic_or, atomic_store } from '../machine/atomic.ts';
import { pcpu, thr } from '../machine/cpu.ts';
import { boot_alloc, M, machine, ROOT_WITNESS } from '../machine/header.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import { kconsole } from '../machine/kconsole.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { kernel_parts } from '../machine/parts.ts';
import { elem, field_word, get_string, NULL, set_string } from '../machine/struct.ts';
import { type sbuf, sbuf_cat, sbuf_printf, sbuf_putc } from '../machine/sbuf.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { lock_label } from './lock_label.ts';
import { lock_order, user_class } from './lock_order.ts';
import { LOCK_CLASS } from './lock_word.ts';
import { stack_save, stack_text, stack_where } from './subr_stack.ts';
import {
  STACK_WORDS,
  witness,
  witness_kdb,
  witness_root,
  witness_trace,
  witness_watch,
  type witness_t,
  wstack,
  type wstack_t,
} from './witness_vars.ts';

const KNOWN = 1;
const REVERSAL = 2;
const STACK_SHIFT = 8;
/** A thread notes where it took a lock of one of the kernel's classes so often, in a machine. */
const PLACES = 100;
/** How long a chain of user locks the report follows. */
const CHAIN_MAX = 16;

// --- the sink ------------------------------------------------------------------

let report_sink = (text: string): void => kconsole.print(text);
/** Sends reports to `sink` instead of the console; null restores it. Returns the old sink. */
export function witness_console(sink: ((text: string) => void) | null): (text: string) => void {
  const old = report_sink;
  report_sink = sink ?? ((text) => kconsole.print(text));
  return old;
}
/** Violations reported by all threads since boot. */
export function witness_reports(): number {
  const r = witness_root();
  return r === NULL ? 0 : atomic_load(field_word(witness.reports, r));
}
function report(text: string): void {
  atomic_add(field_word(witness.reports, witness_root()), 1);
  report_sink(text);
  // errno: without a terminal, or while another thread is in the debugger, it is reported only
  if (sysctl_get(witness_kdb) !== 0) kernel_parts.kdb_enter?.('witness', text.split('\n')[0]);
}

// --- boot ----------------------------------------------------------------------

/** Lays the tables out, if the option is on: a sixty-fourth of memory at most. */
export function witness_boot(): void {
  if (!opt.WITNESS) return;
  const mib = (machine.npages[M] * PAGE_SIZE) / 2 ** 20;
  const users = mib < 8 ? 8 : mib < 64 ? 96 : 256;
  const stacks = mib < 8 ? 16 : mib < 64 ? 96 : 512;
  const ids = lock_order.length + users;
  const r = boot_alloc(witness.sizeof, 'witness') as witness_t;
  witness.ids[r] = ids;
  witness.classes[r] = lock_order.length;
  witness.relations[r] = boot_alloc(ids * ids, 'witness relations');
  witness.users[r] = boot_alloc(users, 'witness user locks');
  witness.stacks[r] = boot_alloc(stacks * wstack.sizeof, 'witness stacks') as wstack_t;
  witness.stacks_max[r] = stacks;
  machine.roots[elem(M, ROOT_WITNESS)] = r;
}

// --- identities and relations ---------------------------------------------------

function class_of(l: number): number {
  return mem.I32[l + LOCK_CLASS];
}
function sleepable(l: number): boolean {
  return lock_order[class_of(l)].kind === 'sx';
}
function type_name(l: number): string {
  return lock_order[class_of(l)]?.name ?? '?';
}
/** What the lock itself is called: a program's by its name, others as their class. */
function own_name(l: number): string {
  return lock_label(l) || type_name(l);
}
function relation(from: number, to: number): number {
  const r = witness_root();
  return witness.relations[r] + from * witness.ids[r] + to;
}

/** The identity of a user lock; 0 if there is no room, or it is new and `make` is false. */
function user_id(l: number, make: boolean): number {
  const r = witness_root();
  const room = witness.ids[r] - witness.classes[r];
  const start = (Math.imul(l, 0x9e3779b1) >>> 8) % room;
  for (let i = 0; i < room; i++) {
    const at = (start + i) % room;
    const w = witness.users[r] + at;
    let v = atomic_load(w);
    if (v === 0) {
      if (!make) return 0;
      v = atomic_cas(w, 0, l);
      if (v === 0) {
        atomic_add(field_word(witness.users_used, r), 1);
        return witness.classes[r] + at;
      }
    }
    if (v === l) return witness.classes[r] + at;
  }
  if (make) atomic_add(field_word(witness.users_lost, r), 1);
  return 0;
}

/** A lock is made at `l`: what was learnt about an older one at that address is forgotten. */
export function witness_init(l: number): void {
  if (!opt.WITNESS || witness_root() === NULL || !user_class(class_of(l))) return;
  const id = user_id(l, false);
  if (id === 0) return;
  const ids = witness.ids[witness_root()];
  for (let other = 0; other < ids; other++) {
    atomic_store(relation(id, other), 0);
    atomic_store(relation(other, id), 0);
  }
}

/** Notes that `to` was taken under `from`. The first time is true, and its stack is kept. */
function relation_learn(from: number, to: number, extra: number, where: Error): boolean {
  const w = relation(from, to);
  if ((atomic_or(w, KNOWN | extra) & KNOWN) !== 0) return false;
  const used = field_word(witness.stacks_used, witness_root());
  const at = atomic_add(used, 1);
  if (at >= witness.stacks_max[witness_root()]) atomic_add(used, -1);
  else {
    set_string(wstack.text, stack_at(at), STACK_WORDS, stack_text(where));
    atomic_or(w, (at + 1) << STACK_SHIFT);
  }
  return true;
}
function stack_at(i: number): wstack_t {
  return (witness.stacks[witness_root()] + i * wstack.sizeof) as wstack_t;
}
/** Whether a relation names the stack record: from then on it stays as it is. */
export function wstack_published(at: number): boolean {
  const r = witness_root();
  const number = Math.floor((at - witness.stacks[r]) / wstack.sizeof) + 1;
  const end = witness.ids[r] * witness.ids[r];
  for (let i = 0; i < end; i++) {
    if (atomic_load(witness.relations[r] + i) >>> STACK_SHIFT === number) return true;
  }
  return false;
}
/** The stack where a relation was first seen. */
function relation_stack(from: number, to: number): string {
  const v = atomic_load(relation(from, to));
  if ((v & KNOWN) === 0) return '(not seen yet: the order table says so)';
  const n = v >>> STACK_SHIFT;
  if (n === 0) return '(its stack was not kept)';
  return get_string(wstack.text, stack_at(n - 1), STACK_WORDS);
}

/** A chain of learnt relations from one user lock to another, or null. */
function chain(from: number, to: number): number[] | null {
  const r = witness_root();
  const seen = new Set([from]);
  let paths: number[][] = [[from]];
  for (let depth = 0; depth < CHAIN_MAX && paths.length > 0; depth++) {
    const longer: number[][] = [];
    for (const path of paths) {
      const last = path[path.length - 1];
      for (let id = witness.classes[r]; id < witness.ids[r]; id++) {
        const v = atomic_load(relation(last, id));
        if ((v & KNOWN) === 0 || (v & REVERSAL) !== 0) continue;
        if (id === to) return [...path, id];
        if (!seen.has(id)) longer.push([...path, id]);
        seen.add(id);
      }
    }
    paths = longer;
  }
  return null;
}

// --- what this CPU holds ----------------------------------------------------------

interface Place {
  readonly lock: number;
  /** Null: not noted. */
  readonly where: Error | null;
  readonly exclusive: boolean;
}
/** What a CPU holds, and how many locks of each class it has taken. */
interface Mine {
  readonly tid: number;
  readonly id: number;
  readonly held: Place[];
  readonly taken: Int32Array;
}
/** By CPU: several only where one thread plays several CPUs. */
const all_mine: Mine[] = [];
function mine(): Mine {
  const there = all_mine[thr.cpu];
  const id = machine.id_low[M];
  if (there && there.tid === thr.tid && there.id === id) return there;
  const made = { tid: thr.tid, id, held: [], taken: new Int32Array(lock_order.length) };
  all_mine[thr.cpu] = made;
  return made;
}
function my_places(): Place[] {
  return mine().held;
}
function where_text(where: Error | null): string {
  return where === null ? '?' : stack_where(where);
}
function place_find(l: number, exclusive: boolean): number {
  const held = my_places();
  for (let i = held.length - 1; i >= 0; i--) {
    if (held[i].lock === l && held[i].exclusive === exclusive) return i;
  }
  return -1;
}
function place_of(l: number): string {
  const p = my_places().findLast((x) => x.lock === l);
  return p ? where_text(p.where) : '?';
}
function off(): boolean {
  return thr.cpu < 0 || witness_root() === NULL || sysctl_get(witness_watch) === -1;
}

/** Whether the locks that this CPU holds are noted. */
export function witness_notes(): boolean {
  return opt.WITNESS && !off();
}
/** Words of the locks that this CPU holds, oldest first. */
export function witness_held_words(): number[] {
  return thr.cpu < 0 ? [] : my_places().map((p) => p.lock);
}
/** The same as the tools print them. */
export function witness_held(): string[] {
  return thr.cpu < 0 ? [] : my_places().map((p) => held_line(p.lock, p.exclusive));
}
function held_line(l: number, exclusive: boolean): string {
  const c = lock_order[class_of(l)];
  const how = exclusive ? 'exclusive' : 'shared';
  const depth = my_places().filter((p) => p.lock === l).length - 1;
  const at = `(0x${(l * 4).toString(16)}) locked @ ${place_of(l)}`;
  return `${how} ${c.kind} ${own_name(l)} r = ${depth} ${at}`;
}

/** A lock was taken: it goes to the end of the list. */
export function witness_lock(l: number, exclusive: boolean): void {
  if (off()) return;
  const { held, taken } = mine();
  const cls = class_of(l);
  const noted = user_class(cls) || taken[cls]++ < PLACES;
  held.push({ lock: l, where: noted ? stack_save() : null, exclusive });
}

/** A lock is given back. Panics if this CPU does not hold it that way. */
export function witness_unlock(l: number, exclusive: boolean): void {
  if (thr.cpu < 0 || witness_root() === NULL) return;
  const at = place_find(l, exclusive);
  if (at >= 0) my_places().splice(at, 1);
  else if (sysctl_get(witness_watch) === 1) {
    const other = place_find(l, !exclusive);
    const where = stack_where(stack_save());
    const name = own_name(l);
    if (other < 0) panic(`lock (${lock_order[class_of(l)].kind}) ${name} not locked @ ${where}`);
    panic(
      `${exclusive ? 'exclusive' : 'shared'} unlock of ${name} @ ${where} while ` +
        `${exclusive ? 'share' : 'exclusively'} locked from ${place_of(l)}: ` +
        `${exclusive ? 'share->uexcl' : 'excl->ushare'}`,
    );
  }
}

// --- the checks -------------------------------------------------------------------

/** A lock is about to be taken, and this CPU may have to wait for it. */
export function witness_checkorder(l: number, exclusive: boolean): void {
  if (off() || sysctl_get(witness_watch) !== 1) return;
  if (pcpu.critnest[thr.pc] !== 0) {
    const c = lock_order[class_of(l)];
    panic(`blockable sleep lock (${c.kind}) ${own_name(l)} @ ${stack_where(stack_save())}`);
  }
  const held = my_places();
  if (held.length === 0) return;
  if (recursion(held, l, exclusive)) return;
  let now: Error | null = null;
  for (let i = held.length - 1; i >= 0; i--) {
    // The stack is taken once, and only if some pair of locks is new.
    now = check_pair(held[i], l, now);
  }
}
function recursion(held: readonly Place[], l: number, exclusive: boolean): boolean {
  const first = held.find((p) => p.lock === l);
  if (!first) return false;
  if (first.exclusive === exclusive) return true;
  const c = lock_order[class_of(l)];
  const asked = exclusive ? 'exclusive' : 'shared';
  const has = exclusive ? 'share' : 'exclusively';
  panic(
    `${asked} lock of (${c.kind}) ${own_name(l)} @ ${stack_where(stack_save())} ` +
      `while ${has} locked from ${where_text(first.where)}: ` +
      `${exclusive ? 'excl->share' : 'share->excl'}`,
  );
}

function check_pair(h: Place, l: number, now: Error | null): Error | null {
  const from_class = class_of(h.lock);
  const to_class = class_of(l);
  if (from_class !== to_class) {
    const order = check_classes(from_class, to_class);
    if (order === 'known') return now;
    now ??= stack_save();
    const first = relation_learn(from_class, to_class, order === 'right' ? 0 : REVERSAL, now);
    if (first && order !== 'right') reversal(h, l, from_class, to_class, order, now);
    return now;
  }
  if (!lock_order[to_class].dupok) return duplicate(h, l, to_class, now);
  if (!user_class(to_class)) return now;
  const from = user_id(h.lock, true);
  const to = user_id(l, true);
  if (from === 0 || to === 0 || atomic_load(relation(from, to)) & KNOWN) return now;
  now ??= stack_save();
  // Learnt first, looked up after: of two CPUs that do opposite things one sees the other's.
  const first = relation_learn(from, to, 0, now);
  const back = chain(to, from);
  if (!first || !back) return now;
  atomic_or(relation(from, to), REVERSAL);
  reversal(h, l, from, to, '', now, back);
  return now;
}
/** 'known': nothing to do; 'right': new and in order; else the kind of violation. */
function check_classes(from: number, to: number): string {
  if (atomic_load(relation(from, to)) & KNOWN) return 'known';
  const kind = lock_order[from].kind;
  if (lock_order[to].kind === 'sx' && kind !== 'sx') return ' (sleepable after non-sleepable)';
  return from < to ? 'right' : '';
}

function lock_line(nth: string, l: number, where: string): string {
  return ` ${nth} 0x${(l * 4).toString(16)} ${own_name(l)} (${type_name(l)}) @ ${where}`;
}
function duplicate(h: Place, l: number, cls: number, now: Error | null): Error | null {
  if (atomic_or(relation(cls, cls), KNOWN | REVERSAL) & REVERSAL) return now;
  const here = now ?? stack_save();
  const name = lock_order[cls].name;
  const lines = [
    `acquiring duplicate lock of same type: "${name}"`,
    ` 1st ${name} @ ${where_text(h.where)}`,
    ` 2nd ${name} @ ${stack_where(here)}`,
  ];
  if (sysctl_get(witness_trace) !== 0) {
    if (h.where !== null) lines.push('first lock taken at:', stack_text(h.where));
    lines.push('KDB: stack backtrace:', stack_text(here));
  }
  report(lines.join('\n'));
  return here;
}

function reversal(
  h: Place,
  l: number,
  from: number,
  to: number,
  kind: string,
  now: Error,
  back: readonly number[] = [to, from],
): void {
  const lines = [`lock order reversal:${kind}`];
  // An earlier hold of the new lock's type explains how its order came about.
  const held = my_places();
  const earlier = held.find(
    (p) => class_of(p.lock) === class_of(l) && held.indexOf(h) > held.indexOf(p),
  );
  const list = earlier && class_of(h.lock) !== class_of(l) ? [earlier, h] : [h];
  for (const [i, p] of list.entries()) {
    lines.push(lock_line(i === 0 ? '1st' : '2nd', p.lock, where_text(p.where)));
  }
  lines.push(lock_line(list.length === 1 ? '2nd' : '3rd', l, stack_where(now)));
  if (sysctl_get(witness_trace) !== 0) {
    for (let i = 0; i + 1 < back.length; i++) {
      lines.push(`lock order ${id_name(back[i])} -> ${id_name(back[i + 1])} first seen at:`);
      lines.push(relation_stack(back[i], back[i + 1]));
    }
    lines.push(`lock order ${id_name(from)} -> ${id_name(to)} attempted at:`);
    lines.push('KDB: stack backtrace:', stack_text(now));
  }
  report(lines.join('\n'));
}
/** `"type"(kind)`; a user lock with its address. */
function id_name(id: number): string {
  const r = witness_root();
  if (id < witness.classes[r]) return `"${lock_order[id].name}"(${lock_order[id].kind})`;
  const l = atomic_load(witness.users[r] + id - witness.classes[r]);
  const kind = lock_order[class_of(l)]?.kind ?? '?';
  const name = lock_label(l) || `${type_name(l)} 0x${(l * 4).toString(16)}`;
  return `"${name}"(${kind})`;
}

/**
 * Called before sleeping. `except`: lock word that the sleep gives up, 0 none.
 * Reports each place of sleeping with locks held as often as it happens.
 * Returns whether there were any.
 */
export function witness_sleep(what: string, except: number): boolean {
  if (off() || sysctl_get(witness_watch) !== 1) return false;
  if (pcpu.critnest[thr.pc] !== 0) {
    report(`Sleeping on "${what}" inside a critical section${trace_text(stack_save())}`);
  }
  const held = my_places().filter((p) => p.lock !== except && !sleepable(p.lock));
  if (held.length === 0) return false;
  const lines = held.map((p) => held_line(p.lock, p.exclusive));
  report(
    `Sleeping on "${what}" with the following non-sleepable locks held:\n` +
      `${lines.join('\n')}${trace_text(stack_save())}`,
  );
  return true;
}
function trace_text(e: Error): string {
  return sysctl_get(witness_trace) === 0 ? '' : `\nKDB: stack backtrace:\n${stack_text(e)}`;
}

// --- what the tools see -------------------------------------------------------------

/** Calls `visit` for every relation known, by identity. */
function each_relation(visit: (from: number, to: number, v: number) => void): void {
  const r = witness_root();
  for (let from = 0; from < witness.ids[r]; from++) {
    for (let to = 0; to < witness.ids[r]; to++) {
      const v = atomic_load(relation(from, to));
      if (v & KNOWN) visit(from, to, v);
    }
  }
}

/** Writes debug.witness.badstacks, while it runs. */
export function witness_badstacks(s: sbuf): void {
  let known = 0;
  each_relation(() => known++);
  sbuf_printf(s, 'Number of known direct relationships is %d\n', known);
  each_relation((from, to, v) => {
    if ((v & REVERSAL) === 0) return;
    sbuf_printf(s, '\nLock order reversal between %s and %s!\n', id_name(from), id_name(to));
    write_seen(s, from, to);
    if (from !== to) write_seen(s, to, from);
  });
}
function write_seen(s: sbuf, from: number, to: number): void {
  if ((atomic_load(relation(from, to)) & KNOWN) === 0) return;
  sbuf_printf(s, 'Lock order %s -> %s first seen at:\n', id_name(from), id_name(to));
  sbuf_cat(s, `${relation_stack(from, to)}\n`);
}
/** Writes debug.witness.fullgraph: a newline, then "parent","child" for each relation. */
export function witness_fullgraph(s: sbuf): void {
  const ids = witness.ids[witness_root()];
  const right = (from: number, to: number): boolean =>
    from !== to && (atomic_load(relation(from, to)) & (KNOWN | REVERSAL)) === KNOWN;
  const name = (id: number): string => id_name(id).replace(/\(\w+\)$/, '');
  const done = new Set<number>();
  const visit = (id: number): void => {
    if (done.has(id)) return;
    done.add(id);
    for (let to = 0; to < ids; to++) {
      if (!right(id, to)) continue;
      sbuf_cat(s, `${name(id)},${name(to)}\n`);
      visit(to);
    }
  };
  const below = new Set<number>();
  each_relation((from, to) => right(from, to) && below.add(to));
  sbuf_putc(s, 10);
  for (let id = 0; id < ids; id++) if (!below.has(id)) visit(id);
  for (let id = 0; id < ids; id++) visit(id);
}
