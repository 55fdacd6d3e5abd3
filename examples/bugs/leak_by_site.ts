/*
 * leak_by_site: two places allocate the same type, and one of them never frees.
 */
import { type Address, boot } from '../../src/lib/index.ts';

const machine = boot({ memory: '8M' });
const buffers = machine.type('buffers');

function readHeader(): Address {
  return buffers.alloc(512);
}
function readBody(): Address {
  return buffers.alloc(1024); // the fault: nobody frees it
}
for (let i = 0; i < 1000; i++) {
  buffers.free(readHeader());
  if (i % 10 === 0) readBody();
}
await machine.listen();
console.log(buffers.stats.inUse, 'buffers in use by process', process.pid);
setTimeout(() => machine.shutdown(), 60_000);
