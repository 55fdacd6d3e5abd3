/*
 * Shown: whatever object of the library is printed, by console.log or as JSON, what the program
 * keeps in the machine is not in it, and the text is short; at any time, also after shutdown, and
 * for a prototype, which has no fields.
 * By what means: a text is written into a block and a chain; what util.inspect and JSON.stringify
 * make of each object is short, and has neither the text nor a typed array in it; two workers,
 * attached to the same machine, look at theirs too.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { inspect } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { type Address, attach, boot, type Machine } from './index.ts';

const SECRET = 'correct horse battery staple';
/** A printed object is no longer than this. */
const MOST = 300;

function objects(machine: Machine): Record<string, object> {
  return {
    Machine: machine,
    MallocType: machine.type('blocks'),
    Zone: machine.zone('items', { size: 64 }),
    Mutex: machine.mutex('lock'),
    RwLock: machine.rwlock('lock'),
    Condition: machine.condition('turn'),
    Queue: machine.queue('work'),
    Roots: machine.roots,
    Chain: machine.chain(SECRET),
  };
}
/** What each is printed as, in both ways. */
function printed(of: Record<string, object>): [name: string, text: string][] {
  return Object.entries(of).flatMap(([name, one]): [string, string][] => [
    [name, inspect(one)],
    [name, inspect({ a: { b: { c: one } } }, { depth: 9 })],
    [name, JSON.stringify({ one })],
  ]);
}
function look(texts: readonly [string, string][]): void {
  for (const [name, text] of texts) {
    assert.ok(text.length < MOST, `${name}: ${text}`);
    assert.ok(!text.includes(SECRET), `${name}: ${text}`);
    assert.doesNotMatch(text, /Array\(\d/, name); // a view of the memory
  }
}
if (isMainThread) {
  test('nothing of the memory is in what is printed, in no thread and at no time', async () => {
    const machine = boot({ memory: '8M', cpus: 3 });
    const at = machine.type('secrets').alloc(64);
    machine.writeText(at, SECRET, 64);
    const of = objects(machine);
    look(printed(of));
    assert.equal(inspect(machine), `Machine { cpu: 0, shared: true, bytes: ${2 ** 23} }`);
    assert.equal(JSON.stringify(of.Mutex), '{"name":"lock"}');
    const workers = [1, 2].map(() => {
      return machine.adopt(new Worker(new URL(import.meta.url), { workerData: machine.handle }));
    });
    const heard = await Promise.all(
      workers.map(async (worker) => {
        const [[texts]] = await Promise.all([once(worker, 'message'), once(worker, 'exit')]);
        return texts as [string, string][];
      }),
    );
    for (const texts of heard) {
      look(texts);
      assert.match(texts[0][1], /^Machine \{ cpu: [12], /);
    }
    machine.type('secrets').free(at as Address);
    (of.Chain as Disposable)[Symbol.dispose]();
    machine.check();
    machine.shutdown();
    look(printed(of)); // nothing throws
    look(
      printed(
        Object.fromEntries(Object.entries(of).map(([k, v]) => [k, Object.getPrototypeOf(v)])),
      ),
    );
  });
} else {
  const machine = attach(workerData);
  const of = objects(machine);
  parentPort?.postMessage(printed(of));
  (of.Chain as Disposable)[Symbol.dispose]();
  machine.detach();
}
