/*
 * Shown: what the reader says of a recording of system calls is what another program worked
 * out; split calls are joined, whoever wrote between; a recording without numbers of
 * processes, with notes of strace in it, cut at any byte, or damaged, is read as far as it
 * goes, and one line says where it ends.
 * By what means: the bundled recording beside truth.json; small ones, whole, in pieces, and
 * cut everywhere; the reader's own thread and a ring.  The full set follows in
 * strace.slow.test.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { modelled, read_strace, read_text, strace_truth } from './strace.test.lib.ts';
import { BUNDLED, random_from, SEED, temporary_file } from './traces.test.common.ts';

const truth = strace_truth(BUNDLED) ?? {};
assert.ok(Object.keys(truth).length > 0, `${BUNDLED}/truth.json has no recording of strace`);
for (const [name, wanted] of Object.entries(truth)) {
  test(`${name} equals the truth, and its operations can be played`, async (t) => {
    const { trace, error, model } = await read_strace([join(BUNDLED, name)]);
    assert.ok(trace, error?.message ?? 'no result');
    for (const [key, value] of Object.entries(wanted)) {
      assert.deepEqual(trace[key as keyof typeof trace], value, key);
    }
    assert.deepEqual([trace.malformed_lines, trace.damage], [0, undefined]);
    assert.deepEqual(model.wrong, []);
    assert.equal(model.processes.size, 0, 'all processes ended');
    assert.deepEqual([model.spaces.size, model.mapped], [0, 0], 'and nothing is left');
    t.diagnostic(`most pages mapped at once: ${model.most_mapped}`);
  });
}

test('packing, parts, pieces and how lines end change nothing', async (t) => {
  const text = gunzipSync(readFileSync(join(BUNDLED, 'make.strace.gz')));
  const { uncompressed_bytes, compressed_bytes, sha256, ...wanted } = truth['make.strace.gz'];
  assert.ok(uncompressed_bytes && compressed_bytes && sha256);
  const crlf = Buffer.from(text.toString('latin1').replaceAll('\n', '\r\n'), 'latin1');
  const cut = text.indexOf(10, 300_000) + 1;
  const put = (bytes: Uint8Array): string => temporary_file(t, 'part', bytes);
  for (const files of [
    [put(zstdCompressSync(text))],
    [put(crlf)],
    [put(gzipSync(text.subarray(0, cut))), put(text.subarray(cut))],
  ]) {
    const { trace, error } = await read_strace(files);
    assert.ok(trace, error?.message ?? 'no result');
    for (const [key, value] of Object.entries(wanted)) {
      assert.deepEqual(trace[key as keyof typeof trace], value, key);
    }
  }
  const below = random_from(SEED);
  const whole = read_text(text);
  const pieces = read_text(text, () => 1 + below(3000));
  assert.deepEqual(pieces, whole, `seed ${SEED}`);
});

const SMALL = [
  '12  10:00:00 execve("/bin/sh", ["sh"], 0x7ffd /* 3 vars */) = 0',
  '12  10:00:01 read(0,  <unfinished ...>',
  '13  10:00:01 --- SIGCHLD {si_signo=SIGCHLD, si_pid=12} ---',
  '13  10:00:02 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS <unfinished ...>',
  '12  10:00:02 <... read resumed>"a) = 5\\n"..., 4096) = 2996',
  '13  10:00:02 <... mmap resumed>, -1, 0) = 0x7f0000000000',
  '13  10:00:02 write(1, "x", 1) = -1 EPIPE (Broken pipe)',
  '13  10:00:03 munmap(0x7f0000000000, 8192) = 0',
  '13  10:00:03 +++ killed by SIGPIPE +++',
  '12  10:00:04 wait4(-1,  <unfinished ...>',
  '12  10:00:04 +++ exited with 1 +++',
];

test('calls in two parts, and those that were never resumed', () => {
  const { document } = read_text(`${SMALL.join('\n')}\n`);
  assert.deepEqual(document.malformed, []);
  const { lines, unparsed, signals, exits, killed, resumed, unfinished } = document;
  const counts = { lines, unparsed, signals, exits, killed, resumed, unfinished };
  const wanted = { signals: 1, exits: 1, killed: 1, resumed: 2, unfinished: 3 };
  assert.deepEqual(counts, { lines: 11, unparsed: 0, ...wanted });
  assert.deepEqual(document.never_resumed_calls, { wait4: 1 });
  assert.deepEqual(document.calls, { execve: 1, mmap: 1, munmap: 1, read: 1, write: 1 });
  assert.deepEqual(document.errors, { EPIPE: 1 });
  const { mmap_bytes, munmap_bytes, read_bytes, write_bytes, thread_ids_seen } = document;
  assert.deepEqual([mmap_bytes, munmap_bytes, read_bytes, write_bytes], [8192, 8192, 2996, 0]);
  assert.equal(thread_ids_seen, 2);
});

test('a recording that begins in the middle of calls', () => {
  const { document } = read_text('7 <... mmap resumed>, -1, 0) = 0x7f0000000000\n8 close(3) = 0\n');
  assert.deepEqual(document.malformed, []);
  assert.deepEqual(document.calls, { close: 1, mmap: 1 });
  assert.deepEqual([document.resumed, document.unfinished, document.never_resumed], [1, 0, 0]);
  assert.deepEqual(document.plan.not_played, { close: 1, mmap: 1 });
});

test('lines without a number, with notes in the middle, as on a terminal', () => {
  const terminal = [
    'execve("./t", ["./t"], 0x7f /* 35 vars */) = 0',
    'mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0xa000',
    'clone3({flags=CLONE_VM|CLONE_THREAD, stack=0x7f}strace: Process 41 attached',
    ' => {parent_tid=[41]}, 88) = 41',
    '[pid    41] rseq(0x7f, 0x20, 0, 0x53053053 <unfinished ...>',
    '[pid    40] munmap(0xa000, 4096strace: Process 43 attached',
    'strace: Process 42 attached',
    ' <unfinished ...>',
    '[pid    41] <... rseq resumed>) = 0',
    '[pid    40] <... munmap resumed>) = 0',
    '[pid    41] exit(0) = ?',
    '[pid    41] +++ exited with 0 +++',
    'vfork(strace: Process 44 attached',
    ' <unfinished ...>',
    '[pid    44] execve("/bin/sh", ["sh"], 0x7f) = 0',
    '[pid    40] <... vfork resumed>) = 44',
    '[pid    44] exit_group(3) = ?',
    '[pid    44] +++ exited with 3 +++',
    '--- SIGCHLD {si_signo=SIGCHLD, si_pid=44} ---',
    'exit_group(0) = ?',
    '+++ exited with 0 +++',
  ];
  const read = read_text(`${terminal.join('\n')}\n`);
  const { document } = read;
  assert.deepEqual(document.malformed, []);
  assert.equal(document.lines, terminal.length);
  assert.equal(document.notes, 4);
  assert.equal(document.thread_ids_seen, 3);
  assert.deepEqual(document.calls, {
    execve: 2,
    exit_group: 2,
    clone3: 1,
    exit: 1,
    mmap: 1,
    munmap: 1,
    rseq: 1,
    vfork: 1,
  });
  assert.deepEqual([document.processes_created, document.threads_created], [1, 1]);
  assert.deepEqual([document.unfinished, document.resumed, document.exits], [3, 3, 3]);
  const model = modelled(read);
  assert.deepEqual([model.processes.size, model.spaces.size, model.wrong], [0, 0, []]);
});

test('what the program wrote stands between the lines, and in calls', () => {
  const mixed = [
    'execve("./t", ["./t"], 0x7f /* 35 vars */) = 0',
    'write(2, "no such file\\n", 13no such file',
    ') = 13',
    'write(2, "a\\nb\\n", 4a',
    'b',
    ')       = 4',
    'Usage: t FILE (see t --help)',
    'close(2) = 0',
    'write(2, "x(1\\n", 4x(1',
    'close(3) = 0',
    'open(2',
    'two',
  ];
  const { document } = read_text(`${mixed.join('\n')}\n`);
  assert.deepEqual(document.calls, { close: 2, write: 2, execve: 1 });
  assert.equal(document.write_bytes, 17);
  assert.equal(document.lines, 12);
  assert.deepEqual(
    document.malformed.map((line) => line.slice(0, 30)),
    [
      'trace:7: no call, signal or en',
      'trace:9: write without `) = ` ',
      'trace:11: open without `) = ` ',
      'trace:12: no call, signal or e',
    ],
  );
});

test('cut at any byte: what is before it counts, and one line says where', async (t) => {
  const text = `${SMALL.join('\n')}\n`;
  for (let end = 0; end <= text.length; end++) {
    const kept = text.slice(0, end);
    const { document, whole } = read_text(kept);
    const rest = kept.slice(kept.lastIndexOf('\n') + 1);
    const finished = rest === '' || /(\+\+\+ .*\+\+\+|--- .*---|<unfinished \.\.\.>)$/.test(rest);
    assert.equal(whole, finished, JSON.stringify(rest));
    assert.equal(document.malformed_lines, 0, JSON.stringify(rest));
    const before = read_text(finished ? `${kept}\n` : kept.slice(0, end - rest.length));
    assert.deepEqual(document.calls, before.document.calls);
    const { unfinished, never_resumed, resumed } = document;
    assert.equal(unfinished, never_resumed + resumed);
  }
  for (const packed of [false, true]) {
    const bytes = Buffer.from(text.slice(0, text.indexOf('munmap(') + 9));
    const file = temporary_file(t, 'cut', packed ? gzipSync(bytes) : bytes);
    const { trace, error } = await read_strace([file]);
    assert.ok(trace, error?.message ?? 'no result');
    assert.match(trace.damage ?? '', /cut: line 8: the file ends in the middle of this line$/);
    assert.equal(trace.damaged_at, bytes.length);
    assert.deepEqual([trace.lines, trace.unparsed], [8, 0]);
    const strict = await read_strace([file], { strict: true });
    assert.equal(strict.error?.fault, 'strict');
    assert.match(strict.error?.message ?? '', /: line 8: the file ends in the middle of [^\n]*$/);
  }
});

test('damaged lines are counted and told; a strict reading ends at the first', async (t) => {
  const text = [
    ...SMALL.slice(0, 4),
    'Segmentation fault',
    '12  10:00:01 mmap(NULL, 81x92, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f0000000000',
    ...SMALL.slice(4),
    '14  10:00:05 close(3) =',
    '',
  ];
  const file = temporary_file(t, 'bad', `${text.join('\n')}\n`);
  const { trace, error } = await read_strace([file]);
  assert.ok(trace, error?.message ?? 'no result');
  assert.equal(trace.unparsed, 4);
  assert.deepEqual(
    trace.malformed.map((line) => line.slice(file.length)),
    [
      ':5: no call, signal or end: "Segmentation fault"',
      ':6: mmap: its length, argument 2, is "81x92"',
      ':14: close without `) = ` and a result',
      ':15: an empty line',
    ],
  );
  assert.deepEqual(trace.calls, { execve: 1, mmap: 1, munmap: 1, write: 1, read: 1 });
  const strict = await read_strace([file], { strict: true });
  assert.match(strict.error?.message ?? '', /^[^\n]*bad: line 5: no call, signal or end: [^\n]*$/);
});

test('what is no recording, and one among what a program wrote', async (t) => {
  const broken = temporary_file(t, 'none', 'close(3\nclose(4\n');
  const { error } = await read_strace([broken]);
  assert.match(error?.message ?? '', /no line of this file was understood as strace; the first: 1/);
  const mixed = temporary_file(t, 'mixed', `Hello, world\n\nDone.\n${SMALL.join('\n')}\n`);
  const { trace } = await read_strace([mixed]);
  assert.deepEqual([trace?.unparsed, trace?.lines, trace?.signals], [3, 14, 1]);
  const long = temporary_file(t, 'long', `${SMALL[0]}\n12 write(1, "${'x'.repeat(70_000)}") = 1\n`);
  const kept = await read_strace([long]);
  assert.match(kept.trace?.malformed[0] ?? '', /:2: longer than 65536 bytes/);
});
