/*
 * Shows: a space that was saved comes back as it was, with names, places, rights, and every byte;
 * what was never used takes no room, and is not made; a file is there whole or not at all, whatever
 * fails and wherever, and what was at its path is there until then.
 * By what means: one thread, and a folder of its own.  Each operation of the store fails, is
 * short, or finds the disk full, at each of its occurrences; memory is refused at every place.
 * Files that are not as they were written: space_damage.test.ts.  Threads that write
 * meanwhile: space_save_threads.test.ts.
 */
import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, describe, test } from 'node:test';
import {
  MAP_ENTRY_BEHAV_RANDOM,
  MAP_ENTRY_BEHAV_SEQUENTIAL,
  vm_map_entry,
} from '../sys/h/vm_map.ts';
import { EIO, ENOSPC } from '../sys/machine/errno.ts';
import { host_who } from '../sys/machine/host.ts';
import { host_process } from '../sys/machine/host_process.ts';
import {
  type StoreFault,
  type StoreOp,
  store_fault_at,
  store_faults,
} from '../sys/machine/store_fault.ts';
import { map_entries, maps_all } from '../sys/map/vm_map_check.ts';
import { map_failpoint } from '../sys/map/vm_map_entry.ts';
import { page_failpoint } from '../sys/page/vm_page.ts';
import { failsAsync } from './fails.test.lib.ts';
import {
  boot,
  KmemError,
  type LoadProgress,
  type Machine,
  type SaveProgress,
  type Space,
  withMachine,
} from './index.ts';
import { fails, spaces_gone, vm_checks } from './space.test.lib.ts';
import { CONTENTS, checkFilled, filled, folder, folderEnd, fresh } from './space_file.test.lib.ts';

after(folderEnd);
afterEach(() => {
  store_faults.next = null;
  page_failpoint.refuse = null;
  map_failpoint.refuse = null;
});
const OPTIONS = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };
/** A machine with a filled space; afterwards nothing is left of it. */
async function withFilled(
  run: (space: Space, machine: Machine) => unknown,
  memory = '8M',
): Promise<void> {
  const machine = boot({ memory, cpus: 2, options: OPTIONS });
  machine.sysctl('vm.swap_default', 0);
  const space = machine.space('s');
  filled(space);
  await run(space, machine);
  vm_checks();
  spaces_gone(machine);
  machine.shutdown();
}
/** A new folder: whatever is left in it, is seen. */
function own(): { at: string; path: string; names: () => string[] } {
  const at = fresh();
  mkdirSync(at);
  return { at, path: join(at, 'file'), names: () => readdirSync(at) };
}

describe('saved and loaded', () => {
  test('comes back as it was, and takes room for what was used', async () => {
    await withFilled((space, machine) => {
      const path = fresh();
      const faults = Number(machine.sysctl('vm.stats.vm.v_vm_faults'));
      const saved = space.save(path);
      assert.equal(Number(machine.sysctl('vm.stats.vm.v_vm_faults')), faults, 'nothing was made');
      assert.equal(saved.name, 's');
      assert.equal(saved.contents, CONTENTS * 4096);
      assert.equal(saved.mapped, space.mapped - 4096, "without what forks don't get");
      assert.equal(saved.size, (1 + 1 + 1 + CONTENTS) * 4096);
      const { size, mode } = statSync(path);
      assert.deepEqual([size, mode & 0o777], [saved.size, 0o600]);
      const again = machine.space('again');
      assert.deepEqual(again.load(path), saved);
      assert.equal(again.mapped, saved.mapped);
      assert.equal(again.resident, 0, 'no translations yet');
      const like = space.regions().filter(({ name }) => name !== 'not forked');
      assert.deepEqual(again.regions(), like);
      checkFilled(again);
      const flags = maps_all().map((mp) => map_entries(mp).map((e) => vm_map_entry.eflags[e]));
      for (const flag of [MAP_ENTRY_BEHAV_RANDOM, MAP_ENTRY_BEHAV_SEQUENTIAL]) {
        assert.ok(
          flags.every((all) => all.some((f) => f & flag)),
          'advice',
        );
      }
      assert.equal(maps_all().length, 2);
    });
  });
  test('a fork, a loaded space, and one loaded in another machine, are the same file', async () => {
    const [one, two, three] = [fresh(), fresh(), fresh()];
    await withFilled((space, machine) => {
      const snap = space.fork('snap', { protect: 'r' });
      space.region('index').fill(0, 4096, 9);
      snap.save(one);
      snap.destroy();
      const again = machine.space('again');
      again.load(one);
      again.save(two);
      assert.equal(space.region('index').getU8(4095), 9);
    });
    const machine = boot({ memory: '4M' });
    const space = machine.space('third', { limit: '400G' });
    space.load(two);
    space.save(three);
    const body = (path: string): string =>
      readFileSync(path)
        .subarray(8192 + 128)
        .toString('hex');
    assert.equal(body(two).slice(0, 100), body(three).slice(0, 100));
    assert.equal(statSync(two).size, statSync(three).size);
    assert.equal(space.load8(space.region('index').address), 0);
    fails(() => space.region('read').setU8(0, 1), 'EFAULT', /may not be written/);
    space.region('read').protect('rw');
    space.region('read').setU8(0, 1);
    space.destroy();
    machine.shutdown();
  });
  test('an empty space, many regions, and many runs', async () => {
    const machine = boot({ memory: '16M', options: OPTIONS });
    const path = fresh();
    const space = machine.space('s');
    assert.deepEqual(
      [
        space.save(path).size,
        machine.space('again').load(path).regions,
        machine.space('again').mapped,
      ],
      [4096, 0, 0],
    );
    for (let i = 0; i < 130; i++) space.mmap({ name: `r${i}`, length: 8192 }).setU32(4096, i);
    const m = space.mmap({ name: 'm', length: '8M' });
    for (let i = 0; i < 1200; i += 2) m.setU32(i * 4096, i);
    assert.equal(space.save(path).contents, 730 * 4096);
    const again = machine.space('again');
    again.load(path);
    for (let i = 0; i < 130; i++) assert.equal(again.region(`r${i}`).getU32(4096), i);
    for (let i = 0; i < 1200; i += 2) assert.equal(again.region('m').getU32(i * 4096), i);
    vm_checks();
    spaces_gone(machine);
    machine.shutdown();
  });
  test('into nothing but an empty space, within its limit and the memory', async () => {
    const path = fresh();
    await withFilled((space, machine) => {
      space.save(path);
      fails(() => space.load(path), 'EEXIST', /space 's' has regions already/);
      const small = machine.space('small', { limit: '1M' });
      const e = fails(() => small.load(path), 'ENOMEM', /beyond its limit of 1048576/);
      assert.deepEqual([e.reason, e.space], ['limit', 'small']);
      small.mmap({ length: 4096 }).unmap();
      fails(() => small.load(join(folder, 'none')), 'ENOENT', /there is no such file/);
      fails(() => small.load(folder), 'EISDIR');
      fails(() => small.load('/dev/null'), 'EINVAL', /it is no file/);
      fails(() => small.load(5 as unknown as string), 'EINVAL');
      fails(() => machine.away(() => small.load(path)), 'EBUSY');
      assert.equal(small.mapped, 0);
      const m = space.mmap({ name: 'more', length: '3M' });
      for (let at = 0; at < m.length; at += 4096) m.setU8(at, 1);
      space.save(path);
    });
    const machine = boot({ memory: '2M', options: OPTIONS });
    machine.sysctl('vm.swap_default', 0);
    const space = machine.space('s');
    const maps = maps_all().length;
    for (let i = 0; i < 3; i++) fails(() => space.load(path), 'ENOMEM', /space 's'/);
    assert.deepEqual([space.mapped, maps_all().length], [0, maps]);
    spaces_gone(machine);
    fails(() => space.load(path), 'ESTALE');
    machine.shutdown();
    fails(() => space.load(path), 'ESHUTDOWN');
    fails(() => space.save(path), 'ESHUTDOWN');
  });
});

describe('paths and options that are none', () => {
  const rows: [what: string, path: unknown, code: string, options?: object][] = [
    ['no text', 5, 'EINVAL'],
    ['empty', '', 'EINVAL'],
    ['with a zero', 'a\0b', 'EINVAL'],
    ['a folder', folder, 'EISDIR'],
    ['a folder, said so', `${join(folder, 'x')}/`, 'EISDIR'],
    ['in no folder', join(folder, 'none', 'x'), 'ENOENT'],
    ['in a file', join(folder, 'old', 'x'), 'ENOTDIR'],
    ['a link', join(folder, 'link'), 'ELOOP'],
    ['a device', '/dev/null', 'EEXIST'],
    ['too long a name', join(folder, 'x'.repeat(300)), 'ENAMETOOLONG'],
    ['an unknown option', join(folder, 'x'), 'EINVAL', { wiat: 5 }],
    ['a wait that is none', join(folder, 'x'), 'EINVAL', { wait: -1 }],
    ['windows that are none', join(folder, 'x'), 'EINVAL', { windows: 'close' }],
    ['a signal that is none', join(folder, 'x'), 'EINVAL', { signal: {} }],
    ['progress that cannot be called', join(folder, 'x'), 'EINVAL', { onProgress: 1 }],
  ];
  for (const [what, path, code, options] of rows) {
    test(what, async () => {
      const old = join(folder, 'old');
      writeFileSync(old, 'old');
      if (!existsSync(join(folder, 'link'))) symlinkSync(old, join(folder, 'link'));
      const before = readdirSync(folder);
      await withFilled(async (space) => {
        fails(() => space.save(path as string, options), code);
        await failsAsync(code, space.saveAsync(path as string, options));
        assert.equal(maps_all().length, 1);
      });
      assert.deepEqual(readdirSync(folder), before);
      assert.equal(readFileSync(old, 'utf8'), 'old');
    });
  }
  test('a folder that this user may not write to', { skip: process.getuid?.() === 0 }, async () => {
    const { at, path, names } = own();
    chmodSync(at, 0o500);
    await withFilled((space) => fails(() => space.save(path), 'EACCES', /may not/));
    assert.deepEqual(names(), []);
  });
  test('the longest name that there is, a path from here, and windows', async () => {
    const { at, names } = own();
    const here = process.cwd();
    process.chdir(at);
    try {
      await withFilled((space) => {
        space.save('x'.repeat(255));
        const w = space.region('index').window(0, 4096, { write: true });
        fails(() => space.save('y', { windows: 'refuse' }), 'EBUSY', /has a window/);
        space.save('y');
        w.close();
      });
    } finally {
      process.chdir(here);
    }
    assert.deepEqual(names().sort(), ['x'.repeat(255), 'y']);
  });
  test('destroyed, or this thread is away', async () => {
    await withFilled((space, machine) => {
      fails(() => machine.away(() => space.save(fresh())), 'EBUSY');
      space.destroy();
      fails(() => space.save(fresh()), 'ESTALE');
    });
  });
});

describe('whatever fails', () => {
  const faults: Record<string, StoreFault> = {
    fail: { what: 'fail', errno: EIO },
    full: { what: 'full' },
    short: { what: 'short', bytes: 100 },
  };
  const OPS: readonly StoreOp[] = ['open', 'write', 'sync', 'close', 'name'];
  /** Runs `once` with the fault at the 1st, 2nd ... operation, until there are no more. */
  function each(op: StoreOp, fault: StoreFault, once: (n: number) => unknown): void {
    for (let n = 1; ; n++) {
      let asked = 0;
      store_fault_at(op, n, fault);
      const { next } = store_faults;
      store_faults.next = (of, kind, st) => {
        if (of === op) asked++;
        return next?.(of, kind, st) ?? null;
      };
      once(n);
      store_faults.next = null;
      if (asked < n) return;
    }
  }
  for (const op of OPS) {
    for (const [what, fault] of Object.entries(faults)) {
      test(`saving: ${op}, ${what}`, async () => {
        const { path, names } = own();
        await withFilled((space, machine) => {
          const again = machine.space('again');
          let refused = 0;
          each(op, fault, (n) => {
            writeFileSync(path, 'old');
            try {
              space.save(path);
            } catch (e) {
              assert.ok(e instanceof KmemError && e.message.includes(path), String(e));
              assert.equal(e.errno, fault.what === 'full' ? ENOSPC : EIO);
              assert.equal(readFileSync(path, 'utf8'), 'old', `${op} ${n}`);
              refused++;
            }
            store_faults.next = null;
            assert.deepEqual(names(), ['file']);
            assert.equal(maps_all().length, 2);
            if (readFileSync(path, 'latin1') === 'old') return;
            again.load(path);
            for (const { address } of again.regions()) again.region(address).unmap();
          });
          // The folder is opened, brought to the disk and closed as a favour.
          const least = { open: 1, write: 6, sync: 2, close: 1, name: 1 }[op as 'open'];
          const met = what === 'fail' || (what === 'full' && op === 'write');
          assert.ok(met ? refused >= least : refused === 0, `${refused} refused`);
        });
      });
    }
  }
  for (const op of ['open', 'size', 'read', 'close'] as const) {
    for (const what of ['fail', 'short'] as const) {
      test(`loading: ${op}, ${what}`, async () => {
        const path = fresh();
        await withFilled((space, machine) => {
          space.save(path);
          const again = machine.space('again');
          let refused = 0;
          each(op, faults[what], () => {
            try {
              again.load(path);
            } catch (e) {
              assert.ok(e instanceof KmemError && e.message.includes(path), String(e));
              assert.equal(e.errno, EIO);
              assert.equal(again.mapped, 0);
              refused++;
            }
            for (const { address } of again.regions()) again.region(address).unmap();
            assert.equal(maps_all().length, 2);
          });
          const met = what === 'fail' && op !== 'close';
          assert.ok(met ? refused >= 1 : refused === 0, `${refused} refused`);
        });
      });
    }
  }
  test('what killed savers left goes, and nothing else of that name', async () => {
    const { at, path, names } = own();
    const [pid, start, space] = host_process().split('-').map(Number);
    const of = (...numbers: number[]): string => {
      const [a, b, c, who] = numbers.map((n) => n.toString(36));
      return `.kmem-${a}-${b}-${c}.${who}-kx0-1.part`;
    };
    const dead = [of(pid, start - 1, space, 5), of(pid, start, space, 2 ** 22 - 1)];
    const alive = [
      of(pid, start, space, host_who()),
      of(pid, start - 1, space + 1, 5),
      '.kmem-x.part',
      '.kmem-1-2-3.4-5-6.part.kept',
    ];
    for (const name of [...dead, ...alive]) writeFileSync(join(at, name), 'x');
    mkdirSync(join(at, of(pid, start - 2, space, 6)));
    await withFilled((filled) => void filled.save(path));
    const stay = [...alive, of(pid, start - 2, space, 6), 'file'];
    // Where the host does not say when processes start, or which threads it has, all stay.
    const linux = process.platform === 'linux';
    assert.deepEqual(names().sort(), [...stay, ...(linux ? [] : dead)].sort());
  });
  test('a file that cannot be removed is left empty, and the error says so', async () => {
    const { at, path, names } = own();
    await withFilled((space) => {
      store_faults.next = (op) =>
        op === 'write' || op === 'discard' ? { what: 'fail', errno: EIO } : null;
      const e = fails(() => space.save(path), 'EIO');
      const part = /(\S+\.part) is left, empty: EIO/.exec(e.message)?.[1] ?? '';
      assert.equal(statSync(part).size, 0);
      assert.deepEqual(names(), [part.slice(at.length + 1)]);
    });
  });
  for (const [what, every] of [
    ['once', false],
    ['from then on', true],
  ] as const) {
    test(`memory is refused at every place, ${what}`, async () => {
      const { path, names } = own();
      await withFilled((space, machine) => {
        space.save(path);
        const again = machine.space('again');
        const refused = { save: 0, load: 0 };
        for (const call of ['save', 'load'] as const) {
          for (let nth = 0; ; nth++) {
            let n = 0;
            const refuse = (): boolean => (every ? n++ >= nth : n++ === nth);
            page_failpoint.refuse = refuse;
            map_failpoint.refuse = refuse;
            try {
              if (call === 'save') space.save(path);
              else again.load(path);
            } catch (e) {
              assert.ok(e instanceof KmemError && e.code === 'ENOMEM', String(e));
              refused[call]++;
              assert.equal(again.mapped, 0);
            }
            page_failpoint.refuse = null;
            map_failpoint.refuse = null;
            assert.deepEqual(names(), ['file']);
            for (const { address } of again.regions()) again.region(address).unmap();
            assert.equal(maps_all().length, 2);
            if (n <= nth) break;
          }
        }
        if (every) assert.ok(refused.save >= 2 && refused.load >= 5, JSON.stringify(refused));
        again.load(path);
        checkFilled(again);
      });
    });
  }
});

describe('in the event loop', () => {
  test('says how far it has come, and lets others go on', async () => {
    await withFilled(async (space, machine) => {
      const path = fresh();
      const seen: SaveProgress[] = [];
      let turns = 0;
      const timer = setInterval(() => turns++);
      const saved = await space.saveAsync(path, { onProgress: (p) => seen.push(p) });
      clearInterval(timer);
      assert.ok(turns > 0);
      const last = seen.at(-1);
      assert.deepEqual(last, { done: saved.mapped, total: saved.mapped, written: saved.contents });
      for (let i = 1; i < seen.length; i++) assert.ok(seen[i].done >= seen[i - 1].done);
      const again = machine.space('again');
      again.load(path);
      checkFilled(again);
    });
  });
  test('is of the moment at which it began, and outlives its space', async () => {
    await withFilled(async (space, machine) => {
      const path = fresh();
      const two = [space.saveAsync(path), space.saveAsync(path)];
      space.region('index').fill(0, 40_960, 255);
      space.destroy();
      const [a, b] = await Promise.all(two);
      assert.equal(a.size, b.size);
      const again = machine.space('again');
      again.load(path);
      checkFilled(again);
    });
  });
  const why = new Error('enough');
  const ends: Record<string, (abort: AbortController) => (p: SaveProgress) => void> = {
    'aborted when it begins': (abort) => () => abort.abort(why),
    'aborted at its end': (abort) => (p) => {
      if (p.done === p.total) abort.abort(why);
    },
    'onProgress throws': () => () => {
      throw why;
    },
  };
  for (const [what, end] of Object.entries(ends)) {
    test(`${what}: no file is left`, async () => {
      const { path, names } = own();
      await withFilled(async (space) => {
        const abort = new AbortController();
        const options = { signal: abort.signal, onProgress: end(abort) };
        await assert.rejects(space.saveAsync(path, options), (e) => e === why);
        assert.deepEqual([names(), maps_all().length], [[], 1]);
      });
    });
  }
  test('aborted before: nothing is done', async () => {
    const { path, names } = own();
    await withFilled(async (space) => {
      const signal = AbortSignal.abort(why);
      await assert.rejects(space.saveAsync(path, { signal }), (e) => e === why);
      assert.deepEqual(names(), []);
    });
  });
  test('the thread leaves the machine: no file is left', async () => {
    const { path, names } = own();
    writeFileSync(path, 'old');
    for (const when of ['in onProgress', 'between']) {
      const machine = boot({ memory: '8M', options: OPTIONS });
      const space = machine.space('s');
      filled(space);
      const onProgress = (): void => {
        if (when === 'in onProgress') machine.shutdown();
      };
      const saving = space.saveAsync(path, { onProgress });
      if (when === 'between') machine.shutdown();
      await failsAsync('ESHUTDOWN', saving);
      assert.deepEqual(names(), ['file']);
    }
    assert.equal(readFileSync(path, 'utf8'), 'old');
  });
  test('while this thread is parked it waits', async () => {
    await withFilled(async (space, machine) => {
      const saving = space.saveAsync(fresh());
      const parked = machine.park();
      let over = false;
      void saving.then(() => (over = true));
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.equal(over, false);
      parked[Symbol.dispose]();
      await saving;
    });
  });
});

describe('loaded in the event loop', () => {
  const why = new Error('enough');
  /** A file of a filled space, and an empty space, in a machine with two maps. */
  const withSaved = (run: (path: string, again: Space, machine: Machine) => Promise<void>) =>
    withFilled(async (space, machine) => {
      const path = fresh();
      space.save(path);
      await run(path, machine.space('again'), machine);
    });
  test('says how far it has come, and shows all of it at once', async () => {
    await withSaved(async (path, again) => {
      const seen: LoadProgress[] = [];
      const onProgress = (p: LoadProgress): void => {
        seen.push(p);
        assert.equal(again.mapped, 0);
      };
      const saved = await again.loadAsync(path, { onProgress });
      assert.equal(saved.name, 's');
      assert.deepEqual(seen.at(-1), { done: saved.contents, total: saved.contents });
      for (let i = 1; i < seen.length; i++) assert.ok(seen[i].done >= seen[i - 1].done);
      checkFilled(again);
      assert.equal(maps_all().length, 2);
    });
  });
  test('refuses what load refuses, and what came meanwhile', async () => {
    await withSaved(async (path, again, machine) => {
      await failsAsync('ENOENT', again.loadAsync(fresh()));
      await failsAsync('EINVAL', again.loadAsync(7 as unknown as string));
      await failsAsync('EINVAL', again.loadAsync(path, { onprogress: 1 } as object));
      const cut = fresh();
      writeFileSync(cut, readFileSync(path).subarray(0, -4096));
      await failsAsync('EIO', again.loadAsync(cut));
      const two = await Promise.allSettled([again.loadAsync(path), again.loadAsync(path)]);
      const lost = two.filter((each) => each.status === 'rejected');
      assert.deepEqual(
        lost.map(({ reason }) => reason.code),
        ['EEXIST'],
      );
      checkFilled(again);
      await failsAsync('EEXIST', again.loadAsync(path));
      const third = machine.space('third');
      const late = third.loadAsync(path);
      third.destroy();
      await failsAsync('ESTALE', late);
      const small = machine.space('small', { limit: '1M' });
      const e = await failsAsync('ENOMEM', small.loadAsync(path));
      assert.equal(e.reason, 'limit');
      small.destroy();
      assert.equal(maps_all().length, 2);
    });
  });
  const ends: Record<string, (abort: AbortController) => (p: LoadProgress) => void> = {
    'aborted when it begins': (abort) => () => abort.abort(why),
    'aborted at its end': (abort) => (p) => {
      if (p.done === p.total) abort.abort(why);
    },
    'onProgress throws': () => () => {
      throw why;
    },
  };
  for (const [what, end] of Object.entries(ends)) {
    test(`${what}: nothing is mapped, and no map is left`, async () => {
      await withSaved(async (path, again) => {
        const abort = new AbortController();
        const options = { signal: abort.signal, onProgress: end(abort) };
        await assert.rejects(again.loadAsync(path, options), (e) => e === why);
        assert.deepEqual([again.mapped, maps_all().length], [0, 2]);
        const signal = AbortSignal.abort(why);
        await assert.rejects(again.loadAsync(path, { signal }), (e) => e === why);
        await again.loadAsync(path);
        checkFilled(again);
      });
    });
  }
  test('the thread leaves the machine, or is parked', async () => {
    const path = fresh();
    await withFilled(async (space) => void space.save(path));
    for (const when of ['in onProgress', 'between']) {
      const machine = boot({ memory: '8M', options: OPTIONS });
      const onProgress = (): void => {
        if (when === 'in onProgress') machine.shutdown();
      };
      const loading = machine.space('s').loadAsync(path, { onProgress });
      if (when === 'between') machine.shutdown();
      await failsAsync('ESHUTDOWN', loading);
    }
    await withMachine({ memory: '8M', options: OPTIONS }, async (machine) => {
      const space = machine.space('s');
      const loading = space.loadAsync(path);
      const parked = machine.park();
      let over = false;
      void loading.then(() => (over = true));
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.equal(over, false);
      parked[Symbol.dispose]();
      await loading;
      space.destroy();
    });
  });
});
