/*
 * wrong_type_free: a header is allocated as one type and freed as another, so that the figures of
 * both are wrong.
 */
import { type Address, boot } from '../../src/lib/index.ts';

const machine = boot({ memory: '8M' });
const headers = machine.type('headers');
const bodies = machine.type('bodies');

function receive(): Address {
  return headers.alloc(64);
}
function drop(at: Address): void {
  bodies.free(at); // the fault: it is a header
}
for (let i = 0; i < 10; i++) drop(receive());
console.log(`${headers.stats.inUse} headers, ${bodies.stats.inUse} bodies in use`);
machine.shutdown();
