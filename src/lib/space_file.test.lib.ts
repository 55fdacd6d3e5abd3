/*
 * space_file.test.lib: what the tests of saved spaces share: a folder of their own, a space with
 * something of everything in it, spaces compared byte for byte, files that were changed, and
 * files that were made to deceive.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from '../sys/machine/crc32.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import {
  SNAP_REGIONS,
  type SnapHeader,
  type SnapRegion,
  snap_header_put,
  snap_index_put,
  snap_regions_put,
  snap_run_put,
  snap_sum,
} from '../sys/client/snap_file.ts';
import { boot, KmemError, type Space } from './index.ts';

/** A folder for the files of one test file. */
export const folder = mkdtempSync(join(tmpdir(), 'kmem-space-'));
export function folderEnd(): void {
  rmSync(folder, { recursive: true, force: true });
}
let files = 0;
/** The path of a file that is not there. */
export const fresh = (): string => join(folder, `saved${++files}`);

/** A byte that no other page has at that place. */
export const byteAt = (page: number, at: number): number => (page * 31 + at * 7 + (at >> 8)) & 255;
function page_of(page: number): Uint8Array {
  return Uint8Array.from({ length: PAGE_SIZE }, (_, at) => byteAt(page, at));
}
const HIGH = 0x7f00_1234_5000;
/** Regions with all rights, names and places; their pages that are written to. */
const PARTS = [
  [{ name: 'index', length: 10 * PAGE_SIZE }, [0, 1, 2, 5, 9]],
  [{ name: 'all of it', length: 40 * PAGE_SIZE, inherit: 'zero' }, [...Array(40).keys()]],
  [{ name: 'ä', length: 3 * PAGE_SIZE, address: HIGH }, [2]],
  [{ length: 2 * PAGE_SIZE, address: HIGH + 3 * PAGE_SIZE, inherit: 'share' }, [0]],
  [{ name: 'x'.repeat(31), length: 300 * 2 ** 30 }, [0, 1_000_000, 300 * 2 ** 18 - 1]],
  [{ name: 'unused', length: 5 * PAGE_SIZE }, []],
  [{ name: 'hidden', length: 4 * PAGE_SIZE }, [3]],
  [{ name: 'read', length: PAGE_SIZE }, [0]],
] as const;
/** Pages with contents that a file of it has: a fork gets zeros of 'zero', none of 'none'. */
export const CONTENTS = 5 + 1 + 1 + 3 + 1 + 1;
/** Something of everything. */
export function filled(space: Space): void {
  for (const [options, pages] of PARTS) {
    const m = space.mmap(options);
    for (const page of pages) m.write(page * PAGE_SIZE, page_of(page));
  }
  space.region('hidden').protect('none');
  space.region('read').protect('r');
  space.region('index').advise('sequential');
  space.region('unused').advise('random');
  space.mmap({ name: 'not forked', length: PAGE_SIZE, inherit: 'none' }).setU8(0, 1);
}
/** Throws unless a space has what a file of `filled` has. */
export function checkFilled(space: Space): void {
  for (const [options, pages] of PARTS) {
    const m = space.region('name' in options ? options.name : options.address);
    const zero = 'inherit' in options && options.inherit === 'zero';
    const rights = options === PARTS[6][0] ? 'none' : options === PARTS[7][0] ? 'r' : 'rw';
    const { protect, inherit } = space.regions().find((r) => r.address === m.address) ?? {};
    const inherited = 'inherit' in options ? options.inherit : 'copy';
    assert.deepEqual([m.length, protect, inherit], [options.length, rights, inherited]);
    m.protect('rw');
    for (const page of pages) {
      const want = zero ? new Uint8Array(PAGE_SIZE) : page_of(page);
      assert.deepEqual(m.read(page * PAGE_SIZE, new Uint8Array(PAGE_SIZE)), want, m.name);
    }
    const none = Math.min(4, m.length / PAGE_SIZE - 1);
    if (!(pages as readonly number[]).includes(none)) assert.equal(m.getF64(none * PAGE_SIZE), 0);
    m.protect(rights);
  }
  assert.equal(space.regions().length, PARTS.length);
}

// --- files that are not as they were written -----------------------------------------------------

/**
 * Loads a file that is not as it was written into an empty space: it must be refused, by one of
 * two codes, and nothing be mapped.  Returns the message.
 */
export function refused(space: Space, bytes: Uint8Array, what: string): string {
  const path = join(folder, 'damaged');
  writeFileSync(path, bytes);
  return refusedAt(space, path, what);
}
/** The same of a file that is there. */
export function refusedAt(space: Space, path: string, what: string): string {
  let error: unknown = null;
  try {
    space.load(path);
  } catch (e) {
    error = e;
  }
  assert.ok(error instanceof KmemError, `${what}: it was loaded, or ${error}`);
  assert.ok(error.code === 'EIO' || error.code === 'EINVAL', `${what}: ${error.message}`);
  assert.ok(error.message.includes(path), error.message);
  assert.deepEqual([space.regions(), space.mapped], [[], 0], what);
  return error.message;
}
/** A file of seven pages: a header, two regions, an index, and three runs of four pages. */
export function small_file(path: string): void {
  const machine = boot({ memory: '2M' });
  const space = machine.space('small');
  space.mmap({ name: 'a', length: 4 * PAGE_SIZE }).write(PAGE_SIZE, page_of(1));
  const m = space.mmap({ name: 'b', length: 9 * PAGE_SIZE });
  for (const page of [0, 4, 5]) m.write(page * PAGE_SIZE, page_of(page));
  assert.equal(space.save(path).size, 7 * PAGE_SIZE);
  space.destroy();
  machine.shutdown();
}
/** The bytes of a file, changed at one place. */
export function changed(path: string, at: number, to: (byte: number) => number): Uint8Array {
  const bytes = Uint8Array.from(readFileSync(path));
  bytes[at] = to(bytes[at]);
  return bytes;
}

/** What a forged file says. */
export interface Forged {
  readonly regions?: readonly Partial<SnapRegion>[];
  readonly runs?: readonly { readonly vpn: number; readonly pages: number }[];
  readonly header?: Partial<SnapHeader>;
  /** How many rows each table says that it has, and pages follow. */
  readonly rows?: number;
  readonly follow?: number;
}
const REGION: SnapRegion = {
  name: new Uint8Array(),
  vpn: 1,
  pages: 4,
  prot: 3,
  inheritance: 1,
  advice: 0,
};
/** A file of which every checksum is right, and what it says need not be. */
export function forged({ regions = [{}], runs = [], header, rows, follow }: Forged): Uint8Array {
  const stamp = 77;
  const all = regions.map((r) => ({ ...REGION, ...r }));
  const pages: Uint8Array[] = [];
  let [number, sum, contents] = [0, 0, 0];
  for (let i = 0; i < all.length; i += SNAP_REGIONS) {
    const page = new Uint8Array(PAGE_SIZE);
    const one = snap_regions_put(page, all.slice(i, i + SNAP_REGIONS), stamp, number++);
    sum = snap_sum(sum, one);
    pages.push(page);
  }
  if (runs.length > 0) {
    const index = new Uint8Array(PAGE_SIZE);
    const body: Uint8Array[] = [];
    for (const [i, run] of runs.entries()) {
      const bytes = new Uint8Array(Math.min(run.pages, 100) * PAGE_SIZE).fill(i + 1);
      snap_run_put(index, i, { ...run, sum: crc32(bytes) });
      contents += Math.min(run.pages, 100);
      body.push(bytes);
    }
    const place = { stamp, number, pages: follow ?? contents };
    sum = snap_sum(sum, snap_index_put(index, rows ?? runs.length, place));
    pages.push(index, ...body);
  }
  const head = {
    stamp,
    machine: 0,
    generation: 0,
    time: 1e12,
    regions: all.length,
    groups: runs.length > 0 ? 1 : 0,
    pages: contents,
    mapped: all.reduce((n, r) => n + r.pages, 0),
    sum,
    name: new TextEncoder().encode('forged'),
    ...header,
  };
  return Buffer.concat([snap_header_put(head), ...pages]);
}
