/*
 * Whose an item of records is: of two threads that free it in the same instant exactly
 * one succeeds, with numbers and with checked handles; and a number that has had all of
 * its generations is given out no more, so that no old handle is ever valid again.
 *
 * The race is run on two real threads that start each round together.  Afterwards no
 * number is given out twice, and the walkers find nothing.
 */
import { kconsole } from '../sys/machine/kconsole.ts';
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { fails } from './fails.test.lib.ts';
import {
  type Item,
  type ItemHandle,
  KmemError,
  leaks,
  type Records,
  testMachine,
} from './index.ts';
import { newRace, reach, turn } from './records.test.lib.ts';

const ROUNDS = 6000;
const CAPACITY = 500;
const GENERATIONS = 2 ** 21 - 1;

describe('two threads free the same item', () => {
  for (const generations of [false, true]) {
    for (const INVARIANTS of [false, true]) {
      const how = `generations ${generations}, INVARIANTS ${INVARIANTS}`;
      test(`exactly one of them succeeds: ${how}`, async (t) => {
        const machine = testMachine(t, { cpus: 3, options: { INVARIANTS } });
        const options = { capacity: CAPACITY, generations };
        const R = machine.records('race', { x: 'i32' }, options) as Records<
          'race',
          { x: 'i32' },
          Item | ItemHandle
        >;
        const race = newRace();
        const workerData = { kmem: machine.handle, options, race };
        const file = new URL('./records.test.worker.ts', import.meta.url);
        const worker = machine.adopt(new Worker(file, { workerData }));
        await once(worker, 'message');
        const wins = [0, 0, 0];
        for (let round = 1; round <= ROUNDS; round++) {
          const item = R.alloc();
          race.item[0] = item as number;
          reach(race.round, round);
          turn(race.ready, round);
          let won = 1;
          try {
            R.free(item);
          } catch (e) {
            assert.ok(e instanceof KmemError && e.code === (generations ? 'ESTALE' : 'EINVAL'));
            won = 0;
          }
          turn(race.done, round);
          wins[won + race.won[0]]++;
        }
        reach(race.round, -1);
        await once(worker, 'exit');
        assert.deepEqual(wins, [0, ROUNDS, 0], 'by none, by one, by both');
        assert.equal(R.count, 0);
        const all: (Item | ItemHandle)[] = [];
        for (let item = R.tryAlloc(); item !== undefined; item = R.tryAlloc()) all.push(item);
        assert.equal(all.length, CAPACITY);
        assert.equal(new Set(all.map((item) => R.index(item))).size, CAPACITY, 'a number twice');
        for (const item of all) R.free(item);
        machine.check();
      });
    }
  }
});

describe('a number that has had all of its generations', () => {
  test('is retired: no handle is ever valid again, and the records end as they should', (t) => {
    const said: string[] = [];
    const { print } = kconsole;
    kconsole.print = (text) => said.push(text);
    t.after(() => {
      kconsole.print = print;
    });
    const machine = testMachine(t, { cpus: 2 });
    const options = { capacity: 2, generations: true } as const;
    const R = machine.records('worn', { x: 'i32' }, options);
    const kept = R.alloc();
    R.x[R.index(kept)] = 5;
    const handles = new Map<number, ItemHandle<'worn'>>();
    for (let n = 1; n <= GENERATIONS; n++) {
      const item = R.alloc();
      if (n % 100_003 === 1 || n === GENERATIONS) handles.set(n, item);
      R.free(item);
    }
    assert.match(fails('ENOMEM', () => R.alloc()).message, /all 1 items of 'worn' are in use/);
    assert.equal(R.tryAlloc(), undefined);
    for (const [n, item] of handles) {
      assert.equal(R.has(item), false, `generation ${n}`);
      fails('ESTALE', () => R.index(item));
      fails('ESTALE', () => R.free(item));
    }
    assert.equal(new Set(handles.values()).size, handles.size);
    assert.deepEqual([R.count, [...R], R.x[R.index(kept)]], [1, [kept], 5]);
    assert.deepEqual(
      leaks(machine).map(({ name, count }) => [name, count]),
      [['worn', 1]],
    );
    machine.check();
    R.free(kept);
    const again = R.alloc();
    assert.equal(R.has(kept), false);
    R.free(again);
    assert.equal(R.dispose(), 0);
    machine.check();
    const next = machine.records('worn', { x: 'i32' }, options);
    const all = [next.alloc(), next.alloc()];
    assert.equal(next.tryAlloc(), undefined);
    for (const item of all) next.free(item);
    assert.equal(next.dispose(), 0);
    assert.deepEqual(said, [], 'a zone ended with items in use');
  });
});
