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

/** What the figures in front of a line are, as the brackets behind its words name them. */
export const NETSTAT_FIGURES: Readonly<Record<string, string>> = {
  current: 'Items in use now.',
  cache: 'Items that are free and ready, in the caches of the CPUs and with their zone.',
  total: 'Items in use and free ones together.',
  max: 'The most items that there may be, as kern.ipc limits them; 0 if there is no limit.',
  peak: 'The most items that were in use at a time.',
  mbufs: 'Of mbufs without a cluster.',
  clusters: 'Of clusters of 2 KiB.',
  'mbuf+clusters': 'Of mbufs that come with a cluster.',
  '4k': 'Of jumbo clusters of a page, 4 KiB.',
  '9k': 'Of jumbo clusters of 9 KiB.',
  '16k': 'Of jumbo clusters of 16 KiB.',
};
/** A line of `netstat -m`: figures with `/` between, words, and what the figures are. */
export interface NetstatLine {
  readonly words: string;
  readonly help: string;
  /** Keys of NETSTAT_FIGURES; empty: there is one figure. */
  readonly keys: readonly string[];
  readonly unit?: 'K';
  /** null: this kernel does not say. */
  figures(f: MbufFigures): readonly number[] | null;
}
const OF_THREE = ['mbufs', 'clusters', 'mbuf+clusters'];
const OF_JUMBO = ['4k', '9k', '16k'];
const three = (f: MbufFigures): MbufKind[] => [f.mbufs, f.clusters, f.packets];
const jumbo = (f: MbufFigures): MbufKind[] => [f.jumbo_page, f.jumbo_9k, f.jumbo_16k];

function clusters(name: string, what: string, of: (f: MbufFigures) => MbufKind): NetstatLine {
  return {
    words: `${name} clusters in use`,
    help: `Clusters of ${what}: memory that holds the data of one or several mbufs.`,
    keys: ['current', 'cache', 'total', 'max'],
    figures: (f) => {
      const { current, cache, total, max } = of(f);
      return [current, cache, total, max];
    },
  };
}
const DENIED = 'Requests that got nothing: no memory, or the limit was reached.';
const DELAYED = 'How often a request waited because the limit was reached.';
const UNUSED = 'Always 0: this kernel has no sendfile, and the line is kept for its readers.';

/** The lines, from the first to the last. */
export const NETSTAT_LINES: readonly NetstatLine[] = [
  {
    words: 'mbufs in use',
    help:
      'Mbufs, the pieces that buffer chains are made of, with and without a cluster: 256 bytes ' +
      'each, of which some are the header.',
    keys: ['current', 'cache', 'total'],
    figures: ({ mbufs: m }) => [m.current, m.cache, m.total],
  },
  clusters('mbuf', '2 KiB', (f) => f.clusters),
  {
    words: 'mbuf+clusters out of packet secondary zone in use',
    help: 'Mbufs that come with a cluster; both are counted in the lines above, too.',
    keys: ['current', 'cache'],
    figures: ({ packets: p }) => [p.current, p.cache],
  },
  clusters('4k (page size) jumbo', 'a page, 4 KiB', (f) => f.jumbo_page),
  clusters('9k jumbo', '9 KiB', (f) => f.jumbo_9k),
  clusters('16k jumbo', '16 KiB', (f) => f.jumbo_16k),
  {
    words: 'bytes allocated to network',
    help: 'Memory of all mbufs, clusters and tags, in kilobytes.',
    keys: ['current', 'cache', 'total'],
    unit: 'K',
    figures: ({ bytes }) =>
      [bytes.current, bytes.cache, bytes.total].map((n) => Math.floor(n / 1024)),
  },
  {
    words: 'requests for mbufs denied',
    help: DENIED,
    keys: OF_THREE,
    figures: (f) => three(f).map((k) => k.denied),
  },
  {
    words: 'requests for mbufs delayed',
    help: DELAYED,
    keys: OF_THREE,
    figures: (f) => three(f).map((k) => k.delayed),
  },
  {
    words: 'requests for jumbo clusters delayed',
    help: DELAYED,
    keys: OF_JUMBO,
    figures: (f) => jumbo(f).map((k) => k.delayed),
  },
  {
    words: 'requests for jumbo clusters denied',
    help: DENIED,
    keys: OF_JUMBO,
    figures: (f) => jumbo(f).map((k) => k.denied),
  },
  {
    words: 'sfbufs in use',
    help: UNUSED,
    keys: ['current', 'peak', 'max'],
    figures: ({ sfbufs: s }) => s && [s.current, s.peak, s.max],
  },
  {
    words: 'requests for sfbufs denied',
    help: UNUSED,
    keys: [],
    figures: (f) => [f.sfbufs_denied],
  },
  {
    words: 'requests for sfbufs delayed',
    help: UNUSED,
    keys: [],
    figures: (f) => [f.sfbufs_delayed],
  },
  {
    words: 'requests for I/O initiated by sendfile',
    help: UNUSED,
    keys: [],
    figures: (f) => [f.sendfile_io],
  },
  {
    words: 'calls to protocol drain routines',
    help: 'How often memory was so short that those who hold packets were asked to drop some.',
    keys: [],
    figures: (f) => [f.drains],
  },
];
/** The lines of `netstat -m`. */
export function netstat_mbuf_text(f: MbufFigures): string {
  let text = '';
  for (const { words, keys, unit = '', figures } of NETSTAT_LINES) {
    const shown = figures(f)?.map((n) => kprintf('%ju', n) + unit);
    const names = keys.length > 0 ? ` (${keys.join('/')})` : '';
    if (shown) text += `${shown.join('/')} ${words}${names}\n`;
  }
  return text;
}
