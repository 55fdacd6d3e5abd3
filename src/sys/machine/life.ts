/*
 * life: the tables of the system's life, as the floors below boot see them.
 *
 * boot/main.ts says, a line each with a phrase, what happens when a thread becomes a
 * CPU, when it leaves, when it died, before it sleeps, when it is rung, panics, when memory is
 * short, and how a structure is made sound after a death under its lock.  No file
 * registers itself: this object is empty until boot/main.ts fills it, once, before the
 * first boot, and TypeScript asks there for every entry.
 *
 * `claim_stuck`, `reclaim` and their like are single upward calls of a lower floor.
 */

/** One line of a table: what is run, and why, in a phrase. */
export type Line<A extends unknown[] = []> = readonly [run: (...args: A) => void, why: string];

export interface Life {
  /** A thread has become a CPU; locks work. */
  readonly attach: readonly Line[];
  /** It leaves, whatever the reason; afterwards nothing private is left. */
  readonly leave: readonly Line[];
  /** What a dead CPU left; these lines take no lock, so they run wherever it is met. */
  readonly death_lockless: readonly Line<[cpu: number]>[];
  /** The rest of what it left; run by a CPU that holds no lock. */
  readonly death: readonly Line<[cpu: number]>[];
  /** The event loop of an idle CPU was rung. */
  readonly bell: readonly Line[];
  /** A CPU is about to sleep; inner locks only. */
  readonly idle: readonly Line[];
  /** This CPU panicked, and the others have stopped: takes no lock, and changes nothing. */
  readonly panic: readonly Line[];
  /** Memory is short; called by the page daemon, holding no lock. */
  readonly lowmem: readonly Line[];
  /** By class of lock (lock_order.ts): makes the structure behind a lock anew, or walks it. */
  readonly recover: Readonly<Record<string, Line<[lock: number]>>>;
  /**
   * By kind of page (h/vm_page.ts): whether a page that a dead CPU had in its hand belongs
   * to nobody, because its owner does not lead to it.  Kinds without a line have no owner
   * but the hand.
   */
  readonly page_unowned: ReadonlyMap<number, (m: number) => boolean>;
  /** A CPU cannot come back because of a claim; `state` is its state word. */
  readonly claim_stuck: (state: number) => void;
  /** The locks of the kernel that this CPU holds, by name; slow, and takes none. */
  readonly locks_held: () => string[];
  /** Gets memory back from caches and slabs; with `wait` it waits for CPUs. Returns pages. */
  readonly reclaim: (wait: boolean) => number;
  /**
   * Lets go of what nobody needs: freed blocks that wait for the sake of debugging and, with
   * `cached`, pages that objects have and stores have too.  Returns pages.
   */
  readonly unhold: (cached: boolean) => number;
  /** An object that shows pages of a loan, or did, ends. */
  readonly object_loan_end: (o: number) => void;
  /** Allocations and frees of a zone of malloc on a CPU, over all types that take from it. */
  readonly class_counts: (z: number, cpu: number) => { allocs: number; frees: number };
  /** The name of the malloc type whose record is at a word. */
  readonly type_name: (t: number) => string;
  /** A debugger holds this CPU: returns when it may go on (kdb.ts). */
  readonly hold_wait: () => void;
  /** What the program calls the lock at a word, `mutex 'index'`; '' if it has no name. */
  readonly lock_label: (l: number) => string;
}

export const life = {} as Life;

/** Fills the tables. A second call, by another copy of boot, is an error of the program. */
export function life_begin(tables: Life): void {
  if (life.attach !== undefined) throw new Error('life: the tables are filled already');
  Object.assign(life, tables);
}
/** Runs every line of a table. */
export function life_run(table: readonly Line[]): void {
  for (const [run] of table) run();
}
/** Runs every line of a table for a CPU. */
export function life_run_for(table: readonly Line<[number]>[], cpu: number): void {
  for (const [run] of table) run(cpu);
}
