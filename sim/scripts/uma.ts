/*
 * uma: items of a zone are taken, handed to other CPUs and given back.
 *
 * Each CPU takes items, writes its mark into them, and swaps them against
 * what lies in a few shared places; so most items are freed by another CPU
 * than took them.  An item in two hands shows by its mark; the walkers prove
 * kegs, slabs, buckets and pages afterwards, and what the zone says is in use
 * must be what lies in the shared places.
 */
import { atomic_xchg } from '../../src/sys/machine/atomic.ts';
import { curcpu } from '../../src/sys/machine/cpu.ts';
import { counter_get } from '../../src/sys/machine/counter.ts';
import { v_reaps } from '../../src/sys/machine/death.ts';
import { mem } from '../../src/sys/machine/memory.ts';
import { elem, field_word, i32, type Ptr, struct, words } from '../../src/sys/machine/struct.ts';
import { M_NOWAIT, M_WAITOK } from '../../src/sys/h/malloc_flags.ts';
import { NULL } from '../../src/sys/machine/struct.ts';
import type { zone_t } from '../../src/sys/h/uma.ts';
import { uma_check } from '../../src/sys/uma/uma_check.ts';
import { uma_zalloc, uma_zfree } from '../../src/sys/uma/uma_core.ts';
import { uma_zcreate, uma_zone_get_cur } from '../../src/sys/uma/uma_zone.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_uma'>;
const PLACES = 3;
/* Locks: (c) constant  (a) atomic */
const rec = struct<rec_t>('sim_uma')({
  zone: i32('c', 'the zone'),
  place: words('a', 'items that wait for another CPU', PLACES),
});
const ITEM_BYTES = 480;
const MARK = 0x1000;

const zone = (): zone_t => rec.zone[scratch<rec_t>()] as zone_t;

/** Takes an item, marks it, and lays it into a place; frees what lay there. */
function swap(place: number, flags: number): void {
  const item = uma_zalloc(zone(), flags);
  if (item === NULL) return;
  mem.I32[item] = MARK + curcpu();
  mem.I32[item + 1] = item;
  release(atomic_xchg(field_word(rec.place, elem(scratch<rec_t>(), place)), item));
}
/** Frees what lies in a place. */
function clear(place: number): void {
  release(atomic_xchg(field_word(rec.place, elem(scratch<rec_t>(), place)), 0));
}
function release(item: number): void {
  if (item === 0) return;
  if (mem.I32[item + 1] !== item || (mem.I32[item] & ~7) !== MARK) {
    throw new Error(`item ${item} was in two hands: ${mem.I32[item]} ${mem.I32[item + 1]}`);
  }
  mem.I32[item + 1] = 0;
  uma_zfree(zone(), item);
}

export const script: SimScript = {
  help: 'uma: items cross CPUs; no item in two hands, walkers clean',
  cpus: 2,
  victim: 1,
  setup() {
    rec.zone[scratch<rec_t>()] = uma_zcreate('sim', ITEM_BYTES);
  },
  ops: (cpu) => [
    () => swap(0, M_WAITOK),
    () => swap(1, M_NOWAIT),
    () => swap(cpu, M_WAITOK),
    () => swap(2, M_NOWAIT),
    () => clear(1 - cpu),
    () => swap(2, M_WAITOK),
  ],
  check() {
    const r = scratch<rec_t>();
    uma_check();
    let lying = 0;
    for (let i = 0; i < PLACES; i++) if (rec.place[elem(r, i)] !== 0) lying++;
    const cur = uma_zone_get_cur(zone());
    // A dead CPU may have had one item in its hand, and one on the way out of it.
    const lost = counter_get(v_reaps) > 0 ? 2 : 0;
    const right = cur >= lying && cur <= lying + lost;
    return right ? undefined : `${cur} items in use, ${lying} lie in the places`;
  },
};
