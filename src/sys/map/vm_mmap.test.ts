/*
 * Shows: mmap does what FreeBSD's does: every errno of its table, and the cases of FreeBSD's and of
 * the Linux Test Project's tests that speak of memory without files, each under its name there;
 * addresses of 48 bits are answered as they were given.
 * By what means: tables of calls, and accesses by address afterwards; the walkers after each test.
 * The other calls: vm_syscalls.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { NULL } from '../machine/struct.ts';
import {
  MAP_32BIT,
  MAP_ALIGNED,
  MAP_ALIGNED_SUPER,
  MAP_ANON,
  MAP_EXCL,
  MAP_FIXED,
  MAP_GUARD,
  MAP_NOCORE,
  MAP_NORESERVE,
  MAP_NOSYNC,
  MAP_PREFAULT_READ,
  MAP_PRIVATE,
  MAP_RENAME,
  MAP_SHARED,
  MAP_STACK,
  MCL_FUTURE,
  PROT_MAX_SHIFT,
} from '../h/mman.ts';
import {
  KERN_INVALID_ADDRESS,
  KERN_OUT_OF_BOUNDS,
  KERN_PROTECTION_FAILURE,
  MADV_CORE,
  MAP_ENTRY_NOCOREDUMP,
  MAP_ENTRY_NOSYNC,
  VM_MAP_MAX,
  vm_map,
  vm_map_entry,
} from '../h/vm_map.ts';
import { OBJT_DEFAULT, type vm_object_t } from '../h/vm_object.ts';
import {
  vm_object_allocate,
  vm_object_deallocate,
  vm_object_reference,
} from '../object/vm_object.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { to_address, to_page } from './vm_bank.ts';
import { vm_fault } from './vm_fault.ts';
import { map_entries } from './vm_map_check.ts';
import { vmspace_alloc, vmspace_exec } from './vm_map_fork.ts';
import { map_failpoint } from './vm_map_entry.ts';
import { map_at, map_put } from './vm_map.test.lib.ts';
import { vmspace_limits, vmspace_segments } from './vm_unix.ts';
import { vm_syscall, vm_syscalls } from './vm_syscalls.ts';
import {
  AT,
  ANON,
  end,
  mapped,
  picture,
  type Row,
  rows,
  set,
  up,
  anon,
  anon_at,
  call,
  P,
  peek,
  poke,
  R,
  RW,
  user_fork,
  W,
  X,
} from './vm_syscalls.test.lib.ts';

afterEach(() => {
  page_failpoint.refuse = null;
  map_failpoint.refuse = null;
  try {
    shutdown();
  } catch {
    abandon();
  }
});
test('the table has the numbers and names of FreeBSD', () => {
  const mp = up();
  assert.deepEqual(
    vm_syscalls.map((s) => [s.number, s.name]),
    [
      [17, 'break'],
      [64, 'getpagesize'],
      [65, 'msync'],
      [69, 'sbrk'],
      [70, 'sstk'],
      [72, 'vadvise'],
      [73, 'munmap'],
      [74, 'mprotect'],
      [75, 'madvise'],
      [78, 'mincore'],
      [203, 'mlock'],
      [204, 'munlock'],
      [250, 'minherit'],
      [324, 'mlockall'],
      [325, 'munlockall'],
      [477, 'mmap'],
    ],
  );
  rows(mp, [
    ['a number that is none', 'mremap', [0], 'ENOSYS'],
    ['half an address', 'munmap', [P + 0.5, P], 'EINVAL'],
    ['no number', 'munmap', [Number.NaN, P], 'EINVAL'],
    ['getpagesize', 'getpagesize', [], P],
    ['sbrk', 'sbrk', [P], 'EOPNOTSUPP'],
    ['sstk', 'sstk', [P], 'EOPNOTSUPP'],
    ['vadvise', 'vadvise', [0], 'EINVAL'],
  ]);
  assert.equal(vm_syscall(mp, 64).value, P);
  end();
});

describe('mmap', () => {
  test('mmap_test map_at_zero', () => {
    for (const zero of [1, 0]) {
      const mp = up({ set: { 'security.bsd.map_at_zero': zero } });
      const at = (address: number): string =>
        typeof anon_at(mp, address, P, RW | X) === 'number' ? 'works' : 'fails';
      assert.equal(at(0), zero === 1 ? 'works' : 'fails');
      const others = [1, P - 1, P, -1, -P, -1 - P, -2 - P, 0x1000 * P].map(at);
      const wanted = ['fails', 'fails', 'works', 'fails', 'fails', 'fails', 'fails', 'works'];
      assert.deepEqual(others, wanted, `map_at_zero ${zero}`);
      end();
      shutdown();
    }
  });
  test('mmap_test bad_arguments, and every other EINVAL of its table', () => {
    const mp = up();
    const anywhere = (what: string, prot: number, flags: number, answer: string): Row => [
      what,
      'mmap',
      [0, P, prot, flags, -1, 0],
      answer,
    ];
    rows(mp, [
      anywhere('MAP_ANON alone', RW, MAP_ANON, 'ok'),
      anywhere('ANON SHARED', RW, MAP_ANON | MAP_SHARED, 'ok'),
      anywhere('ANON PRIVATE', RW, MAP_ANON | MAP_PRIVATE, 'ok'),
      anywhere('without effect', RW, ANON | MAP_RENAME | MAP_NORESERVE | MAP_PREFAULT_READ, 'ok'),
      anywhere('undefined protection', 0x8, ANON, 'EINVAL'),
      anywhere('protection beyond its maximum', RW | (R << PROT_MAX_SHIFT), ANON, 'EOPNOTSUPP'),
      anywhere('flag 0x80', RW, ANON | 0x80, 'EINVAL'),
      anywhere('flag 0x100', RW, ANON | 0x100, 'EINVAL'),
      anywhere('SHARED and PRIVATE', RW, MAP_ANON | MAP_SHARED | MAP_PRIVATE, 'EINVAL'),
      anywhere('mmap06: neither SHARED nor PRIVATE', R, 0, 'EINVAL'),
      ['mmap06: length 0', 'mmap', [0, 0, RW, ANON, -1, 0], 'EINVAL'],
      ['ANON with a descriptor', 'mmap', [0, P, RW, ANON, 3, 0], 'EINVAL'],
      ['ANON with an offset', 'mmap', [0, P, RW, ANON, -1, P], 'EINVAL'],
      ['mmap08: no such descriptor', 'mmap', [0, P, RW, MAP_SHARED, -1, 0], 'EBADF'],
      ['mmap08: closed', 'mmap', [0, P, RW, MAP_SHARED, 99, 0], 'EBADF'],
      ['offset below 0', 'mmap', [0, P, RW, MAP_SHARED, 3, -P], 'EINVAL'],
      anywhere('STACK without READ', W, MAP_STACK, 'EINVAL'),
      anywhere('STACK without WRITE', R, MAP_STACK, 'EINVAL'),
      ['STACK with a descriptor', 'mmap', [0, P, RW, MAP_STACK, 3, 0], 'EINVAL'],
      ['STACK forgets its offset', 'mmap', [0, P, RW, MAP_STACK, -1, P], 'ok'],
      anywhere('EXCL without FIXED', RW, ANON | MAP_EXCL, 'EINVAL'),
      anywhere('GUARD that may be read', R, MAP_GUARD, 'EINVAL'),
      anywhere('GUARD that is shared', 0, MAP_GUARD | MAP_SHARED, 'EINVAL'),
      ['GUARD with an offset', 'mmap', [0, P, 0, MAP_GUARD, -1, P], 'EINVAL'],
      anywhere('ALIGNED to less than a page', RW, ANON | MAP_ALIGNED(11), 'EINVAL'),
      anywhere('ALIGNED to all there is', RW, ANON | MAP_ALIGNED(64), 'EINVAL'),
      anywhere('ALIGNED beyond the space', RW, ANON | MAP_ALIGNED(63), 'ENOMEM'),
      ['FIXED, wraps', 'mmap', [-P, 2 * P, RW, ANON | MAP_FIXED, -1, 0], 'EINVAL'],
      ['FIXED, above', 'mmap', [2 ** 48, P, RW, ANON | MAP_FIXED, -1, 0], 'EINVAL'],
      ['FIXED, end above', 'mmap', [2 ** 48 - P, 2 * P, RW, ANON | MAP_FIXED, -1, 0], 'EINVAL'],
      ['FIXED and 32BIT', 'mmap', [2 ** 31, P, RW, ANON | MAP_FIXED | MAP_32BIT, -1, 0], 'EINVAL'],
      ['negative length', 'mmap', [0, -P, RW, ANON, -1, 0], 'ENOMEM'],
      ['more than there is', 'mmap', [0, 2 ** 43, RW, ANON, -1, 0], 'ENOMEM'],
      ['mmap15: a high address', 'mmap', [-P * 16, P, RW, ANON, -1, 0], 'ENOMEM'],
      ['fork14: 16 TB', 'mmap', [0, 2 ** 44, RW, ANON, -1, 0], 'ENOMEM'],
    ]);
    end();
  });
  test("a file that is to be locked, and cannot be, is still its caller's", () => {
    const mp = up();
    const o = vm_object_allocate(OBJT_DEFAULT, 4);
    const file = { object: o, readable: true, writable: true };
    assert.equal(call(mp, 'mlockall', [MCL_FUTURE]), 0);
    vm_map.wire_limit[mp] = 2;
    for (const flags of [MAP_SHARED, MAP_PRIVATE]) {
      assert.equal(call(mp, 'mmap', [0, 3 * P, RW, flags, 3, 0], file), 'ENOMEM');
    }
    assert.equal(vm_map.size[mp], 0);
    assert.equal(typeof call(mp, 'mmap', [0, 2 * P, RW, MAP_SHARED, 3, 0], file), 'number');
    assert.equal(vm_map.wired[mp], 2);
    end();
  });
  test('files: an object with what its descriptor allows', () => {
    const mp = up();
    const o = vm_object_allocate(OBJT_DEFAULT, 2);
    const open = (readable: boolean, writable: boolean) => ({ object: o, readable, writable });
    const mmap = (prot: number, flags: number, file: Parameters<typeof call>[3], pos = 0) => {
      vm_object_reference(o);
      const at = call(mp, 'mmap', [0, P, prot, flags, 3, pos], file);
      if (typeof at === 'string' || file?.object === NULL) vm_object_deallocate(o);
      return at;
    };
    const [rdwr, rdonly, wronly] = [open(true, true), open(true, false), open(false, true)];
    // Each prot that LTP's mmap06 tries on a descriptor that cannot be read
    for (const prot of [R, R | W]) {
      for (const flags of [MAP_SHARED, MAP_PRIVATE]) {
        assert.equal(mmap(prot, flags, wronly), 'EACCES', `mmap06 ${prot} ${flags}`);
      }
    }
    assert.equal(mmap(RW, MAP_SHARED, rdonly), 'EACCES', 'readonly_mmap_write');
    const private_rw = mmap(RW, MAP_PRIVATE, rdonly);
    assert.equal(typeof private_rw, 'number', 'PRIVATE of a read-only descriptor');
    const noexec = { ...rdwr, executable: false };
    assert.equal(mmap(R | X, MAP_SHARED, noexec), 'EACCES', 'noexec');
    const ro = mmap(R, MAP_SHARED, rdonly) as number;
    assert.equal(call(mp, 'mprotect', [ro, P, RW]), 'EACCES', 'mprotect01 of LTP');
    assert.equal(mmap(R, MAP_PRIVATE, { ...rdwr, shared_only: true }), 'EINVAL');
    // What is written through one mapping is seen through the other, and not through a copy.
    const rw = mmap(RW, MAP_SHARED, rdwr) as number;
    assert.equal(poke(mp, rw + 5, 55), 0);
    assert.equal(peek(mp, ro + 5), 55);
    assert.equal(poke(mp, (private_rw as number) + 5, 66), 0);
    assert.deepEqual([peek(mp, rw + 5), peek(mp, (private_rw as number) + 5)], [55, 66]);
    // remap_object: the object keeps what a mapping that is gone wrote.
    assert.equal(call(mp, 'munmap', [rw, P]), 0);
    const again = mmap(R, MAP_SHARED, rdwr, 5) as number;
    assert.equal(again % P, 5, 'an offset that is no page is added to the address');
    assert.equal(peek(mp, again), 55);
    vm_object_deallocate(o);
    end();
  });
  test('page_fault_signal: why an access fails', () => {
    const mp = up();
    const o = vm_object_allocate(OBJT_DEFAULT, 1);
    const gone = anon(mp, P);
    assert.equal(call(mp, 'munmap', [gone, P]), 0);
    const why = (at: number, access: number): number => vm_fault(mp, to_page(mp, at), access);
    assert.equal(why(gone, W), KERN_INVALID_ADDRESS, 'segv_maperr_1');
    const only_read = anon(mp, P, R, MAP_ANON);
    assert.equal(why(only_read, W), KERN_PROTECTION_FAILURE, 'segv_accerr_1');
    const none = anon(mp, P, 0, MAP_ANON);
    assert.equal(why(none, R), KERN_PROTECTION_FAILURE, 'segv_accerr_2');
    const file = { object: o, readable: true, writable: true };
    const two = call(mp, 'mmap', [0, 2 * P, RW, MAP_SHARED, 3, 0], file) as number;
    assert.equal(why(two, W), 0);
    assert.equal(why(two + P, W), KERN_OUT_OF_BOUNDS, 'bus_objerr_2');
    const empty = vm_object_allocate(OBJT_DEFAULT, 0);
    const one = call(mp, 'mmap', [0, P, RW, MAP_SHARED, 3, 0], { ...file, object: empty });
    assert.equal(why(one as number, W), KERN_OUT_OF_BOUNDS, 'bus_objerr_1');
    for (const at of [gone, none, two + P]) assert.equal(poke(mp, at, 1), 'EFAULT');
    assert.equal(poke(mp, only_read, 1), 'EFAULT');
    end();
  });
  test('mmap_test dev_zero_private, dev_zero_shared, write_only', () => {
    const mp = up();
    const zero = { object: NULL as vm_object_t, readable: true, writable: true };
    for (const flags of [MAP_PRIVATE, MAP_SHARED]) {
      const [a, b] = [1, 2].map(() => call(mp, 'mmap', [0, P, RW, flags, 3, 0], zero) as number);
      assert.equal(poke(mp, a, 1), 0);
      assert.deepEqual([peek(mp, a), peek(mp, b)], [1, 0]);
      const third = call(mp, 'mmap', [0, P, RW, flags, 3, 0], zero) as number;
      assert.equal(peek(mp, third), 0);
    }
    const closed = { ...zero, writable: false };
    assert.equal(call(mp, 'mmap', [0, P, RW, MAP_SHARED, 3, 0], closed), 'EACCES');
    const write_only = anon(mp, P, W);
    assert.equal(poke(mp, write_only, 7), 0);
    end();
  });
  test('mmap05, mmap17, mmap19: none, exclusive, and addresses that are swapped', () => {
    const mp = up();
    assert.equal(anon_at(mp, AT, 2 * P), AT);
    assert.equal(poke(mp, AT, 1), 0);
    assert.equal(anon_at(mp, AT + 2 * P, P, 0), AT + 2 * P);
    assert.equal(peek(mp, AT + 2 * P), 'EFAULT', 'mmap05');
    const excl = ANON | MAP_FIXED | MAP_EXCL;
    rows(mp, [
      ['mmap17: all of it is used', 'mmap', [AT, P, RW, excl, -1, 0], 'EINVAL'],
      ['mmap17: some of it is used', 'mmap', [AT - P, 4 * P, RW, excl, -1, 0], 'EINVAL'],
      ['mmap17: free', 'mmap', [AT - P, P, RW, excl, -1, 0], AT - P],
    ]);
    // mmap19: what is mapped in place of another is what is seen.
    const o = vm_object_allocate(OBJT_DEFAULT, 2);
    const file = { object: o, readable: true, writable: true };
    const put = (at: number, page: number) => {
      vm_object_reference(o);
      assert.equal(call(mp, 'mmap', [at, P, RW, MAP_SHARED | MAP_FIXED, 3, page * P], file), at);
    };
    for (const [one, two] of [
      [0, 1],
      [1, 0],
      [0, 1],
    ]) {
      put(AT, one);
      put(AT + P, two);
      if (one === 0 && peek(mp, AT) === 0) {
        poke(mp, AT, 100);
        poke(mp, AT + P, 101);
      }
      assert.deepEqual([peek(mp, AT), peek(mp, AT + P)], [100 + one, 100 + two]);
    }
    vm_object_deallocate(o);
    end();
  });
  test('places: hints, room for the data, 32 bits, alignment', () => {
    const mp = up();
    const at = (hint: number, bytes: number, flags = 0): number | string =>
      call(mp, 'mmap', [hint, bytes, RW, ANON | flags, -1, 0]);
    const base = at(0, P);
    assert.equal(base, 32 * 2 ** 30, 'above all that data may ever be');
    assert.equal(at(P, P), 32 * 2 ** 30 + P, 'a hint among the data is moved');
    assert.equal(at(AT, P), AT, 'any other is kept');
    assert.equal(at(AT - 100, 2 * P), AT + P, 'rounded up, and the first place from there on');
    assert.equal(at(0, P, MAP_32BIT), P);
    assert.equal(at(0x1234_5000, P, MAP_32BIT), 0x1234_5000);
    assert.equal(at(0, 2 ** 31, MAP_32BIT), 'ENOMEM');
    for (const n of [13, 20, 30, 39]) {
      const place = at(0, P, MAP_ALIGNED(n)) as number;
      assert.equal(place % 2 ** n, 0, `2^${n}: ${place}`);
    }
    assert.equal(at(0, P, MAP_ALIGNED(42)), 2 ** 42);
    assert.equal((at(0, 4 * 2 ** 20, MAP_ALIGNED_SUPER) as number) % 2 ** 21, 0);
    assert.equal(vmspace_segments(mp, { data: { address: 0x5555_0000_0000, bytes: P } }), 0);
    assert.equal(at(0x5555_0000_1000, P), 0x5555_0000_0000 + 32 * 2 ** 30);
    end();
  });
  test('a guard is no memory, keeps others away, and makes way for MAP_FIXED', () => {
    const mp = up();
    rows(mp, [['guard', 'mmap', [AT, 4 * P, 0, MAP_GUARD | MAP_FIXED, -1, 0], AT]]);
    assert.deepEqual([peek(mp, AT), poke(mp, AT, 1)], ['EFAULT', 'EFAULT']);
    rows(mp, [
      ['it stays one', 'mprotect', [AT, P, R], 'EACCES'],
      ['not in it', 'mmap', [AT, P, RW, ANON, -1, 0], AT + 4 * P],
      ['in its place', 'mmap', [AT + P, P, RW, ANON | MAP_FIXED, -1, 0], AT + P],
    ]);
    assert.deepEqual(
      [peek(mp, AT), peek(mp, AT + P), peek(mp, AT + 2 * P)],
      ['EFAULT', 0, 'EFAULT'],
    );
    assert.equal(call(mp, 'munmap', [AT, 4 * P]), 0);
    end();
  });
  test('stacks: mmap18, stack_mprotect_exec_test, and their limit', () => {
    const mp = up();
    const granule = 128 * 1024;
    const fixed = MAP_STACK | MAP_FIXED;
    const size = 2 * granule;
    assert.equal(call(mp, 'mmap', [AT, size, RW, fixed, -1, 0]), AT);
    assert.deepEqual(mapped(mp), [[AT + granule, granule / P]]);
    // The page in the middle may be used no more; the one below it makes the stack grow.
    assert.equal(call(mp, 'mprotect', [AT + granule, P, 0]), 0);
    assert.equal(peek(mp, AT + granule), 'EFAULT');
    assert.equal(peek(mp, AT + granule - 1), 0, 'stack_mprotect_exec_test');
    assert.equal(peek(mp, AT), 0);
    assert.equal(peek(mp, AT - 1), 'EFAULT', 'no further than it may');
    // In place of what is there, and somewhere
    assert.equal(call(mp, 'mmap', [AT, size, RW, fixed, -1, 0]), AT);
    assert.deepEqual(mapped(mp), [[AT + granule, granule / P]]);
    const any = call(mp, 'mmap', [0, size, RW, MAP_STACK, -1, 0]) as number;
    assert.equal(poke(mp, any + granule - P, 1), 0);
    // What is mapped in its room stops it, a page before.
    assert.equal(anon_at(mp, AT + granule - 2 * P, P), AT + granule - 2 * P);
    assert.equal(peek(mp, AT + granule - P), 'EFAULT', 'mmap18');
    assert.equal(call(mp, 'munmap', [AT + granule - 2 * P, P]), 0);
    // RLIMIT_STACK
    vmspace_segments(mp, { stack: { address: any, bytes: size } });
    vmspace_limits(mp, { stack: vm_map.ssize[mp] * P });
    assert.equal(vm_map.ssize[mp], size / P);
    assert.equal(call(mp, 'mmap', [any, size, RW, fixed, -1, 0]), any);
    vmspace_segments(mp, { stack: { address: any, bytes: size } });
    vmspace_limits(mp, { stack: granule });
    assert.equal(poke(mp, any + granule - P, 1), 'EFAULT');
    vmspace_limits(mp, { stack: size });
    assert.equal(poke(mp, any + granule - P, 1), 0);
    end();
  });
  test('limits: the space, and entries', () => {
    const mp = up();
    vmspace_limits(mp, { all: 4 * P });
    rows(mp, [
      ['RLIMIT_AS', 'mmap', [AT, 5 * P, RW, ANON, -1, 0], 'ENOMEM'],
      ['as much as it may', 'mmap', [AT, 4 * P, RW, ANON | MAP_FIXED, -1, 0], AT],
      ['not more', 'mmap', [0, P, RW, ANON, -1, 0], 'ENOMEM'],
      ['in place of it', 'mmap', [AT, 4 * P, R, ANON | MAP_FIXED, -1, 0], AT],
    ]);
    vmspace_limits(mp, { all: 2 ** 43 });
    set('vm.max_proc_mmap', 2);
    rows(mp, [
      ['a second entry', 'mmap', [AT + 8 * P, P, RW, ANON, -1, 0], 'ok'],
      ['mmap11: a third', 'mmap', [AT + 16 * P, P, RW, ANON, -1, 0], 'ENOMEM'],
    ]);
    set('vm.max_proc_mmap', 0);
    end();
  });
  test('NOSYNC and NOCORE are noted; madvise08 takes them back', () => {
    const mp = up();
    assert.equal(anon_at(mp, AT, P), AT);
    const flags = ANON | MAP_FIXED | MAP_NOSYNC | MAP_NOCORE;
    assert.equal(call(mp, 'mmap', [AT, P, RW, flags, -1, 0]), AT);
    const has = (): number => vm_map_entry.eflags[map_entries(mp)[0]];
    assert.equal(has(), MAP_ENTRY_NOSYNC | MAP_ENTRY_NOCOREDUMP);
    assert.equal(call(mp, 'madvise', [AT, P, MADV_CORE]), 0);
    assert.equal(has(), MAP_ENTRY_NOSYNC);
    end();
  });
});

describe('addresses of 48 bits', () => {
  test('are answered as they were given; a ninth name is ENOMEM', () => {
    const mp = up();
    const names = [0x55, 0x7f, 0x56, 0x7e, 0, 1, 0xff, 0x20];
    for (const [i, name] of names.entries()) {
      const at = name * 2 ** 40 + 0x1234_5000;
      assert.equal(anon_at(mp, at, 2 * P), at);
      assert.equal(poke(mp, at + P, i), 0);
      assert.equal(to_address(mp, to_page(mp, at)), at);
    }
    rows(mp, [
      ['a ninth', 'mmap', [0x33 * 2 ** 40, P, RW, ANON | MAP_FIXED, -1, 0], 'ENOMEM'],
      ['a hole', 'munmap', [0x33 * 2 ** 40, P], 0],
      ['a hole', 'mprotect', [0x33 * 2 ** 40, P, R], 0],
    ]);
    assert.equal(peek(mp, 0x33 * 2 ** 40), 'EFAULT');
    user_fork(0, 1);
    for (const [i, name] of names.entries()) {
      assert.equal(peek(map_at(1), name * 2 ** 40 + 0x1234_6000), i, 'a copy has the names');
    }
    // A name that begins higher than the hint is as good as any.
    assert.equal(call(mp, 'mmap', [0x21 * 2 ** 40, P, RW, ANON, -1, 0]), 0x55 * 2 ** 40);
    vmspace_exec(mp);
    assert.equal(anon_at(mp, 0x33 * 2 ** 40, P), 0x33 * 2 ** 40, 'exec gives names back');
    end();
  });
  test('cross from a name to the next where banks lie side by side', () => {
    const mp = up();
    const edge = 0x56 * 2 ** 40;
    assert.equal(anon_at(mp, edge - 2 * P, 4 * P), edge - 2 * P);
    for (let i = -2; i < 2; i++) assert.equal(poke(mp, edge + i * P, 10 + i), 0);
    assert.equal(call(mp, 'mprotect', [edge - P, 2 * P, R]), 0);
    assert.deepEqual(
      [-2, -1, 0, 1].map((i) => poke(mp, edge + i * P, 1)),
      [0, 'EFAULT', 'EFAULT', 0],
    );
    assert.equal(call(mp, 'munmap', [edge - P, 2 * P]), 0);
    assert.deepEqual(
      [-2, -1, 0, 1].map((i) => peek(mp, edge + i * P)),
      [1, 'EFAULT', 'EFAULT', 1],
    );
    // Names 0x57 and 0x58 have the last bank and the first.
    const no = 0x58 * 2 ** 40;
    assert.equal(anon_at(mp, no - P, P), 'ENOMEM', 'the last page of the last bank');
    assert.equal(anon_at(mp, no - 2 * P, P), no - 2 * P);
    assert.equal(anon_at(mp, no + P, P), no + P);
    assert.equal(anon_at(mp, no - 2 * P, 4 * P), 'ENOMEM');
    assert.equal(call(mp, 'munmap', [no - 2 * P, 4 * P]), 0, 'piece by piece');
    assert.deepEqual([peek(mp, no - 2 * P), peek(mp, no + P)], ['EFAULT', 'EFAULT']);
    end();
  });
  test('a call that fails binds nothing', () => {
    const mp = up();
    const before = picture(mp);
    vmspace_limits(mp, { all: P });
    for (let name = 0x40; name < 0x60; name++) {
      assert.equal(anon_at(mp, name * 2 ** 40, 2 * P), 'ENOMEM');
    }
    assert.deepEqual(picture(mp), before);
    end();
  });
});

test('a map that is smaller than the addresses', () => {
  up();
  map_put(1, vmspace_alloc(16, 1000));
  const mp = map_at(1);
  rows(mp, [
    ['below', 'mmap', [P, P, RW, ANON | MAP_FIXED, -1, 0], 'EINVAL'],
    ['above', 'mmap', [1000 * P, P, RW, ANON | MAP_FIXED, -1, 0], 'EINVAL'],
    ['inside', 'mmap', [16 * P, 984 * P, RW, ANON | MAP_FIXED, -1, 0], 16 * P],
    ['full', 'mmap', [16 * P, P, RW, ANON, -1, 0], 'ENOMEM'],
    ['above', 'munmap', [1000 * P, P], 'EINVAL'],
  ]);
  assert.equal(vm_map.size[mp], 984);
  assert.ok(VM_MAP_MAX > 1000);
  end();
});
