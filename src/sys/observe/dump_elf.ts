/*
 * dump_elf: how a dump lies in its file.
 *
 * An ELF core file (64 bits, little-endian, type ET_CORE) of two segments, so that tools
 * that know nothing of us show what is in it:
 *
 *      0        ELF header
 *      64       program headers: PT_NOTE, PT_LOAD
 *      176      notes, owner KMEM: who wrote it, when, of which machine
 *      65536    the whole memory, byte 0 first; runs of zero pages are holes in the file
 *
 * The machine type is EM_NONE: our memory belongs to no processor.  Addresses of PT_LOAD
 * are the byte addresses that the tools print.
 *
 * Notes.  KMEM_NT_MACHINE has the fixed part:
 *
 *       0 version   4 layout hash   8 machine id   12 generation   16 flags   20 CPU, -1: none
 *      24 thread id of the host   28 of JavaScript   32 time, ms   40 boot time, ms   48 bytes
 *
 * KMEM_NT_RELEASE is the release of kmem as text, KMEM_NT_PANIC the text of the panic; a
 * machine that did not panic has none.  KMEM_NT_STACK has the frames of the thread that wrote
 * the dump, innermost first.  There is a KMEM_NT_CPU for each slot that a thread holds:
 *
 *       0 CPU   4 its state word   8 thread id of the host   12 of JavaScript
 *      16 1: it stopped for a panic    20 ... what it did, as text: where it stopped
 *
 * A reader passes over types it does not know.
 *
 * Headers and notes are written last.  A file whose writer died begins with
 * zeros: the reader says that it was not finished.
 */
import { MEMORY_MAX, MEMORY_MIN, PAGE_SIZE } from '../machine/memory.ts';

export const DUMP_VERSION = 2;
/** Where the memory begins in the file, bytes. */
export const DUMP_LOAD = 65536;

/** The machine had panicked. */
export const DUMP_PANICKED = 1;
/** No block or item was taken or freed while it was written: all figures belong together. */
export const DUMP_QUIET = 2;

/** Types of notes: `km` and a number, so that tools do not take them for those of a processor. */
export const KMEM_NT_MACHINE = 0x6b6d01;
export const KMEM_NT_RELEASE = 0x6b6d02;
export const KMEM_NT_PANIC = 0x6b6d03;
const KMEM_NT_CPU = 0x6b6d04;
const KMEM_NT_STACK = 0x6b6d05;
/** Longest text of a CPU or a stack in a note, bytes: so all of 66 CPUs fit. */
const NOTE_TEXT = 640;

/** What a dump says of a CPU. */
export interface DumpCpu {
  readonly cpu: number;
  /** CPU_* bits. */
  readonly state: number;
  readonly os_tid: number;
  readonly js_tid: number;
  /** It has stopped for a panic. */
  readonly stopped: boolean;
  /** Its frames where it stopped; or what kept it from stopping. */
  readonly text: string;
}

/** What a dump says about itself. */
export interface DumpHead {
  readonly layout: number;
  readonly id: number;
  readonly generation: number;
  /** DUMP_*. */
  readonly flags: number;
  /** The CPU that wrote it, -1: none. */
  readonly cpu: number;
  readonly os_tid: number;
  readonly js_tid: number;
  /** When it was written, and when the machine booted: ms since the epoch. */
  readonly time: number;
  readonly boot_time: number;
  /** Bytes of the memory. */
  readonly size: number;
  readonly release: string;
  /** Text of the panic; '' if there was none. */
  readonly panic: string;
  /** Frames of the thread that wrote it, innermost first; '': not known. */
  readonly stack: string;
  /** CPUs that threads held. */
  readonly cpus: readonly DumpCpu[];
}

const EHSIZE = 64;
const PHENTSIZE = 56;
/** Where our notes begin in the file, bytes. */
export const NOTES_AT = EHSIZE + 2 * PHENTSIZE;
const ET_CORE = 4;
const PT_LOAD = 1;
const PT_NOTE = 4;
const PF_RW = 6;
const IDENT = [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]; // ELF, 64 bits, little-endian, version 1
const OWNER = 'KMEM\0\0\0\0'; // 5 bytes and what rounds them up to a multiple of 4
const OWNER_BYTES = 5;
const MACHINE_BYTES = 56;
/** Program headers that a reader looks at: ours are two. */
const HEADERS_MAX = 16;
/** A machine's memory comes in such steps, bytes. */
export const MEMORY_STEP = 65536;

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const up4 = (n: number): number => (n + 3) & ~3;

// --- writing ---------------------------------------------------------------------------

function machine_note(h: DumpHead): Uint8Array {
  const v = new DataView(new ArrayBuffer(MACHINE_BYTES));
  const small = [DUMP_VERSION, h.layout, h.id, h.generation, h.flags, h.cpu, h.os_tid, h.js_tid];
  for (const [i, n] of small.entries()) v.setInt32(i * 4, n, true);
  for (const [i, n] of [h.time, h.boot_time, h.size].entries()) {
    v.setBigUint64(32 + i * 8, BigInt(Math.trunc(n)), true);
  }
  return new Uint8Array(v.buffer);
}
const CPU_BYTES = 20;
/** A text cut to what a note takes, at the end of a character. */
function note_text(text: string): Uint8Array {
  const bytes = encoder.encode(text);
  let n = Math.min(bytes.length, NOTE_TEXT);
  while (n < bytes.length && n > 0 && (bytes[n] & 0xc0) === 0x80) n--;
  return bytes.subarray(0, n);
}
function cpu_note(c: DumpCpu): Uint8Array {
  const text = note_text(c.text);
  const note = new Uint8Array(CPU_BYTES + text.length);
  const v = new DataView(note.buffer);
  const words = [c.cpu, c.state, c.os_tid, c.js_tid, c.stopped ? 1 : 0];
  for (const [i, n] of words.entries()) v.setInt32(i * 4, n, true);
  note.set(text, CPU_BYTES);
  return note;
}
/** Puts a note at `at`. Returns where the next one goes. */
function put_note(page: Uint8Array, at: number, type: number, desc: Uint8Array): number {
  const v = new DataView(page.buffer);
  v.setUint32(at, OWNER_BYTES, true);
  v.setUint32(at + 4, desc.length, true);
  v.setUint32(at + 8, type, true);
  page.set(encoder.encode(OWNER), at + 12);
  page.set(desc, at + 20);
  return at + 20 + up4(desc.length);
}
interface Segment {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly bytes: number;
  readonly align: number;
}
function put_segment(page: Uint8Array, at: number, s: Segment): void {
  const v = new DataView(page.buffer);
  v.setUint32(at, s.type, true);
  v.setUint32(at + 4, s.flags, true);
  v.setBigUint64(at + 8, BigInt(s.offset), true);
  v.setBigUint64(at + 32, BigInt(s.bytes), true); // in the file
  v.setBigUint64(at + 40, BigInt(s.type === PT_LOAD ? s.bytes : 0), true); // in memory
  v.setBigUint64(at + 48, BigInt(s.align), true);
}
/** The beginning of a dump: headers and notes. */
export function dump_head(h: DumpHead): Uint8Array {
  const page = new Uint8Array(DUMP_LOAD);
  let at = put_note(page, NOTES_AT, KMEM_NT_MACHINE, machine_note(h));
  at = put_note(page, at, KMEM_NT_RELEASE, encoder.encode(h.release));
  if (h.panic !== '') at = put_note(page, at, KMEM_NT_PANIC, encoder.encode(h.panic));
  if (h.stack !== '') at = put_note(page, at, KMEM_NT_STACK, note_text(h.stack));
  for (const c of h.cpus) at = put_note(page, at, KMEM_NT_CPU, cpu_note(c));
  page.set(IDENT);
  const v = new DataView(page.buffer);
  v.setUint16(16, ET_CORE, true);
  v.setUint32(20, 1, true); // version
  v.setBigUint64(32, BigInt(EHSIZE), true); // where the program headers are
  v.setUint16(52, EHSIZE, true);
  v.setUint16(54, PHENTSIZE, true);
  v.setUint16(56, 2, true); // program headers
  const notes = { type: PT_NOTE, flags: 0, offset: NOTES_AT, bytes: at - NOTES_AT, align: 4 };
  put_segment(page, EHSIZE, notes);
  const load = { type: PT_LOAD, flags: PF_RW, offset: DUMP_LOAD, bytes: h.size, align: PAGE_SIZE };
  put_segment(page, EHSIZE + PHENTSIZE, load);
  return page;
}

// --- reading ---------------------------------------------------------------------------

/** Why a file is no dump that can be read, and at which byte of it. */
export interface DumpFault {
  readonly fault: string;
  /** It is a core file that another program has written. */
  readonly foreign: boolean;
}
class Fault extends Error {
  readonly foreign: boolean;
  constructor(text: string, foreign: boolean) {
    super(text);
    this.foreign = foreign;
  }
}
function bad(at: number, why: string): never {
  throw new Fault(`byte ${at}: ${why}`, false);
}
/** The same of a core file that is not ours: an operating system's may have a machine in it. */
function foreign(at: number, why: string): never {
  throw new Fault(`byte ${at}: ${why}`, true);
}
function number64(v: DataView, at: number): number {
  return Number(v.getBigUint64(at, true));
}
function elf_header(page: Uint8Array, v: DataView): number {
  if (page.length < EHSIZE) bad(page.length, 'it ends here: too short for a dump');
  if (page.every((byte) => byte === 0)) {
    bad(0, 'only zeros: a dump that was not finished, or no dump');
  }
  for (const [i, byte] of IDENT.entries()) {
    if (page[i] !== byte) bad(i, 'no ELF file of 64 bits, little-endian: not a dump of kmem');
  }
  if (v.getUint16(16, true) !== ET_CORE) bad(16, 'an ELF file, but no core file');
  if (number64(v, 32) !== EHSIZE) bad(32, 'the program headers are elsewhere: not a dump of kmem');
  if (v.getUint16(54, true) !== PHENTSIZE) bad(54, 'program headers of another size');
  return v.getUint16(56, true);
}
function segments(page: Uint8Array, v: DataView): Segment[] {
  const n = elf_header(page, v);
  if (n > HEADERS_MAX) foreign(56, `${n} program headers: a core file, but not a dump of kmem`);
  return Array.from({ length: n }, (_, i) => {
    const at = EHSIZE + i * PHENTSIZE;
    if (at + PHENTSIZE > page.length) bad(page.length, 'it ends in the program headers');
    return segment_at(v, at);
  });
}
function segment_at(v: DataView, at: number): Segment {
  return {
    type: v.getUint32(at, true),
    flags: v.getUint32(at + 4, true),
    offset: number64(v, at + 8),
    bytes: number64(v, at + 32),
    align: number64(v, at + 48),
  };
}
/** The notes of owner KMEM, by type; of CPUs there are several. */
function notes_of(page: Uint8Array, v: DataView, s: Segment): Map<number, Uint8Array[]> {
  const end = s.offset + s.bytes;
  if (s.offset < EHSIZE || end > page.length) foreign(s.offset, 'notes beyond the headers');
  const notes = new Map<number, Uint8Array[]>();
  for (let at = s.offset; at + 12 <= end; ) {
    const name = at + 12;
    const desc = name + up4(v.getUint32(at, true));
    const bytes = v.getUint32(at + 4, true);
    if (desc < name || desc + bytes > end) bad(at, 'a note that goes beyond the notes');
    const own = decoder.decode(page.subarray(name, name + OWNER_BYTES)) === OWNER.slice(0, 5);
    if (own) {
      const type = v.getUint32(at + 8, true);
      notes.set(type, [...(notes.get(type) ?? []), page.subarray(desc, desc + bytes)]);
    }
    at = desc + up4(bytes);
  }
  return notes;
}
function text_of(all: Uint8Array[] | undefined): string {
  return all ? decoder.decode(all[0]) : '';
}
function cpus_of(all: Uint8Array[] | undefined): DumpCpu[] {
  const whole = (all ?? []).filter((note) => note.length >= CPU_BYTES);
  return whole.map((note) => {
    const v = new DataView(note.buffer, note.byteOffset, note.length);
    const [cpu, state, os_tid, js_tid, stopped] = [0, 4, 8, 12, 16].map((i) => v.getInt32(i, true));
    const text = decoder.decode(note.subarray(CPU_BYTES));
    return { cpu, state, os_tid, js_tid, stopped: stopped === 1, text };
  });
}
function head_of(notes: Map<number, Uint8Array[]>, at: number): DumpHead {
  const note = notes.get(KMEM_NT_MACHINE)?.[0];
  if (!note || note.length < MACHINE_BYTES)
    foreign(at, 'no note of kmem: a core file of another program');
  const v = new DataView(note.buffer, note.byteOffset, note.length);
  const version = v.getInt32(0, true);
  if (version !== DUMP_VERSION)
    bad(at, `a dump of version ${version}; this kmem reads ${DUMP_VERSION}`);
  return {
    layout: v.getInt32(4, true),
    id: v.getInt32(8, true),
    generation: v.getInt32(12, true),
    flags: v.getInt32(16, true),
    cpu: v.getInt32(20, true),
    os_tid: v.getInt32(24, true),
    js_tid: v.getInt32(28, true),
    time: number64(v, 32),
    boot_time: number64(v, 40),
    size: number64(v, 48),
    release: text_of(notes.get(KMEM_NT_RELEASE)),
    panic: text_of(notes.get(KMEM_NT_PANIC)),
    stack: text_of(notes.get(KMEM_NT_STACK)),
    cpus: cpus_of(notes.get(KMEM_NT_CPU)),
  };
}
/**
 * What the first DUMP_LOAD bytes of a file of `length` bytes say, and where the memory begins in
 * the file; or what is wrong, and at which byte.
 */
export function dump_parse(
  page: Uint8Array,
  length: number,
): { head: DumpHead; load: number } | DumpFault {
  const v = new DataView(page.buffer, page.byteOffset, page.length);
  try {
    const all = segments(page, v);
    const notes =
      all.find((s) => s.type === PT_NOTE) ?? foreign(EHSIZE, 'no notes: not a dump of kmem');
    const head = head_of(notes_of(page, v, notes), notes.offset);
    const load = all.find((s) => s.type === PT_LOAD) ?? bad(EHSIZE, 'no memory in it');
    const { size } = head;
    if (load.bytes !== size || size % MEMORY_STEP !== 0 || size < MEMORY_MIN || size > MEMORY_MAX) {
      bad(notes.offset, `a memory of ${size} bytes, ${load.bytes} of them in the file`);
    }
    if (length < load.offset + size) {
      bad(length, `it ends here, ${load.offset + size - length} bytes too early: it was cut`);
    }
    return { head, load: load.offset };
  } catch (e) {
    if (e instanceof Fault) return { fault: e.message, foreign: e.foreign };
    throw e;
  }
}

// --- core files of operating systems -----------------------------------------------------------

/** The number of program headers that says: it stands in the first section header. */
const PN_XNUM = 0xffff;
const SHENTSIZE = 64;
const SH_INFO = 44;
/** Mappings that a process may have; more are no core file. */
const MAPPINGS_MAX = 2 ** 20;
/** Program headers that are read at a time. */
const HEADERS_READ = 1024;

/** Reads bytes of a file, all of them; a string says why not. */
export type ReadWhole = (at: number, n: number) => Uint8Array | string;

/** What of a process's memory is in a core file, a part for each mapping, in the file's order. */
export function core_segments(read: ReadWhole): { offset: number; bytes: number }[] | string {
  const whole = (at: number, n: number): DataView => {
    const got = read(at, n);
    if (typeof got === 'string') throw new Fault(got, false);
    return new DataView(got.buffer, got.byteOffset, got.length);
  };
  try {
    const head = whole(0, EHSIZE);
    const short = head.getUint16(56, true);
    const n = short === PN_XNUM ? headers_many(head, whole) : short;
    if (n > MAPPINGS_MAX) bad(56, `${n} program headers`);
    const loads: { offset: number; bytes: number }[] = [];
    for (let i = 0; i < n; i += HEADERS_READ) {
      const some = Math.min(HEADERS_READ, n - i);
      const v = whole(EHSIZE + i * PHENTSIZE, some * PHENTSIZE);
      for (let k = 0; k < some; k++) {
        const { type, offset, bytes } = segment_at(v, k * PHENTSIZE);
        if (type === PT_LOAD && bytes > 0) loads.push({ offset, bytes });
      }
    }
    return loads;
  } catch (e) {
    if (e instanceof Fault) return e.message;
    throw e;
  }
}
/** As many as did not fit into the ELF header's 16 bits. */
function headers_many(head: DataView, whole: (at: number, n: number) => DataView): number {
  return whole(number64(head, 40), SHENTSIZE).getUint32(SH_INFO, true);
}
