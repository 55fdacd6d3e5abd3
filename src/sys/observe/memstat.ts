/*
 * memstat: statistics of both allocators, in one list, read through bytes.
 *
 *      const list = memstat_mtl_alloc();
 *      memstat_sysctl_all(list, fetch);
 *      for (let t = memstat_mtl_first(list); t; t = memstat_mtl_next(t)) ...
 *
 * A list is brought up to date in place: entries are found again by allocator
 * and name, the numbers that belong to the library are replaced, those that
 * belong to the caller stay.  A type that vanished stays with its old numbers.
 * New entries go to the head, so a list read once is in order of registration.
 * Two zones of one name are two entries: the first of that name in the stream is
 * the last of that name in the list.
 *
 * Counts are 64 bits wide and their differences wrap, as in the kernel that
 * laid the streams out; figures above 2^53 lose their last digits here.
 *
 * Read next: memstat_sysctl.ts, where the bytes come from.
 */
export const ALLOCATOR_UNKNOWN = 0;
export const ALLOCATOR_MALLOC = 1;
export const ALLOCATOR_UMA = 2;
export const ALLOCATOR_ANY = 255;
export const MEMTYPE_MAXNAME = 32;
export const MEMSTAT_MAXCALLER = 16;

export const MEMSTAT_ERROR_UNDEFINED = 0;
export const MEMSTAT_ERROR_NOMEMORY = 1;
export const MEMSTAT_ERROR_VERSION = 2;
export const MEMSTAT_ERROR_PERMISSION = 3;
export const MEMSTAT_ERROR_TOOMANYCPUS = 4;
export const MEMSTAT_ERROR_DATAERROR = 5;
export const MEMSTAT_ERROR_KVM = 6;
export const MEMSTAT_ERROR_KVM_NOSYMBOL = 7;
export const MEMSTAT_ERROR_KVM_SHORTREAD = 8;

const ERROR_TEXT = [
  'Unknown error',
  'Cannot allocate memory',
  'Version mismatch',
  'Permission denied',
  'Too many CPUs',
  'Data format error',
  'KVM error',
  'KVM unable to find symbol',
  'KVM short read',
];
/** What a memstat error means. */
export function memstat_strerror(error: number): string {
  return ERROR_TEXT[error] ?? ERROR_TEXT[MEMSTAT_ERROR_UNDEFINED];
}

export interface memory_percpu {
  memalloced: number;
  memfreed: number;
  numallocs: number;
  numfrees: number;
  sizemask: number;
  free: number;
  caller_pointer: unknown[];
  caller_uint64: bigint[];
}
export interface memory_type {
  readonly allocator: number;
  readonly name: string;
  countlimit: number;
  byteslimit: number;
  sizemask: number;
  size: number;
  memalloced: number;
  memfreed: number;
  numallocs: number;
  numfrees: number;
  bytes: number;
  count: number;
  free: number;
  failures: number;
  sleeps: number;
  zonefree: number;
  kegfree: number;
  /** The numbers may be off by more than a little: the sample says so. */
  approximate: boolean;
  percpu: memory_percpu[];
  caller_pointer: unknown[];
  caller_uint64: bigint[];
  next: memory_type | null;
}
export interface memory_type_list {
  first: memory_type | null;
  error: number;
}

/** An empty list. */
export function memstat_mtl_alloc(): memory_type_list {
  return { first: null, error: MEMSTAT_ERROR_UNDEFINED };
}
export function memstat_mtl_first(list: memory_type_list): memory_type | null {
  return list.first;
}
export function memstat_mtl_next(type: memory_type): memory_type | null {
  return type.next;
}
/** The first entry of that name; ALLOCATOR_ANY looks in both. Null: none, which is no error. */
export function memstat_mtl_find(
  list: memory_type_list,
  allocator: number,
  name: string,
): memory_type | null {
  for (let t = list.first; t; t = t.next) {
    if (t.name === name && (allocator === ALLOCATOR_ANY || allocator === t.allocator)) return t;
  }
  return null;
}
/**
 * Finds the entries of a list again while a stream is read: each once, so that the
 * n-th zone of a name in the stream is the n-th entry of that name again.
 */
class memstat_finder {
  readonly #known = new Map<string, memory_type[]>();
  constructor(list: memory_type_list, allocator: number) {
    for (let t = list.first; t; t = t.next) {
      if (t.allocator !== allocator) continue;
      const same = this.#known.get(t.name);
      if (same) same.push(t);
      else this.#known.set(t.name, [t]);
    }
  }
  /** The next entry of that name; null: there is none yet. */
  take(name: string): memory_type | null {
    return this.#known.get(name)?.pop() ?? null;
  }
}
/** Empties the list. */
export function memstat_mtl_free(list: memory_type_list): void {
  list.first = null;
}
export function memstat_mtl_geterror(list: memory_type_list): number {
  return list.error;
}
/** All entries, in list order. */
export function memstat_mtl_types(list: memory_type_list): memory_type[] {
  const types: memory_type[] = [];
  for (let t = list.first; t; t = t.next) types.push(t);
  return types;
}

function slots(): { caller_pointer: unknown[]; caller_uint64: bigint[] } {
  return {
    caller_pointer: new Array(MEMSTAT_MAXCALLER).fill(null),
    caller_uint64: new Array(MEMSTAT_MAXCALLER).fill(0n),
  };
}
/** A zeroed entry at the head of the list. */
export function memstat_mt_allocate(
  list: memory_type_list,
  allocator: number,
  name: string,
  maxcpus: number,
): memory_type {
  const t: memory_type = {
    allocator,
    name,
    ...ZERO,
    percpu: [],
    ...slots(),
    next: list.first,
  };
  memstat_mt_reset(t, maxcpus);
  list.first = t;
  return t;
}
const ZERO = {
  countlimit: 0,
  byteslimit: 0,
  sizemask: 0,
  size: 0,
  memalloced: 0,
  memfreed: 0,
  numallocs: 0,
  numfrees: 0,
  bytes: 0,
  count: 0,
  free: 0,
  failures: 0,
  sleeps: 0,
  zonefree: 0,
  kegfree: 0,
  approximate: false,
};
const ZERO_CPU = { memalloced: 0, memfreed: 0, numallocs: 0, numfrees: 0, sizemask: 0, free: 0 };
/** Clears what the library owns; what the caller stored stays. */
function memstat_mt_reset(t: memory_type, maxcpus: number): void {
  Object.assign(t, ZERO);
  for (const c of t.percpu) Object.assign(c, ZERO_CPU);
  while (t.percpu.length < maxcpus) t.percpu.push({ ...ZERO_CPU, ...slots() });
}
/** Difference or sum of counts, modulo 2^64. */
export function memstat_wrap(value: bigint): number {
  return Number(BigInt.asUintN(64, value));
}
/** A name in a header: NUL-terminated, at most 31 bytes. */
export function memstat_name(bytes: Uint8Array, at: number): string {
  const field = bytes.subarray(at, at + MEMTYPE_MAXNAME);
  const nul = field.indexOf(0);
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(
    field.slice(0, nul < 0 ? MEMTYPE_MAXNAME : nul),
  );
}

// --- streams -------------------------------------------------------------------------

const STREAM_VERSION = 1;
const STREAM_HEADER = 16;
/** Bytes of a record for a CPU, in either stream. */
export const MEMSTAT_PERCPU = 64;

/**
 * Brings the list up to date from a stream: a header with version, records for CPUs and
 * entries, then for each entry `type_header` bytes that begin with its name, and the
 * records of its CPUs.  `fill` takes the numbers of the entry at a place.  Returns a
 * MEMSTAT_ERROR.
 */
export function memstat_parse(
  list: memory_type_list,
  bytes: Uint8Array,
  allocator: number,
  type_header: number,
  fill: (t: memory_type, v: DataView, at: number, maxcpus: number) => void,
): number {
  if (bytes.length === 0) return MEMSTAT_ERROR_UNDEFINED;
  if (bytes.length < STREAM_HEADER) return MEMSTAT_ERROR_VERSION;
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (v.getUint32(0, true) !== STREAM_VERSION) return MEMSTAT_ERROR_VERSION;
  const maxcpus = v.getUint32(4, true);
  const count = v.getUint32(8, true);
  const each = type_header + MEMSTAT_PERCPU * maxcpus;
  if (bytes.length !== STREAM_HEADER + count * each) return MEMSTAT_ERROR_DATAERROR;
  const known = new memstat_finder(list, allocator);
  for (let i = 0; i < count; i++) {
    const at = STREAM_HEADER + i * each;
    const name = memstat_name(bytes, at);
    let t = known.take(name);
    if (t) memstat_mt_reset(t, maxcpus);
    else t = memstat_mt_allocate(list, allocator, name, maxcpus);
    fill(t, v, at, maxcpus);
  }
  return MEMSTAT_ERROR_UNDEFINED;
}

// --- accessors -----------------------------------------------------------------------

export const memstat_get_name = (t: memory_type): string => t.name;
export const memstat_get_allocator = (t: memory_type): number => t.allocator;
export const memstat_get_countlimit = (t: memory_type): number => t.countlimit;
export const memstat_get_byteslimit = (t: memory_type): number => t.byteslimit;
export const memstat_get_sizemask = (t: memory_type): number => t.sizemask;
export const memstat_get_size = (t: memory_type): number => t.size;
export const memstat_get_memalloced = (t: memory_type): number => t.memalloced;
export const memstat_get_memfreed = (t: memory_type): number => t.memfreed;
export const memstat_get_numallocs = (t: memory_type): number => t.numallocs;
export const memstat_get_numfrees = (t: memory_type): number => t.numfrees;
export const memstat_get_bytes = (t: memory_type): number => t.bytes;
export const memstat_get_count = (t: memory_type): number => t.count;
export const memstat_get_free = (t: memory_type): number => t.free;
export const memstat_get_failures = (t: memory_type): number => t.failures;
export const memstat_get_sleeps = (t: memory_type): number => t.sleeps;
export const memstat_get_zonefree = (t: memory_type): number => t.zonefree;
export const memstat_get_approximate = (t: memory_type): boolean => t.approximate;
export const memstat_get_kegfree = (t: memory_type): number => t.kegfree;

/** The record of a CPU; panics of old are a RangeError here. */
function percpu(t: memory_type, cpu: number): memory_percpu {
  const c = t.percpu[cpu];
  if (!c) throw new RangeError(`memstat: ${t.name} has no CPU ${cpu} (it has ${t.percpu.length})`);
  return c;
}
function index(i: number): number {
  if (i >= 0 && i < MEMSTAT_MAXCALLER) return i;
  throw new RangeError(`memstat: caller slot ${i} is not from 0 to ${MEMSTAT_MAXCALLER - 1}`);
}
export const memstat_get_percpu_memalloced = (t: memory_type, cpu: number): number =>
  percpu(t, cpu).memalloced;
export const memstat_get_percpu_memfreed = (t: memory_type, cpu: number): number =>
  percpu(t, cpu).memfreed;
export const memstat_get_percpu_numallocs = (t: memory_type, cpu: number): number =>
  percpu(t, cpu).numallocs;
export const memstat_get_percpu_numfrees = (t: memory_type, cpu: number): number =>
  percpu(t, cpu).numfrees;
export const memstat_get_percpu_sizemask = (t: memory_type, cpu: number): number =>
  percpu(t, cpu).sizemask;
export const memstat_get_percpu_free = (t: memory_type, cpu: number): number => percpu(t, cpu).free;
export const memstat_get_caller_pointer = (t: memory_type, i: number): unknown =>
  t.caller_pointer[index(i)];
export function memstat_set_caller_pointer(t: memory_type, i: number, value: unknown): void {
  t.caller_pointer[index(i)] = value;
}
export const memstat_get_caller_uint64 = (t: memory_type, i: number): bigint =>
  t.caller_uint64[index(i)];
export function memstat_set_caller_uint64(t: memory_type, i: number, value: bigint): void {
  t.caller_uint64[index(i)] = BigInt.asUintN(64, value);
}
export const memstat_get_percpu_caller_pointer = (
  t: memory_type,
  cpu: number,
  i: number,
): unknown => percpu(t, cpu).caller_pointer[index(i)];
export function memstat_set_percpu_caller_pointer(
  t: memory_type,
  cpu: number,
  i: number,
  value: unknown,
): void {
  percpu(t, cpu).caller_pointer[index(i)] = value;
}
export const memstat_get_percpu_caller_uint64 = (t: memory_type, cpu: number, i: number): bigint =>
  percpu(t, cpu).caller_uint64[index(i)];
export function memstat_set_percpu_caller_uint64(
  t: memory_type,
  cpu: number,
  i: number,
  value: bigint,
): void {
  percpu(t, cpu).caller_uint64[index(i)] = BigInt.asUintN(64, value);
}
/** Sizes whose bit is set in a malloc type's mask: bit n is 16 << n bytes. */
export function memstat_malloc_sizes(sizemask: number): number[] {
  const sizes: number[] = [];
  for (let n = 0; n < 53; n++) {
    if (Math.floor(sizemask / 2 ** n) % 2 === 1) sizes.push(16 * 2 ** n);
  }
  return sizes;
}
