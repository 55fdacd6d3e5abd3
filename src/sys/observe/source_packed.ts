/*
 * source_packed: a dump that was compressed, by kern_dump or by somebody's gzip or zstd.
 *
 *      file -- 1 MiB --> the host's stream -- chunks --> a page of headers, then pieces of memory
 *
 * It is unpacked into memory as it is read: no more than a piece is held beside that, whatever the
 * file says that it has.  The headers come first, so that what is no dump is known by its first
 * page, and no memory is made for it.  What follows the end of the dump is not looked at.
 *
 * The host unpacks in an event loop: this is the one way to a source that has to be waited for.
 */
import { EOPNOTSUPP, errno_name } from '../machine/errno.ts';
import { host_zip, type UnpackLike } from '../machine/host.ts';
import { memory_create } from '../machine/memory.ts';
import { store_close } from '../machine/store.ts';
import { store_read } from '../machine/store_io.ts';
import { DUMP_LOAD, type DumpHead, dump_parse } from './dump_elf.ts';
import {
  type MemorySource,
  packing_of,
  PIECE,
  pages_take,
  read_fault,
  release_fault,
  source_store,
} from './memory_source.ts';

/** Bytes of the file that are given to the host at a time. */
const FEED = 2 ** 20;

/** Why it is no dump, or was cut. */
class PackedFault extends Error {}
function bad(why: string): never {
  throw new PackedFault(why);
}

/** What has come out so far. */
class Unpacked {
  head: DumpHead | null = null;
  memory: SharedArrayBuffer | null = null;
  /** Bytes that came out. */
  at = 0;
  /** Bytes that came behind it. */
  over = 0;
  #load = 0;
  readonly #page = new Uint8Array(DUMP_LOAD);
  #piece = new Int32Array(0);
  #words: Int32Array = this.#piece;

  /** All of the memory has come. */
  get whole(): boolean {
    return this.head !== null && this.at >= this.#load + this.head.size;
  }
  /** Takes the next bytes. Throws PackedFault. */
  take(chunk: Uint8Array): void {
    let from = 0;
    if (this.at < DUMP_LOAD) {
      from = Math.min(chunk.length, DUMP_LOAD - this.at);
      this.#page.set(chunk.subarray(0, from), this.at);
      this.at += from;
      if (this.at === DUMP_LOAD) this.#begin();
    }
    while (from < chunk.length && !this.whole) from += this.#more(chunk.subarray(from));
    this.over += chunk.length - from;
  }
  #begin(): void {
    const parsed = dump_parse(this.#page, Number.POSITIVE_INFINITY);
    if ('fault' in parsed) {
      return bad(`unpacked ${parsed.fault}${parsed.foreign ? ': unpack it first' : ''}`);
    }
    const other = release_fault(parsed.head);
    if (other !== '') bad(`unpacked ${other}`);
    if (parsed.load < DUMP_LOAD) bad(`unpacked byte ${parsed.load}: the memory is in the headers`);
    this.head = parsed.head;
    this.#load = parsed.load;
    try {
      this.memory = memory_create(parsed.head.size, 'atomics') as SharedArrayBuffer;
    } catch (e) {
      bad((e as Error).message);
    }
    this.#words = new Int32Array(this.memory as SharedArrayBuffer);
    this.#piece = new Int32Array(Math.min(PIECE, parsed.head.size) >> 2);
  }
  /** Takes bytes up to the end of a piece; returns how many. */
  #more(chunk: Uint8Array): number {
    if (this.at < this.#load) {
      const skipped = Math.min(chunk.length, this.#load - this.at);
      this.at += skipped;
      return skipped;
    }
    const piece = new Uint8Array(this.#piece.buffer);
    const { size } = this.head as DumpHead;
    const done = this.at - this.#load;
    const begin = done - (done % piece.length);
    const end = Math.min(begin + piece.length, size);
    const n = Math.min(chunk.length, end - done);
    piece.set(chunk.subarray(0, n), done - begin);
    this.at += n;
    if (done + n === end) pages_take(this.#words, begin, this.#piece, end - begin);
    return n;
  }
}

/** Gives all of a store to the host's stream, as fast as it takes it. A string: what failed. */
async function feed(st: number, z: UnpackLike): Promise<string> {
  let over = false;
  const closed = new Promise<void>((resolve) => {
    z.on('close', () => {
      over = true;
      resolve();
    });
  });
  for (let at = 0; ; ) {
    const piece = new Uint8Array(FEED);
    const got = store_read(st, at, piece);
    if (got < 0) {
      z.destroy();
      return read_fault(at, -got);
    }
    if (got === 0) break;
    at += got;
    const taken = new Promise<void>((resolve) => {
      z.write(piece.subarray(0, got), () => resolve());
    });
    await Promise.race([taken, closed]);
    if (over) return ''; // the other end has enough, or says why not
  }
  z.end();
  return '';
}
async function drain(z: UnpackLike, into: Unpacked): Promise<void> {
  try {
    for await (const chunk of z) {
      into.take(chunk);
      if (into.over > PIECE) break; // the sums of the dump's own frames were looked at by then
    }
  } catch (e) {
    if (e instanceof PackedFault) throw e;
    const { code = '' } = e as { code?: string };
    // A stream that was destroyed while it was fed: the other end says why.
    if (code === 'ERR_STREAM_PREMATURE_CLOSE') return;
    const cut = code === 'Z_BUF_ERROR';
    bad(
      `unpacked byte ${into.at}: ${cut ? 'it ends here: it was cut' : `it is damaged (${code})`}`,
    );
  }
}
async function unpack(st: number, z: UnpackLike, name: string): Promise<MemorySource | string> {
  const into = new Unpacked();
  const fed = feed(st, z);
  try {
    await drain(z, into);
  } catch (e) {
    z.destroy();
    await fed;
    if (e instanceof PackedFault) return e.message;
    throw e;
  }
  const unread = await fed;
  if (unread !== '') return unread;
  const { head, memory } = into;
  if (!into.whole || head === null || memory === null) {
    return `unpacked byte ${into.at}: it ends here: it was cut`;
  }
  const read = (at: number, to: Uint8Array): number => {
    const n = Math.max(0, Math.min(to.length, head.size - at));
    to.set(new Uint8Array(memory, at, n));
    return n;
  };
  return { name, kind: 'packed', head, base: DUMP_LOAD, memory, live: false, read, close: () => 0 };
}
/** The dump in a compressed file; null: it is not compressed; a string: why it cannot be had. */
export async function packed_source(path: string): Promise<MemorySource | string | null> {
  const st = source_store(path);
  if (typeof st === 'string') return st;
  const page = new Uint8Array(4);
  const got = store_read(st, 0, page);
  const packing = got < 0 ? null : packing_of(page);
  const make = packing === 'zstd' ? host_zip?.createZstdDecompress : host_zip?.createGunzip;
  let source: MemorySource | string | null = null;
  if (packing !== null && make === undefined) {
    source = `${errno_name(EOPNOTSUPP)}: this host cannot unpack ${packing}: unpack it first`;
  } else if (packing !== null && make !== undefined) source = await unpack(st, make(), path);
  store_close(st); // errno: it was only read
  return source;
}
