/*
 * vm_page_busy: pages between the page floor and an owner with an index.
 *
 * A memory object finds its pages by an index.  Such a page has a way to go: it is taken,
 * filled, perhaps from a store, and only then entered.  A CPU may have any number of
 * them at once, for longer than one call, so they are in no hand: each carries its
 * kind, its owner-to-be and its index, and in `busy` the tid of the CPU that has it.
 *
 *      vm_page_alloc_busy    queue or cache -> hand -> busy        owner does not lead to it
 *      vm_page_hand_busy     run in hand -> busy                   the same
 *      vm_page_unbusy        in the section that enters it         owner leads to it
 *      vm_page_busy          in the section that takes it out      owner does not lead to it
 *      vm_page_free_busy     busy -> hand -> cache or queue, or first to limbo (vm_page_limbo.ts)
 *
 * Both sections are the owner's own, under its lock: index and `busy` change together or,
 * after a death, not at all.  A page that stays where it is while something is done to
 * it, input and output for one, is made busy and not taken out.
 *
 * Deaths.  The reaper looks through the page array for the dead CPU's tid.  A page to
 * which its owner does not lead (the line of its kind in boot/main.ts says how that is
 * seen) becomes free, and what the owner noted at it is forgotten; any other is on a queue, if
 * it is of a sort that is on one, and busy no longer.  The tid changes by compare-and-swap, so
 * that of two settlers one has the page.
 */
import { atomic_cas, sim_point } from '../machine/atomic.ts';
import { pcpu as pcpu_, thr as thr_, tid_cpu } from '../machine/cpu.ts';
import { v_reap_pages } from '../machine/death.ts';
import { counter_add } from '../machine/counter.ts';
import { opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { elem, field_word } from '../machine/struct.ts';
import { tlb_owed } from '../machine/tlb_ack.ts';
import { PG_WANTED, PK_HAND, vm_page } from '../h/vm_page.ts';
import { wakeup } from '../sync/subr_sleepqueue.ts';
import { save } from '../sync/undo.ts';
import {
  vm_page_free,
  vm_page_hand_length,
  vm_page_in_hand,
  vm_page_settle,
  vm_page_unowned,
} from './vm_page.ts';
import { vm_page_get, vm_page_put } from './vm_page_cache.ts';
import { vm_page_unwire_all } from './vm_pageq.ts';
import { vm_page_limbo, vm_page_limbo_count, vm_page_limbo_free } from './vm_page_limbo.ts';
import { vm_page_requeued } from './vm_pageq.ts';
import { phys_root, vm_phys } from './vm_phys.ts';

// Local names: V8 takes them for constants, imported ones it does not.
const thr = thr_;
const pcpu = pcpu_;
const opt = opt_;
const page = vm_page;

/**
 * Takes a page that is to be page `index` of `owner`, of kind PK_OBJECT or its like: busy,
 * and not yet found by the owner.  `req` as for vm_page_get; PG_ZERO in its flags says
 * what came.  0: none within the reserve of its class.  Never sleeps.
 */
export function vm_page_alloc_busy(
  kind: number,
  owner: number,
  index: number,
  req: number,
): number {
  const m = vm_page_get(req);
  if (m === 0) return 0;
  page.owner[m] = owner;
  page.index[m] = index;
  page.busy[m] = thr.tid;
  page.info[m] = kind;
  if (opt.SIM) sim_point(m);
  vm_page_settle();
  return m;
}
/**
 * The last page of the run on top of this CPU's hand is to be page `index` of `owner`, as by
 * vm_page_alloc_busy; the others stay in hand, and with the first one the run leaves it.
 */
export function vm_page_hand_busy(kind: number, owner: number, index: number): number {
  const length = vm_page_hand_length();
  const left = pcpu.in_hand[length] - 1;
  const m = pcpu.in_hand[elem(length, -1)] + left;
  page.owner[m] = owner;
  page.index[m] = index;
  page.busy[m] = thr.tid;
  page.info[m] = kind;
  if (opt.SIM) sim_point(m);
  if (left === 0) vm_page_settle();
  else pcpu.in_hand[length] = left;
  return m;
}
/** Makes a page of an owner busy by this CPU. Inside the owner's section; nobody has it busy. */
export function vm_page_busy(m: number): void {
  if (opt.INVARIANTS && page.busy[m] !== 0) panic('vm_page_busy: it is busy', m, page.busy[m]);
  save(page.busy, m);
  page.busy[m] = thr.tid;
}
/** Ends that. Inside the owner's section. */
export function vm_page_unbusy(m: number): void {
  if (opt.INVARIANTS && page.busy[m] !== thr.tid) panic('vm_page_unbusy: not busy by this CPU', m);
  save(page.busy, m);
  page.busy[m] = 0;
}
/** The same of one page by itself, outside a section: all else that is said of it is so already. */
export function vm_page_idle(m: number): void {
  if (opt.INVARIANTS && page.busy[m] !== thr.tid) panic('vm_page_idle: not busy by this CPU', m);
  page.busy[m] = 0;
}
/**
 * Frees a page that this CPU has busy and to which no owner leads any more.  With `zero`
 * the caller certifies that it is all zeros.
 */
export function vm_page_free_busy(m: number, zero = false): void {
  if (opt.INVARIANTS && page.busy[m] !== thr.tid) panic('vm_page_free: not busy by this CPU', m);
  if (tlb_owed()) return vm_page_limbo(m);
  if (vm_page_limbo_count() > 0) vm_page_limbo_free();
  vm_page_free_now(m, zero);
}
/** The same without asking whether some CPU may still have an access to it under way. */
export function vm_page_free_now(m: number, zero: boolean): void {
  vm_page_in_hand(m, 1);
  page.info[m] = PK_HAND;
  if (opt.SIM) sim_point(m);
  page.busy[m] = 0;
  vm_page_put(m, zero);
}

/** Clears what owners note at a page that has no owner any more and is on no queue. */
export function vm_page_forget(m: number): void {
  page.state[m] = 0;
  page.slot[m] = 0;
  page.ref[m] = 0;
  page.mod[m] = 0;
}
/** Pages that a dead CPU had busy: free, or their owner's. A line of the death table. */
export function vm_page_busy_reap(cpu: number): void {
  const ph = phys_root();
  if (ph === 0) return;
  for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) {
    const dead = page.busy[m];
    // An heir looks for what those before it on its slot had.
    if (dead === 0 || tid_cpu(dead) !== cpu || dead === thr.tid) continue;
    const w = field_word(page.busy, m);
    if (!vm_page_unowned(m)) {
      // It may have been on its way from one queue to another, or from a page that it replaced.
      vm_page_requeued(m);
      if (atomic_cas(w, dead, 0) === dead && page.flags[m] & PG_WANTED) wakeup(w);
    } else if (atomic_cas(w, dead, thr.tid) === dead) {
      counter_add(v_reap_pages, 1);
      vm_page_forget(m);
      if (page.wired[m] !== 0) vm_page_unwire_all(m);
      if (tlb_owed()) {
        vm_page_limbo(m);
        continue;
      }
      vm_page_in_hand(m, 1);
      page.busy[m] = 0;
      vm_page_free(m);
    }
  }
}
/** Pages that are busy by anybody. The machine is quiet. */
export function vm_page_busy_count(): number {
  const ph = phys_root();
  let n = 0;
  for (let m = vm_phys.low[ph]; m < vm_phys.high[ph]; m++) if (page.busy[m] !== 0) n++;
  return n;
}
