/*
 * The worker of vm_kern_smp.slow.test.ts: it waits for room in a map of kernel addresses; fills
 * one that is too small for two, beside another worker; or asks and gives back until it is told to
 * stop, or is killed.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { ptoa } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { M_WAITOK } from '../h/malloc_flags.ts';
import { fuword, suword } from './vm_copy.ts';
import { kern_sub } from './vm_kern.test.lib.ts';
import { kernel_map, kmem_free, kmem_malloc } from './vm_kern.ts';
import { kmem_alloc_wait, kmem_free_wakeup } from './vm_kern_wait.ts';
import { done_word, stop_word } from './vm_map.test.lib.ts';

function mark(at: number, n: number): void {
  for (let i = 0; i < n; i++) {
    const was = fuword(kernel_map(), ptoa(at + i));
    if (was !== 0) throw new Error(`page ${at + i} holds ${was}`);
    if (suword(kernel_map(), ptoa(at + i), at * 16 + i) !== 0) throw new Error('not written');
  }
}
function look(at: number, n: number): void {
  for (let i = 0; i < n; i++) {
    const got = fuword(kernel_map(), ptoa(at + i));
    if (got !== at * 16 + i) throw new Error(`page ${at + i} holds ${got}`);
  }
}
/** One at a time, of up to 8 pages of the 12 that there are. */
function share(seed: number, turns: number): number {
  const draw = dice(seed);
  for (let i = 0; i < turns; i++) {
    const n = 1 + draw(8);
    const at = kmem_alloc_wait(kern_sub(), n);
    if (at === 0) throw new Error('it was not served');
    mark(at, n);
    look(at, n);
    kmem_free_wakeup(kern_sub(), at, n);
  }
  return turns;
}
function churn(seed: number): number {
  const draw = dice(seed);
  const held: { at: number; n: number }[] = [];
  let turns = 0;
  for (; atomic_load(stop_word()) === 0; turns++) {
    const n = 1 + draw(20);
    if (held.length < 8) {
      const at = kmem_malloc(kern_sub(), n, M_WAITOK);
      if (at === 0) throw new Error('no memory');
      mark(at, n);
      held.push({ at, n });
    }
    if (held.length === 8 || draw(2) === 0) {
      const [one] = held.splice(draw(held.length), 1);
      look(one.at, one.n);
      kmem_free(kern_sub(), one.at, one.n);
    }
    atomic_add(done_word(), 1);
  }
  return turns;
}
function wait(n: number): number {
  const at = kmem_alloc_wait(kern_sub(), n);
  mark(at, n);
  kmem_free_wakeup(kern_sub(), at, n);
  return at;
}
run_job<{ seed: number; n: number; turns: number }>(
  (job, { seed, n, turns }) => {
    if (job === 'wait') return { at: wait(n) };
    return { n: job === 'share' ? share(seed, turns) : churn(seed) };
  },
  { join: attach, leave: () => void detach() },
);
