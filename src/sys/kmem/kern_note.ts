/*
 * kern_note: what is noted about blocks of malloc and items of zones, without changing them.
 *
 *      malloc ── detectors ── note_alloc      the block of a detector, or a plain one
 *      zone   ── ZH_NOTE ──── note_zalloc
 *
 * A request whose turn it is gets its stack taken, once for all who want one, when the block is
 * there and before anybody has it.  What is noted of it goes before the block is freed.
 *
 * Read next: kern_stack_sample.ts, whose turn it is.
 */
import { NO_BLOCK } from '../machine/parts.ts';
import { MD_STACK, type malloc_type_t } from '../h/malloc.ts';
import { SK_TYPE, SK_ZONE } from '../h/stack.ts';
import { uma_zone, type zone_t } from '../h/uma.ts';
import { uma, uma_root } from '../uma/uma_int.ts';
import { malloc_undetected } from './kern_malloc.ts';
import { stack_depot_save } from './kern_stack.ts';
import { sample_add, sample_due, sample_remove } from './kern_stack_sample.ts';

const root = uma_root;

/**
 * Notes what there is to note of a request for which a detector has block p, 0: nobody yet.  The
 * block, 0 if nothing is noted and nobody has one, NO_BLOCK if there is no memory.
 */
export function note_alloc(p: number, size: number, t: number, flags: number): number {
  const due = (root.detect[uma()] & MD_STACK) !== 0 && sample_due(size);
  if (!due) return p;
  const block = p !== 0 ? p : malloc_undetected(size, t as malloc_type_t, flags);
  if (block === 0) return NO_BLOCK;
  sample_add(block, size, SK_TYPE, t, stack_depot_save());
  return block;
}
/** The block at p, of a marked page, is about to be freed. */
export function note_free(p: number): void {
  sample_remove(p);
}
/** The same for items of zones of the program. */
export function note_zalloc(z: number, item: number): void {
  const size = uma_zone.size[z as zone_t];
  const due = (root.detect[uma()] & MD_STACK) !== 0 && sample_due(size);
  if (due) sample_add(item, size, SK_ZONE, z, stack_depot_save());
}
export function note_zfree(_z: number, item: number): void {
  sample_remove(item);
}
