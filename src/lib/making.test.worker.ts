/*
 * A worker of making.test.ts and making.stress.ts: attaches and does the job that
 * workerData names.  Jobs that never return are ended by the test.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, type Item, KmemError, type Machine } from './index.ts';
import { type MakingKind, make_and_end } from './making.test.lib.ts';

interface Start {
  readonly job: keyof typeof jobs;
  readonly kind: MakingKind;
  readonly id: number;
  readonly shared: Int32Array;
}
const port = parentPort;
const say = (what: unknown): void => port?.postMessage(what);

/** Words of the race for one number: which round, its number, who is at the line, the answer. */
export const RACE = { round: 0, item: 1, ready: 2, answer: 3 } as const;
export const SMALL_QUEUE = { capacity: 4 };
export const RACE_SHAPE = [{ a: 'i32' }, { capacity: 1000 }] as const;

const jobs = {
  /** Makes and ends objects for ever: of a name of its own, and of one that all have. */
  make(machine: Machine, { kind, id }: Start): void {
    say('up');
    for (;;) {
      make_and_end(machine, kind, `own ${id}`);
      make_and_end(machine, kind, `shared ${kind}`);
    }
  },
  /** Uses what it is told to, lets go of it, and then computes without calling the kernel. */
  silent(machine: Machine): void {
    port?.on('message', (what: { kind: 'zone' | 'records'; name: string; go: Int32Array }) => {
      if (what.kind === 'zone') {
        const z = machine.zone(what.name, { size: 64 });
        z.free(z.alloc());
        z.dispose();
      } else {
        const R = machine.records(what.name, { a: 'f64' }, { capacity: 100_000 });
        R.free(R.alloc());
        R.dispose();
      }
      say('away');
      while (Atomics.load(what.go, 0) === 0);
      say('back');
    });
    say('up');
  },
  /** Has an object, and stays. */
  has(machine: Machine): void {
    const z = machine.zone('zz', { size: 64 });
    z.free(z.alloc());
    machine.mutex('mm');
    say(machine.cpu);
    setInterval(() => {}, 1000);
  },
  /** Waits for the values of many queues in the event loop, and stays. */
  waits(machine: Machine): void {
    for (let i = 0; i < 40; i++) {
      machine
        .queue(`q${i}`, SMALL_QUEUE)
        .popAsync()
        .catch(() => {});
    }
    setTimeout(() => say('waiting'), 5);
  },
  /** Frees the number of each round, at the same time as the test does. */
  race(machine: Machine, { shared }: Start): void {
    const R = machine.records('race', ...RACE_SHAPE);
    say('up');
    for (let last = 0; ; ) {
      const round = Atomics.load(shared, RACE.round);
      if (round < 0) break;
      if (round === last) continue;
      last = round;
      const item = Atomics.load(shared, RACE.item) as number as Item<'race'>;
      Atomics.store(shared, RACE.ready, round);
      let answer = 2;
      try {
        R.free(item);
        answer = 1;
      } catch (e) {
        if (!(e instanceof KmemError && e.code === 'EINVAL')) throw e;
      }
      Atomics.store(shared, RACE.answer, answer);
    }
    R.dispose();
    say('done');
  },
};

if (workerData?.job) {
  const start = workerData as Start;
  jobs[start.job](attach(workerData), start);
}
