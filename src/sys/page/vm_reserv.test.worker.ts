/*
 * The worker of vm_reserv.test.ts: it sets runs aside for two objects, takes pages of them, frees
 * these, and breaks and ends reservations, until it is told to stop or is killed.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { vm_page_wired } from './vm_page.ts';
import { vm_page_put } from './vm_page_cache.ts';
import { RESERV_PAGES } from './vm_phys.ts';
import { done_word, stop_word } from './vm_reserv.test.lib.ts';
import { vm_reserv_break, vm_reserv_end, vm_reserv_make, vm_reserv_take } from './vm_reserv.ts';

function step(draw: (n: number) => number): void {
  const o = (1 + draw(2)) * 4096;
  const base = draw(2) * RESERV_PAGES;
  const what = draw(20);
  if (what === 0) vm_reserv_end(o);
  else if (what === 1) vm_reserv_break();
  else if (what < 5) vm_reserv_make(o, base);
  else {
    for (let n = 0; n < 50; n++) {
      const m = vm_reserv_take(o, base + draw(RESERV_PAGES), base, 0);
      if (m === 0) continue;
      vm_page_wired(m, 1);
      vm_page_put(m); // from the hand: who dies here has it there
    }
  }
}
run_job<{ seed: number }>(
  (_job, { seed }) => {
    const draw = dice(seed);
    let n = 0;
    for (; atomic_load(stop_word()) === 0; n++) {
      step(draw);
      atomic_add(done_word(), 1);
    }
    return { n };
  },
  { join: attach, leave: () => void detach() },
);
