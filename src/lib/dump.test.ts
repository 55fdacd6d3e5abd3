/*
 * Shows that a dump is the machine, or is not there.  Of a machine on which two threads
 * have worked and stand still, `vmstat -m`, `-z` and `-s` of its dump print what they print
 * live, byte for byte.  Nothing is overwritten and no link followed.  A panic leaves a dump
 * where boot was asked for one.  `readelf` is an independent reader.  The longer tests are
 * in dump.slow.test.ts.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { gunzipSync, gzipSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import { vmstat_sums, vmstat_sums_text } from '../sys/observe/vmstat_sums.ts';
import { EIO } from '../sys/machine/errno.ts';
import { store_faults } from '../sys/machine/store_fault.ts';
import { kconsole } from '../sys/machine/kconsole.ts';
import { within } from '../sys/machine/workers.test.lib.ts';
import { DUMP_LOAD, DUMP_PANICKED, DUMP_QUIET } from '../sys/observe/dump_elf.ts';
import { memstat_fetch_live } from '../sys/observe/memstat_sysctl.ts';
import { boot, type DumpResult } from './index.ts';
import {
  command,
  ended,
  file,
  folder,
  folderEnd,
  fresh,
  head_of,
  two,
  vmstat,
} from './dump.test.lib.ts';
import { fails } from './fails.test.lib.ts';

after(folderEnd);
afterEach(() => {
  store_faults.next = null;
});

test('of a quiet machine: vmstat -m, -z, -s print what they print live', async () => {
  const machine = boot({ memory: '32M', cpus: 4 });
  const { workers } = await two(machine);
  const type = machine.type('mine');
  for (const size of [1, 100, 4096, 5000, 100_000]) type.alloc(size);
  const chain = machine.chain(new Uint8Array(5000));
  const path = fresh();
  const done = machine.dump(path);
  const live = {
    m: machine.vmstat('m'),
    z: machine.vmstat('z'),
    s: vmstat_sums_text(vmstat_sums(memstat_fetch_live())),
  };
  assert.equal(done.quiet, true);
  assert.equal(done.size, 2 ** 25 + DUMP_LOAD);
  const { size, mode, blocks } = statSync(path);
  assert.equal(size, done.size);
  assert.equal(mode & 0o777, 0o600, 'its owner alone reads it');
  assert.ok(done.written < size / 2 && blocks * 512 < size / 2, 'what is zero is a hole');
  const before = readFileSync(path);
  const [m, z, s, all, rows] = await vmstat(
    [path, '-m'],
    [path, '-z'],
    [path, '-s'],
    [path, '-zms'],
    [path, '-m', '--json'],
  );
  assert.deepEqual(m, { path, code: 0, out: live.m, err: '' });
  assert.deepEqual(z, { path, code: 0, out: live.z, err: '' });
  assert.deepEqual(s, { path, code: 0, out: live.s, err: '' });
  const net = command('netstat', '-m', '-M', path);
  assert.deepEqual(net, { path: '', code: 0, out: machine.netstat(), err: '' });
  for (const [why, tool, ...args] of [
    [/^kmem vmstat: say what to show: -m malloc types, -z zones, -s sums; /, 'vmstat'],
    [/^kmem vmstat: -o: a dump is not asked for objects; /, 'vmstat', '-o'],
    [/^kmem sysctl: -M: sysctl has no view of a dump; vmstat, netstat, swapctl have/, 'sysctl'],
    [/^kmem systat: -M: systat has no view /, 'systat', '-mbufs'],
  ] as [RegExp, string, ...string[]][]) {
    const said = command(tool, ...args, '-M', path);
    assert.deepEqual([said.code, said.out], [2, ''], said.err);
    assert.match(said.err, why);
  }
  assert.match(live.m, /work 0[\s\S]*work 1|work 1[\s\S]*work 0/);
  assert.equal(all.out, live.s + live.m + live.z);
  const json = JSON.parse(rows.out)['malloc-statistics'].memory;
  assert.ok(json.some((row: { type: string }) => row.type === 'mine'));
  assert.ok(json.every((row: object) => !('approximate' in row)));
  assert.ok(before.equals(readFileSync(path)), 'reading changed nothing');

  const head = head_of(path);
  assert.equal(head.flags, DUMP_QUIET);
  assert.equal(head.cpu, machine.cpu);
  assert.deepEqual([head.id, head.generation], [machine.handle.id, machine.handle.generation]);
  assert.equal(head.layout, machine.handle.layout);
  assert.ok(head.time >= head.boot_time && head.panic === '' && head.release !== '');
  chain.free();
  await ended(machine, workers);
});

test('paths at which no dump is written', { skip: process.platform === 'win32' }, () => {
  const machine = boot({ memory: '2M' });
  const [there, link, nowhere] = [fresh(), fresh(), fresh()];
  writeFileSync(there, 'what was there');
  symlinkSync(there, link);
  symlinkSync(join(folder, 'none'), nowhere);
  const before = readdirSync(folder);
  for (const path of [there, link, nowhere, folder]) {
    const e = fails('EEXIST', () => machine.dump(path));
    assert.ok(e.message.includes(path), e.message);
  }
  assert.equal(readFileSync(there, 'utf8'), 'what was there');
  assert.ok(lstatSync(nowhere).isSymbolicLink() && !existsSync(join(folder, 'none')));
  fails('ENOENT', () => machine.dump(join(folder, 'no folder', 'x')));
  fails('ENOTDIR', () => machine.dump(join(there, 'x')));
  for (const path of ['', 'a\0b', undefined, 5, null]) {
    fails('EINVAL', () => machine.dump(path as string));
  }
  fails('EBUSY', () => machine.away(() => machine.dump(fresh())));
  assert.deepEqual(readdirSync(folder), before, 'no file came');
  machine.check();
  machine.shutdown();
  fails('ESHUTDOWN', () => machine.dump(fresh()));
});

test('boot takes a folder, or false', () => {
  for (const dump of ['', 5, true, 'a\0b', {}]) {
    fails('EINVAL', () => boot({ memory: '2M', dump: dump as string }));
  }
  fails('ENAMETOOLONG', () => boot({ memory: '2M', dump: 'x'.repeat(600) }));
  boot({ memory: '2M', dump: false }).shutdown();
  boot({ memory: '2M', dump: join(folder, 'not there yet') }).shutdown();
});

test('a file that cannot be removed is left empty, and the error says so', () => {
  const machine = boot({ memory: '2M' });
  const path = fresh();
  store_faults.next = (op) =>
    op === 'write' || op === 'discard' ? { what: 'fail', errno: EIO } : null;
  const e = fails('EIO', () => machine.dump(path));
  const part = /(\S+\.part) is left, empty: EIO/.exec(e.message)?.[1] ?? '';
  assert.ok(part.startsWith(path));
  assert.equal(statSync(part).size, 0);
  assert.ok(!existsSync(path));
  machine.shutdown();
});
test('readelf finds one segment and our notes', (t) => {
  const found = spawnSync('readelf', ['--version']);
  if (found.error) return t.skip('skipped: needs readelf');
  const machine = boot({ memory: '4M' });
  const path = fresh();
  machine.dump(path);
  machine.shutdown();
  const ran = spawnSync('readelf', ['-W', '-h', '-l', '-n', path], { encoding: 'utf8' });
  assert.deepEqual([ran.status, ran.stderr], [0, '']);
  assert.match(ran.stdout, /Type:\s+CORE/);
  assert.match(ran.stdout, /NOTE\s+0x0000b0/);
  assert.match(ran.stdout, /LOAD\s+0x010000 0x0+ 0x0+ 0x400000 0x400000 RW\s+0x1000/);
  // The machine, the release, the stack of the thread that wrote it, and its CPU.
  const found_notes = ran.stdout.matchAll(/^ {2}KMEM .*\((0x[0-9a-f]+)\)/gm);
  const notes = [...found_notes].map(([, type]) => type);
  assert.deepEqual(notes, ['0x006b6d01', '0x006b6d02', '0x006b6d05', '0x006b6d04'], ran.stdout);
});

test('compressed: unpacked it is the dump that is written without', async () => {
  const machine = boot({ memory: '9M', cpus: 2 });
  machine.type('some').alloc(123_456);
  const [plain, path] = [fresh(), fresh()];
  machine.dump(plain);
  const zst = machine.dump(path, { compress: true });
  const gz = machine.dump(`${path}.gz`);
  const live = machine.vmstat('m');
  machine.check();
  assert.deepEqual([zst.path, gz.path], [`${path}.zst`, `${path}.gz`]);
  fails('EEXIST', () => machine.dump(path, { compress: true }));
  fails('EINVAL', () => machine.dump(path, { compress: 1 as unknown as boolean }));
  fails('EINVAL', () => machine.dump(path, { packed: true } as object));
  machine.shutdown();
  const whole = readFileSync(plain);
  for (const [made, unpack] of [
    [zst, zstdDecompressSync],
    [gz, gunzipSync],
  ] as const) {
    const { size, mode } = statSync(made.path);
    assert.deepEqual([size, mode & 0o777], [made.size, 0o600]);
    assert.equal(made.written, made.size);
    assert.ok(size < 200_000, `${size} bytes`);
    const unpacked = unpack(readFileSync(made.path));
    assert.ok(whole.subarray(DUMP_LOAD).equals(unpacked.subarray(DUMP_LOAD)), 'the same memory');
    assert.equal(unpacked.length, whole.length);
  }
  // By others: one frame for all of it, and what comes behind the dump is not looked at.
  const [foreign, more] = [fresh(), fresh()];
  writeFileSync(foreign, gzipSync(whole));
  writeFileSync(more, zstdCompressSync(Buffer.concat([whole, Buffer.alloc(5000, 7)])));
  const read = await vmstat(
    ...[plain, zst.path, gz.path, foreign, more].map((one): [string, string] => [one, '-m']),
  );
  for (const { path: of, ...said } of read) {
    assert.deepEqual(said, { code: 0, out: live, err: '' }, of);
  }
});

test('a compressed dump that was cut or damaged is one line', async () => {
  const machine = boot({ memory: '2M', cpus: 2 });
  const paths = [fresh(), fresh()].map((path, i) => machine.dump(path + ['.gz', '.zst'][i]).path);
  machine.shutdown();
  const asked: [string, string][] = [];
  for (const path of paths) {
    const whole = readFileSync(path);
    const made = (bytes: Uint8Array): void => {
      const one = fresh();
      writeFileSync(one, bytes);
      asked.push([one, '-m']);
    };
    made(whole.subarray(0, whole.length - 20));
    made(whole.subarray(0, 5));
    made(whole.subarray(0, 70_000));
    const middle = 65_600 + ((whole.length - 65_600) >> 1);
    made(Uint8Array.from(whole, (byte, i) => (i === middle ? byte ^ 0xff : byte)));
    made(whole.fill(0, 0, 66_000)); // as it is while it is written
  }
  made_of_nothing(asked);
  const read = await vmstat(...asked);
  for (const { path, code, out, err } of read) {
    assert.deepEqual([code, out], [1, ''], path);
    assert.match(err, /^vmstat: [^\n]+: (unpacked )?byte \d+: [^\n]+\n$/);
  }
});
/** What unpacks to something that is no dump. */
function made_of_nothing(asked: [string, string][]): void {
  for (const bytes of [gzipSync('a text'), zstdCompressSync(Buffer.alloc(200_000))]) {
    const one = fresh();
    writeFileSync(one, bytes);
    asked.push([one, '-m']);
  }
}

test('vm.dump_on_nomem: the first want of memory has it dumped, no other', async () => {
  const into = fresh();
  mkdirSync(into);
  const lines: string[] = [];
  const { print } = kconsole;
  kconsole.print = (line) => lines.push(line);
  const machine = boot({ memory: '2M', cpus: 2, dump: into });
  const type = machine.type('greedy');
  const full = (): void => {
    fails('ENOMEM', () => {
      for (;;) type.alloc(4000);
    });
  };
  full();
  assert.deepEqual(readdirSync(into), [], 'not unless it is asked for');
  machine.sysctl('vm.dump_on_nomem', 1);
  machine.sysctl('vm.dump_compress', 1);
  fails('ENOMEM', () => type.alloc(2 ** 30)); // too large for any memory: that is no want of it
  assert.deepEqual(readdirSync(into), []);
  full();
  full();
  kconsole.print = print;
  const [name, ...more] = readdirSync(into);
  assert.deepEqual(more, []);
  const path = join(into, name);
  assert.match(name, /^kmem-[0-9a-f]+-\d+-\d+\.core\.zst$/);
  const said = `kmem: no memory: the memory, secrets and all, is in ${path} (`;
  assert.ok(lines.length === 1 && lines[0].startsWith(said), lines.join('\n'));
  machine.check();
  machine.shutdown();
  const [read] = await vmstat([path, '-m']);
  assert.match(read.out, /greedy +\d+/);
});

interface Panicked {
  text: string;
  own: DumpResult;
  up: boolean;
  other: { error: string; dump: DumpResult };
}
async function panics(into: string): Promise<{ line: string; said: Panicked; after: string }> {
  const said: Record<string, unknown> = {};
  const dump = fresh();
  const worker = new Worker(file, { workerData: { job: 'panic', folder: into, dump } });
  worker.on('message', (one: object) => Object.assign(said, one));
  await within(
    new Promise((resolve, reject) => worker.once('exit', resolve).once('error', reject)),
    'the thread that panics ends',
  );
  const {
    line,
    after: code,
    ...rest
  } = said as unknown as Panicked & {
    line: string;
    after: string;
  };
  for (const path of [`${dump}.own`, `${dump}.other`]) {
    const head = head_of(path);
    assert.equal(head.flags, DUMP_PANICKED | DUMP_QUIET);
    assert.equal(head.panic, 'panic: a test believed: 7');
  }
  assert.equal(existsSync(`${dump}.after`), false);
  return { line, said: rest, after: code };
}
test('a panic leaves a dump in the folder that boot was given', async () => {
  const into = fresh();
  mkdirSync(into);
  const { line, said, after: code } = await panics(into);
  assert.equal(said.text, 'panic: a test believed: 7');
  assert.match(said.other.error, /stopped: panic: a test believed: 7/);
  assert.equal(said.up, false);
  assert.ok(said.own.quiet && said.other.dump.quiet, 'all have stopped');
  assert.equal(code, 'ESHUTDOWN', 'it has left');
  const [name, ...more] = readdirSync(into);
  assert.deepEqual(more, []);
  const path = join(into, name);
  assert.ok(line.startsWith(`kmem: panic: the memory, secrets and all, is in ${path} (`), line);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const head = head_of(path);
  assert.equal(head.panic, 'panic: a test believed: 7');
  assert.equal(head.flags, DUMP_PANICKED | DUMP_QUIET);
  // Where its thread was when it panicked; the other one slept; it is woken, and may be
  // seen at any step of that (panic.test.ts shows the last).
  assert.match(head.stack, /^\S+ at dump\.test\.worker\.[jt]s:\d+\n/);
  const [first, other] = head.cpus;
  assert.deepEqual([first.cpu, first.stopped, first.text], [0, true, head.stack]);
  assert.equal(other.cpu, 1);
  assert.match(
    other.text,
    /^(?:parked|(?:NOT )?stopped)$|^(?:sleepq_wait at [\s\S]*)?Object\.sleep at dump\.test\.w/,
  );
  const [read] = await vmstat([path, '-m']);
  assert.equal(read.code, 0, read.err);
  assert.match(read.out, /before the panic +1 +1K +1K +1 +512/);
});
test('a panic that cannot be dumped is a panic, and one line', async () => {
  const { line, said } = await panics(join(folder, 'no such folder'));
  assert.equal(said.text, 'panic: a test believed: 7');
  assert.match(line, /^kmem: panic: no dump was written: ENOENT: dump: .*there is no such folder$/);
});
