/*
 * page_kinds (fuzz): the same seeded operations on the page floor and on its model.
 *
 * Pages are taken from caches and queues, singly and in runs, by the program, by an
 * owner with an index, by malloc and by zones; they are entered, worked on, taken out and
 * given back, zeroed or not; caches are emptied, free pages zeroed ahead, memory
 * reclaimed.  After every operation the pages of each kind are as many as the model
 * says, and caches, queues and all kinds together are all pages there are.  Now and then
 * the walkers prove the lists as well.  The machine is small, so that it runs dry.
 */
import { boot } from '../boot/whole.ts';
import { M_NOWAIT } from '../h/malloc_flags.ts';
import { uma_keg, type zone_t } from '../h/uma.ts';
import {
  PK_BOOT,
  PK_CACHE,
  PK_FREE,
  PK_HAND,
  PK_LARGE,
  PK_MALLOC,
  PK_MASK,
  PK_OBJECT,
  PK_REST,
  PK_SLAB,
  PK_WIRED,
  VM_ALLOC_ZERO,
  vm_page,
} from '../h/vm_page.ts';
import { free, malloc, malloc_type_attach } from '../kmem/kern_malloc.ts';
import { PAGE_WORDS, word_page } from '../machine/memory.ts';
import { uma_check } from '../uma/uma_check.ts';
import { uma_zalloc, uma_zfree } from '../uma/uma_core.ts';
import { uma_reclaim } from '../uma/uma_drain.ts';
import { uma_each_keg } from '../uma/uma_int.ts';
import { uma_zcreate_nowait } from '../uma/uma_zone.ts';
import { type Holder, KindsModel } from './page_kinds.model.ts';
import {
  OWNED_MAX,
  owner_make,
  owner_wrong,
  page_drop,
  page_enter,
  page_for,
  page_leave,
  page_work,
} from './page_owner.test.lib.ts';
import { dice } from './page_runs.fuzz.ts';
import {
  pmap_zero_page,
  vm_page_alloc,
  vm_page_alloc_run,
  vm_page_cached,
  vm_page_census,
  vm_page_check,
  vm_page_free_count,
  vm_page_free_run,
  vm_page_wire,
  vm_page_zero_idle,
} from './vm_page.ts';
import {
  vm_page_cache_check,
  vm_page_cache_empty,
  vm_page_get,
  vm_page_get_run,
  vm_page_put,
  vm_page_put_run,
} from './vm_page_cache.ts';
import { phys_root, vm_phys } from './vm_phys.ts';

/** Between two proofs of the lists. */
const WALK = 512;
const HELD_MOST = 300;
const KIND_OF: Record<Holder, readonly number[]> = {
  wired: [PK_WIRED],
  large: [PK_LARGE, PK_REST],
  busy: [PK_OBJECT],
  object: [PK_OBJECT],
};

function same(what: string, got: number, expected: number): void {
  if (got !== expected) throw new Error(`${what}: ${got}, the model says ${expected}`);
}

class Play {
  readonly model = new KindsModel();
  readonly draw: (n: number) => number;
  readonly type = malloc_type_attach('page_kinds');
  readonly zone: zone_t;
  readonly wired_before: number;
  readonly kernel_before: number;
  readonly runs: { m: number; n: number }[] = [];
  readonly large: number[] = [];
  readonly items: number[] = [];
  readonly busy: number[] = [];

  constructor(seed: number) {
    this.draw = dice(seed);
    owner_make();
    this.zone = uma_zcreate_nowait('page_kinds', 700);
    const census = vm_page_census();
    this.wired_before = census[PK_WIRED];
    this.kernel_before = census[PK_BOOT];
  }
  /** Takes one from a list at random; undefined: it is empty. */
  one_of<T>(list: T[]): T | undefined {
    return list.length === 0 ? undefined : list.splice(this.draw(list.length), 1)[0];
  }
  keep(m: number, n: number): void {
    if (m === 0) return;
    vm_page_wire(m, n);
    for (let i = m; i < m + n; i++) this.model.take(i, 'wired');
    this.runs.push({ m, n });
  }
  give(): void {
    const run = this.one_of(this.runs);
    if (run === undefined) return;
    const { m, n } = run;
    const zero = this.draw(3) === 0;
    for (let i = m; i < m + n; i++) {
      if (zero) pmap_zero_page(i);
      this.model.move(i, 'wired', null);
    }
    if (n === 1 && this.draw(4) !== 0) vm_page_put(m, zero);
    else if (n > 1 && !zero && this.draw(2) === 0) vm_page_put_run(m, n);
    else vm_page_free_run(m, n, zero);
  }
  block(): void {
    const n = 2 + this.draw(6);
    const p = malloc(n * PAGE_WORDS * 4, this.type, M_NOWAIT);
    if (p === 0) return;
    for (let i = 0; i < n; i++) this.model.take(word_page(p) + i, 'large');
    this.large.push(p);
  }
  unblock(): void {
    const p = this.one_of(this.large);
    if (p === undefined) return;
    for (let m = word_page(p), n = vm_page.index[m]; n > 0; n--)
      this.model.move(m++, 'large', null);
    free(p, this.type);
  }
  make(): void {
    const m = page_for(this.draw(OWNED_MAX), this.draw(2) === 0);
    if (m === 0) return;
    this.model.take(m, 'busy');
    this.busy.push(m);
  }
  enter(): void {
    const m = this.one_of(this.busy);
    if (m === undefined) return;
    if (page_enter(m)) this.model.move(m, 'busy', 'object');
    else this.busy.push(m);
  }
  leave(): void {
    const m = page_leave(this.draw(OWNED_MAX));
    if (m === 0) return;
    this.model.move(m, 'object', 'busy');
    this.busy.push(m);
  }
  drop(): void {
    const m = this.one_of(this.busy);
    if (m === undefined) return;
    const zero = this.draw(2) === 0;
    if (zero) pmap_zero_page(m);
    this.model.move(m, 'busy', null);
    page_drop(m, zero);
  }
  item(): void {
    for (let n = this.draw(12); n > 0; n--) {
      const item = uma_zalloc(this.zone, M_NOWAIT);
      if (item !== 0) this.items.push(item);
    }
  }
  unitem(): void {
    for (let n = this.draw(12); n > 0; n--) {
      const item = this.one_of(this.items);
      if (item !== undefined) uma_zfree(this.zone, item);
    }
  }
  step(): void {
    const grow = this.runs.length + this.busy.length < HELD_MOST;
    const what = this.draw(100);
    if (what < 14 && grow) this.keep(vm_page_get(this.draw(2) === 0 ? VM_ALLOC_ZERO : 0), 1);
    else if (what < 20 && grow) this.keep(vm_page_alloc(this.draw(32), 0), 1);
    else if (what < 24 && grow) {
      const n = 1 + this.draw(24);
      this.keep(n < 6 ? vm_page_get_run(n, 0) : vm_page_alloc_run(n, 0), n);
    } else if (what < 45) this.give();
    else if (what < 49) this.block();
    else if (what < 54) this.unblock();
    else if (what < 64) this.make();
    else if (what < 72) this.enter();
    else if (what < 78) this.leave();
    else if (what < 83) this.drop();
    else if (what < 85) page_work(this.draw(OWNED_MAX), pmap_zero_page);
    else if (what < 90) this.item();
    else if (what < 96) this.unitem();
    else if (what < 98) vm_page_zero_idle(this.draw(8));
    else if (what < 99) vm_page_cache_empty();
    else uma_reclaim();
  }
  /** Every page is where the model says, and the kinds together are all pages. */
  agree(): void {
    const ph = phys_root();
    const { model } = this;
    const census = vm_page_census();
    same('wired pages', census[PK_WIRED] - this.wired_before, model.count('wired'));
    same('pages of large blocks', census[PK_LARGE] + census[PK_REST], model.count('large'));
    same('pages of objects', census[PK_OBJECT], model.count('busy') + model.count('object'));
    same('pages in hand', census[PK_HAND], 0);
    same('pages of boot', census[PK_BOOT], this.kernel_before);
    same('free pages', census[PK_FREE], vm_phys.free[ph]);
    same('cached pages', census[PK_CACHE], vm_page_cached());
    same('free count', vm_page_free_count(), census[PK_FREE] + census[PK_CACHE]);
    let slabs = 0;
    uma_each_keg((k) => {
      slabs += uma_keg.pages[k];
    });
    same('pages of slabs', census[PK_SLAB] + census[PK_MALLOC], slabs);
    const all = census.reduce((sum, n) => sum + n, 0);
    same('all pages', all, vm_phys.high[ph] - vm_phys.low[ph]);
  }
  walk(): void {
    const { model } = this;
    model.each((m, by) => {
      const kind = vm_page.info[m] & PK_MASK;
      if (!KIND_OF[by].includes(kind))
        throw new Error(`page ${m} is ${kind}, the model says ${by}`);
      const is_busy = vm_page.busy[m] !== 0;
      if (is_busy !== (by === 'busy')) throw new Error(`page ${m}: busy ${is_busy}, it is ${by}`);
    });
    const wrong = owner_wrong();
    if (wrong !== '') throw new Error(wrong);
    vm_page_check();
    vm_page_cache_check();
    uma_check();
  }
}

/** Plays `steps` operations; throws where the page floor and the model differ. */
export function run(seed: number, steps: number): void {
  const machine = boot({ memory: '12M', cpus: 1, options: { INVARIANTS: true }, seed });
  try {
    if (vm_phys.cache_max[phys_root()] === 0) throw new Error('this machine has no page caches');
    const play = new Play(seed);
    for (let step = 0; step < steps; step++) {
      try {
        play.step();
        play.agree();
        if (step % WALK === WALK - 1) play.walk();
      } catch (e) {
        throw new Error(`seed ${seed}, step ${step}`, { cause: e });
      }
    }
    play.walk();
  } finally {
    machine.shutdown();
  }
}
