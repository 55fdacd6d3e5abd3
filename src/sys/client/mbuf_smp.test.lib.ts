/*
 * The game that workers play with shared clusters, for the quick tests and for
 * the long ones (mbuf.stress.ts): they exchange chains for a while; some are
 * killed on the way if wanted; then everything must add up.
 */
import assert from 'node:assert/strict';
import { atomic_xchg } from '../machine/atomic.ts';
import { reap_all } from '../machine/death.ts';
import type { Handle } from '../machine/machdep.ts';
import type { Options } from '../machine/opt.ts';
import { Crew, type Job, sleep, within } from '../machine/workers.test.lib.ts';
import { account, account_text } from '../kmem/kmem.test.lib.ts';
import { sleepq_check } from '../sync/subr_sleepqueue.ts';
import { uma_check } from '../uma/uma_check.ts';
import { common, down, RING, RING_SIZE, stop_jobs, up } from '../uma/uma.test.lib.ts';
import type { mbuf_t } from '../h/mbuf.ts';
import { in_use } from './mbuf.test.lib.ts';
import { m_freem } from './uipc_mbuf.ts';

export interface Game {
  workers: number;
  memory: string;
  ms: number;
  seed: number;
  /** Chains that a worker holds at most. */
  most: number;
  /** Most clusters; the other limits follow. */
  clusters?: number;
  /** Workers to be killed, one after another, each replaced. */
  kills?: number;
  options?: Partial<Options>;
}
const crew = new Crew<Record<string, number>>(new URL('./mbuf.test.worker.ts', import.meta.url));
export function start(
  handle: Handle,
  job: string,
  args: Record<string, unknown> = {},
): Job<Record<string, number>> {
  return crew.start(handle, job, args);
}
export async function end_all(): Promise<void> {
  await crew.end();
  await down();
}

/** Mbufs of one chain at most: 4004 bytes in mbufs after m_append, cut a few times. */
const CHAIN_MBUFS = 24;

/** Plays a game; the totals. Throws where anything does not add up. */
export async function play(game: Game): Promise<Record<string, number>> {
  const { workers, memory, ms, seed, most, kills = 0 } = game;
  const handle = up({
    memory,
    cpus: workers + 2,
    options: { INVARIANTS: true, WITNESS: true, ...game.options },
    set: game.clusters ? { 'kern.ipc.nmbclusters': game.clusters } : {},
  });
  let next = seed;
  const go = (): Job<Record<string, number>> => start(handle, 'exchange', { seed: ++next, most });
  const jobs = Array.from({ length: workers }, go);
  await within(Promise.all(jobs.map((j) => j.up)), 'start');
  for (let n = 0; n < kills; n++) {
    await Promise.race([sleep(ms / (kills + 1)), ...jobs.map((j) => j.done)]);
    await jobs[n % workers].worker.terminate();
    reap_all();
    jobs[n % workers] = go();
    await within(jobs[n % workers].up, `another worker, seed ${seed}`);
  }
  await Promise.race([sleep(ms / (kills + 1)), ...jobs.map((j) => j.done)]);
  stop_jobs();
  const said = await within(Promise.all(jobs.map((j) => j.done)), `the end, seed ${seed}`);
  for (let i = 0; i < RING_SIZE; i++) m_freem(atomic_xchg(common() + RING + i, 0) as mbuf_t);
  reap_all();
  prove(kills * (most + 3), `seed ${seed}`);
  const totals: Record<string, number> = {};
  for (const one of said) {
    for (const [k, n] of Object.entries(one)) totals[k] = (totals[k] ?? 0) + n;
  }
  return totals;
}
/** At most what the dead held is lost: so many chains. */
function prove(lost_chains: number, what: string): void {
  const left = in_use();
  const most = lost_chains * CHAIN_MBUFS;
  for (const n of Object.values(left)) {
    assert.ok(n >= 0 && n <= most, `${what}: ${JSON.stringify(left)}, ${lost_chains} chains lost`);
  }
  uma_check();
  sleepq_check();
  if (lost_chains === 0) assert.equal(account_text(account()), '', what);
}
