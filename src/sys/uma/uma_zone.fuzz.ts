/*
 * uma_zone (fuzz): the same seeded operations on zones and on their model.
 *
 * Zones of every kind come and go, plain, secondary, with several kegs, limits
 * and reserves; items are allocated and freed in batches; slabs, buckets and
 * pages are refused now and then; memory is reclaimed.  After each batch
 * uma_check walks everything and each zone has in use what the model holds.
 */
import { boot } from '../boot/whole.ts';
import { mem } from '../machine/memory.ts';
import { M_NOWAIT, M_USE_RESERVE, M_ZERO } from '../h/malloc_flags.ts';
import {
  KEGS_PER_ZONE,
  UMA_ZONE_CACHESPREAD,
  UMA_ZONE_MAXBUCKET,
  UMA_ZONE_OFFPAGE,
  UMA_ZONE_REFCNT,
  uma_keg,
  uma_zone,
  type zone_t,
  UMA_ZONE_VTOSLAB,
} from '../h/uma.ts';
import { page_failpoint, vm_page_free_count } from '../page/vm_page.ts';
import { bucket_failpoint } from './uma_bucket.ts';
import { uma_check, uma_free_or_records } from './uma_check.ts';
import { uma_zalloc, uma_zfree } from './uma_core.ts';
import { uma_reclaim } from './uma_drain.ts';
import { slab_failpoint, uma_find_refcnt } from './uma_keg.ts';
import { zone_present } from './uma_stats.ts';
import {
  uma_prealloc,
  uma_zcreate_nowait,
  uma_zdestroy,
  uma_zone_reserve,
  uma_zone_set_max,
  uma_zsecond_add,
  uma_zsecond_create,
} from './uma_zone.ts';
import { ZoneModel } from './uma_zone.model.ts';

/** One operation; the numbers choose among what there is. */
export interface Op {
  readonly what: (typeof WHATS)[number];
  readonly a: number;
  readonly b: number;
}
export const WHATS = [
  'alloc',
  'alloc',
  'alloc',
  'free',
  'free',
  'free',
  'create',
  'second',
  'add',
  'destroy',
  'limit',
  'reserve',
  'prealloc',
  'reclaim',
  'refuse',
] as const;
const SIZES = [1, 16, 24, 48, 100, 256, 500, 512, 1000, 1024, 2000, 2048, 3000, 4096, 5000, 9216];
const FLAGS = [
  0,
  0,
  0,
  UMA_ZONE_OFFPAGE,
  UMA_ZONE_VTOSLAB,
  UMA_ZONE_REFCNT,
  UMA_ZONE_MAXBUCKET,
  UMA_ZONE_CACHESPREAD,
];
const ZONES_MAX = 10;

interface Zone {
  readonly z: zone_t;
  /** Every keg but the first belongs to one of these too: they go first. */
  readonly users: Zone[];
}

/** A machine with zones, and the model beside it. */
export class World {
  readonly model = new ZoneModel();
  readonly zones: Zone[] = [];

  private pick(n: number): Zone | undefined {
    return this.zones[n % Math.max(1, this.zones.length)];
  }
  apply(op: Op): void {
    if (op.what === 'create') return this.create(op.a, op.b);
    if (op.what === 'reclaim') return void uma_reclaim();
    if (op.what === 'refuse') return this.refuse(op.a, op.b);
    const zone = this.pick(op.a);
    if (!zone) return;
    const k = uma_zone.keg[zone.z];
    switch (op.what) {
      case 'alloc':
        return this.alloc(zone.z, 1 + (op.b % 40), op.b);
      case 'free':
        return this.free(zone.z, 1 + (op.b % 40));
      case 'second':
        return this.second(zone);
      case 'add':
        return this.add(zone, op.b);
      case 'destroy':
        return this.destroy(zone);
      case 'limit': {
        const max = uma_zone_set_max(zone.z, op.b % 100);
        same('limit', max, Math.ceil((op.b % 100) / uma_keg.ipers[k]) * uma_keg.ipers[k]);
        return;
      }
      case 'reserve':
        return uma_zone_reserve(zone.z, op.b % 3 === 0 ? op.b % 20 : 0);
      case 'prealloc':
        return void uma_prealloc(zone.z, op.b % 30);
    }
  }
  private create(a: number, b: number): void {
    if (this.zones.length >= ZONES_MAX) return;
    const align = a % 5 === 0 ? 63 : 7;
    const flags = FLAGS[b % FLAGS.length];
    const size = SIZES[a % SIZES.length];
    // Counts and a header of its own need a slab of few items.
    const z = uma_zcreate_nowait(`zone ${a}`, size, { align, flags });
    if (z !== 0) this.zones.push({ z, users: [] });
  }
  private second(zone: Zone): void {
    if (this.zones.length >= ZONES_MAX || vm_page_free_count() < 8) return;
    refuse_nothing(); // it sleeps for memory, and alone it could only panic
    const z = uma_zsecond_create('second', 0, 0, 0, 0, zone.z);
    // Whoever has the keg behind it already is a user of this zone's keg too.
    this.zones.push({ z, users: [...zone.users] });
  }
  private add(zone: Zone, b: number): void {
    const master = this.pick(b) as Zone;
    const n = uma_zone.nkegs[zone.z];
    const error = uma_zsecond_add(zone.z, master.z);
    same('kegs', uma_zone.nkegs[zone.z], error === 0 ? n + 1 : n);
    if (n >= KEGS_PER_ZONE) same('a zone with all its kegs', error === 0 ? 1 : 0, 0);
    if (error === 0) for (const other of this.zones) if (on(other, master)) other.users.push(zone);
  }
  private alloc(z: zone_t, n: number, b: number): void {
    const flags = M_NOWAIT | (b % 3 === 0 ? M_ZERO : 0) | (b % 7 === 0 ? M_USE_RESERVE : 0);
    const bytes = uma_zone.size[z];
    for (let i = 0; i < n; i++) {
      const item = uma_zalloc(z, flags);
      if (item === 0) break;
      for (let w = 0; flags & M_ZERO && w < bytes >> 2; w++) same('zero', mem.I32[item + w], 0);
      this.model.take(z, item, bytes);
      if (uma_zone.flags[z] & UMA_ZONE_REFCNT) same('count', uma_find_refcnt(item), 0);
    }
  }
  private free(z: zone_t, n: number): void {
    const items = this.model.of(z);
    for (let i = 0; i < n && items.length > 0; i++) {
      const [item] = items.splice((i * 7919) % items.length, 1);
      this.model.give(item);
      uma_zfree(z, item);
    }
  }
  private destroy(zone: Zone): void {
    this.free(zone.z, Number.POSITIVE_INFINITY);
    const last = !this.zones.some((other) => other !== zone && on(other, zone));
    const used = zone.users.some((user) => user !== zone && this.zones.includes(user));
    const error = uma_zdestroy(zone.z);
    same('EBUSY', error === 0 ? 0 : 1, last && used ? 1 : 0);
    if (error === 0) this.zones.splice(this.zones.indexOf(zone), 1);
  }
  private refuse(a: number, b: number): void {
    const every = (n: number): (() => boolean) => {
      let calls = 0;
      return () => ++calls % n === 0;
    };
    slab_failpoint.refuse = a % 3 === 0 ? every(1 + (b % 4)) : null;
    bucket_failpoint.refuse = a % 3 === 1 ? every(1 + (b % 3)) : null;
    page_failpoint.refuse = a % 3 === 2 && b % 2 === 0 ? every(2 + (b % 4)) : null;
  }
  /** What must hold between operations. */
  check(): void {
    uma_check();
    for (const { z } of this.zones) {
      const n = zone_present(z);
      const live = this.model.of(z).length;
      same('in use', n.used, live);
      same('allocations less frees', n.allocs - n.frees, live);
    }
  }
  /** Frees and destroys everything; nothing may be left. */
  end(): void {
    refuse_nothing();
    for (const { z } of this.zones) this.free(z, Number.POSITIVE_INFINITY);
    uma_reclaim();
    this.check();
    for (let i = 0; this.zones.length > 0 && i < 100; i++) {
      this.destroy(this.zones[i % this.zones.length]);
    }
    same('zones left', this.zones.length, 0);
    uma_reclaim();
    uma_check();
  }
}
function refuse_nothing(): void {
  slab_failpoint.refuse = null;
  bucket_failpoint.refuse = null;
  page_failpoint.refuse = null;
}
/** Whether two zones stand on one first keg. */
function on(a: Zone, b: Zone): boolean {
  return uma_zone.keg[a.z] === uma_zone.keg[b.z];
}
function same(what: string, got: number, expected: number): void {
  if (got !== expected) throw new Error(`${what}: ${got}, the model says ${expected}`);
}
/** Boots a machine for a world of zones. */
export function world_boot(memory: string, seed: number): { shutdown(): void } {
  return boot({
    memory,
    cpus: 2,
    domains: 1 + (seed % 2),
    options: { INVARIANTS: true, WITNESS: true, FAILPOINTS: true },
    seed,
    fresh: true,
  });
}

/** Plays `steps` operations; throws where zones and model differ. */
export function run(seed: number, steps: number): void {
  let s = (seed * 2654435761) >>> 0 || 1;
  const draw = (n: number): number => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return (s >>> 8) % n;
  };
  const machine = world_boot(seed % 3 === 0 ? '1M' : '4M', seed);
  const world = new World();
  const free = { pages: 0 };
  try {
    uma_reclaim();
    free.pages = uma_free_or_records();
    for (let step = 0; step < steps; step++) {
      const op = { what: WHATS[draw(WHATS.length)], a: draw(1000), b: draw(1000) };
      try {
        world.apply(op);
        world.check();
      } catch (e) {
        throw new Error(`seed ${seed}, step ${step}: ${JSON.stringify(op)}`, { cause: e });
      }
    }
    world.end();
    same('free pages at the end', uma_free_or_records(), free.pages);
  } finally {
    refuse_nothing();
    machine.shutdown();
  }
}
