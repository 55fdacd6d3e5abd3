/*
 * A worker of dump.test.ts and dump.slow.test.ts.
 *
 *      work     allocates, then obeys: 'still' stands still, 'run' allocates and frees
 *      panic    boots a machine that dumps when it panics, has another thread on it, panics
 *      read     prints vmstat of dumps, as the command does
 */
import { kconsole } from '../sys/machine/kconsole.ts';
import { parentPort, Worker, workerData } from 'node:worker_threads';
import { vmstat_main } from '../bin/vmstat.ts';
import { dump_context } from '../bin/dump_context.ts';
import { KernelPanic, panic } from '../sys/machine/panic.ts';
import { attach, boot } from './index.ts';
import { dice } from '../sys/machine/seed.test.lib.ts';

const say = (what: unknown): void => parentPort?.postMessage(what);
const here = new URL(import.meta.url);

const jobs: Record<string, () => void | Promise<void>> = {
  work() {
    const machine = attach(workerData);
    const { id, seed, word } = workerData;
    const words: Uint32Array = machine.u32;
    const draw = dice(seed + id);
    const type = machine.type(`work ${id}`);
    const zone = machine.zone('conn', { size: 96 });
    const blocks = Array.from({ length: 300 }, () => type.alloc(1 + draw(9000)));
    const items = Array.from({ length: 300 }, () => zone.alloc());
    const turn = (n: number): void => {
      const i = draw(blocks.length);
      type.free(blocks[i]);
      blocks[i] = type.alloc(1 + draw(9000));
      zone.free(items[i]);
      items[i] = zone.alloc();
      words[word + id] = n;
    };
    words[word + id] = 1;
    say('up');
    parentPort?.on('message', (told: string) => {
      if (told === 'run') {
        // Until the word behind says so: this thread's event loop hears nothing meanwhile.
        for (let n = 2; Atomics.load(words, word + 2) !== 1; n++) turn(n);
        say('stopped');
      } else {
        for (const b of blocks) type.free(b);
        for (const i of items) zone.free(i);
        machine.detach();
        parentPort?.close();
      }
    });
  },
  async panic() {
    const { folder, dump } = workerData;
    kconsole.print = (line) => say({ line });
    const machine = boot({ memory: '2M', cpus: 3, dump: folder });
    machine.type('before the panic').alloc(500);
    const other = new Worker(here, { workerData: { job: 'sleep', kmem: machine.handle, dump } });
    const heard = new Promise((resolve) => other.on('message', resolve));
    // Once it has said so and the mutex is free, it sleeps on the condition.
    const lock = machine.mutex('lock');
    while (!lock.run(() => machine.roots.get('asleep') === 1)) {
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    let text = '';
    try {
      panic('a test believed', 7);
    } catch (e) {
      text = e instanceof KernelPanic ? e.message : String(e);
    }
    const own = machine.dump(`${dump}.own`);
    say({ text, own, up: machine.up, other: await heard });
    machine.detach();
    let after = '';
    try {
      machine.dump(`${dump}.after`);
    } catch (e) {
      after = (e as { code: string }).code;
    }
    say({ after });
  },
  sleep() {
    const machine = attach(workerData);
    const never = machine.condition('never');
    const lock = machine.mutex('lock');
    let error = '';
    try {
      lock.run(() => {
        machine.roots.set('asleep', 1);
        never.wait(lock);
      });
    } catch (e) {
      error = (e as Error).message;
    }
    say({ error, dump: machine.dump(`${workerData.dump}.other`) });
  },
  async read() {
    for (const { path, argv } of workerData.files as { path: string; argv: string[] }[]) {
      let out = '';
      let err = '';
      const ctx = await dump_context(
        { path },
        'vmstat',
        (text) => (out += text),
        (text) => (err += text),
      );
      const code = ctx ? await vmstat_main(argv, ctx) : 1;
      say({ path, code, out, err });
    }
  },
};
await jobs[workerData.job]();
