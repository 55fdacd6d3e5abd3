/*
 * vm_bank: addresses of 48 bits as names for the pages of a map.
 *
 *      address    47 ........ 40  39 ........ 12  11 .. 0
 *                 |    name     |  page of it   | byte |
 *                        |
 *      map        bank 0   bank 1   ...   bank 7         2^28 pages each
 *                 0x00     0x01           0x7f
 *
 * A map has 2^31 pages, so that page numbers are small integers.  Programs, and recordings of
 * programs, have addresses all over 2^48 bytes, but lie in a few places: 0x55... and 0x7f..., say.
 * So the map is eight banks of 2^40 bytes, and the uppermost eight bits of an address are the
 * name of a bank.  A name gets its bank when something is first mapped there, and keeps it until
 * exec; addresses are printed as they were given.  A ninth name is ENOMEM.
 *
 * A mapping may cross from one bank to the next if their names follow each other, too.  To
 * make that likely a name prefers the bank that its lowest three bits say.  A map whose names
 * are 0 to 7 has page numbers that are its addresses.
 *
 * The last page of the last bank is outside of every map.
 *
 * Locks: names are read and given under the map's lock.  A name that somebody has seen under
 * the lock stays: one that was given for a mapping that failed is taken back in the same hold.
 */
import { EFAULT } from '../machine/errno.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { elem } from '../machine/struct.ts';
import { VM_BANKS, vm_map, type vm_map_t } from '../h/vm_map.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { vm_map_assert_locked, vm_map_lock_read, vm_map_unlock_read } from './vm_map.ts';
import { type Access, vm_access } from './vm_copy.ts';
import { vm_map_findspace } from './vm_map_tree.ts';

const map = vm_map;

export const BANK_PAGES = 2 ** 28;
const NAMES = 256;
/** The first page number that is no name's: that of address 2^48. */
export const VPN_MAX = NAMES * BANK_PAGES;
/** Of a bank without a name. */
const UNBOUND = -1;

/** The name of a bank. */
function name_of(mp: vm_map_t, bank: number): number {
  return map.banks[elem(mp, bank)] - 1;
}
/** The bank of a name; UNBOUND: it has none. The map is locked in some way. */
function bank_of(mp: vm_map_t, name: number): number {
  for (let b = 0; b < VM_BANKS; b++) if (name_of(mp, b) === name) return b;
  return UNBOUND;
}
const is_free = (mp: vm_map_t, bank: number): boolean => name_of(mp, bank) === UNBOUND;

// --- page numbers and addresses ------------------------------------------------------------------

/**
 * The page of a map that page number `vpn` of its addresses means; -1: nothing was ever mapped
 * near it.  The map is locked in some way.
 */
export function vpn_page(mp: vm_map_t, vpn: number): number {
  if (vpn < 0 || vpn >= VPN_MAX) return -1;
  const name = Math.floor(vpn / BANK_PAGES);
  const bank = bank_of(mp, name);
  return bank === UNBOUND ? -1 : bank * BANK_PAGES + (vpn - name * BANK_PAGES);
}
/**
 * The address of a page of a map.  A page in a bank without a name, which only the kernel can
 * have mapped, has its own number for one.
 */
export function to_address(mp: vm_map_t, page: number): number {
  const bank = Math.floor(page / BANK_PAGES);
  const name = bank < VM_BANKS && !is_free(mp, bank) ? name_of(mp, bank) : bank;
  return (page + (name - bank) * BANK_PAGES) * PAGE_SIZE;
}
/** The page of a map that an address lies in; -1: none. Takes the map's lock, shared. */
export function to_page(mp: vm_map_t, address: number): number {
  vm_map_lock_read(mp);
  const page = vpn_page(mp, Math.floor(address / PAGE_SIZE));
  vm_map_unlock_read(mp);
  return page;
}

/** to_address for a map that is not locked. Takes its lock, shared. */
export function page_address(mp: vm_map_t, page: number): number {
  vm_map_lock_read(mp);
  const address = to_address(mp, page);
  vm_map_unlock_read(mp);
  return address;
}

/** Pages of a map that lie side by side, as their addresses do. */
export interface Piece {
  readonly start: number;
  readonly end: number;
}
/**
 * What of the page numbers from `first` to before `last` lies in banks, piece by piece.  The rest
 * is a hole.  Takes the map's lock, shared.
 */
export function bank_pieces(mp: vm_map_t, first: number, last: number): Piece[] {
  const found: { start: number; end: number }[] = [];
  const until = Math.min(last, VPN_MAX);
  vm_map_lock_read(mp);
  for (let at = first; at < until; ) {
    const end = Math.min((Math.floor(at / BANK_PAGES) + 1) * BANK_PAGES, until);
    const start = vpn_page(mp, at);
    const before = found.at(-1);
    if (before !== undefined && before.end === start) before.end += end - at;
    else if (start >= 0) found.push({ start, end: start + end - at });
    at = end;
  }
  vm_map_unlock_read(mp);
  return found;
}
/** vm_access for addresses of 48 bits. */
export function user_access(
  mp: vm_map_t,
  address: number,
  length: number,
  write: boolean,
  move: (at: number, n: number, done: number) => void,
): Access {
  const bank_bytes = BANK_PAGES * PAGE_SIZE;
  for (let done = 0; done < length; ) {
    const at = address + done;
    const n = Math.min(length - done, bank_bytes - (at % bank_bytes));
    const page = at < 0 ? -1 : to_page(mp, at);
    if (page < 0) return { error: EFAULT, done };
    const before = done;
    const from = page * PAGE_SIZE + (at % PAGE_SIZE);
    const piece = vm_access(mp, from, n, write, (w, k, i) => move(w, k, before + i));
    done += piece.done;
    if (piece.error !== 0) return { error: piece.error, done };
  }
  return { error: 0, done: length };
}

// --- places for mappings -------------------------------------------------------------------------

/** Banks side by side whose names follow each other, or would if they got names. */
interface Run {
  readonly name: number;
  readonly bank: number;
  readonly banks: number;
}
/** The run that begins with a name; null: it has no bank, and there is none left. */
function run_from(mp: vm_map_t, name: number): Run | null {
  let bank = bank_of(mp, name);
  if (bank === UNBOUND) {
    bank = name % VM_BANKS;
    for (let b = 0; b < VM_BANKS && !is_free(mp, bank); b++) if (is_free(mp, b)) bank = b;
    if (!is_free(mp, bank)) return null;
  }
  let banks = 1;
  while (bank + banks < VM_BANKS && name + banks < NAMES && follows(mp, bank, name, banks)) banks++;
  return { name, bank, banks };
}
function follows(mp: vm_map_t, bank: number, name: number, n: number): boolean {
  const there = name_of(mp, bank + n);
  return there === name + n || (there === UNBOUND && bank_of(mp, name + n) === UNBOUND);
}

/** Pages for a mapping. */
export interface Room {
  readonly page: number;
  /** Banks that it lies in, and that have no name yet. */
  readonly names: readonly { readonly bank: number; readonly name: number }[];
}
/** n pages of a run from `page` on. */
function room_in(mp: vm_map_t, { name, bank }: Run, page: number, n: number): Room {
  const names: { bank: number; name: number }[] = [];
  const last = Math.floor((page + n - 1) / BANK_PAGES);
  for (let b = Math.floor(page / BANK_PAGES); b <= last; b++) {
    if (is_free(mp, b)) names.push({ bank: b, name: name + b - bank });
  }
  return { page, names };
}
/**
 * Room for n pages exactly at page number `vpn`, whatever is there; null: its name has no bank, or
 * they would cross into one that is not the next.  The map is locked exclusively.
 */
export function bank_room(mp: vm_map_t, vpn: number, n: number): Room | null {
  const name = Math.floor(vpn / BANK_PAGES);
  const offset = vpn - name * BANK_PAGES;
  const run = run_from(mp, name);
  if (run === null || offset + n > run.banks * BANK_PAGES) return null;
  return room_in(mp, run, run.bank * BANK_PAGES + offset, n);
}
/**
 * Room for n pages where nothing is mapped, at the lowest page number from `from` on, that ends
 * at `high` at the latest and begins at a multiple of `align` pages, or `phase` pages behind one;
 * null: there is none.  The map is locked exclusively.
 */
export function bank_findspace(
  mp: vm_map_t,
  n: number,
  from: number,
  high: number,
  align: number,
  phase = 0,
): Room | null {
  const step = Math.max(align / BANK_PAGES, 1);
  let name = Math.floor(Math.ceil(from / align) * (align / BANK_PAGES));
  for (; name < NAMES && name * BANK_PAGES + n <= high; name += step) {
    const run = run_from(mp, name);
    if (run === null) continue;
    const shift = (run.bank - name) * BANK_PAGES;
    const first = name * BANK_PAGES + shift;
    const end = Math.min(first + run.banks * BANK_PAGES, high + shift);
    // Only a bank's first page is a multiple of more than a bank.
    const last = align > BANK_PAGES ? Math.min(end, first + n) : end;
    const where = { align: Math.min(align, BANK_PAGES), phase };
    const least = Math.max(from + shift, first);
    const page = least + n > last ? -1 : vm_map_findspace(mp, least, n, last, where);
    if (page >= 0) return room_in(mp, run, page, n);
  }
  return null;
}
/** Gives the banks of a room their names, or takes them back. The map is locked exclusively. */
export function bank_bind(mp: vm_map_t, { names }: Room, bound = true): void {
  vm_map_assert_locked(mp);
  if (names.length === 0) return;
  undo_begin(map.lock, mp);
  for (const { bank, name } of names) {
    save(map.banks, elem(mp, bank));
    map.banks[elem(mp, bank)] = bound ? name + 1 : 0;
  }
  undo_end();
}
