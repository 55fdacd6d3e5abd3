/*
 * Shows that a thread may die at any point of joining, leaving, shutting down and
 * booting: a real worker is terminated at one point after another (points.lib.ts), and
 * each time the slot comes free, the walkers find the machine whole, no page is
 * missing, and the next thread gets in.  The suite takes 12 points of each,
 * evenly apart from a first one that the seed draws; points.stress.ts takes all of them.
 */
import assert from 'node:assert/strict';
import { after, describe, test } from 'node:test';
import { abandon, attach, boot, type Booted, shutdown } from '../../src/sys/boot/whole.ts';
import { cpu_alive, cpus_attached, reap_all } from '../../src/sys/machine/death.ts';
import { M, machine, PHASE_DOWN } from '../../src/sys/machine/header.ts';
import { poll, thr } from '../../src/sys/machine/cpu.ts';
import { dice, SEED } from '../../src/sys/machine/seed.test.lib.ts';
import { until } from '../../src/sys/machine/workers.test.lib.ts';
import { vm_page_free_count } from '../../src/sys/page/vm_page.ts';
import { sleepq_check } from '../../src/sys/sync/subr_sleepqueue.ts';
import { uma_check } from '../../src/sys/uma/uma_check.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { hooks_of_the_host, start_point } from './points.lib.ts';

/** Deaths of each job: so many points of all that there are. */
const DEATHS = Number(process.env.KMEM_POINTS ?? 12);
const draw = dice(SEED);
hooks_of_the_host(() => {});
const up = (): Booted =>
  boot({ memory: '4M', cpus: 3, options: { SIM: true, INVARIANTS: true }, fresh: false });
after(() => abandon());

/** Plays the job once without a death and gives the number of its points. */
async function count(play: (at: number) => Promise<boolean>): Promise<number> {
  assert.equal(await play(0), false, 'without a death it is through');
  return points;
}
let points = 0;
/** Plays the job with a death at each point that is taken; a line of numbers. */
async function points_of(job: string, play: (at: number) => Promise<boolean>): Promise<string> {
  const n = await count(play);
  assert.ok(n > 10, `${job} has ${n} points`);
  const step = Math.max(1, n / DEATHS);
  let killed = 0;
  for (let next = 1 + draw(Math.floor(step)); next < n + 1; next += step) {
    const at = Math.floor(next);
    try {
      if (await play(at)) killed++;
    } catch (e) {
      throw new Error(`${job}, seed ${SEED}: killed at point ${at} of ${n}`, { cause: e });
    }
  }
  assert.ok(killed > 0, `${job}: killed ${killed} of ${n}`);
  return `${job}, seed ${SEED}: killed at ${killed} of ${n} points`;
}
/** Nothing of the dead is left, and the machine is whole. */
function whole(free: number): void {
  assert.equal(cpus_attached(), 1);
  uma_reclaim();
  uma_check();
  sleepq_check();
  assert.ok(vm_page_free_count() >= free, `${vm_page_free_count()} pages free, ${free} before`);
}

describe('a thread dies at any point', () => {
  test('of joining and leaving', async (t) => {
    const { handle } = up();
    let free = 0;
    const line = await points_of('rejoin', async (at) => {
      const run = start_point('rejoin', at, handle);
      const killed = await run.over();
      points = run.gate[2];
      await until(() => {
        reap_all();
        return cpus_attached() === 1;
      }, 'the slot comes free');
      if (at === 0) {
        uma_reclaim();
        free = vm_page_free_count();
      }
      whole(free);
      return killed;
    });
    t.diagnostic(line);
    shutdown();
  });

  test('of ending the machine', async (t) => {
    const line = await points_of('shutdown', async (at) => {
      const { handle } = up();
      const run = start_point('shutdown', at, handle);
      const killed = await run.over();
      points = run.gate[2];
      await until(() => !cpu_alive(1), 'it is gone');
      if (machine.phase[M] === PHASE_DOWN) {
        // It may have died before it told this thread; who looks for the dead is told then.
        assert.throws(() => {
          reap_all();
          poll();
        }, /ESHUTDOWN/);
      } else {
        reap_all();
        whole(0);
      }
      shutdown();
      abandon();
      assert.equal(thr.cpu, -1);
      assert.throws(() => attach(handle), /ESHUTDOWN/);
      return killed;
    });
    t.diagnostic(line);
  });

  test('of booting over the same memory', async (t) => {
    const line = await points_of('boot', async (at) => {
      const { handle } = up();
      const run = start_point('boot', at, handle);
      await until(() => run.gate[4] === 1, 'it has joined');
      shutdown();
      run.go();
      const killed = await run.over();
      points = run.gate[2];
      assert.throws(() => attach(handle), /ESHUTDOWN|generation|no machine/);
      const again = up();
      assert.notEqual(again.handle.generation, handle.generation);
      whole(0);
      shutdown();
      return killed;
    });
    t.diagnostic(line);
  });
});
