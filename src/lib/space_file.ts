/*
 * space_file: files that address spaces are saved to: their paths, and what goes wrong with them.
 *
 * space_save.ts writes them, space_load.ts reads them; sys/client/snap_file.ts says what is where
 * in one.
 */
import {
  EACCES,
  EDQUOT,
  EEXIST,
  EFBIG,
  EINVAL,
  EIO,
  EISDIR,
  ELOOP,
  EMFILE,
  ENAMETOOLONG,
  ENFILE,
  ENOENT,
  ENOSPC,
  ENOTDIR,
  EOPNOTSUPP,
  EPERM,
  EROFS,
  errno_name,
} from '../sys/machine/errno.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import { store_files } from '../sys/machine/store.ts';
import { type SnapHeader, snap_length } from '../sys/client/snap_file.ts';
import { shown } from './args.ts';
import { kmemError } from './errors.ts';
import { hostBuiltin } from './host.ts';
import { textOf } from './memory.ts';
import type { Space } from './space.ts';

/** What a file has of an address space. */
export interface SavedSpace {
  /** Name of the space that was saved. */
  readonly name: string;
  /** When, ms since 1970. */
  readonly time: number;
  /** How many regions it has. */
  readonly regions: number;
  /** Bytes of all regions. */
  readonly mapped: number;
  /** Bytes of the pages that have contents. */
  readonly contents: number;
  /** Length of the file, bytes. */
  readonly size: number;
}
/** What a header says. */
export function savedSpace(h: SnapHeader): SavedSpace {
  return {
    name: textOf(Uint8Array.from(h.name)),
    time: h.time,
    regions: h.regions,
    mapped: h.mapped * PAGE_SIZE,
    contents: h.pages * PAGE_SIZE,
    size: snap_length(h),
  };
}

interface PathLike {
  resolve(path: string): string;
  dirname(path: string): string;
}
/**
 * A path from the root on, and its folder: the program may change its own meanwhile.  Throws EINVAL
 * for what is no path, EOPNOTSUPP where there are no files.
 */
export function filePath(op: string, path: unknown): { path: string; folder: string } {
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw kmemError(EINVAL, op, `path: ${shown(path)}: give that of a file`);
  }
  const paths = hostBuiltin<PathLike>('node:path');
  if (paths === null || !store_files()) fileError(op, path, EOPNOTSUPP);
  const whole = paths.resolve(path);
  // It says that a folder is meant, and resolve() leaves it out.
  if (/[/\\]$/.test(path) && whole !== path) fileError(op, path, EISDIR);
  return { path: whole, folder: paths.dirname(whole) };
}

/** How long saving or loading in the event loop keeps it from other things, ms. */
export const TURN_MS = 4;
/**
 * Lets the event loop do other things; while this thread is parked it waits until it is back.
 * @internal
 */
export async function fileTurn({ context }: Space): Promise<void> {
  do {
    await new Promise((resolve) => setTimeout(resolve));
    await context.parked;
  } while (context.parked !== null);
}

/** What the host's errno means here. */
const WHY: Readonly<Record<number, string>> = {
  [ENOENT]: 'there is no such file or folder',
  [ENOTDIR]: 'what should be its folder is none',
  [EISDIR]: 'it is a folder',
  [ELOOP]: 'it is a link, which is not followed',
  [EEXIST]: 'something is there that is no file',
  [EINVAL]: 'it is no file',
  [EACCES]: 'this user may not',
  [EPERM]: 'this user may not',
  [EROFS]: 'nothing can be written there',
  [ENAMETOOLONG]: 'its name is too long for that folder',
  [ENOSPC]: 'no room is left there',
  [EDQUOT]: 'this user has no more room there',
  [EFBIG]: 'a file may not be so long there',
  [EMFILE]: 'this program has too many files open',
  [ENFILE]: 'this host has too many files open',
  [EIO]: 'the host cannot read or write it',
  [EOPNOTSUPP]: 'this host has no files',
};
/** Throws an errno of the host, met while doing `what`. */
export function fileError(op: string, path: string, errno: number, what = ''): never {
  const why = WHY[errno] ?? `the host refuses it (${errno_name(errno)})`;
  throw kmemError(errno, op, `${path}: ${why}${what === '' ? '' : ` (${what})`}`);
}
