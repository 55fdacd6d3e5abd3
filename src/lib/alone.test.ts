/*
 * A host that says it is cross-origin isolated and has no SharedArrayBuffer, as WebKit
 * may: the machine has one CPU and a line says why; calls that would wait for another
 * thread say so at once.
 *
 * Shown in a worker that takes SharedArrayBuffer away from itself before it loads kmem.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';

const end = import.meta.url.slice(-3); // .ts, or .js where it is compiled
const index = JSON.stringify(new URL(`./index${end}`, import.meta.url).href);
const PROGRAM = `
  const { parentPort, workerData } = require('node:worker_threads');
  delete globalThis.SharedArrayBuffer;
  if (workerData !== null) globalThis.crossOriginIsolated = workerData;
  const said = [];
  console.warn = (line) => said.push(line);
  (async () => {
    const { boot, attach } = await import(${index});
    const machine = boot({ memory: '4M' });
    const codes = {};
    const code = async (name, call) => {
      try { codes[name] = (await call()) === undefined ? 'undefined' : 'ok'; }
      catch (e) { codes[name] = e.code ?? String(e); }
    };
    const q = machine.queue('q', { capacity: 1 });
    const m = machine.mutex('m');
    const c = machine.condition('c');
    const z = machine.zone('z', { size: 64, limit: 1 });
    await code('pop', () => q.pop());
    await code('popAsync', () => q.popAsync({ timeout: 20 }));
    const late = q.popAsync();
    q.push(1);
    await code('popAsync, pushed', () => late);
    q.push(1);
    await code('push', () => q.push(1));
    await code('wait', () => m.run(() => c.wait(m)));
    await code('lock', () => m.run(() => 1));
    await code('lockAsync', async () => (await m.lockAsync(), m.unlock(), 1));
    const items = [];
    for (let i; (i = z.tryAlloc()) !== undefined; ) items.push(i);
    await code('zone.alloc', () => z.alloc({ wait: true }));
    const item = z.allocAsync();
    for (const i of items) z.free(i);
    await code('allocAsync', () => item);
    z.free(await item);
    const { handle } = machine;
    machine.type('t').free(machine.type('t').alloc(100));
    machine.check();
    machine.shutdown();
    await code('attach', () => attach(handle));
    let why = '';
    try { attach(handle); } catch (e) { why = e.message; }
    parentPort.postMessage({ shared: machine.shared, codes, said, why });
  })();`;

for (const isolated of [true, false, null]) {
  test(`no SharedArrayBuffer, crossOriginIsolated is ${isolated}`, async () => {
    const worker = new Worker(PROGRAM, { eval: true, workerData: isolated });
    const [{ shared, codes, said, why }] = await once(worker, 'message');
    assert.equal(shared, false);
    assert.deepEqual(codes, {
      pop: 'EDEADLK',
      popAsync: 'ETIMEDOUT',
      'popAsync, pushed': 'ok',
      push: 'EDEADLK',
      wait: 'EDEADLK',
      lock: 'ok',
      lockAsync: 'ok',
      'zone.alloc': 'EDEADLK',
      allocAsync: 'ok',
      attach: 'EOPNOTSUPP',
    });
    const reason =
      isolated === true ? /isolated, but this browser offers no SharedArrayBuffer/ : /not cross-/;
    assert.equal(said.length, 1);
    assert.match(said[0], reason);
    assert.match(said[0], /only CPU$/);
    assert.match(why, reason);
    await worker.terminate();
  });
}
