/*
 * stack_sample: each request is noted with its stack, and frees take that back, while a third CPU
 * turns sampling off and on; one dies anywhere.
 *
 * Every sample is on its list once, on a page with its mark; no page is lost, and the dead one has
 * at most one block that nobody answers for.
 */
import { stack_depot_check } from '../../src/sys/kmem/kern_stack.ts';
import { sample_switch, samples_check } from '../../src/sys/kmem/kern_stack_sample.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { check_account } from '../account.ts';
import { clear, setup, swap } from '../malloc_ops.ts';
import type { SimScript } from '../script.ts';

const turn = (on: boolean) => (): void => sample_switch(on);

export const script: SimScript = {
  help: 'requests are noted with their stacks, and forgotten; one dies anywhere',
  cpus: 3,
  memory: '2M',
  set: { 'vm.stack.interval': 1 },
  victim: 1,
  kill_seeds: 1,
  setup() {
    setup();
    sample_switch(true);
  },
  ops: (cpu) =>
    cpu === 2
      ? [swap(4, 100), turn(false), swap(4, 100), turn(true), clear(4)]
      : [swap(cpu, 100), swap(cpu, 9000), swap(4, 100), clear(cpu)],
  check() {
    samples_check();
    stack_depot_check();
    uma_reclaim();
    return check_account();
  },
};
