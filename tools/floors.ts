/*
 * floors: imports go down only.
 *
 *     10  lib  bin  replay  web      surfaces: what people and programs touch
 *      9  observe                    may read any floor's declarations
 *      8  client
 *      7  kmem
 *      6  map
 *      5  object
 *      4  pmap
 *      3  uma
 *      2  page
 *      1  sync
 *      0  machine        h: tables and constants, over machine, read by all
 *
 * A folder of src/sys is a floor.  It imports from its own floor and below; a
 * lower floor reaches a higher one through a hook filled in at boot, never by
 * import.  boot stands beside the tower, because it brings each floor up.
 * Surfaces see boot, observe, h, machine, and the calls of floors 7 and 8.  lib
 * sees more of floors 1 to 6, file by file: what it wraps one to one (locks, zones,
 * sleeping), how a call enters the kernel, and figures for its metrics; replay those that
 * recorded system calls are played with.  What changes a
 * word of the kernel is the kernel's own.
 *
 * Tests may import anything, but no product file may import a test, nor
 * anything outside src, nor a package that package.json does not ask for.
 *
 * Usage: node tools/floors.ts [folder].  Exit code 1 if anything was found.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Finding,
  type Import,
  imports_of,
  is_test,
  line_of,
  project_root,
  read_sources,
  report,
} from './source.ts';

const TOWER = [
  'machine',
  'sync',
  'page',
  'uma',
  'pmap',
  'object',
  'map',
  'kmem',
  'client',
  'observe',
];
const SURFACES = ['lib', 'bin', 'replay', 'web'];

/** Files of lower floors that lib wraps. */
const LIB_WRAPS = [
  // locks, and sleeping on channels
  'sync/kern_mutex',
  'sync/kern_rwlock',
  'sync/lock_order',
  'sync/lock_word',
  'sync/rw_death',
  'sync/subr_sleepqueue',
  'sync/subr_trap', // the way into the kernel
  // zones
  'uma/uma_core',
  'uma/uma_fetch',
  'uma/uma_keg',
  'uma/uma_zone',
  'uma/uma_drain',
  // figures, and the walker of check()
  'uma/uma_budget',
  'uma/uma_check',
  'uma/uma_int',
  'uma/uma_stats',
  'page/vm_page', // also: waiting for pages
  'page/vm_phys',
  'pmap/pmap_tlb', // the tags that a load or store looks at
  'map/vm_window', // windows
  'map/vm_lowmem', // programs subscribe to low memory
  'map/vm_oom', // what the pages of spaces are, for an error
];

/** Files of lower floors that the player of system calls works with. */
const REPLAY_PLAYS = [
  // spaces come and go, and are kept
  'map/vm_map_fork',
  'map/vm_map_keep',
  // calls, and what they were made of on another system
  'map/vm_bank',
  'map/vm_map_insert',
  'map/vm_mmap',
  'map/vm_msync',
  'map/vm_syscalls',
  'map/vm_unix',
  'object/vm_object',
  // loads and stores
  'map/vm_copy',
  // what is mapped, and which pages are whose
  'map/vm_map',
  'map/vm_map_tree',
  'page/vm_page',
  'page/vm_page_limbo',
];

/** What each part of src may import besides itself: parts, or files of them. */
const MAY_IMPORT: Record<string, string[]> = {
  ...Object.fromEntries(TOWER.map((floor, number) => [floor, [...TOWER.slice(0, number), 'h']])),
  h: ['machine'],
  boot: [...TOWER, 'h'],
  lib: ['boot', 'observe', 'h', 'machine', 'kmem', 'client', ...LIB_WRAPS],
  replay: ['boot', 'observe', 'h', 'machine', 'kmem', 'client', 'lib', ...REPLAY_PLAYS],
  web: ['boot', 'observe', 'h', 'machine', 'kmem', 'client', 'lib'],
  bin: ['boot', 'observe', 'h', 'machine', 'kmem', 'client', 'lib', 'replay', 'web'],
};

/** The part of src a path belongs to: a floor, h, boot or a surface; undefined elsewhere. */
export function part_of(path: string): string | undefined {
  const sys = /^src\/sys\/(\w+)\//.exec(path)?.[1];
  if (sys !== undefined) return sys;
  const surface = /^src\/(\w+)\//.exec(path)?.[1];
  return surface !== undefined && SURFACES.includes(surface) ? surface : undefined;
}

function floor_name(part: string): string {
  const number = TOWER.indexOf(part);
  if (number >= 0) return `${part} (floor ${number})`;
  return SURFACES.includes(part) ? `${part} (floor 10)` : part;
}

/** Why this import is not allowed; undefined if it is. */
export function import_fault(link: Import, packages: Set<string>): string | undefined {
  const { from, to, spec } = link;
  if (!from.startsWith('src/') || is_test(from)) return undefined;
  if (!spec.startsWith('.')) return package_fault(spec, packages);
  if (is_test(to)) return `product code imports the test ${to}`;
  if (!to.startsWith('src/')) return `product code imports ${to}, which is not part of src`;
  const here = part_of(from);
  const there = part_of(to);
  if (here === undefined || there === undefined || here === there) return undefined;
  const allowed = MAY_IMPORT[here];
  if (allowed === undefined) return `${here} is not a floor: see the table in tools/floors.ts`;
  if (allowed.includes(there)) return undefined;
  if (allowed.includes(to.replace(/^src\/sys\/|\.ts$/g, ''))) return undefined;
  return `${floor_name(here)} may not import ${floor_name(there)}: ${to}`;
}

function package_fault(spec: string, packages: Set<string>): string | undefined {
  if (spec.startsWith('node:')) return undefined;
  const name = spec.split('/', spec.startsWith('@') ? 2 : 1).join('/');
  return packages.has(name) ? undefined : `product code imports the package ${name}`;
}

/** Packages that whoever installs us has, or may have. */
function runtime_packages(root: string): Set<string> {
  const file = join(root, 'package.json');
  if (!existsSync(file)) return new Set();
  const { dependencies, peerDependencies, optionalDependencies } = JSON.parse(
    readFileSync(file, 'utf8'),
  );
  return new Set(
    [dependencies, peerDependencies, optionalDependencies].flatMap((set) => Object.keys(set ?? {})),
  );
}

export function floors(root: string): { files: number; findings: Finding[] } {
  const packages = runtime_packages(root);
  const sources = read_sources(root).filter(({ path }) => path.startsWith('src/'));
  const findings = sources.flatMap((source) =>
    imports_of(source).flatMap((link) => {
      const what = import_fault(link, packages);
      return what ? [{ path: source.path, line: line_of(source, link.at), what }] : [];
    }),
  );
  return { files: sources.length, findings };
}

if (import.meta.main) {
  const { files, findings } = floors(project_root());
  process.exitCode = report(files, findings);
}
