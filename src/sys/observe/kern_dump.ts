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
 * A dump holds whatever the program keeps in the machine: keys, passwords, other
 * people's data.  It is its owner's alone (mode 0600).
 *
 * Read next: kvm.ts, which reads it.
 */
import { kconsole } from '../machine/kconsole.ts';
import { atomic_load } from '../machine/atomic.ts';
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
import { FOLDER_WORDS, M, machine, PANIC_TEXT_WORDS } from '../machine/header.ts';
import { host_js_tid, host_who, host_who_tid } from '../machine/host.ts';
import { host_part, host_parts_clear } from '../machine/host_parts.ts';
import { mem, PAGE_WORDS } from '../machine/memory.ts';
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
import { malloc_count_words } from '../kmem/kern_malloc_sums.ts';
import { guards_check } from '../page/vm_guard.ts';
import { zone_count_words } from '../uma/uma_stats.ts';
import { DUMP_LOAD, DUMP_PANICKED, DUMP_QUIET, type DumpHead, dump_head } from './dump_elf.ts';
import { KMEM_RELEASE } from './sysctl_std.ts';

/** Bytes that are copied and written at a time. */
const PIECE = 4 * 2 ** 20;

/** A dump that was written. */
export interface DumpResult {
  /** Length of the file, bytes. */
  readonly size: number;
  /** Bytes of it that were written; the rest is holes. */
  readonly written: number;
  /** Nothing was taken or freed meanwhile: its figures are those of the machine. */
  readonly quiet: boolean;
}
/** What became of the writing: `error` is 0, or an errno, met while doing `what`. */
export interface DumpDone extends DumpResult {
  readonly error: number;
  readonly what: string;
}

// --- the pages -----------------------------------------------------------------------------

/** Room for a piece: had before any file is made, because the host may refuse it. */
export function dump_room(): Int32Array<ArrayBuffer> {
  return new Int32Array(Math.min(PIECE, get64(machine.size_bytes, M)) >> 2);
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
}
/** Writes the runs of a piece that are not zero; it lies at byte `at` of the memory. */
function piece_write(st: number, at: number, piece: Int32Array<ArrayBuffer>, to: Pages): void {
  const bytes = new Uint8Array(piece.buffer);
  for (let from = 0; from < piece.length && to.error === 0; ) {
    const first = page_next(piece, from, piece.length, false);
    from = page_next(piece, first, piece.length, true);
    if (first === from) return;
    to.error = store_write(st, DUMP_LOAD + at + first * 4, bytes.subarray(first * 4, from * 4));
    if (to.error === 0) to.written += (from - first) * 4;
  }
}
function pages_write(st: number, room: Int32Array<ArrayBuffer>): Pages {
  const size = get64(machine.size_bytes, M);
  const done: Pages = { error: 0, written: 0 };
  const bytes = new Uint8Array(room.buffer);
  for (let at = 0; at < size && done.error === 0; at += bytes.length) {
    const n = Math.min(bytes.length, size - at);
    bytes.set(mem.U8.subarray(at, at + n));
    if (n < bytes.length) bytes.fill(0, n); // behind the end: zeros are not written
    piece_write(st, at, room, done);
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
/** Whether no CPU but this one runs. */
function others_stopped(): boolean {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (cpu === thr.cpu) continue;
    const pc = pcpu_of(cpu);
    const over = atomic_load(field_word(pcpu.state, pc)) & (CPU_PARKED | CPU_DEAD | CPU_FREE);
    if (over === 0 && atomic_load(field_word(pcpu.stopped, pc)) === 0) return false;
  }
  return true;
}
function panicked(): boolean {
  return atomic_load(field_word(machine.panic_cpu, M)) !== 0;
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
  };
}

// --- the whole ---------------------------------------------------------------------------------

/**
 * Writes the machine to an empty store, which stays open.  `room` is dump_room()'s.  The
 * caller holds no lock.  Throws as a sleep does if the machine is stopped meanwhile.
 */
export function dump_store(st: number, room: Int32Array<ArrayBuffer>): DumpDone {
  const running = !panicked();
  const before = running ? counts() : [];
  if (running) away_begin();
  const { error, written } = pages_write(st, room);
  if (running) away_end();
  const quiet = running ? same(before, counts()) : others_stopped();
  const size = DUMP_LOAD + get64(machine.size_bytes, M);
  const done = { size, written: written + DUMP_LOAD, quiet };
  if (error !== 0) return { ...done, error, what: `after ${written} bytes` };
  const steps: [() => number, string][] = [
    [() => store_truncate(st, size), `making it ${size} bytes long`],
    [() => store_sync(st), 'bringing it to the disk'],
    [() => store_write(st, 0, dump_head(head(quiet))), 'writing its headers'],
    [() => store_sync(st), 'bringing its headers to the disk'],
  ];
  for (const [step, what] of steps) {
    const failed = step();
    if (failed !== 0) return { ...done, error: failed, what };
  }
  return { ...done, error: 0, what: '' };
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

/**
 * Writes the memory to a new file.  The caller holds no lock of the kernel; after a panic
 * any thread of the machine may call it that has not left.  Throws a KmemError that names
 * path and reason, and what a sleep throws if the machine is stopped meanwhile; then there
 * is no file.
 */
export function kern_dump(path: string): DumpResult {
  const room = dump_room();
  if (!panicked()) guards_check();
  const taken = store_free_name(path);
  if (taken !== 0) throw dump_error(path, taken, '');
  host_parts_clear(`${path}.`);
  const part = host_part(`${path}.`);
  const st = store_open(part, STORE_NEW);
  if (st < 0) throw dump_error(path, -st, '');
  let done: DumpDone;
  try {
    done = dump_store(st, room);
  } catch (e) {
    undone(st, '', part);
    throw e;
  }
  if (done.error !== 0) throw dump_error(path, done.error, undone(st, done.what, part));
  const named = store_name(st, path);
  if (named !== 0) throw dump_error(path, named, undone(st, 'giving it its name', part));
  const error = store_close(st);
  if (error !== 0) throw dump_error(path, error, 'closing it');
  return { size: done.size, written: done.written, quiet: done.quiet };
}

/** The file of a panic's dump: no other panic has that name. */
function panic_path(folder: string): string {
  const id = (machine.id_low[M] >>> 0).toString(16);
  return `${folder}/kmem-${id}-${machine.generation[M]}-${Date.now()}.core`;
}
/** In the thread that panicked: writes the dump that boot was asked for, and says so. */
export function panic_dump(): void {
  const folder = get_string(machine.dump_folder, M, FOLDER_WORDS);
  if (folder === '') return;
  const path = panic_path(folder);
  let said: string;
  try {
    const { written } = kern_dump(path);
    said = `kmem: panic: the memory, secrets and all, is in ${path} (${written} bytes)`;
  } catch (e) {
    said = `kmem: panic: no dump was written: ${(e as Error).message}`;
  }
  kconsole.print(said);
}
