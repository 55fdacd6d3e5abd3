/*
 * The worker of vm_map_smp.slow.test.ts: it maps, takes out, protects, writes and reads in a
 * part of the one map that is its own, beside a model of that part; and now and then does the
 * same in a part that is everybody's, where it keeps an entry in transition for a while, until
 * it is told to stop or is killed.
 */
import { attach, detach } from '../boot/whole.ts';
import { atomic_add, atomic_load } from '../machine/atomic.ts';
import { host_sleep } from '../machine/host.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { NULL } from '../machine/struct.ts';
import { run_job } from '../machine/workers.test.lib.ts';
import {
  MAP_ENTRY_IN_TRANSITION,
  VMFS_ANY_SPACE,
  vm_map_entry,
  type vm_map_t,
} from '../h/vm_map.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import {
  vm_map_lock,
  vm_map_transition_begin,
  vm_map_transition_end,
  vm_map_unlock,
  vm_map_wakeup,
} from './vm_map.ts';
import { MapPlay } from './vm_map.fuzz.ts';
import { vm_map_find } from './vm_map_insert.ts';
import { vm_map_protect, vm_map_remove } from './vm_map_range.ts';
import { vm_map_lookup } from './vm_map_tree.ts';
import { MapModel } from './vm_map.model.ts';
import {
  ANON,
  COMMON,
  done_word,
  map_at,
  memory_write,
  PART,
  stop_word,
} from './vm_map.test.lib.ts';

/** Something in the part that is everybody's: no model, but waits. */
function common(mp: vm_map_t, draw: (n: number) => number): void {
  const start = draw(COMMON);
  const end = start + 1 + draw(COMMON - start);
  const what = draw(5);
  if (what === 0) vm_map_remove(mp, start, end);
  if (what === 1) vm_map_protect(mp, start, end, draw(8));
  if (what === 2) {
    const n = 1 + draw(20);
    vm_map_find(mp, n, ANON, { mode: VMFS_ANY_SPACE, at: start, high: COMMON });
  }
  if (what === 3) memory_write(mp, start, 1);
  if (what === 4) work(mp, start);
}
/** Keeps an entry in transition for a while, with the map let go. */
function work(mp: vm_map_t, vpn: number): void {
  vm_map_lock(mp);
  const e = vm_map_lookup(mp, vpn);
  if (e === NULL || vm_map_entry.eflags[e] & MAP_ENTRY_IN_TRANSITION) return vm_map_unlock(mp);
  vm_map_transition_begin(mp, e);
  vm_map_unlock(mp);
  host_sleep(0.1);
  vm_map_lock(mp);
  const wanted = vm_map_transition_end(mp, e);
  vm_map_unlock(mp);
  if (wanted) vm_map_wakeup(mp);
}
function churn(seed: number, part: number): number {
  const mp = map_at(0);
  const draw = dice(seed + 1);
  const [min, max] = [COMMON + part * PART, COMMON + (part + 1) * PART];
  vm_map_remove(mp, min, max); // what one who died left there
  const model = new MapModel(min, max, []);
  const play = new MapPlay(seed, [{ mp, model, part: true, paged: true }], NULL as vm_object_t);
  let n = 0;
  for (; atomic_load(stop_word()) === 0; n++) {
    play.step();
    if (draw(4) === 0) common(mp, draw);
    if (n % 500 === 0) play.compare();
    if (n % 16 === 0) atomic_add(done_word(), 16);
  }
  play.compare();
  return n;
}
run_job<{ seed: number; part: number }>((_job, { seed, part }) => ({ n: churn(seed, part) }), {
  join: attach,
  leave: () => void detach(),
});
