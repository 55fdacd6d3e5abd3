/*
 * snap_file: an address space in a file, as it lies there.
 *
 *      page 0        header        what it is, how much there is, checksums
 *      page 1 ..     regions       63 rows in a page: address, pages, rights, name
 *      then groups   index         252 rows in a page: pages that have contents, in runs
 *                    contents      these pages, in the order of the rows
 *                    index
 *                    contents  ...
 *
 * All is in pages of 4096 bytes.  Numbers are unsigned and little-endian; one of 64 bits is below
 * 2^53.  What a program stored is as it stored it: the header says in which order its machine keeps
 * the bytes of a number.  Pages that were never used, or are zero because nobody wrote to them,
 * are in no row and take no room.
 *
 *      header    0 'kmemsnap'  8 version  12 page size  16 byte order  20 stamp
 *               24 machine, generation  32 time, ms  40 regions  44 groups
 *               48 pages of contents  56 length of the file  64 pages of all regions
 *               72 checksum of the checksums of all tables  76 bytes of the name, 80 the name
 *             4092 checksum of the bytes before
 *      table     0 'REGS' or 'INDX'  4 stamp  8 number  12 rows  16 pages of contents that follow
 *               60 checksum of all other bytes of the page   64 rows
 *      region    0 address  8 pages  16 rights  20 what forks make of it  24 advice
 *      (64)     28 bytes of the name, 32 the name
 *      run       0 page number: address / 4096  8 pages  12 checksum of their contents
 *      (16)
 *
 * The stamp is in every table, so that a table of another file is found out; tables are numbered
 * one after another.  Rows are in the order of addresses, and do not overlap; a run is of 15 pages
 * at most, and lies in one region.  The writer makes the header last: until then nothing
 * says that the file is one.
 *
 * A reader believes nothing before it has been checked: the checksum, and then whether it makes
 * sense, because somebody may have made a file with good checksums.
 *
 * Checksums are crc32's (machine/crc32.ts).
 */
import { crc32 } from '../machine/crc32.ts';
import { has_control } from '../machine/errno.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { VM_INHERIT_ZERO } from '../h/vm_map.ts';
import { VM_PROT_ALL } from '../h/vm_prot.ts';

export const SNAP_VERSION = 1;
/** Pages of a run: with an index page that is sixteen, all that a writer or reader holds. */
export const SNAP_RUN_PAGES = 15;
const MAGIC = new TextEncoder().encode('kmemsnap');
const REGIONS = 0x53474552; // 'REGS'
const INDEX = 0x58444e49; // 'INDX'
const TABLE_HEAD = 64;
const REGION_BYTES = 64;
const RUN_BYTES = 16;
export const SNAP_REGIONS = (PAGE_SIZE - TABLE_HEAD) / REGION_BYTES;
export const SNAP_RUNS = (PAGE_SIZE - TABLE_HEAD) / RUN_BYTES;
const NAME_BYTES = 31;
const HEADER_SUM = PAGE_SIZE - 4;
const TABLE_SUM = 60;
/** Addresses have 48 bits: the first page that has none. */
const VPN_MAX = 2 ** 36;
const SHIFT = 2 ** 32;

/** How a region will be used. */
export const SNAP_NORMAL = 0;
export const SNAP_RANDOM = 1;
export const SNAP_SEQUENTIAL = 2;

export interface SnapRegion {
  /** UTF-8; of no bytes: none. */
  readonly name: Uint8Array;
  /** Page number of its addresses. */
  readonly vpn: number;
  readonly pages: number;
  /** VM_PROT_*, VM_INHERIT_* and SNAP_*. */
  readonly prot: number;
  readonly inheritance: number;
  readonly advice: number;
}
/** Pages side by side that have contents. */
export interface SnapRun {
  readonly vpn: number;
  readonly pages: number;
  readonly sum: number;
}
export interface SnapHeader {
  readonly stamp: number;
  readonly machine: number;
  readonly generation: number;
  /** ms since 1970. */
  readonly time: number;
  readonly regions: number;
  readonly groups: number;
  /** Pages of contents; of all regions. */
  readonly pages: number;
  readonly mapped: number;
  /** Checksum of the checksums of all tables. */
  readonly sum: number;
  /** Of the space, UTF-8. */
  readonly name: Uint8Array;
}
/** Pages of the tables of so many regions. */
export function snap_region_tables(regions: number): number {
  return Math.ceil(regions / SNAP_REGIONS);
}
/** Bytes of a file. */
export function snap_length({ regions, groups, pages }: SnapHeader): number {
  return (1 + snap_region_tables(regions) + groups + pages) * PAGE_SIZE;
}

const view_of = (page: Uint8Array): DataView =>
  new DataView(page.buffer, page.byteOffset, page.byteLength);
function put64(v: DataView, at: number, n: number): void {
  v.setUint32(at, n % SHIFT, true);
  v.setUint32(at + 4, Math.floor(n / SHIFT), true);
}
/** NaN: 2^53 or more. */
function get64(v: DataView, at: number): number {
  const n = v.getUint32(at + 4, true) * SHIFT + v.getUint32(at, true);
  return Number.isSafeInteger(n) ? n : Number.NaN;
}
function put_name(page: Uint8Array, v: DataView, at: number, name: Uint8Array): void {
  v.setUint32(at, name.length, true);
  page.set(name, at + 4);
}
function get_name(page: Uint8Array, v: DataView, at: number): Uint8Array | null {
  const n = v.getUint32(at, true);
  return n > NAME_BYTES ? null : page.slice(at + 4, at + 4 + n);
}
/** The order in which this machine keeps the bytes of a number, as these bytes. */
const order = (): Uint8Array => new Uint8Array(Uint32Array.of(0x01020304).buffer);

// --- written -----------------------------------------------------------------------------------

export function snap_header_put(h: SnapHeader): Uint8Array {
  const page = new Uint8Array(PAGE_SIZE);
  const v = view_of(page);
  page.set(MAGIC);
  v.setUint32(8, SNAP_VERSION, true);
  v.setUint32(12, PAGE_SIZE, true);
  page.set(order(), 16);
  v.setUint32(20, h.stamp, true);
  v.setUint32(24, h.machine, true);
  v.setUint32(28, h.generation, true);
  put64(v, 32, h.time);
  v.setUint32(40, h.regions, true);
  v.setUint32(44, h.groups, true);
  put64(v, 48, h.pages);
  put64(v, 56, snap_length(h));
  put64(v, 64, h.mapped);
  v.setUint32(72, h.sum, true);
  put_name(page, v, 76, h.name);
  v.setUint32(HEADER_SUM, crc32(page.subarray(0, HEADER_SUM)), true);
  return page;
}
/** Where a table stands among all of a file, and what follows it. */
interface TablePlace {
  readonly stamp: number;
  readonly number: number;
  readonly pages: number;
}
function head_put(page: Uint8Array, kind: number, rows: number, at: TablePlace): number {
  const v = view_of(page);
  v.setUint32(0, kind, true);
  v.setUint32(4, at.stamp, true);
  v.setUint32(8, at.number, true);
  v.setUint32(12, rows, true);
  v.setUint32(16, at.pages, true);
  const sum = table_sum(page);
  v.setUint32(TABLE_SUM, sum, true);
  return sum;
}
function table_sum(page: Uint8Array): number {
  return crc32(page.subarray(TABLE_HEAD), crc32(page.subarray(0, TABLE_SUM)));
}
/** Writes a table of at most SNAP_REGIONS regions to `page`; returns its checksum. */
export function snap_regions_put(
  page: Uint8Array,
  rows: readonly SnapRegion[],
  stamp: number,
  number: number,
): number {
  page.fill(0);
  const v = view_of(page);
  let at = TABLE_HEAD;
  for (const r of rows) {
    put64(v, at, r.vpn * PAGE_SIZE);
    put64(v, at + 8, r.pages);
    v.setUint32(at + 16, r.prot, true);
    v.setUint32(at + 20, r.inheritance, true);
    v.setUint32(at + 24, r.advice, true);
    put_name(page, v, at + 28, r.name);
    at += REGION_BYTES;
  }
  return head_put(page, REGIONS, rows.length, { stamp, number, pages: 0 });
}
/** Writes row `i` of an index to `page`, which is all zero at first. */
export function snap_run_put(page: Uint8Array, i: number, r: SnapRun): void {
  const v = view_of(page);
  const at = TABLE_HEAD + i * RUN_BYTES;
  put64(v, at, r.vpn);
  v.setUint32(at + 8, r.pages, true);
  v.setUint32(at + 12, r.sum, true);
}
/** Finishes an index of so many rows; returns its checksum. */
export function snap_index_put(page: Uint8Array, rows: number, at: TablePlace): number {
  return head_put(page, INDEX, rows, at);
}
/** The checksum of tables so far, and of one more. */
export function snap_sum(before: number, sum: number): number {
  const bytes = new Uint8Array(4);
  view_of(bytes).setUint32(0, sum, true);
  return crc32(bytes, before);
}

// --- read ----------------------------------------------------------------------------------------

/** Why a file cannot be used: it is none of these, or of a kind that is not known here. */
export class SnapForeign extends Error {}
/** It is one, and not as it was written. */
export class SnapDamage extends Error {}
function damaged(what: string): never {
  throw new SnapDamage(what);
}

/** The header of a file of `size` bytes; `page`: what is there of its first page. */
export function snap_header_get(page: Uint8Array, size: number): SnapHeader {
  const v = view_of(page);
  if (page.length < 16 || MAGIC.some((b, i) => page[i] !== b)) {
    const some = MAGIC.slice(0, page.length).every((b, i) => page[i] === b);
    if (some && page.length > 0) damaged(`it is cut off: ${size} bytes are there`);
    throw new SnapForeign('it is no saved space');
  }
  const version = v.getUint32(8, true);
  if (version !== SNAP_VERSION && version !== 0) {
    throw new SnapForeign(`it is of version ${version}, and version ${SNAP_VERSION} is known here`);
  }
  if (page.length < PAGE_SIZE) damaged(`it is cut off: ${size} bytes are there`);
  if (v.getUint32(HEADER_SUM, true) !== crc32(page.subarray(0, HEADER_SUM))) damaged('its header');
  if (v.getUint32(12, true) !== PAGE_SIZE) {
    throw new SnapForeign(`its pages have ${v.getUint32(12, true)} bytes, and here ${PAGE_SIZE}`);
  }
  if (order().some((b, i) => page[16 + i] !== b)) {
    throw new SnapForeign('its machine keeps the bytes of a number in another order');
  }
  const h = {
    stamp: v.getUint32(20, true),
    machine: v.getUint32(24, true),
    generation: v.getUint32(28, true),
    time: get64(v, 32),
    regions: v.getUint32(40, true),
    groups: v.getUint32(44, true),
    pages: get64(v, 48),
    mapped: get64(v, 64),
    sum: v.getUint32(72, true),
    name: get_name(page, v, 76) ?? page,
  };
  if (!good_name(h.name)) damaged('the name in its header');
  const length = get64(v, 56);
  if (length !== snap_length(h) || h.pages > h.mapped || Number.isNaN(h.time)) {
    damaged('the numbers in its header');
  }
  if (size < length) damaged(`it is cut off: ${size} of ${length} bytes are there`);
  if (size > length) damaged(`it is longer than it was: ${size} bytes, and not ${length}`);
  return h;
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
/** Whether bytes are the name of a region, or no name. */
function good_name(name: Uint8Array): boolean {
  try {
    return !has_control(decoder.decode(name));
  } catch {
    return false;
  }
}
const known_advice = (n: number): boolean => n <= SNAP_SEQUENTIAL;

/**
 * Checks the tables of a file, which are given to it one after another.  Throws SnapDamage for
 * whatever is not as it was written, or makes no sense.
 */
export class SnapTables {
  readonly regions: SnapRegion[] = [];
  readonly #header: SnapHeader;
  readonly #names = new Set<string>();
  #number = 0;
  #sum = 0;
  #groups = 0;
  #pages = 0;
  #mapped = 0;
  /** The first page number behind what was read; the region that it is in. */
  #at = 0;
  #region = 0;
  constructor(header: SnapHeader) {
    this.#header = header;
  }
  /** Rows of a table of that kind, of which there may be `most`. */
  #head(page: Uint8Array, kind: number, most: number): { v: DataView; rows: number } {
    const v = view_of(page);
    const number = this.#number++;
    const what = `table ${number}`;
    const sum = v.getUint32(TABLE_SUM, true);
    if (sum !== table_sum(page)) damaged(what);
    this.#sum = snap_sum(this.#sum, sum);
    const mine = v.getUint32(4, true) === this.#header.stamp && v.getUint32(8, true) === number;
    if (!mine || v.getUint32(0, true) !== kind) damaged(`${what}: another one is in its place`);
    const rows = v.getUint32(12, true);
    if (rows === 0 || rows > most) damaged(`${what} says that it has ${rows} rows`);
    return { v, rows };
  }
  /** A table of regions. */
  addRegions(page: Uint8Array): void {
    const left = this.#header.regions - this.regions.length;
    const { v, rows } = this.#head(page, REGIONS, Math.min(left, SNAP_REGIONS));
    if (rows < left && rows < SNAP_REGIONS) damaged(`table ${this.#number - 1} is not full`);
    for (let i = 0; i < rows; i++) this.#addRegion(page, v, TABLE_HEAD + i * REGION_BYTES);
    if (this.regions.length < this.#header.regions) return;
    this.#at = 0; // of the runs that follow
  }
  #addRegion(page: Uint8Array, v: DataView, at: number): void {
    const name = get_name(page, v, at + 28);
    const r = {
      name: name ?? page,
      vpn: get64(v, at) / PAGE_SIZE,
      pages: get64(v, at + 8),
      prot: v.getUint32(at + 16, true),
      inheritance: v.getUint32(at + 20, true),
      advice: v.getUint32(at + 24, true),
    };
    const what = `region ${this.regions.length}`;
    if (name === null || !good_name(name)) damaged(`the name of ${what}`);
    const text = decoder.decode(name);
    if (text !== '' && this.#names.has(text)) damaged(`two regions '${text}'`);
    this.#names.add(text);
    if (!Number.isInteger(r.vpn) || !(r.pages > 0) || !(r.vpn + r.pages <= VPN_MAX)) {
      damaged(`the place of ${what}`);
    }
    if (r.vpn < this.#at) damaged(`${what} overlaps the one before it`);
    if ((r.prot & ~VM_PROT_ALL) !== 0 || r.inheritance > VM_INHERIT_ZERO) damaged(what);
    if (!known_advice(r.advice)) damaged(what);
    this.#at = r.vpn + r.pages;
    this.#mapped += r.pages;
    this.regions.push(r);
  }
  /** An index: its runs, each in the region of that number. */
  index(page: Uint8Array): (SnapRun & { readonly region: number })[] {
    const { v, rows } = this.#head(page, INDEX, SNAP_RUNS);
    const last = ++this.#groups === this.#header.groups;
    if (!last && rows !== SNAP_RUNS) damaged(`table ${this.#number - 1} is not full`);
    let pages = 0;
    const runs = Array.from({ length: rows }, (_, i) => {
      const run = this.#run(v, TABLE_HEAD + i * RUN_BYTES);
      pages += run.pages;
      return run;
    });
    if (pages !== v.getUint32(16, true)) damaged(`the sum of table ${this.#number - 1}`);
    this.#pages += pages;
    return runs;
  }
  #run(v: DataView, at: number): SnapRun & { readonly region: number } {
    const vpn = get64(v, at);
    const pages = v.getUint32(at + 8, true);
    const end = vpn + pages;
    if (!(vpn >= this.#at) || pages === 0 || pages > SNAP_RUN_PAGES) damaged('a run of pages');
    const { regions } = this;
    while (this.#region < regions.length && ends(regions[this.#region]) <= vpn) this.#region++;
    const r = regions[this.#region];
    if (r === undefined || vpn < r.vpn || end > ends(r)) damaged('a run of pages is in no region');
    this.#at = end;
    return { vpn, pages, sum: v.getUint32(at + 12, true), region: this.#region };
  }
  /** All tables were given. */
  end(): void {
    const h = this.#header;
    const all = this.regions.length === h.regions && this.#groups === h.groups;
    if (!all || this.#mapped !== h.mapped || this.#pages !== h.pages) damaged('its sums');
    if (this.#sum !== h.sum) damaged('the sum of its tables');
  }
}
function ends({ vpn, pages }: SnapRegion): number {
  return vpn + pages;
}
/** Throws SnapDamage unless the contents of a run are what was written. */
export function snap_contents_check({ vpn, pages, sum }: SnapRun, bytes: Uint8Array): void {
  if (crc32(bytes) === sum) return;
  const address = vpn * PAGE_SIZE;
  damaged(`the contents of ${pages * PAGE_SIZE} bytes at address ${address}`);
}
