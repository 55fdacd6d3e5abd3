/*
 * Shows that arrays of views are read from and written to a store as one run of bytes: as a file,
 * as memory under a number, and as plain memory, against an array as the model.  Views have any
 * lengths, lie over shared memory or not, and are up to 1024.  A host that stops in the middle of
 * a view, or is interrupted, is asked for the rest.  Each operation may fail, be short, slow or
 * find no room at each of its occurrences.  A file is told from every other: it is opened again
 * only where it is itself.
 */
import assert from 'node:assert/strict';
import {
  existsSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, describe, test } from 'node:test';
import { EBADF, EINVAL, EIO, EISDIR, EMFILE, ENOSPC, EROFS, ESTALE } from './errno.ts';
import { dice, SEED } from './seed.test.lib.ts';
import {
  STORE_CREATE,
  STORE_NEW,
  STORE_READ,
  STORE_WRITE,
  type StoreIdentity,
  store_close,
  store_identity,
  store_open,
  store_open_memory,
  store_remove,
  store_reopen,
  store_same,
} from './store.ts';
import { type StoreFault, store_fault_at, store_faults } from './store_fault.ts';
import {
  STORE_VIEWS_MAX,
  type StoreRef,
  store_readv,
  store_size,
  store_sync,
  store_truncate,
  store_write,
  store_writev,
} from './store_io.ts';

const folder = mkdtempSync(join(tmpdir(), 'kmem-store-'));
after(() => rmSync(folder, { recursive: true, force: true }));
afterEach(() => {
  store_faults.next = null;
});
let files = 0;
const fresh = (): string => join(folder, `store${++files}`);
const linux = process.platform === 'linux';
const SIZE = 5000;

interface Made {
  readonly st: StoreRef;
  readonly raw: () => Uint8Array;
  readonly done: () => void;
}
const kinds: Record<string, () => Made> = {
  file() {
    const path = fresh();
    const st = store_open(path, STORE_CREATE);
    assert.equal(store_truncate(st, SIZE), 0);
    return { st, raw: () => readFileSync(path), done: () => assert.equal(store_close(st), 0) };
  },
  'memory under a number'() {
    const all = new Uint8Array(new SharedArrayBuffer(SIZE));
    const st = store_open_memory(all);
    return { st, raw: () => all, done: () => assert.equal(store_close(st), 0) };
  },
  'plain memory'() {
    const all = new Uint8Array(new SharedArrayBuffer(SIZE));
    return { st: all, raw: () => all, done: () => {} };
  },
};
const pool = new Uint8Array(new SharedArrayBuffer(2 * SIZE));
/** Views of random lengths over `n` bytes, in a random order in memory, some of them shared. */
function views_of(draw: (n: number) => number, n: number): Uint8Array[] {
  const views: Uint8Array[] = [];
  let used = 0;
  for (let left = n; left > 0 || draw(3) === 0; ) {
    const length = draw(4) === 0 ? 0 : Math.min(left, 1 + draw(700));
    const shared = draw(2) === 0 && used + length <= pool.length;
    views.unshift(shared ? pool.subarray(used, used + length) : new Uint8Array(length));
    if (shared) used += length;
    left -= length;
  }
  return views;
}
function join_views(views: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(views.reduce((n, v) => n + v.length, 0));
  let at = 0;
  for (const view of views) {
    all.set(view, at);
    at += view.length;
  }
  return all;
}
const host = process.getBuiltinModule('node:fs') as unknown as Record<string, unknown>;
function with_host<T>(
  replaced: Record<string, (real: CallableFunction) => unknown>,
  run: () => T,
): T {
  const real = Object.keys(replaced).map((name) => [name, host[name]] as const);
  for (const [name, fn] of real) host[name] = replaced[name](fn as CallableFunction);
  try {
    return run();
  } finally {
    for (const [name, fn] of real) host[name] = fn;
  }
}

for (const [kind, make] of Object.entries(kinds)) {
  describe(kind, () => {
    test('any views agree with an array', () => {
      const { st, raw, done } = make();
      const draw = dice(SEED);
      const model = new Uint8Array(SIZE);
      for (let i = 0; i < 400; i++) {
        const at = draw(SIZE);
        const n = draw(SIZE - at + 1);
        if (draw(3) === 0)
          store_fault_at(draw(2) ? 'read' : 'write', 1, { what: 'short', bytes: 1 + draw(900) });
        if (draw(2) === 0) {
          const views = views_of(draw, n);
          for (const view of views) for (let j = 0; j < view.length; j++) view[j] = draw(256);
          assert.equal(store_writev(st, at, views), 0, `seed ${SEED}`);
          model.set(join_views(views), at);
        } else {
          const more = draw(300); // perhaps beyond the end
          const views = views_of(draw, n + more);
          for (const view of views) view.fill(0);
          const got = store_readv(st, at, views);
          assert.equal(got, Math.min(n + more, SIZE - at), `seed ${SEED}`);
          const all = join_views(views);
          assert.deepEqual(all.subarray(0, got), model.subarray(at, at + got), `seed ${SEED}`);
          assert.ok(all.subarray(got).every((v) => v === 0));
        }
        store_faults.next = null;
      }
      assert.deepEqual(Uint8Array.from(raw()), model);
      done();
    });
    test('no views, empty ones, as many as there may be, and one more', () => {
      const { st, raw, done } = make();
      for (const views of [[], [new Uint8Array(0)], [new Uint8Array(0), new Uint8Array(0)]]) {
        assert.equal(store_readv(st, 10, views), 0);
        assert.equal(store_writev(st, 10, views), 0);
      }
      const many = Array.from({ length: STORE_VIEWS_MAX }, (_, i) => new Uint8Array(1).fill(i));
      assert.equal(store_writev(st, 100, many), 0);
      assert.equal(raw()[100 + 1023], 1023 & 255);
      const into = many.map(() => new Uint8Array(1));
      assert.equal(store_readv(st, 100, into), STORE_VIEWS_MAX);
      assert.deepEqual(join_views(into), join_views(many));
      many.push(new Uint8Array(1));
      assert.equal(store_readv(st, 100, many), -EINVAL);
      assert.equal(store_writev(st, 100, many), EINVAL);
      for (const at of [-1, 0.5, Number.NaN, 2 ** 60]) {
        assert.equal(store_readv(st, at, into), -EINVAL);
        assert.equal(store_writev(st, at, into), EINVAL);
      }
      done();
    });
    test('each fault at each place', () => {
      const faults: StoreFault[] = [
        { what: 'fail', errno: EIO },
        { what: 'short', bytes: 150 },
        { what: 'slow', ms: 1 },
        { what: 'full' },
      ];
      for (const op of ['read', 'write'] as const) {
        for (const fault of faults) for (let n = 1; n <= 3; n++) faulty(op, n, fault);
      }
    });
    function faulty(op: 'read' | 'write', n: number, fault: StoreFault): void {
      const { st, raw, done } = make();
      const name = `${op} ${n}: ${fault.what}`;
      const model = new Uint8Array(SIZE);
      store_fault_at(op, n, fault);
      for (let i = 1; i <= 3; i++) {
        const hit = (asked: string): boolean => asked === op && i === n;
        const out = [100, 0, 333].map((length, j) => new Uint8Array(length).fill(i * 10 + j));
        const fails = hit('write') && fault.what === 'fail';
        const full = hit('write') && fault.what === 'full';
        assert.equal(store_writev(st, i * 50, out), fails ? EIO : full ? ENOSPC : 0, name);
        if (!fails)
          model.set(full ? join_views(out).subarray(0, 433 >> 1) : join_views(out), i * 50);
        const into = [new Uint8Array(1), new Uint8Array(999)];
        const got = store_readv(st, 0, into);
        const failed = hit('read') && fault.what === 'fail';
        assert.equal(got, failed ? -EIO : 1000, name);
        if (!failed) assert.deepEqual(join_views(into), model.subarray(0, 1000), name);
        assert.equal(store_size(st), SIZE, name);
        assert.equal(store_sync(st), 0, name);
      }
      assert.deepEqual(Uint8Array.from(raw()), model, name);
      store_faults.next = null;
      done();
    }
  });
}

describe('the host', () => {
  test('stops in the middle of a view, and is interrupted: all is done nevertheless', () => {
    const { st, raw, done } = kinds.file();
    const out = [700, 1, 299, 0, 1500].map((n, i) => new Uint8Array(n).map((_, j) => j + i));
    let calls = 0;
    const awkward = (real: CallableFunction) => (fd: number, views: Uint8Array[], at: number) => {
      if (++calls % 2 === 0) throw Object.assign(new Error('EINTR'), { code: 'EINTR' });
      let left = 311;
      const some = views.map((view) => {
        const part = view.subarray(0, Math.min(left, view.length));
        left -= part.length;
        return part;
      });
      return real(fd, some, at);
    };
    const one =
      (real: CallableFunction) =>
      (fd: number, view: Uint8Array, from: number, n: number, at: number) =>
        real(fd, view, from, Math.min(n, 311), at);
    assert.equal(
      with_host({ writevSync: awkward, writeSync: one }, () => store_writev(st, 3, out)),
      0,
    );
    const into = out.map((view) => new Uint8Array(view.length));
    assert.equal(
      with_host({ readvSync: awkward, readSync: one }, () => store_readv(st, 3, into)),
      2500,
    );
    assert.deepEqual(into, out);
    assert.deepEqual(Uint8Array.from(raw()).subarray(3, 2503), join_views(out));
    assert.ok(calls > 2 * (1000 / 311));
    done();
  });
  test('fails, and writes nothing without saying why', () => {
    const { st, done } = kinds.file();
    const two = [new Uint8Array(5), new Uint8Array(5)];
    const thrower = () => () => {
      throw Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' });
    };
    assert.equal(
      with_host({ writevSync: thrower }, () => store_writev(st, 0, two)),
      ENOSPC,
    );
    assert.equal(
      with_host({ readvSync: thrower }, () => store_readv(st, 0, two)),
      -ENOSPC,
    );
    assert.equal(
      with_host({ writevSync: () => () => 0 }, () => store_writev(st, 0, two)),
      EIO,
    );
    done();
    assert.equal(store_readv(st, 0, two), -EBADF);
    assert.equal(store_writev(st, 0, two), EBADF);
  });
});

describe('which file it is', () => {
  const make = (): { path: string; is: StoreIdentity } => {
    const path = fresh();
    const st = store_open(path, STORE_NEW);
    assert.equal(store_write(st, 0, new Uint8Array(10).fill(1)), 0);
    const is = store_identity(st);
    assert.ok(typeof is !== 'number');
    assert.equal(store_close(st), 0);
    return { path, is };
  };
  test('no file of bytes is none', () => {
    const st = store_open(folder, STORE_READ);
    if (st > 0) {
      assert.equal(store_identity(st), -EISDIR);
      assert.equal(store_close(st), 0);
    }
    const memory = store_open_memory(new Uint8Array(5));
    assert.equal(store_identity(memory), -EINVAL);
    assert.equal(store_close(memory), 0);
    assert.equal(store_identity(memory), -EBADF);
  });
  test('it is opened again where it is, by any path that leads there', () => {
    const { path, is } = make();
    symlinkSync(path, `${path}.link`);
    const r = store_reopen(`${path}.link`, STORE_READ, is);
    assert.equal(store_write(r, 0, new Uint8Array(1)), EROFS);
    const w = store_reopen(path, STORE_WRITE, is);
    assert.equal(store_write(w, 0, new Uint8Array(1)), 0);
    const again = store_identity(w);
    assert.ok(typeof again !== 'number' && store_same(again, is));
    for (const st of [r, w]) assert.equal(store_close(st), 0);
  });
  test('another file, a folder, a device, nothing: never opened', () => {
    const { path, is } = make();
    renameSync(path, `${path}.kept`);
    for (const there of [path, folder, linux ? '/dev/null' : folder, make().path]) {
      assert.equal(store_reopen(there, STORE_WRITE, is), -ESTALE, there);
      if (existsSync(there)) assert.equal(store_remove(there, is), ESTALE, there);
    }
    assert.equal(store_remove(`${path}.kept`, is), 0);
    assert.equal(existsSync(`${path}.kept`), false);
  });
  test('one that got its number on the disk is another', { skip: !linux }, () => {
    const { path, is } = make();
    unlinkSync(path);
    writeFileSync(path, 'another');
    const now = statSync(path, { bigint: true });
    if (now.birthtimeNs === now.ctimeNs && now.birthtimeNs === 0n) return; // nothing to tell it by
    assert.equal(store_reopen(path, STORE_WRITE, is), -ESTALE);
    const same = { dev: is.dev, ino: is.ino, birth: is.birth + 1n };
    assert.equal(store_same(same, is), false);
    assert.equal(store_same({ ...same, birth: 0n }, is), true, 'a host that does not know it');
  });
  test('each step fails, and nothing stays open', () => {
    const { path, is } = make();
    for (const op of ['open', 'identity'] as const) {
      store_fault_at(op, 1, { what: 'fail', errno: EMFILE });
      assert.equal(store_reopen(path, STORE_WRITE, is), -EMFILE);
    }
    const thrower = () => () => {
      throw Object.assign(new Error('EIO'), { code: 'EIO' });
    };
    for (const name of ['statSync', 'openSync', 'fstatSync']) {
      assert.equal(
        with_host({ [name]: thrower }, () => store_reopen(path, STORE_WRITE, is)),
        -EIO,
        name,
      );
    }
    // Replaced between the look and the opening.
    const replaced = (real: CallableFunction) => (to: string, flags: unknown) => {
      renameSync(to, `${to}.kept`);
      writeFileSync(to, 'another');
      return real(to, flags);
    };
    assert.equal(
      with_host({ openSync: replaced }, () => store_reopen(path, STORE_WRITE, is)),
      -ESTALE,
    );
    store_fault_at('discard', 1, { what: 'fail', errno: EIO });
    assert.equal(store_remove(`${path}.kept`, is), EIO);
    assert.equal(store_remove(`${path}.kept`, is), 0);
  });
});
