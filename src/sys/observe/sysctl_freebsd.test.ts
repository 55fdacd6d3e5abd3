/*
 * Shows the dynamic nodes of the FreeBSD face: sharing and counting, contexts
 * that go whole or not at all, removal, renaming, moving, the standard
 * handlers on shared memory; a random sequence of calls against a naive model
 * of the tree (fast-check prints the seed); and no memory left at the end.
 */
import { kconsole } from '../machine/kconsole.ts';
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import fc from 'fast-check';
import { boot, shutdown } from '../boot/whole.ts';
import {
  EBUSY,
  EEXIST,
  EINVAL,
  ENOENT,
  ENOTDIR,
  ENOTEMPTY,
  EOPNOTSUPP,
  EPERM,
} from '../machine/errno.ts';
import { free, malloc } from '../kmem/kern_malloc.ts';
import { M_TEMP } from '../kmem/kern_malloc_type.ts';
import { M_WAITOK, M_ZERO } from '../h/malloc_flags.ts';
import { mem } from '../machine/memory.ts';
import { SEED } from '../machine/seed.test.lib.ts';
import { NULL } from '../machine/struct.ts';
import { CTLFLAG_RW } from '../machine/sysctl_decl.ts';
import { checked_quiet } from '../sync/checked.ts';
import { sysctl, sysctl_read, sysctlbyname, sysctlnametomib } from './kern_sysctl.ts';
import { ALLOCATOR_MALLOC, memstat_mtl_alloc, memstat_mtl_find } from './memstat.ts';
import { memstat_parse_malloc } from './memstat_malloc.ts';
import {
  sysctl_add_int,
  sysctl_add_node,
  sysctl_add_oid,
  sysctl_add_opaque,
  sysctl_add_proc,
  sysctl_add_string,
  sysctl_add_wide,
  sysctl_ctx_entry_del,
  sysctl_ctx_entry_find,
  sysctl_ctx_free,
  sysctl_ctx_init,
  sysctl_move_oid,
  sysctl_remove_name,
  sysctl_remove_oid,
  sysctl_rename_oid,
} from './sysctl_freebsd.ts';
import {
  CTLTYPE_INT,
  CTLTYPE_NODE,
  oid_child,
  oid_mib,
  oid_named,
  oid_path,
  oid_root,
  oid_walk,
  OID_AUTO,
  type oid_t,
  str_write,
  sysctl_check,
  sysctl_oid,
  sysctl_root,
  tree,
  tree_wlock,
  tree_wunlock,
} from './sysctl_tree.ts';

const printed: string[] = [];
let word = 0;
let vendor = NULL as oid_t;
const print = kconsole.print;

before(() => {
  boot({ memory: '8M', cpus: 2, options: { INVARIANTS: true, WITNESS: true } });
  checked_quiet(true); // nobody else is at work: the tests look at nodes without the lock
  kconsole.print = (line) => printed.push(line);
  word = malloc(256, M_TEMP.t, M_WAITOK | M_ZERO);
  vendor = oid_named(oid_root(), 'vendor');
});
afterEach(() => {
  sysctl_check();
  printed.length = 0;
  assert.equal(blocks(), 0, 'no memory of dynamic nodes is left');
});
after(() => {
  kconsole.print = print;
  free(word, M_TEMP.t);
  shutdown();
});

/** Blocks of type sysctloid in use, by the kernel's own statistics. */
function blocks(): number {
  const list = memstat_mtl_alloc();
  memstat_parse_malloc(list, sysctl_read('kern.malloc_stats') as Uint8Array);
  return memstat_mtl_find(list, ALLOCATOR_MALLOC, 'sysctloid')?.count ?? -1;
}
function int(value: number): Uint8Array {
  return new Uint8Array(Int32Array.of(value).buffer);
}
const RW = CTLFLAG_RW;

test('nodes are shared and counted, leaves are not', () => {
  const ctx = sysctl_ctx_init();
  const a = sysctl_add_node(ctx, vendor, OID_AUTO, 'a', RW, 'a group');
  const leaf = sysctl_add_int(ctx, a, 5, 'leaf', RW, word, 0, 'a leaf');
  assert.deepEqual(oid_mib(leaf).at(-1), 5);
  assert.equal(sysctl_add_node(ctx, vendor, OID_AUTO, 'a', RW, 'another'), a);
  assert.equal(sysctl_oid.refcnt[a], 2);
  assert.equal(sysctl_add_int(ctx, a, OID_AUTO, 'leaf', RW, word, 0, 'again'), NULL);
  assert.deepEqual(printed, ["can't re-use a leaf (leaf)!"]);
  assert.equal(sysctl_add_int(ctx, NULL as oid_t, OID_AUTO, 'x', RW, word, 0, ''), NULL);
  assert.equal(sysctl_add_int(ctx, leaf, OID_AUTO, 'x', RW, word, 0, ''), NULL, 'below a leaf');
  for (const bad of ['', 'a.b', 'x'.repeat(1024)]) {
    assert.equal(sysctl_add_int(ctx, a, OID_AUTO, bad, RW, word, 0, ''), NULL);
  }
  const moved = sysctl_add_int(ctx, a, 5, 'taken', RW, word, 0, 'its number is taken');
  assert.ok((oid_mib(moved).at(-1) ?? 0) >= 0x100);
  assert.equal(ctx.entries.length, 4);
  assert.equal(sysctl_ctx_free(ctx), 0);
  assert.equal(sysctlnametomib('vendor.a').error, ENOENT);
});

test('a context goes whole or not at all', () => {
  const [ours, theirs] = [sysctl_ctx_init(), sysctl_ctx_init()];
  const a = sysctl_add_node(ours, vendor, OID_AUTO, 'a', RW, 'ours');
  const b = sysctl_add_node(ours, a, OID_AUTO, 'b', RW, 'ours too');
  sysctl_add_int(ours, b, OID_AUTO, 'mine', RW, word, 0, 'ours');
  const other = sysctl_add_int(theirs, b, OID_AUTO, 'other', RW, word, 0, 'theirs');
  assert.equal(sysctl_ctx_free(ours), EBUSY);
  assert.equal(sysctlnametomib('vendor.a.b.mine').error, 0, 'nothing is lost');
  assert.equal(ours.entries.length, 3);
  assert.equal(sysctl_ctx_entry_find(ours, other), NULL);
  assert.equal(sysctl_ctx_entry_del(ours, other), ENOENT);
  assert.equal(sysctl_ctx_entry_del(null, other), EINVAL);
  assert.equal(sysctl_ctx_entry_del(theirs, other), 0);
  assert.equal(sysctl_ctx_free(theirs), 0, 'it remembers nothing any more');
  assert.equal(sysctlnametomib('vendor.a.b.other').error, 0, 'the node itself stays');
  assert.equal(sysctl_remove_oid(other, true, false), 0);
  assert.equal(sysctl_ctx_free(ours), 0);
  const declared = sysctl_ctx_init();
  sysctl_add_node(declared, oid_root(), OID_AUTO, 'kern', RW, 'the declared one, shared');
  assert.equal(sysctl_ctx_free(declared), EBUSY, 'declared nodes cannot be removed');
  tree_wlock();
  sysctl_oid.refcnt[oid_named(oid_root(), 'kern')]--;
  tree_wunlock();
});

test('removing: dynamic only, empty or recursive, by name', () => {
  const kern = oid_named(oid_root(), 'kern');
  assert.equal(sysctl_remove_oid(kern, true, true), EINVAL);
  assert.match(printed[0], /non-dynamic/);
  const a = sysctl_add_node(null, vendor, OID_AUTO, 'a', RW, '');
  const b = sysctl_add_node(null, a, OID_AUTO, 'b', RW, '');
  sysctl_add_int(null, b, OID_AUTO, 'c', RW, word, 0, '');
  assert.equal(sysctl_remove_oid(a, true, false), ENOTEMPTY);
  assert.equal(sysctl_add_node(null, vendor, OID_AUTO, 'a', RW, ''), a);
  assert.equal(sysctl_remove_oid(a, true, true), 0, 'only the count goes down');
  assert.equal(sysctlnametomib('vendor.a.b.c').error, 0);
  assert.equal(sysctl_remove_name(vendor, 'nobody', true, true), ENOENT);
  assert.equal(sysctl_remove_name(vendor, 'a', true, true), 0);
  assert.equal(sysctlnametomib('vendor.a').error, ENOENT);
  assert.equal(sysctl_remove_oid(0 as oid_t, true, true), EINVAL);
});

test('renaming and moving', () => {
  const ctx = sysctl_ctx_init();
  const a = sysctl_add_node(ctx, vendor, OID_AUTO, 'a', RW, '');
  const b = sysctl_add_node(ctx, vendor, OID_AUTO, 'b', RW, '');
  const x = sysctl_add_int(ctx, a, 7, 'x', RW, word, 0, 'x');
  const y = sysctl_add_int(ctx, a, OID_AUTO, 'y', RW, word, 0, 'y');
  assert.equal(sysctl_rename_oid(x, 'y'), EEXIST);
  assert.equal(sysctl_rename_oid(x, 'x.y'), EINVAL);
  assert.equal(sysctl_rename_oid(x, 'z'), 0);
  assert.deepEqual(sysctlnametomib('vendor.a.z').mib, oid_mib(x), 'the number is kept');
  assert.equal(sysctlnametomib('vendor.a.x').error, ENOENT);
  assert.equal(sysctl_move_oid(x, a), 0, 'it is there already');
  assert.equal(oid_mib(x).at(-1), 7);
  assert.equal(sysctl_move_oid(x, b), 0);
  assert.ok((oid_mib(x).at(-1) ?? 0) >= 0x100, 'a fresh number');
  assert.equal(oid_path(x), 'vendor.b.z');
  assert.equal(sysctl_rename_oid(y, 'z'), 0);
  assert.equal(sysctl_move_oid(y, b), EEXIST);
  assert.equal(sysctl_move_oid(a, a), EINVAL);
  assert.equal(sysctl_move_oid(b, x), EINVAL, 'below a leaf');
  assert.equal(sysctl_move_oid(b, a), 0);
  assert.equal(sysctl_move_oid(a, b), EINVAL, 'below itself');
  assert.equal(sysctl_move_oid(b, vendor), 0);
  assert.equal(sysctl_move_oid(x, a), EEXIST);
  assert.equal(sysctl_ctx_free(ctx), 0);
});

test('the standard handlers', () => {
  const ctx = sysctl_ctx_init();
  const top = sysctl_add_node(ctx, vendor, OID_AUTO, 'h', RW, 'handlers');
  mem.I32[word] = -5;
  sysctl_add_int(ctx, top, OID_AUTO, 'i', RW, word, 0, 'an int');
  sysctl_add_int(ctx, top, OID_AUTO, 'k', RW, 0, 42, 'a constant');
  mem.F64[(word + 2) >> 1] = 2 ** 50;
  sysctl_add_wide(ctx, top, OID_AUTO, 'q', 'quad', RW, word + 2, 'a quad');
  str_write(word + 8, 'text');
  sysctl_add_string(ctx, top, OID_AUTO, 's', RW, word + 8, 16, 'a string');
  sysctl_add_string(ctx, top, OID_AUTO, 'c', RW, word + 8, 0, 'a constant string');
  sysctl_add_opaque(ctx, top, OID_AUTO, 'o', RW, word + 16, 12, 'S,x', 'bytes');
  const own = {
    name: 'test.own',
    run: (r: { out(b: Uint8Array): number }, a: number, b: number) => r.out(int(a * b)),
  };
  sysctl_add_proc(ctx, top, OID_AUTO, 'p', CTLTYPE_INT | RW, 6, 7, own, 'I', 'a function');
  sysctl_add_oid(ctx, top, OID_AUTO, 'none', CTLTYPE_INT | RW, 0, 0, 0, 'I', 'no handler');
  sysctl_add_oid(ctx, top, OID_AUTO, 'far', CTLTYPE_INT | RW, 0, 0, 12345, 'I', 'unknown here');
  const call = (name: string, old: Uint8Array | null, val: Uint8Array | null): number =>
    sysctlbyname(`vendor.h.${name}`, old, val).error;
  const four = new Uint8Array(4);
  assert.equal(call('i', four, int(9)), 0);
  assert.deepEqual([...new Int32Array(four.buffer)], [-5]);
  assert.equal(mem.I32[word], 9);
  assert.equal(call('i', null, new Uint8Array(3)), EINVAL);
  assert.equal(call('k', four, null), 0);
  assert.deepEqual([...four], [42, 0, 0, 0]);
  assert.equal(call('k', null, int(1)), EPERM);
  const eight = new Uint8Array(8);
  assert.equal(call('q', eight, new Uint8Array(BigInt64Array.of(-3n).buffer)), 0);
  assert.equal(new DataView(eight.buffer).getBigInt64(0, true), 2n ** 50n);
  assert.equal(mem.F64[(word + 2) >> 1], -3);
  assert.equal(call('q', null, int(1)), EINVAL);
  const bytes = (s: string): Uint8Array => new TextEncoder().encode(s);
  assert.equal(call('s', null, bytes('x'.repeat(16))), EINVAL);
  assert.equal(call('s', null, bytes('x'.repeat(15))), 0);
  assert.deepEqual(sysctl_read('vendor.h.s'), bytes(`${'x'.repeat(15)}\0`));
  assert.equal(call('c', null, bytes('y')), EPERM);
  assert.equal(call('o', null, new Uint8Array(11)), EINVAL);
  assert.equal(call('o', null, new Uint8Array(12).fill(3)), 0);
  assert.deepEqual(sysctl_read('vendor.h.o'), new Uint8Array(12).fill(3));
  assert.deepEqual(sysctl_read('vendor.h.p'), int(42));
  assert.equal(call('none', four, null), EINVAL);
  assert.equal(call('far', four, null), EOPNOTSUPP, 'its handler is not known in this thread');
  assert.equal(sysctl([...oid_mib(oid_named(top, 'i')), 1], four, null).error, ENOTDIR);
  assert.equal(sysctl_ctx_free(ctx), 0);
});

// --- against a model ---------------------------------------------------------------

interface Naive {
  o: oid_t;
  name: string;
  number: number;
  leaf: boolean;
  refs: number;
  up: Naive | null;
  down: Naive[];
}
function naive_all(n: Naive): Naive[] {
  return n.down.flatMap((c) => [c, ...naive_all(c)]);
}
function naive_dump(n: Naive, path = ''): string[] {
  return [...n.down]
    .sort((a, b) => a.number - b.number)
    .flatMap((c) => {
      const here = `${path}.${c.name}`;
      return [`${here}=${c.number}${c.leaf ? '' : '/'}x${c.refs}`, ...naive_dump(c, here)];
    });
}
function real_dump(top: oid_t): string[] {
  const lines: string[] = [];
  const skip = oid_path(top).length;
  oid_walk(top, (o) => {
    const kind = (sysctl_oid.kind[o] & 0xf) === CTLTYPE_NODE ? '/' : '';
    lines.push(`${oid_path(o).slice(skip)}=${sysctl_oid.number[o]}${kind}x${sysctl_oid.refcnt[o]}`);
  });
  return lines;
}
function naive_unlink(n: Naive): void {
  const up = n.up as Naive;
  up.down.splice(up.down.indexOf(n), 1);
}
const NAMES = ['a', 'b', 'c', 'd'];
const op = fc.record({
  what: fc.constantFrom('node', 'node', 'leaf', 'leaf', 'remove', 'recurse', 'rename', 'move'),
  at: fc.nat(1000),
  to: fc.nat(1000),
  name: fc.constantFrom(...NAMES),
  number: fc.constantFrom(-1, -1, 1, 2, 3, 0x100, 0x1000),
});
type Op = typeof op extends fc.Arbitrary<infer T> ? T : never;

function apply(top: Naive, step: Op): void {
  const all = [top, ...naive_all(top)];
  const n = all[step.at % all.length];
  const to = all[step.to % all.length];
  const auto = sysctl_root.auto[tree()];
  if (step.what === 'node' || step.what === 'leaf') return apply_add(n, step, auto);
  if (n === top) return;
  const up = n.up as Naive;
  if (step.what === 'rename') {
    const taken = up.down.some((c) => c !== n && c.name === step.name);
    assert.equal(sysctl_rename_oid(n.o, step.name), taken ? EEXIST : 0);
    if (!taken) n.name = step.name;
  } else if (step.what === 'move') apply_move(n, to, auto);
  else apply_remove(n, step.what === 'recurse');
}
function apply_add(n: Naive, step: Op, auto: number): void {
  const leaf = step.what === 'leaf';
  const o = leaf
    ? sysctl_add_int(null, n.o, step.number, step.name, RW, word, 0, step.name)
    : sysctl_add_node(null, n.o, step.number, step.name, RW, step.name);
  const old = n.down.find((c) => c.name === step.name);
  if (n.leaf || old?.leaf) return assert.equal(o, NULL);
  if (old) {
    old.refs++;
    return assert.equal(o, old.o);
  }
  assert.notEqual(o, NULL);
  const free_number =
    step.number > 0 && step.number < 0x100 && !n.down.some((c) => c.number === step.number);
  const number = free_number ? step.number : auto;
  n.down.push({ o, name: step.name, number, leaf, refs: 1, up: n, down: [] });
}
function apply_move(n: Naive, to: Naive, auto: number): void {
  const error = sysctl_move_oid(n.o, to.o);
  if (to === n.up) return assert.equal(error, 0);
  if (to.leaf || to === n || naive_all(n).includes(to)) return assert.equal(error, EINVAL);
  if (to.down.some((c) => c.name === n.name)) return assert.equal(error, EEXIST);
  assert.equal(error, 0);
  naive_unlink(n);
  n.number = auto;
  n.up = to;
  to.down.push(n);
}
function apply_remove(n: Naive, recurse: boolean): void {
  const error = sysctl_remove_oid(n.o, true, recurse);
  assert.equal(error, naive_remove(n, recurse));
}
function naive_remove(n: Naive, recurse: boolean): number {
  if (n.refs > 1) {
    n.refs--;
    return 0;
  }
  if (n.down.length > 0) {
    if (!recurse) return ENOTEMPTY;
    for (const c of [...n.down].sort((a, b) => a.number - b.number)) {
      const error = naive_remove(c, true);
      if (error !== 0) return error;
    }
    if (n.down.length > 0) return ENOTEMPTY;
  }
  naive_unlink(n);
  return 0;
}

test('random calls against a naive tree', () => {
  fc.assert(
    fc.property(fc.array(op, { maxLength: 60 }), (steps) => {
      const o = sysctl_add_node(null, vendor, OID_AUTO, 'm', RW, 'the model');
      const top: Naive = { o, name: 'm', number: 0, leaf: false, refs: 1, up: null, down: [] };
      try {
        for (const step of steps) {
          apply(top, step);
          assert.deepEqual(real_dump(o), naive_dump(top));
        }
        sysctl_check();
        for (const n of naive_all(top)) {
          const path = oid_path(n.o);
          assert.deepEqual(sysctlnametomib(path).mib, oid_mib(n.o), path);
        }
      } finally {
        while (oid_child(vendor, sysctl_oid.number[o]) === o) sysctl_remove_oid(o, true, true);
      }
    }),
    { numRuns: 150, seed: SEED },
  );
});
