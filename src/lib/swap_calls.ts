/*
 * swap_calls: the calls of Machine about swap areas.
 */
import type { SwapInfo } from '../sys/observe/swap_info.ts';
import type { Context } from './context.ts';
import { part } from './parts.ts';
import type { Size } from './space_args.ts';

/** How a file becomes a swap area. */
export interface SwapOptions {
  /**
   * Bytes, or a size such as '4G'.  The file is made so long, or made at all.  Default: as long as
   * the file is, which must be there.
   */
  readonly size?: Size;
  /** The area with the lowest number is used first; of equal ones each in turn. Default 0. */
  readonly priority?: number;
}
/** What Machine has of these. */
export abstract class SwapCalls {
  /** @internal */
  abstract get context(): Context;

  /**
   * Makes a file a swap area: pages go there whose memory is needed for something else.  A file
   * that is made is written to its end, so that there is room for every page, and only this user
   * can read it; it has pages of the program's memory in it, and stays when the area goes.  One
   * that is there must be a swap file that no machine uses.  Throws ENOENT without `size`
   * if it is not there; EBUSY if it is an area already; EINVAL if it is no swap file, EISDIR,
   * EACCES, ENXIO if it is too small, EFBIG, ENOSPC if the disk is full (nothing is left there),
   * EMFILE if there are 16 areas, ENOMEM, EIO, EOPNOTSUPP where there are no files, ESHUTDOWN.
   */
  swapon(path: string, options?: SwapOptions): SwapInfo {
    return part('swapon')(this.context, path, options);
  }
  /**
   * Takes a swap area out of use: its pages come into memory first, which takes time; other threads
   * go on meanwhile.  The file stays.  Throws EINVAL if it is no swap area, ENOMEM if its pages
   * would find no room, EBUSY if another thread takes one out of use, EIO if a page cannot be
   * read: then it is in use as before.  Throws ESHUTDOWN.
   */
  swapoff(path: string): void {
    part('swapoff')(this.context, path);
  }
  /** The swap areas, and how full they are. A sample. Throws ESHUTDOWN. */
  swaps(): SwapInfo[] {
    return part('swaps')(this.context);
  }
}
