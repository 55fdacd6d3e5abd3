/*
 * snap_reader: reads the file of a saved space from its beginning to its end.
 *
 *      header()  ──>  regions(h)  ──>  contents(h, tables, run)
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
  type SnapRun,
  SnapTables,
  snap_contents_check,
  snap_header_get,
  snap_region_tables,
} from './snap_file.ts';

/** Reads from byte `at` of the file; how many bytes, fewer at its end. */
export type SnapSource = (at: number, into: Uint8Array) => number;

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
  /** Calls `each` for every run of pages with contents: its region, page of that, and bytes. */
  contents(
    h: SnapHeader,
    tables: SnapTables,
    each: (run: SnapRun, region: number, page: number, bytes: Uint8Array) => void,
  ): void {
    for (let i = 0; i < h.groups; i++) {
      for (const run of tables.index(this.#all(this.#page))) {
        const bytes = this.#all(this.#bytes.subarray(0, run.pages * PAGE_SIZE));
        snap_contents_check(run, bytes);
        each(run, run.region, run.vpn - tables.regions[run.region].vpn, bytes);
      }
    }
    tables.end();
  }
}
