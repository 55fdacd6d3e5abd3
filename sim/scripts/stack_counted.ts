/*
 * stack_counted: malloc and free of small blocks while stacks are sampled, most of which are only
 * counted: what the fast path does, from the bucket that is hidden from it.  Without INVARIANTS,
 * which have no such path.
 *
 * A death loses at most the one item that is between a bucket and its caller.
 */
import { sample_switch, samples_check } from '../../src/sys/kmem/kern_stack_sample.ts';
import { check_account } from '../account.ts';
import { burst, clear, reclaim, resize, setup, swap } from '../malloc_ops.ts';
import type { SimScript } from '../script.ts';

export const script: SimScript = {
  help: 'blocks are counted for samples, seldom noted; one dies anywhere',
  cpus: 3,
  memory: '2M',
  options: { INVARIANTS: false },
  set: { 'vm.stack.interval': 2000 },
  victim: 1,
  kill_seeds: 1,
  setup() {
    setup();
    sample_switch(true);
  },
  ops: (cpu) =>
    cpu === 2
      ? [swap(0, 60), reclaim, swap(1, 200), clear(0)]
      : [burst(6, 100), swap(cpu, 60), swap(0, 200), resize(0, 500), clear(cpu)],
  check() {
    samples_check();
    return check_account();
  },
};
