/*
 * stuck: a loop never ends, and what it makes in each round is never freed.  The event loop does
 * not come round, so no signal handler, no timer and no socket of this program answers.
 */
import { boot } from '../../src/lib/index.ts';

const machine = boot({ memory: '64M' });
const events = machine.type('events');

function remember(n: number): void {
  const at = events.alloc(64); // what grows
  machine.store32(at, n);
}
console.log('see what process', process.pid, 'does');
for (let n = 0; ; n = (n + 1) % 1000) {
  if (machine.memory().free > 2 ** 24) remember(n); // the fault: there is no way out
}
