/*
 * at_signal: what is done before a signal ends the process.
 *
 *      no handler but ours     signal -> files removed -> the same signal again, which kills
 *      the program has one     ours is not there: the program alone decides
 *
 * A process that a signal kills runs no exit handler, so files that should go with it
 * would stay.  A handler of ours changes that, and nothing else: it is installed only while
 * the program has none for that signal, and goes once it gets one (newListener), so that
 * libraries which count handlers find their own only.  That is a moment later: Node stops
 * hearing of a signal when the last handler goes.  It comes back when the last of the
 * program's is gone, which may then send itself the signal.  The process ends by the signal,
 * as it would have without us: a terminal that the program reads raw is set right first, which
 * Node does itself before SIGINT and SIGTERM, but only while nobody ever heard of them.
 *
 * A handler in JavaScript runs when the event loop comes round: a thread that computes, or
 * blocks, hears of the signal later.  Workers have no signals.
 */
import { hostBuiltin } from './host.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
type Signal = (typeof SIGNALS)[number];

interface SignalProcess {
  readonly pid: number;
  on(event: Signal, hear: (signal: Signal) => void): void;
  on(event: 'newListener' | 'removeListener', hear: (event: string) => void): void;
  off(event: string, hear: (arg: never) => void): void;
  listenerCount(event: string): number;
  kill(pid: number, signal: Signal): void;
  readonly stdin: { readonly isRaw?: boolean; setRawMode?(raw: boolean): void };
}
const { process } = globalThis as unknown as { process?: SignalProcess };

const all = new Set<() => void>();
/** The signals for which our handler is installed. */
const ours = new Set<string>();

function isSignal(event: string): event is Signal {
  return (SIGNALS as readonly string[]).includes(event);
}
function ends(signal: Signal): void {
  if (!alone(signal)) return; // it came a moment ago: the program decides
  for (const fn of all) fn();
  all.clear();
  unhook();
  if (signal !== 'SIGHUP') cook(); // whose terminal is gone
  process?.kill(process.pid, signal);
}
/** Gives the terminal back as it was before the program read it raw. */
function cook(): void {
  if (!hostBuiltin<{ isatty(fd: number): boolean }>('node:tty')?.isatty(0)) return;
  try {
    if (process?.stdin.isRaw) process.stdin.setRawMode?.(false);
  } catch {
    // It is gone: nobody will miss it.
  }
}
function install(signal: Signal): void {
  if (ours.has(signal)) return;
  ours.add(signal);
  process?.on(signal, ends);
}
function uninstall(signal: string): void {
  if (ours.delete(signal)) process?.off(signal, ends);
}
/** Whether nobody but us hears of a signal. */
function alone(signal: string): boolean {
  return process?.listenerCount(signal) === (ours.has(signal) ? 1 : 0);
}
function added(event: string): void {
  if (ours.has(event)) queueMicrotask(() => alone(event) || uninstall(event));
}
function removed(event: string): void {
  if (isSignal(event) && all.size > 0 && alone(event)) install(event);
}
function hook(): void {
  process?.on('newListener', added);
  process?.on('removeListener', removed);
  for (const signal of SIGNALS) if (alone(signal)) install(signal);
}
function unhook(): void {
  process?.off('removeListener', removed);
  process?.off('newListener', added);
  for (const signal of SIGNALS) uninstall(signal);
}

/** Runs `fn` before a signal ends the process; returns what calls that off. */
export function atSignal(fn: () => void): () => void {
  const threads = hostBuiltin<{ isMainThread: boolean }>('node:worker_threads');
  if (!threads?.isMainThread || process === undefined) return () => {};
  if (all.size === 0) hook();
  all.add(fn);
  return () => {
    if (all.delete(fn) && all.size === 0) unhook();
  };
}
