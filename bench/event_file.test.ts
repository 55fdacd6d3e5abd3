/*
 * event_file.test: what the replays of the bench play is what was recorded, and
 * its figures come out whole.  A bundled trace is decoded by the real reader and
 * followed event by event; table and chart are made from rows of known numbers.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { OP_FREE, OP_REALLOC } from '../src/replay/ring/events.ts';
import {
  HEAD_WORDS,
  load_events,
  PLAY_WORDS,
  passes,
  read_events,
  TYPE_MASK,
  TYPE_SHIFT,
} from './event_file.ts';
import type { Row } from './harness.ts';
import { markdown } from './markdown.ts';
import { plot } from './plot.ts';

const MAKE = fileURLToPath(new URL('../traces/make.mtrace.gz', import.meta.url));

function folder_of(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-bench-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('each event of a decoded trace is one that a heap can serve, and all is freed', async (t) => {
  const file = join(folder_of(t), 'make.events');
  writeFileSync(file, await read_events(MAKE));
  const { words, events, ids, types } = load_events(`make=${file}`);
  assert.ok(events > 5000, `${events} events`);
  const type_of = new Map<number, number>();
  for (let i = 0; i < events; i++) {
    const [word0, id, bytes] = words.subarray(i * PLAY_WORDS);
    const op = word0 & 0xff;
    const type = (word0 >>> TYPE_SHIFT) & TYPE_MASK;
    assert.ok(id < ids && type < types, `event ${i}: id ${id}, type ${type}`);
    const known = type_of.get(id);
    if (op === OP_FREE || op === OP_REALLOC) assert.equal(known, type, `event ${i}: type of ${id}`);
    else assert.equal(known, undefined, `event ${i}: ${id} is alive`);
    if (op === OP_FREE) {
      assert.equal(bytes, 0);
      type_of.delete(id);
    } else type_of.set(id, type);
  }
  assert.equal(type_of.size, 0);
});

test('a file that was cut is refused', async (t) => {
  const file = join(folder_of(t), 'cut.events');
  const words = await read_events(MAKE);
  writeFileSync(file, words.subarray(0, HEAD_WORDS + PLAY_WORDS));
  assert.throws(() => load_events(`cut=${file}`), /not a whole event file/);
});

test('whole passes are played, each event once, and the time is scaled to what was asked', () => {
  const seen: number[] = new Array(10).fill(0);
  let clock = 0;
  const chunk = (from: number, to: number): void => {
    for (let i = from; i < to; i++) seen[i]++;
    clock += to - from;
  };
  assert.equal(
    passes(10, 34, 4, () => clock, chunk),
    34,
  );
  assert.deepEqual(seen, new Array(10).fill(3));
});

test('table and chart name every peer and both Nodes', () => {
  const row = (pattern: string, us: number): Row => {
    const peers = { glibc: 20, 'a<b': 4000 };
    const ratio = { glibc: us / 20, 'a<b': us / 4000 };
    return { bench: 'alloc', pattern, unit: 'ns', us, peers, ratio };
  };
  const rows = [row('a', 10), row('geomean', 12), row('a@v22', 15), row('geomean@v22', 16)];
  const text = markdown(rows, ['v26', 'v22'], 6).join('\n');
  assert.match(text, /\| glibc \| 0\.50 \| 0\.60 \|/);
  assert.match(text, /\| glibc \| 0\.75 \| 0\.80 \|/);
  const svg = plot(rows, ['v26', 'v22'])!;
  assert.equal(svg.match(/class="us"/g)?.length, 2);
  assert.equal(svg.match(/class="cut"/g)?.length, 2);
  assert.ok(svg.includes('a&lt;b') && svg.includes('Node v22') && !svg.includes('a<b'));
  assert.equal(plot([row('a', 1)], ['v26']), null);
});
