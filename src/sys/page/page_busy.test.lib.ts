/*
 * page_busy: threads killed on the way of a page from the queues to an owner and back.
 *
 * Three workers churn pages of one table (page_busy.test.worker.ts), and one after
 * another is killed and replaced.  At the end every page is free, cached, of a slab, or
 * of the table, and as many as there were.
 */
import { boot, shutdown } from '../boot/whole.ts';
import { PK_HAND, PK_OBJECT } from '../h/vm_page.ts';
import { atomic_load } from '../machine/atomic.ts';
import { counter_get } from '../machine/counter.ts';
import { v_reap_pages } from '../machine/death.ts';
import { churn } from '../machine/kills.test.lib.ts';
import { Crew, type Job } from '../machine/workers.test.lib.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { done_word, stop_word } from './page_busy.test.worker.ts';
import { owner, owner_make, owner_wrong, the_owner } from './page_owner.test.lib.ts';
import { vm_page_census, vm_page_check, vm_page_free_count } from './vm_page.ts';
import { vm_page_busy_count } from './vm_page_busy.ts';
import { vm_page_cache_check } from './vm_page_cache.ts';

export interface Killed {
  readonly kills: number;
  /** Pages that the dead had in hand, busy or cached. */
  readonly pages: number;
  readonly operations: number;
}
type Churn = Job<{ n: number }>;
const WORKERS = 3;

function wrong(): string {
  const table = owner_wrong();
  if (table !== '') return table;
  const census = vm_page_census();
  const entered = owner.count[the_owner()];
  if (census[PK_OBJECT] !== entered) return `${census[PK_OBJECT]} pages, ${entered} entered`;
  if (census[PK_HAND] !== 0) return `${census[PK_HAND]} pages in nobody's hand`;
  const busy = vm_page_busy_count();
  return busy === 0 ? '' : `${busy} pages are busy`;
}

/** Kills `kills` workers at any moment; throws if a page is lost, double or busy for ever. */
export async function page_kills(
  kills: number,
  seed: number,
  INVARIANTS: boolean,
): Promise<Killed> {
  const { handle } = boot({
    memory: '8M',
    cpus: WORKERS + 1,
    options: { INVARIANTS },
    fresh: true,
  });
  const crew = new Crew<{ n: number }>(new URL('./page_busy.test.worker.ts', import.meta.url));
  owner_make();
  uma_reclaim();
  const free = vm_page_free_count();
  const start = (_: number, n: number): Churn => crew.start(handle, 'churn', { seed: seed + n });
  const words = { done: done_word(), stop: stop_word() };
  await churn({ crew, workers: WORKERS, start, kills, seed, ...words, work: 0 });
  uma_reclaim();
  const what = wrong();
  if (what !== '') throw new Error(`seed ${seed}: ${what}`);
  uma_check();
  vm_page_check();
  vm_page_cache_check();
  const all = vm_page_free_count() + owner.count[the_owner()];
  if (all !== free) throw new Error(`seed ${seed}: ${all} pages free or entered, ${free} before`);
  const pages = counter_get(v_reap_pages);
  const operations = atomic_load(done_word());
  shutdown();
  return { kills, pages, operations };
}
