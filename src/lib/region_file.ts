/*
 * region_file: a region that shows a file, from opening it to what goes wrong with it.
 *
 *      const m = space.mmap({ file: 'log.bin', write: true });
 *      m.setU32(off, v);  m.sync();              stored, and in the file
 *      m.truncate(n);                            both are shorter, or longer
 *      m.revalidate();                           others wrote to the file
 *
 * All threads of a machine, and all paths to a file, see the same pages.  What is stored goes to
 * the file at sync(), when memory is short, when nobody maps it any more, and when the machine
 * ends, not at once.
 *
 * A file that ends in the middle of a page has zeros behind that; what is stored there goes
 * nowhere.  Pages that lie behind its end are mapped, but an access is EFAULT, reason
 * 'beyond-end-of-file', until it is longer.
 */
import {
  EACCES,
  EAGAIN,
  EBUSY,
  EEXIST,
  EINVAL,
  EISDIR,
  ELOOP,
  EMFILE,
  ENAMETOOLONG,
  ENFILE,
  ENOENT,
  ENOMEM,
  ENOTDIR,
  EOPNOTSUPP,
  EPERM,
  EROFS,
} from '../sys/machine/errno.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import type { vm_object_t } from '../sys/h/vm_object.ts';
import { VM_PROT_ALL, VM_PROT_WRITE } from '../sys/h/vm_prot.ts';
import {
  type SpaceFile,
  space_close,
  space_file,
  space_file_bytes,
  space_open,
  space_unwritten,
} from '../sys/client/kern_space.ts';
import { inKernel } from './context.ts';
import { kmemError } from './errors.ts';
import type { Region } from './region.ts';
import type { FileShape } from './space_args.ts';
import { memoryFailure } from './type.ts';

/** A file that is open, and not yet mapped. */
export interface OpenFile {
  readonly of: SpaceFile;
  readonly shape: FileShape;
  /** Bytes that are to be mapped. */
  readonly length: number;
  /** Bytes that the file is to have; 0: those that it has. */
  readonly grow: number;
}
/** Opens a file of which so many bytes are to be mapped, 0: all. Throws what mmap says. */
export function openFile(space: string, shape: FileShape, asked: number): OpenFile {
  const { path, shared, write, offset } = shape;
  const got = inKernel('mmap', () => space_open(path, shared && write));
  if (got < 0) noFile(space, path, -got);
  const object = got as vm_object_t;
  const bytes = inKernel('mmap', () => space_file_bytes(object));
  if (bytes < 0) {
    inKernel('mmap', () => space_close(object));
    noFile(space, path, -bytes);
  }
  const length = asked === 0 ? bytes - offset : asked;
  const long = offset + length > Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
  const why =
    length <= 0
      ? `has ${bytes} bytes: there is nothing from ${offset} on; give a length, and write: true`
      : long && !(shared && write)
        ? `has ${bytes} bytes: ${length} from ${offset} on are more, and it may not be made longer`
        : '';
  if (why !== '') {
    inKernel('mmap', () => space_close(object));
    throw kmemError(EINVAL, 'mmap', `file '${path}' ${why}`, { space, size: length });
  }
  const max = shared && !write ? VM_PROT_ALL & ~VM_PROT_WRITE : VM_PROT_ALL;
  const of = { object, offset: offset / PAGE_SIZE, shared, max };
  const end = offset + length;
  return { of, shape, length, grow: end > bytes && write && shared ? end : 0 };
}
const REASONS: ReadonlyMap<number, string> = new Map([
  [ENOENT, 'there is no such file'],
  [EACCES, 'there is no permission to open it so'],
  [EPERM, 'there is no permission to open it so'],
  [EROFS, 'it lies where nothing may be written'],
  [EISDIR, 'it is a folder'],
  [ENOTDIR, 'its path goes through what is no folder'],
  [ELOOP, 'its path has a ring of links'],
  [EINVAL, 'it is no file of bytes: a device or a pipe cannot be mapped'],
  [EMFILE, 'this process has too many files open'],
  [ENFILE, 'too many files are mapped'],
  [ENAMETOOLONG, 'its path is too long'],
  [EOPNOTSUPP, 'this host has no files'],
]);
function noFile(space: string, path: string, errno: number): never {
  if (errno === ENOMEM) throw memoryFailure('mmap', PAGE_SIZE, { space });
  const why = REASONS.get(errno) ?? 'it cannot be opened';
  throw kmemError(errno, 'mmap', `file '${path}': ${why}`, { space });
}
/** The region is there; `made`: it was not before. Throws EEXIST if it shows another file. */
export function fileMapped(region: Region, { of, shape, grow }: OpenFile, made: boolean): void {
  if (!made) {
    const mp = region.space.enter('mmap');
    const there = inKernel('mmap', () => space_file(mp, region.first));
    if (there?.o === of.object && there.first === of.offset) return;
    const why = `region '${region.name}' of space '${region.space.name}' shows no such file`;
    throw kmemError(EEXIST, 'mmap', `${why} as '${shape.path}' from ${shape.offset} on`);
  }
  if (grow === 0 || grow <= region.fileSize) return;
  try {
    region.truncate(grow);
  } catch (e) {
    region.unmap();
    throw e;
  }
}
const TROUBLE: ReadonlyMap<number, string> = new Map([
  [EAGAIN, 'a thread that uses it did not answer: is it in a long computation? machine.away()'],
  [EACCES, 'nobody mapped its file so that it may be written to'],
  [EBUSY, 'a window holds pages that would be behind the end'],
  [EINVAL, 'its file cannot have that length'],
  [EOPNOTSUPP, 'it shows no file'],
]);
/** What an errno of a call on the file of a region means. */
export function fileTrouble(op: string, errno: number): string {
  const known = TROUBLE.get(errno);
  if (known !== undefined) return known;
  return op === 'truncate' ? 'its file stays as it was' : 'what its file did not take is kept';
}
/** Throws if this thread has let go of a file as the last one, and it did not take its pages. */
export function notWritten(op: string, what: string): void {
  const { errno } = space_unwritten;
  space_unwritten.errno = 0;
  if (errno === 0) return;
  const kept = 'pages that a file did not take are kept until it is mapped again';
  throw kmemError(errno, op, `${what} is gone; ${kept}`);
}
