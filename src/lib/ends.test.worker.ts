/*
 * A worker of ends.test.ts and ends.stress.ts: for each message it joins the machine that the
 * message names, does things there until that ends or it has had enough, leaves, and says
 * what was wrong.  What nobody catches is wrong, too.
 */
import { parentPort } from 'node:worker_threads';
import { Actor, type Place, type Way } from './ends.test.lib.ts';
import { attach, type Handle, KernelPanic, KmemError, type Machine } from './index.ts';

export interface Turn {
  readonly kmem: Handle;
  readonly seed: number;
  readonly round: number;
  readonly way: Way;
  /** Most acts. */
  readonly acts: number;
  readonly place: Place;
}
export interface Report {
  readonly round: number;
  readonly acts: number;
  readonly ended: number;
  readonly faults: readonly string[];
}
let strays: string[] = [];
for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (e: Error) => void strays.push(`${event}: ${e?.stack ?? e}`));
}
/** Joins the machine, if it is still there. */
function join({ kmem }: Turn): Machine | null {
  try {
    return attach(kmem);
  } catch (e) {
    const gone = e instanceof KmemError && ['ESHUTDOWN', 'EINVAL', 'EAGAIN'].includes(e.code);
    if (!gone && !(e instanceof KernelPanic)) strays.push(`attach: ${(e as Error).stack}`);
    return null;
  }
}
async function play(turn: Turn): Promise<Report> {
  const machine = join(turn);
  const { round } = turn;
  let [acts, ended] = [0, 0];
  const faults: string[] = [];
  if (machine !== null) {
    const actor = new Actor(machine, turn.seed, turn.place);
    while (actor.acts < turn.acts && machine.up) {
      for (let n = 1 + actor.roll(8); n > 0; n--) actor.act();
      await new Promise((go) => setImmediate(go));
      if (actor.roll(3) === 0) actor.unpark();
      await actor.letGo(actor.roll(3));
    }
    if (turn.way === 'exit') process.exit();
    await actor.leave(turn.way);
    ({ acts, ended } = actor);
    faults.push(...actor.faults);
  }
  await new Promise((go) => setTimeout(go, 1)); // what is thrown late is heard
  faults.push(...strays);
  strays = [];
  return { round, acts, ended, faults };
}
let before = Promise.resolve();
parentPort?.on('message', (turn: Turn) => {
  before = before.then(async () => parentPort?.postMessage(await play(turn)));
});
