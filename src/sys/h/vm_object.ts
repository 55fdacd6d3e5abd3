/*
 * vm_object (header): memory objects, what pages belong to.
 *
 *      map entry --.
 *      map entry ----> object ----> backing object ----> ...
 *                       | index       | index
 *                       v             v
 *                     pages         pages that are seen where the ones above have none
 *
 * An object is as long as its size in pages and has some of them.  Where it has none, its
 * backing object is asked, `backing_offset` pages further on: so a copy begins without a page
 * of its own and gets one for each page that is written to.  The objects that an object
 * backs are its shadows.
 */
import { i32, lock_words, type Ptr, ptr, struct, words } from '../machine/struct.ts';

export type vm_object_t = Ptr<'vm_object'>;
export type vm_object_root_t = Ptr<'vm_object_root'>;

/* Types. */
/** Anonymous: pages without contents are zero. */
export const OBJT_DEFAULT = 0;
/** The same, and some of it may be in the swap area. */
export const OBJT_SWAP = 1;
/** What a file has (vm_vnode.ts). */
export const OBJT_VNODE = 2;
/** Shows pages that the kernel keeps for itself (vm_device.ts). */
export const OBJT_DEVICE = 3;
/** Its pages are never reclaimed. */
export const OBJT_PHYS = 4;
/** What it held is gone for good, and every access fails. */
export const OBJT_DEAD = 5;
/** Shows pages of a loan, some of which are its own by now (map/vm_loan_object.ts). */
export const OBJT_LOAN = 6;

/* Flags. */
/** Being ended: nobody may find anything in it. */
export const OBJ_DEAD = 0x0008;
/** Somebody sleeps until nobody pages in it. */
export const OBJ_PIPWNT = 0x0040;
/** `color` says how its pages lie in superpages: runs are set aside for them. */
export const OBJ_COLORED = 0x1000;
/** Every page of it is mapped once at most: it was never copied. */
export const OBJ_ONEMAPPING = 0x2000;

/* Devices: the handle of an object of type OBJT_DEVICE. */
/** Every page of it is zero. */
export const DEVICE_ZERO = 1;
/** The event counters of all CPUs. */
export const DEVICE_COUNTERS = 2;
/** One more than the last of them. */
export const DEVICES = 3;

/** Words of a vm_radix (vm_radix.ts). */
const RADIX_WORDS = 6;

/*
 * Locks: (s) the object's  (n) the lock of the list  (k) that of the object that it shadows
 *        (h) read by all
 */
export const vm_object = struct<vm_object_t>(
  'vm_object',
  16,
)({
  lock: lock_words(4, 'VM object', 'pages, references, shadows'),
  type: i32('sh', 'OBJT_*'),
  flags: i32('sh', 'OBJ_*'),
  size: i32('sh', 'pages'),
  refs: i32('sh', 'map entries, shadows, and references on their way'),
  shadow_count: i32('sh', 'objects that it backs'),
  paging: i32('sh', 'CPUs that use pages of it with its lock let go'),
  resident: i32('sh', 'pages that its index leads to'),
  backing: ptr<vm_object_t>('sh', 'the object below, 0: none'),
  backing_offset: i32('sh', 'its page that is page 0 of this one'),
  shadows: ptr<vm_object_t>('s', 'first of the objects that it backs'),
  shadow_next: ptr<vm_object_t>('k', 'next of the objects with the same backing'),
  shadow_prev: ptr<vm_object_t>('k', 'the one before'),
  color: i32('s', 'page number of its page 0 among those of a superpage, if it has a color'),
  handle: i32('c', 'what a pager knows it by, 0: nothing'),
  loan: i32('c', 'loan whose pages it shows, or showed, 0: none'),
  next: ptr<vm_object_t>('nh', 'next on the list of all objects'),
  prev: ptr<vm_object_t>('n', 'the one before'),
  index: words('-', 'its pages by number: a vm_radix, whose fields have letters', RADIX_WORDS),
});
/* Locks: (n) the lock  (c) constant once up */
export const vm_object_root = struct<vm_object_root_t>(
  'vm_object_root',
  32,
)({
  lock: lock_words(4, 'VM objects', 'the list of objects'),
  first: ptr<vm_object_t>('nh', 'newest object'),
  count: i32('nh', 'objects'),
  zone: i32('c', 'zone of the objects'),
  nodes: i32('c', 'zone of the nodes of indexes'),
  device: words('n', 'the object of each device; 0: nobody has asked for it yet', DEVICES),
  zeros: i32('nh', 'the page of zeros that DEVICE_ZERO shows'),
});
