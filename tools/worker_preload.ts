/*
 * worker_preload: a test process, and each of its threads, finds its files without looking around.
 *
 * Loaded before anything else in every thread (--import).  A file of the project that another
 * one imports by a path, `./x.ts`, is taken to be there, and to be a module: Node would ask the
 * disk for links, for folders and for a package.json of each folder above, which is more than
 * half of what a thread with 200 modules needs to begin (0.26 s of processor time with it, 0.11 s
 * without).  A thread whose first file has a bundle begins with that (worker_bundles.ts).
 */
import { existsSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isMainThread } from 'node:worker_threads';

const ROOT = join(import.meta.dirname, '..');
const OWN = pathToFileURL(ROOT).href;
const PATH = /^\.\.?\/.*\.([jt])s$/;
const FORMATS = { t: 'module-typescript', j: 'module' } as const;
const { KMEM_TEST_WORKERS: bundles } = process.env;

function bundle_of(specifier: string): string | null {
  if (!specifier.startsWith('file:') || !specifier.endsWith('worker.ts')) return null;
  const path = relative(ROOT, fileURLToPath(specifier));
  const bundle = join(bundles as string, path.replace(/\.ts$/, '.js'));
  return existsSync(bundle) ? pathToFileURL(bundle).href : null;
}
let first = !isMainThread && bundles !== undefined;
registerHooks({
  resolve(specifier, context, next) {
    if (first) {
      first = false;
      const url = bundle_of(specifier);
      if (url !== null) return { url, format: 'module', shortCircuit: true };
    }
    const { parentURL } = context;
    const kind = PATH.exec(specifier)?.[1] as 'j' | 't' | undefined;
    if (kind === undefined || !parentURL?.startsWith(OWN) || parentURL.includes('/node_modules/')) {
      return next(specifier, context);
    }
    const { href } = new URL(specifier, parentURL);
    return { url: href, format: FORMATS[kind], shortCircuit: true };
  },
});
