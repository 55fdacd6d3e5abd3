/*
 * nested: all CPUs in one thread, tens of thousands of runs a second.
 *
 * Every slot of the machine is taken by the same thread.  At a scheduling
 * point of one CPU's operation a whole operation of another CPU may run,
 * inside it, with `thr` switched to the other slot:
 *
 *      cpu0   lock ... cas | ------------------------- | store ... unlock
 *      cpu1                | lock? busy: taken back    |
 *      cpu2                |   take, put               |
 *
 * An inner operation that would have to wait is taken back: the memory is put
 * back from a copy, and the operation is tried again later.  The outermost
 * one really waits, which means that others run until it is woken, or that
 * virtual time moves to its deadline.
 *
 * This finds what one operation completing inside another can break.  It
 * cannot hold two operations half-way at a time: lock cycles, and wake-ups
 * lost between two half-done operations, are for baton.ts.  A run in which
 * everybody left is taken back is counted as inconclusive, not as a failure.
 *
 * Always true: the same seed gives the same steps and the same trace hash.
 */
import { detach, shutdown } from '../src/sys/boot/whole.ts';
import { counter_get } from '../src/sys/machine/counter.ts';
import { type pcpu_t, thr, thr_set } from '../src/sys/machine/cpu.ts';
import {
  slot_joined,
  slot_start,
  slot_take,
  slots_full,
  thr_forget,
} from '../src/sys/machine/cpu_slots.ts';
import { death_oracle, reap_all, reap_unwant, v_reap_items } from '../src/sys/machine/death.ts';
import { M, machine } from '../src/sys/machine/header.ts';
import { mem } from '../src/sys/machine/memory.ts';
import { sim } from '../src/sys/machine/sim.ts';
import {
  is_slice,
  type Kill,
  mix,
  name_wait,
  random_next,
  random_start,
  SimKill,
  type SimResult,
  type SimScript,
  SimStop,
  sim_boot,
  sim_panic,
} from './script.ts';
import { Snapshot } from './snapshot.ts';

/** An inner operation would have to wait, or does so in a loop. Thrown often: it has no stack. */
const BLOCKED = { why: 'blocked' };

const DEPTH_MAX = 3;
const STEPS_MAX = 50_000;
/** The check afterwards runs alone, and may look at all memory. */
const CHECK_STEPS_MAX = 1_000_000;
/** An inner operation longer than this goes round in a loop until another CPU acts. */
const INNER_STEPS_MAX = 400;
/** How often an inner operation may see its time end before it is taken back. */
const TIMEOUTS_MAX = 8;
/** Steps before an operation that was taken back is tried again; doubles with each try. */
const RETRY_STEPS = 16;
const RETRY_DOUBLINGS = 6;
const ONE_IN = [2, 4, 12, 40] as const;
const PACE_MS = [0.001, 0.01, 0.1] as const;
const QUIET_MS = 0.001;

interface Slot {
  readonly cpu: number;
  readonly pc: pcpu_t;
  readonly tid: number;
}

/** What is run, and on which ground. */
export interface NestedRun {
  readonly seed: number;
  /** Operations of each CPU, in order. */
  readonly ops: readonly (readonly (() => void)[])[];
  /** Puts everything back as it was before the run. */
  reset(): void;
  check(): string | undefined;
  readonly kill?: Kill | undefined;
}
export interface NestedResult extends SimResult {
  readonly inconclusive: boolean;
  /** Operations that were taken back and tried again. */
  readonly taken_back: number;
}

// --- the state of the one run that this thread plays -----------------------------

let slots: Slot[] = [];
let copies: Snapshot[] = [];
let with_pages = true;
let running = false;
let rng = 1;
let steps = 0;
let limit = Number.POSITIVE_INFINITY;
let hash = 0;
let clock = 0;
let pace = 0.001;
let one_in = 3;
let depth = 0;
let current = 0;
let timeouts = 0;
let inner_start = 0;
let taken_back = 0;
let blocked_out = false;
let ops: NestedRun['ops'] = [];
/** Who each CPU is by now: a script may leave its slot and take it again. */
let who: Slot[] = [];
/** Per CPU: next operation, inside an operation now, times taken back, not again before. */
let next: number[] = [];
let active: boolean[] = [];
let tries: number[] = [];
let retry_at: number[] = [];
let dead = -1;
let kill: Kill | undefined;
let points = 0;
/** The wait of the outermost operation. */
const waiter = { word: 0, woken: false };

function draw(n: number): number {
  rng = random_next(rng);
  return (rng >>> 0) % n;
}
function become(cpu: number): void {
  current = cpu;
  is_now(who[cpu]);
}
function is_now(s: Slot): void {
  thr_set(s.cpu, s.pc, s.tid);
}

function point(kind: number, w: number): void {
  steps++;
  clock += running ? pace : QUIET_MS;
  if (machine.panic_cpu?.[M]) throw new SimStop(sim_panic() ?? 'panic');
  if (steps > limit) throw new SimStop(`hang: no end after ${limit} steps`);
  if (!running) return;
  hash = mix(hash, (current << 28) ^ (kind << 20) ^ w);
  if (depth > 0 && steps - inner_start > INNER_STEPS_MAX) throw BLOCKED;
  if (kill && current === kill.cpu && ++points >= kill.at) throw new SimKill();
  if (depth < DEPTH_MAX && draw(one_in) === 0) {
    const cpu = pick();
    if (cpu >= 0) run_inner(cpu);
  }
}

/** A CPU that has something to do and is not in the middle of it; -1: none. */
function pick(): number {
  const first = draw(ops.length);
  for (let i = 0; i < ops.length; i++) {
    const cpu = (first + i) % ops.length;
    if (!active[cpu] && next[cpu] < ops[cpu].length && retry_at[cpu] <= steps) return cpu;
  }
  return -1;
}

/** Runs the next operation of `cpu` inside the present one. False: it was taken back. */
function run_inner(cpu: number): boolean {
  const outer = current;
  const at = [...next];
  const were = [...who];
  const me: Slot = { cpu: thr.cpu, pc: thr.pc, tid: thr.tid };
  const woken = waiter.woken;
  const saved_timeouts = timeouts;
  const saved_start = inner_start;
  if (copies[depth]) copies[depth].take();
  else copies[depth] = new Snapshot(with_pages);
  const was_dead = dead;
  const was_points = points;
  const level = depth++;
  timeouts = 0;
  inner_start = steps;
  let done = true;
  try {
    run_op(cpu);
  } catch (e) {
    if (e !== BLOCKED) throw e;
    copies[level].restore();
    dead = was_dead; // a death inside what is taken back comes again later
    points = was_points;
    next = at;
    who = were;
    active[cpu] = false;
    waiter.woken = woken;
    retry_at[cpu] = steps + (RETRY_STEPS << Math.min(tries[cpu]++, RETRY_DOUBLINGS));
    taken_back++;
    done = false;
  }
  depth = level;
  timeouts = saved_timeouts;
  inner_start = saved_start;
  current = outer;
  is_now(me); // perhaps no CPU at all: it is between leaving and joining
  return done;
}

/** The next operation of `cpu`, whole, on whatever level. */
function run_op(cpu: number): void {
  const op = ops[cpu][next[cpu]++];
  become(cpu);
  active[cpu] = true;
  try {
    op();
  } catch (e) {
    if (!(e instanceof SimKill)) throw e;
    dead = cpu;
    next[cpu] = ops[cpu].length;
  }
  if (dead !== cpu) who[cpu] = { cpu: thr.cpu, pc: thr.pc, tid: thr.tid };
  active[cpu] = false;
  tries[cpu] = 0;
}

function block(w: number, value: number, ms: number): 'ok' | 'not-equal' | 'timed-out' {
  if (mem.I32[w] !== value) return 'not-equal';
  if (ms <= 0) return 'timed-out';
  const net = is_slice(ms);
  if (!running) {
    if (net && dead < 0) throw new SimStop(`the check ${name_wait(thr.cpu, w)} for ever`);
    clock += Math.min(ms, 1e9);
    return 'timed-out';
  }
  const may_end = Number.isFinite(ms) && (!net || dead >= 0);
  if (depth > 0) {
    if (!may_end || ++timeouts > TIMEOUTS_MAX || (!net && draw(2) === 0)) throw BLOCKED;
    clock += ms;
    return 'timed-out';
  }
  waiter.word = w;
  waiter.woken = false;
  retry_at.fill(0);
  for (;;) {
    const cpu = may_end && draw(8) === 0 ? -1 : pick();
    if (cpu < 0) break;
    run_inner(cpu);
    if (!waiter.woken) continue;
    waiter.word = 0;
    return 'ok';
  }
  waiter.word = 0;
  if (may_end) {
    clock += ms;
    return 'timed-out';
  }
  blocked_out = ops.some((list, cpu) => cpu !== current && next[cpu] < list.length);
  throw new SimStop(
    `deadlock: cpu${current} ${name_wait(current, w)} and nobody is left to wake it`,
  );
}

function wake(w: number, count: number): number {
  if (count < 1 || waiter.word !== w || waiter.woken) return 0;
  waiter.woken = true;
  return 1;
}

// --- runs --------------------------------------------------------------------------

/** Takes the machine's slots 0 to n-1 for this thread, which is CPU 0 already. */
export function attach_slots(n: number): void {
  slots = [{ cpu: thr.cpu, pc: thr.pc, tid: thr.tid }];
  while (slots.length < n) {
    thr_forget();
    slot_start(slot_take(machine.generation[M]) ?? slots_full());
    slot_joined();
    slots.push({ cpu: thr.cpu, pc: thr.pc, tid: thr.tid });
  }
  who = [...slots];
  become(0);
}

/** Plays one seed on the machine whose slots this thread holds. */
export function run_nested(run: NestedRun): NestedResult {
  run.reset();
  reap_unwant();
  who = [...slots];
  const n = run.ops.length;
  rng = random_start(run.seed);
  steps = hash = clock = depth = timeouts = taken_back = points = 0;
  waiter.word = 0;
  blocked_out = false;
  limit = STEPS_MAX;
  dead = -1;
  kill = run.kill;
  ops = run.ops;
  next = new Array(n).fill(0);
  active = new Array(n).fill(false);
  tries = new Array(n).fill(0);
  retry_at = new Array(n).fill(0);
  one_in = ONE_IN[draw(ONE_IN.length)];
  pace = PACE_MS[draw(PACE_MS.length)];
  let failure: string | null = null;
  const stop = (e: unknown): string => {
    if (e instanceof SimStop) return sim_panic() ?? e.message;
    return `cpu${current}: ${e instanceof Error ? e.stack : e}`;
  };
  running = true;
  try {
    for (let cpu = pick(); cpu >= 0; cpu = pick()) {
      run_op(cpu);
      retry_at.fill(0);
    }
  } catch (e) {
    failure = stop(e);
  }
  running = false;
  const end = { steps, hash: hash >>> 0 };
  if (failure === null) {
    become(dead === 0 ? 1 : 0);
    try {
      steps = 0;
      limit = CHECK_STEPS_MAX;
      reap_all();
      failure = run.check() ?? null;
    } catch (e) {
      failure = stop(e);
    }
  }
  depth = 0;
  const items_lost = machine.panic_cpu[M] ? 0 : counter_get(v_reap_items);
  who = [...slots];
  become(0);
  const inconclusive = blocked_out;
  if (inconclusive) failure = null;
  return {
    ok: failure === null,
    failure,
    ...end,
    killed: dead >= 0,
    points,
    items_lost,
    inconclusive,
    taken_back,
  };
}

/** A script on a machine of its own, in this thread, for any number of runs. */
export interface NestedSession {
  run(seed: number, kill?: Kill): NestedResult;
  /** Words copied at each run and for each nested operation. */
  readonly words: number;
  close(): void;
}

/**
 * Boots a machine for a script. One at a time in a thread; `close` ends it.
 * `killing`: there will be deaths.
 */
export function nested_session(script: SimScript, killing = false): NestedSession {
  running = false;
  limit = Number.POSITIVE_INFINITY; // setting up takes what it takes
  copies = [];
  with_pages = killing || (script.pages ?? true); // reaping hands caches back: pages
  death_oracle.dead = (cpu) => cpu === dead;
  dead = -1;
  Object.assign(sim, { point, block, wake, now: () => clock });
  sim_boot(script);
  const cpus = script.cpus ?? 2;
  attach_slots(cpus);
  script.setup();
  const ground = new Snapshot(with_pages);
  const lists = slots.map((s) => script.ops(s.cpu));
  const check = (): string | undefined => script.check();
  const reset = (): void => ground.restore();
  return {
    run: (seed, kill) => run_nested({ seed, ops: lists, reset, check, kill }),
    words: ground.words,
    close() {
      ground.restore();
      dead = -1;
      limit = Number.POSITIVE_INFINITY;
      for (let cpu = cpus - 1; cpu > 0; cpu--) {
        become(cpu);
        detach();
      }
      become(0);
      shutdown();
      death_oracle.dead = null;
    },
  };
}
