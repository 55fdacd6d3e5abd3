/*
 * swap (header): swap areas, and the slots in them.
 *
 * A slot has room for one page.  The slots of all areas have numbers in one row, so that a
 * number alone says where a page is; between two areas one number stays unused, so that no run
 * of slots reaches from one into the other:
 *
 *      0      1 .......... 1024   1025   1026 ................ 9217
 *      none   area 0              unused area 1
 *
 * Number 0 means no slot.  The first two slots of each area are never given: that is where a
 * disk has its label.
 */
import { i32, lock_words, type Ptr, ptr, struct, words } from '../machine/struct.ts';
import type { vm_store_t } from './vm_store.ts';

export type swap_root_t = Ptr<'swap_root'>;
export type swap_area_t = Ptr<'swap_area'>;
export type blist_t = Ptr<'swap_blist'>;

/** Areas of a machine. */
export const SWAP_AREAS = 16;
/** Slots of all areas, and of one. */
export const SWAP_SLOTS_MAX = 2 ** 28;
export const SWAP_AREA_MAX = 2 ** 26 - 1;
/** Slots at the beginning of an area that are never given. */
export const SWAP_LABEL = 2;
/** Slots that are taken together, at most. */
export const SWAP_CLUSTER = 16;

/* What an area is. */
/** There is none. */
export const SWAP_FREE = 0;
/** Slots are taken from it and given back. */
export const SWAP_UP = 1;
/** Slots are only given back: swapoff is at work, or was killed. */
export const SWAP_CLOSING = 2;

/* How much room is left in all areas together. */
export const SWAP_ROOMY = 0;
export const SWAP_ALMOST_FULL = 1;
export const SWAP_FULL = 2;

/** Levels of a blist: the maps, and what sums them up, 32 by 32. */
export const BLIST_LEVELS = 6;

/* Locks: (w) the lock of the swap areas  (h) read by all */
export const swap_blist = struct<blist_t>('swap_blist')({
  slots: i32('wh', 'slots that it has maps for'),
  levels: i32('wh', 'levels, that of the maps included'),
  level: words('wh', 'first word of each level, the maps first', BLIST_LEVELS),
});
const BLIST_WORDS = 2 + BLIST_LEVELS;

/* Locks: (w) the lock of the swap areas  (h) read by all */
export const swap_area = struct<swap_area_t>(
  'swap_area',
  32,
)({
  state: i32('wh', 'SWAP_FREE, SWAP_UP, SWAP_CLOSING'),
  first: i32('wh', 'number of its first slot'),
  end: i32('wh', 'one more than that of its last one'),
  used: i32('wh', 'slots that pages have, or that are on their way to one'),
  bad: i32('wh', 'slots that a write has failed on: not given again'),
  lost: i32('wh', 'slots for which the store had no room: the same'),
  priority: i32('wh', 'the area with the lowest number is used first'),
  flags: i32('wh', 'SWAP_TOLD, SWAP_FILE, SWAP_DEFAULT'),
  store: ptr<vm_store_t>('wh', 'the store that its pages are in'),
  map_page: i32('w', 'first page of its maps'),
  map_pages: i32('w', 'how many'),
  map: words('-', 'which slots are free: a blist, whose fields have letters', BLIST_WORDS),
});
/** It was said that its store has no more room. */
export const SWAP_TOLD = 1;
/** Its store is a file with a label. */
export const SWAP_FILE = 2;
/** The kernel made the file, which goes with the area. */
export const SWAP_DEFAULT = 4;

/* Locks: (n) the lock  (c) constant once up  (h) read by all */
export const swap_root = struct<swap_root_t>(
  'swap_root',
  32,
)({
  lock: lock_words(4, 'swap area', 'all swap areas: their slots and what is in use'),
  areas: i32('c', 'first of the areas'),
  count: i32('nh', 'areas that there are'),
  last: i32('n', 'the area that a slot was taken from last'),
  full: i32('nh', 'SWAP_ROOMY, SWAP_ALMOST_FULL, SWAP_FULL'),
  maker: i32('nh', "tid of the CPU that makes the kernel's own area; 0: not tried; SWAP_MADE"),
  leaving: i32('n', 'tid of the CPU that takes an area out of use; 0: none'),
  coming: i32('nh', 'tid of the CPU that makes a file an area; 0: none'),
  told: i32('n', 'the fullest of these of which it was said'),
});
/** In `maker`: the kernel's own area was made, or is not to be had, or not wanted any more. */
export const SWAP_MADE = -1;
