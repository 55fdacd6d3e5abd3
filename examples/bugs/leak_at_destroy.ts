/*
 * leak_at_destroy: the program ends, and believes that nothing is in use any more; but one
 * connection was never given back.
 */
import { assertNoLeaks, boot } from '../../src/lib/index.ts';

const machine = boot({ memory: '8M' });
const connections = machine.type('connections');

function request(fails: boolean): void {
  const connection = connections.alloc(200); // the fault: it stays if the request fails
  if (fails) return;
  connections.free(connection);
}
for (let i = 0; i < 100; i++) request(i === 50);
await machine.listen();
console.log('served a hundred requests by process', process.pid);
const wait = Number(process.argv[2] ?? 0); // how long there is to look at it, ms
setTimeout(() => {
  assertNoLeaks(machine);
  machine.shutdown();
}, wait);
