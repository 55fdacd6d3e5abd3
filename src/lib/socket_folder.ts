/*
 * socket_folder: where the control sockets of one user lie.
 *
 *      $XDG_RUNTIME_DIR/kmem/PID-THREAD.sock     where the system has such a folder
 *      TMPDIR/kmem-UID/PID-THREAD.sock           elsewhere: the folder for temporary files
 *
 * A program listens in the first of the two; tools look into both, because they
 * may run in another session than the program.  Whoever may write in the folder
 * could stand in for a program, and whoever may read a socket could set its
 * variables.  So the folder has mode 0700, is no symbolic link, and belongs to the
 * user; one that does not is not used, by the program or by the tools.
 *
 * A socket appears in the folder when it listens already (listen.ts): one that
 * refuses a connection is stale, left by a program that was killed.
 */
import { hostBuiltin } from './host.ts';

/** Of the host's file system, as much as is used. */
export interface Files {
  mkdirSync(path: string, options: { mode: number }): unknown;
  mkdtempSync(prefix: string): string;
  rmdirSync(path: string): void;
  chmodSync(path: string, mode: number): void;
  linkSync(from: string, to: string): void;
  renameSync(from: string, to: string): void;
  unlinkSync(path: string): void;
  readdirSync(path: string): string[];
  lstatSync(path: string): Stat;
  statSync(path: string): Stat;
}
export interface Stat {
  readonly uid: number;
  readonly mode: number;
  readonly ino: number;
  readonly dev: number;
  readonly mtimeMs: number;
  isDirectory(): boolean;
  isSocket(): boolean;
}
interface Process {
  readonly pid: number;
  readonly platform: string;
  readonly env: Readonly<Record<string, string | undefined>>;
  getuid?(): number;
  kill(pid: number, signal: 0): void;
}
export interface Host {
  readonly fs: Files;
  readonly pid: number;
  readonly uid: number;
  readonly platform: string;
  readonly runtimeFolder: string | undefined;
  readonly temporaryFolder: string;
  /** Whether a process is there, as far as this one can see. */
  hasProcess(pid: number): boolean;
}
/** What there is of Node; null: this host has no Unix sockets. */
export function socketHost(): Host | null {
  const fs = hostBuiltin<Files>('node:fs');
  const os = hostBuiltin<{ tmpdir(): string }>('node:os');
  const { process } = globalThis as unknown as { process?: Process };
  if (!fs || !os || !process?.getuid) return null; // Windows has no user numbers
  return {
    fs,
    pid: process.pid,
    uid: process.getuid(),
    platform: process.platform,
    runtimeFolder: process.env.XDG_RUNTIME_DIR,
    temporaryFolder: os.tmpdir(),
    hasProcess: (pid) => {
      try {
        process.kill(pid, 0);
        return true;
      } catch (e) {
        return (e as { code?: string }).code !== 'ESRCH';
      }
    },
  };
}

function isFolder(host: Host, path: string): boolean {
  try {
    return host.fs.statSync(path).isDirectory();
  } catch {
    return false;
  }
}
/** The folders in which sockets may lie; new ones go to the first. */
export function socketFolders(host: Host): string[] {
  const own = `${host.temporaryFolder}/kmem-${host.uid}`;
  const runtime = host.runtimeFolder ?? '';
  // The specification of XDG_RUNTIME_DIR wants relative paths ignored.
  const usable = runtime.startsWith('/') && isFolder(host, runtime);
  return usable ? [`${runtime}/kmem`, own] : [own];
}

const OTHERS_BITS = 0o077;
/** Why a folder may not be used; null: it may. `undefined`: there is none. */
export function folderFault(host: Host, folder: string): string | null | undefined {
  let stat: Stat;
  try {
    stat = host.fs.lstatSync(folder);
  } catch (e) {
    const { code } = e as { code?: string };
    return code === 'ENOENT' ? undefined : `${folder}: ${code}`;
  }
  if (!stat.isDirectory()) return `${folder}: is no folder, or a symbolic link to one`;
  if (stat.uid !== host.uid) return `${folder}: belongs to another user (${stat.uid})`;
  if ((stat.mode & OTHERS_BITS) === 0) return null;
  return `${folder}: others may use it (mode ${(stat.mode & 0o777).toString(8)}): chmod 700`;
}

export function socketName(pid: number, thread: number): string {
  return `${pid}-${thread}.sock`;
}
/** The pid and thread of a socket's file name; null: it is none of ours. */
export function socketOwner(name: string): { pid: number; thread: number } | null {
  const m = /^(\d+)-(\d+)\.sock$/.exec(name);
  return m ? { pid: Number(m[1]), thread: Number(m[2]) } : null;
}

/** Bytes of a Unix socket's path, without the zero byte at its end. */
export function pathBytesMax(host: Host): number {
  return host.platform === 'linux' || host.platform === 'android' ? 107 : 103;
}
