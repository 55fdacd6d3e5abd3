/*
 * overflow: a name is copied into a block that is one byte too short for it, because the
 * zero at its end was forgotten.
 */
import { boot } from '../../src/lib/index.ts';

const machine = boot({ memory: '8M' });
const names = machine.type('names');

function copyName(name: string) {
  const text = new TextEncoder().encode(`${name}\0`);
  const at = names.alloc(name.length); // the fault: the zero has no room
  machine.copyIn(at, text);
  return at;
}
const all = ['ada', 'grace', 'barbara'].map(copyName);
console.log(all.map((at) => machine.readText(at, 3)).join(', '));
for (const at of all) names.free(at);
machine.shutdown();
