/*
 * host_tty: the terminal of the process, read and written by a thread that waits.
 *
 *      const tty = host_tty();      null: the process has none, or this host
 *      tty.write('db> ');  tty.line();  tty.close();
 *
 * It is opened anew at /dev/tty, so that it is a terminal whatever standard input is, and reading
 * blocks whatever the program has set.  The program may be reading keys, with echo off: the
 * mode is saved, made sane, and put back by close().  That takes the command stty; where there is
 * none the terminal stays as it is.
 */
import { host_builtin } from './host.ts';

export interface Tty {
  write(text: string): void;
  /** A line without its end; null: the terminal is gone. */
  line(): string | null;
  /** One key, without waiting for the end of a line; '' if the terminal is gone. */
  key(): string;
  /** Lines of the screen; 0: not known. */
  rows(): number;
  close(): void;
}
interface FsLike {
  openSync(path: string, flags: string): number;
  readSync(fd: number, into: Uint8Array, from: number, n: number, at: null): number;
  writeSync(fd: number, bytes: Uint8Array): number;
  closeSync(fd: number): void;
}
interface Spawned {
  readonly status: number | null;
  readonly stdout: Uint8Array | null;
}
interface ChildLike {
  spawnSync(command: string, args: string[], options: object): Spawned;
}
const TTY = '/dev/tty';

/** Runs stty over the terminal; '' if that fails. */
function stty(fd: number, ...args: string[]): string {
  const child = host_builtin<ChildLike>('node:child_process');
  try {
    const r = child?.spawnSync('stty', args, { stdio: [fd, 'pipe', 'ignore'], timeout: 2000 });
    if (!r || r.status !== 0 || r.stdout === null) return '';
    return new TextDecoder().decode(r.stdout).trim();
  } catch {
    return '';
  }
}
/** The terminal of this process; null: it has none. */
export function host_tty(): Tty | null {
  const fs = host_builtin<FsLike>('node:fs');
  if (fs === null) return null;
  let fd: number;
  try {
    fd = fs.openSync(TTY, 'r+');
  } catch {
    return null;
  }
  const before = stty(fd, '-g');
  if (before !== '') stty(fd, 'sane');
  const one = new Uint8Array(1);
  const byte = (): number => {
    try {
      return fs.readSync(fd, one, 0, 1, null) === 1 ? one[0] : -1;
    } catch {
      return -1; // EIO: the terminal was closed
    }
  };
  return {
    write: (text) => {
      try {
        fs.writeSync(fd, new TextEncoder().encode(text));
      } catch {}
    },
    line: () => {
      const bytes: number[] = [];
      for (let c = byte(); c !== 10; c = byte()) {
        if (c < 0) return null;
        bytes.push(c);
      }
      return new TextDecoder().decode(Uint8Array.from(bytes));
    },
    key: () => {
      if (before !== '') stty(fd, '-icanon', '-echo', 'min', '1');
      const c = byte();
      if (before !== '') stty(fd, 'icanon', 'echo');
      return c < 0 ? '' : String.fromCharCode(c);
    },
    rows: () => Number(stty(fd, 'size').split(' ')[0]) || 0,
    close: () => {
      if (before !== '') stty(fd, before);
      try {
        fs.closeSync(fd);
      } catch {}
    },
  };
}
