/*
 * unused: files, exports and fields that nobody uses.
 *
 * Three rules of tidy that look at all sources at once:
 *
 *      files     a file that nobody imports and nobody starts
 *      exports   a name that a file of src exports, and that neither that file nor one
 *                that imports it mentions again.  Tests count as users; what the entry
 *                points of the package export is for the outside
 *      fields    a field of a structure that nobody reads or writes as `x.field`, whatever
 *                name x it has there; those that only fill up space are called gap
 *
 * Names are compared as words, so that a name is taken for used too often rather than
 * too seldom.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Field,
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
/** How often each word stands in a text. */
function words_of(text: string): Map<string, number> {
  const found = new Map<string, number>();
  for (const word of text.match(/[\w$]+/g) ?? []) found.set(word, (found.get(word) ?? 0) + 1);
  return found;
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
      if ((words.get(source)?.get(name) ?? 0) > 1) continue;
      found.push({ path, line: line_of(source, at), what: `nobody uses ${name}: delete it` });
    }
  }
  return found;
}

/** Fields that keep others apart. */
const GAP = /(?:^|_)gap$/;
/** Under which names a structure is known: its own, and those of consts and imports made of it. */
function names_of_structs(sources: Source[]): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>();
  const also = new Map<string, Set<string>>();
  for (const { code, text } of sources) {
    for (const m of code.matchAll(/\bconst\s+(\w+)\s*=\s*(?:struct|columns)\b[^']*'/g)) {
      const at = m.index + m[0].length;
      const struct = text.slice(at, text.indexOf("'", at));
      found.set(struct, (found.get(struct) ?? new Set()).add(m[1]));
    }
    for (const m of code.matchAll(/\bconst\s+(\w+)\s*=\s*(\w+)\s*;/g)) add(also, m[2], m[1]);
    for (const m of code.matchAll(/\b(\w+)\s+as\s+(\w+)\b/g)) add(also, m[1], m[2]);
  }
  for (const names of found.values()) {
    for (const name of names) for (const other of also.get(name) ?? []) names.add(other);
  }
  return found;
}
function add(map: Map<string, Set<string>>, key: string, value: string): void {
  map.set(key, (map.get(key) ?? new Set()).add(value));
}

export function check_dead_fields(sources: Source[]): Finding[] {
  const names = names_of_structs(sources);
  const used = new Set<string>();
  for (const { code } of sources) {
    for (const m of code.matchAll(/([\w$]+)\s*\.\s*([\w$]+)/g)) used.add(`${m[1]}.${m[2]}`);
  }
  const dead = ({ struct, field }: Field): boolean => {
    const known = [...(names.get(struct) ?? [])];
    return !GAP.test(field) && !known.some((name) => used.has(`${name}.${field}`));
  };
  return sources
    .filter(({ path }) => !is_test(path))
    .flatMap((source) =>
      struct_fields(source)
        .filter(dead)
        .map(({ field, at }) => ({
          path: source.path,
          line: line_of(source, at),
          what: `nobody uses the field ${field}: delete it`,
        })),
    );
}
