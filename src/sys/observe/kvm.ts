/*
 * kvm: the statistics of a memory that nobody here runs, read as those of a live machine are.
 *
 *      const k = kvm_open('app.core');              a string: why not, and at which byte
 *      memstat_read(memstat_sysctl_all, k.fetch)    the same reader as for a live machine
 *
 * A source (memory_source.ts) is read into shared memory of its own, and this thread's views
 * are bound to it.  From then on the kernel's own readers run here: the walks that make the
 * streams kern.malloc_stats and vm.zone_stats, counters, variables.  So a dump and a live machine
 * can only differ in what is in their memory.  The source of this thread's own memory is bound
 * already: after a panic the same readers serve where they stand.
 *
 * This thread becomes no CPU.  Becoming one would write a record, and would need locks that
 * may be held by threads that are in the dump as they were; so no lock is taken, the
 * walks are called without, and no sleeper is waited for.  What a sample notes about
 * itself (`approximate`) is written into the copy; a source is only read.
 *
 * Only names that need no lock are answered: the two streams and what goes with them,
 * numbers, counters.  Others are ENOENT, as in a kernel that does not have them.
 *
 * The memory may be wrong: that may be why it was dumped.  Views give `undefined` beyond
 * the end and trap nowhere, and each walk ends when more has come out of it than the
 * memory says there is.  What came before the fault is the answer; `damage` says where it was.
 *
 * `quiet` says whether the figures belong together.  A dump's notes do; the memory of a process
 * that runs is copied twice, and its counts of types and zones are read before and after the
 * second time: if they are the same, nothing was taken or freed meanwhile.
 *
 * Such a thread may not be a CPU of a machine; a machine that it boots afterwards gets
 * memory of its own.  The last source that was opened is the one that is read.
 */
import { counter_get, counter_type, counters } from '../machine/counter.ts';
import { MAXCPU, thr } from '../machine/cpu.ts';
import { EIO, ENOENT, errno_name } from '../machine/errno.ts';
import { M, MACHINE_MAGIC, machine } from '../machine/header.ts';
import {
  mem,
  memory_bind,
  memory_buffer,
  memory_create,
  memory_state,
  type SharedMemory,
} from '../machine/memory.ts';
import { opt_bind } from '../machine/opt.ts';
import { columns_bind, columns_words, elem, get64 } from '../machine/struct.ts';
import { sysctl_decls, sysctl_get, sysctl_number } from '../machine/sysctl_decl.ts';
import { malloc_count_walk } from '../kmem/kern_malloc_sums.ts';
import { malloc_marks_walk, malloc_stats_walk } from '../kmem/kern_malloc_stats.ts';
import { PHYS_COLUMNS, phys_root, vm_phys } from '../page/vm_phys.ts';
import {
  type StreamOut,
  zone_count_walk,
  zone_marks_walk,
  zone_record_unlocked,
  zone_stats_walk,
} from '../uma/uma_stats.ts';
import { DUMP_QUIET, type DumpHead } from './dump_elf.ts';
import { file_source, type MemorySource, PIECE, pages_take } from './memory_source.ts';
import { packed_source } from './source_packed.ts';
import { swap_list } from './swap_info.ts';
import type { memstat_fetch } from './memstat_sysctl.ts';

/** A memory that can be read. */
export interface Kvm {
  readonly head: DumpHead;
  /** Its figures belong together. */
  readonly quiet: boolean;
  /** A node's bytes by name, as memstat asks for them. */
  readonly fetch: memstat_fetch;
  /** What could not be read because the memory is wrong there; '' if nothing was. */
  damage(): string;
}

// --- the copy --------------------------------------------------------------------------

/**
 * Copies a source's memory over what `all` has.  `untouched` has the places of pieces that were
 * holes in the source and are zero in `all`; null: all of it is zero.  Pieces that still are holes
 * are left out.  Returns these, or a string that says what is wrong.
 */
function copy(
  source: MemorySource,
  all: Int32Array,
  untouched: ReadonlySet<number> | null,
): ReadonlySet<number> | string {
  const holes = new Set<number>();
  const { base, live } = source;
  const { size } = source.head;
  const piece = new Int32Array(Math.min(PIECE, size) >> 2);
  const bytes = new Uint8Array(piece.buffer);
  for (let at = 0; at < size; at += bytes.length) {
    const n = Math.min(bytes.length, size - at);
    const zero = untouched === null || untouched.has(at);
    if (zero && source.hole?.(at, n)) {
      holes.add(at);
      continue;
    }
    const got = source.read(at, bytes.subarray(0, n));
    const place = live ? `address ${(base + at).toString(16)}` : `byte ${base + at}`;
    if (got < 0) return `${place}: ${errno_name(-got)}: it cannot be read`;
    if (got < n) return `${place}: it ends here: ${live ? 'the program ended' : 'it was cut'}`;
    pages_take(all, at, piece, n);
  }
  return holes;
}
/** Memory with a copy of the source's, and its holes. A string says what is wrong. */
function load(source: MemorySource): { memory: SharedMemory; holes: ReadonlySet<number> } | string {
  let memory: SharedArrayBuffer;
  try {
    memory = memory_create(source.head.size, 'atomics') as SharedArrayBuffer;
  } catch (e) {
    return (e as Error).message;
  }
  const holes = copy(source, new Int32Array(memory), null);
  return typeof holes === 'string' ? holes : { memory, holes };
}
interface Loaded {
  readonly source: MemorySource;
  readonly memory: SharedMemory;
}

// --- the memory ------------------------------------------------------------------------

/** Why the memory cannot be bound; '' if it can. */
function header_fault({ source, memory }: Loaded): string {
  const { head, base, kind } = source;
  const unit = kind === 'process' || kind === 'own' ? 'address' : 'byte';
  const at = `${unit} ${(base + M * 4).toString(unit === 'byte' ? 10 : 16)}`;
  const { byteLength } = memory_buffer(memory);
  if (machine.magic[M] !== MACHINE_MAGIC) return `${at}: the memory holds no machine`;
  const same =
    machine.id_low[M] === head.id &&
    machine.generation[M] === head.generation &&
    machine.layout[M] === head.layout &&
    get64(machine.size_bytes, M) === head.size;
  if (!same) return `${at}: the memory is of another machine than the notes say`;
  const cpus = machine.maxcpus[M];
  if (!(cpus >= 1 && cpus <= MAXCPU)) return `${at}: a machine of ${cpus} CPUs`;
  for (const [i, { name }] of PHYS_COLUMNS.entries()) {
    const start = machine.column_start[elem(M, i)];
    const rows = machine.column_rows[elem(M, i)];
    const fits = start > 0 && rows >= 0 && (start + columns_words(name, rows)) * 4 <= byteLength;
    if (!fits) return `${at}: the columns ${name} are not in the memory`;
  }
  return pages_fault(at);
}
/** Why the pages cannot be walked: each sum of them goes from `low` to `high`. */
function pages_fault(at: string): string {
  const ph = phys_root();
  const pages =
    machine.column_rows[
      elem(
        M,
        PHYS_COLUMNS.findIndex((c) => c.name === 'vm_page'),
      )
    ];
  const low = vm_phys.low[ph];
  const high = vm_phys.high[ph];
  return low >= 0 && low <= high && high <= pages
    ? ''
    : `${at}: the free pages are not among its ${pages} pages`;
}
function bind(loaded: Loaded): string {
  const own = memory_state.memory === loaded.memory;
  if (!own) {
    opt_bind(0); // no option of that machine matters to a reader
    memory_bind(loaded.memory);
  }
  const fault = header_fault(loaded);
  if (fault !== '' || own) return fault;
  for (const [i, { name }] of PHYS_COLUMNS.entries()) {
    columns_bind(name, machine.column_start[elem(M, i)], machine.column_rows[elem(M, i)]);
  }
  return '';
}

// --- the readers -------------------------------------------------------------------------

/** Rows beyond those that were counted: a dump of a running machine may have some. */
const ROWS_MORE = 64;
const ROW_MIN = 32;
/**
 * Most rows of a walk, whatever number the memory has for them: a type or a zone takes
 * more bytes than RECORD_MIN, and nobody reads more rows than ROWS_MAX, or more bytes than
 * BYTES_MAX.
 */
const RECORD_MIN = 128;
const ROWS_MAX = 2 ** 20;
const BYTES_MAX = 2 ** 26;
const ENDLESS = 'a list that does not end';
/** What a walk gave, and where the memory was wrong: '' if nowhere. */
interface Walked {
  readonly rows: Uint8Array[];
  readonly fault: string;
}
/**
 * Runs a walk, and keeps what holds: the rows up to where it met something wrong.  One that gives
 * more than the memory says there is goes in a circle: then the rows of the first time round.
 */
function rows_of(walk: (out: StreamOut) => number, max: number): Walked {
  const rows: Uint8Array[] = [];
  let calls = 0;
  let bytes = 0;
  const room = Math.min(memory_state.size / RECORD_MIN, ROWS_MAX);
  const most = Math.min(Math.ceil(max / ROW_MIN), room) + ROWS_MORE;
  try {
    const error = walk((row) => {
      bytes += row.length;
      if (++calls > most || bytes > BYTES_MAX) throw new Error(ENDLESS);
      if (row.length > 0) rows.push(row.slice());
      return 0;
    });
    return { rows, fault: error === 0 ? '' : errno_name(error) };
  } catch (e) {
    const fault = (e as Error).message;
    return { rows: fault === ENDLESS ? once_round(rows) : rows, fault };
  }
}
/** The rows before the first that came before. */
function once_round(rows: readonly Uint8Array[]): Uint8Array[] {
  const seen = new Set<string>();
  const text = (row: Uint8Array): string => new TextDecoder('latin1').decode(row);
  const again = rows.findIndex((row) => seen.size === seen.add(text(row)).size);
  return rows.slice(0, again < 0 ? rows.length : again);
}
function joined(rows: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(rows.reduce((n, row) => n + row.length, 0));
  let at = 0;
  for (const row of rows) {
    all.set(row, at);
    at += row.length;
  }
  return all;
}
/** Bytes of a node, and what of the memory was wrong. */
interface Answer {
  readonly bytes: Uint8Array | number;
  readonly fault: string;
}
function report({ rows, fault }: Walked): Answer {
  return { bytes: joined(rows), fault };
}
/**
 * A stream whose header counts its rows.  A row may have come, or gone, while the dump was
 * written: what counts is what is there.
 */
function stream(walk: (out: StreamOut) => number, max: number): Answer {
  const { rows, fault } = rows_of(walk, max);
  if (rows.length === 0 || rows[0].length < STREAM_COUNT + 4) return { bytes: EIO, fault };
  const all = joined(rows);
  new DataView(all.buffer).setUint32(STREAM_COUNT, rows.length - 1, true);
  return { bytes: all, fault };
}
/** Where both streams have the number of their rows. */
const STREAM_COUNT = 8;
const WALKS: Record<string, (max: number) => Answer> = {
  'kern.malloc_stats': (max) => stream(malloc_stats_walk, max),
  'kern.malloc_approximate': (max) => report(rows_of(malloc_marks_walk, max)),
  'vm.zone_stats': (max) => stream((out) => zone_stats_walk(out, zone_record_unlocked), max),
  'vm.swap_list': () => ({ bytes: swap_list(), fault: '' }),
  'vm.zone_approximate': (max) => report(rows_of(zone_marks_walk, max)),
};
/** Structures that their handlers make without a lock. */
const RECORDS: readonly string[] = ['kern.ipc.mbstat'];
const NUMBERS: readonly string[] = ['int', 'uint', 'long', 'ulong', 'u64'];

function fetch_node(name: string, max: number): Answer {
  const walk = WALKS[name];
  if (walk) return walk(max);
  const whole = (bytes: Uint8Array | number): Answer => ({ bytes, fault: '' });
  const count = counters.find((c) => c.name === name);
  if (count) return whole(sysctl_number(counter_type(count), counter_get(count)));
  const decl = sysctl_decls.find((d) => d.name === name);
  if (!decl || !(NUMBERS.includes(decl.type) || RECORDS.includes(name))) return whole(ENOENT);
  const { handler } = decl;
  if (!handler) return whole(sysctl_number(decl.type, sysctl_get(decl)));
  const request = { new_bytes: null, rest: [], wire: () => 0 };
  return report(rows_of((out) => handler({ out, ...request }), max));
}

// --- whether anything moved ------------------------------------------------------------------

/** Runs of words that count what is taken and freed: first word, and how many. */
type Runs = readonly (readonly [word: number, n: number])[];
function count_runs(): Runs {
  const runs: [number, number][] = [];
  const most = memory_state.size / RECORD_MIN;
  const say = (word: number, n: number): void => {
    if (runs.push([word, n]) > most) throw new Error('a list that does not end');
  };
  malloc_count_walk(say);
  zone_count_walk(say);
  return runs;
}
/** The words of all runs as the source has them now; null: they cannot be read. */
function counts_now(source: MemorySource, runs: Runs): Int32Array | null {
  const all = new Int32Array(runs.reduce((sum, [, n]) => sum + n, 0));
  let at = 0;
  for (const [word, n] of runs) {
    const into = new Uint8Array(all.buffer, at * 4, n * 4);
    if (source.read(word * 4, into) !== n * 4) return null;
    at += n;
  }
  return all;
}
function same(a: Int32Array | null, b: Int32Array | null): boolean {
  return a !== null && b !== null && a.length === b.length && a.every((n, i) => n === b[i]);
}
/** Copies a live source once more. True: nothing was taken or freed meanwhile; or what is wrong. */
function copy_again(source: MemorySource, holes: ReadonlySet<number>): boolean | string {
  let runs: Runs;
  try {
    runs = count_runs();
  } catch {
    return false; // the first copy is no whole picture: no second one would be proved
  }
  const before = counts_now(source, runs);
  const again = copy(source, mem.I32, holes);
  if (typeof again === 'string') return again;
  return same(before, counts_now(source, runs));
}

// --- opening ------------------------------------------------------------------------------------

/**
 * Binds this thread's views to a source's memory, which is copied unless it is this thread's
 * own.  A string says in one line why it cannot be read, and where.  The source stays open.
 */
export function kvm_open_source(source: MemorySource): Kvm | string {
  const own = source.kind === 'own';
  if (thr.cpu >= 0 && !own) return 'EBUSY: this thread is a CPU of a machine: read it in another';
  const loaded = source.memory ? { memory: source.memory, holes: new Set<number>() } : load(source);
  if (typeof loaded === 'string') return loaded;
  const { memory, holes } = loaded;
  const fault = bind({ source, memory });
  if (fault !== '') return fault;
  const again = source.live && !own ? copy_again(source, holes) : false;
  if (typeof again === 'string') return again;
  let damage = '';
  return {
    head: source.head,
    quiet: again || (source.head.flags & DUMP_QUIET) !== 0,
    fetch: (name, max) => {
      let answer: Answer;
      try {
        answer = fetch_node(name, max);
      } catch (e) {
        answer = { bytes: EIO, fault: (e as Error).message };
      }
      const { bytes, fault } = answer;
      if (fault !== '') damage ||= `${name}: the memory is wrong there: ${fault}`;
      return bytes instanceof Uint8Array && bytes.length === 0 && fault !== '' ? EIO : bytes;
    },
    damage: () => damage,
  };
}
/** Opens a source, binds to it, and lets go of it. A string says why not. */
export function kvm_take(source: MemorySource | string): Kvm | string {
  if (typeof source === 'string') return source;
  const k = kvm_open_source(source);
  const closed = source.close();
  return closed === 0 || typeof k === 'string' ? k : `${errno_name(closed)}: it cannot be closed`;
}
/**
 * Opens a dump, or the machine (of that id, if there are several) in a core file.  A string says
 * in one line why it cannot be read, and where.  Throws nothing; this thread is no CPU.
 */
export function kvm_open(path: string, id?: string): Kvm | string {
  if (thr.cpu >= 0) return 'EBUSY: this thread is a CPU of a machine: read it in another';
  return kvm_take(file_source(path, id));
}
/** The same of a file that may be compressed: it is unpacked piece by piece. */
export async function kvm_load(path: string, id?: string): Promise<Kvm | string> {
  if (thr.cpu >= 0) return 'EBUSY: this thread is a CPU of a machine: read it in another';
  return kvm_take((await packed_source(path)) ?? file_source(path, id));
}
