/*
 * Shown: whatever bytes come in, the answer is one clear line or a count of malformed lines, never
 * a crash, a hang or growing memory; odd but legal lines mean what they should.
 * By what means: files made on the spot, read by the reader's real thread; the same lines cut into
 * chunks of every small size; a line of 256 MB (long_line.stress.ts has one of 1 GB).  Of the
 * places where files are cut some are drawn; recordings.stress.ts takes all.
 */

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import * as zlib from 'node:zlib';
import { HeapStream } from './heap_stream.ts';
import { LineCutter } from './lines.ts';
import { MtraceParser } from './mtrace.ts';
import { open_reader, type ReaderOptions, type TraceResult } from './reader.ts';
import { make_ring, RingReader, RingWriter } from '../ring/ring.ts';
import { SourceError } from './source.ts';
import {
  BUNDLED,
  drawn,
  long_line_growth,
  long_line_gzip,
  play,
  random_from,
  SEED,
  temporary_file,
  temporary_folder,
} from './traces.test.common.ts';
import { TraceStats } from './trace_stats.ts';
import { type Engine, make_engine, Unpacking } from './unpack.ts';

const { gunzipSync, gzipSync } = zlib;
const MAKE = readFileSync(join(BUNDLED, 'make.mtrace.gz'));

/* Reads a trace whose events all fit into the ring, so that no player is needed. */
async function read(files: string[], more: Partial<ReaderOptions> = {}): Promise<TraceResult> {
  return open_reader({ files, cpus: 1, ring_events: 1 << 20, ...more }).done;
}

async function refused(file: string): Promise<SourceError> {
  const reader = open_reader({ files: [file], cpus: 1 });
  const error = await reader.done.then(
    () => assert.fail(`${file} was accepted`),
    (why: unknown) => why,
  );
  assert.ok(error instanceof SourceError);
  assert.ok(!error.message.includes('\n'), 'one line');
  assert.ok(error.message.startsWith(file), error.message);
  const ring = new RingReader(reader.ring_handle, 0);
  for (let n = ring.next_batch(); n !== -1; n = ring.next_batch()) {
    assert.ok(n > 0, 'the ring must not end as if all were well');
    ring.release(n);
  }
  return error;
}

const { constants } = zlib;
/** What the first bytes of a packed file unpack to; null: they are damaged. */
function unpacked(kind: string, bytes: Uint8Array): Buffer | null {
  try {
    return kind === 'gzip'
      ? gunzipSync(bytes, { finishFlush: constants.Z_SYNC_FLUSH })
      : zlib.zstdDecompressSync(bytes, { finishFlush: constants.ZSTD_e_continue });
  } catch {
    return null;
  }
}
/** The longest good beginning of a packed file, unpacked. */
function best_unpacked(kind: string, bytes: Uint8Array): Buffer {
  let [good, bad] = [0, bytes.length + 1];
  while (bad - good > 1) {
    const n = (good + bad) >> 1;
    if (unpacked(kind, bytes.subarray(0, n)) === null) bad = n;
    else good = n;
  }
  return unpacked(kind, bytes.subarray(0, good)) as Buffer;
}
/** Whole lines that are events. */
function events(text: Buffer): number {
  return text.toString('latin1').match(/^@ .*\n/gm)?.length ?? 0;
}

test('a truncated or damaged gzip or zstd file is played as far as it unpacks', async (t) => {
  const text = gunzipSync(MAKE);
  const zstd = zlib.zstdCompressSync(Buffer.concat([text, text]));
  for (const [kind, whole] of Object.entries({ gzip: MAKE, zstd })) {
    const half = whole.length >> 1;
    const hurt = Buffer.from(whole);
    hurt.fill(0x55, half, half + 40);
    const sum = Buffer.from(whole);
    sum[sum.length - 6] ^= 1;
    const tail = Buffer.concat([whole, Buffer.from('\x1fand so on')]);
    const cuts = [100, half, whole.length - 1].map((n) => whole.subarray(0, n));
    for (const [i, bytes] of drawn([...[...cuts, hurt, sum, tail].entries()], 3)) {
      if (bytes === tail && kind === 'zstd') continue; // Node passes over it
      const best = i < cuts.length ? (unpacked(kind, bytes) as Buffer) : best_unpacked(kind, bytes);
      const file = temporary_file(t, 'broken', bytes);
      const what = i < cuts.length ? `${kind} data ends too early` : `${kind} data is damaged`;
      const place = new RegExp(`^[^;]*broken: byte \\d+: the ${what}`);
      if (events(best) === 0) {
        assert.match((await refused(file)).message, place);
        continue;
      }
      const { trace } = await read([file]);
      // Behind damage the text may be another one before the unpacking fails.
      const other = bytes === hurt;
      if (!other) assert.equal(trace.event_lines, events(best), `${kind}, case ${i}`);
      assert.equal(trace.damaged_at, best.length, `${kind}, case ${i}`);
      if (!other) assert.equal(trace.malformed_lines, 0);
      assert.match(trace.damage ?? '', place);
      assert.equal(trace.compressed_bytes, bytes.length);
      assert.equal(trace.sha256, createHash('sha256').update(bytes).digest('hex'));
      await assert.rejects(read([file], { strict: true }), (e: SourceError) => {
        return e.fault === 'strict' && (other || place.test(e.message));
      });
    }
  }
});

test('of a long damaged pipe all is given that unpacks', async () => {
  const random = random_from(SEED);
  const text = Buffer.from(Uint8Array.from({ length: 2_200_000 }, () => random(64) + 32));
  for (const [kind, pack] of [
    ['gzip', gzipSync],
    ['zstd', zlib.zstdCompressSync],
  ] as const) {
    const bytes = Buffer.from(pack(text));
    const at = 1_150_000 + random(100_000);
    bytes.fill(0xff, at, at + 300_000); // over the head of a block
    async function* pipe(): AsyncGenerator<Uint8Array> {
      for (let from = 0; from < bytes.length; from += 65536) {
        yield bytes.subarray(from, from + 65536);
      }
    }
    const unpacking = new Unpacking(kind, pipe(), null);
    const given: Uint8Array[] = [];
    for await (const chunk of unpacking.chunks(make_engine(kind) as Engine)) {
      given.push(Buffer.from(chunk));
    }
    unpacking.close();
    const best = best_unpacked(kind, bytes);
    assert.ok(best.length > 1 << 20);
    assert.equal(Buffer.concat(given).length, best.length, `${kind}, seed ${SEED}`);
    assert.ok(Buffer.concat(given).equals(best), `${kind}, seed ${SEED}`);
    assert.equal(unpacking.broken?.early, false);
  }
});

test('a plain file cut in its last line is told to be cut, and the line is no event', async (t) => {
  const mtrace = '= Start\n@ a:[0x1] + 0x10 0x20\n@ a:[0x1] + 0x20 0x1000\n= End\n';
  const threads = '# kmem-threads v1\n1\tm\t0x10\t32\n1\tm\t0x20\t4096\n# end\n';
  for (const text of [mtrace, threads]) {
    const first = text.indexOf('\n', 20) + 1;
    const number = text.indexOf('\n', first);
    const places = [first, first + 1, first + 9, number - 2, number, number + 1];
    const ends = [...places, text.length - 2, text.length - 1, text.length];
    for (const end of drawn(ends, 4)) {
      const kept = text.slice(0, end);
      const lines = kept.slice(0, kept.lastIndexOf('\n') + 1);
      const rest = kept.slice(lines.length);
      const events = lines.match(/^[@1]/gm)?.length;
      const whole = rest === '' || rest === '= End' || rest.startsWith('#');
      const file = temporary_file(t, 'kept', end === number ? gzipSync(kept) : kept);
      const what = JSON.stringify(rest);
      const { trace } = await read([file]);
      assert.equal(trace.event_lines, events, what);
      assert.equal(trace.requested_bytes_total, events === 2 ? 4128 : 32, what);
      assert.equal(trace.malformed_lines, 0, what);
      assert.equal(trace.damaged_at, whole ? undefined : end, what);
      const strict = read([file], { strict: true });
      if (whole) await strict;
      else {
        await assert.rejects(strict, { fault: 'strict' });
        assert.match(trace.damage ?? '', /kept: line \d: the file ends in the middle of this line/);
      }
    }
  }
});

test('what is not there or no file', async (t) => {
  const folder = temporary_folder(t);
  assert.match((await refused(join(folder, 'absent'))).message, /no such file/);
  assert.match((await refused(folder)).message, /is a directory/);
  assert.match((await refused(temporary_file(t, 'empty', ''))).message, /empty/);
  const empty = temporary_file(t, 'empty.gz', gzipSync(''));
  assert.match((await refused(empty)).message, /empty/);
});

test('other formats are called by their name', async (t) => {
  const heads: Record<string, string | Uint8Array> = {
    'kmem-pages': '# kmem-pages v2 page_bytes=4096 exact_from=8\nr 1a\n',
    'kmem-threads': '# kmem-threads v2\n1\tm\t0x10\t5\n',
    heaptrack: 'v 20000 4\nX /usr/bin/true\n',
    xz: Uint8Array.of(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0, 0, 0),
    'zip | unzip -p': 'PK\x03\x04\x14\0\0\0',
    'zip, | unzip -p': `PK\x05\x06${'\0'.repeat(18)}`,
    '7z | 7z x -so': Buffer.from('377abcaf271c0004', 'hex'),
    'compress | gzip -dc': Buffer.from('1f9d9068cab061f3', 'hex'),
    'snoop | editcap -F pcap': 'snoop\0\0\0\0\0\0\x02\0\0\0\x04',
    'web page | fetch the file itself': '\ufeff\n<!DOCTYPE html>\n<pre>\n= Start\n</pre>\n',
    'web page, | fetch the file itself': `<html><body>${'Not Found. '.repeat(2000)}</body></html>`,
    'ELF | heaptrack PROGRAM': readFileSync(process.execPath).subarray(0, 5000),
    'Git LFS | git lfs pull': 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n',
    'packed twice | gzip -dc': gzipSync(gzipSync(gunzipSync(MAKE))),
    'packed with xz | gzip -dc': gzipSync(Buffer.from('fd377a585a0000000000', 'hex')),
    'UTF-16 | iconv': Buffer.from('\ufeff= Start\n', 'utf16le'),
  };
  for (const [name, head] of Object.entries(heads)) {
    const error = await refused(temporary_file(t, 'other', head));
    const [called, advice = ''] = name.replace(',', '').split(' | ');
    assert.ok(error.reason.includes(called), error.message);
    assert.ok(error.advice.includes(advice), error.message);
    assert.match(error.message, /recognised as|packed (with|twice)/);
  }
});

test('a recording with something in front of it', async (t) => {
  const events = '@ a:[0x1] + 0x10 0x20\n@ a:[0x1] - 0x10\n';
  // Leads to '../../../tests/readers/' alone.
  const track = readFileSync(join(BUNDLED, '..', 'tests', 'readers', 'known.heaptrack.zst'));
  const cases: [text: string, malformed: number, format: string][] = [
    [`\ufeff= Start\n${events}`, 0, 'mtrace'],
    [`\ufeff${events}`, 0, 'mtrace'],
    [`Server 1.2 starting up\n\nmain(): go\n= Start\n${events}`, 3, 'mtrace'],
    [`main(): ready\r\n= Start\r\n${events}`, 1, 'mtrace'],
    [`${'x'.repeat(20_000)}\n= Start\n${events}`, 1, 'mtrace'],
    [`Server 1.2\n${events}`, 1, 'mtrace'],
    [`Server 1.2\n${events.replaceAll('@ a:', '')}`, 1, 'mtrace'],
    [`\ufeff# kmem-threads v1\n1\tm\t0x10\t5\n1\tf\t0x10\t0\n`, 0, 'kmem-threads v1'],
    [`hi\n# kmem-threads v1\n1\tm\t0x10\t5\n1\tf\t0x10\t0\n`, 1, 'kmem-threads v1'],
    [`hello\ns tart\n${zlib.zstdDecompressSync(track)}`, 2, 'heaptrack'],
  ];
  for (const [text, malformed, format] of cases) {
    const { trace } = await read([temporary_file(t, 'front', text)]);
    assert.equal(trace.format, format);
    assert.deepEqual(trace.malformed_lines, malformed, text.slice(0, 80));
    assert.equal(trace.event_lines, format === 'heaptrack' ? 4103 : 2);
  }
});

test('a file of which no line is understood is no recording', async (t) => {
  const texts = [
    '@ everyone: lunch at noon\n@ nobody\n',
    '= Start\nbroken\nbroken\n= End\n',
    'printf("hello")\n',
    '1234  1700000000.123456 mmap(NULL, 4096, PROT_READ) = 0x7f\n',
    '# kmem-threads v1\n1 m 0x10 5\n1 f 0x10 0\n',
    'v 10400 3\nnothing\nof\nthe kind\n',
    '@ cut',
  ];
  for (const text of texts) {
    const { message } = await refused(temporary_file(t, 'nonsense', text));
    assert.match(message, /no line of this file was understood as .*; the first: \d+: /);
  }
  for (const text of ['= Start\n', '= Start\n= End\n', '= Start\n@ a:[0x', 'v 10400 3\nX ./a']) {
    const { trace } = await read([temporary_file(t, 'short', text)]);
    assert.equal(trace.event_lines, 0, text);
  }
});

test('binary noise is not a trace, packed or not', async (t) => {
  const random = random_from(SEED);
  for (let round = 0; round < 4; round++) {
    const noise = Uint8Array.from({ length: 100_000 }, () => random(256));
    noise[0] |= 0x80;
    const error = await refused(temporary_file(t, 'noise', round < 2 ? noise : gzipSync(noise)));
    assert.match(error.message, /not a trace format kmem knows/, `seed ${SEED}`);
  }
});

test('noise behind a good beginning is counted, with the first places', async (t) => {
  const random = random_from(SEED);
  const noise = Buffer.from(Uint8Array.from({ length: 300_000 }, () => random(256)));
  noise[noise.length - 1] = 0x0a;
  const good = '= Start\n@ a:[0x1] + 0x10 0x20\n';
  const file = temporary_file(t, 'noise', Buffer.concat([Buffer.from(good), noise]));
  const { trace } = await read([file]);
  const lines = noise.toString('latin1').split('\n').length - 1;
  assert.equal(trace.malformed_lines, lines, `seed ${SEED}`);
  assert.equal(trace.malformed.length, 20);
  assert.ok(trace.malformed[0].startsWith(`${file}:3: `));
  assert.equal(trace.never_freed_blocks, 1);
});

test('strict stops at the first malformed line', async (t) => {
  const file = temporary_file(
    t,
    'bad',
    '= Start\n@ a:[0x1] + 0x10 0x20\nwhat?\n@ a:[0x1] - 0x10\n',
  );
  await assert.rejects(read([file], { strict: true }), (error: Error) => {
    return error.message.startsWith(`${file}: line 3: `);
  });
  const { trace } = await read([file]);
  assert.equal(trace.malformed_lines, 1);
  assert.equal(trace.event_lines, 2);
});

test('a file of another format after the first is refused', async (t) => {
  const threads = temporary_file(t, 'threads', '# kmem-threads v1\n1\tm\t0x10\t5\n');
  const mtrace = temporary_file(t, 'mtrace', '= Start\n');
  await assert.rejects(read([mtrace, threads]), /is kmem-threads v1, the file before it mtrace/);
});

test('every odd line of mtrace', async (t) => {
  const lines: [line: string, malformed: boolean][] = [
    ['= Start', false],
    ['@ a + b:[0x1] + 0xffffffffffffff00 0x0', false],
    ['+ 0x20 0x8', false],
    ['@ a:[0x1] + (nil) 0xffffffffffffffff', false],
    ['@ a:[0x1] + 0x30 0xffffffffffffffff', false],
    ['@ a:[0x1] - 0x30', false],
    ['@ a:[0x1] + 0x40 -5', true],
    ['@ a:[0x1] + 0x40 -0x5', true],
    ['@ a:[0x1] + 0x40 0x10000000000000000', true],
    ['@ a:[0x1] + 0x40 0x', true],
    ['@ a:[0x1] + 0x40 99', true],
    ['@ a:[0x1] * 0x40 0x10', true],
    ['@ a:[0x1] - (nil)', true],
    ['@ a:[0x1] > 0x40 0x10', true],
    ['@ a:[0x1] < 0x20', false],
    ['@ a:[0x1] + 0x50 0x7', true],
    ['@ a:[0x1] - 0x777', false],
    ['@ a:[0x1] + 0x20 0x9', false],
    ['x + 0x60 0x10', true],
    ['./old:[0x2] + 0x60 0x10', false],
    ['[0x2] < 0x60', false],
    ['[0x2] > 0x68 0x18', false],
    ['./old:(f+0x3)[0x2] - 0x68', false],
    ['./old:(f+0x3)[0x2]- 0x68', true],
    ['[0x2] * 0x60 0x10', true],
    ['@', true],
    ['@ ', true],
    ['', true],
    ['= Stop', true],
    ['0x10', true],
    [' - 0x10', true],
    ['@ a:[0x1] < 0x20', false],
  ];
  const text = lines.map(([line]) => `${line}\n`).join('');
  const { trace } = await read([temporary_file(t, 'odd', text)]);
  const places = trace.malformed.map((place) => Number(/:(\d+): /.exec(place)?.[1]));
  const expected = lines.flatMap(([, bad], i) => (bad ? [i + 1] : []));
  assert.deepEqual(places, expected);
  assert.match(trace.damage ?? '', /the recording ends between a realloc's '<' and '>' lines/);
  assert.equal(trace.malformed_lines, expected.length);
  assert.equal(trace.failed, 1);
  assert.equal(trace.acquired_while_live, 1);
  assert.equal(trace.free_of_unknown, 1);
  assert.equal(trace.never_freed_blocks, 3);
  /* The huge block came and went and left no rounding behind: 0 + 7 + 9. */
  assert.equal(trace.never_freed_bytes, 16);
  assert.equal(trace.peak_live_bytes, 2 ** 64 + 8);
  assert.equal(trace.size_histogram['18446744073709551616'], 1);
});

test('every odd line of threads', async (t) => {
  const lines: [line: string, malformed: boolean][] = [
    ['# kmem-threads v1', false],
    ['# a comment', false],
    ['1\tm\t0x10\t5', false],
    ['900000\ta\t0x20\t64\t64', false],
    ['1\ta\t0x30\t64\t48', true],
    ['1\ta\t0x0\t64\t48', false],
    ['1\tm\t0x40\t-5', true],
    ['1\tm\t0x40\t18446744073709551615', false],
    ['1\tm\t0x50\t99999999999999999999999', true],
    ['-1\tm\t0x50\t1', true],
    ['1 m 0x50 1', true],
    ['1\tz\t0x50\t1', true],
    ['1\tm\t50\t1', true],
    ['1\tm\t0x50', true],
    ['1\tr\t0x50\t1', true],
    ['1\tr\t0x60\t9\t0x10', false],
    ['1\tr\t0x0\t9\t0x60', false],
    ['1\tr\t0x0\t0\t0x60', false],
    ['1\tr\t0x0\t0\t0x60', false],
    ['1\tr\t0x70\t3\t0x999', false],
    ['1\tf\t0x20\t0', false],
    ['1\tf\t0x0\t0', true],
  ];
  const text = lines.map(([line]) => `${line}\n`).join('');
  const { outcome, players } = await play({ files: [temporary_file(t, 'odd', text)], cpus: 1 });
  assert.ok(outcome.result, outcome.error?.message ?? 'no result');
  const { trace } = outcome.result;
  const places = trace.malformed.map((place) => Number(/:(\d+): /.exec(place)?.[1]));
  assert.deepEqual(
    places,
    lines.flatMap(([, bad], i) => (bad ? [i + 1] : [])),
  );
  assert.equal(trace.threads, 2);
  assert.equal(trace.failed, 2);
  assert.equal(trace.realloc_of_unknown, 2);
  assert.equal(trace.realloc_moved, 2);
  assert.equal(trace.released_by_other_thread, 1);
  assert.equal(trace.released_by_acquiring_thread, 2);
  assert.equal(trace.never_freed_blocks, 2);
  assert.deepEqual(players[0].complaints, []);
  assert.equal(players[0].aligned, 1);
  assert.deepEqual(players[0].sites, ['malloc', 'calloc', 'aligned', 'realloc']);
});

test('where chunks are cut changes nothing', () => {
  const text = gunzipSync(readFileSync(join(BUNDLED, 'edges.mtrace.gz')));
  const read_in_chunks = (cut: (at: number) => number): unknown => {
    const stats = new TraceStats(false);
    const heap = new HeapStream(new RingWriter(make_ring(1)), stats, 'caller');
    const cutter = new LineCutter();
    const parser = new MtraceParser(cutter, heap);
    for (let at = 0; at < text.length; ) {
      const n = Math.max(1, cut(at));
      cutter.feed(text.subarray(at, at + n), parser);
      at += n;
    }
    cutter.finish(parser);
    return parser.document();
  };
  const whole = read_in_chunks(() => text.length);
  for (let n = 1; n < 200; n += n < 20 ? 1 : 13)
    assert.deepEqual(
      read_in_chunks(() => n),
      whole,
    );
  const random = random_from(SEED);
  for (let i = 0; i < 30; i++) {
    assert.deepEqual(
      read_in_chunks(() => random(300)),
      whole,
      `seed ${SEED}`,
    );
  }
});

test('a long line is skipped in bounded memory', async (t) => {
  const line_bytes = 256 * 2 ** 20;
  const file = temporary_file(t, 'long.gz', long_line_gzip(line_bytes));
  await read([join(BUNDLED, 'make.mtrace.gz')]);
  const growth = await long_line_growth(file);
  t.diagnostic(`memory grew by ${(growth / 2 ** 20).toFixed(1)} MiB for a line of 256 MiB`);
  assert.ok(growth < line_bytes / 2, `${growth} bytes`);
});

const PRINT_TRACE = `
  import { open_reader } from '${new URL('./reader.ts', import.meta.url).href}';
  const reader = open_reader({ files: ['-'], cpus: 1, ring_events: 65536 });
  process.stdout.write(JSON.stringify((await reader.done).trace));
`;

test('standard input: a pipe, packed or plain, in small pieces', async () => {
  for (const input of [MAKE, gunzipSync(MAKE)]) {
    const running = promisify(execFile)(process.execPath, [
      '--input-type=module',
      '-e',
      PRINT_TRACE,
    ]);
    const stdin = running.child.stdin;
    assert.ok(stdin);
    stdin.write(input.subarray(0, 1));
    await new Promise((resolve) => setTimeout(resolve, 20));
    stdin.write(input.subarray(1, 5));
    stdin.end(input.subarray(5));
    const trace = JSON.parse((await running).stdout);
    assert.equal(trace.event_lines, 5365);
    assert.equal(trace.compressed_bytes, input.length);
    assert.equal(trace.never_freed_bytes, 172865);
  }
});

test('abort ends a reader that waits for a silent pipe', async () => {
  const script = `${PRINT_TRACE.split('process.stdout')[0]}
    const look = setInterval(() => {
      if (reader.progress().bytes_read === 0) return;
      clearInterval(look);
      reader.abort();
    }, 5);
    reader.done.catch((error) => process.stdout.write('over: ' + error.reason));`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script]);
  const said: Buffer[] = [];
  child.stdout.on('data', (bytes: Buffer) => said.push(bytes));
  child.stdin.write('= Start\n'.repeat(20));
  // Not 'exit': what it said may come after that.
  const code = await new Promise((resolve) => child.once('close', resolve));
  assert.equal(Buffer.concat(said).toString(), 'over: called off');
  assert.equal(code, 0);
});
