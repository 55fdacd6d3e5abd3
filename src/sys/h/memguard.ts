/*
 * memguard (header): what is known of guarded blocks (kmem/memguard.ts).
 *
 * A block that is in use is an entry of a map of its own, within kernel_map.  Of those that were
 * freed the last ones are in a ring, so that a late access can be told from a wild one; some of
 * these still have their pages, which are looked at when they leave (quarantine).
 *
 *      ring   | . . . freed | held | freed | held | . . . |
 *                             tail                  next
 */
import { boot_alloc, M, machine, ROOT_GUARD } from '../machine/header.ts';
import {
  elem,
  i32,
  lock_words,
  type Ptr,
  ptr,
  struct,
  u32,
  u64,
  words,
} from '../machine/struct.ts';
import type { vm_map_t } from './vm_map.ts';

export type memguard_root_t = Ptr<'memguard_root'>;
export type memguard_freed_t = Ptr<'memguard_freed'>;

/** What `ready` says. */
export const GUARD_NEVER = 0;
export const GUARD_READY = 1;
export const GUARD_TOO_SMALL = 2;
/** Places in a program of which it is known that they were told. */
export const GUARD_SITES = 128;

/*
 * Locks: (s) the lock  (a) atomic  (m) the lock of the map of guarded blocks
 *        (h) beside another: read without it, for a sample
 */
export const memguard_root = struct<memguard_root_t>(
  'memguard_root',
  32,
)({
  lock: lock_words(4, 'kernel maps', 'the making of map and ring'),
  ready: i32('a', '1: map and ring are there; 2: the machine is too small; 0: nobody wanted them'),
  version: i32('a', 'goes up when what is guarded was changed'),
  map: ptr<vm_map_t>('sh', 'guarded blocks; 0: none yet'),
  first: i32('sh', 'its first page number'),
  end: i32('sh', 'one more than its last'),
  ring: ptr<memguard_freed_t>('sh', 'first record of freed blocks'),
  ring_n: i32('sh', 'how many records there are'),
  cursor: i32('mh', 'page number from which on a place is looked for'),
  next: i32('m', 'the record that is written next'),
  tail: i32('m', 'records before it, from `next` on, are of blocks without pages'),
  held_n: i32('mh', 'freed blocks that still have their pages'),
  held_pages: i32('mh', 'these pages'),
  numalloc: u64('mh', 'blocks that were guarded'),
  numfree: u64('mh', 'of them, those that were freed'),
  wasted: u64('mh', 'bytes of pages beyond what was asked for, of blocks within a page'),
  wrapcnt: u64('mh', 'times that the cursor began anew'),
  sites: words('a', 'places that were told: a hash of each, 0: free', GUARD_SITES),
});

export const memguard_freed = struct<memguard_freed_t>(
  'memguard_freed',
  16,
)({
  start: i32('m', 'its first page number, 0: nothing was freed here yet'),
  end: i32('m', 'one more than its last'),
  offset: i32('m', 'bytes from its first page to where it began'),
  size: u32('m', 'bytes that were asked for'),
  owner: i32('m', 'its malloc type, or its zone'),
  flags: i32('m', 'MAP_ENTRY_GUARDED, MAP_ENTRY_ITEM'),
  stack: i32('m', 'stack of its allocation, 0: not known'),
  freed: i32('m', 'stack of its free, 0: not known'),
  time: u64('m', 'when it was freed, ms'),
  page: i32('m', 'page of memory that it began at'),
  held: i32('m', '1: its pages wait to be looked at'),
});

/** The record of guarded blocks of this machine. */
export function guard_root(): memguard_root_t {
  return machine.roots[elem(M, ROOT_GUARD)] as memguard_root_t;
}
/** Lays it out, while boot_alloc still works. Its lock is made later (kmem/memguard_vars.ts). */
export function guard_root_make(): memguard_root_t {
  const r = boot_alloc(memguard_root.sizeof, 'what is known of guarded blocks', 32);
  machine.roots[elem(M, ROOT_GUARD)] = r;
  return r as memguard_root_t;
}
