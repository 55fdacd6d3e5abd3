/*
 * redzone: blocks with a pattern around them, while that is switched.
 *
 * Two CPUs take, resize, hand over and free blocks whose user's bytes lie in an item, on the first
 * page of a run and on its second; one of them turns redzones off and on in between.  One dies
 * anywhere: the bytes that are counted are those of the blocks that have redzones, whosever they
 * are, and nothing is told of them.
 */
import { counter_get } from '../../src/sys/machine/counter.ts';
import { sysctl_decls, sysctl_set } from '../../src/sys/machine/sysctl_decl.ts';
import { redzone_check } from '../../src/sys/kmem/redzone.ts';
import { redzone_switch, v_found } from '../../src/sys/kmem/redzone_vars.ts';
import { check_account } from '../account.ts';
import { burst, clear, reclaim, resize, setup, swap } from '../malloc_ops.ts';
import type { SimScript } from '../script.ts';

const turn = (on: number) => (): void => {
  const decl = sysctl_decls.find((d) => d.name === 'vm.redzone.enable');
  if (decl === undefined) throw new Error('no vm.redzone.enable');
  sysctl_set(decl, on);
  redzone_switch();
};

export const script: SimScript = {
  help: 'redzone: switched while blocks are taken and freed; the bytes are counted',
  victim: 1,
  kill_seeds: 1,
  setup() {
    setup();
    turn(1)();
  },
  ops: (cpu) =>
    cpu === 0
      ? [swap(0, 100), resize(0, 2040), turn(0), burst(3, 60), reclaim, swap(2, 5000), clear(3)]
      : [
          swap(2, 5000),
          swap(0, 300),
          resize(1, 64),
          turn(1),
          burst(3, 700),
          clear(0),
          swap(3, 2040),
        ],
  check() {
    redzone_check();
    return counter_get(v_found) > 0 ? 'nothing is wrong, but it says so' : check_account();
  },
};
