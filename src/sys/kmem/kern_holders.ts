/*
 * kern_holders: who holds most of the memory.
 *
 *      ENOMEM ... most is held by type 'sessions' (9437184 bytes), zone 'conn' (2097152 bytes)
 *
 * A request that finds no memory says where it is, because the one who asks is seldom the one
 * who has it.  A type holds what its blocks take, as size classes round them; a zone the
 * pages of its keg, idle items among them.  Zones that serve malloc are left out: their
 * pages are the types'.  Two zones on one keg are one holder, by the name of the first.  Guarded
 * blocks, whatever they are of, are one, too.  Address spaces are added by those who know their
 * names (lib/space.ts).
 *
 * It is a sample: nobody is stopped, and counts are added up once, without the care that
 * statistics take.  A program may run into ENOMEM thousands of times a second.
 */
import { PAGE_SIZE } from '../machine/memory.ts';
import { UMA_ZFLAG_INTERNAL, UMA_ZONE_MALLOC, uma_keg, uma_zone, type zone_t } from '../h/uma.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { uma, uma_each_keg, uma_root, zone_name } from '../uma/uma_int.ts';
import { malloc_type_list, malloc_type_name } from './kern_malloc_type.ts';
import { malloc_type_bytes } from './kern_malloc_sums.ts';
import { guard_bytes } from './memguard_vars.ts';

/** One that holds memory. */
export interface Holder {
  readonly kind: 'type' | 'zone' | 'space' | 'memguard';
  readonly name: string;
  /** Bytes that it holds. */
  readonly bytes: number;
}

/** The `n` that hold most, the largest first. Takes the malloc lock and that of the zones. */
export function largest_holders(n: number): Holder[] {
  return [...types(), ...zones(), ...guarded()].sort((a, b) => b.bytes - a.bytes).slice(0, n);
}
function types(): Holder[] {
  const all: Holder[] = [];
  malloc_type_list((t) => {
    const bytes = malloc_type_bytes(t);
    if (bytes > 0) all.push({ kind: 'type', name: malloc_type_name(t), bytes });
  });
  return all;
}
/** Blocks that are guarded count under no type and no zone. */
function guarded(): Holder[] {
  const bytes = guard_bytes();
  return bytes === 0 ? [] : [{ kind: 'memguard', name: 'guarded blocks', bytes }];
}
const OTHERS = UMA_ZFLAG_INTERNAL | UMA_ZONE_MALLOC;
function zones(): Holder[] {
  const all: Holder[] = [];
  const r = uma();
  mtx_lock(uma_root.lock, r);
  uma_each_keg((k) => {
    const z = uma_keg.zones[k] as zone_t;
    const bytes = uma_keg.pages[k] * PAGE_SIZE;
    if (z === 0 || bytes === 0 || (uma_zone.flags[z] & OTHERS) !== 0) return;
    all.push({ kind: 'zone', name: zone_name(z), bytes });
  });
  mtx_unlock(uma_root.lock, r);
  return all;
}
