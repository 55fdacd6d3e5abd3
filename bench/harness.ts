/*
 * harness: runs competitors side by side, so that their ratios mean something.
 *
 * Absolute times on a shared machine drift by a factor of two within an hour.
 * What holds is the ratio between two things measured in the same minutes.
 * Therefore all competitors live as processes from the first sample to the
 * last, and rounds alternate: in each round every pattern asks every
 * competitor for one sample, and the order rotates from round to round.
 *
 *      calibrate     operations per sample, so that one takes `sample_ms`;
 *                    this is also the warm-up
 *      round 0       as the others, but thrown away
 *      round 1..n    for each pattern, for each competitor: one sample
 *      report        minimum and median over the rounds; ratios of minima
 *
 * Only one competitor runs at any moment; the others wait for a line of input.
 * A competitor that is absent or breaks is named with the reason, and the rest
 * of the run goes on without it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface Plan {
  rounds: number;
  sample_ms: number;
}

/** Something that can be asked for a sample. */
export interface Competitor {
  name: string;
  command: string;
  args: string[];
  patterns: readonly string[];
  /** A word its ready line must contain: shows that it measures what it says. */
  expect?: string;
}

export interface Figure {
  min: number;
  median: number;
}

/** What became of one competitor: figures by pattern, or why there are none. */
export interface Outcome {
  name: string;
  ready: string;
  problem: string | undefined;
  figures: Map<string, Figure>;
}

/** What the JSON document lists. */
export interface Row {
  bench: string;
  pattern: string;
  unit: string;
  us: number | null;
  peers: Record<string, number>;
  ratio: Record<string, number>;
}

const READY_MS = 30_000;
const ANSWER_MS = 90_000;
/** So few that even a peer of 200 us an operation answers at once. */
const FIRST_OPS = 640;
const MAX_OPS = 1_000_000_000;

/** The line of a failed process's error output that says most. */
export function telling_line(text: string): string {
  const lines = text.split('\n').map((line) => line.trim());
  const full = lines.filter((line) => line !== '');
  return full.find((line) => /^[\w \][]*(Error|Panic)\b.*:/.test(line)) ?? full[0] ?? '';
}

/** A running competitor: one question at a time, one line of answer. */
class Child {
  readonly outcome: Outcome;
  readonly samples = new Map<string, number[]>();
  readonly ops = new Map<string, number>();
  readonly of: Competitor;
  private readonly process: ChildProcess;
  private errors = '';
  private waiting: { done: (line: string) => void; failed: (why: Error) => void } | undefined;
  private ended: string | undefined;
  /** Lines nobody has waited for yet: `ready` usually comes before it is asked for. */
  private readonly early: string[] = [];

  constructor(of: Competitor) {
    this.of = of;
    this.outcome = { name: of.name, ready: '', problem: undefined, figures: new Map() };
    this.process = spawn(of.command, of.args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.process.stderr!.on('data', (bytes: Buffer) => {
      this.errors = (this.errors + bytes.toString()).slice(0, 20_000);
    });
    // A question to a process that has just ended: its end is reported by 'close'.
    this.process.stdin!.on('error', () => {});
    createInterface({ input: this.process.stdout! }).on('line', (line) => {
      const waiting = this.waiting;
      this.waiting = undefined;
      if (waiting === undefined) this.early.push(line);
      else waiting.done(line);
    });
    this.process.on('error', (error) => this.end(error.message));
    this.process.on('close', (code, signal) => {
      const how = signal === null ? `exit ${code}` : `signal ${signal}`;
      this.end(telling_line(this.errors) || `ended with ${how}`);
    });
  }

  private end(why: string): void {
    this.ended ??= why;
    this.waiting?.failed(new Error(this.ended));
    this.waiting = undefined;
  }

  private line(limit_ms: number): Promise<string> {
    const early = this.early.shift();
    if (early !== undefined) return Promise.resolve(early);
    if (this.ended !== undefined) return Promise.reject(new Error(this.ended));
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.stop();
        this.end(`no answer within ${limit_ms / 1000} s`);
      }, limit_ms);
      this.waiting = {
        done: (line) => {
          clearTimeout(timer);
          resolve(line);
        },
        failed: (why) => {
          clearTimeout(timer);
          reject(why);
        },
      };
    });
  }

  async ready(): Promise<void> {
    const line = await this.line(READY_MS);
    if (!line.startsWith('ready ')) throw new Error(`unexpected first line '${line}'`);
    this.outcome.ready = line.slice('ready '.length);
    if (this.of.expect !== undefined && !line.includes(this.of.expect)) {
      throw new Error(`skipped: malloc comes from ${this.outcome.ready}, not ${this.of.expect}`);
    }
  }

  /** ns per operation of one sample. */
  async ask(pattern: string, ops: number): Promise<number> {
    const answer = this.line(ANSWER_MS);
    this.process.stdin!.write(`${pattern} ${ops}\n`);
    const line = await answer;
    if (line.startsWith('error: ')) throw new Error(`${pattern}: ${line.slice(7).trim()}`);
    const ns = Number(line);
    if (!(ns > 0) || !Number.isFinite(ns)) throw new Error(`${pattern}: bad answer '${line}'`);
    return ns;
  }

  stop(): void {
    this.process.stdin!.end();
    this.process.kill('SIGKILL');
  }
}

const operations = (sample_ms: number, ns: number): number =>
  Math.min(MAX_OPS, Math.max(FIRST_OPS, Math.round((sample_ms * 1e6) / ns)));

/** Samples in a row without progress after which code counts as warm, and how many at most. */
const WARM_SAMPLES = 2;
const WARM_SAMPLES_MAX = 12;
const PROGRESS = 0.95;

/**
 * Finds how many operations fill one sample, and goes on until the code is
 * warm: an optimising compiler works in the background and swaps its result in
 * when it is done, which on a busy machine is many samples later.
 */
async function calibrate(child: Child, pattern: string, sample_ms: number): Promise<void> {
  let ops = FIRST_OPS;
  let ns = await child.ask(pattern, ops);
  while (ops * 3 < operations(sample_ms, ns)) {
    ops = Math.min(operations(sample_ms, ns), ops * 8);
    ns = await child.ask(pattern, ops);
  }
  let best = ns;
  let idle = 0;
  for (let i = 0; i < WARM_SAMPLES_MAX && idle < WARM_SAMPLES; i++) {
    ns = await child.ask(pattern, operations(sample_ms, best));
    idle = ns < best * PROGRESS ? 0 : idle + 1;
    best = Math.min(best, ns);
  }
  child.ops.set(pattern, operations(sample_ms, best));
}

export function median(numbers: readonly number[]): number {
  const sorted = numbers.toSorted((x, y) => x - y);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

export function geometric_mean(numbers: readonly number[]): number {
  return Math.exp(numbers.reduce((sum, n) => sum + Math.log(n), 0) / numbers.length);
}

/** Does `step` for the child unless it has failed; notes the reason when it does. */
async function guarded(child: Child, step: () => Promise<void>): Promise<void> {
  if (child.outcome.problem !== undefined) return;
  try {
    await step();
  } catch (error) {
    child.outcome.problem = (error as Error).message;
    child.stop();
  }
}

/** Runs all competitors over all patterns; says what it does through `progress`. */
export async function measure(
  competitors: readonly Competitor[],
  patterns: readonly string[],
  plan: Plan,
  progress: (text: string) => void,
): Promise<Outcome[]> {
  const children = competitors.map((of) => new Child(of));
  try {
    for (const child of children) await guarded(child, () => child.ready());
    for (const child of children) {
      progress(`warming up ${child.of.name}`);
      for (const pattern of child.of.patterns) {
        await guarded(child, () => calibrate(child, pattern, plan.sample_ms));
      }
    }
    // Round 0 is thrown away: a pattern met for the first time may have made V8
    // give up code that an earlier one had settled.
    for (let round = 0; round <= plan.rounds; round++) {
      progress(`round ${round} of ${plan.rounds}`);
      const order = children.map((_, i) => children[(i + round) % children.length]);
      for (const pattern of patterns) {
        for (const child of order) {
          if (!child.of.patterns.includes(pattern)) continue;
          await guarded(child, async () => {
            const ns = await child.ask(pattern, child.ops.get(pattern)!);
            if (round === 0) return;
            const list = child.samples.get(pattern) ?? [];
            child.samples.set(pattern, [...list, ns]);
          });
        }
      }
    }
  } finally {
    progress('');
    for (const child of children) child.stop();
  }
  for (const child of children) {
    for (const [pattern, list] of child.samples) {
      if (list.length < plan.rounds) continue;
      child.outcome.figures.set(pattern, { min: Math.min(...list), median: median(list) });
    }
  }
  return children.map((child) => child.outcome);
}

/** Us divided by each peer. */
export function ratios(us: number | null, peers: Record<string, number>): Record<string, number> {
  if (us === null) return {};
  return Object.fromEntries(Object.entries(peers).map(([name, ns]) => [name, us / ns]));
}
