/*
 * Shown: every recorded heap plays as it was recorded, on one CPU and on two: the
 * trace equals its truth, what is in use at the end is what the program never
 * freed (as many times as programs ran), no block is damaged, all accounts add up.
 * By what means: real machines and real threads; all bundled recordings.  Those of
 * ../shared/traces or $KMEM_TRACES follow in replay.slow.test.ts.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { mem } from '../../sys/machine/memory.ts';
import { folded, type TypeFigures } from './heap_figures.ts';
import { replay } from './replay.ts';
import { PLAIN, plays_as_recorded } from './replay.test.lib.ts';
import {
  BUNDLED,
  heap_truth,
  temporary_file,
  temporary_folder,
} from '../read/traces.test.common.ts';
import { verdict } from './verdict.ts';
import { OTHER, short_site, TypeNames, TYPES_MAX } from '../read/type_names.ts';
import type { malloc_type_t } from '../../sys/kmem/kern_malloc.ts';

const bundled = heap_truth(BUNDLED) ?? {};
assert.ok(Object.keys(bundled).length >= 6, `${BUNDLED}/truth.json is missing`);
for (const [name, truth] of Object.entries(bundled)) {
  for (const cpus of [1, 2]) {
    test(`${name} on ${cpus} CPUs`, async () => {
      await plays_as_recorded(join(BUNDLED, name), cpus, truth);
    });
  }
}

test('a program with one thread is played once, however many CPUs there are', async () => {
  const name = 'make.mtrace.gz';
  const file = join(BUNDLED, name);
  const alone = await plays_as_recorded(file, 1, bundled[name]);
  for (const cpus of [2, 3]) {
    const out = await replay({ ...PLAIN, files: [file], cpus });
    assert.deepEqual([out.cpus, out.programs], [1, 1]);
    assert.equal(out.heap.inuse, out.trace.never_freed_blocks);
    assert.deepEqual(out.heap.types, alone.heap.types);
    const text = verdict(file, out, cpus);
    assert.match(text, /^make\.mtrace\.gz: mtrace, 5,365 events, played once on CPU 1\n {2}CPUs /);
    assert.match(text, new RegExp(`^ {2}CPUs +1 of ${cpus}: .*--programs ${cpus} plays`, 'm'));
    assert.doesNotMatch(verdict(file, out), /CPUs/, 'nobody asked for more');
  }
  const threads = join(BUNDLED, 'redis.threads.gz');
  const two = { ...PLAIN, cpus: 2, programs: 2 };
  await assert.rejects(replay({ ...two, files: [threads] }), /recording with threads.*--cpus/);
});

test('INVARIANTS and WITNESS watch a replay of two programs', async () => {
  const options = { INVARIANTS: true, WITNESS: true };
  const name = 'make.mtrace.gz';
  await plays_as_recorded(join(BUNDLED, name), 2, bundled[name], { options });
});

test('redzones watch a replay: no player writes beside a block', async () => {
  const set = { 'vm.redzone.enable': '1' };
  for (const [name, cpus] of [
    ['make.mtrace.gz', 2],
    ['edges.mtrace.gz', 1],
    ['redis.threads.gz', 2],
  ] as const) {
    await plays_as_recorded(join(BUNDLED, name), cpus, bundled[name], { set });
  }
});

test('types: call sites, modules, or one for all; the sums stay the same', async () => {
  const name = 'gm.mtrace.gz';
  const file = join(BUNDLED, name);
  const count = new Map<string, number>();
  const sums = new Set<string>();
  for (const type_by of ['caller', 'module', 'none'] as const) {
    const { heap } = await plays_as_recorded(file, 1, bundled[name], { type_by });
    count.set(type_by, heap.types.length);
    sums.add(`${heap.requests} ${heap.inuse} ${heap.memuse}`);
  }
  assert.equal(count.get('none'), 1);
  const modules = count.get('module') ?? 0;
  assert.ok(modules > 1 && modules < (count.get('caller') ?? 0));
  assert.equal(sums.size, 1, [...sums].join(' / '));
});

test('a realloc keeps the contents, the type, and counts only when it moves', async (t) => {
  const lines = ['@ a:[0x1] + 0x10 0x64', '@ a:[0x2] < 0x10', '@ a:[0x2] > 0x10 0x7f'];
  lines.push('@ a:[0x2] < 0x10', '@ a:[0x2] > 0x20 0x186a0', '@ a:[0x3] + 0x30 0x0', '');
  const file = temporary_file(t, 'r.mtrace', `= Start\n${lines.join('\n')}`);
  const { heap } = await replay({ ...PLAIN, files: [file], cpus: 1 });
  const rows = heap.types.map((r) => [r.name, r.inuse, r.memuse, r.requests]);
  assert.deepEqual(rows, [
    ['a:0x1', 1, 102400, 2],
    ['a:0x2', 0, 0, 0],
    ['a:0x3', 1, 16, 1],
  ]);
  assert.equal(heap.verify_errors, 0);
});

test('a thread frees what another got, thousands of times over one address', async (t) => {
  const rows = ['# kmem-threads v1'];
  for (let i = 0; i < 6000; i++) {
    const [tid, other] = i % 2 ? [1, 2] : [2, 1];
    rows.push(`${tid}\tm\t0x10\t${16 + (i % 5000)}`, `${other}\tr\t0x20\t${i % 3000}\t0x10`);
    rows.push(`${tid}\ta\t0x30\t24\t256`, `${other}\tf\t0x20\t0`, `${other}\tf\t0x30\t0`);
  }
  const file = temporary_file(t, 'pingpong', `${rows.join('\n')}\n`);
  const { heap, trace } = await replay({ ...PLAIN, files: [file], cpus: 2 });
  assert.equal(trace.malformed_lines, 0);
  assert.ok((trace.released_by_other_thread ?? 0) >= 6000);
  assert.equal(heap.verify_errors, 0);
  assert.equal(heap.inuse, 0);
  assert.ok(heap.requests >= 12000 && heap.requests <= 18000);
});

/** Where exactly 64 equal odd words stand, which is how a block of 256 bytes is filled; or -1. */
function first_pattern(words: Int32Array): number {
  let from = 0;
  for (let i = 1; i < words.length; i++) {
    if (words[i] === words[from]) continue;
    if (i - from === 64 && (words[from] & 1) === 1 && Math.abs(words[from]) > 0xffff) return from;
    from = i;
  }
  return -1;
}

test('a block that somebody else writes into is found and told', async (t) => {
  const fifo = join(temporary_folder(t), 'pipe');
  execFileSync('mkfifo', [fifo]);
  const lines = '@ a:[0x1] + 0x10 0x100\n@ a:[0x1] + 0x20 0x100\n@ a:[0x1] + 0x30 0x100\n';
  let pipe: WriteStream | null = createWriteStream(fifo);
  pipe.write(`= Start\n${lines}`);
  const progress = (): void => {
    const at = first_pattern(mem.I32);
    if (at < 0 || pipe === null) return;
    mem.I32[at + 7] ^= 1;
    pipe.end('@ a:[0x1] - 0x10\n@ a:[0x1] - 0x20\n@ a:[0x1] - 0x30\n');
    pipe = null;
  };
  const out = await replay({ ...PLAIN, files: [fifo], cpus: 1, memory: '2M', progress });
  assert.equal(out.trace.event_lines, 6);
  assert.equal(out.heap.verify_errors, 1);
  assert.match(out.complaints[0], /^block at 0x[0-9a-f]+ \(256 bytes\): word 7 is 0x\w+ at free$/);
  const text = verdict(fifo, out);
  assert.match(text, /^ {2}contents {6}1 BLOCK WAS DAMAGED\n {16}block at 0x/m);
  assert.match(text, /^ {2}never freed {3}none: every block was freed$/m);
});

test('names of types: what tells sites apart stays, 31 characters, each once', () => {
  assert.equal(short_site('/lib/x/libc.so.6:(__strdup+1a)[0x9e9aa]'), 'libc.so.6:__strdup+1a');
  assert.equal(short_site('redis-server *:7001:[0x5a]'), 'redis-server_*:7001:0x5a');
  assert.equal(short_site('[0x7f0959ab8006]'), '[0x7f0959ab8006]');
  assert.equal(short_site('/usr/lib/libz.so'), 'libz.so');
  const long_object = '/u/libGraphicsMagick-Q16.so.3';
  assert.equal(short_site(`${long_object}:[0xcfab4]`), 'libGraphicsMagick-Q16:0xcfab4');
  assert.equal(short_site(`${long_object}:(ExpandFilenames+5d)[0x1]`), 'ExpandFilenames+5d');
  const names = new TypeNames();
  const long = 'x'.repeat(40);
  const all = [`/a/${long}:[0x1]`, `/b/${long}:[0x1]`, '/c/l:[0x1]', '/d/l:[0x1]'];
  const made = all.map((site) => names.name(site));
  assert.equal(new Set(made).size, all.length, made.join(' '));
  for (const name of made) assert.ok(name.length <= 31, name);
  assert.equal(names.name(all[0]), made[0], 'the same site, the same name');
});

test('beyond a thousand types, or without memory for one more, sites share one', () => {
  const made = new Set<string>();
  const names = new TypeNames();
  const make = (name: string): malloc_type_t => {
    made.add(name);
    return made.size as malloc_type_t;
  };
  for (let i = 0; i < TYPES_MAX + 500; i++) names.type(`site ${i}`, make);
  assert.equal(made.size, TYPES_MAX + 1);
  assert.ok(made.has(OTHER));
  const only_other = (name: string): malloc_type_t => Number(name === OTHER) as malloc_type_t;
  assert.equal(new TypeNames().type('a', only_other), 1);
  const none = (): malloc_type_t => 0 as malloc_type_t;
  assert.throws(() => new TypeNames().type('a', none), /ENOMEM.*give more with --memory/);
});

test('a folded report keeps the busiest, the largest holders, and every sum', () => {
  const rows: TypeFigures[] = Array.from({ length: 1000 }, (_, i) => ({
    name: `t${i}`,
    inuse: i === 3 ? 1 : 0,
    memuse: i === 3 ? 1 << 20 : 0,
    requests: i,
    sizes: [16 << (i % 3)],
  }));
  const kept = folded(rows, 300);
  assert.equal(kept.length, 300);
  assert.deepEqual(
    kept.find((r) => r.name === 't3'),
    rows[3],
    'few requests, but it holds the most',
  );
  assert.ok(kept.some((r) => r.name === 't999') && !kept.some((r) => r.name === 't100'));
  const sum = (list: TypeFigures[]): number => list.reduce((n, r) => n + r.requests, 0);
  assert.equal(sum(kept), sum(rows));
  assert.deepEqual(kept.find((r) => r.name === OTHER)?.sizes, [16, 32, 64]);
  assert.deepEqual(folded(rows.slice(0, 300), 300), rows.slice(0, 300));
});
