/*
 * vmstat_sums: the lines of vmstat -s.
 *
 * Each line is a variable below vm.stats, in BSD's order and with BSD's words, and
 * in JSON under BSD's key.  A line appears when the kernel has the variable: one
 * without processes or page faults counts none, and a 0 would say that there were
 * none.
 */
import type { memstat_fetch } from './memstat_sysctl.ts';
import { kprintf } from '../machine/subr_prf.ts';

/** Variable below vm.stats, key in JSON, words. */
export const SUMS_LINES: readonly (readonly [string, string, string])[] = [
  ['sys.v_swtch', 'context-switches', 'cpu context switches'],
  ['sys.v_intr', 'interrupts', 'device interrupts'],
  ['sys.v_soft', 'software-interrupts', 'software interrupts'],
  ['sys.v_trap', 'traps', 'traps'],
  ['sys.v_syscall', 'system-calls', 'system calls'],
  ['vm.v_kthreads', 'kernel-threads', 'kernel threads created'],
  ['vm.v_forks', 'forks', ' fork() calls'],
  ['vm.v_vforks', 'vforks', 'vfork() calls'],
  ['vm.v_rforks', 'rforks', 'rfork() calls'],
  ['vm.v_swapin', 'swap-ins', 'swap pager pageins'],
  ['vm.v_swappgsin', 'swap-in-pages', 'swap pager pages paged in'],
  ['vm.v_swapout', 'swap-outs', 'swap pager pageouts'],
  ['vm.v_swappgsout', 'swap-out-pages', 'swap pager pages paged out'],
  ['vm.v_vnodein', 'vnode-page-ins', 'vnode pager pageins'],
  ['vm.v_vnodepgsin', 'vnode-page-in-pages', 'vnode pager pages paged in'],
  ['vm.v_vnodeout', 'vnode-page-outs', 'vnode pager pageouts'],
  ['vm.v_vnodepgsout', 'vnode-page-out-pages', 'vnode pager pages paged out'],
  ['vm.v_pdwakeups', 'page-daemon-wakeups', 'page daemon wakeups'],
  ['vm.v_pdpages', 'page-daemon-pages', 'pages examined by the page daemon'],
  ['vm.v_reactivated', 'reactivated', 'pages reactivated'],
  ['vm.v_cow_faults', 'copy-on-write-faults', 'copy-on-write faults'],
  ['vm.v_cow_optim', 'copy-on-write-optimized-faults', 'copy-on-write optimized faults'],
  ['vm.v_zfod', 'zero-fill-pages', 'zero fill pages zeroed'],
  ['vm.v_ozfod', 'zero-fill-prezeroed', 'zero fill pages prezeroed'],
  ['vm.v_intrans', 'intransit-blocking', 'intransit blocking page faults'],
  ['vm.v_vm_faults', 'total-faults', 'total VM faults taken'],
  ['vm.v_kthreadpages', 'faults-from-thread-creation', 'pages affected by kernel thread creation'],
  ['vm.v_forkpages', 'faults-from-fork', 'pages affected by  fork()'],
  ['vm.v_vforkpages', 'faults-from-vfork', 'pages affected by vfork()'],
  ['vm.v_rforkpages', 'pages-rfork', 'pages affected by rfork()'],
  ['vm.v_tcached', 'pages-total-cached', 'pages cached'],
  ['vm.v_tfree', 'pages-freed', 'pages freed'],
  ['vm.v_dfree', 'pages-freed-by-daemon', 'pages freed by daemon'],
  ['vm.v_pfree', 'pages-freed-on-exit', 'pages freed by exiting processes'],
  ['vm.v_active_count', 'active-pages', 'pages active'],
  ['vm.v_inactive_count', 'inactive-pages', 'pages inactive'],
  ['vm.v_cache_count', 'vm-cache-pages', 'pages in VM cache'],
  ['vm.v_wire_count', 'wired-pages', 'pages wired down'],
  ['vm.v_free_count', 'free-pages', 'pages free'],
  ['vm.v_page_size', 'bytes-per-page', 'bytes per page'],
];

export interface Sum {
  readonly key: string;
  readonly words: string;
  readonly value: number;
}
/** The sums that the machine keeps. */
export function vmstat_sums(fetch: memstat_fetch): Sum[] {
  const found: Sum[] = [];
  for (const [name, key, words] of SUMS_LINES) {
    const bytes = fetch(`vm.stats.${name}`, 8);
    if (typeof bytes === 'number' || (bytes.length !== 4 && bytes.length !== 8)) continue;
    const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const value = bytes.length === 4 ? v.getUint32(0, true) : Number(v.getBigUint64(0, true));
    found.push({ key, words, value });
  }
  return found;
}
/** The lines. */
export function vmstat_sums_text(sums: readonly Sum[]): string {
  return sums.map(({ words, value }) => `${kprintf('%9ju', value)} ${words}\n`).join('');
}
