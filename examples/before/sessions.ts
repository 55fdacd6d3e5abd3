/*
 * sessions, by messages: the main thread owns the Map, the workers ask it.
 *
 * Threads cannot share an object, so one of them keeps the sessions and counts
 * them, and a worker's request is a message there and one back.  Sixteen are on
 * their way at a time, so that neither side waits for a single answer.  (Where a
 * session never leaves its thread, a Map in each is simpler, and faster than
 * anything; the limit is then for each.)
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const LIMIT = 60;
const AT_A_TIME = 16;
const REQUESTS = Number(process.argv[2] ?? 2000); // of each worker

/* The owner's side. */
const sessions = new Map<string, { user: string; seen: number }>();
const waiting = new Set<() => void>();
let used = 0;

/** Waits for a logout: it leaves its place to whoever has waited longest. */
function place(patience: number): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const take = (): void => {
    clearTimeout(timer);
    resolve();
  };
  const timer = setTimeout(() => {
    waiting.delete(take);
    reject(new Error('ETIMEDOUT'));
  }, patience);
  waiting.add(take);
  return promise;
}
const owner = {
  async login(user: string, patience: number): Promise<string> {
    if (used < LIMIT) used++;
    else await place(patience);
    const id = crypto.randomUUID();
    sessions.set(id, { user, seen: Date.now() });
    return id;
  },
  /** The user of a session, who has just been seen. */
  async userOf(id: string): Promise<string> {
    const session = sessions.get(id);
    if (session === undefined) throw new Error(`no session ${id}`);
    session.seen = Date.now();
    return session.user;
  },
  async logout(id: string): Promise<void> {
    if (!sessions.delete(id)) throw new Error(`no session ${id}`);
    const [take] = waiting;
    if (take === undefined) used--;
    else {
      waiting.delete(take);
      take();
    }
  },
};
type Store = typeof owner;
type Call = { id: number; op: keyof Store; args: [never, never] };
type Answer = { id: number; value?: unknown; error?: unknown };

function answer(worker: Worker, { id, op, args }: Call): void {
  owner[op](...args).then(
    (value) => worker.postMessage({ id, value } satisfies Answer),
    (error) => worker.postMessage({ id, error } satisfies Answer),
  );
}

/* A worker's side: the same calls, as messages. */
const asked = new Map<number, PromiseWithResolvers<never>>();
let last = 0;
function ask(op: keyof Store, ...args: unknown[]): Promise<never> {
  const call = Promise.withResolvers<never>();
  asked.set(++last, call);
  parentPort?.postMessage({ id: last, op, args });
  return call.promise;
}
const asker: Store = {
  login: (user, patience) => ask('login', user, patience),
  userOf: (id) => ask('userOf', id),
  logout: (id) => ask('logout', id),
};
function hear({ id, value, error }: Answer): void {
  const call = asked.get(id);
  asked.delete(id);
  if (error === undefined) call?.resolve(value as never);
  else call?.reject(error);
}

/** Serves a worker's requests: one in eight is a guest who logs in, looks, and logs out. */
async function serve(cookies: readonly string[]): Promise<number> {
  let letters = 0;
  let next = 0;
  const client = async (): Promise<void> => {
    for (let n = next++; n < REQUESTS; n = next++) {
      const guest = n % 8 === 0 ? await asker.login(`guest ${n}`, 60_000) : undefined;
      const user = await asker.userOf(guest ?? cookies[n % cookies.length]);
      letters += user.length;
      if (guest !== undefined) await asker.logout(guest);
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, client));
  return letters;
}

if (isMainThread) {
  const { login, userOf, logout } = owner;
  const ours: string[] = [];
  for (let n = 0; n < LIMIT; n++) ours.push(await login(`user ${n}`, 0));
  console.log(`${used} of ${LIMIT} sessions, the last is ${await userOf(ours[59])}`);
  const refused = await login('too late', 20).catch((error: Error) => error.message);
  console.log(`turned away: ${refused}`);
  const patient = login('patient', 60_000); // back-pressure: this login waits …
  setTimeout(() => logout(ours[0]), 10); // … for that logout
  ours[0] = await patient;
  console.log(`let in: ${await userOf(ours[0])}`);

  for (const session of ours.splice(40)) await logout(session); // room for guests
  const argv = process.argv.slice(2);
  const results = [1, 2].map(() => {
    const { promise, resolve } = Promise.withResolvers<number>();
    const worker = new Worker(import.meta.filename, { argv, workerData: ours });
    worker.on('message', (message: Call | number) => {
      if (typeof message === 'object') answer(worker, message);
      else resolve(message); // its result, its last message
    });
    return promise;
  });
  const [a, b] = await Promise.all(results);
  console.log(`2 workers served ${2 * REQUESTS} requests; letters in the names: ${a + b}`);
  for (const session of ours) await logout(session);
  console.log(`${used} of ${LIMIT} sessions at the end`);
} else {
  parentPort?.on('message', hear);
  parentPort?.postMessage(await serve(workerData));
  parentPort?.close();
}
