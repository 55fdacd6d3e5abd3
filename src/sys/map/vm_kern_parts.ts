/*
 * vm_kern_parts: the parts of kernel_map that have a limit of their own.
 *
 *      exec_map     arguments of programs that are being started     pageable, waited for
 *      pipe_map     what is in pipes                                 pageable, none: ENOMEM
 *      buffer_map   pieces of 64 KiB, from which buffers are cut     wired
 *
 * Each is made when it is wanted first (kmem_suballoc), and is as large as its limit, so that the
 * limit is the map's end.  exec_map and pipe_map are no system maps: their memory is a program's,
 * comes when it is touched, and may be written to the swap area.  Who finds exec_map full waits: an
 * exec is soon over.  Who finds pipe_map full is told.
 *
 * A piece of the buffer map is used where it lies, if a run of pages is free for it: then it has a
 * place in the memory besides its address.  Both count, as one, against vm.bufmem_hiwater.
 *
 * How much is in use is the size of the map, whoever dies.
 */
import { bytes_in } from '../machine/bytes.ts';
import { E2BIG, ENOMEM } from '../machine/errno.ts';
import { howmany, PAGE_SIZE } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { vm_kern_root } from '../h/vm_kern.ts';
import { VM_MAP_PAGED, VM_MAP_SYSTEM, type vm_map_t } from '../h/vm_map.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { vm_access } from './vm_copy.ts';
import { kernel_map, kmem_alloc_run, kmem_free, kmem_run, kmem_suballoc } from './vm_kern.ts';
import { bufmem_limit, exec_map_entries, kern_root, maxpipekva_bytes } from './vm_kern_vars.ts';
import { kmem_alloc_wait, kmem_free_wakeup, uvm_km_valloc } from './vm_kern_wait.ts';

const root = vm_kern_root;

/** Bytes of the arguments of a program, and of its name. */
export const ARG_MAX = 262_144;
const PATH_MAX = 1024;
/** Pages that an exec has. */
const EXEC_PAGES = howmany(PATH_MAX + ARG_MAX, PAGE_SIZE);
/** Pages of a piece of the buffer map. */
export const BUF_PAGES = 65_536 / PAGE_SIZE;

/** The part to which a word of the root leads, of n pages. NULL: no memory for it. */
function part(of: typeof root.exec, kind: number, n: number): vm_map_t {
  const top = kernel_map();
  if (top === NULL) return top;
  const r = kern_root();
  mtx_lock(root.lock, r);
  if (of[r] === NULL) {
    // Should this thread die before its section: addresses that nobody uses.
    const sub = kmem_suballoc(top, n, kind, true);
    undo_begin(root.lock, r);
    save(of, r);
    of[r] = sub;
    undo_end();
  }
  const mp = of[r];
  mtx_unlock(root.lock, r);
  return mp;
}
export function exec_map(): vm_map_t {
  return part(root.exec, VM_MAP_PAGED, sysctl_get(exec_map_entries) * EXEC_PAGES);
}
export function pipe_map(): vm_map_t {
  return part(root.pipe, VM_MAP_PAGED, Math.floor(maxpipekva_bytes() / PAGE_SIZE));
}
export function buffer_map(): vm_map_t {
  return part(root.buffer, VM_MAP_SYSTEM, bufmem_limit());
}

// --- arguments -----------------------------------------------------------------------------------

/**
 * Puts texts one behind the other, each with a zero at its end, where an exec keeps them.  Waits
 * until there is a place.  The first page number; -E2BIG: they are too long; -ENOMEM.
 */
export function exec_args(texts: readonly string[]): number {
  const bytes = new TextEncoder().encode(texts.map((text) => `${text}\0`).join(''));
  if (bytes.length > ARG_MAX) return -E2BIG;
  const mp = exec_map();
  const at = mp === NULL ? 0 : kmem_alloc_wait(mp, EXEC_PAGES);
  if (at === 0) return -ENOMEM;
  const { error } = vm_access(mp, at * PAGE_SIZE, bytes.length, true, (to, n, done) => {
    bytes_in(to, bytes, done, n);
  });
  if (error === 0) return at;
  exec_args_free(at);
  return -error;
}
/** The exec is over: its place is another one's. */
export function exec_args_free(at: number): void {
  kmem_free_wakeup(exec_map(), at, EXEC_PAGES);
}

// --- pipes and buffers ---------------------------------------------------------------------------

/** Memory for a pipe, at least so many bytes: its first page number. 0: kern.ipc.maxpipekva. */
export function pipe_space(bytes: number): number {
  const mp = pipe_map();
  return mp === NULL ? 0 : uvm_km_valloc(mp, howmany(bytes, PAGE_SIZE));
}
/** Gives it back. */
export function pipe_space_free(at: number, bytes: number): void {
  kmem_free_wakeup(pipe_map(), at, howmany(bytes, PAGE_SIZE));
}
/** A piece of 64 KiB for buffers. */
export interface BufPiece {
  /** Its first page number. */
  readonly at: number;
  /** The page of memory at which it lies in one piece; 0: it does not. */
  readonly run: number;
}
/** A piece, of zeros; null: vm.bufmem_hiwater, or no memory. `flags` as malloc's. */
export function buf_piece(flags: number): BufPiece | null {
  const mp = buffer_map();
  const at = mp === NULL ? 0 : kmem_alloc_run(mp, BUF_PAGES, flags);
  return at === 0 ? null : { at, run: kmem_run(at, BUF_PAGES) };
}
/** Gives it back. */
export function buf_piece_free(at: number): void {
  kmem_free(buffer_map(), at, BUF_PAGES);
}
