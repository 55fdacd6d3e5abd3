/*
 * uma_split: a program goes to and fro around the edges of its buckets.
 *
 * Each CPU takes and frees runs of items, so that its full buckets are split
 * and rotated while the other CPU drains them.  What a CPU holds is written
 * down in shared memory: after a death the zone must know of as many items as
 * were held, but for the one between a bucket and its caller.
 */
import { curcpu } from '../../src/sys/machine/cpu.ts';
import { counter_get } from '../../src/sys/machine/counter.ts';
import { v_reaps } from '../../src/sys/machine/death.ts';
import {
  elem,
  i32,
  NULL,
  type Ptr,
  struct,
  unchecked,
  words,
} from '../../src/sys/machine/struct.ts';
import { M_NOWAIT } from '../../src/sys/h/malloc_flags.ts';
import type { zone_t } from '../../src/sys/h/uma.ts';
import { uma_check } from '../../src/sys/uma/uma_check.ts';
import { uma_zalloc, uma_zfree } from '../../src/sys/uma/uma_core.ts';
import { uma_reclaim } from '../../src/sys/uma/uma_drain.ts';
import { uma_zcreate, uma_zone_get_cur } from '../../src/sys/uma/uma_zone.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_split'>;
const MOST = 32;
const CPUS = 2;
/* Locks: (c) constant */
const rec = struct<rec_t>('sim_split')({
  zone: i32('c', 'the zone'),
  n: words(unchecked('each CPU has its own element'), 'items that each CPU holds', CPUS),
  held: words(unchecked('each CPU has its own part'), 'the items', CPUS * MOST),
});
const ITEM_BYTES = 64;

const zone = (): zone_t => rec.zone[scratch<rec_t>()] as zone_t;

function take(count: number): void {
  const mine = elem(scratch<rec_t>(), curcpu());
  for (let i = 0; i < count && rec.n[mine] < MOST; i++) {
    const item = uma_zalloc(zone(), M_NOWAIT);
    if (item === NULL) return;
    rec.held[elem(scratch<rec_t>(), curcpu() * MOST + rec.n[mine])] = item;
    rec.n[mine]++;
  }
}
function give(count: number): void {
  const mine = elem(scratch<rec_t>(), curcpu());
  for (let i = 0; i < count && rec.n[mine] > 0; i++) {
    const n = --rec.n[mine];
    uma_zfree(zone(), rec.held[elem(scratch<rec_t>(), curcpu() * MOST + n)]);
  }
}

export const script: SimScript = {
  help: 'uma: full buckets are split; no item twice, none lost but the one in hand',
  options: { INVARIANTS: false },
  cpus: CPUS,
  victim: 1,
  kill_seeds: 2,
  setup() {
    rec.zone[scratch<rec_t>()] = uma_zcreate('sim split', ITEM_BYTES);
  },
  ops: (cpu) =>
    cpu === 0
      ? [() => take(6), () => uma_reclaim(), () => give(6)]
      : [
          () => take(MOST),
          () => give(20),
          () => take(9),
          () => give(MOST),
          () => take(7),
          () => give(5),
          () => take(12),
        ],
  check() {
    const r = scratch<rec_t>();
    uma_check();
    const held = rec.n[elem(r, 0)] + rec.n[elem(r, 1)];
    const lost = counter_get(v_reaps);
    const cur = uma_zone_get_cur(zone());
    return cur >= held && cur <= held + lost ? undefined : `${cur} items in use, ${held} held`;
  },
};
