/*
 * Shows the life of a CPU slot on real threads: joining and leaving by the thousand,
 * with and without kills, never makes two threads one CPU and leaves no slot taken; a
 * thread that has taken a slot and written nothing yet is neither settled while it
 * lives nor lost when it dies; handles of one generation never open another; two
 * threads may boot one memory at once; where no descriptor is left nobody who lives is
 * taken for dead; where the dead hold every slot an attacher gets in all the same, however
 * many died on the spare slots before it.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { afterEach, describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { attach, boot, type Machine } from '../../src/lib/index.ts';
import { cpus_attached, reap_all } from '../../src/sys/machine/death.ts';
import { host_sees_threads } from '../../src/sys/machine/host.ts';
import { life } from '../../src/sys/machine/life.ts';
import { PK_HAND } from '../../src/sys/h/vm_page.ts';
import { vm_page_census } from '../../src/sys/page/vm_page.ts';
import { dice, SEED, ways } from '../../src/sys/machine/seed.test.lib.ts';
import { sleep, until, within } from '../../src/sys/machine/workers.test.lib.ts';

const skip = !host_sees_threads();
const crew: Worker[] = [];
interface Hand {
  readonly worker: Worker;
  /** The next thing it says. */
  said(): Promise<unknown>;
  gone: Promise<number>;
}
function start(job: string, machine: Machine, more: object = {}, adopt = true): Hand {
  const workerData = { job, handle: machine.handle, rounds: 0, ...more };
  const worker = new Worker(new URL('./slots.worker.ts', import.meta.url), { workerData });
  if (adopt) machine.adopt(worker);
  crew.push(worker);
  const heard: unknown[] = [];
  let wake = (): void => {};
  let error: Error | null = null;
  worker.on('message', (m) => {
    heard.push(m);
    wake();
  });
  worker.on('error', (e: Error) => {
    error = e;
    wake();
  });
  const gone = new Promise<number>((resolve) => void worker.once('exit', resolve));
  const said = async (): Promise<unknown> => {
    while (heard.length === 0 && error === null) {
      await within(
        new Promise<void>((resolve) => {
          wake = resolve;
        }),
        `${job} says something`,
      );
    }
    if (error) throw error;
    return heard.shift();
  };
  return { worker, said, gone };
}
afterEach(async () => {
  await Promise.all(crew.splice(0).map((w) => w.terminate()));
});
const book = (): Int32Array => new Int32Array(new SharedArrayBuffer(4 * 80));

describe('joining and leaving', { skip }, () => {
  for (const [cpus, rounds] of ways([
    [6, 200],
    [3, 200],
  ] as const)) {
    test(`three threads, ${cpus} slots, ${rounds} times each`, async () => {
      const m = boot({ memory: '8M', cpus });
      const owner = book();
      const hands = [1, 2, 3].map(() => start('churn', m, { owner, rounds }));
      const ends = (await Promise.all(hands.map((h) => h.said()))) as { twice: number }[];
      assert.deepEqual(
        ends.map((e) => e.twice),
        [0, 0, 0],
      );
      await Promise.all(hands.map((h) => h.gone));
      assert.equal(cpus_attached(), 1);
      assert.equal(Number(m.sysctl('vm.reap.cpus')), 0, 'nobody was settled');
      m.check();
      assert.equal(m.type('churn').stats.inUse, 0);
      m.shutdown();
    });
  }

  test('killed at any moment of it', async () => {
    const m = boot({ memory: '8M', cpus: 4 });
    const owner = book();
    let kills = 0;
    const draw = dice(SEED);
    const lane = async (): Promise<void> => {
      for (let i = 0; i < 6; i++) {
        const hand = start('churn', m, { owner, rounds: 1e9 });
        await new Promise((resolve) => hand.worker.once('online', resolve));
        await sleep(20 + draw(120));
        await hand.worker.terminate();
        kills++;
      }
    };
    await Promise.all([lane(), lane()]);
    await until(() => {
      reap_all();
      return cpus_attached() === 1;
    }, 'every slot comes free');
    m.check();
    assert.equal(kills, 12);
    const next = start('stay', m);
    assert.ok(Number(await next.said()) > 0);
    await next.worker.terminate();
    m.shutdown();
  });

  test('a thread that has a slot and has written nothing yet', async () => {
    const m = boot({ memory: '8M', cpus: 2 });
    const before = start('stay', m);
    assert.equal(await before.said(), 1);
    await before.worker.terminate();
    await until(() => cpus_attached() === 1, 'its slot comes free');
    const slow = start('take', m, { rounds: 300 });
    assert.equal(await slow.said(), 1);
    const reaps = m.sysctl('vm.reap.cpus');
    await before.gone; // heard late: it is not about the one who has the slot now
    assert.equal(reap_all(), 0, 'it lives');
    assert.equal(await slow.said(), 'still');
    assert.equal(m.sysctl('vm.reap.cpus'), reaps);
    await slow.worker.terminate();
    await until(() => {
      reap_all();
      return cpus_attached() === 1;
    }, 'the slot of one that died so early comes free');
    m.check();
    m.shutdown();
  });

  test('the dead hold every slot, and nobody is there to settle them', async () => {
    const m = boot({ memory: '8M', cpus: 2 });
    const { handle } = m;
    const first = start('stay', m, {}, false);
    await first.said();
    m.detach();
    const second = start('stay', { handle } as Machine, {}, false);
    assert.equal(await second.said(), 0);
    await Promise.all([first.worker.terminate(), second.worker.terminate()]);
    // Threads that find nothing but the dead, and die themselves while they look.
    for (let i = 0; i < 3; i++) {
      const looking = start('die looking', { handle } as Machine, {}, false);
      await looking.said();
      await looking.worker.terminate();
    }
    const again = attach(handle);
    again.check();
    reap_all();
    assert.equal(cpus_attached(), 1);
    again.shutdown();
  });

  for (const checked of ways([false, true])) {
    const on = checked ? 'a checked machine' : 'any machine';
    test(`attachers die one after the other in every line of the settling, on ${on}`, async () => {
      const m = boot({ memory: '8M', cpus: 2, checked });
      const { handle } = m;
      const lines = life.death_lockless.length + life.death.length;
      const first = start('stay', m, {}, false);
      await first.said();
      m.detach();
      const second = start('stay', { handle } as Machine, {}, false);
      await second.said();
      await Promise.all([first.worker.terminate(), second.worker.terminate()]);
      const spares = new Set<unknown>();
      for (let rounds = 0; rounds < lines; rounds++) {
        const dies = start('die settling', { handle } as Machine, { rounds }, false);
        spares.add(await dies.said());
        await dies.worker.terminate();
      }
      assert.deepEqual([...spares].sort(), [2, 3], 'all of them were on the spare slots');
      const again = attach(handle);
      reap_all();
      assert.equal(cpus_attached(), 1);
      assert.equal(vm_page_census()[PK_HAND], 0, 'no page is in the hand of a dead thread');
      again.check();
      again.shutdown();
    });
  }

  test('a thread that lives settles deaths on both spare slots, on a checked machine', async () => {
    const m = boot({ memory: '8M', cpus: 2, checked: true });
    const taken = [];
    for (let i = 0; i < 2; i++) {
      const spare = start('take spare', m, {}, false);
      taken.push(await spare.said());
      await spare.worker.terminate();
    }
    assert.equal(new Set(taken).size, 2, `${taken}`);
    assert.equal(reap_all(), 2);
    m.check();
    m.shutdown();
  });
});

describe('generations', { skip }, () => {
  test('a handle opens its own generation only, whatever is booted meanwhile', async () => {
    let m = boot({ memory: '8M', cpus: 4 });
    const now = book();
    const note = (): void => {
      Atomics.store(now, 0, m.handle.id);
      Atomics.store(now, 1, m.handle.generation);
    };
    note();
    const chaser = start('chase', m, { owner: now }, false);
    const { memory } = m.handle;
    let same = 0;
    await until(() => now[3] > 0, 'it chases');
    for (let boots = 0; boots < 60; boots++) {
      const t = m.type('t');
      for (const p of Array.from({ length: 50 }, () => t.alloc(64))) t.free(p);
      m.shutdown();
      m = boot({ memory: '8M', cpus: 4 });
      if (m.handle.memory !== memory) break; // it was attached just then
      same++;
      note();
      if (boots % 4 === 0) await sleep(2);
    }
    Atomics.store(now, 2, 1);
    assert.equal(await chaser.said(), 'over');
    assert.equal(now[4], 0, `${same} boots, ${now[3]} attaches`);
    m.check();
    m.shutdown();
  });

  test('two threads boot one memory: one gets it, both get a machine', async () => {
    const m = boot({ memory: '4M', cpus: 3 });
    const gate = book();
    const hands = [1, 2].map(() => start('reboot', m, { owner: gate, rounds: 20_000 }, false));
    await Promise.all(hands.map((h) => h.said()));
    m.shutdown();
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
    const ends = (await Promise.all(hands.map((h) => h.said()))) as { inUse: number }[];
    for (const e of ends) assert.equal(e.inUse, 0);
  });
});

test('without a descriptor nobody who lives is taken for dead', { skip }, () => {
  const script = new URL('./slots_emfile.ts', import.meta.url).pathname;
  const run = spawnSync('sh', ['-c', `ulimit -n 90; exec "$0" "$1"`, process.execPath, script], {
    encoding: 'utf8',
    timeout: 240_000,
  });
  assert.equal(run.stderr, '');
  assert.match(
    run.stdout,
    /^EMFILE; got the lock; reaped 0; released; joined: cpu \d; dead: free\n$/,
  );
});
