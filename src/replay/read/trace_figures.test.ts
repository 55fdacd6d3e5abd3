/*
 * Shown: what is told of each call site (requests, what it held at the peak, what it never freed,
 * what it freed at once) is so: on any sequence of requests, and to the byte as heaptrack_print
 * tells it of a recording of its own.  What has no row of its own is in the sum of the others.
 * By what means: random recordings beside a naive model that copies all sites at each new peak,
 * read in the reader's own thread with two players at the ring; heaptrack_print, where it is
 * installed, on the recording of tests/readers.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { play, random_from, SEED, temporary_file, temporary_folder } from './traces.test.common.ts';
import { SITES_KEPT, type SiteFigures, type TraceDocument } from './trace_stats.ts';

const READERS = join(import.meta.dirname, '..', '..', '..', 'tests', 'readers');
const KNOWN = join(READERS, 'known.heaptrack.zst');

interface Block {
  address: number;
  size: number;
  site: string;
}
type Held = Map<string, [blocks: number, bytes: number]>;

/** Counts as plainly as can be; keeps the lines of an mtrace that says the same. */
class Model {
  readonly lines = ['= Start'];
  readonly live: Block[] = [];
  readonly requests = new Map<string, number>();
  readonly temporary = new Map<string, number>();
  peak = 0;
  at_peak: Held = new Map();
  #fresh: Block | null = null;
  #next = 0x10;

  held(): Held {
    const held: Held = new Map();
    for (const { site, size } of this.live) {
      const [blocks, bytes] = held.get(site) ?? [0, 0];
      held.set(site, [blocks + 1, bytes + size]);
    }
    return held;
  }
  #gone(block: Block): void {
    if (block === this.#fresh) add(this.temporary, block.site);
    this.#fresh = null;
    this.live.splice(this.live.indexOf(block), 1);
  }
  #born(block: Block): void {
    add(this.requests, block.site);
    this.live.push(block);
    this.#fresh = block;
    const bytes = this.live.reduce((sum, b) => sum + b.size, 0);
    if (bytes <= this.peak) return;
    this.peak = bytes;
    this.at_peak = this.held();
  }
  obtain(site: string, size: number): void {
    const address = (this.#next += 0x10);
    this.lines.push(`@ ${site} + 0x${address.toString(16)} ${hex(size)}`);
    this.#born({ address, size, site });
  }
  release(block: Block): void {
    this.lines.push(`@ x:[0x1] - 0x${block.address.toString(16)}`);
    this.#gone(block);
  }
  move(block: Block, site: string, size: number, same: boolean): void {
    const address = same ? block.address : (this.#next += 0x10);
    this.lines.push(`@ ${site} < 0x${block.address.toString(16)}`);
    this.lines.push(`@ ${site} > 0x${address.toString(16)} ${hex(size)}`);
    this.#gone(block);
    this.#born({ address, size, site });
  }
  unknown(): void {
    this.lines.push('@ x:[0x1] - 0x7');
  }
}
function add(counts: Map<string, number>, site: string): void {
  counts.set(site, (counts.get(site) ?? 0) + 1);
}
function hex(size: number): string {
  return size === 0 ? '0' : `0x${size.toString(16)}`;
}

function random_model(seed: number, steps: number, sites: number): Model {
  const below = random_from(seed);
  const model = new Model();
  const site = (): string => `prog:(f${below(sites)}+1)[0x1]`;
  const size = (): number => (below(10) === 0 ? below(200_000) : below(100));
  for (let i = 0; i < steps; i++) {
    // It grows, shrinks, and grows beyond where it was.
    const shrinking = Math.floor(i / 50) % 3 === 1;
    const what = below(10);
    const some = model.live[below(2) === 0 ? model.live.length - 1 : below(model.live.length || 1)];
    if (what === 0) model.unknown();
    else if (some === undefined || what < (shrinking ? 3 : 6)) model.obtain(site(), size());
    else if (what < 8) model.release(some);
    else model.move(some, site(), size(), below(2) === 0);
  }
  return model;
}
async function read(file: string): Promise<TraceDocument> {
  const { outcome, players } = await play({ files: [file], cpus: 2 });
  assert.ok(outcome.result, outcome.error?.message ?? 'no result');
  for (const player of players) assert.deepEqual(player.complaints, []);
  return outcome.result.trace;
}
function figures_of(model: Model): SiteFigures[] {
  const kept = model.held();
  return [...model.requests].map(([name, requests]) => {
    const [peak_blocks, peak_bytes] = model.at_peak.get(name) ?? [0, 0];
    const [never_freed_blocks, never_freed_bytes] = kept.get(name) ?? [0, 0];
    const temporary = model.temporary.get(name) ?? 0;
    const held = { peak_blocks, peak_bytes, never_freed_blocks, never_freed_bytes };
    return { name, requests, requested_bytes: 0, temporary, ...held };
  });
}

test(`random recordings, site by site (seed ${SEED})`, async (t) => {
  for (const [i, [steps, sites]] of [
    [40, 3],
    [400, 5],
    [3000, 60],
  ].entries()) {
    const model = random_model(SEED + i, steps, sites);
    const trace = await read(temporary_file(t, 'random.mtrace', `${model.lines.join('\n')}\n`));
    assert.equal(trace.malformed_lines, 0);
    assert.equal(trace.peak_live_bytes, model.peak);
    const wanted = new Map(figures_of(model).map((s) => [s.name, s]));
    assert.equal(trace.sites?.length, wanted.size);
    for (const site of trace.sites ?? []) {
      assert.deepEqual({ ...site, requested_bytes: 0 }, wanted.get(site.name));
    }
    const count = [...model.temporary.values()].reduce((a, b) => a + b, 0);
    assert.equal(trace.temporary, count);
    assert.ok(count > 0 || steps < 100);
  }
});

test('beyond the sites that are kept, the others are one row, and every sum stays', async (t) => {
  const model = random_model(SEED, 6000, 900);
  const wanted = figures_of(model);
  assert.ok(wanted.length > SITES_KEPT + 100, `${wanted.length} sites`);
  const trace = await read(temporary_file(t, 'many.mtrace', `${model.lines.join('\n')}\n`));
  const sites = trace.sites ?? [];
  assert.ok(sites.length <= SITES_KEPT + 1 && sites.length > SITES_KEPT / 3);
  assert.equal(sites.at(-1)?.name, '(other call sites)');
  for (const key of ['requests', 'temporary', 'peak_bytes', 'never_freed_bytes'] as const) {
    const sum = (rows: readonly SiteFigures[]): number => rows.reduce((n, r) => n + r[key], 0);
    assert.equal(sum(sites), sum(wanted), key);
    const most = Math.max(...wanted.map((s) => s[key]));
    if (key !== 'temporary') assert.equal(Math.max(...sites.slice(0, -1).map((s) => s[key])), most);
  }
});

function more(sums: Map<string, number>, name: string, figure: number): void {
  sums.set(name, (sums.get(name) ?? 0) + figure);
}
/** A function as both can be read: without arguments, or the library it has no name in. */
function function_of(name: string): string {
  if (/libstdc|^0x/.test(name)) return 'libstdc++';
  // Of a frame with an inlined function one shows this, the other what it was inlined into.
  const bare = name.replace(/ \(\/.*$/, '').replace(/<\w*>|\(int\)/g, '');
  return bare === 'chain' ? 'inlined' : bare;
}

test('to the byte what heaptrack_print says of each function', async (t) => {
  try {
    execFileSync('heaptrack_print', ['--version']);
  } catch {
    return t.skip('needs heaptrack');
  }
  const { sites = [], temporary, acquisitions } = await read(KNOWN);
  const to = join(temporary_folder(t), 'stacks');
  const costs = [
    ['allocations', 'requests'],
    ['temporary', 'temporary'],
    ['leaked', 'never_freed_bytes'],
    ['peak', 'peak_bytes'],
  ] as const;
  for (const [cost, key] of costs) {
    execFileSync('heaptrack_print', [KNOWN, '--flamegraph-cost-type', cost, '-F', to]);
    const theirs = new Map<string, number>();
    for (const line of readFileSync(to, 'utf8').trim().split('\n')) {
      // The function stands last, with its file in brackets.
      const [, name, figure] = /([^;]*?)(?: \([\w.-]*\))?; (-?\d+)$/.exec(line) ?? [];
      more(theirs, function_of(name), Number(figure));
    }
    const ours = new Map<string, number>();
    for (const site of sites) more(ours, function_of(site.name), site[key]);
    assert.deepEqual([...ours].sort(), [...theirs].sort(), cost);
  }
  const said = execFileSync('heaptrack_print', [KNOWN], { encoding: 'utf8' });
  assert.match(said, new RegExp(`^calls to allocation functions: ${acquisitions} `, 'm'));
  assert.match(said, new RegExp(`^temporary memory allocations: ${temporary} `, 'm'));
});

test('a recorder that was attached half-way changes no total, as in heaptrack_print', async (t) => {
  const head = 'v 10400 3\nX ./x\nI 1000 100\ns 1 m\ns 1 f\ni 10 1 2\nt 1 0\na 64 1\na 10 1\n';
  const events = '+ 0\n+ 0\n+ 0\n- 0\n- 0\n+ 1\nc 5\nA\n+ 1\n- 1\n+ 1\n- 0\nc 9\n+ 1\n';
  const file = temporary_file(t, 'attached.heaptrack', head + events);
  const trace = await read(file);
  assert.equal(trace.attached, true);
  const { acquisitions, temporary, peak_live_bytes, never_freed_bytes } = trace;
  const totals = { acquisitions, temporary, peak_live_bytes, never_freed_bytes };
  // What heaptrack_print 1.4 says of this file, with the line A and without it.
  const printed = { acquisitions: 7, temporary: 3, peak_live_bytes: 300, never_freed_bytes: 48 };
  assert.deepEqual(totals, printed);
  assert.deepEqual([trace.recorded_ms, trace.peak_live_ms], [9, 0]);
  const before = await read(temporary_file(t, 'plain', head + events.replace('A\n', '')));
  assert.deepEqual(before.sites, trace.sites);
});
