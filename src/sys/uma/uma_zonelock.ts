/*
 * uma_zonelock: two keg locks at once, in address order.
 *
 * Only a zone with several kegs needs it: its own fields belong to the lock of
 * its first keg, while the keg at hand may be another.
 */
import { type keg_t, uma_keg } from '../h/uma.ts';
import { mtx_lock } from '../sync/kern_mutex.ts';

/** Takes the locks of a and b, once if they are the same. */
export function uma_zone_lock_kegs(a: keg_t, b: keg_t): void {
  if (a === b) return mtx_lock(uma_keg.lock, a);
  mtx_lock(uma_keg.lock, a < b ? a : b);
  mtx_lock(uma_keg.lock, a < b ? b : a);
}
