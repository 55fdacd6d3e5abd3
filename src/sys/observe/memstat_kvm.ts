/*
 * memstat_kvm: fills a memstat list from a memory that nobody runs.
 *
 *      const k = kvm_open('app.core');
 *      const list = memstat_mtl_alloc();
 *      if (typeof k !== 'string' && memstat_kvm_all(list, k) === 0) ...
 *
 * As in BSD the caller opens the dump and gives the handle.  The kernel that wrote it made the
 * streams of a live machine, too, so they are made from the memory by the same code and taken apart
 * by the same reader: a list that was read live is brought up to date from a dump, and the other
 * way round.  What is wrong with the memory is a KVM error here; the handle says what.
 */
import type { Kvm } from './kvm.ts';
import {
  MEMSTAT_ERROR_KVM,
  MEMSTAT_ERROR_KVM_SHORTREAD,
  type memory_type_list,
} from './memstat.ts';
import {
  type memstat_fetch,
  memstat_sysctl_all,
  memstat_sysctl_malloc,
  memstat_sysctl_uma,
} from './memstat_sysctl.ts';

type Fill = (list: memory_type_list, fetch: memstat_fetch) => number;
function from(fill: Fill, list: memory_type_list, k: Kvm): number {
  if (fill(list, k.fetch) === 0) return 0;
  if (k.damage() !== '') list.error = MEMSTAT_ERROR_KVM;
  else list.error = MEMSTAT_ERROR_KVM_SHORTREAD;
  return -1;
}
/** Reads the malloc types. 0, or -1 with the list's error set. */
export function memstat_kvm_malloc(list: memory_type_list, k: Kvm): number {
  return from(memstat_sysctl_malloc, list, k);
}
/** Reads the zones. 0, or -1 with the list's error set. */
export function memstat_kvm_uma(list: memory_type_list, k: Kvm): number {
  return from(memstat_sysctl_uma, list, k);
}
/** Both, malloc first; stops at the first failure. */
export function memstat_kvm_all(list: memory_type_list, k: Kvm): number {
  return from(memstat_sysctl_all, list, k);
}
