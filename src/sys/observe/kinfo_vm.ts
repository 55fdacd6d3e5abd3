/*
 * kinfo_vm: what is mapped, and memory objects, as other programs are told of them.
 *
 *      kern.proc.vmmap   kinfo_vmentry, kinfo_vmentry, ...      what procstat -v shows
 *      vm.objects        kinfo_vmobject, kinfo_vmobject, ...    what vmstat -o shows
 *
 * The records are FreeBSD's, as a machine with 64-bit numbers has them: a record begins with its
 * length, which its last field, a path, makes longer or shorter.  BSD's path is a file's; here that
 * of an entry is the name of its space and, behind a slash, of its part of it, as far as they have
 * names.  Whoever reads records goes from length to length.
 *
 *      kinfo_vmentry     0 length     4 type      8 start     16 end      24 offset     44 flags
 *                       48 resident  52 private  56 rights    60 refs     64 shadows   104 space
 *                      136 path
 *      kinfo_vmobject    0 length     4 type      8 pages     28 refs     32 shadows    36 caching
 *                       40 resident  48 active   56 inactive  64 below    72 itself    160 path
 *
 * BSD's process of an entry is told by whoever asks for it.  Here all address spaces can be
 * asked for at once, so each entry says in a spare word whose it is: the number of its space.
 */

export const KVME_TYPE_NONE = 0;
export const KVME_TYPE_DEFAULT = 1;
export const KVME_TYPE_SWAP = 3;
export const KVME_TYPE_DEVICE = 4;
export const KVME_TYPE_PHYS = 5;
export const KVME_TYPE_DEAD = 6;

export const KVME_FLAG_COW = 0x01;
export const KVME_FLAG_NEEDS_COPY = 0x02;
export const KVME_FLAG_NOCOREDUMP = 0x04;
export const KVME_FLAG_SUPER = 0x08;
export const KVME_FLAG_GROWS_UP = 0x10;
export const KVME_FLAG_GROWS_DOWN = 0x20;
export const KVME_FLAG_USER_WIRED = 0x40;

/** What is mapped at some addresses. */
export interface kinfo_vmentry {
  /** Number of the space: of one that lives, no other one has it. */
  readonly space: number;
  /** KVME_TYPE_* of its object. */
  readonly type: number;
  readonly start: number;
  /** The first address beyond. */
  readonly end: number;
  /** Bytes from the object's begin to what is at `start`. */
  readonly offset: number;
  /** KVME_FLAG_*. */
  readonly flags: number;
  /** VM_PROT_*. */
  readonly protection: number;
  /** Pages in memory, of its object or of one below. */
  readonly resident: number;
  /** Those that nobody else can see. */
  readonly private_resident: number;
  /** References to its object. */
  readonly refs: number;
  /** Objects that its object backs. */
  readonly shadows: number;
  /** The name of the space, and behind a slash that of the part. */
  readonly path: string;
}
/** A memory object. */
export interface kinfo_vmobject {
  /** KVME_TYPE_*. */
  readonly type: number;
  /** Pages that it may have. */
  readonly size: number;
  readonly refs: number;
  readonly shadows: number;
  /** Pages that it has, those on the active queue, those on the inactive one. */
  readonly resident: number;
  readonly active: number;
  readonly inactive: number;
  /** The object below, as that one says of itself; 0: none. */
  readonly backing: number;
  readonly me: number;
}

/** Where the path of a record is. */
const VMENTRY_PATH = 136;
const VMOBJECT_PATH = 160;
/** Bytes up to a whole number of words, of 8 bytes. */
const whole = (bytes: number): number => Math.ceil(bytes / 8) * 8;
const VMOBJECT_BYTES = whole(VMOBJECT_PATH + 1);
const encoder = new TextEncoder();
const decoder = new TextDecoder('utf-8', { ignoreBOM: true });
/** How pages are cached by the processor: written back. */
const WRITE_BACK = 6;

export function kinfo_vmentry_bytes(e: kinfo_vmentry): Uint8Array {
  const path = encoder.encode(e.path);
  const bytes = new Uint8Array(whole(VMENTRY_PATH + path.length + 1));
  const v = new DataView(bytes.buffer);
  put32(v, 0, bytes.length, e.type);
  put64(v, 8, e.start, e.end, e.offset);
  put32(v, 44, e.flags, e.resident, e.private_resident, e.protection, e.refs, e.shadows);
  put32(v, 104, e.space);
  bytes.set(path, VMENTRY_PATH);
  return bytes;
}
export function kinfo_vmobject_bytes(o: kinfo_vmobject): Uint8Array {
  const v = new DataView(new ArrayBuffer(VMOBJECT_BYTES));
  put32(v, 0, VMOBJECT_BYTES, o.type);
  put64(v, 8, o.size);
  put32(v, 28, o.refs, o.shadows, WRITE_BACK);
  put64(v, 40, o.resident, o.active, o.inactive, o.backing, o.me);
  return new Uint8Array(v.buffer);
}
function put32(v: DataView, at: number, ...values: readonly number[]): void {
  for (const [i, value] of values.entries()) v.setInt32(at + i * 4, value, true);
}
function put64(v: DataView, at: number, ...values: readonly number[]): void {
  for (const [i, value] of values.entries()) v.setBigInt64(at + i * 8, BigInt(value), true);
}

export function kinfo_vmentries(bytes: Uint8Array): kinfo_vmentry[] {
  return records(bytes, VMENTRY_PATH).map((v) => ({
    space: v.getInt32(104, true),
    type: v.getInt32(4, true),
    start: get64(v, 8),
    end: get64(v, 16),
    offset: get64(v, 24),
    flags: v.getInt32(44, true),
    resident: v.getInt32(48, true),
    private_resident: v.getInt32(52, true),
    protection: v.getInt32(56, true),
    refs: v.getInt32(60, true),
    shadows: v.getInt32(64, true),
    path: text(v, VMENTRY_PATH),
  }));
}
export function kinfo_vmobjects(bytes: Uint8Array): kinfo_vmobject[] {
  return records(bytes, VMOBJECT_PATH).map((v) => ({
    type: v.getInt32(4, true),
    size: get64(v, 8),
    refs: v.getInt32(28, true),
    shadows: v.getInt32(32, true),
    resident: get64(v, 40),
    active: get64(v, 48),
    inactive: get64(v, 56),
    backing: get64(v, 64),
    me: get64(v, 72),
  }));
}
function text(v: DataView, at: number): string {
  const bytes = new Uint8Array(v.buffer, v.byteOffset + at, v.byteLength - at);
  const end = bytes.indexOf(0);
  return decoder.decode(bytes.slice(0, end < 0 ? bytes.length : end));
}
const get64 = (v: DataView, at: number): number => Number(v.getBigInt64(at, true));
/** The records one after another; what is cut off, or too short for one, ends them. */
function records(bytes: Uint8Array, least: number): DataView[] {
  const all: DataView[] = [];
  for (let at = 0; at + least <= bytes.length; ) {
    const v = new DataView(bytes.buffer, bytes.byteOffset + at, bytes.length - at);
    const length = v.getInt32(0, true);
    if (length < least || length > v.byteLength) break;
    all.push(new DataView(bytes.buffer, bytes.byteOffset + at, length));
    at += length;
  }
  return all;
}
