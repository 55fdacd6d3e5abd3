/*
 * snap_reader: reads the file of a saved space from its beginning to its end.
 *
 *      header()  ──>  regions(h)  ──>  contents(h, tables): run after run
 *
 * Each step checks what it gives out, and throws what is wrong with it: SnapForeign, SnapDamage
 * (snap_file.ts).  Sixteen pages are held at a time.  How the bytes are read is the caller's: a
 * machine that loads them is away meanwhile, a tool has no machine.
 */
import { PAGE_SIZE } from '../machine/memory.ts';
import {
  SNAP_RUN_PAGES,
  SnapDamage,
  type SnapHeader,
  SnapTables,
  snap_contents_check,
  snap_header_get,
  snap_region_tables,
} from './snap_file.ts';

/** Reads from byte `at` of the file; how many bytes, fewer at its end. */
export type SnapSource = (at: number, into: Uint8Array) => number;

/** A run of pages with contents. */
export interface SnapContents {
  /** Which region it is of, and its first page there. */
  readonly region: number;
  readonly page: number;
  readonly pages: number;
  readonly bytes: Uint8Array;
}
export class SnapReader {
  readonly #size: number;
  readonly #read: SnapSource;
  readonly #page = new Uint8Array(PAGE_SIZE);
  readonly #bytes = new Uint8Array(SNAP_RUN_PAGES * PAGE_SIZE);
  #at = 0;
  /** Of a file of `size` bytes. */
  constructor(size: number, read: SnapSource) {
    this.#size = size;
    this.#read = read;
  }
  /** The next bytes, as many as that has or as are left. */
  #some(into: Uint8Array): Uint8Array {
    const n = this.#read(this.#at, into);
    this.#at += n;
    return into.subarray(0, n);
  }
  #all(into: Uint8Array): Uint8Array {
    const bytes = this.#some(into);
    if (bytes.length === into.length) return bytes;
    throw new SnapDamage(`it was cut off meanwhile, after ${this.#at} bytes`);
  }
  header(): SnapHeader {
    return snap_header_get(this.#some(this.#page), this.#size);
  }
  regions(h: SnapHeader): SnapTables {
    const tables = new SnapTables(h);
    for (let i = snap_region_tables(h.regions); i > 0; i--) {
      tables.addRegions(this.#all(this.#page));
    }
    return tables;
  }
  /** Every run of pages with contents; its bytes are good until the next one is asked for. */
  *contents(h: SnapHeader, tables: SnapTables): Generator<SnapContents, void, undefined> {
    for (let i = 0; i < h.groups; i++) {
      for (const run of tables.index(this.#all(this.#page))) {
        const bytes = this.#all(this.#bytes.subarray(0, run.pages * PAGE_SIZE));
        snap_contents_check(run, bytes);
        const { region, pages } = run;
        yield { region, pages, page: run.vpn - tables.regions[region].vpn, bytes };
      }
    }
    tables.end();
  }
}
