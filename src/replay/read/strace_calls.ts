/*
 * strace_calls: whose a line is, and calls that stand on two lines.
 *
 *      lines ─► whose? ─► joined ─► begin(call) … end(call) ─► sink
 *
 * A call that is left unfinished is told twice: when it begins, because what it does
 * may be seen before it ends (the child of a fork, a range that another thread maps
 * anew), and when it ends; it is one object, which gets its result meanwhile.  All
 * others are told when they end.  Ends come in the order of the lines.
 *
 * Whose a line is stands in front of it, when strace writes into a file.  On a terminal
 * it writes no number as long as there is one process, so:
 *
 *   - a line without number is the only process's: the first one, which has no number
 *     yet, or the only one left that did not end
 *   - the first one gets its number from the first line with a number that cannot be
 *     another's: it goes on with the call that the first one left, or the first one
 *     left none, and the number is no child's
 *
 * An execve by another thread than the first one takes over the first one's number; its
 * `resumed` line comes under that.
 *
 * A call that is not resumed, because the recording ends or its process does, counts by
 * name.  One that is resumed without a beginning, because the recording began behind it,
 * is told with the arguments that are left.
 */
import {
  LINE_CALL,
  LINE_EXITED,
  LINE_KILLED,
  LINE_RESUMED,
  LINE_RESUMED_UNFINISHED,
  LINE_SIGNAL,
  LINE_SUPERSEDED,
  LINE_UNFINISHED,
  type StraceLine,
} from './strace_line.ts';
import type { MemoryCall } from './strace_memory.ts';

/** A call of a process, from its first line to its last. */
export interface StraceCall {
  pid: number;
  readonly name: string;
  /** As they stand in the recording. */
  args: string;
  /** NaN: unknown, or not there yet. */
  result: number;
  error: string;
  /** It was told that it begins. */
  readonly split: boolean;
  /** Its last line came, or will not come. */
  ended: boolean;
  /** Its beginning is not in the recording. */
  readonly headless: boolean;
  /** Numbers of the lines on which it began and ended. */
  readonly line: number;
  end_line: number;
  /** What it does, where it is a call on memory whose arguments are there. */
  memory: MemoryCall | null;
}

/** What the calls are told to. */
export interface StraceSink {
  begin(call: StraceCall): void;
  end(call: StraceCall): void;
  /** A process or thread is over, by itself or by a signal. */
  exited(pid: number, status: number): void;
  /** Process `by` is `pid` from now on, all other threads are gone. */
  superseded(pid: number, by: number): void;
  /** The process that had no number until now (0) has this one. */
  named(pid: number): void;
}

/** Names of calls that are kept apart; a damaged recording may name any number. */
const NAMES_MAX = 2000;
const OTHER_NAME = '(other)';
/** Calls by which a process is made. */
const MAKERS = /^(?:fork|vfork|clone[23]?)$/;

/** Calls by which one ends. */
const ENDS = /^exit(?:_group)?$/;

/** Counts by name. */
export class Names {
  readonly #counts = new Map<string, number>();
  add(name: string): void {
    const { size } = this.#counts;
    const key = size < NAMES_MAX || this.#counts.has(name) ? name : OTHER_NAME;
    this.#counts.set(key, (this.#counts.get(key) ?? 0) + 1);
  }
  get total(): number {
    let sum = 0;
    for (const n of this.#counts.values()) sum += n;
    return sum;
  }
  /** Most first, then by name. */
  sorted(): Record<string, number> {
    const rows = [...this.#counts].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    return Object.fromEntries(rows);
  }
}

export class StraceCalls {
  resumed = 0;
  unfinished = 0;
  signals = 0;
  exits = 0;
  killed = 0;
  readonly pids = new Set<number>();
  readonly lost = new Names();
  readonly #sink: StraceSink;
  /** The call that a process left unfinished. */
  readonly #left = new Map<number, StraceCall>();
  /** Processes whose lines were seen, and that did not end, as far as is known. */
  readonly #alive = new Set<number>();
  /** Those that are there, or soon will be, and of which no line was seen. */
  readonly #made = new Set<number>();
  /** Those that ended, until their numbers are used again. */
  readonly #over = new Set<number>();
  /** The last one that called exit; its `+++` line may follow. */
  #leaver = 0;
  /** A process without a number is there, and was not named yet. */
  #nameless = false;

  constructor(sink: StraceSink) {
    this.#sink = sink;
  }

  /** A line that parse() found to be of this kind. */
  line(kind: number, line: StraceLine, number: number): void {
    const pid = this.#whose(kind, line);
    switch (kind) {
      case LINE_CALL:
        this.#lose(pid);
        this.#end(this.#call(pid, line, number), line, number);
        break;
      case LINE_UNFINISHED:
        this.#lose(pid);
        this.#leave({ ...this.#call(pid, line, number), split: true });
        break;
      case LINE_RESUMED:
      case LINE_RESUMED_UNFINISHED:
        this.#resume(pid, kind, line, number);
        break;
      case LINE_SIGNAL:
        this.signals++;
        break;
      case LINE_EXITED:
      case LINE_KILLED:
        if (kind === LINE_EXITED) this.exits++;
        else this.killed++;
        this.#lose(pid);
        this.#alive.delete(pid);
        this.#made.delete(pid);
        this.#over.add(pid);
        if (pid === 0) this.#nameless = false;
        this.#sink.exited(pid, line.status);
        break;
      case LINE_SUPERSEDED:
        this.#supersede(pid, line.status);
    }
  }
  /** A process is there, as a call or strace itself said; it may be over again. */
  attached(pid: number): void {
    if (!this.#over.delete(pid) && !this.#alive.has(pid)) this.#made.add(pid);
  }
  /** The recording is over: what is left was never resumed. */
  finish(): void {
    for (const pid of [...this.#left.keys()]) this.#lose(pid);
  }

  #call(pid: number, { name, args }: StraceLine, line: number): StraceCall {
    const result = Number.NaN;
    const flags = { split: false, ended: false, headless: false };
    return { pid, name, args, result, error: '', ...flags, line, end_line: 0, memory: null };
  }
  #leave(call: StraceCall): void {
    this.unfinished++;
    this.#left.set(call.pid, call);
    this.#ends(call);
    this.#sink.begin(call);
  }
  #resume(pid: number, kind: number, line: StraceLine, number: number): void {
    this.resumed++;
    let call = this.#left.get(pid);
    if (call === undefined || call.name !== line.name) {
      this.#lose(pid);
      call = { ...this.#call(pid, line, number), headless: true };
    } else call.args += line.args;
    if (kind === LINE_RESUMED) {
      this.#left.delete(pid);
      this.#end(call, line, number);
    } else {
      this.unfinished++;
      this.#left.set(pid, call);
    }
  }
  #end(call: StraceCall, line: StraceLine, number: number): void {
    call.end_line = number;
    call.result = line.result;
    call.error = line.error;
    call.ended = true;
    if (call.result > 0 && MAKERS.test(call.name)) this.attached(call.result);
    this.#ends(call);
    this.#sink.end(call);
  }
  /* With -q no other line tells of the end. */
  #ends({ name, pid }: StraceCall): void {
    if (!ENDS.test(name)) return;
    this.#alive.delete(pid);
    this.#leaver = pid;
  }
  #lose(pid: number): void {
    const call = this.#left.get(pid);
    if (call === undefined) return;
    call.ended = true;
    this.lost.add(call.name);
    this.#left.delete(pid);
  }
  #supersede(pid: number, by: number): void {
    this.#lose(pid);
    const call = this.#left.get(by);
    this.#left.delete(by);
    this.#alive.delete(by);
    if (call !== undefined) {
      call.pid = pid;
      this.#left.set(pid, call);
    }
    this.#sink.superseded(pid, by);
  }

  #whose(kind: number, line: StraceLine): number {
    const pid = line.pid === 0 ? this.#only(kind, line) : line.pid;
    if (pid === 0) {
      if (kind !== LINE_EXITED && kind !== LINE_KILLED) this.#nameless = true;
    } else if (!this.#alive.has(pid)) {
      if (this.#nameless && this.#is_nameless(pid, kind, line.name)) this.#name(pid);
      this.#alive.add(pid);
      this.#made.delete(pid);
      this.#over.delete(pid);
    }
    this.pids.add(pid);
    return pid;
  }
  /* Whose a line without a number is. */
  #only(kind: number, line: StraceLine): number {
    if (this.#nameless) return 0;
    // One thread of two gives its number up to the other.
    const one = kind === LINE_SUPERSEDED ? line.status : 0;
    if (this.#alive.size > 2) return 0;
    const left = [...this.#alive].filter((pid) => pid !== one);
    if (left.length > 0) return left.length === 1 ? left[0] : 0;
    // The last one ended by a call: what belongs to that is its own, all else its child's.
    const begins = kind === LINE_CALL || kind === LINE_UNFINISHED;
    const [made] = this.#made;
    return made === undefined || (!begins && !this.#over.has(this.#leaver)) ? this.#leaver : made;
  }
  /* Whether a number that was not seen before is that of the process without one. */
  #is_nameless(pid: number, kind: number, name: string): boolean {
    if (this.#made.has(pid) || this.pids.has(pid)) return false;
    const left = this.#left.get(0);
    if (left === undefined) return true;
    return (kind === LINE_RESUMED || kind === LINE_RESUMED_UNFINISHED) && left.name === name;
  }
  #name(pid: number): void {
    this.#nameless = false;
    this.pids.delete(0);
    const left = this.#left.get(0);
    if (left !== undefined) {
      this.#left.delete(0);
      left.pid = pid;
      this.#left.set(pid, left);
    }
    this.#sink.named(pid);
  }
}
