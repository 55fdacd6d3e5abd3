/*
 * What is shown: each rule of tidy finds its violation, at its line, and is
 * silent on the same file without it.  By what means: a small project that
 * keeps all rules is written to a temporary folder, one violation is planted
 * in it, and the program itself is run on that folder.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { functions_of, tidy } from './tidy.ts';
import { make_source } from './source.ts';

const OPENING = '/* A file of the small project that tidy is tried on. */\n';

const CLEAN: Record<string, string> = {
  'src/bin/main.ts': `${OPENING}import '../sys/map/vm_map.ts';
import { first } from '../sys/map/hot.ts';
first(0);
`,
  'src/sys/map/vm_map.ts': `${OPENING}const entry = struct<vm_map_entry_t>('vm_map_entry')({
  start: u32('m', 'first page'),
  next: ptr<vm_map_entry_t>('mo', 'neighbour above'),
  name: words('c', 'what it is called', 4),
});
export const vm_map_entry = entry;
const lowmem = sysctl_int('vm.lowmem_period', {
  value: 10,
  help: 'Shortest time between two calls',
});
checked_letter('vm_map_entry', 'm', (e) => e);
checked_rule('vm_map_entry', 'o', () => '');
`,
  'src/sys/map/hot.ts': `${OPENING}// tidy: hot
import { vm_map_entry } from './vm_map.ts';
const entry = vm_map_entry;
export function first(e: number): number {
  return entry.start[entry.next[entry.name[e]]];
}
`,
};

/** Writes the clean project with some files replaced or added, and checks it. */
function findings(changed: Record<string, string>): string[] {
  const root = mkdtempSync(join(tmpdir(), 'tidy-'));
  try {
    for (const [path, text] of Object.entries({ ...CLEAN, ...changed })) {
      mkdirSync(dirname(join(root, path)), { recursive: true });
      writeFileSync(join(root, path), text);
    }
    return tidy(root).findings.map(({ path, line, what }) => `${path}:${line}: ${what}`);
  } finally {
    rmSync(root, { recursive: true });
  }
}

/** Replaces in one clean file, and checks that there was something to replace. */
function plant(path: string, from: string, to: string): string[] {
  assert.ok(CLEAN[path].includes(from), `${path} holds what is to be replaced`);
  return findings({ [path]: CLEAN[path].replace(from, to) });
}

function assert_one(found: string[], start: string, words: RegExp): void {
  assert.equal(found.length, 1, `one finding, not ${JSON.stringify(found)}`);
  assert.ok(found[0].startsWith(start), `${found[0]} begins with ${start}`);
  assert.match(found[0], words);
}

const MAP = 'src/sys/map/vm_map.ts';
const HOT = 'src/sys/map/hot.ts';

test('a clean project has no findings', () => {
  assert.deepEqual(findings({}), []);
});

test('a missing or empty opening comment', () => {
  assert_one(plant(MAP, OPENING, ''), `${MAP}:1:`, /no opening comment/);
  assert_one(plant(MAP, OPENING, '/* map */\n'), `${MAP}:1:`, /too little/);
});

test('a field without lock letter or phrase', () => {
  assert_one(plant(MAP, "u32('m', ", "u32('the map', "), `${MAP}:3:`, /field start.*lock letter/);
  assert_one(plant(MAP, "ptr<vm_map_entry_t>('mo', ", 'ptr<vm_map_entry_t>('), `${MAP}:4:`, /next/);
  assert_one(plant(MAP, "'first page'", "''"), `${MAP}:3:`, /field start.*phrase/);
  assert_one(plant(MAP, "'what it is called', 4", '4'), `${MAP}:5:`, /field name.*phrase/);
});

test('a letter that nobody explains for the structure, and a hint of nothing', () => {
  assert_one(plant(MAP, "u32('m', ", "u32('j', "), `${MAP}:3:`, /field start.*explains.*\(j\)/);
  assert_one(plant(MAP, "u32('m', ", "u32('mj', "), `${MAP}:3:`, /field start.*explains.*\(j\)/);
  assert_one(plant(MAP, "u32('m', ", "u32('h', "), `${MAP}:3:`, /\(h\) stands beside/);
  assert_one(plant(MAP, "u32('m', ", "u32('p', "), `${MAP}:3:`, /explains.*\(p\)/);
  const other = plant(MAP, "checked_letter('vm_map_entry', 'm'", "checked_letter('vm_map', 'm'");
  assert.deepEqual(
    other.map((line) => line.split(': ')[1]),
    ['field start', 'field next'],
  );
  const owner = "checked_owner('vm_map_entry', () => 0);\ncheck";
  const own = CLEAN[MAP].replace("u32('m', ", "u32('p', ").replace('check', owner);
  assert.deepEqual(findings({ [MAP]: own }), []);
});

test('unchecked instead of a letter says why', () => {
  const why = "u32(unchecked('any page may be the first'), ";
  assert.deepEqual(plant(MAP, "u32('m', ", why), []);
  assert_one(plant(MAP, "u32('m', ", "u32(unchecked('a guess'), "), `${MAP}:3:`, /says why/);
  assert_one(plant(MAP, "u32('m', ", 'u32(unchecked(), '), `${MAP}:3:`, /says why/);
});

test('a column without lock letter', () => {
  const text = `${OPENING}export const page = columns<vm_page_t>('page')({
  flags: col8('a', 'what is known of it'),
  order: col16('how large'),
});
page.flags[0] = page.order[0];
`;
  const found = findings({ 'src/bin/page.ts': text });
  assert_one(found, 'src/bin/page.ts:4:', /field order.*lock letter/);
});

test('a sysctl without help, though a comment has the word', () => {
  const help = "help: 'Shortest time between two calls',";
  assert_one(plant(MAP, help, `// ${help}`), `${MAP}:8:`, /vm\.lowmem_period has no help/);
});

test('Atomics outside machine and sync, but not in comments, strings or tests', () => {
  assert_one(
    plant(HOT, 'return ', 'Atomics.load(a, 0);\n  return '),
    `${HOT}:6:`,
    /Atomics outside/,
  );
  const strings = "const s = 'Atomics.add';\nconst t = `${s} Atomics.or`;\n";
  const quiet = `${OPENING}// Atomics.load\n${strings}`;
  assert.deepEqual(findings({ 'src/bin/quiet.ts': quiet }), []);
  const loud = `${OPENING}Atomics.load(a, 0);\n`;
  assert.deepEqual(findings({ 'src/sys/map/x.test.ts': loud, 'sim/x.ts': loud }), []);
  const allowed = {
    'src/sys/sync/s.ts': loud,
    'src/bin/b.ts': `${OPENING}import '../sys/sync/s.ts';`,
  };
  assert.deepEqual(findings(allowed), []);
});

test('in the kernel only the store layer reaches files, by whatever way', () => {
  const ways = [
    "import { host_fs } from './vm_map.ts';\n",
    "import { readFileSync } from 'node:fs';\n",
    "const fs = await import('fs/promises');\n",
    'const fs = process.getBuiltinModule(`node:fs`);\n',
  ];
  for (const way of ways) {
    assert_one(plant(HOT, 'import {', `${way}import {`), `${HOT}:3:`, /files outside/);
    for (const path of ['src/sys/machine/store.ts', 'src/sys/machine/host.ts', 'src/bin/a.ts']) {
      const found = findings({ [path]: OPENING + way });
      assert.ok(!found.some((line) => /files outside/.test(line)), `${path}: ${way}`);
    }
    const test = findings({ 'src/sys/map/a.test.ts': OPENING + way });
    assert.deepEqual(test, []);
  }
  assert.deepEqual(plant(HOT, 'import {', "// host_fs, 'node:fs'\nimport {"), []);
});

test('an export that nobody uses, and a field', () => {
  const path = 'src/sys/map/vm_map.ts';
  const more = `${CLEAN[path]}export const LONELY = 1;\nexport type lonely_t = number;\n`;
  const line = more.split('\n').findIndex((text) => text.includes('LONELY')) + 1;
  const found = findings({ [path]: more });
  assert.equal(found.length, 2, found.join('\n'));
  assert.match(found[0], new RegExp(`^${path}:${line}: nobody uses LONELY`));
  assert.match(found[1], new RegExp(`^${path}:${line + 1}: nobody uses lonely_t`));
  const here = `${more}const used: lonely_t = LONELY;\n`;
  assert.deepEqual(findings({ [path]: here }), [], 'the file itself uses it');
  const test_file = `${OPENING}import { LONELY, type lonely_t } from './vm_map.ts';\n`;
  assert.deepEqual(findings({ [path]: more, 'src/sys/map/a.test.ts': test_file }), []);
  const list = `${CLEAN[path]}const a = 1;\nexport { a as other };\n`;
  assert_one(findings({ [path]: list }), path, /nobody uses other/);
  const field = "  start: u32('m', 'first page'),\n";
  const dead = (name: string): string[] =>
    plant(path, field, `${field}  ${name}: u32('m', 'of no use'),\n`);
  assert_one(dead('forgotten'), `${path}:4:`, /nobody uses the field forgotten/);
  assert_one(dead('first'), `${path}:4:`, /nobody uses the field first/);
  assert.deepEqual(dead('line_gap'), []);
});
test('a file that nobody imports, except workers, tests and entry points', () => {
  const lonely = 'src/sys/map/lonely.ts';
  assert_one(findings({ [lonely]: OPENING }), `${lonely}:1:`, /nobody imports/);
  assert_one(findings({ [lonely]: `${OPENING}import './lonely.ts';` }), lonely, /nobody imports/);
  const starts = `${OPENING}new Worker(new URL('../sys/map/lonely.ts', import.meta.url));\n`;
  assert.deepEqual(findings({ [lonely]: OPENING, 'src/bin/b.ts': starts }), []);
  assert.deepEqual(findings({ 'src/lib/x.test.ts': OPENING, 'bench/x.ts': OPENING }), []);
  const exports = '{ "exports": { ".": "./dist/lib/index.js" } }';
  assert.deepEqual(findings({ 'src/lib/index.ts': OPENING, 'package.json': exports }), []);
});

test('a line over 100 columns, counted in characters', () => {
  const wide = `// ${'ä'.repeat(98)}`;
  assert_one(plant(HOT, '// tidy: hot', `// tidy: hot\n${wide}`), `${HOT}:3:`, /101 columns/);
  assert.deepEqual(plant(HOT, '// tidy: hot', `// tidy: hot\n${wide.slice(0, -1)}`), []);
});

test('a function that is too long, of each form', () => {
  const body = '  work();\n'.repeat(90);
  const forms: [string, string][] = [
    [`function long(a: number): Map<string, { x: 1 }> {\n${body}}`, 'long'],
    [`const arrow = (a: number) => {\n${body}};`, 'arrow'],
    [`class C {\n  async method(a = { b: 1 }): Promise<{ c: 2 }> {\n${body}  }\n}`, 'method'],
  ];
  for (const [text, name] of forms) {
    const found = findings({ 'src/bin/long.ts': `${OPENING}${text}\n` });
    assert_one(found, 'src/bin/long.ts:', new RegExp(`function ${name} has 9\\d lines`));
  }
  const group = `${OPENING}describe('x', () => {\n${body}});\n`;
  assert.deepEqual(findings({ 'src/bin/x.test.ts': group }), []);
});

test('functions end where they end, whatever strings and patterns hold', () => {
  const text = `${OPENING}function a(): string {
  const brace = '}';
  const pattern = /[}/]}"/;
  // }
  return \`} \${brace + \`}\`} }\`;
}
function b(x: number): void;
if (a()) {
}
`;
  const bodies = functions_of(make_source('x.ts', text)).map(({ name, open, close }) => [
    name,
    text.slice(open, close + 1).split('\n').length,
  ]);
  assert.deepEqual(bodies, [['a', 6]]);
});

test('a file that is too long', () => {
  const long = `${OPENING}${'work();\n'.repeat(800)}`;
  assert_one(findings({ 'src/bin/long.ts': long }), 'src/bin/long.ts:1:', /801 lines/);
});

test('an exported structure used inside a function of a hot file', () => {
  const found = plant(HOT, 'return entry.', 'return vm_map_entry.');
  assert_one(found, `${HOT}:6:`, /first uses the exported name vm_map_entry/);
  const cold = CLEAN[HOT]
    .replace('// tidy: hot\n', '')
    .replace('return entry.', 'return vm_map_entry.');
  assert.deepEqual(findings({ [HOT]: cold }), []);
});

test('paths of one machine and package hosts, in sources and in prose', () => {
  assert_one(
    plant(HOT, '// tidy: hot', "// tidy: hot\n// see '/home/me'"),
    `${HOT}:3:`,
    /one machine/,
  );
  assert_one(findings({ 'README.md': 'Look into `/root`.\n' }), 'README.md:1:', /one machine/);
  const host = ['registry', 'npmjs', 'org'].join('.');
  assert_one(findings({ 'README.md': `\nFrom ${host}.\n` }), 'README.md:2:', /package host/);
  const fine = '// src/home and example.org/home/ are no such paths, nor is read/work\n';
  assert.deepEqual(
    findings({ 'src/bin/b.ts': OPENING + fine, 'src/bin/b.test.ts': `${OPENING}// '/tmp'` }),
    [],
  );
});

test('an errno that nobody looks at', () => {
  const errno = { 'src/sys/machine/errno.ts': `${OPENING}export const EBUSY = 16;\n` };
  const lower = `${OPENING}import '../machine/errno.ts';
export function end(z: number): number {
  const error = z > 0 ? 0 : EBUSY;
  return error;
}
export function end_all(z: number): number {
  return end(z);
}
export function count(z: number): number {
  return z + 1;
}
`;
  const upper = (body: string): Record<string, string> => ({
    ...errno,
    'src/sys/uma/low.ts': lower,
    'src/lib/up.ts': [
      `${OPENING}import { count, end, end_all } from '../sys/uma/low.ts';`,
      'export function up(): void {',
      `  ${body}`,
      '}\n',
    ].join('\n'),
    'src/lib/index.test.ts': `${OPENING}import { up } from './up.ts';\n`,
  });
  const at = 'src/lib/up.ts:4:';
  for (const dropped of ['end(1);', 'void end_all(1);', 'if (x) end(1);', 'x(); end_all(1);']) {
    assert_one(findings(upper(dropped)), at, /answers with an errno/);
  }
  const used = [
    'if (end(1) !== 0) fail();',
    'const error = end_all(1);',
    'count(1);',
    'zone.end(1);',
    'end(1); // errno: it is tried again',
  ];
  for (const fine of used) assert.deepEqual(findings(upper(fine)), [], fine);
});

test('the program prints one line a finding and exits with 1, or with 0', () => {
  const root = mkdtempSync(join(tmpdir(), 'tidy-'));
  try {
    const program = join(import.meta.dirname, 'tidy.ts');
    mkdirSync(join(root, 'src/bin'), { recursive: true });
    writeFileSync(join(root, 'src/bin/main.ts'), OPENING);
    const clean = spawnSync(process.execPath, [program, root], { encoding: 'utf8' });
    assert.equal(clean.stdout, '1 files, no findings\n');
    assert.equal(clean.status, 0);
    writeFileSync(join(root, 'src/bin/main.ts'), '\n');
    const planted = spawnSync(process.execPath, [program, root], { encoding: 'utf8' });
    assert.match(
      planted.stdout,
      /^src\/bin\/main\.ts:1: no opening comment.*\n1 files, 1 findings\n$/,
    );
    assert.equal(planted.status, 1);
  } finally {
    rmSync(root, { recursive: true });
  }
});

test('the files with fast paths carry the mark', () => {
  for (const path of ['kmem/kern_malloc', 'uma/uma_core', 'client/kern_mbuf', 'machine/atomic']) {
    const text = readFileSync(join(import.meta.dirname, `../src/sys/${path}.ts`), 'utf8');
    assert.match(make_source(path, text).comment, /tidy: hot/, path);
  }
});
