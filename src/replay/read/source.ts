/*
 * source: the bytes of a trace, wherever they are and however they are packed.
 *
 *      file or stdin ──► raw chunks ──┬─► SHA-256, byte count
 *                                     └─► unpack.ts (by content) ──► chunks
 *
 * What a file is, is decided by its first bytes, never by its name.  Unpacking
 * runs in Node's own threads: while one chunk is parsed the next one is being
 * inflated, and since a stream stops when its buffer is full, memory stays the
 * same for a kilobyte and for a terabyte.
 *
 * Everything that can go wrong with the input becomes one SourceError: which
 * file, at which byte, what is wrong, what to do.
 *
 * Devices are refused: some have no end.  What is no regular file can be read
 * once; whoever wants it again makes a copy first (spool).
 *
 * Life of a source.  open_source() opens the file and looks at its first bytes;
 * chunks() is to be iterated once; afterwards the counts and the digest are final.
 * Leaving the iteration early closes everything.
 */

import { createHash, type Hash } from 'node:crypto';
import {
  constants,
  createReadStream,
  createWriteStream,
  fstatSync,
  openSync,
  type Stats,
  statSync,
} from 'node:fs';
import { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { isatty } from 'node:tty';
import { type Foreign, foreign_packing } from './foreign.ts';
import { type Broken, make_engine, type Packer, Unpacking } from './unpack.ts';

/** The name of standard input on a command line. */
export const STDIN_NAME = '-';
const STDIN_FD = 0;

/** Raw bytes read at once. */
const READ_BYTES = 1 << 16;
/** First bytes needed to know what a file is packed with. */
const MAGIC_BYTES = 12;

export type Packing = 'plain' | Packer;

/**
 * What an error says of the input: nothing can be read of it; what stands before the place can;
 * all of it can, but a strict reading was asked for.
 */
export type SourceFault = 'unreadable' | 'damaged' | 'strict';

/** Something is wrong with the input; `message` is one line with place, reason and advice. */
export class SourceError extends Error {
  readonly file: string;
  readonly offset: number | null;
  readonly reason: string;
  readonly advice: string;
  readonly fault: SourceFault;
  /** Place and reason. */
  readonly found: string;

  constructor(
    file: string,
    offset: number | null,
    reason: string,
    advice: string,
    fault: SourceFault = 'unreadable',
  ) {
    const place = offset === null ? file : `${file}: byte ${offset}`;
    const found = `${place}: ${reason}`;
    super(`${found}; ${advice}`);
    this.found = found;
    this.name = 'SourceError';
    this.file = file;
    this.offset = offset;
    this.reason = reason;
    this.advice = advice;
    this.fault = fault;
  }
}

function begins(head: Uint8Array, magic: number[]): boolean {
  return head.length >= magic.length && magic.every((byte, i) => head[i] === byte);
}

const ZSTD_FRAME = [0x28, 0xb5, 0x2f, 0xfd];
/** A frame that readers of zstd pass over: pzstd notes sizes in one, in front of all others. */
function begins_with_skippable(head: Uint8Array): boolean {
  const [kind, ...rest] = head.subarray(0, 4);
  return (
    (kind & 0xf0) === 0x50 && rest.length === 3 && begins(head.subarray(1), [0x2a, 0x4d, 0x18])
  );
}

/** What the first bytes say the file is packed with. */
export function packing_of(file: string, head: Uint8Array): Packing {
  if (begins(head, [0x1f, 0x8b])) return 'gzip';
  if (begins(head, ZSTD_FRAME) || begins_with_skippable(head)) return 'zstd';
  const foreign = foreign_packing(head);
  if (foreign !== null) throw foreign_error(file, foreign);
  return 'plain';
}

/** The error that names what a file is instead of a recording. */
export function foreign_error(file: string, { what, advice }: Foreign): SourceError {
  const name = /\s/.test(file) ? 'FILE' : file;
  return new SourceError(file, 0, what, advice.replaceAll('FILE', name));
}

function open_error(file: string, error: NodeJS.ErrnoException): SourceError {
  switch (error.code) {
    case 'ENOENT':
      return new SourceError(file, null, 'no such file', 'check the name and the folder');
    case 'EACCES':
    case 'EPERM':
      return new SourceError(file, null, 'not allowed to read it', 'check its permissions');
    case 'EISDIR':
      return new SourceError(file, null, 'is a directory', 'name the trace files in it');
    default: {
      const reason = `cannot be read (${error.code ?? error.message})`;
      return new SourceError(file, null, reason, 'check that it is a file and its disk is well');
    }
  }
}

interface Opened {
  stream: Readable;
  size: number;
  /** Reads a regular file a second time. */
  again: (() => AsyncIterable<Uint8Array>) | null;
}
/** What a file is, links followed. */
function about(file: string): Stats {
  try {
    return file === STDIN_NAME ? fstatSync(STDIN_FD) : statSync(file);
  } catch (error) {
    throw open_error(file, error as NodeJS.ErrnoException);
  }
}
/** Whether a file can be read from its beginning as often as one likes. */
export function is_rereadable(file: string): boolean {
  return file !== STDIN_NAME && about(file).isFile();
}
/** A device may have no end, and reading it may do something. */
function refuse_device(file: string, what: Stats): void {
  if (!what.isCharacterDevice() && !what.isBlockDevice()) return;
  const name = called(file);
  if (file === STDIN_NAME && isatty(STDIN_FD)) {
    throw new SourceError(
      name,
      null,
      'is a terminal',
      'lead a recording into it: kmem replay - < FILE',
    );
  }
  const kind = what.isBlockDevice() ? 'block' : 'character';
  throw new SourceError(name, null, `is a ${kind} device`, 'give a file or a pipe');
}
function called(file: string): string {
  return file === STDIN_NAME ? 'standard input' : file;
}
function raw_stream(file: string): Opened {
  const what = about(file);
  refuse_device(file, what);
  try {
    if (what.isDirectory()) throw Object.assign(new Error('directory'), { code: 'EISDIR' });
    const size = what.isFile() ? what.size : 0;
    /*
     * A pipe is read through the event loop, so that the thread can be ended while it waits:
     * for bytes, or for somebody to open the other end.
     */
    if (what.isFIFO() || what.isSocket()) {
      const flags = constants.O_RDONLY | constants.O_NONBLOCK;
      const fd = file === STDIN_NAME ? STDIN_FD : openSync(file, flags);
      return { stream: new Socket({ fd, readable: true, writable: false }), size, again: null };
    }
    const fd = file === STDIN_NAME ? STDIN_FD : openSync(file, 'r');
    const options = { highWaterMark: READ_BYTES, autoClose: fd !== STDIN_FD };
    const again = is_rereadable(file) ? () => createReadStream(file, options) : null;
    return { stream: createReadStream('', { ...options, fd }), size, again };
  } catch (error) {
    throw open_error(file, error as NodeJS.ErrnoException);
  }
}
/** Copies what can be read once into a file that can be read again. */
export async function spool(file: string, copy: string): Promise<void> {
  const { stream } = raw_stream(file);
  try {
    await pipeline(stream, createWriteStream(copy, { mode: 0o600 }));
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const reason = `cannot be copied to ${copy}, to be read again (${code ?? message})`;
    throw new SourceError(called(file), null, reason, 'save it as a file first');
  }
}

/** One open trace.  Its counts grow while chunks() is iterated. */
export class ByteSource {
  readonly file: string;
  /** Bytes of the file; 0 when it is a pipe and nobody knows. */
  readonly size: number;
  packing: Packing = 'plain';
  /** Raw bytes read, as they lie in the file. */
  raw_bytes = 0;
  /** Bytes handed out, unpacked. */
  plain_bytes = 0;
  /** Why a packed file could not be unpacked to its end; what came before it was handed out. */
  damage: SourceError | null = null;
  readonly #stream: Readable;
  readonly #hash: Hash | null;
  readonly #again: (() => AsyncIterable<Uint8Array>) | null;
  #unpacking: Unpacking | null = null;

  constructor(file: string, opened: Opened, hash: Hash | null) {
    this.file = file;
    this.#stream = opened.stream;
    this.size = opened.size;
    this.#again = opened.again;
    this.#hash = hash;
  }

  /** Iterate once.  A chunk is only valid until the next one is asked for. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    try {
      const raw = this.#raw();
      const head = await first_bytes(raw);
      this.packing = packing_of(this.file, head);
      const { packing } = this;
      const plain = packing === 'plain' ? chained(head, raw) : this.#unpack(packing, head, raw);
      for await (const chunk of plain) {
        this.plain_bytes += chunk.length;
        yield chunk;
      }
    } finally {
      this.#unpacking?.close();
      this.#stream.destroy();
    }
  }

  async *#raw(): AsyncGenerator<Uint8Array> {
    try {
      for await (const chunk of this.#stream as AsyncIterable<Uint8Array>) {
        this.raw_bytes += chunk.length;
        this.#hash?.update(chunk);
        yield chunk;
      }
    } catch (error) {
      throw open_error(this.file, error as NodeJS.ErrnoException);
    }
  }

  async *#unpack(
    packer: Packer,
    head: Uint8Array,
    raw: AsyncIterable<Uint8Array>,
  ): AsyncGenerator<Uint8Array> {
    const engine = make_engine(packer);
    if (engine === null) {
      const reason = `packed with ${packer}, which this Node (${process.version}) cannot unpack`;
      const advice = `use Node 22.15 or later, or: ${packer} -dc ${this.file} | kmem replay -`;
      throw new SourceError(this.file, 0, reason, advice);
    }
    const unpacking = new Unpacking(packer, chained(head, raw), this.#again);
    this.#unpacking = unpacking;
    yield* unpacking.chunks(engine);
    if (unpacking.broken !== null) this.damage = this.#damage(packer, unpacking.broken);
  }

  #damage(packer: Packer, { at, early, why }: Broken): SourceError {
    const came = `${this.plain_bytes} bytes came out before it`;
    const advice = `${came}; check it with ${packer} -t and fetch it again`;
    const offset = Math.min(at, this.raw_bytes);
    if (early) {
      const reason = `the ${packer} data ends too early (a truncated file)`;
      return new SourceError(this.file, offset, reason, advice, 'damaged');
    }
    const header = /incorrect header check|unknown compression method/.test(why);
    // Another packed piece may follow the first, so what is none is looked at as one.
    const what = header ? ', or something else stands behind it' : '';
    const reason = `the ${packer} data is damaged${what} (${why})`;
    return new SourceError(this.file, offset, reason, advice, 'damaged');
  }
}

/**
 * Opens a trace; '-' is standard input.  The raw bytes go through `hash` on their way, which may
 * be shared by several files that make up one trace; errors call it `name`.  Fails with a
 * SourceError.
 */
export function open_source(
  file: string,
  hash: Hash | null = null,
  name = called(file),
): ByteSource {
  return new ByteSource(name, raw_stream(file), hash);
}

/** The digest that truth.json gives for a file. */
export function source_hash(): Hash {
  return createHash('sha256');
}

/* Enough of the stream to see its magic number; less only when it ends before. */
async function first_bytes(raw: AsyncGenerator<Uint8Array>): Promise<Uint8Array> {
  let head: Uint8Array = new Uint8Array(0);
  while (head.length < MAGIC_BYTES) {
    const { done, value } = await raw.next();
    if (done) break;
    head = head.length === 0 ? value : Buffer.concat([head, value]);
  }
  return head;
}

async function* chained(
  head: Uint8Array,
  rest: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (head.length > 0) yield head;
  yield* rest;
}
