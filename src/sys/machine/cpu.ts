/*
 * cpu: JavaScript threads as CPUs.
 *
 * A machine has a fixed number of CPU slots.  A thread that boots or attaches
 * takes a free one and gives it back when it detaches or dies; the word that says
 * whose a slot is stands apart (slot_word.ts).  Whatever is in a slot's record is
 * private to its thread, save `state`, which everybody changes through
 * read-modify-write only, and the other fields marked (a).
 *
 *      state  1 PARKED     owner: I touch none of my private things until I clear this
 *             2 CLAIM      another, only while PARKED: I am touching yours, stay away
 *             4 REQ_DRAIN  hand your caches over at your next slow path
 *             8 LATE       with REQ_DRAIN: somebody waited for that in vain, nobody waits again
 *            16 STOP       the machine is down, or panics: stop where you are
 *            32 DEAD       the owner is gone and being settled: nobody claims it
 *            64 FREE       no thread runs on this record: nobody claims it
 *           128 REQ_TLB    translations were taken back: say that you use none of them any more
 *         65536 HOLD       wait at your next poll until the debugger lets go (kdb.ts)
 *         8..15 slot + 1 of the claimer, with CLAIM
 *
 * Behind the machine's `maxcpus` slots come two *spare* ones.  They are slots like the
 * others, for a moment at a time: a thread that finds all slots held by the dead takes
 * one, because settling them takes locks, and those need a CPU; if the dead hold these,
 * too, it inherits one (cpu_slots.ts).  Behind them come caches
 * that are *nobody's* and always empty.  A thread that has left, was stopped, or is in
 * away() looks there: it falls out of every fast path and finds out in the slow one,
 * because nobody's state word, which boot never wipes, says PARKED and STOP.
 *
 * A thread is never pre-empted by another on its CPU, so a critical section
 * costs nothing; the nesting counter only serves the checks.
 *
 * Rules (the concurrency protocols rest on them):
 *   - park and unpark stand around every wait; private state is consistent then
 *   - a claim is innermost: all locks are taken before it, none inside it
 *   - slot and incarnation together name a CPU; an old owner is never mistaken
 *     for the slot's new one
 *
 * Read next: cpu_slots.ts (attach, detach), death.ts (threads that vanish).
 */
import {
  atomic_and,
  atomic_cas,
  atomic_load,
  atomic_notify,
  atomic_or,
  atomic_wait,
} from './atomic.ts';
import { EBUSY, ESHUTDOWN, KmemError } from './errno.ts';
import { M, MCACHE_START, machine, NOBODY_STATE } from './header.ts';
import { ROW_KERNEL_WORDS, ROW_PROGRAM_WORDS, ROW_WORDS } from './hw.ts';
import { life } from './life.ts';
import { once, opt } from './opt.ts';
import { cpu_stopped, panic } from './panic.ts';
import { SLOTS_MAX, SPARES } from './slot_word.ts';
import { field_word, i32, type Ptr, struct, words } from './struct.ts';

export const MAXCPU = SLOTS_MAX;
export const CPU_PARKED = 1;
export const CPU_CLAIM = 2;
export const CPU_REQ_DRAIN = 4;
export const CPU_LATE = 8;
export const CPU_STOP = 16;
export const CPU_DEAD = 32;
export const CPU_FREE = 64;
export const CPU_REQ_TLB = 128;
export const CPU_HOLD = 0x10000;
export const CPU_CLAIMER = 0xff00;
const CLAIMER_SHIFT = 8;

/** Locks that a CPU may read at once: one bit each in rw_used. */
const ROW_HOLDS = ROW_KERNEL_WORDS + ROW_PROGRAM_WORDS;
/** Undo sections that may be open inside one another. */
export const UNDO_LEVELS = 8;
/** Words that describe an open section: its lock, first pair, number of pairs, a spare one. */
export const UNDO_LOG_WORDS = 4;
/** Pairs of word and old value that the open sections of a CPU have between them. */
export const UNDO_PAIRS = 256;
/** Size classes that the fast path of malloc knows. */
export const MCACHE_SLOTS = 16;
export const MCACHE_SHIFT = 5;
const MCACHE_WORDS = 1 << MCACHE_SHIFT;
/** Runs of pages that a CPU may hold between two places: a slab that is made may need others. */
export const HAND_RUNS = 8;
/** Pages of a sort that a CPU's page cache has room for. */
export const PAGE_CACHE_MAX = 32;
/** The same for items of the allocator itself: slab headers, buckets, zones, kegs. */
export const HAND_ITEMS = 8;
/** References to memory objects that a CPU may have on their way. */
export const HAND_REFS = 16;
/** The same to stores (object/vm_store.ts). */
export const HAND_STORES = 4;
/** Address spaces that a CPU may translate at a time (pmap_tlb.ts). */
export const TLB_SETS_MAX = 8;
/** The same to address spaces. */
export const HAND_MAPS = 4;
/** Incarnations are counted modulo 2^20. */
export const INCARNATION_MASK = 0xfffff;

export type pcpu_t = Ptr<'pcpu'>;
/** Stands for the record of a thread that is no CPU; only its first word, `state`, is there. */
export const NOBODY = NOBODY_STATE as pcpu_t;

/*
 * Locks: (a) atomic  (p) this CPU's own
 *        (t) the owner's; after its death, the CPU's that settles it  (h) read by all, too
 */
export const pcpu = struct<pcpu_t>(
  'pcpu',
  32,
)({
  state: i32('a', 'CPU_* bits'),
  os_tid: i32('a', "the host's id of the thread, for tools; 0: none"),
  js_tid: i32('a', "worker_threads id; 0: none yet, or the main thread, whose end is everybody's"),
  lock_seen: i32('a', '1: the Web Lock of this incarnation was granted (web_locks.ts)'),
  waiting: i32('a', 'word that the thread waits on, 0: none'),
  stopped: i32('a', '1: it has seen STOP; 2: and has noted where it was, for a panic'),
  large_taken: i32('th', 'pages of large blocks that were allocated on this slot, modulo 2^32'),
  large_given: i32('th', 'the same that were freed'),
  held: i32('a', 'it waits because a debugger asked: 1'),
  gap: words('-', 'keeps the public line apart', 23),
  cpuid: i32('p', 'slot number'),
  critnest: i32('p', 'depth of critical sections'),
  rw_taking: i32('th', 'rw or sx lock that it is about to write: it has changed nothing yet'),
  rw_used: i32('p', "words of its row that name a lock it reads: a bit each, the kernel's first"),
  rw_counts: words('p', 'how often it reads the lock that each word names', ROW_HOLDS),
  undo_depth: i32('t', 'undo sections open'),
  recover_lock: i32('th', 'lock that this CPU is taking over'),
  recover_from: i32('t', 'tid of the dead owner it takes it from'),
  undo_logs: words(
    't',
    'of each section: its lock, first pair, pairs',
    UNDO_LEVELS * UNDO_LOG_WORDS,
  ),
  undo_pairs: words('t', 'the pairs of all: word and old value', UNDO_PAIRS * 2),
  signal: i32('a', 'errno of a pending abort of its sleep'),
  program: i32('a', 'a thread of the program, not one of the kernel'),
  counters: i32('c', 'this CPU block of counters'),
  in_hand_n: i32('th', 'runs of pages between two places'),
  in_hand: words(
    'th',
    'first page and length of each such run, the last taken last',
    HAND_RUNS * 2,
  ),
  cached_n: i32('th', 'free pages in its cache'),
  cached: words('t', 'those pages', PAGE_CACHE_MAX),
  zcached_n: i32('th', 'zeroed pages in its cache'),
  zcached: words('t', 'those pages', PAGE_CACHE_MAX),
  rcached_n: i32('th', 'free pages of runs in its cache'),
  rcached: words('t', 'those pages, of each run the last one first', PAGE_CACHE_MAX),
  growing: i32('a', 'pages that it is about to take for malloc or a zone'),
  in_hand_items: i32('t', 'items between two places'),
  in_hand_item: words('t', 'those items, the last taken last', HAND_ITEMS),
  in_hand_refs: i32('t', 'references to memory objects between two places'),
  in_hand_ref: words('t', 'those objects, the last taken last', HAND_REFS),
  paging: i32('t', 'objects in which it counts as paging'),
  paging_in: words('t', 'those objects', HAND_REFS),
  tlb: words('th', 'first word of the page of each set of tags, 0: there is none', TLB_SETS_MAX),
  tlb_pmap: words(
    'th',
    'whose addresses each set translates, by the lock of that; 0: nobody',
    TLB_SETS_MAX,
  ),
  tlb_next: i32('p', 'the set that is given up next'),
  tlb_supers: i32('th', 'first word of the page with their tags of superpages, 0: there is none'),
  map_dying: i32('t', 'first of the map entries that it took out and has not let go of; 0: none'),
  in_hand_maps: i32('t', 'references to address spaces between two places'),
  in_hand_map: words('t', 'those maps, the last taken last', HAND_MAPS),
  in_hand_stores: i32('t', 'references to stores between two places'),
  in_hand_store: words('t', 'those stores, the last taken last', HAND_STORES),
  moving: i32('t', 'object that gets a page of another one, or another one below it; 0: none'),
  swap_first: i32('t', 'first slot of the swap area that it has taken and not yet given to a page'),
  swap_n: i32('t', 'slots from there on'),
  swap_old: i32('t', 'first slot that no page has any more, and that is not free yet; 0: none'),
  swap_olds: i32('t', 'slots from there on'),
  sample_left: i32('p', 'bytes to the next request that is noted with its stack, 0: not drawn'),
});

export type mcache_t = Ptr<'mcache'>;
/*
 * Where malloc's fast path finds the current bucket of each size class: a record for
 * each CPU at a fixed place, so that the CPU number and the class lead there without
 * arithmetic of their own.  By way of the zones' caches a pair takes 1 ns more.
 */
export const mcache = struct<mcache_t>(
  'mcache',
  MCACHE_WORDS,
)({
  bucket: words('t', 'bucket of each size class', MCACHE_SLOTS),
  counted: words('t', 'the same, also while detectors hide it from the fast path', MCACHE_SLOTS),
});
/** The record of a CPU. */
export function mcache_of(cpu: number): mcache_t {
  return (MCACHE_START + (cpu << MCACHE_SHIFT)) as mcache_t;
}

/** What is private to this thread: which CPU it is. Written by thr_set and thr_clear alone. */
export const thr = {
  /** Slot number; -1: not attached. */
  cpu: -1,
  /** This CPU's record; nobody's in a thread that is no CPU. */
  pc: NOBODY,
  /** Slot and incarnation as lock words carry them. */
  tid: 0,
  /** Inside away(), or between park() and its end: kernel calls are an error. */
  away: false,
  /** This CPU's row of read holds. */
  row: 0,
};
/*
 * The slot number for the allocator's fast paths: a property that is added once,
 * so that V8 folds it into their code.  Nobody's number (a change costs 15 to 25 us of
 * new code, nothing afterwards) sends them all into their slow paths.  A thread whose
 * machine was shut down keeps its number for the next machine; nothing is in that
 * slot's caches any more.
 */
export const hot = {} as { readonly cpu: number };
function hot_set(cpu: number): void {
  if (hot.cpu !== cpu) once(hot, 'cpu', cpu);
}

/** Slots of the machine, the spare ones included: how many records can own things. */
export function cpu_slots(): number {
  return machine.maxcpus[M] + SPARES;
}
/** Whether a slot is a spare one. */
export function cpu_is_spare(cpu: number): boolean {
  return cpu >= machine.maxcpus[M];
}
/** Nobody's number: per-CPU caches are laid out up to it, and there they stay empty. */
export function cpu_nobody(): number {
  return machine.maxcpus[M] + SPARES;
}

/** Makes this thread CPU `cpu`. */
export function thr_set(cpu: number, pc: pcpu_t, tid: number): void {
  thr.cpu = cpu;
  thr.pc = pc;
  thr.tid = tid;
  thr.away = false;
  thr.row = row_of(cpu);
  hot_set(cpu);
}
/** This thread is no CPU any more. `over`: the machine is shut down, nobody takes the slot. */
export function thr_clear(over: boolean): void {
  thr.cpu = -1;
  thr.pc = NOBODY;
  thr.tid = 0;
  thr.away = false;
  thr.row = 0;
  if (!over) thr_off();
}
/** Sends this thread's fast paths into their slow ones: it is stopped, or away. */
export function thr_off(): void {
  if (machine.maxcpus) hot_set(cpu_nobody());
}
/** The end of away: fast paths work again. */
export function thr_on(): void {
  thr.away = false;
  if (thr.cpu >= 0) hot_set(thr.cpu);
}

/** The record of slot `cpu`. */
export function pcpu_of(cpu: number): pcpu_t {
  return (machine.pcpu[M] + cpu * machine.pcpu_words[M]) as pcpu_t;
}
/** The row of read holds of slot `cpu`. */
export function row_of(cpu: number): number {
  return machine.rw_rows[M] + cpu * ROW_WORDS;
}
/** The CPU this thread is. */
export function curcpu(): number {
  return thr.cpu;
}
/** What lock words and claims carry for slot `cpu` in its incarnation. */
export function cpu_tid(cpu: number, incarnation: number): number {
  return ((incarnation & INCARNATION_MASK) << 11) | ((cpu + 1) << 3);
}
/** The slot a tid names. */
export function tid_cpu(tid: number): number {
  return ((tid >> 3) & 0xff) - 1;
}
/** The word index of a CPU's state. */
export function cpu_state_word(cpu: number): number {
  return field_word(pcpu.state, pcpu_of(cpu));
}

// --- critical sections -------------------------------------------------------

/** Enters a critical section: only counted, nothing can pre-empt this thread. */
export function critical_enter(): void {
  if (opt.INVARIANTS) pcpu.critnest[thr.pc]++;
}
/** Leaves a critical section. */
export function critical_exit(): void {
  if (opt.INVARIANTS && --pcpu.critnest[thr.pc] < 0) panic('critical_exit: not inside a section');
}

// --- polling and parking -----------------------------------------------------

/**
 * Looks whether this CPU may go on: one atomic load.  Serves STOP and REQ_TLB, which take
 * no lock and do not sleep, and waits while a debugger holds it; stands at the entry of every
 * slow path, in every spin loop and after every sleep.  Throws ESHUTDOWN or KernelPanic in a
 * thread that was stopped or has left, EBUSY in one that is in away().
 */
export function poll(): void {
  const v = atomic_load(field_word(pcpu.state, thr.pc));
  if ((v & (CPU_STOP | CPU_DEAD | CPU_PARKED | CPU_REQ_TLB | CPU_HOLD)) !== 0) poll_slow(v);
}
function poll_slow(seen: number): void {
  let v = seen;
  if ((v & (CPU_HOLD | CPU_PARKED)) === CPU_HOLD && thr.cpu >= 0) {
    life.hold_wait();
    v = atomic_load(field_word(pcpu.state, thr.pc));
  }
  // No access is under way in a thread that looks here, and its tags are empty (pmap_tlb.ts).
  if (v & CPU_REQ_TLB && thr.cpu >= 0) atomic_and(field_word(pcpu.state, thr.pc), ~CPU_REQ_TLB);
  if ((v & (CPU_STOP | CPU_DEAD | CPU_PARKED)) === 0) return;
  if (thr.cpu < 0) throw new KmemError(ESHUTDOWN, 'kmem', 'this thread is no CPU of a machine');
  if (v & (CPU_STOP | CPU_DEAD)) cpu_stopped(v);
  // Parked without being away: it is on its way to sleep, and takes a lock for that.
  if (thr.away) throw new KmemError(EBUSY, 'kmem', 'this thread is parked: no calls inside away()');
}

/** Says that this CPU touches nothing private until unpark. */
export function park(): void {
  if (opt.INVARIANTS && pcpu.critnest[thr.pc] !== 0) {
    panic('park: inside a critical section', pcpu.critnest[thr.pc]);
  }
  atomic_or(field_word(pcpu.state, thr.pc), CPU_PARKED);
}
/** Comes back: waits for a claim to end, then looks for requests. */
export function unpark(): void {
  unpark_quiet();
  poll();
}
/** unpark without the poll, for the few places that must not throw. */
export function unpark_quiet(): void {
  const w = field_word(pcpu.state, thr.pc);
  for (;;) {
    const v = atomic_load(w);
    if (v & CPU_CLAIM) {
      if (atomic_wait(w, v, CLAIM_SLICE_MS) === 'timed-out') life.claim_stuck(v);
    } else if (atomic_cas(w, v, v & ~CPU_PARKED) === v) return;
  }
}
const CLAIM_SLICE_MS = 20;
/** Parks this thread until away_end: others may take back what it caches. */
export function away_begin(): void {
  park();
  thr.away = true;
  thr_off();
}
/** Comes back from away_begin. Throws if the machine was stopped meanwhile. */
export function away_end(): void {
  thr_on();
  unpark();
}

/**
 * Claims the private things of a parked CPU.  The caller holds every lock it
 * will need and takes none until `cpu_unclaim`.  False: it is not parked, or nobody's,
 * or dead.
 */
export function cpu_claim(cpu: number, clear: number): boolean {
  const w = cpu_state_word(cpu);
  const v = atomic_load(w);
  const all = CPU_PARKED | CPU_CLAIM | CPU_FREE | CPU_DEAD;
  if ((v & all) !== CPU_PARKED) return false;
  const mine = CPU_CLAIM | ((thr.cpu + 1) << CLAIMER_SHIFT);
  return atomic_cas(w, v, (v & ~clear & ~CPU_CLAIMER) | mine) === v;
}
/** Ends a claim and wakes its CPU if that waits to come back. */
export function cpu_unclaim(cpu: number): void {
  const w = cpu_state_word(cpu);
  atomic_and(w, ~(CPU_CLAIM | CPU_CLAIMER));
  atomic_notify(w, 1);
}
/** The slot that claims the CPU with this state word, -1 if none does. */
export function claimer_of(state: number): number {
  return ((state & CPU_CLAIMER) >> CLAIMER_SHIFT) - 1;
}
/** Makes an idle CPU's event loop look at its state word. */
export function cpu_ring(cpu: number): void {
  atomic_notify(cpu_state_word(cpu), 1);
}
