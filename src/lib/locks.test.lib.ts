/*
 * Killing threads that read, write, upgrade and ask the kernel: for a moment by
 * locks.test.ts, at length by rw_deaths.stress.ts.
 *
 * Two words are equal outside an exclusive hold; a thread that dies in one leaves
 * them apart, and whoever is told first mends them in recover().  A thread that
 * finds them apart in any other way ends with an error, and the run with it.
 */
import assert from 'node:assert/strict';
import type { Worker } from 'node:worker_threads';
import { counter_get } from '../sys/machine/counter.ts';
import { reap_all, v_reaps } from '../sys/machine/death.ts';
import { dice } from '../sys/machine/seed.test.lib.ts';
import { sleep, until, within } from '../sys/machine/workers.test.lib.ts';
import { rw_read_holds } from '../sys/sync/rw_row.ts';
import type { Machine } from './index.ts';
import { AREA_WORDS, MUTEX_WORD, PROGRESS, RW_WORD } from './locks.test.worker.ts';

const FILE = new URL('./locks.test.worker.ts', import.meta.url);
/** Longest life of a thread after it has begun, ms. */
const LIFE_MS = 12;

interface Box {
  /** What the worker has said and nobody has asked for yet; who asks for more. */
  readonly said: unknown[];
  readonly asked: ((message: unknown) => void)[];
  /** Its thread is gone. The last messages and this come in one turn of the event loop. */
  readonly over: Promise<unknown>;
  /** The thread's id: its worker says -1 once it is gone. */
  readonly id: number;
}
const inbox = new WeakMap<Worker, Box>();

/** Starts a job; resolves once its thread is a CPU. */
export async function start(
  machine: Machine,
  job: string,
  args: object = {},
  failed: (e: unknown) => void = () => {},
): Promise<Worker> {
  const worker = machine.worker<Worker>(FILE, { workerData: { job, ...args } });
  const over = new Promise((resolve) => worker.once('exit', resolve));
  const box: Box = { said: [], asked: [], over, id: worker.threadId };
  inbox.set(worker, box);
  worker.on('error', failed);
  worker.on('message', (message) => {
    const ask = box.asked.shift();
    if (ask) ask(message);
    else box.said.push(message);
  });
  assert.equal(await said(worker, `${job} starts`), 'up');
  return worker;
}
/** The next message of a job. */
export async function said<T>(worker: Worker, what: string): Promise<T> {
  const box = inbox.get(worker);
  assert.ok(box);
  if (box.said.length > 0) return box.said.shift() as T;
  return await within(new Promise<T>((ask) => box.asked.push(ask as () => void)), what);
}
/** Waits until the thread of a job is gone. */
export async function ended(worker: Worker): Promise<void> {
  await within(inbox.get(worker)?.over ?? Promise.reject(), 'its thread ends');
}
/** The thread id of a job. */
export function idOf(worker: Worker): number {
  return inbox.get(worker)?.id ?? -1;
}
/** What a job returned. */
export async function result<T>(worker: Worker, what: string): Promise<T> {
  return (await said<{ result: T }>(worker, what)).result;
}

/** Kills `kills` threads, `crew` of them at work at a time, until `end` at the latest. */
export async function killMills(
  machine: Machine,
  o: { kills: number; crew: number; seed: number; end: number },
): Promise<string> {
  const draw = dice(o.seed);
  const at = machine.type('mill').alloc(AREA_WORDS * 4, { zero: true });
  machine.roots.set('area', at);
  const word = machine.index(at, 4);
  const words = machine.i32;
  const rw = machine.rwlock('rw');
  const m = machine.mutex('m');
  const progress = (): number => {
    let sum = 0;
    for (let i = PROGRESS; i < AREA_WORDS - 1; i++) sum += words[word + i];
    return sum;
  };
  const failed: unknown[] = [];
  const mill = (): Promise<Worker> =>
    start(machine, 'mill', { seed: draw(1e9) }, (e) => failed.push(e));
  const crew = await Promise.all(Array.from({ length: o.crew }, mill));
  const reaped = counter_get(v_reaps);
  let killed = 0;
  let recovered = 0;
  const each = async (i: number): Promise<void> => {
    while (killed < o.kills && performance.now() < o.end && failed.length === 0) {
      await sleep(draw(LIFE_MS));
      killed++;
      await crew[i].terminate();
      const before = progress();
      crew[i] = await mill();
      await until(() => progress() !== before || failed.length > 0, `they go on, seed ${o.seed}`);
    }
  };
  await Promise.all(crew.map((_, i) => each(i)));
  await Promise.all(crew.map((worker) => worker.terminate()));
  assert.deepEqual(failed, [], `seed ${o.seed}`);
  await until(() => {
    reap_all();
    return counter_get(v_reaps) - reaped >= killed + o.crew;
  }, 'all are settled');
  for (let cpu = 0; cpu < Number(machine.sysctl('kern.smp.maxcpus')); cpu++) {
    assert.deepEqual(rw_read_holds(cpu), [], `cpu${cpu} reads nothing, seed ${o.seed}`);
  }
  const mend = (w: number) => (): void => {
    words[word + w + 1] = words[word + w];
  };
  if (rw.recover(mend(RW_WORD))) recovered++;
  if (m.recover(mend(MUTEX_WORD))) recovered++;
  rw.lockWrite({ timeout: 240_000 });
  m.lock({ timeout: 240_000 });
  for (const w of [RW_WORD, MUTEX_WORD]) assert.equal(words[word + w], words[word + w + 1]);
  const writes = words[word + RW_WORD];
  m.unlock();
  rw.unlockWrite();
  const rounds = progress();
  machine.roots.set('area', 0);
  machine.type('mill').free(at);
  rw.dispose();
  m.dispose();
  machine.check();
  const all = killed + o.crew;
  return `${all} kills, ${rounds} rounds, ${writes} writes, ${recovered} left abandoned`;
}
