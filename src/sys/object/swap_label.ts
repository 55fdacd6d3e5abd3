/*
 * swap_label: what stands at the beginning of a swap file.
 *
 *      kmem swap 1                         version
 *      pages of 4096
 *      of 1234-88131-4026531836 77261      process, machine; or: of nobody
 *
 * as text, and zeros up to the end of the first page, which is never given as a slot.  So a file
 * is used only if kmem made it, or it is empty, and not while another machine uses it.  What a
 * process left that is gone is nobody's.
 */
import { host_process, host_process_gone } from '../machine/host_process.ts';
import { EBUSY, EINVAL } from '../machine/errno.ts';
import { M, machine } from '../machine/header.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import { vm_store_readv, vm_store_writev } from './vm_store.ts';

const LABEL = /^kmem swap 1\npages of (\d+)\nof ([\d-]+|nobody)(?: (\d+))?\n\0/;

/** Writes the label: this machine uses the file, or nobody does. 0, or an errno. */
export function swap_label_write(s: vm_store_t, used: boolean): number {
  const of = used ? `${host_process()} ${machine.id_low[M]}` : 'nobody';
  const bytes = new Uint8Array(PAGE_SIZE);
  bytes.set(new TextEncoder().encode(`kmem swap 1\npages of ${PAGE_SIZE}\nof ${of}\n`));
  return vm_store_writev(s, 0, [bytes]);
}
/** Whether the file may be used: 0; EINVAL, it is no swap file; EBUSY, a machine uses it. */
export function swap_label_check(s: vm_store_t): number {
  const bytes = new Uint8Array(PAGE_SIZE);
  const n = vm_store_readv(s, 0, [bytes]);
  if (n < 0) return -n;
  const [, page, process] = LABEL.exec(new TextDecoder('latin1').decode(bytes)) ?? [];
  if (n < PAGE_SIZE || Number(page) !== PAGE_SIZE || process === undefined) return EINVAL;
  return process === 'nobody' || host_process_gone(process) ? 0 : EBUSY;
}
