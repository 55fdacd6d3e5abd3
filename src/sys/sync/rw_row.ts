/*
 * rw_row: which rw and sx locks this CPU reads.
 *
 * A read hold is one word in the row of its holder (hw.ts); the lock itself
 * counts no readers.  A writer looks through the rows.
 *
 *      row, shared, of each CPU      used | word 0 .. 7 kernel | word 8 .. 31 program
 *      beside it, private            rw_used: a bit for each word that is set
 *                                    rw_counts: how often the lock is read
 *
 * Only the owner changes a row while it lives; after its death, whoever has
 * claimed that death.  The used count of a row, and the number of rows that
 * were ever used, grow before what they cover is used: the writer that does not
 * look at a word has looked before the reader announced itself there.
 *
 * The kernel has words of its own, so that a program that reads as many locks
 * as it may can still ask for a sysctl.
 */
import { atomic_cas, atomic_load, atomic_xchg } from '../machine/atomic.ts';
import { pcpu as pcpu_, row_of, thr as thr_ } from '../machine/cpu.ts';
import { M, machine } from '../machine/header.ts';
import { ROW_KERNEL_WORDS, ROW_PROGRAM_WORDS } from '../machine/hw.ts';
import { mem as mem_ } from '../machine/memory.ts';
import { field_word } from '../machine/struct.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const pcpu = pcpu_;
const thr = thr_;
const mem = mem_;

/** Locks of the program that one thread may read at once. */
export const ROW_PROGRAM_MAX = ROW_PROGRAM_WORDS;
/** Bits of the words for each kind of lock. */
export const KERNEL_BITS = (1 << ROW_KERNEL_WORDS) - 1;
export const PROGRAM_BITS = ~KERNEL_BITS;
/** Bit, and so number, of the first word for locks of the program. */
export const PROGRAM_FIRST = ROW_KERNEL_WORDS;
const USED_SHIFT = 8;
const USED_MASK = 0xff;

/** The word of a row that belongs to a bit. */
export function row_word(row: number, i: number): number {
  return row + 1 + i;
}
/** The number of this CPU's word that names lock `l`; -1: it does not read it. */
export function row_find(l: number): number {
  const row = thr.row;
  for (let left = pcpu.rw_used[thr.pc]; left !== 0; left &= left - 1) {
    const i = 31 - Math.clz32(left & -left);
    if (mem.I32[row + 1 + i] === l) return i;
  }
  return -1;
}
/** Whether the row's used count covers word `i`. */
export function row_covers(row: number, i: number): boolean {
  const used = mem.I32[row]; // my own word: only I change it
  return i < PROGRAM_FIRST ? i < used >> USED_SHIFT : i - PROGRAM_FIRST < (used & USED_MASK);
}
/** Makes word `i` of this CPU's row one that writers look at. */
export function row_grow(i: number): void {
  const row = thr.row;
  const cpus = field_word(machine.rw_cpus, M);
  for (;;) {
    const n = atomic_load(cpus);
    if (n > thr.cpu || atomic_cas(cpus, n, thr.cpu + 1) === n) break;
  }
  const used = mem.I32[row];
  const kernel = used >> USED_SHIFT;
  const program = used & USED_MASK;
  const next =
    i < PROGRAM_FIRST
      ? ((i + 1) << USED_SHIFT) | program
      : (kernel << USED_SHIFT) | (i - PROGRAM_FIRST + 1);
  atomic_xchg(row, next);
}
/** Locks that CPU `cpu` reads: of another CPU a sample. */
export function rw_read_holds(cpu: number): number[] {
  const row = row_of(cpu);
  const held: number[] = [];
  for (let i = 0; i < ROW_KERNEL_WORDS + ROW_PROGRAM_WORDS; i++) {
    const l = atomic_load(row_word(row, i));
    if (l !== 0) held.push(l);
  }
  return held;
}
