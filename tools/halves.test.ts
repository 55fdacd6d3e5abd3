/*
 * What is shown: modules that are cut in two do what they did, for the core and for all others,
 * and the core's half has what the core needs and nothing else.  By what means: small modules
 * are cut, written to a folder and run.  That the kernel cut in two is the same kernel is
 * shown by the façade's tests on the compiled package, and by pages in browsers (tests/package).
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { pathToFileURL } from 'node:url';
import { halves } from './halves.ts';

type Code = Record<string, string>;
/** A function whose code is long enough to be worth a file. */
const long = (head: string, result: string): string =>
  `${head} { const text = '${'x'.repeat(500)}'; return text.length > 0 ? ${result} : null; }`;

function cut(modules: Code): Code {
  const made = halves('core.js', (path) => modules[path] ?? assert.fail(`no ${path}`));
  return { ...modules, ...Object.fromEntries(made) };
}
/** Writes modules and gives their folder. */
function written(t: TestContext, modules: Code): string {
  const folder = mkdtempSync(join(tmpdir(), 'kmem-halves-'));
  t.after(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, 'package.json'), '{ "type": "module" }');
  for (const [path, code] of Object.entries(modules)) {
    mkdirSync(dirname(join(folder, path)), { recursive: true });
    writeFileSync(join(folder, path), code);
  }
  return folder;
}
const load = (folder: string, path: string) => import(pathToFileURL(join(folder, path)).href);

const MODULES: Code = {
  'core.js': "export { small as little } from './sys/a.js';\n",
  'all.js':
    "export { large, small, seen } from './sys/a.js';\nexport { other } from './sys/b.js';\n",
  'sys/a.js': `import { log as log_, other } from './b.js';
import './c.js';
const log = log_;
log.push('a');
export const seen = [log.length];
let count = 0;
export function small({ by = STEP } = {}) { const other = by; count += other; return count; }
const STEP = 2;
${long('export function large()', 'other() + ` ${step_of(count)} ${log.length}`')}
const step_of = (n) => n / STEP;
export { seen as also_seen };\n`,
  'sys/b.js': `export { log } from './log.js';
import { log } from './log.js';
log.push('b');
${long('export function other()', "'other'")}\n`,
  'sys/c.js': "import { log } from './log.js';\nlog.push('c');\n",
  'sys/log.js': 'export const log = [];\n',
};

test('both halves together are the module that there was', async (t) => {
  const [before, after] = [written(t, MODULES), written(t, cut(MODULES))];
  for (const folder of [before, after]) {
    const { little } = await load(folder, 'core.js');
    const all = await load(folder, 'all.js');
    const { log } = await load(folder, 'sys/log.js');
    assert.deepEqual(log, ['b', 'c', 'a'], 'in their order, once');
    assert.equal(little, all.small);
    assert.deepEqual([little(), little({ by: 4 })], [2, 6]);
    assert.equal(all.large(), 'other 3 3');
    assert.deepEqual((await load(folder, 'sys/a.js')).also_seen, [3]);
  }
});
test('the core has what it needs: a name inside a function is another', () => {
  const made = cut(MODULES);
  const core = made['sys/a.core.js'];
  assert.match(core, /function small/);
  assert.doesNotMatch(core, /large|step_of/);
  assert.match(core, /^import '\.\/b\.core\.js';$/m, 'its `other` is not that of b');
  assert.match(core, /from '\.\/log\.js'/, 'what b hands on comes from where it is');
  assert.doesNotMatch(made['sys/b.core.js'], /other/);
  assert.match(made['sys/a.js'], /^const log = log_;$/m, 'a local name in both');
  assert.match(made['core.js'], /^export \{ small as little \} from '\.\/sys\/a\.core\.js';$/m);
  assert.equal(made['sys/c.js'], MODULES['sys/c.js'], 'nothing to cut off');
});
test('who assigns to a variable stays beside it', async (t) => {
  const made = cut({
    'core.js': "export { get } from './a.js';\n",
    'a.js': `let n = 0;
export const get = () => n;
${long('export function set(to)', '(n = to)')}
${long('export function up()', 'n++')}
${long('export function apart(n)', '(n = 1)')}
${long('export function field(o)', '(o.n = 1)')}\n`,
  });
  assert.match(made['a.core.js'], /function set[\s\S]*function up/);
  assert.doesNotMatch(made['a.core.js'], /apart|field/);
  const { get, set, up, apart, field } = await load(written(t, made), 'a.js');
  assert.deepEqual([set(3), up(), apart(0), field({}), get()], [3, 3, 1, 1, 4]);
});
test('what does something when it is loaded is never cut off, nor what it names', () => {
  const made = cut({
    'core.js': "export { one } from './a.js';\n",
    'a.js': `export const one = 1;
class Plain {}
class Child extends Plain {}
const made_of = { field: make() };
function make() { return helper; }
const helper = () => 1;
for (const x of [1]) made_of[x] = used;
function used() {}
${long('function unused()', '1')}
export class Rest { field = 1; #own() { return unused(); } }\n`,
  });
  const core = made['a.core.js'];
  for (const name of ['Plain', 'Child', 'made_of', 'make', 'helper', 'used']) {
    assert.match(core, new RegExp(`(?:function|class|const) ${name}\\b`));
  }
  assert.doesNotMatch(core, /unused|Rest/);
});
test('what it cannot read is refused', () => {
  for (const line of [
    "import * as b from './b.js';",
    "export * from './b.js';",
    'export default 1;',
  ]) {
    const modules = { 'core.js': "export { a } from './a.js';\n", 'b.js': '' };
    assert.throws(
      () => cut({ ...modules, 'a.js': `${line}\nexport const a = 1;\n` }),
      /halves: a\.js: names are imported and exported one by one/,
    );
  }
  assert.throws(
    () => cut({ 'core.js': "export { a } from './a.js';\n", 'a.js': '' }),
    /a\.js exports no a/,
  );
});
