/*
 * uma_going: a zone ends while another CPU has buckets of it.
 *
 * Both CPUs make zones, use them, and end what the other one used: so the zone
 * that ends has buckets in a cache that only the other CPU may touch.  It is
 * going until that CPU has handed its caches over.  When all is quiet none is
 * going but for a CPU that was asked; and every item and page is accounted for, whoever died.
 */
import { atomic_xchg } from '../../src/sys/machine/atomic.ts';
import { field_word, i32, type Ptr, struct } from '../../src/sys/machine/struct.ts';
import { M_NOWAIT } from '../../src/sys/h/malloc_flags.ts';
import type { zone_t } from '../../src/sys/h/uma.ts';
import { uma_zalloc, uma_zfree } from '../../src/sys/uma/uma_core.ts';
import { uma_drain_pending, uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { uma, uma_root } from '../../src/sys/uma/uma_int.ts';
import { uma_zcreate_nowait, uma_zdestroy } from '../../src/sys/uma/uma_zone.ts';
import { check_account } from '../account.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_uma_going'>;
/* Locks: (a) atomic */
const rec = struct<rec_t>('sim_uma_going')({
  place: i32('a', 'a zone that nobody uses at the moment, 0: none'),
});
const place = (): number => field_word(rec.place, scratch<rec_t>());

/** Ends a zone; whoever has it is its only user. */
function end(z: number): void {
  if (z !== 0 && uma_zdestroy(z as zone_t) !== 0) throw new Error('the zone does not end');
}
function make(): void {
  end(atomic_xchg(place(), uma_zcreate_nowait('sim going', 700)));
}
/** Leaves items of the zone in this CPU's cache. */
function use(): void {
  const z = atomic_xchg(place(), 0) as zone_t;
  if (z === 0) return;
  const items = [uma_zalloc(z, M_NOWAIT), uma_zalloc(z, M_NOWAIT)];
  for (const item of items) uma_zfree(z, item);
  end(atomic_xchg(place(), z));
}

export const script: SimScript = {
  help: 'uma: zones end while the other CPU has buckets of them; they end later',
  victim: 1,
  kill_seeds: 4,
  setup() {
    make();
    use();
  },
  ops: (cpu) => (cpu === 0 ? [use, make, use, make] : [use, use, make, use, make]),
  check() {
    uma_reclaim();
    const left = uma_root.going[uma()];
    // A CPU that lives and makes no more calls has been asked, and has not answered.
    if (left !== 0 && !uma_drain_pending()) return `${left} zones are going still`;
    const lost = uma_root.lost_pages[uma()];
    return lost === 0 ? check_account() : `${lost} pages went with zones that were not empty`;
  },
};
