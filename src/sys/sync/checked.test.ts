/*
 * Shows that a checked boot finds a broken rule of each lock letter at the
 * access itself, and lets right code alone: one planted violation and one
 * right use for each letter, on records of this test.  That the kernel's own
 * code runs under the guards is shown in checked_run.test.ts.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { atomic_add, atomic_and, atomic_or, atomic_store } from '../machine/atomic.ts';
import { CPU_PARKED, cpu_claim, cpu_unclaim, pcpu, pcpu_of, thr } from '../machine/cpu.ts';
import { boot_alloc } from '../machine/header.ts';
import { KernelPanic } from '../machine/panic.ts';
import {
  add64,
  elem,
  field_word,
  guard,
  i32,
  lock_words,
  type Ptr,
  struct,
  u64,
  words,
} from '../machine/struct.ts';
import { checked_fresh, checked_letter, checked_owner, checked_publish } from './checked.ts';
import { MTX_WORDS, mtx_init, mtx_lock, mtx_unlock } from './kern_mutex.ts';
import { RW_WORDS, rw_init, rw_rlock, rw_runlock, rw_wlock, rw_wunlock } from './kern_rwlock.ts';
import { LC_USER_MTX, LC_USER_RW } from './lock_order.ts';
import { area, bring_up, leave, the_area } from './sync.test.lib.ts';

type rec_t = Ptr<'checked_rec'>;
type shared_t = Ptr<'checked_shared'>;
const rec = struct<rec_t>('checked_rec')({
  lock: lock_words(MTX_WORDS, 'user mtx', 'its own'),
  own: i32('s', 'under its lock'),
  list: words('s', 'several, under its lock', 4),
  wide: u64('s', '64 bits, under its lock'),
  count: i32('a', 'atomic'),
  name: i32('c', 'constant'),
  mine: i32('p', "one CPU's own"),
  other: i32('g', 'under the lock of the area'),
  both: i32('gs', 'read under either, written under both'),
  free: i32('-', 'anything goes'),
});
const shared = struct<shared_t>('checked_shared')({
  lock: lock_words(RW_WORDS, 'user rw', 'its own'),
  own: i32('s', 'under its lock'),
});
checked_letter('checked_rec', 'g', () => the_area() + area.mtx);
let owner = -1;
checked_owner('checked_rec', () => owner);

let r: rec_t;
let s: shared_t;
beforeEach(() => {
  bring_up({ options: { CHECKED: true } });
  const hook = guard.access;
  guard.access = null;
  owner = thr.cpu;
  r = boot_alloc(rec.sizeof, 'a record') as rec_t;
  s = boot_alloc(shared.sizeof, 'a record') as shared_t;
  mtx_init(rec.lock, r, LC_USER_MTX);
  rw_init(shared.lock, s, LC_USER_RW);
  guard.access = hook;
});
afterEach(() => {
  leave();
  guard.access = null;
});
/** The panic names structure, field, address, letter and the reason. */
function broken(run: () => void, field: string, at: number, letter: string, why: RegExp): void {
  assert.throws(run, (e) => {
    assert.ok(e instanceof KernelPanic, String(e));
    assert.ok(e.message.includes(`${field} at 0x${(at * 4).toString(16)}: `), e.message);
    assert.ok(e.message.includes(`(${letter})`), e.message);
    assert.match(e.message, why);
    return true;
  });
}

test('s: reading and writing without the lock', () => {
  mtx_lock(rec.lock, r);
  rec.own[r] = 3;
  assert.equal(rec.own[r], 3);
  mtx_unlock(rec.lock, r);
  broken(
    () => rec.own[r],
    'read of checked_rec.own',
    r,
    's',
    /lock 'user mtx' at 0x\w+ is not held/,
  );
});
test('s: writing without the lock', () => {
  broken(() => (rec.own[r] = 1), 'write to checked_rec.own', r, 's', /is not held/);
});
test('s: an array inside the record', () => {
  mtx_lock(rec.lock, r);
  rec.list[elem(r, 3)] = 9;
  mtx_unlock(rec.lock, r);
  broken(() => rec.list[elem(r, 3)], 'checked_rec.list', r + 3, 's', /is not held/);
});
test('s: a 64-bit field', () => {
  mtx_lock(rec.lock, r);
  add64(rec.wide, r, 5);
  mtx_unlock(rec.lock, r);
  broken(() => add64(rec.wide, r, 1), 'checked_rec.wide', r, 's', /is not held/);
});
test('s: a shared hold lets read', () => {
  rw_rlock(shared.lock, s);
  assert.equal(shared.own[s], 0);
  rw_runlock(shared.lock, s);
  rw_wlock(shared.lock, s);
  shared.own[s] = 4;
  rw_wunlock(shared.lock, s);
});
test('s: a shared hold does not let write', () => {
  rw_rlock(shared.lock, s);
  broken(() => (shared.own[s] = 4), 'write to checked_shared.own', s, 's', /only held shared/);
});
test('a: a plain store', () => {
  atomic_add(field_word(rec.count, r), 1);
  assert.equal(rec.count[r], 1, 'a plain look is a hint');
  broken(() => (rec.count[r] = 2), 'write to checked_rec.count', r, 'a', /plain store/);
});
test('c: set by the constructor, then never changed', () => {
  checked_fresh(r, rec.sizeof);
  rec.name[r] = 7;
  checked_publish(r);
  assert.equal(rec.name[r], 7);
  broken(() => (rec.name[r] = 8), 'write to checked_rec.name', r, 'c', /constant that is 7/);
});
test('p: a record of another CPU', () => {
  rec.mine[r] = 1;
  owner = 3;
  broken(() => rec.mine[r], 'read of checked_rec.mine', r, 'p', /cpu3's own/);
});
test('p: the CPU record of another, unless it is parked and claimed', () => {
  const other = pcpu_of(2);
  pcpu.critnest[thr.pc] = 0;
  const state = field_word(pcpu.state, other);
  atomic_store(state, CPU_PARKED);
  assert.equal(cpu_claim(2, 0), true);
  pcpu.critnest[other] = 0;
  cpu_unclaim(2);
  broken(() => (pcpu.critnest[other] = 0), 'pcpu.critnest', other, 'p', /cpu2's own/);
  atomic_and(state, 0);
  atomic_or(state, 64);
});
test('a letter that a floor explains', () => {
  mtx_lock(area.mtx, the_area());
  rec.other[r] = 1;
  mtx_unlock(area.mtx, the_area());
  broken(() => rec.other[r], 'checked_rec.other', r, 'g', /is not held/);
});
test('two letters: either lets read', () => {
  mtx_lock(rec.lock, r);
  assert.equal(rec.both[r], 0);
  mtx_unlock(rec.lock, r);
  mtx_lock(area.mtx, the_area());
  assert.equal(rec.both[r], 0);
  mtx_lock(rec.lock, r);
  rec.both[r] = 1;
  mtx_unlock(rec.lock, r);
  mtx_unlock(area.mtx, the_area());
});
test('two letters: one does not let write', () => {
  mtx_lock(rec.lock, r);
  broken(() => (rec.both[r] = 1), 'write to checked_rec.both', r, 'g', /is not held/);
});
test('-: anything goes; a record in the making: anything goes', () => {
  rec.free[r] = 1;
  checked_fresh(r, rec.sizeof);
  rec.name[r] = 2;
  rec.own[r] = 2;
  rec.count[r] = 2;
  checked_publish(r);
  broken(() => (rec.own[r] = 1), 'checked_rec.own', r, 's', /is not held/);
});
