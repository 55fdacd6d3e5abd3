/*
 * vm_pageout_still: the threads that page out hold still.
 *
 *      pageout_still(run)      who wants to look at all of the memory, with no page moving
 *      pager_turns(turn)       each turn of the page daemon, and of those that write beside it
 *
 * A program that proves its structures sees to it that its own threads are at rest; of the page
 * daemon it knows nothing.  So whoever proves them notes itself in `still`, and waits until no
 * pager is in a turn.  A pager notes that it is in one, and then looks whether somebody wants it
 * still: of the two notes one is always seen, since both are made by an exchange.
 *
 *      pager      turn[cpu] = 1;  still?  turn[cpu] = 0, sleep, again  :  work;  turn[cpu] = 0
 *      prover     still = tid;  until all turns are 0: sleep;  prove;  still = 0
 *
 * A pager that dies in a turn has its note taken back by the reaper, and a prover that dies is
 * found out by whoever waits for it.
 */
import { atomic_cas, atomic_load, atomic_store, atomic_xchg } from '../machine/atomic.ts';
import { cpu_slots, thr } from '../machine/cpu.ts';
import { reap_all, tid_alive } from '../machine/death.ts';
import { host_can_block } from '../machine/host.ts';
import { field_word } from '../machine/struct.ts';
import { W_PSTILL } from '../machine/wmesg.ts';
import { tsleep, wakeup } from '../sync/subr_sleepqueue.ts';
import { pageout_root, pageout_turn, vm_pageout_root } from './vm_pageout_vars.ts';

const pageout = vm_pageout_root;
/** How long either waits for the other until it looks whether that one died, ms. */
const SLICE_MS = 20;

function still_word(): number {
  return field_word(pageout.still, pageout_root());
}
/** Runs a turn of a thread that pages out, when nobody wants it to hold still. */
export function pager_turns<T>(turn: () => T): T {
  const w = still_word();
  const mine = pageout_turn(thr.cpu);
  for (;;) {
    atomic_xchg(mine, 1);
    const prover = atomic_load(w);
    if (prover === 0) break;
    atomic_store(mine, 0);
    wakeup(w);
    tsleep(w, W_PSTILL, SLICE_MS, () => atomic_load(w) === prover);
    if (!tid_alive(prover)) atomic_cas(w, prover, 0);
  }
  const result = turn();
  atomic_store(mine, 0);
  if (atomic_load(w) !== 0) wakeup(w);
  return result;
}
/** Whether some thread that pages out is in a turn. */
function turning(): boolean {
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    if (cpu !== thr.cpu && atomic_load(pageout_turn(cpu)) !== 0) return true;
  }
  return false;
}
/**
 * Runs something while no thread of the kernel pages out.  It may sleep first, for as long as a
 * turn takes; a thread that may not block does not wait.  The caller holds no lock.
 */
export function pageout_still<T>(run: () => T): T {
  const w = still_word();
  while (atomic_cas(w, 0, thr.tid) !== 0) {
    const other = atomic_load(w);
    if (other === thr.tid || !host_can_block()) return run();
    tsleep(w, W_PSTILL, SLICE_MS, () => atomic_load(w) === other);
    if (other !== 0 && !tid_alive(other)) atomic_cas(w, other, 0);
  }
  while (host_can_block() && turning()) {
    tsleep(w, W_PSTILL, SLICE_MS, turning);
    reap_all();
  }
  let result: T;
  try {
    result = run();
  } catch (e) {
    still_no_more(w);
    throw e;
  }
  still_no_more(w);
  return result;
}
function still_no_more(w: number): void {
  atomic_store(w, 0);
  wakeup(w);
}
