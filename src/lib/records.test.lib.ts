/*
 * Two threads in step: a round begins when both have seen its number.  They spin, so
 * that what follows happens in the same instant, and sleep where the machine is loaded.
 */
const SPINS = 2000;
/** A thread that is waited for as long is gone. */
const GONE_MS = 240_000;

/** What the two threads share; each word is written by one of them. */
export interface Race {
  readonly round: Int32Array;
  readonly ready: Int32Array;
  readonly done: Int32Array;
  readonly won: Int32Array;
  readonly item: Float64Array;
}
export function newRace(): Race {
  const word = (): Int32Array => new Int32Array(new SharedArrayBuffer(4));
  const item = new Float64Array(new SharedArrayBuffer(8));
  return { round: word(), ready: word(), done: word(), won: word(), item };
}
/** Waits until a word has reached `value`, or is below 0: the race is over. Returns it. */
export function turn(word: Int32Array, value: number): number {
  for (let spins = 0; ; spins++) {
    const now = Atomics.load(word, 0);
    if (now >= value || now < 0) return now;
    if (spins <= SPINS) continue;
    if (Atomics.wait(word, 0, now, GONE_MS) === 'timed-out') throw new Error('it is gone');
  }
}
/** Lets a word reach `value`. */
export function reach(word: Int32Array, value: number): void {
  Atomics.store(word, 0, value);
  Atomics.notify(word, 0);
}
