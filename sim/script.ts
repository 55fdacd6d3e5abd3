/*
 * script: what the seeded scheduler plays, and the machine it plays it on.
 *
 * A script is one small machine and what its CPUs do: `setup` runs once on
 * CPU 0, then every CPU runs its operations, then `check` looks at what they
 * left.  A new script is a file in scripts/ that exports `script`; nothing
 * else names it.
 *
 *      export const script: SimScript = {
 *        setup() { mtx_init(rec.lock, at(), LC_USER_MTX); },
 *        ops: (cpu) => [() => { mtx_lock(rec.lock, at()); ... }],
 *        check: () => (rec.count[at()] === 4 ? undefined : 'a turn was lost'),
 *      };
 *
 * Rules for scripts.  All that a run changes lies in the machine's memory: a
 * run begins with that memory put back as setup left it.  Nothing depends on
 * the host's clock or random numbers.  Timeouts are shorter than SLICE_MS and
 * not NET_MS, because waits of just these lengths are known for slices.
 *
 * Slices.  The kernel cuts every wait into slices, as a net for deaths only.
 * A net hides lost wake-ups, so here a slice ends only in runs in which a CPU
 * is killed; in all others, sleeping CPUs that only a slice would wake are a
 * deadlock and are reported.
 */
import { boot, type Booted } from '../src/sys/boot/whole.ts';
import { pcpu, pcpu_of, thr } from '../src/sys/machine/cpu.ts';
import { M, machine } from '../src/sys/machine/header.ts';
import { mem, memory_state } from '../src/sys/machine/memory.ts';
import type { Options } from '../src/sys/machine/opt.ts';
import { get_string } from '../src/sys/machine/struct.ts';
import { sysctl_decls, sysctl_set } from '../src/sys/machine/sysctl_decl.ts';
import { lock_order } from '../src/sys/sync/lock_order.ts';
import { LOCK_CLASS } from '../src/sys/sync/lock_word.ts';
import { sleepq_list } from '../src/sys/sync/subr_sleepqueue.ts';

export interface SimScript {
  /** What is shown, in one line. */
  readonly help: string;
  /** CPUs that run it. Default 2. */
  readonly cpus?: number;
  /** Kernel options beside SIM and INVARIANTS. */
  readonly options?: Partial<Options>;
  /** Memory of the machine. Default 1M. */
  readonly memory?: number | string;
  /** It allocates or frees, so that pages change. Default true; false is faster nested. */
  readonly pages?: boolean;
  /** Values of declared variables. */
  readonly set?: Readonly<Record<string, number>>;
  /** Made once, on CPU 0, nobody else running. */
  setup(): void;
  /** What a CPU does, in order. Each is a whole: it ends holding nothing. */
  ops(cpu: number): (() => void)[];
  /** What is wrong afterwards; nothing if all is well. Runs on a CPU that lives. */
  check(): string | undefined;
  /** The CPU that is killed when the script is used for killing; without it, it is not. */
  readonly victim?: number;
  /** Interleavings whose every point is tried in the tests; fewer for long scripts. */
  readonly kill_seeds?: number;
  /** A wrong program, made to show that its fault is found. */
  readonly planted?: boolean;
}

/** How one run ended. The same seed gives the same result, steps and hash. */
export interface SimResult {
  readonly ok: boolean;
  /** What went wrong, with every CPU's place; null if nothing did. */
  readonly failure: string | null;
  readonly steps: number;
  readonly hash: number;
  /** Whether the CPU to be killed reached the point at which it was to be killed. */
  readonly killed: boolean;
  /** Points that the CPU to be killed has passed; 0 if none was to be. */
  readonly points: number;
  /** Items that the kernel counted as lost with a dead thread. */
  readonly items_lost: number;
}

/** The n-th point of a CPU, at which it vanishes. */
export interface Kill {
  readonly cpu: number;
  readonly at: number;
}

/** Slices of locks and sleeps, ms: set so high that no script's timeout is taken for one. */
export const SLICE_MS = 1000;
/** The slice of a wait for the end of a claim, ms. */
const NET_MS = 20;
/** Whether a wait of this length is a slice, or forever. */
export function is_slice(ms: number): boolean {
  return ms >= SLICE_MS || ms === NET_MS;
}

/** Ends a CPU's run from inside the scheduler. Kernel code neither catches nor cleans up. */
export class SimStop extends Error {}
/** What a killed CPU dies of. */
export class SimKill extends SimStop {}

// --- numbers -------------------------------------------------------------------

/** Spreads a number over 32 bits; also the step of the trace hash. */
export function mix(h: number, x: number): number {
  h = Math.imul(h ^ x, 0x9e3779b1);
  return h ^ (h >>> 15);
}
/** First state of the generator for a seed; never 0. */
export function random_start(seed: number): number {
  return mix(mix(0x5eed, seed), seed >>> 7) || 1;
}
/** The state after `x`. */
export function random_next(x: number): number {
  x ^= x << 13;
  x ^= x >>> 17;
  return x ^ (x << 5);
}

// --- the machine ---------------------------------------------------------------

/** Boots the small machine of a script and makes this thread its CPU 0. */
export function sim_boot(script: SimScript): Booted {
  const booted = boot({
    memory: script.memory ?? '1M',
    cpus: (script.cpus ?? 2) + 1, // one slot stays free: its record is the scripts' scratch
    options: { INVARIANTS: true, ...script.options, SIM: true },
    seed: 1,
    // Old memory is cleared up to the first managed page: not at all without a page floor.
    fresh: memory_state.size > 0 && !(machine.first_page[M] > 0),
  });
  // As many cores as CPUs and two rounds: spinning takes part, and stays short.
  machine.host_cpus[M] = 64;
  const values = { 'debug.lock.slice': SLICE_MS, 'debug.lock.spin_rounds': 2, ...script.set };
  for (const [name, value] of Object.entries(values)) {
    const decl = sysctl_decls.find((d) => d.name === name);
    if (!decl) throw new Error(`sim: no variable ${name}: see the sysctl declarations`);
    sysctl_set(decl, value);
  }
  return booted;
}

/** Words of a slot's record that others may look at even while it is free. */
const PUBLIC_WORDS = 32;
/**
 * Where a script's own record lies: the private part of the CPU slot that
 * nobody takes.  It is zero at first, and there on every floor of the kernel.
 */
export function scratch<P extends number>(): P {
  return (pcpu_of(machine.maxcpus[M] - 1) + PUBLIC_WORDS) as number as P;
}
/** Words that a script may have. */
export function scratch_words(): number {
  return pcpu.sizeof - PUBLIC_WORDS;
}

/** The text of the panic that stopped the machine; null if none did. */
export function sim_panic(): string | null {
  if (thr.cpu < 0 || machine.panic_cpu[M] === 0) return null;
  return get_string(machine.panic_text, M, 64);
}

/** What a CPU waits for, as a person would say it. */
export function name_wait(cpu: number, w: number): string {
  const sleep = sleepq_list().find((s) => s.cpu === cpu);
  if (sleep) return `asleep on '${sleep.wmesg}', wchan ${sleep.wchan}, word ${w}`;
  // A mutex waits on its own word, rw locks on the counts behind it.
  for (const back of [0, 3, 4]) {
    const cls = lock_order[mem.I32[w - back + LOCK_CLASS]];
    const fits = cls && mem.I32[w - back] !== 0 && (cls.kind === 'mtx') === (back === 0);
    if (fits && cls.name !== 'none') return `waits for '${cls.name}', word ${w}`;
  }
  return `waits on word ${w}`;
}

/**
 * The script that a URL names: its export `script`, or the one after '#'.
 * Leads to './scripts/' and './planted/' alone.
 */
export async function script_load(url: string | URL): Promise<SimScript> {
  const at = new URL(url);
  const name = at.hash.slice(1) || 'script';
  at.hash = '';
  const module = (await import(at.href)) as Record<string, SimScript | undefined>;
  const script = module[name];
  if (!script?.ops) {
    throw new Error(`${at.pathname} exports no script '${name}': export a SimScript`);
  }
  return script;
}
