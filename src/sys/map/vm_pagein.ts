/*
 * vm_pagein: a thread that may not wait has a page brought in by one that pages out.
 *
 *      a browser's main thread                  the page daemon, or a thread beside it
 *
 *      access: EAGAIN
 *      pagein_ask(map, page)  ── rings ──>      pagein_serve: faults the page in, says how it ended
 *      looks in its event loop: pagein_result   <──'
 *      access
 *
 * A file of a browser (store_post.ts) is read by sleeping for the thread that has it, and so is a
 * page that others have busy waited for.  Who may not sleep asks by four words of its CPU: the map,
 * which its thread keeps, the page's number, what for, and the result, which is negative until
 * somebody has faulted.  The page may be gone again when the thread looks: then it asks again.
 *
 * Deaths.  The words of a dead thread mean nothing, because it keeps no map.  A server that dies
 * has not answered, and the next one serves; two may serve the same, which does no harm.
 */
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { cpu_slots, poll, thr } from '../machine/cpu.ts';
import { field_word } from '../machine/struct.ts';
import type { vm_map_t } from '../h/vm_map.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { wakeup } from '../sync/subr_sleepqueue.ts';
import { vm_map_deallocate } from './vm_map.ts';
import { vm_fault } from './vm_fault.ts';
import { vm_map_kept_reference } from './vm_map_keep.ts';
import { pageout_asked, pageout_root, vm_pageout_root } from './vm_pageout_vars.ts';

/** What the result is before there is one. */
export const PAGEIN_PENDING = -1;
/* Words of a CPU. */
const MAP = 0;
const PAGE = 1;
const ACCESS = 2;
const RESULT = 3;

/** Asks for page number `vpn` of a map that this thread keeps, for `access` (VM_PROT_*). */
export function pagein_ask(mp: vm_map_t, vpn: number, access: number): void {
  const w = pageout_asked(thr.cpu);
  atomic_store(w + MAP, 0);
  atomic_store(w + RESULT, PAGEIN_PENDING);
  atomic_store(w + PAGE, vpn);
  atomic_store(w + ACCESS, access);
  atomic_store(w + MAP, mp);
  pagein_ring();
}
/** How that ended, a KERN_* code; PAGEIN_PENDING: it has not, and is asked for still. */
export function pagein_result(): number {
  return atomic_load(pageout_asked(thr.cpu) + RESULT);
}
/** Wakes those who serve, once more. */
export function pagein_ring(): void {
  wakeup(field_word(vm_phys.needed, phys_root()));
  wakeup(field_word(vm_pageout_root.launder, pageout_root()));
}
/** Does what others ask. The caller holds no lock. */
export function pagein_serve(): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const w = pageout_asked(cpu);
    const mp = atomic_load(w + MAP) as vm_map_t;
    if (mp === 0 || atomic_load(w + RESULT) !== PAGEIN_PENDING) continue;
    const [vpn, access] = [atomic_load(w + PAGE), atomic_load(w + ACCESS)];
    poll();
    if (!vm_map_kept_reference(mp, cpu)) continue;
    const result = vm_fault(mp, vpn, access);
    atomic_store(w + RESULT, result);
    vm_map_deallocate(mp);
  }
}
