/*
 * strace_files: which file a descriptor of a recorded process is.
 *
 *      openat(AT_FDCWD, "/lib/libc.so.6", O_RDONLY|O_CLOEXEC) = 3      3 is /lib/libc.so.6
 *      dup2(3, 7) = 7                                                  7 is, too
 *      execve("/bin/sh", …) = 0                                        3 is gone, 7 is not
 *
 * With -y strace writes the name beside the descriptor, and nobody needs to ask here.
 * Without, a mapping of a file has its descriptor only; what that is, the calls before
 * told, if they were recorded.  A descriptor that nothing told of is of an unknown file.
 *
 * A name is as the program gave it: one that is not absolute means what the program's
 * folder made of it.
 *
 * Processes have tables of their own, which a fork copies; with CLONE_FILES, as threads
 * have, they share one.
 */
import { number_of, split_args, unescaped } from '../read/strace_args.ts';
import type { StraceCall } from '../read/strace_calls.ts';

interface Open {
  readonly file: string;
  /** execve closes it. */
  readonly closes: boolean;
}
/** Descriptors of a process that are known. */
export type Files = Map<number, Open>;

/** Descriptors that are followed, in one process; more of them are of unknown files. */
const FILES_MAX = 4096;

/** What is left behind an execve. */
export function after_exec(files: Files): Files {
  return new Map([...files].filter(([, open]) => !open.closes));
}

type Change = (files: Files, args: string[], result: number) => void;
const opens = (name: number): Change => {
  return (files, args, result) => {
    const quoted = /^"((?:[^"\\]|\\.)*)"$/.exec(args[name] ?? '');
    const closes = args.some((arg) => /\b(?:O|MFD)_CLOEXEC\b/.test(arg));
    if (quoted === null) files.delete(result);
    else put(files, result, { file: unescaped(quoted[1]), closes });
  };
};
function put(files: Files, fd: number, open: Open | undefined): void {
  files.delete(fd);
  if (open !== undefined && files.size < FILES_MAX) files.set(fd, open);
}
const copies: Change = (files, args, result) => {
  const from = number_of(args[0]);
  if (from === result) return;
  const open = files.get(from);
  const closes = args.includes('O_CLOEXEC') || args.includes('F_DUPFD_CLOEXEC');
  put(files, result, open && { ...open, closes });
};
const CHANGES: Record<string, Change> = {
  open: opens(0),
  creat: opens(0),
  openat: opens(1),
  openat2: opens(1),
  memfd_create: opens(0),
  dup: copies,
  dup2: copies,
  dup3: copies,
  close: (files, args) => void files.delete(number_of(args[0])),
  close_range: (files, args) => {
    const [first, last] = [number_of(args[0]), number_of(args[1])];
    for (const fd of [...files.keys()]) {
      if (fd < first || fd > last) continue;
      const open = files.get(fd);
      files.delete(fd);
      const later = args[2]?.includes('CLOSE_RANGE_CLOEXEC');
      if (open !== undefined && later) files.set(fd, { ...open, closes: true });
    }
  },
  fcntl: (files, args, result) => {
    const fd = number_of(args[0]);
    const open = files.get(fd);
    if (args[1]?.startsWith('F_DUPFD')) copies(files, args, result);
    else if (args[1] === 'F_SETFD' && open !== undefined) {
      files.set(fd, { ...open, closes: args[2] !== '0' });
    }
  },
};

/** Notes what a call that ended did to the descriptors; others than such calls do nothing. */
export function follow_files(files: Files, { name, args, result, headless }: StraceCall): void {
  if (!(result >= 0) || headless || !Object.hasOwn(CHANGES, name)) return;
  // With -y the names stand beside them.
  const plain = split_args(args).map((arg) => arg.replace(/^(\d+)<.*>$/, '$1'));
  CHANGES[name](files, plain, result);
}
