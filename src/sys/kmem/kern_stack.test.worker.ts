/*
 * The worker of kern_stack.test.ts: keeps stacks that another worker keeps, too, each beginning
 * with another one.
 */
import { attach, detach } from '../boot/whole.ts';
import type { Frame } from '../machine/backtrace.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { stack_depot_keep } from './kern_stack.ts';

/** Stacks that both keep. */
export const SHARED = 600;
/** The i-th: they share frames, functions and files. */
export function shared_stack(i: number): Frame[] {
  return Array.from({ length: 1 + (i % 25) }, (_, k) => ({
    fn: `f${(i + k) % 40}`,
    file: `/app/${(i * 7 + k) % 12}.ts`,
    line: i,
    column: k,
  }));
}
function keep({ first }: { first: number }): { ids: number[] } {
  const ids: number[] = [];
  for (let n = 0; n < SHARED; n++) {
    const i = first === 0 ? n : SHARED - 1 - n;
    ids[i] = stack_depot_keep(shared_stack(i));
  }
  for (const [i, id] of ids.entries()) {
    if (stack_depot_keep(shared_stack(i)) !== id) throw new Error(`stack ${i} has two numbers`);
  }
  return { ids };
}
run_job((_job, args: { first: number }) => keep(args), { join: attach, leave: detach });
