/*
 * opt: the kernel's options, chosen once per thread at boot or attach.
 *
 * The object is made empty and each property is added exactly once.  V8 then
 * treats `opt.INVARIANTS` as a constant and drops the code behind an option
 * that is off, so that a check costs nothing in a program and is there in a
 * test.  Writing a property a second time with another value (a thread that
 * boots again under other options) is allowed and only slower.
 *
 * All threads of a machine run the same options: attach copies them from the
 * machine's header.
 */
export interface Options {
  /** Consistency checks, junk fill, double-free detection. */
  readonly INVARIANTS: boolean;
  /** Lock-order and sleep checks. */
  readonly WITNESS: boolean;
  /** Times of holding and waiting, per lock and place. */
  readonly MUTEX_PROFILING: boolean;
  /** Costlier checks, and a fill of fresh malloc memory. */
  readonly DIAGNOSTIC: boolean;
  /** Requests per 16-byte step (kern.mprof). */
  readonly MALLOC_PROFILE: boolean;
  /** NOWAIT requests may be made to fail (debug.malloc.failure_rate) and pages refused. */
  readonly FAILPOINTS: boolean;
  /** Field views and columns check the rule of their lock letter; brings WITNESS along. */
  readonly CHECKED: boolean;
  /** Every atomic is a scheduling point of the seeded scheduler. */
  readonly SIM: boolean;
  /** Freed large blocks wait, poisoned, before their pages serve again; for INVARIANTS. */
  readonly QUARANTINE: boolean;
  /** Zones of each size class of malloc, for types to be dealt out among; 0: one, and no option. */
  readonly MALLOC_DEBUG_MAXZONES: number;
  /** Derived: an option is on that malloc's fast path knows nothing of. */
  readonly MALLOC_SLOW: boolean;
}

export const opt = {} as Options;

/** Option names in the order of their bits in the machine's header word. */
export const OPTION_NAMES = [
  'INVARIANTS',
  'WITNESS',
  'MUTEX_PROFILING',
  'DIAGNOSTIC',
  'MALLOC_PROFILE',
  'FAILPOINTS',
  'CHECKED',
  'SIM',
  'QUARANTINE',
] as const satisfies readonly (keyof Options)[];

/** The one that is a number, which stands above the others in that word. */
export const OPTION_NUMBER = 'MALLOC_DEBUG_MAXZONES';
const NUMBER_SHIFT = 16;
const NUMBER_MOST = 0xff;
/** What is meant by `true`. */
const NUMBER_TRUE = 8;

/** Options as they are asked for. */
export type WantedOptions = {
  -readonly [K in keyof Options]?: K extends typeof OPTION_NUMBER ? number | boolean : boolean;
};
/** Options that each machine of this thread has, whatever boot is asked for: set by tests. */
export const opt_always: WantedOptions = {};

/**
 * The option word for the header: bit n is OPTION_NAMES[n].  CHECKED brings WITNESS
 * along, which knows what locks a CPU holds: a broken rule names them.  QUARANTINE and
 * MALLOC_DEBUG_MAXZONES bring INVARIANTS along, which poisons what is freed.
 */
export function opt_word(wanted: WantedOptions): number {
  const all: WantedOptions = { ...wanted, ...opt_always };
  const zones = all.MALLOC_DEBUG_MAXZONES ?? 0;
  const number = typeof zones === 'number' ? Math.min(zones, NUMBER_MOST) : zones ? NUMBER_TRUE : 0;
  if (all.CHECKED) all.WITNESS = true;
  if (all.QUARANTINE || number > 1) all.INVARIANTS = true;
  let word = number > 1 ? number << NUMBER_SHIFT : 0;
  for (const [bit, name] of OPTION_NAMES.entries()) if (all[name]) word |= 1 << bit;
  return word;
}

/** Sets this thread's options from a header word. */
export function opt_bind(word: number): void {
  for (const [bit, name] of OPTION_NAMES.entries()) {
    const value = (word & (1 << bit)) !== 0;
    if (opt[name] !== value) once(opt, name, value);
  }
  const number = (word >>> NUMBER_SHIFT) & NUMBER_MOST;
  if (opt[OPTION_NUMBER] !== number) once(opt, OPTION_NUMBER, number);
  const slow = opt.INVARIANTS || opt.FAILPOINTS || opt.DIAGNOSTIC || opt.MALLOC_PROFILE;
  if (opt.MALLOC_SLOW !== slow) once(opt, 'MALLOC_SLOW', slow);
}

/**
 * Adds a property that V8 may fold as a constant.  A plain keyed store would
 * turn an object with more than a dozen properties into a dictionary.
 */
export function once(target: object, name: string, value: unknown): void {
  Object.defineProperty(target, name, {
    value,
    writable: true,
    enumerable: true,
    configurable: true,
  });
}
