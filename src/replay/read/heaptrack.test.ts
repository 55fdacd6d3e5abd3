/*
 * Shown: a heaptrack file means what the program did.  The counts of a recorded program equal its
 * own; blocks pair by the newest or by address; call sites are those that heaptrack shows; all
 * formats from 1 on are read; whatever is damaged is counted with its place and shifts no number.
 * By what means: recordings of tests/readers/known.cpp, which prints what is true of its heap;
 * files made on the spot; random files beside a naive model; the same lines cut into chunks of any
 * size; a file cut at each of its bytes.
 */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gzipSync, zstdDecompressSync } from 'node:zlib';
import { HeapStream } from './heap_stream.ts';
import { HeaptrackParser } from './heaptrack.ts';
import { LineCutter } from './lines.ts';
import { open_reader } from './reader.ts';
import { plays_as_recorded } from '../heap/replay.test.lib.ts';
import { make_ring, RingWriter } from '../ring/ring.ts';
import type { TypeBy } from './sites.ts';
import { play, random_from, SEED, temporary_file, WHOLE } from './traces.test.common.ts';
import { type TraceDocument, TraceStats } from './trace_stats.ts';
import { short_site } from './type_names.ts';

// Leads to '../../../tests/readers/' alone.
const READERS = join(import.meta.dirname, '..', '..', '..', 'tests', 'readers');
const KNOWN = join(READERS, 'known.heaptrack.zst');
const KNOWN_RAW = join(READERS, 'known.raw.heaptrack.zst');
const HEAD = 'v 10400 3\nX ./x -a b\nI 1000 100\n';

/** What known.cpp said of itself, with the block that the C++ library holds from start to end. */
function known_truth(): Partial<TraceDocument> {
  const { releases, ...said } = JSON.parse(readFileSync(join(READERS, 'known.json'), 'utf8'));
  const pool = 72704;
  said.acquisitions += 1;
  said.requested_bytes_total += pool;
  said.peak_live_bytes += pool;
  said.peak_live_blocks += 1;
  const lines_by_op = { '+': said.acquisitions, '-': releases + 1 };
  return { ...said, lines_by_op, event_lines: said.acquisitions + releases + 1 };
}

/** Parses a text in this thread, in chunks of the given sizes. */
function parse(text: string | Uint8Array, cut: (at: number) => number = () => 1 << 20) {
  const bytes = typeof text === 'string' ? Buffer.from(text) : text;
  const stats = new TraceStats(false);
  const heap = new HeapStream(new RingWriter(make_ring(1, 1 << 16)), stats, 'caller');
  const cutter = new LineCutter();
  const parser = new HeaptrackParser(cutter, heap);
  stats.file = 'f';
  for (let at = 0; at < bytes.length; ) {
    const n = Math.max(1, cut(at));
    cutter.feed(bytes.subarray(at, at + n), parser);
    at += n;
  }
  cutter.finish(parser);
  parser.finish();
  heap.map.check();
  return parser.document();
}
function malformed_at(trace: { malformed: string[] }): number[] {
  return trace.malformed.map((place) => Number(/^f:(\d+): ./.exec(place)?.[1]));
}
const sized = (text: string): string => `s ${Buffer.byteLength(text).toString(16)} ${text}`;

for (const [kind, file] of Object.entries({ interpreted: KNOWN, raw: KNOWN_RAW })) {
  test(`a recorded program's counts are its own (${kind})`, async () => {
    const truth = { ...known_truth(), format: 'heaptrack', file_version: 3, command: './known' };
    for (const cpus of [1, 2]) {
      const out = await plays_as_recorded(file, cpus, { ...truth, raw: kind === 'raw' });
      assert.deepEqual([out.trace.malformed_lines, out.trace.failed], [0, 0]);
      assert.equal(out.trace.recorder, 'heaptrack 1.4.0');
      assert.ok((out.trace.peak_rss_bytes ?? 0) > (truth.peak_live_bytes ?? 0));
    }
    const { outcome, players } = await play({ files: [file], cpus: 2 });
    for (const player of players) {
      assert.deepEqual(player.complaints, []);
      assert.equal(player.live, truth.never_freed_blocks);
      assert.equal(player.bytes, truth.requested_bytes_total);
    }
    assert.equal(outcome.result?.trace.threads, undefined);
  });
}

test('packing changes nothing but the byte counts', async (t) => {
  const text = zstdDecompressSync(readFileSync(KNOWN));
  const crlf = Buffer.from(text.toString('latin1').replaceAll('\n', '\r\n'), 'latin1');
  const wanted = parse(text);
  assert.equal(wanted.end_line, true);
  for (const content of [text, gzipSync(text), readFileSync(KNOWN), crlf]) {
    const { trace } = await open_reader({ files: [temporary_file(t, 'x', content)], cpus: 1 }).done;
    for (const [name, value] of Object.entries(wanted)) {
      assert.deepEqual(trace[name as keyof TraceDocument], value, name);
    }
  }
});

test('a call site is the innermost frame that is not the allocator', () => {
  const sites = parse(zstdDecompressSync(readFileSync(KNOWN))).top_call_sites_by_requests;
  const program = '/data/known/known';
  const library = sites?.find(([name]) => name.includes('libstdc++'));
  assert.match(library?.[0] ?? '', /^\/lib\/x86_64-linux-gnu\/libstdc\+\+\.so\.6:\[0x[0-9a-f]+\]$/);
  assert.deepEqual(
    sites?.filter((row) => row !== library),
    [
      [`main (${program})`, 2000, 160000],
      [`inlined (${program})`, 50, 2400],
      [`resize (${program})`, 5, 63 + 1000 + 200000 + 300 + 5000],
      [`odd (${program})`, 2, 700],
      ['__GI___strdup (/lib/x86_64-linux-gnu/libc.so.6)', 1, 21],
      [`shapes::Tree<Node>::grow(int) (${program})`, 1, 480],
      [`shapes::Tree<int>::grow(int) (${program})`, 1, 400],
    ],
  );
  const raw = parse(zstdDecompressSync(readFileSync(KNOWN_RAW))).top_call_sites_by_requests;
  assert.deepEqual(raw?.[1], [`${program}:[0x1274]`, 50, 2400], 'relative to the module');
  assert.ok(raw?.every(([name]) => !name.includes('libstdc++') && !name.includes('heaptrack')));
});

test('back-traces: allocator, inlined and unknown frames, and those of nothing else', () => {
  const names = ['/app/x', 'operator new[](unsigned long)', 'f()', 'g', '__libc_malloc', 'x.c'];
  const lines = [...names.map(sized), sized('/usr/lib/heaptrack/libheaptrack_preload.so')];
  lines.push('i 10 1 2', 'i 20 1 2 6 1 3 6 2', 'i 30 1 4 6 9', 'i 40 7', 'i 50 1 0 6 3');
  lines.push('i 1122334455 0', 'i 60 0 4', 'i 70 1 5');
  /* 1 g; 2 new in g; 3 new inlined in f; 4 the recorder in g; 5 and 6 unknown; 7 and 8 alone. */
  lines.push('t 3 0', 't 1 1', 't 2 1', 't 4 1', 't 5 1', 't 6 1', 't 7 0', 't 1 0', 't 8 2');
  for (let trace = 0; trace <= 9; trace++) lines.push(`a 10 ${trace}`, `+ ${trace}`);
  const trace = parse(`${HEAD}${lines.join('\n')}\n`);
  assert.deepEqual(trace.malformed, []);
  assert.deepEqual(trace.top_call_sites_by_requests, [
    ['g (/app/x)', 4, 64],
    ['(no backtrace)', 1, 16],
    ['/app/x:[0x50]', 1, 16],
    ['[0x1122334455]', 1, 16],
    ['f() (/app/x)', 1, 16],
    ['g', 1, 16],
    ['operator new[](unsigned long) (/app/x)', 1, 16],
  ]);
});

test('type_by decides what players see', async () => {
  const seen: Record<TypeBy, string[]> = { caller: [], module: [], none: [] };
  for (const type_by of ['caller', 'module', 'none'] as const) {
    const { players, outcome } = await play({ files: [KNOWN], cpus: 1, type_by });
    seen[type_by] = players[0].sites.map((site) => short_site(site)).sort();
    assert.equal(outcome.result?.trace.call_sites, 8);
  }
  assert.deepEqual(seen.none, ['all']);
  assert.deepEqual(seen.module, ['known', 'libc.so.6', 'libstdc++.so.6']);
  assert.deepEqual(seen.caller.slice(0, 4), [
    'known:inlined',
    'known:main',
    'known:odd',
    'known:resize',
  ]);
  assert.ok(seen.caller.includes('shapes::Tree<Node>::grow(int)'));
});

test('a type is called by its function, as short as need be', () => {
  const cases: [string, string][] = [
    ['push (/tmp/known)', 'known:push'],
    ['f(int) (/a (copy)/prog)', 'prog:f(int)'],
    ['__GI___strdup (/lib/x86_64-linux-gnu/libc.so.6)', 'libc.so.6:__GI___strdup'],
    ['_nl_make_l10nflist (/lib/x86_64-linux-gnu/libc.so.6)', 'libc.so.6:_nl_make_l10nflist'],
    ['void ns::Thing<a<int>, b>::f<c>(int, d (*)(e)) const (/app/x)', 'x:ns::Thing::f'],
    [
      '<alloc::vec::Vec<T> as core::Clone>::clone::h0123456789abcdef (/x)',
      'x:alloc::vec::Vec::clone',
    ],
    ['ns::(anonymous namespace)::Thing::operator()(int) const (/x)', 'x:ns::Thing::operator()'],
    ['f(unsigned long, int) [clone .part.0] (/app/program)', 'program:f'],
    [
      'std::__cxx11::basic_string<char>::_M_create(unsigned long&) (/x)',
      '_cxx11::basic_string::_M_create',
    ],
    ['/lib/libstdc++.so.6:[0x7f96552a57b9]', 'libstdc++.so.6:0x7f96552a57b9'],
    ['[0x7f96552a57b9]', '[0x7f96552a57b9]'],
    ['(no backtrace)', '(no_backtrace)'],
  ];
  for (const [site, short] of cases) assert.equal(short_site(site), short, site);
});

test('interpreted files pair with the newest block, and unknown ones are counted', async (t) => {
  const lines = 'a 10 0,+ 0,+ 0,- 0,a 20 0,+ 1,- 1,- 1,- 0,- 0,+ 0'.split(',');
  const file = temporary_file(t, 'x', `${HEAD}${lines.join('\n')}\n`);
  const { outcome, players } = await play({ files: [file], cpus: 1 });
  const trace = outcome.result?.trace;
  assert.deepEqual(players[0].complaints, []);
  assert.equal(trace?.free_of_unknown, 2);
  assert.deepEqual([trace?.never_freed_blocks, trace?.never_freed_bytes], [1, 16]);
  assert.deepEqual([trace?.peak_live_bytes, trace?.peak_live_bytes_at_event], [48, 4]);
  assert.equal(trace?.pairing, 'last in, first out');
});

test('what the file says of the program and its machine', () => {
  const more = 'A\nS leak:libfoo\nS leak:bar\nc a\nR 20\nc 1f\nR 9\n# strings: 0\n\n# ips: 0\n';
  const trace = parse(HEAD + more);
  const { command, page_bytes, machine_bytes, peak_rss_bytes, recorded_ms } = trace;
  assert.deepEqual(
    { command, page_bytes, machine_bytes, peak_rss_bytes, recorded_ms },
    {
      command: './x -a b',
      page_bytes: 4096,
      machine_bytes: 2 ** 20,
      peak_rss_bytes: 0x20000,
      recorded_ms: 31,
    },
  );
  assert.deepEqual([trace.attached, trace.leak_suppressions, trace.end_line], [true, 2, true]);
  assert.deepEqual(trace.malformed, []);
  assert.equal(parse(`${HEAD}c 1\n`).end_line, false, 'the recorder did not come to its end');
});

test('formats 1 and 2 have strings without length; other formats are refused', async (t) => {
  const lines = ['X ./x', 's a name  with blanks', 'i 5 0 1', 't 1 0', 'a 8 1', '+ 0', ''];
  for (const [v, version] of [
    ['v 10200', 1],
    ['v 10300 2', 2],
  ] as const) {
    const trace = parse([v, ...lines].join('\n'));
    assert.deepEqual([trace.malformed, trace.file_version], [[], version]);
    assert.equal(trace.top_call_sites_by_requests?.[0][0], 'a name  with blanks');
  }
  const old_raw = 'v 10200 2\nx /app/x\nm x 1000 0 100\nt 1010 0\n+ 8 1 5550\n';
  assert.equal(parse(old_raw).top_call_sites_by_requests?.[0][0], '/app/x:[0x10]');
  const refused: [string, RegExp][] = [
    ['v 10100\n', /: byte 0: recognised as heaptrack, but in file format 0 \(heaptrack 1\.1\.0\)/],
    ['v 20000 4\nX ./x\n', /file format 4 \(heaptrack 2\.0\.0\); kmem replays formats 1 to 3/],
    [`${HEAD}+ 0\n${HEAD}`, /: line 5: a second recording begins here; replay one/],
  ];
  for (const [text, why] of refused) {
    const file = temporary_file(t, 'x', text);
    await assert.rejects(open_reader({ files: [file], cpus: 1 }).done, why);
  }
});

const MAX = 'ffffffffffffffff';
/* The lines of a file, and whether each is malformed. */
const ODD_LINES: [line: string, malformed: boolean][] = [
  ['v 10400 3', false],
  [sized('f'), false],
  ['s 3 ab', true], // string 2
  ['s zz ab', true], // string 3
  ['s', true], // string 4
  ['s 0 ', false],
  ['i 5 1 1', false],
  ['i 5 6 1', true], // frame 2: no string 6
  ['i 5', true],
  ['i 5 1 1 1', true],
  [`i 5 1 1 1 ${MAX} 1 1 2`, false], // frame 5: a line may be any number
  ['t 1 0', false],
  ['t 6 0', true], // trace 2: no frame 6
  ['t 1 3', true], // trace 3: its own caller
  ['t 1', true],
  ['a 10 1', false], // allocation 0
  ['a 20 9', true], // 1: no trace 9
  ['a 10 1 1', true], // 2
  [`a ${MAX} 1`, false], // 3
  [`a 1${MAX} 1`, true], // 4
  ['a 30 2', false], // 5: a trace that is malformed is no trace
  ['+ 0', false],
  ['+ 1', true],
  ['+ 6', true],
  [`+ ${MAX}`, true],
  ['+ 100000000', true],
  ['+ 0 0', true],
  ['+ -1', true],
  ['+ 0x0', true],
  ['+', true],
  ['+ ', true],
  ['+0', true],
  ['- 6', true],
  ['+ 3', false],
  ['- 3', false],
  ['- 3', false], // of unknown
  ['+ 5', false],
  ['+ A', true],
  ['c', true],
  ['c x', true],
  ['R 1 1', true],
  ['I 1000', true],
  ['x 3 /xx', true],
  ['m 1 -', true],
  ['v what', true],
  ['v 10400 2', true],
  ['q 1', true],
  ['Q', true],
  ['what is this', true],
  [' + 0', true],
  ['', false],
  ['#', false],
  ['X', false],
  ['A', false],
  ['\u00ff', true],
];

test('every odd line of an interpreted file', () => {
  const lines = ODD_LINES;
  const read = (n: number) =>
    parse(
      `${lines
        .slice(0, n)
        .map(([line]) => `${line}\n`)
        .join('')}`,
    );
  let before = 0;
  for (const [i, [line, wrong]] of lines.entries()) {
    const { malformed_lines, malformed } = read(i + 1);
    assert.equal(malformed_lines, before + Number(wrong), `line ${i + 1}: ${line}`);
    if (wrong && malformed.length < 20) assert.equal(malformed_at({ malformed }).at(-1), i + 1);
    before = malformed_lines;
  }
  const trace = read(lines.length);
  assert.deepEqual(trace.lines_by_op, { '+': 3, '-': 2 });
  assert.deepEqual(trace.interned, { strings: 5, frames: 5, traces: 4, allocations: 6 });
  assert.deepEqual([trace.free_of_unknown, trace.never_freed_bytes], [1, 0x40]);
  assert.equal(trace.peak_live_bytes, 2 ** 64, 'sizes above 2^53 are rounded');
});

test('every odd line of a raw file', () => {
  const lines: [line: string, malformed: boolean][] = [
    ['v 10400 3', false],
    ['x 6 /app/x', false],
    ['m 1 -', false],
    ['m 1 x 400000 0 1000 2000 1000', false],
    ['m 8 /lib/b c ffffffff7f000000 0 1000', false],
    ['m 9 /lib/b c 7f000000 0 1000', true],
    ['m 6 /lib/b 7f000000 0', true],
    ['m 6 /lib/b', true],
    ['m 0  1 2 3', true],
    ['t 400010 0', false],
    ['t 401010 0', false], // between segments
    ['t 402ff0 0', false],
    ['t 400010 5', true],
    ['t x 0', true],
    ['t ffffffffffffff00 0', false],
    ['+ 8 1 5550', false],
    ['+ 8 2 5560', false],
    ['+ 8 3 5570', false],
    ['+ 8 6 5580', false],
    ['+ 8 7 5590', true],
    ['+ 8 1 0', true],
    ['+ 8 1', true],
    ['- 0', true],
    ['- 5550 1', true],
    ['- 5550', false],
    ['- 5550', false], // of unknown
    ['+ 8 4 5560', false], // was never released
    ['s 1 a', true],
    ['a 1 1', true],
    ['i 1 1', true],
  ];
  const trace = parse(`${lines.map(([line]) => line).join('\n')}\n`);
  const expected = lines.flatMap(([, wrong], i) => (wrong ? [i + 1] : []));
  assert.deepEqual(malformed_at(trace), expected);
  assert.deepEqual([trace.raw, trace.pairing], [true, 'address']);
  assert.deepEqual([trace.free_of_unknown, trace.acquired_while_live], [1, 1]);
  assert.deepEqual([trace.never_freed_blocks, trace.never_freed_bytes], [3, 24]);
  assert.deepEqual(trace.top_call_sites_by_requests, [
    ['(no backtrace)', 1, 8],
    ['/app/x:[0x10]', 1, 8],
    ['/app/x:[0x2ff0]', 1, 8],
    ['[0x401010]', 1, 8],
    ['[0xffffffffffffff00]', 1, 8],
  ]);
});

test('a string beyond all measure keeps its number, wherever chunks are cut', () => {
  const long = `s 30000 ${'x'.repeat(0x30000)}`;
  const text = [`${HEAD}${sized('f')}`, long, sized('g'), 'i 1 0 3', 't 1 0', 'a 8 1', '+ 0', ''];
  for (const size of [1 << 20, 100_000, 4096, 1 << 17]) {
    const trace = parse(text.join('\n'), () => size);
    assert.deepEqual([trace.malformed_lines, malformed_at(trace)], [1, [5]]);
    assert.equal(trace.top_call_sites_by_requests?.[0][0], 'g');
  }
});

/** A random legal file and what a naive reader makes of it. */
function random_file(seed: number, events: number) {
  const random = random_from(seed);
  const lines = [`v 10400 3`];
  const live: number[] = [];
  const sizes: number[] = [];
  const truth = { bytes: 0, peak: 0, blocks: 0, unknown: 0, requested: 0, ops: { '+': 0, '-': 0 } };
  let traces = 0;
  for (let i = 0; i < events; i++) {
    const what = random(20);
    if (what === 0)
      lines.push(sized(`f${i}`), `i ${i.toString(16)} 1 1`, `t 1 ${random(++traces).toString(16)}`);
    if (what === 1) lines.push(`c ${i.toString(16)}`, `R ${random(99).toString(16)}`);
    if (what === 2 || sizes.length === 0) {
      sizes.push(random(2) ? random(5000) : 2 ** random(40));
      live.push(0);
      lines.push(`a ${(sizes.at(-1) ?? 0).toString(16)} ${random(traces + 1).toString(16)}`);
    }
    const n = random(sizes.length);
    const op = random(2) ? '+' : '-';
    lines.push(`${op} ${n.toString(16)}`);
    truth.ops[op]++;
    if (op === '-' && live[n] === 0) truth.unknown++;
    else {
      const sign = op === '+' ? 1 : -1;
      live[n] += sign;
      truth.bytes += sign * sizes[n];
      truth.blocks += sign;
      truth.requested += op === '+' ? sizes[n] : 0;
      truth.peak = Math.max(truth.peak, truth.bytes);
    }
  }
  return { text: `${lines.join('\n')}\n`, truth };
}

test('random files mean what a naive reader makes of them, in chunks of any size', () => {
  const random = random_from(SEED);
  for (let round = 0; round < 20; round++) {
    const { text, truth } = random_file(SEED + round, 3000);
    const whole = parse(text);
    const said = {
      bytes: whole.never_freed_bytes,
      peak: whole.peak_live_bytes,
      blocks: whole.never_freed_blocks,
      unknown: whole.free_of_unknown,
      requested: whole.requested_bytes_total,
      ops: whole.lines_by_op,
    };
    assert.deepEqual(said, truth, `seed ${SEED}, round ${round}`);
    assert.equal(whole.malformed_lines, 0);
    const most = 1 + random(200);
    assert.deepEqual(
      parse(text, () => random(most)),
      whole,
      `seed ${SEED}, round ${round}`,
    );
  }
});

test('a file cut at any byte is its whole lines and a begun event', () => {
  const { text } = random_file(SEED, WHOLE ? 60 : 40);
  let events = 0;
  for (let end = 'v 10400 3\n'.length; end <= text.length; end++) {
    const cut = text.slice(0, end);
    const lines = cut.slice(0, cut.lastIndexOf('\n') + 1);
    const begun = /^[-+] [0-9a-f]+$/.test(cut.slice(lines.length));
    const ended = parse(begun ? `${cut}\n` : lines);
    const whole = ended.malformed_lines === 0 ? ended : parse(lines);
    if (begun && whole === ended) events++;
    assert.equal(whole.malformed_lines, 0);
    assert.deepEqual(parse(cut), whole, `seed ${SEED}, ${end} bytes`);
  }
  assert.ok(events > 0, `seed ${SEED}`);
});

test('temporary allocations are those that heaptrack_print counts', async (t) => {
  const head = `${HEAD}${sized('/ab')}\n${sized('f')}\ni 10 1 2\nt 1 0\na 10 1\na 20 1\n`;
  // What heaptrack_print 1.4 says of such a file.
  const cases: [events: string, temporary: number][] = [
    ['+ 0,- 0', 1],
    ['+ 0,+ 1,- 1,- 0', 2],
    ['+ 1,+ 1,- 1,- 1', 1],
    ['+ 0,+ 0,- 0,- 0', 2],
    ['+ 0,+ 1,- 0,- 0', 1],
    ['+ 0,+ 1,- 0,- 1', 0],
    ['- 0,- 0', 2],
    ['+ 0,- 0,- 0', 2],
    ['+ 1,- 1,- 1', 1],
    ['+ 1,A,- 1', 1],
    ['+ 1,- 0', 0],
  ];
  for (const [events, temporary] of cases) {
    const trace = parse(`${head}${events.replaceAll(',', '\n')}\n`);
    assert.equal(trace.temporary, temporary, events);
  }
  // Of a raw file it is what heaptrack_interpret makes of it that is printed.
  const raw = ['v 10400 3', 'x 4 /a/b', 'X ./b', 'I 1000 100', 'm 1 -', 'm 4 /a/b 1000 0 1000'];
  raw.push('t 1010 0', 't 1020 1', '+ 10 1 5000', '+ 20 1 6000', '+ 20 1 7000', '- 6000');
  raw.push('- 9999', '- 5000', '+ 20 1 6000', '- 9999', '- 6000', '- 7000', '+ 20 1 6000');
  raw.push('+ 20 2 6000', '- 6000', 'c 5', '');
  assert.equal(parse(raw.join('\n')).temporary, 4);
  for (const file of [KNOWN, KNOWN_RAW]) {
    assert.equal(parse(zstdDecompressSync(readFileSync(file))).temporary, 2008);
  }
  const cut = gzipSync(`${head}+ 1\n- 1\n+ 1`).subarray(0, -8);
  const { trace } = await open_reader({ files: [temporary_file(t, 'cut', cut)], cpus: 1 }).done;
  assert.deepEqual([trace.acquisitions, trace.temporary, trace.malformed_lines], [2, 1, 0]);
});

test('a damaged file is read to its end, and what is read adds up', () => {
  const random = random_from(SEED);
  for (let round = 0; round < 40; round++) {
    const bytes = Buffer.from(random_file(SEED + round, 500).text);
    const wrong = 1 + random(60);
    for (let i = 0; i < wrong; i++) bytes[10 + random(bytes.length - 11)] = random(256);
    const trace = parse(bytes, () => 1 + random(5000));
    const { acquisitions, lines_by_op, free_of_unknown, never_freed_blocks } = trace;
    assert.equal(trace.event_lines, lines_by_op['+'] + lines_by_op['-'], `seed ${SEED}`);
    assert.equal(acquisitions, lines_by_op['+']);
    const freed = lines_by_op['-'] - free_of_unknown;
    const gone = acquisitions - freed - trace.acquired_while_live;
    assert.equal(never_freed_blocks, gone, `seed ${SEED}, round ${round}`);
  }
});

test('noise behind a good beginning is counted line by line', () => {
  const random = random_from(SEED);
  const noise = Buffer.from(Uint8Array.from({ length: 200_000 }, () => random(256)));
  /* No line of it may make sense by chance: none begins with a letter or sign of the format. */
  const text = noise.toString('latin1').replace(/\n(?=[+\-a-zA-Z#\n\r])/g, '!');
  const body = `q${text}q`;
  const bytes = Buffer.concat([Buffer.from(HEAD), Buffer.from(body, 'latin1'), Buffer.from('\n')]);
  const trace = parse(bytes);
  assert.equal(trace.malformed_lines, body.split('\n').length, `seed ${SEED}`);
  assert.equal(trace.malformed.length, 20);
  assert.equal(malformed_at(trace)[0], 4);
  assert.equal(trace.event_lines, 0);
});
