/*
 * Shows that a store gives back what was put into it, as a file and as memory, against
 * an array as the model; that wrong numbers, places and modes are errno numbers; and
 * that each operation may fail, be short, slow or find no room at each of its
 * occurrences, after which the store is as the model says.  A file that is made anew is
 * its owner's alone, never one that was there, nor behind a link, and is gone once it is
 * discarded.  The host's own faults (interrupted calls, short ones, a full device) are
 * played by its functions.  Two threads write one file, and neither can use the other's
 * number.
 */
import assert from 'node:assert/strict';
import {
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, describe, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import {
  EBADF,
  EEXIST,
  EINVAL,
  EIO,
  EISDIR,
  ELOOP,
  EMFILE,
  ENAMETOOLONG,
  ENOENT,
  ENOSPC,
  ENOTDIR,
  EOPNOTSUPP,
  EROFS,
} from './errno.ts';
import { dice, SEED } from './seed.test.lib.ts';
import {
  STORE_CREATE,
  STORE_NEW,
  STORE_READ,
  STORE_WRITE,
  store_abandon,
  store_close,
  store_discard,
  store_free_name,
  store_name,
  store_open,
  store_open_memory,
  store_replace,
  store_replaceable,
} from './store.ts';
import { store_read, store_size, store_sync, store_truncate, store_write } from './store_io.ts';
import {
  STORES_MAX,
  type StoreFault,
  type StoreOp,
  store_fault_at,
  store_faults,
} from './store_fault.ts';

const folder = mkdtempSync(join(tmpdir(), 'kmem-store-'));
after(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => {
  store_faults.next = null;
});
let files = 0;
const fresh = (): string => join(folder, `store${++files}`);
const bytes = (n: number, first = 1): Uint8Array =>
  Uint8Array.from({ length: n }, (_, i) => (first + i * 7) & 255);
const SIZE = 1000;
/** A store of each kind, of SIZE zeros, and what reads it behind its back. */
const kinds: Record<string, () => { st: number; raw: () => Uint8Array }> = {
  file() {
    const path = fresh();
    const st = store_open(path, STORE_CREATE);
    assert.equal(store_write(st, 0, new Uint8Array(SIZE)), 0);
    return { st, raw: () => readFileSync(path) };
  },
  memory() {
    const all = new Uint8Array(new SharedArrayBuffer(SIZE));
    return { st: store_open_memory(all), raw: () => all };
  },
};
/** The host's module itself: what the store calls. */
const host = process.getBuiltinModule('node:fs') as unknown as Record<string, unknown>;
function with_host<T>(name: string, replace: (real: CallableFunction) => unknown, run: () => T): T {
  const real = host[name] as CallableFunction;
  host[name] = replace(real);
  try {
    return run();
  } finally {
    host[name] = real;
  }
}
const failing = (code: string): Error => Object.assign(new Error(code), { code });

for (const [kind, make] of Object.entries(kinds)) {
  describe(kind, () => {
    test('any reads and writes agree with an array', () => {
      const { st, raw } = make();
      const draw = dice(SEED);
      const model = new Uint8Array(SIZE);
      for (let i = 0; i < 500; i++) {
        const at = draw(SIZE);
        const n = draw(SIZE - at + 1);
        if (draw(2) === 0) {
          const some = bytes(n, draw(256));
          assert.equal(store_write(st, at, some), 0);
          model.set(some, at);
        } else {
          const more = draw(40); // perhaps beyond the end
          const into = new Uint8Array(n + more);
          const got = store_read(st, at, into);
          assert.equal(got, Math.min(n + more, SIZE - at), `seed ${SEED}`);
          assert.deepEqual(into.subarray(0, got), model.subarray(at, at + got), `seed ${SEED}`);
          assert.ok(into.subarray(got).every((v) => v === 0));
        }
      }
      assert.equal(store_size(st), SIZE);
      assert.equal(store_sync(st), 0);
      assert.equal(store_close(st), 0);
      assert.deepEqual(Uint8Array.from(raw()), model);
    });
    test('numbers, places and modes that are none', () => {
      const { st } = make();
      const some = bytes(10);
      for (const at of [-1, 0.5, Number.NaN, 2 ** 60]) {
        assert.equal(store_read(st, at, some), -EINVAL);
        assert.equal(store_write(st, at, some), EINVAL);
        assert.equal(store_truncate(st, at), EINVAL);
      }
      assert.equal(store_read(st, SIZE, some), 0, 'nothing is behind the end');
      assert.equal(store_close(st), 0);
      const next = make().st;
      for (const none of [
        st,
        0,
        -5,
        0.5,
        2 ** 40,
        Number.NaN,
        next + STORES_MAX * 999,
        STORES_MAX * 9999,
      ]) {
        assert.equal(store_size(none), -EBADF, String(none));
        assert.equal(store_read(none, 0, some), -EBADF);
        assert.equal(store_write(none, 0, some), EBADF);
        assert.equal(store_truncate(none, 5), EBADF);
        assert.equal(store_sync(none), EBADF);
        assert.equal(store_discard(none), EBADF);
        store_abandon(none);
        assert.equal(store_close(none), EBADF, 'closed twice');
      }
      assert.equal(store_size(next), SIZE, 'the heir of the place is untouched');
      assert.equal(store_close(next), 0);
    });
    test('every fault at every operation', () => {
      const faults: StoreFault[] = [
        { what: 'fail', errno: EIO },
        { what: 'short', bytes: 3 },
        { what: 'slow', ms: 1 },
        { what: 'full' },
      ];
      for (const op of ['size', 'read', 'write', 'truncate', 'sync', 'close'] as StoreOp[]) {
        for (const fault of faults) for (let n = 1; n <= 3; n++) faulty(make, op, n, fault);
      }
    });
  });
}
/** Three rounds of all operations; number n of a sort is at fault. */
function faulty(make: (typeof kinds)[string], op: StoreOp, n: number, fault: StoreFault): void {
  const name = `${op} ${n}: ${fault.what}`;
  const model = new Uint8Array(SIZE);
  const made = [make(), make(), make()];
  store_fault_at(op, n, fault);
  for (const [i, { st, raw }] of made.entries()) {
    const hit = (asked: StoreOp): boolean => asked === op && n === i + 1;
    const fails = (asked: StoreOp): boolean => hit(asked) && fault.what === 'fail';
    const some = bytes(100 + i, i);
    const full = hit('write') && fault.what === 'full';
    assert.equal(store_write(st, 50, some), fails('write') ? EIO : full ? ENOSPC : 0, name);
    model.fill(0);
    if (!fails('write')) model.set(full ? some.subarray(0, some.length >> 1) : some, 50);
    const into = new Uint8Array(SIZE);
    assert.equal(store_read(st, 0, into), fails('read') ? -EIO : SIZE, name);
    if (!fails('read')) assert.deepEqual(into, model, name);
    assert.equal(store_size(st), fails('size') ? -EIO : SIZE, name);
    const no_room = hit('truncate') && fault.what === 'full';
    const cut = store_truncate(st, SIZE);
    assert.equal(cut, fails('truncate') ? EIO : no_room ? ENOSPC : 0, name);
    assert.equal(store_sync(st), fails('sync') ? EIO : 0, name);
    assert.equal(store_close(st), fails('close') ? EIO : 0, name);
    assert.equal(store_close(st), EBADF, name);
    assert.deepEqual(Uint8Array.from(raw()), model, name);
  }
  store_faults.next = null;
}

describe('opening', () => {
  test('what is not there, is no file, or is not to be written', () => {
    assert.equal(store_open(fresh(), STORE_READ), -ENOENT);
    assert.equal(store_open(fresh(), STORE_WRITE), -ENOENT);
    assert.equal(store_open(folder, STORE_WRITE), -EISDIR);
    assert.equal(store_open('', STORE_CREATE), -EINVAL);
    for (const how of [0, 5]) assert.equal(store_open(fresh(), how), -EINVAL);
    const path = fresh();
    writeFileSync(path, bytes(10));
    const st = store_open(path, STORE_READ);
    assert.equal(store_write(st, 0, bytes(3)), EROFS);
    assert.equal(store_truncate(st, 3), EROFS);
    assert.equal(store_discard(st), EINVAL, 'it made no file');
    assert.equal(store_close(st), 0);
    assert.deepEqual(Uint8Array.from(readFileSync(path)), bytes(10));
    const again = store_open(path, STORE_CREATE);
    assert.equal(store_size(again), 0, 'emptied');
    assert.equal(store_close(again), 0);
  });
  test('fails when it is made to, and leaves nothing open', () => {
    store_fault_at('open', 1, { what: 'fail', errno: EMFILE });
    assert.equal(store_open(fresh(), STORE_CREATE), -EMFILE);
    store_fault_at('open', 1, { what: 'fail', errno: EIO });
    assert.equal(store_open_memory(bytes(3)), -EIO);
  });
  test('one more than there are places', () => {
    const all = Array.from({ length: STORES_MAX }, () => store_open_memory(bytes(3)));
    assert.equal(new Set(all).size, STORES_MAX);
    assert.ok(all.every((st) => st > 0));
    assert.equal(store_open_memory(bytes(3)), -EMFILE);
    const path = fresh();
    assert.equal(store_open(path, STORE_CREATE), -EMFILE);
    for (const st of all) assert.equal(store_close(st), 0);
    assert.equal(store_open(path, STORE_READ), -ENOENT, 'nothing was made');
  });
});

describe('a file that is made anew', () => {
  test('belongs to its owner alone, and long without taking room', () => {
    const path = fresh();
    const st = store_open(path, STORE_NEW);
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.equal(store_truncate(st, 2 ** 30), 0);
    assert.equal(store_write(st, 2 ** 29, bytes(5)), 0);
    assert.equal(store_size(st), 2 ** 30);
    assert.ok(statSync(path).blocks * 512 < 2 ** 24, 'holes');
    assert.equal(store_truncate(st, 2 ** 29 + 3), 0);
    assert.equal(store_truncate(st, 2 ** 29 + 5), 0);
    const into = new Uint8Array(9);
    assert.equal(store_read(st, 2 ** 29, into), 5);
    assert.deepEqual([...into], [...bytes(3), 0, 0, 0, 0, 0, 0], 'what was cut off reads as zeros');
    assert.equal(store_close(st), 0);
    assert.equal(statSync(path).size, 2 ** 29 + 5);
    rmSync(path);
  });
  test('is never one that is there, nor behind a link, nor in no folder', () => {
    const [there, link, nowhere] = [fresh(), fresh(), fresh()];
    writeFileSync(there, bytes(10));
    symlinkSync(there, link);
    symlinkSync(join(folder, 'none'), nowhere);
    for (const path of [there, link, nowhere, folder]) {
      assert.equal(store_open(path, STORE_NEW), -EEXIST, path);
    }
    assert.equal(store_open(join(fresh(), 'x'), STORE_NEW), -ENOENT);
    assert.equal(store_open(join(there, 'x'), STORE_NEW), -ENOTDIR);
    assert.deepEqual(Uint8Array.from(readFileSync(there)), bytes(10));
    assert.ok(lstatSync(nowhere).isSymbolicLink() && !existsSync(join(folder, 'none')));
  });
  test('is named at its end, where nothing may be, not even a link', () => {
    const [part, path, there] = [fresh(), fresh(), fresh()];
    symlinkSync(join(folder, 'none'), there);
    assert.equal(store_free_name(there), EEXIST);
    assert.equal(store_free_name(path), 0);
    assert.equal(store_free_name(join(path, 'x')), 0, 'the opening says that there is no folder');
    const st = store_open(part, STORE_NEW);
    assert.equal(store_write(st, 0, bytes(10)), 0);
    const no_links = () => () => {
      throw failing('EPERM');
    };
    assert.equal(store_name(st, there), EEXIST);
    assert.equal(
      with_host('linkSync', no_links, () => store_name(st, there)),
      EEXIST,
    );
    assert.equal(store_name(st, path), 0);
    assert.deepEqual([existsSync(part), existsSync(path)], [false, true]);
    assert.equal(
      with_host('linkSync', no_links, () => store_name(st, part)),
      0,
    );
    assert.deepEqual([existsSync(part), existsSync(path)], [true, false]);
    assert.equal(store_discard(st), 0, 'by the name that it has now');
    assert.equal(existsSync(part), false);
    assert.equal(store_name(st, path), EBADF);
    writeFileSync(path, '');
    const old = store_open(path, STORE_WRITE);
    assert.equal(store_name(old, part), EINVAL, 'it made no file');
    assert.equal(store_close(old), 0);
  });
  test('takes the place of a file at its end, in one step', () => {
    const [part, path, old] = [fresh(), fresh(), fresh()];
    for (const to of [path, path, old]) {
      if (to === old) writeFileSync(old, 'old');
      const st = store_open(part, STORE_NEW);
      assert.equal(store_write(st, 0, bytes(10)), 0);
      assert.equal(store_replaceable(to), 0);
      assert.equal(store_replace(st, to), 0);
      assert.deepEqual(Uint8Array.from(readFileSync(to)), bytes(10));
      assert.equal(existsSync(part), false);
      assert.equal(store_close(st), EBADF, 'it is closed');
    }
    assert.equal(store_replace(STORES_MAX, path), EBADF);
    const st = store_open(path, STORE_WRITE);
    assert.equal(store_replace(st, old), EINVAL, 'it made no file');
    assert.equal(store_close(st), 0);
  });
  test('takes the place of nothing but a file, and is gone when it cannot', () => {
    const [link, old] = [fresh(), fresh()];
    writeFileSync(old, 'old');
    symlinkSync(old, link);
    const wrong: [path: string, errno: number][] = [
      [folder, EISDIR],
      [link, ELOOP],
      ['/dev/null', EEXIST],
      [join(old, 'x'), ENOTDIR],
      [join(folder, 'x'.repeat(300)), ENAMETOOLONG],
    ];
    for (const [to, errno] of wrong) {
      const part = fresh();
      assert.equal(store_replaceable(to), errno, to);
      assert.equal(store_replace(store_open(part, STORE_NEW), to), errno, to);
      assert.equal(existsSync(part), false);
    }
    for (const op of ['close', 'name'] as const) {
      const part = fresh();
      const st = store_open(part, STORE_NEW);
      store_fault_at(op, 1, { what: 'fail', errno: EIO });
      assert.equal(store_replace(st, old), EIO, op);
      assert.equal(existsSync(part), false, op);
      assert.equal(store_close(st), EBADF, op);
    }
    assert.equal(readFileSync(old, 'utf8'), 'old');
    assert.equal(
      store_replaceable(join(fresh(), 'x')),
      0,
      'the opening says that there is no folder',
    );
  });
  test('is gone when it is discarded, and its number too', () => {
    const path = fresh();
    const st = store_open(path, STORE_NEW);
    assert.equal(store_write(st, 0, bytes(10)), 0);
    assert.equal(store_discard(st), 0);
    assert.equal(existsSync(path), false);
    assert.equal(store_close(st), EBADF);
  });
  test('is gone when its closing fails, or the host does not say which file it is', () => {
    const path = fresh();
    const st = store_open(path, STORE_NEW);
    store_fault_at('close', 1, { what: 'fail', errno: EIO });
    assert.equal(store_close(st), EIO);
    assert.equal(existsSync(path), false);
    assert.equal(store_close(st), EBADF);
    const other = fresh();
    const thrower = () => () => {
      throw failing('EIO');
    };
    assert.equal(
      with_host('fstatSync', thrower, () => store_open(other, STORE_NEW)),
      -EIO,
    );
    assert.equal(existsSync(other), false);
  });
  test('that cannot be removed is left empty, and what came in its place is left alone', () => {
    const path = fresh();
    const stuck = store_open(path, STORE_NEW);
    assert.equal(store_write(stuck, 0, bytes(10)), 0);
    store_fault_at('discard', 1, { what: 'fail', errno: EIO });
    assert.equal(store_discard(stuck), EIO);
    assert.equal(statSync(path).size, 0);
    assert.equal(store_close(stuck), EBADF);
    const other = fresh();
    const st = store_open(other, STORE_NEW);
    renameSync(other, `${other}.kept`);
    writeFileSync(other, bytes(7));
    assert.equal(store_discard(st), 0);
    assert.deepEqual(Uint8Array.from(readFileSync(other)), bytes(7));
    assert.equal(existsSync(`${other}.kept`), true);
    const gone = store_open(fresh(), STORE_NEW);
    rmSync(join(folder, `store${files}`));
    assert.equal(store_discard(gone), ENOENT);
  });
  test('stays as it is when its thread dies, and the host has its descriptor back', () => {
    const open = (): number => readdirSync('/proc/self/fd').length;
    const linux = process.platform === 'linux';
    const before = linux ? open() : 0;
    for (let i = 0; i < STORES_MAX + 5; i++) {
      const path = fresh();
      const st = store_open(path, STORE_NEW);
      assert.ok(st > 0, 'there is a place again');
      assert.equal(store_write(st, 0, bytes(3)), 0);
      store_abandon(st);
      assert.equal(store_size(st), -EBADF);
      assert.equal(statSync(path).size, 3);
    }
    if (linux) assert.ok(open() < before + STORES_MAX / 2);
  });
  test('a memory store is as long as it is', () => {
    const st = store_open_memory(bytes(10));
    assert.equal(store_truncate(st, 10), 0);
    assert.equal(store_truncate(st, 11), ENOSPC);
    assert.equal(store_truncate(st, 9), EOPNOTSUPP);
    assert.equal(store_discard(st), EINVAL, 'there is no file to remove');
    assert.equal(store_close(st), 0);
    assert.equal(store_open_memory(bytes(3), STORE_NEW), -EINVAL);
  });
});

describe('the host', () => {
  const file = (): number => (kinds.file as () => { st: number })().st;
  test('interrupts calls and does less than asked: all is done nevertheless', () => {
    const st = file();
    const some = bytes(SIZE, 9);
    let calls = 0;
    const awkward =
      (real: CallableFunction) =>
      (fd: number, b: Uint8Array, from: number, n: number, at: number) => {
        if (++calls % 2 === 0) throw failing('EINTR');
        return real(fd, b, from, Math.min(n, 37), at);
      };
    assert.equal(
      with_host('writeSync', awkward, () => store_write(st, 0, some)),
      0,
    );
    const into = new Uint8Array(SIZE);
    assert.equal(
      with_host('readSync', awkward, () => store_read(st, 0, into)),
      SIZE,
    );
    assert.deepEqual(into, some);
    assert.ok(calls > 4 * (SIZE / 37));
    assert.equal(store_close(st), 0);
  });
  test('names its errors: they are errno numbers, and EIO where it has none of ours', () => {
    const st = file();
    for (const [code, errno] of [
      ['ENOSPC', ENOSPC],
      ['EROFS', EROFS],
      ['EWHAT', EIO],
    ] as const) {
      const thrower = () => () => {
        throw failing(code);
      };
      assert.equal(
        with_host('writeSync', thrower, () => store_write(st, 0, bytes(3))),
        errno,
      );
      assert.equal(
        with_host('readSync', thrower, () => store_read(st, 0, bytes(3))),
        -errno,
      );
      assert.equal(
        with_host('fsyncSync', thrower, () => store_sync(st)),
        errno,
      );
      assert.equal(
        with_host('ftruncateSync', thrower, () => store_truncate(st, SIZE)),
        errno,
      );
      assert.equal(
        with_host('fstatSync', thrower, () => store_size(st)),
        -errno,
      );
    }
    assert.equal(
      with_host(
        'writeSync',
        () => () => 0,
        () => store_write(st, 0, bytes(3)),
      ),
      EIO,
    );
    assert.equal(store_close(st), 0);
  });
  test('has no room', { skip: process.platform !== 'linux' }, () => {
    const st = store_open('/dev/full', STORE_WRITE);
    assert.equal(store_write(st, 0, bytes(3)), ENOSPC);
    assert.equal(store_close(st), 0);
    const small = store_open_memory(new Uint8Array(5));
    assert.equal(store_write(small, 3, bytes(4)), ENOSPC);
    assert.equal(store_write(small, 5, bytes(1)), ENOSPC);
    assert.equal(store_close(small), 0);
  });
});

for (const kind of ['file', 'memory']) {
  test(`two threads write one store, ${kind}; numbers are their own`, async () => {
    const [blocks, size] = [400, 512];
    const path = kind === 'file' ? fresh() : null;
    if (path) writeFileSync(path, new Uint8Array(blocks * size));
    const memory = path ? null : new SharedArrayBuffer(blocks * size);
    const foreign = store_open_memory(bytes(size)); // this thread's
    store_close(store_open_memory(bytes(1)));
    const url = new URL('./store.test.worker.ts', import.meta.url);
    const said = await Promise.all(
      [0, 1].map(
        (me) =>
          new Promise<{ errors: number[]; stranger: number; st: number }>((resolve, reject) => {
            const far = foreign + STORES_MAX * 50;
            const workerData = { path, memory, me, step: 2, blocks, size, foreign: far };
            const worker = new Worker(url, { workerData });
            worker.on('message', resolve);
            worker.on('error', reject);
          }),
      ),
    );
    for (const { errors, stranger } of said) {
      assert.deepEqual(errors, []);
      assert.equal(stranger, -EBADF);
    }
    const all = path
      ? Uint8Array.from(readFileSync(path))
      : new Uint8Array(memory as SharedArrayBuffer);
    for (let b = 0; b < blocks; b++) {
      assert.ok(
        all.subarray(b * size, (b + 1) * size).every((v) => v === (b % 2) + 1),
        `block ${b}`,
      );
    }
    assert.equal(store_close(foreign), 0);
  });
}
