/*
 * swap: files for pages whose memory is needed for something else.
 *
 *      machine.swapon('/srv/app.swap', { size: '4G' });
 *      machine.swaps();                                    what there is, and how full it is
 *      machine.swapoff('/srv/app.swap');                   its pages come back first
 *
 * Without any, the machine makes one by itself when it needs it (vm.swap_default).
 */
import {
  EACCES,
  EBUSY,
  EFBIG,
  EINVAL,
  EIO,
  EISDIR,
  EMFILE,
  ENAMETOOLONG,
  ENFILE,
  ENOENT,
  ENOMEM,
  ENOSPC,
  ENOTDIR,
  ENXIO,
  EOPNOTSUPP,
  EROFS,
} from '../sys/machine/errno.ts';
import { host_path } from '../sys/machine/host.ts';
import { swap_off, swap_on } from '../sys/client/kern_swap.ts';
import { type SwapInfo, swap_infos } from '../sys/observe/swap_info.ts';
import { checkOptions, type Known, shown, whole } from './args.ts';
import { type Context, checkMayBlock, inKernel } from './context.ts';
import { kmemError } from './errors.ts';
import { type Size, sizeOf } from './space_args.ts';
import type { SwapOptions } from './swap_calls.ts';

const OPTIONS: Known = ['size', 'priority'];
const PRIORITY_MAX = 2 ** 31 - 1;

function pathOf(op: string, path: unknown): string {
  if (typeof path === 'string' && path !== '' && !path.includes('\0')) return path;
  throw kmemError(EINVAL, op, `path: ${shown(path)}: give that of a file`);
}
const WHY_ON: Readonly<Record<number, string>> = {
  [ENOENT]: 'there is no such file, or folder: give { size }, and the file is made',
  [ENOTDIR]: 'a part of the path is no folder',
  [EISDIR]: 'it is a folder: give the path of a file',
  [EINVAL]: 'it is there, and no swap file: remove it, or give another path',
  [EACCES]: 'there is no permission to read and write it, or to make it',
  [EROFS]: 'it cannot be written to there',
  [EBUSY]: 'it is a swap area already, of this machine or of another one that is up',
  [ENXIO]: 'it is too small: there must be room for more than two pages of 4096 bytes',
  [EFBIG]: 'it is too large for one area, or for where it lies',
  [ENOSPC]: 'the disk has no room for it: what was made of it is removed',
  [EMFILE]: 'there are 16 swap areas already, or this thread has too many files open',
  [ENFILE]: 'too many files are open',
  [ENAMETOOLONG]: 'the path is too long',
  [ENOMEM]: 'no memory for the maps of its slots',
  [EOPNOTSUPP]: 'there are no files here, or none that may be a swap file',
  [EIO]: 'it cannot be read, or written',
};
/** machine.swapon. */
export function swapon(ctx: Context, path: string, options?: SwapOptions): SwapInfo {
  const at = pathOf('swapon', path);
  checkOptions('swapon', options, OPTIONS);
  const { size, priority = 0 } = options ?? {};
  const bytes = size === undefined || size === 0 ? 0 : sizeOf('swapon', 'size', size as Size);
  if (size === 0) refused('swapon', at, ENXIO, WHY_ON);
  if (!whole(priority) || priority > PRIORITY_MAX) {
    throw kmemError(EINVAL, 'swapon', `priority ${shown(priority)} is no whole number from 0 on`);
  }
  ctx.enter('swapon');
  checkMayBlock('swapon', 'it in a worker');
  const i = inKernel('swapon', () => swap_on(at, { size: bytes, priority }));
  if (i < 0) refused('swapon', at, -i, WHY_ON);
  const full = host_path(at);
  const made = swap_infos().find((a) => a.path === full);
  return (
    made ?? { path: full, size: 0, used: 0, free: 0, bad: 0, priority, closing: true, made: false }
  );
}
/** machine.swaps. */
export function swaps(ctx: Context): SwapInfo[] {
  ctx.enter('swaps');
  return inKernel('swaps', swap_infos);
}
const WHY_OFF: Readonly<Record<number, string>> = {
  [EINVAL]: 'it is no swap area: swaps() lists them',
  [EBUSY]: 'another swapoff is at work, or pages of it stay in use by a thread',
  [ENOMEM]: 'its pages find no room in the memory and in other areas: free something, or add one',
  [EIO]: 'a page of it cannot be read: it stays',
};
/** machine.swapoff. */
export function swapoff(ctx: Context, path: string): void {
  const at = pathOf('swapoff', path);
  ctx.enter('swapoff');
  checkMayBlock('swapoff', 'it in a worker');
  const error = inKernel('swapoff', () => swap_off(host_path(at)));
  if (error !== 0) refused('swapoff', at, error, WHY_OFF);
}
function refused(
  op: string,
  path: string,
  errno: number,
  why: Readonly<Record<number, string>>,
): never {
  throw kmemError(errno, op, `${path}: ${why[errno] ?? 'the file system says so'}`);
}
