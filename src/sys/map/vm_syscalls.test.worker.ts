/*
 * The worker of vm_syscalls_smp.slow.test.ts: plays with its own pages of a space that others
 * use, too, beside a model of these pages.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { done_word, map_at, stop_word } from './vm_map.test.lib.ts';
import { clear, compare, PAGES, type Player, step } from './vm_syscalls.fuzz.ts';
import { SpaceModel } from './vm_syscalls.model.ts';

const BATCH = 16;

interface Part {
  seed: number;
  part: number;
  of: number;
}
function churn({ seed, part, of }: Part): number {
  const pages = PAGES / of;
  const model = new SpaceModel();
  const p: Player = {
    mp: map_at(0),
    model,
    draw: dice(seed),
    from: part * pages,
    pages,
    short: true,
  };
  clear(p); // what one who died has left is unknown
  let n = 0;
  for (; atomic_load(stop_word()) === 0; n++) {
    step(p);
    if (n % BATCH === 0) atomic_add(done_word(), BATCH);
    if (n % 100 === 0) compare(p);
  }
  compare(p);
  return n;
}
run_job<Part>((_job, part) => ({ n: churn(part) }), { join: attach, leave: () => void detach() });
