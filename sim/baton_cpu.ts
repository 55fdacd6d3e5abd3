/*
 * baton_cpu: one CPU of a baton run; the entry of its worker thread.
 *
 * The hooks of machine/sim.ts are replaced before the thread boots or
 * attaches.  At each point the CPU whose turn it is draws from the seed who
 * goes on, and hands over if it is another:
 *
 *      point   count, hash, maybe die, maybe hand over
 *      block   compare; mark "blocked on this word until then"; hand over
 *      wake    mark the longest waiter on the word runnable
 *      end     mark done or dead; hand over
 *
 * Policy, drawn per seed: switch at one point in 3, in 30 or in 1000 (more
 * often in a short script), or run by priorities with two or three points at
 * which the running CPU becomes the last.  A virtual clock moves a little at
 * each point (how much, the seed says) and jumps to the next deadline when
 * nobody can run.
 *
 * CPU 0's thread also leads: it puts the memory back, starts each run, has a
 * CPU that lives run the script's check, and tells the main thread.
 *
 * Always true: one CPU at a time runs kernel code; all it draws comes from
 * the seed; whether it spins or sleeps while it waits changes nothing.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { attach } from '../src/sys/boot/whole.ts';
import { counter_get } from '../src/sys/machine/counter.ts';
import { thr, thr_set } from '../src/sys/machine/cpu.ts';
import { death_oracle, reap_all, reap_unwant, v_reap_items } from '../src/sys/machine/death.ts';
import { M, machine } from '../src/sys/machine/header.ts';
import type { Handle } from '../src/sys/machine/machdep.ts';
import { mem } from '../src/sys/machine/memory.ts';
import { sim } from '../src/sys/machine/sim.ts';
import * as c from './control.ts';
import { line } from './control.ts';
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
  script_load,
  sim_boot,
  sim_panic,
} from './script.ts';
import { Snapshot } from './snapshot.ts';

/** What a worker is told when it is made. */
export interface CpuData {
  readonly shared: SharedArrayBuffer;
  readonly cpu: number;
  readonly cpus: number;
  /** URLs of the scripts that this machine plays. */
  readonly scripts: readonly string[];
  readonly spin: number;
  readonly steps_max: number;
}
/**
 * What the leader plays: a stretch of seeds, up to the first failure; or, with `deaths`,
 * one seed with that CPU killed at each of those of its points.
 */
export interface Order {
  /** Which of the scripts. */
  readonly script: number;
  readonly first: number;
  readonly count: number;
  readonly kill: Kill | null;
  readonly deaths?: { readonly cpu: number; readonly ats: readonly number[] };
}
export interface Report {
  readonly runs: number;
  readonly seed: number;
  /** How the last run ended. */
  readonly result: SimResult;
  /** All runs of an order with `deaths`, one per point. */
  readonly deaths?: readonly SimResult[];
}

const data = workerData as CpuData;
const me = data.cpu;
const n = data.cpus;
const control = new c.Control(data.shared);
const { W, F } = control;
const MINE = { turn: line(me, c.TURN), points: line(me, c.POINTS) };
const QUIET_PACE_MS = 0.001;
const QUIET_STEPS_MAX = 1_000_000;
const RUN_LENGTH_MAX = 2000;
const CALIBRATE_ONE_IN = 30;
Error.stackTraceLimit = 30;

let running = false;
let quiet_steps = 0;

function draw(range: number): number {
  W[c.RNG] = random_next(W[c.RNG]);
  return (W[c.RNG] >>> 0) % range;
}

// --- whose turn -------------------------------------------------------------------

function give(next: number): void {
  W[c.RUN_LENGTH] = 0;
  Atomics.store(W, line(next, c.TURN), 1);
  Atomics.notify(W, line(next, c.TURN), 1);
}
function await_turn(): void {
  for (let i = 0; i < data.spin && Atomics.load(W, MINE.turn) === 0; i++);
  while (Atomics.load(W, MINE.turn) === 0) Atomics.wait(W, MINE.turn, 0);
  Atomics.store(W, MINE.turn, 0);
  if (W[c.ABORT] !== 0) throw new SimStop('ended');
}
/** Ends the run on every CPU. Nobody draws or counts after it. */
function fail(why: string): never {
  if (W[c.FAILED] === 0) {
    W[c.FAILED] = 1;
    control.write(-1, why);
  }
  Atomics.store(W, c.ABORT, 1);
  for (let cpu = 0; cpu < n; cpu++) if (cpu !== me) give(cpu);
  throw new SimStop('ended');
}

/** Who goes on: a CPU that can, by the seed; -1 if none can. `stay`: the present one can. */
function pick(stay: boolean): number {
  const one_in = W[c.POLICY];
  if (stay && one_in > 0 && draw(one_in) !== 0) return me;
  let able = 0;
  let best = -1;
  for (let cpu = 0; cpu < n; cpu++) {
    if (W[line(cpu, c.STATE)] !== c.S_RUN) continue;
    able++;
    if (best < 0 || W[line(cpu, c.PRIORITY)] > W[line(best, c.PRIORITY)]) best = cpu;
  }
  if (one_in === 0 || able === 0) return best;
  let r = draw(able);
  for (let cpu = 0; cpu < n; cpu++) {
    if (W[line(cpu, c.STATE)] === c.S_RUN && r-- === 0) return cpu;
  }
  return -1;
}
/** By priority: the running CPU becomes the last at a change point, or after very long. */
function change_priority(): void {
  let change = ++W[c.RUN_LENGTH] > RUN_LENGTH_MAX;
  for (let i = 0; i < W[c.CHANGES]; i++) if (W[c.CHANGE_AT + i] === W[c.STEP]) change = true;
  if (!change) return;
  W[line(me, c.PRIORITY)] = --W[c.LOWEST];
  W[c.RUN_LENGTH] = 0;
}

/** Makes those runnable whose time is over, and finds the next deadline. */
function expire(): void {
  let next = Number.POSITIVE_INFINITY;
  for (let cpu = 0; cpu < n; cpu++) {
    if (W[line(cpu, c.STATE)] !== c.S_BLOCKED) continue;
    const at = F[c.DEADLINE + cpu];
    if (at > F[c.CLOCK]) next = Math.min(next, at);
    else {
      W[line(cpu, c.STATE)] = c.S_RUN;
      W[line(cpu, c.RESULT)] = 0;
    }
  }
  F[c.NEXT_DEADLINE] = next;
}
/** The next to run when the present one cannot; moves the clock; -1: all are over. */
function pick_other(): number {
  let next = pick(false);
  if (next >= 0) return next;
  expire();
  if (F[c.NEXT_DEADLINE] < Number.POSITIVE_INFINITY) {
    F[c.CLOCK] = Math.max(F[c.CLOCK], F[c.NEXT_DEADLINE]);
    expire();
  }
  next = pick(false);
  if (next >= 0) return next;
  for (let cpu = 0; cpu < n; cpu++) {
    if (W[line(cpu, c.STATE)] === c.S_BLOCKED) fail(`deadlock: ${everybody()}`);
  }
  return -1;
}
function everybody(): string {
  const said: string[] = [];
  for (let cpu = 0; cpu < n; cpu++) {
    const state = W[line(cpu, c.STATE)];
    const how =
      state === c.S_BLOCKED
        ? name_wait(cpu, W[line(cpu, c.WORD)])
        : ['can run', '', 'has ended', 'is dead'][state];
    said.push(`cpu${cpu} ${how}`);
  }
  return said.join('; ');
}

// --- the hooks --------------------------------------------------------------------

function point(kind: number, w: number): void {
  if (!running) return quiet_point();
  if (W[c.ABORT] !== 0) throw new SimStop('ended');
  W[c.HASH] = mix(W[c.HASH], (me << 28) ^ (kind << 20) ^ w);
  F[c.CLOCK] += F[c.PACE];
  if (machine.panic_cpu[M] !== 0) fail(sim_panic() ?? 'panic');
  if (++W[c.STEP] > data.steps_max)
    fail(`hang: no end after ${data.steps_max} steps; ${everybody()}`);
  if (++W[MINE.points] >= W[c.KILL_AT] && W[c.KILL_CPU] === me) throw new SimKill();
  if (F[c.CLOCK] >= F[c.NEXT_DEADLINE]) expire();
  if (W[c.POLICY] === 0) change_priority();
  const next = pick(true);
  if (next === me) return;
  give(next);
  await_turn();
}
/** Outside runs (boot, setup, check) this CPU is alone. */
function quiet_point(): void {
  F[c.CLOCK] += QUIET_PACE_MS;
  if (machine.panic_cpu?.[M]) throw new SimStop(sim_panic() ?? 'panic');
  if (++quiet_steps > QUIET_STEPS_MAX) throw new SimStop('hang: the check does not end');
}

function block(w: number, value: number, ms: number): 'ok' | 'not-equal' | 'timed-out' {
  if (mem.I32[w] !== value) return 'not-equal';
  if (ms <= 0) return 'timed-out';
  const net = is_slice(ms) && W[c.KILL_CPU] < 0;
  if (!running) {
    if (net || ms === Number.POSITIVE_INFINITY) {
      throw new SimStop(`the check ${name_wait(me, w)} for ever`);
    }
    F[c.CLOCK] += ms;
    return 'timed-out';
  }
  W[line(me, c.STATE)] = c.S_BLOCKED;
  W[line(me, c.WORD)] = w;
  W[line(me, c.RESULT)] = 0;
  W[line(me, c.TICKET)] = ++W[c.TICKETS];
  F[c.DEADLINE + me] = net ? Number.POSITIVE_INFINITY : F[c.CLOCK] + ms;
  F[c.NEXT_DEADLINE] = Math.min(F[c.NEXT_DEADLINE], F[c.DEADLINE + me]);
  const next = pick_other();
  if (next !== me) {
    give(next);
    await_turn();
  }
  return W[line(me, c.RESULT)] === 1 ? 'ok' : 'timed-out';
}

function wake(w: number, count: number): number {
  let woken = 0;
  while (woken < count) {
    let first = -1;
    for (let cpu = 0; cpu < n; cpu++) {
      if (W[line(cpu, c.STATE)] !== c.S_BLOCKED || W[line(cpu, c.WORD)] !== w) continue;
      if (first < 0 || W[line(cpu, c.TICKET)] < W[line(first, c.TICKET)]) first = cpu;
    }
    if (first < 0) break;
    W[line(first, c.STATE)] = c.S_RUN;
    W[line(first, c.RESULT)] = 1;
    woken++;
  }
  return woken;
}

// --- one run ----------------------------------------------------------------------

let scripts: SimScript[] = [];
let script: SimScript;
let ops: (() => void)[] = [];

/** From now on this CPU plays script `i`. */
function use(i: number): void {
  script = scripts[i];
  ops = script.ops(me);
}

function place(e: unknown): string {
  const stack = e instanceof Error ? (e.stack ?? e.message) : `${e}`;
  const kernel = stack.split('\n').filter((l) => !/baton_cpu|node:internal/.test(l));
  return kernel
    .slice(1, 9)
    .map((l) => l.trim().replace(/\(?file:.*\/(?=[^/]+\/[^/]+:)/, '('))
    .join('\n    ');
}

/** Which CPU this thread is when a run begins: a script may leave the slot and join again. */
let home = { cpu: -1, pc: thr.pc, tid: 0 };

/** Runs this CPU's operations when its turn comes, and gives the turn on. */
function run_ops(): void {
  thr_set(home.cpu, home.pc, home.tid);
  reap_unwant();
  control.write(me, '');
  try {
    await_turn();
    running = true;
    let end = c.S_DONE;
    try {
      for (const op of ops) op();
    } catch (e) {
      if (!(e instanceof SimKill)) throw e;
      end = c.S_DEAD;
      W[c.KILLED] = 1;
    }
    W[line(me, c.STATE)] = end;
    const next = pick_other();
    if (next >= 0) give(next);
  } catch (e) {
    control.write(me, place(e));
    if (!(e instanceof SimStop)) {
      try {
        fail(sim_panic() ?? `cpu${me}: ${e instanceof Error ? e.message : e}`);
      } catch {
        // fail has ended the run; this CPU is at its end already
      }
    }
  }
  running = false;
}
/** The check, on a CPU that lives, alone. */
function run_check(): void {
  quiet_steps = 0;
  let failure: string | undefined;
  try {
    reap_all();
    failure = script.check();
    W[c.ITEMS_LOST] = counter_get(v_reap_items);
  } catch (e) {
    failure = sim_panic() ?? `check: ${e instanceof Error ? e.message : e}`;
  }
  if (failure !== undefined) {
    W[c.FAILED] = 1;
    control.write(-1, failure);
  }
}

// --- the leader -------------------------------------------------------------------

function command(what: number, who: number): void {
  W[c.COMMAND] = what;
  W[c.WHO] = who;
  Atomics.store(W, c.DONE, 0);
  Atomics.add(W, c.EPOCH, 1);
  Atomics.notify(W, c.EPOCH);
}
function obey(): void {
  if (W[c.COMMAND] === c.C_RUN) run_ops();
  else if (W[c.COMMAND] === c.C_USE) use(W[c.WHO]);
  else if (W[c.COMMAND] === c.C_CHECK && W[c.WHO] === me) run_check();
  if (Atomics.add(W, c.DONE, 1) === n - 1) Atomics.notify(W, c.DONE); // the leader waits for all
}
/** Has all CPUs carry a command out, and waits for them. */
function all(what: number, who = -1): void {
  command(what, who);
  if (what === c.C_RUN) start_first();
  obey();
  for (let done = Atomics.load(W, c.DONE); done < n; done = Atomics.load(W, c.DONE)) {
    Atomics.wait(W, c.DONE, done);
  }
}
function start_first(): void {
  give(pick(false));
}

function prepare(seed: number, kill: Kill | null, policy: number): void {
  W[c.RNG] = random_start(seed);
  for (const w of [c.STEP, c.HASH, c.TICKETS, c.KILLED, c.FAILED, c.ABORT, c.ITEMS_LOST]) W[w] = 0;
  W[c.RUN_LENGTH] = 0;
  W[c.KILL_CPU] = kill ? kill.cpu : -1;
  W[c.KILL_AT] = kill ? kill.at : 0;
  // Few switches, chosen well: about three, about eight, or very many; or by priority.
  const long = W[c.HORIZON];
  const rare = Math.min(1000, Math.max(8, Math.ceil(long / 3)));
  const some = Math.min(30, Math.max(4, Math.ceil(long / 8)));
  const drawn = [3, some, rare, 0][draw(4)];
  W[c.POLICY] = policy > 0 ? policy : drawn;
  F[c.PACE] = [0.001, 0.01, 0.1][draw(3)];
  F[c.CLOCK] = 1000;
  F[c.NEXT_DEADLINE] = Number.POSITIVE_INFINITY;
  W[c.CHANGES] = 2 + draw(2);
  for (let i = 0; i < 3; i++) W[c.CHANGE_AT + i] = 1 + draw(long);
  W[c.LOWEST] = 0;
  const top = draw(n);
  for (let cpu = 0; cpu < n; cpu++) {
    for (let f = 0; f < 32; f++) W[line(cpu, f)] = 0;
    W[line(cpu, c.PRIORITY)] = 1 + ((cpu + top) % n);
  }
  if (draw(2) === 0)
    for (let cpu = 0; cpu < n; cpu++) W[line(cpu, c.PRIORITY)] = n - W[line(cpu, c.PRIORITY)];
}

function one_run(ground: Snapshot, seed: number, kill: Kill | null, policy: number): SimResult {
  ground.restore();
  machine.random[M] = random_start(seed) | 1;
  prepare(seed, kill, policy);
  all(c.C_RUN);
  const [steps, hash] = [W[c.STEP], W[c.HASH] >>> 0];
  if (W[c.FAILED] === 0) {
    // Nobody else is woken for what the leader can do.
    if (W[line(0, c.STATE)] === c.S_DEAD) all(c.C_CHECK, 1);
    else run_check();
  }
  const ok = W[c.FAILED] === 0;
  return {
    ok,
    failure: ok ? null : control.read(-1) + places(),
    steps,
    hash,
    killed: W[c.KILLED] === 1,
    points: kill === null ? 0 : W[line(kill.cpu, c.POINTS)],
    items_lost: W[c.ITEMS_LOST],
  };
}
function places(): string {
  let said = '';
  for (let cpu = 0; cpu < n; cpu++) {
    const text = control.read(cpu);
    if (text !== '') said += `\n  cpu${cpu}:\n    ${text}`;
  }
  return said;
}

interface Ground {
  readonly memory: Snapshot;
  readonly horizon: number;
}
/** Sets the present script up on the machine as it was after everybody had attached. */
function make_ground(pristine: Snapshot): Ground {
  pristine.restore();
  W[c.HORIZON] = 100;
  prepare(0, null, CALIBRATE_ONE_IN);
  script.setup();
  const memory = new Snapshot(true);
  // How long the script is, for the change points: from a run that is always the same.
  const { steps } = one_run(memory, 0, null, CALIBRATE_ONE_IN);
  return { memory, horizon: Math.max(20, steps) };
}

function lead(): void {
  const pristine = new Snapshot(true);
  const grounds: Ground[] = [];
  parentPort?.on('message', (order: Order) => {
    if (script !== scripts[order.script]) all(c.C_USE, order.script);
    grounds[order.script] ??= make_ground(pristine);
    const { memory, horizon } = grounds[order.script];
    W[c.HORIZON] = horizon;
    if (order.deaths !== undefined) {
      const { cpu, ats } = order.deaths;
      const deaths = ats.map((at) => one_run(memory, order.first, { cpu, at }, 0));
      const result = deaths[deaths.length - 1];
      parentPort?.postMessage({ runs: deaths.length, seed: order.first, result, deaths });
      return;
    }
    let result: SimResult | null = null;
    let runs = 0;
    while (runs < order.count && (result === null || result.ok)) {
      result = one_run(memory, order.first + runs, order.kill, 0);
      runs++;
    }
    parentPort?.postMessage({ runs, seed: order.first + runs - 1, result });
  });
}
function follow(): never {
  let epoch = 0;
  parentPort?.postMessage('ready');
  for (;;) {
    while (Atomics.load(W, c.EPOCH) === epoch) Atomics.wait(W, c.EPOCH, epoch);
    epoch++;
    obey();
  }
}

async function main(): Promise<void> {
  Object.assign(sim, { point, block, wake, now: () => F[c.CLOCK] });
  death_oracle.dead = (cpu) => cpu < n && W[line(cpu, c.STATE)] === c.S_DEAD;
  W[c.KILL_CPU] = -1;
  scripts = await Promise.all(data.scripts.map(script_load));
  if (me === 0) {
    const booted = sim_boot(scripts[0]);
    home = { cpu: thr.cpu, pc: thr.pc, tid: thr.tid };
    use(0);
    parentPort?.once('message', () => {
      lead();
      parentPort?.postMessage('ready');
    });
    parentPort?.postMessage(booted.handle);
    return;
  }
  parentPort?.once('message', (handle: Handle) => {
    attach(handle);
    if (thr.cpu !== me) throw new Error(`sim: this thread is CPU ${thr.cpu} instead of ${me}`);
    home = { cpu: thr.cpu, pc: thr.pc, tid: thr.tid };
    use(0);
    follow();
  });
}
await main();
