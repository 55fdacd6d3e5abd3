/*
 * mbuf (header): buffer chains as data.
 *
 *      packet   mbuf ─next─> mbuf ─next─> mbuf      one packet is a chain
 *        │                    │
 *      nextpkt              cluster (2 KiB, counted, perhaps shared)
 *        v
 *      packet   ...                                 a queue of packets
 *
 * An mbuf is 256 bytes: a header, then either its data, or a packet header and
 * its data, or the description of storage outside (M_EXT).  `buf` is the word
 * at which its storage begins, `off` the byte in it at which its data begins:
 * the data lies at buf * 4 + off.  Inside an mbuf the storage is the mbuf
 * itself, so that `off` starts at 40 or, behind a packet header, at 88.
 */
import { i32, type Ptr, ptr, struct, words } from '../machine/struct.ts';

export type mbuf_t = Ptr<'mbuf'>;
export type m_tag_t = Ptr<'m_tag'>;

/*
 * Locks: (o) whoever owns the chain, while the mbuf is allocated  (a) atomic
 *        (h) a number that may be no chain is looked at before it is adopted
 * The first 10 words are the header, then 12 of the packet header, then 14 of
 * the external storage; data follows the first, or the first two.
 */
export const mbuf = struct<mbuf_t>(
  'mbuf',
  64,
)({
  next: ptr<mbuf_t>('o', 'next mbuf of the packet'),
  nextpkt: ptr<mbuf_t>('o', 'next packet of a queue'),
  buf: i32('o', 'first word of the storage'),
  off: i32('o', 'byte in the storage at which the data begins'),
  len: i32('o', 'bytes of data in this mbuf'),
  flags: i32('oh', 'M_*'),
  type: i32('o', 'MT_*'),
  site: i32('o', 'of a released chain: the place it is counted at, for the leak detector; 0: none'),
  hdr_gap: words('-', 'rounds the header up to 40 bytes', 2),
  rcvif: i32('o', 'interface that it came from'),
  header: i32('oh', 'for the protocols'),
  plen: i32('o', 'bytes of data in the whole packet'),
  flowid: i32('o', 'flow that it belongs to'),
  csum_flags: i32('o', 'checksums wanted or done'),
  csum_data: i32('o', 'their data'),
  tso_vtag: i32('o', 'segment size and VLAN tag, 16 bits each'),
  tags: ptr<m_tag_t>('o', 'first tag'),
  pkt_gap: words('-', 'rounds the packet header up to 48 bytes', 4),
  ext_free: i32('o', 'vector: gives the storage back'),
  ext_arg1: i32('o', 'its arguments'),
  ext_arg2: i32('o', 'the second of them'),
  ext_size: i32('o', 'bytes of storage'),
  ext_ref: i32('o', 'word of the count of mbufs that share the storage'),
  ext_type: i32('o', 'EXT_*'),
  rest_gap: words('o', 'the rest of the 256 bytes', 36),
});

export const m_tag = struct<m_tag_t>('m_tag')({
  link: ptr<m_tag_t>('o', 'next tag'),
  id: i32('o', 'what it says, within the cookie'),
  len: i32('o', 'bytes of data behind the header'),
  cookie: i32('o', 'who defined it'),
  free: i32('o', 'vector: frees it; 0: malloc'),
  gap: words('-', 'rounds the header up to 24 bytes', 1),
});
/** Words of a tag before its data. */
export const M_TAG_WORDS = 6;

export const MSIZE = 256;
export const MCLBYTES = 2048;
export const MJUMPAGESIZE = 4096;
export const MJUM9BYTES = 9216;
export const MJUM16BYTES = 16384;
/** Where data begins in an mbuf, and behind a packet header. */
export const M_DAT = 40;
export const M_PKTDAT = 88;
export const MLEN = MSIZE - M_DAT;
export const MHLEN = MSIZE - M_PKTDAT;
/** From this size on a cluster is better. */
export const MINCLSIZE = MHLEN + 1;
export const M_COPYALL = 1_000_000_000;

/* Flags. */
export const M_EXT = 0x1;
export const M_PKTHDR = 0x2;
export const M_EOR = 0x4;
export const M_RDONLY = 0x8;
export const M_PROTO1 = 0x10;
export const M_PROTO2 = 0x20;
export const M_PROTO3 = 0x40;
export const M_PROTO4 = 0x80;
export const M_PROTO5 = 0x100;
export const M_BCAST = 0x200;
export const M_MCAST = 0x400;
export const M_FRAG = 0x800;
export const M_FIRSTFRAG = 0x1000;
export const M_LASTFRAG = 0x2000;
export const M_SKIP_FIREWALL = 0x4000;
export const M_FREELIST = 0x8000;
export const M_VLANTAG = 0x10000;
export const M_PROMISC = 0x20000;
export const M_NOFREE = 0x40000;
export const M_PROTO6 = 0x80000;
export const M_PROTO7 = 0x100000;
export const M_PROTO8 = 0x200000;
export const M_FLOWID = 0x400000;
export const M_HASHTYPEBITS = 0x0f000000;
export const M_FIB = 0xf0000000 | 0;
/** What a copied packet header takes along. */
export const M_COPYFLAGS =
  M_PKTHDR |
  M_EOR |
  M_RDONLY |
  (M_PROTO1 | M_PROTO2 | M_PROTO3 | M_PROTO4 | M_PROTO5) |
  (M_PROTO6 | M_PROTO7 | M_PROTO8) |
  M_SKIP_FIREWALL |
  (M_BCAST | M_MCAST | M_FRAG | M_FIRSTFRAG | M_LASTFRAG) |
  (M_VLANTAG | M_PROMISC) |
  (M_FIB | M_HASHTYPEBITS);

/* Types. */
export const MT_DATA = 1;
export const MT_CONTROL = 14;
export const MT_OOBDATA = 15;
/** The constructor leaves the mbuf as it is. */
export const MT_NOINIT = 255;

/* Kinds of external storage. */
export const EXT_CLUSTER = 1;
export const EXT_JUMBOP = 3;
export const EXT_JUMBO9 = 4;
export const EXT_JUMBO16 = 5;
export const EXT_PACKET = 6;
export const EXT_NET_DRV = 100;
export const EXT_MOD_TYPE = 200;
export const EXT_DISPOSABLE = 300;
export const EXT_EXTREF = 400;

/** Byte address of an mbuf's data. */
export function mtod(m: mbuf_t): number {
  return mbuf.buf[m] * 4 + mbuf.off[m];
}
/** Where the storage of an mbuf begins, as an offset like `off`. */
export function m_start(m: mbuf_t): number {
  const flags = mbuf.flags[m];
  return flags & M_EXT ? 0 : flags & M_PKTHDR ? M_PKTDAT : M_DAT;
}
/** Where it ends. */
export function m_end(m: mbuf_t): number {
  return mbuf.flags[m] & M_EXT ? mbuf.ext_size[m] : MSIZE;
}

/*
 * Anchors the zones and the figures that no zone keeps.
 * Locks: (c) constant once booted  (a) atomic
 */
export type mb_root_t = Ptr<'mb_root'>;
export const mb_root = struct<mb_root_t>('mb_root')({
  mbuf: i32('c', 'zone of mbufs'),
  pack: i32('c', 'zone of mbufs with a cluster'),
  clust: i32('c', 'zone of clusters'),
  jumbop: i32('c', 'zone of page clusters'),
  jumbo9: i32('c', 'zone of 9 KiB clusters'),
  jumbo16: i32('c', 'zone of 16 KiB clusters'),
  ext_refcnt: i32('c', 'zone of counts for external storage'),
  sites: i32('a', 'first of the places where chains were made'),
});
