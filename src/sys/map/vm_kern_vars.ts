/*
 * vm_kern_vars: what every thread has of the kernel's maps, whatever it has loaded.
 *
 *      root ──> kernel_map, its pmap, its objects          0 until somebody wants an address
 *
 * A thread with the core alone makes no kernel map and settles none.  If it is the one that finds
 * a thread dead, it notes that (`orphans`), and the next who uses the map looks for what the dead
 * one was filling or emptying (vm_kern.ts).
 */
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_u64 } from '../machine/counter.ts';
import { boot_alloc, M, machine as machine_, ROOT_KERN } from '../machine/header.ts';
import { atop, ptoa } from '../machine/memory.ts';
import { kernel_parts } from '../machine/parts.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import {
  CTLFLAG_RDTUN,
  sysctl_get,
  sysctl_uint,
  sysctl_ulong,
  sysctl_value,
} from '../machine/sysctl_decl.ts';
import { KVA_BASE, KVA_END, vm_kern_root as root_, type vm_kern_root_t } from '../h/vm_kern.ts';
import { vm_map, type vm_map_t } from '../h/vm_map.ts';
import { vm_page_count } from '../page/vm_page_targets.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { budget_limit_pages } from '../uma/uma_budget.ts';
import { LC_KERNEL_MAPS } from '../sync/lock_order.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const machine = machine_;
const root = root_;

export const v_kmem_wakeups = counter_u64(
  'vm.stats.kmem.wakeups',
  'Times that room in a kernel map was told to somebody who waits for it',
);
export const v_kmem_waits = counter_u64(
  'vm.stats.kmem.waits',
  'Times that somebody waited for room in a kernel map',
);
export const v_kmem_faults = counter_u64(
  'vm.stats.kmem.faults',
  'Pages of kernel maps that were made when they were touched',
);
sysctl_value(
  'vm.kvm_size',
  { type: 'ulong', unit: 'bytes', help: 'Kernel addresses that there are beyond the memory' },
  () => ptoa(KVA_END - KVA_BASE),
);
sysctl_value(
  'vm.kvm_free',
  { type: 'ulong', unit: 'bytes', help: 'Kernel addresses that are free' },
  () => ptoa(KVA_END - KVA_BASE - kva_used()),
);
export const exec_map_entries = sysctl_uint('vm.exec_map_entries', {
  value: 16,
  min: 1,
  max: 4096,
  flags: CTLFLAG_RDTUN,
  help: 'Programs whose arguments may be kept at a time while they start',
});
const maxpipekva = sysctl_ulong('kern.ipc.maxpipekva', {
  value: 0,
  unit: 'bytes',
  flags: CTLFLAG_RDTUN,
  help: 'The most memory of pipes; 0: a twentieth of vm.kmem_size, 512 KiB at least',
});
const bufmem_hiwater = sysctl_ulong('vm.bufmem_hiwater', {
  value: 0,
  unit: 'bytes',
  flags: CTLFLAG_RDTUN,
  help: 'The most memory of buffers, in pieces of 64 KiB; 0: a sixteenth of the memory',
});
sysctl_value('kern.ipc.pipekva', { unit: 'bytes', help: 'Addresses that pipes have' }, () =>
  part_used(root.pipe),
);
sysctl_value('vm.bufmem', { unit: 'bytes', help: 'Memory of buffers, in pieces of 64 KiB' }, () =>
  part_used(root.buffer),
);
/** Bytes that are in use of a part of kernel_map. */
function part_used(of: typeof root.pipe): number {
  const r = kern_root();
  mtx_lock(root.lock, r);
  const mp = of[r];
  mtx_unlock(root.lock, r);
  return mp === NULL ? 0 : ptoa(vm_map.size[mp]);
}
/** The limit of pipe_map, bytes. */
export function maxpipekva_bytes(): number {
  const pages = budget_limit_pages() || vm_page_count();
  return sysctl_get(maxpipekva) || Math.max(Math.floor(ptoa(pages) / PIPE_SHARE), PIPE_LEAST);
}
const PIPE_SHARE = 20;
const PIPE_LEAST = 512 * 1024;
/** The limit of buffer_map, pages: whole pieces, one at least. */
export function bufmem_limit(): number {
  const bytes = sysctl_get(bufmem_hiwater) || Math.floor(ptoa(vm_page_count()) / BUF_SHARE);
  return Math.max(1, Math.floor(bytes / BUF_PIECE)) * atop(BUF_PIECE);
}
const BUF_SHARE = 16;
const BUF_PIECE = 65_536;
function kva_used(): number {
  const mp = kernel_map_there();
  return mp === NULL ? 0 : vm_map.size[mp];
}

/** The record that anchors the kernel's maps. */
export function kern_root(): vm_kern_root_t {
  return machine.roots[elem(M, ROOT_KERN)] as vm_kern_root_t;
}
/** kernel_map, if there is one. NULL: nobody wanted an address yet. */
export function kernel_map_there(): vm_map_t {
  const r = kern_root();
  return atomic_load(field_word(root.ready, r)) === 0 ? (NULL as vm_map_t) : root.map[r];
}
/** Lays it out, while boot_alloc still works. */
export function vm_kern_boot(): void {
  const r = boot_alloc(root.sizeof, "the kernel's maps", 32) as vm_kern_root_t;
  machine.roots[elem(M, ROOT_KERN)] = r;
  mtx_init(root.lock, r, LC_KERNEL_MAPS);
}
/**
 * What a dead CPU was filling or emptying of kernel addresses is free. A line of the death table.
 */
export function vm_kern_reap(cpu: number): void {
  const r = kern_root();
  if (r === 0 || kernel_map_there() === NULL) return;
  if (kernel_parts.kmem_reap) kernel_parts.kmem_reap(cpu);
  else atomic_store(field_word(root.orphans, r), 1);
}
