/*
 * Shows: whatever operation on the file of a region fails, is short, is slow or finds no room, the
 * call that needed it says so once, no byte is lost, nothing stays busy, and the same call made
 * again does what it was to do.
 * By what means: one script of calls, played for every kind of operation and fault with the Nth
 * operation at fault, for every N that it has; memory refused at every place; files compared with a
 * plain array; the walkers.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { EIO } from '../sys/machine/errno.ts';
import { type StoreFault, type StoreOp, store_faults } from '../sys/machine/store_fault.ts';
import { vm_page_busy_count } from '../sys/page/vm_page_busy.ts';
import { page_failpoint } from '../sys/page/vm_page.ts';
import { KmemError, type Machine, type Region, type Space, withMachine } from './index.ts';
import { spaces_gone } from './space.test.lib.ts';

const FOLDER = mkdtempSync(join(tmpdir(), 'kmem-faults-'));
after(() => rmSync(FOLDER, { recursive: true, force: true }));
afterEach(() => {
  store_faults.next = null;
  page_failpoint.refuse = null;
});
const PAGE = 4096;
const PAGES = 40;
const PATH = join(FOLDER, 'f');
const OPTIONS = { INVARIANTS: true, WITNESS: true, FAILPOINTS: true };

/** What a script has come to: the region, and what its file is to have. */
interface Play {
  readonly space: Space;
  m: Region;
  want: Uint8Array;
}
type Step = (p: Play) => void;
const map: Step = (p) => {
  p.m = p.space.mmap({ file: PATH, write: true });
};
const look =
  (...pages: number[]): Step =>
  ({ m, want }) => {
    for (const i of pages) assert.equal(m.getU8(i * PAGE + 9), want[i * PAGE + 9], `page ${i}`);
  };
const store =
  (value: number, ...pages: number[]): Step =>
  ({ m, want }) => {
    for (const i of pages) {
      m.setU8(i * PAGE + 9, value);
      want[i * PAGE + 9] = value;
    }
  };
const sync =
  (invalidate: boolean): Step =>
  ({ m, want }) => {
    m.sync({ invalidate });
    assert.ok(readFileSync(PATH).equals(want), 'the file has everything');
  };
const cut =
  (n: number): Step =>
  (p) => {
    p.m.truncate(n);
    const longer = new Uint8Array(n);
    longer.set(p.want.subarray(0, n));
    p.want = longer;
  };
const window: Step = ({ m, want }) => {
  using w = m.window(3 * PAGE, 4 * PAGE, { write: true });
  w.u8[5 * 700] = 99;
  want[3 * PAGE + 5 * 700] = 99;
};
const unmap: Step = ({ m }) => m.unmap();
/** The calls of the script; each may be made again after it failed. */
const SCRIPT: readonly Step[] = [
  map,
  look(0, 17, 39),
  store(1, 0, 1, 2, 20, 39),
  sync(false),
  window,
  look(3, 4),
  sync(true),
  look(1, 20),
  store(2, 5, 6, 30),
  cut(25 * PAGE + 100),
  look(20, 25),
  store(3, 24),
  cut(33 * PAGE),
  look(30),
  store(4, 31, 0),
  sync(false),
  store(5, 7, 8, 9, 32),
];

/** Plays the script; a call that fails as it may is made again. Returns the errors. */
function play(machine: Machine): KmemError[] {
  const errors: KmemError[] = [];
  const bytes = new Uint8Array(PAGES * PAGE).map((_, i) => i * 7 + (i >> 12));
  writeFileSync(PATH, bytes);
  const p: Play = { space: machine.space('s'), m: null as never, want: bytes };
  const tried = (step: Step): boolean => {
    try {
      step(p);
      return true;
    } catch (e) {
      if (!(e instanceof KmemError)) throw e;
      errors.push(e);
      return false;
    }
  };
  for (const step of SCRIPT) if (!tried(step)) step(p);
  if (!tried(unmap)) {
    map(p); // what could not be written is there still
    look(7, 8, 9, 32)(p);
    unmap(p);
  }
  assert.ok(readFileSync(PATH).equals(p.want), 'the file has everything at the end');
  assert.equal(machine.sysctl('vm.vnodes'), 0);
  assert.equal(vm_page_busy_count(), 0);
  return errors;
}

const KINDS: [StoreFault, (op: StoreOp) => string | null][] = [
  [{ what: 'fail', errno: EIO }, () => 'EIO'],
  [{ what: 'full' }, (op) => (op === 'write' || op === 'truncate' ? 'ENOSPC' : null)],
  [{ what: 'short', bytes: 1000 }, () => null],
  [{ what: 'slow', ms: 1 }, () => null],
];
for (const op of ['open', 'identity', 'size', 'read', 'write', 'truncate', 'sync'] as const) {
  test(`every ${op} of a script fails, is short, is slow, finds no room`, async () => {
    await withMachine({ memory: '8M', options: OPTIONS }, (machine) => {
      let most = 0;
      for (const [fault, code_of] of KINDS) {
        for (let n = 1; ; n++) {
          let seen = 0;
          store_faults.next = (asked) => (asked === op && ++seen === n ? fault : null);
          const errors = play(machine);
          store_faults.next = null;
          if (seen < n) break;
          most = Math.max(most, n);
          const code = code_of(op);
          const codes = errors.map((e) => e.code);
          if (code === null) assert.deepEqual(codes, [], `${fault.what} at ${op} ${n}`);
          else assert.deepEqual(codes, [code], `${fault.what} at ${op} ${n}`);
        }
      }
      assert.ok(most > 0, `the script has no ${op}`);
      spaces_gone(machine);
    });
  });
}
test('a space that is destroyed while its file takes nothing: told, and kept', async () => {
  await withMachine({ memory: '8M', options: OPTIONS }, (machine) => {
    writeFileSync(PATH, new Uint8Array(4 * PAGE));
    const space = machine.space('s');
    const m = space.mmap({ file: PATH, write: true });
    for (const i of [0, 3]) m.setU8(i * PAGE, 7);
    store_faults.next = (op) => (op === 'write' ? { what: 'fail', errno: EIO } : null);
    assert.throws(() => m.sync(), /EIO: sync/);
    assert.throws(() => space.destroy(), /EIO: destroy: space 's' is gone; pages that a file/);
    assert.equal(machine.sysctl('vm.vnodes'), 1);
    const again = machine.space('t').mmap({ file: PATH });
    assert.equal(again.getU8(3 * PAGE), 7);
    store_faults.next = null;
    assert.throws(() => again.sync(), /EIO: sync/, 'it is told once what went wrong meanwhile');
    again.sync();
    assert.deepEqual(
      [...readFileSync(PATH)].filter((b) => b !== 0),
      [7, 7],
    );
    spaces_gone(machine);
  });
});
test('no memory at every place: an error, or none, and nothing lost', async () => {
  await withMachine({ memory: '8M', options: OPTIONS }, (machine) => {
    let refused = 0;
    for (let n = 0; n < 400; n++) {
      let left = n;
      let hit = false;
      page_failpoint.refuse = () => {
        hit = left-- === 0;
        return hit;
      };
      const errors = play(machine);
      page_failpoint.refuse = null;
      for (const { code } of errors) assert.equal(code, 'ENOMEM');
      if (left >= 0) break;
      refused++;
    }
    assert.ok(refused > 3);
    spaces_gone(machine);
  });
});
