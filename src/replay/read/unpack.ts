/*
 * unpack: what a packed file holds, as far as it can be unpacked.
 *
 *      raw chunks ──► zlib, in a thread of Node's ──► plain chunks
 *                          │ broken off, damaged
 *                          ▼
 *      the same again, byte by byte around the place ──► the plain bytes before it
 *
 * A recording that a crash cut off is packed up to its last block, so the data
 * before the break is what somebody wants to see.  Node's streams do not give it:
 * an error throws away what waits in a stream, and what the failing call of zlib
 * had put out.  So the end of the input is told to zlib only when everything
 * before it was taken, and damage makes the file be unpacked a second time:
 * quickly up to the call that failed, then a byte a call, which loses nothing but
 * a few bytes at the very place.
 *
 * For that the raw bytes are needed again.  A file is read a second time.  Of a pipe a second
 * engine follows the first, a chunk of raw bytes behind it, so that only one chunk is kept.
 *
 * Several packed pieces one behind the other are one stream, as the tools take
 * them.  Zeros behind the last one are padding.  Anything else there is damage.
 */
import type { Transform } from 'node:stream';
import * as zlib from 'node:zlib';

export type Engine = Transform & { readonly bytesWritten: number };
export type Packer = 'gzip' | 'zstd';
/** What comes of the file, an iteration of its raw bytes. */
export type Raw = AsyncIterator<Uint8Array>;

/** Bytes of plain text unpacked at once. */
export const INFLATED_BYTES = 1 << 19;

/** Bytes of the file unpacked at once while it is unpacked again. */
const STEP_BYTES = 4096;
/** More than a step can put out, so that an engine never waits for its reader. */
const STEP_HELD_BYTES = 2 ** 30;
const NOTHING = new Uint8Array(0);

/** Where the packed data cannot be unpacked any further, and why. */
export interface Broken {
  /** Byte of the packed file. */
  at: number;
  early: boolean;
  why: string;
}

/** An engine that waits while so much was put out and not taken. Null: this Node has none. */
export function make_engine(packer: Packer, held_bytes = INFLATED_BYTES): Engine | null {
  const options = { chunkSize: INFLATED_BYTES, readableHighWaterMark: held_bytes };
  if (packer === 'gzip') return zlib.createGunzip(options) as Engine;
  if (typeof zlib.createZstdDecompress !== 'function') return null;
  return zlib.createZstdDecompress(options) as Engine;
}

/** One packed file.  chunks() is iterated once; then `broken` says whether that was all of it. */
export class Unpacking {
  /** Null: the file was unpacked to its end. */
  broken: Broken | null = null;
  readonly #packer: Packer;
  readonly #raw: Raw;
  /** Reads the file again from its beginning; null: that cannot be done. */
  readonly #again: (() => AsyncIterable<Uint8Array>) | null;
  /** Of a pipe: what has unpacked all chunks but the last. */
  #behind: Steps | null = null;
  /** The last chunk that the engine was given. */
  #last: Uint8Array = NOTHING;
  #engine: Engine | null = null;
  #given = 0;
  /** These end a wait of #feed: the engine is of no use any more; something was taken from it. */
  #stop: () => void = () => {};
  #taken: () => void = () => {};

  constructor(packer: Packer, raw: Raw, again: (() => AsyncIterable<Uint8Array>) | null) {
    this.#packer = packer;
    this.#raw = raw;
    this.#again = again;
  }

  async *chunks(engine: Engine): AsyncGenerator<Uint8Array> {
    this.#engine = engine;
    if (this.#again === null) this.#behind = new Steps(this.#packer);
    engine.once('close', () => this.#stop());
    let unreadable: unknown = null;
    const feeding = this.#feed(engine).catch((error) => {
      unreadable = error;
      engine.destroy(error);
    });
    try {
      for await (const chunk of engine as AsyncIterable<Uint8Array>) {
        this.#given += chunk.length;
        this.#taken();
        yield chunk;
      }
    } catch (error) {
      if (unreadable !== null) throw unreadable;
      const { message } = error as Error;
      const early = /unexpected end|incomplete|truncated/i.test(message);
      this.broken = { at: engine.bytesWritten, early, why: message };
    }
    await feeding;
    if (this.broken !== null && !this.broken.early) yield* this.#rescue(this.broken);
    if (this.broken !== null) await drained(this.#raw);
  }
  /** Nobody wants more. */
  close(): void {
    this.#engine?.destroy();
    this.#behind?.close();
  }

  /* Ends when the engine fails; throws what the file's reading throws. */
  async #feed(engine: Engine): Promise<void> {
    for (;;) {
      const { done, value } = await this.#raw.next();
      if (done) break;
      const follows = this.#behind?.through(this.#last);
      this.#last = value;
      const used = await new Promise<boolean>((resolve) => {
        this.#stop = () => resolve(false);
        engine.write(value, (error) => resolve(!error));
      });
      await follows;
      if (!used) return;
    }
    while (engine.readableLength > 0 && !engine.destroyed) {
      await new Promise<void>((resolve) => {
        this.#stop = resolve;
        this.#taken = resolve;
      });
    }
    engine.end();
  }

  /* Gives what the failing call, and those before it that nobody saw, had put out. */
  async *#rescue(broken: Broken): AsyncGenerator<Uint8Array> {
    const steps = this.#behind ?? new Steps(this.#packer);
    this.#behind = steps; // which close() ends
    let skip = this.#given - steps.given;
    let at = steps.taken;
    for await (const chunk of this.#again === null ? [this.#last] : this.#again()) {
      for (let from = 0; from < chunk.length; ) {
        const before = broken.at - at;
        const n = before > 0 ? Math.min(before, chunk.length - from, STEP_BYTES) : 1;
        const plain = await steps.take(chunk.subarray(from, from + n));
        if (plain === null) {
          broken.at = at;
          return;
        }
        const fresh = plain.subarray(Math.min(skip, plain.length));
        skip -= plain.length - fresh.length;
        if (fresh.length > 0) yield fresh;
        at += n;
        from += n;
      }
    }
  }
}

/** An engine that unpacks a piece at a time, and shows what came of each. */
class Steps {
  /** Bytes that it took, and that came of them. */
  taken = 0;
  given = 0;
  readonly #engine: Engine;
  #failed: () => void = () => {};

  constructor(packer: Packer) {
    const engine = make_engine(packer, STEP_HELD_BYTES) as Engine;
    this.#engine = engine;
    engine.on('error', () => {});
    engine.once('close', () => this.#failed());
  }
  /** What the piece unpacks to; null: it is damaged, or nothing more can follow. */
  async take(piece: Uint8Array): Promise<Uint8Array | null> {
    const engine = this.#engine;
    if (engine.destroyed || engine.readableEnded) return null;
    const good = await new Promise<boolean>((resolve) => {
      this.#failed = () => resolve(false);
      engine.write(piece, (error) => resolve(!error));
    });
    if (!good) return null;
    const plain: Uint8Array = engine.read() ?? NOTHING;
    this.taken += piece.length;
    this.given += plain.length;
    return plain;
  }
  /** Takes a chunk of which nobody wants to see what comes of it. */
  async through(chunk: Uint8Array): Promise<void> {
    for (let from = 0; from < chunk.length; from += STEP_BYTES) {
      if ((await this.take(chunk.subarray(from, from + STEP_BYTES))) === null) return;
    }
  }
  close(): void {
    this.#engine.destroy();
  }
}

/* The rest is read all the same: size and digest are those of the whole file. */
async function drained(raw: Raw): Promise<void> {
  while (!(await raw.next()).done);
}
