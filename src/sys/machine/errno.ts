/*
 * errno: the numbers by which kernel functions report ordinary failure.
 *
 * A kernel function returns 0 or one of these; it throws only when the
 * machine itself is wrong (panic).  The values are BSD's, because the tools
 * and the sysctl interface show them as they are.
 */
export const EPERM = 1;
export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const ENXIO = 6;
export const E2BIG = 7;
export const EBADF = 9;
export const EDEADLK = 11;
export const ENOMEM = 12;
export const EACCES = 13;
export const EFAULT = 14;
export const EBUSY = 16;
export const EEXIST = 17;
export const ENOTDIR = 20;
export const EISDIR = 21;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const EFBIG = 27;
export const ENOSPC = 28;
export const EROFS = 30;
export const ERANGE = 34;
export const EWOULDBLOCK = 35;
export const EAGAIN = 35;
export const EOPNOTSUPP = 45;
export const EADDRINUSE = 48;
export const ESHUTDOWN = 58;
export const ETIMEDOUT = 60;
export const ELOOP = 62;
export const ENAMETOOLONG = 63;
export const ENOTEMPTY = 66;
export const EDQUOT = 69;
export const ESTALE = 70;
export const ENOLCK = 77;
export const ENOSYS = 78;
export const EOWNERDEAD = 96;

const names: Record<number, string> = {
  [EPERM]: 'EPERM',
  [ENOENT]: 'ENOENT',
  [EINTR]: 'EINTR',
  [EIO]: 'EIO',
  [ENXIO]: 'ENXIO',
  [E2BIG]: 'E2BIG',
  [EBADF]: 'EBADF',
  [EDEADLK]: 'EDEADLK',
  [ENOMEM]: 'ENOMEM',
  [EACCES]: 'EACCES',
  [EFAULT]: 'EFAULT',
  [EBUSY]: 'EBUSY',
  [EEXIST]: 'EEXIST',
  [ENOTDIR]: 'ENOTDIR',
  [EISDIR]: 'EISDIR',
  [EINVAL]: 'EINVAL',
  [ENFILE]: 'ENFILE',
  [EMFILE]: 'EMFILE',
  [EFBIG]: 'EFBIG',
  [ENOSPC]: 'ENOSPC',
  [EROFS]: 'EROFS',
  [ERANGE]: 'ERANGE',
  [EAGAIN]: 'EAGAIN',
  [EOPNOTSUPP]: 'EOPNOTSUPP',
  [EADDRINUSE]: 'EADDRINUSE',
  [ESHUTDOWN]: 'ESHUTDOWN',
  [ETIMEDOUT]: 'ETIMEDOUT',
  [ELOOP]: 'ELOOP',
  [ENAMETOOLONG]: 'ENAMETOOLONG',
  [ENOTEMPTY]: 'ENOTEMPTY',
  [EDQUOT]: 'EDQUOT',
  [ESTALE]: 'ESTALE',
  [ENOLCK]: 'ENOLCK',
  [ENOSYS]: 'ENOSYS',
  [EOWNERDEAD]: 'EOWNERDEAD',
};

/** The symbolic name of an errno, or `E<number>` for one this kernel does not use. */
export function errno_name(error: number): string {
  return names[error] ?? `E${error}`;
}

/** All errnos that this kernel uses. */
export function errnos(): number[] {
  return Object.keys(names).map(Number);
}
/** The errno with a symbolic name, 0 for one this kernel does not know. */
export function errno_of_code(code: string): number {
  return Number(Object.keys(names).find((n) => names[Number(n)] === code) ?? 0);
}

/** Characters that end a line, or move a cursor. */
const CONTROL = /[\p{Cc}\p{Zl}\p{Zp}]/u;
/** Whether a text would break the row of a table that it stands in. */
export function has_control(text: string): boolean {
  return CONTROL.test(text);
}
/** A text with such characters written as \u000a and the like. */
function one_line(text: string): string {
  if (!CONTROL.test(text)) return text;
  const shown = (c: string): string => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`;
  return Array.from(text, (c) => (CONTROL.test(c) ? shown(c) : c)).join('');
}

/**
 * An error that leaves the kernel towards the program that called it: bad
 * argument, machine already running, no such handle.  `code` is the errno's name.
 * The message is one line, whatever the names in it: a log has one row for it.
 */
export class KmemError extends Error {
  override readonly name = 'KmemError';
  /** Name of the errno, such as 'ENOMEM'. */
  readonly code: string;
  /** Its number, as in FreeBSD. */
  readonly errno: number;
  /** The call that failed. */
  readonly op: string;

  constructor(errno: number, op: string, text: string) {
    super(`${errno_name(errno)}: ${op}: ${one_line(text)}`);
    this.code = errno_name(errno);
    this.errno = errno;
    this.op = op;
  }
}
