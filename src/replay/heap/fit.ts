/*
 * fit: the smallest memory that plays a trace without a failed request.
 *
 * First the trace is played in ample memory, which shows how much it takes at
 * its peak; then bisection between the least that a machine can have and that
 * peak finds the size to within 64 KiB, the unit of a machine's memory.  Each
 * trial is a real machine.  A machine too small to start the players is a trial
 * that failed.
 *
 * On several CPUs a run differs from the next one, and with it the peak: the
 * size is one that played without a failure in the last run, which is the one
 * that is told.
 */
import { KmemError } from '../../sys/machine/errno.ts';
import { MEMORY_MAX, MEMORY_MIN, memory_size } from '../../sys/machine/memory.ts';
import { DEFAULT_MEMORY, type ReplayOptions, type ReplayOutcome, replay } from './replay.ts';

const UNIT = 65536;

/** Plays until the size is found; returns the outcome in exactly that memory. */
export async function fit(o: ReplayOptions, note: (text: string) => void): Promise<ReplayOutcome> {
  const trials = new Trials(o, note);
  let most = memory_size(o.memory ?? DEFAULT_MEMORY);
  let peak_bytes = await trials.ample(most);
  if (peak_bytes === null && o.memory === undefined) {
    most = MEMORY_MAX;
    peak_bytes = await trials.ample(most);
  }
  if (peak_bytes === null) return told(await replay({ ...o, memory: most }), null);
  let bytes = await trials.bisect(peak_bytes, most);
  for (;;) {
    note(`fit: playing in ${mega(bytes)}`);
    const out = await replay({ ...o, memory: bytes });
    if (out.heap.failed === 0) return told(out, bytes);
    bytes += UNIT;
  }
}

function told(out: ReplayOutcome, fit_bytes: number | null): ReplayOutcome {
  return { ...out, memory: { ...out.memory, fit_bytes } };
}
function mega(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(2)}M`;
}

class Trials {
  readonly #options: ReplayOptions;
  readonly #note: (text: string) => void;

  constructor(options: ReplayOptions, note: (text: string) => void) {
    this.#options = { ...options, verify: false, inspect: undefined };
    this.#note = note;
  }

  /** What the trace takes at its peak when this much is there; null when that fails too. */
  async ample(bytes: number): Promise<number | null> {
    this.#note(`fit: measuring in ${mega(bytes)}`);
    const out = await replay({ ...this.#options, memory: bytes });
    return out.heap.failed === 0 ? out.memory.kernel_peak_bytes : null;
  }

  /** The smallest size up to `good`, which is known to do; the peak is the first guess. */
  async bisect(peak_bytes: number, good: number): Promise<number> {
    let bad = MEMORY_MIN - UNIT;
    // The peak, with what the kernel takes for itself, is nearly always enough.
    let next = Math.max(MEMORY_MIN, peak_bytes + MEMORY_MIN);
    while (good - bad > UNIT) {
      const bytes = Math.min(good - UNIT, Math.max(bad + UNIT, Math.floor(next / UNIT) * UNIT));
      if (await this.#plays(bytes)) good = bytes;
      else bad = bytes;
      next = (good + bad) / 2;
    }
    return good;
  }

  async #plays(bytes: number): Promise<boolean> {
    this.#note(`fit: trying ${mega(bytes)}`);
    try {
      const out = await replay({ ...this.#options, memory: bytes });
      return out.heap.failed === 0;
    } catch (e) {
      if (e instanceof KmemError || (e instanceof Error && e.name === 'KmemError')) return false;
      throw e;
    }
  }
}
