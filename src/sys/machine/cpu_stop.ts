/*
 * cpu_stop: where in the program each CPU came to its stop.
 *
 *      panic, or STOP is seen  ──>  the frames of that thread, as text, in a record of its CPU
 *
 * After a panic the memory is all that is left of the threads: their stacks are gone.  So the CPU
 * that panics, and each that finds itself told to stop, notes its frames in shared memory, where a
 * dump has them and a debugger finds them.  A CPU that sleeps, or never came to a slow path, has
 * none: its state says which.
 *
 *      alloc at uma_core.ts:310
 *      session at server.ts:12         innermost first, a line each, cut to fit
 *
 * Notes are made once, at the first stop.  A thread whose stack is full may be unable to: then
 * there is no text, and nothing else is lost.
 */
import { backtrace_text, frames_of } from './backtrace.ts';
import { boot_alloc, M, machine } from './header.ts';
import { mem } from './memory.ts';
import { opt } from './opt.ts';
import { get_string, type Ptr, set64, set_string, struct, u64, words } from './struct.ts';

/** Words of the text: some ten frames. */
const STOP_TEXT_WORDS = 124;
/** Frames that are looked at. */
const FRAMES = 16;
/** Functions of stopping itself; bundlers may put a number behind their names. */
const STOPPING = new RegExp(
  '^(?:|backtrace_text|frames_text|cpu_stop\\w*|stopped_note|poll\\w*|panic(?:_line|_dump)?|' +
    '(?:Object\\.)?(?:panic_dump|kdb_\\w+)|head|dump_\\w+|kern_dump)(?:\\$\\d+)?$',
);

export type cpu_stop_t = Ptr<'cpu_stop'>;
/* Locks: (-) the CPU's of that slot, which writes it once, and then says so (pcpu.stopped) */
export const cpu_stop = struct<cpu_stop_t>(
  'cpu_stop',
  32,
)({
  time: u64('-', 'when it stopped, ms since the epoch; 0: it did not'),
  text: words('-', 'frames of its thread then, innermost first', STOP_TEXT_WORDS),
});

/** Lays the records out, for `n` CPU slots. */
export function cpu_stop_boot(n: number): void {
  machine.stops[M] = boot_alloc(cpu_stop.sizeof * n, "CPUs' last stops", 32);
}
/** The record of slot `cpu`. */
export function cpu_stop_of(cpu: number): cpu_stop_t {
  return (machine.stops[M] + cpu * cpu_stop.sizeof) as cpu_stop_t;
}
/** Slot `cpu` gets another thread, which has not stopped. */
export function cpu_stop_clear(cpu: number): void {
  const stop = cpu_stop_of(cpu);
  mem.I32.fill(0, stop, stop + cpu_stop.sizeof);
}
/** The text of slot `cpu`; '' if it has not stopped. */
export function cpu_stop_text(cpu: number): string {
  return get_string(cpu_stop.text, cpu_stop_of(cpu), STOP_TEXT_WORDS);
}
/** The frames of this thread, innermost first, a line each. */
export function frames_text(): string {
  const all = frames_of(backtrace_text(FRAMES));
  const first = all.findIndex(({ fn }) => !STOPPING.test(fn));
  return all
    .slice(Math.max(first, 0))
    .slice(0, FRAMES)
    .map(({ fn, file, line }) => `${fn || '<module>'} at ${file.replace(/^.*[/\\]/, '')}:${line}`)
    .join('\n');
}
/** Notes where this thread, which is CPU `cpu`, stops: the first time. */
export function cpu_stop_note(cpu: number): void {
  if (machine.stops[M] === 0 || cpu < 0) return;
  const stop = cpu_stop_of(cpu);
  try {
    if (cpu_stop_text(cpu) !== '') return;
    set64(cpu_stop.time, stop, opt.SIM ? 1 : Date.now());
    set_string(cpu_stop.text, stop, STOP_TEXT_WORDS, frames_text());
  } catch {
    // No stack is left for it, or no memory of the host.
  }
}
