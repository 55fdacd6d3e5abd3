/*
 * kern_note: what is noted about blocks of malloc and items of zones, without changing them.
 *
 *      malloc ── detectors ── note_alloc      the block of a detector, or a plain one
 *      zone   ── ZH_NOTE ──── note_zalloc
 *
 * A request whose turn it is, or whose type or zone is audited, gets its stack taken, once for
 * both, when the block is there and before anybody has it.  What is noted of it goes, or is
 * added to, before the block is freed.
 *
 * Read next: kern_stack_sample.ts, whose turn it is; kern_audit.ts, what is kept of each operation.
 */
import { NO_BLOCK } from '../machine/parts.ts';
import { word_page } from '../machine/memory.ts';
import { KMEM_CLASSES, KMEM_ZMAX, MD_AUDIT, MD_STACK, type malloc_type_t } from '../h/malloc.ts';
import { PK_MARKED, vm_page } from '../h/vm_page.ts';
import { AU_ALLOC, AU_FREE, AU_REALLOC, SK_TYPE, SK_ZONE } from '../h/stack.ts';
import { uma_zone, type zone_t } from '../h/uma.ts';
import { uma, uma_root, zone_name } from '../uma/uma_int.ts';
import { audit_note, audit_text, audit_wants } from './kern_audit.ts';
import { malloc_class, malloc_undetected, reallocating } from './kern_malloc.ts';
import { malloc_type_name, malloc_zone } from './kern_malloc_type.ts';
import { stack_depot_save, stack_depot_text } from './kern_stack.ts';
import { sample_add, sample_due, sample_remove, samples_list } from './kern_stack_sample.ts';

const root = uma_root;
const on = (which: number): boolean => (root.detect[uma()] & which) !== 0;

/** Whether the operations of a block of type t are kept: for the type, or its zone, of class b. */
function audits_type(t: number, b: number): boolean {
  if (!on(MD_AUDIT)) return false;
  if (audit_wants(malloc_type_name(t as malloc_type_t))) return true;
  return b < KMEM_CLASSES && audit_wants(zone_name(malloc_zone(b)));
}
/**
 * Notes what there is to note of a request for which a detector has block p, 0: nobody yet.  The
 * block, 0 if nothing is noted and nobody has one, NO_BLOCK if there is no memory.
 */
export function note_alloc(p: number, size: number, t: number, flags: number): number {
  const due = on(MD_STACK) && sample_due(size);
  const audited = audits_type(t, size <= KMEM_ZMAX ? malloc_class(size) : KMEM_CLASSES);
  if (!due && !audited) return p;
  const block = p !== 0 ? p : malloc_undetected(size, t as malloc_type_t, flags);
  if (block === 0) return NO_BLOCK;
  const id = stack_depot_save();
  if (due) sample_add(block, size, SK_TYPE, t, id);
  if (audited) audit_note(block, reallocating() ? AU_REALLOC : AU_ALLOC, t, id);
  return block;
}
/** The block at p, of a marked page, is about to be freed as one of type t. */
export function note_free(p: number, t: number): void {
  sample_remove(p);
  const kind = vm_page.info[word_page(p)] & ~PK_MARKED; // of malloc it is the class
  if (audits_type(t, kind)) audit_note(p, AU_FREE, t, stack_depot_save());
}
/** The same for items of zones of the program. */
export function note_zalloc(z: number, item: number): void {
  const due = on(MD_STACK) && sample_due(uma_zone.size[z as zone_t]);
  const audited = on(MD_AUDIT) && audit_wants(zone_name(z as zone_t));
  if (!due && !audited) return;
  const id = stack_depot_save();
  if (due) sample_add(item, uma_zone.size[z as zone_t], SK_ZONE, z, id);
  if (audited) audit_note(item, AU_ALLOC, z, id);
}
export function note_zfree(z: number, item: number): void {
  sample_remove(item);
  if (on(MD_AUDIT) && audit_wants(zone_name(z as zone_t))) {
    audit_note(item, AU_FREE, z, stack_depot_save());
  }
}

/**
 * What is known of the block or item at word p, as lines: its last operations, the newest first,
 * or who asked for it; none if nothing was noted.
 */
export function item_history(p: number): string[] {
  const audited = audit_text(p);
  if (audited.length > 0) return audited;
  const sample = samples_list().find((s) => s.item === p);
  if (sample === undefined) return [];
  return [
    '  allocated by:',
    ...stack_depot_text(sample.stack).map((line, i) => `    #${i} ${line}`),
  ];
}
