/*
 * A worker of memory_source.test.ts: reads the machine in a file or a process, and says what the
 * tables of vmstat are.
 */
import { parentPort, workerData } from 'node:worker_threads';
import '../../lib/index.ts';
import { kvm_take } from './kvm.ts';
import { file_source } from './memory_source.ts';
import { memstat_read, memstat_sysctl_malloc, memstat_sysctl_uma } from './memstat_sysctl.ts';
import { process_source } from './source_proc.ts';
import { vmstat_malloc_text, vmstat_zone_text } from './vmstat_text.ts';

const { path, pid, id } = workerData as { path?: string; pid?: number; id?: string };
const k = kvm_take(path === undefined ? process_source(pid ?? 0, id) : file_source(path, id));
if (typeof k === 'string') parentPort?.postMessage({ m: '', z: '', quiet: false, fault: k });
else {
  const m = memstat_read(memstat_sysctl_malloc, k.fetch);
  const z = memstat_read(memstat_sysctl_uma, k.fetch);
  parentPort?.postMessage({
    m: typeof m === 'string' ? m : vmstat_malloc_text(m),
    z: typeof z === 'string' ? z : vmstat_zone_text(z),
    quiet: k.quiet,
    fault: k.damage(),
  });
}
