/*
 * kern_detect_chain: the detectors one after the other, as the kernel calls them.
 *
 *      detect_alloc     the first one that is on and wants the block makes it; then it is noted
 *      detect_free      nothing is noted any more; whose block it is frees it
 *      detect_size      whose block it is knows how long it is
 *      detect_what      the same in words, for messages
 *
 * The order matters: memguard decides before redzone, as in BSD.  A block is one detector's at
 * most.  Each detector is a record of functions in a file of its own, and has a line in the
 * table below; boot/whole.ts gives the chain to kern_malloc.ts.  A detector that is off is asked
 * for no block, but its blocks may be there still: so free and size ask all of them.
 *
 * Read next: kern_detect.ts, how a request comes here.
 */
import { type MallocDetect, NO_BLOCK } from '../machine/parts.ts';
import { MD_NOTES } from '../h/malloc.ts';
import { uma, uma_root } from '../uma/uma_int.ts';
import { note_alloc, note_free } from './kern_note.ts';
import { memguard_detector } from './memguard.ts';
import { redzone_detector } from './redzone.ts';

const root = uma_root;

/** What looks at blocks of malloc; `which` is its bit of MD_*. */
export interface Detector extends MallocDetect {
  readonly which: number;
}
/** All of them, in the order in which they are asked. */
export const detectors: Detector[] = [memguard_detector, redzone_detector];

/** A block by the first detector that wants it; 0: none does; NO_BLOCK: it found no memory. */
export function detect_alloc(size: number, t: number, flags: number): number {
  const on = root.detect[uma()];
  let p = 0;
  for (const d of detectors) {
    p = (on & d.which) !== 0 ? d.alloc(size, t, flags) : 0;
    if (p !== 0) break;
  }
  return p !== NO_BLOCK && (on & MD_NOTES) !== 0 ? note_alloc(p, size, t, flags) : p;
}
/** Frees the block at p, which a program has, if it is a detector's. */
export function detect_free(p: number, t: number): boolean {
  note_free(p, t);
  return detectors.some((d) => d.free(p, t));
}
/**
 * Bytes that were asked for of the block that a program has at p; -1: it is no detector's; -2: it
 * lies in one, which begins elsewhere.
 */
export function detect_size(p: number): number {
  for (const d of detectors) {
    const size = d.size(p);
    if (size !== -1) return size;
  }
  return -1;
}
/** What lies at p, in a phrase; '': nothing of a detector's. */
export function detect_what(p: number): string {
  for (const d of detectors) {
    const what = d.what?.(p) ?? '';
    if (what !== '') return what;
  }
  return '';
}
