/*
 * kern_dump: the whole memory of the machine, written to a file.
 *
 *      counts -> away -> pages, 4 MiB at a time -> back -> counts -> headers -> name -> close
 *
 * The file is dump_elf.ts's: pages that are zero throughout are not written and become
 * holes.  Each piece is copied before it is looked at, so that what was found to be zero
 * is what is left out.
 *
 * Nobody is stopped.  While the pages are written this CPU is away: others may have what
 * it caches, and no lock of the kernel is held.  So a machine that goes on allocating
 * is dumped a little later here than there.  The counts of types and zones before and
 * after tell: if they are the same, nothing was taken or freed meanwhile, and the dump says
 * that it is quiet; its figures are those of the live machine.  After a panic no lock is touched,
 * and a dump is quiet if all other CPUs have stopped.
 *
 * Whole or not at all.  The file is made anew (STORE_NEW) as PATH.….part (host_parts.ts), and is
 * removed when anything fails; it gets its name when it is whole.  If the thread dies meanwhile it
 * stays until the next dump to PATH; the headers are written last, so nobody takes it for a dump.
 *
 * Compressed (dump_pack.ts), it is written piece behind piece, and has no holes.
 *
 * A dump holds whatever the program keeps in the machine: keys, passwords, other
 * people's data.  It is its owner's alone (mode 0600).
 *
 * Read next: kvm.ts, which reads it.
 */
import { kconsole } from '../machine/kconsole.ts';
import { atomic_load, atomic_or } from '../machine/atomic.ts';
import {
  away_begin,
  away_end,
  CPU_DEAD,
  CPU_FREE,
  CPU_PARKED,
  cpu_slots,
  pcpu,
  pcpu_of,
  thr,
} from '../machine/cpu.ts';
import {
  EACCES,
  EDQUOT,
  EEXIST,
  EFBIG,
  EINVAL,
  EIO,
  EISDIR,
  ENOENT,
  ENOSPC,
  ENOTDIR,
  EOPNOTSUPP,
  EPERM,
  EROFS,
  errno_name,
  KmemError,
} from '../machine/errno.ts';
import { cpu_stop_text, frames_text } from '../machine/cpu_stop.ts';
import { FOLDER_WORDS, M, machine, PANIC_TEXT_WORDS } from '../machine/header.ts';
import { host_js_tid, host_sleep, host_who, host_who_tid } from '../machine/host.ts';
import { host_part, host_parts_clear } from '../machine/host_parts.ts';
import { host_temporary } from '../machine/host_process.ts';
import { msgbuf_add } from '../machine/kdb.ts';
import { mem, PAGE_WORDS } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { STOP_NOTED } from '../machine/panic.ts';
import {
  STORE_NEW,
  store_close,
  store_discard,
  store_open,
  store_free_name,
  store_name,
} from '../machine/store.ts';
import { store_sync, store_truncate, store_write } from '../machine/store_io.ts';
import { field_word, get64, get_string } from '../machine/struct.ts';
import { type SysctlRequest, sysctl_get } from '../machine/sysctl_decl.ts';
import { malloc_count_words } from '../kmem/kern_malloc_sums.ts';
import { guards_check } from '../page/vm_guard.ts';
import { rw_wowned } from '../sync/kern_rwlock.ts';
import { zone_count_words } from '../uma/uma_stats.ts';
import {
  DUMP_LOAD,
  DUMP_PANICKED,
  DUMP_QUIET,
  type DumpCpu,
  type DumpHead,
  dump_head,
} from './dump_elf.ts';
import { type Packing, packing_here } from './dump_pack.ts';
import { dump_compress, dump_on_nomem } from './dump_vars.ts';
import { machine_id, type MemorySource, PIECE } from './memory_source.ts';
import { KMEM_RELEASE } from './sysctl_std.ts';
import { sysctl_root, tree } from './sysctl_tree.ts';

const encoder = new TextEncoder();

/** A dump that was written. */
export interface DumpResult {
  /** The file: a compressed one has `.zst` or `.gz` behind what was asked for. */
  readonly path: string;
  /** Length of the file, bytes. */
  readonly size: number;
  /** Bytes of it that were written; the rest is holes. */
  readonly written: number;
  /** Nothing was taken or freed meanwhile: its figures are those of the machine. */
  readonly quiet: boolean;
}
/** What became of the writing: `error` is 0, or an errno, met while doing `what`. */
export interface DumpDone extends Omit<DumpResult, 'path'> {
  readonly error: number;
  readonly what: string;
}
/** The memory that is written. */
interface Origin {
  readonly size: number;
  /** Copies all of `into` from byte `at` on. 0, or an errno. */
  copy(at: number, into: Uint8Array): number;
}
/** The memory that this thread's views are bound to. */
function bound(size: number): Origin {
  return {
    size,
    copy: (at, into) => {
      into.set(mem.U8.subarray(at, at + into.length));
      return 0;
    },
  };
}

// --- the pages ------------------------------------------------------------------------------

/** Room for a piece: had before any file is made, because the host may refuse it. */
export function dump_room(size = get64(machine.size_bytes, M)): Int32Array<ArrayBuffer> {
  return new Int32Array(Math.min(PIECE, size) >> 2);
}
function page_is_zero(piece: Int32Array, at: number): boolean {
  for (let i = at; i < at + PAGE_WORDS; i++) if (piece[i] !== 0) return false;
  return true;
}
/** The first page of the piece from word `at` on that is zero, or is not; `end` if none is. */
function page_next(piece: Int32Array, at: number, end: number, zero: boolean): number {
  let w = at;
  while (w < end && page_is_zero(piece, w) !== zero) w += PAGE_WORDS;
  return Math.min(w, end);
}
interface Pages {
  error: number;
  written: number;
  /** Where the next bytes go, in a file that is compressed. */
  to: number;
}
/** Writes the runs of a piece that are not zero; it lies at byte `at` of the memory. */
function piece_write(st: number, at: number, piece: Int32Array<ArrayBuffer>, done: Pages): void {
  const bytes = new Uint8Array(piece.buffer);
  for (let from = 0; from < piece.length && done.error === 0; ) {
    const first = page_next(piece, from, piece.length, false);
    from = page_next(piece, first, piece.length, true);
    if (first === from) return;
    done.error = store_write(st, DUMP_LOAD + at + first * 4, bytes.subarray(first * 4, from * 4));
    if (done.error === 0) done.written += (from - first) * 4;
  }
}
/** Writes a piece as a frame of its own, behind the one before. */
function piece_pack(st: number, bytes: Uint8Array, packing: Packing, done: Pages): void {
  const frame = packing.pack(bytes);
  done.error = store_write(st, done.to, frame);
  if (done.error !== 0) return;
  done.to += frame.length;
  done.written += frame.length;
}
function pages_write(
  st: number,
  from: Origin,
  room: Int32Array<ArrayBuffer>,
  packing: Packing | null,
): Pages {
  const done: Pages = { error: 0, written: 0, to: packing?.head_bytes ?? 0 };
  const bytes = new Uint8Array(room.buffer);
  for (let at = 0; at < from.size && done.error === 0; at += bytes.length) {
    const n = Math.min(bytes.length, from.size - at);
    done.error = from.copy(at, bytes.subarray(0, n));
    if (n < bytes.length) bytes.fill(0, n); // behind the end: zeros are not written
    if (done.error !== 0) break;
    if (packing === null) piece_write(st, at, room, done);
    else piece_pack(st, bytes.subarray(0, n), packing, done);
  }
  return done;
}

// --- the headers ----------------------------------------------------------------------------

/** The counts of all types and zones, as they lie there: they tell if anything moved. */
function counts(): number[] {
  const all: number[] = [];
  const say = (word: number, n: number): void => {
    for (let w = word; w < word + n; w++) all.push(mem.I32[w]);
  };
  malloc_count_words(say);
  zone_count_words(say);
  return all;
}
function same(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((n, i) => n === b[i]);
}
/** Whether each CPU but this one is parked, or has come as far as that in stopping. */
function others_at(stopped: number): boolean {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (cpu === thr.cpu) continue;
    const pc = pcpu_of(cpu);
    const over = atomic_load(field_word(pcpu.state, pc)) & (CPU_PARKED | CPU_DEAD | CPU_FREE);
    if (over === 0 && atomic_load(field_word(pcpu.stopped, pc)) < stopped) return false;
  }
  return true;
}
/** How long a sleeper that the panic has woken may take to note where it slept, ms. */
const NOTE_MS = 200;
/** Whether no CPU but this one runs; those that have just woken are given time to note it. */
function others_stopped(): boolean {
  const until = performance.now() + (opt.SIM ? 0 : NOTE_MS);
  while (!others_at(STOP_NOTED) && performance.now() < until) host_sleep(1);
  return others_at(1);
}
function panicked(): boolean {
  return atomic_load(field_word(machine.panic_cpu, M)) !== 0;
}
/** What each CPU does that a thread holds, as the memory has it that is bound. */
function cpus(): DumpCpu[] {
  const all: DumpCpu[] = [];
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const pc = pcpu_of(cpu);
    const state = pcpu.state[pc];
    if (state & CPU_FREE) continue;
    const stopped = pcpu.stopped[pc] !== 0;
    const doing = state & CPU_DEAD ? 'dead' : state & CPU_PARKED ? 'parked' : 'running';
    const running = panicked() && doing === 'running';
    const now = stopped ? 'stopped' : running ? 'NOT stopped' : doing;
    const text = cpu_stop_text(cpu) || now;
    const { os_tid, js_tid } = pcpu;
    all.push({ cpu, state, os_tid: os_tid[pc], js_tid: js_tid[pc], stopped, text });
  }
  return all;
}
function head(quiet: boolean): DumpHead {
  const stopped = panicked();
  return {
    layout: machine.layout[M],
    id: machine.id_low[M],
    generation: machine.generation[M],
    flags: (stopped ? DUMP_PANICKED : 0) | (quiet ? DUMP_QUIET : 0),
    cpu: thr.cpu,
    os_tid: host_who_tid(host_who()),
    js_tid: host_js_tid(),
    time: Date.now(),
    boot_time: get64(machine.boot_time, M),
    size: get64(machine.size_bytes, M),
    release: KMEM_RELEASE,
    panic: stopped ? get_string(machine.panic_text, M, PANIC_TEXT_WORDS) : '',
    stack: opt.SIM ? '' : frames_text(),
    cpus: cpus(),
  };
}

// --- the whole ------------------------------------------------------------------------------

/** Ends a file whose pages are written: its length, then its headers. */
function finish(st: number, size: number, h: DumpHead, pages: Pages, packing: Packing | null) {
  const { written } = pages;
  const quiet = (h.flags & DUMP_QUIET) !== 0;
  const length = packing === null ? DUMP_LOAD + size : pages.to;
  const page = dump_head(h);
  const headers = packing === null ? page : packing.head(page);
  const done = { size: length, written: written + headers.length, quiet };
  if (pages.error !== 0) return { ...done, error: pages.error, what: `after ${written} bytes` };
  const steps: [() => number, string][] = [
    [() => (packing ? 0 : store_truncate(st, length)), `making it ${length} bytes long`],
    [() => store_sync(st), 'bringing it to the disk'],
    [() => store_write(st, 0, headers), 'writing its headers'],
    [() => store_sync(st), 'bringing its headers to the disk'],
  ];
  for (const [step, what] of steps) {
    const failed = step();
    if (failed !== 0) return { ...done, error: failed, what };
  }
  return { ...done, error: 0, what: '' };
}
/**
 * Writes the machine to an empty store, which stays open.  `room` is dump_room()'s.  The
 * caller holds no lock.  Throws as a sleep does if the machine is stopped meanwhile.
 */
export function dump_store(
  st: number,
  room: Int32Array<ArrayBuffer>,
  packing: Packing | null = null,
): DumpDone {
  const running = !panicked();
  const before = running ? counts() : [];
  if (running) away_begin();
  const size = get64(machine.size_bytes, M);
  const pages = pages_write(st, bound(size), room, packing);
  if (running) away_end();
  const quiet = running ? same(before, counts()) : others_stopped();
  return finish(st, size, head(quiet), pages, packing);
}

/** What the host's errno means here. */
const WHY: Record<number, string> = {
  [EEXIST]: 'something of that name is there: nothing is overwritten, and no link followed',
  [ENOENT]: 'there is no such folder',
  [ENOTDIR]: 'what should be its folder is none',
  [EISDIR]: 'it is a folder',
  [EACCES]: 'this user may not write there',
  [EPERM]: 'this user may not write there',
  [EROFS]: 'nothing can be written there',
  [ENOSPC]: 'no room is left there',
  [EDQUOT]: 'this user has no more room there',
  [EFBIG]: 'a file may not be so long there',
  [EIO]: 'the host cannot write it',
  [EOPNOTSUPP]: 'this host has no files',
};
function dump_error(path: string, error: number, what: string): KmemError {
  const why = WHY[error] ?? `the host refuses it (${errno_name(error)})`;
  return new KmemError(error, 'dump', `${path}: ${why}${what ? ` (${what})` : ''}`);
}
/** Takes the file away; the text says if it is still there. */
function undone(st: number, what: string, part: string): string {
  const left = store_discard(st);
  return left === 0 ? what : `${what}; ${part} is left, empty: ${errno_name(left)}`;
}

/** Makes a new file at a path and has it written; what fails leaves none. */
function dump_file(path: string, write: (st: number) => DumpDone): DumpResult {
  const taken = store_free_name(path);
  if (taken !== 0) throw dump_error(path, taken, '');
  host_parts_clear(`${path}.`);
  const part = host_part(`${path}.`);
  const st = store_open(part, STORE_NEW);
  if (st < 0) throw dump_error(path, -st, '');
  let done: DumpDone;
  try {
    done = write(st);
  } catch (e) {
    undone(st, '', part);
    throw e;
  }
  if (done.error !== 0) throw dump_error(path, done.error, undone(st, done.what, part));
  const named = store_name(st, path);
  if (named !== 0) throw dump_error(path, named, undone(st, 'giving it its name', part));
  const error = store_close(st);
  if (error !== 0) throw dump_error(path, error, 'closing it');
  return { path, size: done.size, written: done.written, quiet: done.quiet };
}
/** Whether the name of a file says that it is compressed. */
export function name_packed(path: string): boolean {
  return /\.(?:zst|gz)$/.test(path);
}
/** How a dump at `path` is packed, and what the file is called then. */
function packed(path: string, compress: boolean): { to: string; packing: Packing | null } {
  if (!compress) return { to: path, packing: null };
  const packing = packing_here(path.endsWith('.gz'));
  if (typeof packing === 'number') throw dump_error(path, packing, 'compressing it');
  return { to: path.endsWith(packing.suffix) ? path : `${path}${packing.suffix}`, packing };
}
/**
 * Writes the memory to a new file.  The caller holds no lock of the kernel; after a panic
 * any thread of the machine may call it that has not left.  Throws a KmemError that names
 * path and reason, and what a sleep throws if the machine is stopped meanwhile; then there
 * is no file.  It is compressed if its name says so, or `compress` does.
 */
export function kern_dump(path: string, compress = name_packed(path)): DumpResult {
  const room = dump_room();
  if (!panicked()) guards_check();
  const { to, packing } = packed(path, compress);
  return dump_file(to, (st) => dump_store(st, room, packing));
}
/**
 * The same of a memory that is not this thread's machine: a copy of it that was bound (kvm.ts), or,
 * where that cannot be, as it is read.
 */
export function source_dump(
  path: string,
  source: MemorySource,
  copy: { readonly quiet: boolean } | null,
): DumpResult {
  const { size } = source.head;
  const room = dump_room(size);
  const { to, packing } = packed(path, name_packed(path));
  const from = copy ? bound(size) : { size, copy: source_copy(source) };
  const flags = source.head.flags | (copy?.quiet ? DUMP_QUIET : 0);
  const h = { ...source.head, flags, release: KMEM_RELEASE, cpus: copy ? cpus() : [] };
  return dump_file(to, (st) => {
    const pages = pages_write(st, from, room, packing);
    return finish(st, size, h, pages, packing);
  });
}
function source_copy(source: MemorySource): Origin['copy'] {
  return (at, into) => {
    const got = source.read(at, into);
    return got < 0 ? -got : got < into.length ? EIO : 0;
  };
}

// --- without being asked each time ----------------------------------------------------------

/** A file that no other dump has had: by machine and time. */
function dump_path(folder: string): string {
  const id = machine_id({ id: machine.id_low[M] });
  return `${folder}/kmem-${id}-${machine.generation[M]}-${Date.now()}.core`;
}
/** Writes a dump to a folder, and says so, or why not, in a line. */
function dump_told(folder: string, why: string): void {
  let said: string;
  try {
    const { path, written } = kern_dump(dump_path(folder), sysctl_get(dump_compress) !== 0);
    said = `kmem: ${why}: the memory, secrets and all, is in ${path} (${written} bytes)`;
  } catch (e) {
    said = `kmem: ${why}: no dump was written: ${(e as Error).message}`;
  }
  kconsole.print(said);
}
/** Bits of machine.dumped: a request found no memory; an error was caught by nobody. */
const DUMPED_NOMEM = 1;
const DUMPED_ERROR = 2;
/** Whether the machine was dumped for that reason already; from now on it was. */
function dumped_before(why: number): boolean {
  return (atomic_or(field_word(machine.dumped, M), why) & why) !== 0;
}
/** In the thread that panicked: writes the dump that boot was asked for, and says so. */
export function panic_dump(): void {
  const folder = get_string(machine.dump_folder, M, FOLDER_WORDS);
  if (folder !== '') dump_told(folder, 'panic');
}
/**
 * A request has found no memory: the first time, if vm.dump_on_nomem says so, the machine is
 * dumped to boot's folder, or to the one for temporary files.  The caller holds no lock.
 */
export function nomem_dump(): void {
  if (sysctl_get(dump_on_nomem) === 0) return;
  if (dumped_before(DUMPED_NOMEM)) return;
  dump_told(get_string(machine.dump_folder, M, FOLDER_WORDS) || host_temporary(), 'no memory');
}

/**
 * An error is about to end the program: the first time, if boot was given a folder, the error's
 * text is put into the message buffer, and the machine is dumped.  The caller holds no lock.
 */
export function error_dump(text: string): void {
  const folder = get_string(machine.dump_folder, M, FOLDER_WORDS);
  if (folder === '' || panicked() || dumped_before(DUMPED_ERROR)) return;
  msgbuf_add(text);
  dump_told(folder, 'uncaught error');
}

/** Longest path that vm.dump takes, bytes. */
const PATH_MAX = 4096;
/** vm.dump: a path that is written is that of a new dump; what is read is what became of it. */
export function dump_request(req: SysctlRequest): number {
  const { new_bytes } = req;
  if (new_bytes === null) return req.out(new Uint8Array(1));
  const refuse = (errno: number, why: string): number => {
    req.reason = why;
    return errno;
  };
  if (rw_wowned(sysctl_root.mem_lock, tree())) return refuse(EINVAL, 'give a buffer of a page');
  const text = new TextDecoder().decode(new_bytes).replace(/\0$/, '');
  if (text === '' || text.includes('\0') || new_bytes.length > PATH_MAX) {
    return refuse(EINVAL, 'give the path of a file to be made');
  }
  try {
    const compress = name_packed(text) || sysctl_get(dump_compress) !== 0;
    const { path, written, quiet } = kern_dump(text, compress);
    return req.out(encoder.encode(`${JSON.stringify({ path, written, quiet })}\0`));
  } catch (e) {
    if (!(e instanceof KmemError)) throw e;
    return refuse(e.errno, e.message);
  }
}
