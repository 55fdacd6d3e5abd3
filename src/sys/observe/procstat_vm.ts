/*
 * procstat_vm: what is mapped in address spaces, and which memory objects there are.
 *
 *      kern.proc.vmmap             entries of all spaces
 *      kern.proc.vmmap  number     entries of that space
 *      vm.objects                  memory objects, newest first
 *
 * An entry here is one of a map, or the part of one that lies in banks whose addresses follow each
 * other.  A space's number is the word address of its record: of spaces that live each has its
 * own, and a later one may have that of one that ended.  Names are those of programs: of the
 * space, and of its named part (vm_region.ts).
 *
 * All figures are a sample.  Of each list the members are noted under the lock of the list,
 * then each is locked and looked at: a map shared, so that its entries stay, an object with the
 * one below it, so that a chain stays.  What left the list in between is passed over.
 * Records of both sorts stay such records for ever, with their locks, so whoever has an old
 * pointer may take the lock, and sees by the list that it is no member any more.
 */
import { EINVAL, ENOENT } from '../machine/errno.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import type { SysctlRequest } from '../machine/sysctl_decl.ts';
import {
  MAP_ENTRY_COW,
  MAP_ENTRY_GROWS_DOWN,
  MAP_ENTRY_GROWS_UP,
  MAP_ENTRY_NEEDS_COPY,
  MAP_ENTRY_NOCOREDUMP,
  MAP_ENTRY_USER_WIRED,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  type vm_map_t,
} from '../h/vm_map.ts';
import {
  OBJT_DEAD,
  OBJT_DEFAULT,
  OBJT_DEVICE,
  OBJT_LOAN,
  OBJT_PHYS,
  OBJT_SWAP,
  vm_object,
  vm_object_root,
  type vm_object_t,
} from '../h/vm_object.ts';
import { reg_space } from '../h/registry.ts';
import { vm_page } from '../h/vm_page.ts';
import { vm_region } from '../h/vm_region.ts';
import {
  registry_each,
  registry_lock,
  registry_name,
  registry_unlock,
} from '../client/kern_registry.ts';
import { BANK_PAGES, to_address } from '../map/vm_bank.ts';
import { maps_each } from '../map/vm_map.ts';
import { entry_object } from '../map/vm_map_entry.ts';
import { map_header } from '../map/vm_map_tree.ts';
import { vm_region_name } from '../map/vm_region.ts';
import { object_root } from '../object/vm_object.ts';
import { object_page_next, page_valid } from '../object/vm_object_page.ts';
import { PQ_ACTIVE, PQ_INACTIVE, page_queue } from '../page/vm_pageq.ts';
import { pmap_supers } from '../pmap/pmap_super.ts';
import { mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import {
  KVME_FLAG_COW,
  KVME_FLAG_GROWS_DOWN,
  KVME_FLAG_GROWS_UP,
  KVME_FLAG_NEEDS_COPY,
  KVME_FLAG_NOCOREDUMP,
  KVME_FLAG_SUPER,
  KVME_FLAG_USER_WIRED,
  KVME_TYPE_DEAD,
  KVME_TYPE_DEFAULT,
  KVME_TYPE_DEVICE,
  KVME_TYPE_NONE,
  KVME_TYPE_PHYS,
  KVME_TYPE_SWAP,
  type kinfo_vmentry,
  kinfo_vmentry_bytes,
  type kinfo_vmobject,
  kinfo_vmobject_bytes,
} from './kinfo_vm.ts';

const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;
const decoder = new TextDecoder();

const TYPES: readonly (readonly [number, number])[] = [
  [OBJT_DEFAULT, KVME_TYPE_DEFAULT],
  [OBJT_SWAP, KVME_TYPE_SWAP],
  [OBJT_DEVICE, KVME_TYPE_DEVICE],
  [OBJT_PHYS, KVME_TYPE_PHYS],
  [OBJT_DEAD, KVME_TYPE_DEAD],
  [OBJT_LOAN, KVME_TYPE_DEFAULT],
];
const FLAGS: readonly (readonly [number, number])[] = [
  [MAP_ENTRY_COW, KVME_FLAG_COW],
  [MAP_ENTRY_NEEDS_COPY, KVME_FLAG_NEEDS_COPY],
  [MAP_ENTRY_NOCOREDUMP, KVME_FLAG_NOCOREDUMP],
  [MAP_ENTRY_GROWS_UP, KVME_FLAG_GROWS_UP],
  [MAP_ENTRY_GROWS_DOWN, KVME_FLAG_GROWS_DOWN],
  [MAP_ENTRY_USER_WIRED, KVME_FLAG_USER_WIRED],
];
function kvme_type(o: vm_object_t): number {
  if (o === NULL) return KVME_TYPE_NONE;
  return TYPES.find(([type]) => type === object.type[o])?.[1] ?? KVME_TYPE_NONE;
}

// --- members of the lists ------------------------------------------------------------------------

/** Calls `look` with each memory object, locked. The caller holds no lock of an object. */
export function objects_each(look: (o: vm_object_t) => void): void {
  const r = object_root();
  const all: vm_object_t[] = [];
  mtx_lock(vm_object_root.lock, r);
  for (let o = vm_object_root.first[r]; o !== NULL; o = object.next[o]) all.push(o);
  mtx_unlock(vm_object_root.lock, r);
  for (const o of all) {
    mtx_lock(object.lock, o);
    mtx_lock(vm_object_root.lock, r);
    const prev = object.prev[o];
    const listed = (prev === NULL ? vm_object_root.first[r] : object.next[prev]) === o;
    mtx_unlock(vm_object_root.lock, r);
    if (listed) look(o);
    mtx_unlock(object.lock, o);
  }
}
/** The entries of a map that is locked, lowest first. */
export function* entries_of(mp: vm_map_t): Generator<vm_map_entry_t> {
  const header = map_header(mp);
  for (let e = entry.next[header]; e !== header; e = entry.next[e]) yield e;
}

// --- what is mapped ------------------------------------------------------------------------------

/** What is mapped in one space, or in all of them. The caller holds no lock. */
export function procstat_vm(only?: number): kinfo_vmentry[] {
  const names = space_names();
  const found: kinfo_vmentry[] = [];
  maps_each((mp) => {
    if (only !== undefined && only !== mp) return;
    const name = names.get(mp) ?? '';
    for (const e of entries_of(mp)) {
      for (let at = entry.start[e]; at < entry.end[e]; ) {
        const end = contiguous(mp, e, at);
        found.push(vmentry(mp, e, at, end, name));
        at = end;
      }
    }
  });
  return found;
}
/** Where the addresses of an entry, from page `from` on, follow each other no longer. */
function contiguous(mp: vm_map_t, e: vm_map_entry_t, from: number): number {
  const begin = to_address(mp, from);
  let end = from;
  do end = Math.min((Math.floor(end / BANK_PAGES) + 1) * BANK_PAGES, entry.end[e]);
  while (end < entry.end[e] && to_address(mp, end) - begin === (end - from) * PAGE_SIZE);
  return end;
}
/** The names of spaces that have one. */
function space_names(): Map<number, string> {
  const names = new Map<number, string>();
  registry_lock();
  registry_each((e, kind) => {
    if (kind === 'space' && reg_space.map[e] !== NULL)
      names.set(reg_space.map[e], registry_name(e));
  });
  registry_unlock();
  return names;
}
/** The path of what is mapped at a page of a map that is locked. */
function path_of(mp: vm_map_t, at: number, space: string): string {
  for (let r = map.regions[mp]; r !== NULL; r = vm_region.next[r]) {
    if (at < vm_region.start[r] || at >= vm_region.end[r]) continue;
    const name = decoder.decode(vm_region_name(r));
    return name === '' ? space : `${space}/${name}`;
  }
  return space;
}
function vmentry(
  mp: vm_map_t,
  e: vm_map_entry_t,
  from: number,
  to: number,
  space: string,
): kinfo_vmentry {
  const start = to_address(mp, from);
  const o = entry_object(e);
  const own = pages_of(e, from, to);
  const supers = pmap_supers(map.pmap[mp], from, to) > 0 ? KVME_FLAG_SUPER : 0;
  return {
    space: mp,
    type: kvme_type(o),
    start,
    end: start + (to - from) * PAGE_SIZE,
    offset: (entry.offset[e] + from - entry.start[e]) * PAGE_SIZE,
    flags: FLAGS.reduce((f, [bit, kvme]) => (entry.eflags[e] & bit ? f | kvme : f), supers),
    protection: entry.protection[e],
    resident: own.all,
    private_resident: own.alone,
    refs: o === NULL ? 0 : object.refs[o],
    shadows: o === NULL ? 0 : object.shadow_count[o],
    path: path_of(mp, from, space),
  };
}
/** How many pages of a part of an entry are in memory, and how many nobody else can see. */
function pages_of(e: vm_map_entry_t, from: number, to: number): { all: number; alone: number } {
  const seen = new Set<number>();
  let alone = 0;
  let o = entry_object(e);
  if (o === NULL) return { all: 0, alone };
  let first = entry.offset[e] + from - entry.start[e];
  let only = true;
  mtx_lock(object.lock, o);
  for (;;) {
    only &&= object.refs[o] === 1;
    for (let m = object_page_next(o, first); m !== 0; ) {
      const i = vm_page.index[m];
      if (i >= first + to - from) break;
      if (page_valid(m) && !seen.has(i - first)) {
        seen.add(i - first);
        if (only) alone++;
      }
      m = object_page_next(o, i + 1);
    }
    const below = object.backing[o];
    if (below === NULL) break;
    first += object.backing_offset[o];
    mtx_lock(object.lock, below);
    mtx_unlock(object.lock, o);
    o = below;
  }
  mtx_unlock(object.lock, o);
  return { all: seen.size, alone };
}

// --- memory objects ------------------------------------------------------------------------------

/** All memory objects, newest first. The caller holds no lock of an object. */
export function vm_objects(): kinfo_vmobject[] {
  const found: kinfo_vmobject[] = [];
  objects_each((o) => {
    const on = [0, 0, 0, 0];
    for (let m = object_page_next(o, 0); m !== 0; m = object_page_next(o, vm_page.index[m] + 1)) {
      on[page_queue(m)]++;
    }
    found.push({
      type: kvme_type(o),
      size: object.size[o],
      refs: object.refs[o],
      shadows: object.shadow_count[o],
      resident: object.resident[o],
      active: on[PQ_ACTIVE],
      inactive: on[PQ_INACTIVE],
      backing: object.backing[o] * 4,
      me: o * 4,
    });
  });
  return found;
}

// --- as variables --------------------------------------------------------------------------------

/** Sends records, which were gathered before: no lock is held while somebody reads. */
function send<T>(req: SysctlRequest, all: readonly T[], bytes: (one: T) => Uint8Array): number {
  let error = 0;
  for (const one of all) error = req.out(bytes(one)) || error;
  return error;
}
/** kern.proc.vmmap: of all spaces, or of the one whose number follows. */
export function vmmap_report(req: SysctlRequest): number {
  const [space, ...more] = req.rest;
  if (more.length > 0) return EINVAL;
  const found = procstat_vm(space);
  // A space in which nothing is mapped is answered, too, with nothing.
  if (space !== undefined && found.length === 0 && !space_exists(space)) return ENOENT;
  return send(req, found, kinfo_vmentry_bytes);
}
function space_exists(space: number): boolean {
  let found = false;
  maps_each((mp) => void (found ||= mp === space));
  return found;
}
/** vm.objects. */
export function objects_report(req: SysctlRequest): number {
  return send(req, vm_objects(), kinfo_vmobject_bytes);
}
