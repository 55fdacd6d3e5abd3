/*
 * source: what our own checks know about a source file.
 *
 * tidy and floors read every file once, as text.  No parser is loaded: the
 * checks are about shapes a reader sees (a comment, a call, a line), and the
 * native compiler gives no syntax tree to JavaScript anyway.  So that words
 * inside strings and comments are not taken for code, each file is kept three
 * times, all of the same length, so that an offset in one is valid in all:
 *
 *      text     as written
 *      code     comments, strings, and regular expressions turned to blanks
 *      comment  the inverse: only the words of comments are left
 *
 * Quotes stay in `code`, so that `u32('` can be found there and its argument
 * be read from `text` at the same place.  Line ends stay everywhere.
 *
 * Always true: text.length === code.length === comment.length.
 *
 * Read next: tidy.ts and floors.ts, the two users.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative, sep } from 'node:path';

export type Source = {
  /** path from the root of the project, always with `/` */
  path: string;
  text: string;
  code: string;
  comment: string;
  /** offset of the first character of each line */
  starts: number[];
};

export type Import = { from: string; to: string; spec: string; at: number };

export type Finding = { path: string; line: number; what: string };

/** Folders that hold sources of ours, and those that never do. */
const SOURCE_ROOTS = ['src', 'tools', 'bench', 'sim', 'fuzz', 'tests', 'bin'];
const SKIPPED = new Set(['node_modules', 'dist', '.git', '.tmp', 'out']);

/** Every file below `root/folder`, sorted, as paths from `root`. */
export function walk(root: string, folder: string): string[] {
  const found: string[] = [];
  const visit = (path: string): void => {
    let entries: import('node:fs').Dirent[];
    try {
      entries = readdirSync(join(root, path), { withFileTypes: true });
    } catch {
      return;
    }
    for (const entry of entries) {
      if (SKIPPED.has(entry.name)) continue;
      const below = path === '' ? entry.name : `${path}/${entry.name}`;
      if (entry.isDirectory()) visit(below);
      else if (entry.isFile()) found.push(below);
    }
  };
  visit(folder);
  return found.sort();
}

/** Reads all sources (.ts, and the plain .js of bin) of a project. */
export function read_sources(root: string): Source[] {
  return SOURCE_ROOTS.flatMap((folder) => walk(root, folder))
    .filter((path) => /\.(ts|js)$/.test(path) && !path.endsWith('.d.ts'))
    .map((path) => make_source(path, readFileSync(join(root, path), 'utf8')));
}

export function make_source(path: string, text: string): Source {
  const { code, comment } = split(text);
  const starts = [0];
  for (let at = text.indexOf('\n'); at >= 0; at = text.indexOf('\n', at + 1)) starts.push(at + 1);
  return { path, text, code, comment, starts };
}

/** The line number, from 1, of an offset. */
export function line_of(source: Source, at: number): number {
  let low = 0;
  let high = source.starts.length;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (source.starts[middle] <= at) low = middle;
    else high = middle;
  }
  return low + 1;
}

/** Tests and their helpers: `x.test.ts`, `x.test.worker.ts`, models, fuzz and stress programs. */
export function is_test(path: string): boolean {
  return path.startsWith('tests/') || /\.(test|model|fuzz|stress)([._]\w+)*\.ts$/.test(path);
}

/** The offset of the bracket that closes the one at `open`, or -1.  Works on blanked code. */
export function matching(code: string, open: number): number {
  const opener = code[open];
  const closer = opener === '(' ? ')' : opener === '{' ? '}' : ']';
  let depth = 0;
  for (let at = open; at < code.length; at++) {
    if (code[at] === opener) depth++;
    else if (code[at] === closer && --depth === 0) return at;
  }
  return -1;
}

/** The string whose opening quote is at `at`, without its quotes; undefined if none is there. */
export function literal_at(source: Source, at: number): string | undefined {
  const quote = source.code[at];
  if (quote !== "'" && quote !== '"' && quote !== '`') return undefined;
  const end = source.code.indexOf(quote, at + 1);
  return end < 0 ? undefined : source.text.slice(at + 1, end);
}

/** Imports of every kind, re-exports, and workers named by `new URL('./x', import.meta.url)`. */
export function imports_of(source: Source): Import[] {
  const found: Import[] = [];
  const shape = /(?:\bfrom|\bimport|\bimport\s*\(|\bnew\s+URL\s*\()\s*(['"])/g;
  for (const match of source.code.matchAll(shape)) {
    const at = match.index + match[0].length - 1;
    const spec = literal_at(source, at);
    if (spec === undefined) continue;
    if (/URL/.test(match[0]) && !/^\.\.?\//.test(spec)) continue;
    const path = normalize(join(dirname(source.path), spec)).replaceAll(sep, '/');
    const to = spec.startsWith('.') ? path : spec;
    found.push({ from: source.path, to, spec, at });
  }
  return found;
}

/** Calls that declare a field, inside the braces of struct() or of a set of columns. */
const STRUCT =
  /\b(?:struct|columns)\s*(?:<[^(){}]*>)?\s*\(\s*'[^']*'\s*(?:,[^(){}]*)?\)\s*\(\s*\{/g;
const FIELD = /(\w+)\s*:\s*(?:[uif]\d+|ptr|words|col\d+)\s*(?:<[^()]*?>)?\s*\(/g;

export type Field = {
  struct: string;
  field: string;
  at: number;
  /** where the list of its arguments opens */
  paren: number;
};
/** The fields that a file declares. */
export function struct_fields(source: Source): Field[] {
  const found: Field[] = [];
  for (const match of source.code.matchAll(STRUCT)) {
    const open = match.index + match[0].length - 1;
    const struct = literal_at(source, match.index + match[0].indexOf("'")) ?? '';
    const close = matching(source.code, open);
    const body = source.code.slice(open, close < 0 ? undefined : close);
    for (const field of body.matchAll(FIELD)) {
      const at = open + field.index;
      found.push({ struct, field: field[1], at, paren: at + field[0].length - 1 });
    }
  }
  return found;
}

/** Prints the findings, one a line, and gives the exit code: 1 if there are any. */
export function report(files: number, findings: Finding[], print = console.log): number {
  findings.sort((a, b) => (a.path === b.path ? a.line - b.line : a.path < b.path ? -1 : 1));
  for (const { path, line, what } of findings) print(`${path}:${line}: ${what}`);
  print(`${files} files, ${findings.length === 0 ? 'no' : findings.length} findings`);
  return findings.length === 0 ? 0 : 1;
}

/** The folder to check: the first argument, else the project this tool belongs to. */
export function project_root(): string {
  const here = relative('.', join(import.meta.dirname, '..'));
  return process.argv[2] ?? (here === '' ? '.' : here);
}

/* ---- the scanner ---- */

/** A slash after one of these begins a regular expression; after anything else it divides. */
const BEFORE_REGEX = /(?:^|[(,=:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|await))$/;

type Scan = { text: string; code: string[]; comment: string[]; at: number };

function split(text: string): { code: string; comment: string } {
  const blank = text.replace(/[^\n]/g, ' ').split('');
  const scan: Scan = { text, code: blank, comment: [...blank], at: 0 };
  scan_code(scan, false);
  return { code: scan.code.join(''), comment: scan.comment.join('') };
}

/** Scans code up to the end, or up to the brace that closes a template's `${`. */
function scan_code(scan: Scan, in_template: boolean): void {
  const { text } = scan;
  let depth = 0;
  while (scan.at < text.length) {
    const c = text[scan.at];
    const next = text[scan.at + 1];
    if (c === '/' && (next === '/' || next === '*')) scan_comment(scan, next);
    else if (c === "'" || c === '"') scan_string(scan, c);
    else if (c === '`') scan_template(scan);
    else if (c === '/' && BEFORE_REGEX.test(code_before(scan))) scan_regex(scan);
    else {
      if (c === '{') depth++;
      if (c === '}' && depth-- === 0 && in_template) return;
      scan.code[scan.at++] = c;
    }
  }
}

/** The last few characters of code before the scanner, without the blanks that follow them. */
function code_before(scan: Scan): string {
  let end = scan.at;
  while (end > 0 && /\s/.test(scan.code[end - 1])) end--;
  return scan.code.slice(Math.max(0, end - 12), end).join('');
}

function scan_comment(scan: Scan, kind: string): void {
  const { text } = scan;
  const close = kind === '/' ? '\n' : '*/';
  let end = text.indexOf(close, scan.at + 2);
  if (end < 0) end = text.length;
  else if (kind === '*') end += 2;
  for (; scan.at < end; scan.at++) scan.comment[scan.at] = text[scan.at];
}

function scan_string(scan: Scan, quote: string): void {
  const { text } = scan;
  scan.code[scan.at++] = quote;
  while (scan.at < text.length && text[scan.at] !== quote && text[scan.at] !== '\n') {
    scan.at += text[scan.at] === '\\' ? 2 : 1;
  }
  if (text[scan.at] === quote) scan.code[scan.at++] = quote;
}

function scan_template(scan: Scan): void {
  const { text } = scan;
  scan.code[scan.at++] = '`';
  while (scan.at < text.length && text[scan.at] !== '`') {
    if (text[scan.at] === '$' && text[scan.at + 1] === '{') {
      scan.at += 2;
      scan_code(scan, true);
      scan.at++;
    } else {
      scan.at += text[scan.at] === '\\' ? 2 : 1;
    }
  }
  if (scan.at < text.length) scan.code[scan.at++] = '`';
}

function scan_regex(scan: Scan): void {
  const { text } = scan;
  let in_class = false;
  scan.at++;
  while (scan.at < text.length && text[scan.at] !== '\n') {
    const c = text[scan.at];
    if (c === '/' && !in_class) break;
    if (c === '[') in_class = true;
    else if (c === ']') in_class = false;
    scan.at += c === '\\' ? 2 : 1;
  }
  scan.at++;
}
