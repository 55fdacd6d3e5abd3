/*
 * host_process: which process this is, and a folder of its user's for what it leaves in files.
 *
 *      PID-START-SPACE      1234-88131-4026531836
 *
 * Numbers of processes are given again, so when it started goes with it, and on Linux the space
 * in which the number counts: of processes of another container nothing is known.  The folder is
 * the one that sockets lie in where the system has no other for that: in the one for temporary
 * files, for this user alone.
 */
import { EACCES, EIO, EOPNOTSUPP, errno_of_code } from './errno.ts';
import { host_fs } from './host.ts';

interface FolderLike {
  mkdirSync(path: string, options: { mode: number }): unknown;
  readdirSync(path: string): string[];
  readlinkSync(path: string): string;
  readFileSync(path: string, encoding: string): string;
  unlinkSync(path: string): void;
  lstatSync(path: string): { uid: number; mode: number; isDirectory(): boolean };
}
interface ProcessLike {
  readonly pid: number;
  readonly platform: string;
  getuid?(): number;
  geteuid?(): number;
  kill(pid: number, signal: 0): void;
  getBuiltinModule?(name: string): unknown;
}
const proc = (globalThis as { process?: ProcessLike }).process;
const fs = host_fs === null ? null : (host_fs as unknown as FolderLike);
const linux = proc?.platform === 'linux';
const NAME = /^(\d+)-(\d+)-(\d+)$/;
/** The folder's mode has none of these. */
const OTHERS = 0o077;

function code_of(e: unknown): string {
  return (e as { code?: string }).code ?? '';
}

// --- processes --------------------------------------------------------------------------------

let self = '';
/** What this process is called; no other one of this system is. */
export function host_process(): string {
  const pid = proc?.pid ?? 0;
  if (self === '') self = `${pid}-${Math.max(0, start_of(pid))}-${pid_space()}`;
  return self;
}
/** When a process started, in the host's ticks; 0: it cannot be told; -1: there is no such. */
function start_of(pid: number): number {
  if (!linux || fs === null) return process_there(pid) ? 0 : -1;
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? -1 : Number(fields[19]);
  } catch {
    return process_there(pid) ? 0 : -1;
  }
}
function process_there(pid: number): boolean {
  try {
    proc?.kill(pid, 0);
    return true;
  } catch (e) {
    return code_of(e) !== 'ESRCH';
  }
}
function pid_space(): number {
  try {
    return linux ? Number(/\d+/.exec(fs?.readlinkSync('/proc/self/ns/pid') ?? '')?.[0] ?? 0) : 0;
  } catch {
    return 0; // the one space of all processes
  }
}
/** Whether the process of that name is proved to be gone. */
export function host_process_gone(name: string): boolean {
  const [, pid, start, space] = NAME.exec(name) ?? [];
  if (pid === undefined || Number(space) !== pid_space()) return false;
  const now = start_of(Number(pid));
  return now < 0 || (now > 0 && Number(start) > 0 && now !== Number(start));
}

/** The user by whose rights this process acts; -1: this host does not say. */
export function host_effective_user(): number {
  return proc?.geteuid?.() ?? -1;
}

/** The folder for temporary files; the one that we are in where the host has none. */
export function host_temporary(): string {
  const os = proc?.getBuiltinModule?.('node:os') as { tmpdir(): string } | undefined;
  return os?.tmpdir() ?? '.';
}

// --- the user's folder --------------------------------------------------------------------------

/** The folder of this user; '' where the host has none. */
export function host_user_folder(): string {
  const os = proc?.getBuiltinModule?.('node:os') as { tmpdir(): string } | undefined;
  const uid = proc?.getuid?.() ?? 'user';
  return os === undefined || fs === null ? '' : `${os.tmpdir()}/kmem-${uid}`;
}
/** Whether nobody else can put anything there. Throws what the host does. */
function own(path: string): boolean {
  const stat = fs?.lstatSync(path);
  if (stat === undefined || !stat.isDirectory()) return false;
  return proc?.getuid === undefined || (stat.uid === proc.getuid() && (stat.mode & OTHERS) === 0);
}
/** Makes it, unless it is there. 0, or an errno: EACCES, others could put something there. */
export function host_user_folder_make(): number {
  const path = host_user_folder();
  if (path === '' || fs === null) return EOPNOTSUPP;
  try {
    fs.mkdirSync(path, { mode: 0o700 });
  } catch (e) {
    if (code_of(e) !== 'EEXIST') return errno_of_code(code_of(e)) || EIO;
  }
  try {
    return own(path) ? 0 : EACCES;
  } catch (e) {
    return errno_of_code(code_of(e)) || EIO;
  }
}
/** The names of files there that begin so. */
export function host_user_files(begin: string): string[] {
  const path = host_user_folder();
  if (path === '' || fs === null) return [];
  try {
    return own(path) ? fs.readdirSync(path).filter((name) => name.startsWith(begin)) : [];
  } catch {
    return []; // there is no such folder, or it cannot be looked at
  }
}
/** Removes a file there, if it can be. */
export function host_user_remove(name: string): void {
  try {
    fs?.unlinkSync(`${host_user_folder()}/${name}`);
  } catch {
    // Another process was faster, or it stays for another boot.
  }
}
