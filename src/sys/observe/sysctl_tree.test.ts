/*
 * Shows the tree as boot builds it and the call on bytes: names and numbers
 * lead to each other for every node, historic numbers are kept, every node is
 * described, retired names are gone; each error of the dispatch order, each
 * rule about short buffers, wiring and restarting.  Runs with INVARIANTS and
 * WITNESS; nodes that misbehave on purpose are declared here.
 */
import { kconsole } from '../machine/kconsole.ts';
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { boot, shutdown } from '../boot/whole.ts';
import {
  EAGAIN,
  EFAULT,
  EINVAL,
  EIO,
  EISDIR,
  ENAMETOOLONG,
  ENOENT,
  ENOMEM,
  ENOTDIR,
  EPERM,
} from '../machine/errno.ts';
import { M, machine } from '../machine/header.ts';
import {
  CTLFLAG_RD,
  CTLFLAG_RDTUN,
  CTLFLAG_RW,
  CTLFLAG_SKIP,
  sysctl_get,
  sysctl_int,
  sysctl_proc,
  sysctl_ulong,
  sysctl_wire_old_buffer,
} from '../machine/sysctl_decl.ts';
import { checked_quiet } from '../sync/checked.ts';
import {
  kernel_sysctlbyname,
  type SysctlOptions,
  sysctl,
  sysctl_read,
  sysctlbyname,
  sysctlnametomib,
} from './kern_sysctl.ts';
import { group_described } from './sysctl_names.ts';
import { KMEM_RELEASE } from './sysctl_std.ts';
import {
  CTLFLAG_ANYBODY,
  CTLFLAG_CAPRD,
  CTLFLAG_SECURE1,
  CTLTYPE_NODE,
  CTLTYPE_UINT,
  oid_descr,
  oid_fmt,
  oid_mib,
  oid_path,
  oid_root,
  oid_type,
  oid_walk,
  type oid_t,
  sysctl_check,
  sysctl_oid,
  tree_rlock,
  tree_runlock,
  WHAT_COUNTER,
  WHAT_GROUP,
} from './sysctl_tree.ts';

const RW = CTLFLAG_RW;
let restarts = 0;
const ranged = sysctl_int('debug.test.ranged', {
  value: 5,
  min: -10,
  max: 10,
  help: 'A variable of the tests',
  check: (v) => (v === 7 ? EIO : 0),
});
const wide = sysctl_ulong('debug.test.wide', { value: 2 ** 40, help: 'A wide one' });
sysctl_int('debug.test.fixed', { value: 1, flags: CTLFLAG_RD, help: 'Read only' });
sysctl_int('debug.test.tunable', { value: 1, flags: CTLFLAG_RDTUN, help: 'Set at boot only' });
sysctl_int('debug.test.anybody', { value: 1, flags: RW | CTLFLAG_ANYBODY, help: 'For all' });
sysctl_int('debug.test.secure', { value: 1, flags: RW | CTLFLAG_SECURE1, help: 'Guarded' });
sysctl_int('debug.test.cap', { value: 1, flags: RW | CTLFLAG_CAPRD, help: 'For the confined' });
sysctl_int('debug.test.hidden', { value: 1, flags: RW | CTLFLAG_SKIP, help: 'Not in walks' });
sysctl_proc('debug.test.again', { type: 'int', fmt: 'I', help: 'Three times is enough' }, (req) => {
  req.out(new Uint8Array(8));
  if (++restarts % 3 !== 0) return EAGAIN;
  return req.out(new Uint8Array(4));
});
sysctl_proc('debug.test.fails', { type: 'int', fmt: 'I', help: 'Delivers, then fails' }, (req) => {
  req.out(new Uint8Array(4));
  return EIO;
});
sysctl_proc('debug.test.wired', { type: 'opaque', fmt: 'S,x', help: 'Wires 10 bytes' }, (req) => {
  sysctl_wire_old_buffer(req, 10);
  sysctl_wire_old_buffer(req, 5); // the second call changes nothing
  return req.out(new Uint8Array(32).fill(9));
});
sysctl_proc('debug.test.node', { type: 'node', fmt: 'N', help: 'Swallows numbers' }, (req) =>
  req.out(Uint8Array.from(req.rest)),
);
before(() => {
  boot({ memory: '8M', cpus: 3, options: { INVARIANTS: true, WITNESS: true } });
  checked_quiet(true); // nobody else is at work: the tests look at nodes without the lock
});
after(shutdown);

function int(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}
function set(name: string, value: Uint8Array, options: SysctlOptions = {}): number {
  return sysctlbyname(name, null, value, options).error;
}
function mib_of(name: string): number[] {
  const r = sysctlnametomib(name);
  assert.equal(r.error, 0, name);
  return r.mib;
}
function text(mib: readonly number[]): { error: number; text: string } {
  const old = new Uint8Array(4096);
  const r = sysctl(mib, old, null);
  const end = Math.max(0, r.error === 0 ? r.oldlen - 1 : 0);
  if (r.error === 0) assert.equal(old[end], 0, 'ends with NUL');
  return { error: r.error, text: new TextDecoder().decode(old.subarray(0, end)) };
}
function walk(query: number, from: number[]): number[][] {
  const all: number[][] = [];
  for (let at = from; ; ) {
    const old = new Uint8Array(96);
    const r = sysctl([0, query, ...at], old, null);
    if (r.error === ENOENT) return all;
    assert.equal(r.error, 0);
    at = [...new Int32Array(old.buffer, 0, r.oldlen / 4)];
    all.push(at);
    assert.ok(all.length < 10000, 'the walk ends');
  }
}
function nodes(): oid_t[] {
  const all: oid_t[] = [];
  tree_rlock();
  oid_walk(oid_root(), (o) => all.push(o));
  tree_runlock();
  return all;
}

test('the tree that boot builds is sound, and names and numbers lead to each other', () => {
  sysctl_check();
  const all = nodes();
  assert.ok(all.length > 60, `${all.length} nodes`);
  for (const o of all) {
    const [path, mib] = [oid_path(o), oid_mib(o)];
    assert.deepEqual(mib_of(path), mib, path);
    assert.deepEqual(mib_of(`${path}.`), mib, 'one dot at the end is tolerated');
    assert.equal(text([0, 1, ...mib]).text, path);
    assert.notEqual(text([0, 5, ...mib]).text, '', `${path} has a description`);
    const fmt = new Uint8Array(200);
    assert.equal(sysctl([0, 4, ...mib], fmt, null).error, 0, path);
    assert.equal(new DataView(fmt.buffer).getUint32(0, true), sysctl_oid.kind[o]);
    assert.equal(sysctl([0, 6, ...mib], new Uint8Array(9), null).error, ENOENT, 'no labels');
  }
});

test('every group is described', () => {
  const missing = nodes()
    .filter((o) => sysctl_oid.what[o] === WHAT_GROUP && !oid_path(o).startsWith('debug.test'))
    .filter((o) => !group_described(oid_path(o)))
    .map(oid_path);
  assert.deepEqual(missing, [], 'add a line for each to boot/help.ts');
  for (const o of nodes()) assert.notEqual(oid_descr(o), '');
});

test('questions about a node find it as a request does', () => {
  const leaf = mib_of('kern.ostype');
  const name2oid = [0, 3]; // a leaf
  const next = [0, 2]; // a node with a handler
  for (const query of [4, 5, 6]) {
    const ask = (mib: readonly number[]): number =>
      sysctl([0, query, ...mib], new Uint8Array(200), null).error;
    assert.equal(ask([...leaf, 1]), ENOTDIR, `{0,${query}} beyond a leaf`);
    assert.equal(ask([...name2oid, 1, 2]), ENOTDIR);
    assert.equal(ask([1, 9999]), ENOENT);
    assert.equal(ask([]), ENOENT);
    assert.equal(ask([...next, 7, 8]), query === 6 ? ENOENT : 0, 'a handler takes the rest');
  }
  assert.equal(text([0, 5, ...next, 7, 8]).text, text([0, 5, ...next]).text);
});

test('below vm.stats all numbers are unsigned ints of 4 bytes', () => {
  const all = nodes().filter((o) => oid_path(o).startsWith('vm.stats.'));
  const leaves = all.filter((o) => sysctl_oid.what[o] !== WHAT_GROUP);
  assert.ok(leaves.some((o) => sysctl_oid.what[o] === WHAT_COUNTER));
  for (const o of leaves) {
    const path = oid_path(o);
    assert.equal(sysctl(oid_mib(o), null, null).oldlen, 4, path);
    assert.equal(oid_type(o), CTLTYPE_UINT, path);
    assert.equal(oid_fmt(o), 'IU', path);
  }
});

test('historic numbers are kept, others come from 0x100 on', () => {
  for (const [name, mib] of [
    ['sysctl.name2oid', [0, 3]],
    ['kern.ostype', [1, 1]],
    ['kern.osrelease', [1, 2]],
    ['kern.version', [1, 4]],
    ['kern.securelevel', [1, 9]],
    ['kern.hostname', [1, 10]],
    ['kern.clockrate', [1, 12]],
    ['kern.boottime', [1, 21]],
    ['hw.machine', [6, 1]],
    ['hw.ncpu', [6, 3]],
    ['hw.byteorder', [6, 4]],
    ['hw.physmem', [6, 5]],
    ['hw.pagesize', [6, 7]],
  ] as const) {
    assert.deepEqual(mib_of(name), mib, name);
  }
  assert.ok((mib_of('kern.smp.maxcpus')[1] ?? 0) >= 0x100);
  assert.ok((mib_of('vendor')[0] ?? 0) >= 0x100);
});

test('retired names are absent', () => {
  for (const name of ['kern.vm.kmem.size', 'kern.vm', 'kern.malloc', 'vm.zone']) {
    assert.equal(sysctlnametomib(name).error, ENOENT, name);
  }
});

test('the basic variables say what the machine is', () => {
  const u32 = (name: string): number => {
    const b = sysctl_read(name) as Uint8Array;
    assert.equal(b.length, 4, name);
    return new DataView(b.buffer, b.byteOffset).getUint32(0, true);
  };
  assert.equal(u32('kern.smp.maxcpus'), machine.maxcpus[M]);
  assert.equal(u32('kern.smp.maxid') + 1, machine.maxcpus[M]);
  assert.equal(u32('kern.smp.cpus'), 1);
  assert.equal(u32('hw.pagesize'), 4096);
  assert.equal(text([1, 1]).text, 'kmem');
  const pkg = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'));
  assert.equal(KMEM_RELEASE, pkg.version, 'KMEM_RELEASE in sysctl_std.ts follows package.json');
  assert.equal(text([1, 2]).text, pkg.version);
  assert.equal((sysctl_read('kern.boottime') as Uint8Array).length, 16);
  assert.equal((sysctl_read('kern.clockrate') as Uint8Array).length, 20);
});

test('next walks every visible leaf once, in order', () => {
  const all = nodes();
  const leaves = (hidden: boolean): number[][] =>
    all
      .filter((o) => oid_type(o) !== CTLTYPE_NODE || sysctl_oid.what[o] !== WHAT_GROUP)
      .filter((o) => hidden || (sysctl_oid.kind[o] & CTLFLAG_SKIP) === 0)
      .map(oid_mib);
  assert.deepEqual(walk(2, []), leaves(false));
  assert.deepEqual(walk(7, []), leaves(true));
  assert.deepEqual(
    walk(2, [1]),
    leaves(false).filter((m) => m[0] !== 0),
    'from {1} the node of the queries is not listed',
  );
  const hidden = mib_of('debug.test.hidden');
  assert.ok(!walk(2, [1]).some((m) => m.join() === hidden.join()));
  assert.ok(walk(7, [1]).some((m) => m.join() === hidden.join()));
  assert.equal(sysctl(hidden, new Uint8Array(4), null).error, 0, 'hidden is still readable');
  assert.deepEqual(walk(2, [1, 1, 5, 5])[0], [1, 2], 'numbers behind a leaf are passed');
  assert.deepEqual(walk(2, [0x7ffffff0]), []);
});

test('name and name2oid, where nothing is found', () => {
  assert.equal(text([0, 1, 1, 99999, 3]).text, 'kern.99999.3');
  assert.equal(text([0, 1, 1, 1, 7]).text, 'kern.ostype.7');
  assert.equal(text([0, 1]).text, '');
  const ask = (name: string): number => sysctlnametomib(name).error;
  assert.equal(ask(''), ENOENT);
  assert.equal(ask('.'), ENOENT);
  assert.equal(ask('nothing'), ENOENT);
  assert.equal(ask('kern..ostype'), ENOENT);
  assert.equal(ask('kern.ostype..'), ENOENT);
  assert.equal(ask('kern.ostype.x'), ENOENT, 'through a leaf');
  assert.equal(ask('debug.test.node.x'), ENOENT, 'through a node with a handler');
  assert.equal(ask('x'.repeat(1023)), ENOENT);
  assert.equal(ask('x'.repeat(1024)), ENAMETOOLONG);
  assert.equal(sysctl([0, 3], new Uint8Array(96), null).error, ENOENT, 'no name at all');
  assert.equal(sysctlnametomib('kern.ostype', { user: true }).error, 0, 'anybody may ask');
  for (const q of [4, 5]) assert.equal(text([0, q, 1, 9999]).error, ENOENT);
});

test('{0,0} prints the tree for the privileged and answers ENOENT', () => {
  const printed: string[] = [];
  const old = kconsole.print;
  kconsole.print = (line) => printed.push(line);
  try {
    assert.equal(sysctl([0, 0], new Uint8Array(8), null).error, ENOENT);
    assert.ok(printed.some((l) => /^ {2}1 ostype A handler$/.test(l)));
    assert.equal(printed.length, nodes().length);
    assert.equal(sysctl([0, 0], null, null, { user: true }).error, EPERM);
  } finally {
    kconsole.print = old;
  }
});

test('errors of the call and of the dispatch, in their order', () => {
  const old = new Uint8Array(4);
  const test_mib = mib_of('debug.test');
  const fixed = mib_of('debug.test.fixed');
  const cases: [number, readonly number[], Uint8Array | null, SysctlOptions?][] = [
    [EINVAL, [1], null],
    [EINVAL, [], null],
    [EINVAL, new Array(25).fill(1), null],
    [ENOTDIR, [1, 1, ...new Array(22).fill(1)], null],
    [EFAULT, [1, 1.5], null],
    [EFAULT, [1, 2 ** 31], null],
    [ENOENT, [1, 77777], null],
    [ENOENT, [77777, 1], int(1)],
    [ENOTDIR, [...fixed, 1], int(1)],
    [EISDIR, test_mib, int(1), { user: true }],
    [EPERM, fixed, int(1)],
    [EPERM, mib_of('debug.test.tunable'), int(1)],
    [EPERM, mib_of('debug.test.ranged'), null, { capability: true }],
    [0, mib_of('debug.test.cap'), null, { capability: true }],
    [EPERM, mib_of('debug.test.cap'), int(1), { capability: true }],
    [EPERM, mib_of('debug.test.ranged'), int(1), { user: true }],
    [0, mib_of('debug.test.ranged'), null, { user: true }],
    [0, mib_of('debug.test.anybody'), int(3), { user: true }],
    [EIO, mib_of('debug.test.fails'), null],
  ];
  for (const [i, [error, mib, newp, options]] of cases.entries()) {
    assert.equal(sysctl(mib, old, newp, options).error, error, `case ${i}: ${mib.join('.')}`);
  }
  assert.equal(sysctl(mib_of('debug.test.fails'), old, null).oldlen, 4, 'the given length stays');
});

test('values: range, check, size, 64 bits', () => {
  assert.equal(set('debug.test.ranged', int(10)), 0);
  assert.equal(sysctl_get(ranged), 10);
  assert.equal(set('debug.test.ranged', int(11)), EINVAL);
  assert.equal(set('debug.test.ranged', int(-11)), EINVAL);
  assert.equal(set('debug.test.ranged', int(7)), EIO, 'the check refuses it');
  assert.equal(set('debug.test.ranged', new Uint8Array(3)), EINVAL);
  assert.equal(sysctl_get(ranged), 10, 'a refused value has no effect');
  assert.equal(set('debug.test.ranged', new Uint8Array(6)), 0, 'bytes beyond are not looked at');
  assert.equal(sysctl_get(ranged), 0);
  const big = new Uint8Array(BigUint64Array.of(2n ** 52n + 1n).buffer);
  assert.equal(set('debug.test.wide', big), 0);
  assert.equal(sysctl_get(wide), 2 ** 52 + 1);
  assert.equal(set('debug.test.wide', new Uint8Array(8).fill(0xff)), EINVAL);
  const old = new Uint8Array(4);
  const r = sysctlbyname('debug.test.ranged', old, int(4));
  assert.deepEqual([r.error, r.oldlen, ...old], [0, 4, 0, 0, 0, 0], 'old value out, new one in');
  assert.equal(sysctlbyname('debug.test.ranged', new Uint8Array(2), int(9)).error, ENOMEM);
  assert.equal(sysctl_get(ranged), 4, 'what was not delivered whole is not replaced');
});

test('strings: out with NUL, in without, never too long', () => {
  const bytes = (s: string): Uint8Array => new TextEncoder().encode(s);
  assert.equal(set('kern.hostname', bytes('wintermute')), 0);
  assert.equal(text([1, 10]).text, 'wintermute');
  assert.equal(set('kern.hostname', bytes('x'.repeat(255))), 0);
  assert.equal(text([1, 10]).text.length, 255);
  assert.equal(set('kern.hostname', bytes('x'.repeat(256))), EINVAL);
  assert.equal(set('kern.hostname', new Uint8Array(0)), 0);
  assert.equal(text([1, 10]).text, '');
  assert.equal(set('kern.ostype', bytes('other')), EPERM);
});

test('short buffers: what fits, its length, ENOMEM', () => {
  const mib = mib_of('kern.version');
  const whole = sysctl_read('kern.version') as Uint8Array;
  assert.deepEqual(sysctl(mib, null, null), { error: 0, oldlen: whole.length });
  for (let n = 0; n <= whole.length + 2; n++) {
    const old = new Uint8Array(n + 4).fill(0xee);
    const r = sysctl(mib, old.subarray(0, n), null);
    assert.equal(r.error, n < whole.length ? ENOMEM : 0, `${n}`);
    assert.equal(r.oldlen, Math.min(n, whole.length));
    assert.deepEqual(old.subarray(0, r.oldlen), whole.subarray(0, r.oldlen));
    assert.ok(
      old.subarray(n).every((b) => b === 0xee),
      'nothing beyond is touched',
    );
  }
});

test('wiring fixes how much is touched', () => {
  const old = new Uint8Array(32);
  const r = sysctlbyname('debug.test.wired', old, null);
  assert.deepEqual([r.error, r.oldlen], [ENOMEM, 10]);
  assert.equal(old.filter((b) => b === 9).length, 10);
  const k = kernel_sysctlbyname('debug.test.wired', old, null);
  assert.deepEqual([k.error, k.oldlen], [0, 32], "the kernel's own requests are never wired");
  assert.deepEqual(sysctlbyname('debug.test.wired', null, null), { error: 0, oldlen: 32 });
});

test('EAGAIN starts afresh; a node with a handler gets the rest of the numbers', () => {
  const old = new Uint8Array(16);
  restarts = 0;
  const r = sysctlbyname('debug.test.again', old, null);
  assert.deepEqual([r.error, r.oldlen, restarts], [0, 12, 3], 'only the last try counts');
  const mib = mib_of('debug.test.node');
  assert.deepEqual(sysctl([...mib, 4, 5, 6], old, null), { error: 0, oldlen: 3 });
  assert.deepEqual([...old.subarray(0, 3)], [4, 5, 6]);
});

test('securelevel only rises, and denies guarded writes', () => {
  assert.equal(set('debug.test.secure', int(2)), 0);
  assert.equal(set('kern.securelevel', int(0)), 0);
  assert.equal(set('debug.test.secure', int(3)), 0, 'level 0 is the highest that lets it');
  assert.equal(set('kern.securelevel', int(1)), 0);
  assert.equal(set('debug.test.secure', int(4)), EPERM);
  assert.equal(sysctlbyname('debug.test.secure', new Uint8Array(4), null).error, 0);
  assert.equal(set('kern.securelevel', int(-1)), EPERM);
  sysctl_check();
});
