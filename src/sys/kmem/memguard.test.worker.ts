/*
 * The worker of memguard_smp.slow.test.ts and of memguard.stress.ts: it plays with guarded blocks
 * of a type that it shares with others, so many steps or until it is told to stop, or is killed.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { kconsole } from '../machine/kconsole.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { done_word, stop_word } from '../map/vm_map.test.lib.ts';
import { GuardPlay } from './memguard.fuzz.ts';

kconsole.print = () => {}; // what is told is looked at where it is returned
run_job<{ seed: number; steps: number }>(
  (_job, { seed, steps }) => {
    const p = new GuardPlay(seed, 'play', false);
    let n = 0;
    for (; n < steps && atomic_load(stop_word()) === 0; n++) {
      p.step();
      atomic_add(done_word(), 1);
    }
    p.end();
    return { n, traps: p.traps, guarded: p.guarded, plain: p.plain };
  },
  { join: attach, leave: () => void detach() },
);
