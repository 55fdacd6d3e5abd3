/*
 * uma_bucket: arrays of items, and the zones they come from.
 *
 * A bucket holds 4 to 128 items.  Large items get small buckets, so that what
 * lies idle in caches stays bounded in bytes; a zone's buckets grow with its
 * misses up to that bound.  Bucket zones have no caches of their own.
 */
import { M, machine } from '../machine/header.ts';
import { elem, get64, NULL } from '../machine/struct.ts';
import { M_NOWAIT, M_ZERO } from '../h/malloc_flags.ts';
import { BUCKET_HEAD_WORDS, type bucket_t, uma_bucket, type zone_t } from '../h/uma.ts';
import { checked_fresh, checked_publish } from '../sync/checked.ts';
import { zone_alloc_item, zone_free_item } from './uma_core.ts';
import { BUCKET_MAX, BUCKET_SIZES, uma, uma_root } from './uma_int.ts';

const bucket = uma_bucket;

/** Item size in bytes up to which a bucket of each of BUCKET_SIZES may be used. */
const SIZE_CAPS = [16384, 8192, 4096, 2048, 1024, 512];
/** A full bucket may hold this share of the machine's memory: small machines have small buckets. */
const MEMORY_SHARE = 256;

/** The largest bucket for items of `rsize` bytes. */
export function bucket_max_for(rsize: number): number {
  let most = 1;
  for (const [i, cap] of SIZE_CAPS.entries()) if (rsize <= cap) most = BUCKET_SIZES[i];
  const share = Math.floor(get64(machine.size_bytes, M) / MEMORY_SHARE / rsize);
  return Math.max(1, Math.min(most, share, BUCKET_MAX));
}
/** Bytes of a bucket for n items. */
export function bucket_bytes(n: number): number {
  return (BUCKET_HEAD_WORDS + n) * 4;
}
/** What tests make fail: before each new bucket. */
export const bucket_failpoint: { refuse: (() => boolean) | null } = { refuse: null };

/** An empty bucket for at least `n` items, or for 128; NULL if there is no memory for it. */
export function bucket_alloc(n: number, flags: number): bucket_t {
  if (bucket_failpoint.refuse?.()) return NULL as bucket_t;
  let i = 0;
  while (i < BUCKET_SIZES.length - 1 && BUCKET_SIZES[i] < n) i++;
  const z = uma_root.bucket_zone[elem(uma(), i)] as zone_t;
  const b = zone_alloc_item(z, (flags & ~M_ZERO & ~2) | M_NOWAIT) as bucket_t;
  if (b === NULL) return b;
  checked_fresh(b, BUCKET_HEAD_WORDS);
  bucket.cnt[b] = 0;
  bucket.entries[b] = BUCKET_SIZES[i];
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
