/*
 * strace_memory: calls on memory, from the text of their arguments to numbers.
 *
 *      mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f36…
 *      └─► MMAP  address 0x7f36…  length 8192  prot 3  flags 0x1002  no file
 *
 * Names and numbers are Linux's on the left and FreeBSD's on the right (vm_events.ts).
 * What has no counterpart is left out: MAP_DENYWRITE and MAP_STACK do nothing, MAP_LOCKED
 * is the recorder's machine's business.  Advice without a counterpart (huge pages, merging)
 * makes no operation.
 *
 * A flag that is not known here counts by name, for a newer kernel may have more; an
 * argument that is no number and no flag makes the line one of no sense.
 */
import {
  VM_ADVICE_CORE,
  VM_ADVICE_DISCARD,
  VM_ADVICE_FREE,
  VM_ADVICE_NOCORE,
  VM_ADVICE_NORMAL,
  VM_ADVICE_RANDOM,
  VM_ADVICE_SEQUENTIAL,
  VM_ADVICE_WILLNEED,
  VM_ANON,
  VM_BRK,
  VM_EXCL,
  VM_EXECUTE,
  VM_FIXED,
  VM_KEEP,
  VM_MADVISE,
  VM_MINCORE,
  VM_MINHERIT,
  VM_MLOCK,
  VM_MLOCKALL,
  VM_MMAP,
  VM_MPROTECT,
  VM_MREMAP,
  VM_MSYNC,
  VM_MUNLOCK,
  VM_MUNLOCKALL,
  VM_MUNMAP,
  VM_NORESERVE,
  VM_PREFAULT_READ,
  VM_PRIVATE,
  VM_READ,
  VM_SHARED,
  VM_STACK,
  VM_WRITE,
} from '../ring/vm_events.ts';
import { descriptor_of, flags_of, number_of, split_args } from './strace_args.ts';

/** A call on memory. Fields that its operation does not name are 0. */
export interface MemoryCall {
  /** VM_MMAP and the like; 0: nothing is done (advice without a counterpart). */
  op: number;
  address: number;
  length: number;
  prot: number;
  flags: number;
  /** -1: no file. */
  fd: number;
  /** Its name; '': unknown. */
  file: string;
  offset: number;
  to: number;
  to_length: number;
}

/* Names with Linux's numbers, which recordings may have instead, and what they are here. */
interface Flags {
  names: ReadonlyMap<string, number>;
  bits: readonly [linux: number, here: number][];
}
function table(rows: Record<string, [linux: number, here: number]>): Flags {
  const names = new Map(Object.entries(rows).map(([name, [linux]]) => [name, linux]));
  return { names, bits: Object.values(rows).filter(([linux]) => linux !== 0) };
}
const PROT = table({
  PROT_NONE: [0, 0],
  PROT_READ: [1, VM_READ],
  PROT_WRITE: [2, VM_WRITE],
  PROT_EXEC: [4, VM_EXECUTE],
  PROT_SEM: [8, 0],
  PROT_GROWSDOWN: [0x1000000, 0],
  PROT_GROWSUP: [0x2000000, 0],
});
const MAP_ANONYMOUS = 0x20;
const BOTH = VM_SHARED | VM_PRIVATE;
const MAP = table({
  MAP_FILE: [0, 0],
  MAP_SHARED: [0x1, VM_SHARED],
  MAP_PRIVATE: [0x2, VM_PRIVATE],
  MAP_SHARED_VALIDATE: [0x3, 0],
  MAP_FIXED: [0x10, VM_FIXED],
  MAP_ANONYMOUS: [MAP_ANONYMOUS, VM_ANON],
  MAP_ANON: [MAP_ANONYMOUS, VM_ANON],
  MAP_32BIT: [0x40, 0],
  MAP_GROWSDOWN: [0x100, VM_STACK],
  MAP_DENYWRITE: [0x800, 0],
  MAP_EXECUTABLE: [0x1000, 0],
  MAP_LOCKED: [0x2000, 0],
  MAP_NORESERVE: [0x4000, VM_NORESERVE],
  MAP_POPULATE: [0x8000, VM_PREFAULT_READ],
  MAP_NONBLOCK: [0x10000, 0],
  MAP_STACK: [0x20000, 0],
  MAP_HUGETLB: [0x40000, 0],
  MAP_SYNC: [0x80000, 0],
  MAP_FIXED_NOREPLACE: [0x100000, VM_FIXED | VM_EXCL],
});
const REMAP = table({
  MREMAP_MAYMOVE: [1, 0],
  MREMAP_FIXED: [2, 0],
  MREMAP_DONTUNMAP: [4, VM_KEEP],
});
const SYNC = table({ MS_ASYNC: [1, 1], MS_INVALIDATE: [2, 2], MS_SYNC: [4, 0] });
const LOCKALL = table({ MCL_CURRENT: [1, 1], MCL_FUTURE: [2, 2], MCL_ONFAULT: [4, 0] });
/** Advice by name: Linux's number, the operation, and its number here. */
const ADVICE: Record<string, [linux: number, op: number, here: number]> = {
  MADV_NORMAL: [0, VM_MADVISE, VM_ADVICE_NORMAL],
  MADV_RANDOM: [1, VM_MADVISE, VM_ADVICE_RANDOM],
  MADV_SEQUENTIAL: [2, VM_MADVISE, VM_ADVICE_SEQUENTIAL],
  MADV_WILLNEED: [3, VM_MADVISE, VM_ADVICE_WILLNEED],
  MADV_DONTNEED: [4, VM_MADVISE, VM_ADVICE_DISCARD],
  MADV_FREE: [8, VM_MADVISE, VM_ADVICE_FREE],
  MADV_DONTFORK: [10, VM_MINHERIT, 2],
  MADV_DOFORK: [11, VM_MINHERIT, 1],
  MADV_DONTDUMP: [16, VM_MADVISE, VM_ADVICE_NOCORE],
  MADV_DODUMP: [17, VM_MADVISE, VM_ADVICE_CORE],
  MADV_WIPEONFORK: [18, VM_MINHERIT, 3],
  MADV_KEEPONFORK: [19, VM_MINHERIT, 1],
  MADV_DONTNEED_LOCKED: [24, VM_MADVISE, VM_ADVICE_DISCARD],
};
const NO_ADVICE: [linux: number, op: number, here: number] = [0, 0, 0];
const ADVICE_BY_NUMBER = new Map(Object.values(ADVICE).map((row) => [row[0], row]));

/** An argument that makes no sense. */
class Senseless extends Error {}

/** Reads the arguments of one call after another. */
class Arguments {
  readonly args: string[];
  readonly #unknown: (flag: string) => void;

  constructor(text: string, unknown: (flag: string) => void) {
    this.args = split_args(text);
    this.#unknown = unknown;
  }
  /** A number from 0 on that a double holds exactly. */
  number(i: number, what: string): number {
    const n = number_of(this.args[i]);
    if (n >= 0 && n <= Number.MAX_SAFE_INTEGER) return n;
    throw this.#wrong(i, what);
  }
  /** The same, but one close to 2^64, as a call that fails may have, is as good as any. */
  large(i: number, what: string): number {
    const n = number_of(this.args[i]);
    return n > Number.MAX_SAFE_INTEGER ? n : this.number(i, what);
  }
  address(i: number): number {
    return this.large(i, 'address');
  }
  length(i: number): number {
    return this.large(i, 'length');
  }
  flags(i: number, what: string, known: Flags): number {
    const set = flags_of(this.args[i], known.names, this.#unknown);
    if (set === null) throw this.#wrong(i, what);
    let flags = 0;
    for (const [linux, here] of known.bits) if ((set & linux) === linux) flags |= here;
    return flags;
  }
  descriptor(i: number): { fd: number; file: string } {
    const found = descriptor_of(this.args[i] ?? '');
    if (found === null) throw this.#wrong(i, 'descriptor');
    return found;
  }
  advice(i: number): [linux: number, op: number, here: number] {
    const text = (this.args[i] ?? '').replace(/ ?\/\*.*\*\//, '');
    const n = number_of(text);
    if (n >= 0) return ADVICE_BY_NUMBER.get(n) ?? NO_ADVICE;
    if (!/^MADV_[A-Z0-9_]+$/.test(text)) throw this.#wrong(i, 'advice');
    return ADVICE[text] ?? NO_ADVICE;
  }
  #wrong(i: number, what: string): Senseless {
    const text = this.args[i];
    const found = text === undefined ? 'is missing' : `is ${JSON.stringify(text.slice(0, 40))}`;
    return new Senseless(`its ${what}, argument ${i + 1}, ${found}`);
  }
}

const NOTHING: MemoryCall = {
  op: 0,
  address: 0,
  length: 0,
  prot: 0,
  flags: 0,
  fd: -1,
  file: '',
  offset: 0,
  to: 0,
  to_length: 0,
};

type Reading = (a: Arguments, result: number) => Partial<MemoryCall>;
const range = (op: number): Reading => {
  return (a) => ({ op, address: a.address(0), length: a.length(1) });
};
const mmap: Reading = (a, result) => {
  const asked = a.address(0);
  let flags = a.flags(3, 'flags', MAP);
  if ((flags & BOTH) === BOTH) flags &= ~VM_PRIVATE; // MAP_SHARED_VALIDATE
  const { fd, file } = a.descriptor(4);
  const anonymous = (flags & VM_ANON) !== 0;
  return {
    op: VM_MMAP,
    address: result > 0 ? result : asked,
    length: a.length(1),
    prot: a.flags(2, 'protection', PROT),
    flags,
    fd: anonymous ? -1 : fd,
    file: anonymous ? '' : file,
    offset: a.number(5, 'offset'),
  };
};
const mprotect: Reading = (a, result) => ({
  ...range(VM_MPROTECT)(a, result),
  prot: a.flags(2, 'protection', PROT),
});
const CALLS: Record<string, Reading> = {
  mmap,
  mmap2: mmap,
  old_mmap: mmap,
  munmap: range(VM_MUNMAP),
  mprotect,
  pkey_mprotect: mprotect,
  mremap: (a, result) => ({
    ...range(VM_MREMAP)(a, result),
    to: result > 0 ? result : 0,
    to_length: a.length(2),
    flags: a.flags(3, 'flags', REMAP),
  }),
  madvise: (a, result) => {
    const [, op, flags] = a.advice(2);
    return { ...range(op)(a, result), flags };
  },
  brk: (a, result) => ({ op: VM_BRK, address: result > 0 ? result : a.address(0) }),
  msync: (a, result) => ({ ...range(VM_MSYNC)(a, result), flags: a.flags(2, 'flags', SYNC) }),
  mincore: range(VM_MINCORE),
  mlock: range(VM_MLOCK),
  mlock2: range(VM_MLOCK),
  munlock: range(VM_MUNLOCK),
  mlockall: (a) => ({ op: VM_MLOCKALL, flags: a.flags(0, 'flags', LOCKALL) }),
  munlockall: () => ({ op: VM_MUNLOCKALL }),
};

/** Whether a call is one on memory. */
export function is_memory_call(name: string): boolean {
  return Object.hasOwn(CALLS, name);
}
/**
 * What a call on memory does, with its result (NaN: unknown yet); what is wrong with its
 * arguments, as text, where they make no sense.
 */
export function memory_call(
  name: string,
  args: string,
  result: number,
  unknown: (flag: string) => void,
): MemoryCall | string {
  try {
    return { ...NOTHING, ...CALLS[name](new Arguments(args, unknown), result) };
  } catch (error) {
    if (error instanceof Senseless) return `${name}: ${error.message}`;
    throw error;
  }
}
