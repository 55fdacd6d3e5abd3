/*
 * pmap_tlb: the tags by which a CPU translates, and how translations are taken back.
 *
 * A CPU has a set of tags (h/pmap.ts) for each of the address spaces that it used last, at
 * most `vm.tlb_spaces`.  An access whose tag is there costs a compare; without a lock, and
 * without a look at anything that others write.  One whose tag is not there *misses*: it
 * walks the page table and fills the tag, both under the lock of the pmap.  A fault that enters a
 * translation fills it under the same hold.
 *
 * Taking translations back, under that same lock:
 *
 *      1  the page table entries change
 *      2  their tags are emptied on each CPU that has a set for the pmap: anybody may do that
 *      3  that CPU is asked, and answers at its next poll (machine/tlb_ack.ts)
 *
 * No tag can come back: who fills one has the lock, and sees the table as it is.  So the
 * answer says no more than that the access which was under way is over.  Whether anybody
 * waits for it is the caller's: a page that was unmapped must not be used anew before, and a
 * writer may write until then.  Modelled in models/tlb.pml (-DLOCKED).
 *
 * A CPU gets a set under the lock, and gives it back under it, so that nobody stores -1 where
 * another address space's tags are by then.
 *
 * Beside each set stand tags of superpages (pmap_tlb_super.ts), for which the same holds.
 */
import { cpu_spinwait } from '../machine/atomic.ts';
import { now_ms } from '../machine/clock.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import {
  cpu_ring,
  cpu_slots,
  pcpu as pcpu_,
  pcpu_of,
  type pcpu_t,
  poll,
  TLB_SETS_MAX,
  thr as thr_,
} from '../machine/cpu.ts';
import { host_sleep } from '../machine/host.ts';
import { hw as hw_, mem as mem_, PAGE_WORDS, page_word, word_page } from '../machine/memory.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word, NULL } from '../machine/struct.ts';
import { sysctl_get, sysctl_uint } from '../machine/sysctl_decl.ts';
import { tlb_ask, tlb_asked, tlb_owed, tlb_owes } from '../machine/tlb_ack.ts';
import { pmap as pmap_, type pmap_t, TLB_ENTRIES, TLB_NONE, TLB_STORES } from '../h/pmap.ts';
import { mtx_assert, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { save, undo_begin, undo_begin_private, undo_end } from '../sync/undo.ts';
import { vm_page_settle, vm_page_wired } from '../page/vm_page.ts';
import { vm_page_get } from '../page/vm_page_cache.ts';
import { vm_page_limbo, vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import {
  supers_base,
  supers_clear,
  supers_drop,
  supers_drop_all,
  supers_drop_range,
  supers_each,
  supers_fill,
  supers_make,
} from './pmap_tlb_super.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const thr = thr_;
const pcpu = pcpu_;
const opt = opt_;
const hw = hw_;
const pmap = pmap_;

const MASK = TLB_ENTRIES - 1;

const spaces = sysctl_uint('vm.tlb_spaces', {
  value: 4,
  min: 1,
  max: TLB_SETS_MAX,
  help: 'Address spaces that a CPU translates at a time; each takes a page of it',
});
const v_shootdowns = counter_u64(
  'vm.stats.tlb.shootdowns',
  'Times that a CPU was asked to stop using translations',
);
const v_silent = counter_u64(
  'vm.stats.tlb.silent',
  'Times that a CPU did not answer to that in time',
);

// --- the sets of this CPU ----------------------------------------------------------------------

/** The number of a CPU's set for a pmap, -1: it has none. */
function set_of(pc: pcpu_t, pm: pmap_t): number {
  for (let i = 0; i < TLB_SETS_MAX; i++) if (pcpu.tlb_pmap[elem(pc, i)] === pm) return i;
  return -1;
}
/** The first word of this CPU's set for a pmap; 0: it has none. */
export function tlb_base(pm: pmap_t): number {
  const i = set_of(thr.pc, pm);
  return i < 0 ? 0 : pcpu.tlb[elem(thr.pc, i)];
}
/** The first word of this CPU's tags of superpages for it; 0: it has none. */
export function tlb_supers(pm: pmap_t): number {
  const i = set_of(thr.pc, pm);
  return i < 0 ? 0 : supers_base(thr.pc, i);
}
/** What this thread wants to know when a set of its CPU is another address space's. */
const moved: ((pm: pmap_t, base: number, supers: number) => void)[] = [];
/**
 * `heard` is called in this thread when a pmap gets a set on this CPU, or tags of superpages beside
 * it; with 0: it lost it.
 */
export function tlb_on_move(heard: (pm: pmap_t, base: number, supers: number) => void): void {
  moved.push(heard);
}
function tell(pm: pmap_t, base: number, supers: number): void {
  for (const heard of moved) heard(pm, base, supers);
}
/** Sees to it that this CPU has a set for the pmap. The caller holds no lock. False: no memory. */
export function tlb_enter(pm: pmap_t): boolean {
  if (pmap.supers[pm] !== 0 && pcpu.tlb_supers[thr.pc] === 0) supers_begin();
  if (set_of(thr.pc, pm) >= 0) return true;
  const i = room();
  if (i < 0) return false;
  const at = elem(thr.pc, i);
  const base = pcpu.tlb[at];
  hw.fill(base, TLB_NONE, PAGE_WORDS);
  supers_clear(i);
  mtx_lock(pmap.lock, pm);
  undo_begin(pmap.lock, pm);
  save(pcpu.tlb_pmap, at);
  set_active(pm, thr.cpu, true);
  pcpu.tlb_pmap[at] = pm;
  undo_end();
  mtx_unlock(pmap.lock, pm);
  tell(pm, base, supers_base(thr.pc, i));
  return true;
}
/** The first superpage that this CPU meets: all of its sets have tags of superpages. */
function supers_begin(): void {
  if (!supers_make()) return;
  for (let i = 0; i < TLB_SETS_MAX; i++) {
    const at = elem(thr.pc, i);
    const pm = pcpu.tlb_pmap[at] as pmap_t;
    if (pm !== NULL) tell(pm, pcpu.tlb[at], supers_base(thr.pc, i));
  }
}
/** A set that is nobody's: a new one, or one that another address space has to give. */
function room(): number {
  const { pc } = thr;
  const n = sysctl_get(spaces);
  for (let i = 0; i < n; i++) {
    const at = elem(pc, i);
    if (pcpu.tlb_pmap[at] !== NULL) continue;
    if (pcpu.tlb[at] !== 0 || set_make(i)) return i;
  }
  let i = pcpu.tlb_next[pc] % n;
  pcpu.tlb_next[pc] = i + 1;
  if (pcpu.tlb[elem(pc, i)] === 0) i = 0; // memory was short: the others have none either
  if (pcpu.tlb[elem(pc, i)] === 0) return -1;
  leave(thr.cpu, i);
  return i;
}
function set_make(i: number): boolean {
  const m = vm_page_get(0);
  if (m === 0) return false;
  vm_page_wired(m, 1);
  undo_begin_private();
  save(pcpu.tlb, elem(thr.pc, i));
  save(pcpu.in_hand_n, thr.pc);
  pcpu.tlb[elem(thr.pc, i)] = page_word(m);
  vm_page_settle();
  undo_end();
  return true;
}
/** A CPU translates by that set no more. Takes the lock of the pmap. */
function leave(cpu: number, i: number): void {
  const at = elem(pcpu_of(cpu), i);
  const pm = pcpu.tlb_pmap[at] as pmap_t;
  if (pm === NULL) return;
  mtx_lock(pmap.lock, pm);
  undo_begin(pmap.lock, pm);
  save(pcpu.tlb_pmap, at);
  set_active(pm, cpu, false);
  pcpu.tlb_pmap[at] = NULL;
  undo_end();
  mtx_unlock(pmap.lock, pm);
  if (cpu === thr.cpu) tell(pm, 0, 0);
}
/** This CPU translates by the pmap no more: its thread is about to let go of it. */
export function tlb_forget(pm: pmap_t): void {
  const i = set_of(thr.pc, pm);
  if (i >= 0) leave(thr.cpu, i);
}
/** Notes in a pmap whether a CPU has a set for it. Inside a section. */
function set_active(pm: pmap_t, cpu: number, on: boolean): void {
  const at = elem(pm, cpu >> 5);
  save(pmap.active, at);
  if (on) pmap.active[at] |= 1 << (cpu & 31);
  else pmap.active[at] &= ~(1 << (cpu & 31));
}
/** Whether a CPU has a set for the pmap. */
export function tlb_active(pm: pmap_t, cpu: number): boolean {
  return (pmap.active[elem(pm, cpu >> 5)] & (1 << (cpu & 31))) !== 0;
}
/** No CPU translates by the pmap any more, which is about to end. It is locked. */
export function tlb_revoke(pm: pmap_t): void {
  tlb_flush(pm);
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (!tlb_active(pm, cpu)) continue;
    const at = elem(pcpu_of(cpu), set_of(pcpu_of(cpu), pm));
    undo_begin(pmap.lock, pm);
    save(pcpu.tlb_pmap, at);
    set_active(pm, cpu, false);
    pcpu.tlb_pmap[at] = NULL;
    undo_end();
    if (cpu === thr.cpu) tell(pm, 0, 0);
  }
}
/** All sets of a CPU that leaves or died, and their pages. Lines of the life tables. */
export function tlb_leave(): void {
  tlb_reap(thr.cpu);
}
export function tlb_reap(cpu: number): void {
  const pc = pcpu_of(cpu);
  for (let i = 0; i < TLB_SETS_MAX; i++) {
    leave(cpu, i);
    const base = pcpu.tlb[elem(pc, i)];
    // By a section with a lock: who dies here is undone before that record has a new owner.
    if (base !== 0) vm_page_limbo(word_page(base), field_word(pcpu.tlb, elem(pc, i)));
  }
  const supers = pcpu.tlb_supers[pc];
  if (supers !== 0) vm_page_limbo(word_page(supers), field_word(pcpu.tlb_supers, pc));
  vm_page_limbo_free();
}

// --- filling -----------------------------------------------------------------------------------

/** This CPU translates page number `at` to a frame from here on. The pmap is locked. */
export function tlb_fill(pm: pmap_t, at: number, frame: number, write: boolean): void {
  const i = set_of(thr.pc, pm);
  if (i < 0) return;
  const tag = pcpu.tlb[elem(thr.pc, i)] + ((at & MASK) << 1);
  mem.I32[tag + 1] = frame;
  mem.I32[tag] = at;
  if (!write) return;
  mem.I32[tag + TLB_STORES + 1] = frame;
  mem.I32[tag + TLB_STORES] = at;
}
/** The same for superpage `key`, to the 1024 pages from a frame on. */
export function tlb_fill_super(pm: pmap_t, key: number, frame: number, write: boolean): void {
  const i = set_of(thr.pc, pm);
  if (i >= 0) supers_fill(i, key, frame, write);
}

/** The frame of page number `at` by this CPU's tag, 0: it has none. Good until this CPU polls. */
export function tlb_lookup(pm: pmap_t, at: number, write: boolean): number {
  const i = set_of(thr.pc, pm);
  if (i < 0) return 0;
  const tag = pcpu.tlb[elem(thr.pc, i)] + ((at & MASK) << 1) + (write ? TLB_STORES : 0);
  return mem.I32[tag] === at ? mem.I32[tag + 1] : 0;
}

// --- taking back -------------------------------------------------------------------------------

/**
 * Takes `count` translations from page number `first` on back, after the page table changed:
 * those of loads and stores, or with `stores` of stores alone.  The pmap is locked.  Waits
 * for nobody.
 */
export function tlb_shoot(pm: pmap_t, first: number, count: number, stores = false): void {
  if (opt.INVARIANTS) mtx_assert(pmap.lock, pm);
  let others = false;
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (!tlb_active(pm, cpu)) continue;
    empty(pm, cpu, first, count, stores);
    if (cpu === thr.cpu) continue;
    if (tlb_ask(cpu)) counter_add(v_shootdowns, 1);
    others = true;
  }
  if (others) tlb_asked();
}
/** The same for one page of which only its own tags must go: nobody is asked. */
export function tlb_untag(pm: pmap_t, at: number): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (tlb_active(pm, cpu)) empty_pages(pm, cpu, at, 1, false);
  }
}
/** Nobody has a tag of superpage `key` any more; nobody is asked. */
export function tlb_unsuper(pm: pmap_t, key: number): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const supers = tlb_active(pm, cpu) ? supers_of(pm, cpu) : 0;
    if (supers !== 0) supers_drop(supers, key, false);
  }
}
/** The first word of a CPU's tags of superpages for a pmap; 0: it has none. */
function supers_of(pm: pmap_t, cpu: number): number {
  const pc = pcpu_of(cpu);
  const i = set_of(pc, pm);
  return i < 0 ? 0 : supers_base(pc, i);
}
function empty(pm: pmap_t, cpu: number, first: number, count: number, stores: boolean): void {
  empty_pages(pm, cpu, first, count, stores);
  const supers = supers_of(pm, cpu);
  if (supers === 0) return;
  if (count >= TLB_ENTRIES) supers_drop_all(supers, stores);
  else supers_drop_range(supers, first, count, stores);
}
function empty_pages(pm: pmap_t, cpu: number, first: number, count: number, stores: boolean): void {
  const pc = pcpu_of(cpu);
  const i = set_of(pc, pm);
  if (i < 0) return;
  const base = pcpu.tlb[elem(pc, i)];
  if (count >= TLB_ENTRIES) {
    // The tags alone: a CPU that has passed its tag takes the frame beside it yet.
    const from = stores ? base + TLB_STORES : base;
    for (let tag = from; tag < base + PAGE_WORDS; tag += 2) mem.I32[tag] = TLB_NONE;
    return;
  }
  for (let at = first; at < first + count; at++) {
    const tag = base + ((at & MASK) << 1);
    if (!stores && mem.I32[tag] === at) mem.I32[tag] = TLB_NONE;
    if (mem.I32[tag + TLB_STORES] === at) mem.I32[tag + TLB_STORES] = TLB_NONE;
  }
}
/** Takes all translations of a pmap back: whose lock was held by a CPU that died. */
export function tlb_flush(pm: pmap_t): void {
  tlb_shoot(pm, 0, TLB_ENTRIES);
}

/** The CPU that was silent when this thread last waited in vain, for messages. */
export const tlb_silent = { cpu: -1 };
function silent(cpu: number): number {
  counter_add(v_silent, 1);
  tlb_silent.cpu = cpu;
  return cpu;
}
/**
 * Waits until every CPU that translates by the pmap has answered, at most `ms` for each.  The pmap
 * may be locked: who waits for its lock answers.  Returns -1, or a CPU that is silent.
 */
export function tlb_wait(pm: pmap_t, ms: number): number {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (cpu === thr.cpu || !tlb_active(pm, cpu)) continue;
    if (!answers(cpu, now_ms() + ms)) return silent(cpu);
  }
  return -1;
}
/**
 * Waits until no CPU owes an answer to anybody, at most `ms`: no access is under way by a
 * translation that was taken back before.  Returns -1, or a CPU that is silent.
 */
export function tlb_wait_all(ms: number): number {
  if (!tlb_owed()) return -1;
  const until = now_ms() + ms;
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (cpu === thr.cpu || !tlb_owes(cpu)) continue;
    if (!answers(cpu, until)) return silent(cpu);
  }
  poll(); // what others asked of this CPU
  return -1;
}
const SPIN_ROUNDS = 50;
const SIM_ROUNDS = 100;
const SLICE_MS = 0.05;
function answers(cpu: number, until: number): boolean {
  for (let round = 0; tlb_owes(cpu); round++) {
    poll(); // two CPUs may wait for each other
    cpu_spinwait();
    if (round < SPIN_ROUNDS) continue;
    cpu_ring(cpu);
    if (opt.SIM ? round > SIM_ROUNDS : now_ms() > until) return false;
    if (!opt.SIM) host_sleep(SLICE_MS);
  }
  return true;
}

// --- proof -------------------------------------------------------------------------------------

/** Calls `each` with every tag of every CPU for the pmap. The machine is quiet. */
export function tlb_each(
  pm: pmap_t,
  each: (at: number, frame: number, store: boolean, cpu: number) => void,
): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const pc = pcpu_of(cpu);
    const i = set_of(pc, pm);
    if (tlb_active(pm, cpu) !== i >= 0) panic('tlb: active, and a set', cpu, i);
    if (i < 0) continue;
    for (let n = 0; n < TLB_ENTRIES * 2; n++) {
      const tag = pcpu.tlb[elem(pc, i)] + n * 2;
      if (mem.I32[tag] === TLB_NONE) continue;
      if ((mem.I32[tag] & MASK) !== n % TLB_ENTRIES) panic('tlb: a tag in a wrong place', cpu, n);
      each(mem.I32[tag], mem.I32[tag + 1], n >= TLB_ENTRIES, cpu);
    }
  }
}
/** The same with every tag of a superpage. */
export function tlb_each_super(
  pm: pmap_t,
  each: (key: number, frame: number, store: boolean, cpu: number) => void,
): void {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const supers = tlb_active(pm, cpu) ? supers_of(pm, cpu) : 0;
    if (supers !== 0) supers_each(supers, (key, frame, store) => each(key, frame, store, cpu));
  }
}
