/*
 * temporary: a folder that goes with what it was made for.
 *
 * It is removed when its maker says so, and when a signal ends the program before that; after
 * SIGKILL it stays in the system's folder for such files.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** Signals that end a command by default. */
const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export interface Temporary {
  readonly path: string;
  remove(): void;
}
/** A new folder of this user alone. Throws what the host says. */
export function temporary_folder(): Temporary {
  let path = '';
  const remove = (): void => {
    for (const signal of ENDING) process.off(signal, end);
    // What is in it may just be coming into being, on a thread of the host: then once more.
    if (path !== '') rmSync(path, { recursive: true, force: true, maxRetries: 10 });
  };
  const end = (signal: NodeJS.Signals): void => {
    remove();
    process.kill(process.pid, signal);
  };
  for (const signal of ENDING) process.on(signal, end); // before there is anything to remove
  try {
    path = mkdtempSync(join(tmpdir(), 'kmem-'));
  } catch (e) {
    remove();
    throw e;
  }
  return { path, remove };
}
