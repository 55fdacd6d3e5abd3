/*
 * packet_sender: packets are sent by reference, kept a while, and let go.
 *
 *      packet ─┬─ m_copypacket ─► link header in front ─► bytes out ─► freed
 *              └─ waits, as on a retransmit queue ─► freed, in another order
 *
 * What a reliable protocol does: a copy goes out, and shares the clusters with
 * the packet that is kept until the other side has acknowledged it.  The copy
 * has headers of its own, so that the link header can be put in front of it
 * without touching the packet.
 *
 * At most HELD_MAX packets wait; then one of them, drawn by a seed, is let go for
 * each that comes.  A sender with nothing to do lets all of them go, and so does
 * one that finds no memory for a copy: whoever sleeps for memory gets it.
 *
 * With verification the sum of a packet's bytes is taken when it begins to wait,
 * and again when it is let go: a difference is somebody else's write.
 *
 * The bytes go through SHA-256, all of them in the order of the capture, and into
 * a file if one is wanted.
 */
import { M_NOWAIT } from '../../sys/h/malloc_flags.ts';
import { mbuf, type mbuf_t, mtod } from '../../sys/h/mbuf.ts';
import { bcopy, bytes_out } from '../../sys/machine/bytes.ts';
import { mem } from '../../sys/machine/memory.ts';
import { opt } from '../../sys/machine/opt.ts';
import { panic } from '../../sys/machine/panic.ts';
import { NULL } from '../../sys/machine/struct.ts';
import { in_cksum_bytes } from '../../sys/client/in_cksum.ts';
import { m_copydata, m_copypacket, m_freem, m_sanity } from '../../sys/client/uipc_mbuf.ts';
import { M_PREPEND } from '../../sys/client/uipc_mbuf_shape.ts';
import { m_tag_data, m_tag_locate } from '../../sys/client/uipc_mbuf_tag.ts';
import {
  CAPTURE_COOKIE,
  CAPTURE_ID,
  CAPTURE_WORDS,
  NO_PACKETS,
  type PacketTotals,
  TAG_HEADER,
} from './packet_task.ts';
import type { PacketWriter } from './packet_writer.ts';
import { Digest } from '../read/pcap_stats.ts';

/** Packets that wait at most: a retransmit queue's worth of a few connections. */
export const HELD_MAX = 256;
const COMPLAINTS_KEPT = 5;

export class PacketSender {
  readonly totals: PacketTotals = { ...NO_PACKETS, protocols: {}, digests: [], complaints: [] };
  readonly #verify: boolean;
  readonly #writer: PacketWriter | null;
  /** Hears of each packet that is freed. */
  readonly #freed: () => void;
  readonly #digest = new Digest();
  readonly #held: mbuf_t[] = [];
  readonly #sums: number[] = [];
  #random: number;

  constructor(verify: boolean, seed: number, writer: PacketWriter | null, freed: () => void) {
    this.#verify = verify;
    this.#random = seed | 1;
    this.#writer = writer;
    this.#freed = freed;
  }

  /** Sends a packet, and keeps it. It belongs to the sender from now on. */
  send(m: mbuf_t): void {
    const { totals } = this;
    this.#out(m);
    totals.sent++;
    if (this.#held.length === HELD_MAX) this.#let_one_go();
    this.#held.push(m);
    if (this.#verify) this.#sums.push(sum_of(m));
    if (this.#held.length > totals.most_held) totals.most_held = this.#held.length;
  }
  /** Whether packets wait here. */
  holds(): boolean {
    return this.#held.length > 0;
  }
  /** Frees all packets that wait. */
  let_go(): void {
    while (this.#held.length > 0) this.#let_one_go();
  }
  /** The capture was sent once. */
  pass(): void {
    this.totals.passes++;
    this.totals.digests.push(this.#digest.take());
  }
  end(): PacketTotals {
    this.let_go();
    this.#writer?.end();
    return this.totals;
  }

  // --- out ------------------------------------------------------------------------------------

  #out(m: mbuf_t): void {
    const copy = this.#copy(m);
    const header = note_of(m);
    const n = mem.I32[(header >> 2) + TAG_HEADER];
    const whole = copy !== NULL ? with_link_header(copy, header, n) : copy;
    const bytes = mbuf.plen[m] + n;
    const { bytes: to, at } = this.#digest.place(bytes);
    if (whole !== NULL) {
      if (opt.INVARIANTS) sane(whole);
      m_copydata(whole, 0, bytes, to, at);
      m_freem(whole);
    } else {
      this.totals.uncopied++;
      bytes_out(to, at, header + CAPTURE_WORDS * 4, n);
      m_copydata(m, 0, mbuf.plen[m], to, at + n);
    }
    this.totals.sent_bytes += bytes;
    this.#writer?.packet(header >> 2, to, at, bytes);
  }
  /** A copy that shares the clusters. NULL: even letting everything go gave no memory for one. */
  #copy(m: mbuf_t): mbuf_t {
    let copy = m_copypacket(m, M_NOWAIT);
    if (copy !== NULL || !this.holds()) return copy;
    this.let_go();
    copy = m_copypacket(m, M_NOWAIT);
    return copy;
  }

  // --- kept -----------------------------------------------------------------------------------

  #let_one_go(): void {
    const held = this.#held;
    const i = this.#draw(held.length);
    const m = held[i];
    const last = held.pop() as mbuf_t;
    if (i < held.length) held[i] = last;
    if (this.#verify) this.#check(i, m);
    m_freem(m);
    this.#freed();
  }
  /** xorshift: the same seed lets go in the same order. */
  #draw(n: number): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x;
    return (x >>> 1) % n;
  }
  #check(i: number, m: mbuf_t): void {
    const sums = this.#sums;
    const sum = sums[i];
    const last = sums.pop() as number;
    if (i < sums.length) sums[i] = last;
    if (opt.INVARIANTS) sane(m);
    if (sum_of(m) === sum) return;
    const { totals } = this;
    totals.verify_errors++;
    if (totals.complaints.length < COMPLAINTS_KEPT) {
      const what = `packet of ${mbuf.plen[m]} bytes at 0x${(m * 4).toString(16)}`;
      totals.complaints.push(`${what}: its bytes changed while it waited`);
    }
  }
}

/** Byte address of what the receiver noted of a packet. */
function note_of(m: mbuf_t): number {
  const t = m_tag_locate(m, CAPTURE_COOKIE, CAPTURE_ID);
  if (t === NULL) panic('packet_sender: a packet came without its note', m * 4);
  return m_tag_data(t);
}
/** Puts n bytes of link header, kept in a note, in front. NULL: no memory, the copy is freed. */
function with_link_header(copy: mbuf_t, note: number, n: number): mbuf_t {
  if (n === 0) return copy;
  const m = M_PREPEND(copy, n, M_NOWAIT);
  if (m === NULL) return m;
  bcopy(note + CAPTURE_WORDS * 4, mtod(m), n);
  return m;
}
function sane(m: mbuf_t): void {
  const wrong = m_sanity(m);
  if (wrong !== '') panic(`packet_sender: ${wrong}`);
}
/** A sum over all bytes of a chain. */
function sum_of(m: mbuf_t): number {
  let sum = 0;
  for (let at = m; at !== NULL; at = mbuf.next[at]) {
    sum = Math.imul(sum, 31) + in_cksum_bytes(mtod(at), mbuf.len[at]);
  }
  return sum | 0;
}
