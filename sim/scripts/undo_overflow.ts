/*
 * undo_overflow: a CPU dies in a section that was too long for its undo log.
 *
 * Only a machine without INVARIANTS gets there: with them the section panics
 * where it overflows.  The section stands under the lock of a keg, logs a word
 * that it does not change until the log is full, and goes on.  Whoever takes the
 * lock over walks the keg, finds it whole, and goes on: nobody hangs, nobody
 * panics.
 */
import { sim_point } from '../../src/sys/machine/atomic.ts';
import { UNDO_PAIRS } from '../../src/sys/machine/cpu.ts';
import { mem } from '../../src/sys/machine/memory.ts';
import { i32, type Ptr, struct } from '../../src/sys/machine/struct.ts';
import { M_NOWAIT } from '../../src/sys/h/malloc_flags.ts';
import { uma_keg, uma_zone, type zone_t } from '../../src/sys/h/uma.ts';
import { mtx_lock, mtx_unlock } from '../../src/sys/sync/kern_mutex.ts';
import { save, save_word, undo_begin, undo_end } from '../../src/sys/sync/undo.ts';
import { uma_check } from '../../src/sys/uma/uma_check.ts';
import { uma_zalloc, uma_zfree } from '../../src/sys/uma/uma_core.ts';
import { uma_zcreate } from '../../src/sys/uma/uma_zone.ts';
import { type SimScript, scratch } from '../script.ts';

type rec_t = Ptr<'sim_undo_overflow'>;
const rec = struct<rec_t>('sim_undo_overflow')({ zone: i32('c', 'the zone') });

const overlong = (): void => {
  const k = uma_zone.keg[rec.zone[scratch<rec_t>()] as zone_t];
  mtx_lock(uma_keg.lock, k);
  undo_begin(uma_keg.lock, k);
  save(uma_keg.free, k);
  for (let i = 0; i < UNDO_PAIRS; i++) save_word(k + uma_keg.lock + 3);
  sim_point(k);
  undo_end();
  mtx_unlock(uma_keg.lock, k);
};
const use = (): void => {
  const z = rec.zone[scratch<rec_t>()] as zone_t;
  const items = [0, 1, 2].map(() => uma_zalloc(z, M_NOWAIT));
  if (items.includes(0)) throw new Error('no memory');
  for (const item of items) mem.I32[item] = 1;
  for (const item of items) uma_zfree(z, item);
};

export const script: SimScript = {
  help: 'undo: the section of a dead CPU was too long, its keg is walked',
  victim: 1,
  kill_seeds: 1,
  options: { INVARIANTS: false },
  setup() {
    const z = uma_zcreate('overlong', 64);
    rec.zone[scratch<rec_t>()] = z;
    uma_zfree(z, uma_zalloc(z, M_NOWAIT));
  },
  ops: (cpu) => (cpu === 1 ? [overlong, use] : [use, overlong]),
  check() {
    uma_check();
    return undefined;
  },
};
