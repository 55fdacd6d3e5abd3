/*
 * Shows: machines from the smallest to the largest size have virtual memory: they map, fault,
 * copy on write, fork and unmap; the smallest has most of its pages free after boot, the largest
 * spends little on each; where memory ends an access says so, as far as it came, and the
 * space goes on.
 * By what means: the same steps in a machine of each size, with the system calls of programs; the
 * counts of pages; the walkers afterwards.
 */
import assert from 'node:assert/strict';
import { freemem } from 'node:os';
import { afterEach, describe, test, type TestContext } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { ENOMEM } from '../machine/errno.ts';
import { mem, memory_size, memory_state } from '../machine/memory.ts';
import type { vm_map_t } from '../h/vm_map.ts';
import { stat } from '../observe/vm_meter.test.lib.ts';
import { user_access } from './vm_bank.ts';
import { map_drop } from './vm_map.test.lib.ts';
import { AT, anon_at, call, end, P, peek, poke, R, up, user_fork } from './vm_syscalls.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
/** The most that the page array and the free queues take for a page. */
const PAGE_BYTES_MAX = 64;
/** How much of the smallest machine is free after boot. */
const FREE_LEAST = 0.6;

function smoke(t: TestContext, memory: string, pages: number): void {
  let mp: vm_map_t;
  try {
    mp = up({ memory, cpus: 2, options: { INVARIANTS: true } });
  } catch (e) {
    if (!/this host refuses/.test((e as Error).message)) throw e;
    return t.skip((e as Error).message);
  }
  const all = memory_state.size / P;
  const free = stat('v_free_count');
  const array = stat('misc.page_array_bytes');
  t.diagnostic(
    `${((free / all) * 100).toFixed(1)} % of ${all} pages are free, ${array} bytes a page`,
  );
  assert.ok(free >= all * FREE_LEAST, `${free} of ${all} pages are free`);
  assert.ok(array <= PAGE_BYTES_MAX, `${array} bytes a page`);
  assert.equal(anon_at(mp, AT, pages * P), AT);
  for (let i = 0; i < pages; i++) assert.equal(poke(mp, AT + i * P, i & 255), 0);
  const child = user_fork(0, 1);
  for (let i = 0; i < pages; i += 2) assert.equal(poke(child, AT + i * P, 7), 0);
  for (let i = 1; i < pages; i += 4) assert.equal(poke(mp, AT + i * P, 9), 0);
  for (let i = 0; i < pages; i++) {
    assert.equal(peek(child, AT + i * P), i % 2 === 0 ? 7 : i & 255);
    assert.equal(peek(mp, AT + i * P), i % 4 === 1 ? 9 : i & 255);
  }
  assert.equal(call(mp, 'mprotect', [AT, P, R]), 0);
  assert.equal(poke(mp, AT, 1), 'EFAULT');
  assert.equal(call(mp, 'munmap', [AT + P, (pages - 1) * P]), 0);
  assert.equal(peek(mp, AT + P), 'EFAULT');
  assert.equal(peek(child, AT + P), 1);
  map_drop(1);
  assert.equal(call(mp, 'munmap', [AT, P]), 0);
  end();
}

describe('a machine of', () => {
  for (const [memory, pages] of [
    ['1M', 16],
    ['8M', 200],
    ['1G', 2000],
    ['4G', 2000],
  ] as const) {
    const short = freemem() < memory_size(memory) / 2;
    const skip = short ? `needs ${memory} of address space and memory` : false;
    test(memory, { skip }, (t) => smoke(t, memory, pages));
  }
  test('1M, twice what it has, in a swap file that it makes by itself', (t) => {
    smoke(t, '1M', 500);
  });
  for (const memory of ['1M', '8M']) {
    test(`${memory}, more than it has`, () => {
      const mp = up({ memory, cpus: 2, set: { 'vm.swap_default': 0 } });
      const bytes = memory_state.size * 2;
      assert.equal(anon_at(mp, AT, bytes), AT, 'what is mapped takes no memory');
      const got = user_access(mp, AT, bytes, true, (byte) => void (mem.U8[byte] = 5));
      assert.equal(got.error, ENOMEM);
      assert.ok(got.done > 0 && got.done < memory_state.size, `${got.done} bytes`);
      assert.equal(peek(mp, AT), 5, 'what it has stays');
      assert.equal(poke(mp, AT + got.done, 1), 'ENOMEM', 'and again');
      assert.equal(call(mp, 'munmap', [AT, got.done - P]), 0);
      assert.equal(poke(mp, AT + got.done, 1), 0, 'and goes on when there is memory');
      assert.equal(peek(mp, AT + got.done - P), 5);
      end();
    });
  }
});
