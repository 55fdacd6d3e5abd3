/*
 * ddb_map: address spaces and memory objects.
 *
 *      show map ADDR        a map, its entries and their objects; without one, all maps
 *      show object ADDR     an object and the pages that it has; without one, all objects
 *      show vmochk          anonymous objects that nothing refers to, or no map shows
 *
 * Addresses in a map are page numbers in the memory and bytes here, as everywhere in the
 * debugger.  Page numbers of an object stand as they are.
 */
import { M, machine, ROOT_MAP, ROOT_OBJECT } from '../../machine/header.ts';
import { PAGE_SIZE, ptoa } from '../../machine/memory.ts';
import { elem, field_word } from '../../machine/struct.ts';
import {
  MAP_ENTRY_COW,
  MAP_ENTRY_IS_SUB_MAP,
  MAP_ENTRY_NEEDS_COPY,
  vm_map,
  vm_map_entry,
  type vm_map_entry_t,
  vm_map_root,
  type vm_map_root_t,
  type vm_map_t,
} from '../../h/vm_map.ts';
import {
  OBJT_DEFAULT,
  OBJT_SWAP,
  vm_object,
  vm_object_root,
  type vm_object_root_t,
  type vm_object_t,
} from '../../h/vm_object.ts';
import { PK_MASK, PK_OBJECT, SLOT_MAX, SLOT_TWICE } from '../../h/vm_page.ts';
import { vm_page } from '../../h/vm_page.ts';
import {
  RADIX_BITS,
  RADIX_HEIGHT_MAX,
  RADIX_SLOTS,
  vm_radix,
  vm_radix_node,
  type vm_radix_node_t,
  type vm_radix_t,
} from '../../h/vm_radix.ts';
import { db_pointer, db_record, db_walk } from './ddb_access.ts';
import { DB_SHOW_COMMAND, type DdbArgs } from './ddb_command.ts';
import { type Ddb, DdbError, db_check, db_hex, db_printf, db_puts } from './ddb_session.ts';
import { db_root } from './ddb_uma.ts';

const map = vm_map;
const entry = vm_map_entry;
const object = vm_object;
/** Submaps inside one another. */
const DEPTH_MAX = 4;

// --- lists --------------------------------------------------------------------------------

/** All maps, newest first. */
export function* db_maps(db: Ddb): Generator<vm_map_t> {
  const r = db_root(ROOT_MAP, vm_map_root.sizeof, 'address spaces') as vm_map_root_t;
  const first = vm_map_root.first[r];
  yield* db_walk(db, { what: 'maps', first, words: map.sizeof, next: (mp) => map.next[mp] });
}
/** All objects, newest first. */
export function* db_objects(db: Ddb): Generator<vm_object_t> {
  const r = db_root(ROOT_OBJECT, vm_object_root.sizeof, 'memory objects') as vm_object_root_t;
  const first = vm_object_root.first[r];
  const words = object.sizeof;
  yield* db_walk(db, { what: 'objects', first, words, next: (o) => object.next[o] });
}
/** Entries of a map, in the order of their addresses. */
export function* db_entries(db: Ddb, mp: vm_map_t): Generator<vm_map_entry_t> {
  const header = field_word(map.header, mp) as vm_map_entry_t;
  yield* db_walk(db, {
    what: `entries of map ${db_hex(mp * 4)}`,
    first: ring(header, entry.next[header]),
    words: entry.sizeof,
    next: (e) => ring(header, entry.next[e]),
  });
}
function ring(header: vm_map_entry_t, e: vm_map_entry_t): vm_map_entry_t {
  return e === header ? (0 as vm_map_entry_t) : e;
}

// --- maps --------------------------------------------------------------------------------

const SHARES = ['share', 'copy', 'none', 'donate_copy'];
interface Printing {
  readonly db: Ddb;
  /** Objects and submaps of the entry before: they are not printed again. */
  before: number;
}
function map_print(at: Printing, mp: vm_map_t, depth: number): void {
  const { db } = at;
  const pad = ' '.repeat(2 * depth);
  db_puts(db, pad);
  map_head(db, mp);
  for (const e of db_entries(db, mp)) entry_print(at, e, depth + 1);
}
function map_head(db: Ddb, mp: vm_map_t): void {
  const args = [mp * 4, map.pmap[mp] * 4, map.nentries[mp], map.timestamp[mp] >>> 0];
  db_printf(db, 'Task map %p: pmap=%p, nentries=%d, version=%u\n', ...args);
}
function entry_print(at: Printing, e: vm_map_entry_t, depth: number): void {
  const { db } = at;
  const pad = ' '.repeat(2 * depth);
  const [start, end] = [ptoa(entry.start[e]), ptoa(entry.end[e])];
  db_printf(db, '%smap entry %p: start=%p, end=%p\n', pad, e * 4, start, end);
  const share = SHARES[entry.inheritance[e]] ?? String(entry.inheritance[e]);
  const prot = [entry.protection[e], entry.max_protection[e], share];
  db_printf(db, '%s prot=%x/%x/%s', pad, ...prot);
  if (entry.wired_count[e] !== 0) db_puts(db, ', wired');
  const flags = entry.eflags[e];
  const shown = entry.object[e];
  const offset = ptoa(entry.offset[e] >>> 0);
  if (flags & MAP_ENTRY_IS_SUB_MAP) {
    db_printf(db, ', share=%p, offset=0x%x\n', shown * 4, offset);
    if (shown !== at.before && depth < DEPTH_MAX && db_pointer(shown, map.sizeof)) {
      map_print(at, shown as number as vm_map_t, depth + 1);
    }
  } else {
    db_printf(db, ', object=%p, offset=0x%x', shown * 4, offset);
    if (flags & MAP_ENTRY_COW) {
      db_printf(db, ', copy (%s)', flags & MAP_ENTRY_NEEDS_COPY ? 'needed' : 'done');
    }
    db_puts(db, '\n');
    if (shown !== 0 && shown !== at.before) {
      if (!db_pointer(shown, object.sizeof)) throw new DdbError('Its object is not in the memory');
      object_print(db, shown, true, `${pad}  `);
    }
  }
  at.before = shown;
}
/** The member of a list at an address. */
function listed<P extends number>(a: DdbArgs, what: string, words: number, all: Iterable<P>): P {
  const p = db_record(a.addr, what, words);
  for (const other of all) if (other === p) return other;
  throw new DdbError(`${db_hex(a.addr)}: ${what} does not begin there`);
}
DB_SHOW_COMMAND('map', 'An address space; without an address, all of them', (a) => {
  const { db, have_addr } = a;
  if (!have_addr) {
    for (const mp of db_maps(db)) map_head(db, mp);
    return;
  }
  map_print({ db, before: 0 }, listed(a, 'a map', map.sizeof, db_maps(db)), 0);
});

// --- objects --------------------------------------------------------------------------------

/** What the indexes of an object lead to, in the order of page numbers. */
function* pages_of(db: Ddb, o: vm_object_t): Generator<[index: number, m: number]> {
  const t = field_word(object.index, o) as vm_radix_t;
  const height = vm_radix.height[t];
  const root = vm_radix.root[t];
  if (!(height >= 0 && height <= RADIX_HEIGHT_MAX)) throw new DdbError('Its index is wrong');
  if (root === 0) return;
  if (height === 0) yield [0, root];
  else yield* pages_below(db, root, height, 0);
}
function* pages_below(
  db: Ddb,
  n: vm_radix_node_t,
  level: number,
  base: number,
): Generator<[index: number, m: number]> {
  if (!db_pointer(n, vm_radix_node.sizeof)) throw new DdbError('Its index leads out of the memory');
  db_check(db);
  const width = 2 ** ((level - 1) * RADIX_BITS);
  for (let i = 0; i < RADIX_SLOTS; i++) {
    const v = vm_radix_node.slot[elem(n, i)];
    if (v === 0) continue;
    const at = base + i * width;
    if (level === 1) yield [at, v];
    else yield* pages_below(db, v as vm_radix_node_t, level - 1, at);
  }
}
/** Whether an entry of an index is a page of memory; others are slots of the swap area. */
function is_page(o: vm_object_t, m: number): boolean {
  if (!(m > 0 && m < machine.npages[M])) return false;
  return (vm_page.info[m] & PK_MASK) === PK_OBJECT && vm_page.owner[m] === o;
}
const PER_LINE = 6;
function object_print(db: Ddb, o: vm_object_t, full: boolean, pad: string): void {
  db_printf(
    db,
    '%sObject %p: type=%d, size=0x%x, res=%d, ref=%d, flags=0x%x\n',
    pad,
    o * 4,
    object.type[o],
    object.size[o] >>> 0,
    object.resident[o],
    object.refs[o],
    object.flags[o],
  );
  const below = [object.shadow_count[o], object.backing[o] === 0 ? 0 : 1, object.backing[o] * 4];
  const offset = ptoa(object.backing_offset[o] >>> 0);
  db_printf(db, '%s sref=%d, backing_object(%d)=(%p)+0x%x\n', pad, ...below, offset);
  if (!full) return;
  let n = 0;
  for (const [index, v] of pages_of(db, o)) {
    if (n === 0) db_printf(db, '%s  memory:=', pad);
    else if (n % PER_LINE === 0) db_printf(db, '\n%s   ...', pad);
    else db_puts(db, ',');
    db_puts(db, is_page(o, v) ? page_text(index, v) : slot_text(index, v));
    n++;
  }
  if (n > 0) db_puts(db, '\n');
}
function page_text(index: number, m: number): string {
  return `(off=${db_hex(index)},page=${db_hex(ptoa(m))})`;
}
/** What has no page in memory is in the swap area, or in a page of the kernel's own. */
function slot_text(index: number, v: number): string {
  const slot = -v & ~SLOT_TWICE;
  if (v < 0 && slot <= SLOT_MAX) return `(off=${db_hex(index)},swap=${slot})`;
  return page_text(index, v);
}
DB_SHOW_COMMAND('object', 'A memory object; without an address, all of them', (a) => {
  const { db, have_addr } = a;
  if (!have_addr) {
    for (const o of db_objects(db)) object_print(db, o, false, '');
    return;
  }
  object_print(db, listed(a, 'an object', object.sizeof, db_objects(db)), true, '');
});

// --- consistency -----------------------------------------------------------------------------

/** Objects that maps show, and those below them. */
function mapped_objects(db: Ddb): Set<number> {
  const mapped = new Set<number>();
  for (const mp of db_maps(db)) {
    for (const e of db_entries(db, mp)) {
      if (entry.eflags[e] & MAP_ENTRY_IS_SUB_MAP) continue;
      let o = entry.object[e];
      while (o !== 0 && !mapped.has(o) && db_pointer(o, object.sizeof)) {
        mapped.add(o);
        o = object.backing[o];
      }
    }
  }
  return mapped;
}
DB_SHOW_COMMAND('vmochk', 'Anonymous objects that nothing refers to, or no map shows', ({ db }) => {
  const mapped = mapped_objects(db);
  for (const o of db_objects(db)) {
    const type = object.type[o];
    if (object.handle[o] !== 0 || (type !== OBJT_DEFAULT && type !== OBJT_SWAP)) continue;
    if (object.refs[o] === 0) {
      db_printf(db, 'vmochk: internal obj has zero ref count: %d\n', object.size[o]);
    }
    if (mapped.has(o)) continue;
    const { refs, size, backing } = object;
    db_printf(
      db,
      'vmochk: internal obj is not in a map: ref: %d, size: %u: 0x%x, backing_object: %p\n',
      ...[refs[o], size[o], size[o] * PAGE_SIZE, backing[o] * 4],
    );
  }
});
