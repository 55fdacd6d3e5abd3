/*
 * sessions: a session store with a hard limit and back-pressure.
 *
 * Sessions lie outside the garbage-collected heap, in a zone that every worker
 * shares; a session's number is all that a cookie has to carry.  The limit holds
 * over all threads: a login beyond it waits in the event loop until somebody
 * logs out, or is turned away when its patience ends.
 */
import { type Address, boot, type Item, KmemError, type Zone } from '../src/lib/index.ts';

const machine = boot({ memory: '16M' });
const zone: Zone<'session'> = machine.zone('session', { size: 256, limit: 15 });
type Session = Item<'session'>;

/* A session: 8 bytes of time, 2 of length, the user's name. */
async function login(user: string, patience: number): Promise<Session> {
  const session = await zone.allocAsync({ zero: true, timeout: patience });
  const at = zone.address(session);
  machine.store64f(at, Date.now());
  machine.store16(at + 8, machine.writeText(at + 10, user, 246));
  return session;
}
function userOf(session: Session): string {
  const at: Address = zone.address(session);
  return machine.readText(at + 10, machine.load16(at + 8));
}
function logout(session: Session): void {
  zone.free(session);
}

const sessions: Session[] = [];
for (let n = 0; n < zone.limit; n++) sessions.push(await login(`user ${n}`, 0));
console.log(`${zone.used} of ${zone.limit} sessions, the last is ${userOf(sessions[14])}`);

try {
  await login('too late', 20);
} catch (e) {
  if (!(e instanceof KmemError)) throw e;
  console.log(`turned away: ${e.code}`);
}

const waiting = login('patient', 5000); // back-pressure: this login waits …
setTimeout(() => logout(sessions[0]), 10); // … for that logout
sessions[0] = await waiting;
console.log(`let in: ${userOf(sessions[0])}`);

for (const session of sessions) logout(session);
const { used, limit } = zone.stats;
console.log(`${used} of ${limit} sessions at the end`);
machine.shutdown();
