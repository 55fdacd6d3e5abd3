/*
 * source_proc: the machine of another process, read where it lies.
 *
 *      /proc/PID/maps     every writable mapping: does a machine begin there?
 *      /proc/PID/mem      its bytes, by address
 *      /proc/PID/pagemap  which of its pages were ever touched: the others are zero
 *
 * The program is not asked and does not notice: so this works while its event loop is stuck, and
 * while it has no control socket.  Nothing is stopped, either: what is read may belong to
 * different moments (kvm.ts tells whether anything moved).
 *
 * The system lets a process read the memory of another one of the same user, unless it is told
 * not to: Yama's ptrace_scope, a container without the right to trace, a program that was made
 * not dumpable.  One line says which of these it is, and what to set.
 */
import { EACCES, EIO, ENOENT, EPERM, errno_name } from '../machine/errno.ts';
import { host_effective_user } from '../machine/host_process.ts';
import { STORE_READ, store_close, store_open } from '../machine/store.ts';
import { store_read } from '../machine/store_io.ts';
import {
  type Candidate,
  choose,
  machines_in,
  type MemorySource,
  store_source,
} from './memory_source.ts';

/** Bytes of a text of the system that are read at a time. */
const TEXT_PIECE = 65536;
/** Most of it: a line for each of the 65,530 mappings that a process may have by default. */
const TEXT_MAX = 2 ** 24;

/** A text of the system; an errno if it cannot be had. */
function text_of(path: string): string | number {
  const st = store_open(path, STORE_READ);
  if (st < 0) return -st;
  let text = '';
  let error = 0;
  for (let at = 0; at < TEXT_MAX; ) {
    const piece = new Uint8Array(TEXT_PIECE);
    const got = store_read(st, at, piece);
    if (got < 0) error = -got;
    if (got <= 0) break;
    text += new TextDecoder('latin1').decode(piece.subarray(0, got));
    at += got;
  }
  store_close(st); // errno: it was only read
  return error === 0 ? text : error;
}

/** Why the memory of a process may not be read, and what to do. */
function refusal(proc: string, pid: number, errno: number): string {
  const status = text_of(`${proc}/${pid}/status`);
  if (typeof status === 'number') return 'there is no such process';
  const said = `${errno_name(errno)}: the system does not let its memory be read`;
  if (errno !== EACCES && errno !== EPERM) return said;
  const user = Number(/^Uid:\s+\d+\s+(\d+)/m.exec(status)?.[1] ?? Number.NaN);
  const own = host_effective_user();
  if (own !== 0 && own !== user)
    return `${said}: it belongs to user ${user}: run this as that user`;
  const scope = text_of(`${proc}/sys/kernel/yama/ptrace_scope`);
  const yama = typeof scope === 'string' ? Number(scope) : 0;
  if (yama === 3) return `${said}: kernel.yama.ptrace_scope is 3, until the next boot`;
  if (yama > 0 && (own !== 0 || yama > 2)) {
    return `${said}: run this as root, or set kernel.yama.ptrace_scope=0 (it is ${yama})`;
  }
  return `${said}: run this as root; a container needs --cap-add=SYS_PTRACE`;
}

interface Mapping {
  readonly start: number;
  readonly end: number;
}
const LINE = /^([0-9a-f]+)-([0-9a-f]+) .w/gm;
/** The writable mappings of a process. */
function mappings(maps: string): Mapping[] {
  return [...maps.matchAll(LINE)].map(([, start, end]) => ({
    start: Number.parseInt(start, 16),
    end: Number.parseInt(end, 16),
  }));
}
function machines_of(st: number, maps: string): Candidate[] {
  const read = (at: number, into: Uint8Array): number => store_read(st, at, into);
  return mappings(maps).flatMap(({ start, end }) => machines_in(read, start, end));
}
const PAGEMAP_BYTES = 8;
/** In the last byte of a page's entry: it is in memory, or in the system's swap area. */
const PAGE_THERE = 0xc0;
/**
 * What tells the pages of a memory at `base` that were never touched: to read these would have the
 * system make something of each.  Null where it cannot be told.
 */
function page_holes(
  proc: string,
  pid: number,
  base: number,
): { hole(at: number, n: number): boolean; close(): void } | null {
  const smaps = text_of(`${proc}/self/smaps`);
  const kb =
    typeof smaps === 'string' ? /^KernelPageSize:\s+(\d+) kB/m.exec(smaps)?.[1] : undefined;
  const st = kb === undefined ? -1 : store_open(`${proc}/${pid}/pagemap`, STORE_READ);
  if (st < 0) return null;
  const size = Number(kb) * 1024;
  return {
    hole: (at, n) => {
      const first = Math.floor((base + at) / size);
      const entries = new Uint8Array((Math.ceil((base + at + n) / size) - first) * PAGEMAP_BYTES);
      if (store_read(st, first * PAGEMAP_BYTES, entries) !== entries.length) return false;
      for (let i = PAGEMAP_BYTES - 1; i < entries.length; i += PAGEMAP_BYTES) {
        if ((entries[i] & PAGE_THERE) !== 0) return false;
      }
      return true;
    },
    close: () => {
      store_close(st); // errno: it was only read
    },
  };
}
/**
 * The machine of a process; of several the one with that id.  A string says in one line why there
 * is none that can be read, and what to set.  `proc`: where the system shows its processes.
 */
export function process_source(pid: number, id?: string, proc = '/proc'): MemorySource | string {
  const own = text_of(`${proc}/self/status`);
  if (typeof own === 'number') return 'EOPNOTSUPP: this system shows no processes under /proc';
  const maps = text_of(`${proc}/${pid}/maps`);
  if (typeof maps === 'number') {
    return maps === ENOENT ? 'there is no such process' : refusal(proc, pid, maps);
  }
  const st = store_open(`${proc}/${pid}/mem`, STORE_READ);
  if (st < 0) return refusal(proc, pid, -st);
  const chosen = choose(machines_of(st, maps), id, 'address', Date.now());
  if (typeof chosen === 'string') {
    store_close(st); // errno: why there is no machine is told
    return chosen;
  }
  const source = store_source(st, {
    name: `pid ${pid}`,
    kind: 'process',
    ...chosen,
    live: true,
  });
  const holes = page_holes(proc, pid, chosen.base);
  // What the system has not mapped there any more is an error to it; here it is the end.
  const read: MemorySource['read'] = (at, into) => or_end(source.read(at, into));
  const close = (): number => {
    holes?.close();
    return source.close();
  };
  return { ...source, ...(holes && { hole: holes.hole }), read, close };
}
function or_end(got: number): number {
  return got === -EIO ? 0 : got;
}
