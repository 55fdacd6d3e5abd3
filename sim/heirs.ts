/*
 * heirs: threads die one after the other on a spare slot, and nobody else is alive.
 *
 *      every slot is held by the dead, each killed at some point of its work
 *      an attacher settles them from a spare slot and is killed at point n
 *      the next one is killed at point n', and so on: more of them than there are slots
 *      at last one lives: it gets in, and nothing is lost
 *
 * One thread plays all of them, one after the other: whoever was killed never goes on,
 * and nobody runs beside the one that attaches, so no scheduler is needed.  A kill is an
 * exception at a scheduler point, and at every later one, until the thread has forgotten
 * which CPU it was.
 *
 * A run draws everything from its seed.  Where the next one dies is drawn from the points
 * that it passes before the first slot comes free: these are counted by a rehearsal on a
 * copy of the memory.  So each death of a chain finds all that the ones before left.  Most
 * of them die in the middle of a change, where most is left.
 */
import { attach, boot, detach, shutdown } from '../src/sys/boot/whole.ts';
import { pcpu, type pcpu_t, thr } from '../src/sys/machine/cpu.ts';
import { slot_joined, slot_start, slot_take, thr_forget } from '../src/sys/machine/cpu_slots.ts';
import { cpus_attached, death_oracle, reap_all } from '../src/sys/machine/death.ts';
import { LIFE_START, M, machine } from '../src/sys/machine/header.ts';
import type { Handle } from '../src/sys/machine/machdep.ts';
import { mem, memory_state } from '../src/sys/machine/memory.ts';
import { sim } from '../src/sys/machine/sim.ts';
import {
  LIFE_SPARE,
  SLOT_CLOSED,
  SLOT_FREE,
  SLOT_HELD,
  SPARES,
  slot_incarnation,
  slot_load,
  slot_state,
} from '../src/sys/machine/slot_word.ts';
import { registry_check } from '../src/sys/client/kern_registry.ts';
import { free, M_NOWAIT, malloc } from '../src/sys/kmem/kern_malloc.ts';
import { malloc_desc2type, malloc_type_attach } from '../src/sys/kmem/kern_malloc_type.ts';
import {
  SPACES,
  space_adopt,
  space_drop,
  space_fork,
  space_make,
  space_object,
  space_write,
  spaces_settle,
  spaces_check,
  spaces_make,
} from '../src/sys/object/object_spaces.test.lib.ts';
import { pager_step } from '../src/sys/object/pager_work.test.lib.ts';
import { test_pager_object } from '../src/sys/object/test_pager.test.lib.ts';
import { objects_all } from '../src/sys/object/vm_object_check.ts';
import { vm_page_check } from '../src/sys/page/vm_page.ts';
import { vm_page_cache_check } from '../src/sys/page/vm_page_cache.ts';
import { wakeup } from '../src/sys/sync/subr_sleepqueue.ts';
import { uma_zalloc, uma_zfree } from '../src/sys/uma/uma_core.ts';
import { uma_reclaim } from '../src/sys/uma/uma_drain.ts';
import { uma_zcreate_nowait, uma_zdestroy } from '../src/sys/uma/uma_zone.ts';
import { check_account } from './account.ts';
import { registry_turn } from './registry_ops.ts';
import { is_slice, random_next, random_start, SimKill, SimStop, sim_panic } from './script.ts';
import { Snapshot } from './snapshot.ts';

const CPUS = 3;
/** Points in which a thread that works is killed: about as many as its operations have. */
const WORK_POINTS = 900;
const STEPS_MAX = 200_000;

/** How one chain ended. */
export interface ChainResult {
  readonly failure: string | null;
  /** Threads that were killed on a spare slot, one after the other. */
  readonly deaths: number;
  /** How many of them had taken the slot over from one who died there. */
  readonly heirs: number;
  /** Points that the last of them would have passed before the first slot came free. */
  readonly points: number;
}
export interface HeirsSession {
  /** A chain of `length` deaths; with `at` the last one dies at that point. */
  run(seed: number, length: number, at?: number): ChainResult;
  close(): void;
}

let rng = 1;
let clock = 0;
let steps = 0;
/** The point at which the running thread dies; 0: it lives. */
let kill_at = 0;
/** From this point on it dies as soon as it is in the middle of something; 0: it does not. */
let kill_from = 0;
/** What that is, by HALF, and how many points of it are let pass. */
let kill_in = 0;
let kill_skip = 0;
let passed = 0;
/** Points passed when the first slot came free; 0: none is. */
let free_at = 0;

function draw(n: number): number {
  rng = random_next(rng);
  return (rng >>> 0) % n;
}
/** Whether the first words of the table say that an ordinary slot is free; passes no point. */
function slot_is_free(): boolean {
  for (let i = 0; i < CPUS; i++) if ((mem.I32[LIFE_START + i * 2] & 7) === SLOT_FREE) return true;
  return false;
}
function point(): void {
  if (machine.panic_cpu[M]) throw new SimStop(sim_panic() ?? 'panic');
  if (++steps > STEPS_MAX) throw new SimStop(`hang: no end after ${STEPS_MAX} steps`);
  passed++;
  clock += 0.001;
  if (free_at === 0 && slot_is_free()) free_at = passed;
  if (kill_at !== 0 && (passed >= kill_at || (passed >= kill_from && half()))) throw die();
}
function die(): SimKill {
  kill_at = passed; // at every later point, too
  return new SimKill();
}
/** The middles of something: an undo section is open, a lock is taken over, a hand is full. */
const HALF: readonly ((pc: pcpu_t) => boolean)[] = [
  (pc) => pcpu.undo_depth[pc] > 0,
  (pc) => pcpu.recover_lock[pc] !== 0,
  (pc) => pcpu.in_hand_n[pc] > 0 && pcpu.undo_depth[pc] === 0,
  (pc) => pcpu.in_hand_items[pc] > 0 && pcpu.undo_depth[pc] === 0,
  (pc) => pcpu.in_hand_refs[pc] > 0 && pcpu.undo_depth[pc] === 0,
  (pc) => pcpu.moving[pc] !== 0 || pcpu.paging[pc] > 0,
];
function half(): boolean {
  return kill_from !== 0 && thr.cpu >= 0 && HALF[kill_in](thr.pc) && kill_skip-- <= 0;
}
function block(w: number, value: number, ms: number): 'not-equal' | 'timed-out' {
  if (mem.I32[w] !== value) return 'not-equal';
  if (!Number.isFinite(ms) && !is_slice(ms)) throw new SimStop('a wait that nobody ends');
  clock += Math.min(ms, 1e6);
  return 'timed-out';
}

/**
 * Runs `fn`, which dies at its n-th point, or from point `from` on in the middle of a
 * change.  False: it came to its end before.
 */
function dies_at(n: number, from: number, fn: () => void): boolean {
  kill_at = n;
  kill_from = from;
  passed = steps = free_at = 0;
  try {
    fn();
    return false;
  } catch (e) {
    if (!(e instanceof SimKill)) throw e;
    return true;
  } finally {
    kill_at = kill_from = 0;
  }
}
/** Mostly a point from which on to die in the middle of something; often the first one. */
function draw_from(n: number): number {
  kill_in = draw(HALF.length);
  kill_skip = draw(12);
  return [0, 1, 1, 1 + draw(n)][draw(4)];
}

// --- what the dead did before ---------------------------------------------------------------

function burst(n: number, size: number): void {
  const t = malloc_desc2type('heirs');
  const got = Array.from({ length: n }, () => malloc(size, t, M_NOWAIT));
  for (const p of got) if (p !== 0) free(p, t);
}
function zones(): void {
  const z = uma_zcreate_nowait('heirs zone', 700);
  if (z === 0) return;
  const items = [uma_zalloc(z, M_NOWAIT), uma_zalloc(z, M_NOWAIT)];
  for (const item of items) if (item !== 0) uma_zfree(z, item);
  uma_zdestroy(z);
}
/** Forks, writes to or drops some of the spaces that all of them share. */
function spaces(n: number): void {
  spaces_settle();
  for (; n > 0; n--) {
    const s = draw(OBJECT_SPACES);
    const from = draw(OBJECT_SPACES);
    if (space_object(s) === 0) {
      if (space_object(from) !== 0) space_fork(from, s);
      else space_make(s);
    } else if (draw(4) === 0) space_drop(s);
    else space_write(s, draw(6), 1 + draw(1000));
  }
}
const OBJECT_SPACES = 6;
/** The space of an object that a pager fills, which nobody drops. */
const PAGER_SPACE = SPACES - 1;
/** Has pages of it come, be cached, busy, removed. */
function pages(n: number): void {
  for (; n > 0; n--) pager_step(draw, [space_object(PAGER_SPACE)]);
}
function spaces_drop(): void {
  for (let s = 0; s < OBJECT_SPACES; s++) if (space_object(s) !== 0) space_drop(s);
}
const WORK: readonly (() => void)[] = [
  () => spaces(12),
  () => spaces(4),
  () => pages(15),
  () => burst(40, 500),
  () => burst(6, 3000),
  () => burst(2, 20_000),
  () => burst(70, 40),
  zones,
  () => void uma_reclaim(),
  () => void malloc_type_attach(`type ${draw(5)}`),
  registry_turn('zone', 'a'),
  registry_turn('records', 'b'),
  registry_turn('queue', 'c'),
  () => void wakeup(77),
  () => void reap_all(),
];
function work(generation: number): void {
  const taken = slot_take(generation);
  if (taken === null) throw new Error('heirs: no slot is free');
  slot_start(taken);
  slot_joined();
  for (;;) WORK[draw(WORK.length)]();
}
/** Every slot is held by somebody who died in the middle of something. */
function all_die(generation: number): void {
  while (slot_is_free()) {
    dies_at(1 + draw(WORK_POINTS), draw_from(WORK_POINTS), () => work(generation));
    thr_forget();
  }
}

// --- the chain --------------------------------------------------------------------------------

/** Attaches, and dies on the way. False: it lived. */
function attacher_dies(handle: Handle, n: number, from: number): boolean {
  const dead = dies_at(n, from, () => void attach(handle));
  thr_forget();
  return dead;
}
/** How many points an attacher passes before the first slot comes free. */
function rehearse(handle: Handle): number {
  const copy = new Snapshot(true);
  dies_at(0, 0, () => void attach(handle));
  const n = free_at;
  thr_forget();
  copy.restore();
  return n;
}
function incarnations(): number[] {
  return Array.from({ length: SPARES }, (_, i) => slot_incarnation(slot_load(LIFE_SPARE + i)));
}
/** What is wrong when the last one has come in and settled the rest. */
function after(): string | undefined {
  reap_all();
  if (cpus_attached() !== 1) return `${cpus_attached()} slots are held, one thread lives`;
  for (let i = 0; i < LIFE_SPARE + SPARES; i++) {
    const state = slot_state(slot_load(i));
    const own = i === thr.cpu;
    const right = own ? state === SLOT_HELD : state === SLOT_FREE || state === SLOT_CLOSED;
    if (!right) return `slot word ${i} is in state ${state}`;
  }
  spaces_check();
  for (const op of WORK) op();
  spaces_check();
  spaces_drop();
  if (objects_all().length !== 1) return `${objects_all().length} objects are left`;
  spaces_check();
  uma_reclaim();
  registry_check();
  vm_page_check();
  vm_page_cache_check();
  return check_account();
}

function play(handle: Handle, length: number, at: number): ChainResult {
  let deaths = 0;
  let heirs = 0;
  let points = 0;
  try {
    all_die(handle.generation);
    for (; deaths < length; deaths++) {
      points = rehearse(handle);
      const chosen = deaths === length - 1 && at > 0;
      const n = chosen ? at : 1 + draw(points);
      const before = incarnations();
      if (!attacher_dies(handle, n, chosen ? 0 : draw_from(points)) || slot_is_free()) break;
      // Nothing but an heir leads from one owner to the next without a FREE word between.
      if (incarnations().some((inc, i) => inc !== before[i])) heirs++;
    }
    steps = 0;
    attach(handle);
    return { failure: after() ?? null, deaths, heirs, points };
  } catch (e) {
    const failure = e instanceof SimStop ? (sim_panic() ?? e.message) : String((e as Error).stack);
    return { failure, deaths, heirs, points };
  }
}

/** Boots a machine for chains of deaths, one at a time in a thread; `close` ends it. */
export function heirs_session(memory = '1M'): HeirsSession {
  death_oracle.dead = (cpu) => cpu !== thr.cpu;
  Object.assign(sim, { point, block, wake: () => 0, now: () => clock });
  kill_at = steps = 0;
  const { handle } = boot({
    memory,
    cpus: CPUS,
    options: { INVARIANTS: true, SIM: true },
    seed: 1,
    fresh: memory_state.size > 0,
  });
  machine.host_cpus[M] = 1;
  malloc_type_attach('heirs');
  spaces_make();
  space_adopt(PAGER_SPACE, test_pager_object(12, 3));
  for (let i = 0; i < 2; i++) for (const op of WORK) op();
  detach();
  const ground = new Snapshot(true);
  const begin = (seed: number): void => {
    thr_forget();
    ground.restore();
    rng = random_start(seed);
    steps = clock = 0;
  };
  return {
    run(seed, length, at = 0) {
      begin(seed);
      return play(handle, length, at);
    },
    close() {
      begin(1);
      attach(handle);
      shutdown();
      death_oracle.dead = null;
    },
  };
}
