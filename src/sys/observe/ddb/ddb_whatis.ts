/*
 * ddb_whatis: what lies at an address, all the way down.
 *
 *      whatis 0x12a40
 *        0x12a40 is 0x40 bytes into page 0x12, malloc 64
 *        slab 0x12fc0 of keg 0x1f00, item 41 of 62, from 0x12a00 on
 *        a block of 64 bytes, in a bucket of CPU 1
 *        before it 0x129c0: in use; behind it 0x12a40: free in its slab
 *
 * An item that its slab does not have may be in use, or in a bucket: of a CPU's cache, of the zone,
 * or on its way between the two.  So all buckets of the zones on its keg are looked through.
 */
import { cpu_slots } from '../../machine/cpu.ts';
import { M, machine } from '../../machine/header.ts';
import { mem, PAGE_SIZE, word_page } from '../../machine/memory.ts';
import { elem, field_word } from '../../machine/struct.ts';
import {
  type bucket_t,
  type keg_t,
  SLAB_HEAD_WORDS,
  type slab_t,
  uma_bucket,
  uma_cache,
  uma_keg,
  uma_slab,
  uma_zone,
  type zone_t,
} from '../../h/uma.ts';
import { PK_MALLOC_END, PK_MARKED, PK_MASK, PK_SLAB, vm_page } from '../../h/vm_page.ts';
import { whatis } from '../../kmem/kern_whatis.ts';
import { cache_of } from '../../uma/uma_int.ts';
import { db_pointer, db_there, db_walk } from './ddb_access.ts';
import { DB_COMMAND } from './ddb_command.ts';
import { db_page_kind } from './ddb_flags.ts';
import { db_item_note } from './ddb_leaks.ts';
import { type Ddb, DdbError, db_hex, db_printf, db_puts } from './ddb_session.ts';
import { db_keg_items, db_slab_at, db_zone_name } from './ddb_uma.ts';

/** An item of a slab. */
export interface DbItem {
  readonly s: slab_t;
  readonly k: keg_t;
  readonly number: number;
  /** Its first word. */
  readonly at: number;
}
/** The item that a word lies in; null: it is in no slab, or in the header of one. */
export function db_item_at(w: number): DbItem | null {
  const m = word_page(w);
  if (!(m > 0 && m < machine.npages[M])) return null;
  const info = vm_page.info[m] & ~PK_MARKED;
  if ((info & PK_MASK) !== PK_SLAB && !(info < PK_MALLOC_END)) return null;
  const s = vm_page.owner[m] as slab_t;
  if (!db_pointer(s, SLAB_HEAD_WORDS)) return null;
  const k = uma_slab.keg[s];
  if (!db_pointer(k, uma_keg.sizeof) || !(uma_keg.rsize[k] > 0)) return null;
  const words = uma_keg.rsize[k] / 4;
  const number = Math.floor((w - uma_slab.data[s]) / words);
  if (number < 0 || number >= db_keg_items(k)) return null;
  return { s, k, number, at: uma_slab.data[s] + number * words };
}
/** Zones on a keg. */
function* zones_of(db: Ddb, k: keg_t): Generator<zone_t> {
  const first = uma_keg.zones[k];
  const words = uma_zone.sizeof;
  yield* db_walk(db, { what: 'zones of a keg', first, words, next: (z) => uma_zone.link[z] });
}
function in_bucket(b: bucket_t, item: number): boolean {
  if (!db_pointer(b, uma_bucket.sizeof)) return false;
  const n = uma_bucket.cnt[b];
  if (!(n > 0 && n <= 4096 && db_there(field_word(uma_bucket.item, b) * 4, n * 4))) return false;
  for (let i = 0; i < n; i++) if (uma_bucket.item[elem(b, i)] === item) return true;
  return false;
}
/** Which bucket has an item; '' if none. */
function bucket_with(db: Ddb, k: keg_t, item: number): string {
  for (const z of zones_of(db, k)) {
    for (let cpu = 0; cpu < cpu_slots(); cpu++) {
      const c = cache_of(z, cpu);
      const all = [uma_cache.cur[c], uma_cache.spare[c]];
      const moving = [uma_cache.hand[c], uma_cache.fill[c], uma_cache.drain[c]];
      if (all.some((b) => in_bucket(b, item))) return `free, in a bucket of CPU ${cpu}`;
      if (moving.some((b) => in_bucket(b, item))) return `free, on its way at CPU ${cpu}`;
    }
    const first = uma_zone.full_buckets[z];
    const words = uma_bucket.sizeof;
    const list = { what: 'full buckets', first, words, next: (b: bucket_t) => uma_bucket.link[b] };
    for (const b of db_walk(db, list)) {
      if (in_bucket(b, item)) return `free, in a bucket of zone ${db_zone_name(z)}`;
    }
  }
  return '';
}
/** Whether an item is in use, and if not, where it is. */
export function db_item_state(db: Ddb, { s, k, number, at }: DbItem): string {
  const bit = mem.I32[s + SLAB_HEAD_WORDS + (number >> 5)] & (1 << (number & 31));
  if (bit !== 0) return 'free in its slab';
  return bucket_with(db, k, at) || 'in use';
}
function neighbour(db: Ddb, item: DbItem, by: number): string {
  const number = item.number + by;
  if (number < 0 || number >= db_keg_items(item.k)) return 'nothing: it is the edge of the slab';
  const at = item.at + (by * uma_keg.rsize[item.k]) / 4;
  return `${db_hex(at * 4)}: ${db_item_state(db, { ...item, number, at })}`;
}
DB_COMMAND('whatis', 'What lies at an address: page, slab, item, its neighbours', (a) => {
  const { db, addr, have_addr } = a;
  if (!have_addr) throw new DdbError('Usage: whatis ADDRESS');
  const w = Math.floor(addr / 4);
  const m = word_page(w);
  if (!db_there(addr, 1)) throw new DdbError(`${db_hex(addr)}: no memory of this machine`);
  const info = vm_page.info[m];
  const into = db_hex(addr - m * PAGE_SIZE);
  db_printf(db, '%s is %s bytes into page %s: ', db_hex(addr), into, db_hex(m));
  db_printf(db, '%s\n', db_page_kind(info));
  db_printf(db, '  %s\n', whatis(w));
  const item = db_item_at(w);
  if (item === null) return slab_of(db, addr, info);
  const { s, k, number, at } = item;
  const of = [db_hex(s * 4), db_hex(k * 4), number, db_keg_items(k), db_hex(at * 4)];
  db_printf(db, '  slab %s of keg %s, item %d of %d, from %s on\n', ...of);
  for (const z of zones_of(db, k)) db_printf(db, '  zone %s at %p\n', db_zone_name(z), z * 4);
  db_printf(db, '  %s\n', db_item_state(db, item));
  db_printf(db, '  before it %s\n', neighbour(db, item, -1));
  db_printf(db, '  behind it %s\n', neighbour(db, item, 1));
  db_item_note(db, at);
});
/** On a page of a slab, but in no item of it. */
function slab_of(db: Ddb, addr: number, info: number): void {
  if ((info & PK_MASK) !== PK_SLAB && !((info & ~PK_MARKED) < PK_MALLOC_END)) return;
  db_puts(db, `  the header, or the rest, of slab ${db_hex(db_slab_at(addr) * 4)}\n`);
}
