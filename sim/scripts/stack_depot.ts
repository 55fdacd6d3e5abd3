/*
 * stack_depot: three keep stacks that share frames, functions and files, some of their own, too,
 * and want the zones for them first; one dies anywhere.
 *
 * Each stack is there once, every record is on its list or the one that is next, and what a
 * thread was told is what it asked for.
 */
import type { Frame } from '../../src/sys/machine/backtrace.ts';
import {
  stack_depot_check,
  stack_depot_keep,
  stack_depot_text,
} from '../../src/sys/kmem/kern_stack.ts';
import { check_account } from '../account.ts';
import type { SimScript } from '../script.ts';

const frame = (fn: string, line: number): Frame => ({ fn, file: '/a', line, column: 0 });
const keep =
  (...fns: string[]) =>
  (): void => {
    const id = stack_depot_keep(fns.map((fn, i) => frame(fn, i)));
    const said = stack_depot_text(id).join();
    const wanted = fns.map((fn, i) => `${fn} at /a:${i}`).join();
    if (said !== wanted) throw new Error(`kept '${wanted}', read '${said}'`);
  };

export const script: SimScript = {
  help: 'stacks are kept once by three CPUs at a time; one dies anywhere',
  cpus: 3,
  victim: 1,
  kill_seeds: 1,
  setup() {},
  ops: (cpu) =>
    cpu === 2
      ? [keep('b', 'a'), keep('a'), keep('c', 'b')]
      : [keep('a'), keep('a', 'b'), keep('b', 'a'), keep(`of ${cpu}`, 'a')],
  check() {
    stack_depot_check();
    return check_account();
  },
};
