/*
 * A worker of memory_source.slow.test.ts: reads the machine in a file or a process, and says what
 * the tables of vmstat are.
 */
import { parentPort, workerData } from 'node:worker_threads';
import '../../lib/index.ts';
import { kvm_open, kvm_take } from './kvm.ts';
import { memstat_mtl_alloc, memstat_mtl_geterror, memstat_mtl_types } from './memstat.ts';
import { memstat_kvm_all, memstat_kvm_malloc, memstat_kvm_uma } from './memstat_kvm.ts';
import { process_source } from './source_proc.ts';
import { vmstat_malloc_text, vmstat_zone_text } from './vmstat_text.ts';

const { path, pid, id } = workerData as { path?: string; pid?: number; id?: string };
const k = path === undefined ? kvm_take(process_source(pid ?? 0, id)) : kvm_open(path, id);
if (typeof k === 'string') parentPort?.postMessage({ m: '', z: '', quiet: false, fault: k });
else {
  const types = memstat_mtl_alloc();
  const zones = memstat_mtl_alloc();
  const both = memstat_mtl_alloc();
  const failed = memstat_kvm_malloc(types, k) + memstat_kvm_uma(zones, k) !== 0;
  const all = memstat_kvm_all(both, k) === 0 ? memstat_mtl_types(both).length : 0;
  const sum = memstat_mtl_types(types).length + memstat_mtl_types(zones).length;
  if (!failed && all !== sum) throw new Error(`${all} types and zones, of ${sum}`);
  const error = memstat_mtl_geterror(types) || memstat_mtl_geterror(zones);
  parentPort?.postMessage({
    m: vmstat_malloc_text(memstat_mtl_types(types)),
    z: vmstat_zone_text(memstat_mtl_types(zones)),
    quiet: k.quiet,
    fault: failed ? `error ${error}: ${k.damage()}` : k.damage(),
  });
}
