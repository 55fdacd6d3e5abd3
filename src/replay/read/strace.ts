/*
 * strace: reads what strace writes, system calls of one process or of many.
 *
 *      lines ─► strace_line ─► strace_calls ─┬─► strace_stats    counts
 *                                            └─► vm/strace_plan  operations ─► ring
 *
 * Any strace of the last twenty years, with or without -f, into a file or not, with the
 * options that put something in front of calls or behind them.  A call is known by its
 * form; its arguments are looked at only where it is a call on memory, or reads or writes
 * blocks of a file.
 *
 * Where strace and the program wrote to the same place, what the program wrote stands
 * between the lines, or in the middle of a call:
 *
 *      write(2, "no such file\n", 13no such file
 *      ) = 13
 *
 * So a beginning of a call is kept, with what follows it, as long as no line makes sense
 * by itself; if together they are a call, that is what they are.
 *
 * Always true: a call counts, and reaches the plan, only if all of it made sense.
 */
import { type PlanFigures, StracePlan } from '../vm/strace_plan.ts';
import type { VmSink } from '../ring/vm_events.ts';
import type { LineStats } from './line_stats.ts';
import { type LineCutter, type LineParser, MAX_LINE_BYTES, newline_at } from './lines.ts';
import { Names, type StraceCall, StraceCalls, type StraceSink } from './strace_calls.ts';
import {
  LINE_BAD,
  LINE_EXITED,
  LINE_KILLED,
  LINE_NOTE,
  LINE_SIGNAL,
  LINE_SPLIT,
  LINE_SUPERSEDED,
  LINE_UNFINISHED,
  StraceLine,
} from './strace_line.ts';
import { is_memory_call, memory_call } from './strace_memory.ts';
import { type StraceFigures, StraceStats } from './strace_stats.ts';

const RETURN = 13;
/** Lines that may be the rest of a call. */
const KEPT_MAX = 16;
/** Lines that are whole without their newline, if they end as they should. */
const WHOLE_KINDS = [LINE_SIGNAL, LINE_EXITED, LINE_KILLED, LINE_SUPERSEDED, LINE_UNFINISHED];

export interface StraceReading extends StraceFigures {
  lines: number;
  unparsed: number;
  /** Lines of strace itself, which say nothing of the program. */
  notes: number;
  /** Flags of calls on memory that are not known, by name. */
  unknown_flags: Record<string, number>;
  /** What became of the calls. */
  plan: PlanFigures;
  malformed_lines: number;
  malformed: string[];
}

export class StraceParser implements LineParser, StraceSink {
  readonly format = 'strace';
  readonly #cutter: LineCutter;
  readonly #lines: LineStats;
  readonly #line = new StraceLine();
  readonly #calls: StraceCalls;
  readonly #stats = new StraceStats();
  readonly #plan: StracePlan;
  readonly #unknown = new Names();
  /** Beginning of a line that a note of strace stands in. */
  #part = '';
  /** Lines that may be one call, with something of the program's in it, and why each is none. */
  #kept: { text: string; reason: string; line: number }[] = [];

  constructor(cutter: LineCutter, lines: LineStats, out: VmSink) {
    this.#cutter = cutter;
    this.#lines = lines;
    this.#calls = new StraceCalls(this);
    this.#plan = new StracePlan(out);
  }

  parse(from: number, to: number): number {
    const { view } = this.#cutter;
    for (let at = from; ; ) {
      const nl = newline_at(view, at);
      if (nl >= to) return at;
      this.#lines.line++;
      if (nl - at > MAX_LINE_BYTES) this.#too_long();
      else this.#text(this.#text_of(at, nl));
      at = nl + 1;
    }
  }
  /** A cut result is another result; what begins or ends a process is whole without its newline. */
  parse_cut(from: number, to: number): boolean {
    this.file_over();
    this.#lines.line++;
    const text = this.#text_of(from, to);
    if (!WHOLE_KINDS.includes(this.#line.parse(text))) return false;
    this.#text(text);
    return true;
  }
  long_line(): void {
    this.#lines.line++;
    this.#too_long();
  }
  /** What was kept is no call. */
  file_over(): void {
    const kept = this.#kept;
    this.#kept = [];
    for (const { reason, line } of kept) this.#lines.malformed_line(reason, line);
  }
  finish(): string {
    this.#plan.finish(); // before calls that were never resumed are given up
    this.#calls.finish();
    return '';
  }
  document(): StraceReading {
    const { lines, malformed_lines, malformed, notes } = this.#lines;
    return {
      ...this.#stats.document(this.#calls),
      lines,
      unparsed: malformed_lines,
      notes,
      unknown_flags: this.#unknown.sorted(),
      plan: this.#plan.figures(),
      malformed_lines,
      malformed,
    };
  }

  // --- what the calls are told to --------------------------------------------------------------

  begin(call: StraceCall): void {
    this.#plan.begin(call);
  }
  end(call: StraceCall): void {
    if (is_memory_call(call.name) && !call.headless) {
      const add = (flag: string): void => this.#unknown.add(flag);
      const memory = memory_call(call.name, call.args, call.result, add);
      // Of a call that its process did not live to finish, arguments may be missing.
      if (typeof memory !== 'string') call.memory = memory;
      else if (!Number.isNaN(call.result)) return this.#lines.malformed_line(memory);
    }
    this.#lines.event_lines++;
    this.#stats.call(call);
    this.#plan.end(call);
  }
  exited(pid: number, status: number): void {
    this.#plan.exited(pid, status);
  }
  superseded(pid: number, by: number): void {
    this.#plan.superseded(pid, by);
  }
  named(pid: number): void {
    this.#plan.named(pid);
  }

  // --- lines -----------------------------------------------------------------------------------

  #text_of(from: number, nl: number): string {
    const { bytes } = this.#cutter;
    const to = bytes[nl - 1] === RETURN && nl > from ? nl - 1 : nl;
    return Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString('latin1');
  }
  #text(text: string): void {
    const line = this.#line;
    let kind = line.parse(text);
    if (this.#part !== '' && kind !== LINE_NOTE) {
      kind = line.parse(this.#part + text);
      this.#part = '';
    }
    if (this.#kept.length > 0) {
      if (kind === LINE_BAD) kind = this.#together(text, line.reason);
      else this.file_over();
    }
    switch (kind) {
      case LINE_BAD:
        this.#keep(text, line.reason);
        break;
      case LINE_SPLIT:
        this.#part = line.args;
        this.#note();
        break;
      case LINE_NOTE:
        this.#note();
        break;
      default:
        this.#calls.line(kind, line, this.#lines.line);
    }
  }
  /* What the lines that are kept and this one are together. */
  #together(text: string, reason: string): number {
    const line = this.#line;
    const kind = line.parse(this.#kept.map((one) => one.text).join('') + text);
    if (kind !== LINE_BAD) this.#kept = [];
    line.reason = reason;
    return kind;
  }
  #keep(text: string, reason: string): void {
    if (this.#kept.length === KEPT_MAX) this.file_over();
    const call = this.#kept.length > 0 || this.#line.name !== '';
    if (call) this.#kept.push({ text, reason, line: this.#lines.line });
    else this.#lines.malformed_line(reason);
  }
  #note(): void {
    this.#lines.notes++;
    if (this.#line.status > 0) this.#calls.attached(this.#line.status);
  }
  #too_long(): void {
    this.file_over();
    this.#lines.malformed_line(`longer than ${MAX_LINE_BYTES} bytes; no trace line is`);
  }
}
