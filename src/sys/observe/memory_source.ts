/*
 * memory_source: the memory of a machine, wherever it lies.
 *
 *      dump      a file that kern_dump wrote                      byte 65536 on: the memory
 *      core      an operating system's core file                  a PT_LOAD begins with a machine
 *      packed    a dump that was compressed (source_packed.ts)    unpacked into memory
 *      process   /proc/PID/mem of a program that runs (source_proc.ts)
 *      own       the memory that this thread's views are bound to
 *
 * Whoever looks at a machine asks for its bytes here and does not know which of these it is:
 * kvm.ts binds the views of a thread to a source, kern_dump.ts writes one to a file.  A source
 * says first what it is of: the notes of a dump do, and where there are none the machine's own
 * header, which has its magic number, and behind it the layout hash, at a place that never changes.
 *
 *      memory    | NULL, guard | magic | layout | id | generation | …
 *                0            256     260      264  268
 *
 * A core file holds every mapping of a process, a segment for each.  The memory of a machine
 * begins a mapping of its own; where the C library made it, 16 bytes behind the start of one, or of
 * a block of the library in it:
 *
 *      mapping   | 0, length + flags | block … | 0, length + flags | magic: a machine … |
 *
 * So a few words of each mapping tell every machine.  Of several that are up one has to
 * be chosen by its id; those that were shut down are left aside.
 *
 * Nothing that was read is believed: a size is one that a machine can have, and all of it lies in
 * the file.  What is wrong comes back as one line with its place.
 */
import { EINVAL, ENOENT, errno_name } from '../machine/errno.ts';
import { M, MACHINE_MAGIC, PHASE_UP } from '../machine/header.ts';
import { machine_layout } from '../machine/machdep.ts';
import {
  mem,
  MEMORY_MAX,
  MEMORY_MIN,
  memory_state,
  PAGE_SIZE,
  type SharedMemory,
} from '../machine/memory.ts';
import { STORE_READ, store_close, store_open } from '../machine/store.ts';
import { store_read, store_size } from '../machine/store_io.ts';
import { struct_layouts } from '../machine/struct.ts';
import {
  core_segments,
  DUMP_LOAD,
  DUMP_PANICKED,
  DUMP_QUIET,
  type DumpHead,
  dump_parse,
  MEMORY_STEP,
  NOTES_AT,
} from './dump_elf.ts';

/** Bytes that are read at a time. */
export const PIECE = 4 * 2 ** 20;

/** The bytes of one machine's memory. */
export interface MemorySource {
  /** For people: a path, or `pid 12`. */
  readonly name: string;
  readonly kind: 'dump' | 'core' | 'packed' | 'process' | 'own';
  /** What the notes say, or the machine's header. */
  readonly head: DumpHead;
  /** Where the memory begins: a byte of the file, or an address of the process. */
  readonly base: number;
  /** Memory that has it all; null: it has to be read. */
  readonly memory: SharedMemory | null;
  /** Threads may change it while it is read. */
  readonly live: boolean;
  /** Reads from byte `at` of the memory on. Bytes read, fewer at the end; or an errno, negated. */
  read(at: number, into: Uint8Array): number;
  /** Whether nobody ever touched `n` bytes from `at` on, which are zero then; not all can tell. */
  hole?(at: number, n: number): boolean;
  /** Ends it. 0, or an errno. */
  close(): number;
}

// --- a machine, by its header --------------------------------------------------------------------

/** The first bytes of a memory: the machine's header is in them. */
const HEADER_BYTES = 4096;
/** The words of the C library before a block that has a mapping of its own, bytes. */
const BLOCK_WORDS = 16;
/** Among the low bits of a block's length: it was mapped for itself. */
const BLOCK_MAPPED = 2;
const BLOCK_FLAGS = 7;
/** Such blocks that may lie in one mapping. */
const BLOCKS_MAX = 4096;

/** The bytes at which a field of the machine's header begins, and how many it has. */
function header_field(name: string): { at: number; bytes: number; kind: string } {
  const layout = struct_layouts.find((s) => s.name === 'machine');
  const f = layout?.fields.find((one) => one.name === name);
  if (f === undefined) throw new Error(`the machine's header has no ${name}`);
  return { at: (M + f.offset) * 4, bytes: f.words * 4, kind: f.kind };
}
function header_number(v: DataView, name: string): number {
  const { at, kind } = header_field(name);
  if (kind === 'u64') return v.getFloat64(at, true);
  return kind === 'u32' ? v.getUint32(at, true) : v.getInt32(at, true);
}
function header_text(page: Uint8Array, name: string): string {
  const { at, bytes } = header_field(name);
  const field = page.slice(at, at + bytes);
  const nul = field.indexOf(0);
  return new TextDecoder().decode(field.subarray(0, nul < 0 ? bytes : nul));
}
/** Whether the beginning of a memory says that there is a machine. */
function machine_there(page: Uint8Array): boolean {
  if (page.length < M * 4 + 4) return false;
  const v = new DataView(page.buffer, page.byteOffset, page.length);
  return v.getUint32(M * 4, true) === MACHINE_MAGIC;
}
/** Why a memory of that size cannot be: '' if it can. */
function size_fault(size: number): string {
  const step = size % MEMORY_STEP === 0;
  return step && size >= MEMORY_MIN && size <= MEMORY_MAX ? '' : `a memory of ${size} bytes`;
}
/** What another kernel's memory is refused with. */
function layout_fault(by: string): string {
  return `another kmem ${by}: its structures differ from those of this one`;
}
/**
 * What the first HEADER_BYTES of a memory say of the machine; a string: why they cannot be used.
 * `time`: when they were read, ms, 0: not known.
 */
export function head_of_memory(page: Uint8Array, time: number): DumpHead | string {
  if (page.length < HEADER_BYTES || !machine_there(page)) return 'the memory holds no machine';
  const v = new DataView(page.buffer, page.byteOffset, page.length);
  const layout = header_number(v, 'layout');
  if (layout !== machine_layout()) return layout_fault('made it');
  const size = header_number(v, 'size_bytes');
  const wrong = size_fault(size);
  if (wrong !== '') return wrong;
  const by = header_number(v, 'panic_cpu');
  return {
    layout,
    id: header_number(v, 'id_low'),
    generation: header_number(v, 'generation'),
    flags: by === 0 ? 0 : DUMP_PANICKED,
    cpu: by - 1,
    os_tid: 0,
    js_tid: 0,
    time,
    boot_time: header_number(v, 'boot_time'),
    size,
    release: '',
    panic: by === 0 ? '' : header_text(page, 'panic_text'),
    stack: '',
    cpus: [],
  };
}

/** Why a dump with these notes cannot be read by this kernel; '' if it can. */
export function release_fault(head: DumpHead): string {
  const by = `wrote it, of release ${head.release}`;
  return head.layout === machine_layout() ? '' : `byte ${NOTES_AT}: ${layout_fault(by)}`;
}

// --- several machines in one place ---------------------------------------------------------------

/** A machine that was found: where it begins, and the beginning of its memory. */
export interface Candidate {
  readonly base: number;
  readonly page: Uint8Array;
  /** Bytes that follow `base` in its mapping or segment. */
  readonly room: number;
}
/**
 * The machines in a mapping from `start` to `end`.  `read` gives bytes of it, fewer where there
 * are none.
 */
export function machines_in(
  read: (at: number, into: Uint8Array) => number,
  start: number,
  end: number,
): Candidate[] {
  const found: Candidate[] = [];
  const look = (base: number): void => {
    const page = new Uint8Array(HEADER_BYTES);
    if (end - base < MEMORY_MIN || read(base, page) !== HEADER_BYTES) return;
    if (machine_there(page)) found.push({ base, page, room: end - base });
  };
  look(start);
  const words = new Uint8Array(BLOCK_WORDS);
  const v = new DataView(words.buffer);
  for (let at = start, n = 0; at + BLOCK_WORDS < end && n < BLOCKS_MAX; n++) {
    if (read(at, words) !== BLOCK_WORDS) break;
    look(at + BLOCK_WORDS);
    const length = Number(v.getBigUint64(8, true));
    const bytes = length - (length % (BLOCK_FLAGS + 1));
    if (length % (BLOCK_FLAGS + 1) !== BLOCK_MAPPED || bytes === 0) break;
    at += bytes;
  }
  return found;
}
/** A machine's id as people write it. */
export function machine_id(head: Pick<DumpHead, 'id'>): string {
  return (head.id >>> 0).toString(16);
}
function is_up({ page }: Candidate): boolean {
  const v = new DataView(page.buffer, page.byteOffset, page.length);
  return header_number(v, 'phase') === PHASE_UP || header_number(v, 'panic_cpu') !== 0;
}
/**
 * The machine that is meant of those in a process or core file: the one with that id, or the only
 * one, or the only one that is up.  A string says why there is none; `unit` is what places are.
 */
export function choose(
  all: readonly Candidate[],
  id: string | undefined,
  unit: string,
  time: number,
): { base: number; head: DumpHead } | string {
  const known: { base: number; head: DumpHead; up: boolean }[] = [];
  let why = '';
  for (const c of all) {
    const head = head_of_memory(c.page, time);
    const at = `${unit} ${c.base.toString(unit === 'byte' ? 10 : 16)}`;
    if (typeof head === 'string') why ||= `${at}: ${head}`;
    else if (head.size > c.room) why ||= `${at}: only ${c.room} bytes of ${head.size} are there`;
    else known.push({ base: c.base, head, up: is_up(c) });
  }
  if (id !== undefined) {
    const wanted = known.find(({ head }) => machine_id(head) === id.toLowerCase());
    return wanted ?? `it has no machine ${id}${known.length > 0 ? `: ${listed(known)}` : ''}`;
  }
  if (known.length === 0) return why === '' ? 'no machine of kmem is in it' : why;
  const up = known.filter((one) => one.up);
  const [first, ...more] = up.length > 0 ? up : known;
  if (more.length === 0) return first;
  return `${more.length + 1} machines are in it: choose one by --machine ID: ${listed(known)}`;
}
function listed(known: readonly { head: DumpHead; up: boolean }[]): string {
  return known
    .map(({ head, up }) => `${machine_id(head)} (${head.size / 2 ** 20}M${up ? '' : ', down'})`)
    .join(', ');
}

// --- copies --------------------------------------------------------------------------------------

/**
 * Puts `n` bytes of a piece, whole pages, over a memory from byte `at` on.  Pages that are zero in
 * both are not written: what nobody touches takes no room of the host.
 */
export function pages_take(all: Int32Array, at: number, piece: Int32Array, n: number): void {
  for (let page = 0; page < n; page += PAGE_SIZE) {
    const end = (page + PAGE_SIZE) >> 2;
    let w = page >> 2;
    while (w < end && piece[w] === 0 && all[at / 4 + w] === 0) w++;
    if (w < end) all.set(piece.subarray(page >> 2, end), (at + page) / 4);
  }
}

// --- files ---------------------------------------------------------------------------------------

const WHY: Record<number, string> = {
  [ENOENT]: 'there is no such file',
  [EINVAL]: 'it is no regular file',
};
/** Opens a file to be read; a string says why it cannot be. */
export function source_store(path: string): number | string {
  const st = store_open(path, STORE_READ);
  return st >= 0 ? st : `${errno_name(-st)}: ${WHY[-st] ?? 'it cannot be opened'}`;
}
/** Why bytes of a file could not be read, at the place. */
export function read_fault(at: number, errno: number): string {
  return `byte ${at}: ${errno_name(errno)}: it cannot be read`;
}
/** The source of a machine whose memory begins at a byte of a store. */
export function store_source(
  st: number,
  of: Pick<MemorySource, 'name' | 'kind' | 'head' | 'base' | 'live'>,
): MemorySource {
  const { base, head } = of;
  return {
    ...of,
    memory: null,
    read: (at, into) => {
      const n = Math.max(0, Math.min(into.length, head.size - at));
      return store_read(st, base + at, into.subarray(0, n));
    },
    close: () => store_close(st),
  };
}
/** How a file is compressed, by its first bytes; null: it is not. */
export function packing_of(page: Uint8Array): 'gzip' | 'zstd' | null {
  const begins = (...bytes: number[]): boolean => bytes.every((byte, i) => page[i] === byte);
  if (begins(0x1f, 0x8b, 8)) return 'gzip';
  return begins(0x28, 0xb5, 0x2f, 0xfd) ? 'zstd' : null;
}
/** Machines in the segments of a core file. A string says why the segments cannot be read. */
function core_candidates(st: number, length: number): Candidate[] | string {
  const read = (at: number, n: number): Uint8Array | string => {
    const into = new Uint8Array(n);
    const got = store_read(st, at, into);
    if (got < 0) return read_fault(at, -got);
    return got < n ? `byte ${Math.min(at + got, length)}: it ends here: it was cut` : into;
  };
  const segments = core_segments(read);
  if (typeof segments === 'string') return segments;
  return segments.flatMap((s) =>
    machines_in(
      (at, into) => store_read(st, at, into),
      s.offset,
      Math.min(s.offset + s.bytes, length),
    ),
  );
}
function open_core(
  st: number,
  name: string,
  length: number,
  id: string | undefined,
): MemorySource | string {
  const all = core_candidates(st, length);
  if (typeof all === 'string') return all;
  const chosen = choose(all, id, 'byte', 0);
  if (typeof chosen === 'string') return chosen;
  // The system wrote it with all threads stopped: nothing moved meanwhile.
  const head = { ...chosen.head, flags: chosen.head.flags | DUMP_QUIET };
  return store_source(st, { name, kind: 'core', head, base: chosen.base, live: false });
}
function open_store(st: number, name: string, id: string | undefined): MemorySource | string {
  const length = store_size(st);
  if (length < 0) return `${errno_name(-length)}: it cannot be read`;
  const page = new Uint8Array(DUMP_LOAD);
  const got = store_read(st, 0, page);
  if (got < 0) return read_fault(0, -got);
  const packing = packing_of(page);
  if (packing !== null) return `byte 0: it is compressed (${packing}): unpack it first`;
  const parsed = dump_parse(page.subarray(0, got), length);
  if ('head' in parsed) {
    const { head, load } = parsed;
    const other = release_fault(head);
    if (other !== '') return other;
    return store_source(st, { name, kind: 'dump', head, base: load, live: false });
  }
  if (!parsed.foreign) return parsed.fault;
  const core = open_core(st, name, length, id);
  return typeof core === 'string' && !core.includes('machines') ? `${parsed.fault}; ${core}` : core;
}
/** The dump or the core file at a path. A string says in one line why there is none. */
export function file_source(path: string, id?: string): MemorySource | string {
  const st = source_store(path);
  if (typeof st === 'string') return st;
  const source = open_store(st, path, id);
  if (typeof source === 'string') store_close(st); // errno: why it is no dump is told
  return source;
}

// --- own memory ----------------------------------------------------------------------------------

/** The machine that this thread's views are bound to. A string says why there is none. */
export function own_source(): MemorySource | string {
  if (memory_state.size === 0) return 'this thread has no machine';
  const head = head_of_memory(mem.U8.slice(0, HEADER_BYTES), Date.now());
  if (typeof head === 'string') return head;
  const { memory } = memory_state;
  return {
    name: 'this thread',
    kind: 'own',
    head,
    base: 0,
    memory,
    live: (head.flags & DUMP_PANICKED) === 0,
    read: (at, into) => {
      const n = Math.max(0, Math.min(into.length, head.size - at));
      into.set(mem.U8.subarray(at, at + n));
      return n;
    },
    close: () => 0,
  };
}
