/*
 * A thread that uses everything of the façade until it is killed, or told to end.
 *
 * Every call of the program's threads is somewhere in here: a death that some call
 * cannot bear is met sooner or later.  What a dead owner abandoned is recovered, as
 * a program would.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach, type Machine } from '../../src/lib/index.ts';
import type { Handle } from '../../src/sys/machine/machdep.ts';
import { dice } from '../../src/sys/machine/seed.test.lib.ts';

interface Data {
  readonly kmem: Handle;
  readonly seed: number;
  /** [0] 1: end · [1] calls of all threads, for the watchdog */
  readonly book: Int32Array;
  /** 'mixed': attaches and leaves in between, too. */
  readonly rejoins: boolean;
}
const { kmem, seed, book, rejoins } = workerData as Data;
const draw = dice(seed);
const MAY = new Set(['ENOMEM', 'ETIMEDOUT', 'EDEADLK', 'EAGAIN', 'EEXIST', 'EBUSY', 'EINVAL']);

type Call = (m: Machine) => void;
const calls: Call[] = [
  (m) => {
    const t = m.type(`t${draw(3)}`);
    const held = Array.from({ length: draw(40) }, () => t.tryAlloc(1 + draw(6000)));
    for (const p of held) if (p !== undefined) t.free(p);
  },
  (m) => {
    const t = m.type('large');
    const p = t.tryAlloc(4097 + draw(60_000), { zero: draw(2) === 0 });
    if (p !== undefined) t.free(t.realloc(p, 4097 + draw(60_000)));
  },
  (m) => {
    const z = m.zone(`z${draw(2)}`, { size: 40 });
    const held = Array.from({ length: draw(60) }, () => z.tryAlloc());
    for (const p of held) if (p !== undefined) z.free(p);
  },
  (m) => m.zone(`short${draw(3)}`, { size: 96 }).dispose(),
  (m) => {
    const r = m.records('r', { x: 'f64', n: 'i32' }, { capacity: 500 });
    const i = r.tryAlloc();
    if (i === undefined) return;
    r.x[i] = 1.5;
    r.free(i);
  },
  (m) => m.records(`made${draw(2)}`, { a: 'u8' }, { capacity: 5000 }).dispose(),
  (m) => {
    const q = m.queue('q', { capacity: 32 });
    for (let i = draw(8); i > 0; i--) q.tryPush(i);
    for (let i = draw(8); i > 0; i--) q.tryPop();
    if (draw(20) === 0) q.push(1, { timeout: 2 });
  },
  (m) => {
    const lock = m.mutex(`m${draw(2)}`);
    if (draw(3) > 0) lock.run(() => m.type('t0').free(m.type('t0').alloc(100)));
    else if (lock.tryLock()) lock.unlock();
  },
  (m) => {
    const lock = m.rwlock(`l${draw(2)}`);
    if (draw(3) > 0) lock.read(() => void m.memory());
    else if (draw(2) > 0) lock.write(() => draw(2));
    else if (lock.tryLockRead()) {
      if (lock.tryUpgrade()) {
        lock.downgrade();
      }
      lock.unlockRead();
    }
  },
  (m) => {
    const lock = m.mutex('bed');
    const bell = m.condition('bell');
    if (draw(2) === 0) bell.broadcast();
    else lock.run(() => bell.wait(lock, { timeout: 1 + draw(3) }));
  },
  (m) => {
    const c = m.chain('a packet of some bytes');
    c.append(new Uint8Array(draw(5000)));
    const d = c.clone();
    if (d.length > 20) d.split(10).free();
    d.free();
    if (draw(2) === 0) c.free();
    else m.adoptChain(c.release()).free();
  },
  (m) => void m.sysctl('vm.stats.vm.v_free_count'),
  (m) => void m.sysctls(),
  (m) => void m.stats(),
  (m) => void m.metrics(),
  (m) => void m.vmstat(draw(2) ? 'm' : 'z'),
  (m) => void m.netstat(),
  (m) => {
    m.roots.set(`root${draw(4)}`, draw(1000));
    m.roots.delete(`root${draw(4)}`);
  },
  (m) => m.away(() => draw(10)),
];
function one(m: Machine): void {
  try {
    calls[draw(calls.length)](m);
  } catch (e) {
    const { code } = e as { code?: string };
    if (code === 'EOWNERDEAD') return recover(m);
    if (!MAY.has(String(code))) throw e;
  }
}
function recover(m: Machine): void {
  for (const lock of [m.mutex('m0'), m.mutex('m1'), m.mutex('bed')]) lock.recover(() => {});
  for (const lock of [m.rwlock('l0'), m.rwlock('l1')]) lock.recover(() => {});
}

let m = attach(kmem);
parentPort?.postMessage('up');
for (let n = 1; book[0] === 0; n++) {
  one(m);
  if (n % 16 === 0) Atomics.add(book, 1, 16);
  if (rejoins && draw(40) === 0) {
    m.detach();
    m = attach(kmem);
  }
}
m.detach();
parentPort?.postMessage('over');
