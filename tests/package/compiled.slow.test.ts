/*
 * What is shown: the compiled package does what the sources do, on the oldest Node
 * that it promises and on the newest.  By what means: the façade's own tests, with
 * their workers, are compiled too, put beside the code of an installed copy, and
 * run there, but for the slow ones: names, zones, records, locks, queues and deaths on
 * several threads, with the walkers and the leak check after each.  Their workers are bundled,
 * as programs do it with theirs, so that these begin sooner.
 *
 * The sources of all these tests run in the same `npm test`, so what is sought here is what
 * the compiler, the bundler or the other Node makes different: on the oldest Node the tests
 * that use most of the façade, one of what threads do to each other, and DRAWN others, which are
 * other ones each time (KMEM_SEED).  compiled.stress.ts runs them all (KMEM_COMPILED=all).
 */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { some_of } from '../../src/sys/machine/seed.test.lib.ts';
import { rewrite_workers } from '../../tools/build.ts';
import { walk } from '../../tools/source.ts';
import { bundle_workers, is_thread } from '../../tools/worker_bundles.ts';
import { install, NODE_MAJORS, NODES, pack, run_beside, run_ok, scratch, tool } from './pack.ts';

const folder = scratch();
const user = join(folder, 'user');
const dist = join(user, 'node_modules/kmem/dist');

const ALL = process.env.KMEM_COMPILED === 'all';
/** All kinds of objects: what always runs on the oldest Node. */
const ALWAYS = ['lib.test.js', 'chain.test.js'];
/** What runs on the newest Node, too. */
const NEWEST = ALL ? ALWAYS : ALWAYS.slice(0, 1);
/** Threads, the core, the socket: one of these on the oldest. */
const OFTEN = ['threads.test.js', 'core.test.js', 'told.test.js'];
/** How many of the others. */
const DRAWN = 2;

/** The files that a Node runs, of all. */
function chosen(major: number, all: readonly string[]): readonly string[] {
  if (major !== NODE_MAJORS[0]) return all.filter((name) => NEWEST.includes(name));
  if (ALL) return all;
  const others = all.filter((name) => !ALWAYS.includes(name) && !OFTEN.includes(name));
  return [...ALWAYS, ...some_of(OFTEN, 1), ...some_of(others, DRAWN)];
}

before(async () => {
  const packed = pack(folder);
  install(user, packed);
  const config = {
    extends: './tsconfig.build.json',
    // The oldest Node knows no `using`, which tests may have.
    compilerOptions: { outDir: 'tested', declaration: false, target: 'es2024', lib: ['esnext'] },
    include: ['types', 'src/lib'],
    exclude: ['src/lib/**/*.stress.ts'], // which play tests of the sources
  };
  writeFileSync(join(packed.source, 'tsconfig.tests.json'), JSON.stringify(config));
  run_ok(tool('tsc'), ['-p', 'tsconfig.tests.json'], packed.source);
  const tested = join(packed.source, 'tested');
  // The command, of which the package has no modules, is called by some tests.
  const wanted = /\.(?:test|fuzz|model)\.([\w.]+\.)?js$|^(?:bin|replay)\/.*\.js$/;
  for (const path of walk(tested, '').filter((path) => wanted.test(path))) {
    const code = rewrite_workers(readFileSync(join(tested, path), 'utf8'));
    mkdirSync(join(dist, path, '..'), { recursive: true });
    writeFileSync(join(dist, path), code);
  }
  await bundle_workers(dist, walk(dist, 'lib').filter(is_thread), dist);
});

for (const major of NODE_MAJORS) {
  const title = `Node ${major}: the façade's tests pass on the compiled package`;
  // Two at a time: each of these files waits for threads much of the time.
  test(title, { concurrency: 2 }, async (t) => {
    const all = readdirSync(join(dist, 'lib')).filter((name) => /^[^.]+\.test\.js$/.test(name));
    const files = chosen(major, all);
    assert.ok(files.length >= NEWEST.length, `${files}`);
    let passed = 0;
    const one = async (name: string): Promise<void> => {
      const args = ['--test', '--test-reporter=tap', join('lib', name)];
      const { status, stdout, stderr } = await run_beside(NODES[major], args, dist);
      const count = (what: string): number =>
        Number(new RegExp(`^# ${what} (\\d+)$`, 'm').exec(stdout)?.[1]);
      const said = stdout.slice(stdout.search(/^ *not ok/m)) + stderr;
      assert.equal(count('fail'), 0, said);
      assert.equal(status, 0, said);
      assert.ok(count('pass') > 0, stdout);
      passed += count('pass');
    };
    await Promise.all(files.map((file) => t.test(file, () => one(file))));
    assert.ok(passed >= 30, `${passed} tests passed`);
  });
}
