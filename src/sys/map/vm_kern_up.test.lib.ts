/* What tests of kernel maps share: a machine, and its end, before which all of it is proved. */
import { abandon, type Booted, boot, shutdown } from '../boot/whole.ts';
import { page_failpoint, vm_page_check } from '../page/vm_page.ts';
import { uma_check } from '../uma/uma_check.ts';
import { slab_failpoint } from '../uma/uma_keg.ts';
import { vm_maps_check } from './vm_map_check.ts';
import { map_failpoint } from './vm_map_entry.ts';

/** A machine of 16M, unless `options` say another size, that checks itself. */
export function kern_up(options: Parameters<typeof boot>[0] = {}): Booted {
  const all = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
  return boot({ cpus: 1, fresh: true, memory: '16M', options: all, ...options });
}
/** Nothing is refused any more, all is proved, and the machine ends. */
export function kern_down(): void {
  page_failpoint.refuse = null;
  slab_failpoint.refuse = null;
  map_failpoint.refuse = null;
  try {
    vm_maps_check();
    uma_check();
    vm_page_check();
    shutdown();
  } catch (e) {
    abandon();
    throw e;
  }
}
