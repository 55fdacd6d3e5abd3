/*
 * Shows: what threads store by addresses and through windows is what they find there, by either
 * way, while others open windows onto the same pages, so that these move, close them, so that these
 * move away, take the space's copies, and try to unmap and to protect what is under windows; and
 * who is killed in the middle of it costs the others nothing, nor is a page, a wiring, a window or
 * a reference lost. By what means: two workers on one space, each with every other page, beside
 * what they stored there; the walkers afterwards.
 */
import { afterEach, test } from 'node:test';
import { abandon, shutdown } from '../boot/whole.ts';
import { SEED, ways } from '../machine/seed.test.lib.ts';
import { windows_churn } from './vm_window_smp.test.lib.ts';

afterEach(() => {
  try {
    shutdown();
  } catch {
    abandon();
  }
});
for (const INVARIANTS of ways([true, false])) {
  const how = INVARIANTS ? 'with INVARIANTS' : 'as programs run';
  test(`two threads and their windows, ${how}`, async (t) => {
    const { done, opened } = await windows_churn(0, SEED, INVARIANTS);
    t.diagnostic(`${done} operations, ${opened} windows`);
  });
  test(`some of them killed, ${how}`, async (t) => {
    const { done } = await windows_churn(8, SEED + 1, INVARIANTS);
    t.diagnostic(`${done} operations`);
  });
}
