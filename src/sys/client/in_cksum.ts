/*
 * in_cksum: the Internet checksum (RFC 1071), over memory and over chains.
 *
 * The sum of all 16-bit words in one's complement.  It does not care in which
 * order bytes stand in a word as long as it is one order: the words here are the
 * machine's, read 32 bits at a time, and the sum is turned round at the end.  What
 * begins at an odd place of the packet counts turned round the other way.
 */
import { mem as mem_ } from '../machine/memory.ts';
import { NULL } from '../machine/struct.ts';
import { panic } from '../machine/panic.ts';
import { mbuf as mbuf_, type mbuf_t, mtod } from '../h/mbuf.ts';

// tidy: hot. Local names: V8 takes them for constants, imported ones it does not.
const mem = mem_;
const mbuf = mbuf_;
/** So many words at most are added before the sum is folded: it stays below 2^31. */
const WORDS = 8192;

function fold(sum: number): number {
  let s = sum;
  while (s > 0xffff) s = (s & 0xffff) + (s >>> 16);
  return s;
}
function turned(sum: number): number {
  return ((sum & 0xff) << 8) | (sum >>> 8);
}
/** The folded sum, not complemented, of n bytes from a byte address on. */
export function in_addbytes(from: number, n: number): number {
  const { U8, U32 } = mem;
  let sum = 0;
  let i = 0;
  for (; i < n && ((from + i) & 3) !== 0; i++) sum += i & 1 ? U8[from + i] : U8[from + i] << 8;
  const odd = i & 1;
  let w = (from + i) / 4;
  for (let left = (n - i) >> 2; left > 0; ) {
    const end = w + Math.min(left, WORDS);
    left -= end - w;
    let words = 0;
    for (; w < end; w++) {
      const word = U32[w];
      words += (word & 0xffff) + (word >>> 16);
    }
    sum = fold(sum + (odd ? fold(words) : turned(fold(words))));
  }
  for (i += (n - i) & ~3; i < n; i++) sum += i & 1 ? U8[from + i] : U8[from + i] << 8;
  return fold(sum);
}
/** The checksum of n bytes from a byte address on; 0 over a header that is good. */
export function in_cksum_bytes(from: number, n: number): number {
  return ~in_addbytes(from, n) & 0xffff;
}
/** The checksum of `len` bytes of a chain behind the first `skip`. Panics when it is shorter. */
export function in_cksum_skip(m: mbuf_t, skip: number, len: number): number {
  let at = m;
  let off = skip;
  while (at !== NULL && off >= mbuf.len[at]) {
    off -= mbuf.len[at];
    at = mbuf.next[at];
  }
  let sum = 0;
  for (let done = 0; done < len; at = mbuf.next[at]) {
    if (at === NULL) panic('in_cksum: the chain ends before', skip + len);
    const n = Math.min(mbuf.len[at] - off, len - done);
    const part = in_addbytes(mtod(at) + off, n);
    sum += done & 1 ? turned(part) : part;
    done += n;
    off = 0;
  }
  return ~fold(sum) & 0xffff;
}
/** The checksum of the first `len` bytes of a chain. */
export function in_cksum(m: mbuf_t, len: number): number {
  return in_cksum_skip(m, 0, len);
}
