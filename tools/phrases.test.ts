/*
 * What is shown: phrases for readers of the source leave the published code, and nothing else
 * does.  By what means: small modules are put in.  That the kernel without its phrases is
 * the same kernel is shown by the façade's tests on the compiled package (tests/package).
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { with_help, without_comments, without_help, without_phrases } from './phrases.ts';

const FROM = "import { i32, lock_words, u32 as word, words } from '../machine/struct.js';\n";

test('the phrase of each field goes; letters, names, counts and other texts stay', () => {
  const code = `${FROM}f({
  a: i32('c', 'a phrase, (with) "marks" and \\'more\\''),
  b: words('m', 'in ' + 'two parts', 7),
  c: lock_words(2, 'UMA lock', 'the lock'),
  d: i32(unchecked('because'), 'x'),
  e: other('c', 'kept'),
  f: i32('c', named),
});
panic('kept', 'too'); const t = ['kept', 'as well'];\n`;
  assert.equal(
    without_phrases(code, 'dist/sys/uma/uma_core.js'),
    `${FROM}f({
  a: i32('c', ''),
  b: words('m', '', 7),
  c: lock_words(2, 'UMA lock', ''),
  d: i32(unchecked('because'), ''),
  e: other('c', 'kept'),
  f: i32('c', named),
});
panic('kept', 'too'); const t = ['kept', 'as well'];\n`,
  );
});
test('functions of the same names from elsewhere keep their arguments', () => {
  const code = "import { i32 } from './other.js';\nimport './struct.js';\ni32('c', 'kept');\n";
  assert.equal(without_phrases(code, 'dist/sys/x.js'), code);
});
test('lines of the tables of boot/main lose theirs, there alone', () => {
  const code = "const T = [[run, 'why'], [() => go(1), 'why'], ['a', 'b'], [x, y]];\n";
  const bare = "const T = [[run, ''], [() => go(1), ''], ['a', 'b'], [x, y]];\n";
  assert.equal(without_phrases(code, '/p/dist/sys/boot/main.js'), bare);
  assert.equal(without_phrases(code, '/p/dist/sys/boot/other.js'), code);
});
test('comments go with their lines; what is told to a bundler, and texts, stay', () => {
  const code = [
    '/* opening',
    ' * comment */',
    "import a from './a.js'; // why",
    'const re = /\\/\\*x/;',
    '    // a line of its own',
    "const t = '// no comment' + `/* nor",
    '    // this */ ${a /* here */}`;',
    "new URL(/* @vite-ignore */ './w.js', import.meta.url);",
    '',
  ].join('\n');
  const bare = [
    "import a from './a.js'; ",
    'const re = /\\/\\*x/;',
    "const t = '// no comment' + `/* nor",
    '    // this */ ${a }`;',
    "new URL(/* @vite-ignore */ './w.js', import.meta.url);",
    '',
  ].join('\n');
  assert.equal(without_comments(code), bare);
});

const DECLARES =
  'import { sysctl_int, sysctl_string, sysctl_value as other } from ' +
  "'../machine/sysctl_decl.js';\n" +
  "import { counter_u64 } from '../machine/counter.js';\n";

test('help goes into the table; what checks its value, or is computed, keeps it', () => {
  const help = new Map<string, string>();
  const code = `${DECLARES}const a = sysctl_int('vm.a', { help: 'of a', value: 1 });
sysctl_int('vm.b', { value: 1, help: 'of ' + "b's" });
sysctl_int('vm.c', { help: 'of c' }, run);
counter_u64('vm.d', 'of d');
sysctl_int('vm.e', { value: 1, help: 'kept', check: even });
sysctl_int(name, { help: 'kept' });
counter_u64('vm.f', named);
sysctl_string('vm.h', { bytes: 8, help: 'of h' });
sysctl_proc('vm.g', { help: 'kept: from elsewhere' });
const t = { help: 'kept' };\n`;
  assert.equal(
    without_help(code, help),
    `${DECLARES}const a = sysctl_int('vm.a', { value: 1 });
sysctl_int('vm.b', { value: 1 });
sysctl_int('vm.c', {  }, run);
counter_u64('vm.d');
sysctl_int('vm.e', { value: 1, help: 'kept', check: even });
sysctl_int(name, { help: 'kept' });
counter_u64('vm.f', named);
sysctl_string('vm.h', { bytes: 8 });
sysctl_proc('vm.g', { help: 'kept: from elsewhere' });
const t = { help: 'kept' };\n`,
  );
  const said = { 'vm.h': 'of h', 'vm.d': 'of d', 'vm.c': 'of c', 'vm.b': "of b's", 'vm.a': 'of a' };
  assert.deepEqual(Object.fromEntries(help), said);
});
test('the table has the help of declarations before its own', () => {
  const help = new Map([
    ['vm.b', 'a "text"'],
    ['vm.a', 'of a'],
  ]);
  assert.equal(
    with_help("export const HELP = {\n    vm: 'a group',\n};\n", help),
    `export const HELP = {\n  "vm.a": "of a",\n  "vm.b": "a \\"text\\"",\n    vm: 'a group',\n};\n`,
  );
  assert.throws(() => with_help('export const OTHER = {};', help), /no table of help/);
});
