/*
 * checked: the rules behind the lock letters, tested at every access.
 *
 * A checked boot makes each field view a guard that calls `guard.access` with
 * structure, field, address and direction.  The letter in the declaration says
 * what must hold; what does not is a panic that names structure, field,
 * address and letter, at the access itself and not at the crash that it causes
 * an hour later.
 *
 *      s   the structure's own lock: the first lock field of the record is held
 *          by this CPU; to write, exclusively
 *      a   atomic only: no plain store; a plain load is a hint and allowed
 *      c   constant: no store changes a value that is there already
 *      p   this CPU's own: only its owner touches it, or who claims the parked
 *          or dead owner
 *      -   belongs to whoever allocated it: anything goes
 *      other letters: as their floor says by checked_letter; anything, if it
 *      says nothing
 *
 * Two letters: either suffices to read, both are needed to write.
 *
 * A record under construction is nobody's yet: a constructor brackets its work
 * with checked_fresh and checked_publish, and may store into any of its
 * fields.  So may anybody into memory that still holds the junk of a free.
 *
 * The rules sleep while the machine boots and once it panics.  Locks are read
 * here from plain memory, around the guards, or each check would check itself.
 * Arrays inside a record (`words`) reach the guard with the element's address:
 * the record may start at any of their elements, and one fitting start is enough.
 * Columns have no guards.
 */
import { CPU_CLAIM, CPU_PARKED, claimer_of, pcpu, thr } from '../machine/cpu.ts';
import { M, machine, PHASE_UP } from '../machine/header.ts';
import { mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { addr, type FieldLayout, field_word, guard, type StructLayout } from '../machine/struct.ts';
import { HELD_READ } from './kern_rwlock.ts';
import { lock_order } from './lock_order.ts';
import { LOCK_CLASS } from './robust.ts';

const FLAGS = 7;
const WRITE = 4;
/** What freed memory is filled with under INVARIANTS. */
const JUNK = 0xdeadc0de;

/** The lock word that a letter means for the record at `p`; 0: none, anything goes. */
export type LetterLock = (p: number) => number;
/** The CPU that owns the record at `p`; -1: anything goes. */
export type LetterOwner = (p: number) => number;
const letter_locks = new Map<string, LetterLock>();
const owners = new Map<string, LetterOwner>();

/** Says which lock the letter means in a structure. */
export function checked_letter(struct_name: string, letter: string, lock: LetterLock): void {
  letter_locks.set(`${struct_name} ${letter}`, lock);
}
/** Says whose the letter `p` means in a structure that is not the CPU record. */
export function checked_owner(struct_name: string, owner: LetterOwner): void {
  owners.set(struct_name, owner);
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

let phase_word = 0;
let panic_word = 0;
let state_offset = 0;
let held_offset = 0;
let held_n_offset = 0;
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
  held_offset = field_word(pcpu.held, none);
  held_n_offset = field_word(pcpu.held_n, none);
  guard.access = access;
}

function access(
  layout: StructLayout,
  f: FieldLayout,
  p: number,
  write: boolean,
  old: number,
): void {
  if (thr.cpu < 0 || f.lock === '-') return;
  if (mem.I32[phase_word] !== PHASE_UP || mem.I32[panic_word] !== 0) return;
  if (write && (old >>> 0 === JUNK || fresh.some(([first, end]) => p >= first && p < end))) return;
  const wrong: string[] = [];
  for (const letter of f.lock) {
    const why = broken(layout, f, p, letter, write, old);
    if (why !== '') wrong.push(`(${letter}) ${why}`);
  }
  const enough = write ? wrong.length === 0 : wrong.length < f.lock.length;
  if (enough) return;
  const what = write ? 'write to' : 'read of';
  const at = `0x${addr(p).toString(16)}`;
  panic(`checked: ${what} ${layout.name}.${f.name} at ${at}: ${wrong.join(', ')}`);
}

/** What the rule of a letter says against an access; '' if nothing. */
function broken(
  layout: StructLayout,
  f: FieldLayout,
  p: number,
  letter: string,
  write: boolean,
  old: number,
): string {
  const said = letter_locks.get(`${layout.name} ${letter}`);
  if (said) return any_start(f, p, (start) => lock_broken(said(start), write));
  switch (letter) {
    case 'a':
      return write ? 'a plain store to an atomic field' : '';
    case 'c':
      return write && old !== 0 ? `a change of a constant that is ${old}` : '';
    case 'p':
      return owner_broken(layout, p);
    case 's': {
      const lock = layout.fields.find((x) => x.kind === 'lock');
      if (!lock) return '';
      return any_start(f, p, (start) => lock_broken(start + lock.offset, write));
    }
    default:
      return '';
  }
}
/**
 * Tries each place where the record may start: of an array the element is
 * known, not the record.  A place where no lock is found is no start; if there
 * is none at all, the record is being made and its lock does not exist yet.
 */
function any_start(f: FieldLayout, p: number, test: (start: number) => string | null): string {
  let broken_at: string | null = null;
  for (let i = 0; i < (f.kind === 'words' ? f.words : 1); i++) {
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
  const v = mem.I32[l];
  const name = `lock '${cls.name}' at 0x${addr(l).toString(16)}`;
  if (cls.kind === 'mtx') return (v & ~FLAGS) === thr.tid ? '' : `${name} is not held`;
  if (v & WRITE && (v & ~FLAGS) === thr.tid) return '';
  if (!holds_shared(l)) return `${name} is not held`;
  return write ? `${name} is only held shared` : '';
}
function holds_shared(l: number): boolean {
  const n = mem.I32[held_n_offset + thr.pc];
  for (let i = 0; i < n; i++) {
    const at = held_offset + thr.pc + i * 2;
    if (mem.I32[at] === l && mem.I32[at + 1] === HELD_READ) return true;
  }
  return false;
}

function owner_broken(layout: StructLayout, p: number): string {
  const owner = layout.name === 'pcpu' ? pcpu_owner(p) : (owners.get(layout.name)?.(p) ?? -1);
  if (owner < 0 || owner === thr.cpu) return '';
  const state = mem.I32[state_offset + mem.I32[pcpu_word] + owner * mem.I32[pcpu_words_word]];
  const claimed = (state & (CPU_PARKED | CPU_CLAIM)) === (CPU_PARKED | CPU_CLAIM);
  if (claimed && claimer_of(state) === thr.cpu) return '';
  return `it is cpu${owner}'s own, and cpu${thr.cpu} has no claim on it`;
}
function pcpu_owner(p: number): number {
  const cpu = Math.floor((p - mem.I32[pcpu_word]) / mem.I32[pcpu_words_word]);
  return cpu >= 0 && cpu < mem.I32[maxcpus_word] ? cpu : -1;
}
