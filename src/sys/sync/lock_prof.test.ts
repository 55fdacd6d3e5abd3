/*
 * Shows that the lock profile charges each acquisition to its place, in the
 * published layout: known numbers of locks taken here, and contention made by
 * a worker that waits for a lock this thread holds.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { atomic_load } from '../machine/atomic.ts';
import { host_sleep } from '../machine/host.ts';
import {
  type SysctlDecl,
  sysctl_decls,
  sysctl_number,
  sysctl_set,
} from '../machine/sysctl_decl.ts';
import { until, within } from '../machine/workers.test.lib.ts';
import { mtx_lock, mtx_trylock, mtx_unlock } from './kern_mutex.ts';
import { rw_rlock, rw_runlock } from './kern_rwlock.ts';
import { area, type area_t, bring_up, leave, start, the_area } from './sync.test.lib.ts';

let handle: ReturnType<typeof bring_up>;
let t: area_t;
const decl = (leaf: string): SysctlDecl =>
  sysctl_decls.find((d) => d.name === `debug.mutex.prof.${leaf}`) as SysctlDecl;
beforeEach(() => {
  handle = bring_up({ options: { MUTEX_PROFILING: true }, memory: '64M' });
  t = the_area();
  sysctl_set(decl('enable'), 1);
});
afterEach(leave);

function read(leaf: string, written: Uint8Array | null = null): Uint8Array {
  let got = new Uint8Array();
  const out = (bytes: Uint8Array): number => {
    got = Uint8Array.of(...got, ...bytes);
    return 0;
  };
  assert.equal(decl(leaf).handler?.({ out, new_bytes: written, rest: [], wire: () => 0 }), 0);
  return got;
}
const number = (leaf: string): number => new DataView(read(leaf).buffer).getInt32(0, true);
interface Row {
  max: number;
  total: number;
  count: number;
  avg: number;
  hold: number;
  lock: number;
  name: string;
}
function rows(): Row[] {
  const text = new TextDecoder().decode(read('stats'));
  assert.ok(text.endsWith('\0'));
  const [empty, header, ...lines] = text.slice(0, -1).split('\n');
  assert.equal(empty, '');
  assert.equal(header, '   max        total       count   avg     cnt_hold     cnt_lock name');
  assert.equal(lines.pop(), '');
  return lines.map((line) => {
    assert.match(
      line,
      /^(?: {0,5}\d{1,6}|\d{7,}) [ \d]{12} [ \d]{11} [ \d]{5,}(?: [ \d]{12}){2} \S+:\d+ \(.+\)$/,
    );
    const [max, total, count, avg, hold, lock] = line.trim().split(/\s+/).map(Number);
    return {
      max,
      total,
      count,
      avg,
      hold,
      lock,
      name: line.trim().split(/\s+/).slice(6).join(' '),
    };
  });
}

test('nothing measured', () => {
  assert.equal(new TextDecoder().decode(read('stats')), 'No locking recorded\0');
  sysctl_set(decl('enable'), 0);
  mtx_lock(area.mtx, t);
  mtx_unlock(area.mtx, t);
  assert.equal(new TextDecoder().decode(read('stats')), 'No locking recorded\0');
});

test('counts and times by place and class', () => {
  for (let i = 0; i < 5; i++) {
    mtx_lock(area.mtx, t);
    if (i === 0) host_sleep(3);
    mtx_unlock(area.mtx, t);
  }
  rw_rlock(area.rw, t);
  rw_runlock(area.rw, t);
  assert.equal(mtx_trylock(area.undo, t), true);
  mtx_unlock(area.undo, t);
  const all = rows();
  assert.equal(all.length, 3);
  const [mtx, rw, undo] = all;
  assert.match(mtx.name, /^lock_prof\.test\.ts:\d+ \(user mtx\)$/);
  assert.match(rw.name, /\(user rw\)$/);
  assert.match(undo.name, /\(malloc\)$/);
  assert.deepEqual([mtx.count, rw.count, undo.count], [5, 1, 1]);
  assert.ok(mtx.max >= 2900 && mtx.total >= mtx.max, JSON.stringify(mtx));
  assert.ok(Math.abs(mtx.avg - mtx.total / 5) <= 1);
  assert.deepEqual([mtx.hold, mtx.lock], [0, 0]);
  assert.equal(number('acquisitions'), 7);
  assert.equal(number('records'), 3);
  assert.equal(number('maxrecords'), 1000);
  assert.equal(number('hashsize'), 1009);
  assert.equal(number('rejected'), 0);
});

test('contention: the holder gets cnt_hold, who found it held gets cnt_lock', async () => {
  mtx_lock(area.mtx, t);
  const waiter = start(handle, 'take');
  await within(waiter.up, 'the waiter');
  await until(() => (atomic_load(t + area.mtx) & 1) !== 0, 'the waiter sleeps');
  mtx_unlock(area.mtx, t);
  assert.equal((await within(waiter.done, 'the waiter')).got, true);
  const mine = rows().find((r) => r.name.startsWith('lock_prof.test.ts')) as Row;
  const other = rows().find((r) => r.name.startsWith('sync.test.worker.ts')) as Row;
  assert.deepEqual([mine.count, mine.hold, mine.lock], [1, 1, 0]);
  assert.deepEqual([other.count, other.hold, other.lock], [1, 0, 1]);
});

test('reset forgets; a read of it does not', () => {
  mtx_lock(area.mtx, t);
  mtx_unlock(area.mtx, t);
  read('reset');
  read('reset', sysctl_number('int', 0));
  assert.equal(number('acquisitions'), 1);
  read('reset', sysctl_number('int', 1));
  assert.equal(new TextDecoder().decode(read('stats')), 'No locking recorded\0');
  assert.equal(number('records'), 0);
  mtx_lock(area.mtx, t);
  mtx_unlock(area.mtx, t);
  assert.equal(number('acquisitions'), 1);
});

test('more places than records: rejected ones are counted', () => {
  leave();
  bring_up({ options: { MUTEX_PROFILING: true }, memory: '1M' });
  t = the_area();
  sysctl_set(decl('enable'), 1);
  assert.equal(number('maxrecords'), 16);
  const lock = area.mtx;
  const places = Array.from({ length: 20 }, (_, i) => {
    const source = `${'\n'.repeat(i)}lock(f, p); unlock(f, p);`;
    return new Function('lock', 'unlock', 'f', 'p', `${source}\n//# sourceURL=place.js`);
  });
  for (const place of places) place(mtx_lock, mtx_unlock, lock, t);
  assert.equal(number('records'), 16);
  assert.equal(number('acquisitions') + number('rejected'), 20);
  assert.equal(number('rejected'), 4);
});
