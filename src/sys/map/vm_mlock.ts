/*
 * vm_mlock: the system calls that lock memory, and their limits.
 *
 *      mlock, munlock           a range is locked: in memory, and it stays there
 *      mlockall, munlockall     all that is mapped now, or what will be mapped, or both
 *      vslock, vsunlock         the kernel does so for a while, to use the pages where they are
 *
 * A program's locks do not nest: what was locked often is unlocked once.  A fork inherits none.
 *
 * In BSD sysctl wires the buffer of its caller so, and physio those of raw reads.  Here a caller's
 * buffer is an array of the host's, which cannot fault, and files come in by pagers, into pages
 * that are busy: neither has anything to wire.  What waits for such wirings is there (vm_hold.ts).
 *
 * Where security.bsd.unprivileged_mlock is 0 nobody may lock.  The limits, and what is mapped after
 * mlockall(MCL_FUTURE), are in vm_wire_limits.ts.
 */
import { sysctl_get } from '../machine/sysctl_decl.ts';
import { EAGAIN, EFAULT, EINVAL, ENOMEM, EPERM } from '../machine/errno.ts';
import { PAGE_SIZE } from '../machine/memory.ts';
import { MCL_CURRENT, MCL_FUTURE } from '../h/mman.ts';
import {
  KERN_NO_SPACE,
  KERN_SUCCESS,
  VM_MAP_WIRE_HOLESOK,
  VM_MAP_WIRE_NOHOLES,
  VM_MAP_WIRE_USER,
  vm_map,
  vm_map_entry,
  type vm_map_t,
} from '../h/vm_map.ts';
import { VM_PROT_NONE } from '../h/vm_prot.ts';
import { save, undo_begin, undo_end } from '../sync/undo.ts';
import { bank_pieces, type Piece } from './vm_bank.ts';
import { vm_hold_unwire, vm_hold_wire } from './vm_hold.ts';
import { vm_map_lock, vm_map_lock_read, vm_map_unlock, vm_map_unlock_read } from './vm_map.ts';
import { vm_map_check_protection } from './vm_map_range.ts';
import { map_header } from './vm_map_tree.ts';
import { vm_map_unwire, vm_map_wire, wire_range_bad } from './vm_map_wire.ts';
import { fails, range_of, type Range, type Sysret, succeeds, with_memory } from './vm_mmap.ts';
import { unprivileged_mlock } from './vm_vars.ts';
import { wired_room } from './vm_window.ts';
import { wire_over_limit, wire_over_own } from './vm_wire_limits.ts';

const map = vm_map;
const entry = vm_map_entry;
const WHOLE = VM_MAP_WIRE_USER | VM_MAP_WIRE_NOHOLES;
const ALL = VM_MAP_WIRE_USER | VM_MAP_WIRE_HOLESOK;

function forbidden(): boolean {
  return sysctl_get(unprivileged_mlock) === 0;
}
/** The pieces of a range, if all of it is mapped, and can be locked or is to be unlocked. */
function pieces_of(mp: vm_map_t, { first, last }: Range, lock: boolean): Piece[] | null {
  const pieces = [...bank_pieces(mp, first, last)];
  if (pieces.reduce((n, { start, end }) => n + end - start, 0) !== last - first) return null;
  vm_map_lock_read(mp);
  const whole = pieces.every(({ start, end }) =>
    lock
      ? wire_range_bad(mp, start, end, WHOLE) === KERN_SUCCESS
      : vm_map_check_protection(mp, start, end, VM_PROT_NONE),
  );
  vm_map_unlock_read(mp);
  return whole ? pieces : null;
}
/**
 * Locks the pages from `start` up to `end`, all of them mapped: 0, an errno, which is a limit's, or
 * a KERN_* code, negated.
 */
export function vm_lock(mp: vm_map_t, start: number, end: number): number {
  if (forbidden()) return EPERM;
  const over = wire_over_limit(mp, end - start);
  if (over !== 0) return over;
  const kern = with_memory(() => vm_map_wire(mp, start, end, WHOLE));
  return kern === KERN_NO_SPACE ? EAGAIN : 0 - kern;
}
/** Unlocks them; what is not locked is passed over. As vm_lock. */
export function vm_unlock(mp: vm_map_t, start: number, end: number): number {
  return forbidden() ? EPERM : -with_memory(() => vm_map_unwire(mp, start, end, WHOLE));
}
/** Bytes that a space may lock still, and that all may. Samples. */
export function vm_lock_room(mp: vm_map_t): { space: number; all: number } {
  const bytes = (pages: number): number => Math.max(pages, 0) * PAGE_SIZE;
  return { space: bytes(map.wire_limit[mp] - map.wired[mp]), all: bytes(wired_room()) };
}
export function sys_mlock(mp: vm_map_t, [address, length]: readonly number[]): Sysret {
  const r = range_of(address, length);
  if (forbidden()) return fails(EPERM);
  if (r.wraps) return fails(EINVAL);
  if (length === 0) return succeeds();
  const over = wire_over_limit(mp, r.last - r.first);
  if (over !== 0) return fails(over);
  const pieces = pieces_of(mp, r, true);
  if (pieces === null) return fails(ENOMEM);
  for (const [i, { start, end }] of pieces.entries()) {
    if (with_memory(() => vm_map_wire(mp, start, end, WHOLE)) === KERN_SUCCESS) continue;
    for (const done of pieces.slice(0, i)) vm_map_unwire(mp, done.start, done.end, ALL);
    return fails(ENOMEM);
  }
  return succeeds();
}
export function sys_munlock(mp: vm_map_t, [address, length]: readonly number[]): Sysret {
  const r = range_of(address, length);
  if (forbidden()) return fails(EPERM);
  if (r.wraps) return fails(EINVAL);
  if (length === 0) return succeeds();
  const pieces = pieces_of(mp, r, false);
  if (pieces === null) return fails(ENOMEM);
  for (const { start, end } of pieces) {
    if (with_memory(() => vm_map_unwire(mp, start, end, WHOLE)) !== KERN_SUCCESS) {
      return fails(ENOMEM);
    }
  }
  return succeeds();
}
export function sys_mlockall(mp: vm_map_t, [how]: readonly number[]): Sysret {
  if (how === 0 || (how & ~(MCL_CURRENT | MCL_FUTURE)) !== 0) return fails(EINVAL);
  if (forbidden()) return fails(EPERM);
  const now = (how & MCL_CURRENT) !== 0;
  if (now && map.size[mp] > map.wire_limit[mp]) return fails(ENOMEM);
  set_future(mp, how & MCL_FUTURE ? 1 : 0);
  if (!now) return succeeds();
  if (map.size[mp] - map.wired[mp] > wired_room()) return fails(EAGAIN);
  return fails_unless(
    with_memory(() => all(mp, vm_map_wire)),
    EAGAIN,
  );
}
export function sys_munlockall(mp: vm_map_t): Sysret {
  if (forbidden()) return fails(EPERM);
  set_future(mp, 0);
  return fails_unless(
    with_memory(() => all(mp, vm_map_unwire)),
    ENOMEM,
  );
}
function fails_unless(kern: number, errno: number): Sysret {
  return kern === KERN_SUCCESS ? succeeds() : fails(errno);
}
/** Does that to all that is mapped. */
function all(mp: vm_map_t, to: typeof vm_map_wire): number {
  const header = map_header(mp);
  vm_map_lock_read(mp);
  const [min, max] = [entry.end[header], entry.start[header]];
  vm_map_unlock_read(mp);
  return to(mp, min, max, ALL);
}
function set_future(mp: vm_map_t, on: number): void {
  vm_map_lock(mp);
  undo_begin(map.lock, mp);
  save(map.wire_future, mp);
  map.wire_future[mp] = on;
  undo_end();
  vm_map_unlock(mp);
}

// --- the kernel's --------------------------------------------------------------------------------

/**
 * Wires the pages of a buffer of a program, until vsunlock of the same bytes by the same thread.
 * An errno, or 0: ENOMEM is over a limit, EFAULT what cannot be had.
 */
export function vslock(mp: vm_map_t, address: number, length: number): number {
  const r = range_of(address, length);
  if (r.wraps) return EINVAL;
  if (length === 0) return 0;
  const n = r.last - r.first;
  const over = wire_over_own(mp, n);
  if (over !== 0) return over;
  const pieces = pieces_of(mp, r, true);
  if (pieces === null || pieces.length > 1) return EFAULT;
  const [{ start, end }] = pieces;
  return with_memory(() => vm_hold_wire(mp, start, end)) === KERN_SUCCESS ? 0 : EFAULT;
}
/** The end of that. EINVAL: this thread did not lock just these pages. */
export function vsunlock(mp: vm_map_t, address: number, length: number): number {
  if (length === 0) return 0;
  const { first, last } = range_of(address, length);
  const [piece] = bank_pieces(mp, first, last);
  if (piece === undefined) return EINVAL;
  return vm_hold_unwire(mp, piece.start, piece.end) === KERN_SUCCESS ? 0 : EINVAL;
}
