/*
 * What is shown: the runners tell success from failure, so that a red run is
 * never green.  By what means: the programs themselves are started, fuzz on
 * the driver with a planted bug, stress and test on a temporary project, and
 * bin/kmem.js as far as it goes without a machine.
 */
import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawnSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { rewrite_types, rewrite_workers } from './build.ts';

const TOOLS = import.meta.dirname;

function run(program: string, args: string[], env = {}): SpawnSyncReturns<string> {
  // A test runner inside a test would report to the outer one.
  const { NODE_TEST_CONTEXT: _, ...rest } = process.env;
  return spawnSync(process.execPath, [program, ...args], {
    encoding: 'utf8',
    env: { ...rest, ...env },
  });
}

/** A project of its own with these files and a copy of our tools; removed afterwards. */
function with_project(files: Record<string, string>, use: (root: string) => void): void {
  const root = mkdtempSync(join(tmpdir(), 'runners-'));
  try {
    cpSync(TOOLS, join(root, 'tools'), {
      recursive: true,
      filter: (path) => !path.endsWith('.test.ts'),
    });
    writeFileSync(join(root, 'package.json'), '{ "type": "module" }');
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    const own = join(root, 'node_modules'); // a project with its own is not given ours
    if (!existsSync(own)) symlinkSync(join(TOOLS, '../node_modules'), own, 'dir');
    use(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

test('fuzz: the planted bug is found, and found again from the seed it prints', () => {
  const fuzz = join(TOOLS, 'fuzz.ts');
  const drawn = run(fuzz, ['planted']);
  assert.equal(drawn.status, 1, drawn.stdout + drawn.stderr);
  const seed = /replay with: npm run fuzz planted (\d+)\n$/.exec(drawn.stderr)?.[1];
  assert.ok(seed !== undefined && drawn.stdout.includes(`seed ${seed},`), drawn.stderr);
  const again = run(fuzz, ['planted', seed]);
  assert.equal(again.status, 1);
  const what = /step \d+: .*\(planted\)/;
  assert.equal(what.exec(again.stderr)?.[0], what.exec(drawn.stderr)?.[0]);
});

test('fuzz: lists the drivers; refuses what it does not know in one line', () => {
  const fuzz = join(TOOLS, 'fuzz.ts');
  assert.match(run(fuzz, []).stdout, /^planted +fuzz\/planted\.fuzz\.ts$/m);
  assert.equal(run(fuzz, ['planted', '1', '0']).status, 0, 'no step, no failure');
  for (const args of [['nothing'], ['planted', 'x'], ['planted', '1', '-3']]) {
    const refused = run(fuzz, args);
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /^fuzz: [^\n]+\n$/);
  }
});

test('stress: a line for each program, exit code 1 when one fails', () => {
  const files = {
    'src/a/good.stress.ts': "console.log('held for', process.env.KMEM_STRESS_SECONDS, 's');\n",
    'tests/bad.stress.ts': "console.log('counts differ');\nprocess.exit(3);\n",
  };
  with_project(files, (root) => {
    const stress = join(root, 'tools/stress.ts');
    const both = run(stress, [], { KMEM_STRESS_SECONDS: '7' });
    assert.equal(both.status, 1);
    assert.match(both.stdout, /^ok {4}src\/a\/good\.stress\.ts .* held for 7 s$/m);
    assert.match(both.stdout, /^FAIL {2}tests\/bad\.stress\.ts .* exit code 3\ncounts differ$/m);
    assert.match(both.stdout, /1 held, 1 failed\n$/);
    assert.equal(run(stress, ['good']).status, 0);
    assert.equal(run(stress, ['nothing']).status, 2);
  });
});

test('test: counts what passed and failed, a crashed file too; skips are named', () => {
  // Some turns of the event loop after the test before it: that one has been reported by then.
  const crash = `test('e', async () => {
    for (let i = 0; i < 100; i++) await new Promise((turn) => setImmediate(turn));
    process.abort();
  });`;
  const header = "import { test } from 'node:test';\n";
  const files = {
    'src/a/good.test.ts': `${header}test('a', () => {});\ntest('b', (t) => t.skip('needs X'));\n`,
    'src/a/bad.slow.test.ts': `${header}test('c', () => { throw new Error('planted'); });\n`,
    'tests/crash.slow.test.ts': `${header}test('d', () => {});\n${crash}\n`,
    'tests/load.slow.test.ts': "throw new Error('cannot load');\n",
  };
  with_project(files, (root) => {
    const all = run(join(root, 'tools/test.ts'), []);
    assert.equal(all.status, 1);
    assert.match(all.stdout, /^ok {4}src\/a\/good\.test\.ts/m);
    assert.match(all.stdout, /^ +skipped: needs X \(b\)$/m);
    assert.match(all.stdout, /^FAIL {2}src\/a\/bad\.slow\.test\.ts.*\n +c\n +Error: planted$/m);
    assert.match(
      all.stdout,
      /^FAIL {2}tests\/crash\.slow\.test\.ts[\s\S]*ended early, by SIGABRT/m,
    );
    assert.match(all.stdout, /cannot load/);
    assert.match(all.stdout, /\n2 passed, 3 failed\n$/);
    const quick = run(join(root, 'tools/test.ts'), ['--quick']);
    assert.match(quick.stdout, /\n1 passed, 0 failed\n$/);
    assert.equal(quick.status, 0);
    assert.equal(run(join(root, 'tools/test.ts'), ['nothing']).status, 2);
  });
});

test('test --changed: leaves out what passed, until something that it leads to changes', () => {
  const header = "import { test } from 'node:test';\nimport assert from 'node:assert';\n";
  const files = {
    'src/own.test.ts': `${header}test('own', () => {});\n`,
    'src/deep.test.ts': `${header}import { a } from './a.ts';\ntest('deep', () => assert(a));\n`,
    'src/a.ts': "export { b as a } from './b.ts';\n",
    'src/b.ts': "import { readFileSync } from 'node:fs';\nexport const b = true;\n",
    'src/started.test.ts': `${header}const file = new URL('./worker.ts', import.meta.url);
      test('started', () => assert(file));\n`,
    'src/worker.ts': "import './deep_worker.ts';\n",
    'src/deep_worker.ts': 'export {};\n',
    'src/anywhere.test.ts': `${header}test('anywhere', () => assert(import.meta.dirname));\n`,
    'src/says.test.ts': `${header}// Leads to '../data/' alone.
      test('says', () => assert(import.meta.dirname));\n`,
    'data/x.txt': 'x',
    'docs.md': 'text',
  };
  with_project(files, (root) => {
    const ran = (...args: string[]): string[] => {
      const { stdout } = run(join(root, 'tools/test.ts'), ['src/', ...args]);
      return [...stdout.matchAll(/^(?:ok|FAIL) +src\/(\w+)\.test/gm)].map((m) => m[1]).sort();
    };
    const change = (path: string, text: string): void =>
      writeFileSync(join(root, path), text + files[path as keyof typeof files]);
    const all = ['anywhere', 'deep', 'own', 'says', 'started'];
    assert.deepEqual(ran('--changed'), all, 'nothing has passed yet');
    assert.deepEqual(ran('--changed'), []);
    assert.deepEqual(ran(), all);
    change('src/deep_worker.ts', '// changed\n');
    assert.deepEqual(ran('--changed'), ['anywhere', 'started']);
    change('data/x.txt', 'x');
    assert.deepEqual(ran('--changed'), ['anywhere', 'says']);
    change('docs.md', 'more ');
    assert.deepEqual(ran('--changed'), ['anywhere']);
    change('src/b.ts', "throw new Error('planted');\n");
    assert.deepEqual(ran('--changed'), ['anywhere', 'deep']);
    assert.deepEqual(ran('--changed'), ['deep'], 'what failed runs again');
    change('src/b.ts', '');
    assert.deepEqual(ran('--changed'), ['anywhere'], 'it passed with these sources');
  });
});

test('build: workers are named by their compiled files, other addresses are left alone', () => {
  const code = [
    "new URL('./child.ts', import.meta.url)",
    'new URL("../x/child.ts", import.meta.url)',
    "new URL('./page.html', import.meta.url)",
    "new URL('./child.ts', base)",
    "new URL(/* a word */ './child.ts', import.meta.url)",
  ];
  assert.deepEqual(code.map(rewrite_workers), [
    "new URL('./child.js', import.meta.url)",
    'new URL("../x/child.js", import.meta.url)',
    "new URL('./page.html', import.meta.url)",
    "new URL('./child.ts', base)",
    "new URL(/* a word */ './child.js', import.meta.url)",
  ]);
  const types = `export { a } from './a.ts';\ntype B = import("../b.ts").B; // from 'c.ts'`;
  const published = `export { a } from './a.js';\ntype B = import("../b.js").B; // from 'c.ts'`;
  assert.equal(rewrite_types(types), published);
});

test('bin/kmem.js: runs src in a clone, dist when installed, passes args and exit code', () => {
  const bin = join(TOOLS, '../bin/kmem.js');
  const say = (where: string) =>
    `export function main(args) { console.log('${where}', ...args); return 5; }\n`;
  const files = { 'src/bin/main.ts': say('src'), 'dist/node/main.js': say('dist') };
  for (const [folder, where] of [
    ['clone', 'src'],
    ['node_modules/kmem', 'dist'],
  ]) {
    const placed = Object.entries(files).map(([path, text]) => [`${folder}/${path}`, text]);
    with_project(Object.fromEntries(placed), (root) => {
      mkdirSync(join(root, folder, 'bin'));
      cpSync(bin, join(root, folder, 'bin/kmem.js'));
      writeFileSync(join(root, folder, 'package.json'), '{ "type": "module" }');
      const ran = run(join(root, folder, 'bin/kmem.js'), ['replay', '--x']);
      assert.equal(ran.stdout, `${where} replay --x\n`);
      assert.equal(ran.status, 5);
    });
  }
});
