/*
 * subr_stack: where in the program something happens.
 *
 * WITNESS and the lock profiler want the place of each acquisition.  The host
 * keeps the frames of an Error in a compact form (some 2 us) and makes text of
 * them only when somebody looks (some 10 us), so a lock that is taken keeps
 * the Error, and only a report reads it.
 *
 * Frames of the lock code itself at the top of a stack are left out, and those of the façade,
 * through which a program asks for its own locks: the place of a lock is where it was asked for.
 *
 *      at zone_alloc (file:///…/uma/uma_core.ts:310:7)   ->   zone_alloc at uma_core.ts:310
 */
import { frame_is_own, frames_of } from '../machine/backtrace.ts';

/** Frames that a stack keeps: enough to leave the lock code and tell the story. */
const FRAMES = 16;
const LOCK_CODE =
  /[/\\](subr_stack|parts|witness|lock_prof|kern_(mutex|rwlock|condvar)|subr_sleepqueue)\.[jt]s:/;

/** The calling thread's stack, not yet made into text. */
export function stack_save(): Error {
  const limit = Error.stackTraceLimit;
  Error.stackTraceLimit = FRAMES;
  const e = new Error();
  Error.stackTraceLimit = limit;
  return e;
}

/** Whether a line of a stack is the façade's, or of a bundle with all of us. */
function facade(line: string): boolean {
  const [frame] = frames_of(line);
  return frame !== undefined && frame_is_own(frame.file) && !/[/\\]sys[/\\]/.test(frame.file);
}
/** The frames of a saved stack, innermost first, the lock code's own left out. */
export function stack_frames(e: Error): string[] {
  const lines = (e.stack ?? '').split('\n').filter((line) => /^\s+at /.test(line));
  let first = 0;
  while (first < lines.length - 1 && LOCK_CODE.test(lines[first])) first++;
  while (first < lines.length - 1 && facade(lines[first])) first++;
  return lines.slice(first).map((line) => frame_text(line.trim().slice(3)));
}
/** `#0 function at file:line` for each frame, one on each line. */
export function stack_text(e: Error): string {
  return stack_frames(e)
    .map((frame, i) => `#${i} ${frame}`)
    .join('\n');
}
/** file:line of the code that asked for the lock. */
export function stack_where(e: Error): string {
  return stack_frames(e)[0]?.split(' at ').pop() ?? '?';
}

function frame_text(frame: string): string {
  const m = /^(?:(.*) \()?(?:.*[/\\])?([^/\\)]+:\d+):\d+\)?$/.exec(frame);
  if (!m) return frame;
  return `${m[1] ?? '<module>'} at ${m[2]}`;
}
