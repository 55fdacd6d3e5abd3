/*
 * What a caught stack overflow leaves of the machine: nothing.
 *
 * Recursions overflow in every kind of call, in the main thread and in a worker at
 * once, while another worker goes on (overflow.test.lib.ts); calls are refused by
 * RangeError or done, sections are closed, items and pages all accounted for.  The
 * same with V8's compilers off, and with stacks that are small.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { type Machine, testMachine } from './index.ts';
import { type Overflowed, overflow, TRIED_CALLS } from './overflow.test.lib.ts';
import { ways } from '../sys/machine/seed.test.lib.ts';

const FILE = new URL('./overflow.test.worker.ts', import.meta.url);
const KINDS = Object.keys(TRIED_CALLS);

function whole(kind: string, seen: Overflowed): void {
  assert.equal(seen.wrong, '', kind);
  assert.equal(seen.open, 0, `${kind}: sections left open`);
  assert.ok(seen.refused > 0, `${kind}: no call was refused`);
  assert.ok(seen.done > 0, `${kind}: no call was done`);
}
function start(machine: Machine, workerData: object, resourceLimits = {}): Worker {
  return machine.worker<Worker>(FILE, { workerData, resourceLimits });
}
async function said<T>(worker: Worker): Promise<T> {
  const [message] = await Promise.race([
    once(worker, 'message'),
    once(worker, 'exit').then(() => assert.fail('the worker ended without a word')),
  ]);
  return message as T;
}

describe('a stack overflow that the program catches', () => {
  test('in two threads at once, beside a third that goes on', async (t) => {
    const machine = testMachine(t, { memory: '64M', cpus: 4, options: { INVARIANTS: false } });
    const beside = start(machine, { id: 'w', rounds: 0, ms: 1500 });
    const other = start(machine, { id: 'a', rounds: 1, ms: 0 });
    const worked = said<number>(beside);
    const there = said<Record<string, Overflowed>>(other);
    for (const kind of KINDS) whole(kind, overflow(machine, kind, 'm', 1));
    for (const [kind, seen] of Object.entries(await there)) whole(kind, seen);
    assert.ok((await worked) > 0, 'the third thread did nothing');
    await Promise.all([beside, other].map((w) => w.terminate()));
    machine.check();
  });

  test('with every check on', (t) => {
    const machine = testMachine(t, { options: { INVARIANTS: true, WITNESS: true } });
    for (const kind of KINDS) whole(kind, overflow(machine, kind, 'm', 1));
    machine.check();
  });

  test('in a worker with a small stack', async (t) => {
    const machine = testMachine(t, { cpus: 4 });
    const w = start(machine, { id: 's', rounds: 1, ms: 0 }, { stackSizeMb: 0.5 });
    const seen = await said<Record<string, Overflowed>>(w);
    for (const [kind, s] of Object.entries(seen)) whole(kind, s);
    await w.terminate();
    machine.check();
  });

  // Unoptimised frames are the largest; V8 may also compile whatever it meets.
  for (const flags of ways([
    ['--no-opt', '--no-maglev', '--no-sparkplug'],
    ['--always-sparkplug', '--stress-flush-code', '--stack-size=400'],
  ])) {
    test(`in a program started with ${flags.join(' ')}`, async () => {
      const lib = new URL('./index.ts', import.meta.url);
      const own = new URL('./overflow.test.lib.ts', import.meta.url);
      const program = `
        import { boot } from ${JSON.stringify(lib.href)};
        import { overflow, TRIED_CALLS } from ${JSON.stringify(own.href)};
        const machine = boot({ memory: '64M' });
        for (const kind of Object.keys(TRIED_CALLS)) {
          const s = overflow(machine, kind, 'p', 1);
          if (s.wrong || s.open || !s.refused || !s.done) throw new Error(kind + JSON.stringify(s));
        }
        machine.check();
        console.log('whole');`;
      const args = [...flags, '--input-type=module', '-e', program];
      const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
      let out = '';
      child.stdout.on('data', (b: Buffer) => (out += b.toString()));
      child.stderr.on('data', (b: Buffer) => (out += b.toString()));
      await once(child, 'close');
      assert.match(out, /whole/);
    });
  }
});
