/*
 * Shows: a region that shows a file has what the file has, and the file gets what was stored; all
 * paths to a file and all threads see the same pages; private copies are apart; a file that is
 * made shorter is so for all; what cannot be is one clear error before anything changes.
 * By what means: files in a folder of the test, compared with plain reads and writes of them; two
 * workers; windows that stay open; the walkers afterwards.
 */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import {
  appendFileSync,
  chmodSync,
  linkSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import { boot, type Machine, type Region, withMachine } from './index.ts';
import { DONE } from './region_file.test.lib.ts';
import { fails, spaces_gone } from './space.test.lib.ts';

const WORKER = new URL('./region_file.test.worker.ts', import.meta.url);
const FOLDER = mkdtempSync(join(tmpdir(), 'kmem-files-'));
after(() => rmSync(FOLDER, { recursive: true, force: true }));
const PAGE = 4096;
const MEMORY = { memory: '8M', cpus: 4, options: { INVARIANTS: true, WITNESS: true } } as const;

let files = 0;
/** A new file with contents of its own, each byte of which says where it is. */
function file(bytes: number): string {
  files++;
  const path = join(FOLDER, `f${files}`);
  const part = (_: number, i: number): number => (i * 7 + (i >> 8) * 13 + files) & 255;
  writeFileSync(path, new Uint8Array(bytes).map(part));
  return path;
}
function all(m: Region, n: number): Buffer {
  return Buffer.from(m.read(0, new Uint8Array(n)));
}
function words_of(path: string): Uint32Array {
  return new Uint32Array(Uint8Array.from(readFileSync(path)).buffer);
}
async function up(run: (machine: Machine) => void | Promise<void>): Promise<void> {
  await withMachine(MEMORY, async (machine) => {
    await run(machine);
    spaces_gone(machine);
  });
}

describe('reading', () => {
  test('every byte, at every length around pages and clusters; zeros behind the end', () =>
    up((machine) => {
      const space = machine.space('s');
      for (const n of [1, 511, 512, 4095, 4096, 4097, 65_535, 65_536, 65_537, 100_000]) {
        const path = file(n);
        const m = space.mmap({ file: path });
        assert.equal(m.fileSize, n);
        assert.equal(m.length, Math.ceil(n / PAGE) * PAGE);
        const is = all(m, m.length);
        assert.ok(is.subarray(0, n).equals(readFileSync(path)), `${n} bytes`);
        assert.ok(is.subarray(n).every((b) => b === 0));
        m.unmap();
      }
      assert.equal(machine.sysctl('vm.vnodes'), 0);
    }));
  test('from an offset on, and a part', () =>
    up((machine) => {
      const path = file(100_000);
      const m = machine.space('s').mmap({ file: path, offset: 8 * PAGE, length: 3 * PAGE });
      assert.ok(all(m, m.length).equals(readFileSync(path).subarray(8 * PAGE, 11 * PAGE)));
      fails(() => m.getU8(3 * PAGE), 'EFAULT', /beyond/);
    }));
  test('holes are zeros', () =>
    up((machine) => {
      const path = file(10);
      truncateSync(path, 40 * PAGE);
      appendFileSync(path, 'end');
      const m = machine.space('s').mmap({ file: path });
      assert.ok(all(m, 40 * PAGE + 3).equals(readFileSync(path)));
    }));
  test('a file that was renamed, and removed, is there as long as it is mapped', () =>
    up((machine) => {
      const path = file(20 * PAGE);
      const was = readFileSync(path);
      const m = machine.space('s').mmap({ file: path, write: true });
      renameSync(path, `${path}.other`);
      unlinkSync(`${path}.other`);
      writeFileSync(path, 'another one');
      assert.ok(all(m, 20 * PAGE).equals(was));
      m.setU8(5, 77);
      m.sync({ invalidate: true });
      assert.equal(m.getU8(5), 77);
      const other = machine.space('s').mmap({ file: path });
      assert.equal(String(all(other, 11)), 'another one');
    }));
});

describe('one file', () => {
  test('by another path, a link, a hard link: the same pages, and one vnode', () =>
    up((machine) => {
      const path = file(3 * PAGE);
      const paths = [path, join(FOLDER, '.', '..', FOLDER.split('/').at(-1) as string, 'f')];
      paths[1] = `${paths[1]}${files}`;
      paths.push(`${path}.soft`, `${path}.hard`);
      symlinkSync(path, paths[2]);
      linkSync(path, paths[3]);
      const space = machine.space('s');
      const ms = paths.map((at) => space.mmap({ file: at, write: true }));
      assert.equal(machine.sysctl('vm.vnodes'), 1);
      for (const [i, m] of ms.entries()) {
        m.setU32(i * 4, i + 1000);
        for (const other of ms) assert.equal(other.getU32(i * 4), i + 1000);
      }
      ms[0].sync();
      assert.deepEqual([...words_of(path).subarray(0, 4)], [1000, 1001, 1002, 1003]);
      const reader = machine.space('t').mmap({ file: path });
      ms[1].setU8(5000, 9);
      assert.equal(reader.getU8(5000), 9, 'who only reads sees what was stored a moment ago');
      fails(() => reader.setU8(0, 1), 'EFAULT', /written/);
      fails(() => reader.protect('rw'), 'EFAULT');
    }));
  test('two workers write different words of the same pages, and see the words of the other', () =>
    up(async (machine) => {
      const path = file(64 * PAGE);
      const twin = `${path}.twin`;
      linkSync(path, twin);
      const workers = [path, twin].map((at, id) =>
        machine.worker<Worker>(WORKER, { workerData: { job: 'words', path: at, id } }),
      );
      const over = workers.map((w) => once(w, 'exit')); // one may end before the other is done
      const ends = await Promise.all(workers.map((w) => once(w, 'message')));
      assert.deepEqual(ends, [['done'], ['done']]);
      await Promise.all(over);
      const m = machine.space('s').mmap({ file: path });
      const words = words_of(path);
      for (let p = 0; p < 64; p++) {
        assert.deepEqual([words[p * 1024], words[p * 1024 + 1]], [p + 1, p + 1]);
        assert.deepEqual([m.getU32(p * PAGE), m.getU32(p * PAGE + 4)], [p + 1, p + 1]);
      }
    }));
  test('who maps a file has it, though it was removed and its first thread is dead', () =>
    up(async (machine) => {
      const path = file(20 * PAGE);
      const data = { job: 'store', path, id: 1 };
      const worker = machine.worker<Worker>(WORKER, { workerData: data });
      await once(worker, 'message');
      const was = readFileSync(path);
      const m = machine.space('s').mmap({ file: path });
      unlinkSync(path);
      await worker.terminate();
      machine.space('w').destroy();
      for (let p = 0; p < 20; p++) {
        assert.equal(m.getU32(p * PAGE), p + 7);
        assert.equal(m.getU8(p * PAGE + 9), was[p * PAGE + 9]);
      }
      m.sync({ invalidate: true });
      for (let p = 0; p < 20; p++) assert.equal(m.getU32(p * PAGE), p + 7, 'from the file');
    }));
  test('windows one after another, and what was passed by is inactive', () =>
    up((machine) => {
      const path = file(64 * PAGE + 77);
      const want = readFileSync(path);
      const m = machine.space('s').mmap({ file: path });
      let at = 0;
      for (const w of m.windows({ size: '64K' })) {
        const part = want.subarray(at, at + w.length);
        assert.ok(Buffer.from(w.u8.slice(0, part.length)).equals(part));
        at += w.length;
      }
      assert.equal(at, 65 * PAGE);
      const reads = Number(machine.sysctl('vm.stats.vm.v_vnodein'));
      assert.ok(reads <= 6, `${reads} reads of sixteen pages`);
      assert.ok(Number(machine.sysctl('vm.stats.vm.v_inactive_count')) >= 64);
    }));
  test('a worker that dies leaves what it had stored, for the others and the file', () =>
    up(async (machine) => {
      const path = file(16 * PAGE);
      const data = { job: 'store', path, id: 1 };
      const worker = machine.worker<Worker>(WORKER, { workerData: data });
      await once(worker, 'message');
      await worker.terminate();
      const m = machine.space('s').mmap({ file: path });
      for (let p = 0; p < 16; p++) assert.equal(m.getU32(p * PAGE), p + 7);
      machine.space('w').destroy();
      m.unmap();
      const words = words_of(path);
      for (let p = 0; p < 16; p++) assert.equal(words[p * 1024], p + 7);
      assert.equal(machine.sysctl('vm.vnodes'), 0);
    }));
  test('nobody waits for a slow store but who wants its page; one of these is killed', () =>
    up(async (machine) => {
      const path = file(PAGE);
      const flags = machine.space('flags').mmap(DONE);
      const start = async (id: number): Promise<Worker> => {
        const worker = machine.worker<Worker>(WORKER, { workerData: { job: 'slow', path, id } });
        await once(worker, 'message');
        while (flags.getU32(id * 4) === 0) await new Promise((r) => setTimeout(r, 1));
        return worker;
      };
      const reader = await start(0);
      const over = once(reader, 'exit');
      const waiter = await start(1);
      // The reader answers nothing for longer than a fork waits; but it is parked.
      const snap = machine.space('own 0').fork('snap');
      snap.destroy();
      await waiter.terminate();
      await over;
      assert.equal(flags.getU32(64), readFileSync(path)[9]);
      const m = machine.space('s').mmap({ file: path });
      assert.equal(m.getU8(9), flags.getU32(64));
    }));
  test('another file of that name is another file', () =>
    up((machine) => {
      const path = file(PAGE);
      const space = machine.space('s');
      const m = space.mmap({ file: path });
      rmSync(path);
      writeFileSync(path, new Uint8Array(PAGE).fill(200));
      const n = space.mmap({ file: path });
      assert.equal(n.getU8(1), 200);
      assert.notEqual(m.getU8(1), 200);
      assert.equal(machine.sysctl('vm.vnodes'), 2);
    }));
});

describe('writing', () => {
  test('sync writes what was stored, to the byte; unmapping writes the rest', () =>
    up((machine) => {
      const path = file(50_001);
      const want = readFileSync(path);
      const m = machine.space('s').mmap({ file: path, write: true });
      for (const at of [0, 4095, 4096, 30_000, 50_000]) {
        m.setU8(at, 255 - (at & 127));
        want[at] = 255 - (at & 127);
      }
      m.setU8(50_001, 9); // behind the end: nowhere
      assert.ok(!readFileSync(path).equals(want), 'not at once');
      m.sync();
      assert.ok(readFileSync(path).equals(want));
      m.setU8(7, 1);
      want[7] = 1;
      m.unmap();
      assert.ok(readFileSync(path).equals(want), 'the length is as it was');
    }));
  test('a private copy sees the file, and keeps what is stored in it', () =>
    up((machine) => {
      const path = file(4 * PAGE);
      const want = readFileSync(path);
      const space = machine.space('s');
      const m = space.mmap({ file: path, write: true });
      const p = space.mmap({ file: path, write: true, shared: false });
      p.setU8(PAGE, want[PAGE] ^ 255);
      m.setU8(0, want[0] ^ 255);
      assert.equal(p.getU8(0), want[0] ^ 255, 'a page that it has not written to is the file');
      assert.equal(m.getU8(PAGE), want[PAGE]);
      p.sync();
      want[0] ^= 255;
      assert.ok(readFileSync(path).equals(want));
      chmodSync(path, 0o444);
      const q = space.mmap({ file: path, write: true, shared: false });
      q.setU8(3, 1); // no right to write to the file is needed
      assert.equal(p.getU8(3), want[3]);
    }));
  test('a fork shares a file that is shared, and copies a private one', () =>
    up((machine) => {
      const path = file(2 * PAGE);
      const space = machine.space('s');
      space.mmap({ file: path, write: true, name: 'shared' });
      const p = space.mmap({ file: path, write: true, shared: false, name: 'own' });
      p.setU8(1, 1);
      const snap = space.fork('snap');
      p.setU8(1, 2);
      snap.region('shared').setU8(0, 99);
      assert.equal(space.region('shared').getU8(0), 99);
      assert.equal(snap.region('own').getU8(1), 1);
      space.destroy();
      snap.destroy();
      assert.equal(readFileSync(path)[0], 99);
    }));
  test('what lies under a window is written at each sync, and at its closing', () =>
    up((machine) => {
      const path = file(8 * PAGE);
      const m = machine.space('s').mmap({ file: path, write: true });
      const w = m.window(PAGE, 3 * PAGE, { write: true });
      for (const value of [1, 2, 3]) {
        w.u8[PAGE + 5] = value;
        m.sync();
        assert.equal(readFileSync(path)[2 * PAGE + 5], value);
      }
      w.u8[9] = 44;
      w.close();
      m.sync();
      assert.equal(readFileSync(path)[PAGE + 9], 44);
      const other = machine.space('t').mmap({ file: path, write: true });
      const v = m.window(0, PAGE, { write: true });
      v.u8[1] = 21;
      other.sync();
      assert.equal(readFileSync(path)[1], 21, 'of another space, too');
      v.close();
    }));
  test('the end of the machine writes what is left', () => {
    const path = file(2 * PAGE);
    const machine = boot(MEMORY);
    machine.space('s').mmap({ file: path, write: true }).setU8(4097, 123);
    machine.shutdown();
    assert.equal(readFileSync(path)[4097], 123);
  });
  test('pages leave with invalidate, and come back; revalidate sees what others wrote', () =>
    up((machine) => {
      const path = file(6 * PAGE);
      const m = machine.space('s').mmap({ file: path, write: true });
      m.setU8(0, 1);
      m.advise('willneed');
      assert.ok(m.resident().every((b) => (b & 1) === 1));
      m.sync({ invalidate: true });
      assert.ok(m.resident().every((b) => b === 0));
      assert.equal(m.getU8(0), 1);
      const bytes = readFileSync(path);
      bytes[10] ^= 255;
      bytes[5 * PAGE] ^= 255;
      m.setU8(5 * PAGE + 1, 5); // newer than the file: it stays
      writeFileSync(path, bytes, { flag: 'r+' });
      m.revalidate();
      assert.equal(m.getU8(10), bytes[10]);
      assert.notEqual(m.getU8(5 * PAGE), bytes[5 * PAGE]);
    }));
});

describe('length', () => {
  test('a mapping that may write makes its file as long as asked', () =>
    up((machine) => {
      const path = file(10);
      const m = machine.space('s').mmap({ file: path, write: true, length: 30_000 });
      assert.equal(statSync(path).size, 30_000);
      m.setU8(29_999, 3);
      assert.equal(m.getU8(20_000), 0);
      m.sync();
      assert.equal(readFileSync(path)[29_999], 3);
    }));
  test('shorter for all, zeros when it grows again, and beyond the end an error', () =>
    up((machine) => {
      const path = file(10 * PAGE);
      const want = readFileSync(path);
      const space = machine.space('s');
      const m = space.mmap({ file: path, write: true });
      const p = space.mmap({ file: path, write: true, shared: false });
      all(m, 10 * PAGE);
      p.setU8(5 * PAGE, 1);
      m.setU8(8 * PAGE, 1);
      m.truncate(2 * PAGE + 100);
      assert.equal(statSync(path).size, 2 * PAGE + 100);
      assert.equal(m.fileSize, 2 * PAGE + 100);
      const end = all(m, 3 * PAGE);
      assert.ok(end.subarray(0, 2 * PAGE + 100).equals(want.subarray(0, 2 * PAGE + 100)));
      assert.ok(end.subarray(2 * PAGE + 100).every((b) => b === 0));
      for (const at of [3 * PAGE, 8 * PAGE, 10 * PAGE - 1]) {
        const e = fails(() => m.getU8(at), 'EFAULT', /behind the end/);
        assert.equal(e.reason, 'beyond-end-of-file');
        fails(() => m.setU8(at, 1), 'EFAULT', /behind the end/);
        fails(() => m.window(at, 1), 'EFAULT');
      }
      assert.equal(fails(() => p.getU8(8 * PAGE), 'EFAULT').reason, 'beyond-end-of-file');
      assert.equal(p.getU8(5 * PAGE), 1, 'a page of its own stays');
      m.truncate(9 * PAGE);
      assert.ok(
        all(m, 9 * PAGE)
          .subarray(2 * PAGE + 100)
          .every((b) => b === 0),
      );
      m.truncate(0);
      assert.equal(statSync(path).size, 0);
      fails(() => m.getU8(0), 'EFAULT', /behind the end/);
    }));
  test('what was stored behind the end is nowhere when the file grows, by us or by others', () =>
    up((machine) => {
      const path = file(5000);
      const m = machine.space('s').mmap({ file: path, write: true, length: 2 * PAGE });
      m.truncate(5000);
      m.setU8(6000, 7);
      m.truncate(7000);
      assert.equal(m.getU8(6000), 0);
      m.setU8(7500, 7);
      m.setU8(PAGE, 8); // so that the page is dirty
      appendFileSync(path, Buffer.alloc(900, 5));
      m.sync();
      assert.equal(m.fileSize, 7900);
      const is = all(m, 7900);
      assert.ok(
        is.subarray(7000).every((b) => b === 5),
        'what others appended is seen',
      );
      assert.ok(is.equals(readFileSync(path)), 'and stays in the file');
      assert.equal(m.getU8(7950), 0);
    }));
  test('not over a window', () =>
    up((machine) => {
      const path = file(4 * PAGE);
      const m = machine.space('s').mmap({ file: path, write: true });
      const w = m.window(2 * PAGE, PAGE, { write: true });
      w.u8[0] = 9;
      fails(() => m.truncate(PAGE), 'EBUSY');
      assert.equal(statSync(path).size, 4 * PAGE);
      m.truncate(3 * PAGE);
      w.close();
      m.truncate(PAGE);
      assert.equal(statSync(path).size, PAGE);
    }));
  test('cut by others: found at the next page-in, and at sync; nothing is written there', () =>
    up((machine) => {
      const path = file(40 * PAGE);
      const m = machine.space('s').mmap({ file: path, write: true });
      m.setU8(30 * PAGE, 1);
      truncateSync(path, 10 * PAGE + 5);
      const e = fails(() => m.getU8(14 * PAGE), 'EFAULT', /behind the end/);
      assert.equal(e.reason, 'beyond-end-of-file');
      m.sync();
      assert.equal(statSync(path).size, 10 * PAGE + 5);
      fails(() => m.getU8(30 * PAGE), 'EFAULT', /behind the end/);
      assert.equal(m.getU8(10 * PAGE + 5), 0);
      appendFileSync(path, new Uint8Array(10 * PAGE).fill(8));
      m.sync();
      assert.equal(m.getU8(15 * PAGE), 8);
    }));
  test('cut by others under a window: it keeps its pages, and they are not written', () =>
    up((machine) => {
      const path = file(8 * PAGE);
      const m = machine.space('s').mmap({ file: path, write: true });
      const w = m.window(4 * PAGE, 2 * PAGE, { write: true });
      truncateSync(path, PAGE);
      w.u8[0] = 77;
      m.sync();
      assert.equal(w.u8[0], 77);
      assert.equal(m.getU8(4 * PAGE), 77);
      assert.equal(statSync(path).size, PAGE);
      fails(() => m.getU8(2 * PAGE), 'EFAULT', /behind the end/);
      fails(() => m.getU8(7 * PAGE), 'EFAULT', /behind the end/);
      w.close();
      m.sync();
      fails(() => m.getU8(4 * PAGE), 'EFAULT', /behind the end/);
      assert.equal(statSync(path).size, PAGE);
    }));
});

test('advice that pages are not needed: clean ones are as good as free, stores stay', () =>
  up((machine) => {
    const path = file(32 * PAGE);
    const before = readFileSync(path);
    const m = machine.space('s').mmap({ file: path, write: true });
    const stat = (name: string): number => Number(machine.sysctl(`vm.stats.vm.${name}`));
    for (const advice of ['dontneed', 'free'] as const) {
      all(m, m.length);
      m.setU32(5 * PAGE, 77);
      const reads = stat('v_vnodepgsin');
      const cached = stat('v_cache_count');
      m.advise(advice);
      assert.equal(stat('v_cache_count') - cached, 31, advice);
      assert.equal(m.getU32(5 * PAGE), 77);
      const got = all(m, m.length);
      before.writeUInt32LE(77, 5 * PAGE);
      assert.deepEqual(got, before);
      assert.equal(stat('v_vnodepgsin'), reads, 'they were found again');
      m.sync();
      assert.deepEqual(readFileSync(path), before);
    }
  }));
test('text is stored as UTF-8; a right that a file was not mapped with is told', () =>
  up((machine) => {
    const path = file(3 * PAGE);
    const m = machine.space('s').mmap({ file: path, write: true });
    const text = 'grüße, 世界';
    const bytes = Buffer.from(text);
    assert.equal(m.write(PAGE - 5, text), bytes.length);
    assert.deepEqual(Buffer.from(m.read(PAGE - 5, new Uint8Array(bytes.length))), bytes);
    assert.equal(m.indexOf(text), PAGE - 5);
    assert.equal(m.write(7, ''), 0);
    fails(() => m.write(m.length - 3, text), 'EFAULT');
    const r = machine.space('s').mmap({ file: path });
    const e = fails(() => r.protect('rw'), 'EFAULT', /mapped without the right to write: mmap\(/);
    assert.equal(e.reason, 'protection');
    r.protect('none');
    r.protect('r');
    const snap = machine.space('s').fork('snap', { protect: 'r' });
    const own = machine.space('s').mmap({ length: PAGE, name: 'own' });
    own.protect('rw');
    const less = /without the right to write|may never/;
    fails(() => snap.region(m.address).protect('rw'), 'EFAULT', less);
    snap.destroy();
  }));
test('what cannot be mapped is one error, and nothing has changed', () =>
  up((machine) => {
    const space = machine.space('s');
    const path = file(3 * PAGE);
    const closed = file(10);
    chmodSync(closed, 0o444);
    const empty = file(0);
    const root = process.getuid?.() === 0;
    const wrong: [object, string, RegExp][] = [
      [{ file: join(FOLDER, 'none') }, 'ENOENT', /no such file/],
      [{ file: join(path, 'below') }, 'ENOTDIR', /no folder/],
      [{ file: FOLDER }, 'EISDIR', /folder/],
      [{ file: '/dev/null' }, 'EINVAL', /no file of bytes/],
      [{ file: 7 }, 'EINVAL', /no path/],
      [{ file: '' }, 'EINVAL', /no path/],
      [{ file: 'a\0b' }, 'EINVAL', /no path/],
      [{ file: path, offset: 100 }, 'EINVAL', /multiple of 4096/],
      [{ file: path, offset: 3 * PAGE }, 'EINVAL', /nothing from/],
      [{ file: path, length: '1M' }, 'EINVAL', /may not be made longer/],
      [{ file: path, length: '1M', write: true, shared: false }, 'EINVAL', /made longer/],
      [{ file: empty }, 'EINVAL', /nothing from 0 on/],
      [{ file: path, protect: 'rw' }, 'EINVAL', /write/],
      [{ file: path, inherit: 'copy' }, 'EINVAL', /forks/],
      [{ file: path, write: 1 }, 'EINVAL', /true nor false/],
      [{ file: path, shared: null }, 'EINVAL', /true nor false/],
      [{ length: 100, write: true }, 'EINVAL', /for a file/],
      [{ length: 100, offset: 0 }, 'EINVAL', /for a file/],
    ];
    if (!root) wrong.push([{ file: closed, write: true }, 'EACCES', /permission/]);
    for (const [options, code, text] of wrong) {
      fails(() => space.mmap(options as never), code, text);
    }
    assert.equal(space.mapped, 0);
    assert.equal(machine.sysctl('vm.vnodes'), 0);
    assert.equal(machine.sysctl('vm.stats.store.count'), 0);
    const m = space.mmap({ file: path, name: 'm' });
    fails(() => space.mmap({ file: closed, name: 'm', length: 10 }), 'EEXIST');
    fails(() => space.mmap({ file: path, name: 'm', length: PAGE }), 'EEXIST');
    assert.equal(space.mmap({ file: path, name: 'm' }), m);
    fails(() => m.truncate(0), 'EACCES', /nobody mapped/);
    fails(() => m.truncate(-1), 'EINVAL');
    fails(() => m.sync({ wait: 5 } as never), 'EINVAL');
    const memory = space.mmap({ length: PAGE });
    memory.sync();
    memory.revalidate();
    assert.equal(memory.fileSize, -1);
    fails(() => memory.truncate(0), 'EOPNOTSUPP', /no file/);
    m.unmap();
    fails(() => m.sync(), 'EFAULT');
    fails(() => m.resident(), 'EFAULT');
  }));
