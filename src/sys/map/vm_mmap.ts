/*
 * vm_mmap: the system calls that map memory and say what may be done with it.
 *
 *      mmap         memory, an object, or a guard gets a place
 *      munmap       a range is mapped no more
 *      mprotect     what may be done with it, and what at most
 *      minherit     what a fork makes of it
 *      madvise      how it will be used
 *
 * The arguments are FreeBSD's: an address and a length in bytes, of which whole pages are
 * made, the first one truncated, the last one rounded up.  The map below works on page
 * numbers; vm_bank.ts stands between.  Errors are FreeBSD's, too, in its order of checks.
 * Holes are passed over, except where the table of a call says otherwise.
 *
 * Each call is one change of the map, or none at all: who gets an error finds everything as
 * it was.  Where memory is short the caches are emptied first, and the call is tried again.
 *
 * A descriptor is the caller's matter: mmap takes what is behind it.  Negative addresses and
 * lengths are what they are for C, numbers just below 2^64.
 */
import { sysctl_get } from '../machine/sysctl_decl.ts';
import {
  EACCES,
  EBADF,
  EBUSY,
  EINVAL,
  ENOMEM,
  EOPNOTSUPP,
  EPERM,
  ETIMEDOUT,
} from '../machine/errno.ts';
import { life } from '../machine/life.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import {
  MADV_PROTECT,
  MAP_ALIGNED_SUPER,
  MAP_ALIGNMENT_SHIFT,
  MAP_ANON,
  MAP_EXCL,
  MAP_FIXED,
  MAP_GUARD,
  MAP_HASSEMAPHORE,
  MAP_NOCORE,
  MAP_NORESERVE,
  MAP_NOSYNC,
  MAP_PREFAULT_READ,
  MAP_PRIVATE,
  MAP_RENAME,
  MAP_SHARED,
  MAP_STACK,
  MAP_32BIT,
  PROT_MAX_SHIFT,
} from '../h/mman.ts';
import {
  KERN_BUSY,
  KERN_FAILURE,
  KERN_INVALID_ADDRESS,
  KERN_NO_SPACE,
  KERN_PROTECTION_FAILURE,
  KERN_RESOURCE_SHORTAGE,
  KERN_SUCCESS,
  MAP_COPY_ON_WRITE,
  MAP_DISABLE_COREDUMP,
  MAP_DISABLE_SYNCER,
  MAP_STACK_GROWS_DOWN,
  MAP_SUPERPAGES,
  VM_INHERIT_COPY,
  VM_INHERIT_SHARE,
  VM_INHERIT_ZERO,
  VM_SUPER_PAGES,
  vm_map,
  vm_map_entry,
  type vm_map_t,
} from '../h/vm_map.ts';
import type { vm_object_t } from '../h/vm_object.ts';
import { pmap } from '../h/pmap.ts';
import {
  VM_PROT_ALL,
  VM_PROT_EXECUTE,
  VM_PROT_NONE,
  VM_PROT_READ,
  VM_PROT_WRITE,
} from '../h/vm_prot.ts';
import { vm_object_deallocate, vm_object_reference } from '../object/vm_object.ts';
import { vm_page_limbo_free } from '../page/vm_page_limbo.ts';
import {
  BANK_PAGES,
  bank_bind,
  bank_findspace,
  bank_pieces,
  bank_room,
  page_address,
  type Piece,
  type Room,
  to_address,
  VPN_MAX,
} from './vm_bank.ts';
import { vm_map_lock, vm_map_lock_read, vm_map_unlock, vm_map_unlock_read } from './vm_map.ts';
import { type Mapping, range_free, vm_map_fixed_locked, vm_map_insert } from './vm_map_insert.ts';
import { vm_map_pmap_enter } from './vm_map_prefault.ts';
import { vm_future_wire } from './vm_wire_limits.ts';
import { map_at_zero, max_proc_mmap } from './vm_vars.ts';
import {
  vm_map_inherit,
  vm_map_madvise,
  vm_map_protect,
  vm_map_protect_max,
  vm_map_remove,
} from './vm_map_range.ts';
import { vm_map_stack_locked } from './vm_map_stack.ts';
import { map_header, vm_map_lookup } from './vm_map_tree.ts';

const map = vm_map;
const entry = vm_map_entry;

/** What a system call answers: an errno or 0, and a value where that is 0. */
export interface Sysret {
  readonly error: number;
  readonly value: number;
}
export const fails = (error: number): Sysret => ({ error, value: -1 });
export const succeeds = (value = 0): Sysret => ({ error: 0, value });

/** The first page of an address space of a program. */
export function user_min(): number {
  return sysctl_get(map_at_zero) !== 0 ? 0 : 1;
}

// --- errno ---------------------------------------------------------------------------------------

/** The errno of a KERN_* code, for calls on mappings that are there. */
export function range_errno(kern: number): number {
  if (kern === KERN_SUCCESS) return 0;
  if (kern === KERN_PROTECTION_FAILURE) return EACCES;
  if (kern === KERN_RESOURCE_SHORTAGE) return ENOMEM;
  if (kern === KERN_BUSY) return EBUSY;
  return kern === KERN_FAILURE ? ETIMEDOUT : EINVAL; // a CPU that does not answer
}
/** The same for a mapping that is to be. */
export function mmap_errno(kern: number): number {
  return kern === KERN_INVALID_ADDRESS || kern === KERN_NO_SPACE ? ENOMEM : range_errno(kern);
}
/** How often a call reclaims memory before it says that there is none. */
const RECLAIMS = 2;
/** Tries a change that may find no memory again, when some was reclaimed. A KERN_* code. */
export function with_memory(change: () => number): number {
  for (let n = 0; ; n++) {
    const result = change();
    if (result !== KERN_RESOURCE_SHORTAGE || n === RECLAIMS) return result;
    if (vm_page_limbo_free() + life.reclaim(true) === 0) return result;
  }
}

// --- addresses -----------------------------------------------------------------------------------

const WORD = 2 ** 64;
/** A number as C's unsigned type of 64 bits has it. */
export function unsigned(value: number): number {
  return value < 0 ? value + WORD : value;
}
const trunc_page = (address: number): number => Math.floor(address / PAGE_SIZE);
const round_page = (address: number): number => Math.ceil(address / PAGE_SIZE);
/** Page numbers of a range of addresses. */
export interface Range {
  readonly first: number;
  readonly last: number;
  /** It goes beyond the last address of 64 bits. */
  readonly wraps: boolean;
}
/** The pages of `length` bytes from an address on, which need not be a page's first. */
export function range_of(address: number, length: number): Range {
  const first = trunc_page(unsigned(address));
  const last = first + round_page(unsigned(length) + (unsigned(address) % PAGE_SIZE));
  return { first, last, wraps: last * PAGE_SIZE > WORD };
}
/** Whether a range lies in the addresses that a map may have. */
function in_space(mp: vm_map_t, { first, last }: Range): boolean {
  const header = map_header(mp);
  vm_map_lock_read(mp);
  const [min, max] = [entry.end[header], entry.start[header]];
  vm_map_unlock_read(mp);
  // Only the lowest addresses have the lowest pages of a map, and a small map has no others.
  const low = first < BANK_PAGES && first < min;
  return !low && last <= (max > BANK_PAGES ? VPN_MAX : max);
}
/** Does `change` to each piece of a range that is in banks. */
function each_piece(mp: vm_map_t, r: Range, change: (p: Piece) => number): Sysret {
  for (const piece of bank_pieces(mp, r.first, r.last)) {
    const result = with_memory(() => change(piece));
    if (result !== KERN_SUCCESS) return fails(range_errno(result));
  }
  return succeeds();
}

// --- munmap, mprotect, minherit, madvise ---------------------------------------------------------

export function sys_munmap(mp: vm_map_t, [address, length]: readonly number[]): Sysret {
  const r = range_of(address, length);
  if (length === 0 || r.wraps || !in_space(mp, r)) return fails(EINVAL);
  return each_piece(mp, r, ({ start, end }) => vm_map_remove(mp, start, end));
}

const PROT_MAX_ALL = VM_PROT_ALL << PROT_MAX_SHIFT;
/** The two parts of a `prot` argument; 0 as the maximum says that nothing was said. */
function prot_parts(prot: number): { prot: number; max: number } {
  return { prot: prot & VM_PROT_ALL, max: (prot >> PROT_MAX_SHIFT) & VM_PROT_ALL };
}
/** An errno if a `prot` argument says nothing sensible. */
function prot_error(argument: number): number {
  if ((argument & ~(VM_PROT_ALL | PROT_MAX_ALL)) !== 0) return EINVAL;
  const { prot, max } = prot_parts(argument);
  return max !== 0 && (prot & ~max) !== 0 ? EOPNOTSUPP : 0;
}
export function sys_mprotect(mp: vm_map_t, [address, length, argument]: readonly number[]): Sysret {
  const r = range_of(address, length);
  const error = prot_error(argument);
  if (error !== 0) return fails(error);
  if (r.wraps) return fails(EINVAL);
  const { prot, max } = prot_parts(argument);
  return each_piece(mp, r, ({ start, end }) =>
    max === 0
      ? vm_map_protect(mp, start, end, prot)
      : vm_map_protect_max(mp, start, end, prot, max),
  );
}
export function sys_minherit(mp: vm_map_t, [address, length, how]: readonly number[]): Sysret {
  const r = range_of(address, length);
  if (r.wraps || how < VM_INHERIT_SHARE || how > VM_INHERIT_ZERO) return fails(EINVAL);
  return each_piece(mp, r, ({ start, end }) => vm_map_inherit(mp, start, end, how));
}
export function sys_madvise(mp: vm_map_t, [address, length, advice]: readonly number[]): Sysret {
  if (advice === MADV_PROTECT) return fails(EPERM); // an address space is nobody's to protect
  const r = range_of(address, length);
  if (advice < 0 || advice > MADV_PROTECT) return fails(EINVAL);
  if (r.wraps || !in_space(mp, r)) return fails(EINVAL);
  return each_piece(mp, r, ({ start, end }) => vm_map_madvise(mp, start, end, advice));
}

// --- mmap ----------------------------------------------------------------------------------------

/** What is behind a descriptor that is mapped. */
export interface MapFile {
  /**
   * A reference to it is in this CPU's hand, and the map's when the call succeeds.  NULL: the
   * device /dev/zero, each mapping of which is memory of its own.
   */
  readonly object: vm_object_t;
  /** How it was opened. */
  readonly readable: boolean;
  readonly writable: boolean;
  /** Its pages may be run as programs. Default: yes. */
  readonly executable?: boolean;
  /** A device that cannot be copied: MAP_PRIVATE is refused. */
  readonly shared_only?: boolean;
}
const FLAGS =
  MAP_SHARED |
  MAP_PRIVATE |
  MAP_FIXED |
  MAP_RENAME |
  MAP_NORESERVE |
  MAP_HASSEMAPHORE |
  MAP_STACK |
  MAP_NOSYNC |
  MAP_ANON |
  MAP_GUARD |
  MAP_EXCL |
  MAP_NOCORE |
  MAP_PREFAULT_READ |
  MAP_32BIT;
const ALIGNMENT = 0xff << MAP_ALIGNMENT_SHIFT;
const FLAGS_OF_GUARD = MAP_FIXED | MAP_GUARD | MAP_EXCL | MAP_32BIT | ALIGNMENT;
const NO_FILE = -1;
const PAGE_SHIFT = 12;
const POINTER_BITS = 64;
const END_OF_32BIT = 2 ** 31 / PAGE_SIZE;
const RW = VM_PROT_READ | VM_PROT_WRITE;
const SHARINGS = MAP_SHARED | MAP_PRIVATE;

/** An mmap whose arguments were looked at. */
interface Request {
  readonly flags: number;
  readonly prot: number;
  readonly max: number;
  readonly fd: number;
  /** Page number that was asked for, or from where on to look. */
  readonly vpn: number;
  readonly pages: number;
  /** Page of the object. */
  readonly offset: number;
  /** Bytes of the address within its first page. */
  readonly inside: number;
}
/** What is wrong with flags, protection and descriptor, whatever they are for. An errno. */
function arguments_error(flags: number, prot: number, fd: number, pos: number): number {
  const prot_bad = prot_error(prot);
  if (prot_bad !== 0) return prot_bad;
  const wants = prot_parts(prot).prot;
  const anonymous = (flags & MAP_ANON) !== 0;
  const stack = (flags & MAP_STACK) !== 0;
  const guard = (flags & MAP_GUARD) !== 0;
  if (anonymous && !stack && (fd !== NO_FILE || pos !== 0)) return EINVAL;
  if (stack && (fd !== NO_FILE || (wants & RW) !== RW)) return EINVAL;
  if ((flags & ~(FLAGS | ALIGNMENT)) !== 0) return EINVAL;
  if (flags & MAP_EXCL && (flags & MAP_FIXED) === 0) return EINVAL;
  const sharing = flags & SHARINGS;
  if (sharing === SHARINGS) return EINVAL;
  if (sharing === 0 && !anonymous && !stack && !guard) return EINVAL;
  if (guard) {
    const plain = wants === VM_PROT_NONE && fd === NO_FILE && pos === 0;
    if (!plain || (flags & ~FLAGS_OF_GUARD) !== 0) return EINVAL;
  }
  const shift = flags >>> MAP_ALIGNMENT_SHIFT;
  const sensible = shift === 0 || (flags & ALIGNMENT) === MAP_ALIGNED_SUPER;
  if (!sensible && (shift < PAGE_SHIFT || shift >= POINTER_BITS)) return EINVAL;
  return pos < 0 ? EINVAL : 0;
}
/** The arguments as a request, or an errno. */
function request_of(mp: vm_map_t, args: readonly number[]): Request | number {
  const [address, length, prot, flags, fd = NO_FILE, pos = 0] = args;
  if (length === 0) return EINVAL;
  const error = arguments_error(flags, prot, fd, pos);
  if (error !== 0) return error;
  const from = flags & MAP_STACK ? 0 : pos;
  const inside = from % PAGE_SIZE;
  const pages = round_page(unsigned(length) + inside);
  const offset = trunc_page(from);
  const max = prot_parts(prot).max;
  const r = { ...prot_parts(prot), max: max === 0 ? VM_PROT_ALL : max, flags, fd };
  const at = unsigned(address);
  if ((flags & MAP_FIXED) === 0) {
    return { ...r, vpn: hint(mp, round_page(at), flags), pages, offset, inside };
  }
  const vpn = (at - inside) / PAGE_SIZE;
  const whole = { first: vpn, last: vpn + pages, wraps: false };
  if (!Number.isInteger(vpn) || !in_space(mp, whole)) return EINVAL;
  if (flags & MAP_32BIT && whole.last > END_OF_32BIT) return EINVAL;
  return { ...r, vpn, pages, offset, inside };
}
/** The page number of addresses of a page that the map has; 0: none was said. */
function vpn_of(mp: vm_map_t, page: number): number {
  return page === 0 ? 0 : to_address(mp, page) / PAGE_SIZE;
}
/** From where on to look for a place, so that the data can grow as far as it ever may. */
function hint(mp: vm_map_t, vpn: number, flags: number): number {
  if (flags & MAP_32BIT) return vpn;
  vm_map_lock_read(mp);
  const data = vpn_of(mp, map.daddr[mp]);
  const text = map.taddr[mp] === 0 ? data : vpn_of(mp, map.taddr[mp]);
  const after = data + map.dlimit_max[mp];
  vm_map_unlock_read(mp);
  return vpn === 0 || (vpn >= text && vpn < after) ? after : vpn;
}

/**
 * Maps what a descriptor stands for, or memory: the address is the value.  `file`: what is behind
 * the descriptor, if there is one.
 */
export function sys_mmap(mp: vm_map_t, args: readonly number[], file?: MapFile): Sysret {
  const r = request_of(mp, args);
  if (typeof r === 'number') return fails(r);
  const what = mapping_of(r, file);
  if (typeof what === 'number') return fails(what);
  const limit = sysctl_get(max_proc_mmap);
  if (limit > 0 && map.nentries[mp] >= limit * map.refs[mp]) return fails(ENOMEM);
  let page = -1;
  let exclusive = 0;
  // If the mapping goes again, so does the reference that it is given.
  const o = what.object;
  if (o !== NULL) vm_object_reference(o);
  const result = with_memory(() => {
    vm_map_lock(mp);
    const placed = place(mp, r, what);
    vm_map_unlock(mp);
    page = placed.page;
    exclusive = placed.taken ? EINVAL : 0;
    return placed.kern;
  });
  if (result === KERN_SUCCESS) {
    if (o !== NULL) prefault(mp, page, r);
    const unlocked = vm_future_wire(mp, page, page + r.pages);
    if (unlocked !== 0) {
      vm_map_remove(mp, page, page + r.pages); // errno: no edge to cut
      return fails(unlocked);
    }
  }
  if (o !== NULL) vm_object_deallocate(o);
  if (result !== KERN_SUCCESS) return fails(exclusive !== 0 ? exclusive : mmap_errno(result));
  return succeeds(page_address(mp, page) + r.inside);
}

/** What is to be mapped, or an errno. */
function mapping_of(r: Request, file: MapFile | undefined): Mapping | number {
  const { flags, prot } = r;
  const shared = (flags & MAP_SHARED) !== 0;
  const inheritance = shared ? VM_INHERIT_SHARE : VM_INHERIT_COPY;
  let cow = 0;
  if (flags & MAP_NOSYNC) cow |= MAP_DISABLE_SYNCER;
  if (flags & MAP_NOCORE) cow |= MAP_DISABLE_COREDUMP;
  if (of_superpages(r)) cow |= MAP_SUPERPAGES;
  const memory = { object: NULL as vm_object_t, offset: 0, protection: prot, cow, inheritance };
  if (flags & MAP_GUARD) return { ...memory, max_protection: VM_PROT_NONE };
  if (flags & MAP_STACK) {
    return { ...memory, max_protection: r.max, cow: cow | MAP_STACK_GROWS_DOWN };
  }
  if (flags & MAP_ANON) return { ...memory, max_protection: r.max };
  if (r.fd < 0 || file === undefined) return EBADF;
  const most = file_protection(r, file, shared);
  if (typeof most === 'number' && most < 0) return -most;
  const max_protection = most & r.max;
  if ((prot & ~max_protection) !== 0) return EACCES;
  if (!shared && file.shared_only === true) return EINVAL;
  if (file.object === NULL) return { ...memory, max_protection };
  if (!shared) cow |= MAP_COPY_ON_WRITE;
  return { ...memory, object: file.object, offset: r.offset, max_protection, cow };
}
/** What may be done at most with a mapping of a file, or -errno. */
function file_protection(r: Request, file: MapFile, shared: boolean): number {
  let most = file.executable === false ? VM_PROT_NONE : VM_PROT_EXECUTE;
  if (file.readable) most |= VM_PROT_READ;
  else if (r.prot & VM_PROT_READ) return -EACCES;
  if (!shared || file.writable) return most | VM_PROT_WRITE;
  return r.prot & VM_PROT_WRITE ? -EACCES : most;
}

/** How a mapping ended: a KERN_* code, and its first page. */
interface Placed {
  readonly kern: number;
  readonly page: number;
  /** It was to be where nothing is, and something is there. */
  readonly taken?: boolean;
}
const nowhere = (kern: number): Placed => ({ kern, page: -1 });
/** Maps it where it was asked for, or where there is room. The map is locked exclusively. */
function place(mp: vm_map_t, r: Request, what: Mapping): Placed {
  const fixed = (r.flags & MAP_FIXED) !== 0;
  const room = fixed ? bank_room(mp, r.vpn, r.pages) : room_for(mp, r);
  if (room === null) return nowhere(KERN_NO_SPACE);
  const { page } = room;
  const end = page + r.pages;
  const header = map_header(mp);
  // A bank of another name may have a page that is none: the last one, or the first.
  if (page < entry.end[header] || end > entry.start[header]) return nowhere(KERN_INVALID_ADDRESS);
  const replace = fixed && (r.flags & MAP_EXCL) === 0;
  if (fixed && !replace && range_free(mp, page, end) !== KERN_SUCCESS) {
    return { kern: KERN_NO_SPACE, page, taken: true };
  }
  bank_bind(mp, room);
  const kern = put(mp, page, r.pages, what, replace);
  if (kern !== KERN_SUCCESS) bank_bind(mp, room, false);
  return { kern, page };
}
function put(mp: vm_map_t, page: number, n: number, what: Mapping, replace: boolean): number {
  if (what.cow & MAP_STACK_GROWS_DOWN) return vm_map_stack_locked(mp, page, n, what, replace);
  if (replace) return vm_map_fixed_locked(mp, page, page + n, what);
  return vm_map_insert(mp, page, page + n, what);
}
/** Whether a mapping asks for superpages, and is long enough for one. */
function of_superpages({ flags, pages }: Request): boolean {
  return (flags & ALIGNMENT) === MAP_ALIGNED_SUPER && pages >= VM_SUPER_PAGES;
}
/** Where it fits best. */
function room_for(mp: vm_map_t, r: Request): Room | null {
  const { flags, vpn, pages } = r;
  const high = flags & MAP_32BIT ? END_OF_32BIT : VPN_MAX;
  const shift = flags >>> MAP_ALIGNMENT_SHIFT;
  const large = of_superpages(r);
  const align = shift > 1 ? 2 ** (shift - PAGE_SHIFT) : large ? VM_SUPER_PAGES : 1;
  const phase = large ? r.offset % VM_SUPER_PAGES : 0;
  const found = bank_findspace(mp, pages, vpn, high, align, phase);
  return found === null && large ? bank_findspace(mp, pages, vpn, high, 1) : found;
}

/** A mapping that is longer than so many pages is prefaulted if it is asked for. */
const PREFAULT_PAGES = 96;
/** Enters translations to what an object that was just mapped has of it. */
function prefault(mp: vm_map_t, page: number, { flags, pages }: Request): void {
  const pm = map.pmap[mp];
  if (pm === NULL) return;
  const large = pages > PREFAULT_PAGES && pmap.resident[pm] > PREFAULT_PAGES;
  if (large && (flags & MAP_PREFAULT_READ) === 0) return;
  vm_map_lock_read(mp);
  const e = vm_map_lookup(mp, page);
  // Another thread may have done anything with it meanwhile.
  if (e !== NULL) vm_map_pmap_enter(mp, e, page, Math.min(pages, entry.end[e] - page));
  vm_map_unlock_read(mp);
}
