/*
 * guard_ops: what scripts with guarded blocks share.
 *
 * Each of the thousands of runs says where the map of guarded blocks lies: that is not printed.
 */
import { kconsole } from '../src/sys/machine/kconsole.ts';
import { kern_script } from './kern_ops.ts';

/** Addresses that the map of guarded blocks may have. */
const ADDRESSES = 1000;
const { print } = kconsole;
kconsole.print = (text) => {
  if (!text.includes('MEMGUARD')) print(text);
};
/** A script whose CPUs do `turn`, once `first` was done, after which the map may be there. */
export const guard_script = (
  help: string,
  first: () => void,
  turn: (cpu: number) => (() => void)[],
) => ({ ...kern_script(help, first, turn, ADDRESSES), set: { 'vm.stack.max': 0 } });
