/*
 * netstat_text: the figures of mbufs, and the lines of netstat -m.
 *
 * Everything comes from the statistics of the zones by way of memstat, so that
 * the command, the replay's report and a program that asks show the kernel's
 * own counts.  Two zones stand on one keg and two on the clusters, which is why
 * the figures are sums:
 *
 *      mbufs in use       those of `mbuf` and those of `mbuf_packet`
 *      clusters in use    those out of `mbuf_cluster`, less those that lie
 *                         in packets that nobody uses
 *      cached             free items, of either
 *
 * Requests denied are the zones' failures, requests delayed their sleeps.
 */
import {
  ALLOCATOR_MALLOC,
  ALLOCATOR_UMA,
  type memory_type,
  type memory_type_list,
  memstat_mtl_alloc,
  memstat_mtl_find,
  memstat_mtl_geterror,
  memstat_strerror,
} from './memstat.ts';
import { type memstat_fetch, memstat_sysctl_all } from './memstat_sysctl.ts';
import { kprintf } from '../machine/subr_prf.ts';

/** Items of one kind. */
export interface MbufKind {
  current: number;
  cache: number;
  total: number;
  /** Most there may be, rounded up to whole slabs; 0: no limit. */
  max: number;
  denied: number;
  delayed: number;
}
export interface MbufFigures {
  mbufs: MbufKind;
  clusters: MbufKind;
  /** Mbufs with a cluster, out of the secondary zone; their mbufs are among `mbufs`. */
  packets: MbufKind;
  /** Clusters of 4, 9 and 16 KiB. */
  jumbo_page: MbufKind;
  jumbo_9k: MbufKind;
  jumbo_16k: MbufKind;
  tags: { current: number; bytes: number };
  bytes: { current: number; cache: number; total: number };
  /** Sendfile buffers; null: this kernel does not say. */
  sfbufs: { current: number; peak: number; max: number } | null;
  sfbufs_denied: number;
  sfbufs_delayed: number;
  sendfile_io: number;
  drains: number;
  copies_failed: number;
  pullups_failed: number;
}

/** Longs of kern.ipc.mbstat by their place. */
const MBSTAT_BYTES = 112;
const MBSTAT = { drains: 16, copies_failed: 24, pullups_failed: 32 };
const SF = { sendfile_io: 88, sfbufs_denied: 96, sfbufs_delayed: 104 };

const ZONES = {
  mbuf: 'mbuf',
  clust: 'mbuf_cluster',
  pack: 'mbuf_packet',
  jumbop: 'mbuf_jumbo_page',
  jumbo9: 'mbuf_jumbo_9k',
  jumbo16: 'mbuf_jumbo_16k',
};
type Zones = Record<keyof typeof ZONES, memory_type>;

/** The figures now; a string says what could not be had. */
export function mbuf_figures(fetch: memstat_fetch): MbufFigures | string {
  const list = memstat_mtl_alloc();
  if (memstat_sysctl_all(list, fetch) !== 0) {
    return `memstat_sysctl_all: ${memstat_strerror(memstat_mtl_geterror(list))}`;
  }
  const zones = zones_of(list);
  if (typeof zones === 'string') return zones;
  const tags = memstat_mtl_find(list, ALLOCATOR_MALLOC, 'mbuf_tag');
  if (tags === null) return 'memstat_mtl_find: malloc type mbuf_tag not found';
  const mbstat = fetch('kern.ipc.mbstat', MBSTAT_BYTES);
  if (typeof mbstat === 'number' || mbstat.length !== MBSTAT_BYTES) return 'kern.ipc.mbstat';
  return { ...of_zones(zones, tags), sfbufs: sfbufs(fetch), ...longs(mbstat) };
}
function zones_of(list: memory_type_list): Zones | string {
  const found: Partial<Zones> = {};
  for (const key of Object.keys(ZONES) as (keyof Zones)[]) {
    const t = memstat_mtl_find(list, ALLOCATOR_UMA, ZONES[key]);
    if (t === null) return `memstat_mtl_find: zone ${ZONES[key]} not found`;
    found[key] = t;
  }
  return found as Zones;
}

function kind(t: memory_type): MbufKind {
  return {
    current: t.count,
    cache: t.free,
    total: t.count + t.free,
    max: t.countlimit,
    denied: t.failures,
    delayed: t.sleeps,
  };
}
function of_zones(z: Zones, tags: memory_type) {
  const { mbuf, clust, pack } = z;
  const jumbo = [z.jumbop, z.jumbo9, z.jumbo16];
  const total = (current: number, cache: number) => ({ current, cache, total: current + cache });
  const held = jumbo.reduce((sum, t) => sum + t.count * t.size, 0);
  const idle = jumbo.reduce((sum, t) => sum + t.free * t.size, 0);
  const in_use =
    mbuf.bytes +
    pack.bytes +
    pack.count * clust.size +
    (clust.count - pack.count - pack.free) * clust.size +
    tags.bytes +
    held;
  const cached = (mbuf.free + pack.free) * mbuf.size + (pack.free + clust.free) * clust.size + idle;
  return {
    mbufs: { ...kind(mbuf), ...total(mbuf.count + pack.count, mbuf.free + pack.free) },
    clusters: { ...kind(clust), ...total(clust.count - pack.free, clust.free + pack.free) },
    packets: kind(pack),
    jumbo_page: kind(z.jumbop),
    jumbo_9k: kind(z.jumbo9),
    jumbo_16k: kind(z.jumbo16),
    tags: { current: tags.count, bytes: tags.bytes },
    bytes: total(in_use, cached),
  };
}
function longs(bytes: Uint8Array) {
  const v = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const long = (at: number): number => Number(v.getBigInt64(at, true));
  return {
    drains: long(MBSTAT.drains),
    copies_failed: long(MBSTAT.copies_failed),
    pullups_failed: long(MBSTAT.pullups_failed),
    sendfile_io: long(SF.sendfile_io),
    sfbufs_denied: long(SF.sfbufs_denied),
    sfbufs_delayed: long(SF.sfbufs_delayed),
  };
}
function sfbufs(fetch: memstat_fetch): MbufFigures['sfbufs'] {
  const int = (name: string): number | null => {
    const bytes = fetch(`kern.ipc.${name}`, 4);
    if (typeof bytes === 'number' || bytes.length !== 4) return null;
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getInt32(0, true);
  };
  const current = int('nsfbufsused');
  const peak = int('nsfbufspeak');
  const max = int('nsfbufs');
  return current === null || peak === null || max === null ? null : { current, peak, max };
}

const JUMBO = ['4k (page size)', '9k', '16k'];

/** The lines of `netstat -m`. */
export function netstat_mbuf_text(f: MbufFigures): string {
  const jumbo = [f.jumbo_page, f.jumbo_9k, f.jumbo_16k];
  const requests = [f.mbufs, f.clusters, f.packets];
  const three = (text: string, a: number[]): string => kprintf(`%ju/%ju/%ju ${text}\n`, ...a);
  const m = f.mbufs;
  const c = f.clusters;
  const kbytes = [f.bytes.current, f.bytes.cache, f.bytes.total].map((n) => Math.floor(n / 1024));
  let text = three('mbufs in use (current/cache/total)', [m.current, m.cache, m.total]);
  const clusters = (what: string, k: MbufKind): string =>
    kprintf(
      `%ju/%ju/%ju/%ju ${what} in use (current/cache/total/max)\n`,
      k.current,
      k.cache,
      k.total,
      k.max,
    );
  text += clusters('mbuf clusters', c);
  text += kprintf(
    '%ju/%ju mbuf+clusters out of packet secondary zone in use (current/cache)\n',
    f.packets.current,
    f.packets.cache,
  );
  for (const [i, k] of jumbo.entries()) text += clusters(`${JUMBO[i]} jumbo clusters`, k);
  text += kprintf('%juK/%juK/%juK bytes allocated to network (current/cache/total)\n', ...kbytes);
  const denied = requests.map((k) => k.denied);
  const delayed = requests.map((k) => k.delayed);
  text += three('requests for mbufs denied (mbufs/clusters/mbuf+clusters)', denied);
  text += three('requests for mbufs delayed (mbufs/clusters/mbuf+clusters)', delayed);
  const of_jumbo = (key: 'delayed' | 'denied'): string =>
    three(
      `requests for jumbo clusters ${key} (4k/9k/16k)`,
      jumbo.map((k) => k[key]),
    );
  text += of_jumbo('delayed') + of_jumbo('denied');
  if (f.sfbufs) {
    const s = f.sfbufs;
    text += three('sfbufs in use (current/peak/max)', [s.current, s.peak, s.max]);
  }
  text += kprintf('%ju requests for sfbufs denied\n', f.sfbufs_denied);
  text += kprintf('%ju requests for sfbufs delayed\n', f.sfbufs_delayed);
  text += kprintf('%ju requests for I/O initiated by sendfile\n', f.sendfile_io);
  text += kprintf('%ju calls to protocol drain routines\n', f.drains);
  return text;
}
