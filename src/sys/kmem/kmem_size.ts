/*
 * kmem_size: how much memory malloc and UMA may hold.
 *
 * vm.kmem_size limits all pages that they hold, wherever these lie.  It follows
 * from the memory by vm.kmem_size_scale, _min and _max, or is given outright.
 * uma_budget.ts counts them and refuses what would go beyond; pages of others are
 * not counted, and what the limit leaves over is theirs.
 *
 * A block is a run of pages in memory, or, for a caller who can do with translated access, so many
 * pages beyond it, wherever they lie (kern_malloc_virtual.ts).  vm.kmem_map_free is the largest
 * block to be had in either way.
 */
import { PAGE_SIZE, ptoa } from '../machine/memory.ts';
import {
  CTLFLAG_RDTUN,
  CTLFLAG_RWTUN,
  sysctl_get,
  sysctl_set,
  sysctl_uint,
  sysctl_ulong,
  sysctl_value,
} from '../machine/sysctl_decl.ts';
import { vm_page_count, vm_page_free_count } from '../page/vm_page.ts';
import { phys_longest } from '../page/vm_phys.ts';
import { budget_limit, budget_limit_pages, kmem_held } from '../uma/uma_budget.ts';

const VM_KMEM_SIZE = 12 * 2 ** 20;

const knob = (name: string, value: number, help: string) =>
  sysctl_ulong(name, { value, unit: 'bytes', flags: CTLFLAG_RDTUN, help });
const kmem_size = knob('vm.kmem_size', 0, 'Most memory that malloc and the zones may hold');
const kmem_size_min = knob('vm.kmem_size_min', 0, 'Floor of the automatic vm.kmem_size, 0: none');
const kmem_size_max = knob('vm.kmem_size_max', 0, 'Ceiling of the automatic vm.kmem_size, 0: none');
const kmem_size_scale = sysctl_uint('vm.kmem_size_scale', {
  value: 1,
  min: 0,
  flags: CTLFLAG_RDTUN,
  help: 'Share of the memory: vm.kmem_size is the memory divided by this',
});
sysctl_value(
  'vm.kmem_map_size',
  { unit: 'bytes', help: 'Memory that malloc and the zones hold' },
  () => ptoa(kmem_held()),
);
sysctl_value(
  'vm.kmem_map_free',
  { unit: 'bytes', help: 'Largest block to be had now, as a run of memory or beyond it' },
  () => {
    const left = kmem_left();
    return left >= sysctl_get(kmem_virtual_min) ? left : Math.min(ptoa(phys_longest()), left);
  },
);
export const kmem_virtual_min = sysctl_uint('vm.kmem_virtual_min', {
  value: 2 * PAGE_SIZE,
  min: 1,
  unit: 'bytes',
  flags: CTLFLAG_RWTUN,
  help: 'Smallest block that malloc gives beyond the memory to whoever asks for it',
});
/** Bytes that malloc and the zones may hold in all. */
export function kmem_limit(): number {
  return sysctl_get(kmem_size);
}
/** Bytes that they may still take: what is free, and within vm.kmem_size. */
export function kmem_left(): number {
  const limit = budget_limit_pages();
  const free = vm_page_free_count();
  return ptoa(limit === 0 ? free : Math.max(0, Math.min(free, limit - kmem_held())));
}

/** Chooses vm.kmem_size and puts it in force. */
export function kmeminit(): void {
  const pages = vm_page_count();
  let size = VM_KMEM_SIZE;
  const scale = sysctl_get(kmem_size_scale);
  if (scale > 0 && pages / scale > size / PAGE_SIZE) size = Math.floor(pages / scale) * PAGE_SIZE;
  const min = sysctl_get(kmem_size_min);
  const max = sysctl_get(kmem_size_max);
  if (min > 0 && size < min) size = min;
  if (max > 0 && size >= max) size = max;
  if (sysctl_get(kmem_size) > 0) size = sysctl_get(kmem_size);
  if (size / 2 / PAGE_SIZE > pages) size = 2 * pages * PAGE_SIZE;
  sysctl_set(kmem_size, size);
  const limit = Math.floor(size / PAGE_SIZE);
  budget_limit(limit < pages ? Math.max(1, limit) : 0);
}
