/*
 * The end of a machine, met at any moment: three workers and the main thread do all that the
 * façade offers (ends.test.lib.ts) and leave in all ways, while one of them shuts the machine
 * down, or panics, or is terminated; then the main thread boots anew at once, often in
 * the same memory, while others may still be leaving.
 *
 *      round:   boot, check -> all act -> somebody ends it -> everybody leaves
 *                 ^                                              |
 *                 +---- at once, or when all have left ----------+
 *
 * Nothing but the documented errors reaches the program, no wait is without end, no thread
 * dies of an exception, and each new machine is sound.  For KMEM_STRESS_SECONDS (default 60),
 * or KMEM_STRESS_ROUNDS; without panics if KMEM_STRESS_PANICS is 0.  A fault ends it, with the
 * seed: `node src/lib/ends.stress.ts SEED` draws the same acts, though not at the same moments.
 */
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { panic } from '../sys/machine/panic.ts';
import { dice, SEED } from '../sys/machine/seed.test.lib.ts';
import { Actor, echoServer, type Place, type Way } from './ends.test.lib.ts';
import type { Report, Turn } from './ends.test.worker.ts';
import { boot, KernelPanic, type Machine } from './index.ts';

const FILE = new URL('./ends.test.worker.ts', import.meta.url);
const WORKERS = 3;
const rounds = Number(process.env.KMEM_STRESS_ROUNDS ?? Number.POSITIVE_INFINITY);
const seconds = Number.isFinite(rounds) ? 86_400 : Number(process.env.KMEM_STRESS_SECONDS ?? 60);
const until = performance.now() + seconds * 1000;
const panics = process.env.KMEM_STRESS_PANICS !== '0';
const seed = Number(process.argv[2] ?? SEED);
const roll = dice(seed);
const folder = mkdtempSync(join(tmpdir(), 'kmem-ends-'));
const server = await echoServer();
/** Where a thread has its files: what is left there, unless it was terminated, is wrong. */
function placeOf(name: string): Place {
  const own = join(folder, name);
  mkdirSync(own);
  return { folder: own, port: server.port };
}
function checkLeft(place: Place, who: string): void {
  const left = readdirSync(place.folder).filter((name) => !name.endsWith('.core'));
  if (left.length > 0) failed(`files that ${who} left`, left);
  rmSync(place.folder, { recursive: true });
}

const total = { rounds: 0, acts: 0, ended: 0, again: 0, panics: 0, exits: 0 };
const kinds: Record<string, number> = {};
let now = 'nothing yet';
function failed(where: string, faults: readonly string[]): void {
  console.log(`seed ${seed}, round ${total.rounds} (${now}), ${where}:\n${faults.join('\n')}`);
  process.exit(1);
}
for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
  process.on(event, (e: Error) => failed(event, [`${e?.stack ?? e}`]));
}
/** What the console says is nobody's business, save that something is wrong. */
const said: string[] = [];
console.error = (...what: unknown[]) => {
  const text = what.join(' ');
  if (!/was disposed of with|was lost without/.test(text)) said.push(text);
};

let made = 0;
/** A thread that plays round after round, until it ends in one of them. */
class Player {
  readonly worker: Worker;
  readonly place = placeOf(`${made++}`);
  /** Rounds that it was told of, and has not reported. */
  open = 0;
  #heard = (): void => {};

  constructor() {
    this.worker = new Worker(FILE);
    this.worker.setMaxListeners(0); // each machine may adopt it
    this.worker.on('message', (report: Report) => {
      this.open--;
      total.acts += report.acts;
      total.ended += report.ended;
      if (report.faults.length > 0) failed(`a worker, round ${report.round}`, report.faults);
      this.#heard();
    });
    this.worker.on('error', (e) => failed('a worker', [`${(e as Error).stack}`]));
    this.worker.on('exit', (code) => {
      // 1: it was terminated
      if (code !== 0 && !this.terminated) failed('a worker', [`it ended with code ${code}`]);
      if (!this.terminated) checkLeft(this.place, 'a worker');
      this.gone = true;
      total.exits++;
      this.#heard();
    });
  }
  gone = false;
  terminated = false;
  /** Resolves when at most so many rounds are open, or it is gone. */
  async left(most: number): Promise<void> {
    while (this.open > most && !this.gone) {
      await new Promise<void>((heard) => {
        this.#heard = heard;
      });
    }
  }
}
const crew: Player[] = [];
function players(): Player[] {
  for (let n = 0; n < WORKERS; n++) {
    if (crew[n] === undefined || crew[n].gone) crew[n] = new Player();
  }
  return crew;
}
function wayOf(other: boolean, n: number): Way {
  if (other && n === 0) return 'shutdown';
  const ways: Way[] = ['detach', 'detach', 'dispose', 'asyncDispose'];
  return roll(20) === 0 ? 'exit' : ways[roll(ways.length)];
}
const ENDS = [
  'shutdown',
  'dispose',
  'asyncDispose',
  'other',
  'other',
  'panic',
  'terminate',
] as const;

async function end(machine: Machine, actor: Actor, how: (typeof ENDS)[number]): Promise<void> {
  if (how === 'panic') {
    try {
      panic('a test of the end');
    } catch (e) {
      if (!(e instanceof KernelPanic) && machine.up) throw e;
    }
    return await actor.leave('detach');
  }
  if (how === 'terminate') {
    const player = crew[roll(crew.length)];
    player.terminated = true;
    void player.worker.terminate();
  }
  await actor.leave(how === 'terminate' || how === 'other' ? 'shutdown' : how);
}
const place = placeOf('main');
let memory: ArrayBufferLike | null = null;
async function round(): Promise<void> {
  const how = ENDS[roll(ENDS.length - (panics ? 0 : 2))];
  const INVARIANTS = roll(2) === 0;
  const pagedaemon = roll(4) === 0;
  now = JSON.stringify({ how, INVARIANTS, pagedaemon });
  const machine = boot({ memory: '8M', cpus: 6, pagedaemon, options: { INVARIANTS } });
  if (machine.u8.buffer === memory) total.again++;
  memory = machine.u8.buffer;
  machine.check();
  for (const [n, player] of players().entries()) {
    const turn: Turn = {
      kmem: machine.handle,
      seed: roll(1e9),
      round: total.rounds,
      way: wayOf(how === 'other', n),
      acts: how === 'other' ? 20 + roll(200) : 10 + roll(2000),
      place: player.place,
    };
    player.open++;
    player.worker.postMessage(turn);
    if (roll(2) === 0) {
      machine.adopt(player.worker);
      if (how === 'asyncDispose') player.terminated = true; // which ends those that it adopted
    }
  }
  const actor = new Actor(machine, roll(1e9), place);
  const acts = roll(4) === 0 ? roll(3) : roll(300);
  while (machine.up && (how === 'other' || actor.acts < acts)) {
    for (let n = 1 + roll(5); n > 0; n--) actor.act();
    await new Promise((go) => (roll(3) === 0 ? setTimeout(go, 1) : setImmediate(go)));
    actor.unpark();
    await actor.letGo(roll(3));
    if (how === 'other' && crew.every((p) => p.open === 0 || p.gone)) break;
  }
  await end(machine, actor, how);
  total.acts += actor.acts;
  total.ended += actor.ended;
  if (actor.faults.length > 0) failed('the main thread', actor.faults);
  if (said.length > 0) failed('the console', said);
  kinds[how] = (kinds[how] ?? 0) + 1;
  // Half of the time the next machine comes while others are still in this one.
  const most = roll(2);
  for (const player of crew) await player.left(most);
  total.rounds++;
}
console.log(`seed ${seed}`);
while (total.rounds < rounds && performance.now() < until) await round();
for (const player of crew) await player.left(0);
checkLeft(place, 'the main thread');
for (const player of crew)
  if (!player.terminated && !player.gone) checkLeft(player.place, 'a worker');
rmSync(folder, { recursive: true });
const ends = Object.entries(kinds)
  .map(([how, n]) => `${n} ${how}`)
  .join(', ');
console.log(
  `${total.rounds} rounds (${ends}), ${total.again} in the same memory, ${total.acts} acts, ` +
    `${total.ended} met the end, ${total.exits} threads ended, nothing wrong`,
);
process.exit(0);
