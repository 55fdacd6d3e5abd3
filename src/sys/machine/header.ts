/*
 * header: the machine's own record, at a fixed place in its memory.
 *
 * Everything that a thread needs in order to attach, and a tool in order to
 * read the memory, starts here: magic and layout, who booted, the options, where
 * the per-CPU records and the columns lie.
 *
 * Boot structures are taken from the bottom of memory by boot_alloc, a bump
 * pointer that is frozen when the rest is handed to the page floor.
 */
import { ENOMEM, KmemError } from './errno.ts';
import { hw, memory_state } from './memory.ts';
import { i32, type Ptr, struct, u32, u64, words } from './struct.ts';

export const MACHINE_MAGIC = 0x6b6d656d; // 'kmem'
export const PHASE_BOOT = 1;
export const PHASE_UP = 2;
export const PHASE_DOWN = 3;
export const SITE_WORDS = 32;
export const PANIC_TEXT_WORDS = 64;
export const FOLDER_WORDS = 128;
export const COLUMN_SETS_MAX = 8;

export type machine_t = Ptr<'machine'>;

/*
 * Locks: (c) constant once booted  (a) atomic  (b) written by the booting CPU alone
 *        (y) written by the CPU that booted, also when the machine is up
 *        (r) each anchor is set once, most of them at boot
 *        (x) written by the CPU that panics, once panic_cpu names it  (h) read by all
 */
export const machine = struct<machine_t>(
  'machine',
  32,
)({
  magic: u32('c', 'MACHINE_MAGIC: this memory holds a machine'),
  layout: i32('c', 'layout hash: attaching threads must have the same'),
  id_low: i32('c', 'machine id'),
  generation: i32('a', 'boots of this memory so far; 0: never'),
  phase: i32('a', 'PHASE_*'),
  options: i32('c', 'kernel options, one bit each (opt.ts)'),
  attached: i32('a', 'threads that held a slot when one last changed: a hint for tools'),
  lowmem: i32('a', 'times that memory ran short: every thread calls its subscribers'),
  panic_cpu: i32('a', 'slot + 1 of the CPU that panics; 0: none'),
  maxcpus: i32('c', 'CPU slots'),
  host_cpus: i32('c', "the host's cores: no spinning when there are more CPUs than these"),
  pcpu: i32('c', 'first per-CPU record'),
  pcpu_words: i32('c', 'words from one per-CPU record to the next'),
  rw_rows: i32('c', 'first row of read holds, one for each CPU slot (hw.ts)'),
  rw_cpus: i32('a', 'rows that were ever used: who looks for readers looks at so many'),
  stops: i32('c', 'first record of where a CPU stopped (cpu_stop.ts)'),
  counters: i32('c', 'first per-CPU counter block'),
  counter_words: i32('c', 'words from one counter block to the next'),
  tunables: i32('c', 'first word of the declared sysctl variables'),
  boot_next: i32('b', 'next free word for boot_alloc'),
  boot_end: u32('b', 'boot_alloc may not pass this word: 2^31 in 8 GiB'),
  npages: i32('c', 'pages of memory in use, boot structures included'),
  first_page: i32('b', 'first page that the page floor manages'),
  zeroed_from: i32('c', 'pages from this one on are known to be zero at boot'),
  domains: i32('c', 'memory domains'),
  random: i32('a', 'state of the kernel random generator'),
  tlb_asked: i32('a', 'shoot-downs so far, modulo 2^32 (tlb_ack.ts)'),
  tlb_quiet: i32('a', 'what tlb_asked was when no CPU owed an answer'),
  column_start: words('c', 'first word of each column set', COLUMN_SETS_MAX),
  column_rows: words('c', 'rows of each column set', COLUMN_SETS_MAX),
  roots: words('rh', 'anchors of the floors, by ROOT_*', 32),
  size_bytes: u64('c', 'bytes of memory in use'),
  boot_time: u64('c', 'ms since the epoch'),
  site: words('yh', 'file:line of the boot call; the façade gives its own', SITE_WORDS),
  panic_text: words('xh', 'the panic message', PANIC_TEXT_WORDS),
  dumped: i32('a', 'why it was dumped so far: DUMPED_*'),
  dump_folder: words('yh', 'where a panic leaves a dump; empty: nowhere', FOLDER_WORDS),
});

/** The header's place: word 64, after the guard around NULL. */
export const M = 64 as machine_t;
/** Behind it the buckets of malloc's fast path: 32 words for each CPU (cpu.ts). */
export const MCACHE_START = 512;
/** The records of the 64 CPUs, and behind them the two spare slots' and nobody's (cpu.ts). */
const MCACHES = 64 + 3;
/**
 * Behind them what boot never wipes: a 64-bit word for each slot and the spare ones, the
 * boot word and the number of boots (slot_word.ts).  A thread that attaches late may
 * change these at any time.
 */
export const LIFE_START = MCACHE_START + MCACHES * 32;
export const LIFE_WORDS = 160;
/** The state word of a thread that is no CPU (cpu.ts). */
export const NOBODY_STATE = LIFE_START + LIFE_WORDS - 2;
export const HEADER_END = LIFE_START + LIFE_WORDS;

/* Anchors: where each floor keeps the pointer to its own global record. */
export const ROOT_SLEEPQ = 0;
export const ROOT_PHYS = 1;
export const ROOT_UMA = 2;
export const ROOT_MALLOC = 3;
export const ROOT_SYSCTL = 4;
export const ROOT_WITNESS = 5;
export const ROOT_PROF = 6;
export const ROOT_KDB = 7;
export const ROOT_LIB = 8;
export const ROOT_MBUF = 9;
export const ROOT_PAGEQ = 10;
export const ROOT_OBJECT = 11;
export const ROOT_LIMBO = 12;
export const ROOT_PMAP = 13;
export const ROOT_MAP = 14;
export const ROOT_WINDOW = 15;
export const ROOT_SWAP = 16;
export const ROOT_STORE = 17;
export const ROOT_VNODE = 18;
export const ROOT_PAGEOUT = 19;
export const ROOT_KERN = 20;
export const ROOT_LOAN = 21;
export const ROOT_DMA = 22;
export const ROOT_STACK = 23;
export const ROOT_GUARD = 24;
export const ROOT_TEST = 31;

/**
 * Takes `n` words for a boot structure, aligned to `align` words and zero.
 * Throws ENOMEM naming `what` when the memory is too small for its own kernel.
 */
export function boot_alloc(n: number, what: string, align = 2): number {
  const at = Math.ceil(machine.boot_next[M] / align) * align;
  if (at + n > machine.boot_end[M]) {
    throw new KmemError(
      ENOMEM,
      'boot',
      `${memory_state.size / 2 ** 20}M of memory are too small for ${what} ` +
        `(${machine.maxcpus[M]} CPU slots): give more memory or fewer cpus`,
    );
  }
  if (machine.zeroed_from[M] !== 0) hw.fill(at, 0, n); // memory of a former machine
  machine.boot_next[M] = at + n;
  return at;
}
