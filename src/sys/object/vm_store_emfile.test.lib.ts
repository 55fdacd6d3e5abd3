/*
 * A program that may have few descriptors; vm_store_smp.test.ts starts it, with a folder.
 *
 * It makes stores until it may have no more files open, and ends a third of them.  A second
 * thread then uses all that are left, in turn, more than it can have open beside the first:
 * it closes some and opens others, and every byte that it writes is where it belongs, in files
 * that have no name any more.
 */
import { unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { boot } from '../boot/whole.ts';
import { counter_get } from '../machine/counter.ts';
import { EMFILE, errno_name } from '../machine/errno.ts';
import { STORE_NEW } from '../machine/store.ts';
import { own_count } from '../machine/store_own.ts';
import type { vm_store_t } from '../h/vm_store.ts';
import { SERVES } from './vm_store.test.worker.ts';
import { v_closed } from './vm_store.ts';
import { vm_store_check } from './vm_store_check.ts';

const N = 5000;
const machine = boot({ memory: '4M', cpus: 3, options: { INVARIANTS: true, WITNESS: true } });
const file = new URL('./vm_store.test.worker.ts', import.meta.url);
const worker = new Worker(file, { workerData: { serve: machine.handle } });
await once(worker, 'message'); // it has loaded its files, before descriptors run out
async function ask(call: string, ...args: unknown[]): Promise<number> {
  worker.postMessage({ call, args });
  const [said] = await once(worker, 'message');
  if (typeof said === 'string') throw new Error(said);
  return said;
}
function right(is: boolean, what: string): void {
  if (is) return;
  console.log(`wrong: ${what}`);
  process.exit(1);
}

const all: vm_store_t[] = [];
let error = 0;
for (let i = 0; error === 0; i++) {
  const path = join(process.argv[2], `few${i}`);
  const s = SERVES.make(path, STORE_NEW);
  if (s < 0) error = -s;
  else {
    all.push(s as vm_store_t);
    unlinkSync(path);
    right(SERVES.write(s as vm_store_t, 0, N, 100) === 0, 'the first bytes');
  }
}
const made = all.length;
right(own_count() === made, 'a file that was made is open, whatever is refused');
right((await ask('read', all[0], 0, N)) === -EMFILE, 'the other thread can have none');
for (const s of all.splice(0, Math.ceil(made / 3))) SERVES.end(s);
for (let round = 0; round < 3; round++) {
  for (const [i, s] of all.entries()) {
    const before = round === 0 ? 100 : i + round * 2 - 1;
    const got = await ask('read', s, 0, N);
    right(got === before, `round ${round}, store ${i}: ${got}, not ${before}`);
    right((await ask('write', s, 0, N, i + round * 2)) === 0, `round ${round}: written by it`);
    right(SERVES.read(s, 0, N) === i + round * 2, `round ${round}: seen here`);
    right(SERVES.write(s, 0, N, i + round * 2 + 1) === 0, `round ${round}: written here`);
  }
}
vm_store_check(all);
const closed = counter_get(v_closed);
await worker.terminate();
for (const s of all) SERVES.end(s);
console.log(
  `made ${made}, ${errno_name(error)}; read and written by both; closed ${closed}; all right`,
);
process.exit(0);
