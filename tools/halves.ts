/*
 * halves: cuts published modules in two: what the core needs, and the rest.
 *
 *      sys/map/vm_fault.js   ->   vm_fault.core.js   its declarations, and what the core calls
 *                                 vm_fault.js        the names that it had: the other functions,
 *                                                    and what is handed on from vm_fault.core.js
 *
 * A bundler leaves out functions that nobody calls.  But a module it puts into one file, whole:
 * a page that loads kmem/core first and `kmem` later would have, from the start, all functions
 * that either of the two calls, if only the core calls one of their module.  In the kernel that
 * is nearly always so, because every module declares counters and variables.  It was a seventh
 * of what such a page loads.
 *
 * What the core needs is found as bundlers find it, by names, but a statement at a time: what
 * it exports; of every module that it leads to, each statement that does something when it is
 * loaded; and all that these name.  A function that assigns to a variable of its module stays
 * beside it, because an imported name cannot be assigned to.  The other half has nothing but
 * functions, classes and constants that are written out, so it does not matter when it is loaded.
 *
 * Modules of the core's half import from core halves; all others go on as before.  Constants
 * that only give an imported name a local one are in both halves, where both use them: V8
 * takes local names for constants.
 */
import { dirname, join, relative } from 'node:path';
import { parseAst } from 'rolldown/parseAst';
import { below, is_node, type Node } from './phrases.ts';

/** A rest that is smaller stays where it is, bytes. */
const REST_LEAST = 400;

interface Statement {
  readonly node: Node;
  readonly start: number;
  readonly end: number;
  /** Names that it declares. */
  readonly declares: readonly string[];
  /** Names of the module that it uses. */
  readonly names: ReadonlySet<string>;
  /** Names that it assigns to. */
  readonly assigns: ReadonlySet<string>;
  /** It does something when the module is loaded. */
  readonly acts: boolean;
  /** A local name for another, or a literal: it may be there twice. */
  readonly plain: boolean;
}
interface Import {
  readonly from: string;
  readonly name: string;
}
interface Module {
  readonly path: string;
  readonly code: string;
  readonly statements: readonly Statement[];
  readonly imports: ReadonlyMap<string, Import>;
  /** Modules that it imports, in their order. */
  readonly leads: readonly string[];
  /** Exported name -> local name. */
  readonly exports: Map<string, string>;
  /** Exported name -> where it comes from. */
  readonly handed: ReadonlyMap<string, Import>;
  /** It cannot be cut. */
  readonly whole: boolean;
  /** Statements of the core's half. */
  readonly kept: Set<Statement>;
}

// --- reading ------------------------------------------------------------------------------------

/** Names that a pattern or a declaration makes. */
function bound(node: unknown): string[] {
  if (Array.isArray(node)) return node.flatMap(bound);
  if (!is_node(node)) return [];
  switch (node.type) {
    case 'Identifier':
      return [String(node.name)];
    case 'VariableDeclaration':
      return (node.declarations as Node[]).flatMap(({ id }) => bound(id));
    case 'FunctionDeclaration':
    case 'ClassDeclaration':
      return bound(node.id);
    case 'ObjectPattern':
      return bound(node.properties);
    case 'Property':
      return bound(node.value);
    case 'ArrayPattern':
      return bound(node.elements);
    case 'AssignmentPattern':
      return bound(node.left);
    case 'RestElement':
      return bound(node.argument);
    default:
      return [];
  }
}
/** Names that are known inside a node alone. */
function inner_names(node: Node): string[] {
  if (/^For(?:Of|In)?Statement$/.test(node.type)) {
    const first = (node.init ?? node.left) as Node | null;
    return first?.type === 'VariableDeclaration' ? bound(first) : [];
  }
  switch (node.type) {
    case 'FunctionDeclaration':
    case 'FunctionExpression':
    case 'ArrowFunctionExpression':
      return [...bound(node.params), ...bound(node.id)];
    case 'ClassExpression':
      return bound(node.id);
    case 'CatchClause':
      return bound(node.param);
    case 'BlockStatement':
    case 'StaticBlock':
    case 'FunctionBody':
      return declared(node.body);
    case 'SwitchStatement':
      return (node.cases as Node[]).flatMap(({ consequent }) => declared(consequent));
    default:
      return [];
  }
}
function declared(statements: unknown): string[] {
  const declares = /^(?:Variable|Function|Class)Declaration$/;
  return (statements as Node[]).filter(({ type }) => declares.test(type)).flatMap(bound);
}
/** Names that a node uses and does not make itself; names of fields are none. */
function free_names(node: Node): Set<string> {
  if (node.type === 'Identifier') return new Set([String(node.name)]);
  const names = new Set<string>();
  for (const [key, value] of Object.entries(node)) {
    // `{ x }` is a field and a use, which its value says.
    if ((key === 'property' || key === 'key') && node.computed !== true) continue;
    if (key === 'label') continue;
    for (const inner of Array.isArray(value) ? value : [value]) {
      if (is_node(inner)) for (const name of free_names(inner)) names.add(name);
    }
  }
  for (const name of inner_names(node)) names.delete(name);
  return names;
}
function assigned(node: Node): Set<string> {
  const names = [...below(node)].flatMap(({ type, left, argument }) => {
    if (type === 'AssignmentExpression') return bound(left);
    return type === 'UpdateExpression' ? bound(argument) : [];
  });
  return new Set(names);
}
/** Whether a value can be made at any time: nothing is called, and no field is read. */
function is_quiet(node: Node): boolean {
  switch (node.type) {
    case 'Identifier':
    case 'Literal':
    case 'ArrowFunctionExpression':
    case 'FunctionExpression':
      return true;
    case 'UnaryExpression':
      return is_quiet(node.argument as Node);
    case 'BinaryExpression':
      return is_quiet(node.left as Node) && is_quiet(node.right as Node);
    case 'ArrayExpression':
      return (node.elements as Node[]).every((e) => is_node(e) && is_quiet(e));
    case 'ObjectExpression':
      return (node.properties as Node[]).every(
        ({ computed, value }) => computed === false && is_node(value) && is_quiet(value),
      );
    default:
      return false;
  }
}
const PLAIN = /^(?:Identifier|Literal)$/;
/** Whether all variables of a declaration begin with a value that is so. */
function begins(node: Node, so: (value: Node) => boolean): boolean {
  if (node.type !== 'VariableDeclaration') return false;
  return (node.declarations as Node[]).every(
    ({ id, init }) => (id as Node).type === 'Identifier' && is_node(init) && so(init),
  );
}
function acts(node: Node): boolean {
  if (node.type === 'FunctionDeclaration') return false;
  if (node.type !== 'ClassDeclaration') return !begins(node, is_quiet);
  const parts = (node.body as Node).body as Node[];
  const at_load = ({ type, static: of_class, computed }: Node): boolean =>
    type === 'StaticBlock' || of_class === true || computed === true;
  return node.superClass !== null || parts.some(at_load);
}
function read_module(path: string, code: string): Module {
  const statements: Statement[] = [];
  const imports = new Map<string, Import>();
  const leads: string[] = [];
  const exports = new Map<string, string>();
  const handed = new Map<string, Import>();
  const whole = /\bimport\.meta\b/.test(code);
  const refuse = (): never => {
    throw new Error(`halves: ${path}: names are imported and exported one by one`);
  };
  const name_of = (node: unknown): string => String((node as Node).name ?? (node as Node).value);
  for (const node of (parseAst(code) as unknown as Node).body as Node[]) {
    const source = node.source as Node | null | undefined;
    const from = is_node(source) ? target(path, String(source.value)) : '';
    if (from !== '' && !leads.includes(from)) leads.push(from);
    if (node.type === 'ImportDeclaration') {
      for (const { type, local, imported } of node.specifiers as Node[]) {
        if (type !== 'ImportSpecifier') refuse();
        imports.set(name_of(local), { from, name: name_of(imported) });
      }
    } else if (node.type === 'ExportNamedDeclaration' && !is_node(node.declaration)) {
      for (const { local, exported } of node.specifiers as Node[]) {
        if (from === '') exports.set(name_of(exported), name_of(local));
        else handed.set(name_of(exported), { from, name: name_of(local) });
      }
    } else if (node.type === 'ExportAllDeclaration' || node.type === 'ExportDefaultDeclaration') {
      refuse();
    } else {
      const inner = (node.declaration as Node | undefined) ?? node;
      const declares = declared([inner]);
      if (inner !== node) for (const name of declares) exports.set(name, name);
      statements.push({
        node: inner,
        start: inner.start,
        end: inner.end,
        declares,
        names: free_names(inner),
        assigns: assigned(inner),
        acts: acts(inner),
        plain: inner.kind === 'const' && begins(inner, ({ type }) => PLAIN.test(type)),
      });
    }
  }
  return { path, code, statements, imports, leads, exports, handed, whole, kept: new Set() };
}
/** The path of an import; of what is the host's own, what is written. */
function target(path: string, written: string): string {
  return written.startsWith('.') ? join(dirname(path), written) : written;
}

// --- what the core needs --------------------------------------------------------------------

class Core {
  readonly modules = new Map<string, Module>();
  readonly #entry: string;

  /** `read`: the code of a compiled module. */
  constructor(entry: string, read: (path: string) => string) {
    this.#entry = entry;
    const paths = new Set([entry]);
    for (const path of paths) {
      const module = read_module(path, read(path));
      this.modules.set(path, module);
      for (const to of module.leads) if (to.endsWith('.js')) paths.add(to);
    }
    for (const name of this.#of(entry).handed.keys()) this.#export(this.#of(entry), name);
    for (const module of this.modules.values()) {
      for (const s of module.statements) if (s.acts || module.whole) this.#keep(module, s);
    }
    while (this.#settle());
  }
  #of(path: string): Module {
    return this.modules.get(path) as Module;
  }
  /** Where an imported name is declared; null: in the host. */
  origin({ from, name }: Import): Import | null {
    const module = this.modules.get(from);
    if (module === undefined) return null;
    const next = module.handed.get(name);
    return next === undefined ? { from, name } : this.origin(next);
  }
  #export(module: Module, name: string): void {
    const found = this.origin({ from: module.path, name });
    if (found === null) return;
    const at = this.#of(found.from);
    const local = at.exports.get(found.name);
    if (local !== undefined) this.#need(at, local);
    else throw new Error(`halves: ${at.path} exports no ${found.name}`);
  }
  #need(module: Module, name: string): void {
    const from = module.imports.get(name);
    if (from !== undefined && this.modules.has(from.from)) {
      this.#export(this.#of(from.from), from.name);
    }
    for (const s of module.statements) if (s.declares.includes(name)) this.#keep(module, s);
  }
  #keep(module: Module, s: Statement): void {
    if (module.kept.has(s)) return;
    module.kept.add(s);
    for (const name of s.names) this.#need(module, name);
  }
  /** Keeps what cannot be apart from what is kept. False: nothing more. */
  #settle(): boolean {
    let more = false;
    for (const module of this.modules.values()) {
      const rest = module.statements.filter((s) => !module.kept.has(s));
      const bytes = rest.reduce((sum, { start, end }) => sum + end - start, 0);
      const kept = new Set([...module.kept].flatMap(({ declares }) => declares));
      for (const s of rest) {
        if (
          bytes >= REST_LEAST &&
          ![...s.assigns].some((name) => kept.has(name) && s.names.has(name))
        )
          continue;
        this.#keep(module, s);
        more = true;
      }
    }
    return more;
  }
  is_cut(module: Module): boolean {
    return module.kept.size < module.statements.length;
  }
  /** The path at which the core finds a module. */
  path_for_core(path: string): string {
    const module = this.modules.get(path);
    const cut = module !== undefined && this.is_cut(module);
    return cut ? path.replace(/\.js$/, '.core.js') : path;
  }

  // --- writing -----------------------------------------------------------------------------------

  /** The halves of a module, or the module with other imports. */
  write(module: Module): Map<string, string> {
    const made = new Map<string, string>();
    const kept = module.statements.filter((s) => module.kept.has(s));
    if (module.path === this.#entry || !this.is_cut(module)) {
      made.set(module.path, this.#redirected(module));
      return made;
    }
    const rest = module.statements.filter((s) => !module.kept.has(s));
    const used = new Set(rest.flatMap(({ names }) => [...names]));
    const twice = kept.filter((s) => s.plain && s.declares.some((name) => used.has(name)));
    const of_rest = [...twice, ...rest];
    for (const { names } of twice) for (const name of names) used.add(name);
    const own = new Set(of_rest.flatMap(({ declares }) => declares));
    const shared = kept.flatMap(({ declares }) => declares).filter((name) => !own.has(name));
    const exported = [...module.exports];
    const list = (names: readonly string[]): string => `{ ${names.join(', ')} }`;
    const core_path = this.path_for_core(module.path);
    const here = `./${core_path.split('/').pop()}`;
    const in_core = new Set(kept.flatMap(({ declares }) => declares));
    const for_rest = shared.filter((name) => used.has(name));

    const core = [...this.#imports(module, kept, true), ...kept.map((s) => text(module, s))];
    const names = exported.filter(([, local]) => in_core.has(local)).map(as);
    const extra = for_rest.filter((name) => module.exports.get(name) !== name);
    core.push(`export ${list([...names, ...extra])};`);
    made.set(core_path, `${core.join('\n')}\n`);

    const code = [
      `import ${list(for_rest)} from '${here}';`,
      ...this.#imports(module, of_rest, false),
    ];
    code.push(...of_rest.map((s) => text(module, s)));
    const from_core = exported.filter(([, local]) => in_core.has(local)).map(([name]) => name);
    if (from_core.length > 0) code.push(`export ${list(from_core)} from '${here}';`);
    const from_rest = exported.filter(([, local]) => !in_core.has(local)).map(as);
    if (from_rest.length > 0) code.push(`export ${list(from_rest)};`);
    for (const [name, of] of module.handed) {
      code.push(`export ${list([as([name, of.name])])} from '${written(module.path, of.from)}';`);
    }
    made.set(module.path, `${code.join('\n')}\n`);
    return made;
  }
  /** Imports of one half: what its statements name; of the core's, all modules, in their order. */
  #imports(module: Module, statements: readonly Statement[], core: boolean): string[] {
    const used = new Set(statements.flatMap(({ names }) => [...names]));
    const by_path = new Map<string, string[]>();
    if (core) for (const to of module.leads) by_path.set(this.path_for_core(to), []);
    for (const [local, of] of module.imports) {
      if (!used.has(local)) continue;
      const { from, name } = core ? (this.origin(of) ?? of) : of;
      const path = core ? this.path_for_core(from) : from;
      const names = by_path.get(path) ?? [];
      names.push(name === local ? name : `${name} as ${local}`);
      by_path.set(path, names);
    }
    return [...by_path].map(([path, names]) => {
      const what = names.length === 0 ? '' : `{ ${names.join(', ')} } from `;
      return `import ${what}'${written(module.path, path)}';`;
    });
  }
  /** A module that stays whole, with its imports from the core's halves. */
  #redirected(module: Module): string {
    const code = this.#imports(module, module.statements, true);
    code.push(...module.statements.map((s) => text(module, s)));
    const own = [...module.exports].map(as);
    if (own.length > 0) code.push(`export { ${own.join(', ')} };`);
    for (const [exported, of] of module.handed) {
      const { from, name } = this.origin(of) ?? of;
      const to = written(module.path, this.path_for_core(from));
      code.push(`export { ${as([exported, name])} } from '${to}';`);
    }
    return `${code.join('\n')}\n`;
  }
}
/** An entry of a list of exports. */
function as([exported, local]: readonly [string, string]): string {
  return exported === local ? exported : `${local} as ${exported}`;
}
function text(module: Module, { start, end }: Statement): string {
  return module.code.slice(start, end);
}
/** How a module names another. */
function written(from: string, to: string): string {
  if (!to.endsWith('.js')) return to;
  const path = relative(dirname(from), to);
  return path.startsWith('.') ? path : `./${path}`;
}

/** All files that change, by path: modules of which one half is enough for `entry`. */
export function halves(entry: string, read: (path: string) => string): Map<string, string> {
  const core = new Core(entry, read);
  return new Map([...core.modules.values()].flatMap((module) => [...core.write(module)]));
}
