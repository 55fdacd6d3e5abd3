/*
 * vm_store_check: proves all stores of a quiet machine.
 *
 * What is proved of each: it is on the list once, under a number of its own; its references are
 * the records that lead to it, which the caller knows, and the notes in the hands of CPUs; it is a
 * file with a path, or memory inside the machine; who has it open is a thread that lives, or died
 * just now (the page daemon goes with the thread that started it), and what this thread has open
 * it says so.  No record is taken that is not on the list.
 */
import { cpu_slots, pcpu, pcpu_of, thr } from '../machine/cpu.ts';
import { counter_get } from '../machine/counter.ts';
import { life_index, v_reaps } from '../machine/death.ts';
import { M, machine } from '../machine/header.ts';
import { mem } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { checked_quiet } from '../machine/parts.ts';
import { SLOT_HELD, SLOT_SETTLE, slot_load, slot_state } from '../machine/slot_word.ts';
import { store_fd } from '../machine/store.ts';
import { OWN_NEW, own_all } from '../machine/store_own.ts';
import { elem, NULL } from '../machine/struct.ts';
import type { zone_t } from '../h/uma.ts';
import {
  store_root,
  VM_STORE_FILE,
  VM_STORE_MEMORY,
  VM_STORE_OPFS,
  vm_store,
  vm_store_root,
  type vm_store_t,
} from '../h/vm_store.ts';
import { zone_present } from '../uma/uma_stats.ts';
import { store_fd_word, vm_store_path } from './vm_store.ts';

const store = vm_store;
const root = vm_store_root;

/** Every store on the list, newest first. */
export function stores_all(): vm_store_t[] {
  const all: vm_store_t[] = [];
  let prev = NULL as vm_store_t;
  for (let s = root.first[store_root()]; s !== NULL; s = store.next[s]) {
    if (store.prev[s] !== prev) panic('vm_store_check: link back', s * 4);
    all.push(s);
    prev = s;
  }
  const count = root.count[store_root()];
  if (all.length !== count) panic('vm_store_check: stores', all.length, count);
  return all;
}
/** The proof. `anchors`: the stores that records lead to, each as often as they do. */
export function vm_store_check(anchors: readonly vm_store_t[]): void {
  checked_quiet(true);
  const all = stores_all();
  const refs = new Map<number, number>(all.map((s) => [s, 0]));
  const add = (s: number): void => {
    if (!refs.has(s)) panic('vm_store_check: a reference to no store', s * 4);
    refs.set(s, (refs.get(s) ?? 0) + 1);
  };
  for (const s of anchors) add(s);
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const pc = pcpu_of(cpu);
    for (let i = 0; i < pcpu.in_hand_stores[pc]; i++) add(pcpu.in_hand_store[elem(pc, i)]);
  }
  if (new Set(all.map((s) => store.id[s])).size !== all.length) {
    panic('vm_store_check: two stores with one number');
  }
  for (const s of all) {
    if (refs.get(s) !== store.refs[s]) {
      panic('vm_store_check: references', s * 4, `${store.refs[s]}, found ${refs.get(s)}`);
    }
    record_check(s);
  }
  const { used } = zone_present(root.zone[store_root()] as zone_t);
  // A dead thread's record may be lost between its cache and itself.
  if (used !== all.length && counter_get(v_reaps) === 0) {
    panic('vm_store_check: records', used, all.length);
  }
  own_check();
  checked_quiet(false);
}
function record_check(s: vm_store_t): void {
  const id = store.id[s];
  if (id <= 0 || id > root.made[store_root()]) panic('vm_store_check: number', s * 4, id);
  const is_file = store.kind[s] === VM_STORE_FILE;
  const named = is_file || store.kind[s] === VM_STORE_OPFS;
  if (!named && store.kind[s] !== VM_STORE_MEMORY) panic('vm_store_check: kind', store.kind[s]);
  if (named !== (vm_store_path(s) !== '')) panic('vm_store_check: path of a store', s * 4);
  const end = store.first_page[s] + store.pages[s];
  if (named ? end !== 0 : end > machine.npages[M]) panic('vm_store_check: pages', s * 4, end);
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const fd = mem.I32[store_fd_word(s, cpu)];
    if (fd !== 0 && !(is_file && held(cpu))) panic('vm_store_check: open by', s * 4, cpu);
  }
}
/** Whether a slot is some thread's: one that has died, and is not settled yet, left its words. */
function held(cpu: number): boolean {
  const state = slot_state(slot_load(life_index(cpu)));
  return state === SLOT_HELD || state === SLOT_SETTLE;
}
/** What this thread has open it says so, and no more. */
function own_check(): void {
  const mine = new Map(own_all().map((one) => [one.id, one]));
  if (mine.has(OWN_NEW)) panic('vm_store_check: a file is open that no store has');
  for (const s of stores_all()) {
    const one = mine.get(store.id[s]);
    const fd = one === undefined ? 0 : store_fd(one.number) + 1;
    const said = mem.I32[store_fd_word(s, thr.cpu)];
    if (said !== fd) panic('vm_store_check: descriptor', s * 4, `${fd}, said ${said}`);
  }
}
