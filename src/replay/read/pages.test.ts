/*
 * Shown: what the readers say of references to pages equals the truth, and reaches players in
 * order, once; every odd line of both formats; recordings that are cut; places that keep
 * neighbours together and are nobody else's; the misses of exact LRU at every size; lines that
 * are damaged in any way.
 * By what means: truth.json; small texts; real rings; lists that are searched from end to
 * end, with seeded references; a reader of twenty lines.  The full set is in pages.slow.test.ts.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { gunzipSync, gzipSync } from 'node:zlib';
import { REGION_PAGES } from '../ring/page_events.ts';
import { LruCurve } from './lru_curve.ts';
import { equal_to_pages_truth, pages_truth, read_pages, read_text } from './pages.test.lib.ts';
import { BUNDLED, random_from, SEED, temporary_file } from './traces.test.common.ts';

const MATMUL = join(BUNDLED, 'matmul.pages.gz');
for (const [name, truth] of Object.entries(pages_truth(BUNDLED) ?? {})) {
  test(`${name} equals the truth`, () => equal_to_pages_truth(join(BUNDLED, name), truth));
}

/** Misses of a memory that holds the pages used last, found out by searching. */
function searched(refs: readonly number[], size: number): number {
  const held: number[] = [];
  let misses = 0;
  for (const page of refs) {
    const at = held.indexOf(page);
    if (at >= 0) held.splice(at, 1);
    else misses++;
    held.unshift(page);
    held.length = Math.min(held.length, size);
  }
  return misses;
}
test(`misses of exact LRU at every size (seed ${SEED})`, () => {
  const random = random_from(SEED);
  for (let round = 0; round < 30; round++) {
    const sizes = Array.from({ length: 1 + random(8) }, () => 1 + random(40));
    const curve = new LruCurve(sizes);
    const pages = 1 + random(50);
    const refs: number[] = [];
    let known = 0;
    for (let i = 0; i < 600; i++) {
      // Near ones more often, and a new one now and then.
      const near = random(3) > 0 ? Math.max(0, known - 1 - random(5)) : random(pages);
      const page = Math.min(near, known);
      if (page === known) known++;
      refs.push(page);
      curve.use(page);
    }
    const misses = curve.misses();
    const wanted = curve.sizes.map((size) => [String(size), searched(refs, size)]);
    assert.deepEqual(misses, Object.fromEntries(wanted), `round ${round}`);
  }
});

test('every odd line of kmem-pages', async (t) => {
  const lines: [line: string, malformed: boolean][] = [
    ['# kmem-pages v1 page_bytes=8192 exact_from=4', false],
    ['r 0', false],
    ['w fffffffffffff', false],
    ['r FFFFFFFFFFFFF', false],
    ['r 0000000000000000000001', false],
    ['# a remark', false],
    ['r 10000000000000', true],
    ['r', true],
    ['r ', true],
    ['r 1g', true],
    ['r  1', true],
    ['r 1 ', true],
    ['x 1', true],
    ['R 1', true],
    ['', true],
    ['r\t1', true],
    ['w 1\r', false],
    [`r ${'1'.repeat(70_000)}`, true],
    ['r 2', false],
  ];
  const text = lines.map(([line]) => `${line}\n`).join('');
  for (const packed of [text, gzipSync(text)]) {
    const { trace, heard } = await read_pages([temporary_file(t, 'odd.pages', packed)]);
    const bad = lines.flatMap(([, malformed], i) => (malformed ? [i + 1] : []));
    assert.deepEqual(
      trace.malformed.map((what) => Number(/:(\d+): /.exec(what)?.[1])),
      bad,
    );
    const { lines_by_op, records, write_records, pages, written_pages, references } = trace;
    assert.deepEqual(lines_by_op, { r: 4, w: 2 });
    assert.deepEqual([records, write_records, references], [6, 2, 6]);
    assert.deepEqual([pages, written_pages, trace.lines], [4, 2, lines.length]);
    assert.deepEqual([trace.page_bytes, trace.exact_from], [8192, 4]);
    assert.equal(trace.header, lines[0][0]);
    const top = 2 ** 52 - 1;
    assert.deepEqual(heard.first, [
      [0, false],
      [top, true],
      [top, false],
      [1, false],
      [1, true],
      [2, false],
    ]);
  }
  const strict = read_pages([temporary_file(t, 'strict', text)], { strict: true });
  await assert.rejects(strict, /strict: line 7: the page is not a hexadecimal number below 2\^52/);
});

test('every odd line of lackey', async (t) => {
  const lines: [line: string, malformed: boolean][] = [
    ['==12== Lackey, an example Valgrind tool', false],
    ['I  040099d1,3', false],
    [' L 1ffeffe7e,8', false],
    [' S 00000fff,1', false],
    [' M 00000fff,2', false],
    [' S 1ffe,8194', false],
    ['--12-- REDIR', false],
    [' L ffffffffffffffff,1', false],
    [' L ffffffffffffffff,2', true],
    [' L 10000000000000000,1', true],
    [' L 10,0', true],
    [' L 10,65537', true],
    [' L 10,99999999999999999999', true],
    [' L 10', true],
    [' L 10,', true],
    [' L ,8', true],
    [' L 10,8x', true],
    ['L 10,8', true],
    ['I 10,8', true],
    [' I 10,8', true],
    [' X 10,8', true],
    ['hello from the program', true],
    ['', true],
    [' L 10,4\r', false],
  ];
  const text = lines.map(([line]) => `${line}\n`).join('');
  const { trace, heard } = await read_pages([temporary_file(t, 'odd.lackey', text)]);
  const bad = lines.flatMap(([, malformed], i) => (malformed ? [i + 1] : []));
  assert.deepEqual(
    trace.malformed.map((what) => Number(/:(\d+): /.exec(what)?.[1])),
    bad,
  );
  assert.deepEqual(trace.lines_by_op, { I: 1, L: 3, S: 2, M: 1 });
  assert.deepEqual([trace.references_crossing_a_page, trace.other_lines], [2, 2]);
  assert.deepEqual(heard.first, [
    [0x4009, false],
    [0x1ffeff, false],
    [0, true],
    [0, true],
    [1, true],
    [1, true],
    [2, true],
    [3, true],
    [2 ** 52 - 1, false],
    [0, false],
  ]);
  assert.deepEqual([trace.references, trace.pages, trace.written_pages], [10, 7, 4]);
});

test('pages keep their neighbours, and no two have one place', async (t) => {
  const random = random_from(SEED);
  const text = Array.from({ length: 20_000 }, (_, i) => {
    const far = random(300) * 2 ** (9 + random(34));
    return `${i % 3 === 0 ? 'w' : 'r'} ${(far + random(2 * REGION_PAGES)).toString(16)}\n`;
  });
  const file = temporary_file(t, 'places', `# kmem-pages v1 page_bytes=4096\n${text.join('')}`);
  const { trace, heard } = await read_pages([file]);
  assert.equal(trace.malformed_lines, 0);
  assert.equal(new Set(heard.places).size, trace.pages, `seed ${SEED}`);
  assert.equal(new Set(heard.recorded).size, trace.pages);
  const place_of = new Map(heard.recorded.map((page, i) => [page, heard.places[i]]));
  let neighbours = 0;
  for (const [page, place] of place_of) {
    assert.equal(place % REGION_PAGES, page % REGION_PAGES);
    const next = place_of.get(page + 1);
    if (next === undefined || (page + 1) % REGION_PAGES === 0) continue;
    assert.equal(next, place + 1);
    neighbours++;
  }
  assert.ok(neighbours > 20, `${neighbours} neighbours`);
});

test('cut recordings, and recordings in parts', async (t) => {
  const text = gunzipSync(readFileSync(MATMUL)).subarray(0, 100_003);
  const lines = text.toString('latin1').split('\n');
  const cut = temporary_file(t, 'cut.pages', text);
  const { trace } = await read_pages([cut]);
  assert.equal(trace.references, lines.length - 2, 'the last line is none');
  assert.equal(trace.damaged_at, text.length);
  assert.match(
    trace.damage ?? '',
    /cut\.pages: line \d+: the file ends in the middle of this line/,
  );
  await assert.rejects(
    read_pages([cut], { strict: true }),
    /line \d+: the file ends in the middle/,
  );
  const packed = readFileSync(MATMUL).subarray(0, 20_000);
  const half = (await read_pages([temporary_file(t, 'half.gz', packed)])).trace;
  assert.ok(half.references > 1000 && half.damaged_at !== undefined);
  const first = temporary_file(t, 'first', `${lines.slice(0, 1000).join('\n')}\n`);
  const second = temporary_file(
    t,
    'second',
    `${lines[0]}\n${lines.slice(1000, 2000).join('\n')}\n`,
  );
  const parts = (await read_pages([first, second])).trace;
  const whole = temporary_file(t, 'whole', `${lines.slice(0, 2000).join('\n')}\n`);
  const one = (await read_pages([whole])).trace;
  assert.deepEqual([parts.references, parts.lru_curve], [one.references, one.lru_curve]);
  const lackey = temporary_file(t, 'lackey', 'I  0023C790,2\n L 1ffeffe7e,4\n');
  await assert.rejects(read_pages([first, lackey]), /is lackey, the file before it kmem-pages v1/);
});

/** What a reader makes of a text that takes it line by line, as the format is written down. */
function plain_reading(format: 'lackey' | 'pages', text: string) {
  const all = { malformed: 0, notes: 0, references: 0, pages: new Set<number>(), writes: 0 };
  const use = (page: number, write: boolean): void => {
    all.references++;
    all.pages.add(page);
    if (write) all.writes++;
  };
  const lines = text.split('\n').map((line) => (line.endsWith('\r') ? line.slice(0, -1) : line));
  for (const line of lines.slice(0, -1)) {
    const page = /^([rw]) 0*([0-9a-f]{1,13})$/i.exec(line);
    const access = /^(I {2}| [LSM] )0*([0-9a-f]{1,16}),(\d+)$/i.exec(line);
    if (format === 'pages' && page !== null && 'rw'.includes(page[1])) {
      use(Number.parseInt(page[2], 16), page[1] === 'w');
    } else if (format === 'lackey' && access !== null && 'ILSM'.includes(access[1].trim())) {
      const first = BigInt(`0x${access[2]}`);
      const size = BigInt(access[3]);
      if (size < 1n || size > 65536n || first + size > 2n ** 64n) all.malformed++;
      else {
        const write = /[SM]/.test(access[1]);
        for (let n = first >> 12n; n <= (first + size - 1n) >> 12n; n++) use(Number(n), write);
      }
    } else if (format === 'pages' ? line.startsWith('#') : /^(==|--)/.test(line)) all.notes++;
    else all.malformed++;
  }
  return all;
}
test(`damaged in any way, in pieces of any size (seed ${SEED})`, () => {
  const random = random_from(SEED);
  const hex = (n: number): string => random(2 ** n).toString(16);
  for (let round = 0; round < 60; round++) {
    const format = round % 2 === 0 ? 'lackey' : 'pages';
    const line = (): string => {
      if (format === 'pages') return random(12) === 0 ? '# v1' : `${'rw'[random(2)]} ${hex(20)}`;
      const op = ['I  ', ' L ', ' S ', ' M ', '=='][random(5)];
      return `${op}${random(9) === 0 ? 'f'.repeat(random(18)) : `0${hex(30)}`},${random(20)}`;
    };
    const bytes = Buffer.from(`${Array.from({ length: 400 }, line).join('\n')}\n`);
    for (let n = random(60); n > 0; n--) {
      const at = random(bytes.length);
      bytes[at] = n % 2 === 0 ? random(256) : bytes[random(bytes.length)];
    }
    const text = bytes.subarray(0, bytes.length - random(30));
    const { trace, heard, whole } = read_text(format, text, () =>
      random(random(10) === 0 ? 3000 : 9),
    );
    const wanted = plain_reading(format, text.toString('latin1'));
    const of = `round ${round}`;
    const note = whole && text.at(-1) !== 10 ? 1 : 0;
    assert.equal(trace.malformed_lines, wanted.malformed, of);
    assert.equal(
      trace.lines - trace.event_lines - trace.malformed_lines,
      wanted.notes + note + (whole ? 0 : 1),
      of,
    );
    assert.deepEqual([trace.references, heard.writes], [wanted.references, wanted.writes], of);
    assert.deepEqual(new Set(heard.recorded), wanted.pages, of);
  }
});

test('what is in front of it, and what is none', async (t) => {
  const refs = ' L 1ffeffe7e,8\nI  0040099d1,3\n';
  const fronts: [string, number, string][] = [
    [`starting up\n${refs}`, 1, 'lackey'],
    [`\ufeff${refs}`, 0, 'lackey'],
    ['hello\n# kmem-pages v1 page_bytes=4096\nr 1\nr 2\n', 1, 'kmem-pages v1'],
  ];
  for (const [text, malformed, format] of fronts) {
    const { trace } = await read_pages([temporary_file(t, 'front', text)]);
    assert.deepEqual([trace.format, trace.malformed_lines], [format, malformed], text);
    assert.equal(trace.references, 2);
  }
  const nothing: [string, RegExp][] = [
    ['# kmem-pages v2\nr 1\n', /recognised as kmem-pages, but not version 1/],
    ['==12== Memcheck, a memory error detector\n==12== \n', /not a trace format kmem knows/],
    ['# kmem-pages v1\nx\ny\n', /no line of this file was understood as kmem-pages v1/],
    ['I  zz,3\n', /not a trace format kmem knows/],
  ];
  for (const [text, reason] of nothing) {
    await assert.rejects(read_pages([temporary_file(t, 'none', text)]), reason);
  }
});
