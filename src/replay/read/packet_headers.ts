/*
 * packet_headers: what a packet is, from the headers in front of it.
 *
 *      link header      Ethernet, PPP, 802.11 … none       (packet_link_header.ts)
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
import { mem } from '../../sys/machine/memory.ts';
import { M_EXT, mbuf, type mbuf_t, MHLEN, mtod } from '../../sys/h/mbuf.ts';
import { in_cksum_skip } from '../../sys/client/in_cksum.ts';
import { m_pullup } from '../../sys/client/uipc_mbuf_shape.ts';
import { type HeaderBytes, link_header, NET_ARP, NET_IP } from './packet_link_header.ts';

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
export class HeaderParser implements HeaderBytes {
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
    const { net, at } = link_header(this, link);
    this.link_bytes = Math.min(at, this.all_bytes);
    if (net === NET_ARP) this.#arp(at);
    else if (net === NET_IP && this.need(at + 1)) this.#ip(at);
    if (this.#m !== 0 && this.all_bytes > 0 && (mbuf.flags[this.#m] & M_EXT) !== 0) {
      this.#m = m_pullup(this.#m, this.all_bytes);
    }
    if (this.#m !== 0) for (const n of this.#found) this.counts[n] = (this.counts[n] ?? 0) + 1;
    return this.#m;
  }

  /** The packet is one of these, if it survives. */
  count(name: string): void {
    this.#found.push(name);
  }
  /** Brings the first n bytes into one piece. False: there are fewer, or no memory. */
  need(n: number): boolean {
    if (this.#m === 0) return false;
    if (n > MHLEN || n > mbuf.plen[this.#m]) {
      this.count(n > MHLEN ? 'headers_too_deep' : 'headers_cut');
      return false;
    }
    if (mbuf.len[this.#m] < n) this.#m = m_pullup(this.#m, n);
    if (this.#m === 0) return false;
    this.all_bytes = Math.max(this.all_bytes, n);
    return true;
  }
  /** Bytes at a place that was needed before. */
  u8(at: number): number {
    return mem.U8[mtod(this.#m) + at];
  }
  u16(at: number): number {
    return (this.u8(at) << 8) | this.u8(at + 1);
  }

  #arp(at: number): void {
    this.count('arp');
    if (!this.need(at + ARP_BYTES)) return;
    this.need(at + ARP_BYTES + 2 * (this.u8(at + 4) + this.u8(at + 5)));
  }
  #ip(at: number): void {
    const version = this.u8(at) >> 4;
    if (version === 4) this.#ipv4(at);
    else if (version === 6) this.#ipv6(at);
    else this.count('ip_bad_version');
  }
  #ipv4(at: number): void {
    this.count('ipv4');
    if (!this.need(at + IP_BYTES)) return;
    const header = (this.u8(at) & 15) * 4;
    if (header < IP_BYTES) return this.count('ip_bad_header');
    if (!this.need(at + header)) return;
    if (in_cksum_skip(this.#m, at, header) !== 0) this.count('ip_bad_checksum');
    const offset = this.u16(at + 6);
    const proto = this.u8(at + 9);
    this.#hash(at + 12, 8, proto);
    if ((offset & IP_FRAGMENT) !== 0) this.count('ip_fragment');
    if ((offset & IP_OFFMASK) === 0) this.#transport(at + header, proto);
  }
  #ipv6(at: number): void {
    this.count('ipv6');
    if (!this.need(at + IPV6_BYTES)) return;
    let next = this.u8(at + 6);
    let from = at + IPV6_BYTES;
    this.#hash(at + 8, 32, 0);
    for (let i = 0; i < EXTENSIONS_MAX; i++) {
      const option = next === PROTO_HOPOPTS || next === PROTO_ROUTING || next === PROTO_DSTOPTS;
      if (!option && next !== PROTO_FRAGMENT && next !== PROTO_AH) break;
      if (!this.need(from + 8)) return;
      if (next === PROTO_FRAGMENT) this.count('ip_fragment');
      if (next === PROTO_FRAGMENT && this.u16(from + 2) >> 3 !== 0) return;
      const units = this.u8(from + 1);
      const length =
        next === PROTO_FRAGMENT ? 8 : next === PROTO_AH ? units * 4 + 8 : units * 8 + 8;
      next = this.u8(from);
      from += length;
    }
    this.#transport(from, next);
  }
  #transport(at: number, proto: number): void {
    const known = TRANSPORT[proto];
    if (known === undefined) return this.count('other_transport');
    this.count(known.name);
    if (!this.need(at + known.bytes)) return;
    if (proto === PROTO_TCP || proto === PROTO_UDP) this.#hash(at, 4, proto);
    if (proto !== PROTO_TCP) return;
    const header = (this.u8(at + 12) >> 4) * 4;
    if (header < known.bytes) this.count('tcp_bad_header');
    else this.need(at + header);
  }
  /** Mixes n bytes into the flow's number (FNV-1a). */
  #hash(at: number, n: number, more: number): void {
    const from = mtod(this.#m) + at;
    let h = this.flow ^ 0x811c9dc5 ^ more;
    for (let i = 0; i < n; i++) h = Math.imul(h ^ mem.U8[from + i], 0x01000193);
    this.flow = h | 0;
  }
}
