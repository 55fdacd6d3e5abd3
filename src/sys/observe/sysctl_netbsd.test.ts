/*
 * Shows the NetBSD face of the tree: record layouts byte by byte, query with
 * versions, creating with every refusal in the reference, destroying,
 * describing, permissions, the lengths reported with errors, and the kernel's
 * createv, destroyv and teardown.
 */
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { boot, shutdown } from '../boot/whole.ts';
import { M_WAITOK, M_ZERO } from '../h/malloc_flags.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { M_TEMP } from '../kmem/kern_malloc_type.ts';
import {
  EEXIST,
  EFAULT,
  EINVAL,
  ENAMETOOLONG,
  ENOENT,
  ENOMEM,
  ENOTDIR,
  ENOTEMPTY,
  EOPNOTSUPP,
  EPERM,
  ERANGE,
} from '../machine/errno.ts';
import { mem, memory_state } from '../machine/memory.ts';
import { CTLFLAG_RW, sysctl_int } from '../machine/sysctl_decl.ts';
import { checked_quiet } from '../sync/checked.ts';
import {
  sysctl,
  sysctl_handler,
  sysctlnametomib,
  type SysctlOptions,
  type SysctlResult,
} from './kern_sysctl.ts';
import {
  CTL_CREATE,
  CTL_CREATESYM,
  CTL_DESCRIBE,
  CTL_DESTROY,
  CTL_EOL,
  CTL_MMAP,
  CTL_QUERY,
  NB_ALIAS,
  NB_ANYNUMBER,
  NB_ANYWRITE,
  NB_HIDDEN,
  NB_IMMEDIATE,
  NB_INT,
  NB_MMAP,
  NB_NODE,
  NB_OWNDATA,
  NB_PERMANENT,
  NB_PRIVATE,
  NB_QUAD,
  NB_READONLY1,
  NB_READWRITE,
  NB_RECORD_BYTES,
  NB_STRING,
  NB_STRUCT,
  type nb_node,
  nb_decode,
  nb_encode,
  sysctl_createv,
  sysctl_destroyv,
  sysctl_nb,
  sysctl_teardown,
  type sysctllog,
} from './sysctl_netbsd.ts';
import { oid_mib, str_write, sysctl_check } from './sysctl_tree.ts';

sysctl_int('kern.nbtest', { value: 77, flags: CTLFLAG_RW, help: 'A variable of the tests' });
let word = 0;
let vendor: number[] = [];
before(() => {
  boot({ memory: '8M', cpus: 2, options: { INVARIANTS: true, WITNESS: true } });
  checked_quiet(true); // nobody else is at work: the tests look at nodes without the lock
  word = malloc(256, M_TEMP.t, M_WAITOK | M_ZERO);
  vendor = sysctlnametomib('vendor').mib;
});
afterEach(() => {
  sysctl_check();
  assert.deepEqual(query(vendor), [], 'the tests clean up');
});
after(() => {
  free(word, M_TEMP.t);
  shutdown();
});

function query(mib: readonly number[], options: SysctlOptions = {}): nb_node[] {
  const size = sysctl_nb([...mib, CTL_QUERY], null, null, options);
  assert.equal(size.error, 0);
  const old = new Uint8Array(size.oldlen);
  assert.deepEqual(sysctl_nb([...mib, CTL_QUERY], old, null, options), size);
  return Array.from({ length: old.length / NB_RECORD_BYTES }, (_, i) =>
    nb_decode(old, i * NB_RECORD_BYTES),
  );
}
interface Answer {
  error: number;
  node: nb_node;
}
function create(mib: readonly number[], n: Partial<nb_node>, options: SysctlOptions = {}): Answer {
  const old = new Uint8Array(NB_RECORD_BYTES);
  const r = sysctl_nb([...mib, CTL_CREATE], old, nb_encode(n), options);
  return { error: r.error, node: nb_decode(old) };
}
function destroy(mib: readonly number[], n: Partial<nb_node>, options: SysctlOptions = {}): number {
  return sysctl_nb([...mib, CTL_DESTROY], null, nb_encode(n), options).error;
}
function mib_of(name: string): number[] {
  return sysctlnametomib(name).mib;
}
function int(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}
const LEAF = { flags: NB_INT | NB_READWRITE | NB_IMMEDIATE, value: 5n };

test('a record has its fields where they are published', () => {
  const bytes = nb_encode({
    flags: 0x01800071,
    num: 3,
    name: 'name',
    ver: 9,
    csize: 8,
    clen: 2,
    size: 4,
    func: 7,
    parent: 11,
    desc: 13,
  });
  assert.equal(bytes.length, 96);
  const words = [...new Uint32Array(bytes.buffer)];
  assert.deepEqual(words.slice(0, 2), [0x01800071, 3]);
  assert.equal(Buffer.from(bytes.subarray(8, 13)).toString('latin1'), 'name\0');
  assert.deepEqual(words.slice(10), [9, 0, 8, 2, 0, 0, 4, 0, 7, 0, 11, 0, 13, 0]);
});

test('query lists children in order; versions are checked', () => {
  const top = query([]);
  assert.deepEqual(
    top.map((n) => n.num),
    top.map((n) => n.num).sort((a, b) => a - b),
  );
  const kern = top.find((n) => n.name === 'kern') as nb_node;
  assert.equal(kern.num, 1);
  assert.equal(kern.flags >>> 24, 1, 'structure version');
  assert.equal(kern.flags & 0xf, NB_NODE);
  const children = query([1]);
  assert.equal(kern.clen, children.length);
  assert.ok(kern.csize >= kern.clen && Math.log2(kern.csize) % 1 === 0);
  const ostype = children.find((n) => n.name === 'ostype') as nb_node;
  assert.equal(ostype.flags & (0xf | NB_PERMANENT | NB_READWRITE), NB_STRING | NB_PERMANENT);
  assert.notEqual(ostype.parent, 0);
  assert.equal(query([1], { user: true })[0].parent, 0, 'no addresses for the unprivileged');
  const ask = (ver: number): number =>
    sysctl_nb([1, CTL_QUERY], null, nb_encode({ flags: NB_NODE, ver })).error;
  assert.equal(ask(0), 0);
  assert.equal(ask(kern.ver), 0);
  assert.equal(ask(kern.ver + 1000), EINVAL);
  assert.equal(sysctl_nb([1, 1, CTL_QUERY], null, null).error, ENOTDIR);
  assert.equal(sysctl_nb([1, 9999, CTL_QUERY], null, null).error, ENOENT);
  const old_structure = nb_encode({ flags: NB_NODE });
  old_structure[3] = 0x02;
  assert.equal(sysctl_nb([1, CTL_QUERY], null, old_structure).error, EINVAL);
  const short = new Uint8Array(100);
  const r = sysctl_nb([1, CTL_QUERY], short, null);
  assert.deepEqual(r, { error: ENOMEM, oldlen: children.length * 96 }, 'needed length is told');
  assert.equal(nb_decode(short).name, children[0].name, 'and what fits is delivered');
});

test('create, read, write, destroy; versions go up to the root', () => {
  const before_it = query([]).find((n) => n.name === 'vendor') as nb_node;
  const a = create(vendor, { name: 'group', flags: NB_NODE | NB_READWRITE });
  assert.equal(a.error, 0);
  assert.equal(a.node.num, 1025, 'the first dynamic number');
  const mib = [...vendor, a.node.num];
  const leaf = create(mib, { ...LEAF, name: 'leaf', num: 7 });
  assert.deepEqual([leaf.error, leaf.node.num, leaf.node.value, leaf.node.size], [0, 7, 5n, 4]);
  const after_it = query([]).find((n) => n.name === 'vendor') as nb_node;
  assert.equal(after_it.ver, before_it.ver + 2);
  assert.equal(leaf.node.ver, after_it.ver, 'node and ancestors carry one version');
  const old = new Uint8Array(4);
  assert.deepEqual(sysctl_nb([...mib, 7], old, int(6)), { error: 0, oldlen: 4 });
  assert.deepEqual([...old], [5, 0, 0, 0]);
  assert.equal(sysctl([...mib, 7], old, null).error, 0, 'the other face sees it');
  assert.deepEqual([...old], [6, 0, 0, 0]);
  assert.deepEqual(sysctlnametomib('vendor.group.leaf').mib, [...mib, 7]);
  const same_name = create(mib, { ...LEAF, name: 'leaf' });
  assert.deepEqual([same_name.error, same_name.node.num], [EEXIST, 7], 'the one there is shown');
  const same_number = create(mib, { ...LEAF, name: 'other', num: 7 });
  assert.deepEqual([same_number.error, same_number.node.name], [EEXIST, 'leaf']);
  assert.equal(destroy(vendor, { num: a.node.num }), ENOTEMPTY);
  assert.equal(destroy(mib, { num: 8 }), ENOENT);
  assert.equal(destroy(mib, { num: 7, name: 'wrong' }), ENOENT);
  assert.equal(destroy(mib, { num: 7, ver: 1 }), ENOENT);
  assert.equal(destroy(mib, { num: 7 }, { user: true }), EPERM);
  const dead = new Uint8Array(96);
  const gone = sysctl_nb([...mib, CTL_DESTROY], dead, nb_encode({ num: 7, name: 'leaf' }));
  assert.deepEqual([gone.error, nb_decode(dead).name], [0, 'leaf'], 'the dead node is returned');
  assert.equal(destroy(vendor, { num: a.node.num }), 0);
  const b = create(vendor, { name: 'group', flags: NB_NODE });
  assert.equal(b.node.num, 1026, 'numbers are not used again');
  assert.equal(destroy(vendor, { num: 1026 }), 0);
});

test('an error before there is an old value leaves the length as it was given', () => {
  const old = new Uint8Array(77);
  const user = { user: true };
  const calls: [number, SysctlResult][] = [
    [EINVAL, sysctl_nb([], old, null)],
    [EINVAL, sysctl_nb(new Array(13).fill(1), old, null)],
    [EFAULT, sysctl_nb([1, 0.5], old, null)],
    [ENOENT, sysctl_nb([1, 9999], old, null)],
    [ENOTDIR, sysctl_nb([1, 1, 1], old, null)],
    [EINVAL, sysctl_nb([1], old, null)],
    [EPERM, sysctl_nb(mib_of('kern.nbtest'), old, int(1), user)],
    [ENOENT, sysctl_nb([1, 9999, CTL_QUERY], old, null)],
    [EINVAL, sysctl_nb([1, CTL_MMAP], old, null)],
    [EPERM, sysctl_nb([1, CTL_CREATE], old, nb_encode({ ...LEAF, name: 'x' }), user)],
  ];
  for (const [i, [error, r]] of calls.entries()) {
    assert.deepEqual(r, { error, oldlen: 77 }, `call ${i}`);
  }
  const late = sysctl_nb(mib_of('kern.nbtest'), old, new Uint8Array(3));
  assert.deepEqual(late, { error: EINVAL, oldlen: 4 }, 'the old value came before the error');
});

test('what create refuses', () => {
  const cases: [number, Partial<nb_node>, SysctlOptions?, (readonly number[])?][] = [
    [EPERM, { ...LEAF, name: 'x' }, { user: true }],
    [EPERM, { ...LEAF, name: 'x' }, {}, [1]],
    [ENOTDIR, { ...LEAF, name: 'x' }, {}, [1, 1]],
    [EINVAL, { ...LEAF, name: 'x', parent: 4 }],
    [EINVAL, { ...LEAF, name: 'x', num: CTL_DESTROY }],
    [EINVAL, { ...LEAF, name: '' }],
    [EINVAL, { ...LEAF, name: '1abc' }],
    [EINVAL, { ...LEAF, name: 'a.b' }],
    [EINVAL, { ...LEAF, name: 'a b' }],
    [EINVAL, { ...LEAF, name: 'x'.repeat(32) }],
    [EINVAL, { ...LEAF, name: 'x', ver: 12345678 }],
    [EPERM, { ...LEAF, name: 'x', func: 5 }],
    [EPERM, { ...LEAF, name: 'x', flags: LEAF.flags | NB_PERMANENT }],
    [EPERM, { ...LEAF, name: 'x', flags: LEAF.flags | NB_ALIAS }],
    [EPERM, { ...LEAF, name: 'x', flags: LEAF.flags | NB_MMAP }],
    [EINVAL, { ...LEAF, name: 'x', flags: LEAF.flags | NB_OWNDATA }],
    [EINVAL, { name: 'x', flags: NB_STRING | NB_IMMEDIATE }],
    [EINVAL, { name: 'x', flags: 0 }],
    [EINVAL, { name: 'x', flags: 9 | NB_OWNDATA }],
    [EINVAL, { ...LEAF, name: 'x', size: 8 }],
    [EINVAL, { name: 'x', flags: NB_INT, value: 0n }],
    [EINVAL, { name: 'x', flags: NB_NODE, size: 4 }],
    [EINVAL, { name: 'x', flags: NB_NODE | NB_OWNDATA }],
    [EINVAL, { name: 'x', flags: NB_STRUCT | NB_OWNDATA, size: 0 }],
    [EINVAL, { name: 'x', flags: NB_STRING | NB_OWNDATA, size: 0 }],
    [ERANGE, { name: 'x', flags: NB_STRING | NB_OWNDATA, size: 33 * 4096 }],
    [EFAULT, { name: 'x', flags: NB_STRUCT | NB_OWNDATA, size: 8, value: 2n ** 60n }],
    [EFAULT, { name: 'x', flags: NB_STRUCT, size: 8, value: BigInt(memory_state.size - 4) }],
    [EINVAL, { name: 'x', flags: NB_STRUCT, size: 8, value: BigInt(word * 4 + 1) }],
  ];
  for (const [i, [error, n, options, mib]] of cases.entries()) {
    assert.equal(create(mib ?? vendor, n, options).error, error, `case ${i}`);
  }
  const sym = sysctl_nb([...vendor, CTL_CREATESYM], null, nb_encode({ ...LEAF, name: 'x' }));
  assert.equal(sym.error, EOPNOTSUPP);
  assert.match(sym.reason ?? '', /symbols/);
  for (const meta of [-8, CTL_EOL]) {
    assert.equal(sysctl_nb([...vendor, meta], null, null).error, EOPNOTSUPP);
  }
  const map = (n: Partial<nb_node> | null): number =>
    sysctl_nb([1, CTL_MMAP], null, n && nb_encode({ flags: NB_INT, ...n })).error;
  assert.equal(map(null), EINVAL, 'nothing says which child to map');
  assert.equal(map({ num: 9999 }), ENOENT);
  assert.equal(map({ num: 1 }), EINVAL, 'no node can be mapped');
  for (const meta of [CTL_CREATE, CTL_DESTROY]) {
    assert.equal(sysctl_nb([...vendor, meta], null, null).error, EINVAL, 'without a record');
    assert.equal(sysctl_nb([...vendor, meta], null, new Uint8Array(95)).error, EINVAL);
  }
  assert.equal(destroy([1], { num: 1 }), EPERM, 'kernel nodes are permanent');
});

test('data: owned copies, the memory of the program, strings', () => {
  str_write(word, 'hello');
  const own = create(vendor, {
    name: 'own',
    flags: NB_STRING | NB_READWRITE | NB_OWNDATA,
    value: BigInt(word * 4),
  });
  assert.deepEqual([own.error, own.node.size], [0, 6], 'measured, with its NUL');
  const theirs = create(vendor, {
    name: 'theirs',
    flags: NB_STRUCT | NB_READWRITE,
    size: 8,
    value: BigInt(word * 4),
  });
  assert.equal(theirs.error, 0);
  const zero = create(vendor, { name: 'zero', flags: NB_QUAD | NB_READWRITE | NB_OWNDATA });
  const old = new Uint8Array(16);
  const at = (n: Answer): number[] => [...vendor, n.node.num];
  assert.deepEqual(sysctl_nb(at(zero), old, null), { error: 0, oldlen: 8 });
  assert.ok(old.every((b) => b === 0));
  const huge = new Uint8Array(BigUint64Array.of(2n ** 63n + 1n).buffer);
  assert.equal(sysctl_nb(at(zero), null, huge).error, 0);
  sysctl_nb(at(zero), old, null);
  assert.deepEqual(old.subarray(0, 8), huge, 'all 64 bits are kept');
  mem.U8.fill(0x41, word * 4, word * 4 + 5);
  assert.deepEqual(sysctl_nb(at(own), old, null), { error: 0, oldlen: 6 });
  assert.equal(Buffer.from(old.subarray(0, 6)).toString(), 'hello\0', 'a copy');
  sysctl_nb(at(theirs), old, null);
  assert.equal(old[0], 0x41, "the program's own memory");
  assert.equal(sysctl_nb(at(theirs), null, new Uint8Array(7)).error, EINVAL);
  assert.equal(sysctl_nb(at(theirs), null, new Uint8Array(8).fill(2)).error, 0);
  assert.equal(mem.U8[word * 4 + 7], 2);
  const bytes = (s: string): Uint8Array => new TextEncoder().encode(s);
  assert.equal(sysctl_nb(at(own), null, bytes('toolong')).error, EINVAL);
  assert.equal(sysctl_nb(at(own), null, bytes('12345')).error, 0, 'NUL needs no sending');
  assert.equal(sysctl_nb(at(own), null, bytes('ab\0')).error, 0);
  assert.deepEqual(sysctl_nb(at(own), old, null), { error: 0, oldlen: 3 });
  for (const n of [own, theirs, zero]) assert.equal(destroy(vendor, { num: n.node.num }), 0);
});

test('reading and writing: lengths are told with the old value, permissions come first', () => {
  const { mib } = sysctlnametomib('kern.nbtest');
  for (let n = 0; n < 8; n++) {
    const r = sysctl_nb(mib, new Uint8Array(n), null);
    assert.deepEqual(r, { error: n < 4 ? ENOMEM : 0, oldlen: 4 });
  }
  assert.equal(sysctl_nb(mib, new Uint8Array(0), int(9)).error, ENOMEM);
  const old = new Uint8Array(4);
  sysctl_nb(mib, old, null);
  assert.equal(old[0], 9, 'written although the old value did not fit');
  assert.deepEqual(sysctl_nb(mib, old, new Uint8Array(5)), { error: EINVAL, oldlen: 4 });
  assert.equal(sysctl_nb(mib, old, new Uint8Array(0)).error, 0, 'no bytes: a plain read');
  old.fill(0xee);
  assert.deepEqual(sysctl_nb(mib, old, int(1), { user: true }), { error: EPERM, oldlen: 4 });
  assert.deepEqual([...old], [0xee, 0xee, 0xee, 0xee], 'nothing is copied out before');
  assert.equal(sysctl_nb([1], old, null).error, EINVAL, 'a node has no value');
  assert.equal(sysctl_nb([...mib, 0], old, null).error, ENOTDIR);
  assert.equal(sysctl_nb([], old, null).error, EINVAL);
  assert.equal(sysctl_nb(new Array(13).fill(1), old, null).error, EINVAL);
  const nodes = [
    create(vendor, { ...LEAF, name: 'secret', flags: LEAF.flags | NB_PRIVATE }),
    create(vendor, { ...LEAF, name: 'anybody', flags: LEAF.flags | NB_ANYWRITE }),
    create(vendor, { ...LEAF, name: 'hidden', flags: LEAF.flags | NB_HIDDEN }),
    create(vendor, { name: 'low', flags: NB_INT | NB_IMMEDIATE | NB_READONLY1, value: 1n }),
    create(vendor, { name: 'ro', flags: NB_INT | NB_IMMEDIATE, value: 1n }),
  ];
  const [secret, anybody, hidden, low, ro] = nodes.map((n) => [...vendor, n.node.num]);
  const user = { user: true };
  assert.equal(sysctl_nb(secret, old, null, user).error, EPERM);
  assert.equal(sysctl(secret, old, null, user).error, EPERM);
  assert.equal(sysctl_nb(secret, old, null).error, 0);
  assert.equal(sysctl_nb(anybody, null, int(3), user).error, 0);
  assert.equal(sysctl_nb(low, null, int(3)).error, 0, 'until the securelevel rises');
  assert.equal(sysctl_nb(ro, null, int(3)).error, EPERM);
  const next = new Uint8Array(96);
  const r = sysctl([0, 2, ...anybody], next, null);
  assert.notDeepEqual([...new Int32Array(next.buffer, 0, r.oldlen / 4)], hidden);
  for (const n of nodes) assert.equal(destroy(vendor, { num: n.node.num }), 0);
});

test('describe: a level, one node, once', () => {
  const { error, node } = create(vendor, { ...LEAF, name: 'leaf' });
  assert.equal(error, 0);
  const describe = (n: Partial<nb_node>, options?: SysctlOptions) => {
    const old = new Uint8Array(1024);
    const r = sysctl_nb([...vendor, CTL_DESCRIBE], old, nb_encode(n), options);
    const v = new DataView(old.buffer);
    const text = Buffer.from(old.subarray(12, 12 + v.getUint32(8, true))).toString();
    return { error: r.error, num: v.getInt32(0, true), text, oldlen: r.oldlen };
  };
  assert.deepEqual(describe({ num: node.num }), {
    error: 0,
    num: node.num,
    text: '\0',
    oldlen: 16,
  });
  str_write(word, 'what it is');
  const desc = word * 4;
  assert.equal(describe({ num: node.num, desc }, { user: true }).error, EPERM);
  assert.equal(describe({ num: node.num, desc, ver: 1 }).error, EINVAL);
  const set = describe({ num: node.num, desc });
  assert.deepEqual([set.error, set.text, set.oldlen], [0, 'what it is\0', 24]);
  assert.equal(describe({ num: node.num, desc }).error, EPERM, 'a text is given once');
  assert.equal(describe({ num: 1 }).error, ENOENT);
  const kern = sysctl_nb([1, CTL_DESCRIBE], null, nb_encode({ num: 1, desc }));
  assert.equal(kern.error, EPERM);
  const all = new Uint8Array(65536);
  const r = sysctl_nb([1, CTL_DESCRIBE], all, null);
  let n = 0;
  const v = new DataView(all.buffer);
  for (let at = 0; at < r.oldlen; at += 12 + ((v.getUint32(at + 8, true) + 3) & ~3)) n++;
  assert.equal(n, query([1]).length);
  assert.equal(destroy(vendor, { num: node.num }), 0);
});

test('the kernel: createv is idempotent, teardown takes back, aliases, any number', () => {
  const log: sysctllog = { entries: [] };
  const make = (name: string, num: number, more: object = {}) =>
    sysctl_createv(
      {
        log,
        flags: NB_READWRITE | NB_IMMEDIATE | NB_PERMANENT,
        type: NB_INT,
        name,
        qv: 3n,
        ...more,
      },
      ...vendor,
      num,
      CTL_EOL,
    );
  const a = make('one', 50);
  assert.equal(a.error, 0);
  assert.deepEqual(make('one', 50), a, 'the same again is success');
  assert.deepEqual(make('one', CTL_CREATE), a);
  assert.equal(make('two', 50).error, EEXIST);
  assert.equal(make('one', 51).error, EEXIST);
  assert.equal(make('x'.repeat(32), 52).error, ENAMETOOLONG);
  assert.equal(make('sym', CTL_CREATESYM).error, EINVAL);
  assert.equal(make('three', 53, { flags: NB_ALIAS, type: NB_NODE, qv: 50n }).error, 0);
  const old = new Uint8Array(4);
  assert.equal(sysctl_nb([...vendor, 53], old, null).error, 0, 'through the alias');
  assert.deepEqual([...old], [3, 0, 0, 0]);
  make('loop', 54, { flags: NB_ALIAS, type: NB_NODE, qv: 54n });
  assert.equal(sysctl_nb([...vendor, 54], old, null).error, EINVAL, 'four hops at most');
  const handler = sysctl_handler('test.any', (req) => req.out(int(req.rest[0] * 2)));
  const dir = sysctl_createv({ log, flags: 0, type: NB_NODE, name: 'dir' }, ...vendor, 60, CTL_EOL);
  const any = { log, flags: NB_ANYNUMBER, type: NB_INT, name: 'any', handler };
  assert.equal(sysctl_createv(any, ...vendor, 60, CTL_CREATE, CTL_EOL).error, 0);
  const second = { ...any, name: 'second' };
  assert.equal(sysctl_createv(second, ...vendor, 60, CTL_CREATE, CTL_EOL).error, EINVAL);
  assert.equal(sysctl_nb([...vendor, 60, 21], old, null).error, 0);
  assert.deepEqual([...old], [42, 0, 0, 0]);
  assert.deepEqual(oid_mib(dir.node), [...vendor, 60]);
  assert.equal(sysctl_destroyv(null, ...vendor, 60, CTL_EOL), 0, 'not empty: success, it stays');
  assert.equal(query([...vendor, 60]).length, 1);
  assert.equal(sysctl_destroyv(null, ...vendor, 99, CTL_EOL), 0, 'absent: success');
  assert.equal(sysctl_destroyv(null, 1, 1, CTL_EOL), EPERM);
  sysctl_teardown(log);
  assert.deepEqual(query(vendor), []);
});
