/*
 * uma_dbg: what INVARIANTS checks about every item.
 *
 * Each slab header has a second bit per item: allocated.  Freeing an item whose
 * bit is clear is a duplicate free, freeing an address between items is caught
 * on the way.  Bits of neighbours may change on other CPUs, so they are set and
 * cleared atomically.
 *
 * Freed memory is filled with 0xdeadc0de and looked at when it is given out
 * again: a word that changed was written after its free.  In malloc buckets the
 * last word is left out of the fill; it names the type that freed the block.
 * Zones whose items keep their state between uses (with init, ctor or dtor), and
 * kegs that several zones ever shared, are not filled.
 */
import { life } from '../machine/life.ts';
import { atomic_and, atomic_or } from '../machine/atomic.ts';
import { mem } from '../machine/memory.ts';
import { panic } from '../machine/panic.ts';
import { item_history } from '../machine/parts.ts';
import { elem } from '../machine/struct.ts';
import { type slab_t, UMA_ZONE_ZINIT, uma_keg, uma_slab, uma_zone, type zone_t } from '../h/uma.ts';
import { UMA_ZFLAG_SHARED, zone_name } from './uma_int.ts';
import { slab_index, UMA_JUNK, vtoslab } from './uma_keg.ts';

const zone = uma_zone;
const keg = uma_keg;

/** The slab of an item of zone z; panics if the item is none of its kegs'. */
function slab_of(z: zone_t, item: number): slab_t {
  const s = vtoslab(item);
  if (s > 0) {
    const k = uma_slab.keg[s];
    if (k === zone.keg[z]) return s;
    for (let i = 1; i < zone.nkegs[z]; i++) if (zone.kegs[elem(z, i)] === k) return s;
  }
  panic('uma: Freed item did not belong to zone', item * 4, zone_name(z));
}
/**
 * Whether items are not filled.  SHARED stays once set: items that were freed
 * while another zone stood on the keg have no fill to be looked for later.
 */
function keeps_state(z: zone_t, s: slab_t): boolean {
  const k = uma_slab.keg[s];
  return (
    zone.ctor[z] !== 0 ||
    zone.dtor[z] !== 0 ||
    zone.zinit[z] !== 0 ||
    keg.init[k] !== 0 ||
    (keg.flags[k] & (UMA_ZFLAG_SHARED | UMA_ZONE_ZINIT)) !== 0
  );
}

/** Marks an item as given out and looks whether somebody wrote into it while it was free. */
export function uma_dbg_alloc(z: zone_t, item: number): void {
  const s = slab_of(z, item);
  const i = slab_index(s, item);
  const w = s + keg.dbg_off[uma_slab.keg[s]] + (i >> 5);
  const bit = 1 << (i & 31);
  if (atomic_or(w, bit) & bit) panic('uma: item given out twice', item * 4, zone_name(z));
  if (!keeps_state(z, s)) trash_verify(z, item);
}
/** Marks an item as free and fills it. Panics on a duplicate free. */
export function uma_dbg_free(z: zone_t, item: number): void {
  const s = slab_of(z, item);
  const i = slab_index(s, item);
  const w = s + keg.dbg_off[uma_slab.keg[s]] + (i >> 5);
  const bit = 1 << (i & 31);
  if ((atomic_and(w, ~bit) & bit) === 0) {
    panic('Duplicate free of item', item * 4, `from zone ${zone_name(z)}`, ...item_history(item));
  }
  if (!keeps_state(z, s)) trash_fill(z, item);
}
/**
 * The same for an item that a record leads to, which vouches for it: no complaint
 * if it is not marked, because a thread may have died before it was, or after.
 */
export function uma_dbg_give(z: zone_t, item: number): void {
  const s = slab_of(z, item);
  const i = slab_index(s, item);
  atomic_and(s + keg.dbg_off[uma_slab.keg[s]] + (i >> 5), ~(1 << (i & 31)));
  if (!keeps_state(z, s)) trash_fill(z, item);
}
function trash_words(z: zone_t): number {
  return (zone.size[z] >> 2) - (zone.mclass[z] !== 0 ? 1 : 0);
}
function trash_fill(z: zone_t, item: number): void {
  mem.U32.fill(UMA_JUNK, item, item + trash_words(z));
}
/** As ddb takes it. */
function hex(n: number): string {
  return `0x${n.toString(16)}`;
}
function trash_verify(z: zone_t, item: number): void {
  const n = trash_words(z);
  for (let i = 0; i < n; i++) {
    const v = mem.U32[item + i];
    if (v === UMA_JUNK) continue;
    const by = zone.mclass[z] !== 0 ? mem.I32[item + n] : 0;
    const user = by === 0 ? 'none' : life.type_name(by);
    panic(
      `Memory modified after free ${hex(item * 4)}(${zone.size[z]}) val=${hex(v)} ` +
        `@ ${hex((item + i) * 4)}, zone ${zone_name(z)}. Most recently used by ${user}`,
      ...item_history(item),
    );
  }
}
