/*
 * worker_bundles: the threads that tests start load a few files in place of some 130.
 *
 *      src/lib/line.test.worker.ts  ->  .tmp/workers/src/lib/line.test.worker.js, and what it
 *                                       shares with others in chunks
 *
 * Node takes a millisecond of processor time for each module that a thread loads, whatever is
 * in it, and a run of all tests starts well over a thousand threads.  So every file that is
 * a thread of its own is bundled once, and the threads of test processes begin with the
 * bundle (worker_preload.ts).  The code is the same: nothing is left out, each module's
 * `import.meta` says where the source is, and `const` stays `const`, on which the speed of the
 * kernel rests.  What is declared is the same too, or attach() would refuse the thread.
 *
 * The file that a process starts with is never a bundle: programs and tests run as they are, and
 * find their files sooner by worker_preload.ts.  V8 ended some tests that were bundles
 * (a check in SourceTextModule::AsyncModuleExecutionFulfilled, in Node 22 and 26).
 */
import { rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { walk } from './source.ts';

/** Where the bundles of a run lie, below the project. */
const FOLDER = join('.tmp', 'workers');
const THREAD = /[._]worker\.[jt]s$/;
/**
 * One asks for one of two libraries, and what that loads is what its test is about; one is
 * named by the library as the place where chains were made, which are told from its own files;
 * of one the kernel notes where in it locks were taken.
 */
const LEFT_OUT = /\/(?:core|chain_io|sync)\.test\.worker\.[jt]s$/;

/** Whether a file is a thread that can be bundled. */
export function is_thread(path: string): boolean {
  return THREAD.test(path) && !LEFT_OUT.test(path);
}

/** Bundles files of `root` that are threads into `to`, under the same names but for `.js`. */
export async function bundle_workers(
  root: string,
  files: readonly string[],
  to: string,
): Promise<void> {
  if (files.length === 0) return;
  const { rolldown } = await import('rolldown'); // a project without threads needs none
  const input = Object.fromEntries(
    files.map((path) => [path.replace(/\.[jt]s$/, ''), join(root, path)]),
  );
  const made = await rolldown({
    input,
    platform: 'node',
    external: /^node:/,
    treeshake: false,
    plugins: [{ name: 'import.meta', transform: keep_places }],
  });
  const names = { entryFileNames: '[name].js', chunkFileNames: 'chunk-[hash].js' };
  await made.write({ dir: to, format: 'esm', topLevelVar: false, ...names });
  await made.close();
}
/** A bundled module's `import.meta` is that of its source. */
function keep_places(code: string, path: string): string {
  return code
    .replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href))
    .replaceAll('import.meta.dirname', JSON.stringify(dirname(path)))
    .replaceAll('import.meta.filename', JSON.stringify(path));
}
/** Bundles all threads of the project; returns what a test process is started with. */
export async function use_worker_bundles(root: string): Promise<string[]> {
  const to = join(root, FOLDER);
  rmSync(to, { recursive: true, force: true });
  const files = ['src', 'tests', 'bench'].flatMap((folder) => walk(root, folder));
  await bundle_workers(root, files.filter(is_thread), to);
  process.env.KMEM_TEST_WORKERS = to;
  return ['--import', pathToFileURL(join(import.meta.dirname, 'worker_preload.ts')).href];
}
