/*
 * main: the order in which the machine comes up.
 *
 * Reading this file is reading the architecture: each floor stands on those
 * above it in the list, and needs nothing of those below.
 */
import { KmemError, EBUSY, EINVAL, ENOMEM, ESHUTDOWN } from '../machine/errno.ts';
import {
  type Handle,
  machine_bind,
  machine_boot,
  machine_freeze,
  machine_handle,
} from '../machine/machdep.ts';
import { atomic_load, atomic_notify, atomic_or, atomic_store } from '../machine/atomic.ts';
import { CPU_STOP, MAXCPU, park, pcpu, pcpu_of, thr, unpark } from '../machine/cpu.ts';
import { slot_leave, slot_start, slot_take, thr_forget } from '../machine/cpu_slots.ts';
import { reap_all } from '../machine/death.ts';
import { M, machine, PHASE_DOWN, PHASE_UP, SITE_WORDS } from '../machine/header.ts';
import { host_cpus } from '../machine/host.ts';
import { kenv_options, kenv_tunables } from '../machine/kenv.ts';
import { type AtomicsKind, memory_size, memory_state } from '../machine/memory.ts';
import { OPTION_NAMES, type Options, opt, opt_word } from '../machine/opt.ts';
import { KernelPanic } from '../machine/panic.ts';
import { field_word, get_string } from '../machine/struct.ts';
import '../machine/web_locks.ts';
import { mbuf_attach, mbuf_boot, mbuf_init } from '../client/kern_mbuf.ts';
import '../client/mbuf_leak.ts';
import '../client/kern_mbstat.ts';
import '../client/uipc_mbuf_shape.ts';
import '../kmem/kern_malloc_stats.ts';
import { malloc_boot, malloc_startup, mcache_attach } from '../kmem/kern_malloc_type.ts';
import { mprof_boot } from '../kmem/kern_mprof.ts';
import { kmeminit, kmem_limit } from '../kmem/kmem_size.ts';
import '../uma/vm_pageout.ts';
import { checked_letters } from './checked_letters.ts';
import { pagedaemon_start } from './pagedaemon.ts';
import { sysctl_tree_boot } from '../observe/sysctl_std.ts';
import { vm_page_boot, vm_page_startup } from '../page/vm_page.ts';
import { PHYS_COLUMNS } from '../page/vm_phys.ts';
import { uma_boot, uma_startup } from '../uma/uma_zone.ts';
import { checked_boot } from '../sync/checked.ts';
import { prof_boot } from '../sync/lock_prof.ts';
import { sleepq_boot } from '../sync/subr_sleepqueue.ts';
import { witness_boot } from '../sync/witness.ts';

/** What a machine is like; all of it may be left out. */
export interface BootOptions {
  /** Bytes, or a size such as '256M'. 1M to 8G. Default 64M. */
  memory?: number | string;
  /** CPU slots, 1 to 64: threads that may be attached at a time. Default: the host's cores + 2. */
  cpus?: number;
  /** Kernel options that are off by default: INVARIANTS, WITNESS … */
  options?: Partial<Options>;
  /** Boots with guards on every structure field: about 175 times slower, for tests. */
  checked?: boolean;
  /** Tunables: name and value, such as { 'vm.kmem_size': 2 ** 24 }. */
  set?: Record<string, number | string>;
  /** New memory even where the old one could serve again. */
  fresh?: boolean;
  /** How atomic operations are done. Default 'auto': by WebAssembly where there is any. */
  atomics?: AtomicsKind;
  /** Starts the page daemon in a thread of its own; it takes one of the slots. */
  pagedaemon?: boolean;
  /** Memory domains, 1 to 8: parts of memory that CPUs prefer. Default 1. */
  domains?: number;
  /** Seed of the kernel's random generator. Default: the clock. */
  seed?: number;
}
export interface Booted {
  readonly handle: Handle;
  readonly cpu: number;
  shutdown(): void;
}

/** What lies in columns, in the order of their place in memory. */
const COLUMNS = PHYS_COLUMNS;

/** Brings the floors up, lowest first, on the CPU that boots. */
function boot_floors(): void {
  sleepq_boot(); // who sleeps for what, and how they are woken
  if (opt.CHECKED) checked_boot(); // guards on every field of every structure
  witness_boot(); // the order in which locks may be taken
  prof_boot(); // how long they are held and waited for
  vm_page_boot(); // where the free pages will be noted
  uma_boot(); // the first zones, laid out by hand
  malloc_boot(); // the list of malloc types
  mbuf_boot(); // where the zones of buffer chains will be noted
  mprof_boot(); // which sizes are asked for, if the option is on
  slot_take(); // this thread becomes CPU 0: from here on locks work
  sysctl_tree_boot(); // names and numbers of all that can be seen and set
  vm_page_startup(); // every page that is left becomes a free page
  kmeminit(); // how many of them malloc and the zones may hold
  uma_startup(); // the zones of zones, kegs, slabs and buckets
  malloc_startup(); // size classes and the declared types
  mbuf_init(); // mbufs and clusters, and how many there may be
}
/** Brings the floors up; where that fails, this thread is no CPU and may boot again. */
function boot_floors_or_leave(): void {
  try {
    boot_floors();
  } catch (e) {
    atomic_store(field_word(machine.phase, M), PHASE_DOWN);
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
  boot_check(o);
  const tunables = kenv_tunables(o.set ?? {});
  machine_freeze();
  machine_boot({
    size: memory_size(o.memory ?? '64M'),
    cpus: o.cpus ?? Math.min(host_cpus() + 2, MAXCPU),
    options: opt_word({
      ...kenv_options(tunables),
      ...o.options,
      ...(o.checked ? { CHECKED: true } : {}),
    }),
    atomics: o.atomics ?? 'auto',
    fresh: o.fresh ?? false,
    domains: boot_domains(o.domains ?? 1),
    site: caller_site(),
    seed: o.seed ?? Date.now(),
    tunables,
    columns: COLUMNS,
  });
  boot_floors_or_leave();
  if (opt.CHECKED) checked_letters(); // what each lock letter means
  atomic_store(field_word(machine.phase, M), PHASE_UP);
  slot_start();
  const handle = machine_handle();
  if (o.pagedaemon) pagedaemon_start(handle); // gets memory back, zeroes pages ahead
  return { handle, cpu: thr.cpu, shutdown };
}
/** Every name in BootOptions. */
const KNOWN: Record<keyof BootOptions, true> = {
  memory: true,
  cpus: true,
  options: true,
  checked: true,
  set: true,
  fresh: true,
  atomics: true,
  pagedaemon: true,
  domains: true,
  seed: true,
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
  known('kernel option', o.options ?? {}, OPTION_NAMES);
  known('way of atomics', { [o.atomics ?? 'auto']: true }, ['auto', 'wasm', 'atomics']);
  if (o.seed !== undefined && !Number.isSafeInteger(o.seed)) {
    throw new KmemError(EINVAL, 'boot', `seed: ${o.seed} is not a whole number`);
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
  machine_freeze();
  machine_bind(handle, COLUMNS);
  if (atomic_load(field_word(machine.phase, M)) !== PHASE_UP) {
    throw new KmemError(ESHUTDOWN, 'attach', 'the machine was shut down');
  }
  if (opt.CHECKED) {
    checked_boot();
    checked_letters();
  }
  slot_take();
  slot_start();
  mcache_attach();
  mbuf_attach();
  return thr.cpu;
}

/** Gives this thread's CPU slot back; what it cached goes to the others. */
export function detach(): void {
  slot_leave();
}

/**
 * Ends the machine.  Other threads find out at their next slow path and throw
 * ESHUTDOWN there.  Does nothing in a thread that is no CPU.
 */
export function shutdown(): void {
  if (thr.cpu < 0) return;
  reap_all();
  atomic_store(field_word(machine.phase, M), PHASE_DOWN);
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    if (cpu === thr.cpu) continue;
    const w = field_word(pcpu.state, pcpu_of(cpu));
    atomic_or(w, CPU_STOP);
    atomic_notify(w, MAXCPU);
  }
  slot_leave(true);
}
/**
 * Runs `fn` with this CPU parked: others may take back what it caches meanwhile.
 * For leaving the kernel for long; kernel calls inside `fn` are an error.
 */
export function away<T>(fn: () => T): T {
  park();
  const result = fn();
  unpark();
  return result;
}
/** Lets a thread that was stopped (shutdown, panic) forget its machine. */
export function abandon(): void {
  thr_forget();
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
