/*
 * Shows: files become swap areas and end as such, each kind of bad file is refused with its errno
 * and left as it was; whatever call of the host fails, what was made is gone, and nothing is
 * left in a hand; the kernel's own file is made when it is needed, and goes.
 * By what means: files in a folder of the test; every Nth operation of a store fails; processes
 * that end without a word.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { type Booted, boot } from '../boot/whole.ts';
import {
  EACCES,
  EBUSY,
  EFBIG,
  EINVAL,
  EIO,
  EISDIR,
  EMFILE,
  ENAMETOOLONG,
  ENOENT,
  ENOMEM,
  ENOSPC,
  ENOTDIR,
  ENXIO,
} from '../machine/errno.ts';
import { host_process, host_process_gone } from '../machine/host_process.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { type StoreFault, type StoreOp, store_faults } from '../machine/store_fault.ts';
import { sysctl_decls, sysctl_set } from '../machine/sysctl_decl.ts';
import {
  SWAP_AREA_MAX,
  SWAP_AREAS,
  SWAP_FULL,
  SWAP_LABEL,
  SWAP_ROOMY,
  swap_area,
} from '../h/swap.ts';
import { page_failpoint, vm_page_free_count } from '../page/vm_page.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { swap_off } from '../map/vm_swapoff.ts';
import { swap_area_of, swap_areas, swap_check, swap_full, swap_stores } from './swap_area.ts';
import {
  book_drop,
  book_make,
  book_read,
  book_slots,
  book_write,
  test_pages,
} from './swap_book.test.lib.ts';
import { swap_on, swap_prepare } from './swap_on.ts';
import { vm_store_path } from './vm_store.ts';
import { vm_store_check } from './vm_store_check.ts';

let booted: Booted | null = null;
let folder = '';
const tmp = process.env.TMPDIR;
const at = (name: string): string => join(folder, name);
const MEG = 2 ** 20;

function begin(options: Parameters<typeof boot>[0] = {}): void {
  booted = boot({ cpus: 2, fresh: true, memory: '8M', options: { INVARIANTS: true }, ...options });
}
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kmem-swap-test-'));
});
afterEach(() => {
  store_faults.next = null;
  page_failpoint.refuse = null;
  booted?.shutdown();
  booted = null;
  process.env.TMPDIR = tmp;
  if (tmp === undefined) delete process.env.TMPDIR;
  rmSync(folder, { recursive: true, force: true });
});
/** Nothing is lost, in maps or stores. */
function proved(held: number[] = []): void {
  swap_check(held);
  vm_store_check(swap_stores());
}
const on = (name: string, size = 0, priority = 0): number => swap_on(at(name), { size, priority });

test('a file is made, used, and stays; it can be used again', () => {
  begin();
  assert.equal(on('a', MEG), 0);
  const { size, mode } = statSync(at('a'));
  assert.deepEqual([size, mode & 0o777], [MEG, 0o600]);
  const b = book_make();
  const buffer = test_pages(16);
  assert.equal(book_write(b, 0, 200, buffer), 0);
  for (let i = 0; i < 200; i++) book_read(b, i, buffer);
  proved(book_slots(b));
  for (let i = 0; i < 200; i++) book_drop(b, i);
  assert.equal(swap_off(at('a')), 0);
  proved();
  assert.equal(statSync(at('a')).size, MEG);
  assert.equal(on('a'), 0);
  proved();
  assert.equal(swap_off(at('a')), 0);
  assert.equal(on('a', MEG / 2), 0);
  assert.equal(statSync(at('a')).size, MEG / 2);
  assert.equal(swap_off(at('a')), 0);
  assert.equal(on('a', 2 * MEG), 0);
  assert.equal(statSync(at('a')).size, 2 * MEG);
  proved();
});
test('the file has room for all of it when it is made', () => {
  begin();
  assert.equal(on('a', MEG), 0);
  assert.ok(statSync(at('a')).blocks * 512 >= MEG);
});
test('what is no swap file is refused and left as it was', () => {
  begin();
  const refused = (name: string, size: number, errno: number): void => {
    assert.equal(on(name, size), -errno, `${name}, ${size}`);
    proved();
  };
  mkdirSync(at('folder'));
  refused('folder', 0, EISDIR);
  refused('folder', MEG, EISDIR);
  spawnSync('mkfifo', [at('fifo')]);
  refused('fifo', 0, EINVAL);
  refused('fifo', MEG, EINVAL);
  refused('none', 0, ENOENT);
  refused('none/below', MEG, ENOENT);
  writeFileSync(at('text'), 'what somebody wrote');
  refused('text/below', MEG, ENOTDIR);
  refused('text', 0, EINVAL);
  refused('text', MEG, EINVAL);
  const large = Buffer.alloc(3 * PAGE_SIZE, 7);
  writeFileSync(at('large'), large);
  refused('large', 0, EINVAL);
  refused('large', MEG, EINVAL);
  writeFileSync(at('empty'), '');
  refused('empty', 0, ENXIO);
  refused('small', SWAP_LABEL * PAGE_SIZE, ENXIO);
  refused('huge', (SWAP_AREA_MAX + 1) * PAGE_SIZE, EFBIG);
  refused('x'.repeat(300), MEG, ENAMETOOLONG);
  refused('', MEG, EISDIR);
  assert.equal(readFileSync(at('text'), 'latin1'), 'what somebody wrote');
  assert.deepEqual(readFileSync(at('large')), large);
  assert.deepEqual(readdirSync(folder).sort(), ['empty', 'fifo', 'folder', 'large', 'text']);
  // An empty one is nobody's.
  assert.equal(on('empty', MEG), 0);
});
test('no permission', { skip: process.getuid?.() === 0 }, () => {
  begin();
  writeFileSync(at('mine'), '');
  chmodSync(at('mine'), 0o400);
  assert.equal(on('mine', MEG), -EACCES);
  chmodSync(folder, 0o500);
  assert.equal(on('new', MEG), -EACCES);
  chmodSync(folder, 0o700);
  proved();
});
test('a file is one area, by whatever path', () => {
  begin();
  assert.equal(on('a', MEG), 0);
  linkSync(at('a'), at('hard'));
  symlinkSync(at('a'), at('soft'));
  for (const name of ['a', 'hard', 'soft']) {
    assert.equal(on(name), -EBUSY);
    assert.equal(on(name, 2 * MEG), -EBUSY);
  }
  assert.equal(statSync(at('a')).size, MEG);
  proved();
});
test('sixteen areas, and no more', () => {
  begin();
  for (let i = 0; i < SWAP_AREAS; i++) assert.equal(on(`f${i}`, 4 * PAGE_SIZE), i);
  assert.equal(on('more', MEG), -EMFILE);
  assert.ok(!existsSync(at('more')));
  proved();
  assert.equal(swap_off(at('f3')), 0);
  assert.equal(on('more', MEG), 3);
  proved();
});
test('a file that another process uses is refused; when that is gone, it is used', () => {
  begin();
  assert.equal(on('a', MEG), 0);
  assert.equal(swap_off(at('a')), 0);
  const text = readFileSync(at('a'), 'latin1');
  const label = (of: string): void => {
    const page = Buffer.alloc(PAGE_SIZE);
    page.write(text.slice(0, text.indexOf('of nobody')) + `of ${of}\n`);
    writeFileSync(at('a'), page, { flag: 'r+' });
  };
  label(`${host_process()} 99`);
  assert.equal(on('a'), -EBUSY);
  const { pid } = spawnSync(process.execPath, ['-e', '0']);
  const space = host_process().split('-')[2];
  assert.ok(host_process_gone(`${pid}-5-${space}`));
  assert.ok(!host_process_gone(`${pid}-5-1${space}`), 'of another space nothing is known');
  assert.ok(!host_process_gone(host_process()));
  label(`${pid}-5-${space} 99`);
  assert.equal(on('a'), 0);
  proved();
});
test('a machine that is shut down leaves its files to the next', () => {
  begin();
  assert.equal(on('a', MEG), 0);
  booted?.shutdown();
  begin();
  assert.equal(on('a'), 0);
  proved();
});
test('a file that became shorter: reading says so, and so does the next use of it', () => {
  begin();
  assert.equal(on('a', MEG), 0);
  const b = book_make();
  const buffer = test_pages(16);
  assert.equal(book_write(b, 0, 30, buffer), 0);
  truncateSync(at('a'), 4 * PAGE_SIZE);
  book_read(b, 1, buffer);
  assert.throws(() => book_read(b, 20, buffer), new RegExp(`errno ${EIO}`));
  proved(book_slots(b));
});

/** Operations on a file that swap_on does, by kind. */
function operations(run: () => void): StoreOp[] {
  const ops: StoreOp[] = [];
  store_faults.next = (op) => {
    ops.push(op);
    return null;
  };
  run();
  store_faults.next = null;
  return ops;
}
const FAULTS: readonly [string, StoreFault][] = [
  ['fails', { what: 'fail', errno: EIO }],
  ['finds no room', { what: 'full' }],
  ['is short', { what: 'short', bytes: 1000 }],
];
for (const [what, fault] of FAULTS) {
  for (const there of [false, true]) {
    const sort = there ? 'a file that is there' : 'a new file';
    test(`${sort}: each operation in turn ${what}`, () => {
      begin();
      const size = 3 * MEG;
      const prepare = (): void => {
        rmSync(at('a'), { force: true });
        if (!there) return;
        assert.equal(on('a', MEG), 0);
        assert.equal(swap_off(at('a')), 0);
      };
      prepare();
      const ops = operations(() => assert.equal(on('a', size), 0));
      assert.equal(swap_off(at('a')), 0);
      let refused = 0;
      for (let n = 0; n < ops.length; n++) {
        prepare();
        let seen = 0;
        store_faults.next = () => (seen++ === n ? fault : null);
        const i = on('a', size);
        store_faults.next = null;
        proved();
        if (i >= 0) {
          assert.equal(swap_off(at('a')), 0);
          continue;
        }
        refused++;
        assert.equal(-i, fault.what === 'fail' ? EIO : ENOSPC, `operation ${n}, ${ops[n]}`);
        // What was there is a swap file still, as long as it was; what was not there is not.
        if (there) assert.equal(statSync(at('a')).size, MEG);
        else assert.ok(!existsSync(at('a')), `operation ${n}, ${ops[n]}`);
      }
      if (fault.what === 'short') assert.equal(refused, 0);
      else assert.ok(refused >= 3, `${refused} of ${ops.length}`);
    });
  }
}

test('no memory, for each request in turn: refused, and nothing is left', () => {
  begin({ options: { INVARIANTS: true, FAILPOINTS: true } });
  const free = (): number => vm_page_free_count() + uma_reclaim(true);
  let refused = 0;
  for (let n = 0; ; n++) {
    uma_reclaim(true); // what the zones keep would do
    let seen = 0;
    page_failpoint.refuse = () => seen++ >= n;
    const i = on('a', MEG);
    page_failpoint.refuse = null;
    proved();
    if (i >= 0) break;
    assert.equal(i, -ENOMEM);
    assert.ok(!existsSync(at('a')));
    refused++;
  }
  assert.ok(refused >= 1, `${refused} requests`);
  assert.equal(swap_off(at('a')), 0);
  const before = free();
  assert.equal(on('a', MEG), 0);
  assert.equal(swap_off(at('a')), 0);
  assert.equal(free(), before);
});

// --- the kernel's own file ----------------------------------------------------------------

const set = (name: string, value: number): void => {
  const decl = sysctl_decls.find((d) => d.name === name);
  assert.ok(decl);
  sysctl_set(decl, value);
};
/** The files of the kernel in the folder of this user below the test's. */
function own(): string[] {
  const name = readdirSync(folder).find((f) => f.startsWith('kmem-'));
  return name === undefined ? [] : readdirSync(at(name));
}
test('the kernel makes a file of its own at first need, and removes it', () => {
  process.env.TMPDIR = folder;
  begin();
  assert.deepEqual([own(), swap_full()], [[], SWAP_ROOMY]);
  assert.ok(swap_prepare());
  const a = swap_area_of(0);
  assert.equal(swap_area.end[a] - swap_area.first[a], (4 * 8 * MEG) / PAGE_SIZE);
  const path = vm_store_path(swap_area.store[a]);
  const { mode, blocks } = statSync(path);
  assert.equal(mode & 0o777, 0o600);
  assert.ok(blocks * 512 < MEG, 'it takes room page by page');
  assert.equal(own().length, 1);
  assert.ok(swap_prepare());
  assert.equal(swap_areas().length, 1);
  const b = book_make();
  const buffer = test_pages(16);
  assert.equal(book_write(b, 0, 20, buffer), 0);
  for (let i = 0; i < 20; i++) book_read(b, i, buffer);
  proved(book_slots(b));
  booted?.shutdown();
  assert.deepEqual(own(), []);
});
test('with swapoff it goes, too, and is not made again', () => {
  process.env.TMPDIR = folder;
  begin();
  assert.ok(swap_prepare());
  assert.equal(swap_off(vm_store_path(swap_stores()[0])), 0);
  assert.deepEqual([own(), swap_full()], [[], SWAP_FULL]);
  assert.ok(!swap_prepare());
  proved();
});
test('none is made where there is an area, or it is not wanted, or it cannot be', () => {
  process.env.TMPDIR = folder;
  begin();
  assert.equal(on('a', MEG), 0);
  assert.ok(swap_prepare());
  assert.deepEqual(own(), []);
  booted?.shutdown();
  begin({ set: { 'vm.swap_default': 0 } });
  assert.equal(swap_full(), SWAP_FULL);
  assert.ok(!swap_prepare());
  booted?.shutdown();
  process.env.TMPDIR = at('a'); // no folder
  begin();
  assert.ok(!swap_prepare());
  assert.equal(swap_full(), SWAP_FULL);
  proved();
});
test('vm.swap_default says how long it is', () => {
  process.env.TMPDIR = folder;
  begin();
  set('vm.swap_default', 100);
  assert.ok(swap_prepare());
  const a = swap_area_of(0);
  assert.equal(swap_area.end[a] - swap_area.first[a], 100);
});
test('a folder that is open to others is not used', () => {
  process.env.TMPDIR = folder;
  const name = at(`kmem-${process.getuid?.()}`);
  mkdirSync(name);
  chmodSync(name, 0o777);
  begin();
  assert.ok(!swap_prepare());
  assert.deepEqual(readdirSync(name), []);
});
test('each operation in turn fails while it is made: none is there, and nothing is left', () => {
  process.env.TMPDIR = folder;
  begin();
  const ops = operations(() => assert.ok(swap_prepare()));
  for (let n = 0; n < ops.length; n++) {
    booted?.shutdown();
    begin();
    let seen = 0;
    store_faults.next = () => (seen++ === n ? { what: 'fail', errno: ENOSPC } : null);
    const there = swap_prepare();
    store_faults.next = null;
    assert.equal(there ? 1 : 0, swap_areas().length);
    assert.equal(own().length, swap_areas().length, `operation ${n}, ${ops[n]}`);
    proved();
  }
});
test('what processes left that are gone is removed at boot, and before a file is made', () => {
  process.env.TMPDIR = folder;
  const file = (name: string): string => JSON.stringify(new URL(name, import.meta.url).href);
  const script = `
    const { boot } = await import(${file('../boot/whole.ts')});
    const { swap_prepare } = await import(${file('./swap_on.ts')});
    boot({ memory: '4M', cpus: 1 });
    if (!swap_prepare()) throw new Error('none was made');
    process.kill(process.pid, 'SIGKILL');
  `;
  const run = (text: string) =>
    spawnSync(process.execPath, ['--input-type=module', '-e', text], { encoding: 'latin1' });
  assert.equal(run(script).signal, 'SIGKILL');
  assert.equal(own().length, 1);
  const mine = (): boolean[] => own().map((name) => name.startsWith(`swap-${process.pid}-`));
  begin();
  assert.ok(swap_prepare());
  assert.deepEqual(mine(), [true], 'the other one is gone');
  assert.equal(run(script).signal, 'SIGKILL');
  assert.equal(own().length, 2);
  const other = `
    const { boot } = await import(${file('../boot/whole.ts')});
    boot({ memory: '4M', cpus: 1 }).shutdown();
  `;
  const again = run(other);
  assert.equal(again.status, 0, again.stderr);
  assert.deepEqual(mine(), [true], 'what lives stays');
});
