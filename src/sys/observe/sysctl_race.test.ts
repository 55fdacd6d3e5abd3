/*
 * Shows that threads may add, read, walk and remove nodes at once: two workers
 * and this thread, from a printed seed, under INVARIANTS and WITNESS.  No
 * handler runs after its node's removal returned, the walker finds the tree
 * sound all the while, and at the end it is as it was, with no memory lost.  A
 * thread killed inside a handler does not keep the node from being removed.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { boot, shutdown } from '../boot/whole.ts';
import { host_sees_threads } from '../machine/host.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { CTLFLAG_RD } from '../machine/sysctl_decl.ts';
import { vector_number } from '../machine/vectors.ts';
import { sysctl_read } from './kern_sysctl.ts';
import { ALLOCATOR_MALLOC, memstat_mtl_alloc, memstat_mtl_find } from './memstat.ts';
import { memstat_parse_malloc } from './memstat_malloc.ts';
import { sysctl_add_oid, sysctl_remove_oid } from './sysctl_freebsd.ts';
import {
  CTLTYPE_INT,
  OID_AUTO,
  oid_mib,
  oid_named,
  oid_root,
  oid_running,
  oid_walk,
  sysctl_check,
  tree_rlock,
  tree_runlock,
} from './sysctl_tree.ts';

let handle: unknown;
before(() => {
  const options = { INVARIANTS: true, WITNESS: true };
  handle = boot({ memory: '16M', cpus: 4, options }).handle;
});
after(shutdown);

function nodes(): string[] {
  const all: string[] = [];
  tree_rlock();
  oid_walk(oid_root(), (o) => all.push(oid_mib(o).join('.')));
  tree_runlock();
  return all;
}

test('two workers add, read and remove; this thread checks', async () => {
  const before_it = nodes();
  const rounds = 400;
  const file = new URL('./sysctl_race.test.worker.ts', import.meta.url);
  const over = { n: 0 };
  const workers: Worker[] = [];
  const runs = [1, 2].map(
    (i) =>
      new Promise<{ added: number; read: number }>((resolve, reject) => {
        const w = new Worker(file, { workerData: { handle, seed: SEED + i, rounds } });
        workers.push(w);
        w.once('message', resolve);
        w.once('error', reject);
        w.once('exit', (code) => {
          over.n++;
          if (code !== 0) reject(new Error(`worker ${i} ended with ${code}`));
        });
      }),
  );
  const checker = (async () => {
    let checks = 0;
    while (over.n < 2) {
      sysctl_check();
      checks++;
      await new Promise((r) => setTimeout(r, 1));
    }
    return checks;
  })();
  try {
    const [a, b] = await Promise.all(runs);
    assert.ok(a.added > rounds / 2 && b.added > rounds / 2, 'both added many');
    assert.ok(a.read + b.read > rounds);
    assert.ok((await checker) > 1);
  } catch (e) {
    throw new Error(`seed ${SEED}: ${(e as Error).stack}`);
  } finally {
    over.n = 2;
    for (const w of workers) await w.terminate();
  }
  sysctl_check();
  assert.deepEqual(nodes(), before_it, `seed ${SEED}`);
  const list = memstat_mtl_alloc();
  memstat_parse_malloc(list, sysctl_read('kern.malloc_stats') as Uint8Array);
  for (const type of ['sysctloid', 'temp']) {
    assert.equal(memstat_mtl_find(list, ALLOCATOR_MALLOC, type)?.count, 0, `${type}, seed ${SEED}`);
  }
  assert.equal(
    new DataView((sysctl_read('debug.witness.reports') as Uint8Array).slice().buffer).getInt32(
      0,
      true,
    ),
    0,
    'no lock was taken out of order',
  );
});

const unseen = host_sees_threads() ? false : 'this host cannot see that a thread is gone';
test('a thread dies in a handler; its node can be removed', { skip: unseen }, async () => {
  tree_rlock();
  const vendor = oid_named(oid_root(), 'vendor');
  tree_runlock();
  const kind = CTLTYPE_INT | CTLFLAG_RD;
  const stuck = vector_number('test.stuck');
  const o = sysctl_add_oid(
    null,
    vendor,
    OID_AUTO,
    'stuck',
    kind,
    0,
    0,
    stuck,
    'I',
    'never returns',
  );
  const file = new URL('./sysctl_race.test.worker.ts', import.meta.url);
  const w = new Worker(file, { workerData: { handle, seed: 1, rounds: 0, stuck: true } });
  await new Promise((resolve) => w.once('message', resolve));
  assert.equal(oid_running(o), 1);
  const reaped = sysctl_read('vm.reap.cpus') as Uint8Array;
  await w.terminate();
  assert.equal(sysctl_remove_oid(o, true, false), 0, 'it waits no longer than until it is settled');
  sysctl_check();
  const now = sysctl_read('vm.reap.cpus') as Uint8Array;
  assert.equal(now[0], reaped[0] + 1);
});
