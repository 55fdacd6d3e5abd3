/*
 * Shows that a store which all threads know gives back what was put into it, as a file and as
 * memory, in views that lie anywhere; that a file is found again after it was renamed, removed,
 * or after the thread that had opened it is gone, and that another file in its place is never
 * taken for it; that a thread which may have no more files open closes those that others have
 * open, and never the last one; and that every operation may fail at each of its occurrences,
 * after which nothing is open, noted or lost.  Two worker threads use one store, and die with it.
 */
import assert from 'node:assert/strict';
import {
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import { boot, type Booted } from '../boot/whole.ts';
import {
  EEXIST,
  EINVAL,
  EIO,
  EISDIR,
  ENAMETOOLONG,
  ENFILE,
  ENOENT,
  ENOMEM,
  ENOSPC,
  EOPNOTSUPP,
  EROFS,
  ESTALE,
} from '../machine/errno.ts';
import { mem, PAGE_WORDS } from '../machine/memory.ts';
import { STORE_CREATE, STORE_NEW, STORE_READ, STORE_WRITE } from '../machine/store.ts';
import { type StoreOp, store_fault_at, store_faults } from '../machine/store_fault.ts';
import { VM_STORES_MAX, vm_store, type vm_store_t } from '../h/vm_store.ts';
import {
  vm_page_alloc,
  vm_page_wire,
  vm_page_alloc_run,
  vm_page_free,
  vm_page_free_run,
} from '../page/vm_page.ts';
import { undo_begin_private, undo_end } from '../sync/undo.ts';
import {
  vm_store_anchor,
  vm_store_drop,
  vm_store_make,
  vm_store_memory,
  vm_store_open,
  vm_store_path,
  vm_store_readv,
  vm_store_reference,
  vm_store_remove,
  vm_store_size,
  vm_store_sync,
  vm_store_truncate,
  vm_store_unanchor,
  vm_store_writev,
} from './vm_store.ts';
import { stores_all, vm_store_check } from './vm_store_check.ts';

const folder = realpathSync(mkdtempSync(join(tmpdir(), 'kmem-vmstore-')));
after(() => rmSync(folder, { recursive: true, force: true }));
let files = 0;
const fresh = (): string => join(folder, `s${++files}`);
const PAGE = PAGE_WORDS * 4;
const PAGES = 8;
const bytes = (n: number, first = 1): Uint8Array =>
  Uint8Array.from({ length: n }, (_, i) => (first + i * 7) & 255);
const linux = process.platform === 'linux';
/** Descriptors of this process that lead into the folder. */
function open_there(): string[] {
  const into = (fd: string): string => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`);
    } catch {
      return ''; // the listing's own
    }
  };
  return readdirSync('/proc/self/fd')
    .map(into)
    .filter((path) => path.startsWith(folder));
}

let machine: Booted;
beforeEach(() => {
  machine = boot({ memory: '4M', cpus: 4, options: { INVARIANTS: true, WITNESS: true } });
});
afterEach(() => {
  store_faults.next = null;
  vm_store_check([]);
  assert.deepEqual(stores_all(), []);
  machine.shutdown();
  if (linux) assert.deepEqual(open_there(), []);
});
function made(s: vm_store_t | number): vm_store_t {
  assert.ok(s > 0, `errno ${-s}`);
  return s as vm_store_t;
}

/** A record of the test's leads to the store. */
function kept(s: vm_store_t): vm_store_t {
  undo_begin_private();
  vm_store_anchor(s);
  undo_end();
  return s;
}
function let_go(s: vm_store_t): vm_store_t {
  undo_begin_private();
  vm_store_unanchor(s);
  undo_end();
  return s;
}

const kinds: Record<string, () => { s: vm_store_t; done: () => void }> = {
  file() {
    const s = made(vm_store_make(fresh(), STORE_CREATE));
    assert.equal(vm_store_truncate(s, PAGES * PAGE), 0);
    return { s, done: () => vm_store_drop(s) };
  },
  memory() {
    const first = vm_page_alloc_run(PAGES, 0);
    const s = made(vm_store_memory(first, PAGES));
    return {
      s,
      done() {
        vm_store_drop(s);
        vm_page_free_run(first, PAGES);
      },
    };
  },
};
for (const [kind, make] of Object.entries(kinds)) {
  describe(kind, () => {
    test('views anywhere in the memory, shared or not, and the end', () => {
      const { s, done } = make();
      const first = vm_page_alloc_run(4, 0);
      const page = (i: number): Uint8Array =>
        mem.U8.subarray((first + i) * PAGE, (first + i + 1) * PAGE);
      for (let i = 0; i < 4; i++) page(i).set(bytes(PAGE, i));
      assert.equal(vm_store_writev(s, PAGE, [page(2), page(0), page(3)]), 0);
      const into = [new Uint8Array(PAGE), page(1), new Uint8Array(PAGE)];
      assert.equal(vm_store_readv(s, PAGE, into), 3 * PAGE);
      for (const [i, of] of [2, 0, 3].entries())
        assert.deepEqual([...into[i]], [...bytes(PAGE, of)]);
      assert.equal(vm_store_size(s), PAGES * PAGE);
      assert.equal(vm_store_readv(s, (PAGES - 1) * PAGE, into), PAGE, 'no more than there is');
      assert.equal(vm_store_readv(s, PAGES * PAGE, into), 0);
      assert.equal(vm_store_sync(s), 0);
      assert.equal(vm_store_open(s), 0);
      assert.equal(vm_store_readv(s, -1, into), -EINVAL);
      assert.equal(vm_store_writev(s, 0.5, into), EINVAL);
      const many = Array.from({ length: 1025 }, () => new Uint8Array(1));
      assert.equal(vm_store_readv(s, 0, many), -EINVAL);
      assert.equal(vm_store_writev(s, 0, many), EINVAL);
      assert.equal(vm_store_writev(s, 0, many.slice(1)), 0);
      vm_page_free_run(first, 4);
      done();
    });
    test('ends with its last reference', () => {
      const { s, done } = make();
      vm_store_reference(s);
      vm_store_drop(s);
      assert.equal(vm_store_size(s), PAGES * PAGE);
      vm_store_check([]); // the reference is in hand
      done();
      assert.throws(() => vm_store_check([s]), /a reference to no store/);
    });
    test('every operation fails at each of its occurrences, and nothing stays', () => {
      const ops: StoreOp[] = ['open', 'identity', 'size', 'read', 'write', 'truncate', 'sync'];
      for (const op of ops) {
        for (let n = 1; n < 4; n++) faulty(op, n);
      }
    });
    function faulty(op: StoreOp, n: number): void {
      store_fault_at(op, n, { what: 'fail', errno: EIO });
      const path = fresh();
      const pages = kind === 'memory' ? vm_page_alloc_run(1, 0) : 0;
      const s = kind === 'memory' ? vm_store_memory(pages, 1) : vm_store_make(path, STORE_NEW);
      const seen: number[] = [];
      if (s < 0) assert.equal(s, -EIO);
      else {
        const st = s as vm_store_t;
        for (let round = 0; round < 3; round++) {
          seen.push(vm_store_truncate(st, PAGE), vm_store_writev(st, 0, [bytes(PAGE)]));
          const into = new Uint8Array(PAGE);
          const got = vm_store_readv(st, 0, [into]);
          seen.push(got < 0 ? -got : 0, Math.max(0, -vm_store_size(st)), vm_store_sync(st));
          if (got === PAGE && seen.at(-4) === 0) assert.equal(into[5], bytes(PAGE)[5]);
        }
        assert.ok(
          seen.filter((e) => e !== 0).every((e) => e === EIO),
          seen.join(),
        );
        vm_store_drop(st);
      }
      const failures = seen.filter((e) => e !== 0).length + (s < 0 ? 1 : 0);
      const at_make = op === 'open' || op === 'identity';
      const met = kind === 'memory' ? !at_make : !at_make || n === 1;
      assert.equal(failures, met ? 1 : 0, `${op} ${n}`);
      if (s < 0) assert.equal(existsSync(path), false, 'what was made is gone');
      store_faults.next = null;
      if (pages !== 0) vm_page_free_run(pages, 1);
      vm_store_check([]);
    }
  });
}

describe('a file', () => {
  test('that is none, or not to be had', () => {
    const path = fresh();
    assert.equal(vm_store_make('', STORE_READ), -EINVAL);
    assert.equal(vm_store_make('a\0b', STORE_READ), -EINVAL);
    assert.equal(vm_store_make(path, STORE_READ), -ENOENT);
    assert.equal(vm_store_make(path, 7), -EINVAL);
    assert.equal(vm_store_make(folder, STORE_READ), -EISDIR);
    assert.equal(vm_store_make(folder, STORE_WRITE), -EISDIR);
    if (linux) assert.equal(vm_store_make('/dev/null', STORE_WRITE), -EINVAL);
    assert.equal(vm_store_make(join(folder, 'x'.repeat(1024)), STORE_CREATE), -ENAMETOOLONG);
    writeFileSync(path, bytes(100));
    assert.equal(vm_store_make(path, STORE_NEW), -EEXIST);
    const s = made(vm_store_make(path, STORE_READ));
    assert.equal(vm_store_writev(s, 0, [bytes(3)]), EROFS);
    assert.equal(vm_store_truncate(s, 3), EROFS);
    assert.equal(vm_store_size(s), 100);
    vm_store_drop(s);
    assert.equal(readFileSync(path).length, 100);
  });
  test('with the longest path, which is known from the root on', () => {
    let long = folder;
    while (long.length < 1023 - 202) {
      long = join(long, 'd'.repeat(199));
      mkdirSync(long);
    }
    const path = join(long, 'f'.repeat(1023 - long.length - 1));
    assert.equal(path.length, 1023);
    const s = made(vm_store_make(path, STORE_NEW));
    assert.equal(vm_store_path(s), path);
    assert.equal(vm_store_remove(s), 0);
    vm_store_drop(s);
    assert.equal(existsSync(path), false);
    assert.equal(vm_store_make(`${path}f`, STORE_NEW), -ENAMETOOLONG);
    const here = process.cwd();
    process.chdir(folder);
    const near = made(vm_store_make('near', STORE_NEW));
    process.chdir(here);
    assert.equal(vm_store_path(near), join(folder, 'near'));
    vm_store_drop(near);
  });
  test('is removed only where it is itself', () => {
    const path = fresh();
    const s = made(vm_store_make(path, STORE_NEW));
    renameSync(path, `${path}.kept`);
    writeFileSync(path, 'another');
    assert.equal(vm_store_remove(s), ESTALE);
    assert.equal(existsSync(path), true);
    vm_store_drop(s);
    assert.equal(existsSync(`${path}.kept`), true, 'a store that ends leaves its file');
  });
  test('by two names is two stores over one file', () => {
    const path = fresh();
    const a = made(vm_store_make(path, STORE_NEW));
    linkSync(path, `${path}.hard`);
    symlinkSync(path, `${path}.soft`);
    const b = made(vm_store_make(`${path}.hard`, STORE_WRITE));
    const c = made(vm_store_make(`${path}.soft`, STORE_READ));
    assert.equal(vm_store_writev(a, 10, [bytes(5)]), 0);
    const into = new Uint8Array(5);
    for (const s of [b, c]) {
      assert.equal(vm_store_readv(s, 10, [into]), 5);
      assert.deepEqual(into, bytes(5));
      assert.equal(vm_store.ino[s], vm_store.ino[a]);
    }
    for (const s of [a, b, c]) vm_store_drop(s);
  });
  test('of more than 4 GiB', () => {
    const path = fresh();
    const s = made(vm_store_make(path, STORE_NEW));
    const at = 5 * 2 ** 30;
    assert.equal(vm_store_writev(s, at, [bytes(10), bytes(20, 3)]), 0);
    const into = [new Uint8Array(10), new Uint8Array(20)];
    assert.equal(vm_store_readv(s, at, into), 30);
    assert.deepEqual(into, [bytes(10), bytes(20, 3)]);
    assert.equal(vm_store_size(s), at + 30);
    vm_store_drop(s);
    unlinkSync(path);
  });
  test('shrinks and is full', { skip: !linux }, () => {
    const s = made(vm_store_make(fresh(), STORE_NEW));
    assert.equal(vm_store_truncate(s, 3 * PAGE), 0);
    store_fault_at('write', 1, { what: 'full' });
    assert.equal(vm_store_writev(s, 0, [bytes(PAGE), bytes(PAGE, 9)]), ENOSPC);
    store_fault_at('truncate', 1, { what: 'full' });
    assert.equal(vm_store_truncate(s, 9 * PAGE), ENOSPC);
    assert.equal(vm_store_truncate(s, 100), 0);
    assert.equal(vm_store_readv(s, 0, [new Uint8Array(PAGE)]), 100);
    vm_store_drop(s);
  });
});
test('memory is as long as it is', () => {
  const { s, done } = kinds.memory();
  assert.equal(vm_store_truncate(s, PAGES * PAGE), 0);
  assert.equal(vm_store_truncate(s, PAGES * PAGE + 1), ENOSPC);
  assert.equal(vm_store_truncate(s, 1), EOPNOTSUPP);
  assert.equal(vm_store_remove(s), EINVAL);
  assert.equal(vm_store_path(s), '');
  done();
});
test('as many as there may be, and no more', () => {
  const first = vm_page_alloc_run(1, 0);
  const all: vm_store_t[] = [];
  const one = (): number => vm_store_memory(first, 1);
  let s = one();
  for (; s > 0; s = one()) all.push(kept(s as vm_store_t));
  assert.equal(s, -ENFILE);
  assert.equal(all.length, VM_STORES_MAX);
  const ids = new Set(all.map((x) => vm_store.id[x]));
  vm_store_check(all);
  for (let i = 0; i < 100; i++) {
    vm_store_drop(let_go(all.splice((i * 37) % all.length, 1)[0]));
    const next = kept(made(one()));
    assert.ok(!ids.has(vm_store.id[next]), 'a number is given once');
    ids.add(vm_store.id[next]);
    all.push(next);
  }
  vm_store_check(all);
  for (const x of all) vm_store_drop(let_go(x));
  vm_page_free_run(first, 1);
});
test('no memory for a record', () => {
  const pages: number[] = [];
  for (let m = vm_page_alloc(-1, 0); m !== 0; m = vm_page_alloc(-1, 0)) {
    vm_page_wire(m, 1);
    pages.push(m);
  }
  const all: vm_store_t[] = [];
  let s = vm_store_memory(1, 1);
  for (; s > 0; s = vm_store_memory(1, 1)) all.push(kept(s as vm_store_t));
  assert.equal(s, -ENOMEM);
  const path = fresh();
  assert.equal(vm_store_make(path, STORE_NEW), -ENOMEM);
  assert.equal(existsSync(path), false, 'what was made is gone');
  vm_store_check(all);
  for (const x of all) vm_store_drop(let_go(x));
  for (const m of pages) vm_page_free(m);
});
