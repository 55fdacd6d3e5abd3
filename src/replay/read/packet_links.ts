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
const LINK_USB_LINUX = 189;
const LINK_USB_LINUX_MMAPPED = 220;
const LINK_DBUS = 231;
const LINK_USBPCAP = 249;
const LINK_USB_DARWIN = 266;
const LINK_EBHSCR = 279;

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
  [LINK_USB_LINUX]: 'USB',
  192: 'per-packet information',
  195: '802.15.4',
  201: 'Bluetooth',
  [LINK_USB_LINUX_MMAPPED]: 'USB',
  [LINK_IPV4]: 'raw IPv4',
  [LINK_IPV6]: 'raw IPv6',
  [LINK_DBUS]: 'D-Bus',
  239: 'netfilter log',
  [LINK_USBPCAP]: 'USB',
  251: 'Bluetooth low energy',
  [LINK_USB_DARWIN]: 'USB',
  [LINK_SLL2]: 'Linux cooked v2',
};

/** Captured bytes that a packet may have: what tools take as the largest snaplen. */
export const PACKET_MAX_BYTES = 262144;
/** The same for links whose packets are requests of programs, not frames on a wire. */
export const LARGE_PACKET_MAX_BYTES = 2 ** 27;
const LARGE = new Set([
  LINK_USB_LINUX,
  LINK_USB_LINUX_MMAPPED,
  LINK_DBUS,
  LINK_USBPCAP,
  LINK_USB_DARWIN,
  LINK_EBHSCR,
]);

/** Captured bytes that a packet of this link type may have. */
export function packet_max_bytes(link_type: number): number {
  return LARGE.has(link_type) ? LARGE_PACKET_MAX_BYTES : PACKET_MAX_BYTES;
}
/** What a link type is called. */
export function link_name(link_type: number): string {
  return NAMES[link_type] ?? `link type ${link_type}`;
}
