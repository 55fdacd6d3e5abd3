/*
 * Shows that a thread that vanishes at any scheduler point wedges nobody.
 *
 * Each script with a victim is run once per point, with the victim killed at
 * that point, under both schedulers and several interleavings.  Every run must
 * end clean or in a panic that names the lock; none may hang.  The numbers are
 * printed; sim.stress.ts plays more seeds.  That the tally can tell is shown by a
 * script whose survivors wait for what only the dead one would have done, and by one
 * that does not recover the lock that the dead one leaves.
 */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type BatonSession, baton_session, machine_wanted } from './baton.ts';
import { type KillTally, kill_everywhere, kill_line, kill_outcome } from './kill.ts';
import { script_urls } from './main.ts';
import { nested_session } from './nested.ts';
import { script_load } from './script.ts';

const SEEDS_BATON = 1;
const SEEDS_NESTED = 5;
const upto = (n: number): number[] => Array.from({ length: n }, (_, i) => i + 1);
const undo = new URL('./scripts/undo.ts', import.meta.url);
const sleepq = new URL('./scripts/sleepq.ts', import.meta.url);

function judge(tally: KillTally, seeds: number): void {
  const bad = tally.first_bad;
  const where = `seed ${bad?.seed}, point ${bad?.at}: ${bad?.failure}`;
  assert.equal(tally.hang, 0, where);
  assert.equal(tally.wrong, 0, where);
  assert.ok(tally.killed >= 10 * seeds, `only ${tally.killed} points were reached`);
  assert.ok(tally.clean > 0, 'every death ended in a panic');
  assert.ok(tally.items_lost_most <= 1, `${tally.items_lost_most} items lost in one run`);
}

describe('killed at every point', async () => {
  const machine = machine_wanted(await script_load(undo));
  const victims: [string, URL, boolean, number][] = [];
  for (const url of script_urls()) {
    const script = await script_load(url);
    if (script.victim === undefined) continue;
    const name = url.pathname.split('/').pop() ?? '';
    const most = script.kill_seeds ?? Number.POSITIVE_INFINITY;
    victims.push([name, url, machine_wanted(script) === machine, most]);
  }
  let session: BatonSession;
  before(async () => {
    const shared = victims.filter(([, , shares]) => shares).map(([, url]) => url);
    session = await baton_session({ script: [...shared, sleepq] });
  });
  after(async () => {
    await session?.close();
  });

  for (const [name, script, shares, most] of victims) {
    test(`${name}, nested`, async (t) => {
      const seeds = upto(Math.min(SEEDS_NESTED, most));
      const tally = await kill_everywhere({ script, seeds, by: 'nested' });
      t.diagnostic(kill_line(name, tally));
      judge(tally, seeds.length);
    });
    test(`${name}, baton`, async (t) => {
      const seeds = upto(Math.min(SEEDS_BATON, most));
      const tally = await kill_everywhere({ script, seeds, ...(shares ? { session } : {}) });
      t.diagnostic(kill_line(name, tally));
      judge(tally, seeds.length);
    });
  }

  test('CPU 0, whose thread leads the runs, can be the one that dies', async () => {
    let killed = 0;
    for (let at = 1; at <= 40; at++) {
      const { result } = await session.run(1, 1, { cpu: 0, at }, undo);
      if (result.killed) killed++;
      assert.equal(result.failure, null, `point ${at}`);
    }
    assert.ok(killed >= 30, `killed ${killed} of 40`);
  });

  test('the same kill gives the same end, on a new machine without spinning too', async () => {
    const kill = { cpu: 1, at: 25 };
    const first = (await session.run(3, 1, kill, undo)).result;
    assert.equal(first.killed, true);
    const anew = await baton_session({ script: undo, spin: 0 });
    const again = (await anew.run(3, 1, kill)).result;
    await anew.close();
    assert.deepEqual(again, first);
  });

  test('survivors that wait for the dead are seen as a hang', async () => {
    // CPU 0 puts the tokens that the others sleep for; here it is the one to die.
    const { result } = await session.run(1, 1, { cpu: 0, at: 1 }, sleepq);
    assert.equal(result.killed, true);
    assert.equal(kill_outcome(result), 'hang', result.failure ?? 'clean');
  });
});

test('a lock that nobody recovers: each is told, and the check says so', async () => {
  // This script does not recover its mutex: the others end with EOWNERDEAD.
  const script = await script_load(new URL('./scripts/mutex.ts', import.meta.url));
  const session = nested_session(script, true);
  const outcomes = new Set<string>();
  let told = 0;
  for (let at = 1; at <= 60; at++) {
    const r = session.run(1 + (at % 12), { cpu: 1, at });
    if (/EOWNERDEAD: mtx_lock: .*: .*CPU 1/.test(r.failure ?? '')) told++;
    outcomes.add(kill_outcome(r));
  }
  session.close();
  assert.ok(told > 0, 'nobody was told');
  assert.deepEqual(
    [...outcomes].filter((o) => o !== 'clean'),
    ['wrong'],
    'nobody hangs',
  );
});
