/*
 * strace_line: one line of strace's output, taken apart.
 *
 *      1797  1795244560.946801 mmap(NULL, 62, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7fedb7a60000
 *      └pid  └time             └name└ arguments                               └ result
 *
 * In front of the call stand, in this order, what the options of strace put there:
 *
 *      1797  or  [pid  1797]                      whose line it is (-f); with -Y `1797<bash>`
 *      12:30:01.123456, 1795244560.946801,        -t, -tt, -ttt and -r, alone or together
 *      0.000012, (+     0.000012)
 *      [00007f04ab6b98d9]                         -i: where the program was
 *      [ 435]                                     -n: the number of the call
 *
 * and behind the result an error and its text, or flags in brackets, and with -T the
 * time that the call took.  A call during which a line of another process was written
 * stands on two lines:
 *
 *      1797  read(0,  <unfinished ...>
 *      1797  <... read resumed>"abc", 100) = 3
 *
 * The end of the arguments is the last `) = ` that has a result behind it: strings and
 * the names of files may hold anything, results hold no such thing.
 *
 * Lines that say nothing of a call: a signal (`--- SIG… ---`), an end (`+++ exited with 0
 * +++`, `+++ killed by SIG… +++`), an execve by another thread than the first one (`+++
 * superseded by execve in pid N +++`); and notes of strace itself: processes that it
 * attached to, frames of a stack (-k), a table of counts at the end (-C).  When strace
 * writes to a terminal, such a note may stand in the middle of a call:
 *
 *      vfork(strace: Process 12046 attached
 *       <unfinished ...>
 *
 * Always true: what parse() found is in the fields of the kind that it answers; `reason`
 * says what is wrong with a BAD line.
 */

export const LINE_BAD = 0;
export const LINE_CALL = 1;
export const LINE_UNFINISHED = 2;
export const LINE_RESUMED = 3;
/** Resumed, and left again before its result. */
export const LINE_RESUMED_UNFINISHED = 4;
export const LINE_SIGNAL = 5;
export const LINE_EXITED = 6;
export const LINE_KILLED = 7;
export const LINE_SUPERSEDED = 8;
/** Says nothing of the program. */
export const LINE_NOTE = 9;
/** A note in the middle of a line; `args` is what stands before it, the next line goes on. */
export const LINE_SPLIT = 10;

/** `N`, `N<name>`, or N and a comment: a process as -f, -Y and --decode-pids=pidns write it. */
const PID = String.raw`(\d{1,7})(?:<[^>]*>)?(?: /\*[^*]*\*/)?`;
/** What -t, -r, -i and -n put in front of a call. */
const CLOCK = String.raw`\d+:\d\d:\d\d(?:\.\d+)? +| *\d+\.\d+ +|\d{8,12} +|\(\+ *\d+\.\d+\) +`;
const PLACE = String.raw`\[[0-9a-f?]{8,16}\] |\[ *\d+\] `;
const PREFIX = new RegExp(`(?:\\[pid +${PID}\\] +|${PID} +)?(?:${CLOCK}|${PLACE})*`, 'y');

/** What may stand behind the prefix on a line of strace. */
const BEGINS = /^(?:[a-z_][a-z0-9_]*\(|<\.\.\. |--- SIG|\+\+\+ )/;
/** A whole call, as no line of another kind of file looks. */
const WHOLE_CALL = /^[a-z_][a-z0-9_]*\(.*\) += (?:\?|-?\d+|0x[0-9a-f]+)(?:[ <].*)?$/;

const NAME = /[a-z_?][a-z0-9_?]*\(/iy;
const RESUMED = /<\.\.\. ([a-z_?][a-z0-9_?]*) resumed> ?/iy;
/** A result: `?`, a number, a pointer; behind it nothing, a blank, or the file of a descriptor. */
const RESULT = /(\?|-?\d+|0x[0-9a-f]+)(?=$|[ <])/y;
const ERROR = / (E[A-Z0-9]+|\(errno \d+\))/y;
const EXITED = /\+\+\+ exited with (-?\d+) \+\+\+$/y;
const KILLED = /\+\+\+ killed by [A-Z0-9_+ ]+(?: \(core dumped\))? \+\+\+$/y;
const SUPERSEDED = /\+\+\+ superseded by execve in pid (\d+)(?:<[^>]*>)? \+\+\+$/y;
const NOTE = new RegExp(
  [
    String.raw`^(?:strace: |Process \d+ (?:attached|detached|resumed|suspended)| > \S)`,
    String.raw`^\[ Process PID=\d+ runs in .* \]$`,
    '^% time +seconds +usecs/call +calls +errors +syscall$|^(?:-{4,} ?)+$',
    String.raw`^ *\d+\.\d\d +\d+\.\d{6} +\d+ +\d+ +(?:\d+ +)?[a-z_]\w*$`,
  ].join('|'),
);
const SPLIT = /(?:strace: )?Process (\d+) attached$/;
const UNFINISHED = '<unfinished ...>';
/** The end of a line of an execve that goes on under another number, in a file of its own (-ff). */
const CHANGED = /<pid changed to \d+ \.\.\.>$/;
const MOST_SHOWN = 40;

/** Whether a line looks as if strace had written it. */
export function looks_like_strace(line: string): boolean {
  return BEGINS.test(line.slice(prefix_end(line)));
}
/** Whether it is a call of strace, with its result, beyond doubt. */
export function is_strace_call(line: string): boolean {
  return WHOLE_CALL.test(line.slice(prefix_end(line)));
}
function prefix_end(line: string): number {
  PREFIX.lastIndex = 0;
  PREFIX.test(line);
  return PREFIX.lastIndex;
}

/** What the last line was; used again for each, so that nothing is made for a line. */
export class StraceLine {
  /** 0: the line does not say whose it is. */
  pid = 0;
  /** The call. */
  name = '';
  /** Its arguments, or the part of them that stands on this line. */
  args = '';
  /** NaN: unknown (`?`). */
  result = 0;
  /** ENOENT and the like; '': it did not fail. */
  error = '';
  /** Of an end: the exit code, the process that called execve; of a note: one attached to, or 0. */
  status = 0;
  reason = '';

  /** Takes the text of a line apart; answers which kind it is. */
  parse(text: string): number {
    PREFIX.lastIndex = 0;
    const prefix = PREFIX.exec(text);
    const at = PREFIX.lastIndex;
    this.pid = Number(prefix?.[1] ?? prefix?.[2] ?? 0);
    this.name = '';
    this.error = '';
    if (at === text.length) return this.#bad(text === '' ? 'an empty line' : 'only a beginning');
    switch (text.charCodeAt(at)) {
      case 60: // <
        return this.#resumed(text, at);
      case 43: // +
        return this.#ended(text, at);
      case 45: // -
        return this.#signal(text, at);
    }
    NAME.lastIndex = at;
    if (!NAME.test(text)) return this.#other(text);
    this.name = text.slice(at, NAME.lastIndex - 1);
    if (text.endsWith(' attached')) return this.#other(text);
    return this.#arguments(text, NAME.lastIndex, LINE_UNFINISHED, LINE_CALL);
  }

  /* The arguments, or the rest of them, from `from` on. */
  #arguments(text: string, from: number, unfinished: number, whole: number): number {
    if (text.endsWith(UNFINISHED)) {
      const end = text.length - UNFINISHED.length;
      this.args = text.slice(from, text.charCodeAt(end - 1) === 32 ? Math.max(from, end - 1) : end);
      return unfinished;
    }
    if (text.endsWith(' ...>') && CHANGED.test(text)) {
      this.args = text.slice(from, text.search(CHANGED)).trimEnd();
      return unfinished;
    }
    for (let equals = text.length; ; ) {
      equals = text.lastIndexOf(' = ', equals - 1);
      if (equals < from) break;
      let end = equals;
      while (text.charCodeAt(end - 1) === 32) end--;
      if (text.charCodeAt(end - 1) !== 41 || end <= from) continue;
      if (!this.#outcome(text, equals + 3)) continue;
      this.args = text.slice(from, end - 1);
      // A call that its process did not live to finish.
      if (this.args.endsWith(UNFINISHED)) this.args = this.args.slice(0, -UNFINISHED.length);
      return whole;
    }
    return this.#bad(`${this.name} without \`) = \` and a result`);
  }
  #outcome(text: string, at: number): boolean {
    RESULT.lastIndex = at;
    const found = RESULT.exec(text);
    if (found === null) return false;
    this.result = found[1] === '?' ? Number.NaN : Number(found[1]);
    if (this.result === -1) {
      ERROR.lastIndex = RESULT.lastIndex;
      this.error = ERROR.exec(text)?.[1] ?? '';
    }
    return true;
  }

  #resumed(text: string, at: number): number {
    RESUMED.lastIndex = at;
    const found = RESUMED.exec(text);
    if (found === null) return this.#other(text);
    this.name = found[1];
    if (text.endsWith(' attached')) return this.#other(text);
    return this.#arguments(text, RESUMED.lastIndex, LINE_RESUMED_UNFINISHED, LINE_RESUMED);
  }
  #ended(text: string, at: number): number {
    for (const [kind, shape] of ENDINGS) {
      shape.lastIndex = at;
      const found = shape.exec(text);
      if (found === null) continue;
      this.status = kind === LINE_KILLED ? 0 : Number(found[1]);
      return kind;
    }
    return this.#bad('an end (`+++`) that is none of exited, killed and superseded');
  }
  #signal(text: string, at: number): number {
    if (text.startsWith('--- ', at) && text.endsWith(' ---') && text.length - at > 8) {
      return LINE_SIGNAL;
    }
    return this.#other(text, 'a signal (`---`) without its end');
  }
  /* No call: a note, a line with a note in it, or nothing of strace's. */
  #other(text: string, reason = ''): number {
    const split = SPLIT.exec(text);
    this.status = split === null ? 0 : Number(split[1]);
    if (NOTE.test(text)) return LINE_NOTE;
    if (split !== null && split.index > 0) {
      this.args = text.slice(0, split.index);
      return LINE_SPLIT;
    }
    if (reason === '' && this.name !== '') reason = `${this.name} without \`) = \` and a result`;
    const shown = JSON.stringify(text.slice(0, MOST_SHOWN));
    return this.#bad(reason === '' ? `no call, signal or end: ${shown}` : reason);
  }
  #bad(reason: string): number {
    this.reason = reason;
    return LINE_BAD;
  }
}
const ENDINGS: [number, RegExp][] = [
  [LINE_EXITED, EXITED],
  [LINE_KILLED, KILLED],
  [LINE_SUPERSEDED, SUPERSEDED],
];
