/*
 * The registry of names, by itself: what is made is found, what is half made is
 * taken back, at whatever point memory ends; users are threads and not slots;
 * locks are found by their owner and called by their name.  Deaths are shown by
 * sim/scripts/registry_*.ts and by src/lib/making.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { boot, shutdown } from '../boot/whole.ts';
import { pcpu, thr, UNDO_LEVELS, UNDO_PAIRS } from '../machine/cpu.ts';
import { mem } from '../machine/memory.ts';
import { elem, field_word, field_word64, type LockField } from '../machine/struct.ts';
import {
  REG_MAKING,
  REG_STATES,
  reg_cv,
  reg_entry,
  type reg_entry_t,
  reg_queue,
  reg_records,
  reg_root,
  reg_value,
  reg_zone,
} from '../h/registry.ts';
import { PK_WIRED } from '../h/vm_page.ts';
import { account, account_text } from '../kmem/kmem.test.lib.ts';
import { page_failpoint, vm_page_census } from '../page/vm_page.ts';
import { mtx_init, mtx_lock_word, mtx_unlock_word } from '../sync/kern_mutex.ts';
import { rw_init, rw_rlock, rw_runlock, rw_wlock, rw_wunlock } from '../sync/kern_rwlock.ts';
import { LC_USER_MTX, LC_USER_SX } from '../sync/lock_order.ts';
import { undo_most } from '../sync/undo.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { uma, uma_root } from '../uma/uma_int.ts';
import { slab_failpoint } from '../uma/uma_keg.ts';
import {
  registry_add,
  registry_check,
  registry_end,
  registry_find,
  registry_key,
  registry_lock,
  registry_lock_label,
  registry_locks_held,
  registry_name,
  registry_ready,
  registry_root,
  registry_settle,
  registry_shape,
  registry_unlock,
  registry_use,
  registry_used_by_others,
} from './kern_registry.ts';
import { queue_init } from './kern_queue.ts';
import { part_columns, part_numbers, part_zone } from './kern_registry_parts.ts';

const WORD = 0 as LockField<number>;
const CAPACITY = 3000;

beforeEach(() => {
  boot({ memory: '4M', cpus: 2, options: { INVARIANTS: true, FAILPOINTS: true } });
});
/** Pairs of the longest undo section so far. */
let longest = 0;
afterEach(() => {
  longest = Math.max(longest, undo_most());
  page_failpoint.refuse = null;
  slab_failpoint.refuse = null;
  shutdown();
});

test('the structure of each kind lies over the entry, part by part', () => {
  const e = 64 as reg_entry_t;
  const first = field_word(reg_entry.value, e);
  assert.equal(field_word(reg_zone.zone, e), first);
  assert.equal(field_word(reg_records.zone, e), first);
  assert.equal(field_word(reg_queue.ring, e), first);
  assert.equal(field_word64(reg_value.value, e), first);
  assert.equal(first % 2, 0, 'a double may lie there');
  assert.equal(reg_queue.lock, reg_entry.lock);
  assert.equal(field_word(reg_queue.head, e), field_word(reg_entry.count, e));
  // Whoever sleeps on a channel is woken when the entry ends: registry_end wakes these words.
  const last = field_word(reg_entry.count, elem(e, REG_STATES - 1));
  for (const channel of [reg_queue.items, reg_queue.space, reg_cv.signal]) {
    const word = field_word(channel, e);
    assert.ok(word >= field_word(reg_entry.count, e) && word <= last);
  }
  for (const kind of [reg_zone, reg_records, reg_queue, reg_value, reg_cv]) {
    assert.ok(kind.sizeof <= reg_entry.sizeof);
  }
});

/** Makes records, a zone and a queue; how many of them came to be. */
function make_all(): number {
  let made = 0;
  const make = (kind: 'records' | 'zone' | 'queue', build: (e: reg_entry_t) => boolean): void => {
    registry_lock();
    const e = registry_add(registry_key(kind, 'x'), 'shape');
    if (e !== 0 && build(e)) {
      registry_ready(e);
      made++;
    } else if (e !== 0) registry_end(e);
    registry_unlock();
  };
  make('records', (e) => {
    const columns = [CAPACITY, CAPACITY * 8];
    return part_numbers(e, 'x', CAPACITY) === 0 && part_columns(e, 'columns', columns) === 0;
  });
  make('zone', (e) => part_zone(e, 'x', 300, 8, 50) === 0);
  make('queue', (e) => queue_init(e, 600) === 0);
  return made;
}
function end_all(): void {
  registry_lock();
  for (const kind of ['records', 'zone', 'queue'] as const) {
    const e = registry_find(registry_key(kind, 'x'));
    if (e !== 0) registry_end(e);
  }
  registry_unlock();
  registry_settle();
}
function nothing_left(zones: number, what: string): void {
  registry_check();
  assert.equal(reg_root.count[registry_root()], 0, what);
  assert.equal(uma_root.nzones[uma()], zones, what);
  assert.deepEqual([pcpu.in_hand_n[thr.pc], pcpu.in_hand_items[thr.pc]], [0, 0], what);
  const a = account();
  assert.equal(account_text(a), '', what);
  assert.equal(vm_page_census()[PK_WIRED], 0, what);
}

describe('parts', () => {
  test('whatever request is refused, what was made goes back', () => {
    const zones = uma_root.nzones[uma()];
    for (const point of ['page', 'slab'] as const) {
      let calls = 0;
      for (let refused = 1; ; refused++) {
        uma_reclaim();
        calls = 0;
        const refuse = (): boolean => ++calls >= refused; // this one and all that follow
        if (point === 'page') page_failpoint.refuse = refuse;
        else slab_failpoint.refuse = refuse;
        const made = make_all();
        page_failpoint.refuse = null;
        slab_failpoint.refuse = null;
        end_all();
        nothing_left(zones, `${point} ${refused}`);
        if (calls < refused) {
          assert.equal(made, 3, 'nothing was refused');
          break;
        }
      }
      assert.ok(calls > 5, `only ${calls} requests of a ${point}`);
    }
  });

  test('an exception while making: the thread takes its work back itself', () => {
    const zones = uma_root.nzones[uma()];
    registry_lock();
    const e = registry_add(registry_key('records', 'x'), 'shape');
    assert.equal(part_numbers(e, 'x', CAPACITY), 0);
    assert.equal(reg_entry.state[e], REG_MAKING);
    registry_unlock(); // as the façade does when `build` throws
    registry_settle();
    nothing_left(zones, 'after the exception');
  });
});

describe('names', () => {
  test('found by kind and name, with the shape; many in a bucket', () => {
    registry_lock();
    for (let i = 0; i < 300; i++) {
      const e = registry_add(registry_key(i % 2 ? 'root' : 'condition', `näme ${i}`), `shape ${i}`);
      registry_ready(e);
    }
    for (let i = 0; i < 300; i++) {
      const kind = i % 2 ? 'root' : 'condition';
      const e = registry_find(registry_key(kind, `näme ${i}`));
      assert.equal(registry_name(e), `näme ${i}`);
      assert.equal(registry_shape(e), `shape ${i}`);
      assert.equal(registry_find(registry_key('mutex', `näme ${i}`)), 0);
      if (i % 3 === 0) registry_end(e);
    }
    assert.equal(reg_root.count[registry_root()], 200);
    registry_unlock();
    registry_check();
  });

  test('the tid of an earlier owner of the slot is no user', () => {
    registry_lock();
    const e = registry_add(registry_key('condition', 'c'), '');
    registry_ready(e);
    registry_use(e, true);
    assert.equal(registry_used_by_others(e), false);
    // CPU 1 as an earlier thread had it: the incarnation is not the slot's any more.
    mem.I32[e + reg_entry.sizeof + 1] = (1 << 11) | (2 << 3);
    assert.equal(registry_used_by_others(e), false);
    mem.I32[e + reg_entry.sizeof + 1] = 0;
    registry_unlock();
  });
});

test('locks are found by their owner, and called by their name', () => {
  registry_lock();
  const entry = (kind: 'mutex' | 'rwlock', name: string): number => {
    const e = registry_add(registry_key(kind, name), kind);
    if (kind === 'mutex') mtx_init(reg_entry.lock, e, LC_USER_MTX);
    else rw_init(reg_entry.lock, e, LC_USER_SX);
    registry_ready(e);
    return e + reg_entry.lock;
  };
  const [m, free, r, w] = [
    entry('mutex', 'index'),
    entry('mutex', 'free'),
    entry('rwlock', 'read'),
    entry('rwlock', 'write'),
  ];
  registry_unlock();
  assert.equal(registry_lock_label(m), "mutex 'index'");
  assert.equal(registry_lock_label(w), "rwlock 'write'");
  assert.equal(registry_lock_label(m + 1), '');
  rw_rlock(WORD, r);
  rw_wlock(WORD, w);
  mtx_lock_word(m, Number.POSITIVE_INFINITY);
  const held = ["mutex 'index'", "rwlock 'read'", "rwlock 'write'"];
  assert.deepEqual(registry_locks_held().sort(), held);
  mtx_unlock_word(m);
  rw_wunlock(WORD, w);
  rw_runlock(WORD, r);
  assert.notEqual(free, m);
});

test('the sections of all this leave room in the undo log', (c) => {
  c.diagnostic(`longest undo section: ${longest} pairs of ${UNDO_PAIRS}`);
  assert.ok(longest > 0 && longest <= UNDO_PAIRS / UNDO_LEVELS, `${longest} pairs`);
});
