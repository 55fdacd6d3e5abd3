/*
 * sessions: a session store with a hard limit and back-pressure, used by three threads.
 *
 * Sessions lie outside the garbage-collected heap, in a zone that all threads
 * share; a session's number is all that a cookie has to carry.  The limit holds
 * over all threads: a login beyond it waits in the event loop until somebody
 * logs out, or is turned away when its patience ends.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { attach, boot, type Item, type KmemError } from '../src/lib/index.ts';

type Session = Item<'session'>;
const LIMIT = 60;
const REQUESTS = Number(process.argv[2] ?? 2000); // of each worker
const machine = isMainThread ? boot({ memory: '16M' }) : attach(workerData);
const zone = machine.zone('session', { size: 256, limit: LIMIT });

/* A session: 8 bytes of time, 2 of length, the user's name. */
async function login(user: string, patience: number): Promise<Session> {
  const session = await zone.allocAsync({ timeout: patience });
  const at = zone.address(session);
  machine.store64f(at, Date.now());
  machine.store16(at + 8, machine.writeText(at + 10, user, 246));
  return session;
}
/** The user of a session, who has just been seen. */
function userOf(session: Session): string {
  const at = zone.address(session);
  machine.store64f(at, Date.now());
  return machine.readText(at + 10, machine.load16(at + 8));
}
function logout(session: Session): void {
  zone.free(session);
}

/** Serves a worker's requests: one in eight is a guest who logs in, looks, and logs out. */
async function serve(cookies: readonly Session[]): Promise<number> {
  let letters = 0;
  for (let n = 0; n < REQUESTS; n++) {
    const guest = n % 8 === 0 ? await login(`guest ${n}`, 60_000) : undefined;
    letters += userOf(guest ?? cookies[n % cookies.length]).length;
    if (guest !== undefined) logout(guest);
  }
  return letters;
}

if (isMainThread) {
  const sessions: Session[] = [];
  for (let n = 0; n < LIMIT; n++) sessions.push(await login(`user ${n}`, 0));
  console.log(`${zone.used} of ${zone.limit} sessions, the last is ${userOf(sessions[59])}`);
  const refused = await login('too late', 20).catch((error: KmemError) => error.code);
  console.log(`turned away: ${refused}`);
  const waiting = login('patient', 60_000); // back-pressure: this login waits …
  setTimeout(() => logout(sessions[0]), 10); // … for that logout
  sessions[0] = await waiting;
  console.log(`let in: ${userOf(sessions[0])}`);

  for (const session of sessions.splice(40)) logout(session); // room for guests
  const argv = process.argv.slice(2);
  const workers = [1, 2].map(() => {
    const workerData = { kmem: machine.handle, cookies: sessions };
    return machine.adopt(new Worker(import.meta.filename, { argv, workerData }));
  });
  const [[a], [b]] = await Promise.all(workers.map((worker) => once(worker, 'message')));
  console.log(`2 workers served ${2 * REQUESTS} requests; letters in the names: ${a + b}`);
  for (const session of sessions) logout(session);
  console.log(`${zone.used} of ${zone.limit} sessions at the end`);
  machine.shutdown();
} else {
  const letters = await serve(workerData.cookies);
  machine.detach();
  parentPort?.postMessage(letters);
}
