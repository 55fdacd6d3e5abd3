/*
 * kern_malloc_counted: the paths of malloc and free while stacks are sampled, and nothing else.
 *
 *      malloc ── bucket hidden ──> malloc_slow ── malloc_counted ── it is not its turn: an item
 *                                       └──────────── its turn, or no item: the slow path
 *
 * With stacks sampled each request comes by the slow path, which counts its bytes
 * (kern_stack_sample.ts).  One in thousands has its stack taken; all others do here what the fast
 * path does, with the bucket that is hidden from that, and a subtraction more.  Whatever is not the
 * plain case goes on to the slow path: then nothing is changed here.
 */
// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
import { COUNT_TURN } from '../machine/count.ts';
import {
  hot as hot_,
  MCACHE_SHIFT as MCACHE_SHIFT_,
  mcache as mcache_,
  type mcache_t,
  pcpu as pcpu_,
  thr as thr_,
} from '../machine/cpu.ts';
import { MCACHE_START as MCACHE_START_ } from '../machine/header.ts';
import { hw as hw_ } from '../machine/memory.ts';
import {
  KMEM_ZMAX as KMEM_ZMAX_,
  malloc_type,
  type malloc_type_t,
  mtstats,
  type mtstats_t,
} from '../h/malloc.ts';
import { M_ZERO as M_ZERO_ } from '../h/malloc_flags.ts';
import { type bucket_t, uma_bucket } from '../h/uma.ts';

const KMEM_ZMAX = KMEM_ZMAX_;
const M_ZERO = M_ZERO_;
const TURN = COUNT_TURN;
const hot = hot_;
const mcache = mcache_;
const MCACHE_SHIFT = MCACHE_SHIFT_;
const MCACHE_START = MCACHE_START_;
const pcpu = pcpu_;
const thr = thr_;
const hw = hw_;
const mt = malloc_type;
const stats = mtstats;
const bucket = uma_bucket;

/** A small block, if it is not its turn to be noted. 0: the slow path decides. */
export function malloc_counted(size: number, t: malloc_type_t, flags: number): number {
  if (size > KMEM_ZMAX) return 0;
  const left = pcpu.sample_left[thr.pc] - size;
  if (left <= 0 || size === 0) return 0;
  const b = size <= 16 ? 0 : 28 - Math.clz32(size - 1);
  const cpu = hot.cpu;
  const bk = mcache.counted[
    ((MCACHE_START + (cpu << MCACHE_SHIFT) + b) | 0) as mcache_t
  ] as bucket_t;
  const s = mt.stats[((t + cpu) | 0) as malloc_type_t] as mtstats_t;
  const n = (bucket.cnt[bk] - 1) | 0;
  if (n < 0 || stats.type[s] !== t) return 0;
  const item = bucket.item[((bk + n) | 0) as bucket_t];
  if ((flags & M_ZERO) !== 0) hw.fill(item, 0, 4 << b);
  pcpu.sample_left[thr.pc] = left;
  bucket.cnt[bk] = n;
  const at = ((s + b) | 0) as mtstats_t;
  const v = (stats.allocs[at] + 1) | 0;
  stats.allocs[at] = v;
  if (v << 1 === TURN)
    stats.allocs_high[at] = v < 0 ? stats.allocs_high[at] | 1 : (stats.allocs_high[at] + 1) & ~1;
  return item;
}
/** Frees a small block of class b that is on no marked page. False: the slow path does. */
export function free_counted(p: number, t: malloc_type_t, b: number): boolean {
  const cpu = hot.cpu;
  const bk = mcache.counted[
    ((MCACHE_START + (cpu << MCACHE_SHIFT) + b) | 0) as mcache_t
  ] as bucket_t;
  const s = mt.stats[((t + cpu) | 0) as malloc_type_t] as mtstats_t;
  const n = bucket.cnt[bk];
  if (n >= bucket.entries[bk] || stats.type[s] !== t) return false;
  const at = ((s + b) | 0) as mtstats_t;
  const v = (stats.frees[at] + 1) | 0;
  bucket.item[((bk + n) | 0) as bucket_t] = p;
  bucket.cnt[bk] = (n + 1) | 0;
  stats.frees[at] = v;
  if (v << 1 === TURN)
    stats.frees_high[at] = v < 0 ? stats.frees_high[at] | 1 : (stats.frees_high[at] + 1) & ~1;
  return true;
}
