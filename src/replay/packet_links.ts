/*
 * packet_links: link types of captures, by their numbers.
 *
 * A capture says of each interface what its frames begin with.  The numbers are
 * those that tcpdump.org keeps; here stand the common ones.  Those with a constant
 * are taken apart by packet_link_header.ts; packets of others are counted by name.
 */
export const LINK_NULL = 0;
export const LINK_ETHERNET = 1;
export const LINK_PPP = 9;
export const LINK_RAW_BSD = 12;
export const LINK_RAW_OPENBSD = 14;
export const LINK_PPP_SERIAL = 50;
export const LINK_PPPOE = 51;
export const LINK_RAW = 101;
export const LINK_C_HDLC = 104;
export const LINK_WLAN = 105;
export const LINK_LOOP = 108;
export const LINK_SLL = 113;
export const LINK_RADIOTAP = 127;
export const LINK_PPP_PPPD = 166;
export const LINK_IPV4 = 228;
export const LINK_IPV6 = 229;
export const LINK_SLL2 = 276;

const NAMES: Record<number, string> = {
  [LINK_NULL]: 'loopback',
  [LINK_ETHERNET]: 'Ethernet',
  6: 'token ring',
  8: 'SLIP',
  [LINK_PPP]: 'PPP',
  10: 'FDDI',
  [LINK_RAW_BSD]: 'raw IP',
  [LINK_RAW_OPENBSD]: 'raw IP',
  [LINK_PPP_SERIAL]: 'PPP over serial lines',
  [LINK_PPPOE]: 'PPP over Ethernet',
  [LINK_RAW]: 'raw IP',
  [LINK_C_HDLC]: 'Cisco HDLC',
  [LINK_WLAN]: '802.11',
  107: 'frame relay',
  [LINK_LOOP]: 'loopback (network order)',
  [LINK_SLL]: 'Linux cooked',
  117: 'pf log',
  119: '802.11 (Prism header)',
  [LINK_RADIOTAP]: '802.11 (radiotap)',
  163: '802.11 (AVS header)',
  [LINK_PPP_PPPD]: 'PPP (pppd)',
  189: 'USB',
  192: 'per-packet information',
  195: '802.15.4',
  201: 'Bluetooth',
  220: 'USB',
  [LINK_IPV4]: 'raw IPv4',
  [LINK_IPV6]: 'raw IPv6',
  239: 'netfilter log',
  249: 'USB',
  251: 'Bluetooth low energy',
  [LINK_SLL2]: 'Linux cooked v2',
};

/** What a link type is called. */
export function link_name(link_type: number): string {
  return NAMES[link_type] ?? `link type ${link_type}`;
}
