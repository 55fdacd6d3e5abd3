/*
 * vm_map (header): address spaces, and what is where in them.
 *
 *      map   [min ........................................ max]     page numbers
 *              |  entry  |  hole  | entry | entry |   hole
 *                  |                  |       |
 *                object             object  (none yet: zeros)
 *
 * A map covers the pages from its min up to its max, at most 2^31 - 1.  An entry says: these
 * pages show that object from its page `offset` on, and may be used so.  Entries do not
 * overlap.  They stand in a ring in the order of their addresses, which begins and ends at the
 * header inside the map's record, and in a tree.  The header's `end` is where the map begins
 * and its `start` where it ends, so that holes are from one's end to the next one's start
 * everywhere.
 *
 * The sizes of a process stand in the record of its map, as struct vmspace has its map inside,
 * and so do its limits and the names of its addresses (vm_bank.ts).
 */
import { i32, lock_words, type Ptr, ptr, struct, words } from '../machine/struct.ts';
import { CPUSET_WORDS, type pmap_t } from './pmap.ts';
import type { vm_object_t } from './vm_object.ts';
import type { vm_hold_t } from './vm_hold.ts';
import type { vm_region_t } from './vm_region.ts';
import type { vm_window_run_t } from './vm_window.ts';

export type vm_map_t = Ptr<'vm_map'>;
export type vm_map_entry_t = Ptr<'vm_map_entry'>;
export type vm_map_root_t = Ptr<'vm_map_root'>;

/* Results. */
export const KERN_SUCCESS = 0;
export const KERN_INVALID_ADDRESS = 1;
export const KERN_PROTECTION_FAILURE = 2;
export const KERN_NO_SPACE = 3;
export const KERN_INVALID_ARGUMENT = 4;
export const KERN_FAILURE = 5;
export const KERN_RESOURCE_SHORTAGE = 6;
/** Beyond the end of what is mapped. */
export const KERN_OUT_OF_BOUNDS = 9;
/** A window is open there (vm_window.ts). */
export const KERN_BUSY = 11;
/** This thread may not block, and would have to. */
export const KERN_ABORTED = 14;

/* What a fork makes of an entry. */
export const VM_INHERIT_SHARE = 0;
export const VM_INHERIT_COPY = 1;
export const VM_INHERIT_NONE = 2;
export const VM_INHERIT_ZERO = 3;

/* Flags of an entry. */
export const MAP_ENTRY_NOSYNC = 0x0001;
export const MAP_ENTRY_IS_SUB_MAP = 0x0002;
/** Writes go to a copy. */
export const MAP_ENTRY_COW = 0x0004;
/** Others see the object: before a write the entry gets a shadow of it. */
export const MAP_ENTRY_NEEDS_COPY = 0x0008;
/** A fault in it is an error of the kernel. */
export const MAP_ENTRY_NOFAULT = 0x0010;
export const MAP_ENTRY_USER_WIRED = 0x0020;
export const MAP_ENTRY_BEHAV_SEQUENTIAL = 0x0040;
export const MAP_ENTRY_BEHAV_RANDOM = 0x0080;
/** A thread works on it with the map let go: nobody merges or deletes it. */
export const MAP_ENTRY_IN_TRANSITION = 0x0100;
/** Somebody sleeps until that is over. */
export const MAP_ENTRY_NEEDS_WAKEUP = 0x0200;
export const MAP_ENTRY_NOCOREDUMP = 0x0400;
export const MAP_ENTRY_GROWS_DOWN = 0x1000;
export const MAP_ENTRY_GROWS_UP = 0x2000;
/** Of a system map: it has no reference to its object, which is the kernel's (h/vm_kern.ts). */
export const MAP_ENTRY_KERNEL = 0x10000;
/** Of a guarded block: the page before it and the one behind it are nobody's. */
export const MAP_ENTRY_GUARDED = 0x20000;
/** Of a guarded block: it is an item of a zone, not of a malloc type. */
export const MAP_ENTRY_ITEM = 0x40000;
/** Its pages are to be superpages where they can: runs are set aside for them. */
export const MAP_ENTRY_SUPER = 0x80000;

/* How to insert. */
export const MAP_COPY_ON_WRITE = 0x0002;
export const MAP_NOFAULT = 0x0004;
export const MAP_DISABLE_SYNCER = 0x0020;
export const MAP_DISABLE_COREDUMP = 0x0100;
export const MAP_STACK_GROWS_DOWN = 0x1000;
export const MAP_STACK_GROWS_UP = 0x2000;
export const MAP_SUPERPAGES = 0x4000;

/* How to find a place. */
/** Exactly there, or not at all. */
export const VMFS_NO_SPACE = 0;
/** The first place from there on. */
export const VMFS_ANY_SPACE = 1;
/** The same, so that large pages of the object begin at multiples of their size. */
export const VMFS_ALIGNED_SPACE = 2;
/** Such a place if there is one, else any. */
export const VMFS_OPTIMAL_SPACE = 4;
/** The last place that ends there or before. */
export const VMFS_TOPDOWN_SPACE = 8;
/** Pages of a superpage, 4 MiB: those of a page table. */
export const VM_SUPER_PAGES = 1024;

/* Advice. */
export const MADV_NORMAL = 0;
export const MADV_RANDOM = 1;
export const MADV_SEQUENTIAL = 2;
export const MADV_WILLNEED = 3;
export const MADV_DONTNEED = 4;
export const MADV_FREE = 5;
export const MADV_NOSYNC = 6;
export const MADV_AUTOSYNC = 7;
export const MADV_NOCORE = 8;
export const MADV_CORE = 9;
/** Not BSD's: as MADV_DONTNEED, by who has passed by and is in a hurry: nothing is looked at. */
export const MADV_BEHIND = 100;

/* Whose wiring it is, and whether holes are passed over: both are said by every caller. */
export const VM_MAP_WIRE_SYSTEM = 0;
export const VM_MAP_WIRE_USER = 1;
export const VM_MAP_WIRE_NOHOLES = 0;
export const VM_MAP_WIRE_HOLESOK = 2;

/** Words of an entry; the header of a map is one. */
const ENTRY_WORDS = 24;
/** A map covers pages below this number. */
export const VM_MAP_MAX = 2 ** 31 - 1;
/* Whose addresses a map has. */
/** A program's. */
export const VM_MAP_USER = 0;
/** The kernel's, under a mutex: entries of a zone of their own, pages that stay (vm_kern.ts). */
export const VM_MAP_SYSTEM = 1;
/** A part of the kernel's with entries, faults and paging as a program's. */
export const VM_MAP_PAGED = 2;
/** Parts of a map that have addresses of their own (vm_bank.ts). */
export const VM_BANKS = 8;

/*
 * Locks: (m) that of the map; of an entry that is in no map, whoever has it
 *        (i) the same, but a shared hold suffices to store it
 */
export const vm_map_entry = struct<vm_map_entry_t>(
  'vm_map_entry',
  8,
)({
  start: i32('m', 'first page'),
  end: i32('m', 'first page beyond'),
  left: ptr<vm_map_entry_t>('m', 'tree: those below'),
  right: ptr<vm_map_entry_t>('m', 'tree: those above'),
  object: ptr<vm_object_t>('m', 'what is mapped; 0: nothing yet; of a submap, that map'),
  offset: i32('m', "the object's page at `start`"),
  eflags: i32('m', 'MAP_ENTRY_*'),
  protection: i32('m', 'VM_PROT_*'),
  next: ptr<vm_map_entry_t>('m', 'ring: the one above; off the ring, the next that was taken out'),
  prev: ptr<vm_map_entry_t>('m', 'ring: the one below'),
  parent: ptr<vm_map_entry_t>('m', 'tree: 0 at the top'),
  height: i32('m', 'tree: levels from here down'),
  adj_free: i32('m', 'free pages from its end to the next one'),
  max_free: i32('m', 'the most that an entry from here down has of these'),
  max_protection: i32('m', 'what `protection` may become'),
  inheritance: i32('m', 'VM_INHERIT_*'),
  wired_count: i32('m', 'how often it is wired'),
  wired: i32(
    'm',
    'in transition: pages that are wired for it, its first ones (vm_map_wire.ts); of a guarded ' +
      'block, bytes from its first page to where it begins',
  ),
  transition: i32('m', 'tid of the thread that has it in transition'),
  lastr: i32('i', 'page of the object that was read last: a guess'),
  avail_ssize: i32(
    'm',
    'of a stack: pages by which it may still grow; of a guarded block, the bytes asked for',
  ),
  grow_prot: i32(
    'm',
    'of a stack: protection of what it grows by; of a block, its malloc type, or its zone',
  ),
  map: ptr<vm_map_t>('m', 'map that it is in; 0: none'),
  stack: i32('m', 'of a guarded block: the stack of its allocation (kmem/kern_stack.ts), 0: none'),
});
/*
 * Locks: (s) the lock  (n) the lock of the list of maps  (h) read by all, for a sample
 *        (i) the lock; a shared hold suffices to store it, so it is an entry of this map always
 *        (w) the lock of windows
 */
export const vm_map = struct<vm_map_t>(
  'vm_map',
  16,
)({
  lock: lock_words(6, 'VM map', 'entries, sizes'),
  root: ptr<vm_map_entry_t>('s', 'top of the tree'),
  hint: ptr<vm_map_entry_t>('i', 'where a page was looked up last, 0: nowhere; tried first'),
  nentries: i32('sh', 'entries'),
  size: i32('sh', 'pages mapped'),
  limit: i32('sh', 'the most pages that may be mapped'),
  timestamp: i32('sh', 'how often it was locked exclusively, modulo 2^32'),
  wait_seq: i32('a', 'goes up when an entry leaves its transition'),
  pmap: ptr<pmap_t>('sh', 'its translations; 0: none'),
  refs: i32('nh', 'records that lead to it, and references on their way'),
  next: ptr<vm_map_t>('nh', 'next on the list of all maps'),
  prev: ptr<vm_map_t>('n', 'the one before'),
  runs: ptr<vm_window_run_t>('wh', 'pages that windows show: the newest run; 0: there is none'),
  tsize: i32('sh', 'of a process: pages of its text'),
  dsize: i32('sh', 'pages of its data'),
  ssize: i32('sh', 'pages of its stack'),
  taddr: i32('sh', 'first page of its text'),
  daddr: i32('sh', 'first page of its data'),
  maxsaddr: i32('sh', 'lowest page that its stack may have; 0: it has none'),
  wired: i32('sh', 'pages that its entries have wired'),
  wire_limit: i32('sh', 'the most pages that a program may lock'),
  wire_future: i32('sh', 'what will be mapped is locked at once: 1'),
  holds: ptr<vm_hold_t>('sh', 'wirings of threads: the newest; 0: there is none'),
  dlimit: i32('sh', 'the most pages that its data may have'),
  dlimit_max: i32('sh', 'what `dlimit` may become; other mappings leave so much room'),
  slimit: i32('sh', 'the most pages that its stack may have'),
  rss_limit: i32('sh', 'the most pages that it may translate at a time; 0: any number'),
  rss_hand: i32('a', 'page number at which that limit took translations away last'),
  keepers: words('nh', 'CPUs whose threads keep it: a bit, and a reference, each', CPUSET_WORDS),
  gone: i32('sh', 'it was destroyed: 1; whoever keeps it is to let go of it'),
  kind: i32('c', 'VM_MAP_USER or whose else; all but a program share the pmap of the kernel'),
  needs_wakeup: i32('s', 'somebody sleeps until there is room: 1'),
  regions: ptr<vm_region_t>('s', 'its named parts, the newest first'),
  cursor: i32('s', 'page behind the named part that was placed last: where to look for room'),
  region_ids: i32('s', 'regions that there ever were, modulo 2^32: the number of the last'),
  region_ends: i32('sh', 'how many of them have ended, modulo 2^32'),
  joint: i32('s', 'named parts are being mapped all at once: 1, until the last of them is there'),
  banks: words('sh', 'bits 40 to 47 of the addresses of each bank, plus 1; 0: none', VM_BANKS),
  header: words(
    '-',
    'begin and end of the ring: a vm_map_entry, whose fields have letters',
    ENTRY_WORDS,
  ),
});
/* Locks: (n) the lock  (c) constant once up  (h) read by all */
export const vm_map_root = struct<vm_map_root_t>(
  'vm_map_root',
  32,
)({
  lock: lock_words(4, 'VM maps', 'the list of maps, and their references'),
  first: ptr<vm_map_t>('nh', 'newest map'),
  count: i32('nh', 'maps'),
  maps: i32('c', 'zone of the maps'),
  entries: i32('c', 'zone of the entries'),
  system: i32('a', 'zone of the system maps; 0: none was made yet'),
  kentries: i32('a', 'zone of their entries'),
  regions: i32('c', 'zone of the named parts'),
  holds: i32('c', 'zone of the wirings of threads'),
  holds_due: i32('a', 'a thread died while there were such: 1'),
});
