/*
 * Shows: what is lent stays as it was while its owner writes, unmaps, truncates, syncs, copies and
 * destroys; chains take a loan without copying, share it, and give it back with the last; a stream
 * writes it to a socket; what may not be lent is refused, with a reason; what a CPU that is silent
 * holds up is copied, and counted.  By what means: one thread and a second one, files, sockets.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { boot, type Machine } from './index.ts';
import { silent_off, silent_on } from '../sys/map/vm_loan.fuzz.ts';

const PAGE = 4096;
let machine: Machine;
let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kmem-loan-'));
  machine = boot({ memory: '16M', cpus: 3, debug: true, fresh: true });
});
afterEach(() => {
  machine.check();
  machine.shutdown();
  rmSync(folder, { recursive: true });
});
const count = (name: string): number => Number(machine.sysctl(name));
const text = (views: Iterable<Uint8Array>): string =>
  Buffer.concat([...views].map((v) => Buffer.from(v))).toString();
function filled(n: number): Uint8Array {
  return Uint8Array.from({ length: n }, (_, i) => (i * 7 + (i >> 8)) & 255);
}
const bytes = (views: Iterable<Uint8Array>): Buffer =>
  Buffer.concat([...views].map((v) => Buffer.from(v)));

describe('a loan that is mapped', () => {
  test('in another space, and in its own: each side has its own stores, and no other', () => {
    const [a, b] = ['a', 'b'].map((name) => machine.space(name));
    const m = a.mmap({ name: 'm', length: 70 * PAGE });
    const was = filled(m.length);
    m.write(0, was);
    const loan = m.lend(PAGE, 60 * PAGE + 10);
    const free = machine.memory().free;
    const there = b.mmap({ loan, name: 'copy' });
    const here = a.mmap({ loan, protect: 'r' });
    assert.ok(free - machine.memory().free < 20 * PAGE, 'no page was copied');
    loan.dispose();
    assert.equal(there.length, 61 * PAGE);
    const all = was.subarray(PAGE, 62 * PAGE);
    for (const r of [there, here]) {
      assert.deepEqual(Buffer.from(r.read(0, new Uint8Array(r.length))), Buffer.from(all));
    }
    m.setU8(2 * PAGE, 99);
    there.setU8(2 * PAGE, 98);
    assert.deepEqual(
      [m.getU8(3 * PAGE), there.getU8(PAGE), here.getU8(PAGE), here.getU8(2 * PAGE)],
      [all[2 * PAGE], all[PAGE], all[PAGE], all[2 * PAGE]],
    );
    assert.throws(() => here.setU8(0, 1), { code: 'EFAULT' });
    const fork = b.fork('f');
    a.destroy();
    machine.check();
    assert.equal(fork.region('copy').getU8(2 * PAGE), 98);
    assert.deepEqual(
      Buffer.from(there.read(3 * PAGE, new Uint8Array(50 * PAGE))),
      Buffer.from(all.subarray(3 * PAGE, 53 * PAGE)),
      'the owner is gone',
    );
    for (const space of [b, fork]) space.destroy();
    assert.deepEqual([count('vm.loans'), count('vm.loan_pages')], [0, 0]);
  });
  test('a file that goes on: the mapping has what it had', () => {
    const path = join(folder, 'f');
    writeFileSync(path, Buffer.alloc(4 * PAGE, 5));
    const space = machine.space('s');
    const m = space.mmap({ file: path, write: true });
    const copy = space.mmap({ loan: m.lend() });
    m.setU8(0, 1);
    m.truncate(PAGE);
    assert.deepEqual([copy.getU8(0), copy.getU8(3 * PAGE)], [5, 5]);
    copy.setU8(3 * PAGE, 6);
    space.save(join(folder, 'saved'));
    const other = machine.space('other');
    other.load(join(folder, 'saved'));
    const again = other.region(copy.address);
    assert.deepEqual([again.getU8(0), again.getU8(3 * PAGE)], [5, 6]);
    for (const s of [space, other]) s.destroy();
  });
  test('what cannot be mapped is one error, and the loan is as it was', () => {
    const space = machine.space('s');
    const m = space.mmap({ name: 'm', length: 40 * PAGE });
    const loan = m.lend();
    const before = count('vm.loan_pages');
    const refused: [object, string, RegExp][] = [
      [{ loan: {} }, 'EINVAL', /is none/],
      [{ loan, length: PAGE }, 'EINVAL', /length/],
      [{ loan, file: '/x' }, 'EINVAL', /file/],
      [{ loan, write: true }, 'EINVAL', /write/],
      [{ loan, name: 'm' }, 'EEXIST', /region 'm'/],
      [{ loan, address: m.address }, 'EEXIST', /some are mapped/],
      [{ loan: m.lend(10, PAGE) }, 'EINVAL', /inside a page/],
    ];
    for (const [options, code, message] of refused) {
      assert.throws(() => space.mmap(options), { code, message });
    }
    machine.sysctl('vm.loan_max', before + 10);
    assert.throws(() => space.mmap({ loan }), { code: 'ENOMEM', reason: 'limit' });
    loan.dispose();
    assert.throws(() => space.mmap({ loan }), { code: 'EINVAL', message: /given back/ });
    machine.sysctl('vm.loan_max', 1000);
    space.limits({ size: 50 * PAGE });
    const lent = m.lend();
    assert.throws(() => space.mmap({ loan: lent }), { code: 'ENOMEM', reason: 'limit' });
    lent.dispose();
    assert.equal(space.regions().length, 1);
    space.destroy();
    assert.equal(count('vm.loans'), 1, 'of what was never mapped');
  });
});

describe('a loan', () => {
  test('stays as it was, at any offset, and goes back', () => {
    const m = machine.space('s').mmap({ length: 40 * PAGE });
    const was = filled(33 * PAGE + 200);
    m.write(100, was);
    const loan = m.lend(100, was.length);
    assert.equal(loan.length, was.length);
    assert.equal(count('vm.loan_pages'), 34);
    const lent = (): number | undefined => machine.space('s').regions()[0]?.lent;
    assert.equal(lent(), 34 * PAGE);
    m.setU8(PAGE, 1); // that one is copied
    assert.equal(lent(), 33 * PAGE);
    m.fill(0, 40 * PAGE, 1);
    assert.deepEqual(bytes(loan), Buffer.from(was));
    assert.equal(m.getU8(100), 1);
    assert.equal(loan.copied, false);
    loan.dispose();
    assert.equal(count('vm.loans'), 0);
    assert.equal(count('vm.loan_pages'), 0);
    assert.throws(() => loan.views(), { code: 'EINVAL' });
    assert.throws(() => loan.copied, { code: 'EINVAL' });
    assert.throws(() => machine.chain().append(loan), { code: 'EINVAL' });
    loan.dispose();
  });
  test('of memory that nobody has used shows zeros', () => {
    const m = machine.space('s').mmap({ length: 4 * PAGE });
    using loan = m.lend();
    m.fill(0, 4 * PAGE, 9);
    assert.ok(bytes(loan).every((b) => b === 0));
  });
  test('outlives its region, its space and a copy of that', () => {
    const space = machine.space('s');
    const m = space.mmap({ name: 'm', length: 8 * PAGE });
    m.write(0, filled(8 * PAGE));
    const copy = space.fork('copy');
    using a = m.lend(0, 3 * PAGE);
    using b = copy.region('m').lend(2 * PAGE, 4 * PAGE);
    m.fill(0, 8 * PAGE, 1);
    m.unmap();
    copy.destroy();
    space.destroy();
    machine.check();
    assert.deepEqual(bytes(a), Buffer.from(filled(8 * PAGE).subarray(0, 3 * PAGE)));
    assert.deepEqual(bytes(b), Buffer.from(filled(8 * PAGE).subarray(2 * PAGE, 6 * PAGE)));
  });
  test('of a file: synced, truncated, made longer, and read again', () => {
    const path = join(folder, 'f');
    writeFileSync(path, filled(6 * PAGE));
    const m = machine.space('s').mmap({ file: path, write: true, length: 6 * PAGE });
    using loan = m.lend();
    m.setU8(PAGE, 200);
    m.sync();
    assert.equal(readFileSync(path)[PAGE], 200);
    m.truncate(2 * PAGE + 10);
    m.truncate(5 * PAGE);
    assert.equal(m.getU8(2 * PAGE + 10), 0);
    assert.equal(m.getU8(3 * PAGE), 0);
    m.sync();
    writeFileSync(path, Buffer.alloc(5 * PAGE, 3));
    m.revalidate();
    assert.equal(m.getU8(0), 3);
    assert.deepEqual(bytes(loan), Buffer.from(filled(6 * PAGE)));
  });
  test('is broken by a window, and refused under one', () => {
    const m = machine.space('s').mmap({ length: 8 * PAGE });
    m.write(0, filled(8 * PAGE));
    using loan = m.lend(0, 4 * PAGE);
    {
      using w = m.window(2 * PAGE, 4 * PAGE, { write: true });
      w.u8.fill(5);
      assert.throws(() => m.lend(5 * PAGE, PAGE), { code: 'EBUSY', op: 'lend' });
      using beside = m.lend(6 * PAGE, PAGE);
      assert.equal(beside.length, PAGE);
    }
    assert.equal(m.getU8(2 * PAGE), 5);
    assert.deepEqual(bytes(loan), Buffer.from(filled(8 * PAGE).subarray(0, 4 * PAGE)));
  });
  test('stays as it was when others write who map the same pages', () => {
    const path = join(folder, 'shared');
    writeFileSync(path, filled(4 * PAGE));
    const file = { file: path, write: true, length: 4 * PAGE };
    const [a, b, c] = ['a', 'b', 'a'].map((s) => machine.space(s).mmap(file));
    for (let at = 0; at < a.length; at += PAGE) for (const m of [c, a, b]) m.setU8(at, 7);
    const was = bytes([a.read(0, new Uint8Array(a.length))]);
    using loan = a.lend();
    b.fill(0, PAGE, 1);
    c.fill(PAGE, PAGE, 2);
    for (const m of [b, c]) m.setU8(2 * PAGE + 9, 3);
    assert.deepEqual(bytes(loan), was);
    assert.deepEqual([a.getU8(9), a.getU8(PAGE + 9), a.getU8(2 * PAGE + 9)], [1, 2, 3]);
  });
  test('of a thread that does not answer is a copy', () => {
    const m = machine.space('s').mmap({ length: 4 * PAGE });
    m.write(0, filled(4 * PAGE));
    const before = count('vm.stats.loan.copied');
    silent_on();
    const loan = m.lend(0, 3 * PAGE);
    silent_off();
    assert.equal(loan.copied, true);
    assert.equal(count('vm.stats.loan.copied') - before, 3);
    m.fill(0, 4 * PAGE, 1);
    assert.deepEqual(bytes(loan), Buffer.from(filled(4 * PAGE).subarray(0, 3 * PAGE)));
    loan.dispose();
  });
  test('counts among what is held in place, as windows and locks do', () => {
    const m = machine.space('s').mmap({ length: 16 * PAGE });
    const was = count('vm.max_wired');
    machine.sysctl('vm.max_wired', 8);
    const loan = m.lend(0, 6 * PAGE);
    assert.throws(() => m.window(8 * PAGE, 3 * PAGE), { code: 'ENOMEM', reason: 'limit' });
    assert.throws(() => m.lock(8 * PAGE, 3 * PAGE), { op: 'lock' });
    m.lock(8 * PAGE, 2 * PAGE);
    assert.throws(() => m.lend(12 * PAGE, PAGE), { code: 'ENOMEM', reason: 'limit' });
    loan.dispose();
    m.window(12 * PAGE, 3 * PAGE).close();
    m.unlock();
    machine.sysctl('vm.max_wired', was);
  });
  test('that cannot be says why', () => {
    const space = machine.space('s');
    const m = space.mmap({ length: 8 * PAGE });
    assert.throws(() => m.lend(7 * PAGE, PAGE + 1), { code: 'EFAULT', reason: 'outside' });
    assert.throws(() => m.lend(0, 0), { code: 'EINVAL' });
    assert.throws(() => m.lend(-1, 5), { code: 'EINVAL' });
    assert.throws(() => m.lend(0, 1.5), { code: 'EINVAL' });
    const large = space.mmap({ length: '8M' });
    assert.throws(() => large.lend(), { code: 'ENOMEM', reason: 'limit' });
    m.protect('none');
    assert.throws(() => m.lend(), { code: 'EFAULT', reason: 'protection' });
    m.unmap();
    assert.throws(() => m.lend(), { code: 'EFAULT', reason: 'unmapped' });
    const path = join(folder, 'short');
    writeFileSync(path, filled(PAGE));
    const f = space.mmap({ file: path, write: true, length: 4 * PAGE });
    f.truncate(PAGE);
    assert.throws(() => f.lend(), { code: 'EFAULT' });
    assert.equal(count('vm.loans'), 0);
  });
});

describe('a chain of loans', () => {
  test('shares them with its copies; the last one gives them back', () => {
    const m = machine.space('s').mmap({ length: 8 * PAGE });
    m.write(0, filled(8 * PAGE));
    const chain = machine.chain('head');
    {
      using loan = m.lend(50, 3 * PAGE);
      chain.append(loan).append('tail').append(loan);
    }
    m.fill(0, 8 * PAGE, 1);
    const lent = Buffer.from(filled(8 * PAGE).subarray(50, 50 + 3 * PAGE));
    const all = Buffer.concat([Buffer.from('head'), lent, Buffer.from('tail'), lent]);
    assert.deepEqual(chain.toBuffer(), all);
    chain.check();
    const clone = chain.clone();
    const rest = chain.split(PAGE);
    assert.equal(chain.writable, false);
    rest.free();
    chain.free();
    assert.ok(count('vm.loans') > 0);
    clone.write(4, 'own'); // what is lent is copied first
    assert.equal(clone.text(0, 7), 'headown');
    assert.deepEqual(clone.toBuffer(10, 4 + 3 * PAGE), lent.subarray(6));
    clone.free();
    assert.equal(count('vm.loans'), 0);
  });
  test('alone, the first of a chain', () => {
    const m = machine.space('s').mmap({ length: 2 * PAGE });
    m.write(0, Buffer.from('abcdef'));
    const chain = machine.chain();
    {
      using loan = m.lend(1, 4);
      chain.append(loan);
      assert.equal(text(loan), 'bcde');
    }
    m.write(0, Buffer.from('------'));
    assert.equal(chain.text(), 'bcde');
    const n = chain.release();
    const adopted = machine.adoptChain(n);
    assert.equal(adopted.text(), 'bcde');
    adopted.free();
    assert.equal(count('vm.loans'), 0);
  });
  test('is written to a socket as it was', async () => {
    const m = machine.space('s').mmap({ length: 64 * PAGE });
    const was = filled(64 * PAGE);
    m.write(0, was);
    const server = createServer((socket) => {
      using loan = m.lend();
      for (const view of loan)
        socket.write(Buffer.from(view.buffer as ArrayBuffer, view.byteOffset, view.length));
      m.fill(0, 64 * PAGE, 1);
      const kept = machine.chain().append(loan);
      socket.end(() => kept.free());
    });
    await new Promise<void>((done) => void server.listen(0, '127.0.0.1', done));
    const { port } = server.address() as { port: number };
    const got: Buffer[] = [];
    await new Promise<void>((done, failed) => {
      const socket = connect(port, '127.0.0.1');
      socket
        .on('data', (d: Buffer) => got.push(d))
        .on('end', done)
        .on('error', failed);
    });
    await new Promise((done) => server.close(done));
    assert.deepEqual(Buffer.concat(got), Buffer.from(was));
    assert.equal(count('vm.loans'), 0);
  });
});
