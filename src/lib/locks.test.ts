/*
 * Locks of the façade between threads: what becomes of them when their owner
 * dies, ends or leaves, how they are recovered, how many may be read at once, what
 * they are called, and that no code of the program runs under one by accident.
 * Workers are real (locks.test.worker.ts); each test ends with the kernel's
 * walkers and the leak check (testMachine).
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { atomic_load } from '../sys/machine/atomic.ts';
import { pcpu, pcpu_of } from '../sys/machine/cpu.ts';
import { cpu_alive, reap_all } from '../sys/machine/death.ts';
import { host_sees_threads } from '../sys/machine/host.ts';
import { ALL_WAYS, SEED } from '../sys/machine/seed.test.lib.ts';
import { until } from '../sys/machine/workers.test.lib.ts';
import { reg_entry } from '../sys/h/registry.ts';
import { registry_locks_held } from '../sys/client/kern_registry.ts';
import { mtx_end } from '../sys/sync/kern_mutex.ts';
import { sleepq_list } from '../sys/sync/subr_sleepqueue.ts';
import { witness_console } from '../sys/sync/witness.ts';
import { fails, failsAsync } from './fails.test.lib.ts';
import { type LockOptions, type Machine, testMachine } from './index.ts';
import { ended, idOf, killMills, result, said, start } from './locks.test.lib.ts';
import { AREA_WORDS, type End, type Kind, take } from './locks.test.worker.ts';
import { withEntry } from './registry.ts';

const skip = host_sees_threads() ? false : 'needs /proc to see that a thread is gone';
type LockKind = 'mutex' | 'rwlock';
const kindOf = (kind: Kind): LockKind => (kind === 'mutex' ? 'mutex' : 'rwlock');

/** The lock 'l' after a thread has taken it and has come to that end. */
async function afterEnd(machine: Machine, kind: Kind, end: End): Promise<number> {
  const holder = await start(machine, 'hold', { kind, end });
  const id = idOf(holder);
  if (end === 'hang') {
    await said(holder, 'it holds the lock');
    await holder.terminate();
  }
  await ended(holder);
  return id;
}
function lockWord(kind: LockKind, name: string): number {
  return withEntry(kind, name, (e) => e + reg_entry.lock);
}
const waitsFor = (l: number) => (): boolean => (atomic_load(l) & 3) !== 0;

describe('a lock outlives its owner', { skip }, () => {
  for (const kind of ['mutex', 'write'] as const) {
    for (const end of ['hang', 'exit', 'script', 'throw'] as const) {
      const how = { hang: 'is killed', exit: 'exits', script: 'ends', throw: 'throws' }[end];
      test(`the thread that has it (${kind}) ${how}: EOWNERDEAD until recovered`, async (t) => {
        const machine = testMachine(t);
        const id = await afterEnd(machine, kind, end);
        const m = machine.mutex('l');
        const rw = machine.rwlock('l');
        const lock = kind === 'mutex' ? m : rw;
        const calls: (() => unknown)[] =
          kind === 'mutex'
            ? [
                () => m.lock(),
                () => m.tryLock(),
                () => m.lock({ timeout: 5 }),
                () => m.run(() => 0),
              ]
            : [
                () => rw.lockRead(),
                () => rw.lockWrite(),
                () => rw.tryLockRead(),
                () => rw.tryLockWrite(),
                () => rw.lockRead({ timeout: 5 }),
                () => rw.lockWrite({ timeout: 5 }),
              ];
        for (const call of [...calls, ...calls]) {
          const { message } = fails('EOWNERDEAD', call);
          assert.match(message, new RegExp(`${kindOf(kind)} 'l': thread ${id}, CPU \\d+, died`));
        }
        if (kind === 'mutex') await failsAsync('EOWNERDEAD', m.lockAsync());
        assert.deepEqual(registry_locks_held(), []);
        // A recovery that throws, or is asynchronous, leaves it as it was.
        assert.throws(() => lock.recover(() => assert.fail('not yet')), /not yet/);
        assert.throws(calls[0], /CPU 0 could not recover it/); // it lives
        fails('EOWNERDEAD', calls[0]);
        fails('EINVAL', () => lock.recover(async () => Promise.reject(new Error('later'))));
        fails('EINVAL', () => lock.recover(7 as never));
        fails('EOWNERDEAD', calls[0]);
        let ran = 0;
        const recovered = lock.recover(() => {
          ran++;
          assert.deepEqual(registry_locks_held(), [`${kindOf(kind)} 'l'`], 'under the lock');
          fails('EDEADLK', () => lock.recover(() => {}));
          fails('EPERM', () => (kind === 'mutex' ? m.unlock() : rw.unlockWrite()));
        });
        assert.deepEqual([recovered, ran], [true, 1]);
        assert.equal(
          lock.recover(() => assert.fail('it is good already')),
          false,
        );
        const next = await start(machine, 'want', { kind });
        assert.equal(await result(next, 'the next'), 'ok');
        await ended(next);
      });
    }
  }
  for (const end of ['hang', 'exit', 'script', 'throw'] as const) {
    test(`a shared hold is given back: ${end}`, async (t) => {
      const machine = testMachine(t);
      await afterEnd(machine, 'read', end);
      machine.rwlock('l').lockWrite({ timeout: 240_000 })[Symbol.dispose]();
    });
  }
  for (const kind of ['mutex', 'read', 'write'] as const) {
    test(`detach() with a lock held is refused by name (${kind})`, async (t) => {
      const machine = testMachine(t);
      const thread = await start(machine, 'detach', { kind });
      const [why, then] = await result<string[]>(thread, 'what detach said');
      assert.match(why, new RegExp(`^EBUSY: detach: this thread holds ${kindOf(kind)} 'l'`));
      assert.equal(then, 'ok');
      await ended(thread);
    });
  }
  for (const kind of ['mutex', 'write'] as const) {
    test(`those who sleep for it are woken and told (${kind})`, async (t) => {
      const machine = testMachine(t);
      const holder = await start(machine, 'hold', { kind, end: 'hang' });
      await said(holder, 'it holds the lock');
      const kinds: Kind[] = kind === 'mutex' ? ['mutex', 'mutex'] : ['read', 'write'];
      const told = [];
      for (const one of kinds) {
        const sleeper = await start(machine, 'want', { kind: one });
        told.push(result(sleeper, 'a sleeper'));
      }
      const async = kind === 'mutex' ? machine.mutex('l').lockAsync() : null;
      const heard = async ? failsAsync('EOWNERDEAD', async) : null;
      if (kind === 'mutex') machine.mutex('l');
      else machine.rwlock('l');
      await until(waitsFor(lockWord(kindOf(kind), 'l')), 'they wait');
      await holder.terminate();
      assert.deepEqual(await Promise.all(told), ['EOWNERDEAD', 'EOWNERDEAD']);
      await heard;
    });
    test(`killed inside recover: abandoned still (${kind})`, async (t) => {
      const machine = testMachine(t);
      const first = await afterEnd(machine, kind, 'hang');
      const second = await start(machine, 'recover', { kind });
      const threadId = idOf(second);
      await said(second, 'it recovers');
      assert.ok(threadId > first);
      await second.terminate();
      const lock = kind === 'mutex' ? machine.mutex('l') : machine.rwlock('l');
      const { message } = fails('EOWNERDEAD', () => take(machine, kind));
      assert.match(message, new RegExp(`thread ${threadId}, `));
      assert.equal(
        lock.recover(() => {}),
        true,
      );
    });
    test(`an abandoned lock is disposed of, and its name is good again (${kind})`, async (t) => {
      const machine = testMachine(t);
      await afterEnd(machine, kind, 'hang');
      fails('EOWNERDEAD', () => take(machine, kind));
      if (kind === 'mutex') machine.mutex('l').dispose();
      else machine.rwlock('l').dispose();
      take(machine, kind);
      if (kind === 'mutex') machine.mutex('l').unlock();
      else machine.rwlock('l').unlockWrite();
    });
  }
  for (const kind of ['mutex', 'write'] as const) {
    test(`a dispose in vain does not change whom an abandoned lock lost (${kind})`, async (t) => {
      const machine = testMachine(t);
      const lost = await afterEnd(machine, kind, 'hang');
      const other = await start(machine, 'hold', {
        kind: kind === 'mutex' ? 'read' : 'mutex',
        end: 'hang',
      });
      await said(other, 'it is up');
      const name = new RegExp(`thread ${lost}, `);
      assert.match(fails('EOWNERDEAD', () => take(machine, kind)).message, name);
      const l = lockWord(kindOf(kind), 'l');
      const before = atomic_load(l);
      if (kind === 'write') {
        // Another CPU is about to write it, and has not looked yet.
        const cpu = [1, 2, 3].find(cpu_alive) ?? 0;
        const pc = pcpu_of(cpu);
        pcpu.rw_taking[pc] = l;
        assert.match(
          fails('EBUSY', () => machine.rwlock('l').dispose()).message,
          new RegExp(`CPU ${cpu} has it`),
        );
        pcpu.rw_taking[pc] = 0;
      } else assert.ok(mtx_end(l));
      assert.equal(atomic_load(l), before);
      assert.match(fails('EOWNERDEAD', () => take(machine, kind)).message, name);
      await other.terminate();
    });
  }
  test('what the function of run() throws is told, whatever became of the lock', (t) => {
    const lock = testMachine(t).mutex('left');
    const gone = (): void => {
      lock.unlock();
      throw new RangeError('its own');
    };
    assert.throws(() => lock.run(gone), /its own/);
  });
  test('a wait for a condition ends with EOWNERDEAD, and the signal is passed on', async (t) => {
    const machine = testMachine(t);
    const two = [await start(machine, 'cv'), await start(machine, 'cv')];
    for (const waiter of two) await said(waiter, 'it has the mutex');
    await until(() => sleepq_list().filter((s) => s.wmesg === 'cv').length === 2, 'both sleep');
    const holder = await start(machine, 'hold', { kind: 'mutex', end: 'hang' });
    await said(holder, 'it holds the mutex');
    machine.condition('cv').signal();
    await holder.terminate();
    for (const waiter of two) assert.equal(await result(waiter, 'a waiter'), 'EOWNERDEAD');
    fails('EOWNERDEAD', () => machine.mutex('l').tryLock());
    machine.mutex('l').recover(() => {});
  });
  test('threads killed while they read, write, upgrade, and ask the kernel', async (t) => {
    const machine = testMachine(t, { cpus: 10 });
    const end = performance.now() + 60_000;
    t.diagnostic(await killMills(machine, { kills: ALL_WAYS ? 15 : 8, crew: 3, seed: SEED, end }));
  });
});

describe('many locks', () => {
  test('24 may be read at once; the 25th is refused by name', (t) => {
    const machine = testMachine(t, { memory: '32M' });
    const all = Array.from({ length: 25 }, (_, i) => machine.rwlock(`lock ${i}`));
    for (const lock of all.slice(0, 24)) lock.lockRead();
    for (const call of [() => all[24].lockRead(), () => all[24].tryLockRead()]) {
      const { message } = fails('ENOLCK', call);
      for (let i = 0; i < 24; i++) assert.ok(message.includes(`rwlock 'lock ${i}'`), message);
    }
    all[7].lockRead(); // again: a count
    all[7].unlockRead();
    assert.ok(machine.sysctl('hw.ncpu'), 'the kernel reads its own locks with words of its own');
    all[24].lockWrite();
    fails('ENOLCK', () => all[24].downgrade());
    all[24].unlockWrite();
    assert.deepEqual(registry_locks_held().length, 24);
    all[3].unlockRead();
    all[24].lockRead();
    all[3].tryLockWrite();
    all[3].unlockWrite();
    for (const lock of all) if (lock !== all[3]) lock.unlockRead();
    assert.deepEqual(registry_locks_held(), []);
    for (const lock of all) lock.lockWrite()[Symbol.dispose]();
  });
  test('hundreds of tasks of three threads take turns, whatever becomes of some', async (t) => {
    const machine = testMachine(t);
    const type = machine.type('storm');
    const at = type.alloc(AREA_WORDS * 4, { zero: true });
    machine.roots.set('area', at);
    const rounds = 300;
    const three = [1, 2, 3].map((n) => start(machine, 'storm', { seed: SEED + n, rounds }));
    const done = await Promise.all(
      (await Promise.all(three)).map((w) => result<number>(w, `the storm, seed ${SEED}`)),
    );
    const sum = done.reduce((a, b) => a + b, 0);
    assert.ok(sum > rounds, `${sum} tasks had their turn`);
    assert.deepEqual([machine.load32(at), machine.load32(at + 4)], [sum, sum], `seed ${SEED}`);
    assert.equal(machine.mutex('l').tryLock(), true, 'nobody has it');
    machine.mutex('l').unlock();
    machine.roots.set('area', 0);
    type.free(at);
  });
  test('dispose: not of a lock that somebody has', async (t) => {
    const machine = testMachine(t);
    const m = machine.mutex('l');
    m.run(() => fails('EBUSY', () => m.dispose()));
    const rw = machine.rwlock('l');
    rw.read(() => fails('EBUSY', () => rw.dispose()));
    rw.write(() => fails('EBUSY', () => rw.dispose()));
    const reader = await start(machine, 'hold', { kind: 'read', end: 'hang' });
    await said(reader, 'it reads');
    rw.dispose(); // the other thread has it still
    await reader.terminate();
    await until(() => reap_all() >= 0 && machine.rwlock('l').tryLockWrite(), 'it is given back');
    machine.rwlock('l').unlockWrite();
  });
});

describe('code of the program', () => {
  test('a timeout is a number of milliseconds', async (t) => {
    const machine = testMachine(t);
    const m = machine.mutex('m');
    const rw = machine.rwlock('rw');
    const cv = machine.condition('cv');
    for (const timeout of [Number.NaN, -1, 'soon', null] as never[]) {
      fails('EINVAL', () => m.lock({ timeout }));
      fails('EINVAL', () => m.run(() => 0, { timeout }));
      fails('EINVAL', () => rw.lockRead({ timeout }));
      fails('EINVAL', () => rw.lockWrite({ timeout }));
      await failsAsync('EINVAL', m.lockAsync({ timeout }));
      m.lock();
      fails('EINVAL', () => cv.wait(m, { timeout }));
      fails('EINVAL', () => cv.waitUntil(m, () => true, { timeout }));
      assert.ok(m.owned);
      await failsAsync(
        'EINVAL',
        cv.waitAsync(m, () => true, { timeout }),
      );
      assert.ok(!m.owned, 'waitAsync rejects without the mutex');
    }
    m.lock({ timeout: undefined })[Symbol.dispose]();
  });
  test('getters of options run before anything is taken', async (t) => {
    const machine = testMachine(t);
    const m = machine.mutex('m');
    const rw = machine.rwlock('rw');
    const cv = machine.condition('cv');
    const nosy = (): LockOptions => ({
      get timeout(): number {
        assert.deepEqual(registry_locks_held(), []);
        throw new RangeError('a getter');
      },
    });
    assert.throws(() => m.lock(nosy()), RangeError);
    assert.throws(() => rw.lockRead(nosy()), RangeError);
    assert.throws(() => rw.lockWrite(nosy()), RangeError);
    await assert.rejects(m.lockAsync(nosy()), RangeError);
    assert.deepEqual(registry_locks_held(), []);
    m.lock();
    const bad = {
      get timeout(): number {
        throw new RangeError('a getter');
      },
    };
    assert.throws(() => cv.wait(m, bad), RangeError);
    assert.ok(m.owned, 'wait keeps the mutex');
    await assert.rejects(
      cv.waitAsync(m, () => true, bad),
      RangeError,
    );
    assert.ok(!m.owned, 'waitAsync rejects without it');
  });
  test('a predicate that throws: waitUntil keeps the mutex, waitAsync does not', async (t) => {
    const machine = testMachine(t);
    const m = machine.mutex('l');
    const cv = machine.condition('cv');
    const boom = (after: number) => (): boolean => {
      if (after-- > 0) return false;
      throw new RangeError('boom');
    };
    for (const after of [0, 1]) {
      m.lock();
      assert.throws(() => cv.waitUntil(m, boom(after), { timeout: 2000 }), RangeError);
      assert.ok(m.owned);
      await assert.rejects(cv.waitAsync(m, boom(after)), RangeError);
      assert.ok(!m.owned);
      const other = await start(machine, 'want', { kind: 'mutex' });
      assert.equal(await result(other, 'another thread'), 'ok');
    }
    await assert.rejects(
      m.runAsync(() => Promise.reject(new RangeError('boom'))),
      RangeError,
    );
    assert.ok(!m.owned);
  });
});

describe('an asynchronous function', () => {
  test('is refused, with the lock given back, by calls that hold it while fn runs', async (t) => {
    const machine = testMachine(t);
    const m = machine.mutex('l');
    const rw = machine.rwlock('l');
    const named = (then: unknown): object => Object.fromEntries([['then', then]]);
    const later = {
      async: async () => 1,
      rejected: () => Promise.reject(new Error('of nobody')),
      thenable: () => named((done: (n: number) => void) => done(1)),
    };
    for (const [what, fn] of Object.entries(later)) {
      assert.match(fails('EINVAL', () => m.run(fn)).message, /run: .*'l'.*runAsync/, what);
      assert.match(fails('EINVAL', () => rw.read(fn)).message, /read: .*'l'.*asynchronous/, what);
      assert.match(fails('EINVAL', () => rw.write(fn)).message, /write: .*'l'.*asynchronous/, what);
      assert.deepEqual(registry_locks_held(), [], what);
      // Another thread can have them.
      for (const kind of ['mutex', 'write']) {
        const other = await start(machine, 'want', { kind });
        assert.equal(await result(other, 'another thread'), 'ok');
      }
    }
    // A value of that name alone makes no promise.
    assert.deepEqual(
      m.run(() => named(5)),
      named(5),
    );
    assert.equal(await m.runAsync(later.async), 1);
  });
  test('is no predicate: a promise is always true', async (t) => {
    const machine = testMachine(t);
    const m = machine.mutex('l');
    const cv = machine.condition('cv');
    const never = (async () => false) as never;
    m.lock();
    fails('EINVAL', () => cv.waitUntil(m, never, { timeout: 50 }));
    assert.ok(m.owned, 'waitUntil keeps the mutex');
    await failsAsync('EINVAL', cv.waitAsync(m, never));
    assert.ok(!m.owned, 'waitAsync rejects without it');
  });
});

describe('names', () => {
  test('WITNESS says what the program calls its locks', (t) => {
    const machine = testMachine(t, { options: { WITNESS: true } });
    const reports: string[] = [];
    const old = witness_console((text) => reports.push(text));
    t.after(() => witness_console(old));
    const a = machine.mutex('apple');
    const b = machine.mutex('pear');
    const rw = machine.rwlock('shelf');
    a.run(() => b.run(() => 0));
    b.run(() => a.run(() => 0));
    assert.match(reports[0], /1st 0x\w+ mutex 'pear' \(user mtx\)/);
    assert.match(reports[0], /2nd 0x\w+ mutex 'apple' \(user mtx\)/);
    assert.match(reports[0], /1st .* @ locks\.test\.[jt]s:\d+\n 2nd .* @ locks\.test\.[jt]s:\d+$/m);
    assert.match(reports[0], /lock order "mutex 'apple'"\(mtx\) -> "mutex 'pear'"\(mtx\)/);
    b.run(() => rw.read(() => 0));
    assert.match(reports[1], /mutex 'pear'.*\n.*rwlock 'shelf'/);
    const graph = String(machine.sysctl('debug.witness.fullgraph'));
    assert.match(graph, /"mutex 'apple'","mutex 'pear'"/);
    assert.match(String(machine.sysctl('debug.witness.badstacks')), /mutex 'pear'/);
  });
  test('so does the lock profile', (t) => {
    const machine = testMachine(t, { options: { MUTEX_PROFILING: true } });
    machine.sysctl('debug.mutex.prof.enable', 1);
    const m = machine.mutex('index');
    for (let i = 0; i < 7; i++) m.run(() => 0);
    machine.rwlock('shelf').write(() => machine.rwlock('rack').read(() => 0));
    machine.sysctl('debug.mutex.prof.enable', 0);
    const stats = String(machine.sysctl('debug.mutex.prof.stats'));
    assert.match(stats, / 7 +\d+ +0 +0 mutex 'index' \(user mtx\)\n/);
    assert.match(stats, / 1 +\d+ +0 +0 rwlock 'shelf' \(user sx\)\n/);
    assert.match(stats, / 1 +\d+ +0 +0 rwlock 'rack' \(user sx\)\n/);
    assert.doesNotMatch(stats, /locks\.ts/);
  });
  test('registry_locks_held names what this thread has, and nothing of others', async (t) => {
    const machine = testMachine(t);
    const other = await start(machine, 'hold', { kind: 'mutex', end: 'hang' });
    await said(other, 'it holds');
    assert.equal(machine.mutex('l').tryLock(), false);
    machine.rwlock('a').lockRead();
    machine.rwlock('b').lockWrite();
    machine.mutex('c').lock();
    assert.deepEqual(registry_locks_held().sort(), ["mutex 'c'", "rwlock 'a'", "rwlock 'b'"]);
    machine.mutex('c').unlock();
    machine.rwlock('b').unlockWrite();
    machine.rwlock('a').unlockRead();
    assert.deepEqual(registry_locks_held(), []);
  });
});
