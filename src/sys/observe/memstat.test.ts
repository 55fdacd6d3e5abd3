/*
 * Shows memstat on streams put together by hand from the published layout:
 * every sum and formula, updating in place, every error; then on the live
 * machine, where the library and an independent reader in Python must agree
 * about every figure of both streams.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { boot, shutdown } from '../boot/whole.ts';
import { M_WAITOK } from '../h/malloc_flags.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { M_DEVBUF, M_TEMP } from '../kmem/kern_malloc_type.ts';
import { EACCES, ENOENT, ENOMEM } from '../machine/errno.ts';
import { sysctl_read } from './kern_sysctl.ts';
import {
  ALLOCATOR_ANY,
  ALLOCATOR_MALLOC,
  ALLOCATOR_UMA,
  ALLOCATOR_UNKNOWN,
  MEMSTAT_ERROR_DATAERROR,
  MEMSTAT_ERROR_KVM,
  MEMSTAT_ERROR_KVM_NOSYMBOL,
  MEMSTAT_ERROR_KVM_SHORTREAD,
  MEMSTAT_ERROR_NOMEMORY,
  MEMSTAT_ERROR_PERMISSION,
  MEMSTAT_ERROR_TOOMANYCPUS,
  MEMSTAT_ERROR_UNDEFINED,
  MEMSTAT_ERROR_VERSION,
  type memory_type,
  memstat_get_allocator,
  memstat_get_approximate,
  memstat_get_bytes,
  memstat_get_byteslimit,
  memstat_get_caller_pointer,
  memstat_get_caller_uint64,
  memstat_get_count,
  memstat_get_countlimit,
  memstat_get_failures,
  memstat_get_free,
  memstat_get_kegfree,
  memstat_get_memalloced,
  memstat_get_memfreed,
  memstat_get_name,
  memstat_get_numallocs,
  memstat_get_numfrees,
  memstat_get_percpu_caller_pointer,
  memstat_get_percpu_caller_uint64,
  memstat_get_percpu_free,
  memstat_get_percpu_memalloced,
  memstat_get_percpu_memfreed,
  memstat_get_percpu_numallocs,
  memstat_get_percpu_numfrees,
  memstat_get_percpu_sizemask,
  memstat_get_size,
  memstat_get_sizemask,
  memstat_get_sleeps,
  memstat_get_zonefree,
  memstat_malloc_sizes,
  memstat_mtl_alloc,
  memstat_mtl_find,
  memstat_mtl_first,
  memstat_mtl_free,
  memstat_mtl_geterror,
  memstat_mtl_next,
  memstat_mtl_types,
  memstat_set_caller_pointer,
  memstat_set_caller_uint64,
  memstat_set_percpu_caller_pointer,
  memstat_set_percpu_caller_uint64,
  memstat_strerror,
} from './memstat.ts';
import { memstat_parse_malloc } from './memstat_malloc.ts';
import {
  type memstat_fetch,
  memstat_sysctl_all,
  memstat_sysctl_malloc,
  memstat_sysctl_uma,
} from './memstat_sysctl.ts';
import { memstat_parse_uma } from './memstat_uma.ts';

const READER = fileURLToPath(new URL('../../../tests/readers/streams.py', import.meta.url));

type Row = bigint[];
/** A malloc stream: for each type its name and a row of eight numbers per CPU. */
function malloc_stream(cpus: number, types: [string, Row[]][]): Uint8Array {
  const bytes = new Uint8Array(16 + types.length * (32 + 64 * cpus));
  const v = new DataView(bytes.buffer);
  for (const [i, n] of [1, cpus, types.length, 0].entries()) v.setUint32(i * 4, n, true);
  for (const [i, [name, rows]] of types.entries()) {
    const at = 16 + i * (32 + 64 * cpus);
    bytes.set(new TextEncoder().encode(name), at);
    for (const [cpu, row] of rows.entries()) {
      for (const [j, n] of row.entries()) v.setBigUint64(at + 32 + cpu * 64 + j * 8, n, true);
    }
  }
  return bytes;
}
/** A zone stream: name, ten words, five counters, a row of three numbers per CPU. */
function zone_stream(cpus: number, zones: [string, number[], Row, Row[]][]): Uint8Array {
  const bytes = new Uint8Array(16 + zones.length * (120 + 64 * cpus));
  const v = new DataView(bytes.buffer);
  for (const [i, n] of [1, cpus, zones.length, 0].entries()) v.setUint32(i * 4, n, true);
  for (const [i, [name, words, counts, rows]] of zones.entries()) {
    const at = 16 + i * (120 + 64 * cpus);
    bytes.set(new TextEncoder().encode(name), at);
    for (const [j, n] of words.entries()) v.setUint32(at + 32 + j * 4, n, true);
    for (const [j, n] of counts.entries()) v.setBigUint64(at + 72 + j * 8, n, true);
    for (const [cpu, row] of rows.entries()) {
      for (const [j, n] of row.entries()) v.setBigUint64(at + 120 + cpu * 64 + j * 8, n, true);
    }
  }
  return bytes;
}
function u32(n: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(n).buffer);
}
function python(
  kind: string,
  bytes: Uint8Array,
): { status: number | null; out: string; err: string } {
  const dir = mkdtempSync(join(tmpdir(), 'kmem-streams-'));
  try {
    writeFileSync(join(dir, 'raw'), bytes);
    const r = spawnSync('python3', [READER, kind, join(dir, 'raw')], { encoding: 'utf8' });
    return { status: r.status, out: r.stdout, err: r.stderr };
  } finally {
    rmSync(dir, { recursive: true });
  }
}
const have_python = ((): boolean => {
  try {
    execFileSync('python3', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();
const needs_python = have_python ? false : 'needs python3';

const MALLOC = malloc_stream(2, [
  [
    'new',
    [
      [100n, 0n, 2n, 0n, 1n],
      [0n, 60n, 0n, 1n, 4n],
    ],
  ],
  [
    'old',
    [
      [10n, 0n, 1n, 0n, 2n],
      [0n, 10n, 0n, 1n, 0n],
    ],
  ],
]);
const ZONES = zone_stream(2, [
  [
    'sec',
    [7, 24, 24, 0, 0, 9, 5, 2, 0, 1],
    [10n, 4n, 3n, 1n],
    [
      [5n, 2n, 8n],
      [1n, 1n, 1n],
    ],
  ],
  [
    'prim',
    [7, 24, 32, 0, 50, 9, 5, 2, 0, 0],
    [10n, 4n, 0n, 0n],
    [
      [5n, 2n, 8n],
      [1n, 1n, 1n],
    ],
  ],
]);

test('malloc types: sums, masks, wrapping, order', () => {
  const list = memstat_mtl_alloc();
  assert.equal(memstat_parse_malloc(list, MALLOC), MEMSTAT_ERROR_UNDEFINED);
  const types = memstat_mtl_types(list);
  assert.deepEqual(
    types.map((t) => t.name),
    ['old', 'new'],
    'newest first in the stream, so registration order in the list',
  );
  assert.equal(memstat_mtl_first(list), types[0]);
  assert.equal(memstat_mtl_next(types[0]), types[1]);
  const t = memstat_mtl_find(list, ALLOCATOR_ANY, 'new') as memory_type;
  assert.deepEqual(
    [t.memalloced, t.memfreed, t.numallocs, t.numfrees, t.bytes, t.count, t.sizemask],
    [100, 60, 2, 1, 40, 1, 5],
  );
  assert.deepEqual(memstat_malloc_sizes(t.sizemask), [16, 64]);
  assert.equal(memstat_get_percpu_memalloced(t, 0), 100);
  assert.equal(memstat_get_percpu_memalloced(t, 1), 0);
  assert.throws(() => memstat_get_percpu_memalloced(t, 2), /no CPU 2/);
  assert.equal(memstat_mtl_find(list, ALLOCATOR_UMA, 'new'), null);
  const crossed = malloc_stream(1, [['x', [[0n, 8n, 0n, 1n]]]]);
  memstat_parse_malloc(list, crossed);
  const x = memstat_mtl_find(list, ALLOCATOR_MALLOC, 'x') as memory_type;
  assert.equal(memstat_get_count(x), 2 ** 64, 'unsigned arithmetic, to the nearest double');
});

test('zones: what the CPUs hold back is added, shared free items count once', () => {
  const list = memstat_mtl_alloc();
  assert.equal(memstat_parse_uma(list, ZONES), MEMSTAT_ERROR_UNDEFINED);
  const [prim, sec] = memstat_mtl_types(list);
  assert.equal(sec.name, 'sec');
  assert.deepEqual(
    [prim.numallocs, prim.numfrees, prim.count, prim.bytes, prim.memalloced, prim.memfreed],
    [16, 7, 9, 9 * 24, 16 * 24, 7 * 24],
  );
  assert.deepEqual([prim.countlimit, prim.byteslimit], [50, 1200]);
  assert.deepEqual([prim.zonefree, prim.kegfree, prim.free], [2, 5, 16]);
  assert.deepEqual([sec.zonefree, sec.kegfree, sec.free], [2, 0, 11]);
  assert.deepEqual([sec.failures, sec.sleeps], [3, 1]);
  assert.equal(memstat_get_percpu_free(prim, 0), 8);
});

test('the accessors give what the entry has', () => {
  const list = memstat_mtl_alloc();
  memstat_parse_malloc(list, MALLOC);
  memstat_parse_uma(list, ZONES);
  const t = memstat_mtl_find(list, ALLOCATOR_MALLOC, 'new') as memory_type;
  const z = memstat_mtl_find(list, ALLOCATOR_UMA, 'sec') as memory_type;
  const both = (read: (t: memory_type) => unknown): unknown[] => [read(t), read(z)];
  assert.deepEqual(both(memstat_get_name), ['new', 'sec']);
  assert.deepEqual(both(memstat_get_allocator), [ALLOCATOR_MALLOC, ALLOCATOR_UMA]);
  assert.deepEqual(both(memstat_get_sizemask), [5, 0]);
  assert.deepEqual(both(memstat_get_size), [0, 24]);
  assert.deepEqual(both(memstat_get_countlimit), [0, 0]);
  assert.deepEqual(both(memstat_get_byteslimit), [0, 0]);
  assert.deepEqual(both(memstat_get_memalloced), [100, 16 * 24]);
  assert.deepEqual(both(memstat_get_memfreed), [60, 7 * 24]);
  assert.deepEqual(both(memstat_get_numallocs), [2, 16]);
  assert.deepEqual(both(memstat_get_numfrees), [1, 7]);
  assert.deepEqual(both(memstat_get_count), [1, 9]);
  assert.deepEqual(both(memstat_get_free), [0, 11]);
  assert.deepEqual(both(memstat_get_failures), [0, 3]);
  assert.deepEqual(both(memstat_get_sleeps), [0, 1]);
  assert.deepEqual(both(memstat_get_zonefree), [0, 2]);
  assert.deepEqual(both(memstat_get_kegfree), [0, 0]);
  assert.deepEqual(both(memstat_get_approximate), [false, false]);
  const cpu = (read: (t: memory_type, cpu: number) => number): number[] => [read(t, 0), read(t, 1)];
  assert.deepEqual(cpu(memstat_get_percpu_memfreed), [0, 60]);
  assert.deepEqual(cpu(memstat_get_percpu_numallocs), [2, 0]);
  assert.deepEqual(cpu(memstat_get_percpu_numfrees), [0, 1]);
  assert.deepEqual(cpu(memstat_get_percpu_sizemask), [1, 4]);
  memstat_set_caller_pointer(t, 3, list);
  assert.equal(memstat_get_caller_pointer(t, 3), list);
  memstat_set_percpu_caller_uint64(t, 1, 2, -1n);
  assert.equal(memstat_get_percpu_caller_uint64(t, 1, 2), 2n ** 64n - 1n);
});

test('two zones of one name are two entries, each found again in its place', () => {
  const stream = (a: bigint, b: bigint): Uint8Array => {
    const words = [7, 24, 24, 0, 0, 9, 5, 2, 0, 0];
    const zone = (n: bigint): [string, number[], Row, Row[]] => [
      'twin',
      words,
      [n, 0n, 0n, 0n],
      [],
    ];
    return zone_stream(1, [zone(a), ['other', words, [1n, 0n, 0n, 0n], []], zone(b)]);
  };
  const list = memstat_mtl_alloc();
  const counts = (): [string, number][] => memstat_mtl_types(list).map((t) => [t.name, t.count]);
  memstat_parse_uma(list, stream(10n, 20n));
  assert.deepEqual(counts(), [
    ['twin', 20],
    ['other', 1],
    ['twin', 10],
  ]);
  const entries = memstat_mtl_types(list);
  memstat_parse_uma(list, stream(11n, 21n));
  assert.deepEqual(counts(), [
    ['twin', 21],
    ['other', 1],
    ['twin', 11],
  ]);
  assert.deepEqual(memstat_mtl_types(list), entries, 'the same entries');
});
test('what the kernel counts as approximate while a stream is read is marked', () => {
  const marks = (counts: Record<string, bigint>): Uint8Array => {
    const names = Object.entries(counts);
    const bytes = new Uint8Array(names.length * 40);
    for (const [i, [name, n]] of names.entries()) {
      bytes.set(new TextEncoder().encode(name), i * 40);
      new DataView(bytes.buffer).setBigUint64(i * 40 + 32, n, true);
    }
    return bytes;
  };
  for (const [after, marked] of [
    [{ new: 3n, old: 5n }, []],
    [{ new: 4n, old: 5n }, ['new']],
    [{ new: 4n, old: 7n }, ['old', 'new']],
  ] as const) {
    const nodes: Record<string, Uint8Array[]> = {
      'kern.smp.maxcpus': [u32(2)],
      'kern.malloc_count': [u32(2)],
      'kern.malloc_stats': [MALLOC],
      'kern.malloc_approximate': [marks({ new: 3n, old: 5n }), marks(after)],
    };
    const list = memstat_mtl_alloc();
    const fetch: memstat_fetch = (name) => nodes[name]?.shift() ?? ENOENT;
    assert.equal(memstat_sysctl_malloc(list, fetch), 0);
    const found = memstat_mtl_types(list).filter((t) => t.approximate);
    assert.deepEqual(
      found.map((t) => t.name),
      marked,
    );
  }
});

test("an update keeps the entry and the caller's slots, and what vanished", () => {
  const list = memstat_mtl_alloc();
  memstat_parse_malloc(list, MALLOC);
  const t = memstat_mtl_find(list, ALLOCATOR_MALLOC, 'new') as memory_type;
  memstat_set_caller_uint64(t, 15, 2n ** 64n + 7n);
  memstat_set_percpu_caller_pointer(t, 1, 0, 'mine');
  assert.throws(() => memstat_set_caller_uint64(t, 16, 0n), /slot 16/);
  memstat_parse_malloc(
    list,
    malloc_stream(3, [
      ['new', [[1n], [], [1n]]],
      ['young', [[5n]]],
    ]),
  );
  assert.equal(memstat_mtl_find(list, ALLOCATOR_MALLOC, 'new'), t);
  assert.deepEqual([memstat_get_bytes(t), t.numallocs, t.percpu.length], [2, 0, 3]);
  assert.equal(memstat_get_caller_uint64(t, 15), 7n);
  assert.equal(memstat_get_percpu_caller_pointer(t, 1, 0), 'mine');
  assert.equal(memstat_mtl_find(list, ALLOCATOR_MALLOC, 'old')?.memalloced, 10, 'stale, not gone');
  assert.equal(memstat_mtl_first(list)?.name, 'young', 'new entries at the head');
  memstat_mtl_free(list);
  assert.equal(memstat_mtl_first(list), null);
});

test('every error, and the restart when the stream has grown', () => {
  const good: Record<string, Uint8Array | number> = {
    'kern.smp.maxcpus': u32(2),
    'kern.smp.maxid': u32(1),
    'kern.malloc_count': u32(2),
    'vm.zone_count': u32(2),
    'kern.malloc_stats': MALLOC,
    'vm.zone_stats': ZONES,
  };
  const run = (change: Record<string, Uint8Array | number>): number => {
    const list = memstat_mtl_alloc();
    const all = { ...good, ...change };
    const r = memstat_sysctl_all(list, (name) => all[name]);
    assert.equal(r, memstat_mtl_geterror(list) === MEMSTAT_ERROR_UNDEFINED ? 0 : -1);
    return memstat_mtl_geterror(list);
  };
  const wrong_version = MALLOC.slice();
  wrong_version[0] = 2;
  assert.equal(run({}), MEMSTAT_ERROR_UNDEFINED);
  assert.equal(run({ 'kern.smp.maxcpus': new Uint8Array(8) }), MEMSTAT_ERROR_DATAERROR);
  assert.equal(run({ 'kern.smp.maxid': ENOENT }), MEMSTAT_ERROR_DATAERROR);
  assert.equal(run({ 'kern.malloc_count': ENOENT }), MEMSTAT_ERROR_VERSION);
  assert.equal(run({ 'vm.zone_stats': EACCES }), MEMSTAT_ERROR_PERMISSION);
  assert.equal(run({ 'kern.malloc_stats': ENOENT }), MEMSTAT_ERROR_VERSION);
  assert.equal(run({ 'kern.malloc_stats': wrong_version }), MEMSTAT_ERROR_VERSION);
  assert.equal(run({ 'kern.malloc_stats': MALLOC.slice(0, 15) }), MEMSTAT_ERROR_VERSION);
  assert.equal(run({ 'kern.malloc_stats': new Uint8Array(0) }), MEMSTAT_ERROR_UNDEFINED);
  assert.equal(run({ 'kern.malloc_stats': MALLOC.slice(0, -1) }), MEMSTAT_ERROR_DATAERROR);
  assert.equal(run({ 'vm.zone_stats': ENOMEM }), MEMSTAT_ERROR_VERSION, 'not for ever');
  for (const [error, text] of [
    [MEMSTAT_ERROR_NOMEMORY, 'Cannot allocate memory'],
    [MEMSTAT_ERROR_VERSION, 'Version mismatch'],
    [MEMSTAT_ERROR_TOOMANYCPUS, 'Too many CPUs'],
    [MEMSTAT_ERROR_KVM, 'KVM error'],
    [MEMSTAT_ERROR_KVM_NOSYMBOL, 'KVM unable to find symbol'],
    [MEMSTAT_ERROR_KVM_SHORTREAD, 'KVM short read'],
  ] as const) {
    assert.equal(memstat_strerror(error), text);
  }
  assert.equal(memstat_mtl_find(memstat_mtl_alloc(), ALLOCATOR_UNKNOWN, 'x'), null);
  assert.equal(memstat_strerror(99), 'Unknown error');
  let tries = 0;
  const growing: memstat_fetch = (name, max) => {
    if (name === 'kern.malloc_count') return u32(tries);
    if (name !== 'kern.malloc_stats') return good[name];
    assert.equal(max, 32 + tries * (32 + 64 * 2));
    return tries++ < 2 ? ENOMEM : MALLOC;
  };
  assert.equal(memstat_sysctl_malloc(memstat_mtl_alloc(), growing), 0);
  assert.equal(tries, 3);
});

test('the independent reader refuses what is not exactly the stream', {
  skip: needs_python,
}, () => {
  assert.equal(python('malloc', MALLOC).status, 0);
  assert.equal(python('zones', ZONES).status, 0);
  const longer = new Uint8Array(MALLOC.length + 1);
  longer.set(MALLOC);
  const reserved = ZONES.slice();
  reserved[16 + 112] = 1;
  for (const [kind, bytes] of [
    ['malloc', longer],
    ['malloc', MALLOC.slice(0, -8)],
    ['malloc', ZONES],
    ['zones', MALLOC],
    ['zones', reserved],
    ['zones', new Uint8Array(0)],
  ] as const) {
    const r = python(kind, bytes);
    assert.equal(r.status, 1, kind);
    assert.equal(r.err.trimEnd().split('\n').length, 1, 'one line');
  }
});

test('live: the library and the independent reader agree', { skip: needs_python }, () => {
  boot({ memory: '8M', cpus: 3, options: { INVARIANTS: true } });
  try {
    const held: number[] = [];
    for (let i = 0; i < 500; i++) held.push(malloc(1 + i * 7, M_TEMP.t, M_WAITOK));
    for (let i = 0; i < 200; i++) free(malloc(100, M_DEVBUF.t, M_WAITOK), M_DEVBUF.t);
    for (const p of held.splice(0, 100)) free(p, M_TEMP.t);
    const kept: Record<string, Uint8Array> = {};
    for (const name of [
      'kern.malloc_stats',
      'vm.zone_stats',
      'kern.smp.maxcpus',
      'kern.smp.maxid',
      'kern.malloc_count',
      'vm.zone_count',
    ]) {
      kept[name] = sysctl_read(name) as Uint8Array;
    }
    const list = memstat_mtl_alloc();
    assert.equal(
      memstat_sysctl_malloc(list, (name) => kept[name]),
      0,
    );
    const theirs = JSON.parse(python('malloc', kept['kern.malloc_stats']).out);
    assert.equal(theirs.cpus, 3);
    const ours = memstat_mtl_types(list).reverse();
    assert.deepEqual(
      ours.map((t) => [t.name, t.count, t.bytes, t.numallocs, memstat_malloc_sizes(t.sizemask)]),
      theirs.types.map((t: Record<string, unknown>) => [
        t.name,
        t.inuse,
        t.memuse,
        t.requests,
        t.sizes,
      ]),
    );
    const temp = memstat_mtl_find(list, ALLOCATOR_MALLOC, 'temp') as memory_type;
    assert.deepEqual([temp.count, temp.numallocs, temp.numfrees], [400, 500, 100]);
    assert.equal(memstat_mtl_find(list, ALLOCATOR_MALLOC, 'devbuf')?.count, 0);
    const zones = memstat_mtl_alloc();
    assert.equal(
      memstat_sysctl_uma(zones, (name) => kept[name]),
      0,
    );
    const their_zones = JSON.parse(python('zones', kept['vm.zone_stats']).out);
    assert.deepEqual(
      memstat_mtl_types(zones)
        .reverse()
        .map((t) => [t.name, t.size, t.count, t.free, t.numallocs, t.failures, t.sleeps]),
      their_zones.zones.map((z: Record<string, unknown>) => [
        z.name,
        z.size,
        z.used,
        z.free,
        z.requests,
        z.fail,
        z.sleep,
      ]),
    );
    for (const p of held) free(p, M_TEMP.t);
  } finally {
    shutdown();
  }
});
