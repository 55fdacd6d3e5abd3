/*
 * A worker of the tests of locks: attaches, runs the job that workerData names,
 * and posts what it returns.  Jobs that hold something say 'held' first; how they
 * go on from there is what the test is about.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { dice } from '../sys/machine/seed.test.lib.ts';
import { attach, KmemError, type Machine } from './index.ts';

export type Kind = 'mutex' | 'read' | 'write';
/** How a job that holds a lock ends: `hang` waits to be killed. */
export type End = 'hang' | 'exit' | 'script' | 'throw';
interface Args {
  readonly kind: Kind;
  readonly end: End;
  readonly seed: number;
  readonly rounds: number;
}

/** Takes the lock of that kind, called 'l'. */
export function take(machine: Machine, kind: Kind): void {
  if (kind === 'mutex') machine.mutex('l').lock();
  else if (kind === 'read') machine.rwlock('l').lockRead();
  else machine.rwlock('l').lockWrite();
}
function hang(): never {
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1000);
}
function finish(end: End): void {
  if (end === 'exit') process.exit(0);
  if (end === 'throw') throw new Error('on purpose');
  if (end === 'hang') hang();
}
async function code(fn: () => unknown): Promise<string> {
  try {
    await fn();
    return 'ok';
  } catch (e) {
    return e instanceof KmemError ? e.code : `${e}`;
  }
}

/* What a killed thread works on: words of a block of memory, by index. */
export const AREA_WORDS = 64;
/** Two words that are equal outside an exclusive hold, under the rwlock; then the mutex's two. */
export const RW_WORD = 0;
export const MUTEX_WORD = 2;
/** Rounds of each CPU, from here on. */
export const PROGRESS = 8;

const jobs: Record<string, (machine: Machine, args: Args) => unknown> = {
  /** Takes the lock and ends with it. */
  hold(machine, { kind, end }) {
    take(machine, kind);
    parentPort?.postMessage('held');
    finish(end);
  },
  /** Takes the lock and gives it back; says what came of it. */
  want: (machine, { kind }) =>
    code(() => {
      take(machine, kind);
      if (kind === 'mutex') machine.mutex('l').unlock();
      else if (kind === 'read') machine.rwlock('l').unlockRead();
      else machine.rwlock('l').unlockWrite();
    }),
  /** Tries to detach with the lock held; then without. */
  async detach(machine, { kind }) {
    take(machine, kind);
    let why = '';
    try {
      machine.detach();
    } catch (e) {
      why = (e as Error).message;
    }
    if (kind === 'mutex') machine.mutex('l').unlock();
    else if (kind === 'read') machine.rwlock('l').unlockRead();
    else machine.rwlock('l').unlockWrite();
    return [why, await code(() => machine.detach())];
  },
  /** Is killed while it recovers the lock. */
  recover(machine, { kind }) {
    const lock = kind === 'mutex' ? machine.mutex('l') : machine.rwlock('l');
    lock.recover(() => {
      parentPort?.postMessage('held');
      hang();
    });
  },
  /** Sleeps for a condition. */
  cv: (machine) =>
    code(() => {
      const m = machine.mutex('l');
      m.lock();
      parentPort?.postMessage('held');
      for (let i = 0; i < 60; i++) machine.condition('cv').wait(m);
    }),
  /** Many tasks that want one mutex in the event loop; some lose patience, some are called off. */
  async storm(machine, { seed, rounds }) {
    const draw = dice(seed);
    const m = machine.mutex('l');
    const at = machine.roots.get('area') as number;
    let done = 0;
    const task = async (): Promise<void> => {
      const kind = draw(4);
      const off = new AbortController();
      const options = kind === 0 ? { timeout: draw(30) } : kind === 1 ? { signal: off.signal } : {};
      if (kind === 1) setTimeout(() => off.abort(), draw(30));
      try {
        await m.lockAsync(options);
      } catch (e) {
        if (e instanceof KmemError && e.code !== 'ETIMEDOUT') throw e;
        return;
      }
      machine.store32(at, machine.load32(at) + 1);
      if (draw(8) === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      machine.store32(at + 4, machine.load32(at + 4) + 1);
      done++;
      m.unlock();
    };
    await Promise.all(Array.from({ length: rounds }, task));
    return done;
  },
  /** Reads, writes, upgrades, asks the kernel, for ever: meant to be killed. */
  mill(machine, { seed }) {
    const draw = dice(seed);
    const at = machine.index(machine.roots.get('area') as number, 4);
    const mine = at + PROGRESS + machine.cpu;
    const acts = mill(machine, at, draw);
    for (;;) {
      acts[draw(acts.length)]();
      machine.i32[mine]++;
    }
  },
};

/** Makes a call; if its lock was abandoned, `mend` recovers, and the call is made again. */
function retried(call: () => void, mend: () => void): void {
  for (;;) {
    try {
      return call();
    } catch (e) {
      if (!(e instanceof KmemError && e.code === 'EOWNERDEAD')) throw e;
    }
    mend();
  }
}
/** Reads what the kernel keeps under its own shared lock. */
function ask(machine: Machine, all: boolean): void {
  machine.sysctl('vm.stats.vm.v_free_count');
  if (all) machine.metrics();
}
/** What a mill does, one of these at a time. */
function mill(machine: Machine, at: number, draw: (n: number) => number): (() => void)[] {
  const words = machine.i32;
  const rw = machine.rwlock('rw');
  const other = machine.rwlock('other');
  const m = machine.mutex('m');
  const work = (): void => {
    for (let i = draw(40); i > 0; i--) words[at + AREA_WORDS - 1] = i;
  };
  const same = (w: number): void => {
    if (words[at + w] !== words[at + w + 1]) throw new Error(`cpu${machine.cpu}: half a change`);
  };
  const change = (w: number): void => {
    same(w);
    words[at + w]++;
    work();
    words[at + w + 1] = words[at + w];
  };
  const mend = (w: number) => (): void => {
    work();
    words[at + w + 1] = words[at + w];
  };
  const sound = (call: () => void): void =>
    retried(call, () => {
      rw.recover(mend(RW_WORD));
      m.recover(mend(MUTEX_WORD));
    });
  const read = (): void => sound(() => void rw.lockRead());
  const reading = (): void => {
    read();
    same(RW_WORD);
    work();
    same(RW_WORD);
    rw.unlockRead();
  };
  const nesting = (): void => {
    read();
    sound(() => void other.lockRead());
    rw.lockRead();
    same(RW_WORD);
    rw.unlockRead();
    other.unlockRead();
    rw.unlockRead();
  };
  const writing = (): void => {
    sound(() => void rw.lockWrite());
    change(RW_WORD);
    if (draw(2) === 0) return rw.unlockWrite();
    rw.downgrade();
    same(RW_WORD);
    rw.unlockRead();
  };
  const upgrading = (): void => {
    read();
    if (!rw.tryUpgrade()) return rw.unlockRead();
    change(RW_WORD);
    rw.unlockWrite();
  };
  const trying = (): void => {
    let got = false;
    sound(() => {
      got = rw.tryLockWrite();
    });
    if (!got) return;
    change(RW_WORD);
    rw.unlockWrite();
  };
  const locking = (): void => sound(() => m.run(() => change(MUTEX_WORD)));
  const asking = (): void => ask(machine, draw(64) === 0);
  return [reading, nesting, writing, upgrading, trying, locking, asking];
}

if (parentPort !== null && workerData?.job !== undefined) {
  const { job, kmem, ...args } = workerData;
  const machine = attach(kmem);
  parentPort.postMessage('up');
  const result = await jobs[job](machine, args as Args);
  parentPort.postMessage({ result });
}
