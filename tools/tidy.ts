/*
 * tidy: the habits of this house that a program can check.
 *
 * Each source is read once; each rule below is one function from the sources
 * to findings.  A finding names the file, the line, and what to do.  A rule is
 * a heuristic on purpose: it looks for the shape a reader would look for, and
 * a shape it does not know is left alone rather than reported wrongly.
 *
 *   opening   a file begins by saying what it is
 *   fields    each field of struct() and columns() has a phrase, and a lock letter
 *             that means something: it is one of those that mean the same
 *             everywhere, or some file explains it for this structure; or it says
 *             unchecked('why').  tools/letters.ts prints what the rules cover
 *   sysctls   each sysctl_*() says what it is for (help)
 *   atomics   Atomics stays in machine/ and sync/, where its cost is known
 *   files     in the kernel only machine/store.ts reaches files; machine/host.ts, which
 *             has the handle of the host's file system, asks it about threads
 *   unused    files, exports and fields that nobody uses are dead weight (unused.ts)
 *   width     lines of at most 100 columns
 *   length    functions of about 70 lines, rows of numbers apart, files of at most 800
 *   hot       a file marked with the words `tidy` `: hot` uses local names for
 *             structures and views, because an exported name costs 2.4 times as much
 *   errnos    an errno that a function answers with is used, or a comment beside
 *             the call says why not: `errno: ...`
 *   words     no path of one machine, no package host, in anything we ship
 *
 * Usage: node tools/tidy.ts [folder].  Exit code 1 if anything was found.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Finding,
  is_test,
  line_of,
  literal_at,
  make_source,
  matching,
  project_root,
  read_sources,
  report,
  type Source,
  struct_fields,
  walk,
} from './source.ts';
import { check_dead_fields, check_unused, package_entries } from './unused.ts';

const MAX_COLUMNS = 100;
const MAX_FILE_LINES = 800;
/** "About 70": a signature that wraps and a closing brace are not held against anyone. */
const MAX_FUNCTION_LINES = 76;
const MIN_OPENING_WORDS = 6;

/** Where Atomics may be named besides tests: two floors, and what two threads share outside. */
const ATOMICS_ALLOWED = [
  /^src\/sys\/(machine|sync)\//,
  /^src\/replay\/ring\/(peak_sum|ring|turns)\.ts$/,
  /^src\/bin\/connect(_worker)?\.ts$/,
  /^(bench|sim|fuzz|tests)\//,
];

/** The files of the kernel that may know the host's file system. */
const FILES_ALLOWED = /^src\/sys\/machine\/(?:store\w*|host|host_parts|host_process|host_tty)\.ts$/;

const HOT_MARK = /tidy: hot\b/;
/** Bound once per thread as structures are, and folded by V8 only as a local constant. */
const BOUND_ONCE = ['mem', 'hw', 'opt', 'hot'];

/** Absolute folders of one machine; the look-behind spares `a/home` and web addresses. */
const MACHINE_PATH = /(?<![\w.\-/:])\/(?:work|home|root|tmp)(?=[/'"`\s)]|$)/gm;
const HOST = /\b(?:registry\.(?:npmjs|yarnpkg)\.\w+|(?:deb|security)\.debian\.org|pypi\.org)\b/gi;

/* ---- rules, one source at a time ---- */

export function check_opening(source: Source): Finding[] {
  const code_at = source.code.replace(/^#!.*/, (line) => ' '.repeat(line.length)).search(/\S/);
  const opening = source.comment.slice(0, code_at < 0 ? undefined : code_at);
  const words = opening.match(/[A-Za-z]{2,}/g) ?? [];
  if (words.length >= MIN_OPENING_WORDS) return [];
  const what = words.length === 0 ? 'no opening comment' : 'the opening comment says too little';
  return [{ path: source.path, line: 1, what: `${what}: tell what this file is` }];
}

/** Letters that mean the same everywhere (sync/checked.ts). */
const LETTERS = 'acsbh-';
/** How a floor explains a letter of a structure to the checked boot. */
const EXPLAINED = /\bchecked_(letter|rule|owner)\s*\(\s*(?=')/g;

/** The letters that some file explains, by structure. */
export function explained_letters(sources: Source[]): Map<string, string> {
  const letters = new Map<string, string>();
  for (const source of sources) {
    for (const match of source.code.matchAll(EXPLAINED)) {
      const at = match.index + match[0].length;
      const name = literal_at(source, at) ?? '';
      const rest = source.text.slice(at + name.length + 2, at + name.length + 20);
      const letter = match[1] === 'owner' ? 'pt' : (/^\s*,\s*'(.)'/.exec(rest)?.[1] ?? '');
      letters.set(name, (letters.get(name) ?? '') + letter);
    }
  }
  return letters;
}

export function check_fields(source: Source, explained: Map<string, string>): Finding[] {
  const found: Finding[] = [];
  for (const { struct, field, at, paren } of struct_fields(source)) {
    const what = field_fault(source, paren, LETTERS + (explained.get(struct) ?? ''));
    if (what) {
      found.push({ path: source.path, line: line_of(source, at), what: `field ${field}${what}` });
    }
  }
  return found;
}

/** What is wrong with the arguments of a field, whose list opens at `paren`. */
function field_fault(source: Source, paren: number, known: string): string | undefined {
  const close = matching(source.code, paren);
  const quotes = [...source.code.slice(paren, close).matchAll(/(['"`])\s*\1/g)];
  const first = paren + 1 + source.code.slice(paren + 1).search(/\S/);
  const letters = literal_at(source, first);
  if (/^unchecked\s*\(/.test(source.code.slice(first))) {
    const reason = literal_at(source, paren + (quotes[0]?.index ?? 0)) ?? '';
    if (reason.trim().split(/\s+/).length < 3) return ': unchecked says why, in some words';
  } else if (letters === undefined || !/^[A-Za-z-]{1,2}$/.test(letters)) {
    return ': the first argument is a lock letter or two, such as (m) or (c)';
  } else {
    const unknown = [...letters].find((letter) => !known.includes(letter));
    if (unknown) return `: nobody explains the letter (${unknown}) to the checked boot`;
    if (letters === 'h') return ': (h) stands beside the letter that a write needs';
  }
  const phrase = quotes.length < 2 ? undefined : literal_at(source, paren + quotes[1].index);
  if (phrase === undefined || phrase.trim().length < 3) return ': say in a phrase what it is';
  return undefined;
}

const SYSCTL = /\bsysctl_\w+\s*(?:<[^()]*>)?\(\s*['"`]\s*['"`]\s*,\s*\{/g;

export function check_sysctls(source: Source): Finding[] {
  const found: Finding[] = [];
  for (const match of source.code.matchAll(SYSCTL)) {
    const open = match.index + match[0].length - 1;
    const close = matching(source.code, open);
    const body = source.code.slice(open, close < 0 ? undefined : close + 1);
    if (/\bhelp\s*[:,}]/.test(body)) continue;
    const quote = match.index + match[0].search(/['"`]/);
    const name = literal_at(source, quote);
    const what = `sysctl ${name} has no help: say what it does`;
    found.push({ path: source.path, line: line_of(source, match.index), what });
  }
  return found;
}

export function check_atomics(source: Source): Finding[] {
  if (is_test(source.path) || ATOMICS_ALLOWED.some((place) => place.test(source.path))) return [];
  const what = 'Atomics outside machine/ and sync/: call their functions instead';
  return [...source.code.matchAll(/\bAtomics\s*[.[]/g)].map((match) => ({
    path: source.path,
    line: line_of(source, match.index),
    what,
  }));
}

/** The handle by its name, or the module by its: `node:fs`, as a string anywhere. */
const FILES = /\bhost_fs\b|(['"`])(?:node:)?fs(?:\/promises)?\1/g;
export function check_files(source: Source): Finding[] {
  const { path, text, comment } = source;
  if (is_test(path) || !path.startsWith('src/sys/') || FILES_ALLOWED.test(path)) return [];
  const what =
    'files outside machine/store.ts: open a store, so that its faults are played here too';
  return [...text.matchAll(FILES)]
    .filter((match) => comment[match.index] === ' ')
    .map((match) => ({ path, line: line_of(source, match.index), what }));
}

export function check_width(source: Source): Finding[] {
  return source.text.split('\n').flatMap((text, index) => {
    const columns = [...text].length;
    const what = `${columns} columns, more than ${MAX_COLUMNS}`;
    return columns > MAX_COLUMNS ? [{ path: source.path, line: index + 1, what }] : [];
  });
}

export function check_length(source: Source): Finding[] {
  const found: Finding[] = [];
  const lines = source.text.replace(/\n$/, '').split('\n').length;
  if (lines > MAX_FILE_LINES) {
    const what = `${lines} lines, more than ${MAX_FILE_LINES}: look for the seam in it`;
    found.push({ path: source.path, line: 1, what });
  }
  for (const { name, open, close } of functions_of(source)) {
    const line = line_of(source, open);
    // Rows of plain numbers are a table, not code.
    const tables = source.code.slice(open, close).match(/^[ \d,]+$/gm)?.length ?? 0;
    const length = line_of(source, close) - line + 1 - tables;
    const what = `function ${name} has ${length} lines, more than about 70`;
    if (length > MAX_FUNCTION_LINES) found.push({ path: source.path, line, what });
  }
  return found;
}

/* ---- functions ---- */

type Body = { name: string; open: number; close: number };

const NOT_A_METHOD = /^(?:if|for|while|switch|catch|with|return|function|else|new|await)$/;
const FUNCTION = /\bfunction\b\s*\*?\s*(\w*)\s*(?:<[^(){}]*>)?\s*\(/g;
const METHOD =
  /^[ \t]*(?:(?:static|async|override|get|set)\s+)*\*?(#?[\w$]+|\[[\w.]+\])(?:<[^(){}]*>)?\(/gm;
const ARROW = /=>\s*\{/g;

/** Functions, methods, and arrows with a body, except the wrapper of a group of tests. */
export function functions_of(source: Source): Body[] {
  const { code } = source;
  const found: Body[] = [];
  for (const match of [...code.matchAll(FUNCTION), ...code.matchAll(METHOD)]) {
    if (NOT_A_METHOD.test(match[1])) continue;
    const closing = matching(code, match.index + match[0].length - 1);
    const open = closing < 0 ? -1 : body_after(code, closing + 1);
    if (open >= 0) push_body(found, code, match[1] || '(unnamed)', open);
  }
  for (const match of code.matchAll(ARROW)) {
    const line = code.slice(code.lastIndexOf('\n', match.index) + 1, match.index);
    if (/\b(?:describe|suite)\b/.test(line)) continue;
    const name = /(?:const|let|var)\s+(\w+)\s*[:=]/.exec(line)?.[1] ?? '(arrow)';
    push_body(found, code, name, match.index + match[0].length - 1);
  }
  return found;
}

function push_body(found: Body[], code: string, name: string, open: number): void {
  const close = matching(code, open);
  if (close >= 0) found.push({ name, open, close });
}

/**
 * The brace that opens the body after a parameter list, past a return type; -1 when there is none
 * (an overload, a plain call).  A brace that follows one of `: | & => < , (` belongs to the type.
 */
function body_after(code: string, from: number): number {
  let at = from;
  let last = '';
  while (at < code.length) {
    const c = code[at];
    if (/\s/.test(c)) {
      at++;
      continue;
    }
    if (last === '' && c !== ':' && c !== '{') return -1;
    if (c === ';' || c === ')' || c === '}') return -1;
    if (c === '{' && !/[:|&<,(=]/.test(last)) return last === '=>' ? -1 : at;
    if (c === '{' || c === '(' || c === '[') {
      at = matching(code, at);
      if (at < 0) return -1;
      last = ')';
    } else if (c === '=' && code[at + 1] === '>') {
      last = '=';
      at++;
    } else last = c;
    at++;
  }
  return -1;
}

/* ---- errnos ---- */

const ERRNO_FILE = /(?:^|\/)machine\/errno\.ts$/;
/** Functions that are declared to return a number, with the place of their bodies. */
function number_functions(source: Source): Body[] {
  return functions_of(source).filter(({ open }) => {
    const line = source.code.slice(source.code.lastIndexOf('\n', open) + 1, open);
    return /\)?\s*:\s*number\s*$/.test(line);
  });
}
/**
 * The functions that answer with an errno: they return a number, and name a
 * constant of errno.ts in a return or beside one; or they return what such a
 * function answers.  Found by reading, so that a new one needs no list.
 */
export function errno_functions(sources: Source[]): Set<string> {
  const errnos = new Set<string>();
  for (const { path, code } of sources) {
    if (!ERRNO_FILE.test(path)) continue;
    for (const m of code.matchAll(/^export const (E[A-Z0-9]+)\b/gm)) errnos.add(m[1]);
  }
  const bodies: { name: string; returns: string[] }[] = [];
  for (const source of sources) {
    if (is_test(source.path) || !source.path.startsWith('src/sys/')) continue;
    for (const { name, open, close } of number_functions(source)) {
      const body = source.code.slice(open, close);
      const returns = [...body.matchAll(/\breturn\b([^;]*);/g)].map((m) => m[1]);
      for (const kept of body.matchAll(/\b(\w+)\s*=\s*(\w[^;=]*);/g)) {
        if (returns.some((r) => new RegExp(`^\\s*${kept[1]}\\s*$`).test(r))) returns.push(kept[2]);
      }
      bodies.push({ name, returns });
    }
  }
  const found = new Set<string>();
  const words = (text: string): string[] => text.match(/\w+/g) ?? [];
  const calls = (text: string): string[] => [...text.matchAll(/\b(\w+)\s*\(/g)].map((m) => m[1]);
  for (let grown = true; grown; ) {
    grown = false;
    for (const { name, returns } of bodies) {
      if (found.has(name)) continue;
      const is = returns.some(
        (r) => words(r).some((w) => errnos.has(w)) || calls(r).some((c) => found.has(c)),
      );
      if (is) found.add(name);
      grown ||= is;
    }
  }
  return found;
}
/** Whether a comment on the line, or on the one above, speaks of the errno. */
function errno_excused(source: Source, at: number): boolean {
  const line_start = source.comment.lastIndexOf('\n', at);
  const above = source.comment.lastIndexOf('\n', line_start - 1);
  const end = source.comment.indexOf('\n', at);
  return /\berrno\b/.test(source.comment.slice(above + 1, end < 0 ? undefined : end));
}
/** Calls whose errno nobody looks at: statements of their own, and `void`. */
export function check_errnos(source: Source, names: Set<string>): Finding[] {
  if (is_test(source.path) || !source.path.startsWith('src/')) return [];
  const { code } = source;
  const found: Finding[] = [];
  for (const match of code.matchAll(/(?<![\w.$])(\w+)\s*(?=\()/g)) {
    if (!names.has(match[1])) continue;
    const before = code.slice(0, match.index).trimEnd();
    const close = matching(code, match.index + match[0].length);
    const first = /(?:[;{})]|\belse|\bcase\b[^;?{}]*:|\bdefault\s*:)$/.test(before);
    const alone = first && /^\s*[;}]/.test(code.slice(close + 1));
    if (!alone && !/\bvoid$/.test(before)) continue;
    if (errno_excused(source, match.index)) continue;
    const what = `${match[1]} answers with an errno, and nobody looks: use it, or say why not`;
    found.push({ path: source.path, line: line_of(source, match.index), what });
  }
  return found;
}

/** The names under which structures are exported, over all files. */
export function exported_structs(sources: Source[]): Set<string> {
  const names = new Set<string>();
  for (const { code } of sources) {
    const local = new Set<string>();
    for (const match of code.matchAll(/^(export\s+)?const\s+(\w+)\s*=\s*(?:struct|columns?)\b/gm)) {
      if (match[1]) names.add(match[2]);
      else local.add(match[2]);
    }
    for (const match of code.matchAll(/^export\s+const\s+(\w+)\s*=\s*(\w+)\s*;/gm)) {
      if (local.has(match[2])) names.add(match[1]);
    }
  }
  return names;
}

/** The names that a file imports, as it calls them. */
export function imported_names(source: Source): Set<string> {
  const names = new Set<string>();
  for (const [, list] of source.code.matchAll(/\bimport\s*\{([^}]*)\}/g)) {
    for (const part of list.split(',')) names.add(part.trim().split(/\s+/).pop() ?? '');
  }
  return names;
}

export function check_hot(source: Source, exported: Set<string>): Finding[] {
  if (!HOT_MARK.test(source.comment)) return [];
  const imported = imported_names(source);
  const structs = new Set([...exported, ...BOUND_ONCE].filter((name) => imported.has(name)));
  const found: Finding[] = [];
  const seen = new Set<number>();
  for (const { name: fn, open, close } of functions_of(source)) {
    for (const match of source.code.slice(open, close).matchAll(/(?<![\w.$])(\w+)\s*\.\s*\w+/g)) {
      const at = open + match.index;
      if (!structs.has(match[1]) || seen.has(at)) continue;
      seen.add(at);
      const what = `${fn} uses the exported name ${match[1]}: bind a local const, this file is hot`;
      found.push({ path: source.path, line: line_of(source, at), what });
    }
  }
  return found;
}

/** Words are looked for in everything we publish, prose and scripts included. */
export function check_words(source: Source): Finding[] {
  const found: Finding[] = [];
  const look = (shape: RegExp, what: string): void => {
    for (const match of source.text.matchAll(shape)) {
      found.push({ path: source.path, line: line_of(source, match.index), what });
    }
  };
  if (!is_test(source.path)) look(MACHINE_PATH, 'a path of one machine: make it relative');
  look(HOST, 'the name of a package host: the reader chooses theirs');
  return found;
}

function read_prose(root: string): Source[] {
  return walk(root, '')
    .filter((path) => /\.(md|sh|json|pml|c|py)$|^\.ci\//.test(path) && path !== 'package-lock.json')
    .map((path) => make_source(path, readFileSync(join(root, path), 'utf8')));
}

export function tidy(root: string): { files: number; findings: Finding[] } {
  const sources = read_sources(root);
  const prose = read_prose(root);
  const structs = exported_structs(sources);
  const errnos = errno_functions(sources);
  const explained = explained_letters(sources);
  const findings = sources.flatMap((source) => [
    ...check_opening(source),
    ...check_fields(source, explained),
    ...check_sysctls(source),
    ...check_atomics(source),
    ...check_files(source),
    ...check_width(source),
    ...check_length(source),
    ...check_hot(source, structs),
    ...check_errnos(source, errnos),
    ...check_words(source),
  ]);
  findings.push(...check_unused(sources, package_entries(root)), ...check_dead_fields(sources));
  findings.push(...prose.flatMap(check_words));
  return { files: sources.length + prose.length, findings };
}

if (import.meta.main) {
  const { files, findings } = tidy(project_root());
  process.exitCode = report(files, findings);
}
