/*
 * child: how a competitor written in TypeScript answers the harness.
 *
 * A competitor is a process that lives as long as the run, so that rounds can
 * alternate without paying for process start and warm-up each time.  The
 * protocol is one line each way, the same that peers/alloc.c speaks:
 *
 *      child    ready TEXT                  once, when it can be asked
 *      harness  PATTERN OPS
 *      child    NUMBER                      ns per operation
 *               error: TEXT                 this question has no answer
 *
 * It ends when its input ends.
 */
import { createInterface } from 'node:readline';

/** Runs `ops` operations and returns the nanoseconds they took. */
export type Pattern = (ops: number) => number | Promise<number>;

export const SMALL_BYTES = 64;
export const BATCH = 64;
export const FIFO_LIVE = 1000;
export const RANDOM_LIVE = 10_000;
/** What the bench of buffer chains builds a packet of. */
export const PIECES = 3;
export const PIECE_BYTES = 1500;
export const MAX_OPS = 2_000_000_000;

/** Operations of one call: short calls reach optimised code, a long one only its half-way entry. */
export const CHUNK_OPS = 6400;

export function now_ns(): number {
  return performance.now() * 1e6;
}

/** Calls `loop` until `ops` operations are done, a chunk at a time; returns the nanoseconds. */
export function timed(ops: number, loop: (chunk: number) => void): number {
  const start = now_ns();
  for (let left = ops; left > 0; left -= CHUNK_OPS) loop(left < CHUNK_OPS ? left : CHUNK_OPS);
  return now_ns() - start;
}

/* The generator of pattern d; peers/alloc.c has the same one. */
export const SEED = 0x2545f491;

export function xorshift(x: number): number {
  let y = x ^ (x << 13);
  y ^= y >>> 17;
  return y ^ (y << 5);
}

/** From 16 to 2048, by the low half of a random word. */
export function random_size(x: number): number {
  return 16 + (((x & 0xffff) * 2033) >>> 16);
}

/** Below RANDOM_LIVE, by the high half. */
export function random_victim(x: number): number {
  return ((x >>> 16) * RANDOM_LIVE) >>> 16;
}

async function answer(patterns: Record<string, Pattern>, line: string): Promise<string> {
  const [name = '', count = ''] = line.trim().split(' ');
  const wanted = Number(count);
  const pattern = Object.hasOwn(patterns, name) ? patterns[name] : undefined;
  if (pattern === undefined) {
    return `error: no pattern '${name}': one of ${Object.keys(patterns).join(', ')}`;
  }
  if (!Number.isInteger(wanted) || wanted < 1 || wanted > MAX_OPS) {
    return `error: operations '${count}': want a whole number from 1 to ${MAX_OPS}`;
  }
  // Whole batches only, so that the operations done are the operations counted.
  const ops = Math.ceil(wanted / BATCH) * BATCH;
  try {
    return String((await pattern(ops)) / ops);
  } catch (error) {
    return `error: ${error instanceof Error ? error.message : String(error)}`.replaceAll('\n', ' ');
  }
}

/** Answers questions on stdin until it closes. */
export async function serve(patterns: Record<string, Pattern>, ready: string): Promise<void> {
  process.stdout.write(`ready ${ready}\n`);
  for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(`${await answer(patterns, line)}\n`);
  }
}
