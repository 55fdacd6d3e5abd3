/*
 * dump_pack: a dump that is compressed while it is written.
 *
 *      | headers, not compressed | a piece of 4 MiB | a piece | … |      each a frame of its own
 *
 * The formats are those of gzip and zstd, which take frames one behind another for one file: so
 * `zstd -d` and `gunzip` make the dump of it that would have been written without.  A thread that
 * writes a dump cannot wait for an event loop; a piece at a time is what the host packs at once.
 *
 * The headers are known last and come first.  So their frame has a fixed length: it holds them as
 * they are, which both formats can.  While it is zeros the file is none of either: a dump that
 * was not finished.
 */
import { EOPNOTSUPP } from '../machine/errno.ts';
import { host_zip } from '../machine/host.ts';
import { DUMP_LOAD } from './dump_elf.ts';

export interface Packing {
  /** What the file's name ends in. */
  readonly suffix: '.zst' | '.gz';
  /** Bytes of the frame with the headers. */
  readonly head_bytes: number;
  /** The frame with the headers. */
  head(page: Uint8Array): Uint8Array;
  pack(bytes: Uint8Array): Uint8Array;
}

/* A frame of one block, in zstd's format: magic number, sizes, the block's header, bytes. */
const ZSTD_MAGIC = 0xfd2fb528;
/** One segment, its size in two bytes, of which 256 are taken off. */
const ZSTD_SIZE16 = 0x60;
const ZSTD_SIZE16_BASE = 256;
/** The last block, as it is; its length stands above these bits. */
const ZSTD_LAST_RAW = 1;
const ZSTD_HEAD = 10;
/** The parameter that has a checksum put behind each frame. */
const ZSTD_CHECKSUM = 201;
function zstd_raw(page: Uint8Array): Uint8Array {
  const frame = new Uint8Array(ZSTD_HEAD + page.length);
  const v = new DataView(frame.buffer);
  v.setUint32(0, ZSTD_MAGIC, true);
  v.setUint8(4, ZSTD_SIZE16);
  v.setUint16(5, page.length - ZSTD_SIZE16_BASE, true);
  const block = page.length * 8 + ZSTD_LAST_RAW;
  v.setUint16(7, block & 0xffff, true);
  v.setUint8(9, block >> 16);
  frame.set(page, ZSTD_HEAD);
  return frame;
}

/** How dumps are packed on this host: by zstd where it can and may. An errno: not at all. */
export function packing_here(gzip: boolean): Packing | number {
  const zip = host_zip;
  if (zip === null) return EOPNOTSUPP;
  const { zstdCompressSync: zstd } = zip;
  if (zstd !== undefined && !gzip) {
    const head_bytes = ZSTD_HEAD + DUMP_LOAD;
    const sums = { params: { [zip.constants.ZSTD_c_checksumFlag ?? ZSTD_CHECKSUM]: 1 } };
    return { suffix: '.zst', head_bytes, head: zstd_raw, pack: (bytes) => zstd(bytes, sums) };
  }
  const stored = (page: Uint8Array): Uint8Array => zip.gzipSync(page, { level: 0 });
  return {
    suffix: '.gz',
    head_bytes: stored(new Uint8Array(DUMP_LOAD)).length,
    head: stored,
    pack: (bytes) => zip.gzipSync(bytes, { level: 6 }),
  };
}
