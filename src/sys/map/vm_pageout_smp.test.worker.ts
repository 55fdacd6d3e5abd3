/*
 * The workers of vm_pageout_smp: one writes to its pages and reads them, a few of them often; one
 * is the page daemon, in a thread that has what the test declares.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { ENOMEM } from '../machine/errno.ts';
import { mem, PAGE_SIZE } from '../machine/memory.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import { vm_access } from './vm_copy.ts';
import { done_word, map_at, stop_word } from './vm_map.test.lib.ts';
import { vm_pageout_thread } from './vm_pageout.ts';
import { BASE, stamp, type Work, WORKERS } from './vm_pageout_smp.test.lib.ts';

interface Task {
  seed: number;
  part: number;
  pages: number;
  operations: number;
  /** Not 0: the one before was killed, and nobody knows how often it wrote. */
  fresh: number;
}
/** Pages of the few that are used often. */
const FEW = 60;

class Worker {
  readonly done: Work = { operations: 0, refused: 0 };
  readonly draw: (n: number) => number;
  readonly times: Int32Array;
  readonly task: Task;
  center = 0;

  constructor(task: Task) {
    this.task = task;
    this.draw = dice(task.seed);
    this.times = new Int32Array(Math.floor(task.pages / WORKERS)).fill(task.fresh === 0 ? 0 : -1);
  }
  page(n: number): number {
    return n * WORKERS + this.task.part;
  }
  /** Accesses a word of a page. False: there is no memory for it. */
  word(i: number, last: boolean, write: boolean, use: (w: number) => void): boolean {
    const at = (BASE + i) * PAGE_SIZE + (last ? PAGE_SIZE - 4 : 0);
    const { error } = vm_access(map_at(0), at, 4, write, use);
    if (error === 0) return true;
    if (error !== ENOMEM) throw new Error(`page ${i}: errno ${error}`);
    this.done.refused++;
    return false;
  }
  write(n: number): void {
    const i = this.page(n);
    const value = stamp(i, Math.max(this.times[n], 0) + 1);
    const store = (w: number): void => void (mem.I32[w / 4] = value);
    while (!this.word(i, false, true, store));
    while (!this.word(i, true, true, store));
    this.times[n] = value & 0xfff;
  }
  read(n: number): void {
    const i = this.page(n);
    const seen: number[] = [];
    const look = (w: number): void => void seen.push(mem.I32[w / 4]);
    while (!this.word(i, false, false, look));
    while (!this.word(i, true, false, look));
    const known = this.times[n] >= 0;
    const want = this.times[n] === 0 ? 0 : stamp(i, this.times[n]);
    const right = seen.every((v) => (known ? v === want : v === 0 || v >>> 12 === i));
    if (!right) throw new Error(`page ${i} holds ${seen}, not ${want}`);
  }
  step(): void {
    const all = this.times.length;
    if (this.draw(400) === 0) this.center = this.draw(all);
    const n = this.draw(4) === 0 ? this.draw(all) : (this.center + this.draw(FEW)) % all;
    if (this.draw(2) === 0) this.write(n);
    else this.read(n);
    this.done.operations++;
    if (this.done.operations % 12 === 0) atomic_add(done_word(), 1);
  }
}
run_job<Task>(
  (job, task) => {
    if (job === 'daemon') vm_pageout_thread();
    const w = new Worker(task);
    while (w.done.operations < task.operations && atomic_load(stop_word()) === 0) w.step();
    for (let n = 0; n < w.times.length; n++) w.read(n);
    return w.done;
  },
  { join: attach, leave: () => void detach() },
);
