/*
 * error_table: every code that a call of the façade throws, what it means, and what to do.
 *
 * REASONS has what the field `reason` of some says.
 *
 * It is data for people: the manual and `kmem explain` print it, programs may.  What throws
 * needs none of it (errors.ts), so a page that does not ask for ERRORS does not load it.
 */
import {
  EACCES,
  EADDRINUSE,
  EAGAIN,
  EBUSY,
  EDEADLK,
  EDQUOT,
  EEXIST,
  EFAULT,
  EFBIG,
  EINVAL,
  EIO,
  EISDIR,
  ELOOP,
  EMFILE,
  ENAMETOOLONG,
  ENFILE,
  ENOENT,
  ENOLCK,
  ENOMEM,
  ENOSPC,
  ENOTDIR,
  ENXIO,
  EOPNOTSUPP,
  EOWNERDEAD,
  EPERM,
  EROFS,
  ESHUTDOWN,
  ESTALE,
  ETIMEDOUT,
  errno_name,
} from '../sys/machine/errno.ts';
import type { AccessReason, MemoryReason } from './errors.ts';

/** A row of the table of errors. */
export interface ErrorEntry {
  /** Name of the errno, such as 'ENOMEM'. */
  readonly code: string;
  /** Its number, as in FreeBSD. */
  readonly errno: number;
  /** When it is thrown. */
  readonly means: string;
  /** What a program can do about it. */
  readonly advice: string;
}
function entry(errno: number, means: string, advice: string): ErrorEntry {
  return { code: errno_name(errno), errno, means, advice };
}

/** Every code that a façade call throws. */
export const ERRORS: readonly ErrorEntry[] = [
  entry(
    ENOMEM,
    'no memory, or the limit of a zone, of records, of a space or of windows is reached; ' +
      '`reason` says which, `holders` who has most of the memory',
    'free something, raise the limit, or wait: alloc(size, { wait: ms }), allocAsync',
  ),
  entry(
    EDEADLK,
    'waiting could never end: no other thread could free memory, or this one holds the lock',
    'free first, give the lock back first, or wait in the event loop (…Async)',
  ),
  entry(
    ETIMEDOUT,
    'the time that was given for waiting is over; or a thread that uses an address space did not ' +
      'answer to a fork, a protect or a window: the text names its CPU',
    'wait longer, or shed load; compute for long inside machine.away()',
  ),
  entry(EINVAL, 'an argument is impossible; the text says which and why', 'mend the call'),
  entry(
    EFAULT,
    'an address that is not in the memory, or not aligned for the width; in an address space one ' +
      'where nothing is mapped, that is beyond the end of its region, or that may not be used ' +
      'so: `reason` says which',
    'use addresses as alloc returned them, plus offsets inside the block; ask for the region ' +
      'again, or protect() it for that use',
  ),
  entry(
    EEXIST,
    'the name exists with another shape: the text has both; a region of that name has another ' +
      'length, or its place is taken; a fork has the name of a space; a dump would be written ' +
      'over a file; a space that is to be loaded has regions already',
    'use the same shape in every thread, or another name; destroy the space first',
  ),
  entry(
    EISDIR,
    'the name is a group of variables; or the path is that of a folder',
    'name one variable in it; name a file',
  ),
  entry(
    ENOTDIR,
    'the name goes on below a variable, or the path below what is no folder',
    'name the variable itself, or an existing folder',
  ),
  entry(
    ENOENT,
    'no such name, no region at that address, or no such file or folder',
    'make it first: a name with its shape, in any thread',
  ),
  entry(
    EBUSY,
    'a machine is up in this thread already, of this copy of the package or of another; or ' +
      'memory is still in use at the end, or the thread is parked: inside away() or park(); or ' +
      'a window is in the way, which the text places',
    'use current(), shut the first one down; let all import one copy; free what the text ' +
      "lists; come back first; close the window, or wait for another thread's: { wait: ms }",
  ),
  entry(
    EOWNERDEAD,
    'a thread died or left while it held the lock: what the lock guards may be half changed; ' +
      'the text names the lock and the thread',
    'set it right in recover(fn), which makes the lock good again, or dispose of the lock',
  ),
  entry(
    ENOLCK,
    'this thread reads 24 rwlocks at once, as many as it may; the text names them',
    'give one back first',
  ),
  entry(
    ESTALE,
    'the item of a checked handle was freed, perhaps by another thread: its number may be in use ' +
      'again, for something else; or the address space was destroyed',
    'forget the handle; ask records.has(handle), or space.gone, where that is an ordinary case',
  ),
  entry(
    EPERM,
    'the lock is not held by this thread, or the variable is read-only, or the host forbids it',
    'lock first',
  ),
  entry(
    EAGAIN,
    "all CPU slots are taken; or a browser's main thread would have to wait for a page",
    'boot with more cpus, or let a thread detach; await region.ready(offset, n) first',
  ),
  entry(
    ESHUTDOWN,
    'the machine was shut down, or this thread detached, or the object was disposed of, or the ' +
      'queue or the window is closed',
    'stop using the handle; boot or attach again, ask for the object by its name, or open ' +
      'another window',
  ),
  entry(
    EOPNOTSUPP,
    "this thread may not block (a browser's main thread), the memory cannot be shared, or " +
      'the host has no such thing (Unix sockets, files), or kmem/core leaves the call out',
    "use the Async form of the call; serve the page with the COOP and COEP headers; import 'kmem'",
  ),
  entry(
    ENAMETOOLONG,
    "a name has more than 31 bytes, a socket's path more than 107 or its folder more than 96, or " +
      'another path more than the host takes',
    'shorten it',
  ),
  entry(
    EADDRINUSE,
    'a program, or this thread, listens at that path already',
    'close that listener, or give another path',
  ),
  entry(
    EACCES,
    "the folder for the control socket is not this user's own, or a folder may not be written; a " +
      'file may not be opened so, or is to be made shorter and nobody mapped it for writing',
    'mend its owner and mode, or give a path elsewhere; map it with write: true',
  ),
  entry(
    ENOSPC,
    'no room is left for a dump or a swap file, nothing of which stays; or for what was stored ' +
      'in a mapped file: its pages are kept',
    'make room, or give another path; sync() again',
  ),
  entry(ENXIO, 'a swap file is too small for a page', 'make it larger: { size }'),
  entry(
    EDQUOT,
    'this user may have no more room there; no dump stays, and the pages of a mapped file do',
    'give another path; make room, and sync() again',
  ),
  entry(
    EFBIG,
    'a file may not be as long there: as the memory, for a dump, or as truncate() asks',
    'give another path, or a smaller length',
  ),
  entry(EROFS, 'nothing can be written there', 'give another path'),
  entry(
    ELOOP,
    'the path goes through too many links; or a space would be saved to a link',
    'mend the links; name the file itself',
  ),
  entry(EMFILE, 'this process, or this thread for dumps, has too many files open', 'close some'),
  entry(ENFILE, 'the host has too many files open, or too many are mapped', 'close some'),
  entry(
    EIO,
    "the host's file system failed: the text has its words; or a page of an address space could " +
      'not be read, or not be written to its file: then it is kept',
    'mend what it names, and try again',
  ),
];

/** What `reason` of an error means: of ENOMEM, and of EFAULT and EIO in address spaces. */
export const REASONS: Readonly<Record<MemoryReason | AccessReason, string>> = {
  full:
    'Of ENOMEM: fewer pages are free than are wanted, or only the reserve that the kernel keeps ' +
    'for reclaiming memory (vm.v_free_reserved).',
  fragmented:
    'Of ENOMEM: enough pages are free, but not side by side; `longestRun` has the bytes that are.',
  'too large':
    'Of ENOMEM: more than the whole memory, or than vm.kmem_size, or than an address space.',
  limit:
    'Of ENOMEM: a limit is reached, which the text names: vm.kmem_size, that of a space, ' +
    'vm.window_max or vm.max_wired.',
  unmapped:
    'Of EFAULT: no region is at the address of the space, or none any more, because another ' +
    'thread unmapped it.',
  protection:
    'Of EFAULT: the address is mapped, and not for that use; see protect(), and the `protect` of ' +
    'mmap and fork.',
  'beyond-end-of-file':
    'Of EFAULT: the page lies behind the end of the file that its region shows: it is shorter ' +
    'than when it was mapped; see truncate().',
  outside: 'Of EFAULT: an offset, or the number of a value, is beyond the end of the region.',
  io: 'Of EIO: what is behind a page of an address space could not be read.',
};
