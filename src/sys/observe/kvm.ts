/*
 * kvm: the statistics of a dump, read as those of a live machine are.
 *
 *      const k = kvm_open('app.core');              a string: why not, and at which byte
 *      memstat_read(memstat_sysctl_all, k.fetch)    the same reader as for a live machine
 *
 * The file is read into shared memory of its own, and this thread's views are bound to
 * it.  From then on the kernel's own readers run here: the walks that make the streams
 * kern.malloc_stats and vm.zone_stats, counters, variables.  So a dump and a live machine
 * can only differ in what is in their memory.
 *
 * This thread becomes no CPU.  Becoming one would write a record, and would need locks that
 * may be held by threads that are in the dump as they were; so no lock is taken, the
 * walks are called without, and no sleeper is waited for.  What a sample notes about
 * itself (`approximate`) is written into the copy; the file is opened for reading only.
 *
 * Only names that need no lock are answered: the two streams and what goes with them,
 * numbers, counters.  Others are ENOENT, as in a kernel that does not have them.
 *
 * The memory may be wrong: that may be why it was dumped.  Views give `undefined` beyond
 * the end and trap nowhere, and each walk ends when more has come out of it than the
 * memory says there is; then `damage` says what was being read.  A dump that is not quiet was
 * written while threads ran: its figures may not belong together, and `quiet` is false.
 *
 * Such a thread may not be a CPU of a machine; a machine that it boots afterwards gets
 * memory of its own.  The last dump that was opened is the one that is read.
 */
import { counter_get, counter_type, counters } from '../machine/counter.ts';
import { MAXCPU, thr } from '../machine/cpu.ts';
import { EINVAL, EIO, ENOENT, errno_name } from '../machine/errno.ts';
import { M, MACHINE_MAGIC, machine } from '../machine/header.ts';
import { machine_layout } from '../machine/machdep.ts';
import { memory_bind, memory_create, memory_state } from '../machine/memory.ts';
import { opt_bind } from '../machine/opt.ts';
import { STORE_READ, store_close, store_open } from '../machine/store.ts';
import { store_read, store_size } from '../machine/store_io.ts';
import { columns_bind, columns_words, elem, get64 } from '../machine/struct.ts';
import { sysctl_decls, sysctl_get, sysctl_number } from '../machine/sysctl_decl.ts';
import { malloc_marks_walk, malloc_stats_walk } from '../kmem/kern_malloc_stats.ts';
import { PHYS_COLUMNS, phys_root, vm_phys } from '../page/vm_phys.ts';
import {
  type StreamOut,
  zone_marks_walk,
  zone_record_unlocked,
  zone_stats_walk,
} from '../uma/uma_stats.ts';
import { DUMP_LOAD, DUMP_QUIET, NOTES_AT, type DumpHead, dump_parse } from './dump_elf.ts';
import { swap_list } from './swap_info.ts';
import type { memstat_fetch } from './memstat_sysctl.ts';

/** Bytes that are read at a time. */
const PIECE = 4 * 2 ** 20;
const PAGE = 4096;

/** A dump that can be read. */
export interface Kvm {
  readonly head: DumpHead;
  /** Its figures belong together. */
  readonly quiet: boolean;
  /** A node's bytes by name, as memstat asks for them. */
  readonly fetch: memstat_fetch;
  /** What could not be read because the memory is wrong there; '' if nothing was. */
  damage(): string;
}

// --- the file --------------------------------------------------------------------------

/** Copies what is not zero: pages that nobody touches take no room of the host. */
function take_over(all: Uint8Array, at: number, piece: Uint8Array, n: number): void {
  const words = new Int32Array(piece.buffer, 0, n >> 2);
  for (let page = 0; page < n; page += PAGE) {
    const end = (page + PAGE) >> 2;
    let w = page >> 2;
    while (w < end && words[w] === 0) w++;
    if (w < end) all.set(piece.subarray(page, page + PAGE), at + page);
  }
}
/** Reads the memory of a dump. A string says what is wrong. */
function load(st: number, from: number, size: number): SharedArrayBuffer | string {
  let memory: SharedArrayBuffer;
  try {
    memory = memory_create(size, 'atomics') as SharedArrayBuffer;
  } catch (e) {
    return (e as Error).message;
  }
  const all = new Uint8Array(memory);
  const piece = new Uint8Array(Math.min(PIECE, size));
  for (let at = 0; at < size; at += piece.length) {
    const n = Math.min(piece.length, size - at);
    const got = store_read(st, from + at, piece.subarray(0, n));
    if (got < 0) return `byte ${from + at}: ${errno_name(-got)}: it cannot be read`;
    if (got < n) return `byte ${from + at + got}: it ends here: it was cut`;
    take_over(all, at, piece, n);
  }
  return memory;
}
interface Loaded {
  readonly head: DumpHead;
  readonly load: number;
  readonly memory: SharedArrayBuffer;
}
function read_file(st: number): Loaded | string {
  const length = store_size(st);
  if (length < 0) return `${errno_name(-length)}: it cannot be read`;
  const page = new Uint8Array(DUMP_LOAD);
  const got = store_read(st, 0, page);
  if (got < 0) return `byte 0: ${errno_name(-got)}: it cannot be read`;
  const parsed = dump_parse(page.subarray(0, got), length);
  if (typeof parsed === 'string') return parsed;
  const layout = machine_layout();
  if (parsed.head.layout !== layout) {
    const by = parsed.head.release;
    const why = 'its structures differ from those of this one';
    return `byte ${NOTES_AT}: another kmem wrote it, of release ${by}: ${why}`;
  }
  const memory = load(st, parsed.load, parsed.head.size);
  return typeof memory === 'string' ? memory : { ...parsed, memory };
}

// --- the memory ------------------------------------------------------------------------

/** Why the memory cannot be bound; '' if it can. */
function header_fault({ head, load: from, memory }: Loaded): string {
  const at = `byte ${from + M * 4}`;
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
    const fits =
      start > 0 && rows >= 0 && (start + columns_words(name, rows)) * 4 <= memory.byteLength;
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
  opt_bind(0); // no option of that machine matters to a reader
  memory_bind(loaded.memory);
  const fault = header_fault(loaded);
  if (fault !== '') return fault;
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
 * more bytes than RECORD_MIN, and nobody reads more rows than ROWS_MAX.
 */
const RECORD_MIN = 128;
const ROWS_MAX = 2 ** 20;
/** Runs a walk. Throws when it gives more than the memory says there is: a circle. */
function rows_of(walk: (out: StreamOut) => number, max: number): Uint8Array[] {
  const rows: Uint8Array[] = [];
  let calls = 0;
  const room = Math.min(memory_state.size / RECORD_MIN, ROWS_MAX);
  const most = Math.min(Math.ceil(max / ROW_MIN), room) + ROWS_MORE;
  const error = walk((bytes) => {
    if (++calls > most) throw new Error('a list that does not end');
    if (bytes.length > 0) rows.push(bytes.slice());
    return 0;
  });
  if (error !== 0) throw new Error(errno_name(error));
  return rows;
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
/**
 * A stream whose header counts its rows.  A row may have come, or gone, while the dump was
 * written: what counts is what is there.
 */
function stream(walk: (out: StreamOut) => number, max: number): Uint8Array {
  const rows = rows_of(walk, max);
  const all = joined(rows);
  new DataView(all.buffer).setUint32(STREAM_COUNT, rows.length - 1, true);
  return all;
}
/** Where both streams have the number of their rows. */
const STREAM_COUNT = 8;
const WALKS: Record<string, (max: number) => Uint8Array> = {
  'kern.malloc_stats': (max) => stream(malloc_stats_walk, max),
  'kern.malloc_approximate': (max) => joined(rows_of(malloc_marks_walk, max)),
  'vm.zone_stats': (max) => stream((out) => zone_stats_walk(out, zone_record_unlocked), max),
  'vm.swap_list': () => swap_list(),
  'vm.zone_approximate': (max) => joined(rows_of(zone_marks_walk, max)),
};
const NUMBERS: readonly string[] = ['int', 'uint', 'long', 'ulong', 'u64'];

function fetch_node(name: string, max: number): Uint8Array | number {
  const walk = WALKS[name];
  if (walk) return walk(max);
  const count = counters.find((c) => c.name === name);
  if (count) return sysctl_number(counter_type(count), counter_get(count));
  const decl = sysctl_decls.find((d) => d.name === name);
  if (!decl || !NUMBERS.includes(decl.type)) return ENOENT;
  const { handler } = decl;
  if (!handler) return sysctl_number(decl.type, sysctl_get(decl));
  return joined(rows_of((out) => handler({ out, new_bytes: null, rest: [], wire: () => 0 }), max));
}

/**
 * Opens a dump.  A string says in one line why it cannot be read, and where.  Throws
 * nothing; this thread is no CPU.
 */
export function kvm_open(path: string): Kvm | string {
  if (thr.cpu >= 0) return 'EBUSY: this thread is a CPU of a machine: read it in another';
  const st = store_open(path, STORE_READ);
  if (st < 0) return `${errno_name(-st)}: ${WHY[-st] ?? 'it cannot be opened'}`;
  const loaded = read_file(st);
  const closed = store_close(st);
  if (typeof loaded === 'string') return loaded;
  if (closed !== 0) return `${errno_name(closed)}: it cannot be closed`;
  const fault = bind(loaded);
  if (fault !== '') return fault;
  let damage = '';
  return {
    head: loaded.head,
    quiet: (loaded.head.flags & DUMP_QUIET) !== 0,
    fetch: (name, max) => {
      try {
        return fetch_node(name, max);
      } catch (e) {
        damage ||= `${name}: the memory is wrong there: ${(e as Error).message}`;
        return EIO;
      }
    },
    damage: () => damage,
  };
}
const WHY: Record<number, string> = {
  [ENOENT]: 'there is no such file',
  [EINVAL]: 'it is no regular file',
};
