/*
 * packet_writer: packets go into a file, as a classic pcap.
 *
 * Little endian; nanoseconds where the first interface counts finer than
 * microseconds.  A pcap has one link type; a capture with packets of several
 * cannot be written.  A packet without a time gets 0.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import { mem } from '../../sys/machine/memory.ts';
import { TAG_DIGITS, TAG_LINK, TAG_NSEC, TAG_SEC, TAG_SNAPLEN, TAG_WIRE } from './packet_task.ts';
import { NO_TIME } from '../read/pcap_stream.ts';
import { SourceError } from '../read/source.ts';

const FILE_HEADER = 24;
const RECORD_HEADER = 16;
const BUFFER_BYTES = 1 << 20;
const ETHERNET = 1;
const SNAPLEN = 262144;

export class PacketWriter {
  readonly #file: string;
  readonly #bytes = new Uint8Array(BUFFER_BYTES);
  readonly #view = new DataView(this.#bytes.buffer);
  #fd: number;
  #at = 0;
  /** Link type of the file; -1: nothing is written yet. */
  #link = -1;
  #units = 1000;

  constructor(file: string) {
    this.#file = file;
    this.#fd = this.#try(() => openSync(file, 'w'));
  }

  /** A packet whose note lies at this word, and its bytes, those from `at` on. */
  packet(note: number, bytes: Uint8Array, at: number, n: number): void {
    const words = mem.I32;
    const link = words[note + TAG_LINK];
    if (this.#link < 0) {
      this.#header(link, words[note + TAG_SNAPLEN], words[note + TAG_DIGITS]);
    } else if (link !== this.#link) {
      const reason = `the capture has packets of link types ${this.#link} and ${link}`;
      throw new SourceError(this.#file, null, reason, 'a pcap holds one: replay without --write');
    }
    if (this.#at + RECORD_HEADER + n > BUFFER_BYTES) this.#flush();
    const fits = RECORD_HEADER + n <= BUFFER_BYTES;
    const v = this.#view;
    const nsec = words[note + TAG_NSEC];
    v.setInt32(this.#at, words[note + TAG_SEC], true);
    v.setUint32(this.#at + 4, nsec === NO_TIME ? 0 : Math.floor(nsec / this.#units), true);
    v.setUint32(this.#at + 8, n, true);
    v.setInt32(this.#at + 12, words[note + TAG_WIRE], true);
    this.#at += RECORD_HEADER;
    if (fits) {
      this.#bytes.set(bytes.subarray(at, at + n), this.#at);
      this.#at += n;
    } else {
      this.#flush();
      this.#write(bytes, at, at + n);
    }
  }
  #header(link: number, snaplen: number, digits: number): void {
    this.#link = link;
    this.#units = digits > 6 ? 1 : 1000;
    const v = this.#view;
    v.setUint32(0, digits > 6 ? 0xa1b23c4d : 0xa1b2c3d4, true);
    v.setUint16(4, 2, true);
    v.setUint16(6, 4, true);
    v.setUint32(16, snaplen, true);
    v.setUint32(20, link, true);
    this.#at = FILE_HEADER;
  }
  /** Nothing more comes. */
  end(): void {
    if (this.#link < 0) this.#header(ETHERNET, SNAPLEN, 6);
    this.#flush();
    closeSync(this.#fd);
  }

  #flush(): void {
    this.#write(this.#bytes, 0, this.#at);
    this.#at = 0;
  }
  #write(bytes: Uint8Array, begin: number, end: number): void {
    for (let from = begin; from < end; ) {
      from += this.#try(() => writeSync(this.#fd, bytes, from, end - from));
    }
  }
  #try(what: () => number): number {
    try {
      return what();
    } catch (e) {
      const { code } = e as NodeJS.ErrnoException;
      throw new SourceError(this.#file, null, `cannot be written (${code})`, 'name another');
    }
  }
}
