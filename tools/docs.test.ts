/*
 * The pages say what is there: the README's program is the example of that name,
 * every link leads to a file and a heading, every `npm run` is a script, and the five
 * lines for each kind of user run.  All of it is read from the pages and the project as
 * they lie here.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { project_root, walk } from './source.ts';

const ROOT = project_root();
const pages = walk(ROOT, '').filter((path) => path.endsWith('.md'));
const text_of = (path: string): string => readFileSync(join(ROOT, path), 'utf8');

/** What stands before the five lines of a kind of user. */
const before = (http: boolean): string => `
  import { createServer } from '${http ? 'node:http' : 'node:net'}';
  import { assertNoLeaks, boot } from '${new URL('../src/lib/index.ts', import.meta.url)}';
  import { wrapSocket } from '${new URL('../src/lib/streams.ts', import.meta.url)}';
  const machine = boot({ memory: '64M' });
`;

/** A heading as a link names it: small letters, `-` for blanks, no other signs. */
function anchor(heading: string): string {
  const plain = heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N} _-]/gu, '');
  return plain.replaceAll(' ', '-');
}
function anchors(path: string): Set<string> {
  const headings = [...text_of(path).matchAll(/^#+ (.+)$/gm)];
  return new Set(headings.map(([, heading]) => anchor(heading)));
}
/** What is wrong with the links of a page. */
function bad_links(path: string): string[] {
  const links = [...text_of(path).matchAll(/\]\(([^)\s]+)\)/g)].map(([, to]) => to);
  return links.filter((to) => {
    if (/^[a-z]+:/.test(to)) return false;
    const [file, place] = to.split('#');
    const target = file === '' ? path : join(dirname(path), file);
    if (!existsSync(join(ROOT, target))) return true;
    return place !== undefined && !anchors(target).has(place);
  });
}
/** Commands that a page tells the reader to type. */
function scripts_named(path: string): string[] {
  return [...text_of(path).matchAll(/\bnpm run (?!-)([\w-]+)/g)].map(([, name]) => name);
}

describe('pages', () => {
  test('there are some', () => {
    assert.ok(pages.includes('README.md') && pages.includes('examples/README.md'), `${pages}`);
  });
  for (const page of pages) {
    test(`${page}: every link leads somewhere`, () => assert.deepEqual(bad_links(page), []));
  }
  test('a heading is named as in a link', () => {
    assert.equal(anchor('What each pair costs'), 'what-each-pair-costs');
    assert.equal(anchor('Bench `examples`'), 'bench-examples');
  });
  test('every script that they name is one', () => {
    const scripts = new Set(Object.keys(JSON.parse(text_of('package.json')).scripts));
    const named = pages.flatMap(scripts_named);
    assert.ok(named.length > 10, `${named}`);
    assert.deepEqual(
      named.filter((name) => !scripts.has(name)),
      [],
    );
  });
  test('the five lines for each kind of user run', () => {
    const page = text_of('README.md');
    const begin = page.slice(page.indexOf('## Where to begin'), page.indexOf('## How fast'));
    const blocks = [...begin.matchAll(/^```ts\n([\s\S]*?)^```$/gm)].map(([, lines]) => lines);
    assert.equal(blocks.length, 6);
    for (const lines of blocks) {
      assert.equal(lines.trimEnd().split('\n').length, 5);
      const program = `${before(/collect/.test(lines))}${lines}setImmediate(() => process.exit());`;
      const args = ['--input-type=module-typescript', '-e', program];
      const ran = spawnSync(process.execPath, args, { cwd: ROOT, encoding: 'utf8' });
      assert.equal(ran.status, 0, `${lines}${ran.stderr}`);
    }
  });
  test('the program with workers runs from its own file', (t) => {
    const page = text_of('README.md');
    const section = page.slice(page.indexOf('## A program and its workers'));
    const program = /^```ts\n([\s\S]*?)^```$/m.exec(section)?.[1] ?? '';
    assert.match(program, /from 'kmem'/);
    const folder = mkdtempSync(join(tmpdir(), 'kmem-readme-'));
    t.after(() => rmSync(folder, { recursive: true }));
    const file = join(folder, 'program.mts');
    const index = new URL('../src/lib/index.ts', import.meta.url).href;
    writeFileSync(file, program.replace("from 'kmem'", `from '${index}'`));
    const ran = spawnSync(process.execPath, [file], { encoding: 'utf8' });
    assert.deepEqual([ran.status, ran.stdout], [0, '4711: 1\n'], ran.stderr);
  });
  test("the README's program is examples/hello.ts", () => {
    const shown = /^```ts\n([\s\S]*?)^```$/m.exec(text_of('README.md'))?.[1];
    const [, program] = text_of('examples/hello.ts').split(/^ \*\/\n/m);
    assert.equal(shown, program);
  });
});
