/*
 * uncaught: an error that nobody catches leaves a dump, as a panic does.
 *
 *      boot({ dump: folder })     an error is thrown, and nobody catches it
 *                                 ── its text goes into the message buffer, and the memory to a
 *                                    file in the folder; then the program ends as it would have
 *
 * Most of what a program does wrong with memory is refused, and does not stop the machine: a free
 * of what is no block, an access of what was unmapped.  Where such an error ends the program its
 * memory is the only witness of what was there.  `show msgbuf` of the dump has the error, with
 * the lines of the program and what is known of the block; everything else is looked at as ever.
 *
 * Of several threads of a machine the first to end so writes it.  The host only tells us: who
 * handles such errors, and what becomes of the program, is none of our business.
 */
import { thr } from '../sys/machine/cpu.ts';
import { FOLDER_WORDS, M, machine } from '../sys/machine/header.ts';
import { get_string } from '../sys/machine/struct.ts';
import { error_dump } from '../sys/observe/kern_dump.ts';
import { enter, inKernel } from './context.ts';
import { hostBuiltin } from './host.ts';

interface Host {
  process?: { on?(event: 'uncaughtExceptionMonitor', hear: (e: unknown) => void): unknown };
}
const { process } = globalThis as Host;
let hears = false;

/** Has this thread hear of errors that nobody catches, if its machine was given a folder. */
export function hearUncaught(): void {
  if (hears || get_string(machine.dump_folder, M, FOLDER_WORDS) === '') return;
  hears = true;
  process?.on?.('uncaughtExceptionMonitor', told);
}
function told(e: unknown): void {
  if (thr.cpu < 0) return; // it has left its machine
  const util = hostBuiltin<{ inspect(value: unknown): string }>('node:util');
  const text = util?.inspect(e) ?? (e instanceof Error ? e.stack : undefined) ?? String(e);
  try {
    enter('dump');
    inKernel('dump', () => error_dump(`Uncaught ${text}`));
  } catch {} // the machine has stopped, or the thread is away: the error itself counts
}
