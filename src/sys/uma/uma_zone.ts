/*
 * uma_zone: zones and kegs are made, limited and destroyed.
 *
 * Bootstrap.  The zones "UMA Kegs", "UMA Zones", "UMA Slabs", "UMA RCntSlabs"
 * and "UMA Hash" describe the allocator's own records; the first two are laid
 * out by hand in boot memory, everything later comes from them.  Then the
 * bucket zones; from there on caches have buckets.  This is the top of
 * `vmstat -z`.
 *
 * A zone and its keg are published under the UMA lock, when they are complete.
 */

import { W_KEGLIMIT } from '../machine/wmesg.ts';
import { zone_declared } from '../machine/zone_decl.ts';
import { atomic_and, atomic_load, atomic_or } from '../machine/atomic.ts';
import { E2BIG, EBUSY, EINVAL, ENOMEM } from '../machine/errno.ts';
import { boot_alloc, M, machine, ROOT_UMA } from '../machine/header.ts';
import { cpu_nobody, pcpu, thr } from '../machine/cpu.ts';
import { PAGE_SIZE, hw, mem } from '../machine/memory.ts';
import { opt } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { checked_fresh, checked_publish } from '../machine/parts.ts';
import { add64, elem, field_word, NULL, set_string } from '../machine/struct.ts';
import { MD_NOTES } from '../h/malloc.ts';
import { M_NOWAIT, M_WAITOK } from '../h/malloc_flags.ts';
import {
  type bucket_t,
  CACHE_SHIFT,
  KEGS_PER_ZONE,
  type keg_t,
  UMA_ALIGN_PTR,
  UMA_NAME_WORDS,
  UMA_ZFLAG_BUCKET,
  UMA_ZFLAG_CACHEONLY,
  UMA_ZFLAG_INTERNAL,
  UMA_ZFLAG_MULTI,
  UMA_ZFLAG_PROGRAM,
  UMA_ZFLAG_PRIVALLOC,
  UMA_ZONE_INHERIT,
  UMA_ZONE_MALLOC,
  UMA_ZONE_MAXBUCKET,
  UMA_ZONE_NOFREE,
  UMA_ZONE_REFCNT,
  UMA_ZONE_SECONDARY,
  UMA_ZONE_VM,
  UMA_ZONE_VTOSLAB,
  uma_bucket,
  uma_cache,
  uma_keg,
  uma_zone,
  ZH_CTOR,
  ZH_DEBUG,
  ZH_DTOR,
  ZH_FULL as ZH_FULL_,
  ZH_NOCACHE,
  ZH_NOTE,
  type zone_t,
} from '../h/uma.ts';
import { mtx_init, mtx_lock, mtx_unlock } from '../sync/kern_mutex.ts';
import { LC_BUCKET, LC_SLAB, LC_UMA, LC_UMA_DRAIN, LC_ZONE } from '../sync/lock_order.ts';
import { msleep } from '../sync/subr_sleepqueue.ts';
import { save, save_word, undo_begin, undo_end } from '../sync/undo.ts';
import { bucket_bytes, bucket_bytes_max, bucket_max_for, bucket_zone_name } from './uma_bucket.ts';
import { zone_alloc_item, zone_free_item } from './uma_core.ts';
import { zone_limit_wakeup } from './uma_fetch.ts';
import { uma_going_end, uma_zone_going } from './uma_going.ts';
import { uma_zone_lock_kegs } from './uma_zonelock.ts';
import {
  BUCKET_SIZES,
  cache_of,
  uma,
  UMA_ZFLAG_SHARED,
  uma_each_zone,
  uma_root,
  type uma_root_t,
  zone_lock,
  zone_unlock,
} from './uma_int.ts';
import {
  item_settle,
  keg_add_page,
  keg_grow,
  keg_layout,
  RCNT_ITEMS_MAX,
  SLAB_ITEMS_MAX,
  slab_header_words,
} from './uma_keg.ts';
import { zone_present } from './uma_stats.ts';

/* A local name: V8 takes it for a constant, an imported one it does not. */
const ZH_FULL = ZH_FULL_;
const zone = uma_zone;
const keg = uma_keg;

// --- bootstrap -----------------------------------------------------------------------------

const Z_KEGS = zone_declared(
  'UMA Kegs',
  'Kegs: a keg knows how items of a size lie in pages, and its slabs',
);
const Z_ZONES = zone_declared('UMA Zones', 'Zones, with a cache for each CPU in each');
const Z_SLABS = zone_declared('UMA Slabs', 'Headers of slabs that do not lie in the page itself');
const Z_RCNT = zone_declared(
  'UMA RCntSlabs',
  'Headers of slabs whose items have reference counts, such as clusters',
);
const Z_HASH = zone_declared(
  'UMA Hash',
  'Nothing: kept by its BSD name; the page array leads from an item to its slab',
);
const Z_BUCKETS = BUCKET_SIZES.map((n) =>
  zone_declared(
    bucket_zone_name(n),
    `Buckets for ${n} free items: what the caches of CPUs are made of`,
  ),
);

function zone_words(): number {
  return zone.sizeof + ((cpu_nobody() + 1) << CACHE_SHIFT);
}
/** Lays the root and the first two kegs and zones out, while boot_alloc still works. */
export function uma_boot(): void {
  const r = boot_alloc(uma_root.sizeof, 'UMA', 16) as uma_root_t;
  machine.roots[elem(M, ROOT_UMA)] = r;
  mtx_init(uma_root.lock, r, LC_UMA);
  mtx_init(uma_root.drain, r, LC_UMA_DRAIN);
  uma_root.null_bucket[r] = boot_alloc(uma_bucket.sizeof, 'UMA', 16) as bucket_t;
  for (let i = 0; i < 2; i++) {
    const z = boot_alloc(zone_words(), 'the first zones', 32) as zone_t;
    const k = boot_alloc(keg.sizeof, 'the first kegs', 16) as keg_t;
    zone.keg[z] = k;
    if (i === 0) uma_root.zone_keg[r] = z;
    else uma_root.zone_zone[r] = z;
  }
}
/**
 * Makes the allocator's own zones, now that there are pages.  Records of zones
 * and kegs are type-stable (NOFREE): a CPU that walks the list without a lock
 * while a zone is destroyed stands on a record of the same shape.
 */
export function uma_startup(): void {
  const r = uma();
  const fixed = (z: zone_t, name: string, bytes: number, align: number): void => {
    const k = zone.keg[z];
    keg_setup(k, bytes, 0, 0, align, UMA_ZFLAG_INTERNAL | UMA_ZONE_NOFREE, LC_SLAB);
    zone_setup(z, k, name, UMA_ZFLAG_INTERNAL, [0, 0, 0, 0]);
    publish(k, z, 0, 0);
  };
  fixed(uma_root.zone_keg[r], Z_KEGS, keg.sizeof * 4, 63);
  fixed(uma_root.zone_zone[r], Z_ZONES, zone_words() * 4, 127);
  const internal = (name: string, bytes: number): zone_t =>
    uma_zcreate(name, bytes, { flags: UMA_ZFLAG_INTERNAL });
  uma_root.slab_zone[r] = internal(Z_SLABS, slab_header_words(SLAB_ITEMS_MAX, false) * 4);
  uma_root.rcnt_zone[r] = internal(Z_RCNT, slab_header_words(RCNT_ITEMS_MAX, true) * 4);
  internal(Z_HASH, 256); // unused: the page array leads to every slab
  for (const [i, n] of BUCKET_SIZES.entries()) {
    const flags = UMA_ZFLAG_INTERNAL | UMA_ZFLAG_BUCKET;
    const z = uma_zcreate(Z_BUCKETS[i], bucket_bytes(n), { flags });
    uma_root.bucket_zone[elem(r, i)] = z;
  }
  uma_root.up[r] = 1;
}

// --- making ---------------------------------------------------------------------------------

function keg_setup(
  k: keg_t,
  size: number,
  init: number,
  fini: number,
  align: number,
  flags: number,
  cls: number,
): void {
  mtx_init(keg.lock, k, cls);
  let all = flags;
  if (all & UMA_ZONE_VM) all |= UMA_ZFLAG_CACHEONLY;
  if (all & (UMA_ZONE_MALLOC | UMA_ZONE_REFCNT)) all |= UMA_ZONE_VTOSLAB;
  keg.size[k] = size;
  keg.align[k] = align;
  keg.flags[k] = all;
  keg.init[k] = init;
  keg.fini[k] = fini;
  keg.domain[k] = -1;
  keg_layout(k);
  const idle = keg.ppera[k] > 1 && (all & (UMA_ZONE_NOFREE | UMA_ZFLAG_INTERNAL)) === 0;
  keg.eager[k] = idle && keg.ppera[k] * PAGE_SIZE > bucket_bytes_max() ? 1 : 0;
}
function zone_setup(
  z: zone_t,
  k: keg_t,
  name: string,
  flags: number,
  hooks: readonly [number, number, number, number],
): void {
  [zone.ctor[z], zone.dtor[z], zone.zinit[z], zone.zfini[z]] = hooks;
  set_string(zone.name, z, UMA_NAME_WORDS, name);
  zone.keg[z] = k;
  zone.kegs[z] = k;
  zone.nkegs[z] = 1;
  zone.size[z] = keg.size[k];
  zone.flags[z] = (flags & ~UMA_ZONE_INHERIT) | (keg.flags[k] & UMA_ZONE_INHERIT);
  const internal = (flags & UMA_ZFLAG_INTERNAL) !== 0;
  zone.hooks[z] =
    (zone.ctor[z] ? ZH_CTOR : 0) |
    (zone.dtor[z] ? ZH_DTOR : 0) |
    (opt.INVARIANTS && !internal ? ZH_DEBUG : 0) |
    (internal ? ZH_NOCACHE : 0);
  zone.bucket_max[z] = bucket_max_for(keg.rsize[k]);
  const first = flags & UMA_ZONE_MAXBUCKET ? zone.bucket_max[z] : Math.min(keg.ipers[k], 4);
  zone.count[z] = Math.min(first, zone.bucket_max[z]);
  zone.mclass[z] = keg.mclass[k];
  for (let cpu = 0; cpu <= cpu_nobody(); cpu++) {
    uma_cache.cur[cache_of(z, cpu)] = uma_root.null_bucket[uma()];
  }
}
/**
 * Links a keg with its first zone, or (k NULL) a further zone to the keg it has.
 * Both leave this CPU's hand, and the word `anchor` leads to the zone, in the
 * same step.
 */
function publish(k: keg_t, z: zone_t, anchor: number, in_hand: number): void {
  const r = uma();
  checked_publish(z);
  checked_publish(k);
  mtx_lock(uma_root.lock, r);
  undo_begin(uma_root.lock, r);
  save(uma_root.nzones, r);
  save(pcpu.in_hand_items, thr.pc);
  item_settle(in_hand);
  if (anchor !== 0) {
    save_word(anchor);
    mem.I32[anchor] = z;
  }
  if (k !== NULL) {
    save(uma_root.kegs, r);
    keg.link[k] = uma_root.kegs[r];
    keg.zones[k] = z;
    uma_root.kegs[r] = k;
  } else {
    let at = keg.zones[zone.keg[z]];
    while (zone.link[at] !== NULL) at = zone.link[at];
    save(zone.link, at);
    zone.link[at] = z;
  }
  uma_root.nzones[r]++;
  undo_end();
  if (uma_root.detect[r] & MD_NOTES) zone_notes(z, true);
  mtx_unlock(uma_root.lock, r);
}

/** Has requests of a zone of the program noted, or not. */
function zone_notes(z: zone_t, on: boolean): void {
  if ((zone.flags[z] & UMA_ZFLAG_PROGRAM) === 0) return;
  const w = field_word(zone.hooks, z);
  if (on) atomic_or(w, ZH_NOTE);
  else atomic_and(w, ~ZH_NOTE);
}
/** The same for all zones of the program, by what MD_* says by now. */
export function uma_notes(): void {
  const r = uma();
  mtx_lock(uma_root.lock, r);
  const on = (atomic_load(field_word(uma_root.detect, r)) & MD_NOTES) !== 0;
  uma_each_zone((z) => zone_notes(z, on));
  mtx_unlock(uma_root.lock, r);
}

/** What a zone may be given besides its name and size. Functions are vector numbers; 0: none. */
export interface zone_options {
  /** Run at every allocation and free. */
  readonly ctor?: number;
  readonly dtor?: number;
  /** Run when an item enters or leaves the keg. */
  readonly init?: number;
  readonly fini?: number;
  /** A mask, UMA_ALIGN_*; default UMA_ALIGN_PTR. */
  readonly align?: number;
  /** UMA_ZONE_*. */
  readonly flags?: number;
  /** Of malloc's own zones: the size class, from 1 on. */
  readonly mclass?: number;
  /** A word that leads to the zone from the moment on at which there is one. */
  readonly anchor?: number;
}
/**
 * Makes a zone of items of `size` bytes on a keg of its own.  Does not sleep; panics
 * if there is no memory for the zone itself.  UMA_ZONE_ZINIT says that items are zero
 * when they enter the keg, with UMA_ZONE_MALLOC too; pages of other kegs come zeroed
 * in any case, but the checks then leave the items as they are (uma_dbg.ts).
 */
export function uma_zcreate(name: string, size: number, o: zone_options = {}): zone_t {
  const z = uma_zcreate_nowait(name, size, o);
  if (z === NULL) panic('uma_zcreate: no memory for the zone', name);
  return z;
}
/** uma_zcreate for callers that can do without: NULL when there is no memory. */
export function uma_zcreate_nowait(name: string, size: number, o: zone_options = {}): zone_t {
  const { ctor = 0, dtor = 0, init = 0, fini = 0, mclass = 0, anchor = 0, flags = 0 } = o;
  const r = uma();
  const z = zone_alloc_item(uma_root.zone_zone[r], M_NOWAIT) as zone_t;
  const k =
    z === NULL ? (NULL as keg_t) : (zone_alloc_item(uma_root.zone_keg[r], M_NOWAIT) as keg_t);
  if (k === NULL) {
    if (z !== NULL) zone_free_item(uma_root.zone_zone[r], z);
    return NULL as zone_t;
  }
  checked_fresh(z, zone_words());
  checked_fresh(k, keg.sizeof);
  hw.fill(z, 0, zone_words());
  hw.fill(k, 0, keg.sizeof);
  const cls = flags & UMA_ZFLAG_BUCKET ? LC_BUCKET : flags & UMA_ZFLAG_INTERNAL ? LC_SLAB : LC_ZONE;
  keg.mclass[k] = mclass;
  keg_setup(k, size, init, fini, o.align ?? UMA_ALIGN_PTR, flags, cls);
  zone_setup(z, k, name, flags, [ctor, dtor, 0, 0]);
  publish(k, z, anchor, 2);
  return z;
}

/** Makes a secondary zone: its own caches and constructors on the keg of `master`. */
export function uma_zsecond_create(
  name: string,
  ctor: number,
  dtor: number,
  zinit: number,
  zfini: number,
  master: zone_t,
): zone_t {
  const k = zone.keg[master];
  if (keg.flags[k] & UMA_ZFLAG_INTERNAL) panic('uma_zsecond_create: on an internal keg', name);
  const z = zone_alloc_item(uma_root.zone_zone[uma()], M_WAITOK) as zone_t;
  if (z === NULL) panic('uma_zsecond_create: no memory for the zone', name);
  checked_fresh(z, zone_words());
  hw.fill(z, 0, zone_words());
  const flags = (keg.flags[k] & ~UMA_ZFLAG_PRIVALLOC) | UMA_ZONE_SECONDARY;
  zone_setup(z, k, name, flags, [ctor, dtor, zinit, zfini]);
  keg_share(k);
  publish(NULL as keg_t, z, 0, 1);
  return z;
}

/** Notes that several zones take items from keg k. */
function keg_share(k: keg_t): void {
  mtx_lock(keg.lock, k);
  keg.flags[k] |= UMA_ZFLAG_SHARED;
  mtx_unlock(keg.lock, k);
}

/**
 * Puts the first keg of `master` behind zone z as well.  EINVAL unless z is a
 * secondary zone, both carry UMA_ZONE_VTOSLAB, and both or neither keep counts;
 * E2BIG if the item sizes differ; ENOMEM when z has all it can.
 */
export function uma_zsecond_add(z: zone_t, master: zone_t): number {
  const k = zone.keg[master];
  const need = UMA_ZONE_SECONDARY | UMA_ZONE_VTOSLAB;
  if ((zone.flags[z] & need) !== need) return EINVAL;
  if ((zone.flags[master] & UMA_ZONE_VTOSLAB) === 0) return EINVAL;
  if ((zone.flags[z] & UMA_ZONE_REFCNT) !== (zone.flags[master] & UMA_ZONE_REFCNT)) return EINVAL;
  if (zone.size[z] !== zone.size[master]) return E2BIG;
  const first = zone.keg[z];
  uma_zone_lock_kegs(first, k);
  const n = zone.nkegs[z];
  let error = 0;
  for (let i = 0; i < n; i++) if (zone.kegs[elem(z, i)] === k) error = EINVAL;
  if (n >= KEGS_PER_ZONE) error = ENOMEM;
  if (error === 0) {
    zone.kegs[elem(z, n)] = k;
    zone.nkegs[z] = n + 1;
    atomic_or(field_word(zone.flags, z), UMA_ZFLAG_MULTI);
    keg.flags[k] |= UMA_ZFLAG_SHARED;
  }
  if (first !== k) mtx_unlock(keg.lock, k);
  mtx_unlock(keg.lock, first);
  return error;
}

// --- limits and reserves -------------------------------------------------------------------------

/**
 * Limits the zone's keg to `n` items, rounded up to whole slabs, 0: no limit.
 * Whoever sleeps for the old limit is woken.  Returns what was set.
 */
export function uma_zone_set_max(z: zone_t, n: number): number {
  const k = zone.keg[z];
  zone_lock(z);
  let pages = Math.floor(n / keg.ipers[k]) * keg.ppera[k];
  if ((pages / keg.ppera[k]) * keg.ipers[k] < n) pages += keg.ppera[k];
  keg.maxpages[k] = pages;
  zone_unlock(z);
  zone_limit_wakeup(z, k);
  return uma_zone_get_max(z);
}
/**
 * Gives a zone whose keg is empty a store of its own for `n` items: so many, rounded up to whole
 * slabs, are the most that it may have, and what pages it ever took stay its.  Returns how many.
 *
 * BSD takes the pages from an object of type PHYS, at kernel addresses that it reserves here.  All
 * of our memory has addresses, as on its machines with a direct map, where it does without both:
 * what remains is the limit, and that nothing goes back.
 */
export function uma_zone_set_obj(z: zone_t, n: number): number {
  const k = zone.keg[z];
  keg_must_be_empty(k, 'uma_zone_set_obj');
  zone_lock(z);
  keg.flags[k] |= UMA_ZONE_NOFREE;
  zone_unlock(z);
  return uma_zone_set_max(z, n);
}
/** The limit in items, 0: none. */
export function uma_zone_get_max(z: zone_t): number {
  const k = zone.keg[z];
  return Math.floor(keg.maxpages[k] / keg.ppera[k]) * keg.ipers[k];
}
/** Items in use now: a sample while other CPUs run. */
export function uma_zone_get_cur(z: zone_t): number {
  return zone_present(z).used;
}
/** Whether the limit was hit and nothing came back since. */
export function uma_zone_exhausted(z: zone_t): boolean {
  return (zone.hooks[z] & ZH_FULL) !== 0;
}
/**
 * Sleeps at most `ms` while the zone is at its limit. The caller asks again: woken, late or
 * called off, the item may be another's by then.
 */
export function uma_zone_sleep(z: zone_t, ms: number): void {
  const k = zone.keg[z];
  mtx_lock(keg.lock, k);
  // Looked at under the lock: who gives an item back clears the mark before it wakes us.
  if (uma_zone_exhausted(z)) {
    add64(zone.sleeps, z, 1);
    msleep(k, keg.lock, k, W_KEGLIMIT, ms); // errno: the caller asks again in any case
  }
  mtx_unlock(keg.lock, k);
}
/** Keeps `n` items for requests with M_USE_RESERVE. */
export function uma_zone_reserve(z: zone_t, n: number): void {
  zone_lock(z);
  keg.reserve[zone.keg[z]] = n;
  zone_unlock(z);
}
/** Puts ceil(n / items per slab) slabs on the free list; ignores the limit. 0, or ENOMEM. */
export function uma_prealloc(z: zone_t, n: number): number {
  const k = zone.keg[z];
  for (let left = Math.ceil(n / keg.ipers[k]); left > 0; left--) {
    if (!keg_grow(k, M_NOWAIT, true)) return ENOMEM;
  }
  return 0;
}
/**
 * Gives a zone of one-page slabs page m, which is on top of this CPU's hand, as a
 * slab.  The last `withheld` items of it are never given out; one page of a zone
 * may have such.  False: no memory for the header, and the page is in hand still.
 */
export function uma_zone_add_page(z: zone_t, m: number, withheld: number): boolean {
  return keg_add_page(zone.keg[z], m, withheld);
}
function keg_must_be_empty(k: keg_t, what: string): void {
  if (keg.pages[k] !== 0) panic(`${what} on non-empty keg`);
}
/** Replaces init and fini of the keg, before it has pages. */
export function uma_zone_set_init(z: zone_t, init: number, fini: number): void {
  keg_must_be_empty(zone.keg[z], 'uma_zone_set_init');
  keg.init[zone.keg[z]] = init;
  keg.fini[zone.keg[z]] = fini;
}
/** Replaces zinit and zfini of the zone, before its keg has pages. */
export function uma_zone_set_zinit(z: zone_t, zinit: number, zfini: number): void {
  keg_must_be_empty(zone.keg[z], 'uma_zone_set_zinit');
  zone.zinit[z] = zinit;
  zone.zfini[z] = zfini;
}
/** Replaces the page supplier of the keg, before it has pages. */
export function uma_zone_set_allocf(z: zone_t, allocf: number, freef: number): void {
  const k = zone.keg[z];
  zone_lock(z);
  keg.allocf[k] = allocf;
  keg.freef[k] = freef;
  keg.flags[k] |= UMA_ZFLAG_PRIVALLOC;
  zone_unlock(z);
}
/** Ties the keg to a memory domain. */
export function uma_zone_set_domain(z: zone_t, domain: number): number {
  if (domain < -1 || domain >= machine.domains[M]) return EINVAL;
  zone_lock(z);
  keg.domain[zone.keg[z]] = domain;
  zone_unlock(z);
  return 0;
}

// --- the end of a zone ---------------------------------------------------------------------------

/**
 * Destroys a zone; its keg goes with it unless other zones stand on it.  0: the
 * zone is going, and gives out nothing more.  It has ended already if every CPU
 * handed its cache over in time; otherwise it ends later (uma_going.ts).  Items
 * still in use are reported and their pages lost.  EBUSY, and nothing changed, if
 * the keg would go while another zone has it among its own (uma_zsecond_add).
 * A word `anchor` that leads to the zone becomes 0 in the same step.
 */
export function uma_zdestroy(z: zone_t, anchor = 0): number {
  const k = zone.keg[z];
  if (keg.zones[k] === z && zone.link[z] === NULL && keg_is_added(z, k)) return EBUSY;
  uma_zone_going(z, anchor);
  uma_going_end();
  return 0;
}
/** Whether a zone other than z has keg k behind it. */
function keg_is_added(z: zone_t, k: keg_t): boolean {
  const r = uma();
  let found = false;
  mtx_lock(uma_root.lock, r);
  uma_each_zone((other) => {
    for (let i = 0; i < zone.nkegs[other]; i++) {
      if (other !== z && zone.kegs[elem(other, i)] === k) found = true;
    }
  });
  mtx_unlock(uma_root.lock, r);
  return found;
}
/** Bytes from one item to the next. */
export function uma_zone_rsize(z: zone_t): number {
  return keg.rsize[zone.keg[z]];
}
