/*
 * dump: the arguments of machine.dump().
 *
 * They are read before the kernel is entered, because reading options may run code of the program.
 */
import { EINVAL } from '../sys/machine/errno.ts';
import { type DumpResult, kern_dump, name_packed } from '../sys/observe/kern_dump.ts';
import { booleanOf, checkOptions, type Known, shown } from './args.ts';
import { kmemError } from './errors.ts';

export interface DumpOptions {
  /**
   * Compresses it: the file's name ends in `.zst` then, or in `.gz` where the host has no zstd.
   * Unless given: if the path ends in one of these.
   */
  readonly compress?: boolean;
}
const OPTIONS: Known = ['compress'];

/** Reads the arguments, and gives what writes the dump. Throws EINVAL. */
export function dump(path: string, options: DumpOptions = {}): () => DumpResult {
  if (typeof path !== 'string' || path === '' || path.includes('\0')) {
    throw kmemError(EINVAL, 'dump', `path: ${shown(path)}: give that of a file to be made`);
  }
  checkOptions('dump', options, OPTIONS);
  const compress = booleanOf('dump', 'compress', options.compress ?? name_packed(path));
  return () => kern_dump(path, compress);
}
