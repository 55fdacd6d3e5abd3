/*
 * slot_word: one word for each CPU slot says whose it is.
 *
 *      bits    CLOSED, FREE              HELD                SETTLE
 *      0..2    0, 1                      2                   3
 *      3..22   incarnation of the next   of the owner        of the dead owner
 *      23..63  generation                who (host.ts)       tid >> 3 of the settler; 0: nobody
 *
 *      CLOSED  no machine, or it is down
 *      FREE    anybody with a handle of that generation may take it
 *      HELD    by the thread that `who` names
 *      SETTLE  the owner is dead, and what it left is being settled
 *
 *            boot            take                 leave
 *      CLOSED ──> FREE ─────────> HELD ────────────────────> FREE
 *                  ^                │ proof that `who` is gone   │ shutdown
 *                  └──── settled ── SETTLE                     CLOSED
 *
 * Every change is one 64-bit compare-and-swap, so the order of changes of one word
 * proves that a slot has one owner.  There is no state "being taken": the swap that
 * takes a slot carries who takes it, and a death one instruction later is decided
 * like any other.  The proof that an owner is gone is about the `who` of the value
 * that was read, gone is for ever, and the swap names that very value: it fails if
 * the slot has moved on meanwhile.
 *
 * The words lie at a fixed place that boot never wipes, so that the swap of a late
 * attacher can hit nothing else.  FREE carries the generation of the handle by which
 * it may be taken.  The spare slots have the last words (cpu.ts says what they are for).
 * One more change is theirs: from HELD by the dead, or SETTLE, to HELD by an heir in the
 * next incarnation (cpu_slots.ts).
 *
 * The boot word behind them holds who boots this memory, 0: nobody; behind it is the
 * number of boots, the last generation.
 *
 * Attaching and looking for the dead are rare: these are Atomics on BigInts, the only
 * ones in the kernel.  Modelled in models/slots.pml.
 */
import { LIFE_START } from './header.ts';
import { opt } from './opt.ts';
import { P_CAS, P_LOAD, sim } from './sim.ts';

export const SLOT_CLOSED = 0;
export const SLOT_FREE = 1;
export const SLOT_HELD = 2;
export const SLOT_SETTLE = 3;
export const SLOTS_MAX = 64;
/** Spare slots: a thread that dies on one is settled from the other, or by its heir. */
export const SPARES = 2;
/** Index of the first spare slot's word. */
export const LIFE_SPARE = SLOTS_MAX;
const BOOT_WORD = LIFE_SPARE + SPARES;
const GENERATION = BOOT_WORD + 1;
const INCARNATIONS = 0xfffffn;

/** The words of the memory that this thread looks at: private, bound by life_bind. */
let life: BigUint64Array = new BigUint64Array(GENERATION + 1);

/** Looks at the words of `buffer` from here on. */
export function life_bind(buffer: ArrayBufferLike): void {
  life = new BigUint64Array(buffer, LIFE_START * 4, GENERATION + 1);
}

/** A slot's word, as read once. */
export type slot_word_t = bigint & { readonly __slot: true };

export function slot_word(state: number, incarnation: number, rest: number): slot_word_t {
  const inc = BigInt(incarnation) & INCARNATIONS;
  return (BigInt(state) | (inc << 3n) | (BigInt(rest) << 23n)) as slot_word_t;
}
/** SLOT_*. */
export function slot_state(v: slot_word_t): number {
  return Number(v & 7n);
}
export function slot_incarnation(v: slot_word_t): number {
  return Number((v >> 3n) & INCARNATIONS);
}
/** Bits 23..63: generation, who, or the settler. */
export function slot_rest(v: slot_word_t): number {
  return Number(v >> 23n);
}

/** Reads the word of life index `i`. */
export function slot_load(i: number): slot_word_t {
  if (opt.SIM) sim.point(P_LOAD, LIFE_START + i * 2);
  return Atomics.load(life, i) as slot_word_t;
}
/** Changes the word if it is still `seen`. */
export function slot_swap(i: number, seen: slot_word_t, next: slot_word_t): boolean {
  if (opt.SIM) sim.point(P_CAS, LIFE_START + i * 2);
  return Atomics.compareExchange(life, i, seen, next) === seen;
}

/** Takes the boot word for `who`; `dead` tells whether its present owner is gone. */
export function boot_word_take(who: number, dead: (who: number) => boolean): boolean {
  const v = Atomics.load(life, BOOT_WORD);
  if (v !== 0n && !dead(Number(v))) return false;
  return Atomics.compareExchange(life, BOOT_WORD, v, BigInt(who)) === v;
}
/** Lets go of the boot word. */
export function boot_word_drop(): void {
  Atomics.store(life, BOOT_WORD, 0n);
}
/** One more boot of this memory: its generation. The boot word is held. */
export function next_generation(): number {
  return Number(Atomics.add(life, GENERATION, 1n)) + 1;
}
