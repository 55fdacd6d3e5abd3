/*
 * Shows: a thread that may not wait for a store is told so, and what to do; ready() and
 * windowAsync() have its pages brought in by a thread that pages out, started if there is none;
 * what keeps a page from coming is told.
 * By what means: reads of the swap area that this thread alone cannot do, as on a browser's main
 * thread.  In browsers: tests/package/opfs.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { EWOULDBLOCK } from '../sys/machine/errno.ts';
import { store_faults } from '../sys/machine/store_fault.ts';
import { fault_patience } from '../sys/map/vm_fault.ts';
import { pageout_missing } from '../sys/map/vm_pageout_vars.ts';
import { failsAsync } from './fails.test.lib.ts';
import { type Machine, type Region, withMachine } from './index.ts';
import { fails, spaces_gone } from './space.test.lib.ts';

const PAGE = 4096;
const PAGES = 1200;
afterEach(() => {
  store_faults.next = null;
  fault_patience.rounds = Number.POSITIVE_INFINITY;
});
/** A region larger than the memory; page i has i + 1. */
async function filled(run: (m: Region, machine: Machine) => Promise<void>): Promise<void> {
  await withMachine({ memory: '3M', cpus: 4, options: { INVARIANTS: true } }, async (machine) => {
    const m = machine.space('s').mmap({ length: PAGES * PAGE });
    for (let i = 0; i < PAGES; i++) m.setU32(i * PAGE, i + 1);
    await run(m, machine);
    store_faults.next = null;
    spaces_gone(machine);
  });
}
/** From here on this thread cannot read what others can. */
function mayNotWait(): void {
  fault_patience.rounds = 4;
  store_faults.next = (op) => (op === 'read' ? { what: 'fail', errno: EWOULDBLOCK } : null);
}
/** A page that is not in memory. */
const away = (m: Region): number => m.resident().indexOf(0);

test('an access says what to do, and then works', () =>
  filled(async (m, machine) => {
    mayNotWait();
    const i = away(m);
    assert.ok(i >= 0);
    const text = /would have to wait.*await ready\(offset, n\), or windowAsync/;
    fails(() => m.getU32(i * PAGE), 'EAGAIN', text);
    await m.ready(i * PAGE, 10 * PAGE);
    assert.equal(m.getU32(i * PAGE), i + 1);
    assert.equal(pageout_missing(), 0, 'a thread was started for it');
    for (let k = 0; k < 3; k++) {
      const at = away(m);
      await m.ready(at * PAGE, PAGE, true);
      m.setU32(at * PAGE, at + 1);
    }
    const at = away(m);
    const w = await m.windowAsync(at * PAGE, 4 * PAGE);
    assert.deepEqual(
      [0, 1, 2, 3].map((k) => w.u32[k * 1024]),
      [0, 1, 2, 3].map((k) => at + k + 1),
    );
    w.close();
    machine.space('s').destroy();
  }));
test('what keeps a page from coming is told; a space that went, too', () =>
  filled(async (m, machine) => {
    mayNotWait();
    const ro = machine.space('s').mmap({ length: PAGE, protect: 'r' });
    await failsAsync('EFAULT', ro.ready(0, PAGE, true));
    const late = m.ready(away(m) * PAGE, PAGE);
    machine.space('s').destroy();
    await failsAsync('ESTALE', late);
  }));
