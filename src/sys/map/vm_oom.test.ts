/*
 * Shows: an access that finds no page, and none that could be had, fails at once where nobody is
 * there who could let go of any, and says what has the pages; when some are free again it works.
 * While there is hope, and then for vm.oom_wait at most, it waits.
 * By what means: a machine without a swap area that is filled to the last page; one whose only
 * other CPU owes an answer and never gives it.
 */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import { abandon, boot, shutdown } from '../boot/whole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { counter_get, counters } from '../machine/counter.ts';
import { CPU_REQ_TLB, cpu_state_word } from '../machine/cpu.ts';
import { ENOMEM } from '../machine/errno.ts';
import { tlb_asked } from '../machine/tlb_ack.ts';
import { maps_make } from './vm_map.test.lib.ts';
import { vm_oom_figures, vm_oom_text } from './vm_oom.ts';
import {
  space_make,
  space_map,
  space_unmap,
  space_write,
  spaces_end,
} from './vm_space.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
const counted = (name: string): number => {
  const c = counters.find((each) => each.name === `vm.stats.vm.${name}`);
  assert.ok(c, name);
  return counter_get(c);
};
const PAGES = 90;
const SPACES = 4;
/** Fills spaces until an access is refused: that one, and how many pages were written. */
function fill(set: Record<string, number>): { s: number; i: number; written: number } {
  const options = { INVARIANTS: true, WITNESS: true };
  boot({ cpus: 2, fresh: true, memory: '1M', options, set: { 'vm.swap_default': 0, ...set } });
  maps_make();
  let written = 0;
  for (let s = 0; s < SPACES; s++) {
    assert.ok(space_make(s));
    assert.equal(space_map(s, 0, PAGES), 0);
    for (let i = 0; i < PAGES; i++, written++) {
      const error = space_write(s, i, 1);
      if (error === 0) continue;
      assert.equal(error, ENOMEM);
      return { s, i, written };
    }
  }
  throw new Error('the memory was never full');
}
test('a full machine refuses at once, says why, and goes on', () => {
  const { written } = fill({});
  assert.deepEqual([counted('v_oom_waits'), counted('v_oom_fails')], [0, 1]);
  const { resident, wired, busy, stuck } = vm_oom_figures();
  assert.deepEqual([resident, wired, busy, stuck], [written, 0, 0, written]);
  assert.equal(
    vm_oom_text(),
    `${written} pages in spaces: 0 wired, 0 busy, ${written} dirty without swap`,
  );
  assert.equal(space_unmap(0, 0, 10), 0);
  for (let i = 20; i < 30; i++) assert.equal(space_write(0, i, 2), 0);
  spaces_end();
});
test('while a CPU owes an answer it waits, and not for ever', () => {
  const { s, i } = fill({ 'vm.oom_wait': 60 });
  const word = cpu_state_word(1);
  const was = atomic_load(word);
  atomic_store(word, CPU_REQ_TLB); // as if it were at work, and silent
  tlb_asked();
  assert.equal(space_unmap(0, 0, 10), 0); // what was there waits for that answer
  assert.equal(space_write(s, i, 3), ENOMEM);
  assert.ok(counted('v_oom_waits') > 0, 'it waited before');
  assert.equal(counted('v_oom_fails'), 2);
  atomic_store(word, was);
  assert.equal(space_write(s, i, 3), 0, 'the answer is there');
  spaces_end();
});
