/*
 * Shown: `kmem replay` of a capture as its users meet it: the verdict and netstat -m
 * line by line, one JSON document with every promised name, standard input, a file
 * written, one line and the right exit code for what cannot be played; what is read is
 * not written over; signals, closed output and full disks end it as they should.
 * By what means: the command runs as a process of its own, on real files and pipes.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, linkSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync } from 'node:zlib';
import {
  BUNDLED,
  drawn,
  temporary_file,
  temporary_folder,
} from '../replay/read/traces.test.common.ts';
import {
  ended,
  kmem,
  kmem_each,
  HTTP2,
  MAKE,
  refused,
  replay,
  replay_json,
  start,
} from './replay.test.lib.ts';

const truth = JSON.parse(readFileSync(join(BUNDLED, 'truth.json'), 'utf8'))['http2.pcap.gz'];

test('the verdict and netstat -m, line by line', async () => {
  const { code, out, err } = await replay('--cpus', '2', HTTP2);
  assert.deepEqual([code, err], [0, '']);
  const lines = out.split('\n');
  const timeless = lines.filter((l) => !/^ {2}(time|memory) /.test(l));
  assert.deepEqual(timeless.slice(0, 7), [
    'http2.pcap.gz: pcap, 1,339 packets, received on CPU 1 and sent on CPU 2',
    '  capture       Ethernet, 1.35M of 1.35M on the wire, 0.068219 s',
    '  protocols     1,337 ipv4, 1,281 tcp, 52 ip fragment, 12 udp, 2 arp',
    '  contents      every byte came out as it was recorded (SHA-256)',
    '  mbufs         all given back: mbufs, clusters and tags',
    '',
    'netstat -m',
  ]);
  assert.match(out, /^ {2}time {10}\d+\.\d\d s, too short to speak of speed$/m);
  assert.match(out, /^0\/\d+\/\d+ mbufs in use \(current\/cache\/total\)$/m);
  assert.match(out, /^0\/\d+\/\d+\/\d+ 4k \(page size\) jumbo clusters in use \(/m);
  assert.match(
    lines.at(-2) ?? '',
    /^\d+ calls to protocol drain routines$/,
    'it ends with netstat',
  );
  assert.deepEqual(
    lines.filter((l) => l.length > 80),
    [],
    'fits a terminal',
  );
  const quiet = await replay('--quiet', '--cpus', '1', '--loop', '9', HTTP2);
  assert.match(quiet.out, /: pcap, 1,339 packets, sent on the CPU that received them\n/);
  assert.match(quiet.out, /^ {2}time .* s, [\d,]+ packets\/s, \S+\/s$/m);
  assert.match(quiet.out, /, played 9 times$/m);
  assert.ok(!quiet.out.includes('netstat'));
});

test('--json: one document; standard input is a file like others', async () => {
  const d = await replay_json('--cpus', '2', HTTP2);
  for (const [name, value] of Object.entries(truth)) assert.deepEqual(d.trace[name], value, name);
  assert.equal(d.trace.wire_bytes, truth.original_bytes);
  assert.equal(d.packets.sha256_of_sent_bytes, truth.sha256_of_captured_bytes);
  assert.deepEqual(d.verdict, {
    bytes_equal: true,
    mbufs_left: 0,
    clusters_left: 0,
    tags_left: 0,
    good: true,
  });
  assert.deepEqual([d.mbufs.mbufs.current, d.mbufs.clusters.current], [0, 0]);
  assert.ok(d.mbufs.bytes.total > 0 && d.time.packets_per_second > 0);
  assert.deepEqual([d.cpus, d.verified, d.complaints], [2, true, []]);
  const plain = gunzipSync(readFileSync(HTTP2));
  const run = await kmem(['replay', '--json', '--cpus', '1', '-'], plain);
  assert.deepEqual([run.code, run.err], [0, '']);
  assert.equal(JSON.parse(run.out).trace.sha256_of_captured_bytes, truth.sha256_of_captured_bytes);
});

test('--write and --sysctl; a heap and a capture in one run', async (t) => {
  const to = join(temporary_folder(t), 'out.pcap');
  const one = await replay('--write', to, '--sysctl=kern.ipc.nmbclusters', HTTP2);
  assert.match(one.out, /\n\nsysctl kern\.ipc\.nmbclusters\nkern\.ipc\.nmbclusters: \d+\n$/);
  assert.ok(readFileSync(to).equals(gunzipSync(readFileSync(HTTP2))));
  const both = await replay_json('--cpus', '1', MAKE, HTTP2);
  assert.deepEqual(
    both.map((d: object) => ['heap' in d, 'mbufs' in d]),
    [
      [true, false],
      [false, true],
    ],
  );
});

test('what is read is not written over, by whatever name', async (t) => {
  const folder = temporary_folder(t);
  const file = join(folder, 'in.pcap.gz');
  const before = readFileSync(HTTP2);
  writeFileSync(file, before);
  const [hard, soft] = [join(folder, 'hard'), join(folder, 'soft')];
  linkSync(file, hard);
  symlinkSync(file, soft);
  const line =
    /^kmem replay: --(write|sysctl-dump) \S+: this is what is read \(\S+\); name another /;
  for (const to of [file, hard, soft]) {
    refused(await replay('--write', to, file), line);
    assert.ok(readFileSync(file).equals(before), 'the capture is as it was');
  }
  refused(await replay('--sysctl-dump', `vm.stats=${hard}`, file), line);
  // What was there stays when there is nothing new.
  const kept = join(folder, 'kept.pcap');
  writeFileSync(kept, 'an older one');
  refused(await replay('--write', kept, join(folder, 'absent.pcap')), /no such file/);
  assert.equal(readFileSync(kept, 'utf8'), 'an older one');
  assert.ok(readFileSync(file).equals(before));
});

test('a full disk, a pipe with a name', async (t) => {
  for (const cpus of drawn(['1', '2', '3'])) {
    const full = await replay('--write', '/dev/full', '--cpus', cpus, '--loop', '3', HTTP2);
    refused(full, /^kmem replay: \/dev\/full: cannot be written \(ENOSPC\); /);
  }
  const pipe = join(temporary_folder(t), 'pipe.pcap');
  execFileSync('mkfifo', [pipe]);
  const running = replay('--quiet', pipe);
  await writeFile(pipe, gunzipSync(readFileSync(HTTP2)));
  const { code, out } = await running;
  assert.equal(code, 0);
  assert.match(out, /^pipe\.pcap: pcap, 1,339 packets, [\s\S]* every byte came out as it was/);
});

test('stopped in the middle by a signal, and by whoever read enough', async (t) => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    const to = join(temporary_folder(t), 'out.pcap');
    const argv = ['replay', '--loop', '1000000', '--cpus', '2', '--write', to, HTTP2];
    const child = start(argv);
    const run = ended(child);
    const exit = new Promise((resolve) => child.once('exit', (_code, by) => resolve(by)));
    while (!existsSync(to) || statSync(to).size < 2 ** 20)
      await new Promise((go) => setTimeout(go, 5));
    child.kill(signal);
    assert.equal(await exit, signal, 'the shell sees which signal it was');
    const { out, err } = await run;
    assert.deepEqual([out, err], ['', '']);
  }
  const child = start(['replay', '--loop', '20', HTTP2]);
  child.stdout?.destroy();
  const { code, err } = await ended(child);
  assert.deepEqual([code, err], [0, '']);
});

test('what cannot be carried out, and captures that are cut or damaged', async (t) => {
  const plain = gunzipSync(readFileSync(HTTP2));
  const cut = temporary_file(t, 'cut.pcap', plain.subarray(0, 5000));
  const absurd = Buffer.from(plain.subarray(0, 5000));
  absurd.writeUInt32LE(2 ** 31, 24 + 8);
  const damaged = temporary_file(t, 'damaged.pcap', absurd);
  const nowhere = join(temporary_folder(t), 'no', 'out.pcap');
  const cases: [RegExp, string[], number?][] = [
    [/--rate 0: a whole number from 1/, ['--rate', '0', HTTP2]],
    [/--loop x: a whole number from 1/, ['--loop', 'x', HTTP2]],
    [/--write goes with one capture/, ['--write', nowhere, HTTP2, HTTP2]],
    [/--write .*out\.pcap: cannot be written \(ENOENT\)/, ['--write', nowhere, HTTP2]],
    [/are for captures; --fit, --compare and --programs for heaps/, ['--fit', '--drop', HTTP2]],
    [/make\.mtrace\.gz: is mtrace, no capture; /, ['--drop', MAKE]],
    [/http2\.pcap\.gz: is pcap, no recording of a heap; /, ['--fit', HTTP2]],
    [/damaged\.pcap: byte 24: packet 1 claims 2147483648 captured bytes, at most/, [damaged]],
    [/cut\.pcap: byte \d+: record \d+: cut after \d+ bytes; /, ['--strict', cut], 1],
  ];
  const runs = await kmem_each(
    t,
    cases.map(([, argv]) => ['replay', ...argv]),
  );
  for (const [i, [line, , code]] of cases.entries()) refused(runs[i], line, code);
  const { code, out } = await replay('--quiet', cut);
  assert.equal(code, 0);
  assert.match(out, /^ {2}recording {5}\d+ bytes of a record that was cut$/m);
  writeFileSync(cut, plain.subarray(0, 24));
  assert.match((await replay('--quiet', cut)).out, /^cut\.pcap: pcap, 0 packets, /);
});
