/*
 * control: the block of shared words through which the CPUs of a baton run
 * take turns.
 *
 * It lies in a SharedArrayBuffer of its own, apart from the machine's memory,
 * so that the scheduler leaves no trace in what it watches.
 *
 *      0    commands from the leader (CPU 0's thread) and their answers
 *      64   the run: generator, step, trace hash, policy
 *      192  one line of 32 words per CPU; TURN is the word it waits on
 *      ...  64-bit: virtual clock, pace, next deadline, deadline of each CPU
 *      ...  per CPU a text: where it stood when the run was ended
 *
 * Locks: only the CPU whose turn it is touches the run and the CPU lines;
 * handing over is a store that the next one reads, which orders everything.
 */

/* Commands: the leader writes, then bumps EPOCH; each CPU answers in DONE. */
export const EPOCH = 0;
export const COMMAND = 1;
export const WHO = 2;
export const DONE = 32;
export const C_RUN = 1;
export const C_CHECK = 2;
export const C_USE = 3; // WHO: which script is played from now on

/* The run. */
export const RNG = 64;
export const STEP = 65;
export const HASH = 66;
export const POLICY = 67; // switch at one point in so many; 0: by priority
export const HORIZON = 68; // steps that the script takes about
export const TICKETS = 69;
export const KILL_CPU = 70; // -1: nobody
export const KILL_AT = 71;
export const KILLED = 72;
export const FAILED = 73;
export const ABORT = 74;
export const LOWEST = 75; // the lowest priority given so far
export const RUN_LENGTH = 76; // points since the last change of CPU
export const CHANGES = 77; // change points left
export const CHANGE_AT = 78; // three words
export const ITEMS_LOST = 81;
const CPU_LINES = 192;
const LINE = 32;

/* A CPU's line. */
export const TURN = 0; // 1: it is this CPU's turn
export const STATE = 1;
export const WORD = 2; // what it is blocked on
export const RESULT = 3; // how its wait ended: 1 woken, 0 time over
export const TICKET = 4; // order of blocking
export const POINTS = 5; // points it has passed
export const PRIORITY = 6;
export const S_RUN = 0;
export const S_BLOCKED = 1;
export const S_DONE = 2;
export const S_DEAD = 3;

export const CPUS_MAX = 16;
const CLOCKS = CPU_LINES + CPUS_MAX * LINE; // an even word
const TEXTS = CLOCKS + 2 * (3 + CPUS_MAX);
const TEXT_BYTES = 4096;

/* 64-bit cells. */
export const CLOCK = CLOCKS / 2;
export const PACE = CLOCK + 1;
export const NEXT_DEADLINE = CLOCK + 2;
export const DEADLINE = CLOCK + 3; // one per CPU

/** Bytes of a control block. */
export const CONTROL_BYTES = TEXTS * 4 + (CPUS_MAX + 1) * TEXT_BYTES;

/** The word index of a field in the line of `cpu`. */
export function line(cpu: number, field: number): number {
  return CPU_LINES + cpu * LINE + field;
}

/** One thread's views of a control block. */
export class Control {
  readonly W: Int32Array;
  readonly F: Float64Array;
  private readonly bytes: Uint8Array;

  constructor(shared: SharedArrayBuffer) {
    this.W = new Int32Array(shared);
    this.F = new Float64Array(shared, 0, (shared.byteLength >> 3) | 0);
    this.bytes = new Uint8Array(shared);
  }
  /** Leaves a text of `cpu`; -1 is the run's own: why it failed. */
  write(cpu: number, text: string): void {
    const at = TEXTS * 4 + (cpu + 1) * TEXT_BYTES;
    const coded = new TextEncoder().encode(text).subarray(0, TEXT_BYTES - 1);
    this.bytes.fill(0, at, at + TEXT_BYTES);
    this.bytes.set(coded, at);
  }
  read(cpu: number): string {
    const at = TEXTS * 4 + (cpu + 1) * TEXT_BYTES;
    const end = this.bytes.indexOf(0, at);
    return new TextDecoder().decode(this.bytes.slice(at, end));
  }
}
