/*
 * Shown: of several copies of the package in one thread only one is in a machine, whichever
 * comes first, by boot or by attach, and the error of the other names both; when the first has
 * left, the other may boot; copies in two threads share one machine; the list by which they find
 * one another holds only those that are in a machine.  The copies are real:
 * the sources, the same in another folder, and these compiled to JavaScript as a package has them.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import workerThreads, { Worker } from 'node:worker_threads';
import * as ours from '../../lib/index.ts';
import { within } from '../machine/workers.test.lib.ts';

type Package = typeof ours;
const SRC = fileURLToPath(new URL('../../', import.meta.url));
let folder = '';
const paths: Record<string, string> = {};
const copies: Record<string, Package> = { sources: ours };

/** Copies what the library is made of; `compiled`: without its types. */
function copy(name: string, compiled: boolean): string {
  const to = join(folder, name);
  for (const part of ['lib', 'sys', 'replay']) {
    cpSync(join(SRC, part), join(to, part), {
      recursive: true,
      filter: (path) => !path.includes('.test.') && !path.includes('.stress.'),
    });
  }
  writeFileSync(join(to, 'package.json'), '{"type":"module"}');
  if (!compiled) return to;
  for (const file of readdirSync(to, { recursive: true, encoding: 'utf8' })) {
    if (!file.endsWith('.ts')) continue;
    const path = join(to, file);
    const code = stripTypeScriptTypes(readFileSync(path, 'utf8'));
    writeFileSync(
      path.replace(/ts$/, 'js'),
      code.replaceAll(/(['"]\.[^'"]*)\.ts(?=['"])/g, '$1.js'),
    );
    rmSync(path);
  }
  return to;
}
before(async () => {
  folder = mkdtempSync(join(tmpdir(), 'kmem copies '));
  paths.sources = SRC;
  for (const name of ['again', 'compiled']) {
    paths[name] = `${copy(name, name === 'compiled')}/`;
    const index = join(paths[name], `lib/index.${name === 'compiled' ? 'js' : 'ts'}`);
    copies[name] = await import(pathToFileURL(index).href);
  }
});
after(() => rmSync(folder, { recursive: true, force: true }));

function refused(op: string, first: string, second: string, run: () => unknown): void {
  assert.throws(run, (e: ours.KmemError) => {
    assert.equal(e.code, 'EBUSY');
    assert.ok(e.message.startsWith(`EBUSY: ${op}: another copy of kmem`), e.message);
    assert.ok(e.message.includes(`${paths[first]}, booted at copies.test`), e.message);
    assert.ok(e.message.includes(`this one is ${paths[second]}:`), e.message);
    return true;
  });
}

describe('two copies in one thread', () => {
  for (const [first, second] of [
    ['sources', 'again'],
    ['again', 'sources'],
    ['sources', 'compiled'],
    ['compiled', 'sources'],
    ['compiled', 'again'],
  ]) {
    test(`${first} is up: ${second} is refused, until the first has left`, () => {
      const machine = copies[first].boot({ memory: '8M', cpus: 2 });
      const { boot, attach } = copies[second];
      refused('boot', first, second, () => boot({ memory: '8M' }));
      refused('attach', first, second, () => attach(machine.handle));
      assert.throws(() => copies[first].boot(), /EBUSY: boot: a machine is up in this thread/);
      const at = machine.type('t').alloc(100);
      machine.type('t').free(at);
      machine.check();
      machine.shutdown();
      const next = boot({ memory: '8M', cpus: 2 });
      refused('boot', second, first, () => copies[first].boot());
      next.check();
      next.shutdown();
    });
  }
  test('the list of a thread keeps none that is in no machine, and bears any record', () => {
    const holder = workerThreads as unknown as Record<symbol, unknown>;
    const list = Symbol.for('kmem.copies');
    for (const record of [[{}, null, 'x', { up: 1 }, { up: () => 5 }], {}, 'x', null]) {
      holder[list] = record;
      for (const name of ['sources', 'again', 'compiled']) {
        copies[name].boot({ memory: '8M', cpus: 2 }).shutdown();
        assert.equal((holder[list] as unknown[]).length, 1);
      }
      const machine = ours.boot({ memory: '8M', cpus: 2 });
      refused('boot', 'sources', 'again', () => copies.again.boot());
      machine.shutdown();
    }
  });
  test('each in a thread of its own: one machine', async () => {
    const machine = ours.boot({ memory: '8M', cpus: 4 });
    const workers = ['again', 'compiled'].map((name) => {
      const index = join(paths[name], `lib/index.${name === 'compiled' ? 'js' : 'ts'}`);
      const code = `
        const { workerData, parentPort } = require('node:worker_threads');
        import(${JSON.stringify(pathToFileURL(index).href)}).then(({ attach }) => {
          const machine = attach(workerData);
          machine.queue('q').push(machine.cpu);
          machine.detach();
        });`;
      return once(new Worker(code, { eval: true, workerData: machine.handle }), 'exit');
    });
    assert.deepEqual(await within(Promise.all(workers), 'both threads'), [[0], [0]]);
    const q = machine.queue('q');
    for (let cpu = q.tryPop(); cpu !== undefined; cpu = q.tryPop()) assert.ok(cpu > 0);
    machine.check();
    machine.shutdown();
  });
});
