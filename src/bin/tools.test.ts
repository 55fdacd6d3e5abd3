/*
 * Shows what vmstat -m, vmstat -z and sysctl print, against layouts written out
 * in full: the streams behind the tables are put together by hand, the
 * variables are declared here.  Then every message and exit code, and that
 * sysctl -a names every variable of a live machine with a description.
 */
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { boot, shutdown } from '../sys/boot/whole.ts';
import { EACCES } from '../sys/machine/errno.ts';
import {
  CTLFLAG_RD,
  CTLFLAG_RDTUN,
  CTLFLAG_RW,
  sysctl_int,
  sysctl_proc,
  sysctl_uint,
  sysctl_ulong,
} from '../sys/machine/sysctl_decl.ts';
import {
  ALLOCATOR_MALLOC,
  ALLOCATOR_UMA,
  type memory_type,
  memstat_mt_allocate,
  memstat_mtl_alloc,
  memstat_mtl_types,
} from '../sys/observe/memstat.ts';
import { sysctl_main } from './sysctl.ts';
import { type ToolContext, tool_context } from './tool.ts';
import {
  type MallocSort,
  malloc_lines,
  vmstat_malloc_text,
  vmstat_zone_text,
} from '../sys/observe/vmstat_text.ts';
import { vmstat_main } from './vmstat.ts';

const out: (string | Uint8Array)[] = [];
const err: string[] = [];
let ctx: ToolContext;
let user: ToolContext;

function bytes(...values: number[]): Uint8Array {
  return new Uint8Array(Int32Array.from(values).buffer);
}
function report(
  name: string,
  type: 'int' | 'opaque' | 'string',
  fmt: string,
  value: Uint8Array,
): void {
  sysctl_proc(`debug.golden.${name}`, { type, fmt, help: `Report ${name}` }, (req) =>
    req.out(value),
  );
}
sysctl_int('debug.golden.number', {
  value: 1234567,
  flags: CTLFLAG_RW,
  max: 2e6,
  help: 'A number',
  unit: 'ms',
});
sysctl_int('debug.golden.fixed', { value: -1, flags: CTLFLAG_RD, help: 'A fixed one' });
sysctl_uint('debug.golden.tunable', { value: 0, flags: CTLFLAG_RDTUN, help: 'A tunable' });
sysctl_ulong('debug.golden.wide', { value: 2 ** 40, flags: CTLFLAG_RW, help: 'A wide one' });
report('array', 'int', 'I', bytes(1, -2, 3));
report('kelvin', 'int', 'IK', bytes(3098));
report('load', 'opaque', 'S,loadavg', bytes(2048, 1024, 512, 0, 2048, 0));
report('clock', 'opaque', 'S,clockinfo', bytes(1000, 1000, 0, 127, 8128));
report('short', 'opaque', 'S,unknown', bytes(1, 2));
report('long', 'opaque', 'S,unknown', bytes(1, 2, 3, 4, 5));
report('text', 'string', 'A', new TextEncoder().encode('two\0 words\0'));
const tunables = bytes(1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0).slice(0, 48);
report('total', 'opaque', 'S,vmtotal', tunables);

before(() => {
  boot({ memory: '8M', cpus: 2, options: { INVARIANTS: true } });
  const to = (data: string | Uint8Array): void => void out.push(data);
  ctx = tool_context(to, (t) => err.push(t));
  user = tool_context(to, (t) => err.push(t), { user: true });
});
beforeEach(() => {
  out.length = 0;
  err.length = 0;
});
after(shutdown);

function sysctl(...argv: string[]): { code: number; out: string; err: string } {
  out.length = 0;
  err.length = 0;
  const code = sysctl_main(argv, ctx);
  return { code, out: out.join(''), err: err.join('') };
}
const G = 'debug.golden';

test('vmstat -m', () => {
  const list = memstat_mtl_alloc();
  const add = (name: string, fields: Partial<memory_type>): void => {
    Object.assign(memstat_mt_allocate(list, ALLOCATOR_MALLOC, name, 1), fields);
  };
  add('kept', { count: 3, bytes: 100, numallocs: 3, sizemask: 0b1 });
  add('unused', {});
  add('devbuf', { count: 0, bytes: 0, numallocs: 3, numfrees: 3, sizemask: 0 });
  add('temp', { count: 2, bytes: 1025, numallocs: 77, numfrees: 75, sizemask: 0b10011 });
  const types = memstat_mtl_types(list);
  const temp = '         temp     2     2K       -       77  16,32,256';
  const devbuf = '       devbuf     0     0K       -        3';
  const kept = '         kept     3     1K      1K        3  16';
  const total = '        total     5     2K       -       83';
  const titles = '         Type InUse MemUse HighUse Requests  Size(s)';
  const rows = (sort?: MallocSort): string[] =>
    vmstat_malloc_text(types, { sort }).trimEnd().split('\n');
  assert.deepEqual(rows(), [titles, temp, devbuf, kept, total]);
  assert.deepEqual(rows('inuse'), [titles, kept, temp, devbuf, total]);
  assert.deepEqual(rows('memuse'), [titles, temp, kept, devbuf, total]);
  assert.deepEqual(rows('requests'), [titles, temp, devbuf, kept, total]);
  assert.equal(vmstat_malloc_text([]), `${titles}\n`);
  kept_types(types, (t) => (t.approximate = true));
  assert.match(vmstat_malloc_text(types), /^ +kept +3 +1K +- +3 /m, 'not known exactly');
});
/** Does something to the types of which nothing was freed. */
function kept_types(types: readonly memory_type[], to: (t: memory_type) => void): void {
  for (const t of types) if (t.numfrees === 0 && t.numallocs > 0) to(t);
}

test('vmstat -m: long names and large figures widen their column in all rows', () => {
  const list = memstat_mtl_alloc();
  const add = (name: string, fields: Partial<memory_type>): void => {
    const some = { count: 1, bytes: 16, numallocs: 2, numfrees: 1, sizemask: 0b1 };
    Object.assign(memstat_mt_allocate(list, ALLOCATOR_MALLOC, name, 1), { ...some, ...fields });
  };
  add('a very long type name', { count: 123456, bytes: 5e9, numallocs: 1e9, sizemask: 0b1000 });
  add('temp', {});
  const types = memstat_mtl_types(list);
  assert.deepEqual(vmstat_malloc_text(types).trimEnd().split('\n'), [
    '                 Type  InUse   MemUse HighUse   Requests  Size(s)',
    '                 temp      1       1K       -          2  16',
    'a very long type name 123456 4882813K       - 1000000000  128',
    '                total 123457 4882813K       - 1000000002',
  ]);
});

test('vmstat -m: what changed since the table before', () => {
  const list = memstat_mtl_alloc();
  const grown = memstat_mt_allocate(list, ALLOCATOR_MALLOC, 'grown', 1);
  const still = memstat_mt_allocate(list, ALLOCATOR_MALLOC, 'still', 1);
  Object.assign(grown, { count: 10, bytes: 5000, numallocs: 20, numfrees: 10, sizemask: 0b1 });
  Object.assign(still, { count: 1, bytes: 16, numallocs: 1, sizemask: 0b1 });
  const types = memstat_mtl_types(list);
  const before = malloc_lines(types);
  const same = vmstat_malloc_text(types, { before }).trimEnd().split('\n');
  assert.match(same[0], / {2}Size\(s\) {2}\+InUse \+MemUse \+Requests$/);
  assert.deepEqual(same.slice(1), vmstat_malloc_text(types).trimEnd().split('\n').slice(1));
  Object.assign(grown, { count: 7, bytes: 9100, numallocs: 25, numfrees: 18 });
  Object.assign(memstat_mt_allocate(list, ALLOCATOR_MALLOC, 'new', 1), {
    ...{ count: 2, bytes: 32, numallocs: 2, sizemask: 0b10 },
  });
  const all = memstat_mtl_types(list);
  const lines = vmstat_malloc_text(all, { before, sort: 'requests' }).trimEnd().split('\n');
  assert.deepEqual(lines, [
    '         Type InUse MemUse HighUse Requests  Size(s)  +InUse +MemUse +Requests',
    '        grown     7     9K       -       25  16           -3     +5K        +5',
    '          new     2     1K      1K        2  32           +2     +1K        +2',
    '        still     1     1K      1K        1  16',
    '        total    10     9K       -       28               -1     +5K        +7',
  ]);
  Object.assign(grown, { count: 0, bytes: 0, numfrees: 25 });
  assert.match(vmstat_malloc_text(all, { before }), /^ +grown +0 +0K .* -10 +-5K +\+5$/m);
});

test('vmstat -z', () => {
  const list = memstat_mtl_alloc();
  const add = (name: string, fields: Partial<memory_type>): void => {
    Object.assign(memstat_mt_allocate(list, ALLOCATOR_UMA, name, 1), fields);
  };
  add('mbuf_cluster', {
    size: 2048,
    countlimit: 25600,
    count: 512,
    free: 3,
    numallocs: 900,
    failures: 2,
    sleeps: 1,
  });
  add('UMA Kegs', { size: 208, count: 60, free: 9, numallocs: 60 });
  assert.equal(
    vmstat_zone_text(memstat_mtl_types(list)),
    [
      'ITEM                   SIZE  LIMIT     USED     FREE      REQ FAIL SLEEP',
      '',
      'UMA Kegs:               208,      0,      60,       9,      60,   0,   0',
      'mbuf_cluster:          2048,  25600,     512,       3,     900,   2,   1',
      '',
      '',
    ].join('\n'),
  );
});

test('vmstat on the live machine, as JSON, and its refusals', async () => {
  assert.equal(await vmstat_main(['-mz'], ctx), 0);
  assert.match(out.join(''), /^ {9}Type InUse MemUse HighUse Requests {2}Size\(s\)\n/);
  assert.match(out.join(''), /^UMA Kegs: +\d+, +0, +\d+, +\d+, +\d+, +0, +0$/m);
  out.length = 0;
  assert.equal(await vmstat_main(['-m', '-z', '--json'], ctx), 0);
  const document = JSON.parse(out.join(''));
  assert.ok(Array.isArray(document['malloc-statistics'].memory));
  const keg = document['memory-zone-statistics'].zone.find(
    (z: { name: string }) => z.name === 'UMA Kegs',
  );
  assert.deepEqual(Object.keys(keg), [
    'name',
    'size',
    'limit',
    'used',
    'free',
    'requests',
    'fail',
    'sleep',
  ]);
  out.length = 0;
  const { memory, total } = document['malloc-statistics'];
  const sum = (key: string): number =>
    memory.reduce((n: number, t: Record<string, number>) => n + t[key], 0);
  for (const key of ['in-use', 'memory-use-bytes', 'requests']) assert.equal(total[key], sum(key));
  assert.equal(await vmstat_main(['-mw', '.01', '-c2', '--json', '--sort', 'memuse'], ctx), 0);
  const [first, second] = out.map((line) => JSON.parse(String(line))['malloc-statistics']);
  const sizes = second.memory.map((t: Record<string, number>) => t['memory-use-bytes']);
  assert.deepEqual(
    sizes,
    sizes.toSorted((a: number, b: number) => b - a),
  );
  assert.equal(first.total['requests-more'], undefined);
  assert.equal(second.total['requests-more'], second.total.requests - first.total.requests);
  out.length = 0;
  for (const argv of [
    ...[['-x'], ['-m', 'da0'], ['--jso']],
    ...[
      ['-m', '--sort'],
      ['-m', '--sort', 'size'],
      ['-z', '--sort=inuse'],
    ],
  ]) {
    err.length = 0;
    assert.equal(await vmstat_main(argv, ctx), 2, argv.join(' '));
    assert.match(
      err.join(''),
      /^vmstat: .*usage: vmstat \[-mosz\] \[-M FILE\] \[-w SECONDS\] \[-c COUNT\] .*\[--json\]\n$/,
    );
  }
  err.length = 0;
  assert.equal(
    await vmstat_main(['-m'], {
      ...ctx,
      fetch: (n) => (n === 'kern.malloc_stats' ? EACCES : ctx.fetch(n, 4)),
    }),
    1,
  );
  assert.equal(err.join(''), 'vmstat: kern.malloc_stats: Permission denied\n');
  assert.deepEqual(out, []);
});

test('sysctl: values in every form', () => {
  const cases: [string[], string][] = [
    [[`${G}.number`], `${G}.number: 1234567\n`],
    [['-e', `${G}.number`], `${G}.number=1234567\n`],
    [['-n', `${G}.number`], '1234567\n'],
    [['-N', `${G}.number`], `${G}.number\n`],
    [['-h', `${G}.number`, `${G}.fixed`], `${G}.number: 1,234,567\n${G}.fixed: -1\n`],
    [['-nx', `${G}.number`], '0x0012d687\n'],
    [['-nx', `${G}.fixed`], '0xffffffff\n'],
    [['-nx', `${G}.tunable`], '0000000000\n'],
    [['-nx', `${G}.wide`], '0x0000010000000000\n'],
    [['-nx', `${G}.array`], '0x00000001 0xfffffffe 0x00000003\n'],
    [['-d', `${G}.number`], `${G}.number: A number (ms)\n`],
    [['-dn', `${G}.number`], 'A number (ms)\n'],
    [['-t', `${G}.wide`], `${G}.wide: unsigned long\n`],
    [[`${G}.array`], `${G}.array: 1 -2 3\n`],
    [[`${G}.kelvin`], `${G}.kelvin: 36.6C\n`],
    [[`${G}.load`], `${G}.load: { 1.00 0.50 0.25 }\n`],
    [[`${G}.clock`], `${G}.clock: { hz = 1000, tick = 1000, profhz = 8128, stathz = 127 }\n`],
    [[`${G}.text`], `${G}.text: two words\n`],
    [[`${G}.short`], ''],
    [['-o', `${G}.short`], `${G}.short: Format:S,unknown Length:8 Dump:0x0100000002000000\n`],
    [
      ['-no', `${G}.long`],
      'Format:S,unknown Length:20 Dump:0x01000000020000000300000004000000...\n',
    ],
    [
      ['-nx', `${G}.long`],
      'Format:S,unknown Length:20 Dump:0x0100000002000000030000000400000005000000\n',
    ],
    [['-nT', G], '0\n'],
    [['-W', G], `${G}.number: 1234567\n${G}.wide: 1099511627776\n`],
    [['-i', 'no.such.name'], ''],
  ];
  for (const [argv, wanted] of cases) {
    const r = sysctl(...argv);
    assert.deepEqual([r.out, r.err, r.code], [wanted, '', 0], argv.join(' '));
  }
  assert.deepEqual(sysctl(`${G}.total`).out.split('\n'), [
    `${G}.total: `,
    'System wide totals computed every five seconds: (values in kilobytes)',
    '='.repeat(47),
    'Processes:\t\t(RUNQ: 1 Disk Wait: 0 Page Wait: 0 Sleep: 0)',
    'Virtual Memory:\t\t(Total: 0K Active: 12K)',
    'Real Memory:\t\t(Total: 0K Active: 16K)',
    'Shared Virtual Memory:\t(Total: 0K Active: 20K)',
    'Shared Real Memory:\t(Total: 0K Active: 24K)',
    'Free Memory:\t0K',
    '',
  ]);
  sysctl('-b', `${G}.array`);
  assert.deepEqual(out, [bytes(1, -2, 3)], 'raw bytes, no line end');
  assert.match(
    sysctl('kern.boottime').out,
    /^kern\.boottime: \{ sec = \d+, usec = \d+ \} \w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}\n$/,
  );
});

test('sysctl: setting', () => {
  const set = (...argv: string[]): string => sysctl(...argv).out;
  assert.equal(set(`${G}.number=0x10`), `${G}.number: 1234567 -> 16\n`);
  assert.equal(set('-w', `${G}.number=010`), `${G}.number: 16 -> 8\n`);
  assert.equal(set('-n', `${G}.number=-7`), '8 -> -7\n');
  assert.equal(set('-e', `${G}.number=1234567`), `${G}.number=-7 -> 1234567\n`);
  assert.equal(
    set(`${G}.wide=5`, `${G}.wide=6`),
    `${G}.wide: 1099511627776 -> 5\n${G}.wide: 5 -> 6\n`,
  );
  assert.equal(set('kern.hostname=two words=x'), 'kern.hostname: kmem -> two words=x\n');
  assert.equal(
    set('--json', `${G}.wide=${2 ** 40}`),
    `{"${G}.wide":{"old":6,"new":1099511627776}}\n`,
  );
});

test('sysctl: messages and exit codes', () => {
  const cases: [number, string, string[]][] = [
    [1, "unknown oid 'no.such'", ['no.such']],
    [1, "unknown oid 'no.such'", ['no.such=1']],
    [1, "oid 'debug.golden' isn't a leaf node", [`${G}=1`]],
    [1, "oid 'debug.golden.fixed' is read only", [`${G}.fixed=1`]],
    [1, "oid 'debug.golden.tunable' is a read only tunable", [`${G}.tunable=1`]],
    [1, 'empty numeric value', [`${G}.number=`]],
    [1, "invalid integer '12x'", [`${G}.number=12x`]],
    [1, "invalid integer '09'", [`${G}.number=09`]],
    [1, "invalid unsigned long integer '1.5'", [`${G}.wide=1.5`]],
    [1, 'debug.golden.number: Invalid argument', [`${G}.number=3000000`]],
    [1, 'kern.securelevel: Invalid argument', ['kern.securelevel=9']],
    [2, 'no name given; usage:', []],
    [2, '-N and -n exclude each other; usage:', ['-Nn', 'kern']],
    [2, 'kern: -a takes no names; usage:', ['-a', 'kern']],
    [2, '-Z: no such option; usage:', ['-Z']],
    [1, "oid too long: '", ['x'.repeat(2000)]],
  ];
  for (const [code, message, argv] of cases) {
    const r = sysctl(...argv);
    assert.equal(r.code, code, argv.join(' '));
    assert.ok(r.err.startsWith(`sysctl: ${message}`), r.err);
    assert.equal(r.err.split('\n').length, 2, 'one line');
  }
  assert.deepEqual(sysctl('-q', 'no.such'), { code: 1, out: '', err: '' });
  err.length = 0;
  assert.equal(sysctl_main([`${G}.number=1`, `${G}.wide=1`], user), 2, 'the number of failed sets');
  assert.match(err.join(''), /^sysctl: debug\.golden\.number: Operation not permitted\n/);
  const many = ['9', '9'].map((v) => `kern.securelevel=${v}`);
  assert.equal(sysctl(...many, `${G}.number=8`).code, 2, 'later ones are still done');
  assert.equal(sysctl('-n', `${G}.number`).out, '8\n');
  sysctl(`${G}.number=1234567`);
});

test('sysctl -a: every variable, each with a description; as JSON too', () => {
  const names = sysctl('-aN').out.trimEnd().split('\n');
  assert.ok(names.length > 40 && names.includes('kern.ostype'));
  assert.ok(!names.some((n) => n.startsWith('sysctl.')));
  for (const line of sysctl('-ad').out.trimEnd().split('\n')) assert.match(line, /^[\w.]+: \S/);
  const all = JSON.parse(sysctl('-a', '--json').out);
  assert.equal(all['kern.ostype'], 'kmem');
  assert.deepEqual(all[`${G}.array`], [1, -2, 3]);
  assert.equal(all[`${G}.short`], undefined);
  assert.deepEqual(JSON.parse(sysctl('-A', '--json').out)[`${G}.short`], {
    format: 'S,unknown',
    length: 8,
    hex: '0100000002000000',
  });
  assert.deepEqual(JSON.parse(sysctl('-aN', '--json').out), names);
  assert.equal(sysctl('-a').code, 0);
  assert.ok(sysctl('-X').out.includes(`${G}.short: Format:S,unknown`));
});
