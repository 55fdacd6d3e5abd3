/*
 * vm_meter: vm.vmtotal, how much virtual and real memory there is, and how much of it is in use.
 *
 *      vm, rm         pages that objects may have, and have           avm, arm: of active ones
 *      vmshr, rmshr   the same of objects that back more than one     avmshr, armshr
 *      rq dw pw sl sw   threads that run, wait, wait for pages, sleep, and are swapped out
 *
 * An object is active if an address space shows it; one further down a chain is not.  A page is
 * counted once, with its object, however often it is mapped.  Devices do not count: what they
 * show is the kernel's.
 *
 * Threads are the CPUs of the machine; the page daemon counts only while it works.  One that
 * waits in the middle of a call, for free pages or for another thread that has a part of a
 * space in work, waits.  One that is parked otherwise sleeps, for whatever the program does.  In
 * `pw` each space counts that shows an object whose pages are on their way from a store.  None
 * is ever swapped out.
 *
 * All of it is counted anew at each read, beside threads that go on.
 *
 * Unlike BSD: an object that is active is noted by the reader, and not in the object.
 */
import { CPU_PARKED, pcpu, pcpu_of } from '../machine/cpu.ts';
import { cpu_alive } from '../machine/death.ts';
import { M, machine } from '../machine/header.ts';
import type { SysctlRequest } from '../machine/sysctl_decl.ts';
import { W_OBJPIP, W_PAGEOUT, W_PSLEEP, W_VMMAP, W_VMPBUSY, W_VMWAIT } from '../machine/wmesg.ts';
import { MAP_ENTRY_IS_SUB_MAP, vm_map_entry } from '../h/vm_map.ts';
import { OBJT_DEVICE, vm_object } from '../h/vm_object.ts';
import { vm_page_free_count } from '../page/vm_page.ts';
import { PQ_CACHE, pageq_count } from '../page/vm_pageq.ts';
import { sleepq_list } from '../sync/subr_sleepqueue.ts';
import { maps_each } from '../map/vm_map.ts';
import { entries_of, objects_each } from './procstat_vm.ts';

const object = vm_object;
const WAITS: readonly string[] = [W_VMWAIT, W_PAGEOUT, W_VMPBUSY, W_OBJPIP, W_VMMAP];
const MOST = 2 ** 31 - 1;

interface Vmtotal {
  rq: number;
  dw: number;
  pw: number;
  sl: number;
  sw: number;
  vm: number;
  avm: number;
  rm: number;
  arm: number;
  vmshr: number;
  avmshr: number;
  rmshr: number;
  armshr: number;
  free: number;
}
/** The totals, in pages. The caller holds no lock. */
export function vmtotal(): Vmtotal {
  const t: Vmtotal = {
    ...{ rq: 0, dw: 0, pw: 0, sl: 0, sw: 0, vm: 0, avm: 0, rm: 0, arm: 0 },
    ...{ vmshr: 0, avmshr: 0, rmshr: 0, armshr: 0 },
    free: vm_page_free_count() + pageq_count(PQ_CACHE),
  };
  count_threads(t);
  const active = new Set<number>();
  maps_each((mp) => {
    let paging = false;
    for (const e of entries_of(mp)) {
      const o = vm_map_entry.object[e];
      if (o === 0 || vm_map_entry.eflags[e] & MAP_ENTRY_IS_SUB_MAP) continue;
      active.add(o);
      paging ||= object.paging[o] > 0;
    }
    if (paging) t.pw++;
  });
  objects_each((o) => {
    if (object.type[o] === OBJT_DEVICE || object.refs[o] === 0) return;
    const [pages, resident] = [object.size[o], object.resident[o]];
    const shared = object.shadow_count[o] > 1;
    t.vm += pages;
    t.rm += resident;
    if (shared) {
      t.vmshr += pages;
      t.rmshr += resident;
    }
    if (!active.has(o)) return;
    t.avm += pages;
    t.arm += resident;
    if (shared) {
      t.avmshr += pages;
      t.armshr += resident;
    }
  });
  return t;
}
function count_threads(t: Vmtotal): void {
  const asleep = new Map(sleepq_list().map((s) => [s.cpu, s.wmesg]));
  for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
    const wmesg = asleep.get(cpu) ?? '';
    if (!cpu_alive(cpu) || wmesg === W_PSLEEP) continue;
    if (WAITS.includes(wmesg)) t.dw++;
    else if (pcpu.state[pcpu_of(cpu)] & CPU_PARKED) t.sl++;
    else t.rq++;
  }
}
/** As BSD's structure: five numbers of 16 bits, two bytes, nine of 32. */
function vmtotal_bytes(t: Vmtotal): Uint8Array {
  const v = new DataView(new ArrayBuffer(48));
  for (const [i, n] of [t.rq, t.dw, t.pw, t.sl, t.sw].entries()) v.setInt16(i * 2, n, true);
  const pages = [t.vm, t.avm, t.rm, t.arm, t.vmshr, t.avmshr, t.rmshr, t.armshr, t.free];
  for (const [i, n] of pages.entries()) v.setInt32(12 + i * 4, Math.min(n, MOST), true);
  return new Uint8Array(v.buffer);
}
/** vm.vmtotal. */
export function vmtotal_report(req: SysctlRequest): number {
  return req.out(vmtotal_bytes(vmtotal()));
}
