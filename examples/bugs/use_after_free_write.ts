/*
 * use_after_free_write: a timer counts in a session that was closed meanwhile, and damages
 * whoever has the memory now.
 */
import { type Address, boot } from '../../src/lib/index.ts';

const machine = boot({ memory: '8M' });
const sessions = machine.type('sessions');

function open(): Address {
  return sessions.alloc(64, { zero: true });
}
function close(session: Address): void {
  sessions.free(session);
}
function count(session: Address): void {
  machine.store32(session, machine.load32(session) + 1);
}
const session = open();
setTimeout(() => {
  machine.store32(session, 1); // the fault: it is closed
  console.log(`another's session has ${machine.load32(other)} hits, and nobody used it`);
  machine.shutdown();
}, 10);
count(session);
close(session);
const other = open(); // gets the same memory
