/*
 * vm_events: operations on address spaces, on their way from a reader to a player.
 *
 * An operation is a row of doubles, which hold addresses of 48 bits exactly:
 *
 *   column       V_OP   V_PID  V_SPACE  V_CALL   V_ADDRESS  V_LENGTH  V_PROT  V_FLAGS
 *                V_FILE  V_OFFSET  V_TO  V_TO_LENGTH  V_LINE
 *
 *   V_PID     who did it          V_SPACE   the address space it was done in
 *   V_CALL    the call it was, an index of VM_CALLS; 0: none, it follows from another
 *   V_LINE    the line of the recording on which that began; 0: none
 *
 *   START     process V_PID is there, with an empty space V_SPACE that is new
 *   FORK      process V_TO is there, made by V_PID, with space V_TO_LENGTH: if that is
 *             V_SPACE they share it, else it is new, and a copy of V_SPACE as it is now
 *   EXEC      from now on V_PID has V_SPACE, which is new and empty; V_FILE, the program
 *   EXIT      V_PID is gone; V_LENGTH is its exit code
 *   FREE      nobody has V_SPACE any more
 *   MMAP      V_ADDRESS, where it came to lie, V_LENGTH, V_PROT, V_FLAGS; V_FILE and
 *             V_OFFSET.  What was mapped there before is not any more
 *   MUNMAP    V_ADDRESS, V_LENGTH
 *   MPROTECT  V_ADDRESS, V_LENGTH, V_PROT
 *   MREMAP    V_ADDRESS, V_LENGTH came to be V_TO, V_TO_LENGTH; V_FLAGS may have
 *             VM_KEEP: the old range stays mapped, and is empty
 *   MADVISE   V_ADDRESS, V_LENGTH; V_FLAGS is one of VM_ADVICE_*
 *   MINHERIT  V_ADDRESS, V_LENGTH; V_FLAGS: 1 copy, 2 none, 3 zero
 *   BRK       the break is V_ADDRESS now, and was V_LENGTH; the same, where it was asked
 *             for or is seen for the first time
 *   MSYNC     V_ADDRESS, V_LENGTH; V_FLAGS: 0 synchronous, 1 asynchronous, 2 invalidate
 *   MINCORE, MLOCK, MUNLOCK   V_ADDRESS, V_LENGTH
 *   MLOCKALL  V_FLAGS: 1 current, 2 future         MUNLOCKALL
 *   TOUCH     a call that is not played moved V_LENGTH bytes, at least 1, between the
 *             process's memory and a file: V_FLAGS 1, into its memory, 0, out of it.
 *             V_ADDRESS, where in its memory; 0: the recording does not say
 *
 * Protection, flags of mmap, advice, inheritance and msync have FreeBSD's numbers.
 * Lengths are bytes as they were asked for; addresses are those of the recording.  A
 * column that an operation does not name is 0.
 *
 * V_FILE is 0 for memory without a file, 1 for a file whose name is unknown, else its
 * index among the names of the batch.  Numbers of spaces begin with 1 and are never used
 * again; those of processes may be.
 *
 * A process may go on under another number (execve in a thread of it): FORK says that there
 * is one more with the same space, EXIT that the old number is gone.
 *
 * Always true: a space is named by START, FORK or EXEC before anything is done in it, and
 * by nothing behind its FREE; a process likewise, and its EXIT.
 *
 * In the ring (events.ts) a row is a VM unit and the row's bytes behind it, in one piece;
 * a FILE unit with its name stands before the first row that names it.
 */
import { EVENT_BYTES, OP_END, OP_MASK, site_units } from './events.ts';
import { OP_PAD } from './packet_events.ts';
import { RING_FAILED, RING_END, type RingReader, type RingWriter } from './ring.ts';

export const VM_START = 1;
export const VM_FORK = 2;
export const VM_EXEC = 3;
export const VM_EXIT = 4;
export const VM_FREE = 5;
export const VM_MMAP = 6;
export const VM_MUNMAP = 7;
export const VM_MPROTECT = 8;
export const VM_MREMAP = 9;
export const VM_MADVISE = 10;
export const VM_MINHERIT = 11;
export const VM_BRK = 12;
export const VM_MSYNC = 13;
export const VM_MINCORE = 14;
export const VM_MLOCK = 15;
export const VM_MUNLOCK = 16;
export const VM_MLOCKALL = 17;
export const VM_MUNLOCKALL = 18;
export const VM_TOUCH = 19;

export const V_OP = 0;
export const V_PID = 1;
export const V_SPACE = 2;
export const V_CALL = 3;
export const V_ADDRESS = 4;
export const V_LENGTH = 5;
export const V_PROT = 6;
export const V_FLAGS = 7;
export const V_FILE = 8;
export const V_OFFSET = 9;
export const V_TO = 10;
export const V_TO_LENGTH = 11;
export const V_LINE = 12;
/** Columns of a row. */
export const VM_COLUMNS = 13;

/** Names of calls that become operations; index 0 is none. */
export const VM_CALLS: readonly string[] = [
  '',
  ...['fork', 'vfork', 'clone', 'clone2', 'clone3', 'execve', 'execveat', 'exit', 'exit_group'],
  ...['mmap', 'mmap2', 'old_mmap', 'munmap', 'mprotect', 'pkey_mprotect', 'mremap', 'madvise'],
  ...['brk', 'msync', 'mincore', 'mlock', 'mlock2', 'munlock', 'mlockall', 'munlockall'],
];

/** Protection. */
export const VM_READ = 1;
export const VM_WRITE = 2;
export const VM_EXECUTE = 4;
/** Flags of mmap. */
export const VM_SHARED = 0x1;
export const VM_PRIVATE = 0x2;
export const VM_FIXED = 0x10;
export const VM_NORESERVE = 0x40;
export const VM_STACK = 0x400;
export const VM_ANON = 0x1000;
export const VM_EXCL = 0x4000;
export const VM_PREFAULT_READ = 0x40000;
/** Flag of MREMAP. */
export const VM_KEEP = 1;
/** Advice; the last one is Linux's MADV_DONTNEED: contents of anonymous pages are thrown away. */
export const VM_ADVICE_NORMAL = 0;
export const VM_ADVICE_RANDOM = 1;
export const VM_ADVICE_SEQUENTIAL = 2;
export const VM_ADVICE_WILLNEED = 3;
export const VM_ADVICE_FREE = 5;
export const VM_ADVICE_NOCORE = 8;
export const VM_ADVICE_CORE = 9;
export const VM_ADVICE_DISCARD = 64;

export const FILE_NONE = 0;
export const FILE_UNKNOWN = 1;

export const OP_VM = 24;
export const OP_FILE = 25;
const ROW_BYTES = VM_COLUMNS * 8;
const ROW_UNITS = 1 + Math.ceil(ROW_BYTES / EVENT_BYTES);

/** Where operations go. */
export interface VmSink {
  /** The file with this index has this name. */
  file(index: number, name: string): void;
  /** The row is the caller's again when this returns. */
  operation(row: Float64Array): void;
}

/** Puts operations into a ring. */
export class VmRingSink implements VmSink {
  readonly #writer: RingWriter;
  readonly #head = [OP_VM, 0, 0, 0];

  constructor(writer: RingWriter) {
    this.#writer = writer;
  }
  file(index: number, name: string): void {
    this.#writer.put_named(OP_FILE, index, name);
  }
  operation(row: Float64Array): void {
    const bytes = new Uint8Array(row.buffer, row.byteOffset, ROW_BYTES);
    this.#writer.put_bytes(this.#head, bytes, OP_PAD);
  }
}

/** Operations, one row behind another. */
export interface VmBatch {
  /** Row i begins at i * VM_COLUMNS.  Good until the next batch is asked for. */
  readonly rows: Float64Array;
  readonly count: number;
  /** Names of files by index, those of all batches so far. */
  readonly files: readonly string[];
}
const BATCH_ROWS = 1024;

/**
 * The operations of a ring, in order, until it ends or fails; `wait` is given what may sleep.
 * The ring is this reader's own: it is closed at the end, or when the caller leaves.
 */
export function* vm_batches(
  ring: RingReader,
  wait: (next: () => number) => number = (next) => next(),
): Generator<VmBatch> {
  const rows = new Float64Array(BATCH_ROWS * VM_COLUMNS);
  const files: string[] = ['', ''];
  const doubles = new Float64Array(ring.words.buffer);
  try {
    for (;;) {
      const n = wait(() => ring.next_batch());
      if (n === RING_END || n === RING_FAILED) return;
      let count = 0;
      let i = 0;
      while (i < n && count < BATCH_ROWS) {
        const at = ring.word_of(i);
        const op = ring.words[at] & OP_MASK;
        if (op === OP_VM) {
          const from = (at + 4) >> 1;
          rows.set(doubles.subarray(from, from + VM_COLUMNS), count++ * VM_COLUMNS);
          i += ROW_UNITS;
        } else if (op === OP_FILE) {
          files[ring.words[at + 1]] = ring.name_at(i);
          i += site_units(ring.words[at + 2]);
        } else if (op === OP_PAD) i += ring.words[at + 1];
        else if (op === OP_END) i++;
        else throw new Error(`vm_events: event ${op} is no operation`);
      }
      ring.release(i);
      if (count > 0) yield { rows, count, files };
    }
  } finally {
    ring.close();
  }
}
