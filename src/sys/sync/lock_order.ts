/*
 * lock_order: every class of lock, outermost first.
 *
 * A CPU that holds a lock may take only locks further down this table; WITNESS
 * reports what goes against it, with both stacks.  The last column says what
 * becomes of the structure when a thread dies holding the lock:
 *
 *      undo     the dead CPU's undo log is played back; then it is consistent
 *      rebuild  the structure is made anew from records that are always right
 *      walk     its check runs under the lock; clean: go on, else panic
 *      abandon  nobody gets the lock until the program has recovered what it guards
 *      panic    nothing is known: the machine stops
 *
 * The functions that rebuild and walk stand in a table of boot/main.ts; there is a line
 * for most classes that are undone too, for a section that was too long for its log.
 * A lock held with no log entry for it is consistent by definition of `undo`.
 */
export type LockKind = 'mtx' | 'rw' | 'sx';
export type Recovery = 'undo' | 'rebuild' | 'walk' | 'abandon' | 'panic';

export interface LockClass {
  readonly name: string;
  readonly kind: LockKind;
  readonly recovery: Recovery;
  /** May be taken again by its owner. */
  readonly recurse?: boolean;
  /** Two locks of this class may be held at once. */
  readonly dupok?: boolean;
  readonly help: string;
}

export const lock_order: readonly LockClass[] = [
  { name: 'none', kind: 'mtx', recovery: 'panic', help: 'class 0 is never used' },
  {
    name: 'user sx',
    kind: 'sx',
    recovery: 'abandon',
    dupok: true,
    help: "a program's own sx lock",
  },
  {
    name: 'user rw',
    kind: 'rw',
    recovery: 'abandon',
    dupok: true,
    help: "a program's own rw lock",
  },
  {
    name: 'user mtx',
    kind: 'mtx',
    recovery: 'abandon',
    dupok: true,
    help: "a program's own mutex",
  },
  { name: 'sysctl mem', kind: 'sx', recovery: 'undo', help: 'one large report at a time' },
  { name: 'sysctl tree', kind: 'sx', recovery: 'walk', help: 'nodes of the sysctl tree' },
  {
    name: 'registry',
    kind: 'mtx',
    recovery: 'undo',
    help: 'names of the façade: types, zones, roots',
  },
  { name: 'malloc', kind: 'mtx', recovery: 'undo', help: 'the list of malloc types' },
  {
    name: 'kernel maps',
    kind: 'mtx',
    recovery: 'undo',
    help: "the making of the kernel's maps, and of what they stand on",
  },
  {
    name: 'VM map',
    kind: 'sx',
    recovery: 'rebuild',
    dupok: true,
    help: 'an address space: its entries; of two the parent, or the outer one, first',
  },
  {
    name: 'kernel map',
    kind: 'mtx',
    recovery: 'rebuild',
    dupok: true,
    help: "a system map, of the kernel's addresses: its entries; of two the outer one first",
  },
  {
    name: 'VM vnodes',
    kind: 'mtx',
    recovery: 'undo',
    help: 'the list of files that are mapped',
  },
  {
    name: 'VM object',
    kind: 'mtx',
    recovery: 'undo',
    dupok: true,
    help: 'a memory object: its pages and references; of a chain the top one first',
  },
  { name: 'VM objects', kind: 'mtx', recovery: 'undo', help: 'the list of memory objects' },
  {
    name: 'VM maps',
    kind: 'mtx',
    recovery: 'undo',
    help: 'the list of address spaces, and references to them',
  },
  {
    name: 'VM windows',
    kind: 'mtx',
    recovery: 'undo',
    help: 'windows onto address spaces, and the runs of pages that they show',
  },
  { name: 'VM loans', kind: 'mtx', recovery: 'undo', help: 'the list of loans of pages' },
  {
    name: 'swap area',
    kind: 'mtx',
    recovery: 'undo',
    help: 'all swap areas: which slots are free',
  },
  {
    name: 'VM stores',
    kind: 'mtx',
    recovery: 'undo',
    help: 'the list of files and other stores that pages come from, and references to them',
  },
  {
    name: 'page queue',
    kind: 'mtx',
    recovery: 'undo',
    help: 'the queues of pages that have owners, and how often those are wired',
  },
  {
    name: 'pmap',
    kind: 'mtx',
    recovery: 'rebuild',
    help: 'the page tables of an address space, and which CPUs translate by them',
  },
  {
    name: 'pv list',
    kind: 'mtx',
    recovery: 'undo',
    help: 'where pages are mapped: one list of 64',
  },
  {
    name: 'stacks',
    kind: 'mtx',
    recovery: 'undo',
    help: 'stacks that are kept, and what is noted of blocks with them',
  },
  { name: 'UMA drain', kind: 'mtx', recovery: 'undo', help: 'one reclaim at a time' },
  { name: 'UMA lock', kind: 'mtx', recovery: 'undo', help: 'the list of kegs' },
  {
    name: 'UMA zone',
    kind: 'mtx',
    recovery: 'undo',
    dupok: true,
    help: 'a keg, and the zones on it',
  },
  { name: 'UMA bucket', kind: 'mtx', recovery: 'undo', help: 'a keg that supplies buckets' },
  { name: 'UMA slab', kind: 'mtx', recovery: 'undo', help: 'a keg that supplies slab headers' },
  {
    name: 'page limbo',
    kind: 'mtx',
    recovery: 'undo',
    help: 'freed pages that some CPU may still use',
  },
  {
    name: 'page free',
    kind: 'mtx',
    recovery: 'rebuild',
    help: 'the free page queues of all domains',
  },
  { name: 'sleep queue', kind: 'mtx', recovery: 'rebuild', help: 'a sleep queue chain: innermost' },
];

/** The program's own classes come first; class 0 is none. */
const USER_LAST = 3;

function class_id(name: string): number {
  const i = lock_order.findIndex((c) => c.name === name);
  if (i < 0) throw new Error(`no lock class '${name}'`);
  return i;
}
export const LC_USER_SX = class_id('user sx');
export const LC_USER_RW = class_id('user rw');
export const LC_USER_MTX = class_id('user mtx');
/** Whether a lock of that class is the program's own. */
export function user_class(cls: number): boolean {
  return cls <= USER_LAST;
}
export const LC_SYSCTL_MEM = class_id('sysctl mem');
export const LC_SYSCTL = class_id('sysctl tree');
export const LC_REGISTRY = class_id('registry');
export const LC_MALLOC = class_id('malloc');
export const LC_VM_MAP = class_id('VM map');
export const LC_KERNEL_MAPS = class_id('kernel maps');
export const LC_KERNEL_MAP = class_id('kernel map');
export const LC_VM_VNODES = class_id('VM vnodes');
export const LC_VM_OBJECT = class_id('VM object');
export const LC_VM_OBJECTS = class_id('VM objects');
export const LC_VM_MAPS = class_id('VM maps');
export const LC_VM_WINDOWS = class_id('VM windows');
export const LC_VM_LOANS = class_id('VM loans');
export const LC_SWAP_AREA = class_id('swap area');
export const LC_VM_STORES = class_id('VM stores');
export const LC_PAGE_QUEUE = class_id('page queue');
export const LC_PMAP = class_id('pmap');
export const LC_PV = class_id('pv list');
export const LC_STACKS = class_id('stacks');
export const LC_UMA_DRAIN = class_id('UMA drain');
export const LC_UMA = class_id('UMA lock');
export const LC_ZONE = class_id('UMA zone');
export const LC_BUCKET = class_id('UMA bucket');
export const LC_SLAB = class_id('UMA slab');
export const LC_PAGE_LIMBO = class_id('page limbo');
export const LC_FREE = class_id('page free');
export const LC_SLEEPQ = class_id('sleep queue');
