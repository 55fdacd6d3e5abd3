/*
 * Shows: threads that make, use and end stores of their own beside one that all share find in each
 * what they wrote, and those who are killed in the middle of it leave no reference on its way, no
 * record and no descriptor.
 * By what means: two workers (vm_store.test.worker.ts), some of them killed and replaced; the
 * walker afterwards.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { atomic_store } from '../machine/atomic.ts';
import { reap_all } from '../machine/death.ts';
import { churn } from '../machine/kills.test.lib.ts';
import { page_word } from '../machine/memory.ts';
import { SEED, ways } from '../machine/seed.test.lib.ts';
import { STORE_NEW } from '../machine/store.ts';
import { Crew, type Job } from '../machine/workers.test.lib.ts';
import { vm_store, type vm_store_t } from '../h/vm_store.ts';
import { vm_page_alloc, vm_page_wire } from '../page/vm_page.ts';
import { vm_store_drop, vm_store_make, vm_store_reference, vm_store_writev } from './vm_store.ts';
import { stores_all, vm_store_check } from './vm_store_check.ts';

const FILE = new URL('./vm_store.test.worker.ts', import.meta.url);
afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
/** Descriptors of this process that lead into a folder. */
function open_in(folder: string): number {
  const into = (fd: string): string => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // the listing's own
    }
  };
  return readdirSync('/proc/self/fd')
    .map(into)
    .filter((path) => path.includes(folder)).length;
}

type Hammer = Job<{ n: number }>;
async function hammered(kills: number, INVARIANTS: boolean): Promise<void> {
  const options = { INVARIANTS, WITNESS: INVARIANTS };
  const { handle } = boot({ memory: '4M', cpus: 3, options, fresh: true });
  const m = vm_page_alloc(-1, 0);
  vm_page_wire(m, 1);
  const [stop, done] = [page_word(m), page_word(m) + 1];
  for (const w of [stop, done]) atomic_store(w, 0);
  const folder = mkdtempSync(join(tmpdir(), 'kmem-vmstore-'));
  const path = join(folder, 'shared');
  const shared = vm_store_make(path, STORE_NEW) as vm_store_t;
  assert.equal(vm_store_writev(shared, 0, [new Uint8Array(2 * 4096)]), 0);
  const crew = new Crew<{ n: number }>(FILE);
  const start = (me: number, n: number): Hammer =>
    crew.start(handle, 'hammer', { seed: SEED + n * 2 + me, me, folder, path, shared, stop, done });
  await churn({ crew, workers: 2, start, kills, seed: SEED, done, stop, work: 1000 });
  reap_all();
  assert.equal(stores_all().length, 1);
  assert.equal(vm_store.refs[shared], 1, 'references on their way are given up');
  vm_store_check([]);
  if (process.platform === 'linux') assert.equal(open_in(folder), 1, 'the host closed the rest');
  vm_store_reference(shared);
  vm_store_drop(shared);
  vm_store_drop(shared);
  vm_store_check([]);
  rmSync(folder, { recursive: true });
}
test('two threads hammer one store', () => hammered(0, true));
for (const INVARIANTS of ways([true, false])) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`the same, and threads are killed, ${how}`, () => hammered(10, INVARIANTS));
}
