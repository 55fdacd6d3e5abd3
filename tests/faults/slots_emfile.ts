/*
 * A program that has used up its descriptors; slots.slow.test.ts starts it with few.
 *
 * A thread holds a lock for longer than a waiter's slices, while this one has no
 * descriptor left: the owner lives, and the waiter waits.  Then a thread joins without a
 * descriptor, and one that dies is settled without one.
 */
import { closeSync, openSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { boot } from '../../src/lib/index.ts';
import { cpus_attached, reap_all } from '../../src/sys/machine/death.ts';

const m = boot({ memory: '16M', cpus: 4 });
const start = (job: string, rounds: number): Worker => {
  const workerData = { job, handle: m.handle, rounds };
  return new Worker(new URL('./slots.worker.ts', import.meta.url), { workerData });
};
const said = (w: Worker): Promise<unknown> => new Promise((resolve) => w.once('message', resolve));
function use_up(): { fds: number[]; code: string } {
  const fds: number[] = [];
  try {
    for (;;) fds.push(openSync('/dev/null', 'r'));
  } catch (e) {
    return { fds, code: String((e as { code?: string }).code) };
  }
}
const out: string[] = [];
const lock = m.mutex('held');
const holder = start('hold', 2500);
await said(holder); // it has loaded its files, before the next one uses up all descriptors
const poor = start('poor', 0);
const poor_says = said(poor);
out.push(`joined: ${String(await poor_says)}`);
const released = said(holder);
const { fds, code } = use_up();
lock.lock()[Symbol.dispose]();
for (const fd of fds) closeSync(fd);
out.unshift(
  code,
  'got the lock',
  `reaped ${String(m.sysctl('vm.reap.cpus'))}`,
  String(await released),
);
const ended = Promise.all([poor.terminate(), holder.terminate()]);
await ended;
const again = use_up();
reap_all();
out.push(`dead: ${cpus_attached() === 1 ? 'free' : 'held'}`);
for (const fd of again.fds) closeSync(fd);
m.check();
console.log(out.join('; '));
process.exit(0);
