/*
 * unused: files, exports and fields that nobody uses.
 *
 * Three rules of tidy that look at all sources at once:
 *
 *      files     a file that nobody imports and nobody starts
 *      exports   a name that a file of src exports, and that neither that file nor one
 *                that imports it mentions again.  Tests count as users; what the entry
 *                points of the package export is for the outside
 *      fields    a field of a structure that nobody reads or writes as `x.field`; those
 *                that only fill up space are called gap
 *
 * Names are compared as words, so that a name is taken for used too often rather than
 * too seldom.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Finding,
  imports_of,
  is_test,
  line_of,
  type Source,
  struct_fields,
} from './source.ts';

/** Files the outside starts: programs, tools, tests, and the entry points of the package. */
function is_entry(path: string, entries: Set<string>): boolean {
  if (is_test(path) || entries.has(path)) return true;
  return /^(?:bin|tools|bench|sim|fuzz|tests|src\/bin)\//.test(path);
}
/** Every file that package.json names as an export, as it lies in src. */
export function package_entries(root: string): Set<string> {
  const file = join(root, 'package.json');
  if (!existsSync(file)) return new Set();
  const { main, exports } = JSON.parse(readFileSync(file, 'utf8'));
  const named = JSON.stringify([main, exports]).matchAll(/"\.\/([^"]+)"/g);
  const paths = [...named].map((match) => match[1]);
  return new Set(
    paths.flatMap((path) => [
      path,
      path.replace(/^dist\//, 'src/').replace(/(?:\.d)?\.[jt]s$/, '.ts'),
    ]),
  );
}
/** Who imports each file. */
function importers_of(sources: Source[]): Map<string, Source[]> {
  const importers = new Map<string, Source[]>();
  for (const source of sources) {
    for (const { to } of imports_of(source)) {
      if (to === source.path) continue;
      const known = importers.get(to);
      if (!known) importers.set(to, [source]);
      else if (!known.includes(source)) known.push(source);
    }
  }
  return importers;
}
function words_of(text: string): Set<string> {
  return new Set(text.match(/[\w$]+/g) ?? []);
}

/** What bin/kmem.js starts, by a path that it puts together. */
const STARTED = /^src\/bin\/main\.ts$/;
const EXPORT =
  /^export\s+(?:async\s+)?(?:function\s*\*?|const|let|class|interface|type)\s+([\w$]+)/gm;
const LIST = /^export\s+(?:type\s+)?\{([^}]*)\}/gm;

/** What a file exports, with the place of each name. */
export function exports_of(source: Source): { name: string; at: number }[] {
  const found = [...source.code.matchAll(EXPORT)].map((m) => ({ name: m[1], at: m.index }));
  for (const m of source.code.matchAll(LIST)) {
    for (const part of m[1].split(',')) {
      const name = part.trim().split(/\s+/).pop() ?? '';
      if (name !== '') found.push({ name, at: m.index });
    }
  }
  return found;
}

function counts(code: string, name: string): number {
  return (code.match(/[\w$]+/g) ?? []).filter((word) => word === name).length;
}

export function check_unused(sources: Source[], entries: Set<string>): Finding[] {
  const importers = importers_of(sources);
  const words = new Map(sources.map((source) => [source, words_of(source.code)]));
  const found: Finding[] = [];
  for (const source of sources) {
    const { path } = source;
    const users = importers.get(path) ?? [];
    if (users.length === 0 && !is_entry(path, entries)) {
      found.push({ path, line: 1, what: 'nobody imports this file: use it or delete it' });
    }
    if (!path.startsWith('src/') || is_test(path) || entries.has(path)) continue;
    if (STARTED.test(path)) continue;
    for (const { name, at } of exports_of(source)) {
      if (users.some((user) => words.get(user)?.has(name))) continue;
      if (counts(source.code, name) > 1) continue;
      found.push({ path, line: line_of(source, at), what: `nobody uses ${name}: delete it` });
    }
  }
  return found;
}

/** Fields that keep others apart. */
const GAP = /(?:^|_)gap$/;

export function check_dead_fields(sources: Source[]): Finding[] {
  const used = new Set<string>();
  for (const { code } of sources) {
    for (const [, name] of code.matchAll(/\.\s*([\w$]+)/g)) used.add(name);
  }
  return sources
    .filter(({ path }) => !is_test(path))
    .flatMap((source) =>
      struct_fields(source)
        .filter(({ field }) => !used.has(field) && !GAP.test(field))
        .map(({ field, at }) => ({
          path: source.path,
          line: line_of(source, at),
          what: `nobody uses the field ${field}: delete it`,
        })),
    );
}
