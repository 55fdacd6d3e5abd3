/*
 * The worker of page_busy.test.ts: it makes pages for the table, enters, works on, takes
 * out and drops them, with up to a dozen busy at a time and two in its hand, until it is
 * told to stop or is killed.
 */
import { attach, detach } from '../boot/whole.ts';
import { PK_WIRED, VM_ALLOC_ZERO, vm_page } from '../h/vm_page.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import {
  OWNED_MAX,
  owner,
  page_drop,
  page_enter,
  page_for,
  page_leave,
  page_work,
  the_owner,
} from './page_owner.test.lib.ts';
import { pmap_zero_page } from './vm_page.ts';
import { vm_page_get, vm_page_put } from './vm_page_cache.ts';

/** Behind the owner's record: whether to stop, and operations done by all. */
export const stop_word = (): number => the_owner() + owner.sizeof;
export const done_word = (): number => stop_word() + 1;
const BUSY_MOST = 12;
/** Operations between two reports. */
const BATCH = 64;

/** Two pages in hand at once, as a fault has them that needs a page for its page table. */
function two_in_hand(): void {
  const a = vm_page_get(0);
  const b = vm_page_get(VM_ALLOC_ZERO);
  for (const m of [b, a]) {
    if (m === 0) continue;
    vm_page.info[m] = PK_WIRED;
    vm_page_put(m);
  }
}
/** Churns; returns how many operations it did. */
function churn(seed: number): number {
  const draw = dice(seed);
  const busy: number[] = [];
  let n = 0;
  for (; atomic_load(stop_word()) === 0; n++) {
    const what = draw(100);
    if (what < 30 && busy.length < BUSY_MOST) {
      const m = page_for(draw(OWNED_MAX), draw(2) === 0);
      if (m !== 0) busy.push(m);
    } else if (what < 55) {
      const m = busy.pop();
      if (m !== undefined && !page_enter(m)) page_drop(m);
    } else if (what < 75) {
      const m = page_leave(draw(OWNED_MAX));
      if (m !== 0) busy.push(m);
    } else if (what < 85) {
      const m = busy.shift();
      if (m === undefined) continue;
      if (draw(2) === 0) page_drop(m);
      else {
        pmap_zero_page(m);
        page_drop(m, true);
      }
    } else if (what < 93) page_work(draw(OWNED_MAX), pmap_zero_page);
    else if (what < 99) two_in_hand();
    else if (draw(20) === 0) uma_reclaim();
    if (n % BATCH === 0) atomic_add(done_word(), BATCH);
  }
  for (const m of busy) page_drop(m);
  return n;
}
run_job<{ seed: number }>((_job, { seed }) => ({ n: churn(seed) }), {
  join: attach,
  leave: () => void detach(),
});
