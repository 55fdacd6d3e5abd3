/*
 * kern_multizone: several zones for each size class of malloc, types dealt out among them.
 *
 * Who writes past a block hits the next item of the same slab, so under one zone for a size any
 * type may hit any other of that size.  With the option MALLOC_DEBUG_MAXZONES a size has n zones,
 * and a type always takes from the same of them, its class, chosen by a letter of its name:
 *
 *      class of a type = name[zone_offset % length of name] % numzones
 *
 *      zone_offset 0:  | socket sendbuf | pcb buffer | cred |          zones 64-3 64-0 64-1
 *      zone_offset 2:  | socket pcb | cred | sendbuf buffer |
 *
 * Damage that is found in zone 64-3 was done by a type of that class.  Another offset deals the
 * types out otherwise; a type that was in the damaged class each time is the one.  `kmem narrow`
 * runs a program under other offsets until one is left.
 *
 *      multizone_matches     which types share a class: `show multizone_matches` of ddb
 *      multizone_damage      says so to the console, when damage was found in a zone
 *
 * An option of the boot, because a type keeps its zone; all of it goes by malloc's slow path.
 * Counts are by type: what a zone gave out is the sum over the types of its class
 * (kern_malloc_type.ts).
 *
 * Unlike BSD: the zones have names of their own, 64-0 to 64-7, and numzones may be any number up
 * to MULTIZONE_MOST.
 */
import { kconsole } from '../machine/kconsole.ts';
import { M, machine, PANIC_TEXT_WORDS, ROOT_MALLOC } from '../machine/header.ts';
import { opt } from '../machine/opt.ts';
import { elem, get_string, NULL } from '../machine/struct.ts';
import { CTLFLAG_RDTUN, sysctl_get, sysctl_int, sysctl_set } from '../machine/sysctl_decl.ts';
import {
  M_MAGIC,
  MALLOC_NAME_WORDS,
  malloc_root,
  type malloc_root_t,
  malloc_type,
  type malloc_type_t,
  MULTIZONE_MOST,
} from '../h/malloc.ts';

const root = malloc_root;
const mt = malloc_type;

/** What BSD takes from the release of the system, so that the classes change with it: 0.1.0. */
const RELEASE = 1000;

const numzones = sysctl_int('debug.malloc.numzones', {
  value: 0,
  min: 0,
  flags: CTLFLAG_RDTUN,
  needs: 'MALLOC_DEBUG_MAXZONES',
  help: 'Zones of each size class of malloc; 0 at boot: what the option MALLOC_DEBUG_MAXZONES says',
});
const zone_offset = sysctl_int('debug.malloc.zone_offset', {
  value: RELEASE,
  min: 0,
  flags: CTLFLAG_RDTUN,
  needs: 'MALLOC_DEBUG_MAXZONES',
  help: 'Which letter of its name chooses the zones of a type, modulo the length of the name',
});

function anchor(): malloc_root_t {
  return machine.roots[elem(M, ROOT_MALLOC)] as malloc_root_t;
}
/** Decides how many zones a size has. */
export function multizone_boot(r: malloc_root_t): void {
  const most = Math.min(Math.max(opt.MALLOC_DEBUG_MAXZONES, 1), MULTIZONE_MOST);
  const n = Math.min(sysctl_get(numzones) || most, most);
  root.numzones[r] = n;
  sysctl_set(numzones, n);
}
/** How many zones a size has. In a dump it may be anything, and is not believed. */
export function multizones(): number {
  const n = root.numzones[anchor()];
  return n >= 1 && n <= MULTIZONE_MOST ? n : 1;
}
/** The class of a type of that name, in a machine that has `n` and that offset. */
export function multizone_class(name: string, n: number, offset: number): number {
  const bytes = new TextEncoder().encode(name);
  return bytes.length === 0 || n <= 1 ? 0 : bytes[offset % bytes.length] % n;
}
/** The same in this machine. */
export function multizone_of(name: string): number {
  return multizone_class(name, multizones(), sysctl_get(zone_offset));
}
/** The name of zone i of a size. */
export function multizone_name(size: number, i: number): string {
  return multizones() === 1 ? String(size) : `${size}-${i}`;
}

// --- who shares a class --------------------------------------------------------------------------

/** Types are no more than that where the list can be anything. */
const TYPES_MORE = 64;
/** All types on the list. Takes no lock: of a list that changes, or of a dump, what can be had. */
function types(): malloc_type_t[] {
  const r = anchor();
  const found: malloc_type_t[] = [];
  let left = root.count[r] + TYPES_MORE;
  for (let t = root.types[r]; t !== NULL && left-- > 0; t = mt.next[t]) {
    if (mt.magic[t] !== M_MAGIC) break;
    found.push(t);
  }
  return found;
}
function name_of(t: malloc_type_t): string {
  return get_string(mt.name, t, MALLOC_NAME_WORDS);
}
/** Names of the types in a class, sorted. */
export function multizone_types(subzone: number): string[] {
  const same = types().filter((t) => mt.subzone[t] === subzone);
  return same.map(name_of).sort();
}
/**
 * `show multizone_matches`: which types share their zones with the one at word `what`, or of that
 * name.  Lines as ddb prints them.
 */
export function multizone_matches(what?: number | string): string[] {
  if (what === undefined) return ['Usage: show multizone_matches <malloc type/addr>'];
  const named = typeof what === 'string' ? types().find((t) => name_of(t) === what) : what;
  if (named === undefined) return [`No type '${what}'`];
  const t = named as malloc_type_t;
  const magic = mt.magic[t] ?? 0;
  if (magic !== M_MAGIC) {
    const text = (n: number): string => n.toString(16);
    return [`Magic ${text(magic)} does not match expected ${text(M_MAGIC)}`];
  }
  return types()
    .filter((other) => mt.subzone[other] === mt.subzone[t])
    .map(name_of);
}

// --- damage --------------------------------------------------------------------------------------

/** What the line begins with that says which types did the damage. */
export const MULTIZONE_DAMAGE = 'Damage in zone';
/** Tells who shares the class of a zone of malloc that damage was found in. */
export function multizone_damage(zone: string): void {
  const subzone = /^\d+-(\d+)$/.exec(zone)?.[1];
  if (subzone === undefined || multizones() === 1) return;
  const names = multizone_types(Number(subzone)).map((name) => JSON.stringify(name));
  if (names.length > 0) kconsole.print(`${MULTIZONE_DAMAGE} ${zone} of types ${names.join(', ')}`);
}
/** The same when the machine stops, if that is why. A line of the panic table. */
export function multizone_panic(): void {
  const text = get_string(machine.panic_text, M, PANIC_TEXT_WORDS);
  const zone = /\b(?:16|32|64|128|256|512|1024|2048|4096)-\d+\b/.exec(text)?.[0];
  if (zone !== undefined) multizone_damage(zone);
}
