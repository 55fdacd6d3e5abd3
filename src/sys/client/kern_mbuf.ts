/*
 * kern_mbuf: mbufs and clusters come from zones.
 *
 *      zone                keg             an item leaves it as
 *      mbuf                its own, 256    an mbuf
 *      mbuf_packet         that of mbuf    an mbuf with a cluster attached
 *      mbuf_cluster        2048, counted   storage for an mbuf
 *      mbuf_jumbo_page     4096, counted
 *      mbuf_jumbo_9k       9216, counted
 *      mbuf_jumbo_16k      16384, counted
 *      mbuf_ext_refcnt     4               a count for storage from elsewhere
 *
 * The packet zone is secondary: what enters its caches gets a cluster
 * (mb_zinit_pack) and keeps it from use to use, so that m_getcl is one item
 * from a cache.  The count of the mbufs that share a cluster lies in the
 * cluster's slab (uma_find_refcnt_word).
 *
 * Limits.  kern.ipc.nmbclusters and its sisters limit the kegs.  Each may grow
 * at run time, and whoever sleeps for it is woken; it never shrinks.  0 is no
 * limit; left alone it follows from kern.maxusers and the memory.
 *
 * A thread that holds a lock must not sleep for an mbuf: WITNESS reports it, and
 * the request goes on with M_NOWAIT.
 *
 * Read next: uipc_mbuf.ts (release, copies, shapes of chains).
 */
import { zone_declared } from '../machine/zone_decl.ts';
import { kconsole } from '../machine/kconsole.ts';
import { atomic_load, atomic_store } from '../machine/atomic.ts';
import { bytes_fill } from '../machine/bytes.ts';
import { counter_add, counter_u64 } from '../machine/counter.ts';
import { ENOMEM } from '../machine/errno.ts';
import { boot_alloc, M, machine as machine_, ROOT_MBUF } from '../machine/header.ts';
import { mem as mem_, PAGE_SIZE, ptoa } from '../machine/memory.ts';
import { once, opt as opt_ } from '../machine/opt.ts';
import { panic } from '../machine/panic.ts';
import { checked_fresh, checked_publish, witness_sleep } from '../machine/parts.ts';
import { elem, NULL as NULL_ } from '../machine/struct.ts';
import {
  CTLFLAG_RDTUN,
  CTLFLAG_RWTUN,
  type SysctlDecl,
  sysctl_get,
  sysctl_int,
  sysctl_set,
  sysctl_ulong,
} from '../machine/sysctl_decl.ts';
import { vector } from '../machine/vectors.ts';
import { M_NOWAIT, M_WAITOK } from '../h/malloc_flags.ts';
import {
  EXT_CLUSTER,
  EXT_JUMBO16,
  EXT_JUMBO9,
  EXT_JUMBOP,
  EXT_PACKET,
  M_DAT as M_DAT_,
  M_EXT as M_EXT_,
  M_PKTDAT as M_PKTDAT_,
  M_PKTHDR as M_PKTHDR_,
  type mb_root_t,
  mb_root as mb_root_,
  mbuf as mbuf_,
  type mbuf_t,
  MCLBYTES,
  MJUM16BYTES,
  MJUM9BYTES,
  MJUMPAGESIZE,
  MSIZE as MSIZE_,
  MT_NOINIT as MT_NOINIT_,
} from '../h/mbuf.ts';
import { UMA_ALIGN_PTR, UMA_ZONE_MAXBUCKET, UMA_ZONE_REFCNT, type zone_t } from '../h/uma.ts';
import { vm_page_count } from '../page/vm_page.ts';
import {
  uma_cache_give as uma_cache_give_,
  uma_cache_take as uma_cache_take_,
  uma_zalloc_arg,
  uma_zfree,
  uma_zfree_arg,
  uma_zfree_past_caches,
} from '../uma/uma_core.ts';
import { zone_drain } from '../uma/uma_drain.ts';
import { uma_find_refcnt_word } from '../uma/uma_keg.ts';
import {
  uma_zcreate,
  uma_zone_exhausted as uma_zone_exhausted_,
  uma_zone_set_max,
  uma_zsecond_create,
} from '../uma/uma_zone.ts';
import { m_tag_delete_chain } from './uipc_mbuf_tag.ts';

// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const mbuf = mbuf_;
const mb_root = mb_root_;
const machine = machine_;
const opt = opt_;
const M_EXT = M_EXT_;
const M_PKTHDR = M_PKTHDR_;
const M_PKTDAT = M_PKTDAT_;
const M_DAT = M_DAT_;
const MT_NOINIT = MT_NOINIT_;
const MSIZE = MSIZE_;
const NULL = NULL_;
const uma_zone_exhausted = uma_zone_exhausted_;
const uma_cache_take = uma_cache_take_;
const uma_cache_give = uma_cache_give_;

/** The record that anchors the zones. */
export function mb(): mb_root_t {
  return machine.roots[ROOT] as mb_root_t;
}
const ROOT = elem(M, ROOT_MBUF);

/* The zones of the fast paths as this thread knows them: constants to V8 (opt.ts). */
const fast = {} as { readonly mbuf: zone_t; readonly pack: zone_t; readonly clust: zone_t };
/** Looks the zones up. In every thread of the machine, when they are made. */
export function mbuf_attach(): void {
  const r = mb();
  for (const name of ['mbuf', 'pack', 'clust'] as const) {
    if (fast[name] !== mb_root[name][r]) once(fast, name, mb_root[name][r]);
  }
}

// --- limits ----------------------------------------------------------------------------------

const AUTOMATIC = -1;
const knob = (name: string, help: string, check?: (n: number) => number | string): SysctlDecl =>
  sysctl_int(name, {
    value: AUTOMATIC,
    min: AUTOMATIC,
    flags: CTLFLAG_RWTUN,
    help,
    ...(check ? { check } : {}),
  });
const maxusers = sysctl_int('kern.maxusers', {
  value: 0,
  min: 0,
  max: 2 ** 20,
  flags: CTLFLAG_RDTUN,
  help: 'Hint for the sizes of tables; 0 at boot: from the memory',
});
const maxmbufmem = sysctl_ulong('kern.ipc.maxmbufmem', {
  value: 0,
  unit: 'bytes',
  flags: CTLFLAG_RDTUN,
  help: 'Most memory for mbufs and clusters, from which limits follow; 0 at boot: half of memory',
});

/** Who wants to know that kern.ipc.nmbclusters changed; called with the new limit. */
export const nmbclusters_change: ((limit: number) => void)[] = [];

/** Whether a limit may become n: it may grow, or vanish; the same again does nothing. */
function grows(d: SysctlDecl, n: number): boolean {
  const now = sysctl_get(d);
  return n >= 0 && now !== 0 && (n === 0 || n >= now);
}
/** Why a limit may not become what was given. */
function grows_only(d: SysctlDecl): string {
  const now = sysctl_get(d);
  return now === 0
    ? 'there is no limit, and none can be set again'
    : `it is ${now} and may only grow`;
}
/** A limit of clusters in one zone. */
function cluster_limit(name: string, help: string, z: (r: mb_root_t) => zone_t): SysctlDecl {
  const d: SysctlDecl = knob(name, help, (n) => {
    const now = sysctl_get(d);
    if (n === now) return 0;
    if (!grows(d, n)) return grows_only(d);
    if (n > 0 && !mbufs_cover(n - now)) {
      const least = clusters_limited() + n - now;
      const is = sysctl_get(nmbufs);
      return `kern.ipc.nmbufs must grow first, from ${is} to ${least}: each cluster needs an mbuf`;
    }
    uma_zone_set_max(z(mb()), n);
    if (d === nmbclusters) for (const subscriber of nmbclusters_change) subscriber(n);
    return 0;
  });
  return d;
}
const nmbclusters: SysctlDecl = cluster_limit(
  'kern.ipc.nmbclusters',
  'Most 2 KiB clusters, 0: no limit; may grow at run time while nmbufs covers it',
  (r) => mb_root.clust[r] as zone_t,
);
const nmbjumbop = cluster_limit(
  'kern.ipc.nmbjumbop',
  'Most page-size clusters, 0: no limit; may grow at run time while nmbufs covers it',
  (r) => mb_root.jumbop[r] as zone_t,
);
const nmbjumbo9 = cluster_limit(
  'kern.ipc.nmbjumbo9',
  'Most 9 KiB clusters, 0: no limit; may grow at run time while nmbufs covers it',
  (r) => mb_root.jumbo9[r] as zone_t,
);
const nmbjumbo16 = cluster_limit(
  'kern.ipc.nmbjumbo16',
  'Most 16 KiB clusters, 0: no limit; may grow at run time while nmbufs covers it',
  (r) => mb_root.jumbo16[r] as zone_t,
);
const CLUSTER_LIMITS = [nmbclusters, nmbjumbop, nmbjumbo9, nmbjumbo16];
const nmbufs: SysctlDecl = knob(
  'kern.ipc.nmbufs',
  'Most mbufs, 0: no limit; may grow at run time, covers all clusters',
  (n) => {
    if (n === sysctl_get(nmbufs)) return 0;
    if (!grows(nmbufs, n)) return grows_only(nmbufs);
    if (!covers_clusters(n)) {
      const most = CLUSTER_LIMITS.find((d) => sysctl_get(d) === 0);
      return most === undefined
        ? `there may be ${clusters_limited()} clusters, and each needs an mbuf`
        : `${most.name} has no limit, and each cluster needs an mbuf: only 0, no limit, covers it`;
    }
    uma_zone_set_max(mb_root.mbuf[mb()] as zone_t, n);
    return 0;
  },
);
/** Whether n mbufs are enough for a cluster each. */
function covers_clusters(n: number): boolean {
  if (n === 0) return true;
  if (CLUSTER_LIMITS.some((d) => sysctl_get(d) === 0)) return false;
  return n >= clusters_limited();
}
/** Clusters that there may be, of the sizes that have a limit. */
function clusters_limited(): number {
  return CLUSTER_LIMITS.reduce((sum, d) => sum + sysctl_get(d), 0);
}
/** Whether there are mbufs for so many clusters more: without them nobody gets one. */
function mbufs_cover(more: number): boolean {
  const n = sysctl_get(nmbufs);
  return n === 0 || n >= clusters_limited() + more;
}

/** kern.maxusers from the memory: one for 2 MB, 32 at least, above 384 one for 16 MB. */
function maxusers_auto(): number {
  const n = Math.max(32, Math.floor(vm_page_count() / ((2 << 20) / PAGE_SIZE)));
  return n > 384 ? 384 + Math.floor((n - 384) / 8) : n;
}
/** Gives every limit that was left alone its value. */
function tunable_mbinit(): void {
  const auto = (d: SysctlDecl, n: number): void => {
    if (sysctl_get(d) === AUTOMATIC) sysctl_set(d, n);
  };
  const some = (n: number): number => Math.max(1, Math.floor(n)); // 0 would be no limit
  if (sysctl_get(maxusers) === 0) sysctl_set(maxusers, maxusers_auto());
  const all = ptoa(vm_page_count());
  if (sysctl_get(maxmbufmem) === 0) sysctl_set(maxmbufmem, Math.floor(all / 2));
  if (sysctl_get(maxmbufmem) > (all / 4) * 3) sysctl_set(maxmbufmem, Math.floor((all / 4) * 3));
  const bytes = sysctl_get(maxmbufmem);
  auto(nmbclusters, some(Math.min(1024 + sysctl_get(maxusers) * 64, bytes / MCLBYTES)));
  // A tunable of 0, no limit, leaves its sisters the limits that memory sets.
  const half = (d: SysctlDecl, item: number): number =>
    some(sysctl_get(d) === 0 ? bytes / item / 2 : sysctl_get(d) / 2);
  auto(nmbjumbop, half(nmbclusters, MJUMPAGESIZE));
  auto(nmbjumbo9, half(nmbjumbop, MJUM9BYTES));
  auto(nmbjumbo16, half(nmbjumbo9, MJUM16BYTES));
  const limits = CLUSTER_LIMITS.map(sysctl_get);
  const sum = limits.includes(0) ? 0 : limits.reduce((a, b) => a + b, 0);
  auto(nmbufs, sum === 0 ? 0 : Math.max(Math.floor(bytes / MSIZE / 5), sum));
}

// --- the zones ---------------------------------------------------------------------------------

const NOSLEEP_AUTO = -1;
const nosleepwithlocks = sysctl_int('debug.nosleepwithlocks', {
  value: NOSLEEP_AUTO,
  min: 0,
  max: 1,
  flags: CTLFLAG_RWTUN,
  help:
    'Whoever holds a lock does not sleep for an mbuf; without WITNESS nobody sleeps for one. ' +
    'Default: 1 with WITNESS, else 0',
});
export const mb_drains = counter_u64('kern.ipc.mb_drains', 'Calls of the protocol drain routines');

/** What the protocols of this thread let go of when memory is short; called with no lock held. */
const drains: (() => void)[] = [];
/** Adds a protocol's drain routine; the result takes it away again. */
export function mb_drain_add(drain: () => void): () => void {
  drains.push(drain);
  return () => void drains.splice(drains.indexOf(drain), 1);
}
/** Calls the drain routines of this thread's protocols. */
export function mb_reclaim(): void {
  if (opt.WITNESS) witness_sleep('mb_reclaim()', 0);
  for (const drain of drains) drain();
  counter_add(mb_drains, 1);
}

/** Lays the anchor out, while boot_alloc still works. */
export function mbuf_boot(): void {
  machine.roots[ROOT] = boot_alloc(mb_root.sizeof, 'mbufs');
}
const Z_MBUF = zone_declared('mbuf', 'Mbufs without a cluster: small pieces of buffer chains');
const Z_CLUST = zone_declared(
  'mbuf_cluster',
  'Clusters: 2 KiB of data that several mbufs may share',
);
const Z_PACK = zone_declared(
  'mbuf_packet',
  'Mbufs that already have a cluster, kept together because packets need both',
);
const Z_JUMBOP = zone_declared('mbuf_jumbo_page', 'Clusters of 4 KiB, a page');
const Z_JUMBO9 = zone_declared('mbuf_jumbo_9k', 'Clusters of 9 KiB');
const Z_JUMBO16 = zone_declared('mbuf_jumbo_16k', 'Clusters of 16 KiB');
const Z_REFCNT = zone_declared(
  'mbuf_ext_refcnt',
  'Reference counts of storage that a program lends to a chain',
);
/** Makes the zones. At boot, when UMA and malloc are up. */
export function mbuf_init(): void {
  const r = mb();
  tunable_mbinit();
  if (sysctl_get(nosleepwithlocks) === NOSLEEP_AUTO) {
    sysctl_set(nosleepwithlocks, opt.WITNESS ? 1 : 0);
  }
  const ctor = MB_VECTORS;
  const zone = (name: string, size: number, c: number, d: number, align: number, flags: number) =>
    uma_zcreate(name, size, { ctor: c, dtor: d, align, flags });
  const all = mb_root;
  all.mbuf[r] = zone(Z_MBUF, MSIZE, ctor.mbuf, ctor.mbuf_dtor, MSIZE - 1, UMA_ZONE_MAXBUCKET);
  const cluster = (name: string, size: number): zone_t =>
    zone(name, size, ctor.clust, ctor.clust_dtor, UMA_ALIGN_PTR, UMA_ZONE_REFCNT);
  all.clust[r] = cluster(Z_CLUST, MCLBYTES);
  all.pack[r] = uma_zsecond_create(
    Z_PACK,
    ctor.pack,
    ctor.pack_dtor,
    ctor.pack_zinit,
    ctor.pack_zfini,
    all.mbuf[r] as zone_t,
  );
  all.jumbop[r] = cluster(Z_JUMBOP, MJUMPAGESIZE);
  all.jumbo9[r] = cluster(Z_JUMBO9, MJUM9BYTES);
  all.jumbo16[r] = cluster(Z_JUMBO16, MJUM16BYTES);
  all.ext_refcnt[r] = uma_zcreate(Z_REFCNT, 4);
  const limit = (z: number, d: SysctlDecl): void => {
    if (sysctl_get(d) > 0) uma_zone_set_max(z as zone_t, sysctl_get(d));
  };
  limit(all.mbuf[r], nmbufs);
  limit(all.clust[r], nmbclusters);
  limit(all.jumbop[r], nmbjumbop);
  limit(all.jumbo9[r], nmbjumbo9);
  limit(all.jumbo16[r], nmbjumbo16);
  mbuf_attach();
}

// --- what happens to an item on its way ---------------------------------------------------------

/* The argument of the constructors: type and flags in one number. */
const TYPE_UNIT = 0x10000000;
function mb_args(flags: number, type: number): number {
  return type * TYPE_UNIT + (flags & (TYPE_UNIT - 1));
}

function mb_ctor_mbuf(item: number, _size: number, arg: number): number {
  mbuf_fill(item as mbuf_t, (arg / TYPE_UNIT) | 0, arg & (TYPE_UNIT - 1));
  return 0;
}
function mbuf_fill(m: mbuf_t, type: number, flags: number): void {
  if (type === MT_NOINIT) return;
  mbuf.next[m] = NULL as mbuf_t;
  mbuf.nextpkt[m] = NULL as mbuf_t;
  mbuf.buf[m] = m;
  mbuf.len[m] = 0;
  mbuf.flags[m] = flags;
  mbuf.type[m] = type;
  mbuf.site[m] = 0;
  if ((flags & M_PKTHDR) !== 0) {
    mbuf.off[m] = M_PKTDAT;
    pkthdr_clear(m);
  } else mbuf.off[m] = M_DAT;
}
/** Zeroes rcvif to tags, two words at a time: an mbuf begins on an even word. */
function pkthdr_clear(m: mbuf_t): void {
  const F64 = mem.F64;
  const at = (m + PKTHDR) >> 1;
  F64[at] = 0;
  F64[at + 1] = 0;
  F64[at + 2] = 0;
  F64[at + 3] = 0;
}
const PKTHDR = M_DAT / 4;
function mb_dtor_mbuf(item: number): void {
  const m = item as mbuf_t;
  const flags = mbuf.flags[m];
  if (opt.INVARIANTS && (flags & M_EXT) !== 0) panic('mb_dtor_mbuf: M_EXT set', m * 4);
  if ((flags & M_PKTHDR) !== 0 && mbuf.tags[m] !== NULL) m_tag_delete_chain(m);
}

/** What a cluster of `size` bytes is called. */
function ext_type_of(size: number): number {
  switch (size) {
    case MCLBYTES:
      return EXT_CLUSTER;
    case MJUMPAGESIZE:
      return EXT_JUMBOP;
    case MJUM9BYTES:
      return EXT_JUMBO9;
    case MJUM16BYTES:
      return EXT_JUMBO16;
  }
  panic('mbuf: no cluster has this size', size);
}
/** `arg` is the mbuf to attach the cluster to, 0: none. */
function mb_ctor_clust(item: number, size: number, arg: number): number {
  const count = uma_find_refcnt_word(item);
  atomic_store(count, 1);
  if (arg !== NULL) cluster_attach(arg as mbuf_t, item, size, count);
  return 0;
}
function cluster_attach(m: mbuf_t, cluster: number, size: number, count: number): void {
  mbuf.buf[m] = cluster;
  mbuf.off[m] = 0;
  mbuf.flags[m] |= M_EXT;
  mbuf.ext_free[m] = 0;
  mbuf.ext_arg1[m] = 0;
  mbuf.ext_arg2[m] = 0;
  mbuf.ext_size[m] = size;
  mbuf.ext_ref[m] = count;
  mbuf.ext_type[m] = ext_type_of(size);
}
function mb_dtor_clust(item: number): void {
  if (!opt.INVARIANTS) return;
  const count = atomic_load(uma_find_refcnt_word(item));
  if (count > 1) panic('mb_dtor_clust: the cluster is shared', item * 4, count);
}

function mb_zinit_pack(item: number, _size: number, how: number): number {
  const m = item as mbuf_t;
  checked_fresh(m, mbuf.sizeof);
  mbuf.flags[m] = 0;
  const cluster = uma_zalloc_arg(mb_root.clust[mb()] as zone_t, m, how);
  if (cluster !== 0) mbuf.ext_type[m] = EXT_PACKET;
  checked_publish(m);
  return cluster === 0 ? ENOMEM : 0;
}
function mb_zfini_pack(item: number): void {
  checked_fresh(item, mbuf.sizeof);
  const cluster = mbuf.buf[item as mbuf_t];
  checked_publish(item);
  uma_zfree_arg(mb_root.clust[mb()] as zone_t, cluster, NULL);
}
function mb_ctor_pack(item: number, _size: number, arg: number): number {
  packet_fill(item as mbuf_t, (arg / TYPE_UNIT) | 0, arg & (TYPE_UNIT - 1));
  return 0;
}
function packet_fill(m: mbuf_t, type: number, flags: number): void {
  mbuf.next[m] = NULL as mbuf_t;
  mbuf.nextpkt[m] = NULL as mbuf_t;
  mbuf.off[m] = 0;
  mbuf.len[m] = 0;
  mbuf.flags[m] = flags | M_EXT;
  mbuf.type[m] = type;
  mbuf.site[m] = 0;
  if ((flags & M_PKTHDR) !== 0) pkthdr_clear(m);
}
function mb_dtor_pack(item: number): void {
  const m = item as mbuf_t;
  if ((mbuf.flags[m] & M_PKTHDR) !== 0 && mbuf.tags[m] !== NULL) m_tag_delete_chain(m);
  if (opt.INVARIANTS) packet_check(m);
  // Whoever sleeps for a cluster gets those that lie in packets nobody uses.
  const r = mb();
  if (uma_zone_exhausted(mb_root.clust[r] as zone_t)) zone_drain(mb_root.pack[r] as zone_t);
}
function packet_check(m: mbuf_t): void {
  const right =
    (mbuf.flags[m] & M_EXT) !== 0 &&
    mbuf.ext_free[m] === 0 &&
    mbuf.ext_size[m] === MCLBYTES &&
    mbuf.ext_type[m] === EXT_PACKET &&
    atomic_load(mbuf.ext_ref[m]) === 1;
  if (!right) panic('mb_dtor_pack: no packet of the packet zone', m * 4);
}

const MB_VECTORS = {
  mbuf: vector('mb_ctor_mbuf', mb_ctor_mbuf),
  mbuf_dtor: vector('mb_dtor_mbuf', mb_dtor_mbuf),
  clust: vector('mb_ctor_clust', mb_ctor_clust),
  clust_dtor: vector('mb_dtor_clust', mb_dtor_clust),
  pack: vector('mb_ctor_pack', mb_ctor_pack),
  pack_dtor: vector('mb_dtor_pack', mb_dtor_pack),
  pack_zinit: vector('mb_zinit_pack', mb_zinit_pack),
  pack_zfini: vector('mb_zfini_pack', mb_zfini_pack),
};

// --- obtaining ----------------------------------------------------------------------------------

/**
 * `how` as far as this thread may sleep: with a lock held it may not, if
 * debug.nosleepwithlocks says so.  WITNESS alone knows which locks a thread holds, so
 * that without it any thread may have some, as in BSD.
 */
function may_sleep(how: number): number {
  if ((how & M_WAITOK) === 0) return how;
  const held = !opt.WITNESS || witness_sleep('mbuf', 0);
  return held && sysctl_get(nosleepwithlocks) !== 0 ? M_NOWAIT : how;
}
/** The zone that has clusters of `size` bytes. Panics for other sizes. */
export function m_getzone(size: number): zone_t {
  const r = mb();
  switch (size) {
    case MCLBYTES:
      return mb_root.clust[r] as zone_t;
    case MJUMPAGESIZE:
      return mb_root.jumbop[r] as zone_t;
    case MJUM9BYTES:
      return mb_root.jumbo9[r] as zone_t;
    case MJUM16BYTES:
      return mb_root.jumbo16[r] as zone_t;
  }
  panic('m_getzone: no cluster has this size', size);
}

/*
 * The fast paths take an item from this CPU's cache and construct it by a plain
 * call; what the cache has not goes through the zone, vectors and all.
 */

/** An mbuf without data or flags. NULL: there is none. `how`: M_NOWAIT or M_WAITOK. */
export function m_get(how: number, type: number): mbuf_t {
  return mbuf_get(how, type, 0);
}
/** An mbuf with an empty packet header. */
export function m_gethdr(how: number, type: number): mbuf_t {
  return mbuf_get(how, type, M_PKTHDR);
}
function mbuf_get(how: number, type: number, flags: number): mbuf_t {
  const m = mbuf_take(how);
  if (m !== NULL) mbuf_fill(m, type, flags);
  return m;
}
/** An mbuf of which the caller writes every field itself, before anybody sees it. */
export function mbuf_take(how: number): mbuf_t {
  const z = fast.mbuf;
  const m = uma_cache_take(z) as mbuf_t;
  if (m !== NULL) return m;
  return uma_zalloc_arg(z, mb_args(0, MT_NOINIT), may_sleep(how)) as mbuf_t;
}

/** An mbuf whose MLEN bytes are zero. */
export function m_getclr(how: number, type: number): mbuf_t {
  const m = m_get(how, type);
  if (m !== NULL) bytes_fill(m * 4 + M_DAT, 0, MSIZE - M_DAT);
  return m;
}
/** An mbuf with a 2 KiB cluster, from the packet zone. */
export function m_getcl(how: number, type: number, flags: number): mbuf_t {
  const z = fast.pack;
  const m = uma_cache_take(z) as mbuf_t;
  if (m === NULL) return uma_zalloc_arg(z, mb_args(flags, type), may_sleep(how)) as mbuf_t;
  packet_fill(m, type, flags);
  return m;
}
/** Gives an mbuf without storage outside back to its zone. */
export function mbuf_put(m: mbuf_t): void {
  const z = fast.mbuf;
  mb_dtor_mbuf(m);
  if (!uma_cache_give(z, m)) uma_zfree(z, m);
}
/**
 * Gives an mbuf with the cluster that nobody else refers to back to the packet
 * zone; past the caches while somebody may sleep for a cluster.
 */
export function packet_put(m: mbuf_t): void {
  const z = fast.pack;
  if (uma_zone_exhausted(fast.clust)) return uma_zfree_past_caches(z, m);
  if ((mbuf.flags[m] & M_PKTHDR) !== 0 && mbuf.tags[m] !== NULL) m_tag_delete_chain(m);
  if (!uma_cache_give(z, m)) uma_zfree(z, m);
}
/** An mbuf with a cluster of `size` bytes. Panics for a size that no cluster has. */
export function m_getjcl(how: number, type: number, flags: number, size: number): mbuf_t {
  if (size === MCLBYTES) return m_getcl(how, type, flags);
  const z = m_getzone(size);
  const m = mbuf_get(how, type, flags);
  if (m === NULL || uma_zalloc_arg(z, m, may_sleep(how)) !== 0) return m;
  mbuf_put(m);
  return NULL as mbuf_t;
}
/** Attaches a 2 KiB cluster to m. Whether there was one is seen by M_EXT. */
export function m_clget(m: mbuf_t, how: number): void {
  if (mbuf.flags[m] & M_EXT) return kconsole.print(`m_clget: mbuf ${m * 4} already has M_EXT`);
  const r = mb();
  const z = mb_root.clust[r] as zone_t;
  if (uma_zalloc_arg(z, m, may_sleep(how)) !== 0 || (how & M_NOWAIT) === 0) return;
  zone_drain(mb_root.pack[r] as zone_t); // packets that nobody uses hold clusters
  uma_zalloc_arg(z, m, M_NOWAIT);
}
/**
 * A cluster of `size` bytes, attached to m unless that is NULL.  Returns its
 * first word, 0: there is none.
 */
export function m_cljget(m: mbuf_t, how: number, size: number): number {
  const z = m_getzone(size);
  if (m !== NULL && mbuf.flags[m] & M_EXT) {
    kconsole.print(`m_cljget: mbuf ${m * 4} already has M_EXT`);
    return 0;
  }
  return uma_zalloc_arg(z, m, may_sleep(how));
}
/** Attaches a cluster that m_cljget gave. `type`: EXT_CLUSTER or EXT_JUMBO*. */
export function m_cljset(m: mbuf_t, cluster: number, type: number): void {
  const size =
    type === EXT_CLUSTER
      ? MCLBYTES
      : type === EXT_JUMBOP
        ? MJUMPAGESIZE
        : type === EXT_JUMBO9
          ? MJUM9BYTES
          : type === EXT_JUMBO16
            ? MJUM16BYTES
            : panic('m_cljset: unknown cluster type', type);
  cluster_attach(m, cluster, size, uma_find_refcnt_word(cluster));
}
