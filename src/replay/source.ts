/*
 * source: the bytes of a trace, wherever they are and however they are packed.
 *
 *      file or stdin ──► raw chunks ──┬─► SHA-256, byte count
 *                                     └─► gunzip or zstd (by content) ──► chunks
 *
 * What a file is, is decided by its first bytes, never by its name.  Unpacking
 * runs in Node's own threads: while one chunk is parsed the next one is being
 * inflated, and since a stream stops when its buffer is full, memory stays the
 * same for a kilobyte and for a terabyte.
 *
 * Everything that can go wrong with the input becomes one SourceError: which
 * file, at which byte, what is wrong, what to do.
 *
 * Life of a source.  open_source() opens the file and looks at its first bytes;
 * chunks() is to be iterated once; afterwards the counts and the digest are final.
 * Leaving the iteration early closes everything.
 */

import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { createReadStream, fstatSync, openSync } from 'node:fs';
import { Socket } from 'node:net';
import type { Readable, Transform } from 'node:stream';
import * as zlib from 'node:zlib';

/** The name of standard input on a command line. */
export const STDIN_NAME = '-';
const STDIN_FD = 0;

/** Raw bytes read at once. */
const READ_BYTES = 1 << 16;
/** Bytes of plain text read at once. */
export const INFLATED_BYTES = 1 << 19;
/** First bytes needed to know what a file is packed with. */
const MAGIC_BYTES = 8;

export type Packing = 'plain' | 'gzip' | 'zstd';

/** Something is wrong with the input; `message` is one line with place, reason and advice. */
export class SourceError extends Error {
  readonly file: string;
  readonly offset: number | null;
  readonly reason: string;
  readonly advice: string;

  constructor(file: string, offset: number | null, reason: string, advice: string) {
    const place = offset === null ? file : `${file}: byte ${offset}`;
    super(`${place}: ${reason}; ${advice}`);
    this.name = 'SourceError';
    this.file = file;
    this.offset = offset;
    this.reason = reason;
    this.advice = advice;
  }
}

/** Packings that are recognised only to say what to do about them. */
const UNSUPPORTED: [name: string, tool: string, magic: number[]][] = [
  ['xz', 'xz -dc', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['bzip2', 'bzip2 -dc', [0x42, 0x5a, 0x68]],
  ['lz4', 'lz4 -dc', [0x04, 0x22, 0x4d, 0x18]],
  ['zip', 'unzip -p', [0x50, 0x4b, 0x03, 0x04]],
];

function begins(head: Uint8Array, magic: number[]): boolean {
  return head.length >= magic.length && magic.every((byte, i) => head[i] === byte);
}

/** What the first bytes say the file is packed with. */
export function packing_of(file: string, head: Uint8Array): Packing {
  if (begins(head, [0x1f, 0x8b])) return 'gzip';
  if (begins(head, [0x28, 0xb5, 0x2f, 0xfd])) return 'zstd';
  for (const [name, tool, magic] of UNSUPPORTED) {
    if (!begins(head, magic)) continue;
    const advice = `unpack it on the way: ${tool} ${file} | kmem replay -`;
    throw new SourceError(file, 0, `packed with ${name}, which kmem does not read`, advice);
  }
  return 'plain';
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

function raw_stream(file: string): { stream: Readable; size: number } {
  try {
    const fd = file === STDIN_NAME ? STDIN_FD : openSync(file, 'r');
    const about = fstatSync(fd);
    if (about.isDirectory()) throw Object.assign(new Error('directory'), { code: 'EISDIR' });
    const size = about.isFile() ? about.size : 0;
    /* A pipe is read through the event loop, so that the thread can be ended while it waits. */
    if (fd === STDIN_FD && (about.isFIFO() || about.isSocket())) {
      return { stream: new Socket({ fd, readable: true, writable: false }), size };
    }
    const options = { fd, highWaterMark: READ_BYTES, autoClose: fd !== STDIN_FD };
    return { stream: createReadStream('', options), size };
  } catch (error) {
    throw open_error(file, error as NodeJS.ErrnoException);
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
  readonly #stream: Readable;
  readonly #hash: Hash | null;
  #engine: Transform | null = null;

  constructor(file: string, stream: Readable, size: number, hash: Hash | null) {
    this.file = file;
    this.#stream = stream;
    this.size = size;
    this.#hash = hash;
  }

  /** Iterate once.  A chunk is only valid until the next one is asked for. */
  async *chunks(): AsyncGenerator<Uint8Array> {
    try {
      const raw = this.#raw();
      const head = await first_bytes(raw);
      this.packing = packing_of(this.file, head);
      const plain = this.packing === 'plain' ? chained(head, raw) : this.#unpack(head, raw);
      for await (const chunk of plain) {
        this.plain_bytes += chunk.length;
        yield chunk;
      }
    } finally {
      this.#engine?.destroy();
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

  async *#unpack(head: Uint8Array, raw: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
    const engine = this.#make_engine();
    this.#engine = engine;
    const feeding = (async () => {
      for await (const chunk of chained(head, raw)) {
        if (!engine.write(chunk)) await once(engine, 'drain');
      }
      engine.end();
    })();
    feeding.catch((error) => engine.destroy(error));
    try {
      yield* engine as AsyncIterable<Uint8Array>;
    } catch (error) {
      throw error instanceof SourceError ? error : this.#unpack_error(error as Error, engine);
    }
  }

  #make_engine(): Transform {
    const options = { chunkSize: INFLATED_BYTES, readableHighWaterMark: INFLATED_BYTES };
    if (this.packing === 'gzip') return zlib.createGunzip(options);
    if (typeof zlib.createZstdDecompress !== 'function') {
      const reason = `packed with zstd, which this Node (${process.version}) cannot unpack`;
      const advice = `use Node 22.15 or later, or: zstd -dc ${this.file} | kmem replay -`;
      throw new SourceError(this.file, 0, reason, advice);
    }
    return zlib.createZstdDecompress(options);
  }

  #unpack_error(error: Error, engine: Transform): SourceError {
    const offset = Math.min((engine as zlib.Gunzip).bytesWritten, this.raw_bytes);
    const came = `${this.plain_bytes} bytes came out before it`;
    const advice = `${came}; check it with ${this.packing} -t and fetch it again`;
    if (/unexpected end|incomplete|truncated/i.test(error.message)) {
      const reason = `the ${this.packing} data ends too early (a truncated file)`;
      return new SourceError(this.file, offset, reason, advice);
    }
    const header = /incorrect header check|unknown compression method/.test(error.message);
    // Another packed piece may follow the first, so what is none is looked at as one.
    const what = header ? ', or something else stands behind it' : '';
    const reason = `the ${this.packing} data is damaged${what} (${error.message})`;
    return new SourceError(this.file, offset, reason, advice);
  }
}

/**
 * Opens a trace; '-' is standard input.  The raw bytes go through `hash` on their way, which may
 * be shared by several files that make up one trace.  Fails with a SourceError.
 */
export function open_source(file: string, hash: Hash | null = null): ByteSource {
  const { stream, size } = raw_stream(file);
  return new ByteSource(file === STDIN_NAME ? 'standard input' : file, stream, size, hash);
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
