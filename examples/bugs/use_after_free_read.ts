/*
 * use_after_free_read: a session is looked at after it was closed.
 */
import { type Address, boot } from '../../src/lib/index.ts';

const machine = boot({ memory: '8M' });
const sessions = machine.type('sessions');

function open(user: number): Address {
  const session = sessions.alloc(64, { zero: true });
  machine.store32(session, user);
  return session;
}
function close(session: Address): void {
  sessions.free(session);
}
function report(session: Address): void {
  console.log(`user ${machine.load32(session)} was here`); // the fault: it is closed
}
const session = open(4711);
close(session);
open(666); // gets the same memory
report(session);
machine.shutdown();
