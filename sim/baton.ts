/*
 * baton: a whole machine on real threads, one of them running at a time.
 *
 * Each CPU is a worker with a stack of its own, so that any number of
 * operations can stand half-way: lock cycles, lost wake-ups and time-outs that
 * race with wake-ups show here.  The seed decides at each scheduling point who
 * goes on (baton_cpu.ts); the same seed gives the same steps and trace hash.
 *
 *      main thread            makes the workers, orders seeds, hears results
 *      worker 0 = CPU 0       boots, leads the runs
 *      worker i = CPU i       attaches, follows
 *
 * It explores what can happen when memory is sequentially consistent.  What a
 * store buffer adds is for the models and for free-running threads.
 */
import { once } from 'node:events';
import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { Handle } from '../src/sys/machine/machdep.ts';
import type { CpuData, Order, Report } from './baton_cpu.ts';
import { Control, CONTROL_BYTES, CPUS_MAX, EPOCH, STEP } from './control.ts';
import { type Kill, type SimResult, type SimScript, script_load } from './script.ts';

export interface BatonOptions {
  /**
   * The module with the script, its export after '#'; the export's name is
   * `script` if none is given.  Several scripts that want the same machine may
   * share a session: making one costs more than hundreds of runs.
   */
  readonly script: URL | readonly URL[];
  /** Default: what the scripts say. */
  readonly cpus?: number;
  /** Rounds to look for the turn before sleeping. Default 300, 0 with more CPUs than cores. */
  readonly spin?: number;
  /** A run that takes more steps hangs. Default 100000. */
  readonly steps_max?: number;
}
/** A machine that stays up for any number of runs. */
export interface BatonSession {
  /**
   * Plays `count` seeds from `first` on and stops at the first failure.
   * `script`: one of the session's; the first if not given.
   */
  run(first: number, count?: number, kill?: Kill | null, script?: URL): Promise<Report>;
  /**
   * Plays one seed with `cpu` killed at each of these of its points, once per point.
   */
  run_deaths(
    seed: number,
    cpu: number,
    ats: readonly number[],
    script?: URL,
  ): Promise<readonly SimResult[]>;
  close(): Promise<void>;
}

const SPIN = 300;
const STEPS_MAX = 100_000;
/** Real time without a step: a loop without any scheduling point. */
const STUCK_MS = 60_000;
const LOOK_MS = 1000;

/** Waits for one message of a worker; its error ends the wait. */
async function answer<T>(worker: Worker): Promise<T> {
  const ended = new AbortController();
  const limit = { signal: ended.signal };
  const [value] = await Promise.race([
    once(worker, 'message', limit),
    once(worker, 'exit', limit).then(([code]) => {
      throw new Error(`sim: a CPU's thread ended with code ${code}`);
    }),
  ]).finally(() => ended.abort());
  return value as T;
}

/** What a script asks of its machine, to compare. */
export function machine_wanted(s: SimScript): string {
  const { cpus = 2, options = {}, memory = '1M', set = {} } = s;
  return JSON.stringify({ cpus, options, memory, set });
}

/** Makes the machine and its CPUs. */
export async function baton_session(o: BatonOptions): Promise<BatonSession> {
  const urls = [o.script].flat();
  const scripts = await Promise.all(urls.map(script_load));
  const machines = new Set(scripts.map(machine_wanted));
  if (machines.size !== 1) {
    throw new Error(`sim: scripts of one session want one machine: ${[...machines].join(', ')}`);
  }
  const cpus = o.cpus ?? scripts[0].cpus ?? 2;
  if (cpus < 1 || cpus > CPUS_MAX) throw new Error(`sim: cpus ${cpus}: use 1 to ${CPUS_MAX}`);
  const shared = new SharedArrayBuffer(CONTROL_BYTES);
  const workers: Worker[] = [];
  let broke: (e: Error) => void = () => {};
  // A thread that throws leaves the others waiting for it: whoever waits is told.
  const broken = new Promise<never>((_, reject) => {
    broke = reject;
  });
  broken.catch(() => {});
  const make = (cpu: number): void => {
    const workerData: CpuData = {
      shared,
      cpu,
      cpus,
      scripts: urls.map((u) => u.href),
      spin: o.spin ?? (cpus > availableParallelism() ? 0 : SPIN),
      steps_max: o.steps_max ?? STEPS_MAX,
    };
    const worker = new Worker(new URL('./baton_cpu.ts', import.meta.url), { workerData });
    workers.push(worker);
    worker.on('error', broke);
  };
  const end = async (): Promise<void> => {
    await Promise.all(workers.map((w) => w.terminate()));
  };
  try {
    for (let cpu = 0; cpu < cpus; cpu++) make(cpu);
    const leader = workers[0];
    const handle = await Promise.race([answer<Handle>(leader), broken]);
    // They load at the same time, and attach one after the other: slots are given out in order.
    for (const follower of workers.slice(1)) {
      follower.postMessage(handle);
      await Promise.race([answer(follower), broken]);
    }
    leader.postMessage('go');
    await Promise.race([answer(leader), broken]);
    const play = (url: URL, what: Omit<Order, 'script'>): Promise<Report> => {
      const script = urls.findIndex((u) => u.href === url.href);
      if (script < 0) throw new Error(`sim: ${url.href} is no script of this session`);
      return Promise.race([order(leader, { script, ...what }, shared), broken]);
    };
    return {
      run: (first, count = 1, kill = null, url = urls[0]) => play(url, { first, count, kill }),
      run_deaths: async (seed, cpu, ats, url = urls[0]) => {
        if (ats.length === 0) return [];
        const one = { first: seed, count: 1, kill: null, deaths: { cpu, ats } };
        return (await play(url, one)).deaths ?? [];
      },
      close: end,
    };
  } catch (e) {
    await end();
    throw e;
  }
}

async function order(leader: Worker, what: Order, shared: SharedArrayBuffer): Promise<Report> {
  leader.postMessage(what);
  let timer: NodeJS.Timeout | undefined;
  const stuck = new Promise<never>((_, reject) => {
    const { W } = new Control(shared);
    let seen = '';
    let since = performance.now();
    timer = setInterval(() => {
      // However slow the host is: commands are counted, and the steps of each run.
      const now = `${Atomics.load(W, EPOCH)}.${Atomics.load(W, STEP)}`;
      if (now !== seen) since = performance.now();
      seen = now;
      if (performance.now() - since < STUCK_MS) return;
      reject(new Error(`sim: seed ${what.first} or a later one loops without a point`));
    }, LOOK_MS);
  });
  return await Promise.race([answer<Report>(leader), stuck]).finally(() => clearInterval(timer));
}

/** Plays one seed on a machine of its own. */
export async function run_baton(
  o: BatonOptions & { seed: number; kill?: Kill },
): Promise<SimResult> {
  const session = await baton_session(o);
  try {
    return (await session.run(o.seed, 1, o.kill ?? null)).result;
  } finally {
    await session.close();
  }
}
