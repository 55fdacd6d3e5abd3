/*
 * malloc_budget: the same where memory is ample, and its budget is not.
 *
 * Slabs and large blocks are refused at the limit that vm.kmem_size sets, and two
 * CPUs grow at once at its edge.  One dies anywhere: what malloc and the zones hold is
 * never more than the limit afterwards, is what the page array says, and nobody is
 * said to be about to take more.
 */
import { pcpu, pcpu_of } from '../../src/sys/machine/cpu.ts';
import { M, machine } from '../../src/sys/machine/header.ts';
import { budget_limit, budget_limit_pages, kmem_held } from '../../src/sys/uma/uma_budget.ts';
import { check_account } from '../account.ts';
import { burst, clear, resize, setup, swap } from '../malloc_ops.ts';
import type { SimScript } from '../script.ts';

/** Pages that malloc and the zones may take beyond what they hold at first. */
const ROOM = 9;

export const script: SimScript = {
  help: 'malloc: slabs and blocks at the limit of vm.kmem_size; never beyond it',
  victim: 1,
  kill_seeds: 1,
  setup() {
    setup();
    budget_limit(kmem_held() + ROOM);
  },
  ops: (cpu) =>
    cpu === 0
      ? [burst(6, 3000), swap(0, 9000), resize(0, 200), burst(4, 100), clear(0)]
      : [swap(0, 300), burst(9, 2000), swap(1, 20000), clear(1), burst(3, 5000)],
  check() {
    const held = kmem_held();
    if (held > budget_limit_pages()) return `${held} pages held, ${budget_limit_pages()} allowed`;
    for (let cpu = 0; cpu < machine.maxcpus[M]; cpu++) {
      if (pcpu.growing[pcpu_of(cpu)] !== 0)
        return `cpu${cpu} grows by ${pcpu.growing[pcpu_of(cpu)]}`;
    }
    return check_account();
  },
};
