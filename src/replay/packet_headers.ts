/*
 * packet_headers: what a packet is, from the headers in front of it.
 *
 *      link header      Ethernet, VLAN tags, Linux cooked, loopback, none
 *      network header   ARP, IPv4 with options, IPv6 with extension headers
 *      transport        TCP, UDP, ICMP, ICMPv6; none in later fragments
 *
 * A header is looked at only when it lies in the first mbuf in one piece, which is
 * what m_pullup is for.  At the end all headers are pulled up into an mbuf of
 * their own: clusters are shared with every copy of the packet and must not be
 * written, headers in front of them may be.
 *
 * Recorders cut packets, and captures hold anything; a packet whose headers are
 * cut, or deeper than an mbuf holds, is counted as far as it was understood.
 */
import { mem } from '../sys/machine/memory.ts';
import { M_EXT, mbuf, type mbuf_t, MHLEN, mtod } from '../sys/h/mbuf.ts';
import { in_cksum_skip } from '../sys/client/in_cksum.ts';
import { m_pullup } from '../sys/client/uipc_mbuf_shape.ts';
import {
  LINK_ETHERNET,
  LINK_IPV4,
  LINK_IPV6,
  LINK_LOOP,
  LINK_NULL,
  LINK_RAW,
  LINK_RAW_BSD,
  LINK_RAW_OPENBSD,
  LINK_SLL,
  LINK_SLL2,
} from './packet_links.ts';

const ETHERTYPE_IP = 0x0800;
const ETHERTYPE_ARP = 0x0806;
const ETHERTYPE_IPV6 = 0x86dd;
/** Below it the field is a length, and an LLC header follows. */
const ETHERTYPE_MIN = 0x600;
const VLAN_TYPES = [0x8100, 0x88a8, 0x9100];
const VLAN_MAX = 4;
const ETHER_BYTES = 14;
const SLL_BYTES = 16;
const SLL2_BYTES = 20;
const LOOP_BYTES = 4;
const AF_INET = 2;
/** What systems call AF_INET6. */
const AF_INET6 = [10, 24, 28, 30];

const IP_BYTES = 20;
const IPV6_BYTES = 40;
const IP_OFFMASK = 0x1fff;
/** Offset, or more fragments behind it. */
const IP_FRAGMENT = 0x3fff;
const ARP_BYTES = 8;
const PROTO_ICMP = 1;
const PROTO_TCP = 6;
const PROTO_UDP = 17;
const PROTO_ICMPV6 = 58;
const PROTO_HOPOPTS = 0;
const PROTO_ROUTING = 43;
const PROTO_FRAGMENT = 44;
const PROTO_AH = 51;
const PROTO_DSTOPTS = 60;
/** Extension headers of a packet: more are not followed. */
const EXTENSIONS_MAX = 8;
const TRANSPORT: Record<number, { name: string; bytes: number }> = {
  [PROTO_ICMP]: { name: 'icmp', bytes: 4 },
  [PROTO_TCP]: { name: 'tcp', bytes: 20 },
  [PROTO_UDP]: { name: 'udp', bytes: 8 },
  [PROTO_ICMPV6]: { name: 'icmp6', bytes: 4 },
};

/** What one thread finds in its packets. */
export class HeaderParser {
  /** Packets by what was found in them. */
  readonly counts: Record<string, number> = {};
  /** Of the packet looked at last: bytes of the link header, and of all headers. */
  link_bytes = 0;
  all_bytes = 0;
  /** A number that all packets of its connection have, in one direction. */
  flow = 0;
  #m = 0 as mbuf_t;
  /** What was found in this packet: it counts if the packet survives. */
  readonly #found: string[] = [];

  /**
   * Looks at a packet; its headers are in one piece afterwards, and in an mbuf of
   * their own.  Returns the first mbuf; 0: no memory, and the packet is freed.
   */
  parse(m: mbuf_t, link: number): mbuf_t {
    this.#m = m;
    this.link_bytes = 0;
    this.all_bytes = 0;
    this.flow = 0;
    this.#found.length = 0;
    this.#link(link);
    if (this.#m !== 0 && this.all_bytes > 0 && (mbuf.flags[this.#m] & M_EXT) !== 0) {
      this.#m = m_pullup(this.#m, this.all_bytes);
    }
    if (this.#m !== 0) for (const n of this.#found) this.counts[n] = (this.counts[n] ?? 0) + 1;
    return this.#m;
  }

  #count(name: string): void {
    this.#found.push(name);
  }
  /** Brings the first n bytes into one piece. False: there are fewer, or no memory. */
  #need(n: number): boolean {
    if (this.#m === 0) return false;
    if (n > MHLEN || n > mbuf.plen[this.#m]) {
      this.#count(n > MHLEN ? 'headers_too_deep' : 'headers_cut');
      return false;
    }
    if (mbuf.len[this.#m] < n) this.#m = m_pullup(this.#m, n);
    if (this.#m === 0) return false;
    this.all_bytes = n;
    return true;
  }
  #u8(at: number): number {
    return mem.U8[mtod(this.#m) + at];
  }
  #u16(at: number): number {
    return (this.#u8(at) << 8) | this.#u8(at + 1);
  }

  #link(link: number): void {
    switch (link) {
      case LINK_ETHERNET:
        if (this.#need(ETHER_BYTES)) this.#ether(12, ETHER_BYTES);
        return;
      case LINK_SLL:
        if (this.#need(SLL_BYTES)) this.#ether(14, SLL_BYTES);
        return;
      case LINK_SLL2:
        if (this.#need(SLL2_BYTES)) this.#ether(0, SLL2_BYTES);
        return;
      case LINK_NULL:
      case LINK_LOOP:
        if (this.#need(LOOP_BYTES)) this.#loopback();
        return;
      case LINK_RAW:
      case LINK_RAW_BSD:
      case LINK_RAW_OPENBSD:
      case LINK_IPV4:
      case LINK_IPV6:
        if (this.#need(1)) this.#ip(0);
        return;
      default:
        this.#count('other_link');
    }
  }
  /** The type field at `at`, of a link header of `end` bytes. */
  #ether(at: number, end: number): void {
    let type = this.#u16(at);
    let from = end;
    for (let tags = 0; VLAN_TYPES.includes(type) && tags < VLAN_MAX; tags++) {
      if (!this.#need(from + 4)) break;
      if (tags === 0) this.#count('vlan');
      type = this.#u16(from + 2);
      from += 4;
    }
    this.link_bytes = Math.min(from, this.all_bytes);
    if (type === ETHERTYPE_IP || type === ETHERTYPE_IPV6) {
      if (this.#need(from + 1)) this.#ip(from);
    } else if (type === ETHERTYPE_ARP) {
      this.#count('arp');
      if (this.#need(from + ARP_BYTES)) {
        this.#need(from + ARP_BYTES + 2 * (this.#u8(from + 4) + this.#u8(from + 5)));
      }
    } else this.#count(type < ETHERTYPE_MIN ? 'llc' : 'other_ether');
  }
  /** The address family, in the byte order of whoever recorded it. */
  #loopback(): void {
    this.link_bytes = LOOP_BYTES;
    const big = this.#u16(2);
    const af = big !== 0 ? big : this.#u8(0) | (this.#u8(1) << 8);
    if (af !== AF_INET && !AF_INET6.includes(af)) this.#count('other_family');
    else if (this.#need(LOOP_BYTES + 1)) this.#ip(LOOP_BYTES);
  }

  #ip(at: number): void {
    const version = this.#u8(at) >> 4;
    if (version === 4) this.#ipv4(at);
    else if (version === 6) this.#ipv6(at);
    else this.#count('ip_bad_version');
  }
  #ipv4(at: number): void {
    this.#count('ipv4');
    if (!this.#need(at + IP_BYTES)) return;
    const header = (this.#u8(at) & 15) * 4;
    if (header < IP_BYTES) return this.#count('ip_bad_header');
    if (!this.#need(at + header)) return;
    if (in_cksum_skip(this.#m, at, header) !== 0) this.#count('ip_bad_checksum');
    const offset = this.#u16(at + 6);
    const proto = this.#u8(at + 9);
    this.#hash(at + 12, 8, proto);
    if ((offset & IP_FRAGMENT) !== 0) this.#count('ip_fragment');
    if ((offset & IP_OFFMASK) === 0) this.#transport(at + header, proto);
  }
  #ipv6(at: number): void {
    this.#count('ipv6');
    if (!this.#need(at + IPV6_BYTES)) return;
    let next = this.#u8(at + 6);
    let from = at + IPV6_BYTES;
    this.#hash(at + 8, 32, 0);
    for (let i = 0; i < EXTENSIONS_MAX; i++) {
      const option = next === PROTO_HOPOPTS || next === PROTO_ROUTING || next === PROTO_DSTOPTS;
      if (!option && next !== PROTO_FRAGMENT && next !== PROTO_AH) break;
      if (!this.#need(from + 8)) return;
      if (next === PROTO_FRAGMENT) this.#count('ip_fragment');
      if (next === PROTO_FRAGMENT && this.#u16(from + 2) >> 3 !== 0) return;
      const units = this.#u8(from + 1);
      const length =
        next === PROTO_FRAGMENT ? 8 : next === PROTO_AH ? units * 4 + 8 : units * 8 + 8;
      next = this.#u8(from);
      from += length;
    }
    this.#transport(from, next);
  }
  #transport(at: number, proto: number): void {
    const known = TRANSPORT[proto];
    if (known === undefined) return this.#count('other_transport');
    this.#count(known.name);
    if (!this.#need(at + known.bytes)) return;
    if (proto === PROTO_TCP || proto === PROTO_UDP) this.#hash(at, 4, proto);
    if (proto !== PROTO_TCP) return;
    const header = (this.#u8(at + 12) >> 4) * 4;
    if (header > known.bytes) this.#need(at + header);
  }
  /** Mixes n bytes into the flow's number (FNV-1a). */
  #hash(at: number, n: number, more: number): void {
    const from = mtod(this.#m) + at;
    let h = this.flow ^ 0x811c9dc5 ^ more;
    for (let i = 0; i < n; i++) h = Math.imul(h ^ mem.U8[from + i], 0x01000193);
    this.flow = h | 0;
  }
}
