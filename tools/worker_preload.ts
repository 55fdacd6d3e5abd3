/*
 * worker_preload: a thread of a test process begins with the bundle of its file.
 *
 * Loaded before anything else in every thread (--import).  Only the first file of a thread
 * is looked up; see worker_bundles.ts.
 */
import { existsSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { isMainThread } from 'node:worker_threads';

const ROOT = join(import.meta.dirname, '..');
const { KMEM_TEST_WORKERS: bundles } = process.env;

function bundle_of(specifier: string): string | null {
  if (!specifier.startsWith('file:') || !specifier.endsWith('worker.ts')) return null;
  const path = relative(ROOT, fileURLToPath(specifier));
  const bundle = join(bundles as string, path.replace(/\.ts$/, '.js'));
  return existsSync(bundle) ? pathToFileURL(bundle).href : null;
}
if (!isMainThread && bundles !== undefined) {
  const hooks = registerHooks({
    resolve(specifier, context, next) {
      hooks.deregister();
      const url = bundle_of(specifier);
      if (url === null) return next(specifier, context);
      return { url, format: 'module', shortCircuit: true };
    },
  });
}
