/*
 * checked: the rules behind the lock letters, tested at every access.
 *
 * A checked boot makes each field view, and each column, a guard that calls
 * `guard.access` with structure, field, address and direction.  The letter in
 * the declaration says what must hold; what does not is a panic that names
 * structure, field, address, the letter with what it asks for, and the locks
 * that this CPU holds: at the access itself, and not at the crash that it
 * causes an hour later.  (So that the locks are known, WITNESS comes along.)
 *
 *      s   the structure's own lock: the first lock field of the record is held
 *          by this CPU; to write, exclusively
 *      a   atomic only: no plain store; a plain load is a hint and allowed
 *      c   constant: no store but by the constructor
 *      p   this CPU's own: only its owner touches it, or a CPU that has claimed
 *          the parked owner, or settles the dead one
 *      t   the owner's until it dies: the same, and any CPU once the owner is dead
 *      b   boot: no store once the machine is up
 *      h   beside another letter: a hint, which anybody may read without the lock
 *          and looks at again under it before acting
 *      -   belongs to whoever allocated it: anything goes while it is allocated
 *      other letters: as their floor says by checked_letter or checked_rule
 *
 * Two letters: either suffices to read, both are needed to write.  A field that
 * says unchecked('why') instead has no rule.  A letter without a rule is an
 * error at boot (checked_complete); tools/letters.ts prints the whole table.
 *
 * A record under construction is nobody's yet: a constructor brackets its work
 * with checked_fresh and checked_publish and touches any of its fields.  A
 * walker that proves a structure on a quiet machine may read whatever it wants
 * between checked_quiet(true) and checked_quiet(false).
 *
 * The rules sleep while the machine boots and once it panics.  Locks are read
 * here from plain memory, around the guards, or each check would check itself.
 * For an array inside a record (`words`) the guard has the element's address.
 * The record is found as its floor says by checked_start; else it may start at
 * any place that would fit, and one fitting start is enough.
 *
 * Not seen: atomic operations and whole fills, which go by word addresses.
 */
import { CPU_CLAIM, claimer_of, MCACHE_SHIFT, pcpu, thr } from '../machine/cpu.ts';
import { cpu_alive, life_index } from '../machine/death.ts';
import { M, MCACHE_START, machine, PHASE_UP } from '../machine/header.ts';
import { ROW_KERNEL_WORDS, ROW_PROGRAM_WORDS } from '../machine/hw.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { SLOT_SETTLE, SPARES, slot_load, slot_rest, slot_state } from '../machine/slot_word.ts';
import {
  addr,
  column_layouts,
  type FieldLayout,
  field_word,
  guard,
  type StructLayout,
  struct_layouts,
} from '../machine/struct.ts';
import { lock_order } from './lock_order.ts';
import { LOCK_CLASS, RW_FLAGS, RW_WRITE, word_owner } from './lock_word.ts';
import { witness_held_words } from './witness.ts';

const ROW_HOLDS = ROW_KERNEL_WORDS + ROW_PROGRAM_WORDS;

/** One access, as a rule sees it. */
export interface Access {
  readonly layout: StructLayout;
  readonly field: FieldLayout;
  /** The record, or the row of a column. */
  readonly start: number;
  /** The element: the record, or so many words behind it. */
  readonly at: number;
  readonly write: boolean;
  readonly old: number;
}
/** Says what is wrong with an access; '' if nothing. */
export type LetterRule = (a: Access) => string;
/** The lock word that a letter means for the record at `p`; 0: none, anything goes. */
export type LetterLock = (p: number) => number;
/** The CPU that owns the record at `p`; -1: anything goes. */
export type LetterOwner = (p: number) => number;
/** The record that the element at `p` belongs to; 0: it cannot be told, any place that fits. */
export type LetterStart = (p: number) => number;

/** By structure, then by letter: to join the two to a key took most of an access's time. */
type Letters<T> = Map<string, Map<string, T>>;
const letter_rules: Letters<LetterRule> = new Map();
const letter_locks: Letters<LetterLock> = new Map();
const owners = new Map<string, LetterOwner>();
const starts = new Map<string, LetterStart>();

function put<T>(all: Letters<T>, struct_name: string, letter: string, value: T): void {
  const of = all.get(struct_name) ?? new Map<string, T>();
  all.set(struct_name, of.set(letter, value));
}
/** Says which lock the letter means in a structure. */
export function checked_letter(struct_name: string, letter: string, lock: LetterLock): void {
  put(letter_locks, struct_name, letter, lock);
}
/** Gives a letter that means no lock its rule in a structure. */
export function checked_rule(struct_name: string, letter: string, rule: LetterRule): void {
  put(letter_rules, struct_name, letter, rule);
}
/** Says whose the letters `p` and `t` mean in a structure. */
export function checked_owner(struct_name: string, owner: LetterOwner): void {
  owners.set(struct_name, owner);
}
/** Says how the record of an element is found. */
export function checked_start(struct_name: string, start: LetterStart): void {
  starts.set(struct_name, start);
}
/** What is wrong with memory at `p` that belongs to whoever allocated it; filled by boot. */
export const checked_hooks: { freed: ((p: number) => string) | null } = { freed: null };

/** Letters that mean the same everywhere. */
const EVERYWHERE = 'cah-b';
/** Whether a checked boot has a rule for a letter of a structure. */
export function checked_has_rule(layout: StructLayout, letter: string): boolean {
  const { name } = layout;
  if (letter_rules.get(name)?.has(letter) || letter_locks.get(name)?.has(letter)) return true;
  if (EVERYWHERE.includes(letter)) return true;
  if (letter === 's') return layout.fields.some((f) => f.kind === 'lock');
  return (letter === 'p' || letter === 't') && owners.has(layout.name);
}
/** Fields whose letters have no rule, as `structure.field (letter)`. */
export function checked_missing(): string[] {
  const missing: string[] = [];
  for (const layout of [...struct_layouts, ...column_layouts]) {
    for (const f of layout.fields) {
      if (f.lock === 'h') missing.push(`${layout.name}.${f.name} (h): a hint of what?`);
      for (const letter of f.lock) {
        if (!checked_has_rule(layout, letter)) missing.push(`${layout.name}.${f.name} (${letter})`);
      }
    }
  }
  return missing;
}
/** Throws unless every letter has a rule. */
export function checked_complete(): void {
  const missing = checked_missing();
  if (missing.length > 0) throw new Error(`letters without a rule: ${missing.join(', ')}`);
}

/** Records that this thread is making: [first word, end). */
const fresh: [number, number][] = [];
/** The record of `size` words at `p` is being made: no rule holds for it yet. */
export function checked_fresh(p: number, size: number): void {
  if (opt.CHECKED) fresh.push([p, p + size]);
}
/** The record at `p` is made: from here on others may find it. */
export function checked_publish(p: number): void {
  const at = opt.CHECKED ? fresh.findLastIndex(([first]) => first === p) : -1;
  if (at >= 0) fresh.splice(at, 1);
}
let quiet = false;
/** A walker reads what is another CPU's own: nobody is at work meanwhile. */
export function checked_quiet(on: boolean): void {
  quiet = on;
}

let phase_word = 0;
let panic_word = 0;
let state_offset = 0;
let pcpu_word = 0;
let pcpu_words_word = 0;
let maxcpus_word = 0;

/** Installs the rules in this thread. For boot and for each attach, under opt.CHECKED. */
export function checked_boot(): void {
  if (!opt.CHECKED) return;
  const none = 0 as typeof thr.pc;
  phase_word = field_word(machine.phase, M);
  panic_word = field_word(machine.panic_cpu, M);
  pcpu_word = field_word(machine.pcpu, M);
  pcpu_words_word = field_word(machine.pcpu_words, M);
  maxcpus_word = field_word(machine.maxcpus, M);
  state_offset = field_word(pcpu.state, none);
  guard.access = access;
}

function access(
  layout: StructLayout,
  f: FieldLayout,
  p: number,
  write: boolean,
  old: number,
): void {
  if (thr.cpu < 0 || f.lock === '' || (!write && (quiet || f.lock.includes('h')))) return;
  if (mem.I32[phase_word] !== PHASE_UP || mem.I32[panic_word] !== 0) return;
  if (layout.words > 0 && fresh.some(([first, end]) => p >= first && p < end)) return;
  const wrong: string[] = [];
  for (const letter of f.lock) {
    const why = letter_broken(layout, f, p, letter, write, old);
    if (why !== '') wrong.push(`(${letter}) ${why}`);
  }
  const enough = write ? wrong.length === 0 : wrong.length < f.lock.length;
  if (enough) return;
  const what = write ? 'write to' : 'read of';
  const where = `${layout.name}.${f.name} at ${place(layout, f, p)}`;
  panic(`checked: ${what} ${where}: ${wrong.join(', ')}; ${held_text()}`);
}
const WIDTH: Readonly<Record<string, number>> = { u8: 1, u16: 2 };
function place(layout: StructLayout, f: FieldLayout, p: number): string {
  if (layout.words > 0) return hex(p);
  const byte = addr(f.offset) + p * (WIDTH[f.kind] ?? 4);
  return `0x${byte.toString(16)} (row ${p})`;
}
function hex(p: number): string {
  return `0x${addr(p).toString(16)}`;
}

/** What the rule of a letter says against an access; '' if nothing. */
function letter_broken(
  layout: StructLayout,
  f: FieldLayout,
  p: number,
  letter: string,
  write: boolean,
  old: number,
): string {
  const said = letter_locks.get(layout.name)?.get(letter);
  if (said) return any_start(layout, f, p, (start) => lock_broken(said(start), write));
  const rule = letter_rules.get(layout.name)?.get(letter);
  if (rule) {
    const start = layout.words > 0 ? start_of(layout, f, p) : p;
    return rule({ layout, field: f, start, at: p, write, old });
  }
  switch (letter) {
    case 'a':
      return write ? 'a plain store to an atomic field' : '';
    case 'b':
      return write ? 'a store after the machine came up' : '';
    case 'c':
      return write ? `a change of a constant that is ${old}` : '';
    case 'p':
      return not_mine(owners.get(layout.name)?.(start_of(layout, f, p)) ?? -1, false);
    case 't':
      return not_mine(owners.get(layout.name)?.(start_of(layout, f, p)) ?? -1, true);
    case 's': {
      const lock = layout.fields.find((x) => x.kind === 'lock');
      if (!lock) return '';
      return any_start(layout, f, p, (start) => lock_broken(start + lock.offset, write));
    }
    case '-':
      return checked_hooks.freed?.(p) ?? '';
    default:
      return '';
  }
}
/** The record of an element; the element itself where nobody says how to find it. */
function start_of(layout: StructLayout, f: FieldLayout, p: number): number {
  const start = f.kind === 'words' ? starts.get(layout.name)?.(p) : 0;
  return start ? start : p;
}
/**
 * Tries each place where the record may start: of an array the element is
 * known, not the record.  A place where no lock is found is no start; if there
 * is none at all, the record is being made and its lock does not exist yet.
 */
function any_start(
  layout: StructLayout,
  f: FieldLayout,
  p: number,
  test: (start: number) => string | null,
): string {
  const known = start_of(layout, f, p);
  if (f.kind !== 'words' || known !== p) return test(known) ?? '';
  let broken_at: string | null = null;
  for (let i = 0; i < f.words; i++) {
    const why = test(p - i);
    if (why === '') return '';
    broken_at ??= why;
  }
  return broken_at ?? '';
}

/** What is wrong with the lock at `l`; '' if this CPU holds it, null if there is none. */
function lock_broken(l: number, write: boolean): string | null {
  if (l <= 0) return null;
  const cls = lock_order[mem.I32[l + LOCK_CLASS]];
  if (!cls || mem.I32[l + LOCK_CLASS] === 0) return null;
  if (cls.kind === 'mtx') {
    return word_owner(mem.I32[l]) === thr.tid ? '' : `${lock_text(l)} is not held`;
  }
  if ((mem.I32[l] & ~RW_FLAGS) === (RW_WRITE | thr.tid)) return '';
  if (!holds_shared(l)) return `${lock_text(l)} is not held`;
  return write ? `${lock_text(l)} is only held shared` : '';
}
/** Whether this CPU's row names lock `l`, read around the guards. */
function holds_shared(l: number): boolean {
  for (let i = 1; i <= ROW_HOLDS; i++) if (mem.I32[thr.row + i] === l) return true;
  return false;
}
function lock_text(l: number): string {
  return `lock '${lock_order[mem.I32[l + LOCK_CLASS]]?.name}' at ${hex(l)}`;
}
/** What a rule says of lock `l`: '' if this CPU holds it, to write exclusively. */
export function checked_lock(l: number, write: boolean): string {
  return lock_broken(l, write) ?? '';
}
/** Words of the locks that this CPU holds, in order: CHECKED brings WITNESS, which notes them. */
export function checked_held(): number[] {
  return witness_held_words();
}
function held_text(): string {
  const held = checked_held();
  return `cpu${thr.cpu} holds ${held.length === 0 ? 'no lock' : held.map(lock_text).join(', ')}`;
}

/** What is wrong if this CPU touches what is cpu `owner`'s own. `dead`: a death ends ownership. */
function not_mine(owner: number, dead: boolean): string {
  if (owner < 0 || owner === thr.cpu) return '';
  // Behind the spare slots, which are the last, lies what is nobody's.
  if (owner >= mem.I32[maxcpus_word] + SPARES) return "it is nobody's, and stays empty";
  const word = slot_load(life_index(owner));
  if (slot_state(word) === SLOT_SETTLE && slot_rest(word) === thr.tid >>> 3) return '';
  const state = mem.I32[state_offset + mem.I32[pcpu_word] + owner * mem.I32[pcpu_words_word]];
  if (claimer_of(state) === thr.cpu && (state & CPU_CLAIM) !== 0) return '';
  if (dead && !cpu_alive(owner)) return '';
  return `it is cpu${owner}'s own, and cpu${thr.cpu} has no claim on it`;
}
/** The rule of `p` for records whose owner is found in another way. */
export function checked_own(owner: number): string {
  return not_mine(owner, false);
}

checked_owner('pcpu', (p) => Math.floor((p - mem.I32[pcpu_word]) / mem.I32[pcpu_words_word]));
checked_owner('mcache', (p) => (p - MCACHE_START) >> MCACHE_SHIFT);
// Elements of their arrays lead to the owner by themselves.
checked_start('pcpu', (p) => p);
checked_start('mcache', (p) => p);
