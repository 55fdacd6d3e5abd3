/*
 * vm_page (header): the page array, and what a page can be.
 *
 * One row per page of memory, indexed by the physical page number m; byte
 * address m * 4096, first word m << 10.  Page 0 holds NULL and is never given
 * out, so 0 means "no page".
 *
 * `info` is the authority on what a page is, in one packed word that free(9)
 * reads on its fast path:
 *
 *      bits 4..7   kind: PK_*
 *      bits 0..3   for PK_MALLOC, which is kind 0, the size class
 *
 * A word below 16 is therefore a page of malloc, and is its size class.
 *
 * Everything else about free pages (bitmaps, the run tree, the counts) can be
 * made anew from `info` and `flags`, and is, when a thread dies changing it.
 *
 * A page says who has it in one of three ways: it is in the hand of a CPU (PK_HAND and
 * a note there), it is busy by a CPU (`busy` is its tid: on its way from or to an owner
 * that finds it by its index, vm_page_busy.ts), or its owner leads to it.
 *
 * The array knows no owners: `owner` and `index` mean what the kind says.  The columns
 * from `state` on are theirs too, packed in words by the lock that guards them, because a
 * word is what an undo log saves.  An owner clears them before it gives the page back:
 * INVARIANTS proves that.
 */
import { col8, col32, columns } from '../machine/struct.ts';

/** Not managed: boot structures, and page 0. */
export const PK_BOOT = 0x10;
/** Free. */
export const PK_FREE = 0x20;
/** Taken off the free queues, not yet given to an owner: in the hand of a CPU. */
export const PK_HAND = 0x30;
/** Part of a slab of some zone. */
export const PK_SLAB = 0x40;
/** Part of a slab of a malloc zone: the word is the size class. */
export const PK_MALLOC = 0;
/** First page of a large malloc block; `run` is its length. */
export const PK_LARGE = 0x50;
/** A further page of a block or run. */
export const PK_REST = 0x60;
/** Taken by vm_page_alloc for whoever asked. */
export const PK_WIRED = 0x70;
/** Free, in the cache of the CPU in `owner`. */
export const PK_CACHE = 0x80;
/** A freed large block that waits in quarantine: its type and length are still there. */
export const PK_QUARANTINE = 0xa0;
/** Of the owner in `owner`, which finds it by `index`: a memory object. */
export const PK_OBJECT = 0x90;
/** A page table of the pmap in `owner`: of the pages from `index` * 1024 on. */
export const PK_TABLE = 0xb0;
/** Freed while a CPU may still have an access to it under way: on the list of such pages. */
export const PK_LIMBO = 0xc0;
/** Lent, and of no object any more: freed with the last loan. `owner` is the object it was of. */
export const PK_LOAN = 0xd0;
/** Nobody may touch it: a guard of the block at page `index`, or of the boot structures (0). */
export const PK_GUARD = 0xe0;
/** Set aside for a page of an object: of the reservation in `owner` (page/vm_reserv.ts). */
export const PK_RESERV = 0xf0;
export const PK_MASK = 0xf0;
/** Words below this one are pages of malloc. */
export const PK_MALLOC_END = 16;
/**
 * Beside a kind of malloc: a block on the page is a detector's (kmem/kern_detect.ts), so a free
 * asks there first.  Set by who has such a block, before it is given out; gone with the page.
 */
export const PK_MARK_BLOCK = 0x100;
/** The same: a block is noted with its stack (kmem/kern_stack_sample.ts); gone with the last. */
export const PK_MARK_NOTE = 0x200;
/** Either. */
export const PK_MARKED = PK_MARK_BLOCK | PK_MARK_NOTE;

/** The page is all zeros. Means something only between allocation and first use, and while free. */
export const PG_ZERO = 0x40;
/** Of an object whose pages are never reclaimed: on no queue. */
export const PG_UNMANAGED = 0x01;
/** The kernel's own, shown by a device: wired once, for ever, never busy and never freed. */
export const PG_FICTITIOUS = 0x02;
/** Somebody sleeps until it is busy no more. */
export const PG_WANTED = 0x04;

/*
 * Locks: (g) from and to PK_FREE under the free lock, else by the CPU in whose hand the page is
 *        (f) the same; of a page of an object, by its lock; the CPU that caches it
 *        (o) the CPU in whose hand the page is, or which has it busy  (h) read by all
 *        (b) a CPU makes a page busy that is in its hand, or its owner's; the CPU that has
 *            it busy ends that  (w) the page has an owner, whose locks guard these
 */
export const vm_page = columns<number>('vm_page')({
  info: col32('gh', 'what the page is: PK_* and a class'),
  owner: col32('oh', 'by kind: its slab; of a large block, its type; the CPU that caches it'),
  index: col32(
    'oh',
    'by kind: of a large block, its pages; of a slab, its keg, and ~keg beyond its first page',
  ),
  flags: col8('fh', 'PG_*'),
  busy: col32('bh', 'tid of the CPU that has it in work outside its owner, 0: none'),
  state: col32(
    'w',
    'object lock: which blocks of 512 bytes are valid, which are dirty; of a page table, by the ' +
      'lock of its pmap: translations in it',
  ),
  slot: col32('w', 'object lock: the slot of the swap area that has its contents; 0: none'),
  queue: col32('w', 'queue lock: the queue it is on, how active it is'),
  next: col32('w', 'queue lock: the next page on its queue; in limbo, by its lock: the next there'),
  prev: col32('w', 'queue lock: the one before'),
  wired: col32('w', 'queue lock; of lent pages, the object lock too: | loans | wirings |'),
  map_pmap: col32('w', 'lock of its mappings: the pmap of the first one'),
  map_page: col32('w', 'the same lock: the virtual page number of that'),
  map_more: col32('w', 'the same lock: the first of the other ones, a pv_entry; 0: none'),
  ref: col8('wh', 'it was used: stored by any CPU that maps it'),
  mod: col8('wh', 'it was written to: the same'),
});

/* `state`: a bit for each block of 512 bytes that has contents, and that is newer in memory. */
export const PAGE_VALID = 0xff;
export const PAGE_DIRTY = 0xff00;

/* Slots of the swap area: 1 to SLOT_MAX. In the index of an object -slot stands for a page. */
export const SLOT_MAX = 0xfffffff;
/** With a slot in an index: the object below may have it still (vm_object_slot.ts). */
export const SLOT_TWICE = 0x10000000;

/* Allocation classes and flags. */
export const VM_ALLOC_NORMAL = 0;
export const VM_ALLOC_INTERRUPT = 1;
export const VM_ALLOC_SYSTEM = 2;
export const VM_ALLOC_CLASS = 3;
export const VM_ALLOC_WIRED = 0x20;
export const VM_ALLOC_ZERO = 0x40;
