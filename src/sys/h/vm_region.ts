/*
 * vm_region (header): named regions of an address space.
 *
 *      map ──> region 'index' ──> region 'rows'          the newest first
 *                [start, end)       [start, end)          page numbers
 *
 * A region is a name for a range of pages, by which threads find what one of them mapped.  The
 * range may be another region's later, and so may the name: its number is never given again.
 * What is mapped there, and how, is said by the entries of the map (h/vm_map.ts).
 */
import { i32, type Ptr, ptr, struct, words } from '../machine/struct.ts';
import type { vm_map_t } from './vm_map.ts';

export type vm_region_t = Ptr<'vm_region'>;

/** Room for names of at most 31 bytes. */
const NAME_WORDS = 8;

/* States. */
/** Its pages are being mapped, or are let go of: a thread that died was at it. */
export const REGION_HALF = 0;
export const REGION_READY = 1;
/** It is one of several that are mapped at once: ready when the map says that all are there. */
export const REGION_JOINT = 2;

/* Locks: (m) that of the map; in no map, whoever has it */
export const vm_region = struct<vm_region_t>('vm_region')({
  next: ptr<vm_region_t>('m', 'the one that was made before it'),
  start: i32('m', 'first page'),
  end: i32('m', 'first page beyond'),
  state: i32('m', 'REGION_*'),
  name_bytes: i32('m', 'length of the name'),
  map: ptr<vm_map_t>('m', 'map that it is of; 0: none'),
  id: i32('m', 'which it is of all that its map ever had: by it a thread knows its own again'),
  name: words('m', 'the name, UTF-8', NAME_WORDS),
});
