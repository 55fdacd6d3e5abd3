/*
 * Shows what takes longer: a dump that is written while two threads allocate can be read,
 * and says that threads ran; none of them waits for it.  Each operation of the store is
 * made to fail at each of its occurrences: then there is no file, and one error names path
 * and reason.  What is no dump, or none of this version, or was cut, is one line; a memory
 * that is wrong ends no reader's patience.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import fs, {
  closeSync,
  copyFileSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { EIO, EMFILE, EOPNOTSUPP } from '../sys/machine/errno.ts';
import { dice, SEED } from '../sys/machine/seed.test.lib.ts';
import {
  type StoreFault,
  type StoreOp,
  store_fault_at,
  store_faults,
} from '../sys/machine/store_fault.ts';
import { M, machine as header, ROOT_PHYS } from '../sys/machine/header.ts';
import { until, within } from '../sys/machine/workers.test.lib.ts';
import { DUMP_LOAD } from '../sys/observe/dump_elf.ts';
import { malloc_root, malloc_type } from '../sys/h/malloc.ts';
import { uma_keg, uma_zone } from '../sys/h/uma.ts';
import { malloc_anchor, malloc_desc2type } from '../sys/kmem/kern_malloc_type.ts';
import { elem, field_word } from '../sys/machine/struct.ts';
import { phys_root, vm_phys } from '../sys/page/vm_phys.ts';
import { uma, uma_root } from '../sys/uma/uma_int.ts';
import { boot, type Machine } from './index.ts';
import { ended, folder, folderEnd, fresh, heard, kmem, two, vmstat } from './dump.test.lib.ts';
import { fails } from './fails.test.lib.ts';

after(folderEnd);
afterEach(() => {
  store_faults.next = null;
});

/** What lies there by that name, whole or in the making. */
function files_of(path: string): string[] {
  const all = readdirSync(folder).map((name) => join(folder, name));
  return all.filter((file) => file === path || file.startsWith(`${path}.`));
}
test('while two threads allocate: none waits for it, it can be read, and says so', async () => {
  const machine = boot({ memory: '8M', cpus: 4 });
  const { workers, word } = await two(machine);
  const turns = (id: number): number => machine.u32[word + id];
  for (const w of workers) w.postMessage('run');
  await until(() => turns(0) > 10 && turns(1) > 10, 'both allocate');
  const paths: string[] = [];
  const gate = new Int32Array(new SharedArrayBuffer(4));
  /** Waits until both have made a turn: a lock that was held would hold one of them up. */
  const moved = (): void => {
    for (const id of [0, 1]) {
      const from = turns(id);
      for (let i = 0; i < 60_000 && turns(id) === from; i++) Atomics.wait(gate, 0, 0, 1);
      assert.notEqual(turns(id), from, `thread ${id} stands still`);
    }
  };
  for (let round = 0; round < 4; round++) {
    let writes = 0;
    store_faults.next = (op) => {
      if (op === 'write' && writes++ === 0) moved();
      return null;
    };
    const path = fresh();
    const done = machine.dump(path);
    store_faults.next = null;
    assert.ok(writes > 1, 'the writing was seen');
    assert.equal(done.quiet, false);
    paths.push(path);
  }
  const still = heard(workers);
  machine.u32[word + 2] = 1;
  await within(still, 'both stand still');
  const all = await vmstat(...paths.map((path): [string, ...string[]] => [path, '-mzs', '--json']));
  for (const { path, code, out, err } of all) {
    assert.equal(code, 0, err);
    assert.match(err, /^vmstat: .*threads ran while it was written: .*\n$/, path);
    const rows = JSON.parse(out)['malloc-statistics'].memory;
    assert.ok(rows.some((row: { type: string }) => row.type === 'work 0'));
    for (const row of rows) {
      assert.equal(row.approximate, true);
      assert.ok(row['in-use'] >= 0 && row['memory-use-bytes'] <= 2 ** 23, JSON.stringify(row));
    }
  }
  const last = fresh();
  assert.equal(machine.dump(last).quiet, true, 'they stand still again');
  const [m] = await vmstat([last, '-m']);
  assert.equal(m.out, machine.vmstat('m'));
  await ended(machine, workers);
});

/** How often each operation is asked for in a dump. */
function counted(machine: Machine): Map<StoreOp, number> {
  const seen = new Map<StoreOp, number>();
  store_faults.next = (op) => {
    seen.set(op, (seen.get(op) ?? 0) + 1);
    return null;
  };
  machine.dump(fresh());
  store_faults.next = null;
  return seen;
}
const FAULTS: StoreFault[] = [
  { what: 'fail', errno: EIO },
  { what: 'full' },
  { what: 'short', bytes: 1000 },
];
/** Whether the operation fails under it, and with what. */
const code_of = (op: StoreOp, f: StoreFault): string | null => {
  if (f.what === 'fail') return 'EIO';
  return f.what === 'full' && (op === 'write' || op === 'truncate') ? 'ENOSPC' : null;
};
test('every fault at every operation: no file is left, an error says path and reason', async () => {
  const machine = boot({ memory: '2M', cpus: 2 });
  machine.type('some').alloc(100_000);
  const times = counted(machine);
  assert.ok((times.get('write') ?? 0) >= 3 && times.get('sync') === 2, [...times].join());
  const whole: string[] = [];
  for (const [op, most] of times) {
    for (const fault of FAULTS) {
      for (let n = 1; n <= most; n++) {
        const path = fresh();
        const name = `${op} ${n}: ${JSON.stringify(fault)}`;
        const code = code_of(op, fault);
        store_fault_at(op, n, fault);
        if (code === null) {
          machine.dump(path);
          whole.push(path);
        } else {
          const e = fails(code, () => machine.dump(path));
          assert.ok(e.message.startsWith(`${code}: dump: ${path}: `), e.message);
          assert.ok(!e.message.includes('\n') && !e.message.includes('.part is left'), e.message);
          assert.deepEqual(files_of(path), [], name);
        }
        store_faults.next = null;
      }
    }
  }
  assert.ok(whole.length > 0);
  const live = machine.vmstat('m');
  const all = await vmstat(...whole.map((path): [string, string] => [path, '-m']));
  for (const { out, path, err } of all) assert.equal(out, live, `${path} ${err}`);
  machine.check();
  machine.shutdown();
});

test('a dumper that is killed leaves nothing by that name, and the next writes it', async () => {
  const path = fresh();
  const store = new URL('../sys/machine/store_fault.ts', import.meta.url).href;
  const program = `
    import { boot } from ${JSON.stringify(new URL('./index.ts', import.meta.url).href)};
    import { store_fault_at } from ${JSON.stringify(store)};
    const machine = boot({ memory: '16M' });
    store_fault_at('sync', 2, { what: 'slow', ms: 1e6 });
    machine.dump(${JSON.stringify(path)});`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: 'inherit',
  });
  const exit = once(child, 'exit');
  await until(() => files_of(path).length > 0, 'it writes');
  assert.ok(!existsSync(path), 'not before it is whole');
  child.kill('SIGKILL');
  await exit;
  assert.ok(!existsSync(path));
  assert.match(files_of(path).join(), /^\S+\.part$/);
  const machine = boot({ memory: '2M' });
  machine.dump(path);
  machine.shutdown();
  assert.deepEqual(files_of(path), [path], 'what the first one left is gone');
  const [{ code }] = await vmstat([path, '-m']);
  assert.equal(code, 0);
});

test('a file gets its name where there are no links, too', () => {
  const machine = boot({ memory: '2M' });
  const { linkSync: link } = fs;
  fs.linkSync = () => {
    throw Object.assign(new Error('no links here'), { code: 'EPERM' });
  };
  const path = fresh();
  machine.dump(path);
  fails('EEXIST', () => machine.dump(path));
  fs.linkSync = link;
  assert.deepEqual(files_of(path), [path]);
  machine.shutdown();
});

test('a host without files, and one without descriptors', () => {
  const machine = boot({ memory: '2M' });
  for (const [errno, code] of [
    [EOPNOTSUPP, 'EOPNOTSUPP'],
    [EMFILE, 'EMFILE'],
  ] as const) {
    store_fault_at('open', 1, { what: 'fail', errno });
    fails(code, () => machine.dump(fresh()));
  }
  machine.shutdown();
  const url = JSON.stringify(new URL('./index.ts', import.meta.url).href);
  const program = `
    process.getBuiltinModule = undefined; // as in a browser
    const { boot } = await import(${url});
    const code = (fn) => { try { fn(); } catch (e) { return e.code; } };
    const machine = boot({ memory: '2M' });
    console.log(code(() => machine.dump('x.core')), machine.up);
    machine.shutdown();
    console.log(code(() => boot({ memory: '2M', dump: 'x' })));`;
  const ran = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
    encoding: 'utf8',
  });
  assert.equal(ran.stdout, 'EOPNOTSUPP true\nEOPNOTSUPP\n', ran.stderr);
});

/** A copy of a file with some bytes changed. */
function copied(from: string, at: number, ...bytes: number[]): string {
  const path = fresh();
  copyFileSync(from, path);
  const fd = openSync(path, 'r+');
  writeSync(fd, Uint8Array.from(bytes), 0, bytes.length, at);
  closeSync(fd);
  return path;
}
function made(text: string | Uint8Array, length?: number): string {
  const path = fresh();
  writeFileSync(path, text);
  if (length !== undefined) truncateSync(path, length);
  return path;
}
/** A dump of a small machine that is down. */
function small(): string {
  const machine = boot({ memory: '2M' });
  machine.type('some').alloc(1000);
  const path = fresh();
  machine.dump(path);
  machine.shutdown();
  return path;
}
test('what is no dump of ours may be a core file, with a machine in it', async () => {
  const good = small();
  const foreign = [copied(good, 176 + 12, 0x58), copied(good, 64, 7), copied(good, 56, 255)];
  const plain = await vmstat(...[good, ...foreign].map((path): [string, string] => [path, '-mz']));
  for (const { code, out, err } of plain) assert.deepEqual([code, out, err], [0, plain[0].out, '']);
  for (const [path, why] of [
    [copied(good, 56, 1), /byte 64: no memory in it/],
    [made(readFileSync(process.execPath).fill(4, 16, 17)), /; no machine of kmem is in it/],
  ] as [string, RegExp][]) {
    const [{ code, err }] = await vmstat([path, '-m']);
    assert.equal(code, 1);
    assert.match(err, why);
  }
});
test('what is no dump, or not one of ours, or was cut: one line and exit code 1', async () => {
  const good = small();
  const whole = statSync(good).size;
  const changed = (at: number, ...bytes: number[]): string => copied(good, at, ...bytes);
  const cut = (length: number): string => made(readFileSync(good), length);
  const desc = 176 + 20; // of the first note
  const fifo = fresh();
  assert.equal(spawnSync('mkfifo', [fifo]).status, 0);
  const cases: [RegExp, string][] = [
    [/ENOENT: there is no such file/, join(folder, 'none')],
    [/EISDIR/, folder],
    [/EINVAL: it is no regular file/, fifo],
    [/EINVAL: it is no regular file/, '/dev/zero'],
    [/byte 0: it ends here: too short/, made('')],
    [/byte 0: no ELF file/, made('x'.repeat(10_000))],
    [/byte 0: only zeros: a dump that was not finished/, made('', 100_000)],
    [/byte 16: an ELF file, but no core file/, process.execPath],
    [/byte 176: a dump of version 9/, changed(desc, 9)],
    [
      /byte 176: another kmem wrote it, of release \S+: its structures differ/,
      changed(desc + 4, 1, 2, 3, 4),
    ],
    [/byte 176: a memory of/, changed(desc + 48, 1)],
    [/byte 176: a note that goes beyond the notes/, changed(176 + 4, 255, 255)],
    [/byte 64: no memory in it/, changed(64 + 56, 7)],
    [/byte 65792: the memory holds no machine/, changed(DUMP_LOAD + 256, 0)],
    [/byte 65792: .*of another machine than the notes say/, changed(DUMP_LOAD + 256 + 8, 9, 9, 9)],
    [/byte 65792: a machine of 65535 CPUs/, changed(DUMP_LOAD + 256 + 36, 255, 255)],
    [/byte 100: it ends in the program headers|too short/, cut(100)],
    [/byte 65536: it ends here, \d+ bytes too early: it was cut/, cut(DUMP_LOAD)],
    [/byte \d+: it ends here, 1 bytes too early: it was cut/, cut(whole - 1)],
  ];
  const all = await vmstat(...cases.map(([, path]): [string, string] => [path, '-mz']));
  for (const [i, { path, code, out, err }] of all.entries()) {
    assert.match(err, cases[i][0]);
    assert.ok(err.startsWith(`vmstat: ${path}: `) && err.split('\n').length === 2, err);
    assert.deepEqual([code, out], [1, ''], err);
  }
  const shown = kmem('-mzM', good);
  assert.deepEqual([shown.code, shown.err], [0, '']);
  assert.match(shown.out, /some +1 +1K[\s\S]*ITEM/);
  const ran = kmem('-m', '-M', all[5].path);
  assert.deepEqual([ran.code, ran.out], [1, '']);
  assert.match(ran.err, /^kmem vmstat: .*: byte 0: no ELF file.*\n$/);
  for (const [message, ...args] of [
    [/-M: give a value/, '-mM'],
    [/-M: a dump is read, no program is asked/, '-m', '-M', good, '-p', '12'],
    [/-M: a dump does not change/, '-m', '-M', good, '-w', '1'],
    [/say what to show/, '-M', good],
  ] as [RegExp, ...string[]][]) {
    const wrong = kmem(...args);
    assert.equal(wrong.code, 2, wrong.err);
    assert.match(wrong.err, message);
  }
});

test('lists that go in a circle: no reader follows them for ever', async () => {
  const machine = boot({ memory: '1M', cpus: 2 });
  for (let i = 0; i < 5; i++) machine.type(`type ${i}`).alloc(100);
  const [old, young] = ['type 0', 'type 4'].map((name) => malloc_desc2type(name));
  const keg = uma_root.kegs[uma()];
  const last = uma_keg.link[keg];
  const words: [string, number, number][] = [
    ['types', field_word(malloc_type.next, old), young],
    ['kegs', field_word(uma_keg.link, last), keg],
    ['a zone', field_word(uma_zone.link, uma_keg.zones[keg]), uma_keg.zones[keg]],
    ['no type', field_word(malloc_type.magic, old), 5],
  ];
  // How many there are is wrong, too: that number does not end a walk.
  const numbers = [
    field_word(uma_root.nzones, uma()),
    field_word(malloc_root.count, malloc_anchor()),
  ];
  const good = fresh();
  machine.dump(good);
  machine.shutdown();
  const paths = [...words, ...words].map(([, word, to], i) => {
    const bytes = readFileSync(good);
    if (i >= words.length) for (const at of numbers) bytes.writeInt32LE(-9, DUMP_LOAD + at * 4);
    bytes.writeInt32LE(to, DUMP_LOAD + word * 4);
    const path = fresh();
    writeFileSync(path, bytes);
    return path;
  });
  const all = await vmstat(
    ...paths.flatMap((path): [string, string][] => [
      [path, '-m'],
      [path, '-z'],
    ]),
  );
  const codes = all.map(({ code }) => code);
  const expected = [1, 0, 0, 1, 0, 1, 0, 0];
  assert.deepEqual(codes, [...expected, ...expected]);
  for (const { code, err } of all) {
    if (code === 1)
      assert.match(err, /^vmstat: .*: the memory is wrong there: a list that does not end\n$/);
  }
  // What holds is shown: the types of one time round, each once.
  for (let i = 0; i < 5; i++) {
    assert.equal(all[0].out.match(new RegExp(`^ +type ${i} `, 'gm'))?.length, 1, all[0].out);
  }
});

test('bounds that are wrong: one line, and no walk from one to the other', async () => {
  const machine = boot({ memory: '1M', cpus: 2 });
  const good = fresh();
  machine.dump(good);
  const ph = phys_root();
  const words = [
    field_word(header.column_rows, elem(M, 0)),
    field_word(header.column_rows, elem(M, 1)),
    field_word(header.column_start, elem(M, 2)),
    field_word(vm_phys.low, ph),
    field_word(vm_phys.high, ph),
    field_word(header.roots, elem(M, ROOT_PHYS)),
  ];
  machine.shutdown();
  const paths: string[] = [];
  for (const word of words) {
    for (const to of [-1, 2 ** 31 - 1, 758_780_245, -(2 ** 31)]) {
      const bytes = readFileSync(good);
      bytes.writeInt32LE(to, DUMP_LOAD + word * 4);
      const path = fresh();
      writeFileSync(path, bytes);
      paths.push(path);
    }
  }
  const all = await vmstat(...paths.map((path): [string, string] => [path, '-mzs']));
  for (const { code, err } of all) {
    assert.equal(code, 1);
    assert.match(err, /^vmstat: [^\n]+: byte \d+: [^\n]+\n$/);
  }
});

test('a memory that is wrong: what can be read is, and one line says where it ends', async () => {
  const machine = boot({ memory: '1M', cpus: 2 });
  for (let i = 0; i < 20; i++) machine.type(`type ${i}`).alloc(100 * i);
  const good = fresh();
  machine.dump(good);
  machine.shutdown();
  const draw = dice(SEED);
  const bytes = readFileSync(good);
  const used: number[] = [];
  for (let at = DUMP_LOAD + 512; at < bytes.length; at++) if (bytes[at] !== 0) used.push(at);
  const paths = Array.from({ length: 40 }, () => {
    const path = fresh();
    const bad = Uint8Array.from(bytes);
    for (let n = 1 + draw(200); n > 0; n--) bad[used[draw(used.length)]] = draw(256);
    writeFileSync(path, bad);
    return path;
  });
  const all = await vmstat(...paths.map((path): [string, string] => [path, '-mzs']));
  for (const { code, out, err } of all) {
    assert.ok(code === 0 || code === 1, `seed ${SEED}`);
    assert.equal(code === 0, err === '', `seed ${SEED}: ${err}`);
    if (code === 0) assert.match(out, /Requests[\s\S]*ITEM/, `seed ${SEED}`);
    else assert.match(err, /^vmstat: [^\n]+\n$/, `seed ${SEED}`);
  }
});
