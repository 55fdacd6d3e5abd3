/*
 * blocking: a page's main thread may not block, and is told what to call instead.
 *
 * The worker takes everything: locks, items, memory, and leaves a queue empty and
 * one full.  Each blocking call of the page must then fail with EOPNOTSUPP, and
 * name a call that does not block; these wait in the event loop until the worker
 * gives everything back.
 */
import { assertNoLeaks, boot, KmemError, type Machine } from 'kmem';
import { things, until } from './things.ts';
import { ask, startWorker } from './worker_of.ts';

/** The code and text of what a call throws. */
function refusal(call: () => unknown): string {
  try {
    call();
    return 'no error';
  } catch (e) {
    return e instanceof KmemError ? `${e.code} ${e.message}` : `${e}`;
  }
}
function blocking(machine: Machine): Record<string, string> {
  const t = things(machine);
  return {
    'mutex.lock': refusal(() => t.mutex.lock()),
    'mutex.run': refusal(() => t.mutex.run(() => {})),
    'rwlock.lockRead': refusal(() => t.rwlock.lockRead()),
    'rwlock.write': refusal(() => t.rwlock.write(() => {})),
    'condition.wait': refusal(() => t.mine.run(() => t.condition.wait(t.mine))),
    'queue.pop': refusal(() => t.empty.pop()),
    'queue.push': refusal(() => t.full.push(2)),
    'zone.alloc': refusal(() => t.zone.alloc({ wait: true })),
    'records.alloc': refusal(() => t.records.alloc({ wait: 50 })),
    'type.alloc': refusal(() => t.type.alloc(t.large, { wait: true })),
  };
}
/** The same in the event loop: each gets what the worker gives back. */
async function waiting(machine: Machine): Promise<string[]> {
  const t = things(machine);
  const got: string[] = [];
  const note = async (name: string, wait: Promise<unknown>): Promise<void> => {
    await wait;
    got.push(name);
  };
  await t.mine.lockAsync();
  const waits = [
    note(
      'condition.waitAsync',
      t.condition
        .waitAsync(t.mine, () => machine.roots.get('given') === 1)
        .then(() => {
          t.mine.unlock();
        }),
    ),
    note(
      'mutex.runAsync',
      t.mutex.runAsync(() => {}),
    ),
    note('queue.popAsync', t.empty.popAsync()),
    note('queue.pushAsync', t.full.pushAsync(2)),
    note(
      'zone.allocAsync',
      t.zone.allocAsync().then((item) => t.zone.free(item)),
    ),
    note(
      'records.allocAsync',
      t.records.allocAsync().then((item) => t.records.free(item)),
    ),
    note(
      'type.allocAsync',
      t.type.allocAsync(t.large).then((at) => t.type.free(at)),
    ),
  ];
  machine.roots.set('go', 1);
  await Promise.all(waits);
  return got.sort();
}

export async function blockingCalls() {
  const machine = boot({ memory: '8M', cpus: 4, options: { INVARIANTS: true } });
  const worker = startWorker(machine);
  const done = ask<string>(worker, machine, 'takeAll');
  await until(() => machine.roots.get('taken') === 1);
  const refused = blocking(machine);
  const waited = await waiting(machine);
  const answer = await done;
  machine.check();
  assertNoLeaks(machine);
  await machine[Symbol.asyncDispose]();
  const summary = `${Object.keys(refused).length} blocking calls refused`;
  return { summary, refused, waited, answer };
}
