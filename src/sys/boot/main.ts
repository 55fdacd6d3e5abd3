/*
 * main: the life of the system.
 *
 * Reading this file is reading the architecture.  The tables say, a line each, in which
 * order the machine comes up and what happens when a thread becomes a CPU, leaves, or
 * is found dead; when a CPU has nothing to do, is rung, panics, or memory is short; and what
 * makes a structure sound whose lock a dead thread held.  No file registers itself:
 * what is not in a table here does not happen.
 *
 * In the boot table each floor stands on those above it in the list, and needs
 * nothing of those below.
 */
import { isa_dma_boot } from '../h/isa_dma.ts';
import { quarantine_empty } from '../kmem/kern_quarantine.ts';
import { vm_page_busy_reap } from '../page/vm_page_busy.ts';
import { guards_check, guards_idle } from '../page/vm_guard.ts';
import { vm_page_cache_reap } from '../page/vm_page_cache.ts';
import {
  EBUSY,
  EINVAL,
  ENAMETOOLONG,
  ENOMEM,
  EOPNOTSUPP,
  ESHUTDOWN,
  KmemError,
} from '../machine/errno.ts';
import {
  type Handle,
  machine_bind,
  machine_boot,
  machine_find,
  machine_freeze,
  machine_handle,
  machine_open,
  machine_refuses,
  machine_unboot,
} from '../machine/machdep.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import { away_begin, away_end, MAXCPU, thr } from '../machine/cpu.ts';
import {
  slot_joined,
  slot_leave,
  slot_start,
  slot_take,
  slot_take_spare,
  slot_untake,
  slots_full,
  slots_left,
  slots_settle,
  type Taken,
  thr_forget,
} from '../machine/cpu_slots.ts';
import { claim_stuck, claims_reap, is_down, reap_all, slots_close } from '../machine/death.ts';
import { FOLDER_WORDS, M, machine, PHASE_DOWN, PHASE_UP, SITE_WORDS } from '../machine/header.ts';
import { host_cpus, host_sleep } from '../machine/host.ts';
import { kdb_attach, kdb_boot, kdb_wait } from '../machine/kdb.ts';
import { kenv_options, kenv_tunables } from '../machine/kenv.ts';
import { type Line, life, life_begin } from '../machine/life.ts';
import { type AtomicsKind, memory_size, memory_state } from '../machine/memory.ts';
import { OPTION_NAMES, OPTION_NUMBER, opt_word, type WantedOptions } from '../machine/opt.ts';
import { KernelPanic } from '../machine/panic.ts';
import {
  checked_boot,
  checked_letters,
  kdb_panic,
  kernel_parts,
  panic_dump,
  parts_refuse,
  parts_refuse_debug,
  parts_refuse_dump,
  prof_boot,
  witness_boot,
} from '../machine/parts.ts';
import { store_files } from '../machine/store.ts';
import { opfs_folder } from '../machine/store_opfs.ts';
import { field_word, get_string, set_string } from '../machine/struct.ts';
import { web_locks_attach } from '../machine/web_locks.ts';
import { mb_reclaim, mbuf_attach, mbuf_boot, mbuf_init } from '../client/kern_mbuf.ts';
import {
  registry_boot,
  registry_leave,
  registry_lock_label,
  registry_reap,
  registry_recover,
} from '../client/kern_registry.ts';
import '../client/mbuf_leak.ts';
import '../client/kern_mbstat.ts';
import '../client/uipc_mbuf_shape.ts';
import '../kmem/kern_malloc_stats.ts';
import {
  malloc_boot,
  malloc_class_counts,
  malloc_lost_reap,
  malloc_startup,
  malloc_type_name_of,
  malloc_types_recover,
  mcache_attach,
} from '../kmem/kern_malloc_type.ts';
import { mprof_boot } from '../kmem/kern_mprof.ts';
import { stack_boot, stack_startup } from '../kmem/kern_stack_vars.ts';
import { multizone_panic } from '../kmem/kern_multizone.ts';
import { memguard_boot, memguard_startup } from '../kmem/memguard_vars.ts';
import { redzone_boot } from '../kmem/redzone_vars.ts';
import { kmeminit, kmem_limit } from '../kmem/kmem_size.ts';
import { vm_map_boot, vm_map_reap, vm_map_rebuild, vm_map_startup } from '../map/vm_map.ts';
import { vm_hold_idle, vm_hold_startup } from '../map/vm_hold.ts';
import { vm_map_keep_leave, vm_map_keep_reap } from '../map/vm_map_keep.ts';
import { vm_kern_boot, vm_kern_reap } from '../map/vm_kern_vars.ts';
import '../map/vm_vars.ts';
import { vm_region_startup } from '../map/vm_region.ts';
import { loan_object_end, vm_loan_adopt } from '../map/vm_loan_object.ts';
import { vm_loan_boot, vm_loan_leave, vm_loan_reap, vm_loan_startup } from '../map/vm_loan.ts';
import {
  vm_window_boot,
  vm_window_leave,
  vm_window_reap,
  vm_window_startup,
} from '../map/vm_window.ts';
import { lowmem_call, lowmem_heard, vm_reclaim } from '../map/vm_lowmem.ts';
import {
  pageout_again,
  pageout_start_never,
  pageout_want,
  vm_pageout_boot,
  vm_pageout_leave,
  vm_pageout_reap,
} from '../map/vm_pageout_vars.ts';
import { copies_check } from './copies.ts';
import { type DebugLevel, debug_is_level, debug_level_set, debug_no_level } from './debug_level.ts';
import { kernel_locks_held } from './held_locks.ts';
import { opfs_start, pagedaemon_again } from './pagedaemon.ts';
import '../sync/lock_prof_vars.ts';
import '../sync/witness_vars.ts';
import '../observe/kdb_vars.ts';
import { sysctl_tree_boot } from '../observe/sysctl_std.ts';
import { sysctl_reap, tree_recover } from '../observe/sysctl_tree.ts';
import { vm_page_boot, vm_page_idle, vm_page_reap, vm_page_startup } from '../page/vm_page.ts';
import { PHYS_COLUMNS } from '../page/vm_phys.ts';
import { vm_reserv_recover } from '../page/vm_reserv.ts';
import { budget_reap } from '../uma/uma_budget.ts';
import { keg_recover, uma_lists_recover } from '../uma/uma_check.ts';
import { poll_uma, uma_leave, uma_reap } from '../uma/uma_drain.ts';
import { MULTIZONE_MOST } from '../h/malloc.ts';
import { PK_LOAN, PK_MALLOC, PK_OBJECT, PK_SLAB, PK_TABLE } from '../h/vm_page.ts';
import { slab_page_unowned } from '../uma/uma_keg.ts';
import { uma_boot, uma_startup } from '../uma/uma_zone.ts';
import { vm_object_boot, vm_object_reap, vm_object_startup } from '../object/vm_object.ts';
import { object_cache_free } from '../object/vm_object_cache.ts';
import { loan_page_unowned } from '../object/vm_object_loan.ts';
import { object_page_unowned } from '../object/vm_object_page.ts';
import {
  vm_store_boot,
  vm_store_heard,
  vm_store_leave,
  vm_store_reap,
  vm_store_startup,
} from '../object/vm_store.ts';
import { store_post_reap } from '../object/store_post.ts';
import { vnode_boot, vnode_startup } from '../object/vm_vnode.ts';
import '../object/vnode_pager.ts';
import { vnode_reap, vnode_sync_all } from '../object/vnode_sync.ts';
import { limbo_boot, vm_page_limbo_idle } from '../page/vm_page_limbo.ts';
import { swap_boot, swap_reap } from '../object/swap_area.ts';
import { swap_leftovers, swap_shutdown, swap_startup } from '../object/swap_on.ts';
import '../object/swap_pager.ts';
import { pageq_boot } from '../page/vm_pageq.ts';
import { pmap_recover, pmap_startup } from '../pmap/pmap.ts';
import { pmap_boot } from '../pmap/pmap_pv.ts';
import { table_unowned } from '../pmap/pmap_table.ts';
import { tlb_leave, tlb_reap } from '../pmap/pmap_tlb.ts';
import { lock_order } from '../sync/lock_order.ts';
import { rw_leave } from '../sync/rw_death.ts';
import { chain_rebuild, locks_reap, sleepq_boot, sleepq_reap } from '../sync/subr_sleepqueue.ts';
import { undo_private_reap } from '../sync/undo.ts';

/** What a machine is like; all of it may be left out. */
export interface BootOptions {
  /** Bytes, or a size such as '256M'. 1M to 8G. Default 64M. */
  memory?: number | string;
  /** CPU slots, 1 to 64: threads that may be attached at a time. Default: the host's cores + 2. */
  cpus?: number;
  /** Kernel options that are off by default: INVARIANTS, WITNESS …; true, or a number of zones. */
  options?: WantedOptions;
  /**
   * Boots with guards on every structure field and column, which test the rule of its lock
   * letter, and with WITNESS: about 175 times slower, for tests.  Default false.
   */
  checked?: boolean;
  /**
   * Finds what a program does wrong with memory: INVARIANTS (every double free, writes after
   * free, overwritten kernel records), QUARANTINE (the same for large blocks), from 16 MiB of
   * memory on MALLOC_DEBUG_MAXZONES (which types may have done it), and the level 'advanced'.  For
   * tests and for the hunt: some times slower.  Or a level alone, which machine.debug() can set
   * later, too: 'simple' notes the stacks of some requests, 'advanced' those of more, and puts a
   * redzone before and behind each block of malloc, 'paranoid' notes every stack and the last
   * operations of each block, and guards some blocks by pages of their own (memguard).  What
   * `set` gives counts, whatever the level says.  Default: the level that KMEM_DEBUG names in the
   * environment, else false.
   */
  debug?: boolean | DebugLevel;
  /** Tunables: name and value, such as { 'vm.kmem_size': 2 ** 24 }. */
  set?: Record<string, number | string>;
  /** New memory even where the old one could serve again. Default false. */
  fresh?: boolean;
  /** How atomic operations are done. Default 'auto': by WebAssembly where there is any. */
  atomics?: AtomicsKind;
  /**
   * Starts the page daemon in a thread of its own; it takes one of the slots.  Default: when a
   * space is used while several threads are attached, and slots are left.  False: never.
   */
  pagedaemon?: boolean;
  /** Further threads that write pages to the swap area and to files, 0 to 16. Default 0. */
  pagers?: number;
  /**
   * In a browser: starts a thread that keeps files of the origin's private file system open for
   * all others, for swap areas; it takes one of the slots.  Default false.
   */
  opfs?: boolean;
  /** Memory domains, 1 to 8: parts of memory that CPUs prefer. Default 1. */
  domains?: number;
  /** Seed of the kernel's random generator. Default: the clock. */
  seed?: number;
  /**
   * Folder in which a panic, or an error that nobody catches, leaves a dump of the memory, with
   * all secrets of the program in it.  Default false: none is written.
   */
  dump?: string | false;
}
export interface Booted {
  readonly handle: Handle;
  readonly cpu: number;
  shutdown(): void;
}

/** What lies in columns, in the order of their place in memory. */
const COLUMNS = PHYS_COLUMNS;

/** Brings the floors up, lowest first, on the CPU that boots. */
const BOOT: readonly Line<[taken: Taken]>[] = [
  [kdb_boot, 'where the debugger keeps what it needs'],
  [sleepq_boot, 'who sleeps for what, and how they are woken'],
  [checked_boot, 'in a checked boot: guards on every field of every structure'],
  [witness_boot, 'the order in which locks may be taken'],
  [prof_boot, 'how long they are held and waited for'],
  [vm_page_boot, 'where the free pages will be noted'],
  [uma_boot, 'the first zones, laid out by hand'],
  [limbo_boot, 'freed pages that some CPU may still use'],
  [pageq_boot, 'the queues of pages that have owners'],
  [swap_boot, 'where swap areas will be noted'],
  [pmap_boot, 'where pages are mapped'],
  [vm_store_boot, 'where stores will be noted: files that pages come from'],
  [vm_object_boot, 'where memory objects will be noted'],
  [vnode_boot, 'where files will be noted'],
  [vm_map_boot, 'where address spaces will be noted'],
  [vm_kern_boot, "where the kernel's maps will be noted"],
  [memguard_boot, 'where guarded blocks will be noted'],
  [vm_pageout_boot, 'who gets pages back'],
  [vm_window_boot, 'where windows onto them will be noted'],
  [vm_loan_boot, 'where loans of their pages will be noted'],
  [malloc_boot, 'the list of malloc types'],
  [isa_dma_boot, 'the channels of the ISA bus, without buffers yet'],
  [mbuf_boot, 'where the zones of buffer chains will be noted'],
  [registry_boot, 'the names of objects that every thread finds'],
  [stack_boot, 'where stacks will be kept, if somebody keeps some'],
  [mprof_boot, 'which sizes are asked for, if the option is on'],
  [slot_start, 'this thread becomes CPU 0: from here on locks work'],
  [() => sysctl_tree_boot(), 'names and numbers of all that can be seen and set'],
  [vm_page_startup, 'every page that is left becomes a free page'],
  [kmeminit, 'how many of them malloc and the zones may hold'],
  [uma_startup, 'the zones of zones, kegs, slabs and buckets'],
  [pmap_startup, 'zones of page tables, and of pages that are mapped twice'],
  [vm_store_startup, 'the zone of stores'],
  [vm_object_startup, 'zones of memory objects and of the indexes of their pages'],
  [vnode_startup, 'the zone of files'],
  [vm_map_startup, 'zones of address spaces and of their entries'],
  [vm_region_startup, 'zone of the named parts of address spaces'],
  [vm_hold_startup, 'zone of what threads of the kernel have wired'],
  [vm_window_startup, 'the zone of windows, and how many pages they may hold'],
  [vm_loan_startup, 'the zone of loans, and how many pages may be lent'],
  [swap_startup, 'whether there will be a swap file if need be'],
  [swap_leftovers, 'swap files of processes that are gone are removed'],
  [malloc_startup, 'size classes and the declared types'],
  [redzone_boot, 'whether blocks have a pattern before and behind'],
  [mbuf_init, 'mbufs and clusters, and how many there may be'],
  [stack_startup, 'whether some requests are noted with their stack'],
  [checked_letters, 'in a checked boot: what each lock letter means'],
  [memguard_startup, 'which blocks are guarded, if the boot parameters say some'],
];

life_begin({
  attach: [
    [kdb_attach, 'no debugger holds this CPU'],
    [mcache_attach, "malloc's fast path finds the caches of this CPU"],
    [mbuf_attach, 'the fast path of mbufs finds its zones'],
    [web_locks_attach, 'in a browser: a lock that tells others when this thread is gone'],
  ],
  leave: [
    [registry_leave, 'it has no named objects any more; locks that it holds are abandoned'],
    [rw_leave, 'locks that it reads are given back'],
    [tlb_leave, 'it translates no addresses any more'],
    [vm_map_keep_leave, 'it keeps no address spaces any more'],
    [vm_pageout_leave, 'others may start the threads that page out, if it did and none came'],
    [vm_window_leave, 'its windows onto address spaces are closed'],
    [vm_loan_leave, 'pages that were lent to it go back'],
    [vm_store_leave, 'nobody is led to files that it has open'],
    [uma_leave, 'what this CPU caches goes to the zones'],
  ],
  death_lockless: [
    [locks_reap, 'locks it held are taken over: its undo logs are played back'],
    [claims_reap, 'CPUs that it claimed may come back'],
  ],
  death: [
    [store_post_reap, "what it asked of a browser's files is taken back, or waited for"],
    [sleepq_reap, 'its sleeps end; a wake-up it was sent goes to the next'],
    [undo_private_reap, 'what it alone was changing is put back: its private undo sections'],
    [vm_pageout_reap, 'it gets no pages back any more: another one does'],
    [vm_page_reap, 'pages in its hand become free'],
    [vm_page_busy_reap, 'pages that it had busy become free, or go back to their owners'],
    [tlb_reap, 'it translates no addresses any more'],
    [swap_reap, 'slots of the swap area that it had on their way become free'],
    [vnode_reap, 'files that it was making shorter are as long as they are'],
    [vm_object_reap, 'references to memory objects that it had on their way are given up'],
    [vm_window_reap, 'its windows onto address spaces are closed'],
    [vm_loan_reap, 'pages that were lent to it go back'],
    [vm_map_reap, 'address spaces that it had in hand, and what it took out of others, go'],
    [vm_kern_reap, 'kernel addresses that it was filling or emptying are free'],
    [vm_map_keep_reap, 'it keeps no address spaces any more'],
    [vm_store_reap, 'it has no files open, and no references to stores on their way'],
    [vm_page_cache_reap, 'so do those in its page cache'],
    [budget_reap, 'it is about to take no pages any more'],
    [uma_reap, 'items in its hand go back, its caches go to the zones'],
    [malloc_lost_reap, 'items it had taken and not yet counted are counted as lost'],
    [sysctl_reap, 'handlers that it ran are waited for no more'],
    [registry_reap, 'objects that it was making or ending are taken back; it has none any more'],
  ],
  bell: [
    [poll_uma, 'caches are handed over to those who asked for them'],
    [vm_store_heard, 'files of stores that ended are closed'],
    [lowmem_heard, 'subscribers of this thread hear that memory is short'],
    [pageout_again, 'threads that page out are started in place of those that died'],
  ],
  idle: [
    [vm_hold_idle, 'what the dead had wired is so no more'],
    [vm_page_limbo_idle, 'pages that nobody may use any more become free'],
    [vm_page_idle, 'free pages are zeroed ahead'],
    [guards_idle, 'pages that nobody may touch are looked at'],
  ],
  panic: [
    [multizone_panic, 'which types may have damaged the zone that is named'],
    [kdb_panic, 'where it was, and the debugger on a terminal, if that is wanted'],
    [panic_dump, 'the memory is written to a file, if boot was given a folder'],
  ],
  lowmem: [
    [vm_loan_adopt, 'lent pages that only a mapping has become its own, and may be paged out'],
    [mb_reclaim, 'protocols let go of packets that they keep'],
    [lowmem_call, "the program's subscribers in this thread"],
  ],
  recover: {
    'sysctl tree': [tree_recover, 'walked: it is clean, or the machine stops'],
    pmap: [pmap_recover, 'no CPU goes on with a translation that the dead one took back'],
    'VM map': [vm_map_rebuild, 'the tree is made anew from the ring of entries'],
    'kernel map': [vm_map_rebuild, 'the same'],
    'page free': [vm_reserv_recover, 'free and reserved pages are found again in the page array'],
    'sleep queue': [chain_rebuild, 'the list is made anew from the sleep records'],
    // The others are undone; these lines are for a section that was too long for its log.
    registry: [registry_recover, 'walked: the names are in their buckets, or the machine stops'],
    malloc: [malloc_types_recover, 'walked: the list of types is whole, or the machine stops'],
    'UMA lock': [uma_lists_recover, 'walked: kegs and zones'],
    'UMA zone': [keg_recover, 'walked: slabs and full buckets of one keg'],
    'UMA bucket': [keg_recover, 'the same'],
    'UMA slab': [keg_recover, 'the same'],
  },
  page_unowned: new Map([
    [PK_SLAB, slab_page_unowned],
    [PK_MALLOC, slab_page_unowned],
    [PK_OBJECT, object_page_unowned],
    [PK_TABLE, table_unowned],
    [PK_LOAN, loan_page_unowned],
  ]),
  claim_stuck,
  locks_held: kernel_locks_held,
  reclaim: vm_reclaim,
  unhold: (cached) =>
    quarantine_empty() + (kernel_parts.memguard?.empty() ?? 0) + (cached ? object_cache_free() : 0),
  object_loan_end: loan_object_end,
  class_counts: malloc_class_counts,
  type_name: malloc_type_name_of,
  lock_label: registry_lock_label,
  hold_wait: kdb_wait,
});
/** Every class of lock that says so has its line, and no line is for nothing. */
function recover_check(): void {
  for (const { name, recovery } of lock_order) {
    const wanted = recovery === 'rebuild' || recovery === 'walk';
    if (recovery === 'undo') continue; // a line, where a walk can tell, is for the worst case
    if (wanted === (life.recover[name] !== undefined)) continue;
    throw new Error(`main: the recovery of lock class '${name}' is ${recovery}, its line says not`);
  }
}
recover_check();

/** Brings the floors up; where that fails, this thread is no CPU and may boot again. */
function boot_floors(taken: Taken): void {
  try {
    for (const [run] of BOOT) run(taken);
  } catch (e) {
    machine_unboot(taken);
    thr_forget(true);
    if (!(e instanceof KernelPanic) || !/no memory/.test(e.message)) throw e;
    const limited = kmem_limit() > 0 && kmem_limit() < memory_state.size;
    const what = limited ? `vm.kmem_size of ${kmem_limit()} bytes` : 'the memory';
    throw new KmemError(ENOMEM, 'boot', `${what} is too small for the kernel itself: give more`);
  }
}

/**
 * Makes a machine and makes this thread its CPU 0.  Throws EBUSY if the thread
 * is a CPU already, EINVAL for a bad option, ENOMEM if the memory is too small.
 */
export function boot(o: BootOptions = {}): Booted {
  if (thr.cpu >= 0) {
    const site = get_string(machine.site, M, SITE_WORDS);
    throw new KmemError(EBUSY, 'boot', `a machine is up in this thread, booted at ${site}`);
  }
  copies_check('boot');
  boot_check(o);
  const tunables = kenv_tunables(o.set ?? {});
  machine_freeze();
  const options = opt_word({
    ...(o.debug === true ? debug_options(o) : {}),
    ...kenv_options(tunables),
    ...o.options,
    ...(o.debug === true ? { INVARIANTS: true, QUARANTINE: true } : {}),
    ...(o.checked ? { CHECKED: true } : {}),
  });
  parts_refuse('boot', options);
  const taken = machine_boot({
    size: memory_size(o.memory ?? DEFAULT_MEMORY),
    cpus: o.cpus ?? Math.min(host_cpus() + 2, MAXCPU),
    options,
    atomics: o.atomics ?? 'auto',
    fresh: o.fresh ?? false,
    domains: boot_domains(o.domains ?? 1),
    site: caller_site(),
    seed: o.seed ?? Date.now(),
    tunables,
    columns: COLUMNS,
  });
  boot_floors(taken);
  if (o.dump) set_string(machine.dump_folder, M, FOLDER_WORDS, o.dump);
  atomic_store(field_word(machine.phase, M), PHASE_UP);
  machine_open(taken.generation);
  slot_joined();
  boot_debug(o.debug ?? false, tunables);
  const handle = machine_handle();
  const pagers = o.pagers ?? 0;
  if (o.pagedaemon === false) pageout_start_never();
  else if (o.pagedaemon || pagers > 0) {
    pageout_want(1 + pagers);
    pagedaemon_again();
  }
  if (o.opfs) opfs_start(handle); // files of a browser
  return { handle, cpu: thr.cpu, shutdown };
}
/** What a debug boot has besides, unless it is told otherwise. */
function debug_options(o: BootOptions): WantedOptions {
  const enough = memory_size(o.memory ?? DEFAULT_MEMORY) >= MANY_ZONES_MEMORY;
  return enough ? { MALLOC_DEBUG_MAXZONES: true } : {};
}
const DEFAULT_MEMORY = '64M';
/** In less the slabs of so many zones would leave little for the program. */
const MANY_ZONES_MEMORY = 2 ** 24;
/** Every name in BootOptions. */
const KNOWN: Record<keyof BootOptions, true> = {
  memory: true,
  cpus: true,
  options: true,
  checked: true,
  debug: true,
  set: true,
  fresh: true,
  atomics: true,
  pagedaemon: true,
  pagers: true,
  opfs: true,
  domains: true,
  seed: true,
  dump: true,
};
/** Throws EINVAL for what TypeScript would have refused: a name that is none, above all. */
function boot_check(o: BootOptions): void {
  const known = (what: string, given: object, names: readonly string[]): void => {
    const wrong = Object.keys(given).find((name) => !names.includes(name));
    if (wrong === undefined) return;
    const text = `${what} '${wrong}': there is no such ${what}; known: ${names.join(', ')}`;
    throw new KmemError(EINVAL, 'boot', text);
  };
  known('option', o, Object.keys(KNOWN));
  known('kernel option', o.options ?? {}, [...OPTION_NAMES, OPTION_NUMBER]);
  boot_check_number(o.options?.[OPTION_NUMBER] ?? 0);
  if (typeof o.debug === 'string') {
    if (!debug_is_level(o.debug)) throw debug_no_level('boot', `'${o.debug}'`);
    parts_refuse_debug('boot', o.debug);
  }
  known('way of atomics', { [o.atomics ?? 'auto']: true }, ['auto', 'wasm', 'atomics']);
  if (o.seed !== undefined && !Number.isSafeInteger(o.seed)) {
    throw new KmemError(EINVAL, 'boot', `seed: ${o.seed} is not a whole number`);
  }
  boot_check_pagers(o.pagers ?? 0, o.pagedaemon);
  if (o.opfs && opfs_folder() === null) {
    throw new KmemError(EOPNOTSUPP, 'boot', 'opfs: this host has no file system of an origin');
  }
  if (o.dump !== undefined && o.dump !== false) boot_check_dump(o.dump);
}
/** With the core alone `true` has no level: what that would set is not there. */
function boot_debug(debug: boolean | DebugLevel, given: ReadonlyMap<string, unknown>): void {
  if (debug === false || (debug === true && !kernel_parts.stack_switch)) return;
  debug_level_set(debug === true ? 'advanced' : debug, given); // errno: boot_check has looked
}
const FOLDER_BYTES_MAX = FOLDER_WORDS * 4 - 1;
function boot_check_dump(folder: unknown): void {
  if (typeof folder !== 'string' || folder === '' || folder.includes('\0')) {
    throw new KmemError(EINVAL, 'boot', 'dump: give the path of a folder, or false');
  }
  const bytes = new TextEncoder().encode(folder).length;
  if (bytes > FOLDER_BYTES_MAX) {
    const text = `dump: the path has ${bytes} bytes, more than ${FOLDER_BYTES_MAX}`;
    throw new KmemError(ENAMETOOLONG, 'boot', text);
  }
  if (!store_files()) throw new KmemError(EOPNOTSUPP, 'boot', 'dump: this host has no files');
  parts_refuse_dump('boot');
}
function boot_check_number(zones: number | boolean): void {
  if (typeof zones === 'boolean') return;
  if (Number.isInteger(zones) && zones >= 0 && zones <= MULTIZONE_MOST) return;
  const text = `${OPTION_NUMBER}: ${zones} is not a whole number from 0 to ${MULTIZONE_MOST}`;
  throw new KmemError(EINVAL, 'boot', text);
}
const PAGERS_MAX = 16;
function boot_check_pagers(n: number, daemon: boolean | undefined): void {
  if (!Number.isInteger(n) || n < 0 || n > PAGERS_MAX) {
    throw new KmemError(EINVAL, 'boot', `pagers: ${n} is not a whole number from 0 to 16`);
  }
  if (n > 0 && daemon === false) {
    throw new KmemError(EINVAL, 'boot', 'pagers: there are none without pagedaemon');
  }
}
function boot_domains(n: number): number {
  if (Number.isInteger(n) && n >= 1 && n <= 8) return n;
  throw new KmemError(EINVAL, 'boot', `domains: ${n} is not a whole number from 1 to 8`);
}

/** Makes this thread a CPU of the machine that the handle names. Returns its slot. */
export function attach(handle: Handle): number {
  if (thr.cpu >= 0) {
    throw new KmemError(EBUSY, 'attach', `this thread is CPU ${thr.cpu} of a machine already`);
  }
  copies_check('attach');
  machine_freeze();
  machine_find(handle);
  const until = now_ms() + SETTLE_WAIT_MS;
  let taken = slot_take(handle.generation);
  for (; taken === null; taken = slot_take(handle.generation)) {
    machine_refuses(handle);
    if (!settle_from_spare(handle) && now_ms() > until) slots_full();
  }
  attach_as(handle, taken);
  slot_joined();
  return thr.cpu;
}
/** How long an attacher looks for slots that the dead hold, ms: a thread is gone a little late. */
const SETTLE_WAIT_MS = 60;
function attach_as(handle: Handle, taken: Taken): void {
  try {
    // Nobody boots this memory while the slot is held: the machine that it is, it stays.
    if (taken.heir) machine_refuses(handle);
    machine_bind(handle, COLUMNS);
    parts_refuse('attach', machine.options[M]);
    checked_boot();
    checked_letters();
  } catch (e) {
    slot_untake(taken);
    throw e;
  }
  if (atomic_load(field_word(machine.phase, M)) === PHASE_DOWN) {
    slot_untake(taken);
    thr_forget();
    throw new KmemError(ESHUTDOWN, 'attach', 'the machine was shut down');
  }
  slot_start(taken);
}
/** All slots are held: those whose owners died are settled. False: there was nothing to do. */
function settle_from_spare(handle: Handle): boolean {
  const { left, half, seen } = slots_left();
  const spare = left.length > 0 || half ? slot_take_spare(handle.generation, seen) : null;
  let settled = 0;
  if (spare !== null) {
    attach_as(handle, spare);
    try {
      settled = slots_settle(left, half);
      // An heir has settled its own record first, and perhaps others on the way.
      if (spare.heir) settled += reap_all() + 1;
    } catch (e) {
      // It was stopped: the machine has ended.
      if (e instanceof KmemError || e instanceof KernelPanic) slot_leave(true);
      throw e;
    }
    slot_leave();
  }
  if (settled === 0) host_sleep(1);
  return settled > 0;
}

/**
 * Gives this thread's CPU slot back; what it cached goes to the others.  Where the
 * machine was shut down by another thread, nothing is handed over.
 */
export function detach(): void {
  slot_leave();
}

/**
 * Ends the machine.  Other threads find out at their next slow path and throw
 * ESHUTDOWN there.  Does nothing in a thread that is no CPU.
 */
export function shutdown(): void {
  if (thr.cpu < 0) return;
  let panicked: unknown = null;
  try {
    if (!is_down()) {
      reap_all();
      guards_check();
      vnode_sync_all(); // errno: sync() tells it to who asks before the end
      swap_shutdown();
    }
  } catch (e) {
    if (!is_down()) panicked = e;
  }
  slots_close();
  slot_leave(true);
  if (panicked !== null) throw panicked;
}
/**
 * Runs `fn` with this CPU parked: others may take back what it caches meanwhile.
 * For leaving the kernel for long; kernel calls inside `fn` throw EBUSY.
 */
export function away<T>(fn: () => T): T {
  away_begin();
  const result = fn();
  away_end();
  return result;
}
export { away_begin, away_end };
/** Lets a thread that was stopped (shutdown, panic) leave its machine as it is. */
export function abandon(): void {
  slot_leave(true);
}
/** The handle of this thread's machine, null if it has none. */
export function current(): Handle | null {
  return thr.cpu >= 0 && memory_state.size > 0 ? machine_handle() : null;
}

/** File and line of the code outside this folder that called boot. */
function caller_site(): string {
  const lines = (new Error().stack ?? '').split('\n').slice(1);
  const own = import.meta.url;
  const at = lines.find((line) => !line.includes(own)) ?? lines[0] ?? '';
  return /([^/\\(]+:\d+):\d+\)?$/.exec(at)?.[1] ?? '?';
}
