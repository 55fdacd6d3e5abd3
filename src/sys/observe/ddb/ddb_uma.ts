/*
 * ddb_uma: what the allocators hold.
 *
 *      show malloc          types: blocks and memory in use, requests, as vmstat -m
 *      show uma             zones: used and free, requests, sleeps
 *      show zone ADDR       one zone, its keg with all slabs, and the caches of its CPUs
 *      show keg ADDR        a keg with its slabs
 *      show slab ADDR       a slab: which of its items are free
 *
 * An address may be a name: `show zone conn`, `show keg "64"`.  A zone or a keg is one only if the
 * kernel's lists lead to it, so that no table of numbers is read as one.
 */
import { cpu_slots } from '../../machine/cpu.ts';
import { M, machine, ROOT_MALLOC, ROOT_UMA } from '../../machine/header.ts';
import { mem, word_page } from '../../machine/memory.ts';
import { elem, get_string } from '../../machine/struct.ts';
import { kprintf } from '../../machine/subr_prf.ts';
import {
  M_MAGIC,
  malloc_root,
  type malloc_root_t,
  MALLOC_NAME_WORDS,
  malloc_type,
  type malloc_type_t,
  MALLOC_TYPE_HEAD,
} from '../../h/malloc.ts';
import {
  type bucket_t,
  type keg_t,
  SLAB_HEAD_WORDS,
  type slab_t,
  UMA_NAME_WORDS,
  uma_bucket,
  uma_cache,
  uma_keg,
  uma_slab,
  UMA_ZFLAG_GOING,
  uma_zone,
  type zone_t,
} from '../../h/uma.ts';
import { PK_MALLOC_END, PK_MARKED, PK_MASK, PK_SLAB, vm_page } from '../../h/vm_page.ts';
import { malloc_type_sums } from '../../kmem/kern_malloc_sums.ts';
import { cache_of, uma_root, type uma_root_t } from '../../uma/uma_int.ts';
import { SLAB_ITEMS_MAX } from '../../uma/uma_keg.ts';
import { zone_present } from '../../uma/uma_stats.ts';
import { db_pointer, db_record, db_walk } from './ddb_access.ts';
import { DB_SHOW_COMMAND, type DdbArgs, db_symbols } from './ddb_command.ts';
import type { DbSymbols } from './ddb_expr.ts';
import { db_flags, ZONE_FLAGS } from './ddb_flags.ts';
import { type Ddb, DdbError, db_hex, db_printf, db_puts, ddb_session } from './ddb_session.ts';

const zone = uma_zone;
const keg = uma_keg;

// --- lists --------------------------------------------------------------------------------

/** The record that an anchor of the machine leads to. */
export function db_root(which: number, words: number, what: string): number {
  const p = machine.roots[elem(M, which)];
  if (p !== 0 && db_pointer(p, words)) return p;
  throw new DdbError(p === 0 ? `There are no ${what} yet` : `The ${what} are not in the memory`);
}
/** All kegs, newest first. */
export function* db_kegs(db: Ddb): Generator<keg_t> {
  const r = db_root(ROOT_UMA, uma_root.sizeof, 'zones') as uma_root_t;
  const first = uma_root.kegs[r];
  yield* db_walk(db, { what: 'kegs', first, words: keg.sizeof, next: (k) => keg.link[k] });
}
/** All zones, newest keg first. */
export function* db_zones(db: Ddb): Generator<zone_t> {
  for (const k of db_kegs(db)) {
    const first = keg.zones[k];
    const words = zone.sizeof;
    yield* db_walk(db, { what: 'zones of a keg', first, words, next: (z) => zone.link[z] });
  }
}
/** All malloc types, newest first. */
export function* db_types(db: Ddb): Generator<malloc_type_t> {
  const r = db_root(ROOT_MALLOC, malloc_root.sizeof, 'malloc types') as malloc_root_t;
  yield* db_walk(db, {
    what: 'malloc types',
    first: malloc_root.types[r],
    words: MALLOC_TYPE_HEAD,
    next: (t) => malloc_type.next[t],
  });
}
export function db_zone_name(z: zone_t): string {
  return get_string(zone.name, z, UMA_NAME_WORDS);
}
export function db_type_name(t: malloc_type_t): string {
  return get_string(malloc_type.name, t, MALLOC_NAME_WORDS);
}
/** A zone or a keg by the name of a zone. */
function by_name(of: (z: zone_t) => number): DbSymbols {
  return (name) => {
    const quiet = ddb_session({ print: () => {} });
    for (const z of db_zones(quiet)) if (db_zone_name(z) === name) return of(z) * 4;
    return undefined;
  };
}
const zone_named = by_name((z) => z);
const keg_named = by_name((z) => zone.keg[z]);
/** A type by its name. */
export const type_named: DbSymbols = (name) => {
  const quiet = ddb_session({ print: () => {} });
  for (const t of db_types(quiet)) if (db_type_name(t) === name) return t * 4;
  return undefined;
};
db_symbols(zone_named);
db_symbols(type_named);

// --- tables --------------------------------------------------------------------------------

const kilobytes = (bytes: number): number => Math.floor((bytes + 1023) / 1024);
DB_SHOW_COMMAND('malloc', 'Malloc types: in use, memory, requests; /i for a program', (a) => {
  const { db, modif } = a;
  if (modif !== '' && modif !== 'i') throw new DdbError(`Bad modifier '${modif}': i`);
  const csv = modif === 'i';
  if (csv) db_puts(db, 'Type,InUse,MemUse,Requests\n');
  else db_printf(db, '%18s %12s  %12s %12s\n', 'Type', 'InUse', 'MemUse', 'Requests');
  for (const t of db_types(db)) {
    const { inuse, bytes, requests } = malloc_type_sums(t);
    const row = [db_type_name(t), inuse, kilobytes(bytes), requests];
    db_printf(db, csv ? '"%s",%d,%dK,%d\n' : '%18s %12d %12dK %12d\n', ...row);
  }
});
DB_SHOW_COMMAND('uma', 'Zones: item size, used, free, requests, sleeps', ({ db }) => {
  const titles = ['Zone', 'Size', 'Used', 'Free', 'Requests', 'Sleeps'];
  db_printf(db, '%18s %8s %8s %8s %12s %8s\n', ...titles);
  for (const z of db_zones(db)) {
    if (zone.flags[z] & UMA_ZFLAG_GOING) continue;
    const { used, free, allocs, sleeps } = zone_present(z);
    const row = [db_zone_name(z), zone.size[z], used, free, allocs, sleeps];
    db_printf(db, '%18s %8d %8d %8d %12d %8d\n', ...row);
  }
});
DB_SHOW_COMMAND(
  'multizone_matches',
  'Malloc types whose blocks come from the same zones as those of a type',
  ({ db, addr, have_addr }) => {
    if (!have_addr) return db_puts(db, 'Usage: show multizone_matches <malloc type addr>\n');
    const t = db_record(addr, 'a malloc type', MALLOC_TYPE_HEAD) as malloc_type_t;
    const magic = malloc_type.magic[t];
    if (magic === M_MAGIC) return same_zones(db);
    throw new DdbError(kprintf('Magic %x does not match expected %x', magic, M_MAGIC));
  },
  { symbols: type_named },
);
/** Each size has one zone here, so all types share it. */
function same_zones(db: Ddb): void {
  for (const t of db_types(db)) db_printf(db, '%s\n', db_type_name(t));
}

// --- one of them -----------------------------------------------------------------------------

function zone_at({ db, addr, have_addr }: DdbArgs): zone_t {
  if (!have_addr) throw new DdbError('Which zone? show zone NAME, or its address');
  const z = db_record(addr, 'a zone', zone.sizeof) as zone_t;
  for (const other of db_zones(db)) if (other === z) return z;
  throw new DdbError(`${db_hex(addr)}: no zone begins there`);
}
function keg_at({ db, addr, have_addr }: DdbArgs): keg_t {
  if (!have_addr) throw new DdbError('Which keg? show keg NAME-OF-A-ZONE, or its address');
  const k = db_record(addr, 'a keg', keg.sizeof) as keg_t;
  for (const other of db_kegs(db)) if (other === k) return k;
  throw new DdbError(`${db_hex(addr)}: no keg begins there`);
}
/** The first free item of a slab, as a number; its number of items if none is. */
function first_free(s: slab_t, n: number): number {
  for (let i = 0; i < n; i++) if (item_free(s, i)) return i;
  return n;
}
function item_free(s: slab_t, i: number): boolean {
  return (mem.I32[s + SLAB_HEAD_WORDS + (i >> 5)] & (1 << (i & 31))) !== 0;
}
/** Items of a slab of the keg, as far as its number can be one. */
export function db_keg_items(k: keg_t): number {
  const n = keg.ipers[k];
  return n >= 0 && n <= SLAB_ITEMS_MAX ? n : 0;
}
function slab_line(db: Ddb, s: slab_t, k: keg_t): void {
  const [data, count] = [uma_slab.data[s], uma_slab.freecount[s]];
  const first = first_free(s, db_keg_items(k));
  const format = 'slab: keg %p, data %p, freecount %d, firstfree %d\n';
  db_printf(db, format, uma_slab.keg[s] * 4, data * 4, count, first);
}
function keg_print(db: Ddb, k: keg_t, name: string): void {
  const ipers = db_keg_items(k);
  const ppera = Math.max(1, keg.ppera[k]);
  const out = (keg.pages[k] / ppera) * ipers - keg.free[k] - keg.withheld[k];
  const limit = Math.floor(keg.maxpages[k] / ppera) * ipers;
  const flags = `${db_hex(keg.flags[k] >>> 0)}${db_flags(keg.flags[k], ZONE_FLAGS)}`;
  db_puts(
    db,
    `keg: ${name}(${db_hex(k * 4)}) size ${keg.size[k]}(${keg.rsize[k]}) flags ${flags} ` +
      `ipers ${ipers} ppera ${ppera} out ${out} free ${keg.free[k]} limit ${limit}\n`,
  );
  const lists: [string, slab_t][] = [
    ['Part slabs:', keg.part[k]],
    ['Free slabs:', keg.free_slabs[k]],
    ['Full slabs:', keg.full[k]],
  ];
  for (const [title, first] of lists) {
    if (first === 0) continue;
    db_printf(db, '%s\n', title);
    const words = SLAB_HEAD_WORDS;
    const what = `${title.slice(0, -1)} of ${name}`;
    for (const s of db_walk(db, { what, first, words, next: (at) => uma_slab.next[at] })) {
      slab_line(db, s, k);
    }
  }
}
function bucket_text(b: bucket_t): string {
  const n = db_pointer(b, uma_bucket.sizeof) ? uma_bucket.cnt[b] : 0;
  return `${db_hex(b * 4)}(${n})`;
}
function zone_print(db: Ddb, z: zone_t): void {
  const name = db_zone_name(z);
  const flags = `${db_hex(zone.flags[z] >>> 0)}${db_flags(zone.flags[z], ZONE_FLAGS)}`;
  db_puts(db, `zone: ${name}(${db_hex(z * 4)}) size ${zone.size[z]} flags ${flags}\n`);
  const kegs = Math.min(Math.max(zone.nkegs[z], 0), 8);
  for (let i = 0; i < kegs; i++) {
    const k = zone.kegs[elem(z, i)] as keg_t;
    if (!db_pointer(k, keg.sizeof)) throw new DdbError(`${name}: its keg is not in the memory`);
    keg_print(db, k, name);
  }
  for (let cpu = 0; cpu < cpu_slots(); cpu++) {
    const c = cache_of(z, cpu);
    const [cur, spare] = [uma_cache.cur[c], uma_cache.spare[c]];
    if (!held(cur) && !held(spare)) continue;
    db_printf(db, 'CPU %d Cache:\n', cpu);
    db_puts(db, `alloc: ${bucket_text(cur)}, free: ${bucket_text(spare)}\n`);
  }
}
/** A bucket with items: the one without items is everybody's. */
function held(b: bucket_t): boolean {
  return b !== 0 && db_pointer(b, uma_bucket.sizeof) && uma_bucket.cnt[b] > 0;
}
DB_SHOW_COMMAND('zone', 'A zone: its kegs, slabs and caches', (a) => zone_print(a.db, zone_at(a)), {
  symbols: zone_named,
});
DB_SHOW_COMMAND(
  'keg',
  'A keg and its slabs, by the name of a zone too',
  (a) => {
    const k = keg_at(a);
    const z = keg.zones[k];
    keg_print(a.db, k, db_pointer(z, zone.sizeof) ? db_zone_name(z) : '?');
  },
  { symbols: keg_named },
);
/** The slab at an address: its header, or anything on its pages. */
export function db_slab_at(addr: number): slab_t {
  const w = Math.floor(addr / 4);
  const m = word_page(w);
  if (m < machine.npages[M]) {
    const info = vm_page.info[m] & ~PK_MARKED;
    const s = vm_page.owner[m] as slab_t;
    const slab = (info & PK_MASK) === PK_SLAB || info < PK_MALLOC_END;
    // A header off the pages of its slab lies on a page of another one: of the zone of headers.
    if (slab && header_at(w as slab_t)) return w as slab_t;
    if (slab && db_pointer(s, SLAB_HEAD_WORDS)) return s;
  }
  throw new DdbError(`${db_hex(addr)}: no slab is there`);
}
/** Whether the word is the header of a slab: its first page says so. */
function header_at(s: slab_t): boolean {
  if (!db_pointer(s, SLAB_HEAD_WORDS)) return false;
  const m = uma_slab.page[s];
  return m > 0 && m < machine.npages[M] && vm_page.owner[m] === s;
}
DB_SHOW_COMMAND('slab', 'A slab, by its header or anything in it: its items', (a) => {
  const { db, addr, have_addr } = a;
  if (!have_addr) throw new DdbError('Which slab? Give an address in it');
  const s = db_slab_at(addr);
  const k = uma_slab.keg[s];
  if (!db_pointer(k, keg.sizeof)) throw new DdbError('Its keg is not in the memory');
  slab_line(db, s, k);
  const step = keg.rsize[k];
  for (let i = 0; i < db_keg_items(k); i++) {
    const at = uma_slab.data[s] * 4 + i * step;
    db_printf(db, '  %3d %s %s\n', i, db_hex(at), item_free(s, i) ? 'free' : 'out');
  }
});
