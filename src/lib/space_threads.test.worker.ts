/*
 * A worker of space_threads.test.ts and space.stress.ts: attaches and does the job that workerData
 * names.  Jobs that never return are ended by the test.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, KmemError, type Machine, type Window } from './index.ts';
import { LARGE, LITMUS, PAGES, REGION } from './space.test.lib.ts';

interface Start {
  readonly job: keyof typeof jobs;
  readonly id: number;
  readonly go: Int32Array;
}
const port = parentPort;
const say = (what: unknown): void => port?.postMessage(what);
/** Errors that a thread may see whose spaces others destroy and whose memory others take. */
const MEANWHILE = ['ESTALE', 'EEXIST', 'ENOENT', 'ENOMEM', 'EBUSY', 'ESHUTDOWN', 'ETIMEDOUT'];
function tried(run: () => void): void {
  try {
    run();
  } catch (e) {
    const unmapped = e instanceof KmemError && e.reason === 'unmapped';
    if (!unmapped && !(e instanceof KmemError && MEANWHILE.includes(e.code))) throw e;
  }
}

const jobs = {
  /** Counts up at one place, for ever. */
  count(machine: Machine): void {
    const m = machine.space('s').mmap(REGION);
    say('up');
    for (let i = 1; ; i++) m.setI32(LITMUS.x, i);
  },
  /** Copies that place to another one, for ever. */
  follow(machine: Machine): void {
    const m = machine.space('s').mmap(REGION);
    say('up');
    for (;;) m.setI32(LITMUS.y, m.getI32(LITMUS.x));
  },
  /** Writes the number of its round to its word of one page after another, for ever. */
  rounds(machine: Machine, { id }: Start): void {
    const m = machine.space('s').mmap(REGION);
    say('up');
    for (let round = 1; ; round++) {
      for (let p = 0; p < PAGES; p++) m.setU32(p * 4096 + id * 4, round);
    }
  },
  /** Everything that a program may do with spaces, for ever. */
  all(machine: Machine, { id }: Start): void {
    say('up');
    const bytes = new Uint8Array(9000).fill(id + 1);
    for (let i = 0; ; i++) {
      tried(() => {
        const space = machine.space(i % 3 === 0 ? 'common' : `own ${id}`);
        const m = space.mmap({ name: `m${i % 5}`, length: 16_384 });
        m.write(100, bytes);
        m.setF64(12_288, i);
        using w: Window = m.window(4096, 8192, { write: true });
        w.u32[10] = i;
        if (i % 4 === 0) space.fork(`fork ${id}`).region('m0').setU32(0, i);
        if (i % 5 === 0) machine.space(`fork ${id}`).destroy();
      });
      tried(() =>
        machine
          .space('common')
          .region(`m${i % 5}`)
          .unmap(),
      );
      if (i % 7 === 0) tried(() => machine.space('common').destroy());
      if (i % 11 === 0) machine.space(`own ${id}`).dispose();
    }
  },
  /** Adds 1 to its word of every page of a region that is larger than the memory. */
  sweeps(machine: Machine, { id }: Start): void {
    const m = machine.space('s').mmap(LARGE);
    for (let at = id * 4; at < m.length; at += 4096) m.setU32(at, m.getU32(at) + 1);
    say('done');
    machine.detach();
  },
  /** Opens a window and closes it when it is told to. */
  holds(machine: Machine, { go }: Start): void {
    const w = machine.space('s').mmap(REGION).window(4096, 8192, { write: true });
    w.u32[0] = 77;
    say(machine.cpu);
    Atomics.wait(go, 0, 0);
    w.close();
    say('closed');
    setInterval(() => {}, 1000);
  },
  /** Destroys the space when it is told to. */
  destroys(machine: Machine): void {
    const space = machine.space('s');
    space.destroy();
    say('destroyed');
  },
  /** Uses the space, and leaves the machine. */
  leaves(machine: Machine): void {
    const m = machine.space('s').mmap(REGION);
    m.setU32(4096, 78);
    m.window(0, 8192, { write: true }).close();
    say('up');
    machine.detach();
  },
  /** Unmaps the region 'old' and maps a larger one, 'now', in its place. */
  replaces(machine: Machine): void {
    const space = machine.space('s');
    const { address } = space.region('old');
    space.region('old').unmap();
    space.mmap({ name: 'now', address, length: 12_288 }).setU32(0, 77);
    say('replaced');
  },
  'destroys x'(machine: Machine): void {
    machine.space('x').destroy();
    say('destroyed');
  },
  /** Makes the space with a limit, and destroys it, for ever. */
  renews(machine: Machine): void {
    say('up');
    for (;;) {
      tried(() => machine.space('s', { limit: '1M' }).destroy());
    }
  },
  /** Uses the space, and then computes without a call until it is told to stop. */
  silent(machine: Machine, { go }: Start): void {
    const m = machine.space('s').mmap(REGION);
    m.setU32(0, 1);
    say('up');
    while (Atomics.load(go, 0) === 0);
    machine.away(() => {
      say('away');
      Atomics.wait(go, 0, 1);
    });
    say('back');
  },
};

const start = workerData as Start;
jobs[start.job](attach(workerData), start);
