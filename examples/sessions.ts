/*
 * sessions: a session store with a hard limit and back-pressure, used by three threads.
 *
 * A cookie carries the checked handle of its session and 64 random bits: a forged or old
 * one is refused, and leads to no other memory.  A login beyond the limit of all threads
 * waits in the event loop for a logout, or is turned away when its patience ends.
 */
import { once } from 'node:events';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type Address, attach, boot, type ItemHandle, type KmemError } from '../src/lib/index.ts';

const LIMIT = 60;
const REQUESTS = Number(process.argv[2] ?? 2000); // of each worker
const machine = isMainThread ? boot({ memory: '16M' }) : attach(workerData);
const fields = { seen: 'f64', high: 'u32', low: 'u32' } as const;
const sessions = machine.records('session', fields, { capacity: LIMIT, generations: true });
/** Where the names begin: 64 bytes for each number, the first two are the length. */
const names = machine.roots.get<Address>('names') ?? machine.type('names').alloc(64 * (LIMIT + 1));
machine.roots.set('names', names);

async function login(user: string, patience: number): Promise<string> {
  const handle = await sessions.allocAsync({ timeout: patience });
  const at = names + 64 * sessions.index(handle);
  machine.store16(at, machine.writeText(at + 2, user, 62));
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  sessions.set(handle, { seen: Date.now(), high, low });
  return `${handle}.${high}.${low}`;
}
/** The handle in a cookie that login() gave. Throws for others, ESTALE for old ones. */
function handleOf(cookie: string): ItemHandle<'session'> {
  const [number, high, low] = cookie.split('.').map(Number);
  const handle = number as unknown as ItemHandle<'session'>; // index() proves it
  const n = sessions.index(handle);
  if (sessions.high[n] === high && sessions.low[n] === low) return handle;
  throw new Error('a forged cookie');
}
/** The user of a session, who has just been seen. */
function userOf(cookie: string): string {
  const handle = handleOf(cookie);
  const at = names + 64 * sessions.index(handle);
  sessions.seen[sessions.index(handle)] = Date.now();
  const user = machine.readText(at + 2, machine.load16(at));
  return sessions.has(handle) ? user : 'nobody'; // logged out meanwhile: another's name
}
const logout = (cookie: string): void => sessions.free(handleOf(cookie));
/** Serves a worker's requests: one in eight is a guest who logs in, looks, and logs out. */
async function serve(cookies: readonly string[]): Promise<number> {
  let letters = 0;
  for (let n = 0; n < REQUESTS; n++) {
    const guest = n % 8 === 0 ? await login(`guest ${n}`, 60_000) : undefined;
    letters += userOf(guest ?? cookies[n % cookies.length]).length;
    if (guest !== undefined) logout(guest);
  }
  return letters;
}

if (isMainThread) {
  const ours: string[] = [];
  for (let n = 0; n < LIMIT; n++) ours.push(await login(`user ${n}`, 0));
  console.log(`${sessions.count} of ${LIMIT} sessions, the last is ${userOf(ours[59])}`);
  const refused = await login('too late', 20).catch((error: KmemError) => error.code);
  console.log(`turned away: ${refused}`);
  const waiting = login('patient', 60_000); // back-pressure: this login waits …
  setTimeout(() => logout(ours[0]), 10); // … for that logout
  ours[0] = await waiting;
  console.log(`let in: ${userOf(ours[0])}`);
  for (const session of ours.splice(40)) logout(session); // room for guests
  const data = { kmem: machine.handle, cookies: ours };
  const options = { argv: process.argv.slice(2), workerData: data };
  const workers = [1, 2].map(() => machine.adopt(new Worker(import.meta.filename, options)));
  const [[a], [b]] = await Promise.all(workers.map((worker) => once(worker, 'message')));
  console.log(`2 workers served ${2 * REQUESTS} requests; letters in the names: ${a + b}`);
  for (const session of ours) logout(session);
  console.log(`${sessions.count} of ${LIMIT} sessions at the end`);
  machine.shutdown();
} else {
  parentPort?.postMessage(await serve(workerData.cookies));
  machine.detach();
}
