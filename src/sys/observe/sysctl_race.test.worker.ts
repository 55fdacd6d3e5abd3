/*
 * sysctl_race.test.worker: one of the threads of sysctl_race.test.ts.
 *
 * Attaches, then adds, reads, walks and removes nodes as its seed says.  The
 * memory behind a node is spoilt the moment its removal returns: a handler
 * that still ran would see it.  With `stuck` it enters a handler that never
 * returns, and waits to be killed.
 */
import { kconsole } from '../machine/kconsole.ts';
import { parentPort, workerData } from 'node:worker_threads';
import { attach, detach } from '../boot/whole.ts';
import { M_WAITOK } from '../h/malloc_flags.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { M_TEMP } from '../kmem/kern_malloc_type.ts';
import { EIO, ENOENT, errno_name } from '../machine/errno.ts';
import { mem } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import { CTLFLAG_RW } from '../machine/sysctl_decl.ts';
import { sysctl, sysctl_handler, sysctlnametomib } from './kern_sysctl.ts';
import {
  sysctl_add_node,
  sysctl_add_oid,
  sysctl_ctx_free,
  sysctl_ctx_init,
  sysctl_remove_oid,
} from './sysctl_freebsd.ts';
import {
  CTLTYPE_INT,
  oid_named,
  oid_root,
  OID_AUTO,
  sysctl_check,
  tree_rlock,
  tree_runlock,
} from './sysctl_tree.ts';

const ALIVE = 0x600d;
const SPINS = 300;
kconsole.print = () => {}; // refusals are part of the game

const SLOW = sysctl_handler('test.slow', (req, arg1) => {
  for (let i = 0; i < SPINS; i++) if (mem.I32[arg1] !== ALIVE) return EIO;
  const error = req.out(new Uint8Array(Int32Array.of(mem.I32[arg1 + 1]).buffer));
  return mem.I32[arg1] === ALIVE ? error : EIO;
});

/** A handler that a thread stays in until it is killed there. */
sysctl_handler('test.stuck', () => {
  parentPort?.postMessage('inside');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  return 0;
});

const { handle, seed, rounds } = workerData;
let state = seed;
function random(n: number): number {
  state = (Math.imul(state, 1103515245) + 12345) >>> 0;
  return (state >>> 8) % n;
}
function read_all(): number {
  let n = 0;
  let at = [1];
  for (;;) {
    const old = new Uint8Array(96);
    const next = sysctl([0, 2, ...at], old, null);
    if (next.error === ENOENT) return n;
    if (next.error !== 0) throw new Error(`next: ${errno_name(next.error)}`);
    at = [...new Int32Array(old.buffer, 0, next.oldlen / 4)];
    const r = sysctl(at, new Uint8Array(1024), null);
    if (r.error === EIO) throw new Error(`a handler of ${at.join('.')} ran after its removal`);
    n++;
  }
}

attach(handle);
if (workerData.stuck) sysctl(sysctlnametomib('vendor.stuck').mib, new Uint8Array(4), null);
tree_rlock();
const vendor = oid_named(oid_root(), 'vendor');
tree_runlock();
const count = { added: 0, refused: 0, busy: 0, read: 0 };
for (let round = 0; round < rounds; round++) {
  const ctx = sysctl_ctx_init();
  const shared = sysctl_add_node(ctx, vendor, OID_AUTO, `g${random(2)}`, CTLFLAG_RW, 'shared');
  const words: number[] = [];
  for (let i = 0; i < 3; i++) {
    const w = malloc(8, M_TEMP.t, M_WAITOK);
    mem.I32[w] = ALIVE;
    mem.I32[w + 1] = i;
    words.push(w);
    const kind = CTLTYPE_INT | CTLFLAG_RW;
    const name = `leaf${random(6)}`;
    const o = sysctl_add_oid(ctx, shared, OID_AUTO, name, kind, w, 0, SLOW, 'I', 'raced');
    if (o === NULL) count.refused++;
    else count.added++;
  }
  if (random(4) === 0) count.read += read_all();
  const one = sysctlnametomib(`vendor.g${random(2)}.leaf${random(6)}`);
  if (one.error === 0 && sysctl(one.mib, new Uint8Array(4), null).error === EIO) {
    throw new Error('a handler ran after its removal');
  }
  if (random(8) === 0) sysctl_check();
  // Another thread may have nodes below the shared group: then leaves first, group later.
  while (sysctl_ctx_free(ctx) !== 0) {
    count.busy++;
    const leaf = ctx.entries.findIndex((o) => o !== shared);
    if (leaf >= 0) sysctl_remove_oid(ctx.entries.splice(leaf, 1)[0], true, false);
  }
  for (const w of words) {
    mem.I32[w] = 0xdead;
    free(w, M_TEMP.t);
  }
}
detach();
parentPort?.postMessage(count);
