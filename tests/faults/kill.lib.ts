/*
 * Workers that share a heap, some of them killed: for kill.slow.test.ts in seconds
 * and for kill.stress.ts at length.
 *
 * The board is a block of the heap itself: a word that says stop, a count of
 * rounds for each worker, and places through which blocks change hands.
 */
import assert from 'node:assert/strict';
import { abandon, boot, shutdown } from '../../src/sys/boot/whole.ts';
import { atomic_load, atomic_store, atomic_xchg } from '../../src/sys/machine/atomic.ts';
import { counter_get } from '../../src/sys/machine/counter.ts';
import { thr } from '../../src/sys/machine/cpu.ts';
import {
  reap_all,
  v_reap_items,
  v_reap_locks,
  v_reap_pages,
  v_reaps,
} from '../../src/sys/machine/death.ts';
import type { Handle } from '../../src/sys/machine/machdep.ts';
import type { Options } from '../../src/sys/machine/opt.ts';
import { dice } from '../../src/sys/machine/seed.test.lib.ts';
import { Crew, type Job, sleep, within } from '../../src/sys/machine/workers.test.lib.ts';
import { account, account_text } from '../../src/sys/kmem/kmem.test.lib.ts';
import {
  free,
  M_NOWAIT,
  M_ZERO,
  malloc,
  malloc_type_attach,
} from '../../src/sys/kmem/kern_malloc.ts';
import { malloc_type_sums } from '../../src/sys/kmem/kern_malloc_type.ts';
import { vm_page_check } from '../../src/sys/page/vm_page.ts';
import { sleepq_check } from '../../src/sys/sync/subr_sleepqueue.ts';
import { uma_check } from '../../src/sys/uma/uma_check.ts';

export const PLACES = 64;
export const TYPES = ['of the killed', 'handed over', 'third'];

/** What a worker did. */
export type Done = { mallocs: number; frees: number; failed: number };
/** What a worker is asked to do. */
export interface Work {
  readonly board: number;
  readonly index: number;
  readonly seed: number;
  /** One operation in so many reclaims. */
  readonly reclaim: number;
  readonly large: boolean;
}
export interface Ground {
  readonly handle: Handle;
  readonly board: number;
}
export interface GroundOptions {
  memory: string;
  options: Partial<Options>;
  cpus?: number;
  /** Leave about so many pages free; the rest goes into blocks that stay. */
  pages_left?: number;
}

/** Boots a machine and lays the board out. */
export function ground(o: GroundOptions): Ground {
  if (thr.cpu >= 0) leave();
  const { handle } = boot({ memory: o.memory, cpus: o.cpus ?? 6, options: o.options, fresh: true });
  const board = malloc((32 + PLACES) * 4, malloc_type_attach('board'), M_NOWAIT | M_ZERO);
  if (o.pages_left !== undefined) fill(o.pages_left);
  return { handle, board };
}
function fill(left: number): void {
  const ballast = malloc_type_attach('ballast');
  const kept = malloc(left * 4096, ballast, M_NOWAIT);
  for (let n = 128; n > 0; ) if (malloc(n * 4096, ballast, M_NOWAIT) === 0) n >>= 1;
  free(kept, ballast);
}
export function leave(): void {
  try {
    shutdown();
  } catch {
    abandon(); // a machine that panicked is left as it is
  }
}
const crew = new Crew<Done>(new URL('./kill.worker.ts', import.meta.url));
export function start(
  g: Ground,
  index: number,
  seed: number,
  o: { reclaim?: number; large?: boolean } = {},
): Job<Done> {
  const args: Work = { board: g.board, index, seed, reclaim: 400, large: true, ...o };
  return crew.start(g.handle, 'work', { ...args });
}
/** Ends the workers that a failed test left behind; its process would wait for them. */
export function end_workers(): Promise<void> {
  return crew.end();
}
export const rounds = (g: Ground, index: number): number => atomic_load(g.board + 1 + index);

/** Tells all to stop, waits for them, and frees what lies in the places. */
export async function stop(g: Ground, jobs: Job<Done>[]): Promise<Done[]> {
  atomic_store(g.board, 1);
  const said = await within(Promise.all(jobs.map((j) => j.done)), 'the survivors end');
  const types = TYPES.map((name) => malloc_type_attach(name));
  for (let k = 0; k < PLACES; k++) {
    const p = atomic_xchg(g.board + 32 + k, 0);
    if (p !== 0) {
      free(p, types[k % types.length]);
      said[0].frees++;
    }
  }
  return said;
}
/** All walkers, and the account. Returns the malloc items that nobody answers for. */
export function prove(kills: number, what: string): number {
  uma_check();
  vm_page_check();
  sleepq_check();
  const a = account();
  let lost = 0;
  for (const [name, n] of a.leaked) {
    assert.ok(Math.abs(n) <= kills, `${what}: ${account_text(a)}`);
    if (/^\d+$/.test(name)) lost += Math.abs(n);
  }
  assert.ok(Math.abs(a.pages_leaked) === 0, `${what}: ${account_text(a)}`);
  assert.ok(lost <= counter_get(v_reap_items), `${what}: ${lost} lost, fewer counted`);
  return lost;
}

/** Workers killed at random moments; a line of numbers. Throws if anything breaks. */
export async function kill_round(
  kills: number,
  seed: number,
  o: GroundOptions & { large?: boolean },
): Promise<string> {
  const draw = dice(seed);
  const g = ground(o);
  const go = (index: number): Job<Done> => start(g, index, draw(60000), { large: o.large ?? true });
  const jobs = [go(0), go(1), go(2)];
  await within(Promise.all(jobs.map((j) => j.up)), 'start');
  for (let n = 0; n < kills; n++) {
    await sleep(draw(6));
    const i = draw(2);
    await jobs[i].worker.terminate();
    const seen = rounds(g, 2);
    const look = async (): Promise<void> => {
      while (rounds(g, 2) === seen) {
        const failed = await Promise.race([jobs[2].done.then(() => null), sleep(1)]).catch(
          (e) => e,
        );
        if (failed instanceof Error) throw failed;
      }
    };
    await within(look(), `the survivor goes on after kill ${n}, seed ${seed}`);
    reap_all();
    jobs[i] = go(i);
    await within(jobs[i].up, `worker ${n} starts, seed ${seed}`);
  }
  await stop(g, jobs);
  reap_all();
  const lost = prove(kills, `seed ${seed}`);
  let held = 0;
  for (const name of TYPES) held += malloc_type_sums(malloc_type_attach(name)).inuse;
  const line =
    `${kills} kills, ${counter_get(v_reaps)} reaped: ${counter_get(v_reap_items)} items lost ` +
    `(${lost} by account), ${counter_get(v_reap_pages)} pages recovered, ` +
    `${counter_get(v_reap_locks)} locks taken over, ${held} blocks of the dead left`;
  assert.equal(counter_get(v_reaps), kills);
  leave();
  return line;
}
