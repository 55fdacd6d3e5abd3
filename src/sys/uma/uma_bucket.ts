/*
 * uma_bucket: arrays of items, and the zones they come from.
 *
 * A bucket has room for up to 128 items, as the zone's limit says.  Large items get
 * small buckets, so that what lies idle in caches stays bounded in bytes; a zone's
 * buckets grow with its misses up to that bound.  An item that alone is more than a
 * full bucket may hold is not cached at all: it goes straight to its slab, and the
 * slab's pages straight back.  Bucket zones have no caches of their own.
 */
import { M, machine } from '../machine/header.ts';
import { PAGE_SIZE, ptoa } from '../machine/memory.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { elem, get64, NULL } from '../machine/struct.ts';
import { M_NOWAIT, M_ZERO } from '../h/malloc_flags.ts';
import { BUCKET_HEAD_WORDS, type bucket_t, uma_bucket, type zone_t } from '../h/uma.ts';
import { budget_limit_pages } from './uma_budget.ts';
import { zone_alloc_item, zone_free_item } from './uma_core.ts';
import { BUCKET_MAX, BUCKET_SIZES, uma, uma_root } from './uma_int.ts';

const bucket = uma_bucket;

/** Item size in bytes up to which a bucket of each of BUCKET_SIZES may be used. */
const SIZE_CAPS = [16384, 8192, 4096, 2048, 1024, 512];
/** A full bucket may hold this share of the memory: small machines have small buckets. */
const MEMORY_SHARE = 256;

/** Bytes that a full bucket, or a free slab, may keep from the rest of the machine. */
export function bucket_bytes_max(): number {
  const limit = budget_limit_pages();
  const memory = get64(machine.size_bytes, M);
  return Math.min(memory, limit === 0 ? memory : ptoa(limit)) / MEMORY_SHARE;
}
/** The largest bucket for items of `rsize` bytes; 0: they are not cached. */
export function bucket_max_for(rsize: number): number {
  let most = 1;
  for (const [i, cap] of SIZE_CAPS.entries()) if (rsize <= cap) most = BUCKET_SIZES[i];
  const share = Math.floor(bucket_bytes_max() / rsize);
  return Math.min(most, rsize <= PAGE_SIZE ? Math.max(1, share) : share, BUCKET_MAX);
}
/** Bytes of a bucket for n items. */
export function bucket_bytes(n: number): number {
  return (BUCKET_HEAD_WORDS + n) * 4;
}
/** What tests make fail: before each new bucket. */
export const bucket_failpoint: { refuse: (() => boolean) | null } = { refuse: null };

/**
 * An empty bucket for at least `n` items, and at most `most`; NULL if there is no
 * memory for it.
 */
export function bucket_alloc(n: number, most: number, flags: number): bucket_t {
  if (bucket_failpoint.refuse?.()) return NULL as bucket_t;
  let i = 0;
  while (i < BUCKET_SIZES.length - 1 && BUCKET_SIZES[i] < n) i++;
  const z = uma_root.bucket_zone[elem(uma(), i)] as zone_t;
  const b = zone_alloc_item(z, (flags & ~M_ZERO & ~2) | M_NOWAIT) as bucket_t;
  if (b === NULL) return b;
  checked_fresh(b, BUCKET_HEAD_WORDS);
  bucket.cnt[b] = 0;
  bucket.entries[b] = Math.min(BUCKET_SIZES[i], most);
  bucket.link[b] = NULL as bucket_t;
  bucket.zone[b] = z;
  checked_publish(b);
  return b;
}
/** Gives an empty bucket back. */
export function bucket_free(b: bucket_t): void {
  zone_free_item(bucket.zone[b], b);
}
/** Whether z is a zone of buckets. */
export function is_bucket_zone(z: zone_t): boolean {
  for (let i = 0; i < BUCKET_SIZES.length; i++) {
    if (uma_root.bucket_zone[elem(uma(), i)] === z) return true;
  }
  return false;
}
/** The name a bucket zone has in the tools. */
export function bucket_zone_name(n: number): string {
  return `${n} Bucket`;
}
