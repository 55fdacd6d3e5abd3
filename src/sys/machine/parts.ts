/*
 * parts: what the kernel of a small program does without.
 *
 *      boot/main.ts     the system without them: what the entry kmem/core loads
 *      boot/whole.ts    the same, and fills this table: what all others load
 *
 * WITNESS, the profiler of locks, the guards of a checked boot and the writer of dumps are an
 * eighth of the kernel, and run only in machines that were booted with their options.  Where
 * the kernel comes to them it calls the functions below, behind their options.  Lists of address
 * spaces and memory objects are asked for by variables (observe/procstat_vars.ts); paging out, by
 * a request that finds no memory (map/vm_lowmem.ts); the kernel's maps, by whoever wants an address
 * of theirs (map/vm_kern_vars.ts); moving pages away, by a large block that finds no run
 * (kmem/kern_malloc.ts).  boot and
 * attach refuse a machine whose options need what this thread has not loaded (parts_refuse),
 * so none of them finds the table empty.
 *
 * The structures and variables of these parts are declared where every program has them
 * (sync/witness_vars.ts, sync/lock_prof_vars.ts): the layout of the memory and the names in it
 * are the same in every thread, whatever it has loaded.
 */
import { EOPNOTSUPP, KmemError } from './errno.ts';
import { FOLDER_WORDS, M, machine } from './header.ts';
import { kconsole } from './kconsole.ts';
import { OPTION_NAMES, opt } from './opt.ts';
import type { sbuf } from './sbuf.ts';
import type { zone_t } from '../h/uma.ts';
import { get_string } from './struct.ts';
import type { SysctlHandler } from './sysctl_decl.ts';

/** What looks at blocks of malloc: memguard, redzone, stacks (kmem/kern_detect.ts). */
export interface MallocDetect {
  /**
   * A block of another kind, or with something noted about it; 0: as if nobody looked; NO_BLOCK:
   * there is no memory, and that is counted.
   */
  readonly alloc: (size: number, t: number, flags: number) => number;
  /** Frees the block at p, on a marked page, if it is a detector's. */
  readonly free: (p: number, t: number) => boolean;
  /**
   * Bytes that were asked for of the block that a program has at p; -1: it is no detector's; -2: it
   * lies in one, which begins elsewhere.
   */
  readonly size: (p: number) => number;
  /** What lies at p if it is in a detector's block, in a phrase; '': it is in none. */
  readonly what?: (p: number) => string;
}
/** What notes who had an item of a zone (kmem/kern_note.ts). */
export interface ZoneNote {
  /** An item was taken, and nobody has it yet. */
  readonly zalloc: (z: number, item: number) => void;
  /** Whether nothing is noted of the item, nor of others of its page. */
  readonly quiet: (item: number) => boolean;
  /** One is about to be given back. */
  readonly zfree: (z: number, item: number) => void;
}
/** What MallocDetect.alloc answers where a request has failed. */
export const NO_BLOCK = -1;
/** Guarded blocks (kmem/memguard.ts). */
export interface MemGuard {
  /** Something that says what is guarded was changed. */
  readonly update: () => void;
  /** A zone was made: whether memguard is asked for its items. */
  readonly zone_made: (z: zone_t) => void;
  /** An item of a zone; 0: it is taken from the zone. */
  readonly zalloc: (z: zone_t, flags: number) => number;
  /** Copies bytes of the memory, from word `p` on, to the guarded block at word `q`. */
  readonly copy: (q: number, p: number, bytes: number) => void;
  /** Memory is short: the pages of freed blocks that wait go. Returns how many. */
  readonly empty: () => number;
  /** Proves all of it. The machine is quiet. */
  readonly check: () => void;
}
export interface KernelParts {
  readonly witness_boot: () => void;
  readonly witness_init: (l: number) => void;
  readonly witness_checkorder: (l: number, exclusive: boolean) => void;
  readonly witness_lock: (l: number, exclusive: boolean) => void;
  readonly witness_unlock: (l: number, exclusive: boolean) => void;
  readonly witness_sleep: (what: string, except: number) => boolean;
  readonly witness_badstacks: (s: sbuf) => void;
  readonly witness_fullgraph: (s: sbuf) => void;
  readonly prof_boot: () => void;
  readonly prof_contended: (l: number) => void;
  readonly prof_acquired: (l: number, contended: boolean, waited_ms: number) => void;
  readonly prof_released: (l: number) => void;
  readonly prof_stats: (s: sbuf) => void;
  readonly prof_reset: () => void;
  readonly prof_acquisitions: () => number;
  readonly checked_boot: () => void;
  readonly checked_letters: () => void;
  readonly checked_fresh: (p: number, size: number) => void;
  readonly checked_publish: (p: number) => void;
  readonly checked_quiet: (on: boolean) => void;
  readonly panic_dump: () => void;
  readonly kdb_enter?: (why: string, message: string) => number;
  readonly kdb_panic?: () => void;
  readonly nomem_dump?: () => void;
  readonly dump_request?: SysctlHandler;
  readonly vmmap_report?: SysctlHandler;
  readonly objects_report?: SysctlHandler;
  readonly vmtotal_report?: SysctlHandler;
  readonly pageout_free?: (n: number) => number;
  readonly contig_run?: (n: number, req: number, wait: boolean) => number;
  readonly detect?: MallocDetect;
  readonly memguard?: MemGuard;
  readonly note?: ZoneNote;
  /** Turns the sampling of stacks on or off. */
  readonly stack_switch?: (on: boolean) => void;
  /** Samples are drawn anew on all CPUs. */
  readonly stack_redraw?: () => void;
  readonly stackprof_report?: SysctlHandler;
  readonly audit_switch?: (names: string) => void;
  /** What is known of the block or item at word p: lines, the newest operation first. */
  readonly item_history?: (p: number) => string[];
  readonly kmem_reap?: (cpu: number) => void;
  kernel_fault?(mp: number, vpn: number, access: number): number;
}
export const kernel_parts = {} as KernelParts;

/** Fills the table. */
export function parts_begin(all: KernelParts): void {
  Object.assign(kernel_parts, all);
}
function parts_there(): boolean {
  return kernel_parts.witness_boot !== undefined;
}
/** Options that need the table. */
const NEED: readonly string[] = ['WITNESS', 'MUTEX_PROFILING', 'CHECKED'];
/** Throws EOPNOTSUPP if a machine with this option word needs what is not loaded. */
export function parts_refuse(op: string, word: number): void {
  const needs = OPTION_NAMES.filter((name, bit) => word & (1 << bit) && NEED.includes(name));
  if (needs.length > 0 && !parts_there()) parts_missing(op, `the option ${needs.join(', ')}`);
}
/** Throws EOPNOTSUPP unless this thread can write dumps. */
export function parts_refuse_dump(op: string): void {
  if (!parts_there()) parts_missing(op, 'a dump');
}
/** Throws EOPNOTSUPP unless this thread can do what a level of debugging asks for. */
export function parts_refuse_debug(op: string, level: string): void {
  if (level !== 'off' && !parts_there()) parts_missing(op, `the debug level ${level}`);
}
function parts_missing(op: string, what: string): never {
  const text = `${what} needs what kmem/core leaves out: load 'kmem' first`;
  throw new KmemError(EOPNOTSUPP, op, text);
}

/** What is known of the block or item at word p, for a panic: a text of some lines, or none. */
export function item_history(p: number): string[] {
  const lines = kernel_parts.item_history?.(p) ?? [];
  return lines.length === 0 ? [] : [`\n${lines.join('\n')}`];
}

// --- WITNESS: the order in which locks are taken (sync/witness.ts) ------------------------

/** Lays its tables out. */
export function witness_boot(): void {
  if (opt.WITNESS) kernel_parts.witness_boot();
}
/** A lock is made at `l`. */
export function witness_init(l: number): void {
  kernel_parts.witness_init(l);
}
/** A lock is about to be taken, perhaps after a wait. */
export function witness_checkorder(l: number, exclusive: boolean): void {
  kernel_parts.witness_checkorder(l, exclusive);
}
/** A lock was taken. */
export function witness_lock(l: number, exclusive: boolean): void {
  kernel_parts.witness_lock(l, exclusive);
}
/** A lock is given back. Panics if this CPU does not hold it that way. */
export function witness_unlock(l: number, exclusive: boolean): void {
  kernel_parts.witness_unlock(l, exclusive);
}
/** Before sleeping; whether locks are held that must not be. `except`: given up, 0 none. */
export function witness_sleep(what: string, except: number): boolean {
  return kernel_parts.witness_sleep(what, except);
}

// --- MUTEX_PROFILING: how long they are held and waited for (sync/lock_prof.ts) -------------

/** Lays its tables out. */
export function prof_boot(): void {
  if (opt.MUTEX_PROFILING) kernel_parts.prof_boot();
}
/** A CPU found the lock held and is about to wait. */
export function prof_contended(l: number): void {
  kernel_parts.prof_contended(l);
}
/** A lock was taken, after `waited_ms` if it was held by another. */
export function prof_acquired(l: number, contended: boolean, waited_ms: number): void {
  kernel_parts.prof_acquired(l, contended, waited_ms);
}
/** A lock is given back. */
export function prof_released(l: number): void {
  kernel_parts.prof_released(l);
}

// --- CHECKED: a guard on every field (sync/checked.ts, boot/checked_letters.ts) ---------------

/** Installs the guards in this thread. For boot and for each attach. */
export function checked_boot(): void {
  if (opt.CHECKED) kernel_parts.checked_boot();
}
/** Says what each lock letter means. For boot and for each attach. */
export function checked_letters(): void {
  if (opt.CHECKED) kernel_parts.checked_letters();
}
/** The record of `size` words at `p` is being made: no rule holds for it yet. */
export function checked_fresh(p: number, size: number): void {
  if (opt.CHECKED) kernel_parts.checked_fresh(p, size);
}
/** The record at `p` is made: from here on others may find it. */
export function checked_publish(p: number): void {
  if (opt.CHECKED) kernel_parts.checked_publish(p);
}
/** A walker reads what is another CPU's own: nobody is at work meanwhile. */
export function checked_quiet(on: boolean): void {
  if (opt.CHECKED) kernel_parts.checked_quiet(on);
}

// --- the debugger (observe/ddb/kern_kdb.ts) ------------------------------------------------------

/** In the thread that panicked: says where it was, and enters the debugger, if that is wanted. */
export function kdb_panic(): void {
  kernel_parts.kdb_panic?.();
}

// --- dumps (observe/kern_dump.ts) -------------------------------------------------------------

/** In the thread that panicked: writes the dump that boot was asked for, and says so. */
export function panic_dump(): void {
  if (parts_there()) kernel_parts.panic_dump();
  else if (get_string(machine.dump_folder, M, FOLDER_WORDS) !== '') {
    kconsole.print('kmem: panic: no dump was written: this thread has loaded kmem/core alone');
  }
}
