/*
 * malloc_ops: what the malloc scripts are put together from.
 *
 * Blocks pass through a few shared places, so that most are freed by another
 * CPU than took them.  Each carries a mark at its ends: a block in two hands,
 * or one that lost its contents, ends the run.
 */
import { atomic_xchg } from '../src/sys/machine/atomic.ts';
import { mem, PAGE_SIZE } from '../src/sys/machine/memory.ts';
import { elem, field_word, i32, NULL, type Ptr, struct, words } from '../src/sys/machine/struct.ts';
import type { malloc_type_t } from '../src/sys/h/malloc.ts';
import {
  free,
  M_NOWAIT,
  M_ZERO,
  malloc,
  malloc_type_attach,
  malloc_usable_size,
  realloc,
} from '../src/sys/kmem/kern_malloc.ts';
import { contigmalloc } from '../src/sys/kmem/kern_contig.ts';
import { uma_reclaim } from '../src/sys/uma/uma_drain.ts';
import { scratch } from './script.ts';

type rec_t = Ptr<'sim_malloc'>;
const PLACES = 5;
/* Locks: (c) constant  (a) atomic */
const rec = struct<rec_t>('sim_malloc')({
  type: i32('c', 'the type'),
  place: words('a', 'blocks that wait for another CPU', PLACES),
});
const MARK = 0x5eed0000;
const type = (): malloc_type_t => rec.type[scratch<rec_t>()] as malloc_type_t;
const place = (i: number): number => field_word(rec.place, elem(scratch<rec_t>(), i % PLACES));

/** The mark of a block stands in its first and in its last word. */
function mark(p: number): void {
  mem.I32[p] = MARK ^ p;
  mem.I32[p + malloc_usable_size(p) / 4 - 1] = MARK ^ p;
}
function give(p: number, what: string): void {
  if (p === NULL) return;
  const last = mem.I32[p + malloc_usable_size(p) / 4 - 1];
  if (mem.I32[p] !== (MARK ^ p) || last !== (MARK ^ p)) {
    throw new Error(`${what}: block ${p} was in two hands`);
  }
  mem.I32[p] = 0;
  free(p, type());
}
/** A new block into a place; what lay there is freed. */
export const swap =
  (i: number, size: number, flags = M_NOWAIT) =>
  (): void => {
    const p = malloc(size, type(), flags);
    if (p === NULL) return;
    for (let w = p; flags & M_ZERO && w < p + size / 4; w += 64) {
      if (mem.I32[w] !== 0) throw new Error(`block ${p} is not zero`);
    }
    mark(p);
    give(atomic_xchg(place(i), p), 'swap');
  };
/** A block that is there already into a place, which is empty. */
export function lay(i: number, p: number): void {
  mark(p);
  atomic_xchg(place(i), p);
}
export const clear = (i: number) => (): void => give(atomic_xchg(place(i), 0), 'clear');
/** The same with a guarded block, where the highest pages are. */
export const swap_guarded = (i: number, size: number) => (): void => {
  const p = contigmalloc(size, type(), M_NOWAIT, 0, 2 ** 33, 1, 0, true);
  if (p === NULL) return;
  mark(p);
  give(atomic_xchg(place(i), p), 'swap');
};
/** The block of a place gets another size. */
export const resize = (i: number, size: number) => (): void => {
  const p = atomic_xchg(place(i), 0);
  if (p === NULL) return;
  if (mem.I32[p] !== (MARK ^ p)) throw new Error(`resize: block ${p} was in two hands`);
  const q = realloc(p, size, type(), M_NOWAIT);
  if (q !== NULL && mem.I32[q] !== (MARK ^ p)) throw new Error('realloc lost the contents');
  mark(q === NULL ? p : q);
  give(atomic_xchg(place(i), q === NULL ? p : q), 'resize');
};
export const reclaim = (): void => {
  uma_reclaim();
};
/** Takes and gives many of a size at once: buckets are filled, handed over, taken again. */
export const burst = (n: number, size: number) => (): void => {
  const taken: number[] = [];
  for (let i = 0; i < n; i++) {
    const p = malloc(size, type(), M_NOWAIT);
    if (p === NULL) break;
    mark(p);
    taken.push(p);
  }
  for (const p of taken) give(p, 'burst');
};

/** Makes the type; with `left` fills the memory until about that many pages are free. */
export function setup(left = 0): void {
  rec.type[scratch<rec_t>()] = malloc_type_attach('sim');
  if (left === 0) return;
  const kept = malloc(left * PAGE_SIZE, type(), M_NOWAIT);
  for (let pages = 256; pages > 0; ) {
    if (malloc(pages * PAGE_SIZE, type(), M_NOWAIT) === NULL) pages >>= 1;
  }
  free(kept, type());
}
