/*
 * What is shown: an import going up is found, of each kind of import and from
 * each part of the tower, and what the table allows passes.  By what means: a
 * temporary folder holds one file on each floor; one import is planted, and
 * the program's own function, then the program, is run on it.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { floors } from './floors.ts';

/** Writes the files into a fresh folder, calls `use` with it, removes it. */
function with_tree<T>(files: Record<string, string>, use: (root: string) => T): T {
  const root = mkdtempSync(join(tmpdir(), 'floors-'));
  try {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    return use(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

function findings(files: Record<string, string>): string[] {
  return with_tree(files, (root) =>
    floors(root).findings.map(({ path, line, what }) => `${path}:${line}: ${what}`),
  );
}

/** One import from a file of one part of src to a file of another. */
function link(from: string, to: string): string[] {
  return findings({ [`src/${from}/a.ts`]: `import { b } from '${up(from)}${to}/b.ts';\n` });
}

function up(from: string): string {
  return '../'.repeat(from.split('/').length);
}

const TOWER = [
  'machine',
  'sync',
  'page',
  'uma',
  'pmap',
  'object',
  'map',
  'kmem',
  'client',
  'observe',
];

test('in the tower every import goes down or stays', () => {
  for (const [number, from] of TOWER.entries()) {
    for (const [other, to] of TOWER.entries()) {
      const found = link(`sys/${from}`, `sys/${to}`);
      const expected = other <= number ? 0 : 1;
      assert.equal(found.length, expected, `${from} to ${to}: ${found}`);
      if (expected) {
        const words = `${from} (floor ${number}) may not import ${to} (floor ${other})`;
        assert.equal(found[0], `src/sys/${from}/a.ts:1: ${words}: src/sys/${to}/b.ts`);
      }
    }
  }
});

test('headers are read by all and read machine only; boot brings every floor up', () => {
  for (const part of [
    ...TOWER.map((floor) => `sys/${floor}`),
    'sys/boot',
    'lib',
    'bin',
    'replay',
  ]) {
    assert.deepEqual(link(part, 'sys/h'), [], part);
  }
  assert.deepEqual(link('sys/h', 'sys/machine'), []);
  assert.equal(link('sys/h', 'sys/sync').length, 1);
  for (const floor of TOWER) assert.deepEqual(link('sys/boot', `sys/${floor}`), []);
  for (const floor of TOWER) assert.equal(link(`sys/${floor}`, 'sys/boot').length, 1, floor);
});

test('surfaces see boot, observe, machine and floors 7 and 8; lib what it wraps', () => {
  const seen = ['sys/boot', 'sys/observe', 'sys/machine', 'sys/kmem', 'sys/client'];
  for (const surface of ['bin', 'replay', 'web']) {
    for (const part of seen) assert.deepEqual(link(surface, part), []);
    for (const part of ['sys/sync', 'sys/page', 'sys/uma', 'sys/object', 'sys/map']) {
      assert.equal(link(surface, part).length, 1, `${surface} to ${part}`);
    }
  }
  for (const part of seen) assert.deepEqual(link('lib', part), []);
  for (const part of ['sys/sync', 'sys/page', 'sys/uma', 'sys/object', 'sys/map']) {
    assert.equal(link('lib', part).length, 1, `lib to ${part}, which is not what it wraps`);
  }
  for (const file of ['sync/kern_mutex', 'uma/uma_core', 'page/vm_page', 'map/vm_lowmem']) {
    const text = `import { b } from '../sys/${file}.ts';\n`;
    assert.deepEqual(findings({ 'src/lib/a.ts': text }), [], file);
    assert.equal(findings({ 'src/bin/a.ts': text }).length, 1, `bin to ${file}`);
  }
  for (const surface of ['bin', 'replay', 'web']) {
    assert.equal(link('lib', surface).length, 1);
    assert.equal(link('sys/observe', surface).length, 1);
  }
});

test('every kind of import counts, and comments and strings do not', () => {
  const bad = [
    "export * from '../map/b.ts';",
    "import type { b } from '../map/b.ts';",
    "import {\n  b,\n} from '../map/b.ts';",
    "import '../map/b.ts';",
    "const b = await import('../map/b.ts');",
    "new Worker(new URL('../map/b.ts', import.meta.url));",
  ];
  for (const text of bad) assert.equal(findings({ 'src/sys/uma/a.ts': text }).length, 1, text);
  const fine = "// import '../map/b.ts'\nconst s = \"import '../map/b.ts'\";\n";
  assert.deepEqual(findings({ 'src/sys/uma/a.ts': fine }), []);
});

test('tests may import anything; nobody may import a test, or leave src', () => {
  const upward = "import '../map/b.ts';\nimport 'fast-check';\nimport '../../../sim/x.ts';\n";
  for (const name of [
    'a.test.ts',
    'a.slow.test.ts',
    'a.test.worker.ts',
    'a.model.ts',
    'a.fuzz.ts',
  ]) {
    assert.deepEqual(findings({ [`src/sys/uma/${name}`]: upward }), [], name);
    const found = findings({ 'src/sys/uma/b.ts': `import './${name}';\n` });
    assert.match(found.join(), /product code imports the test/, name);
  }
  const leaving = findings({ 'src/sys/uma/a.ts': "\nimport '../../../sim/x.ts';\n" });
  assert.match(leaving.join(), /^src\/sys\/uma\/a\.ts:2: .*sim\/x\.ts, which is not part of src$/);
});

test('packages only as package.json asks for them', () => {
  const text = "import 'node:fs';\nimport '@scope/name/part';\n";
  const found = findings({ 'src/lib/a.ts': text });
  assert.deepEqual(found, ['src/lib/a.ts:2: product code imports the package @scope/name']);
  const peer = '{ "peerDependencies": { "@scope/name": "1" } }';
  assert.deepEqual(findings({ 'src/lib/a.ts': text, 'package.json': peer }), []);
});

test('a folder that is no floor is named', () => {
  assert.match(link('sys/attic', 'sys/machine').join(), /attic is not a floor/);
});

test('the program exits with 1 and a line a finding, or with 0', () => {
  const program = join(import.meta.dirname, 'floors.ts');
  const run = (text: string) =>
    with_tree({ 'src/sys/page/a.ts': text }, (root) =>
      spawnSync(process.execPath, [program, root], { encoding: 'utf8' }),
    );
  const bad = run("import '../uma/b.ts';\n");
  assert.match(bad.stdout, /^src\/sys\/page\/a\.ts:1: page \(floor 2\).*\n1 files, 1 findings\n$/);
  assert.equal(bad.status, 1);
  const good = run("import '../sync/b.ts';\n");
  assert.equal(good.stdout, '1 files, no findings\n');
  assert.equal(good.status, 0);
});
