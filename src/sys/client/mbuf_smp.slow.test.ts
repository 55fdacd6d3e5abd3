/*
 * Shows that threads may share clusters: they exchange chains, copy them by
 * reference, cut, rewrite and free them for a while, each looking at every
 * byte; with ample memory and with limits that are hit all the time, with the
 * checks and without.  Afterwards every count is zero and the walkers find
 * nothing.  A worker that is killed in the middle costs at most what it held.
 */
import assert from 'node:assert/strict';
import { afterEach, describe, test } from 'node:test';
import { host_sees_threads } from '../machine/host.ts';
import { SEED, ways } from '../machine/seed.test.lib.ts';
import { within } from '../machine/workers.test.lib.ts';
import { up } from '../uma/uma.test.lib.ts';
import { m_copypacket } from './uipc_mbuf.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { bytes, chain, clhdr, m, nothing_left, whole } from './mbuf.test.lib.ts';
import { m_freem } from './uipc_mbuf.ts';
import { end_all, type Game, play, start } from './mbuf_smp.test.lib.ts';

afterEach(end_all);

describe('exchange', () => {
  const bare = { INVARIANTS: false, WITNESS: false };
  const games: [string, Game][] = [
    ['2 workers', { workers: 2, memory: '16M', ms: 400, seed: SEED, most: 40 }],
    ['3 workers', { workers: 3, memory: '16M', ms: 400, seed: SEED + 10, most: 40 }],
    [
      '2 workers, few clusters',
      { workers: 2, memory: '8M', ms: 400, seed: SEED + 20, most: 40, clusters: 48 },
    ],
    ['2 workers, 1 MiB', { workers: 2, memory: '1M', ms: 400, seed: SEED + 30, most: 60 }],
    [
      '2 workers, checks off',
      { workers: 2, memory: '16M', ms: 400, seed: SEED + 40, most: 40, options: bare },
    ],
    [
      '2 workers, few clusters, checks off',
      {
        workers: 2,
        memory: '8M',
        ms: 400,
        seed: SEED + 50,
        most: 40,
        clusters: 48,
        options: bare,
      },
    ],
  ];
  for (const [what, game] of ways(games, 3)) {
    test(what, async (t) => {
      const totals = await play(game);
      t.diagnostic(`seed ${game.seed}: ${JSON.stringify(totals)}`);
      assert.ok(totals.copies > 0 && totals.swaps > 0);
    });
  }
});
test('workers killed in the middle', { skip: !host_sees_threads() }, async (t) => {
  for (const INVARIANTS of ways([true, false])) {
    const game = { workers: 2, memory: '16M', ms: 400, seed: SEED + 60, most: 20, kills: 6 };
    const totals = await play({ ...game, options: { INVARIANTS, WITNESS: false } });
    t.diagnostic(`seed ${game.seed}: ${JSON.stringify(totals)}`);
    await end_all();
  }
});
test('a chain is handed over by its number', async () => {
  const handle = up({ options: { INVARIANTS: true, WITNESS: true } });
  const top = chain([clhdr(100), m(50)]);
  const copy = m_copypacket(top, M_NOWAIT);
  const job = start(handle, 'reader', { chains: [copy] });
  const sum = bytes(0, 64).reduce((n, b) => n + b, 0);
  assert.equal((await within(job.done, 'the reader')).sum, sum);
  whole(top, 0, 150);
  m_freem(top);
  nothing_left();
});
