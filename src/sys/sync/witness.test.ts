/*
 * Shows that WITNESS finds each kind of mistake it is made for, once, with
 * both stacks, and stays silent about what is right.  Mistakes are planted on
 * one CPU, on two, and in orders that only a third lock connects; the reports
 * are caught and read.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { critical_enter, critical_exit } from '../machine/cpu.ts';
import { M, machine, ROOT_WITNESS } from '../machine/header.ts';
import { elem, field_word } from '../machine/struct.ts';
import { type SysctlDecl, sysctl_decls, sysctl_get, sysctl_set } from '../machine/sysctl_decl.ts';
import { within } from '../machine/workers.test.lib.ts';
import { mtx_init, mtx_lock, mtx_trylock, mtx_unlock } from './kern_mutex.ts';
import {
  rw_downgrade,
  rw_rlock,
  rw_runlock,
  rw_try_upgrade,
  rw_wlock,
  rw_wunlock,
} from './kern_rwlock.ts';
import { LC_MALLOC, LC_USER_MTX } from './lock_order.ts';
import { msleep } from './subr_sleepqueue.ts';
import { area, type area_t, bring_up, leave, start, the_area } from './sync.test.lib.ts';
import { witness_console, witness_held, witness_reports } from './witness.ts';

let reports: string[] = [];
let t: area_t;
beforeEach(() => {
  reports = [];
  witness_console((text) => reports.push(text));
  bring_up({ options: { WITNESS: true } });
  t = the_area();
});
afterEach(() => {
  leave();
  witness_console(null);
});
const decl = (name: string): SysctlDecl => sysctl_decls.find((d) => d.name === name) as SysctlDecl;
function read(name: string): string {
  let text = '';
  const out = (bytes: Uint8Array): number => {
    text += new TextDecoder().decode(bytes);
    return 0;
  };
  decl(name).handler?.({ out, new_bytes: null, rest: [], wire: () => 0 });
  return text;
}
function number(name: string): number {
  let n = Number.NaN;
  const out = (bytes: Uint8Array): number => {
    n = new DataView(bytes.buffer).getInt32(0, true);
    return 0;
  };
  decl(name).handler?.({ out, new_bytes: null, rest: [], wire: () => 0 });
  return n;
}
function established(): void {
  mtx_lock(area.undo, t);
  mtx_lock(area.zone, t);
  mtx_unlock(area.zone, t);
  mtx_unlock(area.undo, t);
}
function against_the_table(): void {
  mtx_lock(area.zone, t);
  mtx_lock(area.undo, t);
  mtx_unlock(area.undo, t);
  mtx_unlock(area.zone, t);
}
function first_then_second(): void {
  mtx_lock(area.mtx, t);
  mtx_lock(area.mtx2, t);
  mtx_unlock(area.mtx2, t);
  mtx_unlock(area.mtx, t);
}
function second_then_third(): void {
  mtx_lock(area.mtx2, t);
  mtx_lock(area.mtx3, t);
  mtx_unlock(area.mtx3, t);
  mtx_unlock(area.mtx2, t);
}
function third_then_first(): void {
  mtx_lock(area.mtx3, t);
  mtx_lock(area.mtx, t);
  mtx_unlock(area.mtx, t);
  mtx_unlock(area.mtx3, t);
}

test('the order of the table, in and out of turn: silence', () => {
  established();
  rw_rlock(area.sx, t);
  rw_wlock(area.rw, t);
  mtx_lock(area.mtx, t);
  mtx_lock(area.zone, t);
  rw_wunlock(area.rw, t); // not the innermost: allowed
  mtx_unlock(area.zone, t);
  rw_runlock(area.sx, t);
  mtx_unlock(area.mtx, t);
  assert.deepEqual(reports, []);
  assert.deepEqual(witness_held(), []);
});

test('of a lock taken very often the place is not noted, unless it is a user lock', () => {
  for (let i = 0; i < 200; i++) established();
  against_the_table();
  assert.match(
    reports[0],
    /^lock order reversal:\n 1st .* @ \?\n 2nd .* @ witness\.test\.ts:\d+\n/,
  );
  assert.match(
    reports[0],
    / attempted at:\nKDB: stack backtrace:\n#0 against_the_table at witness/,
  );
  for (let i = 0; i < 200; i++) first_then_second();
  mtx_lock(area.mtx2, t);
  mtx_lock(area.mtx, t);
  mtx_unlock(area.mtx, t);
  mtx_unlock(area.mtx2, t);
  assert.match(reports[1], /\n 1st \S+ .* @ witness\.test\.ts:\d+\n 2nd/);
});

test('against the table: one report, both stacks, however often it happens', () => {
  established();
  against_the_table();
  against_the_table();
  assert.equal(reports.length, 1);
  const hex = (l: number): string => `0x${(l * 4).toString(16)}`;
  assert.match(
    reports[0],
    new RegExp(
      `^lock order reversal:\n 1st ${hex(t + area.zone)} UMA zone \\(UMA zone\\) @ ` +
        'witness\\.test\\.ts:\\d+\n' +
        ` 2nd ${hex(t + area.undo)} malloc \\(malloc\\) @ witness\\.test\\.ts:\\d+\n`,
    ),
  );
  const [, then, now] = reports[0].split(/first seen at:|attempted at:/);
  assert.match(then, /#0 established at witness\.test\.ts:\d+/);
  assert.match(now, /^\nKDB: stack backtrace:\n#0 against_the_table at witness\.test\.ts:\d+/);
  assert.equal(witness_reports(), 1);
  assert.equal(number('debug.witness.reports'), 1);
});

test('against the table although the right order was never seen', () => {
  against_the_table();
  assert.equal(reports.length, 1);
  assert.match(reports[0], /the order table says so/);
});

test('two user locks: the order is learnt, its reversal shows both stacks', () => {
  first_then_second();
  assert.deepEqual(reports, []);
  mtx_lock(area.mtx2, t);
  mtx_lock(area.mtx, t);
  assert.equal(reports.length, 1);
  assert.match(reports[0], /first seen at:\n#0 first_then_second at/);
});

test('three user locks in a ring, no two of them ever reversed', () => {
  first_then_second();
  second_then_third();
  assert.deepEqual(reports, []);
  third_then_first();
  assert.equal(reports.length, 1);
  assert.match(reports[0], /#0 first_then_second at/);
  assert.match(reports[0], /#0 second_then_third at/);
  assert.match(reports[0], /attempted at:\nKDB: stack backtrace:\n#0 third_then_first at/);
});

test('the two orders come from two CPUs', async () => {
  const handle = bring_up_again();
  first_then_second();
  const other = start(handle, 'reverse');
  const r = await within(other.done, 'the other CPU');
  const text = (r.reports as string[]).join();
  assert.match(text, /^lock order reversal:/);
  assert.match(text, /#0 first_then_second at witness\.test\.ts/, 'the stack of this thread');
  assert.match(text, /#0 \S*job_reverse.* at sync\.test\.worker\.ts/, 'the stack of the worker');
  assert.equal(witness_reports(), 1);
});
function bring_up_again(): ReturnType<typeof bring_up> {
  leave();
  const handle = bring_up({ options: { WITNESS: true } });
  t = the_area();
  return handle;
}

test('a lock made anew at the same address starts without a past', () => {
  first_then_second();
  mtx_init(area.mtx, t, LC_USER_MTX);
  mtx_lock(area.mtx2, t);
  mtx_lock(area.mtx, t);
  assert.deepEqual(reports, []);
});

test('two of a class that does not allow it', () => {
  mtx_init(area.mtx3, t, LC_MALLOC);
  for (let i = 0; i < 2; i++) {
    mtx_lock(area.undo, t);
    mtx_lock(area.mtx3, t);
    mtx_unlock(area.mtx3, t);
    mtx_unlock(area.undo, t);
  }
  assert.equal(reports.length, 1);
  assert.match(
    reports[0],
    /^acquiring duplicate lock of same type: "malloc"\n 1st malloc @ \S+:\d+\n 2nd malloc @ /,
  );
});

test('a lock that may be held asleep after one that may not', () => {
  rw_rlock(area.rw, t);
  rw_rlock(area.sx, t);
  assert.equal(reports.length, 1);
  assert.match(reports[0], /^lock order reversal: \(sleepable after non-sleepable\)\n/);
});

test('sleeping: the interlock and sx locks are allowed, others are listed', () => {
  rw_rlock(area.sx, t);
  mtx_lock(area.mtx, t);
  msleep(t, area.mtx, t, 'right', 1);
  assert.deepEqual(reports, []);
  mtx_unlock(area.mtx, t);
  mtx_lock(area.mtx2, t);
  mtx_lock(area.mtx, t);
  msleep(t, area.mtx, t, 'wrong', 1);
  assert.equal(reports.length, 1, reports.join());
  assert.match(
    reports[0],
    new RegExp(
      '^Sleeping on "wrong" with the following non-sleepable locks held:\n' +
        `exclusive mtx user mtx r = 0 \\(0x${((t + area.mtx2) * 4).toString(16)}\\) ` +
        'locked @ witness\\.test\\.ts:\\d+\nKDB: stack backtrace:\n#0 ',
    ),
  );
});

test('a lock inside a critical section, and a sleep inside one', () => {
  critical_enter();
  assert.throws(
    () => mtx_lock(area.mtx, t),
    /blockable sleep lock \(mtx\) user mtx @ witness\.test\.ts/,
  );
  critical_exit();
});

test('a try is recorded, not checked', () => {
  established();
  mtx_lock(area.zone, t);
  assert.equal(mtx_trylock(area.undo, t), true);
  assert.deepEqual(reports, []);
  assert.equal(witness_held().length, 2);
  assert.match(
    witness_held()[1],
    /^exclusive mtx malloc r = 0 \(0x[0-9a-f]+\) locked @ witness\.test/,
  );
  mtx_unlock(area.undo, t);
  mtx_unlock(area.zone, t);
});

test('giving back what is not held, or held otherwise, is a panic with the place', () => {
  assert.throws(
    () => mtx_unlock(area.mtx, t),
    /lock \(mtx\) user mtx not locked @ witness\.test\.ts/,
  );
});
test('the exclusive unlock of a shared hold', () => {
  rw_rlock(area.rw, t);
  assert.throws(() => rw_wunlock(area.rw, t), /exclusive unlock of user rw .* share->uexcl/);
});
test('shared over exclusive would wait for itself', () => {
  rw_wlock(area.rw, t);
  assert.throws(() => rw_rlock(area.rw, t), /shared lock of \(rw\) user rw @ .*share->excl/);
});
test('exclusive over shared would wait for itself', () => {
  rw_rlock(area.rw, t);
  assert.throws(() => rw_wlock(area.rw, t), /exclusive lock of \(rw\) user rw @ .*excl->share/);
});

test('upgrade and downgrade keep the list of held locks right', () => {
  rw_rlock(area.rw, t);
  assert.match(witness_held()[0], /^shared rw/);
  assert.equal(rw_try_upgrade(area.rw, t), true);
  assert.match(witness_held()[0], /^exclusive rw/);
  rw_downgrade(area.rw, t);
  assert.match(witness_held()[0], /^shared rw/);
  rw_runlock(area.rw, t);
  assert.deepEqual(witness_held(), []);
  assert.deepEqual(witness_held(), []);
});

test('watch: 0 is off and on again, -1 is off until the next boot', () => {
  const watch = decl('debug.witness.watch');
  sysctl_set(watch, 0);
  mtx_lock(area.zone, t);
  against();
  assert.deepEqual(reports, []);
  sysctl_set(watch, 1);
  against();
  assert.equal(reports.length, 1);
  mtx_unlock(area.zone, t);
  assert.equal(watch.check?.(2), 22);
  assert.equal(watch.check?.(-1), 0);
  sysctl_set(watch, -1);
  assert.equal(watch.check?.(1), 22, 'it does not come back');
  assert.equal(read('debug.witness.badstacks'), 'Witness not running\0');
  mtx_lock(area.mtx, t);
  assert.deepEqual(witness_held(), []);
  mtx_unlock(area.mtx, t);
});
function against(): void {
  mtx_lock(area.undo, t);
  mtx_unlock(area.undo, t);
}

test('trace 0 leaves the stacks out', () => {
  sysctl_set(decl('debug.witness.trace'), 0);
  against_the_table();
  assert.equal(reports[0].split('\n').length, 3);
});

test('badstacks, fullgraph and the counts', () => {
  established();
  against_the_table();
  first_then_second();
  const bad = read('debug.witness.badstacks');
  assert.match(bad, /^Number of known direct relationships is 3\n/);
  assert.match(bad, /\n\nLock order reversal between "UMA zone"\(mtx\) and "malloc"\(mtx\)!\n/);
  assert.match(
    bad,
    /Lock order "malloc"\(mtx\) -> "UMA zone"\(mtx\) first seen at:\n#0 established/,
  );
  assert.match(bad, /"UMA zone"\(mtx\) -> "malloc"\(mtx\) first seen at:\n#0 against_the_table/);
  assert.ok(bad.endsWith('\n\0'));
  assert.match(read('debug.witness.fullgraph'), /^\n("[^"]+","[^"]+"\n)+\0$/);
  assert.match(read('debug.witness.fullgraph'), /"malloc","UMA zone"\n/);
  assert.equal(number('debug.witness.free_cnt'), 8 - 2, 'two user locks of a small machine');
  assert.equal(number('debug.witness.lost_cnt'), 0);
});

test('more user locks than a small machine tells apart: counted, the rest still checked', () => {
  const many = field_word(area.progress, t);
  const lock = (i: number): area_t => (many + i * 4 - area.mtx) as area_t;
  for (let i = 0; i < 12; i++) mtx_init(area.mtx, lock(i), LC_USER_MTX);
  for (let i = 0; i < 12; i++) mtx_lock(area.mtx, lock(i));
  for (let i = 11; i >= 0; i--) mtx_unlock(area.mtx, lock(i));
  assert.equal(number('debug.witness.free_cnt'), 0);
  assert.ok(number('debug.witness.lost_cnt') > 0);
  mtx_lock(area.mtx, lock(1));
  mtx_lock(area.mtx, lock(0));
  assert.equal(reports.length, 1);
});

test('with the option off there is no table and no list', () => {
  leave();
  bring_up();
  t = the_area();
  against_the_table();
  mtx_lock(area.mtx, t);
  assert.deepEqual(witness_held(), []);
  mtx_unlock(area.mtx, t);
  assert.equal(machine.roots[elem(M, ROOT_WITNESS)], 0);
  assert.deepEqual(reports, []);
  assert.equal(sysctl_get(decl('debug.witness.watch')), 1);
  assert.equal(read('debug.witness.badstacks'), 'Witness not running\0');
});
