/*
 * Test driver: threads that play with guarded blocks of one type, while this one switches memguard
 * on and off, and changes what is guarded.  Some of them are killed.
 */
import assert from 'node:assert/strict';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { reap_all } from '../machine/death.ts';
import { kill_in_turn } from '../machine/kills.test.lib.ts';
import { dice } from '../machine/seed.test.lib.ts';
import { Crew, sleep, within } from '../machine/workers.test.lib.ts';
import type { zone_t } from '../h/uma.ts';
import { MAP_ENTRY_ITEM } from '../h/vm_map.ts';
import { map_entries } from '../map/vm_map_check.ts';
import { done_word, maps_make, stop_word } from '../map/vm_map.test.lib.ts';
import { malloc_type_attach } from './kern_malloc_type.ts';
import { guard_turn, play_zone } from './memguard.fuzz.ts';
import { get, guard_up, set } from './memguard.test.lib.ts';
import { memguard_free } from './memguard.ts';
import { guarded_of } from './memguard_held.ts';
import { guard_map_there } from './memguard_vars.ts';

const FILE = new URL('./memguard.test.worker.ts', import.meta.url);
const THREADS = 2;

interface Counts {
  readonly [name: string]: number;
  readonly n: number;
  readonly traps: number;
  readonly guarded: number;
  readonly plain: number;
}
export interface GuardChurn {
  readonly seed: number;
  /** Of each thread; with kills they go on until these are over. */
  readonly steps: number;
  /** How often memguard is switched on, and off again. */
  readonly switches: number;
  readonly kills: number;
  readonly INVARIANTS: boolean;
}
/** Operations that were done, by those who were not killed. The caller calls guard_down. */
export async function guard_churn(o: GuardChurn): Promise<Counts> {
  const options = { INVARIANTS: o.INVARIANTS, WITNESS: o.INVARIANTS };
  const { handle } = guard_up({ trap: 'report' }, { cpus: THREADS + 2, options });
  maps_make();
  malloc_type_attach('play');
  const z = play_zone('play');
  const crew = new Crew<Counts>(FILE);
  const steps = o.kills > 0 ? Number.MAX_SAFE_INTEGER : o.steps;
  const start = (n: number) => crew.start(handle, 'play', { seed: o.seed + n, steps });
  const jobs = Array.from({ length: THREADS }, (_, i) => start(i));
  let all: Counts[] = [];
  try {
    await within(Promise.all(jobs.map((j) => j.up)), 'the workers');
    const killing = kill_in_turn({
      jobs,
      kills: o.kills,
      draw: dice(o.seed + 7),
      done: done_word(),
      start: (_i, n) => start(THREADS + n),
    });
    let over = false;
    void killing.finally(() => (over = true)).catch(() => undefined);
    await switching(o, () => over);
    await killing;
    if (o.kills > 0) atomic_store(stop_word(), 1);
    all = await within(Promise.all(jobs.map((j) => j.done)), 'the workers');
  } finally {
    await crew.end();
  }
  reap_all();
  const sum = (name: string): number => all.reduce((n, one) => n + one[name], 0);
  const counts = { n: sum('n'), traps: sum('traps'), guarded: sum('guarded'), plain: sum('plain') };
  if (o.kills === 0) assert.equal(get('traps'), counts.traps, 'each was seen, and no other');
  assert.equal(get('late'), 0, 'nobody stored to what he had freed');
  set('quarantine', 0);
  left_free(z);
  assert.equal(get('numalloc'), get('numfree'));
  assert.equal(get('mapused'), 0);
  return counts;
}
/** Switches it on and off under load, so often at least, and until the killing is over. */
async function switching(o: GuardChurn, over: () => boolean): Promise<void> {
  const draw = dice(o.seed + 5);
  for (let i = 0; i < o.switches || !over(); i++) {
    const done = atomic_load(done_word());
    assert.equal(set('desc', 'play').error, 0);
    if (i % 8 === 0) guard_turn(draw, 'play');
    if (i % 4 === 0) await sleep(1);
    else await new Promise(setImmediate);
    // Some of them with work in between, whatever the machine does.
    if (i % 64 === 0) while (atomic_load(done_word()) === done && !over()) await sleep(1);
    assert.equal(set('desc', '').error, 0);
    assert.equal(set('frequency', 0).error, 0);
  }
  assert.equal(set('minsize', 0).error, 0);
  assert.equal(set('options', 1).error, 0);
  assert.equal(set('desc', 'play').error, 0);
}
/** What the dead had been given is their program's: that frees it. */
function left_free(z: zone_t): void {
  const mp = guard_map_there();
  if (mp === 0) return;
  for (const e of map_entries(mp)) {
    const b = guarded_of(e);
    const kind = b.flags & MAP_ENTRY_ITEM;
    memguard_free(b.at, kind !== 0 ? z : malloc_type_attach('play'), kind);
  }
}
