/*
 * memory_stats: the figures of the memory as a whole, which cost next to nothing.
 */
import { cpus_attached } from '../sys/machine/death.ts';
import { M, machine } from '../sys/machine/header.ts';
import { PAGE_SIZE } from '../sys/machine/memory.ts';
import { get64 } from '../sys/machine/struct.ts';
import { vm_page_count, vm_page_free_count } from '../sys/page/vm_page.ts';
import { phys_longest } from '../sys/page/vm_phys.ts';

export interface MemoryStats {
  /** Bytes of the whole memory. */
  readonly size: number;
  /** Bytes that are managed as pages: all but what the kernel took at boot. */
  readonly managed: number;
  /** Bytes in free pages. */
  readonly free: number;
  /** Bytes in pages that types, zones and their caches hold. */
  readonly held: number;
  /** Bytes in the longest run of free pages: the largest block to be had. */
  readonly longestRun: number;
  /** Threads that are attached. */
  readonly cpus: number;
}
/** Figures of the memory as a whole. */
export function memoryStats(): MemoryStats {
  const managed = vm_page_count() * PAGE_SIZE;
  const free = vm_page_free_count() * PAGE_SIZE;
  return {
    size: get64(machine.size_bytes, M),
    managed,
    free,
    held: managed - free,
    longestRun: phys_longest() * PAGE_SIZE,
    cpus: cpus_attached(),
  };
}
