/*
 * phrases: takes out of the published code what is written for readers of the source alone.
 *
 *      lock: i32('c', 'the lock of the list')         ->   lock: i32('c', '')
 *      [vm_page_reap, 'pages in its hand go back']    ->   [vm_page_reap, '']
 *
 * Each field of a structure, and each line of the tables in boot/main.ts, has its phrase.
 * tools/letters.ts prints those of the fields, from the source; no program reads either
 * kind at run time.  They are a twentieth of what a page loads.
 *
 *      sysctl_int('vm.x', { value: 5, help: 'Seconds' })   ->   sysctl_int('vm.x', { value: 5 })
 *      counter_u64('vm.asked', 'Requests')                 ->   counter_u64('vm.asked')
 *
 * The help of variables and counters is another thing: programs ask for it.  It is as much
 * again, and goes into a table of its own (sys/boot/help.ts), which the core leaves out.  Help
 * stays where the variable checks its value, and where name or text is not written out.
 *
 * Comments go too, but for those that are told to a bundler (`@vite-ignore`): declarations
 * (.d.ts) keep theirs, which editors show.
 *
 * What is a phrase is found in the syntax tree, not by its looks: the argument `help` of the
 * functions of machine/struct.ts, and the second element of a pair whose first is a function.
 */
import { parseAst } from 'rolldown/parseAst';

/** Which argument of a function of machine/struct.ts is the phrase. */
const HELP_ARGUMENT: Readonly<Record<string, number>> = {
  u32: 1,
  i32: 1,
  ptr: 1,
  u64: 1,
  words: 1,
  lock_words: 2,
  col8: 1,
  col16: 1,
  col32: 1,
};
/** What declares variables and counters, and where: their first argument is the name. */
const DECLARES = /^(?:sysctl_(?:int|uint|ulong|string|proc|value)|counter_u64)$/;
const DECLARED_BY = /\/(?:sysctl_decl|counter)\.js$/;
/** Where the table of help begins. */
const HELP_TABLE = /(\bHELP\b[^=]*= \{)/;
/** No line is indented by more. */
const INDENT_MAX = 200;
/** The file whose pairs are lines of tables. */
const TABLES = /\bsys\/boot\/main\.js$/;

export interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}
export function is_node(value: unknown): value is Node {
  return typeof (value as Partial<Node> | null)?.type === 'string';
}
/** Every node below one, the inner ones after the outer. */
export function* below(node: Node): Generator<Node> {
  yield node;
  for (const value of Object.values(node)) {
    for (const inner of Array.isArray(value) ? value : [value]) {
      if (is_node(inner)) yield* below(inner);
    }
  }
}
/** Whether a node is text and nothing else: a literal, or literals added up. */
function is_text(node: Node): boolean {
  if (node.type === 'Literal') return typeof node.value === 'string';
  if (node.type !== 'BinaryExpression' || node.operator !== '+') return false;
  return is_text(node.left as Node) && is_text(node.right as Node);
}
/** The names that a module has of another. */
function names_of(tree: Node, from: RegExp): Set<string> {
  const imports = (tree.body as Node[]).filter(
    ({ type, source }) => type === 'ImportDeclaration' && from.test(String((source as Node).value)),
  );
  const names = imports.flatMap(({ specifiers }) => specifiers as Node[]);
  return new Set(names.map(({ local }) => String((local as Node).name)));
}
function phrase_of(node: Node, names: Set<string>, tables: boolean): Node | undefined {
  if (node.type === 'CallExpression') {
    const name = String((node.callee as Node).name);
    return names.has(name) ? (node.arguments as Node[])[HELP_ARGUMENT[name]] : undefined;
  }
  if (!tables || node.type !== 'ArrayExpression') return undefined;
  const [run, why] = node.elements as Node[];
  const called = run?.type === 'Identifier' || run?.type === 'ArrowFunctionExpression';
  return called ? why : undefined;
}
/** The code of a compiled module without its comments; texts stay, whatever is in them. */
export function without_comments(code: string): string {
  const tree = parseAst(code) as unknown as Node;
  const texts = [...below(tree)].filter(
    ({ type }) => type === 'Literal' || type === 'TemplateElement',
  );
  const ends = new Map(texts.map(({ start, end }) => [start, end]));
  const comment = /\/\*[\s\S]*?\*\/|\/\/.*/y;
  let kept = '';
  for (let at = 0; at < code.length; ) {
    const text_end = ends.get(at) ?? at;
    comment.lastIndex = at;
    const found = text_end > at ? null : comment.exec(code);
    if (found === null || found[0].includes('@')) {
      const end = found === null ? Math.max(text_end, at + 1) : at + found[0].length;
      kept += code.slice(at, end);
      at = end;
      continue;
    }
    at += found[0].length;
    const indent = /(?:^|\n)([ \t]*)$/.exec(kept.slice(-INDENT_MAX));
    if (indent === null || code[at] !== '\n') continue;
    kept = kept.slice(0, kept.length - indent[1].length); // nothing else stood on its lines
    at++;
  }
  return kept;
}
/** The code of a compiled module without its phrases. */
export function without_phrases(code: string, path: string): string {
  const tables = TABLES.test(path);
  if (!tables && !/\/struct\.js['"]/.test(code)) return code;
  const tree = parseAst(code) as unknown as Node;
  const names = names_of(tree, /\/struct\.js$/);
  const phrases = [...below(tree)]
    .map((node) => phrase_of(node, names, tables))
    .filter((phrase) => phrase !== undefined && is_text(phrase)) as Node[];
  let stripped = code;
  // From the end on, so that the places before it stay where they are.
  for (const { start, end } of phrases.sort((a, b) => b.start - a.start)) {
    stripped = `${stripped.slice(0, start)}''${stripped.slice(end)}`;
  }
  return stripped;
}

/** The text of a node that is nothing but text. */
function text_of(node: Node): string {
  if (node.type === 'Literal') return String(node.value);
  return text_of(node.left as Node) + text_of(node.right as Node);
}
/** The help of a declaration: where it stands, with the comma that goes with it. */
function help_of(call: Node): { text: Node; start: number; end: number } | undefined {
  const [name, given] = call.arguments as Node[];
  if (name === undefined || given === undefined || !is_text(name)) return undefined;
  if ((call.callee as Node).name === 'counter_u64') {
    return is_text(given) ? { text: given, start: name.end, end: given.end } : undefined;
  }
  if (given.type !== 'ObjectExpression') return undefined;
  const properties = given.properties as Node[];
  const named = (what: string): number =>
    properties.findIndex(({ key }) => is_node(key) && key.name === what);
  const at = named('help');
  const text = properties[at]?.value;
  if (!is_node(text) || !is_text(text) || named('check') >= 0) return undefined;
  const last = at === properties.length - 1;
  // Up to the next property, or from the end of the one before.
  const start = last ? (properties[at - 1]?.end ?? properties[at].start) : properties[at].start;
  return { text, start, end: last ? properties[at].end : properties[at + 1].start };
}
/** The code of a compiled module without the help of its declarations, which goes into `help`. */
export function without_help(code: string, help: Map<string, string>): string {
  if (!/\/(?:sysctl_decl|counter)\.js['"]/.test(code)) return code;
  const tree = parseAst(code) as unknown as Node;
  const names = names_of(tree, DECLARED_BY);
  let stripped = code;
  const calls = [...below(tree)].filter(({ type, callee }) => {
    const name = String((callee as Node | undefined)?.name);
    return type === 'CallExpression' && names.has(name) && DECLARES.test(name);
  });
  for (const call of calls.sort((a, b) => b.start - a.start)) {
    const found = help_of(call);
    if (found === undefined) continue;
    help.set(text_of((call.arguments as Node[])[0]), text_of(found.text));
    stripped = stripped.slice(0, found.start) + stripped.slice(found.end);
  }
  return stripped;
}
/** The compiled table of help (sys/boot/help.ts), with that of the declarations. */
export function with_help(code: string, help: ReadonlyMap<string, string>): string {
  if (!HELP_TABLE.test(code)) throw new Error('phrases: there is no table of help to fill');
  const lines = [...help]
    .sort()
    .map((line) => `\n  ${line.map((s) => JSON.stringify(s)).join(': ')},`);
  return code.replace(HELP_TABLE, (begin) => begin + lines.join(''));
}
