/*
 * Shows: munmap, mprotect, minherit, madvise, mincore and break do what FreeBSD's do: every errno
 * of their tables, and the cases of FreeBSD's and of the Linux Test Project's tests, each under its
 * name there; where Linux differs, what BSD does.  Where memory is short every call changes
 * nothing.
 * By what means: each case is a call, or a few, and accesses by address afterwards; the walkers
 * after each test.  mmap: vm_mmap.test.ts; random calls: vm_syscalls_fuzz.test.ts; several threads:
 * vm_syscalls_smp.slow.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import {
  MADV_PROTECT,
  MAP_ANON,
  MAP_FIXED,
  MAP_PRIVATE,
  MAP_SHARED,
  MAP_STACK,
  MINCORE_INCORE,
  MINCORE_MODIFIED,
  MINCORE_MODIFIED_OTHER,
  MINCORE_REFERENCED,
  MINCORE_REFERENCED_OTHER,
  PROT_MAX_SHIFT,
} from '../h/mman.ts';
import {
  MADV_DONTNEED,
  MADV_FREE,
  MADV_NOCORE,
  MADV_NORMAL,
  MADV_SEQUENTIAL,
  MADV_WILLNEED,
  VM_INHERIT_COPY,
  VM_INHERIT_NONE,
  VM_INHERIT_SHARE,
  VM_INHERIT_ZERO,
  vm_map,
  type vm_map_t,
} from '../h/vm_map.ts';
import { DEVICE_ZERO } from '../h/vm_object.ts';
import { pmap } from '../h/pmap.ts';
import { vm_device_object } from '../object/vm_device.ts';
import { page_failpoint } from '../page/vm_page.ts';
import { vmspace_exec } from './vm_map_fork.ts';
import { map_failpoint } from './vm_map_entry.ts';
import { map_at, map_drop } from './vm_map.test.lib.ts';
import { sbrk, vmspace_limits, vmspace_segments } from './vm_unix.ts';
import { spaces_check } from './vm_space.test.lib.ts';
import {
  AT,
  ANON,
  end,
  mapped,
  picture,
  rows,
  up,
  anon,
  anon_at,
  call,
  mincore,
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
describe('munmap', () => {
  test('munmap01, munmap03, munmap04, and the errors of its table', () => {
    const mp = up();
    assert.equal(anon_at(mp, AT, 6 * P), AT);
    rows(mp, [
      ['length 0', 'munmap', [AT, 0], 'EINVAL'],
      ['wraps', 'munmap', [-P, 2 * P], 'EINVAL'],
      ['above', 'munmap', [2 ** 48 - P, 2 * P], 'EINVAL'],
      ['below', 'munmap', [0, P], 'EINVAL'],
      ['a negative length', 'munmap', [AT, -P], 'EINVAL'],
    ]);
    poke(mp, AT, 1);
    assert.equal(call(mp, 'munmap', [AT + P + 1, P - 1]), 0, 'munmap03: truncated');
    assert.deepEqual([peek(mp, AT), peek(mp, AT + P), peek(mp, AT + 2 * P)], [1, 'EFAULT', 0]);
    assert.equal(call(mp, 'munmap', [AT, 3 * P]), 0, 'a hole is no error');
    assert.deepEqual([peek(mp, AT), peek(mp, AT + 3 * P)], ['EFAULT', 0], 'munmap01');
    assert.equal(call(mp, 'munmap', [AT, 3 * P]), 0, 'nor is nothing');
    assert.deepEqual(mapped(mp), [[AT + 3 * P, 3]]);
    end();
  });
});

describe('mprotect', () => {
  test('mprotect01 to 05, and the errors of its table', () => {
    const mp = up();
    assert.equal(anon_at(mp, AT, 6 * P), AT);
    poke(mp, AT, 1);
    rows(mp, [
      ['wraps', 'mprotect', [-P, 2 * P, R], 'EINVAL'],
      ['undefined bits', 'mprotect', [AT, P, 0x10], 'EINVAL'],
      ['mprotect01: unmapped', 'mprotect', [AT + 8 * P, P, R], 0],
      ['mprotect01: unaligned', 'mprotect', [AT + 1, 1, R], 0],
    ]);
    assert.deepEqual([poke(mp, AT, 2), peek(mp, AT)], ['EFAULT', 1], 'mprotect03');
    rows(mp, [['and back', 'mprotect', [AT, P, RW], 0]]);
    assert.equal(poke(mp, AT, 2), 0, 'mprotect02');
    rows(mp, [['none', 'mprotect', [AT, P, 0], 0]]);
    assert.equal(peek(mp, AT), 'EFAULT', 'mprotect04');
    const prots = [RW, R, 0, RW, R, RW];
    for (const [i, prot] of prots.entries()) call(mp, 'mprotect', [AT + i * P, P, prot]);
    const may = (i: number) => [peek(mp, AT + i * P) !== 'EFAULT', poke(mp, AT + i * P, 9) === 0];
    const wanted = prots.map((prot) => [(prot & R) !== 0, (prot & W) !== 0]);
    assert.deepEqual(
      prots.map((_, i) => may(i)),
      wanted,
      'mprotect05: split',
    );
    call(mp, 'mprotect', [AT, 6 * P, RW]);
    assert.deepEqual(mapped(mp), [[AT, 6]], 'mprotect05: merged');
    end();
  });
  test('the maximum: PROT_MAX', () => {
    const mp = up();
    const max = (prot: number): number => prot << PROT_MAX_SHIFT;
    const at = anon(mp, 4 * P, R | max(RW));
    rows(mp, [
      ['within', 'mprotect', [at, P, RW], 0],
      ['beyond', 'mprotect', [at, 4 * P, R | X], 'EACCES'],
      ['both', 'mprotect', [at, 2 * P, R | max(R)], 0],
      ['never again', 'mprotect', [at, 4 * P, RW], 'EACCES'],
      ['more than it may be', 'mprotect', [at, P, R | max(RW)], 'EACCES'],
      ['beyond its own', 'mprotect', [at, P, RW | max(R)], 'EOPNOTSUPP'],
      ['the others', 'mprotect', [at + 2 * P, 2 * P, RW], 0],
    ]);
    assert.deepEqual([poke(mp, at, 1), poke(mp, at + 2 * P, 1)], ['EFAULT', 0]);
    end();
  });
});

describe('minherit', () => {
  test('what a fork makes of a range, madvise10 of LTP among it', () => {
    const mp = up();
    assert.equal(anon_at(mp, AT, 4 * P), AT);
    rows(mp, [
      ['no such way', 'minherit', [AT, P, 4], 'EINVAL'],
      ['below 0', 'minherit', [AT, P, -1], 'EINVAL'],
      ['wraps', 'minherit', [-P, 2 * P, VM_INHERIT_COPY], 'EINVAL'],
      ['a hole', 'minherit', [AT + 9 * P, P, VM_INHERIT_COPY], 0],
    ]);
    const ways = [VM_INHERIT_SHARE, VM_INHERIT_COPY, VM_INHERIT_NONE, VM_INHERIT_ZERO];
    for (const [i, how] of ways.entries()) {
      assert.equal(call(mp, 'minherit', [AT + i * P, P, how]), 0);
      poke(mp, AT + i * P, 50 + i);
    }
    const child = user_fork(0, 1);
    const all = (of: vm_map_t) => ways.map((_, i) => peek(of, AT + i * P));
    assert.deepEqual(all(child), [50, 51, 'EFAULT', 0]);
    for (const i of [0, 1, 3]) assert.equal(poke(child, AT + i * P, 80 + i), 0);
    assert.deepEqual(all(mp), [80, 51, 52, 53]);
    assert.equal(call(child, 'minherit', [AT, 4 * P, VM_INHERIT_COPY]), 0);
    end();
  });
  test('shared_shadow_inval_test, eager and lazy, of several lengths', () => {
    up();
    let s = 0;
    for (const pages of [1, 2, 40]) {
      for (const eager of [true, false]) {
        const p1 = map_at(0);
        const at = anon(p1, pages * P, RW, MAP_ANON | MAP_SHARED);
        const last = at + (pages - 1) * P;
        for (const where of [at, last]) poke(p1, where, 1);
        assert.equal(call(p1, 'minherit', [at, pages * P, VM_INHERIT_COPY]), 0);
        const p2 = user_fork(0, ++s);
        if (eager) poke(p2, at, 1);
        assert.equal(call(p2, 'minherit', [at, pages * P, VM_INHERIT_SHARE]), 0);
        const p3 = user_fork(s, s + 1);
        const p4 = user_fork(0, s + 2);
        s += 2;
        for (const p of [p1, p2, p3, p4]) for (const where of [at, last]) peek(p, where);
        for (const [n, where] of [at, last, at].entries()) {
          poke(p3, where, 20 + n);
          assert.deepEqual(
            [p1, p2, p3, p4].map((of) => peek(of, where)),
            [1, 20 + n, 20 + n, 1],
          );
        }
        while (s > 0) map_drop(s--);
        s = 0;
        assert.equal(call(p1, 'munmap', [at, pages * P]), 0);
        spaces_check();
      }
    }
    end();
  });
  test('a device that is shared after it was read shows what one of the sharers writes', () => {
    const mp = up();
    const file = { object: vm_device_object(DEVICE_ZERO), readable: true, writable: false };
    const at = call(mp, 'mmap', [0, 2 * P, RW, MAP_PRIVATE, 3, 0], file) as number;
    assert.equal(peek(mp, at), 0);
    assert.equal(call(mp, 'minherit', [at, 2 * P, VM_INHERIT_SHARE]), 0);
    const child = user_fork(0, 1);
    assert.equal(poke(child, at, 5), 0);
    assert.equal(peek(mp, at), 5);
    assert.equal(peek(mp, at + P), 0);
    assert.equal(poke(child, at + P, 6), 0);
    assert.equal(peek(mp, at + P), 6);
    end();
  });
  test('mmap10, mmapstress09: shared memory is one over forks, private is not', () => {
    const mp = up();
    const shared = anon(mp, P, RW, MAP_ANON | MAP_SHARED);
    const own = anon(mp, P);
    poke(mp, own, 1);
    const child = user_fork(0, 1);
    const grandchild = user_fork(1, 2);
    poke(grandchild, shared, 9);
    poke(grandchild, own, 9);
    assert.deepEqual(
      [mp, child, grandchild].map((of) => peek(of, shared)),
      [9, 9, 9],
    );
    assert.deepEqual(
      [mp, child, grandchild].map((of) => peek(of, own)),
      [1, 1, 9],
    );
    assert.equal(call(child, 'munmap', [shared, P]), 0);
    assert.equal(peek(mp, shared), 9, 'vma01 and munmap of one sharer');
    end();
  });
});

describe('madvise', () => {
  test('madvise01, 02, 03, 05, and the errors of its table', () => {
    const mp = up();
    assert.equal(anon_at(mp, AT, 4 * P), AT);
    poke(mp, AT, 1);
    for (let advice = MADV_NORMAL; advice < MADV_PROTECT; advice++) {
      assert.equal(call(mp, 'madvise', [AT + 1, P, advice]), 0, `madvise01: ${advice}`);
      if (advice < MADV_FREE) assert.equal(peek(mp, AT), 1, 'madvise03: the data stays');
    }
    rows(mp, [
      ['madvise02: no such advice', 'madvise', [AT, P, MADV_PROTECT + 1], 'EINVAL'],
      ['below 0', 'madvise', [AT, P, -1], 'EINVAL'],
      ['outside', 'madvise', [2 ** 48, P, MADV_NORMAL], 'EINVAL'],
      ['wraps', 'madvise', [-P, 2 * P, MADV_NORMAL], 'EINVAL'],
      ['PROTECT', 'madvise', [AT, P, MADV_PROTECT], 'EPERM'],
      ['madvise02: a hole', 'madvise', [AT + 9 * P, P, MADV_SEQUENTIAL], 0],
      ['none', 'mprotect', [AT, 4 * P, 0], 0],
      ['madvise05: WILLNEED of PROT_NONE', 'madvise', [AT, 4 * P, MADV_WILLNEED], 0],
    ]);
    assert.equal(call(mp, 'madvise', [AT, P, MADV_NOCORE]), 0);
    end();
  });
  test('WILLNEED spares faults of pages that are there, and makes none', () => {
    const mp = up();
    const at = anon(mp, 8 * P, RW, MAP_ANON | MAP_SHARED);
    for (let i = 0; i < 4; i++) poke(mp, at + i * P, i + 1);
    const child = user_fork(0, 1);
    const resident = (): number => pmap.resident[vm_map.pmap[child]];
    assert.equal(resident(), 0);
    assert.equal(call(child, 'madvise', [at, 8 * P, MADV_WILLNEED]), 0);
    assert.equal(resident(), 4);
    assert.equal(poke(child, at, 77), 0);
    assert.equal(peek(mp, at), 77);
    end();
  });
  test('madvise09: FREE reaches only what nobody else may see', () => {
    const mp = up();
    const at = anon(mp, 2 * P);
    const vec = anon(mp, P);
    poke(mp, at, 5);
    assert.equal(call(mp, 'madvise', [at, P, MADV_FREE]), 0);
    const [bits] = mincore(mp, at, P, vec) as number[];
    assert.equal(bits & MINCORE_MODIFIED_OTHER, 0, 'it need not be kept');
    assert.equal(poke(mp, at, 6), 0);
    assert.ok((mincore(mp, at, P, vec) as number[])[0] & MINCORE_MODIFIED, 'until it is written');
    const child = user_fork(0, 1);
    assert.equal(peek(child, at), 6);
    assert.equal(call(child, 'madvise', [at, P, MADV_FREE]), 0);
    const [kept] = mincore(mp, at, P, vec) as number[];
    assert.ok(kept & MINCORE_MODIFIED_OTHER, 'the other one keeps it');
    assert.equal(peek(mp, at), 6);
    assert.equal(call(mp, 'madvise', [at, P, MADV_DONTNEED]), 0);
    assert.equal(peek(mp, at), 6);
    end();
  });
});

describe('mincore', () => {
  test('mincore01, 03, 04, and the errors of its table', () => {
    const mp = up();
    const at = anon(mp, 4 * P, RW, MAP_ANON | MAP_SHARED);
    const vec = anon(mp, 2 * P);
    const other = anon(mp, P);
    rows(mp, [
      ['above', 'mincore', [2 ** 48 - P, 2 * P, vec], 'ENOMEM'],
      ['wraps', 'mincore', [-P, 2 * P, vec], 'ENOMEM'],
      ['mincore01: huge', 'mincore', [at, 2 ** 62, vec], 'ENOMEM'],
      ['mincore01: a hole', 'mincore', [other, 3 * P, vec], 'ENOMEM'],
      ['unmapped', 'mincore', [AT, P, vec], 'ENOMEM'],
      ['unmapped, no page', 'mincore', [AT, 0, vec], 'ENOMEM'],
      ['no page', 'mincore', [at, 0, vec], 0],
      ['mincore01: a bad vector', 'mincore', [at, P, AT], 'EFAULT'],
      ['mincore01: unaligned', 'mincore', [at + 1, P, vec], 0],
    ]);
    assert.deepEqual(mincore(mp, at, 4 * P, vec), [0, 0, 0, 0], 'mincore03');
    const child = user_fork(0, 1);
    poke(child, at, 1);
    peek(child, at + 2 * P);
    const seen = mincore(mp, at, 4 * P, vec) as number[];
    assert.deepEqual(
      seen.map((b) => b & MINCORE_INCORE),
      [1, 0, 1, 0],
      'mincore04',
    );
    assert.ok(seen[0] & MINCORE_MODIFIED_OTHER && seen[0] & MINCORE_REFERENCED_OTHER);
    assert.equal(seen[0] & (MINCORE_MODIFIED | MINCORE_REFERENCED), 0, 'not by this one');
    const [own] = mincore(child, at, P, vec) as number[];
    assert.ok(own & MINCORE_MODIFIED && own & MINCORE_REFERENCED);
    // An unaligned address with a length that spills leaves the last page out.
    call(mp, 'mincore', [at + 1, P, vec + 8]);
    assert.equal(peek(mp, vec + 9), 0);
    end();
  });
  test('a vector over pages, and more pages than are looked at in one go', () => {
    const mp = up();
    const pages = 2500;
    const at = anon(mp, pages * P);
    const vec = anon(mp, 3 * P);
    const touched = [0, 1023, 1024, 2047, 2499];
    for (const i of touched) poke(mp, at + i * P, 1);
    const seen = mincore(mp, at, pages * P, vec + P - 7) as number[];
    const found = seen.flatMap((b, i) => (b & MINCORE_INCORE ? [i] : []));
    assert.deepEqual(found, touched);
    // What is seen through copies counts, and a vector may be among the pages that are asked about.
    const child = user_fork(0, 1);
    assert.ok((mincore(child, at + 1023 * P, P, vec) as number[])[0] & MINCORE_INCORE);
    const self = mincore(child, vec, 3 * P, vec + P - 1);
    assert.equal((self as number[]).length, 3);
    end();
  });
});

describe('break', () => {
  const DATA = 0x5555_5555_5000;
  test('brk01, brk02, sbrk01, sbrk02, and the errors of its table', () => {
    const mp = up();
    assert.equal(call(mp, 'break', [DATA]), 'ENOMEM', 'there is no data');
    assert.equal(vmspace_segments(mp, { data: { address: DATA, bytes: 0 } }), 0);
    const size = (): number => vm_map.dsize[mp];
    rows(mp, [
      ['the same', 'break', [DATA], DATA],
      ['below', 'break', [DATA - P], 'EINVAL'],
      ['brk01: grow', 'break', [DATA + 2 * P - 1], DATA + 2 * P],
      ['RLIMIT_DATA', 'break', [DATA + 128 * 2 ** 20 + 1], 'ENOMEM'],
      ['as far as it may', 'break', [DATA + 128 * 2 ** 20], 'ok'],
      ['sbrk02: above', 'break', [2 ** 48 + P], 'ENOMEM'],
      ['brk01: shrink', 'break', [DATA + P + 1], DATA + 2 * P],
    ]);
    assert.equal(size(), 2);
    assert.equal(poke(mp, DATA + 2 * P - 1, 3), 0);
    assert.equal(peek(mp, DATA + 2 * P), 'EFAULT');
    assert.equal(call(mp, 'break', [DATA + 4 * P]), DATA + 4 * P);
    assert.equal(call(mp, 'mprotect', [DATA + P, 2 * P, R]), 0);
    assert.equal(call(mp, 'break', [DATA + P]), DATA + P, 'brk02: across the split');
    assert.deepEqual(mapped(mp), [[DATA, 1]]);
    assert.deepEqual(sbrk(mp, 3 * P), { error: 0, value: DATA + P });
    assert.deepEqual(sbrk(mp, -P), { error: 0, value: DATA + 4 * P });
    assert.equal(sbrk(mp, 2 ** 40).error, 12, 'sbrk02');
    assert.deepEqual(sbrk(mp, 0), { error: 0, value: DATA + 3 * P });
    vmspace_limits(mp, { all: 4 * P });
    rows(mp, [['RLIMIT_AS', 'break', [DATA + 5 * P], 'ENOMEM']]);
    vmspace_limits(mp, { all: 2 ** 43 });
    assert.equal(anon_at(mp, DATA + 5 * P, P), DATA + 5 * P);
    rows(mp, [['mmapstress03: taken', 'break', [DATA + 6 * P], 'ENOMEM']]);
    assert.equal(poke(mp, DATA, 4), 0);
    const child = user_fork(0, 1);
    assert.deepEqual(sbrk(child, 0).value, DATA + 3 * P);
    assert.equal(call(child, 'break', [DATA]), DATA);
    assert.deepEqual([peek(child, DATA), peek(mp, DATA)], ['EFAULT', 4]);
    end();
  });
});

describe('no memory', () => {
  /** A small machine in which everything may be refused; a space with some of everything. */
  function small(): vm_map_t {
    const mp = up({ memory: '2M', options: { INVARIANTS: true, FAILPOINTS: true } });
    assert.equal(anon_at(mp, AT, 16 * P), AT);
    for (let i = 0; i < 16; i++) poke(mp, AT + i * P, i + 1);
    assert.equal(anon_at(mp, AT + 32 * P, P), AT + 32 * P);
    vmspace_segments(mp, { data: { address: 0x5555_0000_0000, bytes: 0 } });
    return mp;
  }
  const calls: readonly [string, number[]][] = [
    ['mmap', [AT + 3 * P, 2 * P, RW, ANON | MAP_FIXED, -1, 0]],
    ['mmap', [AT + 3 * P, 2 * P, RW, MAP_STACK | MAP_FIXED, -1, 0]],
    ['mmap', [AT + 64 * P, 2 * P, RW, MAP_ANON | MAP_SHARED, -1, 0]],
    ['mmap', [0, 2 * P, RW, MAP_STACK, -1, 0]],
    ['munmap', [AT + 3 * P, 2 * P]],
    ['mprotect', [AT + 3 * P, 2 * P, R]],
    ['mprotect', [AT + 3 * P, 2 * P, R | (R << PROT_MAX_SHIFT)]],
    ['minherit', [AT + 3 * P, 2 * P, VM_INHERIT_NONE]],
    ['madvise', [AT + 3 * P, 2 * P, MADV_SEQUENTIAL]],
    ['break', [0x5555_0000_0000 + 3 * P]],
  ];
  test('at any entry, object or page: ENOMEM, and nothing has changed', () => {
    let refused = 0;
    for (const [name, args] of calls) {
      const mp = small();
      for (const point of [map_failpoint, page_failpoint]) {
        for (let nth = 0; ; nth++) {
          const before = picture(mp);
          let left = nth;
          point.refuse = () => left-- <= 0;
          const answer = call(mp, name, args);
          point.refuse = null;
          spaces_check();
          if (answer !== 'ENOMEM') {
            assert.equal(typeof answer, 'number', `${name}: ${answer}`);
            break;
          }
          refused++;
          assert.deepEqual(picture(mp), before, `${name}, refusal ${nth}`);
          assert.deepEqual([peek(mp, AT + 3 * P), peek(mp, AT + 5 * P)], [4, 6]);
        }
      }
      end();
      shutdown();
    }
    assert.ok(refused >= calls.length, `${refused} refused`);
  });
  test('a page that mincore needs for its vector', () => {
    const mp = small();
    const vec = AT + 32 * P;
    page_failpoint.refuse = () => true;
    assert.equal(call(mp, 'mincore', [AT, 16 * P, vec]), 'ENOMEM');
    page_failpoint.refuse = null;
    assert.equal(call(mp, 'mincore', [AT, 16 * P, vec]), 0);
    end();
  });
});
test('the same calls in a checked machine', () => {
  const mp = up({ checked: true });
  const at = anon(mp, 4 * P, RW, MAP_ANON | MAP_SHARED);
  const vec = anon(mp, P);
  poke(mp, at, 1);
  const child = user_fork(0, 1);
  for (const [name, args] of [
    ['mprotect', [at, P, R | (R << PROT_MAX_SHIFT)]],
    ['minherit', [at, P, VM_INHERIT_ZERO]],
    ['madvise', [at, 4 * P, MADV_WILLNEED]],
    ['madvise', [at, 4 * P, MADV_FREE]],
    ['mincore', [at, 4 * P, vec]],
    ['munmap', [at + P, P]],
  ] as const) {
    assert.equal(call(child, name, args), 0, name);
  }
  assert.equal(vmspace_segments(mp, { data: { address: AT, bytes: 0 } }), 0);
  assert.equal(sbrk(mp, 2 * P).value, AT);
  assert.equal(typeof call(mp, 'mmap', [0, P, RW, MAP_STACK, -1, 0]), 'number');
  vmspace_limits(mp, { data: P });
  assert.equal(sbrk(mp, -P).error, 0);
  vmspace_exec(mp);
  end();
});
