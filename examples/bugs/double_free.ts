/*
 * double_free: a request that fails is cleaned up twice, by who noticed and by who called.
 */
import { type Address, boot } from '../../src/lib/index.ts';

const machine = boot({ memory: '8M' });
const requests = machine.type('requests');

function parse(request: Address): boolean {
  if (machine.load8(request) !== 0) return true;
  requests.free(request); // noticed
  return false;
}
function serve(): void {
  const request = requests.alloc(100, { zero: true });
  const other = requests.alloc(100);
  parse(request);
  requests.free(other);
  requests.free(request); // the fault: parse() may have done so
}
serve();
machine.shutdown();
