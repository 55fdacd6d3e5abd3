/*
 * What becomes of an exception that leaves the kernel: it goes on to the caller if
 * nothing is left behind, and is a panic that names the call, the locks and the open
 * sections otherwise.  Exceptions are thrown where a fault or a callback would throw
 * them, once for each kind of thing that may be left, and in the allocator's own slow
 * paths.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { thr } from '../machine/cpu.ts';
import { EINVAL, KmemError } from '../machine/errno.ts';
import { KernelPanic } from '../machine/panic.ts';
import { mem } from '../machine/memory.ts';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { uma_keg, uma_zone } from '../h/uma.ts';
import { tree_rlock, tree_wlock } from '../observe/sysctl_tree.ts';
import { phys_root, vm_phys } from '../page/vm_phys.ts';
import { vm_page_alloc_run } from '../page/vm_page.ts';
import { bucket_failpoint } from '../uma/uma_bucket.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_zalloc, uma_zfree } from '../uma/uma_core.ts';
import { slab_failpoint } from '../uma/uma_keg.ts';
import { uma_zcreate } from '../uma/uma_zone.ts';
import { mtx_lock, mtx_unlock } from './kern_mutex.ts';
import { kernel_enter, kernel_leave, kernel_threw } from './subr_trap.ts';
import { undo_begin, undo_end } from './undo.ts';

beforeEach(() => boot({ memory: '8M', options: { FAILPOINTS: true } }));
afterEach(() => {
  bucket_failpoint.refuse = null;
  slab_failpoint.refuse = null;
  try {
    shutdown();
  } finally {
    abandon();
  }
});

/** What the caller of a kernel call gets when `fault` throws inside. */
function outcome(fault: () => void): unknown {
  const outer = kernel_enter();
  try {
    fault();
  } catch (e) {
    try {
      kernel_threw(e, outer, 'call');
    } catch (out) {
      return out;
    }
  }
  kernel_leave(outer);
  return null;
}
function panics(fault: () => void, text: RegExp): void {
  const e = outcome(() => {
    fault();
    throw new TypeError('a fault');
  });
  assert.ok(e instanceof KernelPanic, String(e));
  assert.match(e.message, text);
  assert.match(e.message, /call: left the kernel with .*: TypeError: a fault/);
}

describe('an exception that leaves the kernel', () => {
  test('goes on if nothing is left, and so do those of the kernel itself', () => {
    const k = uma_zone.keg[uma_zcreate('z', 64)];
    const own = new KmemError(EINVAL, 'x', 'y');
    const odd: unknown[] = [new TypeError('t'), 'a text', null, own];
    for (const e of odd) {
      const got = outcome(() => {
        mtx_lock(uma_keg.lock, k);
        undo_begin(uma_keg.lock, k);
        undo_end();
        mtx_unlock(uma_keg.lock, k);
        throw e;
      });
      assert.equal(got, e);
    }
    uma_check();
  });
  test('with a section and its lock: both are named', () => {
    const k = uma_zone.keg[uma_zcreate('z', 64)];
    panics(() => {
      mtx_lock(uma_keg.lock, k);
      undo_begin(uma_keg.lock, k);
    }, /an open section under 'UMA zone' at \d+, lock 'UMA zone' at \d+/);
  });
  test('with the lock of the free pages', () => {
    panics(() => mtx_lock(vm_phys.lock, phys_root()), /lock 'page free'/);
  });
  test('with the sysctl tree, alone', () => panics(tree_wlock, /lock 'sysctl tree' at \d+/));
  test('with the sysctl tree, shared', () => {
    panics(tree_rlock, /lock 'sysctl tree' at \d+, shared/);
  });
  test('with pages that belong to nobody', () => {
    panics(() => assert.notEqual(vm_page_alloc_run(2, 0), 0), /pages in its hand/);
  });
  test('from inside another call: judged at the outermost', () => {
    const k = uma_zone.keg[uma_zcreate('z', 64)];
    let inner: unknown = null;
    panics(() => {
      mtx_lock(uma_keg.lock, k); // the outer call's: it may well give it back
      inner = outcome(() => {
        throw new RangeError('deep');
      });
    }, /lock 'UMA zone'/);
    assert.ok(inner instanceof RangeError);
  });
});

describe('in the slow paths of the allocator', () => {
  test('a callback that throws: the zone is whole, and serves on', () => {
    const z = uma_zcreate('thrown', 100);
    const fault = (): boolean => {
      throw new TypeError('from a callback');
    };
    slab_failpoint.refuse = fault;
    assert.throws(() => uma_zalloc(z, M_NOWAIT), TypeError);
    slab_failpoint.refuse = null;
    bucket_failpoint.refuse = fault;
    assert.throws(() => uma_zalloc(z, M_NOWAIT), TypeError);
    bucket_failpoint.refuse = null;
    const item = uma_zalloc(z, M_NOWAIT);
    assert.notEqual(item, 0);
    mem.I32[item] = thr.cpu;
    uma_zfree(z, item);
    uma_check();
  });
});
