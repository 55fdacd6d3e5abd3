/*
 * A worker of ddb.test.ts.
 *
 *      work     allocates, takes a mutex and sleeps on a condition until the end, or, the
 *               second, for the mutex of the first
 *      read     runs commands over a dump, and says what each printed
 *      damage   the same over a dump in which bytes were changed: a line per command at most
 *               says what is wrong, and nothing is thrown
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from '../../../lib/index.ts';
import { dice } from '../../machine/seed.test.lib.ts';
import { kvm_open } from '../kvm.ts';
import { kconsole } from '../../machine/kconsole.ts';
import { mem } from '../../machine/memory.ts';
import { ddb_run } from './ddb.ts';
import { ddb_session } from './ddb_session.ts';

/** Where the records of the kernel lie, in a small machine. */
const KERNEL_BYTES = 2 ** 20;
const say = (what: unknown): void => parentPort?.postMessage(what);

/** What each command of a session printed. */
function run_all(commands: readonly string[], ms = Number.POSITIVE_INFINITY): string[] {
  const said: string[] = [];
  const db = ddb_session({ print: (text) => void (said[said.length - 1] += text) });
  db.now = () => workerData.later ?? 0;
  for (const line of commands) {
    said.push('');
    db.until = performance.now() + ms;
    db.room = 2 ** 20;
    ddb_run(db, line);
  }
  return said;
}
const jobs: Record<string, () => void> = {
  work() {
    kconsole.print = () => {}; // WITNESS does not like how it sleeps
    const machine = attach(workerData);
    const { id } = workerData;
    const type = machine.type(`work ${id}`);
    const zone = machine.zone('conn', { size: 96 });
    for (let i = 0; i < 100; i++) type.alloc(16 << (i % 10));
    for (let i = 0; i < 50; i++) zone.alloc();
    const [mine, other] = [machine.mutex(`m${id}`), machine.mutex(`m${1 - id}`)];
    const over = machine.condition('over');
    const gate = machine.mutex('gate');
    mine.lock();
    if (id === 1) {
      machine.roots.set('up 1', 1);
      other.lock(); // the other one sleeps, with that one in its hand
      other.unlock();
    }
    gate.lock();
    machine.roots.set(`up ${id}`, 1);
    over.waitUntil(gate, () => machine.roots.get('over') === 1);
    gate.unlock();
    mine.unlock();
    machine.detach();
  },
  read() {
    const k = kvm_open(workerData.path);
    if (typeof k === 'string') return say(k);
    say(run_all(workerData.commands));
  },
  damage() {
    const { path, commands, seeds } = workerData;
    const k = kvm_open(path);
    if (typeof k === 'string') return say(k);
    const whole = mem.U8.slice();
    const wrong: string[] = [];
    for (const seed of seeds as number[]) {
      mem.U8.set(whole);
      const draw = dice(seed);
      // Bytes anywhere, and words of the kernel's records that others have: wild pointers, circles.
      for (let i = 0; i < 200; i++) {
        mem.U8[4096 + draw(i % 2 === 0 ? KERNEL_BYTES : whole.length - 4096)] = draw(256);
        const word = (): number => 1024 + draw(KERNEL_BYTES / 4 - 1024);
        mem.I32[word()] = draw(4) === 0 ? word() : mem.I32[word()];
      }
      const started = performance.now();
      try {
        for (const [i, text] of run_all(commands, 500).entries()) {
          const lines = text.split('\n').filter((line) => /memory is wrong/.test(line));
          if (lines.length > 1) wrong.push(`${seed}: ${commands[i]}: ${lines.length} lines`);
        }
      } catch (e) {
        wrong.push(`${seed}: ${(e as Error).stack}`);
      }
      if (performance.now() - started > 10_000) wrong.push(`${seed}: it takes too long`);
    }
    say(wrong);
  },
};
jobs[workerData.job]();
