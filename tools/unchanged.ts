/*
 * unchanged: which test files need not run again.
 *
 * A test whose sources are what they were when it last passed would pass again.  Its
 * sources are the files that it leads to, itself included: what it imports, and what its
 * strings name (the file of a worker, a trace), and what those lead to in turn.
 *
 *      told.test.ts ── import ── index.ts ── import ── …
 *                   └─ './told.test.worker.ts' ── import ── …
 *
 * Who computes paths may lead anywhere, and depends on every file of the project: a file
 * that says `import.meta.dirname`, names a folder above its own, or imports what is no
 * plain string.  So a program that is started by its path is never left out by mistake.
 * A comment may say better: "Leads to './scripts/' alone."
 *
 * What passed stands in `.tmp/tests-passed.json`: for each test file a hash over its
 * sources, the lockfile and Node's version.  The file may be removed at any time.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { walk } from './source.ts';

const RECORD = '.tmp/tests-passed.json';
const SCRIPT = /\.(ts|js|mjs|cjs)$/;
/** A string, or the beginning of a template up to what is put in. */
const STRINGS = /'([^'\n]*)'|"([^"\n]*)"|`([^`$]*)/g;
const COMPUTES = /import\.meta\.dirname|'\.\.'|\bimport\((?!['"]|\$\{|workerData\.)/;
const SAYS = /Leads to ('[^']+'(, | and )?)+ alone\./;

interface Node {
  readonly hash: string;
  /** What it names; null: it may lead anywhere. */
  readonly leads: readonly string[] | null;
}

export class Closures {
  readonly #root: string;
  readonly #files: readonly string[];
  readonly #known: ReadonlySet<string>;
  readonly #nodes = new Map<string, Node>();
  readonly #ground: string;
  #all = '';

  constructor(root: string) {
    this.#root = root;
    this.#files = walk(root, '');
    this.#known = new Set(this.#files);
    this.#ground = `${process.version} ${this.#node('package-lock.json').hash}`;
  }
  /** A hash over all that a file leads to. */
  hash(path: string): string {
    const seen = new Set([path]);
    for (const at of seen) {
      const { leads } = this.#node(at);
      if (leads === null) return this.#everything();
      for (const to of leads) seen.add(to);
    }
    return this.#over([...seen].sort());
  }
  #everything(): string {
    if (this.#all === '') this.#all = this.#over(this.#files);
    return this.#all;
  }
  #over(paths: readonly string[]): string {
    const sum = createHash('sha1').update(this.#ground);
    for (const path of paths) sum.update(`${path} ${this.#node(path).hash}\n`);
    return sum.digest('hex');
  }
  #node(path: string): Node {
    let node = this.#nodes.get(path);
    if (node === undefined) this.#nodes.set(path, (node = this.#read(path)));
    return node;
  }
  #read(path: string): Node {
    const full = join(this.#root, path);
    if (!existsSync(full)) return { hash: 'none', leads: [] };
    const bytes = readFileSync(full);
    const hash = createHash('sha1').update(bytes).digest('hex');
    if (!SCRIPT.test(path)) return { hash, leads: [] };
    const text = bytes.toString();
    if (COMPUTES.test(text) && !SAYS.test(text)) return { hash, leads: null };
    const leads = [...text.matchAll(STRINGS)].flatMap(([all, a, b, c]) =>
      this.#named(path, a ?? b ?? c ?? '', all.startsWith('`')),
    );
    return { hash, leads };
  }
  /** The files that a string in `from` may name; with `begins`, all that begin like it. */
  #named(from: string, text: string, begins: boolean): readonly string[] {
    if (!text.includes('/') || text.length > 200) return [];
    const relative = text.startsWith('.');
    const path = normalize(relative ? join(dirname(from), text) : text);
    for (const file of [path, `${path}.ts`]) if (this.#known.has(file)) return [file];
    if (begins && relative) return this.#files.filter((file) => file.startsWith(path));
    const folder = relative && existsSync(join(this.#root, path)) ? path : '';
    if (folder === '' || !statSync(join(this.#root, folder)).isDirectory()) return [];
    return this.#files.filter((file) => file.startsWith(`${folder.replace(/\/$/, '')}/`));
  }
}

type Record_ = { [path: string]: string };
/** What passed, and with which sources. */
export function passed_before(root: string): Record_ {
  try {
    return JSON.parse(readFileSync(join(root, RECORD), 'utf8'));
  } catch {
    return {}; // none yet, or written half
  }
}
/** Notes what passed now, beside what passed before. */
export function note_passed(root: string, now: Record_): void {
  mkdirSync(join(root, dirname(RECORD)), { recursive: true });
  writeFileSync(join(root, RECORD), JSON.stringify({ ...passed_before(root), ...now }));
}
