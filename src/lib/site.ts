/*
 * site: the place in a program that called the façade.
 *
 * Messages that name a place (a second boot, a chain that was lost) are of use
 * only if it is the program's own line, not one of ours: frames in this folder are
 * passed over, save those of tests.
 */
const here: string = import.meta.url ?? ''; // some bundles leave nothing of it
const OWN = here.slice(0, here.lastIndexOf('/') + 1);
/** Our own frames may be as many, before the first of the program. */
const FRAMES = 32;

/** File and line of the code outside the façade that made this call; '?': not known. */
export function callSite(): string {
  const limits = Error as { stackTraceLimit?: number };
  const { stackTraceLimit } = limits;
  limits.stackTraceLimit = FRAMES;
  const { stack = '' } = new Error();
  if (stackTraceLimit !== undefined) limits.stackTraceLimit = stackTraceLimit;
  const at =
    stack
      .split('\n')
      .slice(1)
      .find((line) => !foreign(line)) ?? '';
  return /([^/\\(]+:\d+):\d+\)?$/.exec(at)?.[1] ?? '?';
}
/** Frames of ours, and of the host's own modules, in which a callback began. */
function foreign(line: string): boolean {
  if (/[( ]node:|\((?:native|<anonymous>)\)/.test(line)) return true;
  return OWN !== '' && line.includes(OWN) && !/\.test\.(?:[\w.]+\.)?[jt]s:/.test(line);
}
