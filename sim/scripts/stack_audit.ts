/*
 * stack_audit: the last operations of blocks are kept by two CPUs at a time, one of which turns
 * that off and on; one dies anywhere.
 *
 * Each ring is on its list once, and no page or record is lost.
 */
import { audit_check, audit_switch } from '../../src/sys/kmem/kern_audit.ts';
import { stack_depot_check } from '../../src/sys/kmem/kern_stack.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { check_account } from '../account.ts';
import { clear, setup, swap } from '../malloc_ops.ts';
import type { SimScript } from '../script.ts';

const audit = (names: string) => (): void => audit_switch(names);

export const script: SimScript = {
  help: 'operations of blocks are kept with their stacks, and forgotten; one dies anywhere',
  memory: '2M',
  victim: 1,
  kill_seeds: 1,
  setup() {
    setup();
    audit_switch('sim');
  },
  ops: (cpu) =>
    cpu === 0 ? [swap(0, 100), audit(''), audit('*')] : [swap(0, 100), swap(1, 9000), clear(0)],
  check() {
    audit_check();
    stack_depot_check();
    uma_reclaim();
    return check_account();
  },
};
