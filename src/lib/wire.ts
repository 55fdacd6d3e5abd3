/*
 * wire: what goes over a control socket, byte by byte.
 *
 * The socket is a Unix stream socket.  Both sides send frames: a length, then so
 * many bytes.  All numbers are little-endian, u32 unless said, and stand next to
 * one another without padding.  The program speaks first; after that each request
 * gets one reply, in the order of the requests, which need not wait for replies.
 *
 *      frame      0   4   length: bytes that follow this word
 *
 *      hello      4   8   "kmemctl" and a zero byte
 *      (first    12   4   version, 1: what follows may grow at its end
 *      frame)    16   4   pid
 *                20   4   thread: Node's number of the thread that listens, 0 the main one
 *                24   4   machine: equal for two sockets of one machine in one process
 *                28   8   memory of the machine, bytes, u64
 *                36   4   booted at: bytes of the text that follows
 *                40   …   booted at: file:line that booted the machine, UTF-8
 *
 *      request    4   4   tag: any number; the reply has it too
 *                 8   4   flags: 1 the old value is wanted, 2 there is a new value, 4 with
 *                         both and without a name: it is for the debugger
 *                12   4   room: most bytes of the old value to send; 16 MiB at most
 *                16   4   count of numbers in the name, up to 24
 *                20   …   the name: count signed numbers of 4 bytes
 *                 …   …   the new value: the rest of the frame; none without flag 2
 *
 *      reply      4   4   tag
 *                 8   4   error: 0 or an errno of FreeBSD
 *                12   4   oldlen: bytes of the old value that follow; without flag 1
 *                         how many it would have
 *                16   …   the old value, or as much of it as there was room for
 *
 * This is sysctl(3): `room` and the old value are oldlenp and oldp, the rest of the
 * request is newp.  Error 12 (ENOMEM) says that the value is longer than the room;
 * its beginning follows.  Names are resolved as sysctl(8) does it: name {0, 3} with
 * the text as the new value, without a zero byte, gives the numbers as old value.
 * A request to read vm.zone_stats, say, after {0, 3} gave {2, 131} for it:
 *
 *      18 00 00 00   07 00 00 00   01 00 00 00   00 00 01 00   02 00 00 00
 *      24 follow     tag 7         old wanted    room 65536    two numbers:
 *      02 00 00 00   83 00 00 00
 *      2             131
 *
 * A frame that is longer than 1 MiB, shorter than its own fields, or has more than
 * 24 numbers ends the connection: nobody who speaks this wire sends one.  So does
 * leaving a frame unfinished, or replies unread, for ten seconds, whatever comes meanwhile;
 * and being idle for longest among 256 clients, when one more comes.
 *
 * An error for a new value, other than ENOMEM, may be followed by a text that says why, in place
 * of the old value, as far as there is room.
 *
 * A new value for the debugger is a request of its own, in JSON, and the old value is its answer
 * (sys/observe/ddb/ddb_serve.ts): a line of commands and the text that it gives, or how long all
 * CPUs but that of the socket are to be held.
 *
 * What the kernel would print on its console for {0, 0}, sysctl.debug, is the old value: lines
 * of text, with a zero byte at the end.
 */

/** Longest request, bytes after its length. */
export const REQUEST_BYTES_MAX = 2 ** 20;
/** Most bytes of an old value in one reply. */
export const ROOM_BYTES_MAX = 2 ** 24;
/** Longest name: CTL_MAXNAME. */
export const NUMBERS_MAX = 24;
const VERSION = 1;
const MAGIC = 'kmemctl\0';
const WORD = 4;
const HELLO_FIELDS = 36;
const REQUEST_FIELDS = 16;
const REPLY_FIELDS = 12;
const SITE_BYTES_MAX = 1024;

const FLAG_OLD = 1;
const FLAG_NEW = 2;
const FLAG_DDB = 4;

export interface Hello {
  readonly pid: number;
  readonly thread: number;
  readonly machine: number;
  readonly memory: number;
  readonly bootedAt: string;
}
export interface Request {
  readonly tag: number;
  readonly mib: readonly number[];
  /** Room for the old value; null: it is not wanted. */
  readonly room: number | null;
  readonly value: Uint8Array | null;
  /** It is for the debugger, and has no name. */
  readonly ddb?: boolean;
}
export interface Reply {
  readonly tag: number;
  readonly error: number;
  readonly oldlen: number;
  readonly bytes: Uint8Array;
}
/** The other side does not speak this wire. */
export class WireError extends Error {}

/** A frame of `n` bytes after the length, which is filled in. */
function frame(n: number): { bytes: Uint8Array; v: DataView } {
  const bytes = new Uint8Array(WORD + n);
  const v = new DataView(bytes.buffer);
  v.setUint32(0, n, true);
  return { bytes, v };
}
function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}
function wrong(what: string): never {
  throw new WireError(what);
}

export function helloFrame(h: Hello): Uint8Array {
  const bootedAt = new TextEncoder().encode(h.bootedAt).subarray(0, SITE_BYTES_MAX);
  const { bytes, v } = frame(HELLO_FIELDS + bootedAt.length);
  for (let i = 0; i < MAGIC.length; i++) bytes[WORD + i] = MAGIC.charCodeAt(i);
  v.setUint32(12, VERSION, true);
  v.setUint32(16, h.pid, true);
  v.setUint32(20, h.thread, true);
  v.setInt32(24, h.machine, true);
  v.setBigUint64(28, BigInt(h.memory), true);
  v.setUint32(36, bootedAt.length, true);
  bytes.set(bootedAt, WORD + HELLO_FIELDS);
  return bytes;
}
/** Reads what follows the length. Throws WireError. */
export function helloOf(body: Uint8Array): Hello {
  const magic = String.fromCharCode(...body.subarray(0, MAGIC.length));
  if (body.length < HELLO_FIELDS || magic !== MAGIC) wrong('no control socket of kmem');
  const v = viewOf(body);
  const version = v.getUint32(8, true);
  if (version !== VERSION) wrong(`version ${version} of the wire, not ${VERSION}`);
  const n = v.getUint32(32, true);
  return {
    pid: v.getUint32(12, true),
    thread: v.getUint32(16, true),
    machine: v.getInt32(20, true),
    memory: Number(v.getBigUint64(24, true)),
    bootedAt: new TextDecoder('utf-8', { ignoreBOM: true }).decode(
      body.slice(HELLO_FIELDS, HELLO_FIELDS + n),
    ),
  };
}

export function requestFrame(r: Request): Uint8Array {
  const value = r.value ?? new Uint8Array(0);
  const { bytes, v } = frame(REQUEST_FIELDS + 4 * r.mib.length + value.length);
  v.setUint32(4, r.tag, true);
  const flags = (r.room === null ? 0 : FLAG_OLD) | (r.value === null ? 0 : FLAG_NEW);
  v.setUint32(8, flags | (r.ddb ? FLAG_DDB : 0), true);
  v.setUint32(12, r.room ?? 0, true);
  v.setUint32(16, r.mib.length, true);
  for (const [i, n] of r.mib.entries()) v.setInt32(20 + 4 * i, n, true);
  bytes.set(value, 20 + 4 * r.mib.length);
  return bytes;
}
/** Reads what follows the length. Throws WireError. */
export function requestOf(body: Uint8Array): Request {
  if (body.length < REQUEST_FIELDS) wrong('a request without its fields');
  const v = viewOf(body);
  const [flags, room, count] = [4, 8, 12].map((at) => v.getUint32(at, true));
  if (count > NUMBERS_MAX) wrong(`a name of ${count} numbers`);
  const at = REQUEST_FIELDS + 4 * count;
  const has_new = (flags & FLAG_NEW) !== 0;
  if (body.length < at) wrong('a name that is cut short');
  const ddb = flags === (FLAG_OLD | FLAG_NEW | FLAG_DDB) && count === 0;
  if (flags > (FLAG_OLD | FLAG_NEW) && !ddb) wrong(`flags ${flags}`);
  if (body.length > at && !has_new) wrong('a new value without its flag');
  return {
    tag: v.getUint32(0, true),
    mib: Array.from({ length: count }, (_, i) => v.getInt32(REQUEST_FIELDS + 4 * i, true)),
    room: (flags & FLAG_OLD) !== 0 ? Math.min(room, ROOM_BYTES_MAX) : null,
    value: has_new ? body.slice(at) : null,
    ...(ddb ? { ddb } : {}),
  };
}

export function replyFrame(r: Reply): Uint8Array {
  const { bytes, v } = frame(REPLY_FIELDS + r.bytes.length);
  v.setUint32(4, r.tag, true);
  v.setUint32(8, r.error, true);
  v.setUint32(12, r.oldlen, true);
  bytes.set(r.bytes, WORD + REPLY_FIELDS);
  return bytes;
}
/** Reads what follows the length. Throws WireError. */
export function replyOf(body: Uint8Array): Reply {
  if (body.length < REPLY_FIELDS) wrong('a reply without its fields');
  const v = viewOf(body);
  return {
    tag: v.getUint32(0, true),
    error: v.getUint32(4, true),
    oldlen: v.getUint32(8, true),
    bytes: body.slice(REPLY_FIELDS),
  };
}

/** Longest frame that a program sends. */
export const REPLY_BYTES_MAX = REPLY_FIELDS + ROOM_BYTES_MAX;
const FIRST_BYTES = 4096;

/** Cuts a stream of bytes into frames, and holds what is not whole yet. */
export class Frames {
  readonly #max: number;
  #buffer = new Uint8Array(FIRST_BYTES);
  #start = 0;
  #end = 0;

  /** `max`: longest frame to be accepted, bytes after its length. */
  constructor(max: number) {
    this.#max = max;
  }
  /** Bytes that were not taken yet. */
  get held(): number {
    return this.#end - this.#start;
  }
  push(chunk: Uint8Array): void {
    const wanted = this.held + chunk.length;
    if (this.#end + chunk.length > this.#buffer.length) {
      const room = wanted <= this.#buffer.length / 2 ? this.#buffer.length : 2 * wanted;
      const next = new Uint8Array(room);
      next.set(this.#buffer.subarray(this.#start, this.#end));
      this.#end -= this.#start;
      this.#start = 0;
      this.#buffer = next;
    }
    this.#buffer.set(chunk, this.#end);
    this.#end += chunk.length;
  }
  /** What follows the length of the next frame, a copy; null: it is not whole. Throws WireError. */
  take(): Uint8Array | null {
    if (this.held < WORD) return null;
    const length = viewOf(this.#buffer).getUint32(this.#start, true);
    if (length > this.#max) wrong(`a frame of ${length} bytes`);
    if (this.held < WORD + length) return null;
    const at = this.#start + WORD;
    const body = this.#buffer.slice(at, at + length);
    this.#start = at + length;
    if (this.held === 0) this.#forget();
    return body;
  }
  /** Whether take() would give a frame, or throw. */
  get ready(): boolean {
    if (this.held < WORD) return false;
    const length = viewOf(this.#buffer).getUint32(this.#start, true);
    return length > this.#max || this.held >= WORD + length;
  }
  /** Starts over; lets go of a buffer that one large frame needed. */
  #forget(): void {
    this.#start = 0;
    this.#end = 0;
    if (this.#buffer.length > 16 * FIRST_BYTES) this.#buffer = new Uint8Array(FIRST_BYTES);
  }
}
