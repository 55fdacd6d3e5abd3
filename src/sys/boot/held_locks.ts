/*
 * held_locks: which locks of the kernel this CPU holds.
 *
 * A lock word names its owner, so that one look at each lock tells.  That is slow,
 * and done only when an exception leaves the kernel (subr_trap.ts).  Locks of the
 * program do not count: it may well hold them then.
 *
 *      UMA lock, UMA drain · each keg · malloc types · stacks · free pages · sleep queues ·
 *      address spaces, and their list · the registry, and its queues · the sysctl tree ·
 *      shared holds, from the CPU's row
 *
 * Nothing is locked here: what is held may be what would be waited for.
 */
import { thr } from '../machine/cpu.ts';
import { mem } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import { registry_each, registry_name, registry_root } from '../client/kern_registry.ts';
import { malloc_root } from '../h/malloc.ts';
import { reg_queue, reg_root } from '../h/registry.ts';
import { stack_root } from '../h/stack.ts';
import { uma_keg } from '../h/uma.ts';
import { vm_kern_root } from '../h/vm_kern.ts';
import { VM_MAP_SYSTEM, vm_map, vm_map_root } from '../h/vm_map.ts';
import { kern_root } from '../map/vm_kern_vars.ts';
import { map_root } from '../map/vm_map.ts';
import { malloc_anchor } from '../kmem/kern_malloc_type.ts';
import { stack_anchor } from '../kmem/kern_stack_vars.ts';
import { sysctl_root, tree } from '../observe/sysctl_tree.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { mtx_owned, mtx_owned_word } from '../sync/kern_mutex.ts';
import { rw_wowned } from '../sync/kern_rwlock.ts';
import { lock_name } from '../sync/lock_label.ts';
import { user_class } from '../sync/lock_order.ts';
import { LOCK_CLASS } from '../sync/lock_word.ts';
import { rw_read_holds } from '../sync/rw_row.ts';
import { sleepq_each_lock } from '../sync/subr_sleepqueue.ts';
import { uma, uma_each_keg, uma_root } from '../uma/uma_int.ts';

/** Adds the mutex at word `l` to `held` if this CPU has it. */
export function held_mutex(l: number, held: string[]): void {
  if (mtx_owned_word(l)) held.push(lock_name(l));
}
/** The names of all kernel locks that this CPU holds. */
export function kernel_locks_held(): string[] {
  const held: string[] = [];
  held_mutex(uma() + uma_root.lock, held);
  held_mutex(uma() + uma_root.drain, held);
  uma_each_keg((k) => held_mutex(k + uma_keg.lock, held));
  held_mutex(malloc_anchor() + malloc_root.lock, held);
  held_mutex(stack_anchor() + stack_root.lock, held);
  held_mutex(phys_root() + vm_phys.lock, held);
  held_mutex(registry_root() + reg_root.lock, held);
  registry_each((e, kind) => {
    if (kind === 'queue' && mtx_owned(reg_queue.lock, e))
      held.push(`of queue '${registry_name(e)}'`);
  });
  sleepq_each_lock((l) => held_mutex(l, held));
  held_mutex(map_root() + vm_map_root.lock, held);
  held_mutex(kern_root() + vm_kern_root.lock, held);
  for (let mp = vm_map_root.first[map_root()]; mp !== NULL; mp = vm_map.next[mp]) {
    if (vm_map.kind[mp] === VM_MAP_SYSTEM) held_mutex(mp + vm_map.lock, held);
    else if (rw_wowned(vm_map.lock, mp)) held.push(lock_name(mp + vm_map.lock));
  }
  for (const f of [sysctl_root.lock, sysctl_root.mem_lock]) {
    if (rw_wowned(f, tree())) held.push(lock_name(tree() + f));
  }
  for (const l of rw_read_holds(thr.cpu)) {
    if (!user_class(mem.I32[l + LOCK_CLASS])) held.push(`${lock_name(l)}, shared`);
  }
  return held;
}
