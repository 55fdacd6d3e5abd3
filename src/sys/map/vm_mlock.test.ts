/*
 * Shows: mlock, munlock, mlockall, munlockall and vslock answer as the manual pages say, in their
 * order of checks; a call that fails changes nothing; limits hold; locks do not nest, are not
 * inherited, and go with the mapping; what is mapped later is locked if that was asked for.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { abandon } from '../boot/whole.ts';
import { MAP_GUARD, MAP_STACK, MCL_CURRENT, MCL_FUTURE, MS_INVALIDATE } from '../h/mman.ts';
import { KERN_SUCCESS, vm_map, type vm_map_t } from '../h/vm_map.ts';
import { VM_PROT_NONE } from '../h/vm_prot.ts';
import { vm_page_wire_count } from '../page/vm_pageq.ts';
import { map_drop } from './vm_map.test.lib.ts';
import { vmspace_exec } from './vm_map_fork.ts';
import { vslock, vsunlock } from './vm_mlock.ts';
import { spaces_check } from './vm_space.test.lib.ts';
import {
  ANON,
  AT,
  anon,
  anon_at,
  call,
  end,
  mincore,
  P,
  peek,
  poke,
  R,
  RW,
  rows,
  set,
  up,
  user_fork,
  W,
} from './vm_syscalls.test.lib.ts';
import { vmspace_limits, vmspace_segments } from './vm_unix.ts';
import { EFAULT, EINVAL, ENOMEM } from '../machine/errno.ts';
import { wired_max } from './vm_window.ts';

let mp: vm_map_t;
beforeEach(() => {
  mp = up();
});
afterEach(() => abandon());
const locked = (): number => vm_map.wired[mp];
const BOTH = MCL_CURRENT | MCL_FUTURE;

describe('mlock and munlock', () => {
  test('each answer, in the order of its checks', () => {
    anon_at(mp, AT, 4 * P);
    anon_at(mp, AT + 5 * P, P);
    anon_at(mp, AT + 6 * P, P, VM_PROT_NONE);
    rows(mp, [
      ['nothing', 'mlock', [AT, 0], 0],
      ['nothing, where nothing is mapped', 'mlock', [P, 0], 0],
      ['it wraps', 'mlock', [-P, 2 * P], 'EINVAL'],
      ['more than anybody may', 'mlock', [AT, 2 ** 40], 'ENOMEM'],
      ['a hole in the middle', 'mlock', [AT, 6 * P], 'ENOMEM'],
      ['a hole at the end', 'mlock', [AT + 3 * P, 2 * P], 'ENOMEM'],
      ['nothing there', 'mlock', [AT + 2 ** 30, P], 'ENOMEM'],
      ['addresses of no bank', 'mlock', [2 ** 47 - P, P], 'ENOMEM'],
      ['what nobody may use', 'mlock', [AT + 5 * P, 2 * P], 'ENOMEM'],
      ['unlocked, never locked', 'munlock', [AT, 4 * P], 0],
      ['unlocked, a hole', 'munlock', [AT, 5 * P], 'ENOMEM'],
      ['unlocked, it wraps', 'munlock', [-P, 2 * P], 'EINVAL'],
      ['unlocked, nothing', 'munlock', [AT, 0], 0],
    ]);
    assert.equal(locked(), 0);
    rows(mp, [['from inside a page to inside another', 'mlock', [AT + 100, P], 0]]);
    assert.equal(locked(), 2);
    set('security.bsd.unprivileged_mlock', 0);
    rows(mp, [
      ['nobody may lock', 'mlock', [AT, P], 'EPERM'],
      ['not even nothing', 'mlock', [AT, 0], 'EPERM'],
      ['nor unlock', 'munlock', [AT, P], 'EPERM'],
      ['all', 'mlockall', [MCL_CURRENT], 'EPERM'],
      ['what makes no sense first', 'mlockall', [0], 'EINVAL'],
      ['all', 'munlockall', [], 'EPERM'],
    ]);
    set('security.bsd.unprivileged_mlock', 1);
    assert.equal(call(mp, 'munlock', [AT, 4 * P]), 0);
    end();
  });
  test('limits: of a space, of all of them and windows', () => {
    const most = wired_max();
    anon_at(mp, AT, 8 * P);
    assert.equal(call(mp, 'mlock', [AT, (most + 1) * P]), 'ENOMEM', 'vm.max_wired');
    vmspace_limits(mp, { memlock: 4 * P });
    assert.equal(call(mp, 'mlock', [AT, 5 * P]), 'ENOMEM');
    assert.equal(call(mp, 'mlock', [AT, 3 * P]), 0);
    assert.equal(call(mp, 'mlock', [AT, 3 * P]), 'ENOMEM', 'what is locked counts twice');
    assert.equal(call(mp, 'mlock', [AT + 3 * P, P]), 0);
    assert.equal(call(mp, 'mlock', [AT + 4 * P, P]), 'ENOMEM');
    assert.equal(locked(), 4);
    vmspace_limits(mp, { memlock: 100 * P });
    set('vm.max_wired', 6);
    assert.equal(call(mp, 'mlock', [AT, 3 * P]), 'EAGAIN');
    assert.equal(call(mp, 'mlock', [AT + 4 * P, 2 * P]), 0);
    assert.equal(call(mp, 'mlock', [AT + 6 * P, P]), 'EAGAIN');
    assert.equal(locked(), 6);
    assert.equal(call(mp, 'munlockall', []), 0);
    assert.equal(locked(), 0);
    end();
  });
  test('locks do not nest, and stay where rights come and go', () => {
    const at = anon(mp, 4 * P);
    for (let n = 0; n < 3; n++) assert.equal(call(mp, 'mlock', [at, 4 * P]), 0);
    for (const prot of [R, RW, R, RW, VM_PROT_NONE, RW]) {
      assert.equal(call(mp, 'mprotect', [at, 2 * P, prot]), 0);
      spaces_check();
    }
    assert.equal(locked(), 4);
    assert.equal(call(mp, 'munlock', [at, 4 * P]), 0);
    assert.equal(locked(), 0);
    assert.equal(vm_page_wire_count(), 0);
    end();
  });
  test('pages that may only be written to, and of a file that is shared, can be locked', () => {
    const at = anon(mp, 3 * P, W);
    assert.equal(call(mp, 'mlock', [at, 3 * P]), 0);
    assert.equal(call(mp, 'msync', [at, 3 * P, MS_INVALIDATE]), 'EBUSY');
    assert.equal(call(mp, 'munlock', [at, 3 * P]), 0);
    assert.equal(call(mp, 'msync', [at, 3 * P, MS_INVALIDATE]), 0);
    end();
  });
  test('what is locked is in memory: RES is its size, whatever was used before', () => {
    const at = anon(mp, 40 * P);
    const vec = anon(mp, P);
    poke(mp, at + 5 * P, 1);
    assert.equal(call(mp, 'mlock', [at, 40 * P]), 0);
    assert.ok((mincore(mp, at, 40 * P, vec) as number[]).every((b) => (b & 1) !== 0));
    poke(mp, vec, 0);
    assert.equal(vm_map.size[mp], 41);
    assert.equal(locked(), 40);
    assert.equal(call(mp, 'munmap', [at + 10 * P, 10 * P]), 0);
    assert.equal(locked(), 30);
    end();
  });
  test('a fork inherits no lock; both write to pages of their own', () => {
    const at = anon(mp, 4 * P);
    poke(mp, at, 7);
    assert.equal(call(mp, 'mlockall', [BOTH]), 0);
    const child = user_fork(0, 1);
    assert.equal(vm_map.wired[child], 0);
    assert.equal(vm_map.wire_future[child], 0);
    poke(child, at, 8);
    poke(mp, at, 9);
    assert.deepEqual([peek(mp, at), peek(child, at)], [9, 8]);
    anon(child, P);
    assert.equal(vm_map.wired[child], 0);
    map_drop(1);
    assert.equal(locked(), 4);
    end();
  });
  test('over and over: nothing is left wired, and no entry', () => {
    const at = anon(mp, 16 * P);
    const before = vm_map.nentries[mp];
    for (let n = 0; n < 50; n++) {
      const i = n % 13;
      assert.equal(call(mp, 'mlock', [at + i * P, 3 * P]), 0);
      assert.equal(call(mp, 'munlock', [at + ((i * 7) % 13) * P, 3 * P]), 0);
    }
    assert.equal(call(mp, 'munlock', [at, 16 * P]), 0);
    assert.equal(vm_map.nentries[mp], before);
    assert.equal(vm_page_wire_count(), 0);
    for (const bytes of [1, 1024, 16 * P]) {
      assert.equal(call(mp, 'mlock', [at, bytes]), 0);
      assert.equal(call(mp, 'munlock', [at, bytes]), 0);
    }
    end();
  });
});

describe('mlockall and munlockall', () => {
  test('each answer', () => {
    anon_at(mp, AT, 4 * P);
    anon_at(mp, AT + 8 * P, 4 * P, VM_PROT_NONE);
    call(mp, 'mmap', [0, 4 * P, 0, MAP_GUARD, -1, 0]);
    rows(mp, [
      ['nothing', 'mlockall', [0], 'EINVAL'],
      ['something unknown', 'mlockall', [4], 'EINVAL'],
      ['with something known', 'mlockall', [MCL_CURRENT | 8], 'EINVAL'],
      ['all unlocked', 'munlockall', [], 0],
    ]);
    vmspace_limits(mp, { memlock: 4 * P });
    assert.equal(call(mp, 'mlockall', [MCL_CURRENT]), 'ENOMEM');
    assert.equal(call(mp, 'mlockall', [BOTH]), 'ENOMEM');
    assert.equal(vm_map.wire_future[mp], 0);
    vmspace_limits(mp, { memlock: 400 * P });
    set('vm.max_wired', 3);
    assert.equal(call(mp, 'mlockall', [BOTH]), 'EAGAIN');
    assert.equal(vm_map.wire_future[mp], 1, 'that stays');
    set('vm.max_wired', 400);
    assert.equal(call(mp, 'mlockall', [MCL_CURRENT]), 0);
    assert.equal(vm_map.wire_future[mp], 0, 'the last call says what it is');
    assert.equal(locked(), 4, 'what nobody may use is passed over');
    assert.equal(call(mp, 'munlockall', []), 0);
    assert.equal(locked(), 0);
    end();
  });
  test('what is mapped later is locked, until munlockall', () => {
    const first = anon(mp, 2 * P);
    assert.equal(call(mp, 'mlockall', [MCL_FUTURE]), 0);
    assert.equal(locked(), 0, 'what is there is not touched');
    const at = anon(mp, 4 * P);
    assert.equal(locked(), 4);
    anon_at(mp, at, 2 * P);
    assert.equal(locked(), 4, 'in place of what was locked');
    anon(mp, 3 * P, VM_PROT_NONE);
    assert.equal(locked(), 4);
    assert.equal(call(mp, 'munlockall', []), 0);
    anon(mp, P);
    assert.equal(locked(), 0);
    poke(mp, first, 1);
    end();
  });
  test('a mapping that would go beyond a limit is not made', () => {
    assert.equal(call(mp, 'mlockall', [MCL_FUTURE]), 0);
    vmspace_limits(mp, { memlock: 4 * P });
    anon(mp, 3 * P);
    const entries = vm_map.nentries[mp];
    assert.equal(call(mp, 'mmap', [0, 2 * P, RW, ANON, -1, 0]), 'ENOMEM');
    vmspace_limits(mp, { memlock: 400 * P });
    set('vm.max_wired', 4);
    assert.equal(call(mp, 'mmap', [0, 2 * P, RW, ANON, -1, 0]), 'EAGAIN');
    assert.equal(vm_map.nentries[mp], entries);
    assert.equal(locked(), 3);
    end();
  });
  test('the break, and a stack that grows', () => {
    const at = anon(mp, P);
    const data = at + 64 * P;
    anon_at(mp, data, P);
    vmspace_segments(mp, { data: { address: data, bytes: P } });
    assert.equal(call(mp, 'mlockall', [MCL_FUTURE]), 0);
    assert.equal(call(mp, 'break', [data + 5 * P]), data + 5 * P);
    assert.equal(locked(), 4);
    vmspace_limits(mp, { memlock: 6 * P });
    assert.equal(call(mp, 'break', [data + 20 * P]), 'ENOMEM');
    assert.equal(vm_map.dsize[mp], 5);
    assert.equal(locked(), 4);
    vmspace_limits(mp, { memlock: 400 * P });
    set('kern.sgrowsiz', 4 * P);
    const stack = call(mp, 'mmap', [0, 64 * P, RW, ANON | MAP_STACK, -1, 0]) as number;
    assert.equal(locked(), 8, 'of a stack what there is');
    assert.equal(poke(mp, stack + 59 * P, 1), 0);
    assert.equal(locked(), 12, 'and what it grows by');
    vmspace_limits(mp, { memlock: 13 * P });
    assert.equal(poke(mp, stack + 50 * P, 1), 'EFAULT');
    assert.equal(locked(), 12);
    end();
  });
  test('exec forgets it, with all that is mapped', () => {
    anon(mp, 4 * P);
    assert.equal(call(mp, 'mlockall', [BOTH]), 0);
    assert.equal(vmspace_exec(mp), KERN_SUCCESS);
    assert.deepEqual([locked(), vm_map.wire_future[mp], vm_page_wire_count()], [0, 0, 0]);
    anon(mp, P);
    assert.equal(locked(), 0);
    end();
  });
});

test('vslock: the kernel holds a buffer, within the same limits', () => {
  anon_at(mp, AT, 4 * P);
  assert.equal(vslock(mp, -P, 2 * P), EINVAL);
  assert.equal(vslock(mp, AT, (wired_max() + 1) * P), ENOMEM);
  assert.equal(vslock(mp, AT + 3 * P, 2 * P), EFAULT);
  vmspace_limits(mp, { memlock: 3 * P });
  assert.equal(vslock(mp, AT, 4 * P), ENOMEM);
  assert.equal(vslock(mp, AT + 100, 2 * P), 0);
  assert.equal(locked(), 3);
  assert.equal(vsunlock(mp, AT, 2 * P), EINVAL);
  assert.equal(vsunlock(mp, AT + 100, 2 * P), 0);
  assert.equal(vsunlock(mp, AT + 100, 2 * P), EINVAL);
  assert.equal(locked(), 0);
  assert.equal(vslock(mp, AT, 0), 0);
  assert.equal(vsunlock(mp, AT, 0), 0);
  end();
});
