/*
 * compile_cache: what Node made of a source is kept, for all processes and threads of a run.
 *
 * Most of the time that a worker needs to begin is spent on the sources: types are
 * stripped, then V8 compiles.  Node can keep the outcome of both in a folder, under a
 * hash of the source, its own version and the processor, and every process and worker
 * that inherits NODE_COMPILE_CACHE looks there first: a thread that imports the façade
 * begins in about a quarter of the processor time, and a whole test run starts well
 * over a thousand threads.
 *
 * A changed source has another hash, so nothing in the folder can be out of date, and
 * it may be removed at any time.  A folder that is set already stays.
 */
import { join } from 'node:path';

/** Lets every process and thread that this one starts share the folder below `root`. */
export function share_compiled(root: string): void {
  process.env.NODE_COMPILE_CACHE ??= join(root, '.tmp', 'compile-cache');
}
