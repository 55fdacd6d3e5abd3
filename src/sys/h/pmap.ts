/*
 * pmap (header): page tables, and where a page is mapped.
 *
 *      pmap    index: page number >> 10 ──> page table ──> PTE of each of 1024 pages
 *      page    first mapping ──> pv_entry ──> pv_entry            the other way round
 *      CPU     a set of tags for each of the address spaces that it used last
 *
 * A page table entry is a word: the page's frame, which is its first word, and flags in the
 * ten bits below, which a frame leaves free.
 *
 * A CPU's set is a page of memory: tags of loads, then those of stores, each with its frame.
 *
 *      word 0                          512
 *      | tag frame | tag frame | ...   | tag frame | tag frame | ...
 *        256 pairs: loads                256 pairs: stores
 *
 * A tag is a page number, or -1.  Which pair a page has is told by the low eight bits of
 * its number.  Whoever has the tag of a page may use the frame beside it.
 *
 * Once there are superpages a CPU has a further page, with 32 pairs for loads and 32 for stores in
 * each of its sets: the tag is a page number >> 10 there, the frame that of the first of 1024
 * pages.
 */
import { i32, lock_words, type Ptr, ptr, struct, words } from '../machine/struct.ts';

export type pmap_t = Ptr<'pmap'>;
export type pmap_root_t = Ptr<'pmap_root'>;
export type pv_entry_t = Ptr<'pv_entry'>;
export type pv_list_t = Ptr<'pv_list'>;

/* Page table entries. */
export const PTE_VALID = 1;
export const PTE_WRITE = 2;
/** The mapping is wired: it stays until it is taken away by name. */
export const PTE_WIRED = 4;
export const PTE_FLAGS = 1023;
/** Entries of a page table, as a power of two. */
export const TABLE_SHIFT = 10;
export const TABLE_ENTRIES = 1 << TABLE_SHIFT;
/** Bytes of memory from which on superpages, of a table each, are worth their while. */
export const SUPER_MEMORY_MIN = 64 * 2 ** 20;

/* Sets of tags. */
export const TLB_ENTRIES = 256;
/** From the tag of a load to that of a store to the same page. */
export const TLB_STORES = TLB_ENTRIES * 2;
export const TLB_NONE = -1;
/* Tags of superpages: a page for all sets of a CPU, laid out alike. */
export const SUPER_TAGS = 32;
/** From the tag of a load to that of a store to the same superpage. */
export const SUPER_STORES = SUPER_TAGS * 2;
/** Words of a set. */
export const SUPER_WORDS = SUPER_TAGS * 4;

/** Words of a vm_radix. */
const RADIX_WORDS = 6;
/** Words of a bit for each CPU slot, the spare ones included. */
export const CPUSET_WORDS = 3;
/** Lists of mappings have one lock for every so many pages. */
export const PV_LISTS = 64;
const PV_LIST_WORDS = 4;

/*
 * Locks: (s) the pmap's  (c) constant once up  (h) read by all, for a sample
 *        (v) the lock of the page's list
 */
export const pmap = struct<pmap_t>(
  'pmap',
  16,
)({
  lock: lock_words(4, 'pmap', 'page tables, and who translates by them'),
  resident: i32('sh', 'pages that are mapped'),
  wired: i32('sh', 'mappings that are wired'),
  tables: i32('sh', 'page tables'),
  supers: i32('sh', 'of them superpages: their entries are one'),
  super_failed: i32('s', 'the entry of a table that kept it last from being one'),
  table_key: i32('sh', 'of the table that was used last: page number >> 10; -1: none'),
  table: i32('sh', 'page of that table'),
  active: words('sh', 'CPUs that have a set of tags for it, a bit each', CPUSET_WORDS),
  index: words(
    '-',
    'its tables by page number >> 10, negative those of superpages: a vm_radix',
    RADIX_WORDS,
  ),
});
export const pv_entry = struct<pv_entry_t>('pv_entry')({
  page: i32('c', 'the page'),
  pmap: ptr<pmap_t>('v', 'who maps it'),
  at: i32('v', 'as which page number'),
  next: ptr<pv_entry_t>('v', 'another mapping of the same page'),
});
export const pv_list = struct<pv_list_t>('pv_list')({
  lock: lock_words(PV_LIST_WORDS, 'pv list', 'mappings of every 64th page'),
});
export const pmap_root = struct<pmap_root_t>(
  'pmap_root',
  32,
)({
  lists: words('-', 'locks of the lists of mappings', PV_LISTS * PV_LIST_WORDS),
  zone: i32('c', 'zone of pmaps'),
  nodes: i32('c', 'zone of the nodes of their indexes'),
  entries: i32('c', 'zone of pv entries'),
});
