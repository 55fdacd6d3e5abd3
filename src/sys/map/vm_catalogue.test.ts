/*
 * Shows: what the virtual memory tests of FreeBSD, of its stress2 and of the Linux Test Project
 * assert, as far as it is about memory alone; cases of single calls stand in vm_mmap.test.ts and
 * vm_syscalls.test.ts.  Each test has the name that the case has there.
 * By what means: the calls that programs make, on spaces of the table; models where a case is
 * random; the walkers afterwards.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { EFAULT, EIO, ENOMEM } from '../machine/errno.ts';
import { mem, page_word } from '../machine/memory.ts';
import { dice, SEED } from '../machine/seed.test.lib.ts';
import { Crew, until, within } from '../machine/workers.test.lib.ts';
import { NULL } from '../machine/struct.ts';
import { MAP_ANON, MAP_FIXED, MAP_GUARD, MAP_PRIVATE, MAP_SHARED, MAP_STACK } from '../h/mman.ts';
import {
  KERN_FAILURE,
  KERN_SUCCESS,
  MAP_COPY_ON_WRITE,
  VM_INHERIT_COPY,
  VM_INHERIT_SHARE,
  VM_MAP_MAX,
  vm_map,
  vm_map_entry,
  type vm_map_t,
} from '../h/vm_map.ts';
import { OBJT_DEAD, OBJT_DEFAULT, type vm_object_t } from '../h/vm_object.ts';
import { PK_TABLE } from '../h/vm_page.ts';
import { pmap } from '../h/pmap.ts';
import {
  vm_object_allocate,
  vm_object_deallocate,
  vm_object_reference,
} from '../object/vm_object.ts';
import { test_pager, test_pager_object, test_pager_word } from '../object/test_pager.test.lib.ts';
import { procstat_vm } from '../observe/procstat_vm.ts';
import { page_failpoint, vm_page_alloc, vm_page_census, vm_page_wire } from '../page/vm_page.ts';
import { user_access } from './vm_bank.ts';
import { casuword, copyin, copyinstr, copyout, fubyte, fuword, subyte, suword } from './vm_copy.ts';
import { map_entries, vm_map_check } from './vm_map_check.ts';
import { vm_map_fixed } from './vm_map_insert.ts';
import { vm_map_remove } from './vm_map_range.ts';
import { ANON as ZEROS, MAPS, map_at, map_drop, maps_make } from './vm_map.test.lib.ts';
import { counted, page_of_words, WORKER, WORKERS } from './vm_space_smp.test.lib.ts';
import { cell, SpaceModel } from './vm_syscalls.model.ts';
import { space_fork, space_make, spaces_check, spaces_end } from './vm_space.test.lib.ts';
import {
  ANON,
  anon,
  anon_at,
  AT,
  call,
  end,
  mapped,
  P,
  peek,
  poke,
  R,
  RW,
  up,
  user_fork,
  W,
  X,
} from './vm_syscalls.test.lib.ts';
import { sbrk, vmspace_limits, vmspace_segments } from './vm_unix.ts';
import { vm_syscall, vm_syscalls } from './vm_syscalls.ts';

afterEach(() => {
  page_failpoint.refuse = null;
  test_pager.fail_at = 0;
  try {
    shutdown();
  } catch {
    abandon();
  }
});
/** First byte of a page of the kernel's own, which is all that a test may have there. */
function kernel(): number {
  const m = vm_page_alloc(-1, 0);
  vm_page_wire(m, 1);
  return page_word(m) * 4;
}
/** Shows an object, whose reference is in hand, at a page number, as many pages as that. */
function show(mp: vm_map_t, vpn: number, n: number, o: vm_object_t, cow = 0): void {
  const how = { object: o, offset: 0, protection: RW, max_protection: RW, cow };
  assert.equal(vm_map_fixed(mp, vpn, vpn + n, how), KERN_SUCCESS);
}

describe('EFAULT and EIO by attempting the access', () => {
  const LOW = 0x10_0000; // of an address that is its own page number's
  test('every way to reach memory says the same of it', () => {
    const mp = up();
    const k = kernel();
    const place = (i: number): number => LOW + i * 16 * P;
    const sorts: [what: string, at: number, load: number, store: number][] = [
      ['memory', place(0), 0, 0],
      ['read only', place(1), 0, EFAULT],
      ['no access', place(2), EFAULT, EFAULT],
      ['nothing', place(3), EFAULT, EFAULT],
      ['a guard', place(4), EFAULT, EFAULT],
      ['beyond the end of an object', place(5) + P, EFAULT, EFAULT],
      ['what is gone', place(6), EFAULT, EFAULT],
    ];
    for (const [i, prot] of [RW, R, 0].entries())
      assert.equal(anon_at(mp, place(i), P, prot), place(i));
    call(mp, 'mmap', [place(4), P, 0, MAP_GUARD | MAP_FIXED, -1, 0]);
    show(mp, place(5) / P, 2, vm_object_allocate(OBJT_DEFAULT, 1));
    show(mp, place(6) / P, 1, vm_object_allocate(OBJT_DEAD, 1));
    for (const [what, at, load, store] of sorts) {
      const [no_load, no_store] = [load === 0 ? 0 : -1, store === 0 ? 0 : -1];
      assert.equal(copyin(mp, at, k, 8).error, load, what);
      assert.equal(copyinstr(mp, at, k, 8).error, load, what);
      assert.deepEqual([fuword(mp, at), fubyte(mp, at + 1)], [no_load, no_load], what);
      assert.equal(copyout(mp, k, at, 8).error, store, what);
      assert.deepEqual([suword(mp, at, 0), subyte(mp, at, 0)], [no_store, no_store], what);
      assert.equal(casuword(mp, at, 0, 0), no_store, what);
      assert.equal(user_access(mp, at, 8, false, () => {}).error, load, what);
      assert.equal(user_access(mp, at, 8, true, () => {}).error, store, what);
    }
    end();
  });
  test('mmapstress02: into read-only memory it fails, out of it it works', () => {
    const mp = up();
    const k = kernel();
    anon_at(mp, LOW, 2 * P);
    mem.U8.fill(0, k, k + P);
    for (const at of [LOW, LOW + P]) assert.equal(copyout(mp, k, at, P).error, 0);
    assert.equal(call(mp, 'mprotect', [LOW + P, P, R]), 0);
    mem.U8.fill(7, k, k + P);
    assert.deepEqual(copyout(mp, k, LOW + P - 100, 200), { error: EFAULT, done: 100 });
    assert.deepEqual([peek(mp, LOW + P - 1), peek(mp, LOW + P)], [7, 0]);
    assert.deepEqual(copyin(mp, LOW + P - 100, k, 200), { error: 0, done: 200 });
    end();
  });
  test('nothing is asked before: what goes meanwhile is missed where it is reached', () => {
    const mp = up();
    anon_at(mp, LOW, 4 * P);
    const came: number[] = [];
    const got = user_access(mp, LOW, 4 * P, true, (_byte, _n, done) => {
      came.push(done);
      if (done === P) assert.equal(vm_map_remove(mp, LOW / P + 2, LOW / P + 3), KERN_SUCCESS);
    });
    assert.deepEqual(got, { error: EFAULT, done: 2 * P });
    assert.deepEqual(came, [0, P]);
    // And what comes meanwhile is there.
    assert.equal(call(mp, 'munmap', [LOW, 4 * P]), 0);
    anon_at(mp, LOW, P);
    const more = user_access(mp, LOW, 2 * P, true, (_byte, _n, done) => {
      if (done === 0) anon_at(mp, LOW + P, P);
    });
    assert.deepEqual(more, { error: 0, done: 2 * P });
    end();
  });
  test('a store that fails at the Nth page: EIO there, and the next time it works', () => {
    const mp = up();
    const pages = 6;
    anon_at(mp, LOW, P); // so that these addresses have a name
    for (let n = 1; n <= pages; n++) {
      show(mp, LOW / P, 1 + pages, test_pager_object(1 + pages, n), MAP_COPY_ON_WRITE);
      test_pager.fail_at = n;
      const words: number[] = [];
      const take = (byte: number): void => void words.push(mem.I32[byte / 4]);
      const got = user_access(mp, LOW + P, pages * P, false, take);
      assert.deepEqual(got, { error: EIO, done: (n - 1) * P });
      const rest = user_access(mp, LOW + n * P, (pages - n + 1) * P, false, take);
      assert.deepEqual(rest, { error: 0, done: (pages - n + 1) * P });
      assert.deepEqual(
        words,
        Array.from({ length: pages }, (_, i) => test_pager_word(n, i + 1)),
      );
      test_pager.fail_at = 0;
      assert.equal(call(mp, 'munmap', [LOW, (1 + pages) * P]), 0);
    }
    end();
  });
  test('no page at all: ENOMEM, as far as it came', () => {
    const mp = up({ options: { INVARIANTS: true, FAILPOINTS: true } });
    anon_at(mp, LOW, 8 * P);
    assert.equal(poke(mp, LOW, 1), 0);
    page_failpoint.refuse = () => true;
    const got = user_access(mp, LOW, 2 * P, true, () => {});
    page_failpoint.refuse = null;
    assert.deepEqual(got, { error: ENOMEM, done: P });
    assert.equal(poke(mp, LOW + P, 1), 0);
    end();
  });
});
test('kern_copyin', () => {
  const mp = up();
  const k = kernel();
  const limit = VM_MAP_MAX * P;
  const how = { ...ZEROS, protection: RW };
  assert.equal(vm_map_fixed(mp, VM_MAP_MAX - 2, VM_MAP_MAX, how), KERN_SUCCESS);
  const both = (at: number, n: number): number[] => [
    copyin(mp, at, k, n).error,
    copyout(mp, k, at, n).error,
  ];
  for (const at of [0, 1, limit - 1, limit, limit + 1, 2 ** 52, 2 ** 64, -1, -(2 ** 63)]) {
    assert.deepEqual(both(at, 0), [0, 0], `nothing at ${at}`);
  }
  for (const n of [1, 4, 100, P - 1]) {
    assert.deepEqual(both(limit - n, n), [0, 0], `${n} up to the limit`);
    assert.deepEqual(both(limit - n, n + 1), [EFAULT, EFAULT], `${n}, and one beyond it`);
  }
  for (const at of [
    limit,
    limit + 1,
    2 ** 53,
    2 ** 63,
    2 ** 64,
    2 ** 64 - 2048,
    -1,
    -P,
    -(2 ** 63),
  ]) {
    assert.deepEqual(both(at, 1), [EFAULT, EFAULT], `${at}`);
  }
  end();
});

describe('mappings', () => {
  test('mmap04: every protection is in the listing', () => {
    const mp = up();
    const all = [0, R, W, X, RW, R | X, W | X, RW | X];
    for (const [i, prot] of all.entries()) {
      for (const [j, how] of [MAP_PRIVATE, MAP_SHARED].entries()) {
        const at = AT + (i * 4 + j * 2) * P;
        assert.equal(call(mp, 'mmap', [at, P, prot, how | MAP_ANON | MAP_FIXED, -1, 0]), at);
      }
    }
    const listed = procstat_vm(mp).map((e) => [e.start, e.protection]);
    const want = all.flatMap((prot, i) => [0, 2].map((j) => [AT + (i * 4 + j) * P, prot]));
    assert.deepEqual(listed, want);
    end();
  });
  test('mmap32: garbage in every argument of every call', () => {
    const mp = up();
    const draw = dice(SEED);
    const odd = [
      0,
      1,
      -1,
      P - 1,
      P,
      3,
      4,
      16,
      0x1002,
      2 ** 31,
      2 ** 32,
      -(2 ** 31),
      2 ** 47,
      2 ** 48,
    ];
    const worse = [2 ** 63, -(2 ** 63), 2 ** 64, 0.5, Number.NaN, Number.POSITIVE_INFINITY, -0];
    anon_at(mp, AT, 16 * P);
    const value = (): number => {
      const what = draw(4);
      if (what === 0) return AT + draw(32) * P + (draw(4) === 0 ? draw(P) : 0);
      if (what === 1) return draw(16) * P;
      return what === 2 ? odd[draw(odd.length)] : worse[draw(worse.length)];
    };
    let went = 0;
    for (let n = 0; n < 4000; n++) {
      const s = vm_syscalls[draw(vm_syscalls.length)];
      const args = Array.from({ length: s.args }, value);
      const { error, value: got } = vm_syscall(mp, s.number, args);
      assert.ok(Number.isInteger(error) && Number.isInteger(got), `${s.name} ${args}`);
      if (error === 0) went++;
      if (n % 100 === 0) vm_map_check(mp);
    }
    assert.ok(went > 0 && went < 4000);
    end();
  });
  test('mmapstress05: neighbours that show other parts of an object stay apart', () => {
    const mp = up();
    const o = test_pager_object(40, 5);
    const base = 0x200;
    const put = (i: number, offset: number): void => {
      const how = { object: o, offset, protection: RW, max_protection: RW, cow: MAP_COPY_ON_WRITE };
      vm_object_reference(o);
      assert.equal(vm_map_fixed(mp, base + i, base + i + 1, how), KERN_SUCCESS);
      vm_map_check(mp);
    };
    // Page i of the map shows page 30 - 2 i of the object, whichever comes first.
    for (const i of [4, 2, 3, 0, 6, 1, 5]) put(i, 30 - 2 * i);
    assert.equal(map_entries(mp).length, 7);
    for (let i = 0; i < 7; i++) {
      const page = 30 - 2 * i;
      const want = page % 7 === 0 ? 0 : test_pager_word(5, page) >>> 0;
      assert.equal(fuword(mp, (base + i) * P), want, `page ${page}`);
    }
    vm_object_deallocate(o);
    end();
  });
  test('mmapstress08: mappings 4 MB apart use up page tables, which come back', () => {
    const mp = up({ memory: '16M' });
    const n = 256;
    const pm = vm_map.pmap[mp];
    const at = (i: number): number => AT - (AT % 2 ** 22) + i * 2 ** 22;
    for (let i = 0; i < n; i++) {
      assert.equal(anon_at(mp, at(i), P), at(i));
      assert.equal(poke(mp, at(i), i & 255), 0);
    }
    assert.equal(vm_page_census()[PK_TABLE], n);
    assert.equal(pmap.tables[pm], n);
    for (let i = 0; i < n; i++) assert.equal(peek(mp, at(i)), i & 255);
    for (let i = 0; i < n; i++) assert.equal(call(mp, 'munmap', [at(i), P]), 0);
    assert.deepEqual([pmap.tables[pm], pmap.resident[pm]], [0, 0]);
    assert.equal(vm_page_census()[PK_TABLE], 0);
    end();
  });
  test('mmapstress03: the break grows and shrinks over mappings, holes and protections', () => {
    const mp = up();
    const data = AT;
    assert.equal(vmspace_segments(mp, { data: { address: data, bytes: 0 } }), 0);
    assert.equal(call(mp, 'break', [data + 64 * P]), data + 64 * P);
    // Over the end of the break: in place of its last pages, and beyond.
    assert.equal(anon_at(mp, data + 60 * P, 8 * P, R), data + 60 * P);
    assert.equal(call(mp, 'break', [data + 80 * P]), 'ENOMEM', 'something is in the way');
    for (let i = 0; i < 60; i += 2) assert.equal(poke(mp, data + i * P, i), 0);
    for (let i = 0; i < 60; i += 3) assert.equal(call(mp, 'munmap', [data + i * P, P]), 0);
    for (let i = 1; i < 60; i += 3) assert.equal(call(mp, 'mprotect', [data + i * P, P, R]), 0);
    for (let i = 0; i < 60; i++) {
      const want = i % 3 === 0 ? 'EFAULT' : i % 2 === 0 ? i : 0;
      assert.equal(peek(mp, data + i * P), want, `page ${i}`);
      assert.equal(poke(mp, data + i * P, 9), i % 3 === 2 ? 0 : 'EFAULT', `page ${i}`);
    }
    vm_map_check(mp);
    assert.ok(map_entries(mp).length > 40);
    assert.equal(
      call(mp, 'break', [data + 10 * P]),
      data + 10 * P,
      'over holes, and what was mapped',
    );
    assert.deepEqual(mapped(mp).at(-1), [data + 64 * P, 4], 'what lies beyond the old break stays');
    assert.equal(call(mp, 'break', [data + 64 * P]), data + 64 * P);
    assert.equal(peek(mp, data + 20 * P), 0, 'new memory');
    // Holes are filled, and entries that are alike become one.
    assert.equal(call(mp, 'munmap', [data, 80 * P]), 0);
    assert.equal(anon_at(mp, data, 64 * P), data);
    assert.equal(map_entries(mp).length, 1);
    assert.equal(call(mp, 'mmap', [0, 2 ** 43, RW, ANON, -1, 0]), 'ENOMEM', 'a huge one');
    assert.deepEqual(sbrk(mp, 0), { error: 0, value: data + 64 * P });
    end();
  });
  test('fork14: a space in which nearly all is mapped is copied, sizes and all', () => {
    const mp = up();
    const big = 2 ** 42;
    const at = call(mp, 'mmap', [0, big, RW, ANON, -1, 0]);
    assert.ok(typeof at === 'number', `${at}`);
    assert.equal(poke(mp, at + big - P, 3), 0);
    const child = user_fork(0, 1);
    assert.equal(vm_map.size[child], big / P);
    assert.equal(peek(child, at + big - P), 3);
    assert.equal(poke(child, at + big - P, 4), 0);
    assert.equal(peek(mp, at + big - P), 3);
    end();
  });
});

describe('memory that is filled and looked at', () => {
  /** Fills pages with what their number makes, and looks at all of them. */
  const made = (i: number, salt: number): number => (i * 31 + salt) & 255;
  function verify(mp: vm_map_t, at: number, n: number, salt: number): void {
    for (let i = 0; i < n; i++) {
      for (const byte of [at + i * P, at + i * P + P - 1]) {
        assert.equal(peek(mp, byte), made(i, salt), `page ${i}`);
      }
    }
  }
  function fill(mp: vm_map_t, at: number, order: readonly number[], salt: number): void {
    for (const i of order) {
      for (const byte of [at + i * P, at + i * P + P - 1])
        assert.equal(poke(mp, byte, made(i, salt)), 0);
    }
  }
  const n = 32;
  const upwards = Array.from({ length: n }, (_, i) => i);
  const outwards = upwards.flatMap((i) => (i < n / 2 ? [n / 2 + i, n / 2 - 1 - i] : []));
  for (const [name, order] of [
    ['page01: upwards', upwards],
    ['page02: from the middle outwards', outwards],
  ] as const) {
    test(`${name}, by many children`, () => {
      const mp = up();
      const at = anon(mp, n * P);
      fill(mp, at, order, 0);
      const children = Array.from({ length: 6 }, (_, i) => user_fork(0, i + 1));
      for (const [i, child] of children.entries()) fill(child, at, order, i + 1);
      for (const [i, child] of children.entries()) verify(child, at, n, i + 1);
      verify(mp, at, n, 0);
      end();
    });
  }
  test('vmtests data_space, stack_space: as deep as they may be', () => {
    const mp = up({ memory: '16M' });
    const data = AT;
    vmspace_segments(mp, { data: { address: data, bytes: 0 } });
    vmspace_limits(mp, { data: 256 * P });
    for (let pages = n; pages <= 256; pages += n) {
      assert.deepEqual(sbrk(mp, n * P).error, 0);
      const order = upwards.map((i) => pages - n + i);
      fill(mp, data, order, 5);
    }
    assert.equal(sbrk(mp, P).error, ENOMEM);
    verify(mp, data, 256, 5);
    const size = 256 * P;
    const top = call(mp, 'mmap', [0, size, RW, MAP_STACK | ANON, -1, 0]);
    assert.ok(typeof top === 'number');
    const order = Array.from({ length: 255 }, (_, i) => 255 - i);
    fill(mp, top, order, 9);
    for (const i of order) assert.equal(peek(mp, top + i * P), made(i, 9));
    end();
  });
  test('vma01: what a child maps beside what it has from its parent is its own', () => {
    const mp = up();
    anon_at(mp, AT, 2 * P);
    fill(mp, AT, [0, 1], 1);
    const child = user_fork(0, 1);
    for (const [i, one] of [mp, child].entries()) {
      for (const at of [AT - P, AT + 2 * P]) {
        assert.equal(anon_at(one, at, P), at);
        assert.equal(poke(one, at, 10 + i), 0);
      }
    }
    const objects = (one: vm_map_t): number[] =>
      map_entries(one).map((e) => vm_map_entry.object[e]);
    const [first, last] = [objects(mp), objects(child)];
    for (const o of last) assert.ok(o === NULL || !first.includes(o) || o === first[1], 'its own');
    for (const [i, one] of [mp, child].entries()) {
      assert.deepEqual([peek(one, AT - P), peek(one, AT + 2 * P)], [10 + i, 10 + i]);
      verify(one, AT, 2, 1);
    }
    end();
  });
});

describe('stress2 collapse.sh', () => {
  const PAGES = 6;
  const DEPTH = 6;
  const WIDTH = 3;
  const VPN = AT / P;
  test('a tree of forks, six deep and three wide, that share, copy and exit at random', () => {
    up();
    const draw = dice(SEED);
    anon_at(map_at(0), AT, PAGES * P);
    const first = new SpaceModel();
    first.map(VPN, PAGES, () => cell(RW));
    const free = Array.from({ length: MAPS - 1 }, (_, i) => i + 1);
    const write = (s: number, model: SpaceModel): void => {
      const at = AT + draw(PAGES) * P + draw(P);
      const value = draw(256);
      assert.equal(poke(map_at(s), at, value), 0);
      model.access(at, 1, true, (bytes) => void (bytes[0] = value));
    };
    const look = (s: number, model: SpaceModel): void => {
      user_access(map_at(s), AT, PAGES * P, false, (byte, n, done) => {
        const want = model.load(VPN + Math.floor(done / P));
        assert.ok(want && Buffer.compare(want, mem.U8.subarray(byte, byte + n)) === 0, `${done}`);
      });
    };
    const inherit = (s: number, model: SpaceModel): void => {
      const i = draw(PAGES);
      const n = 1 + draw(PAGES - i);
      const how = draw(2) === 0 ? VM_INHERIT_SHARE : VM_INHERIT_COPY;
      assert.equal(call(map_at(s), 'minherit', [AT + i * P, n * P, how]), 0);
      for (const c of model.range(VPN + i, n)) c.inherit = how;
    };
    const leave = (s: number): void => {
      map_drop(s);
      free.push(s);
    };
    // Those who are there: a parent that has not gone, with its children and theirs.
    const grow = (s: number, model: SpaceModel, depth: number): void => {
      let there = true;
      for (let child = 0; depth < DEPTH && child < WIDTH && there; child++) {
        inherit(s, model);
        const to = free.pop() as number;
        user_fork(s, to);
        const copy = model.fork();
        write(s, model);
        write(to, copy);
        if (depth > 0 && draw(8) === 0) {
          leave(s); // the parent goes first
          there = false;
        }
        grow(to, copy, depth + 1);
        if (there) look(s, model);
      }
      if (!there) return;
      write(s, model);
      look(s, model);
      if (depth > 0) leave(s);
    };
    // What was never written to would be zeros of one object, or of another.
    for (let i = 0; i < PAGES; i++) {
      poke(map_at(0), AT + i * P, i);
      first.access(AT + i * P, 1, true, (bytes) => void (bytes[0] = i));
    }
    grow(0, first, 0);
    end();
  });
});

describe('mtest05 mmstress', () => {
  test('two threads fault on the same pages: each is filled once, and copied once', async () => {
    const options = { INVARIANTS: true, WITNESS: true };
    const { handle } = boot({ memory: '16M', cpus: WORKERS + 1, options, fresh: true });
    maps_make();
    const [first, pages] = [700, 100];
    assert.ok(space_make(0));
    assert.equal(vm_map_fixed(map_at(0), first, first + pages, ZEROS), KERN_SUCCESS);
    for (const count of ['v_zfod', 'v_cow_faults']) {
      const words = page_of_words();
      const before = counted(`vm.stats.vm.${count}`);
      const crew = new Crew(WORKER);
      try {
        const jobs = Array.from({ length: WORKERS }, () =>
          crew.start(handle, 'zeros', { first, pages, words }),
        );
        await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
        await until(() => atomic_load(words + 1) === WORKERS, 'the workers are ready');
        atomic_store(words, 1);
        await until(() => atomic_load(words + 2) === WORKERS, 'the faults');
        atomic_store(words + 3, 1);
        await within(Promise.all(jobs.map((j) => j.done)), 'the workers');
      } finally {
        await crew.end();
      }
      assert.equal(counted(`vm.stats.vm.${count}`) - before, pages, count);
      if (count === 'v_cow_faults') break;
      let result: number;
      do result = space_fork(0, 1);
      while (result === KERN_FAILURE);
      assert.equal(result, KERN_SUCCESS);
    }
    spaces_check();
    spaces_end();
  });
});
