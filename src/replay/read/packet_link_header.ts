/*
 * packet_link_header: what stands between a frame's first byte and its network header.
 *
 *      Ethernet       14 bytes; then VLAN tags, an LLC header, or a PPPoE session
 *      Linux cooked   16 bytes, version 2 20 bytes: an ethertype as Ethernet's
 *      loopback       4 bytes: an address family
 *      PPP            ff 03 or not, then a protocol of one byte or two
 *      Cisco HDLC     4 bytes: an ethertype
 *      802.11         24 bytes and more, then LLC; in front of it perhaps radiotap
 *      raw IP         nothing
 *
 * Each is followed as long as its bytes say clearly what comes next.  What is not
 * followed is counted under a name that says why: a link type without a reader,
 * an 802.11 frame that is encrypted, control packets of PPP.
 */
import {
  LINK_C_HDLC,
  LINK_ETHERNET,
  LINK_IPV4,
  LINK_IPV6,
  LINK_LOOP,
  LINK_NULL,
  LINK_PPP,
  LINK_PPP_PPPD,
  LINK_PPP_SERIAL,
  LINK_PPPOE,
  LINK_RADIOTAP,
  LINK_RAW,
  LINK_RAW_BSD,
  LINK_RAW_OPENBSD,
  LINK_SLL,
  LINK_SLL2,
  LINK_WLAN,
  link_name,
} from './packet_links.ts';

/** The first bytes of a packet. */
export interface HeaderBytes {
  /** Brings n bytes into one piece. False: there are fewer; that is counted. */
  need(n: number): boolean;
  /** Bytes at a place that was needed before. */
  u8(at: number): number;
  u16(at: number): number;
  /** The packet is one of these. */
  count(name: string): void;
}

/** What a link header is followed by. */
export const NET_NONE = 0;
export const NET_IP = 1;
export const NET_ARP = 2;
export interface Network {
  net: number;
  /** Where it begins: bytes of link header. */
  at: number;
}

const ETHERTYPE_IP = 0x0800;
const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_IPV6 = 0x86dd;
const ETHERTYPE_PPPOE_DISCOVERY = 0x8863;
const ETHERTYPE_PPPOE = 0x8864;
/** Below it the field is a length, and an LLC header follows. */
const ETHERTYPE_MIN = 0x600;
/** What Linux puts there in front of an LLC header. */
const LINUX_LLC = 4;
const VLAN_TYPES = [0x8100, 0x88a8, 0x9100];
const VLAN_MAX = 4;
const ETHER_BYTES = 14;
const SLL_BYTES = 16;
const SLL2_BYTES = 20;
const LLC_BYTES = 3;
const SNAP_BYTES = 8;
const LOOP_BYTES = 4;
const HDLC_BYTES = 4;
const AF_INET = 2;
/** What systems call AF_INET6. */
const AF_INET6 = [10, 24, 28, 30];

/** Finds the network header behind a link header. */
export function link_header(p: HeaderBytes, link: number): Network {
  switch (link) {
    case LINK_ETHERNET:
      return typed(p, 12, ETHER_BYTES, true);
    case LINK_SLL:
      return typed(p, 14, SLL_BYTES);
    case LINK_SLL2:
      return typed(p, 0, SLL2_BYTES);
    case LINK_C_HDLC:
      return typed(p, 2, HDLC_BYTES);
    case LINK_NULL:
    case LINK_LOOP:
      return loopback(p);
    case LINK_PPP:
    case LINK_PPP_SERIAL:
    case LINK_PPP_PPPD:
      return ppp_framed(p, link);
    case LINK_PPPOE:
      return pppoe(p, 0);
    case LINK_RADIOTAP:
      return radiotap(p);
    case LINK_WLAN:
      return wlan(p, 0, false);
    case LINK_RAW:
    case LINK_RAW_BSD:
    case LINK_RAW_OPENBSD:
    case LINK_IPV4:
    case LINK_IPV6:
      return { net: NET_IP, at: 0 };
    default:
      return unknown(p, `unparsed ${link_name(link)}`, 0);
  }
}
/** Nothing that is followed, behind `at` bytes of link header. */
function unknown(p: HeaderBytes, name: string, at: number): Network {
  p.count(name);
  return { net: NET_NONE, at };
}
/** Fewer bytes than a header has, which was counted. */
const CUT: Network = { net: NET_NONE, at: 0 };

/**
 * A link header of `end` bytes with an ethertype at `type_at`.  What is too small to be one
 * is a length (`lengths`), or a number of Linux's own.
 */
function typed(p: HeaderBytes, type_at: number, end: number, lengths = false): Network {
  if (!p.need(end)) return CUT;
  const type = p.u16(type_at);
  const own = !lengths && type < ETHERTYPE_MIN && type !== LINUX_LLC;
  return own ? unknown(p, 'other_ether', end) : ethertype(p, type, end);
}
/** What an ethertype says of the bytes from `from` on. */
function ethertype(p: HeaderBytes, first_type: number, from: number): Network {
  let type = first_type;
  let at = from;
  for (let tags = 0; VLAN_TYPES.includes(type) && tags < VLAN_MAX; tags++) {
    if (tags === 0) p.count('vlan');
    if (!p.need(at + 4)) return { net: NET_NONE, at };
    type = p.u16(at + 2);
    at += 4;
  }
  if (type === ETHERTYPE_IP || type === ETHERTYPE_IPV6) return { net: NET_IP, at };
  if (type === ETHERTYPE_ARP) return { net: NET_ARP, at };
  if (type === ETHERTYPE_PPPOE || type === ETHERTYPE_PPPOE_DISCOVERY) return pppoe(p, at);
  if (type >= ETHERTYPE_MIN) return unknown(p, 'other_ether', at);
  return llc(p, at);
}
/** An LLC header; with SNAP an ethertype follows. */
function llc(p: HeaderBytes, at: number): Network {
  if (!p.need(at + LLC_BYTES)) return { net: NET_NONE, at };
  const snap = p.u16(at) === 0xaaaa && p.u8(at + 2) === 3;
  if (!snap) return unknown(p, 'llc', at);
  if (!p.need(at + SNAP_BYTES)) return { net: NET_NONE, at };
  const type = p.u16(at + 6);
  const encapsulated = p.u16(at + 3) === 0 && p.u8(at + 5) === 0 && type >= ETHERTYPE_MIN;
  return encapsulated ? ethertype(p, type, at + SNAP_BYTES) : unknown(p, 'llc', at);
}
/** The address family, in the byte order of whoever recorded it. */
function loopback(p: HeaderBytes): Network {
  if (!p.need(LOOP_BYTES)) return CUT;
  const big = p.u16(2);
  const af = big !== 0 ? big : p.u8(0) | (p.u8(1) << 8);
  const ip = af === AF_INET || AF_INET6.includes(af);
  return ip ? { net: NET_IP, at: LOOP_BYTES } : unknown(p, 'other_family', LOOP_BYTES);
}

// --- PPP ---------------------------------------------------------------------------------------

const PPP_IP = 0x21;
const PPP_IPV6 = 0x57;
/** From here on protocols that set the link up. */
const PPP_CONTROL = 0x8000;
const PPP_UI = 3;
const PPPOE_BYTES = 6;

/** PPP, perhaps with an address (pppd: a direction) and a control byte; or Cisco's, without PPP. */
function ppp_framed(p: HeaderBytes, link: number): Network {
  if (!p.need(2)) return CUT;
  const [address, control] = [p.u8(0), p.u8(1)];
  if (link === LINK_PPP_SERIAL && (address === 0x0f || address === 0x8f)) {
    return typed(p, 2, HDLC_BYTES);
  }
  const framed = control === PPP_UI && (address === 0xff || link === LINK_PPP_PPPD);
  return ppp(p, framed ? 2 : 0);
}
/** The protocol, of one byte if that is odd. */
function ppp(p: HeaderBytes, from: number): Network {
  if (!p.need(from + 1)) return { net: NET_NONE, at: from };
  const short = (p.u8(from) & 1) !== 0;
  if (!short && !p.need(from + 2)) return { net: NET_NONE, at: from };
  const protocol = short ? p.u8(from) : p.u16(from);
  const at = from + (short ? 1 : 2);
  if (protocol === PPP_IP || protocol === PPP_IPV6) return { net: NET_IP, at };
  return unknown(p, protocol >= PPP_CONTROL ? 'ppp_control' : 'other_ppp', at);
}
/** Version and type, code, session, length; then PPP. */
function pppoe(p: HeaderBytes, from: number): Network {
  p.count('pppoe');
  if (!p.need(from + PPPOE_BYTES)) return { net: NET_NONE, at: from };
  const session = p.u16(from) === 0x1100;
  const at = from + PPPOE_BYTES;
  return session ? ppp(p, at) : unknown(p, 'pppoe_discovery', at);
}

// --- 802.11 ------------------------------------------------------------------------------------

const RADIOTAP_MIN = 8;
const RADIOTAP_FIELDS = 4;
const PRESENT_TSFT = 1;
const PRESENT_FLAGS = 2;
/** In the last byte of a word: another word of the kind follows. */
const PRESENT_MORE = 0x80;
const FLAG_PADDED = 0x20;

/** What the recorder knew of the frame, in little-endian fields, and then the frame. */
function radiotap(p: HeaderBytes): Network {
  if (!p.need(RADIOTAP_MIN)) return CUT;
  const bytes = p.u8(2) | (p.u8(3) << 8);
  if (p.u8(0) !== 0 || bytes < RADIOTAP_MIN) return unknown(p, 'radiotap_bad', 0);
  if (!p.need(bytes)) return CUT;
  let at = RADIOTAP_FIELDS;
  const present = p.u8(at);
  for (at += 4; (p.u8(at - 1) & PRESENT_MORE) !== 0; at += 4) {
    if (at + 4 > bytes) return unknown(p, 'radiotap_bad', 0);
  }
  if ((present & PRESENT_TSFT) !== 0) at = ((at + 7) & ~7) + 8;
  const flags = (present & PRESENT_FLAGS) !== 0 && at < bytes ? p.u8(at) : 0;
  return wlan(p, bytes, (flags & FLAG_PADDED) !== 0);
}

const WLAN_TYPES = ['wlan_management', 'wlan_control', 'wlan_data', 'wlan_extension'];
const WLAN_DATA = 2;
const WLAN_BYTES = 24;
const WLAN_ADDRESS = 6;
const SUBTYPE_NULL = 4;
const SUBTYPE_QOS = 8;
const TO_AND_FROM = 3;
const PROTECTED = 0x40;
const ORDER = 0x80;
const FRAGMENT = 0x0f;
const QOS_AGGREGATE = 0x80;

/** An 802.11 frame from `from` on; `padded`: its header is filled up to a multiple of 4. */
function wlan(p: HeaderBytes, from: number, padded: boolean): Network {
  if (!p.need(from + 2)) return { net: NET_NONE, at: from };
  const type = (p.u8(from) >> 2) & 3;
  const subtype = p.u8(from) >> 4;
  const flags = p.u8(from + 1);
  p.count((p.u8(from) & 3) === 0 ? WLAN_TYPES[type] : 'wlan_other_version');
  if ((p.u8(from) & 3) !== 0 || type !== WLAN_DATA) return { net: NET_NONE, at: from };
  if (!p.need(from + WLAN_BYTES)) return { net: NET_NONE, at: from };
  const qos = (subtype & SUBTYPE_QOS) !== 0;
  const qos_at = WLAN_BYTES + ((flags & TO_AND_FROM) === TO_AND_FROM ? WLAN_ADDRESS : 0);
  let bytes = qos_at;
  if (qos) bytes += (flags & ORDER) !== 0 ? 6 : 2;
  if (padded) bytes = (bytes + 3) & ~3;
  const at = from + bytes;
  if ((subtype & SUBTYPE_NULL) !== 0) return unknown(p, 'wlan_no_data', from);
  if (!p.need(at)) return { net: NET_NONE, at: from };
  if ((flags & PROTECTED) !== 0) return unknown(p, 'wlan_protected', at);
  if (qos && (p.u8(from + qos_at) & QOS_AGGREGATE) !== 0) return unknown(p, 'wlan_aggregate', at);
  if ((p.u8(from + 22) & FRAGMENT) !== 0) return unknown(p, 'wlan_fragment', at);
  return llc(p, at);
}
