/*
 * vm_object_check: proves all memory objects of a quiet machine.
 *
 * What is proved of each: it is on the list once; its index leads to pages that say they are
 * its own, and so many as it counts; no two have a slot of the swap area, and those that they
 * have are the ones in use; of those that it backs each is on its list of shadows and
 * says so; its references are its shadows, the notes in the hands of CPUs, that of a file, that
 * of the root to a device, and what the caller knows of (`anchored`: map entries, in the end).
 */
import { cpu_slots, pcpu, pcpu_of } from '../machine/cpu.ts';
import { counter_get } from '../machine/counter.ts';
import { v_reaps } from '../machine/death.ts';
import { panic } from '../machine/panic.ts';
import { elem, NULL } from '../machine/struct.ts';
import { PK_MASK, PK_OBJECT, SLOT_MAX, vm_page } from '../h/vm_page.ts';
import { vm_loan, type vm_loan_t } from '../h/vm_loan.ts';
import {
  OBJT_LOAN,
  OBJT_SWAP,
  vm_object,
  vm_object_root,
  type vm_object_t,
} from '../h/vm_object.ts';
import { checked_quiet } from '../machine/parts.ts';
import { zone_present } from '../uma/uma_stats.ts';
import type { zone_t } from '../h/uma.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { pageq_check } from '../page/vm_pageq.ts';
import { swap_check } from './swap_area.ts';
import { device_check } from './vm_device.ts';
import { object_index, object_root } from './vm_object.ts';
import { vnode_check } from './vm_vnode.ts';
import { radix_check } from '../pmap/vm_radix.ts';

const object = vm_object;
const page = vm_page;

/** Every object on the list, newest first. */
export function objects_all(): vm_object_t[] {
  const all: vm_object_t[] = [];
  let prev = NULL as vm_object_t;
  for (let o = vm_object_root.first[object_root()]; o !== NULL; o = object.next[o]) {
    if (object.prev[o] !== prev) panic('vm_object_check: link back', o * 4);
    all.push(o);
    prev = o;
  }
  if (all.length !== vm_object_root.count[object_root()]) {
    panic('vm_object_check: objects', all.length, vm_object_root.count[object_root()]);
  }
  return all;
}
/** The proof; `anchored` says how many references to an object stand in records. */
export function vm_object_check(anchored: (o: vm_object_t) => number): void {
  checked_quiet(true);
  prove(anchored);
  checked_quiet(false);
  pageq_check();
}
function prove(anchored: (o: vm_object_t) => number): void {
  const all = objects_all();
  const refs = new Map<number, number>(all.map((o) => [o, anchored(o)]));
  const add = (o: number): void => {
    if (!refs.has(o)) panic('vm_object_check: a reference to no object', o * 4);
    refs.set(o, (refs.get(o) ?? 0) + 1);
  };
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const pc = pcpu_of(cpu);
    for (let i = 0; i < pcpu.in_hand_refs[pc]; i++) add(pcpu.in_hand_ref[elem(pc, i)]);
  }
  for (const o of all) if (object.backing[o] !== NULL) add(object.backing[o]);
  for (const o of [...device_check(), ...vnode_check()]) add(o);
  let nodes = 0;
  let pages = 0;
  const slots: number[] = [];
  for (const o of all) {
    if (refs.get(o) !== object.refs[o]) {
      panic('vm_object_check: references', o * 4, `${object.refs[o]}, found ${refs.get(o)}`);
    }
    shadows_check(o, all);
    loan_check(o);
    const found = pages_check(o, slots);
    pages += found.pages;
    nodes += found.nodes;
  }
  const used = zone_present(vm_object_root.nodes[object_root()] as zone_t).used;
  if (used !== nodes) panic('vm_object_check: nodes of indexes', used, nodes);
  owned_check(pages);
  swap_check(slots);
}
/** What shows a loan has one of its own. */
function loan_check(o: vm_object_t): void {
  if (object.type[o] !== OBJT_LOAN) return;
  const l = object.loan[o] as vm_loan_t;
  if (vm_loan.object[l] !== o) panic('vm_object_check: no loan of its own', o * 4, l * 4);
  if (vm_loan.pages[l] !== object.size[o]) panic('vm_object_check: size of a loan', o * 4);
}
function shadows_check(o: vm_object_t, all: readonly vm_object_t[]): void {
  const listed = new Set<number>();
  let prev = NULL as vm_object_t;
  for (let s = object.shadows[o]; s !== NULL; s = object.shadow_next[s]) {
    if (object.backing[s] !== o) panic('vm_object_check: a shadow of another one', s * 4, o * 4);
    if (object.shadow_prev[s] !== prev) panic('vm_object_check: shadows, link back', s * 4);
    listed.add(s);
    prev = s;
  }
  const backed = all.filter((s) => object.backing[s] === o).length;
  if (listed.size !== backed || object.shadow_count[o] !== backed) {
    panic('vm_object_check: shadows', `${listed.size} listed, ${backed} backed`);
  }
}
/** Proves the index of an object; the slots that it has are added to `slots`. */
function pages_check(o: vm_object_t, slots: number[]): { pages: number; nodes: number } {
  let pages = 0;
  const nodes = radix_check(object_index(o), counter_get(v_reaps) === 0, (i, m) => {
    if (i >= object.size[o]) panic('vm_object_check: a page beyond the end', i, object.size[o]);
    if (m < 0 || page.slot[m] !== 0) slots.push(slot_check(o, m));
    if (m < 0) return;
    const own = page.owner[m] === o && page.index[m] === i;
    if (!own || (page.info[m] & PK_MASK) !== PK_OBJECT) panic('vm_object_check: page', i, m);
    pages++;
  });
  if (pages !== object.resident[o]) {
    panic('vm_object_check: resident', object.resident[o], pages);
  }
  return { pages, nodes };
}
/** The slot that an entry of the index says. */
function slot_check(o: vm_object_t, entry: number): number {
  if (object.type[o] !== OBJT_SWAP) panic('vm_object_check: a slot, but no object of SWAP', o * 4);
  const slot = entry < 0 ? -entry : page.slot[entry];
  if (slot > SLOT_MAX) panic('vm_object_check: a slot that is half moved', o * 4, slot);
  return slot;
}
/** No page says that it is an object's without being found there. */
function owned_check(pages: number): void {
  const ph = phys_root();
  let n = 0;
  for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) {
    if ((page.info[m] & PK_MASK) === PK_OBJECT) n++;
  }
  if (n !== pages) panic('vm_object_check: pages of objects', n, pages);
}
