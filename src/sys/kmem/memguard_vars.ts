/*
 * memguard_vars: what every thread has of memguard, whatever it has loaded.
 *
 *      memory pages / divisor                     what guarded blocks may have of memory
 *      kernel addresses / divisor, at most        the addresses among which they wander
 *        twice the memory
 *
 * Which blocks are guarded say four variables, in this order: none below minsize; with option 2
 * each of a page or more; `frequency` in 100000 by chance; those whose type, or zone, is called as
 * `desc` says, now or later.  The map, the ring of freed blocks and what runs on them are made when
 * something is to be guarded first (memguard.ts).
 *
 * Locks.  None: variables are words of their own.  Whoever changes one looks at all of them
 * afterwards (memguard_update), and once more if another one did meanwhile.
 */
import { atomic_load } from '../machine/atomic.ts';
import { counter_u64 } from '../machine/counter.ts';
import { EOPNOTSUPP, has_control, KmemError } from '../machine/errno.ts';
import { mem, PAGE_SIZE, ptoa } from '../machine/memory.ts';
import { kernel_parts } from '../machine/parts.ts';
import { field_word, get64, NULL } from '../machine/struct.ts';
import {
  CTLFLAG_RDTUN,
  CTLFLAG_RWTUN,
  sysctl_get,
  sysctl_get_string,
  sysctl_int,
  sysctl_string,
  sysctl_uint,
  sysctl_ulong,
  sysctl_value,
  sysctl_word,
} from '../machine/sysctl_decl.ts';
import {
  GUARD_READY,
  GUARD_TOO_SMALL,
  guard_root,
  guard_root_make,
  memguard_root,
} from '../h/memguard.ts';
import { KVA_BASE, KVA_END } from '../h/vm_kern.ts';
import { vm_map, type vm_map_t } from '../h/vm_map.ts';
import { vm_page_count } from '../page/vm_page_targets.ts';
import { mtx_init } from '../sync/kern_mutex.ts';
import { LC_KERNEL_MAPS } from '../sync/lock_order.ts';

const root = memguard_root;

/** vm.memguard.options. */
export const MG_GUARD_AROUND = 1;
export const MG_GUARD_ALLLARGE = 2;
export const MG_GUARD_NOFREE = 4;
const DESC_BYTES = 128;
const DIVISOR = 10;
/** A machine whose guarded blocks could have no more pages than this has none. */
const PAGES_LEAST = 8;

const CORE = "kmem/core leaves it out: load 'kmem' first";
const there = (): number => (kernel_parts.memguard === undefined ? EOPNOTSUPP : 0);
const changed = (): void => kernel_parts.memguard?.update();

const desc = sysctl_string('vm.memguard.desc', {
  value: '',
  bytes: DESC_BYTES,
  flags: CTLFLAG_RWTUN,
  check: (text) => (has_control(text) ? 'a name has no control characters' : there()),
  changed,
  help: 'Name of the one malloc type, or zone, whose blocks are guarded; it may come later',
});
const divisor = sysctl_uint('vm.memguard.divisor', {
  value: DIVISOR,
  flags: CTLFLAG_RDTUN,
  help: 'Guarded blocks have this part of the memory and of kernel addresses; 0: 10',
});
const options = sysctl_int('vm.memguard.options', {
  value: MG_GUARD_AROUND,
  min: 0,
  max: 7,
  flags: CTLFLAG_RWTUN,
  check: there,
  changed,
  help:
    'Sum of 1: a guard on each side of a block; 2: each request of a page or more is guarded; 4: ' +
    'zones that give no pages back, too',
});
const minsize = sysctl_uint('vm.memguard.minsize', {
  value: 0,
  unit: 'bytes',
  check: there,
  help: 'Smaller requests are never guarded',
});
const FREQUENCY_ALL = 100_000;
const frequency = sysctl_uint('vm.memguard.frequency', {
  value: 0,
  max: FREQUENCY_ALL,
  flags: CTLFLAG_RWTUN,
  check: there,
  changed,
  help: 'How many of 100000 requests are guarded by chance, whatever their type',
});
const trap = sysctl_string('vm.memguard.trap', {
  value: 'panic',
  bytes: 8,
  flags: CTLFLAG_RWTUN,
  check: (text) => (text === 'panic' || text === 'report' ? there() : "give 'panic' or 'report'"),
  help: 'What a stray access does: panic, or report: the call fails, each place is told once',
});
export const quarantine = sysctl_ulong('vm.memguard.quarantine', {
  value: 0,
  unit: 'bytes',
  flags: CTLFLAG_RWTUN,
  check: there,
  changed,
  help: 'Freed blocks keep so much memory, which is looked at for late stores when it goes back',
});
export const v_minsize_reject = counter_u64(
  'vm.memguard.minsize_reject',
  'Requests that were not guarded because they are below vm.memguard.minsize',
);
export const v_frequency_hits = counter_u64(
  'vm.memguard.frequency_hits',
  'Requests that were guarded by chance',
);
export const v_fail_kva = counter_u64(
  'vm.memguard.fail_kva',
  'Requests that were not guarded because no addresses were left',
);
export const v_fail_pgs = counter_u64(
  'vm.memguard.fail_pgs',
  'Requests that were not guarded because no pages were left, or too many in use',
);
export const v_traps = counter_u64('vm.memguard.traps', 'Stray accesses and frees that were found');
export const v_late = counter_u64(
  'vm.memguard.late',
  'Freed blocks that were stored to while they waited (vm.memguard.quarantine)',
);

const value = (name: string, help: string, unit: string, read: () => number): void => {
  sysctl_value(`vm.memguard.${name}`, { type: 'ulong', unit, help }, read);
};
const in_map = (read: (mp: vm_map_t) => number): number => {
  const mp = guard_map_there();
  return mp === NULL ? 0 : ptoa(read(mp));
};
value('cursor', 'Where the next block is looked for', '', () =>
  ptoa(guard_map_there() === NULL ? 0 : root.cursor[guard_root()]),
);
value('mapsize', 'Addresses for guarded blocks; 0: the machine is too small', 'bytes', () =>
  ptoa(guard_sizes().addresses),
);
value('phys_limit', 'Memory that guarded blocks may have', 'bytes', () =>
  ptoa(guard_sizes().pages),
);
value('mapstart', 'The first address for guarded blocks; 0: nothing was guarded yet', '', () =>
  in_map(() => root.first[guard_root()]),
);
value('maplimit', 'One more than the last of them', '', () => in_map(() => root.end[guard_root()]));
value('mapused', 'Addresses, and pages, that guarded blocks have now', 'bytes', () =>
  guard_bytes(),
);
value('wasted', 'Of pages of small guarded blocks, what nobody asked for', 'bytes', () =>
  get64(root.wasted, guard_root()),
);
value('wrapcnt', 'Times that the addresses were used up and the search began anew', '', () =>
  get64(root.wrapcnt, guard_root()),
);
value('numalloc', 'Blocks that were guarded', '', () => get64(root.numalloc, guard_root()));
value('numfree', 'Of them, those that were freed', '', () => get64(root.numfree, guard_root()));
value('held', 'Memory of freed blocks that wait (vm.memguard.quarantine)', 'bytes', () =>
  ptoa(root.held_pages[guard_root()]),
);

/** The map of guarded blocks, if there is one; 0: none yet. */
export function guard_map_there(): vm_map_t {
  const r = guard_root();
  const ready = atomic_load(field_word(root.ready, r)) === GUARD_READY;
  return ready ? root.map[r] : (NULL as vm_map_t);
}
/** What guarded blocks have of memory now, those that wait among them, bytes. */
export function guard_bytes(): number {
  return in_map((mp) => vm_map.size[mp]);
}
/** Pages that guarded blocks may have, and their addresses; 0: the machine is too small. */
export function guard_sizes(): { pages: number; addresses: number } {
  const all = vm_page_count();
  const wanted = sysctl_get(divisor);
  const by = wanted === 0 || Math.floor(all / wanted) === 0 ? DIVISOR : wanted;
  const pages = Math.floor(all / by);
  const ready = atomic_load(field_word(root.ready, guard_root()));
  const few = pages < PAGES_LEAST || ready === GUARD_TOO_SMALL;
  const addresses = Math.min(Math.ceil((KVA_END - KVA_BASE) / by), 2 * all);
  return { pages, addresses: few ? 0 : addresses };
}
/** Whether a bit of vm.memguard.options is set. */
export function guard_option(bit: number): boolean {
  return (sysctl_get(options) & bit) !== 0;
}
/** Whether any block may be guarded, as things stand. */
export function guard_wanted(): boolean {
  return guard_chance() || mem.U8[sysctl_word(desc) * 4] !== 0;
}
/** Whether blocks may be guarded whatever they are called. */
export function guard_chance(): boolean {
  return sysctl_get(frequency) > 0 || guard_option(MG_GUARD_ALLLARGE);
}
/** Whether a stray access stops the machine. */
export function guard_panics(): boolean {
  return sysctl_get_string(trap) !== 'report';
}
/** Requests below this many bytes are never guarded. */
export function guard_minsize(): number {
  return sysctl_get(minsize);
}
/** Of so many requests one is guarded by chance: whether a random number says that it is. */
export function guard_by_chance(random: () => number): boolean {
  const n = sysctl_get(frequency);
  return n > 0 && random() % FREQUENCY_ALL < n;
}
/** Whether a name, at word w and `bytes` long at most, is the one in vm.memguard.desc. */
export function guard_named(w: number, bytes: number): boolean {
  const wanted = sysctl_word(desc) * 4;
  const name = w * 4;
  const { U8 } = mem;
  if (U8[wanted] === 0) return false;
  for (let i = 0; i < bytes; i++) {
    if (U8[name + i] !== U8[wanted + i]) return false;
    if (U8[name + i] === 0) return true;
  }
  return false;
}
/** Pages of freed blocks that may wait. */
export function guard_quarantine_pages(): number {
  return Math.floor(sysctl_get(quarantine) / PAGE_SIZE);
}

/** Lays its record out, while boot_alloc still works. */
export function memguard_boot(): void {
  mtx_init(root.lock, guard_root_make(), LC_KERNEL_MAPS);
}
/** What the boot parameters ask for is guarded from the first block on. */
export function memguard_startup(): void {
  if (!guard_wanted()) return;
  if (kernel_parts.memguard === undefined) {
    throw new KmemError(EOPNOTSUPP, 'boot', `vm.memguard: ${CORE}`);
  }
  kernel_parts.memguard.update();
}
