/*
 * malloc against its ledger for as long as wanted, on machines of 1 to 8 MiB;
 * a machine is walked and replaced every few thousand steps.
 */
import assert from 'node:assert/strict';
import { boot, shutdown } from '../boot/whole.ts';
import { uma_check } from '../uma/uma_check.ts';
import { account, account_text } from './kmem.test.lib.ts';
import { MallocModel } from './malloc.model.ts';

const STEPS_PER_MACHINE = 4000;

export function run(seed: number, steps: number): void {
  let state = seed | 1;
  const draw = (n: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % n;
  };
  const size = (): number => [draw(64), draw(300), draw(4200), draw(60000)][Math.min(3, draw(6))];
  for (let done = 0; done < steps; done += STEPS_PER_MACHINE) {
    const memory = ['1M', '2M', '8M'][draw(3)];
    boot({ memory, cpus: 2, options: { INVARIANTS: draw(2) === 0 }, fresh: true });
    const model = new MallocModel(1 + draw(4));
    for (let i = 0; i < Math.min(STEPS_PER_MACHINE, steps - done); i++) {
      const what = draw(100);
      // Waves: mostly taking, then mostly giving.
      const taking = (i >> 9) % 2 === 0 ? 60 : 25;
      if (what < taking) {
        model.run({ do: 'malloc', size: size(), type: draw(4), zero: draw(4) === 0 });
      } else if (what < 80) model.run({ do: 'free', which: draw(1000) });
      else if (what < 99) {
        model.run({ do: 'realloc', which: draw(1000), size: size(), drop: draw(3) === 0 });
      } else model.run({ do: 'reclaim' });
      if (i % 500 === 0) uma_check();
    }
    model.end();
    uma_check();
    assert.equal(account_text(account()), '');
    shutdown();
  }
}
