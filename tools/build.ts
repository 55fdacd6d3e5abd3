/*
 * build: makes dist, the JavaScript that is published.
 *
 *      dist/lib, dist/sys   a file for each module, and the types that programs meet: for bundlers
 *      dist/node            the same in a few files, and the command: what Node loads
 *
 * The compiler strips the types and turns `./x.ts` into `./x.js` in imports.  Two
 * things it leaves to us: a worker's file is named by `new URL('./x.ts',
 * import.meta.url)`, which is no import, and files that are no source have to be copied.
 * phrases.ts takes out what is written for readers of the source, and puts the help of variables
 * into one file.  halves.ts cuts modules in two, so that a page that loads kmem/core has what
 * the core needs of them.
 *
 * Node takes a millisecond of processor time for a module that it loads, and every
 * thread loads some 130: in a few files it is a fifth of that.  A bundler left to
 * itself turns `const` into `var`, and the kernel's views are constants no more
 * (an allocation takes twice the time): hence topLevelVar.  All of dist/node lies in one
 * folder, because a worker's file is named from wherever its maker was put.
 *
 * Usage: node tools/build.ts
 */
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { rolldown } from 'rolldown';
import { minifySync, parseSync } from 'rolldown/experimental';
import { halves } from './halves.ts';
import { with_help, without_comments, without_help, without_phrases } from './phrases.ts';
import { walk } from './source.ts';

const ROOT = join(import.meta.dirname, '..');
const WORKER_URL =
  /(\bnew URL\(\s*(?:\/\*[^*]*\*\/\s*)?(['"])\.\.?\/[^'"]*)\.ts\2(?=\s*,\s*import\.meta\.url)/g;
/** An import in a declaration file: the compiler leaves it naming the source. */
const TYPES_FROM = /((?:\bfrom|\bimport\()\s*(['"])\.\.?\/[^'"]*)\.ts\2/g;

/** Names workers by their compiled files. */
export function rewrite_workers(code: string): string {
  return code.replace(WORKER_URL, '$1.js$2');
}
/** Lets declarations import one another by the names that programs import. */
export function rewrite_types(code: string): string {
  return code.replace(TYPES_FROM, '$1.js$2');
}

/** What a page that counts bytes loads first. */
const CORE = 'lib/core.js';
/** Where the help of variables and counters goes. */
const HELP = 'sys/boot/help.js';
/** What a program, or a thread that we start, loads first. */
const ENTRIES = /^(?:lib\/(?:index|streams)|bin\/main|.*_worker)\.js$/;
/** What the package has of it in dist/node alone. */
const COMMAND = ['bin', 'replay'];

/**
 * What is local to a function gets a short name: a tenth of what a user fetches.  What a stack
 * trace shows keeps its own, and nothing is computed otherwise than it is written.
 */
const LOCALS = {
  compress: false,
  mangle: { toplevel: false, keepNames: { function: true, class: true } },
  codegen: { removeWhitespace: false },
} as const;
/** The same of files that nobody reads. */
const FEW_BYTES = { ...LOCALS, codegen: { removeWhitespace: true } } as const;
/**
 * A line for each statement of a module, and for each member of its classes.  An error that nobody
 * catches is printed with the line that threw it: of a file that is one line, all of the file.
 */
export function in_lines(path: string, code: string): string {
  const { program, errors } = parseSync(path, code);
  if (errors.length > 0) throw new Error(`${path}: ${errors[0].message}`);
  const starts = program.body.flatMap((s) => [s, ...members(s)]).map(({ start }) => start);
  const pieces = starts.map((at, i) => code.slice(i === 0 ? 0 : at, starts[i + 1]));
  return pieces.length === 0 ? code : `${pieces.join('\n')}\n`;
}
/** The members of a class that a statement declares. */
function members(s: Statement): readonly { start: number }[] {
  const said = s.type === 'VariableDeclaration' ? s.declarations[0].init : s;
  const is_class = said?.type === 'ClassDeclaration' || said?.type === 'ClassExpression';
  return is_class ? said.body.body : [];
}
type Statement = ReturnType<typeof parseSync>['program']['body'][number];

/** Makes dist/node from the compiled modules. */
async function bundle(): Promise<void> {
  const dist = join(ROOT, 'dist');
  const entries = walk(dist, '').filter((path) => ENTRIES.test(path));
  const input = Object.fromEntries(
    entries.map((path) => [basename(path, '.js'), join(dist, path)]),
  );
  const made = await rolldown({ input, platform: 'node', external: /^node:/ });
  const names = { entryFileNames: '[name].js', chunkFileNames: '[name]-[hash].js' };
  const output = { ...names, topLevelVar: false, comments: false, minify: FEW_BYTES } as const;
  await made.write({ dir: join(dist, 'node'), format: 'esm', ...output });
  await made.close();
  for (const path of walk(join(dist, 'node'), '')) {
    const at = join(dist, 'node', path);
    writeFileSync(at, in_lines(at, readFileSync(at, 'utf8')));
  }
  for (const folder of COMMAND) rmSync(join(dist, folder), { recursive: true });
}

/** Declarations of the kernel, but for what a program hands over or gets: comments nobody reads. */
const KERNEL_TYPES = /\/dist\/sys\/(?!boot\/main\.|observe\/swap_info\.).*\.d\.ts$/;
const TYPE_COMMENT = /^[ \t]*\/\*[\s\S]*?\*\/\n/gm;
/** Declarations that a program can meet: those of the ways in, and what these lead to. */
const DECLARED = ['lib/index', 'lib/core', 'lib/streams', 'sys/boot/pagedaemon_worker'];
const NAMED = /(?:\bfrom|\bimport\(?)\s*['"](\.\.?\/[^'"]*)\.js['"]/g;
/** The declarations of `dist` that nothing of those leads to. */
export function unmet_types(dist: string, paths: readonly string[]): string[] {
  const met = new Set(DECLARED.map((path) => `${path}.d.ts`));
  for (const path of met) {
    const text = readFileSync(join(dist, path), 'utf8');
    for (const [, to] of text.matchAll(NAMED)) met.add(`${join(dirname(path), to)}.d.ts`);
  }
  return paths.filter((path) => path.endsWith('.d.ts') && !met.has(path));
}

async function build(): Promise<number> {
  rmSync(join(ROOT, 'dist'), { recursive: true, force: true });
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  const compiled = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.build.json'], {
    cwd: ROOT,
    stdio: 'inherit',
  });
  if (compiled.status !== 0) return 1;
  const made = walk(join(ROOT, 'dist'), '').map((path) => join(ROOT, 'dist', path));
  const help = new Map<string, string>();
  const published = (code: string, path: string): string =>
    without_comments(without_help(without_phrases(rewrite_workers(code), path), help));
  for (const path of made) {
    const code = readFileSync(path, 'utf8');
    const declares = KERNEL_TYPES.test(path) ? code.replace(TYPE_COMMENT, '') : code;
    const fixed = path.endsWith('.d.ts') ? rewrite_types(declares) : published(code, path);
    if (fixed !== code) writeFileSync(path, fixed);
  }
  const table = join(ROOT, 'dist', HELP);
  writeFileSync(table, with_help(readFileSync(table, 'utf8'), help));
  const dist = join(ROOT, 'dist');
  const cut = halves(CORE, (path) => readFileSync(join(dist, path), 'utf8'));
  for (const [path, code] of cut) writeFileSync(join(dist, path), code);
  for (const path of unmet_types(dist, walk(dist, ''))) rmSync(join(dist, path));
  const others = walk(ROOT, 'src').filter((path) => !path.endsWith('.ts'));
  for (const path of others) {
    const to = join(ROOT, path.replace(/^src\//, 'dist/'));
    mkdirSync(dirname(to), { recursive: true });
    cpSync(join(ROOT, path), to);
  }
  await bundle();
  for (const path of walk(dist, '').filter((file) => /^(?:lib|sys)\/.*\.js$/.test(file))) {
    const at = join(dist, path);
    const text = readFileSync(at, 'utf8');
    if (text.includes('@vite-ignore')) continue; // a comment that a bundler is to see
    const { code, errors } = minifySync(at, text, { module: true, ...LOCALS });
    if (errors.length > 0) throw new Error(`${at}: ${errors[0].message}`);
    writeFileSync(at, code);
  }
  console.log(`dist: ${walk(join(ROOT, 'dist'), '').length} files`);
  return 0;
}

if (import.meta.main) process.exitCode = await build();
